//! Receiving and sending: packets are DPDK's own buffers.
//!
//! A buffer (`rte_mbuf`) of one of our pools becomes a [`Packet`] without a copy: the packet owns the bytes, the
//! head in front of them is found by its distance. It goes back into DPDK when the packet is sent or dropped.

use super::eal::enrol;
use super::mempool::Mempool;
use super::port::{Claim, Errno, Port};
use super::raw;
use netdev::burst::{self, Burst, Frames as Fronts, Heads, Lengths};
use netdev::rewrite::{Part, TAG, Tagging};
use packet::{BATCH_LEN, Batch, Checksum, Packet, Pool};
use std::any::Any;
use std::ffi::{c_int, c_uint};
use std::ptr::{null, null_mut, slice_from_raw_parts_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The pool that packets over DPDK's buffers name.
pub static POOL: Pool = Pool { name: "dpdk", release };

type Frames = [*mut raw::rte_mbuf; BATCH_LEN];

/// The head of a buffer of one of our pools, which have no private area.
#[inline]
fn head(bytes: &mut [u8]) -> *mut raw::rte_mbuf {
    bytes.as_mut_ptr().wrapping_sub(raw::SHIM_MBUF_SIZE).cast()
}

fn release(bytes: &'static mut [u8]) {
    // SAFETY: only packets that `wrap` made name `POOL`; the head in front of their bytes is a live buffer that
    // this packet owned alone.
    unsafe { raw::shim_free(head(bytes)) };
}

/// A received buffer as a packet.
///
/// # Safety
/// `frame` is a buffer that DPDK just handed over, and that nobody else refers to.
#[inline]
unsafe fn wrap(frame: *mut raw::rte_mbuf) -> Packet {
    // SAFETY: the caller owns `frame`; no other reference to its head exists.
    let m = unsafe { &*frame };
    let is_plain =
        m.nb_segs == 1 && m.ol_flags & raw::SHIM_INDIRECT == 0 && m.priv_size == 0 && m.refcnt() == 1;
    if !is_plain {
        // SAFETY: as for this function.
        return unsafe { copied(frame) };
    }
    let room = slice_from_raw_parts_mut(m.buf_addr.cast::<u8>(), m.buf_len.into());
    // SAFETY: `buf_addr` is the data room of `buf_len` bytes directly behind the head, initialised when the
    // pool's memory was mapped, and ours alone until `release` or `send`.
    let bytes: &'static mut [u8] = unsafe { &mut *room };
    let mut p = Packet::from_pool(bytes, m.data_off.into(), m.data_len.into(), &POOL);
    // SAFETY: as above.
    unsafe { set_facts(&mut p, frame) };
    p
}

/// What the device found out about the packet.
///
/// # Safety
/// As for [`copy_of`].
#[inline]
unsafe fn set_facts(p: &mut Packet, frame: *const raw::rte_mbuf) {
    // SAFETY: the head is live, and nobody writes to these parts of it. All variants of the union are plain numbers.
    let (flags, hash) = unsafe { ((*frame).ol_flags, (*frame).__bindgen_anon_2.hash.rss) };
    if flags & raw::SHIM_RX_RSS_HASH != 0 {
        p.rss_hash = hash;
    }
    if flags & raw::SHIM_RX_L4_CKSUM_MASK == raw::SHIM_RX_L4_CKSUM_GOOD {
        p.offload.checksum = Checksum::Good;
    }
}

/// A copy of a buffer that is not ours alone or lies in pieces, and which goes.
///
/// # Safety
/// `frame` is a live buffer of which this caller is an owner. It is not used after this.
#[cold]
unsafe fn copied(frame: *mut raw::rte_mbuf) -> Packet {
    // SAFETY: the caller owns it, and lets go of it once.
    unsafe {
        let p = copy_of(frame);
        raw::shim_free(frame);
        p
    }
}

/// A copy of a buffer.
///
/// # Safety
/// `frame` is a live buffer of which this caller is an owner. Others may be, but none writes to anything of it
/// besides the count of owners.
unsafe fn copy_of(frame: *mut raw::rte_mbuf) -> Packet {
    let mut bytes = Vec::new();
    let mut at = frame;
    while !at.is_null() {
        // SAFETY: the segments of an owned packet are live; each has `data_len` bytes from `data_off` on. (No
        // reference is made to a head, whose count of owners others may change.)
        let part = unsafe {
            let start = (*at).buf_addr.cast::<u8>().add((*at).data_off.into());
            let len = (*at).data_len;
            at = (*at).next;
            std::slice::from_raw_parts(start, len.into())
        };
        bytes.extend_from_slice(part);
    }
    let mut p = Packet::from_slice(&bytes);
    // SAFETY: as above.
    unsafe { set_facts(&mut p, frame) };
    p
}

impl raw::rte_mbuf {
    #[inline]
    fn refcnt(&self) -> u16 {
        self.refcnt
    }
}

/// Queues that a port is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    pub n_rxq: u16,
    pub n_txq: u16,
    pub rxq_size: u16,
    pub txq_size: u16,
    pub socket: u32,
}

