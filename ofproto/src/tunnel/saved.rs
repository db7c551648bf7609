//! What of the underlay outlives the process: routes given by hand, and neighbours.

use super::router::{RouteEntry, RouteSource};
use super::underlay::Underlay;
use flow::EthAddr;
use saved_state::Extensible;
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Version 1. Addresses are IPv6, IPv4 ones mapped; prefix lengths out of 128; times in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SavedUnderlay {
    pub routes: Vec<Extensible<SavedRoute>>,
    pub neighbours: Vec<Extensible<SavedNeighbour>>,
    pub aging_s: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedRoute {
    pub dst: [u8; 16],
    pub prefix_len: u8,
    pub mark: u32,
    pub device: String,
    pub gateway: [u8; 16],
    pub src: [u8; 16],
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedNeighbour {
    pub bridge: String,
    pub ip: [u8; 16],
    pub mac: [u8; 6],
}

impl Underlay {
    pub fn save(&self, now_ms: u64) -> SavedUnderlay {
        let user = self.routes().into_iter().filter(|r| r.source == RouteSource::User);
        let route = |r: RouteEntry| SavedRoute {
            dst: r.dst.octets(),
            prefix_len: r.prefix_len,
            mark: r.mark,
            device: r.device,
            gateway: r.gateway.octets(),
            src: r.src.octets(),
        };
        self.with_neighbours(|n| SavedUnderlay {
            routes: user.map(route).map(Extensible).collect(),
            neighbours: n
                .iter()
                .filter(|(_, _, e)| e.expires_ms > now_ms)
                .map(|(bridge, ip, e)| SavedNeighbour {
                    bridge: bridge.to_string(),
                    ip: ip.octets(),
                    mac: e.mac.0,
                })
                .map(Extensible)
                .collect(),
            aging_s: n.aging_s() as u32,
        })
    }

    /// Takes back what another process saved. Neighbours begin to age anew.
    pub fn restore(&self, saved: &SavedUnderlay, now_ms: u64) {
        for Extensible(r) in &saved.routes {
            self.restore_route(RouteEntry {
                dst: Ipv6Addr::from(r.dst),
                prefix_len: r.prefix_len.min(128),
                mark: r.mark,
                device: r.device.clone(),
                gateway: Ipv6Addr::from(r.gateway),
                src: Ipv6Addr::from(r.src),
                source: RouteSource::User,
            });
        }
        if saved.aging_s != 0 {
            self.with_neighbours(|n| n.set_aging(saved.aging_s, now_ms));
        }
        for Extensible(n) in &saved.neighbours {
            let bridge: Arc<str> = n.bridge.as_str().into();
            self.set_neighbour(&bridge, Ipv6Addr::from(n.ip), EthAddr(n.mac), now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::router::Device;
    use super::*;
    use dpif::tunnel::mapped;
    use std::collections::BTreeMap;

    #[test]
    fn routes_and_neighbours_come_back() {
        let old = Underlay::default();
        let br0 = Device { ips: vec![(mapped(0x0a00_0001), 120)], ..Device::default() };
        old.set_system(BTreeMap::from([("br0".to_owned(), br0)]), None);
        let route = RouteEntry {
            dst: mapped(0x0a00_0000),
            prefix_len: 120,
            mark: 3,
            device: "br0".into(),
            gateway: Ipv6Addr::UNSPECIFIED,
            src: Ipv6Addr::UNSPECIFIED,
            source: RouteSource::User,
        };
        assert!(old.add_route(route));
        let bridge: Arc<str> = "br0".into();
        old.set_neighbour(&bridge, mapped(0x0a00_0002), EthAddr::from_u64(9), 5);
        let new = Underlay::default();
        new.restore(&old.save(6), 1000);
        assert_eq!(new.routes(), old.routes());
        assert_eq!(new.neighbour(&bridge, mapped(0x0a00_0002), 1000), Some(EthAddr::from_u64(9)));
        assert!(new.generation() > 0);
    }
}
