//! The fixed matches of OpenFlow 1.0 and 1.1.

use crate::field::Field;
use crate::flow_match::Match;
use crate::key::{EthAddr, Mask, VLAN_CFI};
use crate::oxm::{self, OxmError, match_type};
use crate::port;
use crate::prereq::{eth_type, ip_proto};
use crate::tlv::TlvTable;
use zerocopy::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;
const DSCP: u8 = 0xfc;

/// `struct ofp_match` of OpenFlow 1.0 (section 5.2.3).
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Default, Debug, Clone, PartialEq, Eq)]
struct Ofp10 {
    wildcards: U32,
    in_port: U16,
    dl_src: [u8; 6],
    dl_dst: [u8; 6],
    dl_vlan: U16,
    dl_vlan_pcp: u8,
    pad1: u8,
    dl_type: U16,
    nw_tos: u8,
    nw_proto: u8,
    pad2: [u8; 2],
    nw_src: U32,
    nw_dst: U32,
    tp_src: U16,
    tp_dst: U16,
}

/// Bytes of an OpenFlow 1.0 match.
pub const OFP10_MATCH_LEN: usize = 40;
const _: () = assert!(size_of::<Ofp10>() == OFP10_MATCH_LEN);

/// `OFPFW_*` of OpenFlow 1.0.
mod w10 {
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_SRC: u32 = 1 << 2;
    pub const DL_DST: u32 = 1 << 3;
    pub const DL_TYPE: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    pub const NW_SRC_SHIFT: u32 = 8;
    pub const NW_DST_SHIFT: u32 = 14;
    pub const DL_VLAN_PCP: u32 = 1 << 20;
    pub const NW_TOS: u32 = 1 << 21;
    /// Any of these clear makes the match one for Ethernet frames.
    pub const DATA: u32 =
        DL_VLAN | DL_SRC | DL_DST | DL_TYPE | NW_PROTO | TP_SRC | TP_DST | DL_VLAN_PCP | NW_TOS;
}

/// `struct ofp_match` of OpenFlow 1.1 (section A.2.3).
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Default, Debug, Clone, PartialEq, Eq)]
struct Ofp11 {
    kind: U16,
    length: U16,
    in_port: U32,
    wildcards: U32,
    dl_src: [u8; 6],
    dl_src_mask: [u8; 6],
    dl_dst: [u8; 6],
    dl_dst_mask: [u8; 6],
    dl_vlan: U16,
    dl_vlan_pcp: u8,
    pad1: u8,
    dl_type: U16,
    nw_tos: u8,
    nw_proto: u8,
    nw_src: U32,
    nw_src_mask: U32,
    nw_dst: U32,
    nw_dst_mask: U32,
    tp_src: U16,
    tp_dst: U16,
    mpls_label: U32,
    mpls_tc: u8,
    pad2: [u8; 3],
    metadata: U64,
    metadata_mask: U64,
}

/// Bytes of an OpenFlow 1.1 match, type and length included.
pub const OFP11_MATCH_LEN: usize = 88;
const _: () = assert!(size_of::<Ofp11>() == OFP11_MATCH_LEN);

/// `OFPFW_*` of OpenFlow 1.1.
mod w11 {
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_VLAN_PCP: u32 = 1 << 2;
    pub const DL_TYPE: u32 = 1 << 3;
    pub const NW_TOS: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    pub const MPLS_LABEL: u32 = 1 << 8;
    pub const MPLS_TC: u32 = 1 << 9;
}

/// `OFPVID_ANY` and `OFPVID_NONE`.
const VID_ANY: u16 = 0xfffe;
const VID_NONE: u16 = 0xffff;

/// The netmask that ignores the low `bits` (0 to 63, 32 and more for all).
fn netmask(bits: u32) -> u32 {
    u32::MAX.checked_shl(bits & 0x3f).unwrap_or(0)
}

/// The opposite of [`netmask`], for prefix masks.
fn wild_bits(mask: u32) -> u32 {
    mask.trailing_zeros()
}

