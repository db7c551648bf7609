//! The Bridge table.

use super::flow_table::TableConfig;
use super::interface::InterfaceConfig;
use super::mirror;
use super::port::{PortConfig, vlans};
use super::remotes::{self, RemotesConfig};
use super::{Reader, smap};
use flow::EthAddr;
use ofproto::mirror::MirrorSettings;
use ofproto::port::VlanSet;
use ovsdb_shim::Row;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const COLUMN: &str = "other_config";
/// Tables that the Bridge row may configure.
const TABLES: i64 = 255;

/// One bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    pub row: Uuid,
    pub name: String,
    /// `netdev`, `system` or `dummy`.
    pub datapath_type: String,
    pub interfaces: BTreeMap<String, InterfaceConfig>,
    pub ports: BTreeMap<String, PortConfig>,
    pub identity: IdentityConfig,
    pub settings: SwitchSettings,
    pub remotes: RemotesConfig,
}

/// What decides on a bridge's address and datapath ID, besides its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityConfig {
    /// `other_config:hwaddr`, if it can be a bridge's address.
    pub hwaddr: Option<EthAddr>,
    /// The address of a bridge that has no port to take one from: made from the row's uuid, so that it
    /// stays the same.
    pub default_mac: EthAddr,
    /// `other_config:datapath-id`.
    pub datapath_id: Option<u64>,
    /// Ports that mirrors write to: they lend the bridge no address.
    pub mirror_outputs: BTreeSet<String>,
}

/// What the switch as a whole is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchSettings {
    pub mac_aging_s: u32,
    pub mac_table_size: u32,
    pub forward_bpdu: bool,
    pub flood_vlans: Option<VlanSet>,
    /// Tables that have a row; the others have [`TableConfig::default`].
    pub tables: BTreeMap<u8, TableConfig>,
    pub mirrors: Vec<MirrorSettings>,
    pub dp_desc: Option<String>,
    pub serial: Option<String>,
}

impl BridgeConfig {
    /// `None` if there can be no such bridge.
    pub(super) fn read(reader: &mut Reader<'_>, row: &Row) -> Option<Self> {
        let name = row.str("name");
        let datapath_type = match row.str("datapath_type") {
            "" => "system",
            kind => kind,
        };
        if !reader.around.datapath_types.iter().any(|kind| kind == datapath_type) {
            let unknown = format!("could not create datapath {name} of unknown type {datapath_type}");
            reader.warn(row.uuid, unknown);
            let why = "Address family not supported by protocol";
            reader.error(row.uuid, format!("failed to create bridge {name}: {why}"));
            return None;
        }
        let (ports, interfaces) = read_ports(reader, row);
        Some(BridgeConfig {
            row: row.uuid,
            name: name.to_owned(),
            datapath_type: datapath_type.to_owned(),
            interfaces,
            ports,
            identity: IdentityConfig {
                hwaddr: hwaddr(reader, row),
                default_mac: default_mac(row.uuid),
                datapath_id: row.map_get(COLUMN, "datapath-id").and_then(parse_datapath_id),
                mirror_outputs: mirror_outputs(reader, row),
            },
            settings: SwitchSettings::read(reader, row),
            remotes: RemotesConfig::read(reader, row),
        })
    }
}

type PortsAndInterfaces = (BTreeMap<String, PortConfig>, BTreeMap<String, InterfaceConfig>);

fn read_ports(reader: &mut Reader<'_>, bridge: &Row) -> PortsAndInterfaces {
    let name = bridge.str("name");
    let (mut ports, mut interfaces) = (BTreeMap::new(), BTreeMap::new());
    let snapshot = reader.snapshot;
    for row in snapshot.follow(bridge, "ports", "Port") {
        let port = row.str("name");
        if ports.contains_key(port) {
            reader.warn(row.uuid, format!("bridge {name}: {port} specified twice as bridge port"));
            continue;
        }
        let members = read_interfaces(reader, row, name, &mut interfaces);
        ports.insert(port.to_owned(), PortConfig::read(reader, row, members));
    }
    if remotes::has_controllers(reader, bridge) && !ports.contains_key(name) {
        reader.warn(bridge.uuid, format!("bridge {name}: no port named {name}, synthesizing one"));
        if !interfaces.contains_key(name) {
            interfaces.insert(name.to_owned(), InterfaceConfig::local(name));
            ports.insert(name.to_owned(), PortConfig::local(name));
        }
    }
    (ports, interfaces)
}

