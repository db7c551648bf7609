//! Moving receive queues when a polling thread has too much to do (`other_config:pmd-auto-lb*`).

use crate::assign::{self, Core, Policy, Queue};
use crate::datapath::{Datapath, State};
use crate::threads::polled_queues;
use crate::usage::INTERVALS;
use std::collections::{BTreeMap, BTreeSet};
use tracing::{debug, info};

const TARGET: &str = "dpif_netdev";
const MINUTE_MS: u64 = 60_000;

/// When and why queues are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AutoBalance {
    pub is_on: bool,
    /// Between two looks, in minutes.
    pub interval_min: u32,
    /// A thread that is busy for so many percent of its time, all the time, has too much to do.
    pub load_percent: u8,
    /// By how many percent the variance of loads must shrink to be worth the move.
    pub improvement_percent: u8,
}

impl Default for AutoBalance {
    fn default() -> Self {
        AutoBalance { is_on: false, interval_min: 1, load_percent: 95, improvement_percent: 25 }
    }
}

/// When the next look is due.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    last_ms: Option<u64>,
}

impl Balancer {
    /// Whether it is time to look. The first call only starts an interval.
    pub fn is_due(&mut self, config: &AutoBalance, now_ms: u64) -> bool {
        if !config.is_on {
            self.last_ms = None;
            return false;
        }
        let last = *self.last_ms.get_or_insert(now_ms);
        let due = now_ms > last + u64::from(config.interval_min.max(1)) * MINUTE_MS;
        if due {
            self.last_ms = Some(now_ms);
        }
        due
    }
}

/// Notes at the end of an interval which threads had too much to do in it.
pub(crate) fn note_load(state: &mut State) {
    let threshold = u64::from(state.config.auto_balance.load_percent);
    for thread in state.threads.iter_mut().filter(|t| t.kind.pmd().is_some()) {
        let (busy, total) = (thread.busy_usage.recent(1), thread.total_usage.recent(1));
        let is_over = total > 0 && busy * 100 / total >= threshold;
        thread.overloaded = if is_over { thread.overloaded + 1 } else { 0 };
    }
}

impl Datapath {
    /// Moves queues if a thread has long had too much to do and that makes things better.
    pub(crate) fn auto_balance(&self, state: &mut State) {
        let always = |overloaded: u32| overloaded as usize >= INTERVALS;
        if !state.threads.iter().any(|t| always(t.overloaded)) {
            return;
        }
        if state.config.assign == Policy::RoundRobin {
            debug!(target: TARGET, "PMD auto load balance nothing to do, pmd-rxq-assign=roundrobin assignment type configured.");
            return;
        }
        let queues = polled_queues(state);
        let now: Vec<Option<u32>> = queues.iter().map(|q| core_of(state, q)).collect();
        let cores = state.config.pmd_cores();
        if !can_move(&queues, &now, &cores, state.config.isolate) {
            debug!(target: TARGET, "PMD auto load balance nothing to do, not enough non-isolated PMDs or RxQs.");
            return;
        }
        debug!(target: TARGET, "PMD auto load balance performing dry run.");
        let then = assign::assign(&queues, &cores, state.config.assign, state.config.isolate);
        let total = |core| {
            let thread = state.threads.iter().find(|t| t.kind.pmd() == Some(core));
            thread.map_or(0, |t| t.total_usage.all())
        };
        let improvement = improvement(&queues, &now, &then, &cores, total);
        let wanted = u64::from(state.config.auto_balance.improvement_percent);
        let met = if improvement >= wanted { "met" } else { "not met" };
        debug!(target: TARGET, "PMD load variance improvement threshold {wanted}% is {met}.");
        if improvement >= wanted {
            info!(target: TARGET, "PMD auto load balance dry run. Requesting datapath reconfigure.");
            self.replan(state);
            state.threads.iter_mut().for_each(|t| t.overloaded = 0);
        }
    }
}

fn core_of(state: &State, queue: &Queue) -> Option<u32> {
    let port = state.ports.get(&dpif::PortNo(queue.port))?;
    let tx = port.rx.iter().find(|rx| rx.id == queue.id)?.thread?;
    state.threads.iter().find(|t| t.tx == tx)?.kind.pmd()
}

