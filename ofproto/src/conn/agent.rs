//! The OpenFlow agent of one switch: its connections, and what is common to them.

use super::announce::News;
use super::fail_open::FailOpen;
use super::in_band::InBand;
use super::link::{LinkEnv, SnoopTap};
use super::manager::Env;
use super::remote::{Remote, RemoteConfig, Service};
use super::session::{Conn, ConnKind, ConnSettings};
use super::{Origin, UpEvent};
use crate::flow_mod::{Filter, RemovedReason, RuleEvent};
use crate::ids::{ConnId, SwitchId};
use bytes::Bytes;
use flow::Match;
use openflow::identify;
use openflow::msg::hello::VersionSet;
use openflow::msg::role::Role;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use stream::Target;

/// Milliseconds between probes of a tool on `<bridge>.mgmt`.
const MGMT_PROBE_MS: u32 = 60_000;
/// How long a controller must stay connected to count as one that accepts the switch, whatever it says.
const ADMITTED_AFTER_MS: u64 = 30_000;

/// `Bridge.fail_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailMode {
    /// Without a controller the switch forwards as a learning switch.
    Standalone,
    /// Without a controller the flow tables stay as they are.
    Secure,
}

/// A row of the Controller table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerConfig {
    pub remote: RemoteConfig,
    pub settings: ConnSettings,
    /// The switch itself is to let its packets through (`Controller.connection_mode`).
    pub in_band: bool,
}

/// Where connections of a [`ControllerConfig`] come from.
#[derive(Debug)]
enum Source {
    Active {
        remote: Remote,
        tap: SnoopTap,
    },
    Passive {
        service: Service,
    },
    /// The target cannot be listened on; tried again with the next configuration.
    Failed,
}

#[derive(Debug)]
struct Controller {
    config: ControllerConfig,
    source: Source,
    /// When a connection last showed that it accepts the switch, or when the row was made.
    admitted_ms: u64,
}

/// What the switch says of itself (`OFPMP_DESC`); `None` for the default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description {
    /// `other_config:dp-desc`
    pub datapath: Option<String>,
    /// `other_config:dp-sn`
    pub serial: Option<String>,
}

/// One switch's agent.
#[derive(Debug)]
pub struct Agent {
    pub id: SwitchId,
    pub name: String,
    pub description: Description,
    pub conns: BTreeMap<ConnId, Conn>,
    /// The newest election of a primary controller (`generation_id`), shared by all connections.
    pub election: Option<u64>,
    pub fail_mode: FailMode,
    pub fail_open: FailOpen,
    pub in_band: InBand,
    /// What connections are to be told of once the batch of messages at hand is done.
    pub news: Vec<News>,
    pub next_expiry_ms: u64,
    versions: VersionSet,
    controllers: BTreeMap<String, Controller>,
    mgmt: Option<(Target, Option<Service>)>,
    snoop: Option<(Target, Option<Service>)>,
    mgmt_settings: ConnSettings,
}

impl Agent {
    pub fn new(id: SwitchId, name: &str) -> Self {
        Agent {
            id,
            name: name.to_owned(),
            description: Description::default(),
            conns: BTreeMap::new(),
            election: None,
            fail_mode: FailMode::Secure,
            fail_open: FailOpen::default(),
            in_band: InBand::default(),
            news: Vec::new(),
            next_expiry_ms: 0,
            versions: VersionSet::ALL,
            controllers: BTreeMap::new(),
            mgmt: None,
            snoop: None,
            mgmt_settings: ConnSettings {
                kind: ConnKind::Service,
                enable_async: true,
                rate_limit: 0,
                burst_limit: 0,
                queue_size: 100,
            },
        }
    }

    fn link_env(&self, env: &Env, snoop: Option<SnoopTap>) -> LinkEnv {
        LinkEnv {
            switch: self.id,
            clock: env.fabric.clock.clone(),
            events: env.events.clone(),
            versions: self.versions,
            snoop,
        }
    }

