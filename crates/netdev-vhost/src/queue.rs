//! The packet's side of a port: receive queue and sender of one polling thread.

use crate::pool;
use crate::port::{ANNOUNCE, Shared, Slot};
use crate::vring::{RxCount, Vring};
use netdev::{RxQueue, TxOutcome, TxQueue};
use packet::{Batch, Packet, checksum, gso};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a frame may have beyond the MTU: Ethernet header, two tags less their place in the MTU, checksum.
const FRAME_OVERHEAD: usize = 14 + 4 + 4;

/// Receives what a guest sends over one queue.
pub struct VhostRx {
    shared: Arc<Shared>,
    queue: usize,
    lends: bool,
}

impl VhostRx {
    pub fn new(shared: Arc<Shared>, queue: usize) -> Self {
        VhostRx { shared, queue, lends: false }
    }

    /// Takes frames from the ring.
    fn poll(&self, slot: &Slot, index: usize, batch: &mut Batch) {
        // The front end's thread holds the lock for a moment when it changes the ring.
        let Some(mut ring) = slot.ring.try_lock() else { return };
        let Some(ring) = ring.as_mut() else { return };
        let before = batch.len();
        let mut lost = RxCount::default();
        let result = ring.receive(batch, self.lends, &mut lost);
        if let Err(violation) = result {
            self.shared.violated(index, violation);
        }
        if batch.len() == before && lost == RxCount::default() {
            return;
        }
        if self.shared.policer.is_active() {
            let mut at = 0;
            batch.retain(|p| {
                at += 1;
                at <= before || self.shared.policer.admit(p)
            });
        }
        if lost.called {
            slot.stats.count_call();
        }
        slot.stats.count(batch.get(before..).unwrap_or_default());
        let c = &self.shared.counters;
        for (all, n) in [(&c.rx_too_big, lost.too_big), (&c.rx_malformed, lost.malformed)] {
            if n > 0 {
                all.fetch_add(n, Relaxed);
            }
        }
    }
}

impl RxQueue for VhostRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let index = 2 * self.queue + 1;
        let before = batch.len();
        let shared = &*self.shared;
        if self.queue == 0 && shared.announce.load(Relaxed) != 0 && !batch.is_full() {
            let mac = shared.announce.swap(0, Relaxed) & !ANNOUNCE;
            batch.push(reverse_arp(mac));
        }
        if let Some(slot) = shared.slots.get(index)
            && slot.enabled.load(Relaxed)
            && shared.is_usable()
        {
            self.poll(slot, index, batch);
        }
        batch.len() - before
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn allow_loans(&mut self) {
        self.lends = true;
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

fn bytes_of(packets: &[Packet]) -> u64 {
    packets.iter().map(|p| p.len() as u64).sum()
}

/// Sends frames that the guest takes as they are, with retries while it makes room.
fn send_ready(
    shared: &Shared,
    outcome: &mut TxOutcome,
    index: usize,
    ring: &mut Vring,
    packets: &mut [Packet],
) {
    let retries_max = shared.retries_max.load(Relaxed);
    let (mut rest, mut retries) = (packets, 0);
    let (mut sent, mut too_big) = (0u64, 0);
    let Some(stats) = shared.slots.get(index).map(|slot| &slot.stats) else { return };
    loop {
        let big_before = too_big;
        match ring.transmit(rest, &mut too_big) {
            Ok(n) => {
                let (done, left) = rest.split_at_mut(n.min(rest.len()));
                sent += (n as u64).saturating_sub(u64::from(too_big - big_before));
                stats.count(done);
                rest = left;
                if rest.is_empty() || retries >= retries_max || n == 0 && retries > 0 {
                    break;
                }
                ring.finish().then(|| stats.count_call());
                retries += 1;
                std::hint::spin_loop();
            }
            Err(violation) => {
                shared.violated(index, violation);
                break;
            }
        }
    }
    ring.finish().then(|| stats.count_call());
    let c = &shared.counters;
    outcome.sent += sent as u32;
    outcome.dropped_too_big += too_big;
    outcome.dropped_full += rest.len() as u32;
    outcome.dropped_bytes += bytes_of(rest);
    for (counter, n) in [
        (&c.tx_retries, u64::from(retries)),
        (&c.tx_failure_drops, rest.len() as u64),
        (&c.tx_mtu_exceeded_drops, u64::from(too_big)),
    ] {
        if n > 0 {
            counter.fetch_add(n, Relaxed);
        }
    }
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
                send_ready(shared, outcome, index, ring, batch);
            } else {
                let (mut finished, failed) = finish(batch, ring);
                outcome.dropped_error += failed;
                shared.counters.tx_offload_drops.fetch_add(failed.into(), Relaxed);
                send_ready(shared, outcome, index, ring, &mut finished);
            }
        } else {
            outcome.dropped_down += batch.len() as u32;
            outcome.dropped_bytes += bytes_of(batch);
            shared.counters.tx_failure_drops.fetch_add(batch.len() as u64, Relaxed);
        }
        pool::drop_all(batch);
        self.outcome
    }
    fn takes_loans(&self) -> bool {
        true
    }
}

/// Does in software what the guest does not take; returns also how many frames could not be finished.
fn finish(batch: &mut Batch, ring: &Vring) -> (Vec<Packet>, u32) {
    let mut done = Vec::new();
    let mut failed = 0;
    for mut packet in batch.drain(..) {
        packet.fill();
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
