//! Outer headers that many packets share: put on, and taken off, with no more work than what differs asks for.

use super::{GENEVE_LEN, TunnelKind, hash_of_shape, source_port};
use crate::BATCH_LEN;
use crate::checksum::{finish, fold, pseudo_v4, pseudo_v6, sum, update16};
use crate::cursor::{be16, be32, be128};
use crate::proto::{ethertype, header_len, ip_proto};
use flow::{PT_ETH, Tunnel};

const L3: usize = header_len::ETH;
const L4: usize = L3 + header_len::IPV4;
const L4_OF_V6: usize = L3 + header_len::IPV6;
/// Ethernet, IPv4, UDP, and VXLAN or Geneve without options.
const PLAIN: usize = L4 + header_len::UDP + GENEVE_LEN;
/// Bytes of a header that are handled at once.
const WIDE: usize = 64;
const HALF: usize = WIDE / 2;
const WORDS: usize = WIDE / 8;
// The shortest header is no shorter than half of that, the part that differs between packets no longer than all.
const _: () = assert!(L4 + header_len::UDP >= HALF && L4_OF_V6 + header_len::UDP <= WIDE);
/// The shortest packet inside.
const INSIDE_MIN: usize = header_len::ETH;
const _: () = assert!(PLAIN + INSIDE_MIN == WIDE);
/// Where packets with one outer header differ: IP length, identification and checksum; UDP source port, length and
/// checksum.
const DIFFERENT: [(usize, usize); 4] = [(16, 20), (24, 26), (34, 36), (38, 42)];

/// A header that [`super::push`] would put on, for VXLAN and Geneve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    wide: [u8; WIDE],
    all: Box<[u8]>,
    l4_at: usize,
    /// The IPv4 header's checksum without a length; `None` for IPv6.
    ip_sum: Option<u16>,
    /// Sum of what every packet's UDP checksum covers; `None` if there is to be none.
    udp_sum: Option<u32>,
}

impl Template {
    /// `None` if the header is not Ethernet without tags, IP without options and UDP with at least 8 bytes behind it.
    pub fn new(header: &[u8]) -> Option<Self> {
        let ip = header.get(L3..)?;
        let (l4_at, proto) = match be16(header.first_chunk::<L3>()?, 12) {
            ethertype::IPV4 if ip.first() == Some(&0x45) => (L4, *ip.get(9)?),
            ethertype::IPV6 => (L4_OF_V6, *ip.get(6)?),
            _ => return None,
        };
        let l4 = header.get(l4_at..).filter(|l4| proto == ip_proto::UDP && l4.len() >= GENEVE_LEN * 2)?;
        if l4_at == L4 && header.get(16..18) != Some(&[0, 0]) {
            return None;
        }
        let mut fixed = l4.to_vec();
        for at in [0, 1, 4, 5, 6, 7] {
            fixed[at] = 0;
        }
        let pseudo = match l4_at {
            L4 => ip
                .first_chunk::<{ header_len::IPV4 }>()
                .map(|h| pseudo_v4(be32(h, 12), be32(h, 16), proto, 0)),
            _ => ip
                .first_chunk::<{ header_len::IPV6 }>()
                .map(|h| pseudo_v6(be128(h, 8), be128(h, 24), proto, 0)),
        }?;
        let mut wide = [0; WIDE];
        wide.iter_mut().zip(header).for_each(|(w, b)| *w = *b);
        let ip_sum = (l4_at == L4).then(|| be16(&wide, L3 + 10));
        let has_sum = l4.get(6..8) != Some(&[0, 0]);
        let udp_sum = has_sum.then(|| u32::from(fold(pseudo)) + sum(&fixed));
        Some(Template { wide, all: header.into(), l4_at, ip_sum, udp_sum })
    }

    /// Bytes of the header.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Writes the header to the front of the frames at these places, of each of which all but the header is there already:
    /// packets of which [`hash_of_shape`] gives the hash. Source ports are in `range` (see [`source_port`]). Returns the
    /// bytes of the frames.
    #[inline(never)]
    pub fn write_all(&self, frames: &mut [&mut [u8]; BATCH_LEN], mut places: u32, range: (u16, u16)) -> u64 {
        let (mut filled, mut bytes) = (self.for_len(0), 0);
        while places != 0 {
            let frame = &mut *frames[places.trailing_zeros() as usize % BATCH_LEN];
            places &= places - 1;
            let hash = hash_of_shape(frame.get(self.all.len()..).unwrap_or_default());
            filled.write(frame, source_port(hash, range));
            bytes += frame.len() as u64;
        }
        bytes
    }

