//! Moving averages of the counters over five seconds, a minute and an hour.

use crate::{Counter, counter};
use std::fmt::Write;

/// Time between two samples, milliseconds.
const INTERVAL_MS: u64 = 5_000;
/// Samples in a minute, and minutes in an hour.
const SAMPLES: usize = (60_000 / INTERVAL_MS) as usize;
const MINUTES: usize = 60;
/// A set of events that was logged once is not logged again for this long.
const LOG_FORGET_MS: u64 = 24 * 60 * 60 * 1000;
const LOGGED_BITS: usize = 1024;

#[derive(Clone)]
struct Rates {
    last_total: u64,
    samples: [u64; SAMPLES],
    minutes: [u64; MINUTES],
}

/// The history of every counter. Owned by the main loop.
pub struct Averages {
    counters: &'static [&'static Counter],
    rates: Vec<Rates>,
    /// The next sample to write, counted through an hour.
    slot: usize,
    next_run_ms: Option<u64>,
    logged: [bool; LOGGED_BITS],
    forget_at_ms: u64,
}

impl Default for Averages {
    fn default() -> Self {
        Self::over(counter::ALL)
    }
}

impl Averages {
    fn over(counters: &'static [&'static Counter]) -> Self {
        let rates = Rates { last_total: 0, samples: [0; SAMPLES], minutes: [0; MINUTES] };
        Averages {
            counters,
            rates: vec![rates; counters.len()],
            slot: 0,
            next_run_ms: None,
            logged: [false; LOGGED_BITS],
            forget_at_ms: 0,
        }
    }

    /// Moves the averages on if a sample is due. To be called at least every five seconds; after a longer pause
    /// the events are spread evenly over the samples that were missed. Returns when to call next.
    pub fn run(&mut self, now_ms: u64) -> u64 {
        let due = *self.next_run_ms.get_or_insert(now_ms + INTERVAL_MS);
        if now_ms < due {
            return due;
        }
        // More than an hour of samples would only overwrite itself.
        let elapsed = ((now_ms - due) / INTERVAL_MS + 1).min((SAMPLES * MINUTES) as u64);
        for (counter, rates) in self.counters.iter().zip(&mut self.rates) {
            rates.advance(counter.total(), self.slot, elapsed);
        }
        self.slot = (self.slot + elapsed as usize) % (SAMPLES * MINUTES);
        self.next_run_ms = Some(now_ms + INTERVAL_MS);
        now_ms + INTERVAL_MS
    }

    /// The reply of `coverage/show`.
    pub fn show(&self) -> String {
        let mut out = self.lines().join("\n");
        out.push('\n');
        out
    }

    /// What to log when something worth explaining happened (a long poll interval): the whole table, or one line
    /// if events with the same ranking were logged within the last day.
    pub fn log_lines(&mut self, now_ms: u64) -> Vec<String> {
        if now_ms >= self.forget_at_ms {
            self.logged = [false; LOGGED_BITS];
            self.forget_at_ms = now_ms + LOG_FORGET_MS;
        }
        let hash = self.hash();
        let seen = &mut self.logged[hash as usize % LOGGED_BITS];
        if std::mem::replace(seen, true) {
            return vec![format!("Skipping details of duplicate event coverage for hash={hash:08x}")];
        }
        self.lines()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "Event coverage, avg rate over last: {} seconds, last minute, last hour,  hash={:08x}:",
            INTERVAL_MS / 1000,
            self.hash()
        )];
        let newest = (self.slot + SAMPLES - 1) % SAMPLES;
        let mut never_hit = 0;
        for (counter, rates) in self.counters.iter().zip(&self.rates) {
            let total = counter.total();
            if total == 0 {
                never_hit += 1;
                continue;
            }
            lines.push(rates.line(counter.name(), newest, total));
        }
        lines.push(format!("{never_hit} events never hit"));
        lines
    }

    /// A number that is the same when the same events happened in the same order of frequency (FNV-1a).
    fn hash(&self) -> u32 {
        let mut ranked: Vec<_> =
            self.counters.iter().map(|c| (c.total(), c.name())).filter(|&(t, _)| t != 0).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let mut text = String::new();
        let mut last = None;
        for (total, name) in ranked {
            let tie = if last == Some(total) { '=' } else { '>' };
            let _ = write!(text, "{tie}{name}");
            last = Some(total);
        }
        text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
    }
}

impl Rates {
    fn advance(&mut self, total: u64, slot: usize, elapsed: u64) {
        let count = total.wrapping_sub(self.last_total);
        self.last_total = total;
        for i in 0..elapsed {
            let rest = if i + 1 == elapsed { count % elapsed } else { 0 };
            let portion = count / elapsed + rest;
            let at = (slot + i as usize) % (SAMPLES * MINUTES);
            let (sample, minute) = (at % SAMPLES, at / SAMPLES);
            self.samples[sample] = portion;
            self.minutes[minute] = if sample == 0 { portion } else { self.minutes[minute] + portion };
        }
    }

    fn line(&self, name: &str, newest: usize, total: u64) -> String {
        let last = self.samples[newest] as f64 * 1000.0 / INTERVAL_MS as f64;
        let minute = self.samples.iter().sum::<u64>() as f64 / 60.0;
        let hour = self.minutes.iter().sum::<u64>() as f64 / 3600.0;
        format!("{name:<24} {last:5.1}/sec {minute:9.3}/sec {hour:13.4}/sec   total: {total}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ONE: &[&Counter] = &[&counter::hmap_reserve, &counter::hmap_expand];

    #[test]
    fn averages_move_and_print() {
        let mut a = Averages::over(ONE);
        assert_eq!(a.run(1000), 6000);
        counter::hmap_expand.add(60);
        assert_eq!(a.run(6000), 11_000);
        let show = a.show();
        let lines: Vec<_> = show.lines().collect();
        assert!(
            lines[0]
                .starts_with("Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=")
        );
        assert_eq!(
            lines[1],
            "hmap_expand               12.0/sec     1.000/sec        0.0167/sec   total: 60"
        );
        assert_eq!(lines[2], "1 events never hit");
        // A minute without events empties the first two columns, not the third.
        a.run(71_000);
        assert!(a.show().contains("hmap_expand                0.0/sec     0.000/sec        0.0167/sec"));
        a.run(71_000 + 2 * 3_600_000);
        assert!(a.show().contains("0.0000/sec   total: 60"));
    }

    #[test]
    fn logs_a_ranking_once_a_day() {
        static TWO: &[&Counter] = &[&counter::hmap_pathological];
        let mut a = Averages::over(TWO);
        counter::hmap_pathological.inc();
        assert_eq!(a.log_lines(5).len(), 3);
        assert_eq!(a.log_lines(6).len(), 1);
        assert_eq!(a.log_lines(5 + LOG_FORGET_MS).len(), 3);
    }
}
