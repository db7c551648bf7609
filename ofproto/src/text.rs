//! Rules, actions and their parts as text.

use crate::flow_mod::Change;
use crate::rule::{Rule, RuleFlags};
use crate::switch::Switch;
use flow::text::{NoNames, PortNames, format_match};
use flow::{Match, Subfield, Value};
use openflow::action::{Action, Text};
use std::fmt::Write;

/// `OFP_DEFAULT_PRIORITY`: not printed where priority is part of a match.
pub const DEFAULT_PRIORITY: u16 = 0x8000;

/// The names of a switch's ports.
pub struct SwitchPorts<'a>(pub &'a Switch);

impl PortNames for SwitchPorts<'_> {
    fn name_of(&self, port: u16) -> Option<String> {
        self.0.port(openflow::PortNo(port)).map(|p| p.name.clone())
    }

    fn number_of(&self, name: &str) -> Option<u16> {
        self.0.port_by_name(name).map(|p| p.no.0)
    }
}

/// A list of actions.
pub fn actions(list: &[Action]) -> String {
    let mut out = String::new();
    Text::new(&mut out).actions(list);
    out
}

/// One action.
pub fn action(a: &Action) -> String {
    actions(std::slice::from_ref(a))
}

/// A rule as `ofproto/trace` names it: its match and priority.
pub fn rule_head(m: &Match, priority: u32) -> String {
    let m = format_match(m, None, &NoNames, None);
    let sep = if m.is_empty() { "" } else { ", " };
    format!("{m}{sep}priority {priority}")
}

/// What a subfield has become, for `ofproto/trace`.
pub fn subfield_is(sf: &Subfield, value: &Value) -> String {
    if sf.is_whole() {
        format!("{sf} is now {}", sf.field.format_value(value, None, &NoNames))
    } else {
        let value = value.to_u128();
        if value == 0 { format!("{sf} is now 0") } else { format!("{sf} is now {value:#x}") }
    }
}

/// The flow that a `learn` action makes, for `ofproto/trace`.
pub fn learned(change: &Change) -> String {
    let m = format_match(&change.matching.expand(), None, &NoNames, None);
    let mut s = format!("table={} {m} priority={}", change.filter.table, change.priority);
    if change.new_cookie != 0 {
        let _ = write!(s, " cookie={:#x}", change.new_cookie);
    }
    let timeouts = [("idle", change.idle_timeout_s), ("hard", change.hard_timeout_s)];
    for (name, seconds) in timeouts.into_iter().filter(|(_, seconds)| *seconds != 0) {
        let _ = write!(s, " {name}={seconds}");
    }
    if change.flags.contains(RuleFlags::SEND_FLOW_REM) {
        s.push_str(" send_flow_rem");
    }
    let _ = write!(s, " actions={}", actions(&change.actions));
    s
}

/// A rule as `bridge/dump-flows` prints it, with its statistics, at this priority. Times in milliseconds.
pub fn rule_line(rule: &Rule, priority: u32, with_offload: bool, now_ms: u64) -> String {
    let mut s = String::new();
    // Writing to a string cannot fail.
    if rule.table != 0 {
        let _ = write!(s, "table_id={}, ", rule.table);
    }
    let count = rule.counters.count();
    let age_s = now_ms.saturating_sub(rule.created_ms) / 1000;
    let _ = write!(s, "duration={age_s}s, n_packets={}, n_bytes={}, ", count.packets, count.bytes);
    if with_offload {
        s.push_str("n_offload_packets=0, n_offload_bytes=0, ");
    }
    let m = rule.matching.expand();
    let text = format_match(&m, Some(priority), &NoNames, None);
    if !text.is_empty() {
        let _ = write!(s, "{text},");
    }
    let _ = write!(s, "actions={}", actions(&rule.actions));
    s
}
