//! Receive queues of a port ([`crate::sender`] has the other direction).

use crate::mem::frames::Frames;
use crate::port::{ANNOUNCE, Shared, Slot};
use crate::ring::Violation;
use crate::vring::{RxCount, Vring};
use netdev::{Burst, RxQueue};
use packet::{Batch, Packet};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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
