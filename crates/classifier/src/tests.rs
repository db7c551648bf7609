use crate::oracle::{Linear, Rule};
use crate::{Classifier, Conjunction, PrefixField};
use flow::{FLOW_WORDS, Flow, Mask};
use proptest::prelude::*;

/// A small world, so that rules and packets meet: every field has few values.
fn any_flow() -> impl Strategy<Value = Flow> {
    let first = (0u32..3, 0u32..3, 0u64..3, 0u8..3, prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x0806)]);
    let second = (any::<u32>(), any::<u32>(), any::<u64>(), 0u16..4, 0u16..4, 0u16..3, 0u16..3);
    (first, second).prop_map(|((in_port, reg, metadata, mac, dl_type), (src, dst, v6, sp, dp, flags, ct))| {
        let mut f =
            Flow { in_port, metadata, dl_type, tp_src: sp, tp_dst: dp, tcp_flags: flags, ..Flow::ZERO };
        f.regs[3] = reg;
        f.dl_src.0[5] = mac;
        f.nw_src = src & 0xc000_0003;
        f.nw_dst = dst & 0xe000_0001;
        f.ipv6_dst.hi = v6 & 0xc000_0000_0000_0001;
        f.ipv6_dst.lo = v6 & 0x6000;
        f.ct_tp_src = ct;
        f
    })
}

fn any_mask() -> impl Strategy<Value = Mask> {
    let prefix = prop_oneof![Just(0u32), Just(1), Just(2), Just(3), Just(31), Just(32)];
    let prefix6 = prop_oneof![3 => Just(0u32), 1 => Just(2), 1 => Just(64), 1 => Just(115), 1 => Just(128)];
    (any::<u16>(), prefix.clone(), prefix, prefix6, any::<[u16; 2]>()).prop_map(
        |(bits, src, dst, dst6, ports)| {
            let has = |n: u32| bits & (1 << n) != 0;
            let mut m = Mask::NONE;
            m.in_port = if has(0) { u32::MAX } else { 0 };
            m.metadata = if has(1) { 1 } else { 0 };
            m.dl_type = if has(2) { 0xffff } else { 0 };
            m.regs[3] = if has(3) { 2 } else { 0 };
            m.dl_src.0[5] = if has(4) { 0xff } else { 0 };
            m.nw_src = u32::MAX.checked_shl(32 - src).unwrap_or(0);
            m.nw_dst = u32::MAX.checked_shl(32 - dst).unwrap_or(0);
            m.nw_dst &= if has(5) && has(6) { !0x4000_0000 } else { u32::MAX };
            m.ipv6_dst = u128::MAX.checked_shl(128 - dst6).unwrap_or(0).into();
            m.tp_src = if has(7) { ports[0] | 1 } else { 0 };
            m.tp_dst = if has(8) { ports[1] } else { 0 };
            m.tcp_flags = if has(9) { 3 } else { 0 };
            m.ct_tp_src = if has(10) && has(11) { 3 } else { 0 };
            m.conj_id = if has(12) && has(13) { u32::MAX } else { 0 };
            m
        },
    )
}

fn any_conjunctions() -> impl Strategy<Value = Vec<Conjunction>> {
    let one = (0u32..3, 0u8..3).prop_map(|(id, c)| {
        let n_clauses = if id == 2 { 3 } else { 2 };
        Conjunction { id, clause: c % n_clauses, n_clauses }
    });
    prop_oneof![
        2 => Just(Vec::new()),
        1 => one.clone().prop_map(|c| vec![c]),
        1 => (one.clone(), one).prop_map(|(a, b)| if a.id == b.id { vec![a] } else { vec![a, b] }),
    ]
}

fn any_rules(conjunctions: bool) -> impl Strategy<Value = Vec<Rule<usize>>> {
    let rule = (any_flow(), any_mask(), 0i32..6, any_conjunctions(), 0u32..4);
    proptest::collection::vec(rule, 0..40).prop_map(move |rules| {
        let make = |(rule, (mut key, mask, p, conj, conj_id)): (usize, (Flow, Mask, i32, Vec<_>, u32))| {
            key.conj_id = conj_id;
            let conjunctions: Vec<Conjunction> = if conjunctions { conj } else { Vec::new() };
            // Only clauses of conjunctions share their priority with others.
            let priority = if conjunctions.is_empty() { p * 100 + rule as i32 + 1 } else { p * 100 };
            Rule { key: mask.apply(&key), mask, priority, rule, conjunctions }
        };
        rules.into_iter().enumerate().map(make).collect()
    })
}

