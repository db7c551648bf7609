//! The client against a real ovsdb-server.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod server;

use clock::Clock;
use ovsdb_shim::*;
use serde_json::{Value, json};
use server::{Server, installed_schema};
use std::time::Duration;
use stream::{Target, Tls, TlsConfig};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

struct Client {
    handle: SessionHandle,
    events: Receiver<Event>,
}

impl Client {
    fn new(remotes: &str, tls: Tls) -> Client {
        let options = SessionOptions {
            remotes: Target::parse_list(remotes, stream::OVSDB_PORT).unwrap(),
            tls,
            clock: Clock::new(),
            config: SessionConfig::vswitchd(),
        };
        let (handle, events, task) = start(options);
        tokio::spawn(task);
        Client { handle, events }
    }

    fn of(server: &Server) -> Client {
        Client::new(&format!("unix:{}", server.socket().display()), Tls::default())
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("no event").expect("session ended")
    }

    /// The first event that `pick` takes; the ones before are skipped.
    async fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.event().await) {
                return picked;
            }
        }
    }

    async fn snapshot(&mut self) -> (Snapshot, Diff) {
        self.until(|e| match e {
            Event::Snapshot { snapshot, diff } => Some((snapshot, diff)),
            _ => None,
        })
        .await
    }

    async fn lock(&mut self, state: LockState) {
        self.until(|e| matches!(e, Event::LockChanged(s) if s == state).then_some(())).await;
    }

    async fn outcome(&mut self, wanted: TxnId) -> TxnOutcome {
        self.until(|e| match e {
            Event::TxnResult { id, outcome } if id == wanted => Some(outcome),
            _ => None,
        })
        .await
    }

    async fn written(&mut self, number: u64) {
        self.until(|e| matches!(e, Event::StatusWritten(n) if n >= number).then_some(())).await;
    }

    async fn nothing(&mut self) {
        if let Ok(event) = timeout(Duration::from_millis(300), self.events.recv()).await {
            panic!("unexpected {event:?}");
        }
    }

    /// Brings a new client to the point where it has the lock and the first snapshot.
    async fn ready(&mut self) -> Snapshot {
        let (mut snapshot, mut locked) = (None, false);
        while snapshot.is_none() || !locked {
            match self.event().await {
                Event::Snapshot { snapshot: s, diff } => {
                    assert!(diff.tables.values().flatten().all(|(_, c)| matches!(c, Change::Inserted(_))));
                    snapshot = Some(s);
                }
                Event::LockChanged(s) => locked = s == LockState::Owned,
                _ => {}
            }
        }
        snapshot.unwrap()
    }
}

fn row<'a>(snapshot: &'a Snapshot, table: &str, name: &str) -> &'a Row {
    snapshot.rows(table).find(|r| r.str("name") == name).expect(name)
}

