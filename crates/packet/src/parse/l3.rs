//! MPLS, IPv4, IPv6, ARP and NSH.

use super::{Meta, Offsets, l4};
use crate::cursor::{Cursor, be16, be32, be128, mac};
use crate::proto::{header_len, ip_proto, nsh};
use flow::{Flow, NW_FRAG_ANY, NW_FRAG_LATER, Nsh};

const MPLS_BOTTOM: u32 = 0x100;

/// Takes the whole label stack; the key holds its first entries.
pub(super) fn parse_mpls(c: &mut Cursor<'_>, flow: &mut Flow) {
    let mut at = 0;
    while let Some(h) = c.take::<4>() {
        let lse = be32(h, 0);
        if let Some(slot) = flow.mpls_lse.get_mut(at) {
            *slot = lse;
        }
        at += 1;
        if lse & MPLS_BOTTOM != 0 {
            return;
        }
    }
}

/// Takes the header and cuts `c` to the packet's own length. `None` if the header is no good: then no
/// field is set. The version is not looked at: the Ethernet type has said it.
pub(super) fn parse_ipv4(
    c: &mut Cursor<'_>,
    meta: &Meta<'_>,
    flow: &mut Flow,
    ofs: &mut Offsets,
) -> Option<()> {
    let h = c.peek::<{ header_len::IPV4 }>()?;
    let header = usize::from(h[0] & 0xf) * 4;
    let total = usize::from(be16(h, 2));
    let size = c.len();
    if header < header_len::IPV4 || size < header || total > size || header > total {
        return None;
    }
    ofs.l2_pad = u16::try_from(size - total).ok()?;
    c.0 = c.0.get(header..total)?;
    flow.nw_src = be32(h, 12);
    flow.nw_dst = be32(h, 16);
    flow.nw_tos = h[1];
    flow.nw_ttl = h[8];
    flow.nw_proto = h[9];
    flow.nw_frag = ipv4_frag(be16(h, 6));
    l4::write_ct_addrs(meta, flow);
    Some(())
}

fn ipv4_frag(field: u16) -> u8 {
    let (more, offset) = (field & 0x2000 != 0, field & 0x1fff != 0);
    match (more, offset) {
        (_, true) => NW_FRAG_ANY | NW_FRAG_LATER,
        (true, false) => NW_FRAG_ANY,
        (false, false) => 0,
    }
}

/// As [`parse_ipv4`], through the extension headers. When those are cut short, only the addresses are set.
pub(super) fn parse_ipv6(
    c: &mut Cursor<'_>,
    meta: &Meta<'_>,
    flow: &mut Flow,
    ofs: &mut Offsets,
) -> Option<()> {
    let h = c.peek::<{ header_len::IPV6 }>()?;
    let payload = usize::from(be16(h, 4));
    let pad = c.len().checked_sub(header_len::IPV6 + payload)?;
    ofs.l2_pad = u16::try_from(pad).ok()?;
    c.0 = c.0.get(header_len::IPV6..header_len::IPV6 + payload)?;
    flow.ipv6_src = be128(h, 8);
    flow.ipv6_dst = be128(h, 24);
    l4::write_ct_addrs(meta, flow);
    let (proto, frag) = skip_extensions(c, h[6])?;
    let word = be32(h, 0);
    flow.nw_proto = proto;
    flow.nw_frag = frag;
    flow.nw_tos = (word >> 20) as u8;
    flow.nw_ttl = h[7];
    flow.ipv6_label = word & 0xf_ffff;
    Some(())
}

/// Takes extension headers; returns what follows them and the fragment bits. Behind a fragment header
/// other than the first there is nothing to look at, and the protocol stays [`ip_proto::FRAGMENT`].
pub(crate) fn skip_extensions(c: &mut Cursor<'_>, first: u8) -> Option<(u8, u8)> {
    let (mut proto, mut frag) = (first, 0);
    while ip_proto::is_ipv6_extension(proto) {
        let h = c.peek::<8>()?;
        let len = match proto {
            ip_proto::FRAGMENT => 8,
            ip_proto::AH => (usize::from(h[1]) + 2) * 4,
            _ => (usize::from(h[1]) + 1) * 8,
        };
        c.skip(len)?;
        if proto == ip_proto::FRAGMENT && be16(h, 2) != 0 {
            frag = NW_FRAG_ANY;
            if be16(h, 2) & 0xfff8 != 0 {
                return Some((ip_proto::FRAGMENT, NW_FRAG_ANY | NW_FRAG_LATER));
            }
        }
        proto = h[0];
    }
    Some((proto, frag))
}

/// Ethernet and IPv4 addresses only (RFC 826). An opcode above 255 reads as 0.
pub(super) fn parse_arp(c: &Cursor<'_>, flow: &mut Flow) {
    let Some(h) = c.peek::<{ header_len::ARP }>() else { return };
    const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
    if h[..6] != ETHERNET_IPV4 {
        return;
    }
    flow.nw_proto = u8::try_from(be16(h, 6)).unwrap_or(0);
    flow.arp_sha = mac(h, 8);
    flow.nw_src = be32(h, 14);
    flow.arp_tha = mac(h, 18);
    flow.nw_dst = be32(h, 24);
}

/// RFC 8300. Context headers only of metadata type 1.
pub(super) fn parse_nsh(c: &Cursor<'_>, flow: &mut Flow) {
    let Some(h) = c.peek::<{ nsh::BASE_LEN }>() else { return };
    let first = be16(h, 0);
    let len = usize::from(first & 0x3f) * 4;
    if len > c.len() || first >> 14 != 0 {
        return;
    }
    let mut key = Nsh {
        flags: (first >> 12) as u8 & 3,
        ttl: (first >> 6) as u8 & 0x3f,
        mdtype: h[2],
        np: h[3],
        path_hdr: be32(h, 4),
        context: [0; 4],
    };
    match key.mdtype {
        nsh::MD1 => {
            let Some(h) = c.peek::<{ nsh::MD1_LEN }>().filter(|_| len == nsh::MD1_LEN) else { return };
            for (i, word) in key.context.iter_mut().enumerate() {
                *word = be32(h, nsh::BASE_LEN + 4 * i);
            }
        }
        nsh::MD2 if len < nsh::BASE_LEN => return,
        _ => {}
    }
    flow.nsh = key;
}
