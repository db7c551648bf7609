//! The agent without sockets: connections are channels.

use crate::conn::agent::FailMode;
use crate::conn::link::{LinkHandle, Output, new_conn_id};
use crate::conn::manager::{Env, Ofproto, PortControl};
use crate::conn::{ConnEvent, Origin, UpEvent};
use crate::fabric::Fabric;
use crate::ids::{ConnId, OfPort, SwitchId};
use crate::port::{Attachment, LinkFacts};
use bytes::Bytes;
use clock::Clock;
use flow::{EthAddr, Field, Match};
use openflow::action::{Action, Output as OutputAction};
use openflow::msg::async_config::AsyncConfig;
use openflow::msg::bundle::{BundleAdd, BundleControl, BundleFlags, ctrl};
use openflow::msg::error_msg::ErrorMsg;
use openflow::msg::flow_mod::{FlowFlags, FlowMod, FlowModCommand};
use openflow::msg::flow_stats::{FlowStatsRequest, decode_reply};
use openflow::msg::port_mod::PortMod;
use openflow::msg::role::{Role, RoleMsg};
use openflow::{Context, Form, MsgType, OfError, PortNo, Protocol, Target, Version, identify};
use std::sync::Arc;
use std::time::Duration;
use stream::{Tls, TlsConfig};
use tokio::sync::mpsc;

const MAC: EthAddr = EthAddr([0xaa, 0x55, 0xaa, 0x55, 0, 1]);

struct Willing;

impl PortControl for Willing {
    fn set_admin(&self, _: SwitchId, _: OfPort, _: bool) -> bool {
        true
    }
}

pub(super) struct World {
    pub ofproto: Ofproto,
    switch: SwitchId,
    pub clock: Clock,
}

pub(super) struct Peer {
    pub id: ConnId,
    pub link: LinkHandle,
    version: Version,
    output: mpsc::UnboundedReceiver<Output>,
}

impl World {
    pub fn new() -> Self {
        let clock = Clock::new();
        clock.stop();
        let fabric = Fabric::new(Arc::new(dpif::fake::NoDpif), clock.clone());
        let switch = {
            let mut state = fabric.write();
            let switch = state.add_switch("br0", 0x1234);
            let port = crate::admin::NewPort {
                name: "p1".into(),
                kind: "dummy".into(),
                attachment: Attachment::None,
                wanted: None,
                is_local: false,
                link: LinkFacts { mac: MAC, admin_up: true, carrier: true, ..LinkFacts::default() },
            };
            state.add_port(switch, port, 0).unwrap();
            switch
        };
        let (events, _) = mpsc::channel(1);
        let tls = Arc::new(Tls::new(TlsConfig::default()));
        let env = Env { fabric, events, tls, ports: Arc::new(Willing), debug_actions: false };
        let mut ofproto = Ofproto::new(env);
        ofproto.add_switch(switch);
        World { ofproto, switch, clock }
    }

    /// A connection on `<bridge>.mgmt`.
    pub fn connect(&mut self, version: Version) -> Peer {
        let (link, output) = LinkHandle::new();
        let id = new_conn_id();
        let up = UpEvent {
            id,
            switch: self.switch,
            version,
            peer: "br0<->test".into(),
            origin: Origin::Management,
            link: link.clone(),
        };
        self.ofproto.handle_event(ConnEvent::Up(up));
        Peer { id, link, version, output }
    }

    pub fn send(&mut self, peer: &Peer, messages: &[Vec<u8>]) {
        let batch = messages.iter().map(|m| Bytes::copy_from_slice(m)).collect();
        self.ofproto.handle_event(ConnEvent::Messages { id: peer.id, batch });
    }

    /// Sends one message and returns all that comes back.
    pub fn ask(&mut self, peer: &mut Peer, message: &[u8]) -> Vec<Bytes> {
        self.send(peer, &[message.to_vec()]);
        peer.take()
    }

    fn cookies(&self) -> Vec<u64> {
        let state = self.ofproto.env.fabric.read();
        let mut all: Vec<_> = state.switch(self.switch).unwrap().tables[0].iter().map(|r| r.cookie).collect();
        all.sort_unstable();
        all
    }
}

