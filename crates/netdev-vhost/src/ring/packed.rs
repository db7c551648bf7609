//! Packed virtqueues: one ring of descriptors that both sides write (VIRTIO 1.2, 2.8).

use super::*;
use crate::mem::Area;
use crate::protocol::RingAddresses;
use std::sync::atomic::{Ordering, fence};

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
        self.slot = (slot % u32::from(size)) as u16;
    }
}

/// A buffer given back and not yet shown.
#[derive(Clone, Copy)]
struct Used {
    place: Place,
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
    log: RingLog,
}

impl Packed {
    /// A ring of `size` descriptors at the front end's addresses; `base` as [`Packed::base`] gives it.
    pub fn new(
        memory: &Arc<GuestMemory>,
        size: u16,
        at: &RingAddresses,
        base: u32,
        log: RingLog,
    ) -> Result<Self, OutOfRange> {
        let place = Place::from_bits(base as u16);
        if size == 0 || u32::from(size) > SIZE_MAX || place.slot >= size {
            return Err(OutOfRange);
        }
        Ok(Packed {
            ring: memory.area(at.descriptors, DESCRIPTOR * usize::from(size), 8)?,
            driver_events: memory.area(at.available, 4, 2)?,
            device_events: memory.area(at.used, 4, 2)?,
            size,
            next: place,
            used: place,
            waiting: Vec::new(),
            asked: place,
            log,
        })
    }

    /// Copies the descriptor at `place`.
    #[inline]
    fn descriptor(&self, place: Place) -> Descriptor {
        let at = usize::from(place.slot) * DESCRIPTOR;
        Descriptor::packed(self.ring.load_u64(at), self.ring.load_u64(at + 8))
    }

    #[inline]
    pub fn fetch(
        &mut self,
        memory: &GuestMemory,
        direction: Direction,
        chain: &mut Chain,
    ) -> Result<bool, Violation> {
        let flags = self.ring.load_u16(usize::from(self.next.slot) * DESCRIPTOR + 14, Ordering::Acquire);
        let (available, used) = (flags & F_AVAILABLE != 0, flags & F_USED != 0);
        if available != self.next.wrap || used == self.next.wrap {
            return Ok(false);
        }
        let mut place = self.next;
        let mut d = self.descriptor(place);
        if d.flags & F_INDIRECT != 0 {
            if d.flags & F_NEXT != 0 {
                return Err(Violation::Indirect);
            }
            let table = Segment { addr: d.addr, len: d.len };
            for i in 0..table_len(d)? {
                chain.push(table_entry(memory, table, i, Descriptor::packed)?, direction)?;
            }
            chain.slots = 1;
        } else {
            loop {
                chain.push(d, direction)?;
                chain.slots += 1;
                if d.flags & F_NEXT == 0 {
                    break;
                }
                if chain.slots >= self.size {
                    return Err(Violation::ChainLength);
                }
                place.advance(1, self.size);
                d = self.descriptor(place);
                if d.flags & F_INDIRECT != 0 {
                    return Err(Violation::Indirect);
                }
            }
        }
        chain.id = d.id;
        self.next.advance(chain.slots, self.size);
        Ok(true)
    }

    pub fn mark(&self) -> u32 {
        self.next.bits().into()
    }
    pub fn rewind(&mut self, mark: u32) {
        self.next = Place::from_bits(mark as u16);
    }

    #[inline]
    pub fn give_back(&mut self, id: u16, slots: u16, written: u32) {
        self.waiting.push(Used { place: self.used, id, written });
        self.used.advance(slots, self.size);
    }

    /// Writes all entries, and their flags from the last to the first: the driver looks at the first one.
    #[inline]
    pub fn publish(&mut self) {
        for u in &self.waiting {
            let at = usize::from(u.place.slot) * DESCRIPTOR;
            self.ring.store_u16(at + 12, u.id, Ordering::Relaxed);
            self.ring.store_u16(at + 8, u.written as u16, Ordering::Relaxed);
            self.ring.store_u16(at + 10, (u.written >> 16) as u16, Ordering::Relaxed);
        }
        for u in self.waiting.iter().rev() {
            let at = usize::from(u.place.slot) * DESCRIPTOR;
            let lap = if u.place.wrap { F_AVAILABLE | F_USED } else { 0 };
            // The driver looks at this flag of receive buffers only.
            let write = if u.written != 0 { F_WRITE } else { 0 };
            self.ring.store_u16(at + 14, lap | write, Ordering::Release);
            if let Some((log, ring)) = &self.log {
                log.mark(ring.wrapping_add(at as u64), DESCRIPTOR as u64);
            }
        }
        self.waiting.clear();
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

    pub fn set_kicks(&self, wanted: bool) {
        let flags = if wanted { EVENTS_ENABLE } else { EVENTS_DISABLE };
        self.device_events.store_u16(2, flags, Ordering::Release);
    }

    pub fn size(&self) -> u16 {
        self.size
    }
    pub fn numa_node(&self) -> Option<u32> {
        self.ring.numa_node()
    }
}
