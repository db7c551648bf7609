//! The common shape of packets: five words of their own bytes.

use super::shapes::{Shape, Template as _, Union, Wanted, fold};
use crate::cpu::{Alike, Like, WIDE, alike};
use flow::{EthAddr, Flow, Mask, Tunnel};
use packet::{Checksum, Packet};

/// What the key has of a packet of the shape, in five words: addresses, type and TOS; TTL and protocol; IP addresses;
/// ports, TCP flags, and what was added of a hash. Bytes are where they are on the wire.
pub(crate) type Words = [u64; 5];

/// Ethernet, IPv4 and UDP headers.
const UDP_FRAME: usize = 42;
const TCP_FRAME: usize = 54;
const ETHERNET: usize = 14;
const IP_AND_UDP: usize = 28;
const IP_AND_TCP: usize = 40;
const TCP_FLAGS: u16 = 0xfff;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Bytes 12 to 14: IPv4, five words of header. As they come out of a little-endian load.
const TYPE_AND_VERSION: u64 = 0x45_0008;
/// Of bytes 16 to 23: more fragments, and the fragment's offset.
const FRAGMENT: u64 = 0x0000_ff3f_0000_0000;
/// Of bytes 16 to 23: TTL and protocol.
const TTL_AND_PROTO: u64 = 0xffff_0000_0000_0000;

fn le64(bytes: &[u8; UDP_FRAME], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The words of a frame of the shape; `None` for all others.
#[inline(always)]
pub(crate) fn words(data: &[u8]) -> Option<Words> {
    let head = data.first_chunk::<UDP_FRAME>()?;
    let (second, third) = (le64(head, 8), le64(head, 16));
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let is_shape = (second >> 32) & 0xff_ffff == TYPE_AND_VERSION
        && third & FRAGMENT == 0
        && total >= IP_AND_UDP
        && total <= data.len() - ETHERNET;
    if !is_shape {
        return None;
    }
    let ports = u64::from(u32::from_le_bytes([head[34], head[35], head[36], head[37]]));
    let flags = match head[23] {
        UDP => 0,
        TCP => tcp_flags(data, total)?,
        _ => return None,
    };
    Some([le64(head, 0), second, third & TTL_AND_PROTO, le64(head, 26), ports | u64::from(flags) << 32])
}

fn tcp_flags(data: &[u8], total: usize) -> Option<u16> {
    let head = data.first_chunk::<TCP_FRAME>()?;
    let control = u16::from_be_bytes([head[46], head[47]]);
    let header = usize::from(control >> 12) * 4;
    let fits = header >= IP_AND_TCP - 20 && 20 + header <= total;
    fits.then_some(control & TCP_FLAGS)
}

/// The words of a packet of the shape with which nothing is left to be done.
pub(crate) fn words_of(packet: &Packet) -> Option<Words> {
    let is_plain = packet.packet_type == flow::PT_ETH
        && packet.offload.gso.is_none()
        && !matches!(packet.offload.checksum, Checksum::Partial { .. });
    words(packet.data()).filter(|_| is_plain)
}

/// Sets the header offsets of a packet of the shape as a parser would.
pub(crate) fn set_offsets(packet: &mut Packet) {
    let total = packet.data().get(16..18).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    packet.l2_5_ofs = packet::NO_OFFSET;
    (packet.l3_ofs, packet.l4_ofs) = (ETHERNET as u16, (ETHERNET + 20) as u16);
    packet.l2_pad = u16::try_from(packet.len().saturating_sub(ETHERNET + total)).unwrap_or(0);
}

/// TCP flags of a packet, from its words.
#[inline(always)]
pub(crate) fn flags_of(words: &Words) -> u16 {
    (words[4] >> 32) as u16
}

/// The fields that tell packets of the shape apart, all others being the same for all.
fn of_shape(f: &Flow) -> Words {
    let mut bytes = [0; UDP_FRAME];
    bytes[0..6].copy_from_slice(&f.dl_dst.0);
    bytes[6..12].copy_from_slice(&f.dl_src.0);
    (bytes[15], bytes[22], bytes[23]) = (f.nw_tos, f.nw_ttl, f.nw_proto);
    bytes[26..30].copy_from_slice(&f.nw_src.to_be_bytes());
    bytes[30..34].copy_from_slice(&f.nw_dst.to_be_bytes());
    let ports = [f.tp_src.to_be_bytes(), f.tp_dst.to_be_bytes()].concat();
    let ports = ports.first_chunk::<4>().map_or(0, |p| u32::from_le_bytes(*p));
    [
        le64(&bytes, 0),
        le64(&bytes, 8),
        le64(&bytes, 16),
        le64(&bytes, 26),
        u64::from(ports) | u64::from(f.tcp_flags) << 32,
    ]
}

/// The shape of most packets; see [`Words`].
pub(crate) struct Common;

/// Of a frame's first bytes, what counts or makes the shape: of UDP and of TCP.
pub(crate) struct Glance([[u8; WIDE]; 2]);

impl Glance {
    fn mask(words: &Words, is_tcp: bool) -> [u8; WIDE] {
        let mut wide = [0; WIDE];
        wide[0..8].copy_from_slice(&words[0].to_le_bytes());
        wide[8..16].copy_from_slice(&words[1].to_le_bytes());
        wide[16..24].copy_from_slice(&(words[2] & TTL_AND_PROTO | FRAGMENT).to_le_bytes());
        wide[26..34].copy_from_slice(&words[3].to_le_bytes());
        wide[34..38].copy_from_slice(&(words[4] as u32).to_le_bytes());
        // Type, version and header length; the protocol.
        wide[12..15].fill(0xff);
        wide[23] = 0xff;
        if is_tcp {
            let flags = (words[4] >> 32) as u16 & TCP_FLAGS;
            wide[46..48].copy_from_slice(&(flags | !TCP_FLAGS).to_be_bytes());
        }
        wide
    }
}

/// See [`super::shapes::Template`].
#[derive(Clone, Copy)]
pub(crate) struct CommonTemplate<'a> {
    bytes: &'a [u8; WIDE],
    mask: &'a [u8; WIDE],
    flags: u16,
    /// The least total length of a packet with its headers; none has as much as `NO_TEMPLATE`.
    least: usize,
}

