//! The database as the daemon sees it: rows, snapshots that are cheap to keep, and their difference.

use crate::datum::{Atom, Datum};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// One row. Every accessor takes a missing column (an older server), or one of another type, for its
/// default, so that a caller needs no cases for versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub uuid: Uuid,
    pub(crate) columns: BTreeMap<Arc<str>, Datum>,
}

impl Row {
    /// A row of the given columns, for tests and for building expected values.
    pub fn new<'a>(uuid: Uuid, columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Self {
        Row { uuid, columns: columns.into_iter().map(|(name, d)| (Arc::from(name), d)).collect() }
    }

    /// The value of a column, if the server has that column.
    pub fn datum(&self, column: &str) -> Option<&Datum> {
        self.columns.get(column)
    }

    /// The names of all columns present.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.columns.iter().map(|(name, datum)| (&**name, datum))
    }

    fn single(&self, column: &str) -> Option<&Atom> {
        self.datum(column)?.single()
    }

    fn atoms(&self, column: &str) -> impl Iterator<Item = &Atom> {
        match self.datum(column) {
            Some(Datum::Set(atoms)) => Some(atoms.iter()),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    fn pairs(&self, column: &str) -> impl Iterator<Item = (&Atom, &Atom)> {
        match self.datum(column) {
            Some(Datum::Map(pairs)) => Some(pairs.iter()),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    /// An optional string.
    pub fn opt_str(&self, column: &str) -> Option<&str> {
        self.single(column)?.as_str()
    }

    /// A string; "" by default.
    pub fn str(&self, column: &str) -> &str {
        self.opt_str(column).unwrap_or_default()
    }

    pub fn opt_int(&self, column: &str) -> Option<i64> {
        self.single(column)?.as_int()
    }

    /// An integer; 0 by default.
    pub fn int(&self, column: &str) -> i64 {
        self.opt_int(column).unwrap_or_default()
    }

    pub fn opt_bool(&self, column: &str) -> Option<bool> {
        self.single(column)?.as_bool()
    }

    /// A boolean; false by default.
    pub fn bool(&self, column: &str) -> bool {
        self.opt_bool(column).unwrap_or_default()
    }

    /// An optional reference.
    pub fn opt_uuid(&self, column: &str) -> Option<Uuid> {
        self.single(column)?.as_uuid()
    }

    /// A set of references, in order of uuid.
    pub fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.atoms(column).filter_map(Atom::as_uuid)
    }

    /// A set of strings, in order.
    pub fn strings(&self, column: &str) -> impl Iterator<Item = &str> {
        self.atoms(column).filter_map(Atom::as_str)
    }

    /// A set of integers, in order.
    pub fn ints(&self, column: &str) -> impl Iterator<Item = i64> {
        self.atoms(column).filter_map(Atom::as_int)
    }

    /// A map of strings, in order of key.
    pub fn map(&self, column: &str) -> impl Iterator<Item = (&str, &str)> {
        self.pairs(column).filter_map(|(k, v)| Some((k.as_str()?, v.as_str()?)))
    }

    /// A map of strings, owned.
    pub fn string_map(&self, column: &str) -> BTreeMap<String, String> {
        self.map(column).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// One value of a map of strings.
    pub fn map_get(&self, column: &str, key: &str) -> Option<&str> {
        match self.datum(column)? {
            Datum::Map(pairs) => pairs.get(&Atom::from(key))?.as_str(),
            Datum::Set(_) => None,
        }
    }

    /// A map of strings to integers (timeouts).
    pub fn string_int_map(&self, column: &str) -> impl Iterator<Item = (&str, i64)> {
        self.pairs(column).filter_map(|(k, v)| Some((k.as_str()?, v.as_int()?)))
    }

    /// A map of integers to integers (AutoAttach.mappings).
    pub fn int_map(&self, column: &str) -> impl Iterator<Item = (i64, i64)> {
        self.pairs(column).filter_map(|(k, v)| Some((k.as_int()?, v.as_int()?)))
    }

    /// A map of integers to references (flow_tables, queues, ct_zones).
    pub fn int_uuid_map(&self, column: &str) -> impl Iterator<Item = (i64, Uuid)> {
        self.pairs(column).filter_map(|(k, v)| Some((k.as_int()?, v.as_uuid()?)))
    }

    /// A map of strings to references (Open_vSwitch.datapaths).
    pub fn string_uuid_map(&self, column: &str) -> impl Iterator<Item = (&str, Uuid)> {
        self.pairs(column).filter_map(|(k, v)| Some((k.as_str()?, v.as_uuid()?)))
    }
}

/// The rows of one table.
pub type Table = BTreeMap<Uuid, Arc<Row>>;

/// All rows at one moment. Clones share everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    tables: Arc<BTreeMap<Arc<str>, Arc<Table>>>,
}

impl Snapshot {
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables.get(table)?.get(&uuid)
    }

    /// The rows of a table, in order of uuid; none for a table that is not there.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = &Arc<Row>> {
        self.tables.get(table).into_iter().flat_map(|t| t.values())
    }

    /// The one row of a table that has at most one, such as Open_vSwitch.
    pub fn only(&self, table: &str) -> Option<&Arc<Row>> {
        self.rows(table).next()
    }

    /// The rows that a column of `row` refers to, leaving out those that are not there.
    pub fn follow<'a>(
        &'a self,
        row: &'a Row,
        column: &'a str,
        table: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Row>> {
        row.uuids(column).filter_map(move |uuid| self.row(table, uuid))
    }

    /// The names and rows of all tables.
    pub fn tables(&self) -> impl Iterator<Item = (&Arc<str>, &Table)> {
        self.tables.iter().map(|(name, rows)| (name, &**rows))
    }

    /// Puts a row in place of any with its uuid.
    pub fn insert(&mut self, table: &str, row: Arc<Row>) {
        let tables = Arc::make_mut(&mut self.tables);
        if !tables.contains_key(table) {
            tables.insert(Arc::from(table), Arc::default());
        }
        if let Some(rows) = tables.get_mut(table) {
            Arc::make_mut(rows).insert(row.uuid, row);
        }
    }

    pub fn remove(&mut self, table: &str, uuid: Uuid) -> Option<Arc<Row>> {
        self.row(table, uuid)?;
        Arc::make_mut(Arc::make_mut(&mut self.tables).get_mut(table)?).remove(&uuid)
    }

    /// The table and uuid of every row.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Arc<str>, Uuid)> {
        self.tables.iter().flat_map(|(name, rows)| rows.keys().map(move |uuid| (name.clone(), *uuid)))
    }
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Inserted(Arc<Row>),
    Modified { old: Arc<Row>, new: Arc<Row> },
    Deleted(Arc<Row>),
}

