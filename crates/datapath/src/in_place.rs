//! Tracked packets that leave as they came. Connections are shown the packets of a burst in the buffers of their device;
//! where that is all that is to be done but to send them, they are sent from there, and no [`crate::item::Item`] is made of any.
//!
//! That is so for packets on trails without edits and translation, and for those of megaflows that track and send without
//! a look at what tracking said, as those do that let new connections in. The first packet of a burst with which anything
//! is different leaves this way, and those behind it do not take it, so that connections see their packets in order. Of a burst
//! that has only the heads of its packets ([`Burst::is_whole`]), different are those of which tracking would read more, and
//! those whose checksums are not found right ([`Burst::verify`]).

use crate::cpu::prefetch_to_write;
use crate::express::{Outs, Parted, add_out, take};
use crate::follow::Credits;
use crate::item::Items;
use crate::lane::{NONE, Way, Words, flags_of, words};
use crate::trail::Tracks;
use crate::worker::{View, Worker};
use conntrack::{Aim, Glance, PacketCt, Request, Shown, Sight};
use dpif::{Action, Ct, PortNo};
use netdev::burst::{HEAD, all_places, places};
use netdev::{Burst, Heads};
use packet::BATCH_LEN;
use packet::proto::{ip_proto, tcp};

const ETHERNET: usize = 14;
/// Where a packet of the lane's shape has its protocol, its transport header, and in that the length and flags of TCP.
const PROTOCOL: usize = ETHERNET + 9;
const TRANSPORT: usize = ETHERNET + 20;
const TCP_LEN: usize = TRANSPORT + 12;
const TCP_FLAGS: usize = TRANSPORT + 13;

/// A packet that goes on from some point of its trail like any other.
pub(crate) struct Left {
    place: usize,
    ct: PacketCt,
    recirc_id: u32,
    /// How often it has gone round.
    depth: usize,
}

/// Where a packet got to.
enum Passed {
    To(PortNo),
    /// It has no trail.
    Unknown,
    /// Nothing has happened to it.
    NotAtAll,
    Left(Left),
}

/// What is known of the packets of a burst while it is looked at.
struct Looks {
    words: [Words; BATCH_LEN],
    /// Of packets that may have a trail.
    signatures: [u64; BATCH_LEN],
    trails: [Option<u32>; BATCH_LEN],
    /// Of packets that are tracked blindly.
    aims: [Option<(Glance, Aim)>; BATCH_LEN],
}

impl Looks {
    #[inline(always)]
    fn new() -> Self {
        Looks {
            words: [[0; 5]; BATCH_LEN],
            signatures: [0; BATCH_LEN],
            trails: [None; BATCH_LEN],
            aims: [const { None }; BATCH_LEN],
        }
    }
}

/// The `ct` of a megaflow that tracks packets without a look at what comes of it, and sends them.
fn blind(actions: &[Action]) -> Option<(&Ct, PortNo)> {
    match actions {
        [Action::Ct(ct), Action::Output(port)] if Request::of(ct).is_plain() => Some((ct, *port)),
        _ => None,
    }
}

/// The network header of a packet of the lane's shape, and what is behind it.
fn network(head: &[u8]) -> Option<&[u8]> {
    let total = u16::from_be_bytes([*head.get(16)?, *head.get(17)?]);
    head.get(ETHERNET..ETHERNET + usize::from(total))
}

/// Whether the first bytes of a packet have all that tracking reads, but for a checksum: of segments that begin a connection,
/// options too.
fn is_shown(head: &[u8]) -> bool {
    let begins = head.get(PROTOCOL) == Some(&ip_proto::TCP)
        && head.get(TCP_FLAGS).is_none_or(|flags| u16::from(*flags) & tcp::SYN != 0);
    let end = TRANSPORT + head.get(TCP_LEN).map_or(0, |len| usize::from(len >> 4) * 4);
    !begins || end <= head.len().min(HEAD)
}

/// Of packets of which only the heads are there, the places of those before the first of which there is not enough.
fn shown(heads: &Heads<'_>, bits: u32, verified: u32) -> u32 {
    let is_enough = |place: &usize| verified & (1 << place) != 0 && is_shown(heads[*place]);
    places(bits).find(|place| !is_enough(place)).map_or(bits, |place| bits & all_places(place))
}

