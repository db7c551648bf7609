//! `Open_vSwitch.other_config`: what concerns the daemon or a datapath as a whole.

use super::CtZones;
use super::smap;
use ovsdb_shim::Row;
use std::collections::BTreeMap;

const COLUMN: &str = "other_config";
/// Milliseconds below which statistics are not written more often.
const STATS_INTERVAL_MIN_MS: u32 = 5_000;
/// Milliseconds below which `max-revalidator` is not believed.
const MAX_REVALIDATOR_MIN_MS: u32 = 100;

/// Settings of the daemon. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalConfig {
    pub flow_limit: u32,
    pub max_idle_ms: u32,
    /// `None`: as it was before (the value in the database is too small).
    pub max_revalidator_ms: Option<u32>,
    pub min_revalidate_pps: u32,
    /// 0: as many as a flow key has.
    pub vlan_limit: u32,
    pub bundle_idle_timeout_s: u32,
    /// `None`: as many as fit the machine.
    pub n_handlers: Option<u32>,
    pub n_revalidators: Option<u32>,
    pub stats_interval_ms: u64,
    /// `enable-statistics`: write `Open_vSwitch.statistics`.
    pub system_stats: bool,
    /// Controllers stay unconnected and nothing is forwarded until this is gone.
    pub flow_restore_wait: bool,
    /// The whole column, for the datapath, which reads its own keys (`pmd-*`, `emc-insert-inv-prob`, ...).
    pub other_config: BTreeMap<String, String>,
    /// Zones of connection tracking by datapath type.
    pub ct_zones: BTreeMap<String, CtZones>,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        GlobalConfig {
            flow_limit: 200_000,
            max_idle_ms: 10_000,
            max_revalidator_ms: Some(500),
            min_revalidate_pps: 5,
            vlan_limit: 1,
            bundle_idle_timeout_s: 0,
            n_handlers: None,
            n_revalidators: None,
            stats_interval_ms: u64::from(STATS_INTERVAL_MIN_MS),
            system_stats: false,
            flow_restore_wait: false,
            other_config: BTreeMap::new(),
            ct_zones: BTreeMap::new(),
        }
    }
}

impl GlobalConfig {
    pub(super) fn read(row: &Row) -> Self {
        let default = GlobalConfig::default();
        let uint = |key, or| smap::uint(row, COLUMN, key, or);
        let threads = |key| u32::try_from(smap::int(row, COLUMN, key, 0)).ok().filter(|n| *n > 0);
        let max_revalidator_ms = uint("max-revalidator", 500);
        let stats_interval = smap::int(row, COLUMN, "stats-update-interval", 5_000);
        GlobalConfig {
            flow_limit: uint("flow-limit", default.flow_limit),
            max_idle_ms: uint("max-idle", default.max_idle_ms),
            max_revalidator_ms: Some(max_revalidator_ms).filter(|ms| *ms >= MAX_REVALIDATOR_MIN_MS),
            min_revalidate_pps: uint("min-revalidate-pps", default.min_revalidate_pps).max(1),
            vlan_limit: u32::try_from(smap::int(row, COLUMN, "vlan-limit", 1)).unwrap_or(0),
            bundle_idle_timeout_s: uint("bundle-idle-timeout", 0),
            n_handlers: threads("n-handler-threads"),
            n_revalidators: threads("n-revalidator-threads"),
            stats_interval_ms: u32::try_from(stats_interval).unwrap_or(0).max(STATS_INTERVAL_MIN_MS).into(),
            system_stats: smap::bool(row, COLUMN, "enable-statistics", false),
            flow_restore_wait: smap::bool(row, COLUMN, "flow-restore-wait", false),
            other_config: row.string_map(COLUMN),
            ct_zones: default.ct_zones,
        }
    }

    /// Handler and revalidator threads on a machine of `cpus` CPUs.
    pub fn threads(&self, cpus: u32) -> (u32, u32) {
        let all = cpus.max(2);
        let revalidators = self.n_revalidators.unwrap_or(match self.n_handlers {
            Some(handlers) if handlers < all => all - handlers,
            Some(_) => 1,
            None => all / 4 + 1,
        });
        let handlers = self.n_handlers.unwrap_or(all.saturating_sub(revalidators).max(1));
        (handlers, revalidators)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb_shim::Datum;
    use uuid::Uuid;

    fn read(pairs: &[(&str, &str)]) -> GlobalConfig {
        GlobalConfig::read(&Row::new(Uuid::nil(), [(COLUMN, Datum::map(pairs.iter().copied()))]))
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        assert_eq!(read(&[]), GlobalConfig::default());
    }

    #[test]
    fn limits_hold() {
        let g = read(&[
            ("max-revalidator", "99"),
            ("stats-update-interval", "10"),
            ("vlan-limit", "0"),
            ("min-revalidate-pps", "0"),
        ]);
        assert_eq!((g.max_revalidator_ms, g.stats_interval_ms), (None, 5_000));
        assert_eq!((g.vlan_limit, g.min_revalidate_pps), (0, 1));
        assert_eq!(read(&[("stats-update-interval", "10000")]).stats_interval_ms, 10_000);
    }

    #[test]
    fn threads_fit_the_machine() {
        assert_eq!([1, 2, 4, 8].map(|n| read(&[]).threads(n)), [(1, 1), (1, 1), (2, 2), (5, 3)]);
        assert_eq!(read(&[("n-handler-threads", "3")]).threads(8), (3, 5));
        assert_eq!(read(&[("n-revalidator-threads", "2"), ("n-handler-threads", "-4")]).threads(8), (6, 2));
    }
}