#[tokio::test]
async fn snapshot_diff_and_status() {
    let Some(schema) = installed_schema() else { return };
    let server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "other_config:hwaddr=02:00:00:00:00:01"]);
    let mut client = Client::of(&server);
    let snapshot = client.ready().await;
    let br0 = row(&snapshot, "Bridge", "br0");
    assert_eq!(br0.map_get("other_config", "hwaddr"), Some("02:00:00:00:00:01"));
    let port = snapshot.follow(br0, "ports", "Port").next().unwrap();
    assert_eq!(port.str("name"), "br0");

    // A modification comes as such, with the rest of the row in place.
    server.vsctl(&["set", "port", "br0", "tag=7"]);
    let (snapshot, diff) = client.snapshot().await;
    let changes: Vec<_> = diff.table("Port").collect();
    assert!(matches!(changes[..], [(_, Change::Modified { old, new })]
        if old.opt_int("tag").is_none() && new.opt_int("tag") == Some(7) && new.str("name") == "br0"));
    assert!(changes[0].1.touches("tag") && !changes[0].1.touches("name"));

    // Sets and maps grow and shrink.
    server.vsctl(&["set", "bridge", "br0", "protocols=OpenFlow10,OpenFlow13", "other_config:a=1"]);
    client.snapshot().await;
    server.vsctl(&[
        "remove",
        "bridge",
        "br0",
        "protocols",
        "OpenFlow10",
        "--",
        "set",
        "bridge",
        "br0",
        "other_config:a=2",
        "--",
        "remove",
        "bridge",
        "br0",
        "other_config",
        "hwaddr",
    ]);
    let (now, _) = client.snapshot().await;
    let br0 = row(&now, "Bridge", "br0");
    assert_eq!(br0.strings("protocols").collect::<Vec<_>>(), ["OpenFlow13"]);
    assert_eq!(br0.map("other_config").collect::<Vec<_>>(), [("a", "2")]);

    // Status is written, does not come back, and is not written twice.
    let iface = row(&snapshot, "Interface", "br0").uuid;
    let config = now.only("Open_vSwitch").unwrap().uuid;
    let mut batch = StatusBatch::new();
    batch
        .set("Interface", iface, "ofport", 65534i64)
        .set("Interface", iface, "statistics", Datum::map([("rx_packets", 5i64)]))
        .set("Interface", iface, "not_a_column", 1i64)
        .set("Interface", Uuid::from_u128(1), "ofport", 1i64)
        .set("Open_vSwitch", config, "cur_cfg", 9i64);
    let number = client.handle.status(batch.clone());
    client.written(number).await;
    assert_eq!(server.vsctl(&["get", "interface", "br0", "ofport", "statistics:rx_packets"]), "65534\n5");
    assert_eq!(server.vsctl(&["get", "Open_vSwitch", ".", "cur_cfg"]), "9");
    let number = client.handle.status(batch);
    client.written(number).await;
    client.nothing().await;
}

#[tokio::test]
async fn refused_status_does_not_hold_up_the_rest() {
    let Some(schema) = installed_schema() else { return };
    let server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0"]);
    let mut client = Client::of(&server);
    let snapshot = client.ready().await;
    let iface = row(&snapshot, "Interface", "br0").uuid;
    let port = row(&snapshot, "Port", "br0").uuid;
    let mut batch = StatusBatch::new();
    batch.set("Interface", iface, "admin_state", "sideways").set(
        "Port",
        port,
        "status",
        Datum::map([("a", "b")]),
    );
    let number = client.handle.status(batch);
    client.written(number).await;
    assert_eq!(server.vsctl(&["get", "port", "br0", "status:a"]), "b");
    assert_eq!(server.vsctl(&["get", "interface", "br0", "admin_state"]), "[]");
    let mut batch = StatusBatch::new();
    batch.set("Interface", iface, "admin_state", "up");
    let number = client.handle.status(batch);
    client.written(number).await;
    assert_eq!(server.vsctl(&["get", "interface", "br0", "admin_state"]), "up");
}

#[tokio::test]
async fn transactions() {
    let Some(schema) = installed_schema() else { return };
    let server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0"]);
    let mut client = Client::of(&server);
    let snapshot = client.ready().await;
    let config = snapshot.only("Open_vSwitch").unwrap().clone();
    let br0 = row(&snapshot, "Bridge", "br0").clone();

    let mut txn = Transaction::new();
    let datapath = txn.insert("Datapath", [("datapath_version", Datum::from("x"))]);
    txn.mutate("Open_vSwitch", config.uuid, "datapaths", Mutator::Insert, Datum::map([("netdev", datapath)]))
        .update_changed(
            "Bridge",
            &br0,
            [("name", Datum::from("br0")), ("datapath_version", Datum::from("1"))],
        )
        .update("Bridge", br0.uuid, [("not_a_column", Datum::from("1"))])
        .wait("Bridge", br0.uuid, [("name", Datum::from("br0"))], Until::Equal)
        .comment("test");
    let id = client.handle.send(txn);
    let TxnOutcome::Committed(results) = client.outcome(id).await else { panic!("not committed") };
    assert!(
        matches!(
            results[..],
            [
                OpResult::Inserted(_),
                OpResult::Count(1),
                OpResult::Count(1),
                OpResult::Skipped,
                OpResult::Passed
            ]
        ),
        "{results:?}"
    );
    assert_eq!(server.vsctl(&["get", "bridge", "br0", "datapath_version"]), "\"1\"");

    let mut txn = Transaction::new();
    txn.wait("Bridge", br0.uuid, [("name", Datum::from("br0"))], Until::NotEqual).delete("Bridge", br0.uuid);
    let id = client.handle.send(txn);
    assert_eq!(client.outcome(id).await, TxnOutcome::TryAgain(Retry::WaitFailed));

    let mut txn = Transaction::new();
    txn.update("Bridge", br0.uuid, [("fail_mode", Datum::from("sideways"))]);
    let id = client.handle.send(txn);
    assert!(matches!(client.outcome(id).await, TxnOutcome::Failed { op: Some(0), .. }));
}

