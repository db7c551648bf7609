//! What outlives a restart of the process: flow tables, learned addresses, and what controllers have set.
//!
//! The saved types have a schema of their own. Matches are OXM bytes (OpenFlow 1.5), actions
//! [`SavedActions`], ports and bundles go by name or number, and times are ages, since every process has its
//! own clock. Rules that the switch makes for itself are not saved.

use crate::admin::AdminError;
use crate::ids::{BundleId, SwitchId};
use crate::rule::{Count, Counters, Rule, RuleFlags};
use crate::switch::{State, Switch};
use crate::table::{TBL_INTERNAL, Table, TableMiss, Vacancy};
use flow::oxm;
use flow::{EthAddr, Match, MiniMatch, TlvTable};
use groups::{SavedGroup, SavedMeter};
use openflow::PortNo;
use openflow::action::{self, CheckParams, SavedActions};
use openflow::msg::switch_config::FragHandling;
use saved_state::{Extensible, Saved};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub mod groups;

/// `ofp_header.version` of the bytes of matches.
const OXM_VERSION: u8 = 6;

/// All switches of a datapath.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SavedSwitches {
    pub switches: Vec<Extensible<SavedSwitch>>,
}

impl Saved for SavedSwitches {
    const NAME: &'static str = "ofproto/switches";
    const VERSION: u32 = 1;
}

/// One switch.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SavedSwitch {
    /// Of the Bridge row.
    pub name: String,
    /// What to do with IP fragments, as `OFPC_FRAG_*`.
    pub frag: u8,
    pub tlv: Vec<SavedTlv>,
    /// Tables that differ from a new one.
    pub tables: Vec<Extensible<SavedTable>>,
    pub rules: Vec<Extensible<SavedRule>>,
    pub macs: Vec<Extensible<SavedMac>>,
    /// The newest election of a primary controller.
    pub election: Option<u64>,
    pub groups: Vec<Extensible<SavedGroup>>,
    pub meters: Vec<Extensible<SavedMeter>>,
}

/// A mapped tunnel option.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedTlv {
    pub index: u16,
    pub class: u16,
    pub kind: u8,
    pub len: u8,
}

/// What controllers have set of a table, and its counters.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SavedTable {
    pub id: u8,
    /// 0 default, 1 controller, 2 continue, 3 drop.
    pub miss: u8,
    pub evict: bool,
    pub name: Option<String>,
    /// Thresholds down and up in percent, and whether the next event is "up".
    pub vacancy: Option<(u8, u8, bool)>,
    pub matched: u64,
    pub missed: u64,
}

/// A rule. Ages in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedRule {
    pub table: u8,
    pub priority: u16,
    /// OXM of OpenFlow 1.5 without a header.
    pub matching: Vec<u8>,
    pub actions: SavedActions,
    pub cookie: u64,
    pub idle_timeout_s: u16,
    pub hard_timeout_s: u16,
    pub importance: u16,
    /// `OFPFF_*` as OpenFlow 1.3 numbers them.
    pub flags: u16,
    pub age_ms: u64,
    pub modified_age_ms: u64,
    pub used_age_ms: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// A learned or configured address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedMac {
    pub mac: [u8; 6],
    pub vlan: u16,
    /// Of the Port row.
    pub port: String,
    pub age_s: u64,
    pub is_static: bool,
}

/// Flags of rules and `OFPFF_*`.
const FLAGS: [(RuleFlags, u16); 5] = [
    (RuleFlags::SEND_FLOW_REM, 1 << 0),
    (RuleFlags::CHECK_OVERLAP, 1 << 1),
    (RuleFlags::RESET_COUNTS, 1 << 2),
    (RuleFlags::NO_PACKET_COUNTS, 1 << 3),
    (RuleFlags::NO_BYTE_COUNTS, 1 << 4),
];

const MISSES: [TableMiss; 4] =
    [TableMiss::Default, TableMiss::Controller, TableMiss::Continue, TableMiss::Drop];

const FRAGS: [FragHandling; 4] =
    [FragHandling::Normal, FragHandling::Drop, FragHandling::Reassemble, FragHandling::NxMatch];

/// How much of a saved switch could be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    pub rules: usize,
    /// Rules and groups whose bytes make no sense to this program.
    pub refused: usize,
    pub macs: usize,
    pub groups: usize,
    pub meters: usize,
}

