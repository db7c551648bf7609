//! Taking outer headers off.

use super::{ERSPAN_LEN, ERSPAN1_LEN, ERSPAN2_LEN, GENEVE_LEN, TunnelKind, gre, gtpu, vxlan};
use crate::checksum::{checksum, fold, pseudo_v4, pseudo_v6, sum};
use crate::cursor::{be16, be32, be128};
use crate::proto::{ethertype, header_len, ip_proto, packet_type};
use crate::{Checksum, NO_OFFSET, Packet};
use flow::{PT_ETH, TUN_METADATA_LEN, Tunnel, packet_type_of_ethertype, tun_flags};

/// Why a packet is not one of the tunnel's; it is to be dropped and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PopError {
    #[error("no outer transport header was found")]
    NoHeader,
    #[error("truncated")]
    Truncated,
    #[error("IP options are not supported")]
    IpOptions,
    #[error("bad checksum")]
    Checksum,
    #[error("version or flags are not known")]
    Version,
    #[error("the payload's protocol is not known")]
    Protocol,
}

/// What a tunnel header said: its length, and the type of what it carries.
struct Inner {
    header: usize,
    packet_type: u32,
}

/// Takes the outer headers off `packet`, which must have been parsed, and writes what they said to `tunnel`
/// (a fresh one; in a datapath key's form). Afterwards the packet has neither offsets nor a hash.
///
/// GTP-U messages that are no user's packets stay as they are: whoever handles them needs them whole.
#[inline]
pub fn pop(packet: &mut Packet, kind: TunnelKind, tunnel: &mut Tunnel) -> Result<(), PopError> {
    if packet.l3_ofs == NO_OFFSET || packet.l4_ofs == NO_OFFSET || packet.packet_type != PT_ETH {
        return Err(PopError::NoHeader);
    }
    let l4_at = usize::from(packet.l4_ofs);
    // Whoever asks for a sum that is not there yet vouches for the rest.
    let trusted = packet.offload.checksum != Checksum::Unknown;
    let l3 = packet.data().get(usize::from(packet.l3_ofs)..).ok_or(PopError::NoHeader)?;
    let l4 = packet.data().get(l4_at..).ok_or(PopError::NoHeader)?;
    network(l3, l4.len(), trusted, tunnel)?;
    let inner = match kind {
        TunnelKind::Gre | TunnelKind::Ip6Gre => pop_gre(l4, tunnel),
        TunnelKind::Erspan | TunnelKind::Ip6Erspan => pop_erspan(l4, tunnel),
        _ => {
            let udp = udp(l3, l4, trusted, tunnel)?;
            let inner = match kind {
                TunnelKind::Geneve => pop_geneve(udp, tunnel),
                TunnelKind::Vxlan => pop_vxlan(udp, tunnel),
                _ => pop_gtpu(udp, tunnel),
            };
            inner.map(|i| Inner { header: i.header + header_len::UDP, ..i })
        }
    }?;
    if inner.header > l4.len() {
        return Err(PopError::Truncated);
    }
    if kind == TunnelKind::Gtpu && tunnel.gtpu_msgtype != gtpu::GPDU {
        return Ok(());
    }
    strip(packet, l4_at + inner.header, inner.packet_type);
    Ok(())
}

fn strip(packet: &mut Packet, headers: usize, packet_type: u32) {
    packet.pull_front(headers);
    packet.packet_type = packet_type;
    (packet.l2_5_ofs, packet.l3_ofs, packet.l4_ofs) = (NO_OFFSET, NO_OFFSET, NO_OFFSET);
    (packet.l2_pad, packet.rss_hash) = (0, 0);
    // What was verified was the outer sum; one that is still to be made is the payload's.
    if packet.offload.checksum == Checksum::Good {
        packet.offload.checksum = Checksum::Unknown;
    }
}

