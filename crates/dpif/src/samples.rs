//! Keys, masks and actions to test with: every variant, made from a seed.

use crate::attr::{Attr, Form, Side, fields, single};
use crate::frames::{self, Rng};
use crate::key_attrs::{Node, nodes};
use crate::text::vport_type;
use crate::*;
use flow::{EthAddr, Flow, Mask, Nsh, Tunnel, U128, tun_flags};
use packet::{CtMeta, CtTuple, Meta, Packet};

/// A key as the datapath has it, of a packet that can be said in attributes without loss.
pub fn key(seed: u64) -> Flow {
    let r = &mut Rng::new(seed ^ 0x55);
    for i in 0.. {
        let tunnel = r.one_in(3).then(|| tunnel(r));
        let v4 = CtTuple::V4 { src: 1, dst: r.next() as u32, proto: 17, tp_src: 53, tp_dst: 9 };
        let v6 = CtTuple::V6 { src: wide(r), dst: 5.into(), proto: 6, tp_src: 0, tp_dst: 9 };
        let tuple = [CtTuple::None, v4, v6][r.below(3) as usize];
        let (state, zone, mark, label) = (r.below(256) as u32, r.next() as u16, r.next() as u32, wide(r));
        let ct = r.one_in(2).then_some(CtMeta { state, zone, mark, label, tuple });
        let meta = Meta {
            in_port: r.below(1000) as u32,
            recirc_id: r.below(3) as u32,
            dp_hash: r.below(2) as u32 * 77,
            skb_priority: r.below(2) as u32 * 9,
            pkt_mark: r.below(2) as u32 * 8,
            tunnel: tunnel.as_ref(),
            ct: ct.as_ref(),
            ..Meta::default()
        };
        let mut p = if r.one_in(8) {
            let (t, bytes) = frames::l3_packet(seed + i);
            let mut p = Packet::from_slice(&bytes);
            p.packet_type = flow::packet_type_of_ethertype(t);
            p
        } else {
            Packet::from_slice(&frames::frame(seed + i))
        };
        let f = packet::parse::flow_of(&mut p, &meta);
        if is_lossless(&f) {
            return f;
        }
    }
    unreachable!("some seed makes a plain packet")
}

fn is_lossless(f: &Flow) -> bool {
    let has_ports = f.tp_src | f.tp_dst != 0;
    let ports_shown = match f.nw_proto {
        6 | 17 | 132 => true,
        1 => f.dl_type == 0x0800,
        58 => f.dl_type == 0x86dd,
        _ => false,
    };
    let labels = crate::key_attrs::count_labels(f);
    let labels_end = labels == 0 || labels == 3 || f.mpls_lse[labels - 1] & 0x100 != 0;
    // An MPLS frame without labels, a frame without a type, and one cut short in a tag.
    let whole = f.dl_type >= 0x600
        && !matches!(f.dl_type, 0x8100 | 0x88a8)
        && (labels > 0 || !matches!(f.dl_type, 0x8847 | 0x8848));
    // A tuple of a protocol, or none of it.
    (ports_shown || !has_ports) && whole && labels_end
}

pub fn tunnel(r: &mut Rng) -> Tunnel {
    let mut t = Tunnel { ttl: 64, tos: r.below(2) as u8 * 4, tp_dst: 4789, ..Tunnel::default() };
    if r.one_in(3) {
        (t.ipv6_src, t.ipv6_dst) = (wide(r), wide(r));
    } else {
        (t.src, t.dst) = (r.next() as u32 | 1, r.next() as u32 | 1);
    }
    t.flags = [0, tun_flags::DONT_FRAGMENT, tun_flags::CSUM | tun_flags::OAM][r.below(3) as usize];
    if r.one_in(2) {
        t.id = r.next();
        t.flags |= tun_flags::KEY;
    }
    match r.below(6) {
        0 => (t.gbp_id, t.gbp_flags) = (7, r.below(2) as u8 * 8),
        1 => geneve(r, &mut t),
        2 => (t.erspan_ver, t.erspan_idx) = (1, r.next() as u32 & 0xfffff),
        3 => (t.erspan_ver, t.erspan_dir, t.erspan_hwid) = (2, 1, r.below(16) as u8),
        4 => (t.gtpu_flags, t.gtpu_msgtype) = (0x30, 255),
        _ => {}
    }
    t
}

