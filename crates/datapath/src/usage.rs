//! How much of a thread's time went where lately: a ring of intervals.

use std::time::{Duration, Instant};

/// Length of an interval.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// Intervals that are remembered.
pub(crate) const INTERVALS: usize = 12;

/// Growth of a counter in each of the last intervals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    grown: [u64; INTERVALS],
    next: usize,
    last: u64,
}

impl Usage {
    /// Ends an interval at which the counter stands at `now`.
    pub fn roll(&mut self, now: u64) {
        self.grown[self.next] = now.saturating_sub(self.last);
        self.next = (self.next + 1) % INTERVALS;
        self.last = now;
    }

    /// Growth in the last `intervals`.
    pub fn recent(&self, intervals: usize) -> u64 {
        let at = |back| (self.next + INTERVALS - back) % INTERVALS;
        (1..=intervals.min(INTERVALS)).map(|back| self.grown[at(back)]).sum()
    }

    /// Growth in all intervals that are remembered.
    pub fn all(&self) -> u64 {
        self.recent(INTERVALS)
    }
}

/// When intervals end, and how many have.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Whether an interval ends now. The first call only starts one.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        match self.last {
            Some(last) if now.duration_since(last) < INTERVAL => false,
            last => {
                self.last = Some(now);
                last.is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_intervals_are_summed_and_old_ones_forgotten() {
        let mut u = Usage::default();
        (1..=20u64).for_each(|n| u.roll(n * n));
        assert_eq!(u.recent(1), 400 - 361);
        assert_eq!(u.recent(2), 400 - 324);
        assert_eq!(u.all(), 400 - 64);
        assert_eq!(u.recent(99), u.all());
    }
}
