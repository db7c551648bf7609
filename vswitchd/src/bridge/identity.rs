//! Which Ethernet address a bridge has, and from it its datapath ID (ovs-vswitchd.conf.db(5), `hwaddr`).

use crate::config::{BridgeConfig, PortConfig};
use flow::EthAddr;

/// Addresses of protocols, never of a device: single ones, and the last octet free in `..=` ranges.
const RESERVED: [(u64, u64); 9] = [
    // IEEE 802.1D and 802.1Q.
    (0x0180_c200_0000, 0x0180_c200_000f),
    // Extreme: EDP, EAPS.
    (0x00e0_2b00_0000, 0x00e0_2b00_0000),
    (0x00e0_2b00_0004, 0x00e0_2b00_0004),
    (0x00e0_2b00_0006, 0x00e0_2b00_0006),
    // Cisco: ISL; PAgP, UDLD, CDP, DTP, VTP, PVST+; STP Uplink Fast; CFM.
    (0x0100_0c00_0000, 0x0100_0c00_0000),
    (0x0100_0ccc_cccc, 0x0100_0ccc_cccc),
    (0x0100_0ccc_cccd, 0x0100_0ccc_cccd),
    (0x0100_0ccd_cdcd, 0x0100_0ccd_cdcd),
    (0x0100_0ccc_ccc0, 0x0100_0ccc_ccc7),
];

const LOCAL_BIT: u8 = 2;

/// Whether a bridge may take the address from one of its ports: a global unicast address of a device.
fn is_candidate(mac: EthAddr) -> bool {
    let reserved = RESERVED.iter().any(|(first, last)| (*first..=*last).contains(&mac.to_u64()));
    !mac.is_multicast() && !mac.is_zero() && mac.0[0] & LOCAL_BIT == 0 && !reserved
}

/// The address of a bridge's local port. `mac_of` tells the addresses of its interfaces.
pub fn bridge_mac(bridge: &BridgeConfig, mac_of: impl Fn(&str) -> Option<EthAddr>) -> EthAddr {
    bridge.identity.hwaddr.unwrap_or_else(|| lowest(bridge, None, mac_of))
}

/// The address of a fake bridge: taken from the ports of its VLAN only.
pub fn fake_bridge_mac(
    bridge: &BridgeConfig,
    fake: &PortConfig,
    mac_of: impl Fn(&str) -> Option<EthAddr>,
) -> EthAddr {
    lowest(bridge, fake.tag, mac_of)
}

/// The lowest address among the ports, of those with the VLAN `tag` if there is one.
fn lowest(bridge: &BridgeConfig, tag: Option<u16>, mac_of: impl Fn(&str) -> Option<EthAddr>) -> EthAddr {
    let ports = bridge.ports.values().filter(|port| !bridge.identity.mirror_outputs.contains(&port.name));
    let macs = ports.filter_map(|port| match port.mac {
        Some(mac) => Some(mac),
        None => {
            // Of a bond, the first member by name, as the kernel's bonding has it.
            let first = port.interfaces.iter().find(|name| mac_of(name).is_some())?;
            let counts = *first != bridge.name && (tag.is_none() || port.tag == tag);
            counts.then(|| mac_of(first)).flatten()
        }
    });
    macs.filter(|mac| is_candidate(*mac))
        .min_by_key(|mac| mac.to_u64())
        .unwrap_or(bridge.identity.default_mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Db;
    use ovsdb_shim::Datum;

    fn mac(s: &str) -> EthAddr {
        s.parse().unwrap()
    }

    #[test]
    fn the_lowest_global_address_of_a_port_is_the_bridges() {
        let mut db = Db::default();
        let br0 = db.bridge("br0");
        let macs = [
            ("br0", "00:00:00:00:00:01"),
            ("a", "50:00:00:00:00:05"),
            ("b", "50:00:00:00:00:04"),
            ("local", "02:00:00:00:00:01"),
            ("edp", "00:e0:2b:00:00:04"),
        ];
        let ports: Vec<_> = macs[1..].iter().map(|(name, _)| db.port(br0, name, "").0).collect();
        let mac_of = |name: &str| macs.iter().find(|(n, _)| *n == name).map(|(_, m)| mac(m));
        let of = |db: &Db| bridge_mac(&db.read().bridges["br0"], mac_of).to_string();
        assert_eq!(of(&db), "50:00:00:00:00:04");
        db.put("Port", ports[0], [("mac", "40:00:00:00:00:00".into())]);
        assert_eq!(of(&db), "40:00:00:00:00:00");
        let mirror = db.add("Mirror", [("output_port", Datum::from(ports[0]))]);
        db.put("Bridge", br0, [("mirrors", Datum::set([mirror]))]);
        assert_eq!(of(&db), "50:00:00:00:00:04");
        db.put("Bridge", br0, [("other_config", Datum::map([("hwaddr", "02:00:00:00:00:99")]))]);
        assert_eq!(of(&db), "02:00:00:00:00:99");
        db.put("Bridge", br0, [("other_config", Datum::map([("hwaddr", "01:00:00:00:00:99")]))]);
        assert_eq!(of(&db), "50:00:00:00:00:04", "multicast is refused");
        for port in ports {
            db.drop_port(br0, port);
        }
        assert_eq!(of(&db), db.read().bridges["br0"].identity.default_mac.to_string());
    }

    #[test]
    fn fake_bridges_look_at_their_vlan() {
        let mut db = Db::default();
        let br0 = db.bridge("br0");
        for (name, tag) in [("a", 5), ("b", 6), ("fb", 6)] {
            let (port, _) = db.port(br0, name, "");
            db.put("Port", port, [("tag", Datum::from(tag))]);
        }
        let desired = db.read();
        let bridge = &desired.bridges["br0"];
        let mac_of = |name: &str| match name {
            "a" => Some(mac("50:00:00:00:00:01")),
            "b" => Some(mac("50:00:00:00:00:02")),
            _ => Some(mac("02:00:00:00:00:01")),
        };
        assert_eq!(fake_bridge_mac(bridge, &bridge.ports["fb"], mac_of).to_string(), "50:00:00:00:00:02");
        assert_eq!(bridge_mac(bridge, mac_of).to_string(), "50:00:00:00:00:01");
    }
}
