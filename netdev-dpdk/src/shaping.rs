//! Egress policing of `dpdk` ports: the types `egress-policer` (a single rate, RFC 2697) and `trtcm-policer` (two
//! rates with queues, RFC 4115), as ovs-vswitchd.conf.db(5) has them. What exceeds the rates is dropped.

use netdev::StringMap;
use netdev::qos::{QosReport, QosSettings, QueueReport};
use packet::Packet;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub const TYPES: [&str; 2] = ["egress-policer", "trtcm-policer"];
const SINGLE: &str = TYPES[0];
/// Rates are those of IP packets.
const ETHERNET: usize = 14;
const SECOND_NS: u128 = 1_000_000_000;
/// The queue of packets that ask for none.
const DEFAULT_QUEUE: u32 = 0;

/// Bytes per second, and bytes that may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Rates {
    cir: u64,
    cbs: u64,
    eir: u64,
    ebs: u64,
}

impl Rates {
    fn read(options: &StringMap) -> Self {
        let number = |key: &str| options.get(key).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        Rates { cir: number("cir"), cbs: number("cbs"), eir: number("eir"), ebs: number("ebs") }
    }

    /// One rate: nothing is lent beyond the committed burst.
    fn single(self) -> Self {
        Rates { eir: 0, ebs: 0, ..self }
    }

    /// Whether a meter can go by them: a rate needs a burst.
    fn is_valid(self, is_single: bool) -> bool {
        match is_single {
            true => self.cir != 0 && self.cbs != 0,
            false => (self.cir == 0 || self.cbs != 0) && (self.eir == 0 || self.ebs != 0),
        }
    }

    fn report(self, is_single: bool) -> StringMap {
        let all = [("cir", self.cir), ("cbs", self.cbs), ("eir", self.eir), ("ebs", self.ebs)];
        let shown = all.into_iter().take(if is_single { 2 } else { 4 });
        shown.map(|(key, n)| (key.to_owned(), n.to_string())).collect()
    }
}

/// What a meter says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Colour {
    Green,
    Yellow,
    Red,
}

/// Tokens in parts of a byte: 1/1,000,000,000, so that a nanosecond adds a whole number.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: u128,
    burst: u128,
    tokens: u128,
}

impl Bucket {
    fn new(rate: u64, burst: u64) -> Self {
        let burst = u128::from(burst) * SECOND_NS;
        Bucket { rate: rate.into(), burst, tokens: burst }
    }

    fn fill(&mut self, elapsed_ns: u128) {
        self.tokens = (self.tokens + self.rate * elapsed_ns).min(self.burst);
    }

    fn take(&mut self, bytes: usize) -> bool {
        let wanted = bytes as u128 * SECOND_NS;
        let has = self.tokens >= wanted;
        if has {
            self.tokens -= wanted;
        }
        has
    }
}

#[derive(Clone, Copy, Debug)]
struct Meter {
    rates: Rates,
    committed: Bucket,
    excess: Bucket,
    last_ns: u128,
}

impl Meter {
    fn new(rates: Rates, now_ns: u128) -> Self {
        Meter {
            rates,
            committed: Bucket::new(rates.cir, rates.cbs),
            excess: Bucket::new(rates.eir, rates.ebs),
            last_ns: now_ns,
        }
    }

    /// Colour-aware: a packet gets no better than it was (RFC 4115, section 2).
    fn judge(&mut self, bytes: usize, was: Colour, now_ns: u128) -> Colour {
        let elapsed = now_ns.saturating_sub(self.last_ns);
        self.last_ns = self.last_ns.max(now_ns);
        self.committed.fill(elapsed);
        self.excess.fill(elapsed);
        if was == Colour::Green && self.committed.take(bytes) {
            Colour::Green
        } else if was != Colour::Red && self.excess.take(bytes) {
            Colour::Yellow
        } else {
            Colour::Red
        }
    }
}

#[derive(Clone, Debug)]
struct Queue {
    meter: Meter,
    report: QueueReport,
}

struct State {
    settings: QosSettings,
    port: Meter,
    queues: BTreeMap<u32, Queue>,
}

impl State {
    /// Starts with full buckets; `None` if the rates make no meter.
    fn new(settings: &QosSettings, now_ns: u128) -> Option<Self> {
        let is_single = settings.kind == SINGLE;
        let read = |options| Some(Rates::read(options)).filter(|r| r.is_valid(is_single));
        let all = read(&settings.options)?;
        let mut queues = BTreeMap::new();
        if !is_single {
            let none = StringMap::new();
            let default = (!settings.queues.contains_key(&DEFAULT_QUEUE)).then_some((&DEFAULT_QUEUE, &none));
            for (id, options) in default.into_iter().chain(&settings.queues) {
                // The default queue that nobody set up has the port's rates.
                let is_plain = *id == DEFAULT_QUEUE && options.is_empty();
                let Some(rates) = (if is_plain { Some(all) } else { read(options) }) else { continue };
                let report = QueueReport { id: *id, options: rates.report(false), ..QueueReport::default() };
                queues.insert(*id, Queue { meter: Meter::new(rates, now_ns), report });
            }
        }
        let all = if is_single { all.single() } else { all };
        Some(State { settings: settings.clone(), port: Meter::new(all, now_ns), queues })
    }

