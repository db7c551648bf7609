//! Lent frames that are more than bytes in one piece behind an empty header: those that leave something to be done to
//! whoever receives them (checksums, segmentation), and those in several pieces.

use super::frames::Frames;
use super::source::Rest;
use super::{HEAD, LONG_HEADER, OutOfRange, Piece};
use crate::pool;
use arrayvec::ArrayVec;
use netdev::burst::{LONG_HEAD, head_len, places};
use netdev::virtio;
use packet::{BATCH_LEN, Checksum, Gso, GsoKind, Offload};

/// Pieces of a frame that stays with the guest, at most: Linux has 18 at most, and a header. Frames in more of them
/// become packets.
const PIECES_MAX: usize = 64;
/// Where the transport header of an IPv4 packet without options is, and of an IPv6 packet without extensions: without a tag
/// and with one.
const L4S: [u16; 4] = [34, 38, 54, 58];
/// From there, the byte that has the length of a TCP header.
const TCP_LEN: usize = 12;

/// What became of a frame that was to be lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lend {
    /// Nothing: it has to become a packet.
    Not,
    /// Its header contradicts it.
    Malformed,
    /// It was taken in, and its buffer is no longer in use.
    Copied,
    /// It was taken in, and the guest must not have its buffer back yet.
    Kept,
}

/// What is to be known of such frames, by place.
pub(super) struct Specials {
    /// Places of those whose header says something.
    headed: u32,
    /// Places of those with which something is left to be done.
    unfinished: u32,
    /// Places of those in several pieces.
    scattered: u32,
    offloads: [Offload; BATCH_LEN],
    /// As the receiver gets them.
    headers: [virtio::Header; BATCH_LEN],
    /// Where a frame's pieces behind its copied head are among `pieces`.
    spans: [(usize, usize); BATCH_LEN],
    pieces: Vec<Rest>,
}

impl Specials {
    pub fn new() -> Self {
        Specials {
            headed: 0,
            unfinished: 0,
            scattered: 0,
            offloads: [Offload::default(); BATCH_LEN],
            headers: [[0; virtio::HEADER_LEN]; BATCH_LEN],
            spans: [(0, 0); BATCH_LEN],
            pieces: Vec::new(),
        }
    }

    #[inline]
    pub fn clear(&mut self) {
        if self.places() != 0 {
            (self.headed, self.unfinished, self.scattered) = (0, 0, 0);
            self.pieces.clear();
        }
    }

    /// Places of all of them.
    #[inline]
    pub fn places(&self) -> u32 {
        self.headed | self.scattered
    }

    /// The pieces of a frame, if it has several.
    pub fn pieces(&self, place: usize) -> Option<&[Rest]> {
        let (first, end) = *self.spans.get(place).filter(|_| is_set(self.scattered, place))?;
        self.pieces.get(first..end)
    }

    /// What is left to be done with a frame, and how its header says so.
    pub fn offload(&self, place: usize) -> Option<(&Offload, &virtio::Header)> {
        self.offloads.get(place).zip(self.headers.get(place)).filter(|_| is_set(self.headed, place))
    }

    fn note_header(&mut self, place: usize, offload: Offload, header: virtio::Header) {
        if let (Some(own), Some(own_header)) = (self.offloads.get_mut(place), self.headers.get_mut(place)) {
            (*own, *own_header) = (offload, header);
            self.headed |= 1 << place;
            let is_finished = offload.gso.is_none() && !matches!(offload.checksum, Checksum::Partial { .. });
            self.unfinished |= u32::from(!is_finished) << place;
        }
    }

    /// Places of those whose checksums were found right, or are left to the receiver.
    pub fn verified(&self) -> u32 {
        let is_known = |place: &usize| {
            self.offload(*place).is_some_and(|(offload, _)| offload.checksum != Checksum::Unknown)
        };
        places(self.headed).filter(is_known).fold(0, |bits, place| bits | 1 << place)
    }

    /// Forgets what was found out about frames with which nothing is left to be done.
    #[inline]
    pub fn forget(&mut self, bits: u32) {
        self.headed &= !bits | self.unfinished;
    }

    /// Whether what is left to be done with a frame is still known when it has lost so many bytes at its front.
    pub fn can_move(&self, place: usize, by: i32) -> bool {
        match self.offload(place).map(|(offload, _)| offload.checksum) {
            Some(Checksum::Partial { start, .. }) => moved(start, by).is_some(),
            _ => true,
        }
    }

    /// Notes that a frame, which has `len` bytes now, lost so many at its front; `head` is what is copied of it.
    pub fn move_front(&mut self, place: usize, by: i32, len: usize, head: &[u8]) {
        self.forget(1_u32.checked_shl(place as u32).unwrap_or(0));
        if !is_set(self.headed, place) {
            return;
        }
        if let (Some(offload), Some(header)) = (self.offloads.get_mut(place), self.headers.get_mut(place)) {
            if let Checksum::Partial { start, .. } = &mut offload.checksum {
                *start = moved(*start, by).unwrap_or(*start);
            }
            *header = virtio::encode_offload(offload, len, |at| head.get(at).copied());
        }
    }