impl Worker {
    /// Tracks what can be tracked in place; it has a place in `outs` then, and no slot. A packet that left its trail on
    /// the way has no slot either: it is to be seen on ([`Worker::leave`]) when `outs` are sent.
    pub fn track_in_place(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        parted: &mut Parted,
        outs: &mut Outs,
    ) -> Option<Left> {
        let (tracked, blind) = self.candidates(parted);
        if tracked | blind == 0 || !self.tracking.ipf.is_idle() {
            return None;
        }
        let (mut bits, is_whole) = (tracked | blind, burst.is_whole());
        let verified = burst.verify(bits);
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        if !is_whole {
            bits = shown(&heads, bits, verified);
        }
        let mut looks = Looks::new();
        self.look_ahead(in_port, &heads, bits & tracked, &mut looks);
        self.aim_ahead(&heads, parted, bits & blind, verified, &mut looks);
        let mut credits = Credits::new();
        let mut left = None;
        for place in places(bits) {
            let head = heads[place];
            let passed = match tracked & (1 << place) {
                0 => self.pass_blindly(place, parted.slots[place], &looks),
                _ => self.pass(view, (place, verified), head, &looks, &mut credits),
            };
            match passed {
                Passed::To(port) => {
                    add_out(outs, port, 1 << place);
                    parted.slots[place] = NONE;
                }
                Passed::Unknown => {}
                Passed::NotAtAll => break,
                Passed::Left(l) => {
                    parted.slots[place] = NONE;
                    left = Some(l);
                    break;
                }
            }
        }
        credits.drain(..).for_each(|c| self.give(view, &c));
        if blind != 0 {
            self.tracking.see_to_stock(self.is_polling());
        }
        left
    }

    /// Places of packets that may have a trail, and of those that are tracked blindly.
    fn candidates(&self, parted: &Parted) -> (u32, u32) {
        let (mut tracked, mut blinds) = (0, 0);
        let mut last = (NONE, false);
        for (place, slot) in parted.slots.iter().enumerate().filter(|(_, slot)| **slot != NONE) {
            match self.lane.way(*slot) {
                Some(Way::Tracked) => tracked |= u32::from(!self.trails.is_empty()) << place,
                Some(Way::Elsewhere) => {
                    if last.0 != *slot {
                        let flow = self.lane.flow(*slot);
                        last = (*slot, flow.is_some_and(|f| blind(&f.actions).is_some()));
                    }
                    blinds |= u32::from(last.1) << place;
                }
                _ => {}
            }
        }
        (tracked, blinds)
    }

    /// Finds the trails of packets, and asks for what they lead to.
    fn look_ahead(&self, in_port: u32, heads: &Heads<'_>, tracked: u32, looks: &mut Looks) {
        for place in places(tracked) {
            if let Some(w) = words(heads[place]) {
                looks.words[place] = w;
                looks.signatures[place] = self.trails.sign(in_port, &w);
            }
        }
        places(tracked).for_each(|place| self.trails.ask(looks.signatures[place]));
        for place in places(tracked) {
            let at = self.trails.find_signed(looks.signatures[place], in_port, &looks.words[place]);
            looks.trails[place] = at;
            for step in at.and_then(|at| self.trails.get(at)).iter().flat_map(|t| &t.steps) {
                self.tracking.conntrack.ask_at(step.said.place, step.address, prefetch_to_write);
            }
        }
    }

    /// Reads packets that are tracked blindly, and asks for what the tracker will look at.
    fn aim_ahead(&self, heads: &Heads<'_>, parted: &Parted, blinds: u32, verified: u32, looks: &mut Looks) {
        let conntrack = &self.tracking.conntrack;
        for place in places(blinds) {
            let ct = self.lane.flow(parted.slots[place]).and_then(|f| blind(&f.actions));
            let Some((ct, l3)) = ct.and_then(|(ct, _)| Some((ct, network(heads[place])?))) else { continue };
            let glance = Glance::at(l3, ct.zone, verified & (1 << place) == 0);
            looks.aims[place] = glance.map(|g| (g, conntrack.aim(&g, prefetch_to_write)));
        }
        for (_, aim) in places(blinds).filter_map(|place| looks.aims[place].as_ref()) {
            conntrack.ask(*aim, prefetch_to_write);
        }
    }

