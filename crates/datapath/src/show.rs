//! The texts of `dpif-netdev/*`, as operators' scripts parse them. Threads count nanoseconds; cycles are what the
//! processor's time stamp counter makes of them.

use crate::datapath::{Datapath, Port, State};
use crate::perf::{Perf, PerfShown, Supervision};
use crate::thread::{Handle, Kind};
use crate::usage::{INTERVAL, INTERVALS};
use crate::watch;
use crate::worker::WorkerStats;
use dpif::PortNo;
use std::fmt::Write;
use std::sync::Arc;

/// Values of [`WorkerStats`], added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    received: u64,
    recirculated: u64,
    cache_hits: u64,
    table_hits: u64,
    subtables_asked: u64,
    missed: u64,
    lost: u64,
    sent: u64,
    sent_batches: u64,
    iterations: u64,
    busy_iterations: u64,
    busy_ns: u64,
    idle_ns: u64,
    signature_hits: u64,
    naps: u64,
    nap_ns: u64,
    answered: u64,
    answered_ns: u64,
}

impl Totals {
    fn add(&mut self, s: &WorkerStats) {
        for (sum, n) in self.fields_mut().into_iter().zip([
            &s.received,
            &s.recirculated,
            &s.cache_hits,
            &s.table_hits,
            &s.subtables_asked,
            &s.missed,
            &s.lost,
            &s.sent,
            &s.sent_batches,
            &s.iterations,
            &s.busy_iterations,
            &s.busy_ns,
            &s.idle_ns,
            &s.signature_hits,
            &s.naps,
            &s.nap_ns,
            &s.answered,
            &s.answered_ns,
        ]) {
            *sum += n.get();
        }
    }

    fn since(mut self, mut before: Totals) -> Totals {
        for (n, b) in self.fields_mut().into_iter().zip(before.fields_mut()) {
            *n = n.saturating_sub(*b);
        }
        self
    }

    fn fields_mut(&mut self) -> [&mut u64; 18] {
        [
            &mut self.received,
            &mut self.recirculated,
            &mut self.cache_hits,
            &mut self.table_hits,
            &mut self.subtables_asked,
            &mut self.missed,
            &mut self.lost,
            &mut self.sent,
            &mut self.sent_batches,
            &mut self.iterations,
            &mut self.busy_iterations,
            &mut self.busy_ns,
            &mut self.idle_ns,
            &mut self.signature_hits,
            &mut self.naps,
            &mut self.nap_ns,
            &mut self.answered,
            &mut self.answered_ns,
        ]
    }

    fn busy_cycles(&self) -> u64 {
        cycles(self.busy_ns)
    }

    fn idle_cycles(&self) -> u64 {
        cycles(self.idle_ns)
    }

    fn emc_hits(&self) -> u64 {
        self.cache_hits.saturating_sub(self.signature_hits)
    }

    /// Misses whose upcall had room.
    fn upcalls(&self) -> u64 {
        self.missed.saturating_sub(self.lost)
    }
}

/// Cycles of the time stamp counter in `ns`.
fn cycles(ns: u64) -> u64 {
    (ns as f64 * watch::hz() / 1e9) as u64
}

/// `a / b`, or 0.
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn percent(a: u64, b: u64) -> f64 {
    100.0 * ratio(a, b)
}

/// Who counts: a polling thread, or (`None`) the main thread, which here is the socket threads and the
/// control context together.
type Who = Option<(u32, u32)>;

fn heading(who: Who) -> String {
    match who {
        None => "main thread:\n".to_owned(),
        Some((core, numa)) => format!("pmd thread numa_id {numa} core_id {core}:\n"),
    }
}

impl Datapath {
    /// `dpif-netdev/pmd-stats-show [-pmd core]`.
    pub fn pmd_stats_show(&self, core: Option<u32>) -> String {
        let all = self.totals(core);
        all.iter().map(|(who, t, _)| heading(*who) + &stats_text(t, who.is_some())).collect()
    }

    /// `dpif-netdev/pmd-stats-clear [-pmd core]`.
    pub fn pmd_stats_clear(&self, core: Option<u32>) {
        let now_ms = self.shared.clock.now_ms();
        for (who, stats) in self.raw_totals(core) {
            self.state.lock().cleared.insert(who.map(|w| w.0), (stats, now_ms));
        }
        pmds(&self.state.lock(), core).iter().for_each(|t| t.perf.lock().clear());
    }

