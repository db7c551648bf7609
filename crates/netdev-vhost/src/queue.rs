//! The packet's side of a port: receive queue and sender of one polling thread.

use crate::mem::frames::Frames;
use crate::pool;
use crate::port::{ANNOUNCE, Shared, Slot};
use crate::ring::Violation;
use crate::vring::{RxCount, Vring};
use arrayvec::ArrayVec;
use netdev::burst::{all_places, places, send_as_batch};
use netdev::{Burst, RxQueue, TxOutcome, TxQueue};
use packet::{BATCH_LEN, Batch, Packet, checksum, gso};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a frame may have beyond the MTU: Ethernet header, two tags less their place in the MTU, checksum.
const FRAME_OVERHEAD: usize = 14 + 4 + 4;

/// All places of a burst.
static EVERY: [u8; BATCH_LEN] = {
    let mut all = [0; BATCH_LEN];
    let mut at = 0;
    while at < BATCH_LEN {
        all[at] = at as u8;
        at += 1;
    }
    all
};

/// Receives what a guest sends over one queue.
pub struct VhostRx {
    shared: Arc<Shared>,
    queue: usize,
    frames: Frames,
}

impl VhostRx {
    pub fn new(shared: Arc<Shared>, queue: usize) -> Self {
        let in_use = shared.slots.get(2 * queue + 1).map(|slot| slot.in_use.clone());
        VhostRx { shared, queue, frames: Frames::new(in_use.unwrap_or_default()) }
    }

    /// Lets `take` take frames from the ring, if it runs, and looks at what it says; the ring's index and slot if so.
    #[inline]
    fn poll<'s>(
        shared: &'s Shared,
        queue: usize,
        frames: &mut Frames,
        take: impl FnOnce(&mut Frames, &mut Vring, &mut RxCount) -> Result<(), Violation>,
    ) -> Option<&'s Slot> {
        let index = 2 * queue + 1;
        let slot = shared.slots.get(index).filter(|s| s.enabled.load(Relaxed) && shared.is_usable());
        // The front end's thread holds the lock for a moment when it changes the ring.
        let mut guard = slot.and_then(|s| s.ring.try_lock());
        let Some((slot, ring)) = slot.zip(guard.as_mut().and_then(|g| g.as_mut())) else {
            frames.leave();
            return None;
        };
        let mut count = RxCount::default();
        if let Err(violation) = take(frames, ring, &mut count) {
            shared.violated(index, violation);
        }
        if count != RxCount::default() {
            note(shared, slot, count);
        }
        Some(slot)
    }

    /// What the front end asked to be announced.
    fn announcement(&self) -> Option<Packet> {
        let announce = &self.shared.announce;
        if self.queue != 0 || announce.load(Relaxed) == 0 {
            return None;
        }
        Some(reverse_arp(announce.swap(0, Relaxed) & !ANNOUNCE))
    }
}

/// Counts what came of a call beside frames.
#[cold]
fn note(shared: &Shared, slot: &Slot, count: RxCount) {
    if count.called {
        slot.stats.count_call();
    }
    let c = &shared.counters;
    c.rx_too_big.fetch_add(count.too_big, Relaxed);
    c.rx_malformed.fetch_add(count.malformed, Relaxed);
}

impl RxQueue for VhostRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        self.frames.leave();
        let first = batch.len();
        if !batch.is_full() {
            batch.extend(self.announcement());
        }
        let before = batch.len();
        let mut at = 0;
        let take = |_: &mut Frames, ring: &mut Vring, count: &mut RxCount| ring.receive(batch, count);
        if let Some(slot) = Self::poll(&self.shared, self.queue, &mut self.frames, take)
            && batch.len() > before
        {
            slot.stats.count(batch.get(before..).unwrap_or_default());
        }
        if self.shared.policer.is_active() {
            batch.retain(|p| {
                at += 1;
                at <= before || self.shared.policer.admit(p)
            });
        }
        batch.len() - first
    }

    #[inline]
    fn burst(&mut self) -> Option<&mut dyn Burst> {
        // Who judges packets one by one wants packets.
        if self.shared.policer.is_active() {
            return None;
        }
        let take =
            |frames: &mut Frames, ring: &mut Vring, count: &mut RxCount| ring.receive_frames(frames, count);
        if let Some(slot) = Self::poll(&self.shared, self.queue, &mut self.frames, take)
            && !self.frames.is_empty()
        {
            match self.frames.alike() {
                Some(len) => slot.stats.count_alike(self.frames.len(), len),
                None => slot.stats.count_all(self.frames.shown()),
            }
        }
        if !self.frames.is_full()
            && let Some(packet) = self.announcement()
        {
            self.frames.push(packet);
        }
        Some(&mut self.frames)
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn waiting(&self) -> Option<usize> {
        let ring = self.shared.slots.get(2 * self.queue + 1)?.ring.try_lock()?;
        ring.as_ref().map(|r| r.ring.waiting())
    }
}

