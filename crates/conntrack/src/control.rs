//! Settings, and the sweep.

use crate::timeout::TimeoutPolicy;
use crate::track::{Conntrack, SHARDS, SLICE};
use crate::zone::{LimitStatus, LimitZone};
use std::sync::atomic::Ordering::Relaxed;

/// Lets others have the core while no part's lock is held: who must give it up soon does so here rather than with a lock
/// that a polling thread waits for.
pub(crate) fn pause() {
    std::thread::yield_now();
}

impl Conntrack {
    /// Number of connections.
    pub fn len(&self) -> u32 {
        self.zones.total()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of connections in a zone.
    pub fn zone_len(&self, zone: u16) -> u32 {
        self.zones.count(zone)
    }

    pub fn maxconns(&self) -> u32 {
        self.zones.max()
    }

    pub fn set_maxconns(&self, max: u32) {
        self.zones.set_max(max);
    }

    /// Whether segments outside of their connection's window are invalid.
    pub fn checks_sequence(&self) -> bool {
        self.check_seq.load(Relaxed)
    }

    pub fn set_sequence_check(&self, on: bool) {
        self.check_seq.store(on, Relaxed);
    }

    /// Sets a limit. Says whether it is a new one.
    pub fn set_limit(&self, zone: LimitZone, limit: u32) -> bool {
        self.zones.set_limit(zone, limit)
    }

    /// Removes a limit. Says whether there was one.
    pub fn del_limit(&self, zone: LimitZone) -> bool {
        self.zones.del_limit(zone)
    }

    /// The limit for zones without one of their own; 0 if there is none.
    pub fn default_limit(&self) -> u32 {
        self.zones.default_limit()
    }

    /// Limits of `zones`, or of all zones with one of their own.
    pub fn limits(&self, zones: &[u16]) -> Vec<LimitStatus> {
        self.zones.limit_statuses(zones)
    }

    /// Sets the timeout policy `id`, which must not be 0.
    pub fn set_timeout_policy(&self, id: u32, policy: TimeoutPolicy) {
        self.policies.write().insert(id, policy);
    }

    pub fn del_timeout_policy(&self, id: u32) -> bool {
        self.policies.write().remove(&id).is_some()
    }

    pub fn timeout_policies(&self) -> Vec<(u32, TimeoutPolicy)> {
        self.policies.read().iter().map(|(id, p)| (*id, *p)).collect()
    }

    /// Removes what has expired or was flushed from the next `parts` of [`SHARDS`] parts. Returns the number
    /// removed. To be called from time to time, by one thread.
    pub fn sweep(&self, parts: u32, now: u64) -> u32 {
        let mut removed = 0;
        for _ in 0..parts {
            let shard = self.sweep_at.fetch_add(1, Relaxed) % SHARDS as u32;
            let mut slot = 0;
            while let Some(next) = self.sweep_slice(shard, slot, now, &mut removed) {
                slot = next;
                pause();
            }
            pause();
        }
        removed
    }

    fn sweep_slice(&self, shard: u32, from: u32, now: u64, removed: &mut u32) -> Option<u32> {
        // What takes time is done without the lock.
        let mut gone = Vec::with_capacity(SLICE as usize);
        let mut part = self.part(shard).lock();
        let end = part.slots().min(from + SLICE);
        for slot in from..end {
            if part.get(slot).is_some_and(|c| !self.is_alive(c, now)) {
                gone.extend(part.remove(slot).map(|conn| (slot, conn)));
            }
        }
        let is_last = end >= part.slots();
        let spare = part.let_go();
        drop(part);
        drop(spare);
        *removed += gone.len() as u32;
        gone.iter().for_each(|(slot, conn)| self.after_removal(shard, *slot, conn));
        (!is_last).then_some(end)
    }

    /// Connections in the table, dead ones included: what takes memory.
    pub fn stored(&self) -> usize {
        (0..SHARDS as u32).map(|shard| self.part(shard).lock().len()).sum()
    }
}