fn mask10(w: u32) -> Mask {
    let mut m = Mask::NONE;
    let mut on = |bit: u32, f: Field| {
        if w & bit == 0 {
            f.unwildcard(&mut m);
        }
    };
    on(w10::IN_PORT, Field::InPort);
    on(w10::NW_TOS, Field::IpDscp);
    on(w10::NW_PROTO, Field::IpProto);
    on(w10::TP_SRC, Field::TcpSrc);
    on(w10::TP_DST, Field::TcpDst);
    on(w10::DL_SRC, Field::EthSrc);
    on(w10::DL_DST, Field::EthDst);
    on(w10::DL_TYPE, Field::EthType);
    on(w10::DL_VLAN_PCP, Field::DlVlanPcp);
    on(w10::DL_VLAN, Field::DlVlan);
    m.nw_src = netmask(w >> w10::NW_SRC_SHIFT);
    m.nw_dst = netmask(w >> w10::NW_DST_SHIFT);
    m
}

/// Decodes an OpenFlow 1.0 match. Any bytes are one.
pub fn decode_ofp10(bytes: &[u8; OFP10_MATCH_LEN]) -> Match {
    let o: Ofp10 = zerocopy::transmute!(*bytes);
    let w = o.wildcards.get();
    let mut m = Match { mask: mask10(w), ..Match::catchall() };
    if w & w10::DATA != w10::DATA || m.mask.nw_src != 0 || m.mask.nw_dst != 0 {
        m.set_default_packet_type();
    }
    let f = &mut m.flow;
    f.in_port = o.in_port.get().into();
    f.dl_src = EthAddr(o.dl_src);
    f.dl_dst = EthAddr(o.dl_dst);
    f.dl_type = o.dl_type.get();
    f.nw_src = o.nw_src.get();
    f.nw_dst = o.nw_dst.get();
    f.nw_tos = o.nw_tos & DSCP;
    f.nw_proto = o.nw_proto;
    f.tp_src = o.tp_src.get();
    f.tp_dst = o.tp_dst.get();
    if w & w10::DL_VLAN == 0 && o.dl_vlan.get() == crate::DL_VLAN_NONE {
        // Without a tag, whatever the priority is said to be.
        m.mask.vlans[0].tci = 0xffff;
    } else {
        f.vlans[0].tci = o.dl_vlan.get() & VID | u16::from(o.dl_vlan_pcp) << 13 | VLAN_CFI;
    }
    m.zero_wildcarded();
    m
}

/// Encodes `m` as an OpenFlow 1.0 match; what that cannot say is left out.
pub fn encode_ofp10(m: &Match) -> [u8; OFP10_MATCH_LEN] {
    let (f, k) = (&m.flow, &m.mask);
    let mut w = 0;
    for (bit, wild) in [
        (w10::IN_PORT, k.in_port == 0),
        (w10::DL_TYPE, k.dl_type == 0),
        (w10::NW_PROTO, k.nw_proto == 0),
        (w10::NW_TOS, k.nw_tos & DSCP == 0),
        (w10::TP_SRC, k.tp_src == 0),
        (w10::TP_DST, k.tp_dst == 0),
        (w10::DL_SRC, k.dl_src.is_zero()),
        (w10::DL_DST, k.dl_dst.is_zero()),
    ] {
        w |= if wild { bit } else { 0 };
    }
    w |= wild_bits(k.nw_src) << w10::NW_SRC_SHIFT | wild_bits(k.nw_dst) << w10::NW_DST_SHIFT;
    let (vlan, pcp, vlan_wild, pcp_wild) = match tag_of(m) {
        Tag::Any => (0, 0, true, true),
        Tag::None => (crate::DL_VLAN_NONE, 0, false, false),
        Tag::Some { vid, pcp } => (vid.unwrap_or(0), pcp.unwrap_or(0), vid.is_none(), pcp.is_none()),
    };
    w |= if vlan_wild { w10::DL_VLAN } else { 0 } | if pcp_wild { w10::DL_VLAN_PCP } else { 0 };
    let o = Ofp10 {
        wildcards: w.into(),
        in_port: (f.in_port as u16).into(),
        dl_src: f.dl_src.0,
        dl_dst: f.dl_dst.0,
        dl_vlan: vlan.into(),
        dl_vlan_pcp: pcp,
        dl_type: f.dl_type.into(),
        nw_tos: f.nw_tos & DSCP,
        nw_proto: f.nw_proto,
        nw_src: f.nw_src.into(),
        nw_dst: f.nw_dst.into(),
        tp_src: f.tp_src.into(),
        tp_dst: f.tp_dst.into(),
        ..Ofp10::default()
    };
    zerocopy::transmute!(o)
}

