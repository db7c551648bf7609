//! Actions on what travels with a packet outside its headers: tunnel id and options, queue.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::field::HexOrZero;
use super::form::{Body, Encoder};
use super::number::{parse_u32, parse_u64};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, Version};
use flow::{Field, ofp};

/// `set_tunnel`, `set_tunnel64`: set the tunnel id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetTunnel {
    pub tun_id: u64,
    /// It came in the form that has 64 bits.
    pub wide: bool,
}

impl SetTunnel {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetTunnel(Box::new(SetTunnel { tun_id: b.arg, wide: false })))
    }

    pub(super) fn decode64(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetTunnel(Box::new(SetTunnel { tun_id: b.arg, wide: true })))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::SetTunnel(Box::new(SetTunnel { tun_id: parse_u64(s)?, wide: false })))
    }

    pub(super) fn parse64(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::SetTunnel(Box::new(SetTunnel { tun_id: parse_u64(s)?, wide: true })))
    }

    fn needs_wide(self) -> bool {
        self.wide || self.tun_id > u32::MAX.into()
    }
}

impl ActionCode for SetTunnel {
    fn encode(&self, out: &mut Encoder<'_>) {
        match out.version {
            Version::Of10 | Version::Of11 => {
                let form = if self.needs_wide() { Form::SetTunnel64 } else { Form::SetTunnel };
                out.arg(form, self.tun_id);
            }
            _ => out.set_field_int(Field::TunId, self.tun_id),
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "set_tunnel{}:{}", if self.needs_wide() { "64" } else { "" }, HexOrZero(self.tun_id));
    }
}

/// `set_queue`: send by this queue of the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetQueue {
    pub queue_id: u32,
}

impl SetQueue {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetQueue(SetQueue { queue_id: b.arg as u32 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::SetQueue(SetQueue { queue_id: parse_u32(s)? }))
    }
}

impl ActionCode for SetQueue {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.arg(Form::SetQueue, self.queue_id.into());
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "set_queue:{}", self.queue_id);
    }
}

/// `delete_field`: take a tunnel option off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeleteField {
    pub field: Field,
}

impl DeleteField {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let mut rest = b.from(10);
        Ok(Action::DeleteField(DeleteField { field: b.cx.pull_field(&mut rest)? }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let field = Field::by_nxm_name(s).or_else(|| Field::by_name(s));
        let field = field.ok_or_else(|| format!("unknown field `{s}'"))?;
        Ok(Action::DeleteField(DeleteField { field }))
    }
}

impl ActionCode for DeleteField {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::DeleteField);
        out.field(self.field, ofp::NXM);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "delete_field:{}", self.field.name());
    }

    fn check(&mut self, _: &mut Check<'_>) -> Result<(), OfError> {
        if self.field.tlv_index().is_some() { Ok(()) } else { Err(OfError::OfpbacBadArgument) }
    }
}
