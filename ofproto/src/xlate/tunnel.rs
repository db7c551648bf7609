//! Tunnels: packets that came out of one, that go into one, and outer packets that end here.
//!
//! A packet for a tunnel gets its outer header in the datapath and goes on as the outer packet, through the tables
//! of the switch that has the device to the other end, without coming up again.

use super::ctx::Ctx;
use crate::effects::{Effect, Solicitation};
use crate::ids::in_port;
use crate::port::Port;
use crate::switch::Switch;
use dpif::tunnel::{
    Ends, PacketTypeMode, TunnelConfig, build, mapped, outer_dst, outer_src, outer_v6, show_ip, split_ip,
};
use dpif::{Action, DropReason, PortNo, TunnelPush};
use flow::{EthAddr, Flow, Mask, PT_ETH, Tunnel, U128, Vlan, packet_type_of_ethertype, tun_flags};
use packet::proto::{ethertype, ip_proto, nd};
use std::net::Ipv6Addr;
use std::sync::Arc;

const DSCP: u8 = 0xfc;
const ECN: u8 = 0x03;
const ECN_CE: u8 = 3;
const ECN_ECT_0: u8 = 2;
const ARP_REPLY: u8 = 2;
/// Tunnel flags that `set_field` may set; the others are the port's.
const PUBLIC_FLAGS: u16 = tun_flags::OAM;

/// The next hop of an outer packet.
struct Hop<'a> {
    switch: &'a Switch,
    port: &'a Port,
    ip: Ipv6Addr,
    src: Ipv6Addr,
}

/// The mask of what every packet from a tunnel is looked at for.
pub fn initial_mask(flow: &Flow, wc: &mut Mask) {
    let t = &mut wc.0.tunnel;
    t.id = u64::MAX;
    if flow.tunnel.dst != 0 {
        (t.src, t.dst) = (u32::MAX, u32::MAX);
    } else {
        (t.ipv6_src, t.ipv6_dst) = (U128::MAX, U128::MAX);
    }
    t.flags = tun_flags::DONT_FRAGMENT | tun_flags::CSUM | tun_flags::KEY;
    t.tos = u8::MAX;
    if flow.is_ip() && flow.tunnel.tos & ECN == ECN_CE {
        wc.nw_tos |= ECN;
    }
}

impl<'a> Ctx<'a> {
    /// Puts what the datapath says of a packet into the tables' terms. False if the packet is to be dropped.
    pub fn accept(&mut self) -> bool {
        if self.flow.tunnel.flags & tun_flags::UDPIF != 0 {
            match self.switch.tlv.from_raw(&self.flow.tunnel, &self.flow.tunnel) {
                Ok(tunnel) => self.flow.tunnel = tunnel,
                Err(_) => {
                    self.fail(DropReason::InvalidTunnelMetadata, "Invalid Geneve tunnel metadata");
                    return false;
                }
            }
        }
        let port = self.switch.port(in_port(&self.flow));
        let is_l3 = port.is_some_and(|p| p.packet_type_mode() == PacketTypeMode::LegacyL3);
        if is_l3 && self.flow.packet_type != PT_ETH {
            self.flow.packet_type = PT_ETH;
            (self.flow.dl_src, self.flow.dl_dst) = (EthAddr::ZERO, EthAddr::ZERO);
            self.pending_encap = true;
        }
        if let Some(port) = port.filter(|p| p.tunnel().is_some() && self.flow.tunnel.is_set()) {
            self.effects.push(Effect::PortRx(port.virtual_stats.clone()));
        }
        self.accept_congestion()
    }

    /// Congestion that the outer header met is the inner packet's (RFC 6040, 4.2).
    fn accept_congestion(&mut self) -> bool {
        let f = &mut self.flow;
        if !f.tunnel.is_set() || !f.is_ip() || f.tunnel.tos & ECN != ECN_CE {
            return true;
        }
        if f.nw_tos & ECN == 0 {
            self.error = DropReason::Congestion;
            return false;
        }
        f.nw_tos |= ECN_CE;
        true
    }

    /// Sends the packet into a tunnel.
    pub fn send_to_tunnel(&mut self, port: &Port, dp_port: PortNo, config: &TunnelConfig) {
        let before = self.flow.clone();
        self.prepare(config);
        let dst = outer_dst(&self.flow.tunnel);
        if dst == outer_dst(&self.original.tunnel) {
            self.warn("Not tunneling to our own address");
        } else {
            self.effects.push(Effect::PortTx(port.virtual_stats.clone()));
            self.detail("output to native tunnel");
            self.commit();
            self.push_into(dp_port, config);
        }
        let pkt_mark = self.flow.pkt_mark;
        self.flow = before;
        self.flow.pkt_mark = pkt_mark;
    }

