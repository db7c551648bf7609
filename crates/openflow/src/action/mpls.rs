//! Actions on MPLS labels.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{parse_u8, parse_u16, parse_u32};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, Version};
use flow::{Field, PT_ETH, eth_type};

fn is_mpls(ethertype: u16) -> bool {
    matches!(ethertype, eth_type::MPLS | eth_type::MPLS_MCAST)
}

fn check_mpls(cx: &mut Check<'_>) -> Result<(), OfError> {
    cx.require(cx.flow.is_mpls());
    Ok(())
}

/// `set_mpls_label`: set the outermost label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetMplsLabel {
    /// 20 bits. The wire may have brought more, which do not matter.
    pub label: u32,
}

impl SetMplsLabel {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetMplsLabel(SetMplsLabel { label: b.arg as u32 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        if s.is_empty() {
            return Err("set_mpls_label: expected label.".into());
        }
        match parse_u32(s)? {
            label @ 0..=0xfffff => Ok(Action::SetMplsLabel(SetMplsLabel { label })),
            _ => Err(format!("{s}: not a valid MPLS label")),
        }
    }
}

impl ActionCode for SetMplsLabel {
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version < Version::Of12 {
            out.arg(Form::SetMplsLabel, self.label.into());
        } else {
            out.set_field_int(Field::MplsLabel, self.label.into());
        }
    }
    fn format(&self, out: &mut Text<'_>) {
        put!(out, "set_mpls_label({})", self.label);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_mpls(cx)
    }
}

/// `set_mpls_tc`: set the outermost label's traffic class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetMplsTc {
    pub tc: u8,
}

impl SetMplsTc {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetMplsTc(SetMplsTc { tc: b.arg as u8 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        if s.is_empty() {
            return Err("set_mpls_tc: expected tc.".into());
        }
        match parse_u8(s, "MPLS TC")? {
            tc @ 0..=7 => Ok(Action::SetMplsTc(SetMplsTc { tc })),
            _ => Err(format!("{s}: not a valid MPLS TC")),
        }
    }
}

impl ActionCode for SetMplsTc {
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version < Version::Of12 {
            out.arg(Form::SetMplsTc, self.tc.into());
        } else {
            out.set_field_int(Field::MplsTc, self.tc.into());
        }
    }
    fn format(&self, out: &mut Text<'_>) {
        put!(out, "set_mpls_tc({})", self.tc);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_mpls(cx)
    }
}

/// `set_mpls_ttl`: set the outermost label's TTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetMplsTtl {
    pub ttl: u8,
}

impl SetMplsTtl {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetMplsTtl(SetMplsTtl { ttl: b.arg as u8 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        if s.is_empty() {
            return Err("set_mpls_ttl: expected ttl.".into());
        }
        Ok(Action::SetMplsTtl(SetMplsTtl { ttl: parse_u8(s, "MPLS TTL")? }))
    }
}

impl ActionCode for SetMplsTtl {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.arg(Form::SetMplsTtl, self.ttl.into());
    }
    fn format(&self, out: &mut Text<'_>) {
        put!(out, "set_mpls_ttl({})", self.ttl);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_mpls(cx)
    }
}

/// `push_mpls`: put a new outermost label on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushMpls {
    pub ethertype: u16,
}

impl PushMpls {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let ethertype = b.arg as u16;
        if is_mpls(ethertype) {
            Ok(Action::PushMpls(PushMpls { ethertype }))
        } else {
            Err(OfError::OfpbacBadArgument)
        }
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::PushMpls(PushMpls { ethertype: parse_u16(s, "push_mpls")? }))
    }
}

impl ActionCode for PushMpls {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.arg(Form::PushMpls, self.ethertype.into());
    }
    fn format(&self, out: &mut Text<'_>) {
        put!(out, "push_mpls:{:#06x}", self.ethertype);
    }
    /// What is behind the label is not known any more.
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.require(cx.flow.packet_type == PT_ETH);
        cx.flow.dl_type = self.ethertype;
        cx.flow.nw_proto = 0;
        Ok(())
    }
}

/// `pop_mpls`: take the outermost label off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PopMpls {
    /// Of what is behind the label.
    pub ethertype: u16,
}

impl PopMpls {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::PopMpls(PopMpls { ethertype: b.arg as u16 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::PopMpls(PopMpls { ethertype: parse_u16(s, "pop_mpls")? }))
    }
}

impl ActionCode for PopMpls {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.arg(Form::PopMpls, self.ethertype.into());
    }
    fn format(&self, out: &mut Text<'_>) {
        put!(out, "pop_mpls:{:#06x}", self.ethertype);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.require(cx.flow.packet_type == PT_ETH && cx.flow.is_mpls());
        cx.flow.dl_type = self.ethertype;
        Ok(())
    }
}
