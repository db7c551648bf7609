//! From a packet's bytes to its flow key, in one pass.
//!
//! Total: any bytes give a key. What is cut short or malformed leaves the fields of that header and of all
//! behind it zero. The meaning of each field is that of Open vSwitch 3.1 (ovs-fields(7)), because what
//! is a match there must be one here.
//!
//! [`extract`] tries [`fast::extract`] (Ethernet, up to one VLAN tag, IPv4 without options or fragments,
//! TCP or UDP), which gives up before it has written anything, and then takes the general way.

mod fast;
mod l3;
mod l4;
#[cfg(test)]
mod tests;

use crate::cursor::{Cursor, be16, mac};
use crate::proto::ethertype;
use crate::{NO_OFFSET, Packet};
use flow::{Flow, PT_ETH, Tunnel, U128, VLAN_CFI, VLANS_MAX, Vlan, word};

/// What is known about a packet before its bytes are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    pub in_port: u32,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    /// VLAN tags to take apart, at most [`VLANS_MAX`]; the `vlan-limit` of the database, where 0 stands for
    /// the maximum. Tags beyond it are payload, their TPID is the frame's `dl_type`.
    pub vlan_limit: u8,
    /// Connection tracking state, of a packet that has been through it.
    pub ct: Option<&'a CtMeta>,
    /// The outer header, of a packet that came out of a tunnel.
    pub tunnel: Option<&'a Tunnel>,
}

impl Default for Meta<'_> {
    fn default() -> Self {
        Meta {
            in_port: 0,
            recirc_id: 0,
            dp_hash: 0,
            skb_priority: 0,
            pkt_mark: 0,
            vlan_limit: VLANS_MAX as u8,
            ct: None,
            tunnel: None,
        }
    }
}

/// What connection tracking said about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CtMeta {
    /// `ct_state` bits; while it is zero, nothing here reaches the key.
    pub state: u32,
    pub zone: u16,
    pub mark: u32,
    pub label: U128,
    pub tuple: CtTuple,
}

/// The addresses and ports of a connection's first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CtTuple {
    #[default]
    None,
    V4 {
        src: u32,
        dst: u32,
        proto: u8,
        tp_src: u16,
        tp_dst: u16,
    },
    V6 {
        src: U128,
        dst: U128,
        proto: u8,
        tp_src: u16,
        tp_dst: u16,
    },
}

impl CtMeta {
    /// Reads the state back from a key, to carry it over to the packet's next pass.
    pub fn of_flow(f: &Flow) -> CtMeta {
        let (proto, tp_src, tp_dst) = (f.ct_nw_proto, f.ct_tp_src, f.ct_tp_dst);
        let tuple = if proto == 0 {
            CtTuple::None
        } else if f.dl_type == ethertype::IPV6 {
            CtTuple::V6 { src: f.ct_ipv6_src, dst: f.ct_ipv6_dst, proto, tp_src, tp_dst }
        } else {
            CtTuple::V4 { src: f.ct_nw_src, dst: f.ct_nw_dst, proto, tp_src, tp_dst }
        };
        CtMeta { state: f.ct_state, zone: f.ct_zone, mark: f.ct_mark, label: f.ct_label, tuple }
    }
}

/// Parses `packet` into `flow`, and sets the packet's header offsets and `l2_pad`.
///
/// Of `flow`, words `0..word::TUNNEL` are written in full, whatever they held. The tunnel's words are
/// written when `meta` has a tunnel or `flow` holds one, so `flow` must be [`Flow::ZERO`] or what an
/// earlier call left. Words from `word::OPENFLOW` are never touched.
#[inline]
pub fn extract(packet: &mut Packet, meta: &Meta<'_>, flow: &mut Flow) {
    if !fast::extract(packet, meta, flow) {
        extract_general(packet, meta, flow);
    }
}

/// A key of `packet` on its own, for callers that are in no hurry.
pub fn flow_of(packet: &mut Packet, meta: &Meta<'_>) -> Flow {
    let mut flow = Flow::ZERO;
    extract(packet, meta, &mut flow);
    flow
}

/// Header offsets found on the way, from the start of the data.
struct Offsets {
    l2_5: u16,
    l3: u16,
    l4: u16,
    l2_pad: u16,
}

/// The general way, also the oracle of the fast one.
fn extract_general(packet: &mut Packet, meta: &Meta<'_>, flow: &mut Flow) {
    let packet_type = packet.packet_type;
    write_meta(meta, packet_type, flow);
    let mut ofs = Offsets { l2_5: NO_OFFSET, l3: NO_OFFSET, l4: NO_OFFSET, l2_pad: 0 };
    parse_headers(packet.data(), packet_type, meta, flow, &mut ofs);
    packet.l2_5_ofs = ofs.l2_5;
    packet.l3_ofs = ofs.l3;
    packet.l4_ofs = ofs.l4;
    packet.l2_pad = ofs.l2_pad;
}

