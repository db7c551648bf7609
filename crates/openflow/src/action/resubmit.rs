//! `resubmit`: look the packet up again, in this table or another, and run what is found.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::table::Form;
use super::text::{Parser, Text};
use crate::{OfError, PortNo};
use flow::Field;

/// In which of its forms the action came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResubmitForm {
    /// `NXAST_RESUBMIT`, which stays in its table.
    Port,
    /// `NXAST_RESUBMIT_TABLE`, `NXAST_RESUBMIT_TABLE_CT`
    Table,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resubmit {
    /// As if it had come in here. [`PortNo::IN_PORT`]: as it is.
    pub in_port: PortNo,
    /// [`Resubmit::SAME_TABLE`] for the table that the action is in.
    pub table_id: u8,
    /// Look at the connection's original addresses and ports in place of the packet's.
    pub with_ct_orig: bool,
    pub form: ResubmitForm,
}

impl Resubmit {
    pub const SAME_TABLE: u8 = 255;

    /// Looks the packet up in another table.
    #[must_use]
    pub fn table(table_id: u8) -> Action {
        Action::Resubmit(Resubmit {
            in_port: PortNo::IN_PORT,
            table_id,
            with_ct_orig: false,
            form: ResubmitForm::Table,
        })
    }

    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::Resubmit(Resubmit {
            in_port: PortNo(b.arg as u16),
            table_id: Self::SAME_TABLE,
            with_ct_orig: false,
            form: ResubmitForm::Port,
        }))
    }

    pub(super) fn decode_table(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode_with_table(b, false)
    }

    pub(super) fn decode_table_ct(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode_with_table(b, true)
    }

    fn decode_with_table(b: &mut Body<'_, '_>, with_ct_orig: bool) -> Result<Action, OfError> {
        if !b.is_zero(13..16) {
            return Err(OfError::OfpbacBadArgument);
        }
        let (in_port, table_id) = (PortNo(b.u16(10)), b.u8(12));
        Ok(Action::Resubmit(Resubmit { in_port, table_id, with_ct_orig, form: ResubmitForm::Table }))
    }

    /// `PORT`, `PORT,TABLE` or `PORT,TABLE,ct`; port or table may be empty.
    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut parts = s.split(',');
        let mut part = || parts.next().filter(|s| !s.is_empty());
        let in_port = match part() {
            Some(s) => p.port(s).ok_or_else(|| format!("{s}: resubmit to unknown port"))?,
            None => PortNo::IN_PORT,
        };
        let table_id = match part() {
            Some(s) => p.table(s).ok_or_else(|| format!("{s}: resubmit to unknown table"))?,
            None => Self::SAME_TABLE,
        };
        let with_ct_orig = match part() {
            Some("ct") => true,
            Some(s) => return Err(format!("{s}: unknown parameter")),
            None => false,
        };
        if in_port == PortNo::IN_PORT && table_id == Self::SAME_TABLE {
            return Err("at least one \"in_port\" or \"table\" must be specified on resubmit".into());
        }
        Ok(Action::Resubmit(Resubmit { in_port, table_id, with_ct_orig, form: ResubmitForm::Table }))
    }
}

impl ActionCode for Resubmit {
    fn encode(&self, out: &mut Encoder<'_>) {
        if self.table_id == Self::SAME_TABLE && self.form == ResubmitForm::Port {
            return out.arg(Form::Resubmit, self.in_port.0.into());
        }
        let form = if self.with_ct_orig { Form::ResubmitTableCt } else { Form::ResubmitTable };
        let open = out.begin(form);
        out.u16(self.in_port.0);
        out.u8(self.table_id);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        let has_port = self.in_port != PortNo::IN_PORT;
        if has_port && self.table_id == Self::SAME_TABLE {
            out.put_str("resubmit:");
            out.port(self.in_port);
            return;
        }
        out.put_str("resubmit(");
        if has_port {
            out.port(self.in_port);
        }
        out.put_str(",");
        if self.table_id != Self::SAME_TABLE {
            out.table(self.table_id);
        }
        out.put_str(if self.with_ct_orig { ",ct)" } else { ")" });
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        // `ct_nw_proto` is there when the rest of the original direction is.
        let ok = !self.with_ct_orig || Field::CtNwProto.prereqs_ok(&cx.flow, cx.params.mask);
        if ok { Ok(()) } else { Err(OfError::OfpbacMatchInconsistent) }
    }
}
