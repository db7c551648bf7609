//! Actions that copy bits: between fields, and to and from the stack.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::table::Form;
use super::text::{Parser, Text};
use crate::{OfError, Version};
use flow::{Subfield, ofp};

/// `move`: copy bits from one field to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    pub src: Subfield,
    /// As wide as `src`.
    pub dst: Subfield,
    /// Came as ONF's or OpenFlow 1.5's copy-field.
    pub copy_field: bool,
}

impl Move {
    pub(super) fn decode_nx(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode(b, 10, 16, false)
    }

    pub(super) fn decode_onf(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode(b, 12, 20, true)
    }

    pub(super) fn decode15(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode(b, 4, 12, true)
    }

    /// The number of bits and both offsets begin at `at`, the fields' headers at `headers`.
    fn decode(b: &mut Body<'_, '_>, at: usize, headers: usize, copy_field: bool) -> Result<Action, OfError> {
        let (n_bits, src_ofs, dst_ofs) = (b.u16(at), b.u16(at + 2), b.u16(at + 4));
        let mut rest = b.from(headers);
        let src = b.cx.pull_field(&mut rest)?;
        let dst = b.cx.pull_field(&mut rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(OfError::NxbrcMustBeZero);
        }
        let src = b.cx.check_src(Subfield { field: src, ofs: src_ofs, n_bits })?;
        let dst = b.cx.check_dst(Subfield { field: dst, ofs: dst_ofs, n_bits })?;
        Ok(Action::Move(Box::new(Move { src, dst, copy_field })))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let (src, dst) = Self::parse_fields(s)?;
        Ok(Action::Move(Box::new(Move { src, dst, copy_field: false })))
    }

    /// `SRC->DST`
    pub(super) fn parse_fields(s: &str) -> Result<(Subfield, Subfield), String> {
        let (src, rest) = Subfield::parse_prefix(s)?;
        let dst = rest.strip_prefix("->").ok_or_else(|| format!("{s}: missing `->' following source"))?;
        let dst = Subfield::parse(dst)?;
        if src.n_bits != dst.n_bits {
            return Err(format!(
                "{s}: source field is {} bits wide but destination is {} bits wide",
                src.n_bits, dst.n_bits
            ));
        }
        Ok((src, dst))
    }
}

impl ActionCode for Move {
    fn encode(&self, out: &mut Encoder<'_>) {
        let form = match out.version {
            Version::Of15 => Form::CopyField15,
            Version::Of13 if self.copy_field => Form::CopyFieldOnf,
            _ => Form::Move,
        };
        let open = out.begin(form);
        if form == Form::CopyFieldOnf {
            out.zeros(2);
        }
        out.u16(self.dst.n_bits);
        out.u16(self.src.ofs);
        out.u16(self.dst.ofs);
        if form != Form::Move {
            out.zeros(2);
        }
        let version = if form == Form::Move { ofp::NXM } else { out.version.wire() };
        out.field(self.src.field, version);
        out.field(self.dst.field, version);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("move:");
        out.subfield(&self.src);
        out.put_str("->");
        out.subfield(&self.dst);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.src(&self.src)?;
        cx.dst(&self.dst)
    }
}

/// `push`: put bits of a field on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackPush {
    pub src: Subfield,
}

/// `pop`: take bits off the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackPop {
    pub dst: Subfield,
}

fn decode_stack(b: &mut Body<'_, '_>) -> Result<Subfield, OfError> {
    let ofs = b.u16(10);
    let mut rest = b.from(12);
    let field = b.cx.pull_field(&mut rest)?;
    let n_bits = super::form::be16(rest, 0);
    if rest.iter().skip(2).any(|b| *b != 0) {
        return Err(OfError::NxbrcMustBeZero);
    }
    Ok(Subfield { field, ofs, n_bits })
}

fn encode_stack(out: &mut Encoder<'_>, form: Form, sf: &Subfield) {
    let open = out.begin(form);
    out.u16(sf.ofs);
    out.field(sf.field, ofp::NXM);
    out.u16(sf.n_bits);
    out.end(open);
}

fn parse_stack(s: &str) -> Result<Subfield, String> {
    match Subfield::parse_prefix(s)? {
        (sf, "") => Ok(sf),
        (_, rest) => Err(format!("{rest}: trailing garbage following push or pop")),
    }
}

impl StackPush {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let src = decode_stack(b)?;
        Ok(Action::StackPush(StackPush { src: b.cx.check_src(src)? }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::StackPush(StackPush { src: parse_stack(s)? }))
    }
}

impl StackPop {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let dst = decode_stack(b)?;
        Ok(Action::StackPop(StackPop { dst: b.cx.check_dst(dst)? }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::StackPop(StackPop { dst: parse_stack(s)? }))
    }
}

impl ActionCode for StackPush {
    fn encode(&self, out: &mut Encoder<'_>) {
        encode_stack(out, Form::StackPush, &self.src);
    }
    fn format(&self, out: &mut Text<'_>) {
        out.put_str("push:");
        out.subfield(&self.src);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.src(&self.src)
    }
}

impl ActionCode for StackPop {
    fn encode(&self, out: &mut Encoder<'_>) {
        encode_stack(out, Form::StackPop, &self.dst);
    }
    fn format(&self, out: &mut Text<'_>) {
        out.put_str("pop:");
        out.subfield(&self.dst);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.dst(&self.dst)
    }
}
