//! The tables of `dpif-netdev/pmd-perf-show`.

use super::histogram::BINS;
use super::history::History;
use super::{Perf, Turns};
use std::fmt::Write;

/// What part of it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerfShown {
    pub histograms: bool,
    /// How many of the last turns and milliseconds.
    pub turns: usize,
    pub milliseconds: usize,
}

/// `a / b`, 0 where `b` is.
fn per(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(0)
}

fn exactly(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

const COLUMNS: [&str; 7] =
    ["cycles/it", "packets/it", "cycles/pkt", "pkts/batch", "max vhost qlen", "upcalls/it", "cycles/upcall"];

impl Perf {
    pub fn show(&self, shown: PerfShown) -> String {
        let mut out = String::new();
        if shown.histograms {
            out.push('\n');
            self.histograms(&mut out);
        }
        if shown.turns > 0 {
            out.push('\n');
            out += &turns(&self.turns, shown.turns);
        }
        if shown.milliseconds > 0 {
            out.push('\n');
            self.milliseconds(&mut out, shown.milliseconds);
        }
        out
    }

    fn histograms(&self, out: &mut String) {
        let heading = |out: &mut String, columns: [&str; 7]| {
            let columns = columns.map(|c| format!("{c:<21}"));
            let _ = writeln!(out, "   {}", columns.join("  "));
        };
        out.push_str("Histograms\n");
        heading(out, COLUMNS);
        let all = [
            &self.cycles,
            &self.packets,
            &self.cycles_per_packet,
            &self.batch,
            &self.fill,
            &self.upcalls,
            &self.cycles_per_upcall,
        ];
        for at in 0..BINS {
            let cells = all.map(|h| match h.bin(at) {
                (Some(wall), n) => format!("{wall:<9} {n:<11}"),
                (None, n) => format!("{:<9} {n:<11}", ">"),
            });
            let _ = writeln!(out, "   {}", cells.join("  "));
        }
        let t = &self.totals;
        if t.count == 0 {
            return;
        }
        let _ = writeln!(out, "{}", "-".repeat(154));
        let mut columns = COLUMNS;
        columns[4] = "vhost qlen";
        heading(out, columns);
        let _ = writeln!(
            out,
            "   {:<21}  {:<21.5}  {:<21}  {:<21.5}  {:<21.5}  {:<21.5}  {:<21}",
            per(t.cycles, t.count),
            exactly(t.packets, t.count),
            per(t.busy_cycles, t.packets),
            exactly(t.packets, t.batches),
            exactly(t.fill, t.count),
            exactly(t.upcalls, t.count),
            per(t.upcall_cycles, t.answered)
        );
    }

    fn milliseconds(&self, out: &mut String, n: usize) {
        let columns = [
            "iterations",
            "cycles/it",
            "Kpps",
            "cycles/pkt",
            "pkts/batch",
            "vhost qlen",
            "upcalls",
            "cycles/upcall",
        ];
        let _ = writeln!(out, "   {:<12}   {}", "ms", columns.map(|c| format!("{c:<10}")).join("   "));
        for t in self.milliseconds.last(n) {
            let values = [
                t.count,
                per(t.cycles, t.count),
                t.packets,
                per(t.busy_cycles, t.packets),
                per(t.packets, t.batches),
                per(t.fill, t.count),
                t.upcalls,
                per(t.upcall_cycles, t.answered),
            ];
            let _ = writeln!(out, "   {:<12}   {}", t.id, values.map(|v| format!("{v:<11}")).join("  "));
        }
    }
}

/// The last `n` turns, the newest first.
pub(super) fn turns(all: &History<Turns>, n: usize) -> String {
    let columns = ["cycles", "packets", "cycles/pkt", "pkts/batch", "vhost qlen", "upcalls", "cycles/upcall"];
    let mut out = format!("   {:<17}   {}\n", "iter", columns.map(|c| format!("{c:<10}")).join("   "));
    for t in all.last(n) {
        let values = [
            t.cycles,
            t.packets,
            per(t.cycles, t.packets),
            per(t.packets, t.batches),
            t.fill,
            t.upcalls,
            per(t.upcall_cycles, t.answered),
        ];
        let _ = writeln!(out, "   {:<17}   {}", t.id, values.map(|v| format!("{v:<11}")).join("  "));
    }
    out
}
