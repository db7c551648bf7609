//! IPv4, IPv6 and ARP.

use super::{merge, merge_mac, merge128};
use crate::Packet;
use crate::checksum::{offset_in_l4, update16, update32, update128};
use crate::cursor::{be16, be32, be128, mac};
use crate::header::{ArpKey, Ipv4Key, Ipv6Key, Masked};
use crate::proto::{ethertype, header_len, ip_proto};
use flow::{EthAddr, U128};

/// Explicit congestion notification "congestion experienced" (RFC 3168).
const ECN_CE: u8 = 3;

/// Source, destination, TOS and TTL. Protocol and fragment bits cannot be set.
pub fn set_ipv4(p: &mut Packet, m: &Masked<Ipv4Key>) {
    if p.l3_type() != Some(ethertype::IPV4) {
        return;
    }
    let Some(h) = p.header::<{ header_len::IPV4 }>(p.l3_ofs) else { return };
    let (old_src, old_dst) = (be32(h, 12), be32(h, 16));
    let src = merge(old_src, m.key.src, m.mask.src);
    let dst = merge(old_dst, m.key.dst, m.mask.dst);
    let (old_tos, old_ttl) = (be16(h, 0), be16(h, 8));
    h[1] = merge(h[1], m.key.tos, m.mask.tos);
    h[8] = merge(h[8], m.key.ttl, m.mask.ttl);
    h[12..16].copy_from_slice(&src.to_be_bytes());
    h[16..20].copy_from_slice(&dst.to_be_bytes());
    let mut sum = be16(h, 10);
    sum = update16(sum, old_tos, be16(h, 0));
    sum = update16(sum, old_ttl, be16(h, 8));
    sum = update32(update32(sum, old_src, src), old_dst, dst);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    let (proto, is_later_fragment) = (h[9], be16(h, 6) & 0x1fff != 0);
    if (old_src, old_dst) != (src, dst) && !is_later_fragment && proto != ip_proto::ICMPV6 {
        update_l4(p, proto, |sum| update32(update32(sum, old_src, src), old_dst, dst));
    }
}

/// Applies `update` to the checksum of a transport protocol that has a pseudo header.
fn update_l4(p: &mut Packet, proto: u8, update: impl Fn(u16) -> u16) {
    let min_len = match proto {
        ip_proto::TCP => header_len::TCP,
        ip_proto::UDP => header_len::UDP,
        ip_proto::ICMPV6 => 4,
        _ => return,
    };
    let Some(at) = offset_in_l4(proto) else { return };
    let partial = p.l4_checksum_is_partial();
    let l4 = p.l4_bytes_mut();
    if l4.len() < min_len {
        return;
    }
    let Some(field) = l4.get_mut(at..at + 2).and_then(|f| f.first_chunk_mut::<2>()) else { return };
    let old = u16::from_be_bytes(*field);
    let new = if partial {
        !update(!old)
    } else {
        match update(old) {
            _ if proto == ip_proto::UDP && old == 0 => return,
            0 if proto == ip_proto::UDP => 0xffff,
            new => new,
        }
    };
    *field = new.to_be_bytes();
}

/// Source, destination, label, traffic class and hop limit.
pub fn set_ipv6(p: &mut Packet, m: &Masked<Ipv6Key>) {
    if p.l3_type() != Some(ethertype::IPV6) {
        return;
    }
    let chain = Chain::of(p);
    let Some(h) = p.header::<{ header_len::IPV6 }>(p.l3_ofs) else { return };
    let (old_src, old_dst) = (be128(h, 8), be128(h, 24));
    let src = merge128(old_src, m.key.src, m.mask.src);
    let dst = merge128(old_dst, m.key.dst, m.mask.dst);
    let word = be32(h, 0);
    let tclass = merge((word >> 20) as u8, m.key.tclass, m.mask.tclass);
    let label = merge(word & 0xf_ffff, m.key.label, m.mask.label) & 0xf_ffff;
    let word = (word & 0xf000_0000) | (u32::from(tclass) << 20) | label;
    h[..4].copy_from_slice(&word.to_be_bytes());
    h[7] = merge(h[7], m.key.hlimit, m.mask.hlimit);
    h[8..24].copy_from_slice(&bytes(src));
    h[24..40].copy_from_slice(&bytes(dst));
    let Some(chain) = chain else { return };
    update_l4(p, chain.proto, |sum| {
        let sum = update128(sum, old_src, src);
        // With segments left, the pseudo header has the final destination (RFC 8200, 8.1).
        if chain.segments_left { sum } else { update128(sum, old_dst, dst) }
    });
}

