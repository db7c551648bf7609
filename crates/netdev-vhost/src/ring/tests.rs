//! A driver beside the device: both sides of a ring in one memory.

use super::*;
use crate::mem::frames::Frames;
use crate::mem::{HEAD, Region, RegionSpec};
use crate::protocol::{RingAddresses, feature};
use crate::vring::{RxCount, Vring};
use netdev::{Burst as _, Heads};
use packet::{Batch, Checksum, Gso, GsoKind, Offload, Packet};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::fs::File;

pub(crate) const MEMORY: u64 = 4 << 20;
/// What the front end adds to guest addresses.
const USER: u64 = 0x7f00_0000_0000;
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const TABLES: u64 = 0x1_0000;
const TABLE: u64 = 0x500;
pub(crate) const BUFFERS: u64 = 0x10_0000;

/// The regions of [`memory`]: two, so that buffers lie across their border.
pub(crate) fn regions() -> [RegionSpec; 2] {
    let half = MEMORY / 2;
    [0, half].map(|at| RegionSpec { guest: at, size: half, user: USER + at, offset: at })
}

/// A guest's memory, and the file that it is.
pub(crate) fn memory() -> (Arc<GuestMemory>, File) {
    let file = tempfile::tempfile().expect("file");
    file.set_len(MEMORY).expect("length");
    let map = |spec| Arc::new(Region::map(spec, file.try_clone().expect("clone").into()).expect("region"));
    (Arc::new(GuestMemory::new(regions().map(map).into()).expect("memory")), file)
}

/// A driver's side of one ring.
pub(crate) struct Driver {
    pub(crate) memory: Arc<GuestMemory>,
    /// Where its part of the memory begins and ends.
    base: u64,
    end: u64,
    size: u16,
    is_packed: bool,
    features: u64,
    /// Descriptors (split) or buffer ids (packed) that are free.
    free: VecDeque<u16>,
    /// Slots in use, and what each buffer took.
    in_use: u16,
    took: HashMap<u16, Vec<u16>>,
    /// Buffers in use in the order in which they were made available, with their lengths.
    order: VecDeque<(u16, u32)>,
    next: u16,
    wrap: bool,
    seen: u16,
    seen_wrap: bool,
    pub(crate) buffer: u64,
}

impl Driver {
    pub(crate) fn new(size: u16, is_packed: bool, features: u64) -> Self {
        Self::within(memory().0, 0..MEMORY, size, is_packed, features)
    }

    /// A driver that keeps to a part of the memory.
    pub(crate) fn within(
        memory: Arc<GuestMemory>,
        part: std::ops::Range<u64>,
        size: u16,
        is_packed: bool,
        features: u64,
    ) -> Self {
        Driver {
            memory,
            base: part.start,
            end: part.end,
            size,
            is_packed,
            features: features | if is_packed { feature::RING_PACKED } else { 0 },
            free: (0..size).collect(),
            in_use: 0,
            took: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            wrap: true,
            seen: 0,
            seen_wrap: true,
            buffer: part.start + BUFFERS,
        }
    }

    pub(crate) fn addresses(&self) -> RingAddresses {
        let user = USER + self.base;
        RingAddresses {
            descriptors: user + DESCRIPTORS,
            available: user + AVAILABLE,
            used: user + USED,
            log: None,
        }
    }

    /// The device's side.
    pub(crate) fn device(&self) -> Vring {
        let at = self.addresses();
        let features = self.features;
        let ring = if self.is_packed {
            Ring::Packed(Packed::new(&self.memory, self.size, &at, 1 << 15, features, None).expect("ring"))
        } else {
            Ring::Split(Split::new(&self.memory, self.size, &at, 0, features, None).expect("ring"))
        };
        Vring::new(ring, self.memory.clone(), None, None, self.features)
    }

    pub(crate) fn put(&self, addr: u64, bytes: &[u8]) {
        self.memory.write(addr, bytes).expect("write");
    }
    fn u16(&self, addr: u64) -> u16 {
        let mut bytes = [0; 2];
        self.memory.read(addr, &mut bytes).expect("read");
        u16::from_le_bytes(bytes)
    }
    fn u32(&self, addr: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(addr, &mut bytes).expect("read");
        u32::from_le_bytes(bytes)
    }

    /// New memory for a buffer; what was used long ago comes again.
    pub(crate) fn allocate(&mut self, len: u32) -> u64 {
        if self.buffer + u64::from(len) > self.end {
            self.buffer = self.base + BUFFERS;
        }
        let at = self.buffer;
        self.buffer += u64::from(len);
        at
    }

    fn split_descriptor(&self, at: u64, addr: u64, len: u32, flags: u16, next: u16) {
        self.put(at, &addr.to_le_bytes());
        self.put(at + 8, &len.to_le_bytes());
        self.put(at + 12, &flags.to_le_bytes());
        self.put(at + 14, &next.to_le_bytes());
    }
    fn packed_descriptor(&self, at: u64, addr: u64, len: u32, id: u16, flags: u16) {
        self.put(at, &addr.to_le_bytes());
        self.put(at + 8, &len.to_le_bytes());
        self.put(at + 12, &id.to_le_bytes());
        self.put(at + 14, &flags.to_le_bytes());
    }

