//! Bursts against the same packets one by one, through whole keys.

use crate::ct::Tracking;
use crate::drops::{DropCause, PortTotals};
use crate::flow_table::{FlowTable, NewMegaflow};
use crate::item::{Item, Items, PacketMeta};
use crate::lane::Way;
use crate::lane::tests::frame;
use crate::meter::Meters;
use crate::port::LocalPort;
use crate::tunnel::outers::{AGES, OUTERS_MAX, first_place};
use crate::upcall::{Line, UpcallQueues};
use crate::worker::{Sink, View, Worker};
use dpif::{Action, Actions, FlowStats, PortNo, PutMode, TunnelPush, Ufid};
use flow::{Flow, Mask};
use netdev::{DummyLevel, Env, Packets, TxOutcome, TxQueue};
use packet::tunnel::{Outer, PushContext, TunnelKind, push};
use packet::{BATCH_LEN, Batch, Packet};
use parking_lot::Mutex;
use proptest::prelude::*;
use quiescent::Domain;
use std::collections::BTreeMap;
use std::sync::Arc;

const IN: u32 = 1;
const OUT: u32 = 2;
const GENEVE: u32 = 5;
const VXLAN: u32 = 6;
/// There is none.
const NOWHERE: u32 = 7;
const HERE: u32 = 0x0101_0101;

type Sent = Arc<Mutex<Vec<Vec<u8>>>>;
struct Out(Sent);

impl TxQueue for Out {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let sent = batch.len() as u32;
        self.0.lock().extend(batch.drain(..).map(|p| p.data().to_vec()));
        TxOutcome { sent, ..TxOutcome::default() }
    }
}

/// An outer header without lengths, to `HERE`.
fn header(kind: TunnelKind, has_sum: bool, vni: u8, options: &[u8], is_v6: bool) -> Vec<u8> {
    let mut h = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    if is_v6 {
        h.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
        h.extend(0..32);
    } else {
        h.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 1, 1, 1, 2]);
        h.extend(HERE.to_be_bytes());
        let sum = packet::checksum::checksum(&h[14..34]);
        h[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let port: u16 = if kind == TunnelKind::Vxlan { 4789 } else { 6081 };
    h.extend([0, 0]);
    h.extend(port.to_be_bytes());
    h.extend([0, 0, 0, u8::from(has_sum)]);
    match kind {
        TunnelKind::Vxlan => h.extend([8, 0, 0, 0, 0, 0, vni, 0]),
        _ => h.extend([(options.len() / 4) as u8, 0, 0x65, 0x58, 0, 0, vni, 0]),
    }
    h.extend(options);
    h
}

fn push_action(port: u32, header: Vec<u8>) -> Action {
    Action::TunnelPush(Box::new(TunnelPush {
        tunnel_port: PortNo(port),
        out_port: PortNo(OUT),
        vport_type: 0,
        header: header.into(),
    }))
}

/// What is done with packets of a key, of which only what [`mask_for`] looks at matters.
fn actions_for(key: &Flow, change: u8) -> Actions {
    let out = |n: u32| Action::Output(PortNo(n));
    if key.in_port == IN && key.nw_dst == HERE {
        return vec![Action::TunnelPop(PortNo(match key.tp_dst {
            6081 => GENEVE,
            4789 => VXLAN,
            _ => NOWHERE,
        }))];
    }
    let geneve =
        |sum, options: &[u8]| push_action(GENEVE, header(TunnelKind::Geneve, sum, 7, options, false));
    let what = (key.nw_dst as u8).wrapping_add(change) % if key.in_port == IN { 10 } else { 6 };
    match (key.in_port == IN, what) {
        (true, 0) => vec![geneve(false, &[]), out(OUT)],
        (true, 1) => vec![geneve(true, &[1, 2, 0x80, 1, 0, 0, 0, 9]), out(OUT + 1)],
        (true, 2) => vec![geneve(true, &[1; 40]), out(OUT)],
        (true, 3) => vec![push_action(VXLAN, header(TunnelKind::Vxlan, false, 9, &[], false)), out(OUT)],
        (true, 4) => vec![push_action(GENEVE, header(TunnelKind::Geneve, true, 7, &[], true)), out(OUT)],
        (true, 5) => vec![push_action(NOWHERE, header(TunnelKind::Geneve, true, 7, &[], false)), out(OUT)],
        (true, 6) => vec![geneve(false, &[]), out(NOWHERE)],
        (true, 7) => vec![Action::Trunc(60), geneve(false, &[]), out(OUT)],
        (false, 0 | 1) => vec![out(OUT + u32::from(what) + key.tunnel.id as u32 % 2)],
        (false, 2) => vec![out(OUT), out(OUT + 1)],
        (false, 3) => vec![geneve(true, &[]), out(OUT)],
        (false, 4) => vec![out(NOWHERE)],
        (false, _) => vec![],
        _ => vec![out(OUT + 1)],
    }
}

