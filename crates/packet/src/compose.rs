//! Packets from nothing: one that parses to a given key, and those the switch itself sends.

use crate::checksum::{checksum, finish, pseudo_v4, pseudo_v6, sum};
use crate::edit;
use crate::proto::{ethertype, header_len, ip_proto, nd, tcp};
use crate::{NO_OFFSET, Packet};
use flow::{EthAddr, Flow, MPLS_LABELS_MAX, NW_FRAG_ANY, NW_FRAG_LATER, U128};

/// What a composed packet carries behind its headers, where its protocol carries anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload<'a> {
    /// So many bytes: 0, 1, 2 and so on.
    Count(usize),
    Bytes(&'a [u8]),
}

impl Payload<'_> {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Payload::Count(n) => out.extend((0..n).map(|i| i as u8)),
            Payload::Bytes(b) => out.extend_from_slice(b),
        }
    }
    fn len(self) -> usize {
        match self {
            Payload::Count(n) => n,
            Payload::Bytes(b) => b.len(),
        }
    }
}

/// Offset in a fragment that is not the first, in units of 8 bytes; any will do.
const FRAGMENT_OFFSET: u16 = 100;
const MORE_FRAGMENTS: u16 = 0x2000;

/// An Ethernet frame that parses to `flow`, as far as the fields of `flow` belong together. Fields that
/// the key does not have are zero; checksums are right, but SCTP's, which is zero.
///
/// Under MPLS labels and in NSH there is nothing but the header. TCP has payload only without SYN, FIN and
/// RST, ICMP only in echo messages.
pub fn compose(flow: &Flow, payload: Payload<'_>) -> Packet {
    let mut out = Vec::with_capacity(128 + payload.len());
    out.extend(flow.dl_dst.0);
    out.extend(flow.dl_src.0);
    for v in flow.vlans.iter().filter(|v| v.is_present()) {
        out.extend(v.tpid.to_be_bytes());
        out.extend((v.tci & !flow::VLAN_CFI).to_be_bytes());
    }
    if flow.dl_type == ethertype::NONE {
        let len = (out.len() + 2) as u16;
        out.extend(len.to_be_bytes());
        return finished(&out, NO_OFFSET);
    }
    out.extend(flow.dl_type.to_be_bytes());
    let l3 = out.len();
    match flow.dl_type {
        ethertype::IPV4 => put_ipv4(&mut out, flow, payload),
        ethertype::IPV6 => put_ipv6(&mut out, flow, payload),
        ethertype::ARP | ethertype::RARP => put_arp(&mut out, flow),
        t if ethertype::is_mpls(t) => put_labels(&mut out, flow),
        _ => {}
    }
    finished(&out, l3 as u16)
}

fn finished(bytes: &[u8], l3: u16) -> Packet {
    let mut p = Packet::from_slice(bytes);
    p.l3_ofs = l3;
    p
}

fn put_labels(out: &mut Vec<u8>, flow: &Flow) {
    let bottom = flow.mpls_lse[..MPLS_LABELS_MAX - 1].iter().position(|l| l & 0x100 != 0);
    let n = bottom.map_or(MPLS_LABELS_MAX, |at| at + 1);
    out.extend(flow.mpls_lse[..n].iter().flat_map(|l| l.to_be_bytes()));
}

fn put_ipv4(out: &mut Vec<u8>, flow: &Flow, payload: Payload<'_>) {
    let start = out.len();
    let frag = match flow.nw_frag {
        f if f & NW_FRAG_ANY == 0 => 0,
        f if f & NW_FRAG_LATER == 0 => MORE_FRAGMENTS,
        _ => MORE_FRAGMENTS | FRAGMENT_OFFSET,
    };
    out.extend([0x45, flow.nw_tos, 0, 0, 0, 0]);
    out.extend(frag.to_be_bytes());
    out.extend([flow.nw_ttl, flow.nw_proto, 0, 0]);
    out.extend(flow.nw_src.to_be_bytes());
    out.extend(flow.nw_dst.to_be_bytes());
    put_l4(out, flow, payload);
    fix_ipv4(&mut out[start..], flow);
}

