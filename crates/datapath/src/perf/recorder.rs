//! A polling thread's notes of the turn that is under way.

use super::{Perf, Turns};
use crate::cpu::ticks;
use packet::BATCH_LEN;
use parking_lot::Mutex;
use std::sync::Arc;

pub(crate) struct Recorder {
    perf: Arc<Mutex<Perf>>,
    turn: Turns,
    /// How many batches were of 1 packet, of 2, and so on.
    sizes: [u16; BATCH_LEN],
    began: u64,
    missed: u64,
    is_on: bool,
}

impl Recorder {
    pub fn new(perf: Arc<Mutex<Perf>>) -> Self {
        let (turn, sizes) = (Turns::default(), [0; BATCH_LEN]);
        Recorder { perf, turn, sizes, began: 0, missed: 0, is_on: false }
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

    /// Ends a turn after which the thread has missed so many packets in all, and begins the next. `is_on` says
    /// whether that is to be recorded.
    pub fn turn(&mut self, now_ms: u64, missed: u64, is_on: bool) {
        let now = ticks();
        if self.is_on {
            let cycles = now.saturating_sub(self.began);
            let busy_cycles = if self.turn.packets > 0 { cycles } else { 0 };
            let upcalls = missed.saturating_sub(self.missed);
            let turn = Turns { count: 1, cycles, busy_cycles, upcalls, ..self.turn };
            if let Some(mut perf) = self.perf.try_lock() {
                perf.enter(turn, &self.sizes, now_ms);
            }
            if self.turn.batches > 0 {
                self.sizes = [0; BATCH_LEN];
            }
            self.turn = Turns::default();
        }
        (self.missed, self.is_on) = (missed, is_on);
        // Entering it is no part of the next one.
        self.began = ticks();
    }

    /// The thread has slept: the turn begins now.
    pub fn slept(&mut self) {
        self.began = ticks();
    }
}
