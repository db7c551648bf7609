//! Asynchronous messages: what connections are told without having asked.

use super::agent::Agent;
use super::manager::Env;
use super::monitor::{self, Changes};
use super::session::Conn;
use crate::async_event::PacketInEvent;
use crate::discard;
use crate::flow_mod::{RemovedReason, RuleEvent};
use crate::groups::Group;
use crate::ids::{ConnId, OfPort, SwitchId, in_port};
use crate::port::Port;
use crate::recirc::Frozen;
use crate::rule::{Rule, RuleFlags};
use crate::switch::Switch;
use flow::{Field, Flow, Match, PT_ETH, TlvTable};
use openflow::msg::async_config::AsyncMsg;
use openflow::msg::flow_removed::FlowRemoved;
use openflow::msg::packet_in::{Continuation, PacketIn};
use openflow::msg::port::{PortConfig, PortDesc, PortFeatures, PortState};
use openflow::msg::port_status::{PortReason, PortStatus};
use openflow::msg::requestforward::{ForwardedRequest, RequestForward};
use openflow::msg::role::{Role, RoleReason, RoleStatus};
use openflow::msg::table_desc::TableStatus;
use openflow::{Elapsed, Target, Version};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Something that connections are to be told.
#[derive(Clone, Debug)]
pub enum News {
    /// The connection `source` changed groups or meters (`OFPT_REQUESTFORWARD`).
    Request {
        source: ConnId,
        xid: u32,
        request: ForwardedRequest,
        /// The group as it is now.
        group: Option<Arc<Group>>,
        /// It was there before.
        existed: bool,
    },
    /// A rule with `OFPFF_SEND_FLOW_REM` went.
    FlowRemoved {
        rule: Arc<Rule>,
        reason: RemovedReason,
        at_ms: u64,
    },
    /// A port appeared, changed (from `old`) or went. `source` is the connection that changed it.
    Port {
        source: Option<ConnId>,
        reason: PortReason,
        old: Option<PortDesc>,
        new: PortDesc,
    },
    Table(TableStatus),
}

/// A packet for those controllers that have this id.
#[derive(Clone, Debug)]
pub struct PacketInNews {
    pub message: PacketIn,
    pub controller_id: u16,
    /// How to go on with the packet, if it waits for that.
    pub continuation: Option<Continuation>,
}

/// A port as OpenFlow describes it.
pub fn port_desc(port: &Port) -> PortDesc {
    let features = port.link.features.map(PortFeatures::from_bits_truncate);
    let live = port.link.carrier && !port.config.contains(PortConfig::DOWN);
    let mut state = port.state();
    state.set(PortState::LIVE, live);
    PortDesc {
        port: port.no,
        hw_addr: port.link.mac,
        name: port.name.as_bytes().to_vec(),
        config: port.config,
        state,
        curr: features[0],
        advertised: features[1],
        supported: features[2],
        peer: features[3],
        curr_speed_kbps: port.link.curr_speed_kbps,
        max_speed_kbps: port.link.max_speed_kbps,
    }
}

/// Time between two moments of the clock, to the millisecond.
pub fn elapsed(from_ms: u64, to_ms: u64) -> Option<Elapsed> {
    Some(Duration::from_millis(to_ms.saturating_sub(from_ms)).into())
}

fn flow_removed(rule: &Rule, reason: RemovedReason, at_ms: u64) -> FlowRemoved {
    let count = rule.counters.count();
    FlowRemoved {
        matched: rule.matching.clone(),
        cookie: rule.cookie,
        priority: rule.priority,
        reason: reason as u8,
        table_id: rule.table,
        duration: elapsed(rule.created_ms, at_ms),
        idle_timeout: rule.idle_timeout_s,
        hard_timeout: rule.hard_timeout_s,
        packet_count: count.packets,
        byte_count: count.bytes,
    }
}

/// Fields that say where a packet came from and what the pipeline has noted about it, by their names'
/// beginnings.
const NOTES: [&str; 5] = ["tun_", "reg", "metadata", "pkt_mark", "ct_"];

