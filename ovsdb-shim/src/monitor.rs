//! The replica: monitor requests, their replies and updates of all three kinds (RFC 7047 section 4.1.5
//! and ovsdb-server(7) "Monitor_Cond").

use crate::datum::{Datum, DatumError};
use crate::schema::{Schema, TableSchema};
use crate::snapshot::{Diff, Row, Snapshot};
use crate::wanted::Monitored;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// The monitoring methods, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// "monitor_cond_since" with "update3"
    CondSince,
    /// "monitor_cond" with "update2"
    Cond,
    /// "monitor" with "update"
    Plain,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::CondSince => "monitor_cond_since",
            Method::Cond => "monitor_cond",
            Method::Plain => "monitor",
        }
    }

    /// What to try when the server does not know this method.
    pub fn fallback(self) -> Option<Method> {
        match self {
            Method::CondSince => Some(Method::Cond),
            Method::Cond => Some(Method::Plain),
            Method::Plain => None,
        }
    }
}

/// An update that does not fit the replica: it must be fetched anew.
#[derive(Debug, Error)]
pub enum UpdateError {
    #[error("bad update: {0}")]
    Syntax(&'static str),
    #[error("{0}")]
    Datum(#[from] DatumError),
    #[error("update of row {0}, which is not there")]
    NoSuchRow(Uuid),
}

/// How a row update is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// {"old": …, "new": …} with whole rows
    Old,
    /// {"initial" | "insert" | "delete" | "modify": …}
    Two,
}

/// A copy of the monitored columns, kept through reconnections.
#[derive(Debug, Default)]
pub struct Replica {
    schema: Arc<Schema>,
    monitored: Monitored,
    current: Snapshot,
    delivered: Snapshot,
    /// The rows that may differ between `delivered` and `current`.
    changed: BTreeSet<(Arc<str>, Uuid)>,
    wakes: bool,
    ever_synced: bool,
    ever_delivered: bool,
    torn: bool,
    last_txn_id: Option<String>,
}

impl Replica {
    pub fn current(&self) -> &Snapshot {
        &self.current
    }

    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    pub fn is_monitored(&self, table: &str, column: &str) -> bool {
        self.monitored.get(table).is_some_and(|t| t.contains_key(column))
    }

    /// Takes the schema a server has shown. If it changes what is monitored, the server's history is of
    /// no use and all rows come anew.
    pub fn set_schema(&mut self, schema: Schema, monitored: Monitored) {
        if monitored != self.monitored || schema.tables != self.schema.tables {
            self.last_txn_id = None;
        }
        self.schema = Arc::new(schema);
        self.monitored = monitored;
    }

    /// Forgets the place in the server's history: the next monitor request brings all rows.
    pub fn forget_history(&mut self) {
        self.last_txn_id = None;
    }

    /// The params of a monitor request.
    pub fn request(&self, method: Method, database: &str, id: &Value) -> Value {
        let requests: Map<String, Value> = self
            .monitored
            .iter()
            .map(|(table, columns)| {
                let columns: Vec<&str> = columns.keys().map(|c| &**c).collect();
                (table.to_string(), json!([{"columns": columns}]))
            })
            .collect();
        match method {
            Method::CondSince => {
                let zero = Uuid::nil().to_string();
                json!([database, id, requests, self.last_txn_id.as_ref().unwrap_or(&zero)])
            }
            Method::Cond | Method::Plain => json!([database, id, requests]),
        }
    }

    /// Applies the result of a monitor request.
    pub fn apply_reply(&mut self, method: Method, result: Value) -> Result<(), UpdateError> {
        let (found, updates, txn_id) = match (method, result) {
            (Method::CondSince, Value::Array(items)) => {
                let [Value::Bool(found), Value::String(id), updates] = <[Value; 3]>::try_from(items)
                    .map_err(|_| UpdateError::Syntax("monitor_cond_since reply"))?
                else {
                    return Err(UpdateError::Syntax("monitor_cond_since reply"));
                };
                (found, updates, Some(id))
            }
            (Method::CondSince, _) => return Err(UpdateError::Syntax("monitor_cond_since reply")),
            (_, updates) => (false, updates, None),
        };
        if !found {
            self.changed.extend(self.current.keys());
            self.current = Snapshot::default();
            self.wakes = true;
        }
        self.apply(form(method), updates)?;
        self.last_txn_id = txn_id;
        self.ever_synced = true;
        Ok(())
    }

    /// Applies an "update", "update2" or "update3" notification.
    pub fn apply_notification(&mut self, method: Method, params: Value) -> Result<(), UpdateError> {
        let Value::Array(mut items) = params else { return Err(UpdateError::Syntax("notification")) };
        let updates = items.pop().unwrap_or(Value::Null);
        match (method, items.as_slice()) {
            (Method::CondSince, [_, Value::String(txn_id)]) => {
                self.apply(Form::Two, updates)?;
                self.last_txn_id = Some(txn_id.clone());
                Ok(())
            }
            (Method::Cond | Method::Plain, [_]) => self.apply(form(method), updates),
            _ => Err(UpdateError::Syntax("notification")),
        }
    }

