//! Threads: nothing is lost, nothing is counted twice, and quiet ports are heard.

use super::fake::*;
use crate::Datapath;
use crate::{Core, PollConfig};
use dpif::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PACKETS: u64 = 20_000;

fn machine(cores: u32) -> Vec<Core> {
    (0..cores).map(|id| Core { id, numa: 0 }).collect()
}

/// Sends `PACKETS` packets of eight flows into port 1, while `disturb` runs again and again.
fn traffic(dp: &crate::Datapath, from: &Wire, to: &Wire, queues: usize, mut disturb: impl FnMut(u64)) {
    for n in 0..PACKETS {
        from.arrive(n as usize % queues, &udp(n as u32 % 8, 60));
        if n % 500 == 0 {
            disturb(n / 500);
            // Slow enough for the queue of upcalls, should all be misses.
            let waiting = || dp.port_totals(PortNo(1)).map_or(0, |t| t.upcalled.saturating_sub(t.reinjected));
            eventually("backlog", || from.backlog() < 256 && waiting() < 256);
        }
    }
    eventually("all packets", || to.count() == PACKETS || !dp.drops().is_empty());
    assert_eq!(dp.drops(), []);
    let t = dp.port_totals(PortNo(1)).unwrap();
    assert_eq!(t.received, PACKETS);
    assert_eq!(t.received + t.copied + t.reinjected, t.output + t.upcalled + t.finished + t.dropped);
    assert_eq!(dp.port_totals(PortNo(2)).unwrap().sent, PACKETS);
}

#[test]
fn socket_threads_forward_everything_while_ports_and_threads_change() {
    let (a, b) = (Wire::new("a", false, 2, true), Wire::new("b", false, 1, true));
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    traffic(&dp, &a, &b, 2, |round| {
        let other = Wire::new("c", false, 1, true);
        let no = dp.port_add(other.device(), None).unwrap();
        let config = dp.polling_config();
        dp.configure_polling(PollConfig { socket_threads: round as usize % 3 + 1, ..config });
        dp.port_del(no).unwrap();
    });
}

#[test]
fn polling_threads_forward_everything_while_queues_move() {
    let (a, b) = (Wire::new("a", true, 2, true), Wire::new("b", true, 1, true));
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    let config = PollConfig { machine: machine(3), ..dp.polling_config() };
    traffic(&dp, &a, &b, 2, |round| {
        let cores = vec![round as u32 % 3, (round as u32 + 1) % 3];
        dp.configure_polling(PollConfig { pmd_cores: Some(cores.clone()), ..config.clone() });
        let affinity = BTreeMap::from([(0, cores[0])]);
        dp.set_affinity(PortNo(1), if round % 2 == 0 { affinity } else { BTreeMap::new() }).unwrap();
    });
    let pmds: Vec<_> = dp.flow_dump().iter().filter_map(|f| f.pmd).collect();
    assert!(pmds.iter().all(|p| *p < 3));
}

#[test]
fn a_queue_without_a_core_waits_for_one() {
    let (a, b) = (Wire::new("a", true, 1, true), Wire::new("b", false, 1, true));
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    let config = PollConfig { machine: machine(2), ..dp.polling_config() };
    dp.configure_polling(PollConfig { pmd_cores: Some(vec![9]), ..config.clone() });
    a.arrive(0, &udp(1, 60));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!((a.backlog(), b.count()), (1, 0));
    dp.configure_polling(config);
    eventually("the packet", || b.count() == 1);
}

#[test]
fn counters_of_removed_flows_are_final() {
    for polled in [false, true] {
        let (a, b) = (Wire::new("a", polled, 1, true), Wire::new("b", false, 1, true));
        let switch = Switch::to_port(2);
        let dp = datapath(&[&a, &b], &switch);
        let mut counted = 0;
        traffic(&dp, &a, &b, 1, |_| {
            for flow in dp.flow_dump() {
                counted += dp.flow_del(flow.ufid, flow.pmd).unwrap().packets;
            }
        });
        counted += dp.flow_dump().iter().map(|f| f.stats.packets).sum::<u64>();
        // A packet that missed is either one that the switch answered for itself, or found the megaflow
        // that another had brought meanwhile.
        assert_eq!(counted + switch.upcalls.load(Ordering::SeqCst), PACKETS);
    }
}

