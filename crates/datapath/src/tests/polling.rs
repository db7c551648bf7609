//! What the configuration says about polling threads while packets pass.

use super::fake::*;
use crate::{AutoBalance, Core, Datapath, PerfShown, PollConfig};
use dpif::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PACKETS: u64 = 2_000;

/// Two cores, and a port of two queues.
fn rig() -> (Arc<Wire>, Arc<Wire>, Arc<Datapath>) {
    let (a, b) = (Wire::new("a", true, 2, true), Wire::new("b", true, 1, true));
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    let machine = [0, 1].map(|id| Core { id, numa: 0 }).to_vec();
    dp.configure_polling(PollConfig { machine, pmd_cores: Some(vec![0, 1]), ..dp.polling_config() });
    (a, b, dp)
}

/// Sends packets of one flow into both queues, a few at a time.
fn send(a: &Wire, b: &Wire) {
    let before = b.count();
    for n in 0..PACKETS {
        a.arrive(n as usize % 2, &udp(1, 60));
        if n % 64 == 0 {
            eventually("backlog", || a.backlog() < 64);
        }
    }
    eventually("all packets", || b.count() == before + PACKETS);
}

fn number(text: &str, name: &str) -> u64 {
    let line =
        text.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.trim_start_matches([':', ' ']).split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn queues_of_an_overloaded_thread_move_without_loss() {
    let (a, b, dp) = rig();
    let config = dp.polling_config();
    dp.set_affinity(PortNo(1), [(0, 0), (1, 0)].into()).unwrap();
    dp.configure_polling(PollConfig {
        isolate: false,
        assign: crate::Policy::Group,
        auto_balance: AutoBalance { is_on: true, ..AutoBalance::default() },
        ..config
    });
    dp.set_affinity(PortNo(1), Default::default()).unwrap();
    // Where queues stay until somebody moves them: both with core 0.
    let places = |dp: &Datapath| {
        let text = dp.pmd_rxq_show(None, None);
        let core_1 = text.split("core_id 1:").nth(1).unwrap().to_owned();
        core_1.matches("port: a").count()
    };
    assert_eq!(places(&dp), 0);
    {
        let mut state = dp.state.lock();
        let state = &mut *state;
        for rx in state.ports.values_mut().flat_map(|p| &mut p.rx) {
            rx.usage.roll(if rx.id < 2 { 400 } else { 0 });
        }
        for thread in &mut state.threads {
            thread.total_usage.roll(1000);
            thread.overloaded = crate::usage::INTERVALS as u32;
        }
    }
    std::thread::scope(|s| {
        s.spawn(|| send(&a, &b));
        for _ in 0..20 {
            dp.auto_balance(&mut dp.state.lock());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(dp.drops(), []);
    assert_eq!(places(&dp), 1, "one queue each");
}

#[test]
fn a_queue_that_is_never_empty_leaves_others_their_turn() {
    let (a, b, dp) = rig();
    dp.configure_polling(PollConfig { pmd_cores: Some(vec![0]), ..dp.polling_config() });
    a.is_endless.store(true, Ordering::SeqCst);
    eventually("the flood passes", || b.count() > PACKETS);
    a.arrive(1, &udp(2, 60));
    eventually("the other queue's turn", || a.backlog() == 0);
    a.is_endless.store(false, Ordering::SeqCst);
    assert!(number(&dp.pmd_stats_show(None), "packets received") > PACKETS);
}

#[test]
fn packets_that_wait_for_others_leave_in_time_and_with_naps() {
    let (a, b, dp) = rig();
    dp.configure_polling(PollConfig { tx_flush_us: 200, ..dp.polling_config() });
    send(&a, &b);
    a.arrive(0, &udp(1, 60));
    eventually("a packet alone", || b.count() == PACKETS + 1);
    dp.configure_polling(PollConfig { max_sleep_us: 500, ..dp.polling_config() });
    dp.shared.clock.warp(Duration::from_millis(1));
    send(&a, &b);
    eventually("naps", || number(&dp.pmd_perf_show(None, PerfShown::default()), "- sleep iterations") > 0);
    assert_eq!(dp.drops(), []);
}

#[test]
fn turns_are_recorded_when_that_is_wanted() {
    let (a, b, dp) = rig();
    let all = PerfShown { histograms: true, turns: 5, milliseconds: 5 };
    let text = dp.pmd_perf_show(None, all);
    assert!(text.contains("Measurement duration: 0.000 s") && !text.contains("Histograms"), "{text}");
    dp.configure_polling(PollConfig { perf_metrics: true, ..dp.polling_config() });
    send(&a, &b);
    dp.shared.clock.warp(Duration::from_millis(1));
    let text = || dp.pmd_perf_show(None, all);
    // Of all turns of milliseconds that are over: packets of each.
    let packets = || {
        let text = text();
        let sums = text.lines().skip_while(|l| !l.starts_with("---")).nth(2);
        sums.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    eventually("the packets' milliseconds are over", || packets() > 0.0);
    // Histograms with their sums, turns and milliseconds of both threads.
    for (heading, times) in
        [("Histograms", 2), ("packets/it", 4), ("   iter ", 2), ("   ms ", 2), ("Kpps ", 2)]
    {
        // Each thread notes its milliseconds when it comes to it.
        eventually(heading, || text().matches(heading).count() == times);
    }
}

#[test]
fn what_is_remembered_and_how_it_is_counted() {
    let (a, b, dp) = rig();
    let hits = |dp: &Datapath| {
        let text = dp.pmd_stats_show(None);
        let sum = |name| text.split(" core_id ").skip(1).map(|t| number(t, name)).sum::<u64>();
        ["emc hits", "smc hits", "megaflow hits"].map(sum)
    };
    send(&a, &b);
    let [emc, smc, _] = hits(&dp);
    assert!(emc > PACKETS / 2 && smc == 0);
    // Not this port's packets.
    assert!(dp.set_emc(PortNo(1), false).unwrap() && !dp.set_emc(PortNo(1), false).unwrap());
    dp.pmd_stats_clear(None);
    send(&a, &b);
    let [emc, smc, megaflow] = hits(&dp);
    assert!(smc == 0 && megaflow > 0, "{emc} {megaflow}");
    // But signatures of them.
    dp.configure_polling(PollConfig { signatures: true, ..dp.polling_config() });
    dp.pmd_stats_clear(None);
    send(&a, &b);
    let [emc, smc, _] = hits(&dp);
    assert!(emc == 0 && smc > PACKETS / 2, "{emc} {smc}");
}

#[test]
fn polling_threads_see_to_the_connection_table() {
    let (a, b, dp) = rig();
    let ct = dp.conntrack();
    eventually("threads that serve", || ct.is_served());
    for n in 0..200 {
        let mut frame = udp(n, 60);
        let sum = packet::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut p = packet::Packet::from_slice(&frame);
        p.offload.checksum = packet::Checksum::Good;
        packet::parse::flow_of(&mut p, &packet::Meta::default());
        let request = conntrack::Request { commit: true, zone: 1, ..conntrack::Request::default() };
        let family = conntrack::Family::V4;
        ct.process(&mut p, family, &mut conntrack::PacketCt::default(), &request, dp.now_ms());
    }
    let made = ct.len();
    assert_eq!(made, 200);
    let before = ct.steps_served();
    assert_eq!(ct.dump_all(Some(1), dp.now_ms()).len(), made as usize);
    ct.flush(Some(1));
    // Between naps and with packets to pass, as well.
    let config = dp.polling_config();
    dp.configure_polling(PollConfig { max_sleep_us: 500, ..config });
    std::thread::scope(|s| {
        s.spawn(|| send(&a, &b));
        ct.sweep(conntrack::SHARDS as u32, dp.now_ms());
    });
    eventually("nothing left", || ct.stored() == 0);
    assert!(ct.steps_served() > before);
}
