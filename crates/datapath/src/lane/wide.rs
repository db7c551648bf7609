//! The wide shape: IP packets with at most one VLAN tag, as eight words.
//!
//! It takes IPv4 without options, IPv6 without extension headers, and all that they carry but IGMP and Neighbor Discovery,
//! of which the key has more. Fragments of IPv4 are of the shape. What `packet::extract` would not read to the end is not.

use super::shapes::{Shape, Template, Union, Wanted, fold};
use crate::cpu::{Alike, differs};
use flow::{EthAddr, Flow, Mask, NW_FRAG_ANY, NW_FRAG_LATER, Tunnel, U128, VLAN_CFI, Vlan};
use packet::Packet;
use packet::proto::{ethertype, header_len, ip_proto, nd};

/// Words of a packet.
pub(crate) const WORDS: usize = 8;
type Words = [u64; WORDS];

/// Of the bytes of [`Words`]: addresses, tag and Ethernet type as on the wire, then these, then IP addresses.
const FRAG: usize = 18;
const TOS: usize = 19;
const TTL: usize = 20;
const PROTO: usize = 21;
const FLAGS: usize = 22;
const PORTS: usize = 24;
const LABEL: usize = 28;
const ADDRESSES: usize = 32;

/// Bytes of a frame that a template looks at: up to the TCP flags of IPv6 behind a tag. (A burst has as many,
/// [`netdev::burst::head_len`].)
const HEAD: usize = 72;
const _: () = assert!(HEAD <= netdev::burst::LONG_HEAD);
/// Of these, what is compared at once: up to the ports.
const FIRST: usize = 48;
const BOTH: usize = 64;
/// From the start of a TCP header.
const CONTROL: usize = 12;
const TCP_FLAGS: u16 = 0xfff;
const LABEL_BITS: u32 = 0xf_ffff;

#[inline(always)]
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn le_words(bytes: &[u8; 8 * WORDS]) -> Words {
    std::array::from_fn(|i| {
        bytes.get(8 * i..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b))
    })
}

fn le_bytes(words: &Words) -> [u8; 8 * WORDS] {
    let mut bytes = [0; 8 * WORDS];
    bytes.chunks_exact_mut(8).zip(words).for_each(|(b, w)| b.copy_from_slice(&w.to_le_bytes()));
    bytes
}

/// What the transport header says that words have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    None,
    Tcp,
    /// UDP and SCTP.
    Ports,
    /// ICMP and ICMPv6: type and code.
    Type,
}

impl Transport {
    /// With the least length of its header. `None` if the key has more of it, whatever its version of IP.
    #[inline(always)]
    fn of(proto: u8) -> Option<(Transport, usize)> {
        match proto {
            ip_proto::TCP => Some((Transport::Tcp, header_len::TCP)),
            ip_proto::UDP => Some((Transport::Ports, header_len::UDP)),
            ip_proto::SCTP => Some((Transport::Ports, header_len::SCTP)),
            ip_proto::ICMP | ip_proto::ICMPV6 => Some((Transport::Type, header_len::ICMP)),
            ip_proto::IGMP => None,
            _ => Some((Transport::None, 0)),
        }
    }
}

/// Where the headers of a frame are, and what is in them.
struct Headers<'a> {
    /// Tag as on the wire; zeros if there is none.
    tag: [u8; 4],
    l3: usize,
    is_six: bool,
    /// The network header.
    ip: &'a [u8],
    proto: u8,
    frag: u8,
    transport: Transport,
    /// Of the transport header.
    least: usize,
    /// It, and what is behind it in the packet.
    payload: &'a [u8],
}

/// `None` for frames that are not of the shape.
#[inline(always)]
fn headers(frame: &[u8]) -> Option<Headers<'_>> {
    let eth = frame.first_chunk::<18>().filter(|_| frame.len() <= usize::from(u16::MAX))?;
    let (mut tag, mut l3, mut dl_type) = ([0; 4], header_len::ETH, u16::from_be_bytes([eth[12], eth[13]]));
    if ethertype::is_vlan(dl_type) {
        tag = [eth[12], eth[13], eth[14], eth[15]];
        l3 += header_len::VLAN;
        dl_type = u16::from_be_bytes([eth[16], eth[17]]);
    }
    let packet = frame.get(l3..)?;
    let is_six = match dl_type {
        ethertype::IPV4 => false,
        ethertype::IPV6 => true,
        _ => return None,
    };
    let (proto, frag, ip, payload) = if is_six { ipv6(packet)? } else { ipv4(packet)? };
    let (mut transport, mut least) = Transport::of(proto)?;
    if frag & NW_FRAG_LATER != 0 {
        (transport, least) = (Transport::None, 0);
    }
    if payload.len() < least {
        return None;
    }
    match transport {
        Transport::Tcp => {
            least = usize::from(payload.get(CONTROL)? >> 4) * 4;
            if least < header_len::TCP || least > payload.len() {
                return None;
            }
        }
        Transport::Type
            if proto == ip_proto::ICMPV6 && matches!(payload.first()?, &(nd::SOLICIT | nd::ADVERT)) =>
        {
            return None;
        }
        _ => {}
    }
    Some(Headers { tag, l3, is_six, ip, proto, frag, transport, least, payload })
}

