//! Packed virtqueues: one ring of descriptors that both sides write (VIRTIO 1.2, 2.8).

use super::*;
use crate::mem::{Area, LINE, plains::Plains};
use crate::protocol::{RingAddresses, feature};
use std::sync::atomic::{AtomicU64, Ordering, fence};

const F_AVAILABLE: u16 = 1 << 7;
const F_USED: u16 = 1 << 15;
const EVENTS_ENABLE: u16 = 0;
const EVENTS_DISABLE: u16 = 1;
const EVENTS_AT: u16 = 2;
const WRAP: u16 = 1 << 15;

/// A slot, and whether this is an odd lap around the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    slot: u16,
    wrap: bool,
}

impl Place {
    fn from_bits(bits: u16) -> Self {
        Place { slot: bits & !WRAP, wrap: bits & WRAP != 0 }
    }
    fn bits(self) -> u16 {
        self.slot | if self.wrap { WRAP } else { 0 }
    }
    #[inline]
    fn advance(&mut self, by: u16, size: u16) {
        // Both are at most 32,768, so the sum needs more than 16 bits.
        let slot = u32::from(self.slot) + u32::from(by);
        if slot >= u32::from(size) {
            self.wrap = !self.wrap;
        }
        // A chain is no longer than the ring.
        self.slot = (if slot >= u32::from(size) { slot - u32::from(size) } else { slot }) as u16;
    }
    /// Whether flags of this lap say that a buffer is there.
    #[inline]
    fn is_available(self, flags: u16) -> bool {
        (flags & F_AVAILABLE != 0) == self.wrap && (flags & F_USED != 0) != self.wrap
    }
    #[inline]
    fn retreat(&mut self, by: u32, size: u16) {
        if by > u32::from(self.slot) {
            self.wrap = !self.wrap;
            self.slot = (u32::from(self.slot) + u32::from(size) - by) as u16;
        } else {
            self.slot -= by as u16;
        }
    }
}

/// A buffer given back and not yet shown, or several in a row that were only read: from the first one's place to the
/// last one's, with the id of the last one.
#[derive(Clone, Copy)]
struct Used {
    place: Place,
    last: Place,
    id: u16,
    written: u32,
}

pub struct Packed {
    ring: Area,
    driver_events: Area,
    device_events: Area,
    size: u16,
    next: Place,
    used: Place,
    waiting: Vec<Used>,
    /// `used` when the driver was last asked whether it wants a call.
    asked: Place,
    in_order: bool,
    log: RingLog,
}

impl Packed {
    /// A ring of `size` descriptors at the front end's addresses; `base` as [`Packed::base`] gives it, or where a
    /// back end before us began that did not get to saying where it ended. `features` are those negotiated.
    pub fn new(
        memory: &Arc<GuestMemory>,
        size: u16,
        at: &RingAddresses,
        base: u32,
        features: u64,
        log: RingLog,
    ) -> Result<Self, OutOfRange> {
        let in_order = features & feature::IN_ORDER != 0;
        let mut place = Place::from_bits(base as u16);
        if size == 0 || u32::from(size) > SIZE_MAX || place.slot >= size {
            return Err(OutOfRange);
        }
        let ring = memory.area(at.descriptors, DESCRIPTOR * usize::from(size), 8)?;
        if let Some(found) = find_place(&ring, size, place, features) {
            tracing::info!(target: "netdev_vhost",
                "ring starts at {}, where its last user left it, not at {}", found.slot, place.slot);
            place = found;
        }
        Ok(Packed {
            ring,
            driver_events: memory.area(at.available, 4, 2)?,
            device_events: memory.area(at.used, 4, 2)?,
            size,
            next: place,
            used: place,
            waiting: Vec::new(),
            asked: place,
            in_order,
            log,
        })
    }

    /// Copies the descriptor at `place`: the word with its flags first, which the driver writes last.
    #[inline]
    fn descriptor(&self, place: Place) -> Descriptor {
        let at = usize::from(place.slot) * DESCRIPTOR;
        let rest = self.ring.load_u64(at + 8, Ordering::Acquire);
        Descriptor::packed(self.ring.load_u64(at, Ordering::Relaxed), rest)
    }

    #[inline]
    pub fn fetch(
        &mut self,
        memory: &GuestMemory,
        direction: Direction,
        max: usize,
        burst: &mut Burst,
    ) -> Result<(), Violation> {
        let (first, had) = (self.next, burst.heads().len());
        for _ in 0..max {
            let d = self.descriptor(self.next);
            if !self.next.is_available(d.flags) || burst.is_full() {
                break;
            }
            let (id, slots) = match d.flags & (F_INDIRECT | F_NEXT) {
                0 => {
                    burst.push(d, direction)?;
                    (d.id, 1)
                }
                F_NEXT => self.follow(d, direction, burst)?,
                _ => {
                    burst.push_table(memory, d, Descriptor::packed, false, direction)?;
                    (d.id, 1)
                }
            };
            burst.close(id, slots);
            self.next.advance(slots, self.size);
        }
        self.prefetch(first, burst.heads().len() - had);
        Ok(())
    }

