//! The session against a scripted server: no socket, no clock.

use super::*;
use crate::datum::Datum;
use crate::lock::LockState;
use crate::status::StatusBatch;
use crate::txn::Transaction;
use serde_json::Value;
use uuid::Uuid;

const BR: &str = "00000000-0000-0000-0000-0000000000b1";
const PORT: &str = "00000000-0000-0000-0000-0000000000a1";

fn schema() -> Value {
    let set = |key: &str| json!({"type": {"key": key, "min": 0, "max": "unlimited"}});
    json!({"name": "Open_vSwitch", "version": "8.3.1", "tables": {"Bridge": {"columns": {
        "name": {"type": "string"},
        "ports": set("uuid"),
        "status": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
        "fail_mode": {"type": {"key": "string", "min": 0, "max": 1}},
        "other_config": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}})
}

/// A session and what it has sent that the script has not looked at yet.
struct Script {
    session: Session,
    sent: VecDeque<Value>,
    now: u64,
}

impl Script {
    /// A session that has just been told of its connection.
    fn new() -> Script {
        let remote = Remote { name: "tcp:192.0.2.1:6640".into(), needs_probes: true };
        let session = Session::new(SessionConfig::vswitchd(), vec![remote], 0);
        let mut script = Script { session, sent: VecDeque::new(), now: 0 };
        script.connect();
        script
    }

    fn connect(&mut self) {
        loop {
            match self.session.poll_action(self.now) {
                Some(Action::Connect(0)) => return self.session.connected(self.now),
                Some(_) => {}
                None => self.now = self.session.deadline_ms().unwrap(),
            }
        }
    }

    /// Runs the session's actions; returns whether it hung up.
    fn run(&mut self) -> bool {
        let mut hung_up = false;
        while let Some(action) = self.session.poll_action(self.now) {
            match action {
                Action::Send(text) => self.sent.push_back(serde_json::from_str(&text).unwrap()),
                Action::Disconnect => hung_up = true,
                Action::Connect(_) => return hung_up,
            }
        }
        hung_up
    }

    /// The next request, which must be of this method.
    fn request(&mut self, method: &str) -> Value {
        self.run();
        let request = self.sent.pop_front().unwrap_or_else(|| panic!("no {method}"));
        assert_eq!(request["method"], method, "{request}");
        request
    }

    fn say(&mut self, message: Value) {
        self.session.received(message.to_string().as_bytes(), self.now);
    }

    fn answer(&mut self, method: &str, result: Value) -> Value {
        let request = self.request(method);
        self.say(json!({"id": request["id"], "result": result, "error": null}));
        request
    }

    fn refuse(&mut self, method: &str, error: Value) {
        let request = self.request(method);
        self.say(json!({"id": request["id"], "result": null, "error": error}));
    }

    fn notify(&mut self, method: &str, params: Value) {
        self.say(json!({"id": null, "method": method, "params": params}));
    }

    /// Answers up to the monitor request.
    fn greet(&mut self) {
        self.answer("get_schema", schema());
        self.answer("lock", json!({"locked": true}));
    }

    fn online() -> Script {
        let mut s = Script::new();
        s.greet();
        s.answer("monitor_cond_since", json!([false, "t1", {"Bridge": {BR: {"initial": {"name": "br0"}}}}]));
        s.events();
        s
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn snapshots(&mut self) -> Vec<Diff> {
        let diff = |e| match e {
            Event::Snapshot { diff, .. } => Some(diff),
            _ => None,
        };
        self.events().into_iter().filter_map(diff).collect()
    }

    fn bridge(&self) -> &crate::snapshot::Row {
        self.session.snapshot().row("Bridge", Uuid::try_parse(BR).unwrap()).unwrap()
    }
}

#[test]
fn events_come_in_order() {
    let mut s = Script::new();
    s.greet();
    s.answer("monitor_cond_since", json!([false, "t1", {}]));
    let events = s.events();
    assert!(
        matches!(&events[..], [Event::LockChanged(LockState::Owned), Event::Connected { .. },
                               Event::Snapshot { diff, .. }] if diff.is_empty()),
        "{events:?}"
    );
}

#[test]
fn asks_only_for_what_the_server_has() {
    let mut s = Script::new();
    s.greet();
    let request = s.request("monitor_cond_since");
    let columns = json!(["fail_mode", "name", "other_config", "ports"]);
    assert_eq!(request["params"][2], json!({"Bridge": [{"columns": columns}]}));
    assert_eq!(request["params"][3], json!("00000000-0000-0000-0000-000000000000"));
}

#[test]
fn update3_and_resumption() {
    let mut s = Script::online();
    let update = json!({"Bridge": {BR: {"modify": {"ports": ["uuid", PORT], "fail_mode": "secure"}}}});
    s.notify("update3", json!([["monid", "Open_vSwitch"], "t2", update]));
    assert_eq!((s.bridge().opt_str("fail_mode"), s.bridge().uuids("ports").count()), (Some("secure"), 1));
    let update = json!({"Bridge": {BR: {"modify": {"ports": ["uuid", PORT], "fail_mode": ["set", []]}}}});
    s.notify("update3", json!([["monid", "Open_vSwitch"], "t3", update]));
    assert_eq!((s.bridge().opt_str("fail_mode"), s.bridge().uuids("ports").count()), (None, 0));
    assert!(s.snapshots().is_empty(), "back where it was");

    s.session.disconnected(s.now, None);
    s.connect();
    s.greet();
    let update = json!({"Bridge": {BR: {"modify": {"other_config": ["map", [["a", "b"]]]}}}});
    let request = s.answer("monitor_cond_since", json!([true, "t4", update]));
    assert_eq!(request["params"][3], "t3");
    assert_eq!(s.bridge().str("name"), "br0");
    let diffs = s.snapshots();
    assert!(matches!(&diffs[..], [d] if d.table("Bridge").count() == 1), "{diffs:?}");
}

#[test]
fn full_resync_delivers_the_difference() {
    let mut s = Script::online();
    s.session.disconnected(s.now, None);
    s.connect();
    s.greet();
    let rows = json!({"Bridge": {PORT: {"initial": {"name": "br1"}}, BR: {"initial": {"name": "br0"}}}});
    s.answer("monitor_cond_since", json!([false, "u1", rows]));
    let diffs = s.snapshots();
    let [diff] = &diffs[..] else { panic!("{diffs:?}") };
    assert!(matches!(diff.table("Bridge").collect::<Vec<_>>()[..],
                     [(_, Change::Inserted(row))] if row.str("name") == "br1"));
}

#[test]
fn falls_back_to_older_methods() {
    let unknown = json!({"error": "unknown method", "details": "?"});
    let mut s = Script::new();
    s.greet();
    s.refuse("monitor_cond_since", unknown.clone());
    s.answer("monitor_cond", json!({"Bridge": {BR: {"initial": {"name": "br0"}}}}));
    s.notify("update2", json!([null, {"Bridge": {BR: {"modify": {"fail_mode": "secure"}}}}]));
    assert_eq!((s.bridge().str("name"), s.bridge().str("fail_mode")), ("br0", "secure"));
    s.notify("update2", json!([null, {"Bridge": {BR: {"delete": null}}}]));
    assert_eq!(s.session.snapshot().rows("Bridge").count(), 0);

    let mut s = Script::new();
    s.greet();
    s.refuse("monitor_cond_since", json!("unknown method"));
    s.refuse("monitor_cond", unknown);
    s.answer("monitor", json!({"Bridge": {BR: {"new": {"name": "br0", "ports": ["set", []]}}}}));
    let new = json!({"name": "br0", "ports": ["uuid", PORT]});
    s.notify("update", json!([null, {"Bridge": {BR: {"old": {"ports": ["set", []]}, "new": new}}}]));
    assert_eq!(s.bridge().uuids("ports").count(), 1);
    s.notify("update", json!([null, {"Bridge": {BR: {"old": new}}}]));
    assert_eq!(s.session.snapshot().rows("Bridge").count(), 0);
    assert!(s.session.is_online());
}

#[test]
fn nonsense_ends_the_connection_and_shows_to_nobody() {
    let nonsense = [
        json!([null, "t2", {"Bridge": {PORT: {"modify": {"fail_mode": "secure"}}}}]),
        json!([null, "t2", {"Bridge": {PORT: {"insert": {"name": "br1"}}, BR: {"modify": {"name": 1}}}}]),
        json!([null, "t2", {"Bridge": {"br0": {"delete": null}}}]),
        json!([null, {}]),
        json!({}),
    ];
    for params in nonsense {
        let mut s = Script::online();
        s.notify("update3", params.clone());
        assert!(s.run(), "{params}");
        let events = s.events();
        assert!(events.iter().all(|e| !matches!(e, Event::Snapshot { .. })), "{events:?}");
        s.connect();
        s.greet();
        let request = s.answer("monitor_cond_since", json!([false, "t9", {}]));
        assert_eq!(request["params"][3], "00000000-0000-0000-0000-000000000000");
        assert!(matches!(s.snapshots()[..], [ref d] if d.table("Bridge").count() == 1));
    }
}

#[test]
fn echo_and_probe() {
    let mut s = Script::online();
    s.say(json!({"id": "x", "method": "echo", "params": [1]}));
    s.run();
    assert_eq!(s.sent.pop_front(), Some(json!({"id": "x", "result": [1], "error": null})));
    s.now += 5000;
    let probe = s.request("echo");
    s.now += 4000;
    s.say(json!({"id": probe["id"], "result": [], "error": null}));
    s.now += 5000;
    s.request("echo");
    s.now += 5000;
    assert!(s.run(), "no answer to the second probe");
    assert!(matches!(s.events()[..], [Event::LockChanged(LockState::Unknown), Event::Disconnected]));
}

#[test]
fn one_status_transaction_at_a_time() {
    let mut s = Script::online();
    let bridge = Uuid::try_parse(BR).unwrap();
    let status = |s: &mut Script, value: &str| {
        let mut batch = StatusBatch::new();
        batch.set("Bridge", bridge, "status", Datum::map([("k", value)]));
        s.session.status(batch)
    };
    let written = |request: &Value| request["params"][2]["row"]["status"][1][0][1].clone();
    status(&mut s, "1");
    let first = s.request("transact");
    assert_eq!(first["params"][1], json!({"op": "assert", "lock": "ovs_vswitchd"}));
    assert_eq!(written(&first), "1");
    status(&mut s, "2");
    let last = status(&mut s, "3");
    s.run();
    assert!(s.sent.is_empty(), "the first is under way");
    s.say(json!({"id": first["id"], "error": null, "result": [{}, {"count": 1}]}));
    let second = s.answer("transact", json!([{}, {"count": 1}]));
    assert_eq!(written(&second), "3");
    assert!(matches!(s.events()[..], [Event::StatusWritten(n)] if n == last));

    // Without an answer it is written again, on the next connection.
    status(&mut s, "4");
    s.request("transact");
    s.session.disconnected(s.now, None);
    s.connect();
    s.greet();
    s.answer("monitor_cond_since", json!([true, "t1", {}]));
    let again = s.request("transact");
    assert_eq!(written(&again), "4");

    // A stale answer after the lock came and went says nothing of the transaction under way.
    s.notify("stolen", json!(["ovs_vswitchd"]));
    s.notify("locked", json!(["ovs_vswitchd"]));
    let anew = s.request("transact");
    s.say(json!({"id": again["id"], "error": null, "result": [{"error": "not owner"}, null]}));
    assert_eq!(s.session.lock_state(), LockState::Owned);
    s.say(json!({"id": anew["id"], "error": null, "result": [{}, {"count": 1}]}));
    s.run();
    assert!(s.sent.is_empty());
}

#[test]
fn lost_and_surplus_transactions_are_told() {
    let mut s = Script::online();
    let mut txn = Transaction::new();
    txn.delete("Bridge", Uuid::try_parse(BR).unwrap());
    let ids: Vec<_> = (0..=TRANSACTIONS_MAX).map(|_| s.session.send(&txn)).collect();
    let results = |s: &mut Script| -> Vec<_> {
        let result = |e| match e {
            Event::TxnResult { id, outcome } => Some((id, outcome)),
            _ => None,
        };
        s.events().into_iter().filter_map(result).collect()
    };
    let last = *ids.last().unwrap();
    assert_eq!(results(&mut s), [(last, TxnOutcome::TryAgain(Retry::Overload))]);
    s.session.disconnected(s.now, Some("Connection reset by peer"));
    let lost = results(&mut s);
    assert_eq!(lost.len(), TRANSACTIONS_MAX);
    assert!(lost.iter().all(|(_, o)| *o == TxnOutcome::TryAgain(Retry::Disconnected)));
    s.session.send(&txn);
    assert_eq!(results(&mut s).len(), 1);
}

#[test]
fn disk_full_is_not_for_ever() {
    let mut s = Script::online();
    let mut batch = StatusBatch::new();
    batch.set("Bridge", Uuid::try_parse(BR).unwrap(), "status", Datum::map([("k", "v")]));
    s.session.status(batch.clone());
    s.answer("transact", json!([{}, {"count": 1}, {"error": "I/O error", "details": "no space"}]));
    s.run();
    assert!(s.sent.is_empty(), "not at once");
    s.session.status(batch);
    s.request("transact");
}
