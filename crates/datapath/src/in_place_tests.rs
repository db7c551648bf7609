//! Bursts of tracked packets against the same packets one by one, which never take the short way.

use super::*;
use crate::ct::Tracking;
use crate::express::tests::Buffers;
use crate::flow_table::{FlowTable, NewMegaflow};
use crate::item::{Item, PacketMeta};
use crate::meter::Meters;
use crate::port::LocalPort;
use crate::upcall::{Line, UpcallQueues};
use crate::worker::Sink;
use conntrack::Conntrack;
use dpif::{Actions, FlowStats, PutMode, Ufid};
use flow::{Flow, Mask, ct_state as cs};
use netdev::burst::send_as_batch;
use netdev::{Packets, TxOutcome, TxQueue};
use packet::header::Masked;
use packet::{Batch, Packet, checksum};
use parking_lot::Mutex;
use proptest::prelude::*;
use quiescent::Domain;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const IN: u32 = 1;
const LAST_PORT: u32 = 7;
const CLIENT: u32 = 0x0a00_0001;
const SERVER: u32 = 0x0a00_0002;
/// Type of service of packets that are tracked blindly, and of those that nobody tracks.
const BLIND: u8 = 4;
const PLAIN: u8 = 8;

type Sent = Arc<Mutex<Vec<Vec<u8>>>>;
/// What was sent, and how many of it straight from a guest's burst.
struct Out(Sent, Arc<AtomicUsize>);

impl TxQueue for Out {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let sent = batch.len() as u32;
        self.0.lock().extend(batch.drain(..).map(|p| p.data().to_vec()));
        TxOutcome { sent, ..TxOutcome::default() }
    }

    fn send_burst(&mut self, burst: &mut dyn Burst, bits: u32) -> TxOutcome {
        if let Some(buffers) = burst.as_any().downcast_mut::<Buffers>() {
            self.0.lock().extend(places(bits).filter_map(|place| buffers.places[place].take()));
            self.1.fetch_add(bits.count_ones() as usize, Relaxed);
            return TxOutcome { sent: bits.count_ones(), ..TxOutcome::default() };
        }
        send_as_batch(self, burst, bits)
    }
}

fn ct(zone: u16, commit: bool, mark: Option<u32>) -> Action {
    let mark = mark.map(|key| Masked { key, mask: 0xf });
    Action::Ct(Box::new(Ct { zone, commit, mark, ..Ct::default() }))
}

/// Number of going round, TOS, `ct_state` with `TRK`, mark; what is done. Each matches exactly what it names.
type Rule = (u32, u8, u32, u32, Vec<Action>);

/// One or two zones, each of which lets in what is new.
fn rules(zones: u32) -> Vec<Rule> {
    let out = |port| Action::Output(PortNo(port));
    let mut all: Vec<Rule> = vec![
        (0, 0, 0, 0, vec![ct(1, false, None), Action::Recirc(1)]),
        (0, BLIND, 0, 0, vec![ct(1, true, Some(2)), out(5)]),
        (0, PLAIN, 0, 0, vec![out(6)]),
    ];
    for mark in 0..4 {
        for at in 1..=zones {
            let on = |port| match at == zones {
                true => vec![out(port)],
                false => vec![ct(at as u16 + 1, false, None), Action::Recirc(at + 1)],
            };
            all.push((at, 0, cs::EST, mark, on(2)));
            all.push((at, 0, cs::EST | cs::RPL, mark, on(3)));
            let new = match at == zones {
                true => (1..=zones).rev().map(|z| ct(z as u16, true, Some(1))).chain([out(4)]).collect(),
                false => on(4),
            };
            all.push((at, 0, cs::NEW, mark, new));
            all.push((at, 0, cs::INV, mark, vec![]));
        }
    }
    all
}

struct Rig {
    domain: Arc<Domain>,
    table: Arc<FlowTable>,
    worker: Worker,
    sent: BTreeMap<u32, Sent>,
    lent: Arc<AtomicUsize>,
}

