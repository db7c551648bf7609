//! Network devices: what a port is to the datapath, and the kinds that need no driver of their own.
//!
//! [`Env`] opens ports. A [`Netdev`] is the control plane's side of a port: configuration, link state, counters;
//! [`RxQueue`] and [`TxQueue`] are the packet's side, each owned by one thread. Kernel devices change behind our
//! back: [`link::LinkMonitor`] has a descriptor to wait on and tells the ports, whose
//! [`Netdev::change_seq`] then moves.
//!
//! | type | file | packets through |
//! |---|---|---|
//! | `system` | [`system`] | packet socket |
//! | `internal`, `tap` | [`tap`] | `/dev/net/tun` |
//! | `patch` | [`vport`] | nothing: the switch goes on at the peer |
//! | `geneve`, `vxlan`, `gre`, `erspan`, `gtpu`, ... | [`tunnel`] | nothing: the datapath puts their headers on and off |
//! | `dummy`, `dummy-internal`, `dummy-pmd` | [`dummy`] | memory, streams, capture files |
//!
//! Invariant: only `sys/` makes raw system calls; no device waits in `recv` or `send`.

pub mod burst;
pub mod device;
pub mod dummy;
pub mod factory;
pub mod features;
pub mod link;
mod linux;
pub mod netlink;
pub mod next_hop;
mod pcap;
pub mod policer;
pub mod pool;
pub mod qos;
pub mod rewrite;
pub mod routes;
pub mod steering;
pub mod sys;
pub mod system;
pub mod tap;
pub mod tc;
pub mod tunnel;
pub mod virtio;
pub mod vport;

pub use burst::{Burst, Heads, Packets};
pub use device::*;
pub use factory::{DummyLevel, Env, Provider, open};
pub use rewrite::{Part, Rewrite};
