#![allow(unsafe_code)] // DPDK is a C library
//! DPDK behind safe functions. All `unsafe` of the crate is here.
//!
//! What callers may rely on: a [`Port`] is a number that DPDK checks itself, so a stale one is an error and not
//! undefined behaviour; a buffer is owned by one [`packet::Packet`] from `recv` to `send` or drop.

pub mod eal;
pub mod mempool;
pub mod port;
pub mod queue;
mod raw;
pub mod text;
pub mod xstats;
