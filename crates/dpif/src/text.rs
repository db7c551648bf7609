//! The text of keys and actions, as `dpctl/*`, `dpif/*` and `ofproto/trace` print and read it: the one
//! piece of code that knows the syntax (ovs-dpctl(8), "DATAPATH FLOW TABLE DEBUGGING COMMANDS").

mod action;
mod action_parse;
mod attr_text;
mod dump;
pub(crate) mod flags;
mod key;
mod key_parse;
mod key_scan;
pub(crate) mod scan;
#[cfg(test)]
mod stock_tests;
#[cfg(test)]
mod tests;
mod tnl_push;
mod tunnel;

pub use action::actions_text;
pub use action_parse::parse_actions;
pub use dump::{dump_line, stats_text, tcp_flags_text};
pub use key::{flow_key_text, flow_text};
pub use key_parse::{Fitness, KeyError, ParsedKey, parse_exact_key, parse_key};
pub use tnl_push::vport_type;

use crate::{PortNo, Ufid};

/// Names to print in place of port numbers.
pub type PortNames<'a> = &'a dyn Fn(PortNo) -> Option<String>;
/// Numbers of ports that the text names.
pub type PortNumbers<'a> = &'a dyn Fn(&str) -> Option<PortNo>;

/// How to print a key.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// `-m`: wildcarded fields as well.
    pub verbose: bool,
    pub names: Option<PortNames<'a>>,
    /// The `vlan-limit` in force; 0 for the maximum.
    pub vlan_limit: usize,
    /// `nd_ext(...)` as well, which the userspace datapath knows but never showed.
    pub nd_ext: bool,
}

impl Default for Style<'_> {
    fn default() -> Self {
        Style { verbose: false, names: None, vlan_limit: flow::VLANS_MAX, nd_ext: false }
    }
}

impl Style<'_> {
    pub(crate) fn vlans(&self) -> usize {
        match self.vlan_limit {
            0 => flow::VLANS_MAX,
            n => n.min(flow::VLANS_MAX),
        }
    }
    pub(crate) fn put_port(&self, out: &mut String, port: PortNo) {
        put_port(out, port, self.names);
    }
}

pub(crate) fn put_port(out: &mut String, port: PortNo, names: Option<PortNames<'_>>) {
    match names.and_then(|n| n(port)) {
        Some(name) => out.push_str(&name),
        None => {
            use std::fmt::Write;
            let _ = write!(out, "{port}");
        }
    }
}

/// Reads `ufid:` and the identifier behind it; returns it and the text that follows.
pub fn parse_ufid(text: &str) -> Option<(Ufid, &str)> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut rest = text.strip_prefix("ufid:")?;
    let mut id = 0u128;
    for (i, len) in GROUPS.into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-')?;
        }
        let group = rest.get(..len)?;
        if !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        id = id << (4 * len) | u128::from_str_radix(group, 16).ok()?;
        rest = &rest[len..];
    }
    Some((Ufid(id), rest))
}
