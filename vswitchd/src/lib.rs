//! The switch daemon: what `ovs-vswitchd` does around the switch itself.
//!
//! * [`config`]: what the database asks for, as types.
//! * [`process`]: command line, becoming a daemon, signals.
//! * [`main_loop`]: the one task that owns the daemon's state, and [`commands`] that reach it from the control socket.

pub mod commands;
pub mod config;
pub mod main_loop;
mod memory;
pub mod process;
