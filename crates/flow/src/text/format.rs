//! Matches and flows to text, field by field in OVS's order.

use super::value::format_port;
use super::*;
use crate::field::Field;
use crate::flow_match::Match;
use crate::key::*;
use crate::prereq::{eth_type, ip_proto};
use crate::tlv::{TLV_FIELDS, TlvTable};
use std::fmt::{self, Display};

const DEFAULT_PRIORITY: u32 = 0x8000;
const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;
/// The tunnel flags that can be seen in text.
const TUN_FLAGS_SHOWN: u16 = 0xf;

/// C's `%#x`.
struct Alt<T>(T);

impl<T: fmt::LowerHex + PartialEq + Default> Display for Alt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == T::default() { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

struct Out<'a> {
    parts: Vec<String>,
    m: &'a Match,
    f: &'a Flow,
    k: &'a Mask,
    names: &'a dyn PortNames,
    tlv: Option<&'a TlvTable>,
    /// The Ethernet type, or the packet type that stands for it.
    dl_type: u16,
}

impl Out<'_> {
    fn kv(&mut self, name: impl Display, value: impl Display) {
        self.parts.push(format!("{name}={value}"));
    }

    fn word(&mut self, word: &str) {
        self.parts.push(word.into());
    }

    /// Hexadecimal, with a mask unless it is `all`.
    fn hex<T>(&mut self, name: impl Display, v: T, mask: T, all: T)
    where
        T: fmt::LowerHex + PartialEq + Default + Copy,
    {
        if mask == T::default() {
        } else if mask == all {
            self.kv(name, Alt(v));
        } else {
            self.kv(name, format_args!("{}/{}", Alt(v), Alt(mask)));
        }
    }

    fn dec16(&mut self, name: &str, v: u16, mask: u16) {
        match mask {
            0 => {}
            u16::MAX => self.kv(name, v),
            _ => self.kv(name, format_args!("{v:#x}/{mask:#x}")),
        }
    }

    fn dec32(&mut self, name: &str, v: u32, mask: u32) {
        match mask {
            0 => {}
            u32::MAX => self.kv(name, v),
            _ => self.kv(name, format_args!("0x{v:08x}/0x{mask:08x}")),
        }
    }

    fn dec8(&mut self, name: &str, v: u8, mask: u8) {
        match mask {
            0 => {}
            u8::MAX => self.kv(name, v),
            _ => self.kv(name, format_args!("0x{v:02x}/0x{mask:02x}")),
        }
    }

    fn mac(&mut self, name: &str, v: EthAddr, mask: EthAddr) {
        match mask {
            EthAddr::ZERO => {}
            EthAddr::BROADCAST => self.kv(name, v),
            _ => self.kv(name, format_args!("{v}/{mask}")),
        }
    }

    fn ipv4(&mut self, name: &str, v: u32, mask: u32) {
        if mask != 0 {
            self.kv(name, ipv4_masked_text(v, mask));
        }
    }

    fn ipv6(&mut self, name: &str, v: U128, mask: U128) {
        if !mask.is_zero() {
            self.kv(name, ipv6_masked_text(v.into(), mask.into()));
        }
    }

    /// `value` if any bit of `mask` is set.
    fn any(&mut self, name: &str, mask: impl Into<u64>, value: impl Display) {
        if mask.into() != 0 {
            self.kv(name, value);
        }
    }

    fn metadata(&mut self) {
        let (f, k) = (self.f, self.k);
        self.hex("pkt_mark", f.pkt_mark, k.pkt_mark, u32::MAX);
        self.hex("recirc_id", f.recirc_id, k.recirc_id, u32::MAX);
        self.hex("dp_hash", f.dp_hash, k.dp_hash, u32::MAX);
        self.any("conj_id", k.conj_id, f.conj_id);
        self.any("skb_priority", k.skb_priority, Alt(f.skb_priority));
        self.any("actset_output", k.actset_output, format_port(f.actset_output as u16, self.names));
    }

    fn conntrack(&mut self) {
        let (f, k) = (self.f, self.k);
        if k.ct_state != 0 {
            self.kv("ct_state", masked_flags_text(CT_STATE, f.ct_state, k.ct_state & 0xff, 0xff));
        }
        self.dec16("ct_zone", f.ct_zone, k.ct_zone);
        self.hex("ct_mark", f.ct_mark, k.ct_mark, u32::MAX);
        self.hex("ct_label", u128::from(f.ct_label), u128::from(k.ct_label), u128::MAX);
        self.ipv4("ct_nw_src", f.ct_nw_src, k.ct_nw_src);
        self.ipv6("ct_ipv6_src", f.ct_ipv6_src, k.ct_ipv6_src);
        self.ipv4("ct_nw_dst", f.ct_nw_dst, k.ct_nw_dst);
        self.ipv6("ct_ipv6_dst", f.ct_ipv6_dst, k.ct_ipv6_dst);
        if k.ct_nw_proto != 0 {
            self.kv("ct_nw_proto", f.ct_nw_proto);
            self.dec16("ct_tp_src", f.ct_tp_src, k.ct_tp_src);
            self.dec16("ct_tp_dst", f.ct_tp_dst, k.ct_tp_dst);
        }
    }

    fn packet_type(&mut self) {
        let (f, k) = (self.f, self.k);
        // A megaflow (one that matches on recirculation) shows even the usual packet type.
        if k.packet_type != 0 && (!self.m.has_default_packet_type() || k.recirc_id != 0) {
            self.parts.push(packet_type_text(f.packet_type, k.packet_type));
            if f.packet_type >> 16 == 1 {
                self.dl_type = f.packet_type as u16;
            }
        }
    }

    /// A word for Ethernet type and protocol. Returns whether each needs no more mention.
    fn protocol(&mut self) -> (bool, bool) {
        if self.k.dl_type == 0 {
            return (false, false);
        }
        let proto = (self.k.nw_proto != 0).then_some(self.f.nw_proto);
        let l4 = match (self.dl_type, proto) {
            (eth_type::IPV4, Some(ip_proto::ICMP)) => "icmp",
            (eth_type::IPV4, Some(ip_proto::TCP)) => "tcp",
            (eth_type::IPV4, Some(ip_proto::UDP)) => "udp",
            (eth_type::IPV4, Some(ip_proto::SCTP)) => "sctp",
            (eth_type::IPV6, Some(ip_proto::ICMPV6)) => "icmp6",
            (eth_type::IPV6, Some(ip_proto::TCP)) => "tcp6",
            (eth_type::IPV6, Some(ip_proto::UDP)) => "udp6",
            (eth_type::IPV6, Some(ip_proto::SCTP)) => "sctp6",
            _ => "",
        };
        let l3 = match self.dl_type {
            eth_type::IPV4 => "ip",
            eth_type::IPV6 => "ipv6",
            eth_type::ARP => "arp",
            eth_type::RARP => "rarp",
            eth_type::MPLS => "mpls",
            eth_type::MPLS_MCAST => "mplsm",
            _ => return (false, false),
        };
        self.word(if l4.is_empty() { l3 } else { l4 });
        (true, !l4.is_empty())
    }

    fn tunnel(&mut self) {
        let (t, k) = (&self.f.tunnel, &self.k.tunnel);
        self.hex("tun_id", t.id, k.id, u64::MAX);
        self.ipv4("tun_src", t.src, k.src);
        self.ipv4("tun_dst", t.dst, k.dst);
        self.ipv6("tun_ipv6_src", t.ipv6_src, k.ipv6_src);
        self.ipv6("tun_ipv6_dst", t.ipv6_dst, k.ipv6_dst);
        self.dec16("tun_gbp_id", t.gbp_id, k.gbp_id);
        self.any("tun_gbp_flags", k.gbp_flags, Alt(t.gbp_flags));
        self.any("tun_tos", k.tos, format_args!("{:x}", t.tos));
        self.any("tun_ttl", k.ttl, t.ttl);
        self.any("tun_erspan_ver", k.erspan_ver, t.erspan_ver);
        if t.erspan_ver == 1 {
            self.any("tun_erspan_idx", k.erspan_idx, Alt(t.erspan_idx));
        }
        if t.erspan_ver == 2 {
            self.any("tun_erspan_dir", k.erspan_dir, t.erspan_dir);
            self.any("tun_erspan_hwid", k.erspan_hwid, Alt(t.erspan_hwid));
        }
        self.any("gtpu_flags", k.gtpu_flags, Alt(t.gtpu_flags));
        self.any("gtpu_msgtype", k.gtpu_msgtype, t.gtpu_msgtype);
        let shown = k.flags & TUN_FLAGS_SHOWN;
        if shown != 0 {
            let flags = (t.flags & TUN_FLAGS_SHOWN).into();
            self.kv("tun_flags", masked_flags_text(TUN_FLAGS, flags, shown.into(), TUN_FLAGS_SHOWN.into()));
        }
        if t.flags & tun_flags::UDPIF == 0 && (self.tlv.is_some() || self.m.tlv.is_some()) {
            self.tunnel_options();
        }
    }

    fn tunnel_options(&mut self) {
        let table = self.m.tlv_table(self.tlv);
        for i in (0..TLV_FIELDS).filter(|i| self.k.tunnel.metadata_present >> i & 1 != 0) {
            let name = format!("tun_metadata{i}");
            let value = table.read(&self.f.tunnel, i).unwrap_or_default();
            let mask = table.read(&self.k.tunnel, i).unwrap_or_default();
            let masked = match &self.m.tlv {
                Some(alloc) => alloc.masked >> i & 1 != 0,
                None => mask.is_empty() || !mask.is_ones(),
            };
            if self.f.tunnel.metadata_present >> i & 1 == 0 {
                self.kv(name, "NP");
            } else if masked && mask.is_zero() {
                self.word(&name);
            } else if mask.is_ones() {
                self.kv(name, value);
            } else {
                self.kv(name, format_args!("{value}/{mask}"));
            }
        }
    }

    fn vlans(&mut self) {
        for i in 0..VLANS_MAX {
            let (tag, mask) = (self.f.vlans[i], self.k.vlans[i].tci);
            if mask == 0 {
                break;
            }
            let n = if i == 0 { String::new() } else { i.to_string() };
            let whole = |part: u16| mask & part == 0 || mask & part == part;
            if mask & VLAN_CFI != 0 && tag.is_present() && whole(VID) && whole(PCP) && mask & (VID | PCP) != 0
            {
                self.any(&format!("dl_vlan{n}"), mask & VID, tag.vid());
                self.any(&format!("dl_vlan_pcp{n}"), mask & PCP, tag.pcp());
            } else if mask == 0xffff {
                self.kv(format_args!("vlan_tci{n}"), format_args!("0x{:04x}", tag.tci));
            } else {
                self.kv(format_args!("vlan_tci{n}"), format_args!("0x{:04x}/0x{mask:04x}", tag.tci));
            }
        }
    }

    fn link(&mut self, type_said: bool) {
        let (f, k) = (self.f, self.k);
        for (i, (v, mask)) in f.regs.iter().zip(&k.regs).enumerate() {
            self.hex(format_args!("reg{i}"), *v, *mask, u32::MAX);
        }
        self.tunnel();
        self.hex("metadata", f.metadata, k.metadata, u64::MAX);
        self.any("in_port", k.in_port, format_port(f.in_port as u16, self.names));
        self.vlans();
        self.mac("dl_src", f.dl_src, k.dl_src);
        self.mac("dl_dst", f.dl_dst, k.dl_dst);
        if !type_said && k.dl_type != 0 {
            let dl_type = self.dl_type;
            self.kv("dl_type", format_args!("0x{dl_type:04x}"));
        }
    }

    fn network(&mut self, proto_said: bool) {
        let (f, k) = (self.f, self.k);
        let arp = matches!(self.dl_type, eth_type::ARP | eth_type::RARP);
        match self.dl_type {
            eth_type::IPV6 => {
                self.ipv6("ipv6_src", f.ipv6_src, k.ipv6_src);
                self.ipv6("ipv6_dst", f.ipv6_dst, k.ipv6_dst);
                match k.ipv6_label {
                    0 => {}
                    u32::MAX => self.kv("ipv6_label", format_args!("0x{:05x}", f.ipv6_label)),
                    m => self.kv("ipv6_label", format_args!("0x{:05x}/0x{m:05x}", f.ipv6_label)),
                }
            }
            eth_type::NSH => self.nsh(),
            _ => {
                self.ipv4(if arp { "arp_spa" } else { "nw_src" }, f.nw_src, k.nw_src);
                self.ipv4(if arp { "arp_tpa" } else { "nw_dst" }, f.nw_dst, k.nw_dst);
            }
        }
        if !proto_said {
            self.any(if arp { "arp_op" } else { "nw_proto" }, k.nw_proto, f.nw_proto);
        }
        if arp {
            self.mac("arp_sha", f.arp_sha, k.arp_sha);
            self.mac("arp_tha", f.arp_tha, k.arp_tha);
        }
        self.any("nw_tos", k.nw_tos & 0xfc, f.nw_tos & 0xfc);
        self.any("nw_ecn", k.nw_tos & 3, f.nw_tos & 3);
        self.any("nw_ttl", k.nw_ttl, f.nw_ttl);
        for field in [Field::MplsLabel, Field::MplsTc, Field::MplsTtl, Field::MplsBos] {
            self.any(field.name(), !field.is_all_wild(k), field.get_u64(f));
        }
        self.dec32("mpls_lse1", f.mpls_lse[1], k.mpls_lse[1]);
        self.dec32("mpls_lse2", f.mpls_lse[2], k.mpls_lse[2]);
        if k.nw_frag & 3 != 0 {
            self.kv("nw_frag", frag_text(f.nw_frag, k.nw_frag));
        }
    }

    fn nsh(&mut self) {
        let (n, k) = (&self.f.nsh, &self.k.nsh);
        self.dec8("nsh_flags", n.flags, k.flags);
        self.dec8("nsh_ttl", n.ttl, k.ttl);
        self.dec8("nsh_mdtype", n.mdtype, k.mdtype);
        self.dec8("nsh_np", n.np, k.np);
        let plain_hex = |v: u32| format!("0x{v:x}");
        let spi_mask = k.path_hdr >> 8;
        if spi_mask == 0xff_ffff {
            self.kv("nsh_spi", plain_hex(n.path_hdr >> 8));
        } else if spi_mask != 0 {
            self.kv("nsh_spi", format_args!("{}/{}", plain_hex(n.path_hdr >> 8), plain_hex(spi_mask)));
        }
        self.dec8("nsh_si", n.path_hdr as u8, k.path_hdr as u8);
        if k.mdtype == 0xff && n.mdtype == 1 {
            for (i, (v, m)) in n.context.iter().zip(&k.context).enumerate() {
                match *m {
                    0 => {}
                    u32::MAX => self.kv(format_args!("nsh_c{}", i + 1), plain_hex(*v)),
                    m => self.kv(
                        format_args!("nsh_c{}", i + 1),
                        format_args!("{}/{}", plain_hex(*v), plain_hex(m)),
                    ),
                }
            }
        }
    }

    fn transport(&mut self) {
        let (f, k) = (self.f, self.k);
        let icmp = self.dl_type == eth_type::IPV4 && f.nw_proto == ip_proto::ICMP;
        let icmp6 = self.dl_type == eth_type::IPV6 && f.nw_proto == ip_proto::ICMPV6;
        let (src, dst) = if icmp || icmp6 { ("icmp_type", "icmp_code") } else { ("tp_src", "tp_dst") };
        self.dec16(src, f.tp_src, k.tp_src);
        self.dec16(dst, f.tp_dst, k.tp_dst);
        if icmp6 {
            self.ipv6("nd_target", f.nd_target, k.nd_target);
            self.mac("nd_sll", f.arp_sha, k.arp_sha);
            self.mac("nd_tll", f.arp_tha, k.arp_tha);
            self.dec32("nd_reserved", f.nd_reserved, k.nd_reserved);
            self.any("nd_options_type", k.nd_options_type, f.nd_options_type);
        }
        if f.is_ip_any() && f.nw_proto == ip_proto::TCP && k.tcp_flags != 0 {
            let mask = u32::from(k.tcp_flags) & 0xfff;
            self.kv("tcp_flags", masked_flags_text(TCP_FLAGS, f.tcp_flags.into(), mask, 0xfff));
        }
    }
}

