//! Ingress policing: a token bucket for bits and one for packets.
//!
//! A frame passes while its bucket is not empty and may drive it below zero, so that super-packets larger than
//! the burst still get their share; the debt is paid from later tokens and the long-term rate holds.

use crate::device::Policing;
use packet::Packet;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Bursts where the user gives a rate but none (ovs-vswitchd.conf.db(5)): 8000 kb, 16 kpkts.
const DEFAULT_BURST_KB: u32 = 8_000;
const DEFAULT_BURST_KP: u32 = 16;

/// Tokens in units of 1/1,000,000 of a bit or packet, so that every microsecond adds a whole number.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Units per second; 0 for no limit.
    rate: u64,
    /// Most units in store.
    burst: u64,
    micro_tokens: i128,
}

impl Bucket {
    fn new(rate: u64, burst: u64) -> Self {
        Bucket { rate, burst, micro_tokens: i128::from(burst) * 1_000_000 }
    }

    fn refill(&mut self, elapsed_us: u64) {
        let full = i128::from(self.burst) * 1_000_000;
        let more = i128::from(self.rate) * i128::from(elapsed_us);
        self.micro_tokens = (self.micro_tokens + more).min(full);
    }

    fn is_open(&self) -> bool {
        self.rate == 0 || self.micro_tokens > 0
    }

    fn spend(&mut self, units: u64) {
        if self.rate != 0 {
            self.micro_tokens -= i128::from(units) * 1_000_000;
        }
    }
}

#[derive(Debug)]
struct State {
    configured: Policing,
    bits: Bucket,
    packets: Bucket,
    refilled_us: u64,
}

impl State {
    fn new(p: Policing, now_us: u64) -> Self {
        let or = |v: u32, default: u32| u64::from(if v == 0 { default } else { v }) * 1_000;
        State {
            configured: p,
            bits: Bucket::new(u64::from(p.rate_kbps) * 1_000, or(p.burst_kb, DEFAULT_BURST_KB)),
            packets: Bucket::new(u64::from(p.rate_kpps) * 1_000, or(p.burst_kp, DEFAULT_BURST_KP)),
            refilled_us: now_us,
        }
    }

    fn admit(&mut self, bits: u64, packets: u64, now_us: u64) -> bool {
        let elapsed = now_us.saturating_sub(self.refilled_us);
        if elapsed > 0 {
            self.bits.refill(elapsed);
            self.packets.refill(elapsed);
            self.refilled_us = now_us;
        }
        let pass = self.bits.is_open() && self.packets.is_open();
        if pass {
            self.bits.spend(bits);
            self.packets.spend(packets);
        }
        pass
    }
}

/// A device's policer. Costs one relaxed load per frame while there is no limit.
pub struct Policer {
    active: AtomicBool,
    state: Mutex<State>,
    dropped: AtomicU64,
    start: Instant,
}

impl Default for Policer {
    fn default() -> Self {
        Policer {
            active: AtomicBool::new(false),
            state: Mutex::new(State::new(Policing::default(), 0)),
            dropped: AtomicU64::new(0),
            start: Instant::now(),
        }
    }
}

impl Policer {
    /// Puts new limits in force, with full buckets if they differ from the former.
    pub fn set(&self, policing: Policing) {
        let mut state = self.state.lock();
        if state.configured != policing {
            *state = State::new(policing, self.now_us());
            self.active.store(policing.rate_kbps != 0 || policing.rate_kpps != 0, Ordering::Relaxed);
        }
    }

    /// Whether `packet` may pass. A refusal is counted.
    pub fn admit(&self, packet: &Packet) -> bool {
        if !self.active.load(Ordering::Relaxed) {
            return true;
        }
        let segments = packet.offload.gso.map_or(1, |g| packet.len().div_ceil(usize::from(g.size.max(1))));
        let pass = self.state.lock().admit(packet.len() as u64 * 8, segments as u64, self.now_us());
        if !pass {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        pass
    }

    /// Frames refused so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether a limit is in force.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of `len` bytes offered every `gap_us` for ten seconds: how many pass.
    fn passed(p: Policing, len: u64, gap_us: u64) -> u64 {
        let mut s = State::new(p, 0);
        (0..10_000_000 / gap_us).filter(|i| s.admit(len * 8, 1, i * gap_us)).count() as u64
    }

    #[test]
    fn long_term_rate_holds() {
        let p = Policing { rate_kbps: 10_000, burst_kb: 1_000, ..Policing::default() };
        // 10 s at 10 Mb/s plus a burst of 1 Mb, in frames of 1000 bytes; half a frame of rounding.
        let n = passed(p, 1000, 100);
        assert!((12_625 - 2..=12_625 + 2).contains(&n), "{n}");
        // Super-packets of half a burst get the same rate.
        let n = passed(p, 62_500, 100);
        assert!((202..=204).contains(&n), "{n}");
        let p = Policing { rate_kpps: 1, burst_kp: 1, ..Policing::default() };
        let n = passed(p, 64, 100);
        assert!((10_999..=11_001).contains(&n), "{n}");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let policer = Policer::default();
        let p = Packet::from_slice(&[0; 1500]);
        assert!((0..100_000).all(|_| policer.admit(&p)));
        policer.set(Policing { rate_kbps: 1, burst_kb: 1, ..Policing::default() });
        assert!(policer.admit(&p), "the burst");
        assert!(!policer.admit(&p));
        assert_eq!(policer.dropped(), 1);
        policer.set(Policing::default());
        assert!(policer.admit(&p) && !policer.is_active());
    }
}
