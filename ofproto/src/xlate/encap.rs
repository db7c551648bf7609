//! `encap` and `decap`: headers that make another type of packet of it (ovs-actions(7)).

use super::ctx::Ctx;
use super::mpls::{count_labels, pop_label, push_label};
use super::trace::NodeKind;
use dpif::DropReason;
use flow::{EthAddr, MPLS_LABELS_MAX, Nsh, PT_ETH, packet_type_of_ethertype, word};
use openflow::action::{Decap, Encap, EncapProperty};
use packet::proto::{ethertype, nsh, packet_type};

const PT_MPLS_MC: u32 = packet_type_of_ethertype(ethertype::MPLS_MCAST);
/// Variable context that an NSH header can have (RFC 8300: 63 words less the base).
const NSH_CONTEXT_MAX: usize = 248;
const NSH_TTL: u8 = 63;
const NSH_PATH_HDR: u32 = 255;
/// What is behind a label that does not say: an Ethernet frame.
const ETH_TYPE_TEB: u16 = 0x6558;

impl Ctx<'_> {
    pub fn encap(&mut self, a: &Encap) {
        self.commit();
        match a.new_pkt_type {
            PT_ETH => self.encap_ethernet(),
            packet_type::NSH => self.encap_nsh(a),
            _ => self.encap_mpls(a.new_pkt_type),
        }
        self.pending_encap = self.error == DropReason::Ok;
    }

    fn refuse(&mut self, text: String) {
        self.report(NodeKind::Action, || text);
        self.error = DropReason::UnsupportedPacketType;
    }

    fn encap_ethernet(&mut self) {
        self.wc.packet_type = u32::MAX;
        if self.flow.packet_type >> 16 != 1 {
            let text = "Dropping packet as encap(ethernet) is not supported for packet type ethernet.";
            self.refuse(text.to_owned());
            return;
        }
        let f = &mut self.flow;
        f.dl_type = f.packet_type as u16;
        f.packet_type = PT_ETH;
        (f.dl_src, f.dl_dst) = (EthAddr::ZERO, EthAddr::ZERO);
    }

    fn encap_mpls(&mut self, new_type: u32) {
        let n = count_labels(&self.flow, &mut self.wc);
        if n >= MPLS_LABELS_MAX {
            self.too_many_labels("an encap MPLS action can't be performed as it would have");
            return;
        }
        self.wc.packet_type = u32::MAX;
        let f = &mut self.flow;
        // Labels behind an Ethernet header are payload of the new one.
        if f.packet_type == PT_ETH && f.dl_type == ethertype::MPLS {
            self.wc.0.mpls_lse.fill(0);
            f.mpls_lse.fill(0);
            self.base.mpls_lse.fill(0);
        }
        f.packet_type = new_type;
        push_label(f, n, new_type as u16, &mut self.wc);
        (f.dl_src, f.dl_dst) = (EthAddr::ZERO, EthAddr::ZERO);
    }

    fn encap_nsh(&mut self, a: &Encap) {
        let was = self.flow.packet_type;
        let np = match was {
            PT_ETH => nsh::NP_ETHERNET,
            packet_type::IPV4 => nsh::NP_IPV4,
            packet_type::IPV6 => nsh::NP_IPV6,
            packet_type::NSH => nsh::NP_NSH,
            _ => {
                let (ns, of_ns) = (was >> 16, was & 0xffff);
                let what = "Dropping packet as encap(nsh) is not supported for packet type";
                self.refuse(format!("{what} ({ns},0x{of_ns:x})"));
                return;
            }
        };
        let mut mdtype = nsh::MD1;
        let mut md2 = Vec::new();
        for p in &a.properties {
            match p {
                EncapProperty::NshMdType(t) => mdtype = *t,
                EncapProperty::NshTlv { class, kind, len, data } => {
                    md2.extend(class.to_be_bytes());
                    md2.extend([*kind, *len]);
                    let len = usize::from(*len);
                    let start = md2.len();
                    md2.extend(data.iter().take(len));
                    md2.resize(start + len.next_multiple_of(4), 0);
                }
            }
        }
        self.nsh_md2 = if mdtype == nsh::MD2 && md2.len() <= NSH_CONTEXT_MAX { md2 } else { Vec::new() };
        self.wc.packet_type = u32::MAX;
        let f = &mut self.flow;
        f.words_mut()[word::L2..word::TUNNEL].fill(0);
        f.packet_type = packet_type::NSH;
        f.dl_type = ethertype::NSH;
        f.nsh = Nsh { ttl: NSH_TTL, mdtype, np, path_hdr: NSH_PATH_HDR, ..Nsh::default() };
    }

    pub fn decap(&mut self, a: &Decap) {
        self.commit();
        match self.flow.packet_type {
            PT_ETH => self.decap_ethernet(),
            packet_type::NSH => self.decap_nsh(),
            packet_type::MPLS | PT_MPLS_MC => self.decap_mpls(a.new_pkt_type),
            other => {
                let (ns, of_ns) = (other >> 16, other & 0xffff);
                let what = "Dropping packet as the decap() does not support packet type";
                self.refuse(format!("{what} ({ns},0x{of_ns:x})"));
            }
        }
    }

    fn decap_ethernet(&mut self) {
        if self.flow.vlans[0].is_present() {
            self.refuse("Dropping packet, cannot decap Ethernet if VLAN is present.".to_owned());
            return;
        }
        let f = &mut self.flow;
        f.packet_type = packet_type_of_ethertype(f.dl_type);
        (f.dl_src, f.dl_dst) = (EthAddr::ZERO, EthAddr::ZERO);
        self.wc.dl_type = u16::MAX;
    }

    fn decap_nsh(&mut self) {
        self.flow.packet_type = match self.flow.nsh.np {
            nsh::NP_ETHERNET => PT_ETH,
            nsh::NP_IPV4 => packet_type::IPV4,
            nsh::NP_IPV6 => packet_type::IPV6,
            nsh::NP_NSH => packet_type::NSH,
            np => {
                self.refuse(format!("Dropping packet as NSH next protocol {np} is not supported"));
                return;
            }
        };
        self.wc.0.nsh.np = u8::MAX;
        self.pending_decap = true;
        self.freeze_behind();
    }

    fn decap_mpls(&mut self, new_type: u32) {
        self.flow.packet_type = new_type;
        let inner = match new_type as u16 {
            0 => ETH_TYPE_TEB,
            t => t,
        };
        let n = count_labels(&self.flow, &mut self.wc);
        if pop_label(&mut self.flow, n, inner, &mut self.wc) {
            self.pending_decap = true;
            if n == 1 {
                self.freeze_behind();
            }
        } else if n >= MPLS_LABELS_MAX {
            self.too_many_labels("an MPLS decap can't be performed as it has");
            self.actions.clear();
        }
    }

    pub fn dec_nsh_ttl(&mut self) {
        if self.flow.packet_type == packet_type::NSH || self.flow.dl_type == ethertype::NSH {
            self.wc.0.nsh.ttl = u8::MAX;
            if self.flow.nsh.ttl > 1 {
                self.flow.nsh.ttl -= 1;
                return;
            }
            self.invalid_ttl();
        }
        self.warn("NSH decrement TTL exception");
        self.end_list = true;
    }
}
