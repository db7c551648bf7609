//! Network devices: what a port is to the datapath, and the kinds that need no driver of their own.

pub mod device;

pub use device::*;