type Network<'a> = (u8, u8, &'a [u8], &'a [u8]);

#[inline(always)]
fn ipv4(packet: &[u8]) -> Option<Network<'_>> {
    let ip = packet.first_chunk::<{ header_len::IPV4 }>()?;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if ip[0] != 0x45 {
        return None;
    }
    let payload = packet.get(header_len::IPV4..total)?;
    let frag = match (ip[6] & 0x20 != 0, (ip[6] & 0x1f) | ip[7] != 0) {
        (_, true) => NW_FRAG_ANY | NW_FRAG_LATER,
        (true, false) => NW_FRAG_ANY,
        (false, false) => 0,
    };
    Some((ip[9], frag, ip, payload))
}

#[inline(always)]
fn ipv6(packet: &[u8]) -> Option<Network<'_>> {
    let ip = packet.first_chunk::<{ header_len::IPV6 }>()?;
    let payload = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if ip[0] >> 4 != 6 || ip_proto::is_ipv6_extension(ip[6]) {
        return None;
    }
    let payload = packet.get(header_len::IPV6..header_len::IPV6 + payload)?;
    Some((ip[6], 0, ip, payload))
}

/// TOS, TTL and label.
#[inline(always)]
fn of_network(ip: &[u8], is_six: bool) -> Option<(u8, u8, u32)> {
    if !is_six {
        return Some((*ip.get(1)?, *ip.get(8)?, 0));
    }
    let word = u32::from_be_bytes(*ip.first_chunk()?);
    Some(((word >> 20) as u8, *ip.get(7)?, word & LABEL_BITS))
}

#[inline(always)]
fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// Sets the header offsets of a packet of the shape as a parser would.
pub(crate) fn set_offsets(packet: &mut Packet) {
    let Some(h) = headers(packet.data()) else { return };
    let l4 = h.l3 + h.ip.len();
    let pad = packet.data().len() - l4 - h.payload.len();
    let l3 = h.l3;
    packet.l2_5_ofs = packet::NO_OFFSET;
    (packet.l3_ofs, packet.l4_ofs, packet.l2_pad) = (l3 as u16, l4 as u16, pad as u16);
}

/// See the module.
pub(crate) struct Wide;

/// Of frames with and without a tag, of either version of IP: what counts or makes the shape.
pub(crate) struct Glance {
    masks: [[u8; BOTH]; 4],
    /// Of ports as little-endian words, of type and code, and of TCP flags.
    ports: u32,
    types: u32,
    flags: u16,
}

const NO_BYTES: [u8; BOTH] = [0; BOTH];

impl Glance {
    fn mask(counts: &[u8; 8 * WORDS], is_tagged: bool, is_six: bool) -> [u8; BOTH] {
        let mut mask = [0; BOTH];
        mask[..12].copy_from_slice(&counts[..12]);
        mask[12..14].fill(0xff);
        let l3 = if is_tagged {
            // The bit that says that there is a tag is something else on the wire, and not in the key.
            mask[14] = counts[14] & !((VLAN_CFI >> 8) as u8);
            mask[15] = counts[15];
            mask[16..18].fill(0xff);
            18
        } else {
            14
        };
        let ip = &mut mask[l3..];
        if is_six {
            let label =
                u32::from_be_bytes([0, counts[LABEL + 1], counts[LABEL + 2], counts[LABEL + 3]]) & LABEL_BITS;
            let first = 0xf000_0000 | u32::from(counts[TOS]) << 20 | label;
            ip[..4].copy_from_slice(&first.to_be_bytes());
            (ip[6], ip[7]) = (0xff, counts[TTL]);
            ip[8..40].copy_from_slice(&counts[ADDRESSES..]);
        } else {
            (ip[0], ip[1], ip[6], ip[7]) = (0xff, counts[TOS], 0x3f, 0xff);
            (ip[8], ip[9]) = (counts[TTL], 0xff);
            ip[12..20].copy_from_slice(&counts[ADDRESSES..ADDRESSES + 8]);
        }
        mask
    }
}

