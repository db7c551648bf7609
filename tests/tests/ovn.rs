//! Debian's OVN, unmodified, on our daemon; every check is one of real packets between namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use tests::ovn::Ovn;

/// The usual topology, all of it on one hypervisor.
fn one_hypervisor() -> Option<Ovn> {
    let mut ovn = Ovn::new(1, "geneve")?;
    ovn.two_switches(&[1, 1, 1, 1]);
    Some(ovn)
}

#[test]
fn switches_and_a_router() {
    let Some(ovn) = one_hypervisor() else { return };
    for to in ["10.0.1.12", "10.0.2.13", "fd01::12", "fd02::14", "10.0.1.1", "fd01::1"] {
        ovn.ping("vm1", to);
    }
    // An address that nobody has is answered for by nobody.
    assert!(!ovn.reaches("vm1", "10.0.2.99"));
}

/// DHCP, DHCPv6 through the switch's own responder; names through its DNS.
#[test]
fn dhcp_and_dns() {
    let Some(ovn) = one_hypervisor() else { return };
    let options = ovn.nbctl("create DHCP_Options cidr=10.0.1.0/24 options:server_id=10.0.1.1 options:server_mac=00:00:00:00:ff:01 options:lease_time=3600 options:router=10.0.1.1 options:mtu=1400");
    ovn.nbctl(&format!("lsp-set-dhcpv4-options vm1 {}", options.trim()));
    let dns = ovn.nbctl_words(&["create", "DNS", "records:vm3.ovn.test=10.0.2.13"]);
    ovn.nbctl(&format!("set Logical_Switch ls0 dns_records={}", dns.trim()));
    ovn.sync();
    ovn.ip("vm1", "addr flush dev eth0 scope global");
    let out = ovn.output("vm1", "udhcpc -f -n -q -t 5 -T 1 -i eth0 -s /bin/true");
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("lease of 10.0.1.11 obtained"), "{said}\n{}", ovn.logs());
    let question = "import socket,struct\n\
        q=struct.pack('>6H',7,256,1,0,0,0)+b'\\x03vm3\\x03ovn\\x04test\\x00'+struct.pack('>2H',1,1)\n\
        s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(5)\ns.sendto(q,('10.0.1.1',53))\n\
        print(socket.inet_ntoa(s.recv(512)[-4:]))";
    ovn.ip("vm2", "neigh replace 10.0.1.1 lladdr 00:00:00:00:ff:01 dev eth0");
    assert_eq!(ovn.python("vm2", question), "10.0.2.13");
}

/// Stateful and stateless access lists, port groups, address sets, logging.
#[test]
fn access_lists() {
    let Some(mut ovn) = one_hypervisor() else { return };
    ovn.nbctl("pg-add pg vm1 vm2");
    let to_lport = |priority: &str, to: &str, what: &str, verdict: &str| {
        ovn.nbctl_words(&["--type=port-group", "acl-add", "pg", to, priority, what, verdict]);
    };
    to_lport("1000", "to-lport", "outport == @pg && ip", "drop");
    to_lport("1001", "from-lport", "inport == @pg && ip", "allow-related");
    to_lport("1002", "to-lport", "outport == @pg && ip4.src == $friends && tcp.dst == 80", "allow-related");
    to_lport("1002", "to-lport", "outport == @pg && icmp4", "allow-related");
    ovn.nbctl_words(&["create", "Address_Set", "name=friends", "addresses=10.0.2.13"]);
    ovn.sync();
    ovn.say("vm1", 80);
    ovn.say("vm1", 81);
    ovn.say("vm4", 80);
    ovn.ping("vm3", "10.0.1.11");
    assert_eq!(ovn.hears("vm3", "10.0.1.11", 80).as_deref(), Some("vm1 10.0.2.13"));
    assert_eq!(ovn.hears("vm3", "10.0.1.11", 81), None, "no list allows it");
    assert_eq!(ovn.hears("vm4", "10.0.1.11", 80), None, "not a friend");
    assert_eq!(ovn.hears("vm1", "10.0.2.14", 80).as_deref(), Some("vm4 10.0.1.11"), "an answer comes back");
    ovn.nbctl_words(&["set", "Address_Set", "friends", "addresses=10.0.2.14"]);
    ovn.sync();
    assert_eq!(ovn.hears("vm4", "10.0.1.11", 80).as_deref(), Some("vm1 10.0.2.14"));
    assert_eq!(ovn.hears("vm3", "10.0.1.11", 80), None, "no friend any more");
}

/// Load balancers on the switch and the router, with hairpin.
#[test]
fn load_balancers() {
    let Some(mut ovn) = one_hypervisor() else { return };
    ovn.nbctl("lb-add lb0 10.0.9.9:80 10.0.2.13:80,10.0.2.14:80 -- ls-lb-add ls0 lb0 -- ls-lb-add ls1 lb0");
    ovn.sync();
    ovn.say("vm3", 80);
    ovn.say("vm4", 80);
    let heard: std::collections::BTreeSet<String> =
        (0..40).filter_map(|_| ovn.hears("vm1", "10.0.9.9", 80)).collect();
    let both = ["vm3 10.0.1.11", "vm4 10.0.1.11"].map(String::from);
    assert!(heard.into_iter().eq(both), "both back ends answer");
    // A back end that calls its own service reaches it, too: through a source address that is not its own.
    ovn.nbctl("lb-del lb0 -- lb-add lb1 10.0.9.9:80 10.0.2.13:80 -- ls-lb-add ls1 lb1");
    ovn.sync();
    assert!(ovn.hears("vm3", "10.0.9.9", 80).is_some_and(|said| said.starts_with("vm3")));
}