impl Peer {
    pub fn take(&mut self) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Ok(output) = self.output.try_recv() {
            self.link.note_taken(&output);
            match output {
                Output::Bytes(b) | Output::PacketIn(b) | Output::Update(b) => all.push(b),
                Output::Close => {}
            }
        }
        all
    }

    /// Takes all as one who reads it; returns whether the agent is to be told.
    fn read(&mut self) -> (Vec<Bytes>, bool) {
        let all = self.take();
        let awaited = all.iter().filter(|b| self.link.note_written(b.len())).count();
        (all, awaited > 0)
    }

    fn kinds(&mut self) -> Vec<MsgType> {
        self.take().iter().map(|b| identify(b).unwrap().msg_type()).collect()
    }
}

pub(super) fn errors(messages: &[Bytes]) -> Vec<(u32, OfError)> {
    let decode = |b: &Bytes| {
        let msg = identify(b).unwrap();
        Some((msg.header.xid, ErrorMsg::decode(&msg)?.error))
    };
    messages.iter().filter(|b| identify(b).unwrap().msg_type() == MsgType::Error).filter_map(decode).collect()
}

pub(super) fn target(version: Version) -> Target<'static> {
    Target::new(Protocol::initial(version))
}

pub(super) fn flow_mod(command: FlowModCommand, port: u16, cookie: u64) -> FlowMod {
    let m = Match::catchall().with(Field::InPort, port);
    let mut fm = FlowMod::new(command, &m, 100);
    fm.new_cookie = cookie;
    fm.table_id = 0;
    fm.actions = vec![Action::Output(OutputAction { port: PortNo(1), max_len: 0 })];
    fm
}

pub(super) fn add(port: u16, cookie: u64, xid: u32) -> Vec<u8> {
    flow_mod(FlowModCommand::Add, port, cookie).encode(&target(Version::Of14), xid)
}

fn simple(form: Form, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |_| ());
    out
}

#[test]
fn flow_mods_of_a_batch_are_applied_in_order_around_other_messages() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    let mut bad = flow_mod(FlowModCommand::Add, 9, 9);
    bad.buffer_id = 7;
    let batch = [
        add(1, 1, 1),
        bad.encode(&target(Version::Of14), 2),
        simple(Form::Ofpt11BarrierRequest, Version::Of14, 3),
        add(2, 2, 4),
    ];
    w.send(&peer, &batch);
    let replies = peer.take();
    assert_eq!(errors(&replies), [(2, OfError::OfpbrcBufferUnknown)]);
    assert_eq!(identify(&replies[1]).unwrap().msg_type(), MsgType::BarrierReply);
    assert_eq!(w.cookies(), [1, 2]);
}

#[test]
fn error_carries_the_whole_request() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    let mut fm = flow_mod(FlowModCommand::Add, 9, 9);
    fm.table_id = 254;
    let request = fm.encode(&target(Version::Of14), 5);
    let replies = w.ask(&mut peer, &request);
    assert_eq!(errors(&replies), [(5, OfError::OfpbrcEperm)]);
    assert_eq!(&replies[0][12..], request);
}

#[test]
fn unknown_messages_are_answered() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of13);
    let features_reply = [[4, 6, 0, 32, 0, 0, 0, 1].as_slice(), &[0; 24]].concat();
    let cases: [(&[u8], OfError); 4] = [
        (&[4, 99, 0, 8, 0, 0, 0, 1], OfError::OfpbrcBadType),
        (&[4, 18, 0, 16, 0, 0, 0, 1, 0, 99, 0, 0, 0, 0, 0, 0], OfError::OfpbrcBadStat),
        (&[4, 4, 0, 16, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0], OfError::OfpbrcBadVendor),
        (&features_reply, OfError::OfpbrcBadType),
    ];
    for (message, error) in cases {
        let replies = w.ask(&mut peer, message);
        assert_eq!(errors(&replies), [(1, error)]);
    }
}

