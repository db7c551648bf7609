//! Bursts against a list of megaflows and whole keys.

use super::*;
use crate::ct::Tracking;
use crate::drops::PortCounters;
use crate::execute::{apply_set, change_headers};
use crate::flow_table::{FlowTable, NewMegaflow};
use crate::lane::tests::{frame, mask, wide_frame};
use crate::lane::{Shape, Wide};
use crate::meter::Meters;
use crate::port::LocalPort;
use crate::upcall::{Line, UpcallQueues};
use crate::worker::Sink;
use dpif::{
    Action, Actions, DropBand, DropReason, FlowStats, MeterSpec, PortNo, PutMode, RateUnit, SetKey, Ufid,
};
use flow::{Mask, U128};
use netdev::burst::{Frames, Lengths, SMALL, head_len};
use netdev::{Packets, TxOffloads, TxOutcome, TxQueue};
use packet::header::{Ipv4Key, Ipv6Key, Masked, PortsKey};
use packet::{Batch, Checksum, Meta};
use parking_lot::Mutex;
use proptest::prelude::*;
use quiescent::Domain;
use std::any::Any;
use std::collections::BTreeMap;

const IN: u32 = 1;
/// Ports that packets go out by; the last one does not exist.
const PORTS: std::ops::Range<u32> = 2..6;
/// Port that changed packets go out by.
const CHANGED: u32 = 9;

type Sent = Arc<Mutex<Vec<Vec<u8>>>>;
struct Out(Sent);

impl TxQueue for Out {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let sent = batch.len() as u32;
        self.0.lock().extend(batch.drain(..).map(|p| p.data().to_vec()));
        TxOutcome { sent, ..TxOutcome::default() }
    }
}

/// A burst of buffers that are no packets, some of which cannot be put back.
#[derive(Default)]
pub(crate) struct Buffers {
    pub places: Vec<Option<Vec<u8>>>,
    /// Places of those; such buffers are not lent either, and one place further they have no room in front.
    pub stubborn: u32,
    /// Places of UDP packets whose checksums are not filled in.
    pub unfinished: u32,
    /// Whether packets can be sent while they stay.
    pub lends: bool,
    /// What is shown of the packets if that is not all: what is behind their heads is not theirs.
    pub copies: Option<Vec<Vec<u8>>>,
}

impl Buffers {
    /// As a guest's: whole, or as copied heads.
    pub fn of(frames: &[Vec<u8>], is_whole: bool) -> Self {
        let garbled = |f: &Vec<u8>| {
            let own = head_len(f);
            f.iter().enumerate().map(|(at, b)| if at < own { *b } else { !*b }).collect()
        };
        let copies = (!is_whole).then(|| frames.iter().map(garbled).collect());
        Buffers { places: frames.iter().cloned().map(Some).collect(), copies, ..Buffers::default() }
    }

    /// What may be changed of a packet with a head of `head` bytes.
    fn front(copies: bool, packet: &mut [u8], head: usize) -> &mut [u8] {
        let len = if copies { packet.len().min(head) } else { packet.len() };
        &mut packet[..len]
    }
}