fn frag_text(v: u8, mask: u8) -> &'static str {
    let (any, later) = (v & NW_FRAG_ANY != 0, v & NW_FRAG_LATER != 0);
    match (mask & 3, any, later) {
        (3, true, true) => "later",
        (3, true, false) => "first",
        (3, false, true) => "<error>",
        (NW_FRAG_ANY, true, _) => "yes",
        (NW_FRAG_LATER, _, true) => "later",
        (NW_FRAG_LATER, _, false) => "not_later",
        _ => "no",
    }
}

/// A match as `ovs-ofctl dump-flows` shows it: `priority=` first unless it is the default or none is
/// given. `tlv` is the bridge's table if the match was made with it.
pub fn format_match(
    m: &Match,
    priority: Option<u32>,
    names: &dyn PortNames,
    tlv: Option<&TlvTable>,
) -> String {
    let mut out = Out { parts: Vec::new(), m, f: &m.flow, k: &m.mask, names, tlv, dl_type: m.flow.dl_type };
    if let Some(p) = priority.filter(|p| *p != DEFAULT_PRIORITY) {
        out.kv("priority", p);
    }
    out.metadata();
    out.conntrack();
    out.packet_type();
    let (type_said, proto_said) = out.protocol();
    out.link(type_said);
    out.network(proto_said);
    out.transport();
    out.parts.join(",")
}