/// Why a port did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Rx(u16, Errno),
    Tx(u16, Errno),
    Start(Errno),
}

/// Whose turn it is at a transmit queue. Held for one call of the driver, and cheaper than a mutex where nobody shares.
#[derive(Debug, Default)]
struct Turn(AtomicBool);

/// Ends the turn.
struct Mine<'a>(&'a Turn);

impl Turn {
    /// Looks that are taken before the processor is offered to others.
    const PATIENCE: u32 = 1_000;

    #[inline]
    fn take(&self) -> Mine<'_> {
        let mut looks = 0u32;
        while self.0.swap(true, Ordering::Acquire) {
            while self.0.load(Ordering::Relaxed) {
                looks = looks.wrapping_add(1);
                if looks.is_multiple_of(Turn::PATIENCE) {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
        }
        Mine(self)
    }
}

impl Drop for Mine<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// A started port; stopped when the last of its queues has let go of it.
#[derive(Debug)]
pub struct Started {
    port: Port,
    mempool: Arc<Mempool>,
    rx_taken: Vec<AtomicBool>,
    tx: Vec<Turn>,
    _claim: Claim,
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: every queue's owner holds this object, so nobody is inside a queue. The claim goes after this.
        unsafe { raw::rte_eth_dev_stop(self.port.number()) };
    }
}

impl Started {
    /// Sets up the queues of a configured port, which has as many, and starts it.
    pub fn start(port: Port, queues: Queues, mempool: Arc<Mempool>) -> Result<Self, Refused> {
        let claim = Claim::new(port).map_err(Refused::Start)?;
        let check = |result: c_int| if result < 0 { Err(result.saturating_neg()) } else { Ok(()) };
        let (no, socket, pool) = (port.number(), queues.socket, mempool.as_ptr());
        for queue in 0..queues.n_txq {
            // SAFETY: the port is stopped and claimed; without a configuration the driver's defaults are taken.
            let result = unsafe { raw::rte_eth_tx_queue_setup(no, queue, queues.txq_size, socket, null()) };
            check(result).map_err(|e| Refused::Tx(queue, e))?;
        }
        for queue in 0..queues.n_rxq {
            // SAFETY: as above. The pool is live, and this object keeps it until the port is stopped; after
            // that the port is set up anew before it starts.
            let result =
                unsafe { raw::rte_eth_rx_queue_setup(no, queue, queues.rxq_size, socket, null(), pool) };
            check(result).map_err(|e| Refused::Rx(queue, e))?;
        }
        // SAFETY: all queues that it was configured with are set up.
        check(unsafe { raw::rte_eth_dev_start(no) }).map_err(Refused::Start)?;
        Ok(Started {
            port,
            mempool,
            rx_taken: (0..queues.n_rxq).map(|_| AtomicBool::new(false)).collect(),
            tx: (0..queues.n_txq).map(|_| Turn::default()).collect(),
            _claim: claim,
        })
    }