#[test]
fn handlers_come_and_go() {
    let (a, b) = (Wire::new("a", false, 1, true), Wire::new("b", false, 1, true));
    // Nothing is installed: every packet is an upcall.
    let switch = Switch::new(|_| UpcallReply { actions: vec![Action::Output(PortNo(2))].into(), flow: None });
    let dp = datapath(&[&a, &b], &switch);
    traffic(&dp, &a, &b, 1, |round| dp.set_handlers(round as usize % 4));
}

#[test]
fn a_flood_of_new_flows_does_not_silence_another_port() {
    const FLOOD: u32 = 2 * crate::UPCALLS_MAX as u32;
    let wires: Vec<_> = ["flood", "quiet", "out"].map(|n| Wire::new(n, false, 1, true)).into();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = parking_lot::Mutex::new(wait);
    // The switch is busy until the flood is over.
    let switch = Switch::new(move |_| {
        let _ = wait.lock().recv();
        UpcallReply { actions: vec![Action::Output(PortNo(3))].into(), flow: None }
    });
    let dp = datapath(&wires.iter().collect::<Vec<_>>(), &switch);
    for n in 0..FLOOD {
        wires[0].arrive(0, &udp(n, 60));
    }
    eventually("the flood", || wires[0].backlog() == 0);
    for n in 0..200 {
        wires[1].arrive(0, &udp(n, 60));
    }
    eventually("the quiet port", || dp.port_totals(PortNo(2)).unwrap().received == 200);
    drop(go);
    eventually("answers", || {
        let all: Vec<_> = (1..=2).map(|n| dp.port_totals(PortNo(n)).unwrap()).collect();
        all.iter().all(|t| t.upcalled == t.reinjected) && all[1].output == 200
    });
    let (flood, quiet) = (dp.port_totals(PortNo(1)).unwrap(), dp.port_totals(PortNo(2)).unwrap());
    assert_eq!((quiet.dropped, quiet.output), (0, 200));
    assert_eq!(flood.dropped + flood.upcalled, u64::from(FLOOD));
    assert!(flood.dropped > 0 && dp.stats().lost == flood.dropped);
}

#[test]
fn a_descriptor_that_lies_keeps_nobody_busy() {
    let (a, b) = (Wire::new("a", false, 1, true), Wire::new("b", false, 1, true));
    let _dp = datapath(&[&a, &b], &Switch::to_port(2));
    a.is_stuck.store(true, Ordering::SeqCst);
    a.lie(0);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let asked = a.asked_in_vain.load(Ordering::SeqCst);
    assert!((10..1000).contains(&asked), "{asked}");
    a.arrive(0, &udp(1, 60));
    b.arrive(0, &udp(1, 60));
    eventually("both packets", || b.count() == 2);
}

/// Two polled wires and a thread for them, before a switch.
fn polled(switch: &Arc<Switch>) -> (Arc<Wire>, Arc<Wire>, Arc<Datapath>) {
    let (a, b) = (Wire::new("a", true, 1, true), Wire::new("b", true, 1, true));
    let dp = datapath(&[&a, &b], switch);
    let machine = vec![crate::Core { id: 0, numa: 0 }];
    dp.configure_polling(crate::PollConfig { machine, pmd_cores: Some(vec![0]), ..dp.polling_config() });
    (a, b, dp)
}

fn is_balanced(dp: &Datapath) -> bool {
    let t = dp.port_totals(PortNo(1)).unwrap();
    t.received + t.reinjected == t.output + t.upcalled + t.finished + t.dropped
}

