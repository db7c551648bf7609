//! The Port table: VLANs, and which interfaces belong together.

use super::Reader;
use flow::EthAddr;
use ofproto::port::{PriorityTags, VlanMode, VlanSet};
use ovsdb_shim::Row;
use uuid::Uuid;

const ETH_TYPE_8021Q: u16 = 0x8100;
const ETH_TYPE_8021AD: u16 = 0x88a8;

/// One port: a single interface, or several as a bond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// `None` for a bridge's local port that the database does not have.
    pub row: Option<Uuid>,
    pub name: String,
    /// Names of the interfaces, in order of name.
    pub interfaces: Vec<String>,
    pub vlan: VlanConfig,
    pub protected: bool,
    /// `ovs-vsctl add-br BR PARENT VLAN`: a port that tools show as a bridge.
    pub fake_bridge: bool,
    pub bond_fake_iface: bool,
    /// The `tag` column as it stands.
    pub tag: Option<u16>,
    /// The address that stands for the port when the bridge chooses its own.
    pub mac: Option<EthAddr>,
}

/// How a port treats VLANs, in the terms of [`ofproto::port::BundleSettings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanConfig {
    pub mode: VlanMode,
    /// The access or native VLAN; 0 for none.
    pub vlan: u16,
    pub trunks: Option<VlanSet>,
    pub cvlans: Option<VlanSet>,
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
}

impl Default for VlanConfig {
    fn default() -> Self {
        VlanConfig {
            mode: VlanMode::Trunk,
            vlan: 0,
            trunks: None,
            cvlans: None,
            qinq_ethtype: ETH_TYPE_8021AD,
            priority_tags: PriorityTags::Never,
        }
    }
}

impl PortConfig {
    pub(super) fn read(reader: &mut Reader<'_>, row: &Row, interfaces: Vec<String>) -> Self {
        PortConfig {
            row: Some(row.uuid),
            name: row.str("name").to_owned(),
            interfaces,
            vlan: VlanConfig::read(reader, row),
            protected: row.bool("protected"),
            fake_bridge: row.bool("fake_bridge"),
            bond_fake_iface: row.bool("bond_fake_iface"),
            tag: tag(row),
            mac: row.opt_str("mac").and_then(|mac| mac.parse().ok()),
        }
    }

    /// The local port of a bridge that the database does not have.
    pub(super) fn local(bridge: &str) -> Self {
        PortConfig {
            row: None,
            name: bridge.to_owned(),
            interfaces: vec![bridge.to_owned()],
            vlan: VlanConfig::default(),
            protected: false,
            fake_bridge: false,
            bond_fake_iface: false,
            tag: None,
            mac: None,
        }
    }
}

impl VlanConfig {
    fn read(reader: &mut Reader<'_>, row: &Row) -> Self {
        let (tag, trunks, cvlans) = (tag(row), vlans(row, "trunks"), vlans(row, "cvlans"));
        let mode = mode(reader, row, tag.is_some(), trunks.is_some() || cvlans.is_some());
        let vlan = if mode == VlanMode::Trunk { 0 } else { tag.unwrap_or(0) };
        let trunks = match mode {
            VlanMode::Access | VlanMode::Dot1qTunnel => None,
            VlanMode::Trunk => trunks,
            VlanMode::NativeTagged | VlanMode::NativeUntagged => native_trunks(vlan, trunks),
        };
        let qinq_ethtype = match row.map_get("other_config", "qinq-ethtype") {
            Some("802.1q") => ETH_TYPE_8021Q,
            _ => ETH_TYPE_8021AD,
        };
        let priority_tags = match row.map_get("other_config", "priority-tags") {
            Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
            Some("always") => PriorityTags::Always,
            _ => PriorityTags::Never,
        };
        VlanConfig { mode, vlan, trunks, cvlans, qinq_ethtype, priority_tags }
    }
}

/// `vlan_mode`, or what tag and trunks say where it is absent (ovs-vswitchd.conf.db(5)).
fn mode(reader: &mut Reader<'_>, row: &Row, has_tag: bool, has_lists: bool) -> VlanMode {
    let name = row.str("name");
    match row.opt_str("vlan_mode") {
        Some("access") => VlanMode::Access,
        Some("trunk") => VlanMode::Trunk,
        Some("native-tagged") => VlanMode::NativeTagged,
        Some("native-untagged") => VlanMode::NativeUntagged,
        Some("dot1q-tunnel") => VlanMode::Dot1qTunnel,
        Some(other) => {
            let text = format!("port {name}: unknown VLAN mode {other}, falling back to trunk mode");
            reader.warn(row.uuid, text);
            VlanMode::Trunk
        }
        None if has_tag => {
            if has_lists {
                reader.warn(row.uuid, format!("port {name}: ignoring trunks in favor of implicit vlan"));
            }
            VlanMode::Access
        }
        None => VlanMode::Trunk,
    }
}

/// A native port trunks its own VLAN, and VLAN 0 only if that is it.
fn native_trunks(vlan: u16, trunks: Option<VlanSet>) -> Option<VlanSet> {
    if vlan == 0 {
        return trunks;
    }
    let all = trunks.unwrap_or_else(VlanSet::all);
    Some(all.iter().filter(|v| *v != 0).chain([vlan]).collect())
}

fn tag(row: &Row) -> Option<u16> {
    row.opt_int("tag").and_then(vlan)
}

fn vlan(vid: i64) -> Option<u16> {
    u16::try_from(vid).ok().filter(|vid| *vid < 4096)
}

/// A set of VLANs; `None` if the column is empty.
pub(super) fn vlans(row: &Row, column: &str) -> Option<VlanSet> {
    row.datum(column).filter(|set| !set.is_empty())?;
    Some(row.ints(column).filter_map(vlan).collect())
}
