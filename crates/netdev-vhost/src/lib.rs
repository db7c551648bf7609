//! vhost-user ports: `dpdkvhostuserclient`, which connects to a virtual machine monitor's socket, and
//! `dpdkvhostuser`, on whose socket it connects. Our own back end on the guest's memory, without DPDK.
//!
//! | file | what |
//! |---|---|
//! | [`mem`] | the guest's memory: mappings, checked access, the dirty log; all `unsafe` of the crate |
//! | [`ring`] | virtqueues, split and packed: descriptors in, used buffers out |
//! | [`inflight`] | where rings are, noted for a back end after us |
//! | [`vring`] | frames over a ring: headers, offloads, mergeable buffers, calls |
//! | [`protocol`], [`session`] | the conversation with the front end, as messages in and replies out |
//! | [`link`](mod@link) | its socket: connects, listens, comes back for ever; one thread per port |
//! | [`port`], [`queue`], [`sender`], [`stats`] | the port as the switch sees it |
//!
//! A guest is an adversary. It breaks its own port only: the port's rings stop until the driver or the front end
//! starts anew, which is counted and logged once.

pub mod fuzz;
pub mod inflight;
pub mod link;
pub mod mem;
pub mod pool;
pub mod port;
pub mod protocol;
pub mod queue;
pub mod ring;
pub mod saved;
pub mod sender;
pub mod session;
pub mod stats;
pub mod vring;

pub use port::{VhostDevice, VhostPorts};
