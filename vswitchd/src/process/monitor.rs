//! `--monitor`: a process that starts the daemon anew when it has crashed.

use super::proctitle::ProcTitle;
use super::startup::{self, Failure, Notifier, Side, status_text};
use super::{Fatal, signals};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::time::{Duration, Instant};
use vlog::Vlog;

/// Deaths by these are crashes; any other end of the daemon is taken as wanted.
const CRASHES: [Signal; 9] = [
    Signal::SIGABRT,
    Signal::SIGALRM,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGPIPE,
    Signal::SIGSEGV,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
];

/// Time between two restarts, at least.
const INTERVAL: Duration = Duration::from_secs(10);

/// Watches `daemon`. Returns only in a new daemon process; the monitor itself exits with the last one.
pub(super) fn watch(mut daemon: Pid) -> Result<Notifier, Fatal> {
    vlog::set_thread_name("monitor");
    let title = ProcTitle::new();
    let mut health = "healthy".to_owned();
    let mut crashes = 0;
    let mut last_restart: Option<Instant> = None;
    let mut dead: Option<WaitStatus> = None;
    loop {
        if let Some(title) = &title {
            title.set(&format!("{}: monitoring pid {daemon} ({health})", Vlog::global().program()));
        }
        let status = match dead.take() {
            Some(status) => status,
            None => wait_without_log_file(daemon)?,
        };
        if !is_crash(&status) {
            tracing::info!(target: "daemon_unix", "pid {daemon} died, {}, exiting", status_text(&status));
            std::process::exit(0);
        }
        crashes += 1;
        health = format!("{crashes} crashes: pid {daemon} died, {}", status_text(&status));
        limit_core_dumps(&status);
        throttle(last_restart, &health);
        last_restart = Some(Instant::now());
        tracing::error!(target: "daemon_unix", "{health}, restarting");
        match startup::fork_and_wait() {
            Ok(Side::Child(notifier)) => {
                if let Some(title) = &title {
                    title.restore();
                }
                vlog::set_thread_name("");
                return Ok(notifier);
            }
            Ok(Side::Parent(pid)) => daemon = pid,
            Err(Failure::Died(status)) => {
                daemon = status.pid().unwrap_or(daemon);
                dead = Some(status);
            }
            Err(Failure::Exited(code)) => std::process::exit(code),
            Err(Failure::Fatal(fatal)) => return Err(fatal),
        }
    }
}

/// Without the log file open, so that a rotated one is not held for months.
fn wait_without_log_file(daemon: Pid) -> Result<WaitStatus, Fatal> {
    let log = Vlog::global();
    if log.file_fd() >= 0 {
        tracing::info!(target: "vlog", "closing log file");
    }
    log.close_log_file();
    let status = startup::wait(daemon);
    // Fails without a log file, and else says so itself.
    let _ = log.reopen_log_file();
    signals::log_file_changed();
    status
}

fn is_crash(status: &WaitStatus) -> bool {
    matches!(status, WaitStatus::Signaled(_, number, _) if CRASHES.contains(number))
}

/// One core dump is enough.
fn limit_core_dumps(status: &WaitStatus) {
    if matches!(status, WaitStatus::Signaled(_, _, true))
        && let Err(e) = setrlimit(Resource::RLIMIT_CORE, 0, 0)
    {
        tracing::warn!(target: "daemon_unix", "failed to disable core dumps: {}", e.desc());
    }
}

fn throttle(last_restart: Option<Instant>, health: &str) {
    let wait = last_restart.map_or(Duration::ZERO, |last| INTERVAL.saturating_sub(last.elapsed()));
    if !wait.is_zero() {
        tracing::warn!(target: "daemon_unix", "{health}, waiting until 10 seconds since last restart");
        std::thread::sleep(wait);
    }
}
