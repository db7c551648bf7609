//! OpenFlow switches: tables, connections, translation, upcalls, revalidation, MAC learning.
//!
//! Sees the datapath only as [`dpif::Dpif`].

#![forbid(unsafe_code)]

pub mod admin;
pub mod async_event;
pub mod bfd;
pub mod conn;
mod discard;
pub mod effects;
pub mod eviction;
pub mod fabric;
pub mod flow_mod;
pub mod groups;
pub mod handle;
pub mod ids;
pub mod learn;
pub mod mac_table;
pub mod megaflow;
pub mod meters;
pub mod mirror;
pub mod monitor;
pub mod overrides;
pub mod port;
pub mod recirc;
pub mod refs;
pub mod revalidate;
pub mod revalidators;
pub mod rule;
pub mod saved;
pub mod switch;
pub mod table;
pub mod text;
pub mod trace_cmd;
pub mod tunnel;
pub mod upcall;
pub mod xlate;