/// Clears the words that describe the packet and fills in those that come from `meta`.
#[inline(always)]
fn write_meta(meta: &Meta<'_>, packet_type: u32, flow: &mut Flow) {
    write_tunnel(meta.tunnel, flow);
    flow.words_mut()[..word::TUNNEL].fill(0);
    flow.in_port = meta.in_port;
    flow.recirc_id = meta.recirc_id;
    flow.dp_hash = meta.dp_hash;
    flow.skb_priority = meta.skb_priority;
    flow.pkt_mark = meta.pkt_mark;
    flow.packet_type = packet_type;
    if let Some(ct) = meta.ct
        && ct.state != 0
    {
        flow.ct_state = ct.state;
        flow.ct_zone = ct.zone;
        flow.ct_mark = ct.mark;
        flow.ct_label = ct.label;
    }
}

#[inline(always)]
fn write_tunnel(tunnel: Option<&Tunnel>, flow: &mut Flow) {
    match tunnel {
        Some(t) if t.is_set() => flow.tunnel.clone_from(t),
        _ if flow.tunnel.is_set() => flow.tunnel = Tunnel::default(),
        _ => {}
    }
}

fn parse_headers(frame: &[u8], packet_type: u32, meta: &Meta<'_>, flow: &mut Flow, ofs: &mut Offsets) {
    let mut c = Cursor(frame);
    let dl_type = if packet_type == PT_ETH {
        match parse_l2(&mut c, meta.vlan_limit, flow) {
            Some(t) => t,
            None => return,
        }
    } else {
        packet_type as u16
    };
    flow.dl_type = dl_type;
    if ethertype::is_mpls(dl_type) {
        ofs.l2_5 = offset(frame, &c);
        l3::parse_mpls(&mut c, flow);
    }
    ofs.l3 = offset(frame, &c);
    let proceed = match dl_type {
        ethertype::IPV4 => l3::parse_ipv4(&mut c, meta, flow, ofs),
        ethertype::IPV6 => l3::parse_ipv6(&mut c, meta, flow, ofs),
        ethertype::ARP | ethertype::RARP => {
            l3::parse_arp(&c, flow);
            None
        }
        ethertype::NSH => {
            l3::parse_nsh(&c, flow);
            None
        }
        _ => None,
    };
    if proceed.is_some() {
        ofs.l4 = offset(frame, &c);
        l4::parse(&mut c, meta, flow);
    }
}

/// How far `c` is into `frame`; [`NO_OFFSET`] beyond what an offset can say.
#[inline(always)]
fn offset(frame: &[u8], c: &Cursor<'_>) -> u16 {
    // `c` may have been cut at the end, so count from pointers' positions, not from lengths.
    let at = c.0.as_ptr() as usize - frame.as_ptr() as usize;
    u16::try_from(at).unwrap_or(NO_OFFSET)
}

/// Addresses, tags and the Ethernet type. `None` if there is no whole Ethernet header.
fn parse_l2(c: &mut Cursor<'_>, vlan_limit: u8, flow: &mut Flow) -> Option<u16> {
    if c.len() < crate::proto::header_len::ETH {
        return None;
    }
    let macs = c.take::<12>()?;
    flow.dl_dst = mac(macs, 0);
    flow.dl_src = mac(macs, 6);
    let limit = match usize::from(vlan_limit) {
        0 => VLANS_MAX,
        n => n.min(VLANS_MAX),
    };
    for vlan in &mut flow.vlans[..limit] {
        // A tag must leave room for the type behind it.
        let Some(h) = c.peek::<6>() else { break };
        let tpid = be16(h, 0);
        if !ethertype::is_vlan(tpid) {
            break;
        }
        *vlan = Vlan { tpid, tci: be16(h, 2) | VLAN_CFI };
        c.skip(4)?;
    }
    Some(parse_ethertype(c))
}

/// LLC and SNAP of an encapsulated Ethernet type (IEEE 802.2, RFC 1042).
const SNAP_ETHERNET: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];

/// Takes the type or length and, if it is a length with SNAP behind it, that as well.
fn parse_ethertype(c: &mut Cursor<'_>) -> u16 {
    let Some(h) = c.take::<2>() else { return ethertype::NONE };
    let t = be16(h, 0);
    if t >= ethertype::MIN {
        return t;
    }
    let Some(llc) = c.peek::<8>() else { return ethertype::NONE };
    if llc[..6] != SNAP_ETHERNET {
        return ethertype::NONE;
    }
    // The length was checked by `peek`.
    let _ = c.skip(8);
    match be16(llc, 6) {
        t if t >= ethertype::MIN => t,
        _ => ethertype::NONE,
    }
}
