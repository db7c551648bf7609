//! `tnl_push(...)`: the bytes of an outer header as text, and back.

use super::scan::{Scan, put_hash_x, put_ipv4, put_ipv6};
use super::tunnel::{put_geneve, scan_geneve};
use super::{PortNames, put_port};
use crate::{PortNo, TunnelPush};
use packet::checksum::checksum;
use packet::proto::ethertype;
use smallvec::SmallVec;
use std::fmt::Write;

/// `OVS_VPORT_TYPE_*` of openvswitch.h.
pub mod vport_type {
    pub const GRE: u32 = 3;
    pub const VXLAN: u32 = 4;
    pub const GENEVE: u32 = 5;
    pub const ERSPAN: u32 = 107;
    pub const IP6ERSPAN: u32 = 108;
    pub const IP6GRE: u32 = 109;
    pub const GTPU: u32 = 110;
}

const ETH: usize = 14;
const GRE_CSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQ: u16 = 0x1000;

/// Bytes of a header; what is behind its end reads as zero.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn u8(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }
    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.u8(at), self.u8(at + 1)])
    }
    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at + 2))
    }
    fn u128(&self, at: usize) -> u128 {
        (0..16).fold(0, |v, i| v << 8 | u128::from(self.u8(at + i)))
    }
    fn mac(&self, at: usize) -> flow::EthAddr {
        flow::EthAddr([0, 1, 2, 3, 4, 5].map(|i| self.u8(at + i)))
    }
    fn from(&self, at: usize) -> Bytes<'a> {
        Bytes(self.0.get(at..).unwrap_or(&[]))
    }
}

pub(super) fn put(out: &mut String, p: &TunnelPush, names: Option<PortNames<'_>>) {
    let h = Bytes(&p.header);
    out.push_str("tnl_push(tnl_port(");
    put_port(out, p.tunnel_port, names);
    let (size, kind) = (p.header.len(), p.vport_type);
    let _ = write!(out, "),header(size={size},type={kind},eth(dst={},src={}", h.mac(0), h.mac(6));
    let _ = write!(out, ",dl_type=0x{:04x}),", h.u16(12));
    let l4 = if h.u16(12) == ethertype::IPV4 { put_outer_v4(out, &h) } else { put_outer_v6(out, &h) };
    put_tunnel_header(out, &h.from(l4), kind);
    out.push_str("),out_port(");
    put_port(out, p.out_port, names);
    out.push_str("))");
}

/// Returns where the transport header starts.
fn put_outer_v4(out: &mut String, h: &Bytes<'_>) -> usize {
    let ip = h.from(ETH);
    out.push_str("ipv4(src=");
    put_ipv4(out, ip.u32(12));
    out.push_str(",dst=");
    put_ipv4(out, ip.u32(16));
    let _ = write!(out, ",proto={},tos=", ip.u8(9));
    put_hash_x(out, ip.u8(1).into());
    let _ = write!(out, ",ttl={},frag=0x{:x}),", ip.u8(8), ip.u16(6));
    ETH + 20
}

fn put_outer_v6(out: &mut String, h: &Bytes<'_>) -> usize {
    let ip = h.from(ETH);
    let word = ip.u32(0);
    out.push_str("ipv6(src=");
    put_ipv6(out, ip.u128(8).into());
    out.push_str(",dst=");
    put_ipv6(out, ip.u128(24).into());
    let (label, tclass) = (word & 0xf_ffff, word >> 20 & 0xff);
    let _ = write!(out, ",label={label},proto={},tclass=0x{tclass:x},hlimit={}),", ip.u8(6), ip.u8(7));
    ETH + 40
}

fn put_tunnel_header(out: &mut String, l4: &Bytes<'_>, kind: u32) {
    let udp = l4.from(8);
    if matches!(kind, vport_type::VXLAN | vport_type::GENEVE | vport_type::GTPU) {
        let _ = write!(out, "udp(src={},dst={},csum=0x{:x}),", l4.u16(0), l4.u16(2), l4.u16(6));
    }
    match kind {
        vport_type::VXLAN => {
            let _ = write!(out, "vxlan(flags=0x{:x},vni=0x{:x})", udp.u32(0), udp.u32(4) >> 8);
        }
        vport_type::GENEVE => {
            let flags = udp.u8(1);
            let oam = if flags & 0x80 != 0 { "oam," } else { "" };
            let critical = if flags & 0x40 != 0 { "crit," } else { "" };
            let _ = write!(out, "geneve({oam}{critical}vni=0x{:x}", udp.u32(4) >> 8);
            let options = usize::from(udp.u8(0) & 0x3f) * 4;
            if options > 0 {
                out.push_str(",options(");
                let bytes = udp.from(8).0;
                put_geneve(out, bytes.get(..options).unwrap_or(bytes), None, false);
                out.push(')');
            }
            out.push(')');
        }
        vport_type::GTPU => {
            let _ =
                write!(out, "gtpu(flags=0x{:x},msgtype={},teid=0x{:x})", udp.u8(0), udp.u8(1), udp.u32(4));
        }
        vport_type::GRE | vport_type::IP6GRE => put_gre(out, l4),
        vport_type::ERSPAN | vport_type::IP6ERSPAN => put_erspan(out, &l4.from(8)),
        _ => {}
    }
}

