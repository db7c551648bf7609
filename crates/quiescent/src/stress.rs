//! Readers and writers at once; values notice when they are read after their end.

use crate::{Domain, Snapshot, Table};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const ALIVE: u64 = 0x600d_600d_600d_600d;

/// Two equal halves and a mark that its end wipes out.
struct Value {
    n: u64,
    twice: u64,
    mark: AtomicU64,
}

impl Value {
    fn new(n: u64) -> Self {
        Value { n, twice: 2 * n, mark: AtomicU64::new(ALIVE) }
    }

    fn check(&self) {
        assert_eq!((self.mark.load(Ordering::Relaxed), self.twice), (ALIVE, 2 * self.n));
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.check();
        self.mark.store(0, Ordering::Relaxed);
    }
}

fn rounds(n: u64) -> u64 {
    if cfg!(miri) { n / 200 } else { n }
}

/// Runs `read` in three threads until `write` returns; readers quiesce or sleep between calls.
fn run(domain: &Arc<Domain>, read: impl Fn(&crate::Guard<'_>, u64) + Send + Sync, write: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for id in 0..3u64 {
            let (stop, read) = (&stop, &read);
            s.spawn(move || {
                let mut reader = domain.reader();
                let mut n = id;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..8 {
                        read(&reader.pin(), n);
                        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    }
                    if n & 0x300 == 0 { reader.offline() } else { reader.quiesce() }
                }
            });
        }
        write();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn snapshots_are_whole_and_alive() {
    let domain = Domain::new();
    let snapshot = Snapshot::new(&domain, Value::new(0));
    run(
        &domain,
        |guard, _| snapshot.load(guard).check(),
        || (0..rounds(50_000)).for_each(|n| snapshot.publish(Value::new(n))),
    );
}

#[test]
fn values_that_stay_are_always_found() {
    let domain = Domain::new();
    let table = Table::new(&domain);
    const KEPT: u64 = 20;
    (0..KEPT).for_each(|n| table.insert(n % 5, Arc::new(Value::new(n))));
    let read = |guard: &crate::Guard<'_>, n: u64| {
        let n = (n >> 40) % (2 * KEPT);
        match table.find(guard, n % 5, |v| v.n == n) {
            Some(v) => {
                v.check();
                v.to_arc().check();
            }
            None => assert!(n >= KEPT, "{n} is always there"),
        }
    };
    run(&domain, read, || {
        for round in 0..rounds(20_000) {
            let n = KEPT + round % KEPT;
            table.insert(n % 5, Arc::new(Value::new(n)));
            if round % 64 == 0 {
                domain.synchronize();
            }
            if round >= 7 {
                let n = KEPT + (round - 7) % KEPT;
                assert!(table.remove(n % 5, |v| v.n == n).is_some());
            }
        }
    });
}
