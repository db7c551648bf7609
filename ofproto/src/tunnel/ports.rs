//! Which tunnel port of a switch a packet from a tunnel belongs to.
//!
//! A port fixes key, remote and local address, or leaves each of them to the flow table; the more a port fixes,
//! the sooner it is asked: first the key, then the remote address, then the local one. A local address that is
//! neither fixed nor left to flows stands between the two.

use crate::port::PortOwner;
use dpif::PortNo;
use dpif::tunnel::{PacketTypeMode, TunnelConfig, outer_dst, outer_src, show_ip};
use flow::Flow;
use hashbrown::HashMap;
use std::net::Ipv6Addr;

/// What a port is found by, from the port's point of view: `local` is where packets are received.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    in_key: u64,
    local: Ipv6Addr,
    remote: Ipv6Addr,
    dp_port: PortNo,
    mode: PacketTypeMode,
    class: Class,
}

/// What of it is left to flows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Class {
    key_flow: bool,
    remote_flow: bool,
    local: Local,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Local {
    Fixed,
    Any,
    Flow,
}

impl Key {
    fn of(config: &TunnelConfig, dp_port: PortNo) -> Self {
        let local = match config.local {
            a if a.is_flow => Local::Flow,
            a if a.ip.is_unspecified() => Local::Any,
            _ => Local::Fixed,
        };
        Key {
            in_key: config.in_key.value(),
            local: config.local.ip,
            remote: config.remote.ip,
            dp_port,
            mode: config.packet_type,
            class: Class { key_flow: config.in_key.is_flow(), remote_flow: config.remote.is_flow, local },
        }
    }

    fn of_packet(flow: &Flow, class: Class, mode: PacketTypeMode) -> Self {
        let none = Ipv6Addr::UNSPECIFIED;
        Key {
            in_key: if class.key_flow { 0 } else { flow.tunnel.id },
            local: if class.local == Local::Fixed { outer_dst(&flow.tunnel) } else { none },
            remote: if class.remote_flow { none } else { outer_src(&flow.tunnel) },
            dp_port: PortNo(flow.in_port),
            mode,
            class,
        }
    }
}

/// All classes, the first to be asked first.
fn classes() -> impl Iterator<Item = Class> {
    let both = [false, true];
    both.into_iter().flat_map(move |key_flow| {
        both.into_iter().flat_map(move |remote_flow| {
            [Local::Fixed, Local::Any, Local::Flow].map(|local| Class { key_flow, remote_flow, local })
        })
    })
}

/// The tunnel ports of all switches of a datapath.
#[derive(Debug, Default)]
pub struct TunnelPorts {
    by_key: HashMap<Key, PortOwner>,
}

impl TunnelPorts {
    /// Adds a port; false if there is one that would get the same packets.
    pub fn insert(&mut self, config: &TunnelConfig, dp_port: PortNo, owner: PortOwner) -> bool {
        match self.by_key.entry(Key::of(config, dp_port)) {
            hashbrown::hash_map::Entry::Occupied(_) => false,
            hashbrown::hash_map::Entry::Vacant(v) => {
                v.insert(owner);
                true
            }
        }
    }

    pub fn remove(&mut self, owner: PortOwner) {
        self.by_key.retain(|_, o| *o != owner);
    }

    /// Forgets the ports for which `gone` holds.
    pub fn remove_if(&mut self, gone: impl Fn(PortOwner) -> bool) {
        self.by_key.retain(|_, o| !gone(*o));
    }