/// Megaflows do not overlap, as what more is looked at depends on what all look at.
fn mask_for(key: &Flow) -> Mask {
    let mut m = Mask::NONE;
    (m.in_port, m.recirc_id, m.dl_type, m.nw_dst) = (u32::MAX, u32::MAX, 0xffff, u32::MAX);
    (m.nw_frag, m.0.vlans[0].tci) = (0xff, 0xffff);
    if key.in_port == IN {
        m.tp_dst = if key.nw_dst == HERE { 0xffff } else { 0 };
        return m;
    }
    m.tunnel.id = u64::MAX;
    match key.nw_dst % 4 {
        0 => m.tunnel.tp_src = 0xffff,
        1 => m.tunnel.metadata[7] = 0xff,
        2 => (m.nw_ttl, m.tunnel.flags) = (0xff, 0xffff),
        _ => (),
    }
    m
}

struct Rig {
    domain: Arc<Domain>,
    table: Arc<FlowTable>,
    worker: Worker,
    sent: BTreeMap<u32, Sent>,
}

impl Rig {
    fn new() -> Self {
        let domain = Domain::new();
        let table = FlowTable::new(&domain, Some(1), &Arc::default());
        let (tracking, meters) = (Tracking::new(), Meters::new(&domain));
        let mut worker = Worker::new(Sink::Caller(Line::new()), Some(1), &tracking, &meters);
        let (queues, env) = (UpcallQueues::new(), Env::new(DummyLevel::Off).unwrap());
        let mut sent = BTreeMap::new();
        for port in IN..NOWHERE {
            let wire: Sent = Arc::default();
            sent.insert(port, Arc::clone(&wire));
            let tunnel = match port {
                GENEVE => Some(env.open("geneve", "tun").unwrap()),
                VXLAN => Some(env.open("vxlan", "tun2").unwrap()),
                _ => None,
            };
            let local = LocalPort {
                queue: 0,
                tx: Box::new(Out(wire)),
                offloads: Default::default(),
                pending: Batch::new(),
                tunnel,
                counters: Arc::default(),
                upcalls: queues.port(),
            };
            worker.ports.insert(port, Box::new(local));
        }
        Rig { domain, table, worker, sent }
    }

    /// Sends packets through; returns the keys that the switch was asked about.
    fn receive(&mut self, frames: &[Vec<u8>], as_burst: bool) -> Vec<Flow> {
        let mut reader = self.domain.reader();
        let guard = reader.pin();
        let view = View { guard: &guard, table: &self.table };
        let packets = frames.iter().map(|f| Packet::from_slice(f));
        if as_burst {
            self.worker.receive_burst(view, IN, &mut Packets(packets.collect()));
        } else {
            let mut items: Items =
                packets.map(|packet| Item { packet, meta: PacketMeta::of_port(IN) }).collect();
            self.worker.receive(IN, &mut items);
            self.worker.process(view, &mut items, 0);
        }
        self.worker.flush();
        let Sink::Caller(waiting) = &mut self.worker.sink else { unreachable!() };
        waiting.drain(..).map(|p| Flow::clone(&p.key)).collect()
    }

