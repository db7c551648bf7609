//! Access lists of Debian's OVN on our daemon: logged, metered, stateless, rejecting, and changed while traffic runs.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::time::Instant;
use tests::ovn::Ovn;

/// Lines of this access list in the log of the first ovn-controller.
fn logged(ovn: &Ovn, name: &str) -> usize {
    ovn.controller_log(1).matches(&format!("name=\"{name}\"")).count()
}

/// Packets of a list with a meter are logged at the meter's rate, the others each; all of them are forwarded.
fn logs_and_meters(ovn: &mut Ovn) {
    ovn.nbctl("meter-add slow drop 5 pktps 5");
    let list = |options: &str, name: &str, port: u16, verdict: &str| {
        let (name, what) = (format!("--name={name}"), format!("outport == \"vm2\" && udp.dst == {port}"));
        let words: Vec<&str> =
            options.split(' ').chain([&*name, "acl-add", "ls0", "to-lport", "1000"]).collect();
        ovn.nbctl_words(&[&words[..], &[&what, verdict]].concat());
    };
    list("--log --severity=info --meter=slow", "metered", 5000, "allow");
    list("--log --severity=warning", "each", 5001, "allow-related");
    list("--log --severity=alert", "dropped", 5002, "drop");
    ovn.sync();
    assert!(ovn.sandbox(1).ofctl(&["-OOpenFlow15", "dump-meters", "br-int"]).contains("rate=5"));
    let sink = ovn.sink("vm2", 5000, "");
    let start = Instant::now();
    ovn.send("vm1", "10.0.1.12", 5000, 200, 20, 2.0);
    let seconds = start.elapsed().as_secs_f64();
    ovn.until("all packets arrive", || sink.count("10.0.1.11") == 200);
    let lines = logged(ovn, "metered");
    let most = 5.0 + 5.0 * seconds + 2.0;
    assert!(lines >= 5 && lines as f64 <= most, "{lines} lines in {seconds} s");
    ovn.send("vm1", "10.0.1.12", 5001, 50, 20, 0.5);
    ovn.until("each is logged", || logged(ovn, "each") == 50);
    ovn.send("vm1", "10.0.1.12", 5002, 10, 20, 0.1);
    ovn.until("those that are dropped are logged", || logged(ovn, "dropped") == 10);
    let log = ovn.controller_log(1);
    let line = log.lines().find(|l| l.contains("name=\"dropped\"")).unwrap();
    for part in
        ["verdict=drop", "severity=alert", "direction=to-lport: udp", "nw_src=10.0.1.11", "tp_dst=5002"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// What a stateless list lets through leaves no connection behind, in either direction.
fn stateless(ovn: &mut Ovn) {
    let both = |priority: &str, what: &str, verdict: &str| {
        for direction in ["from-lport", "to-lport"] {
            ovn.nbctl_words(&["acl-add", "ls1", direction, priority, what, verdict]);
        }
    };
    both("2000", "tcp.dst == 90 || tcp.src == 90", "allow-stateless");
    both("1000", "tcp", "allow-related");
    ovn.sync();
    ovn.say("vm4", 90);
    ovn.say("vm4", 91);
    assert!(ovn.hears("vm3", "10.0.2.14", 90).is_some());
    assert!(ovn.hears("vm3", "10.0.2.14", 91).is_some());
    let connections = ovn.sandbox(1).appctl(&["dpctl/dump-conntrack"]);
    assert!(connections.contains("dport=91"), "{connections}");
    assert!(!connections.contains("dport=90"), "{connections}");
}

/// Groups of ports and sets of addresses change: the same packets fare otherwise.
fn groups_and_sets(ovn: &mut Ovn) {
    ovn.nbctl("pg-add web vm3 -- pg-add none");
    ovn.nbctl_words(&["create", "Address_Set", "name=friends6"]);
    let list = |what: &str, verdict: &str, priority: &str| {
        ovn.nbctl_words(&["--type=port-group", "acl-add", "web", "to-lport", priority, what, verdict]);
    };
    list("outport == @web && tcp.dst == 8080", "reject", "3000");
    list("outport == @web && ip6.src == $friends6 && tcp.dst == 8080", "allow-related", "3001");
    list("outport == @web && ip4.src == $web_ip4 && tcp.dst == 8080", "allow-related", "3002");
    ovn.sync();
    ovn.say("vm3", 8080);
    ovn.say("vm4", 8080);
    assert_eq!(ovn.connects("vm4", "10.0.2.13", 8080), "refused", "the list answers for vm3");
    assert_eq!(ovn.connects("vm3", "10.0.2.14", 8080), "connected", "not of the group");
    ovn.nbctl("pg-set-ports web vm3 vm4");
    ovn.sync();
    assert_eq!(ovn.connects("vm4", "10.0.2.13", 8080), "connected", "an address of the group");
    assert_eq!(ovn.connects("vm1", "10.0.2.14", 8080), "refused");
    assert_eq!(ovn.connects("vm1", "fd02::14", 8080), "refused");
    let set = |verb: &str, addresses: &str| {
        ovn.nbctl_words(&[verb, "Address_Set", "friends6", "addresses", addresses]);
        ovn.sync();
    };
    set("add", "\"fd01::11\"");
    assert_eq!(ovn.connects("vm1", "fd02::14", 8080), "connected");
    set("add", "\"fd01::12\"");
    assert_eq!(ovn.connects("vm2", "fd02::13", 8080), "connected");
    set("remove", "\"fd01::11\"");
    assert_eq!(ovn.connects("vm1", "fd02::14", 8080), "refused");
    assert_eq!(ovn.connects("vm2", "fd02::14", 8080), "connected", "it stays in the set");
    ovn.nbctl("pg-set-ports web vm3");
    ovn.sync();
    assert_eq!(ovn.connects("vm1", "fd02::14", 8080), "connected", "no list of this port any more");
}

/// The switch answers for its ports: their owners never see a question, by ARP or by neighbour discovery.
fn responders(ovn: &mut Ovn) {
    let asked = ovn.watch("vm2", "arp or icmp6[0]==135");
    let answered = ovn.watch("vm1", "arp or icmp6[0]==136");
    for address in ["10.0.1.12", "fd01::12"] {
        ovn.ip("vm1", "neigh flush dev eth0");
        ovn.ip("vm2", "neigh replace 10.0.1.11 lladdr 50:54:00:00:00:01 dev eth0");
        ovn.ip("vm2", "neigh replace fd01::11 lladdr 50:54:00:00:00:01 dev eth0");
        ovn.ping("vm1", address);
        let neighbours = ovn.ip("vm1", &format!("neigh show {address}"));
        assert!(neighbours.contains("50:54:00:00:00:02"), "{neighbours}");
    }
    ovn.until("answers of the switch are seen", || {
        answered.count("10.0.1.12 is-at 50:54:00:00:00:02") > 0 && answered.count("tgt is fd01::12") > 0
    });
    let from_vm1 = |line: &String| line.contains("50:54:00:00:00:01 >");
    let questions: Vec<String> = asked.seen().into_iter().filter(from_vm1).collect();
    assert!(questions.is_empty(), "{questions:?}");
}

#[test]
fn access_lists_at_run_time() {
    let Some(mut ovn) = Ovn::new(1, "geneve") else { return };
    ovn.two_switches(&[1, 1, 1, 1]);
    responders(&mut ovn);
    stateless(&mut ovn);
    groups_and_sets(&mut ovn);
    logs_and_meters(&mut ovn);
}
