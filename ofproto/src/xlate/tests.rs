//! Translation over a few switches, without a datapath.

use super::{Input, SwitchInput, Translation, trace, translate, translate_switch};
use crate::admin::NewPort;
use crate::fabric::Fabric;
use crate::flow_mod::{Change, Command, Filter};
use crate::ids::{OfPort, SwitchId};
use crate::overrides::{Owner, Wanted};
use crate::port::{Attachment, BundleSettings, LinkFacts};
use crate::rule::RuleFlags;
use clock::Clock;
use dpif::fake::NoDpif;
use dpif::{Action, PortNo};
use flow::text::NoNames;
use flow::{EthAddr, Flow, Match};
use openflow::action::Parser;
use openflow::msg::group::{Bucket, GroupType};
use std::sync::Arc;

struct World {
    fabric: Arc<Fabric>,
}

impl World {
    fn new() -> Self {
        World { fabric: Fabric::new(Arc::new(NoDpif), Clock::new()) }
    }

    /// A switch with ports 1 to `n`, datapath ports `base + 1` and up.
    fn switch(&self, name: &str, base: u32, n: u16) -> SwitchId {
        let mut state = self.fabric.write();
        let id = state.add_switch(name, 1);
        for no in 1..=n {
            self.port(
                &mut state,
                id,
                &format!("{name}-{no}"),
                Attachment::Datapath(PortNo(base + u32::from(no))),
            );
        }
        id
    }

    fn port(
        &self,
        state: &mut crate::switch::State,
        id: SwitchId,
        name: &str,
        attachment: Attachment,
    ) -> OfPort {
        let link = LinkFacts { admin_up: true, carrier: true, ..LinkFacts::default() };
        let new = NewPort {
            name: name.into(),
            kind: "dummy".into(),
            attachment,
            wanted: None,
            is_local: false,
            link,
        };
        let no = state.add_port(id, new, 0).unwrap();
        state.switch_mut(id).unwrap().set_bundle(BundleSettings::trunk(name, no));
        no
    }

