//! TCP, UDP, SCTP, ICMP, IGMP, ICMPv6 and Neighbor Discovery.

use super::{CtTuple, Meta};
use crate::cursor::{Cursor, be16, be32, be128, mac};
use crate::proto::{ethertype, header_len, ip_proto, nd};
use flow::{EthAddr, Flow, NW_FRAG_LATER, U128};

/// Fills in the transport header's fields, unless the packet is a fragment that has none.
pub(super) fn parse(c: &mut Cursor<'_>, meta: &Meta<'_>, flow: &mut Flow) {
    if flow.nw_frag & NW_FRAG_LATER == 0 && parse_transport(c, flow) {
        write_ct_ports(meta, flow);
    }
}

/// Whether there was a header that connection tracking knows (Neighbor Discovery is none).
fn parse_transport(c: &mut Cursor<'_>, flow: &mut Flow) -> bool {
    match flow.nw_proto {
        ip_proto::TCP => parse_tcp(c, flow).is_some(),
        ip_proto::UDP => parse_ports::<{ header_len::UDP }>(c, flow).is_some(),
        ip_proto::SCTP => parse_ports::<{ header_len::SCTP }>(c, flow).is_some(),
        ip_proto::ICMP => parse_type_code::<{ header_len::ICMP }>(c, flow).is_some(),
        ip_proto::IGMP => parse_igmp(c, flow).is_some(),
        ip_proto::ICMPV6 => parse_icmpv6(c, flow).unwrap_or(false),
        _ => false,
    }
}

/// The part of the original tuple that a packet with a good IP header of the same version gets.
#[inline(always)]
pub(super) fn write_ct_addrs(meta: &Meta<'_>, flow: &mut Flow) {
    match tuple_for(meta, flow.dl_type) {
        CtTuple::V4 { src, dst, proto, .. } => {
            flow.ct_nw_proto = proto;
            (flow.ct_nw_src, flow.ct_nw_dst) = (src, dst);
        }
        CtTuple::V6 { src, dst, proto, .. } => {
            flow.ct_nw_proto = proto;
            (flow.ct_ipv6_src, flow.ct_ipv6_dst) = (src, dst);
        }
        CtTuple::None => {}
    }
}

/// The part that takes a good transport header as well.
#[inline(always)]
pub(super) fn write_ct_ports(meta: &Meta<'_>, flow: &mut Flow) {
    match tuple_for(meta, flow.dl_type) {
        CtTuple::V4 { tp_src, tp_dst, .. } | CtTuple::V6 { tp_src, tp_dst, .. } => {
            (flow.ct_tp_src, flow.ct_tp_dst) = (tp_src, tp_dst);
        }
        CtTuple::None => {}
    }
}

/// The original tuple, if it can belong to a packet of type `dl_type`. Protocol 0 is no tuple.
#[inline(always)]
fn tuple_for(meta: &Meta<'_>, dl_type: u16) -> CtTuple {
    match meta.ct {
        Some(ct) if ct.state != 0 => match (ct.tuple, dl_type) {
            (CtTuple::V4 { proto: 1.., .. }, ethertype::IPV4)
            | (CtTuple::V6 { proto: 1.., .. }, ethertype::IPV6) => ct.tuple,
            _ => CtTuple::None,
        },
        _ => CtTuple::None,
    }
}

fn parse_tcp(c: &Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let h = c.peek::<{ header_len::TCP }>()?;
    let control = be16(h, 12);
    let header = usize::from(control >> 12) * 4;
    if header < header_len::TCP || c.len() < header {
        return None;
    }
    flow.tp_src = be16(h, 0);
    flow.tp_dst = be16(h, 2);
    flow.tcp_flags = control & 0xfff;
    Some(())
}

fn parse_ports<const N: usize>(c: &Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let h = c.peek::<N>()?;
    flow.tp_src = be16(h, 0);
    flow.tp_dst = be16(h, 2);
    Some(())
}

fn parse_type_code<const N: usize>(c: &Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let h = c.peek::<N>()?;
    flow.tp_src = u16::from(h[0]);
    flow.tp_dst = u16::from(h[1]);
    Some(())
}

fn parse_igmp(c: &Cursor<'_>, flow: &mut Flow) -> Option<()> {
    parse_type_code::<{ header_len::IGMP }>(c, flow)?;
    flow.igmp_group_ip4 = be32(c.peek::<{ header_len::IGMP }>()?, 4);
    Some(())
}

fn parse_icmpv6(c: &mut Cursor<'_>, flow: &mut Flow) -> Option<bool> {
    let h = c.take::<8>()?;
    flow.tp_src = u16::from(h[0]);
    flow.tp_dst = u16::from(h[1]);
    if !matches!(h[0], nd::SOLICIT | nd::ADVERT) || h[1] != 0 {
        return Some(true);
    }
    flow.nd_reserved = be32(h, 4);
    if let Some(target) = c.take::<16>() {
        flow.nd_target = be128(target, 0);
        parse_nd_options(c, flow);
    }
    Some(false)
}

/// The link-layer address options. The first of them names `nd_options_type`; the same one twice makes
/// the message invalid: no target, no addresses.
fn parse_nd_options(c: &mut Cursor<'_>, flow: &mut Flow) {
    while let Some(h) = c.peek::<{ nd::OPT_LEN }>() {
        let len = usize::from(h[1]) * nd::OPT_LEN;
        if len == 0 || len > c.len() {
            return;
        }
        let slot = match h[0] {
            nd::OPT_SOURCE_LLA if len == nd::OPT_LEN => Some(&mut flow.arp_sha),
            nd::OPT_TARGET_LLA if len == nd::OPT_LEN => Some(&mut flow.arp_tha),
            _ => None,
        };
        if let Some(slot) = slot {
            if !slot.is_zero() {
                flow.nd_target = U128::ZERO;
                flow.arp_sha = EthAddr::ZERO;
                flow.arp_tha = EthAddr::ZERO;
                return;
            }
            *slot = mac(h, 2);
            if flow.nd_options_type == 0 {
                flow.nd_options_type = h[0];
            }
        }
        if c.skip(len).is_none() {
            return;
        }
    }
}
