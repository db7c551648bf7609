//! Frames over a ring: virtio-net headers, buffers, calls.

use crate::inflight::Record;
use crate::mem::fault;
use crate::mem::loan::{self, Lender, Ticket};
use crate::mem::{DirtyLog, FRONT, GuestMemory, HEAD, LONG_HEADER};
use crate::pool::{self, Buffers};
use crate::protocol::feature;
use crate::ring::{Burst, CHAIN_MAX, Direction, Head, Ring, Violation};
use arrayvec::ArrayVec;
use netdev::virtio;
use packet::{BATCH_LEN, Batch, Checksum, GsoKind, HEADROOM, Offload, Packet};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `struct virtio_net_hdr` without `num_buffers`.
const SHORT_HEADER: usize = virtio::HEADER_LEN;
/// `sizeof (struct ether_header)`.
const ETHERNET_HEADER: usize = 14;

/// What one call did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxCount {
    pub too_big: u64,
    pub malformed: u64,
    /// The guest was called.
    pub called: bool,
}

/// A buffer that the driver lent us and that was not given back: those before it come first.
struct Owed {
    id: u16,
    slots: u16,
    loan: Option<Ticket>,
}

/// Frames of so many bytes are lent rather than copied.
const LOAN_MIN: usize = 256;
/// How long a ring that stops waits for frames that are under way.
const STOP_PATIENCE: Duration = Duration::from_millis(50);

/// A ring that runs, with all that moving frames over it takes.
pub struct Vring {
    pub ring: Ring,
    pub memory: Arc<GuestMemory>,
    pub log: Option<Arc<DirtyLog>>,
    /// Where the driver hears of used buffers.
    pub call: Option<Arc<File>>,
    /// Negotiated features.
    pub features: u64,
    /// Buffers that were fetched, and how many of them were used: the others are being prefetched until the next call.
    burst: Burst,
    next: usize,
    owed: VecDeque<Owed>,
    lender: Lender,
    /// Where the ring's position is noted for a back end after us.
    record: Option<Record>,
    /// [`fault::lost_count`] when this ring's memory was last looked after.
    lost_seen: u64,
    /// Regions that were found last, for headers and for the rest.
    near: [usize; 2],
}

/// Where the first bytes of a frame go in a small buffer.
#[inline]
fn front_of(buffer: &mut [u8]) -> Result<&mut [u8; FRONT], Violation> {
    buffer.get_mut(HEADROOM..).and_then(|b| b.first_chunk_mut()).ok_or(Violation::Address)
}