    fn add_flow(&self, id: SwitchId, table: u8, priority: u16, m: &str, actions: &str) {
        let matching = if m.is_empty() {
            Match::catchall()
        } else {
            flow::text::parse_match(m, &NoNames, None).unwrap().0
        };
        let change = Change {
            command: Command::Add,
            matching: (&matching).into(),
            priority,
            filter: Filter { table, ..Filter::ALL },
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
        self.fabric.write().switch_mut(id).unwrap().apply(&change, 0).unwrap();
    }

    fn run(&self, in_port: u32, packet: &str) -> Translation {
        let (mut key, _) = flow::text::parse_exact_flow(packet, None, &NoNames).unwrap();
        key.in_port = in_port;
        let input = Input { key: &key, packet: None, side_effects: true };
        translate(&self.fabric, &self.fabric.read(), input)
    }
}

fn outputs(t: &Translation) -> Vec<u32> {
    let port = |a: &Action| if let Action::Output(p) = a { Some(p.0) } else { None };
    t.actions.iter().filter_map(port).collect()
}

const TCP: &str =
    "tcp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_dst=80";

#[test]
fn pipeline_of_tables_outputs_and_looks_at_no_more_than_it_must() {
    let w = World::new();
    let sw = w.switch("br0", 10, 3);
    w.add_flow(sw, 0, 10, "in_port=1", "set_field:7->reg0,goto_table:1");
    w.add_flow(sw, 1, 10, "ip,nw_dst=10.0.0.0/24", "resubmit(,2)");
    w.add_flow(sw, 2, 10, "reg0=7", "output:2,output:1,output:3");
    let t = w.run(11, TCP);
    assert_eq!(outputs(&t), [12, 13]);
    assert_eq!((t.mask.nw_dst, t.mask.nw_src, t.mask.tp_dst, t.mask.regs[0]), (0xffff_ff00, 0, 0, 0));
    assert_eq!(t.mask.dl_dst, EthAddr::ZERO);
}

#[test]
fn miss_drops() {
    let w = World::new();
    w.switch("br0", 10, 1);
    let t = w.run(11, TCP);
    assert_eq!(t.actions, [Action::Drop(dpif::DropReason::Ok)]);
    assert!(w.run(99, TCP).error == dpif::DropReason::BridgeNotFound);
}

#[test]
fn normal_learns_and_forwards() {
    let w = World::new();
    let sw = w.switch("br0", 10, 3);
    w.add_flow(sw, 0, 0, "", "NORMAL");
    let t = w.run(11, TCP);
    assert_eq!(outputs(&t), [12, 13]);
    let passed = crate::effects::Passed {
        count: crate::rule::Count { packets: 1, bytes: 60 },
        used_ms: 5,
        tcp_flags: 0,
    };
    w.fabric.credit(&t.effects, passed);
    let back = "tcp,dl_src=02:00:00:00:00:02,dl_dst=02:00:00:00:00:01,nw_src=10.0.0.2,nw_dst=10.0.0.1";
    assert_eq!(outputs(&w.run(12, back)), [11]);
    let state = w.fabric.read();
    let rule = state.switch(sw).unwrap().tables[0].iter().next().unwrap().clone();
    assert_eq!(rule.counters.count().packets, 1);
}

#[test]
fn patch_ports_join_two_switches() {
    let w = World::new();
    let (a, b) = (w.switch("br0", 10, 1), w.switch("br1", 20, 1));
    let mut state = w.fabric.write();
    let pa = w.port(&mut state, a, "pa", Attachment::Patch { peer: "pb".into() });
    w.port(&mut state, b, "pb", Attachment::Patch { peer: "pa".into() });
    drop(state);
    w.add_flow(a, 0, 0, "", &format!("output:{}", pa.0));
    w.add_flow(b, 0, 0, "in_port=2", "output:1");
    assert_eq!(outputs(&w.run(11, TCP)), [21]);
}

#[test]
fn endless_resubmit_is_cut_off_with_its_reason() {
    let w = World::new();
    let sw = w.switch("br0", 10, 1);
    w.add_flow(sw, 0, 0, "", "resubmit(,0)");
    assert_eq!(w.run(11, TCP).error, dpif::DropReason::RecursionTooDeep);
}

#[test]
fn learned_flow_is_there_for_the_next_packet() {
    let w = World::new();
    let sw = w.switch("br0", 10, 2);
    let learn = "learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)";
    w.add_flow(sw, 0, 0, "", learn);
    let t = w.run(11, TCP);
    assert!(outputs(&t).is_empty());
    let count = crate::rule::Count { packets: 1, bytes: 60 };
    w.fabric.credit(&t.effects, crate::effects::Passed { count, ..Default::default() });
    let back = "tcp,dl_src=02:00:00:00:00:02,dl_dst=02:00:00:00:00:01,nw_src=10.0.0.2,nw_dst=10.0.0.1";
    assert_eq!(outputs(&w.run(12, back)), [11]);
}

#[test]
fn trace_shows_bridge_tables_and_actions() {
    let w = World::new();
    let sw = w.switch("br0", 10, 2);
    w.add_flow(sw, 0, 10, "in_port=1", "goto_table:1");
    w.add_flow(sw, 1, 0, "", "output:2");
    let state = w.fabric.read();
    let (mut flow, _) = flow::text::parse_exact_flow(TCP, None, &NoNames).unwrap();
    flow.in_port = 1;
    let input = SwitchInput {
        switch: sw,
        flow,
        packet: None,
        actions: None,
        is_packet_out: false,
        frozen: None,
        trace: Some(trace::Trace::default()),
    };
    let t = translate_switch(&w.fabric, &state, input);
    let mut out = String::new();
    trace::print(&mut out, &t.trace.unwrap().into_nodes(), 0);
    let want = "\nbridge(\"br0\")\n-------------\n 0. in_port=1, priority 10\n    goto_table:1\n 1. priority 0\n    output:2\n";
    assert_eq!(out, want);
    assert_eq!(Flow::ZERO.in_port, 0);
}

#[test]
fn changed_fields_become_set_actions_before_the_output() {
    let w = World::new();
    let sw = w.switch("br0", 10, 3);
    w.add_flow(sw, 0, 0, "", "output:2,mod_dl_dst:02:00:00:00:00:09,mod_vlan_vid:7,output:3");
    let t = w.run(11, TCP);
    let text = dpif::text::actions_text(&t.actions, None);
    assert_eq!(text, "12,set(eth(dst=02:00:00:00:00:09)),push_vlan(vid=7,pcp=0),13");
    assert_eq!(t.mask.dl_dst, EthAddr::BROADCAST);
}

#[test]
fn a_switch_without_its_controllers_forwards_by_itself() {
    let w = World::new();
    let id = w.switch("br0", 0, 3);
    let key = Flow { in_port: 1, ..Flow::default() };
    let out = |w: &World| {
        let state = w.fabric.read();
        translate(&w.fabric, &state, Input { key: &key, packet: None, side_effects: false }).actions.to_vec()
    };
    assert_eq!(out(&w).iter().filter(|a| matches!(a, Action::Output(_))).count(), 0);
    let rule = vec![crate::conn::fail_open::override_all()];
    w.fabric.write().switch_mut(id).unwrap().overrides.set(Owner::FailOpen, rule, 0);
    assert_eq!(out(&w), [Action::Output(PortNo(2)), Action::Output(PortNo(3))]);
}

#[test]
fn answers_of_dhcp_servers_reach_the_local_port_of_a_switch_with_in_band_control() {
    let w = World::new();
    let id = w.switch("br0", 10, 2);
    {
        let mut state = w.fabric.write();
        let local = NewPort {
            name: "br0".into(),
            kind: "internal".into(),
            attachment: Attachment::Datapath(PortNo(10)),
            wanted: None,
            is_local: true,
            link: LinkFacts { admin_up: true, carrier: true, ..LinkFacts::default() },
        };
        state.add_port(id, local, 0).unwrap();
    }
    w.add_flow(id, 0, 0, "", "output:2");
    let udp = |src, dst| w.run(11, &format!("udp,dl_dst=ff:ff:ff:ff:ff:ff,udp_src={src},udp_dst={dst}"));
    assert_eq!(outputs(&udp(67, 68)), [12]);
    let matching = Match::catchall().with(flow::Field::EthType, 0x0806u16);
    let arp = Wanted { matching, priority: 180_001, actions: Vec::new() };
    w.fabric.write().switch_mut(id).unwrap().overrides.set(Owner::InBand, vec![arp], 0);
    let answer = udp(67, 68);
    assert_eq!(
        (outputs(&answer), answer.mask.tp_src, answer.mask.tp_dst),
        (vec![12, 10], u16::MAX, u16::MAX)
    );
    let other = udp(2048 + 67, 68);
    assert_eq!((outputs(&other), other.mask.tp_src, other.mask.tp_dst), (vec![12], 2048, 0));
    let other = udp(67, 64);
    assert_eq!((outputs(&other), other.mask.tp_src, other.mask.tp_dst), (vec![12], u16::MAX, 4));
    w.add_flow(id, 0, 1, "udp", "output:local");
    assert_eq!(outputs(&udp(67, 68)), [10], "once is enough");
    assert!(outputs(&w.run(11, "arp")).is_empty(), "before all rules of controllers");
}

fn add_group(w: &World, id: SwitchId, group_id: u32, kind: GroupType, buckets: &[(u16, u16, &str)]) {
    let bucket = |(i, (weight, watch, actions)): (usize, &(u16, u16, &str))| Bucket {
        bucket_id: i as u32,
        weight: *weight,
        watch_port: if *watch == 0 { OfPort::NONE } else { OfPort(*watch) },
        watch_group: openflow::msg::group::id::ANY,
        actions: Parser::new(&NoNames).actions(actions).unwrap(),
    };
    let buckets = buckets.iter().enumerate().map(bucket).collect();
    let group = crate::groups::Group::new(group_id, kind, None, buckets, 0);
    w.fabric.write().switch_mut(id).unwrap().groups.put(group_id, Some(Arc::new(group)));
}

fn actions_text(t: &Translation) -> String {
    dpif::text::actions_text(&t.actions, None)
}

#[test]
fn each_bucket_gets_the_packet_as_it_was() {
    let w = World::new();
    let sw = w.switch("br0", 10, 4);
    let buckets = [(0, 0, "mod_dl_dst:02:00:00:00:00:09,output:2"), (0, 0, "output:3")];
    add_group(&w, sw, 1, GroupType::All, &buckets);
    w.add_flow(sw, 0, 0, "", "group:1,output:4");
    let t = w.run(11, TCP);
    assert_eq!(actions_text(&t), "set(eth(dst=02:00:00:00:00:09)),12,set(eth(dst=02:00:00:00:00:02)),13,14");
}

#[test]
fn select_groups_ask_for_a_hash_and_go_on_with_it() {
    let w = World::new();
    let sw = w.switch("br0", 10, 4);
    add_group(&w, sw, 1, GroupType::Select, &[(1, 0, "output:2"), (3, 0, "output:3")]);
    w.add_flow(sw, 0, 0, "", "group:1,output:4");
    let t = w.run(11, TCP);
    let [Action::Hash { .. }, Action::Recirc(id)] = t.actions[..] else { panic!("{:?}", t.actions) };
    let (mut key, _) = flow::text::parse_exact_flow(TCP, None, &NoNames).unwrap();
    (key.in_port, key.recirc_id) = (11, id);
    let seen = (1..=64).map(|dp_hash| {
        key.dp_hash = dp_hash;
        let input = Input { key: &key, packet: None, side_effects: true };
        let t = translate(&w.fabric, &w.fabric.read(), input);
        assert_eq!(t.mask.dp_hash, 15);
        let ports = outputs(&t);
        assert_eq!(ports[1..], [14]);
        ports[0]
    });
    let second = seen.filter(|p| *p == 13).count();
    assert_eq!(second, 48, "three of four, by weight");
}

#[test]
fn failover_goes_to_the_first_bucket_that_lives() {
    let w = World::new();
    let sw = w.switch("br0", 10, 3);
    let buckets = [(0, 9, "output:9"), (0, 2, "output:2"), (0, 3, "output:3")];
    add_group(&w, sw, 1, GroupType::FastFailover, &buckets);
    w.add_flow(sw, 0, 0, "", "group:1");
    assert_eq!(outputs(&w.run(11, TCP)), [12]);
    w.fabric.write().switch_mut(sw).unwrap().ports.get_mut(&OfPort(2)).unwrap().link.carrier = false;
    assert_eq!(outputs(&w.run(11, TCP)), [13]);
}

#[test]
fn what_is_behind_the_last_label_is_looked_at_by_another_pass() {
    let w = World::new();
    let sw = w.switch("br0", 10, 3);
    w.add_flow(sw, 0, 0, "", "pop_mpls:0x0800,mod_dl_src:02:00:00:00:00:07,resubmit(,1),output:3");
    w.add_flow(sw, 1, 0, "ip", "dec_ttl,output:2");
    let t = w.run(11, "mpls,mpls_label=5,mpls_bos=1,mpls_ttl=9");
    let [Action::Set(_), Action::PopMpls { .. }, Action::Recirc(id)] = t.actions[..] else {
        panic!("{}", actions_text(&t))
    };
    let (mut key, _) = flow::text::parse_exact_flow("tcp,nw_ttl=9", None, &NoNames).unwrap();
    (key.in_port, key.recirc_id) = (11, id);
    let input = Input { key: &key, packet: None, side_effects: true };
    let t = translate(&w.fabric, &w.fabric.read(), input);
    assert_eq!(actions_text(&t), "set(ipv4(ttl=8)),12,13");
}

#[test]
fn packets_of_both_lengths_run_the_rest() {
    let w = World::new();
    let sw = w.switch("br0", 10, 3);
    w.add_flow(sw, 0, 0, "", "check_pkt_larger(500)->NXM_NX_REG0[0],resubmit(,1)");
    w.add_flow(sw, 1, 1, "reg0=1/1", "output:2");
    w.add_flow(sw, 1, 1, "reg0=0/1", "output:3");
    assert_eq!(actions_text(&w.run(11, TCP)), "check_pkt_len(size=500,gt(12),le(13))");
}