fn geneve(r: &mut Rng, t: &mut Tunnel) {
    let mut options = Vec::new();
    for _ in 0..r.below(4) {
        let words = r.below(4) as u8;
        options.extend([1, r.next() as u8, r.next() as u8, words]);
        options.extend((0..words * 4).map(|_| r.next() as u8));
    }
    t.metadata[..options.len()].copy_from_slice(&options);
    t.metadata_present = options.len() as u64;
    t.flags |= tun_flags::UDPIF;
}

fn wide(r: &mut Rng) -> U128 {
    U128 { hi: r.next(), lo: r.next() }
}

/// A mask that the text can say of `key`.
pub fn mask(seed: u64, key: &Flow) -> Mask {
    let r = &mut Rng::new(seed ^ 0xaa);
    let mut m = Mask::NONE;
    for node in nodes(key, None, 2) {
        mask_node(r, &mut m, &node, key);
    }
    m.recirc_id = u32::MAX;
    if !key.vlans[0].is_present() {
        m.vlans[0] = flow::Vlan { tpid: u16::MAX, tci: u16::MAX };
    }
    m
}

fn mask_node(r: &mut Rng, m: &mut Mask, node: &Node, key: &Flow) {
    for inner in &node.inner {
        mask_node(r, m, inner, key);
    }
    match node.attr {
        Attr::EtherType if node.tpid.is_none() => m.dl_type = u16::MAX,
        Attr::EtherType => m.vlans[node.vlan].tpid = u16::MAX,
        Attr::Vlan => {
            m.vlans[node.vlan].tci = [0x1fff, 0xffff, 0xf001][r.below(3) as usize];
        }
        Attr::Mpls => {
            let lse = [u32::MAX, 0x100, 0xffff_ff00][r.below(3) as usize];
            m.mpls_lse[..node.labels].fill(lse);
        }
        Attr::Nsh => {
            let words = [u32::MAX, 0, 0xff][r.below(3) as usize];
            let context = if key.nsh.mdtype == 1 { [words; 4] } else { [0; 4] };
            m.nsh = Nsh { ttl: 0x3f, np: u8::MAX, path_hdr: 0xffff_ff00 | words, context, ..Nsh::default() };
        }
        Attr::CtState => m.ct_state = r.below(256) as u32,
        Attr::CtLabel => m.ct_label = [U128::ZERO, U128::MAX, wide(r)][r.below(3) as usize],
        Attr::TcpFlags => m.tcp_flags = [0, 0xfff, 0x17][r.below(3) as usize],
        Attr::Tunnel if node.in_key => mask_tunnel(r, &mut m.tunnel, &key.tunnel),
        Attr::PacketType => m.packet_type = if key.packet_type == 0 { 0 } else { u32::MAX },
        // Its reserved word shows no mask, and needs the type and code matched whole.
        Attr::Icmpv6 if key.nd_reserved != 0 || key.nd_options_type != 0 => {
            (m.tp_src, m.tp_dst) = (0xff, 0xff);
        }
        // Need the type and code matched whole.
        Attr::Nd | Attr::NdExt if (m.tp_src, m.tp_dst) != (0xff, 0xff) => {}
        attr => mask_fields(r, m, attr),
    }
    if key.is_ip() && node.attr >= Attr::Ipv4 {
        m.nw_proto = u8::MAX;
    }
}

