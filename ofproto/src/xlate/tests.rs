//! Translation over a few switches, without a datapath.

use super::{Input, SwitchInput, Translation, trace, translate, translate_switch};
use crate::admin::NewPort;
use crate::fabric::Fabric;
use crate::flow_mod::{Change, Command, Filter};
use crate::ids::{OfPort, SwitchId};
use crate::port::{Attachment, BundleSettings, LinkFacts};
use crate::rule::RuleFlags;
use clock::Clock;
use dpif::fake::NoDpif;
use dpif::{Action, PortNo};
use flow::text::NoNames;
use flow::{EthAddr, Flow, Match};
use openflow::action::Parser;
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
    w.fabric.write().switch_mut(id).unwrap().fail_open = true;
    assert_eq!(out(&w), [Action::Output(PortNo(2)), Action::Output(PortNo(3))]);
}
