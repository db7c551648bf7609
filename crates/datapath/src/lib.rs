//! The userspace datapath: from a received batch to sent batches, and to the switch where it must decide.
//!
//! | who | runs | its megaflows | finds packets |
//! |---|---|---|---|
//! | polling thread (PMD) | pinned to a core | a table of its own | polls receive queues without end |
//! | socket thread | anywhere | the main table | waits on the queues' descriptors |
//! | control context | the caller's thread, one at a time | the main table | [`Datapath::inject`], `execute`, upcalls |
//! | handler | anywhere | - | upcall queues |
//!
//! All of them run the same `worker` code. Polling and socket threads never wait for anybody: tables are
//! read as `quiescent` snapshots, configuration comes by mailbox, upcalls leave through bounded queues.
//!
//! Limits: [`PORTS_MAX`], [`RECIRCULATIONS_MAX`], [`NESTING_MAX`], [`UPCALLS_MAX`], [`UPCALLS_PER_PORT_MAX`], [`METERS_MAX`],
//! [`BANDS_MAX`], and the number of megaflows ([`dpif::Dpif::set_flow_limit`]). Beyond each, packets are dropped and counted by port and
//! cause ([`DropCause`]), but a megaflow beyond the limit is just not installed.

mod assign;
mod attend;
mod balance;
mod branch;
mod cache;
mod cores;
mod counter;
mod cpu;
mod ct;
mod datapath;
mod dpif_impl;
mod drops;
mod edit;
mod execute;
mod express;
mod fan;
mod flow_table;
mod follow;
pub mod huge_pages;
mod in_place;
mod item;
mod key;
mod lane;
mod megaflow;
mod meter;
mod output;
mod perf;
mod poll_config;
mod port;
mod saved;
mod shared;
mod show;
mod spare;
mod thread;
mod threads;
mod trail;
mod tuning;
mod tunnel;
mod upcall;
mod usage;
mod watch;
mod wide_burst;
mod worker;

#[cfg(test)]
mod tests;

pub use crate::assign::{Core, Policy};
pub use crate::balance::AutoBalance;
pub use crate::datapath::{Datapath, PortError};
pub use drops::{DropCause, PortDrops, PortTotals};
pub use execute::{NESTING_MAX, RECIRCULATIONS_MAX, STACK};
pub use meter::{BANDS_MAX, METERS_MAX};
pub use perf::{PerfShown, Supervision};
pub use poll_config::PollConfig;
pub use saved::{SavedDatapath, SavedFlow, SavedPort};
pub use upcall::{UPCALLS_MAX, UPCALLS_PER_PORT_MAX};

/// Port numbers are below this.
pub const PORTS_MAX: usize = 65_536;