    pub fn mempool(&self) -> &Arc<Mempool> {
        &self.mempool
    }

    pub fn n_rxq(&self) -> u16 {
        self.rx_taken.len() as u16
    }

    pub fn n_txq(&self) -> u16 {
        self.tx.len() as u16
    }

    /// A receive queue for one owner; `None` if it has one, or is not there.
    pub fn take_rx(self: &Arc<Self>, queue: u16) -> Option<Rx> {
        let taken = self.rx_taken.get(usize::from(queue))?;
        (!taken.swap(true, Ordering::Acquire)).then(|| Rx { started: self.clone(), queue })
    }

    /// Sends and empties `batch`. Packets in DPDK's buffers go as they are, others are copied into buffers of
    /// the port's pool. Callers that share a queue wait for each other.
    pub fn send(&self, queue: u16, max_len: usize, batch: &mut Batch) -> Sent {
        let Some(lock) = self.tx.get(usize::from(queue)) else {
            let dropped_bytes = batch.iter().map(|p| p.len() as u64).sum();
            let no_buffer = batch.drain(..).count() as u32;
            return Sent { no_buffer, dropped_bytes, ..Sent::default() };
        };
        enrol();
        let _mine = lock.take();
        send(self.port, queue, max_len, &self.mempool, batch)
    }

    /// Sends those buffers of `burst` whose bits are set, as they are, and takes them out of it.
    pub fn send_frames(&self, queue: u16, max_len: usize, burst: &mut FrameBurst, places: u32) -> Sent {
        let Some(lock) = self.tx.get(usize::from(queue)) else {
            let mut sent = Sent::default();
            for packet in burst::places(places).filter_map(|place| burst.take(place)) {
                sent.no_buffer += 1;
                sent.dropped_bytes += packet.len() as u64;
            }
            return sent;
        };
        enrol();
        let _mine = lock.take();
        burst.send(self.port, queue, max_len, places)
    }

    /// As [`Started::send_frames`], of buffers that stay in `burst`: their owners are more then.
    pub fn send_shared(&self, queue: u16, max_len: usize, burst: &mut FrameBurst, places: u32) -> Sent {
        let Some(lock) = self.tx.get(usize::from(queue)) else {
            let no_buffer = (places & burst.filled).count_ones();
            return Sent { no_buffer, dropped_bytes: burst.bytes(places), ..Sent::default() };
        };
        enrol();
        let _mine = lock.take();
        burst.send_shared(self.port, queue, max_len, places)
    }

    /// Lets a driver that works inside its calls do so (a bond sends what LACP wants sent).
    pub fn stir(&self) {
        let Some(lock) = self.tx.first() else { return };
        enrol();
        let _mine = lock.take();
        let mut frames: Frames = [null_mut(); BATCH_LEN];
        // SAFETY: the port is started and has this queue, which is locked. No buffer is passed.
        unsafe { raw::shim_tx_burst(self.port.number(), 0, frames.as_mut_ptr(), 0) };
    }
}

/// One receive queue of a started port.
#[derive(Debug)]
pub struct Rx {
    started: Arc<Started>,
    queue: u16,
}

impl Drop for Rx {
    fn drop(&mut self) {
        if let Some(taken) = self.started.rx_taken.get(usize::from(self.queue)) {
            taken.store(false, Ordering::Release);
        }
    }
}

impl Rx {
    pub fn queue(&self) -> u16 {
        self.queue
    }

    pub fn port(&self) -> &Started {
        &self.started
    }

