//! The common packet: Ethernet, at most one VLAN tag, IPv4 without options or fragments, TCP or UDP.

use super::{Meta, l4, write_meta};
use crate::cursor::{be16, be32, mac};
use crate::proto::{ethertype, header_len, ip_proto};
use crate::{NO_OFFSET, Packet};
use flow::{Flow, PT_ETH, VLAN_CFI, Vlan};

/// IPv4 header and as much of the transport header as both TCP and UDP have.
const IP_AND_PORTS: usize = header_len::IPV4 + header_len::UDP;

/// Does all of [`super::extract`] and returns true, or touches nothing and returns false.
#[inline(always)]
pub(super) fn extract(packet: &mut Packet, meta: &Meta<'_>, flow: &mut Flow) -> bool {
    if packet.packet_type != PT_ETH {
        return false;
    }
    let data = packet.data();
    let Some(eth) = data.first_chunk::<18>() else { return false };
    let (mut vlan, mut l3, mut dl_type) = (Vlan::default(), header_len::ETH, be16(eth, 12));
    if ethertype::is_vlan(dl_type) {
        vlan = Vlan { tpid: dl_type, tci: be16(eth, 14) | VLAN_CFI };
        l3 += header_len::VLAN;
        dl_type = be16(eth, 16);
    }
    if dl_type != ethertype::IPV4 {
        return false;
    }
    let Some((rest, ip)) = data.get(l3..).and_then(|r| Some((r, r.first_chunk::<IP_AND_PORTS>()?))) else {
        return false;
    };
    let Some(l2_pad) = accept(ip, rest) else { return false };
    let tcp_flags = match ip[9] {
        ip_proto::UDP => 0,
        ip_proto::TCP => match tcp_flags(rest, be16(ip, 2)) {
            Some(f) => f,
            None => return false,
        },
        _ => return false,
    };
    write_meta(meta, PT_ETH, flow);
    flow.dl_dst = mac(eth, 0);
    flow.dl_src = mac(eth, 6);
    flow.dl_type = ethertype::IPV4;
    flow.vlans[0] = vlan;
    flow.nw_src = be32(ip, 12);
    flow.nw_dst = be32(ip, 16);
    flow.nw_proto = ip[9];
    flow.nw_tos = ip[1];
    flow.nw_ttl = ip[8];
    flow.tp_src = be16(ip, 20);
    flow.tp_dst = be16(ip, 22);
    flow.tcp_flags = tcp_flags;
    l4::write_ct_addrs(meta, flow);
    l4::write_ct_ports(meta, flow);
    packet.l2_5_ofs = NO_OFFSET;
    packet.l3_ofs = l3 as u16;
    packet.l4_ofs = (l3 + header_len::IPV4) as u16;
    packet.l2_pad = l2_pad;
    true
}

/// The padding behind a header that this path takes.
#[inline(always)]
fn accept(ip: &[u8; IP_AND_PORTS], rest: &[u8]) -> Option<u16> {
    let total = usize::from(be16(ip, 2));
    let fits = ip[0] & 0xf == 5 && total >= IP_AND_PORTS && total <= rest.len();
    // More fragments, or an offset.
    if !fits || be16(ip, 6) & 0x3fff != 0 {
        return None;
    }
    u16::try_from(rest.len() - total).ok()
}

#[inline(always)]
fn tcp_flags(rest: &[u8], total: u16) -> Option<u16> {
    let h = rest.first_chunk::<{ header_len::IPV4 + header_len::TCP }>()?;
    let control = be16(h, header_len::IPV4 + 12);
    let header = usize::from(control >> 12) * 4;
    let fits = header >= header_len::TCP && header_len::IPV4 + header <= usize::from(total);
    fits.then_some(control & 0xfff)
}
