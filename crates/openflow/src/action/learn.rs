//! `learn`: add a flow made from the packet.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::field::HexOrZero;
use super::form::{Body, Encoder, be16, be32, subfield_error};
use super::oxm::{field_bits, field_bytes};
use super::table::Form;
use super::text::{Text, put};
use crate::OfError;
use flow::{Match, Subfield, TlvTable, Value, ofp};
use smallvec::SmallVec;

bitflags::bitflags! {
    /// `NX_LEARN_F_*`
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LearnFlags: u16 {
        /// Tell the controller when a learned flow is removed.
        const SEND_FLOW_REM = 1 << 0;
        /// When this action goes, flows of its table and cookie go with it.
        const DELETE_LEARNED = 1 << 1;
        /// Write to [`Learn::result_dst`] whether the flow was learned.
        const WRITE_RESULT = 1 << 2;
    }
}

/// Bits in the header of a flow_mod_spec.
mod spec_header {
    pub const IMMEDIATE: u16 = 1 << 13;
    pub const DST: u16 = 3 << 11;
    pub const DST_MATCH: u16 = 0;
    pub const DST_LOAD: u16 = 1 << 11;
    pub const DST_OUTPUT: u16 = 2 << 11;
    pub const N_BITS: u16 = 0x3ff;
}

/// The immediate value in a [`LearnSpec`], big-endian, in just enough bytes.
pub type Immediate = SmallVec<[u8; 16]>;

/// Where bits of a learned flow come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnSrc {
    /// Of the packet.
    Field(Subfield),
    Immediate(Immediate),
}

/// Where they go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LearnDst {
    /// The learned flow matches them.
    Match(Subfield),
    /// The learned flow loads them.
    Load(Subfield),
    /// The learned flow outputs to the port with this number.
    Output,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnSpec {
    pub src: LearnSrc,
    pub dst: LearnDst,
}

