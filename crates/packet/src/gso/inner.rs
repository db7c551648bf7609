//! Large frames inside a tunnel: the kernel hands them over with the request that the inner TCP connection be cut,
//! and leaves it to the checksum's place to say that it is the inner one.

use super::{GsoError, segment_plain};
use crate::checksum::{checksum, finish, fold, pseudo_v4, pseudo_v6, sum};
use crate::cursor::{be16, be32, be128};
use crate::proto::{header_len, ip_proto, packet_type};
use crate::tunnel::gre;
use crate::{Checksum, GsoKind, NO_OFFSET, Packet};

/// Whether the segments that are asked for are those of a packet inside this one. The packet must have been parsed.
#[inline]
pub fn is_inner(packet: &Packet) -> bool {
    match (packet.offload.gso, packet.offload.checksum) {
        (Some(_), Checksum::Partial { start, .. }) => packet.l4_ofs != NO_OFFSET && start > packet.l4_ofs,
        _ => false,
    }
}

/// Cuts the inner packet, and puts the outer headers in front of each segment.
pub(super) fn segment_inner(packet: &Packet, out: &mut impl FnMut(Packet)) -> Result<(), GsoError> {
    let (gso, start, offset) = match (packet.offload.gso, packet.offload.checksum) {
        (Some(gso), Checksum::Partial { start, offset }) => (gso, start, offset),
        _ => return Err(GsoError::NoHeader),
    };
    let l3_len = match gso.kind {
        GsoKind::Tcp4 => header_len::IPV4,
        GsoKind::Tcp6 => header_len::IPV6,
        GsoKind::Udp => return Err(GsoError::NoHeader),
    };
    let l3_at = usize::from(start).checked_sub(l3_len).ok_or(GsoError::NoHeader)?;
    let (outer, inner) = packet.data().split_at_checked(l3_at).ok_or(GsoError::NoHeader)?;
    // Headers with options would begin elsewhere: what is there then is no header.
    let (first, kind) = match gso.kind {
        GsoKind::Tcp4 => (0x45, packet_type::IPV4),
        _ => (0x60, packet_type::IPV6),
    };
    let mask = if first == 0x45 { 0xff } else { 0xf0 };
    if inner.first().is_none_or(|b| b & mask != first) {
        return Err(GsoError::NoHeader);
    }
    let mut alone = Packet::from_slice(inner);
    (alone.packet_type, alone.l3_ofs, alone.l4_ofs) = (kind, 0, l3_len as u16);
    alone.rss_hash = packet.rss_hash;
    alone.offload.gso = Some(gso);
    alone.offload.checksum = Checksum::Partial { start: l3_len as u16, offset };
    let mut index = 0;
    segment_plain(alone, &mut |mut s| {
        if let Some(room) = s.push_front(outer.len()).get_mut(..outer.len()) {
            room.copy_from_slice(outer);
        }
        s.packet_type = packet.packet_type;
        (s.l2_5_ofs, s.l3_ofs, s.l4_ofs) = (packet.l2_5_ofs, packet.l3_ofs, packet.l4_ofs);
        s.offload.checksum = Checksum::Unknown;
        fix_outer(&mut s, index);
        index = index.wrapping_add(1);
        out(s);
    })
}

/// Makes the outer headers those of a packet of its own.
fn fix_outer(s: &mut Packet, index: u16) {
    let (l3_at, l4_at) = (usize::from(s.l3_ofs), usize::from(s.l4_ofs));
    let data = s.data_mut();
    let total = data.len();
    let Some((head, l4)) = data.split_at_mut_checked(l4_at) else { return };
    let Some(ip) = head.get_mut(l3_at..) else { return };
    let is_v4 = ip.first().is_some_and(|b| b >> 4 == 4);
    let proto = ip.get(if is_v4 { 9 } else { 6 }).copied().unwrap_or(0);
    if is_v4 {
        put16(ip, 2, (total - l3_at) as u16);
        let id = ip.get(4..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |b| u16::from_be_bytes(*b));
        put16(ip, 4, id.wrapping_add(index));
        put16(ip, 10, 0);
        let sum = checksum(ip);
        put16(ip, 10, sum);
    } else {
        put16(ip, 4, (total - l3_at - header_len::IPV6) as u16);
    }
    match proto {
        ip_proto::UDP => fix_udp(ip, l4, is_v4),
        ip_proto::GRE => fix_gre(l4),
        _ => {}
    }
}

