//! The process around the switch: command line, files, becoming a daemon, signals.
//!
//! Order in `main`: [`options::parse`], logging, then [`Daemon::start`] while there is one thread (it forks), then
//! [`signals::install_crash_handlers`], then the runtime, then, while the database answers, [`Daemon::hold_pidfile`],
//! [`signals::FatalSignals`] and [`signals::prepare_backtraces`], then [`Daemon::become_ready`] when the configuration is applied.

pub mod daemon;
pub mod dirs;
mod fatal;
mod getopt;
mod monitor;
pub mod options;
mod pidfile;
mod proctitle;
pub mod signals;
mod startup;
mod sys;
mod usage;
mod user;

pub use daemon::Daemon;
pub use dirs::Dirs;
pub use fatal::Fatal;
pub use options::{DummyLevel, Options, Parsed};
pub use usage::{help_text, version_text};

/// Messages of errno codes as strerror(3) has them.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let code = error.raw_os_error();
    code.map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_owned())
}