/// Writes the length and the checksums of an IPv4 packet.
fn fix_ipv4(ip: &mut [u8], flow: &Flow) {
    let total = ip.len() as u16;
    let Some((h, l4)) = ip.split_first_chunk_mut::<{ header_len::IPV4 }>() else { return };
    h[2..4].copy_from_slice(&total.to_be_bytes());
    h[10..12].fill(0);
    let sum = checksum(&h[..]);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = pseudo_v4(flow.nw_src, flow.nw_dst, flow.nw_proto, l4.len() as u32);
    put_l4_checksum(l4, flow, pseudo);
}

fn put_ipv6(out: &mut Vec<u8>, flow: &Flow, payload: Payload<'_>) {
    let start = out.len();
    let first = 6 << 28 | u32::from(flow.nw_tos) << 20 | (flow.ipv6_label & 0xf_ffff);
    out.extend(first.to_be_bytes());
    out.extend([0, 0, flow.nw_proto, flow.nw_ttl]);
    out.extend(u128::from(flow.ipv6_src).to_be_bytes());
    out.extend(u128::from(flow.ipv6_dst).to_be_bytes());
    put_l4(out, flow, payload);
    fix_ipv6(&mut out[start..], flow);
}

fn fix_ipv6(ip: &mut [u8], flow: &Flow) {
    let Some((h, l4)) = ip.split_first_chunk_mut::<{ header_len::IPV6 }>() else { return };
    h[4..6].copy_from_slice(&(l4.len() as u16).to_be_bytes());
    let pseudo = pseudo_v6(flow.ipv6_src, flow.ipv6_dst, flow.nw_proto, l4.len() as u32);
    put_l4_checksum(l4, flow, pseudo);
}

fn put_arp(out: &mut Vec<u8>, flow: &Flow) {
    let mut arp = arp_message(flow.nw_proto.into(), EthAddr::ZERO, EthAddr::ZERO, 0, 0);
    // Addresses mean something in requests and replies only.
    if matches!(flow.nw_proto, 1 | 2) {
        arp = arp_message(flow.nw_proto.into(), flow.arp_sha, flow.arp_tha, flow.nw_src, flow.nw_dst);
    }
    out.extend(arp);
}

fn has_l4(flow: &Flow) -> bool {
    flow.nw_frag & (NW_FRAG_ANY | NW_FRAG_LATER) != NW_FRAG_ANY | NW_FRAG_LATER
}

fn put_l4(out: &mut Vec<u8>, flow: &Flow, payload: Payload<'_>) {
    if !has_l4(flow) {
        return;
    }
    let ports = [flow.tp_src.to_be_bytes(), flow.tp_dst.to_be_bytes()].concat();
    let type_code = [flow.tp_src as u8, flow.tp_dst as u8, 0, 0];
    match flow.nw_proto {
        ip_proto::TCP => {
            out.extend(ports);
            out.extend([0; 8]);
            out.extend((5 << 12 | (flow.tcp_flags & 0xfff)).to_be_bytes());
            out.extend([0; 6]);
            if flow.tcp_flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0 {
                payload.put(out);
            }
        }
        ip_proto::UDP => {
            out.extend(ports);
            out.extend(((header_len::UDP + payload.len()) as u16).to_be_bytes());
            out.extend([0, 0]);
            payload.put(out);
        }
        ip_proto::SCTP => {
            out.extend(ports);
            out.extend([0; 8]);
        }
        ip_proto::ICMP => {
            out.extend(type_code);
            out.extend([0; 4]);
            if matches!((flow.tp_src, flow.tp_dst), (0 | 8, 0)) {
                payload.put(out);
            }
        }
        ip_proto::IGMP => {
            out.extend(type_code);
            out.extend(flow.igmp_group_ip4.to_be_bytes());
        }
        ip_proto::ICMPV6 => {
            out.extend(type_code);
            put_icmpv6(out, flow, payload);
        }
        _ => {}
    }
}

fn put_icmpv6(out: &mut Vec<u8>, flow: &Flow, payload: Payload<'_>) {
    out.extend(flow.nd_reserved.to_be_bytes());
    let (kind, code) = (flow.tp_src as u8, flow.tp_dst);
    match kind {
        nd::SOLICIT | nd::ADVERT if code == 0 => {
            out.extend(u128::from(flow.nd_target).to_be_bytes());
            let options = [(nd::OPT_SOURCE_LLA, flow.arp_sha), (nd::OPT_TARGET_LLA, flow.arp_tha)];
            for (kind, addr) in options.into_iter().filter(|(_, a)| !a.is_zero()) {
                out.extend([kind, 1]);
                out.extend(addr.0);
            }
        }
        nd::ECHO_REQUEST | nd::ECHO_REPLY if code == 0 => payload.put(out),
        _ => {}
    }
}

