//! Changing flow tables: add, modify and delete with OpenFlow's rules about what exists already.
//!
//! Every change is made at once under the writer's lock and yields [`RuleEvent`]s, from which the caller
//! tells controllers (flow-removed, flow monitors).

use crate::ids::{OfPort, SwitchId};
use crate::rule::{Counters, Rule, RuleFlags};
use crate::switch::{State, Switch};
use crate::table::{TABLE_ALL, TBL_INTERNAL, Table};
use flow::{Match, MiniMatch};
use openflow::OfError;
use openflow::action::Action;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Which rules a change or a request means, besides its match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    /// A table, or [`TABLE_ALL`].
    pub table: u8,
    pub cookie: u64,
    pub cookie_mask: u64,
    /// [`OfPort::NONE`] for any.
    pub out_port: OfPort,
    /// [`GROUP_ANY`] for any.
    pub out_group: u32,
}

/// `OFPG_ANY`.
pub const GROUP_ANY: u32 = u32::MAX;
/// A modify with this cookie keeps the old one, and adds nothing where nothing matches.
pub const COOKIE_KEEP: u64 = u64::MAX;

impl Filter {
    /// Every rule.
    pub const ALL: Filter =
        Filter { table: TABLE_ALL, cookie: 0, cookie_mask: 0, out_port: OfPort::NONE, out_group: GROUP_ANY };

    /// Whether the rule is one of those; its table is not asked for.
    pub fn admits(&self, rule: &Rule) -> bool {
        // The switch's own table is there to be looked at for who asks for it.
        (!rule.is_hidden() || self.table == TBL_INTERNAL)
            && (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && (self.out_port == OfPort::NONE || rule.outputs_to(self.out_port))
            && (self.out_group == GROUP_ANY || rule.outputs_to_group(self.out_group))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Add,
    Modify { strict: bool },
    Delete { strict: bool },
}

/// A change to flow tables.
#[derive(Clone, Debug)]
pub struct Change {
    pub command: Command,
    pub matching: MiniMatch,
    pub priority: u16,
    pub filter: Filter,
    /// For a new rule; for a modify, [`COOKIE_KEEP`] keeps the old one.
    pub new_cookie: u64,
    pub modify_cookie: bool,
    pub idle_timeout_s: u16,
    pub hard_timeout_s: u16,
    pub importance: u16,
    pub flags: RuleFlags,
    pub check_overlap: bool,
    pub reset_counts: bool,
    pub actions: Box<[Action]>,
}

/// What happened to a rule.
#[derive(Clone, Debug)]
pub enum RuleEvent {
    Added(Arc<Rule>),
    Modified { old: Arc<Rule>, new: Arc<Rule> },
    Removed { rule: Arc<Rule>, reason: RemovedReason },
}

/// `OFPRR_*` (OpenFlow 1.5, 7.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemovedReason {
    IdleTimeout = 0,
    HardTimeout = 1,
    Delete = 2,
    GroupDelete = 3,
    MeterDelete = 4,
    Eviction = 5,
}

impl Switch {
    /// Makes a change; on error nothing has changed.
    pub fn apply(&mut self, change: &Change, now_ms: u64) -> Result<Vec<RuleEvent>, OfError> {
        let mut events = self.apply_one(change, now_ms)?;
        self.settle(&mut events);
        Ok(events)
    }

    /// Follows `events`, and removes the learned flows that nobody looks after once they have happened.
    pub(crate) fn settle(&mut self, events: &mut Vec<RuleEvent>) {
        let mut from = 0;
        while from < events.len() {
            let lost = self.follow(&events[from..]);
            from = events.len();
            for (table, cookie) in lost {
                let filter = Filter { table, cookie, cookie_mask: u64::MAX, ..Filter::ALL };
                for rule in self.select(&Match::catchall(), 0, false, &filter) {
                    events.extend(self.remove_rule(&rule, RemovedReason::Delete));
                }
            }
        }
    }

