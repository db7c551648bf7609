//! The `learn` action: flows made from packets (ovs-actions(7)).

use crate::async_event::{AsyncEvent, AsyncQueue};
use crate::flow_mod::{Change, Command, Filter, RuleEvent};
use crate::ids::{OfPort, SwitchId};
use crate::rule::{Rule, RuleFlags};
use crate::switch::{State, Switch};
use crate::table::Table;
use flow::{Flow, Mask, Match, MiniMatch, Subfield, TlvTable, Value};
use openflow::action::{Action, FinTimeout, Learn, LearnDst, LearnFlags, LearnSrc, Output, SetField};
use std::sync::atomic::Ordering::Relaxed;

/// A flow that a packet asks for.
#[derive(Clone, Debug)]
pub struct LearnedFlow {
    pub change: Change,
    /// No more than so many flows with this cookie in the table; 0 for no limit.
    pub limit: u32,
}

/// Makes the flow that `learn` describes for a packet with key `flow`; what is read of the packet becomes
/// significant in `wc`.
pub fn instantiate(learn: &Learn, flow: &Flow, wc: &mut Mask, tlv: &TlvTable) -> LearnedFlow {
    let mut matching = Match::catchall();
    let mut actions = Vec::new();
    if learn.fin_idle_timeout != 0 || learn.fin_hard_timeout != 0 {
        let (idle_timeout, hard_timeout) = (learn.fin_idle_timeout, learn.fin_hard_timeout);
        actions.push(Action::FinTimeout(FinTimeout { idle_timeout, hard_timeout }));
    }
    for spec in &learn.specs {
        let value = match &spec.src {
            LearnSrc::Field(src) => {
                src.unwildcard(wc, tlv);
                src.read(flow, tlv)
            }
            LearnSrc::Immediate(bytes) => Value::from_bytes(bytes),
        };
        match &spec.dst {
            LearnDst::Match(dst) => match_bits(&mut matching, dst, &value, tlv),
            LearnDst::Load(dst) => {
                actions.push(Action::SetField(SetField::load(dst, &value, dst.field.n_bytes_in(tlv))));
            }
            LearnDst::Output => actions.extend(output_to(value.to_u64())),
        }
    }
    matching.zero_wildcarded();
    let filter = Filter { table: learn.table_id, ..Filter::ALL };
    let flags = learn.flags.contains(LearnFlags::SEND_FLOW_REM);
    let change = Change {
        command: Command::Add,
        matching: MiniMatch::from(&matching),
        priority: learn.priority,
        filter,
        new_cookie: learn.cookie,
        modify_cookie: true,
        idle_timeout_s: learn.idle_timeout,
        hard_timeout_s: learn.hard_timeout,
        importance: 0,
        flags: if flags { RuleFlags::SEND_FLOW_REM } else { RuleFlags::empty() },
        check_overlap: false,
        reset_counts: false,
        actions: actions.into(),
    };
    LearnedFlow { change, limit: learn.limit }
}

fn match_bits(m: &mut Match, dst: &Subfield, value: &Value, tlv: &TlvTable) {
    dst.write(&mut m.flow, value, tlv);
    dst.unwildcard(&mut m.mask, tlv);
}

/// An output to a port that a learned flow may use.
fn output_to(port: u64) -> Option<Action> {
    let port = OfPort(u16::try_from(port).ok()?);
    let reserved = [OfPort::IN_PORT, OfPort::FLOOD, OfPort::ALL, OfPort::LOCAL];
    let ok = port < OfPort::MAX || reserved.contains(&port);
    ok.then_some(Action::Output(Output { port, max_len: 0 }))
}

impl LearnedFlow {
    fn table<'a>(&self, switch: &'a Switch) -> Option<&'a Table> {
        switch.tables.get(usize::from(self.change.filter.table))
    }

    fn existing<'a>(&self, table: &'a Table) -> Option<&'a std::sync::Arc<Rule>> {
        let c = &self.change;
        let m = c.matching.expand();
        table.get(&m.flow, &m.mask, c.priority)
    }

    /// Whether the flow is there, as it is to be or otherwise.
    pub fn exists(&self, switch: &Switch) -> bool {
        self.table(switch).is_some_and(|t| self.existing(t).is_some())
    }

    /// Whether the tables would change, limits aside.
    pub fn changes(&self, switch: &Switch) -> bool {
        let known = self.table(switch).and_then(|t| self.existing(t));
        known.is_none_or(|rule| !is_same(rule, &self.change))
    }

    /// Whether the limit lets this flow in, or it is in already.
    pub fn is_admitted(&self, switch: &Switch) -> bool {
        let Some(table) = self.table(switch) else { return false };
        self.limit == 0
            || self.existing(table).is_some()
            || table.iter().filter(|r| r.cookie == self.change.new_cookie).count() < self.limit as usize
    }
}

/// Adds the flow, or refreshes it if it is there; returns whether tables changed.
pub fn carry_out(
    state: &mut State,
    id: SwitchId,
    learned: &LearnedFlow,
    now_ms: u64,
    queue: &AsyncQueue,
) -> bool {
    let Ok(switch) = state.switch_mut(id) else { return false };
    let same = learned.table(switch).and_then(|t| learned.existing(t));
    if let Some(rule) = same.filter(|r| is_same(r, &learned.change)) {
        rule.modified_ms.store(now_ms, Relaxed);
        return false;
    }
    if !learned.is_admitted(switch) {
        return false;
    }
    match switch.apply(&learned.change, now_ms) {
        Ok(events) => {
            queue.push(AsyncEvent::Rules { switch: id, events });
            true
        }
        Err(e) => {
            tracing::debug!(target: "ofproto_dpif_xlate", "learn failed: {e}");
            false
        }
    }
}

fn is_same(rule: &Rule, change: &Change) -> bool {
    rule.actions == change.actions
        && rule.cookie == change.new_cookie
        && rule.idle_timeout_s == change.idle_timeout_s
        && rule.hard_timeout_s == change.hard_timeout_s
        && rule.flags == change.flags
}

/// Counts rules whose `learn(delete_learned)` looks after flows of a table and cookie.
#[derive(Clone, Debug, Default)]
pub struct Guardians(hashbrown::HashMap<(u8, u64), u32>);

/// Tables and cookies that a rule's actions look after.
fn wards(actions: &[Action]) -> impl Iterator<Item = (u8, u64)> {
    actions.iter().filter_map(|a| match a {
        Action::Learn(l) if l.flags.contains(LearnFlags::DELETE_LEARNED) => Some((l.table_id, l.cookie)),
        _ => None,
    })
}

impl Guardians {
    /// Follows changes of rules; returns tables and cookies that nobody looks after any more.
    pub fn follow(&mut self, events: &[RuleEvent]) -> Vec<(u8, u64)> {
        let mut touched = Vec::new();
        for event in events {
            let (gone, come) = match event {
                RuleEvent::Added(r) => (None, Some(r)),
                RuleEvent::Modified { old, new } => (Some(old), Some(new)),
                RuleEvent::Removed { rule, .. } => (Some(rule), None),
            };
            for ward in come.into_iter().flat_map(|r| wards(&r.actions)) {
                *self.0.entry(ward).or_default() += 1;
            }
            for ward in gone.into_iter().flat_map(|r| wards(&r.actions)) {
                if let Some(n) = self.0.get_mut(&ward) {
                    *n = n.saturating_sub(1);
                    touched.push(ward);
                }
            }
        }
        touched.retain(|w| self.0.get(w) == Some(&0));
        touched.iter().for_each(|w| {
            self.0.remove(w);
        });
        touched
    }
}
