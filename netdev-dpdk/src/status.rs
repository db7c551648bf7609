//! What a port says of itself, in the words of Open vSwitch.

use crate::ffi::eal;
use crate::ffi::port::{Counters, Link, Port};
use crate::running::{Running, Shape, SoftCounters};
use flow::EthAddr;
use netdev::{DeviceStats, StringMap};
use std::sync::atomic::Ordering;

/// ifType of RFC 3635: ethernetCsmacd.
const IF_TYPE: u32 = 6;
/// Above this nothing is known ("unknown" is the largest number).
const SPEED_MAX_MBPS: u32 = u32::MAX - 1;
/// Common counters that DPDK does not give.
const ABSENT: [&str; 5] = ["rx_frame_err", "rx_over_err", "rx_crc_err", "collisions", MULTICAST];
/// Given by drivers that have it among their extended statistics.
const MULTICAST: &str = "rx_multicast_packets";

/// `ofp_port_features` bits and their speeds in Mbps: full, half duplex.
const FULL: [(u32, u32); 6] =
    [(10, 1 << 1), (100, 1 << 3), (1_000, 1 << 5), (10_000, 1 << 6), (40_000, 1 << 7), (100_000, 1 << 8)];
const HALF: [(u32, u32); 3] = [(10, 1), (100, 1 << 2), (1_000, 1 << 4)];
const OTHER: u32 = 1 << 10;
const AUTONEG: u32 = 1 << 13;

const SPEED_NAMES: [(u32, &str); 12] = [
    (10, "10Mbps"),
    (100, "100Mbps"),
    (1_000, "1Gbps"),
    (2_500, "2.5Gbps"),
    (5_000, "5Gbps"),
    (10_000, "10Gbps"),
    (20_000, "20Gbps"),
    (25_000, "25Gbps"),
    (40_000, "40Gbps"),
    (50_000, "50Gbps"),
    (56_000, "56Gbps"),
    (100_000, "100Gbps"),
];

pub fn speed_bps(mbps: u32) -> u64 {
    if mbps > SPEED_MAX_MBPS { 0 } else { u64::from(mbps) * 1_000_000 }
}

/// The current features of a link in OpenFlow's terms.
pub fn features(link: Link) -> u32 {
    let of = |table: &[(u32, u32)]| table.iter().find(|(s, _)| *s == link.speed_mbps).map(|(_, bit)| *bit);
    let speed = if link.full_duplex { of(&FULL).unwrap_or(OTHER) } else { of(&HALF).unwrap_or(0) };
    speed | if link.autoneg { AUTONEG } else { 0 }
}

/// A positive number of 24 bits (RFC 2863) that stays the same for a name.
pub fn ifindex(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    hash % 0xff_fffe + 1
}

/// What `dpctl/show` prints of a port.
pub fn options(wanted: &Shape, running: Option<&Running>, vf_mac: Option<EthAddr>) -> StringMap {
    let mut out = StringMap::new();
    let mut add = |key: &str, value: String| out.insert(key.to_owned(), value);
    let now = running.map(|r| r.shape);
    add("requested_rx_queues", wanted.n_rxq.to_string());
    add("configured_rx_queues", running.map_or(0, |r| r.n_rxq()).to_string());
    add("requested_tx_queues", wanted.n_txq.to_string());
    add("configured_tx_queues", running.map_or(0, |r| r.n_txq()).to_string());
    add("mtu", now.map_or(0, |s| s.mtu).to_string());
    add("requested_rxq_descriptors", wanted.rxq_size.to_string());
    add("configured_rxq_descriptors", now.map_or(0, |s| s.rxq_size).to_string());
    add("requested_txq_descriptors", wanted.txq_size.to_string());
    add("configured_txq_descriptors", now.map_or(0, |s| s.txq_size).to_string());
    add("rx_csum_offload", running.is_some_and(|r| r.rx_checksum).to_string());
    add("tx_tso_offload", "false".to_owned());
    add("lsc_interrupt_mode", now.is_some_and(|s| s.lsc_interrupt).to_string());
    if let Some(mac) = vf_mac {
        add("dpdk-vf-mac", mac.to_string());
    }
    out
}

/// `Interface.status`.
pub fn status(port: Port, link: Link, max_len: usize, mac: EthAddr) -> StringMap {
    let Some(info) = port.info() else { return StringMap::new() };
    let speed = SPEED_NAMES.iter().find(|(s, _)| *s == link.speed_mbps).map_or("Not Defined", |(_, n)| n);
    let details = info.bus_info.as_ref().map(|i| format!(", {i}")).unwrap_or_default();
    let pairs = [
        ("port_no", port.number().to_string()),
        ("numa_id", port.socket_number().to_string()),
        ("driver_name", info.driver.clone()),
        ("min_rx_bufsize", info.min_rx_bufsize.to_string()),
        ("max_rx_pktlen", max_len.to_string()),
        ("max_rx_queues", info.max_rx_queues.to_string()),
        ("max_tx_queues", info.max_tx_queues.to_string()),
        ("max_mac_addrs", info.max_mac_addrs.to_string()),
        ("max_hash_mac_addrs", info.max_hash_mac_addrs.to_string()),
        ("max_vfs", info.max_vfs.to_string()),
        ("max_vmdq_pools", info.max_vmdq_pools.to_string()),
        ("if_type", IF_TYPE.to_string()),
        ("if_descr", format!("{} {}", eal::version(), info.driver)),
        ("bus_info", format!("bus_name={}{details}", info.bus)),
        ("link_speed", speed.to_owned()),
    ];
    let mut out: StringMap = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    if info.is_representor {
        out.insert("dpdk-vf-mac".to_owned(), mac.to_string());
    }
    out
}