/// What there is to know of a template's frame beside its bytes.
#[derive(Clone, Copy)]
struct Facts {
    is_tagged: bool,
    is_six: bool,
    proto: u8,
    transport: Transport,
    /// The least that the length in the network header says.
    least: usize,
}

/// A template's frame as far as it is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    bytes: [u8; HEAD],
    facts: Facts,
}

const NO_FACTS: Facts =
    Facts { is_tagged: false, is_six: false, proto: 0, transport: Transport::None, least: usize::MAX };

/// See [`Template`].
#[derive(Clone, Copy)]
pub(crate) struct WideTemplate<'a> {
    frame: &'a [u8],
    facts: Facts,
    bytes: &'a [u8; FIRST],
    mask: &'a [u8; BOTH],
    /// Ports, or type and code.
    ports: u32,
    ports_mask: u32,
    /// Behind the ports, of TCP: length of the header, and flags.
    control: u16,
    control_mask: u16,
}

impl<'a> WideTemplate<'a> {
    fn of_frame(frame: &'a [u8], glance: &'a Glance) -> Option<Self> {
        let h = headers(frame)?;
        let facts = Facts {
            is_tagged: h.l3 != header_len::ETH,
            is_six: h.is_six,
            proto: h.proto,
            transport: h.transport,
            least: h.least + if h.is_six { 0 } else { header_len::IPV4 },
        };
        WideTemplate::new(frame, facts, glance)
    }

    fn new(frame: &'a [u8], facts: Facts, glance: &'a Glance) -> Option<Self> {
        let Facts { is_tagged, is_six, .. } = facts;
        let bytes = frame.first_chunk().filter(|_| !is_six || frame.len() >= BOTH)?;
        let ports_mask = match facts.transport {
            Transport::None => 0,
            Transport::Tcp | Transport::Ports => glance.ports,
            // Neighbor Discovery is told by its types.
            Transport::Type if facts.proto == ip_proto::ICMPV6 => glance.types | 0xff,
            Transport::Type => glance.types,
        };
        let l3 = header_len::ETH + if is_tagged { header_len::VLAN } else { 0 };
        let l4 = l3 + if is_six { header_len::IPV6 } else { header_len::IPV4 };
        Some(WideTemplate {
            frame,
            facts,
            bytes,
            mask: glance.masks.get(usize::from(is_tagged) + 2 * usize::from(is_six))?,
            ports: frame.get(l4..)?.first_chunk().map_or(0, |p| u32::from_le_bytes(*p)),
            ports_mask,
            control: be16(frame, l4 + CONTROL).unwrap_or(0),
            control_mask: glance.flags | !TCP_FLAGS,
        })
    }

    /// The TCP flags of a frame that is admitted.
    #[inline(always)]
    fn admit<const L3: usize, const SIX: bool>(&self, frame: &[u8]) -> Option<u16> {
        let (l4, length_at, ahead) = if SIX { (L3 + 40, L3 + 4, L3 + 40) } else { (L3 + 20, L3 + 2, L3) };
        let first = frame.first_chunk::<FIRST>()?;
        if differs(first, self.bytes, self.mask.first_chunk()?) {
            return None;
        }
        if SIX {
            let rest = |bytes: &[u8]| bytes.get(FIRST..BOTH)?.first_chunk::<{ BOTH - FIRST }>().copied();
            if differs(&rest(frame)?, &rest(self.frame)?, &rest(self.mask)?) {
                return None;
            }
        }
        let ports = u32::from_le_bytes(*frame.get(l4..l4 + 4)?.first_chunk()?);
        let length = usize::from(be16(frame, length_at)?);
        let fits = length >= self.facts.least
            && ahead + length <= frame.len()
            && frame.len() <= usize::from(u16::MAX);
        if (ports ^ self.ports) & self.ports_mask != 0 || !fits {
            return None;
        }
        if self.facts.transport != Transport::Tcp {
            return Some(0);
        }
        let control = be16(frame, l4 + CONTROL)?;
        ((control ^ self.control) & self.control_mask == 0).then_some(control & TCP_FLAGS)
    }

    #[inline(always)]
    fn admit_all<const L3: usize, const SIX: bool>(&self, frames: &[&[u8]]) -> Alike {
        let mut all = Alike::default();
        for frame in frames {
            let Some(flags) = self.admit::<L3, SIX>(frame) else { break };
            all.frames += 1;
            all.bytes += frame.len() as u32;
            all.flags |= flags;
        }
        all
    }
}

