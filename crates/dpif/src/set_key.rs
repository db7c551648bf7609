//! A `set` action's header as part of a key, so that both share one table of fields; and what the action
//! does to a packet.

use crate::attr::{Attr, Side, frag_from_text, frag_to_text};
use crate::{ArpKey, EthKey, IcmpKey, Ipv4Key, Ipv6Key, Masked, NdExtKey, NdKey, PortsKey, SetKey};
use flow::Flow;
use packet::{Packet, edit};

impl SetKey {
    /// Which attribute this writes.
    pub fn attr(&self) -> Attr {
        match self {
            SetKey::Priority(_) => Attr::Priority,
            SetKey::SkbMark(_) => Attr::SkbMark,
            SetKey::Tunnel(_) => Attr::Tunnel,
            SetKey::Ethernet(_) => Attr::Ethernet,
            SetKey::Ipv4(_) => Attr::Ipv4,
            SetKey::Ipv6(_) => Attr::Ipv6,
            SetKey::Tcp(_) => Attr::Tcp,
            SetKey::Udp(_) => Attr::Udp,
            SetKey::Sctp(_) => Attr::Sctp,
            SetKey::Icmp(_) => Attr::Icmp,
            SetKey::Icmpv6(_) => Attr::Icmpv6,
            SetKey::Arp(_) => Attr::Arp,
            SetKey::Nd(_) => Attr::Nd,
            SetKey::NdExt(_) => Attr::NdExt,
            SetKey::Mpls(_) => Attr::Mpls,
            SetKey::Nsh(_) => Attr::Nsh,
        }
    }

    /// The values and the mask, in a key's places.
    pub(crate) fn to_flows(&self) -> (Flow, Flow) {
        let (mut key, mut mask) = (Flow::ZERO, Flow::ZERO);
        self.write(&mut key, Side::Key);
        self.write(&mut mask, Side::Mask);
        (key, mask)
    }

    fn write(&self, f: &mut Flow, side: Side) {
        fn of<T>(m: &Masked<T>, side: Side) -> &T {
            if side == Side::Key { &m.key } else { &m.mask }
        }
        match self {
            SetKey::Priority(m) => f.skb_priority = *of(m, side),
            SetKey::SkbMark(m) => f.pkt_mark = *of(m, side),
            SetKey::Tunnel(t) => f.tunnel = (**t).clone(),
            SetKey::Ethernet(m) => put_eth(f, of(m, side)),
            SetKey::Ipv4(m) => put_ipv4(f, of(m, side), side),
            SetKey::Ipv6(m) => put_ipv6(f, of(m, side), side),
            SetKey::Tcp(m) | SetKey::Udp(m) | SetKey::Sctp(m) => put_ports(f, of(m, side)),
            SetKey::Icmp(m) | SetKey::Icmpv6(m) => put_icmp(f, of(m, side)),
            SetKey::Arp(m) => put_arp(f, of(m, side)),
            SetKey::Nd(m) => put_nd(f, of(m, side)),
            SetKey::NdExt(m) => put_nd_ext(f, of(m, side)),
            SetKey::Mpls(m) => f.mpls_lse[0] = *of(m, side),
            SetKey::Nsh(m) => f.nsh = *of(m, side),
        }
    }

