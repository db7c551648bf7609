//! Settings that threads read as they go, without being told.

use crate::perf::Supervision;
use crate::poll_config::PollConfig;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A thread that received so many packets from one queue at once has no time to sleep.
pub(crate) const BUSY_BATCH: usize = packet::BATCH_LEN / 2;
/// The longest that [`PollConfig::max_sleep_us`] may be.
pub(crate) const SLEEP_US_MAX: u32 = 10_000;

#[derive(Debug)]
pub(crate) struct Tuning {
    cache_one_in: AtomicU32,
    signatures: AtomicBool,
    tx_flush_us: AtomicU32,
    max_sleep_us: AtomicU32,
    perf_metrics: AtomicBool,
    /// Of threads to come.
    pub supervision: Mutex<Supervision>,
    /// Grows when what was remembered is to be forgotten.
    epoch: AtomicU32,
}

/// How a batch is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Remember {
    /// One of so many packets whose flow the first look did not find; 0 for none.
    pub one_in: u32,
    /// What is found then is found by `smc-enable` alone.
    pub as_signatures: bool,
}

impl Tuning {
    pub fn new() -> Self {
        let new = Tuning {
            cache_one_in: AtomicU32::new(1),
            signatures: AtomicBool::new(false),
            tx_flush_us: AtomicU32::new(0),
            max_sleep_us: AtomicU32::new(0),
            perf_metrics: AtomicBool::new(false),
            supervision: Mutex::default(),
            epoch: AtomicU32::new(0),
        };
        new.set(&PollConfig::default());
        new
    }

    pub fn set(&self, config: &PollConfig) {
        let was = (self.cache_one_in.load(Ordering::Relaxed), self.signatures.load(Ordering::Relaxed));
        let now = (config.cache_one_in, config.signatures);
        self.cache_one_in.store(now.0, Ordering::Relaxed);
        self.signatures.store(now.1, Ordering::Relaxed);
        if (was.0 > 0 && now.0 == 0) || (was.1 && !now.1) {
            self.forget();
        }
        self.tx_flush_us.store(config.tx_flush_us, Ordering::Relaxed);
        self.perf_metrics.store(config.perf_metrics, Ordering::Relaxed);
        self.max_sleep_us.store(config.max_sleep_us.min(SLEEP_US_MAX), Ordering::Relaxed);
    }

    /// Makes every thread forget what it remembers.
    pub fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// What is to be remembered of packets of a port with or without its own part of the cache (`emc-enable`).
    #[inline]
    pub fn remember(&self, emc: bool) -> Remember {
        let one_in = if emc { self.cache_one_in.load(Ordering::Relaxed) } else { 0 };
        match self.signatures.load(Ordering::Relaxed) {
            true => Remember { one_in: 1, as_signatures: one_in == 0 },
            false => Remember { one_in, as_signatures: false },
        }
    }

    #[inline]
    pub fn tx_flush_us(&self) -> u32 {
        self.tx_flush_us.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn perf_metrics(&self) -> bool {
        self.perf_metrics.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn max_sleep_us(&self) -> u32 {
        self.max_sleep_us.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_stand_in_where_the_cache_is_off() {
        let tuning = Tuning::new();
        let set = |cache_one_in, signatures| {
            let before = tuning.epoch();
            tuning.set(&PollConfig { cache_one_in, signatures, ..PollConfig::default() });
            tuning.epoch() != before
        };
        assert!(!set(100, false));
        assert_eq!(tuning.remember(true), Remember { one_in: 100, as_signatures: false });
        assert_eq!(tuning.remember(false).one_in, 0);
        assert!(set(0, true));
        assert_eq!(tuning.remember(true), Remember { one_in: 1, as_signatures: true });
        assert!(set(0, false));
        assert!(!set(0, false) && !set(1, true));
        assert_eq!(tuning.remember(true), Remember { one_in: 1, as_signatures: false });
        assert!(tuning.remember(false).as_signatures);
    }
}
