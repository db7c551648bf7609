//! What a polling thread does with a batch: parse, look up, group by megaflow, act.

use crate::branch::Branches;
use crate::cache::FlowCache;
use crate::counter::Counter;
use crate::ct::Tracking;
use crate::drops::{DropCause, PortCounters};
use crate::flow_table::FlowTable;
use crate::follow::may_walk;
use crate::item::{Item, Items};
use crate::key::Seed;
use crate::lane::{Lane, WideLane};
use crate::megaflow::Megaflow;
use crate::meter::Meters;
use crate::port::LocalPorts;
use crate::spare::Lanes;
use crate::trail::{Tracks, Trails};
use crate::tuning::Remember;
use crate::tunnel::Outers;
use crate::upcall::{Line, Pending, PendingKind, UpcallQueues};
use arrayvec::ArrayVec;
use flow::Flow;
use packet::BATCH_LEN;
use quiescent::{Guard, Shared};
use std::sync::Arc;

/// Where a packet goes that the switch must decide about.
pub(crate) enum Sink {
    /// To the handler threads.
    Queue(Arc<UpcallQueues>),
    /// To whoever called, who answers when the worker is free again.
    Caller(Line),
}

/// What a batch is looked up in.
#[derive(Clone, Copy)]
pub(crate) struct View<'g> {
    pub guard: &'g Guard<'g>,
    pub table: &'g FlowTable,
}

/// Counters of one worker, for `dpif-netdev/pmd-stats-show` and the like.
#[derive(Debug, Default)]
pub(crate) struct WorkerStats {
    pub received: Counter,
    pub recirculated: Counter,
    pub cache_hits: Counter,
    /// Of these, packets that only `smc-enable` remembers.
    pub signature_hits: Counter,
    /// Packets that followed a trail to its end.
    pub followed: Counter,
    pub table_hits: Counter,
    /// Subtables asked for the hits of the table.
    pub subtables_asked: Counter,
    pub missed: Counter,
    /// Misses that found no room in the queue.
    pub lost: Counter,
    pub sent: Counter,
    pub sent_batches: Counter,
    /// Loop iterations, and those that found packets.
    pub iterations: Counter,
    pub busy_iterations: Counter,
    /// Nanoseconds in iterations that found packets, and in the others (sleep not counted).
    pub busy_ns: Counter,
    pub idle_ns: Counter,
    /// Upcalls that this thread has answered itself, and the time that took; part of the above.
    pub answered: Counter,
    pub answered_ns: Counter,
    /// Naps between iterations (`pmd-maxsleep`), and their time.
    pub naps: Counter,
    pub nap_ns: Counter,
}

impl WorkerStats {
    /// Adds what a thread that is gone has counted.
    pub fn absorb(&self, gone: &WorkerStats) {
        let pairs = [
            (&self.received, &gone.received),
            (&self.recirculated, &gone.recirculated),
            (&self.cache_hits, &gone.cache_hits),
            (&self.signature_hits, &gone.signature_hits),
            (&self.table_hits, &gone.table_hits),
            (&self.subtables_asked, &gone.subtables_asked),
            (&self.missed, &gone.missed),
            (&self.lost, &gone.lost),
            (&self.sent, &gone.sent),
            (&self.sent_batches, &gone.sent_batches),
        ];
        pairs.iter().for_each(|(sum, n)| sum.add(n.get()));
    }
}

pub(crate) type Keys = Box<[Flow; BATCH_LEN]>;

