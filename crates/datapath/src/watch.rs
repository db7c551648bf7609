//! A polling thread's watch: the time after each batch without asking the kernel's clock for it.

use crate::cpu::ticks;
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
