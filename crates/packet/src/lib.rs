//! Packets: their memory, their headers, checksums and batches. No socket, thread or clock.

#![forbid(unsafe_code)]

pub mod buffer;
pub mod checksum;
mod cursor;
#[cfg(test)]
#[path = "../tests/common/frames.rs"]
mod frames;
pub mod offload;
pub mod parse;
pub mod pcap;
pub mod proto;

pub use buffer::{HEADROOM, NO_OFFSET, Packet};
pub use offload::{Checksum, Gso, GsoKind, Offload};
pub use parse::{CtMeta, CtTuple, Meta, extract};

/// Packets that travel together through the datapath.
pub const BATCH_LEN: usize = 32;

/// A batch of up to [`BATCH_LEN`] packets.
pub type Batch = arrayvec::ArrayVec<Packet, BATCH_LEN>;
