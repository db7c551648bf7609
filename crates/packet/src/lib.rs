//! Packets: their memory, their headers, checksums and batches. No socket, thread or clock.

#![forbid(unsafe_code)]

pub mod buffer;
pub mod checksum;
pub mod compose;
mod cursor;
pub mod edit;
#[cfg(test)]
#[path = "../tests/common/frames.rs"]
mod frames;
pub mod fuzz;
pub mod gso;
pub mod header;
pub mod offload;
pub mod parse;
pub mod pcap;
pub mod proto;
pub mod tunnel;

pub use buffer::{HEADROOM, NO_OFFSET, Packet, Pool, Pooled};
pub use header::{
    ArpKey, EthKey, IcmpKey, Ipv4Key, Ipv6Key, Masked, NSH_MD2_MAX, NdExtKey, NdKey, NshHeader, PortsKey,
};
pub use offload::{Checksum, Gso, GsoKind, Offload};
pub use parse::{CtMeta, CtTuple, Meta, extract};

/// Packets that travel together through the datapath.
pub const BATCH_LEN: usize = 32;

/// A batch of up to [`BATCH_LEN`] packets.
pub type Batch = arrayvec::ArrayVec<Packet, BATCH_LEN>;