impl Template for WideTemplate<'_> {
    type Head = Head;
    const NONE: Self = WideTemplate {
        frame: &[],
        facts: NO_FACTS,
        bytes: &[0; FIRST],
        mask: &NO_BYTES,
        ports: 0,
        ports_mask: 0,
        control: 0,
        control_mask: 0,
    };

    fn head(&self) -> Option<Head> {
        if self.facts.least == usize::MAX {
            return None;
        }
        let mut bytes = [0; HEAD];
        let len = self.frame.len().min(HEAD);
        bytes.get_mut(..len)?.copy_from_slice(self.frame.get(..len)?);
        Some(Head { bytes, facts: self.facts })
    }

    #[inline]
    fn admits(&self, frames: &[&[u8]]) -> Alike {
        if self.facts.least == usize::MAX {
            return Alike::default();
        }
        match (self.facts.is_tagged, self.facts.is_six) {
            (false, false) => self.admit_all::<14, false>(frames),
            (false, true) => self.admit_all::<14, true>(frames),
            (true, false) => self.admit_all::<18, false>(frames),
            (true, true) => self.admit_all::<18, true>(frames),
        }
    }
}

/// The fields that tell packets of the shape apart; of addresses, those of one version of IP.
fn of_shape(f: &Flow, is_six: bool) -> Words {
    let mut bytes = [0; 8 * WORDS];
    bytes[0..6].copy_from_slice(&f.dl_dst.0);
    bytes[6..12].copy_from_slice(&f.dl_src.0);
    bytes[12..14].copy_from_slice(&f.vlans[0].tpid.to_be_bytes());
    bytes[14..16].copy_from_slice(&f.vlans[0].tci.to_be_bytes());
    bytes[16..18].copy_from_slice(&f.dl_type.to_be_bytes());
    (bytes[FRAG], bytes[TOS], bytes[TTL], bytes[PROTO]) = (f.nw_frag, f.nw_tos, f.nw_ttl, f.nw_proto);
    bytes[FLAGS..PORTS].copy_from_slice(&f.tcp_flags.to_be_bytes());
    bytes[PORTS..PORTS + 2].copy_from_slice(&f.tp_src.to_be_bytes());
    bytes[PORTS + 2..LABEL].copy_from_slice(&f.tp_dst.to_be_bytes());
    if is_six {
        bytes[LABEL..ADDRESSES].copy_from_slice(&f.ipv6_label.to_be_bytes());
        bytes[ADDRESSES..48].copy_from_slice(&u128::from(f.ipv6_src).to_be_bytes());
        bytes[48..].copy_from_slice(&u128::from(f.ipv6_dst).to_be_bytes());
    } else {
        bytes[ADDRESSES..36].copy_from_slice(&f.nw_src.to_be_bytes());
        bytes[36..40].copy_from_slice(&f.nw_dst.to_be_bytes());
    }
    le_words(&bytes)
}

/// The Ethernet type in the third word.
const TYPE: u64 = 0xffff;

impl Shape<WORDS> for Wide {
    type Head = Head;
    const NO_HEAD: Head = Head { bytes: [0; HEAD], facts: NO_FACTS };
    type Glance = Glance;
    type Template<'a> = WideTemplate<'a>;
    const HAS_WAYS: bool = false;

    #[inline(always)]
    fn words(frame: &[u8]) -> Option<Words> {
        let h = headers(frame)?;
        let (tos, ttl, label) = of_network(h.ip, h.is_six)?;
        let mut tag = h.tag;
        let dl_type: u16 = if h.is_six { ethertype::IPV6 } else { ethertype::IPV4 };
        if tag[0] != 0 {
            tag[2] |= (VLAN_CFI >> 8) as u8;
        }
        let flags = match h.transport {
            Transport::Tcp => be16(h.payload, CONTROL)? & TCP_FLAGS,
            _ => 0,
        };
        let ports = match h.transport {
            Transport::None => [0; 4],
            Transport::Tcp | Transport::Ports => *h.payload.first_chunk()?,
            Transport::Type => [0, *h.payload.first()?, 0, *h.payload.get(1)?],
        };
        let [type_high, type_low] = dl_type.to_be_bytes();
        let [flags_high, flags_low] = flags.to_be_bytes();
        let source = u64::from(u32::from_le_bytes(*frame.get(8..)?.first_chunk()?));
        let network = [type_high, type_low, h.frag, tos, ttl, h.proto, flags_high, flags_low];
        let addresses = if h.is_six {
            [le64(h.ip, 8)?, le64(h.ip, 16)?, le64(h.ip, 24)?, le64(h.ip, 32)?]
        } else {
            [le64(h.ip, 12)?, 0, 0, 0]
        };
        Some([
            le64(frame, 0)?,
            source | u64::from(u32::from_le_bytes(tag)) << 32,
            u64::from_le_bytes(network),
            u64::from(u32::from_le_bytes(ports)) | u64::from(label.swap_bytes()) << 32,
            addresses[0],
            addresses[1],
            addresses[2],
            addresses[3],
        ])
    }

