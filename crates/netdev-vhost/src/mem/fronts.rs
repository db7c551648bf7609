//! The copied heads of a burst's frames, which the guest cannot reach: what is parsed, matched and changed.

use super::frames::LENT_MAX;
use super::{HEAD, LINE};
use netdev::burst::{LONG_HEAD, SMALL};
use packet::BATCH_LEN;

/// Bytes of a place for a head that is not just a line: room for what it gets at its front, and for as much as it may have.
const STRIDE: usize = 2 * LINE;
/// Of these, how many are in front at first.
const ROOM: usize = 2 * SMALL;
const _: () = assert!(HEAD == LINE && ROOM + LONG_HEAD <= STRIDE);
/// Bytes of all lines.
const LINES: usize = BATCH_LEN * LINE;

/// The lines that almost all heads are, one behind the other, so that they come into the cache by themselves, and behind them
/// the places for other heads. Behind the last one there is as much as the longest frame has, for a frame is shown as a slice
/// of its length.
#[repr(align(64))]
struct Copies([u8; LINES + BATCH_LEN * STRIDE + LENT_MAX]);

/// Heads by place.
pub(super) struct Fronts {
    copies: Box<Copies>,
    /// Places of heads that are not just a line, or of a shorter frame less.
    uneven: u32,
    /// Of these, where in their places they begin, and how long they are.
    spans: [(u8, u8); BATCH_LEN],
}

/// Where a frame is copied to.
pub(super) struct Front<'f> {
    pub line: &'f mut [u8; LINE],
    place: &'f mut [u8; STRIDE],
    span: &'f mut (u8, u8),
}

impl<'f> Front<'f> {
    /// Makes a head of `len` bytes of what is in the line, and gives what is to be filled behind that. Its place is uneven
    /// then ([`Fronts::note_uneven`]).
    pub fn lengthen(self, len: usize) -> &'f mut [u8] {
        let len = len.clamp(LINE, LONG_HEAD);
        *self.span = (ROOM as u8, len as u8);
        let head = self.place.get_mut(ROOM..ROOM + len).unwrap_or_default();
        let Some((line, more)) = head.split_first_chunk_mut() else { return &mut [] };
        *line = *self.line;
        more
    }
}

impl Fronts {
    pub fn new() -> Self {
        let copies = Box::new(Copies([0; LINES + BATCH_LEN * STRIDE + LENT_MAX]));
        Fronts { copies, uneven: 0, spans: [(0, 0); BATCH_LEN] }
    }

    #[inline]
    pub fn clear(&mut self) {
        self.uneven = 0;
    }

    /// Places of heads that are not just a line.
    #[inline]
    pub fn uneven(&self) -> u32 {
        self.uneven
    }

    #[inline]
    pub fn note_uneven(&mut self, places: u32) {
        self.uneven |= places;
    }

    fn is_uneven(&self, place: usize) -> bool {
        self.uneven.checked_shr(place as u32).unwrap_or(0) & 1 != 0
    }

    /// The lines, and the places for other heads.
    #[inline]
    fn halves(&mut self) -> (&mut [[u8; LINE]], &mut [[u8; STRIDE]]) {
        let (lines, places) = self.copies.0.split_at_mut(LINES);
        (lines.as_chunks_mut().0, places.as_chunks_mut().0)
    }

    /// The places from one on, to be filled.
    #[inline]
    pub fn fill(&mut self, first: usize) -> impl Iterator<Item = Front<'_>> {
        let (lines, places) = self.copies.0.split_at_mut(LINES);
        let (lines, places) = (lines.as_chunks_mut().0.iter_mut(), places.as_chunks_mut().0.iter_mut());
        let all = lines.zip(places).zip(&mut self.spans).skip(first);
        all.map(|((line, place), span)| Front { line, place, span })
    }

    /// The line of a place whose head is just that.
    #[inline]
    pub fn line(&self, place: usize) -> Option<&[u8; LINE]> {
        self.copies.0.as_chunks().0.get(place).filter(|_| place < BATCH_LEN)
    }

    /// Where the head of a frame of `len` bytes begins, and how long it is.
    #[inline]
    fn span(&self, place: usize, len: usize) -> (usize, usize) {
        match self.spans.get(place).filter(|_| self.is_uneven(place)) {
            Some((start, len)) => (LINES + place * STRIDE + usize::from(*start), usize::from(*len)),
            None => (place * LINE, len.min(LINE)),
        }
    }

    /// The head of a frame of `len` bytes: as many of these as were copied.
    #[inline]
    pub fn head(&self, place: usize, len: usize) -> &[u8] {
        let (at, head) = self.span(place, len);
        self.copies.0.get(at..at + head).unwrap_or_default()
    }

    /// A slice of a frame's length that begins with its head.
    #[inline]
    pub fn shown(&self, place: usize, len: usize) -> &[u8] {
        let at = self.span(place, len).0;
        self.copies.0.get(at..at + len).unwrap_or_default()
    }

    /// The heads at the places `bits`, to be changed; `lens` are the frames' lengths.
    pub fn heads_mut<'f>(&'f mut self, bits: u32, lens: &[u32], mut take: impl FnMut(usize, &'f mut [u8])) {
        let (uneven, spans) = (self.uneven, self.spans);
        let (lines, places) = self.halves();
        let all = lines.iter_mut().zip(places).zip(spans).zip(lens).enumerate();
        for (at, (((line, place), (start, head)), len)) in all.filter(|(at, _)| bits & (1 << at) != 0) {
            let head = match uneven & (1 << at) {
                0 => line.get_mut(..(*len as usize).min(LINE)),
                _ => place.get_mut(usize::from(start)..usize::from(start) + usize::from(head)),
            };
            take(at, head.unwrap_or_default());
        }
    }

    /// Moves the front of the head of a frame of `len` bytes, forwards or, if `by` is negative, backwards. False, and
    /// nothing is done, if there is no room, or nothing would be left of it.
    pub fn move_front(&mut self, place: usize, len: usize, by: i32) -> bool {
        let is_uneven = self.is_uneven(place);
        let (old, head) = match self.spans.get(place).filter(|_| is_uneven) {
            Some((start, head)) => (usize::from(*start), usize::from(*head)),
            None => (ROOM, len.min(LINE)),
        };
        let moved = |n: usize, by: i32| u8::try_from(i32::try_from(n).ok()?.checked_add(by)?).ok();
        let (Some(start), Some(left)) = (moved(old, by), moved(head, -by).filter(|left| *left > 0)) else {
            return false;
        };
        match self.spans.get_mut(place).filter(|_| by.unsigned_abs() as usize <= SMALL) {
            Some(span) => *span = (start, left),
            None => return false,
        }
        if !is_uneven {
            self.uneven |= 1 << place;
            let (lines, places) = self.halves();
            if let (Some(line), Some(room)) = (lines.get(place), places.get_mut(place)) {
                room.iter_mut().skip(ROOM).zip(line).for_each(|(to, byte)| *to = *byte);
            }
        }
        true
    }
}
