//! Geneve in user space: frames of `net_pcap` (infinite_rx) through a tunnel port to `net_null`, and frames that are
//! encapsulated already out of one, by our daemon and by Debian's `ovs-vswitchd-dpdk`, in one run on one core.
//!
//! `geneve [flows,... [shapes,...]]`: e.g. `geneve 1,1000 plain,ovn`. Needs what `p2p` needs and a network namespace of
//! its own (`unshare -n`), where it gives an address to the bridge that the outer packets use. Rates are packets per second
//! of the forwarding thread's processor time. `plain` is a fixed key without checksum; `ovn` is what OVN makes of
//! a tunnel: address, key and an option from the flow, and a checksum.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::sent;
use benches::{exact_seconds, our_daemon, tsc_hz, write_pcap};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use tests::Sandbox;

const STOCK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const WARM: Duration = Duration::from_millis(1_000);
const MEASURE: Duration = Duration::from_millis(800);
/// Measurements, of which the best counts: other work on the machine makes some worse.
const TIMES: usize = 3;
const SINK: &str = "net_null0,no-rx=1";
const LOCAL: [u8; 4] = [172, 31, 1, 1];
const REMOTE: [u8; 4] = [172, 31, 1, 2];
/// The outer MAC addresses, of `br-phy` and of the other end.
const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const REMOTE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GENEVE_PORT: u16 = 6081;
/// Of OVN (ovn-architecture(7)): logical ports of ingress and egress.
const OPTION: [u8; 8] = [0x01, 0x02, 0x80, 1, 0, 0, 0, 0x12];

/// One kind of tunnel, and the rules that use it.
struct Shape {
    name: &'static str,
    options: &'static [&'static str],
    into: &'static str,
    out_of: &'static str,
    geneve_options: &'static [u8],
    has_sum: bool,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "plain",
        options: &["options:remote_ip=172.31.1.2", "options:key=7"],
        into: "in_port=1,actions=output:2",
        out_of: "in_port=2,actions=output:3",
        geneve_options: &[],
        has_sum: false,
    },
    Shape {
        name: "ovn",
        options: &["options:remote_ip=flow", "options:key=flow", "options:csum=true"],
        into: "in_port=1,actions=set_field:7->tun_id,set_field:172.31.1.2->tun_dst,\
               set_field:0x12->tun_metadata0,output:2",
        out_of: "in_port=2,tun_id=7,tun_metadata0=0x12,actions=output:3",
        geneve_options: &OPTION,
        has_sum: true,
    },
];

fn sum(bytes: &[u8], start: u32) -> u16 {
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0));
    let total: u32 = start + bytes.chunks(2).map(word).sum::<u32>();
    let total = (total & 0xffff) + (total >> 16);
    !((total & 0xffff) + (total >> 16)) as u16
}

/// IPv4 and UDP around `payload`. With a sum, and its pseudo header, if that is asked for.
fn udp(macs: [[u8; 6]; 2], ips: [[u8; 4]; 2], ports: [u16; 2], payload: &[u8], has_sum: bool) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(ips.concat());
    let check = sum(&ip, 0);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let mut datagram: Vec<u8> = [ports[0], ports[1], len, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
    datagram.extend(payload);
    if has_sum {
        let pseudo: u32 = ips.concat().chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let check = sum(&datagram, pseudo + 17 + u32::from(len));
        datagram[6..8].copy_from_slice(&check.to_be_bytes());
    }
    [&macs.concat()[..], &[8, 0], &ip, &datagram].concat()
}

/// A 60-byte frame of flow `i`.
fn inner(i: u32) -> Vec<u8> {
    let [_, _, a, b] = (i / 64).to_be_bytes();
    let ports = [1024 + (i % 64) as u16, 53];
    let macs = [[2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 1, 1]];
    udp(macs, [[10, 0, a, b], [10, 1, 0, 1]], ports, &[0; 18], false)
}

/// The same from the other end of the tunnel.
fn outer(i: u32, shape: &Shape) -> Vec<u8> {
    let words = (shape.geneve_options.len() / 4) as u8;
    let header = [&[words, 0, 0x65, 0x58, 0, 0, 7, 0], shape.geneve_options].concat();
    let source = 32_768 + (i.wrapping_mul(0x9e37_79b1) >> 17) as u16;
    let payload = [header, inner(i)].concat();
    udp([LOCAL_MAC, REMOTE_MAC], [REMOTE, LOCAL], [source, GENEVE_PORT], &payload, shape.has_sum)
}

fn ip(args: &str) {
    assert!(Command::new("ip").args(args.split(' ')).status().unwrap().success(), "ip {args}");
}

/// `br-int` with the tunnel port, `br-phy` with the address that it uses.
fn switch(daemon: &Path) -> Sandbox {
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    let args = "set Open_vSwitch . other_config:dpdk-init=true other_config:pmd-cpu-mask=2 \
                -- add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=secure \
                -- add-br br-phy -- set bridge br-phy datapath_type=netdev fail_mode=secure \
                other_config:hwaddr=02:00:00:00:00:01";
    sandbox.vsctl(&args.split_whitespace().collect::<Vec<_>>());
    ip("addr replace 172.31.1.1/24 dev br-phy");
    ip("link set br-phy up");
    let has_route = || sandbox.appctl(&["ovs/route/show"]).contains("172.31.1.0/24");
    sandbox.until("the route is known", has_route);
    sandbox.ofctl(&["add-tlv-map", "br-int", "{class=0x102,type=0x80,len=4}->tun_metadata0"]);
    sandbox
}