impl Rig {
    fn new(zones: u32) -> Self {
        let domain = Domain::new();
        let table = FlowTable::new(&domain, Some(1), &Arc::default());
        let (tracking, meters) = (Tracking::new(), Meters::new(&domain));
        let mut worker = Worker::new(Sink::Caller(Line::new()), Some(1), &tracking, &meters);
        worker.now_ms = 1_000;
        let queues = UpcallQueues::new();
        let (mut sent, lent) = (BTreeMap::new(), Arc::<AtomicUsize>::default());
        for port in IN..LAST_PORT {
            let wire: Sent = Arc::default();
            sent.insert(port, Arc::clone(&wire));
            let local = LocalPort {
                queue: 0,
                tx: Box::new(Out(wire, Arc::clone(&lent))),
                offloads: Default::default(),
                pending: Batch::new(),
                tunnel: None,
                counters: Arc::default(),
                upcalls: queues.port(),
            };
            worker.ports.insert(port, Box::new(local));
        }
        for (n, (recirc_id, tos, state, mark, actions)) in rules(zones).into_iter().enumerate() {
            let actions: Actions = actions.into_iter().collect();
            let mut key = Flow { in_port: IN, dl_type: 0x0800, nw_tos: tos, recirc_id, ..Flow::ZERO };
            let mut mask = Mask::NONE;
            (mask.in_port, mask.dl_type, mask.nw_tos, mask.recirc_id) = (u32::MAX, 0xffff, 0xff, u32::MAX);
            if recirc_id > 0 {
                (key.ct_state, key.ct_mark) = (state | cs::TRK, mark);
                (mask.ct_state, mask.ct_mark) = (u32::MAX, u32::MAX);
            }
            let (stats, ufid) = (FlowStats::default(), Ufid(n as u128 + 1));
            let new = NewMegaflow {
                ufid,
                key: &Arc::new(key.clone()),
                mask: &mask,
                actions: Arc::new(actions),
                stats,
            };
            table.put(PutMode::Create, &new).unwrap();
        }
        Rig { domain, table, worker, sent, lent }
    }

    fn run(&mut self, f: impl FnOnce(&mut Worker, View<'_>)) {
        let mut reader = self.domain.reader();
        let guard = reader.pin();
        f(&mut self.worker, View { guard: &guard, table: &self.table });
        self.worker.flush();
        let Sink::Caller(waiting) = &mut self.worker.sink else { unreachable!() };
        assert!(waiting.is_empty(), "all is known");
    }

    fn burst(&mut self, frames: &[Vec<u8>]) {
        let mut burst = Packets(frames.iter().map(|f| Packet::from_slice(f)).collect());
        self.run(|worker, view| worker.receive_burst(view, IN, &mut burst));
    }

    /// A burst of which only the heads are there.
    fn lend(&mut self, frames: &[Vec<u8>]) {
        let mut burst = Buffers::of(frames, false);
        self.run(|worker, view| worker.receive_burst(view, IN, &mut burst));
        assert!(burst.places.iter().all(Option::is_none), "something was left behind");
    }

    fn one_by_one(&mut self, frames: &[Vec<u8>]) {
        for f in frames {
            let item = Item { packet: Packet::from_slice(f), meta: PacketMeta::of_port(IN) };
            self.run(|worker, view| {
                let mut items = Items::from_iter([item]);
                worker.receive(IN, &mut items);
                worker.process(view, &mut items, 0);
            });
        }
    }

    fn conntrack(&self) -> &Conntrack {
        &self.worker.tracking.conntrack
    }

    /// What went out since, by port and by the connection's frames in their order.
    fn take_sent(&self) -> BTreeMap<(u32, Vec<u8>), Vec<Vec<u8>>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (port, wire) in &self.sent {
            for f in std::mem::take(&mut *wire.lock()) {
                all.entry((*port, f[15..16].iter().chain(&f[23..38]).copied().collect()))
                    .or_default()
                    .push(f);
            }
        }
        all
    }

    fn state(&self) -> Vec<String> {
        let entries = self.conntrack().dump_all(None, 1_000);
        let mut all: Vec<String> = entries.iter().map(|e| format!("{e:?}")).collect();
        all.sort();
        let flows = self.table.dump().into_iter();
        let flows: BTreeMap<u128, _> =
            flows.map(|f| (f.ufid.0, (f.stats.packets, f.stats.bytes, f.stats.tcp_flags))).collect();
        all.push(format!("{flows:?}"));
        let (c, s) = (self.worker.counters(IN), &self.worker.stats);
        let dropped = c.dropped(crate::drops::DropCause::OfPipeline);
        let counts =
            [c.received.get(), c.received_bytes.get(), c.output.get(), dropped, s.recirculated.get()];
        all.push(format!("{counts:?}"));
        all
    }
}

#[derive(Clone, Debug)]
enum Event {
    Burst(Vec<Vec<u8>>),
    Flush(u16),
    Later(u64),
    /// Megaflows are made anew.
    Renew,
}

