//! Open vSwitch's log: modules, destinations, levels, patterns, rate limits.
//!
//! Code logs with `tracing`'s macros and names the module as the event's target:
//!
//! ```
//! tracing::info!(target: "bridge", "bridge {}: added interface {} on port {}", "br0", "p1", 1);
//! static LIMIT: vlog::RateLimit = vlog::RateLimit::new(5, 20);
//! vlog::warn_rl!("dpif", LIMIT, "{}: cannot be polled", "p1");
//! ```
//!
//! [`init`] makes [`Vlog::global`] the subscriber. Until then, or without `tracing`, [`Vlog::log`] writes directly.
//! `tracing`'s `error`, `warn`, `info` and `debug` are `err`, `warn`, `info` and `dbg`; `emer` is [`emer`].
//! A target that is no module is logged under its own name and has the levels of `vswitchd`.
//!
//! Cost: an event below its module's level is decided by `tracing`'s cached interest, about one load and a branch.
//! An event that is logged takes, on the caller's thread, a lock, one `write` to the file (page cache), one to
//! stderr if the console is on, and one non-blocking datagram to syslog (lost if its buffer is full). So no thread
//! waits for the syslog daemon, but one may wait for the disk: code on a polling thread logs only through a
//! [`RateLimit`].

#![forbid(unsafe_code)]

mod commands;
mod layer;
mod level;
mod log;
mod module;
mod pattern;
mod rate_limit;
mod spec;
mod syslog;

pub use commands::UnknownModule;
pub use layer::{Layer, init};
pub use level::{Destination, Level};
pub use log::{LogFileError, Vlog, emer, set_thread_name, thread_name};
pub use module::NAMES as MODULE_NAMES;
pub use rate_limit::RateLimit;
pub use spec::SpecError;
pub use syslog::MethodError;
#[doc(hidden)]
pub use tracing;
