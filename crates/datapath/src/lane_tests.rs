use super::*;
use crate::edit::Edit;
use crate::fan::Fan;
use crate::key::Lanes;
use crate::megaflow::{Push, SharedMask};
use dpif::{Action, Ufid};
use flow::{Flow, Mask, U128};
use packet::parse::flow_of;
use packet::{Meta, Packet};
use proptest::prelude::*;

fn megaflow(key: Flow, mask: Mask, actions: Vec<Action>) -> Arc<Megaflow> {
    let lanes = Lanes::new(&mask);
    Arc::new(Megaflow {
        ufid: Ufid(0),
        key: Arc::new(key),
        mask: Arc::new(SharedMask { mask: Arc::new(mask), lanes }),
        push: Push::of(&actions),
        edit: Edit::of(&actions),
        fan: Fan::of(&actions),
        actions: Arc::new(actions),
        stats: Arc::default(),
        dead: Default::default(),
    })
}

const IN: u32 = 7;

/// A frame that is often, but not always, of one of the shapes.
pub(crate) fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => common_frame(), 1 => wide_frame()]
}

fn small() -> impl Strategy<Value = u8> {
    prop_oneof![4 => 0u8..3, 1 => any::<u8>()]
}

pub(crate) fn wide_frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = |tpid: u16, high: u8, low: u8| [&tpid.to_be_bytes()[..], &[high, low]].concat();
    let tags = prop_oneof![
        3 => Just(vec![]),
        4 => (0u8..2, prop_oneof![Just(0u8), Just(0x10), Just(0xe0), any::<u8>()], small())
            .prop_map(move |(kind, high, low)| tag(if kind == 0 { 0x8100 } else { 0x88a8 }, high, low)),
        1 => Just(vec![0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]),
    ];
    let proto = prop_oneof![3 => Just(6u8), 3 => Just(17), 3 => Just(1), 3 => Just(58), 1 => Just(132), 1 => Just(2), 2 => any::<u8>(), 1 => Just(44)];
    let frag = prop_oneof![8 => Just(0x4000u16), 1 => Just(0x2000), 1 => Just(0x2001), 1 => Just(3), 1 => Just(0x8000)];
    let version = prop_oneof![20 => Just(0u8), 1 => Just(1), 1 => Just(0x10)];
    let longer = prop_oneof![8 => Just(0i32), 2 => -60i32..30];
    let kind = prop_oneof![4 => small(), 1 => 134u8..138];
    let header = prop_oneof![6 => Just(0x50u8), 1 => any::<u8>()];
    let cut = prop_oneof![8 => Just(0usize), 1 => 1usize..60];
    let ip = (any::<bool>(), proto, frag, version, small(), small(), small(), small());
    (tags, small(), ip, longer, kind, small(), header, small(), cut).prop_map(
        |(
            tags,
            mac,
            (is_six, proto, frag, version, tos, ttl, src, dst),
            longer,
            kind,
            port,
            header,
            flags,
            cut,
        )| {
            let mut f = vec![2, 0, 0, 0, 0, mac, 2, 0, 0, 0, 1, mac];
            f.extend(&tags);
            let payload = 40;
            let len = |n: i32| (n + longer).clamp(0, 200) as u16;
            if is_six {
                f.extend([0x86, 0xdd, (0x60 ^ (version << 3)) | tos >> 4, tos << 4, ttl, ttl]);
                f.extend(len(payload).to_be_bytes());
                f.extend([proto, ttl, 0xfd, src, 0, 0, 0, 0, 0, 0, 0, dst, 0, 0, 0, 0, 0, src]);
                f.extend([0xfd, dst, 0, 0, 0, 0, 0, 0, 0, src, 0, 0, 0, 0, 0, dst]);
            } else {
                f.extend([8, 0, 0x45 ^ version, tos]);
                f.extend(len(20 + payload).to_be_bytes());
                f.extend([0, 1]);
                f.extend(frag.to_be_bytes());
                f.extend([ttl, proto, 0, 0, 10, 0, 0, src, 10, 0, 1, dst]);
            }
            f.extend([kind, port, 1, port, 0, 0, 0, 0, 0, 0, 0, 0, header, flags]);
            f.extend([0; 26]);
            f.resize(f.len() + usize::from(flags % 8), 0);
            f.truncate(f.len() - cut.min(f.len()));
            f
        },
    )
}

