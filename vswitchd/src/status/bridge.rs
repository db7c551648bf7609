//! Columns of the Bridge, Port and Datapath tables.

use crate::bridge::ActualBridge;
use crate::config::BridgeConfig;
use ovsdb_shim::{Datum, StatusBatch};
use uuid::Uuid;

/// `datapath_version` of a datapath inside the daemon.
pub const DATAPATH_VERSION: &str = "<built-in>";

/// A bridge that exists.
pub fn bridge(batch: &mut StatusBatch, config: &BridgeConfig, is: &ActualBridge) {
    if let Some(id) = is.datapath_id {
        batch.set("Bridge", config.row, "datapath_id", format!("{id:016x}"));
    }
    batch.set("Bridge", config.row, "datapath_version", DATAPATH_VERSION);
    // Spanning tree says something here when it is on.
    batch.set("Bridge", config.row, "status", Datum::empty_map());
    for row in config.ports.values().filter_map(|port| port.row) {
        batch.set("Port", row, "status", Datum::empty_map());
        batch.set("Port", row, "statistics", Datum::empty_map());
    }
}

/// What a mirror has copied.
pub fn mirror(batch: &mut StatusBatch, row: Uuid, packets: u64, bytes: u64) {
    let counters = [("tx_bytes", bytes), ("tx_packets", packets)];
    let counters = counters.map(|(name, n)| (name, i64::try_from(n).unwrap_or(i64::MAX)));
    batch.set("Mirror", row, "statistics", Datum::map(counters));
}

/// What a datapath can do. OVN decides by these what flows it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub max_vlan_headers: usize,
    pub max_mpls_depth: usize,
    /// `OVS_HASH_ALG_*`: the highest that `dp_hash` knows.
    pub max_hash_alg: u32,
    pub recirc: bool,
    /// Connection tracking: `ct_state`, `ct_zone`, `ct_mark`, `ct_label`, `ct_state_nat`, original tuples,
    /// event mask, clear, timeouts, SNAT of zero, flush.
    pub conntrack: bool,
    pub nd_ext: bool,
    pub masked_set_action: bool,
    pub tnl_push_pop: bool,
    pub ufid: bool,
    pub trunc: bool,
    pub clone: bool,
    pub sample_nesting: bool,
    pub check_pkt_len: bool,
    pub explicit_drop_action: bool,
    pub lb_output_action: bool,
    pub add_mpls: bool,
}

impl Capabilities {
    /// The names and values of `Datapath.capabilities`.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let conntrack = [
            "ct_state",
            "ct_zone",
            "ct_mark",
            "ct_label",
            "ct_state_nat",
            "ct_orig_tuple",
            "ct_orig_tuple6",
            "ct_eventmask",
            "ct_clear",
            "ct_timeout",
            "ct_zero_snat",
            "ct_flush",
        ];
        let flags = [
            ("recirc", self.recirc),
            ("nd_ext", self.nd_ext),
            ("masked_set_action", self.masked_set_action),
            ("tnl_push_pop", self.tnl_push_pop),
            ("ufid", self.ufid),
            ("trunc", self.trunc),
            ("clone", self.clone),
            ("sample_nesting", self.sample_nesting),
            ("check_pkt_len", self.check_pkt_len),
            ("explicit_drop_action", self.explicit_drop_action),
            ("lb_output_action", self.lb_output_action),
            ("add_mpls", self.add_mpls),
        ];
        let numbers = [
            ("max_vlan_headers", self.max_vlan_headers.to_string()),
            ("max_mpls_depth", self.max_mpls_depth.to_string()),
            ("max_hash_alg", self.max_hash_alg.to_string()),
        ];
        let conntrack = conntrack.map(|name| (name, self.conntrack.to_string()));
        let flags = flags.map(|(name, is)| (name, is.to_string()));
        numbers.into_iter().chain(conntrack).chain(flags).collect()
    }
}

/// A row of the Datapath table whose datapath exists.
pub fn datapath(batch: &mut StatusBatch, row: Uuid, capabilities: &Capabilities) {
    let pairs = capabilities.pairs();
    batch.set("Datapath", row, "capabilities", Datum::map(pairs.iter().map(|(k, v)| (*k, v.as_str()))));
    batch.set("Datapath", row, "datapath_version", DATAPATH_VERSION);
}
