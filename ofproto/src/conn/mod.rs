//! Connections of controllers and tools.
//!
//! ```text
//!  socket <-> link task (one per connection) --ConnEvent--> main task: ConnManager, one per switch
//!                      ^------- bytes, bounded by LinkHandle -------'
//! ```
//!
//! A link task owns the socket: it shakes hands, cuts the stream into messages, probes, and writes what
//! it is given. It decides nothing. The manager owns what OpenFlow says about a connection (role, formats,
//! asynchronous message masks) and lives in the main task without a lock. Events come through one bounded
//! channel, so that a peer that sends faster than the switch works is slowed down by its own socket.

pub mod link;
pub mod remote;

use crate::ids::{ConnId, SwitchId};
use bytes::Bytes;
use openflow::Version;

/// Events of all connections of all switches that wait for the main task; beyond it, link tasks stop reading.
pub const EVENT_QUEUE_LEN: usize = 4096;

/// What a link task tells the main task.
#[derive(Debug)]
pub enum ConnEvent {
    /// Hands were shaken.
    Up(UpEvent),
    /// One whole message.
    Message { id: ConnId, bytes: Bytes },
    /// The connection is gone.
    Down { id: ConnId },
}

/// A new connection.
#[derive(Debug)]
pub struct UpEvent {
    pub id: ConnId,
    pub switch: SwitchId,
    pub version: Version,
    /// The peer, as the log names it.
    pub peer: String,
    pub origin: Origin,
    pub link: link::LinkHandle,
}

/// How a connection came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A controller that we connect to; its `Controller.target`.
    Controller(String),
    /// Accepted on a `Controller` with a passive target.
    Accepted(String),
    /// Accepted on `<bridge>.mgmt`.
    Management,
    /// Accepted on `<bridge>.snoop`.
    Snoop,
}

impl Origin {
    /// Whether asynchronous messages are on from the start (a primary controller).
    pub fn is_primary(&self) -> bool {
        matches!(self, Origin::Controller(_))
    }
}
