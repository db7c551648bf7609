//! Connections of controllers and tools.
//!
//! ```text
//!  socket <-> link task (one per connection) --ConnEvent--> main task: Ofproto, one Agent per switch
//!                      ^------- bytes, bounded by LinkHandle -------'
//! ```
//!
//! A link task owns the socket: it shakes hands, cuts the stream into messages, probes, and writes what
//! it is given. It decides nothing. The agent owns what OpenFlow says about a connection (role, formats,
//! asynchronous message masks) and lives in the main task without a lock. Events come through one bounded
//! channel, so that a peer that sends faster than the switch works is slowed down by its own socket.
//!
//! - [`link`]: one connection; [`remote`]: where connections come from
//! - [`session`]: what a connection has agreed on; [`pacer`]: the rate of its packet-ins
//! - [`agent`]: one switch; [`manager`]: all of them, and the calls of the daemon
//! - [`monitor`]: who is told how rules change
//! - [`announce`]: asynchronous messages; [`fail_open`]: what happens without a controller; [`in_band`]: controllers
//!   that are reached through the switch

pub mod agent;
pub mod announce;
pub mod fail_open;
pub mod in_band;
pub mod link;
pub mod manager;
pub mod monitor;
pub mod pacer;
pub mod remote;
pub mod session;

use crate::ids::{ConnId, SwitchId};
use bytes::Bytes;
use openflow::Version;

/// Events of all connections of all switches that wait for the main task; beyond it, link tasks stop
/// reading. An event holds at most the messages of one read (64 KiB).
pub const EVENT_QUEUE_LEN: usize = 256;

/// What a link task tells the main task.
#[derive(Debug)]
pub enum ConnEvent {
    /// Hands were shaken.
    Up(UpEvent),
    /// Whole messages, in the order in which they came.
    Messages { id: ConnId, batch: Vec<Bytes> },
    /// The output for which requests were held back has been written.
    Drained { id: ConnId },
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
    /// The `Controller.target` behind it.
    pub fn target(&self) -> Option<&str> {
        match self {
            Origin::Controller(target) | Origin::Accepted(target) => Some(target),
            Origin::Management | Origin::Snoop => None,
        }
    }
}
