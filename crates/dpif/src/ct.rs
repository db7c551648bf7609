//! Which tracked connections a command means.

use std::net::Ipv6Addr;

/// Addresses and ports of one direction; zero stands for any. IPv4 addresses are mapped (`::ffff:1.2.3.4`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtTupleMatch {
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    /// Source port, or ICMP id.
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
}

impl Default for CtTupleMatch {
    fn default() -> Self {
        let any = Ipv6Addr::UNSPECIFIED;
        CtTupleMatch { src: any, dst: any, src_port: 0, dst_port: 0, icmp_type: 0, icmp_code: 0 }
    }
}

/// Version of the Internet Protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtFamily {
    V4,
    V6,
}

/// Connections by both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CtMatch {
    pub family: Option<CtFamily>,
    /// IP protocol; 0 for any.
    pub proto: u8,
    pub orig: CtTupleMatch,
    pub reply: CtTupleMatch,
}

impl CtTupleMatch {
    /// Whether any connection meets it. ICMP's fields do not count where `is_icmp`.
    pub fn is_any(&self, is_icmp: bool) -> bool {
        self.src.is_unspecified()
            && self.dst.is_unspecified()
            && (is_icmp || (self.src_port == 0 && self.dst_port == 0))
    }

    /// Whether it names exactly one connection of its protocol.
    pub fn is_complete(&self, is_icmp: bool) -> bool {
        !self.src.is_unspecified()
            && !self.dst.is_unspecified()
            && (is_icmp || (self.src_port != 0 && self.dst_port != 0))
    }
}

impl CtMatch {
    pub fn is_icmp(&self) -> bool {
        matches!(self.proto, 1 | 58)
    }

    /// Whether it means all connections.
    pub fn is_any(&self) -> bool {
        let is_icmp = self.is_icmp();
        self.proto == 0 && self.family.is_none() && self.orig.is_any(is_icmp) && self.reply.is_any(is_icmp)
    }
}