impl Burst for Buffers {
    fn len(&self) -> usize {
        self.places.len()
    }
    fn heads<'a>(&'a mut self, heads: &mut Heads<'a>) {
        for (at, (head, place)) in heads.iter_mut().zip(&self.places).enumerate() {
            let copy = self.copies.as_ref().and_then(|copies| copies.get(at));
            *head = place.as_deref().map(|own| copy.map_or(own, Vec::as_slice)).unwrap_or_default();
        }
    }
    fn unfinished(&self) -> u32 {
        self.unfinished
    }
    fn can_copy(&self) -> bool {
        self.lends
    }
    fn copy(&mut self, place: usize) -> Option<Packet> {
        assert!(self.lends);
        let own = self.places.get(place)?.clone();
        let copy = self.take(place);
        self.places[place] = own;
        copy
    }
    fn take(&mut self, place: usize) -> Option<Packet> {
        let mut packet = Packet::from_slice(&self.places.get_mut(place)?.take()?);
        if self.unfinished & (1 << place) != 0 {
            packet.offload.checksum = Checksum::Partial { start: 34, offset: 6 };
        }
        Some(packet)
    }
    fn put(&mut self, place: usize, packet: Packet) -> Result<(), Packet> {
        if self.stubborn & (1 << place) != 0 {
            return Err(packet);
        }
        self.places[place] = Some(packet.data().to_vec());
        Ok(())
    }
    /// By all that tracking would look at.
    fn verify(&mut self, bits: u32) -> u32 {
        let is_right = |place: &usize| {
            let packet = self.places[*place].as_deref().unwrap();
            let end = 14 + usize::from(u16::from_be_bytes([packet[16], packet[17]]));
            conntrack::Glance::at(&packet[14..end], 0, true).is_some()
        };
        match self.copies {
            Some(_) => places(bits).filter(is_right).map(|place| 1 << place).sum(),
            None => 0,
        }
    }
    fn grow<'a>(&'a mut self, by: &Lengths, frames: &mut Frames<'a>) -> u32 {
        let (mut grown, heads) = (0, self.copies.is_some());
        for (place, ((packet, by), frame)) in self.places.iter_mut().zip(by).zip(frames).enumerate() {
            // Some have no room.
            if let (Some(packet), true) = (packet, *by > 0 && self.stubborn & (2 << place) == 0) {
                let head = head_len(packet) + usize::from(*by);
                packet.splice(0..0, vec![0xee; usize::from(*by)]);
                *frame = Buffers::front(heads, packet, head);
                grown |= 1 << place;
            }
        }
        grown
    }
    fn edit<'a>(&'a mut self, bits: u32, frames: &mut Frames<'a>) -> u32 {
        let (mut edited, heads) = (0, self.copies.is_some());
        for (place, (packet, frame)) in self.places.iter_mut().zip(frames).enumerate() {
            if let (Some(packet), true) =
                (packet, bits & !self.stubborn & !self.unfinished & (1 << place) != 0)
            {
                let head = head_len(packet);
                *frame = Buffers::front(heads, packet, head);
                edited |= 1 << place;
            }
        }
        edited
    }
    fn is_whole(&self) -> bool {
        self.copies.is_none()
    }
    fn can_shrink(&self, by: usize) -> bool {
        self.is_whole() || by <= SMALL
    }
    fn shrink(&mut self, by: &Lengths) {
        assert!(by.iter().all(|by| self.can_shrink((*by).into())));
        for (packet, by) in self.places.iter_mut().zip(by).filter(|(_, by)| **by > 0) {
            packet.as_mut().unwrap().drain(..usize::from(*by));
        }
    }
    fn clear(&mut self) {
        self.places.clear();
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A megaflow for a frame, with one of some lists of actions.
    Put(Vec<u8>, Box<Mask>, u8),
    Modify(usize, u8),
    Remove(usize),
    Burst(Vec<Vec<u8>>, bool, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let burst = |frame: BoxedStrategy<Vec<u8>>| proptest::collection::vec(frame, 1..=BATCH_LEN);
    let frames = prop_oneof![2 => burst(frame().boxed()), 1 => burst(wide_frame().boxed())];
    prop_oneof![
        4 => (frame(), mask(), 0u8..LISTS).prop_map(|(f, m, a)| Step::Put(f, Box::new(m), a)),
        1 => (any::<usize>(), 0u8..LISTS).prop_map(|(n, a)| Step::Modify(n, a)),
        1 => any::<usize>().prop_map(Step::Remove),
        6 => (frames, any::<bool>(), any::<u32>())
            .prop_map(|(f, b, s)| Step::Burst(f, b, if s & 1 == 0 { 0 } else { s & 0x0f0f_0f0f })),
    ]
}

/// Lists of actions.
const LISTS: u8 = 16;
/// A meter that lets everything pass, and one that lets nothing.
const OPEN: u32 = 1;
const SHUT: u32 = 2;

/// The ports that a list of actions sends to.
fn ports(what: u8) -> Vec<u32> {
    match what {
        0..=3 => vec![PORTS.start + u32::from(what)],
        4 => vec![2, 4],
        5 => vec![3],
        // (One of them does not exist.)
        11 => vec![5, 3, 5, 2],
        12 => vec![2, 4],
        13 => vec![4],
        6 | 14 => vec![],
        _ => vec![CHANGED],
    }
}

/// What is done to packets before they are sent.
fn changes(what: u8) -> Actions {
    let ip = |ttl| Ipv4Key { dst: 0x0a00_00ff, ttl, ..Ipv4Key::default() };
    let (key, mask) = (ip(9), ip(0xff));
    let six = |hlimit| Ipv6Key { src: U128 { hi: 0, lo: 0xff00 }, hlimit, ..Ipv6Key::default() };
    let route = Action::Set(SetKey::Ipv4(Masked { key, mask }));
    let ports = Masked { key: PortsKey { src: 1, dst: 7 }, mask: PortsKey { src: 0, dst: u16::MAX } };
    match what {
        // Does nothing, but is more than output.
        5 => vec![Action::CtClear],
        7 => vec![route],
        8 => vec![Action::PushVlan { tpid: 0x8100, tci: 0x1005 }],
        9 => vec![Action::PopVlan],
        15 => vec![Action::Set(SetKey::Ipv6(Masked { key: six(8), mask: six(0xff) }))],
        10 => vec![Action::Set(SetKey::Udp(ports)), route, Action::PushVlan { tpid: 0x8100, tci: 0x1005 }],
        _ => vec![],
    }
}

/// A frame as it leaves.
fn changed(frame: &[u8], what: u8) -> Vec<u8> {
    let mut item = Item { packet: Packet::from_slice(frame), meta: PacketMeta::of_port(IN) };
    packet::parse::flow_of(&mut item.packet, &Meta { in_port: IN, ..Meta::default() });
    for action in changes(what) {
        match action {
            Action::Set(set) => apply_set(&mut item, &set),
            other => change_headers(&mut item, &other),
        }
    }
    item.packet.data().to_vec()
}

fn actions(what: u8) -> Arc<Actions> {
    let mut all = changes(what);
    all.extend(ports(what).into_iter().map(|p| Action::Output(PortNo(p))));
    match what {
        12 => all.insert(1, Action::Meter(OPEN)),
        13 => all.extend([Action::Meter(SHUT), Action::Output(PortNo(2))]),
        14 => all.push(Action::Drop(DropReason::Congestion)),
        _ => {}
    }
    Arc::new(all)
}

struct Known {
    key: Flow,
    mask: Mask,
    what: u8,
    ufid: Ufid,
    expected: (u64, u64, u16),
}

struct Rig {
    domain: Arc<Domain>,
    table: Arc<FlowTable>,
    worker: Worker,
    sent: BTreeMap<u32, Sent>,
    flows: Vec<Known>,
    next: u128,
}

impl Rig {
    fn new() -> Self {
        let domain = Domain::new();
        let table = FlowTable::new(&domain, Some(1), &Arc::default());
        let (tracking, meters) = (Tracking::new(), Meters::new(&domain));
        for (id, rate, burst) in [(OPEN, u32::MAX, u32::MAX), (SHUT, 1, 0)] {
            let bands = vec![DropBand { rate, burst }];
            meters.set(id, &MeterSpec { unit: RateUnit::Packets, bands }).unwrap();
        }
        let mut worker = Worker::new(Sink::Caller(Line::new()), Some(1), &tracking, &meters);
        let queues = UpcallQueues::new();
        let mut sent = BTreeMap::new();
        for port in (IN..PORTS.end - 1).chain([CHANGED]) {
            let wire: Sent = Arc::default();
            sent.insert(port, Arc::clone(&wire));
            let local = LocalPort {
                queue: 0,
                tx: Box::new(Out(wire)),
                offloads: Default::default(),
                pending: Batch::new(),
                tunnel: None,
                counters: Arc::default(),
                upcalls: queues.port(),
            };
            worker.ports.insert(port, Box::new(local));
        }
        Rig { domain, table, worker, sent, flows: Vec::new(), next: 1 }
    }

    fn put(&mut self, mode: PutMode, key: &Flow, mask: &Mask, what: u8, ufid: Ufid) -> bool {
        let key = &std::sync::Arc::new(key.clone());
        let new = NewMegaflow { ufid, key, mask, actions: actions(what), stats: FlowStats::default() };
        self.table.put(mode, &new).is_ok()
    }

    /// Sends a burst through; returns the frames that went to the switch.
    fn burst(&mut self, frames: &[Vec<u8>], as_packets: bool, stubborn: u32) -> Vec<Vec<u8>> {
        let mut reader = self.domain.reader();
        let guard = reader.pin();
        let view = View { guard: &guard, table: &self.table };
        if as_packets {
            let mut burst = Packets(frames.iter().map(|f| Packet::from_slice(f)).collect());
            self.worker.receive_burst(view, IN, &mut burst);
        } else {
            let mut burst =
                Buffers { stubborn, lends: stubborn & 8 == 0, ..Buffers::of(frames, stubborn & 4 == 0) };
            self.worker.receive_burst(view, IN, &mut burst);
            let left = burst.places.iter().flatten().count() as u64;
            let c = self.worker.counters(IN);
            assert!(left <= c.finished.get() + lost(c), "something was left behind");
        }
        self.worker.flush();
        self.worker.lane.sweep();
        let Sink::Caller(waiting) = &mut self.worker.sink else { unreachable!() };
        waiting.drain(..).map(|p| p.item.packet.data().to_vec()).collect()
    }

    /// The place in the list of the megaflow for a key.
    fn of(&self, key: &Flow) -> Option<usize> {
        self.flows.iter().position(|f| f.mask.matches(&f.key, key))
    }
}

/// Packets that were dropped, by whatever cause.
fn lost(c: &PortCounters) -> u64 {
    DropCause::ALL.iter().map(|cause| c.dropped(*cause)).sum()
}

fn key_of(frame: &[u8]) -> Flow {
    let mut packet = Packet::from_slice(frame);
    packet::parse::flow_of(&mut packet, &Meta { in_port: IN, ..Meta::default() })
}

/// What went out by a port, by megaflow and by shape.
type Lines = BTreeMap<(usize, bool, bool), Vec<Vec<u8>>>;

fn by_megaflow(rig: &Rig, frames: &[Vec<u8>]) -> Lines {
    let mut all = Lines::new();
    for f in frames {
        let flow = rig.of(&key_of(f)).unwrap_or(usize::MAX);
        all.entry((flow, words(f).is_some(), Wide::words(f).is_some())).or_default().push(f.clone());
    }
    all
}

fn run_burst(
    rig: &mut Rig,
    frames: &[Vec<u8>],
    as_packets: bool,
    stubborn: u32,
) -> Result<(), TestCaseError> {
    let mut frames = frames.to_vec();
    for (n, f) in frames.iter_mut().enumerate().filter(|(_, f)| f.len() > 60) {
        let at = f.len() - 1;
        f[at] = n as u8;
    }
    let before = |rig: &Rig| rig.worker.counters(IN).received_bytes.get();
    let bytes_before = before(rig);
    let missed = rig.burst(&frames, as_packets, stubborn);
    let mut expected: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    let mut to_switch = Vec::new();
    for f in frames.iter().filter(|f| f.len() >= 14) {
        let key = key_of(f);
        let Some(at) = rig.of(&key) else {
            to_switch.push(f.clone());
            continue;
        };
        let flow = &mut rig.flows[at];
        flow.expected.0 += 1;
        flow.expected.1 += f.len() as u64;
        flow.expected.2 |= key.tcp_flags;
        for port in ports(flow.what) {
            expected.entry(port).or_default().push(changed(f, flow.what));
        }
    }
    let lines = |got: &[Vec<u8>], wanted: &[Vec<u8>]| {
        let (mut got, mut wanted) = (by_megaflow(rig, got), by_megaflow(rig, wanted));
        if stubborn != 0 {
            // What could not be put back comes later than what could, and so does what is not shown as a whole.
            got.values_mut().chain(wanted.values_mut()).for_each(|line| line.sort_unstable());
        }
        (got, wanted)
    };
    let (got, wanted) = lines(&missed, &to_switch);
    prop_assert_eq!(got, wanted);
    for (port, wire) in &rig.sent {
        let got = std::mem::take(&mut *wire.lock());
        let mut wanted = expected.remove(port).unwrap_or_default();
        if *port == CHANGED {
            // They do not tell their megaflow any more.
            let mut got = got;
            got.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(got, wanted, "changed");
            continue;
        }
        let (got, wanted) = lines(&got, &wanted);
        prop_assert_eq!(got, wanted, "port {}", port);
    }
    let total: usize = frames.iter().map(Vec::len).sum();
    prop_assert_eq!(before(rig) - bytes_before, total as u64);
    let c = rig.worker.counters(IN);
    let ends = c.output.get() + c.finished.get() + c.upcalled.get() + lost(c);
    prop_assert_eq!(c.received.get() + c.copied.get(), ends, "each packet and each copy ends once");
    for flow in &rig.flows {
        let stats = rig.table.get(flow.ufid).map(|f| (f.stats.packets, f.stats.bytes, f.stats.tcp_flags));
        prop_assert_eq!(stats, Some(flow.expected));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn bursts_go_where_whole_keys_say(steps in proptest::collection::vec(step(), 1..40)) {
        let mut rig = Rig::new();
        for step in steps {
            match step {
                Step::Put(maker, mask, what) => {
                    let (key, ufid) = (key_of(&maker), Ufid(rig.next));
                    rig.next += 1;
                    // Megaflows do not overlap, which translation sees to.
                    let overlaps = rig.flows.iter().any(|f| {
                        f.key.words().iter().zip(key.words()).zip(f.mask.words().iter().zip(mask.words()))
                            .all(|((a, b), (m, n))| (a ^ b) & m & n == 0)
                    });
                    if !overlaps && rig.put(PutMode::Create, &key, &mask, what, ufid) {
                        rig.flows.push(Known { key, mask: *mask, what, ufid, expected: (0, 0, 0) });
                    }
                }
                Step::Modify(n, what) if !rig.flows.is_empty() => {
                    let at = n % rig.flows.len();
                    let (key, mask) = (rig.flows[at].key.clone(), rig.flows[at].mask.clone());
                    prop_assert!(rig.put(PutMode::Modify, &key, &mask, what, rig.flows[at].ufid));
                    rig.flows[at].what = what;
                }
                Step::Remove(n) if !rig.flows.is_empty() => {
                    let gone = rig.flows.swap_remove(n % rig.flows.len());
                    let stats = rig.table.remove(&[gone.ufid]).pop().flatten().map(|s| (s.packets, s.bytes, s.tcp_flags));
                    prop_assert_eq!(stats, Some(gone.expected));
                }
                Step::Burst(frames, as_packets, stubborn) => run_burst(&mut rig, &frames, as_packets, stubborn)?,
                _ => {}
            }
        }
    }
}

/// Packets that are to be finished are so by the device, if it does all that there may be, or before they get there.
#[test]
fn unfinished_packets_are_finished_for_devices_that_do_not() {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 53, 0, 26, 0x7f, 0x11]);
    frame.resize(60, 0xab);
    let mut mask = Mask::NONE;
    mask.in_port = u32::MAX;
    let all = TxOffloads { checksum: true, tcp_segmentation: true, udp_segmentation: true };
    for (offloads, finishes) in [(TxOffloads::default(), true), (all, false)] {
        let mut rig = Rig::new();
        rig.worker.ports.get_mut(2).unwrap().offloads = offloads;
        assert!(rig.put(PutMode::Create, &key_of(&frame), &mask, 0, Ufid(1)));
        for round in 0..3 {
            let places = vec![Some(frame.clone()); 3];
            let mut burst = Buffers { places, unfinished: 0b101, lends: true, ..Buffers::default() };
            let mut reader = rig.domain.reader();
            let guard = reader.pin();
            let view = View { guard: &guard, table: &rig.table };
            rig.worker.receive_burst(view, IN, &mut burst);
            rig.worker.flush();
            let sent = std::mem::take(&mut *rig.sent[&2].lock());
            assert_eq!(sent.len(), 3, "round {round}");
            let same: Vec<bool> = sent.iter().map(|f| *f == frame).collect();
            assert_eq!(same, [!finishes, true, !finishes], "round {round}");
            let counters = rig.worker.counters(IN);
            assert_eq!((counters.received.get(), counters.output.get()), (3 * (round + 1), 3 * (round + 1)));
        }
        let stats = rig.table.get(Ufid(1)).unwrap();
        assert_eq!((stats.stats.packets, stats.stats.bytes), (9, 9 * 60));
    }
}

/// What the wide lane has learnt stays, whatever its packets are to do.
#[test]
fn packets_of_the_wide_shape_are_looked_up_once() {
    let frame = |proto: u8| {
        let mut f =
            vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, proto, 0, 0];
        f.resize(60, 0xab);
        f
    };
    let mut mask = Mask::NONE;
    (mask.in_port, mask.nw_proto) = (u32::MAX, 0xff);
    for what in 0..LISTS {
        let mut rig = Rig::new();
        for proto in [47, 50] {
            let what = if proto == 47 { what } else { 5 };
            assert!(rig.put(PutMode::Create, &key_of(&frame(proto)), &mask, what, Ufid(proto.into())));
        }
        for round in 0..4 {
            let hits = rig.worker.stats.table_hits.get();
            rig.burst(&[frame(47), frame(50), frame(47)], true, 0);
            assert_eq!(rig.worker.stats.table_hits.get() == hits, round > 0, "list {what}, round {round}");
        }
    }
}
