//! What every turn of a polling thread's loop was (`pmd-perf-metrics`): histograms, the last turns and milliseconds,
//! and which turns were suspicious (`dpif-netdev/pmd-perf-log-set`).
//!
//! A thread notes a turn on its own ([`Recorder`]) and enters it when nobody looks at its [`Perf`]: it never waits, and
//! a turn that ends while somebody looks is not entered.

mod histogram;
mod history;
mod recorder;
mod supervision;
mod text;

#[cfg(test)]
mod tests;

use histogram::Histogram;
use history::History;
pub(crate) use recorder::{Recorder, Upcalls};
pub use supervision::Supervision;
pub use text::PerfShown;

/// One turn of the loop, or what many come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Turns {
    /// The turn's number, or the millisecond.
    pub id: u64,
    pub count: u64,
    pub cycles: u64,
    /// Cycles of turns that brought packets.
    pub busy_cycles: u64,
    pub packets: u64,
    pub batches: u64,
    /// Frames that waited in the fullest of the guests' queues.
    pub fill: u64,
    pub upcalls: u64,
    /// Upcalls that the thread answered itself, and the cycles that took.
    pub answered: u64,
    pub upcall_cycles: u64,
}

impl Turns {
    fn add(&mut self, other: &Turns) {
        self.count += other.count;
        self.cycles += other.cycles;
        self.busy_cycles += other.busy_cycles;
        self.packets += other.packets;
        self.batches += other.batches;
        self.fill += other.fill;
        self.upcalls += other.upcalls;
        self.answered += other.answered;
        self.upcall_cycles += other.upcall_cycles;
    }
}

/// What a thread's turns were since it was cleared.
#[derive(Clone, Debug)]
pub(crate) struct Perf {
    cycles: Histogram,
    packets: Histogram,
    cycles_per_packet: Histogram,
    batch: Histogram,
    fill: Histogram,
    upcalls: Histogram,
    cycles_per_upcall: Histogram,
    turns: History<Turns>,
    milliseconds: History<Turns>,
    /// The millisecond that is not over.
    millisecond: Turns,
    totals: Turns,
    supervision: Supervision,
    suspect: Option<supervision::Suspect>,
}

impl Perf {
    pub fn new(supervision: Supervision) -> Self {
        Perf {
            cycles: Histogram::logarithmic(500, 24_000_000),
            packets: Histogram::logarithmic(0, 1000),
            cycles_per_packet: Histogram::linear(100, 30_000),
            batch: Histogram::linear(0, packet::BATCH_LEN as u32),
            fill: Histogram::logarithmic(0, 512),
            upcalls: Histogram::linear(0, 30),
            cycles_per_upcall: Histogram::logarithmic(1000, 1_000_000),
            turns: History::new(),
            milliseconds: History::new(),
            millisecond: Turns::default(),
            totals: Turns::default(),
            supervision,
            suspect: None,
        }
    }

    pub fn clear(&mut self) {
        *self = Perf::new(self.supervision);
    }

    pub fn supervise(&mut self, supervision: Supervision) {
        self.supervision = supervision;
        self.suspect = None;
    }

    /// Enters a turn whose batches had these sizes: how many of 1 packet, of 2, and so on.
    fn enter(&mut self, mut turn: Turns, sizes: &[u16], now_ms: u64) {
        turn.id = self.turns.count() + 1;
        self.cycles.add(turn.cycles, 1);
        self.packets.add(turn.packets, 1);
        self.fill.add(turn.fill, 1);
        self.upcalls.add(turn.upcalls, 1);
        if let Some(each) = turn.cycles.checked_div(turn.packets) {
            self.cycles_per_packet.add(each, 1);
        }
        if let Some(each) = turn.upcall_cycles.checked_div(turn.answered) {
            self.cycles_per_upcall.add(each, turn.answered);
        }
        for (size, n) in (1u64..).zip(sizes).filter(|(_, n)| **n > 0) {
            self.batch.add(size, (*n).into());
        }
        if now_ms != self.millisecond.id {
            self.totals.add(&self.millisecond);
            if self.millisecond.count > 0 {
                self.milliseconds.push(self.millisecond);
            }
            self.millisecond = Turns { id: now_ms, ..Turns::default() };
        }
        self.millisecond.add(&turn);
        self.turns.push(turn);
        self.look_for_suspects(&turn);
    }
}