fn add_dpdk(sandbox: &Sandbox, bridge: &str, name: &str, devargs: &str, number: u32) {
    let (devargs, number) =
        (format!("options:dpdk-devargs=\"{devargs}\""), format!("ofport_request={number}"));
    sandbox.vsctl(&[
        "add-port",
        bridge,
        name,
        "--",
        "set",
        "Interface",
        name,
        "type=dpdk",
        &devargs,
        &number,
    ]);
    assert_eq!(sandbox.get("Interface", name, "error"), "[]", "{name}");
}

/// Packets per second of the polling thread's time, from bridge `from` to the sink at `to`.
fn rate(sandbox: &Sandbox, pcap: &Path, from: &str, to: &str) -> f64 {
    add_dpdk(sandbox, to, "out", SINK, 3);
    add_dpdk(sandbox, from, "in", &format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()), 1);
    sleep(WARM);
    let now = || (sent(sandbox, to, "3"), exact_seconds(sandbox.daemon_pid(), "pmd-c"));
    let mut best = 0.0;
    for _ in 0..TIMES {
        let (packets, time) = now();
        sleep(MEASURE);
        let (after, until) = now();
        assert!(after - packets > 10_000.0, "nothing arrives: {packets}, {after}\n{}", sandbox.log());
        best = f64::max(best, (after - packets) / (until - time));
    }
    if std::env::var_os("BENCH_SHOW").is_some() {
        eprintln!("{}", sandbox.appctl(&["dpctl/dump-flows", "-m", "netdev@ovs-netdev"]));
    }
    sandbox.vsctl(&["del-port", "in", "--", "del-port", "out"]);
    best
}

/// Rates of encapsulation and decapsulation, by number of flows and shape.
fn measure(daemon: &Path, flows: &[u32], shapes: &[&Shape], directory: &Path) -> Vec<[f64; 2]> {
    let sandbox = switch(daemon);
    let mut all = Vec::new();
    for n in flows {
        for shape in shapes {
            let tunnel = ["--if-exists", "del-port", "tun", "--", "add-port", "br-int", "tun", "--", "set"];
            let interface = ["Interface", "tun", "type=geneve", "ofport_request=2"];
            sandbox.vsctl(&[&tunnel[..], &interface, shape.options].concat());
            sandbox.ofctl(&["del-flows", "br-int"]);
            sandbox.ofctl(&["del-flows", "br-phy"]);
            sandbox.ofctl(&["add-flow", "br-int", shape.into]);
            sandbox.ofctl(&["add-flow", "br-int", shape.out_of]);
            sandbox.ofctl(&["add-flow", "br-phy", "in_port=LOCAL,actions=output:3"]);
            sandbox.ofctl(&["add-flow", "br-phy", "in_port=1,actions=LOCAL"]);
            sandbox.appctl(&["tnl/arp/set", "br-phy", "172.31.1.2", "02:00:00:00:00:02"]);
            let [plain, packed] = ["inner", "outer"].map(|kind| directory.join(format!("{kind}.pcap")));
            write_pcap(&plain, (0..*n).map(inner));
            write_pcap(&packed, (0..*n).map(|i| outer(i, shape)));
            all.push([
                rate(&sandbox, &plain, "br-int", "br-phy"),
                rate(&sandbox, &packed, "br-phy", "br-int"),
            ]);
        }
    }
    all
}

fn main() {
    let mut args = std::env::args().skip(1);
    let flows: Vec<u32> = args.next().map_or(vec![1, 1_000], |list| {
        list.split(',').map(|n| n.parse().expect("numbers of flows")).collect()
    });
    let named = args.next().unwrap_or_else(|| "plain,ovn".to_owned());
    let shapes: Vec<&Shape> = SHAPES.iter().filter(|s| named.split(',').any(|n| n == s.name)).collect();
    let directory = tempfile::tempdir().unwrap();
    // Files in the run directory are named for the program.
    let stock = directory.path().join("ovs-vswitchd");
    symlink(STOCK, &stock).unwrap();
    let theirs = measure(&stock, &flows, &shapes, directory.path());
    let ours = measure(&our_daemon(), &flows, &shapes, directory.path());
    let hz = tsc_hz();
    println!("Mpps (cycles per packet) on one core, 60 B inside\n");
    println!("| flows | tunnel | | Debian's | ours | ratio |\n|---:|---|---|---:|---:|---:|");
    let cells = flows.iter().flat_map(|n| shapes.iter().map(move |s| (n, s.name)));
    for ((n, shape), (theirs, ours)) in cells.zip(theirs.iter().zip(&ours)) {
        for (i, way) in ["in", "out"].iter().enumerate() {
            let show = |pps: f64| format!("{:.2} ({:.0})", pps / 1e6, hz / pps);
            let (a, b) = (theirs[i], ours[i]);
            println!("| {n} | {shape} | {way} | {} | {} | {:.2} |", show(a), show(b), b / a);
        }
    }
}
