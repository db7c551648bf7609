//! Which attributes a key consists of.

use crate::attr::{Attr, Side, fields, single};
use flow::{Flow, MPLS_LABELS_MAX, Mask, NW_FRAG_LATER, PT_ETH};
use packet::proto::{ethertype, ip_proto, nd};
use std::borrow::Cow;

/// In a datapath key: the packet has not come in by a port.
pub(crate) const NO_PORT: u32 = u32::MAX;

/// One attribute in its place.
pub(crate) struct Node {
    pub attr: Attr,
    pub in_key: bool,
    pub in_mask: bool,
    /// Which VLAN tag this is, or the Ethernet type of.
    pub vlan: usize,
    /// The Ethernet type, if it is that of a tag.
    pub tpid: Option<u16>,
    /// How many labels an MPLS attribute has.
    pub labels: usize,
    /// What an `Encap` holds.
    pub inner: Vec<Node>,
}

impl Node {
    fn new(attr: Attr) -> Node {
        let labels = 1;
        Node { attr, in_key: true, in_mask: true, vlan: 0, tpid: None, labels, inner: Vec::new() }
    }

    /// The key as this attribute sees it: a tag's type stands where the packet's own does.
    pub fn view<'a>(&self, key: &'a Flow) -> Cow<'a, Flow> {
        match self.tpid {
            Some(tpid) => Cow::Owned(Flow { dl_type: tpid, ..key.clone() }),
            None => Cow::Borrowed(key),
        }
    }

    /// As [`Node::view`], of the mask: tags' types are always matched.
    pub fn mask_view<'a>(&self, mask: &'a Flow) -> Cow<'a, Flow> {
        match self.tpid {
            Some(_) => Cow::Owned(Flow { dl_type: u16::MAX, ..mask.clone() }),
            None => Cow::Borrowed(mask),
        }
    }

    /// Whether `mask` has no bit of this attribute.
    pub fn is_wildcard(&self, mask: &Flow) -> bool {
        match self.attr {
            Attr::EtherType if self.tpid.is_some() => false,
            Attr::Vlan => mask.vlans.get(self.vlan).is_none_or(|v| v.tci == 0),
            Attr::Mpls => mask.mpls_lse[..self.labels.min(MPLS_LABELS_MAX)].iter().all(|l| *l == 0),
            Attr::CtState => mask.ct_state & 0xff == 0,
            Attr::CtLabel => mask.ct_label.is_zero(),
            Attr::TcpFlags => mask.tcp_flags & 0xfff == 0,
            Attr::Tunnel | Attr::Nsh | Attr::Encap => false,
            attr => fields(attr).iter().chain(single(attr)).all(|f| (f.get)(mask, Side::Mask) == 0),
        }
    }
}

/// The attributes of `key`, those in tags nested.
pub(crate) fn nodes(key: &Flow, mask: Option<&Mask>, vlan_limit: usize) -> Vec<Node> {
    let mut list = Vec::new();
    push_metadata(&mut list, key);
    if key.packet_type == PT_ETH {
        list.push(Node::new(Attr::Ethernet));
        push_from_vlan(&mut list, key, mask, 0, vlan_limit);
    } else {
        push_from_type(&mut list, key, mask);
    }
    list
}

fn push_metadata(list: &mut Vec<Node>, key: &Flow) {
    let has_tunnel = key.tunnel.is_set() || key.tunnel.src != 0 || !key.tunnel.ipv6_src.is_zero();
    list.push(Node::new(Attr::Priority));
    list.push(Node { in_key: has_tunnel, ..Node::new(Attr::Tunnel) });
    for attr in [Attr::SkbMark, Attr::CtState, Attr::CtZone, Attr::CtMark, Attr::CtLabel] {
        list.push(Node::new(attr));
    }
    match key.dl_type {
        ethertype::IPV4 if key.ct_nw_proto != 0 => list.push(Node::new(Attr::CtTuple4)),
        ethertype::IPV6 if key.ct_nw_proto != 0 => list.push(Node::new(Attr::CtTuple6)),
        _ => {}
    }
    list.push(Node::new(Attr::RecircId));
    list.push(Node::new(Attr::DpHash));
    list.push(Node { in_key: key.in_port != NO_PORT, ..Node::new(Attr::InPort) });
    list.push(Node::new(Attr::PacketType));
}

