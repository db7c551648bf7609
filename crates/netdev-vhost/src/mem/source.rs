//! A frame's bytes on their way to where they are copied to, wherever they are: copies of ours first, then pieces of a
//! guest's memory.

use super::Piece;
use std::ptr;

/// Bytes of a guest's memory, in a mapping that whoever has this holds.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    pub base: *mut u8,
    pub len: usize,
}

impl Rest {
    pub const NONE: Rest = Rest { base: ptr::null_mut(), len: 0 };
}

/// What is left to be copied of a frame.
pub struct Source<'f> {
    front: &'f [u8],
    next: Rest,
    more: &'f [Rest],
}

impl<'f> Source<'f> {
    /// A frame that is ours.
    pub fn of(bytes: &'f [u8]) -> Self {
        Source { front: bytes, next: Rest::NONE, more: &[] }
    }

    /// `next` and `more` are in mappings that live as long as what `front` is borrowed from.
    pub(super) fn new(front: &'f [u8], next: Rest, more: &'f [Rest]) -> Self {
        Source { front, next, more }
    }

    /// Without the first `n` bytes, which are ours.
    pub(super) fn behind(self, n: usize) -> Self {
        Source { front: self.front.get(n..).unwrap_or_default(), ..self }
    }

    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.next.len == 0 && self.more.iter().all(|rest| rest.len == 0)
    }

    /// Copies to a guest as many bytes as there is room for; how many.
    #[inline]
    pub fn fill(&mut self, to: Piece<'_>) -> usize {
        // SAFETY: a piece has `len` bytes in a mapping that is there while the piece is.
        unsafe { self.copy(to.base, to.len) }
    }

    /// Copies to memory of ours as many bytes as there is room for; how many.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        // SAFETY: `out` is a reference to so many bytes.
        unsafe { self.copy(out.as_mut_ptr(), out.len()) }
    }

    /// # Safety
    ///
    /// `room` bytes may be written at `to`.
    unsafe fn copy(&mut self, to: *mut u8, room: usize) -> usize {
        let mut done = 0;
        while done < room {
            let (at, left) = (to.wrapping_add(done), room - done);
            if let Some((now, later)) = self.front.split_at_checked(left.min(self.front.len()))
                && !now.is_empty()
            {
                // SAFETY: `now` is no longer than the room at `at`; it is ours, and what is written is not borrowed.
                unsafe { ptr::copy_nonoverlapping(now.as_ptr(), at, now.len()) };
                self.front = later;
                done += now.len();
                continue;
            }
            if self.next.len == 0 {
                let Some((next, more)) = self.more.split_first() else { break };
                (self.next, self.more) = (*next, more);
                continue;
            }
            let n = left.min(self.next.len);
            // SAFETY: a `Rest` has `len` bytes in a mapping that lives as long as this, and there is room for `n`. Both
            // may be the same guest's, who may write meanwhile: the bytes are valid whatever they are.
            unsafe { ptr::copy(self.next.base, at, n) };
            self.next = Rest { base: self.next.base.wrapping_add(n), len: self.next.len - n };
            done += n;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_in_order_whatever_the_steps(
            front in prop::collection::vec(any::<u8>(), 0..70),
            mut rests in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
            steps in prop::collection::vec(0..50_usize, 1..40),
        ) {
            let all = [&front[..], &rests.concat()].concat();
            let rests: Vec<Rest> =
                rests.iter_mut().map(|r| Rest { base: r.as_mut_ptr(), len: r.len() }).collect();
            let (next, more) = rests.split_first().map_or((Rest::NONE, &[][..]), |(n, more)| (*n, more));
            let mut source = Source::new(&front, next, more);
            let mut copied: Vec<u8> = Vec::new();
            for step in steps {
                let mut out = vec![0; step];
                let n = source.read(&mut out);
                prop_assert_eq!(n, step.min(all.len() - copied.len()));
                copied.extend(&out[..n]);
                prop_assert_eq!(source.is_empty(), copied.len() == all.len());
            }
            prop_assert_eq!(&copied[..], &all[..copied.len()]);
        }
    }
}
