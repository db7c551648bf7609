//! Actions on VLAN tags.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{parse_u8, parse_u16};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, Protocols, Version};
use flow::{Field, VLAN_CFI, VLANS_MAX, Vlan, eth_type};

/// `OFPVID12_PRESENT`: set in `vlan_vid` where there is a tag.
pub(super) const VID_PRESENT: u16 = 0x1000;

/// `set_vlan_vid`, `mod_vlan_vid`: set the outermost tag's VLAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetVlanVid {
    pub vid: u16,
    /// Add a tag if there is none, as OpenFlow 1.0 has it (`mod_vlan_vid`).
    pub push_if_needed: bool,
    /// Set by [`super::check()`]: where the action stands, there is a tag.
    pub flow_has_vlan: bool,
}

/// `set_vlan_pcp`, `mod_vlan_pcp`: set the outermost tag's priority. As [`SetVlanVid`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetVlanPcp {
    pub pcp: u8,
    pub push_if_needed: bool,
    pub flow_has_vlan: bool,
}

impl SetVlanVid {
    pub(super) fn decode10(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg, true)
    }

    pub(super) fn decode11(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg, false)
    }

    fn checked(arg: u64, push_if_needed: bool) -> Result<Action, OfError> {
        match u16::try_from(arg) {
            Ok(vid @ 0..=0xfff) => {
                Ok(Action::SetVlanVid(SetVlanVid { vid, push_if_needed, flow_has_vlan: false }))
            }
            _ => Err(OfError::OfpbacBadArgument),
        }
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Self::parse_form(s, false)
    }

    pub(super) fn parse_pushing(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Self::parse_form(s, true)
    }

    fn parse_form(s: &str, push_if_needed: bool) -> Result<Action, String> {
        let vid = parse_u16(s, "VLAN VID")?;
        Self::checked(vid.into(), push_if_needed).map_err(|_| format!("{s}: not a valid VLAN VID"))
    }
}

impl SetVlanPcp {
    pub(super) fn decode10(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg, true)
    }

    pub(super) fn decode11(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg, false)
    }

    fn checked(arg: u64, push_if_needed: bool) -> Result<Action, OfError> {
        match u8::try_from(arg) {
            Ok(pcp @ 0..=7) => {
                Ok(Action::SetVlanPcp(SetVlanPcp { pcp, push_if_needed, flow_has_vlan: false }))
            }
            _ => Err(OfError::OfpbacBadArgument),
        }
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Self::parse_form(s, false)
    }

    pub(super) fn parse_pushing(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Self::parse_form(s, true)
    }

    fn parse_form(s: &str, push_if_needed: bool) -> Result<Action, String> {
        let pcp = parse_u8(s, "VLAN PCP")?;
        Self::checked(pcp.into(), push_if_needed).map_err(|_| format!("{s}: not a valid VLAN PCP"))
    }
}

/// Adds a tag before a setter that would have added one itself in OpenFlow 1.0.
fn push_if_needed(out: &mut Encoder<'_>, push_if_needed: bool, flow_has_vlan: bool) {
    if out.version > Version::Of10 && push_if_needed && !flow_has_vlan {
        out.arg(Form::PushVlan, eth_type::VLAN.into());
    }
}

/// Notes that there is a tag behind a setter, and returns whether there was one before it.
fn check_setter(cx: &mut Check<'_>, push_if_needed: bool) -> bool {
    let had_vlan = cx.flow.vlans[0].is_present();
    cx.require(had_vlan || push_if_needed);
    cx.flow.vlans[0].tci |= VLAN_CFI;
    had_vlan
}

impl ActionCode for SetVlanVid {
    fn encode(&self, out: &mut Encoder<'_>) {
        push_if_needed(out, self.push_if_needed, self.flow_has_vlan);
        match out.version {
            Version::Of10 => out.arg(Form::SetVlanVid10, self.vid.into()),
            Version::Of11 => out.arg(Form::SetVlanVid11, self.vid.into()),
            _ => out.set_field_int(Field::VlanVid, (self.vid | VID_PRESENT).into()),
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "{}_vlan_vid:{}", if self.push_if_needed { "mod" } else { "set" }, self.vid);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        self.flow_has_vlan = check_setter(cx, self.push_if_needed);
        Ok(())
    }
}

impl ActionCode for SetVlanPcp {
    fn encode(&self, out: &mut Encoder<'_>) {
        push_if_needed(out, self.push_if_needed, self.flow_has_vlan);
        match out.version {
            Version::Of10 => out.arg(Form::SetVlanPcp10, self.pcp.into()),
            Version::Of11 => out.arg(Form::SetVlanPcp11, self.pcp.into()),
            _ => out.set_field_int(Field::VlanPcp, self.pcp.into()),
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "{}_vlan_pcp:{}", if self.push_if_needed { "mod" } else { "set" }, self.pcp);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        self.flow_has_vlan = check_setter(cx, self.push_if_needed);
        Ok(())
    }
}

/// `strip_vlan`, `pop_vlan`: take the outermost tag off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StripVlan {
    /// It is called `pop_vlan`, as OpenFlow 1.1 does.
    pub pop: bool,
}

impl StripVlan {
    pub(super) fn decode10(_: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::StripVlan(StripVlan { pop: false }))
    }

    pub(super) fn decode11(_: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::StripVlan(StripVlan { pop: true }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, _: &str) -> Result<Action, String> {
        Ok(Action::StripVlan(StripVlan { pop: false }))
    }

    pub(super) fn parse_pop(_: &mut Parser<'_>, _: &str) -> Result<Action, String> {
        Ok(Action::StripVlan(StripVlan { pop: true }))
    }
}

impl ActionCode for StripVlan {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.void(if out.version == Version::Of10 { Form::StripVlan } else { Form::PopVlan });
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str(if self.pop { "pop_vlan" } else { "strip_vlan" });
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.require(cx.flow.vlans[0].is_present());
        cx.flow.vlans.rotate_left(1);
        cx.flow.vlans[VLANS_MAX - 1] = Vlan::default();
        Ok(())
    }
}

/// `push_vlan`: put a new outermost tag on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushVlan {
    /// 0x8100 or 0x88a8.
    pub ethertype: u16,
}

impl PushVlan {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg as u16).ok_or(OfError::OfpbacBadArgument)
    }

    fn checked(ethertype: u16) -> Option<Action> {
        let is_vlan = matches!(ethertype, eth_type::VLAN | eth_type::QINQ);
        is_vlan.then_some(Action::PushVlan(PushVlan { ethertype }))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        p.protocols &= Protocols::OF11_UP;
        let ethertype = parse_u16(s, "ethertype")?;
        Self::checked(ethertype).ok_or_else(|| format!("{s}: not a valid VLAN ethertype"))
    }
}

impl ActionCode for PushVlan {
    /// OpenFlow 1.0 lacks it; its setters push the tag that is to be filled.
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version > Version::Of10 {
            out.arg(Form::PushVlan, self.ethertype.into());
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "push_vlan:{:#x}", self.ethertype);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let vlans = &mut cx.flow.vlans;
        if vlans[VLANS_MAX - 1].is_present() {
            return Err(OfError::OfpbacBadTag);
        }
        vlans.rotate_right(1);
        vlans[0] = Vlan { tpid: 0, tci: VLAN_CFI };
        Ok(())
    }
}