/// What a match asks of the outermost tag, as far as the fixed matches can tell.
enum Tag {
    Any,
    None,
    Some { vid: Option<u16>, pcp: Option<u8> },
}

fn tag_of(m: &Match) -> Tag {
    let (tag, mask) = (m.flow.vlans[0], m.mask.vlans[0].tci);
    if mask == 0 {
        Tag::Any
    } else if mask & VLAN_CFI != 0 && !tag.is_present() {
        Tag::None
    } else {
        Tag::Some { vid: (mask & VID != 0).then(|| tag.vid()), pcp: (mask & PCP != 0).then(|| tag.pcp()) }
    }
}

/// Decodes an OpenFlow 1.1 match of the standard type.
pub fn decode_ofp11(bytes: &[u8; OFP11_MATCH_LEN]) -> Result<Match, OxmError> {
    let o: Ofp11 = zerocopy::transmute!(*bytes);
    // Only 16 of the 32 bits exist.
    let w = o.wildcards.get() & 0xffff;
    let mut m = Match::catchall();
    if w & w11::IN_PORT == 0 {
        m.set_in_port(port::from_11(o.in_port.get()).ok_or(OxmError::BadValue)?);
    }
    let (src_mask, dst_mask) = (o.dl_src_mask.map(|b| !b), o.dl_dst_mask.map(|b| !b));
    if src_mask != [0; 6] || dst_mask != [0; 6] {
        m.set_masked(Field::EthSrc, EthAddr(o.dl_src), EthAddr(src_mask));
        m.set_masked(Field::EthDst, EthAddr(o.dl_dst), EthAddr(dst_mask));
        m.set_default_packet_type();
    }
    if w & w11::DL_VLAN == 0 {
        vlan11(&o, w, &mut m)?;
        m.set_default_packet_type();
    }
    if w & w11::DL_TYPE == 0 {
        m.set_dl_type(o.dl_type.get());
        m.set_default_packet_type();
    }
    network11(&o, w, &mut m)?;
    if matches!(m.flow.dl_type, eth_type::MPLS | eth_type::MPLS_MCAST) {
        if w & w11::MPLS_LABEL == 0 {
            m.set(Field::MplsLabel, o.mpls_label.get());
        }
        if w & w11::MPLS_TC == 0 {
            m.set(Field::MplsTc, o.mpls_tc);
        }
    }
    m.set_masked(Field::Metadata, o.metadata.get(), !o.metadata_mask.get());
    Ok(m)
}

fn vlan11(o: &Ofp11, w: u32, m: &mut Match) -> Result<(), OxmError> {
    let (mut tci, mut mask) = match o.dl_vlan.get() {
        VID_NONE => (0, 0xffff),
        VID_ANY => (VLAN_CFI, VLAN_CFI),
        vid if vid <= VID => (VLAN_CFI | vid, VLAN_CFI | VID),
        _ => return Err(OxmError::BadValue),
    };
    if w & w11::DL_VLAN_PCP == 0 && o.dl_vlan.get() != VID_NONE {
        if o.dl_vlan_pcp > 7 {
            return Err(OxmError::BadValue);
        }
        tci |= u16::from(o.dl_vlan_pcp) << 13;
        mask |= PCP;
    }
    m.set_masked(Field::VlanTci, tci, mask);
    Ok(())
}