fn put_gre(out: &mut String, h: &Bytes<'_>) {
    let flags = h.u16(0);
    let _ = write!(out, "gre((flags=0x{flags:x},proto=0x{:x})", h.u16(2));
    let mut at = 4;
    if flags & GRE_CSUM != 0 {
        let _ = write!(out, ",csum=0x{:x}", h.u16(at));
        at += 4;
    }
    for (bit, name) in [(GRE_KEY, "key"), (GRE_SEQ, "seq")] {
        if flags & bit != 0 {
            let _ = write!(out, ",{name}=0x{:x}", h.u32(at));
            at += 4;
        }
    }
    out.push(')');
}

/// ERSPAN types II and III (draft-foschiano-erspan).
fn put_erspan(out: &mut String, h: &Bytes<'_>) {
    let sid = h.u16(2) & 0x3ff;
    match h.u8(0) >> 4 {
        1 => {
            let _ = write!(out, "erspan(ver=1,sid=0x{sid:x},idx=0x{:x})", h.u32(4));
        }
        2 => {
            let (upper, lower) = (h.u8(10), h.u8(11));
            let (dir, hwid) = (lower >> 3 & 1, (upper & 3) << 4 | lower >> 4);
            let _ = write!(out, "erspan(ver=2,sid=0x{sid:x},dir={dir},hwid=0x{hwid:x})");
        }
        _ => {}
    }
}

/// Reads from behind `tnl_push(`.
pub(super) fn scan(s: &mut Scan<'_>) -> Option<TunnelPush> {
    s.need("tnl_port(")?;
    let tunnel_port = PortNo(s.u32()?);
    s.need("),header(size=")?;
    let size = s.u32()?;
    s.need(",type=")?;
    let vport_type = s.u32()?;
    let mut h = Vec::new();
    s.need(",eth(dst=")?;
    h.extend(s.mac()?.0);
    s.need(",src=")?;
    h.extend(s.mac()?.0);
    s.need(",dl_type=")?;
    let dl_type = s.hex(16)? as u16;
    h.extend(dl_type.to_be_bytes());
    s.need("),")?;
    if dl_type == ethertype::IPV4 {
        scan_outer_v4(s, &mut h)?
    } else {
        scan_outer_v6(s, &mut h)?
    }
    let is_v4 = dl_type == ethertype::IPV4;
    let found = scan_tunnel_header(s, &mut h, is_v4)?;
    s.need("),out_port(")?;
    let out_port = PortNo(s.u32()?);
    s.need("))")?;
    // The size and type are said twice.
    if found != vport_type || h.len() != size as usize {
        return None;
    }
    Some(TunnelPush { tunnel_port, out_port, vport_type, header: SmallVec::from_vec(h) })
}

