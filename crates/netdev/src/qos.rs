//! Quality of service of kernel devices: `linux-htb` (ovs-vswitchd.conf.db(5), QoS and Queue tables).

use crate::device::{NetdevError, StringMap};
use crate::tc::{HtbClass, QUEUES, Tc};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;

/// Types that kernel devices know; `linux-noop` leaves the device to others.
pub const TYPES: [&str; 2] = ["linux-htb", "linux-noop"];
/// Rate of a device that does not say how fast it is, bits per second.
const DEFAULT_BPS: u64 = 100_000_000;
/// What a frame may be longer than the MTU.
const FRAME_EXTRA: u64 = 64;

/// What the database says of a port's queues.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QosSettings {
    pub kind: String,
    pub options: StringMap,
    pub queues: BTreeMap<u32, StringMap>,
}

/// A queue as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueReport {
    pub id: u32,
    pub options: StringMap,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Packets dropped.
    pub tx_errors: u64,
}

/// A device's quality of service as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QosReport {
    pub kind: String,
    pub options: StringMap,
    pub queues: Vec<QueueReport>,
}

/// The device's part in a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub ifindex: u32,
    pub mtu: u32,
    /// 0 if it is not known.
    pub speed_bps: u64,
}

/// What is set on one device.
#[derive(Default)]
pub(crate) struct LinuxQos {
    is: Mutex<Option<Installed>>,
}

#[derive(Clone)]
struct Installed {
    settings: QosSettings,
    all: HtbClass,
    queues: BTreeMap<u32, HtbClass>,
}

impl LinuxQos {
    /// Makes the device's queues what `settings` say; `None` for the kernel's default.
    pub fn set(&self, name: &str, target: Target, settings: Option<&QosSettings>) -> Result<(), NetdevError> {
        let mut is = self.is.lock();
        if is.as_ref().map(|i| &i.settings) == settings {
            return Ok(());
        }
        let io = |source: io::Error| NetdevError::Io { context: format!("{name}: traffic control"), source };
        let tc = Tc::new().map_err(io)?;
        let Some(settings) = settings else {
            if is.take().is_some_and(|was| was.settings.kind == "linux-htb") {
                tc.remove(target.ifindex).map_err(io)?;
            }
            return Ok(());
        };
        let all = all_class(&settings.options, target.speed_bps);
        let was = is.take().filter(|was| was.settings.kind == settings.kind);
        let mut now = Installed { settings: settings.clone(), all, queues: BTreeMap::new() };
        if settings.kind == "linux-htb" {
            match &was {
                Some(was) if was.all == all => {}
                Some(_) => tc.set_all(target.ifindex, &all, target.mtu).map_err(io)?,
                None => tc.install(target.ifindex, &all, target.mtu).map_err(io)?,
            }
            let old = was.map(|was| was.queues).unwrap_or_default();
            now.queues = set_queues(&tc, target, settings, &all, &old).map_err(io)?;
        }
        *is = Some(now);
        Ok(())
    }

    pub fn report(&self, target: Option<Target>) -> Option<QosReport> {
        let is = self.is.lock().clone()?;
        let bits = |rate: u64| (8 * rate).to_string();
        let mut report = QosReport { kind: is.settings.kind.clone(), ..QosReport::default() };
        if report.kind != "linux-htb" {
            return Some(report);
        }
        report.options.insert("max-rate".to_owned(), bits(is.all.max_rate));
        let counted: BTreeMap<u32, _> =
            target.and_then(|t| Tc::new().ok()?.queues(t.ifindex).ok()).into_iter().flatten().collect();
        for (id, class) in &is.queues {
            let mut options = StringMap::new();
            options.insert("min-rate".to_owned(), bits(class.min_rate));
            if class.min_rate != class.max_rate {
                options.insert("max-rate".to_owned(), bits(class.max_rate));
            }
            options.insert("burst".to_owned(), bits(class.burst));
            if class.priority != 0 {
                options.insert("priority".to_owned(), class.priority.to_string());
            }
            let stats = counted.get(id).copied().unwrap_or_default();
            let (tx_packets, tx_bytes, tx_errors) = (stats.packets, stats.bytes, stats.drops);
            report.queues.push(QueueReport { id: *id, options, tx_packets, tx_bytes, tx_errors });
        }
        Some(report)
    }
}

fn number(options: &StringMap, key: &str) -> u64 {
    options.get(key).and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn all_class(options: &StringMap, speed_bps: u64) -> HtbClass {
    let bits = match number(options, "max-rate") {
        0 if speed_bps == 0 => DEFAULT_BPS,
        0 => speed_bps,
        bits => bits,
    };
    HtbClass { min_rate: bits / 8, max_rate: bits / 8, burst: 0, priority: 0 }
}

fn queue_class(options: &StringMap, all: &HtbClass, mtu: u32) -> HtbClass {
    let mtu = u64::from(mtu);
    // Without a packet's worth of it, a class sends nothing even on an idle link.
    let min_rate = (number(options, "min-rate") / 8).max(mtu).min(all.max_rate);
    let max_rate = match number(options, "max-rate") / 8 {
        0 => all.max_rate,
        rate => rate.max(min_rate).min(all.max_rate),
    };
    HtbClass {
        min_rate,
        max_rate,
        burst: (number(options, "burst") / 8).max(mtu + FRAME_EXTRA),
        priority: u32::try_from(number(options, "priority")).unwrap_or(u32::MAX),
    }
}

/// Makes the device's classes what the settings say; the default queue is always there.
fn set_queues(
    tc: &Tc,
    target: Target,
    settings: &QosSettings,
    all: &HtbClass,
    old: &BTreeMap<u32, HtbClass>,
) -> io::Result<BTreeMap<u32, HtbClass>> {
    let none = StringMap::new();
    let default = (!settings.queues.contains_key(&0)).then_some((&0, &none));
    let wanted: BTreeMap<u32, HtbClass> = default
        .into_iter()
        .chain(&settings.queues)
        .filter(|(id, _)| **id < QUEUES)
        .map(|(id, options)| (*id, queue_class(options, all, target.mtu)))
        .collect();
    for id in old.keys().filter(|id| !wanted.contains_key(id)) {
        tc.remove_queue(target.ifindex, *id)?;
    }
    for (id, class) in &wanted {
        if old.get(id) != Some(class) {
            tc.set_queue(target.ifindex, *id, class, target.mtu)?;
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn rates_are_bounded_by_those_above_and_the_mtu_below() {
        let all = all_class(&options(&[("max-rate", "8000000")]), 0);
        assert_eq!((all.min_rate, all.max_rate), (1_000_000, 1_000_000));
        assert_eq!(all_class(&StringMap::new(), 0).max_rate, DEFAULT_BPS / 8);
        assert_eq!(all_class(&StringMap::new(), 80).max_rate, 10);
        let class = |pairs: &[(&str, &str)]| queue_class(&options(pairs), &all, 1500);
        assert_eq!(class(&[]), HtbClass { min_rate: 1500, max_rate: 1_000_000, burst: 1564, priority: 0 });
        assert_eq!(class(&[("max-rate", "80000000")]).max_rate, 1_000_000);
        assert_eq!(class(&[("max-rate", "8"), ("min-rate", "80000")]).max_rate, 10_000);
        assert_eq!(class(&[("burst", "80000"), ("priority", "3")]).burst, 10_000);
        assert_eq!(class(&[("min-rate", "nonsense")]).min_rate, 1500);
    }
}
