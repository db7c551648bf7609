//! The log itself: where messages go in.

use crate::level::{Destination, Level};
use crate::module::Modules;
use crate::pattern::Line;
use crate::syslog::{Method, MethodError, send_udp, udp};
use clock::Clock;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use parking_lot::{Mutex, RwLock};
use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use thiserror::Error;

/// The form in which `--syslog-target` gets messages (RFC 5424, section 6).
const TARGET_PATTERN: &str = "<%B>1 %D{%Y-%m-%dT%H:%M:%S.###Z} %E %A %P %c - \u{feff}%m";
/// local0, where `FACILITY` chose none: `%B`'s default.
const TARGET_FACILITY: u32 = 16 << 3;

/// The log file cannot be opened or given away.
#[derive(Debug, Error)]
pub enum LogFileError {
    /// `vlog/reopen` without `--log-file`.
    #[error("Logging to file not configured")]
    NotConfigured,
    #[error("{}", reason(.0))]
    Open(io::Error),
    #[error("Failed to change {} ownership: {}.", .0.display(), reason(.1))]
    Owner(PathBuf, io::Error),
}

/// strerror(3)'s text, without the number that Rust appends.
fn reason(e: &io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}

/// A log. Programs have one, [`Vlog::global`]; tests make their own.
#[derive(Debug)]
pub struct Vlog {
    pub(crate) modules: Modules,
    program: OnceLock<String>,
    clock: RwLock<Clock>,
    patterns: RwLock<[String; Destination::COUNT]>,
    facility: AtomicU32,
    file: Mutex<LogFile>,
    /// The log file's descriptor or -1: readable in a signal handler.
    file_fd: AtomicI32,
    syslog: Mutex<Syslog>,
    /// The most verbose level of all modules.
    max_level: AtomicU8,
}

#[derive(Debug, Default)]
struct LogFile {
    path: Option<PathBuf>,
    file: Option<File>,
}

#[derive(Debug, Default)]
struct Syslog {
    method: Option<Method>,
    target: Option<UdpSocket>,
}

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static THREAD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Names this thread in the log's lines, `%t` and `%T`, instead of by its `std::thread` name. Empty: the main one.
pub fn set_thread_name(name: &str) {
    THREAD.with(|t| *t.borrow_mut() = Some(name.to_owned()));
}

/// This thread's name in the log, empty for the main thread.
pub fn thread_name() -> String {
    THREAD.with(|t| t.borrow().clone()).unwrap_or_else(|| match std::thread::current().name() {
        Some("main") | None => String::new(),
        Some(name) => name.to_owned(),
    })
}

/// Logs at the level that `tracing` does not have.
pub fn emer(module: &str, message: &str) {
    Vlog::global().log(module, Level::Emer, message);
}

impl Default for Vlog {
    fn default() -> Self {
        Self::new()
    }
}

impl Vlog {
    /// A log with Open vSwitch's defaults: everything at `info`, no file, syslog as syslog(3) does it.
    pub fn new() -> Self {
        Vlog {
            modules: Modules::new(),
            program: OnceLock::new(),
            clock: RwLock::new(Clock::new()),
            patterns: RwLock::new(Destination::ALL.map(|d| d.default_pattern().to_owned())),
            facility: AtomicU32::new(0),
            file: Mutex::default(),
            file_fd: AtomicI32::new(-1),
            syslog: Mutex::default(),
            max_level: AtomicU8::new(Level::Info as u8),
        }
    }

