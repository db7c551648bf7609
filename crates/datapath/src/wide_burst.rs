//! Packets of a burst that are of the wide shape ([`crate::lane::wide`]) alone.
//!
//! Those that only have to be sent leave as they came. With the others, all that the wide lane saves is to make a key and to
//! look it up.

use crate::express::{Parted, add_out};
use crate::item::{Item, Items, PacketMeta};
use crate::lane::wide::{WORDS, set_offsets};
use crate::lane::{NONE, Run, Seen, Shape, Tally, Way, Wide, WideLane, words};
use crate::megaflow::Megaflow;
use crate::upcall::PendingKind;
use crate::worker::{One, View, Worker, join};
use arrayvec::ArrayVec;
use flow::Flow;
use netdev::burst::{all_places, places};
use netdev::{Burst, Heads};
use packet::{BATCH_LEN, Packet};
use quiescent::Shared;
use std::sync::Arc;

/// What a look at a burst by the wide lane found.
pub(crate) struct Looked {
    seen: Seen,
    /// What is done with all of the packets, if it is the same.
    way: Option<Way>,
}

impl Worker {
    /// Has the wide lane look at a burst, if it is for this lane: all of its packets go one way, or none of them is of the common
    /// shape.
    #[inline(never)]
    pub fn look_at_wide(&mut self, view: View<'_>, in_port: u32, heads: &[&[u8]]) -> Option<Looked> {
        let wide = self.wide.as_mut()?;
        let seen = wide.look(in_port, heads, view.table.deaths());
        let way = wide.only_way().filter(|_| seen.odd | seen.unknown == 0);
        let way = way.filter(|way| matches!(way, Way::Out(_) | Way::Edit | Way::Fan));
        if way.is_none() {
            if heads.iter().any(|head| words(head).is_some()) {
                return None;
            }
            self.lane.look_away();
        }
        if matches!(way, None | Some(Way::Fan)) {
            self.lane.note_lens(heads);
        }
        Some(Looked { seen, way })
    }

    /// The rest of [`Worker::receive_burst`], for such bursts.
    pub fn receive_wide(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        looked: Looked,
        tally: Tally,
    ) {
        let (n, seen) = (burst.len(), looked.seen);
        let Some(way) = looked.way else {
            let odd = Seen { odd: all_places(n), ..Seen::default() };
            return self.receive_mixed(view, in_port, burst, odd, Some(seen), tally);
        };
        // It has looked, so it is there.
        let wide = self.take_wide();
        self.count_received(in_port, seen.bytes, n as u64);
        wide.credit(tally);
        if let Way::Out(port) = way {
            self.wide = Some(wide);
            return self.send_burst(in_port, port, burst, all_places(n), seen.bytes);
        }
        let changed = match way {
            Way::Fan => self.fan_wide(view, in_port, burst, &wide),
            _ => self.edit_wide(in_port, burst, &wide),
        };
        let left = |run: &Run<WORDS>| Some((Arc::clone(wide.flow(run.slot)?), run.sum.places & !changed));
        let left: ArrayVec<_, BATCH_LEN> = match changed == all_places(n) {
            true => ArrayVec::new(),
            false => wide.runs().iter().filter_map(left).collect(),
        };
        self.wide = Some(wide);
        for (flow, bits) in left {
            let item = |place| {
                let mut packet = burst.take(place)?;
                set_offsets(&mut packet);
                Some(Item { packet, meta: PacketMeta::of_port(in_port) })
            };
            let mut items: Items = places(bits).filter_map(item).collect();
            if !items.is_empty() {
                self.execute(view, &flow.actions, &mut items, 0);
            }
        }
    }

