//! Megaflows that hash packets and have them go round: select groups, bonds. Where a packet goes then follows from where it
//! came in, the number that it goes round with, its hash and its words, and is remembered in a lane of its own. Packets stay
//! in the buffers of their device.

use crate::express::{Outs, Parts, add_out, take};
use crate::item::{Item, Items};
use crate::key::Seed;
use crate::lane::{Common, Lane, NONE, Shape, Tally, Way, Words, words};
use crate::megaflow::Megaflow;
use crate::upcall::PendingKind;
use crate::worker::{View, Worker};
use arrayvec::ArrayVec;
use dpif::{Action, HashAlg};
use hashbrown::HashMap;
use netdev::burst::places;
use netdev::{Burst, Heads};
use packet::BATCH_LEN;
use std::sync::Arc;

/// Ways to go round that a thread remembers, beyond which it begins anew.
const BRANCHES_MAX: usize = if cfg!(test) { 3 } else { 1 << 12 };

/// What such a megaflow does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Branch {
    basis: u32,
    recirc_id: u32,
}

impl Branch {
    /// `None` if the actions are others.
    pub fn of(actions: &[Action]) -> Option<Self> {
        match actions {
            [Action::Hash { alg: HashAlg::L4, basis }, Action::Recirc(recirc_id)] => {
                Some(Branch { basis: *basis, recirc_id: *recirc_id })
            }
            _ => None,
        }
    }

    /// The hash that a packet with these words gets; `rss` is what its device says, or 0.
    #[inline]
    fn hash(&self, w: &Words, rss: u32) -> u32 {
        let hash = match rss {
            0 => {
                let [_, _, life, addresses, ports] = *w;
                let (src, dst) = (addresses as u32, (addresses >> 32) as u32);
                flow::hash::ipv4_5tuple(src, dst, (life >> 56) as u8, ports as u32, self.basis)
            }
            rss => flow::hash::int(rss, self.basis),
        };
        // 0 says "no hash yet".
        hash.max(1)
    }
}

/// What one thread remembers of packets that go round by their hash.
pub(crate) struct Branches {
    /// Each input port and number to go round with stands for a port of input here.
    lane: Lane,
    numbers: HashMap<(u32, u32), u32>,
}

impl Branches {
    fn new() -> Self {
        Branches { lane: Lane::new(Seed::get()), numbers: HashMap::new() }
    }

    fn number(&mut self, in_port: u32, recirc_id: u32) -> u32 {
        if let Some(number) = self.numbers.get(&(in_port, recirc_id)) {
            return *number;
        }
        if self.numbers.len() >= BRANCHES_MAX {
            self.clear();
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert((in_port, recirc_id), number);
        number
    }

    pub fn sweep(&mut self) {
        self.lane.sweep();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.lane.clear();
        self.numbers.clear();
    }
}

/// Packets of a burst by their megaflows.
type Flows = ArrayVec<(Arc<Megaflow>, Option<Way>, u32), BATCH_LEN>;

/// What is known of the packets of a burst.
struct Looks {
    branch: Branch,
    in_port: u32,
    /// What stands for both.
    number: u32,
    /// By place.
    words: [Words; BATCH_LEN],
    hashes: [u32; BATCH_LEN],
    lens: [u32; BATCH_LEN],
}

impl Looks {
    /// With the places of packets that can be looked up.
    fn new(burst: &mut dyn Burst, branch: Branch, in_port: u32, number: u32, bits: u32) -> (Self, u32) {
        let mut looks = Looks {
            branch,
            in_port,
            number,
            words: [[0; 5]; BATCH_LEN],
            hashes: [0; BATCH_LEN],
            lens: [0; BATCH_LEN],
        };
        places(bits).for_each(|place| looks.hashes[place] = burst.rss_hash(place));
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        let mut known = 0;
        for place in places(bits) {
            let Some(mut w) = words(heads[place]) else { continue };
            let hash = branch.hash(&w, looks.hashes[place]);
            Common::add_hash(&mut w, hash as u16);
            (looks.words[place], looks.hashes[place], looks.lens[place]) =
                (w, hash, heads[place].len() as u32);
            known |= 1 << place;
        }
        (looks, known)
    }