/// What a controller is told about a packet besides its bytes.
pub fn packet_metadata(flow: &Flow, tlv: &TlvTable) -> Match {
    let mut m = Match::catchall();
    let is_note = |f: &Field| NOTES.iter().any(|n| f.name().starts_with(n));
    for field in Field::all().filter(is_note).filter(|f| f.is_set(flow)) {
        field.set_in(&mut m.flow, &field.get_in(flow, tlv), tlv);
        field.unwildcard_in(&mut m.mask, tlv);
    }
    m.set_in_port(in_port(flow).0);
    if flow.packet_type != PT_ETH {
        m.set(Field::PacketType, flow.packet_type);
    }
    if flow.ct_state != 0 {
        m.set_dl_type(flow.dl_type);
    }
    m
}

/// What must be kept to go on with a packet, in the form in which a controller holds it.
fn continuation(frozen: &Frozen, dp_port: u32) -> Continuation {
    Continuation {
        bridge: bridge_id(frozen.switch),
        stack: frozen.stack.iter().rev().cloned().collect(),
        mirrors: frozen.mirrors,
        conntracked: frozen.conntracked,
        actions: frozen.actions.clone(),
        action_set: frozen.action_set.clone(),
        odp_port: dp_port,
    }
}

/// How a continuation names its switch: by a number that no other switch of this process has.
pub fn bridge_id(switch: SwitchId) -> [u8; 16] {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&std::process::id().to_be_bytes());
    id[12..].copy_from_slice(&switch.0.to_be_bytes());
    id
}

impl PacketInNews {
    /// What is said about a packet that came up from the datapath.
    pub fn of(event: PacketInEvent, tlv: &TlvTable) -> Self {
        let frozen = &event.node.frozen;
        let mut message = PacketIn::new(event.data);
        message.metadata = packet_metadata(&event.flow, tlv);
        message.reason = event.note.reason;
        message.table_id = event.table;
        message.cookie = event.note.rule_cookie;
        message.userdata = frozen.userdata.clone();
        let continuation = event.note.continuation.then(|| continuation(frozen, event.dp_port));
        PacketInNews { message, controller_id: event.note.controller_id, continuation }
    }
}

impl Agent {
    /// Notes what happened to rules that no connection asked for, for those that want to be told. All
    /// connections must be in place.
    pub fn tell_rules(&mut self, env: &Env, events: Vec<RuleEvent>, at_ms: u64) {
        self.tell_changes(env, None, vec![Changes { events, ..Changes::default() }], at_ms);
    }

    /// Notes what happened to rules. `own` is the connection that asked for it, while it is served.
    pub fn tell_changes(&mut self, env: &Env, own: Option<&mut Conn>, changes: Vec<Changes>, at_ms: u64) {
        let own_id = own.as_ref().map(|c| c.id);
        let has_monitors = |c: &Conn| !c.monitors.is_empty();
        if own.as_deref().is_some_and(has_monitors) || self.conns.values().any(has_monitors) {
            let tlv = env.tlv(self.id);
            let next = env.fabric.read().switch(self.id).map_or(0, Switch::next_place);
            let conns = self.conns.values_mut().chain(own);
            monitor::report(conns, own_id, &changes, &tlv, (at_ms, next));
        }
        for event in changes.iter().flat_map(|c| &c.events) {
            if let RuleEvent::Removed { rule, reason } = event
                && rule.flags.contains(RuleFlags::SEND_FLOW_REM)
            {
                self.news.push(News::FlowRemoved { rule: rule.clone(), reason: *reason, at_ms });
            }
        }
        let size = changes.iter().map(|c| c.events.len()).sum();
        discard::later(changes, size);
    }

