//! The CT_Zone and CT_Timeout_Policy tables.

use ovsdb_shim::{Row, Snapshot};
use std::collections::BTreeMap;

/// Timeouts in seconds by name, of each zone of a datapath.
pub type CtZones = BTreeMap<u16, BTreeMap<String, u32>>;

/// The zones of each datapath type.
pub(super) fn read_all(snapshot: &Snapshot, root: &Row) -> BTreeMap<String, CtZones> {
    let row = |table: &str, uuid| snapshot.row(table, uuid);
    let zones_of = |datapath: &Row| -> CtZones {
        let zones = datapath.int_uuid_map("ct_zones").filter_map(|(zone, uuid)| {
            let policy = row("CT_Zone", uuid)?.opt_uuid("timeout_policy");
            let policy = policy.and_then(|p| row("CT_Timeout_Policy", p));
            Some((u16::try_from(zone).ok()?, policy.map(|p| timeouts(p)).unwrap_or_default()))
        });
        zones.collect()
    };
    let datapaths = root.string_uuid_map("datapaths");
    datapaths
        .filter_map(|(kind, uuid)| Some((kind.to_owned(), zones_of(row("Datapath", uuid)?))))
        .filter(|(_, zones)| !zones.is_empty())
        .collect()
}

fn timeouts(policy: &Row) -> BTreeMap<String, u32> {
    let pairs = policy.string_int_map("timeouts");
    pairs.filter_map(|(name, n)| Some((name.to_owned(), u32::try_from(n).ok()?))).collect()
}
