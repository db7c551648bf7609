//! Zones: how many connections each has, which of them a flush has left alive, and limits.
//!
//! A zone has a *generation*. A connection remembers the one it was made under and is dead when the zone's
//! is another, so that a flush is one atomic exchange, whatever the zone holds; the sweep takes the memory
//! back later.

use crate::{ConntrackError, MAXCONNS};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Number of zones.
pub const ZONES: usize = 65_536;

/// Generation and number of connections in one word, so that they change together.
#[derive(Default)]
struct Zone(AtomicU64);

const fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Counts and limits connections by zone.
pub(crate) struct Zones {
    zones: Box<[Zone]>,
    total: AtomicU32,
    max: AtomicU32,
    /// Whether there is any limit, to spare most the lock.
    is_limited: AtomicBool,
    limits: RwLock<BTreeMap<LimitZone, Arc<ZoneLimit>>>,
}

/// What a limit is for: one zone, or all that have none of their own together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LimitZone {
    Default,
    Zone(u16),
}

#[derive(Default, Debug)]
pub(crate) struct ZoneLimit {
    limit: AtomicU32,
    /// Connections admitted under it, by zone: one entry but for the default limit.
    counts: RwLock<BTreeMap<u16, u32>>,
}

impl ZoneLimit {
    fn count(&self) -> u32 {
        self.counts.read().values().sum()
    }

    fn add(&self, zone: u16, by: i32) {
        let mut counts = self.counts.write();
        let n = counts.entry(zone).or_default();
        *n = n.saturating_add_signed(by);
        if *n == 0 {
            counts.remove(&zone);
        }
    }
}

/// A limit as it is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitStatus {
    pub zone: u16,
    pub limit: u32,
    pub count: u32,
}

/// What a connection owes its zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    pub generation: u32,
    pub limit: Option<Arc<ZoneLimit>>,
}

impl Zones {
    pub fn new() -> Self {
        Zones {
            zones: (0..ZONES).map(|_| Zone::default()).collect(),
            total: AtomicU32::new(0),
            max: AtomicU32::new(MAXCONNS),
            is_limited: AtomicBool::new(false),
            limits: RwLock::default(),
        }
    }

    fn word(&self, zone: u16) -> &AtomicU64 {
        // Every `u16` is an index.
        &self.zones[usize::from(zone)].0
    }

    /// Whether a connection made under `generation` has survived all flushes of its zone.
    #[inline]
    pub fn is_current(&self, zone: u16, made_under: u32) -> bool {
        generation(self.word(zone).load(Relaxed)) == made_under
    }

    /// Takes a place in `zone`.
    pub fn admit(&self, zone: u16) -> Result<Admission, ConntrackError> {
        let limit = self.limit_of(zone);
        if limit.as_ref().is_some_and(|l| l.count() >= l.limit.load(Relaxed)) {
            return Err(ConntrackError::ZoneFull);
        }
        if self.total.fetch_add(1, Relaxed) >= self.max.load(Relaxed) {
            self.total.fetch_sub(1, Relaxed);
            return Err(ConntrackError::Full);
        }
        if let Some(limit) = &limit {
            limit.add(zone, 1);
        }
        let generation = generation(self.word(zone).fetch_add(1, Relaxed));
        Ok(Admission { generation, limit })
    }

    /// Gives the place back.
    pub fn leave(&self, zone: u16, admission: &Admission) {
        let one_less = |word: u64| (generation(word) == admission.generation).then(|| word.wrapping_sub(1));
        // A flush has counted the connection already if the generation is another.
        if self.word(zone).fetch_update(Relaxed, Relaxed, one_less).is_ok() {
            self.total.fetch_sub(1, Relaxed);
            if let Some(limit) = &admission.limit {
                limit.add(zone, -1);
            }
        }
    }

    /// Kills all connections of `zone`. Returns how many there were.
    pub fn flush(&self, zone: u16) -> u32 {
        let word = self.word(zone);
        if word.load(Relaxed) as u32 == 0 {
            return 0;
        }
        let next = |w: u64| Some(u64::from(generation(w).wrapping_add(1)) << 32);
        let before = word.fetch_update(Relaxed, Relaxed, next).unwrap_or(0) as u32;
        self.total.fetch_sub(before, Relaxed);
        if self.is_limited.load(Relaxed) {
            self.limits.read().values().for_each(|l| {
                l.counts.write().remove(&zone);
            });
        }
        before
    }

