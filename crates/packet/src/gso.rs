//! Segmentation in software: a large frame that stands for many is cut into them.

mod inner;

pub use inner::is_inner;
use inner::segment_inner;

use crate::checksum::{checksum, finish, offset_in_l4, pseudo_v4, pseudo_v6, sum};
use crate::cursor::{be16, be32, be128};
use crate::edit::Chain;
use crate::proto::{ethertype, header_len, ip_proto};
use crate::{Checksum, Gso, GsoKind, NO_OFFSET, Offload, Packet};

/// Segments of one frame beyond which it is refused: 64 KiB in pieces of [`SEGMENT_MIN`] bytes.
pub const SEGMENTS_MAX: usize = 65536 / SEGMENT_MIN;
/// Smallest payload of a segment that is accepted.
pub const SEGMENT_MIN: usize = 8;

/// Why a frame cannot be cut; it is to be dropped and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GsoError {
    #[error("packet has no parsed transport header of its kind")]
    NoHeader,
    #[error("segment size {0} is too small")]
    SegmentSize(u16),
    #[error("more than {SEGMENTS_MAX} segments")]
    TooMany,
}

/// Cuts `packet` into segments, in order, and hands each to `out`. A packet without a request goes through as
/// it is. Lengths, identification, sequence numbers and flags are those of each segment; transport
/// checksums are filled in.
///
/// The packet must have been parsed: its header offsets are used. Anything in front of the network layer
/// (Ethernet, tags) is repeated in each segment.
pub fn segment(packet: Packet, out: &mut impl FnMut(Packet)) -> Result<(), GsoError> {
    if packet.offload.gso.is_none() {
        out(packet);
        return Ok(());
    }
    if is_inner(&packet) { segment_inner(&packet, out) } else { segment_plain(packet, out) }
}

/// Cuts a packet by its own transport header.
fn segment_plain(packet: Packet, out: &mut impl FnMut(Packet)) -> Result<(), GsoError> {
    let gso = packet.offload.gso.ok_or(GsoError::NoHeader)?;
    let plan = Plan::of(&packet, gso)?;
    let payload = packet.data().get(plan.headers..plan.end).unwrap_or(&[]);
    let size = usize::from(gso.size);
    let count = payload.len().div_ceil(size).max(1);
    if count > SEGMENTS_MAX {
        return Err(GsoError::TooMany);
    }
    for i in 0..count {
        let at = i * size;
        let piece = payload.get(at..payload.len().min(at + size)).unwrap_or(&[]);
        let place = Place { index: i, offset: at, is_last: i + 1 == count };
        out(plan.segment(&packet, piece, place));
    }
    Ok(())
}

/// Where a segment stands in its frame.
struct Place {
    index: usize,
    offset: usize,
    is_last: bool,
}

/// What all segments of a frame have in common.
struct Plan {
    is_v4: bool,
    proto: u8,
    /// Bytes that are repeated in each segment.
    headers: usize,
    /// End of the payload, in front of link-layer padding.
    end: usize,
    /// Congestion window reduced belongs to the first segment alone (RFC 3168, 6.1.2).
    ecn: bool,
}

impl Plan {
    fn of(p: &Packet, gso: Gso) -> Result<Plan, GsoError> {
        if usize::from(gso.size) < SEGMENT_MIN {
            return Err(GsoError::SegmentSize(gso.size));
        }
        let end = p.len().saturating_sub(usize::from(p.l2_pad));
        let (is_v4, proto) = network(p).ok_or(GsoError::NoHeader)?;
        let wanted = match gso.kind {
            GsoKind::Tcp4 if is_v4 => ip_proto::TCP,
            GsoKind::Tcp6 if !is_v4 => ip_proto::TCP,
            GsoKind::Udp => ip_proto::UDP,
            _ => return Err(GsoError::NoHeader),
        };
        let l4 = p.l4_bytes();
        let l4_header = match proto {
            ip_proto::TCP => l4.first_chunk::<{ header_len::TCP }>().map(|h| usize::from(h[12] >> 4) * 4),
            ip_proto::UDP => l4.first_chunk::<{ header_len::UDP }>().map(|_| header_len::UDP),
            _ => None,
        };
        let l4_header = l4_header.ok_or(GsoError::NoHeader)?;
        let is_tcp_short = proto == ip_proto::TCP && l4_header < header_len::TCP;
        if proto != wanted || is_tcp_short || l4_header > l4.len() {
            return Err(GsoError::NoHeader);
        }
        let headers = usize::from(p.l4_ofs) + l4_header;
        Ok(Plan { is_v4, proto, headers, end, ecn: gso.ecn })
    }