    /// Tracks a packet of a megaflow that is [`blind`], which has counted it.
    #[inline]
    fn pass_blindly(&self, place: usize, slot: u32, looks: &Looks) -> Passed {
        let Some((ct, port)) = self.lane.flow(slot).and_then(|f| blind(&f.actions)) else {
            return Passed::NotAtAll;
        };
        let (conntrack, request) = (&self.tracking.conntrack, Request::of(ct));
        match &looks.aims[place] {
            Some((glance, aim)) if conntrack.track_blindly(glance, *aim, &request, self.now_ms) => {
                Passed::To(port)
            }
            _ => Passed::NotAtAll,
        }
    }

    /// Takes a packet along its trail.
    #[inline]
    fn pass(
        &mut self,
        view: View<'_>,
        (place, verified): (usize, u32),
        head: &[u8],
        looks: &Looks,
        credits: &mut Credits,
    ) -> Passed {
        let w = &looks.words[place];
        let Some(at) = looks.trails[place] else { return Passed::Unknown };
        let Some(trail) = self.trails.get(at).filter(|t| !t.is_dead()) else { return Passed::NotAtAll };
        let Some(out) = trail.out else { return Passed::NotAtAll };
        let verify = verified & (1 << place) == 0;
        let Some(sight) = network(head).and_then(|l3| Sight::at(l3, verify)) else {
            return Passed::NotAtAll;
        };
        // Of the whole packet, for the few that are not as they were.
        let glance = || network(head).and_then(|l3| Glance::at(l3, 0, false));
        let (len, flags, rounds) = (head.len() as u64, flags_of(w), trail.steps.len());
        let conntrack = &self.tracking.conntrack;
        let mut left = None;
        for (n, step) in trail.steps.iter().enumerate() {
            let shown = conntrack.show(step.said.place, &step.said.told, &sight, glance, self.now_ms);
            let (ct, rounds) = match shown {
                Shown::AsTold => {
                    self.credit(view, credits, &step.flow, len, flags);
                    continue;
                }
                Shown::Otherwise(ct) => {
                    self.credit(view, credits, &step.flow, len, flags);
                    (ct, n + 1)
                }
                Shown::Not => match n.checked_sub(1).and_then(|n| trail.steps.get(n)).zip(glance()) {
                    Some((before, g)) => (before.said.place.told(&before.said.told, before.zone(), &g), n),
                    None => return Passed::NotAtAll,
                },
            };
            let recirc_id = rounds.checked_sub(1).and_then(|n| Tracks::of(&trail.steps.get(n)?.flow.actions));
            let recirc_id = recirc_id.map_or(0, |t| t.recirc_id);
            left = Some(Left { place, ct, recirc_id, depth: rounds });
            break;
        }
        if left.is_none() {
            self.credit(view, credits, &trail.last, len, flags);
            self.stats.followed.add(1);
        }
        let rounds = left.as_ref().map_or(rounds, |l| l.depth) as u64;
        self.stats.recirculated.add(rounds);
        self.stats.cache_hits.add(rounds + u64::from(left.is_none()));
        match left {
            None => Passed::To(out),
            Some(left) => {
                self.trails.forget(at);
                Passed::Left(left)
            }
        }
    }

    /// Sees a packet on that left its trail.
    #[cold]
    pub fn leave(&mut self, view: View<'_>, in_port: u32, burst: &mut dyn Burst, left: Left) {
        let Some(mut item) = take(burst, in_port, left.place) else { return };
        item.meta.ct = Some(Box::new(left.ct));
        item.meta.recirc_id = left.recirc_id;
        self.process(view, &mut Items::from_iter([item]), left.depth);
    }
}

#[cfg(test)]
#[path = "in_place_tests.rs"]
mod tests;