    /// The snapshot, if something a reader cares for has changed since the last call, or if there has
    /// been none yet.
    pub fn take_change(&mut self) -> Option<(Snapshot, Diff)> {
        let first = self.ever_synced && !self.ever_delivered;
        if self.torn || (!first && !self.wakes) {
            return None;
        }
        self.wakes = false;
        let diff = Diff::of_keys(&self.delivered, &self.current, std::mem::take(&mut self.changed));
        if diff.is_empty() && !first {
            return None;
        }
        self.ever_delivered = true;
        self.delivered = self.current.clone();
        Some((self.current.clone(), diff))
    }

    fn apply(&mut self, form: Form, updates: Value) -> Result<(), UpdateError> {
        // Half an update is shown to nobody; only the next full set of rows mends it.
        self.torn = true;
        self.apply_tables(form, updates)?;
        self.torn = false;
        Ok(())
    }

    fn apply_tables(&mut self, form: Form, updates: Value) -> Result<(), UpdateError> {
        let schema = self.schema.clone();
        let Value::Object(tables) = updates else { return Err(UpdateError::Syntax("table updates")) };
        for (table, rows) in tables {
            let Value::Object(rows) = rows else { return Err(UpdateError::Syntax("table update")) };
            // Never asked for; nothing to be wrong about.
            let Some((table, columns)) = schema.tables.get_key_value(table.as_str()) else { continue };
            for (uuid, update) in rows {
                let uuid = Uuid::try_parse(&uuid).map_err(|_| UpdateError::Syntax("row uuid"))?;
                self.apply_row(form, table, columns, uuid, update)?;
            }
        }
        Ok(())
    }

    fn apply_row(
        &mut self,
        form: Form,
        table: &Arc<str>,
        schema: &TableSchema,
        uuid: Uuid,
        update: Value,
    ) -> Result<(), UpdateError> {
        let Value::Object(mut update) = update else { return Err(UpdateError::Syntax("row update")) };
        let old = self.current.row(table, uuid).cloned();
        let new = if form == Form::Old {
            match update.remove("new") {
                Some(Value::Object(new)) => Some(self.whole_row(table, schema, uuid, new)?),
                None | Some(Value::Null) => None,
                Some(_) => return Err(UpdateError::Syntax("new row")),
            }
        } else {
            match update.into_iter().next() {
                Some((key, Value::Object(row))) if key == "initial" || key == "insert" => {
                    Some(self.whole_row(table, schema, uuid, row)?)
                }
                Some((key, Value::Object(changes))) if key == "modify" => {
                    let old = old.as_ref().ok_or(UpdateError::NoSuchRow(uuid))?;
                    Some(modified_row(old, schema, changes)?)
                }
                Some((key, _)) if key == "delete" => None,
                _ => return Err(UpdateError::Syntax("row update")),
            }
        };
        self.put(table, uuid, old, new);
        Ok(())
    }

    fn put(&mut self, table: &Arc<str>, uuid: Uuid, old: Option<Arc<Row>>, new: Option<Row>) {
        match (&old, &new) {
            (Some(old), Some(new)) => {
                let wakes = |c: &str| self.monitored.get(table).and_then(|t| t.get(c)) == Some(&true);
                self.wakes |= new.columns().any(|(c, d)| wakes(c) && old.datum(c) != Some(d));
            }
            (None, None) => return,
            _ => self.wakes = true,
        }
        self.changed.insert((table.clone(), uuid));
        match new {
            Some(new) => self.current.insert(table, Arc::new(new)),
            None => {
                self.current.remove(table, uuid);
            }
        }
    }

    /// A row of which the update may leave out columns with their default value.
    fn whole_row(
        &self,
        table: &Arc<str>,
        schema: &TableSchema,
        uuid: Uuid,
        mut json: Map<String, Value>,
    ) -> Result<Row, UpdateError> {
        let mut columns = BTreeMap::new();
        for name in self.monitored.get(table).into_iter().flat_map(|t| t.keys()) {
            let Some(ty) = schema.get(name) else { continue };
            let datum = match json.remove(&**name) {
                Some(value) => ty.parse_datum(&value)?,
                None => ty.default_datum(),
            };
            columns.insert(name.clone(), datum);
        }
        Ok(Row { uuid, columns })
    }
}

fn form(method: Method) -> Form {
    if method == Method::Plain { Form::Old } else { Form::Two }
}

/// A single value is replaced, a set or map changed by its difference.
fn modified_row(old: &Row, schema: &TableSchema, changes: Map<String, Value>) -> Result<Row, UpdateError> {
    let mut row = old.clone();
    for (name, value) in changes {
        let (Some(ty), Some(datum)) = (schema.get(name.as_str()), row.columns.get_mut(name.as_str())) else {
            continue;
        };
        let diff: Datum = ty.parse_datum(&value)?;
        if ty.several {
            datum.apply_diff(diff);
        } else {
            *datum = diff;
        }
    }
    Ok(row)
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