    /// As [`super::split::Split::fetch_plain`].
    #[inline]
    pub fn fetch_plain(&mut self, plains: &mut Plains) -> bool {
        let (first, max) = (self.next, plains.room());
        let ring = self.ring.u64_pairs(0, self.size.into());
        let wanted = if plains.are_written() { F_WRITE } else { 0 };
        let mut place = first;
        let mut is_more = false;
        let mut taken = 0;
        while taken < max {
            let Some([addr, rest]) = ring.get(usize::from(place.slot)) else { break };
            // The word with the flags first, which the driver writes last.
            let rest = rest.load(Ordering::Acquire);
            let d = Descriptor::packed(addr.load(Ordering::Relaxed), rest);
            if !place.is_available(d.flags) {
                break;
            }
            if d.flags & (F_NEXT | F_INDIRECT | F_WRITE) != wanted || !plains.push(d.addr, d.len, d.id) {
                is_more = true;
                break;
            }
            place.advance(1, self.size);
            taken += 1;
        }
        self.next = place;
        // Of what is only read and goes back as one, two are written.
        if !self.in_order || plains.are_written() {
            self.prefetch(first, taken);
        }
        is_more
    }

    /// Asks for the lines of so many slots, which are ours until we have written them.
    #[inline]
    fn prefetch(&self, first: Place, n: usize) {
        for line in 0..n.div_ceil(LINE / DESCRIPTOR) {
            self.ring.prefetch_to_write(usize::from(first.slot) * DESCRIPTOR + line * LINE);
        }
    }

    /// A chain of more than one descriptor; its id and its slots.
    fn follow(
        &self,
        mut d: Descriptor,
        direction: Direction,
        burst: &mut Burst,
    ) -> Result<(u16, u16), Violation> {
        let mut place = self.next;
        for slots in 1..=self.size {
            if d.flags & F_INDIRECT != 0 {
                return Err(Violation::Indirect);
            }
            burst.push(d, direction)?;
            if d.flags & F_NEXT == 0 {
                return Ok((d.id, slots));
            }
            place.advance(1, self.size);
            d = self.descriptor(place);
        }
        Err(Violation::ChainLength)
    }

    /// Goes back by so many slots that were fetched last.
    #[inline]
    pub fn retreat(&mut self, slots: u32) {
        self.next.retreat(slots, self.size);
    }

    #[inline]
    pub fn give_back(&mut self, id: u16, slots: u16, written: u32) {
        let place = self.used;
        self.used.advance(slots, self.size);
        if self.in_order && written == 0 {
            self.lengthen(place, place, id);
        } else {
            self.waiting.push(Used { place, last: place, id, written });
        }
    }

    /// Adds buffers that were only read, from `place` to `last`, which has this id, to those that go back as one.
    #[inline]
    fn lengthen(&mut self, place: Place, last: Place, id: u16) {
        match self.waiting.last_mut().filter(|run| run.written == 0) {
            Some(run) => (run.last, run.id) = (last, id),
            None => self.waiting.push(Used { place, last, id, written: 0 }),
        }
    }

    /// As [`super::split::Split::give_back_read`].
    #[inline]
    pub fn give_back_read(&mut self, mut ids: impl ExactSizeIterator<Item = u16> + DoubleEndedIterator) {
        if !self.in_order {
            return self.give_back_all(ids.map(|id| (id, 0)));
        }
        // No more than a ring has are given back between two looks at it.
        let n = ids.len().min(self.size.into()) as u16;
        let Some(id) = ids.next_back() else { return };
        let (place, mut last) = (self.used, self.used);
        last.advance(n - 1, self.size);
        self.used.advance(n, self.size);
        self.lengthen(place, last, id);
    }

    /// As [`Packed::give_back`], buffers of one slot by their ids, with what was written to each.
    #[inline]
    pub fn give_back_all(&mut self, all: impl Iterator<Item = (u16, u32)>) {
        let (mut place, size) = (self.used, self.size);
        self.waiting.extend(all.map(|(id, written)| {
            let used = Used { place, last: place, id, written };
            place.advance(1, size);
            used
        }));
        self.used = place;
    }

    /// Writes all entries, the first one last: that is where the driver looks.
    ///
    /// Of buffers that go back as one only the first is looked at by the driver, who skips the others (2.8.9). The last
    /// one is marked all the same: for a back end after us, by that time the first may be available again.
    #[inline]
    pub fn publish(&mut self) {
        let ring = self.ring.u64_pairs(0, self.size.into());
        for u in self.waiting.iter().rev() {
            if u.last != u.place {
                self.write(ring, u.last, u.id, 0);
            }
            self.write(ring, u.place, u.id, u.written);
        }
        self.waiting.clear();
    }

