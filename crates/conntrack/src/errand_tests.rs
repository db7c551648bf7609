use super::*;
use crate::tests::{A, B, NOW, commit, nat, state, udp};
use crate::track::PARTS_LOCKED;
use crate::{Family, PacketCt, Request, SHARDS};
use dpif::NatDirection;
use dpif::ct::CtMatch;
use packet::proto::ip_proto;
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

/// What is asked for while somebody polls.
#[derive(Clone, Debug)]
enum Ask {
    Connect(u8, u8, bool),
    Flush(u8),
    FlushUdp(u8),
    Sweep(u16, u16),
    Dump(Option<u8>),
    Save,
    Restock,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        8 => (any::<u8>(), 0..3u8, any::<bool>()).prop_map(|(n, zone, is_nat)| Ask::Connect(n, zone, is_nat)),
        1 => (0..3u8).prop_map(Ask::Flush),
        1 => (0..3u8).prop_map(Ask::FlushUdp),
        2 => (0..2048u16, 0..400u16).prop_map(|(parts, seconds)| Ask::Sweep(parts, seconds)),
        2 => prop::option::of(0..3u8).prop_map(Ask::Dump),
        1 => Just(Ask::Save),
        1 => Just(Ask::Restock),
    ]
}

/// Does it. The answer in text.
fn answer(ct: &Conntrack, ask: &Ask, now: &mut u64) -> String {
    let sorted = |mut all: Vec<String>| {
        all.sort_unstable();
        format!("{all:?}")
    };
    match ask {
        Ask::Connect(n, zone, is_nat) => {
            let to = nat(NatDirection::Src, 0x0a09_0909, None);
            let request = Request { zone: (*zone).into(), nat: is_nat.then_some(&to), ..commit() };
            let mut meta = PacketCt::default();
            let mut p = udp((A + u32::from(*n), 1), (B, 2));
            ct.process(&mut p, Family::V4, &mut meta, &request, *now);
            format!("{:?}", meta.meta.state)
        }
        Ask::Flush(zone) => ct.flush(Some((*zone).into())).to_string(),
        Ask::FlushUdp(zone) => {
            let wanted = CtMatch { proto: ip_proto::UDP, ..CtMatch::default() };
            format!("{:?}", ct.flush_matching(Some((*zone).into()), &wanted, *now))
        }
        Ask::Sweep(parts, seconds) => {
            *now += u64::from(*seconds) * 100;
            ct.sweep((*parts).into(), *now).to_string()
        }
        Ask::Dump(zone) => {
            let all = ct.dump_all(zone.map(Into::into), *now);
            sorted(all.iter().map(|e| format!("{e:?}")).collect())
        }
        Ask::Save => sorted(ct.save(*now).conns.iter().map(|c| format!("{c:?}")).collect()),
        Ask::Restock => {
            ct.restock();
            String::new()
        }
    }
}

/// Runs `f` on a thread of its own, while this one polls. Says how many steps it took.
fn served<R: Send>(ct: &Arc<Conntrack>, slots: u32, f: impl FnOnce() -> R + Send) -> (R, u32) {
    ct.board.patience.store(u32::MAX, SeqCst);
    let serving = ct.serving();
    let mut steps = 0;
    let result = std::thread::scope(|scope| {
        let asking = scope.spawn(f);
        while !asking.is_finished() {
            match ct.serve(slots) {
                true => steps += 1,
                false => std::thread::yield_now(),
            }
        }
        asking.join().unwrap()
    });
    drop(serving);
    (result, steps)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whether somebody polls or not makes no difference but to who does it.
    #[test]
    fn it_is_done_as_by_the_caller(asks in prop::collection::vec(ask(), 1..60), slots in 1..20u32) {
        let (alone, polled) = (Conntrack::new(3), Arc::new(Conntrack::new(3)));
        let (mut now, mut later) = (NOW, NOW);
        let expected: Vec<String> = asks.iter().map(|a| answer(&alone, a, &mut now)).collect();
        let (answers, _) = served(&polled, slots, || {
            asks.iter().map(|a| answer(&polled, a, &mut later)).collect::<Vec<String>>()
        });
        prop_assert_eq!(answers, expected);
        prop_assert_eq!((polled.len(), polled.stored()), (alone.len(), alone.stored()));
    }
}

fn connect(ct: &Conntrack, n: u32) {
    let nat = nat(NatDirection::Src, 0x0a09_0909, None);
    for i in 0..n {
        let request = Request { zone: 1, nat: (i % 4 == 0).then_some(&nat), ..commit() };
        state(ct, udp((A + i / 50_000, 1 + (i % 50_000) as u16), (B, 53)), &request);
    }
}

/// A thread that holds a part's lock may lose its core, and who polls would wait for it.
#[test]
fn who_asks_takes_no_lock_that_polling_threads_wait_for() {
    let ct = Arc::new(Conntrack::new(3));
    connect(&ct, 20_000);
    let wanted = CtMatch { proto: ip_proto::UDP, ..CtMatch::default() };
    let (locked, steps) = served(&ct, 8, || {
        PARTS_LOCKED.set(0);
        ct.restock();
        assert_eq!(ct.dump_all(None, NOW).len(), 20_000);
        assert_eq!(ct.save(NOW).conns.len(), 20_000);
        ct.flush_matching(Some(9), &wanted, NOW).unwrap();
        ct.flush(Some(1));
        assert_eq!(ct.sweep(SHARDS as u32, NOW), 20_000);
        PARTS_LOCKED.get()
    });
    assert_eq!((ct.len(), ct.stored(), locked), (0, 0, 0));
    // Eight slots of some 20 in each part, three times.
    assert!(steps > 3 * SHARDS as u32 * 2, "{steps}");
}

/// Whoever asks may lose its core as well, with the board's lock.
#[test]
fn who_polls_does_not_wait_for_the_board() {
    let ct = Arc::new(Conntrack::new(3));
    let _serving = ct.serving();
    ct.board.is_posted.store(true, SeqCst);
    let held = ct.board.task.lock();
    assert!(!ct.serve(8), "somebody else has it");
    drop(held);
    assert!(!ct.serve(8), "there is none");
}

#[test]
fn what_nobody_comes_for_the_caller_does() {
    let ct = Arc::new(Conntrack::new(3));
    connect(&ct, 10);
    let serving = ct.serving();
    ct.board.patience.store(1, SeqCst);
    assert_eq!(ct.dump_all(None, NOW).len(), 10);
    ct.flush(None);
    assert_eq!(ct.sweep(SHARDS as u32, NOW), 10);
    assert!(!ct.serve(8));
    drop(serving);
    assert!(!ct.board.is_served());
}
