//! The OpenFlow side of all switches: what the daemon calls.
//!
//! Everything here runs in the main task. The daemon owns the receiving end of the event channel and the
//! fabric's queue of asynchronous events, and hands both in:
//!
//! ```text
//! loop {
//!     select! {
//!         e = events.recv()            => ofproto.handle_event(e),
//!         () = fabric.async_queue.wait() => for e in fabric.async_queue.take() { ofproto.handle_async(e) },
//!         () = clock.sleep_until_ms(deadline) => {}
//!     }
//!     deadline = ofproto.run();
//! }
//! ```

use super::ConnEvent;
use super::agent::{Agent, ControllerConfig, ControllerStatus, Description, FailMode};
use super::announce::{News, PacketInNews, port_desc};
use super::in_band::InBandConfig;
use super::monitor;
use crate::async_event::AsyncEvent;
use crate::fabric::Fabric;
use crate::handle::{self, Cx};
use crate::ids::{ConnId, OfPort, SwitchId};
use crate::port::Port;
use flow::{EthAddr, TlvTable};
use openflow::msg::hello::VersionSet;
use openflow::msg::port::{PortDesc, PortState};
use openflow::msg::port_stats::PortStats;
use openflow::msg::port_status::PortReason;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use stream::{Target, Tls};
use tokio::sync::mpsc;

/// Rules are looked through for timeouts this often.
const EXPIRY_INTERVAL_MS: u64 = 1_000;

/// What only the owner of the devices can do.
pub trait PortControl: Send + Sync {
    /// Takes a port's device up or down; false if that is impossible.
    fn set_admin(&self, switch: SwitchId, port: OfPort, up: bool) -> bool;

    /// Counters of a port beyond those that the datapath keeps.
    fn refine_stats(&self, _switch: SwitchId, _port: OfPort, _stats: &mut PortStats) {}

    /// The MAC of the host that packets of the switch's local port to `ip` go to first; `None` while it is not
    /// known. An error says why there is no way.
    fn next_hop(&self, _switch: SwitchId, _ip: Ipv4Addr) -> Result<Option<EthAddr>, String> {
        Ok(None)
    }

    /// The queues of a port's device.
    fn queues(&self, _switch: SwitchId, _port: OfPort) -> Vec<Queue> {
        Vec::new()
    }
}

/// A queue of a device, with its counters as far as the device keeps them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    pub id: u32,
    pub tx_packets: Option<u64>,
    pub tx_bytes: Option<u64>,
    /// Packets dropped.
    pub tx_errors: Option<u64>,
    /// In milliseconds of the clock.
    pub created_ms: Option<u64>,
}

/// What every part of the agent needs.
pub struct Env {
    pub fabric: Arc<Fabric>,
    pub events: mpsc::Sender<ConnEvent>,
    pub tls: Arc<Tls>,
    pub ports: Arc<dyn PortControl>,
    /// Whether the debugging actions are understood (`--enable-dummy`).
    pub debug_actions: bool,
}

impl Env {
    pub fn now_ms(&self) -> u64 {
        self.fabric.clock.now_ms()
    }

    /// The tunnel options of a switch.
    pub fn tlv(&self, switch: SwitchId) -> Arc<TlvTable> {
        self.fabric.read().switch(switch).map(|s| s.tlv.clone()).unwrap_or_default()
    }
}

/// All agents.
pub struct Ofproto {
    pub env: Env,
    agents: BTreeMap<SwitchId, Agent>,
    homes: HashMap<ConnId, SwitchId>,
}

impl Ofproto {
    pub fn new(env: Env) -> Self {
        Ofproto { env, agents: BTreeMap::new(), homes: HashMap::new() }
    }

    /// Begins to serve a switch that the fabric has. Until it is configured it has no controllers, nobody
    /// can connect, and its fail mode is secure.
    pub fn add_switch(&mut self, id: SwitchId) {
        let name = self.env.fabric.read().switch(id).map(|s| s.name.clone());
        if let Some(name) = name {
            self.agents.entry(id).or_insert_with(|| Agent::new(id, &name));
        }
    }

    /// Stops serving a switch and drops its connections.
    pub fn remove_switch(&mut self, id: SwitchId) {
        self.agents.remove(&id);
        self.homes.retain(|_, home| *home != id);
    }

    fn with(&mut self, id: SwitchId, f: impl FnOnce(&mut Agent, &Env)) {
        if let Some(agent) = self.agents.get_mut(&id) {
            f(agent, &self.env);
            agent.spread_news(&self.env);
        }
    }