    fn segment(&self, of: &Packet, piece: &[u8], place: Place) -> Packet {
        let headers = of.data().get(..self.headers).unwrap_or(&[]);
        let mut bytes = Vec::with_capacity(headers.len() + piece.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(piece);
        let mut s = Packet::from_slice(&bytes);
        (s.l2_5_ofs, s.l3_ofs, s.l4_ofs) = (of.l2_5_ofs, of.l3_ofs, of.l4_ofs);
        (s.rss_hash, s.packet_type) = (of.rss_hash, of.packet_type);
        s.offload = Offload { checksum: Checksum::Good, gso: None };
        self.fix_transport(&mut s, &place);
        self.fix_network(&mut s, place.index);
        s
    }

    fn fix_network(&self, s: &mut Packet, index: usize) {
        let at = usize::from(s.l3_ofs);
        let l4_at = usize::from(s.l4_ofs);
        let len = s.len();
        let Some(ip) = s.data_mut().get_mut(at..) else { return };
        if self.is_v4 {
            let header = l4_at - at;
            let Some(h) = ip.get_mut(..header) else { return };
            let Some(fixed) = h.first_chunk_mut::<{ header_len::IPV4 }>() else { return };
            fixed[2..4].copy_from_slice(&((len - at) as u16).to_be_bytes());
            let id = be16(fixed, 4).wrapping_add(index as u16);
            fixed[4..6].copy_from_slice(&id.to_be_bytes());
            fixed[10..12].fill(0);
            let sum = checksum(h);
            if let Some(field) = h.get_mut(10..12) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
        } else if let Some(h) = ip.first_chunk_mut::<{ header_len::IPV6 }>() {
            let payload = (len - at - header_len::IPV6) as u16;
            h[4..6].copy_from_slice(&payload.to_be_bytes());
        }
    }

    /// Sequence number, flags, length and checksum of the transport header.
    fn fix_transport(&self, s: &mut Packet, place: &Place) {
        let Some(pseudo) = self.pseudo(s) else { return };
        let l4_at = usize::from(s.l4_ofs);
        let Some(l4) = s.data_mut().get_mut(l4_at..) else { return };
        let len = l4.len() as u16;
        if let Some(h) = l4.first_chunk_mut::<{ header_len::TCP }>().filter(|_| self.proto == ip_proto::TCP) {
            let sequence = be32(h, 4).wrapping_add(place.offset as u32);
            h[4..8].copy_from_slice(&sequence.to_be_bytes());
            const FIN_PSH: u8 = 0x09;
            const CWR: u8 = 0x80;
            if !place.is_last {
                h[13] &= !FIN_PSH;
            }
            if self.ecn && place.index > 0 {
                h[13] &= !CWR;
            }
        } else if let Some(h) = l4.first_chunk_mut::<{ header_len::UDP }>() {
            h[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let Some(at) = offset_in_l4(self.proto) else { return };
        let Some(field) = l4.get_mut(at..at + 2) else { return };
        field.fill(0);
        let value = match finish(sum(l4) + pseudo) {
            0 if self.proto == ip_proto::UDP => 0xffff,
            c => c,
        };
        l4[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn pseudo(&self, s: &Packet) -> Option<u32> {
        let ip = s.data().get(usize::from(s.l3_ofs)..)?;
        let l4_len = (s.len() - usize::from(s.l4_ofs)) as u32;
        if self.is_v4 {
            let h = ip.first_chunk::<{ header_len::IPV4 }>()?;
            Some(pseudo_v4(be32(h, 12), be32(h, 16), self.proto, l4_len))
        } else {
            let h = ip.first_chunk::<{ header_len::IPV6 }>()?;
            Some(pseudo_v6(be128(h, 8), be128(h, 24), self.proto, l4_len))
        }
    }
}

/// Whether this is IPv4 (else IPv6), and its transport protocol.
fn network(p: &Packet) -> Option<(bool, u8)> {
    if p.l3_ofs == NO_OFFSET || p.l4_ofs == NO_OFFSET || p.l4_ofs < p.l3_ofs {
        return None;
    }
    match p.l3_type()? {
        ethertype::IPV4 => {
            let ip = p.data().get(usize::from(p.l3_ofs)..usize::from(p.l4_ofs))?;
            let h = ip.first_chunk::<{ header_len::IPV4 }>()?;
            // Fragments are not for cutting.
            (be16(h, 6) & 0x3fff == 0).then_some((true, h[9]))
        }
        ethertype::IPV6 => {
            let chain = Chain::of(p)?;
            (!chain.is_fragment).then_some((false, chain.proto))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Payload, compose};
    use crate::edit;
    use crate::frames::super_simple_checksum;
    use crate::parse::{Meta, flow_of};
    use flow::{Flow, VLAN_CFI, Vlan};
    use proptest::prelude::*;

    fn large(v6: bool, proto: u8, tagged: bool, payload: &[u8]) -> Packet {
        let mut f = Flow {
            dl_type: if v6 { 0x86dd } else { 0x0800 },
            nw_proto: proto,
            nw_ttl: 64,
            nw_src: 0x0a000001,
            nw_dst: 0x0a000002,
            ipv6_src: 1.into(),
            ipv6_dst: 2.into(),
            tp_src: 1000,
            tp_dst: 80,
            ..Flow::ZERO
        };
        if v6 {
            (f.nw_src, f.nw_dst) = (0, 0);
        } else {
            (f.ipv6_src, f.ipv6_dst) = (0.into(), 0.into());
        }
        if tagged {
            f.vlans[0] = Vlan { tpid: 0x8100, tci: VLAN_CFI | 5 };
        }
        let mut p = compose(&f, Payload::Bytes(payload));
        if proto == ip_proto::TCP {
            // FIN, PSH, ACK, CWR; composed without, for they leave no payload.
            flow_of(&mut p, &Meta::default());
            let at = usize::from(p.l4_ofs);
            p.data_mut()[at + 13] = 0x99;
        }
        flow_of(&mut p, &Meta::default());
        p
    }

    fn is_sound(p: &Packet, v6: bool, proto: u8) -> bool {
        let ip = &p.data()[usize::from(p.l3_ofs)..];
        let addrs = if v6 { &ip[8..40] } else { &ip[12..20] };
        let mut covered = p.l4_bytes().to_vec();
        if covered.len() % 2 == 1 {
            covered.push(0);
        }
        covered.extend(addrs);
        covered.extend([0, proto]);
        covered.extend((p.l4_len() as u16).to_be_bytes());
        super_simple_checksum(&covered) == 0 && (v6 || super_simple_checksum(&ip[..20]) == 0)
    }

    proptest! {
        #[test]
        fn segments_make_up_the_frame(v6: bool, tcp: bool, tagged: bool, len in 1usize..5000, size in 8u16..1500) {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let proto = if tcp { ip_proto::TCP } else { ip_proto::UDP };
            let mut p = large(v6, proto, tagged, &payload);
            let kind = match (tcp, v6) {
                (true, false) => GsoKind::Tcp4,
                (true, true) => GsoKind::Tcp6,
                (false, _) => GsoKind::Udp,
            };
            p.offload.gso = Some(Gso { kind, size, ecn: true });
            let original = flow_of(&mut p, &Meta::default());
            let mut segments = Vec::new();
            segment(p, &mut |s| segments.push(s)).unwrap();
            prop_assert_eq!(segments.len(), len.div_ceil(usize::from(size)));
            let header = if tcp { 20 } else { 8 };
            let (mut back, last) = (Vec::new(), segments.len() - 1);
            for (i, s) in segments.iter_mut().enumerate() {
                prop_assert!(is_sound(s, v6, proto));
                let offsets = (s.l3_ofs, s.l4_ofs);
                let mut f = flow_of(s, &Meta::default());
                prop_assert_eq!(offsets, (s.l3_ofs, s.l4_ofs));
                prop_assert_eq!(s.l2_pad, 0);
                let l4 = s.l4_bytes();
                if tcp {
                    let sequence = u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]]);
                    prop_assert_eq!(sequence as usize, back.len());
                    let (first, end) = (i == 0, i == last);
                    let want = 0x10 | if end { 9 } else { 0 } | if first { 0x80 } else { 0 };
                    prop_assert_eq!(f.tcp_flags, want);
                    f.tcp_flags = original.tcp_flags;
                }
                prop_assert_eq!(&f, &original);
                back.extend_from_slice(&l4[header..]);
            }
            prop_assert_eq!(back, payload);
        }
    }

    #[test]
    fn refused_or_let_through() {
        let mut p = large(false, ip_proto::TCP, false, &[1; 100]);
        let mut n = 0;
        segment(p.clone(), &mut |_| n += 1).unwrap();
        assert_eq!(n, 1);
        let mut refuse = |p: &Packet, kind, size| {
            let mut p = p.clone();
            p.offload.gso = Some(Gso { kind, size, ecn: false });
            segment(p, &mut |_| n += 1).unwrap_err()
        };
        assert_eq!(refuse(&p, GsoKind::Tcp4, 0), GsoError::SegmentSize(0));
        assert_eq!(refuse(&p, GsoKind::Tcp6, 100), GsoError::NoHeader);
        assert_eq!(refuse(&p, GsoKind::Udp, 100), GsoError::NoHeader);
        edit::push_mpls(&mut p, 0x8847, 0x100);
        assert_eq!(refuse(&p, GsoKind::Tcp4, 100), GsoError::NoHeader);
        p.l4_ofs = NO_OFFSET;
        assert_eq!(refuse(&p, GsoKind::Tcp4, 100), GsoError::NoHeader);
    }
}