    /// The process's log.
    pub fn global() -> &'static Vlog {
        static GLOBAL: LazyLock<Vlog> = LazyLock::new(Vlog::new);
        &GLOBAL
    }

    /// The program's name, for `%A`, syslog and the default log file. The first call counts.
    pub fn set_program(&self, name: &str) {
        let _ = self.program.set(name.to_owned());
    }

    pub fn program(&self) -> &str {
        self.program.get().map_or("ovs-vswitchd", String::as_str)
    }

    /// The clock of rate limits and `%r`, in place of one that started with the log.
    pub fn set_clock(&self, clock: Clock) {
        *self.clock.write() = clock;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.read().now_ms()
    }

    /// Whether a message of this module (any target) and level would be written anywhere.
    pub fn enabled(&self, target: &str, level: Level) -> bool {
        let file_open = self.file_fd() >= 0;
        self.modules.of_target(target).is_some_and(|m| m.max_level(file_open) >= level)
    }

    /// The most verbose level at which anything is written.
    pub fn max_level(&self) -> Level {
        Level::from_u8(self.max_level.load(Ordering::Relaxed))
    }

    pub(crate) fn rate_limited(&self, target: &str) -> bool {
        self.modules.of_target(target).is_none_or(|m| m.rate_limited())
    }

    /// Sets levels; `None` means every module or every destination.
    pub fn set_levels(&self, module: Option<&str>, destination: Option<Destination>, level: Level) {
        for m in self.modules.iter().filter(|m| module.is_none_or(|name| name == m.name)) {
            for d in Destination::ALL.into_iter().filter(|d| destination.is_none_or(|only| only == *d)) {
                m.set_level(d, level);
            }
        }
        self.levels_changed();
    }

    /// Has `tracing` ask again what is enabled.
    fn levels_changed(&self) {
        let file_open = self.file_fd() >= 0;
        let max = self.modules.iter().map(|m| m.max_level(file_open)).max().unwrap_or(Level::Off);
        self.max_level.store(max as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    pub(crate) fn set_pattern(&self, destination: Option<Destination>, pattern: &str) {
        let mut patterns = self.patterns.write();
        for d in Destination::ALL.into_iter().filter(|d| destination.is_none_or(|only| only == *d)) {
            patterns[d as usize] = pattern.to_owned();
        }
    }

    pub(crate) fn pattern(&self, destination: Destination) -> String {
        self.patterns.read()[destination as usize].clone()
    }

    pub(crate) fn set_facility(&self, code: u32) {
        self.facility.store(code, Ordering::Relaxed);
    }

    /// `--syslog-method`. Only the first call counts; a wrong method is an error all the same.
    pub fn set_syslog_method(&self, text: &str) -> Result<(), MethodError> {
        let mut syslog = self.syslog.lock();
        if syslog.method.is_none() {
            syslog.method = Some(Method::parse(text)?);
        }
        Ok(())
    }

    /// `--syslog-target`: also sends to this numeric `IP:PORT`. Unusable addresses are logged and forgotten.
    pub fn set_syslog_target(&self, address: &str) {
        match udp(address, None) {
            Ok(socket) => self.syslog.lock().target = Some(socket),
            Err(e) => self.log("socket_util", Level::Err, &format!("{address}: bad syslog target ({e})")),
        }
    }

    /// What to tell the operator about the options once the daemon runs.
    pub fn warn_of_deprecated_options(&self) {
        if self.syslog.lock().target.is_some() {
            let text = "--syslog-target flag is deprecated, use --syslog-method instead";
            self.log("vlog", Level::Warn, text);
        }
    }

    pub(crate) fn syslog_prefix(&self) -> &'static str {
        self.syslog.lock().method.get_or_insert_with(Method::libc).prefix()
    }

    /// Starts logging to `path`, in place of the file so far. Failure is logged, and leaves the old file in use.
    pub fn set_log_file(&self, path: &Path) -> Result<(), LogFileError> {
        let opened = OpenOptions::new().append(true).create(true).mode(0o660).open(path);
        let new = opened.map_err(|e| {
            let text = format!("failed to open {} for logging: {}", path.display(), reason(&e));
            self.log("vlog", Level::Warn, &text);
            LogFileError::Open(e)
        })?;
        if self.file.lock().file.as_ref().is_some_and(|old| same_file(old, &new)) {
            return Ok(());
        }
        if self.file_fd() >= 0 {
            self.log("vlog", Level::Info, "closing log file");
        }
        self.file_fd.store(new.as_raw_fd(), Ordering::Relaxed);
        *self.file.lock() = LogFile { path: Some(path.to_owned()), file: Some(new) };
        self.levels_changed();
        self.log("vlog", Level::Info, &format!("opened log file {}", path.display()));
        Ok(())
    }

    /// `vlog/reopen`: after a rotation, the name is a new file.
    pub fn reopen_log_file(&self) -> Result<(), LogFileError> {
        let path = self.log_file().ok_or(LogFileError::NotConfigured)?;
        self.set_log_file(&path)
    }

    /// `vlog/close`: until `vlog/reopen`, nothing goes to a file.
    pub fn close_log_file(&self) {
        self.file_fd.store(-1, Ordering::Relaxed);
        self.file.lock().file = None;
        self.levels_changed();
    }

    /// The log file's name, if one was ever set, open or not.
    pub fn log_file(&self) -> Option<PathBuf> {
        self.file.lock().path.clone()
    }

    /// The open log file's descriptor or -1. For a handler of fatal signals, which may only `write`.
    pub fn file_fd(&self) -> RawFd {
        self.file_fd.load(Ordering::Relaxed)
    }

    /// Gives the log file to the user that the daemon is about to become.
    pub fn change_owner(&self, user: Uid, group: Gid) -> Result<(), LogFileError> {
        let Some(path) = self.log_file() else { return Ok(()) };
        chown(&path, Some(user.as_raw()), Some(group.as_raw())).map_err(|e| LogFileError::Owner(path, e))
    }

    /// Writes a message to every destination whose level for the module allows it. `target` is a module's name;
    /// any other is logged as it is, with the levels of `vswitchd`.
    pub fn log(&self, target: &str, level: Level, message: &str) {
        let Some(module) = self.modules.of_target(target) else { return };
        let wanted = |d| level != Level::Off && module.level(d) >= level;
        let to_file = wanted(Destination::File) && self.file_fd() >= 0;
        if !(wanted(Destination::Syslog) || wanted(Destination::Console) || to_file) {
            return;
        }
        let facility = self.facility.load(Ordering::Relaxed);
        let thread = thread_name();
        let line = Line {
            program: self.program(),
            priority: level.severity() + if facility == 0 { TARGET_FACILITY } else { facility },
            module: target,
            level,
            message,
            number: next_number(),
            wall_ms: self.clock.read().wall_ms(),
            uptime_ms: self.now_ms(),
            thread: &thread,
        };
        let patterns = self.patterns.read();
        let format = |d: Destination| line.format(&patterns[d as usize]);
        if wanted(Destination::Console) {
            // A closed stderr is no reason to fail.
            let _ = io::stderr().write_all((format(Destination::Console) + "\n").as_bytes());
        }
        if wanted(Destination::Syslog) {
            self.to_syslog(&line, facility, &format(Destination::Syslog));
        }
        if to_file {
            self.to_file(format(Destination::File));
        }
    }

    fn to_syslog(&self, line: &Line<'_>, facility: u32, text: &str) {
        let mut syslog = self.syslog.lock();
        let method = syslog.method.get_or_insert_with(Method::libc);
        for part in text.split('\n').filter(|part| !part.is_empty()) {
            method.send(line.program, facility, line.level, part);
        }
        if let Some(target) = &syslog.target {
            send_udp(target, &line.format(TARGET_PATTERN));
        }
    }

    /// One write per line, so that lines of several processes do not mix.
    fn to_file(&self, mut text: String) {
        text.push('\n');
        if let Some(file) = &mut self.file.lock().file {
            // A full disk must not stop the switch.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

fn next_number() -> u32 {
    NUMBER.with(|n| {
        n.set(n.get().wrapping_add(1));
        n.get()
    })
}

fn same_file(a: &File, b: &File) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