    #[inline(always)]
    fn flags(words: &Words) -> u16 {
        ((words[2] >> 48) as u16).swap_bytes()
    }

    /// (No packets of this shape are looked up by their hash.)
    fn add_hash(_words: &mut Words, _hash: u16) {}

    /// The Ethernet type: a mask may not look at it, and still not ask the same of both versions of IP.
    #[inline(always)]
    fn kind(words: &Words) -> u16 {
        ((words[2] & TYPE) as u16).swap_bytes()
    }

    #[inline(always)]
    fn signature(seed: &[u64; 4], in_port: u32, w: &Words, union: &Words) -> u64 {
        let w: Words = std::array::from_fn(|i| w[i] & union[i]);
        let [s0, s1, s2, s3] = *seed;
        let port = u64::from(in_port).wrapping_mul(s2);
        let link = fold(w[0] ^ s0, w[1] ^ s1 ^ port);
        let network = fold(w[2] ^ s2, w[3] ^ s3);
        let source = fold(w[4] ^ s1.rotate_left(17), w[5] ^ s0.rotate_left(23));
        let target = fold(w[6] ^ s3.rotate_left(11), w[7] ^ s2.rotate_left(41));
        link ^ network.rotate_left(32) ^ source.rotate_left(15) ^ target.rotate_left(47)
    }

    fn glance(union: &Words) -> Glance {
        let counts = le_bytes(union);
        let ports =
            u32::from_le_bytes([counts[PORTS], counts[PORTS + 1], counts[PORTS + 2], counts[PORTS + 3]]);
        let mask = |n: usize| Glance::mask(&counts, n & 1 != 0, n & 2 != 0);
        Glance {
            masks: std::array::from_fn(mask),
            ports,
            types: u32::from_le_bytes([counts[PORTS + 1], counts[PORTS + 3], 0, 0]),
            flags: u16::from_be_bytes([counts[FLAGS], counts[FLAGS + 1]]) & TCP_FLAGS,
        }
    }

    #[inline]
    fn template<'a>(frame: &'a [u8], union: &'a Union<Self, WORDS>) -> WideTemplate<'a> {
        WideTemplate::of_frame(frame, &union.glance).unwrap_or(WideTemplate::NONE)
    }

    #[inline]
    fn template_again<'a>(head: &'a Head, union: &'a Union<Self, WORDS>) -> WideTemplate<'a> {
        WideTemplate::new(&head.bytes, head.facts, &union.glance).unwrap_or(WideTemplate::NONE)
    }

    fn wanted(key: &Flow, mask: &Mask, tunnel: Option<&Tunnel>, kind: u16) -> Option<Wanted<WORDS>> {
        if tunnel.is_some() {
            return None;
        }
        let is_six = kind == ethertype::IPV6;
        let mut fixed = mask.clone();
        (fixed.dl_dst, fixed.dl_src, fixed.vlans[0]) = (EthAddr::ZERO, EthAddr::ZERO, Vlan::default());
        (fixed.nw_tos, fixed.nw_ttl, fixed.nw_proto, fixed.nw_frag) = (0, 0, 0, 0);
        (fixed.tcp_flags, fixed.tp_src, fixed.tp_dst) = (0, 0, 0);
        if is_six {
            (fixed.ipv6_src, fixed.ipv6_dst, fixed.ipv6_label) = (U128::ZERO, U128::ZERO, 0);
        } else {
            (fixed.nw_src, fixed.nw_dst) = (0, 0);
        }
        let same = Flow { in_port: key.in_port, dl_type: kind, ..Flow::ZERO };
        let words = if is_six { |f: &Flow| of_shape(f, true) } else { |f: &Flow| of_shape(f, false) };
        let mut wanted = Wanted::of(key, mask, &fixed, &same, words)?;
        // Of this kind alone, whatever the mask says.
        wanted.mask[2] |= TYPE;
        wanted.value[2] = wanted.value[2] & !TYPE | u64::from(kind.swap_bytes());
        Some(wanted)
    }
}