/// A TCP segment: flags, number, whether it has options, or UDP; of the payload's length, and which byte of the whole is
/// spoilt.
fn frame(
    client: u8,
    is_reply: bool,
    tcp: Option<(u16, u32, bool)>,
    tos: u8,
    payload: usize,
    spoil: Option<usize>,
) -> Vec<u8> {
    let (c, s) = ((CLIENT, 1000 + u16::from(client)), (SERVER, 80));
    let ((src, sport), (dst, dport)) = if is_reply { (s, c) } else { (c, s) };
    let header = tcp.map_or(8, |(_, _, has_options)| if has_options { 44 } else { 20 });
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, tos];
    f.extend(((20 + header + payload) as u16).to_be_bytes());
    f.extend([0, 0, 0, 0, 64, if tcp.is_some() { 6 } else { 17 }, 0, 0]);
    f.extend([src.to_be_bytes(), dst.to_be_bytes()].concat());
    f.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
    match tcp {
        Some((flags, seq, _)) => {
            f.extend([seq.to_be_bytes(), 1001u32.to_be_bytes()].concat());
            let control = ((header as u16) << 10) | flags;
            f.extend([control.to_be_bytes(), 4096u16.to_be_bytes(), [0; 2], [0; 2]].concat());
            // A window scale behind much that is nothing.
            f.resize(34 + header, 1);
            if header > 20 {
                f[34 + 41..34 + 44].copy_from_slice(&[3, 3, 7]);
            }
        }
        None => f.extend([(8 + payload as u16).to_be_bytes(), [0; 2]].concat()),
    }
    f.extend((0..payload).map(|at| at as u8));
    let (proto, at) = if tcp.is_some() { (6, 50) } else { (17, 40) };
    // Some do without.
    if tcp.is_some() || payload > 0 {
        let sum = checksum::pseudo_v4(src, dst, proto, (header + payload) as u32) + checksum::sum(&f[34..]);
        f[at..at + 2].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }
    let sum = checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    if let Some(at) = spoil {
        let at = at.min(f.len() - 1);
        f[at] ^= 1;
    }
    f.resize(f.len().max(60), 0);
    f
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop::sample::select(vec![0x10u16, 0x10, 0x10, 0x18, 2, 0x12, 0x11, 4]);
    let segment = (flags, 1000u32..1003, prop::bool::weighted(0.3));
    let tcp = prop_oneof![2 => Just(None), 5 => segment.prop_map(Some)];
    let tos = prop_oneof![8 => Just(0), 2 => Just(BLIND), 1 => Just(PLAIN)];
    let spoil = prop_oneof![30 => Just(None), 1 => Just(Some(24)), 1 => Just(Some(usize::MAX))];
    let payload = prop_oneof![2 => Just(0), 1 => 1..4_usize, 1 => Just(100)];
    (0..3u8, any::<bool>(), tcp, tos, payload, spoil)
        .prop_map(|(c, r, tcp, tos, payload, spoil)| frame(c, r, tcp, tos, payload, spoil))
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => prop::collection::vec(any_frame(), 1..=BATCH_LEN).prop_map(Event::Burst),
        1 => (1..3u16).prop_map(Event::Flush),
        1 => prop_oneof![Just(1u64), Just(31_000), Just(61_000)].prop_map(Event::Later),
        1 => Just(Event::Renew),
    ]
}