    /// Whether any primary controller is configured.
    pub fn has_controllers(&self) -> bool {
        self.controllers.values().any(|c| c.config.settings.kind == ConnKind::Primary)
    }

    /// Where the controllers are that the switch must let through; those whose address is in their target.
    pub(super) fn in_band_controllers(&self) -> Vec<SocketAddrV4> {
        let in_band = self.controllers.values().filter(|c| c.config.in_band);
        in_band.filter_map(|c| c.config.remote.target.ipv4()).collect()
    }

    /// Takes over the versions to offer; connections start anew if they change.
    pub fn set_protocols(&mut self, env: &Env, versions: VersionSet) {
        if self.versions == versions {
            return;
        }
        self.versions = versions;
        for (target, controller) in std::mem::take(&mut self.controllers) {
            self.drop_conns(env, |origin| origin.target() == Some(&target));
            if let Source::Passive { service } = &controller.source {
                service.set_versions(versions);
                self.controllers.insert(target, controller);
            } else {
                self.add_controller(env, controller.config);
            }
        }
        if let Some((_, Some(service))) = &self.mgmt {
            service.set_versions(versions);
            self.drop_conns(env, |origin| *origin == Origin::Management);
        }
    }

    /// Makes the controllers those of `configs`, changing only what differs.
    pub fn set_controllers(&mut self, env: &Env, configs: Vec<ControllerConfig>) {
        let had = self.has_controllers();
        let wanted: BTreeMap<_, _> = configs.into_iter().map(|c| (c.remote.target.to_string(), c)).collect();
        let gone: Vec<_> = self.controllers.keys().filter(|t| !wanted.contains_key(*t)).cloned().collect();
        for target in gone {
            if let Some(c) = self.controllers.remove(&target) {
                tracing::info!(target: "connmgr", "{}: removed {} controller \"{target}\"",
                    self.name, kind_name(c.config.settings.kind));
            }
            self.drop_conns(env, |origin| origin.target() == Some(&target));
        }
        for (target, config) in wanted {
            match self.controllers.get_mut(&target) {
                Some(c) if !matches!(c.source, Source::Failed) => c.reconfigure(config),
                _ => self.add_controller(env, config),
            }
            let settings = self.controllers.get(&target).map(|c| c.config.settings);
            for conn in self.conns.values_mut().filter(|c| c.origin.target() == Some(&target)) {
                settings.iter().for_each(|s| conn.apply_settings(s, env.fabric.clock.now_ms()));
            }
        }
        self.update_fail_open(env);
        if had != self.has_controllers() {
            self.flush_flows(env);
        }
    }

    fn add_controller(&mut self, env: &Env, config: ControllerConfig) {
        let target = config.remote.target.to_string();
        let name = format!("{}<->{target}", self.name);
        let source = if config.remote.target.is_passive() {
            let link_env = self.link_env(env, None);
            let origin = Origin::Accepted(target.clone());
            match Service::start(&config.remote, origin, &self.name, &env.tls, link_env) {
                Ok(service) => Source::Passive { service },
                Err(e) => {
                    tracing::error!(target: "connmgr", "{}: failed to listen on {target}: {}",
                        self.name, stream::error_text(&e));
                    Source::Failed
                }
            }
        } else {
            let tap = SnoopTap::default();
            let link_env = self.link_env(env, Some(tap.clone()));
            let remote = Remote::start(name, config.remote.clone(), env.tls.clone(), link_env);
            Source::Active { remote, tap }
        };
        if !matches!(source, Source::Failed) {
            tracing::info!(target: "connmgr", "{}: added {} controller \"{target}\"",
                self.name, kind_name(config.settings.kind));
        }
        let admitted_ms = env.fabric.clock.now_ms();
        self.controllers.insert(target, Controller { config, source, admitted_ms });
    }

    /// Takes over what happens without a controller.
    pub fn set_fail_mode(&mut self, env: &Env, mode: FailMode) {
        if self.fail_mode == mode {
            return;
        }
        self.fail_mode = mode;
        self.update_fail_open(env);
        if !self.has_controllers() {
            self.flush_flows(env);
        }
    }

