//! However a change is told, the replica ends up equal to the server's rows.

use super::*;
use crate::wanted::{WantedTable, monitored};
use proptest::prelude::*;
use serde_json::json;

const WANTED: &[WantedTable] =
    &[WantedTable { name: "T", config: &["i", "o", "s", "m"], quiet: &["q"], write_only: &["w"] }];

/// The server's side of one row: a scalar, an optional, a set, a map, and one that wakes nobody.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    columns: BTreeMap<&'static str, Datum>,
}

type Models = BTreeMap<Uuid, Model>;

fn models() -> impl Strategy<Value = Models> {
    let set = proptest::collection::btree_set(0i64..6, 0..5).prop_map(Datum::set);
    let map = proptest::collection::btree_map("[a-c]", "[x-z]", 0..4).prop_map(Datum::map);
    let row = (0i64..3, proptest::option::of(0i64..3), set, map, 0i64..2);
    let row = row.prop_map(|(i, o, s, m, q)| Model {
        columns: [("i", i.into()), ("o", o.into()), ("s", s), ("m", m), ("q", q.into())].into(),
    });
    let uuid = (0u128..5).prop_map(Uuid::from_u128);
    proptest::collection::btree_map(uuid, row, 0..5)
}

fn schema() -> Schema {
    let several = |key, value| json!({"type": {"key": key, "value": value, "min": 0, "max": "unlimited"}});
    Schema::parse(&json!({"name": "D", "version": "1.0.0", "tables": {"T": {"columns": {
        "i": {"type": "integer"}, "q": {"type": "integer"},
        "o": {"type": {"key": "integer", "min": 0, "max": 1}},
        "s": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
        "m": several("string", "string")}}}}))
    .unwrap()
}

/// The difference of two sets or maps as ovsdb-server(7) defines it; a single value is given anew.
fn column_diff(name: &str, old: &Datum, new: &Datum) -> Datum {
    match (name, old, new) {
        ("s", Datum::Set(a), Datum::Set(b)) => Datum::Set(a.symmetric_difference(b).cloned().collect()),
        ("m", Datum::Map(a), Datum::Map(b)) => {
            let gone = a.iter().filter(|(k, _)| !b.contains_key(*k));
            let new = b.iter().filter(|(k, v)| a.get(*k) != Some(v));
            Datum::Map(gone.chain(new).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        _ => new.clone(),
    }
}

/// A row as "insert" has it: without columns of default value.
fn sparse(row: &Model) -> Value {
    let is_default = |name: &str, d: &Datum| match name {
        "i" | "q" => *d == Datum::from(0i64),
        _ => d.is_empty(),
    };
    let given = row.columns.iter().filter(|(name, d)| !is_default(name, d));
    given.map(|(name, d)| (name.to_string(), d.to_json())).collect::<Map<_, _>>().into()
}

fn full(row: &Model) -> Value {
    row.columns.iter().map(|(name, d)| (name.to_string(), d.to_json())).collect::<Map<_, _>>().into()
}

/// One row's update, in the form of the method.
fn row_update(method: Method, old: Option<&Model>, new: Option<&Model>) -> Option<Value> {
    let plain = method == Method::Plain;
    match (old, new) {
        (None, None) => None,
        (Some(a), Some(b)) if a == b => None,
        (None, Some(b)) if plain => Some(json!({"new": full(b)})),
        (Some(a), None) if plain => Some(json!({"old": full(a)})),
        (Some(a), Some(b)) if plain => Some(json!({"old": full(a), "new": full(b)})),
        (None, Some(b)) => Some(json!({"insert": sparse(b)})),
        (Some(_), None) => Some(json!({"delete": null})),
        (Some(a), Some(b)) => {
            let changed = a.columns.iter().filter(|(name, d)| b.columns.get(*name) != Some(d));
            let diff =
                changed.map(|(name, d)| (name.to_string(), column_diff(name, d, &b.columns[name]).to_json()));
            Some(json!({"modify": diff.collect::<Map<_, _>>()}))
        }
    }
}

fn table_updates(method: Method, old: &Models, new: &Models) -> Value {
    let uuids: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let update = |u: &Uuid| Some((u.to_string(), row_update(method, old.get(u), new.get(u))?));
    let rows: Map<String, Value> = uuids.into_iter().filter_map(update).collect();
    json!({"T": rows})
}

fn expected(models: &Models) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (uuid, model) in models {
        let columns = model.columns.iter().map(|(name, d)| (*name, d.clone()));
        snapshot.insert("T", Arc::new(Row::new(*uuid, columns)));
    }
    snapshot
}

fn same(a: &Snapshot, b: &Snapshot) -> bool {
    a.rows("T").eq(b.rows("T"))
}

proptest! {
    #[test]
    fn replica_follows_the_server(states in proptest::collection::vec(models(), 1..6), which in 0usize..3,
                                  resync in any::<bool>()) {
        let method = [Method::CondSince, Method::Cond, Method::Plain][which];
        let mut replica = Replica::default();
        replica.set_schema(schema(), monitored(WANTED, &schema()));
        let reply = |rows: Value, found: bool| match method {
            Method::CondSince => json!([found, "t0", rows]),
            Method::Cond | Method::Plain => rows,
        };
        let none = Models::new();
        replica.apply_reply(method, reply(table_updates(method, &none, &states[0]), false)).unwrap();
        let (mut seen, _) = replica.take_change().unwrap();
        let mut delivered = states[0].clone();
        for pair in states.windows(2) {
            if resync {
                replica.apply_reply(method, reply(table_updates(method, &none, &pair[1]), false)).unwrap();
            } else {
                let updates = table_updates(method, &pair[0], &pair[1]);
                let params = match method {
                    Method::CondSince => json!([null, "t1", updates]),
                    Method::Cond | Method::Plain => json!([null, updates]),
                };
                replica.apply_notification(method, params).unwrap();
            }
            prop_assert!(same(replica.current(), &expected(&pair[1])));
            match replica.take_change() {
                Some((snapshot, diff)) => {
                    diff.apply(&mut seen);
                    prop_assert!(same(&seen, &snapshot));
                    prop_assert!(same(&seen, &expected(&pair[1])));
                    delivered = pair[1].clone();
                }
                // Nothing to say: all that a reader cares for is as it was delivered last.
                None => {
                    let mut quiet = pair[1].clone();
                    prop_assert!(quiet.keys().eq(delivered.keys()));
                    for (uuid, row) in &mut quiet {
                        row.columns.insert("q", delivered[uuid].columns["q"].clone());
                    }
                    prop_assert_eq!(&quiet, &delivered);
                }
            }
        }
    }
}
