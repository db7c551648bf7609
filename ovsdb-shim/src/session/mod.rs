//! The session: an OVSDB client without a socket.
//!
//! Bytes, the passing of time and the caller's wishes go in; [`Action`]s for the socket and [`Event`]s for
//! the daemon come out.
//!
//! ```text
//! connected -> get_schema + lock -> monitor_cond_since | monitor_cond | monitor -> Connected, Snapshot
//!           -> updates, transactions, probes … -> lost -> (back-off) -> connected
//! ```
//!
//! While disconnected the last snapshot stays valid; after a reconnection only the difference is delivered.

mod messages;
#[cfg(test)]
mod tests;
mod types;
mod writing;

use crate::lock::Lock;
use crate::monitor::{Method, Replica};
use crate::rpc::{Framer, Message};
use crate::snapshot::{Change, Diff, Snapshot};
use crate::status::StatusWriter;
use crate::txn::{Retry, Shape, TxnOutcome};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use stream::Reconnect;
use tracing::warn;
pub use types::{Action, Event, Remote, SessionConfig, TxnId};

const LOG: &str = "ovsdb_idl";
/// Transactions of [`Session::send`] under way or with results not yet taken.
pub const TRANSACTIONS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offline,
    AwaitSchema,
    AwaitRows(Method),
    Online(Method),
}

/// What a reply will be about.
#[derive(Debug)]
enum Pending {
    Schema,
    Rows,
    /// "lock" or "steal"
    Lock,
    Unlock,
    Txn(TxnId, Shape),
    Status(Shape),
}

