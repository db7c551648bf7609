//! `dpdk` ports: DPDK's drivers behind [`netdev`]'s traits.
//!
//! [`Dpdk::start`] brings up EAL as the database wants it and gives a [`netdev::Provider`]. Packets are DPDK's own
//! buffers from receive to transmit (`ffi::queue`); a packet that goes from one `dpdk` port to another is never
//! copied.
//!
//! Invariant: `ffi/` alone is unsafe, and the rest of the crate cannot break it.

pub mod args;
pub mod commands;
mod context;
mod device;
mod ffi;
mod mempools;
mod options;
mod prepare;
mod running;
mod shaping;
mod status;

pub use context::{Dpdk, Startup};
pub use ffi::eal::version;
pub use prepare::Expected;
