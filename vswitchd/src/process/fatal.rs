//! Errors that end the program before it is a daemon.

use std::fmt;
use std::process::ExitCode;

/// A reason not to start. It goes to stderr as `program: reason`, and, when [`log`](Fatal::logged) says so, into
/// the log at `emer` under a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    text: String,
    module: Option<&'static str>,
}

impl Fatal {
    /// Only for stderr.
    pub fn plain(text: impl Into<String>) -> Self {
        Fatal { text: text.into(), module: None }
    }

    /// For stderr, syslog and the log file.
    pub fn logged(module: &'static str, text: impl Into<String>) -> Self {
        Fatal { text: text.into(), module: Some(module) }
    }

    /// Tells the operator.
    pub fn report(&self) -> ExitCode {
        let log = vlog::Vlog::global();
        if let Some(module) = self.module {
            // stderr gets the text below, without the log's pattern.
            let console = Some(vlog::Destination::Console);
            log.set_levels(Some(module), console, vlog::Level::Off);
            log.log(module, vlog::Level::Emer, &self.text);
        }
        let thread = vlog::thread_name();
        let thread = if thread.is_empty() { thread } else { format!("({thread})") };
        eprintln!("{}{thread}: {}", log.program(), self.text);
        ExitCode::FAILURE
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fatal {}
