use super::*;
use crate::frames::Rng;
use crate::samples;
use crate::{Action, DropReason};
use flow::{Flow, Mask};
use proptest::prelude::*;

fn styles() -> [Style<'static>; 2] {
    [false, true].map(|verbose| Style { verbose, nd_ext: true, ..Style::default() })
}

/// Names the words that differ, as a whole key is too long to read.
fn differences(a: &Flow, b: &Flow) -> Vec<(usize, u64, u64)> {
    let words = a.words().iter().zip(b.words()).enumerate();
    words.filter(|(_, (a, b))| a != b).map(|(i, (a, b))| (i, a.swap_bytes(), b.swap_bytes())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn keys_come_back(seed: u64) {
        let key = samples::key(seed);
        let mask = samples::mask(seed, &key);
        for style in styles() {
            let text = flow_text(&key, &mask, &style);
            let p = parse_key(&text, None).unwrap_or_else(|e| panic!("{e}: {text}"));
            prop_assert_eq!(differences(&p.mask.apply(&p.key), &mask.apply(&key)), vec![], "{}", text);
            if style.verbose {
                // Else an attribute that is all wildcards is left out, and missed.
                prop_assert_eq!((p.fitness, p.mask_fitness), (Fitness::Perfect, Fitness::Perfect), "{}", text);
                // Flags and NSH show only what is matched.
                let mut got = p.key.clone();
                (got.nsh, got.tcp_flags) = (key.nsh, key.tcp_flags);
                got.tunnel.flags = key.tunnel.flags;
                prop_assert_eq!(differences(&got, &key), vec![], "{}", text);
                prop_assert_eq!(differences(&p.mask, &mask), vec![], "{}", text);
            }
        }
    }

    #[test]
    fn exact_keys_come_back(seed: u64) {
        let key = samples::key(seed);
        let text = flow_key_text(&key, &styles()[0]);
        let (back, fitness) = parse_exact_key(&text, None).unwrap_or_else(|e| panic!("{e}: {text}"));
        prop_assert_eq!((differences(&back, &key), fitness), (vec![], Fitness::Perfect), "{}", text);
    }

    #[test]
    fn actions_come_back(seed: u64, kind in 0..samples::KINDS) {
        let r = &mut Rng::new(seed);
        let mut actions = vec![samples::action(r, kind, 3)];
        actions.extend(samples::actions(r, 2));
        let text = actions_text(&actions, None);
        prop_assert_eq!(parse_actions(&text, None), Some(actions), "{}", text);
    }

    #[test]
    fn any_text_is_answered(text in "[a-z_]{1,9}\\([a-z0-9_=(),./:{}+-]{0,60}\\)?") {
        crate::fuzz::text(&text);
    }

    #[test]
    fn damaged_text_is_answered(seed: u64, at: usize, with in "[ -~]{0,3}", cut in 0usize..4) {
        let key = samples::key(seed);
        let mut r = Rng::new(seed);
        let text = flow_text(&key, &samples::mask(seed, &key), &styles()[1]);
        for mut text in [text, actions_text(&samples::actions(&mut r, 3), None)] {
            let at = at % (text.len() + 1);
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &with);
            crate::fuzz::text(&text);
        }
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("clone(", ")"), ("encap(", ")"), ("sample(sample=1%,actions(", "))")] {
        for depth in [5, 100_000] {
            let text = open.repeat(depth) + &close.repeat(depth);
            assert_eq!(parse_actions(&text, None).is_some(), depth < 32 && open != "encap(", "{open}");
            let _ = parse_key(&text, None);
        }
    }
}

#[test]
fn ports_by_name() {
    let names = |p: PortNo| (p.0 == 1).then(|| "p1".to_owned());
    let numbers = |n: &str| (n == "p1").then_some(PortNo(1));
    let mut mask = Mask::NONE;
    mask.in_port = u32::MAX;
    let key = Flow { in_port: 1, ..Flow::ZERO };
    let style = Style { names: Some(&names), ..Style::default() };
    assert_eq!(flow_text(&key, &mask, &style), "in_port(p1),eth(),eth_type(0/0xffff)");
    let p = parse_key("in_port(p1),eth(),eth_type(0x0800),ipv4()", Some(&numbers)).unwrap();
    assert_eq!((p.key.in_port, p.key.dl_type), (1, 0x0800));
    assert_eq!(
        parse_actions("p1,2", Some(&numbers)),
        Some(vec![Action::Output(PortNo(1)), Action::Output(PortNo(2))])
    );
    assert_eq!(actions_text(&[Action::Output(PortNo(1))], Some(&names)), "p1");
    assert_eq!(parse_actions("p1", None), None);
}

#[test]
fn drop_is_an_action_and_none() {
    assert_eq!(parse_actions("drop", None), Some(vec![Action::Drop(DropReason::Ok)]));
    assert_eq!(parse_actions("", None), Some(vec![]));
    assert_eq!(actions_text(&[], None), "drop");
}

#[test]
fn errors_say_where() {
    let syntax = parse_key("in_port(1),nonsense(3)", None).unwrap_err();
    assert_eq!(syntax.to_string(), "syntax error at nonsense(3)");
    for (text, why) in [
        ("eth(),eth_type(0x0800),eth()", "duplicate eth attribute in flow key"),
        ("tunnel(src=1.2.3.4)", "tunnel options missing TTL"),
        ("eth(),eth_type(0x10)", "invalid Ethertype 16 in flow key"),
        ("eth()", "mask expected for non-Ethernet II frame"),
    ] {
        assert_eq!(parse_key(text, None).unwrap_err().to_string(), why, "{text}");
    }
    let p = parse_key("eth(),eth_type(0x0800)", None).unwrap();
    assert_eq!(p.fitness, Fitness::TooLittle);
    let p = parse_key("eth(),eth_type(0x0900),ipv4()", None).unwrap();
    assert_eq!(p.fitness, Fitness::TooMuch);
}

#[test]
fn ufid_both_ways() {
    let id = Ufid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let text = format!("ufid:{id}");
    assert_eq!(text, "ufid:01234567-89ab-cdef-0011-223344556677");
    assert_eq!(parse_ufid(&(text.clone() + ", in_port(1)")), Some((id, ", in_port(1)")));
    let p = parse_key(&(text + ",eth(),eth_type(0x1234)"), None).unwrap();
    assert_eq!(p.ufid, Some(id));
    assert_eq!(parse_ufid("ufid:0123"), None);
}
