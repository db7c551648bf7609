//! Datapath actions, one by one.

use crate::drops::DropCause;
use crate::item::{Item, Items};
use crate::tunnel;
use crate::upcall::PendingKind;
use crate::worker::{View, Worker};
use dpif::{Action, HashAlg, SetKey, Userdata};
use flow::{Flow, Tunnel};
use packet::proto::header_len;
use packet::{GsoKind, edit};
use std::sync::Arc;

/// Passes through the table that one packet may make after the first. (Debian's daemon lets 6 happen; OVN's gateway
/// routers need more.)
pub const RECIRCULATIONS_MAX: usize = 32;

/// Lists of actions under way at one moment: each is within the one before it, or for what recirculated there.
pub const NESTING_MAX: usize = 128;

/// Stack of a thread that runs actions, in bytes: room for [`NESTING_MAX`] lists of actions, without optimisation.
pub const STACK: usize = 8 << 20;

impl Worker {
    /// Runs `actions` on `items` and leaves it empty. `depth` is the number of recirculations before.
    pub fn execute(&mut self, view: View<'_>, actions: &[Action], items: &mut Items, depth: usize) {
        if self.nesting >= NESTING_MAX {
            self.drop_items(items, DropCause::RecircError);
            return;
        }
        self.nesting += 1;
        self.run_list(view, actions, items, depth);
        self.nesting -= 1;
    }

    fn run_list(&mut self, view: View<'_>, actions: &[Action], items: &mut Items, depth: usize) {
        for (i, action) in actions.iter().enumerate() {
            if items.is_empty() {
                return;
            }
            if tunnel::wants_single_packets(action)
                && self.execute_single(view, actions.get(i..).unwrap_or(&[]), items, depth)
            {
                return;
            }
            self.act(view, action, items, i + 1 == actions.len(), depth);
        }
        if items.is_empty() {
            return;
        }
        if leads_somewhere(actions) {
            for item in items.drain(..) {
                self.counters(item.meta.in_port).finished.add(1);
            }
        } else {
            self.drop_items(items, DropCause::OfPipeline);
        }
    }

    /// Runs one action. The `last` one of a list may use the packets up.
    fn act(&mut self, view: View<'_>, action: &Action, items: &mut Items, last: bool, depth: usize) {
        match action {
            Action::Output(port) => self.output(*port, items, last),
            Action::Userspace(u) => self.userspace(&u.userdata, items, last, depth),
            Action::Recirc(id) => self.recirculate(view, *id, items, last, depth),
            Action::Clone(actions) => {
                let mut copies = self.copies(items, last);
                self.execute(view, actions, &mut copies, depth);
            }
            Action::Sample { probability, actions } => {
                self.sample(view, *probability, actions, items, last, depth);
            }
            Action::CheckPktLen { len, greater, less_equal } => {
                let mut short = self.copies(items, last);
                let mut long: Items = short.iter().filter(|i| is_longer(i, *len)).cloned().collect();
                short.retain(|i| !is_longer(i, *len));
                self.execute(view, greater, &mut long, depth);
                self.execute(view, less_equal, &mut short, depth);
            }
            Action::Drop(reason) => self.drop_items(items, (*reason).into()),
            Action::Ct(ct) => self.track(ct, items),
            Action::TunnelPush(push) => self.tunnel_push(push, items),
            Action::TunnelPop(port) => self.tunnel_pop(view, *port, items, last, depth),
            Action::LbOutput(_) => self.drop_items(items, DropCause::InvalidBond),
            Action::Meter(id) => self.meter(view, *id, items),
            Action::Hash { alg, basis } => {
                for item in items.iter_mut() {
                    item.meta.dp_hash = hash(item, *alg, *basis, self.vlan_limit);
                }
            }
            Action::PushNsh(header) => {
                self.edit_or_drop(items, DropCause::NshEncapError, |p| edit::push_nsh(p, header));
            }
            Action::PopNsh => self.edit_or_drop(items, DropCause::NshDecapError, edit::pop_nsh),
            Action::Set(set) => items.iter_mut().for_each(|item| apply_set(item, set)),
            _ => items.iter_mut().for_each(|item| change_headers(item, action)),
        }
        if matches!(action, Action::PopNsh) {
            let vlan_limit = self.vlan_limit;
            items.iter_mut().for_each(|item| find_headers(item, vlan_limit));
        }
    }

