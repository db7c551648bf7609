//! Ethernet, VLAN tags, MPLS labels and NSH.

use super::{merge, merge_mac};
use crate::cursor::{be16, be32};
use crate::header::{EthKey, Masked, NSH_MD2_MAX, NshHeader};
use crate::proto::{ethertype, header_len, nsh, packet_type};
use crate::{NO_OFFSET, Packet};
use flow::{EthAddr, Nsh, PT_ETH, VLAN_CFI, packet_type_of_ethertype};

/// Ethernet addresses, the bytes in front of a tag.
const MACS: usize = 12;

/// Pushes a VLAN tag. The drop-eligible bit of `tci` (it marks presence in a key) goes out as 0.
pub fn push_vlan(p: &mut Packet, tpid: u16, tci: u16) {
    if !p.is_eth() || p.len() < header_len::ETH {
        return;
    }
    let data = p.push_front(header_len::VLAN);
    data.copy_within(header_len::VLAN..header_len::VLAN + MACS, 0);
    data[MACS..MACS + 2].copy_from_slice(&tpid.to_be_bytes());
    data[MACS + 2..MACS + 4].copy_from_slice(&(tci & !VLAN_CFI).to_be_bytes());
}

/// Takes off the outermost VLAN tag.
pub fn pop_vlan(p: &mut Packet) {
    let Some(h) = p.data().first_chunk::<18>() else { return };
    if p.is_eth() && ethertype::is_vlan(be16(h, MACS)) {
        p.data_mut().copy_within(..MACS, header_len::VLAN);
        p.pull_front(header_len::VLAN);
    }
}

pub fn set_eth(p: &mut Packet, m: &Masked<EthKey>) {
    if !p.is_eth() || p.len() < header_len::ETH {
        return;
    }
    let Some(h) = p.data_mut().first_chunk_mut::<MACS>() else { return };
    let dst = merge_mac(crate::cursor::mac(h, 0), Masked { key: m.key.dst, mask: m.mask.dst });
    let src = merge_mac(crate::cursor::mac(h, 6), Masked { key: m.key.src, mask: m.mask.src });
    h[..6].copy_from_slice(&dst.0);
    h[6..].copy_from_slice(&src.0);
}

/// Gives a packet without an Ethernet header one; its type comes from the packet's type.
pub fn push_eth(p: &mut Packet, dst: EthAddr, src: EthAddr) {
    if p.is_eth() {
        return;
    }
    let ethertype = p.packet_type as u16;
    let h = p.push_front(header_len::ETH);
    h[..6].copy_from_slice(&dst.0);
    h[6..12].copy_from_slice(&src.0);
    h[12..14].copy_from_slice(&ethertype.to_be_bytes());
    p.packet_type = PT_ETH;
}

/// Takes off the Ethernet header and the tags behind it.
pub fn pop_eth(p: &mut Packet) {
    let at = match (p.l2_5_ofs, p.l3_ofs) {
        (NO_OFFSET, NO_OFFSET) => return,
        (NO_OFFSET, l3) => usize::from(l3),
        (l2_5, _) => usize::from(l2_5),
    };
    if !p.is_eth() || at < header_len::ETH {
        return;
    }
    let Some(t) = p.data().get(at - 2..at).and_then(|t| t.first_chunk::<2>()) else { return };
    let ethertype = u16::from_be_bytes(*t);
    p.pull_front(at);
    p.packet_type = packet_type_of_ethertype(ethertype);
}

/// Writes the innermost Ethernet type, the one behind all tags.
fn set_ethertype(p: &mut Packet, to: u16) {
    if !p.is_eth() {
        return;
    }
    let end = match p.l2_5_ofs {
        NO_OFFSET => p.l3_ofs,
        l2_5 => l2_5,
    };
    let Some(h) = p.data().first_chunk::<14>() else { return };
    let at = if ethertype::is_vlan(be16(h, MACS)) { usize::from(end).saturating_sub(2) } else { MACS };
    if let Some(field) = p.data_mut().get_mut(at..at + 2) {
        field.copy_from_slice(&to.to_be_bytes());
    }
}

/// Pushes a label stack entry in front of the network layer or of the labels that are there.
/// `ethertype` must be one of MPLS.
pub fn push_mpls(p: &mut Packet, ethertype: u16, lse: u32) {
    if !ethertype::is_mpls(ethertype) {
        return;
    }
    let had_labels = p.l2_5_ofs != NO_OFFSET;
    let at = if had_labels { p.l2_5_ofs } else { p.l3_ofs };
    // Not parsed, or an Ethernet frame cut short.
    if at == NO_OFFSET || usize::from(at) > p.len() || (p.is_eth() && usize::from(at) < header_len::ETH) {
        return;
    }
    p.l2_5_ofs = at;
    set_ethertype(p, ethertype);
    if !p.is_eth() {
        p.packet_type = packet_type_of_ethertype(ethertype);
    }
    insert_after_l2(p, usize::from(at), &lse.to_be_bytes());
    p.l2_5_ofs = at;
}

/// Makes room at `at`, moving what lies before it to the front.
fn insert_after_l2(p: &mut Packet, at: usize, what: &[u8; 4]) {
    let data = p.push_front(what.len());
    data.copy_within(what.len()..what.len() + at, 0);
    data[at..at + what.len()].copy_from_slice(what);
}

