//! Actions and upcalls, in the control context.

use super::fake::*;
use crate::DropCause;
use dpif::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn two_wires() -> (Arc<Wire>, Arc<Wire>) {
    (Wire::new("a", false, 1, false), Wire::new("b", false, 1, false))
}

fn inject(dp: &crate::Datapath, frame: &[u8]) {
    dp.inject(PortNo(1), packet::Packet::from_slice(frame));
}

fn dropped(dp: &crate::Datapath, cause: DropCause) -> u64 {
    dp.drops().iter().filter(|d| d.cause == cause).map(|d| d.packets).sum()
}

/// Runs one packet through `actions` and returns what came out at port 2.
fn run(actions: Actions) -> (Vec<Vec<u8>>, Arc<crate::Datapath>) {
    let (a, b) = two_wires();
    let switch = Switch::new(move |u| match u.key.recirc_id {
        0 => reply(actions.clone()),
        _ => reply(vec![Action::Output(PortNo(2))]),
    });
    let dp = datapath(&[&a, &b], &switch);
    inject(&dp, &udp(1, 100));
    (b.take(), dp)
}

#[test]
fn a_miss_asks_once_and_later_packets_hit() {
    let (a, b) = two_wires();
    let switch = Switch::to_port(2);
    let dp = datapath(&[&a, &b], &switch);
    for _ in 0..3 {
        inject(&dp, &udp(1, 100));
    }
    assert_eq!(b.take(), vec![udp(1, 100); 3]);
    assert_eq!(switch.upcalls.load(Ordering::SeqCst), 1);
    let flows = dp.flow_dump();
    let stats = FlowStats { packets: 2, bytes: 200, used_ms: flows[0].stats.used_ms, tcp_flags: 0 };
    assert_eq!((flows.len(), flows[0].stats, flows[0].key.nw_dst), (1, stats, 0x0a00_0001));
    assert!(stats.used_ms.is_some());
    assert_eq!(*switch.installed.lock(), [(flows[0].ufid, Ok(()))]);
    assert_eq!((dp.stats().hit, dp.stats().missed, dp.stats().lost, dp.stats().flows), (2, 1, 0, 1));
    assert_eq!(dp.flow_del(flows[0].ufid, None), Ok(stats));
    assert_eq!(dp.flow_del(flows[0].ufid, None), Err(DpifError::NotFound));
    inject(&dp, &udp(1, 100));
    assert_eq!(switch.upcalls.load(Ordering::SeqCst), 2);
}

#[test]
fn recirculation_parses_again_and_ends() {
    let (out, dp) = run(vec![Action::PushVlan { tpid: 0x8100, tci: 0x1005 }, Action::Recirc(7)]);
    assert_eq!((out.len(), out[0].len()), (1, 104));
    assert!(dp.flow_dump().iter().any(|f| f.key.recirc_id == 7));

    let (a, b) = two_wires();
    let switch = Switch::new(|u| reply(vec![Action::Recirc(u.key.recirc_id + 1)]));
    let dp = datapath(&[&a, &b], &switch);
    inject(&dp, &udp(1, 100));
    assert_eq!(switch.upcalls.load(Ordering::SeqCst), 1 + crate::RECIRCULATIONS_MAX as u64);
    inject(&dp, &udp(1, 100));
    assert_eq!(dropped(&dp, DropCause::RecircError), 2);
}

/// Lists within lists, each of which recirculates: the stack is enough, and what is too deep is dropped.
#[test]
fn lists_within_lists_end() {
    let run = || {
        let (a, b) = two_wires();
        let switch = Switch::new(|u| {
            let innermost = vec![Action::Recirc(u.key.recirc_id + 1)];
            let nested = (0..16).fold(innermost, |list, _| vec![Action::Clone(list), Action::PopVlan]);
            reply(nested)
        });
        let dp = datapath(&[&a, &b], &switch);
        // Every pass through the table is an upcall at first, and then all of them one call within the other.
        (0..3).for_each(|_| inject(&dp, &udp(1, 100)));
        assert!(dropped(&dp, DropCause::RecircError) > 0);
    };
    std::thread::Builder::new().stack_size(crate::STACK).spawn(run).unwrap().join().unwrap();
}

