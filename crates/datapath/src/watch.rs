//! A polling thread's watch: the time after each batch without asking the kernel's clock for it.

use crate::cpu::ticks;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Fractional bits of the rate.
const FRACTION: u32 = 32;

/// The processor's count of time, set by the clock every now and then.
pub(crate) struct Watch {
    /// When it was set first, on the processor's count and on the clock.
    first: (u64, Instant),
    /// When it was set last.
    last: (u64, Instant),
    /// Nanoseconds of a tick, as a fixed-point number; 0 until it was measured.
    rate: u64,
}

/// Since when the processor's count is compared with the clock.
static BEGIN: OnceLock<(u64, Instant)> = OnceLock::new();
/// For how long it must have been.
const ENOUGH: Duration = Duration::from_millis(10);

/// Begins to compare them, so that [`hz`] knows the rate by the time that a polling thread asks.
pub(crate) fn begin() {
    BEGIN.get_or_init(|| (ticks(), Instant::now()));
}

/// Ticks of the processor's count in a second; its cycles are meant by that in what operators read. The first call
/// may take 10 ms.
pub(crate) fn hz() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (first, since) = *BEGIN.get_or_init(|| (ticks(), Instant::now()));
        std::thread::sleep(ENOUGH.saturating_sub(since.elapsed()));
        let counted = ticks().saturating_sub(first);
        (counted as f64 / since.elapsed().as_secs_f64()).max(1.0)
    })
}

impl Watch {
    pub fn new() -> Self {
        let now = (ticks(), Instant::now());
        Watch { first: now, last: now, rate: 0 }
    }

    /// Sets the watch by the clock; returns the time.
    pub fn set(&mut self) -> Instant {
        self.last = (ticks(), Instant::now());
        let ns = self.last.1.duration_since(self.first.1).as_nanos();
        let counted = u128::from(self.last.0.saturating_sub(self.first.0));
        self.rate = (ns << FRACTION).checked_div(counted).and_then(|r| u64::try_from(r).ok()).unwrap_or(0);
        self.last.1
    }

    /// The time. It goes back a bit when the watch went too fast before it was set.
    #[inline]
    pub fn now(&self) -> Instant {
        if self.rate == 0 {
            return Instant::now();
        }
        let counted = u128::from(ticks().saturating_sub(self.last.0));
        let ns = (counted * u128::from(self.rate)) >> FRACTION;
        self.last.1 + Duration::from_nanos(ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_count() {
        let hz = hz();
        let (before, start) = (ticks(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let seconds = (ticks() - before) as f64 / hz;
        assert!((0.9..1.1).contains(&(seconds / start.elapsed().as_secs_f64())), "{hz}");
    }

    #[test]
    fn the_watch_goes_as_the_clock_does() {
        let mut watch = Watch::new();
        std::thread::sleep(Duration::from_millis(20));
        watch.set();
        std::thread::sleep(Duration::from_millis(20));
        let (before, shown, after) = (Instant::now(), watch.now(), Instant::now());
        let slack = Duration::from_millis(2);
        assert!(shown + slack > before && shown < after + slack, "{before:?} {shown:?} {after:?}");
    }
}
