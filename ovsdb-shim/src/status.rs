//! Status write-back: the newest value of each column, written once, at most one transaction at a time.
//!
//! The writer remembers what it wrote. It writes only what differs from the database: for a monitored
//! column the replica tells, for the others the last write on this connection. After a reconnection or
//! when the lock comes back it knows nothing and writes all again, since a restarted server has lost its
//! ephemeral columns and another daemon may have written its own.

use crate::datum::Datum;
use crate::monitor::Replica;
use crate::txn::{Transaction, TxnOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tracing::warn;
use uuid::Uuid;

/// Values to write, as table, row, column and value. Of two values for one column the later counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusBatch {
    pub(crate) values: Vec<(Arc<str>, Uuid, Arc<str>, Datum)>,
}

impl StatusBatch {
    pub fn new() -> Self {
        StatusBatch::default()
    }

    /// Asks for a column of a row to have this value from now on.
    pub fn set(&mut self, table: &str, uuid: Uuid, column: &str, datum: impl Into<Datum>) -> &mut Self {
        self.values.push((Arc::from(table), uuid, Arc::from(column), datum.into()));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

type RowKey = (Arc<str>, Uuid);

/// One column of one row.
#[derive(Debug)]
struct Cell {
    wanted: Datum,
    /// What the server has, as far as we know.
    written: Option<Datum>,
    /// A value the server did not take; it is not offered again.
    refused: Option<Datum>,
}

/// Rows of a transaction under way, one for each operation.
type Flight = Vec<(RowKey, Vec<(Arc<str>, Datum)>)>;

/// The state of all written columns. Limit: one entry for each status column of each row; the entries of
/// a row go with it.
#[derive(Debug, Default)]
pub struct StatusWriter {
    rows: BTreeMap<RowKey, BTreeMap<Arc<str>, Cell>>,
    dirty: BTreeSet<RowKey>,
    flight: Option<(Flight, u64)>,
    submitted: u64,
    /// The last batch of which everything has been written or refused.
    finished: u64,
}

impl StatusWriter {
    /// Takes new values; batches are numbered from 1.
    pub fn submit(&mut self, batch: StatusBatch) -> u64 {
        for (table, uuid, column, datum) in batch.values {
            let key = (table, uuid);
            let cells = self.rows.entry(key.clone()).or_default();
            match cells.get_mut(&column) {
                Some(cell) => cell.wanted = datum,
                None => {
                    cells.insert(column, Cell { wanted: datum, written: None, refused: None });
                }
            }
            self.dirty.insert(key);
        }
        self.submitted += 1;
        self.submitted
    }

    /// Forgets a deleted row.
    pub fn forget(&mut self, table: &Arc<str>, uuid: Uuid) {
        let key = (table.clone(), uuid);
        self.rows.remove(&key);
        self.dirty.remove(&key);
    }

    /// Trusts nothing written so far; the transaction under way, if any, has no answer.
    pub fn reset(&mut self) {
        self.flight = None;
        for cell in self.rows.values_mut().flat_map(BTreeMap::values_mut) {
            cell.written = None;
            cell.refused = None;
        }
        self.dirty = self.rows.keys().cloned().collect();
    }

    /// The next transaction, if there is something to write and none is under way. Rows that the replica
    /// does not have are forgotten.
    pub fn next(&mut self, replica: &Replica) -> Option<Transaction> {
        if self.flight.is_some() || (self.dirty.is_empty() && self.finished == self.submitted) {
            return None;
        }
        let (mut txn, mut flight) = (Transaction::new(), Flight::new());
        for key in std::mem::take(&mut self.dirty) {
            let Some(row) = replica.current().row(&key.0, key.1) else {
                self.rows.remove(&key);
                continue;
            };
            let Some(cells) = self.rows.get(&key) else { continue };
            let due = |column: &Arc<str>, cell: &Cell| {
                let present = if replica.is_monitored(&key.0, column) {
                    row.datum(column)
                } else {
                    cell.written.as_ref()
                };
                present != Some(&cell.wanted) && cell.refused.as_ref() != Some(&cell.wanted)
            };
            let columns: Vec<_> = cells
                .iter()
                .filter(|(column, cell)| due(column, cell))
                .map(|(column, cell)| (column.clone(), cell.wanted.clone()))
                .collect();
            if !columns.is_empty() {
                txn.update(&key.0, key.1, columns.iter().map(|(c, d)| (&**c, d.clone())));
                flight.push((key, columns));
            }
        }
        if flight.is_empty() {
            self.finished = self.submitted;
            return None;
        }
        self.flight = Some((flight, self.submitted));
        Some(txn)
    }

    /// Takes the answer to the transaction under way.
    pub fn answer(&mut self, outcome: TxnOutcome) {
        let Some((flight, upto)) = self.flight.take() else { return };
        match outcome {
            TxnOutcome::Committed(_) => {
                self.each_cell(flight, |cell, datum| cell.written = Some(datum));
                self.finished = upto;
            }
            TxnOutcome::TryAgain(_) => self.dirty.extend(flight.into_iter().map(|(key, _)| key)),
            TxnOutcome::Failed { op, error } => {
                warn!(target: "ovsdb_idl", "transaction error: {error}");
                self.refuse(flight, op);
            }
        }
    }

    /// Gives up on the operation at fault and tries the rest again. If no operation is at fault (the
    /// server's disk is full), all waits for the next batch that names it.
    fn refuse(&mut self, mut flight: Flight, op: Option<usize>) {
        let Some(op) = op.filter(|op| *op < flight.len()) else { return };
        let at_fault = flight.remove(op);
        self.each_cell(vec![at_fault], |cell, datum| cell.refused = Some(datum));
        self.dirty.extend(flight.into_iter().map(|(key, _)| key));
    }

    fn each_cell(&mut self, flight: Flight, mut set: impl FnMut(&mut Cell, Datum)) {
        for (key, columns) in flight {
            let Some(cells) = self.rows.get_mut(&key) else { continue };
            for (column, datum) in columns {
                if let Some(cell) = cells.get_mut(&column) {
                    set(cell, datum);
                }
            }
        }
    }

    /// All batches up to this one are written or refused.
    pub fn finished(&self) -> u64 {
        self.finished
    }
}
