//! Frames over a ring: virtio-net headers, buffers, calls.

use crate::inflight::Record;
use crate::mem::fault;
use crate::mem::frames::{FRAME_MIN, Frames};
use crate::mem::plains::Plains;
use crate::mem::source::Source;
use crate::mem::specials::Lend;
use crate::mem::{DirtyLog, GuestMemory, LONG_HEADER, Piece};
use crate::pool;
use crate::protocol::feature;
use crate::ring::{Burst, CHAIN_MAX, Direction, Head, Ring, Segment, Violation};
use arrayvec::ArrayVec;
use netdev::virtio;
use packet::{BATCH_LEN, Batch, Checksum, GsoKind, Offload, Packet};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// `struct virtio_net_hdr` without `num_buffers`.
const SHORT_HEADER: usize = virtio::HEADER_LEN;

/// What one call did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxCount {
    pub too_big: u64,
    pub malformed: u64,
    /// The guest was called.
    pub called: bool,
}

/// A ring that runs, with all that moving frames over it takes.
pub struct Vring {
    pub ring: Ring,
    pub memory: Arc<GuestMemory>,
    pub log: Option<Arc<DirtyLog>>,
    /// Where the driver hears of used buffers.
    pub call: Option<Arc<File>>,
    /// Negotiated features.
    pub features: u64,
    /// Buffers that were fetched and wait to be used; they are being prefetched until the next call. If there are none,
    /// those of `burst`: of any form, so many of which were used.
    plains: Plains,
    /// Behind them is a buffer that is not plain.
    has_odd: bool,
    burst: Burst,
    next: usize,
    /// Buffers of a burst of [`Frames`], to be given back when it is over: identifiers and slots.
    owed: ArrayVec<(u16, u16), BATCH_LEN>,
    /// Where the ring's position is noted for a back end after us.
    record: Option<Record>,
    /// [`fault::lost_count`] when this ring's memory was last looked after.
    lost_seen: u64,
    /// The region that was found last.
    near: usize,
}

/// What is sent: packets, or frames of another guest.
trait Outgoing {
    fn count(&self) -> usize;
    /// Writes header and frame to `to` if the frame asks for nothing and there is room for it; its length then.
    fn write(&self, at: usize, header: &[u8], to: Piece<'_>) -> Option<usize>;
    /// As [`Outgoing::write`], frames from `at` on to buffers from the first on, as far as it goes; how many, and in
    /// `written` how many bytes went to each.
    #[inline]
    fn write_all(&self, at: usize, header: &[u8], to: &Plains, written: &mut [u32; BATCH_LEN]) -> usize {
        let mut n = 0;
        while let (Some(piece), Some(written)) = (to.piece(n), written.get_mut(n))
            && let Some(len) = self.write(at + n, header, piece)
        {
            *written = (header.len() + len) as u32;
            n += 1;
        }
        n
    }
    /// The frame's length, what its header says to a driver that takes offloads, and its bytes.
    fn open(&self, at: usize) -> Option<(usize, virtio::Header, Source<'_>)>;
}

impl Outgoing for [Packet] {
    fn count(&self) -> usize {
        self.len()
    }
    #[inline]
    fn write(&self, at: usize, header: &[u8], to: Piece<'_>) -> Option<usize> {
        let packet = self.get(at).filter(|p| p.offload == Offload::default())?;
        let data = packet.data();
        if to.len() < header.len() + data.len() {
            return None;
        }
        to.write_header(header);
        let body = to.behind(header.len());
        match data.try_into() {
            Ok(line) => body.write_line(line),
            Err(_) => body.write(data),
        }
        Some(data.len())
    }
    fn open(&self, at: usize) -> Option<(usize, virtio::Header, Source<'_>)> {
        let packet = self.get(at)?;
        let is_plain = packet.offload == Offload::default();
        let header = if is_plain { virtio::Header::default() } else { virtio::encode(packet) };
        Some((packet.len(), header, Source::of(packet.data())))
    }
}

/// Frames at some places of a burst.
struct Lent<'f> {
    frames: &'f Frames,
    places: &'f [u8],
    /// The driver gets to know what their headers say.
    says_all: bool,
}

impl Lent<'_> {
    #[inline]
    fn place(&self, at: usize) -> Option<usize> {
        self.places.get(at).map(|place| usize::from(*place))
    }
}