fn network11(o: &Ofp11, w: u32, m: &mut Match) -> Result<(), OxmError> {
    let ipv4 = m.flow.dl_type == eth_type::IPV4;
    if ipv4 && w & w11::NW_TOS == 0 {
        if o.nw_tos & !DSCP != 0 {
            return Err(OxmError::BadValue);
        }
        m.set(Field::IpDscp, o.nw_tos);
    }
    if ipv4 || matches!(m.flow.dl_type, eth_type::ARP | eth_type::RARP) {
        if w & w11::NW_PROTO == 0 {
            m.set(Field::IpProto, o.nw_proto);
        }
        m.set_masked(Field::Ipv4Src, o.nw_src.get(), !o.nw_src_mask.get());
        m.set_masked(Field::Ipv4Dst, o.nw_dst.get(), !o.nw_dst_mask.get());
    }
    // The specification names TCP, UDP and SCTP only, but OpenFlow 1.0 had ICMP here too. The ports of
    // other protocols are ignored.
    let icmp = m.flow.nw_proto == ip_proto::ICMP;
    if !ipv4 || !icmp && !matches!(m.flow.nw_proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP) {
        return Ok(());
    }
    for (bit, field, port) in
        [(w11::TP_SRC, Field::TcpSrc, o.tp_src.get()), (w11::TP_DST, Field::TcpDst, o.tp_dst.get())]
    {
        if w & bit == 0 {
            if icmp && port > 0xff {
                return Err(OxmError::BadField);
            }
            m.set(field, port);
        }
    }
    Ok(())
}

/// Encodes `m` as an OpenFlow 1.1 match; what that cannot say is left out.
pub fn encode_ofp11(m: &Match) -> [u8; OFP11_MATCH_LEN] {
    let (f, k) = (&m.flow, &m.mask);
    let label = Field::MplsLabel.is_all_wild(k);
    let tc = Field::MplsTc.is_all_wild(k);
    let (vlan, pcp, vlan_wild, pcp_wild) = match tag_of(m) {
        Tag::Any => (0, 0, true, true),
        Tag::None => (VID_NONE, 0, false, true),
        Tag::Some { vid, pcp } => (vid.unwrap_or(VID_ANY), pcp.unwrap_or(0), false, pcp.is_none()),
    };
    let mut w = 0;
    for (bit, wild) in [
        (w11::IN_PORT, k.in_port == 0),
        (w11::DL_VLAN, vlan_wild),
        (w11::DL_VLAN_PCP, pcp_wild),
        (w11::DL_TYPE, k.dl_type == 0),
        (w11::NW_TOS, k.nw_tos & DSCP == 0),
        (w11::NW_PROTO, k.nw_proto == 0),
        (w11::TP_SRC, k.tp_src == 0),
        (w11::TP_DST, k.tp_dst == 0),
        (w11::MPLS_LABEL, label),
        (w11::MPLS_TC, tc),
    ] {
        w |= if wild { bit } else { 0 };
    }
    let o = Ofp11 {
        kind: match_type::STANDARD.into(),
        length: (OFP11_MATCH_LEN as u16).into(),
        in_port: if k.in_port == 0 { 0 } else { port::to_11(f.in_port) }.into(),
        wildcards: w.into(),
        dl_src: f.dl_src.0,
        dl_src_mask: k.dl_src.0.map(|b| !b),
        dl_dst: f.dl_dst.0,
        dl_dst_mask: k.dl_dst.0.map(|b| !b),
        dl_vlan: vlan.into(),
        dl_vlan_pcp: pcp,
        dl_type: f.dl_type.into(),
        nw_tos: f.nw_tos & DSCP,
        nw_proto: f.nw_proto,
        nw_src: f.nw_src.into(),
        nw_src_mask: (!k.nw_src).into(),
        nw_dst: f.nw_dst.into(),
        nw_dst_mask: (!k.nw_dst).into(),
        tp_src: f.tp_src.into(),
        tp_dst: f.tp_dst.into(),
        mpls_label: (Field::MplsLabel.get_u64(f) as u32).into(),
        mpls_tc: Field::MplsTc.get_u64(f) as u8,
        metadata: f.metadata.into(),
        metadata_mask: (!k.metadata).into(),
        ..Ofp11::default()
    };
    zerocopy::transmute!(o)
}

/// Takes a `struct ofp_match` of OpenFlow 1.1 or later, of either type, off the front of `b`.
pub fn pull_ofp11_match(b: &mut &[u8], opts: oxm::Options<'_>) -> Result<Match, OxmError> {
    let &[t0, t1, l0, l1, ..] = *b else { return Err(OxmError::BadLen) };
    match u16::from_be_bytes([t0, t1]) {
        match_type::STANDARD => {
            let (m, rest) = b.split_first_chunk::<OFP11_MATCH_LEN>().ok_or(OxmError::BadLen)?;
            if usize::from(u16::from_be_bytes([l0, l1])) != OFP11_MATCH_LEN {
                return Err(OxmError::BadLen);
            }
            *b = rest;
            decode_ofp11(m)
        }
        match_type::OXM => oxm::pull_oxm_match(b, opts),
        _ => Err(OxmError::BadType),
    }
}

