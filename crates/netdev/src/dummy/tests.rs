use super::commands::*;
use super::*;
use crate::device::*;
use flow::EthAddr;
use packet::{Batch, Packet};
use std::time::{Duration, Instant};

const FRAME: &str = "50540000000a50540000000908004500001c0000000040117cce7f0000017f0000010035003500080000";

fn no_flows(_: &str, _: Option<usize>) -> Result<Packet, String> {
    Err("no flows here".to_owned())
}

fn options(pairs: &[(&str, &str)]) -> StringMap {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(device: &DummyDevice, frame: &[u8]) -> TxOutcome {
    let mut batch = Batch::new();
    batch.push(Packet::from_slice(frame));
    device.open_tx(0).expect("tx").send(&mut batch)
}

#[test]
fn addresses_count_up() {
    let r = DummyRegistry::default();
    let macs: Vec<EthAddr> = ["a", "b"].iter().map(|n| r.open("dummy", n).link().mac).collect();
    assert_eq!(macs[0].to_string(), "aa:55:aa:55:00:00");
    assert_eq!(macs[1].to_string(), "aa:55:aa:55:00:01");
}

#[test]
fn received_packets_wait_in_the_queue_up_to_its_limit() {
    let r = DummyRegistry::default();
    let d = r.open("dummy", "p");
    receive(&r, &["p", FRAME], &no_flows).expect("nobody listens");
    let mut rx = d.open_rx().expect("rx").pop().expect("one queue");
    assert!(rx.wait_fd().is_some());
    for _ in 0..queue::QUEUE_MAX + 5 {
        receive(&r, &["p", FRAME], &no_flows).expect("receive");
    }
    let mut got = 0;
    loop {
        let mut batch = Batch::new();
        match rx.recv(&mut batch) {
            0 => break,
            n => got += n,
        }
    }
    assert_eq!(got, queue::QUEUE_MAX);
    let s = d.stats().expect("stats").statistics();
    assert_eq!((s["rx_packets"], s["rx_bytes"], s["rx_q0_packets"]), (100, 4200, 100));
    assert_eq!(s["rx_custom_packets_2"], 100);
    assert!(!s.contains_key("rx_dropped"));
}

#[test]
fn a_sink_gets_packets_before_receive_returns() {
    let r = DummyRegistry::default();
    let d = r.open("dummy", "p");
    let got = Arc::new(Mutex::new(Vec::new()));
    let (into, weak) = (got.clone(), Arc::downgrade(&d));
    let sink = move |p: Packet| {
        // A packet that arrives while one is processed is processed after it.
        if into.lock().is_empty() {
            weak.upgrade().expect("device").receive(0, Packet::from_slice(&[9; 20]));
        }
        into.lock().push(p.len());
    };
    d.set_sink(Some(Arc::new(sink))).expect("sink");
    receive(&r, &["p", FRAME], &no_flows).expect("receive");
    assert_eq!(*got.lock(), [42, 20]);
}

#[test]
fn command_errors() {
    let r = DummyRegistry::default();
    let _device = r.open("dummy", "p");
    let fails = |args: &[&str]| receive(&r, args, &no_flows).expect_err("error");
    assert_eq!(fails(&["q", FRAME]), "no such dummy netdev");
    assert_eq!(fails(&["p", "--qid", "1", FRAME]), "bad rx queue id.");
    assert_eq!(fails(&["p", "--qid", "-1", FRAME]), "bad rx queue id.");
    assert_eq!(fails(&["p", "ip", "--len", "59"]), "too small packet len");
    assert_eq!(fails(&["p", "ip", "--len", "60"]), "no flows here");
    assert_eq!(set_admin_state(&r, &["p", "sideways"]).expect_err("state"), "Invalid Admin State");
    assert_eq!(set_admin_state(&r, &["q", "up"]).expect_err("name"), "Unknown Dummy Interface");
    assert_eq!(conn_state(&r, &["p"]).as_deref(), Ok("p: unknown\n"));
    assert_eq!(conn_state(&r, &[]).as_deref(), Ok(""));
}

#[test]
fn admin_state_of_one_and_of_all() {
    let r = DummyRegistry::default();
    let (a, b) = (r.open("dummy", "a"), r.open("dummy", "b"));
    let seq = a.change_seq();
    assert_eq!(set_admin_state(&r, &["a", "DOWN"]).as_deref(), Ok("OK"));
    assert!(!a.link().admin_up && !a.link().carrier && b.link().admin_up);
    assert_ne!(a.change_seq(), seq);
    set_admin_state(&r, &["down"]).expect("all");
    assert!(!b.link().admin_up);
}

#[test]
fn size_limits_on_transmit() {
    let r = DummyRegistry::default();
    let d = r.open("dummy", "p");
    let mut tagged = [0; 1519];
    tagged[12] = 0x81;
    assert_eq!(send(&d, &[0; 1514]).sent, 1);
    assert_eq!(send(&d, &[0; 1515]).dropped_too_big, 1);
    assert_eq!(send(&d, &tagged[..1518]).sent, 1);
    assert_eq!(send(&d, &tagged).dropped_too_big, 1);
    assert_eq!(send(&d, &[0; 13]).dropped_error, 1);
    assert_eq!(d.stats().expect("stats").common.tx_packets, 2);
    assert!(d.set_mtu(67).is_err() && d.set_mtu(9000).is_ok());
    assert_eq!(send(&d, &[0; 9014]).sent, 1);
}

#[test]
fn arp_requests_are_answered() {
    let r = DummyRegistry::default();
    let d = r.open("dummy", "p");
    let mut rx = d.open_rx().expect("rx").pop().expect("queue");
    assert_eq!(ip4addr(&r, &["p", "10.0.0.1/24"]).as_deref(), Ok("OK"));
    let asker = [2, 0, 0, 0, 0, 5];
    let body = [0, 1, 8, 0, 6, 4, 0, 1];
    let ask =
        |ip: [u8; 4]| [&[0xff; 6][..], &asker, &[8, 6], &body, &asker, &[10, 0, 0, 5], &[0; 6], &ip].concat();
    send(&d, &ask([10, 0, 0, 2]));
    let mut batch = Batch::new();
    assert_eq!(rx.recv(&mut batch), 0);
    send(&d, &ask([10, 0, 0, 1]));
    assert_eq!(rx.recv(&mut batch), 1);
    let reply = batch[0].data();
    assert_eq!((&reply[..6], &reply[6..12]), (&asker[..], &d.link().mac.0[..]));
    assert_eq!(reply[20..22], [0, 2]);
    assert_eq!((&reply[28..32], &reply[38..42]), (&[10, 0, 0, 1][..], &[10, 0, 0, 5][..]));
    assert_eq!(reply.len(), 42);
}

#[test]
fn queues_of_a_polled_port_change_when_opened() {
    let r = DummyRegistry::default();
    let d = r.open("dummy-pmd", "p");
    assert!(d.is_polled());
    d.configure(&options(&[("n_rxq", "3"), ("n_txq", "5000"), ("numa_id", "1")])).expect("configure");
    assert!(d.needs_reopen());
    assert_eq!(d.options()["requested_rx_queues"], "3");
    assert_eq!(d.options()["configured_rx_queues"], "1");
    let mut rx = d.open_rx().expect("rx");
    assert!(!d.needs_reopen() && rx.len() == 3 && rx[0].wait_fd().is_none());
    assert_eq!((d.options()["configured_tx_queues"].as_str(), d.numa_id()), ("1024", Some(1)));
    receive(&r, &["p", "--qid", "2", FRAME], &no_flows).expect("receive");
    let mut batch = Batch::new();
    let counts: Vec<usize> = rx.iter_mut().map(|q| q.recv(&mut batch)).collect();
    assert_eq!(counts, [0, 0, 1]);
    assert_eq!(d.stats().expect("stats").custom["rx_q2_bytes"], 42);
}

#[test]
fn capture_files() {
    let r = DummyRegistry::default();
    let d = r.open("dummy", "p");
    let dir = tempfile::tempdir().expect("dir");
    let path = |n: &str| dir.path().join(n).to_str().expect("utf-8").to_owned();
    let (rx, tx, both) = (path("rx"), path("tx"), path("both"));
    d.configure(&options(&[("rxq_pcap", &rx), ("tx_pcap", &tx)])).expect("configure");
    send(&d, &[1; 60]);
    send(&d, &[1; 60]);
    receive(&r, &["p", FRAME], &no_flows).expect("receive");
    d.configure(&options(&[("pcap", &both)])).expect("configure");
    send(&d, &[1; 60]);
    receive(&r, &["p", FRAME], &no_flows).expect("receive");
    let size = |p: &str| std::fs::metadata(p).expect("file").len();
    assert_eq!((size(&rx), size(&tx), size(&both)), (24 + 58, 24 + 2 * 76, 24 + 58 + 76));
    let Ok(out) = std::process::Command::new("tcpdump").args(["-r", &both, "-n"]).output() else {
        println!("skipped: no tcpdump");
        return;
    };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.lines().count() == 2, "{text}");
    assert!(text.contains("127.0.0.1.53 > 127.0.0.1.53"), "{text}");
}

