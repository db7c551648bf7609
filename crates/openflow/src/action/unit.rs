//! Actions without arguments.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, Version};
use flow::eth_type;

/// Defines an action without arguments whose encoding is the form of the same name.
macro_rules! unit_action {
    ($(#[$doc:meta])* $name:ident, $text:literal $(, check $check:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name;

        impl $name {
            pub(super) fn decode(_: &mut Body<'_, '_>) -> Result<Action, OfError> {
                Ok(Action::$name($name))
            }

            /// Whatever arguments there are, they do not matter.
            pub(super) fn parse(_: &mut Parser<'_>, _: &str) -> Result<Action, String> {
                Ok(Action::$name($name))
            }
        }

        impl ActionCode for $name {
            fn encode(&self, out: &mut Encoder<'_>) {
                out.void(Form::$name);
            }

            fn format(&self, out: &mut Text<'_>) {
                out.put_str($text);
            }

            $(fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
                $check(cx);
                Ok(())
            })?
        }
    };
}

unit_action! {
    /// `pop_queue`: back to the queue before `set_queue`.
    PopQueue, "pop_queue"
}
unit_action! {
    /// `exit`: no further actions, wherever they are.
    Exit, "exit"
}
unit_action! {
    /// `ct_clear`: forget the packet's connection.
    CtClear, "ct_clear"
}
unit_action! {
    /// `dec_mpls_ttl`
    DecMplsTtl, "dec_mpls_ttl", check |cx: &mut Check<'_>| cx.require(cx.flow.is_mpls())
}
unit_action! {
    /// `dec_nsh_ttl`
    DecNshTtl, "dec_nsh_ttl", check |cx: &mut Check<'_>| {
        let is_nsh = cx.flow.packet_type == flow::packet_type_of_ethertype(eth_type::NSH)
            || cx.flow.dl_type == eth_type::NSH;
        cx.require(is_nsh);
    }
}
unit_action! {
    /// `debug_recirc`: recirculate, for tests.
    DebugRecirc, "debug_recirc"
}
unit_action! {
    /// `debug_slow`: take the slow path, for tests.
    DebugSlow, "debug_slow"
}

/// `clear_actions`: empty the action set. An instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClearActions;

impl ClearActions {
    pub(super) fn parse(_: &mut Parser<'_>, _: &str) -> Result<Action, String> {
        Ok(Action::ClearActions(ClearActions))
    }
}

impl ActionCode for ClearActions {
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version > Version::Of10 {
            out.instruction(super::instruction::CLEAR_ACTIONS, &[0; 4]);
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("clear_actions");
    }
}

/// The debugging actions, which only a switch for tests understands.
pub(super) fn decode_debug_recirc(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
    if b.cx.debug { DebugRecirc::decode(b) } else { Err(OfError::OfpbacBadVendorType) }
}

pub(super) fn decode_debug_slow(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
    if b.cx.debug { DebugSlow::decode(b) } else { Err(OfError::OfpbacBadVendorType) }
}

/// Where translation comes back to a table from another one, when the actions of several are joined in
/// one list. Only inside the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnrollXlate {
    /// Of the rule whose actions follow; `None` if they are of no rule.
    pub rule_table_id: Option<u8>,
    /// As [`UnrollXlate::rule_table_id`].
    pub rule_cookie: u64,
}

impl UnrollXlate {
    pub(super) fn parse(_: &mut Parser<'_>, _: &str) -> Result<Action, String> {
        Err("UNROLL is an internal action that shouldn't be used via OpenFlow".into())
    }
}

impl ActionCode for UnrollXlate {
    /// It has no form.
    fn encode(&self, _: &mut Encoder<'_>) {}

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("unroll_xlate(table=");
        out.table(self.rule_table_id.unwrap_or(u8::MAX));
        put!(out, ", cookie={})", self.rule_cookie);
    }

    fn check(&mut self, _: &mut Check<'_>) -> Result<(), OfError> {
        Err(OfError::OfpbacBadType)
    }
}