    #[inline]
    fn write(&self, ring: &[[AtomicU64; 2]], place: Place, id: u16, written: u32) {
        let lap = if place.wrap { F_AVAILABLE | F_USED } else { 0 };
        // The driver looks at this flag of receive buffers only.
        let flags = lap | if written != 0 { F_WRITE } else { 0 };
        let word = u64::from(written) | u64::from(id) << 32 | u64::from(flags) << 48;
        if let Some([_, rest]) = ring.get(usize::from(place.slot)) {
            rest.store(word, Ordering::Release);
        }
        if let Some((log, ring)) = &self.log {
            let at = u64::from(place.slot) * DESCRIPTOR as u64;
            log.mark(ring.wrapping_add(at), DESCRIPTOR as u64);
        }
    }

    #[inline]
    pub fn wants_call(&mut self) -> bool {
        let (old, new) = (self.asked, self.used);
        if old == new {
            return false;
        }
        self.asked = new;
        // As with a split ring: we have moved, now we look whether calls are enabled.
        fence(Ordering::SeqCst);
        match self.driver_events.load_u16(2, Ordering::Acquire) & 3 {
            EVENTS_DISABLE => false,
            EVENTS_AT => {
                let event = Place::from_bits(self.driver_events.load_u16(0, Ordering::Relaxed));
                // Distances from the lap that `new` is in.
                let lap =
                    |p: Place| i32::from(p.slot) - if p.wrap == new.wrap { 0 } else { i32::from(self.size) };
                let (old, event) = (lap(old), lap(event));
                old <= event && event < i32::from(new.slot)
            }
            _ => true,
        }
    }

    /// Where to go on taking and giving back, each with its lap in the top bit.
    pub fn base(&self) -> u32 {
        u32::from(self.next.bits()) | u32::from(self.used.bits()) << 16
    }

    #[inline]
    pub fn returned(&self) -> u32 {
        self.used.bits().into()
    }

    pub fn set_kicks(&self, wanted: bool) {
        let flags = if wanted { EVENTS_ENABLE } else { EVENTS_DISABLE };
        self.device_events.store_u16(2, flags, Ordering::Release);
    }

    /// Available descriptors that were not fetched.
    pub fn waiting(&self) -> usize {
        let mut place = self.next;
        let is_available = |_: &u16| {
            let is = place.is_available(self.descriptor(place).flags);
            place.advance(1, self.size);
            is
        };
        (0..self.size).take_while(is_available).count()
    }

    pub fn size(&self) -> u16 {
        self.size
    }
    pub fn numa_node(&self) -> Option<u32> {
        self.ring.numa_node()
    }
}

/// Where a ring is that its last user left without a word, if that is not at `base`.
///
/// The flag "available" of a slot says in which lap the driver wrote it, which the device does not change: where it
/// changes is where the driver goes on. Behind that lie the buffers that were not given back, all of them, as
/// buffers go back in order.
fn find_place(ring: &Area, size: u16, base: Place, features: u64) -> Option<Place> {
    // Not every slot is marked when it goes back if there are chains, or buffers that go back as one.
    let has_gaps = features & (feature::INDIRECT | feature::IN_ORDER) != feature::INDIRECT;
    let word = |slot: u16| ring.load_u64(usize::from(slot) * DESCRIPTOR + 8, Ordering::Acquire);
    let flags = |slot: u16| (word(slot) >> 48) as u16;
    let lap = |slot: u16| flags(slot) & F_AVAILABLE != 0;
    let is_waiting = |slot: u16| lap(slot) != (flags(slot) & F_USED != 0);
    let first = lap(0);
    let driver = match (1..size).find(|slot| lap(*slot) != first) {
        Some(slot) if (slot..size).all(|slot| lap(slot) != first) => Place { slot, wrap: first },
        Some(_) => return None,
        None => Place { slot: 0, wrap: !first },
    };
    let mut place = driver;
    let mut waiting = 0;
    while waiting < size {
        let mut before = place;
        before.retreat(1, size);
        if !is_waiting(before.slot) {
            break;
        }
        place = before;
        waiting += 1;
    }
    if place == base {
        return None;
    }
    let ahead = i32::from(driver.slot) - i32::from(base.slot);
    let ahead = if base.wrap == driver.wrap { ahead } else { ahead + i32::from(size) };
    let before = |mut place: Place| {
        place.retreat(1, size);
        place.slot
    };
    let id = |slot: u16| (word(slot) >> 32) as u16;
    let last = before(place);
    // A slot without an address was never used.
    let was_used = ring.load_u64(usize::from(last) * DESCRIPTOR, Ordering::Relaxed) != 0;
    // Slots in front of `base` may be some that went back and were not marked: the last of them has the id that the one
    // that was marked got. If the driver has written to that since, there is no telling.
    let may_be_at_base = waiting == size || !was_used || id(before(base)) == id(last);
    if has_gaps && (0..=i32::from(waiting)).contains(&ahead) && may_be_at_base {
        return None;
    }
    // Only the first slot of a chain is marked as used; those behind it have its id.
    while has_gaps && was_used && (1..size).contains(&waiting) && id(place.slot) == id(last) {
        place.advance(1, size);
        waiting -= 1;
    }
    Some(place)
}