fn scan_outer_v4(s: &mut Scan<'_>, h: &mut Vec<u8>) -> Option<()> {
    s.need("ipv4(src=")?;
    let src = s.ipv4()?;
    s.need(",dst=")?;
    let dst = s.ipv4()?;
    s.need(",proto=")?;
    let proto = s.u8()?;
    s.need(",tos=")?;
    let tos = s.u8()?;
    s.need(",ttl=")?;
    let ttl = s.u8()?;
    s.need(",frag=")?;
    let frag = s.hex(16)? as u16;
    s.need("),")?;
    let mut ip = vec![0x45, tos, 0, 0, 0, 0];
    ip.extend(frag.to_be_bytes());
    ip.extend([ttl, proto, 0, 0]);
    ip.extend(src.to_be_bytes());
    ip.extend(dst.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    h.extend(ip);
    Some(())
}

fn scan_outer_v6(s: &mut Scan<'_>, h: &mut Vec<u8>) -> Option<()> {
    s.need("ipv6(src=")?;
    let src = s.ipv6()?;
    s.need(",dst=")?;
    let dst = s.ipv6()?;
    s.need(",label=")?;
    let label = s.number(20)? as u32;
    s.need(",proto=")?;
    let proto = s.u8()?;
    s.need(",tclass=")?;
    let tclass = s.hex(8)? as u32;
    s.need(",hlimit=")?;
    let hlimit = s.u8()?;
    s.need("),")?;
    h.extend((6 << 28 | tclass << 20 | label).to_be_bytes());
    h.extend([0, 0, proto, hlimit]);
    h.extend(u128::from(src).to_be_bytes());
    h.extend(u128::from(dst).to_be_bytes());
    Some(())
}

/// Returns the type of tunnel that the header is of.
fn scan_tunnel_header(s: &mut Scan<'_>, h: &mut Vec<u8>, is_v4: bool) -> Option<u32> {
    if s.eat("gre((flags=") {
        scan_gre(s, h)?;
        return Some(if is_v4 { vport_type::GRE } else { vport_type::IP6GRE });
    }
    if s.eat("erspan(ver=") {
        scan_erspan(s, h)?;
        return Some(if is_v4 { vport_type::ERSPAN } else { vport_type::IP6ERSPAN });
    }
    s.need("udp(src=")?;
    let src = s.u16()?;
    s.need(",dst=")?;
    let dst = s.u16()?;
    s.need(",csum=")?;
    let csum = s.hex(16)? as u16;
    s.need("),")?;
    for word in [src, dst, 0, csum] {
        h.extend(word.to_be_bytes());
    }
    if s.eat("vxlan(flags=") {
        let flags = s.hex(32)? as u32;
        s.need(",vni=")?;
        let vni = s.hex(24)? as u32;
        h.extend(flags.to_be_bytes());
        h.extend((vni << 8).to_be_bytes());
        s.need(")")?;
        Some(vport_type::VXLAN)
    } else if s.eat("gtpu(flags=") {
        let flags = s.u8()?;
        s.need(",msgtype=")?;
        let msgtype = s.u8()?;
        s.need(",teid=")?;
        let teid = s.hex(32)? as u32;
        h.extend([flags, msgtype, 0, 0]);
        h.extend(teid.to_be_bytes());
        s.need(")")?;
        Some(vport_type::GTPU)
    } else {
        s.need("geneve(")?;
        scan_geneve_header(s, h)?;
        Some(vport_type::GENEVE)
    }
}

fn scan_geneve_header(s: &mut Scan<'_>, h: &mut Vec<u8>) -> Option<()> {
    let oam = if s.eat("oam,") { 0x80 } else { 0 };
    let critical = if s.eat("crit,") { 0x40 } else { 0 };
    s.need("vni=")?;
    let vni = s.number(24)? as u32;
    let options = if s.eat(",options(") { scan_geneve(s)?.0 } else { Vec::new() };
    s.need(")")?;
    // Six bits count words of 4 bytes.
    let words = u8::try_from(options.len() / 4).ok().filter(|w| *w < 64)?;
    h.extend([words, oam | critical]);
    h.extend(ethertype::TEB.to_be_bytes());
    h.extend((vni << 8).to_be_bytes());
    h.extend(options);
    Some(())
}

fn scan_gre(s: &mut Scan<'_>, h: &mut Vec<u8>) -> Option<()> {
    let flags = s.hex(16)? as u16;
    s.need(",proto=")?;
    let proto = s.hex(16)? as u16;
    s.need(")")?;
    h.extend(flags.to_be_bytes());
    h.extend(proto.to_be_bytes());
    if flags & GRE_CSUM != 0 {
        s.need(",csum=")?;
        h.extend((s.hex(16)? as u16).to_be_bytes());
        h.extend([0, 0]);
    }
    for (bit, name) in [(GRE_KEY, ",key="), (GRE_SEQ, ",seq=")] {
        if flags & bit != 0 {
            s.need(name)?;
            h.extend((s.hex(32)? as u32).to_be_bytes());
        }
    }
    s.need(")")
}

fn scan_erspan(s: &mut Scan<'_>, h: &mut Vec<u8>) -> Option<()> {
    let version = s.u8()?;
    s.need(",sid=")?;
    let sid = s.hex(10)? as u16;
    let protocol: u16 = if version == 1 { 0x88be } else { 0x22eb };
    h.extend(GRE_SEQ.to_be_bytes());
    h.extend(protocol.to_be_bytes());
    h.extend([0; 4]);
    h.extend([version << 4, 0]);
    h.extend(sid.to_be_bytes());
    match version {
        1 => {
            s.need(",idx=")?;
            h.extend((s.hex(32)? as u32).to_be_bytes());
        }
        2 => {
            s.need(",dir=")?;
            let dir = s.number(1)? as u8;
            s.need(",hwid=")?;
            let hwid = s.hex(6)? as u8;
            h.extend([0; 6]);
            h.extend([hwid >> 4, (hwid & 0xf) << 4 | dir << 3]);
        }
        _ => return None,
    }
    s.need(")")
}