    pub fn agent(&self, id: SwitchId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// `Bridge.protocols`. Connections start anew if this changes.
    pub fn set_protocols(&mut self, id: SwitchId, versions: VersionSet) {
        self.with(id, |agent, env| agent.set_protocols(env, versions));
    }

    /// `Bridge.controller`. Only what differs changes.
    pub fn set_controllers(&mut self, id: SwitchId, configs: Vec<ControllerConfig>) {
        self.with(id, |agent, env| agent.set_controllers(env, configs));
    }

    /// How the switch lets its in-band controllers through; to be called after a change of the controllers too.
    pub fn set_in_band(&mut self, id: SwitchId, config: InBandConfig) {
        self.with(id, |agent, env| agent.set_in_band(env, config));
    }

    /// `Bridge.fail_mode`.
    pub fn set_fail_mode(&mut self, id: SwitchId, mode: FailMode) {
        self.with(id, |agent, env| agent.set_fail_mode(env, mode));
    }

    /// Where tools connect: `punix:` targets of `<bridge>.mgmt` and `<bridge>.snoop`. `queue_size` is the
    /// bridge's `other_config:controller-queue-size`. A socket that could not be made is tried again.
    pub fn set_paths(&mut self, id: SwitchId, mgmt: Target, snoop: Target, queue_size: usize) {
        self.with(id, |agent, env| agent.set_paths(env, mgmt, snoop, queue_size));
    }

    /// `other_config:dp-desc` and `dp-sn`.
    pub fn set_description(&mut self, id: SwitchId, description: Description) {
        self.with(id, |agent, _| agent.description = description);
    }

    /// `bridge/reconnect`: drops connections of one switch, or of all.
    pub fn reconnect(&mut self, id: Option<SwitchId>) {
        for agent in self.agents.values_mut().filter(|a| id.is_none_or(|id| a.id == id)) {
            agent.reconnect(&self.env);
        }
    }

    /// `fail_mode` and default flows anew, as after `ofproto` lost its tables.
    pub fn flush_flows(&mut self, id: SwitchId) {
        self.with(id, |agent, env| agent.flush_flows(env));
    }

    /// Controllers of a switch that we connect to, by target.
    pub fn controller_status(&self, id: SwitchId) -> BTreeMap<String, ControllerStatus> {
        self.agents.get(&id).map(|a| a.status(self.env.now_ms())).unwrap_or_default()
    }

    /// Whether any primary controller is connected (`Bridge.status` and the `mgmt` of tools do not count).
    pub fn is_controlled(&self, id: SwitchId) -> bool {
        self.controller_status(id).values().any(|s| s.is_connected)
    }

    /// Deals with what a link task reports.
    pub fn handle_event(&mut self, event: ConnEvent) {
        match event {
            ConnEvent::Up(up) => match self.agents.get_mut(&up.switch) {
                Some(agent) => {
                    self.homes.insert(up.id, up.switch);
                    agent.connected(&self.env, up);
                }
                None => up.link.close(),
            },
            ConnEvent::Messages { id, batch } => {
                let Some(agent) = self.homes.get(&id).and_then(|h| self.agents.get_mut(h)) else { return };
                if agent.enqueue(&self.env, id, batch) {
                    serve(agent, &self.env, id);
                }
            }
            ConnEvent::Drained { id } => {
                if let Some(agent) = self.homes.get(&id).and_then(|h| self.agents.get_mut(h)) {
                    resume_updates(agent, &self.env, id);
                    serve(agent, &self.env, id);
                }
            }
            ConnEvent::Down { id } => {
                if let Some(agent) = self.homes.remove(&id).and_then(|h| self.agents.get_mut(&h)) {
                    agent.remove_conn(&self.env, id);
                }
            }
        }
    }

    /// Tells controllers what translation and handlers have to say.
    pub fn handle_async(&mut self, event: AsyncEvent) {
        match event {
            AsyncEvent::PacketIn(event) => {
                let switch = event.switch;
                let tlv = self.env.tlv(switch);
                let now_ms = self.env.now_ms();
                if let Some(agent) = self.agents.get_mut(&switch) {
                    agent.send_packet_in(&PacketInNews::of(*event, &tlv), &tlv, now_ms);
                }
            }
            // What the port was before: what it is, but for its liveness.
            AsyncEvent::Session { switch, port, flipped: true } => {
                let new = self.env.fabric.read().switch(switch).and_then(|s| s.port(port).map(describe));
                let mut old = new.clone();
                if let Some(old) = &mut old {
                    old.state.toggle(PortState::LIVE);
                }
                self.port_changed(switch, old, new);
            }
            AsyncEvent::Session { .. } => {}
            AsyncEvent::Rules { switch, events } => {
                let now_ms = self.env.now_ms();
                self.with(switch, |agent, env| agent.tell_rules(env, events, now_ms));
            }
        }
    }

    /// A port appeared (`old` is `None`), changed, or went (`new` is `None`). The daemon takes
    /// descriptions with [`describe`] before and after it changes the fabric's state.
    pub fn port_changed(&mut self, id: SwitchId, old: Option<PortDesc>, new: Option<PortDesc>) {
        let news = |reason, old, new| News::Port { source: None, reason, old, new };
        let modify = |old: PortDesc, new: PortDesc| news(PortReason::Modify, Some(old), new);
        // As in the stock daemon, a port becomes live after it has come, and dead before it changes otherwise.
        let dead = |desc: &PortDesc| PortDesc { state: desc.state - PortState::LIVE, ..desc.clone() };
        let all = match (old, new) {
            (None, Some(new)) => vec![news(PortReason::Add, None, dead(&new)), modify(dead(&new), new)],
            (Some(old), Some(new)) if !new.state.contains(PortState::LIVE) => {
                vec![modify(old.clone(), dead(&old)), modify(dead(&old), new)]
            }
            (Some(old), Some(new)) => vec![modify(old, new)],
            (Some(old), None) => vec![news(PortReason::Delete, None, old)],
            (None, None) => return,
        };
        let is_news = |n: &News| !matches!(n, News::Port { old: Some(old), new, .. } if old == new);
        self.with(id, |agent, _| agent.news.extend(all.into_iter().filter(is_news)));
    }

    /// Does what time asks for; returns when to come again, in milliseconds of the clock.
    pub fn run(&mut self) -> Option<u64> {
        let now_ms = self.env.now_ms();
        self.agents.values_mut().filter_map(|agent| run_agent(agent, &self.env, now_ms)).min()
    }
}

/// What OpenFlow says of a port, for [`Ofproto::port_changed`].
pub fn describe(port: &Port) -> PortDesc {
    port_desc(port)
}

/// A peer has read what waited for it: it may be told of rules again.
fn resume_updates(agent: &mut Agent, env: &Env, id: ConnId) {
    let tlv = env.tlv(agent.id);
    if let (Some(conn), Some(switch)) = (agent.conns.get_mut(&id), env.fabric.read().switch(agent.id)) {
        monitor::resume(conn, switch, &tlv);
    }
}

/// Works off the messages of a connection.
fn serve(agent: &mut Agent, env: &Env, id: ConnId) {
    let Some(mut conn) = agent.conns.remove(&id) else { return };
    handle::run(&mut Cx::new(env, agent, &mut conn));
    agent.conns.insert(id, conn);
    agent.spread_news(env);
    agent.update_misses(env);
}

fn run_agent(agent: &mut Agent, env: &Env, now_ms: u64) -> Option<u64> {
    if now_ms >= agent.next_expiry_ms {
        agent.next_expiry_ms = now_ms + EXPIRY_INTERVAL_MS;
        expire_flows(agent, env, now_ms);
        agent.run_fail_open(env, now_ms);
        agent.run_in_band(env, now_ms);
        for conn in agent.conns.values_mut() {
            conn.expire_requests(now_ms);
        }
    }
    let mut deadline = agent.next_expiry_ms;
    for conn in agent.conns.values_mut() {
        conn.run_pacers(now_ms);
        if let Some(line) = conn.mods.report(now_ms, false) {
            tracing::info!(target: "connmgr", "{}: {line}", conn.name);
        }
        let pacers = conn.pacers.iter().flatten().filter_map(|p| p.deadline_ms());
        deadline = pacers.chain(conn.mods.deadline_ms()).fold(deadline, u64::min);
    }
    deadline = agent.fail_open.deadline_ms().into_iter().fold(deadline, u64::min);
    agent.spread_news(env);
    Some(deadline)
}

/// Ends rules, and entries of the MAC table, whose time has come. The counters of those that a megaflow may have used are brought up to
/// date first, by the revalidator's last round.
fn expire_flows(agent: &mut Agent, env: &Env, now_ms: u64) {
    let macs_gone = env.fabric.read().switch(agent.id).is_some_and(|s| s.macs.lock().expire(now_ms));
    if macs_gone {
        env.fabric.changed();
    }
    let has_any =
        env.fabric.read().switch(agent.id).is_some_and(|s| s.tables.iter().any(|t| t.has_expirable()));
    if !has_any {
        return;
    }
    let events = match env.fabric.write().switch_mut(agent.id) {
        Ok(switch) => {
            let events = switch.expire_flows(now_ms);
            agent.news.extend(handle::flow_mods::table_news(switch, &events));
            events
        }
        Err(_) => return,
    };
    if !events.is_empty() {
        coverage::counter::ofproto_dpif_expired.add(events.len() as u64);
        env.fabric.changed();
        agent.tell_rules(env, events, now_ms);
    }
}
