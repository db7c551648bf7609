//! Transactions: what to write, as data, and what became of it (RFC 7047 sections 4.1.3 and 5.2).

use crate::datum::{Atom, Datum};
use crate::schema::Schema;
use crate::snapshot::Row;
use serde_json::{Map, Value, json};
use std::fmt;
use uuid::Uuid;

/// How a "wait" compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    Equal,
    NotEqual,
}

/// How a "mutate" changes a set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    /// "+="
    Add,
    /// "-="
    Subtract,
    /// "insert" elements or pairs
    Insert,
    /// "delete" elements, pairs or keys
    Delete,
}

impl Mutator {
    fn name(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Subtract => "-=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        }
    }
}

type Columns = Vec<(String, Datum)>;

#[derive(Clone, Debug, PartialEq)]
enum Op {
    Insert { table: String, name: String, columns: Columns },
    Update { table: String, uuid: Uuid, columns: Columns },
    Mutate { table: String, uuid: Uuid, mutations: Vec<(String, Mutator, Datum)> },
    Delete { table: String, uuid: Uuid },
    Wait { table: String, uuid: Uuid, columns: Columns, until: Until },
}

/// A transaction in the making. Columns and tables that the server does not have are left out when it is
/// sent; an operation of which nothing remains is skipped ([`OpResult::Skipped`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    ops: Vec<Op>,
    comment: Option<String>,
}

impl Transaction {
    pub fn new() -> Self {
        Transaction::default()
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// A comment for the database's log (shown by `ovsdb-tool show-log`).
    pub fn comment(&mut self, text: impl Into<String>) -> &mut Self {
        self.comment = Some(text.into());
        self
    }

    /// Inserts a row; the result refers to it within this transaction.
    pub fn insert<'a>(&mut self, table: &str, columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Atom {
        let name = format!("row{}", self.ops.len());
        let op = Op::Insert { table: table.to_owned(), name: name.clone(), columns: owned(columns) };
        self.ops.push(op);
        Atom::NamedUuid(name)
    }

    /// Sets columns of a row.
    pub fn update<'a>(
        &mut self,
        table: &str,
        uuid: Uuid,
        columns: impl IntoIterator<Item = (&'a str, Datum)>,
    ) -> &mut Self {
        let columns = owned(columns);
        self.ops.push(Op::Update { table: table.to_owned(), uuid, columns });
        self
    }

    /// Sets those of the columns whose value differs from `row`'s. A column that `row` does not have
    /// (not monitored) is always set. Adds no operation when nothing differs.
    pub fn update_changed<'a>(
        &mut self,
        table: &str,
        row: &Row,
        columns: impl IntoIterator<Item = (&'a str, Datum)>,
    ) -> &mut Self {
        let changed: Vec<_> = columns.into_iter().filter(|(name, d)| row.datum(name) != Some(d)).collect();
        if !changed.is_empty() {
            self.update(table, row.uuid, changed);
        }
        self
    }

    /// Changes one column of a row relative to its value then.
    pub fn mutate(&mut self, table: &str, uuid: Uuid, column: &str, how: Mutator, by: Datum) -> &mut Self {
        let mutations = vec![(column.to_owned(), how, by)];
        self.ops.push(Op::Mutate { table: table.to_owned(), uuid, mutations });
        self
    }

    pub fn delete(&mut self, table: &str, uuid: Uuid) -> &mut Self {
        self.ops.push(Op::Delete { table: table.to_owned(), uuid });
        self
    }

    /// Lets the transaction pass only while the row's columns have (or do not have) these values.
    pub fn wait<'a>(
        &mut self,
        table: &str,
        uuid: Uuid,
        columns: impl IntoIterator<Item = (&'a str, Datum)>,
        until: Until,
    ) -> &mut Self {
        let columns = owned(columns);
        self.ops.push(Op::Wait { table: table.to_owned(), uuid, columns, until });
        self
    }

    /// The params of "transact" against a server of this schema, and how to read the answer. `None` when
    /// nothing remains to be done.
    pub(crate) fn compile(
        &self,
        database: &str,
        lock: Option<&str>,
        schema: &Schema,
    ) -> Option<(Value, Shape)> {
        let mut params = vec![json!(database)];
        params.extend(lock.map(|l| json!({"op": "assert", "lock": l})));
        let mut shape = Shape { offset: params.len() - 1, kept: vec![], ops: self.ops.len() };
        for (index, op) in self.ops.iter().enumerate() {
            if let Some(json) = op.compile(schema) {
                params.push(json);
                shape.kept.push(index);
            }
        }
        if shape.kept.is_empty() {
            return None;
        }
        params.extend(self.comment.iter().map(|c| json!({"op": "comment", "comment": c})));
        Some((Value::Array(params), shape))
    }
}

fn owned<'a>(columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Columns {
    columns.into_iter().map(|(name, datum)| (name.to_owned(), datum)).collect()
}

fn is_row(uuid: &Uuid) -> Value {
    json!([["_uuid", "==", ["uuid", uuid.to_string()]]])
}

