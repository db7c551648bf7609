//! Hosts in network namespaces talk through the daemon: veth ports, the internal port, OpenFlow pipelines, and the
//! counters of it all. Needs root; is skipped with the reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeMap;
use tests::net::{Lan, SWITCH, ping_line, unanswered};

/// The value behind `name=` or `name:` in a line.
fn number(line: &str, name: &str) -> Option<u64> {
    let rest = line.split_once(name)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Packets and bytes of the flow whose line contains `what`.
fn flow(lan: &Lan, what: &str) -> (u64, u64) {
    let flows = lan.sandbox.ofctl(&["-O", "OpenFlow13", "--no-names", "dump-flows", "br0"]);
    let line = flows.lines().find(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what} in {flows}"));
    (number(line, "n_packets=").unwrap(), number(line, "n_bytes=").unwrap())
}

/// `rx_packets`, `tx_packets`, `rx_dropped`, ... of an OpenFlow port.
fn port(lan: &Lan, no: &str) -> BTreeMap<&'static str, u64> {
    let text = lan.sandbox.ofctl(&["-O", "OpenFlow10", "dump-ports", "br0", no]);
    let mut lines = text.lines().skip(1);
    let (rx, tx) = (lines.next().unwrap().to_owned(), lines.next().unwrap().to_owned());
    let values = [
        ("rx_packets", &rx, "pkts="),
        ("rx_bytes", &rx, "bytes="),
        ("rx_dropped", &rx, "drop="),
        ("tx_packets", &tx, "pkts="),
        ("tx_bytes", &tx, "bytes="),
        ("tx_dropped", &tx, "drop="),
    ];
    values.into_iter().map(|(name, line, key)| (name, number(line, key).unwrap())).collect()
}

/// `Interface.statistics`, as they are now and not when they were last written.
fn statistics(lan: &Lan, interface: &str, wanted: &BTreeMap<&'static str, u64>) {
    let matches = || {
        let text = lan.sandbox.get("Interface", interface, "statistics");
        wanted.iter().all(|(name, n)| number(&text, &format!("{name}=")) == Some(*n))
    };
    lan.sandbox.until("Interface.statistics says what dump-ports says", matches);
}

/// Lookups and matches of a table.
fn table(lan: &Lan, no: u8) -> (u64, u64) {
    let text = lan.sandbox.ofctl(&["-O", "OpenFlow13", "dump-tables", "br0"]);
    let at = text.find(&format!("table {no}")).unwrap_or_else(|| panic!("table {no} in {text}"));
    (number(&text[at..], "lookup=").unwrap(), number(&text[at..], "matched=").unwrap())
}

#[test]
fn hosts_reach_each_other_through_normal() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.join("br0");
    for (from, to) in [("h1", "10.0.0.2"), ("h2", "10.0.0.254"), (SWITCH, "10.0.0.1")] {
        lan.ping(from, to, 20);
    }
    for (from, to) in [("h1", "fd00::2"), ("h2", "fd00::254"), (SWITCH, "fd00::1")] {
        lan.ping(from, to, 20);
    }
    lan.serve_iperf("h2");
    lan.start(SWITCH, "iperf3 -s");
    assert!(lan.iperf("h1", "10.0.0.2", "-t 1") > 50e6);
    assert!(lan.iperf("h1", "10.0.0.2", "-t 1 -R") > 50e6);
    assert!(lan.iperf("h1", "fd00::2", "-t 1") > 50e6);
    assert!(lan.iperf("h1", "10.0.0.2", "-u -b 20M -t 1") > 15e6);
    assert!(lan.iperf("h1", "10.0.0.254", "-t 1") > 5e6);
    let macs = lan.sandbox.appctl(&["fdb/show", "br0"]);
    assert_eq!(macs.lines().count(), 4, "{macs}");
}