    /// Listens on `<bridge>.mgmt` and `<bridge>.snoop`.
    pub fn set_paths(&mut self, env: &Env, mgmt: Target, snoop: Target, queue_size: usize) {
        self.mgmt_settings.queue_size = queue_size;
        if self.mgmt.as_ref().is_none_or(|(t, s)| *t != mgmt || s.is_none()) {
            self.mgmt = None;
            self.drop_conns(env, |origin| *origin == Origin::Management);
            self.listen_mgmt(env, mgmt);
        }
        if self.snoop.as_ref().is_none_or(|(t, s)| *t != snoop || s.is_none()) {
            self.snoop = None;
            self.drop_conns(env, |origin| *origin == Origin::Snoop);
            let mut link_env = self.link_env(env, None);
            link_env.versions = VersionSet::ALL;
            let service = self.listen(env, &snoop, Origin::Snoop, link_env);
            self.snoop = Some((snoop, service));
        }
    }

    fn listen_mgmt(&mut self, env: &Env, target: Target) {
        let service = self.listen(env, &target, Origin::Management, self.link_env(env, None));
        self.mgmt = Some((target, service));
    }

    fn listen(&self, env: &Env, target: &Target, origin: Origin, link_env: LinkEnv) -> Option<Service> {
        let config = RemoteConfig {
            target: target.clone(),
            max_backoff_ms: 0,
            probe_interval_ms: MGMT_PROBE_MS,
            dscp: None,
        };
        match Service::start(&config, origin, &self.name, &env.tls, link_env) {
            Ok(service) => Some(service),
            Err(e) => {
                tracing::error!(target: "connmgr", "failed to listen on {target}: {}", stream::error_text(&e));
                None
            }
        }
    }

    /// `bridge/reconnect`: all connections are dropped; controllers are called again.
    pub fn reconnect(&mut self, env: &Env) {
        for c in self.controllers.values() {
            if let Source::Active { remote, .. } = &c.source {
                remote.reconnect();
            }
        }
        let accepted: Vec<_> = self
            .conns
            .values()
            .filter(|c| !matches!(c.origin, Origin::Controller(_)))
            .map(|c| c.id)
            .collect();
        for id in accepted {
            if let Some(conn) = self.remove_conn(env, id) {
                conn.link.close();
            }
        }
    }

    /// Takes in a connection that has shaken hands.
    pub fn connected(&mut self, env: &Env, up: UpEvent) {
        if up.origin == Origin::Snoop {
            return self.snooper(env, up);
        }
        let settings = match up.origin.target() {
            None => Some(self.mgmt_settings),
            Some(target) => self.controllers.get(target).map(|c| c.config.settings),
        };
        let Some(settings) = settings else { return up.link.close() };
        let conn = Conn::new(up, &settings, env.fabric.clock.now_ms());
        self.conns.insert(conn.id, conn);
        self.update_misses(env);
    }

    /// Lets a tool listen to the most interesting controller.
    fn snooper(&mut self, env: &Env, up: UpEvent) {
        let taps = self.controllers.values().filter_map(|c| match &c.source {
            Source::Active { tap, .. } => Some((tap, self.interest(&c.config.remote.target.to_string()))),
            _ => None,
        });
        let Some((tap, _)) = taps.max_by_key(|(_, interest)| *interest) else {
            tracing::info!(target: "connmgr", "no controller connection to snoop");
            return up.link.close();
        };
        tap.add(up.id, up.link.clone());
        let conn = Conn::new(up, &self.mgmt_settings, env.fabric.clock.now_ms());
        self.conns.insert(conn.id, conn);
    }

    fn interest(&self, target: &str) -> u8 {
        let conn = self.conns.values().find(|c| c.origin.target() == Some(target));
        conn.map_or(0, |c| match c.role {
            Role::Primary => 3,
            Role::Equal => 2,
            Role::Secondary => 1,
            Role::NoChange => 0,
        })
    }

