use super::*;
use crate::protocol::feature;
use crate::ring::tests::{Driver, MEMORY, memory};
use crate::session::Rings;
use crate::vring::RxCount;
use std::collections::{HashMap, HashSet};

const FEATURES: u64 = feature::VERSION_1 | feature::MRG_RXBUF;
const FLOWS: u8 = 24;

#[test]
fn rings_that_are_not_enabled_are_replaced_by_others() {
    let map = |enabled: &[usize]| mapping(4, |ring| enabled.contains(&ring));
    assert_eq!(map(&[0, 2, 4, 6]), [0, 2, 4, 6]);
    assert_eq!(map(&[2, 6]), [2, 2, 6, 6]);
    assert_eq!(map(&[0]), [0; 4]);
    assert!(map(&[]).is_empty());
}

/// A packet of a flow.
fn udp(flow: u8, n: u8) -> Vec<u8> {
    let mut p = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 86, 0, 0, 0, 0, 64, 17, 0, 0];
    p.extend([10, 0, 0, 1, 10, 0, 0, 2, 4, flow, 0, 53, 0, 66, 0, 0]);
    p.resize(99, n);
    p.push(flow);
    p
}

/// A port with two queue pairs, and the guest that receives on them.
struct Port {
    shared: Arc<Shared>,
    guest: [Driver; 2],
    offered: HashMap<(usize, u16), u64>,
}

impl Port {
    fn new() -> Self {
        let (memory, _) = memory();
        let half = MEMORY / 2;
        let part = |part| Driver::within(memory.clone(), part, 64, false, FEATURES);
        let guest = [part(0..half), part(half..MEMORY)];
        let shared = Arc::new(Shared::new("v"));
        for (i, driver) in guest.iter().enumerate() {
            let mut rings = &*shared;
            rings.start(2 * i, Box::new(driver.device()));
            rings.enable(2 * i, true);
        }
        Port { shared, guest, offered: HashMap::new() }
    }

    fn offer(&mut self) {
        for (i, driver) in self.guest.iter_mut().enumerate() {
            loop {
                let at = driver.allocate(200);
                let Some(id) = driver.add(&[(at, 200)], 2, false) else { break };
                self.offered.insert((i, id), at);
            }
        }
    }

    /// What came on each queue: flow and number, in order.
    fn arrived(&mut self) -> [Vec<(u8, u8)>; 2] {
        let Port { guest, offered, .. } = self;
        let mut i = 0;
        guest.each_mut().map(|driver| {
            i += 1;
            let used = driver.used();
            let frame = |(id, written): (u16, u32)| {
                let at = offered.remove(&(i - 1, id)).expect("an offered buffer");
                let mut bytes = vec![0; written as usize];
                driver.memory.read(at, &mut bytes).expect("read");
                assert_eq!(bytes.len(), 112);
                (bytes[111], bytes[110])
            };
            used.into_iter().map(frame).collect()
        })
    }
}

/// Sends two packets of each flow, as packets or as lent frames.
fn send(tx: &mut VhostTx, port: &mut Port, lent: bool) -> [Vec<(u8, u8)>; 2] {
    port.offer();
    let (memory, _) = memory();
    let mut sender = Driver::within(memory, 0..MEMORY, 64, false, FEATURES);
    let mut source = sender.device();
    let mut frames = Frames::default();
    let mut sent = 0;
    let all: Vec<Vec<u8>> = (0..2).flat_map(|n| (0..FLOWS).map(move |flow| udp(flow, n))).collect();
    for part in all.chunks(BATCH_LEN) {
        let outcome = if lent {
            part.iter().for_each(|bytes| assert!(sender.send([0; 12], bytes, &[], false)));
            source.receive_frames(&mut frames, &mut RxCount::default()).expect("good guest");
            tx.send_burst(&mut frames, all_places(part.len()))
        } else {
            tx.send(&mut part.iter().map(|bytes| Packet::from_slice(bytes)).collect())
        };
        sent += outcome.sent;
        assert_eq!(outcome.dropped(), 0);
    }
    assert_eq!(sent as usize, all.len());
    port.arrived()
}

#[test]
fn packets_choose_their_queue_by_their_hash() {
    for lent in [false, true] {
        let mut port = Port::new();
        let mut tx = VhostTx::new(port.shared.clone(), 0);
        let [first, second] = send(&mut tx, &mut port, lent);
        assert_eq!((first.len(), second.len()), (2 * usize::from(FLOWS), 0), "the thread's own");
        port.shared.by_hash.store(true, Relaxed);
        let [first, second] = send(&mut tx, &mut port, lent);
        let flows = |all: &[(u8, u8)]| all.iter().map(|(flow, _)| *flow).collect::<HashSet<_>>();
        let (one, other) = (flows(&first), flows(&second));
        assert!(one.len() > 4 && other.len() > 4, "{one:?} {other:?}");
        assert_eq!((one.intersection(&other).count(), one.len() + other.len()), (0, FLOWS.into()));
        for all in [first, second] {
            let numbers: Vec<u8> = all.iter().map(|(_, n)| *n).collect();
            assert!(numbers.is_sorted(), "those of a flow stay in order");
        }
        // A queue that the guest does not enable gets nothing.
        (&mut &*port.shared).enable(0, false);
        let [first, second] = send(&mut tx, &mut port, lent);
        assert_eq!((first.len(), second.len()), (0, 2 * usize::from(FLOWS)));
        (&mut &*port.shared).enable(2, false);
        let mut batch: Batch = [Packet::from_slice(&udp(1, 1))].into_iter().collect();
        assert_eq!(tx.send(&mut batch).dropped_down, 1);
        assert_eq!(batch.len(), 0);
    }
}

#[test]
fn frames_that_stay_are_sent_twice() {
    for by_hash in [false, true] {
        let mut ports = [Port::new(), Port::new()];
        let (memory, _) = memory();
        let mut sender = Driver::within(memory, 0..MEMORY, 64, false, FEATURES);
        let mut source = sender.device();
        for flow in 0..FLOWS {
            assert!(sender.send([0; 12], &udp(flow, 1), &[], false));
        }
        let mut frames = Frames::default();
        source.receive_frames(&mut frames, &mut RxCount::default()).expect("good guest");
        for (port, stays) in ports.iter_mut().zip([true, false]) {
            port.offer();
            port.shared.by_hash.store(by_hash, Relaxed);
            let mut tx = VhostTx::new(port.shared.clone(), 0);
            let outcome = match stays {
                true => tx.send_copies(&mut frames, all_places(FLOWS.into())),
                false => tx.send_burst(&mut frames, all_places(FLOWS.into())),
            };
            assert_eq!((outcome.sent, outcome.dropped()), (FLOWS.into(), 0));
            assert_eq!(frames.are_lent(1), stays);
        }
        let [first, second] = ports.each_mut().map(Port::arrived);
        assert_eq!(first, second);
        assert_eq!(first.iter().map(Vec::len).sum::<usize>(), FLOWS.into());
    }
}
