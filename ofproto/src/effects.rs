//! What a translation owes to each packet that uses it.
//!
//! A megaflow stands for packets that the switch never sees. Its translation leaves a list of effects;
//! whenever the datapath reports that packets passed, each effect is applied with their number.

use crate::bfd::Bfd;
use crate::ids::{BundleId, SwitchId};
use crate::learn::LearnedFlow;
use crate::mirror::MirrorStats;
use crate::port::VirtualStats;
use crate::rule::{Count, Rule};
use crate::switch::State;
use crate::table::TableCounters;
use flow::EthAddr;
use std::sync::Arc;

/// One consequence of passing packets.
#[derive(Clone, Debug)]
pub enum Effect {
    Rule(Arc<Rule>),
    Table {
        counters: Arc<TableCounters>,
        hit: bool,
    },
    /// Packets went out over a port without a device, and came in on its peer.
    Patch {
        from: Arc<VirtualStats>,
        to: Arc<VirtualStats>,
    },
    /// Packets were copied for a mirror.
    Mirror(Arc<MirrorStats>),
    /// Packets that are not of the session came in by its port.
    Data(Arc<Bfd>),
    /// NORMAL learned, or refreshed, an address.
    Mac {
        switch: SwitchId,
        mac: EthAddr,
        vlan: u16,
        bundle: BundleId,
        grat_arp: bool,
    },
    /// A `learn` action made, or refreshed, a flow.
    Learn {
        switch: SwitchId,
        flow: Arc<LearnedFlow>,
    },
    /// A `fin_timeout` action; acts when a FIN or RST was seen.
    FinTimeout {
        switch: SwitchId,
        rule: Arc<Rule>,
        idle_s: u16,
        hard_s: u16,
    },
}

/// Changes to tables that effects ask for; they need the writer's lock and wait until the reader is done.
#[derive(Debug)]
pub enum Deferred {
    Learn { switch: SwitchId, flow: Arc<LearnedFlow> },
    ShortenTimeouts { switch: SwitchId, rule: Arc<Rule>, idle_s: u16, hard_s: u16 },
}

/// What passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    pub count: Count,
    /// When the last packet passed.
    pub used_ms: u64,
    /// All TCP flags seen.
    pub tcp_flags: u16,
}

const TCP_FIN_RST: u16 = 0x001 | 0x004;

/// Applies `effects`; what needs the writer's lock is appended to `deferred`.
pub fn apply(state: &State, effects: &[Effect], passed: Passed, deferred: &mut Vec<Deferred>) {
    for effect in effects {
        match effect {
            Effect::Rule(rule) => rule.counters.credit(passed.count, passed.used_ms),
            Effect::Table { counters, hit } => counters.credit(*hit, passed.count.packets),
            Effect::Patch { from, to } => {
                from.add_tx(passed.count.packets, passed.count.bytes);
                to.add_rx(passed.count.packets, passed.count.bytes);
            }
            Effect::Data(bfd) => bfd.saw_data(passed.used_ms),
            Effect::Mirror(stats) => stats.add(passed.count.packets, passed.count.bytes),
            Effect::Mac { switch, mac, vlan, bundle, grat_arp } => {
                if let Some(sw) = state.switch(*switch) {
                    sw.learn_mac(*mac, *vlan, *bundle, passed.used_ms, *grat_arp);
                }
            }
            Effect::Learn { switch, flow } => {
                deferred.push(Deferred::Learn { switch: *switch, flow: flow.clone() });
            }
            Effect::FinTimeout { switch, rule, idle_s, hard_s } if passed.tcp_flags & TCP_FIN_RST != 0 => {
                deferred.push(Deferred::ShortenTimeouts {
                    switch: *switch,
                    rule: rule.clone(),
                    idle_s: *idle_s,
                    hard_s: *hard_s,
                });
            }
            Effect::FinTimeout { .. } => {}
        }
    }
}
