//! Messages, a family a file.

pub mod action_types;
pub mod desc;
pub mod error_msg;
pub mod features;
pub mod hello;
pub mod port;
pub mod port_mod;
pub mod port_stats;
pub mod port_status;
pub mod switch_config;