impl Outgoing for Lent<'_> {
    fn count(&self) -> usize {
        self.places.len()
    }
    #[inline]
    fn write(&self, at: usize, header: &[u8], to: Piece<'_>) -> Option<usize> {
        self.frames.write(self.place(at)?, header, self.says_all, to)
    }
    #[inline]
    fn write_all(&self, at: usize, header: &[u8], to: &Plains, written: &mut [u32; BATCH_LEN]) -> usize {
        let places = self.places.get(at..).unwrap_or_default();
        self.frames.write_all(places, header, self.says_all, to, written)
    }
    fn open(&self, at: usize) -> Option<(usize, virtio::Header, Source<'_>)> {
        let place = self.place(at)?;
        Some((self.frames.shown_at(place).1, self.frames.header(place), self.frames.source(place)?))
    }
}

impl Vring {
    pub fn new(
        ring: Ring,
        memory: Arc<GuestMemory>,
        log: Option<Arc<DirtyLog>>,
        call: Option<Arc<File>>,
        features: u64,
    ) -> Self {
        let (burst, next, owed, near) = (Burst::default(), 0, ArrayVec::new(), 0);
        let plains = Plains::new(memory.clone());
        // A count that never is: memory may be lost already.
        Vring {
            ring,
            memory,
            log,
            call,
            features,
            plains,
            has_odd: false,
            burst,
            next,
            owed,
            record: None,
            lost_seen: u64::MAX,
            near,
        }
    }

    /// Notes the position from now on.
    pub fn note_in(&mut self, record: Option<Record>) {
        if let Some(record) = &record {
            record.begin(self.ring.returned());
        }
        self.record = record;
    }

    /// Shows the driver what was given back.
    #[inline]
    fn publish(&mut self) {
        self.ring.publish();
        if let Some(record) = &self.record {
            record.note(self.ring.returned());
        }
    }

    /// Whether the guest's memory is still there.
    #[inline]
    fn look_after(&mut self) -> Result<(), Violation> {
        let lost = fault::lost_count();
        if lost != self.lost_seen {
            if self.memory.is_lost() {
                return Err(Violation::Lost);
            }
            self.lost_seen = lost;
        }
        Ok(())
    }

    /// Gives everything back, also what is in a burst that is not over; the ring's position then.
    pub fn stop(&mut self) -> u32 {
        self.spill();
        self.ring.unfetch(self.burst.heads().get(self.next..).unwrap_or_default());
        self.burst.clear();
        self.next = 0;
        self.settle();
        self.finish();
        self.ring.base()
    }

    /// Gives the buffers of the last burst back, which is over.
    #[inline]
    fn settle(&mut self) {
        if self.owed.iter().all(|(_, slots)| *slots == 1) {
            self.ring.give_back_read(self.owed.iter().map(|(id, _)| *id));
        } else {
            self.owed.iter().for_each(|(id, slots)| self.ring.give_back(*id, *slots, 0));
        }
        self.owed.clear();
    }