fn bytes(a: U128) -> [u8; 16] {
    u128::from(a).to_be_bytes()
}

/// What the extension headers of IPv6 say about the transport header.
pub(crate) struct Chain {
    pub proto: u8,
    /// A routing header has the final destination.
    pub segments_left: bool,
    /// It is the first of several fragments.
    pub is_fragment: bool,
}

impl Chain {
    /// `None` if there is no transport header in this packet.
    pub fn of(p: &Packet) -> Option<Chain> {
        let h = p.data().get(usize::from(p.l3_ofs)..usize::from(p.l4_ofs))?;
        let (fixed, mut rest) = h.split_first_chunk::<{ header_len::IPV6 }>()?;
        let mut chain = Chain { proto: fixed[6], segments_left: false, is_fragment: false };
        while ip_proto::is_ipv6_extension(chain.proto) {
            let ext = rest.first_chunk::<8>()?;
            let len = match chain.proto {
                ip_proto::FRAGMENT if be16(ext, 2) & 0xfff8 != 0 => return None,
                ip_proto::FRAGMENT => 8,
                ip_proto::AH => (usize::from(ext[1]) + 2) * 4,
                _ => (usize::from(ext[1]) + 1) * 8,
            };
            chain.is_fragment |= chain.proto == ip_proto::FRAGMENT && be16(ext, 2) != 0;
            chain.segments_left |= chain.proto == ip_proto::ROUTING && ext[3] > 0;
            chain.proto = ext[0];
            rest = rest.get(len..)?;
        }
        Some(chain)
    }
}

/// Marks an IP packet "congestion experienced".
pub fn set_ecn_ce(p: &mut Packet) {
    match p.l3_type() {
        Some(ethertype::IPV4) => {
            let ce = Ipv4Key { tos: ECN_CE, ..Ipv4Key::default() };
            set_ipv4(p, &Masked { key: ce, mask: ce });
        }
        Some(ethertype::IPV6) => {
            let ce = Ipv6Key { tclass: ECN_CE, ..Ipv6Key::default() };
            set_ipv6(p, &Masked { key: ce, mask: ce });
        }
        _ => {}
    }
}

/// Opcode and addresses of ARP and RARP.
pub fn set_arp(p: &mut Packet, m: &Masked<ArpKey>) {
    if !matches!(p.l3_type(), Some(ethertype::ARP | ethertype::RARP)) {
        return;
    }
    let Some(h) = p.header::<{ header_len::ARP }>(p.l3_ofs) else { return };
    let address = |old, key, mask| -> EthAddr { merge_mac(old, Masked { key, mask }) };
    let op = merge(be16(h, 6), m.key.op, m.mask.op);
    let sha = address(mac(h, 8), m.key.sha, m.mask.sha);
    let sip = merge(be32(h, 14), m.key.sip, m.mask.sip);
    let tha = address(mac(h, 18), m.key.tha, m.mask.tha);
    let tip = merge(be32(h, 24), m.key.tip, m.mask.tip);
    h[6..8].copy_from_slice(&op.to_be_bytes());
    h[8..14].copy_from_slice(&sha.0);
    h[14..18].copy_from_slice(&sip.to_be_bytes());
    h[18..24].copy_from_slice(&tha.0);
    h[24..28].copy_from_slice(&tip.to_be_bytes());
}
