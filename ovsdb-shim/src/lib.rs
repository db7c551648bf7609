//! The OVSDB client of the daemon: a replica of the configuration, and status written back.
//!
//! - [`Session`] is the client without a socket; [`start`] runs one on tokio and hands out a
//!   [`SessionHandle`] and the [`Event`]s.
//! - [`Snapshot`] holds the monitored rows, [`Diff`] what changed since the one before.
//! - [`Transaction`] changes rows and reports; [`StatusBatch`] sets status columns: the latest value
//!   counts, unchanged ones are not written, and a restarted server gets them again.
//! - [`VSWITCHD`] lists the tables and columns that ovs-vswitchd reads and writes, and which of its own
//!   it reads back.
//!
//! Invariant: outside of [`VSWITCHD`], nothing here knows what a bridge is.
//!
//! Nothing here needs saving for a hand-over: a successor opens a session of its own, reads the rows while
//! it waits for the lock, and takes it with [`SessionHandle::steal_lock`] or when its predecessor calls
//! [`SessionHandle::unlock`]. It then writes all status anew.
//!
//! Limits: a message of at most [`MESSAGE_BYTES_MAX`] bytes and 128 levels; [`TRANSACTIONS_MAX`]
//! transactions under way (further ones are told to try again); one status transaction under way.

#![forbid(unsafe_code)]

mod datum;
mod driver;
mod fuzz;
mod lock;
mod monitor;
mod rpc;
mod schema;
mod session;
mod snapshot;
mod status;
mod txn;
mod wanted;

pub use datum::{Atom, AtomType, Datum, DatumError, Real};
pub use driver::{SessionHandle, SessionOptions, start};
pub use fuzz::fuzz_message;
pub use lock::LockState;
pub use rpc::MESSAGE_BYTES_MAX;
pub use schema::{ColumnType, Schema, SchemaError, TableSchema};
pub use session::{Action, Event, Remote, Session, SessionConfig, TRANSACTIONS_MAX, TxnId};
pub use snapshot::{Change, Diff, Row, Snapshot, Table};
pub use status::StatusBatch;
pub use txn::{Mutator, OpResult, OvsdbError, Retry, Transaction, TxnOutcome, Until};
pub use wanted::{VSWITCHD, WantedTable};