/// Reads the interfaces of a port; returns the names of those that can be.
fn read_interfaces(
    reader: &mut Reader<'_>,
    port: &Row,
    bridge: &str,
    interfaces: &mut BTreeMap<String, InterfaceConfig>,
) -> Vec<String> {
    let mut members = Vec::new();
    let snapshot = reader.snapshot;
    for row in snapshot.follow(port, "interfaces", "Interface") {
        let name = row.str("name");
        if interfaces.contains_key(name) {
            let text = format!(
                "bridge {bridge}: interface {name} is specified twice, ignoring port {}",
                port.str("name")
            );
            reader.warn(row.uuid, text.clone());
            reader.refused.insert(row.uuid, text);
        } else if let Some(interface) = InterfaceConfig::read(reader, row, port, bridge) {
            interfaces.insert(name.to_owned(), interface);
            members.push(name.to_owned());
        }
    }
    members.sort();
    members
}

impl SwitchSettings {
    fn read(reader: &mut Reader<'_>, row: &Row) -> Self {
        let nonzero = |key, default: u32| match smap::int(row, COLUMN, key, 0) {
            0 => default,
            n => u32::try_from(n).unwrap_or(0),
        };
        SwitchSettings {
            mac_aging_s: nonzero("mac-aging-time", 300).clamp(15, 3600),
            mac_table_size: nonzero("mac-table-size", 8192).clamp(10, 1_000_000),
            forward_bpdu: smap::bool(row, COLUMN, "forward-bpdu", false),
            flood_vlans: vlans(row, "flood_vlans"),
            tables: read_tables(reader, row),
            mirrors: mirror::read_all(reader, row),
            dp_desc: row.map_get(COLUMN, "dp-desc").map(str::to_owned),
            serial: row.map_get(COLUMN, "dp-sn").map(str::to_owned),
        }
    }
}

fn read_tables(reader: &mut Reader<'_>, bridge: &Row) -> BTreeMap<u8, TableConfig> {
    let name = bridge.str("name");
    let mut tables = BTreeMap::new();
    let snapshot = reader.snapshot;
    for (number, uuid) in bridge.int_uuid_map("flow_tables") {
        let Some(row) = snapshot.row("Flow_Table", uuid) else { continue };
        match u8::try_from(number) {
            Ok(table) if number < TABLES => {
                tables.insert(table, TableConfig::read(reader, row, name, table));
            }
            _ => {
                let what =
                    format!("ignoring configuration for flow table {number} not supported by this datapath");
                reader.warn(row.uuid, format!("bridge {name}: {what}"));
            }
        }
    }
    tables
}

fn hwaddr(reader: &mut Reader<'_>, row: &Row) -> Option<EthAddr> {
    let mac: EthAddr = row.map_get(COLUMN, "hwaddr")?.parse().ok()?;
    let name = row.str("name");
    if mac.is_multicast() {
        let text = format!("bridge {name}: cannot set MAC address to multicast address {mac}");
        reader.error(row.uuid, text);
    } else if mac.is_zero() {
        reader.error(row.uuid, format!("bridge {name}: cannot set MAC address to zero"));
    } else {
        return Some(mac);
    }
    None
}

/// Sixteen hexadecimal digits, or up to sixteen behind `0x`; not zero.
fn parse_datapath_id(text: &str) -> Option<u64> {
    let digits = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if text.len() <= 18 => digits,
        _ if text.len() == 16 => text,
        _ => return None,
    };
    let all_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|id| all_hex && *id != 0)
}

/// The first six bytes of a row's uuid as Open vSwitch keeps them in memory (32-bit words in host order),
/// marked as a local unicast address.
fn default_mac(row: Uuid) -> EthAddr {
    let [a, b, c, d, e, f, g, h, ..] = *row.as_bytes();
    let first = u32::from_be_bytes([a, b, c, d]).to_ne_bytes();
    let second = u32::from_be_bytes([e, f, g, h]).to_ne_bytes();
    let [m0, m1, m2, m3] = first;
    EthAddr([m0 & !1 | 2, m1, m2, m3, second[0], second[1]])
}

fn mirror_outputs(reader: &Reader<'_>, row: &Row) -> BTreeSet<String> {
    let mirrors = reader.snapshot.follow(row, "mirrors", "Mirror");
    mirrors
        .filter_map(|mirror| mirror.opt_uuid("output_port"))
        .filter_map(|port| reader.snapshot.row("Port", port))
        .map(|port| port.str("name").to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_mac_is_open_vswitchs() {
        // A bridge of Debian's daemon had this uuid and address.
        let uuid = Uuid::parse_str("d7ca7309-8ab0-4a4f-8e31-04fef3c2ebbd").unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(default_mac(uuid).to_string(), "0a:73:ca:d7:4f:4a");
        }
    }

    #[test]
    fn datapath_ids() {
        for (text, id) in [
            ("00000000000000ff", Some(255)),
            ("0xff", Some(255)),
            ("0X1", Some(1)),
            ("ff", None),
            ("0x", None),
            ("0x0", None),
            ("0000000000000000", None),
            ("0x12345678901234567", None),
            ("000000000000000g", None),
            ("+00000000000000f", None),
        ] {
            assert_eq!(parse_datapath_id(text), id, "{text}");
        }
    }
}
