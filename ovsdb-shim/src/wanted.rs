//! What ovs-vswitchd reads and writes of the Open_vSwitch database (schema 8.3.1, and later additions).

use crate::schema::Schema;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The columns of one table that the daemon uses, by how it uses them.
#[derive(Clone, Copy, Debug)]
pub struct WantedTable {
    pub name: &'static str,
    /// Configuration: monitored, and a change wakes the daemon.
    pub config: &'static [&'static str],
    /// Written by the daemon, but also read back or left by its predecessor (ofport): monitored, so that
    /// an equal value is not written again; a change alone wakes nobody and comes with the next snapshot.
    pub quiet: &'static [&'static str],
    /// Written only. Not monitored, so that our own statistics do not come back to us every five seconds;
    /// the session remembers what it wrote, and writes it again after every reconnection and whenever the
    /// lock comes to us.
    pub write_only: &'static [&'static str],
}

/// The tables and columns of ovs-vswitchd. A server without one of them is not asked for it; a server's
/// other columns are never asked for.
///
/// `filter` (8.4), `limit` and `ct_zone_default_limit` (8.5) are of later schemas.
pub const VSWITCHD: &[WantedTable] = &[
    WantedTable {
        name: "Open_vSwitch",
        config: &["bridges", "datapaths", "manager_options", "ssl", "next_cfg", "other_config"],
        quiet: &["cur_cfg", "datapath_types", "iface_types", "dpdk_initialized", "dpdk_version"],
        write_only: &["statistics"],
    },
    WantedTable {
        name: "Bridge",
        config: &[
            "name",
            "datapath_type",
            "ports",
            "controller",
            "fail_mode",
            "protocols",
            "flow_tables",
            "mirrors",
            "netflow",
            "sflow",
            "ipfix",
            "stp_enable",
            "rstp_enable",
            "mcast_snooping_enable",
            "flood_vlans",
            "auto_attach",
            "other_config",
        ],
        quiet: &["datapath_id", "datapath_version"],
        write_only: &["status", "rstp_status"],
    },
    WantedTable {
        name: "Port",
        config: &[
            "name",
            "interfaces",
            "tag",
            "trunks",
            "cvlans",
            "vlan_mode",
            "qos",
            "mac",
            "bond_mode",
            "lacp",
            "bond_updelay",
            "bond_downdelay",
            "bond_fake_iface",
            "fake_bridge",
            "protected",
            "other_config",
        ],
        quiet: &["bond_active_slave"],
        write_only: &["status", "rstp_status", "rstp_statistics", "statistics"],
    },
    WantedTable {
        name: "Interface",
        config: &[
            "name",
            "type",
            "options",
            "mac",
            "ofport_request",
            "mtu_request",
            "ingress_policing_rate",
            "ingress_policing_burst",
            "ingress_policing_kpkts_rate",
            "ingress_policing_kpkts_burst",
            "bfd",
            "cfm_mpid",
            "lldp",
            "other_config",
        ],
        quiet: &["ofport", "error", "mac_in_use", "ifindex"],
        write_only: &[
            "admin_state",
            "link_state",
            "link_resets",
            "link_speed",
            "duplex",
            "mtu",
            "lacp_current",
            "statistics",
            "status",
            "bfd_status",
            "cfm_fault",
            "cfm_fault_status",
            "cfm_remote_mpids",
            "cfm_flap_count",
            "cfm_health",
            "cfm_remote_opstate",
        ],
    },
    config("Flow_Table", &["name", "flow_limit", "overflow_policy", "groups", "prefixes"]),
    config("QoS", &["type", "queues", "other_config"]),
    config("Queue", &["dscp", "other_config"]),
    WantedTable {
        name: "Mirror",
        config: &[
            "name",
            "select_all",
            "select_src_port",
            "select_dst_port",
            "select_vlan",
            "output_port",
            "output_vlan",
            "snaplen",
            "filter",
        ],
        quiet: &[],
        write_only: &["statistics"],
    },
    config("NetFlow", &["targets", "engine_type", "engine_id", "add_id_to_interface", "active_timeout"]),
    config("sFlow", &["targets", "sampling", "polling", "header", "agent"]),
    config(
        "IPFIX",
        &[
            "targets",
            "sampling",
            "obs_domain_id",
            "obs_point_id",
            "cache_active_timeout",
            "cache_max_flows",
            "other_config",
        ],
    ),
    config("Flow_Sample_Collector_Set", &["id", "bridge", "ipfix"]),
    WantedTable {
        name: "Controller",
        config: &[
            "type",
            "target",
            "max_backoff",
            "inactivity_probe",
            "connection_mode",
            "local_ip",
            "local_netmask",
            "local_gateway",
            "enable_async_messages",
            "controller_queue_size",
            "controller_rate_limit",
            "controller_burst_limit",
            "other_config",
        ],
        quiet: &[],
        write_only: &["is_connected", "role", "status"],
    },
    config("Manager", &["target", "connection_mode", "other_config"]),
    WantedTable {
        name: "Datapath",
        config: &["ct_zones", "ct_zone_default_limit"],
        quiet: &["datapath_version", "capabilities"],
        write_only: &[],
    },
    config("CT_Zone", &["timeout_policy", "limit"]),
    config("CT_Timeout_Policy", &["timeouts"]),
    config("SSL", &["private_key", "certificate", "ca_cert", "bootstrap_ca_cert"]),
    config("AutoAttach", &["system_name", "system_description", "mappings"]),
];

const fn config(name: &'static str, config: &'static [&'static str]) -> WantedTable {
    WantedTable { name, config, quiet: &[], write_only: &[] }
}

/// The monitored columns of each table that a server has; the flag says whether a change wakes the daemon.
pub(crate) type Monitored = BTreeMap<Arc<str>, BTreeMap<Arc<str>, bool>>;

/// Which of `wanted` the server with `schema` has.
pub(crate) fn monitored(wanted: &[WantedTable], schema: &Schema) -> Monitored {
    let mut tables = Monitored::new();
    for want in wanted {
        let Some((name, columns)) = schema.tables.get_key_value(want.name) else { continue };
        let wakes = want.config.iter().map(|c| (*c, true));
        let quiet = want.quiet.iter().map(|c| (*c, false));
        let present = wakes
            .chain(quiet)
            .filter_map(|(c, wakes)| Some((columns.get_key_value(c)?.0.clone(), wakes)))
            .collect();
        tables.insert(name.clone(), present);
    }
    tables
}

/// The wanted columns that the server does not have, as "Table.column", for the log.
pub fn missing(wanted: &[WantedTable], schema: &Schema) -> BTreeSet<String> {
    let columns = |t: &WantedTable| [t.config, t.quiet, t.write_only].concat();
    wanted
        .iter()
        .flat_map(|t| columns(t).into_iter().map(move |c| (t.name, c)))
        .filter(|(t, c)| schema.column(t, c).is_none())
        .map(|(t, c)| format!("{t}.{c}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_columns_exist_in_the_installed_schema() {
        let Ok(text) = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema") else {
            println!("skipped: no /usr/share/openvswitch/vswitch.ovsschema");
            return;
        };
        let schema = Schema::parse(&serde_json::from_str(&text).unwrap()).unwrap();
        let later = ["CT_Zone.limit", "Datapath.ct_zone_default_limit", "Mirror.filter"];
        let missing = missing(VSWITCHD, &schema);
        assert!(missing.iter().all(|c| later.contains(&c.as_str())), "{missing:?}");
    }
}
