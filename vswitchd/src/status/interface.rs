//! Columns of the Interface table.

use super::optional;
use netdev::LinkState;
use ovsdb_shim::{Datum, StatusBatch};
use std::collections::BTreeMap;
use uuid::Uuid;

const TABLE: &str = "Interface";

/// Columns that are empty sets while there is no device; maps are in [`MAPS`].
const SETS: [&str; 12] = [
    "admin_state",
    "duplex",
    "link_speed",
    "link_state",
    "link_resets",
    "mac_in_use",
    "mtu",
    "ifindex",
    "cfm_fault",
    "cfm_fault_status",
    "cfm_remote_mpids",
    "lacp_current",
];
const MAPS: [&str; 3] = ["status", "statistics", "bfd_status"];

/// The interface is a port with this number.
pub fn added(batch: &mut StatusBatch, row: Uuid, ofport: u16) {
    batch.set(TABLE, row, "ofport", i64::from(ofport));
    batch.set(TABLE, row, "error", Datum::empty_set());
}

/// The interface could not be added; `error` says why, if there is something to say.
pub fn failed(batch: &mut StatusBatch, row: Uuid, error: &str) {
    batch.set(TABLE, row, "ofport", -1i64);
    batch.set(TABLE, row, "error", optional(Some(error).filter(|e| !e.is_empty())));
    for column in SETS {
        batch.set(TABLE, row, column, Datum::empty_set());
    }
    for column in MAPS {
        batch.set(TABLE, row, column, Datum::empty_map());
    }
}

/// What the device says of itself.
pub fn link(batch: &mut StatusBatch, row: Uuid, link: &LinkState, status: &BTreeMap<String, String>) {
    let up = |is: bool| if is { "up" } else { "down" };
    // Speed and duplex are known together or not at all.
    let speed = Some(link.speed_bps).filter(|bps| *bps != 0).and_then(|bps| i64::try_from(bps).ok());
    let duplex = if link.full_duplex.unwrap_or(true) { "full" } else { "half" };
    batch.set(TABLE, row, "admin_state", up(link.admin_up));
    batch.set(TABLE, row, "link_state", up(link.carrier));
    batch.set(TABLE, row, "link_resets", i64::try_from(link.carrier_resets).unwrap_or(i64::MAX));
    batch.set(TABLE, row, "link_speed", optional(speed));
    batch.set(TABLE, row, "duplex", optional(speed.map(|_| duplex)));
    batch.set(TABLE, row, "mtu", optional(Some(i64::from(link.mtu)).filter(|mtu| *mtu != 0)));
    batch.set(
        TABLE,
        row,
        "mac_in_use",
        optional(Some(link.mac).filter(|m| !m.is_zero()).map(|m| m.to_string())),
    );
    batch.set(TABLE, row, "ifindex", i64::from(link.ifindex.unwrap_or(0)));
    batch.set(TABLE, row, "status", map(status));
}

/// The state of the interface's BFD session; nothing if it has none.
pub fn bfd(batch: &mut StatusBatch, row: Uuid, status: &[(&'static str, String)]) {
    batch.set(TABLE, row, "bfd_status", Datum::map(status.iter().map(|(k, v)| (*k, v.as_str()))));
}

/// The device's counters.
pub fn statistics(batch: &mut StatusBatch, row: Uuid, counters: &BTreeMap<String, u64>) {
    let counters = counters.iter().map(|(name, n)| (name.as_str(), i64::try_from(*n).unwrap_or(i64::MAX)));
    batch.set(TABLE, row, "statistics", Datum::map(counters));
}

fn map(pairs: &BTreeMap<String, String>) -> Datum {
    Datum::map(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(row: Uuid, name: &str, datum: impl Into<Datum>) -> StatusBatch {
        let mut batch = StatusBatch::new();
        batch.set(TABLE, row, name, datum);
        batch
    }

    #[test]
    fn link_facts_are_columns() {
        let row = Uuid::from_u128(1);
        let mut state = LinkState { admin_up: true, mtu: 1500, ifindex: Some(6), ..LinkState::default() };
        let text = |state: &LinkState| {
            let mut batch = StatusBatch::new();
            link(&mut batch, row, state, &BTreeMap::new());
            format!("{batch:?}")
        };
        let has = |state: &LinkState, name: &str, datum: Datum| {
            // The debug form of a batch of one value, without what surrounds the value.
            let one = format!("{:?}", column(row, name, datum));
            let inner = &one[one.find('(').unwrap()..one.rfind(']').unwrap()];
            assert!(text(state).contains(inner), "{name}: {inner} not in {}", text(state));
        };
        has(&state, "admin_state", "up".into());
        has(&state, "link_state", "down".into());
        has(&state, "duplex", Datum::empty_set());
        has(&state, "mtu", 1500i64.into());
        has(&state, "ifindex", 6i64.into());
        state.speed_bps = 10_000_000_000;
        state.mtu = 0;
        has(&state, "link_speed", 10_000_000_000i64.into());
        has(&state, "duplex", "full".into());
        has(&state, "mtu", Datum::empty_set());
    }
}
