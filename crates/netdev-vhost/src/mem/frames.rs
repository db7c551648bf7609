//! A burst of frames of which only the heads were copied when they were received: the rest stays in the guest's memory
//! until it is copied, once, to where it goes.
//!
//! What is parsed, changed or matched is the copied head, which the guest cannot reach. It may change the rest while
//! that is copied: what arrives then is what it might have sent. Its buffers go back when the burst is over; the
//! memory stays mapped until then, whatever the front end does.

use super::{GuestMemory, HEAD, OutOfRange, Piece};
use crate::pool;
use arrayvec::ArrayVec;
use netdev::burst::{Heads, places, plain_bytes};
use netdev::{Burst, virtio};
use packet::{BATCH_LEN, Packet};
use std::any::Any;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Frames up to this many bytes stay with the guest; longer ones become packets.
pub const LENT_MAX: usize = pool::SMALL_FRAME_MAX;

/// The copied heads, one behind the other. Behind the last one there is as much as the longest frame has, for a frame
/// is shown as a slice of its length.
#[repr(align(64))]
struct Copies([u8; BATCH_LEN * HEAD + LENT_MAX]);

/// Frames just received: see the module. `Default` is an empty burst.
pub struct Frames {
    copies: Box<Copies>,
    /// By place, where a frame's bytes behind [`HEAD`] are: that many as `lens` says, in a mapping of `memory`.
    rests: [*mut u8; BATCH_LEN],
    /// By place, lengths of frames, at most [`LENT_MAX`] of those in `lent`.
    lens: [u32; BATCH_LEN],
    places: usize,
    /// Places of frames that are no packets, now and when the burst was received.
    lent: u32,
    were_lent: u32,
    /// Frames that are packets, with their places.
    packets: ArrayVec<(usize, Packet), BATCH_LEN>,
    /// What the frames that are lent are in.
    memory: Option<Arc<GuestMemory>>,
    /// Set while the guest's buffers are in use: as `uses` is.
    in_use: Arc<AtomicBool>,
    uses: bool,
}

// SAFETY: the pointers are into mappings that `memory` holds, which are Send and Sync themselves.
unsafe impl Send for Frames {}

impl Frames {
    /// `in_use` is true while there are frames whose buffers the guest must not have back.
    pub fn new(in_use: Arc<AtomicBool>) -> Self {
        Frames {
            copies: Box::new(Copies([0; BATCH_LEN * HEAD + LENT_MAX])),
            rests: [ptr::null_mut(); BATCH_LEN],
            lens: [0; BATCH_LEN],
            places: 0,
            lent: 0,
            were_lent: 0,
            packets: ArrayVec::new(),
            memory: None,
            in_use,
            uses: false,
        }
    }

    /// Begins a burst of frames that are in `memory`.
    #[inline]
    pub fn begin(&mut self, memory: &Arc<GuestMemory>) {
        self.clear();
        if !self.memory.as_ref().is_some_and(|old| Arc::ptr_eq(old, memory)) {
            self.memory = Some(memory.clone());
        }
    }

    /// Ends the burst, and lets go of the memory.
    pub fn leave(&mut self) {
        self.clear();
        self.memory = None;
    }

    pub fn is_full(&self) -> bool {
        self.places == BATCH_LEN
    }

    /// Takes in a packet.
    pub fn push(&mut self, packet: Packet) {
        if let Some(len) = self.lens.get_mut(self.places) {
            *len = packet.len() as u32;
            self.packets.push((self.places, packet));
            self.places += 1;
        }
    }

    /// Takes in the frame of `len` bytes behind a header of `header_len` at guest address `addr`; `None` if it is not in
    /// one region, too long, or its header asks for something: it takes a closer look then. False if all of it was
    /// copied. `near` as in [`GuestMemory::rest`].
    #[inline]
    pub fn lend(
        &mut self,
        near: &mut usize,
        addr: u64,
        header_len: usize,
        len: usize,
    ) -> Result<Option<bool>, OutOfRange> {
        let Some(memory) = &self.memory else { return Ok(None) };
        let piece = memory.rest(near, addr)?;
        let place = self.places;
        let (Some(rest), Some(own_len)) = (self.rests.get_mut(place), self.lens.get_mut(place)) else {
            return Ok(None);
        };
        let head = self.copies.0.get_mut(place * HEAD..).and_then(|h| h.first_chunk_mut::<HEAD>());
        let (Some(head), true) = (head, len <= LENT_MAX && piece.len() >= header_len + len) else {
            return Ok(None);
        };
        if !piece.header().starts_with(&[0; virtio::HEADER_LEN]) {
            return Ok(None);
        }
        let body = piece.behind(header_len);
        body.read_line(len, head);
        *rest = body.behind(HEAD).base;
        *own_len = len as u32;
        let is_lent = len > HEAD;
        if is_lent && !self.uses {
            self.uses = true;
            self.in_use.store(true, Ordering::Relaxed);
        }
        self.were_lent |= 1 << place;
        self.lent |= 1 << place;
        self.places += 1;
        Ok(Some(is_lent))
    }