#[test]
fn roles_follow_elections() {
    let mut w = World::new();
    let (mut a, mut b) = (w.connect(Version::Of14), w.connect(Version::Of14));
    let request =
        |role, id| RoleMsg { role, generation_id: Some(id), nicira: false }.encode_request(Version::Of14, 1);
    w.ask(&mut a, &request(Role::Primary, 5));
    let replies = w.ask(&mut b, &request(Role::Primary, 4));
    assert_eq!(errors(&replies), [(1, OfError::OfprrfcStale)]);
    assert_eq!(w.ask(&mut b, &request(Role::Primary, 6)).len(), 1);
    assert_eq!(a.kinds(), [MsgType::RoleStatus], "told that it is secondary");
    let replies = w.ask(&mut a, &add(1, 1, 8));
    assert_eq!(errors(&replies), [(8, OfError::OfpbrcIsSecondary)]);
    assert!(w.cookies().is_empty());
    // Ids wrap around.
    w.ask(&mut b, &request(Role::Primary, u64::MAX / 2));
    assert_eq!(errors(&w.ask(&mut b, &request(Role::Secondary, u64::MAX / 2 + 5))), []);
}

#[test]
fn flow_removed_goes_to_those_that_asked() {
    let mut w = World::new();
    let (mut quiet, mut keen) = (w.connect(Version::Of14), w.connect(Version::Of14));
    let all = openflow::msg::async_config::AsyncMsg::ALL;
    let set = AsyncConfig::initial(Version::Of14).encode_set(&all, Version::Of14, 1);
    w.send(&keen, &[set]);
    let mut fm = flow_mod(FlowModCommand::Add, 1, 1);
    fm.flags = FlowFlags::SEND_FLOW_REM;
    fm.hard_timeout = 2;
    w.send(&quiet, &[fm.encode(&target(Version::Of14), 1)]);
    w.clock.warp(Duration::from_millis(1_999));
    w.ofproto.run();
    assert_eq!(w.cookies(), [1]);
    w.clock.warp(Duration::from_secs(1));
    w.ofproto.run();
    assert!(w.cookies().is_empty());
    assert_eq!(keen.kinds(), [MsgType::FlowRemoved]);
    assert_eq!(quiet.kinds(), []);
}

fn bundle(ctrl_type: u16, xid: u32) -> Vec<u8> {
    let flags = BundleFlags::ATOMIC | BundleFlags::ORDERED;
    BundleControl { bundle_id: 1, ctrl_type, flags }.encode(Version::Of14, xid).unwrap()
}

fn bundled(message: &[u8]) -> Vec<u8> {
    let flags = BundleFlags::ATOMIC | BundleFlags::ORDERED;
    BundleAdd { bundle_id: 1, flags, message }.encode(Version::Of14).unwrap()
}

#[test]
fn bundle_is_applied_as_a_whole() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    w.send(&peer, &[bundle(ctrl::OPEN_REQUEST, 1), bundled(&add(1, 1, 2)), bundled(&add(2, 2, 3))]);
    assert!(w.cookies().is_empty());
    w.send(&peer, &[bundle(ctrl::CLOSE_REQUEST, 4), bundle(ctrl::COMMIT_REQUEST, 5)]);
    assert_eq!(w.cookies(), [1, 2]);
    assert_eq!(peer.kinds(), [MsgType::BundleControl; 3]);
}

#[test]
fn failed_bundle_leaves_no_trace() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    w.send(&peer, &[add(1, 1, 1), add(2, 2, 2)]);
    let mut overlap = FlowMod::new(FlowModCommand::Add, &Match::catchall(), 100);
    overlap.table_id = 0;
    overlap.flags = FlowFlags::CHECK_OVERLAP;
    let mut replace = flow_mod(FlowModCommand::Add, 2, 20);
    replace.flags = FlowFlags::RESET_COUNTS;
    let t = target(Version::Of14);
    let messages = [
        bundle(ctrl::OPEN_REQUEST, 10),
        bundled(&flow_mod(FlowModCommand::DeleteStrict, 1, u64::MAX).encode(&t, 11)),
        bundled(&replace.encode(&t, 12)),
        bundled(&add(3, 3, 13)),
        bundled(&overlap.encode(&t, 14)),
        bundle(ctrl::COMMIT_REQUEST, 15),
    ];
    w.send(&peer, &messages);
    let replies = peer.take();
    assert_eq!(errors(&replies), [(14, OfError::OfpfmfcOverlap), (15, OfError::OfpbfcMsgFailed)]);
    assert_eq!(w.cookies(), [1, 2]);
    let again = w.ask(&mut peer, &bundle(ctrl::COMMIT_REQUEST, 16));
    assert_eq!(errors(&again), [(16, OfError::OfpbfcBadId)], "a bundle ends with its commit");
}