#[test]
fn copies_do_not_see_what_is_done_to_others() {
    let set = |port| {
        let ports = |src| PortsKey { src, dst: 0 };
        Action::Set(SetKey::Udp(Masked { key: ports(port), mask: ports(0xffff) }))
    };
    let out = Action::Output(PortNo(2));
    let (sent, _) =
        run(vec![Action::Clone(vec![set(1), out.clone()]), out.clone(), set(2), out.clone(), out]);
    let sources: Vec<_> = sent.iter().map(|p| u16::from_be_bytes([p[34], p[35]])).collect();
    assert_eq!(sources, [1, 0x1000, 2, 2]);
}

#[test]
fn trunc_is_for_the_next_output_only() {
    let out = Action::Output(PortNo(2));
    let (sent, _) = run(vec![Action::Trunc(60), out.clone(), out]);
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [60, 100]);
}

#[test]
fn check_pkt_len_chooses_and_samples_are_copies() {
    let out = |n| Action::Output(PortNo(n));
    let check = |len| Action::CheckPktLen { len, greater: vec![out(2)], less_equal: vec![out(1)] };
    assert_eq!(run(vec![check(99)]).0.len(), 1);
    assert_eq!(run(vec![check(100)]).0.len(), 0);
    let sample = |probability| Action::Sample { probability, actions: vec![out(2)] };
    assert_eq!(run(vec![sample(u32::MAX), out(2)]).0.len(), 2);
    assert_eq!(run(vec![sample(0), out(2)]).0.len(), 1);
    assert_eq!(dropped(&run(vec![sample(0)]).1, DropCause::SampleError), 1);
}

#[test]
fn every_drop_has_its_cause_at_its_port() {
    let cases = [
        (vec![], DropCause::OfPipeline),
        (vec![Action::Drop(DropReason::TooManyResubmits)], DropCause::TooManyResubmits),
        (vec![Action::Output(PortNo(9))], DropCause::InvalidPort),
        (vec![Action::Ct(Box::default())], DropCause::OfPipeline),
        (vec![Action::LbOutput(1)], DropCause::InvalidBond),
        (vec![Action::PopNsh, Action::PushVlan { tpid: 0x8100, tci: 1 }], DropCause::OfPipeline),
    ];
    for (actions, cause) in cases {
        let (_, dp) = run(actions.clone());
        let [only] = &dp.drops()[..] else { panic!("{actions:?}: {:?}", dp.drops()) };
        assert_eq!((only.port, only.cause, only.packets), (PortNo(1), cause, 1), "{actions:?}");
        let t = dp.port_totals(PortNo(1)).unwrap();
        assert_eq!(t.received + t.copied + t.reinjected, t.output + t.upcalled + t.finished + t.dropped);
    }
    let (_, dp) = run(vec![]);
    inject(&dp, &[0; 13]);
    assert_eq!(dropped(&dp, DropCause::RxInvalidPacket), 1);
}

#[test]
fn userspace_actions_carry_their_data_up_and_the_answer_down() {
    let (a, b) = two_wires();
    let up =
        |userdata| Action::Userspace(Userspace { userdata, egress_tunnel_port: None, wants_actions: false });
    let slow = up(Userdata::SlowPath(SlowPath::CFM));
    let switch = Switch::new(move |u| match &u.kind {
        UpcallKind::Miss => reply(vec![up(Userdata::Opaque(vec![1])), slow.clone()]),
        UpcallKind::Action(Userdata::Opaque(_)) => UpcallReply::default(),
        UpcallKind::Action(_) => UpcallReply { actions: vec![Action::Output(PortNo(2))].into(), flow: None },
    });
    let dp = datapath(&[&a, &b], &switch);
    inject(&dp, &udp(1, 100));
    inject(&dp, &udp(1, 100));
    assert_eq!(b.take().len(), 2);
    assert_eq!(switch.upcalls.load(Ordering::SeqCst), 5);
    assert_eq!(dp.drops(), []);
}

#[test]
fn the_limit_of_flows_does_not_stop_packets() {
    let (a, b) = two_wires();
    let switch = Switch::to_port(2);
    let dp = datapath(&[&a, &b], &switch);
    dp.set_flow_limit(3);
    for n in 0..10 {
        inject(&dp, &udp(n, 100));
    }
    assert_eq!((b.take().len(), dp.flow_count()), (10, 3));
    let full = switch.installed.lock().iter().filter(|(_, r)| *r == Err(DpifError::Full)).count();
    assert_eq!(full, 7);
}

