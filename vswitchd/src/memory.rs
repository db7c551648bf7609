//! Watching the process's memory: log lines when it grows, and `memory/show`.

use nix::sys::resource::{UsageWho, getrusage};
use std::collections::BTreeMap;
use tracing::info;

/// Time between two looks, milliseconds.
const CHECK_MS: u64 = 10_000;

/// Counts of things that take memory, by name: `ports`, `rules`, `udpif keys` and the like.
pub type Usage = BTreeMap<String, u64>;

/// When memory was last looked at and spoken of.
#[derive(Debug)]
pub(crate) struct Monitor {
    started_ms: u64,
    next_check_ms: u64,
    reported: Option<(u64, u64)>,
}

impl Monitor {
    /// One of a process that has started now.
    pub fn new(now_ms: u64) -> Self {
        Monitor { started_ms: now_ms, next_check_ms: now_ms + CHECK_MS, reported: None }
    }

    /// Logs how much memory the process has used at most, the first time and when it has grown by half; then true,
    /// for the caller to log [`compose`] too.
    pub fn run(&mut self, now_ms: u64) -> bool {
        if now_ms < self.next_check_ms {
            return false;
        }
        self.next_check_ms = now_ms + CHECK_MS;
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return false };
        let peak_kb = u64::try_from(usage.max_rss()).unwrap_or(0);
        self.report(now_ms, peak_kb)
    }

    fn report(&mut self, now_ms: u64, peak_kb: u64) -> bool {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        match self.reported {
            None => {
                let after = seconds(now_ms.saturating_sub(self.started_ms));
                info!(target: "memory", "{peak_kb} kB peak resident set size after {after:.1} seconds");
            }
            Some((then_ms, before_kb)) if peak_kb as f64 >= before_kb as f64 * 1.5 => {
                let (grown, time) =
                    ((peak_kb as f64 / before_kb as f64 - 1.0) * 100.0, seconds(now_ms - then_ms));
                info!(
                    target: "memory",
                    "peak resident set size grew {grown:.0}% in last {time:.1} seconds, from {before_kb} kB to {peak_kb} kB"
                );
            }
            Some(_) => return false,
        }
        self.reported = Some((now_ms, peak_kb));
        true
    }

    pub fn next_check_ms(&self) -> u64 {
        self.next_check_ms
    }
}

/// `name:count` pairs in order of name.
pub(crate) fn compose(usage: &Usage) -> String {
    usage.iter().map(|(name, count)| format!("{name}:{count}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_first_and_when_grown_by_half() {
        let mut monitor = Monitor::new(1_000);
        assert!(!monitor.run(CHECK_MS));
        assert!(monitor.run(1_000 + CHECK_MS));
        let mut monitor = Monitor::new(0);
        assert!(monitor.report(10_000, 1000));
        assert!(!monitor.report(20_000, 1499));
        assert!(monitor.report(30_000, 1500));
        assert!(!monitor.report(40_000, 1501));
    }

    #[test]
    fn composes() {
        assert_eq!(compose(&Usage::new()), "");
        assert_eq!(compose(&Usage::from([("rules".into(), 4), ("ports".into(), 1)])), "ports:1 rules:4");
    }
}
