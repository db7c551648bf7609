//! Hosts meet through tunnels: of two daemons, and of a daemon and the Linux kernel. Needs root; is skipped with the
//! reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

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

/// A LAN with host `hNO` on `br0`.
fn site(no: usize) -> Option<Lan> {
    let mut lan = Lan::new()?;
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

#[test]
fn hosts_meet_through_tunnels_of_two_daemons() {
    let (Some(a), Some(mut b)) = (site(1), site(2)) else { return };
    a.cable(&b, SWITCH, "wire0");
    a.underlay("wire0", 1);
    b.underlay("wire0", 2);
    b.serve_iperf("h2");
    let v4: [(&str, &[&str]); 6] = [
        ("geneve", &["key=7"]),
        ("geneve", &["key=7", "csum=true"]),
        ("vxlan", &["key=7", "dst_port=4790"]),
        ("vxlan", &["key=7", "exts=gpe"]),
        ("gre", &["key=7", "seq=true", "csum=true"]),
        ("erspan", &["key=7", "erspan_ver=2", "erspan_dir=1", "erspan_hwid=0x7"]),
    ];
    let v6: [(&str, &[&str]); 3] = [("geneve", &["key=7"]), ("vxlan", &["key=7"]), ("ip6gre", &["key=7"])];
    let all = v4.iter().map(|t| ("172.31.1", t)).chain(v6.iter().map(|t| ("fd01:", t)));
    for (net, (kind, options)) in all {
        for (lan, other) in [(&a, 2), (&b, 1)] {
            let separator = if net.contains(':') { ":" } else { "." };
            let remote =
                format!("remote_ip={net}{separator}{other}").replace("fd01::", "\"fd01::").to_owned();
            let remote = if net.contains(':') { remote + "\"" } else { remote };
            set_tunnel(lan, kind, &[&[remote.as_str()], *options].concat());
        }
        meet(&a, "h1", "10.0.0.2");
        a.ping("h1", "10.0.0.2", 20);
        a.ping("h1", "fd00::2", 5);
        let bits = a.iperf("h1", "10.0.0.2", "-t 1");
        assert!(bits > 5e6, "{kind} over {net}: {bits}");
    }
    let flows = a.sandbox.appctl(&["dpctl/dump-flows"]);
    assert!(flows.contains("tnl_push(") && flows.contains("tnl_pop("), "{flows}");
}

/// A namespace `peer` with the kernel's end of a tunnel, and a host on our end.
fn with_kernel() -> Option<Lan> {
    let mut lan = site(1)?;
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
    let Some(lan) = with_kernel() else { return };
    let made = lan.output("peer", "ip link add name tun0 type geneve external");
    if !made.status.success() {
        eprintln!("skipped: no geneve in this kernel");
        return;
    }
    lan.ip("peer", "link del tun0");
    lan.ip("peer", "link add name tun0 type geneve id 99 remote 172.31.1.1");
    lan.ip("peer", "link set tun0 mtu 1400 up");
    lan.ip("peer", "addr add 10.0.0.2/24 dev tun0");
    set_tunnel(&lan, "geneve", &["remote_ip=flow", "local_ip=flow", "key=flow", "csum=true"]);
    lan.sandbox.ofctl(&["add-tlv-map", "br0", "{class=0x102,type=0x7,len=4}->tun_metadata0"]);
    lan.sandbox.ofctl(&["del-flows", "br0"]);
    let out = "in_port=h1,actions=set_field:172.31.1.2->tun_dst,set_field:99->tun_id,\
               set_field:0xa->tun_metadata0,output:tun";
    lan.sandbox.ofctl(&["add-flow", "br0", out]);
    lan.sandbox.ofctl(&["add-flow", "br0", "in_port=tun,tun_id=99,tun_src=172.31.1.2,actions=output:h1"]);
    meet(&lan, "h1", "10.0.0.2");
    lan.ping("h1", "10.0.0.2", 20);
    let flows = lan.sandbox.appctl(&["dpctl/dump-flows"]);
    assert!(flows.contains("geneve(vni=0x63,options({class=0x102,type=0x7,len=4,0xa}))"), "{flows}");
    // The neighbour moves: what was forwarded to it follows.
    lan.ip("peer", "link set wire0 address 02:00:00:00:00:77");
    meet(&lan, "h1", "10.0.0.2");
    // Without a route there is no tunnel.
    lan.ip(SWITCH, "addr del 172.31.1.1/24 dev br-phys");
    lan.sandbox
        .until("the route is gone", || !lan.sandbox.appctl(&["ovs/route/show"]).contains("172.31.1.0/24"));
    assert!(!lan.reaches("h1", "10.0.0.2"));
    lan.ip(SWITCH, "addr add 172.31.1.1/24 dev br-phys");
    meet(&lan, "h1", "10.0.0.2");
}
