//! What the database says about polling threads: keys of `Open_vSwitch.other_config`, and of
//! `Interface.other_config` those about queues.
//!
//! `tx-flush-interval` has nothing to set here: packets leave at the end of each batch, as with its default of 0.

use datapath::{Datapath, Policy, PollConfig};
use std::collections::BTreeMap;
use tracing::{info, warn};

const TARGET: &str = "dpif_netdev";
const POLICIES: [(&str, Policy); 3] =
    [("cycles", Policy::Cycles), ("roundrobin", Policy::RoundRobin), ("group", Policy::Group)];

/// Puts the keys in force.
pub fn configure(datapath: &Datapath, keys: &BTreeMap<String, String>) {
    let now = datapath.polling_config();
    let wanted = read(keys, &now);
    if wanted == now {
        return;
    }
    if wanted.assign != now.assign {
        let name = POLICIES.iter().find(|(_, p)| *p == wanted.assign).map_or("", |(name, _)| name);
        info!(target: TARGET, "Rxq to PMD assignment mode changed to: '{name}'.");
    }
    if wanted.isolate != now.isolate {
        let verb = if wanted.isolate { "isolates" } else { "does not isolate" };
        info!(target: TARGET, "pmd-rxq-affinity {verb} PMD core");
    }
    if wanted.cache_one_in != now.cache_one_in {
        match wanted.cache_one_in {
            0 => info!(target: TARGET, "EMC insertion probability changed to zero"),
            n => {
                let percent = 100.0 / f64::from(n);
                info!(target: TARGET, "EMC insertion probability changed to 1/{n} (~{percent:.2}%)");
            }
        }
    }
    datapath.configure_polling(wanted);
}

fn read(keys: &BTreeMap<String, String>, now: &PollConfig) -> PollConfig {
    let key = |name: &str| keys.get(name).map(String::as_str);
    let cores = key("pmd-cpu-mask").filter(|mask| !mask.is_empty()).and_then(|mask| {
        let cores = PollConfig::parse_mask(mask);
        if cores.is_none() {
            warn!(target: TARGET, "Invalid pmd-cpu-mask: {mask}");
        }
        cores.filter(|cores| !cores.is_empty())
    });
    let named = key("pmd-rxq-assign").unwrap_or("cycles");
    let assign = POLICIES.iter().find(|(name, _)| *name == named).map(|(_, policy)| *policy);
    if assign.is_none() {
        warn!(target: TARGET, "Unsupported rx queue to PMD assignment mode in pmd-rxq-assign. Defaulting to 'cycles'.");
    }
    let assign = assign.unwrap_or_default();
    let mut isolate = key("pmd-rxq-isolate") != Some("false");
    if !isolate && assign != Policy::Group {
        warn!(target: TARGET, "pmd-rxq-isolate can only be set false when using pmd-rxq-assign=group");
        isolate = true;
    }
    // Where nothing is said, everything is remembered: here that is cheap.
    let cache_one_in = key("emc-insert-inv-prob").map_or(1, |n| n.trim().parse().unwrap_or(1));
    PollConfig { pmd_cores: cores, assign, isolate, cache_one_in, ..now.clone() }
}

/// `pmd-rxq-affinity` of an interface: queue to core.
pub fn affinity(interface: &str, keys: &BTreeMap<String, String>) -> BTreeMap<usize, u32> {
    let Some(text) = keys.get("pmd-rxq-affinity") else { return BTreeMap::new() };
    PollConfig::parse_affinity(text).unwrap_or_else(|| {
        warn!(target: TARGET, "{interface}: invalid pmd-rxq-affinity: {text}");
        BTreeMap::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> PollConfig {
        let keys = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        read(&keys, &PollConfig::default())
    }

    #[test]
    fn keys_are_read() {
        assert_eq!(config(&[]), PollConfig::default());
        assert_eq!(config(&[("pmd-cpu-mask", "0x6")]).pmd_cores, Some(vec![1, 2]));
        assert_eq!(config(&[("pmd-cpu-mask", "zz")]).pmd_cores, None);
        let group = config(&[("pmd-rxq-assign", "group"), ("pmd-rxq-isolate", "false")]);
        assert_eq!((group.assign, group.isolate), (Policy::Group, false));
        let cycles = config(&[("pmd-rxq-assign", "x"), ("pmd-rxq-isolate", "false")]);
        assert_eq!((cycles.assign, cycles.isolate), (Policy::Cycles, true));
        assert_eq!(config(&[("emc-insert-inv-prob", "0")]).cache_one_in, 0);
    }

    #[test]
    fn queues_are_pinned() {
        let keys = [("pmd-rxq-affinity".to_owned(), "0:3,1:7".to_owned())].into();
        assert_eq!(affinity("p", &keys), [(0, 3), (1, 7)].into());
    }
}
