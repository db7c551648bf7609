//! Becoming a daemon.
//!
//! ```text
//! shell --fork--> [detach: setsid] --fork--> [monitor] --fork--> daemon
//!   waits <-ready-----------------------------  waits <--ready---- become_ready()
//! ```
//!
//! Each parent waits on a pipe until its child is ready, and ends with the child's status if that fails.

use super::options::Options;
use super::pidfile::Pidfile;
use super::startup::{self, Failure, MODULE, Notifier, Side};
use super::user::NewUser;
use super::{Fatal, monitor, reason};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::fs::OpenOptions;
use vlog::{Destination, Level, Vlog};

/// The daemon's hold on the system: its pidfile, and its parent that waits. Dropping it removes the pidfile.
#[derive(Debug)]
pub struct Daemon {
    pidfile: Option<Pidfile>,
    notifier: Option<Notifier>,
    detach: bool,
    chdir: bool,
}

impl Daemon {
    /// Changes user and forks as the options say. Returns in the process that is to do the
    /// work; the others end inside. There must be one thread only.
    pub fn start(options: &Options) -> Result<Daemon, Fatal> {
        if let Some(user) = &options.user {
            NewUser::find(user)?.become_it(&user.context)?;
        }
        let mut notifier = None;
        if options.detach {
            notifier = Some(fork_away("could not detach from foreground session")?);
            // Fails only for a process that leads a session, which a fresh child does not.
            let _ = setsid();
        }
        if options.monitor {
            notifier = Some(start_monitor(notifier, options.detach)?);
        }
        Ok(Daemon { pidfile: None, notifier, detach: options.detach, chdir: options.chdir })
    }

    /// Writes the pidfile, if there is to be one, unless another daemon has it.
    pub fn hold_pidfile(&mut self, options: &Options) -> Result<(), Fatal> {
        let create = |path| Pidfile::create(path, options.overwrite_pidfile);
        self.pidfile = options.pidfile.as_deref().map(create).transpose()?;
        Ok(())
    }

    /// The configuration is applied: lets the parent go, and leaves the terminal and the directory. Further calls
    /// do nothing.
    pub fn become_ready(&mut self) -> Result<(), Fatal> {
        let Some(notifier) = self.notifier.take() else { return Ok(()) };
        notifier.notify()?;
        if self.detach {
            if self.chdir {
                let _ = std::env::set_current_dir("/");
            }
            close_standard_files();
        }
        Ok(())
    }

    /// Removes the pidfile now.
    pub fn remove_pidfile(&mut self) {
        self.pidfile = None;
    }
}

/// Forks; the parent ends with success when the child is up.
fn fork_away(failed: &str) -> Result<Notifier, Fatal> {
    match startup::fork_and_wait() {
        Ok(Side::Child(notifier)) => Ok(notifier),
        Ok(Side::Parent(_)) => std::process::exit(0),
        Err(failure) => Err(give_up(failure, failed)),
    }
}

fn give_up(failure: Failure, failed: &str) -> Fatal {
    match failure {
        // The child has said why.
        Failure::Exited(code) => std::process::exit(code),
        Failure::Died(_) => Fatal::logged(MODULE, failed),
        Failure::Fatal(fatal) => fatal,
    }
}

/// Forks the daemon off; the parent stays as the monitor, which in turn is the parent of every later daemon.
fn start_monitor(waiting: Option<Notifier>, detach: bool) -> Result<Notifier, Fatal> {
    match startup::fork_and_wait() {
        Ok(Side::Child(notifier)) => Ok(notifier),
        Ok(Side::Parent(daemon)) => {
            if let Some(waiting) = waiting {
                waiting.notify()?;
            }
            if detach {
                close_standard_files();
            }
            monitor::watch(daemon)
        }
        Err(failure) => Err(give_up(failure, "could not initiate process monitoring")),
    }
}

/// Puts `/dev/null` in the place of stdin, stdout and stderr, and turns the log's console off.
fn close_standard_files() {
    match OpenOptions::new().read(true).write(true).open("/dev/null") {
        Ok(null) => {
            let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
        }
        Err(e) => tracing::error!(target: "daemon_unix", "/dev/null: open failed ({})", reason(&e)),
    }
    Vlog::global().set_levels(None, Some(Destination::Console), Level::Off);
}
