//! Packets: their memory, their headers, checksums and batches. No socket, thread or clock.

#![forbid(unsafe_code)]

pub mod buffer;
pub mod offload;

pub use buffer::{HEADROOM, NO_OFFSET, Packet};
pub use offload::{Checksum, Gso, GsoKind, Offload};

/// Packets that travel together through the datapath.
pub const BATCH_LEN: usize = 32;

/// A batch of up to [`BATCH_LEN`] packets.
pub type Batch = arrayvec::ArrayVec<Packet, BATCH_LEN>;
