//! Changes to the headers of packets where they lie: VLAN tags, Ethernet and IP addresses, TTL, TOS, ports.
//!
//! They are made into bits to keep and to set once, and applied to many packets ([`crate::Burst::rewrite`]). Only frames of
//! known shapes are changed: IPv4 without options or IPv6 without extension headers, behind at most one tag. What is
//! different about one (its protocol is not the one whose ports are set) leaves it as it is.

mod bits;
mod lent;

use bits::{Bits, change_sum, difference, halves, plus, updated, with_sum};
pub(crate) use lent::rewrite_frames;
use packet::header::{EthKey, Ipv4Key, Ipv6Key, Masked, PortsKey};
use packet::proto::{ethertype, ip_proto};

/// Ethernet addresses.
const MACS: usize = 12;
const ETHERNET: usize = 14;
/// Bytes of a VLAN tag.
pub const TAG: usize = 4;
/// More fragments, and the fragment's offset, in the IPv4 header's first word.
const FRAGMENT: u64 = 0xff3f << 48;
/// Where in the headers of IPv4 and IPv6 the protocol, addresses and ports are.
const PROTOCOL: usize = 9;
const ADDRESSES: usize = 12;
const PORTS: usize = 20;
const PROTOCOL_6: usize = 6;
const ADDRESSES_6: usize = 8;
const PORTS_6: usize = 40;
/// Ethernet, IPv4 and ports.
const HEADERS: usize = ETHERNET + PORTS + 4;
const CFI: u16 = 1 << 12;

/// 16 bytes: Ethernet addresses, and a tag that is put on.
type Link = Bits<2>;
/// An IPv4 header without options, and ports.
type Four = Bits<3>;
/// An IPv6 header, ports, and what is behind them.
type Six = Bits<6>;

/// What becomes of the outermost tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tagging {
    Leave,
    Push,
    Pop,
}

/// Where the headers of a frame are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The network header.
    l3: usize,
    is_six: bool,
    /// The transport checksum, from the network header on, if the frame has one, and something is set that is in it.
    sum: Option<usize>,
}

/// Changes to the headers of a packet; none at first.
#[derive(Clone, Debug)]
pub struct Rewrite {
    tagging: Tagging,
    link: Link,
    four: Four,
    six: Six,
    /// Whether something of the header is set, ports apart; packets of the other version are left alone.
    changes_four: bool,
    changes_six: bool,
    /// Whether any of these is, or ports are.
    changes_network: bool,
    /// Whether something is set that is in transport checksums.
    moves: bool,
    /// The protocol whose ports are set.
    ports_of: Option<u8>,
}

impl Default for Rewrite {
    fn default() -> Self {
        Rewrite {
            tagging: Tagging::Leave,
            link: Bits::NONE,
            four: Bits::NONE,
            six: Bits::NONE,
            changes_four: false,
            changes_six: false,
            changes_network: false,
            moves: false,
            ports_of: None,
        }
    }
}

/// Packets of a burst to which the same is done ([`crate::Burst::rewrite`]).
#[derive(Debug)]
pub struct Part<'e> {
    pub how: &'e Rewrite,
    /// Their places; in the end, those of the packets that were changed.
    pub places: u32,
    /// In the end, the bytes of these as they are then.
    pub bytes: u64,
}

impl<'e> Part<'e> {
    pub fn new(how: &'e Rewrite, places: u32) -> Self {
        Part { how, places, bytes: 0 }
    }

    /// The places that are wanted; what is changed is noted from now on.
    #[inline]
    pub fn start(&mut self) -> u32 {
        std::mem::take(&mut self.places)
    }

    /// Notes a packet that was changed, and its length.
    #[inline]
    pub fn note(&mut self, place: usize, len: usize) {
        self.places |= 1 << place;
        self.bytes += len as u64;
    }
}

