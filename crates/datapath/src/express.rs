//! A batch on the short way (see [`crate::lane`]).

use crate::drops::DropCause;
use crate::item::{Item, Items, PacketMeta};
use crate::lane::{Way, Words, differ, words};
use crate::worker::{View, Worker};
use dpif::PortNo;
use packet::{BATCH_LEN, Batch, Packet};

impl Worker {
    /// Sends those packets of a batch that only have to be sent, and returns the others.
    pub fn express(&mut self, view: View<'_>, in_port: u32, batch: &mut Batch) -> Items {
        let table_hits = self.stats.table_hits.get();
        let mut ways = [Way::Unknown; BATCH_LEN];
        let (mut last, mut slot, mut way): (Words, u32, Way) = ([u64::MAX; 5], 0, Way::Unknown);
        let (mut out, mut bytes) = (0, 0);
        // Packets behind the first of a train, which are counted when it ends.
        let (mut more, mut more_bytes) = (0, 0);
        for (packet, place) in batch.iter_mut().zip(&mut ways) {
            let Some(w) = words(packet) else { continue };
            let len = packet.len();
            if differ(&w, &last) {
                self.lane.add(slot, more, more_bytes);
                (more, more_bytes, last) = (0, 0, w);
                (way, slot) = self.way(view, in_port, packet, &w);
            } else {
                more += 1;
                more_bytes += len as u32;
            }
            *place = way;
            if let Way::Out(_) = way {
                out += 1;
                bytes += len;
            } else {
                (more, more_bytes) = (0, 0);
            }
        }
        self.lane.add(slot, more, more_bytes);
        if out == 0 {
            return self.to_items(in_port, batch);
        }
        let counters = self.counters(in_port);
        counters.received.add(out);
        counters.received_bytes.add(bytes as u64);
        self.stats.received.add(out);
        self.stats.cache_hits.add(out - (self.stats.table_hits.get() - table_hits));
        let only = self.lane.only_way();
        self.lane.credit(self.now_ms, view.table.pmd.is_some());
        match only {
            Some(port) if out as usize == batch.len() && self.is_free(port) => {
                self.counters(in_port).output.add(out);
                self.send_now(port, batch);
                Items::new()
            }
            _ => self.part(in_port, batch, &ways),
        }
    }

    /// Looks for a packet's way, and learns it from the table if need be.
    #[inline(always)]
    fn way(&mut self, view: View<'_>, in_port: u32, packet: &mut Packet, w: &Words) -> (Way, u32) {
        let signature = self.lane.signature(in_port, w);
        match self.lane.find(signature, in_port, w, packet.len()) {
            (Way::Unknown, _) => self.learn_way(view, in_port, packet, w, signature),
            found => found,
        }
    }

    #[cold]
    #[inline(never)]
    fn learn_way(
        &mut self,
        view: View<'_>,
        in_port: u32,
        packet: &mut Packet,
        w: &Words,
        signature: u64,
    ) -> (Way, u32) {
        let mut key = self.spare_key();
        let meta = PacketMeta::of_port(in_port);
        packet::extract(packet, &meta.for_parser(self.vlan_limit), &mut key[0]);
        let (found, asked) = view.table.lookup(view.guard, &key[0]);
        self.return_key(key);
        let Some(flow) = found else { return (Way::Unknown, 0) };
        // Whether its signature is remembered or not, a packet takes the way of its flow's others.
        let Some(slot) = self.lane.slot(&flow.to_arc()) else { return (Way::Elsewhere, 0) };
        if self.cache.is_chosen_now() {
            self.lane.remember(signature, slot);
        }
        let way = self.lane.take(slot, w, packet.len());
        if let Way::Out(_) = way {
            self.stats.subtables_asked.add(asked as u64);
            self.stats.table_hits.add(1);
        }
        (way, slot)
    }

    /// The packets on their way through whole keys.
    fn to_items(&self, in_port: u32, batch: &mut Batch) -> Items {
        let meta = PacketMeta::of_port(in_port);
        batch.drain(..).map(|packet| Item { packet, meta: meta.clone() }).collect()
    }

    /// Sends what has a way to the ports that it goes to, and returns the rest.
    fn part(&mut self, in_port: u32, batch: &mut Batch, ways: &[Way; BATCH_LEN]) -> Items {
        let mut rest = Items::new();
        for (packet, way) in batch.drain(..).zip(ways) {
            match way {
                Way::Out(port) => self.queue_packet(*port, in_port, packet),
                _ => rest.push(Item { packet, meta: PacketMeta::of_port(in_port) }),
            }
        }
        rest
    }

    fn queue_packet(&mut self, port: PortNo, in_port: u32, packet: Packet) {
        if self.ports.get(port.0).is_none() {
            self.counters(in_port).lose(DropCause::InvalidPort, 1);
            return;
        }
        self.counters(in_port).output.add(1);
        self.queue(port.0, Item { packet, meta: PacketMeta::of_port(in_port) });
    }
}