/// `add_mpls`: with `l3`, as [`push_mpls`]; without, in front of everything, so that the whole frame becomes
/// the payload of a packet without an Ethernet header.
pub fn add_mpls(p: &mut Packet, ethertype: u16, lse: u32, l3: bool) {
    if l3 {
        push_mpls(p, ethertype, lse);
        return;
    }
    if !ethertype::is_mpls(ethertype) {
        return;
    }
    p.push_front(header_len::MPLS)[..4].copy_from_slice(&lse.to_be_bytes());
    p.l2_5_ofs = 0;
    p.packet_type = packet_type_of_ethertype(ethertype);
}

/// Takes off the outermost label; what is behind it is of type `ethertype`.
pub fn pop_mpls(p: &mut Packet, ethertype: u16) {
    let at = p.l2_5_ofs;
    let Some(h) = p.header::<4>(at) else { return };
    let is_last = be32(h, 0) & 0x100 != 0;
    set_ethertype(p, ethertype);
    let at = usize::from(at);
    p.data_mut().copy_within(..at, header_len::MPLS);
    p.pull_front(header_len::MPLS);
    // The label went, not what lies in front of it.
    p.l2_5_ofs = if is_last { NO_OFFSET } else { at as u16 };
    p.forget_good_checksum();
    if at == 0 {
        p.packet_type = match ethertype {
            ethertype::TEB => PT_ETH,
            t => packet_type_of_ethertype(t),
        };
    }
}

pub fn set_mpls(p: &mut Packet, m: &Masked<u32>) {
    let Some(h) = p.header::<4>(p.l2_5_ofs) else { return };
    *h = merge(be32(h, 0), m.key, m.mask).to_be_bytes();
}

/// Pushes an NSH header. Its next protocol comes from the packet's type; false (and no change) if NSH
/// has no number for that, or if the metadata does not fit.
pub fn push_nsh(p: &mut Packet, header: &NshHeader) -> bool {
    let np = match p.packet_type {
        PT_ETH => nsh::NP_ETHERNET,
        packet_type::IPV4 => nsh::NP_IPV4,
        packet_type::IPV6 => nsh::NP_IPV6,
        packet_type::NSH => nsh::NP_NSH,
        _ => return false,
    };
    let k = &header.key;
    let context: Vec<u8> = match k.mdtype {
        nsh::MD1 => k.context.iter().flat_map(|c| c.to_be_bytes()).collect(),
        nsh::MD2 => header.md2.clone(),
        _ => Vec::new(),
    };
    if context.len() > NSH_MD2_MAX || !context.len().is_multiple_of(4) {
        return false;
    }
    let len = nsh::BASE_LEN + context.len();
    let h = p.push_front(len);
    h[..2].copy_from_slice(&first_word(k, (len / 4) as u16).to_be_bytes());
    h[2] = k.mdtype;
    h[3] = np;
    h[4..8].copy_from_slice(&k.path_hdr.to_be_bytes());
    h[8..len].copy_from_slice(&context);
    p.packet_type = packet_type::NSH;
    p.forget_offsets();
    p.l3_ofs = 0;
    true
}

/// Version 0, flags, TTL and length in 4-byte words.
fn first_word(k: &Nsh, words: u16) -> u16 {
    (u16::from(k.flags & 3) << 12) | (u16::from(k.ttl & 0x3f) << 6) | words
}

/// Takes off an NSH header; the packet must then be parsed again. False if what is behind it has no
/// packet type, or the header is cut short: such a packet is to be dropped.
pub fn pop_nsh(p: &mut Packet) -> bool {
    if p.packet_type != packet_type::NSH {
        return true;
    }
    let Some(h) = p.data().first_chunk::<{ nsh::BASE_LEN }>() else { return false };
    let next = match h[3] {
        nsh::NP_ETHERNET => PT_ETH,
        nsh::NP_IPV4 => packet_type::IPV4,
        nsh::NP_IPV6 => packet_type::IPV6,
        nsh::NP_NSH => packet_type::NSH,
        _ => return false,
    };
    let len = usize::from(be16(h, 0) & 0x3f) * 4;
    if len < nsh::BASE_LEN || len > p.len() {
        return false;
    }
    p.pull_front(len);
    p.forget_offsets();
    p.packet_type = next;
    true
}

/// Flags, TTL, path and, of metadata type 1, context.
pub fn set_nsh(p: &mut Packet, m: &Masked<Nsh>) {
    if p.l3_type() != Some(ethertype::NSH) {
        return;
    }
    let l3 = p.l3_ofs;
    let Some(h) = p.header::<{ nsh::BASE_LEN }>(l3) else { return };
    let first = be16(h, 0);
    let old = Nsh { flags: (first >> 12) as u8 & 3, ttl: (first >> 6) as u8 & 0x3f, ..Nsh::default() };
    let new = Nsh {
        flags: merge(old.flags, m.key.flags, m.mask.flags),
        ttl: merge(old.ttl, m.key.ttl, m.mask.ttl),
        ..old
    };
    let keep = first & 0xc03f;
    h[..2].copy_from_slice(&(keep | first_word(&new, 0)).to_be_bytes());
    let path = merge(be32(h, 4), m.key.path_hdr, m.mask.path_hdr);
    h[4..8].copy_from_slice(&path.to_be_bytes());
    let is_md1 = h[2] & 0xf == nsh::MD1;
    let Some(h) = p.header::<{ nsh::MD1_LEN }>(l3).filter(|_| is_md1) else { return };
    for (i, (key, mask)) in m.key.context.iter().zip(m.mask.context).enumerate() {
        let at = nsh::BASE_LEN + 4 * i;
        let word = merge(be32(h, at), *key, mask);
        h[at..at + 4].copy_from_slice(&word.to_be_bytes());
    }
}