impl Rewrite {
    /// Puts a tag on. False, and nothing happens, if the tag is to be changed already.
    pub fn push_tag(&mut self, tpid: u16, tci: u16) -> bool {
        let is_first = self.tagging == Tagging::Leave;
        if is_first {
            self.tagging = Tagging::Push;
            let tag = [tpid.to_be_bytes(), (tci & !CFI).to_be_bytes()].concat();
            self.link.put(MACS, &tag, &[0xff; TAG]);
        }
        is_first
    }

    /// Takes the outermost tag off. False, and nothing happens, if the tag is to be changed already.
    pub fn pop_tag(&mut self) -> bool {
        let is_first = self.tagging == Tagging::Leave;
        if is_first {
            self.tagging = Tagging::Pop;
        }
        is_first
    }

    pub fn set_macs(&mut self, m: &Masked<EthKey>) {
        self.link.put(0, &m.key.dst.0, &m.mask.dst.0);
        self.link.put(6, &m.key.src.0, &m.mask.src.0);
    }

    /// Addresses, TOS and TTL.
    pub fn set_ipv4(&mut self, m: &Masked<Ipv4Key>) {
        let bytes = |k: &Ipv4Key| [k.src.to_be_bytes(), k.dst.to_be_bytes()].concat();
        self.four.put(1, &[m.key.tos], &[m.mask.tos]);
        self.four.put(8, &[m.key.ttl], &[m.mask.ttl]);
        self.four.put(ADDRESSES, &bytes(&m.key), &bytes(&m.mask));
        self.moves |= (m.mask.src, m.mask.dst) != (0, 0);
        (self.changes_four, self.changes_network) = (true, true);
    }

    /// Addresses, traffic class, label and hop limit.
    pub fn set_ipv6(&mut self, m: &Masked<Ipv6Key>) {
        let first = |k: &Ipv6Key| (u32::from(k.tclass) << 20 | k.label & 0xf_ffff).to_be_bytes();
        let bytes = |k: &Ipv6Key| [k.src, k.dst].map(|a| u128::from(a).to_be_bytes()).concat();
        self.six.put(0, &first(&m.key), &first(&m.mask));
        self.six.put(7, &[m.key.hlimit], &[m.mask.hlimit]);
        self.six.put(ADDRESSES_6, &bytes(&m.key), &bytes(&m.mask));
        self.moves |= bytes(&m.mask) != [0; 32];
        (self.changes_six, self.changes_network) = (true, true);
    }

    /// Ports of TCP or UDP. False if those of another protocol are set already.
    pub fn set_ports(&mut self, m: &Masked<PortsKey>, proto: u8) -> bool {
        let bytes = |k: &PortsKey| [k.src.to_be_bytes(), k.dst.to_be_bytes()].concat();
        let (key, mask) = (bytes(&m.key), bytes(&m.mask));
        self.four.put(PORTS, &key, &mask);
        self.six.put(PORTS_6, &key, &mask);
        self.moves |= mask != [0; 4];
        self.changes_network = true;
        self.ports_of.replace(proto).is_none_or(|other| other == proto)
    }

    pub fn tagging(&self) -> Tagging {
        self.tagging
    }

    /// Whether something is set that transport checksums have in them.
    pub fn moves(&self) -> bool {
        self.moves
    }

    /// Whether a frame is one that can be changed; where its headers are. (One that is to lose a tag which it has not got
    /// stays as it is.)
    #[inline]
    pub fn layout(&self, frame: &[u8]) -> Option<Layout> {
        let kind = |at: usize| frame.get(at..at + 2)?.first_chunk().map(|b| u16::from_be_bytes(*b));
        let dl_type = kind(MACS)?;
        let (l3, dl_type) = match ethertype::is_vlan(dl_type) {
            true => (ETHERNET + TAG, kind(MACS + TAG)?),
            false if self.tagging == Tagging::Pop => return None,
            false => (ETHERNET, dl_type),
        };
        let network = frame.get(l3..)?;
        match dl_type {
            ethertype::IPV4 => self.layout_four(l3, network),
            ethertype::IPV6 => self.layout_six(l3, network),
            _ => None,
        }
    }

