//! Bursts that go round by their hash against the same packets one by one, which never take the short way.

use super::*;
use crate::ct::Tracking;
use crate::drops::DropCause;
use crate::flow_table::{FlowTable, NewMegaflow};
use crate::item::PacketMeta;
use crate::lane::tests::frame;
use crate::meter::Meters;
use crate::port::LocalPort;
use crate::upcall::{Line, UpcallQueues};
use crate::worker::Sink;
use dpif::{DropReason, FlowStats, PortNo, PutMode, SetKey, Ufid};
use flow::{Flow, Mask};
use netdev::{Packets, TxOutcome, TxQueue};
use packet::header::{EthKey, Masked};
use packet::{Batch, Packet};
use parking_lot::Mutex;
use proptest::prelude::*;
use quiescent::Domain;
use std::collections::BTreeMap;

/// Ports that packets come in by: more than a thread remembers ways to go round.
const INS: std::ops::Range<u32> = 1..6;
const OUTS: std::ops::Range<u32> = 10..14;
const HASH_MASK: u32 = 3;

type Sent = Arc<Mutex<Vec<Vec<u8>>>>;
struct Out(Sent);

impl TxQueue for Out {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let sent = batch.len() as u32;
        self.0.lock().extend(batch.drain(..).map(|p| p.data().to_vec()));
        TxOutcome { sent, ..TxOutcome::default() }
    }
}

struct Rig {
    domain: Arc<Domain>,
    table: Arc<FlowTable>,
    worker: Worker,
    sent: BTreeMap<u32, Sent>,
    missed: Vec<(u32, Vec<u8>)>,
}

/// What becomes of packets with a hash: one of some lists of actions; none for a miss.
fn list(what: u8) -> Option<Vec<Action>> {
    let out = |n: u32| Action::Output(PortNo(OUTS.start + n));
    let dst = EthKey { dst: flow::EthAddr([2, 0, 0, 0, 0, 9]), ..EthKey::default() };
    let mask = EthKey { dst: flow::EthAddr::BROADCAST, ..EthKey::default() };
    let route = Action::Set(SetKey::Ethernet(Masked { key: dst, mask }));
    Some(match what {
        0 | 1 => vec![out(u32::from(what))],
        2 => vec![route, out(2)],
        3 => vec![out(0), out(3)],
        4 => vec![Action::Drop(DropReason::Congestion)],
        5 => vec![out(1), route, out(2)],
        6 => vec![Action::Hash { alg: HashAlg::L4, basis: 5 }, Action::Recirc(1)],
        _ => return None,
    })
}
const LISTS: u8 = 8;

impl Rig {
    fn new() -> Self {
        let domain = Domain::new();
        let table = FlowTable::new(&domain, Some(1), &Arc::default());
        let (tracking, meters) = (Tracking::new(), Meters::new(&domain));
        let worker = Worker::new(Sink::Caller(Line::new()), Some(1), &tracking, &meters);
        let mut rig = Rig { domain, table, worker, sent: BTreeMap::new(), missed: Vec::new() };
        let queues = UpcallQueues::new();
        for port in INS.chain(OUTS) {
            let wire: Sent = Arc::default();
            rig.sent.insert(port, Arc::clone(&wire));
            let local = LocalPort {
                queue: 0,
                tx: Box::new(Out(wire)),
                offloads: Default::default(),
                pending: Batch::new(),
                tunnel: None,
                counters: Arc::default(),
                upcalls: queues.port(),
            };
            rig.worker.ports.insert(port, Box::new(local));
        }
        rig
    }

    /// A megaflow of packets that come in by a port, or that go round with a hash, and do or do not look at the protocol.
    fn put(&mut self, number: u128, in_port: u32, round: Option<(u32, Option<u8>)>, actions: Vec<Action>) {
        self.table.remove(&[Ufid(number)]);
        let (mut key, mut mask) = (Flow { in_port, ..Flow::ZERO }, Mask::NONE);
        (mask.in_port, mask.recirc_id) = (u32::MAX, u32::MAX);
        if let Some((hash, proto)) = round {
            (key.recirc_id, key.dp_hash, mask.dp_hash) = (1, 0xabcd_0000 | hash, HASH_MASK);
            if let Some(proto) = proto {
                (key.dl_type, key.nw_proto, mask.dl_type, mask.nw_proto) = (0x0800, proto, 0xffff, 0xff);
            }
        }
        let (key, stats) = (Arc::new(key), FlowStats::default());
        let new =
            NewMegaflow { ufid: Ufid(number), key: &key, mask: &mask, actions: Arc::new(actions), stats };
        self.table.put(PutMode::Create, &new).unwrap();
    }

