//! The packet's side of a port: receive queue and sender of one polling thread.

use crate::pool;
use crate::port::{ANNOUNCE, SIZES, Shared};
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
}

impl VhostRx {
    pub fn new(shared: Arc<Shared>, queue: usize) -> Self {
        VhostRx { shared, queue }
    }

    fn count(&self, new: &[Packet], lost: RxCount) {
        let (shared, c) = (&self.shared, &self.shared.counters);
        let mut sizes = [0u64; 7];
        let (mut bytes, mut multicast, mut broadcast) = (0, 0, 0);
        for packet in new {
            let len = packet.len();
            bytes += len as u64;
            let class = SIZES.iter().position(|max| len <= *max).unwrap_or(SIZES.len());
            if let Some(n) = sizes.get_mut(class) {
                *n += 1;
            }
            match packet.data().first_chunk::<6>() {
                Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => broadcast += 1,
                Some([first, ..]) if first & 1 != 0 => multicast += 1,
                _ => {}
            }
        }
        if let Some(slot) = shared.slots.get(2 * self.queue + 1) {
            slot.packets.fetch_add(new.len() as u64, Relaxed);
            slot.bytes.fetch_add(bytes, Relaxed);
        }
        for (all, n) in shared.sizes.iter().zip(sizes).filter(|(_, n)| *n > 0) {
            all.fetch_add(n, Relaxed);
        }
        let pairs = [
            (&c.rx_multicast, multicast),
            (&c.rx_broadcast, broadcast),
            (&c.rx_too_big, lost.too_big),
            (&c.rx_malformed, lost.malformed),
        ];
        for (all, n) in pairs.into_iter().filter(|(_, n)| *n > 0) {
            all.fetch_add(n, Relaxed);
        }
    }
}

impl RxQueue for VhostRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let index = 2 * self.queue + 1;
        let before = batch.len();
        if self.queue == 0 && self.shared.announce.load(Relaxed) != 0 && !batch.is_full() {
            let mac = self.shared.announce.swap(0, Relaxed) & !ANNOUNCE;
            batch.push(reverse_arp(mac));
        }
        let Some(slot) = self.shared.slots.get(index) else { return 0 };
        if !slot.enabled.load(Relaxed) || self.shared.broken.load(Relaxed) {
            return batch.len() - before;
        }
        // The front end's thread holds the lock for a moment when it changes the ring.
        let Some(mut ring) = slot.ring.try_lock() else { return batch.len() - before };
        let Some(ring) = ring.as_mut() else { return batch.len() - before };
        let mut lost = RxCount::default();
        let result = ring.receive(batch, &mut lost);
        let new = batch.get(before..).unwrap_or_default();
        if !new.is_empty() || lost != RxCount::default() {
            self.count(new, lost);
        }
        if let Err(violation) = result {
            self.shared.violated(index, violation);
        }
        batch.len() - before
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
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

    /// Sends frames that the guest takes as they are, with retries while it makes room.
    fn send_ready(&mut self, index: usize, ring: &mut Vring, packets: &[Packet]) {
        let retries_max = self.shared.retries_max.load(Relaxed);
        let (mut rest, mut retries) = (packets, 0);
        let (mut sent, mut bytes, mut too_big) = (0u64, 0u64, 0);
        loop {
            let big_before = too_big;
            match ring.transmit(rest, &mut too_big) {
                Ok(n) => {
                    let (done, left) = rest.split_at(n.min(rest.len()));
                    sent += (n as u64).saturating_sub(u64::from(too_big - big_before));
                    bytes += done.iter().map(|p| p.len() as u64).sum::<u64>();
                    rest = left;
                    if rest.is_empty() || retries >= retries_max || n == 0 && retries > 0 {
                        break;
                    }
                    ring.finish();
                    retries += 1;
                    std::hint::spin_loop();
                }
                Err(violation) => {
                    self.shared.violated(index, violation);
                    break;
                }
            }
        }
        ring.finish();
        let c = &self.shared.counters;
        if let Some(slot) = self.shared.slots.get(index) {
            slot.packets.fetch_add(sent, Relaxed);
            slot.bytes.fetch_add(bytes, Relaxed);
        }
        self.outcome.sent += sent as u32;
        self.outcome.dropped_too_big += too_big;
        self.outcome.dropped_full += rest.len() as u32;
        self.outcome.dropped_bytes += rest.iter().map(|p| p.len() as u64).sum::<u64>();
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

    /// Removes what is over the MTU.
    fn check_sizes(&mut self, batch: &mut Batch) {
        let max = self.shared.mtu.load(Relaxed) as usize + FRAME_OVERHEAD;
        let before = batch.len();
        batch.retain(|p| {
            let fits = p.len() <= max || p.offload.gso.is_some();
            self.outcome.dropped_bytes += if fits { 0 } else { p.len() as u64 };
            fits
        });
        let dropped = before - batch.len();
        if dropped > 0 {
            self.outcome.dropped_too_big += dropped as u32;
            self.shared.counters.tx_mtu_exceeded_drops.fetch_add(dropped as u64, Relaxed);
        }
    }
}

impl TxQueue for VhostTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        self.outcome = TxOutcome::default();
        self.check_sizes(batch);
        let shared = self.shared.clone();
        let slot = self.choose().and_then(|i| Some((i, shared.slots.get(i)?)));
        // Another thread's turn at this queue is short; so is the front end's.
        let guard = slot.map(|(i, slot)| (i, slot.ring.lock()));
        if let Some((index, mut ring)) = guard
            && let Some(ring) = ring.as_mut()
            && !shared.broken.load(Relaxed)
        {
            if batch.iter().all(|p| ring.takes(&p.offload)) {
                self.send_ready(index, ring, batch);
            } else {
                let (finished, failed) = finish(batch, ring);
                self.outcome.dropped_error += failed;
                shared.counters.tx_offload_drops.fetch_add(failed.into(), Relaxed);
                self.send_ready(index, ring, &finished);
            }
        } else {
            self.outcome.dropped_down += batch.len() as u32;
            self.outcome.dropped_bytes += batch.iter().map(|p| p.len() as u64).sum::<u64>();
            shared.counters.tx_failure_drops.fetch_add(batch.len() as u64, Relaxed);
        }
        batch.clear();
        self.outcome
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

/// The largest frame that a queue receives.
pub const FRAME_MAX: usize = pool::FRAME_MAX;
