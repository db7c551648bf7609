//! The copied heads of a burst's frames, which the guest cannot reach: what is parsed, matched and changed.

use super::frames::LENT_MAX;
use super::{HEAD, LINE};
use netdev::burst::{LONG_HEAD, SMALL};
use packet::BATCH_LEN;

/// Bytes of a place: a line of which the end is for what a head gets at its front, the line that almost all heads are,
/// and a line for the rest of a long one. The first and the last are seldom touched.
const STRIDE: usize = 3 * LINE;
const _: () = assert!(HEAD == LINE && LONG_HEAD <= 2 * LINE && SMALL <= LINE);

/// The places, one behind the other. Behind the last one there is as much as the longest frame has, for a frame is shown as
/// a slice of its length.
#[repr(align(64))]
struct Copies([u8; BATCH_LEN * STRIDE + LENT_MAX]);

/// Heads by place.
pub(super) struct Fronts {
    copies: Box<Copies>,
    /// Places of heads that do not begin where a place's second line does, or are longer than it.
    uneven: u32,
    /// Of these, where in their places they begin, and how long they are.
    spans: [(u8, u8); BATCH_LEN],
}

/// The part of a place that a frame is copied to: the line that all get, and room for more.
pub(super) struct Front<'f> {
    pub line: &'f mut [u8; LINE],
    pub more: &'f mut [u8],
    pub span: &'f mut (u8, u8),
}

impl Front<'_> {
    /// Notes that the head is `len` bytes, more than a line. Its place is uneven then ([`Fronts::note_uneven`]).
    #[inline]
    pub fn note_long(&mut self, len: usize) {
        *self.span = (LINE as u8, len as u8);
    }
}

impl Fronts {
    pub fn new() -> Self {
        let copies = Box::new(Copies([0; BATCH_LEN * STRIDE + LENT_MAX]));
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

    /// The places from one on, to be filled.
    #[inline]
    pub fn fill(&mut self, first: usize) -> impl Iterator<Item = Front<'_>> {
        let places = self.copies.0.as_chunks_mut::<STRIDE>().0.iter_mut().zip(&mut self.spans).skip(first);
        places.filter_map(|(place, span)| {
            let (line, more) = place.get_mut(LINE..)?.split_first_chunk_mut()?;
            Some(Front { line, more, span })
        })
    }

    /// The line of a place whose head is just that.
    #[inline]
    pub fn line(&self, place: usize) -> Option<&[u8; LINE]> {
        self.copies.0.as_chunks::<STRIDE>().0.get(place)?.get(LINE..)?.first_chunk()
    }

    /// Where the head of a frame of `len` bytes begins in its place, and how long it is.
    #[inline]
    fn span(&self, place: usize, len: usize) -> (usize, usize) {
        let is_uneven = self.uneven.checked_shr(place as u32).unwrap_or(0) & 1 != 0;
        match self.spans.get(place).filter(|_| is_uneven) {
            Some((start, len)) => (usize::from(*start), usize::from(*len)),
            None => (LINE, len.min(HEAD)),
        }
    }

    /// The head of a frame of `len` bytes: as many of these as were copied.
    #[inline]
    pub fn head(&self, place: usize, len: usize) -> &[u8] {
        let (start, head) = self.span(place, len);
        let at = place * STRIDE + start;
        self.copies.0.get(at..at + head).unwrap_or_default()
    }

    /// A slice of a frame's length that begins with its head.
    #[inline]
    pub fn shown(&self, place: usize, len: usize) -> &[u8] {
        let at = place * STRIDE + self.span(place, len).0;
        self.copies.0.get(at..at + len).unwrap_or_default()
    }

    /// The heads at the places `bits`, to be changed; `lens` are the frames' lengths.
    pub fn heads_mut<'f>(&'f mut self, bits: u32, lens: &[u32], mut take: impl FnMut(usize, &'f mut [u8])) {
        let spans: [_; BATCH_LEN] =
            std::array::from_fn(|place| self.span(place, lens.get(place).map_or(0, |len| *len as usize)));
        let places = self.copies.0.as_chunks_mut::<STRIDE>().0.iter_mut().zip(spans).enumerate();
        for (place, (bytes, (start, len))) in places.filter(|(place, _)| bits & (1 << place) != 0) {
            take(place, bytes.get_mut(start..start + len).unwrap_or_default());
        }
    }

    /// Moves the front of the head of a frame of `len` bytes, forwards or, if `by` is negative, backwards. False, and
    /// nothing is done, if there is no room, or nothing would be left of it.
    pub fn move_front(&mut self, place: usize, len: usize, by: i32) -> bool {
        let (start, head) = self.span(place, len);
        let moved = |n: usize, by: i32| u8::try_from(i32::try_from(n).ok()?.checked_add(by)?).ok();
        let (Some(start), Some(head)) = (moved(start, by), moved(head, -by).filter(|head| *head > 0)) else {
            return false;
        };
        match self.spans.get_mut(place).filter(|_| by.unsigned_abs() as usize <= SMALL) {
            Some(span) => *span = (start, head),
            None => return false,
        }
        self.uneven |= 1 << place;
        true
    }
}