/// Everything that came in was sent or dropped, and flows, tables and ports agree on how much it was.
#[test]
fn a_pipeline_of_tables_counts_every_packet_once() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    let flows = "table=0,priority=10,in_port=1,actions=set_field:1->reg0,goto_table:1\n\
                 table=0,priority=10,in_port=2,actions=set_field:2->reg0,goto_table:1\n\
                 table=0,priority=0,actions=drop\n\
                 table=1,priority=10,udp,tp_dst=9,actions=drop\n\
                 table=1,priority=0,actions=goto_table:2\n\
                 table=2,reg0=1,actions=output:2\n\
                 table=2,reg0=2,actions=output:1\n";
    let file = lan.sandbox.path("flows");
    std::fs::write(&file, flows).unwrap();
    lan.sandbox.ofctl(&["-O", "OpenFlow13", "replace-flows", "br0", file.to_str().unwrap()]);
    lan.settle();
    let before = [port(&lan, "1"), port(&lan, "2")];
    let base = [flow(&lan, "in_port=1 "), flow(&lan, "in_port=2 ")];
    let base_sent = [flow(&lan, "reg0=0x1 "), flow(&lan, "reg0=0x2 ")];
    lan.ping("h1", "10.0.0.2", 50);
    lan.ping("h1", "fd00::2", 20);
    lan.serve_iperf("h2");
    assert!(lan.iperf("h1", "10.0.0.2", "-t 1") > 50e6);
    let script = lan.sandbox.path("discard.sh");
    std::fs::write(&script, "for i in $(seq 40); do echo x > /dev/udp/10.0.0.2/9; done").unwrap();
    lan.run("h1", &format!("bash {}", script.display()));
    let last = std::cell::RefCell::new(String::new());
    let agrees = || {
        let ports = [port(&lan, "1"), port(&lan, "2")];
        let passed = |i: usize, key: &str| ports[i][key] - before[i][key];
        let flows = [flow(&lan, "in_port=1 "), flow(&lan, "in_port=2 ")];
        let dropped = flow(&lan, "tp_dst=9");
        let sent = [flow(&lan, "reg0=0x1 "), flow(&lan, "reg0=0x2 ")];
        assert_eq!(dropped.0, 40);
        let by_flow = |i: usize| (flows[i].0 - base[i].0, flows[i].1 - base[i].1);
        let by_output = |i: usize| (sent[i].0 - base_sent[i].0, sent[i].1 - base_sent[i].1);
        let of =
            |i: usize, way: &str| (passed(i, &format!("{way}_packets")), passed(i, &format!("{way}_bytes")));
        let all = flows[0].0 + flows[1].0;
        let differences = [
            (of(0, "rx"), by_flow(0)),
            (of(1, "rx"), by_flow(1)),
            (of(1, "tx"), by_output(0)),
            (of(0, "tx"), by_output(1)),
            ((all, 0), (sent[0].0 + sent[1].0 + dropped.0, 0)),
            ((all, all), table(&lan, 1)),
            ((all - dropped.0, all - dropped.0), table(&lan, 2)),
        ];
        *last.borrow_mut() = format!("{differences:?}");
        differences.iter().all(|(one, other)| one == other)
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !agrees() {
        assert!(std::time::Instant::now() < end, "flows, tables and ports differ: {}", last.borrow());
    }
    let now = port(&lan, "1");
    assert_eq!((now["rx_dropped"], now["tx_dropped"]), (0, 0));
    statistics(&lan, "h1", &now);
    statistics(&lan, "h2", &port(&lan, "2"));
}

/// A second bridge, on a wire `NAME1`-`NAME2` whose first end is a port of `br0`, with these hosts and their VLANs.
fn neighbour(lan: &Lan, bridge: &str, wire: &str, hosts: &[(&str, u16)]) {
    let (near, far) = (format!("{wire}1"), format!("{wire}2"));
    lan.wire(&near, &far);
    lan.sandbox.vsctl(&["add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev"]);
    lan.sandbox.vsctl(&["add-port", "br0", &near, "--", "add-port", bridge, &far]);
    for (host, vlan) in hosts {
        let tag = format!("tag={vlan}");
        lan.sandbox.vsctl(&["del-port", host, "--", "add-port", bridge, host, &tag]);
    }
}

/// What a device of the switch sees first that the filter lets through while `f` runs, as tcpdump prints it.
fn seen(lan: &mut Lan, device: &str, filter: &str, f: impl Fn(&Lan)) -> String {
    let file = lan.sandbox.path(&format!("{device}.pcap"));
    let _ = std::fs::remove_file(&file);
    let line = format!("tcpdump -Z root -U -n -c 1 -i {device} -w {} {filter}", file.display());
    let started = lan.start(SWITCH, &line);
    let len = || std::fs::metadata(&file).map_or(0, |m| m.len());
    lan.sandbox.until("tcpdump listens", || len() >= 24);
    f(lan);
    lan.sandbox.until(&format!("{filter} is seen on {device}"), || len() > 24);
    let out = lan.run(SWITCH, &format!("tcpdump -n -e -r {}", file.display()));
    lan.kill(started);
    out
}

