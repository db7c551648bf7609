//! What Debian's OVN does to traffic on our daemons: it is marked, metered and mirrored.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::time::Instant;
use tests::ovn::Ovn;

/// A rule with a rate is a meter: what arrives is what the rate allows, in the time that it took.
fn metered(ovn: &mut Ovn) {
    ovn.nbctl_words(&[
        "qos-add",
        "ls0",
        "from-lport",
        "100",
        "inport == \"vm1\" && udp.dst == 6000",
        "rate=1000",
        "burst=100",
    ]);
    ovn.sync();
    let meters = ovn.sandbox(1).ofctl(&["-OOpenFlow15", "dump-meters", "br-int"]);
    assert!(meters.contains("kbps burst") && meters.contains("rate=1000 burst_size=100"), "{meters}");
    let limited = ovn.sink("vm4", 6000, "");
    let free = ovn.sink("vm4", 6002, "");
    let start = Instant::now();
    ovn.send("vm1", "10.0.2.14", 6000, 1000, 958, 2.0);
    let seconds = start.elapsed().as_secs_f64();
    ovn.send("vm1", "10.0.2.14", 6002, 1000, 958, 2.0);
    // A machine that is busy may lose some, but not as many.
    ovn.until("the others arrive", || free.seen().len() > 700);
    // Packets of 8,000 bits: Ethernet, IPv4 and UDP headers have 42 bytes.
    let (bits, most) = (limited.seen().len() as f64 * 8e3, 1e5 + 1e6 * seconds);
    assert!(bits <= 1.05 * most, "{bits} bits in {seconds} s");
    assert!(bits >= 0.8 * 2e6, "{bits} bits in {seconds} s");
}

/// Packets are marked on their way from a port or to it, IPv4 and IPv6, and over a tunnel.
fn marked(ovn: &mut Ovn) {
    let mark = |direction: &str, what: &str, dscp: &str| {
        ovn.nbctl_words(&["qos-add", "ls0", direction, "101", what, dscp]);
    };
    mark("from-lport", "inport == \"vm1\" && udp.dst == 6100", "dscp=46");
    mark("to-lport", "outport == \"vm2\" && udp.dst == 6101", "dscp=10");
    ovn.sync();
    let local = ovn.watch("vm2", "-v -t udp portrange 6100-6101");
    let remote = ovn.watch("vm4", "-v -t udp portrange 6100-6101");
    let seen = |ovn: &Ovn, to: &str, port: u16, lines: &tests::probes::Lines, mark: &str| {
        let before = lines.count(mark);
        ovn.send("vm1", to, port, 3, 10, 0.1);
        ovn.until(&format!("{mark} at {to}"), || lines.count(mark) == before + 3);
    };
    seen(ovn, "10.0.1.12", 6100, &local, "tos 0xb8");
    seen(ovn, "10.0.2.14", 6100, &remote, "tos 0xb8");
    seen(ovn, "fd02::14", 6100, &remote, "class 0xb8");
    seen(ovn, "10.0.1.12", 6101, &local, "tos 0x28");
    assert_eq!(remote.count("tos 0x28"), 0);
}

/// What a port sends or gets is copied to a machine elsewhere, over GRE and ERSPAN, until the mirror is taken away.
fn mirrored(ovn: &mut Ovn) {
    let copies = ovn.watch_on("hv2", "br-phys", "-v ip proto 47");
    ovn.nbctl("mirror-add out gre 7 from-lport 192.168.100.2 -- lsp-attach-mirror vm1 out");
    ovn.sync();
    ovn.sandbox(1).until("a mirror", || {
        ovn.sandbox(1).vsctl(&["--bare", "--columns=name", "list", "mirror"]).contains("out")
    });
    ovn.ping("vm1", "10.0.1.12");
    ovn.until("requests come with their key", || {
        copies.count("key=0x7") > 0 && copies.count("10.0.1.11 > 10.0.1.12: ICMP echo request") > 0
    });
    assert_eq!(copies.count("10.0.1.12 > 10.0.1.11: ICMP echo reply"), 0, "from the port only");
    ovn.nbctl("lsp-detach-mirror vm1 out -- mirror-del out");
    ovn.nbctl("mirror-add in erspan 9 to-lport 192.168.100.2 -- lsp-attach-mirror vm1 in");
    ovn.sync();
    ovn.sandbox(1).until("the other mirror", || {
        ovn.sandbox(1).vsctl(&["--bare", "--columns=name", "list", "mirror"]).trim() == "in"
    });
    let before = copies.count("gre-proto-0x88be");
    ovn.ping("vm1", "10.0.1.12");
    ovn.until("replies come as ERSPAN", || copies.count("gre-proto-0x88be") > before);
    ovn.nbctl("lsp-detach-mirror vm1 in -- mirror-del in");
    ovn.sync();
    ovn.sandbox(1).until("no mirror", || ovn.sandbox(1).vsctl(&["list", "mirror"]).trim().is_empty());
    ovn.until("no copies any more", || {
        let before = copies.seen().len();
        ovn.ping("vm1", "10.0.1.12");
        copies.seen().len() == before
    });
}

#[test]
fn marked_metered_mirrored() {
    let Some(mut ovn) = Ovn::new(2, "geneve") else { return };
    ovn.two_switches(&[1, 1, 2, 2]);
    ovn.ping("vm1", "10.0.2.14");
    marked(&mut ovn);
    metered(&mut ovn);
    mirrored(&mut ovn);
}
