//! From a packet to its connection's key.

use crate::key::{Family, Key, icmp_types};
use flow::U128;
use packet::checksum::{finish, pseudo_v4, pseudo_v6, sum};
use packet::proto::{header_len, ip_proto};
use packet::{Checksum, NO_OFFSET, Packet};

/// What connection tracking reads from a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extracted {
    pub key: Key,
    /// The packet is an ICMP error about the connection of `key`.
    pub is_related: bool,
    pub tcp: Option<Segment>,
}

/// A TCP header (RFC 9293).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// `packet::proto::tcp` bits.
    pub flags: u16,
    /// Bytes of payload.
    pub len: u32,
    /// The window scale option, at most 14 (RFC 7323), if the segment has one.
    pub scale: Option<u8>,
}

/// ICMP errors quote at least this much of the transport header (RFC 792).
const QUOTED_MIN: usize = 8;

/// Why a packet cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    NetworkChecksum,
    TransportChecksum,
    /// Cut short, a fragment, a port of 0, a message that belongs to no connection.
    Other,
}

/// `None` if the packet cannot belong to a valid connection. `family` is that of the outer IP header.
pub fn extract(p: &Packet, family: Family, zone: u16) -> Option<Extracted> {
    if p.l3_ofs == NO_OFFSET || p.l4_ofs == NO_OFFSET {
        return None;
    }
    let end = p.len().checked_sub(usize::from(p.l2_pad))?;
    let l3 = p.data().get(usize::from(p.l3_ofs)..end)?;
    let l4 = p.data().get(usize::from(p.l4_ofs)..end)?;
    let verify = p.offload.checksum == Checksum::Unknown;
    let read = read(l3, l4, family, zone, verify);
    match read {
        Err(Flaw::NetworkChecksum) => coverage::counter::conntrack_l3csum_err.inc(),
        Err(Flaw::TransportChecksum) => coverage::counter::conntrack_l4csum_err.inc(),
        _ => {}
    }
    read.ok()
}

/// Reads a packet from its network header on, and from its transport header on, to the end of the packet. `verify`
/// says whether the transport checksum is yet to be looked at.
#[inline]
pub fn read(l3: &[u8], l4: &[u8], family: Family, zone: u16, verify: bool) -> Result<Extracted, Flaw> {
    let mut key = Key { zone, family, ..Key::default() };
    let header = read_l3(l3, &mut key).ok_or(Flaw::Other)?;
    if family == Family::V4 && !l3.get(..header).is_some_and(header_sum_ok) {
        return Err(Flaw::NetworkChecksum);
    }
    if verify && !transport_checksum_ok(&key, l4) {
        return Err(Flaw::TransportChecksum);
    }
    let (is_related, tcp) = read_l4(l4, &mut key).ok_or(Flaw::Other)?;
    Ok(Extracted { key, is_related, tcp })
}

/// As [`read`], of a TCP or UDP packet over IPv4 without options of which the key is known to be fit for a connection: what TCP
/// says. `None` where [`read`] finds a flaw. (Through `read_l3`, which then has two callers and is inlined in neither, an
/// established packet takes a fifth longer, and a first one too.)
#[inline]
pub fn sight(l3: &[u8], verify: bool) -> Option<Option<Segment>> {
    let (header, l4) = l3.split_at_checked(header_len::IPV4)?;
    let h = <&[u8; header_len::IPV4]>::try_from(header).ok()?;
    let is_fragment = be16(h, 6)? & 0x3fff != 0;
    if h[0] & 0xf != 5 || is_fragment || !header_sum_ok(h) {
        return None;
    }
    let proto = h[9];
    if verify {
        let addr = |at| Some(U128 { hi: 0, lo: u64::from(be32(h, at)?) });
        let key = Key { src: addr(12)?, dst: addr(16)?, proto, ..Key::default() };
        if !transport_checksum_ok(&key, l4) {
            return None;
        }
    }
    match proto {
        ip_proto::TCP => Some(Some(read_tcp(l4)?)),
        ip_proto::UDP => is_udp_whole(l4).then_some(None),
        _ => None,
    }
}