fn fix_udp(ip: &[u8], l4: &mut [u8], is_v4: bool) {
    let len = l4.len() as u32;
    put16(l4, 4, l4.len() as u16);
    if matches!(l4.get(6..8), Some([0, 0]) | None) {
        return;
    }
    put16(l4, 6, 0);
    let pseudo = if is_v4 {
        ip.first_chunk::<{ header_len::IPV4 }>()
            .map(|h| pseudo_v4(be32(h, 12), be32(h, 16), ip_proto::UDP, len))
    } else {
        ip.first_chunk::<{ header_len::IPV6 }>()
            .map(|h| pseudo_v6(be128(h, 8), be128(h, 24), ip_proto::UDP, len))
    };
    let total = finish(pseudo.unwrap_or(0) + u32::from(fold(sum(l4))));
    put16(l4, 6, if total == 0 { 0xffff } else { total });
}

fn fix_gre(l4: &mut [u8]) {
    let flags = l4.first_chunk::<{ gre::LEN }>().map_or(0, |h| be16(h, 0));
    if flags & gre::CSUM != 0 {
        put16(l4, gre::LEN, 0);
        let sum = checksum(l4);
        put16(l4, gre::LEN, sum);
    }
}

fn put16(b: &mut [u8], at: usize, v: u16) {
    if let Some(c) = b.get_mut(at..at + 2) {
        c.copy_from_slice(&v.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment;
    use super::*;
    use crate::parse::{Meta, flow_of};
    use crate::tunnel::{PushContext, TunnelKind, pop, push};
    use crate::{Gso, compose};
    use flow::{EthAddr, Flow, Tunnel};

    /// A TCP frame of `payload` bytes.
    fn tcp(payload: usize) -> Packet {
        let f = Flow {
            dl_dst: EthAddr::from_u64(1),
            dl_src: EthAddr::from_u64(2),
            dl_type: 0x0800,
            nw_src: 1,
            nw_dst: 2,
            nw_proto: 6,
            nw_ttl: 64,
            tp_src: 3,
            tp_dst: 4,
            ..Flow::ZERO
        };
        compose::compose(&f, compose::Payload::Count(payload))
    }

    /// A VXLAN packet around it, the outer UDP checksum there or not.
    fn encapsulated(payload: usize, with_sum: bool) -> Packet {
        let mut header = vec![0xaa; 12];
        header.extend([8, 0, 0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, 17, 0, 0, 1, 1, 2, 1, 1, 1, 2, 2]);
        let sum = checksum(&header[14..]);
        header[24..26].copy_from_slice(&sum.to_be_bytes());
        header.extend([0, 0, 0x12, 0xb5, 0, 0]);
        header.extend(if with_sum { [0xff, 0xff] } else { [0, 0] });
        header.extend([8, 0, 0, 0, 0, 0, 7, 0]);
        let mut p = tcp(payload);
        assert!(push(&mut p, &header, TunnelKind::Vxlan, &PushContext::default()));
        flow_of(&mut p, &Meta::default());
        p
    }

    #[test]
    fn segments_of_a_tunnelled_connection_are_whole_outer_packets() {
        for with_sum in [false, true] {
            let mut p = encapsulated(2_500, with_sum);
            let l4_at = 50 + 14 + 20;
            p.offload.gso = Some(Gso { kind: GsoKind::Tcp4, size: 1_000, ecn: false });
            p.offload.checksum = Checksum::Partial { start: l4_at, offset: 16 };
            assert!(is_inner(&p));
            let mut lens = Vec::new();
            segment(p, &mut |mut s| {
                let outer = flow_of(&mut s, &Meta::default());
                assert_eq!((outer.nw_proto, outer.tp_dst), (17, 4789));
                let mut t = Tunnel::default();
                pop(&mut s, TunnelKind::Vxlan, &mut t).expect("sums and lengths are right");
                let inner = flow_of(&mut s, &Meta::default());
                assert_eq!((inner.nw_proto, inner.tp_dst, t.id), (6, 4, 7));
                lens.push(s.len());
            })
            .expect("segments");
            assert_eq!(lens, [1_054, 1_054, 554]);
        }
    }

    #[test]
    fn what_is_not_there_is_not_cut() {
        let mut p = encapsulated(100, false);
        p.offload.gso = Some(Gso { kind: GsoKind::Tcp6, size: 50, ecn: false });
        p.offload.checksum = Checksum::Partial { start: 90, offset: 16 };
        assert_eq!(segment(p, &mut |_| {}), Err(GsoError::NoHeader));
        assert!(!is_inner(&tcp(10)));
    }
}
