//! Byte streams by name: what `tcp:10.0.0.1:6653`, `ssl:…`, `unix:…` and their passive forms mean.
//!
//! - [`Target`] parses and prints a connection method (ovsdb(7) "Connection Methods").
//! - [`connect`] makes an outgoing [`Stream`]; [`Listener`] accepts incoming ones.
//! - [`Tls`] holds the key, certificate and CA files and re-reads them for every new connection, so a
//!   rotated certificate needs no restart. Peers are checked against the CA only: names play no part,
//!   as with every Open vSwitch program. `bootstrap` takes the CA from the first peer.
//! - [`Reconnect`] decides when to connect, probe and give up. It is pure: time comes in as milliseconds.
//!
//! Limits: a listener's backlog is 64 (unix) or 10 (TCP) connections; a TLS handshake that a client does
//! not finish in 10 s of its listener's time is dropped; at most 64 handshakes are under way per listener.

#![forbid(unsafe_code)]

mod io;
mod listener;
mod reconnect;
mod target;
mod tls;
mod tls_limits;

pub use io::{ConnectOptions, Stream, connect, connect_with, error_text};
pub use listener::Listener;
pub use reconnect::{Action, LogModule, Reconnect, ReconnectStats, State};
pub use target::{Endpoint, OPENFLOW_PORT, OVSDB_PORT, Target, TargetError};
pub use tls::{Tls, TlsConfig, TlsError};
pub use tls_limits::TlsLimits;