    /// Whether all frames at these places are still here, and no packets.
    #[inline]
    pub fn are_lent(&self, places: u32) -> bool {
        places & !self.lent == 0
    }

    /// Lengths of all frames, by place.
    pub fn lens(&self) -> &[u32] {
        self.lens.get(..self.places).unwrap_or_default()
    }

    /// The copied head of a frame that is lent, or of a shorter frame all of it.
    #[inline]
    pub fn head(&self, place: usize) -> &[u8] {
        let len = self.lens.get(place).map_or(0, |len| *len as usize);
        self.copies.0.get(place * HEAD..place * HEAD + len.min(HEAD)).unwrap_or_default()
    }

    /// First bytes and length of the frame at `place`, which is lent.
    #[inline]
    pub fn shown_at(&self, place: usize) -> (&[u8], usize) {
        (self.head(place), self.lens.get(place).map_or(0, |len| *len as usize))
    }

    /// First bytes and lengths of the frames, just received.
    #[inline]
    pub fn shown(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let lent = places(self.lent).map(|place| self.shown_at(place));
        lent.chain(self.packets.iter().map(|(_, packet)| (packet.data(), packet.len())))
    }

    /// Bytes of a lent frame that are with the guest.
    #[inline]
    fn rest(&self, place: usize) -> Option<(*mut u8, usize)> {
        if self.lent & 1_u32.checked_shl(place as u32)? == 0 {
            return None;
        }
        Some((*self.rests.get(place)?, (*self.lens.get(place)? as usize).saturating_sub(HEAD)))
    }

    /// Writes a header and the lent frame at `place` behind it to another guest; returns the frame's length, `None` if
    /// it is not lent or there is no room for it.
    #[inline]
    pub fn write(&self, place: usize, header: &[u8], to: Piece<'_>) -> Option<usize> {
        let (rest, rest_len) = self.rest(place)?;
        let head = self.head(place);
        let len = head.len() + rest_len;
        if to.len < header.len() + len {
            return None;
        }
        to.write_header(header);
        let body = to.behind(header.len());
        if let Some(line) = head.first_chunk::<HEAD>() {
            body.write_line(line);
            if rest_len > 0 {
                // SAFETY: `lend` noted the address of `rest_len` bytes, which `memory` holds, for a frame that is lent;
                // `to` has `HEAD` bytes and these. Both may be the same guest's, who may write meanwhile: the bytes are
                // valid whatever they are.
                unsafe { ptr::copy(rest, body.base.wrapping_add(HEAD), rest_len) };
            }
        } else {
            body.write(head);
        }
        Some(len)
    }

    /// A copy of the lent frame at `place`.
    pub fn copy(&self, place: usize) -> Option<Packet> {
        let (rest, rest_len) = self.rest(place)?;
        let head = self.head(place);
        let mut packet = pool::packet(head.len() + rest_len);
        packet.set_len(head.len() + rest_len);
        let (front, back) = packet.data_mut().split_at_mut_checked(head.len())?;
        front.copy_from_slice(head);
        let rest_len = rest_len.min(back.len());
        // SAFETY: as in `write`; `back`, which is ours, has so many bytes.
        unsafe { ptr::copy_nonoverlapping(rest, back.as_mut_ptr(), rest_len) };
        Some(packet)
    }

    /// Notes that frames have been sent.
    #[inline]
    pub fn sent(&mut self, places: u32) {
        self.lent &= !places;
    }
}

impl Default for Frames {
    fn default() -> Self {
        Frames::new(Arc::default())
    }
}

impl Burst for Frames {
    fn len(&self) -> usize {
        self.places
    }

    fn heads<'a>(&'a mut self, heads: &mut Heads<'a>) {
        for (place, (head, len)) in heads.iter_mut().zip(self.lens()).enumerate() {
            // What was taken out has none.
            let len = if self.lent & (1 << place) != 0 { *len as usize } else { 0 };
            *head = self.copies.0.get(place * HEAD..place * HEAD + len).unwrap_or_default();
        }
        for (place, packet) in &self.packets {
            if let Some(head) = heads.get_mut(*place) {
                *head = plain_bytes(packet);
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<Packet> {
        if let Some(packet) = self.copy(place) {
            self.sent(1 << place);
            return Some(packet);
        }
        let at = self.packets.iter().position(|(own, _)| *own == place)?;
        Some(self.packets.swap_remove(at).1)
    }

    fn put(&mut self, place: usize, packet: Packet) -> Result<(), Packet> {
        if place >= self.places {
            return Err(packet);
        }
        if self.were_lent & (1 << place) != 0 {
            self.lent |= 1 << place;
        } else if let Err(full) = self.packets.try_push((place, packet)) {
            return Err(full.element().1);
        }
        Ok(())
    }

    #[inline]
    fn clear(&mut self) {
        if std::mem::take(&mut self.uses) {
            self.in_use.store(false, Ordering::Release);
        }
        (self.places, self.lent, self.were_lent) = (0, 0, 0);
        self.packets.clear();
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