    /// Sends what was noted. All connections must be in place.
    pub fn spread_news(&mut self, env: &Env) {
        if self.news.is_empty() {
            return;
        }
        let tlv = env.tlv(self.id);
        for news in std::mem::take(&mut self.news) {
            match news {
                News::FlowRemoved { rule, reason, at_ms } => {
                    let message = flow_removed(&rule, reason, at_ms);
                    let listeners =
                        self.conns.values().filter(|c| c.receives(AsyncMsg::FlowRemoved, reason as u32));
                    for conn in listeners {
                        let target = Target { protocol: conn.protocol, tlv: Some(&tlv) };
                        conn.link.send_async(message.encode(&target, 0));
                    }
                }
                News::Request { source, xid, request, group, existed } => {
                    self.tell_request(source, xid, &request, group.as_deref(), existed, &tlv);
                }
                News::Port { source, reason, old, new } => self.tell_port(source, reason, old, new),
                News::Table(status) => {
                    let reason = status.reason as u32;
                    for conn in self.conns.values().filter(|c| c.receives(AsyncMsg::TableStatus, reason)) {
                        if let Some(message) = status.encode(conn.version, 0) {
                            conn.link.send_async(message);
                        }
                    }
                }
            }
        }
    }

    /// Whether a connection, other than the one that is being served, wants to know of group-mods.
    pub fn forwards_requests(&self) -> bool {
        self.conns.values().any(|c| c.receives(AsyncMsg::RequestForward, 0))
    }

    fn tell_request(
        &self,
        source: ConnId,
        xid: u32,
        request: &ForwardedRequest,
        group: Option<&Group>,
        existed: bool,
        tlv: &TlvTable,
    ) {
        let reason = u32::from(matches!(request, ForwardedRequest::MeterMod(_)));
        let wants = |c: &&Conn| c.id != source && c.receives(AsyncMsg::RequestForward, reason);
        for conn in self.conns.values().filter(wants) {
            let request = match request {
                ForwardedRequest::GroupMod(gm) => {
                    let buckets = group.map(|g| &g.buckets[..]).unwrap_or_default();
                    ForwardedRequest::GroupMod(gm.in_terms_of(conn.version, buckets, existed))
                }
                meter_mod => meter_mod.clone(),
            };
            let target = Target { protocol: conn.protocol, tlv: Some(tlv) };
            if let Some(message) = (RequestForward { request_xid: xid, request }).encode(&target, 0) {
                conn.link.send_async(message);
            }
        }
    }

    fn tell_port(&self, source: Option<ConnId>, reason: PortReason, old: Option<PortDesc>, new: PortDesc) {
        let new = PortStatus { reason, desc: new };
        let old = old.map(|desc| PortStatus { reason, desc });
        for conn in self.conns.values().filter(|c| c.receives(AsyncMsg::PortStatus, reason as u32)) {
            // Before OpenFlow 1.5, who changes a port is not told of it.
            if source == Some(conn.id) && conn.version < Version::Of15 {
                continue;
            }
            let message = new.encode(conn.version, 0);
            // A change of something that the version does not have is none.
            let is_visible = reason != PortReason::Modify
                || old.as_ref().is_none_or(|old| old.encode(conn.version, 0) != message);
            if is_visible {
                conn.link.send_async(message);
            }
        }
    }

    /// Tells a controller that it is no longer primary.
    pub fn tell_demotion(&self, conn: &Conn) {
        let status = RoleStatus {
            role: Role::Secondary,
            reason: RoleReason::PrimaryRequest,
            generation_id: self.election.unwrap_or(u64::MAX),
        };
        if let Some(message) = status.encode(conn.version, 0) {
            conn.link.send_async(message);
        }
    }

    /// Sends a packet-in to the controllers that it is for.
    pub fn send_packet_in(&mut self, news: &PacketInNews, tlv: &TlvTable, now_ms: u64) {
        let reason = u32::from(news.message.reason);
        let port = OfPort(news.message.metadata.flow.in_port as u16);
        for conn in self.conns.values_mut() {
            if conn.controller_id == news.controller_id && conn.receives(AsyncMsg::PacketIn, reason) {
                let target = Target { protocol: conn.protocol, tlv: Some(tlv) };
                let mut message = Cow::Borrowed(&news.message);
                if let Some(continuation) = &news.continuation {
                    message.to_mut().continuation = continuation.encode(&target);
                }
                let bytes = message.encode(conn.packet_in_format, &target, 0);
                conn.send_packet_in(news.message.reason, port, bytes.into(), now_ms);
            }
        }
    }
}
