//! The task that owns the daemon's state. Everything else sends it messages; nothing else changes [`Ctx`].

use crate::bridge::{self, Bridges};
use crate::memory::{self, Usage};
use crate::process::{Daemon, Fatal, Options, reason, signals};
use crate::{commands, process};
use clock::{Clock, Warp};
use coverage::Averages;
use nix::sys::signal::Signal;
use signals::FatalSignals;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::info;
use unixctl::{Registry, Reply, Request, Server};
use vlog::Vlog;

/// Real time that other threads get between two steps of `time/warp`.
const WARP_PAUSE: Duration = Duration::from_millis(10);
/// How long the last answers may take to reach their clients when the daemon exits.
const DRAIN: Duration = Duration::from_millis(500);
/// How long after an event the next one is looked for before the thread sleeps: about what a client takes to send it that
/// has waited for an answer.
const LINGER: Duration = Duration::from_micros(60);

/// `exit [--cleanup]` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Also remove what a restart would keep: datapaths and their ports.
    pub cleanup: bool,
}

/// The daemon's state.
pub struct Ctx {
    pub clock: Clock,
    pub options: Options,
    pub averages: Averages,
    pub exit: Option<Exit>,
    /// `time/warp` in progress and who waits for it.
    pub warp: Option<(Warp, Reply)>,
    pub bridges: Bridges,
    memory: memory::Monitor,
}

impl Ctx {
    pub fn new(options: Options, clock: Clock, bridges: Bridges) -> Self {
        let (averages, memory) = (Averages::default(), memory::Monitor::new(clock.now_ms()));
        Ctx { clock, options, averages, exit: None, warp: None, bridges, memory }
    }

    /// What takes memory, counted.
    pub fn memory_usage(&self) -> Usage {
        let mut usage = Usage::new();
        self.bridges.memory_usage(&mut usage);
        usage
    }

    /// The reply of `memory/show`.
    pub fn memory_text(&self) -> String {
        memory::compose(&self.memory_usage())
    }

    /// One run over everything that time moves. Returns when the next one is due at the latest.
    fn run(&mut self) -> u64 {
        let now_ms = self.clock.now_ms();
        if self.memory.run(now_ms) {
            let usage = self.memory_text();
            if !usage.is_empty() {
                info!(target: "memory", "{usage}");
            }
        }
        let due_ms = self.averages.run(now_ms).min(self.memory.next_check_ms());
        due_ms.min(self.bridges.run())
    }

    /// Makes the next step of a warp in progress.
    fn step_warp(&mut self) {
        let last = self.warp.as_mut().is_some_and(|(warp, _)| warp.step(&self.clock));
        if last && let Some((_, reply)) = self.warp.take() {
            reply.ok("warped");
        }
    }
}

/// Runs the daemon until it is told to exit.
pub async fn run(options: &Options, mut daemon: Daemon) -> Result<ExitCode, Fatal> {
    let clock = Clock::new();
    Vlog::global().set_clock(clock.clone());
    // The database answers while the rest is made.
    let session = bridge::open(options, &clock).await?;
    daemon.hold_pidfile(options)?;
    let mut signals = FatalSignals::listen().map_err(|e| Fatal::logged("fatal_signal", reason(&e)))?;
    let (server, mut requests) = listen(options)?;
    bridge::go_on().await;
    signals::prepare_backtraces();
    let bridges = bridge::connect(options, &clock, session)?;
    let mut ctx = Ctx::new(options.clone(), clock, bridges);
    let registry = commands::registry(&ctx);
    let signal = serve(&mut ctx, &registry, &mut requests, &mut signals, &mut daemon).await?;
    if ctx.exit.is_some_and(|exit| exit.cleanup) {
        ctx.bridges.shut_down();
    }
    if let Some(signal) = signal {
        signals::announce(signal);
        drop((server, daemon));
        signals::die_of(signal);
    }
    if let Some(server) = &server {
        server.drain(DRAIN).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first configuration is in force.
fn become_ready(daemon: &mut Daemon, options: &Options) -> Result<(), Fatal> {
    datapath::huge_pages::begin();
    daemon.become_ready()?;
    for line in process::version_text(&options.program).lines() {
        info!(target: "bridge", "{line}");
    }
    Ok(())
}

/// The control socket, if there is to be one. Without it, the requests never come.
fn listen(options: &Options) -> Result<(Option<Server>, unixctl::Requests), Fatal> {
    let Some(path) = options.unixctl_path(std::process::id()) else {
        return Ok((None, mpsc::channel(1).1));
    };
    let (server, requests) = Server::bind(&path).map_err(|e| {
        let path = path.display();
        tracing::error!(target: "stream_unix", "{path}: binding failed: {}", reason(&e));
        Fatal::plain(format!("{path}: could not initialize control socket ({})", reason(&e)))
    })?;
    Ok((Some(server), requests))
}

/// Serves until `exit`, or until the signal that it returns.
async fn serve(
    ctx: &mut Ctx,
    registry: &Registry<Ctx>,
    requests: &mut mpsc::Receiver<Request>,
    signals: &mut FatalSignals,
    daemon: &mut Daemon,
) -> Result<Option<Signal>, Fatal> {
    let mut is_ready = false;
    let mut has_worked = false;
    while ctx.exit.is_none() {
        let next_ms = ctx.run();
        if ctx.warp.is_some() {
            ctx.step_warp();
        }
        let warping = ctx.warp.is_some();
        let mut worked = false;
        tokio::select! {
            () = linger(), if has_worked => {}
            Some(request) = requests.recv() => {
                registry.dispatch(ctx, request);
                ctx.bridges.refresh();
            }
            wake = ctx.bridges.next() => {
                ctx.bridges.handle(wake);
                worked = true;
            }
            signal = signals.recv() => return Ok(Some(signal)),
            () = tokio::time::sleep(WARP_PAUSE), if warping => {}
            () = ctx.clock.sleep_until_ms(next_ms), if !warping => {}
        }
        has_worked = worked;
        if ctx.bridges.is_ready() && !is_ready {
            is_ready = true;
            become_ready(daemon, &ctx.options)?;
        }
    }
    Ok(None)
}

/// Keeps the thread awake for [`LINGER`], then waits for ever. To be woken takes longer than most events do, most of all in a
/// virtual machine.
async fn linger() {
    let begin = Instant::now();
    while begin.elapsed() < LINGER {
        tokio::task::yield_now().await;
    }
    std::future::pending().await
}
