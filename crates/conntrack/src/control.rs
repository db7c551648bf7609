//! Settings, and the sweep.

use crate::errand::{PARTS_AT_ONCE, Removed, Task, Walk};
use crate::timeout::TimeoutPolicy;
use crate::track::{Conntrack, SHARDS};
use crate::zone::{LimitStatus, LimitZone};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Lets others have the core while no part's lock is held: who must give it up soon does so here rather than with a lock
/// that a polling thread waits for.
pub(crate) fn pause() {
    std::thread::yield_now();
}

/// Sleeps for some tens of microseconds.
pub(crate) fn nap() {
    std::thread::sleep(Duration::from_micros(20));
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
        let (mut count, mut removed) = (0, Removed::default());
        let mut left = parts;
        while left > 0 {
            let from = self.sweep_at.load(Relaxed) % SHARDS as u32;
            let end = from + left.min(PARTS_AT_ONCE).min(SHARDS as u32 - from);
            self.sweep_at.store(end, Relaxed);
            left -= end - from;
            let mut walk = Walk::over(from, end);
            while !walk.is_over() {
                removed.make_room();
                let task = self.run(Task::Sweep { walk, now, removed });
                let Task::Sweep { walk: w, removed: r, .. } = task else { return count };
                (walk, removed) = (w, r);
                count += removed.count;
                pause();
            }
        }
        count
    }

    /// Connections in the table, dead ones included: what takes memory. Takes the lock of each part: for tests.
    pub fn stored(&self) -> usize {
        (0..SHARDS as u32).map(|shard| self.part(shard).lock().len()).sum()
    }
}