    /// For frames of so many bytes, the header included.
    #[inline(never)]
    fn for_len(&self, frame: usize) -> Filled<'_> {
        let (mut wide, l4_len) = (self.wide, frame.wrapping_sub(self.l4_at));
        let udp_len = l4_len as u16;
        if let Some(ip_sum) = self.ip_sum {
            let total = (l4_len + header_len::IPV4) as u16;
            put16(&mut wide, L3 + 2, total);
            put16(&mut wide, L3 + 10, update16(ip_sum, 0, total));
        } else {
            put16(&mut wide, L3 + 4, udp_len);
        }
        put16(&mut wide, self.l4_at + 4, udp_len);
        let len = (l4_len as u32 & 0xffff) + (l4_len as u32 >> 16);
        let udp_sum = self.udp_sum.map(|fixed| fixed + u32::from(udp_len) + len);
        Filled { template: self, frame, wide, udp_sum }
    }
}

/// A [`Template`] for frames of one length.
struct Filled<'a> {
    template: &'a Template,
    frame: usize,
    wide: [u8; WIDE],
    udp_sum: Option<u32>,
}

impl Filled<'_> {
    /// Writes the header to the front of `frame`, behind which the packet inside is already, as [`super::push`] does.
    #[inline(always)]
    fn write(&mut self, frame: &mut [u8], source_port: u16) {
        if frame.len() != self.frame {
            *self = self.template.for_len(frame.len());
        }
        let (header, l4_at) = (&self.template.all, self.template.l4_at);
        let Some((head, inside)) = frame.split_at_mut_checked(header.len()) else { return };
        let len = head.len();
        if len <= WIDE {
            // Two pieces of a fixed length, which may overlap.
            if let Some(first) = head.first_chunk_mut::<HALF>() {
                first.copy_from_slice(&self.wide[..HALF]);
            }
            if let (Some(last), Some(piece)) =
                (head.last_chunk_mut::<HALF>(), self.wide[..len].last_chunk::<HALF>())
            {
                *last = *piece;
            }
        } else {
            head.copy_from_slice(header);
            if let Some(first) = head.first_chunk_mut::<WIDE>() {
                *first = self.wide;
            }
        }
        put16(head, l4_at, source_port);
        if let Some(fixed) = self.udp_sum {
            let total = finish(fixed + u32::from(source_port) + sum(inside));
            // Zero would say that there is none.
            put16(head, l4_at + 6, if total == 0 { 0xffff } else { total });
        }
    }
}

#[inline(always)]
fn put16(b: &mut [u8], at: usize, v: u16) {
    if let Some(c) = b.get_mut(at..at + 2) {
        c.copy_from_slice(&v.to_be_bytes());
    }
}

/// An outer header that packets came with, VXLAN or Geneve over IPv4, and what it says.
#[derive(Clone, Debug)]
pub struct Outer {
    words: [u64; WORDS],
    mask: [u64; WORDS],
    /// What is longer than that.
    rest: Box<[u8]>,
    len: usize,
    /// Sums of what is the same in all packets.
    ip_sum: u32,
    udp_sum: Option<u32>,
    tunnel: Tunnel,
}

#[inline(always)]
fn le64(bytes: &[u8; WIDE], word: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[word * 8..word * 8 + 8]);
    u64::from_le_bytes(b)
}

/// The bits of the first bytes that are the same in all packets with one header of `len` bytes.
fn common(len: usize) -> [u64; WORDS] {
    let mut bytes = [0; WIDE];
    bytes[..len.min(WIDE)].fill(0xff);
    for (from, to) in DIFFERENT {
        bytes[from..to].fill(0);
    }
    std::array::from_fn(|i| le64(&bytes, i))
}

