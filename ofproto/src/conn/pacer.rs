//! The rate of packet-ins to one controller (`Controller.controller_rate_limit` and `_burst_limit`).
//!
//! A token bucket; what finds no token waits in a queue of its input port, and the ports take turns, so
//! that one busy port does not silence the others. When all queues together are full the longest loses
//! its oldest packet.

use crate::ids::OfPort;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Packet-ins sent in one go once tokens are there again.
const BATCH: usize = 50;
/// Tokens are counted in thousandths of a packet, so that a millisecond brings `rate` of them.
const PACKET: u64 = 1000;

/// Counters for the Controller table's status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacerStats {
    /// Waiting now.
    pub backlog: usize,
    /// Sent at once.
    pub bypassed: u64,
    /// Had to wait.
    pub queued: u64,
    pub dropped: u64,
}

#[derive(Debug)]
pub struct Pacer {
    /// Packets per second.
    rate: u64,
    /// Packets.
    burst: u64,
    tokens: u64,
    filled_ms: u64,
    queues: BTreeMap<OfPort, VecDeque<Bytes>>,
    /// The port that was served last.
    served: OfPort,
    stats: PacerStats,
}

impl Pacer {
    /// `rate` packets per second, `burst` packets at a time; 0 for a quarter of the rate.
    pub fn new(rate: u32, burst: u32, now_ms: u64) -> Self {
        let mut pacer = Pacer {
            rate: 0,
            burst: 0,
            tokens: 0,
            filled_ms: now_ms,
            queues: BTreeMap::new(),
            served: OfPort::NONE,
            stats: PacerStats::default(),
        };
        pacer.set_limits(rate, burst);
        pacer.tokens = pacer.burst * PACKET;
        pacer
    }

    pub fn set_limits(&mut self, rate: u32, burst: u32) {
        self.rate = u64::from(if rate == 0 { 1000 } else { rate });
        self.burst = if burst == 0 { self.rate / 4 } else { u64::from(burst) }.max(1);
        self.tokens = self.tokens.min(self.burst * PACKET);
        while self.stats.backlog as u64 > self.burst {
            self.drop_one();
        }
    }

    fn fill(&mut self, now_ms: u64) {
        let new = now_ms.saturating_sub(self.filled_ms).saturating_mul(self.rate);
        self.tokens = self.tokens.saturating_add(new).min(self.burst * PACKET);
        self.filled_ms = now_ms;
    }

    fn take_token(&mut self) -> bool {
        let has = self.tokens >= PACKET;
        if has {
            self.tokens -= PACKET;
        }
        has
    }

    /// Takes a message in; returns it if it may go at once.
    pub fn submit(&mut self, port: OfPort, message: Bytes, now_ms: u64) -> Option<Bytes> {
        self.fill(now_ms);
        if self.stats.backlog == 0 && self.take_token() {
            self.stats.bypassed += 1;
            return Some(message);
        }
        if self.stats.backlog as u64 >= self.burst {
            self.drop_one();
        }
        self.queues.entry(port).or_default().push_back(message);
        self.stats.backlog += 1;
        self.stats.queued += 1;
        None
    }

    /// Messages whose turn has come.
    pub fn run(&mut self, now_ms: u64) -> Vec<Bytes> {
        self.fill(now_ms);
        let mut out = Vec::new();
        while self.stats.backlog > 0 && out.len() < BATCH && self.take_token() {
            out.extend(self.next());
        }
        out
    }

    /// When [`Pacer::run`] will have something.
    pub fn deadline_ms(&self) -> Option<u64> {
        let lacking = PACKET.saturating_sub(self.tokens);
        (self.stats.backlog > 0).then(|| self.filled_ms + lacking.div_ceil(self.rate))
    }

    fn next(&mut self) -> Option<Bytes> {
        let after = (std::ops::Bound::Excluded(self.served), std::ops::Bound::Unbounded);
        let port = self.queues.range(after).next().or_else(|| self.queues.iter().next()).map(|(p, _)| *p)?;
        self.served = port;
        self.pop(port)
    }

    fn drop_one(&mut self) {
        let longest = self.queues.iter().max_by_key(|(_, q)| q.len()).map(|(p, _)| *p);
        if longest.and_then(|port| self.pop(port)).is_some() {
            self.stats.dropped += 1;
        }
    }

    fn pop(&mut self, port: OfPort) -> Option<Bytes> {
        let queue = self.queues.get_mut(&port)?;
        let message = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&port);
        }
        self.stats.backlog -= usize::from(message.is_some());
        message
    }

    pub fn stats(&self) -> PacerStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u8) -> Bytes {
        Bytes::from(vec![n])
    }

    #[test]
    fn burst_passes_then_the_rate_holds() {
        let mut p = Pacer::new(10, 2, 0);
        assert!(p.submit(OfPort(1), message(1), 0).is_some());
        assert!(p.submit(OfPort(1), message(2), 0).is_some());
        assert!(p.submit(OfPort(1), message(3), 0).is_none());
        assert_eq!(p.deadline_ms(), Some(100));
        assert_eq!(p.run(99).len(), 0);
        assert_eq!(p.run(100), [message(3)]);
        assert_eq!(p.deadline_ms(), None);
        assert_eq!(p.stats(), PacerStats { backlog: 0, bypassed: 2, queued: 1, dropped: 0 });
    }

    #[test]
    fn ports_take_turns_and_the_longest_queue_loses() {
        let mut p = Pacer::new(1000, 3, 0);
        for n in 0..3 {
            p.submit(OfPort(9), message(n), 0);
        }
        for (port, n) in [(1, 10), (1, 11), (2, 20)] {
            assert!(p.submit(OfPort(port), message(n), 0).is_none());
        }
        assert!(p.submit(OfPort(2), message(21), 0).is_none());
        assert_eq!(p.stats().dropped, 1);
        assert_eq!(p.run(10), [message(11), message(20), message(21)]);
    }

    #[test]
    fn ports_alternate() {
        let mut p = Pacer::new(1000, 4, 0);
        (0..4).for_each(|n| drop(p.submit(OfPort(9), message(n), 0)));
        for (port, n) in [(1, 10), (1, 11), (2, 20), (2, 21)] {
            p.submit(OfPort(port), message(n), 0);
        }
        assert_eq!(p.run(10), [message(10), message(20), message(11), message(21)]);
    }
}
