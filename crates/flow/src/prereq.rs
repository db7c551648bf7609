//! When a field may be matched or changed.

use crate::field::{Field, Prereq};
use crate::key::*;

/// Numbers that the prerequisites name.
pub mod eth_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const RARP: u16 = 0x8035;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
    pub const IPV6: u16 = 0x86dd;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MCAST: u16 = 0x8848;
    pub const NSH: u16 = 0x894f;
    /// A frame without a type: IEEE 802.3 with a length field. In OpenFlow, `OFP_DL_TYPE_NOT_ETH_TYPE`.
    pub const NONE: u16 = 0x05ff;
}

pub mod ip_proto {
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}

/// Bits of `ct_state`.
pub mod ct_state {
    pub const NEW: u32 = 1 << 0;
    pub const EST: u32 = 1 << 1;
    pub const REL: u32 = 1 << 2;
    pub const RPL: u32 = 1 << 3;
    pub const INV: u32 = 1 << 4;
    pub const TRK: u32 = 1 << 5;
    pub const SNAT: u32 = 1 << 6;
    pub const DNAT: u32 = 1 << 7;
}

const ND_NEIGHBOR_SOLICIT: u16 = 135;
const ND_NEIGHBOR_ADVERT: u16 = 136;

impl Flow {
    pub fn is_ethernet(&self) -> bool {
        self.packet_type == PT_ETH
    }

    /// The Ethernet type, whether a frame has it or the packet type stands for it; else
    /// [`eth_type::NONE`].
    pub fn effective_dl_type(&self) -> u16 {
        match self.packet_type >> 16 {
            _ if self.is_ethernet() => self.dl_type,
            1 => self.packet_type as u16,
            _ => eth_type::NONE,
        }
    }

    pub fn is_ip_any(&self) -> bool {
        matches!(self.effective_dl_type(), eth_type::IPV4 | eth_type::IPV6)
    }

    pub fn is_mpls(&self) -> bool {
        matches!(self.effective_dl_type(), eth_type::MPLS | eth_type::MPLS_MCAST)
    }

    pub fn is_icmpv4(&self) -> bool {
        self.effective_dl_type() == eth_type::IPV4 && self.nw_proto == ip_proto::ICMP
    }

    pub fn is_icmpv6(&self) -> bool {
        self.effective_dl_type() == eth_type::IPV6 && self.nw_proto == ip_proto::ICMPV6
    }

    pub fn is_igmp(&self) -> bool {
        self.effective_dl_type() == eth_type::IPV4 && self.nw_proto == ip_proto::IGMP
    }

    /// IPv6 neighbour solicitation or advertisement.
    pub fn is_nd(&self) -> bool {
        self.is_icmpv6()
            && self.tp_dst == 0
            && matches!(self.tp_src, ND_NEIGHBOR_SOLICIT | ND_NEIGHBOR_ADVERT)
    }

    pub fn is_nd_solicit(&self) -> bool {
        self.is_nd() && self.tp_src == ND_NEIGHBOR_SOLICIT
    }

    pub fn is_nd_advert(&self) -> bool {
        self.is_nd() && self.tp_src == ND_NEIGHBOR_ADVERT
    }

    fn is_l4(&self, proto: u8) -> bool {
        self.is_ip_any() && self.nw_proto == proto && self.nw_frag & NW_FRAG_LATER == 0
    }

    /// Whether a key that was taken from a packet has a valid connection.
    pub fn has_valid_ct(&self) -> bool {
        self.ct_state & (ct_state::NEW | ct_state::EST | ct_state::RPL) != 0
    }
}

impl Field {
    /// Whether a match may look at the field, given what `flow` and `mask` match already.
    pub fn prereqs_ok(self, flow: &Flow, mask: &Mask) -> bool {
        match self.info().prereq {
            // A bit that implies a valid connection, or "tracked and not invalid".
            Prereq::CtValid => {
                const ANY: u32 = ct_state::NEW
                    | ct_state::EST
                    | ct_state::REL
                    | ct_state::RPL
                    | ct_state::SNAT
                    | ct_state::DNAT;
                let not_invalid = mask.ct_state & ct_state::INV != 0 && flow.ct_state & ct_state::INV == 0;
                flow.ct_state & ANY != 0 || flow.ct_state & ct_state::TRK != 0 && not_invalid
            }
            _ => self.prereqs_ok_in_packet(flow),
        }
    }

