//! `clone`: actions that change only a copy of the packet.

use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::parse;
use super::table::Form;
use super::text::{Parser, Text};
use super::verify::Allowed;
use super::{Action, Kind};
use crate::OfError;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloneActions {
    pub actions: Box<[Action]>,
}

impl CloneActions {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let actions =
            b.cx.verified_list(b.bytes.get(16..).unwrap_or_default(), Allowed::Actions, None)?.into();
        Ok(Action::Clone(Box::new(CloneActions { actions })))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let actions = parse::list(p, s, false, Some(Kind::Clone))?.into();
        Ok(Action::Clone(Box::new(CloneActions { actions })))
    }
}

impl ActionCode for CloneActions {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Clone);
        out.zeros(6);
        out.actions(&self.actions);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("clone(");
        out.actions(&self.actions);
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.nested(&mut self.actions)
    }

    fn nested(&self) -> Option<&[Action]> {
        Some(&self.actions)
    }
}
