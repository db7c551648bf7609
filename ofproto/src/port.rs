//! Ports: what OpenFlow sees ([`Port`]), and what NORMAL switches between ([`Bundle`]).

use crate::bfd::Bfd;
use crate::ids::{BundleId, OfPort, SwitchId};
use dpif::PortNo;
use dpif::tunnel::{PacketTypeMode, TunnelConfig};
use flow::EthAddr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use openflow::msg::port::{PortConfig, PortState};

/// What a port is connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// A device of the datapath.
    Datapath(PortNo),
    /// The other end of a patch cable; `peer` is the other interface's name.
    Patch { peer: String },
    /// A tunnel, over a datapath port that it may share with others.
    Tunnel { port: PortNo, config: Arc<TunnelConfig> },
    /// Configured, but nothing to send to (yet).
    None,
}

/// Facts about a port that change with the link, as the owner of the device reports them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkFacts {
    pub mac: EthAddr,
    pub mtu: u32,
    pub admin_up: bool,
    pub carrier: bool,
    /// Current, advertised, supported and peer features in OpenFlow 1.1's bits.
    pub features: [u32; 4],
    pub curr_speed_kbps: u32,
    pub max_speed_kbps: u32,
    /// Addresses of the device; IPv4 ones are mapped.
    pub addresses: Vec<std::net::Ipv6Addr>,
}

/// Counters of what translation sent over a port that has no device (patch ports).
#[derive(Debug, Default)]
pub struct VirtualStats {
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
}

impl VirtualStats {
    pub fn add_rx(&self, packets: u64, bytes: u64) {
        self.rx_packets.fetch_add(packets, Relaxed);
        self.rx_bytes.fetch_add(bytes, Relaxed);
    }
    pub fn add_tx(&self, packets: u64, bytes: u64) {
        self.tx_packets.fetch_add(packets, Relaxed);
        self.tx_bytes.fetch_add(bytes, Relaxed);
    }
}

/// An OpenFlow port.
#[derive(Debug)]
pub struct Port {
    pub no: OfPort,
    pub name: String,
    /// `Interface.type`.
    pub kind: String,
    pub attachment: Attachment,
    pub link: LinkFacts,
    pub config: PortConfig,
    pub bundle: Option<BundleId>,
    /// When the port was added, in milliseconds of the clock (port statistics' duration).
    pub created_ms: u64,
    pub virtual_stats: Arc<VirtualStats>,
    /// Its BFD session, if it has one.
    pub bfd: Option<Arc<Bfd>>,
    /// The DSCP (0 to 63) that IP packets for a queue leave with (`Queue.dscp`), by queue.
    pub queue_dscp: BTreeMap<u32, u8>,
}

impl Port {
    pub fn state(&self) -> PortState {
        match (self.link.carrier, self.is_live()) {
            (false, _) => PortState::LINK_DOWN,
            (true, true) => PortState::LIVE,
            (true, false) => PortState::empty(),
        }
    }

    /// Whether what is sent here arrives, as far as link and session tell.
    pub fn is_live(&self) -> bool {
        self.link.carrier && self.bfd.as_ref().is_none_or(|bfd| bfd.is_forwarding())
    }

    pub fn dp_port(&self) -> Option<PortNo> {
        match self.attachment {
            Attachment::Datapath(no) | Attachment::Tunnel { port: no, .. } => Some(no),
            _ => None,
        }
    }

    /// Options of a tunnel.
    pub fn tunnel(&self) -> Option<&Arc<TunnelConfig>> {
        match &self.attachment {
            Attachment::Tunnel { config, .. } => Some(config),
            _ => None,
        }
    }

    /// What packets the port takes.
    pub fn packet_type_mode(&self) -> PacketTypeMode {
        self.tunnel().map(|t| t.packet_type).unwrap_or_default()
    }

    /// Whether translation may output here.
    pub fn may_forward(&self) -> bool {
        !self.config.contains(PortConfig::NO_FWD)
    }
}

/// `Port.vlan_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VlanMode {
    Access,
    #[default]
    Trunk,
    NativeTagged,
    NativeUntagged,
    Dot1qTunnel,
}

/// `Port.other_config:priority-tags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PriorityTags {
    #[default]
    Never,
    IfNonzero,
    Always,
}

/// A set of VLANs, one bit each.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    pub fn empty() -> Self {
        VlanSet(Box::new([0; 64]))
    }
    pub fn all() -> Self {
        VlanSet(Box::new([u64::MAX; 64]))
    }
    pub fn insert(&mut self, vid: u16) {
        self.0[usize::from(vid & 0xfff) / 64] |= 1 << (vid % 64);
    }
    pub fn contains(&self, vid: u16) -> bool {
        self.0[usize::from(vid & 0xfff) / 64] & (1 << (vid % 64)) != 0
    }
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..4096).filter(|v| self.contains(*v))
    }
}

impl FromIterator<u16> for VlanSet {
    fn from_iter<I: IntoIterator<Item = u16>>(vids: I) -> Self {
        let mut set = Self::empty();
        vids.into_iter().for_each(|v| set.insert(v));
        set
    }
}

impl std::fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What the database says of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleSettings {
    pub name: String,
    pub members: Vec<OfPort>,
    pub vlan_mode: VlanMode,
    /// The access or native VLAN, 0 if none (a trunk).
    pub vlan: u16,
    /// `None`: all VLANs.
    pub trunks: Option<VlanSet>,
    pub cvlans: Option<VlanSet>,
    /// `other_config:qinq-ethtype`: 0x88a8 or 0x8100.
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
    pub protected: bool,
}

impl BundleSettings {
    /// A plain trunk of one interface.
    pub fn trunk(name: &str, member: OfPort) -> Self {
        BundleSettings {
            name: name.to_owned(),
            members: vec![member],
            vlan_mode: VlanMode::Trunk,
            vlan: 0,
            trunks: None,
            cvlans: None,
            qinq_ethtype: 0x88a8,
            priority_tags: PriorityTags::Never,
            protected: false,
        }
    }
}

/// A logical port: the unit of MAC learning, VLAN membership and flooding.
#[derive(Debug)]
pub struct Bundle {
    pub id: BundleId,
    pub settings: BundleSettings,
}

impl Bundle {
    /// Whether `vid` (0 for none) may enter or leave here, once it is known to be the packet's VLAN.
    pub fn carries_vlan(&self, vid: u16) -> bool {
        let s = &self.settings;
        match s.vlan_mode {
            VlanMode::Access | VlanMode::Dot1qTunnel => vid == s.vlan,
            VlanMode::Trunk => s.trunks.as_ref().is_none_or(|t| t.contains(vid)),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                vid == s.vlan || s.trunks.as_ref().is_none_or(|t| t.contains(vid))
            }
        }
    }
}

/// Where a datapath port leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortOwner {
    pub switch: SwitchId,
    pub port: OfPort,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_set_holds_what_was_put_in() {
        let s: VlanSet = [0, 63, 64, 4095].into_iter().collect();
        assert_eq!(s.iter().collect::<Vec<_>>(), [0, 63, 64, 4095]);
    }

    #[test]
    fn native_port_carries_its_vlan_even_if_not_in_trunks() {
        let mut settings = BundleSettings::trunk("p", OfPort(1));
        settings.vlan_mode = VlanMode::NativeTagged;
        settings.vlan = 7;
        settings.trunks = Some([9].into_iter().collect());
        let b = Bundle { id: BundleId(1), settings };
        assert_eq!([7, 9, 8].map(|v| b.carries_vlan(v)), [true, true, false]);
    }
}