    /// Whether a packet with key `flow` has the field.
    pub fn prereqs_ok_in_packet(self, flow: &Flow) -> bool {
        let dl_type = flow.effective_dl_type();
        match self.info().prereq {
            Prereq::None => true,
            Prereq::Ethernet => flow.is_ethernet(),
            Prereq::Arp => matches!(dl_type, eth_type::ARP | eth_type::RARP),
            Prereq::VlanVid => flow.is_ethernet() && flow.vlans[0].is_present(),
            Prereq::Ipv4 => dl_type == eth_type::IPV4,
            Prereq::Ipv6 => dl_type == eth_type::IPV6,
            Prereq::IpAny => flow.is_ip_any(),
            Prereq::Nsh => dl_type == eth_type::NSH,
            Prereq::Mpls => flow.is_mpls(),
            Prereq::Tcp => flow.is_l4(ip_proto::TCP),
            Prereq::Udp => flow.is_l4(ip_proto::UDP),
            Prereq::Sctp => flow.is_l4(ip_proto::SCTP),
            Prereq::Icmpv4 => flow.is_icmpv4(),
            Prereq::Icmpv6 => flow.is_icmpv6(),
            Prereq::CtValid => flow.has_valid_ct(),
            Prereq::Nd => flow.is_nd(),
            Prereq::NdSolicit => flow.is_nd_solicit(),
            Prereq::NdAdvert => flow.is_nd_advert(),
        }
    }

    /// As [`Field::prereqs_ok_in_packet`], and makes what was looked at matter in `wc`. The Ethernet type
    /// is not among it: translation always matches that.
    pub fn check_prereqs(self, flow: &Flow, wc: &mut Mask) -> bool {
        let dl_type = flow.effective_dl_type();
        let ip = flow.is_ip_any();
        match self.info().prereq {
            Prereq::Ethernet => wc.packet_type = u32::MAX,
            Prereq::VlanVid => {
                wc.packet_type = u32::MAX;
                if flow.is_ethernet() {
                    wc.vlans[0].tci |= VLAN_CFI;
                }
            }
            Prereq::Tcp | Prereq::Udp | Prereq::Sctp if ip => wc.nw_proto = 0xff,
            Prereq::Icmpv4 if dl_type == eth_type::IPV4 => wc.nw_proto = 0xff,
            Prereq::Icmpv6 if dl_type == eth_type::IPV6 => wc.nw_proto = 0xff,
            Prereq::Nd | Prereq::NdSolicit | Prereq::NdAdvert if dl_type == eth_type::IPV6 => {
                wc.nw_proto = 0xff;
                if flow.is_icmpv6() {
                    wc.tp_dst = 0xffff;
                    if flow.tp_dst == 0 {
                        wc.tp_src = 0xffff;
                    }
                }
            }
            Prereq::CtValid => wc.ct_state |= ct_state::NEW | ct_state::EST | ct_state::RPL,
            _ => {}
        }
        self.prereqs_ok_in_packet(flow)
    }
}

