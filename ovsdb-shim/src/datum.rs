//! Column values: atoms, and sets and maps of them, to and from the JSON of RFC 7047 section 5.1.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use uuid::Uuid;

/// The type of an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtomType {
    Integer,
    Real,
    Boolean,
    String,
    Uuid,
}

impl AtomType {
    /// The value a column without a value has.
    pub fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real(0.0)),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(String::new()),
            AtomType::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

/// A real number with a total order, so that it can be in a set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// One scalar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Atom {
    Integer(i64),
    Real(Real),
    Boolean(bool),
    String(String),
    Uuid(Uuid),
    /// The uuid of a row inserted under this name in the same transaction.
    NamedUuid(String),
}

/// The value of a column. A scalar is a set of one, an absent optional value the empty set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Datum {
    Set(BTreeSet<Atom>),
    Map(BTreeMap<Atom, Atom>),
}

/// JSON that is not a value of the column's type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: unexpected {found}")]
pub struct DatumError {
    what: &'static str,
    found: String,
}

fn unexpected(what: &'static str, found: &Value) -> DatumError {
    // Values can be megabytes long; the log wants a look at them only.
    DatumError { what, found: found.to_string().chars().take(80).collect() }
}

impl Atom {
    pub fn parse(json: &Value, ty: AtomType) -> Result<Atom, DatumError> {
        let atom = match ty {
            AtomType::Integer => json.as_i64().or_else(|| whole(json)).map(Atom::Integer),
            AtomType::Real => json.as_f64().map(|r| Atom::Real(Real(r))),
            AtomType::Boolean => json.as_bool().map(Atom::Boolean),
            AtomType::String => json.as_str().map(|s| Atom::String(s.to_owned())),
            AtomType::Uuid => parse_uuid(json),
        };
        atom.ok_or_else(|| unexpected("atom", json))
    }

    pub fn to_json(&self) -> Value {
        match self {
            Atom::Integer(i) => json!(i),
            Atom::Real(r) => json!(r.0),
            Atom::Boolean(b) => json!(b),
            Atom::String(s) => json!(s),
            Atom::Uuid(u) => json!(["uuid", u.to_string()]),
            Atom::NamedUuid(name) => json!(["named-uuid", name]),
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Atom::Integer(i) => Some(*i),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        }
    }
}

/// JSON does not tell 1 from 1.0.
fn whole(json: &Value) -> Option<i64> {
    let real = json.as_f64()?;
    (real.fract() == 0.0 && real.abs() < 9e15).then_some(real as i64)
}

fn parse_uuid(json: &Value) -> Option<Atom> {
    let [tag, text] = json.as_array()?.as_slice() else { return None };
    let text = text.as_str()?;
    match tag.as_str()? {
        "uuid" => Uuid::try_parse(text).ok().map(Atom::Uuid),
        "named-uuid" => Some(Atom::NamedUuid(text.to_owned())),
        _ => None,
    }
}

impl Datum {
    /// Parses a set (or single atom), or a map when `value` is a type.
    pub fn parse(json: &Value, key: AtomType, value: Option<AtomType>) -> Result<Datum, DatumError> {
        match value {
            None => parse_set(json, key).map(Datum::Set),
            Some(value) => parse_map(json, key, value).map(Datum::Map),
        }
    }