fn mask_fields(r: &mut Rng, m: &mut Mask, attr: Attr) {
    for f in fields(attr).iter().chain(single(attr)) {
        let whole = f.form.exact();
        let some = match f.form {
            _ if f.name == "op=" || attr == Attr::InPort => whole,
            _ => whole & u128::from(r.next()),
        };
        let any = [0, whole, some][r.below(3) as usize];
        // These two never show what is wildcarded of them.
        let is_whole = f.form == Form::Frag || f.name == "nd_reserved=";
        (f.set)(m, if is_whole { whole } else { any }, Side::Mask);
    }
}

fn mask_tunnel(r: &mut Rng, m: &mut Tunnel, key: &Tunnel) {
    m.ttl = u8::MAX;
    m.flags = key.flags & (tun_flags::UDPIF | tun_flags::KEY)
        | [0, tun_flags::DONT_FRAGMENT | tun_flags::CSUM | tun_flags::OAM][r.below(2) as usize];
    if key.flags & tun_flags::KEY != 0 || key.id != 0 {
        m.id = u64::MAX;
        m.flags |= tun_flags::KEY;
    }
    if key.dst != 0 {
        (m.dst, m.src) = (u32::MAX, 0xffff_0000);
    } else {
        m.ipv6_dst = U128::MAX;
    }
    if key.flags & tun_flags::UDPIF != 0 {
        m.metadata_present = 0xff;
        let len = key.metadata_present as usize;
        m.metadata[..len].copy_from_slice(&key.metadata[..len]);
        let mut at = 0;
        while at < len {
            let data = usize::from(key.metadata[at + 3]) * 4;
            m.metadata[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x1f]);
            m.metadata[at + 4..at + 4 + data].fill(0xf0);
            at += 4 + data;
        }
    }
}

/// How many kinds of action [`action`] makes.
pub const KINDS: u64 = 24;

/// An action of kind `kind`, nested ones inside it down to `depth`.
pub fn action(r: &mut Rng, kind: u64, depth: usize) -> Action {
    let (lse, ethertype) = (r.next() as u32, 0x8847);
    match kind {
        0 => Action::Output(port(r)),
        1 => Action::Userspace(userspace(r)),
        2 | 3 => Action::Set(set_key(r)),
        4 => Action::PushVlan { tpid: [0x8100, 0x88a8][r.below(2) as usize], tci: r.next() as u16 },
        5 => Action::PopVlan,
        6 => Action::PushMpls { lse, ethertype },
        7 => Action::PopMpls { ethertype: 0x0800 },
        8 => Action::AddMpls { lse, ethertype, l3: false },
        9 => Action::PushEth { dst: mac(r), src: mac(r) },
        10 => Action::PopEth,
        11 => Action::PushNsh(Box::new(nsh_header(r))),
        12 => Action::PopNsh,
        13 => Action::Recirc(r.below(1000) as u32),
        14 => {
            let alg = if r.one_in(2) { HashAlg::L4 } else { HashAlg::SymL4 };
            Action::Hash { alg, basis: r.below(10) as u32 }
        }
        // Percentages are written with one digit behind the point.
        15 => Action::Sample { probability: u32::MAX / 2 + 1, actions: actions(r, depth) },
        16 => Action::Clone(actions(r, depth)),
        17 => Action::Ct(Box::new(ct(r))),
        18 => Action::CtClear,
        19 => Action::Meter(r.below(9) as u32),
        20 => Action::Trunc(r.below(2000) as u32),
        21 => {
            let (greater, less_equal) = (actions(r, depth), actions(r, depth));
            Action::CheckPktLen { len: 1500, greater, less_equal }
        }
        22 => Action::TunnelPush(Box::new(tunnel_push(r))),
        _ => [Action::TunnelPop(port(r)), Action::LbOutput(4)][r.below(2) as usize].clone(),
    }
}

pub fn actions(r: &mut Rng, depth: usize) -> Actions {
    let kinds = if depth == 0 { 11 } else { KINDS };
    (0..r.below(4))
        .map(|_| {
            let k = r.below(kinds);
            action(r, k, depth.saturating_sub(1))
        })
        .collect()
}

