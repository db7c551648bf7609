//! `Interface.bfd` (ovs-vswitchd.conf.db(5)).

use flow::EthAddr;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const MULTIPLIER: u8 = 3;
const IP_SRC: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const IP_DST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 0);

/// What the database says of a session. Intervals in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub min_tx_ms: u64,
    pub min_rx_ms: u64,
    /// 0: no decay.
    pub decay_min_rx_ms: u64,
    pub multiplier: u8,
    pub forwarding_if_rx: bool,
    pub cpath_down: bool,
    /// Packets on a tunnel belong to the session only with key 0.
    pub check_tnl_key: bool,
    /// Marks its packets in a tunnel.
    pub oam: bool,
    pub local_src_mac: Option<EthAddr>,
    pub local_dst_mac: Option<EthAddr>,
    pub remote_dst_mac: Option<EthAddr>,
    pub ip_src: Ipv4Addr,
    pub ip_dst: Ipv4Addr,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            min_tx_ms: 100,
            min_rx_ms: 1_000,
            decay_min_rx_ms: 0,
            multiplier: MULTIPLIER,
            forwarding_if_rx: false,
            cpath_down: false,
            check_tnl_key: false,
            oam: false,
            local_src_mac: None,
            local_dst_mac: None,
            remote_dst_mac: None,
            ip_src: IP_SRC,
            ip_dst: IP_DST,
        }
    }
}

impl Settings {
    /// `None` if there is to be no session. What does not parse is the default.
    pub fn read(interface: &str, config: &BTreeMap<String, String>) -> Option<Self> {
        let get = |key: &str| config.get(key).map(String::as_str);
        let is_set = |key: &str| get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if !is_set("enable") {
            return None;
        }
        let ms = |key: &str, default: u64| match get(key).map(str::parse::<i64>) {
            Some(Ok(n)) => u64::try_from(n.clamp(1, i64::from(i32::MAX))).unwrap_or(default),
            _ => default,
        };
        let mac = |key: &str| get(key).and_then(|v| v.parse::<EthAddr>().ok()).filter(|m| !m.is_zero());
        let ip = |key: &str, default| match get(key).filter(|v| !v.is_empty()) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| {
                tracing::error!(target: "bfd", "\"{text}\" is not a valid IP address");
                default
            }),
        };
        let min_rx_ms = ms("min_rx", 1_000);
        let decay = get("decay_min_rx").and_then(|v| v.parse::<i64>().ok()).unwrap_or(0).max(0) as u64;
        if decay > 0 && decay < min_rx_ms {
            tracing::warn!(target: "bfd", "{interface}: decay_min_rx cannot be less than {min_rx_ms} ms");
        }
        Some(Settings {
            min_tx_ms: ms("min_tx", 100),
            min_rx_ms,
            decay_min_rx_ms: if decay < min_rx_ms { 0 } else { decay },
            multiplier: get("mult").and_then(|v| v.parse().ok()).filter(|n| *n > 0).unwrap_or(MULTIPLIER),
            forwarding_if_rx: is_set("forwarding_if_rx"),
            cpath_down: is_set("cpath_down"),
            check_tnl_key: is_set("check_tnl_key"),
            oam: is_set("oam"),
            local_src_mac: mac("bfd_local_src_mac"),
            local_dst_mac: mac("bfd_local_dst_mac"),
            remote_dst_mac: mac("bfd_remote_dst_mac"),
            ip_src: ip("bfd_src_ip", IP_SRC),
            ip_dst: ip("bfd_dst_ip", IP_DST),
        })
    }

    /// Whether packets to this address are for the session; everybody's default address says nothing.
    pub fn is_for(&self, ip_dst: Ipv4Addr) -> bool {
        self.ip_src == IP_SRC || self.ip_src == ip_dst
    }
}