    fn run(&mut self, f: impl FnOnce(&mut Worker, View<'_>)) {
        let mut reader = self.domain.reader();
        let guard = reader.pin();
        f(&mut self.worker, View { guard: &guard, table: &self.table });
        self.worker.flush();
        let Sink::Caller(waiting) = &mut self.worker.sink else { unreachable!() };
        self.missed.extend(waiting.drain(..).map(|p| (p.key.dp_hash, p.item.packet.data().to_vec())));
    }

    /// What is to be the same, whichever way packets take.
    fn state(&mut self) -> String {
        let sent = self.sent.iter().map(|(port, wire)| {
            let mut frames = std::mem::take(&mut *wire.lock());
            frames.sort_unstable();
            (*port, frames)
        });
        let sent: Vec<_> = sent.collect();
        let flows = self.table.dump().into_iter();
        let flows: BTreeMap<u128, _> =
            flows.map(|f| (f.ufid.0, (f.stats.packets, f.stats.bytes, f.stats.tcp_flags))).collect();
        let counts = INS.map(|port| {
            let c = self.worker.counters(port);
            let lost: Vec<u64> = DropCause::ALL.iter().map(|cause| c.dropped(*cause)).collect();
            [vec![c.received.get(), c.output.get(), c.copied.get(), c.upcalled.get()], lost].concat()
        });
        let counts: Vec<_> = counts.collect();
        self.missed.sort_unstable();
        let s = &self.worker.stats;
        let rounds = (s.recirculated.get(), s.cache_hits.get() + s.table_hits.get());
        format!("{sent:?} {flows:?} {counts:?} {:?} {rounds:?}", self.missed)
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Frames, each with what its device makes of it.
    Burst(u32, Vec<(Vec<u8>, u32)>),
    /// What packets do that came in by a port with a hash, TCP apart or not.
    Put(u32, u32, bool, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let rss = prop_oneof![2 => Just(0u32), 1 => any::<u32>()];
    prop_oneof![
        3 => (INS, prop::collection::vec((frame(), rss), 1..=BATCH_LEN)).prop_map(|(p, f)| Event::Burst(p, f)),
        2 => (INS, 0..=HASH_MASK, any::<bool>(), 0..LISTS).prop_map(|(p, h, t, w)| Event::Put(p, h, t, w)),
    ]
}

fn put(rig: &mut Rig, in_port: u32, hash: u32, apart: bool, what: u8) {
    let number = u128::from(in_port * 100 + hash * 10);
    for n in 0..2 {
        rig.table.remove(&[Ufid(number + n)]);
    }
    let Some(actions) = list(what) else { return };
    if apart {
        let other = list(u8::from(what == 0)).unwrap();
        rig.put(number, in_port, Some((hash, Some(6))), actions);
        rig.put(number + 1, in_port, Some((hash, Some(17))), other);
    } else {
        rig.put(number, in_port, Some((hash, None)), actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn bursts_go_round_as_single_packets(events in prop::collection::vec(event(), 1..40)) {
        let mut rigs = [Rig::new(), Rig::new()];
        for rig in &mut rigs {
            for port in INS {
                let round = vec![Action::Hash { alg: HashAlg::L4, basis: port }, Action::Recirc(1)];
                rig.put(port.into(), port, None, round);
            }
        }
        for event in &events {
            match event {
                Event::Burst(port, frames) => {
                    let packet = |(bytes, rss): &(Vec<u8>, u32)| {
                        let mut packet = Packet::from_slice(bytes);
                        packet.rss_hash = *rss;
                        packet
                    };
                    let mut burst = Packets(frames.iter().map(packet).collect());
                    rigs[0].run(|worker, view| worker.receive_burst(view, *port, &mut burst));
                    for f in frames {
                        let item = Item { packet: packet(f), meta: PacketMeta::of_port(*port) };
                        rigs[1].run(|worker, view| {
                            let mut items = Items::from_iter([item]);
                            worker.receive(*port, &mut items);
                            worker.process(view, &mut items, 0);
                        });
                    }
                }
                Event::Put(port, hash, apart, what) => {
                    rigs.iter_mut().for_each(|rig| put(rig, *port, *hash, *apart, *what));
                }
            }
            let states = rigs.each_mut().map(Rig::state);
            prop_assert_eq!(&states[0], &states[1]);
        }
    }
}

#[test]
fn known_packets_go_round_in_their_buffers() {
    let mut rig = Rig::new();
    rig.put(1, 1, None, vec![Action::Hash { alg: HashAlg::L4, basis: 0 }, Action::Recirc(1)]);
    (0..=HASH_MASK).for_each(|hash| put(&mut rig, 1, hash, false, (hash % 2) as u8));
    let frame = |port: u8| {
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
        f.extend([10, 0, 0, 1, 10, 0, 0, 2, 4, port, 0, 53, 0, 26, 0, 0]);
        f.resize(60, 0);
        f
    };
    for round in 0..3 {
        let asked = rig.worker.stats.table_hits.get();
        let mut burst = Packets((0..32).map(|port| Packet::from_slice(&frame(port))).collect());
        rig.run(|worker, view| worker.receive_burst(view, 1, &mut burst));
        assert_eq!(rig.worker.stats.table_hits.get() == asked, round > 0, "round {round}");
    }
    let sent: Vec<usize> = OUTS.map(|port| rig.sent[&port].lock().len()).collect();
    assert_eq!((sent[0] + sent[1], sent[2] + sent[3]), (96, 0));
    assert!(sent[0] > 9 && sent[1] > 9, "{sent:?}");
}