/// Saves all switches of a datapath.
pub fn save(state: &State, elections: impl Fn(SwitchId) -> Option<u64>, now_ms: u64) -> SavedSwitches {
    let one = |s: &Switch| Extensible(SavedSwitch { election: elections(s.id), ..save_switch(s, now_ms) });
    SavedSwitches { switches: state.switches.values().map(one).collect() }
}

fn save_switch(switch: &Switch, now_ms: u64) -> SavedSwitch {
    let tlv = |(i, slot): (usize, &flow::TlvSlot)| SavedTlv {
        index: i as u16,
        class: slot.class,
        kind: slot.kind,
        len: slot.len,
    };
    let visible = || switch.tables.iter().zip(0..TBL_INTERNAL);
    let rules = visible().flat_map(|(t, _)| t.all(switch.next_place())).filter(|r| !r.is_hidden());
    let tables = visible().map(|(t, id)| save_table(t, id));
    SavedSwitch {
        name: switch.name.clone(),
        frag: switch.frag as u8,
        tlv: switch.tlv.iter().map(tlv).collect(),
        tables: tables
            .filter(|t| *t != SavedTable { id: t.id, ..SavedTable::default() })
            .map(Extensible)
            .collect(),
        rules: rules.map(|r| Extensible(save_rule(&r, &switch.tlv, now_ms))).collect(),
        macs: save_macs(switch, now_ms).into_iter().map(Extensible).collect(),
        election: None,
        groups: groups::save_groups(switch, now_ms),
        meters: groups::save_meters(switch, now_ms),
    }
}

fn save_table(table: &Table, id: u8) -> SavedTable {
    let matched = table.counters.matched();
    SavedTable {
        id,
        miss: MISSES.iter().position(|m| *m == table.miss).unwrap_or(0) as u8,
        evict: table.evict_by_controller,
        name: table.controller_name.clone(),
        vacancy: table.vacancy.enabled.then_some((
            table.vacancy.down_pct,
            table.vacancy.up_pct,
            table.vacancy.below,
        )),
        matched,
        missed: table.counters.looked_up().saturating_sub(matched),
    }
}

fn save_rule(rule: &Rule, tlv: &TlvTable, now_ms: u64) -> SavedRule {
    let count = rule.counters.count();
    let age = |since: u64| now_ms.saturating_sub(since);
    let mut matching = Vec::new();
    oxm::encode(&mut matching, &rule.matching.expand(), OXM_VERSION, Some(tlv));
    let flags = FLAGS.iter().filter(|(f, _)| rule.flags.contains(*f));
    SavedRule {
        table: rule.table,
        priority: rule.priority,
        matching,
        actions: SavedActions::new(&rule.actions, tlv),
        cookie: rule.cookie,
        idle_timeout_s: rule.idle_timeout_s,
        hard_timeout_s: rule.hard_timeout_s,
        importance: rule.importance,
        flags: flags.fold(0, |bits, (_, bit)| bits | bit),
        age_ms: age(rule.created_ms),
        modified_age_ms: age(rule.modified_ms()),
        used_age_ms: age(rule.counters.used_ms()),
        packets: count.packets,
        bytes: count.bytes,
    }
}

fn save_macs(switch: &Switch, now_ms: u64) -> Vec<SavedMac> {
    let macs = switch.macs.lock();
    let port = |id: BundleId| switch.bundles.get(&id).map(|b| b.settings.name.clone());
    let entry = |(vlan, mac, e): (u16, EthAddr, crate::mac_table::Entry)| {
        Some(SavedMac {
            mac: mac.0,
            vlan,
            port: port(e.bundle)?,
            age_s: macs.age_s(&e, now_ms),
            is_static: e.expires_ms.is_none(),
        })
    };
    macs.iter().into_iter().filter_map(entry).collect()
}

impl State {
    /// Gives a switch, whose ports and bundles exist, what a former process had saved of it. Rules of
    /// the same match and priority are replaced. Follow with [`crate::fabric::Fabric::changed`].
    pub fn restore(
        &mut self,
        id: SwitchId,
        saved: &SavedSwitch,
        now_ms: u64,
    ) -> Result<Restored, AdminError> {
        let mut restored = restore_switch(self.switch_mut(id)?, saved, now_ms);
        for Extensible(m) in &saved.meters {
            restored.meters += usize::from(self.put_meter(id, groups::restored_meter(m, now_ms)));
        }
        Ok(restored)
    }
}