impl Change {
    /// Whether this changes the value of `column`; an insertion or deletion changes every column.
    pub fn touches(&self, column: &str) -> bool {
        match self {
            Change::Modified { old, new } => old.datum(column) != new.datum(column),
            Change::Inserted(_) | Change::Deleted(_) => true,
        }
    }
}

/// The rows in which two snapshots differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    pub tables: BTreeMap<Arc<str>, BTreeMap<Uuid, Change>>,
}

impl Diff {
    /// The difference of the two snapshots, which differ at most in the rows named by `keys`.
    pub(crate) fn of_keys(old: &Snapshot, new: &Snapshot, keys: BTreeSet<(Arc<str>, Uuid)>) -> Diff {
        let mut diff = Diff::default();
        for (table, uuid) in keys {
            let change = match (old.row(&table, uuid), new.row(&table, uuid)) {
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) || a == b => continue,
                (Some(a), Some(b)) => Change::Modified { old: a.clone(), new: b.clone() },
                (None, Some(b)) => Change::Inserted(b.clone()),
                (Some(a), None) => Change::Deleted(a.clone()),
                (None, None) => continue,
            };
            diff.tables.entry(table).or_default().insert(uuid, change);
        }
        diff
    }

    /// The difference of any two snapshots.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Diff {
        Diff::of_keys(old, new, old.keys().chain(new.keys()).collect())
    }

    /// Makes the old snapshot the new one.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        for (table, rows) in &self.tables {
            for (uuid, change) in rows {
                match change {
                    Change::Inserted(row) | Change::Modified { new: row, .. } => {
                        snapshot.insert(table, row.clone());
                    }
                    Change::Deleted(_) => {
                        snapshot.remove(table, *uuid);
                    }
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The changed rows of one table.
    pub fn table(&self, table: &str) -> impl Iterator<Item = (Uuid, &Change)> {
        self.tables.get(table).into_iter().flatten().map(|(uuid, change)| (*uuid, change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accessors_default_on_missing_or_other_type() {
        let id = Uuid::from_u128(7);
        let row = Row::new(
            id,
            [
                ("name", Datum::from("br0")),
                ("tag", Datum::empty_set()),
                ("ports", Datum::set([id])),
                ("other_config", Datum::map([("a", "1")])),
                ("queues", Datum::map([(3i64, id)])),
            ],
        );
        assert_eq!((row.str("name"), row.str("nope"), row.int("name")), ("br0", "", 0));
        assert_eq!((row.opt_int("tag"), row.bool("tag")), (None, false));
        assert_eq!(row.uuids("ports").collect::<Vec<_>>(), [id]);
        assert_eq!((row.map_get("other_config", "a"), row.map_get("name", "a")), (Some("1"), None));
        assert_eq!(row.int_uuid_map("queues").collect::<Vec<_>>(), [(3, id)]);
        assert_eq!(row.string_map("nope").len(), 0);
    }

    #[test]
    fn clones_do_not_move() {
        let mut a = Snapshot::default();
        a.insert("T", Arc::new(Row::new(Uuid::nil(), [])));
        let b = a.clone();
        a.remove("T", Uuid::nil());
        assert_eq!((a.rows("T").count(), b.rows("T").count()), (0, 1));
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let row = (0u8..3, 0u128..6, 0i64..3);
        proptest::collection::vec(row, 0..12).prop_map(|rows| {
            let mut s = Snapshot::default();
            for (table, uuid, value) in rows {
                let row = Row::new(Uuid::from_u128(uuid), [("c", Datum::from(value))]);
                s.insert(["A", "B", "C"][usize::from(table)], Arc::new(row));
            }
            s
        })
    }

    proptest! {
        #[test]
        fn diff_applied_is_full(old in snapshot(), new in snapshot()) {
            let mut got = old.clone();
            Diff::between(&old, &new).apply(&mut got);
            let rows = |s: &Snapshot| s.tables().flat_map(|(t, r)| r.values().map(|r| (t.clone(), r.clone()))
                .collect::<Vec<_>>()).collect::<Vec<_>>();
            prop_assert_eq!(rows(&got), rows(&new));
            prop_assert!(Diff::between(&got, &new).is_empty());
        }
    }
}