    fn edit_or_drop(
        &self,
        items: &mut Items,
        cause: DropCause,
        mut edit: impl FnMut(&mut packet::Packet) -> bool,
    ) {
        items.retain(|item| {
            let ok = edit(&mut item.packet);
            if !ok {
                self.counters(item.meta.in_port).lose(cause, 1);
            }
            ok
        });
    }

    /// The packets themselves if no action follows that needs them, else copies.
    pub(crate) fn copies(&self, items: &mut Items, last: bool) -> Items {
        if last {
            return std::mem::take(items);
        }
        for item in items.iter() {
            self.counters(item.meta.in_port).copied.add(1);
        }
        items.clone()
    }

    fn userspace(&mut self, userdata: &Userdata, items: &mut Items, last: bool, depth: usize) {
        for mut item in self.copies(items, last) {
            let key = Arc::new(key_of(&mut item, self.vlan_limit));
            truncate(&mut item);
            self.upcall(PendingKind::Action(userdata.clone()), item, key, depth);
        }
        items.iter_mut().for_each(|i| i.meta.max_len = 0);
    }

    fn recirculate(&mut self, view: View<'_>, id: u32, items: &mut Items, last: bool, depth: usize) {
        let mut items = self.copies(items, last);
        if depth >= RECIRCULATIONS_MAX {
            self.drop_items(&mut items, DropCause::RecircError);
            return;
        }
        items.iter_mut().for_each(|i| i.meta.recirc_id = id);
        self.stats.recirculated.add(items.len() as u64);
        self.process(view, &mut items, depth + 1);
    }

    fn sample(
        &mut self,
        view: View<'_>,
        probability: u32,
        actions: &[Action],
        items: &mut Items,
        last: bool,
        depth: usize,
    ) {
        let mut chosen = Items::new();
        let mut others = Items::new();
        for item in items.drain(..) {
            // The greatest number stands for "always".
            let hit = probability == u32::MAX || self.random_u32() < probability;
            if hit { chosen.push(item) } else { others.push(item) }
        }
        if last {
            self.drop_items(&mut others, DropCause::SampleError);
            self.execute(view, actions, &mut chosen, depth);
            return;
        }
        let mut copies = self.copies(&mut chosen, false);
        self.execute(view, actions, &mut copies, depth);
        // Packets of one port may change places here, packets of one flow too; sampling is rare enough.
        items.extend(chosen);
        items.extend(others);
    }
}

/// Whether some action hands the packet on. If none does, the list is a drop.
fn leads_somewhere(actions: &[Action]) -> bool {
    actions.iter().any(|a| match a {
        Action::Clone(inner) | Action::Sample { actions: inner, .. } => leads_somewhere(inner),
        Action::CheckPktLen { greater, less_equal, .. } => {
            leads_somewhere(greater) || leads_somewhere(less_equal)
        }
        Action::Output(_) | Action::Userspace(_) | Action::Recirc(_) | Action::LbOutput(_) => true,
        Action::TunnelPush(_) | Action::TunnelPop(_) => true,
        _ => false,
    })
}

/// Cuts the packet to what `trunc` allows.
pub(crate) fn truncate(item: &mut Item) {
    if item.meta.max_len != 0 && item.packet.len() > item.meta.max_len as usize {
        item.packet.set_len(item.meta.max_len as usize);
    }
    item.meta.max_len = 0;
}

/// Whether the packet, or each segment that it stands for, is longer than `len`.
fn is_longer(item: &Item, len: u16) -> bool {
    let p = &item.packet;
    let cut = if item.meta.max_len == 0 { usize::MAX } else { item.meta.max_len as usize };
    let whole = p.len().min(cut) - usize::from(p.l2_pad).min(p.len().min(cut));
    let size = match p.offload.gso {
        Some(gso) => whole.min(segment_len(p, gso)),
        None => whole,
    };
    size > usize::from(len)
}

