//! What goes into a session and comes out of it.

use crate::lock::LockState;
use crate::snapshot::{Diff, Snapshot};
use crate::txn::TxnOutcome;
use crate::wanted::WantedTable;

/// What a session is for.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    pub database: String,
    /// The lock without which nothing is written.
    pub lock: Option<String>,
    pub wanted: &'static [WantedTable],
    /// Milliseconds; 0 for none. Never used over a unix socket.
    pub probe_interval_ms: u32,
}

impl SessionConfig {
    /// The configuration of ovs-vswitchd: database Open_vSwitch, lock `ovs_vswitchd`, probes after 5 s.
    pub fn vswitchd() -> Self {
        SessionConfig {
            database: "Open_vSwitch".to_owned(),
            lock: Some("ovs_vswitchd".to_owned()),
            wanted: crate::wanted::VSWITCHD,
            probe_interval_ms: 5000,
        }
    }
}

/// Names a transaction of [`Session::send`].
pub type TxnId = u64;

/// What the daemon hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// The database is at hand and the replica up to date. A [`Event::Snapshot`] follows if it differs
    /// from the last one delivered.
    Connected {
        remote: String,
    },
    Disconnected,
    /// The rows have changed. The first one has every row as inserted, and comes even if there is none.
    Snapshot {
        snapshot: Snapshot,
        diff: Diff,
    },
    LockChanged(LockState),
    TxnResult {
        id: TxnId,
        outcome: TxnOutcome,
    },
    /// All status batches up to this number are in the database, or refused by it.
    StatusWritten(u64),
}

/// What the owner of the socket must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the remote of this index; report [`Session::connected`] or [`Session::connect_failed`].
    Connect(usize),
    /// Drop the connection or attempt, without a report.
    Disconnect,
    Send(String),
}

/// A remote's name, and whether it needs probes.
#[derive(Clone, Debug)]
pub struct Remote {
    pub name: String,
    pub needs_probes: bool,
}

impl From<&stream::Target> for Remote {
    fn from(target: &stream::Target) -> Self {
        Remote { name: target.to_string(), needs_probes: target.needs_probes() }
    }
}