fn restore_switch(switch: &mut Switch, saved: &SavedSwitch, now_ms: u64) -> Restored {
    let mut restored = Restored::default();
    if let Some(frag) = FRAGS.get(usize::from(saved.frag)) {
        switch.frag = *frag;
    }
    let mut tlv = TlvTable::EMPTY;
    for t in &saved.tlv {
        // A mapping that is refused makes the rules that need it be refused.
        let _ = tlv.add(t.index.into(), t.class, t.kind, t.len);
    }
    switch.tlv = Arc::new(tlv);
    for Extensible(t) in &saved.tables {
        if let Some(table) = switch.tables.get_mut(usize::from(t.id)).filter(|_| t.id < TBL_INTERNAL) {
            restore_table(table, t);
        }
    }
    for Extensible(g) in &saved.groups {
        match groups::restore_group(switch, g, now_ms) {
            Some(()) => restored.groups += 1,
            None => restored.refused += 1,
        }
    }
    for Extensible(r) in &saved.rules {
        match restore_rule(switch, r, now_ms) {
            Some(()) => restored.rules += 1,
            None => restored.refused += 1,
        }
    }
    for Extensible(m) in &saved.macs {
        restored.macs += usize::from(restore_mac(switch, m, now_ms));
    }
    restored
}

fn restore_table(table: &mut Table, saved: &SavedTable) {
    table.miss = MISSES.get(usize::from(saved.miss)).copied().unwrap_or_default();
    table.evict_by_controller = saved.evict;
    table.controller_name = saved.name.clone();
    if let Some((down_pct, up_pct, below)) = saved.vacancy {
        table.vacancy = Vacancy { enabled: true, down_pct, up_pct, below };
    }
    table.counters.credit(true, saved.matched);
    table.counters.credit(false, saved.missed);
}

fn restore_rule(switch: &mut Switch, saved: &SavedRule, now_ms: u64) -> Option<()> {
    let tlv = switch.tlv.clone();
    let options =
        oxm::Options { loose: false, allow_cookie: false, pipeline_fields_only: false, tlv: Some(&tlv) };
    let m: Match = oxm::decode_fields(&saved.matching, options).ok()?;
    let mut actions = saved.actions.restore(&tlv).ok()?;
    let params = CheckParams {
        flow: &m.flow,
        mask: &m.mask,
        ports_max: PortNo::MAX,
        table_id: Some(saved.table),
        n_tables: crate::handle::N_TABLES,
    };
    action::check(&mut actions, &params).ok()?;
    let since = |age_ms: u64| now_ms.saturating_sub(age_ms);
    let counters = Counters::new(since(saved.used_age_ms));
    counters.credit(Count { packets: saved.packets, bytes: saved.bytes }, 0);
    let flags = FLAGS.iter().filter(|(_, bit)| saved.flags & bit != 0);
    let rule = Rule {
        table: saved.table,
        priority: saved.priority,
        matching: MiniMatch::from(&m),
        cookie: saved.cookie,
        actions: actions.into(),
        idle_timeout_s: saved.idle_timeout_s,
        hard_timeout_s: saved.hard_timeout_s,
        importance: saved.importance,
        flags: flags.map(|(f, _)| *f).collect(),
        place: switch.new_place(),
        created_ms: since(saved.age_ms),
        modified_ms: since(saved.modified_age_ms).into(),
        counters: Arc::new(counters),
    };
    switch.put_back(Arc::new(rule))
}

fn restore_mac(switch: &Switch, saved: &SavedMac, now_ms: u64) -> bool {
    let Some(bundle) = switch.bundles.values().find(|b| b.settings.name == saved.port) else { return false };
    let mut macs = switch.macs.lock();
    let mac = EthAddr(saved.mac);
    let seen_ms = now_ms.saturating_sub(saved.age_s.saturating_mul(1000));
    if saved.is_static {
        macs.add_static(mac, saved.vlan, bundle.id, seen_ms);
    } else {
        macs.learn(mac, saved.vlan, bundle.id, seen_ms, false);
    }
    true
}

#[cfg(test)]
mod tests;