/// Whether the length in a UDP header (RFC 768) is that of something.
#[inline]
fn is_udp_whole(l4: &[u8]) -> bool {
    be16(l4, 4).is_some_and(|len| (header_len::UDP..=l4.len()).contains(&usize::from(len)))
}

/// Whether the checksum of an IPv4 header is right. Most headers have no options.
#[inline]
fn header_sum_ok(header: &[u8]) -> bool {
    let Ok(h) = <&[u8; header_len::IPV4]>::try_from(header) else { return finish(sum(header)) == 0 };
    // Which byte order the words are added in does not matter to a sum that must be all ones (RFC 1071, 2.B).
    let word = |at: usize| u64::from(u32::from_ne_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]));
    let total = word(0) + word(4) + word(8) + word(12) + word(16);
    let total = (total & 0xffff_ffff) + (total >> 32);
    finish(packet::checksum::fold((total & 0xffff) as u32 + (total >> 16) as u32).into()) == 0
}

/// Ports and what TCP says; whether the packet is an ICMP error.
#[inline]
fn read_l4(l4: &[u8], key: &mut Key) -> Option<(bool, Option<Segment>)> {
    let (mut tcp, mut is_related) = (None, false);
    match key.proto {
        ip_proto::TCP => {
            tcp = Some(read_tcp(l4)?);
            read_ports(l4, key)?;
        }
        ip_proto::UDP if is_udp_whole(l4) => read_ports(l4, key)?,
        ip_proto::UDP => return None,
        _ if key.is_icmp() => is_related = read_icmp(l4, key)?,
        _ => {}
    }
    Some((is_related, tcp))
}

/// Addresses and protocol. Returns the length of the header.
#[inline]
fn read_l3(l3: &[u8], key: &mut Key) -> Option<usize> {
    match key.family {
        Family::V4 => {
            let header = header_v4(l3)?;
            let addr = |at| Some(U128 { hi: 0, lo: u64::from(be32(header, at)?) });
            (key.src, key.dst, key.proto) = (addr(12)?, addr(16)?, *header.get(9)?);
            Some(header.len())
        }
        Family::V6 => {
            let (proto, len) = chain_v6(l3)?;
            (key.src, key.dst, key.proto) = (be128(l3, 8)?, be128(l3, 24)?, proto);
            Some(len)
        }
    }
}

/// The header of an IPv4 packet that is no fragment.
fn header_v4(l3: &[u8]) -> Option<&[u8]> {
    let len = usize::from(l3.first()? & 0xf) * 4;
    // More fragments, or an offset.
    let is_fragment = be16(l3, 6)? & 0x3fff != 0;
    if len < header_len::IPV4 || is_fragment { None } else { l3.get(..len) }
}

/// Protocol and length of headers of an IPv6 packet that is no fragment.
fn chain_v6(l3: &[u8]) -> Option<(u8, usize)> {
    let (mut proto, mut len) = (*l3.get(6)?, header_len::IPV6);
    while ip_proto::is_ipv6_extension(proto) {
        let ext = l3.get(len..)?.first_chunk::<8>()?;
        len += match proto {
            ip_proto::FRAGMENT if be16(ext, 2)? & 0xfff9 != 0 => return None,
            ip_proto::FRAGMENT => 8,
            ip_proto::AH => (usize::from(ext[1]) + 2) * 4,
            _ => (usize::from(ext[1]) + 1) * 8,
        };
        proto = ext[0];
    }
    (len <= l3.len()).then_some((proto, len))
}

fn transport_checksum_ok(key: &Key, l4: &[u8]) -> bool {
    let len = l4.len() as u32;
    let pseudo = match key.family {
        Family::V4 if key.proto == ip_proto::ICMP => 0,
        Family::V4 => pseudo_v4(key.src.lo as u32, key.dst.lo as u32, key.proto, len),
        Family::V6 => pseudo_v6(key.src, key.dst, key.proto, len),
    };
    match key.proto {
        ip_proto::UDP if key.family == Family::V4 && be16(l4, 6) == Some(0) => true,
        ip_proto::TCP | ip_proto::UDP => finish(fold_in(pseudo, l4)) == 0,
        _ if key.is_icmp() => finish(fold_in(pseudo, l4)) == 0,
        _ => true,
    }
}