    /// Makes a buffer of `parts` available; its id, or `None` without room.
    pub(crate) fn add(&mut self, parts: &[(u64, u32)], flags: u16, indirect: bool) -> Option<u16> {
        let needed = if indirect { 1 } else { parts.len() };
        if self.size - self.in_use < needed as u16 {
            return None;
        }
        self.in_use += needed as u16;
        let id = if self.is_packed {
            self.add_packed(parts, flags, indirect)
        } else {
            self.add_split(parts, flags, indirect)
        };
        let is_written = flags & F_WRITE != 0;
        self.order.push_back((id, if is_written { parts.iter().map(|(_, len)| len).sum() } else { 0 }));
        Some(id)
    }

    fn add_split(&mut self, parts: &[(u64, u32)], flags: u16, indirect: bool) -> u16 {
        let count = if indirect { 1 } else { parts.len() };
        let slots: Vec<u16> = self.free.drain(..count).collect();
        let head = slots[0];
        let last = parts.len() - 1;
        let more = |i: usize| if i < last { F_NEXT } else { 0 };
        for (i, (addr, len)) in parts.iter().enumerate() {
            let (table, index, next) = if indirect {
                (self.base + TABLES + u64::from(head) * TABLE, i as u64, i as u16 + 1)
            } else {
                (self.base + DESCRIPTORS, slots[i].into(), slots.get(i + 1).copied().unwrap_or(0))
            };
            self.split_descriptor(table + 16 * index, *addr, *len, flags | more(i), next);
        }
        if indirect {
            let table = self.base + TABLES + u64::from(head) * TABLE;
            let at = self.base + DESCRIPTORS + 16 * u64::from(head);
            self.split_descriptor(at, table, 16 * parts.len() as u32, F_INDIRECT, 0);
        }
        self.put(self.base + AVAILABLE + 4 + 2 * u64::from(self.next % self.size), &head.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.put(self.base + AVAILABLE + 2, &self.next.to_le_bytes());
        self.took.insert(head, slots);
        head
    }

    fn add_packed(&mut self, parts: &[(u64, u32)], flags: u16, indirect: bool) -> u16 {
        let mut id = self.free.pop_front().expect("id");
        if self.in_order() {
            // As drivers have them that use buffers in order.
            id = self.next;
        }
        let table = self.base + TABLES + u64::from(id) * TABLE;
        let ring: Vec<(u64, u32, u16)> = if indirect {
            for (i, (addr, len)) in parts.iter().enumerate() {
                self.packed_descriptor(table + 16 * i as u64, *addr, *len, 0, flags);
            }
            vec![(table, 16 * parts.len() as u32, F_INDIRECT)]
        } else {
            let last = parts.len() - 1;
            let more = |i: usize| if i < last { F_NEXT } else { 0 };
            parts.iter().enumerate().map(|(i, (a, l))| (*a, *l, flags | more(i))).collect()
        };
        for (addr, len, flags) in &ring {
            let lap = if self.wrap { 1 << 7 } else { 1 << 15 };
            self.packed_descriptor(self.base + 16 * u64::from(self.next), *addr, *len, id, flags | lap);
            self.next += 1;
            if self.next == self.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        self.took.insert(id, vec![id; ring.len()]);
        id
    }

    fn in_order(&self) -> bool {
        self.features & feature::IN_ORDER != 0
    }

    /// Buffers that came back, with the bytes written to them.
    pub(crate) fn used(&mut self) -> Vec<(u16, u32)> {
        let mut all = Vec::new();
        while let Some((last, written)) = self.next_used() {
            // One entry may stand for all up to this buffer; those before it are full then.
            loop {
                let (id, len) = self.order.pop_front().expect("a buffer of ours");
                assert!(id == last || self.in_order(), "buffers come back in order");
                self.free_buffer(id);
                all.push((id, if id == last { written } else { len }));
                if id == last {
                    break;
                }
            }
        }
        all
    }

    fn free_buffer(&mut self, id: u16) {
        let slots = self.took.remove(&id).expect("a buffer of ours");
        self.in_use -= slots.len() as u16;
        if self.is_packed {
            self.free.push_back(id);
            self.seen += slots.len() as u16;
            if self.seen >= self.size {
                (self.seen, self.seen_wrap) = (self.seen - self.size, !self.seen_wrap);
            }
        } else {
            self.free.extend(slots);
            self.seen = self.seen.wrapping_add(1);
        }
    }

    fn next_used(&self) -> Option<(u16, u32)> {
        if self.is_packed {
            let at = self.base + 16 * u64::from(self.seen);
            let flags = self.u16(at + 14);
            let laps = [flags & 1 << 7 != 0, flags & 1 << 15 != 0];
            return (laps == [self.seen_wrap; 2]).then(|| (self.u16(at + 12), self.u32(at + 8)));
        }
        let at = self.base + USED + 4 + 8 * u64::from(self.seen % self.size);
        (self.u16(self.base + USED + 2) != self.seen).then(|| (self.u32(at) as u16, self.u32(at + 4)))
    }

    fn header_len(&self) -> usize {
        if self.features & (feature::MRG_RXBUF | feature::VERSION_1) != 0 { 12 } else { 10 }
    }

    /// Sends a frame with its header in pieces of the lengths that `cuts` gives.
    pub(crate) fn send(&mut self, header: [u8; 12], frame: &[u8], cuts: &[u16], indirect: bool) -> bool {
        let bytes = [&header[..self.header_len()], frame].concat();
        let mut rest = &bytes[..];
        let mut parts = Vec::new();
        for cut in cuts {
            let n = usize::from(*cut).min(rest.len());
            parts.push(rest.split_off(..n).expect("piece"));
        }
        parts.push(rest);
        let placed: Vec<(u64, u32)> = parts
            .iter()
            .map(|part| {
                let at = self.allocate(part.len() as u32);
                self.put(at, part);
                (at, part.len() as u32)
            })
            .collect();
        self.add(&placed, 0, indirect).is_some()
    }
}

pub(crate) fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

/// One frame as a driver sends it: length, cuts, whether by an indirect table.
fn sent() -> impl Strategy<Value = (usize, Vec<u16>, bool)> {
    let len = prop_oneof![14..100_usize, 14..3000_usize, Just(9014), Just(65_535)];
    (len, prop::collection::vec(0..1500_u16, 0..5), any::<bool>())
}

fn features() -> impl Strategy<Value = u64> {
    any::<[bool; 4]>().prop_map(|[a, b, c, d]| {
        let bit = |on, feature| if on { feature } else { 0 };
        let events = bit(c, feature::EVENT_IDX) | bit(d, feature::IN_ORDER);
        bit(a, feature::MRG_RXBUF) | bit(b, feature::VERSION_1) | events
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What a driver sends, in whatever pieces, arrives once, in order and whole, and its buffers come back.
    #[test]
    fn frames_from_the_driver(
        packed: bool, bits in 3..8_u32, odd in 0..3_u16, features in features(),
        frames in prop::collection::vec(sent(), 1..60),
    ) {
        let size = (1 << bits) + if packed { odd } else { 0 };
        let mut driver = Driver::new(size, packed, features);
        let mut device = driver.device();
        let mut expected = VecDeque::new();
        let mut lost = RxCount::default();
        for (i, (len, cuts, indirect)) in frames.iter().enumerate() {
            let bytes = frame(*len, i as u8);
            while !driver.send([0; 12], &bytes, cuts, *indirect) {
                let mut batch = Batch::new();
                device.receive(&mut batch, &mut lost).expect("good guest");
                for p in &batch {
                    prop_assert_eq!(Some(p.data().to_vec()), expected.pop_front());
                }
                prop_assert_eq!(driver.used().len(), batch.len());
                prop_assert!(!batch.is_empty());
            }
            expected.push_back(bytes);
        }
        loop {
            let mut batch = Batch::new();
            device.receive(&mut batch, &mut lost).expect("good guest");
            if batch.is_empty() {
                break;
            }
            for p in &batch {
                prop_assert_eq!(Some(p.data().to_vec()), expected.pop_front());
            }
        }
        driver.used();
        prop_assert!(expected.is_empty() && driver.took.is_empty());
        prop_assert_eq!(lost, RxCount::default());
    }

    /// What the device sends arrives in the driver's buffers, in one or, if mergeable, in several.
    #[test]
    fn frames_to_the_driver(
        packed: bool, bits in 3..8_u32, features in features(), indirect: bool,
        room in prop::collection::vec(20..800_u32, 1..4), lens in prop::collection::vec(14..2000_usize, 1..60),
    ) {
        let mut driver = Driver::new(1 << bits, packed, features);
        let mut device = driver.device();
        let is_mergeable = features & feature::MRG_RXBUF != 0;
        let room_len: u32 = room.iter().sum();
        let mut placed: VecDeque<(u16, Vec<(u64, u32)>)> = VecDeque::new();
        let mut waiting: VecDeque<Vec<u8>> =
            lens.iter().enumerate().map(|(i, len)| frame(*len, i as u8)).collect();
        let mut too_big = 0;
        let (mut arrived, mut expected) = (Vec::new(), Vec::new());
        let mut idle = 0;
        while !waiting.is_empty() && idle < 3 {
            loop {
                let parts: Vec<(u64, u32)> = room.iter().map(|n| (driver.allocate(*n), *n)).collect();
                let Some(id) = driver.add(&parts, F_WRITE, indirect) else { break };
                placed.push_back((id, parts));
            }
            let packets: Vec<Packet> = waiting.iter().take(32).map(|f| Packet::from_slice(f)).collect();
            let big_before = too_big;
            let done = device.transmit(&packets, &mut too_big).expect("good guest");
            device.finish();
            idle = if done == 0 { idle + 1 } else { 0 };
            for frame in waiting.drain(..done) {
                if is_mergeable || frame.len() + driver.header_len() <= room_len as usize {
                    expected.push(frame);
                }
            }
            prop_assert!(!is_mergeable || too_big == big_before);
            let mut pending: Vec<u8> = Vec::new();
            let mut left = 0;
            for (id, written) in driver.used() {
                let (placed_id, parts) = placed.pop_front().expect("buffer");
                prop_assert_eq!(placed_id, id, "buffers come back in order");
                let mut bytes = Vec::new();
                for (addr, len) in parts {
                    let mut part = vec![0; len as usize];
                    driver.memory.read(addr, &mut part).expect("read");
                    bytes.extend(part);
                }
                bytes.truncate(written as usize);
                if left == 0 {
                    let header = driver.header_len();
                    left = if is_mergeable { u16::from_le_bytes([bytes[10], bytes[11]]) } else { 1 };
                    pending = bytes.split_off(header);
                } else {
                    pending.extend(bytes);
                }
                left -= 1;
                if left == 0 {
                    arrived.push(std::mem::take(&mut pending));
                }
            }
            prop_assert_eq!(left, 0, "a frame's buffers are shown together");
        }
        // A frame that needs more buffers than the ring has waits for ever; what is before it has arrived.
        prop_assert_eq!(arrived, expected);
    }

    /// What was fetched and put back is fetched again, in both layouts and over the end of the ring.
    #[test]
    fn buffers_that_are_put_back_come_again(packed: bool, steps in prop::collection::vec((1..9_usize, 0..9_usize), 1..30)) {
        let mut driver = Driver::new(8, packed, feature::VERSION_1);
        let mut device = driver.device();
        let mut burst = Burst::default();
        for (max, keep) in steps {
            while driver.send([0; 12], &frame(60, 1), &[20], driver.next.is_multiple_of(3)) {}
            burst.clear();
            prop_assert_eq!(device.ring.fetch(&device.memory, Direction::Read, max, &mut burst), Ok(()));
            let first = burst.heads().to_vec();
            prop_assert!(!first.is_empty() && first.len() <= max);
            let (kept, put_back) = first.split_at(keep.min(first.len()));
            device.ring.unfetch(put_back);
            let mut again = Burst::default();
            prop_assert_eq!(device.ring.fetch(&device.memory, Direction::Read, put_back.len(), &mut again), Ok(()));
            let ids = |heads: &[Head]| heads.iter().map(|h| (h.id, h.slots)).collect::<Vec<_>>();
            prop_assert_eq!(ids(again.heads()), ids(put_back));
            device.ring.unfetch(again.heads());
            kept.iter().for_each(|h| device.ring.give_back(h.id, h.slots, 0));
            device.ring.publish();
            prop_assert_eq!(driver.used().iter().map(|u| u.0).collect::<Vec<_>>(), kept.iter().map(|h| h.id).collect::<Vec<_>>());
        }
    }

    /// A back end that is killed and comes again finds its place, told nothing but where the ring once began.
    #[test]
    fn rings_go_on_after_a_crash(
        packed: bool, in_order: bool, bits in 2..6_u32,
        frames in prop::collection::vec((any::<bool>(), 0..5_u8), 1..80),
    ) {
        let in_order = if in_order { feature::IN_ORDER } else { 0 };
        let mut driver = Driver::new(1 << bits, packed, feature::VERSION_1 | feature::INDIRECT | in_order);
        let mut device = driver.device();
        let (mut expected, mut lost) = (VecDeque::new(), RxCount::default());
        for (i, (in_two, then)) in frames.iter().enumerate() {
            let bytes = frame(60, i as u8);
            let cuts = if *in_two { &[30][..] } else { &[] };
            if driver.send([0; 12], &bytes, cuts, *in_two) {
                expected.push_back(bytes);
            }
            // What went back as one is not to be told from what waits once the ring is full again.
            let is_unclear = packed && in_order != 0 && driver.in_use == driver.size;
            if *then == 0 && !is_unclear {
                device = driver.device();
            } else if *then < 3 {
                let mut batch = Batch::new();
                device.receive(&mut batch, &mut lost).expect("good guest");
                for p in &batch {
                    prop_assert_eq!(Some(p.data().to_vec()), expected.pop_front());
                }
                prop_assert_eq!(driver.used().len(), batch.len());
            }
        }
        let mut batch = Batch::new();
        device.receive(&mut batch, &mut lost).expect("good guest");
        for p in batch.drain(..) {
            prop_assert_eq!(Some(p.data().to_vec()), expected.pop_front());
        }
        driver.used();
        while { driver.device().receive(&mut batch, &mut lost).expect("good guest"); !batch.is_empty() } {
            for p in batch.drain(..) {
                prop_assert_eq!(Some(p.data().to_vec()), expected.pop_front());
            }
            driver.used();
        }
        prop_assert!(expected.is_empty() && driver.took.is_empty());
    }

    /// From one guest to another, frames that stay with the first: what arrives has the head that was seen, buffers go
    /// back when the burst is over, and frames may be copied, put back or forgotten instead.
    #[test]
    fn frames_from_guest_to_guest(
        from_packed: bool, to_packed: bool, mergeable: bool, in_order: bool,
        bursts in prop::collection::vec((prop::collection::vec(14..2600_usize, 1..6), any::<u8>(), 0..8_u8), 1..30),
    ) {
        let in_order = if in_order { feature::IN_ORDER } else { 0 };
        let features = feature::VERSION_1 | in_order | if mergeable { feature::MRG_RXBUF } else { 0 };
        let (mut a, mut b) = (Driver::new(32, from_packed, features), Driver::new(32, to_packed, features));
        let (mut from, mut to) = (a.device(), b.device());
        let in_use = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut frames = Frames::new(in_use.clone());
        let mut lost = RxCount::default();
        for (lens, seed, fate) in &bursts {
            let all: Vec<Vec<u8>> = lens.iter().map(|len| frame(*len, *seed)).collect();
            let at: Vec<u64> = all.iter().map(|bytes| {
                let at = a.buffer;
                assert!(a.send([0; 12], bytes, &[], false));
                at
            }).collect();
            from.receive_frames(&mut frames, &mut lost).expect("good guest");
            let returned = a.used().len();
            prop_assert_eq!(frames.lens(), lens.iter().map(|len| *len as u32).collect::<Vec<_>>());
            let stays = lens.iter().any(|len| *len > HEAD);
            prop_assert_eq!((stays, stays), (in_use.load(std::sync::atomic::Ordering::Relaxed), returned < lens.len()));
            // The guest may do what it likes to what was seen.
            at.iter().for_each(|at| a.put(at + 12, &[0xee; 14]));
            let mut heads: Heads<'_> = [&[]; packet::BATCH_LEN];
            frames.heads(&mut heads);
            for (head, bytes) in heads.iter().zip(&all) {
                prop_assert_eq!((head.len(), &head[..bytes.len().min(HEAD)]), (bytes.len(), &bytes[..bytes.len().min(HEAD)]));
            }
            for (place, bytes) in all.iter().enumerate() {
                if *fate == 0 {
                    continue;
                }
                if *fate < 3 || !frames.are_lent(1 << place) {
                    let packet = frames.take(place).expect("frame");
                    prop_assert_eq!(packet.data(), &bytes[..]);
                    prop_assert!(frames.take(place).is_none());
                    prop_assert!(*fate != 2 || frames.put(place, packet).is_ok());
                    if *fate != 2 || !frames.are_lent(1 << place) {
                        continue;
                    }
                }
                let parts = [(b.allocate(1000), 1000), (b.allocate(1700), 1700)];
                let parts = if fate & 1 != 0 { &[(parts[0].0, 2700)][..] } else { &parts[..] };
                b.add(parts, F_WRITE, false).expect("room");
                prop_assert_eq!(to.transmit_frames(&frames, &[place as u8], &mut 0), Ok(1));
                frames.sent(1 << place);
                let (_, written) = b.used()[0];
                let mut arrived = vec![0; written as usize];
                b.memory.read(parts[0].0, &mut arrived).expect("read");
                prop_assert_eq!(&arrived[12..], &bytes[..]);
            }
            frames.clear();
            prop_assert!(frames.is_empty() && !in_use.load(std::sync::atomic::Ordering::Relaxed));
            from.receive_frames(&mut frames, &mut lost).expect("good guest");
            prop_assert_eq!(returned + a.used().len(), lens.len());
        }
        // The guest is gone; what is left of it is not.
        let bytes = frame(1500, 7);
        prop_assert!(a.send([0; 12], &bytes, &[], false));
        from.receive_frames(&mut frames, &mut lost).expect("good guest");
        from.stop();
        prop_assert_eq!(a.used().len(), 1);
        drop((from, a));
        prop_assert_eq!(frames.take(0).map(|p| p.data().to_vec()), Some(bytes));
        prop_assert_eq!(lost, RxCount::default());
    }

    /// As above, whole bursts or any part of them in one call, to buffers of which some need a closer look.
    #[test]
    fn bursts_from_guest_to_guest(
        from_packed: bool, to_packed: bool, in_order: bool,
        bursts in prop::collection::vec(
            (prop::collection::vec((14..2300_usize, 0..9_u8), 1..32), any::<u8>(), any::<u32>(), any::<bool>()), 1..8),
    ) {
        let in_order = if in_order { feature::IN_ORDER } else { 0 };
        let features = feature::VERSION_1 | feature::MRG_RXBUF | in_order;
        let (mut a, mut b) = (Driver::new(64, from_packed, features), Driver::new(64, to_packed, features));
        let (mut from, mut to) = (a.device(), b.device());
        let (mut frames, mut lost) = (Frames::default(), RxCount::default());
        let mut offered = HashMap::new();
        for (shapes, seed, bits, is_alike) in &bursts {
            // Offloads are asked for by some.
            let all: Vec<(Vec<u8>, u8)> = shapes.iter().enumerate().map(|(i, (len, kind))| {
                let len = if *is_alike { shapes[0].0 } else { *len };
                let mut bytes = frame(len, seed.wrapping_add(i as u8));
                bytes[0] &= if *is_alike { 0xfe } else { 0xff };
                (bytes, if *is_alike { 8 } else { *kind })
            }).collect();
            for (bytes, kind) in &all {
                // `VIRTIO_NET_HDR_F_DATA_VALID`: nothing is left to be done, but somebody has to look.
                let header = if *kind == 0 { [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] } else { [0; 12] };
                let parts: &[u16] = if *kind == 1 { &[13] } else { &[] };
                assert!(a.send(header, bytes, parts, false));
            }
            from.receive_frames(&mut frames, &mut lost).expect("good guest");
            prop_assert_eq!(frames.lens().to_vec(), all.iter().map(|(b, _)| b.len() as u32).collect::<Vec<_>>());
            let is_lent = |at: usize| frames.are_lent(1 << at);
            let is_unicast = all.iter().all(|(b, _)| b[0] & 1 == 0);
            let same = all.iter().all(|(b, _)| b.len() == all[0].0.len()) && (0..all.len()).all(is_lent);
            if frames.alike().is_some() {
                prop_assert!(same && is_unicast);
            }
            prop_assert!(!*is_alike || !is_lent(0) || frames.alike() == Some(all[0].0.len() as u32));
            let chosen: Vec<u8> = (0..all.len()).filter(|at| bits & (1 << at) != 0 && is_lent(*at)).map(|at| at as u8).collect();
            let mut arrived: Vec<Vec<u8>> = Vec::new();
            let mut at = 0;
            while at < chosen.len() {
                offer_buffers(&mut b, &mut offered);
                at += to.transmit_frames(&frames, &chosen[at..], &mut 0).expect("good guest");
                let mut used = b.used().into_iter().map(|(id, written)| take_bytes(&b, &mut offered, id, written));
                while let Some(first) = used.next() {
                    let mut bytes = first[12..].to_vec();
                    (1..u16::from_le_bytes([first[10], first[11]])).for_each(|_| bytes.extend(used.next().expect("buffer")));
                    arrived.push(bytes);
                }
            }
            frames.sent(chosen.iter().map(|at| 1 << at).sum());
            frames.clear();
            let sent: Vec<Vec<u8>> = chosen.iter().map(|at| all[usize::from(*at)].0.clone()).collect();
            prop_assert_eq!(arrived, sent);
            from.receive_frames(&mut frames, &mut lost).expect("good guest");
            prop_assert_eq!(a.used().len(), all.len());
        }
        prop_assert_eq!(lost, RxCount::default());
    }

    /// A call is due when the driver's event lies among what was given back since the last question.
    #[test]
    fn calls_come_when_they_are_asked_for(packed: bool, event in 0..40_u16, steps in prop::collection::vec(1..7_u16, 1..12)) {
        const SIZE: u16 = 16;
        let mut driver = Driver::new(SIZE, packed, feature::EVENT_IDX | feature::VERSION_1);
        let mut device = driver.device();
        let event_of = |n: u16| if packed { (n % SIZE) | (u16::from((n / SIZE).is_multiple_of(2)) << 15) } else { n };
        if packed {
            driver.put(AVAILABLE, &event_of(event).to_le_bytes());
            driver.put(AVAILABLE + 2, &2_u16.to_le_bytes());
        } else {
            driver.put(AVAILABLE + 4 + 2 * u64::from(SIZE), &event.to_le_bytes());
        }
        let mut total = 0_u16;
        let mut burst = Burst::default();
        for step in steps {
            for _ in 0..step {
                prop_assert!(driver.send([0; 12], &frame(60, 1), &[], true));
                burst.clear();
                prop_assert_eq!(device.ring.fetch(&device.memory, Direction::Read, 32, &mut burst), Ok(()));
                prop_assert_eq!(burst.heads().len(), 1);
                device.ring.give_back(burst.heads()[0].id, burst.heads()[0].slots, 0);
            }
            device.ring.publish();
            prop_assert_eq!(driver.used().len(), usize::from(step));
            let now = total..total + step;
            // A packed ring's place comes again after two laps.
            let is_due = now.clone().any(|n| if packed { n % (2 * SIZE) == event % (2 * SIZE) } else { n == event });
            prop_assert_eq!(device.ring.wants_call(), is_due, "{:?}", now);
            prop_assert!(!device.ring.wants_call(), "nothing new");
            total += step;
        }
    }
}

/// Makes as many buffers available as there is room for: some of two parts, some too short for most frames.
fn offer_buffers(driver: &mut Driver, offered: &mut HashMap<u16, Vec<(u64, u32)>>) {
    for i in 0.. {
        let lens: &[u32] = match i % 7 {
            3 => &[1000, 1500],
            5 => &[200],
            _ => &[2400],
        };
        let parts: Vec<(u64, u32)> = lens.iter().map(|len| (driver.allocate(*len), *len)).collect();
        let Some(id) = driver.add(&parts, F_WRITE, false) else { return };
        offered.insert(id, parts);
    }
}

/// What was written to a buffer.
fn take_bytes(
    driver: &Driver,
    offered: &mut HashMap<u16, Vec<(u64, u32)>>,
    id: u16,
    written: u32,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (addr, len) in offered.remove(&id).expect("an offered buffer") {
        let mut part = vec![0; len.min(written - bytes.len() as u32) as usize];
        driver.memory.read(addr, &mut part).expect("read");
        bytes.extend(part);
    }
    bytes
}

fn device_says(driver: &Driver) -> Result<(), Violation> {
    let mut batch = Batch::new();
    driver.device().receive(&mut batch, &mut RxCount::default())
}

/// Buffers that were read go back as one: the first one's entry has the last one's id. Of the others none is written, but
/// the last one in a packed ring.
#[test]
fn what_is_read_in_order_goes_back_as_one() {
    for packed in [false, true] {
        let mut driver = Driver::new(8, packed, feature::VERSION_1 | feature::IN_ORDER);
        let mut device = driver.device();
        for round in 0..20_u16 {
            (0..5).for_each(|_| assert!(driver.send([0; 12], &frame(60, 0), &[], false)));
            let first = (5 * round) % 8;
            let slot = |i: u16| {
                let slot = u64::from((first + i) % 8);
                if packed { 16 * slot + 8 } else { USED + 4 + 8 * slot }
            };
            if !packed {
                (0..5).for_each(|i| driver.put(slot(i), &[0xee; 8]));
            }
            let entries =
                |driver: &Driver| [0, 1, 2, 3, 4].map(|i| [driver.u32(slot(i)), driver.u32(slot(i) + 4)]);
            let before = entries(&driver);
            device.receive(&mut Batch::new(), &mut RxCount::default()).expect("good guest");
            let after = entries(&driver);
            assert_eq!(before[1..4], after[1..4], "packed: {packed}");
            assert_eq!(packed, before[4] != after[4]);
            let last = u32::from((first + 4) % 8);
            assert_eq!(if packed { after[0][1] & 0xffff } else { after[0][0] }, last, "packed: {packed}");
            assert_eq!(driver.used().len(), 5);
        }
        // What is written has an entry each, whatever its length.
        let at = driver.allocate(200);
        (0..3).for_each(|_| assert!(driver.add(&[(at, 200)], F_WRITE, false).is_some()));
        let packets = [60, 70, 188].map(|len| Packet::from_slice(&frame(len, 0)));
        assert_eq!(device.transmit(&packets, &mut 0), Ok(3));
        assert_eq!(driver.used().iter().map(|(_, len)| *len).collect::<Vec<_>>(), [72, 82, 200]);
    }
}

#[test]
fn violations_of_split_rings() {
    let new = || Driver::new(8, false, 0);
    let mut d = new();
    d.put(AVAILABLE + 2, &9_u16.to_le_bytes());
    assert_eq!(device_says(&d), Err(Violation::Index));
    d = new();
    assert!(d.send([0; 12], &frame(60, 0), &[], false));
    d.put(AVAILABLE + 4, &8_u16.to_le_bytes());
    assert_eq!(device_says(&d), Err(Violation::DescriptorIndex));
    d = new();
    d.add(&[(BUFFERS, 100)], F_NEXT, false);
    d.split_descriptor(0, BUFFERS, 100, F_NEXT, 0);
    assert_eq!(device_says(&d), Err(Violation::ChainLength), "a chain in a ring");
    d = new();
    d.add(&[(BUFFERS, 100)], F_WRITE, false);
    assert_eq!(device_says(&d), Err(Violation::Direction));
    for (addr, len) in [(MEMORY, 100), (MEMORY - 50, 100), (u64::MAX - 5, 100)] {
        d = new();
        d.add(&[(addr, len)], 0, false);
        assert_eq!(device_says(&d), Err(Violation::Address), "{addr:#x}");
    }
    d = new();
    d.add(&[(BUFFERS, 100), (BUFFERS, 100)], 0, true);
    d.split_descriptor(TABLES, BUFFERS, 100, F_INDIRECT, 0);
    assert_eq!(device_says(&d), Err(Violation::Indirect), "a table in a table");
    for (len, violation) in
        [(0, Violation::Indirect), (17, Violation::Indirect), (1 << 20, Violation::ChainLength)]
    {
        d = new();
        d.add(&[(BUFFERS, 100)], 0, true);
        d.split_descriptor(0, TABLES, len, F_INDIRECT, 0);
        assert_eq!(device_says(&d), Err(violation), "a table of {len} bytes");
    }
}

#[test]
fn violations_of_packed_rings() {
    let new = || Driver::new(8, true, feature::VERSION_1);
    let mut d = new();
    for _ in 0..8 {
        d.add(&[(BUFFERS, 10)], F_NEXT, false);
    }
    assert_eq!(device_says(&d), Err(Violation::ChainLength));
    d = new();
    d.add(&[(BUFFERS, 100)], F_WRITE, false);
    assert_eq!(device_says(&d), Err(Violation::Direction));
    d = new();
    d.add(&[(MEMORY - 1, 100)], 0, false);
    assert_eq!(device_says(&d), Err(Violation::Address));
    d = new();
    d.add(&[(BUFFERS, 100), (TABLES, 16)], F_INDIRECT, false);
    assert_eq!(device_says(&d), Err(Violation::Indirect));
}

/// As DPDK's driver has them: its tables are made once, and marked as if they were to be written.
#[test]
fn tables_of_packed_rings_may_be_marked_as_to_be_written() {
    let mut d = Driver::new(8, true, feature::VERSION_1);
    let bytes = frame(60, 1);
    assert!(d.send([0; 12], &bytes, &[12], true));
    d.put(TABLES + 14, &F_WRITE.to_le_bytes());
    let mut batch = Batch::new();
    d.device().receive(&mut batch, &mut RxCount::default()).expect("no violation");
    assert_eq!(batch.first().map(Packet::data), Some(&bytes[..]));
}

#[test]
fn frames_too_short_or_too_long_are_counted_and_given_back() {
    let mut d = Driver::new(8, false, 0);
    let mut device = d.device();
    assert!(d.send([0; 12], &frame(13, 0), &[], false));
    d.add(&[(BUFFERS, 70_000)], 0, false);
    d.add(&[(BUFFERS, 5)], 0, false);
    assert!(d.send([0; 12], &frame(14, 0), &[], false));
    let (mut batch, mut lost) = (Batch::new(), RxCount::default());
    device.receive(&mut batch, &mut lost).expect("no violation");
    assert_eq!((batch.len(), lost), (1, RxCount { too_big: 1, malformed: 2, called: false }));
    assert_eq!(d.used().len(), 4);
}

#[test]
fn what_waits_in_a_ring_is_counted() {
    for packed in [false, true] {
        let mut driver = Driver::new(8, packed, 0);
        let mut device = driver.device();
        let mut batch = Batch::new();
        for _ in 0..3 {
            assert_eq!(device.ring.waiting(), 0);
            (0..5).for_each(|_| assert!(driver.send([0; 12], &frame(60, 0), &[], false)));
            assert_eq!(device.ring.waiting(), 5, "packed: {packed}");
            device.receive(&mut batch, &mut RxCount::default()).expect("no violation");
            driver.used();
        }
        driver.put(AVAILABLE + 2, &1000_u16.to_le_bytes());
        assert!(packed || device.ring.waiting() == 0);
    }
}

#[test]
fn offloads_go_both_ways() {
    let guest = feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::MRG_RXBUF | feature::VERSION_1;
    let mut d = Driver::new(8, false, guest);
    let mut device = d.device();
    let mut p = Packet::from_slice(&frame(2000, 3));
    p.data_mut()[34 + 12] = 0x50;
    p.offload = Offload {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        gso: Some(Gso { kind: GsoKind::Tcp4, size: 500, ecn: false }),
    };
    assert!(device.takes(&p.offload));
    let ecn = Offload { gso: Some(Gso { kind: GsoKind::Tcp4, size: 500, ecn: true }), ..p.offload };
    assert!(!device.takes(&ecn));
    d.add(&[(BUFFERS, 3000)], F_WRITE, false);
    assert_eq!(device.transmit(&[p.clone()], &mut 0), Ok(1));
    let (_, written) = d.used()[0];
    let mut bytes = vec![0; written as usize];
    d.memory.read(BUFFERS, &mut bytes).expect("read");
    let (header, body) = bytes.split_at(12);
    assert_eq!(body, p.data());
    // The same header back through another ring gives the same packet.
    let mut other = Driver::new(8, false, guest);
    let mut back = other.device();
    assert!(other.send(*header.first_chunk().expect("header"), body, &[], false));
    let mut batch = Batch::new();
    back.receive(&mut batch, &mut RxCount::default()).expect("good");
    assert_eq!((batch[0].offload, batch[0].data()), (p.offload, p.data()));
}

#[test]
fn buffers_of_no_length_do_not_keep_the_device() {
    for packed in [false, true] {
        let mut driver = Driver::new(64, packed, feature::MRG_RXBUF | feature::VERSION_1);
        let mut device = driver.device();
        let at = driver.allocate(16);
        let parts = vec![(at, 0); 100];
        while driver.add(&parts, F_WRITE, true).is_some() {}
        let result = device.transmit(&[Packet::from_slice(&frame(60, 0))], &mut 0);
        assert_eq!(result, Err(Violation::ChainLength), "packed: {packed}");
    }
}
