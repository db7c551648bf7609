//! What the database says about polling threads.

use crate::assign::{Core, Policy};
use crate::balance::AutoBalance;
use std::collections::BTreeMap;

/// `Open_vSwitch.other_config`, as far as it concerns threads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PollConfig {
    /// Cores of `pmd-cpu-mask`; `None`: the first core of each NUMA node.
    pub pmd_cores: Option<Vec<u32>>,
    /// The machine's cores.
    pub machine: Vec<Core>,
    /// `pmd-rxq-assign`.
    pub assign: Policy,
    /// `pmd-rxq-isolate`: cores with pinned queues take no others.
    pub isolate: bool,
    /// Threads for ports that are waited for.
    pub socket_threads: usize,
    /// `emc-insert-inv-prob`: one of so many packets that the first look did not find is remembered there;
    /// 0 turns the first look off.
    pub cache_one_in: u32,
    /// `smc-enable`: what `cache_one_in` or `emc-enable` keep out is remembered all the same.
    pub signatures: bool,
    /// `tx-flush-interval`: microseconds that packets wait for others to be sent with.
    pub tx_flush_us: u32,
    /// `pmd-maxsleep`: microseconds that a thread with little to do may sleep at once, at most 10,000.
    pub max_sleep_us: u32,
    /// `pmd-perf-metrics`: every turn of a polling thread's loop is recorded.
    pub perf_metrics: bool,
    /// `pmd-auto-lb*`.
    pub auto_balance: AutoBalance,
}

impl Default for PollConfig {
    fn default() -> Self {
        PollConfig {
            pmd_cores: None,
            machine: machine_cores(),
            assign: Policy::default(),
            isolate: true,
            socket_threads: 1,
            cache_one_in: 1,
            signatures: false,
            tx_flush_us: 0,
            max_sleep_us: 0,
            perf_metrics: false,
            auto_balance: AutoBalance::default(),
        }
    }
}

impl PollConfig {
    /// Whether with `new` queues may belong to other threads.
    pub(crate) fn moves_queues(&self, new: &PollConfig) -> bool {
        let places =
            |c: &Self| (c.pmd_cores.clone(), c.machine.clone(), c.assign, c.isolate, c.socket_threads);
        places(self) != places(new)
    }

    /// Cores of a `pmd-cpu-mask` in hexadecimal; empty for an empty mask, `None` for what is no number.
    pub fn parse_mask(mask: &str) -> Option<Vec<u32>> {
        let digits = mask.strip_prefix("0x").or(mask.strip_prefix("0X")).unwrap_or(mask);
        let mut cores = Vec::new();
        for (i, digit) in digits.chars().rev().enumerate() {
            let bits = digit.to_digit(16)?;
            cores.extend((0..4u32).filter(|b| bits & (1 << b) != 0).map(|b| 4 * i as u32 + b));
        }
        Some(cores)
    }

    /// The machine that `--dummy-numa` describes: a NUMA node for each core, separated by commas.
    pub fn dummy_machine(nodes: &str) -> Option<Vec<Core>> {
        let core = |(id, numa): (usize, &str)| Some(Core { id: id as u32, numa: numa.trim().parse().ok()? });
        nodes.split(',').enumerate().map(core).collect()
    }

    /// `pmd-rxq-affinity`: pairs of queue and core as in `0:3,1:7`.
    pub fn parse_affinity(text: &str) -> Option<BTreeMap<usize, u32>> {
        let pairs = text.split([',', ' ']).filter(|p| !p.is_empty());
        pairs.map(|p| p.split_once(':').and_then(|(q, c)| Some((q.parse().ok()?, c.parse().ok()?)))).collect()
    }

    /// The cores that polling threads run on.
    pub(crate) fn pmd_cores(&self) -> Vec<Core> {
        match &self.pmd_cores {
            Some(wanted) => self.machine.iter().filter(|c| wanted.contains(&c.id)).copied().collect(),
            None => {
                let mut first: Vec<Core> = Vec::new();
                let mut all = self.machine.clone();
                all.sort_unstable();
                for core in all {
                    if first.iter().all(|c| c.numa != core.numa) {
                        first.push(core);
                    }
                }
                first
            }
        }
    }
}

/// The online cores of this machine with their NUMA nodes, from sysfs; one of node 0 if that cannot be read.
fn machine_cores() -> Vec<Core> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let online = parse_list(&read("/sys/devices/system/cpu/online"));
    let nodes = parse_list(&read("/sys/devices/system/node/online"));
    let mut cores: Vec<Core> = Vec::new();
    for numa in nodes {
        let list = parse_list(&read(&format!("/sys/devices/system/node/node{numa}/cpulist")));
        cores.extend(list.into_iter().filter(|id| online.contains(id)).map(|id| Core { id, numa }));
    }
    if cores.is_empty() {
        let online = if online.is_empty() { vec![0] } else { online };
        cores.extend(online.into_iter().map(|id| Core { id, numa: 0 }));
    }
    cores
}

/// A list like `0-3,8`. Bounded: the kernel numbers no more than some thousands.
fn parse_list(list: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
            all.extend(from..=to.min(from.saturating_add(8191)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_lists_are_read() {
        assert_eq!(PollConfig::parse_mask("0x15"), Some(vec![0, 2, 4]));
        assert_eq!(PollConfig::parse_mask("f0"), Some(vec![4, 5, 6, 7]));
        assert_eq!(PollConfig::parse_mask("0xg"), None);
        assert_eq!(parse_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(PollConfig::parse_affinity("0:3, 1:7"), Some([(0, 3), (1, 7)].into()));
        assert_eq!(PollConfig::parse_affinity("0"), None);
        let machine = PollConfig::dummy_machine("0,1");
        assert_eq!(machine, Some(vec![Core { id: 0, numa: 0 }, Core { id: 1, numa: 1 }]));
    }

    #[test]
    fn without_a_mask_each_node_polls_on_its_first_core() {
        let machine = [(0, 0), (1, 1), (2, 0), (3, 1)].map(|(id, numa)| Core { id, numa }).to_vec();
        let config = PollConfig { machine, ..PollConfig::default() };
        assert_eq!(config.pmd_cores().iter().map(|c| c.id).collect::<Vec<_>>(), [0, 1]);
    }
}
