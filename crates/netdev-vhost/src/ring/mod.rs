//! Virtqueues from the device's side (VIRTIO 1.2, 2.7 and 2.8), over [`crate::mem`].
//!
//! Buffers are returned in the order in which they came, so that `VIRTIO_F_IN_ORDER` holds by itself and a ring's
//! whole state is its position. Where it was negotiated, buffers that were only read go back as one, with one used entry.
//! Those that were written to have one each: without it the driver would take them for full. A descriptor is copied out of guest memory
//! once and the copy is judged; whatever is wrong with it is a [`Violation`], after which the ring is not used again.

pub mod packed;
pub mod split;

use crate::mem::plains::Plains;
use crate::mem::{DirtyLog, GuestMemory, OutOfRange};
use packed::Packed;
use split::Split;
use std::sync::Arc;

/// Most descriptors of a ring.
pub const SIZE_MAX: u32 = 32_768;
/// Most descriptors of one chain. Drivers use about 20; an indirect table may not be longer than a ring that
/// QEMU makes.
pub const CHAIN_MAX: usize = 1024;
const DESCRIPTOR: usize = 16;

const F_NEXT: u16 = 1;
const F_WRITE: u16 = 2;
const F_INDIRECT: u16 = 4;

/// How a guest broke the rules of its ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    #[error("more buffers available than the ring has")]
    Index,
    #[error("a chain of more than its ring's or {CHAIN_MAX} descriptors")]
    ChainLength,
    #[error("a descriptor index outside of the ring")]
    DescriptorIndex,
    #[error("an indirect table where none may be, or of an odd length")]
    Indirect,
    #[error("a buffer for the wrong direction")]
    Direction,
    #[error("a buffer outside of the guest's memory")]
    Address,
    #[error("memory that was truncated while it was in use")]
    Lost,
}

impl From<OutOfRange> for Violation {
    fn from(_: OutOfRange) -> Self {
        Violation::Address
    }
}

/// What the device does with buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The driver sends: the device reads.
    Read,
    /// The driver receives: the device writes.
    Write,
}

/// A buffer's memory in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub addr: u64,
    pub len: u32,
}

/// One buffer of a [`Burst`]: what to give back, and where its memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub id: u16,
    /// Slots that it takes of a packed ring; 1 in a split one.
    pub slots: u16,
    first: u32,
    count: u32,
}

/// Buffers that were taken together, with their memory.
#[derive(Default)]
pub struct Burst {
    heads: Vec<Head>,
    segments: Vec<Segment>,
    /// Where the segments of the buffer at hand begin.
    open: usize,
}

impl Burst {
    pub fn clear(&mut self) {
        self.heads.clear();
        self.segments.clear();
        self.open = 0;
    }
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    #[inline]
    pub fn segments(&self, head: Head) -> &[Segment] {
        let first = head.first as usize;
        self.segments.get(first..first + head.count as usize).unwrap_or_default()
    }

    /// The buffer's memory, if it is one segment.
    #[inline]
    pub fn only(&self, head: Head) -> Option<Segment> {
        if head.count == 1 { self.segments.get(head.first as usize).copied() } else { None }
    }

    /// Bytes of a buffer, up to 4 TiB.
    pub fn len(&self, head: Head) -> u64 {
        self.segments(head).iter().map(|s| u64::from(s.len)).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Takes in a buffer of one segment and one slot.
    pub fn push_plain(&mut self, segment: Segment, id: u16) {
        self.segments.push(segment);
        self.close(id, 1);
    }

    /// Whether no more is to be taken: a guest's tables must not keep the thread.
    #[inline]
    fn is_full(&self) -> bool {
        self.segments.len() >= CHAIN_MAX
    }

    /// Takes in one descriptor that is no indirect one.
    #[inline]
    fn push(&mut self, d: Descriptor, direction: Direction) -> Result<(), Violation> {
        if (d.flags & F_WRITE != 0) != (direction == Direction::Write) {
            return Err(Violation::Direction);
        }
        if self.segments.len() - self.open >= CHAIN_MAX {
            return Err(Violation::ChainLength);
        }
        self.segments.push(Segment { addr: d.addr, len: d.len });
        Ok(())
    }

    /// Takes in the descriptors of an indirect table; those of a split ring are linked.
    ///
    /// In tables of packed rings DPDK's driver marks even what it sends as to be written; it is only read.
    fn push_table(
        &mut self,
        memory: &GuestMemory,
        table: Descriptor,
        make: fn(u64, u64) -> Descriptor,
        is_linked: bool,
        direction: Direction,
    ) -> Result<(), Violation> {
        if table.flags & F_NEXT != 0 {
            return Err(Violation::Indirect);
        }
        let n = table_len(table)?;
        let mut index = 0;
        for i in 0..n {
            let mut d = table_entry(memory, Segment { addr: table.addr, len: table.len }, index, make)?;
            if !is_linked && direction == Direction::Read {
                d.flags &= !F_WRITE;
            }
            if is_linked && d.flags & F_INDIRECT != 0 {
                return Err(Violation::Indirect);
            }
            self.push(d, direction)?;
            if is_linked && d.flags & F_NEXT == 0 {
                return Ok(());
            }
            index = if is_linked { d.id.into() } else { i + 1 };
            if is_linked && index >= n {
                return Err(Violation::DescriptorIndex);
            }
        }
        if is_linked { Err(Violation::ChainLength) } else { Ok(()) }
    }

    /// The buffer at hand is complete.
    #[inline]
    fn close(&mut self, id: u16, slots: u16) {
        let (first, count) = (self.open as u32, (self.segments.len() - self.open) as u32);
        self.heads.push(Head { id, slots, first, count });
        self.open = self.segments.len();
    }
}

/// A descriptor as it was copied. In a split ring `id` is `next`, and stands behind `flags`.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    id: u16,
}

