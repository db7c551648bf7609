//! Signals: those that end the daemon in good order, and crashes.

use super::sys;
use nix::sys::signal::Signal;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Signals that end the daemon after it has cleaned up.
const FATAL: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGALRM];

/// Listens for the fatal signals. Those that the parent had ignored (nohup(1)) stay ignored.
#[derive(Debug)]
pub struct FatalSignals {
    streams: Vec<(Signal, Stream)>,
}

impl FatalSignals {
    /// To be called inside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let ignored = ignored_mask();
        let wanted = FATAL.into_iter().filter(|&s| ignored & (1 << (s as u32 - 1)) == 0);
        let open = |s| Ok((s, signal(SignalKind::from_raw(s as i32))?));
        Ok(FatalSignals { streams: wanted.map(open).collect::<io::Result<_>>()? })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(cx).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// `SigIgn` of `/proc/self/status`: bit n-1 stands for signal n.
fn ignored_mask() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Logs that a fatal signal ends the program. The caller then cleans up and calls [`die_of`].
pub fn announce(number: Signal) {
    tracing::warn!(target: "fatal_signal", "terminating with signal {} ({})", number as i32, describe(number as i32));
}

/// Ends the process by `number`, for its parent to see.
pub fn die_of(number: Signal) -> ! {
    sys::die_of(number)
}

/// Has crashes (SIGSEGV and its kin) write a backtrace to the log file and stderr, and panics to the log.
pub fn install_crash_handlers() {
    sys::install_crash_handlers();
    log_file_changed();
    std::panic::set_hook(Box::new(|info| {
        let trace = std::backtrace::Backtrace::force_capture();
        vlog::emer("vswitchd", &format!("{info}\n{trace}"));
    }));
}

/// Loads what a backtrace needs, which a process that is broken could not. Takes half a millisecond.
pub fn prepare_backtraces() {
    sys::load_unwinder();
}

/// To be called after the log file was opened or closed, so that a crash finds it.
pub fn log_file_changed() {
    sys::set_crash_fd(vlog::Vlog::global().file_fd());
}

/// The signal in words, as the C library's sigdescr_np(3) has them.
pub(super) fn describe(number: i32) -> String {
    let words = match number {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        16 => "Stack fault",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        26 => "Virtual timer expired",
        27 => "Profiling timer expired",
        29 => "I/O possible",
        30 => "Power failure",
        31 => "Bad system call",
        other => return format!("signal {other}"),
    };
    words.to_owned()
}