    /// `dpif-netdev/pmd-perf-show [-nh] [-it n] [-ms n] [-pmd core]`: what is always kept, and with
    /// `pmd-perf-metrics` what `shown` says.
    pub fn pmd_perf_show(&self, core: Option<u32>, shown: PerfShown) -> String {
        let wall = self.shared.clock.wall_ms().rem_euclid(86_400_000);
        let (ms, s) = (wall % 1000, wall / 1000);
        let time = format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60);
        let mut out = String::new();
        for (who, t, elapsed_ms) in self.totals(core).iter().filter(|(who, ..)| who.is_some()) {
            let seconds = *elapsed_ms as f64 / 1000.0;
            let _ = write!(out, "\nTime: {time}\nMeasurement duration: {seconds:.3} s\n\n");
            let _ = write!(out, "{}\n{}", heading(*who), perf_text(t, seconds));
            if self.shared.tuning.perf_metrics() {
                out += &self.perf_of(who.map(|w| w.0)).map(|p| p.show(shown)).unwrap_or_default();
            }
        }
        out
    }

    /// What the turns of the thread on `core` were, now.
    fn perf_of(&self, core: Option<u32>) -> Option<Perf> {
        let state = self.state.lock();
        let perf = state.threads.iter().find(|t| t.kind.pmd() == core).map(|t| Arc::clone(&t.perf))?;
        drop(state);
        // The thread goes on without entering a turn until the copy is made.
        let copy = perf.lock().clone();
        Some(copy)
    }

    /// `dpif-netdev/pmd-perf-log-set`, of all threads and those to come.
    pub fn supervise(&self, supervision: Supervision) {
        let state = self.state.lock();
        *self.shared.tuning.supervision.lock() = supervision;
        state.threads.iter().for_each(|t| t.perf.lock().supervise(supervision));
    }

    /// `dpif-netdev/pmd-rxq-show [-pmd core] [-secs n]`; `secs` is rounded up to whole intervals of 5 s, at
    /// most 60 s.
    pub fn pmd_rxq_show(&self, core: Option<u32>, secs: Option<u32>) -> String {
        let interval = INTERVAL.as_secs() as u32;
        let max = interval * INTERVALS as u32;
        let secs = match secs {
            Some(s) if (1..=max).contains(&s) => s.next_multiple_of(interval),
            _ => max,
        };
        let state = self.state.lock();
        let has_main = core.is_none();
        let threads = pmds(&state, core);
        if threads.is_empty() && !has_main {
            return String::new();
        }
        let mut out = format!("Displaying last {secs} seconds pmd usage %\n");
        for thread in threads {
            rxq_text(&mut out, &state, thread, (secs / interval) as usize);
        }
        out
    }

    /// `dpif-netdev/pmd-rxq-rebalance`.
    pub fn pmd_rxq_rebalance(&self) -> String {
        self.rebalance();
        "pmd rxq rebalance requested.\n".to_owned()
    }

    /// `dpif-netdev/bond-show`: the datapath does not spread over bonds itself yet.
    pub fn bond_show(&self) -> String {
        String::new()
    }

    /// `dpif-netdev/subtable-lookup-prio-get`: there is one way to look up.
    pub fn subtable_lookup_show(&self) -> String {
        let tables = self.shared.tables.read();
        let used: usize = tables.iter().filter(|t| t.pmd.is_some()).map(|t| t.subtables()).sum();
        format!("Available dpcls implementations:\n  generic (Use count: {used}, Priority: 1)\n")
    }

    /// `dpif-netdev/dpif-impl-get`.
    pub fn dpif_impl_show(&self) -> String {
        format!("Available DPIF implementations:\n  dpif_scalar (pmds: {})\n", self.pmd_list())
    }

    /// `dpif-netdev/miniflow-parser-get`.
    pub fn miniflow_parser_show(&self) -> String {
        let pmds = self.pmd_list();
        format!("Available MFEX implementations:\n  scalar (available: True pmds: {pmds})\n")
    }

    fn pmd_list(&self) -> String {
        let state = self.state.lock();
        let cores: Vec<_> = pmds(&state, None).iter().filter_map(|t| t.kind.pmd()).collect();
        let cores: Vec<_> = cores.iter().map(u32::to_string).collect();
        if cores.is_empty() { "none".to_owned() } else { cores.join(",") }
    }

    /// Counters since they were cleared, and for how many milliseconds that is. Polling threads by core,
    /// then the main thread; only the thread on `core` if one is named.
    fn totals(&self, core: Option<u32>) -> Vec<(Who, Totals, u64)> {
        let now_ms = self.shared.clock.now_ms();
        let raw = self.raw_totals(core);
        let state = self.state.lock();
        let since = |(who, t): (Who, Totals)| {
            let core = who.map(|w| w.0);
            let began = || state.threads.iter().find(|t| t.kind.pmd() == core).map_or(0, |t| t.since_ms);
            let cleared = state.cleared.get(&core).copied();
            let (before, at) = cleared.unwrap_or_else(|| (Totals::default(), began()));
            (who, t.since(before), now_ms.saturating_sub(at))
        };
        raw.into_iter().map(since).collect()
    }

    fn raw_totals(&self, core: Option<u32>) -> Vec<(Who, Totals)> {
        let control = std::sync::Arc::clone(&self.shared.control.lock().worker.stats);
        let state = self.state.lock();
        let mut all = Vec::new();
        for thread in pmds(&state, core) {
            if let Kind::Pmd { core, numa } = thread.kind {
                let mut totals = Totals::default();
                totals.add(&thread.stats);
                all.push((Some((core, numa)), totals));
            }
        }
        if core.is_none() {
            let mut main = Totals::default();
            main.add(&control);
            state.threads.iter().filter(|t| t.kind == Kind::Socket).for_each(|t| main.add(&t.stats));
            all.push((None, main));
        }
        all
    }
}

