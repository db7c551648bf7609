//! The mask of a megaflow: what is always looked at, and what the datapath does not know.

use flow::{Flow, Mask, PT_ETH, VLAN_CFI, Vlan, word};

/// Bits that every translation looks at.
pub fn initial(flow: &Flow) -> Mask {
    let mut wc = Mask::NONE;
    wc.in_port = u32::MAX;
    wc.recirc_id = u32::MAX;
    wc.packet_type = u32::MAX;
    if flow.packet_type == PT_ETH {
        wc.dl_type = u16::MAX;
    }
    if flow.is_ip() {
        wc.nw_frag = flow::NW_FRAG_ANY | flow::NW_FRAG_LATER;
    }
    if flow.tunnel.is_set() {
        super::tunnel::initial_mask(flow, &mut wc);
    }
    wc
}

/// Turns the bits that a translation looked at into a mask that the datapath can have for a packet that
/// came as `flow`.
pub fn finish(wc: &mut Mask, flow: &Flow) {
    // Registers and metadata are zero or come from the frozen state; either way the rest of the key
    // settles them.
    for w in &mut wc.words_mut()[word::OPENFLOW..] {
        *w = 0;
    }
    // ICMP type and code are eight bits.
    if flow.is_icmpv4() || flow.is_icmpv6() {
        wc.tp_src &= 0xff;
        wc.tp_dst &= 0xff;
    }
    // Whoever looked at a part of a tag also looked whether there is one. That there is none need not be
    // said: a megaflow that says nothing of tags is for packets without.
    for (v, has) in wc.0.vlans.iter_mut().zip(&flow.vlans) {
        if v.tci != 0 {
            v.tci |= VLAN_CFI;
        }
        if !super::vlan::is_vlan_type(has.tpid) {
            *v = Vlan::default();
        }
        v.tpid = if v.tci != 0 { u16::MAX } else { 0 };
    }
    if !flow.is_mpls() {
        wc.mpls_lse = [0; flow::MPLS_LABELS_MAX];
    }
    // A later fragment has no ports, whatever a table's masks say.
    if flow.nw_frag & flow::NW_FRAG_LATER != 0 {
        (wc.tp_src, wc.tp_dst) = (0, 0);
    }
    if !flow.is_ip() {
        wc.nw_frag = 0;
    }
    if !flow.tunnel.is_set() {
        wc.0.tunnel = flow::Tunnel::default();
    }
}

/// A mask that matches only this key: all fields that a packet of its kind has.
pub fn exact_mask(key: &Flow) -> Mask {
    let mut mask = Mask::for_packet(key);
    mask.recirc_id = u32::MAX;
    finish(&mut mask, key);
    mask
}

/// The mask that the datapath gets: without a word on tags it means "no tag".
pub fn for_datapath(mut wc: Mask) -> Mask {
    if wc.vlans[0].tci == 0 {
        wc.0.vlans[0] = Vlan { tpid: 0, tci: u16::MAX };
    }
    wc
}