/// The counters that every driver keeps, and our own.
pub fn stats(c: Counters, soft: &SoftCounters) -> DeviceStats {
    let [failed, too_big, policed, shaped] =
        [&soft.tx_failed, &soft.tx_too_big, &soft.rx_policed, &soft.tx_shaped]
            .map(|n| n.load(Ordering::Relaxed));
    let common = dpif::PortStats {
        rx_packets: c.rx_packets,
        tx_packets: c.tx_packets,
        rx_bytes: c.rx_bytes,
        tx_bytes: c.tx_bytes,
        rx_errors: c.rx_errors,
        tx_errors: c.tx_errors,
        rx_dropped: policed + c.no_buffer + c.missed,
        tx_dropped: failed + too_big + shaped,
        rx_missed_errors: c.missed,
        ..dpif::PortStats::default()
    };
    let custom = [
        ("ovs_tx_failure_drops", failed),
        ("ovs_tx_mtu_exceeded_drops", too_big),
        ("ovs_tx_qos_drops", shaped),
        ("ovs_rx_qos_drops", policed),
        ("ovs_tx_invalid_hwol_drops", 0),
    ];
    DeviceStats {
        common,
        custom: custom.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        absent: ABSENT.to_vec(),
    }
}

/// Extended statistics that Open vSwitch has names of its own for, by DPDK's names.
const RENAMED: [(&str, &str); 21] = [
    ("tx_multicast_packets", "tx_multicast_packets"),
    ("rx_broadcast_packets", "rx_broadcast_packets"),
    ("tx_broadcast_packets", "tx_broadcast_packets"),
    ("rx_undersized_errors", "rx_undersized_errors"),
    ("rx_oversize_errors", "rx_oversize_errors"),
    ("rx_fragmented_errors", "rx_fragmented_errors"),
    ("rx_jabber_errors", "rx_jabber_errors"),
    ("rx_size_64_packets", "rx_1_to_64_packets"),
    ("rx_size_65_to_127_packets", "rx_65_to_127_packets"),
    ("rx_size_128_to_255_packets", "rx_128_to_255_packets"),
    ("rx_size_256_to_511_packets", "rx_256_to_511_packets"),
    ("rx_size_512_to_1023_packets", "rx_512_to_1023_packets"),
    ("rx_size_1024_to_1522_packets", "rx_1024_to_1522_packets"),
    ("rx_size_1523_to_max_packets", "rx_1523_to_max_packets"),
    ("tx_size_64_packets", "tx_1_to_64_packets"),
    ("tx_size_65_to_127_packets", "tx_65_to_127_packets"),
    ("tx_size_128_to_255_packets", "tx_128_to_255_packets"),
    ("tx_size_256_to_511_packets", "tx_256_to_511_packets"),
    ("tx_size_512_to_1023_packets", "tx_512_to_1023_packets"),
    ("tx_size_1024_to_1522_packets", "tx_1024_to_1522_packets"),
    ("tx_size_1523_to_max_packets", "tx_1523_to_max_packets"),
];

/// Takes one extended statistic in, if it is one that is shown.
pub fn add_extended(stats: &mut DeviceStats, name: &str, value: u64) {
    if name == MULTICAST {
        stats.common.multicast = value;
        stats.absent.retain(|n| *n != MULTICAST);
    }
    if let Some((_, ours)) = RENAMED.iter().find(|(dpdk, _)| *dpdk == name) {
        stats.custom.insert((*ours).to_owned(), value);
    }
    if is_custom(name) {
        stats.custom.insert(name.to_owned(), value);
    }
}

/// Whether an extended statistic is shown under DPDK's own name: those of queues, errors and drops.
pub fn is_custom(name: &str) -> bool {
    let of_queue = || {
        let rest = name.strip_prefix("rx_q").or_else(|| name.strip_prefix("tx_q"))?;
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.starts_with("_packets") || rest.starts_with("_bytes")).then_some(())
    };
    name.ends_with("_errors")
        || name.ends_with("_dropped")
        || name.contains("_management_")
        || of_queue().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_extended_statistics() {
        for name in ["rx_q0_packets", "tx_q12_bytes", "rx_crc_errors", "rx_management_packets", "tx_dropped"]
        {
            assert!(is_custom(name), "{name}");
        }
        for name in ["rx_good_packets", "rx_q0packets", "tx_q0_errs", "rx_errors_of"] {
            assert!(!is_custom(name), "{name}");
        }
        let mut stats =
            stats(Counters { missed: 3, no_buffer: 4, ..Counters::default() }, &SoftCounters::default());
        add_extended(&mut stats, "rx_multicast_packets", 5);
        add_extended(&mut stats, "rx_size_64_packets", 6);
        let all = stats.statistics();
        assert_eq!((all["rx_multicast_packets"], all["rx_1_to_64_packets"], all["rx_dropped"]), (5, 6, 7));
        assert!(!all.contains_key("rx_crc_err") && all["rx_missed_errors"] == 3);
    }

    #[test]
    fn links_in_openflow_terms() {
        let link = |speed_mbps, full_duplex, autoneg| {
            features(Link { speed_mbps, is_up: true, full_duplex, autoneg })
        };
        assert_eq!(
            [link(10_000, true, false), link(25_000, true, true), link(10, false, false)],
            [1 << 6, OTHER | AUTONEG, 1]
        );
        assert_eq!(speed_bps(u32::MAX), 0);
    }
}