/// Polling threads by core; the one on `core` if it is named.
fn pmds(state: &State, core: Option<u32>) -> Vec<&Handle> {
    let is_wanted = |t: &&Handle| t.kind != Kind::Socket && (core.is_none() || t.kind.pmd() == core);
    let mut all: Vec<_> = state.threads.iter().filter(is_wanted).collect();
    all.sort_by_key(|t| t.kind.pmd());
    all
}

fn stats_text(t: &Totals, is_pmd: bool) -> String {
    let mut out = String::new();
    let passes = ratio(t.received + t.recirculated, t.received);
    let lines = [
        ("packets received", t.received.to_string()),
        ("packet recirculations", t.recirculated.to_string()),
        ("avg. datapath passes per packet", format!("{passes:.2}")),
        ("phwol hits", "0".to_owned()),
        ("mfex opt hits", "0".to_owned()),
        ("simple match hits", "0".to_owned()),
        ("emc hits", t.emc_hits().to_string()),
        ("smc hits", t.signature_hits.to_string()),
        ("megaflow hits", t.table_hits.to_string()),
        ("avg. subtable lookups per megaflow hit", format!("{:.2}", ratio(t.subtables_asked, t.table_hits))),
        ("miss with success upcall", t.upcalls().to_string()),
        ("miss with failed upcall", t.lost.to_string()),
        ("avg. packets per output batch", format!("{:.2}", ratio(t.sent, t.sent_batches))),
    ];
    for (name, value) in lines {
        let _ = writeln!(out, "  {name}: {value}");
    }
    let (busy, idle) = (t.busy_cycles(), t.idle_cycles());
    let cycles = busy + idle;
    // The main thread has other things to do than packets, so that its cycles say nothing.
    if cycles == 0 || !is_pmd {
        return out;
    }
    let _ = writeln!(out, "  idle cycles: {} ({:.2}%)", idle, percent(idle, cycles));
    let _ = writeln!(out, "  processing cycles: {busy} ({:.2}%)", percent(busy, cycles));
    for (name, n) in [("avg cycles per packet", cycles), ("avg processing cycles per packet", busy)] {
        if t.received > 0 {
            let _ = writeln!(out, "  {name}: {:.2} ({n}/{})", ratio(n, t.received), t.received);
        }
    }
    out
}

fn perf_text(t: &Totals, seconds: f64) -> String {
    let mut out = String::new();
    if seconds == 0.0 {
        return out;
    }
    let used = t.busy_cycles() + t.idle_cycles();
    let idle = t.iterations.saturating_sub(t.busy_iterations);
    let per_it = ratio(t.busy_ns + t.idle_ns + t.nap_ns, t.iterations) / 1000.0;
    let of_all = used as f64 / watch::hz() / seconds * 100.0;
    let _ = writeln!(out, "  Iterations:         {:12}  ({per_it:.2} us/it)", t.iterations);
    let _ = writeln!(out, "  - Used TSC cycles:  {used:12}  ({of_all:5.1} % of total cycles)");
    let idle_share = percent(t.idle_cycles(), used);
    let _ = writeln!(out, "  - idle iterations:  {idle:12}  ({idle_share:5.1} % of used cycles)");
    let busy_share = percent(t.busy_cycles(), used);
    let _ =
        writeln!(out, "  - busy iterations:  {:12}  ({busy_share:5.1} % of used cycles)", t.busy_iterations);
    let (naps, share) = (t.naps, percent(t.naps, t.iterations));
    let _ = writeln!(out, "  - sleep iterations: {naps:12}  ({share:5.1} % of iterations)");
    let (us, each) = (t.nap_ns as f64 / 1000.0, ratio(t.nap_ns, t.naps) / 1000.0);
    let _ = writeln!(out, "  Sleep time (us):    {us:12.0}  ({each:3.0} us/iteration avg.)");
    perf_packets(&mut out, t, seconds);
    out
}

