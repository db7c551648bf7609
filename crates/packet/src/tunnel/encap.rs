//! Putting an outer header on.

use super::{TunnelKind, gre, gtpu};
use crate::checksum::{checksum, finish, pseudo_v4, pseudo_v6, sum, update16};
use crate::cursor::{be16, be32, be128};
use crate::proto::{header_len, ip_proto};
use crate::{Checksum, NO_OFFSET, Packet};
use flow::PT_ETH;

/// What differs from packet to packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PushContext {
    /// The outer UDP source port, see [`source_port`].
    pub source_port: u16,
    /// The next number of the tunnel, for headers that have one.
    pub sequence: u32,
    /// Time in units of 100 microseconds, for ERSPAN version 2.
    pub timestamp: u32,
}

/// Puts `header` (Ethernet without tags, IP without options, and the tunnel's own) in front of `packet` and fills
/// in lengths, checksums, source port, sequence number and timestamp. A UDP checksum is made if the header's
/// is not zero.
///
/// The packet's own checksum must have been filled in. False, and nothing done, if the header is too short.
#[inline]
pub fn push(packet: &mut Packet, header: &[u8], kind: TunnelKind, cx: &PushContext) -> bool {
    let is_v6 = matches!(header.get(12..14), Some([0x86, 0xdd]));
    let l4_at = header_len::ETH + if is_v6 { header_len::IPV6 } else { header_len::IPV4 };
    let shortest = if kind.is_udp() { header_len::UDP + 8 } else { gre::LEN };
    if header.len() < l4_at + shortest {
        return false;
    }
    let payload = packet.len();
    let bytes = packet.push_front(header.len());
    let Some(room) = bytes.get_mut(..header.len()) else { return false };
    room.copy_from_slice(header);
    let l4_len = bytes.len() - l4_at;
    write_ip_len(bytes, is_v6, l4_len);
    if let Some(l4) = bytes.get_mut(l4_at..) {
        match kind {
            TunnelKind::Geneve | TunnelKind::Vxlan => write_udp(l4, cx),
            TunnelKind::Gtpu => {
                write_udp(l4, cx);
                write_gtpu(l4, payload, cx);
            }
            TunnelKind::Gre | TunnelKind::Ip6Gre => write_gre(l4, cx),
            TunnelKind::Erspan | TunnelKind::Ip6Erspan => write_erspan(l4, cx),
        }
    }
    if kind.is_udp() {
        fill_udp_sum(bytes, is_v6, l4_at, kind == TunnelKind::Gtpu);
    }
    packet.packet_type = PT_ETH;
    (packet.l2_5_ofs, packet.l2_pad) = (NO_OFFSET, 0);
    (packet.l3_ofs, packet.l4_ofs) = (header_len::ETH as u16, l4_at as u16);
    packet.offload.checksum = Checksum::Unknown;
    true
}

#[inline]
fn write_ip_len(bytes: &mut [u8], is_v6: bool, l4_len: usize) {
    let Some(ip) = bytes.get_mut(header_len::ETH..) else { return };
    if is_v6 {
        put16(ip, 4, l4_len as u16);
    } else {
        let total = (l4_len + header_len::IPV4) as u16;
        put16(ip, 2, total);
        let sum = get16(ip, 10);
        put16(ip, 10, update16(sum, 0, total));
    }
}

#[inline]
fn write_udp(l4: &mut [u8], cx: &PushContext) {
    put16(l4, 0, cx.source_port);
    put16(l4, 4, l4.len() as u16);
}

/// `payload`: bytes of the packet inside.
fn write_gtpu(l4: &mut [u8], payload: usize, cx: &PushContext) {
    let Some(h) = l4.get_mut(header_len::UDP..) else { return };
    let mut len = payload;
    if h.first().is_some_and(|flags| flags & gtpu::SEQ != 0) {
        put16(h, gtpu::LEN, cx.sequence as u16);
        len += gtpu::OPTIONAL_LEN;
    }
    put16(h, 2, len as u16);
}

fn write_gre(l4: &mut [u8], cx: &PushContext) {
    let flags = get16(l4, 0);
    if flags & gre::SEQ != 0 {
        put32(l4, gre::len(flags) - 4, cx.sequence);
    }
    if flags & gre::CSUM != 0 {
        put16(l4, gre::LEN, 0);
        let sum = checksum(l4);
        put16(l4, gre::LEN, sum);
    }
}

fn write_erspan(l4: &mut [u8], cx: &PushContext) {
    put32(l4, gre::LEN, cx.sequence);
    if get16(l4, 2) == gre::PROTO_ERSPAN2 {
        put32(l4, gre::LEN + 4 + super::ERSPAN_LEN, cx.timestamp);
    }
}