/// Length of the segments of a packet that stands for many.
fn segment_len(p: &packet::Packet, gso: packet::Gso) -> usize {
    let l4 = p.l4_bytes();
    let l4_header = match gso.kind {
        GsoKind::Udp => header_len::UDP,
        GsoKind::Tcp4 | GsoKind::Tcp6 => usize::from(l4.get(12).copied().unwrap_or(0) >> 4) * 4,
    };
    p.len() - l4.len().min(p.len()) + l4_header + usize::from(gso.size)
}

/// Parses the packet for its header offsets alone.
fn find_headers(item: &mut Item, vlan_limit: u8) {
    key_of(item, vlan_limit);
}

/// The key of the packet as it is now.
pub(crate) fn key_of(item: &mut Item, vlan_limit: u8) -> Flow {
    packet::parse::flow_of(&mut item.packet, &item.meta.for_parser(vlan_limit))
}

fn hash(item: &mut Item, alg: HashAlg, basis: u32, vlan_limit: u8) -> u32 {
    let hash = match alg {
        HashAlg::L4 if item.packet.rss_hash != 0 => flow::hash::int(item.packet.rss_hash, basis),
        HashAlg::L4 => key_of(item, vlan_limit).hash_5tuple(basis),
        HashAlg::SymL4 => key_of(item, vlan_limit).hash_symmetric_l3l4(basis, false),
    };
    // 0 says "no hash yet".
    if hash == 0 { 1 } else { hash }
}

pub(crate) fn change_headers(item: &mut Item, action: &Action) {
    let p = &mut item.packet;
    match action {
        Action::PushVlan { tpid, tci } => edit::push_vlan(p, *tpid, *tci),
        Action::PopVlan => edit::pop_vlan(p),
        Action::PushMpls { lse, ethertype } => edit::push_mpls(p, *ethertype, *lse),
        Action::PopMpls { ethertype } => edit::pop_mpls(p, *ethertype),
        Action::AddMpls { lse, ethertype, l3 } => edit::add_mpls(p, *ethertype, *lse, *l3),
        Action::PushEth { dst, src } => edit::push_eth(p, *dst, *src),
        Action::PopEth => edit::pop_eth(p),
        Action::Trunc(max_len) => item.meta.max_len = *max_len,
        Action::CtClear => item.meta.ct = None,
        // The others are not about headers.
        _ => {}
    }
}

pub(crate) fn apply_set(item: &mut Item, set: &SetKey) {
    let p = &mut item.packet;
    match set {
        SetKey::Priority(m) => item.meta.skb_priority = (item.meta.skb_priority & !m.mask) | (m.key & m.mask),
        SetKey::SkbMark(m) => item.meta.pkt_mark = (item.meta.pkt_mark & !m.mask) | (m.key & m.mask),
        SetKey::Tunnel(t) => item.meta.rare_mut().tunnel = Some(Tunnel::clone(t)),
        SetKey::Ethernet(m) => edit::set_eth(p, m),
        SetKey::Ipv4(m) => edit::set_ipv4(p, m),
        SetKey::Ipv6(m) => edit::set_ipv6(p, m),
        SetKey::Tcp(m) => edit::set_tcp(p, m),
        SetKey::Udp(m) => edit::set_udp(p, m),
        SetKey::Sctp(m) => edit::set_sctp(p, m),
        SetKey::Icmp(m) | SetKey::Icmpv6(m) => edit::set_icmp(p, m),
        SetKey::Arp(m) => edit::set_arp(p, m),
        SetKey::Nd(m) => edit::set_nd(p, m),
        SetKey::NdExt(m) => edit::set_nd_ext(p, m),
        SetKey::Mpls(m) => edit::set_mpls(p, m),
        SetKey::Nsh(m) => edit::set_nsh(p, m),
    }
}
