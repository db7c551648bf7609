//! Kinds of packets, and what is done to them besides: `net_pcap` (infinite_rx) to `net_null`, 1,000 flows each, through our
//! daemon and Debian's `ovs-vswitchd-dpdk`, in turn, on one core.
//!
//! `kinds [rounds [kind...]]`: the middle of 3 rounds and every kind unless told otherwise; `kinds 1 ipv6` for those whose name
//! begins so. Needs what `p2p` needs; run it under `unshare -n`. Rates are packets per second of the forwarding
//! thread's processor time.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::{add_port, configure, received, sent, stock_in, udp};
use benches::{exact_seconds, median, our_daemon, tsc_hz, write_pcap};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use tests::Sandbox;

const FLOWS: u64 = 1_000;
const WARM: Duration = Duration::from_millis(1_500);
const MEASURE: Duration = Duration::from_millis(1_500);

/// What a kind's frames are made of, for the flow of this number.
type Frame = fn(u64) -> Vec<u8>;

/// Name, frames, how often each is sent, and rules, the first of which has the match.
struct Kind {
    name: &'static str,
    frame: Frame,
    copies: u32,
    rules: &'static [&'static str],
}

const fn kind(name: &'static str, frame: Frame, copies: u32, rules: &'static [&'static str]) -> Kind {
    Kind { name, frame, copies, rules }
}

const KINDS: [Kind; 22] = [
    kind("ipv4", ipv4, 1, &["in_port=1,actions=output:2"]),
    kind("ipv4, one subnet", ipv4, 1, &["ip,nw_src=8.0.0.0/5,actions=output:2"]),
    kind("ipv4, dropped", ipv4, 0, &["in_port=1,actions=drop"]),
    kind("ipv4, to two ports", ipv4, 2, &["in_port=1,actions=output:2,output:3"]),
    kind("ipv4, metered", ipv4, 1, &["in_port=1,actions=meter:1,output:2"]),
    kind("ipv4, select group", ipv4, 1, &["in_port=1,actions=group:1"]),
    kind("ipv4, tracked, unanswered", ipv4, 1, TRACK),
    kind(
        "ipv4, routed",
        ipv4,
        1,
        &[
            "ip,actions=set_field:02:00:00:00:00:01->eth_src,set_field:02:00:00:00:00:02->eth_dst,dec_ttl,output:2",
        ],
    ),
    kind(
        "ipv4, address and port set",
        ipv4,
        1,
        &["udp,actions=set_field:9.9.9.9->ip_dst,set_field:99->udp_dst,output:2"],
    ),
    kind(
        "ipv4, tag put on",
        ipv4,
        1,
        &["in_port=1,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2"],
    ),
    kind("vlan", vlan, 1, &["in_port=1,actions=output:2"]),
    kind("vlan, one subnet", vlan, 1, &["dl_vlan=10,ip,nw_src=8.0.0.0/5,actions=output:2"]),
    kind("vlan, dropped", vlan, 0, &["in_port=1,actions=drop"]),
    kind("vlan, tag taken off", vlan, 1, &["vlan_tci=0x1000/0x1000,actions=pop_vlan,output:2"]),
    kind("ipv6", ipv6, 1, &["in_port=1,actions=output:2"]),
    kind("ipv6, one subnet", ipv6, 1, &["ipv6,ipv6_src=fd00::/16,actions=output:2"]),
    kind("ipv6, dropped", ipv6, 0, &["in_port=1,actions=drop"]),
    kind("ipv6, to two ports", ipv6, 2, &["in_port=1,actions=output:2,output:3"]),
    kind(
        "ipv6, routed",
        ipv6,
        1,
        &[
            "ipv6,actions=set_field:02:00:00:00:00:01->eth_src,set_field:02:00:00:00:00:02->eth_dst,dec_ttl,output:2",
        ],
    ),
    kind("ipv6, tracked, unanswered", ipv6, 1, TRACK),
    kind("icmp", icmp, 1, &["in_port=1,actions=output:2"]),
    kind("icmp, one subnet", icmp, 1, &["ip,nw_src=8.0.0.0/5,actions=output:2"]),
];

const TRACK: &[&str] = &[
    "ip,actions=ct(zone=1,table=1)",
    "ipv6,actions=ct(zone=1,table=1)",
    "table=1,ct_state=+new,ip,actions=ct(commit,zone=1),output:2",
    "table=1,ct_state=+new,ipv6,actions=ct(commit,zone=1),output:2",
];

fn ipv4(flow: u64) -> Vec<u8> {
    udp(flow, [10, 1, 0, 1]).to_vec()
}

fn vlan(flow: u64) -> Vec<u8> {
    let mut frame = ipv4(flow);
    frame.splice(12..12, [0x81, 0, 0, 10]);
    frame
}

fn ipv6(flow: u64) -> Vec<u8> {
    let mut frame = ipv4(flow)[..12].to_vec();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 12, 17, 64]);
    let address = |subnet: u8, host: u64| [&[subnet, 0, 0, 0, 0, 0, 0, 0][..], &host.to_be_bytes()].concat();
    frame.extend([address(0xfd, flow), address(0xfc, 1)].concat());
    frame.extend([16, 0, 0, 53, 0, 12, 0, 0, 0, 0, 0, 0]);
    // Addresses, length and protocol, and the datagram.
    let words = frame[22..].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = words.sum::<u32>() + 12 + 17;
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[60..62].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Echo requests; the flow is the source.
fn icmp(flow: u64) -> Vec<u8> {
    let mut frame = udp(flow << 8, [10, 1, 0, 1]).to_vec();
    frame[23] = 1;
    frame[34..42].copy_from_slice(&[8, 0, 0xf7, 0xfe, 0, 1, 0, 0]);
    // Another protocol, another sum.
    let sum = u32::from(!u16::from_be_bytes([frame[24], frame[25]])) + u32::from(!17_u16) + 1;
    frame[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    frame
}

/// Packets per second of each kind.
fn measure(daemon: &Path, kinds: &[&Kind], dir: &Path) -> Vec<f64> {
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    configure(&sandbox, &["other_config:dpdk-extra=\"--no-pci\""], "secure");
    add_port(&sandbox, "out", "net_null0,no-rx=1", 2);
    add_port(&sandbox, "other", "net_null1,no-rx=1", 3);
    let ofctl = |command: &str, what: &str| sandbox.ofctl(&["-O", "OpenFlow15", command, "br0", what]);
    ofctl("add-group", "group_id=1,type=select,selection_method=dp_hash,bucket=output:2,bucket=output:3");
    ofctl("add-meter", "meter=1,pktps,band=type=drop,rate=100000000");
    let one = |kind: &&Kind| {
        let pcap = dir.join("kind.pcap");
        write_pcap(&pcap, (0..FLOWS).map(kind.frame));
        sandbox.ofctl(&["del-flows", "br0"]);
        for rule in kind.rules {
            ofctl("add-flow", rule);
        }
        add_port(&sandbox, "in", &format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()), 1);
        sleep(WARM);
        let left = || sent(&sandbox, "br0", "2") + sent(&sandbox, "br0", "3");
        let now = || [received(&sandbox, "br0", "1"), exact_seconds(sandbox.daemon_pid(), "pmd-c"), left()];
        let before = now();
        sleep(MEASURE);
        let after = now();
        sandbox.vsctl(&["del-port", "br0", "in"]);
        let [packets, time, left]: [f64; 3] = std::array::from_fn(|i| after[i] - before[i]);
        let expected = packets * f64::from(kind.copies);
        // (The counters are not read at one time.)
        assert!((left - expected).abs() <= 0.1 * packets, "{}: {left} of {packets} have left", kind.name);
        packets / time
    };
    kinds.iter().map(one).collect()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(3, |n| n.parse().expect("a number of rounds"));
    let wanted: Vec<String> = args.collect();
    let is_wanted = |k: &&Kind| wanted.is_empty() || wanted.iter().any(|w| k.name.starts_with(w.as_str()));
    let kinds: Vec<&Kind> = KINDS.iter().filter(is_wanted).collect();
    let directory = tempfile::tempdir().unwrap();
    let daemons = [stock_in(directory.path()), our_daemon()];
    let (hz, mut all) = (tsc_hz(), [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for (daemon, all) in daemons.iter().zip(&mut all) {
            all.push(measure(daemon, &kinds, directory.path()));
        }
    }
    println!(
        "Mpps (cycles per packet) on one core\n\n| packets | Debian's | ours | ratio |\n|---|---:|---:|---:|"
    );
    for (at, kind) in kinds.iter().enumerate() {
        let [theirs, ours] =
            [0, 1].map(|who: usize| median(&all[who].iter().map(|r: &Vec<f64>| r[at]).collect::<Vec<_>>()));
        let show = |pps: f64| format!("{:.2} ({:.0})", pps / 1e6, hz / pps);
        println!("| {} | {} | {} | {:.2} |", kind.name, show(theirs), show(ours), ours / theirs);
    }
}