/// Reads the outer addresses. `l4_len` is what is behind the IP header.
#[inline]
fn network(l3: &[u8], l4_len: usize, trusted: bool, t: &mut Tunnel) -> Result<(), PopError> {
    let first = *l3.first().ok_or(PopError::Truncated)?;
    match first >> 4 {
        4 => {
            let h = l3.first_chunk::<{ header_len::IPV4 }>().ok_or(PopError::Truncated)?;
            if first & 0xf != 5 || l3.len() != l4_len + header_len::IPV4 {
                return Err(PopError::IpOptions);
            }
            if !trusted && checksum(h) != 0 {
                return Err(PopError::Checksum);
            }
            if usize::from(be16(h, 2)) > l3.len() {
                return Err(PopError::Truncated);
            }
            (t.src, t.dst) = (be32(h, 12), be32(h, 16));
            (t.tos, t.ttl) = (h[1], h[8]);
        }
        6 => {
            let h = l3.first_chunk::<{ header_len::IPV6 }>().ok_or(PopError::Truncated)?;
            (t.ipv6_src, t.ipv6_dst) = (be128(h, 8), be128(h, 24));
            (t.tos, t.ttl) = ((be16(h, 0) >> 4) as u8, h[7]);
        }
        _ => return Err(PopError::NoHeader),
    }
    Ok(())
}

/// Checks the UDP header and returns what is behind it.
#[inline]
fn udp<'a>(l3: &[u8], l4: &'a [u8], trusted: bool, t: &mut Tunnel) -> Result<&'a [u8], PopError> {
    let (h, rest) = l4.split_first_chunk::<{ header_len::UDP }>().ok_or(PopError::Truncated)?;
    (t.tp_src, t.tp_dst) = (be16(h, 0), be16(h, 2));
    if be16(h, 6) != 0 {
        if !trusted && !is_udp_sum_right(l3, l4, be16(h, 4)) {
            return Err(PopError::Checksum);
        }
        t.flags |= tun_flags::CSUM;
    }
    Ok(rest)
}

fn is_udp_sum_right(l3: &[u8], l4: &[u8], len: u16) -> bool {
    let Some(datagram) = l4.get(..usize::from(len)) else { return false };
    let (proto, len) = (ip_proto::UDP, u32::from(len));
    let pseudo = match (l3.first().map(|b| b >> 4), l3.first_chunk::<{ header_len::IPV6 }>()) {
        (Some(6), Some(h)) => pseudo_v6(be128(h, 8), be128(h, 24), proto, len),
        (Some(6), None) => return false,
        _ => match l3.first_chunk::<{ header_len::IPV4 }>() {
            Some(h) => pseudo_v4(be32(h, 12), be32(h, 16), proto, len),
            None => return false,
        },
    };
    fold(pseudo + u32::from(fold(sum(datagram)))) == 0xffff
}

#[inline]
fn pop_geneve(b: &[u8], t: &mut Tunnel) -> Result<Inner, PopError> {
    let (h, rest) = b.split_first_chunk::<GENEVE_LEN>().ok_or(PopError::Truncated)?;
    let options_len = usize::from(h[0] & 0x3f) * 4;
    let options = rest.get(..options_len).ok_or(PopError::Truncated)?;
    if h[0] >> 6 != 0 {
        return Err(PopError::Version);
    }
    if be16(h, 2) != ethertype::TEB {
        return Err(PopError::Protocol);
    }
    t.id = u64::from(be32(h, 4) >> 8);
    t.flags |= tun_flags::KEY | tun_flags::UDPIF;
    if h[1] & 0x80 != 0 {
        t.flags |= tun_flags::OAM;
    }
    const _: () = assert!(0x3f * 4 <= TUN_METADATA_LEN);
    if let Some(room) = t.metadata.get_mut(..options_len) {
        room.copy_from_slice(options);
    }
    t.metadata_present = options_len as u64;
    Ok(Inner { header: GENEVE_LEN + options_len, packet_type: PT_ETH })
}

#[inline]
fn pop_vxlan(b: &[u8], t: &mut Tunnel) -> Result<Inner, PopError> {
    let h = b.first_chunk::<{ vxlan::LEN }>().ok_or(PopError::Truncated)?;
    let (mut flags, vni) = (be32(h, 0), be32(h, 4));
    let mut packet_type = PT_ETH;
    if flags & vxlan::GPE != 0 {
        if flags & vxlan::GPE_OAM != 0 {
            return Err(PopError::Version);
        }
        packet_type = match flags as u8 {
            vxlan::NP_IPV4 => packet_type::IPV4,
            vxlan::NP_IPV6 => packet_type::IPV6,
            vxlan::NP_NSH => packet_type::NSH,
            vxlan::NP_ETHERNET => PT_ETH,
            _ => return Err(PopError::Protocol),
        };
        flags &= !vxlan::GPE_USED;
    } else if flags & vxlan::GBP != 0 {
        t.gbp_id = flags as u16;
        t.gbp_flags = (flags >> 16) as u8 & GBP_FLAGS;
        flags &= !(vxlan::GBP | vxlan::GBP_DONT_LEARN | vxlan::GBP_APPLIED | 0xffff);
    }
    if flags != vxlan::VNI || vni & 0xff != 0 {
        return Err(PopError::Version);
    }
    t.id = u64::from(vni >> 8);
    t.flags |= tun_flags::KEY;
    Ok(Inner { header: vxlan::LEN, packet_type })
}

