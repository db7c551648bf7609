//! A polling thread's notes of the turn that is under way.

use super::{Perf, Turns};
use crate::cpu::ticks;
use crate::watch::hz;
use packet::BATCH_LEN;
use parking_lot::Mutex;
use std::sync::Arc;

/// A thread's counters of upcalls: how many there were, how many of them it answered itself, in how many nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Upcalls {
    pub missed: u64,
    pub answered: u64,
    pub answered_ns: u64,
}

pub(crate) struct Recorder {
    perf: Arc<Mutex<Perf>>,
    turn: Turns,
    /// How many batches were of 1 packet, of 2, and so on.
    sizes: [u16; BATCH_LEN],
    began: u64,
    /// How far the thread's counters were.
    upcalls: Upcalls,
    is_on: bool,
}

impl Recorder {
    pub fn new(perf: Arc<Mutex<Perf>>) -> Self {
        let (turn, sizes) = (Turns::default(), [0; BATCH_LEN]);
        Recorder { perf, turn, sizes, began: 0, upcalls: Upcalls::default(), is_on: false }
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Notes a batch, before which `waiting` frames were in the guest's queue, if it came out of one.
    pub fn batch(&mut self, packets: usize, waiting: Option<usize>) {
        self.turn.packets += packets as u64;
        self.turn.batches += 1;
        if let Some(n) = packets.checked_sub(1).and_then(|at| self.sizes.get_mut(at)) {
            *n = n.saturating_add(1);
        }
        if let Some(waiting) = waiting {
            self.turn.fill = self.turn.fill.max(waiting as u64);
        }
    }

    /// Ends a turn after which the thread's counters are `upcalls`, and begins the next. `is_on` says whether that is to
    /// be recorded.
    pub fn turn(&mut self, now_ms: u64, upcalls: Upcalls, is_on: bool) {
        let now = ticks();
        if self.is_on {
            let cycles = now.saturating_sub(self.began);
            let busy_cycles = if self.turn.packets > 0 { cycles } else { 0 };
            let before = self.upcalls;
            let answered_ns = upcalls.answered_ns.saturating_sub(before.answered_ns);
            let turn = Turns {
                count: 1,
                cycles,
                busy_cycles,
                upcalls: upcalls.missed.saturating_sub(before.missed),
                answered: upcalls.answered.saturating_sub(before.answered),
                upcall_cycles: (answered_ns as f64 * hz() / 1e9) as u64,
                ..self.turn
            };
            if let Some(mut perf) = self.perf.try_lock() {
                perf.enter(turn, &self.sizes, now_ms);
            }
            if self.turn.batches > 0 {
                self.sizes = [0; BATCH_LEN];
            }
            self.turn = Turns::default();
        }
        (self.upcalls, self.is_on) = (upcalls, is_on);
        // Entering it is no part of the next one.
        self.began = ticks();
    }

    /// The thread has slept: the turn begins now.
    pub fn slept(&mut self) {
        self.began = ticks();
    }
}