/// A reverse ARP request by which switches learn where `mac` is now (RFC 903).
fn reverse_arp(mac: u64) -> Packet {
    let mac = &mac.to_be_bytes()[2..];
    let head = [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3];
    let frame = [&[0xff; 6], mac, &head, mac, &[0; 4], mac, &[0; 4]].concat();
    let mut padded = frame;
    padded.resize(60, 0);
    Packet::from_slice(&padded)
}

/// Sends to a guest, on a queue that is the thread's own if the guest has as many.
pub struct VhostTx {
    shared: Arc<Shared>,
    thread: usize,
    generation: Option<u64>,
    /// The ring of this thread, if any is enabled.
    ring: Option<usize>,
    outcome: TxOutcome,
}

impl VhostTx {
    pub fn new(shared: Arc<Shared>, thread: usize) -> Self {
        VhostTx { shared, thread, generation: None, ring: None, outcome: TxOutcome::default() }
    }

    /// The ring to send on: the enabled ones are shared out among the threads.
    fn choose(&mut self) -> Option<usize> {
        let generation = self.shared.generation.load(Relaxed);
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            let n = self.shared.rings.load(Relaxed);
            let is_enabled = |i: &usize| self.shared.slots.get(*i).is_some_and(|s| s.enabled.load(Relaxed));
            let enabled: Vec<usize> = (0..n).step_by(2).filter(is_enabled).collect();
            self.ring = enabled.get(self.thread.checked_rem(enabled.len()).unwrap_or(0)).copied();
        }
        self.ring
    }

    /// Removes what is over the MTU.
    fn check_sizes(&mut self, batch: &mut Batch) {
        let max = self.shared.mtu.load(Relaxed) as usize + FRAME_OVERHEAD;
        let fits = |p: &Packet| p.len() <= max || p.offload.gso.is_some();
        if batch.iter().all(fits) {
            return;
        }
        let before = batch.len();
        batch.retain(|p| {
            let fits = fits(p);
            self.outcome.dropped_bytes += if fits { 0 } else { p.len() as u64 };
            fits
        });
        let dropped = before - batch.len();
        self.outcome.dropped_too_big += dropped as u32;
        self.shared.counters.tx_mtu_exceeded_drops.fetch_add(dropped as u64, Relaxed);
    }
}

/// Sends `n` frames that the guest takes as they are, with retries while it makes room. `send` sends those from a
/// place on; returns how many went.
#[inline]
fn send_ready(
    shared: &Shared,
    outcome: &mut TxOutcome,
    index: usize,
    ring: &mut Vring,
    n: usize,
    mut send: impl FnMut(&mut Vring, usize, &mut u32) -> Result<usize, Violation>,
) -> usize {
    let retries_max = shared.retries_max.load(Relaxed);
    let (mut done, mut retries, mut too_big, mut calls) = (0, 0, 0, 0);
    loop {
        match send(ring, done, &mut too_big) {
            Ok(now) => {
                done += now;
                if done >= n || retries >= retries_max || now == 0 && retries > 0 {
                    break;
                }
                calls += u32::from(ring.finish());
                retries += 1;
                std::hint::spin_loop();
            }
            Err(violation) => {
                shared.violated(index, violation);
                break;
            }
        }
    }
    calls += u32::from(ring.finish());
    let left = n.saturating_sub(done) as u32;
    outcome.sent += (done as u32).saturating_sub(too_big);
    if calls + retries + too_big + left > 0 {
        let slot = shared.slots.get(index);
        (0..calls).filter_map(|_| slot).for_each(|slot| slot.stats.count_call());
        outcome.dropped_too_big += too_big;
        outcome.dropped_full += left;
        let c = &shared.counters;
        c.tx_retries.fetch_add(retries.into(), Relaxed);
        c.tx_failure_drops.fetch_add(left.into(), Relaxed);
        c.tx_mtu_exceeded_drops.fetch_add(too_big.into(), Relaxed);
    }
    done
}

/// As [`send_ready`], packets.
fn send_packets(
    shared: &Shared,
    outcome: &mut TxOutcome,
    index: usize,
    ring: &mut Vring,
    packets: &[Packet],
) {
    let send = |ring: &mut Vring, at, too_big: &mut u32| {
        ring.transmit(packets.get(at..).unwrap_or_default(), too_big)
    };
    let done = send_ready(shared, outcome, index, ring, packets.len(), send);
    let (sent, left) = packets.split_at_checked(done).unwrap_or((packets, &[]));
    outcome.dropped_bytes += bytes_of(left);
    if let Some(slot) = shared.slots.get(index) {
        slot.stats.count(sent);
    }
}