    /// Number of living connections in `zone`.
    pub fn count(&self, zone: u16) -> u32 {
        self.word(zone).load(Relaxed) as u32
    }

    /// Number of living connections, those included that have expired unnoticed.
    pub fn total(&self) -> u32 {
        self.total.load(Relaxed)
    }

    pub fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    pub fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
    }

    fn limit_of(&self, zone: u16) -> Option<Arc<ZoneLimit>> {
        if !self.is_limited.load(Relaxed) {
            return None;
        }
        let limits = self.limits.read();
        limits.get(&LimitZone::Zone(zone)).or_else(|| limits.get(&LimitZone::Default)).cloned()
    }

    /// Says whether the limit is a new one.
    pub fn set_limit(&self, zone: LimitZone, limit: u32) -> bool {
        let mut limits = self.limits.write();
        let is_new = !limits.contains_key(&zone);
        limits.entry(zone).or_default().limit.store(limit, Relaxed);
        self.is_limited.store(true, Relaxed);
        is_new
    }

    /// Says whether there was one. Connections admitted under it are no longer counted.
    pub fn del_limit(&self, zone: LimitZone) -> bool {
        let mut limits = self.limits.write();
        let had = limits.remove(&zone).is_some();
        self.is_limited.store(!limits.is_empty(), Relaxed);
        had
    }

    /// The default limit; 0 if there is none.
    pub fn default_limit(&self) -> u32 {
        self.limits.read().get(&LimitZone::Default).map_or(0, |l| l.limit.load(Relaxed))
    }

    /// Limits of `zones` (where the default holds, that one), or of all zones with one of their own.
    pub fn limit_statuses(&self, zones: &[u16]) -> Vec<LimitStatus> {
        let limits = self.limits.read();
        let status = |zone: u16, l: Option<&Arc<ZoneLimit>>| LimitStatus {
            zone,
            limit: l.map_or(0, |l| l.limit.load(Relaxed)),
            count: l.map_or(0, |l| l.count()),
        };
        if zones.is_empty() {
            let own = limits.iter().filter_map(|(zone, l)| match zone {
                LimitZone::Default => None,
                LimitZone::Zone(zone) => Some(status(*zone, Some(l))),
            });
            return own.collect();
        }
        let of = |z: &u16| limits.get(&LimitZone::Zone(*z)).or_else(|| limits.get(&LimitZone::Default));
        zones.iter().map(|z| status(*z, of(z))).collect()
    }

    /// Every limit, for saving.
    pub fn limits(&self) -> Vec<(LimitZone, u32)> {
        self.limits.read().iter().map(|(z, l)| (*z, l.limit.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_kills_what_is_there_and_nothing_later() {
        let zones = Zones::new();
        let old = zones.admit(7).unwrap();
        assert_eq!((zones.flush(7), zones.total()), (1, 0));
        let new = zones.admit(7).unwrap();
        assert!(!zones.is_current(7, old.generation) && zones.is_current(7, new.generation));
        zones.leave(7, &old);
        assert_eq!(zones.total(), 1);
        zones.leave(7, &new);
        assert_eq!((zones.total(), zones.flush(7)), (0, 0));
    }

    #[test]
    fn limits_hold() {
        let zones = Zones::new();
        assert!(zones.set_limit(LimitZone::Default, 1));
        let first = zones.admit(1).unwrap();
        assert_eq!(zones.admit(2).unwrap_err(), ConntrackError::ZoneFull);
        assert!(zones.set_limit(LimitZone::Zone(2), 5));
        zones.admit(2).unwrap();
        assert_eq!(zones.limit_statuses(&[2, 3])[0], LimitStatus { zone: 2, limit: 5, count: 1 });
        assert_eq!(zones.limit_statuses(&[2, 3])[1], LimitStatus { zone: 3, limit: 1, count: 1 });
        zones.leave(1, &first);
        zones.flush(2);
        assert_eq!(zones.limit_statuses(&[])[0].count, 0);
        assert!(zones.del_limit(LimitZone::Default) && !zones.del_limit(LimitZone::Default));
        zones.set_max(1);
        zones.admit(3).unwrap();
        assert_eq!(zones.admit(3).unwrap_err(), ConntrackError::Full);
    }
}