/// Makes the UDP checksum if the header asks for one, or `always`.
#[inline]
fn fill_udp_sum(bytes: &mut [u8], is_v6: bool, l4_at: usize, always: bool) {
    const FIELD: usize = 6;
    let (head, l4) = bytes.split_at_mut(l4_at.min(bytes.len()));
    if !always && get16(l4, FIELD) == 0 {
        return;
    }
    put16(l4, FIELD, 0);
    let len = l4.len() as u32;
    let Some(ip) = head.get(header_len::ETH..) else { return };
    let pseudo = if is_v6 {
        ip.first_chunk::<{ header_len::IPV6 }>()
            .map(|h| pseudo_v6(be128(h, 8), be128(h, 24), ip_proto::UDP, len))
    } else {
        ip.first_chunk::<{ header_len::IPV4 }>()
            .map(|h| pseudo_v4(be32(h, 12), be32(h, 16), ip_proto::UDP, len))
    };
    let total = finish(pseudo.unwrap_or(0) + u32::from(crate::checksum::fold(sum(l4))));
    // Zero would say that there is none.
    put16(l4, FIELD, if total == 0 { 0xffff } else { total });
}

#[inline(always)]
fn get16(b: &[u8], at: usize) -> u16 {
    b.get(at..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |c| u16::from_be_bytes(*c))
}

#[inline(always)]
fn put16(b: &mut [u8], at: usize, v: u16) {
    if let Some(c) = b.get_mut(at..at + 2) {
        c.copy_from_slice(&v.to_be_bytes());
    }
}

fn put32(b: &mut [u8], at: usize, v: u32) {
    if let Some(c) = b.get_mut(at..at + 4) {
        c.copy_from_slice(&v.to_be_bytes());
    }
}

/// A source port for a packet whose flow has this hash: equal flows take one path, different ones spread (RFC
/// 7348, 5; RFC 8926, 3.3). `range` is inclusive at its beginning only.
#[inline]
pub fn source_port(hash: u32, range: (u16, u16)) -> u16 {
    let (min, max) = range;
    let span = u64::from(max.saturating_sub(min));
    min + ((u64::from(hash) * span) >> 32) as u16
}

/// A hash of the flow that the packet belongs to, of addresses and ports. The packet must have been parsed.
#[inline]
pub fn flow_hash(packet: &Packet) -> u32 {
    let data = packet.data();
    let l3 = data.get(usize::from(packet.l3_ofs)..).unwrap_or(&[]);
    let ports = data.get(usize::from(packet.l4_ofs)..).and_then(<[u8]>::first_chunk::<4>);
    let ports = ports.map_or(0, |h| be32(h, 0));
    match (l3.first().map(|b| b >> 4), l3.first_chunk::<{ header_len::IPV4 }>()) {
        (Some(4), Some(h)) => {
            let is_port =
                matches!(h[9], ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP) && be16(h, 6) & 0x3fff == 0;
            return hash_v4([be32(h, 12), be32(h, 16)], h[9], if is_port { ports } else { 0 });
        }
        (Some(6), Some(_)) => {
            let Some(h) = l3.first_chunk::<{ header_len::IPV6 }>() else { return 1 };
            let is_port = matches!(h[6], ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
            let ports = if is_port { u64::from(ports) } else { 0 };
            let (a, b) = (be128(h, 8), be128(h, 24));
            let addresses = mix(mix(a.hi, a.lo), mix(b.hi, b.lo));
            mix(mix(u64::from(h[6]), addresses), ports)
        }
        _ => {
            let macs = data.first_chunk::<{ header_len::ETH }>();
            macs.map_or(1, |h| {
                mix(u64::from(be32(h, 2)), u64::from(be32(h, 8)) << 16 | u64::from(be16(h, 12)))
            })
        }
    }
    .folded()
}

#[inline(always)]
fn hash_v4([src, dst]: [u32; 2], proto: u8, ports: u32) -> u32 {
    mix(u64::from(src) << 32 | u64::from(dst), u64::from(proto) << 32 | u64::from(ports)).folded()
}

/// [`flow_hash`] of a frame that is known to be untagged IPv4 without options or fragments, TCP or UDP.
#[inline(always)]
pub(super) fn hash_of_shape(frame: &[u8]) -> u32 {
    const IP: usize = header_len::ETH;
    let Some(h) = frame.first_chunk::<{ IP + header_len::IPV4 + 4 }>() else { return 1 };
    hash_v4([be32(h, IP + 12), be32(h, IP + 16)], h[IP + 9], be32(h, IP + 20))
}

/// Multiply and fold: enough to spread flows over ports.
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let p = u128::from(a ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(u128::from(b ^ 0xd6e8_feb8_6659_fd93));
    (p as u64) ^ ((p >> 64) as u64)
}

trait Folded {
    fn folded(self) -> u32;
}

impl Folded for u64 {
    #[inline(always)]
    fn folded(self) -> u32 {
        (self ^ (self >> 32)) as u32 | 1
    }
}