    /// Runs the actions of megaflows of the wide lane's look that [`crate::fan::Fan`]; returns the places of packets that are
    /// done with.
    fn fan_wide(&mut self, view: View<'_>, in_port: u32, burst: &mut dyn Burst, wide: &WideLane) -> u32 {
        let (lens, mut done) = (*self.lane.lens(), 0);
        // A megaflow has a slot for each kind of packets; they leave in their order all the same.
        let mut flows = ArrayVec::<(&Arc<Megaflow>, u32), BATCH_LEN>::new();
        for run in wide.runs().iter().filter(|run| wide.way(run.slot) == Some(Way::Fan)) {
            let Some(flow) = wide.flow(run.slot) else { continue };
            match flows.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, flow)) {
                Some((_, bits)) => *bits |= run.sum.places,
                None => flows.push((flow, run.sum.places)),
            }
        }
        for (flow, bits) in flows {
            if self.fan(view, in_port, burst, flow, bits, &lens) {
                done |= bits;
            }
        }
        done
    }

    /// Has the wide lane look at the packets of a burst that are not of the common shape; `None` if that is not worth it.
    fn look_at_others(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        others: u32,
    ) -> Option<Seen> {
        let n = burst.len();
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        for (place, head) in heads.iter_mut().enumerate() {
            if others & (1 << place) == 0 {
                *head = &[];
            }
        }
        let heads = heads.get(..n).unwrap_or_default();
        if self.wide.is_none() && !heads.iter().any(|head| Wide::words(head).is_some()) {
            return None;
        }
        let mut wide = self.take_wide();
        let seen = wide.look(in_port, heads, view.table.deaths());
        self.wide = Some(wide);
        Some(seen)
    }

    /// Sorts packets that are not of the common shape; gives the places of those that are of the wide one. If the wide lane
    /// has looked at them already, it has seen `looked`.
    pub fn sort_wide(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        (odd, looked): (u32, Option<Seen>),
        tally: Tally,
        parted: &mut Parted,
    ) -> u32 {
        let looked = looked.or_else(|| self.look_at_others(view, in_port, burst, odd));
        let Some(seen) = looked else { return 0 };
        let mut wide = self.take_wide();
        wide.credit(tally);
        parted.odd_bytes += seen.bytes;
        let (mut has_edits, mut has_fans) = (false, false);
        // Those of a megaflow that the lane does not know yet are to leave in their order.
        let all_known = seen.unknown == 0;
        for run in wide.runs().iter().filter(|run| run.slot != NONE) {
            parted.hits += u64::from(run.sum.packets);
            match (wide.way(run.slot), wide.flow(run.slot)) {
                (Some(Way::Out(port)), _) => add_out(&mut parted.outs, port, run.sum.places),
                (Some(Way::Edit), _) if all_known => has_edits = true,
                (Some(Way::Fan), _) if all_known => has_fans = true,
                (_, Some(flow)) => parted.hold_all_wide(in_port, burst, run.sum.places, flow),
                _ => {}
            }
        }
        if has_edits || has_fans {
            let changed = if has_edits { self.edit_wide(in_port, burst, &wide) } else { 0 };
            let done = changed | if has_fans { self.fan_wide(view, in_port, burst, &wide) } else { 0 };
            let is_such = |run: &&Run<WORDS>| matches!(wide.way(run.slot), Some(Way::Edit | Way::Fan));
            for run in wide.runs().iter().filter(is_such) {
                if let Some(flow) = wide.flow(run.slot) {
                    parted.hold_all_wide(in_port, burst, run.sum.places & !done, flow);
                }
            }
        }
        if seen.unknown != 0 {
            let mut keys = self.spare_key();
            for place in places(seen.unknown) {
                let Some(packet) = burst.take(place) else { continue };
                let (packet, key) = ((place, packet), &mut keys[0]);
                self.look_at_unknown_wide(view, in_port, packet, &mut wide, key, tally, parted, burst);
            }
            self.return_key(keys);
        }
        self.wide = Some(wide);
        odd & !seen.odd
    }

    /// A packet whose megaflow the wide lane does not remember, but may when this returns.
    #[allow(clippy::too_many_arguments)] // reason: all that a burst has
    fn look_at_unknown_wide(
        &mut self,
        view: View<'_>,
        in_port: u32,
        (place, packet): (usize, Packet),
        wide: &mut WideLane,
        key: &mut Flow,
        tally: Tally,
        parted: &mut Parted,
        burst: &mut dyn Burst,
    ) {
        let Some(w) = Wide::words(packet.data()) else { return };
        let (deaths, bytes) = (view.table.deaths(), packet.len() as u64);
        let mut item = Item { packet, meta: PacketMeta::of_port(in_port) };
        let mut slot = wide.find(in_port, &w, deaths);
        if slot != NONE {
            parted.hits += 1;
        } else {
            packet::extract(&mut item.packet, &item.meta.for_parser(self.vlan_limit), key);
            let (found, asked) = view.table.lookup(view.guard, key);
            let Some(flow) = found.map(Shared::to_arc) else {
                return self.upcall(PendingKind::Miss, item, Arc::new(key.clone()), 0);
            };
            self.count_table_hit(asked);
            slot = wide.learn(in_port, &w, &flow, deaths, self.cache.is_chosen_now());
            if slot == NONE {
                let one = One { i: place, packets: 1, bytes, tcp_flags: key.tcp_flags };
                join(&mut parted.groups, &flow, Arc::clone, one);
                parted.held[place] = Some(item);
                return;
            }
        }
        wide.count_one(slot, bytes, &w, tally);
        let mut packet = item.packet;
        if let Some(Way::Out(port)) = wide.way(slot) {
            packet = match burst.put(place, packet) {
                Ok(()) => return add_out(&mut parted.outs, port, 1 << place),
                // It cannot leave as it came.
                Err(packet) => packet,
            };
        }
        if let Some(flow) = wide.flow(slot) {
            parted.hold_wide(in_port, place, packet, flow);
        }
    }
}

impl Parted {
    /// As [`Parted::hold_wide`], of packets that are in the burst.
    fn hold_all_wide(&mut self, in_port: u32, burst: &mut dyn Burst, bits: u32, flow: &Arc<Megaflow>) {
        for place in places(bits) {
            if let Some(packet) = burst.take(place) {
                self.hold_wide(in_port, place, packet, flow);
            }
        }
    }

    /// Keeps a packet for the actions of its megaflow, which has counted it.
    fn hold_wide(&mut self, in_port: u32, place: usize, mut packet: Packet, flow: &Arc<Megaflow>) {
        set_offsets(&mut packet);
        let one = One { i: place, packets: 0, bytes: 0, tcp_flags: 0 };
        join(&mut self.groups, flow, Arc::clone, one);
        self.held[place] = Some(Item { packet, meta: PacketMeta::of_port(in_port) });
    }
}
