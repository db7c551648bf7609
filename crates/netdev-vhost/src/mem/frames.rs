//! A burst of frames of which only the heads were copied when they were received: the rest stays in the guest's memory
//! until it is copied, once, to where it goes.
//!
//! What is parsed, changed or matched is the copied head, which the guest cannot reach. It may change the rest while
//! that is copied: what arrives then is what it might have sent. Its buffers go back when the burst is over; the
//! memory stays mapped until then, whatever the front end does.

use super::fronts::{Front, Fronts};
use super::plains::{Plains, header_of};
use super::source::{Rest, Source};
use super::specials::Specials;
use super::{GuestMemory, HEAD, LINE, LONG_HEADER, OutOfRange, Piece};
use crate::pool;
use arrayvec::ArrayVec;
use netdev::burst::{Heads, Lengths, SMALL, all_places, head_len, places, plain_bytes};
use netdev::{Burst, virtio};
use packet::{BATCH_LEN, Checksum, HEADROOM, Offload, Packet};
use std::any::Any;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

/// Frames up to this many bytes stay with the guest; longer ones are none.
pub const LENT_MAX: usize = pool::FRAME_MAX;

/// The shortest frame: an Ethernet header.
pub const FRAME_MIN: usize = 14;

/// Frames just received: see the module. `Default` is an empty burst.
pub struct Frames {
    fronts: Fronts,
    /// By place, where a frame's bytes behind its copied head are, or the first of them: that many as `lens` says, or as
    /// `specials` says, in a mapping of `memory`.
    rests: [*mut u8; BATCH_LEN],
    /// By place, lengths of frames, of those in `lent` at most [`LENT_MAX`] and what they grew.
    lens: [u32; BATCH_LEN],
    pub(super) places: usize,
    /// What is unusual about frames that are lent.
    pub(super) specials: Specials,
    /// The length of all frames, if it is the same, none is a packet and none goes to a group.
    alike: Option<u32>,
    /// Places of frames that are no packets, now and when the burst was received.
    pub(super) lent: u32,
    were_lent: u32,
    /// Frames that are packets, with their places.
    packets: ArrayVec<(usize, Packet), BATCH_LEN>,
    /// What the frames that are lent are in.
    pub(super) memory: Option<Arc<GuestMemory>>,
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
            fronts: Fronts::new(),
            rests: [ptr::null_mut(); BATCH_LEN],
            lens: [0; BATCH_LEN],
            places: 0,
            specials: Specials::new(),
            alike: None,
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
            self.alike = None;
            *len = packet.len() as u32;
            self.packets.push((self.places, packet));
            self.places += 1;
        }
    }

    /// Takes in the frames behind the headers of `plains`, from the first on, as long as these ask for nothing; how many
    /// they were, and whether their buffers are in use now.
    #[inline]
    pub fn lend_all(&mut self, plains: &Plains, header_len: usize) -> (usize, bool) {
        if !self.memory.as_ref().is_some_and(|memory| plains.are_in(memory)) {
            return (0, false);
        }
        let first = self.places;
        let (mut shortest, mut longest, mut first_bytes) = (u32::MAX, 0, 0);
        let others = self.rests.iter_mut().zip(&mut self.lens).skip(first);
        let (mut n, mut uneven) = (0, 0);
        for ((plain, front), (rest, own_len)) in
            plains.ready().iter().zip(self.fronts.fill(first)).zip(others)
        {
            let len = (plain.len as usize).wrapping_sub(header_len);
            let (low, high) = header_of(plain);
            if !(FRAME_MIN..=LENT_MAX).contains(&len) || low != 0 || u32::from_le(high) as u16 != 0 {
                break;
            }
            let body = plain.base.wrapping_add(header_len);
            // SAFETY: a buffer of a `Plains` has room for a header and a line; `line` is ours and as long as that.
            unsafe { ptr::copy_nonoverlapping(body, front.line.as_mut_ptr(), LINE) };
            // What is judged is the copy: the compiler must not go back to the original for it.
            compiler_fence(Ordering::SeqCst);
            // The bit that says "group" is the first byte's last.
            first_bytes |= front.line[0];
            *rest = body.wrapping_add(LINE);
            let wanted = head_len(front.line).min(len);
            if wanted > LINE {
                let body = Piece { base: body, len, memory: PhantomData };
                *rest = read_more(body, wanted, front);
                uneven |= 1 << (first + n);
            }
            *own_len = len as u32;
            (shortest, longest) = (shortest.min(*own_len), longest.max(*own_len));
            n += 1;
        }
        self.fronts.note_uneven(uneven);
        self.places = first + n;
        let places = all_places(self.places) & !all_places(first);
        self.were_lent |= places;
        self.lent |= places;
        let is_alike = first == 0 && shortest == longest && first_bytes & 1 == 0;
        self.alike = is_alike.then_some(longest);
        let is_lent = longest as usize > HEAD;
        if is_lent && !self.uses {
            self.uses = true;
            self.in_use.store(true, Ordering::Relaxed);
        }
        (n, is_lent)
    }

    /// Takes in the frame of `len` bytes behind a header of `header_len` at guest address `addr`; `None` if it is not in
    /// one region or its header asks for something: it takes a closer look then ([`Frames::lend_any`]). False if all of it
    /// was copied. `near` as in [`GuestMemory::rest`].
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
        if len > LENT_MAX || piece.len() < header_len + len {
            return Ok(None);
        }
        if !piece.header().starts_with(&[0; virtio::HEADER_LEN]) {
            return Ok(None);
        }
        let body = piece.behind(header_len);
        let Some(front) = self.fronts.fill(self.places).next() else { return Ok(None) };
        body.read_line(len, front.line);
        let mut rest = body.behind(LINE).base;
        let wanted = head_len(front.line).min(len);
        if wanted > LINE {
            rest = read_more(body, wanted, front);
            self.fronts.note_uneven(1 << self.places);
        }
        Ok(self.note(rest, len))
    }

    /// Takes in a frame of `len` bytes, the first of which are `head`: a line, or more of a frame that is longer. Those
    /// behind it are at `rest`, or begin there.
    pub(super) fn take_in(&mut self, head: &[u8], rest: Rest, len: usize) {
        let Some(front) = self.fronts.fill(self.places).next() else { return };
        let (line, more) = head.split_at(head.len().min(LINE));
        front.line.iter_mut().zip(line).for_each(|(to, byte)| *to = *byte);
        if !more.is_empty() {
            front.lengthen(head.len()).iter_mut().zip(more).for_each(|(to, byte)| *to = *byte);
            self.fronts.note_uneven(1 << self.places);
        }
        self.note(rest.base, len);
    }

    /// Notes a frame whose head was just copied; whether its buffer is in use, `None` if there is no place for it.
    #[inline]
    fn note(&mut self, rest: *mut u8, len: usize) -> Option<bool> {
        let place = self.places;
        *self.rests.get_mut(place)? = rest;
        *self.lens.get_mut(place)? = len as u32;
        let is_lent = len > HEAD;
        if is_lent && !self.uses {
            self.uses = true;
            self.in_use.store(true, Ordering::Relaxed);
        }
        self.alike = None;
        self.were_lent |= 1 << place;
        self.lent |= 1 << place;
        self.places += 1;
        Some(is_lent)
    }

    /// Whether no frame at these places is longer than `max` bytes, but those that the receiver cuts.
    #[inline]
    pub fn fit(&self, bits: u32, max: u32) -> bool {
        if let Some(len) = self.alike {
            return len <= max;
        }
        if self.lens().iter().all(|len| *len <= max) {
            return true;
        }
        let fits = |place: usize| {
            self.lens.get(place).is_none_or(|len| *len <= max)
                || self.specials.offload(place).is_some_and(|(offload, _)| offload.gso.is_some())
        };
        places(bits).all(fits)
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

    /// The length of all frames, if it is the same, none was a packet and none goes to a group.
    #[inline]
    pub fn alike(&self) -> Option<u32> {
        self.alike
    }

    /// The copied head of a frame that is lent, or of a shorter frame all of it.
    #[inline]
    pub fn head(&self, place: usize) -> &[u8] {
        let len = self.lens.get(place).map_or(0, |len| *len as usize);
        self.fronts.head(place, len)
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

    /// The bytes of the frame at `place`, if it is lent.
    #[inline]
    pub fn source(&self, place: usize) -> Option<Source<'_>> {
        if self.lent & 1_u32.checked_shl(place as u32)? == 0 {
            return None;
        }
        let head = self.head(place);
        if let Some(pieces) = self.specials.pieces(place) {
            return Some(Source::new(head, Rest::NONE, pieces));
        }
        let len = (*self.lens.get(place)? as usize).saturating_sub(head.len());
        Some(Source::new(head, Rest { base: *self.rests.get(place)?, len }, &[]))
    }

    /// What the header of the frame at `place` says, as its receiver gets it.
    pub fn header(&self, place: usize) -> virtio::Header {
        self.specials.offload(place).map(|(_, header)| *header).unwrap_or_default()
    }

    /// Writes a header and the lent frame at `place` behind it to another guest; returns the frame's length, `None` if
    /// it is not lent or there is no room for it. If `says_all`, the header says also what the frame's own says.
    #[inline]
    pub fn write(&self, place: usize, header: &[u8], says_all: bool, to: Piece<'_>) -> Option<usize> {
        let mut source = self.source(place)?;
        let len = *self.lens.get(place)? as usize;
        if to.len < header.len() + len {
            return None;
        }
        let mut own = [0; LONG_HEADER];
        let written = match (self.specials.offload(place), own.get_mut(..header.len())) {
            (Some((_, says)), Some(own)) if says_all => {
                own.copy_from_slice(header);
                own.iter_mut().zip(says).for_each(|(to, byte)| *to = *byte);
                own
            }
            _ => header,
        };
        to.write_header(written);
        source.fill(to.behind(header.len()).first(len));
        Some(len)
    }

    /// Writes a header and a lent frame behind it to each of `plains`, from the first on, as long as the next of the
    /// frames at `places` has room there; how many they were, and in `written` how many bytes went to each.
    #[inline]
    pub fn write_all(
        &self,
        places: &[u8],
        header: &[u8],
        says_all: bool,
        plains: &Plains,
        written: &mut [u32; BATCH_LEN],
    ) -> usize {
        let unusual = self.specials.places() | self.fronts.uneven();
        let expected = header.first_chunk().map(|h: &[u8; LONG_HEADER]| halves(h));
        let mut n = 0;
        for ((place, plain), written) in places.iter().zip(plains.ready()).zip(written) {
            let (place, bit) = (usize::from(*place), 1_u32.checked_shl((*place).into()).unwrap_or(0));
            let (Some(copy), Some(rest), Some(len)) =
                (self.fronts.line(place), self.rests.get(place), self.lens.get(place))
            else {
                break;
            };
            let (len, total) = (*len as usize, header.len() as u32 + *len);
            if self.lent & bit == 0 || total > plain.len {
                break;
            }
            *written = total;
            if len < LINE || unusual & bit != 0 {
                let to = Piece { base: plain.base, len: total as usize, memory: PhantomData };
                if self.write(place, header, says_all, to).is_none() {
                    break;
                }
                n += 1;
                continue;
            }
            // As `Piece::write_header`.
            if expected != Some(header_of(plain)) {
                // SAFETY: the buffer is longer than the header, which is ours.
                unsafe { ptr::copy_nonoverlapping(header.as_ptr(), plain.base, header.len()) };
            }
            let body = plain.base.wrapping_add(header.len());
            // SAFETY: the buffer has `total` bytes, which is no less than the header and a line; `copy` is ours.
            unsafe { ptr::copy_nonoverlapping(copy.as_ptr(), body, LINE) };
            if len > LINE {
                // SAFETY: `lend_all` or `lend` noted the address of so many bytes, which `memory` holds, for a frame that is
                // lent, no special one, and of which a line was copied; the buffer has `total` bytes. Both may be the same guest's, who may write meanwhile:
                // the bytes are valid whatever they are.
                unsafe { ptr::copy(*rest, body.wrapping_add(LINE), len - LINE) };
            }
            n += 1;
        }
        n
    }

    /// A copy of the lent frame at `place`.
    pub fn packet_of(&self, place: usize) -> Option<Packet> {
        let mut source = self.source(place)?;
        let len = *self.lens.get(place)? as usize;
        let mut packet = pool::packet(len);
        packet.set_len(len);
        source.read(packet.data_mut());
        packet.offload = self.specials.offload(place).map(|(offload, _)| *offload).unwrap_or_default();
        Some(packet)
    }

    /// Moves the front of a lent frame, as [`Fronts::move_front`].
    fn move_front(&mut self, place: usize, by: i32) -> bool {
        let Some(len) = self.lens.get_mut(place) else { return false };
        let Some(new) = len.checked_add_signed(-by) else { return false };
        if !self.specials.can_move(place, by) || !self.fronts.move_front(place, *len as usize, by) {
            return false;
        }
        *len = new;
        let head = self.fronts.head(place, new as usize);
        self.specials.move_front(place, by, new as usize, head);
        self.alike = None;
        true
    }

    /// Makes a packet of the frame at a place.
    fn push_at(&mut self, place: usize, packet: Packet) -> bool {
        let Some(len) = self.lens.get_mut(place) else { return false };
        *len = packet.len() as u32;
        self.alike = None;
        self.lent &= !(1 << place);
        self.were_lent &= !(1 << place);
        // There is room: each place has one packet at most.
        self.packets.try_push((place, packet)).is_ok()
    }

    /// Notes that frames have been sent.
    #[inline]
    pub fn sent(&mut self, places: u32) {
        self.lent &= !places;
    }
}

