//! The short way: the common packet, straight from its bytes to the port that it leaves by.
//!
//! A packet of the common shape (untagged IPv4 without options or fragments, TCP or UDP) is five words of its
//! own bytes. Where these go is remembered per thread: a signature leads to a slot, and a slot is a megaflow with its mask
//! and key turned into the same five words. What a slot says is checked against the packet, bit for bit of the
//! megaflow's mask, so that a wrong or old entry costs time and never sends a packet the wrong way. Only megaflows
//! that do nothing but output are served here; everything else takes the way through a whole key.

use crate::key::Seed;
use crate::megaflow::Megaflow;
use dpif::{Action, PortNo};
use flow::{EthAddr, Flow, Mask};
use hashbrown::HashMap;
use packet::{Checksum, Packet};
use std::sync::Arc;

/// What the key has of a packet of the shape, in five words: addresses, type and TOS; TTL and protocol; IP addresses;
/// ports and TCP flags. Bytes are where they are on the wire.
pub(crate) type Words = [u64; 5];

/// Ethernet, IPv4 and UDP headers.
const UDP_FRAME: usize = 42;
const TCP_FRAME: usize = 54;
const ETHERNET: usize = 14;
const IP_AND_UDP: usize = 28;
const IP_AND_TCP: usize = 40;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Bytes 12 to 14: IPv4, five words of header. As they come out of a little-endian load.
const TYPE_AND_VERSION: u64 = 0x45_0008;
/// Of bytes 16 to 23: more fragments, and the fragment's offset.
const FRAGMENT: u64 = 0x0000_ff3f_0000_0000;
/// Of bytes 16 to 23: TTL and protocol.
const TTL_AND_PROTO: u64 = 0xffff_0000_0000_0000;

/// Signatures in a bucket, which is a cache line.
const WAYS: usize = 8;
/// Buckets at first, and at most; they grow fourfold.
const BUCKETS_MIN: usize = 512;
const BUCKETS_MAX: usize = 1 << 17;
/// Megaflows that are remembered at a time.
const SLOTS_MAX: usize = 1 << 16;

/// `out` of a slot whose megaflow does more than output.
const ELSEWHERE: u32 = u32::MAX;