#[test]
fn vlans_keep_hosts_apart() {
    let Some(mut lan) = Lan::with_hosts(5) else { return };
    for (port, tag) in [("h1", "tag=10"), ("h2", "tag=10"), ("h3", "tag=20")] {
        lan.sandbox.vsctl(&["set", "port", port, tag]);
    }
    neighbour(&lan, "br1", "x", &[("h4", 10), ("h5", 20)]);
    lan.sandbox.vsctl(&["set", "port", "x1", "trunks=10,20", "--", "set", "port", "x2", "trunks=10,20"]);
    let reach = |lan: &Lan| {
        assert!(lan.reaches("h1", "10.0.0.2"), "access to access");
        assert!(lan.reaches("h1", "10.0.0.4"), "access over the trunk");
        assert!(lan.reaches("h3", "10.0.0.5"), "the other VLAN over the trunk");
        assert!(!lan.reaches("h1", "10.0.0.3") && !lan.reaches("h1", "10.0.0.5"), "VLAN 10 to VLAN 20");
    };
    let line = seen(&mut lan, "x2", "vlan 10 and icmp", reach);
    assert!(line.contains("vlan 10, p 0"), "{line}");
    // The native VLAN is not tagged on the wire, the other one is.
    for port in ["x1", "x2"] {
        lan.sandbox.vsctl(&["set", "port", port, "tag=10", "vlan_mode=native-untagged", "trunks=20"]);
    }
    let line = seen(&mut lan, "x2", "icmp", reach);
    assert!(!line.contains("vlan"), "{line}");
    let line = seen(&mut lan, "x2", "vlan 20 and icmp", reach);
    assert!(line.contains("vlan 20, p 0"), "{line}");
    lan.sandbox.vsctl(&["set", "port", "x1", "vlan_mode=native-tagged"]);
    let line = seen(&mut lan, "x2", "vlan 10 and icmp", reach);
    assert!(line.contains("vlan 10, p 0"), "{line}");
    // A trunk without a VLAN does not carry it.
    lan.sandbox.vsctl(&["clear", "port", "x1", "tag", "vlan_mode", "--", "set", "port", "x1", "trunks=20"]);
    assert!(!lan.reaches("h1", "10.0.0.4") && lan.reaches("h3", "10.0.0.5"));
    let macs = lan.sandbox.appctl(&["fdb/show", "br0"]);
    assert!(macs.lines().any(|l| l.starts_with("    3    20")), "{macs}");
}

#[test]
fn a_tunnel_port_carries_customers_vlans() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:vlan-limit=2"]);
    neighbour(&lan, "br1", "x", &[("h1", 7)]);
    neighbour(&lan, "br2", "y", &[("h2", 7)]);
    for port in ["x1", "y1"] {
        lan.sandbox.vsctl(&["set", "port", port, "vlan_mode=dot1q-tunnel", "tag=100"]);
    }
    lan.wire("z1", "z2");
    lan.sandbox.vsctl(&["add-port", "br0", "z1", "trunks=100"]);
    let reach = |lan: &Lan| assert!(lan.reaches("h1", "10.0.0.2"), "tagged through the tunnel");
    let line = seen(&mut lan, "z2", "vlan 100", reach);
    assert!(line.contains("vlan 100, p 0") && line.contains("vlan 7, p 0"), "{line}");
    // What a customer may send can be limited.
    lan.sandbox.vsctl(&["set", "port", "x1", "cvlans=8"]);
    assert!(!lan.reaches("h1", "10.0.0.2"));
    lan.sandbox.vsctl(&["set", "port", "x1", "cvlans=7,8"]);
    assert!(lan.reaches("h1", "10.0.0.2"));
}

#[test]
fn a_patch_joins_two_bridges() {
    let Some(lan) = Lan::with_hosts(2) else { return };
    lan.sandbox.vsctl(&["add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=netdev"]);
    lan.sandbox.vsctl(&["del-port", "h2", "--", "add-port", "br1", "h2"]);
    let patch = |bridge: &str, name: &str, peer: &str| {
        let peer = format!("options:peer={peer}");
        lan.sandbox.vsctl(&["add-port", bridge, name, "--", "set", "interface", name, "type=patch", &peer]);
    };
    assert!(!lan.reaches("h1", "10.0.0.2"));
    patch("br0", "p0", "p1");
    patch("br1", "p1", "p0");
    lan.ip("h1", "neigh flush dev eth0");
    lan.ping("h1", "10.0.0.2", 20);
    let passed = || {
        let text = lan.sandbox.get("Interface", "p0", "statistics");
        number(&text, "tx_packets=") >= Some(20) && number(&text, "rx_packets=") >= Some(20)
    };
    lan.sandbox.until("both ways are counted", passed);
    lan.sandbox.vsctl(&["set", "interface", "p1", "options:peer=nobody"]);
    assert!(!lan.reaches("h1", "10.0.0.2"));
    lan.sandbox.vsctl(&["set", "interface", "p1", "options:peer=p0"]);
    lan.ip("h1", "neigh flush dev eth0");
    lan.ping("h1", "10.0.0.2", 20);
}

#[test]
fn others_forward_on_while_ports_come_and_go() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.wire("x1", "x2");
    lan.ping("h1", "10.0.0.2", 5);
    let file = lan.sandbox.path("ping");
    let line = format!("{} 10.0.0.2 > {}", ping_line(1000, "0.005"), file.display());
    let script = lan.sandbox.path("ping.sh");
    std::fs::write(&script, line).unwrap();
    lan.start("h1", &format!("sh {}", script.display()));
    let done = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("packets transmitted"));
    let mut rounds = 0;
    while !done() {
        lan.sandbox.vsctl(&["add-port", "br0", "x1", "--", "add-port", "br0", "i1"]);
        lan.sandbox.vsctl(&["set", "interface", "i1", "type=internal"]);
        lan.sandbox.vsctl(&["del-port", "x1", "--", "del-port", "i1"]);
        rounds += 1;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(unanswered(&text, 1000), None, "{rounds} rounds: {text}");
    assert!(rounds > 3, "{rounds}");
}