fn perf_packets(out: &mut String, t: &Totals, seconds: f64) {
    let kpps = |n: u64| n as f64 / seconds / 1000.0;
    if t.received == 0 {
        let _ = writeln!(out, "  Rx packets:         {:12}", 0);
    } else {
        let passes = t.received + t.recirculated;
        let per_packet = ratio(t.busy_cycles(), t.received);
        let (rx, rate) = (t.received, kpps(t.received));
        let _ = writeln!(out, "  Rx packets:         {rx:12}  ({rate:.0} Kpps, {per_packet:.0} cycles/pkt)");
        let per_packet = ratio(passes, t.received);
        let _ = writeln!(out, "  Datapath passes:    {passes:12}  ({per_packet:.2} passes/pkt)");
        let hits = [
            ("- PHWOL hits:       ", 0),
            ("- MFEX Opt hits:    ", 0),
            ("- Simple Match hits:", 0),
            ("- EMC hits:         ", t.emc_hits()),
            ("- SMC hits:         ", t.signature_hits),
        ];
        for (name, n) in hits {
            let _ = writeln!(out, "  {name}{n:12}  ({:5.1} %)", percent(n, passes));
        }
        let (n, share) = (t.table_hits, percent(t.table_hits, passes));
        let asked = ratio(t.subtables_asked, t.table_hits);
        let _ = writeln!(out, "  - Megaflow hits:    {n:12}  ({share:5.1} %, {asked:.2} subtbl lookups/hit)");
        let (n, share) = (t.upcalls(), percent(t.upcalls(), passes));
        // Those that handlers answer take none of this thread's time.
        let each = ratio(t.answered_ns, t.answered) / 1000.0;
        let _ = writeln!(out, "  - Upcalls:          {n:12}  ({share:5.1} %, {each:.1} us/upcall)");
        let _ = writeln!(out, "  - Lost upcalls:     {:12}  ({:5.1} %)", t.lost, percent(t.lost, passes));
    }
    if t.sent == 0 {
        let _ = write!(out, "  Tx packets:         {:12}\n\n", 0);
    } else {
        let _ = writeln!(out, "  Tx packets:         {:12}  ({:.0} Kpps)", t.sent, kpps(t.sent));
        let per_batch = ratio(t.sent, t.sent_batches);
        let _ = writeln!(out, "  Tx batches:         {:12}  ({per_batch:.2} pkts/batch)", t.sent_batches);
    }
}

fn rxq_text(out: &mut String, state: &State, thread: &Handle, intervals: usize) {
    let Kind::Pmd { core, numa } = thread.kind else { return };
    let mine = |(_, p): &(&PortNo, &Port)| p.rx.iter().any(|r| r.thread == Some(thread.tx));
    let pins = |p: &Port| p.affinity.iter().any(|(q, c)| *c == core && p.rx.iter().any(|r| r.id == *q));
    let is_isolated = state.config.isolate && state.ports.iter().filter(mine).any(|(_, p)| pins(p));
    let _ = write!(out, "pmd thread numa_id {numa} core_id {core}:\n  isolated : {is_isolated}\n");
    let total = thread.total_usage.recent(intervals);
    let mut ports: Vec<_> = state.ports.iter().filter(mine).map(|(_, p)| p).collect();
    ports.sort_by_key(|p| p.netdev.name().to_owned());
    let mut packets_ns = 0;
    for port in &ports {
        for rx in port.rx.iter().filter(|r| r.thread == Some(thread.tx)) {
            let busy = rx.usage.recent(intervals);
            packets_ns += busy;
            let usage = usage_text(busy, total);
            let state = if port.netdev.is_rx_enabled(rx.id) { "(enabled) " } else { "(disabled)" };
            let name = port.netdev.name();
            let _ = writeln!(out, "  port: {name:<16}  queue-id: {:2} {state}  pmd usage: {usage}", rx.id);
        }
    }
    if !ports.is_empty() {
        let busy = thread.busy_usage.recent(intervals).min(total);
        let _ = writeln!(out, "  overhead: {}", usage_text(busy.saturating_sub(packets_ns), total));
    }
}

fn usage_text(part: u64, total: u64) -> String {
    match (part * 100).checked_div(total) {
        Some(share) => format!("{share:2} %"),
        None => "NOT AVAIL".to_owned(),
    }
}