    /// The action that writes `attr` from a key; `None` if there is no such action.
    pub(crate) fn of_flows(attr: Attr, key: &Flow, mask: &Flow) -> Option<SetKey> {
        fn both<T>(get: impl Fn(&Flow, Side) -> T, key: &Flow, mask: &Flow) -> Masked<T> {
            Masked { key: get(key, Side::Key), mask: get(mask, Side::Mask) }
        }
        Some(match attr {
            Attr::Priority => SetKey::Priority(both(|f, _| f.skb_priority, key, mask)),
            Attr::SkbMark => SetKey::SkbMark(both(|f, _| f.pkt_mark, key, mask)),
            Attr::Tunnel => SetKey::Tunnel(Box::new(key.tunnel.clone())),
            Attr::Ethernet => SetKey::Ethernet(both(|f, _| eth_of(f), key, mask)),
            Attr::Ipv4 => SetKey::Ipv4(both(ipv4_of, key, mask)),
            Attr::Ipv6 => SetKey::Ipv6(both(ipv6_of, key, mask)),
            Attr::Tcp => SetKey::Tcp(both(|f, _| ports_of(f), key, mask)),
            Attr::Udp => SetKey::Udp(both(|f, _| ports_of(f), key, mask)),
            Attr::Sctp => SetKey::Sctp(both(|f, _| ports_of(f), key, mask)),
            Attr::Icmp => SetKey::Icmp(both(|f, _| icmp_of(f), key, mask)),
            Attr::Icmpv6 => SetKey::Icmpv6(both(|f, _| icmp_of(f), key, mask)),
            Attr::Arp => SetKey::Arp(both(arp_of, key, mask)),
            Attr::Nd => SetKey::Nd(both(|f, _| nd_of(f), key, mask)),
            Attr::NdExt => SetKey::NdExt(both(|f, _| nd_ext_of(f), key, mask)),
            Attr::Mpls => SetKey::Mpls(both(|f, _| f.mpls_lse[0], key, mask)),
            Attr::Nsh => SetKey::Nsh(both(|f, _| f.nsh, key, mask)),
            _ => return None,
        })
    }

    /// Whether every bit of the header is written: then it goes out without a mask.
    pub fn is_exact(&self) -> bool {
        const U128: flow::U128 = flow::U128::MAX;
        const MAC: flow::EthAddr = flow::EthAddr::BROADCAST;
        match self {
            SetKey::Tunnel(_) => true,
            SetKey::Priority(m) | SetKey::SkbMark(m) | SetKey::Mpls(m) => m.mask == u32::MAX,
            SetKey::Ethernet(m) => m.mask == EthKey { src: MAC, dst: MAC },
            SetKey::Ipv4(m) => m.mask == Ipv4Key { src: !0, dst: !0, proto: !0, tos: !0, ttl: !0, frag: !0 },
            SetKey::Ipv6(m) => {
                let full =
                    Ipv6Key { src: U128, dst: U128, label: !0, proto: !0, tclass: !0, hlimit: !0, frag: !0 };
                Ipv6Key { label: m.mask.label | 0xfff0_0000, ..m.mask } == full
            }
            SetKey::Tcp(m) | SetKey::Udp(m) | SetKey::Sctp(m) => m.mask == PortsKey { src: !0, dst: !0 },
            SetKey::Icmp(m) | SetKey::Icmpv6(m) => m.mask == IcmpKey { icmp_type: !0, code: !0 },
            SetKey::Arp(m) => m.mask == ArpKey { sip: !0, tip: !0, op: !0, sha: MAC, tha: MAC },
            SetKey::Nd(m) => m.mask == NdKey { target: U128, sll: MAC, tll: MAC },
            SetKey::NdExt(m) => m.mask == NdExtKey { reserved: !0, options_type: !0 },
            SetKey::Nsh(m) => {
                let k = &m.mask;
                let bytes = [k.flags, k.ttl, k.mdtype, k.np];
                bytes == [u8::MAX; 4] && k.path_hdr == u32::MAX && k.context == [u32::MAX; 4]
            }
        }
    }

    /// Rewrites the header in `packet`. Priority, mark and tunnel are not in the packet: nothing happens.
    pub fn apply(&self, packet: &mut Packet) {
        match self {
            SetKey::Priority(_) | SetKey::SkbMark(_) | SetKey::Tunnel(_) => {}
            SetKey::Ethernet(m) => edit::set_eth(packet, m),
            SetKey::Ipv4(m) => edit::set_ipv4(packet, m),
            SetKey::Ipv6(m) => edit::set_ipv6(packet, m),
            SetKey::Tcp(m) => edit::set_tcp(packet, m),
            SetKey::Udp(m) => edit::set_udp(packet, m),
            SetKey::Sctp(m) => edit::set_sctp(packet, m),
            SetKey::Icmp(m) | SetKey::Icmpv6(m) => edit::set_icmp(packet, m),
            SetKey::Arp(m) => edit::set_arp(packet, m),
            SetKey::Nd(m) => edit::set_nd(packet, m),
            SetKey::NdExt(m) => edit::set_nd_ext(packet, m),
            SetKey::Mpls(m) => edit::set_mpls(packet, m),
            SetKey::Nsh(m) => edit::set_nsh(packet, m),
        }
    }
}

