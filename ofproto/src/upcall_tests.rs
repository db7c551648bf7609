//! Answers for threads that may wait and for those that may not.

use crate::admin::NewPort;
use crate::fabric::Fabric;
use crate::flow_mod::{Change, Command, Filter};
use crate::ids::SwitchId;
use crate::port::{Attachment, BundleSettings, LinkFacts};
use crate::rule::RuleFlags;
use crate::tunnel::{Endpoints, Listener};
use clock::Clock;
use dpif::fake::NoDpif;
use dpif::tunnel::mapped;
use dpif::{Action, Declined, PortNo, Ufid, Upcall, UpcallHandler, UpcallKind, Userdata};
use flow::text::NoNames;
use flow::{Flow, Match};
use openflow::action::Parser;
use packet::Packet;
use packet::tunnel::TunnelKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A switch with two ports, of which the second has an address, and one rule for everything.
fn fabric(actions: &str) -> (Arc<Fabric>, SwitchId) {
    let fabric = Fabric::new(Arc::new(NoDpif), Clock::new());
    let mut state = fabric.write();
    let id = state.add_switch("br0", 1);
    for no in 1..=2 {
        let name = format!("p{no}");
        let addresses = if no == 2 { vec![mapped(0x0a00_0001)] } else { Vec::new() };
        let link = LinkFacts { admin_up: true, carrier: true, addresses, ..LinkFacts::default() };
        let attachment = Attachment::Datapath(PortNo(no));
        let (kind, name) = ("dummy".into(), name.as_str());
        let new = NewPort { name: name.into(), kind, attachment, wanted: None, is_local: false, link };
        let no = state.add_port(id, new, 0).unwrap();
        state.switch_mut(id).unwrap().set_bundle(BundleSettings::trunk(name, no));
    }
    let change = Change {
        command: Command::Add,
        matching: (&Match::catchall()).into(),
        priority: 1,
        filter: Filter { table: 0, ..Filter::ALL },
        new_cookie: 0,
        modify_cookie: true,
        idle_timeout_s: 0,
        hard_timeout_s: 0,
        importance: 0,
        flags: RuleFlags::empty(),
        check_overlap: false,
        reset_counts: false,
        actions: Parser::new(&NoNames).instructions(actions).unwrap().into(),
    };
    state.switch_mut(id).unwrap().apply(&change, 0).unwrap();
    drop(state);
    (fabric, id)
}

/// Asks by `f` about a packet that is number `n`.
fn ask<T>(n: u128, kind: UpcallKind, f: impl FnOnce(Upcall<'_>) -> T) -> T {
    let text = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
    ask_about(text, n, kind, f)
}

/// As [`ask`], about a packet with this key.
fn ask_about<T>(text: &str, n: u128, kind: UpcallKind, ask: impl FnOnce(Upcall<'_>) -> T) -> T {
    let key: Arc<Flow> = Arc::new(dpif::text::parse_key(text, None).unwrap().key);
    let mut packet = Packet::from_slice(&[0; 60]);
    ask(Upcall { kind, packet: &mut packet, key: &key, ufid: Ufid(n), pmd: Some(1) })
}

#[test]
fn a_thread_that_only_tries_gets_the_same_answer() {
    let (fabric, id) = fabric("normal");
    let waited = ask(1, UpcallKind::Miss, |u| fabric.upcall(u));
    let tried = ask(2, UpcallKind::Miss, |u| fabric.try_upcall(u)).unwrap();
    assert_eq!(*waited.actions, [Action::Output(PortNo(2))]);
    assert_eq!(waited.actions, tried.actions);
    let (waited, tried) = (waited.flow.unwrap(), tried.flow.unwrap());
    assert_eq!((waited.mask, waited.actions), (tried.mask, tried.actions));
    assert_eq!(fabric.megaflows.len(), 2);
    // Both packets are counted, and their source is learned.
    let state = fabric.read();
    let switch = state.switch(id).unwrap();
    let packets: u64 = switch.tables[0].iter().map(|r| r.counters.count().packets).sum();
    assert_eq!((packets, switch.macs.lock().len()), (2, 1));
    // A second packet of a flow whose megaflow is under way is not to be installed once more.
    drop(state);
    assert!(ask(2, UpcallKind::Miss, |u| fabric.try_upcall(u)).unwrap().flow.is_none());
    fabric.installed(Ufid(2), Some(1), Err(dpif::DpifError::Full));
    assert_eq!(fabric.megaflows.len(), 1);
}

#[test]
fn what_would_wait_or_change_tables_is_declined_and_leaves_nothing() {
    let (fabric, id) = fabric("learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),output:2");
    let rules = |fabric: &Fabric| {
        let state = fabric.read();
        let switch = state.switch(id).unwrap();
        let counted: u64 = switch.tables[0].iter().map(|r| r.counters.count().packets).sum();
        (switch.tables[1].iter().count(), counted)
    };
    assert_eq!(ask(1, UpcallKind::Miss, |u| fabric.try_upcall(u)).unwrap_err(), Declined::Heavy);
    let slow = UpcallKind::Action(Userdata::SlowPath(dpif::SlowPath::empty()));
    assert_eq!(ask(1, slow, |u| fabric.try_upcall(u)).unwrap_err(), Declined::Heavy);
    let writer = fabric.write();
    assert_eq!(ask(1, UpcallKind::Miss, |u| fabric.try_upcall(u)).unwrap_err(), Declined::Busy);
    drop(writer);
    assert_eq!((rules(&fabric), fabric.megaflows.len()), ((0, 0), 0));
    ask(1, UpcallKind::Miss, |u| fabric.upcall(u));
    assert_eq!((rules(&fabric), fabric.megaflows.len()), ((1, 1), 1));
}

#[test]
fn what_neighbours_say_is_heard_in_order_each_time() {
    let (fabric, _) = fabric("normal");
    let says = |mac: &str, n| {
        let text = format!(
            "in_port(1),eth(src={mac},dst=02:00:00:00:00:02),eth_type(0x0806),\
             arp(sip=10.0.0.2,tip=10.0.0.1,op=2,sha={mac},tha=02:00:00:00:00:02)"
        );
        ask_about(&text, n, UpcallKind::Miss, |u| fabric.upcall(u))
    };
    let (a, b) = ("02:00:00:00:00:0a", "02:00:00:00:00:0b");
    let heard = || {
        let state = fabric.read();
        let known = state.underlay.neighbour(&"br0".into(), mapped(0x0a00_0002), fabric.clock.now_ms());
        known.map(|mac| mac.to_string())
    };
    assert!(says(a, 9).flow.is_some(), "without a tunnel, it is traffic like any other");
    assert_eq!(heard(), None);
    let (name, udp_port) = ("vxlan_sys_4789".to_owned(), 4789);
    let listener = Listener { name, port: PortNo(9), kind: TunnelKind::Vxlan, udp_port, users: 1 };
    fabric.write().endpoints = Endpoints::new(vec![listener], &BTreeMap::new());
    for (mac, n) in [(a, 1), (b, 2), (a, 3), (b, 4)] {
        let reply = says(mac, n);
        assert_eq!(*reply.actions, [Action::Output(PortNo(2))]);
        assert!(reply.flow.is_none(), "the next one is to be heard, too");
        assert_eq!(heard().as_deref(), Some(mac));
    }
}

#[test]
fn who_is_to_look_now_does_not_wait_for_the_next_tick() {
    let (fabric, _) = fabric("drop");
    fabric.look_now();
    let begin = std::time::Instant::now();
    fabric.next_order(60_000, 60_000);
    assert!(begin.elapsed().as_secs() < 30);
}
