//! Flow monitors without sockets: slow peers and bad requests.

use super::tests::{Peer, World, add, errors, flow_mod, target};
use crate::conn::ConnEvent;
use crate::conn::monitor::WAITING_BYTES_MAX;
use bytes::Bytes;
use flow::{Match, MiniMatch};
use openflow::msg::flow_mod::{FlowModCommand, GROUP_ANY};
use openflow::msg::flow_monitor::{
    FlowUpdate, MonitorCommand, MonitorFlags, MonitorRequest, UpdateEvent, decode_updates, encode_request,
};
use openflow::{Context, MsgType, OfError, PortNo, Protocol, Version, identify};

fn request(id: u32, command: MonitorCommand, flags: MonitorFlags) -> Vec<u8> {
    let request = MonitorRequest {
        id,
        command,
        flags,
        out_port: PortNo::NONE,
        out_group: GROUP_ANY,
        table_id: 255,
        matched: MiniMatch::from(&Match::catchall()),
    };
    encode_request(&request, &target(Version::Of14), 77)
}

/// Events and cookies of updates; `Paused` and `Resumed` without.
fn updates(messages: &[Bytes]) -> Vec<(Option<UpdateEvent>, u64)> {
    let context = Context::unbound(Protocol::initial(Version::Of14));
    let is_update = |b: &&Bytes| identify(b).unwrap().msg_type() == MsgType::FlowMonitorStatsReply;
    let all = messages.iter().filter(is_update);
    all.flat_map(|b| decode_updates(&identify(b).unwrap(), &context).unwrap())
        .map(|u| match u {
            FlowUpdate::Full(full) => (Some(full.event), full.cookie),
            FlowUpdate::Abbreviated(xid) => (None, u64::from(xid)),
            FlowUpdate::Paused => (None, 5),
            FlowUpdate::Resumed => (None, 6),
        })
        .collect()
}

const EVENTS: MonitorFlags = MonitorFlags::ADD.union(MonitorFlags::REMOVED).union(MonitorFlags::MODIFY);

fn drained(w: &mut World, peer: &Peer) {
    w.ofproto.handle_event(ConnEvent::Drained { id: peer.id });
}

#[test]
fn updates_pause_for_a_peer_that_does_not_read_and_then_tell_what_it_missed() {
    let mut w = World::new();
    let (mut slow, mut other) = (w.connect(Version::Of14), w.connect(Version::Of14));
    assert!(errors(&w.ask(&mut slow, &request(1, MonitorCommand::Add, EVENTS))).is_empty());
    w.ask(&mut other, &add(1, 0x11, 1));
    w.clock.warp(std::time::Duration::from_millis(5));
    // One flow that changes again and again fills the queue.
    for cookie in 0..(WAITING_BYTES_MAX as u64 / 40) {
        w.ask(&mut other, &add(9, cookie, 2));
    }
    w.clock.warp(std::time::Duration::from_millis(5));
    w.ask(&mut other, &add(2, 0x22, 3));
    let mut modify = flow_mod(FlowModCommand::ModifyStrict, 1, 0x11);
    modify.actions.clear();
    w.ask(&mut other, &modify.encode(&target(Version::Of14), 4));
    let waiting = updates(&slow.take());
    assert_eq!(waiting[0], (Some(UpdateEvent::Added), 0x11));
    assert_eq!(waiting.last(), Some(&(None, 5)), "nothing after the pause");

    // What it does not know may go unheard; what it knows may not.
    w.ask(&mut other, &flow_mod(FlowModCommand::DeleteStrict, 9, 0).encode(&target(Version::Of14), 5));
    w.ask(&mut other, &add(3, 0x33, 6));
    w.ask(&mut other, &flow_mod(FlowModCommand::DeleteStrict, 3, 0).encode(&target(Version::Of14), 7));
    drained(&mut w, &slow);
    let told = updates(&slow.take());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, Some(UpdateEvent::Removed));
    drained(&mut w, &slow);
    let told = updates(&slow.take());
    let expected = [(Some(UpdateEvent::Added), 0x22), (Some(UpdateEvent::Modified), 0x11), (None, 6)];
    assert_eq!(told, expected);
    w.ask(&mut other, &add(4, 0x44, 8));
    assert_eq!(updates(&slow.take()), [(Some(UpdateEvent::Added), 0x44)]);
}

#[test]
fn own_changes_are_abbreviated_before_the_reply_to_what_follows() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    w.ask(&mut peer, &request(1, MonitorCommand::Add, EVENTS));
    let mut barrier = Vec::new();
    openflow::Form::Ofpt11BarrierRequest.put(Version::Of14, 9, &mut barrier, |_| ());
    w.send(&peer, &[add(1, 1, 0x51), barrier]);
    let got = peer.take();
    assert_eq!(updates(&got[..1]), [(None, 0x51)]);
    assert_eq!(identify(&got[1]).unwrap().msg_type(), MsgType::BarrierReply);
}

#[test]
fn bad_requests_are_answered_once_and_leave_no_monitor() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    let cases = [
        (request(1, MonitorCommand::Delete, EVENTS), OfError::OfpmofcUnknownMonitor),
        (request(1, MonitorCommand::Modify, EVENTS), OfError::OfpmofcUnknownMonitor),
        (request(1, MonitorCommand::Add, MonitorFlags::INITIAL), OfError::OfpmofcBadFlags),
    ];
    for (message, error) in cases {
        assert_eq!(errors(&w.ask(&mut peer, &message)), [(77, error)]);
    }
    let good = request(2, MonitorCommand::Add, EVENTS);
    assert!(errors(&w.ask(&mut peer, &good)).is_empty());
    assert_eq!(errors(&w.ask(&mut peer, &good)), [(77, OfError::OfpmofcMonitorExists)]);
    // The second of two requests in a message fails: the first does not stay.
    let mut two = request(3, MonitorCommand::Add, EVENTS);
    two.extend_from_slice(&good[16..]);
    let len = u16::try_from(two.len()).unwrap().to_be_bytes();
    two[2..4].copy_from_slice(&len);
    assert_eq!(errors(&w.ask(&mut peer, &two)), [(77, OfError::OfpmofcMonitorExists)]);
    let end = request(3, MonitorCommand::Delete, EVENTS);
    assert_eq!(errors(&w.ask(&mut peer, &end)), [(77, OfError::OfpmofcUnknownMonitor)]);
}
