//! Split virtqueues: descriptor table, available ring, used ring (VIRTIO 1.2, 2.7).

use super::*;
use crate::mem::{Area, plains::Plains};
use crate::protocol::{RingAddresses, feature};
use std::sync::atomic::{Ordering, fence};

const NO_NOTIFY: u16 = 1;
const NO_INTERRUPT: u16 = 1;

pub struct Split {
    descriptors: Area,
    available: Area,
    used: Area,
    size: u16,
    /// The next entry of the available ring to take.
    next: u16,
    /// The driver's index as last read.
    seen: u16,
    /// The next entry of the used ring to write, and what the driver was shown.
    filled: u16,
    published: u16,
    /// `published` when the driver was last asked whether it wants a call.
    asked: u16,
    event_idx: bool,
    in_order: bool,
    /// Of buffers that were only read and have no entry yet: where the first one's would be, and the last one's id.
    run: Option<(u16, u16)>,
    log: RingLog,
}

impl Split {
    /// A ring of `size` entries, a power of two, at the front end's addresses; `features` are those negotiated.
    pub fn new(
        memory: &Arc<GuestMemory>,
        size: u16,
        at: &RingAddresses,
        base: u32,
        features: u64,
        log: RingLog,
    ) -> Result<Self, OutOfRange> {
        if !size.is_power_of_two() || u32::from(size) > SIZE_MAX {
            return Err(OutOfRange);
        }
        let n = usize::from(size);
        let used = memory.area(at.used, 6 + 8 * n, 4)?;
        let used_index = used.load_u16(2, Ordering::Acquire);
        if used_index != base as u16 {
            tracing::info!(target: "netdev_vhost",
                "ring starts at {used_index}, where its last user left it, not at {base}");
        }
        Ok(Split {
            descriptors: memory.area(at.descriptors, DESCRIPTOR * n, 8)?,
            available: memory.area(at.available, 6 + 2 * n, 2)?,
            used,
            size,
            next: used_index,
            seen: used_index,
            filled: used_index,
            published: used_index,
            asked: used_index,
            event_idx: features & feature::EVENT_IDX != 0,
            in_order: features & feature::IN_ORDER != 0,
            run: None,
            log,
        })
    }

    /// Offset of entry `index` in a ring of `entry` bytes each.
    #[inline]
    fn slot(&self, index: u16, entry: usize) -> usize {
        4 + usize::from(index & (self.size - 1)) * entry
    }

    #[inline]
    pub fn fetch(
        &mut self,
        memory: &GuestMemory,
        direction: Direction,
        max: usize,
        burst: &mut Burst,
    ) -> Result<(), Violation> {
        if usize::from(self.seen.wrapping_sub(self.next)) < max {
            self.seen = self.available.load_u16(2, Ordering::Acquire);
            if self.seen.wrapping_sub(self.next) > self.size {
                self.seen = self.next;
                return Err(Violation::Index);
            }
        }
        let ready = usize::from(self.seen.wrapping_sub(self.next)).min(max);
        for _ in 0..ready {
            if burst.is_full() {
                break;
            }
            let head = self.available.load_u16(self.slot(self.next, 2), Ordering::Relaxed);
            let d = self.descriptor(head)?;
            match d.flags & (F_INDIRECT | F_NEXT) {
                0 => burst.push(d, direction)?,
                F_NEXT => self.follow(d, direction, burst)?,
                _ => burst.push_table(memory, d, Descriptor::split, true, direction)?,
            }
            burst.close(head, 1);
            self.next = self.next.wrapping_add(1);
        }
        Ok(())
    }

    /// Takes buffers of one descriptor each, as long as there is room in `plains` and the next one is such; whether there
    /// is another one.
    #[inline]
    pub fn fetch_plain(&mut self, plains: &mut Plains) -> bool {
        let max = plains.room();
        if usize::from(self.seen.wrapping_sub(self.next)) < max {
            self.seen = self.available.load_u16(2, Ordering::Acquire);
            if self.seen.wrapping_sub(self.next) > self.size {
                // For `fetch` to find.
                self.seen = self.next;
                return true;
            }
        }
        let ready = usize::from(self.seen.wrapping_sub(self.next)).min(max);
        let n = usize::from(self.size);
        let (available, descriptors) = (self.available.u16s(4, n), self.descriptors.u64_pairs(0, n));
        let wanted = if plains.are_written() { F_WRITE } else { 0 };
        let mut next = self.next;
        for _ in 0..ready {
            let Some(head) = available.get(usize::from(next & (self.size - 1))) else { break };
            let head = head.load(Ordering::Relaxed);
            let Some([addr, rest]) = descriptors.get(usize::from(head)) else { break };
            let d = Descriptor::split(addr.load(Ordering::Relaxed), rest.load(Ordering::Relaxed));
            if d.flags & (F_NEXT | F_INDIRECT | F_WRITE) != wanted || !plains.push(d.addr, d.len, head) {
                break;
            }
            next = next.wrapping_add(1);
        }
        self.next = next;
        self.next != self.seen
    }

    #[inline]
    fn descriptor(&self, index: u16) -> Result<Descriptor, Violation> {
        if index >= self.size {
            return Err(Violation::DescriptorIndex);
        }
        let (addr, rest) = self.descriptors.load_pair(usize::from(index) * DESCRIPTOR);
        Ok(Descriptor::split(addr, rest))
    }

