//! Where connections come from: controllers that we call, and sockets on which we are called.

use super::Origin;
use super::link::{self, Keeper, LinkEnv, LinkError};
use openflow::msg::hello::VersionSet;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stream::{ConnectOptions, Listener, LogModule, Reconnect, ReconnectStats, Target, Tls};
use tokio::task::JoinHandle;

/// Connections accepted on one listening socket at a time; further ones wait in the kernel's queue.
pub const ACCEPTED_MAX: u32 = 1024;
/// How long a connection attempt may take where nothing else says so.
const ATTEMPT_MS: u64 = 8_000;

/// How to keep in touch with a peer (columns of the Controller table).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteConfig {
    pub target: Target,
    pub max_backoff_ms: u32,
    /// 0: no probes.
    pub probe_interval_ms: u32,
    pub dscp: Option<u8>,
}

/// What [`Remote`] and its task share.
#[derive(Debug)]
struct Shared {
    keeper: Keeper,
    config: Mutex<RemoteConfig>,
    last_error: Mutex<Option<String>>,
}

/// A controller that we connect to, again and again.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    clock: clock::Clock,
    task: JoinHandle<()>,
}

impl Remote {
    /// `name` is the connection as the log names it: `br0<->tcp:10.0.0.1:6653`.
    pub fn start(name: String, config: RemoteConfig, tls: Arc<Tls>, env: LinkEnv) -> Self {
        let now = env.clock.now_ms();
        let mut reconnect = Reconnect::new(name.clone(), now).log_as(LogModule::Rconn);
        configure(&mut reconnect, &config);
        reconnect.enable(now);
        let shared = Arc::new(Shared {
            keeper: Keeper::new(reconnect),
            config: Mutex::new(config),
            last_error: Mutex::new(None),
        });
        let clock = env.clock.clone();
        let task = tokio::spawn(keep_connected(name, tls, env, shared.clone()));
        Remote { shared, clock, task }
    }

    /// Takes over settings; a changed DSCP needs a new connection.
    pub fn reconfigure(&self, config: RemoteConfig) {
        let old = std::mem::replace(&mut *self.shared.config.lock(), config.clone());
        self.shared.keeper.with(|r| configure(r, &config));
        if old.dscp != config.dscp {
            self.reconnect();
        }
    }

    pub fn stats(&self) -> ReconnectStats {
        self.shared.keeper.note(|r| r.stats(self.clock.now_ms()))
    }

