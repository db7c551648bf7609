//! A port's sender, one of each polling thread.

use crate::mem::frames::Frames;
use crate::pool;
use crate::port::Shared;
use crate::ring::Violation;
use crate::vring::Vring;
use arrayvec::ArrayVec;
use netdev::burst::{all_places, places, send_as_batch, send_copies_as_batch};
use netdev::{Burst, TxOutcome, TxQueue, steering};
use packet::{BATCH_LEN, Batch, Packet, checksum, gso};
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

/// Sends to a guest, on a queue that is the thread's own if the guest has as many, or on all by packets' hashes.
pub struct VhostTx {
    shared: Arc<Shared>,
    thread: usize,
    generation: Option<u64>,
    /// The ring of this thread, if any is enabled.
    ring: Option<usize>,
    /// By queue pair, the ring that is used for it; empty if none is enabled.
    map: Vec<usize>,
    outcome: TxOutcome,
}

/// For each of `pairs` queue pairs the ring to use: its own if that is enabled; the others are shared out among those.
fn mapping(pairs: usize, is_enabled: impl Fn(usize) -> bool) -> Vec<usize> {
    let enabled: Vec<usize> = (0..pairs).map(|pair| 2 * pair).filter(|ring| is_enabled(*ring)).collect();
    let mut others = enabled.iter().cycle();
    let ring = |pair| match enabled.binary_search(&(2 * pair)) {
        Ok(_) => Some(2 * pair),
        Err(_) => others.next().copied(),
    };
    (0..pairs).filter_map(ring).collect()
}

/// Places of a burst's frames, by the ring on which they leave.
type ByRing = ArrayVec<(usize, u32), BATCH_LEN>;

impl VhostTx {
    pub fn new(shared: Arc<Shared>, thread: usize) -> Self {
        let outcome = TxOutcome::default();
        VhostTx { shared, thread, generation: None, ring: None, map: Vec::new(), outcome }
    }

    /// Looks which rings are enabled, if that has changed.
    #[inline]
    fn refresh(&mut self) {
        let generation = self.shared.generation.load(Relaxed);
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.share_out();
        }
    }

    /// Shares out the enabled rings, among the threads and among the queue pairs.
    #[cold]
    fn share_out(&mut self) {
        let n = self.shared.rings.load(Relaxed);
        let is_enabled = |i: usize| self.shared.slots.get(i).is_some_and(|s| s.enabled.load(Relaxed));
        let enabled: Vec<usize> = (0..n).step_by(2).filter(|i| is_enabled(*i)).collect();
        self.ring = enabled.get(self.thread.checked_rem(enabled.len()).unwrap_or(0)).copied();
        self.map = mapping(n / 2, is_enabled);
        tracing::debug!(target: "netdev_dpdk", "TX queue mapping for port '{}': {}", self.shared.name,
            self.map.iter().enumerate().map(|(pair, ring)| format!("{pair} --> {}", ring / 2)).collect::<Vec<_>>().join(", "));
    }

    /// Whether packets choose their queue themselves (`tx-steering=hash`).
    #[inline]
    fn is_steered(&self) -> bool {
        self.shared.by_hash.load(Relaxed) && self.map.len() > 1
    }

    /// The ring for packets with this hash.
    #[inline]
    fn ring_of(&self, hash: u32) -> Option<usize> {
        self.map.get((hash as usize).checked_rem(self.map.len())?).copied()
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
        self.refresh();
        if self.is_steered() {
            self.send_by_hash(batch);
        } else {
            self.send_on(self.ring, batch);
        }
        self.outcome
    }

    #[inline]
    fn send_burst(&mut self, burst: &mut dyn Burst, bits: u32) -> TxOutcome {
        match burst.as_any().downcast_mut::<Frames>() {
            Some(frames) if frames.are_lent(bits) => match self.send_frames(frames, bits, false) {
                Some(outcome) => outcome,
                None => send_as_batch(self, burst, bits),
            },
            _ => send_as_batch(self, burst, bits),
        }
    }

    fn send_copies(&mut self, burst: &mut dyn Burst, bits: u32) -> TxOutcome {
        match burst.as_any().downcast_mut::<Frames>() {
            Some(frames) if frames.are_lent(bits) => match self.send_frames(frames, bits, true) {
                Some(outcome) => outcome,
                None => send_copies_as_batch(self, burst, bits),
            },
            _ => send_copies_as_batch(self, burst, bits),
        }
    }
}

impl VhostTx {
    /// Sends packets on one ring, if there is one.
    fn send_on(&mut self, index: Option<usize>, batch: &mut Batch) {
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
    }

    /// Sends each packet on the ring of its hash.
    #[cold]
    fn send_by_hash(&mut self, batch: &mut Batch) {
        let mut rest = std::mem::take(batch);
        while let Some(first) = rest.first() {
            let ring = self.ring_of(steering::hash(first));
            let (now, later): (Batch, Batch) =
                rest.drain(..).partition(|p| self.ring_of(steering::hash(p)) == ring);
            rest = later;
            *batch = now;
            self.send_on(ring, batch);
        }
    }

    /// The frames at `bits` by the rings of their hashes, each ring once; `None` if no ring is enabled.
    fn by_hash(&self, frames: &Frames, bits: u32) -> Option<ByRing> {
        let mut all = ByRing::new();
        for place in places(bits) {
            let ring = self.ring_of(steering::hash_of(frames.head(place)))?;
            match all.iter_mut().find(|(r, _)| *r == ring) {
                Some((_, bits)) => *bits |= 1 << place,
                None => all.push((ring, 1 << place)),
            }
        }
        Some(all)
    }

    /// Sends frames of another guest without making packets of them; `None` if one is too long, the guest does not take
    /// what is left to be done, or no ring runs. Those that `stay` are lent as before.
    #[inline]
    fn send_frames(&mut self, frames: &mut Frames, bits: u32, stay: bool) -> Option<TxOutcome> {
        let max = self.shared.mtu.load(Relaxed) + FRAME_OVERHEAD as u32;
        if !frames.fit(bits, max) {
            return None;
        }
        self.refresh();
        if !self.is_steered() {
            return self.send_frames_on(self.ring?, frames, bits, stay);
        }
        let mut sum = TxOutcome::default();
        let mut left = bits;
        for (ring, bits) in self.by_hash(frames, bits)? {
            if let Some(outcome) = self.send_frames_on(ring, frames, bits, stay) {
                left &= !bits;
                sum += outcome;
            }
        }
        if left != 0 {
            sum += match stay {
                true => send_copies_as_batch(self, frames, left),
                false => send_as_batch(self, frames, left),
            };
        }
        Some(sum)
    }

    /// As [`VhostTx::send_frames`], on this ring; `None` also if its driver does not take what is left to be done.
    #[inline]
    fn send_frames_on(&self, index: usize, frames: &mut Frames, bits: u32, stay: bool) -> Option<TxOutcome> {
        let shared = &*self.shared;
        let slot = shared.slots.get(index).filter(|_| shared.is_usable())?;
        let mut ring = slot.ring.lock();
        let ring = ring.as_mut()?;
        if !frames.unfinished_at(bits).all(|offload| ring.takes(offload)) {
            return None;
        }
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
        if !stay {
            frames.sent(bits);
        }
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

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
