//! The switch daemon: what `ovs-vswitchd` does around the switch itself.
//!
//! * [`process`]: command line, becoming a daemon, signals.
//! * [`main_loop`]: the one task that owns the daemon's state, and [`commands`] that reach it from the control socket.
//! * [`config`]: what the database asks for, as types.
//! * [`bridge`]: from what is asked for to what exists.
//! * [`status`]: what the database is told of it.

pub mod bridge;
pub mod commands;
pub mod config;
pub mod datapath_commands;
pub mod dpctl;
pub mod dpdk;
pub mod dpif_commands;
mod implementation_commands;
pub mod main_loop;
mod memory;
pub mod process;
pub mod status;
pub mod tunnel_commands;
pub mod vhost;