    /// Receives up to `batch`'s free room.
    #[inline]
    pub fn recv(&mut self, batch: &mut Batch) -> usize {
        enrol();
        let room = batch.remaining_capacity();
        let mut frames: Frames = [null_mut(); BATCH_LEN];
        let port = self.started.port.number();
        // SAFETY: the port is started, has this queue, and this object alone receives from it. There is room
        // for `room` pointers.
        let n = unsafe { raw::shim_rx_burst(port, self.queue, frames.as_mut_ptr(), room as u16) };
        let received = frames.get(..n.into()).unwrap_or_default();
        for frame in received {
            // SAFETY: DPDK handed the buffers over to this caller alone.
            let m = unsafe { &**frame };
            prefetch(m.buf_addr.cast::<u8>().wrapping_add(m.data_off.into()));
        }
        for frame in received {
            // SAFETY: DPDK handed the buffer over to this caller alone.
            batch.push(unsafe { wrap(*frame) });
        }
        received.len()
    }

    /// Receives as many buffers as a burst has places. What was in `burst` is dropped.
    #[inline]
    pub fn burst(&mut self, burst: &mut FrameBurst) {
        enrol();
        burst.clear();
        let port = self.started.port.number();
        let room = BATCH_LEN as u16;
        // SAFETY: the port is started, has this queue, and this object alone receives from it. There is room
        // for `room` pointers.
        let n = unsafe { raw::shim_rx_burst(port, self.queue, burst.frames.as_mut_ptr(), room) };
        burst.n = usize::from(n).min(BATCH_LEN);
        burst.filled = burst::all_places(burst.n);
        burst.longest = usize::MAX;
    }
}

/// Received buffers before anything is made of them.
pub struct FrameBurst {
    /// Of those at the places in `filled`, each is a buffer that this object owns; alone, but for those in `shared`.
    frames: Frames,
    n: usize,
    filled: u32,
    /// Buffers that were sent and stay: they are not looked at or changed any more, only copied, sent and dropped.
    shared: u32,
    /// No packet is longer; known once they were looked at.
    longest: usize,
}

// SAFETY: the buffers are owned, like boxes would be; DPDK's buffers may be used on any thread.
unsafe impl Send for FrameBurst {}

impl Default for FrameBurst {
    fn default() -> Self {
        FrameBurst { frames: [null_mut(); BATCH_LEN], n: 0, filled: 0, shared: 0, longest: usize::MAX }
    }
}

impl Drop for FrameBurst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl FrameBurst {
    /// Takes the buffer at a place out.
    #[inline]
    fn take_frame(&mut self, place: usize) -> Option<*mut raw::rte_mbuf> {
        let frame = *self.frames.get(place)?;
        let is_there = self.filled & (1 << place) != 0;
        self.filled &= !(1 << place);
        is_there.then_some(frame)
    }

    /// Places of buffers that nobody else owns.
    #[inline]
    fn alone(&self) -> u32 {
        self.filled & !self.shared
    }

    /// Bytes of the buffers at these places.
    fn bytes(&self, places: u32) -> u64 {
        let frames = burst::places(self.filled & places).filter_map(|place| self.frames.get(place));
        // SAFETY: the buffer is there and owned by this object, if not alone. Nobody writes to its length.
        frames.map(|frame| u64::from(unsafe { (**frame).pkt_len })).sum()
    }

