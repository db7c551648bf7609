//! Outer headers of tunnels, put on and taken off on a packet's way.

mod burst;
mod outers;

use crate::drops::DropCause;
use crate::execute::truncate;
use crate::item::{Item, Items};
use crate::lane::words_of;
use crate::worker::{View, Worker};
use dpif::{Action, PortNo, TunnelPush};
use flow::Tunnel;
pub(crate) use outers::Outers;
use outers::Seen;
use packet::tunnel::{PushContext, TunnelKind, flow_hash, pop, push, source_port};
use packet::{Packet, checksum, gso};

/// Whether an action wants packets that are no larger than a link carries, and finished.
pub(crate) fn wants_single_packets(action: &Action) -> bool {
    matches!(action, Action::TunnelPush(_) | Action::TunnelPop(_))
}

impl Worker {
    /// Cuts packets that stand for many, and runs `actions` on all of them. True if that was necessary, and is done.
    pub fn execute_single(
        &mut self,
        view: View<'_>,
        actions: &[Action],
        items: &mut Items,
        depth: usize,
    ) -> bool {
        // Where the inner packet stands for many, it still does when the outer header is gone.
        let is_pop = matches!(actions.first(), Some(Action::TunnelPop(_)));
        let is_single = |i: &Item| i.packet.offload.gso.is_none() || is_pop && gso::is_inner(&i.packet);
        if items.iter().all(is_single) {
            return false;
        }
        let mut ready = Items::new();
        for item in std::mem::take(items) {
            let meta = item.meta;
            let mut segments = Vec::new();
            let ok = gso::segment(item.packet, &mut |segment| segments.push(segment)).is_ok();
            let counters = self.counters(meta.in_port);
            if ok {
                counters.copied.add(segments.len().saturating_sub(1) as u64);
            } else {
                counters.lose(DropCause::TunnelPushError, 1);
                segments.clear();
            }
            for packet in segments {
                ready.push(Item { packet, meta: meta.clone() });
                if ready.is_full() {
                    self.execute(view, actions, &mut ready, depth);
                    ready.clear();
                }
            }
        }
        if !ready.is_empty() {
            self.execute(view, actions, &mut ready, depth);
        }
        true
    }

    /// Puts the outer header on; what follows in the list concerns the outer packets.
    pub fn tunnel_push(&mut self, action: &TunnelPush, items: &mut Items) {
        let Some(tunnel) = self.ports.get(action.tunnel_port.0).and_then(|p| p.tunnel.clone()) else {
            self.drop_items(items, DropCause::InvalidTunnelPort);
            return;
        };
        let Some(tunnel) = tunnel.as_tunnel() else { return };
        let (kind, range) = (tunnel.tunnel_kind(), tunnel.source_ports());
        let is_numbered = !matches!(kind, TunnelKind::Geneve | TunnelKind::Vxlan);
        // Units of 100 microseconds, for the one header that has them.
        let timestamp = (self.now_ms as u32).wrapping_mul(10);
        items.retain(|item| {
            truncate(item);
            let p = &mut item.packet;
            let hash = flow_hash(p);
            let cx = PushContext {
                source_port: source_port(hash, range),
                sequence: if is_numbered { tunnel.next_sequence() } else { 0 },
                timestamp,
            };
            let ok = checksum::fill_partial(p) && push(p, &action.header, kind, &cx);
            p.rss_hash = hash;
            (item.meta.rare, item.meta.ct) = (None, None);
            (item.meta.recirc_id, item.meta.dp_hash) = (0, 0);
            if !ok {
                self.counters(item.meta.in_port).lose(DropCause::TunnelPushError, 1);
            }
            ok
        });
    }

    /// Takes the outer header off, and has the tunnel receive what is inside.
    pub fn tunnel_pop(&mut self, view: View<'_>, port: PortNo, items: &mut Items, last: bool, depth: usize) {
        let mut items = self.copies(items, last);
        let kind =
            self.ports.get(port.0).and_then(|p| p.tunnel.as_ref()?.as_tunnel().map(|t| t.tunnel_kind()));
        let Some(kind) = kind else {
            self.drop_items(&mut items, DropCause::InvalidTunnelPort);
            return;
        };
        if depth >= crate::execute::RECIRCULATIONS_MAX {
            self.drop_items(&mut items, DropCause::RecircError);
            return;
        }
        items.retain(|item| {
            truncate(item);
            // The connection was the outer packet's.
            item.meta.ct = None;
            let before = (self.outers.is_some() && self.cache.is_chosen_now()).then(|| item.packet.clone());
            let tunnel = item.meta.rare_mut().tunnel.insert(Tunnel::default());
            let popped = pop(&mut item.packet, kind, tunnel);
            if let (Some(before), Ok(())) = (before, popped) {
                self.learn_inside(view, (port, kind), &before, &item.packet, tunnel);
            }
            if popped.is_err() {
                self.counters(item.meta.in_port).lose(DropCause::TunnelPopError, 1);
                return false;
            }
            // From here on the packet is the tunnel's; where it came from has done with it.
            self.counters(item.meta.in_port).finished.add(1);
            (item.meta.in_port, item.meta.recirc_id, item.meta.dp_hash) = (port.0, 0, 0);
            true
        });
        let counters = self.counters(port.0);
        counters.received.add(items.len() as u64);
        counters.received_bytes.add(items.iter().map(|i| i.packet.len() as u64).sum());
        self.stats.recirculated.add(items.len() as u64);
        if !items.is_empty() {
            self.process(view, &mut items, depth + 1);
        }
    }
    /// Remembers what becomes of packets like this one, if it is of a shape that bursts are handled of.
    #[cold]
    fn learn_inside(
        &mut self,
        view: View<'_>,
        (port, kind): (PortNo, TunnelKind),
        before: &Packet,
        inside: &Packet,
        tunnel: &Tunnel,
    ) {
        let (Some(w), mut inside) = (words_of(inside), inside.clone()) else { return };
        let meta = packet::Meta {
            in_port: port.0,
            vlan_limit: self.vlan_limit,
            tunnel: Some(tunnel),
            ..packet::Meta::default()
        };
        let mut keys = self.spare_key();
        packet::extract(&mut inside, &meta, &mut keys[0]);
        let found = view.table.lookup(view.guard, &keys[0]).0.map(quiescent::Shared::to_arc);
        self.return_key(keys);
        if let (Some(flow), Some(outers)) = (found, &mut self.outers) {
            let (frame, tunnel) = (before.data().to_vec(), tunnel.clone());
            let seen = Seen { port: port.0, kind, frame, packet_type: inside.packet_type, tunnel };
            outers.learn(&seen, &w, &flow, view.table.deaths());
        }
    }
}
