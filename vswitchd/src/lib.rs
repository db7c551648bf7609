//! The switch daemon: what `ovs-vswitchd` does around the switch itself.
//!
//! * [`config`]: what the database asks for, as types.

pub mod config;
