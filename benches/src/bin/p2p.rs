//! From port to port: `net_pcap` (infinite_rx) to `net_null`, 64-byte frames, through our daemon, Debian's
//! `ovs-vswitchd-dpdk` and `dpdk-testpmd` (io forwarding, the floor), in one run on one core.
//!
//! `p2p [flows,... [rules,... [rounds]]]`: e.g. `p2p 1,1000 one,prefixes 5` for the middle of five rounds, in each of which
//! all three have their turn. Needs root, about 700 MiB of free hugepages,
//! Debian's packages `openvswitch-switch-dpdk` and `dpdk-dev`, and `target/release/ovs-vswitchd` (or
//! `OVS_RS_VSWITCHD`); run it under `unshare -n` where another switch is. Core 1 forwards. Rates are packets per second of
//! the forwarding thread's processor time, so that what else runs on the machine counts little; cycles are those of the
//! time stamp counter.
//!
//! `net_pcap` keeps a whole capture in buffers of its port's mempool, of which Open vSwitch gives one at most 262,144. So a
//! million flows come in by four ports, each with a mempool of its own, which a port has if no other has its MTU (rounded
//! up to a kilobyte). That takes 2,150 free hugepages of 2 MiB (`sysctl vm.nr_hugepages=2300`); with fewer there is no
//! figure but the reason. testpmd gets the same captures on as many ports, all from one mempool.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::sent;
use benches::{median, our_daemon, thread_seconds, tsc_hz, write_pcap};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::Sandbox;

const STOCK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const FLOWS: [u32; 5] = [1, 1_000, 10_000, 100_000, 1_000_000];
const WARM: Duration = Duration::from_millis(1_500);
const MEASURE: Duration = Duration::from_secs(2);
/// How long a port with its capture may take to come; a daemon that has died says nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long hugepages may take to be free.
const ROOM: Duration = Duration::from_secs(5);
/// Buffers of a mempool, and frames that a port keeps of them: threads, queues and packets under way want some.
const BUFFERS: u32 = 262_144;
const PER_PORT: u32 = 250_000;
/// The MTU of an input port and what is added for each one more; what a buffer has besides: headroom, room for tags, heads.
const MTU: u32 = 1_500;
const MTU_STEP: u32 = 1_024;
const BESIDES: u32 = 868;
/// Hugepages that a daemon needs besides buffers.
const SPARE_PAGES: u32 = 40;
/// Processor time below which a rate says nothing.
const TOO_SHORT: f64 = 0.05;
/// The number of the output port; those of the input ports are 1, and those behind it.
const OUT: u32 = 2;
/// Of the shape `prefixes`.
const LENGTHS: std::ops::RangeInclusive<u32> = 9..=32;
const PER_LENGTH: u32 = 64;

/// The rules that decide where packets go.
type Rules = fn() -> Vec<String>;
const SHAPES: [(&str, Rules); 3] = [
    ("one", || vec!["actions=output:2".to_owned()]),
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

fn source_device(at: usize, pcap: &Path) -> String {
    format!("net_pcap{at},rx_pcap={},infinite_rx=1", pcap.display())
}

fn sink_device(at: usize) -> String {
    format!("net_null{at},no-rx=1")
}

/// The captures of so many flows, one for each input port; written if they are not there.
fn captures(dir: &Path, flows: u32) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for port in 0..flows.div_ceil(PER_PORT) {
        let file = dir.join(format!("{flows}-{port}.pcap"));
        if !file.exists() {
            let begin = port * PER_PORT;
            write_pcap(&file, (begin..flows.min(begin + PER_PORT)).map(frame));
        }
        files.push(file);
    }
    files
}

/// Waits for hugepages for the buffers of so many input ports; a process that has just ended may have some still.
fn has_room(ports: usize) -> Result<(), String> {
    let bytes: u64 = (0..ports as u32).map(|at| u64::from(BUFFERS) * u64::from(mtu(at) + BESIDES)).sum();
    let needed = bytes.div_ceil(2 << 20) + u64::from(SPARE_PAGES);
    let begin = Instant::now();
    loop {
        let free = free_hugepages();
        if free >= needed {
            return Ok(());
        }
        if begin.elapsed() >= ROOM {
            return Err(format!("{needed} hugepages are needed, {free} are free"));
        }
        sleep(Duration::from_millis(200));
    }
}

fn free_hugepages() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("HugePages_Free:")).unwrap_or("0");
    line.trim().parse().unwrap()
}

/// Of an input port.
fn mtu(at: u32) -> u32 {
    MTU + at * MTU_STEP
}

/// A switch with one bridge and a polling thread on core 1, with these captures at its input ports.
fn switch(daemon: &Path, captures: &[PathBuf]) -> Result<Sandbox, String> {
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
    add_port(&sandbox, "out", &sink_device(0), OUT, MTU)?;
    for (at, pcap) in (0..).zip(captures) {
        let number = if at == 0 { 1 } else { OUT + at };
        add_port(&sandbox, &format!("in{at}"), &source_device(at as usize, pcap), number, mtu(at))?;
    }
    Ok(sandbox)
}