#[tokio::test]
async fn server_restart() {
    let Some(schema) = installed_schema() else { return };
    let mut server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0"]);
    let mut client = Client::of(&server);
    let snapshot = client.ready().await;
    let iface = row(&snapshot, "Interface", "br0").uuid;
    let mut batch = StatusBatch::new();
    batch.set("Interface", iface, "link_state", "up").set("Interface", iface, "ofport", 65534i64);
    let number = client.handle.status(batch);
    client.written(number).await;

    server.kill();
    client.until(|e| matches!(e, Event::Disconnected).then_some(())).await;
    let id = client.handle.send(Transaction::new());
    assert_eq!(client.outcome(id).await, TxnOutcome::TryAgain(Retry::Disconnected));
    server.run();
    // The ephemeral column comes back by itself, and nothing else is said to have changed.
    let mut locked = false;
    while !locked {
        match client.event().await {
            Event::Snapshot { diff, .. } => panic!("{diff:?}"),
            Event::LockChanged(s) => locked = s == LockState::Owned,
            _ => {}
        }
    }
    let number = client.handle.status(StatusBatch::new());
    client.written(number).await;
    assert_eq!(server.vsctl(&["get", "interface", "br0", "link_state", "ofport"]), "up\n65534");

    // Only the difference comes when something changed while nobody looked.
    server.kill();
    client.until(|e| matches!(e, Event::Disconnected).then_some(())).await;
    server.run();
    server.vsctl(&["add-br", "br1", "--", "set", "port", "br0", "tag=3"]);
    let mut ports = 0;
    while ports < 2 {
        ports += client.snapshot().await.1.table("Port").count();
    }
    assert_eq!(ports, 2);
}

#[tokio::test]
async fn lock_contention() {
    let Some(schema) = installed_schema() else { return };
    let server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0"]);
    let mut first = Client::of(&server);
    let snapshot = first.ready().await;
    let iface = row(&snapshot, "Interface", "br0").uuid;
    let mut second = Client::of(&server);
    second.lock(LockState::Contended).await;
    // Contended or not, everyone sees the rows.
    second.snapshot().await;
    let mut batch = StatusBatch::new();
    batch.set("Interface", iface, "mtu", 1400i64);
    let number = second.handle.status(batch);
    let mut txn = Transaction::new();
    txn.update("Interface", iface, [("mtu", Datum::from(9000i64))]);
    let id = second.handle.send(txn.clone());
    assert_eq!(second.outcome(id).await, TxnOutcome::TryAgain(Retry::NotLocked));
    assert_eq!(server.vsctl(&["get", "interface", "br0", "mtu"]), "[]");

    second.handle.steal_lock();
    first.lock(LockState::Contended).await;
    second.written(number).await;
    assert_eq!(server.vsctl(&["get", "interface", "br0", "mtu"]), "1400");
    let id = first.handle.send(txn);
    assert_eq!(first.outcome(id).await, TxnOutcome::TryAgain(Retry::NotLocked));

    second.handle.unlock();
    first.lock(LockState::Owned).await;
    second.handle.request_lock();
    second.lock(LockState::Contended).await;
    drop(first);
    second.lock(LockState::Owned).await;
}

