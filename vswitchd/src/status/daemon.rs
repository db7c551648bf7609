//! Columns of the Open_vSwitch table.

use ovsdb_shim::{Datum, StatusBatch};
use std::collections::BTreeMap;
use uuid::Uuid;

const TABLE: &str = "Open_vSwitch";

/// The configuration of this number is in force.
pub fn configured(batch: &mut StatusBatch, row: Uuid, next_cfg: i64) {
    batch.set(TABLE, row, "cur_cfg", next_cfg);
}

/// What this daemon has.
pub fn types(batch: &mut StatusBatch, row: Uuid, datapath_types: &[String], iface_types: &[String]) {
    batch.set(TABLE, row, "datapath_types", Datum::set(datapath_types.iter().map(String::as_str)));
    batch.set(TABLE, row, "iface_types", Datum::set(iface_types.iter().map(String::as_str)));
}

/// Whether DPDK is up, and which it is.
pub fn dpdk(batch: &mut StatusBatch, row: Uuid, is_up: bool, version: &str) {
    batch.set(TABLE, row, "dpdk_initialized", is_up);
    batch.set(TABLE, row, "dpdk_version", version);
}

/// [`super::system`]'s statistics; empty while they are off.
pub fn statistics(batch: &mut StatusBatch, row: Uuid, statistics: &BTreeMap<String, String>) {
    let pairs = statistics.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    batch.set(TABLE, row, "statistics", Datum::map(pairs));
}
