//! Flow monitors: connections that are told how rules change.
//!
//! A peer that does not read makes updates pause: from then on it is told of nothing but the end of rules
//! that it knows. Once it has read what waited, it is told of every rule that came or changed meanwhile.

use super::session::Conn;
use crate::flow_mod::{Filter, RuleEvent};
use crate::ids::ConnId;
use crate::rule::Rule;
use crate::switch::Switch;
use crate::table::TABLE_ALL;
use flow::TlvTable;
use openflow::msg::flow_monitor::{
    FlowUpdate, FullUpdate, MonitorFlags, MonitorRequest, UpdateEvent, append_update, begin_updates,
    encode_pause,
};
use openflow::multipart::MultipartWriter;
use openflow::{OfError, Target};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Monitors that a connection may have.
pub const MONITORS_MAX: usize = 65_536;
/// Bytes of updates that may wait for a peer before they pause.
pub const WAITING_BYTES_MAX: usize = 128 << 10;

/// What one flow-mod, timeout or the like did.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The request behind it.
    pub xid: u32,
    /// It was an add: a rule that it put in the place of another counts as added, not modified.
    pub by_add: bool,
    pub events: Vec<RuleEvent>,
}

/// When updates began to pause.
#[derive(Clone, Copy, Debug)]
struct Pause {
    at_ms: u64,
    /// [`Rule::place`] of the next rule at that time.
    place: u32,
}

/// The monitors of a connection.
#[derive(Debug, Default)]
pub struct Monitors {
    by_id: BTreeMap<u32, MonitorRequest>,
    pause: Option<Pause>,
}

/// A rule that monitors are told of as a whole, and what their flags together ask for.
pub type Known = (Arc<Rule>, MonitorFlags);

impl Monitors {
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// # Errors
    /// `OFPMOFC_MONITOR_EXISTS`; `OFPMOFC_UNKNOWN` for too many.
    pub fn add(&mut self, monitor: MonitorRequest) -> Result<(), OfError> {
        if self.by_id.contains_key(&monitor.id) {
            return Err(OfError::OfpmofcMonitorExists);
        }
        if self.by_id.len() >= MONITORS_MAX {
            return Err(OfError::OfpmofcUnknown);
        }
        self.by_id.insert(monitor.id, monitor);
        Ok(())
    }

    /// # Errors
    /// `OFPMOFC_UNKNOWN_MONITOR`
    pub fn remove(&mut self, id: u32) -> Result<(), OfError> {
        self.by_id.remove(&id).map(drop).ok_or(OfError::OfpmofcUnknownMonitor)
    }

    /// Ends a monitor, if there is such a one.
    pub fn forget(&mut self, id: u32) {
        self.by_id.remove(&id);
    }

    /// The rules that these monitors begin with, each once.
    pub fn initial_rules(&self, ids: &[u32], switch: &Switch) -> Vec<Known> {
        let wanted = ids.iter().filter_map(|id| self.by_id.get(id));
        let wanted = wanted.filter(|m| m.flags.contains(MonitorFlags::INITIAL));
        collect(wanted, switch, |_| Some(MonitorFlags::INITIAL))
    }

    /// The rules that came or changed during the pause, which ends.
    fn resume(&mut self, switch: &Switch) -> Vec<Known> {
        let Some(pause) = self.pause.take() else { return Vec::new() };
        collect(self.by_id.values(), switch, |rule| {
            let is_new = rule.place.wrapping_sub(pause.place) < u32::MAX / 2;
            let is_added = rule.created_ms >= pause.at_ms;
            is_new.then(|| {
                MonitorFlags::MODIFY | if is_added { MonitorFlags::ADD } else { MonitorFlags::empty() }
            })
        })
    }

    /// What the monitors that watch for `kind` of change of this rule ask for together.
    fn flags_for(&self, rule: &Rule, old: Option<&Rule>, kind: MonitorFlags) -> MonitorFlags {
        let watching = self.by_id.values().filter(|m| m.flags.intersects(kind) && watches(m, rule, old));
        watching.fold(MonitorFlags::empty(), |flags, m| flags | m.flags)
    }
}

fn filter_of(m: &MonitorRequest) -> Filter {
    Filter { table: m.table_id, out_port: m.out_port, out_group: m.out_group, ..Filter::ALL }
}

/// Whether a monitor is about this rule, which may have output to its port before it became what it is.
fn watches(m: &MonitorRequest, rule: &Rule, old: Option<&Rule>) -> bool {
    let filter = filter_of(m);
    let any_port = Filter { out_port: Filter::ALL.out_port, ..filter };
    (m.table_id == TABLE_ALL || m.table_id == rule.table)
        && (filter.admits(rule) || any_port.admits(rule) && old.is_some_and(|o| o.outputs_to(m.out_port)))
        && m.matched.iter().all(|(i, v, mask)| {
            rule.matching.mask_word(i) & mask == mask && rule.matching.value_word(i) & mask == v
        })
}

/// The rules that these monitors are about and of which `kind` says what is new.
fn collect<'a>(
    monitors: impl Iterator<Item = &'a MonitorRequest>,
    switch: &Switch,
    kind: impl Fn(&Rule) -> Option<MonitorFlags>,
) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    let mut seen: HashMap<*const Rule, usize> = HashMap::new();
    for m in monitors {
        for rule in switch.select(&m.matched.expand(), 0, false, &filter_of(m)) {
            let Some(kind) = kind(&rule) else { continue };
            if rule.is_hidden() || !kind.contains(MonitorFlags::INITIAL) && !m.flags.intersects(kind) {
                continue;
            }
            let at = *seen.entry(Arc::as_ptr(&rule)).or_insert(known.len());
            let flags = kind | m.flags & MonitorFlags::INSTRUCTIONS;
            match known.get_mut(at) {
                Some((_, all)) => *all |= flags,
                None => known.push((rule, flags)),
            }
        }
    }
    known
}