/// One thread's part of the datapath. All its methods are for that thread alone.
pub(crate) struct Worker {
    pub ports: LocalPorts,
    pub stats: Arc<WorkerStats>,
    pub sink: Sink,
    /// The switch's time, taken once per loop.
    pub now_ms: u64,
    pub vlan_limit: u8,
    pub(crate) meters: Arc<Meters>,
    pub(crate) cache: FlowCache,
    pub(crate) lane: Lane,
    /// For packets of the wide shape; none until one comes.
    pub(crate) wide: Option<Box<WideLane>>,
    /// What is to become of that.
    spare_wide: Option<Box<WideLane>>,
    pub(crate) trails: Trails,
    /// Known outer headers; none until a burst out of a tunnel comes.
    pub(crate) outers: Option<Box<Outers>>,
    /// What packets that go round by their hash are; none until one does.
    pub(crate) branches: Option<Box<Branches>>,
    /// Ports with packets to send.
    pub(crate) dirty: Vec<u32>,
    pub(crate) random: u64,
    pub(crate) tracking: Arc<Tracking>,
    /// Packets wait for others to be sent with (`tx-flush-interval`).
    pub(crate) collects: bool,
    /// [`crate::tuning::Tuning::epoch`] of what is remembered.
    epoch: u32,
    pmd: Option<u32>,
    seed: Seed,
    /// Room for the keys of one batch per recirculation under way.
    spare_keys: Vec<Keys>,
    /// Counts for packets that came in by no port, or by one that is gone.
    pub(crate) nowhere: Arc<PortCounters>,
    /// Lists of actions under way.
    pub(crate) nesting: usize,
}

/// Packets of one batch that hit one megaflow.
pub(crate) struct Group {
    pub flow: Arc<Megaflow>,
    pub members: u32,
    /// Of those that the megaflow has not counted yet.
    pub packets: u64,
    pub bytes: u64,
    pub tcp_flags: u16,
}

pub(crate) type Groups = ArrayVec<Group, BATCH_LEN>;

impl Worker {
    pub fn new(sink: Sink, pmd: Option<u32>, tracking: &Arc<Tracking>, meters: &Arc<Meters>) -> Self {
        Self::with_lanes(sink, pmd, tracking, meters, None)
    }

    /// As [`Worker::new`], with lanes that are there already.
    pub fn with_lanes(
        sink: Sink,
        pmd: Option<u32>,
        tracking: &Arc<Tracking>,
        meters: &Arc<Meters>,
        lanes: Option<Lanes>,
    ) -> Self {
        let (lane, spare_wide) = match lanes {
            Some(Lanes { common, wide }) => (common, Some(wide)),
            None => (Lane::new(Seed::get()), None),
        };
        Worker {
            ports: LocalPorts::default(),
            stats: Arc::default(),
            sink,
            now_ms: 0,
            vlan_limit: 2,
            meters: Arc::clone(meters),
            cache: FlowCache::new(),
            lane,
            wide: None,
            spare_wide,
            trails: Trails::new(Seed::get().basis()),
            outers: None,
            branches: None,
            dirty: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15 ^ u64::from(pmd.unwrap_or(u32::MAX)),
            tracking: Arc::clone(tracking),
            collects: false,
            epoch: 0,
            pmd,
            seed: Seed::get(),
            spare_keys: Vec::new(),
            nowhere: Arc::default(),
            nesting: 0,
        }
    }

    /// Takes the wide lane out, to be put back; a new one if no packet of its shape was there before.
    pub fn take_wide(&mut self) -> Box<WideLane> {
        let spare = self.wide.take().or_else(|| self.spare_wide.take());
        spare.unwrap_or_else(|| Box::new(WideLane::new(Seed::get())))
    }

    /// Whether it is a polling thread's.
    #[inline]
    pub fn is_polling(&self) -> bool {
        self.pmd.is_some()
    }

    /// Room for the keys of a batch.
    pub fn spare_key(&mut self) -> Keys {
        self.spare_keys.pop().unwrap_or_else(|| Box::new([const { Flow::ZERO }; BATCH_LEN]))
    }

    pub fn return_key(&mut self, keys: Keys) {
        self.spare_keys.push(keys);
    }

    /// How much of what comes next is remembered; an epoch that is new makes the worker forget the rest.
    #[inline]
    pub fn keep(&mut self, remember: Remember, epoch: u32) {
        self.cache.keep_one_in(remember.one_in);
        if self.epoch != epoch {
            self.epoch = epoch;
            self.cache.clear();
            self.lane.clear();
            if let Some(wide) = &mut self.wide {
                wide.clear();
            }
            if let Some(outers) = &mut self.outers {
                outers.clear();
            }
            if let Some(branches) = &mut self.branches {
                branches.clear();
            }
        }
    }