    pub fn is_connected(&self) -> bool {
        self.shared.keeper.note(|r| r.is_connected())
    }

    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.lock().clone()
    }

    /// `bridge/reconnect`: hang up, and connect again.
    pub fn reconnect(&self) {
        self.shared.keeper.with(|r| r.force_reconnect(self.clock.now_ms()));
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn configure(reconnect: &mut Reconnect, config: &RemoteConfig) {
    reconnect.set_backoff(1_000, config.max_backoff_ms);
    // Open vSwitch probes controllers no more often than every 5 seconds.
    let probe = config.probe_interval_ms;
    reconnect.set_probe_interval(if probe == 0 { 0 } else { probe.max(5_000) });
}

async fn keep_connected(name: String, tls: Arc<Tls>, env: LinkEnv, shared: Arc<Shared>) {
    let keeper = &shared.keeper;
    loop {
        keeper.until_due(&env.clock).await;
        if keeper.due(&env.clock) != Some(stream::Action::Connect) {
            continue;
        }
        keeper.note(|r| r.connecting(env.clock.now_ms()));
        let config = shared.config.lock().clone();
        let origin = Origin::Controller(config.target.to_string());
        match attempt(&config, &tls, &env, keeper).await {
            Ok(stream) => {
                keeper.note(|r| r.connected(env.clock.now_ms()));
                let end = link::run(stream, name.clone(), origin, &env, keeper).await;
                let text = end_text(&end);
                keeper.note(|r| r.disconnected(env.clock.now_ms(), text.as_deref()));
                *shared.last_error.lock() = text.or_else(|| Some("End of file".into()));
            }
            Err(e) => {
                let text = stream::error_text(&e);
                keeper.note(|r| r.connect_failed(env.clock.now_ms(), Some(&text)));
                *shared.last_error.lock() = Some(text);
            }
        }
    }
}

/// One connection attempt, given up when the state machine says so.
async fn attempt(
    config: &RemoteConfig,
    tls: &Tls,
    env: &LinkEnv,
    keeper: &Keeper,
) -> io::Result<stream::Stream> {
    let options = ConnectOptions { dscp: config.dscp };
    let deadline = keeper.note(|r| r.deadline_ms());
    let expiry = env.clock.sleep_until_ms(deadline.unwrap_or_else(|| env.clock.now_ms() + ATTEMPT_MS));
    tokio::select! {
        s = stream::connect_with(&config.target, tls, &options) => s,
        () = expiry => Err(io::Error::new(io::ErrorKind::TimedOut, "Connection timed out")),
    }
}

/// What to log and report; `None` for a peer that simply closed.
fn end_text(end: &LinkError) -> Option<String> {
    match end {
        LinkError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
        LinkError::Io(e) => Some(stream::error_text(e)),
        LinkError::Inactive => Some("Connection timed out".to_owned()),
        LinkError::Protocol | LinkError::Closed => Some(end.to_string()),
    }
}

/// A socket on which peers call us: `<bridge>.mgmt`, `<bridge>.snoop`, or a passive controller target.
#[derive(Debug)]
pub struct Service {
    task: JoinHandle<()>,
    probe_ms: Arc<AtomicU32>,
    versions: Arc<Mutex<VersionSet>>,
}

impl Service {
    /// Listens at once; an error says why that is impossible. `switch_name` names connections in the log.
    pub fn start(
        config: &RemoteConfig,
        origin: Origin,
        switch_name: &str,
        tls: &Tls,
        env: LinkEnv,
    ) -> io::Result<Self> {
        let listener = Listener::bind_with(&config.target, tls, config.dscp)?;
        let probe_ms = Arc::new(AtomicU32::new(config.probe_interval_ms));
        let versions = Arc::new(Mutex::new(env.versions));
        let accepting = Accepting {
            listener,
            origin,
            switch_name: switch_name.to_owned(),
            probe_ms: probe_ms.clone(),
            versions: versions.clone(),
            env,
        };
        Ok(Service { task: tokio::spawn(accepting.run()), probe_ms, versions })
    }

    /// The versions to offer on connections to come. The socket stays: to bind it anew would race with its end.
    pub fn set_versions(&self, versions: VersionSet) {
        *self.versions.lock() = versions;
    }

    /// Takes over settings for connections to come.
    pub fn reconfigure(&self, config: &RemoteConfig) {
        self.probe_ms.store(config.probe_interval_ms, Relaxed);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Accepting {
    listener: Listener,
    origin: Origin,
    switch_name: String,
    probe_ms: Arc<AtomicU32>,
    versions: Arc<Mutex<VersionSet>>,
    env: LinkEnv,
}

impl Accepting {
    /// Accepts peers. When the service stops, so do the connections that came through it.
    async fn run(mut self) {
        let mut links = tokio::task::JoinSet::new();
        loop {
            while links.try_join_next().is_some() {}
            if links.len() >= ACCEPTED_MAX as usize {
                links.join_next().await;
                continue;
            }
            match self.listener.accept().await {
                Ok(stream) => {
                    let name = format!("{}<->{}", self.switch_name, stream.name());
                    let probe_ms = self.probe_ms.load(Relaxed);
                    let env = LinkEnv { versions: *self.versions.lock(), ..self.env.clone() };
                    links.spawn(accepted(stream, name, self.origin.clone(), probe_ms, env));
                }
                Err(e) => {
                    tracing::warn!(target: "vconn", "{}: accept failed ({})",
                        self.listener.target(), stream::error_text(&e));
                    self.env.clock.sleep_until_ms(self.env.clock.now_ms() + 100).await;
                }
            }
        }
    }
}

async fn accepted(stream: stream::Stream, name: String, origin: Origin, probe_ms: u32, env: LinkEnv) {
    let now = env.clock.now_ms();
    let mut reconnect = Reconnect::new(name.clone(), now).log_as(LogModule::Rconn);
    reconnect.set_quiet(true);
    reconnect.set_probe_interval(probe_ms);
    reconnect.enable(now);
    reconnect.connected(now);
    let keeper = Keeper::new(reconnect);
    let end = link::run(stream, name, origin, &env, &keeper).await;
    let text = end_text(&end);
    keeper.note(|r| r.disconnected(env.clock.now_ms(), text.as_deref()));
}
