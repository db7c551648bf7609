//! From a list of attributes to a key and its mask.
//!
//! Attributes that do not belong together are found here: each layer says which attribute must follow
//! it, and anything else is too much or too little.

use super::key_scan::{Scanned, scan_attr};
use super::scan::Scan;
use super::{PortNumbers, parse_ufid};
use crate::Ufid;
use crate::attr::{Attr, Side, fields};
use crate::key_attrs::{NO_PORT, is_nd};
use flow::{Flow, Mask, NW_FRAG_LATER, PT_ETH, VLAN_CFI, VLANS_MAX, Vlan, packet_type_of_ethertype};
use packet::proto::{ethertype, ip_proto};

/// Why a text is no key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("syntax error at {0}")]
    Syntax(String),
    #[error("{0}")]
    Invalid(String),
}

/// How well a list of attributes fits what a key must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fitness {
    Perfect,
    /// Attributes that no layer asked for.
    TooMuch,
    /// An attribute is missing.
    TooLittle,
}

/// A key read from text.
#[derive(Clone, Debug)]
pub struct ParsedKey {
    pub key: Flow,
    /// What the text matches: fields that it does not name are wildcarded.
    pub mask: Mask,
    pub ufid: Option<Ufid>,
    /// Of the key.
    pub fitness: Fitness,
    /// Of the mask.
    pub mask_fitness: Fitness,
}

/// Reads a key with masks, as `dpctl/add-flow` takes it. Whether a key that does not fit perfectly is good
/// enough is the caller's to say.
pub fn parse_key(text: &str, ports: Option<PortNumbers<'_>>) -> Result<ParsedKey, KeyError> {
    let (ufid, list) = scan_list(text, ports)?;
    let (key, fitness) = Builder::new(Side::Key, None).build(&list)?;
    let (mask, mask_fitness) = Builder::new(Side::Mask, Some(&key)).build(&list)?;
    Ok(ParsedKey { key, mask: Mask(mask), ufid, fitness, mask_fitness })
}

/// Reads a key for a packet, as `netdev-dummy/receive` and `ofproto/trace` take it. Masks are read over.
pub fn parse_exact_key(text: &str, ports: Option<PortNumbers<'_>>) -> Result<(Flow, Fitness), KeyError> {
    let (_, list) = scan_list(text, ports)?;
    Builder::new(Side::Key, None).build(&list)
}

fn scan_list(text: &str, ports: Option<PortNumbers<'_>>) -> Result<(Option<Ufid>, Vec<Scanned>), KeyError> {
    let mut s = Scan::new(text);
    let (mut ufid, mut list) = (None, Vec::new());
    loop {
        s.skip_delimiters();
        if s.is_empty() {
            return Ok((ufid, list));
        }
        if s.peek("ufid:") {
            let (id, rest) = parse_ufid(s.rest).ok_or_else(|| KeyError::Syntax(s.rest.into()))?;
            ufid = Some(id);
            s.rest = rest;
            s.skip_delimiters();
        }
        let attr = scan_attr(&mut s, ports).ok_or_else(|| KeyError::Syntax(s.rest.into()))?;
        list.push(attr);
    }
}

/// Bits by attribute.
#[derive(Clone, Copy, Default)]
struct Set(u64);

impl Set {
    fn add(&mut self, attr: Attr) {
        self.0 |= 1 << attr as u64;
    }
    fn has(self, attr: Attr) -> bool {
        self.0 & 1 << attr as u64 != 0
    }
}

/// One level of a list, looked up by attribute.
struct Level<'a> {
    list: &'a [Scanned],
    present: Set,
    expected: Set,
}

impl<'a> Level<'a> {
    fn new(list: &'a [Scanned]) -> Result<Self, KeyError> {
        let mut present = Set::default();
        for s in list {
            if present.has(s.attr) {
                let name = s.attr.name();
                return Err(KeyError::Invalid(format!("duplicate {name} attribute in flow key")));
            }
            present.add(s.attr);
        }
        Ok(Level { list, present, expected: Set::default() })
    }

    fn get(&self, attr: Attr) -> Option<&'a Scanned> {
        self.list.iter().find(|s| s.attr == attr)
    }

    fn fitness(&self) -> Fitness {
        if self.expected.0 & !self.present.0 != 0 {
            Fitness::TooLittle
        } else if self.present.0 & !self.expected.0 != 0 {
            Fitness::TooMuch
        } else {
            Fitness::Perfect
        }
    }
}