/// Adds a `dpdk` port.
fn add_port(sandbox: &Sandbox, name: &str, devargs: &str, number: u32, mtu: u32) -> Result<(), String> {
    let patience = PATIENCE.as_secs().to_string();
    let [options, number, mtu] = [
        format!("options:dpdk-devargs=\"{devargs}\""),
        format!("ofport_request={number}"),
        format!("mtu_request={mtu}"),
    ];
    let add = ["-t", &patience, "add-port", "br0", name, "--", "set", "Interface", name, "type=dpdk"];
    let mut command = sandbox.command("ovs-vsctl");
    let answer = command.args(add).args([options, number, mtu]).output().map_err(|e| e.to_string())?;
    if answer.status.code().is_none() {
        return Err(format!("port {name}: no answer in {patience} s; the daemon may have died"));
    }
    let error = sandbox.get("Interface", name, "error").trim().replace("[]", "");
    if error.is_empty() { Ok(()) } else { Err(error) }
}

fn through_switch(sandbox: &Sandbox, rules: &[String]) -> Rate {
    let file = sandbox.path("rules");
    fs::write(&file, rules.join("\n") + "\n").unwrap();
    sandbox.ofctl(&["del-flows", "br0"]);
    sandbox.ofctl(&["--bundle", "add-flows", "br0", "rules"]);
    sleep(WARM);
    let pid = sandbox.daemon_pid();
    let (packets, time) = (sent(sandbox, "br0", &OUT.to_string()), thread_seconds(pid, "pmd-c"));
    sleep(MEASURE);
    rate(sent(sandbox, "br0", &OUT.to_string()) - packets, thread_seconds(pid, "pmd-c") - time)
}

/// What DPDK does alone: each input port has a sink of its own, as ports are forwarded in pairs.
fn floor(captures: &[PathBuf]) -> Rate {
    has_room(captures.len())?;
    let mut command = Command::new("dpdk-testpmd");
    command.args(["--in-memory", "-l", "0,1", "--no-pci"]);
    for (at, pcap) in captures.iter().enumerate() {
        command.args(["--vdev", &source_device(at, pcap), "--vdev", &sink_device(at)]);
    }
    let buffers = BUFFERS * captures.len() as u32;
    command.args(["--", "--forward-mode=io", &format!("--total-num-mbufs={buffers}")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let begin = Instant::now();
    while thread_seconds(child.id(), "rte-worker") < TOO_SHORT && begin.elapsed() < PATIENCE {
        sleep(Duration::from_millis(100));
    }
    sleep(MEASURE);
    let time = thread_seconds(child.id(), "rte-worker");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let text = String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned();
    let total = text.split("Accumulated forward statistics").nth(1).ok_or("failed")?;
    let packets = total.split("TX-packets:").nth(1).unwrap().trim_start();
    let end = packets.find(|c: char| !c.is_ascii_digit()).unwrap();
    rate(packets[..end].parse().unwrap(), time)
}

fn measure(daemon: &Path, captures: &[PathBuf], shapes: &[&str]) -> Vec<Rate> {
    let sandbox = has_room(captures.len()).and_then(|()| switch(daemon, captures));
    let chosen = SHAPES.iter().filter(|(name, _)| shapes.contains(name));
    chosen.map(|(_, rules)| through_switch(sandbox.as_ref().map_err(String::clone)?, &rules())).collect()
}

/// The middle of a cell's figures of all rounds.
fn middle(rounds: &[Vec<Rate>], cell: usize) -> Rate {
    let all: Result<Vec<f64>, String> = rounds.iter().map(|cells| cells[cell].clone()).collect();
    all.map(|all| median(&all))
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
    let rounds: usize = args.next().map_or(1, |n| n.parse().expect("a number of rounds"));
    let directory = tempfile::tempdir().unwrap();
    // Files in the run directory are named for the program.
    let stock = directory.path().join("ovs-vswitchd");
    symlink(STOCK, &stock).unwrap();
    let hz = tsc_hz();
    println!("Mpps (cycles per packet) on one core, 64 B\n");
    println!("| flows | rules | Debian's | ours | ratio | testpmd |\n|---:|---|---:|---:|---:|---:|");
    let mut reasons = Vec::new();
    for n in &flows {
        let captures = captures(directory.path(), *n);
        let (mut theirs, mut ours, mut floors) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            theirs.push(measure(&stock, &captures, &shapes));
            ours.push(measure(&our_daemon(), &captures, &shapes));
            floors.push(vec![floor(&captures)]);
        }
        for (cell, shape) in shapes.iter().enumerate() {
            let all = [middle(&theirs, cell), middle(&ours, cell), middle(&floors, 0)];
            let [a, b, c] = all.each_ref().map(|r| show(r, hz));
            println!("| {n} | {shape} | {a} | {b} | {} | {c} |", ratio(&all[1], &all[0]));
            let why = ["Debian's", "ours", "testpmd"].into_iter().zip(&all);
            reasons.extend(
                why.filter_map(|(who, r)| Some(format!("{n} {shape}, {who}: {}", r.as_ref().err()?))),
            );
        }
        captures.iter().for_each(|file| fs::remove_file(file).unwrap());
    }
    reasons.iter().for_each(|why| println!("\n{why}"));
}
