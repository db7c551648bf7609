//! A burst that was just received: most packets go the short way (see [`crate::lane`]), the others a longer one.
//!
//! Packets that only have to be sent leave as they came, in the buffers of their device. Where more is to be done,
//! the lane still knows the megaflow; only packets of another shape, and those of megaflows that it does not know,
//! are parsed into keys. Packets of one megaflow leave in the order in which they came; only those of neither shape
//! come after those of the lanes'.

use crate::drops::DropCause;
use crate::item::{Item, Items, PacketMeta};
use crate::lane::{NONE, Seen, Tally, Way, flags_of, set_offsets, words};
use crate::megaflow::Megaflow;
use crate::trail::Tracks;
use crate::upcall::PendingKind;
use crate::worker::{Groups, One, View, Worker, is_runt, join};
use arrayvec::ArrayVec;
use flow::Flow;
use netdev::burst::{all_places, places};
use netdev::{Burst, Heads};
use packet::{BATCH_LEN, Packet};
use quiescent::Shared;
use std::sync::Arc;

/// Packets of a burst, by the lane's slots.
pub(crate) type Parts = ArrayVec<(u32, u32), BATCH_LEN>;

/// What is found out about the packets of a burst that do not all leave at once.
pub(crate) struct Parted {
    /// By place, the lane's slot of a packet that is in the burst still.
    pub slots: [u32; BATCH_LEN],
    /// By place, packets that were taken out and parsed.
    pub held: [Option<Item>; BATCH_LEN],
    /// Where packets leave to that the wide lane knows the megaflow of.
    pub outs: Outs,
    /// Megaflows that do more than output, and those that the lane cannot remember.
    pub groups: Groups,
    /// Packets that a lane knew the megaflow of.
    pub hits: u64,
    /// Bytes of packets that the lane did not count.
    pub odd_bytes: u64,
}

/// Ports that packets leave by as they came, and their places.
pub(crate) type Outs = ArrayVec<(dpif::PortNo, u32), BATCH_LEN>;

/// There are no more ports than packets.
#[inline]
pub(crate) fn add_out(outs: &mut Outs, port: dpif::PortNo, bits: u32) {
    match outs.iter_mut().rev().find(|(p, _)| *p == port) {
        Some((_, all)) => *all |= bits,
        None => _ = outs.try_push((port, bits)),
    }
}

impl Worker {
    /// Sees a burst through. What is to be sent by [`Worker::flush`] is in its line when this returns.
    pub fn receive_burst(&mut self, view: View<'_>, in_port: u32, burst: &mut dyn Burst) {
        let n = burst.len();
        let tally = Tally { now_ms: self.now_ms, is_owner: view.table.pmd.is_some() };
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        let seen_heads = heads.get(..n).unwrap_or_default();
        if self.wide.is_some()
            && seen_heads.first().is_some_and(|head| words(head).is_none())
            && let Some(looked) = self.look_at_wide(view, in_port, seen_heads)
        {
            self.stats.received.add(n as u64);
            self.counters(in_port).received.add(n as u64);
            return self.receive_wide(view, in_port, burst, looked, tally);
        }
        let seen = self.lane.look(in_port, seen_heads, view.table.deaths());
        // Before others can see where they went.
        self.stats.received.add(n as u64);
        self.counters(in_port).received.add(n as u64);
        let way = self.lane.only_way().filter(|_| seen.odd | seen.unknown == 0);
        match way {
            Some(Way::Out(port)) => {
                self.count_received(in_port, seen.bytes, n as u64);
                self.lane.credit(tally);
                self.send_burst(in_port, port, burst, all_places(n), seen.bytes);
            }
            Some(way @ (Way::Push | Way::Pop | Way::Edit | Way::Fan | Way::Branch)) => {
                if way == Way::Fan {
                    self.lane.note_lens(heads.get(..n).unwrap_or_default());
                }
                self.count_received(in_port, seen.bytes, n as u64);
                self.lane.credit(tally);
                let parts = self.lane.runs().iter().map(|run| (run.slot, run.sum.places)).collect();
                self.change_burst(view, in_port, way, burst, &parts, tally);
            }
            _ => {
                self.lane.note_lens(heads.get(..n).unwrap_or_default());
                self.receive_mixed(view, in_port, burst, seen, None, tally);
            }
        }
    }