fn build(rules: &[Rule<usize>]) -> (Classifier<usize>, Linear<usize>) {
    let mut fast = Classifier::new();
    let mut slow = Linear::default();
    for r in rules {
        fast.insert(&r.key, &r.mask, r.priority, r.rule, &r.conjunctions);
        slow.insert(r.clone());
    }
    (fast, slow)
}

/// `flow` with the bits outside `wc` taken from `noise`.
fn perturb(flow: &Flow, noise: &Flow, wc: &Mask) -> Flow {
    let mut out = flow.clone();
    for i in 0..FLOW_WORDS {
        let m = wc.words()[i];
        out.words_mut()[i] = (flow.words()[i] & m) | (noise.words()[i] & !m);
    }
    out
}

fn check_lookup(fast: &Classifier<usize>, slow: &Linear<usize>, flow: &Flow, noise: &Flow) {
    let mut wc = Mask::NONE;
    // The type is significant in every flow of the datapath; the address tries rely on that.
    wc.dl_type = 0xffff;
    wc.ct_nw_proto = 0xff;
    let got = fast.lookup(flow, Some(&mut wc)).copied();
    assert_eq!(fast.lookup(flow, None).copied(), got);
    for f in [flow, &perturb(flow, noise, &wc)] {
        let want: Vec<_> = slow.lookup(f).iter().map(|r| r.rule).collect();
        assert!(got.map_or(want.is_empty(), |g| want.contains(&g)), "got {got:?}, want {want:?}");
        assert_eq!(fast.lookup(f, None).copied(), got);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn lookup_is_the_lists_and_depends_only_on_its_wildcards(
        rules in any_rules(false), flows in proptest::collection::vec((any_flow(), any_flow()), 8),
    ) {
        let (fast, slow) = build(&rules);
        for (flow, noise) in &flows {
            check_lookup(&fast, &slow, flow, noise);
        }
    }

    #[test]
    fn conjunctions_match_when_all_clauses_do(
        rules in any_rules(true), flows in proptest::collection::vec((any_flow(), any_flow()), 8),
    ) {
        let (fast, slow) = build(&rules);
        for (flow, noise) in &flows {
            check_lookup(&fast, &slow, flow, noise);
        }
    }

    #[test]
    fn what_is_removed_is_gone_and_the_rest_stays(
        rules in any_rules(true), gone in proptest::collection::vec(any::<bool>(), 40),
        fields in proptest::sample::subsequence(vec![PrefixField::IpSrc, PrefixField::Ipv6Dst, PrefixField::IpDst], 0..=3),
        flow in any_flow(), noise in any_flow(),
    ) {
        let (mut fast, mut slow) = build(&rules);
        fast.set_prefix_fields(&fields);
        for (r, gone) in rules.iter().zip(gone) {
            if gone {
                prop_assert_eq!(fast.remove(&r.key, &r.mask, r.priority), slow.remove(&r.key, &r.mask, r.priority));
            }
        }
        check_lookup(&fast, &slow, &flow, &noise);
        let mut all: Vec<_> = fast.iter().map(|f| (f.key(), f.mask(), f.priority, *f.rule)).collect();
        all.sort_by_key(|a| a.3);
        let mut want: Vec<_> = slow.rules.iter().map(|r| (r.key.clone(), r.mask.clone(), r.priority, r.rule)).collect();
        want.sort_by_key(|a| a.3);
        prop_assert_eq!(fast.len(), all.len());
        prop_assert_eq!(all, want);
        for r in &slow.rules {
            prop_assert_eq!(fast.find_exact(&r.key, &r.mask, r.priority), Some(&r.rule));
            fast.remove(&r.key, &r.mask, r.priority);
        }
        prop_assert_eq!((fast.len(), fast.masks(), fast.iter().count()), (0, 0, 0));
        let mut wc = Mask::NONE;
        prop_assert_eq!(fast.lookup(&flow, Some(&mut wc)), None);
        prop_assert!(wc.is_none());
    }

    #[test]
    fn loose_matches_and_overlaps_are_the_lists(
        rules in any_rules(false), key in any_flow(), mask in any_mask(), pick in any::<prop::sample::Index>(),
    ) {
        let (fast, slow) = build(&rules);
        let mut queries = vec![(key, mask)];
        if !rules.is_empty() {
            let r = &rules[pick.index(rules.len())];
            queries.push((r.key.clone(), r.mask.clone()));
        }
        for (key, mask) in &queries {
            let mut got: Vec<_> = fast.loose_matches(key, mask).map(|f| *f.rule).collect();
            got.sort_unstable();
            let want: Vec<_> = slow.rules.iter().filter(|r| Linear::is_loose_match(r, key, mask)).map(|r| r.rule).collect();
            let mut want = want;
            want.sort_unstable();
            prop_assert_eq!(got, want);
            for r in &rules {
                prop_assert_eq!(fast.overlaps(key, mask, r.priority), slow.overlaps(key, mask, r.priority));
            }
        }
    }
}

fn ip_flow(dst: u32) -> Flow {
    Flow { dl_type: 0x0800, nw_dst: dst, in_port: 1, ..Flow::ZERO }
}

fn insert(c: &mut Classifier<u32>, rule: u32, priority: i32, key: &Flow, set: impl Fn(&mut Mask)) {
    let mut mask = Mask::NONE;
    set(&mut mask);
    c.insert(key, &mask, priority, rule, &[]);
}

#[test]
fn a_prefix_trie_keeps_addresses_wild() {
    let mut c = Classifier::new();
    let slash32 = |m: &mut Mask| (m.dl_type, m.nw_dst) = (0xffff, u32::MAX);
    insert(&mut c, 1, 10, &ip_flow(0x0a00_0001), slash32);
    insert(&mut c, 2, 5, &ip_flow(0x0a00_0000), |m| (m.dl_type, m.nw_dst) = (0xffff, 0xff00_0000));
    insert(&mut c, 3, 0, &Flow::ZERO, |_| ());
    let looked_at = |dst: u32| {
        let mut wc = Mask::NONE;
        let rule = *c.lookup(&ip_flow(dst), Some(&mut wc)).unwrap();
        (rule, wc.nw_dst)
    };
    assert_eq!(looked_at(0x0a00_0001), (1, u32::MAX));
    // 10.128.0.0 leaves the /32 at its ninth bit; 192... leaves everything at the first.
    assert_eq!(looked_at(0x0a80_0000), (2, 0xff80_0000));
    assert_eq!(looked_at(0xc000_0000), (3, 0x8000_0000));
}

#[test]
fn a_stage_that_fails_leaves_later_ones_wild() {
    let mut c = Classifier::new();
    insert(&mut c, 1, 10, &Flow { in_port: 7, ..ip_flow(1) }, |m| {
        (m.in_port, m.dl_type, m.nw_proto, m.tp_dst) = (u32::MAX, 0xffff, 0xff, 0xffff);
    });
    let mut wc = Mask::NONE;
    assert_eq!(c.lookup(&ip_flow(1), Some(&mut wc)), None);
    let mut want = Mask::NONE;
    want.in_port = u32::MAX;
    assert_eq!(wc, want);
}

#[test]
fn ports_are_unwildcarded_only_up_to_where_they_differ() {
    let mut c = Classifier::new();
    insert(&mut c, 1, 10, &Flow { tp_dst: 80, ..Flow::ZERO }, |m| m.tp_dst = 0xffff);
    let mut wc = Mask::NONE;
    assert_eq!(c.lookup(&Flow { tp_dst: 0x8000, ..Flow::ZERO }, Some(&mut wc)), None);
    assert_eq!((wc.tp_src, wc.tp_dst), (0, 0x8000));
}

#[test]
fn a_subtable_below_the_best_match_is_not_looked_at() {
    let mut c = Classifier::new();
    insert(&mut c, 1, 10, &Flow { in_port: 1, ..Flow::ZERO }, |m| m.in_port = u32::MAX);
    insert(&mut c, 2, 10, &Flow { metadata: 1, ..Flow::ZERO }, |m| m.metadata = u64::MAX);
    let mut wc = Mask::NONE;
    assert_eq!(c.lookup(&Flow { in_port: 1, metadata: 1, ..Flow::ZERO }, Some(&mut wc)), Some(&1));
    assert_eq!(wc.metadata, 0);
}
