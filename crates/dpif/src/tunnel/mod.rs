//! Tunnels as configured: what an interface's options say ([`TunnelConfig`]), and the outer header that follows
//! from them ([`build`]).

mod build;
mod options;
#[cfg(test)]
mod tests;

pub use build::{BuildError, Ends, build};
pub use options::OptionsError;
pub use packet::tunnel::TunnelKind;

use std::net::{Ipv4Addr, Ipv6Addr};

/// Time to live of an outer header unless configured.
pub const DEFAULT_TTL: u8 = 64;

/// A value that the configuration fixes, or leaves to the flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Setting<T> {
    /// Not configured.
    #[default]
    Absent,
    Flow,
    Fixed(T),
}

impl<T: Copy + Default> Setting<T> {
    pub fn is_flow(self) -> bool {
        matches!(self, Setting::Flow)
    }
    pub fn is_present(self) -> bool {
        !matches!(self, Setting::Absent)
    }
    /// The fixed value; the default of one that is absent or left to the flow.
    pub fn value(self) -> T {
        match self {
            Setting::Fixed(v) => v,
            Setting::Absent | Setting::Flow => T::default(),
        }
    }
    /// `flow` where the flow decides, else the fixed value or the default.
    pub fn or_flow(self, flow: T) -> T {
        if self.is_flow() { flow } else { self.value() }
    }
}

/// An outer address. IPv4 addresses are mapped (RFC 4291, 2.5.5.2); `::` is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OuterAddr {
    pub ip: Ipv6Addr,
    pub is_flow: bool,
}

impl Default for OuterAddr {
    fn default() -> Self {
        OuterAddr { ip: Ipv6Addr::UNSPECIFIED, is_flow: false }
    }
}

/// What packets a tunnel port takes (`options:packet_type`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum PacketTypeMode {
    #[default]
    LegacyL2,
    /// The Ethernet header is taken off on the way out, and an empty one put on on the way in.
    LegacyL3,
    /// Both, as they are.
    Ptap,
}

impl PacketTypeMode {
    pub const fn name(self) -> &'static str {
        match self {
            PacketTypeMode::LegacyL2 => "legacy_l2",
            PacketTypeMode::LegacyL3 => "legacy_l3",
            PacketTypeMode::Ptap => "ptap",
        }
    }
}

/// Options of a tunnel interface (ovs-vswitchd.conf.db(5), "Tunnel Options").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelConfig {
    pub kind: TunnelKind,
    pub local: OuterAddr,
    pub remote: OuterAddr,
    pub dst_port: u16,
    pub in_key: Setting<u64>,
    pub out_key: Setting<u64>,
    pub tos: u8,
    pub tos_inherit: bool,
    pub ttl: u8,
    pub ttl_inherit: bool,
    pub dont_fragment: bool,
    pub csum: bool,
    pub seq: bool,
    /// VXLAN's extensions.
    pub gbp: bool,
    pub gpe: bool,
    pub packet_type: PacketTypeMode,
    pub egress_pkt_mark: Option<u32>,
    pub erspan_ver: Setting<u8>,
    pub erspan_idx: Setting<u32>,
    pub erspan_dir: Setting<u8>,
    pub erspan_hwid: Setting<u8>,
}

impl TunnelConfig {
    /// What a tunnel device is before it is configured.
    pub fn new(kind: TunnelKind) -> Self {
        TunnelConfig {
            kind,
            local: OuterAddr::default(),
            remote: OuterAddr::default(),
            dst_port: kind.default_port(),
            in_key: Setting::Absent,
            out_key: Setting::Absent,
            tos: 0,
            tos_inherit: false,
            ttl: DEFAULT_TTL,
            ttl_inherit: false,
            dont_fragment: true,
            csum: false,
            seq: false,
            gbp: false,
            gpe: false,
            packet_type: PacketTypeMode::default(),
            egress_pkt_mark: None,
            erspan_ver: Setting::Absent,
            erspan_idx: Setting::Absent,
            erspan_dir: Setting::Absent,
            erspan_hwid: Setting::Absent,
        }
    }

    /// Whether the tunnel can carry Ethernet frames, and whether it can carry other packets.
    pub fn layers(&self) -> (bool, bool) {
        match self.kind {
            TunnelKind::Gre => (true, true),
            TunnelKind::Vxlan => (true, self.gpe),
            TunnelKind::Gtpu => (false, true),
            _ => (true, false),
        }
    }

    /// `packet_type` unless configured.
    pub fn default_packet_type(&self) -> PacketTypeMode {
        if self.layers() == (false, true) { PacketTypeMode::LegacyL3 } else { PacketTypeMode::LegacyL2 }
    }
}

/// An IPv4 address as an outer address.
pub fn mapped(v4: u32) -> Ipv6Addr {
    Ipv4Addr::from(v4).to_ipv6_mapped()
}

/// An IPv6 field as an outer address.
pub fn outer_v6(v6: flow::U128) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(v6))
}

/// `ip` as Open vSwitch writes it: mapped IPv4 addresses in their own form.
pub fn show_ip(ip: Ipv6Addr) -> String {
    ip.to_ipv4_mapped().map_or_else(|| ip.to_string(), |v4| v4.to_string())
}

/// Source of a key's outer header; `::` if it has none.
pub fn outer_src(t: &flow::Tunnel) -> Ipv6Addr {
    if t.src != 0 { mapped(t.src) } else { outer_v6(t.ipv6_src) }
}

/// Destination of a key's outer header.
pub fn outer_dst(t: &flow::Tunnel) -> Ipv6Addr {
    if t.dst != 0 { mapped(t.dst) } else { outer_v6(t.ipv6_dst) }
}

/// Sets an address of a key's outer header: the IPv4 or the IPv6 one, the other to zero.
pub fn split_ip(ip: Ipv6Addr) -> (u32, flow::U128) {
    match ip.to_ipv4_mapped() {
        Some(v4) => (v4.into(), flow::U128::ZERO),
        None => (0, u128::from(ip).into()),
    }
}
