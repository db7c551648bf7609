//! The short way against the long one: two trackers see the same packets.

use crate::extract::sight;
use crate::request::{PacketCt, Place, Request};
use crate::tests::{A, B, tcp, udp};
use crate::{Conntrack, Family, Glance, LimitZone, Shown, Sight, Told};
use packet::Packet;
use packet::header::Masked;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
struct Step {
    flow: u8,
    is_reply: bool,
    tcp: Option<(u8, u32)>,
    request: Kind,
    event: Event,
}

/// What the packet is tracked for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Nobody looks at what comes of it.
    Blind { commit: bool, mark: Option<u32> },
    /// It is shown to its connection if its place is known.
    Shown,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    None,
    Later(u64),
    Flush,
    Max(u32),
    Limit(u32),
    Spoil,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![2u8, 18, 16, 24, 17, 4, 0, 3]);
    let tcp = prop_oneof![1 => Just(None), 3 => (flags, prop_oneof![1 => Just(1u32), 3 => 1000u32..1004, 1 => Just(90_000_000)]).prop_map(Some)];
    let mark = prop_oneof![3 => Just(None), 1 => (0..3u32).prop_map(Some)];
    let kind = prop_oneof![
        2 => (any::<bool>(), mark).prop_map(|(commit, mark)| Kind::Blind { commit, mark }),
        2 => Just(Kind::Shown),
    ];
    let event = prop_oneof![
        20 => Just(Event::None),
        3 => prop_oneof![Just(1u64), Just(29_000), Just(61_000)].prop_map(Event::Later),
        1 => Just(Event::Flush),
        1 => prop_oneof![Just(0u32), Just(2), Just(100)].prop_map(Event::Max),
        1 => prop_oneof![Just(1u32), Just(100)].prop_map(Event::Limit),
        1 => Just(Event::Spoil),
    ];
    let flow = prop_oneof![6 => 0..4u8, 1 => Just(9u8)];
    (flow, any::<bool>(), tcp, kind, event).prop_map(|(flow, is_reply, tcp, request, event)| Step {
        flow,
        is_reply,
        tcp,
        request,
        event,
    })
}

fn packet(s: &Step) -> Packet {
    // The ninth flow is one of a helper's control connections.
    let port = if s.flow == 9 { 21 } else { 80 };
    let (client, server) = ((A, 1000 + u16::from(s.flow)), (B, port));
    let (from, to) = if s.is_reply { (server, client) } else { (client, server) };
    let mut p = match s.tcp {
        Some((flags, seq)) => tcp(from, to, flags, seq, if seq == 1 { 1 } else { 1001 }, &[]),
        None => udp(from, to),
    };
    if let Event::Spoil = s.event {
        p.data_mut()[41] ^= 0x11;
    }
    p
}

fn network(p: &Packet) -> Option<&[u8]> {
    p.data().get(14..p.len() - usize::from(p.l2_pad))
}

fn seen(p: &Packet, verify: bool) -> Option<Glance> {
    Glance::at(network(p)?, 1, verify)
}

/// Shows a packet as the datapath does.
fn show(ct: &Conntrack, place: Place, told: &Told, p: &Packet, now: u64) -> Shown {
    let sight = Sight::at(network(p).unwrap(), true).unwrap();
    ct.show(place, told, &sight, || seen(p, false), now)
}

