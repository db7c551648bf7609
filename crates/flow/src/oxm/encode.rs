//! A match to entries, in OVS's order (which is visible to anyone who compares bytes).

use super::entry::{Header, put_raw};
use super::{match_type, padding};
use crate::field::{Field, Maskable, Prereq, ofp};
use crate::flow_match::Match;
use crate::prereq::{eth_type, ip_proto};
use crate::tlv::TlvTable;
use crate::value::Value;
use Field as F;
use zerocopy::{Immutable, IntoBytes};

/// First entries: pipeline data.
const METADATA: &[F] = &[F::DpHash, F::RecircId, F::ConjId];
const TUNNEL: &[F] =
    &[F::TunId, F::TunFlags, F::TunSrc, F::TunDst, F::TunIpv6Src, F::TunIpv6Dst, F::TunGbpId, F::TunGbpFlags];
const AFTER_TUNNEL_OPTIONS: &[F] = &[
    F::TunErspanIdx,
    F::TunErspanVer,
    F::TunErspanDir,
    F::TunErspanHwid,
    F::TunGtpuFlags,
    F::TunGtpuMsgtype,
];
const NSH: &[F] = &[
    F::NshFlags,
    F::NshTtl,
    F::NshMdtype,
    F::NshNp,
    F::NshSpi,
    F::NshSi,
    F::NshC1,
    F::NshC2,
    F::NshC3,
    F::NshC4,
];
const CONNTRACK: &[F] = &[
    F::PktMark,
    F::CtState,
    F::CtZone,
    F::CtMark,
    F::CtLabel,
    F::CtNwSrc,
    F::CtIpv6Src,
    F::CtNwDst,
    F::CtIpv6Dst,
];
const CT_L4: &[F] = &[F::CtNwProto, F::CtTpSrc, F::CtTpDst];
const ARP: &[F] = &[F::ArpOp, F::ArpSpa, F::ArpTpa, F::ArpSha, F::ArpTha];
const MPLS: &[F] = &[F::MplsTc, F::MplsBos, F::MplsTtl, F::MplsLabel];

/// Whether none of these fields matters: most matches have none of a whole group.
fn is_zero<T: IntoBytes + Immutable + ?Sized>(part: &T) -> bool {
    part.as_bytes().iter().fold(0, |all, b| all | b) == 0
}

struct Encoder<'a> {
    m: &'a Match,
    tlv: &'a TlvTable,
    /// [`ofp::NXM`] or an OpenFlow version.
    version: u8,
    out: Vec<u8>,
    /// An entry says that this is about Ethernet frames.
    implied_ethernet: bool,
}

impl Encoder<'_> {
    fn oxm(&self) -> bool {
        self.version != ofp::NXM
    }

    /// Writes an entry for `field` if any of its bits matter.
    fn put(&mut self, field: Field) {
        if field.is_all_wild(&self.m.mask) {
            return;
        }
        let (value, mask) = self.m.get(field);
        // These two keep in the key fewer bits than a mask on the wire has, and OVS sends what it keeps.
        let kept = match field {
            F::TunFlags => Some(Value::from(self.m.mask.tunnel.flags)),
            F::CtState => Some(Value::from(self.m.mask.ct_state)),
            _ if mask.is_ones() || field.info().maskable == Maskable::No => None,
            _ => Some(mask),
        };
        put_raw(&mut self.out, field, self.version, &value, kept.as_ref());
        self.implied_ethernet |= field.info().prereq != Prereq::None;
    }

    fn put_all(&mut self, fields: &[Field]) {
        fields.iter().for_each(|f| self.put(*f));
    }

    fn ethernet(&mut self) {
        self.put_all(&[F::EthSrc, F::EthDst, F::EthType]);
        if !self.oxm() {
            self.put(F::VlanTci);
            return;
        }
        self.put(F::VlanVid);
        if self.m.flow.vlans[0].tci & 0x1fff != 0 {
            self.put(F::VlanPcp);
        }
    }

    fn network(&mut self) {
        let flow = &self.m.flow;
        match flow.effective_dl_type() {
            eth_type::MPLS | eth_type::MPLS_MCAST => self.put_all(MPLS),
            eth_type::ARP | eth_type::RARP => self.put_all(ARP),
            eth_type::IPV4 => {
                self.put_all(&[F::Ipv4Src, F::Ipv4Dst]);
                self.ip();
            }
            eth_type::IPV6 => {
                self.put_all(&[F::Ipv6Src, F::Ipv6Dst]);
                self.ip();
            }
            _ => {}
        }
    }

    fn ip(&mut self) {
        let dscp = if self.oxm() { F::IpDscpShifted } else { F::IpDscp };
        self.put_all(&[F::IpFrag, dscp, F::IpEcn, F::IpTtl, F::Ipv6Label]);
        if self.m.mask.nw_proto == 0 {
            return;
        }
        self.put(F::IpProto);
        let flow = &self.m.flow;
        match flow.nw_proto {
            ip_proto::TCP => self.put_all(&[F::TcpSrc, F::TcpDst, F::TcpFlags]),
            ip_proto::UDP => self.put_all(&[F::UdpSrc, F::UdpDst]),
            ip_proto::SCTP => self.put_all(&[F::SctpSrc, F::SctpDst]),
            _ if flow.is_icmpv4() => self.put_all(&[F::Icmpv4Type, F::Icmpv4Code]),
            _ if flow.is_icmpv6() => {
                self.put_all(&[F::Icmpv6Type, F::Icmpv6Code]);
                if flow.is_nd() {
                    let lla = if flow.is_nd_solicit() { F::NdSll } else { F::NdTll };
                    self.put_all(&[F::NdReserved, F::NdTarget, F::NdOptionsType, lla]);
                }
            }
            _ => {}
        }
    }

    fn tunnel_options(&mut self) {
        let present = self.m.mask.tunnel.metadata_present;
        for i in (0..crate::tlv::TLV_FIELDS).filter(|i| present >> i & 1 != 0) {
            let value = self.tlv.read(&self.m.flow.tunnel, i).unwrap_or_default();
            let mask = self.tlv.read(&self.m.mask.tunnel, i).unwrap_or_default();
            let masked = match &self.m.tlv {
                Some(alloc) => alloc.masked >> i & 1 != 0,
                None => mask.is_empty() || !mask.is_ones(),
            };
            if let Some(field) = Field::tun_metadata(i) {
                put_raw(&mut self.out, field, self.version, &value, masked.then_some(&mask));
            }
        }
    }

    fn registers(&mut self) {
        if is_zero(&self.m.mask.regs) {
            return;
        }
        if self.version < ofp::OF15 {
            (0..16).filter_map(Field::reg).for_each(|f| self.put(f));
        } else {
            (0..8).filter_map(Field::xreg).for_each(|f| self.put(f));
        }
    }

    fn all(&mut self) {
        let packet_type = self.m.mask.packet_type;
        if packet_type != 0 && !self.m.has_default_packet_type() {
            let mask = Value::from(packet_type);
            let value = F::PacketType.get(&self.m.flow);
            put_raw(&mut self.out, F::PacketType, self.version, &value, Some(&mask).filter(|m| !m.is_ones()));
        }
        self.put_all(METADATA);
        self.put(if self.oxm() { F::InPortOxm } else { F::InPort });
        self.put(F::ActsetOutput);
        self.ethernet();
        self.network();
        if !is_zero(&self.m.mask.tunnel) {
            self.put_all(TUNNEL);
            self.tunnel_options();
            self.put_all(AFTER_TUNNEL_OPTIONS);
        }
        if !is_zero(&self.m.mask.nsh) {
            self.put_all(NSH);
        }
        self.registers();
        self.put_all(CONNTRACK);
        if self.m.flow.ct_nw_proto != 0 {
            self.put_all(CT_L4);
        }
        self.put(F::Metadata);
    }
}

