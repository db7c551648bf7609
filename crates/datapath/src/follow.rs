//! Packets on trails (see [`crate::trail`]): made by a walk, followed ever after.

use crate::execute::{RECIRCULATIONS_MAX, apply_set, change_headers};
use crate::item::{Item, Items};
use crate::lane::{Words, flags_of, set_offsets, words_of};
use crate::megaflow::Megaflow;
use crate::trail::{STEPS_MAX, Said, Step, Tracks, Trail};
use crate::upcall::PendingKind;
use crate::worker::{View, Worker};
use arrayvec::ArrayVec;
use conntrack::{Family, PacketCt, Place, Request};
use dpif::Action;
use packet::BATCH_LEN;
use std::sync::Arc;

/// What passed through one megaflow in a batch.
pub(crate) struct Credit {
    flow: Arc<Megaflow>,
    packets: u64,
    bytes: u64,
    tcp_flags: u16,
}

/// Megaflows of a batch. When it is full, what is in it is credited.
pub(crate) type Credits = ArrayVec<Credit, BATCH_LEN>;

/// Ends of trails in a batch: the last megaflow, and how often a packet has gone round by then.
type Ends = ArrayVec<(Arc<Megaflow>, usize), BATCH_LEN>;

/// How far a packet got on its trail.
enum Way {
    /// There is none, or it is no good any more.
    NoTrail,
    /// To this one of the batch's [`Ends`].
    ToEnd(usize),
    /// A connection said something else than last time; the packet goes round, this often already.
    Left { depth: usize },
}

impl Worker {
    /// Takes packets that came in by `in_port` along the trails that are known, and leaves the others.
    pub fn follow(&mut self, view: View<'_>, in_port: u32, items: &mut Items) {
        if self.trails.is_empty() || !self.tracking.ipf.is_idle() {
            return;
        }
        let mut credits = Credits::new();
        let mut ends = Ends::new();
        let mut ways: ArrayVec<Way, BATCH_LEN> = ArrayVec::new();
        for item in items.iter_mut() {
            let found = words_of(&item.packet).and_then(|w| Some((w, self.trails.find(in_port, &w)?)));
            ways.push(match found {
                Some((w, at)) => self.follow_one(view, (at, &w), item, &mut credits, &mut ends),
                None => Way::NoTrail,
            });
        }
        credits.drain(..).for_each(|c| self.give(view, &c));
        if let [(flow, depth)] = &ends[..]
            && ways.iter().all(|w| matches!(w, Way::ToEnd(_)))
        {
            return self.execute(view, &flow.actions, items, *depth);
        }
        let mut run: Items = Items::new();
        let mut run_to = 0;
        for (item, way) in std::mem::take(items).into_iter().zip(ways) {
            match way {
                Way::NoTrail => items.push(item),
                Way::ToEnd(end) => {
                    if run_to != end {
                        self.finish_run(view, &ends, run_to, &mut run);
                    }
                    run_to = end;
                    run.push(item);
                }
                Way::Left { depth } => {
                    self.finish_run(view, &ends, run_to, &mut run);
                    self.process(view, &mut Items::from_iter([item]), depth);
                }
            }
        }
        self.finish_run(view, &ends, run_to, &mut run);
    }

    fn follow_one(
        &mut self,
        view: View<'_>,
        (at, w): (u32, &Words),
        item: &mut Item,
        credits: &mut Credits,
        ends: &mut Ends,
    ) -> Way {
        let Some(trail) = self.trails.get(at).filter(|t| !t.is_dead()) else {
            self.trails.forget(at);
            return Way::NoTrail;
        };
        set_offsets(&mut item.packet);
        let (len, flags) = (item.packet.len() as u64, flags_of(w));
        let mut ct = PacketCt::default();
        for (n, step) in trail.steps.iter().enumerate() {
            // A trail has no other megaflows.
            let Some(tracks) = Tracks::of(&step.flow.actions) else { return Way::NoTrail };
            let place = self.step(item, &mut ct, &tracks, Some(step.said.place));
            self.credit(view, credits, &step.flow, len, flags);
            if place.map(|p| Said::new(&ct, p)) != Some(step.said) {
                item.meta.ct = Some(Box::new(ct));
                let looks = n as u64 + 1;
                self.stats.recirculated.add(looks);
                self.stats.cache_hits.add(looks);
                self.trails.forget(at);
                return Way::Left { depth: n + 1 };
            }
        }
        if trail.shows_ct {
            item.meta.ct = Some(Box::new(ct));
        }
        self.credit(view, credits, &trail.last, len, flags);
        let rounds = trail.steps.len() as u64;
        self.stats.recirculated.add(rounds);
        self.stats.cache_hits.add(rounds + 1);
        self.stats.followed.add(1);
        let (last, depth) = (&trail.last, trail.steps.len());
        let known = ends.iter().position(|(f, d)| Arc::ptr_eq(f, last) && *d == depth);
        Way::ToEnd(known.unwrap_or_else(|| {
            ends.push((Arc::clone(last), depth));
            ends.len() - 1
        }))
    }