/// Source and destination translation at a gateway port, and an address of one's own outside.
#[test]
fn addresses_translated() {
    let Some(mut ovn) = one_hypervisor() else { return };
    ovn.outsider(1, "out", "50:54:00:00:00:aa", "172.16.0.99/24");
    ovn.gateway(&["hv1"]);
    ovn.nbctl("lr-nat-add lr0 dnat_and_snat 172.16.0.50 10.0.2.13");
    ovn.sync();
    ovn.say("out", 80);
    ovn.say("vm3", 80);
    ovn.ping("vm1", "172.16.0.99");
    assert_eq!(ovn.hears("vm1", "172.16.0.99", 80).as_deref(), Some("out 172.16.0.1"));
    assert_eq!(ovn.hears("vm3", "172.16.0.99", 80).as_deref(), Some("out 172.16.0.50"));
    ovn.ping("out", "172.16.0.50");
    assert_eq!(ovn.hears("out", "172.16.0.50", 80).as_deref(), Some("vm3 172.16.0.99"));
}

/// Machines of one switch on two hypervisors, a router over both, and a gateway on the second.
fn across(encap: &str) {
    let Some(mut ovn) = Ovn::new(2, encap) else { return };
    ovn.two_switches(&[1, 2, 1, 2]);
    ovn.gateway(&["hv2"]);
    ovn.outsider(2, "out", "50:54:00:00:00:aa", "172.16.0.99/24");
    ovn.sync();
    for to in ["10.0.1.12", "10.0.2.13", "10.0.2.14", "fd01::12", "fd02::14"] {
        ovn.ping("vm1", to);
    }
    ovn.say("vm4", 80);
    ovn.say("out", 80);
    assert_eq!(ovn.hears("vm1", "10.0.2.14", 80).as_deref(), Some("vm4 10.0.1.11"));
    ovn.ping("vm1", "172.16.0.99");
    assert_eq!(
        ovn.hears("vm1", "172.16.0.99", 80).as_deref(),
        Some("out 172.16.0.1"),
        "translated at the gateway"
    );
    assert_eq!(ovn.hears("vm2", "172.16.0.99", 80).as_deref(), Some("out 172.16.0.1"));
}

#[test]
fn across_hypervisors_over_geneve() {
    across("geneve");
}

#[test]
fn across_hypervisors_over_vxlan() {
    across("vxlan");
}

/// The gateway with the higher priority dies; the other one finds out by BFD and takes over.
#[test]
fn a_gateway_fails() {
    let Some(mut ovn) = Ovn::new(3, "geneve") else { return };
    ovn.two_switches(&[1, 1, 1, 1]);
    ovn.gateway(&["hv3", "hv2"]);
    ovn.sync();
    ovn.outsider(2, "out2", "50:54:00:00:00:a2", "172.16.0.98/24");
    ovn.outsider(3, "out3", "50:54:00:00:00:a3", "172.16.0.99/24");
    ovn.ping("vm1", "172.16.0.99");
    assert!(!ovn.reaches("vm1", "172.16.0.98"), "hv2 is the second choice");
    ovn.sandbox_mut(3).kill_daemon();
    ovn.kill_controller(3);
    ovn.ping("vm1", "172.16.0.98");
}

/// ovn-controller, the database and the daemon each go and come back; what is configured is there again.
#[test]
fn everything_restarts() {
    let Some(mut ovn) = one_hypervisor() else { return };
    ovn.nbctl("lb-add lb0 10.0.9.9:80 10.0.2.13:80 -- ls-lb-add ls0 lb0");
    ovn.sync();
    ovn.say("vm3", 80);
    let works = |ovn: &Ovn| {
        ovn.sync();
        ovn.ping("vm1", "10.0.2.13");
        let end = std::time::Instant::now() + tests::PATIENCE;
        while ovn.hears("vm1", "10.0.9.9", 80).is_none() {
            assert!(std::time::Instant::now() < end, "the service is gone\n{}", ovn.logs());
        }
    };
    works(&ovn);
    let flows = |ovn: &Ovn| {
        let dump =
            ovn.sandbox(1).ofctl(&["-OOpenFlow15", "--no-stats", "--no-names", "dump-flows", "br-int"]);
        let mut lines: Vec<String> = dump.lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = flows(&ovn);
    ovn.kill_controller(1);
    ovn.start_controller(1);
    works(&ovn);
    ovn.sandbox_mut(1).stop_database();
    // (Debian's own does not: its main thread, which polls these ports, then waits for the lock.)
    assert!(ovn.reaches("vm1", "10.0.2.13"), "without a database the switch forwards on");
    ovn.sandbox_mut(1).start_database();
    works(&ovn);
    ovn.sandbox_mut(1).kill_daemon();
    ovn.sandbox_mut(1).start_daemon();
    works(&ovn);
    let after = flows(&ovn);
    assert_eq!(before.len(), after.len(), "the same flows");
}