/// Whether two threads take queues that are not pinned, one of them more than one queue.
fn can_move(queues: &[Queue], now: &[Option<u32>], cores: &[Core], isolate: bool) -> bool {
    let pinned: BTreeSet<u32> = queues.iter().filter_map(|q| q.pinned).collect();
    let free: Vec<&Core> = cores.iter().filter(|c| !isolate || !pinned.contains(&c.id)).collect();
    let queues_of = |core: &Core| now.iter().filter(|at| **at == Some(core.id)).count();
    free.len() > 1 && free.iter().any(|core| queues_of(core) > 1)
}

/// By how many percent the variance of the threads' loads shrinks, on the node where it shrinks most. `total` is
/// the time of a core in the unit of the queues' loads. Where queues are polled from another node than their own
/// and there are several, nothing can be said.
fn improvement(
    queues: &[Queue],
    now: &[Option<u32>],
    then: &[Option<u32>],
    cores: &[Core],
    total: impl Fn(u32) -> u64,
) -> u64 {
    let node_of: BTreeMap<u32, u32> = cores.iter().map(|c| (c.id, c.numa)).collect();
    let nodes: BTreeSet<u32> = node_of.values().copied().collect();
    let is_away = |(q, at): (&Queue, &Option<u32>)| {
        let node = at.and_then(|core| node_of.get(&core));
        q.numa.is_some() && node.is_some() && node != q.numa.as_ref()
    };
    if nodes.len() > 1 && queues.iter().zip(then).any(is_away) {
        return 0;
    }
    let variance = |node: u32, places: &[Option<u32>]| {
        let load = |core: &Core| {
            let sum: u64 =
                queues.iter().zip(places).filter(|(_, at)| **at == Some(core.id)).map(|(q, _)| q.load).sum();
            (100 * sum).checked_div(total(core.id)).unwrap_or(0)
        };
        let loads: Vec<u64> = cores.iter().filter(|c| c.numa == node).map(load).collect();
        let mean = loads.iter().sum::<u64>() / (loads.len() as u64).max(1);
        loads.iter().map(|l| l.abs_diff(mean).pow(2)).sum::<u64>() / (loads.len() as u64).max(1)
    };
    let better = nodes.into_iter().map(|node| {
        let (is, would) = (variance(node, now), variance(node, then));
        debug!(target: TARGET, "Numa node {node}. Current variance {is} Estimated variance {would}.");
        (is.saturating_sub(would) * 100).checked_div(is).unwrap_or(0)
    });
    better.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(port: u32, load: u64) -> Queue {
        Queue { port, id: 0, numa: Some(0), pinned: None, load }
    }

    #[test]
    fn variance_shrinks_when_loads_come_together() {
        let cores = [0, 1].map(|id| Core { id, numa: 0 });
        let queues = [queue(1, 50), queue(2, 50)];
        let of = |now: [Option<u32>; 2], then: [Option<u32>; 2]| {
            improvement(&queues, &now, &then, &cores, |_| 100)
        };
        assert_eq!(of([Some(0), Some(0)], [Some(0), Some(1)]), 100);
        assert_eq!(of([Some(0), Some(1)], [Some(0), Some(0)]), 0);
        assert_eq!(of([Some(0), Some(1)], [Some(1), Some(0)]), 0);
        let far = [Core { id: 0, numa: 0 }, Core { id: 1, numa: 1 }];
        assert_eq!(improvement(&queues, &[Some(0); 2], &[Some(0), Some(1)], &far, |_| 100), 0);
    }

    #[test]
    fn there_must_be_something_to_move() {
        let cores = [0, 1].map(|id| Core { id, numa: 0 });
        let mut queues = [queue(1, 50), queue(2, 50)];
        assert!(can_move(&queues, &[Some(0), Some(0)], &cores, true));
        assert!(!can_move(&queues, &[Some(0), Some(1)], &cores, true));
        assert!(!can_move(&queues, &[Some(0), Some(0)], &cores[..1], true));
        queues[0].pinned = Some(0);
        assert!(!can_move(&queues, &[Some(0), Some(0)], &cores, true));
        assert!(can_move(&queues, &[Some(0), Some(0)], &cores, false));
    }

    #[test]
    fn looks_are_an_interval_apart() {
        let on = AutoBalance { is_on: true, ..AutoBalance::default() };
        let mut b = Balancer::default();
        assert!(!b.is_due(&on, 1_000) && !b.is_due(&on, 61_000) && b.is_due(&on, 61_001));
        assert!(!b.is_due(&on, 62_000));
        assert!(!b.is_due(&AutoBalance::default(), 999_999) && !b.is_due(&on, 1_000_000));
    }
}