fn common_frame() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        12 => Just((0x0800u16, 0x45u8, 0x4000u16)),
        1 => Just((0x86dd, 0x45, 0)),
        1 => Just((0x0800, 0x46, 0)),
        1 => Just((0x0800, 0x45, 0x2000)),
        1 => Just((0x0800, 0x45, 0x0004)),
        1 => Just((0x8100, 0x45, 0)),
    ];
    let proto = prop_oneof![4 => Just(17u8), 4 => Just(6u8), 1 => Just(1u8)];
    let cut = prop_oneof![8 => Just(0usize), 1 => 1usize..40];
    let numbers = (small(), small(), small(), small(), small(), small(), small());
    (numbers, odd, proto, -30i32..20, prop_oneof![6 => Just(0x50u8), 1 => any::<u8>()], cut).prop_map(
        |((mac, ip, port, tos, ttl, flags, pad), (kind, version, frag), proto, longer, header, cut)| {
            let mut f = vec![2, 0, 0, 0, 0, mac, 2, 0, 0, 0, 1, mac];
            f.extend(kind.to_be_bytes());
            let payload = 20u16;
            let transport = if proto == 6 { 20 } else { 8 };
            let total = (i32::from(20 + transport + payload) + if longer > 0 { longer } else { 0 }) as u16;
            f.extend([version, tos]);
            f.extend(total.to_be_bytes());
            f.extend([0, 1]);
            f.extend(frag.to_be_bytes());
            f.extend([ttl, proto, 0, 0, 10, 0, 0, ip, 10, 0, 1, ip, 0, port, 1, port]);
            f.extend([0; 8]);
            f.extend([header, flags, 0, 0, 0, 0, 0, 0]);
            f.resize(14 + 60 + usize::from(pad), 0);
            f.truncate(f.len() - cut.min(f.len()));
            f
        },
    )
}

/// Masks that look at a few things, of which some are nowhere near a packet of the shape.
pub(crate) fn mask() -> impl Strategy<Value = Mask> {
    let bits = proptest::collection::vec((0usize..26, any::<u8>()), 0..6);
    bits.prop_map(|all| {
        let mut m = Mask::NONE;
        m.in_port = u32::MAX;
        for (what, bits) in all {
            let wide = u32::from_be_bytes([bits; 4]);
            match what {
                0 => m.dl_dst.0[5] = bits,
                1 => m.dl_src.0[5] = bits,
                2 => m.dl_type = 0xffff,
                3 => m.nw_src = wide,
                4 => m.nw_dst = wide,
                5 => m.nw_proto = bits,
                6 => m.nw_tos = bits,
                7 => m.nw_ttl = bits,
                8 => m.nw_frag = bits,
                9 => m.tp_src = u16::from_be_bytes([0, bits]),
                10 => m.tp_dst = u16::from_be_bytes([bits, bits]),
                11 => m.tcp_flags = u16::from(bits),
                12 | 13 => m.0.vlans[0].tci = 0xffff,
                14 => m.0.vlans[0].tci = 0x1000,
                15 => m.0.vlans[0].tci = 0xe000,
                16 => m.0.vlans[0].tci |= u16::from_be_bytes([bits, bits]),
                17 => m.0.vlans[0].tpid = u16::from_be_bytes([bits, bits]),
                18 => m.0.vlans[1].tci = u16::from(bits),
                19 => m.0.ipv6_src = U128 { hi: wide.into(), lo: u64::from(bits) << 60 | u64::from(bits) },
                20 => m.0.ipv6_dst = U128 { hi: u64::from(bits) << 48, lo: u64::from(bits) },
                21 => m.0.ipv6_src.hi = u64::MAX << (bits % 64),
                22 => m.0.ipv6_label = u32::from(bits) | u32::from(bits & 0xf) << 16,
                23 => m.0.dl_type = u16::from_be_bytes([bits, bits]),
                24 => m.0.igmp_group_ip4 = u32::from(bits & 1),
                _ => m.0.nd_target.lo = u64::from(bits & 1),
            }
        }
        m
    })
}

fn key(bytes: &[u8]) -> (Packet, Flow) {
    let mut packet = Packet::from_slice(bytes);
    let key = flow_of(&mut packet, &Meta { in_port: IN, ..Meta::default() });
    (packet, key)
}

/// Looks at one packet; the way that it goes.
fn look(lane: &mut Lane, in_port: u32, bytes: &[u8], deaths: u32) -> Option<Way> {
    lane.look(in_port, &[bytes], deaths);
    let slot = lane.runs().first()?.slot;
    lane.way(slot)
}

/// As [`look`], for any shape.
fn look_at<S: Shape<N>, const N: usize>(
    lane: &mut ShapeLane<S, N>,
    in_port: u32,
    bytes: &[u8],
) -> Option<Way> {
    lane.look(in_port, &[bytes], 0);
    let slot = lane.runs().first()?.slot;
    lane.way(slot)
}

