//! Where connections come from: controllers that we call, and sockets on which we are called.

use super::Origin;
use super::link::{self, LinkEnv, LinkError};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stream::{ConnectOptions, Listener, Reconnect, ReconnectStats, Target, Tls};
use tokio::task::JoinHandle;

/// Connections accepted on one listening socket at a time; further ones wait in the kernel's queue.
pub const ACCEPTED_MAX: u32 = 1024;

/// How to keep in touch with a peer (columns of the Controller table).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteConfig {
    pub target: Target,
    pub max_backoff_ms: u32,
    /// 0: no probes.
    pub probe_interval_ms: u32,
    pub dscp: Option<u8>,
}

/// A controller that we connect to, again and again.
#[derive(Debug)]
pub struct Remote {
    reconnect: Arc<Mutex<Reconnect>>,
    last_error: Arc<Mutex<Option<String>>>,
    clock: clock::Clock,
    task: JoinHandle<()>,
}

impl Remote {
    pub fn start(name: String, config: RemoteConfig, tls: Arc<Tls>, env: LinkEnv) -> Self {
        let now = env.clock.now_ms();
        let mut reconnect = Reconnect::new(name, now);
        reconnect.set_backoff(1_000.min(config.max_backoff_ms), config.max_backoff_ms);
        reconnect.set_probe_interval(config.probe_interval_ms);
        reconnect.enable(now);
        let reconnect = Arc::new(Mutex::new(reconnect));
        let last_error = Arc::new(Mutex::new(None));
        let clock = env.clock.clone();
        let task = tokio::spawn(keep_connected(config, tls, env, reconnect.clone(), last_error.clone()));
        Remote { reconnect, last_error, clock, task }
    }

    pub fn stats(&self) -> ReconnectStats {
        self.reconnect.lock().stats(self.clock.now_ms())
    }

    pub fn is_connected(&self) -> bool {
        self.reconnect.lock().is_connected()
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// `bridge/reconnect`: hang up, and connect again at once.
    pub fn reconnect(&self) {
        self.reconnect.lock().force_reconnect(self.clock.now_ms());
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_connected(
    config: RemoteConfig,
    tls: Arc<Tls>,
    env: LinkEnv,
    reconnect: Arc<Mutex<Reconnect>>,
    last_error: Arc<Mutex<Option<String>>>,
) {
    let origin = Origin::Controller(config.target.to_string());
    let options = ConnectOptions { dscp: config.dscp, ..ConnectOptions::default() };
    loop {
        let deadline = reconnect.lock().deadline_ms();
        env.clock.sleep_until_ms(deadline.unwrap_or_else(|| env.clock.now_ms() + 1_000)).await;
        if reconnect.lock().run(env.clock.now_ms()) != Some(stream::Action::Connect) {
            continue;
        }
        reconnect.lock().connecting(env.clock.now_ms());
        let end = match attempt(&config.target, &tls, &options, &env, &reconnect).await {
            Ok(stream) => {
                reconnect.lock().connected(env.clock.now_ms());
                Some(link::run(stream, origin.clone(), &env, &reconnect).await)
            }
            Err(e) => {
                let text = stream::error_text(&e);
                reconnect.lock().connect_failed(env.clock.now_ms(), Some(&text));
                *last_error.lock() = Some(text);
                None
            }
        };
        if let Some(end) = end {
            let text = end_text(&end);
            reconnect.lock().disconnected(env.clock.now_ms(), text.as_deref());
            *last_error.lock() = text.or_else(|| Some("End of file".into()));
        }
    }
}

/// One connection attempt, given up when the state machine says so.
async fn attempt(
    target: &Target,
    tls: &Tls,
    options: &ConnectOptions,
    env: &LinkEnv,
    reconnect: &Mutex<Reconnect>,
) -> io::Result<stream::Stream> {
    let deadline = reconnect.lock().deadline_ms();
    let expiry = env.clock.sleep_until_ms(deadline.unwrap_or_else(|| env.clock.now_ms() + 8_000));
    tokio::select! {
        s = stream::connect_with(target, tls, options) => s,
        () = expiry => Err(io::Error::new(io::ErrorKind::TimedOut, "Connection timed out")),
    }
}

/// What to log and report; `None` for a peer that simply closed.
fn end_text(end: &LinkError) -> Option<String> {
    match end {
        LinkError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
        LinkError::Io(e) => Some(stream::error_text(e)),
        other => Some(other.to_string()),
    }
}

/// A socket on which peers call us: `<bridge>.mgmt`, `<bridge>.snoop`, or a passive controller target.
#[derive(Debug)]
pub struct Service {
    task: JoinHandle<()>,
}

impl Service {
    /// Listens at once; an error says why that is impossible.
    pub fn start(config: &RemoteConfig, origin: Origin, tls: &Tls, env: LinkEnv) -> io::Result<Self> {
        let listener = Listener::bind_with(&config.target, tls, config.dscp)?;
        let probe_ms = config.probe_interval_ms;
        Ok(Service { task: tokio::spawn(accept(listener, origin, probe_ms, env)) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts peers. When the service stops, so do the connections that came through it.
async fn accept(mut listener: Listener, origin: Origin, probe_ms: u32, env: LinkEnv) {
    let mut links = tokio::task::JoinSet::new();
    let live = Arc::new(AtomicU32::new(0));
    loop {
        while links.try_join_next().is_some() {}
        if live.load(Relaxed) >= ACCEPTED_MAX {
            links.join_next().await;
            continue;
        }
        let stream = match listener.accept().await {
            Ok(s) => s,
            Err(e) => {
                tracing::warn!(target: "vconn", "{}: accept failed ({e})", listener.target());
                env.clock.sleep_until_ms(env.clock.now_ms() + 100).await;
                continue;
            }
        };
        live.fetch_add(1, Relaxed);
        let (env, origin, live) = (env.clone(), origin.clone(), live.clone());
        links.spawn(async move {
            let now = env.clock.now_ms();
            let mut reconnect = Reconnect::new(stream.name().to_owned(), now);
            reconnect.set_quiet(true);
            reconnect.set_probe_interval(probe_ms);
            reconnect.set_passive(true, now);
            reconnect.enable(now);
            reconnect.connected(now);
            let end = link::run(stream, origin, &env, &Mutex::new(reconnect)).await;
            tracing::debug!(target: "rconn", "connection ended: {end}");
            live.fetch_sub(1, Relaxed);
        });
    }
}