#[test]
fn bundle_rules_are_kept() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of14);
    w.send(&peer, &[bundle(ctrl::OPEN_REQUEST, 1), bundle(ctrl::OPEN_REQUEST, 2)]);
    assert_eq!(errors(&peer.take()), [(2, OfError::OfpbfcBadId)]);
    w.send(&peer, &[bundle(ctrl::OPEN_REQUEST, 3), bundle(ctrl::CLOSE_REQUEST, 4), bundled(&add(1, 1, 5))]);
    assert_eq!(errors(&peer.take()), [(5, OfError::OfpbfcBundleClosed)]);
    let wrong = BundleControl { bundle_id: 1, ctrl_type: ctrl::COMMIT_REQUEST, flags: BundleFlags::empty() };
    w.send(&peer, &[bundle(ctrl::OPEN_REQUEST, 6), wrong.encode(Version::Of14, 7).unwrap()]);
    assert_eq!(errors(&peer.take()), [(7, OfError::OfpbfcBadFlags)]);
    w.send(&peer, &[bundle(ctrl::OPEN_REQUEST, 8)]);
    peer.take();
    w.clock.warp(Duration::from_secs(11));
    w.ofproto.run();
    assert_eq!(errors(&peer.take()), [(8, OfError::OfpbfcTimeout)]);
}

#[test]
fn port_mod_is_told_to_others_and_from_of15_to_its_sender() {
    let mut w = World::new();
    for (version, told) in [(Version::Of14, false), (Version::Of15, true)] {
        let (mut sender, mut other) = (w.connect(version), w.connect(Version::Of10));
        for peer in [&sender, &other] {
            let all = openflow::msg::async_config::AsyncMsg::ALL;
            let set = AsyncConfig::initial(peer.version).encode_set(&all, peer.version, 1);
            w.send(peer, &[set]);
        }
        let no_fwd = openflow::msg::port::PortConfig::NO_FWD;
        let config = if told { openflow::msg::port::PortConfig::empty() } else { no_fwd };
        let pm =
            PortMod { port: PortNo(1), hw_addr: MAC, config, mask: no_fwd, advertise: Default::default() };
        w.send(&sender, &[pm.encode(version, 1)]);
        assert_eq!(sender.kinds() == [MsgType::PortStatus], told);
        assert_eq!(other.kinds(), [MsgType::PortStatus]);
        let wrong = PortMod { hw_addr: EthAddr([1; 6]), ..pm };
        let replies = w.ask(&mut sender, &wrong.encode(version, 3));
        assert_eq!(errors(&replies), [(3, OfError::OfppmfcBadHwAddr)]);
        w.ofproto.handle_event(ConnEvent::Down { id: sender.id });
        w.ofproto.handle_event(ConnEvent::Down { id: other.id });
    }
}

#[test]
fn standalone_switch_has_the_normal_flow() {
    let mut w = World::new();
    assert!(w.cookies().is_empty());
    w.ofproto.set_fail_mode(w.switch, FailMode::Standalone);
    assert_eq!(w.cookies(), [0]);
    let mut peer = w.connect(Version::Of10);
    w.send(
        &peer,
        &[add(1, 7, 1)].map(|_| {
            let mut fm = flow_mod(FlowModCommand::Add, 1, 7);
            fm.table_id = 255;
            fm.encode(&Target::new(Protocol::Of10Std), 1)
        }),
    );
    assert_eq!(w.cookies(), [0, 7]);
    w.ofproto.set_fail_mode(w.switch, FailMode::Secure);
    assert!(w.cookies().is_empty(), "a change empties the tables");
    assert!(peer.take().is_empty());
}

