//! Hosts meet through tunnels: of two daemons, and of a daemon and the Linux kernel. Needs root; is skipped with the
//! reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::path::Path;
use tests::daemon_binary;
use tests::differential::STOCK;
use tests::net::{Lan, SWITCH};

/// Puts a tunnel in place of the one before; options as in `options:NAME=VALUE`.
fn set_tunnel(lan: &Lan, kind: &str, options: &[&str]) {
    let mut args = vec!["--if-exists", "del-port", "tun", "--", "add-port", "br0", "tun", "--", "set"];
    let kind = format!("type={kind}");
    args.extend(["interface", "tun", &kind, "ofport_request=9"]);
    let options: Vec<String> = options.iter().map(|o| format!("options:{o}")).collect();
    args.extend(options.iter().map(String::as_str));
    lan.sandbox.vsctl(&args);
    assert_eq!(lan.sandbox.get("Interface", "tun", "error"), "[]");
}

/// A LAN with host `hNO` on `br0` of this daemon.
fn site_of(daemon: &Path, no: usize) -> Option<Lan> {
    let mut lan = Lan::on(daemon)?;
    lan.host(no);
    let name = format!("h{no}");
    lan.ip(&name, "link set eth0 mtu 1400");
    lan.sandbox.vsctl(&["add-port", "br0", &name]);
    Some(lan)
}

/// Waits until the first packet gets through: neighbours must be found first.
fn meet(lan: &Lan, from: &str, to: &str) {
    // The other host may have another device than before.
    lan.ip(from, "neigh flush all");
    let arrived = || lan.output(from, &format!("ping -n -c 1 -W 1 {to}")).status.success();
    let what = format!("{from} reaches {to}");
    lan.sandbox.until(&what, arrived);
}

/// Two sites with a wire between them, the second one's daemon being `other`.
fn two_sites(other: &Path) -> Option<(Lan, Lan)> {
    let (a, b) = (site_of(daemon_binary(), 1)?, site_of(other, 2)?);
    a.cable(&b, SWITCH, "wire0");
    a.underlay("wire0", 1);
    b.underlay("wire0", 2);
    Some((a, b))
}

fn meet_through_every_kind(other: &Path) {
    let Some((a, mut b)) = two_sites(other) else { return };
    // The stock daemon does not make the checksums that a host leaves to its device.
    b.run("h2", "ethtool -K eth0 tx off");
    b.serve_iperf("h2");
    // GRE with both is wrong in the stock daemon, which sums up before it numbers.
    let v4: [(&str, &[&str]); 8] = [
        ("geneve", &["key=7"]),
        ("geneve", &["key=7", "csum=true"]),
        ("vxlan", &["key=7", "dst_port=4790"]),
        ("vxlan", &["key=7", "exts=gpe"]),
        ("gre", &["key=7", "seq=true"]),
        ("gre", &["csum=true"]),
        ("erspan", &["key=7", "erspan_ver=1", "erspan_idx=5"]),
        ("erspan", &["key=7", "erspan_ver=2", "erspan_dir=1", "erspan_hwid=0x7"]),
    ];
    let v6: [(&str, &[&str]); 4] = [
        ("geneve", &["key=7"]),
        ("vxlan", &["key=7"]),
        ("ip6gre", &["key=7"]),
        ("ip6erspan", &["key=7", "erspan_ver=2", "erspan_dir=1", "erspan_hwid=0x7"]),
    ];
    let v4 = v4.iter().map(|t| (["remote_ip=172.31.1.1", "remote_ip=172.31.1.2"], t));
    let v6 = v6.iter().map(|t| (["remote_ip=\"fd01::1\"", "remote_ip=\"fd01::2\""], t));
    for (remotes, (kind, options)) in v4.chain(v6) {
        set_tunnel(&a, kind, &[&remotes[1..], *options].concat());
        set_tunnel(&b, kind, &[&remotes[..1], *options].concat());
        meet(&a, "h1", "10.0.0.2");
        a.ping("h1", "10.0.0.2", 20);
        a.ping("h1", "fd00::2", 5);
        let (bits, back) = (a.iperf("h1", "10.0.0.2", "-t 1"), a.iperf("h1", "10.0.0.2", "-t 1 -R"));
        assert!(bits > 5e6 && back > 5e6, "{kind} {remotes:?}: {bits} {back}");
    }
    let flows = a.sandbox.appctl(&["dpctl/dump-flows"]);
    assert!(flows.contains("tnl_push(") && flows.contains("tnl_pop("), "{flows}");
}