/// Fills in the checksum of a transport header; SCTP's stays as it is.
fn put_l4_checksum(l4: &mut [u8], flow: &Flow, pseudo: u32) {
    let Some(at) = crate::checksum::offset_in_l4(flow.nw_proto).filter(|_| has_l4(flow)) else { return };
    let Some(field) = l4.get_mut(at..at + 2) else { return };
    field.fill(0);
    let pseudo = if matches!(flow.nw_proto, ip_proto::ICMP | ip_proto::IGMP) { 0 } else { pseudo };
    let value = match finish(sum(l4) + pseudo) {
        0 if flow.nw_proto == ip_proto::UDP => 0xffff,
        c => c,
    };
    l4[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Lengthens what [`compose`] made of `flow` to `len` bytes with zeros that count as payload: lengths and
/// checksums follow. A packet that is as long already stays as it is.
pub fn expand(p: &mut Packet, flow: &Flow, len: usize) {
    let extra = len.saturating_sub(p.len());
    if extra == 0 {
        return;
    }
    p.push_back(extra);
    let l3 = usize::from(p.l3_ofs).min(p.len());
    let total = p.len() as u16;
    match flow.dl_type {
        ethertype::NONE => {
            let at = 12 + 4 * flow.vlans.iter().filter(|v| v.is_present()).count();
            if let Some(field) = p.data_mut().get_mut(at..at + 2) {
                field.copy_from_slice(&total.to_be_bytes());
            }
        }
        ethertype::IPV4 => {
            let ip = &mut p.data_mut()[l3..];
            fix_udp_len(ip.get_mut(header_len::IPV4..), flow);
            fix_ipv4(ip, flow);
        }
        ethertype::IPV6 => {
            let ip = &mut p.data_mut()[l3..];
            fix_udp_len(ip.get_mut(header_len::IPV6..), flow);
            fix_ipv6(ip, flow);
        }
        _ => {}
    }
}

fn fix_udp_len(l4: Option<&mut [u8]>, flow: &Flow) {
    let Some(l4) = l4.filter(|_| flow.nw_proto == ip_proto::UDP && has_l4(flow)) else { return };
    let len = (l4.len() as u16).to_be_bytes();
    if let Some(field) = l4.get_mut(4..6) {
        field.copy_from_slice(&len);
    }
}

fn ethernet(dst: EthAddr, src: EthAddr, ethertype: u16, payload: &[u8]) -> Packet {
    let mut out = Vec::with_capacity(header_len::ETH + payload.len());
    out.extend(dst.0);
    out.extend(src.0);
    out.extend(ethertype.to_be_bytes());
    out.extend_from_slice(payload);
    finished(&out, header_len::ETH as u16)
}

fn arp_message(op: u16, sha: EthAddr, tha: EthAddr, spa: u32, tpa: u32) -> Vec<u8> {
    let mut a = vec![0, 1, 8, 0, 6, 4];
    a.extend(op.to_be_bytes());
    a.extend(sha.0);
    a.extend(spa.to_be_bytes());
    a.extend(tha.0);
    a.extend(tpa.to_be_bytes());
    a
}

/// ARP request (opcode 1) or reply (2), to all if `broadcast`, else to `tha`.
pub fn arp(op: u16, sha: EthAddr, tha: EthAddr, broadcast: bool, spa: u32, tpa: u32) -> Packet {
    let dst = if broadcast { EthAddr::BROADCAST } else { tha };
    ethernet(dst, sha, ethertype::ARP, &arp_message(op, sha, tha, spa, tpa))
}

/// Reverse ARP request by which a host whose place changed makes itself known.
pub fn rarp(src: EthAddr) -> Packet {
    const REQUEST_REVERSE: u16 = 3;
    ethernet(EthAddr::BROADCAST, src, ethertype::RARP, &arp_message(REQUEST_REVERSE, src, src, 0, 0))
}

/// The multicast group in which the host of `addr` listens for solicitations (RFC 4291, 2.7.1).
pub fn solicited_node(addr: U128) -> U128 {
    U128 { hi: 0xff02 << 48, lo: 0x1_ff00_0000 | addr.lo & 0xff_ffff }
}

/// The Ethernet group of an IPv6 multicast group (RFC 2464, 7).
pub fn ipv6_multicast_mac(group: U128) -> EthAddr {
    EthAddr::from_u64(0x3333_0000_0000 | group.lo & 0xffff_ffff)
}

/// A Neighbor Discovery message with one option, hop limit 255 (RFC 4861).
fn neighbor_message(kind: u8, eth: (EthAddr, EthAddr), ip: (U128, U128), target: U128, flags: u32) -> Packet {
    let (src, dst) = eth;
    let is_solicit = kind == nd::SOLICIT;
    let flow = Flow {
        dl_src: src,
        dl_dst: dst,
        dl_type: ethertype::IPV6,
        ipv6_src: ip.0,
        ipv6_dst: ip.1,
        nw_proto: ip_proto::ICMPV6,
        nw_ttl: 255,
        tp_src: kind.into(),
        nd_target: target,
        nd_reserved: flags,
        arp_sha: if is_solicit { src } else { EthAddr::ZERO },
        arp_tha: if is_solicit { EthAddr::ZERO } else { src },
        ..Flow::ZERO
    };
    compose(&flow, Payload::Count(0))
}

/// Neighbor solicitation for `target`, to its solicited-node group.
pub fn neighbor_solicit(eth_src: EthAddr, src: U128, target: U128) -> Packet {
    let group = solicited_node(target);
    neighbor_message(nd::SOLICIT, (eth_src, ipv6_multicast_mac(group)), (src, group), target, 0)
}

/// Neighbor advertisement of `src` by its owner. `flags` is the word with router, solicited and override
/// in its top bits.
pub fn neighbor_advert(eth_src: EthAddr, eth_dst: EthAddr, src: U128, dst: U128, flags: u32) -> Packet {
    neighbor_message(nd::ADVERT, (eth_src, eth_dst), (src, dst), src, flags)
}

/// Why a text is no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HexError {
    #[error("Trailing garbage in packet data")]
    Garbage,
    #[error("Packet data too short for Ethernet")]
    TooShort,
}

/// An Ethernet frame from hexadecimal text; space between bytes does not count.
pub fn from_hex(text: &str) -> Result<Packet, HexError> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).map(|d| d as u8).ok_or(HexError::Garbage))
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(HexError::Garbage);
    }
    let bytes: Vec<u8> = digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect();
    if bytes.len() < header_len::ETH {
        return Err(HexError::TooShort);
    }
    Ok(Packet::from_slice(&bytes))
}

