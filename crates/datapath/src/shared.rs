//! What the threads of a datapath share: the tables, the control context, the way to the switch.

use crate::ct::Tracking;
use crate::drops::DropCause;
use crate::flow_table::{FlowTable, NewMegaflow};
use crate::item::{Item, Items, PacketMeta};
use crate::key::ufid_of;
use crate::meter::Meters;
use crate::spare::Spares;
use crate::tuning::Tuning;
use crate::upcall::{Line, Pending, PendingKind, UpcallQueues};
use crate::worker::{Sink, View, Worker};
use clock::Clock;
use dpif::{Action, DpifError, FlowStats, PutMode, Upcall, UpcallHandler, UpcallKind};
use flow::{Flow, Mask};
use netdev::Netdev;
use packet::Packet;
use parking_lot::{Mutex, RwLock};
use quiescent::{Domain, Guard, Reader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Runs packets on the threads of the control plane: those that are injected, that the switch sends, and
/// that handlers are done with.
pub(crate) struct Control {
    reader: Reader,
    pub worker: Worker,
    main: Arc<FlowTable>,
}

pub(crate) struct Shared {
    pub clock: Clock,
    pub domain: Arc<Domain>,
    pub meters: Arc<Meters>,
    pub queues: Arc<UpcallQueues>,
    pub control: Mutex<Control>,
    pub handler: RwLock<Option<Arc<dyn UpcallHandler>>>,
    /// The main table first.
    pub tables: RwLock<Vec<Arc<FlowTable>>>,
    pub flow_limit: AtomicUsize,
    /// Megaflows in all tables.
    pub flow_count: Arc<AtomicUsize>,
    pub vlan_limit: AtomicU8,
    pub tuning: Tuning,
    /// Dummy ports, which answer ARP out of their transmit queues and then want to be asked for it.
    pub dummies: RwLock<Vec<Arc<dyn Netdev>>>,
    pub tracking: Arc<Tracking>,
    pub spares: Arc<Spares>,
}

/// Megaflows that a datapath holds unless told otherwise (`other_config:flow-limit`).
const FLOW_LIMIT: usize = 200_000;

impl Shared {
    pub fn new(clock: Clock) -> Arc<Self> {
        crate::watch::begin();
        let domain = Domain::new();
        let flow_count = Arc::default();
        let main = FlowTable::new(&domain, None, &flow_count);
        let tracking = Tracking::new();
        let meters = Meters::new(&domain);
        let worker = Worker::new(Sink::Caller(Line::new()), None, &tracking, &meters);
        let control = Control { reader: domain.reader(), worker, main: Arc::clone(&main) };
        Arc::new(Shared {
            clock,
            queues: Arc::new(UpcallQueues::new()),
            control: Mutex::new(control),
            handler: RwLock::new(None),
            tables: RwLock::new(vec![main]),
            flow_limit: AtomicUsize::new(FLOW_LIMIT),
            flow_count,
            vlan_limit: AtomicU8::new(flow::VLANS_MAX as u8),
            tuning: Tuning::new(),
            dummies: RwLock::default(),
            tracking,
            spares: Arc::default(),
            meters,
            domain,
        })
    }

    /// The table of `pmd`, if there is such a thread.
    pub fn table(&self, pmd: Option<u32>) -> Option<Arc<FlowTable>> {
        self.tables.read().iter().find(|t| t.pmd == pmd).cloned()
    }

    /// Runs `f` in the control context; returns the packets that then wait for [`Shared::settle`].
    fn in_control(&self, f: impl FnOnce(View<'_>, &mut Worker)) -> Line {
        let mut control = self.control.lock();
        let Control { reader, worker, main } = &mut *control;
        worker.now_ms = self.clock.now_ms();
        worker.vlan_limit = self.vlan_limit.load(Ordering::Relaxed);
        worker.keep(self.tuning.remember(true), self.tuning.epoch());
        {
            let guard: Guard<'_> = reader.pin();
            f(View { guard: &guard, table: main }, worker);
            worker.flush();
        }
        reader.offline();
        match &mut worker.sink {
            Sink::Caller(waiting) => std::mem::take(waiting),
            Sink::Queue(_) => Line::new(),
        }
    }

    /// Processes packets that came in at `in_port`, upcalls included, before it returns.
    pub fn inject(&self, in_port: u32, packets: impl IntoIterator<Item = Packet>) {
        let mut packets = packets.into_iter().peekable();
        while packets.peek().is_some() {
            let meta = PacketMeta::of_port(in_port);
            let batch = packets.by_ref().take(packet::BATCH_LEN);
            let mut items: Items = batch.map(|packet| Item { packet, meta: meta.clone() }).collect();
            let waiting = self.in_control(|view, worker| {
                worker.receive(in_port, &mut items);
                worker.process(view, &mut items, 0);
            });
            self.settle(waiting);
        }
        self.hear_dummies();
    }

    /// Runs `actions` on a packet that has `key`.
    pub fn execute(&self, mut packet: Packet, key: &Flow, actions: &[Action]) {
        let meta = PacketMeta::of_key(key);
        // Sets the header offsets.
        packet::parse::flow_of(&mut packet, &meta.for_parser(self.vlan_limit.load(Ordering::Relaxed)));
        let item = Item { packet, meta };
        let waiting = self.in_control(|view, worker| {
            worker.counters(item.meta.in_port).reinjected.add(1);
            worker.execute(view, actions, &mut Items::from_iter([item]), 0);
        });
        self.settle(waiting);
        self.hear_dummies();
    }

    /// Answers packets that wait, and those that the answers bring up, in the order in which one thread
    /// that did everything at once would.
    pub fn settle(&self, mut line: Line) {
        while let Some(pending) = line.pop_front() {
            for next in self.answer(pending).into_iter().rev() {
                line.push_front(next);
            }
        }
    }

    fn hear_dummies(&self) {
        let dummies = self.dummies.read().clone();
        for dummy in dummies.iter().filter_map(|d| d.as_dummy()) {
            dummy.deliver();
        }
    }

    /// Asks the switch about one packet and does as it says. No lock is held while it is asked.
    fn answer(&self, mut pending: Box<Pending>) -> Line {
        let table = self.table(pending.pmd);
        if let (PendingKind::Miss, Some(table)) = (&pending.kind, &table) {
            match self.catch_up(table, pending) {
                Ok(waiting) => return waiting,
                Err(still_missing) => pending = still_missing,
            }
        }
        let Pending { kind, mut item, key, depth, pmd } = *pending;
        let Some(handler) = self.handler.read().clone() else {
            return self.in_control(|_, worker| {
                worker.counters(item.meta.in_port).reinjected.add(1);
                worker.counters(item.meta.in_port).lose(DropCause::UpcallError, 1);
            });
        };
        let ufid = ufid_of(&key);
        let is_miss = matches!(kind, PendingKind::Miss);
        let kind = match kind {
            PendingKind::Miss => UpcallKind::Miss,
            PendingKind::Action(userdata) => UpcallKind::Action(userdata),
        };
        let reply = handler.upcall(Upcall { kind, packet: &mut item.packet, key: &key, ufid, pmd });
        if let (Some(new), Some(table)) = (reply.flow, &table) {
            let (mask, stats) = (exact_in_port(new.mask), FlowStats::default());
            let new = NewMegaflow { ufid, key: &key, mask: &mask, actions: new.actions, stats };
            let create =
                |table: &FlowTable, new: &NewMegaflow<'_>| table.put(PutMode::Create, new).map(|_| ());
            handler.installed(ufid, pmd, self.install(table, &new, create));
        }
        if !is_miss && reply.actions.is_empty() {
            return Line::new();
        }
        self.in_control(|view, worker| worker.resume(view, item, &reply.actions, depth))
    }

    /// Puts in a megaflow by `create`, if there may be one more.
    pub fn install(
        &self,
        table: &FlowTable,
        new: &NewMegaflow<'_>,
        create: impl FnOnce(&FlowTable, &NewMegaflow<'_>) -> Result<(), DpifError>,
    ) -> Result<(), DpifError> {
        // Its place is kept meanwhile, or two threads would take the last one.
        let others = self.flow_count.fetch_add(1, Ordering::Relaxed);
        let is_room = others < self.flow_limit.load(Ordering::Relaxed);
        let result = if is_room { create(table, new) } else { Err(DpifError::Full) };
        self.flow_count.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Another packet may have brought the megaflow meanwhile. Gives the packet back if not.
    fn catch_up(&self, table: &FlowTable, pending: Box<Pending>) -> Result<Line, Box<Pending>> {
        let mut unanswered = Some(pending);
        let waiting = self.in_control(|view, worker| {
            let Some(pending) = unanswered.take() else { return };
            let Some(flow) = table.lookup(view.guard, &pending.key).0 else {
                unanswered = Some(pending);
                return;
            };
            let Pending { item, key, depth, .. } = *pending;
            flow.stats.add(1, item.packet.len() as u64, key.tcp_flags, worker.now_ms);
            worker.resume(view, item, &flow.actions, depth);
        });
        match unanswered {
            Some(pending) => Err(pending),
            None => Ok(waiting),
        }
    }
}

/// Megaflows are sorted by the port they are for, so that every mask has it.
pub(crate) fn exact_in_port(mut mask: Mask) -> Mask {
    mask.in_port = u32::MAX;
    mask
}