#[test]
fn hosts_meet_through_tunnels_of_two_daemons() {
    meet_through_every_kind(daemon_binary());
}

#[test]
fn hosts_meet_through_tunnels_to_the_stock_daemon() {
    if Path::new(STOCK).exists() {
        meet_through_every_kind(Path::new(STOCK));
    } else {
        eprintln!("skipped: no {STOCK}");
    }
}

/// A namespace `peer` with the kernel's end of a tunnel, and a host on our end.
fn with_kernel() -> Option<Lan> {
    let mut lan = site_of(daemon_binary(), 1)?;
    lan.namespace("peer");
    lan.cable(&lan, "peer", "wire0");
    lan.underlay("wire0", 1);
    lan.ip("peer", "addr add 172.31.1.2/24 dev wire0");
    lan.ip("peer", "addr add fd01::2/64 dev wire0 nodad");
    Some(lan)
}

#[test]
fn hosts_meet_through_tunnels_to_the_kernel() {
    let Some(mut lan) = with_kernel() else { return };
    lan.serve_iperf("peer");
    let (v4, v6) = ("local 172.31.1.2 remote 172.31.1.1", "local fd01::2 remote fd01::1");
    let pairs: [(String, &str, &[&str]); 8] = [
        (format!("vxlan id 42 {v4} dstport 4789"), "vxlan", &["remote_ip=172.31.1.2", "key=42"]),
        (
            format!("vxlan id 42 {v4} dstport 4789 gbp"),
            "vxlan",
            &["remote_ip=172.31.1.2", "key=42", "exts=gbp"],
        ),
        (format!("vxlan id 42 {v6} dstport 4789"), "vxlan", &["remote_ip=\"fd01::2\"", "key=42"]),
        ("geneve id 42 remote 172.31.1.1".to_owned(), "geneve", &["remote_ip=172.31.1.2", "key=42"]),
        ("geneve id 42 remote fd01::1".to_owned(), "geneve", &["remote_ip=\"fd01::2\"", "key=42"]),
        (format!("gretap {v4} key 42 csum"), "gre", &["remote_ip=172.31.1.2", "key=42", "csum=true"]),
        (format!("ip6gretap {v6} key 42"), "ip6gre", &["remote_ip=\"fd01::2\"", "key=42"]),
        (
            format!("erspan {v4} seq key 42 erspan_ver 1 erspan 123"),
            "erspan",
            &["remote_ip=172.31.1.2", "key=42", "erspan_ver=1", "erspan_idx=123"],
        ),
    ];
    for (kernel, kind, options) in pairs {
        let made = lan.output("peer", &format!("ip link add name tun0 type {kernel}"));
        if !made.status.success() {
            eprintln!(
                "skipped: this kernel has no {kernel}: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            );
            continue;
        }
        lan.ip("peer", "link set tun0 mtu 1400 up");
        lan.ip("peer", "addr add 10.0.0.2/24 dev tun0");
        set_tunnel(&lan, kind, options);
        meet(&lan, "h1", "10.0.0.2");
        lan.ping("h1", "10.0.0.2", 20);
        let bits = lan.iperf("h1", "10.0.0.2", "-t 1");
        let back = lan.iperf("h1", "10.0.0.2", "-t 1 -R");
        assert!(bits > 5e6 && back > 5e6, "{kernel}: {bits} {back}");
        lan.ip("peer", "link del tun0");
    }
}

/// OVN's kind: one port, everything else said by flows.
#[test]
fn one_port_serves_tunnels_that_flows_describe() {
    let other = Path::new(STOCK);
    let other = if other.exists() { other } else { daemon_binary() };
    let Some((a, b)) = two_sites(other) else { return };
    for (lan, host, peer) in [(&a, "h1", 2), (&b, "h2", 1)] {
        set_tunnel(lan, "geneve", &["remote_ip=flow", "local_ip=flow", "key=flow", "csum=true"]);
        lan.sandbox.ofctl(&["add-tlv-map", "br0", "{class=0x102,type=0x80,len=4}->tun_metadata0"]);
        lan.sandbox.ofctl(&["del-flows", "br0"]);
        let out = format!(
            "in_port={host},actions=set_field:172.31.1.{peer}->tun_dst,set_field:99->tun_id,\
             set_field:0x1000{peer}->tun_metadata0,output:tun"
        );
        lan.sandbox.ofctl(&["add-flow", "br0", &out]);
        let me = 3 - peer;
        let back = format!(
            "in_port=tun,tun_id=99,tun_src=172.31.1.{peer},tun_metadata0=0x1000{me},actions=output:{host}"
        );
        lan.sandbox.ofctl(&["add-flow", "br0", &back]);
    }
    meet(&a, "h1", "10.0.0.2");
    a.ping("h1", "10.0.0.2", 20);
    let flows = a.sandbox.appctl(&["dpctl/dump-flows"]);
    assert!(
        flows.contains("geneve(crit,vni=0x63,options({class=0x102,type=0x80,len=4,0x10002}))"),
        "{flows}"
    );
    // Without a route there is no tunnel.
    let has_route = || a.sandbox.appctl(&["ovs/route/show"]).contains("172.31.1.0/24");
    a.ip(SWITCH, "addr del 172.31.1.1/24 dev br-phys");
    a.sandbox.until("the route is gone", || !has_route());
    assert!(!a.reaches("h1", "10.0.0.2"));
    a.ip(SWITCH, "addr add 172.31.1.1/24 dev br-phys");
    a.sandbox.until("the route is back", has_route);
    meet(&a, "h1", "10.0.0.2");
    // The neighbour moves: what was forwarded to it follows.
    b.sandbox.vsctl(&["set", "bridge", "br-phys", "other-config:hwaddr=02:00:00:00:00:77"]);
    b.output("h2", "ping -n -c 2 -W 1 10.0.0.1");
    meet(&a, "h1", "10.0.0.2");
    assert!(a.sandbox.appctl(&["tnl/neigh/show"]).contains("02:00:00:00:00:77"));
}

/// Tunnels that carry no Ethernet header, between hosts that then need none of each other.
fn carry_bare_packets(other: &Path, kinds: &[(&str, &[&str])]) {
    let Some((a, b)) = two_sites(other) else { return };
    for (kind, options) in kinds {
        for (lan, me, peer) in [(&a, 1, 2), (&b, 2, 1)] {
            let host = format!("h{me}");
            let remote = format!("remote_ip=172.31.1.{peer}");
            set_tunnel(lan, kind, &[&[remote.as_str()], *options].concat());
            lan.ip(&host, "link set eth0 address 02:00:00:00:00:01");
            lan.ip(&host, &format!("neigh replace 10.0.0.{peer} lladdr 02:00:00:00:00:02 dev eth0"));
            lan.sandbox.ofctl(&["del-flows", "br0"]);
            lan.sandbox.ofctl(&["add-flow", "br0", &format!("in_port={host},ip,actions=output:tun")]);
            let back = format!("in_port=tun,ip,actions=set_field:02:00:00:00:00:01->eth_dst,output:{host}");
            lan.sandbox.ofctl(&["add-flow", "br0", &back]);
        }
        let arrived = || a.output("h1", "ping -n -c 1 -W 1 10.0.0.2").status.success();
        a.sandbox.until(&format!("{kind} carries"), arrived);
        a.ping("h1", "10.0.0.2", 20);
    }
    let flows = a.sandbox.appctl(&["dpctl/dump-flows"]);
    assert!(flows.contains("pop_eth,tnl_push(") && flows.contains("push_eth("), "{flows}");
}

const BARE: [(&str, &[&str]); 3] = [
    ("gre", &["packet_type=legacy_l3"]),
    ("vxlan", &["exts=gpe", "packet_type=legacy_l3"]),
    // The stock daemon makes the checksum before the header is complete, and would be refused.
    ("gtpu", &["key=7"]),
];

#[test]
fn packets_without_ethernet_headers_travel() {
    carry_bare_packets(daemon_binary(), &BARE);
}

#[test]
fn packets_without_ethernet_headers_travel_to_the_stock_daemon() {
    if Path::new(STOCK).exists() {
        carry_bare_packets(Path::new(STOCK), &BARE[..2]);
    } else {
        eprintln!("skipped: no {STOCK}");
    }
}