    /// Forgets a connection that is gone.
    pub fn remove_conn(&mut self, env: &Env, id: ConnId) -> Option<Conn> {
        let mut conn = self.conns.remove(&id)?;
        if let Some(line) = conn.mods.report(env.fabric.clock.now_ms(), true) {
            tracing::info!(target: "connmgr", "{}: {line}", conn.name);
        }
        for c in self.controllers.values() {
            if let Source::Active { tap, .. } = &c.source {
                tap.remove(id);
            }
        }
        self.update_misses(env);
        Some(conn)
    }

    fn drop_conns(&mut self, env: &Env, matches: impl Fn(&Origin) -> bool) {
        let ids: Vec<_> = self.conns.values().filter(|c| matches(&c.origin)).map(|c| c.id).collect();
        ids.into_iter().for_each(|id| drop(self.remove_conn(env, id)));
    }

    /// Messages came in: queues them on their connection. Says whether there is such a connection.
    pub fn enqueue(&mut self, env: &Env, id: ConnId, batch: Vec<Bytes>) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let Some(target) = conn.origin.target().map(str::to_owned) else {
            if conn.origin == Origin::Management {
                conn.inbox.extend(batch);
            }
            return conn.origin == Origin::Management;
        };
        let now_ms = env.fabric.clock.now_ms();
        let admits = batch.iter().any(|m| shows_admission(m));
        conn.inbox.extend(batch);
        if let Some(c) = self.controllers.get_mut(&target)
            && (admits || c.connected_for(ADMITTED_AFTER_MS))
        {
            c.admitted_ms = now_ms;
            if c.config.settings.kind == ConnKind::Primary {
                self.recover_from_fail_open(env);
            }
        }
        true
    }

    /// What translation needs to know of controllers: whether there are any, and whether they want packets
    /// that no rule matches.
    pub fn update_misses(&self, env: &Env) {
        let now = (self.conns.values().any(Conn::wants_misses), self.has_controllers());
        let known = env.fabric.read().switch(self.id).map(|s| (s.packet_in_on_miss, s.has_controllers));
        if known.is_some_and(|k| k != now) {
            if let Ok(switch) = env.fabric.write().switch_mut(self.id) {
                (switch.packet_in_on_miss, switch.has_controllers) = now;
            }
            env.fabric.changed();
        }
    }

    /// Empties the tables, and puts in what belongs there without a controller.
    pub fn flush_flows(&mut self, env: &Env) {
        coverage::counter::ofproto_flush.inc();
        let now_ms = env.fabric.clock.now_ms();
        let standalone = self.fail_mode == FailMode::Standalone && !self.has_controllers();
        let mut events: Vec<RuleEvent> = Vec::new();
        if let Ok(switch) = env.fabric.write().switch_mut(self.id) {
            for rule in switch.select(&Match::catchall(), 0, false, &Filter::ALL) {
                events.extend(switch.remove_rule(&rule, RemovedReason::Delete));
            }
            switch.guardians = crate::learn::Guardians::default();
            switch.refs = crate::refs::RuleRefs::default();
            if standalone && let Err(e) = switch.apply(&super::fail_open::normal_flow(), now_ms) {
                tracing::error!(target: "connmgr", "{}: no default flow: {e}", self.name);
            }
        }
        env.fabric.changed();
        self.tell_rules(env, events, now_ms);
    }

    /// Seconds for which no active primary controller has accepted the switch; 0 if there is none.
    pub fn failure_s(&self, now_ms: u64) -> u64 {
        let active = self.controllers.values().filter_map(|c| match &c.source {
            Source::Active { remote, .. } if c.config.settings.kind == ConnKind::Primary => Some((c, remote)),
            _ => None,
        });
        let since = active.map(|(c, remote)| {
            let connected = remote.stats().since_connect_ms.map(|ms| now_ms.saturating_sub(ms));
            let admitted = remote.is_connected() && connected.is_some_and(|at| c.admitted_ms >= at);
            if admitted { 0 } else { now_ms.saturating_sub(c.admitted_ms) / 1000 }
        });
        since.min().unwrap_or(0)
    }

    /// The longest probe interval of primary controllers in seconds.
    pub fn probe_interval_s(&self) -> u64 {
        let primary = self.controllers.values().filter(|c| c.config.settings.kind == ConnKind::Primary);
        primary.map(|c| u64::from(c.config.remote.probe_interval_ms) / 1000).max().unwrap_or(0)
    }

    /// Status of controllers that we connect to, by target.
    pub fn status(&self, now_ms: u64) -> BTreeMap<String, ControllerStatus> {
        let active = self.controllers.iter().filter_map(|(target, c)| match &c.source {
            Source::Active { remote, .. } => Some((target, remote)),
            _ => None,
        });
        active.map(|(target, remote)| (target.clone(), self.status_of(target, remote, now_ms))).collect()
    }

    fn status_of(&self, target: &str, remote: &Remote, _now_ms: u64) -> ControllerStatus {
        let conn = self.conns.values().find(|c| c.origin.target() == Some(target));
        let stats = remote.stats();
        let mut pairs = BTreeMap::new();
        pairs.insert("state".to_owned(), stats.state.name().to_owned());
        if let Some(e) = remote.last_error() {
            pairs.insert("last_error".to_owned(), e);
        }
        let times = [("connect", stats.since_connect_ms), ("disconnect", stats.since_disconnect_ms)];
        for (what, since) in times {
            if let Some(ms) = since {
                pairs.insert(format!("sec_since_{what}"), (ms / 1000).to_string());
            }
        }
        let pacers = conn.into_iter().flat_map(|c| c.pacers.iter().zip(["action", "miss"]));
        for (stats, name) in pacers.filter_map(|(p, name)| Some((p.as_ref()?.stats(), name))) {
            let values = [
                ("backlog", stats.backlog as u64),
                ("bypassed", stats.bypassed),
                ("queued", stats.queued),
                ("dropped", stats.dropped),
            ];
            pairs.extend(values.map(|(what, n)| (format!("packet-in-{name}-{what}"), n.to_string())));
        }
        ControllerStatus { is_connected: remote.is_connected(), role: conn.map(|c| c.role), pairs }
    }
}

