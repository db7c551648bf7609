//! The control socket that `ovs-appctl` talks to, and the registry of its commands.
//!
//! Three parts, each usable alone:
//!
//! * [`wire`]: JSON-RPC 1.0 over a byte stream. Pure; total over any input; limits written down there.
//! * [`Registry`]: the commands, each with usage, number of arguments and handler, generic over the state `Ctx`
//!   that handlers change. Parts of the daemon build their own registry over their own state and the daemon
//!   [mounts](Registry::mount) them.
//! * [`Server`]: the listening socket. Its tasks hold no daemon state: they send each [`Request`] to whoever owns
//!   the [`Requests`] receiver, normally the main loop, which calls [`Registry::dispatch`]. A handler may keep its
//!   [`Reply`] and answer later. Each connection has one request in progress at a time, so a client that does not
//!   read holds up nobody else.

#![forbid(unsafe_code)]

mod registry;
mod server;
pub mod wire;

pub use registry::{Registry, Reply, Request, UNLIMITED};
pub use server::{MAX_CONNECTIONS, Requests, Server};
