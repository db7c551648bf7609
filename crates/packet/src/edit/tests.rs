use super::*;
use crate::cursor::be16;
use crate::frames::{Rng, frame, l3_packet, super_simple_checksum};
use crate::header::*;
use crate::parse::{Meta, extract, flow_of};
use crate::proto::{ip_proto, packet_type};
use flow::{Flow, NW_FRAG_LATER, Nsh, VLAN_CFI};
use proptest::prelude::*;

fn parsed(frame: &[u8]) -> (Packet, Flow) {
    let mut p = Packet::from_slice(frame);
    let f = flow_of(&mut p, &Meta::default());
    (p, f)
}

/// Parses `p` again, and checks that the offsets that the edit left are those that parsing finds.
fn reparsed(p: &mut Packet) -> Flow {
    let before = (p.l2_5_ofs, p.l3_ofs, p.l4_ofs, p.l2_pad);
    let f = flow_of(p, &Meta::default());
    assert_eq!(before, (p.l2_5_ofs, p.l3_ofs, p.l4_ofs, p.l2_pad));
    f
}

/// Whether every checksum in the packet is right, by the book.
fn is_sound(p: &Packet, f: &Flow) -> bool {
    let l3 = usize::from(p.l3_ofs);
    let l4 = p.l4_bytes();
    if f.dl_type == 0x0800 && p.l4_ofs != NO_OFFSET {
        let h = &p.data()[l3..usize::from(p.l4_ofs)];
        if super_simple_checksum(h) != 0 {
            return false;
        }
    }
    if l4.is_empty() || f.nw_frag & NW_FRAG_LATER != 0 {
        return true;
    }
    let addrs = if f.dl_type == 0x0800 { &p.data()[l3 + 12..l3 + 20] } else { &p.data()[l3 + 8..l3 + 40] };
    let mut covered = l4.to_vec();
    if covered.len() % 2 == 1 {
        covered.push(0);
    }
    if f.nw_proto != ip_proto::ICMP {
        covered.extend(addrs);
        covered.extend([0, f.nw_proto]);
        covered.extend((l4.len() as u16).to_be_bytes());
    }
    match f.nw_proto {
        ip_proto::UDP if l4.len() >= 8 => l4[6..8] == [0, 0] || super_simple_checksum(&covered) == 0,
        ip_proto::TCP if l4.len() >= 20 => super_simple_checksum(&covered) == 0,
        ip_proto::ICMPV6 if f.dl_type == 0x86dd && l4.len() >= 8 => super_simple_checksum(&covered) == 0,
        _ => true,
    }
}

fn exact<T: Copy>(key: T, mask: T) -> Masked<T> {
    Masked { key, mask }
}

fn ports(r: &mut Rng) -> Masked<PortsKey> {
    let mask = if r.one_in(3) { 0xff } else { 0xffff };
    let key = PortsKey { src: r.next() as u16, dst: r.next() as u16 };
    exact(key, PortsKey { src: mask, dst: mask })
}