fn learn_in<S: Shape<N>, const N: usize>(
    lane: &mut ShapeLane<S, N>,
    bytes: &[u8],
    flow: &Arc<Megaflow>,
) -> u32 {
    lane.look(IN, &[], 0);
    lane.learn(IN, &S::words(bytes).unwrap(), flow, 0, true)
}

fn learn(lane: &mut Lane, bytes: &[u8], flow: &Arc<Megaflow>) -> u32 {
    learn_in(lane, bytes, flow)
}

/// Against the whole key: a megaflow made for one packet takes another if and only if its mask says so.
fn match_as_whole_keys_do<S: Shape<N>, const N: usize>(
    (maker, other, mask): (&[u8], &[u8], &Mask),
    set_offsets: fn(&mut Packet),
) -> Result<(), TestCaseError> {
    let ((_, made), (packet, asked)) = (key(maker), key(other));
    let flow = megaflow(made, mask.clone(), vec![Action::Output(PortNo(9))]);
    let Some(w) = S::words(other) else { return Ok(()) };
    prop_assert_eq!(asked.tcp_flags, S::flags(&w));
    let mut unparsed = Packet::from_slice(other);
    set_offsets(&mut unparsed);
    let offsets = |p: &Packet| (p.l2_5_ofs, p.l3_ofs, p.l4_ofs, p.l2_pad);
    prop_assert_eq!(offsets(&unparsed), offsets(&packet));
    let mut lane = ShapeLane::<S, N>::new(Seed::get());
    // Even if a signature says so.
    let slot = learn_in(&mut lane, other, &flow);
    prop_assert!(slot != NONE || !flow.matches(&asked));
    let way = look_at(&mut lane, IN, other);
    prop_assert_eq!(way == Some(Way::Out(PortNo(9))), flow.matches(&asked));
    prop_assert_eq!(look_at(&mut lane, IN + 1, other), None);
    Ok(())
}

/// Packets of one run are in one megaflow, whichever are remembered. Megaflows are made for packets of the batch.
fn runs_have_one_megaflow<S: Shape<N>, const N: usize>(
    flows: &[(usize, Mask)],
    batch: &[Vec<u8>],
) -> Result<(), TestCaseError> {
    let mut lane = ShapeLane::<S, N>::new(Seed::get());
    for (n, (maker, mask)) in flows.iter().enumerate() {
        let maker = &batch[maker % batch.len()];
        let flow = megaflow(key(maker).1, mask.clone(), vec![Action::Output(PortNo(n as u32))]);
        if S::words(maker).is_some() {
            learn_in(&mut lane, maker, &flow);
        }
    }
    let heads: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    // The second of these goes on with the last run of the first.
    lane.look(IN, &heads, 0);
    let heads: Vec<&[u8]> = heads.into_iter().rev().collect();
    let seen = lane.look(IN, &heads, 0);
    lane.note_lens(&heads);
    let of_shape = |i: &usize| S::words(heads[*i]).is_some();
    let mut places = 0;
    for run in lane.runs() {
        prop_assert_eq!(places & run.sum.places, 0);
        places |= run.sum.places;
        prop_assert_eq!(run.sum.packets, run.sum.places.count_ones());
        let members = netdev::burst::places(run.sum.places);
        prop_assert_eq!(u64::from(run.sum.bytes), lane.bytes(run.sum.places));
        prop_assert_eq!(seen.unknown & run.sum.places, if run.slot == NONE { run.sum.places } else { 0 });
        let mut flags = 0;
        for i in members {
            let key = key(heads[i]).1;
            flags |= key.tcp_flags;
            prop_assert!(lane.flow(run.slot).is_none_or(|f| f.matches(&key)));
        }
        prop_assert_eq!(run.sum.tcp_flags, flags);
    }
    prop_assert_eq!(places, (0..heads.len()).filter(of_shape).map(|i| 1 << i).sum::<u32>());
    prop_assert_eq!(places | seen.odd, netdev::burst::all_places(heads.len()));
    prop_assert_eq!(seen.bytes, lane.bytes(places));
    Ok(())
}