/// The bits of [`vxlan::GBP_DONT_LEARN`] and [`vxlan::GBP_APPLIED`] in `tun_gbp_flags`.
const GBP_FLAGS: u8 = ((vxlan::GBP_DONT_LEARN | vxlan::GBP_APPLIED) >> 16) as u8;

fn pop_gtpu(b: &[u8], t: &mut Tunnel) -> Result<Inner, PopError> {
    let h = b.first_chunk::<{ gtpu::LEN }>().ok_or(PopError::Truncated)?;
    (t.gtpu_flags, t.gtpu_msgtype) = (h[0], h[1]);
    t.id = u64::from(be32(h, 4));
    let header = match h[0] & gtpu::OPTIONAL {
        0 => gtpu::LEN,
        _ => gtpu::LEN + gtpu::OPTIONAL_LEN,
    };
    if h[1] != gtpu::GPDU {
        return Ok(Inner { header: gtpu::LEN, packet_type: PT_ETH });
    }
    let packet_type = match b.get(header).map(|v| v >> 4) {
        Some(4) => packet_type::IPV4,
        Some(6) => packet_type::IPV6,
        Some(_) => return Err(PopError::Protocol),
        None => return Err(PopError::Truncated),
    };
    Ok(Inner { header, packet_type })
}

fn pop_gre(b: &[u8], t: &mut Tunnel) -> Result<Inner, PopError> {
    let h = b.first_chunk::<{ gre::LEN }>().ok_or(PopError::Truncated)?;
    let (flags, protocol) = (be16(h, 0), be16(h, 2));
    if flags & !(gre::CSUM | gre::KEY | gre::SEQ) != 0 {
        return Err(PopError::Version);
    }
    let mut at = gre::LEN;
    if flags & gre::CSUM != 0 {
        if checksum(b) != 0 {
            return Err(PopError::Checksum);
        }
        t.flags |= tun_flags::CSUM;
        at += 4;
    }
    if flags & gre::KEY != 0 {
        let key = b.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(PopError::Truncated)?;
        t.id = u64::from(be32(key, 0));
        t.flags |= tun_flags::KEY;
    }
    let packet_type = match protocol {
        ethertype::TEB => PT_ETH,
        p if p >= ethertype::MIN => packet_type_of_ethertype(p),
        _ => return Err(PopError::Protocol),
    };
    Ok(Inner { header: gre::len(flags), packet_type })
}

fn pop_erspan(b: &[u8], t: &mut Tunnel) -> Result<Inner, PopError> {
    let h = b.first_chunk::<{ gre::LEN }>().ok_or(PopError::Truncated)?;
    let flags = be16(h, 0);
    if !matches!(be16(h, 2), gre::PROTO_ERSPAN1 | gre::PROTO_ERSPAN2) {
        return Err(PopError::Protocol);
    }
    if flags & !gre::SEQ != 0 {
        return Err(PopError::Version);
    }
    // The sequence number is always there (draft-foschiano-erspan, 4.1).
    let at = gre::LEN + 4;
    let rest = b.get(at..).ok_or(PopError::Truncated)?;
    let (common, rest) = rest.split_first_chunk::<ERSPAN_LEN>().ok_or(PopError::Truncated)?;
    t.id = u64::from(be16(common, 2) & 0x3ff);
    t.flags |= tun_flags::KEY;
    t.erspan_ver = common[0] >> 4;
    let len = match t.erspan_ver {
        1 => {
            let index = rest.first_chunk::<ERSPAN1_LEN>().ok_or(PopError::Truncated)?;
            t.erspan_idx = be32(index, 0);
            ERSPAN1_LEN
        }
        2 => {
            let h = rest.first_chunk::<ERSPAN2_LEN>().ok_or(PopError::Truncated)?;
            t.erspan_dir = h[7] >> 3 & 1;
            t.erspan_hwid = (h[6] & 3) << 4 | h[7] >> 4;
            ERSPAN2_LEN
        }
        _ => return Err(PopError::Version),
    };
    Ok(Inner { header: at + ERSPAN_LEN + len, packet_type: PT_ETH })
}