/// Two ports joined by a stream of each kind carry frames both ways, and the active one reconnects.
#[test]
fn streams_join_ports() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("s");
    let path = path.to_str().expect("utf-8");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
    for (listen, connect) in [
        (format!("punix:{path}"), format!("unix:{path}")),
        (format!("ptcp:{port}:127.0.0.1"), format!("tcp:127.0.0.1:{port}")),
    ] {
        let r = DummyRegistry::default();
        let (a, b) = (r.open("dummy", "a"), r.open("dummy", "b"));
        b.configure(&options(&[("stream", &connect)])).expect("active");
        assert_eq!(conn_state(&r, &[]).as_deref(), Ok("b: disconnected\n"));
        a.configure(&options(&[("pstream", &listen)])).expect("passive");
        wait_until("connected", || b.stream_connected() == Some(true));
        assert_eq!(a.options()["pstream"], listen);
        let mut rx_a = a.open_rx().expect("rx").pop().expect("queue");
        let mut rx_b = b.open_rx().expect("rx").pop().expect("queue");
        let mut batch = Batch::new();
        send(&b, &[1; 100]);
        wait_until("b to a", || rx_a.recv(&mut batch) == 1);
        send(&a, &[2; 200]);
        wait_until("a to b", || rx_b.recv(&mut batch) == 1);
        assert_eq!((batch[0].data(), batch[1].data()), (&[1; 100][..], &[2; 200][..]));
        a.configure(&options(&[])).expect("closed");
        wait_until("disconnected", || b.stream_connected() == Some(false));
        a.configure(&options(&[("pstream", &listen)])).expect("again");
        wait_until("reconnected", || b.stream_connected() == Some(true));
    }
}
