//! What the database says about polling threads: keys of `Open_vSwitch.other_config`, and of
//! `Interface.other_config` those about queues.

use datapath::{AutoBalance, Datapath, Policy, PollConfig};
use dpif::PortNo;
use netdev::Netdev;
use std::collections::BTreeMap;
use tracing::{info, warn};

const TARGET: &str = "dpif_netdev";
const TX_FLUSH_US_MAX: u32 = 1_000_000;
const SLEEP_US_MAX: u32 = 10_000;
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
    announce_rest(&wanted, &now);
    datapath.configure_polling(wanted);
}

/// Says what else has changed.
fn announce_rest(wanted: &PollConfig, now: &PollConfig) {
    let on = |on: bool| if on { "enabled" } else { "disabled" };
    if wanted.tx_flush_us != now.tx_flush_us {
        info!(target: TARGET, "Flushing interval for tx queues set to {} us", wanted.tx_flush_us);
    }
    if wanted.signatures != now.signatures {
        info!(target: TARGET, "SMC cache is {}", on(wanted.signatures));
    }
    if wanted.max_sleep_us != now.max_sleep_us {
        info!(target: TARGET, "PMD max sleep request is {} usecs.", wanted.max_sleep_us);
        info!(target: TARGET, "PMD load based sleeps are {}.", on(wanted.max_sleep_us > 0));
    }
    let (is, was) = (wanted.auto_balance, now.auto_balance);
    if is.interval_min != was.interval_min {
        info!(target: TARGET, "PMD auto load balance interval set to {} mins", is.interval_min);
    }
    if is.improvement_percent != was.improvement_percent {
        info!(
            target: TARGET,
            "PMD auto load balance improvement threshold set to {}%", is.improvement_percent
        );
    }
    if is.load_percent != was.load_percent {
        info!(target: TARGET, "PMD auto load balance load threshold set to {}%", is.load_percent);
    }
    match is.is_on {
        true if is != was => info!(
            target: TARGET,
            "PMD auto load balance is enabled, interval {} mins, pmd load threshold {}%, improvement threshold {}%.",
            is.interval_min, is.load_percent, is.improvement_percent
        ),
        false if was.is_on => info!(target: TARGET, "PMD auto load balance is disabled."),
        _ => {}
    }
}

/// The keys `pmd-auto-lb*`; what is out of range counts as not said.
fn auto_balance(keys: &BTreeMap<String, String>) -> AutoBalance {
    const INTERVAL_MAX: u32 = 20_000;
    let number = |name: &str, max: u32| keys.get(name)?.trim().parse::<u32>().ok().filter(|n| *n <= max);
    let percent = |name: &str| number(name, 100).and_then(|n| u8::try_from(n).ok());
    let default = AutoBalance::default();
    AutoBalance {
        is_on: keys.get("pmd-auto-lb").is_some_and(|v| v == "true"),
        interval_min: number("pmd-auto-lb-rebal-interval", INTERVAL_MAX)
            .map_or(default.interval_min, |n| n.max(1)),
        load_percent: percent("pmd-auto-lb-load-threshold").unwrap_or(default.load_percent),
        improvement_percent: percent("pmd-auto-lb-improvement-threshold")
            .unwrap_or(default.improvement_percent),
    }
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
    let number = |name: &str| key(name).and_then(|n| n.trim().parse::<u32>().ok()).unwrap_or(0);
    PollConfig {
        pmd_cores: cores,
        assign,
        isolate,
        cache_one_in,
        signatures: key("smc-enable") == Some("true"),
        tx_flush_us: number("tx-flush-interval").min(TX_FLUSH_US_MAX),
        max_sleep_us: number("pmd-maxsleep").min(SLEEP_US_MAX),
        perf_metrics: key("pmd-perf-metrics") == Some("true"),
        auto_balance: auto_balance(keys),
        ..now.clone()
    }
}

/// Keys of an interface: its queues' cores, what is remembered of its packets, how they are spread over transmit
/// queues.
pub fn configure_port(
    datapath: &Datapath,
    no: PortNo,
    device: &dyn Netdev,
    interface: &str,
    keys: &BTreeMap<String, String>,
) {
    // The port is there: it was just added.
    let _ = datapath.set_affinity(no, affinity(interface, keys));
    let emc = keys.get("emc-enable").map(String::as_str) != Some("false");
    if matches!(datapath.set_emc(no, emc), Ok(true)) {
        let chance = match datapath.polling_config().cache_one_in {
            _ if !emc => "disabled.".to_owned(),
            0 => "enabled. Current insertion probability is zero.".to_owned(),
            n => {
                let percent = 100.0 / f64::from(n);
                format!("enabled. Current insertion probability is 1/{n} (~{percent:.2}%).")
            }
        };
        info!(target: TARGET, "{interface}: EMC has been {chance}");
    }
    let by_hash = keys.get("tx-steering").is_some_and(|v| v == "hash");
    if device.set_tx_steering(by_hash) {
        let mode = if by_hash { "hash" } else { "thread" };
        info!(target: TARGET, "{interface}: Tx packet steering mode has been set to '{mode}'.");
    }
}

/// `pmd-rxq-affinity` of an interface: queue to core.
fn affinity(interface: &str, keys: &BTreeMap<String, String>) -> BTreeMap<usize, u32> {
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
        let some = config(&[("smc-enable", "true"), ("tx-flush-interval", "50"), ("pmd-maxsleep", "99999")]);
        assert_eq!((some.signatures, some.tx_flush_us, some.max_sleep_us), (true, 50, 10_000));
        let balance = |pairs: &[(&str, &str)]| config(pairs).auto_balance;
        let all = [
            ("pmd-auto-lb", "true"),
            ("pmd-auto-lb-rebal-interval", "0"),
            ("pmd-auto-lb-load-threshold", "70"),
            ("pmd-auto-lb-improvement-threshold", "101"),
        ];
        let wanted = AutoBalance { is_on: true, load_percent: 70, ..AutoBalance::default() };
        assert_eq!(balance(&all), wanted);
        assert_eq!(balance(&[("pmd-auto-lb-rebal-interval", "20001")]), AutoBalance::default());
    }

    #[test]
    fn queues_are_pinned() {
        let keys = [("pmd-rxq-affinity".to_owned(), "0:3,1:7".to_owned())].into();
        assert_eq!(affinity("p", &keys), [(0, 3), (1, 7)].into());
    }
}