/// Writes rules as a whole.
pub fn append_known(known: &[Known], target: &Target<'_>, replies: &mut MultipartWriter) {
    for (rule, flags) in known {
        let event = if flags.contains(MonitorFlags::INITIAL) {
            UpdateEvent::Initial
        } else if flags.contains(MonitorFlags::ADD) {
            UpdateEvent::Added
        } else {
            UpdateEvent::Modified
        };
        append_update(&FlowUpdate::Full(update_of(rule, event, 0, *flags)), target, replies);
    }
}

fn update_of(rule: &Rule, event: UpdateEvent, reason: u16, flags: MonitorFlags) -> FullUpdate<'_> {
    FullUpdate {
        event,
        reason,
        idle_timeout: rule.idle_timeout_s,
        hard_timeout: rule.hard_timeout_s,
        table_id: rule.table,
        priority: rule.priority,
        cookie: rule.cookie,
        matched: Cow::Borrowed(&rule.matching),
        actions: Cow::Borrowed(if flags.contains(MonitorFlags::INSTRUCTIONS) { &rule.actions } else { &[] }),
    }
}

/// A change as monitors see it: the event, the flag that asks for it, the rule, what it was before if its actions are others, and why
/// it went.
type Seen<'a> = (UpdateEvent, MonitorFlags, &'a Rule, Option<&'a Rule>, u16);

fn seen(event: &RuleEvent, by_add: bool) -> Option<Seen<'_>> {
    match event {
        RuleEvent::Added(rule) => Some((UpdateEvent::Added, MonitorFlags::ADD, rule, None, 0)),
        RuleEvent::Modified { old, new } => {
            let before = (old.actions != new.actions).then_some(&**old);
            if by_add {
                Some((UpdateEvent::Added, MonitorFlags::ADD, new, before, 0))
            } else if before.is_some() || old.cookie != new.cookie {
                Some((UpdateEvent::Modified, MonitorFlags::MODIFY, new, before, 0))
            } else {
                None
            }
        }
        RuleEvent::Removed { rule, reason } => {
            Some((UpdateEvent::Removed, MonitorFlags::REMOVED, rule, None, *reason as u16))
        }
    }
}

/// Tells the monitors of `conns` what happened, in one reply for each connection. `own` is the connection that
/// asked for it.
pub fn report<'a>(
    conns: impl Iterator<Item = &'a mut Conn>,
    own: Option<ConnId>,
    changes: &[Changes],
    tlv: &TlvTable,
    now: (u64, u32),
) {
    for conn in conns.filter(|c| !c.monitors.is_empty()) {
        let is_own = own == Some(conn.id);
        if let Some(updates) = updates_for(conn, is_own, changes, tlv) {
            updates.finish().into_iter().for_each(|m| conn.link.send_update(m));
        }
        pause_if_slow(conn, now);
    }
}

fn updates_for(conn: &Conn, is_own: bool, changes: &[Changes], tlv: &TlvTable) -> Option<MultipartWriter> {
    let target = Target { protocol: conn.protocol, tlv: Some(tlv) };
    let mut out: Option<MultipartWriter> = None;
    let mut abbreviated = false;
    for change in changes {
        for (event, kind, rule, old, reason) in change.events.iter().filter_map(|e| seen(e, change.by_add)) {
            if rule.is_hidden() || conn.monitors.misses(event, rule) {
                continue;
            }
            let flags = conn.monitors.flags_for(rule, old, kind);
            if flags.is_empty() {
                continue;
            }
            let out = out.get_or_insert_with(|| begin_updates(conn.version, 0));
            if flags.contains(MonitorFlags::ONLY_OWN) || !is_own || conn.monitors.is_paused() {
                append_update(&FlowUpdate::Full(update_of(rule, event, reason, flags)), &target, out);
            } else if !abbreviated {
                append_update(&FlowUpdate::Abbreviated(change.xid), &target, out);
                abbreviated = true;
            }
        }
    }
    out
}

impl Monitors {
    /// Whether an event is not told because of the pause.
    fn misses(&self, event: UpdateEvent, rule: &Rule) -> bool {
        self.pause.is_some_and(|p| event != UpdateEvent::Removed || rule.created_ms > p.at_ms)
    }
}

fn pause_if_slow(conn: &mut Conn, (at_ms, place): (u64, u32)) {
    if conn.monitors.is_paused() || conn.link.update_bytes() <= WAITING_BYTES_MAX {
        return;
    }
    coverage::counter::ofmonitor_pause.inc();
    conn.monitors.pause = Some(Pause { at_ms, place });
    conn.link.send_update(encode_pause(false, conn.version, 0));
    conn.link.await_updates();
}

/// Goes on with a connection whose peer has read everything.
pub fn resume(conn: &mut Conn, switch: &Switch, tlv: &TlvTable) {
    if !conn.monitors.is_paused() || conn.link.await_updates() {
        return;
    }
    coverage::counter::ofmonitor_resume.inc();
    let known = conn.monitors.resume(switch);
    if !known.is_empty() {
        let mut updates = begin_updates(conn.version, 0);
        append_known(&known, &Target { protocol: conn.protocol, tlv: Some(tlv) }, &mut updates);
        conn.reply_all(updates.finish());
    }
    conn.reply(encode_pause(true, conn.version, 0));
}