    /// The counters of the port that a packet came in by.
    #[inline]
    pub fn counters(&self, in_port: u32) -> &PortCounters {
        self.ports.get(in_port).map_or(&self.nowhere, |p| &p.counters)
    }

    pub fn drop_items(&self, items: &mut Items, cause: DropCause) {
        for item in items.drain(..) {
            self.counters(item.meta.in_port).lose(cause, 1);
        }
    }

    /// Takes in packets that were just received on `in_port`, and forgets those that are no frames.
    pub fn receive(&mut self, in_port: u32, items: &mut Items) {
        let bytes: usize = items.iter().map(|i| i.packet.len()).sum();
        let counters = self.counters(in_port);
        counters.received.add(items.len() as u64);
        counters.received_bytes.add(bytes as u64);
        self.stats.received.add(items.len() as u64);
        if items.iter().any(is_runt) {
            let before = items.len();
            items.retain(|i| !is_runt(i));
            counters.lose(DropCause::RxInvalidPacket, before - items.len());
        }
    }

    /// Runs packets of one input port through the table. `depth` is the number of recirculations.
    pub fn process(&mut self, view: View<'_>, items: &mut Items, depth: usize) {
        let mut keys = self.spare_key();
        let mut groups: Groups = Groups::new();
        let missed = self.classify(view, items, &mut keys, &mut groups);
        for g in &groups {
            g.flow.stats.add(g.packets, g.bytes, g.tcp_flags, self.now_ms);
        }
        let walks = depth == 0 && self.tracking.ipf.is_idle();
        let tracks = |g: &Group| walks && Tracks::of(&g.flow.actions).is_some();
        if let ([only], 0) = (&groups[..], missed)
            && !tracks(only)
        {
            let actions = Arc::clone(&only.flow.actions);
            self.spare_keys.push(keys);
            self.execute(view, &actions, items, depth);
            return;
        }
        let mut slots: ArrayVec<Option<Item>, BATCH_LEN> = items.drain(..).map(Some).collect();
        for (i, slot) in slots.iter_mut().enumerate() {
            if missed & (1 << i) != 0
                && let Some(item) = slot.take()
            {
                self.upcall(PendingKind::Miss, item, Arc::new(keys[i].clone()), depth);
            }
        }
        self.spare_keys.push(keys);
        for g in &groups {
            let is_member = |i: usize| g.members & (1 << i) != 0;
            let members = slots.iter_mut().enumerate().filter(|(i, _)| is_member(*i));
            let mut items: Items = members.filter_map(|(_, s)| s.take()).collect();
            if tracks(g) {
                self.walk_some(view, &g.flow, &mut items);
            }
            self.execute(view, &g.flow.actions, &mut items, depth);
        }
    }

    /// Parses and looks up; returns the packets without a megaflow as bits.
    fn classify(&mut self, view: View<'_>, items: &mut Items, keys: &mut Keys, groups: &mut Groups) -> u32 {
        let mut missed = 0;
        for (i, (item, key)) in items.iter_mut().zip(keys.iter_mut()).enumerate() {
            if !self.classify_one(view, i, item, key, groups) {
                missed |= 1 << i;
            }
        }
        missed
    }

    /// The megaflow for one key.
    pub fn megaflow_of(&mut self, view: View<'_>, key: &Flow) -> Option<Arc<Megaflow>> {
        let signature = self.seed.signature(key);
        if let Some(flow) = self.cache.get(signature, key) {
            self.stats.cache_hits.add(1);
            return Some(Arc::clone(flow));
        }
        let (found, asked) = view.table.lookup(view.guard, key);
        let flow = found?.to_arc();
        self.stats.subtables_asked.add(asked as u64);
        self.stats.table_hits.add(1);
        self.cache.offer(signature, || Arc::clone(&flow));
        Some(flow)
    }

