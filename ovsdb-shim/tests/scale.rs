//! Figures for a database of 10,000 ports: run with `cargo test --release -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod server;

use clock::Clock;
use ovsdb_shim::*;
use server::{Server, installed_schema};
use std::time::Instant;
use stream::{Target, Tls};

const PORTS: i64 = 10_000;

async fn committed(events: &mut tokio::sync::mpsc::Receiver<Event>, wanted: TxnId) {
    loop {
        if let Event::TxnResult { id, outcome } = events.recv().await.unwrap()
            && id == wanted
        {
            assert!(matches!(outcome, TxnOutcome::Committed(_)), "{outcome:?}");
            return;
        }
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn ten_thousand_ports() {
    let Some(schema) = installed_schema() else { return };
    let server = Server::start(&schema, &[]);
    server.vsctl(&["add-br", "br0"]);
    let session = || {
        let (handle, events, task) = start(SessionOptions {
            remotes: vec![Target::Unix(server.socket())],
            tls: Tls::default(),
            clock: Clock::new(),
            config: SessionConfig::vswitchd(),
        });
        tokio::spawn(task);
        (handle, events)
    };
    let (handle, mut events) = session();
    let mut bridge = None;
    let mut locked = false;
    while bridge.is_none() || !locked {
        match events.recv().await.unwrap() {
            Event::Snapshot { snapshot, .. } => bridge = snapshot.only("Bridge").map(|r| r.uuid),
            Event::LockChanged(s) => locked = s == LockState::Owned,
            _ => {}
        }
    }
    let mut txn = Transaction::new();
    for i in 0..PORTS {
        let name = format!("p{i}");
        let iface = txn.insert("Interface", [("name", Datum::from(name.as_str()))]);
        let port = txn.insert("Port", [("name", Datum::from(name)), ("interfaces", Datum::set([iface]))]);
        txn.mutate("Bridge", bridge.unwrap(), "ports", Mutator::Insert, Datum::set([port]));
    }
    let begun = Instant::now();
    let id = handle.send(txn);
    committed(&mut events, id).await;
    println!("insert {PORTS} ports: {:?}", begun.elapsed());
    drop((handle, events));

    let begun = Instant::now();
    let (handle, mut events) = session();
    let snapshot = loop {
        if let Event::Snapshot { snapshot, .. } = events.recv().await.unwrap() {
            break snapshot;
        }
    };
    println!("first snapshot of {PORTS} ports: {:?}", begun.elapsed());
    assert_eq!(snapshot.rows("Interface").count() as i64, PORTS + 1);
    for round in 0..3i64 {
        let begun = Instant::now();
        let mut batch = StatusBatch::new();
        for row in snapshot.rows("Interface") {
            let counters = ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped"];
            batch.set("Interface", row.uuid, "statistics", Datum::map(counters.map(|c| (c, round))));
        }
        let built = begun.elapsed();
        let number = handle.status(batch);
        while !matches!(events.recv().await.unwrap(), Event::StatusWritten(n) if n >= number) {}
        println!("statistics of {PORTS} ports: built in {built:?}, written in {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    server.vsctl(&["set", "port", "p77", "tag=7"]);
    let ran = begun.elapsed();
    while !matches!(events.recv().await.unwrap(), Event::Snapshot { ref diff, .. }
        if diff.table("Port").count() == 1)
    {}
    println!("one change: ovs-vsctl took {ran:?}, seen {:?} later", begun.elapsed() - ran);
}