/// See the module.
pub struct Session {
    config: SessionConfig,
    remotes: Vec<Remote>,
    /// The remote in use or tried last.
    remote: usize,
    reconnect: Reconnect,
    phase: Phase,
    framer: Framer,
    replica: Replica,
    lock: Lock,
    status: StatusWriter,
    pending: BTreeMap<u64, Pending>,
    next_id: u64,
    next_txn: TxnId,
    /// Transactions whose result is not yet taken.
    transactions: usize,
    reported_status: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session that connects at once. Without remotes it stays disconnected.
    pub fn new(config: SessionConfig, remotes: Vec<Remote>, now_ms: u64) -> Self {
        let mut reconnect = Reconnect::new("", now_ms);
        reconnect.set_backoff_free_tries(remotes.len() as u32);
        if !remotes.is_empty() {
            reconnect.enable(now_ms);
        }
        let lock = Lock::new(config.lock.clone());
        Session {
            config,
            remote: remotes.len().saturating_sub(1),
            remotes,
            reconnect,
            phase: Phase::Offline,
            framer: Framer::default(),
            replica: Replica::default(),
            lock,
            status: StatusWriter::default(),
            pending: BTreeMap::new(),
            next_id: 0,
            next_txn: 0,
            transactions: 0,
            reported_status: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The next thing to do for the socket, if any.
    pub fn poll_action(&mut self, now_ms: u64) -> Option<Action> {
        if self.actions.is_empty() {
            self.write_status();
            self.run_reconnect(now_ms);
        }
        self.actions.pop_front()
    }

    /// When [`Session::poll_action`] wants to be called next; `None`: only after an input.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.reconnect.deadline_ms()
    }

    fn run_reconnect(&mut self, now_ms: u64) {
        match self.reconnect.run(now_ms) {
            None => {}
            Some(stream::Action::Connect) => {
                self.remote = (self.remote + 1) % self.remotes.len().max(1);
                if let Some(remote) = self.remotes.get(self.remote) {
                    self.reconnect.set_name(remote.name.clone());
                    let probe = if remote.needs_probes { self.config.probe_interval_ms } else { 0 };
                    self.reconnect.set_probe_interval(probe);
                }
                self.reconnect.connecting(now_ms);
                self.actions.push_back(Action::Connect(self.remote));
            }
            Some(stream::Action::Disconnect) => {
                self.lost(now_ms, None);
                self.actions.push_back(Action::Disconnect);
            }
            Some(stream::Action::Probe) => {
                let probe = json!({"method": "echo", "params": [], "id": "echo"});
                self.actions.push_back(Action::Send(probe.to_string()));
            }
        }
    }

    /// The next event, if any. An event is made when it is taken: changes that nobody has looked at
    /// yet become one.
    pub fn poll_event(&mut self) -> Option<Event> {
        // The rows of a transaction come before its result, as the server sends them.
        let rows_first =
            matches!(self.events.front(), None | Some(Event::TxnResult { .. } | Event::StatusWritten(_)));
        if rows_first && let Some((snapshot, diff)) = self.replica.take_change() {
            self.forget_deleted(&diff);
            return Some(Event::Snapshot { snapshot, diff });
        }
        let event = self.events.pop_front();
        if let Some(Event::TxnResult { .. }) = event {
            self.transactions -= 1;
        }
        event
    }

    fn forget_deleted(&mut self, diff: &Diff) {
        for (table, rows) in &diff.tables {
            for (uuid, change) in rows {
                if matches!(change, Change::Deleted(_)) {
                    self.status.forget(table, *uuid);
                }
            }
        }
    }

    pub fn connected(&mut self, now_ms: u64) {
        self.reconnect.connected(now_ms);
        self.framer = Framer::default();
        self.phase = Phase::AwaitSchema;
        self.call("get_schema", json!([self.config.database]), Pending::Schema);
        let request = self.lock.connected();
        self.send_lock(request);
    }

    pub fn connect_failed(&mut self, now_ms: u64, error: Option<&str>) {
        self.reconnect.connect_failed(now_ms, error);
    }

    /// The connection ended: `error` is its text, `None` an orderly close.
    pub fn disconnected(&mut self, now_ms: u64, error: Option<&str>) {
        self.lost(now_ms, error);
    }

    fn lost(&mut self, now_ms: u64, error: Option<&str>) {
        self.reconnect.disconnected(now_ms, error);
        if self.phase == Phase::Offline {
            return;
        }
        let was_online = matches!(self.phase, Phase::Online(_));
        self.phase = Phase::Offline;
        self.actions.clear();
        for (_, pending) in std::mem::take(&mut self.pending) {
            if let Pending::Txn(id, _) = pending {
                let outcome = TxnOutcome::TryAgain(Retry::Disconnected);
                self.events.push_back(Event::TxnResult { id, outcome });
            }
        }
        self.status.reset();
        if self.lock.disconnected() {
            self.note_lock();
        }
        if was_online {
            self.push_state(Event::Disconnected);
        }
    }

    /// Queues an event of which a slow reader needs the last only, so that the queue stays short.
    fn push_state(&mut self, event: Event) {
        let kind = std::mem::discriminant(&event);
        let flapping = self.events.len() > TRANSACTIONS_MAX;
        if flapping {
            self.events.retain(|e| std::mem::discriminant(e) != kind);
        }
        self.events.push_back(event);
    }

    fn note_lock(&mut self) {
        self.push_state(Event::LockChanged(self.lock.state()));
    }

    /// Takes what was read from the socket.
    pub fn received(&mut self, bytes: &[u8], now_ms: u64) {
        self.reconnect.activity(now_ms);
        self.framer.push(bytes);
        loop {
            let text = match self.framer.next_object() {
                Ok(Some(text)) => text,
                Ok(None) => return,
                Err(e) => return self.give_up(now_ms, &e.to_string()),
            };
            if let Err(e) = Message::parse(&text).map_err(|e| e.to_string()).and_then(|m| self.message(m)) {
                return self.give_up(now_ms, &e);
            }
            if self.phase == Phase::Offline {
                return;
            }
        }
    }

    /// The server says what we cannot understand: start again, with all rows.
    fn give_up(&mut self, now_ms: u64, why: &str) {
        warn!(target: LOG, "{}: {why}", self.reconnect.name());
        self.replica.forget_history();
        self.lost(now_ms, Some("Protocol error"));
        self.actions.push_back(Action::Disconnect);
    }

    /// Drops the connection and connects again, with back-off.
    pub fn force_reconnect(&mut self, now_ms: u64) {
        self.reconnect.force_reconnect(now_ms);
    }

    /// Milliseconds, at least 1 s; 0 for none. Never used over a unix socket.
    pub fn set_probe_interval(&mut self, ms: u32) {
        self.config.probe_interval_ms = ms;
        if self.remotes.get(self.remote).is_some_and(|r| r.needs_probes) {
            self.reconnect.set_probe_interval(ms);
        }
    }

    /// Whether the replica is up to date with a server.
    pub fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online(_))
    }

    /// The schema version of the last server, "" before the first.
    pub fn schema_version(&self) -> &str {
        &self.replica.schema().version
    }

    /// The replica as it is, changes not yet delivered included.
    pub fn snapshot(&self) -> &Snapshot {
        self.replica.current()
    }
}
