//! Protocol numbers (IANA registries: Ethernet types, protocol numbers, ICMP parameters).

/// Ethernet types. Values below [`ethertype::MIN`] on the wire are IEEE 802.2 lengths.
pub mod ethertype {
    pub const MIN: u16 = 0x0600;
    /// What the flow key says of a frame that has a length instead of a type.
    pub const NONE: u16 = 0x05ff;
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const TEB: u16 = 0x6558;
    pub const RARP: u16 = 0x8035;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MCAST: u16 = 0x8848;
    pub const QINQ: u16 = 0x88a8;
    pub const NSH: u16 = 0x894f;

    pub const fn is_vlan(t: u16) -> bool {
        matches!(t, VLAN | QINQ)
    }
    pub const fn is_mpls(t: u16) -> bool {
        matches!(t, MPLS | MPLS_MCAST)
    }
}

/// IP protocol numbers, extension headers of IPv6 among them.
pub mod ip_proto {
    pub const HOP_OPTIONS: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DST_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;

    /// Whether another header follows that the parser looks through.
    pub const fn is_ipv6_extension(p: u8) -> bool {
        matches!(p, HOP_OPTIONS | ROUTING | FRAGMENT | AH | DST_OPTIONS)
    }
}

/// ARP operations (RFC 826).
pub mod arp {
    pub const REQUEST: u16 = 1;
    pub const REPLY: u16 = 2;
}

/// UDP ports of DHCP (RFC 2131).
pub mod dhcp {
    pub const SERVER_PORT: u16 = 67;
    pub const CLIENT_PORT: u16 = 68;
}

/// ICMPv6 types and Neighbor Discovery options (RFC 4861).
pub mod nd {
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const ROUTER_ADVERT: u8 = 134;
    pub const SOLICIT: u8 = 135;
    pub const ADVERT: u8 = 136;
    pub const OPT_SOURCE_LLA: u8 = 1;
    pub const OPT_TARGET_LLA: u8 = 2;
    pub const OPT_PREFIX: u8 = 3;
    pub const OPT_MTU: u8 = 5;
    /// ICMPv6 header, flags and target; options follow.
    pub const MSG_LEN: usize = 24;
    /// A link-layer address option of Ethernet; options come in multiples of it.
    pub const OPT_LEN: usize = 8;
}

/// `nsh.next_proto` and metadata types (RFC 8300).
pub mod nsh {
    pub const NP_IPV4: u8 = 1;
    pub const NP_IPV6: u8 = 2;
    pub const NP_ETHERNET: u8 = 3;
    pub const NP_NSH: u8 = 4;
    pub const NP_MPLS: u8 = 5;
    pub const MD1: u8 = 1;
    pub const MD2: u8 = 2;
    pub const BASE_LEN: usize = 8;
    pub const MD1_LEN: usize = 24;
}

/// Bytes of headers without options.
pub mod header_len {
    pub const ETH: usize = 14;
    pub const VLAN: usize = 4;
    pub const MPLS: usize = 4;
    pub const IPV4: usize = 20;
    pub const IPV6: usize = 40;
    pub const TCP: usize = 20;
    pub const UDP: usize = 8;
    pub const SCTP: usize = 12;
    pub const ICMP: usize = 8;
    pub const IGMP: usize = 8;
    pub const ARP: usize = 28;
}

/// `packet_type` of layer-3 packets.
pub mod packet_type {
    use super::ethertype;
    use flow::packet_type_of_ethertype;
    pub const IPV4: u32 = packet_type_of_ethertype(ethertype::IPV4);
    pub const IPV6: u32 = packet_type_of_ethertype(ethertype::IPV6);
    pub const MPLS: u32 = packet_type_of_ethertype(ethertype::MPLS);
    pub const NSH: u32 = packet_type_of_ethertype(ethertype::NSH);
}

/// Bits of `tcp_flags`.
pub mod tcp {
    pub const FIN: u16 = 0x001;
    pub const SYN: u16 = 0x002;
    pub const RST: u16 = 0x004;
    pub const PSH: u16 = 0x008;
    pub const ACK: u16 = 0x010;
    pub const URG: u16 = 0x020;
    pub const ECE: u16 = 0x040;
    pub const CWR: u16 = 0x080;
    pub const NS: u16 = 0x100;
}