    /// A packet as it goes round.
    fn take(&self, burst: &mut dyn Burst, place: usize) -> Option<Item> {
        let mut item = take(burst, self.in_port, place)?;
        (item.meta.recirc_id, item.meta.dp_hash) = (self.branch.recirc_id, self.hashes[place]);
        Some(item)
    }
}

impl Worker {
    /// Runs the actions of megaflows that [`Branch`], which have counted the packets.
    #[inline(never)]
    pub fn branch_burst(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        parts: &Parts,
        tally: Tally,
    ) {
        let mut branches = self.branches.take().unwrap_or_else(|| Box::new(Branches::new()));
        for (slot, bits) in parts {
            let Some(flow) = self.lane.flow(*slot).cloned() else { continue };
            let Some(branch) = Branch::of(&flow.actions) else { continue };
            let number = branches.number(in_port, branch.recirc_id);
            let (looks, known) = Looks::new(burst, branch, in_port, number, *bits);
            self.stats.recirculated.add(known.count_ones().into());
            let unknown = self.go_round(view, burst, &mut branches.lane, &looks, known, tally);
            for place in places(unknown) {
                if let Some(item) = looks.take(burst, place) {
                    let w = &looks.words[place];
                    self.go_round_alone(view, item, w, &mut branches.lane, number);
                }
            }
            let mut items: Items =
                places(bits & !known).filter_map(|place| take(burst, in_port, place)).collect();
            if !items.is_empty() {
                self.execute(view, &flow.actions, &mut items, 0);
            }
        }
        self.branches = Some(branches);
    }

    /// Sees packets through whose next megaflow the lane knows; returns the places of the others.
    fn go_round(
        &mut self,
        view: View<'_>,
        burst: &mut dyn Burst,
        lane: &mut Lane,
        looks: &Looks,
        bits: u32,
        tally: Tally,
    ) -> u32 {
        let in_port = looks.in_port;
        let packets = places(bits).map(|place| (place, looks.words[place], looks.lens[place]));
        let seen = lane.look_at_words(looks.number, packets, view.table.deaths());
        self.stats.cache_hits.add((bits & !seen.unknown).count_ones().into());
        lane.credit(tally);
        let (mut outs, mut others) = (Outs::new(), Flows::new());
        for run in lane.runs().iter().filter(|run| run.slot != NONE) {
            match (lane.way(run.slot), lane.flow(run.slot)) {
                (Some(Way::Out(port)), _) => add_out(&mut outs, port, run.sum.places),
                (way, Some(flow)) => {
                    if way == Some(Way::Tracked) {
                        let (packets, bytes) = (run.sum.packets.into(), run.sum.bytes.into());
                        flow.stats.count(packets, bytes, run.tcp_flags(), tally);
                    }
                    // There are no more runs than packets.
                    let _ = others.try_push((Arc::clone(flow), way, run.sum.places));
                }
                _ => {}
            }
        }
        for (port, bits) in outs {
            let bytes = places(bits).map(|place| u64::from(looks.lens[place])).sum();
            self.send_burst(in_port, port, burst, bits, bytes);
        }
        for (flow, way, bits) in others {
            let left = match way {
                Some(Way::Edit) => bits & !self.edit_one(in_port, burst, &flow, bits),
                Some(Way::Fan) if self.fan(view, in_port, burst, &flow, bits, &looks.lens) => 0,
                _ => bits,
            };
            let mut items: Items = places(left).filter_map(|place| looks.take(burst, place)).collect();
            if !items.is_empty() {
                self.execute(view, &flow.actions, &mut items, 1);
            }
        }
        seen.unknown
    }

    /// Sees a packet through whose next megaflow the lane does not know, but may when this returns.
    fn go_round_alone(&mut self, view: View<'_>, mut item: Item, w: &Words, lane: &mut Lane, number: u32) {
        match self.look_up(view, &mut item) {
            Ok(flow) => {
                let (id, deaths) = (item.meta.recirc_id, view.table.deaths());
                lane.learn_branch(number, id, w, &flow, deaths, self.cache.is_chosen_now());
                self.execute(view, &flow.actions, &mut Items::from_iter([item]), 1);
            }
            Err(key) => self.upcall(PendingKind::Miss, item, key, 1),
        }
    }
}

#[cfg(test)]
#[path = "branch_tests.rs"]
mod tests;