fn le64(bytes: &[u8; UDP_FRAME], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The words of a packet of the shape; `None` for all others.
#[inline(always)]
pub(crate) fn words(packet: &Packet) -> Option<Words> {
    let data = packet.data();
    let head = data.first_chunk::<UDP_FRAME>()?;
    let (second, third) = (le64(head, 8), le64(head, 16));
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let is_plain = packet.packet_type == flow::PT_ETH
        && packet.offload.gso.is_none()
        && !matches!(packet.offload.checksum, Checksum::Partial { .. });
    let is_shape = (second >> 32) & 0xff_ffff == TYPE_AND_VERSION
        && third & FRAGMENT == 0
        && total >= IP_AND_UDP
        && total <= data.len() - ETHERNET;
    if !(is_plain && is_shape) {
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
    fits.then_some(control & 0xfff)
}

/// Whether two packets are told apart. (Comparing arrays would call the C library.)
#[inline(always)]
pub(crate) fn differ(a: &Words, b: &Words) -> bool {
    (0..5).fold(0, |d, i| d | (a[i] ^ b[i])) != 0
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
struct Shape {
    mask: Words,
    value: Words,
}

impl Shape {
    /// `None` if no packet of the shape that came in by `key.in_port` matches.
    fn of(key: &Flow, mask: &Mask) -> Option<Self> {
        let mut fixed = mask.clone();
        (fixed.dl_dst, fixed.dl_src) = (EthAddr::ZERO, EthAddr::ZERO);
        (fixed.nw_tos, fixed.nw_ttl, fixed.nw_proto, fixed.tcp_flags) = (0, 0, 0, 0);
        (fixed.nw_src, fixed.nw_dst, fixed.tp_src, fixed.tp_dst) = (0, 0, 0, 0);
        let same = Flow { in_port: key.in_port, dl_type: 0x0800, ..Flow::ZERO };
        let fits =
            key.words().iter().zip(same.words()).zip(fixed.words()).all(|((k, s), m)| (k ^ s) & m == 0);
        let (mask, value) = (of_shape(mask), of_shape(key));
        fits.then(|| Shape { mask, value: std::array::from_fn(|i| value[i] & mask[i]) })
    }
}

/// A megaflow as the lane knows it, and what passed in the batch at hand.
#[repr(align(64))]
struct Slot {
    mask: Words,
    value: Words,
    in_port: u32,
    out: u32,
    packets: u32,
    bytes: u32,
    tcp_flags: u16,
    flow: Option<Arc<Megaflow>>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket([u64; WAYS]);

/// What one thread remembers.
pub(crate) struct Lane {
    seed: [u64; 4],
    buckets: Vec<Bucket>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots by the address of their megaflow.
    known: HashMap<usize, u32>,
    /// Slots that packets of this batch went to.
    touched: Vec<u32>,
    /// Signatures that had to go for others since the buckets last grew.
    evicted: usize,
    hand: usize,
}

/// Where a packet of the shape goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Nothing is remembered.
    Unknown,
    /// Its megaflow does more than output.
    Elsewhere,
    Out(PortNo),
}

impl Lane {
    pub fn new(seed: Seed) -> Self {
        let basis = seed.basis();
        let number = |n: u64| (basis ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) | 1;
        Lane {
            seed: [number(1), number(2), number(3), number(4)],
            buckets: vec![Bucket([0; WAYS]); BUCKETS_MIN],
            slots: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
            touched: Vec::with_capacity(packet::BATCH_LEN),
            evicted: 0,
            hand: 0,
        }
    }

    /// TCP flags are not part of the signature: they change within a connection.
    #[inline(always)]
    pub fn signature(&self, in_port: u32, w: &Words) -> u64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ ((product >> 64) as u64)
        };
        let [s0, s1, s2, s3] = self.seed;
        let ports = w[4] & 0xffff_ffff;
        let port = u64::from(in_port).wrapping_mul(s2);
        let link = fold(w[0] ^ s0, w[1] ^ s1 ^ port);
        let network = fold(w[3] ^ s2, w[2] ^ ports.rotate_left(13) ^ s3);
        fold(link ^ s3, network ^ s0)
    }

    /// Where a packet goes, which is counted if it goes out.
    #[inline(always)]
    pub fn find(&mut self, signature: u64, in_port: u32, w: &Words, len: usize) -> (Way, u32) {
        let bucket = &self.buckets[signature as usize & (self.buckets.len() - 1)];
        let tag = signature >> 32;
        for entry in bucket.0 {
            if entry >> 32 != tag || entry as u32 == 0 {
                continue;
            }
            let at = entry as u32 - 1;
            let Some(slot) = self.slots.get_mut(at as usize) else { continue };
            let differs = (0..5).fold(0, |d, i| d | ((w[i] & slot.mask[i]) ^ slot.value[i]));
            if differs == 0 && slot.in_port == in_port {
                return (self.take(at, w, len), at);
            }
        }
        (Way::Unknown, 0)
    }

    /// Counts a packet for a slot that it was found to match.
    #[inline(always)]
    pub fn take(&mut self, at: u32, w: &Words, len: usize) -> Way {
        let Some(slot) = self.slots.get_mut(at as usize) else { return Way::Unknown };
        if slot.packets == 0 {
            if slot.flow.as_ref().is_none_or(|f| f.is_dead()) {
                return Way::Unknown;
            }
            if slot.out == ELSEWHERE {
                return Way::Elsewhere;
            }
            self.touched.push(at);
        }
        slot.packets += 1;
        slot.bytes += len as u32;
        slot.tcp_flags |= flags_of(w);
        Way::Out(PortNo(slot.out))
    }

    /// Counts packets behind one that was found, which are told apart from it by nothing.
    #[inline(always)]
    pub fn add(&mut self, at: u32, packets: u32, bytes: u32) {
        if packets > 0
            && let Some(slot) = self.slots.get_mut(at as usize)
        {
            slot.packets += packets;
            slot.bytes += bytes;
        }
    }

    /// Remembers that packets with this signature go to a slot.
    pub fn remember(&mut self, signature: u64, at: u32) {
        if self.evicted > self.buckets.len() * WAYS / 4 && self.buckets.len() < BUCKETS_MAX {
            // What was remembered is found again soon enough.
            self.evicted = 0;
            self.buckets = vec![Bucket([0; WAYS]); (self.buckets.len() * 4).min(BUCKETS_MAX)];
        }
        let len = self.buckets.len();
        let bucket = &mut self.buckets[signature as usize & (len - 1)];
        let tag = signature >> 32;
        let entry = tag << 32 | u64::from(at + 1);
        let free = bucket.0.iter().position(|e| *e == 0 || e >> 32 == tag);
        let way = free.unwrap_or_else(|| {
            self.evicted += 1;
            (signature >> 29) as usize % WAYS
        });
        bucket.0[way] = entry;
    }

    /// The slot of a megaflow; `None` if no packet of the shape can match it.
    pub fn slot(&mut self, flow: &Arc<Megaflow>) -> Option<u32> {
        let address = Arc::as_ptr(flow) as usize;
        if let Some(at) = self.known.get(&address) {
            return Some(*at);
        }
        let shape = Shape::of(&flow.key, &flow.mask.mask)?;
        let out = match flow.actions.as_slice() {
            [Action::Output(port)] => port.0,
            _ => ELSEWHERE,
        };
        let (mask, value, in_port) = (shape.mask, shape.value, flow.key.in_port);
        let flow = Some(Arc::clone(flow));
        let new = Slot { mask, value, in_port, out, packets: 0, bytes: 0, tcp_flags: 0, flow };
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(new);
                let at = (self.slots.len() - 1) as u32;
                self.known.insert(address, at);
                return Some(at);
            }
            None => self.evict()?,
        };
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = new;
        }
        self.known.insert(address, at);
        Some(at)
    }

    /// Gives up a slot that no packet of this batch went to.
    fn evict(&mut self) -> Option<u32> {
        // There are more slots than packets in a batch.
        for _ in 0..=packet::BATCH_LEN {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            let Some(slot) = self.slots.get_mut(self.hand).filter(|s| s.packets == 0) else { continue };
            if let Some(flow) = slot.flow.take() {
                self.known.remove(&(Arc::as_ptr(&flow) as usize));
            }
            return Some(self.hand as u32);
        }
        None
    }

    /// The port that all packets of the batch went to, if it is one.
    pub fn only_way(&self) -> Option<PortNo> {
        let out = |at: &u32| self.slots.get(*at as usize).map(|s| s.out);
        let first = out(self.touched.first()?)?;
        self.touched.iter().all(|at| out(at) == Some(first)).then_some(PortNo(first))
    }

    /// Gives the megaflows what passed in this batch. Their thread is the only one that counts so.
    pub fn credit(&mut self, now_ms: u64, is_owner: bool) {
        while let Some(at) = self.touched.pop() {
            let Some(slot) = self.slots.get_mut(at as usize) else { continue };
            if let Some(flow) = &slot.flow {
                let (packets, bytes) = (u64::from(slot.packets), u64::from(slot.bytes));
                if is_owner {
                    flow.stats.add_as_owner(packets, bytes, slot.tcp_flags, now_ms);
                } else {
                    flow.stats.add(packets, bytes, slot.tcp_flags, now_ms);
                }
            }
            (slot.packets, slot.bytes, slot.tcp_flags) = (0, 0, 0);
        }
    }

    /// Lets go of dead megaflows in a few slots.
    pub fn sweep(&mut self) {
        for _ in 0..self.slots.len().min(16) {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            if slot.flow.as_ref().is_some_and(|f| f.is_dead())
                && let Some(flow) = slot.flow.take()
            {
                self.known.remove(&(Arc::as_ptr(&flow) as usize));
                self.free.push(self.hand as u32);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(Bucket([0; WAYS]));
        self.slots.clear();
        self.free.clear();
        self.known.clear();
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