    /// [`Burst::heads`] when some places are empty, or shared.
    #[cold]
    fn heads_left<'a>(&'a self, heads: &mut Heads<'a>) {
        heads.fill(&[]);
        for place in burst::places(self.alone()) {
            let (Some(head), Some(frame)) = (heads.get_mut(place), self.frames.get(place)) else { continue };
            // SAFETY: the buffer is there and owned by this object alone.
            let m = unsafe { &**frame };
            if is_plain(m) {
                let start = m.buf_addr.cast::<u8>().wrapping_add(m.data_off.into());
                // SAFETY: as in `heads`.
                *head = unsafe { std::slice::from_raw_parts(start, m.data_len.into()) };
            }
        }
    }

    /// Sends buffers and keeps them.
    fn send_shared(&mut self, port: Port, queue: u16, max_len: usize, places: u32) -> Sent {
        let mut result = Sent::default();
        let mut frames: Frames = [null_mut(); BATCH_LEN];
        let mut n: u16 = 0;
        for place in burst::places(self.filled & places) {
            let (Some(frame), Some(to)) = (self.frames.get(place), frames.get_mut(usize::from(n))) else {
                continue;
            };
            // SAFETY: the buffer is there and ours, if not alone; nobody writes to its length.
            let len = unsafe { (**frame).pkt_len };
            if len as usize > max_len {
                result.too_big += 1;
                result.dropped_bytes += u64::from(len);
                continue;
            }
            *to = *frame;
            n += 1;
            self.shared |= 1 << place;
        }
        // SAFETY: the first `n` are ours; each has an owner more after this, which is what the driver becomes.
        unsafe { raw::shim_share_bulk(frames.as_mut_ptr(), n.into()) };
        let sent = transmit(port, queue, &mut frames, n);
        let dropped_bytes = result.dropped_bytes + sent.dropped_bytes;
        Sent { too_big: result.too_big, dropped_bytes, ..sent }
    }

    /// [`Burst::rewrite`], where packets grow and shrink by so many bytes.
    #[inline]
    fn rewrite_by<const GROWTH: usize, const LOSS: usize>(&mut self, part: &mut Part<'_>) {
        let (how, places) = (part.how, part.start());
        let (mut done, mut bytes) = (0, 0);
        // If the longest is known, all were looked at, and nothing was put in since.
        let are_plain = self.longest != usize::MAX;
        for place in burst::places(self.alone() & places) {
            let Some(frame) = self.frames.get(place) else { continue };
            // SAFETY: the buffer is there and owned by this object alone.
            let m = unsafe { &mut **frame };
            if m.data_off < GROWTH as u16 || !are_plain && !is_plain(m) {
                continue;
            }
            let (start, len) = (m.data_off - GROWTH as u16, usize::from(m.data_len) + GROWTH);
            // SAFETY: from `data_off` on, `data_len` bytes are within the buffer's data room, and those in front of them are
            // too; all of it was initialised when the pool's memory was mapped, and is nobody else's.
            let frame = unsafe {
                &mut *slice_from_raw_parts_mut(m.buf_addr.cast::<u8>().wrapping_add(start.into()), len)
            };
            if !how.apply_to::<GROWTH, LOSS>(frame) {
                continue;
            }
            m.ol_flags &= !OF_DATA;
            if GROWTH != LOSS {
                // A buffer's length fits 16 bits, and so does what lies within one.
                m.data_off = start + LOSS as u16;
                m.data_len = (len - LOSS) as u16;
                m.pkt_len = m.data_len.into();
            }
            done |= 1 << place;
            bytes += (len - LOSS) as u64;
        }
        self.longest = self.longest.saturating_add(GROWTH);
        (part.places, part.bytes) = (done, bytes);
    }

    fn send(&mut self, port: Port, queue: u16, max_len: usize, places: u32) -> Sent {
        if places == self.filled && places == burst::all_places(self.n) && self.longest <= max_len {
            self.filled = 0;
            let n = self.n as u16;
            return transmit(port, queue, &mut self.frames, n);
        }
        let mut result = Sent::default();
        let mut frames: Frames = [null_mut(); BATCH_LEN];
        let mut n: u16 = 0;
        for place in burst::places(places) {
            let (Some(frame), Some(to)) = (self.take_frame(place), frames.get_mut(usize::from(n))) else {
                continue;
            };
            // SAFETY: the buffer was taken out just now and is ours.
            let len = unsafe { (*frame).pkt_len };
            if len as usize > max_len {
                result.too_big += 1;
                result.dropped_bytes += u64::from(len);
                // SAFETY: as above; it is freed once.
                unsafe { raw::shim_free(frame) };
                continue;
            }
            *to = frame;
            n += 1;
        }
        let sent = transmit(port, queue, &mut frames, n);
        let dropped_bytes = result.dropped_bytes + sent.dropped_bytes;
        Sent { too_big: result.too_big, dropped_bytes, ..sent }
    }
}

