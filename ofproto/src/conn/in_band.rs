//! In-band control: controllers that are reached through the switch that they control.
//!
//! While a controller's connection itself goes over the switch's local port, nothing would let its packets through
//! before it is connected. So for every such controller the switch has rules that forward by NORMAL what the
//! connection needs, before all rules of controllers ([`crate::overrides`]): DHCP and ARP of the local port, ARP
//! of the next hop and of the controller, TCP with the controller. IPv4 only, as in Open vSwitch (`Design Decisions
//! Of Open vSwitch`, "In-Band Control"), and only controllers that are named by their address.

use super::agent::Agent;
use super::manager::Env;
use crate::ids::OfPort;
use crate::overrides::{Owner, Wanted};
use crate::switch::Switch;
use flow::{EthAddr, Field, Match};
use openflow::action::{Action, Output, SetQueue};
use packet::proto::{arp, dhcp, ethertype, ip_proto};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The lowest of the priorities, which are those that Open vSwitch shows in `bridge/dump-flows`.
const PRIORITY_MIN: u32 = 180_000;
/// How long a next hop's MAC holds, and how soon one that is not known is asked for again.
const NEXT_HOP_KNOWN_MS: u64 = 10_000;
const NEXT_HOP_UNKNOWN_MS: u64 = 1_000;

/// What the database says of in-band control of a switch, beyond its controllers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InBandConfig {
    /// Managers of the database server, which are to be reached in the same way.
    pub managers: Vec<SocketAddrV4>,
    /// The queue for packets of the connections (`other_config:in-band-queue`).
    pub queue: Option<u32>,
}

/// Somebody to be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Remote {
    address: SocketAddrV4,
    /// MAC of the host that packets to it go to first, once that is known.
    next_hop: Option<EthAddr>,
    /// There was no way to it when that was last asked for.
    is_lost: bool,
}

/// In-band control of one switch.
#[derive(Debug, Default)]
pub struct InBand {
    config: InBandConfig,
    remotes: Vec<Remote>,
    local_mac: Option<EthAddr>,
    /// When next hops are to be asked for again.
    refresh_ms: u64,
}

impl InBand {
    /// The rules that let the remotes in and out.
    fn rules(&self) -> Vec<Wanted> {
        if self.remotes.is_empty() {
            return Vec::new();
        }
        let queue = self.config.queue.map(|queue_id| Action::SetQueue(SetQueue { queue_id }));
        let normal = Action::Output(Output { port: OfPort::NORMAL, max_len: 0 });
        let actions: Vec<Action> = queue.into_iter().chain([normal]).collect();
        let mut rules: Vec<Wanted> = Vec::new();
        let mut add = |nth: u32, matching: Match| {
            // Two remotes, or a remote and the local port, may ask for the same.
            if rules.iter().all(|r| (&r.matching.flow, &r.matching.mask) != (&matching.flow, &matching.mask))
            {
                rules.push(Wanted { matching, priority: PRIORITY_MIN + nth, actions: actions.clone() });
            }
        };
        if let Some(mac) = self.local_mac {
            add(0, dhcp_request(mac));
            add(1, arp_of(arp::REPLY).with(Field::EthDst, mac));
            add(2, arp_of(arp::REQUEST).with(Field::EthSrc, mac));
        }
        for mac in self.remotes.iter().filter_map(|r| r.next_hop) {
            add(3, arp_of(arp::REPLY).with(Field::EthDst, mac));
            add(4, arp_of(arp::REQUEST).with(Field::EthSrc, mac));
        }
        for address in self.remotes.iter().map(|r| r.address) {
            let (ip, port) = (u32::from(*address.ip()), address.port());
            add(5, arp_of(arp::REPLY).with(Field::ArpTpa, ip));
            add(6, arp_of(arp::REQUEST).with(Field::ArpSpa, ip));
            add(7, tcp().with(Field::Ipv4Dst, ip).with(Field::TcpDst, port));
            add(8, tcp().with(Field::Ipv4Src, ip).with(Field::TcpSrc, port));
        }
        rules
    }
}

fn arp_of(operation: u16) -> Match {
    Match::catchall().with(Field::EthType, ethertype::ARP).with(Field::ArpOp, operation)
}

fn tcp() -> Match {
    Match::catchall().with(Field::EthType, ethertype::IPV4).with(Field::IpProto, ip_proto::TCP)
}

/// Of the local port.
fn dhcp_request(mac: EthAddr) -> Match {
    Match::catchall()
        .with(Field::InPort, OfPort::LOCAL.0)
        .with(Field::EthSrc, mac)
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::IpProto, ip_proto::UDP)
        .with(Field::UdpSrc, dhcp::CLIENT_PORT)
        .with(Field::UdpDst, dhcp::SERVER_PORT)
}

/// Looks for the next hops; whether any changed.
fn refresh(
    remotes: &mut [Remote],
    agent: &str,
    find: impl Fn(Ipv4Addr) -> Result<Option<EthAddr>, String>,
) -> bool {
    let before = remotes.to_vec();
    for remote in &mut *remotes {
        let ip = *remote.address.ip();
        let found = find(ip);
        if let Err(problem) = &found
            && !remote.is_lost
        {
            tracing::warn!(target: "in_band", "{agent}: cannot find route for controller ({ip}): {problem}");
        }
        remote.is_lost = found.is_err();
        remote.next_hop = found.unwrap_or(None);
    }
    *remotes != before
}