    /// Takes some of the packets that hit a megaflow that tracks them on their way alone, to make trails.
    pub fn walk_some(&mut self, view: View<'_>, flow: &Arc<Megaflow>, items: &mut Items) {
        for item in std::mem::take(items) {
            if self.trails.is_chosen() && may_walk(&item) {
                self.walk(view, flow, item);
            } else {
                items.push(item);
            }
        }
    }

    /// Parses packet `i` and adds it to the group of its megaflow, if there is one.
    #[inline]
    pub fn classify_one(
        &mut self,
        view: View<'_>,
        i: usize,
        item: &mut Item,
        key: &mut Flow,
        groups: &mut Groups,
    ) -> bool {
        packet::extract(&mut item.packet, &item.meta.for_parser(self.vlan_limit), key);
        let signature = self.seed.signature(key);
        let one = One { i, packets: 1, bytes: item.packet.len() as u64, tcp_flags: key.tcp_flags };
        if let Some(flow) = self.cache.get(signature, key) {
            self.stats.cache_hits.add(1);
            join(groups, flow, Arc::clone, one);
            return true;
        }
        let (found, asked) = view.table.lookup(view.guard, key);
        let Some(flow) = found else { return false };
        self.stats.subtables_asked.add(asked as u64);
        self.stats.table_hits.add(1);
        self.cache.offer(signature, || flow.to_arc());
        join(groups, &flow, |f: &Shared<'_, Megaflow>| f.to_arc(), one);
        true
    }

    /// Hands a packet to the switch, or drops it if there is no room.
    pub fn upcall(&mut self, kind: PendingKind, item: Item, key: Arc<Flow>, depth: usize) {
        let is_miss = matches!(kind, PendingKind::Miss);
        let pending = Box::new(Pending { kind, item, key, depth, pmd: self.pmd });
        let in_port = pending.meta().in_port;
        self.stats.missed.add(u64::from(is_miss));
        let refused = match &mut self.sink {
            Sink::Caller(waiting) => {
                waiting.push_back(pending);
                None
            }
            Sink::Queue(queues) => match self.ports.get(in_port) {
                Some(port) => queues.push(&port.upcalls, pending).err(),
                None => Some(pending),
            },
        };
        match refused {
            None => self.counters(in_port).upcalled.add(1),
            Some(_) if is_miss => {
                self.stats.lost.add(1);
                self.counters(in_port).lose(DropCause::UpcallError, 1);
            }
            Some(_) => self.counters(in_port).lose(DropCause::UserspaceActionError, 1),
        }
    }

    /// A number that nobody depends on being hard to guess (xorshift64*).
    pub fn random_u32(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// Packet `i` of a batch, and what its megaflow has not counted yet.
#[derive(Clone, Copy)]
pub(crate) struct One {
    pub i: usize,
    pub packets: u64,
    pub bytes: u64,
    pub tcp_flags: u16,
}

/// Adds a packet to the group of its megaflow.
#[inline]
pub(crate) fn join<F: std::ops::Deref<Target = Megaflow>>(
    groups: &mut Groups,
    flow: &F,
    to_arc: impl Fn(&F) -> Arc<Megaflow>,
    one: One,
) {
    let members = 1 << one.i;
    // The last group first: packets of one flow come in trains.
    if let Some(g) = groups.iter_mut().rev().find(|g| std::ptr::eq(&*g.flow, &**flow)) {
        g.members |= members;
        g.packets += one.packets;
        g.bytes += one.bytes;
        g.tcp_flags |= one.tcp_flags;
    } else if !groups.is_full() {
        let One { packets, bytes, tcp_flags, .. } = one;
        groups.push(Group { flow: to_arc(flow), members, packets, bytes, tcp_flags });
    }
}

pub(crate) fn is_runt(item: &Item) -> bool {
    item.packet.packet_type == flow::PT_ETH && item.packet.len() < packet::proto::header_len::ETH
}
