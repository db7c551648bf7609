//! From port to port: `net_pcap` (infinite_rx) to `net_null`, 64-byte frames, through our daemon, Debian's
//! `ovs-vswitchd-dpdk` and `dpdk-testpmd` (io forwarding, the floor), in one run on one core.
//!
//! `p2p [flows,... [rules,...]]`: e.g. `p2p 1,1000 one,prefixes`. Needs root, about 700 MiB of free hugepages,
//! Debian's packages `openvswitch-switch-dpdk` and `dpdk-dev`, and `target/release/ovs-vswitchd` (or
//! `OVS_RS_VSWITCHD`); run it under `unshare -n` where another switch is. Core 1 forwards. Rates are packets per second of the forwarding thread's processor time, so
//! that what else runs on the machine counts little; cycles are those of the time stamp counter.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::{our_daemon, thread_seconds, tsc_hz, write_pcap};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tests::Sandbox;

const STOCK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const FLOWS: [u32; 5] = [1, 1_000, 10_000, 100_000, 1_000_000];
const WARM: Duration = Duration::from_millis(1_500);
const MEASURE: Duration = Duration::from_secs(2);
/// Processor time below which a rate says nothing.
const TOO_SHORT: f64 = 0.05;
const SOURCE: &str = "net_pcap0";
const SINK: &str = "net_null0,no-rx=1";
/// Of the shape `prefixes`.
const LENGTHS: std::ops::RangeInclusive<u32> = 9..=32;
const PER_LENGTH: u32 = 64;

/// The rules that decide where packets go.
type Rules = fn() -> Vec<String>;
const SHAPES: [(&str, Rules); 3] = [
    ("one", || vec!["in_port=1,actions=output:2".to_owned()]),
    ("subnets", || {
        let rule = |i: u32| format!("priority=10,ip,nw_src={}/27,actions=output:2", ip(source(i * 32)));
        (0..32).map(rule).collect()
    }),
    ("prefixes", || {
        let all = LENGTHS.flat_map(|len| (0..PER_LENGTH).map(move |k| (len, k)));
        all.map(|(len, k)| format!("priority={len},ip,nw_dst={}/{len},actions=output:2", ip(prefix(len, k))))
            .collect()
    }),
];

fn ip(address: u32) -> std::net::Ipv4Addr {
    address.into()
}

/// The sources are 32 subnets of /27.
fn source(i: u32) -> u32 {
    0x0a00_0000 | (i % 1024)
}

/// The `k`th prefix of a length; no two overlap.
fn prefix(len: u32, k: u32) -> u32 {
    let before: u32 = (*LENGTHS.start()..len).map(|l| PER_LENGTH << (32 - l)).sum();
    0x4000_0000 + before + (k << (32 - len))
}