    /// Completes the tunnel fields from the port's options.
    fn prepare(&mut self, c: &TunnelConfig) {
        let (f, wc) = (&mut self.flow, &mut self.wc);
        if !c.local.is_flow {
            (f.tunnel.src, f.tunnel.ipv6_src) = split_ip(c.local.ip);
        }
        if !c.remote.is_flow {
            (f.tunnel.dst, f.tunnel.ipv6_dst) = split_ip(c.remote.ip);
        }
        f.tunnel.tp_dst = c.dst_port;
        if !c.out_key.is_flow() {
            f.tunnel.id = c.out_key.value();
        }
        let is_ip = f.is_ip();
        if c.ttl_inherit && is_ip {
            wc.nw_ttl = u8::MAX;
            f.tunnel.ttl = f.nw_ttl;
        } else {
            f.tunnel.ttl = c.ttl;
        }
        if c.tos_inherit && is_ip {
            wc.nw_tos |= DSCP;
            f.tunnel.tos = f.nw_tos & DSCP;
        } else {
            f.tunnel.tos = c.tos;
        }
        if is_ip {
            wc.nw_tos |= ECN;
            // Congestion experienced is not said again (RFC 6040, 4.1).
            f.tunnel.tos |= if f.nw_tos & ECN == ECN_CE { ECN_ECT_0 } else { f.nw_tos & ECN };
        }
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        f.tunnel.flags = f.tunnel.flags & PUBLIC_FLAGS
            | flag(c.dont_fragment, tun_flags::DONT_FRAGMENT)
            | flag(c.csum, tun_flags::CSUM)
            | flag(c.out_key.is_present(), tun_flags::KEY);
        if let Some(mark) = c.egress_pkt_mark {
            f.pkt_mark = mark;
            wc.pkt_mark = u32::MAX;
        }
        let t = &mut f.tunnel;
        t.erspan_ver = c.erspan_ver.or_flow(t.erspan_ver);
        t.erspan_idx = c.erspan_idx.or_flow(t.erspan_idx);
        t.erspan_dir = c.erspan_dir.or_flow(t.erspan_dir);
        t.erspan_hwid = c.erspan_hwid.or_flow(t.erspan_hwid);
    }

    /// Adds the outer header and goes on with the outer packet.
    fn push_into(&mut self, dp_port: PortNo, config: &TunnelConfig) {
        let Some(hop) = self.next_hop() else {
            self.warn("native tunnel routing failed");
            return;
        };
        let (to, via) = (show_ip(hop.ip), hop.port.name.clone());
        self.detail(&format!("tunneling to {to} via {via}"));
        let bridge: Arc<str> = hop.switch.name.as_str().into();
        let now_ms = self.fabric.clock.now_ms();
        let Some(dst_mac) = self.fabric.underlay.neighbour(&bridge, hop.ip, now_ms) else {
            self.solicit(&hop, &bridge);
            return;
        };
        self.effects.push(Effect::NeighbourUsed { bridge, ip: hop.ip });
        let src_mac = hop.port.link.mac;
        self.detail(&format!("tunneling from {src_mac} {} to {dst_mac} {to}", show_ip(hop.src)));
        let ends = Ends { src_mac, dst_mac, src_ip: hop.src };
        // What takes the Ethernet header off stays with this copy.
        let base = self.base.clone();
        let outside = std::mem::take(&mut self.actions);
        if let Some(max) = self.trunc {
            self.actions.push(Action::Trunc(max));
        }
        self.strip_for(config);
        let Ok((vport_type, header)) = build(config, &self.flow, &self.switch.tlv, &ends) else {
            self.warn("native tunnel header build failed");
            (self.actions, self.base) = (outside, base);
            return;
        };
        let out_port = hop.port.dp_port().unwrap_or(PortNo::NONE);
        let header_len = header.len() as u32;
        let push = TunnelPush { tunnel_port: dp_port, out_port, vport_type, header };
        self.actions.push(Action::TunnelPush(Box::new(push)));
        let before = self.actions.len();
        self.be_outer(config, &ends);
        self.effects.push(Effect::Encapsulated(header_len));
        self.go_on_outside(&hop);
        self.effects.push(Effect::Decapsulated(header_len));
        let inside = std::mem::replace(&mut self.actions, outside);
        if inside.len() > before {
            self.actions.push(Action::Clone(inside));
        }
        self.base = base;
    }

    /// Takes the Ethernet header off for a tunnel that carries none.
    fn strip_for(&mut self, config: &TunnelConfig) {
        if config.packet_type != PacketTypeMode::LegacyL3 || self.flow.packet_type != PT_ETH {
            return;
        }
        self.flow.packet_type = packet_type_of_ethertype(self.flow.dl_type);
        let pending = std::mem::take(&mut self.pending_encap);
        self.commit();
        self.pending_encap = pending;
    }

