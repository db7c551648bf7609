//! The cores of polling threads are theirs: the process's other threads keep away, as far as there are others.
//!
//! A thread that polls never gives its core away; what shares it with handlers or revalidators loses packets
//! whenever the scheduler gives those their turn.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs;
use tracing::debug;

/// How names of polling threads begin, before the number of their core.
pub(crate) const PMD_NAME: &str = "pmd-c";

/// Where the process's threads are to be.
struct Home {
    /// Where the main thread was when the first polling thread came.
    all: CpuSet,
    /// Where the others are now.
    now: CpuSet,
}

static HOME: Mutex<Option<Home>> = Mutex::new(None);

/// Moves all threads that are where the main thread was, but polling ones, away from cores with polling threads.
pub(crate) fn leave_to_pollers() {
    let mut home = HOME.lock();
    let Some(first) = sched_getaffinity(Pid::this()).ok() else { return };
    let home = home.get_or_insert(Home { all: first, now: first });
    let threads = threads();
    let taken: BTreeSet<usize> = threads.iter().filter_map(|(_, core)| *core).collect();
    let wanted = without(&home.all, &taken);
    for (thread, core) in threads {
        let is_elsewhere = || sched_getaffinity(thread) != Ok(home.now);
        if core.is_some() || is_elsewhere() {
            continue;
        }
        if let Err(error) = sched_setaffinity(thread, &wanted) {
            debug!("thread {thread} stays on the cores of polling threads: {error}");
        }
    }
    home.now = wanted;
}

/// The process's threads; polling ones with their cores.
fn threads() -> Vec<(Pid, Option<usize>)> {
    let mut all = Vec::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Some(id) = task.file_name().to_str().and_then(|id| id.parse().ok()) else { continue };
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        all.push((Pid::from_raw(id), core_in(&name)));
    }
    all
}

/// The core that a polling thread's name tells.
fn core_in(name: &str) -> Option<usize> {
    name.strip_prefix(PMD_NAME)?.split('/').next()?.parse().ok()
}

/// `all` without `taken`, or `all` if nothing would be left.
fn without(all: &CpuSet, taken: &BTreeSet<usize>) -> CpuSet {
    let mut rest = CpuSet::new();
    let is_free = |core: &usize| all.is_set(*core) == Ok(true) && !taken.contains(core);
    let free: Vec<usize> = (0..CpuSet::count()).filter(is_free).collect();
    for core in &free {
        let _ = rest.set(*core);
    }
    if free.is_empty() { *all } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_core_is_always_left() {
        let mut all = CpuSet::new();
        [0, 1, 5].into_iter().for_each(|c| all.set(c).unwrap());
        let rest = without(&all, &[1, 7].into());
        assert_eq!([0, 1, 5, 7].map(|c| rest.is_set(c).unwrap()), [true, false, true, false]);
        assert_eq!(without(&all, &[0, 1, 5].into()), all);
        assert_eq!(core_in("pmd-c07/id:12\n"), Some(7));
        assert_eq!(core_in("handler1\n"), None);
    }
}