    /// The port that a packet with the datapath key `flow` came in by.
    pub fn receive(&self, flow: &Flow) -> Option<PortOwner> {
        if self.by_key.is_empty() {
            return None;
        }
        let legacy =
            if flow.packet_type >> 16 == 1 { PacketTypeMode::LegacyL3 } else { PacketTypeMode::LegacyL2 };
        let keys = classes()
            .flat_map(|class| [legacy, PacketTypeMode::Ptap].map(|mode| Key::of_packet(flow, class, mode)));
        keys.into_iter().find_map(|key| self.by_key.get(&key).copied())
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Every port with its rank: what `ofproto/list-tunnels` lists first comes first.
    pub fn iter(&self) -> Vec<(PortNo, PortOwner)> {
        let rank = |class: Class| classes().position(|c| c == class);
        let mut all: Vec<(&Key, &PortOwner)> = self.by_key.iter().collect();
        all.sort_by_key(|(k, o)| (rank(k.class), k.dp_port, o.switch, o.port));
        all.into_iter().map(|(k, o)| (k.dp_port, *o)).collect()
    }
}

/// A line of `ofproto/list-tunnels`.
pub fn describe(name: &str, dp_port: PortNo, c: &TunnelConfig) -> String {
    let ends = if !c.remote.is_flow {
        format!("{}->{}", show_ip(c.local.ip), show_ip(c.remote.ip))
    } else if !c.local.is_flow {
        format!("{}->flow", show_ip(c.local.ip))
    } else {
        "flow->flow".to_owned()
    };
    let key = if c.in_key.is_flow() { "flow".to_owned() } else { hash_x(c.in_key.value()) };
    let mut out = format!("port {dp_port}: {name} ({}: {ends}, key={key}", c.kind.name());
    out += &format!(", {}, dp port={dp_port}", c.packet_type.name());
    if c.out_key != c.in_key {
        let key = match c.out_key {
            k if !k.is_present() => "none".to_owned(),
            k if k.is_flow() => "flow".to_owned(),
            k => hash_x(k.value()),
        };
        out += &format!(", out_key={key}");
    }
    out += &if c.ttl_inherit { ", ttl=inherit".to_owned() } else { format!(", ttl={}", c.ttl) };
    if c.tos_inherit {
        out += ", tos=inherit";
    } else if c.tos != 0 {
        out += &format!(", tos={:#x}", c.tos);
    }
    if !c.dont_fragment {
        out += ", df=false";
    }
    if c.csum {
        out += ", csum=true";
    }
    out + ")\n"
}

/// C's `%#x`: no `0x` in front of zero.
fn hash_x(n: u64) -> String {
    if n == 0 { "0".to_owned() } else { format!("{n:#x}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OfPort, SwitchId};
    use dpif::tunnel::{OuterAddr, Setting, TunnelKind, mapped};

    const DP: PortNo = PortNo(6081);

    fn config(remote: Option<u32>, local: Option<u32>, key: Setting<u64>) -> TunnelConfig {
        let addr = |ip: Option<u32>| OuterAddr { ip: mapped(ip.unwrap_or(0)), is_flow: false };
        let flow = OuterAddr { ip: Ipv6Addr::UNSPECIFIED, is_flow: true };
        TunnelConfig {
            remote: if remote.is_some() { addr(remote) } else { flow },
            local: if local.is_some() { addr(local) } else { OuterAddr::default() },
            in_key: key,
            out_key: key,
            ..TunnelConfig::new(TunnelKind::Geneve)
        }
    }

    fn owner(no: u16) -> PortOwner {
        PortOwner { switch: SwitchId(1), port: OfPort(no) }
    }

    fn packet(src: u32, dst: u32, key: u64) -> Flow {
        let mut f = Flow { in_port: DP.0, ..Flow::ZERO };
        (f.tunnel.src, f.tunnel.dst, f.tunnel.id) = (src, dst, key);
        f
    }

    #[test]
    fn what_fixes_more_is_asked_first() {
        let mut t = TunnelPorts::default();
        let fixed = Setting::Fixed(5);
        for (no, c) in [
            (1, config(None, None, Setting::Flow)),
            (2, config(Some(9), None, Setting::Flow)),
            (3, config(None, None, fixed)),
            (4, config(Some(9), None, fixed)),
            (5, config(Some(9), Some(8), fixed)),
        ] {
            assert!(t.insert(&c, DP, owner(no)));
            assert!(!t.insert(&c, DP, owner(no + 100)), "the same again");
        }
        let port = |src, dst, key| t.receive(&packet(src, dst, key)).map(|o| o.port.0);
        assert_eq!(port(9, 8, 5), Some(5));
        assert_eq!(port(9, 7, 5), Some(4));
        assert_eq!(port(1, 7, 5), Some(3));
        assert_eq!(port(9, 8, 6), Some(2));
        assert_eq!(port(1, 8, 6), Some(1));
        assert_eq!(t.receive(&Flow { in_port: 1, ..packet(9, 8, 5) }), None);
        assert_eq!(t.receive(&Flow { packet_type: 0x1_0800, ..packet(9, 8, 5) }), None);
        t.remove(owner(5));
        assert_eq!(t.receive(&packet(9, 8, 5)).map(|o| o.port.0), Some(4));
    }

    #[test]
    fn lines() {
        let c = config(Some(0x0101_025c), None, Setting::Fixed(123));
        let line = describe("t1", DP, &c);
        assert_eq!(line, "port 6081: t1 (geneve: ::->1.1.2.92, key=0x7b, legacy_l2, dp port=6081, ttl=64)\n");
    }
}
