//! A forked child that tells its parent when it is up.

use super::{Fatal, reason, signals, sys};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::io::{self, PipeReader, PipeWriter, Read, Write};

/// Module of the log.
pub(super) const MODULE: &str = "daemon_unix";

/// Which side of a fork this is.
pub(super) enum Side {
    /// The child is up.
    Parent(Pid),
    Child(Notifier),
}

/// The child's obligation to say that it is up. Dropped unused, the parent sees the child as failed.
#[derive(Debug)]
pub(super) struct Notifier(PipeWriter);

impl Notifier {
    pub fn notify(mut self) -> Result<(), Fatal> {
        let written = self.0.write_all(&[0]);
        written.map_err(|e| Fatal::logged(MODULE, format!("pipe write failed ({})", reason(&e))))
    }
}

/// Why a child did not come up.
pub(super) enum Failure {
    Fatal(Fatal),
    /// It ended itself with this status, having said why.
    Exited(i32),
    /// It was killed; said in the log.
    Died(WaitStatus),
}

impl From<Fatal> for Failure {
    fn from(fatal: Fatal) -> Self {
        Failure::Fatal(fatal)
    }
}

/// Forks. The parent returns when the child has notified it or is dead.
pub(super) fn fork_and_wait() -> Result<Side, Failure> {
    let fatal = |what: &str, e: io::Error| Fatal::logged(MODULE, format!("{what} failed ({})", reason(&e)));
    let (reader, writer) = io::pipe().map_err(|e| fatal("pipe creation", e))?;
    match sys::fork_single_threaded().map_err(|e| fatal("fork", e.into()))? {
        ForkResult::Child => {
            drop(reader);
            Ok(Side::Child(Notifier(writer)))
        }
        ForkResult::Parent { child } => {
            drop(writer);
            wait_for(child, reader)
        }
    }
}

fn wait_for(child: Pid, mut reader: PipeReader) -> Result<Side, Failure> {
    if reader.read_exact(&mut [0]).is_ok() {
        return Ok(Side::Parent(child));
    }
    match wait(child)? {
        WaitStatus::Exited(_, code) if code != 0 => Err(Failure::Exited(code)),
        status => {
            let text = status_text(&status);
            tracing::error!(target: "daemon_unix", "fork child died before signaling startup ({text})");
            Err(Failure::Died(status))
        }
    }
}

/// waitpid(2) until the child is dead.
pub(super) fn wait(child: Pid) -> Result<WaitStatus, Fatal> {
    loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            other => {
                return other.map_err(|e| Fatal::logged(MODULE, format!("waitpid failed ({})", e.desc())));
            }
        }
    }
}

/// How a process ended, in words.
pub(super) fn status_text(status: &WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, number, core) => {
            let core = if *core { ", core dumped" } else { "" };
            format!("killed ({}){core}", signals::describe(*number as i32))
        }
        other => format!("terminated abnormally ({other:?})"),
    }
}
