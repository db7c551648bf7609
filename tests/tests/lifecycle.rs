//! The daemon's life with its database: many ports, sudden ends, restarts, a second daemon.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeMap;
use tests::Sandbox;

/// Bridges with their ports and numbers, as the database shows them.
fn ports(s: &Sandbox) -> BTreeMap<String, String> {
    let table = s.vsctl(&["--format=csv", "--no-headings", "--columns=name,ofport", "list", "Interface"]);
    table.lines().filter_map(|l| l.split_once(',')).map(|(n, p)| (n.to_owned(), p.to_owned())).collect()
}

fn add_ports(s: &Sandbox, n: usize) {
    let mut args: Vec<String> = Vec::new();
    for i in 0..n {
        args.extend(["--", "add-port", "br0", &format!("q{i}")].map(str::to_owned));
    }
    s.vsctl(&args.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_thousand_ports_come_and_go() {
    let s = Sandbox::new();
    s.vsctl(&["add-br", "br0", "--", "add-port", "br0", "stays"]);
    let number = s.get("Interface", "stays", "ofport");
    s.until("the revalidator runs", || s.resources().1 > 2);
    let before = s.resources();
    add_ports(&s, 1000);
    assert_eq!(ports(&s).values().filter(|no| no.parse().is_ok_and(|no: i64| no > 0)).count(), 1002);
    assert!(s.appctl(&["memory/show"]).contains("ports:1002"));
    assert_eq!(s.ofctl(&["-O", "OpenFlow14", "dump-ports-desc", "br0"]).matches("addr:").count(), 1002);
    let args: Vec<String> =
        (0..1000).flat_map(|i| ["--".into(), "del-port".into(), format!("q{i}")]).collect();
    s.vsctl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(s.appctl(&["memory/show"]).contains("ports:2"));
    assert_eq!(s.get("Interface", "stays", "ofport"), number);
    assert!(!s.log().contains("deleted interface stays"));
    s.until("descriptors and threads are given back", || s.resources() <= before);
    s.vsctl(&["del-br", "br0"]);
    assert_eq!(s.appctl(&["ofproto/list"]), "");
}

#[test]
fn a_killed_daemon_comes_back_with_the_same_ports() {
    let mut s = Sandbox::new();
    s.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure"]);
    add_ports(&s, 20);
    s.vsctl(&["del-port", "q3", "--", "set", "interface", "q5", "ofport_request=77"]);
    let (before, id) = (ports(&s), s.get("Bridge", "br0", "datapath_id"));
    assert_eq!(before["q5"], "77");
    s.kill_daemon();
    s.start_daemon();
    s.vsctl(&["set", "Open_vSwitch", ".", "external_ids:again=yes"]);
    s.until("the ports are back", || s.appctl(&["memory/show"]).contains("ports:20"));
    assert_eq!((ports(&s), s.get("Bridge", "br0", "datapath_id")), (before, id));
    s.stop_daemon(true);
}

#[test]
fn the_switch_outlives_its_database() {
    let mut s = Sandbox::new();
    s.vsctl(&["add-br", "br0", "--", "add-port", "br0", "p1", "--", "add-port", "br0", "p2"]);
    s.ofctl(&["add-flow", "br0", "in_port=1,actions=2"]);
    s.stop_database();
    assert_eq!(s.appctl(&["ofproto/list"]), "br0\n");
    assert!(s.ofctl(&["dump-flows", "br0"]).contains("in_port=1 actions=output:2"));
    s.start_database();
    s.vsctl(&["add-port", "br0", "p3", "--", "set", "interface", "p3", "type=dummy"]);
    s.until("status is written again", || s.get("Interface", "p1", "link_state") == "up");
    assert!(s.ofctl(&["dump-flows", "br0"]).contains("in_port=1 actions=output:2"), "nothing was made anew");
    assert!(!s.log().contains("deleted interface"), "{}", s.log());
}

#[test]
fn a_packet_passes_and_is_counted() {
    let s = Sandbox::new();
    s.vsctl(&["add-br", "br0", "--", "add-port", "br0", "p1", "--", "add-port", "br0", "p2"]);
    s.ofctl(&["add-flow", "br0", "priority=5,in_port=1,actions=2"]);
    let flow = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),\
                ipv4(src=192.168.0.1,dst=192.168.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=8,dst=9)";
    for _ in 0..3 {
        s.appctl(&["netdev-dummy/receive", "p1", flow]);
    }
    let flows = || s.ofctl(&["dump-flows", "br0"]);
    s.until("the rule is credited", || flows().contains("n_packets=3, n_bytes=318"));
    let tx = || s.get("Interface", "p2", "statistics:tx_packets");
    s.until("the counters are in the database", || tx() == "3");
}

#[test]
fn statistics_of_the_system_do_not_cost_the_pidfile() {
    let s = Sandbox::new();
    s.vsctl(&["set", "Open_vSwitch", ".", "other_config:enable-statistics=true"]);
    let statistics = || s.get("Open_vSwitch", ".", "statistics");
    s.until("they are there", || statistics().contains("process_ovs-vswitchd="));
    assert!(statistics().contains("load_average="));
    // Tools take a pidfile without a lock for a leftover.
    assert_eq!(s.appctl(&["ofproto/list"]), "");
    s.vsctl(&["remove", "Open_vSwitch", ".", "other_config", "enable-statistics"]);
    assert_eq!(statistics(), "{}");
}

#[test]
fn bad_rows_are_told_and_disturb_nobody() {
    let s = Sandbox::new();
    s.vsctl(&["add-br", "br0"]);
    let add = |name: &str, kind: &str| {
        let kind = format!("type={kind}");
        s.vsctl(&["--no-wait", "add-port", "br0", name, "--", "set", "interface", name, &kind]);
    };
    add("good", "dummy");
    add("wire", "carrier-pigeon");
    add("nopeer", "patch");
    add("ovs-netdev", "internal");
    s.until("the last one is dealt with", || s.get("Interface", "ovs-netdev", "ofport") == "-1");
    let error = |name: &str| s.get("Interface", name, "error");
    assert_eq!(
        error("wire"),
        "could not open network device wire (Address family not supported by protocol)"
    );
    assert_eq!(error("nopeer"), "nopeer: patch type requires valid 'peer' argument");
    assert_eq!(error("ovs-netdev"), "could not create interface ovs-netdev, name is reserved");
    assert_eq!((error("good").as_str(), s.get("Interface", "good", "ofport").as_str()), ("[]", "1"));
    s.vsctl(&["set", "interface", "nopeer", "options:peer=x"]);
    assert_eq!((error("nopeer").as_str(), s.get("Interface", "nopeer", "link_state").as_str()), ("[]", "up"));
}

#[test]
fn a_second_daemon_waits_for_the_lock() {
    let s = Sandbox::new();
    s.vsctl(&["add-br", "br0"]);
    let log = s.path("second.log");
    let mut second = s.command(tests::daemon_binary());
    second.args(["--enable-dummy=override", "--unixctl=second.ctl", "-vconsole:off", "-vsyslog:off"]);
    second.arg(format!("--log-file={}", log.display()));
    let mut second = second.spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    s.until("it says so", || {
        said().contains("another ovs-vswitchd process is running, disabling this process (pid ")
    });
    let list = |s: &Sandbox| s.appctl(&["-t", s.path("second.ctl").to_str().unwrap(), "ofproto/list"]);
    assert_eq!(list(&s), "");
    let mut s = s;
    s.stop_daemon(false);
    s.until("it takes over", || list(&s) == "br0\n");
    s.appctl(&["-t", s.path("second.ctl").to_str().unwrap(), "exit"]);
    assert!(second.wait().unwrap().success());
}

#[test]
fn tools_connect_after_a_change_of_protocols() {
    let s = Sandbox::new();
    let passive = s.path("br0.controller").display().to_string();
    s.vsctl(&["add-br", "br0", "--", "set-controller", "br0", &format!("punix:{passive}")]);
    for versions in ["OpenFlow13", "OpenFlow10,OpenFlow14", "OpenFlow15"] {
        s.vsctl(&["set", "bridge", "br0", &format!("protocols={versions}")]);
        for to in ["br0", &format!("unix:{passive}")] {
            s.ofctl(&["-O", versions, "dump-flows", to]);
        }
        let refused = s.command("ovs-ofctl").args(["-O", "OpenFlow12", "dump-flows", "br0"]).output();
        assert!(String::from_utf8_lossy(&refused.unwrap().stderr).contains("version negotiation failed"));
    }
}