/// Tag `at` with everything in it, or what follows the last one.
fn push_from_vlan(list: &mut Vec<Node>, key: &Flow, mask: Option<&Mask>, at: usize, limit: usize) {
    let tag = key.vlans.get(at).filter(|_| at < limit);
    let cut_short = tag.is_some_and(|t| t.tci == 0) && ethertype::is_vlan(key.dl_type);
    let tpid = match tag {
        Some(t) if t.tci != 0 => t.tpid,
        Some(_) if cut_short => key.dl_type,
        _ => return push_from_type(list, key, mask),
    };
    list.push(Node { tpid: Some(tpid), vlan: at, ..Node::new(Attr::EtherType) });
    list.push(Node { vlan: at, ..Node::new(Attr::Vlan) });
    let mut inner = Vec::new();
    if !cut_short {
        push_from_vlan(&mut inner, key, mask, at + 1, limit);
    }
    list.push(Node { inner, ..Node::new(Attr::Encap) });
}

/// The Ethernet type and what it says there is.
fn push_from_type(list: &mut Vec<Node>, key: &Flow, mask: Option<&Mask>) {
    if key.dl_type < ethertype::MIN {
        // No type to show; the mask still says that a frame without one is meant.
        list.push(Node { in_key: false, ..Node::new(Attr::EtherType) });
        return;
    }
    list.push(Node::new(Attr::EtherType));
    let attr = match key.dl_type {
        ethertype::IPV4 => Attr::Ipv4,
        ethertype::IPV6 => Attr::Ipv6,
        ethertype::ARP | ethertype::RARP => Attr::Arp,
        ethertype::NSH => Attr::Nsh,
        t if ethertype::is_mpls(t) => Attr::Mpls,
        _ => return,
    };
    list.push(Node { labels: count_labels(key), ..Node::new(attr) });
    if key.is_ip() && key.nw_frag & NW_FRAG_LATER == 0 {
        push_transport(list, key, mask);
    }
}

/// Label stack entries in a key: up to the bottom of the stack, or to where the key ends.
pub fn count_labels(f: &Flow) -> usize {
    if !ethertype::is_mpls(f.dl_type) {
        return 0;
    }
    match f.mpls_lse.iter().position(|l| l & 0x100 != 0) {
        Some(at) => at + 1,
        None => f.mpls_lse.iter().filter(|l| **l != 0).count(),
    }
}

/// Whether this is a Neighbor Discovery message that the key has the inside of.
pub(crate) fn is_nd(f: &Flow) -> bool {
    let types = [u16::from(nd::SOLICIT), u16::from(nd::ADVERT)];
    f.dl_type == ethertype::IPV6
        && f.nw_proto == ip_proto::ICMPV6
        && f.tp_dst == 0
        && types.contains(&f.tp_src)
}

fn push_transport(list: &mut Vec<Node>, key: &Flow, mask: Option<&Mask>) {
    match (key.dl_type, key.nw_proto) {
        (_, ip_proto::TCP) => {
            list.push(Node::new(Attr::Tcp));
            let masked = mask.is_some_and(|m| m.tcp_flags != 0);
            let in_key = key.tcp_flags != 0 || masked;
            list.push(Node { in_key, in_mask: masked, ..Node::new(Attr::TcpFlags) });
        }
        (_, ip_proto::UDP) => list.push(Node::new(Attr::Udp)),
        (_, ip_proto::SCTP) => list.push(Node::new(Attr::Sctp)),
        (ethertype::IPV4, ip_proto::ICMP) => list.push(Node::new(Attr::Icmp)),
        (ethertype::IPV6, ip_proto::ICMPV6) => {
            list.push(Node::new(Attr::Icmpv6));
            if is_nd(key) {
                push_nd(list, key, mask);
            }
        }
        _ => {}
    }
}

/// The inside of Neighbor Discovery is matched only where its type and code are.
fn push_nd(list: &mut Vec<Node>, key: &Flow, mask: Option<&Mask>) {
    let in_mask = mask.is_some_and(|m| m.tp_src == 0xff && m.tp_dst == 0xff);
    let has_ext = |f: &Flow| f.nd_reserved != 0 || f.nd_options_type != 0;
    list.push(Node { in_mask, ..Node::new(Attr::Nd) });
    let ext_in_mask = in_mask && mask.is_some_and(|m| has_ext(m));
    list.push(Node { in_key: has_ext(key), in_mask: ext_in_mask, ..Node::new(Attr::NdExt) });
}