/// Builds a key, or the mask of a key that is built already.
struct Builder<'a> {
    side: Side,
    /// The key that a mask belongs to.
    of: Option<&'a Flow>,
    flow: Flow,
}

impl<'a> Builder<'a> {
    fn new(side: Side, of: Option<&'a Flow>) -> Self {
        Builder { side, of, flow: Flow::ZERO }
    }

    fn is_mask(&self) -> bool {
        self.side == Side::Mask
    }

    /// The key that says which attributes there must be.
    fn key(&self) -> &Flow {
        self.of.unwrap_or(&self.flow)
    }

    fn side_of<'s>(&self, s: &'s Scanned) -> &'s Flow {
        if self.is_mask() { &s.mask } else { &s.key }
    }

    fn build(mut self, list: &[Scanned]) -> Result<(Flow, Fitness), KeyError> {
        let mut level = Level::new(list)?;
        self.metadata(&mut level)?;
        self.link_layer(&mut level);
        self.ether_type(&mut level)?;
        let has_tag = match self.of {
            Some(key) => key.vlans[0].is_present(),
            None => ethertype::is_vlan(self.flow.dl_type),
        };
        if has_tag {
            let fitness = self.tags(level)?;
            return Ok((self.flow, fitness));
        }
        if self.is_mask() {
            // No VLAN attribute matches "no tag".
            self.flow.vlans[0] = Vlan { tpid: u16::MAX, tci: u16::MAX };
            if let Some(s) = level.get(Attr::Vlan) {
                self.flow.vlans[0].tci = s.mask.vlans[0].tci;
                level.expected.add(Attr::Vlan);
            }
        }
        let fitness = match self.behind_link_layer(&mut level)? {
            Fitness::Perfect => level.fitness(),
            other => other,
        };
        Ok((self.flow, fitness))
    }

    /// What the packet itself does not say.
    fn metadata(&mut self, level: &mut Level<'_>) -> Result<(), KeyError> {
        if self.is_mask() {
            self.flow.recirc_id = u32::MAX;
        } else {
            self.flow.in_port = NO_PORT;
        }
        for s in level.list {
            let from = self.side_of(s).clone();
            let f = &mut self.flow;
            match s.attr {
                Attr::RecircId => f.recirc_id = from.recirc_id,
                Attr::DpHash => f.dp_hash = from.dp_hash,
                Attr::Priority => f.skb_priority = from.skb_priority,
                Attr::SkbMark => f.pkt_mark = from.pkt_mark,
                Attr::CtState => f.ct_state = from.ct_state & 0xff,
                Attr::CtZone => f.ct_zone = from.ct_zone,
                Attr::CtMark => f.ct_mark = from.ct_mark,
                Attr::CtLabel => f.ct_label = from.ct_label,
                Attr::InPort => f.in_port = from.in_port,
                Attr::CtTuple4 | Attr::CtTuple6 => self.copy_fields(s),
                Attr::Tunnel if !s.has_ttl => {
                    return Err(KeyError::Invalid("tunnel options missing TTL".into()));
                }
                Attr::Tunnel => f.tunnel = from.tunnel,
                _ => continue,
            }
            level.expected.add(s.attr);
        }
        Ok(())
    }

    fn copy_fields(&mut self, s: &Scanned) {
        let from = if self.is_mask() { &s.mask } else { &s.key };
        for f in fields(s.attr) {
            (f.set)(&mut self.flow, (f.get)(from, self.side), self.side);
        }
    }

    /// The packet's type and Ethernet addresses.
    fn link_layer(&mut self, level: &mut Level<'_>) {
        if let Some(s) = level.get(Attr::PacketType) {
            self.flow.packet_type = self.side_of(s).packet_type;
            level.expected.add(Attr::PacketType);
            if self.key().packet_type >> 16 == 1 {
                self.flow.dl_type = self.flow.packet_type as u16;
            }
        } else if !self.is_mask() {
            self.flow.packet_type = PT_ETH;
        }
        if let Some(s) = level.get(Attr::Ethernet) {
            self.copy_fields(s);
            level.expected.add(Attr::Ethernet);
            if !self.is_mask() {
                self.flow.packet_type = PT_ETH;
            }
        } else if let Some(s) = level.get(Attr::EtherType) {
            level.expected.add(Attr::EtherType);
            if !self.is_mask() {
                self.flow.packet_type = packet_type_of_ethertype(s.key.dl_type);
            }
        }
    }

    fn ether_type(&mut self, level: &mut Level<'_>) -> Result<(), KeyError> {
        let key_type = self.key().dl_type;
        if let Some(s) = level.get(Attr::EtherType) {
            let t = self.side_of(s).dl_type;
            if !self.is_mask() && t < ethertype::MIN {
                return Err(KeyError::Invalid(format!("invalid Ethertype {t} in flow key")));
            }
            if self.is_mask() && key_type < ethertype::MIN && t != u16::MAX {
                return Err(KeyError::Invalid(format!(
                    "can't bitwise match non-Ethernet II \"Ethertype\" {key_type:#x} (with mask {t:#x})"
                )));
            }
            self.flow.dl_type = t;
            level.expected.add(Attr::EtherType);
        } else if !self.is_mask() {
            self.flow.dl_type = match () {
                () if level.present.has(Attr::Ipv4) => ethertype::IPV4,
                () if level.present.has(Attr::Ipv6) => ethertype::IPV6,
                () if level.present.has(Attr::Mpls) => ethertype::MPLS,
                () => ethertype::NONE,
            };
        } else if self.key().packet_type != PT_ETH {
            self.flow.dl_type = u16::MAX;
        } else if key_type < ethertype::MIN {
            return Err(KeyError::Invalid("mask expected for non-Ethernet II frame".into()));
        }
        Ok(())
    }

    /// Tags and what they hold.
    fn tags(&mut self, mut level: Level<'_>) -> Result<Fitness, KeyError> {
        for at in 0..VLANS_MAX {
            let more = match self.of {
                Some(key) => key.vlans[at].is_present(),
                None => ethertype::is_vlan(self.flow.dl_type),
            };
            if !more {
                break;
            }
            let (vlan, encap) = (level.get(Attr::Vlan), level.get(Attr::Encap));
            for attr in [Attr::Vlan, Attr::Encap] {
                if !self.is_mask() || level.present.has(attr) {
                    level.expected.add(attr);
                }
            }
            let fitness = level.fitness();
            let tci = vlan.map_or(0, |s| self.side_of(s).vlans[0].tci);
            self.flow.vlans[at] = Vlan { tpid: self.flow.dl_type, tci };
            self.flow.dl_type = 0;
            let Some(encap) = encap else {
                return Ok(if self.is_mask() { fitness } else { Fitness::TooLittle });
            };
            if !self.is_mask() {
                if vlan.is_none() {
                    return Ok(Fitness::TooLittle);
                } else if tci == 0 {
                    // The frame ends in the middle of the tag.
                    let holds_more = fitness == Fitness::Perfect && !encap.inner.is_empty();
                    return Ok(if holds_more { Fitness::TooMuch } else { fitness });
                } else if tci & VLAN_CFI == 0 {
                    return Err(KeyError::Invalid(format!(
                        "OVS_KEY_ATTR_VLAN 0x{tci:04x} is nonzero but CFI bit is not set"
                    )));
                }
            }
            level = Level::new(&encap.inner)?;
            self.ether_type(&mut level)?;
            let inner = self.behind_link_layer(&mut level)?;
            if inner != Fitness::Perfect {
                return Ok(inner);
            }
        }
        Ok(level.fitness())
    }

    /// MPLS and the network layer; the transport layer if there is one.
    fn behind_link_layer(&mut self, level: &mut Level<'_>) -> Result<Fitness, KeyError> {
        let (key_type, is_mask) = (self.key().dl_type, self.is_mask());
        let attr = match key_type {
            t if ethertype::is_mpls(t) => return self.mpls(level),
            ethertype::IPV4 => Attr::Ipv4,
            ethertype::IPV6 => Attr::Ipv6,
            ethertype::ARP | ethertype::RARP => Attr::Arp,
            ethertype::NSH => Attr::Nsh,
            _ => return Ok(Fitness::Perfect),
        };
        if !is_mask {
            level.expected.add(attr);
        }
        if let Some(s) = level.get(attr) {
            if attr == Attr::Nsh {
                self.flow.nsh = self.side_of(s).nsh;
            } else {
                self.copy_fields(s);
            }
            if is_mask {
                self.check_l3_mask(s, key_type)?;
                level.expected.add(attr);
            }
        }
        self.transport(level)?;
        Ok(Fitness::Perfect)
    }

    fn check_l3_mask(&self, s: &Scanned, key_type: u16) -> Result<(), KeyError> {
        let matches_something = s.mask.words().iter().any(|w| *w != 0);
        let t = self.flow.dl_type;
        if matches_something && t != u16::MAX {
            return Err(KeyError::Invalid(format!(
                "unexpected L3 matching with masked Ethertype {key_type:#x}/{t:#x}"
            )));
        }
        Ok(())
    }

    fn mpls(&mut self, level: &mut Level<'_>) -> Result<Fitness, KeyError> {
        if !self.is_mask() {
            level.expected.add(Attr::Mpls);
        }
        let Some(s) = level.get(Attr::Mpls) else { return Ok(Fitness::Perfect) };
        level.expected.add(Attr::Mpls);
        let n = s.labels;
        self.flow.mpls_lse = self.side_of(s).mpls_lse;
        if self.is_mask() {
            return Ok(Fitness::Perfect);
        }
        let is_bottom = |lse: &u32| lse & 0x100 != 0;
        if self.flow.mpls_lse[..n.saturating_sub(1)].iter().any(is_bottom) {
            return Err(KeyError::Invalid("MPLS BOS set in non-innermost label".into()));
        }
        let ends = n == 0 || is_bottom(&self.flow.mpls_lse[n - 1]);
        Ok(if n < flow::MPLS_LABELS_MAX && !ends { Fitness::TooLittle } else { Fitness::Perfect })
    }

    fn transport(&mut self, level: &mut Level<'_>) -> Result<(), KeyError> {
        let key = self.key().clone();
        if !key.is_ip() || key.nw_frag & NW_FRAG_LATER != 0 {
            return Ok(());
        }
        let attr = match (key.dl_type, key.nw_proto) {
            (_, ip_proto::TCP) => Attr::Tcp,
            (_, ip_proto::UDP) => Attr::Udp,
            (_, ip_proto::SCTP) => Attr::Sctp,
            (ethertype::IPV4, ip_proto::ICMP) => Attr::Icmp,
            (ethertype::IPV6, ip_proto::ICMPV6) => Attr::Icmpv6,
            _ => return Ok(()),
        };
        if !self.is_mask() {
            level.expected.add(attr);
        }
        if let Some(s) = level.get(attr) {
            self.copy_fields(s);
            level.expected.add(attr);
            if attr == Attr::Icmpv6 {
                self.neighbor_discovery(level)?;
            }
        }
        if let Some(s) = level.get(Attr::TcpFlags).filter(|_| attr == Attr::Tcp) {
            self.flow.tcp_flags = self.side_of(s).tcp_flags;
            level.expected.add(Attr::TcpFlags);
        }
        let f = &self.flow;
        if self.is_mask() && level.present.has(attr) && f.tp_src | f.tp_dst != 0 && f.nw_proto != 0xff {
            let why = "flow matches on L4 ports but does not define an L4 protocol";
            return Err(KeyError::Invalid(why.into()));
        }
        Ok(())
    }

    fn neighbor_discovery(&mut self, level: &mut Level<'_>) -> Result<(), KeyError> {
        let key = if self.is_mask() { self.key().clone() } else { self.flow.clone() };
        if !is_nd(&key) {
            return Ok(());
        }
        if !self.is_mask() {
            level.expected.add(Attr::Nd);
        }
        for attr in [Attr::Nd, Attr::NdExt] {
            let Some(s) = level.get(attr) else { continue };
            self.copy_fields(s);
            level.expected.add(attr);
            let matched = s.mask.words().iter().any(|w| *w != 0);
            let (src, dst) = (self.flow.tp_src, self.flow.tp_dst);
            if self.is_mask() && matched && (src, dst) != (0xff, 0xff) {
                return Err(KeyError::Invalid(format!(
                    "ICMP (src,dst) masks should be (0xff,0xff) but are actually ({src:#x},{dst:#x})"
                )));
            }
        }
        Ok(())
    }
}
