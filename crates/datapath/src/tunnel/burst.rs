//! Outer headers, a burst at a time: packets stay in the buffers of their device.

use super::outers::Outers;
use crate::express::{Parts, take};
use crate::item::Items;
use crate::lane::{Tally, Way};
use crate::output::{Outs, join};
use crate::worker::{View, Worker};
use arrayvec::ArrayVec;
use dpif::{Action, PortNo};
use netdev::burst::{Frames, Lengths, places};
use netdev::{Burst, Heads};
use packet::BATCH_LEN;
use packet::tunnel::TunnelKind;

/// Packets with one outer header.
struct Crowd {
    number: u32,
    places: u32,
}

impl Worker {
    /// Runs the actions of megaflows that put outer headers on, or take them off ([`Way::Push`], [`Way::Pop`]). The
    /// megaflows have counted the packets.
    #[inline(never)]
    pub fn tunnel_burst(
        &mut self,
        view: View<'_>,
        in_port: u32,
        way: Way,
        burst: &mut dyn Burst,
        parts: &Parts,
        tally: Tally,
    ) {
        let mut done = 0;
        if way == Way::Push {
            done = self.push_burst(in_port, burst, parts);
        } else {
            for (slot, bits) in parts {
                done |= self.pop_burst(view, in_port, *slot, *bits, burst, tally);
            }
        }
        for (slot, bits) in parts.iter().filter(|(_, bits)| bits & !done != 0) {
            let Some(flow) = self.lane.flow(*slot).cloned() else { continue };
            let mut items: Items =
                places(bits & !done).filter_map(|place| take(burst, in_port, place)).collect();
            self.execute(view, &flow.actions, &mut items, 0);
        }
    }

    /// A port's tunnel, if its packets can be handled a burst at a time, and the range of its source ports.
    #[inline]
    fn plain_tunnel(&self, port: PortNo) -> Option<(TunnelKind, (u16, u16))> {
        let tunnel = self.ports.get(port.0)?.tunnel.as_ref()?.as_tunnel()?;
        let kind = tunnel.tunnel_kind();
        matches!(kind, TunnelKind::Geneve | TunnelKind::Vxlan).then(|| (kind, tunnel.source_ports()))
    }

    /// Puts headers on and sends; returns the places of the packets of which that was possible.
    fn push_burst(&mut self, in_port: u32, burst: &mut dyn Burst, parts: &Parts) -> u32 {
        let mut by: Lengths = [0; BATCH_LEN];
        let mut plan = ArrayVec::<_, BATCH_LEN>::new();
        let mut last = None;
        for (slot, bits) in parts {
            let Some(push) = self.lane.flow(*slot).and_then(|flow| flow.push.as_deref()) else { continue };
            let (port, range) = match last {
                Some(known @ (port, _)) if port == push.tunnel_port => known,
                _ => (push.tunnel_port, self.plain_tunnel(push.tunnel_port).map(|(_, range)| range)),
            };
            last = Some((port, range));
            let Some(range) = range else { continue };
            places(*bits).for_each(|place| by[place] = push.template.len() as u16);
            plan.push((push, *bits, range));
        }
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let grown = burst.grow(&by, &mut frames);
        let mut outs = Outs::new();
        for (push, bits, range) in &plan {
            let bytes = push.template.write_all(&mut frames, bits & grown, *range);
            join(&mut outs, push.out, bits & grown, bytes);
        }
        drop(plan);
        self.send_outs(in_port, burst, &outs);
        grown
    }

    /// Takes known headers off and sends what only has to be sent; returns the places of those packets.
    fn pop_burst(
        &mut self,
        view: View<'_>,
        in_port: u32,
        slot: u32,
        bits: u32,
        burst: &mut dyn Burst,
        tally: Tally,
    ) -> u32 {
        let Some([Action::TunnelPop(port)]) = self.lane.flow(slot).map(|flow| flow.actions.as_slice()) else {
            return 0;
        };
        let port = *port;
        let Some((kind, _)) = self.plain_tunnel(port).filter(|_| burst.is_whole()) else { return 0 };
        let outers = self.outers.get_or_insert_with(|| Box::new(Outers::new()));
        let verified = burst.verified();
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        let mut by: Lengths = [0; BATCH_LEN];
        let crowds = sort(outers, port, kind, &heads, bits, verified, &mut by);
        let mut outs = Outs::new();
        for crowd in &crowds {
            look_inside(outers, view, crowd, &heads, &by, tally, &mut outs);
        }
        let done = outs.iter().fold(0, |done, out| done | out.places);
        if done == 0 {
            return 0;
        }
        places(bits & !done).for_each(|place| by[place] = 0);
        burst.shrink(&by);
        let (packets, bytes) = (u64::from(done.count_ones()), outs.iter().map(|out| out.bytes).sum());
        // From here on the packets are the tunnel's; where they came from has done with them.
        self.counters(in_port).finished.add(packets);
        let counters = self.counters(port.0);
        counters.received.add(packets);
        counters.received_bytes.add(bytes);
        self.stats.recirculated.add(packets);
        self.stats.cache_hits.add(packets);
        for out in &outs {
            self.send_burst(port.0, out.port, burst, out.places, out.bytes);
        }
        done
    }
}

/// Sorts packets by their outer header; sets `by` to its length. Those whose header is not known are left out.
fn sort(
    outers: &mut Outers,
    port: PortNo,
    kind: TunnelKind,
    heads: &Heads<'_>,
    bits: u32,
    verified: u32,
    by: &mut Lengths,
) -> ArrayVec<Crowd, BATCH_LEN> {
    let mut crowds = ArrayVec::<Crowd, BATCH_LEN>::new();
    for place in places(bits) {
        let found = outers.find(port.0, kind, heads[place], verified & (1 << place) != 0);
        let Some((number, len)) = found else { continue };
        by[place] = len;
        match crowds.iter_mut().rev().find(|crowd| crowd.number == number) {
            Some(crowd) => crowd.places |= 1 << place,
            None => crowds.push(Crowd { number, places: 1 << place }),
        }
    }
    crowds
}

/// Looks up what is inside of packets with one outer header.
fn look_inside(
    outers: &mut Outers,
    view: View<'_>,
    crowd: &Crowd,
    heads: &Heads<'_>,
    by: &Lengths,
    tally: Tally,
    outs: &mut Outs,
) {
    let mut inside = ArrayVec::<&[u8], BATCH_LEN>::new();
    let mut place_of = [0u8; BATCH_LEN];
    for (place, to) in places(crowd.places).zip(&mut place_of) {
        inside.push(heads[place].get(usize::from(by[place])..).unwrap_or_default());
        *to = place as u8;
    }
    let is_all = crowd.places == netdev::burst::all_places(inside.len());
    outers.lane.look(crowd.number, &inside, view.table.deaths());
    for run in outers.lane.runs() {
        let Some(Way::Out(out)) = outers.lane.way(run.slot) else { continue };
        let bits = match is_all {
            true => run.sum.places,
            false => places(run.sum.places).fold(0, |bits, n| bits | 1 << place_of[n]),
        };
        join(outs, out, bits, run.sum.bytes.into());
    }
    outers.lane.credit_outs(tally);
}

#[cfg(test)]
#[path = "burst_tests.rs"]
mod tests;