/// Bytes of the outer header of a frame with IPv4 without options and UDP.
#[inline(always)]
fn header_len_of(frame: &[u8; WIDE], kind: TunnelKind) -> Option<usize> {
    match kind {
        TunnelKind::Geneve => Some(PLAIN + usize::from(frame[L4 + header_len::UDP] & 0x3f) * 4),
        TunnelKind::Vxlan => Some(PLAIN),
        _ => None,
    }
}

impl Outer {
    /// That of `frame`, of which [`super::pop`] said `tunnel` and left a packet of `packet_type`. `None` if it is not of
    /// the shape.
    pub fn new(frame: &[u8], kind: TunnelKind, packet_type: u32, tunnel: &Tunnel) -> Option<Self> {
        let head = frame.first_chunk::<WIDE>()?;
        let len = header_len_of(head, kind)?;
        let is_shape = be16(head, 12) == ethertype::IPV4
            && (head[L3], head[L3 + 9]) == (0x45, ip_proto::UDP)
            && be16(head, L3 + 6) & 0x3fff == 0
            && packet_type == PT_ETH;
        if !is_shape || frame.len() < len + INSIDE_MIN {
            return None;
        }
        let mut fixed = frame.get(..len)?.to_vec();
        for (from, to) in DIFFERENT {
            fixed[from..to].fill(0);
        }
        let pseudo = pseudo_v4(be32(head, L3 + 12), be32(head, L3 + 16), ip_proto::UDP, 0);
        let (mask, mut tunnel) = (common(len), tunnel.clone());
        tunnel.tp_src = 0;
        Some(Outer {
            words: std::array::from_fn(|i| le64(head, i) & mask[i]),
            mask,
            rest: frame.get(WIDE.min(len)..len)?.into(),
            len,
            ip_sum: sum(&fixed[L3..L4]),
            udp_sum: (be16(head, L4 + 6) != 0).then(|| u32::from(fold(pseudo)) + sum(&fixed[L4..])),
            tunnel,
        })
    }

    /// A hash of what is the same in all packets that came with one header.
    pub fn hash(frame: &[u8], kind: TunnelKind) -> Option<u64> {
        let head = frame.first_chunk::<WIDE>()?;
        let len = header_len_of(head, kind)?;
        let mix = |h: u64, w: u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let mask = common(len);
        let hash =
            (0..WORDS).fold(u64::from(be16(head, L4 + 6) != 0), |h, i| mix(h, le64(head, i) & mask[i]));
        let rest = frame.get(WIDE.min(len)..len)?.as_chunks::<2>().0.iter();
        Some(mix(rest.fold(hash, |h, w| mix(h, u64::from(u16::from_le_bytes(*w)))), 0))
    }

    /// Whether this is the outer header of a frame (IPv4 without fragments, and UDP that is all there), and its lengths
    /// and checksums are right; sums of frames that are `trusted` are not looked at.
    #[inline(always)]
    pub fn is_of(&self, frame: &[u8], trusted: bool) -> bool {
        let Some(head) = frame.first_chunk::<WIDE>() else { return false };
        let differs = (0..WORDS).fold(0, |d, i| d | ((le64(head, i) & self.mask[i]) ^ self.words[i]));
        let has_sum = be16(head, L4 + 6) != 0;
        if differs != 0 || has_sum != self.udp_sum.is_some() {
            return false;
        }
        let Some(inside) = frame.get(self.len..).filter(|inside| inside.len() >= INSIDE_MIN) else {
            return false;
        };
        if !self.rest.is_empty() && frame.get(WIDE..self.len) != Some(&self.rest) {
            return false;
        }
        let word = |at| u32::from(be16(head, at));
        if usize::from(be16(head, 16)) > frame.len() - L3 {
            return false;
        }
        if trusted {
            return true;
        }
        let ip = self.ip_sum + word(16) + word(18) + word(24);
        let Some(fixed) = self.udp_sum else { return fold(ip) == 0xffff };
        // With padding the sum is of less than the frame.
        if usize::from(be16(head, 38)) != frame.len() - L4 {
            return false;
        }
        let udp = fixed + word(34) + 2 * word(38) + word(40) + sum(inside);
        fold(ip) == 0xffff && fold(udp) == 0xffff
    }

    /// Bytes of the header.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it says, but for the source port.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }
}