    /// Runs the last actions of a trail on the packets that came to its end.
    fn finish_run(&mut self, view: View<'_>, ends: &Ends, end: usize, run: &mut Items) {
        if let (Some((flow, depth)), false) = (ends.get(end), run.is_empty()) {
            self.execute(view, &flow.actions, run, *depth);
        }
    }

    /// Changes headers, shows the packet to its connection, and has it go round. Gives the connection's place.
    fn step(
        &self,
        item: &mut Item,
        ct: &mut PacketCt,
        tracks: &Tracks<'_>,
        place: Option<Place>,
    ) -> Option<Place> {
        for edit in tracks.edits {
            match edit {
                Action::Set(set) => apply_set(item, set),
                Action::CtClear => *ct = PacketCt::default(),
                _ => change_headers(item, edit),
            }
        }
        let request = Request::of(tracks.ct);
        let conntrack = &self.tracking.conntrack;
        let place = conntrack.process_at(&mut item.packet, Family::V4, ct, &request, self.now_ms, place);
        item.meta.recirc_id = tracks.recirc_id;
        place
    }

    /// Takes a packet that hit `flow`, which tracks it, on its way alone, and remembers the trail if others will follow.
    pub fn walk(&mut self, view: View<'_>, flow: &Arc<Megaflow>, mut item: Item) {
        let (in_port, found) = (item.meta.in_port, words_of(&item.packet));
        let mut steps: ArrayVec<Step, STEPS_MAX> = ArrayVec::new();
        let mut flow = Arc::clone(flow);
        let mut depth = 0;
        let mut is_learned = true;
        let mut ct = PacketCt::default();
        while let Some(tracks) = Tracks::of(&flow.actions).filter(|_| depth < RECIRCULATIONS_MAX) {
            let place = self.step(&mut item, &mut ct, &tracks, None);
            match place.filter(|_| !steps.is_full()) {
                Some(place) => {
                    let address = self.tracking.conntrack.address(place);
                    steps.push(Step { flow: Arc::clone(&flow), said: Said::new(&ct, place), address });
                }
                None => is_learned = false,
            }
            depth += 1;
            self.stats.recirculated.add(1);
            item.meta.ct = Some(Box::new(ct));
            match self.look_up(view, &mut item) {
                Ok(next) => flow = next,
                Err(key) => return self.upcall(PendingKind::Miss, item, key, depth),
            }
        }
        is_learned &= !steps.is_empty();
        if let (true, Some(words)) = (is_learned, found) {
            self.trails.remember(Trail::new(in_port, words, steps, &flow));
        }
        self.execute(view, &flow.actions, &mut Items::from_iter([item]), depth);
    }

    /// The megaflow of one packet as it is now, which is credited with it; its key if there is none.
    pub fn look_up(&mut self, view: View<'_>, item: &mut Item) -> Result<Arc<Megaflow>, Arc<flow::Flow>> {
        let mut keys = self.spare_key();
        let (key, len) = (&mut keys[0], item.packet.len() as u64);
        packet::extract(&mut item.packet, &item.meta.for_parser(self.vlan_limit), key);
        let found = self.megaflow_of(view, key);
        if let Some(flow) = &found {
            flow.stats.add(1, len, key.tcp_flags, self.now_ms);
        }
        let found = found.ok_or_else(|| Arc::new(keys[0].clone()));
        self.return_key(keys);
        found
    }

    pub fn credit(
        &self,
        view: View<'_>,
        credits: &mut Credits,
        flow: &Arc<Megaflow>,
        len: u64,
        tcp_flags: u16,
    ) {
        if let Some(c) = credits.iter_mut().find(|c| Arc::ptr_eq(&c.flow, flow)) {
            c.packets += 1;
            c.bytes += len;
            c.tcp_flags |= tcp_flags;
            return;
        }
        if credits.is_full() {
            credits.drain(..).for_each(|c| self.give(view, &c));
        }
        credits.push(Credit { flow: Arc::clone(flow), packets: 1, bytes: len, tcp_flags });
    }

    pub fn give(&self, view: View<'_>, c: &Credit) {
        if view.table.pmd.is_some() {
            c.flow.stats.add_as_owner(c.packets, c.bytes, c.tcp_flags, self.now_ms);
        } else {
            c.flow.stats.add(c.packets, c.bytes, c.tcp_flags, self.now_ms);
        }
    }
}

/// Whether a packet that hit a megaflow of [`Tracks`] can go on a trail: it has just come in, and has the shape.
pub(crate) fn may_walk(item: &Item) -> bool {
    let meta = &item.meta;
    let is_fresh = meta.ct.is_none() && meta.rare.is_none() && (meta.recirc_id, meta.dp_hash) == (0, 0);
    is_fresh
        && (meta.skb_priority, meta.pkt_mark, meta.max_len) == (0, 0, 0)
        && words_of(&item.packet).is_some()
}
