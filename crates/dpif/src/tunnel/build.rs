//! The outer header of a tunnel, ready but for what depends on each packet.

use super::TunnelConfig;
use crate::text::vport_type;
use crate::tunnel::show_ip;
use flow::{EthAddr, Flow, PT_ETH, TlvTable, U128, tun_flags};
use packet::checksum::checksum;
use packet::proto::ethertype;
use packet::tunnel::{TunnelKind, gre, gtpu, vxlan};
use smallvec::SmallVec;
use std::net::Ipv6Addr;

/// Why there is no header for a packet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the tunnel cannot carry packets of this type")]
    PacketType,
    #[error("ERSPAN has no session {0:#x}")]
    Session(u64),
    #[error("ERSPAN has no version {0}")]
    Version(u8),
    #[error("no IPv4 address to send from to {0}")]
    Family(String),
}

/// Where the outer packet comes from and who gets it next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    pub src_mac: EthAddr,
    pub dst_mac: EthAddr,
    pub src_ip: Ipv6Addr,
}

type Header = SmallVec<[u8; 128]>;

const DONT_FRAGMENT: u16 = 0x4000;
const ERSPAN_SID_MAX: u64 = 0x3ff;

/// Builds the header for a packet that is as `flow` (in switch terms, its tunnel fields complete) and returns it
/// with its `OVS_VPORT_TYPE_*`. A UDP checksum that is not zero asks for one to be made.
pub fn build(
    config: &TunnelConfig,
    flow: &Flow,
    tlv: &TlvTable,
    ends: &Ends,
) -> Result<(u32, Header), BuildError> {
    let is_v6 = flow.tunnel.dst == 0;
    let mut h = Header::new();
    h.extend_from_slice(&ends.dst_mac.0);
    h.extend_from_slice(&ends.src_mac.0);
    let proto = config.kind.ip_proto();
    if is_v6 {
        put_v6(&mut h, flow, proto, ends.src_ip);
    } else {
        put_v4(&mut h, flow, proto, ends.src_ip)?;
    }
    if config.kind.is_udp() {
        let wants_sum = is_v6 || flow.tunnel.flags & tun_flags::CSUM != 0;
        put16(&mut h, 0);
        put16(&mut h, config.dst_port);
        put16(&mut h, 0);
        put16(&mut h, if wants_sum { 0xffff } else { 0 });
    }
    let kind = match config.kind {
        TunnelKind::Geneve => {
            put_geneve(&mut h, flow, tlv);
            vport_type::GENEVE
        }
        TunnelKind::Vxlan => {
            put_vxlan(&mut h, config, flow)?;
            vport_type::VXLAN
        }
        TunnelKind::Gtpu => {
            put_gtpu(&mut h, config, flow);
            vport_type::GTPU
        }
        TunnelKind::Gre | TunnelKind::Ip6Gre => {
            put_gre(&mut h, config, flow)?;
            if is_v6 { vport_type::IP6GRE } else { vport_type::GRE }
        }
        TunnelKind::Erspan | TunnelKind::Ip6Erspan => {
            put_erspan(&mut h, config, flow)?;
            if is_v6 { vport_type::IP6ERSPAN } else { vport_type::ERSPAN }
        }
    };
    Ok((kind, h))
}

fn put16(h: &mut Header, v: u16) {
    h.extend_from_slice(&v.to_be_bytes());
}

fn put32(h: &mut Header, v: u32) {
    h.extend_from_slice(&v.to_be_bytes());
}