/// A packet's key as the "Flow:" lines of `ofproto/trace` show it: all that the packet has, and of its
/// context what is not zero.
pub fn flow_to_string(flow: &Flow, names: &dyn PortNames, tlv: Option<&TlvTable>) -> String {
    let mut m = Match { flow: flow.clone(), mask: Mask::for_packet(flow), tlv: None };
    let valid_ct = Field::CtNwProto.prereqs_ok(flow, &m.mask);
    let k = &mut m.mask;
    k.regs = flow.regs.map(|r| if r != 0 { u32::MAX } else { 0 });
    k.metadata = if flow.metadata != 0 { u64::MAX } else { 0 };
    for field in [
        Field::InPort,
        Field::SkbPriority,
        Field::PktMark,
        Field::RecircId,
        Field::DpHash,
        Field::CtState,
        Field::CtZone,
        Field::CtMark,
        Field::CtLabel,
    ] {
        if field.get(flow).is_zero() {
            field.set_mask(k, &crate::Value::zero(field.n_bytes()));
        }
    }
    if !valid_ct || flow.ct_nw_proto == 0 {
        (k.ct_nw_proto, k.ct_tp_src, k.ct_tp_dst) = (0, 0, 0);
        if flow.dl_type == eth_type::IPV4 {
            (k.ct_nw_src, k.ct_nw_dst) = (0, 0);
        } else if flow.dl_type == eth_type::IPV6 {
            (k.ct_ipv6_src, k.ct_ipv6_dst) = (U128::ZERO, U128::ZERO);
        }
    }
    format_match(&m, None, names, tlv)
}

impl Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_match(self, None, &NoNames, None))
    }
}