/// What a device says of the bytes that it received.
const OF_DATA: u64 = raw::SHIM_RX_RSS_HASH | raw::SHIM_RX_L4_CKSUM_MASK;

/// Zero if a buffer is in one piece and nobody else's.
#[inline(always)]
fn oddity(m: &raw::rte_mbuf) -> u64 {
    u64::from((m.nb_segs ^ 1) | (m.refcnt ^ 1)) | m.ol_flags & raw::SHIM_INDIRECT
}

#[inline(always)]
fn is_plain(m: &raw::rte_mbuf) -> bool {
    oddity(m) == 0
}

impl Burst for FrameBurst {
    #[inline]
    fn len(&self) -> usize {
        self.n
    }

    #[inline]
    fn heads<'a>(&'a mut self, heads: &mut Heads<'a>) {
        if self.alone() != burst::all_places(self.n) {
            self.heads_left(heads);
            return;
        }
        let (mut longest, mut odd) = (0, 0);
        for (head, frame) in heads.iter_mut().zip(&self.frames).take(self.n) {
            // SAFETY: the buffer is there, as all are, and owned by this object.
            let m = unsafe { &**frame };
            let oddity = oddity(m);
            odd |= oddity;
            let len = if oddity == 0 { m.data_len } else { 0 };
            longest = longest.max(len);
            // SAFETY: `data_len` bytes from `data_off` on were received into the buffer, which nobody changes
            // while this object is borrowed.
            *head = unsafe {
                let start = m.buf_addr.cast::<u8>().add(m.data_off.into());
                prefetch(start);
                std::slice::from_raw_parts(start, len.into())
            };
        }
        // A packet in one piece is as long as the piece.
        self.longest = if odd == 0 { longest.into() } else { usize::MAX };
    }

    fn take(&mut self, place: usize) -> Option<Packet> {
        let is_shared = self.shared & (1 << place) != 0;
        let frame = self.take_frame(place)?;
        // SAFETY: the buffer was taken out just now and is ours; who else owns it changes nothing of it.
        Some(unsafe { if is_shared { copied(frame) } else { wrap(frame) } })
    }

    fn put(&mut self, place: usize, packet: Packet) -> Result<(), Packet> {
        if self.filled.checked_shr(place as u32).is_none_or(|bits| bits & 1 != 0) || place >= self.n {
            return Err(packet);
        }
        let Some(to) = self.frames.get_mut(place) else { return Err(packet) };
        *to = own(packet.into_pooled(&POOL)?);
        self.filled |= 1 << place;
        self.shared &= !(1 << place);
        self.longest = usize::MAX;
        Ok(())
    }

    fn can_copy(&self) -> bool {
        true
    }

    fn copy(&mut self, place: usize) -> Option<Packet> {
        let is_there = self.filled.checked_shr(place as u32).is_some_and(|bits| bits & 1 != 0);
        let frame = *self.frames.get(place).filter(|_| is_there)?;
        // SAFETY: the buffer is there and owned by this object; who else owns it changes nothing of it.
        Some(unsafe { copy_of(frame) })
    }

    fn rss_hash(&self, place: usize) -> u32 {
        let Some(frame) = self.frames.get(place).filter(|_| self.filled & (1 << place) != 0) else {
            return 0;
        };
        // SAFETY: the buffer is there and owned by this object. All variants of the union are plain numbers.
        let (flags, hash) = unsafe { ((**frame).ol_flags, (**frame).__bindgen_anon_2.hash.rss) };
        if flags & raw::SHIM_RX_RSS_HASH != 0 { hash } else { 0 }
    }

    fn verified(&self) -> u32 {
        let good = |place: &usize| {
            // SAFETY: the buffer is there and owned by this object.
            let flags = self.frames.get(*place).map_or(0, |frame| unsafe { (**frame).ol_flags });
            flags & raw::SHIM_RX_L4_CKSUM_MASK == raw::SHIM_RX_L4_CKSUM_GOOD
        };
        burst::places(self.filled).filter(good).fold(0, |bits, place| bits | 1 << place)
    }

    #[inline]
    fn grow<'a>(&'a mut self, by: &Lengths, fronts: &mut Fronts<'a>) -> u32 {
        let (mut grown, mut most) = (0, 0);
        for place in burst::places(self.alone()) {
            let (Some(frame), Some(front), Some(by)) =
                (self.frames.get(place), fronts.get_mut(place), by.get(place).filter(|by| **by > 0))
            else {
                continue;
            };
            // SAFETY: the buffer is there and owned by this object alone.
            let m = unsafe { &mut **frame };
            if !is_plain(m) || m.data_off < *by {
                continue;
            }
            m.data_off -= by;
            // A buffer's length fits 16 bits, and so does what lies within one.
            m.data_len = m.data_len.wrapping_add(*by);
            m.pkt_len = u32::from(m.data_len);
            // SAFETY: as above; each place has its own, and none is touched while `self` is borrowed.
            *front = unsafe { data_of(m) };
            grown |= 1 << place;
            most = most.max(*by);
        }
        self.longest = self.longest.saturating_add(most.into());
        grown
    }

    fn rewrite(&mut self, parts: &mut [Part<'_>]) {
        for part in parts {
            match part.how.tagging() {
                Tagging::Leave => self.rewrite_by::<0, 0>(part),
                Tagging::Push => self.rewrite_by::<TAG, 0>(part),
                Tagging::Pop => self.rewrite_by::<0, TAG>(part),
            }
        }
    }

    fn is_whole(&self) -> bool {
        true
    }

    #[inline]
    fn shrink(&mut self, by: &Lengths) {
        for place in burst::places(self.alone()) {
            let (Some(frame), Some(by)) = (self.frames.get(place), by.get(place).filter(|by| **by > 0))
            else {
                continue;
            };
            // SAFETY: the buffer is there and owned by this object alone.
            let m = unsafe { &mut **frame };
            let by = (*by).min(m.data_len);
            m.data_off += by;
            m.data_len -= by;
            m.pkt_len -= u32::from(by);
            m.ol_flags &= !OF_DATA;
        }
    }

    #[inline]
    fn clear(&mut self) {
        if self.filled != 0 {
            let mut n = 0;
            for place in burst::places(self.filled) {
                // Not behind where it is.
                self.frames[n] = self.frames[place];
                n += 1;
            }
            // SAFETY: the first `n` are the buffers that were there, which are ours; they are freed once, as no place is
            // filled after this.
            unsafe { raw::shim_free_bulk(self.frames.as_mut_ptr(), n as c_uint) };
        }
        (self.filled, self.shared, self.n) = (0, 0, 0);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The bytes of a buffer in one piece, to be changed: what the device found out about them is forgotten.
///
/// # Safety
///
/// Nobody else refers to the buffer or its bytes as long as they are used.
#[inline(always)]
unsafe fn data_of<'a>(m: &mut raw::rte_mbuf) -> &'a mut [u8] {
    m.ol_flags &= !OF_DATA;
    let start = m.buf_addr.cast::<u8>().wrapping_add(m.data_off.into());
    // SAFETY: these bytes are within the buffer's data room, initialised when the pool's memory was mapped; they are
    // nobody else's.
    unsafe { &mut *slice_from_raw_parts_mut(start, m.data_len.into()) }
}

/// Brings a packet's first bytes into the cache. Its head was written by the driver just now.
#[inline(always)]
fn prefetch(start: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(start.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

/// What became of a batch that was sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sent {
    pub sent: u32,
    /// Longer than `max_len`.
    pub too_big: u32,
    /// The device's queue took no more.
    pub full: u32,
    /// No buffer for a packet that was not in one.
    pub no_buffer: u32,
    /// Of all that was not sent.
    pub dropped_bytes: u64,
}

/// [`Started::send`], which holds the queue's lock.
fn send(port: Port, queue: u16, max_len: usize, pool: &Mempool, batch: &mut Batch) -> Sent {
    let mut frames: Frames = [null_mut(); BATCH_LEN];
    let mut result = Sent::default();
    let mut n: u16 = 0;
    for packet in batch.drain(..) {
        if packet.len() > max_len {
            result.too_big += 1;
            result.dropped_bytes += packet.len() as u64;
            continue;
        }
        let len = packet.len() as u64;
        let frame = match packet.into_pooled(&POOL) {
            Ok(parts) => own(parts),
            Err(packet) => copy_in(pool, packet.data()),
        };
        match frames.get_mut(usize::from(n)) {
            Some(place) if !frame.is_null() => {
                *place = frame;
                n += 1;
            }
            _ => {
                result.no_buffer += 1;
                result.dropped_bytes += len;
            }
        }
    }
    let sent = transmit(port, queue, &mut frames, n);
    let dropped_bytes = result.dropped_bytes + sent.dropped_bytes;
    Sent { dropped_bytes, ..Sent { sent: sent.sent, full: sent.full, ..result } }
}

/// Hands the first `n` of `frames`, which are buffers that the caller owns, to the driver; those that it does not
/// take are freed.
fn transmit(port: Port, queue: u16, frames: &mut Frames, n: u16) -> Sent {
    let mut result = Sent::default();
    let mut done: u16 = 0;
    while done < n {
        // SAFETY: the pointers from `done` to `n` are buffers that we own; those that were taken are not ours
        // any more.
        let taken = unsafe {
            raw::shim_tx_burst(port.number(), queue, frames.as_mut_ptr().wrapping_add(done.into()), n - done)
        };
        if taken == 0 {
            break;
        }
        done += taken;
    }
    if done < n {
        let left = frames.get(done.into()..n.into()).unwrap_or_default();
        // SAFETY: the device did not take these; they are ours still.
        result.dropped_bytes = left.iter().map(|frame| u64::from(unsafe { (**frame).pkt_len })).sum();
        result.full = u32::from(n - done);
        // SAFETY: as above; they are freed once.
        unsafe {
            raw::shim_free_bulk(frames.as_mut_ptr().wrapping_add(done.into()), (n - done).into());
        }
    }
    result.sent = done.into();
    result
}

/// The buffer of a packet, with the head saying what the packet said.
#[inline]
fn own(parts: packet::Pooled) -> *mut raw::rte_mbuf {
    let frame = head(parts.bytes);
    // SAFETY: the packet owned its buffer; nobody else refers to the head. Buffer lengths fit 16 bits, so what
    // lies within one does.
    unsafe {
        (*frame).data_off = parts.start as u16;
        (*frame).data_len = parts.len as u16;
        (*frame).pkt_len = parts.len as u32;
        (*frame).ol_flags = 0;
    }
    frame
}

/// A buffer of `pool` that holds `data`; null if there is none, or none that is large enough.
fn copy_in(pool: &Mempool, data: &[u8]) -> *mut raw::rte_mbuf {
    let mut frame = null_mut();
    // SAFETY: the pool is live and there is room for one pointer; on success the buffer is ours.
    if unsafe { raw::shim_alloc_bulk(pool.as_ptr(), &mut frame, 1) } != 0 || frame.is_null() {
        return null_mut();
    }
    // SAFETY: the fresh buffer is ours. What is written fits between `data_off` and `buf_len`.
    unsafe {
        let m = &mut *frame;
        if data.len() > usize::from(m.buf_len.saturating_sub(m.data_off)) {
            raw::shim_free(frame);
            return null_mut();
        }
        let to = m.buf_addr.cast::<u8>().add(m.data_off.into());
        std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len());
        m.data_len = data.len() as u16;
        m.pkt_len = data.len() as u32;
    }
    frame
}