#[tokio::test]
async fn older_and_newer_schema() {
    let Some(mut schema) = installed_schema() else { return };
    let tables = schema["tables"].as_object_mut().unwrap();
    tables.remove("AutoAttach");
    let bridge = tables["Bridge"]["columns"].as_object_mut().unwrap();
    bridge.remove("auto_attach");
    bridge.remove("mcast_snooping_enable");
    bridge.insert("novelty".into(), json!({"type": "string"}));
    tables["Interface"]["columns"].as_object_mut().unwrap().remove("link_resets");
    tables.insert("Novelty".into(), json!({"columns": {"x": {"type": "integer"}}, "isRoot": true}));
    schema.as_object_mut().unwrap().remove("cksum");
    let server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0"]);
    let mut client = Client::of(&server);
    let snapshot = client.ready().await;
    let br0 = row(&snapshot, "Bridge", "br0");
    assert!(!br0.bool("mcast_snooping_enable"));
    assert!(br0.datum("novelty").is_none() && br0.datum("auto_attach").is_none());
    let iface = row(&snapshot, "Interface", "br0").uuid;
    let mut batch = StatusBatch::new();
    batch.set("Interface", iface, "link_resets", 1i64);
    let number = client.handle.status(batch.clone());
    client.written(number).await;
    batch.set("Interface", iface, "mtu", 1500i64);
    let number = client.handle.status(batch);
    client.written(number).await;
    assert_eq!(server.vsctl(&["get", "interface", "br0", "mtu"]), "1500");
}

/// The second of two remotes answers.
#[tokio::test]
async fn remotes_in_turn() {
    let Some(schema) = installed_schema() else { return };
    let server = Server::start(&schema, &[]);
    let remotes = format!("unix:/nonexistent/db.sock,unix:{}", server.socket().display());
    let mut client = Client::new(&remotes, Tls::default());
    let started = std::time::Instant::now();
    let remote = client.until(|e| match e {
        Event::Connected { remote } => Some(remote),
        _ => None,
    });
    assert_eq!(remote.await, format!("unix:{}", server.socket().display()));
    assert!(started.elapsed() < Duration::from_millis(900), "waited before the second remote");
}

/// Makes a CA and two certificates signed by it, with openssl.
fn pki(dir: &std::path::Path) {
    let openssl = |args: &[&str]| {
        let out = std::process::Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test ca",
        "-days",
        "2",
    ]);
    std::fs::write(dir.join("ext"), "basicConstraints=CA:false\n").unwrap();
    for name in ["server", "client"] {
        let file = |suffix: &str| format!("{name}.{suffix}");
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
            "-subj",
            &format!("/CN={name}"),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "ext",
            "-days",
            "2",
            "-out",
            &file("pem"),
        ]);
    }
}

#[tokio::test]
async fn tls_with_ca_bootstrap_and_wrong_ca() {
    let Some(schema) = installed_schema() else { return };
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path());
    let path = |name: &str| dir.path().join(name);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let option = |name: &str, file: &str| format!("--{name}={}", path(file).display());
    let server = Server::start(
        &schema,
        &[
            format!("--remote=pssl:{port}:127.0.0.1"),
            option("private-key", "server.key"),
            option("certificate", "server.pem"),
            option("ca-cert", "ca.pem"),
            option("peer-ca-cert", "ca.pem"),
        ],
    );
    server.vsctl(&["add-br", "br0"]);
    let remote = format!("ssl:127.0.0.1:{port}");
    let config = TlsConfig {
        private_key: Some(path("client.key")),
        certificate: Some(path("client.pem")),
        ca_cert: Some(path("ca.pem")),
        ..Default::default()
    };
    let mut client = Client::new(&remote, Tls::new(config.clone()));
    row(&client.ready().await, "Bridge", "br0");
    drop(client);

    let learnt = TlsConfig { ca_cert: Some(path("learnt.pem")), bootstrap_ca_cert: true, ..config.clone() };
    let mut client = Client::new(&remote, Tls::new(learnt));
    client.until(|e| matches!(e, Event::Connected { .. }).then_some(())).await;
    let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert_eq!(text("learnt.pem").trim(), text("ca.pem").trim());

    let other = tempfile::tempdir().unwrap();
    pki(other.path());
    let wrong = TlsConfig { ca_cert: Some(other.path().join("ca.pem")), ..config };
    let target: Target = remote.parse().unwrap();
    let error = stream::connect(&target, &Tls::new(wrong)).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn helper_schema_is_json() {
    // Guards the tests above against a schema file that is there but not what they edit.
    if let Some(schema) = installed_schema() {
        assert!(matches!(schema["tables"]["Bridge"]["columns"], Value::Object(_)));
    }
}
