//! Debian's OVN on several hypervisors with our daemons, which share a network outside: addresses translated where the
//! machine is, or at the gateway, and a VLAN outside that is a logical switch on both.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeSet;
use tests::ovn::Ovn;

/// Floating addresses of their own MAC are translated on the machine's own hypervisor, all others at the gateway.
#[test]
fn translation_on_three_hypervisors() {
    let Some(mut ovn) = Ovn::new(3, "geneve") else { return };
    ovn.join_outside();
    ovn.two_switches(&[1, 2, 1, 2]);
    ovn.gateway(&["hv3"]);
    ovn.nbctl(
        "lr-nat-add lr0 dnat_and_snat 172.16.0.53 10.0.2.13 vm3 00:00:00:00:0f:03 \
         -- lr-nat-add lr0 dnat_and_snat 172.16.0.54 10.0.2.14 vm4 00:00:00:00:0f:04 \
         -- lr-nat-add lr0 dnat_and_snat 172.16.0.52 10.0.1.12",
    );
    ovn.outsider(2, "out", "50:54:00:00:00:aa", "172.16.0.99/24");
    ovn.sync();
    for machine in ["vm2", "vm3", "vm4", "out"] {
        ovn.say(machine, 80);
    }
    // Centralised: the router's own address for those without one of theirs; a floating one without a MAC.
    ovn.ping("vm1", "172.16.0.99");
    assert_eq!(ovn.hears("vm1", "172.16.0.99", 80).as_deref(), Some("out 172.16.0.1"));
    ovn.ping("out", "172.16.0.52");
    assert_eq!(ovn.hears("out", "172.16.0.52", 80).as_deref(), Some("vm2 172.16.0.99"));
    assert_eq!(ovn.hears("vm2", "172.16.0.99", 80).as_deref(), Some("out 172.16.0.52"));
    // Distributed, in and out; from the one to the other, too.
    for no in [3, 4] {
        let (machine, address) = (format!("vm{no}"), format!("172.16.0.5{no}"));
        ovn.ping("out", &address);
        assert_eq!(ovn.hears("out", &address, 80).unwrap(), format!("{machine} 172.16.0.99"));
        assert_eq!(ovn.hears(&machine, "172.16.0.99", 80).unwrap(), format!("out {address}"));
        let mac = ovn.ip("out", &format!("neigh show {address}"));
        assert!(mac.contains(&format!("00:00:00:00:0f:0{no}")), "{mac}");
    }
    assert_eq!(ovn.hears("vm3", "172.16.0.54", 80).as_deref(), Some("vm4 172.16.0.53"));
    // The gateway's hypervisor dies: only what is translated there ends.
    ovn.sandbox_mut(3).kill_daemon();
    ovn.kill_controller(3);
    for no in [3, 4] {
        assert_eq!(ovn.hears("out", &format!("172.16.0.5{no}"), 80).unwrap(), format!("vm{no} 172.16.0.99"));
        assert_eq!(ovn.hears(&format!("vm{no}"), "172.16.0.99", 80).unwrap(), format!("out 172.16.0.5{no}"));
    }
    assert!(!ovn.reaches("vm1", "172.16.0.99"), "no gateway");
    assert!(!ovn.reaches("out", "172.16.0.52"), "no gateway");
}

/// A port's greatest rate is a class of linux-htb on the device that leads outside, and its packets are for that queue.
fn shaped(ovn: &mut Ovn) {
    ovn.sandbox(1).vsctl(&["set", "interface", "out", "external_ids:ovn-egress-iface=true"]);
    ovn.nbctl("set Logical_Switch_Port vm1 options:qos_max_rate=3000000 options:qos_burst=300000");
    ovn.sync();
    ovn.until("a class", || ovn.run("hv1", "tc class show dev out").contains("ceil 3Mbit"));
    let queued = || ovn.sandbox(1).ofctl(&["-OOpenFlow15", "dump-flows", "br-int"]).contains("set_queue:1");
    ovn.until("a queue", queued);
    ovn.ping("vm1", "192.168.7.99");
    let megaflows = ovn.sandbox(1).appctl(&["dpctl/dump-flows"]);
    assert!(megaflows.contains("set(skb_priority("), "{megaflows}");
    let rate = |ovn: &Ovn| ovn.iperf("vm1", "out", "192.168.7.99", "-u -b 6M -l 1000 -t 3");
    let held = rate(ovn);
    assert!((1.5e6..3.5e6).contains(&held), "{held} bit/s at 3 Mbit/s");
    ovn.nbctl("clear Logical_Switch_Port vm1 options");
    ovn.sync();
    ovn.until("no class", || !ovn.run("hv1", "tc class show dev out").contains("ceil 3Mbit") && !queued());
    let free = rate(ovn);
    assert!(free > 5e6, "{free} bit/s of 6 Mbit/s without a queue");
}