/// Cuts bursts so that packets of one connection are in one burst only if they are tracked blindly: all others of a
/// burst see their connections' states before any of them changes one, which is not so if they come one by one.
fn cut(frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let connection = |f: &Vec<u8>| {
        let [a, b] = [34, 36].map(|at| u16::from_be_bytes([f[at], f[at + 1]]));
        (f[23], a.max(b))
    };
    let mut all: Vec<Vec<Vec<u8>>> = vec![vec![]];
    for f in frames {
        let is_apart = |g: &Vec<u8>| connection(g) != connection(f) || (g[15], f[15]) == (BLIND, BLIND);
        if !all.last().unwrap().iter().all(is_apart) {
            all.push(vec![]);
        }
        all.last_mut().unwrap().push(f.clone());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bursts_fare_as_single_packets(events in prop::collection::vec(event(), 1..30), zones in 1..3u32) {
        let mut rigs = [Rig::new(zones), Rig::new(zones), Rig::new(zones)];
        for event in &events {
            match event {
                Event::Burst(frames) => {
                    for burst in cut(frames) {
                        rigs[0].burst(&burst);
                        rigs[1].one_by_one(&burst);
                        rigs[2].lend(&burst);
                    }
                }
                Event::Flush(zone) => rigs.iter().for_each(|r| _ = r.conntrack().flush(Some(*zone))),
                Event::Later(ms) => rigs.iter_mut().for_each(|r| r.worker.now_ms += ms),
                Event::Renew => {
                    let ufids: Vec<Ufid> = rigs[0].table.dump().iter().map(|f| f.ufid).collect();
                    for rig in &mut rigs {
                        for ufid in &ufids {
                            let f = rig.table.get(*ufid).unwrap();
                            let stats = rig.table.remove(&[*ufid]).pop().flatten().unwrap();
                            let (key, mask, actions) = (&f.key, &*f.mask, Arc::clone(&f.actions));
                            let new = NewMegaflow { ufid: *ufid, key, mask, actions, stats };
                            rig.table.put(PutMode::Create, &new).unwrap();
                        }
                    }
                }
            }
            let sent = rigs[1].take_sent();
            prop_assert_eq!(&rigs[0].take_sent(), &sent);
            prop_assert_eq!(rigs[2].take_sent(), sent);
            let state = rigs[1].state();
            prop_assert_eq!(&rigs[0].state(), &state);
            prop_assert_eq!(rigs[2].state(), state);
        }
    }
}

#[test]
fn an_established_connection_and_new_ones_stay_in_their_buffers() {
    let mut rig = Rig::new(2);
    let packet = |is_reply| frame(0, is_reply, None, 0, 0, None);
    for n in 0..20 {
        rig.burst(&[packet(n % 2 == 1)]);
    }
    let (followed, recirculated) = (rig.worker.stats.followed.get(), rig.worker.stats.recirculated.get());
    rig.take_sent();
    rig.burst(&[packet(false), packet(true), packet(false)]);
    assert_eq!(rig.worker.stats.followed.get() - followed, 3);
    assert_eq!(rig.worker.stats.recirculated.get() - recirculated, 6);
    let sent: Vec<usize> = rig.take_sent().values().map(Vec::len).collect();
    assert_eq!(sent, [2, 1]);
    let before = rig.conntrack().len();
    rig.burst(&[1, 2, 1].map(|c| frame(c, false, None, BLIND, 0, None)));
    assert_eq!(rig.conntrack().len() - before, 2);
    assert_eq!(rig.take_sent().values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}

/// Packets of which only the heads are there are sent from where they are, but for those of which more has to be read, and
/// for those behind them.
#[test]
fn tracked_packets_stay_where_they_are() {
    let mut rig = Rig::new(2);
    let udp = |is_reply, spoil| frame(0, is_reply, None, 0, 100, spoil);
    for n in 0..20 {
        rig.lend(&[udp(n % 2 == 1, None)]);
    }
    let mut lent = |frames: &[Vec<u8>]| {
        let before = rig.lent.load(Relaxed);
        rig.lend(frames);
        rig.lent.load(Relaxed) - before
    };
    assert_eq!(lent(&[udp(false, None), udp(true, None), udp(false, None)]), 3);
    assert_eq!(lent(&[udp(false, None), udp(true, Some(usize::MAX)), udp(false, None)]), 1);
    let tcp = |flags, has_options| frame(1, false, Some((flags, 1000, has_options)), BLIND, 100, None);
    assert_eq!(lent(&[tcp(2, false), tcp(0x10, true), tcp(0x10, false)]), 3);
    assert_eq!(lent(&[tcp(0x10, false), tcp(2, true), tcp(0x10, false)]), 1);
}

#[test]
fn a_connection_that_nobody_answers_stays_in_its_buffers() {
    let mut rig = Rig::new(1);
    for _ in 0..20 {
        rig.burst(&[frame(0, false, None, 0, 60, None)]);
    }
    let followed = rig.worker.stats.followed.get();
    rig.take_sent();
    let burst: Vec<Vec<u8>> = [false, false, true, false].map(|r| frame(0, r, None, 0, 60, None)).to_vec();
    // Both are committed; the answer makes the connection another one.
    rig.burst(&burst[..2]);
    assert_eq!(rig.worker.stats.followed.get() - followed, 2);
    rig.burst(&burst[2..3]);
    rig.burst(&burst[3..]);
    assert_eq!(rig.worker.stats.followed.get() - followed, 2);
    let ports: Vec<(u32, usize)> = rig.take_sent().iter().map(|((port, _), f)| (*port, f.len())).collect();
    assert_eq!(ports, [(2, 1), (3, 1), (4, 2)]);
}