    fn next_hop(&self) -> Option<Hop<'a>> {
        let state = self.state;
        let t = &self.flow.tunnel;
        let dst = outer_dst(t);
        // As in the stock daemon, only an IPv4 source is asked for.
        let wanted = (t.src != 0).then(|| outer_src(t));
        let route = self.fabric.underlay.route(self.flow.pkt_mark, dst, wanted)?;
        let has_gateway = !matches!(route.gateway.to_ipv4_mapped(), Some(v4) if v4.is_unspecified())
            && !route.gateway.is_unspecified();
        let own = state.switch_by_name(&route.device);
        let all = own.into_iter().chain(state.switches.values());
        let (switch, port) = all.into_iter().find_map(|sw| Some((sw, sw.port_by_name(&route.device)?)))?;
        // An IPv6 source that the flow sets goes into the header, whatever the route says.
        let src = if t.src == 0 && !t.ipv6_src.is_zero() { outer_v6(t.ipv6_src) } else { route.src };
        Some(Hop { switch, port, ip: if has_gateway { route.gateway } else { dst }, src })
    }

    /// Has somebody asked who the next hop is.
    fn solicit(&mut self, hop: &Hop<'_>, bridge: &str) {
        let is_v4 = hop.ip.to_ipv4_mapped().is_some();
        let (to, what) = (show_ip(hop.ip), if is_v4 { "ARP" } else { "ND" });
        self.detail(&format!("neighbor cache miss for {to} on bridge {bridge}, sending {what} request"));
        let src = self.fabric.underlay.source_for(hop.ip, bridge).unwrap_or(hop.src);
        self.effects.push(Effect::Solicit(Arc::new(Solicitation {
            switch: hop.switch.id,
            port: hop.port.no,
            mac: hop.port.link.mac,
            src,
            target: hop.ip,
        })));
    }

    /// The key of the outer packet, as the tables see it and as it is.
    fn be_outer(&mut self, config: &TunnelConfig, ends: &Ends) {
        let t = self.flow.tunnel.clone();
        let (is_v6, proto) = (t.dst == 0, config.kind.ip_proto());
        let src = split_ip(ends.src_ip);
        for f in [&mut self.base, &mut self.flow] {
            (f.dl_dst, f.dl_src) = (ends.dst_mac, ends.src_mac);
            f.vlans = [Vlan::default(); flow::VLANS_MAX];
            f.packet_type = PT_ETH;
            f.dl_type = if is_v6 { ethertype::IPV6 } else { ethertype::IPV4 };
            (f.nw_src, f.nw_dst) = (src.0, t.dst);
            (f.ipv6_src, f.ipv6_dst) = (src.1, t.ipv6_dst);
            (f.nw_proto, f.nw_tos, f.nw_ttl, f.nw_frag) = (proto, t.tos, t.ttl, 0);
            (f.tp_src, f.tp_dst) = (t.tp_src, t.tp_dst);
            (f.tcp_flags, f.ipv6_label) = (0, 0);
            f.mpls_lse = [0; flow::MPLS_LABELS_MAX];
            (f.arp_sha, f.arp_tha, f.nd_target, f.nd_reserved) =
                (EthAddr::ZERO, EthAddr::ZERO, U128::ZERO, 0);
            f.nsh = flow::Nsh::default();
        }
    }

    /// Translates the outer packet as if the host had sent it by the device. What it looks at is not the inner
    /// packet's, and what becomes of it is no reason to drop that.
    fn go_on_outside(&mut self, hop: &Hop<'a>) {
        let wc = std::mem::replace(&mut self.wc, Mask::NONE);
        let (has_packet, trunc, pending) = (
            std::mem::take(&mut self.has_packet),
            self.trunc.take(),
            std::mem::take(&mut self.pending_encap),
        );
        self.cross_to(hop.switch, hop.port.no);
        self.error = DropReason::Ok;
        (self.has_packet, self.trunc, self.pending_encap) = (has_packet, trunc, pending);
        self.wc = wc;
    }

    /// The datapath port that takes an outer header off a packet about to be sent to `port`, if it ends there. If
    /// not, it may be a neighbour's answer.
    pub fn terminate(&mut self, port: &Port) -> Option<PortNo> {
        // Without a tunnel nobody asks for neighbours, and what they say is traffic like any other.
        if port.link.addresses.is_empty() || self.state.endpoints.listeners().is_empty() {
            return None;
        }
        let found = self.state.endpoints.lookup(&self.flow, &mut self.wc);
        match found {
            None if self.is_answer_to_us() || self.is_gratuitous_arp() => self.snoop(),
            None => {}
            Some(_) => {
                let f = &self.flow;
                let ip = if f.dl_type == ethertype::IPV4 { mapped(f.nw_src) } else { outer_v6(f.ipv6_src) };
                self.heard(ip, f.dl_src);
            }
        }
        found
    }

    fn heard(&mut self, ip: Ipv6Addr, mac: EthAddr) {
        let bridge = self.switch.name.as_str().into();
        self.effects.push(Effect::Neighbour { bridge, ip, mac });
    }

    /// As [`Self::heard`], of a message that says nothing else. Each one is translated, so that the last one counts and
    /// none is missed: it gets no megaflow.
    fn told(&mut self, ip: Ipv6Addr, mac: EthAddr) {
        self.volatile = true;
        self.heard(ip, mac);
    }

    /// Whether an ARP or ICMPv6 message is for an address of this switch's ports.
    fn is_answer_to_us(&self) -> bool {
        let f = &self.flow;
        let is_arp = f.dl_type == ethertype::ARP;
        if !is_arp && f.nw_proto != ip_proto::ICMPV6 {
            return false;
        }
        let mut own = self.switch.ports.values().flat_map(|p| &p.link.addresses);
        own.any(|ip| match ip.to_ipv4_mapped() {
            Some(v4) => is_arp && f.nw_dst == u32::from(v4),
            None => {
                let ip: U128 = u128::from(*ip).into();
                f.ipv6_dst == ip || f.ipv6_dst == packet::compose::solicited_node(ip)
            }
        })
    }

    fn is_gratuitous_arp(&mut self) -> bool {
        let f = &self.flow;
        if f.dl_type != ethertype::ARP {
            return false;
        }
        (self.wc.nw_src, self.wc.nw_dst) = (u32::MAX, u32::MAX);
        f.nw_src == f.nw_dst
    }

    /// Learns from a neighbour's answer.
    fn snoop(&mut self) {
        if self.flow.dl_type == ethertype::ARP {
            self.snoop_arp();
        } else {
            self.snoop_advert();
        }
    }

    fn snoop_arp(&mut self) {
        if !self.is_gratuitous_arp() {
            self.wc.nw_proto = u8::MAX;
            if self.flow.nw_proto != ARP_REPLY {
                return;
            }
        }
        self.wc.arp_sha = EthAddr::BROADCAST;
        self.wc.nw_src = u32::MAX;
        if !self.flow.arp_sha.is_zero() {
            self.told(mapped(self.flow.nw_src), self.flow.arp_sha);
        }
    }

    fn snoop_advert(&mut self) {
        let (f, wc) = (&self.flow, &mut self.wc);
        if f.dl_type != ethertype::IPV6 {
            return;
        }
        wc.nw_proto = u8::MAX;
        if f.nw_proto != ip_proto::ICMPV6 {
            return;
        }
        (wc.tp_src, wc.tp_dst) = (u16::MAX, u16::MAX);
        if f.tp_dst != 0 || f.tp_src != u16::from(nd::ADVERT) {
            return;
        }
        wc.arp_tha = EthAddr::BROADCAST;
        // Answers to unicast questions need not have the address (RFC 4861, 4.4); those say nothing new.
        if f.arp_tha.is_zero() {
            return;
        }
        (wc.ipv6_src, wc.ipv6_dst, wc.nd_target) = (U128::MAX, U128::MAX, U128::MAX);
        let (ip, mac) = (outer_v6(f.nd_target), f.arp_tha);
        self.told(ip, mac);
    }

    /// Whether the port takes packets of this type; says so if not.
    pub fn takes_packet(&mut self, port: &Port) -> bool {
        let is_l2 = port.packet_type_mode() == PacketTypeMode::LegacyL2;
        if is_l2 && self.flow.packet_type != PT_ETH {
            self.warn("Trying to send non-Ethernet packet through legacy L2 port. Dropping packet.");
            return false;
        }
        true
    }
}

/// The tunnel fields of a mask, as the datapath has them for a packet with the key `key`: options are raw.
pub fn mask_for_datapath(mask: &mut Mask, key: &Flow, tlv: &flow::TlvTable) {
    if !key.tunnel.is_set() {
        mask.0.tunnel = Tunnel::default();
        return;
    }
    let len = usize::try_from(key.tunnel.metadata_present).unwrap_or(0).min(flow::TUN_METADATA_LEN);
    let is_raw = key.tunnel.flags & tun_flags::UDPIF != 0;
    let raw = if is_raw {
        tlv.mask_to_raw(&mask.tunnel, key.tunnel.metadata.get(..len).unwrap_or(&[]))
    } else {
        Vec::new()
    };
    let t = &mut mask.0.tunnel;
    t.metadata = [0; flow::TUN_METADATA_LEN];
    if let Some(room) = t.metadata.get_mut(..raw.len()) {
        room.copy_from_slice(&raw);
    }
    // Of how many bytes there are, all is matched, lest longer lists that begin the same match too.
    t.metadata_present = if is_raw { 0xff } else { 0 };
    if is_raw {
        t.flags |= tun_flags::UDPIF;
    }
}