    /// Takes back what `events` say has happened, latest first.
    pub fn undo(&mut self, events: &[RuleEvent]) {
        let reverse = |e: &RuleEvent| match e {
            RuleEvent::Added(rule) => {
                RuleEvent::Removed { rule: rule.clone(), reason: RemovedReason::Delete }
            }
            RuleEvent::Modified { old, new } => RuleEvent::Modified { old: new.clone(), new: old.clone() },
            RuleEvent::Removed { rule, .. } => RuleEvent::Added(rule.clone()),
        };
        let undone: Vec<_> = events.iter().rev().map(reverse).collect();
        for event in &undone {
            let (RuleEvent::Added(r)
            | RuleEvent::Modified { new: r, .. }
            | RuleEvent::Removed { rule: r, .. }) = event;
            let Some(table) = self.tables.get_mut(usize::from(r.table)) else { continue };
            if matches!(event, RuleEvent::Removed { .. }) {
                table.remove(r);
            } else {
                let m = r.matching.expand();
                table.insert(&m.flow, &m.mask, r.clone());
            }
        }
        self.follow(&undone);
    }

    /// Keeps account of what rules depend on; returns tables and cookies that nobody looks after any more.
    fn follow(&mut self, events: &[RuleEvent]) -> Vec<(u8, u64)> {
        self.refs.follow(events);
        self.guardians.follow(events)
    }