    fn put(&self, key: &Flow, change: u8) {
        let (mask, actions) = (mask_for(key), Arc::new(actions_for(key, change)));
        let key = mask.apply(key);
        let mix = |hash: u128, word: &u64| {
            (hash ^ u128::from(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        };
        let ufid = Ufid(key.words().iter().fold(0, mix));
        let new =
            NewMegaflow { ufid, key: &Arc::new(key), mask: &mask, actions, stats: FlowStats::default() };
        let _ = self.table.put(PutMode::CreateOrModify, &new);
    }

    /// All that was counted of each port.
    fn counts(&self) -> Vec<(PortTotals, Vec<u64>)> {
        let of = |port| {
            let (mut totals, c) = (PortTotals::default(), self.worker.counters(port));
            totals.add(c);
            (totals, DropCause::ALL.iter().map(|cause| c.dropped(*cause)).collect())
        };
        (IN..=NOWHERE).map(of).collect()
    }

    fn flows(&self) -> BTreeMap<u128, (u64, u64, u16)> {
        let of = |f: &dpif::DpFlow| (f.ufid.0, (f.stats.packets, f.stats.bytes, f.stats.tcp_flags));
        self.table.dump().iter().map(of).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Burst(Vec<Vec<u8>>),
    /// All megaflows get other actions.
    Change(u8),
    Forget,
}

/// A frame, which may have an outer header and a wrong byte.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![3 => Just(TunnelKind::Geneve), 1 => Just(TunnelKind::Vxlan)];
    let options = prop_oneof![2 => Just(0usize), 3 => Just(2), 1 => Just(10)];
    let outer = (kind, any::<bool>(), 1u8..3, options, 0u16..3, 0u8..3);
    let damage = prop_oneof![12 => Just(None), 1 => (any::<usize>(), any::<u8>()).prop_map(Some)];
    (frame(), proptest::option::weighted(0.7, outer), damage).prop_map(|(inner, outer, damage)| {
        let mut frame = inner;
        if let Some((kind, has_sum, vni, options, source_port, last)) = outer {
            let mut options = vec![0; options * 4];
            options.last_mut().into_iter().for_each(|b| *b = last);
            let header = header(kind, has_sum, vni, &options, false);
            let mut p = Packet::from_slice(&frame);
            assert!(push(&mut p, &header, kind, &PushContext { source_port, ..PushContext::default() }));
            frame = p.data().to_vec();
        }
        if let Some((at, value)) = damage {
            let at = at % frame.len();
            frame[at] = value;
        }
        frame
    })
}

fn step() -> impl Strategy<Value = Step> {
    let few = proptest::collection::vec(any_frame(), 1..5);
    let burst = (few, proptest::collection::vec(any::<u8>(), 1..=BATCH_LEN));
    prop_oneof![
        8 => burst.prop_map(|(few, all)| {
            Step::Burst(all.iter().map(|n| few[usize::from(*n) % few.len()].clone()).collect())
        }),
        4 => proptest::collection::vec(any_frame(), 1..=BATCH_LEN).prop_map(Step::Burst),
        1 => any::<u8>().prop_map(Step::Change),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn bursts_do_what_packets_do(steps in proptest::collection::vec(step(), 1..25)) {
        let (mut fast, mut slow) = (Rig::new(), Rig::new());
        let (mut keys, mut change) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Burst(frames) => {
                    let (asked, same) = (fast.receive(&frames, true), slow.receive(&frames, false));
                    prop_assert_eq!(asked.len(), same.len());
                    for key in asked.into_iter().chain(same) {
                        [&fast, &slow].iter().for_each(|rig| rig.put(&key, change));
                        keys.push(key);
                    }
                }
                Step::Change(n) => {
                    change = n;
                    keys.iter().for_each(|key| [&fast, &slow].iter().for_each(|rig| rig.put(key, n)));
                }
                Step::Forget => [&fast, &slow].iter().for_each(|rig| rig.table.flush()),
            }
            for (port, wire) in &fast.sent {
                let take = |wire: &Sent| {
                    let mut all = std::mem::take(&mut *wire.lock());
                    all.sort_unstable();
                    all
                };
                prop_assert_eq!(take(wire), take(&slow.sent[port]), "port {}", port);
            }
            prop_assert_eq!(fast.counts(), slow.counts());
            prop_assert_eq!(fast.flows(), slow.flows());
            let looks = |rig: &Rig| rig.worker.stats.cache_hits.get() + rig.worker.stats.table_hits.get();
            prop_assert_eq!(looks(&fast), looks(&slow));
            let rounds = |rig: &Rig| rig.worker.stats.recirculated.get();
            prop_assert_eq!(rounds(&fast), rounds(&slow));
        }
    }
}

/// A frame that comes out of a tunnel, with this option in its outer header.
fn outer(vni: u8, option: u32) -> Vec<u8> {
    let mut inner = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    inner.extend([10, 0, 0, 1, 10, 0, 0, 7, 0, 1, 0, 2, 0, 26, 0, 0]);
    inner.resize(60, 0);
    let options = [&[1, 2, 0x80, 1][..], &option.to_be_bytes()].concat();
    let header = header(TunnelKind::Geneve, true, vni, &options, false);
    let mut p = Packet::from_slice(&inner);
    assert!(push(&mut p, &header, TunnelKind::Geneve, &PushContext::default()));
    p.data().to_vec()
}

/// Whether a thread would send this packet out of the tunnel without a key.
fn is_known(rig: &mut Rig, frame: &[u8]) -> bool {
    let Some(outers) = &mut rig.worker.outers else { return false };
    let Some((number, len)) = outers.find(GENEVE, TunnelKind::Geneve, frame, false) else { return false };
    outers.lane.look(number, &[&frame[usize::from(len)..]], rig.table.deaths());
    matches!(outers.lane.only_way(), Some(Way::Out(_)))
}

fn send(rig: &mut Rig, frames: &[Vec<u8>]) {
    for key in rig.receive(frames, true) {
        rig.put(&key, 0);
    }
}

#[test]
fn more_outer_headers_than_places() {
    let mut rig = Rig::new();
    let all: Vec<_> = (0..2 * OUTERS_MAX as u32).map(|n| outer(1, n)).collect();
    for _ in 0..3 {
        all.chunks(BATCH_LEN).for_each(|frames| send(&mut rig, frames));
    }
    let known = all.iter().filter(|frame| is_known(&mut rig, frame)).count();
    assert!((OUTERS_MAX * 3 / 4..=OUTERS_MAX).contains(&known), "{known}");
    let sent: usize = rig.sent.values().map(|wire| wire.lock().len()).sum();
    assert_eq!(sent, 3 * all.len() - 2 * BATCH_LEN, "but for those that made megaflows");
}

#[test]
fn when_numbers_come_again_everything_is_forgotten() {
    let mut rig = Rig::new();
    // Headers that take each other's places.
    let hash = |n| Outer::hash(&outer(1, n), TunnelKind::Geneve).unwrap();
    let place = |n| (first_place(hash(n)), hash(n) & 1);
    let rivals: Vec<u32> = (0..).filter(|n| place(*n) == place(0)).take(3).collect();
    let other = outer(2, 7);
    (0..3).for_each(|_| send(&mut rig, &[outer(1, 0), other.clone()]));
    assert!(is_known(&mut rig, &other));
    let mut numbers = std::collections::BTreeSet::new();
    for n in rivals.iter().cycle() {
        send(&mut rig, &[outer(1, *n)]);
        let found =
            rig.worker.outers.as_mut().unwrap().find(GENEVE, TunnelKind::Geneve, &outer(1, *n), false);
        // Two of them may have the set to themselves for a while.
        if !numbers.insert(found.unwrap().0) && !is_known(&mut rig, &other) {
            break;
        }
        assert!(is_known(&mut rig, &outer(1, *n)) && numbers.len() <= AGES as usize);
    }
    assert!(numbers.len() > AGES as usize / 2);
}

#[test]
fn packets_of_known_tunnels_take_the_short_way_until_their_megaflow_is_gone() {
    let mut rig = Rig::new();
    let frames = [outer(1, 7), outer(2, 7)];
    assert!(!is_known(&mut rig, &frames[0]));
    (0..3).for_each(|_| send(&mut rig, &frames));
    assert!(frames.iter().all(|frame| is_known(&mut rig, frame)));
    assert!(!is_known(&mut rig, &outer(1, 8)), "another option");
    let mut damaged = frames[0].clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(!is_known(&mut rig, &damaged), "a wrong sum");
    rig.table.flush();
    assert!(!is_known(&mut rig, &frames[0]));
}