impl LearnSpec {
    /// Width of source and destination.
    #[must_use]
    pub fn n_bits(&self) -> u16 {
        match (&self.src, &self.dst) {
            (_, LearnDst::Match(sf) | LearnDst::Load(sf)) | (LearnSrc::Field(sf), _) => sf.n_bits,
            (LearnSrc::Immediate(imm), LearnDst::Output) => 8 * imm.len() as u16,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Learn {
    /// Seconds, 0 for none.
    pub idle_timeout: u16,
    /// Seconds, 0 for none.
    pub hard_timeout: u16,
    pub priority: u16,
    pub table_id: u8,
    pub flags: LearnFlags,
    pub cookie: u64,
    /// [`super::FinTimeout`] of the learned flow, if not 0.
    pub fin_idle_timeout: u16,
    pub fin_hard_timeout: u16,
    /// No more flows than this with the cookie in the table; 0 for no limit.
    pub limit: u32,
    pub result_dst: Option<Subfield>,
    pub specs: Box<[LearnSpec]>,
    /// Came as `NXAST_LEARN2`.
    pub second_form: bool,
}

/// Where [`Learn::specs`] begin.
const SPECS_AT: usize = 32;
const SPECS2_AT: usize = 40;
/// `OFP_DEFAULT_PRIORITY`
pub(super) const PRIORITY_DEFAULT: u16 = 0x8000;

impl Learn {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let mut a = Self::decode_common(b)?;
        if a.flags.contains(LearnFlags::WRITE_RESULT) {
            return Err(OfError::OfpbacBadArgument);
        }
        let rest = b.from(SPECS_AT);
        a.specs = decode_specs(b, rest)?;
        Ok(Action::Learn(Box::new(a)))
    }

    pub(super) fn decode2(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        if !b.is_zero(38..40) {
            return Err(OfError::NxbacMustBeZero);
        }
        let mut a = Self::decode_common(b)?;
        a.second_form = true;
        a.limit = b.u32(32);
        let result_ofs = b.u16(36);
        let mut rest = b.from(SPECS2_AT);
        if a.flags.contains(LearnFlags::WRITE_RESULT) {
            let field = b.cx.pull_field(&mut rest)?;
            if !field.info().writable {
                return Err(OfError::OfpbacBadSetArgument);
            }
            a.result_dst = Some(Subfield { field, ofs: result_ofs, n_bits: 1 });
        } else if result_ofs != 0 {
            return Err(OfError::OfpbacBadArgument);
        }
        a.specs = decode_specs(b, rest)?;
        Ok(Action::Learn(Box::new(a)))
    }

    fn decode_common(b: &Body<'_, '_>) -> Result<Learn, OfError> {
        let flags = LearnFlags::from_bits(b.u16(24));
        let (Some(flags), table_id @ 0..=254, 0) = (flags, b.u8(26), b.u8(27)) else {
            return Err(OfError::OfpbacBadArgument);
        };
        Ok(Learn {
            idle_timeout: b.u16(10),
            hard_timeout: b.u16(12),
            priority: b.u16(14),
            table_id,
            flags,
            cookie: b.u64(16),
            fin_idle_timeout: b.u16(28),
            fin_hard_timeout: b.u16(30),
            limit: 0,
            result_dst: None,
            specs: Box::default(),
            second_form: false,
        })
    }
}

fn decode_specs(b: &mut Body<'_, '_>, mut rest: &[u8]) -> Result<Box<[LearnSpec]>, OfError> {
    let mut specs = Vec::new();
    while !rest.is_empty() {
        let header = be16(rest, 0);
        if header == 0 {
            break;
        }
        rest = rest.get(2..).unwrap_or_default();
        specs.push(decode_spec(b, header, &mut rest)?);
    }
    let padded = rest.iter().all(|x| *x == 0);
    if padded { Ok(specs.into()) } else { Err(OfError::OfpbacBadArgument) }
}

fn decode_spec(b: &mut Body<'_, '_>, header: u16, rest: &mut &[u8]) -> Result<LearnSpec, OfError> {
    let n_bits = header & spec_header::N_BITS;
    let is_immediate = header & spec_header::IMMEDIATE != 0;
    let dst_kind = header & spec_header::DST;
    let has_dst = dst_kind == spec_header::DST_MATCH || dst_kind == spec_header::DST_LOAD;
    if !has_dst && (dst_kind != spec_header::DST_OUTPUT || is_immediate) {
        return Err(OfError::OfpbacBadArgument);
    }
    let src_len = if is_immediate { 2 * usize::from(n_bits.div_ceil(16)) } else { 6 };
    let dst_len = if has_dst { 6 } else { 0 };
    let (src, tail) = rest.split_at_checked(src_len).ok_or(OfError::OfpbacBadLen)?;
    let (dst, tail) = tail.split_at_checked(dst_len).ok_or(OfError::OfpbacBadLen)?;
    *rest = tail;
    let mut subfield = |at: &[u8]| -> Result<Subfield, OfError> {
        let field = b.cx.field32(be32(at, 0))?;
        Ok(Subfield { field, ofs: be16(at, 4), n_bits })
    };
    let src = if is_immediate {
        LearnSrc::Immediate(src[src_len - usize::from(n_bits.div_ceil(8))..].into())
    } else {
        LearnSrc::Field(subfield(src)?)
    };
    let dst = match dst_kind {
        spec_header::DST_MATCH => LearnDst::Match(subfield(dst)?),
        spec_header::DST_LOAD => LearnDst::Load(subfield(dst)?),
        _ => LearnDst::Output,
    };
    Ok(LearnSpec { src, dst })
}

impl ActionCode for Learn {
    fn encode(&self, out: &mut Encoder<'_>) {
        let second = self.second_form || self.limit != 0 || self.flags.contains(LearnFlags::WRITE_RESULT);
        let open = out.begin(if second { Form::Learn2 } else { Form::Learn });
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
        out.u16(self.priority);
        out.u64(self.cookie);
        out.u16(self.flags.bits());
        out.u8(self.table_id);
        out.u8(0);
        out.u16(self.fin_idle_timeout);
        out.u16(self.fin_hard_timeout);
        if second {
            out.u32(self.limit);
            out.u16(self.result_dst.map_or(0, |dst| dst.ofs));
            out.u16(0);
        }
        if let Some(dst) = self.result_dst {
            out.field(dst.field, ofp::NXM);
        }
        for spec in &self.specs {
            encode_spec(out, spec);
        }
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("learn(table=");
        out.table(self.table_id);
        let numbers = [
            (",idle_timeout=", self.idle_timeout, 0),
            (",hard_timeout=", self.hard_timeout, 0),
            (",fin_idle_timeout=", self.fin_idle_timeout, 0),
            (",fin_hard_timeout=", self.fin_hard_timeout, 0),
            (",priority=", self.priority, PRIORITY_DEFAULT),
        ];
        for (key, value, _) in numbers.iter().filter(|(_, value, default)| value != default) {
            put!(out, "{key}{value}");
        }
        if self.flags.contains(LearnFlags::SEND_FLOW_REM) {
            out.put_str(",send_flow_rem");
        }
        if self.flags.contains(LearnFlags::DELETE_LEARNED) {
            out.put_str(",delete_learned");
        }
        if self.cookie != 0 {
            put!(out, ",cookie={}", HexOrZero(self.cookie));
        }
        if self.limit != 0 {
            put!(out, ",limit={}", self.limit);
        }
        if let Some(dst) = &self.result_dst {
            out.put_str(",result_dst=");
            out.subfield(dst);
        }
        for spec in &self.specs {
            out.put_str(",");
            format_spec(out, spec);
        }
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        // What is known of packets that will match the learned flow.
        let mut learned = Match::catchall();
        for spec in &self.specs {
            if let LearnSrc::Field(src) = &spec.src {
                cx.src(src)?;
            }
            let known = Some((&learned.flow, &learned.mask));
            match (&spec.dst, &spec.src) {
                (LearnDst::Load(dst), _) => dst.check_dst(known).map_err(subfield_error)?,
                (LearnDst::Match(dst), src) => {
                    dst.check_src(known).map_err(subfield_error)?;
                    if let LearnSrc::Immediate(imm) = src {
                        let tlv = &TlvTable::EMPTY;
                        dst.write(&mut learned.flow, &Value::from_bytes(imm), tlv);
                        dst.unwildcard(&mut learned.mask, tlv);
                    }
                }
                (LearnDst::Output, _) => {}
            }
        }
        Ok(())
    }
}

fn encode_spec(out: &mut Encoder<'_>, spec: &LearnSpec) {
    let n_bits = spec.n_bits();
    let dst_kind = match spec.dst {
        LearnDst::Match(_) => spec_header::DST_MATCH,
        LearnDst::Load(_) => spec_header::DST_LOAD,
        LearnDst::Output => spec_header::DST_OUTPUT,
    };
    match &spec.src {
        LearnSrc::Field(src) => {
            out.u16(n_bits | dst_kind);
            out.field32(src.field);
            out.u16(src.ofs);
        }
        LearnSrc::Immediate(imm) => {
            out.u16(n_bits | dst_kind | spec_header::IMMEDIATE);
            out.zeros(imm.len() % 2);
            out.bytes(imm);
        }
    }
    if let LearnDst::Match(dst) | LearnDst::Load(dst) = &spec.dst {
        out.field32(dst.field);
        out.u16(dst.ofs);
    }
}

fn format_spec(out: &mut Text<'_>, spec: &LearnSpec) {
    match (&spec.dst, &spec.src) {
        (LearnDst::Match(dst), LearnSrc::Immediate(imm)) => {
            if dst.ofs == 0 && usize::from(dst.n_bits) == field_bits(dst.field, out.tlv) {
                let value = Value::from_bytes(imm).resized(field_bytes(dst.field, out.tlv));
                put!(out, "{}=", dst.field.name());
                out.field_value(dst.field, &value, None);
            } else {
                out.subfield(dst);
                put!(out, "={}", Value::from_bytes(imm));
            }
        }
        (LearnDst::Match(dst), LearnSrc::Field(src)) => {
            out.subfield(dst);
            if (src.field, src.ofs) != (dst.field, dst.ofs) {
                out.put_str("=");
                out.subfield(src);
            }
        }
        (LearnDst::Load(dst), src) => {
            out.put_str("load:");
            format_src(out, src);
            out.put_str("->");
            out.subfield(dst);
        }
        (LearnDst::Output, src) => {
            out.put_str("output:");
            format_src(out, src);
        }
    }
}

fn format_src(out: &mut Text<'_>, src: &LearnSrc) {
    match src {
        LearnSrc::Field(sf) => out.subfield(sf),
        LearnSrc::Immediate(imm) => put!(out, "{}", Value::from_bytes(imm)),
    }
}