#[test]
fn a_thread_with_time_to_spare_answers_while_handlers_hang() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = parking_lot::Mutex::new(wait);
    let to_b = || reply(vec![Action::Output(PortNo(2))]);
    let hang = move |_: &Upcall<'_>| {
        let _ = wait.lock().recv_timeout(std::time::Duration::from_secs(60));
        to_b()
    };
    // The first packet hangs a handler; the thread answers the others, of which each is a flow of its own.
    let tried = |u: &Upcall<'_>| {
        if u.key.nw_dst & 0xffff == 0 {
            Err(Declined::Heavy)
        } else {
            Ok(reply(vec![Action::Output(PortNo(2))]))
        }
    };
    let switch = Switch::helped(hang, tried);
    let (a, b, dp) = polled(&switch);
    a.arrive(0, &udp(0, 60));
    eventually("the only handler to hang", || switch.upcalls.load(Ordering::SeqCst) == 1);
    (1..1_000).for_each(|n| a.arrive(0, &udp(n, 60)));
    eventually("what the thread can answer", || b.count() == 999);
    assert_eq!(dp.flow_count(), 999);
    let by_threads = || dp.state.lock().threads.iter().map(|t| t.stats.answered.get()).sum::<u64>();
    eventually("the count", || by_threads() == 999);
    drop(go);
    eventually("what was left to a handler", || b.count() == 1_000);
    assert_eq!(dp.flow_count(), 1_000);
    // All are known now.
    (0..1_000).for_each(|n| a.arrive(0, &udp(n, 60)));
    eventually("known flows", || b.count() == 2_000);
    assert_eq!(switch.upcalls.load(Ordering::SeqCst), 1_000);
    assert!(is_balanced(&dp) && dp.drops().is_empty());
}

#[test]
fn what_is_taken_just_now_is_tried_again() {
    let busy = AtomicU64::new(0);
    let tried = move |_: &Upcall<'_>| {
        let is_busy = !busy.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        if is_busy { Err(Declined::Busy) } else { Ok(reply(vec![Action::Output(PortNo(2))])) }
    };
    let switch = Switch::helped(|_| reply(vec![Action::Output(PortNo(2))]), tried);
    let (a, b, dp) = polled(&switch);
    for n in 0..32 {
        a.arrive(0, &udp(n, 60));
        eventually("a packet", || b.count() == u64::from(n) + 1);
    }
    assert_eq!((dp.flow_count(), switch.upcalls.load(Ordering::SeqCst)), (32, 32));
    assert!(is_balanced(&dp) && dp.drops().is_empty());
}

#[test]
fn beyond_the_limit_packets_go_out_and_are_not_remembered() {
    let tried = |_: &Upcall<'_>| Ok(reply(vec![Action::Output(PortNo(2))]));
    let switch = Switch::helped(|_| reply(vec![Action::Output(PortNo(2))]), tried);
    let (a, b, dp) = polled(&switch);
    dp.set_flow_limit(10);
    (0..50).for_each(|n| a.arrive(0, &udp(n, 60)));
    eventually("all packets", || b.count() == 50);
    assert_eq!(dp.flow_count(), 10);
    let full = |switch: &Switch| switch.installed.lock().iter().filter(|(_, r)| r.is_err()).count();
    assert_eq!(full(&switch), 40);
}

#[test]
fn queues_of_many_ports_are_spread_and_threads_end_with_the_last() {
    let dp = Datapath::new("netdev@test", clock::Clock::new());
    dp.configure_polling(PollConfig { socket_threads: 2, ..dp.polling_config() });
    let queues = || dp.state.lock().threads.iter().map(|t| t.queues).collect::<Vec<_>>();
    let wires: Vec<_> = (0..20).map(|n| Wire::new(&format!("w{n}"), false, 1, true)).collect();
    let ports: Vec<_> = wires.iter().map(|w| dp.port_add(w.device(), None).unwrap()).collect();
    assert_eq!(queues(), [10, 10]);
    for port in &ports[..19] {
        dp.port_del(*port).unwrap();
    }
    assert_eq!(queues().iter().sum::<usize>(), 1);
    dp.port_del(ports[19]).unwrap();
    assert_eq!(queues(), []);
    // And they come back.
    dp.port_add(wires[0].device(), None).unwrap();
    let mut spread = queues();
    spread.sort_unstable();
    assert_eq!(spread, [0, 1]);
}