fn fold_in(pseudo: u32, bytes: &[u8]) -> u32 {
    pseudo + u32::from(packet::checksum::fold(sum(bytes)))
}

fn read_ports(l4: &[u8], key: &mut Key) -> Option<()> {
    (key.sport, key.dport) = (be16(l4, 0)?, be16(l4, 2)?);
    (key.sport != 0 && key.dport != 0).then_some(())
}

fn read_tcp(l4: &[u8]) -> Option<Segment> {
    let h = l4.first_chunk::<{ header_len::TCP }>()?;
    let len = usize::from(h[12] >> 4) * 4;
    if len < header_len::TCP || len > l4.len() {
        return None;
    }
    Some(Segment {
        seq: be32(h, 4)?,
        ack: be32(h, 8)?,
        window: be16(h, 14)?,
        flags: be16(h, 12)? & 0xfff,
        len: (l4.len() - len) as u32,
        scale: if h[13] & 2 == 0 { None } else { scale_option(l4.get(header_len::TCP..len)?) },
    })
}

/// The greatest window scale (RFC 7323, 2.3).
const SCALE_MAX: u8 = 14;

fn scale_option(mut options: &[u8]) -> Option<u8> {
    let mut scale = None;
    while options.len() >= 3 {
        let step = match options[0] {
            0 => break,
            1 => 1,
            kind => {
                if kind == 3 {
                    scale = Some(options[2].min(SCALE_MAX));
                }
                usize::from(options[1]).max(2)
            }
        };
        options = options.get(step..).unwrap_or(&[]);
    }
    scale
}

/// Reads an ICMP message into `key`, or the packet that an error quotes. Says whether it is an error.
fn read_icmp(l4: &[u8], key: &mut Key) -> Option<bool> {
    let h = l4.first_chunk::<{ header_len::ICMP }>()?;
    if let Some(types) = icmp_types(key.family, h[0]) {
        (key.sport, key.dport) = (be16(h, 4)?, types);
        return (h[1] == 0).then_some(false);
    }
    let is_error = match key.family {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        Family::V4 => matches!(h[0], 3 | 4 | 5 | 11 | 12),
        // Unreachable, too big, time exceeded, parameter problem.
        Family::V6 => matches!(h[0], 1..=4),
    };
    if !is_error {
        return None;
    }
    let quoted = l4.get(header_len::ICMP..)?;
    let mut inner = Key { zone: key.zone, family: key.family, ..Key::default() };
    let len = read_l3(quoted, &mut inner)?;
    // The error goes to whoever sent what it quotes.
    if inner.src != key.dst {
        return None;
    }
    read_quoted_l4(quoted.get(len..)?, &mut inner)?;
    *key = inner.reversed();
    Some(true)
}

fn read_quoted_l4(l4: &[u8], key: &mut Key) -> Option<()> {
    match key.proto {
        ip_proto::TCP | ip_proto::UDP if l4.len() >= QUOTED_MIN => read_ports(l4, key),
        ip_proto::TCP | ip_proto::UDP => None,
        _ if key.is_icmp() => {
            let h = l4.first_chunk::<QUOTED_MIN>()?;
            (key.sport, key.dport) = (be16(h, 4)?, icmp_types(key.family, h[0])?);
            (h[1] == 0).then_some(())
        }
        _ => Some(()),
    }
}

/// Where in an ICMP error's bytes (from the start of the ICMP header) the quoted transport header starts.
pub(crate) fn quoted_l4_offset(l4: &[u8], family: Family) -> Option<usize> {
    let quoted = l4.get(header_len::ICMP..)?;
    let mut key = Key { family, ..Key::default() };
    Some(header_len::ICMP + read_l3(quoted, &mut key)?)
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*b.get(at..)?.first_chunk()?))
}

fn be32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*b.get(at..)?.first_chunk()?))
}

fn be128(b: &[u8], at: usize) -> Option<U128> {
    Some(u128::from_be_bytes(*b.get(at..)?.first_chunk()?).into())
}