    fn note_pieces(&mut self, place: usize, rests: &[Rest]) {
        if let Some(span) = self.spans.get_mut(place) {
            *span = (self.pieces.len(), self.pieces.len() + rests.len());
            self.pieces.extend_from_slice(rests);
            self.scattered |= 1 << place;
        }
    }
}

/// Where something is that was at `at`, when so many bytes in front of it are gone.
fn moved(at: u16, by: i32) -> Option<u16> {
    u16::try_from(i32::from(at) - by).ok()
}

#[inline]
fn is_set(bits: u32, place: usize) -> bool {
    bits.checked_shr(place as u32).unwrap_or(0) & 1 != 0
}

/// Whether frames that ask for this, and of which so many bytes are copied, may stay with the guest. Cuts of other shapes
/// than the switch has a short way for are left to a closer look.
fn is_usual(offload: &Offload, head: usize) -> bool {
    match *offload {
        Offload { gso: None, .. } => true,
        Offload { checksum: Checksum::Partial { start, .. }, gso: Some(Gso { kind, .. }) } => {
            L4S.contains(&start) && (kind == GsoKind::Udp || usize::from(start) + TCP_LEN < head)
        }
        _ => false,
    }
}

impl Frames {
    /// Takes in a frame of `len` bytes behind a header of `header_len`, which are all that is at `segments`, guest
    /// addresses with lengths. Header and head are read once, here.
    pub fn lend_any(
        &mut self,
        segments: impl Iterator<Item = (u64, usize)>,
        header_len: usize,
        len: usize,
    ) -> Result<Lend, OutOfRange> {
        let place = self.places;
        let Some(memory) = self.memory.as_ref().filter(|_| len <= pool::FRAME_MAX && place < BATCH_LEN)
        else {
            return Ok(Lend::Not);
        };
        let mut header = [0; LONG_HEADER];
        let mut head = [0; LONG_HEAD];
        // Of the head: bytes that are there, and that are wanted as far as is known.
        let (mut have, mut want) = (0, len.min(HEAD));
        let mut rests = ArrayVec::<Rest, PIECES_MAX>::new();
        let mut wanted = header.get_mut(..header_len).unwrap_or_default();
        for (mut addr, mut left) in segments {
            while left > 0 {
                let mut piece: Piece<'_> = memory.piece(addr, left)?;
                (addr, left) = (addr.wrapping_add(piece.len as u64), left - piece.len);
                let n = wanted.len().min(piece.len);
                let (now, later) = std::mem::take(&mut wanted).split_at_mut(n);
                piece.read(now);
                (wanted, piece) = (later, piece.behind(n));
                while have < want && !piece.is_empty() {
                    let n = (want - have).min(piece.len);
                    piece.read(head.get_mut(have..have + n).unwrap_or_default());
                    (have, piece) = (have + n, piece.behind(n));
                    if have == HEAD {
                        want = head_len(&head).min(len);
                    }
                }
                if piece.is_empty() {
                    continue;
                }
                if rests.try_push(Rest { base: piece.base, len: piece.len }).is_err() {
                    return Ok(Lend::Not);
                }
            }
        }
        let Some(short) = header.first_chunk() else { return Ok(Lend::Not) };
        let Ok(offload) = virtio::offload(short, len) else { return Ok(Lend::Malformed) };
        let head = head.get(..have).unwrap_or_default();
        let behind = rests.iter().map(|r| r.len).sum::<usize>();
        if !is_usual(&offload, have) || have != want || behind != len - have {
            return Ok(Lend::Not);
        }
        self.take_in(head, rests.first().copied().unwrap_or(Rest::NONE), len);
        if offload != Offload::default() {
            let header = virtio::encode_offload(&offload, len, |at| head.get(at).copied());
            self.specials.note_header(place, offload, header);
        }
        if rests.len() > 1 {
            self.specials.note_pieces(place, &rests);
        }
        Ok(if rests.is_empty() { Lend::Copied } else { Lend::Kept })
    }

    /// What is left to be done with the lent frames at some places.
    pub fn unfinished_at(&self, bits: u32) -> impl Iterator<Item = &Offload> {
        let bits = bits & self.specials.unfinished;
        places(bits).filter_map(|place| self.specials.offload(place)).map(|(offload, _)| offload)
    }

    /// Places of lent frames with which something is left to be done.
    #[inline]
    pub fn unfinished_places(&self) -> u32 {
        self.specials.unfinished & self.lent
    }
}
