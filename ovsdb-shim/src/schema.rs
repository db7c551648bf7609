//! A server's schema (RFC 7047 section 3.2), as far as a client needs it.

use crate::datum::{Atom, AtomType, Datum, DatumError};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    pub key: AtomType,
    /// Set for maps.
    pub value: Option<AtomType>,
    /// Whether at least one element is needed.
    pub required: bool,
    /// Whether more than one element is allowed; `None` in RFC terms "max": 1.
    pub several: bool,
    /// Kept in the server's memory only: gone when it restarts.
    pub ephemeral: bool,
}

impl ColumnType {
    pub fn parse_datum(&self, json: &Value) -> Result<Datum, DatumError> {
        Datum::parse(json, self.key, self.value)
    }

    /// The value of a column nobody set.
    pub fn default_datum(&self) -> Datum {
        match (self.value, self.required) {
            (None, true) => Datum::from_iter([self.key.default_atom()]),
            (None, false) => Datum::empty_set(),
            (Some(value), true) => Datum::map([(self.key.default_atom(), value.default_atom())]),
            (Some(_), false) => Datum::empty_map(),
        }
    }

    /// A map where a map is due: an empty value does not show what it is.
    pub fn coerce(&self, datum: Datum) -> Datum {
        match (datum, self.value) {
            (Datum::Set(s), Some(_)) if s.is_empty() => Datum::empty_map(),
            (Datum::Map(m), None) if m.is_empty() => Datum::empty_set(),
            (datum, _) => datum,
        }
    }
}

impl FromIterator<Atom> for Datum {
    fn from_iter<I: IntoIterator<Item = Atom>>(atoms: I) -> Self {
        Datum::Set(atoms.into_iter().collect())
    }
}

/// Column name to type, for one table.
pub type TableSchema = BTreeMap<Arc<str>, ColumnType>;

/// The tables of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub name: String,
    /// Such as "8.3.1".
    pub version: String,
    pub tables: BTreeMap<Arc<str>, TableSchema>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("bad schema: {0}")]
pub struct SchemaError(String);

impl Schema {
    /// Parses the result of "get_schema". A column of a type we do not know is left out, as if the
    /// server did not have it.
    pub fn parse(json: &Value) -> Result<Schema, SchemaError> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tables = object(json, "tables")?;
        let tables: Result<_, _> =
            tables.iter().map(|(name, table)| Ok((Arc::from(name.as_str()), parse_table(table)?))).collect();
        Ok(Schema { name: text("name"), version: text("version"), tables: tables? })
    }

    pub fn column(&self, table: &str, column: &str) -> Option<&ColumnType> {
        self.tables.get(table)?.get(column)
    }
}

fn object<'a>(json: &'a Value, key: &str) -> Result<&'a Map<String, Value>, SchemaError> {
    json.get(key).and_then(Value::as_object).ok_or_else(|| SchemaError(format!("no object {key:?}")))
}

fn parse_table(json: &Value) -> Result<TableSchema, SchemaError> {
    let columns = object(json, "columns")?;
    Ok(columns
        .iter()
        .filter_map(|(name, column)| Some((Arc::from(name.as_str()), parse_column(column)?)))
        .collect())
}

fn parse_column(json: &Value) -> Option<ColumnType> {
    let ty = json.get("type")?;
    let ephemeral = json.get("ephemeral").and_then(Value::as_bool).unwrap_or(false);
    if ty.is_string() {
        let key = base_type(ty)?;
        return Some(ColumnType { key, value: None, required: true, several: false, ephemeral });
    }
    let value = match ty.get("value") {
        None => None,
        Some(base) => Some(base_type(base)?),
    };
    let count = |key: &str| ty.get(key).map_or(Some(1), Value::as_u64);
    Some(ColumnType {
        key: base_type(ty.get("key")?)?,
        value,
        required: count("min") != Some(0),
        several: count("max") != Some(1),
        ephemeral,
    })
}

/// A base type is an atomic type's name, or an object with that name as "type".
fn base_type(json: &Value) -> Option<AtomType> {
    let name = json.get("type").unwrap_or(json);
    serde_json::from_value(name.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn column_types() {
        let schema = Schema::parse(&json!({"name": "D", "version": "1.2.3", "tables": {"T": {"columns": {
            "plain": {"type": "integer"},
            "opt": {"type": {"key": {"type": "string", "enum": ["set", ["a"]]}, "min": 0, "max": 1},
                    "ephemeral": true},
            "map": {"type": {"key": "string", "value": "uuid", "min": 0, "max": "unlimited"}},
            "odd": {"type": "quaternion"}}}}}))
        .unwrap();
        let column = |name| schema.column("T", name);
        assert_eq!(column("plain").unwrap().default_datum(), Datum::from(0i64));
        let opt = column("opt").unwrap();
        assert!(opt.ephemeral && !opt.several && !opt.required);
        assert_eq!(opt.default_datum(), Datum::empty_set());
        let map = column("map").unwrap();
        assert_eq!((map.value, map.several), (Some(AtomType::Uuid), true));
        assert_eq!(map.coerce(Datum::empty_set()), Datum::empty_map());
        assert_eq!(column("odd"), None);
        assert_eq!(schema.version, "1.2.3");
    }

    #[test]
    fn not_a_schema() {
        for bad in [json!(null), json!({"tables": []}), json!({"tables": {"T": {}}})] {
            assert!(Schema::parse(&bad).is_err(), "{bad}");
        }
    }
}