/// Batches in which many packets differ from others in a byte.
fn batch(frame: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let changes = proptest::collection::vec((0usize..76, any::<u8>()), 0..8);
    proptest::collection::vec((frame, changes), 1..6).prop_map(|all| {
        let mut batch = Vec::new();
        for (frame, changes) in all {
            batch.push(frame.clone());
            for (at, bits) in changes {
                batch.push(frame.clone());
                if let Some(byte) = batch.last_mut().and_then(|f: &mut Vec<u8>| f.get_mut(at)) {
                    *byte ^= bits;
                }
            }
        }
        batch.truncate(BATCH_LEN);
        batch
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn common_words_match_as_whole_keys_do(maker in frame(), other in common_frame(), mask in mask()) {
        match_as_whole_keys_do::<Common, 5>((&maker, &other, &mask), set_offsets)?;
    }

    #[test]
    fn wide_words_match_as_whole_keys_do(maker in wide_frame(), other in wide_frame(), mask in mask()) {
        match_as_whole_keys_do::<Wide, { wide::WORDS }>((&maker, &other, &mask), wide::set_offsets)?;
        match_as_whole_keys_do::<Wide, { wide::WORDS }>((&other, &other, &mask), wide::set_offsets)?;
    }

    /// What is not of the shape is never taken for it.
    #[test]
    fn only_the_shape_has_words(bytes in frame()) {
        let (packet, key) = key(&bytes);
        let plain = key.dl_type == 0x0800 && key.nw_frag == 0 && key.vlans[0].tci == 0;
        let whole = plain && bytes[14] == 0x45 && matches!(key.nw_proto, 6 | 17) && packet.l4_ofs == 34 && (key.tp_src, key.tp_dst) != (0, 0);
        // The oracle cannot tell a packet without ports from one with ports of zero, so one way only.
        prop_assert!(words(&bytes).is_none() || plain);
        prop_assert!(!whole || words(&bytes).is_some());
        prop_assert!(words(&bytes).is_none() || Wide::words(&bytes).is_some());
    }

    #[test]
    fn only_the_wide_shape_has_wide_words(bytes in frame()) {
        let (packet, key) = key(&bytes);
        let is_ip = matches!(key.dl_type, 0x0800 | 0x86dd) && key.vlans[1].tci == 0;
        let l4 = packet.l3_ofs.wrapping_add(if key.dl_type == 0x0800 { 20 } else { 40 });
        let plain = is_ip && packet.l4_ofs == l4 && key.nd_target.is_zero() && key.igmp_group_ip4 == 0;
        prop_assert!(Wide::words(&bytes).is_none() || plain);
        let has_ports = matches!(key.nw_proto, 1 | 6 | 17 | 132) && (key.tp_src, key.tp_dst) != (0, 0);
        let version = bytes.get(usize::from(packet.l3_ofs)).is_some_and(|b| *b == 0x45 || b >> 4 == 6);
        prop_assert!(!(plain && has_ports && version) || Wide::words(&bytes).is_some());
    }

    #[test]
    fn a_common_run_has_one_megaflow(
        flows in proptest::collection::vec((any::<usize>(), mask()), 1..6), batch in batch(common_frame()),
    ) {
        runs_have_one_megaflow::<Common, 5>(&flows, &batch)?;
    }

    #[test]
    fn a_wide_run_has_one_megaflow(
        flows in proptest::collection::vec((any::<usize>(), mask()), 1..6), batch in batch(wide_frame()),
    ) {
        runs_have_one_megaflow::<Wide, { wide::WORDS }>(&flows, &batch)?;
    }
}

fn udp(n: u32) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    f.extend([10, 0, 0, 1]);
    f.extend(n.to_be_bytes());
    f.extend([0, 1, 0, 2, 0, 26, 0, 0]);
    f.resize(60, 0);
    f
}

fn to(port: u32, dst: u32, bits: u32) -> Arc<Megaflow> {
    let mut mask = Mask::NONE;
    (mask.in_port, mask.nw_dst) = (u32::MAX, bits);
    let key = Flow { in_port: IN, nw_dst: dst, ..Flow::ZERO };
    megaflow(key, mask, vec![Action::Output(PortNo(port))])
}

const NINE: Option<Way> = Some(Way::Out(PortNo(9)));

#[test]
fn batches_that_go_on_as_before_are_whole() {
    let (mut lane, flow) = (Lane::new(Seed::get()), to(9, 0, 0));
    learn(&mut lane, &udp(1), &flow);
    let frames: Vec<Vec<u8>> = (0..BATCH_LEN as u32).map(udp).collect();
    let heads: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut passed = 0;
    for n in [BATCH_LEN, BATCH_LEN, 5, 1, BATCH_LEN] {
        let seen = lane.look(IN, &heads[..n], 0);
        assert_eq!(seen, Seen { odd: 0, unknown: 0, bytes: 60 * n as u64 });
        assert_eq!((lane.only_way(), lane.runs().len()), (NINE, 1));
        assert_eq!(lane.runs()[0].sum.places, all_places(n));
        lane.credit(Tally { now_ms: 5, is_owner: true });
        passed += n as u64;
        assert_eq!((flow.stats.get().packets, flow.stats.get().bytes), (passed, 60 * passed));
    }
    assert_eq!(lane.look(IN + 1, &heads, 0).unknown, u32::MAX);
    assert_eq!(lane.look(IN, &heads, 0).unknown, 0);
    flow.dead.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!((lane.look(IN, &heads, 1).unknown, lane.only_way()), (u32::MAX, Some(Way::Elsewhere)));
}

#[test]
fn the_dead_are_not_followed_and_are_let_go() {
    let (mut lane, flow) = (Lane::new(Seed::get()), to(9, 0, 0));
    learn(&mut lane, &udp(1), &flow);
    // Nothing but the port of input counts: any packet will do.
    assert_eq!(look(&mut lane, IN, &udp(2), 0), NINE);
    lane.credit(Tally { now_ms: 5, is_owner: true });
    assert_eq!((flow.stats.get().packets, flow.stats.get().bytes), (1, 60));
    flow.dead.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(look(&mut lane, IN, &udp(1), 1), None);
    lane.sweep();
    assert_eq!((Arc::strong_count(&flow), lane.slots.counts()), (1, (1, 0, 1)));
    learn(&mut lane, &udp(1), &to(9, 0, 0));
    assert_eq!((look(&mut lane, IN, &udp(1), 1), lane.slots.counts()), (NINE, (1, 1, 0)));
}

#[test]
fn what_counts_grows_at_once_and_shrinks_by_sweeping() {
    let (mut lane, wide, narrow) = (Lane::new(Seed::get()), to(9, 0, 1 << 31), to(8, 1 << 31, u32::MAX));
    learn(&mut lane, &udp(0), &wide);
    assert_eq!(look(&mut lane, IN, &udp(7), 0), NINE);
    let packet = udp(1 << 31);
    assert_eq!(look(&mut lane, IN, &packet, 0), None);
    learn(&mut lane, &packet, &narrow);
    assert_eq!(look(&mut lane, IN, &packet, 0), Some(Way::Out(PortNo(8))));
    // Its signature is of more bits now.
    assert_eq!(look(&mut lane, IN, &udp(7), 0), None);
    learn(&mut lane, &udp(7), &wide);
    assert_eq!(look(&mut lane, IN, &udp(7), 0), NINE);
    narrow.dead.store(true, std::sync::atomic::Ordering::Relaxed);
    (0..3).for_each(|_| lane.sweep());
    learn(&mut lane, &udp(6), &wide);
    assert_eq!([5, 6, 7].map(|n| look(&mut lane, IN, &udp(n), 1)), [NINE; 3]);
}

#[test]
fn signatures_grow_in_number_and_slots_do_not() {
    let (mut lane, all, one) = (Lane::new(Seed::get()), to(9, 0, 1), to(8, 1, u32::MAX));
    learn(&mut lane, &udp(1), &one);
    for n in 0..200_000 {
        learn(&mut lane, &udp(2 * n), &all);
        assert_eq!(look(&mut lane, IN, &udp(2 * n), 0), NINE);
        lane.credit(Tally { now_ms: 1, is_owner: false });
    }
    assert_eq!((lane.slots.counts().0, all.stats.get().packets), (2, 200_000));
    let (min, max) = (signatures::BUCKETS_MIN * 16, signatures::BUCKETS_MAX);
    assert!((min..=max).contains(&lane.signatures.used), "{}", lane.signatures.used);
}

#[test]
fn more_megaflows_than_slots() {
    let mut lane = Lane::new(Seed::get());
    for n in 0..(slots::SLOTS_MAX as u32 + 500) {
        let flow = to(n, n, u32::MAX);
        let slot = learn(&mut lane, &udp(n), &flow);
        assert_eq!(look(&mut lane, IN, &udp(n), 0), Some(Way::Out(PortNo(n))));
        assert_eq!(lane.runs()[0].slot, slot);
    }
    assert_eq!(lane.slots.counts(), (slots::SLOTS_MAX, slots::SLOTS_MAX, 0));
}

#[test]
fn more_masks_than_the_lane_takes() {
    let mut lane = Lane::new(Seed::get());
    let flows: Vec<_> = (1..5_000).map(|bits| to(9, 0, bits)).collect();
    let slots = flows.iter().filter(|f| learn(&mut lane, &udp(0), f) != NONE).count();
    assert_eq!(slots, slots::MASKS_MAX);
    flows[0].dead.store(true, std::sync::atomic::Ordering::Relaxed);
    (0..slots).for_each(|_| lane.sweep());
    assert_ne!(learn(&mut lane, &udp(0), &flows[4_998]), NONE);
}