fn put_eth(f: &mut Flow, k: &EthKey) {
    (f.dl_src, f.dl_dst) = (k.src, k.dst);
}

pub(crate) fn eth_of(f: &Flow) -> EthKey {
    EthKey { src: f.dl_src, dst: f.dl_dst }
}

fn put_ipv4(f: &mut Flow, k: &Ipv4Key, side: Side) {
    (f.nw_src, f.nw_dst) = (k.src, k.dst);
    (f.nw_proto, f.nw_tos, f.nw_ttl) = (k.proto, k.tos, k.ttl);
    f.nw_frag = frag_from_text(k.frag, side);
}

pub(crate) fn ipv4_of(f: &Flow, side: Side) -> Ipv4Key {
    Ipv4Key {
        src: f.nw_src,
        dst: f.nw_dst,
        proto: f.nw_proto,
        tos: f.nw_tos,
        ttl: f.nw_ttl,
        frag: frag_to_text(f.nw_frag, side),
    }
}

fn put_ipv6(f: &mut Flow, k: &Ipv6Key, side: Side) {
    (f.ipv6_src, f.ipv6_dst, f.ipv6_label) = (k.src, k.dst, k.label);
    (f.nw_proto, f.nw_tos, f.nw_ttl) = (k.proto, k.tclass, k.hlimit);
    f.nw_frag = frag_from_text(k.frag, side);
}

pub(crate) fn ipv6_of(f: &Flow, side: Side) -> Ipv6Key {
    Ipv6Key {
        src: f.ipv6_src,
        dst: f.ipv6_dst,
        label: f.ipv6_label,
        proto: f.nw_proto,
        tclass: f.nw_tos,
        hlimit: f.nw_ttl,
        frag: frag_to_text(f.nw_frag, side),
    }
}

fn put_ports(f: &mut Flow, k: &PortsKey) {
    (f.tp_src, f.tp_dst) = (k.src, k.dst);
}

pub(crate) fn ports_of(f: &Flow) -> PortsKey {
    PortsKey { src: f.tp_src, dst: f.tp_dst }
}

fn put_icmp(f: &mut Flow, k: &IcmpKey) {
    (f.tp_src, f.tp_dst) = (k.icmp_type.into(), k.code.into());
}

pub(crate) fn icmp_of(f: &Flow) -> IcmpKey {
    IcmpKey { icmp_type: f.tp_src as u8, code: f.tp_dst as u8 }
}

/// A key has 8 bits of the opcode; all of them masked stand for all 16.
fn put_arp(f: &mut Flow, k: &ArpKey) {
    (f.nw_src, f.nw_dst, f.nw_proto) = (k.sip, k.tip, k.op as u8);
    (f.arp_sha, f.arp_tha) = (k.sha, k.tha);
}

pub(crate) fn arp_of(f: &Flow, side: Side) -> ArpKey {
    let op = match side {
        Side::Mask if f.nw_proto == u8::MAX => u16::MAX,
        _ => f.nw_proto.into(),
    };
    ArpKey { sip: f.nw_src, tip: f.nw_dst, op, sha: f.arp_sha, tha: f.arp_tha }
}

fn put_nd(f: &mut Flow, k: &NdKey) {
    (f.nd_target, f.arp_sha, f.arp_tha) = (k.target, k.sll, k.tll);
}

pub(crate) fn nd_of(f: &Flow) -> NdKey {
    NdKey { target: f.nd_target, sll: f.arp_sha, tll: f.arp_tha }
}

fn put_nd_ext(f: &mut Flow, k: &NdExtKey) {
    (f.nd_reserved, f.nd_options_type) = (k.reserved, k.options_type);
}

pub(crate) fn nd_ext_of(f: &Flow) -> NdExtKey {
    NdExtKey { reserved: f.nd_reserved, options_type: f.nd_options_type }
}