impl Mask {
    /// What a packet with key `flow` has: every field of its headers and of its context, but not the
    /// registers, OpenFlow metadata and other things that only tables set.
    pub fn for_packet(flow: &Flow) -> Mask {
        let mut m = Mask::NONE;
        let tunnel = &flow.tunnel;
        if tunnel.is_set() {
            m.tunnel = Mask::EXACT.0.tunnel;
            m.tunnel.pad = 0;
            m.tunnel.id = if tunnel.flags & tun_flags::KEY != 0 { u64::MAX } else { 0 };
            m.tunnel.metadata_present = tunnel.metadata_present;
            if tunnel.flags & tun_flags::UDPIF != 0 {
                m.tunnel.metadata_present = u64::MAX;
                let len = usize::try_from(tunnel.metadata_present).unwrap_or(TUN_METADATA_LEN);
                m.tunnel.metadata.iter_mut().skip(len).for_each(|b| *b = 0);
            } else if tunnel.metadata_present == 0 {
                m.tunnel.metadata = [0; TUN_METADATA_LEN];
            }
        } else if tunnel.id != 0 {
            m.tunnel.id = u64::MAX;
        }
        for f in [
            Field::SkbPriority,
            Field::PktMark,
            Field::CtState,
            Field::CtZone,
            Field::CtMark,
            Field::CtLabel,
            Field::RecircId,
            Field::DpHash,
            Field::InPort,
            Field::PacketType,
        ] {
            f.unwildcard(&mut m);
        }
        if flow.is_ethernet() {
            (m.dl_dst, m.dl_src, m.dl_type) = (EthAddr::BROADCAST, EthAddr::BROADCAST, 0xffff);
            // One tag more than there are, to say that no other follows.
            let tags = flow.vlans.iter().take_while(|v| v.tci != 0).count();
            for v in m.vlans.iter_mut().take(tags + 1) {
                *v = Vlan { tpid: 0xffff, tci: 0xffff };
            }
        }
        m.add_network(flow);
        m
    }

    fn add_network(&mut self, flow: &Flow) {
        let dl_type = if flow.is_ethernet() { flow.dl_type } else { flow.packet_type as u16 };
        match dl_type {
            eth_type::IPV4 => {
                (self.nw_src, self.nw_dst) = (u32::MAX, u32::MAX);
                (self.ct_nw_src, self.ct_nw_dst) = (u32::MAX, u32::MAX);
            }
            eth_type::IPV6 => {
                (self.ipv6_src, self.ipv6_dst, self.ipv6_label) = (U128::MAX, U128::MAX, u32::MAX);
                if Field::NdTarget.check_prereqs(flow, self) {
                    (self.arp_sha, self.arp_tha) = (EthAddr::BROADCAST, EthAddr::BROADCAST);
                    self.nd_target = U128::MAX;
                } else {
                    (self.ct_ipv6_src, self.ct_ipv6_dst) = (U128::MAX, U128::MAX);
                }
            }
            eth_type::ARP | eth_type::RARP => {
                (self.nw_src, self.nw_dst, self.nw_proto) = (u32::MAX, u32::MAX, 0xff);
                (self.arp_sha, self.arp_tha) = (EthAddr::BROADCAST, EthAddr::BROADCAST);
                return;
            }
            eth_type::MPLS | eth_type::MPLS_MCAST => {
                const BOTTOM: u32 = 0x100;
                let above = flow.mpls_lse.iter().take_while(|l| **l & BOTTOM == 0).count();
                self.mpls_lse.iter_mut().take(above + 1).for_each(|l| *l = u32::MAX);
                return;
            }
            _ if flow.dl_type == eth_type::NSH => self.nsh = Mask::EXACT.0.nsh,
            _ => return,
        }
        self.add_transport(flow);
    }

    fn add_transport(&mut self, flow: &Flow) {
        self.nw_frag |= NW_FRAG_ANY | NW_FRAG_LATER;
        (self.nw_tos, self.nw_ttl, self.nw_proto) = (0xff, 0xff, 0xff);
        (self.ct_nw_proto, self.ct_tp_src, self.ct_tp_dst) = (0xff, 0xffff, 0xffff);
        let ports = matches!(
            flow.nw_proto,
            ip_proto::ICMP
                | ip_proto::ICMPV6
                | ip_proto::TCP
                | ip_proto::UDP
                | ip_proto::SCTP
                | ip_proto::IGMP
        );
        if ports && flow.nw_frag & NW_FRAG_LATER == 0 {
            (self.tp_src, self.tp_dst) = (0xffff, 0xffff);
            match flow.nw_proto {
                ip_proto::TCP => self.tcp_flags = 0xffff,
                ip_proto::IGMP => self.igmp_group_ip4 = u32::MAX,
                _ => {}
            }
        }
    }
}
