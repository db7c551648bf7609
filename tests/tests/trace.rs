//! `ofproto/trace` of the same packets through the same tables, by Debian's daemon and ours: the same tree,
//! final flow, megaflow and datapath actions.
//!
//! Two things may differ: identifiers of frozen states, and the order of a flood's outputs, which is the order
//! of a hash table in the one and that of port numbers in the other.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::Path;
use tests::differential::STOCK as STOCK_DAEMON;
use tests::{Sandbox, daemon_binary};

const FLOWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/trace/flows.txt");

/// A bridge with five ports of different VLAN modes and the tables of `flows.txt`.
fn switch(daemon: &Path) -> Sandbox {
    let s = Sandbox::with_daemon(daemon, &["--enable-dummy=override", "--disable-system"]);
    let bridge = ["set", "bridge", "br0", "datapath_type=dummy", "fail_mode=secure"];
    s.vsctl(&[&["add-br", "br0", "--"][..], &bridge, &["other-config:hwaddr=aa:66:aa:66:00:00"]].concat());
    for i in 1..=5 {
        let (port, wanted) = (format!("p{i}"), format!("ofport_request={i}"));
        s.vsctl(&["add-port", "br0", &port, "--", "set", "interface", &port, "type=dummy", &wanted]);
    }
    s.vsctl(&["set", "port", "p3", "tag=10"]);
    s.vsctl(&["set", "port", "p4", "tag=20", "vlan_mode=native-tagged"]);
    s.vsctl(&["set", "port", "p5", "tag=30", "vlan_mode=dot1q-tunnel"]);
    s.ofctl(&["-O", "OpenFlow13", "add-flows", "br0", FLOWS]);
    s
}

/// Numbers that look arbitrary and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

fn packets() -> Vec<String> {
    let mut dice = Dice(4);
    let mut all = Vec::new();
    for i in 0..60 {
        let (src, net) = (dice.roll(4), dice.pick(&[0, 0, 0, 1]));
        let (host, port) = (dice.pick(&[1, 14, 15, 16, 200]), dice.pick(&[80, 22, 443, 8443]));
        let (from, flags) = (dice.roll(65_536), dice.pick(&[2, 16, 18]));
        all.push(format!(
            "in_port=1,tcp,nw_src=10.1.{src}.{i},nw_dst=10.0.{net}.{host},nw_ttl=64,tp_src={from},tp_dst={port},tcp_flags={flags}"
        ));
    }
    for i in 0..25 {
        let (src, port) = (dice.pick(&["192.168.1.1", "10.1.1.1"]), dice.pick(&[53, 80]));
        all.push(format!(
            "in_port=1,udp,dl_src=02:00:00:00:00:0{},nw_src={src},nw_dst=10.0.0.{i},tp_dst={port},nw_ttl=9",
            i % 10
        ));
    }
    all.extend(
        [0, 1, 2, 64]
            .map(|ttl| format!("in_port=1,icmp,nw_src=1.1.1.1,nw_dst=2.2.2.2,nw_ttl={ttl},icmp_type=8")),
    );
    let tags = ["", "dl_vlan=10,", "dl_vlan=20,", "dl_vlan=30,", "dl_vlan=99,dl_vlan_pcp=3,"];
    for port in 2..=5 {
        all.extend(tags.map(|tag| {
            format!("in_port={port},{tag}dl_src=02:00:00:00:00:1{port},dl_dst=02:00:00:00:00:2{port},dl_type=0x1234")
        }));
    }
    let others = [
        "in_port=1,arp,dl_src=02:00:00:00:00:07,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.2",
        "in_port=2,dl_dst=01:80:c2:00:00:00",
        "in_port=1,dl_vlan=5,dl_type=0x1234",
        "in_port=1,dl_vlan=5,dl_vlan_pcp=2,tcp,nw_dst=9.9.9.9",
        "in_port=1,dl_type=0x1234",
        "in_port=1,icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::1,icmpv6_type=135,nd_target=2001::1",
        "in_port=1,tcp6,ipv6_src=2001:db8::1,ipv6_dst=2001:db8::2,nw_ttl=5",
        "in_port=1,udp6,ipv6_dst=fe80::2",
        "in_port=9,tcp",
        "in_port=LOCAL,ip",
        "in_port=1,tcp,nw_frag=first,nw_dst=10.0.0.1,tp_dst=80",
        "in_port=1,tcp,nw_frag=later,nw_dst=10.0.0.1",
        "in_port=1,nonsense=3",
    ];
    all.extend(others.map(str::to_owned));
    all
}

/// A trace with frozen states unnamed and floods in order.
fn normal_form(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if let Some(at) = line.find("recirc_id=").filter(|_| line.contains("userspace(")) {
            let end = line[at..].find(',').map_or(line.len(), |n| at + n);
            line.replace_range(at..end, "recirc_id=ID");
        }
        let outputs = line.strip_prefix("Datapath actions: ").map(|a| a.split(',').collect::<Vec<_>>());
        if let Some(mut outputs) = outputs.filter(|o| o.iter().all(|p| p.parse::<u32>().is_ok())) {
            outputs.sort_unstable();
            line = format!("Datapath actions: {}", outputs.join(","));
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[test]
fn traces_agree_with_the_stock_daemon() {
    if !Path::new(STOCK_DAEMON).exists() {
        eprintln!("skipped: no {STOCK_DAEMON} to compare with");
        return;
    }
    let (stock, ours) = (switch(Path::new(STOCK_DAEMON)), switch(daemon_binary()));
    let packets = packets();
    assert!(packets.len() >= 100);
    let mut differ = Vec::new();
    for packet in &packets {
        let trace = |s: &Sandbox| {
            let out = s.appctl_output(&["ofproto/trace", "br0", packet]);
            normal_form(&(String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr)))
        };
        let (theirs, ours) = (trace(&stock), trace(&ours));
        if theirs != ours {
            differ.push(format!("{packet}\n--- stock\n{theirs}\n--- ours\n{ours}\n"));
        }
    }
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), packets.len(), differ.join("\n"));
}