    /// The JSON that every OVSDB server takes for a column with this value.
    pub fn to_json(&self) -> Value {
        match self {
            Datum::Set(atoms) => match (atoms.first(), atoms.len()) {
                (Some(only), 1) => only.to_json(),
                _ => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            },
            Datum::Map(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(k, v)| json!([k.to_json(), v.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    pub fn empty_set() -> Datum {
        Datum::Set(BTreeSet::new())
    }

    pub fn empty_map() -> Datum {
        Datum::Map(BTreeMap::new())
    }

    /// A set of the given atoms: `Datum::set(["a", "b"])`.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Datum {
        Datum::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map of the given pairs: `Datum::map([("key", "value")])`.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Datum {
        Datum::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        match self {
            Datum::Set(atoms) => atoms.len(),
            Datum::Map(pairs) => pairs.len(),
        }
    }

    /// The atom of a set of one.
    pub fn single(&self) -> Option<&Atom> {
        match self {
            Datum::Set(atoms) if atoms.len() == 1 => atoms.first(),
            _ => None,
        }
    }

    /// Applies the difference that an "update2" row gives for a column of several values
    /// (ovsdb-server(7), "Update2 Notification"): elements of one side only; map pairs that are new,
    /// changed (with the new value) or, when equal, removed.
    pub fn apply_diff(&mut self, diff: Datum) {
        match (self, diff) {
            (Datum::Set(atoms), Datum::Set(toggled)) => {
                for atom in toggled {
                    if !atoms.remove(&atom) {
                        atoms.insert(atom);
                    }
                }
            }
            (Datum::Map(pairs), Datum::Map(changed)) => {
                for (key, value) in changed {
                    if pairs.get(&key) == Some(&value) {
                        pairs.remove(&key);
                    } else {
                        pairs.insert(key, value);
                    }
                }
            }
            (this, other) => *this = other,
        }
    }
}

fn tagged<'a>(json: &'a Value, tag: &str) -> Option<&'a Vec<Value>> {
    match json.as_array()?.as_slice() {
        [t, Value::Array(items)] if t.as_str() == Some(tag) => Some(items),
        _ => None,
    }
}

fn parse_set(json: &Value, ty: AtomType) -> Result<BTreeSet<Atom>, DatumError> {
    match tagged(json, "set") {
        Some(items) => items.iter().map(|a| Atom::parse(a, ty)).collect(),
        None => Ok(BTreeSet::from([Atom::parse(json, ty)?])),
    }
}

fn parse_map(json: &Value, key: AtomType, value: AtomType) -> Result<BTreeMap<Atom, Atom>, DatumError> {
    let pairs = tagged(json, "map").ok_or_else(|| unexpected("map", json))?;
    let pair = |p: &Value| match p.as_array().map(Vec::as_slice) {
        Some([k, v]) => Ok((Atom::parse(k, key)?, Atom::parse(v, value)?)),
        _ => Err(unexpected("map pair", p)),
    };
    pairs.iter().map(pair).collect()
}

impl From<&str> for Atom {
    fn from(s: &str) -> Self {
        Atom::String(s.to_owned())
    }
}

/// `Atom::from` and, for single values and options, `Datum::from`.
macro_rules! from {
    ($($ty:ty => $variant:ident),*) => {$(
        impl From<$ty> for Atom {
            fn from(v: $ty) -> Self {
                Atom::$variant(v.into())
            }
        }
    )*};
}

from!(String => String, i64 => Integer, i32 => Integer, u32 => Integer, u16 => Integer, bool => Boolean, Uuid => Uuid);

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Self {
        Datum::Set(BTreeSet::from([atom.into()]))
    }
}

impl<A: Into<Atom>> From<Option<A>> for Datum {
    fn from(atom: Option<A>) -> Self {
        Datum::Set(atom.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_forms() {
        let s = AtomType::String;
        let set = Datum::parse(&json!(["set", ["b", "a"]]), s, None).unwrap();
        assert_eq!(set, Datum::set(["a", "b"]));
        assert_eq!(Datum::parse(&json!("x"), s, None).unwrap(), Datum::from("x"));
        let map = Datum::parse(&json!(["map", [["k", 1]]]), s, Some(AtomType::Integer)).unwrap();
        assert_eq!(map, Datum::map([("k", 1i64)]));
        assert_eq!(Datum::parse(&json!(2.0), AtomType::Integer, None).unwrap(), Datum::from(2i64));
        for bad in [json!(1), json!(["set", 1]), json!(["set", [1]]), json!(null), json!(["map", []])] {
            assert!(Datum::parse(&bad, s, None).is_err(), "{bad}");
        }
        assert!(Datum::parse(&json!(["map", [["k"]]]), s, Some(s)).is_err());
    }

    fn datum() -> impl Strategy<Value = Datum> {
        prop_oneof![
            proptest::collection::btree_set(0i64..12, 0..8).prop_map(Datum::set),
            proptest::collection::btree_map(0i64..12, 0i64..3, 0..8).prop_map(Datum::map),
        ]
    }

    /// The difference as ovsdb-server computes it.
    fn diff(old: &Datum, new: &Datum) -> Option<Datum> {
        match (old, new) {
            (Datum::Set(a), Datum::Set(b)) => Some(Datum::Set(a.symmetric_difference(b).cloned().collect())),
            (Datum::Map(a), Datum::Map(b)) => {
                let gone = a.iter().filter(|(k, _)| !b.contains_key(*k));
                let new = b.iter().filter(|(k, v)| a.get(*k) != Some(v));
                Some(Datum::Map(gone.chain(new).map(|(k, v)| (k.clone(), v.clone())).collect()))
            }
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn diff_applied_is_new(old in datum(), new in datum()) {
            if let Some(d) = diff(&old, &new) {
                let mut got = old.clone();
                got.apply_diff(d);
                prop_assert_eq!(got, new);
            }
        }

        #[test]
        fn json_round_trip(d in datum()) {
            let value = matches!(d, Datum::Map(_)).then_some(AtomType::Integer);
            prop_assert_eq!(Datum::parse(&d.to_json(), AtomType::Integer, value).unwrap(), d);
        }
    }
}