impl Vring {
    pub fn new(
        ring: Ring,
        memory: Arc<GuestMemory>,
        log: Option<Arc<DirtyLog>>,
        call: Option<Arc<File>>,
        features: u64,
    ) -> Self {
        let lender = Lender::new(memory.clone());
        let (burst, next, owed, near) = (Burst::default(), 0, VecDeque::new(), [0; 2]);
        // A count that never is: memory may be lost already.
        Vring {
            ring,
            memory,
            log,
            call,
            features,
            burst,
            next,
            owed,
            lender,
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

    /// Gives everything back, if need be after a moment in which frames under way arrive; the ring's position then.
    pub fn stop(&mut self) -> u32 {
        self.ring.unfetch(self.burst.heads().get(self.next..).unwrap_or_default());
        self.burst.clear();
        self.next = 0;
        let begin = Instant::now();
        loop {
            self.settle();
            if self.owed.is_empty() || begin.elapsed() > STOP_PATIENCE {
                break;
            }
            std::thread::yield_now();
        }
        // A frame that is still somewhere keeps its memory, and arrives with whatever the guest puts there.
        for owed in std::mem::take(&mut self.owed) {
            self.ring.give_back(owed.id, owed.slots, 0);
        }
        self.finish();
        self.ring.base()
    }

    /// Buffers that were not given back yet.
    #[cfg(test)]
    pub(crate) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Gives buffers back whose frames have arrived.
    #[inline]
    fn settle(&mut self) {
        while let Some(first) = self.owed.front() {
            if first.loan.is_some_and(|ticket| !self.lender.is_settled(ticket)) {
                break;
            }
            self.ring.give_back(first.id, first.slots, 0);
            self.owed.pop_front();
        }
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

    /// Appends frames that the driver sent to `batch`, until it is full. With `lends`, frames may be on loan.
    pub fn receive(&mut self, batch: &mut Batch, lends: bool, count: &mut RxCount) -> Result<(), Violation> {
        self.look_after()?;
        self.settle();
        // A frame that lingers somewhere holds up all buffers behind it: no more until it has gone.
        let lends = lends && self.owed.is_empty();
        let mut result = self.refetch(Direction::Read);
        let burst = std::mem::take(&mut self.burst);
        let ready = burst.heads().get(self.next..).unwrap_or_default();
        let n = ready.len().min(batch.remaining_capacity());
        if n > 0 {
            let mut buffers = ArrayVec::new();
            pool::take(n, &mut buffers);
            for head in ready.iter().take(n) {
                self.next += 1;
                match self.take(&burst, *head, lends, &mut buffers, count) {
                    Ok(None) => self.owe(*head, None),
                    Ok(Some((packet, loan))) => {
                        batch.push(packet);
                        self.owe(*head, loan);
                    }
                    Err(violation) => {
                        result = Err(violation);
                        break;
                    }
                }
            }
            pool::give(buffers);
        }
        self.burst = burst;
        count.called = self.finish();
        if n > 0 && result.is_ok() {
            result = self.refetch(Direction::Read);
        }
        self.look_after().and(result)
    }

    /// Fetches buffers if all of those at hand were used, and asks for their first lines, so that these come at the
    /// same time and, what is fetched at the end of a call, while the thread does something else.
    #[inline]
    fn refetch(&mut self, direction: Direction) -> Result<(), Violation> {
        if self.next < self.burst.heads().len() {
            return Ok(());
        }
        self.burst.clear();
        self.next = 0;
        let result = self.ring.fetch(&self.memory, direction, BATCH_LEN, &mut self.burst);
        for segment in self.burst.heads().iter().filter_map(|h| self.burst.only(*h)) {
            let Ok(piece) = self.memory.rest(&mut self.near[0], segment.addr) else { continue };
            match direction {
                Direction::Read => piece.prefetch(LONG_HEADER),
                Direction::Write => piece.prefetch_to_write(LONG_HEADER),
            }
        }
        result
    }

    #[inline]
    fn owe(&mut self, head: Head, loan: Option<Ticket>) {
        if loan.is_none() && self.owed.is_empty() {
            self.ring.give_back(head.id, head.slots, 0);
        } else {
            self.owed.push_back(Owed { id: head.id, slots: head.slots, loan });
        }
    }

    /// The frame in a buffer: of a usual one, in one piece, the head is copied and the rest copied or lent.
    #[inline]
    fn take(
        &mut self,
        burst: &Burst,
        head: Head,
        lends: bool,
        buffers: &mut Buffers,
        count: &mut RxCount,
    ) -> Result<Option<(Packet, Option<Ticket>)>, Violation> {
        let header_len = self.header_len();
        if let Some(segment) = burst.only(head)
            && let total = segment.len as usize
            && (header_len + ETHERNET_HEADER..=header_len + pool::SMALL_FRAME_MAX).contains(&total)
            && let piece = self.memory.rest(&mut self.near[0], segment.addr)?
            && piece.len() >= total
            && let Some(buffer) = buffers.pop()
        {
            let Some(short) = piece.header().first_chunk::<SHORT_HEADER>().copied() else { return Ok(None) };
            let (body, len) = (piece.behind(header_len), total - header_len);
            let is_plain = short == [0; SHORT_HEADER];
            let mut buffer = buffer;
            if lends && is_plain && len >= LOAN_MIN {
                body.read_head(HEAD, front_of(buffer)?);
                let rest = segment.addr.wrapping_add((header_len + HEAD) as u64);
                match self.lender.lend(buffer, len, rest, &mut self.near[1]) {
                    Ok((packet, ticket)) => return Ok(Some((packet, Some(ticket)))),
                    Err(back) => buffer = back,
                }
            }
            body.read_head(len, front_of(buffer)?);
            if let Some(rest) = buffer.get_mut(HEADROOM + FRONT..HEADROOM + len.max(FRONT)) {
                body.behind(FRONT).read(rest);
            }
            let mut packet = Packet::from_pool(buffer, HEADROOM, len, &loan::WHOLE);
            if !is_plain && virtio::decode(&short, &mut packet).is_err() {
                count.malformed += 1;
                return Ok(None);
            }
            return Ok(Some((packet, None)));
        }
        Ok(self.gather(burst, head, count)?.map(|packet| (packet, None)))
    }

    /// Copies the frame in a buffer of any number of pieces.
    fn gather(&self, burst: &Burst, head: Head, count: &mut RxCount) -> Result<Option<Packet>, Violation> {
        let header_len = self.header_len();
        let total = burst.len(head);
        let Some(len) = total.checked_sub(header_len as u64).filter(|n| *n >= ETHERNET_HEADER as u64) else {
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
    pub fn transmit(&mut self, packets: &mut [Packet], too_big: &mut u32) -> Result<usize, Violation> {
        self.look_after()?;
        let mut header = [0; LONG_HEADER];
        header[SHORT_HEADER..].copy_from_slice(&1u16.to_le_bytes());
        let plain = &header[..self.header_len()];
        let mut done = 0;
        let mut result = Ok(());
        for packet in packets {
            if result.is_ok() {
                result = self.refetch(Direction::Write);
            }
            if packet.offload == Offload::default() && self.put_plain(plain, packet) {
                self.next += 1;
                done += 1;
                continue;
            }
            packet.fill();
            match self.put(packet, too_big) {
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

    /// Writes a frame without offloads to a buffer in one piece that has room for it; false if it is no such buffer.
    #[inline]
    fn put_plain(&mut self, header: &[u8], packet: &Packet) -> bool {
        let total = header.len() + packet.len();
        let Some(head) = self.burst.heads().get(self.next).copied() else { return false };
        let Some(segment) = self.burst.only(head).filter(|s| s.len as usize >= total) else { return false };
        let Ok(piece) = self.memory.rest(&mut self.near[0], segment.addr) else { return false };
        if !piece.write_frame(header, packet) {
            return false;
        }
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
    fn put(&mut self, packet: &Packet, too_big: &mut u32) -> Result<Option<usize>, Violation> {
        let needed = (self.header_len() + packet.len()) as u64;
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
        self.scatter(packet, used)?;
        Ok(Some(used))
    }

    /// Writes header and frame to so many buffers, which have room for them, and gives those back.
    fn scatter(&mut self, packet: &Packet, used: usize) -> Result<(), Violation> {
        let mut header = [0; LONG_HEADER];
        if self.has(feature::GUEST_CSUM) && packet.offload != Offload::default() {
            header[..SHORT_HEADER].copy_from_slice(&virtio::encode(packet));
        }
        header[SHORT_HEADER..].copy_from_slice(&(used as u16).to_le_bytes());
        let mut head = &header[..self.header_len()];
        let mut body = packet.data();
        for buffer in self.burst.heads().iter().skip(self.next).take(used) {
            let mut written = 0;
            for segment in self.burst.segments(*buffer) {
                let (mut addr, mut left) = (segment.addr, segment.len as usize);
                for part in [&mut head, &mut body] {
                    let n = left.min(part.len());
                    let (now, later) = part.split_at(n);
                    self.memory.write(addr, now)?;
                    if let Some(log) = self.log.as_ref().filter(|_| n > 0) {
                        log.mark(addr, n as u64);
                    }
                    *part = later;
                    addr = addr.wrapping_add(n as u64);
                    left -= n;
                    written += n as u32;
                }
                if body.is_empty() {
                    break;
                }
            }
            self.ring.give_back(buffer.id, buffer.slots, written);
        }
        Ok(())
    }
}