    #[inline]
    fn layout_four(&self, l3: usize, network: &[u8]) -> Option<Layout> {
        let [first, second, _] = Four::load(network)?;
        let mut sum = None;
        if self.changes_four || self.ports_of.is_some() {
            let proto = proto_of(second);
            sum = match proto {
                ip_proto::TCP => Some(PORTS + 16),
                ip_proto::UDP => Some(PORTS + 6),
                _ => None,
            }
            .filter(|_| self.moves);
            if first & FRAGMENT != 0 || self.ports_of.is_some_and(|p| p != proto) {
                return None;
            }
        }
        let fits = !self.changes_six && sum.is_none_or(|at| at + 2 <= network.len());
        fits.then_some(Layout { l3, is_six: false, sum })
    }

    #[inline]
    fn layout_six(&self, l3: usize, network: &[u8]) -> Option<Layout> {
        let mut sum = None;
        if self.changes_six || self.ports_of.is_some() {
            let proto = *network.get(PROTOCOL_6)?;
            sum = match proto {
                ip_proto::TCP => Some(PORTS_6 + 16),
                ip_proto::UDP => Some(PORTS_6 + 6),
                ip_proto::ICMPV6 => Some(PORTS_6 + 2),
                _ => None,
            }
            .filter(|_| self.moves);
            if network.len() < Six::BYTES || self.ports_of.is_some_and(|p| p != proto) {
                return None;
            }
        }
        let fits = !self.changes_four && sum.is_none_or(|at| at + 2 <= network.len());
        fits.then_some(Layout { l3, is_six: true, sum })
    }

    /// Changes a frame, unless that is left as it is; whether it was. In front of one that gets a tag are [`TAG`] bytes for
    /// it. One that loses its tag begins that much later.
    #[inline]
    pub fn apply(&self, frame: &mut [u8]) -> bool {
        match self.tagging {
            Tagging::Leave => self.apply_to::<0, 0>(frame),
            Tagging::Push => self.apply_to::<TAG, 0>(frame),
            Tagging::Pop => self.apply_to::<0, TAG>(frame),
        }
    }

    /// As [`Rewrite::apply`], if the frame grows and shrinks by so many bytes.
    #[inline(always)]
    pub fn apply_to<const GROWTH: usize, const LOSS: usize>(&self, frame: &mut [u8]) -> bool {
        let Some(inner) = frame.get_mut(GROWTH..) else { return false };
        // Before anything is written: to read what was just written in other pieces takes long.
        let Some(link) = Link::load(inner) else { return false };
        // Most often.
        let is_common = LOSS == 0 && halves(link[1]).1 as u16 == ethertype::IPV4.swap_bytes();
        let fits = match inner.split_first_chunk_mut::<HEADERS>() {
            Some((head, _)) if is_common && !self.moves => !self.changes_network || self.change_header(head),
            Some((head, payload)) if is_common => self.change_common(head, payload),
            _ => self.change_network(inner),
        };
        if !fits {
            return false;
        }
        let link = self.link.applied(link);
        if GROWTH > 0 {
            Link::store(frame, link);
        } else if let Some(to) = frame.get_mut(LOSS..).and_then(<[u8]>::first_chunk_mut::<MACS>) {
            to[..8].copy_from_slice(&link[0].to_le_bytes());
            to[8..].copy_from_slice(&(link[1] as u32).to_le_bytes());
        }
        true
    }

    /// As [`Rewrite::change_common`], if nothing moves: TOS and TTL.
    #[inline(never)]
    fn change_header(&self, head: &mut [u8; HEADERS]) -> bool {
        let Some(network) = head.get_mut(ETHERNET..) else { return false };
        let Some(old) = Bits::<2>::load(network) else { return false };
        if !self.admits_four(old) {
            return false;
        }
        let mut new: [u64; 2] = std::array::from_fn(|i| old[i] & self.four.keep[i] | self.four.set[i]);
        if self.changes_four {
            let sum = plus(plus(!old[1], new[1]), difference(old[0], new[0]));
            new[1] = with_sum(new[1], updated((old[1] >> 16) as u16, sum));
        }
        Bits::<2>::store(network, new);
        true
    }