/// One of the field edits that keep the packet's structure, and what it makes of the key.
fn edit_some(r: &mut Rng, p: &mut Packet, f: &Flow) -> Flow {
    let mut want = f.clone();
    match (f.dl_type, f.nw_proto) {
        (0x0800, _) if p.l4_ofs != NO_OFFSET && r.one_in(2) => {
            let key =
                Ipv4Key { src: r.next() as u32, dst: r.next() as u32, tos: 7, ttl: 9, ..Default::default() };
            let mask = Ipv4Key { src: !0, dst: 0xffff, tos: 0xfc, ttl: 0xff, ..Default::default() };
            set_ipv4(p, &exact(key, mask));
            want.nw_src = key.src;
            want.nw_dst = (key.dst & 0xffff) | (f.nw_dst & 0xffff_0000);
            (want.nw_tos, want.nw_ttl) = ((f.nw_tos & 3) | 4, 9);
        }
        (0x86dd, _) if p.l4_ofs != NO_OFFSET && r.one_in(2) => {
            let (src, dst) = (U128 { hi: r.next(), lo: r.next() }, U128 { hi: r.next(), lo: r.next() });
            let key = Ipv6Key { src, dst, label: 0x54321, tclass: 8, hlimit: 1, ..Default::default() };
            let full = U128::MAX;
            let mask =
                Ipv6Key { src: full, dst: full, label: !0, tclass: 0xff, hlimit: 255, ..Default::default() };
            set_ipv6(p, &exact(key, mask));
            (want.ipv6_src, want.ipv6_dst, want.ipv6_label) = (src, dst, 0x54321);
            (want.nw_tos, want.nw_ttl) = (8, 1);
        }
        (0x0800 | 0x86dd, 6 | 17 | 132) if f.tp_src != 0 => {
            let m = ports(r);
            [set_tcp, set_udp, set_sctp][match f.nw_proto {
                6 => 0,
                17 => 1,
                _ => 2,
            }](p, &m);
            want.tp_src = merge(f.tp_src, m.key.src, m.mask.src);
            want.tp_dst = merge(f.tp_dst, m.key.dst, m.mask.dst);
        }
        (0x0800, 1) | (0x86dd, 58) if f.tp_src != 0 && !matches!(f.tp_src, 135 | 136) => {
            set_icmp(p, &exact(IcmpKey { icmp_type: 11, code: 3 }, IcmpKey { icmp_type: 255, code: 1 }));
            (want.tp_src, want.tp_dst) = (11, (f.tp_dst & !1) | 1);
        }
        (0x86dd, 58) if !f.nd_target.is_zero() => {
            let target = U128 { hi: r.next(), lo: r.next() };
            set_nd(
                p,
                &exact(
                    NdKey { target, ..Default::default() },
                    NdKey { target: U128::MAX, ..Default::default() },
                ),
            );
            set_nd_ext(
                p,
                &exact(NdExtKey { reserved: 7, options_type: 0 }, NdExtKey { reserved: 7, options_type: 0 }),
            );
            want.nd_target = target;
            want.nd_reserved = f.nd_reserved | 7;
        }
        (0x0806 | 0x8035, 1..) => {
            let key = ArpKey { sip: 1, tip: 2, op: 2, sha: EthAddr([1; 6]), tha: EthAddr([2; 6]) };
            let mask = ArpKey { sip: !0, tip: !0, op: !0, sha: EthAddr::BROADCAST, tha: EthAddr::BROADCAST };
            set_arp(p, &exact(key, mask));
            (want.nw_src, want.nw_dst, want.nw_proto) = (1, 2, 2);
            (want.arp_sha, want.arp_tha) = (key.sha, key.tha);
        }
        _ => {
            let m = EthKey { src: EthAddr([0, 0, 0, 0, 255, 255]), dst: EthAddr([1; 6]) };
            set_eth(p, &exact(EthKey { src: EthAddr([9; 6]), dst: EthAddr([0; 6]) }, m));
            want.dl_src.0[4..].copy_from_slice(&[9, 9]);
            want.dl_dst.0.iter_mut().for_each(|b| *b &= !1);
        }
    }
    want
}

/// SCTP's checksum as it stands and as it should be.
fn sctp_error(p: &Packet) -> Option<u32> {
    let mut l4 = p.l4_bytes().to_vec();
    let at = l4.get_mut(8..12)?;
    let stands = u32::from_le_bytes([at[0], at[1], at[2], at[3]]);
    at.fill(0);
    Some(stands ^ crate::checksum::crc32c(&l4))
}

