//! The common shape of packets: five words of their own bytes.

use crate::cpu::{Alike, Like, WIDE, alike};
use flow::{EthAddr, Flow, Mask, Tunnel};
use packet::{Checksum, Packet};

/// What the key has of a packet of the shape, in five words: addresses, type and TOS; TTL and protocol; IP addresses;
/// ports and TCP flags. Bytes are where they are on the wire.
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

/// Whether two packets are told apart by the bits of `mask`. (Comparing arrays would call the C library.)
#[inline(always)]
pub(crate) fn differ(a: &Words, b: &Words, mask: &Words) -> bool {
    (0..5).fold(0, |d, i| d | ((a[i] ^ b[i]) & mask[i])) != 0
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

/// What a mask asks of [`of_shape`], and of all else; the rest of a packet of the shape is always the same.
pub(crate) struct Shape {
    pub mask: Words,
    pub value: Words,
}

impl Shape {
    /// `None` if no packet of the shape that came in by `key.in_port`, out of a tunnel that said so if there is one,
    /// matches. The outer source port does not count among what the tunnel said.
    pub fn of(key: &Flow, mask: &Mask, tunnel: Option<&Tunnel>) -> Option<Self> {
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
        let fits =
            key.words().iter().zip(same.words()).zip(fixed.words()).all(|((k, s), m)| (k ^ s) & m == 0);
        let (mask, value) = (of_shape(mask), of_shape(key));
        fits.then(|| Shape { mask, value: std::array::from_fn(|i| value[i] & mask[i]) })
    }
}

/// What counts of the packets of a port.
pub(crate) struct Union {
    pub words: Words,
    /// Of a frame's first bytes, what counts or makes the shape: of UDP and of TCP.
    wide: [[u8; WIDE]; 2],
}

impl Default for Union {
    fn default() -> Self {
        Union::new([0; 5])
    }
}

impl Union {
    pub fn new(words: Words) -> Self {
        Union { words, wide: [false, true].map(|is_tcp| Union::wide(words, is_tcp)) }
    }

    fn wide(words: Words, is_tcp: bool) -> [u8; WIDE] {
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

/// The first packet of a run as its bytes: most of the others are told by a glance at theirs.
#[derive(Clone, Copy)]
pub(crate) struct Template<'a> {
    bytes: &'a [u8; WIDE],
    mask: &'a [u8; WIDE],
    flags: u16,
    /// The least total length of a packet with its headers; none has as much as `NO_TEMPLATE`.
    least: usize,
}

const NO_TEMPLATE: usize = usize::MAX;
const NO_BYTES: [u8; WIDE] = [0; WIDE];

impl<'a> Template<'a> {
    pub const NONE: Self = Template { bytes: &NO_BYTES, mask: &NO_BYTES, flags: 0, least: NO_TEMPLATE };

    /// Of a frame that has words, or of its first bytes.
    #[inline(always)]
    pub fn of(frame: &'a [u8], union: &'a Union) -> Self {
        let Some(bytes) = frame.first_chunk::<WIDE>() else { return Template::NONE };
        if bytes[23] == TCP {
            let least = 20 + usize::from(bytes[46] >> 4) * 4;
            Template { bytes, mask: &union.wide[1], flags: TCP_FLAGS, least }
        } else {
            Template { bytes, mask: &union.wide[0], flags: 0, least: IP_AND_UDP }
        }
    }

    /// The bytes to make it of again.
    pub fn bytes(&self) -> Option<&'a [u8; WIDE]> {
        (self.least != NO_TEMPLATE).then_some(self.bytes)
    }

    /// The first of `frames` that are of the shape and agree with the template in all that counts, with their TCP flags.
    /// The frame behind them is to be looked at more closely.
    #[inline(always)]
    pub fn admits(&self, frames: &[&[u8]]) -> Alike {
        if self.least == NO_TEMPLATE {
            return Alike::default();
        }
        let found = alike(frames, Like { bytes: self.bytes, mask: self.mask, least: self.least });
        Alike { flags: found.flags & self.flags, ..found }
    }
}