fn state(ct: &Conntrack, now: u64) -> Vec<String> {
    let mut all: Vec<String> = ct.dump_all(None, now).iter().map(|e| format!("{e:?}")).collect();
    all.sort();
    let c = &ct.counters;
    let counts = [&c.full, &c.unreadable, &c.invalid].map(|c| c.load(std::sync::atomic::Ordering::Relaxed));
    all.push(format!("{counts:?} {} {:?}", ct.len(), ct.limits(&[1])));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_short_way_is_the_long_one(steps in prop::collection::vec(step(), 1..80), check_seq in any::<bool>()) {
        let [short, long] = [Conntrack::new(3), Conntrack::new(3)];
        let mut now = 1_000_000;
        let mut places: HashMap<(u8, bool, bool), (Place, Told)> = HashMap::new();
        for ct in [&short, &long] {
            ct.set_sequence_check(check_seq);
        }
        for s in &steps {
            for ct in [&short, &long] {
                match s.event {
                    Event::Flush => _ = ct.flush(Some(1)),
                    Event::Max(n) => ct.set_maxconns(n),
                    Event::Limit(n) => _ = ct.set_limit(LimitZone::Zone(1), n),
                    _ => {}
                }
            }
            if let Event::Later(ms) = s.event {
                now += ms;
            }
            let mut request = Request { zone: 1, ..Request::default() };
            if let Kind::Blind { commit, mark } = s.request {
                request.commit = commit;
                request.mark = mark.map(|key| Masked { key, mask: 0xff });
            }
            let (mut p, mut q) = (packet(s), packet(s));
            let mut expected = PacketCt::default();
            let place = long.process_at(&mut q, Family::V4, &mut expected, &request, now, None);
            let at = (s.flow, s.is_reply, s.tcp.is_some());
            let glance = seen(&p, true);
            prop_assert_eq!(network(&p).and_then(|l3| sight(l3, true)), glance.map(|g| g.0.tcp));
            let mut got = PacketCt::default();
            match (s.request, glance, places.get(&at)) {
                (Kind::Blind { .. }, Some(g), _) if short.track_blindly(&g, short.aim(&g, |_| {}), &request, now) => {}
                (Kind::Shown, Some(g), Some((place, told))) => match show(&short, *place, told, &p, now) {
                    Shown::AsTold => {
                        prop_assert_eq!(place.told(told, 1, &g).meta, expected.meta);
                        // Which slots there are follows from the order of insertions and removals alone.
                        prop_assert_eq!(place.told(told, 1, &g).cached, expected.cached);
                    }
                    Shown::Otherwise(ct) => {
                        prop_assert_eq!(ct, expected);
                        places.remove(&at);
                    }
                    Shown::Not => {
                        short.process(&mut p, Family::V4, &mut got, &request, now);
                        prop_assert_eq!(got.meta, expected.meta);
                        places.remove(&at);
                    }
                },
                _ => {
                    let place = short.process_at(&mut p, Family::V4, &mut got, &request, now, None);
                    prop_assert_eq!(got.meta, expected.meta);
                    if let Some(place) = place {
                        let (state, mark, label) = (got.meta.state, got.meta.mark, got.meta.label);
                        places.insert(at, (place, Told { state, mark, label }));
                    }
                }
            }
            let _ = place;
            prop_assert_eq!(state(&short, now), state(&long, now));
        }
    }
}

fn blind(ct: &Conntrack, glance: &Glance, request: &Request<'_>, now: u64) -> bool {
    ct.track_blindly(glance, ct.aim(glance, |_| {}), request, now)
}

#[test]
fn common_packets_do_go_the_short_way() {
    let ct = Conntrack::new(3);
    let request = Request { zone: 1, commit: true, ..Request::default() };
    let (a, b) = ((A, 1000), (B, 80));
    assert!(blind(&ct, &seen(&udp(a, b), true).unwrap(), &request, 5));
    assert_eq!((ct.len(), ct.zone_len(1)), (1, 1));
    let mut meta = PacketCt::default();
    let plain = Request { zone: 1, ..Request::default() };
    let place = ct.process_at(&mut udp(b, a), Family::V4, &mut meta, &plain, 5, None).unwrap();
    let told = Told { state: meta.meta.state, mark: 0, label: flow::U128::ZERO };
    let reply = udp(b, a);
    assert_eq!(show(&ct, place, &told, &reply, 6), Shown::AsTold);
    assert!(matches!(show(&ct, place, &Told { mark: 1, ..told }, &reply, 6), Shown::Otherwise(_)));
    ct.flush(None);
    assert_eq!(show(&ct, place, &told, &reply, 6), Shown::Not);
    assert!(!blind(&ct, &seen(&reply, true).unwrap(), &request, 6), "a dead connection goes first");
    ct.set_maxconns(0);
    let full = seen(&udp((A, 2000), b), true).unwrap();
    assert!(blind(&ct, &full, &request, 6));
    assert_eq!(ct.counters.full.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn what_is_wrong_is_not_glanced_at() {
    let good = udp((A, 1000), (B, 80));
    assert!(seen(&good, true).is_some());
    for (at, verify, is_seen) in [(41, true, false), (41, false, true), (26, false, false)] {
        let mut p = good.clone();
        p.data_mut()[at] ^= 1;
        assert_eq!(seen(&p, verify).is_some(), is_seen, "{at}");
        assert_eq!(sight(network(&p).unwrap(), verify).is_some(), is_seen, "{at}");
    }
    // Options, a fragment, another protocol, a length of UDP that is no length or too long.
    for (at, byte) in [(14, 0x46), (20, 0x20), (23, 1), (39, 7), (39, 200)] {
        let mut p = good.clone();
        p.data_mut()[at] = byte;
        p.data_mut()[24..26].fill(0);
        let sum = packet::checksum::checksum(&p.data()[14..34]);
        p.data_mut()[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(sight(network(&p).unwrap(), false), None, "{at}");
    }
    let mut none = good.clone();
    none.data_mut()[34..36].fill(0);
    assert!(seen(&none, false).is_none());
    assert!(Glance::at(&[], 1, true).is_none());
}