fn port(r: &mut Rng) -> PortNo {
    PortNo(r.below(500) as u32)
}

fn mac(r: &mut Rng) -> EthAddr {
    EthAddr::from_u64(r.next())
}

fn userspace(r: &mut Rng) -> Userspace {
    let userdata = match r.below(7) {
        0 => Userdata::Opaque(vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        1 => Userdata::SlowPath(SlowPath::from_bits_truncate(r.next() as u32)),
        2 => Userdata::SFlow { vlan_tci: 0x3005, output: 9 },
        3 => Userdata::Ipfix { output_port: port(r) },
        4 => Userdata::FlowSample(Box::new(FlowSample {
            probability: 0xffff,
            collector_set_id: 1,
            obs_domain_id: 2,
            obs_point_id: r.next() as u32,
            output_port: port(r),
            direction: [SampleDirection::Default, SampleDirection::Ingress, SampleDirection::Egress]
                [r.below(3) as usize],
        })),
        _ => Userdata::Controller(Box::new(ControllerUserdata {
            reason: 1,
            dont_send: r.one_in(2),
            continuation: r.one_in(2),
            recirc_id: 7,
            rule_cookie: r.next(),
            controller_id: 3,
            max_len: 65535,
            bridge: 0,
        })),
    };
    let egress_tunnel_port = r.one_in(3).then(|| port(r));
    Userspace { userdata, egress_tunnel_port, wants_actions: r.one_in(3) }
}

/// A header to write, with the bits outside the mask zero.
fn set_key(r: &mut Rng) -> SetKey {
    const ATTRS: [Attr; 15] = [
        Attr::Priority,
        Attr::SkbMark,
        Attr::Tunnel,
        Attr::Ethernet,
        Attr::Ipv4,
        Attr::Ipv6,
        Attr::Arp,
        Attr::Mpls,
        Attr::Tcp,
        Attr::Udp,
        Attr::Sctp,
        Attr::Icmp,
        Attr::Icmpv6,
        Attr::Nd,
        Attr::NdExt,
    ];
    let attr = ATTRS[r.below(15) as usize];
    let (mut key, mut mask) = (Flow::ZERO, Mask::NONE);
    match attr {
        Attr::Tunnel => key.tunnel = tunnel(r),
        Attr::Mpls => (key.mpls_lse[0], mask.mpls_lse[0]) = (r.next() as u32, u32::MAX),
        _ => {
            mask_fields(r, &mut mask, attr);
            for f in fields(attr).iter().chain(single(attr)) {
                let value = if f.form == Form::Frag { 1 } else { u128::from(r.next()) };
                let wanted = value & (f.get)(&mask, Side::Mask) & f.form.exact();
                (f.set)(&mut key, if f.name == "op=" { wanted & 0xff } else { wanted }, Side::Key);
            }
        }
    }
    if attr == Attr::NdExt {
        mask.nd_reserved = u32::MAX;
    }
    let mut out = SetKey::of_flows(attr, &key, &mask).unwrap();
    if r.one_in(3) {
        mask = Mask::EXACT;
        out = SetKey::of_flows(attr, &key, &mask).unwrap();
    }
    if let SetKey::Ipv6(m) = &mut out {
        m.mask.label &= 0xf_ffff;
    }
    out
}

fn nsh_header(r: &mut Rng) -> NshHeader {
    let mdtype = 1 + r.below(2) as u8;
    let context = if mdtype == 1 { [1, 2, 3, r.next() as u32] } else { [0; 4] };
    let md2 = if mdtype == 2 { vec![0x12, 2, 0, 4, 5, 6, 7, 8] } else { Vec::new() };
    NshHeader { key: Nsh { flags: 1, ttl: 6, mdtype, np: 3, path_hdr: r.next() as u32, context }, md2 }
}

fn ct(r: &mut Rng) -> Ct {
    let commit = r.one_in(2);
    Ct {
        zone: r.below(3) as u16 * 5,
        commit,
        force: !commit && r.one_in(2),
        mark: r.one_in(2).then(|| Masked { key: r.next() as u32, mask: u32::MAX }),
        label: r.one_in(2).then(|| Masked { key: wide(r), mask: U128 { hi: 0, lo: r.next() | 1 } }),
        helper: r.one_in(3).then(|| "ftp".into()),
        timeout: r.one_in(3).then(|| "ovs_tp_1_tcp4".into()),
        nat: r.one_in(2).then(|| nat(r)),
        eventmask: None,
    }
}

fn nat(r: &mut Rng) -> Nat {
    let direction = [None, Some(NatDirection::Src), Some(NatDirection::Dst)][r.below(3) as usize];
    if direction.is_none() {
        return Nat::default();
    }
    let v4 = (NatAddr::V4(0x0a00_0001), NatAddr::V4(0x0a00_0001 + r.below(2) as u32));
    let v6 = (NatAddr::V6(9.into()), NatAddr::V6((9 + u128::from(r.below(2))).into()));
    let addr = [None, Some(v4), Some(v6)][r.below(3) as usize];
    let ports = if addr.is_some() && r.one_in(2) { Some((80, 80 + r.below(2) as u16)) } else { None };
    // The daemon reads these only with an address.
    let has_addr = addr.is_some();
    let hash = has_addr && r.one_in(2);
    let (persistent, random) = (has_addr && r.one_in(2), has_addr && !hash && r.one_in(2));
    Nat { direction, addr, ports, persistent, hash, random }
}

fn tunnel_push(r: &mut Rng) -> TunnelPush {
    let v6 = r.one_in(3);
    let mut h = vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    if v6 {
        h.extend([0x86, 0xdd, 0x60, 0x12, 0x34, 0x56, 0, 0, 17, 64]);
        h.extend((0..32).map(|_| r.next() as u8));
    } else {
        h.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        h.extend((0..8).map(|_| r.next() as u8));
        let sum = packet::checksum::checksum(&h[14..34]);
        h[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let udp = [0xc0, 1, 0x12, 0xb5, 0, 0, 0xff, 0xff];
    let of_family = |v4: u32, other: u32| if v6 { other } else { v4 };
    let kind = match r.below(7) {
        0 => {
            h.extend(udp);
            h.extend([8, 0, 0, 0, 0, 0, 123, 0]);
            vport_type::VXLAN
        }
        1 => {
            h.extend(udp);
            h.extend([2, 0xc0, 0x65, 0x58, 0, 0, 9, 0, 1, 2, 3, 1, 0, 0xff, 1, 2]);
            vport_type::GENEVE
        }
        2 => {
            h.extend(udp);
            h.extend([0x30, 255, 0, 0, 0, 0, 0, 5]);
            vport_type::GTPU
        }
        3 | 4 => {
            h.extend([0xb0, 0, 0x65, 0x58, 0xab, 0xcd, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8]);
            of_family(vport_type::GRE, vport_type::IP6GRE)
        }
        5 => {
            h.extend([0x10, 0, 0x88, 0xbe, 0, 0, 0, 0, 0x10, 0, 3, 5, 0, 1, 2, 3]);
            of_family(vport_type::ERSPAN, vport_type::IP6ERSPAN)
        }
        _ => {
            h.extend([0x10, 0, 0x22, 0xeb, 0, 0, 0, 0, 0x20, 0, 0, 5, 0, 0, 0, 0, 0, 0, 2, 0x58]);
            of_family(vport_type::ERSPAN, vport_type::IP6ERSPAN)
        }
    };
    let header = smallvec::SmallVec::from_vec(h);
    TunnelPush { tunnel_port: port(r), out_port: port(r), vport_type: kind, header }
}