    /// The rest of [`Worker::receive_burst`], for bursts that do not leave as a whole. If the wide lane has looked at all of
    /// the packets, what it has seen is `looked`.
    #[inline(never)]
    pub fn receive_mixed(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        seen: Seen,
        looked: Option<Seen>,
        tally: Tally,
    ) {
        let mut parted = Parted {
            slots: [NONE; BATCH_LEN],
            held: [const { None }; BATCH_LEN],
            outs: Outs::new(),
            groups: Groups::new(),
            hits: 0,
            odd_bytes: 0,
        };
        for run in self.lane.runs().iter().filter(|run| run.slot != NONE) {
            if self.lane.way(run.slot) != Some(Way::Tracked) {
                parted.hits += u64::from(run.sum.packets);
            }
            places(run.sum.places).for_each(|place| parted.slots[place] = run.slot);
        }
        let mut odd = seen.odd;
        if odd != 0 {
            odd &= !self.sort_wide(view, in_port, burst, (odd, looked), tally, &mut parted);
        }
        let others = odd | seen.unknown;
        if others != 0 {
            self.look_closer(view, in_port, burst, odd, others, tally, &mut parted);
        }
        self.count_received(in_port, seen.bytes + parted.odd_bytes, parted.hits);
        self.lane.credit(tally);
        self.part(view, in_port, burst, &mut parted, tally);
    }

    #[inline]
    pub fn count_received(&self, in_port: u32, bytes: u64, hits: u64) {
        self.counters(in_port).received_bytes.add(bytes);
        self.stats.cache_hits.add(hits);
    }

    /// Parses the packets that the lane could not tell the megaflow of, and looks for it.
    fn look_closer(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        odd: u32,
        others: u32,
        tally: Tally,
        parted: &mut Parted,
    ) {
        let mut keys = self.spare_key();
        for place in places(others) {
            let Some(packet) = burst.take(place) else { continue };
            if odd & (1 << place) != 0 {
                parted.odd_bytes += packet.len() as u64;
                self.look_at_odd(view, in_port, place, packet, &mut keys[0], parted);
                continue;
            }
            let Some((packet, slot)) =
                self.look_at_unknown(view, in_port, place, packet, &mut keys[0], tally, parted)
            else {
                continue;
            };
            match burst.put(place, packet) {
                Ok(()) => parted.slots[place] = slot,
                // It cannot leave as it came.
                Err(packet) => self.hold(in_port, place, packet, slot, parted),
            }
        }
        self.return_key(keys);
    }

    /// A packet of neither shape.
    fn look_at_odd(
        &mut self,
        view: View<'_>,
        in_port: u32,
        place: usize,
        packet: Packet,
        key: &mut Flow,
        parted: &mut Parted,
    ) {
        let mut item = Item { packet, meta: PacketMeta::of_port(in_port) };
        if is_runt(&item) {
            self.counters(in_port).lose(DropCause::RxInvalidPacket, 1);
        } else if self.classify_one(view, place, &mut item, key, &mut parted.groups) {
            parted.held[place] = Some(item);
        } else {
            self.upcall(PendingKind::Miss, item, Arc::new(key.clone()), 0);
        }
    }

    /// A packet of the shape whose megaflow the lane does not remember. Returned with its slot if it does now.
    fn look_at_unknown(
        &mut self,
        view: View<'_>,
        in_port: u32,
        place: usize,
        packet: Packet,
        key: &mut Flow,
        tally: Tally,
        parted: &mut Parted,
    ) -> Option<(Packet, u32)> {
        let (w, deaths, bytes) = (words(packet.data())?, view.table.deaths(), packet.len() as u64);
        let known = self.lane.find(in_port, &w, deaths);
        if known != NONE {
            parted.hits += u64::from(self.lane.count_one(known, bytes, &w, tally));
            return Some((packet, known));
        }
        let mut item = Item { packet, meta: PacketMeta::of_port(in_port) };
        packet::extract(&mut item.packet, &item.meta.for_parser(self.vlan_limit), key);
        let (found, asked) = view.table.lookup(view.guard, key);
        let Some(flow) = found.map(Shared::to_arc) else {
            self.upcall(PendingKind::Miss, item, Arc::new(key.clone()), 0);
            return None;
        };
        let keeps = self.cache.is_chosen_now();
        let slot = self.lane.learn(in_port, &w, &flow, deaths, keeps);
        if slot == NONE {
            let one = One { i: place, packets: 1, bytes, tcp_flags: key.tcp_flags };
            join(&mut parted.groups, &flow, Arc::clone, one);
            parted.held[place] = Some(item);
            self.count_table_hit(asked);
            return None;
        }
        // Who follows a trail counts that as a hit by itself.
        if self.lane.count_one(slot, bytes, &w, tally) {
            self.count_table_hit(asked);
        }
        Some((item.packet, slot))
    }

    pub fn count_table_hit(&self, asked: usize) {
        self.stats.subtables_asked.add(asked as u64);
        self.stats.table_hits.add(1);
    }

    /// Keeps a packet for the actions of its megaflow, which has counted it unless it tracks packets.
    fn hold(&mut self, in_port: u32, place: usize, mut packet: Packet, slot: u32, parted: &mut Parted) {
        set_offsets(&mut packet);
        let mut one = One { i: place, packets: 0, bytes: 0, tcp_flags: 0 };
        if self.lane.way(slot) == Some(Way::Tracked) {
            (one.packets, one.bytes) = (1, packet.len() as u64);
            one.tcp_flags = words(packet.data()).map_or(0, |w| flags_of(&w));
            parted.hits += 1;
        }
        if let Some(flow) = self.lane.flow(slot) {
            join(&mut parted.groups, flow, Arc::clone, one);
        }
        parted.held[place] = Some(Item { packet, meta: PacketMeta::of_port(in_port) });
    }