const NO_TEMPLATE: usize = usize::MAX;
const NO_BYTES: [u8; WIDE] = [0; WIDE];

impl super::shapes::Template for CommonTemplate<'_> {
    type Head = [u8; WIDE];
    const NONE: Self = CommonTemplate { bytes: &NO_BYTES, mask: &NO_BYTES, flags: 0, least: NO_TEMPLATE };

    #[inline(always)]
    fn head(&self) -> Option<[u8; WIDE]> {
        (self.least != NO_TEMPLATE).then_some(*self.bytes)
    }

    #[inline(always)]
    fn admits(&self, frames: &[&[u8]]) -> Alike {
        if self.least == NO_TEMPLATE {
            return Alike::default();
        }
        let found = alike(frames, Like { bytes: self.bytes, mask: self.mask, least: self.least });
        Alike { flags: found.flags & self.flags, ..found }
    }
}

impl Shape<5> for Common {
    type Head = [u8; WIDE];
    const NO_HEAD: [u8; WIDE] = NO_BYTES;
    type Glance = Glance;
    type Template<'a> = CommonTemplate<'a>;
    const HAS_WAYS: bool = true;

    #[inline(always)]
    fn words(frame: &[u8]) -> Option<Words> {
        words(frame)
    }

    #[inline(always)]
    fn flags(words: &Words) -> u16 {
        flags_of(words)
    }

    #[inline(always)]
    fn kind(_words: &Words) -> u16 {
        0
    }

    #[inline(always)]
    fn add_hash(words: &mut Words, hash: u16) {
        words[4] |= u64::from(hash) << 48;
    }

    #[inline(always)]
    fn signature(seed: &[u64; 4], in_port: u32, w: &Words, union: &Words) -> u64 {
        let w: Words = std::array::from_fn(|i| w[i] & union[i]);
        let [s0, s1, s2, s3] = *seed;
        let port = u64::from(in_port).wrapping_mul(s2);
        let link = fold(w[0] ^ s0, w[1] ^ s1 ^ port);
        let network = fold(w[3] ^ s2, w[2] ^ w[4].rotate_left(13) ^ s3);
        link ^ network.rotate_left(32)
    }

    fn glance(union: &Words) -> Glance {
        Glance([false, true].map(|is_tcp| Glance::mask(union, is_tcp)))
    }

    #[inline(always)]
    fn template<'a>(frame: &'a [u8], union: &'a Union<Self, 5>) -> CommonTemplate<'a> {
        frame.first_chunk().map_or(CommonTemplate::NONE, |head| Self::template_again(head, union))
    }

    #[inline(always)]
    fn template_again<'a>(bytes: &'a [u8; WIDE], union: &'a Union<Self, 5>) -> CommonTemplate<'a> {
        let [of_udp, of_tcp] = &union.glance.0;
        if bytes[23] == TCP {
            let least = 20 + usize::from(bytes[46] >> 4) * 4;
            CommonTemplate { bytes, mask: of_tcp, flags: TCP_FLAGS, least }
        } else {
            CommonTemplate { bytes, mask: of_udp, flags: 0, least: IP_AND_UDP }
        }
    }

    fn wanted(key: &Flow, mask: &Mask, tunnel: Option<&Tunnel>, _kind: u16) -> Option<Wanted<5>> {
        let mut fixed = mask.clone();
        (fixed.dl_dst, fixed.dl_src) = (EthAddr::ZERO, EthAddr::ZERO);
        (fixed.nw_tos, fixed.nw_ttl, fixed.nw_proto, fixed.tcp_flags) = (0, 0, 0, 0);
        (fixed.nw_src, fixed.nw_dst, fixed.tp_src, fixed.tp_dst) = (0, 0, 0, 0);
        let mut same = Flow { in_port: key.in_port, dl_type: 0x0800, ..Flow::ZERO };
        if let Some(tunnel) = tunnel {
            if mask.tunnel.tp_src != 0 {
                return None;
            }
            same.tunnel.clone_from(tunnel);
        }
        Wanted::of(key, mask, &fixed, &same, of_shape)
    }
}
