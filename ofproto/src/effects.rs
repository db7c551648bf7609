//! What a translation owes to each packet that uses it.
//!
//! A megaflow stands for packets that the switch never sees. Its translation leaves a list of effects;
//! whenever the datapath reports that packets passed, each effect is applied with their number.

use crate::bfd::Bfd;
use crate::groups::Group;
use crate::ids::{BundleId, OfPort, SwitchId};
use crate::learn::LearnedFlow;
use crate::mirror::MirrorStats;
use crate::port::VirtualStats;
use crate::rule::{Count, Rule};
use crate::switch::State;
use crate::table::TableCounters;
use flow::EthAddr;
use packet::{Packet, compose};
use std::net::Ipv6Addr;
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
    /// Packets came out of a tunnel port, or went into one.
    PortRx(Arc<VirtualStats>),
    PortTx(Arc<VirtualStats>),
    /// What follows concerns packets that are so many bytes longer: outer ones.
    Encapsulated(u32),
    Decapsulated(u32),
    /// A neighbour said where it is.
    Neighbour {
        bridge: Arc<str>,
        ip: Ipv6Addr,
        mac: EthAddr,
    },
    /// Packets went to a neighbour: it stays known.
    NeighbourUsed {
        bridge: Arc<str>,
        ip: Ipv6Addr,
    },
    /// Packets wait for nobody, but somebody should ask where the next hop is.
    Solicit(Arc<Solicitation>),
    /// Packets were copied for a mirror.
    Mirror(Arc<MirrorStats>),
    /// Packets that are not of the session came in by its port.
    Data(Arc<Bfd>),
    /// A group sent packets to a bucket, or to all.
    Group {
        group: Arc<Group>,
        bucket: Option<usize>,
    },
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

/// A question where a neighbour is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Solicitation {
    /// The port by which it is sent, as if the host had sent it there.
    pub switch: SwitchId,
    pub port: OfPort,
    pub mac: EthAddr,
    pub src: Ipv6Addr,
    pub target: Ipv6Addr,
}

impl Effect {
    /// Whether to apply it may take the writer's lock, or send a packet.
    pub fn may_change_tables(&self) -> bool {
        matches!(self, Effect::Learn { .. } | Effect::FinTimeout { .. } | Effect::Solicit(_))
    }

    /// Whether it is owed by every packet, not just by the one that was translated. What a neighbour says is not: when
    /// it is credited later, somebody else may have said something newer.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Effect::Neighbour { .. })
    }
}

impl Solicitation {
    /// The frame that asks.
    pub fn packet(&self) -> Packet {
        match self.target.to_ipv4_mapped() {
            Some(target) => {
                let src = self.src.to_ipv4_mapped().map_or(0, u32::from);
                compose::arp(ARP_REQUEST, self.mac, EthAddr::ZERO, true, src, target.into())
            }
            None => {
                let [src, target] = [self.src, self.target].map(|ip| u128::from(ip).into());
                compose::neighbor_solicit(self.mac, src, target)
            }
        }
    }
}

const ARP_REQUEST: u16 = 1;

/// Changes to tables that effects ask for; they need the writer's lock and wait until the reader is done.
#[derive(Debug)]
pub enum Deferred {
    Learn {
        switch: SwitchId,
        flow: Arc<LearnedFlow>,
    },
    ShortenTimeouts {
        switch: SwitchId,
        rule: Arc<Rule>,
        idle_s: u16,
        hard_s: u16,
    },
    /// Needs no lock at all.
    Solicit(Arc<Solicitation>),
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
pub fn apply(state: &State, effects: &[Effect], mut passed: Passed, deferred: &mut Vec<Deferred>) {
    for effect in effects {
        match effect {
            Effect::Rule(rule) => rule.counters.credit(passed.count, passed.used_ms),
            Effect::PortRx(port) => port.add_rx(passed.count.packets, passed.count.bytes),
            Effect::PortTx(port) => port.add_tx(passed.count.packets, passed.count.bytes),
            Effect::Encapsulated(len) => passed.count.bytes += passed.count.packets * u64::from(*len),
            Effect::Decapsulated(len) => passed.count.bytes -= passed.count.packets * u64::from(*len),
            Effect::Neighbour { bridge, ip, mac } => {
                state.underlay.set_neighbour(bridge, *ip, *mac, passed.used_ms);
            }
            Effect::NeighbourUsed { bridge, ip } => {
                state.underlay.refresh_neighbour(bridge, *ip, passed.used_ms);
            }
            Effect::Solicit(question) => deferred.push(Deferred::Solicit(question.clone())),
            Effect::Table { counters, hit } => counters.credit(*hit, passed.count.packets),
            Effect::Patch { from, to } => {
                from.add_tx(passed.count.packets, passed.count.bytes);
                to.add_rx(passed.count.packets, passed.count.bytes);
            }
            Effect::Data(bfd) => bfd.saw_data(passed.used_ms),
            Effect::Mirror(stats) => stats.add(passed.count.packets, passed.count.bytes),
            Effect::Group { group, bucket } => group.credit(*bucket, passed.count, passed.used_ms),
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