    fn admit(&mut self, queue: u32, bytes: usize, now_ns: u128) -> bool {
        let mut colour = Colour::Green;
        if self.settings.kind != SINGLE {
            let known = if self.queues.contains_key(&queue) { queue } else { DEFAULT_QUEUE };
            let Some(queue) = self.queues.get_mut(&known) else { return false };
            colour = queue.meter.judge(bytes, colour, now_ns);
            if colour == Colour::Red {
                queue.report.tx_errors += 1;
            } else {
                queue.report.tx_packets += 1;
                queue.report.tx_bytes += bytes as u64;
            }
        }
        self.port.judge(bytes, colour, now_ns) != Colour::Red
    }
}

/// What a port does with the packets that it sends. Costs a relaxed load per batch while there is nothing to do.
pub struct Shaper {
    is_on: AtomicBool,
    state: Mutex<Option<State>>,
    begin: Instant,
}

impl Default for Shaper {
    fn default() -> Self {
        Shaper { is_on: AtomicBool::new(false), state: Mutex::default(), begin: Instant::now() }
    }
}

impl Shaper {
    /// Puts settings in force; returns whether their rates make sense. If not, none are.
    pub fn set(&self, settings: Option<&QosSettings>) -> bool {
        let mut state = self.state.lock();
        if state.as_ref().map(|s| &s.settings) == settings {
            return true;
        }
        *state = settings.and_then(|s| State::new(s, self.now_ns()));
        self.is_on.store(state.is_some(), Ordering::Relaxed);
        state.is_some() == settings.is_some()
    }

    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether each packet of a batch may leave, in their order.
    pub fn admit<'p>(&self, packets: impl Iterator<Item = &'p Packet>) -> Vec<bool> {
        let mut state = self.state.lock();
        let now_ns = self.now_ns();
        let mut one = |p: &Packet| match &mut *state {
            Some(state) => state.admit(DEFAULT_QUEUE, p.len().saturating_sub(ETHERNET), now_ns),
            None => true,
        };
        packets.map(&mut one).collect()
    }

    pub fn report(&self) -> Option<QosReport> {
        let state = self.state.lock();
        let s = state.as_ref()?;
        Some(QosReport {
            kind: s.settings.kind.clone(),
            options: s.port.rates.report(s.settings.kind == SINGLE),
            queues: s.queues.values().map(|q| q.report.clone()).collect(),
        })
    }

    fn now_ns(&self) -> u128 {
        self.begin.elapsed().as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, u64)]) -> StringMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.to_string())).collect()
    }

    fn settings(kind: &str, pairs: &[(&str, u64)]) -> QosSettings {
        QosSettings { kind: kind.to_owned(), options: options(pairs), queues: BTreeMap::new() }
    }

    /// Packets of 1,000 bytes each millisecond for ten seconds: how many pass.
    fn passed(state: &mut State, queue: u32) -> u64 {
        (0..10_000_u128).filter(|ms| state.admit(queue, 1_000, ms * 1_000_000)).count() as u64
    }

    #[test]
    fn one_rate_holds_with_its_burst() {
        let mut s = State::new(&settings(SINGLE, &[("cir", 100_000), ("cbs", 50_000)]), 0).unwrap();
        // Ten seconds of 100 packets, and the burst of 50.
        let n = passed(&mut s, 0);
        assert!((1_048..=1_050).contains(&n), "{n}");
        assert!(State::new(&settings(SINGLE, &[("cir", 1)]), 0).is_none());
        assert!(State::new(&settings(SINGLE, &[("cbs", 1)]), 0).is_none());
    }

    #[test]
    fn two_rates_add_up_and_queues_have_their_own() {
        let all = [("cir", 100_000), ("cbs", 10_000), ("eir", 200_000), ("ebs", 10_000)];
        let mut wanted = settings(TYPES[1], &all);
        let n = passed(&mut State::new(&wanted, 0).unwrap(), 0);
        assert!((3_015..=3_021).contains(&n), "{n}");
        wanted.queues.insert(7, options(&[("cir", 50_000), ("cbs", 2_000)]));
        let mut s = State::new(&wanted, 0).unwrap();
        let n = passed(&mut s, 7);
        assert!((499..=503).contains(&n), "{n}");
        let report = &s.queues[&7].report;
        assert_eq!((report.tx_packets, report.tx_packets + report.tx_errors), (n, 10_000));
        assert!(State::new(&settings(TYPES[1], &[("eir", 1)]), 0).is_none());
    }

    #[test]
    fn settings_are_shown_and_go() {
        let shaper = Shaper::default();
        assert!(shaper.set(Some(&settings(SINGLE, &[("cir", 46), ("cbs", 64)]))) && shaper.is_on());
        let shown = shaper.report().unwrap();
        assert_eq!((shown.kind.as_str(), shown.options), (SINGLE, options(&[("cir", 46), ("cbs", 64)])));
        let frame = Packet::from_slice(&[0; 64]);
        assert_eq!(shaper.admit([&frame, &frame].into_iter()), [true, false]);
        assert!(!shaper.set(Some(&settings(SINGLE, &[]))) && !shaper.is_on() && shaper.report().is_none());
        assert!(shaper.set(Some(&settings(TYPES[1], &[]))));
        assert_eq!(shaper.report().unwrap().queues.len(), 1);
        assert!(shaper.set(None) && shaper.report().is_none());
    }
}
