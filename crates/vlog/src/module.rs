//! The log's modules: the names by which `-v` and `vlog/set` choose what is logged.

use crate::level::{Destination, Level};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Module names: those of Open vSwitch 3.1's `ovs-vswitchd`, so that options and scripts written for it work, and
/// `netdev_dpdk`, which only its DPDK build has. New code logs under the name that an operator would look for.
pub const NAMES: &[&str] = &[
    "backtrace",
    "bfd",
    "bond",
    "bridge",
    "bundle",
    "bundles",
    "cfm",
    "collectors",
    "command_line",
    "connmgr",
    "conntrack",
    "conntrack_tp",
    "coverage",
    "ct_dpif",
    "daemon",
    "daemon_unix",
    "dns_resolve",
    "dpdk",
    "dpif",
    "dpif_lookup_autovalidator",
    "dpif_lookup_generic",
    "dpif_mfex_extract_study",
    "dpif_netdev",
    "dpif_netdev_extract",
    "dpif_netdev_impl",
    "dpif_netdev_lookup",
    "dpif_netlink",
    "dpif_netlink_rtnl",
    "entropy",
    "fail_open",
    "fatal_signal",
    "flow",
    "hmap",
    "in_band",
    "ipf",
    "ipfix",
    "jsonrpc",
    "lacp",
    "lldp",
    "lldpd",
    "lldpd_structs",
    "lockfile",
    "memory",
    "meta_flow",
    "native_tnl",
    "netdev",
    "netdev_afxdp",
    "netdev_dpdk",
    "netdev_dummy",
    "netdev_linux",
    "netdev_offload",
    "netdev_offload_tc",
    "netdev_vport",
    "netflow",
    "netlink",
    "netlink_conntrack",
    "netlink_notifier",
    "netlink_socket",
    "nx_match",
    "odp_execute",
    "odp_execute_impl",
    "odp_util",
    "ofp_actions",
    "ofp_bundle",
    "ofp_connection",
    "ofp_errors",
    "ofp_flow",
    "ofp_group",
    "ofp_match",
    "ofp_meter",
    "ofp_monitor",
    "ofp_msgs",
    "ofp_packet",
    "ofp_port",
    "ofp_protocol",
    "ofp_queue",
    "ofp_table",
    "ofp_util",
    "ofproto",
    "ofproto_dpif",
    "ofproto_dpif_mirror",
    "ofproto_dpif_monitor",
    "ofproto_dpif_rid",
    "ofproto_dpif_upcall",
    "ofproto_dpif_xlate",
    "ofproto_xlate_cache",
    "ovs_lldp",
    "ovs_numa",
    "ovs_rcu",
    "ovs_replay",
    "ovs_router",
    "ovs_thread",
    "ovsdb_cs",
    "ovsdb_error",
    "ovsdb_idl",
    "ox_stat",
    "pcap",
    "pmd_perf",
    "poll_loop",
    "process",
    "rconn",
    "reconnect",
    "route_table",
    "rstp",
    "rstp_sm",
    "sflow",
    "sha1",
    "signals",
    "socket_util",
    "socket_util_unix",
    "stp",
    "stream",
    "stream_fd",
    "stream_replay",
    "stream_ssl",
    "stream_tcp",
    "stream_unix",
    "svec",
    "system_stats",
    "tc",
    "timeval",
    "tunnel",
    "unixctl",
    "userspace_tso",
    "util",
    "uuid",
    "vconn",
    "vconn_stream",
    "vlog",
    "vswitchd",
];

/// Speaks for events whose target is no module name.
const FALLBACK: &str = "vswitchd";

/// One module's levels and switches.
#[derive(Debug)]
pub(crate) struct Module {
    pub name: &'static str,
    levels: [AtomicU8; Destination::COUNT],
    rate_limited: AtomicBool,
}

impl Module {
    pub fn level(&self, destination: Destination) -> Level {
        Level::from_u8(self.levels[destination as usize].load(Ordering::Relaxed))
    }

    pub fn set_level(&self, destination: Destination, level: Level) {
        self.levels[destination as usize].store(level as u8, Ordering::Relaxed);
    }

    pub fn rate_limited(&self) -> bool {
        self.rate_limited.load(Ordering::Relaxed)
    }

    pub fn set_rate_limited(&self, yes: bool) {
        self.rate_limited.store(yes, Ordering::Relaxed);
    }

    /// The most verbose level of all destinations; without an open log file that one does not count.
    pub fn max_level(&self, file_open: bool) -> Level {
        let counts = |d: &Destination| file_open || *d != Destination::File;
        Destination::ALL.into_iter().filter(counts).map(|d| self.level(d)).max().unwrap_or(Level::Off)
    }
}

/// All modules, in order of name.
#[derive(Debug)]
pub(crate) struct Modules {
    list: Vec<Module>,
    by_name: HashMap<&'static str, usize>,
}

impl Modules {
    pub fn new() -> Self {
        let module = |&name| Module {
            name,
            levels: [const { AtomicU8::new(Level::Info as u8) }; Destination::COUNT],
            rate_limited: AtomicBool::new(true),
        };
        let list: Vec<Module> = NAMES.iter().map(module).collect();
        let by_name = list.iter().enumerate().map(|(i, m)| (m.name, i)).collect();
        Modules { list, by_name }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.list.iter()
    }

    /// The module that an operator names; case does not matter.
    pub fn named(&self, name: &str) -> Option<&Module> {
        self.list.iter().find(|m| m.name.eq_ignore_ascii_case(name))
    }

    /// The module that rules over an event's target.
    pub fn of_target(&self, target: &str) -> Option<&Module> {
        let index = self.by_name.get(target).or_else(|| self.by_name.get(FALLBACK))?;
        self.list.get(*index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_findable() {
        assert!(NAMES.is_sorted());
        let modules = Modules::new();
        assert_eq!(modules.named("DPIF").map(|m| m.name), Some("dpif"));
        assert!(modules.named("ofproto::xlate").is_none());
        assert_eq!(modules.of_target("ofproto::xlate").map(|m| m.name), Some(FALLBACK));
    }
}