/// As [`compose`], and for a key without an Ethernet header without one.
pub fn compose_typed(flow: &Flow, payload: Payload<'_>) -> Packet {
    let mut p = compose(flow, payload);
    if flow.packet_type != flow::PT_ETH {
        edit::pop_eth(&mut p);
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{frame, super_simple_checksum};
    use crate::parse::{Meta, flow_of};
    use proptest::prelude::*;

    /// What `compose` leaves out of a key.
    fn composable(f: &Flow) -> Flow {
        let mut f = f.clone();
        if f.dl_type == ethertype::IPV6 && f.nw_frag != 0 {
            (f.nw_frag, f.nw_proto) = (0, f.nw_proto);
        }
        if matches!(f.dl_type, ethertype::ARP | ethertype::RARP) && !matches!(f.nw_proto, 1 | 2) {
            (f.nw_src, f.nw_dst, f.arp_sha, f.arp_tha) = (0, 0, EthAddr::ZERO, EthAddr::ZERO);
        }
        // The first option that is there names the type.
        if f.nd_options_type != 0 && !f.arp_sha.is_zero() {
            f.nd_options_type = nd::OPT_SOURCE_LLA;
        }
        f.nsh = flow::Nsh::default();
        f
    }

    /// A damaged packet's key does not hold together.
    fn is_whole(f: &Flow) -> bool {
        let is_v6_part = f.dl_type == ethertype::IPV6 && f.nw_frag != 0;
        let is_ext = f.dl_type == ethertype::IPV6 && ip_proto::is_ipv6_extension(f.nw_proto);
        let no_ip = f.is_ip() && f.nw_ttl == 0 && f.nw_proto == 0;
        let has_header = f.tp_src != 0 || f.nw_frag != 0 || !matches!(f.nw_proto, 1 | 2 | 6 | 17 | 58 | 132);
        let nd = f.tp_src == 135 || f.tp_src == 136;
        let nd_without_options = nd && f.nd_options_type == 0;
        let odd_icmp = f.nw_proto == 1 && f.dl_type == ethertype::IPV6;
        let odd_icmp6 = f.nw_proto == 58 && f.dl_type == ethertype::IPV4;
        let cut_label = f.mpls_lse[0] != 0 && f.mpls_lse.iter().all(|l| l & 0x100 == 0);
        let no_label = matches!(f.dl_type, 0x8847 | 0x8848) && f.mpls_lse[0] == 0;
        !is_v6_part
            && !is_ext
            && !no_ip
            && (has_header || !f.is_ip())
            && (!nd || nd_without_options || !f.arp_sha.is_zero() || !f.arp_tha.is_zero())
            && !(odd_icmp || odd_icmp6 || cut_label || no_label)
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(3000) })]

        #[test]
        fn key_of_what_is_composed(seed: u64, n in 0usize..50, more in 0usize..30) {
            let mut p = Packet::from_slice(&frame(seed));
            let want = composable(&flow_of(&mut p, &Meta::default()));
            prop_assume!(p.l3_ofs != NO_OFFSET && is_whole(&want));
            // A tag beyond the second leaves a type that nothing follows.
            prop_assume!(!matches!(want.dl_type, 0x8100 | 0x88a8));
            let mut made = compose(&want, Payload::Count(n));
            let len = made.len() + more;
            expand(&mut made, &want, len);
            let got = flow_of(&mut made, &Meta::default());
            let differ: Vec<_> = got.words().iter().zip(want.words()).enumerate()
                .filter(|(_, (a, b))| a != b).collect();
            prop_assert!(differ.is_empty(), "{:x?} {:?}", differ, want.dl_type);
            prop_assert_eq!(made.l2_pad, 0);
        }
    }

    fn is_sound_nd(p: &Packet) -> bool {
        let ip = &p.data()[14..];
        let mut covered = ip[40..].to_vec();
        covered.extend(&ip[8..40]);
        covered.extend([0, 58, 0, ip.len() as u8 - 40]);
        super_simple_checksum(&covered) == 0
    }

    #[test]
    fn neighbors() {
        let (mac, us, them) =
            (EthAddr([2, 0, 0, 0, 0, 1]), U128::from(0xfe80_u128 << 112 | 1), U128::from(0xabcdef));
        let mut p = neighbor_solicit(mac, us, them);
        assert!(is_sound_nd(&p));
        let f = flow_of(&mut p, &Meta::default());
        assert_eq!((f.tp_src, f.nd_target, f.arp_sha, f.nw_ttl), (135, them, mac, 255));
        assert_eq!(f.dl_dst, EthAddr([0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]));
        let mut p = neighbor_advert(mac, EthAddr([4; 6]), us, them, 0x6000_0000);
        assert!(is_sound_nd(&p));
        let f = flow_of(&mut p, &Meta::default());
        assert_eq!((f.tp_src, f.nd_target, f.arp_tha, f.nd_reserved), (136, us, mac, 0x6000_0000));
        let f = flow_of(&mut arp(1, mac, EthAddr::ZERO, true, 5, 6), &Meta::default());
        assert_eq!((f.nw_proto, f.nw_src, f.nw_dst, f.dl_dst), (1, 5, 6, EthAddr::BROADCAST));
        assert_eq!(flow_of(&mut rarp(mac), &Meta::default()).nw_proto, 3);
    }

    #[test]
    fn hexadecimal_frames() {
        assert_eq!(from_hex("00 01\n02030405060708090a0b 0800").unwrap().len(), 14);
        assert_eq!(from_hex("0001").err(), Some(HexError::TooShort));
        assert_eq!(from_hex("0001020304050607080900010800x").err(), Some(HexError::Garbage));
        assert_eq!(from_hex("000").err(), Some(HexError::Garbage));
    }

    #[test]
    fn without_ethernet() {
        let flow = Flow {
            packet_type: crate::proto::packet_type::IPV4,
            dl_type: 0x0800,
            nw_proto: 17,
            nw_ttl: 9,
            ..Flow::ZERO
        };
        let mut p = compose_typed(&flow, Payload::Bytes(b"abc"));
        assert_eq!((p.len(), p.packet_type), (31, flow.packet_type));
        assert_eq!(flow_of(&mut p, &Meta::default()), flow);
    }
}