/// A 64-byte frame (less its checksum) of flow `i`.
fn frame(i: u32) -> Vec<u8> {
    let (len, k) = (LENGTHS.start() + i % 24, i / 24 % PER_LENGTH);
    let host = (i.wrapping_mul(0x9e37_79b1) >> 7) & (u32::MAX.checked_shr(len).unwrap_or(0));
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend(source(i).to_be_bytes());
    header.extend((prefix(len, k) | host).to_be_bytes());
    let sum: u32 = header.chunks(2).map(|w| (u32::from(w[0]) << 8) | u32::from(w[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    f.extend(header);
    f.extend([((1024 + i / 1024) as u16).to_be_bytes(), 53_u16.to_be_bytes(), [0, 26], [0, 0]].concat());
    f.resize(60, 0);
    f
}

/// Packets per second, or why there is no figure.
type Rate = Result<f64, String>;

fn rate(packets: f64, seconds: f64) -> Rate {
    if seconds < TOO_SHORT { Err("no time".to_owned()) } else { Ok(packets / seconds) }
}

fn sent(sandbox: &Sandbox) -> f64 {
    let text = sandbox.ofctl(&["dump-ports", "br0", "2"]);
    let at = text.split("tx pkts=").nth(1).unwrap();
    at.split(',').next().unwrap().trim().parse().unwrap()
}

/// A switch with one bridge and a polling thread on core 1.
fn switch(daemon: &Path) -> Sandbox {
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    sandbox.vsctl(&[
        "set",
        "Open_vSwitch",
        ".",
        "other_config:dpdk-init=true",
        "other_config:pmd-cpu-mask=2",
    ]);
    sandbox.vsctl(&[
        "add-br",
        "br0",
        "--",
        "set",
        "Bridge",
        "br0",
        "datapath_type=netdev",
        "fail_mode=secure",
    ]);
    add_port(&sandbox, "out", SINK, 2);
    sandbox
}

/// Adds a `dpdk` port; returns `Interface.error`.
fn add_port(sandbox: &Sandbox, name: &str, devargs: &str, number: u32) -> String {
    let options = format!("options:dpdk-devargs=\"{devargs}\"");
    let number = format!("ofport_request={number}");
    let set = ["--", "set", "Interface", name, "type=dpdk", &options, &number];
    let _ = sandbox.command("ovs-vsctl").args([&["add-port", "br0", name], &set[..]].concat()).output();
    sandbox.get("Interface", name, "error").trim().replace("[]", "")
}

fn through_switch(sandbox: &Sandbox, rules: &[String]) -> Rate {
    let file = sandbox.path("rules");
    fs::write(&file, rules.join("\n") + "\n").unwrap();
    sandbox.ofctl(&["del-flows", "br0"]);
    sandbox.ofctl(&["--bundle", "add-flows", "br0", "rules"]);
    sleep(WARM);
    let pid = sandbox.daemon_pid();
    let (packets, time) = (sent(sandbox), thread_seconds(pid, "pmd-c"));
    sleep(MEASURE);
    rate(sent(sandbox) - packets, thread_seconds(pid, "pmd-c") - time)
}

/// What DPDK does alone.
fn floor(pcap: &Path) -> Rate {
    let mut command = Command::new("dpdk-testpmd");
    command.args(["--in-memory", "-l", "0,1", "--no-pci"]);
    command.args(["--vdev", &format!("{SOURCE},rx_pcap={},infinite_rx=1", pcap.display()), "--vdev", SINK]);
    command.args(["--", "--forward-mode=io", "--total-num-mbufs=262144"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    sleep(Duration::from_secs(2) + MEASURE);
    let time = thread_seconds(child.id(), "rte-worker");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let text = String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned();
    let total = text.split("Accumulated forward statistics").nth(1).ok_or("failed")?;
    let packets = total.split("TX-packets:").nth(1).unwrap().trim_start();
    let end = packets.find(|c: char| !c.is_ascii_digit()).unwrap();
    rate(packets[..end].parse().unwrap(), time)
}

fn measure(daemon: &Path, flows: &[u32], shapes: &[&str], dir: &Path) -> Vec<Rate> {
    let sandbox = switch(daemon);
    let mut all = Vec::new();
    for n in flows {
        let pcap = dir.join(format!("{n}.pcap"));
        let error =
            add_port(&sandbox, "in", &format!("{SOURCE},rx_pcap={},infinite_rx=1", pcap.display()), 1);
        for (_, rules) in SHAPES.iter().filter(|(name, _)| shapes.contains(name)) {
            all.push(if error.is_empty() { through_switch(&sandbox, &rules()) } else { Err(error.clone()) });
        }
        sandbox.vsctl(&["del-port", "br0", "in"]);
    }
    all
}

fn show(rate: &Rate, hz: f64) -> String {
    match rate {
        Ok(pps) => format!("{:.2} ({:.0})", pps / 1e6, hz / pps),
        Err(_) => "n/a".to_owned(),
    }
}

fn ratio(one: &Rate, other: &Rate) -> String {
    match (one, other) {
        (Ok(one), Ok(other)) => format!("{:.2}", one / other),
        _ => "n/a".to_owned(),
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let flows: Vec<u32> = args.next().map_or(FLOWS.to_vec(), |list| {
        list.split(',').map(|n| n.parse().expect("numbers of flows")).collect()
    });
    let named = args.next().unwrap_or_else(|| SHAPES.map(|(name, _)| name).join(","));
    let shapes: Vec<&str> = named.split(',').collect();
    let directory = tempfile::tempdir().unwrap();
    for n in &flows {
        write_pcap(&directory.path().join(format!("{n}.pcap")), (0..*n).map(frame));
    }
    // Files in the run directory are named for the program.
    let stock = directory.path().join("ovs-vswitchd");
    symlink(STOCK, &stock).unwrap();
    let hz = tsc_hz();
    let theirs = measure(&stock, &flows, &shapes, directory.path());
    let ours = measure(&our_daemon(), &flows, &shapes, directory.path());
    println!("Mpps (cycles per packet) on one core, 64 B\n");
    println!("| flows | rules | Debian's | ours | ratio | testpmd |\n|---:|---|---:|---:|---:|---:|");
    let cells = flows.iter().flat_map(|n| shapes.iter().map(move |s| (n, s)));
    let mut reasons = Vec::new();
    let mut last = (0, Err(String::new()));
    for ((n, shape), (theirs, ours)) in cells.zip(theirs.iter().zip(&ours)) {
        if last.0 != *n {
            last = (*n, floor(&directory.path().join(format!("{n}.pcap"))));
        }
        let [a, b, c] = [theirs, ours, &last.1].map(|r| show(r, hz));
        println!("| {n} | {shape} | {a} | {b} | {} | {c} |", ratio(ours, theirs));
        let why = [("Debian's", theirs), ("ours", ours), ("testpmd", &last.1)];
        reasons.extend(
            why.iter().filter_map(|(who, r)| Some(format!("{n} {shape}, {who}: {}", r.as_ref().err()?))),
        );
    }
    reasons.iter().for_each(|why| println!("\n{why}"));
}
