//! Tunnels: taking an outer header off a packet ([`pop`]), and putting one on that is ready but for what
//! depends on the packet ([`push`]).
//!
//! GRE (RFC 2784, 2890), ERSPAN types II and III (draft-foschiano-erspan), VXLAN (RFC 7348) with the group
//! based policy and generic protocol extensions (draft-smith-vxlan-group-policy, draft-ietf-nvo3-vxlan-gpe),
//! Geneve (RFC 8926), GTP-U (3GPP TS 29.281); each over IPv4 and IPv6.

mod decap;
mod encap;
mod template;
#[cfg(test)]
mod tests;

pub use decap::{PopError, pop};
use encap::hash_of_shape;
pub use encap::{PushContext, flow_hash, push, source_port};
pub use template::{Outer, Template};

use crate::proto::ip_proto;

/// A tunnel protocol, by the name that `Interface.type` has for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TunnelKind {
    Erspan,
    Geneve,
    Gre,
    Gtpu,
    Ip6Erspan,
    Ip6Gre,
    Vxlan,
}

/// What there is to know of a protocol.
struct Facts {
    name: &'static str,
    /// Beginning of the name of its datapath ports.
    device: &'static str,
    /// Destination port unless configured; 0 for what is not UDP.
    port: u16,
}

impl TunnelKind {
    pub const ALL: [TunnelKind; 7] = [
        TunnelKind::Erspan,
        TunnelKind::Geneve,
        TunnelKind::Gre,
        TunnelKind::Gtpu,
        TunnelKind::Ip6Erspan,
        TunnelKind::Ip6Gre,
        TunnelKind::Vxlan,
    ];

    const fn facts(self) -> Facts {
        match self {
            TunnelKind::Erspan => Facts { name: "erspan", device: "erspan_sys", port: 0 },
            TunnelKind::Geneve => Facts { name: "geneve", device: "genev_sys", port: 6081 },
            TunnelKind::Gre => Facts { name: "gre", device: "gre_sys", port: 0 },
            TunnelKind::Gtpu => Facts { name: "gtpu", device: "gtpu_sys", port: 2152 },
            TunnelKind::Ip6Erspan => Facts { name: "ip6erspan", device: "ip6erspan_sys", port: 0 },
            TunnelKind::Ip6Gre => Facts { name: "ip6gre", device: "ip6gre_sys", port: 0 },
            TunnelKind::Vxlan => Facts { name: "vxlan", device: "vxlan_sys", port: 4789 },
        }
    }

    /// `Interface.type`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }

    /// The UDP destination port unless configured; 0 for what does not run over UDP.
    pub const fn default_port(self) -> u16 {
        self.facts().port
    }

    pub const fn is_udp(self) -> bool {
        self.default_port() != 0
    }

    /// Protocol number of the header behind the outer IP header.
    pub const fn ip_proto(self) -> u8 {
        if self.is_udp() { ip_proto::UDP } else { ip_proto::GRE }
    }

    /// Name of the datapath port that all tunnels of this protocol and UDP port share.
    pub fn device_name(self, dst_port: u16) -> String {
        let Facts { device, .. } = self.facts();
        if self.is_udp() { format!("{device}_{dst_port}") } else { device.to_owned() }
    }
}

/// Bits of GRE's flags.
pub mod gre {
    pub const CSUM: u16 = 0x8000;
    pub const KEY: u16 = 0x2000;
    pub const SEQ: u16 = 0x1000;
    pub const PROTO_ERSPAN1: u16 = 0x88be;
    pub const PROTO_ERSPAN2: u16 = 0x22eb;
    /// Bytes without options.
    pub const LEN: usize = 4;

    /// Bytes of a header with these flags.
    pub const fn len(flags: u16) -> usize {
        LEN + 4 * ((flags & CSUM != 0) as usize + (flags & KEY != 0) as usize + (flags & SEQ != 0) as usize)
    }
}

/// Bits of VXLAN's first word, and of what its extensions put there.
pub mod vxlan {
    /// A VNI is there.
    pub const VNI: u32 = 0x0800_0000;
    /// Group based policy: the low half is a policy identifier.
    pub const GBP: u32 = 0x8000_0000;
    /// Do not learn; policy applied.
    pub const GBP_DONT_LEARN: u32 = 0x0040_0000;
    pub const GBP_APPLIED: u32 = 0x0008_0000;
    /// A next protocol is in the low byte.
    pub const GPE: u32 = 0x0400_0000;
    pub const GPE_OAM: u32 = 0x0100_0000;
    /// Version and next protocol.
    pub const GPE_USED: u32 = 0x3000_00ff | GPE | GPE_OAM;
    pub const NP_IPV4: u8 = 1;
    pub const NP_IPV6: u8 = 2;
    pub const NP_ETHERNET: u8 = 3;
    pub const NP_NSH: u8 = 4;
    pub const LEN: usize = 8;
}

/// GTP-U.
pub mod gtpu {
    /// Version 1, protocol type GTP.
    pub const FLAGS: u8 = 0x30;
    pub const SEQ: u8 = 0x02;
    /// Sequence number, N-PDU number or extension header: four more bytes are there.
    pub const OPTIONAL: u8 = 0x07;
    /// A user's packet.
    pub const GPDU: u8 = 255;
    pub const LEN: usize = 8;
    pub const OPTIONAL_LEN: usize = 4;
}

/// Bytes of a Geneve header without options.
pub const GENEVE_LEN: usize = 8;
/// Bytes of ERSPAN's common header, and of what each version adds.
pub const ERSPAN_LEN: usize = 4;
pub const ERSPAN1_LEN: usize = 4;
pub const ERSPAN2_LEN: usize = 8;
