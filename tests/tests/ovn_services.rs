//! Load balancers of Debian's OVN on our daemon: health checks, affinity, hairpin, and both ends translated.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeSet;
use tests::ovn::Ovn;

/// The machines that answer at an address, and the addresses that they see, over this many connections.
fn answers(ovn: &Ovn, from: &str, to: &str, port: u16, times: usize) -> BTreeSet<String> {
    ovn.hears_times(from, to, port, times).into_iter().collect()
}

/// The same machines alone.
fn who(ovn: &Ovn, from: &str, to: &str, port: u16) -> BTreeSet<String> {
    let name = |said: String| said.split(' ').next().unwrap_or_default().to_owned();
    answers(ovn, from, to, port, 24).into_iter().map(name).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// A back end that dies is found out by ovn-controller's own connections and gets no more clients; it comes back.
fn health(ovn: &mut Ovn) {
    ovn.nbctl("lb-add checked 10.0.9.1:80 10.0.2.13:80,10.0.2.14:80 -- ls-lb-add ls0 checked");
    for no in [3, 4] {
        ovn.nbctl(&format!("set Load_Balancer checked ip_port_mappings:10.0.2.1{no}=vm{no}:10.0.2.200"));
    }
    ovn.nbctl_words(&[
        "--id=@check",
        "create",
        "Load_Balancer_Health_Check",
        "vip=\"10.0.9.1:80\"",
        "options:interval=1",
        "options:timeout=1",
        "options:success_count=1",
        "options:failure_count=2",
        "--",
        "add",
        "Load_Balancer",
        "checked",
        "health_check",
        "@check",
    ]);
    ovn.say("vm3", 80);
    let dies = ovn.say("vm4", 80);
    let status = |ovn: &Ovn, port: &str, wanted: &str| {
        ovn.until(&format!("{port} is {wanted}"), || {
            let line = format!("--bare --columns=status find Service_Monitor logical_port={port}");
            ovn.sbctl(&line).trim() == wanted
        });
        ovn.sync();
    };
    status(ovn, "vm3", "online");
    status(ovn, "vm4", "online");
    assert_eq!(who(ovn, "vm1", "10.0.9.1", 80), set(["vm3", "vm4"]));
    ovn.end(dies);
    status(ovn, "vm4", "offline");
    assert_eq!(answers(ovn, "vm1", "10.0.9.1", 80, 12).len(), 1, "only vm3 is asked");
    assert_eq!(ovn.connects("vm1", "10.0.9.1", 80), "connected");
    ovn.say("vm4", 80);
    status(ovn, "vm4", "online");
    assert_eq!(who(ovn, "vm1", "10.0.9.1", 80), set(["vm3", "vm4"]));
}

/// One client stays with one back end for a while; without that it meets both. OVN remembers a client by a packet that
/// it drops, and in user space (on Debian's daemon, too) the first connection never comes to be; the next one does.
fn affinity(ovn: &Ovn) {
    ovn.nbctl("lb-add faithful 10.0.9.2:80 10.0.2.13:80,10.0.2.14:80 -- ls-lb-add ls0 faithful");
    ovn.nbctl("set Load_Balancer faithful options:affinity_timeout=600");
    ovn.sync();
    for client in ["vm1", "vm2"] {
        assert_eq!(who(ovn, client, "10.0.9.2", 80).len(), 1, "{client} stays");
    }
    ovn.nbctl("remove Load_Balancer faithful options affinity_timeout");
    ovn.sync();
    assert_eq!(who(ovn, "vm1", "10.0.9.2", 80), set(["vm3", "vm4"]));
    // A client that stays away is forgotten: the flow that remembers it goes.
    ovn.nbctl("set Load_Balancer faithful options:affinity_timeout=5");
    ovn.sync();
    let remembered = || ovn.sandbox(1).ofctl(&["-OOpenFlow15", "dump-flows", "br-int", "table=78"]);
    ovn.until("a connection", || ovn.connects("vm1", "10.0.9.2", 80) == "connected");
    let flows = remembered();
    assert!(flows.contains("idle_timeout=5"), "{flows}");
    ovn.until("the client is forgotten", || !remembered().contains("idle_timeout=5"));
}

/// A back end calls its own service, over IPv4 and IPv6, and sees an address that is not its own.
fn hairpin(ovn: &Ovn) {
    ovn.nbctl("lb-add own 10.0.9.3:80 10.0.2.13:80 -- ls-lb-add ls1 own");
    ovn.nbctl("lb-add own6 [fd09::3]:80 [fd02::13]:80 -- ls-lb-add ls1 own6");
    ovn.sync();
    assert_eq!(answers(ovn, "vm3", "10.0.9.3", 80, 1), set(["vm3 10.0.9.3"]));
    assert_eq!(answers(ovn, "vm3", "fd09::3", 80, 1), set(["vm3 fd09::3"]));
    assert_eq!(answers(ovn, "vm4", "10.0.9.3", 80, 1), set(["vm3 10.0.2.14"]), "others keep theirs");
    ovn.nbctl("set Load_Balancer own options:hairpin_snat_ip=10.0.9.250");
    ovn.sync();
    assert_eq!(answers(ovn, "vm3", "10.0.9.3", 80, 1), set(["vm3 10.0.9.250"]));
}

/// A logical switch between ports of routers: their names, MACs and networks.
fn join(ovn: &Ovn, switch: &str, ports: &[(&str, &str, &str)]) {
    ovn.nbctl(&format!("ls-add {switch}"));
    for (router, mac, network) in ports {
        let (port, peer) = (format!("{router}-{switch}"), format!("{switch}-{router}"));
        ovn.nbctl(&format!(
            "lrp-add {router} {port} {mac} {network} -- lsp-add {switch} {peer} -- lsp-set-type {peer} router \
             -- lsp-set-addresses {peer} router -- lsp-set-options {peer} router-port={port}"
        ));
    }
}

/// Two gateway routers in a row that translate both ends each: the deepest of pipelines, in which a packet goes round
/// more often than Debian's own daemon lets it.
fn both_ends(ovn: &mut Ovn) {
    for router in ["gw1", "gw2"] {
        ovn.nbctl(&format!(
            "lr-add {router} -- set Logical_Router {router} options:chassis=hv1 options:lb_force_snat_ip=router_ip"
        ));
    }
    join(ovn, "public", &[("gw1", "00:00:00:00:fe:01", "172.16.0.1/24")]);
    join(
        ovn,
        "j1",
        &[("gw1", "00:00:00:00:fe:02", "100.64.0.1/24"), ("gw2", "00:00:00:00:fe:03", "100.64.0.2/24")],
    );
    join(
        ovn,
        "j2",
        &[("gw2", "00:00:00:00:fe:04", "100.65.0.2/24"), ("lr0", "00:00:00:00:fe:05", "100.65.0.1/24")],
    );
    ovn.nbctl(
        "lsp-add public ln -- lsp-set-type ln localnet -- lsp-set-addresses ln unknown \
         -- lsp-set-options ln network_name=phys -- lr-route-add gw2 10.0.0.0/16 100.65.0.1 \
         -- lr-route-add gw2 0.0.0.0/0 100.64.0.1 -- lr-route-add lr0 0.0.0.0/0 100.65.0.2 \
         -- lr-nat-add gw1 snat 172.16.0.1 100.64.0.0/24 -- lr-nat-add gw2 snat 100.64.0.2 10.0.0.0/16 \
         -- lb-add outer 172.16.0.80:80 100.64.0.80:80 -- lr-lb-add gw1 outer \
         -- lb-add inner 100.64.0.80:80 10.0.2.13:80,10.0.2.14:80 -- lr-lb-add gw2 inner",
    );
    for switch in ["ls1", "j1", "j2", "public"] {
        for direction in ["from-lport", "to-lport"] {
            ovn.nbctl_words(&["acl-add", switch, direction, "1000", "ip", "allow-related"]);
        }
    }
    ovn.outsider(1, "out", "50:54:00:00:00:aa", "172.16.0.99/24");
    ovn.say("out", 80);
    ovn.sync();
    assert_eq!(answers(ovn, "vm1", "172.16.0.99", 80, 1), set(["out 172.16.0.1"]), "and out through both");
    let heard = answers(ovn, "out", "172.16.0.80", 80, 24);
    assert_eq!(
        heard,
        set(["vm3 100.65.0.2", "vm4 100.65.0.2"]),
        "{}",
        ovn.sandbox(1).appctl(&["coverage/show"])
    );
}

#[test]
fn load_balancers_of_all_sorts() {
    let Some(mut ovn) = Ovn::new(1, "geneve") else { return };
    ovn.two_switches(&[1, 1, 1, 1]);
    health(&mut ovn);
    affinity(&ovn);
    hairpin(&ovn);
    both_ends(&mut ovn);
}