/// A request for all flows, in OpenFlow 1.3.
fn dump_all(xid: u32) -> Vec<u8> {
    let request = FlowStatsRequest {
        matched: flow::MiniMatch::from(&Match::catchall()),
        cookie: 0,
        cookie_mask: 0,
        out_port: PortNo::NONE,
        out_group: u32::MAX,
        table_id: 255,
    };
    request.encode(false, &target(Version::Of13), xid)
}

#[test]
fn statistics_show_what_was_added() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of13);
    let mut fm = flow_mod(FlowModCommand::Add, 1, 0xabc);
    fm.idle_timeout = 30;
    fm.flags = FlowFlags::RESET_COUNTS;
    w.send(&peer, &[fm.encode(&target(Version::Of13), 1)]);
    w.clock.warp(Duration::from_millis(2_500));
    let replies = w.ask(&mut peer, &dump_all(9));
    let flows = decode_reply(&identify(&replies[0]).unwrap(), &Context::unbound(Protocol::Of13)).unwrap();
    assert_eq!(flows.len(), 1);
    let f = &flows[0];
    assert_eq!((f.cookie, f.table_id, f.priority, f.idle_timeout), (0xabc, 0, 100, 30));
    assert_eq!(f.duration.map(|d| (d.sec, d.nsec)), Some((2, 500_000_000)));
    assert_eq!(f.flags, FlowFlags::RESET_COUNTS);
}

#[test]
fn requests_wait_while_replies_are_not_read() {
    let mut w = World::new();
    let mut peer = w.connect(Version::Of13);
    let features = simple(Form::Ofpst13TableFeaturesRequest, Version::Of13, 1);
    w.send(&peer, &vec![features; 100]);
    let sent: usize = peer.take().iter().map(Bytes::len).sum();
    assert!(sent >= crate::conn::link::HOLD_BYTES, "{sent}");
    assert!(sent < 2 * crate::conn::link::HOLD_BYTES, "{sent}");
}

#[test]
fn a_dump_goes_on_as_it_is_read_and_what_follows_it_waits() {
    const FLOWS: u16 = 20_000;
    let mut w = World::new();
    let mut peer = w.connect(Version::Of13);
    let add = |port| flow_mod(FlowModCommand::Add, port, port.into()).encode(&target(Version::Of13), 1);
    w.send(&peer, &(0..FLOWS).map(add).collect::<Vec<_>>());
    w.send(&peer, &[dump_all(2), simple(Form::Ofpt11BarrierRequest, Version::Of13, 3)]);
    let del = flow_mod(FlowModCommand::Delete, 5, 0).encode(&target(Version::Of13), 4);
    w.send(&peer, &[del]);
    assert_eq!(w.cookies().len(), usize::from(FLOWS), "the deletion waits too");
    let (mut cookies, mut kinds) = (Vec::new(), Vec::new());
    loop {
        let (part, awaited) = peer.read();
        assert!(part.iter().map(Bytes::len).sum::<usize>() < 700_000);
        for message in &part {
            let msg = identify(message).unwrap();
            kinds.push((msg.msg_type(), msg.header.xid));
            if msg.msg_type() == MsgType::FlowStatsReply {
                let flows = decode_reply(&msg, &Context::unbound(Protocol::Of13)).unwrap();
                cookies.extend(flows.iter().map(|f| f.cookie));
            }
        }
        if !awaited {
            break;
        }
        w.ofproto.handle_event(ConnEvent::Drained { id: peer.id });
    }
    cookies.sort_unstable();
    assert_eq!(cookies, (0..FLOWS).map(u64::from).collect::<Vec<_>>());
    assert_eq!(kinds.last(), Some(&(MsgType::BarrierReply, 3)));
    kinds.dedup();
    assert_eq!(kinds.len(), 2, "nothing in between");
    assert_eq!(w.cookies().len(), usize::from(FLOWS) - 1);
}
