//! Packets of a burst that are of the wide shape ([`crate::lane::wide`]) alone.
//!
//! Those that only have to be sent leave as they came. With the others, all that the wide lane saves is to make a key and to
//! look it up.

use crate::express::{Parted, add_out};
use crate::item::{Item, PacketMeta};
use crate::lane::wide::set_offsets;
use crate::lane::{NONE, Shape, Tally, Way, Wide, WideLane};
use crate::megaflow::Megaflow;
use crate::upcall::PendingKind;
use crate::worker::{One, View, Worker, join};
use arrayvec::ArrayVec;
use dpif::PortNo;
use flow::Flow;
use netdev::burst::places;
use netdev::{Burst, Heads};
use packet::{BATCH_LEN, Packet};
use quiescent::Shared;
use std::sync::Arc;

impl Worker {
    /// The port that all packets of a burst leave by, and their bytes, if the wide lane knows that. They are counted for
    /// their megaflows then.
    #[inline(never)]
    pub fn look_at_wide(
        &mut self,
        view: View<'_>,
        in_port: u32,
        heads: &[&[u8]],
        tally: Tally,
    ) -> Option<(PortNo, u64)> {
        let wide = self.wide.as_mut()?;
        let seen = wide.look(in_port, heads, view.table.deaths());
        match wide.only_way() {
            Some(Way::Out(port)) if seen.odd | seen.unknown == 0 => {
                wide.credit(tally);
                Some((port, seen.bytes))
            }
            _ => None,
        }
    }

    /// Sorts packets that are not of the common shape; gives the places of those that are of the wide one.
    pub fn sort_wide(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        odd: u32,
        tally: Tally,
        parted: &mut Parted,
    ) -> u32 {
        let n = burst.len();
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        for (place, head) in heads.iter_mut().enumerate() {
            if odd & (1 << place) == 0 {
                *head = &[];
            }
        }
        let heads = heads.get(..n).unwrap_or_default();
        if self.wide.is_none() && !heads.iter().any(|head| Wide::words(head).is_some()) {
            return 0;
        }
        let mut wide = self.take_wide();
        let seen = wide.look(in_port, heads, view.table.deaths());
        wide.credit(tally);
        parted.odd_bytes += seen.bytes;
        let mut edits = ArrayVec::<_, BATCH_LEN>::new();
        for run in wide.runs().iter().filter(|run| run.slot != NONE) {
            parted.hits += u64::from(run.sum.packets);
            if let Some(Way::Out(port)) = wide.way(run.slot) {
                add_out(&mut parted.outs, port, run.sum.places);
            } else if let Some(flow) = wide.flow(run.slot) {
                if flow.edit.is_some() {
                    // There are no more runs than packets.
                    let _ = edits.try_push((Arc::clone(flow), run.sum.places));
                    continue;
                }
                for place in places(run.sum.places) {
                    if let Some(packet) = burst.take(place) {
                        parted.hold_wide(in_port, place, packet, flow);
                    }
                }
            }
        }
        if !edits.is_empty() {
            let left = self.edit_wide(in_port, burst, &edits);
            for (flow, bits) in edits.iter().filter(|(_, bits)| bits & left != 0) {
                for place in places(bits & left) {
                    if let Some(packet) = burst.take(place) {
                        parted.hold_wide(in_port, place, packet, flow);
                    }
                }
            }
        }
        if seen.unknown != 0 {
            let mut keys = self.spare_key();
            for place in places(seen.unknown) {
                if let Some(packet) = burst.take(place) {
                    let packet = (place, packet);
                    self.look_at_unknown_wide(
                        view,
                        in_port,
                        packet,
                        &mut wide,
                        &mut keys[0],
                        tally,
                        parted,
                        burst,
                    );
                }
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
    /// Keeps a packet for the actions of its megaflow, which has counted it.
    fn hold_wide(&mut self, in_port: u32, place: usize, mut packet: Packet, flow: &Arc<Megaflow>) {
        set_offsets(&mut packet);
        let one = One { i: place, packets: 0, bytes: 0, tcp_flags: 0 };
        join(&mut self.groups, flow, Arc::clone, one);
        self.held[place] = Some(Item { packet, meta: PacketMeta::of_port(in_port) });
    }
}
