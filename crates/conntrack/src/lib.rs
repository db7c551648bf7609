//! Connection tracking: which packets belong together, in what state their conversation is, and how their
//! addresses are translated. The model is that of ovs-fields(7) "Connection Tracking Fields" and of the
//! userspace datapath of Open vSwitch 3.1.
//!
//! No thread, no socket, no clock: packets and the time come in as arguments. All methods of [`Conntrack`]
//! take `&self` and may be called by any number of threads. The table has [`SHARDS`] parts with a lock each,
//! held for some tens of nanoseconds for a packet; no two of them are ever held together. A flush of a zone is one
//! atomic exchange (see `zone`). Dumps, sweeps and removals are run in small steps by the threads that poll, which so wait
//! for no other (see `errand`); where there are none, by the caller, for at most [`SLICE`] connections at a time.
//!
//! | what | limit | then |
//! |---|---|---|
//! | connections | [`MAXCONNS`] unless set | packets pass, uncommitted; counted |
//! | expectations of helpers | [`EXPECTATIONS_MAX`] | no more are made; counted |
//! | fragments that wait | [`ipf::NFRAG_MAX`] unless set | later ones are invalid; counted |
//!
//! A connection takes at most 128 bytes and 20 of index; a translated one some 250 more. Once there was one, 2 MiB
//! are set aside for those to come, and 32 MiB where threads poll.

#![forbid(unsafe_code)]

mod alg;
mod commit;
mod conn;
mod control;
mod dump;
mod errand;
mod expect;
mod extract;
mod ftp;
pub mod fuzz;
mod index;
pub mod ipf;
mod key;
mod nat;
mod proto;
mod quick;
mod request;
mod saved;
mod shard;
mod stock;
mod tcp;
mod timeout;
mod track;
mod zone;

#[cfg(test)]
mod tests;

pub use conn::{ConnRef, Helper};
pub use dump::{Entry, TcpInfo, proto_name};
pub use errand::Serving;
pub use expect::EXPECTATIONS_MAX;
pub use key::{Family, Key, icmp_types};
pub use quick::{Aim, Glance, Shown, Sight, Told};
pub use request::{Cached, PacketCt, Place, Request};
pub use saved::{SavedConn, SavedConntrack, SavedKey};
pub use tcp::State as TcpState;
pub use timeout::{TIMEOUTS, Timeout, TimeoutPolicy};
pub use track::{Conntrack, Counters, SHARDS, SLICE};
pub use zone::{LimitStatus, LimitZone, ZONES};

/// Connections at a time, unless set otherwise.
pub const MAXCONNS: u32 = 3_000_000;

/// Why a connection is not made, or not found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConntrackError {
    /// There are as many connections as there may be.
    Full,
    /// Those of the zone are as many as there may be.
    ZoneFull,
    NotFound,
}
