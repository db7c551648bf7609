//! Columns of the Controller table.

use super::optional;
use ofproto::conn::agent::ControllerStatus;
use ovsdb_shim::{Datum, StatusBatch};
use uuid::Uuid;

const TABLE: &str = "Controller";

/// How a controller is doing; `None` for one that connects to us.
pub fn controller(batch: &mut StatusBatch, row: Uuid, status: Option<&ControllerStatus>) {
    batch.set(TABLE, row, "is_connected", status.is_some_and(|s| s.is_connected));
    batch.set(TABLE, row, "role", optional(status.and_then(ControllerStatus::role_name)));
    let pairs = status.iter().flat_map(|s| s.pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    batch.set(TABLE, row, "status", Datum::map(pairs));
}
