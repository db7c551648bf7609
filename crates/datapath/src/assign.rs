//! Which polling thread takes which receive queue (`other_config:pmd-rxq-assign`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How queues that are not pinned are spread over the cores of their NUMA node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// In order of their load, heaviest first, to and fro over the cores.
    #[default]
    Cycles,
    /// In order of port and queue, round and round.
    RoundRobin,
    /// In order of their load, each to the core with the least so far.
    Group,
}

/// A receive queue to place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Queue {
    pub port: u32,
    pub id: usize,
    pub numa: Option<u32>,
    /// The core of `pmd-rxq-affinity`.
    pub pinned: Option<u32>,
    /// Its recent share of a core, in any unit.
    pub load: u64,
}

/// A core with a polling thread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Core {
    pub id: u32,
    pub numa: u32,
}

/// One node's cores that take queues, and where the next one goes.
struct Node {
    /// Core and load.
    cores: Vec<(u32, u64)>,
    next: usize,
    backwards: bool,
}

impl Node {
    fn choose(&mut self, policy: Policy) -> Option<&mut (u32, u64)> {
        let last = self.cores.len().checked_sub(1)?;
        let at = match policy {
            Policy::Group => {
                let loads = self.cores.iter().enumerate();
                loads.min_by_key(|(_, (_, load))| *load).map_or(0, |(at, _)| at)
            }
            Policy::RoundRobin => {
                let at = self.next;
                self.next = if at == last { 0 } else { at + 1 };
                at
            }
            Policy::Cycles => {
                let at = self.next;
                match (self.backwards, at) {
                    (false, at) if at == last => self.backwards = true,
                    (false, at) => self.next = at + 1,
                    (true, 0) => self.backwards = false,
                    (true, at) => self.next = at - 1,
                }
                at
            }
        };
        self.cores.get_mut(at)
    }
}

/// The core of each queue, in the order of `queues`; `None` if no thread can take it: it is pinned to a core
/// without one, or there is no core. Cores with pinned queues take no others if `isolate`.
pub(crate) fn assign(queues: &[Queue], cores: &[Core], policy: Policy, isolate: bool) -> Vec<Option<u32>> {
    let mut cores = cores.to_vec();
    cores.sort_unstable();
    let pinned_to = |q: &Queue| q.pinned.filter(|p| cores.iter().any(|c| c.id == *p));
    let mut result: Vec<Option<u32>> = queues.iter().map(pinned_to).collect();
    let mut nodes: BTreeMap<u32, Node> = BTreeMap::new();
    for core in &cores {
        let pinned = || queues.iter().zip(&result).filter(|(_, r)| **r == Some(core.id));
        if isolate && pinned().next().is_some() {
            continue;
        }
        let load = pinned().map(|(q, _)| q.load).sum();
        let node = || Node { cores: Vec::new(), next: 0, backwards: false };
        nodes.entry(core.numa).or_insert_with(node).cores.push((core.id, load));
    }
    let mut order: Vec<usize> = (0..queues.len()).filter(|i| queues[*i].pinned.is_none()).collect();
    match policy {
        Policy::RoundRobin => order.sort_by_key(|i| (queues[*i].port, queues[*i].id)),
        _ => order.sort_by_key(|i| (Reverse(queues[*i].load), queues[*i].port, queues[*i].id)),
    }
    let mut next_node = 0;
    for i in order {
        let queue = &queues[i];
        let home = queue.numa.filter(|n| nodes.contains_key(n));
        let node = home.or_else(|| {
            // Without a thread on its own node, a queue goes to the others in turn.
            let all: Vec<u32> = nodes.keys().copied().collect();
            next_node += 1;
            all.get((next_node - 1) % all.len().max(1)).copied()
        });
        if let Some(core) = node.and_then(|n| nodes.get_mut(&n)).and_then(|n| n.choose(policy)) {
            core.1 += queue.load;
            result[i] = Some(core.0);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(port: u32, load: u64) -> Queue {
        Queue { port, id: 0, numa: Some(0), pinned: None, load }
    }

    fn cores(n: u32) -> Vec<Core> {
        (0..n).map(|id| Core { id, numa: 0 }).collect()
    }

    #[test]
    fn policies_spread_as_documented() {
        let queues: Vec<_> = [50, 10, 40, 30].into_iter().zip(1..).map(|(l, p)| queue(p, l)).collect();
        let with = |policy| assign(&queues, &cores(2), policy, true);
        assert_eq!(with(Policy::RoundRobin), [Some(0), Some(1), Some(0), Some(1)]);
        // 50 -> 0, 40 -> 1, 30 -> 1, 10 -> 0.
        assert_eq!(with(Policy::Cycles), [Some(0), Some(0), Some(1), Some(1)]);
        // 50 -> 0, 40 -> 1, 30 -> 1, 10 -> 0.
        assert_eq!(with(Policy::Group), [Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn pinned_queues_have_their_core_to_themselves() {
        let mut queues: Vec<_> = (1..=3).map(|p| queue(p, 1)).collect();
        queues[0].pinned = Some(1);
        queues[1].pinned = Some(7);
        assert_eq!(assign(&queues, &cores(2), Policy::Group, true), [Some(1), None, Some(0)]);
        queues[2].load = 0;
        assert_eq!(assign(&queues[..1], &cores(1), Policy::Group, true), [None]);
        assert_eq!(assign(&[queue(1, 1)], &[], Policy::Cycles, true), [None]);
    }

    #[test]
    fn queues_stay_on_their_node_if_it_has_threads() {
        let cores = [Core { id: 0, numa: 0 }, Core { id: 1, numa: 1 }];
        let on = |numa| Queue { numa, ..queue(1, 1) };
        let queues = [on(Some(1)), on(Some(1)), on(Some(3)), on(Some(3))];
        let result = assign(&queues, &cores, Policy::RoundRobin, true);
        assert_eq!(result, [Some(1), Some(1), Some(0), Some(1)]);
    }
}