    /// Whether the groups and meters that actions name are there.
    pub fn check_actions(&self, actions: &[Action]) -> Result<(), OfError> {
        for a in openflow::action::flattened(actions) {
            match a {
                Action::Group(g) if self.groups.get(g.group_id).is_none() => {
                    return Err(OfError::OfpbacBadOutGroup);
                }
                Action::Meter(m) if self.meters.get(m.meter_id).is_none() => {
                    return Err(OfError::OfpmmfcInvalidMeter);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts in a rule that existed before this process; `None` if it has no such table.
    pub fn put_back(&mut self, rule: Arc<Rule>) -> Option<()> {
        let table = self.tables.get_mut(usize::from(rule.table)).filter(|_| rule.table != TBL_INTERNAL)?;
        let m = rule.matching.expand();
        let old = table.insert(&m.flow, &m.mask, rule.clone());
        let event = match old {
            Some(old) => RuleEvent::Modified { old, new: rule },
            None => RuleEvent::Added(rule),
        };
        self.follow(&[event]);
        Some(())
    }

    fn apply_one(&mut self, change: &Change, now_ms: u64) -> Result<Vec<RuleEvent>, OfError> {
        match change.command {
            Command::Add => self.add_flow(change, now_ms),
            Command::Modify { strict } => self.modify_flows(change, strict, now_ms),
            Command::Delete { strict } => {
                check_table(change.filter.table)?;
                let m = change.matching.expand();
                let rules = self.select(&m, change.priority, strict, &change.filter);
                if rules.iter().any(|r| r.is_hidden()) {
                    return Err(OfError::OfpbrcEperm);
                }
                Ok(self.delete_all(rules))
            }
        }
    }

    /// The rules that a match, a filter, and for `strict` a priority mean. Ordered by table.
    pub fn select(&self, m: &Match, priority: u16, strict: bool, filter: &Filter) -> Vec<Arc<Rule>> {
        let mut found = Vec::new();
        for table in self.tables_of(filter.table) {
            if strict {
                found.extend(table.get(&m.flow, &m.mask, priority).cloned());
            } else if m.is_catchall() {
                found.append(&mut table.all(self.next_place()));
            } else {
                found.append(&mut table.matching_loosely(&m.flow, &m.mask, self.next_place()));
            }
        }
        found.retain(|r| filter.admits(r));
        found
    }

    /// The tables that a table number in a request means.
    pub fn tables_of(&self, table: u8) -> impl Iterator<Item = &Table> {
        let (first, n) = if table == TABLE_ALL { (0, self.tables.len()) } else { (table.into(), 1) };
        self.tables.iter().skip(first).take(n)
    }

    fn add_flow(&mut self, change: &Change, now_ms: u64) -> Result<Vec<RuleEvent>, OfError> {
        let id = if change.filter.table == TABLE_ALL { 0 } else { change.filter.table };
        check_table(id)?;
        if id == TBL_INTERNAL && !change.flags.contains(RuleFlags::HIDDEN) {
            return Err(OfError::OfpbrcEperm);
        }
        self.check_actions(&change.actions)?;
        let m = change.matching.expand();
        let place = self.new_place();
        let table = self.tables.get_mut(usize::from(id)).ok_or(OfError::OfpbrcBadTableId)?;
        let old = table.get(&m.flow, &m.mask, change.priority).cloned();
        if let Some(old) = old {
            return Ok(vec![replace(table, change, &old, place, now_ms)]);
        }
        if change.check_overlap && table.overlaps(&m.flow, &m.mask, change.priority) {
            return Err(OfError::OfpfmfcOverlap);
        }
        // In nearly all cases there is just one, and a bundle keeps them all.
        let mut events = Vec::with_capacity(1);
        if table.len() as u64 >= u64::from(table.settings.flow_limit) {
            let victim = if table.may_evict() { crate::eviction::choose(table, now_ms) } else { None };
            let victim = victim.ok_or(OfError::OfpfmfcTableFull)?;
            events.extend(self.remove_rule(&victim, RemovedReason::Eviction));
        }
        let rule = Arc::new(new_rule(change, id, place, now_ms));
        let table = self.tables.get_mut(usize::from(id)).ok_or(OfError::OfpbrcBadTableId)?;
        table.insert(&m.flow, &m.mask, rule.clone());
        events.push(RuleEvent::Added(rule));
        Ok(events)
    }

    fn modify_flows(
        &mut self,
        change: &Change,
        strict: bool,
        now_ms: u64,
    ) -> Result<Vec<RuleEvent>, OfError> {
        check_table(change.filter.table)?;
        let old = self.select(&change.matching.expand(), change.priority, strict, &change.filter);
        if old.is_empty() {
            let may_add = change.new_cookie != COOKIE_KEEP && change.filter.cookie_mask == 0;
            return if may_add { self.add_flow(change, now_ms) } else { Ok(Vec::new()) };
        }
        self.check_actions(&change.actions)?;
        let mut replace_one = |r: &Arc<Rule>| {
            let place = self.new_place();
            self.tables.get_mut(usize::from(r.table)).map(|t| replace(t, change, r, place, now_ms))
        };
        Ok(old.iter().filter_map(&mut replace_one).collect())
    }

    /// Deletes rules, which come ordered by table.
    fn delete_all(&mut self, rules: Vec<Arc<Rule>>) -> Vec<RuleEvent> {
        for of_table in rules.chunk_by(|a, b| a.table == b.table) {
            let table = of_table.first().and_then(|r| self.tables.get_mut(usize::from(r.table)));
            if let Some(table) = table {
                table.remove_all(of_table);
            }
        }
        let removed = |rule| RuleEvent::Removed { rule, reason: RemovedReason::Delete };
        rules.into_iter().map(removed).collect()
    }

    /// Takes a rule out of its table, if it is there.
    pub fn remove_rule(&mut self, rule: &Rule, reason: RemovedReason) -> Option<RuleEvent> {
        let table = self.tables.get_mut(usize::from(rule.table))?;
        table.remove(rule).map(|rule| RuleEvent::Removed { rule, reason })
    }

    /// Ends rules whose time has come.
    pub fn expire_flows(&mut self, now_ms: u64) -> Vec<RuleEvent> {
        let mut due = Vec::new();
        for table in self.tables.iter().filter(|t| t.has_expirable()) {
            due.extend(table.expirable().filter_map(|r| Some((r.clone(), expired(r, now_ms)?))));
        }
        let next = self.next_place();
        due.sort_by_cached_key(|(r, _)| r.place.wrapping_sub(next));
        let mut events = due.iter().filter_map(|(r, reason)| self.remove_rule(r, *reason)).collect();
        self.settle(&mut events);
        events
    }
}

/// Which timeout has struck, if any; the hard one first.
fn expired(rule: &Rule, now_ms: u64) -> Option<RemovedReason> {
    let past = |since: u64, s: u16| s != 0 && now_ms >= since + u64::from(s) * 1000;
    if past(rule.modified_ms(), rule.hard_timeout_s) {
        Some(RemovedReason::HardTimeout)
    } else if past(rule.counters.used_ms(), rule.idle_timeout_s) {
        Some(RemovedReason::IdleTimeout)
    } else {
        None
    }
}

fn check_table(id: u8) -> Result<(), OfError> {
    let known = id == TABLE_ALL || usize::from(id) < crate::table::TABLES;
    if known { Ok(()) } else { Err(OfError::OfpbrcBadTableId) }
}

fn new_rule(change: &Change, table: u8, place: u32, now_ms: u64) -> Rule {
    Rule {
        table,
        priority: change.priority,
        matching: change.matching.clone(),
        cookie: change.new_cookie,
        actions: change.actions.clone(),
        idle_timeout_s: change.idle_timeout_s,
        hard_timeout_s: change.hard_timeout_s,
        importance: change.importance,
        flags: change.flags,
        place,
        created_ms: now_ms,
        modified_ms: now_ms.into(),
        counters: Arc::new(Counters::new(now_ms)),
    }
}

/// Puts a rule as `change` wants it in the place of `old`. A modify keeps all but actions and cookie.
fn replace(table: &mut Table, change: &Change, old: &Arc<Rule>, place: u32, now_ms: u64) -> RuleEvent {
    let mut new = new_rule(change, old.table, place, now_ms);
    new.matching = old.matching.clone();
    new.priority = old.priority;
    if !change.modify_cookie || change.new_cookie == COOKIE_KEEP {
        new.cookie = old.cookie;
    }
    if change.command != Command::Add {
        new.idle_timeout_s = old.idle_timeout_s;
        new.hard_timeout_s = old.hard_timeout_s;
        new.importance = old.importance;
        new.flags = old.flags;
        new.created_ms = old.created_ms;
    }
    // A rule that starts counting anew leaves the old one's counters as they are, in case it comes back.
    if !change.reset_counts {
        new.counters = old.counters.clone();
        new.counters.touch(now_ms);
    }
    let new = Arc::new(new);
    let m = old.matching.expand();
    table.insert(&m.flow, &m.mask, new.clone());
    RuleEvent::Modified { old: old.clone(), new }
}

/// `fin_timeout`: makes the timeouts of `rule` at most what is given. Says whether that changed anything.
pub fn shorten_timeouts(state: &mut State, id: SwitchId, rule: &Rule, idle_s: u16, hard_s: u16) -> bool {
    let Ok(switch) = state.switch_mut(id) else { return false };
    let Some(table) = switch.tables.get_mut(usize::from(rule.table)) else { return false };
    let m = rule.matching.expand();
    let Some(now) = table.get(&m.flow, &m.mask, rule.priority).cloned() else { return false };
    let shorter = |old: u16, new: u16| if new != 0 && (old == 0 || new < old) { new } else { old };
    let (idle, hard) = (shorter(now.idle_timeout_s, idle_s), shorter(now.hard_timeout_s, hard_s));
    if (idle, hard) == (now.idle_timeout_s, now.hard_timeout_s) {
        return false;
    }
    let new = Rule {
        table: now.table,
        priority: now.priority,
        matching: now.matching.clone(),
        cookie: now.cookie,
        actions: now.actions.clone(),
        idle_timeout_s: idle,
        hard_timeout_s: hard,
        importance: now.importance,
        flags: now.flags,
        place: now.place,
        created_ms: now.created_ms,
        modified_ms: now.modified_ms.load(Relaxed).into(),
        counters: now.counters.clone(),
    };
    let new = Arc::new(new);
    table.insert(&m.flow, &m.mask, new.clone());
    switch.follow(&[RuleEvent::Modified { old: now, new }]);
    true
}

#[cfg(test)]
mod tests;