    /// Turns buffers at hand into those of any form.
    fn spill(&mut self) {
        if self.plains.is_empty() {
            return;
        }
        // There are none, or all were used.
        self.burst.clear();
        self.next = 0;
        for plain in self.plains.ready() {
            self.burst.push_plain(Segment { addr: plain.addr, len: plain.len }, plain.id);
        }
        self.plains.advance(BATCH_LEN);
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn header_len(&self) -> usize {
        if self.has(feature::MRG_RXBUF | feature::VERSION_1) { LONG_HEADER } else { SHORT_HEADER }
    }

    /// What the driver takes unfinished.
    #[inline]
    pub fn takes(&self, offload: &Offload) -> bool {
        if offload.gso.is_none() && !matches!(offload.checksum, Checksum::Partial { .. }) {
            return true;
        }
        let gso = match offload.gso.map(|g| (g.kind, g.ecn)) {
            None => true,
            Some((GsoKind::Tcp4, ecn)) => {
                self.has(feature::GUEST_TSO4) && (!ecn || self.has(feature::GUEST_ECN))
            }
            Some((GsoKind::Tcp6, ecn)) => {
                self.has(feature::GUEST_TSO6) && (!ecn || self.has(feature::GUEST_ECN))
            }
            Some((GsoKind::Udp, _)) => {
                self.features & (feature::GUEST_USO4 | feature::GUEST_USO6)
                    == feature::GUEST_USO4 | feature::GUEST_USO6
            }
        };
        gso && (self.has(feature::GUEST_CSUM) || !matches!(offload.checksum, Checksum::Partial { .. }))
    }

    /// Appends frames that the driver sent to `batch`, until it is full.
    pub fn receive(&mut self, batch: &mut Batch, count: &mut RxCount) -> Result<(), Violation> {
        let max = batch.remaining_capacity();
        self.receive_with(max, count, |ring, burst, head, count| {
            batch.extend(ring.gather(burst, head, count)?);
            Ok(false)
        })
    }

    /// Receives up to a batch of frames, which stay in the driver's buffers as far as they can. Until the next call or
    /// [`Vring::stop`] the driver does not get these back: the burst has to be over by then.
    #[inline]
    pub fn receive_frames(&mut self, frames: &mut Frames, count: &mut RxCount) -> Result<(), Violation> {
        frames.begin(&self.memory);
        let header_len = self.header_len();
        self.look_after()?;
        self.settle();
        let fetched = self.refetch(Direction::Read);
        let (n, are_lent) = frames.lend_all(&self.plains, header_len);
        let ids = self.plains.ready().iter().take(n).map(|plain| plain.id);
        if are_lent {
            // There is room: no more than a batch is taken at a time.
            self.owed.extend(ids.map(|id| (id, 1)));
        } else {
            self.ring.give_back_read(ids);
        }
        self.plains.advance(n);
        // Where there are plain ones, all of the burst was used before.
        if n > 0 && self.plains.is_empty() && !self.has_odd {
            return self.end(true, count);
        }
        self.take_all(BATCH_LEN - n, n > 0, fetched, count, |ring, burst, head, count| {
            if let Some(segment) = burst.only(head)
                && let Some(len) = (segment.len as usize).checked_sub(header_len)
                && len >= FRAME_MIN
                && let Some(is_lent) = frames.lend(&mut ring.near, segment.addr, header_len, len)?
            {
                return Ok(is_lent);
            }
            let total =
                burst.len(head).checked_sub(header_len as u64).and_then(|len| usize::try_from(len).ok());
            if let Some(len) = total.filter(|len| *len >= FRAME_MIN) {
                let segments = burst.segments(head).iter().map(|s| (s.addr, s.len as usize));
                match frames.lend_any(segments, header_len, len)? {
                    Lend::Not => {}
                    Lend::Malformed => {
                        count.malformed += 1;
                        return Ok(false);
                    }
                    lend => return Ok(lend == Lend::Kept),
                }
            }
            if let Some(packet) = ring.gather(burst, head, count)? {
                frames.push(packet);
            }
            Ok(false)
        })
    }

    /// Takes up to `max` frames by `take`, which says whether the buffer is in use still.
    #[inline]
    fn receive_with(
        &mut self,
        max: usize,
        count: &mut RxCount,
        take: impl FnMut(&mut Self, &Burst, Head, &mut RxCount) -> Result<bool, Violation>,
    ) -> Result<(), Violation> {
        self.look_after()?;
        self.settle();
        let fetched = self.refetch(Direction::Read);
        self.take_all(max, false, fetched, count, take)
    }

    /// As [`Vring::receive_with`], when buffers were fetched and, perhaps, some taken.
    #[inline(never)]
    fn take_all(
        &mut self,
        max: usize,
        has_some: bool,
        fetched: Result<(), Violation>,
        count: &mut RxCount,
        mut take: impl FnMut(&mut Self, &Burst, Head, &mut RxCount) -> Result<bool, Violation>,
    ) -> Result<(), Violation> {
        self.spill();
        let (mut result, mut left) = (fetched, max);
        while left > 0 {
            if self.next >= self.burst.heads().len() {
                if !self.has_odd || result.is_err() {
                    break;
                }
                result = self.fetch_any(Direction::Read, self.header_len());
            }
            let burst = std::mem::take(&mut self.burst);
            let taken = self.take_some(&burst, left, count, &mut take);
            self.burst = burst;
            match taken {
                Ok(n) => left -= n,
                Err(violation) => {
                    result = Err(violation);
                    break;
                }
            }
        }
        let ended = self.end(result.is_ok() && (left < max || has_some), count);
        result.and(ended)
    }

    /// Takes up to `max` of the buffers of `burst` that wait; how many.
    fn take_some(
        &mut self,
        burst: &Burst,
        max: usize,
        count: &mut RxCount,
        take: &mut impl FnMut(&mut Self, &Burst, Head, &mut RxCount) -> Result<bool, Violation>,
    ) -> Result<usize, Violation> {
        let ready = burst.heads().get(self.next..).unwrap_or_default();
        let n = ready.len().min(max);
        for head in ready.iter().take(n) {
            self.next += 1;
            match take(self, burst, *head, count)? {
                false if self.owed.is_empty() => self.ring.give_back(head.id, head.slots, 0),
                // There is room: no more than a batch is taken at a time.
                _ => self.owed.push((head.id, head.slots)),
            }
        }
        Ok(n)
    }

    /// Ends a call that received: shows the driver what it gets back, and fetches if so asked.
    #[inline]
    fn end(&mut self, fetches: bool, count: &mut RxCount) -> Result<(), Violation> {
        count.called = self.finish();
        let result = if fetches { self.refetch(Direction::Read) } else { Ok(()) };
        self.look_after().and(result)
    }

    /// Fetches buffers if all of those at hand were used, and asks for their first lines, so that these come at the
    /// same time and, what is fetched at the end of a call, while the thread does something else.
    #[inline]
    fn refetch(&mut self, direction: Direction) -> Result<(), Violation> {
        if !self.plains.is_empty() || self.next < self.burst.heads().len() {
            return Ok(());
        }
        let header_len = self.header_len();
        self.plains.begin(header_len, direction == Direction::Write);
        let is_more = self.ring.fetch_plain(&mut self.plains);
        self.has_odd = is_more && self.plains.room() > 0;
        if !self.plains.is_empty() || !is_more {
            return Ok(());
        }
        self.fetch_any(direction, header_len)
    }

    /// Fetches buffers of any form.
    #[inline(never)]
    fn fetch_any(&mut self, direction: Direction, header_len: usize) -> Result<(), Violation> {
        self.burst.clear();
        self.next = 0;
        self.has_odd = false;
        let result = self.ring.fetch(&self.memory, direction, BATCH_LEN, &mut self.burst);
        for segment in self.burst.heads().iter().filter_map(|h| self.burst.only(*h)) {
            let Ok(piece) = self.memory.rest(&mut self.near, segment.addr) else { continue };
            match direction {
                Direction::Read => piece.prefetch(header_len),
                Direction::Write => piece.prefetch_to_write(header_len),
            }
        }
        result
    }

    /// Copies the frame in a buffer of any number of pieces.
    fn gather(&self, burst: &Burst, head: Head, count: &mut RxCount) -> Result<Option<Packet>, Violation> {
        let header_len = self.header_len();
        let total = burst.len(head);
        let Some(len) = total.checked_sub(header_len as u64).filter(|n| *n >= FRAME_MIN as u64) else {
            count.malformed += 1;
            return Ok(None);
        };
        let Some(len) = usize::try_from(len).ok().filter(|n| *n <= pool::FRAME_MAX) else {
            count.too_big += 1;
            return Ok(None);
        };
        let mut packet = pool::packet(len);
        packet.set_len(len);
        let mut header = [0; LONG_HEADER];
        let mut wanted: &mut [u8] = &mut header[..header_len];
        let mut body: &mut [u8] = packet.data_mut();
        for segment in burst.segments(head) {
            let (mut addr, mut left) = (segment.addr, segment.len as usize);
            for part in [&mut wanted, &mut body] {
                let n = left.min(part.len());
                let (now, later) = std::mem::take(part).split_at_mut(n);
                self.memory.read(addr, now)?;
                *part = later;
                addr = addr.wrapping_add(n as u64);
                left -= n;
            }
        }
        let Some(short) = header.first_chunk::<SHORT_HEADER>() else { return Ok(None) };
        if *short != [0; SHORT_HEADER] && virtio::decode(short, &mut packet).is_err() {
            count.malformed += 1;
            return Ok(None);
        }
        Ok(Some(packet))
    }

    /// Sends as many of `packets` as there are buffers for; returns how many, before calling the driver.
    ///
    /// Frames that need more than the driver's offloads are not given to this.
    pub fn transmit(&mut self, packets: &[Packet], too_big: &mut u32) -> Result<usize, Violation> {
        self.transmit_all(packets, too_big)
    }

    /// As [`Vring::transmit`], frames that are still with the guest that sent them, by their places.
    pub fn transmit_frames(
        &mut self,
        frames: &Frames,
        places: &[u8],
        too_big: &mut u32,
    ) -> Result<usize, Violation> {
        let says_all = self.has(feature::GUEST_CSUM);
        self.transmit_all(&Lent { frames, places, says_all }, too_big)
    }

    #[inline]
    fn transmit_all<O: Outgoing + ?Sized>(
        &mut self,
        frames: &O,
        too_big: &mut u32,
    ) -> Result<usize, Violation> {
        self.look_after()?;
        let mut header = [0; LONG_HEADER];
        header[SHORT_HEADER..].copy_from_slice(&1u16.to_le_bytes());
        let plain = &header[..self.header_len()];
        let mut done = 0;
        let mut result = Ok(());
        while done < frames.count() {
            if result.is_ok() {
                result = self.refetch(Direction::Write);
            }
            let n = self.put_all(plain, frames, done);
            if n > 0 {
                done += n;
                continue;
            }
            self.spill();
            if self.put_plain(plain, frames, done) {
                self.next += 1;
                done += 1;
                continue;
            }
            let Some((len, header, source)) = frames.open(done) else { break };
            match self.put(len, header, source, too_big) {
                Ok(Some(used)) => {
                    self.next += used;
                    done += 1;
                }
                Ok(None) => break,
                Err(violation) => {
                    result = Err(violation);
                    break;
                }
            }
        }
        self.publish();
        if result.is_ok() {
            result = self.refetch(Direction::Write);
        }
        self.look_after().and(result).map(|()| done)
    }

    /// Writes frames without offloads to buffers in one piece that have room for them; how many.
    #[inline]
    fn put_all<O: Outgoing + ?Sized>(&mut self, header: &[u8], frames: &O, at: usize) -> usize {
        let mut written = [0; BATCH_LEN];
        let n = frames.write_all(at, header, &self.plains, &mut written);
        let used = || self.plains.ready().iter().zip(&written).take(n);
        if let Some(log) = &self.log {
            used().for_each(|(plain, written)| log.mark(plain.addr, (*written).into()));
        }
        self.ring.give_back_all(used().map(|(plain, written)| (plain.id, *written)));
        self.plains.advance(n);
        n
    }

    /// Writes a frame without offloads to a buffer in one piece that has room for it; false if it is no such buffer.
    #[inline]
    fn put_plain<O: Outgoing + ?Sized>(&mut self, header: &[u8], frames: &O, at: usize) -> bool {
        let Some(head) = self.burst.heads().get(self.next).copied() else { return false };
        let Some(segment) = self.burst.only(head) else { return false };
        let Ok(piece) = self.memory.rest(&mut self.near, segment.addr) else { return false };
        let Some(len) = frames.write(at, header, piece.first(segment.len as usize)) else { return false };
        let total = header.len() + len;
        if let Some(log) = &self.log {
            log.mark(segment.addr, total as u64);
        }
        self.ring.give_back(head.id, head.slots, total as u32);
        true
    }

    /// Shows the driver what was given back, and calls it if it wants that; whether it did.
    pub fn finish(&mut self) -> bool {
        self.publish();
        if self.ring.wants_call()
            && let Some(call) = &self.call
        {
            // A counter that is full has woken the driver already.
            let _ = (&**call).write(&1u64.to_ne_bytes());
            return true;
        }
        false
    }

    /// Copies one frame to the next buffers of the driver, of which more are fetched if need be; how many it took, `None`
    /// if there are not enough of them.
    fn put(
        &mut self,
        len: usize,
        header: virtio::Header,
        source: Source<'_>,
        too_big: &mut u32,
    ) -> Result<Option<usize>, Violation> {
        let needed = (self.header_len() + len) as u64;
        let (mut room, mut used, mut segments) = (0, 0, 0);
        while room < needed {
            if self.burst.heads().len() == self.next + used {
                self.ring.fetch(&self.memory, Direction::Write, 1, &mut self.burst)?;
            }
            let Some(head) = self.burst.heads().get(self.next + used).copied() else { return Ok(None) };
            if used >= usize::from(self.ring.size()) {
                return Ok(None);
            }
            room += self.burst.len(head);
            used += 1;
            segments += self.burst.segments(head).len();
            // Else buffers of no length, in tables as long as may be, would keep this thread here.
            if segments > CHAIN_MAX {
                return Err(Violation::ChainLength);
            }
            if room < needed && !self.features & feature::MRG_RXBUF != 0 {
                // The driver's buffers hold no frame of this size: there is no point in waiting.
                *too_big += 1;
                return Ok(Some(0));
            }
        }
        self.scatter(header, source, used)?;
        Ok(Some(used))
    }

    /// Writes header and frame to so many buffers, which have room for them, and gives those back.
    fn scatter(&mut self, says: virtio::Header, mut body: Source<'_>, used: usize) -> Result<(), Violation> {
        let mut header = [0; LONG_HEADER];
        if self.has(feature::GUEST_CSUM) {
            header[..SHORT_HEADER].copy_from_slice(&says);
        }
        header[SHORT_HEADER..].copy_from_slice(&(used as u16).to_le_bytes());
        let mut head = &header[..self.header_len()];
        for buffer in self.burst.heads().iter().skip(self.next).take(used) {
            let mut written = 0;
            for segment in self.burst.segments(*buffer) {
                let (mut addr, mut left) = (segment.addr, segment.len as usize);
                while left > 0 && !(head.is_empty() && body.is_empty()) {
                    let piece = self.memory.piece(addr, left)?;
                    let (now, later) = head.split_at(head.len().min(piece.len()));
                    piece.write(now);
                    head = later;
                    let n = now.len() + body.fill(piece.behind(now.len()));
                    if let Some(log) = &self.log {
                        log.mark(addr, n as u64);
                    }
                    addr = addr.wrapping_add(n as u64);
                    left -= n;
                    written += n as u32;
                }
            }
            self.ring.give_back(buffer.id, buffer.slots, written);
        }
        Ok(())
    }
}