impl Descriptor {
    /// From the two words of a split ring's descriptor.
    fn split(addr: u64, rest: u64) -> Self {
        Descriptor { addr, len: rest as u32, flags: (rest >> 32) as u16, id: (rest >> 48) as u16 }
    }
    /// From the two words of a packed ring's descriptor.
    fn packed(addr: u64, rest: u64) -> Self {
        Descriptor { addr, len: rest as u32, flags: (rest >> 48) as u16, id: (rest >> 32) as u16 }
    }
}

/// A descriptor of an indirect table, which lies in guest memory of any alignment.
fn table_entry(
    memory: &GuestMemory,
    table: Segment,
    index: u64,
    make: fn(u64, u64) -> Descriptor,
) -> Result<Descriptor, Violation> {
    let mut bytes = [0; DESCRIPTOR];
    memory.read(table.addr.wrapping_add(index * DESCRIPTOR as u64), &mut bytes)?;
    let [a, b] = [0, 8].map(|at| crate::protocol::u64_at(&bytes, at).unwrap_or(0));
    Ok(make(u64::from_le(a), u64::from_le(b)))
}

/// How many descriptors an indirect table has.
fn table_len(table: Descriptor) -> Result<u64, Violation> {
    let n = table.len as usize / DESCRIPTOR;
    match () {
        () if n == 0 || !(table.len as usize).is_multiple_of(DESCRIPTOR) => Err(Violation::Indirect),
        () if n > CHAIN_MAX => Err(Violation::ChainLength),
        () => Ok(n as u64),
    }
}

/// Where the used ring is in the guest, if writes to it are logged.
pub type RingLog = Option<(Arc<DirtyLog>, u64)>;

/// A virtqueue of either layout.
#[allow(clippy::large_enum_variant)] // lives in a box of its own, one per ring
pub enum Ring {
    Split(Split),
    Packed(Packed),
}

macro_rules! both {
    ($self:expr, $r:ident => $body:expr) => {
        match $self {
            Ring::Split($r) => $body,
            Ring::Packed($r) => $body,
        }
    };
}

impl Ring {
    /// Appends up to `max` available buffers to `burst`, fewer if they are of many pieces. After a violation those
    /// before it are in `burst`.
    #[inline]
    pub fn fetch(
        &mut self,
        memory: &GuestMemory,
        direction: Direction,
        max: usize,
        burst: &mut Burst,
    ) -> Result<(), Violation> {
        let result = both!(self, r => r.fetch(memory, direction, max, burst));
        if result.is_err() {
            burst.segments.truncate(burst.open);
        }
        result
    }

    /// Takes buffers of one descriptor each, as long as there is room in `plains` and the next one is such; whether there
    /// may be another one, which [`Ring::fetch`] judges.
    #[inline]
    pub fn fetch_plain(&mut self, plains: &mut Plains) -> bool {
        both!(self, r => r.fetch_plain(plains))
    }

    /// Puts the last buffers that were fetched back, to be fetched again.
    #[inline]
    pub fn unfetch(&mut self, heads: &[Head]) {
        let slots = heads.iter().map(|h| u32::from(h.slots)).sum();
        both!(self, r => r.retreat(slots));
    }

    /// Gives a buffer back with `written` bytes in it. The driver sees it after [`Ring::publish`]. Buffers go
    /// back in the order in which they came.
    #[inline]
    pub fn give_back(&mut self, id: u16, slots: u16, written: u32) {
        both!(self, r => r.give_back(id, slots, written));
    }
    /// As [`Ring::give_back`], buffers of one slot by their ids, with what was written to each.
    #[inline]
    pub fn give_back_all(&mut self, all: impl Iterator<Item = (u16, u32)>) {
        both!(self, r => r.give_back_all(all));
    }
    /// As [`Ring::give_back`], buffers of one slot that were only read, by their ids.
    #[inline]
    pub fn give_back_read(&mut self, ids: impl ExactSizeIterator<Item = u16> + DoubleEndedIterator) {
        both!(self, r => r.give_back_read(ids));
    }
    /// Shows the driver all that was given back.
    #[inline]
    pub fn publish(&mut self) {
        both!(self, r => r.publish());
    }
    /// Whether the driver wants to be told of what was published since the last time.
    #[inline]
    pub fn wants_call(&mut self) -> bool {
        both!(self, r => r.wants_call())
    }
    /// The state for `GET_VRING_BASE`, and to start again from.
    pub fn base(&self) -> u32 {
        both!(self, r => r.base())
    }
    /// Up to where buffers were given back, as [`Ring::base`] has it.
    #[inline]
    pub fn returned(&self) -> u32 {
        both!(self, r => r.returned())
    }
    /// Asks the driver not to kick (we poll), or to do so again.
    pub fn set_kicks(&self, wanted: bool) {
        both!(self, r => r.set_kicks(wanted));
    }
    /// What waits to be fetched: buffers of a split ring, descriptors of a packed one.
    pub fn waiting(&self) -> usize {
        both!(self, r => r.waiting())
    }
    pub fn size(&self) -> u16 {
        both!(self, r => r.size())
    }
    /// The NUMA node of the ring's memory.
    pub fn numa_node(&self) -> Option<u32> {
        both!(self, r => r.numa_node())
    }
}

#[cfg(test)]
mod offload_tests;
#[cfg(test)]
pub(crate) mod tests;