    /// Sends what only has to be sent, and runs the actions of the other megaflows.
    fn part(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        parted: &mut Parted,
        tally: Tally,
    ) {
        let mut outs = std::mem::take(&mut parted.outs);
        let mut changed =
            [Way::Push, Way::Pop, Way::Edit, Way::Fan, Way::Branch].map(|way| (way, Parts::new()));
        let left = self.track_in_place(view, in_port, burst, parted, &mut outs);
        for (place, slot) in parted.slots.iter().enumerate().filter(|(_, slot)| **slot != NONE) {
            match self.lane.way(*slot) {
                Some(Way::Out(port)) => add_out(&mut outs, port, 1 << place),
                Some(Way::Push) => add(&mut changed[0].1, *slot, place),
                Some(Way::Pop) => add(&mut changed[1].1, *slot, place),
                Some(Way::Edit) => add(&mut changed[2].1, *slot, place),
                Some(Way::Fan) => add(&mut changed[3].1, *slot, place),
                Some(Way::Branch) => add(&mut changed[4].1, *slot, place),
                _ => {
                    if let Some(flow) = self.lane.flow(*slot) {
                        let one = One { i: place, packets: 0, bytes: 0, tcp_flags: 0 };
                        join(&mut parted.groups, flow, Arc::clone, one);
                    }
                }
            }
        }
        for (port, bits) in outs {
            let bytes = self.lane.bytes(bits);
            self.send_burst(in_port, port, burst, bits, bytes);
        }
        for (way, parts) in changed.iter().filter(|(_, parts)| !parts.is_empty()) {
            self.change_burst(view, in_port, *way, burst, parts, tally);
        }
        if let Some(left) = left {
            self.leave(view, in_port, burst, left);
        }
        if parted.groups.is_empty() {
            return;
        }
        for group in std::mem::take(&mut parted.groups) {
            if group.packets > 0 {
                group.flow.stats.count(group.packets, group.bytes, group.tcp_flags, tally);
            }
            let of_lane = |place: &usize| parted.slots[*place] != NONE;
            let mut items: Items = places(group.members)
                .filter(of_lane)
                .filter_map(|place| take(burst, in_port, place))
                .collect();
            let is_tracked = Tracks::of(&group.flow.actions).is_some();
            if is_tracked && !items.is_empty() {
                self.follow_from_lane(view, in_port, &group.flow, &mut items, tally);
            }
            let held = places(group.members).filter_map(|place| parted.held[place].take());
            items.extend(held);
            if is_tracked && self.tracking.ipf.is_idle() {
                self.walk_some(view, &group.flow, &mut items);
            }
            self.execute(view, &group.flow.actions, &mut items, 0);
        }
    }

    /// Changes packets whose megaflows have counted them, and sends them.
    #[inline]
    fn change_burst(
        &mut self,
        view: View<'_>,
        in_port: u32,
        way: Way,
        burst: &mut dyn Burst,
        parts: &Parts,
        tally: Tally,
    ) {
        match way {
            Way::Edit => self.edit_burst(view, in_port, burst, parts),
            Way::Branch => self.branch_burst(view, in_port, burst, parts, tally),
            Way::Fan => {
                let lens = *self.lane.lens();
                self.fan_burst(view, in_port, burst, parts, &lens);
            }
            _ => self.tunnel_burst(view, in_port, way, burst, parts, tally),
        }
    }

    /// Takes packets of a megaflow that tracks them along their trails; it counts those that are left.
    fn follow_from_lane(
        &mut self,
        view: View<'_>,
        in_port: u32,
        flow: &Megaflow,
        items: &mut Items,
        tally: Tally,
    ) {
        self.follow(view, in_port, items);
        let bytes: usize = items.iter().map(|item| item.packet.len()).sum();
        let flags = items.iter().filter_map(|item| words(item.packet.data())).map(|w| flags_of(&w));
        let flags = flags.fold(0, |all, flags| all | flags);
        if !items.is_empty() {
            flow.stats.count(items.len() as u64, bytes as u64, flags, tally);
            self.stats.cache_hits.add(items.len() as u64);
        }
    }
}

fn add(parts: &mut Parts, slot: u32, place: usize) {
    match parts.iter_mut().rev().find(|(s, _)| *s == slot) {
        Some((_, bits)) => *bits |= 1 << place,
        None => parts.push((slot, 1 << place)),
    }
}

/// A packet of the shape that was not looked at since.
pub(crate) fn take(burst: &mut dyn Burst, in_port: u32, place: usize) -> Option<Item> {
    let mut packet = burst.take(place)?;
    set_offsets(&mut packet);
    Some(Item { packet, meta: PacketMeta::of_port(in_port) })
}

#[cfg(test)]
#[path = "express_tests.rs"]
pub(crate) mod tests;
