//! Named event counters, `coverage/show` and `coverage/read-counter`.
//!
//! A [`Counter`] is one line of the table in [`counter`]. Adding to it is one relaxed atomic addition on a cache
//! line that few other threads touch: each thread is given one of [`SHARDS`] copies of the table, in turn. Reading
//! a total sums the copies, so totals are exact but not a snapshot of one moment.
//!
//! [`Averages`] keeps the moving averages; the main loop owns one and calls [`Averages::run`] with the clock.

#![forbid(unsafe_code)]

mod averages;
pub mod counter;

pub use averages::Averages;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Copies of the counter table; threads beyond this number share.
pub const SHARDS: usize = 64;

/// Room in each copy; the table may grow up to this.
const CAPACITY: usize = 256;

#[repr(align(128))]
struct Shard([AtomicU64; CAPACITY]);

static TABLE: [Shard; SHARDS] = [const { Shard([const { AtomicU64::new(0) }; CAPACITY]) }; SHARDS];

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn shard() -> &'static Shard {
    let index = SHARD.with(|cell| {
        if cell.get() == usize::MAX {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            cell.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        cell.get()
    });
    &TABLE[index % SHARDS]
}

/// A named count of events. Made only by the table in [`counter`].
#[derive(Debug)]
pub struct Counter {
    index: usize,
    name: &'static str,
}

impl Counter {
    const fn new(index: usize, name: &'static str) -> Self {
        assert!(index < CAPACITY, "raise CAPACITY");
        Counter { index, name }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Counts one event.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n` events.
    #[inline]
    pub fn add(&self, n: u64) {
        shard().0[self.index].fetch_add(n, Ordering::Relaxed);
    }

    /// Events since the start of the process.
    pub fn total(&self) -> u64 {
        TABLE.iter().map(|s| s.0[self.index].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// The counter of this name.
pub fn find(name: &str) -> Option<&'static Counter> {
    counter::ALL.iter().copied().find(|c| c.name == name)
}

/// The reply of `coverage/read-counter`: the total or the error text.
pub fn read_counter(name: &str) -> Result<String, &'static str> {
    find(name).map(|c| format!("{}\n", c.total())).ok_or("No such counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_many_threads() {
        let before = counter::mac_learning_learned.total();
        std::thread::scope(|s| {
            for _ in 0..SHARDS + 3 {
                s.spawn(|| (0..100).for_each(|_| counter::mac_learning_learned.inc()));
            }
        });
        assert_eq!(counter::mac_learning_learned.total() - before, 100 * (SHARDS as u64 + 3));
    }

    #[test]
    fn names_are_unique_and_complete() {
        let mut names: Vec<_> = counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), counter::ALL.len());
        assert_eq!(names.len(), 151, "as many as the stock daemon's coverage/show counts");
        for name in ["bridge_reconfigure", "datapath_drop_upcall_error", "drop_action_recursion_too_deep"] {
            assert_eq!(find(name).map(Counter::name), Some(name));
        }
    }

    #[test]
    fn read_counter_texts() {
        counter::lockfile_lock.add(3);
        assert_eq!(read_counter("lockfile_lock").as_deref(), Ok("3\n"));
        assert_eq!(read_counter("nope"), Err("No such counter"));
    }
}
