//! The lock, and what may be written under it.

use super::{Pending, Phase, Session, TRANSACTIONS_MAX};
use crate::lock::LockState;
use crate::session::{Event, TxnId};
use crate::status::StatusBatch;
use crate::txn::{Retry, Shape, Transaction, TxnOutcome};
use serde_json::json;

impl Session {
    pub fn lock_state(&self) -> LockState {
        self.lock.state()
    }

    pub(super) fn lock_moved(&mut self) {
        // What another holder wrote meanwhile is not ours, and an answer still to come is about the past.
        self.status.reset();
        self.pending.retain(|_, pending| !matches!(pending, Pending::Status(_)));
        self.note_lock();
    }

    pub(super) fn send_lock(&mut self, methods: &'static [&'static str]) {
        let Some(name) = self.lock.name().map(str::to_owned) else { return };
        for method in methods {
            let pending = if *method == "unlock" { Pending::Unlock } else { Pending::Lock };
            self.call(method, json!([name]), pending);
        }
    }

    fn is_connected(&self) -> bool {
        self.phase != Phase::Offline
    }

    /// Takes the lock away from its holder (who hears "stolen" and queues for it again).
    pub fn steal_lock(&mut self) {
        let methods = self.lock.steal(self.is_connected());
        self.send_lock(methods);
    }

    /// Gives the lock back, and asks for it no more until [`Session::request_lock`].
    pub fn unlock(&mut self) {
        let methods = self.lock.unlock(self.is_connected());
        self.send_lock(methods);
        self.note_lock();
    }

    /// Asks for the lock again after [`Session::unlock`].
    pub fn request_lock(&mut self) {
        let methods = self.lock.request(self.is_connected());
        self.send_lock(methods);
    }

    fn may_write(&self) -> Result<(), Retry> {
        match (self.phase, self.lock.permits_writing()) {
            (Phase::Online(_), true) => Ok(()),
            (Phase::Online(_), false) => Err(Retry::NotLocked),
            _ => Err(Retry::Disconnected),
        }
    }

    /// Starts a transaction; its [`Event::TxnResult`] comes without fail.
    pub fn send(&mut self, transaction: &Transaction) -> TxnId {
        let id = self.reserve_txn();
        self.send_as(id, transaction);
        id
    }

    /// The number of the next transaction, for [`Session::send_as`].
    pub fn reserve_txn(&mut self) -> TxnId {
        self.next_txn += 1;
        self.next_txn
    }

    /// [`Session::send`] under a number that the caller has chosen.
    pub fn send_as(&mut self, id: TxnId, transaction: &Transaction) {
        let outcome = if self.transactions >= TRANSACTIONS_MAX {
            TxnOutcome::TryAgain(Retry::Overload)
        } else if let Err(retry) = self.may_write() {
            TxnOutcome::TryAgain(retry)
        } else {
            let lock = self.lock.name();
            match transaction.compile(&self.config.database, lock, self.replica.schema()) {
                Some((params, shape)) => {
                    self.transactions += 1;
                    return self.call("transact", params, Pending::Txn(id, shape));
                }
                None => Shape::nothing(transaction.len()),
            }
        };
        self.transactions += 1;
        self.events.push_back(Event::TxnResult { id, outcome });
    }

    /// Asks for status columns to have these values; returns the batch's number. Values for rows that
    /// are not there when it is written are dropped.
    pub fn status(&mut self, batch: StatusBatch) -> u64 {
        self.status.submit(batch)
    }

    pub(super) fn write_status(&mut self) {
        if self.may_write().is_err() {
            return;
        }
        // A transaction of which this server knows no column is done without asking it.
        while let Some(transaction) = self.status.next(&self.replica) {
            match transaction.compile(&self.config.database, self.lock.name(), self.replica.schema()) {
                Some((params, shape)) => {
                    self.call("transact", params, Pending::Status(shape));
                    break;
                }
                None => self.status.answer(Shape::nothing(transaction.len())),
            }
        }
        self.report_status();
    }

    pub(super) fn report_status(&mut self) {
        let finished = self.status.finished();
        if finished > self.reported_status {
            self.reported_status = finished;
            self.events.retain(|e| !matches!(e, Event::StatusWritten(_)));
            self.events.push_back(Event::StatusWritten(finished));
        }
    }
}
