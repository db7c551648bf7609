//! Buffers in one piece, as almost all are: found in the guest's memory when they are taken from the ring, once.

use super::{Entry, GuestMemory, LINE, LONG_HEADER, Piece, prefetch, prefetch_to_write};
use packet::BATCH_LEN;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

/// What a buffer has behind its first byte at least, of its own or of what its region has behind it: header and line are
/// copied without a look at the length.
const ROOM: u64 = (LONG_HEADER + LINE) as u64;

/// One buffer of [`Plains`], and nowhere else: its memory is there as long as these are.
pub struct Plain {
    /// In our memory: `len` bytes, and [`ROOM`], are mapped while the `Plains` is there.
    pub(super) base: *mut u8,
    pub addr: u64,
    pub len: u32,
    pub id: u16,
}

impl Plain {
    const NONE: Plain = Plain { base: ptr::null_mut(), addr: 0, len: 0, id: 0 };
}

/// Up to a batch of buffers, each in one piece and of one slot, that were taken together.
pub struct Plains {
    /// Where they are.
    memory: Arc<GuestMemory>,
    all: [Plain; BATCH_LEN],
    /// Those that wait to be used are from `next` to `len`.
    next: usize,
    len: usize,
    /// The region that was found last.
    near: Entry,
    /// Bytes of the header at each one's front.
    header_len: usize,
    are_written: bool,
}

// SAFETY: the pointers are into mappings that `memory` holds, which are Send and Sync themselves.
unsafe impl Send for Plains {}

impl Plains {
    pub fn new(memory: Arc<GuestMemory>) -> Self {
        let near = Entry { guest: 0, size: 0, base: ptr::null_mut() };
        let all = [const { Plain::NONE }; BATCH_LEN];
        Plains { memory, all, next: 0, len: 0, near, header_len: 0, are_written: false }
    }

    /// Begins anew with buffers for frames behind a header, to be written or read.
    #[inline]
    pub fn begin(&mut self, header_len: usize, are_written: bool) {
        (self.next, self.len, self.header_len, self.are_written) = (0, 0, header_len, are_written);
    }

    #[inline]
    pub fn are_written(&self) -> bool {
        self.are_written
    }

    /// Those that wait to be used.
    #[inline]
    pub fn ready(&self) -> &[Plain] {
        self.all.get(self.next..self.len).unwrap_or_default()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next >= self.len
    }

    /// How many more there is room for.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH_LEN - self.len
    }

    /// Notes that so many were used.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.next = (self.next + n).min(self.len);
    }

    /// Takes in a buffer, and asks for its first lines; false, and nothing is done, if it is not in one region.
    #[inline]
    pub fn push(&mut self, addr: u64, len: u32, id: u16) -> bool {
        let ofs = addr.wrapping_sub(self.near.guest);
        let needed = u64::from(len).max(ROOM);
        let is_near = ofs < self.near.size && needed <= self.near.size - ofs;
        if !is_near && !self.find(addr, needed) {
            return false;
        }
        let base = self.near.base.wrapping_add(addr.wrapping_sub(self.near.guest) as usize);
        let Some(place) = self.all.get_mut(self.len) else { return false };
        *place = Plain { base, addr, len, id };
        self.len += 1;
        let body = base.wrapping_add(self.header_len);
        if self.are_written {
            // A header in a line of its own is seldom written (`Piece::write_header`).
            if base as usize / LINE != body as usize / LINE {
                prefetch(base);
            }
            prefetch_to_write(body);
        } else {
            prefetch(base);
            prefetch(body);
        }
        true
    }

    /// Looks for the region that has so many bytes at `addr`.
    #[cold]
    fn find(&mut self, addr: u64, needed: u64) -> bool {
        let has = |e: &&Entry| {
            let ofs = addr.wrapping_sub(e.guest);
            ofs < e.size && needed <= e.size - ofs
        };
        let found = self.memory.table.iter().find(has).copied();
        self.near = found.unwrap_or(self.near);
        found.is_some()
    }

    /// The memory of a buffer among [`Plains::ready`].
    #[inline]
    pub fn piece(&self, at: usize) -> Option<Piece<'_>> {
        let plain = self.ready().get(at)?;
        Some(Piece { base: plain.base, len: plain.len as usize, memory: PhantomData })
    }

    /// Whether their memory is this one.
    #[inline]
    pub fn are_in(&self, memory: &Arc<GuestMemory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }
}

/// The header at the front of a buffer, in the form that it is in there.
#[inline]
pub(super) fn header_of(plain: &Plain) -> (u64, u32) {
    let at = plain.base.cast_const();
    // SAFETY: a `Plain` is lent by its `Plains`, which hold its memory, and has `ROOM` bytes, more than these; as in
    // `Piece::read`.
    unsafe { (at.cast::<u64>().read_unaligned(), at.wrapping_add(8).cast::<u32>().read_unaligned()) }
}

#[cfg(test)]
#[path = "plains_tests.rs"]
mod tests;
