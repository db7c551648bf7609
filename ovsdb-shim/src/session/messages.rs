//! What the server says.

use super::{LOG, Pending, Phase, Session};
use crate::monitor::Method;
use crate::rpc::{Message, reply, request};
use crate::schema::Schema;
use crate::session::{Action, Event};
use crate::txn::{Retry, TxnOutcome, refusal};
use crate::wanted::{missing, monitored};
use serde_json::{Value, json};
use tracing::{debug, info};

impl Session {
    pub(super) fn message(&mut self, message: Message) -> Result<(), String> {
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
                let outcome = self.judge(shape.outcome(result));
                self.events.push_back(Event::TxnResult { id, outcome });
                Ok(())
            }
            Pending::Status(shape) => {
                let outcome = self.judge(shape.outcome(result));
                self.status.answer(outcome);
                self.report_status();
                Ok(())
            }
        }
    }

    /// A server that says the lock is not ours knows better than we.
    fn judge(&mut self, outcome: TxnOutcome) -> TxnOutcome {
        if outcome == TxnOutcome::TryAgain(Retry::NotLocked) && self.lock.refused() {
            self.lock_moved();
        }
        outcome
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

    pub(super) fn call(&mut self, method: &str, params: Value, pending: Pending) {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, pending);
        self.actions.push_back(Action::Send(request(method, params, id)));
    }
}
