//! What polling threads remember packets in, made before the threads.
//!
//! It is some MiB, which are touched when it is made: milliseconds, where the machine has to find the memory first. A
//! polling thread starts when its first port is added, and until the port's device is there, nobody has anything to do.

use crate::key::Seed;
use crate::lane::{Lane, WideLane};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// What a polling thread remembers packets in.
pub(crate) struct Lanes {
    pub common: Lane,
    /// In use when the first packet of its shape comes.
    pub wide: Box<WideLane>,
}

impl Lanes {
    pub fn new() -> Self {
        Lanes { common: Lane::new(Seed::get()), wide: Box::new(WideLane::new(Seed::get())) }
    }
}

/// Lanes without a thread.
#[derive(Default)]
pub(crate) struct Spares {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    made: Vec<Lanes>,
    /// How many are still to be made, by a thread that is at it.
    to_come: usize,
}

impl Spares {
    /// Has lanes for so many threads made, unless some are there or on their way.
    pub fn expect(self: &Arc<Self>, threads: usize) {
        let mut state = self.state.lock();
        if threads == 0 || state.to_come > 0 || !state.made.is_empty() {
            return;
        }
        state.to_come = threads;
        drop(state);
        let spares = Arc::clone(self);
        let make = move || while spares.make() {};
        // Without the thread, each polling thread has its own made when it starts.
        if std::thread::Builder::new().name("pmd_memory".to_owned()).spawn(make).is_err() {
            self.forget();
        }
    }

    /// Makes one; `false` if no more are wanted.
    fn make(&self) -> bool {
        if self.state.lock().to_come == 0 {
            return false;
        }
        let lanes = Lanes::new();
        let mut state = self.state.lock();
        // Somebody may have lost interest meanwhile.
        if state.to_come > 0 {
            state.to_come -= 1;
            state.made.push(lanes);
            self.changed.notify_all();
        }
        state.to_come > 0
    }

    /// One of those that were made; waits for one that is on its way.
    pub fn take(&self) -> Option<Lanes> {
        let mut state = self.state.lock();
        while state.made.is_empty() && state.to_come > 0 {
            self.changed.wait(&mut state);
        }
        state.made.pop()
    }

    /// Nobody will take any for now.
    pub fn forget(&self) {
        let made = {
            let mut state = self.state.lock();
            state.to_come = 0;
            self.changed.notify_all();
            std::mem::take(&mut state.made)
        };
        drop(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_made_as_are_expected_until_nobody_wants_them() {
        let spares = Arc::new(Spares::default());
        assert!(spares.take().is_none());
        spares.expect(2);
        spares.expect(2);
        assert!(spares.take().is_some() && spares.take().is_some() && spares.take().is_none());
        spares.expect(1);
        spares.forget();
        assert!(spares.take().is_none());
    }
}
