//! What the fuzz targets run, and the property tests with them.

use crate::header::{
    ArpKey, EthKey, IcmpKey, Ipv4Key, Ipv6Key, Masked, NdExtKey, NdKey, NshHeader, PortsKey,
};
use crate::{Meta, Packet, checksum, edit, pcap};
use flow::{EthAddr, Flow, Nsh, U128};

/// Parses `data` as a packet (its first four bytes as the packet's type, 0 for Ethernet), then edits it as
/// the rest of the bytes say.
pub fn packet(data: &[u8]) {
    let Some((t, rest)) = data.split_first_chunk::<4>() else { return };
    let mut p = Packet::from_slice(rest);
    p.packet_type = u32::from_be_bytes(*t);
    let mut flow = Flow::ZERO;
    crate::extract(&mut p, &Meta::default(), &mut flow);
    edit_at_random(&mut p, rest);
    checksum::fill_partial(&mut p);
    for record in pcap::Reader::new(data).into_iter().flatten() {
        let _ = record;
    }
}

/// Applies one edit per byte of `choices`, parsing again now and then.
pub fn edit_at_random(p: &mut Packet, choices: &[u8]) {
    for (i, c) in choices.iter().enumerate().take(64) {
        let v = u64::from_be_bytes([*c, i as u8, !*c, 3, *c, 5, c.wrapping_mul(7), 1]);
        structure(p, c % 32, v);
        fields(p, c % 32, v);
        if c & 0x80 != 0 {
            let mut flow = Flow::ZERO;
            crate::extract(p, &Meta::default(), &mut flow);
        }
    }
}

fn structure(p: &mut Packet, which: u8, v: u64) {
    let mpls = if v & 1 == 0 { 0x8847 } else { 0x8848 };
    match which {
        0 => edit::push_vlan(p, 0x8100, v as u16),
        1 => edit::pop_vlan(p),
        2 => edit::push_mpls(p, mpls, v as u32),
        3 => edit::pop_mpls(p, 0x0800),
        4 => edit::pop_mpls(p, 0x6558),
        5 => edit::add_mpls(p, mpls, v as u32, v & 2 != 0),
        6 => edit::push_eth(p, EthAddr::from_u64(v), EthAddr::from_u64(!v)),
        7 => edit::pop_eth(p),
        8 => {
            let key = Nsh { mdtype: 1 + (v & 1) as u8, ..Nsh::default() };
            edit::push_nsh(p, &NshHeader { key, md2: vec![0; 8] });
        }
        9 => {
            edit::pop_nsh(p);
        }
        10 => edit::set_ecn_ce(p),
        11 => {
            p.offload.checksum =
                crate::Checksum::Partial { start: p.l4_ofs, offset: if v & 1 == 0 { 16 } else { 6 } };
        }
        12 => {
            checksum::fill_partial(p);
        }
        _ => {}
    }
}

fn fields(p: &mut Packet, which: u8, v: u64) {
    let (mac, wide) = (EthAddr::from_u64(v), U128 { hi: v, lo: !v });
    let ports = PortsKey { src: v as u16, dst: !v as u16 };
    match which {
        13 => edit::set_eth(p, &both(EthKey { src: mac, dst: mac })),
        14 => edit::set_ipv4(
            p,
            &both(Ipv4Key { src: v as u32, dst: !v as u32, tos: 1, ttl: 2, proto: 0, frag: 0 }),
        ),
        15 => {
            let (label, tclass) = (v as u32, v as u8);
            let key = Ipv6Key { src: wide, dst: wide, label, tclass, hlimit: 3, proto: 0, frag: 0 };
            edit::set_ipv6(p, &both(key));
        }
        16 => edit::set_tcp(p, &both(ports)),
        17 => edit::set_udp(p, &both(ports)),
        18 => edit::set_sctp(p, &both(ports)),
        19 => edit::set_icmp(p, &both(IcmpKey { icmp_type: v as u8, code: !v as u8 })),
        20 => edit::set_arp(p, &both(ArpKey { sip: 1, tip: 2, op: 3, sha: mac, tha: mac })),
        21 => edit::set_nd(p, &both(NdKey { target: wide, sll: mac, tll: mac })),
        22 => edit::set_nd_ext(p, &both(NdExtKey { reserved: v as u32, options_type: v as u8 })),
        23 => edit::set_mpls(p, &both(v as u32)),
        24 => edit::set_nsh(p, &both(Nsh { ttl: v as u8, path_hdr: v as u32, ..Nsh::default() })),
        _ => {}
    }
}

fn both<T: Copy>(key: T) -> Masked<T> {
    Masked { key, mask: key }
}

/// Takes the outer header of `kind` off a packet of any bytes, and puts its own bytes on as a header.
pub fn tunnel(kind: crate::tunnel::TunnelKind, data: &[u8]) {
    let mut p = Packet::from_slice(data);
    let mut flow = Flow::ZERO;
    crate::extract(&mut p, &Meta::default(), &mut flow);
    // Half of all packets come with a sum that is known to be right.
    if data.len() & 1 == 1 {
        p.offload.checksum = crate::Checksum::Good;
    }
    let mut tunnel = flow::Tunnel::default();
    let was = p.len();
    if crate::tunnel::pop(&mut p, kind, &mut tunnel).is_ok() {
        assert!(p.len() <= was && tunnel.metadata_present <= flow::TUN_METADATA_LEN as u64);
        if let Some(outer) = crate::tunnel::Outer::new(data, kind, p.packet_type, &tunnel) {
            assert!(outer.is_of(data, true) && data.len() - outer.len() == p.len());
        }
    }
    crate::extract(&mut p, &Meta::default(), &mut flow);
    let cx = crate::tunnel::PushContext {
        source_port: crate::tunnel::source_port(crate::tunnel::flow_hash(&p), (1, 9)),
        sequence: 1,
        timestamp: 2,
    };
    let header = data.get(..data.len().min(120)).unwrap_or(&[]);
    crate::tunnel::push(&mut p, header, kind, &cx);
    crate::extract(&mut p, &Meta::default(), &mut flow);
}