fn put_v4(h: &mut Header, flow: &Flow, proto: u8, src: Ipv6Addr) -> Result<(), BuildError> {
    let t = &flow.tunnel;
    let src = match src.to_ipv4_mapped() {
        Some(v4) => v4.octets(),
        None if src.is_unspecified() => [0; 4],
        None => return Err(BuildError::Family(show_ip(super::outer_dst(t)))),
    };
    let flags = if t.flags & tun_flags::DONT_FRAGMENT != 0 { DONT_FRAGMENT } else { 0 };
    put16(h, ethertype::IPV4);
    let mut ip = [0; 20];
    (ip[0], ip[1]) = (0x45, t.tos);
    ip[6..8].copy_from_slice(&flags.to_be_bytes());
    (ip[8], ip[9]) = (t.ttl, proto);
    ip[12..16].copy_from_slice(&src);
    ip[16..20].copy_from_slice(&t.dst.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    h.extend_from_slice(&ip);
    Ok(())
}

fn put_v6(h: &mut Header, flow: &Flow, proto: u8, src: Ipv6Addr) {
    let t = &flow.tunnel;
    put16(h, ethertype::IPV6);
    put32(h, 6 << 28 | u32::from(t.tos) << 20);
    h.extend_from_slice(&[0, 0, proto, t.ttl]);
    h.extend_from_slice(&src.octets());
    h.extend_from_slice(&bytes_of(t.ipv6_dst));
}

fn bytes_of(v: U128) -> [u8; 16] {
    u128::from(v).to_be_bytes()
}

fn put_geneve(h: &mut Header, flow: &Flow, tlv: &TlvTable) {
    let t = &flow.tunnel;
    let mut options = Vec::new();
    let critical = tlv.to_raw(t, &mut options);
    // Six bits count words of four bytes; the table has no room for more.
    let words = (options.len() / 4).min(0x3f) as u8;
    let oam = if t.flags & tun_flags::OAM != 0 { 0x80 } else { 0 };
    h.extend_from_slice(&[words, oam | if critical { 0x40 } else { 0 }]);
    put16(h, ethertype::TEB);
    put32(h, (t.id as u32) << 8);
    h.extend_from_slice(options.get(..usize::from(words) * 4).unwrap_or(&[]));
}

fn put_vxlan(h: &mut Header, config: &TunnelConfig, flow: &Flow) -> Result<(), BuildError> {
    let t = &flow.tunnel;
    let mut flags = vxlan::VNI;
    if config.gpe {
        let next = match flow.packet_type {
            PT_ETH => vxlan::NP_ETHERNET,
            _ => match ethertype_of(flow)? {
                ethertype::IPV4 => vxlan::NP_IPV4,
                ethertype::IPV6 => vxlan::NP_IPV6,
                ethertype::NSH => vxlan::NP_NSH,
                ethertype::TEB => vxlan::NP_ETHERNET,
                _ => return Err(BuildError::PacketType),
            },
        };
        flags |= vxlan::GPE | u32::from(next);
    } else if config.gbp && (t.gbp_id != 0 || t.gbp_flags != 0) {
        let known = vxlan::GBP_DONT_LEARN | vxlan::GBP_APPLIED;
        flags |= vxlan::GBP | u32::from(t.gbp_id) | (u32::from(t.gbp_flags) << 16 & known);
    }
    put32(h, flags);
    put32(h, (t.id as u32) << 8);
    Ok(())
}

/// The type of a packet that is no frame.
fn ethertype_of(flow: &Flow) -> Result<u16, BuildError> {
    if flow.packet_type >> 16 == 1 { Ok(flow.packet_type as u16) } else { Err(BuildError::PacketType) }
}

fn put_gtpu(h: &mut Header, config: &TunnelConfig, flow: &Flow) {
    let t = &flow.tunnel;
    let or = |v: u8, default| if v == 0 { default } else { v };
    let seq = if config.seq { gtpu::SEQ } else { 0 };
    h.extend_from_slice(&[or(t.gtpu_flags, gtpu::FLAGS) | seq, or(t.gtpu_msgtype, gtpu::GPDU), 0, 0]);
    put32(h, t.id as u32);
    if config.seq {
        put32(h, 0);
    }
}

fn put_gre(h: &mut Header, config: &TunnelConfig, flow: &Flow) -> Result<(), BuildError> {
    let protocol = if flow.packet_type == PT_ETH { ethertype::TEB } else { ethertype_of(flow)? };
    let wanted = [
        (gre::CSUM, flow.tunnel.flags & tun_flags::CSUM != 0, 0),
        (gre::KEY, config.out_key.is_present(), flow.tunnel.id as u32),
        (gre::SEQ, config.seq, 0),
    ];
    let options = wanted.iter().filter(|(_, is_there, _)| *is_there);
    put16(h, options.clone().fold(0, |flags, (bit, ..)| flags | bit));
    put16(h, protocol);
    options.for_each(|(_, _, value)| put32(h, *value));
    Ok(())
}

fn put_erspan(h: &mut Header, config: &TunnelConfig, flow: &Flow) -> Result<(), BuildError> {
    let t = &flow.tunnel;
    if t.id > ERSPAN_SID_MAX {
        return Err(BuildError::Session(t.id));
    }
    let version = config.erspan_ver.or_flow(t.erspan_ver);
    let protocol = match version {
        1 => gre::PROTO_ERSPAN1,
        2 => gre::PROTO_ERSPAN2,
        _ => return Err(BuildError::Version(version)),
    };
    put16(h, gre::SEQ);
    put16(h, protocol);
    put32(h, 0);
    put16(h, u16::from(version) << 12);
    put16(h, t.id as u16);
    if version == 1 {
        put32(h, config.erspan_idx.or_flow(t.erspan_idx));
    } else {
        let hwid = config.erspan_hwid.or_flow(t.erspan_hwid);
        let dir = config.erspan_dir.or_flow(t.erspan_dir);
        put32(h, 0);
        h.extend_from_slice(&[0, 0, hwid >> 4 & 3, (hwid & 0xf) << 4 | (dir & 1) << 3]);
    }
    Ok(())
}