    /// A chain of more than one descriptor in the ring's own table, whose last one may be an indirect table.
    fn follow(&self, mut d: Descriptor, direction: Direction, burst: &mut Burst) -> Result<(), Violation> {
        for _ in 0..self.size {
            if d.flags & F_INDIRECT != 0 {
                return Err(Violation::Indirect);
            }
            burst.push(d, direction)?;
            if d.flags & F_NEXT == 0 {
                return Ok(());
            }
            d = self.descriptor(d.id)?;
        }
        Err(Violation::ChainLength)
    }

    /// Goes back by so many buffers that were fetched last.
    #[inline]
    pub fn retreat(&mut self, buffers: u32) {
        self.next = self.next.wrapping_sub(buffers as u16);
    }

    #[inline]
    pub fn give_back(&mut self, id: u16, _slots: u16, written: u32) {
        if self.in_order && written == 0 {
            self.lengthen(id, 1);
        } else {
            self.end_run();
            self.write(self.filled, id, written);
            self.filled = self.filled.wrapping_add(1);
        }
    }

    /// Adds so many buffers, of which this is the last one's id, to those that one entry stands for.
    #[inline]
    fn lengthen(&mut self, id: u16, n: u16) {
        let first = self.run.map_or(self.filled, |(first, _)| first);
        self.run = Some((first, id));
        self.filled = self.filled.wrapping_add(n);
    }

    /// Writes the one entry of buffers that were only read: where the first one's is, with the last one's id (2.7.9).
    #[inline]
    fn end_run(&mut self) {
        if let Some((first, id)) = self.run.take() {
            self.write(first, id, 0);
        }
    }

    /// Writes one entry.
    #[inline]
    fn write(&self, index: u16, id: u16, written: u32) {
        let at = self.slot(index, 8);
        self.used.store_pair(at, id.into(), written);
        self.mark_used(at as u64, 8);
    }

    /// As [`Split::give_back`], buffers of one slot that were only read, by their ids.
    #[inline]
    pub fn give_back_read(&mut self, ids: impl ExactSizeIterator<Item = u16> + DoubleEndedIterator) {
        if !self.in_order {
            return self.give_back_all(ids.map(|id| (id, 0)));
        }
        let (mut ids, n) = (ids.rev(), self.size);
        // No more than a ring has are given back between two looks at it.
        let len = ids.len().min(n.into()) as u16;
        if let Some(last) = ids.next() {
            self.lengthen(last, len);
        }
    }

    /// As [`Split::give_back`], buffers of one slot by their ids, with what was written to each.
    #[inline]
    pub fn give_back_all(&mut self, all: impl Iterator<Item = (u16, u32)>) {
        self.end_run();
        let used = self.used.u32_pairs(4, self.size.into());
        let mut filled = self.filled;
        for (id, written) in all {
            let slot = filled & (self.size - 1);
            if let Some(halves) = used.get(usize::from(slot)) {
                // What is there already is left alone: the other side keeps its copy of the line.
                for (half, value) in halves.iter().zip([id.into(), written]) {
                    if half.load(Ordering::Relaxed) != value {
                        half.store(value, Ordering::Relaxed);
                    }
                }
            }
            if self.log.is_some() {
                self.mark_used(4 + 8 * u64::from(slot), 8);
            }
            filled = filled.wrapping_add(1);
        }
        self.filled = filled;
    }

    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.filled {
            self.end_run();
            self.used.store_u16(2, self.filled, Ordering::Release);
            self.mark_used(2, 2);
            self.published = self.filled;
        }
    }

    fn mark_used(&self, at: u64, len: u64) {
        if let Some((log, used)) = &self.log {
            log.mark(used.wrapping_add(at), len);
        }
    }

    #[inline]
    pub fn wants_call(&mut self) -> bool {
        let (old, new) = (self.asked, self.published);
        if old == new {
            return false;
        }
        self.asked = new;
        // The driver enables calls and looks at the index; we move the index and look whether calls are enabled.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.available.load_u16(4 + 2 * usize::from(self.size), Ordering::Relaxed);
            return new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
        }
        self.available.load_u16(0, Ordering::Relaxed) & NO_INTERRUPT == 0
    }

    pub fn base(&self) -> u32 {
        self.next.into()
    }

    #[inline]
    pub fn returned(&self) -> u32 {
        self.filled.into()
    }

    pub fn set_kicks(&self, wanted: bool) {
        if self.event_idx {
            // An event just behind us comes as late as can be.
            let event = if wanted { self.next } else { self.next.wrapping_sub(1) };
            self.used.store_u16(4 + 8 * usize::from(self.size), event, Ordering::Release);
        }
        self.used.store_u16(0, if wanted { 0 } else { NO_NOTIFY }, Ordering::Release);
        self.mark_used(0, 2);
    }

    /// Available buffers that were not fetched; 0 if the driver's index cannot be.
    pub fn waiting(&self) -> usize {
        let n = self.available.load_u16(2, Ordering::Relaxed).wrapping_sub(self.next);
        if n > self.size { 0 } else { n.into() }
    }

    pub fn size(&self) -> u16 {
        self.size
    }
    pub fn numa_node(&self) -> Option<u32> {
        self.descriptors.numa_node()
    }
}