impl Controller {
    fn reconfigure(&mut self, config: ControllerConfig) {
        match &self.source {
            Source::Active { remote, .. } => remote.reconfigure(config.remote.clone()),
            Source::Passive { service } => service.reconfigure(&config.remote),
            Source::Failed => {}
        }
        self.config = config;
    }

    fn connected_for(&self, ms: u64) -> bool {
        let Source::Active { remote, .. } = &self.source else { return false };
        remote.is_connected() && remote.stats().since_connect_ms.is_some_and(|since| since >= ms)
    }
}

/// What the Controller table says of a controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerStatus {
    pub is_connected: bool,
    /// `None` while not connected.
    pub role: Option<Role>,
    /// `Controller.status`.
    pub pairs: BTreeMap<String, String>,
}

impl ControllerStatus {
    /// `Controller.role`, if there is one.
    pub fn role_name(&self) -> Option<&'static str> {
        match self.role? {
            Role::Primary => Some("master"),
            Role::Secondary => Some("slave"),
            Role::Equal => Some("other"),
            Role::NoChange => None,
        }
    }
}

fn kind_name(kind: ConnKind) -> &'static str {
    match kind {
        ConnKind::Primary => "primary",
        ConnKind::Service => "service",
    }
}

/// Whether a message is one that a controller sends only to a switch that it has accepted.
fn shows_admission(message: &[u8]) -> bool {
    use openflow::MsgType as T;
    identify(message).is_ok_and(|m| {
        !matches!(
            m.msg_type(),
            T::Hello
                | T::Error
                | T::EchoRequest
                | T::EchoReply
                | T::FeaturesRequest
                | T::GetConfigRequest
                | T::SetConfig
                | T::QueueGetConfigRequest
                | T::GetAsyncRequest
                | T::GroupStatsRequest
                | T::GroupDescStatsRequest
                | T::GroupFeaturesStatsRequest
                | T::TableFeaturesStatsRequest
                | T::TableDescRequest
        )
    })
}