#[test]
fn flows_can_be_changed_from_outside() {
    let (a, b) = two_wires();
    let switch = Switch::to_port(1);
    let dp = datapath(&[&a, &b], &switch);
    let key = flow::Flow { in_port: 1, dl_type: 0x0800, nw_dst: 0x0a00_0001, ..flow::Flow::ZERO };
    let put =
        |mode, port| dp.flow_put(mode, None, &key, &usual_mask(), &[Action::Output(PortNo(port))], None);
    assert_eq!(put(PutMode::Modify, 2), Err(DpifError::NotFound));
    assert_eq!(put(PutMode::Create, 1), Ok(None));
    assert_eq!(put(PutMode::Create, 1), Err(DpifError::Exists));
    inject(&dp, &udp(1, 100));
    let before = put(PutMode::CreateOrModify, 2).unwrap().unwrap();
    assert_eq!(before.packets, 1);
    inject(&dp, &udp(1, 100));
    assert_eq!((a.take().len(), b.take().len()), (1, 1));
    assert_eq!(dp.flow_get(dp.ufid_of(&key), None).unwrap().stats.packets, 2);
    let mut narrower = usual_mask();
    narrower.nw_src = u32::MAX;
    let overlap = dp.flow_put(PutMode::CreateOrModify, Some(Ufid(1)), &key, &narrower, &[], None);
    assert_eq!(overlap, Err(DpifError::Invalid));
    dp.flow_flush();
    assert_eq!((dp.flow_count(), dp.flow_dump().len()), (0, 0));
}

#[test]
fn execute_runs_actions_with_the_metadata_of_its_key() {
    let (a, b) = two_wires();
    let switch = Switch::new(|_| reply(vec![Action::Output(PortNo(2))]));
    let dp = datapath(&[&a, &b], &switch);
    let key = flow::Flow { in_port: 1, pkt_mark: 9, ..flow::Flow::ZERO };
    dp.execute(packet::Packet::from_slice(&udp(1, 60)), &key, &[Action::Recirc(4)]);
    let asked = switch.asked.lock();
    assert_eq!((asked[0].in_port, asked[0].pkt_mark, asked[0].recirc_id), (1, 9, 4));
    assert_eq!(b.take().len(), 1);
    let key = flow::Flow { in_port: PortNo::NONE.0, ..flow::Flow::ZERO };
    dp.execute(packet::Packet::from_slice(&udp(1, 60)), &key, &[Action::Output(PortNo(9))]);
    let lost =
        crate::PortDrops { port: PortNo::NONE, cause: DropCause::InvalidPort, cookie: None, packets: 1 };
    assert_eq!(dp.drops(), [lost]);
}

#[test]
fn ports_are_numbered_by_name_when_tests_want_it() {
    let switch = Switch::to_port(1);
    let dp = datapath(&[], &switch);
    dp.set_number_by_name(true);
    let add = |name: &str| dp.port_add(Wire::new(name, false, 1, false).device(), None).map(|p| p.0).unwrap();
    assert_eq!((add("p7"), add("br0"), add("x"), add("q7"), add("br1")), (7, 100, 1, 2, 101));
    let again = dp.port_add(Wire::new("x", false, 1, false).device(), None);
    assert!(matches!(again, Err(crate::PortError::Exists)));
    assert_eq!(dp.ports().iter().map(|p| p.no.0).collect::<Vec<_>>(), [1, 2, 7, 100, 101]);
}

#[test]
fn what_a_device_cannot_do_is_done_in_software() {
    use packet::{Checksum, Gso, GsoKind, Offload};
    let (a, b) = two_wires();
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    // A TCP packet of 1,200 bytes of payload for segments of 500, with the checksum left to the device.
    let mut frame = udp(1, 54 + 1200);
    frame[23] = 6;
    frame[34..54].copy_from_slice(&[0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    let mut packet = packet::Packet::from_slice(&frame);
    packet.offload = Offload {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        gso: Some(Gso { kind: GsoKind::Tcp4, size: 500, ecn: false }),
    };
    dp.inject(PortNo(1), packet.clone());
    assert_eq!(b.take().iter().map(Vec::len).collect::<Vec<_>>(), [554, 554, 254]);
    let t = dp.port_totals(PortNo(2)).unwrap();
    assert_eq!((t.sent, t.segments, t.refused), (3, 2, 0));
    // A request that cannot be carried out.
    packet.offload.gso = Some(Gso { kind: GsoKind::Tcp6, size: 500, ecn: false });
    dp.inject(PortNo(1), packet);
    assert_eq!((b.take().len(), dropped(&dp, DropCause::TxOffload)), (0, 1));
}