/// Copies as many bytes of the frame at `body` as are wanted beyond a line, of which there are as many; what is behind them.
#[inline(never)]
fn read_more(body: Piece<'_>, wanted: usize, front: Front<'_>) -> *mut u8 {
    let more = front.lengthen(wanted);
    body.behind(LINE).read(more);
    body.behind(LINE + more.len()).base
}

/// A header in the form that [`header_of`] has it in.
#[inline]
fn halves(header: &[u8; LONG_HEADER]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, front @ ..] = *header;
    (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u32::from_ne_bytes(front))
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
            *head = self.fronts.shown(place, len);
        }
        for (place, packet) in &self.packets {
            if let Some(head) = heads.get_mut(*place) {
                *head = plain_bytes(packet);
            }
        }
    }

    fn can_copy(&self) -> bool {
        true
    }

    fn copy(&mut self, place: usize) -> Option<Packet> {
        if self.lent.checked_shr(place as u32).is_some_and(|lent| lent & 1 != 0) {
            return self.packet_of(place);
        }
        self.packets.iter().find(|(at, _)| *at == place).map(|(_, packet)| packet.clone())
    }

    #[inline]
    fn unfinished(&self) -> u32 {
        self.unfinished_places()
    }

    fn verified(&self) -> u32 {
        let good = |(_, packet): &&(usize, Packet)| packet.offload.checksum != Checksum::Unknown;
        let packets = self.packets.iter().filter(good).fold(0, |bits, (place, _)| bits | 1 << place);
        self.specials.verified() & self.lent | packets
    }

    fn verify(&mut self, bits: u32) -> u32 {
        let known = bits & self.verified();
        places(bits & !known & self.lent)
            .filter(|place| self.is_right(*place))
            .fold(known, |bits, p| bits | 1 << p)
    }

    /// What grows by a little gets that in its copied head, also if something is left to be done with it. What grows by more
    /// becomes a packet, for where it goes to, its bytes are wanted in one piece; of these, frames with which something is
    /// left to be done stay as they are.
    fn grow<'a>(&'a mut self, by: &Lengths, frames: &mut netdev::burst::Frames<'a>) -> u32 {
        let (mut in_heads, mut grown) = (0, 0);
        for (place, by) in places(self.lent).filter_map(|place| Some((place, *by.get(place)?))) {
            if by > 0 && self.move_front(place, -i32::from(by)) {
                in_heads |= 1 << place;
                continue;
            }
            if !(1..=HEADROOM).contains(&usize::from(by)) || self.unfinished_places() & (1 << place) != 0 {
                continue;
            }
            let Some(mut packet) = self.packet_of(place) else { continue };
            packet.push_front(by.into());
            packet.offload = Offload::default();
            if self.push_at(place, packet) {
                grown |= 1 << place;
            }
        }
        self.fronts.heads_mut(in_heads, &self.lens, |place, head| {
            if let Some(frame) = frames.get_mut(place) {
                *frame = head;
            }
        });
        for (place, packet) in self.packets.iter_mut().filter(|(place, _)| grown & (1 << place) != 0) {
            if let Some(frame) = frames.get_mut(*place) {
                *frame = packet.data_mut();
            }
        }
        in_heads | grown
    }

    /// What is changed is the copied head; packets are changed as such.
    fn edit<'a>(&'a mut self, bits: u32, frames: &mut netdev::burst::Frames<'a>) -> u32 {
        let mut edited = bits & self.lent;
        self.specials.forget(edited);
        // One may be for a group now, or no longer.
        self.alike = None;
        self.fronts.heads_mut(edited, &self.lens, |place, head| {
            if let Some(frame) = frames.get_mut(place) {
                *frame = head;
            }
        });
        for (place, packet) in self.packets.iter_mut().filter(|(place, _)| bits & (1 << place) != 0) {
            if let Some(frame) = frames.get_mut(*place).filter(|_| !plain_bytes(packet).is_empty()) {
                packet.offload = Offload::default();
                *frame = packet.data_mut();
                edited |= 1 << *place;
            }
        }
        edited
    }

    fn can_shrink(&self, by: usize) -> bool {
        by <= SMALL
    }

    fn shrink(&mut self, by: &Lengths) {
        for (place, packet) in &mut self.packets {
            if let Some(by) = by.get(*place).filter(|by| **by > 0) {
                packet.pull_front(usize::from(*by));
                packet.offload.checksum = Checksum::Unknown;
            }
        }
        for (place, by) in places(self.lent).filter_map(|place| Some((place, *by.get(place)?))) {
            if by == 0 || self.move_front(place, i32::from(by)) {
                continue;
            }
            // There is no more of the head than that.
            if let Some(mut packet) = self.packet_of(place) {
                packet.pull_front(by.into());
                self.push_at(place, packet);
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<Packet> {
        if let Some(packet) = self.packet_of(place) {
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
        (self.places, self.alike, self.lent, self.were_lent) = (0, None, 0, 0);
        self.specials.clear();
        self.fronts.clear();
        self.packets.clear();
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
