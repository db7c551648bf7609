//! Ports, ICMP and Neighbor Discovery.

use super::{merge, merge_mac, merge128};
use crate::Packet;
use crate::checksum::{crc32c, update_bytes, update16, update32, update128};
use crate::cursor::{be16, be32, be128, mac};
use crate::header::{IcmpKey, Masked, NdExtKey, NdKey, PortsKey};
use crate::proto::{header_len, nd};

/// Source and destination port at the front of `h`, merged with `m`.
fn merged_ports(h: &[u8; 4], m: &Masked<PortsKey>) -> [u8; 4] {
    let src = merge(be16(h, 0), m.key.src, m.mask.src).to_be_bytes();
    let dst = merge(be16(h, 2), m.key.dst, m.mask.dst).to_be_bytes();
    [src[0], src[1], dst[0], dst[1]]
}

/// Writes the ports of a protocol whose checksum stands at `at`. `zero_is_none`: as in UDP.
fn set_ports(p: &mut Packet, m: &Masked<PortsKey>, at: usize, zero_is_none: bool) {
    let partial = p.l4_checksum_is_partial();
    let l4 = p.l4_bytes_mut();
    let Some(ports) = l4.first_chunk_mut::<4>() else { return };
    let old = be32(ports, 0);
    *ports = merged_ports(ports, m);
    let new = be32(ports, 0);
    let Some(field) = l4.get_mut(at..at + 2).and_then(|f| f.first_chunk_mut::<2>()) else { return };
    let sum = u16::from_be_bytes(*field);
    if partial || old == new || (zero_is_none && sum == 0) {
        return;
    }
    let sum = match update32(sum, old, new) {
        0 if zero_is_none => 0xffff,
        s => s,
    };
    *field = sum.to_be_bytes();
}

/// Ports of TCP, if its whole header is there.
pub fn set_tcp(p: &mut Packet, m: &Masked<PortsKey>) {
    let l4 = p.l4_bytes();
    let Some(h) = l4.first_chunk::<{ header_len::TCP }>() else { return };
    let header = usize::from(h[12] >> 4) * 4;
    if header >= header_len::TCP && header <= l4.len() {
        set_ports(p, m, 16, false);
    }
}

pub fn set_udp(p: &mut Packet, m: &Masked<PortsKey>) {
    if p.l4_len() >= header_len::UDP {
        set_ports(p, m, 6, true);
    }
}

/// Ports of SCTP. A checksum that was wrong stays wrong: what changes is the difference.
pub fn set_sctp(p: &mut Packet, m: &Masked<PortsKey>) {
    let l4 = p.l4_bytes_mut();
    let Some(ports) = l4.first_chunk::<4>().filter(|_| l4.len() >= header_len::SCTP) else { return };
    let new = merged_ports(ports, m);
    if new == *ports {
        return;
    }
    let sum = u32::from_le_bytes([l4[8], l4[9], l4[10], l4[11]]);
    l4[8..header_len::SCTP].fill(0);
    let before = crc32c(l4);
    l4[..4].copy_from_slice(&new);
    let after = crc32c(l4);
    l4[8..header_len::SCTP].copy_from_slice(&(sum ^ before ^ after).to_le_bytes());
}

/// Type and code of ICMP and ICMPv6.
pub fn set_icmp(p: &mut Packet, m: &Masked<IcmpKey>) {
    let partial = p.l4_checksum_is_partial();
    let Some(h) = p.l4_bytes_mut().first_chunk_mut::<{ header_len::ICMP }>() else { return };
    let old = be16(h, 0);
    h[0] = merge(h[0], m.key.icmp_type, m.mask.icmp_type);
    h[1] = merge(h[1], m.key.code, m.mask.code);
    if !partial {
        let sum = update16(be16(h, 2), old, be16(h, 0));
        h[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Neighbor Discovery's target and the first link-layer address option, if there is one.
pub fn set_nd(p: &mut Packet, m: &Masked<NdKey>) {
    let partial = p.l4_checksum_is_partial();
    let Some((h, options)) = p.l4_bytes_mut().split_first_chunk_mut::<{ nd::MSG_LEN }>() else { return };
    if !matches!(h[0], nd::SOLICIT | nd::ADVERT) {
        return;
    }
    let old = be128(h, 8);
    let new = merge128(old, m.key.target, m.mask.target);
    h[8..24].copy_from_slice(&u128::from(new).to_be_bytes());
    let mut sum = update128(be16(h, 2), old, new);
    if let Some(option) = first_lla(options) {
        let value = match option[0] {
            nd::OPT_SOURCE_LLA => Masked { key: m.key.sll, mask: m.mask.sll },
            _ => Masked { key: m.key.tll, mask: m.mask.tll },
        };
        let old = mac(option, 2);
        let new = merge_mac(old, value);
        option[2..].copy_from_slice(&new.0);
        sum = update_bytes(sum, &old.0, &new.0);
    }
    if !partial {
        h[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The first link-layer address option of Ethernet's length.
fn first_lla(mut options: &mut [u8]) -> Option<&mut [u8; nd::OPT_LEN]> {
    loop {
        let (kind, len) = match options.get(..2)? {
            [k, l] => (*k, usize::from(*l) * nd::OPT_LEN),
            _ => return None,
        };
        if len == 0 {
            return None;
        }
        if matches!(kind, nd::OPT_SOURCE_LLA | nd::OPT_TARGET_LLA) && len == nd::OPT_LEN {
            return options.first_chunk_mut();
        }
        options = options.get_mut(len..)?;
    }
}

/// Neighbor Discovery's reserved word and the type of its first option.
pub fn set_nd_ext(p: &mut Packet, m: &Masked<NdExtKey>) {
    let partial = p.l4_checksum_is_partial();
    let Some((h, options)) = p.l4_bytes_mut().split_first_chunk_mut::<{ nd::MSG_LEN }>() else { return };
    if !matches!(h[0], nd::SOLICIT | nd::ADVERT) {
        return;
    }
    let old = be32(h, 4);
    let new = merge(old, m.key.reserved, m.mask.reserved);
    h[4..8].copy_from_slice(&new.to_be_bytes());
    let mut sum = update32(be16(h, 2), old, new);
    if let Some(option) = options.first_chunk_mut::<{ nd::OPT_LEN }>() {
        let old = be16(option, 0);
        option[0] = merge(option[0], m.key.options_type, m.mask.options_type);
        sum = update16(sum, old, be16(option, 0));
    }
    if !partial {
        h[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}
