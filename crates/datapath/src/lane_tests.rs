use super::*;
use crate::key::Lanes;
use crate::megaflow::SharedMask;
use dpif::Ufid;
use packet::Meta;
use packet::parse::flow_of;
use proptest::prelude::*;

fn megaflow(key: Flow, mask: Mask, actions: Vec<Action>) -> Arc<Megaflow> {
    let lanes = Lanes::new(&mask);
    Arc::new(Megaflow {
        ufid: Ufid(0),
        key: Arc::new(key),
        mask: Arc::new(SharedMask { mask: Arc::new(mask), lanes }),
        actions: Arc::new(actions),
        stats: Arc::default(),
        dead: Default::default(),
    })
}

const IN: u32 = 7;

/// A frame that is often, but not always, of the shape.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let small = || prop_oneof![4 => 0u8..3, 1 => any::<u8>()];
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
fn mask() -> impl Strategy<Value = Mask> {
    let bits = proptest::collection::vec((0usize..13, any::<u8>()), 0..6);
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
                _ => m.0.vlans[0].tci = 0xffff,
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Against the whole key: a megaflow made for one packet takes another if and only if its mask says so.
    #[test]
    fn words_match_as_whole_keys_do(maker in frame(), other in frame(), mask in mask()) {
        let ((_, made), (packet, asked)) = (key(&maker), key(&other));
        let flow = megaflow(made, mask, vec![Action::Output(PortNo(9))]);
        let Some(w) = words(&packet) else { return Ok(()) };
        prop_assert_eq!((asked.dl_type, asked.nw_frag, asked.vlans[0].tci), (0x0800, 0, 0));
        prop_assert_eq!(asked.tcp_flags, flags_of(&w));
        let mut lane = Lane::new(Seed::get());
        let signature = lane.signature(IN, &w);
        if let Some(slot) = lane.slot(&flow) {
            lane.remember(signature, slot);
        }
        let (way, _) = lane.find(signature, IN, &w, packet.len());
        prop_assert_eq!(way == Way::Out(PortNo(9)), flow.matches(&asked));
        prop_assert_eq!(lane.find(signature, IN + 1, &w, 1).0, Way::Unknown);
    }

    /// What is not of the shape is never taken for it.
    #[test]
    fn only_the_shape_has_words(bytes in frame()) {
        let (packet, key) = key(&bytes);
        let plain = key.dl_type == 0x0800 && key.nw_frag == 0 && key.vlans[0].tci == 0;
        let whole = plain && matches!(key.nw_proto, 6 | 17) && packet.l4_ofs == 34 && (key.tp_src, key.tp_dst) != (0, 0);
        // The oracle cannot tell a packet without ports from one with ports of zero, so one way only.
        prop_assert!(words(&packet).is_none() || plain);
        prop_assert!(!whole || words(&packet).is_some());
    }
}

fn udp(n: u32) -> Packet {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    f.extend([10, 0, 0, 1]);
    f.extend(n.to_be_bytes());
    f.extend([0, 1, 0, 2, 0, 26, 0, 0]);
    f.resize(60, 0);
    Packet::from_slice(&f)
}

fn all() -> Arc<Megaflow> {
    let mut mask = Mask::NONE;
    mask.in_port = u32::MAX;
    megaflow(Flow { in_port: IN, ..Flow::ZERO }, mask, vec![Action::Output(PortNo(9))])
}

#[test]
fn the_dead_are_not_followed_and_are_let_go() {
    let (mut lane, flow, packet) = (Lane::new(Seed::get()), all(), udp(1));
    let w = words(&packet).unwrap();
    let signature = lane.signature(IN, &w);
    let slot = lane.slot(&flow).unwrap();
    lane.remember(signature, slot);
    assert_eq!(lane.find(signature, IN, &w, 60).0, Way::Out(PortNo(9)));
    lane.credit(5, true);
    assert_eq!(flow.stats.get().packets, 1);
    flow.dead.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(lane.find(signature, IN, &w, 60).0, Way::Unknown);
    lane.sweep();
    assert_eq!((Arc::strong_count(&flow), lane.free.len()), (1, 1));
    let heir = all();
    let slot = lane.slot(&heir).unwrap();
    lane.remember(signature, slot);
    assert_eq!((lane.find(signature, IN, &w, 60), lane.slots.len()), ((Way::Out(PortNo(9)), 0), 1));
}

#[test]
fn signatures_grow_in_number_and_slots_do_not() {
    let (mut lane, flow) = (Lane::new(Seed::get()), all());
    for n in 0..200_000 {
        let w = words(&udp(n)).unwrap();
        let signature = lane.signature(IN, &w);
        let slot = lane.slot(&flow).unwrap();
        lane.remember(signature, slot);
        assert_eq!(lane.find(signature, IN, &w, 60).0, Way::Out(PortNo(9)));
    }
    lane.credit(1, false);
    assert_eq!((lane.slots.len(), flow.stats.get().packets), (1, 200_000));
    assert!((BUCKETS_MIN * 16..=BUCKETS_MAX).contains(&lane.buckets.len()), "{}", lane.buckets.len());
}

#[test]
fn more_megaflows_than_slots() {
    let mut lane = Lane::new(Seed::get());
    let mut mask = Mask::NONE;
    (mask.in_port, mask.nw_dst) = (u32::MAX, u32::MAX);
    for n in 0..(SLOTS_MAX as u32 + 500) {
        let key = Flow { in_port: IN, nw_dst: n, ..Flow::ZERO };
        let flow = megaflow(key, mask.clone(), vec![Action::Output(PortNo(n))]);
        let w = words(&udp(n)).unwrap();
        let signature = lane.signature(IN, &w);
        let slot = lane.slot(&flow).unwrap();
        lane.remember(signature, slot);
        assert_eq!(lane.find(signature, IN, &w, 60).0, Way::Out(PortNo(n)));
        lane.credit(1, true);
    }
    assert_eq!((lane.slots.len(), lane.known.len()), (SLOTS_MAX, SLOTS_MAX));
}