impl Op {
    /// The operation's JSON; `None` when the server has nothing that it names.
    fn compile(&self, schema: &Schema) -> Option<Value> {
        let known = |table: &str| schema.tables.contains_key(table);
        let row = |table: &str, columns: &Columns| -> Map<String, Value> {
            let column = |(name, datum): &(String, Datum)| {
                let ty = schema.column(table, name)?;
                Some((name.clone(), ty.coerce(datum.clone()).to_json()))
            };
            columns.iter().filter_map(column).collect()
        };
        match self {
            Op::Insert { table, name, columns } => known(table).then(
                || json!({"op": "insert", "table": table, "uuid-name": name, "row": row(table, columns)}),
            ),
            Op::Update { table, uuid, columns } => {
                let row = row(table, columns);
                (!row.is_empty())
                    .then(|| json!({"op": "update", "table": table, "where": is_row(uuid), "row": row}))
            }
            Op::Mutate { table, uuid, mutations } => {
                let mutations: Vec<Value> = mutations
                    .iter()
                    .filter(|(column, ..)| schema.column(table, column).is_some())
                    .map(|(column, how, by)| json!([column, how.name(), by.to_json()]))
                    .collect();
                (!mutations.is_empty()).then(
                    || json!({"op": "mutate", "table": table, "where": is_row(uuid), "mutations": mutations}),
                )
            }
            Op::Delete { table, uuid } => {
                known(table).then(|| json!({"op": "delete", "table": table, "where": is_row(uuid)}))
            }
            Op::Wait { table, uuid, columns, until } => {
                let row = row(table, columns);
                let until = if *until == Until::Equal { "==" } else { "!=" };
                (!row.is_empty()).then(|| {
                    let names: Vec<&String> = row.keys().collect();
                    json!({"op": "wait", "timeout": 0, "table": table, "where": is_row(uuid),
                           "columns": names, "until": until, "rows": [row]})
                })
            }
        }
    }
}

/// Which operations a compiled transaction has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Operations put in front of the caller's.
    offset: usize,
    /// The caller's operations that were sent, by index.
    kept: Vec<usize>,
    ops: usize,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The server does not have the columns.
    Skipped,
    /// An update, mutate or delete changed so many rows (0: the row is gone).
    Count(u64),
    Inserted(Uuid),
    /// A wait passed.
    Passed,
}

/// The server's refusal: RFC 7047's "error" and "details".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsdbError {
    pub error: String,
    pub details: String,
}

impl fmt::Display for OvsdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

/// Why to build the transaction again from a newer snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The connection went before the answer came; the transaction may or may not have been done.
    Disconnected,
    /// The lock is not ours.
    NotLocked,
    /// A wait did not hold.
    WaitFailed,
    /// Too many transactions are under way.
    Overload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Done; one result for each operation.
    Committed(Vec<OpResult>),
    TryAgain(Retry),
    /// Not done. `op` is the operation at fault, `None` if the whole violates a constraint.
    Failed {
        op: Option<usize>,
        error: OvsdbError,
    },
}

impl Shape {
    /// Results for a transaction of which nothing had to be sent.
    pub fn nothing(ops: usize) -> TxnOutcome {
        TxnOutcome::Committed(vec![OpResult::Skipped; ops])
    }

    /// Reads the reply to "transact".
    pub fn outcome(&self, reply: Result<Value, Value>) -> TxnOutcome {
        let results = match reply {
            Ok(Value::Array(results)) => results,
            Ok(other) | Err(other) => return TxnOutcome::Failed { op: None, error: refusal(&other) },
        };
        let failed = results.iter().position(|r| r.get("error").is_some_and(|e| !e.is_null()));
        if let Some(at) = failed {
            return self.failure(at, results.get(at).map(refusal).unwrap_or_else(|| refusal(&Value::Null)));
        }
        let mut ops = vec![OpResult::Skipped; self.ops];
        for (result, index) in results.iter().skip(self.offset).zip(&self.kept) {
            if let Some(op) = ops.get_mut(*index) {
                *op = op_result(result);
            }
        }
        TxnOutcome::Committed(ops)
    }

    fn failure(&self, at: usize, error: OvsdbError) -> TxnOutcome {
        match error.error.as_str() {
            "not owner" => TxnOutcome::TryAgain(Retry::NotLocked),
            "timed out" => TxnOutcome::TryAgain(Retry::WaitFailed),
            _ => {
                let op = at.checked_sub(self.offset).and_then(|i| self.kept.get(i)).copied();
                TxnOutcome::Failed { op, error }
            }
        }
    }
}

impl Transaction {
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }
}

/// The error in a reply or result, whatever its form.
pub(crate) fn refusal(json: &Value) -> OvsdbError {
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match json {
        Value::Object(_) => OvsdbError { error: text("error"), details: text("details") },
        Value::String(s) => OvsdbError { error: s.clone(), details: String::new() },
        other => OvsdbError { error: other.to_string(), details: String::new() },
    }
}

fn op_result(json: &Value) -> OpResult {
    if let Some(count) = json.get("count").and_then(Value::as_u64) {
        return OpResult::Count(count);
    }
    let uuid = json.get("uuid").and_then(|u| u.get(1)).and_then(Value::as_str);
    match uuid.and_then(|u| Uuid::try_parse(u).ok()) {
        Some(uuid) => OpResult::Inserted(uuid),
        None => OpResult::Passed,
    }
}