/// With segments left to go, the checksum is over an address that is not in the fixed header, which the
/// generator does not know.
fn is_source_routed(p: &Packet, f: &Flow) -> bool {
    f.dl_type == 0x86dd && Chain::of(p).is_some_and(|c| c.segments_left)
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn fields_change_and_checksums_hold(seed: u64) {
        let (mut p, f) = parsed(&frame(seed));
        prop_assume!(is_sound(&p, &f) && f.dl_type != 0 && !is_source_routed(&p, &f));
        let error = sctp_error(&p).filter(|_| f.nw_proto == ip_proto::SCTP);
        let mut r = Rng::new(!seed);
        let want = edit_some(&mut r, &mut p, &f);
        let got = reparsed(&mut p);
        prop_assert_eq!(&got, &want);
        prop_assert!(is_sound(&p, &got), "{:?}", got);
        if error.is_some() {
            prop_assert_eq!(sctp_error(&p), error);
        }
    }

    /// With the checksum left to the device: filling it in after the edit is as good as having had it before.
    #[test]
    fn partial_checksum_follows_edits(seed: u64) {
        let (mut p, f) = parsed(&frame(seed));
        let at = crate::checksum::offset_in_l4(f.nw_proto);
        prop_assume!(at.is_some() && f.tp_src != 0 && is_sound(&p, &f) && !is_source_routed(&p, &f));
        prop_assume!(f.nw_proto != ip_proto::ICMP && f.nw_proto != ip_proto::IGMP);
        let at = at.unwrap();
        let l4_len = p.l4_len() as u32;
        let pseudo = match f.dl_type {
            0x0800 => crate::checksum::pseudo_v4(f.nw_src, f.nw_dst, f.nw_proto, l4_len),
            _ => crate::checksum::pseudo_v6(f.ipv6_src, f.ipv6_dst, f.nw_proto, l4_len),
        };
        let field = usize::from(p.l4_ofs) + at;
        let pseudo = crate::checksum::fold(pseudo);
        p.data_mut()[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        p.offload.checksum = Checksum::Partial { start: p.l4_ofs, offset: at as u16 };
        let mut r = Rng::new(!seed);
        for _ in 0..3 {
            let (_, now) = (0, flow_of(&mut p, &Meta::default()));
            edit_some(&mut r, &mut p, &now);
        }
        push_vlan(&mut p, 0x8100, 5);
        prop_assert!(crate::checksum::fill_partial(&mut p));
        let got = flow_of(&mut p, &Meta::default());
        prop_assert!(is_sound(&p, &got), "{:?}", got);
    }

    #[test]
    fn headers_pushed_come_off_again(seed: u64) {
        let (mut p, f) = parsed(&frame(seed));
        prop_assume!(p.l3_ofs != NO_OFFSET);
        let original = p.data().to_vec();
        push_vlan(&mut p, 0x88a8, VLAN_CFI | 0x2005);
        prop_assert_eq!(be16(p.data().first_chunk::<18>().unwrap(), 14), 0x2005);
        pop_vlan(&mut p);
        prop_assert_eq!(p.data(), &original[..]);
        if !matches!(f.dl_type, 0x05ff | 0x8100 | 0x88a8) && usize::from(p.l3_ofs) < original.len() {
            let was_last = f.dl_type != 0x8847 && f.dl_type != 0x8848;
            push_mpls(&mut p, 0x8847, if was_last { 0x1140 } else { 0x1040 });
            let g = flow_of(&mut p, &Meta::default());
            // A frame with SNAP keeps what stands behind the length.
            if u16::from_be_bytes([original[12], original[13]]) >= 0x600 {
                prop_assert_eq!((g.dl_type, g.mpls_lse[0] >> 12), (0x8847, 1));
                pop_mpls(&mut p, f.dl_type);
                prop_assert_eq!(p.data(), &original[..]);
            }
        }
    }

    #[test]
    fn nsh_and_ethernet_come_off_again(seed: u64, md2 in proptest::collection::vec(any::<u8>(), 0..8)) {
        let (mut p, _) = parsed(&frame(seed));
        let original = p.data().to_vec();
        let key = Nsh { flags: 1, ttl: 63, mdtype: 1 + (seed % 2) as u8, np: 0, path_hdr: 0x1234_56ff, context: [1, 2, 3, 4] };
        let header = NshHeader { key, md2: md2.repeat(4) };
        prop_assert!(push_nsh(&mut p, &header));
        push_eth(&mut p, EthAddr([1; 6]), EthAddr([2; 6]));
        let f = reparsed(&mut p);
        prop_assert_eq!((f.nsh.np, f.nsh.path_hdr, f.nsh.flags, f.nsh.ttl), (3, key.path_hdr, 1, 63));
        prop_assert_eq!(f.nsh.context, if key.mdtype == 1 { key.context } else { [0; 4] });
        let m = Nsh { ttl: 0x3f, path_hdr: 0xff, context: [0, !0, 0, 0], ..Nsh::default() };
        set_nsh(&mut p, &Masked { key: Nsh { ttl: 7, path_hdr: 8, context: [9; 4], ..m }, mask: m });
        let g = reparsed(&mut p).nsh;
        prop_assert_eq!((g.ttl, g.path_hdr, g.flags), (7, 0x1234_5608, 1));
        prop_assert_eq!(g.context, if key.mdtype == 1 { [1, 9, 3, 4] } else { [0; 4] });
        pop_eth(&mut p);
        prop_assert_eq!(p.packet_type, packet_type::NSH);
        prop_assert!(pop_nsh(&mut p));
        prop_assert_eq!(p.data(), &original[..]);
        prop_assert!(p.is_eth());
    }

    /// Any bytes, any edits, in any order: no panic. (The fuzz target runs the same.)
    #[test]
    fn anything_survives(seed: u64, raw in proptest::collection::vec(any::<u8>(), 0..90), by_type: bool, fresh: bool) {
        let mut p = match (by_type, fresh) {
            (true, _) => {
                let (t, bytes) = l3_packet(seed);
                let mut p = Packet::from_slice(&bytes);
                p.packet_type = flow::packet_type_of_ethertype(t);
                p
            }
            (false, true) => Packet::from_slice(&frame(seed)),
            (false, false) => Packet::from_slice(&raw),
        };
        let mut f = Flow::ZERO;
        extract(&mut p, &Meta::default(), &mut f);
        crate::fuzz::edit_at_random(&mut p, &raw);
    }
}

#[test]
fn ecn_is_marked() {
    for seed in 0..200 {
        let (mut p, f) = parsed(&frame(seed));
        if f.is_ip() && p.l4_ofs != NO_OFFSET {
            set_ecn_ce(&mut p);
            assert_eq!(reparsed(&mut p).nw_tos, f.nw_tos | 3);
        }
    }
}

/// The checksum of a source-routed packet is over the final destination, not the next one.
#[test]
fn next_hop_is_not_in_the_checksum() {
    let mut seed = 0;
    let (mut p, f) = loop {
        let (p, f) = parsed(&frame(seed));
        if f.nw_proto == ip_proto::TCP && f.tp_src != 0 && is_source_routed(&p, &f) {
            break (p, f);
        }
        seed += 1;
    };
    let sum = |p: &Packet| be16(p.l4_bytes().first_chunk::<20>().unwrap(), 16);
    let before = sum(&p);
    let all = U128::MAX;
    set_ipv6(
        &mut p,
        &exact(Ipv6Key { dst: 7.into(), ..Default::default() }, Ipv6Key { dst: all, ..Default::default() }),
    );
    assert_eq!((sum(&p), reparsed(&mut p).ipv6_dst), (before, 7.into()));
    set_ipv6(
        &mut p,
        &exact(Ipv6Key { src: 8.into(), ..Default::default() }, Ipv6Key { src: all, ..Default::default() }),
    );
    assert_eq!(sum(&p), crate::checksum::update128(before, f.ipv6_src, 8.into()));
}
