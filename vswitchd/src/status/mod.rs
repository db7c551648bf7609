//! Write-back: what the daemon tells the database about what exists.
//!
//! Everything here is a function from facts to a [`StatusBatch`](ovsdb_shim::StatusBatch); the session writes
//! only what changed. [`system`] alone reads the system: `/proc` and the mounted file systems.

pub mod bridge;
pub mod controller;
pub mod daemon;
pub mod interface;
pub mod system;

use ovsdb_shim::Datum;

/// A column that may be empty.
fn optional<T: Into<ovsdb_shim::Atom>>(value: Option<T>) -> Datum {
    Datum::set(value)
}