fn bytes_of(packets: &[Packet]) -> u64 {
    packets.iter().map(|p| p.len() as u64).sum()
}

impl TxQueue for VhostTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        self.outcome = TxOutcome::default();
        self.check_sizes(batch);
        let index = self.choose();
        let (shared, outcome) = (&*self.shared, &mut self.outcome);
        let slot = index.and_then(|i| Some((i, shared.slots.get(i)?)));
        // Another thread's turn at this queue is short; so is the front end's.
        let guard = slot.map(|(i, slot)| (i, slot.ring.lock()));
        if let Some((index, mut ring)) = guard
            && let Some(ring) = ring.as_mut()
            && shared.is_usable()
        {
            if batch.iter().all(|p| ring.takes(&p.offload)) {
                send_packets(shared, outcome, index, ring, batch);
            } else {
                let (finished, failed) = finish(batch, ring);
                outcome.dropped_error += failed;
                shared.counters.tx_offload_drops.fetch_add(failed.into(), Relaxed);
                send_packets(shared, outcome, index, ring, &finished);
            }
        } else {
            outcome.dropped_down += batch.len() as u32;
            outcome.dropped_bytes += bytes_of(batch);
            shared.counters.tx_failure_drops.fetch_add(batch.len() as u64, Relaxed);
        }
        pool::drop_all(batch);
        self.outcome
    }

    #[inline]
    fn send_burst(&mut self, burst: &mut dyn Burst, bits: u32) -> TxOutcome {
        match burst.as_any().downcast_mut::<Frames>() {
            Some(frames) if frames.are_lent(bits) => match self.send_frames(frames, bits) {
                Some(outcome) => outcome,
                None => send_as_batch(self, burst, bits),
            },
            _ => send_as_batch(self, burst, bits),
        }
    }
}

impl VhostTx {
    /// Sends frames of another guest without making packets of them; `None` if one is too long or no ring runs.
    #[inline]
    fn send_frames(&mut self, frames: &mut Frames, bits: u32) -> Option<TxOutcome> {
        let max = self.shared.mtu.load(Relaxed) + FRAME_OVERHEAD as u32;
        let is_too_long = |len: &u32| *len > max;
        if frames.alike().map_or_else(|| frames.lens().iter().any(is_too_long), |len| is_too_long(&len)) {
            return None;
        }
        let index = self.choose()?;
        let shared = &*self.shared;
        let slot = shared.slots.get(index).filter(|_| shared.is_usable())?;
        let mut ring = slot.ring.lock();
        let ring = ring.as_mut()?;
        let some: ArrayVec<u8, BATCH_LEN>;
        let all = if bits == all_places(frames.len()) {
            EVERY.get(..frames.len()).unwrap_or_default()
        } else {
            some = places(bits).map(|place| place as u8).collect();
            &some
        };
        let mut outcome = TxOutcome::default();
        let send = |ring: &mut Vring, at, too_big: &mut u32| {
            ring.transmit_frames(frames, all.get(at..).unwrap_or_default(), too_big)
        };
        let done = send_ready(shared, &mut outcome, index, ring, all.len(), send);
        let (sent, left) = all.split_at_checked(done).unwrap_or((all, &[]));
        match frames.alike() {
            Some(len) => slot.stats.count_alike(sent.len(), len),
            None => slot.stats.count_all(sent.iter().map(|place| frames.shown_at(usize::from(*place)))),
        }
        outcome.dropped_bytes +=
            left.iter().map(|place| frames.shown_at(usize::from(*place)).1 as u64).sum::<u64>();
        frames.sent(bits);
        Some(outcome)
    }
}

/// Does in software what the guest does not take; returns also how many frames could not be finished.
fn finish(batch: &mut Batch, ring: &Vring) -> (Vec<Packet>, u32) {
    let mut done = Vec::new();
    let mut failed = 0;
    for mut packet in batch.drain(..) {
        let is_ok = if ring.takes(&packet.offload) {
            done.push(packet);
            true
        } else if packet.offload.gso.is_some() {
            gso::segment(packet, &mut |segment| done.push(segment)).is_ok()
        } else {
            let filled = checksum::fill_partial(&mut packet);
            done.extend(filled.then_some(packet));
            filled
        };
        failed += u32::from(!is_ok);
    }
    (done, failed)
}