/// Appends `m` as a `struct ofp_match` of OpenFlow `version` (1.1 or later), with padding. Returns its
/// length without the padding.
pub fn put_ofp11_match(out: &mut Vec<u8>, m: &Match, version: u8, tlv: Option<&TlvTable>) -> usize {
    if version == crate::ofp::OF11 {
        out.extend(encode_ofp11(m));
        OFP11_MATCH_LEN
    } else {
        oxm::put_oxm_match(out, m, version, tlv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oxm::tests::any_match;
    use proptest::prelude::*;

    #[test]
    fn known_bytes_10() {
        let mut m = Match::catchall().with(Field::InPort, 3u16);
        let all = w10::DATA & !w10::IN_PORT | 32 << 8 | 32 << 14;
        let b = encode_ofp10(&m);
        assert_eq!(b[..6], [&all.to_be_bytes()[..], &[0, 3]].concat());
        assert!(b[6..].iter().all(|b| *b == 0));
        assert_eq!(decode_ofp10(&b), m);
        m.set(Field::DlVlan, 0xffffu16);
        m.set_default_packet_type();
        let b = encode_ofp10(&m);
        assert_eq!(b[18..20], [0xff, 0xff]);
        assert_eq!(decode_ofp10(&b), m);
    }

    #[test]
    fn errors_11() {
        let good = encode_ofp11(&Match::catchall().with(Field::EthType, 0x800u16).with(Field::IpProto, 1u8));
        let bad = |at: usize, bytes: &[u8], clear: u32| {
            let mut b = good;
            b[at..at + bytes.len()].copy_from_slice(bytes);
            let w = u32::from_be_bytes([b[8], b[9], b[10], b[11]]) & !clear;
            b[8..12].copy_from_slice(&w.to_be_bytes());
            decode_ofp11(&b).map(|_| ())
        };
        assert_eq!(bad(0, &[], 0), Ok(()));
        assert_eq!(bad(4, &[0, 1, 0, 0], w11::IN_PORT), Err(OxmError::BadValue));
        assert_eq!(bad(36, &[0x10, 0], w11::DL_VLAN), Err(OxmError::BadValue));
        assert_eq!(bad(36, &[0, 1, 8], w11::DL_VLAN | w11::DL_VLAN_PCP), Err(OxmError::BadValue));
        assert_eq!(bad(42, &[1], w11::NW_TOS), Err(OxmError::BadValue));
        assert_eq!(bad(60, &[1, 0], w11::TP_SRC), Err(OxmError::BadField));
        let mut b = &good[..];
        assert!(pull_ofp11_match(&mut b, oxm::Options::default()).is_ok() && b.is_empty());
        assert_eq!(pull_ofp11_match(&mut &good[..80], oxm::Options::default()), Err(OxmError::BadLen));
        assert_eq!(
            pull_ofp11_match(&mut &[0, 2, 0, 88][..], oxm::Options::default()),
            Err(OxmError::BadType)
        );
    }

    proptest! {
        #[test]
        fn decoding_is_total(a: [u8; OFP10_MATCH_LEN], b: Vec<u8>, w: u32) {
            let m = decode_ofp10(&a);
            prop_assert_eq!(&m.mask.apply(&m.flow), &m.flow);
            let again = decode_ofp10(&encode_ofp10(&m));
            prop_assert!(again == m);
            let mut c = [0; OFP11_MATCH_LEN];
            for (x, y) in c.iter_mut().zip(b.iter().cycle()) {
                *x = *y;
            }
            c[8..12].copy_from_slice(&w.to_be_bytes());
            let _ = decode_ofp11(&c);
            let _ = pull_ofp11_match(&mut &*b, oxm::Options::default());
        }

        /// What OpenFlow 1.1 can say survives it.
        #[test]
        fn round_trip_11(m in any_match()) {
            let back = decode_ofp11(&encode_ofp11(&m)).unwrap_or_default();
            let again = decode_ofp11(&encode_ofp11(&back));
            prop_assert!(again == Ok(back));
        }
    }
}