/// A logical switch whose packets go between hypervisors with a VLAN tag outside, not through a tunnel.
#[test]
fn a_vlan_outside() {
    let Some(mut ovn) = Ovn::new(2, "geneve") else { return };
    ovn.join_outside();
    ovn.nbctl(
        "ls-add lan -- lsp-add lan lan-out -- lsp-set-type lan-out localnet -- lsp-set-addresses lan-out unknown \
         -- lsp-set-options lan-out network_name=phys -- set Logical_Switch_Port lan-out tag=100",
    );
    for no in [1, 2] {
        let (name, mac) = (format!("vm{no}"), format!("50:54:00:00:00:0{no}"));
        ovn.nbctl(&format!("lsp-add lan {name}"));
        ovn.nbctl_words(&["lsp-set-addresses", &name, &format!("{mac} 192.168.7.1{no} fd07::1{no}")]);
        ovn.machine(no, &name, &mac);
        ovn.ip(&name, &format!("addr add 192.168.7.1{no}/24 dev eth0"));
        ovn.ip(&name, &format!("addr add fd07::1{no}/64 dev eth0 nodad"));
    }
    // A host outside on the same VLAN, and one on another.
    for (name, hypervisor, vlan, host) in [("out", 1, 100, 99), ("other", 2, 101, 98)] {
        let mac = format!("50:54:00:00:00:{host}");
        ovn.outsider(hypervisor, name, &mac, &format!("192.168.7.{host}/24"));
        ovn.sandbox(hypervisor).vsctl(&["set", "port", name, &format!("tag={vlan}")]);
    }
    ovn.sync();
    let wire = ovn.watch_on("wire", "hv1", "vlan 100 and icmp");
    let tunnels = ovn.watch_on("wire", "hv1", "udp port 6081");
    for (from, to) in
        [("vm1", "192.168.7.12"), ("vm1", "fd07::12"), ("vm1", "192.168.7.99"), ("out", "192.168.7.12")]
    {
        ovn.ping(from, to);
    }
    ovn.until("tagged packets on the wire", || wire.count("192.168.7.11 > 192.168.7.12") > 0);
    assert_eq!(tunnels.count(" > "), 0, "nothing of it is in a tunnel");
    assert!(!ovn.reaches("vm1", "192.168.7.98"), "another VLAN");
    ovn.say("vm2", 80);
    assert_eq!(ovn.hears("vm1", "192.168.7.12", 80).as_deref(), Some("vm2 192.168.7.11"));
    shaped(&mut ovn);
}

/// What is configured in a hypervisor's br-int, apart from numbers that are given anew.
fn state(ovn: &Ovn, no: usize) -> BTreeSet<String> {
    let ofctl = |args: &[&str]| ovn.sandbox(no).ofctl(&[&["-OOpenFlow15", "--no-names"], args].concat());
    let flows = ofctl(&["--no-stats", "dump-flows", "br-int"]);
    let rest = [ofctl(&["dump-groups", "br-int"]), ofctl(&["dump-meters", "br-int"])].concat();
    let lines = flows.lines().chain(rest.lines().filter(|l| !l.contains("xid=")));
    let numbers = regex::Regex::new(r"\b(meter_id=|meter=|meter:|group_id=|group:)\d+").unwrap();
    lines.map(|line| numbers.replace_all(line, "${1}N").into_owned()).collect()
}

/// The controller, the database and the daemon of a hypervisor end and come back, one after the other and all at once;
/// the state is the same in the end, and so is what works.
#[test]
fn restarts_of_one_of_two_hypervisors() {
    let Some(mut ovn) = Ovn::new(2, "geneve") else { return };
    ovn.two_switches(&[1, 2, 1, 2]);
    ovn.gateway(&["hv2"]);
    ovn.outsider(2, "out", "50:54:00:00:00:aa", "172.16.0.99/24");
    ovn.nbctl(
        "lb-add lb0 10.0.9.9:80 10.0.2.13:80,10.0.2.14:80 -- ls-lb-add ls0 lb0 -- meter-add slow drop 5 pktps \
         -- lr-nat-add lr0 dnat_and_snat 172.16.0.50 10.0.2.13",
    );
    ovn.nbctl_words(&[
        "--log",
        "--meter=slow",
        "acl-add",
        "ls0",
        "to-lport",
        "1000",
        "tcp.dst == 81",
        "reject",
    ]);
    ovn.nbctl_words(&["qos-add", "ls0", "from-lport", "100", "udp.dst == 6000", "rate=1000"]);
    ovn.sync();
    ovn.say("vm4", 80);
    ovn.say("vm3", 80);
    ovn.say("out", 80);
    let works = |ovn: &Ovn| {
        ovn.sync();
        for (from, to) in
            [("vm1", "10.0.1.12"), ("vm1", "fd02::14"), ("vm2", "172.16.0.99"), ("out", "172.16.0.50")]
        {
            ovn.ping(from, to);
        }
        for (from, to) in
            [("vm1", "10.0.9.9"), ("vm2", "10.0.9.9"), ("vm1", "172.16.0.99"), ("out", "172.16.0.50")]
        {
            ovn.until(&format!("{from} hears {to}"), || ovn.hears(from, to, 80).is_some());
        }
        assert_eq!(ovn.connects("vm4", "10.0.1.11", 81), "refused");
    };
    works(&ovn);
    let before = state(&ovn, 2);
    assert!(before.len() > 500, "{} lines", before.len());
    let restarts: [fn(&mut Ovn); 4] = [
        |ovn| {
            ovn.kill_controller(2);
            ovn.start_controller(2);
        },
        |ovn| {
            ovn.sandbox_mut(2).stop_database();
            ovn.sandbox_mut(2).start_database();
        },
        |ovn| {
            ovn.sandbox_mut(2).kill_daemon();
            ovn.sandbox_mut(2).start_daemon();
        },
        |ovn| {
            ovn.kill_controller(2);
            ovn.sandbox_mut(2).kill_daemon();
            ovn.sandbox_mut(2).stop_database();
            ovn.sandbox_mut(2).start_database();
            ovn.sandbox_mut(2).start_daemon();
            ovn.start_controller(2);
        },
    ];
    for restart in restarts {
        restart(&mut ovn);
        works(&ovn);
        let after = state(&ovn, 2);
        let differ: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(differ.is_empty(), "{differ:#?}");
    }
}