impl Agent {
    /// Takes over the settings and the present controllers.
    pub fn set_in_band(&mut self, env: &Env, config: InBandConfig) {
        let addresses: Vec<_> =
            self.in_band_controllers().into_iter().chain(config.managers.iter().copied()).collect();
        if self.in_band.config == config && self.in_band.remotes.iter().map(|r| &r.address).eq(&addresses) {
            return;
        }
        let remote = |address| Remote { address, next_hop: None, is_lost: false };
        let remotes = addresses.into_iter().map(remote).collect();
        self.in_band = InBand { config, remotes, ..InBand::default() };
        self.run_in_band(env, env.now_ms());
        self.install_in_band(env);
    }

    /// Once a second: follows the local port's MAC and, less often, those of the next hops.
    pub fn run_in_band(&mut self, env: &Env, now_ms: u64) {
        if self.in_band.remotes.is_empty() {
            return;
        }
        let mut changed = false;
        if now_ms >= self.in_band.refresh_ms {
            let (id, remotes) = (self.id, &mut self.in_band.remotes);
            changed = refresh(remotes, &self.name, |ip| env.ports.next_hop(id, ip));
            let all_known = remotes.iter().all(|r| r.next_hop.is_some());
            let for_ms = if all_known { NEXT_HOP_KNOWN_MS } else { NEXT_HOP_UNKNOWN_MS };
            self.in_band.refresh_ms = now_ms + for_ms;
        }
        let local_mac =
            env.fabric.read().switch(self.id).and_then(|s| s.port(OfPort::LOCAL)).map(|p| p.link.mac);
        changed |= self.in_band.local_mac != local_mac;
        self.in_band.local_mac = local_mac;
        if changed {
            self.install_in_band(env);
        }
    }

    fn install_in_band(&self, env: &Env) {
        let rules = self.in_band.rules();
        let set = |switch: &mut Switch| switch.overrides.set(Owner::InBand, rules, env.now_ms());
        if env.fabric.write().switch_mut(self.id).is_ok_and(set) {
            env.fabric.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT_HOP: EthAddr = EthAddr([2, 0, 0, 0, 0, 9]);
    const LOCAL: EthAddr = EthAddr([2, 0, 0, 0, 0, 1]);

    fn in_band(addresses: &[&str]) -> InBand {
        let remote =
            |a: &&str| Remote { address: a.parse().unwrap(), next_hop: Some(NEXT_HOP), is_lost: false };
        InBand {
            remotes: addresses.iter().map(remote).collect(),
            local_mac: Some(LOCAL),
            ..InBand::default()
        }
    }

    fn texts(i: &InBand) -> Vec<String> {
        let text = |w: &Wanted| {
            let names = &flow::text::NoNames;
            let m = flow::text::format_match(&w.matching, Some(w.priority), names, None);
            format!("{m} {}", crate::text::actions(&w.actions))
        };
        i.rules().iter().map(text).collect()
    }

    #[test]
    fn what_a_connection_needs_is_let_through() {
        let want = [
            "priority=180000,udp,in_port=LOCAL,dl_src=02:00:00:00:00:01,tp_src=68,tp_dst=67 NORMAL",
            "priority=180001,arp,dl_dst=02:00:00:00:00:01,arp_op=2 NORMAL",
            "priority=180002,arp,dl_src=02:00:00:00:00:01,arp_op=1 NORMAL",
            "priority=180003,arp,dl_dst=02:00:00:00:00:09,arp_op=2 NORMAL",
            "priority=180004,arp,dl_src=02:00:00:00:00:09,arp_op=1 NORMAL",
            "priority=180005,arp,arp_tpa=10.0.0.9,arp_op=2 NORMAL",
            "priority=180006,arp,arp_spa=10.0.0.9,arp_op=1 NORMAL",
            "priority=180007,tcp,nw_dst=10.0.0.9,tp_dst=6653 NORMAL",
            "priority=180008,tcp,nw_src=10.0.0.9,tp_src=6653 NORMAL",
        ];
        assert_eq!(texts(&in_band(&["10.0.0.9:6653"])), want);
    }

    #[test]
    fn what_two_remotes_share_is_there_once() {
        let rules = texts(&in_band(&["10.0.0.9:6653", "10.0.0.9:6633"]));
        assert_eq!(rules.len(), 9 + 2, "{rules:?}");
        let mut alone = in_band(&[]);
        assert!(alone.rules().is_empty(), "nobody to be reached");
        alone = in_band(&["10.0.0.9:6653"]);
        alone.local_mac = None;
        alone.remotes[0].next_hop = None;
        alone.config.queue = Some(7);
        let rules = texts(&alone);
        assert_eq!(rules.len(), 4);
        assert!(rules.iter().all(|r| r.ends_with(" set_queue:7,NORMAL")), "{rules:?}");
    }

    #[test]
    fn next_hops_are_followed() {
        let mut remotes = in_band(&["10.0.0.9:6653"]).remotes;
        assert!(!refresh(&mut remotes, "br0", |_| Ok(Some(NEXT_HOP))));
        assert!(refresh(&mut remotes, "br0", |_| Err("no way".to_owned())));
        assert_eq!((remotes[0].next_hop, remotes[0].is_lost), (None, true));
        assert!(refresh(&mut remotes, "br0", |_| Ok(None)) && !remotes[0].is_lost);
        assert!(refresh(&mut remotes, "br0", |_| Ok(Some(LOCAL))));
    }
}