    /// Whether an IPv4 header is of no fragment and of the protocol whose ports are set.
    #[inline(always)]
    fn admits_four(&self, header: [u64; 2]) -> bool {
        header[0] & FRAGMENT == 0
            && !self.changes_six
            && self.ports_of.is_none_or(|proto| proto == proto_of(header[1]))
    }

    /// Changes the network header of an untagged IPv4 frame, and ports; false if the frame is left as it is. As
    /// [`Rewrite::change_network`], for most frames.
    #[inline(never)]
    fn change_common(&self, head: &mut [u8; HEADERS], payload: &mut [u8]) -> bool {
        let Some(network) = head.last_chunk_mut::<{ Four::BYTES }>() else { return false };
        let Some(old) = Four::load(network) else { return false };
        let proto = proto_of(old[1]);
        if !self.admits_four([old[0], old[1]]) {
            return false;
        }
        let mut sum = None;
        if self.moves && matches!(proto, ip_proto::TCP | ip_proto::UDP) {
            // Behind the ports.
            let at = if proto == ip_proto::TCP { 12 } else { 2 };
            let Some(field) = payload.get_mut(at..at + 2).and_then(|f| f.first_chunk_mut()) else {
                return false;
            };
            sum = Some(field);
        }
        let (new, moved) = self.changed_four(old);
        Four::store(network, new);
        if let (Some(sum), Some(by)) = (sum, moved) {
            change_sum(sum, proto == ip_proto::UDP, by);
        }
        true
    }

    /// Changes the network header of a frame, and ports; false if the frame is left as it is.
    #[inline(never)]
    fn change_network(&self, frame: &mut [u8]) -> bool {
        let Some(layout) = self.layout(frame) else { return false };
        let Some(network) = frame.get_mut(layout.l3..).filter(|_| self.changes_network) else { return true };
        let moved = if layout.is_six { self.change_six(network) } else { self.change_four(network) };
        let (l4, at) = (if layout.is_six { PORTS_6 } else { PORTS }, layout.sum.unwrap_or(usize::MAX));
        let sum = network.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
        if let (Some(sum), Some(by)) = (sum, moved) {
            change_sum(sum, at == l4 + 6, by);
        }
        true
    }

    /// Returns what the transport checksum changes by, if it does.
    fn change_four(&self, network: &mut [u8]) -> Option<u64> {
        let (new, moved) = self.changed_four(Four::load(network)?);
        Four::store(network, new);
        moved
    }

    /// An IPv4 header and ports, and what the transport checksum changes by, if it does.
    #[inline(always)]
    fn changed_four(&self, old: [u64; 3]) -> ([u64; 3], Option<u64>) {
        let mut new = self.four.applied(old);
        // Source; destination and ports.
        let has_moved = halves(old[1] ^ new[1]).1 | (old[2] ^ new[2]) != 0;
        let moved = has_moved.then(|| plus(halves(!old[1]).1 + halves(new[1]).1, plus(!old[2], new[2])));
        if self.changes_four {
            let (tos, target) = (difference(old[0], new[0]), difference(old[2], new[2]));
            let sum = updated((old[1] >> 16) as u16, plus(plus(!old[1], new[1]), tos + target));
            new[1] = with_sum(new[1], sum);
        }
        (new, moved)
    }

    /// Of IPv6 and ports behind it, as [`Rewrite::change_four`].
    fn change_six(&self, network: &mut [u8]) -> Option<u64> {
        let old = Six::load(network)?;
        let new = self.six.applied(old);
        let (mut moves, mut has_moved) = (0, false);
        for (old, new) in old.iter().zip(&new).skip(ADDRESSES_6 / 8) {
            moves = plus(moves, plus(!old, *new));
            has_moved |= old != new;
        }
        Six::store(network, new);
        has_moved.then_some(moves)
    }
}

/// The protocol, of an IPv4 header's second word.
#[inline(always)]
fn proto_of(second: u64) -> u8 {
    (second >> (8 * (PROTOCOL - 8))) as u8
}