/// Appends entries for `m`, without padding, as OpenFlow `version` has them, or as NXM for
/// [`ofp::NXM`]. `tlv` is the bridge's table, needed if `m` was made with it.
pub fn encode(out: &mut Vec<u8>, m: &Match, version: u8, tlv: Option<&TlvTable>) {
    encode_with_cookie(out, m, version, tlv, 0, 0);
}

/// As [`encode`], with an entry for the cookie unless `cookie_mask` is 0.
pub fn encode_with_cookie(
    out: &mut Vec<u8>,
    m: &Match,
    version: u8,
    tlv: Option<&TlvTable>,
    cookie: u64,
    cookie_mask: u64,
) {
    let start = out.len();
    let tlv = m.tlv_table(tlv);
    let mut e = Encoder { m, tlv, version, out: std::mem::take(out), implied_ethernet: false };
    e.all();
    let implied = e.implied_ethernet;
    *out = e.out;
    if cookie_mask != 0 {
        put_cookie(out, cookie & cookie_mask, cookie_mask);
    }
    // Where nothing else tells that the match is for Ethernet frames, the packet type does, and comes first.
    if m.has_default_packet_type() && !implied {
        let mut pt = Vec::with_capacity(8);
        put_raw(&mut pt, F::PacketType, version, &F::PacketType.get(&m.flow), None);
        out.splice(start..start, pt);
    }
}

fn put_cookie(out: &mut Vec<u8>, cookie: u64, mask: u64) {
    let has_mask = mask != u64::MAX;
    let len = if has_mask { 16 } else { 8 };
    Header { class: crate::oxm_class::NXM_1, num: super::decode::COOKIE_NUM, has_mask, len, experimenter: 0 }
        .put(out);
    out.extend(cookie.to_be_bytes());
    if has_mask {
        out.extend(mask.to_be_bytes());
    }
}

/// Appends an NXM match with a cookie (mask 0 for none) and padding to a multiple of 8. Returns its length
/// without the padding.
pub fn put_nxm_match(
    out: &mut Vec<u8>,
    m: &Match,
    tlv: Option<&TlvTable>,
    cookie: u64,
    cookie_mask: u64,
) -> usize {
    let start = out.len();
    encode_with_cookie(out, m, ofp::NXM, tlv, cookie, cookie_mask);
    let len = out.len() - start;
    out.resize(out.len() + padding(len), 0);
    len
}

/// Appends a `struct ofp_match` of type OXM and padding to a multiple of 8. Returns its length without the
/// padding.
pub fn put_oxm_match(out: &mut Vec<u8>, m: &Match, version: u8, tlv: Option<&TlvTable>) -> usize {
    let start = out.len();
    out.extend(match_type::OXM.to_be_bytes());
    out.extend([0; 2]);
    encode(out, m, version, tlv);
    let len = out.len() - start;
    out[start + 2..start + 4].copy_from_slice(&(len as u16).to_be_bytes());
    out.resize(out.len() + padding(len), 0);
    len
}
