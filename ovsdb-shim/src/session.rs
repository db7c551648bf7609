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

use crate::lock::{Lock, LockState};
use crate::monitor::{Method, Replica};
use crate::rpc::{Framer, Message, reply, request};
use crate::schema::Schema;
use crate::snapshot::{Change, Diff, Snapshot};
use crate::status::{StatusBatch, StatusWriter};
use crate::txn::{Retry, Shape, Transaction, TxnOutcome, refusal};
use crate::wanted::{WantedTable, missing, monitored};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use stream::Reconnect;
use tracing::{debug, info, warn};

const LOG: &str = "ovsdb_idl";
/// Transactions of [`Session::send`] under way or with results not yet taken.
pub const TRANSACTIONS_MAX: usize = 256;

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

    // What happens to the socket.

    pub fn connected(&mut self, now_ms: u64) {
        self.reconnect.connected(now_ms);
        self.reconnect.set_backoff_free_tries(self.remotes.len() as u32);
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

    // Messages.

    fn message(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Request { method, params, id } => self.request(&method, params, id),
            Message::Reply { id, result } => {
                match id.as_u64().and_then(|id| self.pending.remove(&id)) {
                    Some(pending) => self.reply(pending, result),
                    // The answer to a probe, or to nothing of ours.
                    None => Ok(()),
                }
            }
        }
    }

    fn request(&mut self, method: &str, params: Value, id: Value) -> Result<(), String> {
        let update = match method {
            "echo" => {
                self.actions.push_back(Action::Send(reply(params, id)));
                return Ok(());
            }
            "locked" | "stolen" => {
                let name = params.get(0).and_then(Value::as_str).unwrap_or_default();
                if self.lock.notified(name, method == "locked") {
                    self.lock_moved();
                }
                return Ok(());
            }
            "update3" => Method::CondSince,
            "update2" => Method::Cond,
            "update" => Method::Plain,
            other => {
                debug!(target: LOG, "{}: ignored {other:?}", self.reconnect.name());
                return Ok(());
            }
        };
        if self.phase != Phase::Online(update) {
            return Err(format!("unexpected {method}"));
        }
        self.replica.apply_notification(update, params).map_err(|e| e.to_string())
    }

    fn reply(&mut self, pending: Pending, result: Result<Value, Value>) -> Result<(), String> {
        match pending {
            Pending::Schema => self.schema_reply(result),
            Pending::Rows => self.rows_reply(result),
            Pending::Lock => {
                let locked = result.map_err(|e| format!("lock: {}", refusal(&e)))?;
                let locked = locked.get("locked").and_then(Value::as_bool).unwrap_or(false);
                if self.lock.replied(locked) {
                    self.lock_moved();
                }
                Ok(())
            }
            Pending::Unlock => Ok(()),
            Pending::Txn(id, shape) => {
                let outcome = shape.outcome(result);
                self.events.push_back(Event::TxnResult { id, outcome });
                Ok(())
            }
            Pending::Status(shape) => {
                self.status.answer(shape.outcome(result));
                self.report_status();
                Ok(())
            }
        }
    }

    fn schema_reply(&mut self, result: Result<Value, Value>) -> Result<(), String> {
        let json = result.map_err(|e| format!("get_schema: {}", refusal(&e)))?;
        let schema = Schema::parse(&json).map_err(|e| e.to_string())?;
        let absent = missing(self.config.wanted, &schema);
        if !absent.is_empty() {
            let list: Vec<&str> = absent.iter().map(String::as_str).collect();
            info!(target: LOG, "{}: schema {} has no {}", self.reconnect.name(), schema.version,
                  list.join(", "));
        }
        let columns = monitored(self.config.wanted, &schema);
        self.replica.set_schema(schema, columns);
        self.ask_rows(Method::CondSince);
        Ok(())
    }

    fn ask_rows(&mut self, method: Method) {
        let params =
            self.replica.request(method, &self.config.database, &json!(["monid", self.config.database]));
        self.phase = Phase::AwaitRows(method);
        self.call(method.name(), params, Pending::Rows);
    }

    fn rows_reply(&mut self, result: Result<Value, Value>) -> Result<(), String> {
        let Phase::AwaitRows(method) = self.phase else { return Ok(()) };
        match result {
            Ok(rows) => {
                self.replica.apply_reply(method, rows).map_err(|e| e.to_string())?;
                self.phase = Phase::Online(method);
                self.push_state(Event::Connected { remote: self.reconnect.name().to_owned() });
                Ok(())
            }
            Err(e) => match method.fallback() {
                Some(next) if refusal(&e).error == "unknown method" => {
                    self.ask_rows(next);
                    Ok(())
                }
                _ => Err(format!("{}: {}", method.name(), refusal(&e))),
            },
        }
    }

    fn call(&mut self, method: &str, params: Value, pending: Pending) {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, pending);
        self.actions.push_back(Action::Send(request(method, params, id)));
    }

    // The lock.

    pub fn lock_state(&self) -> LockState {
        self.lock.state()
    }

    fn lock_moved(&mut self) {
        // What another holder wrote meanwhile is not ours.
        self.status.reset();
        self.note_lock();
    }

    fn send_lock(&mut self, methods: &'static [&'static str]) {
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

    // Writing.

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

    fn write_status(&mut self) {
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

    fn report_status(&mut self) {
        let finished = self.status.finished();
        if finished > self.reported_status {
            self.reported_status = finished;
            self.events.retain(|e| !matches!(e, Event::StatusWritten(_)));
            self.events.push_back(Event::StatusWritten(finished));
        }
    }

    // Other wishes.

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
