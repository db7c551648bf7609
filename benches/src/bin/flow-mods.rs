//! Flow tables filled, dumped and emptied with Debian's `ovs-ofctl`: our daemon and Debian's in turn, in one run.
//!
//! `flow-mods [rules [shape...]]`: 200,000 rules of every shape unless told otherwise. Needs
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`) and Debian's packages. Ratios are ours to Debian's: below
//! 1 is better. Times contain the client's own work.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::Sandbox;

const STOCK: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";

/// Rule `i` of a shape, as `ovs-ofctl` reads it.
type Shape = fn(u32) -> String;

const SHAPES: &[(&str, Shape)] = &[
    ("tcp", |i| {
        let [_, x, y, z] = i.to_be_bytes();
        format!("table=1,priority=100,tcp,nw_src=10.{x}.{y}.{z},tp_dst={},actions=output:1", i % 1000 + 1)
    }),
    ("mac", |i| {
        let [a, b, c, d] = i.to_be_bytes();
        format!(
            "priority=10,dl_vlan=7,dl_dst=02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x},actions=strip_vlan,output:2"
        )
    }),
    ("ipv6", |i| {
        format!(
            "priority=50,udp6,ipv6_src=fd00::{:x}:{:x},ipv6_dst=fd01::1,actions=output:3",
            i >> 16,
            i & 0xffff
        )
    }),
    ("masks", |i| {
        let [_, x, y, z] = i.to_be_bytes();
        let (len, mask) = (16 + i % 17, 0xffff_u32 << (i / 17 % 16) & 0xffff);
        format!(
            "priority={},ip,nw_dst=10.{x}.{y}.{z}/{len},reg0={i}/0x{mask:04x}ffff,actions=drop",
            i % 60000
        )
    }),
    ("cookie", |i| {
        format!("cookie={i:#x},idle_timeout=3600,metadata={i},actions=load:{i}->NXM_NX_REG1[],resubmit(,2)")
    }),
];

/// What one daemon took: seconds, and bytes per rule.
struct Figures {
    rows: Vec<(&'static str, f64)>,
}

fn seconds(sandbox: &Sandbox, args: &[&str]) -> f64 {
    let start = Instant::now();
    let status = sandbox.command("ovs-ofctl").args(args).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "ovs-ofctl {args:?}");
    start.elapsed().as_secs_f64()
}

/// Resident memory in bytes.
fn resident(sandbox: &Sandbox) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.daemon_pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

fn measure(daemon: &Path, flows: &Path) -> Figures {
    let sandbox = Sandbox::with_daemon(daemon, &["--enable-dummy=override", "--disable-system"]);
    let bridge = "add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure";
    sandbox.vsctl(&bridge.split(' ').collect::<Vec<_>>());
    let file = flows.to_str().unwrap();
    let empty = resident(&sandbox);
    let add = seconds(&sandbox, &["add-flows", "br0", file]);
    std::thread::sleep(Duration::from_secs(1));
    let full = resident(&sandbox);
    let aggregate = sandbox.ofctl(&["dump-aggregate", "br0"]);
    let count = aggregate.split("flow_count=").nth(1).unwrap().trim().parse::<f64>().unwrap();
    let dump = seconds(&sandbox, &["dump-flows", "br0"]);
    let del = seconds(&sandbox, &["del-flows", "br0"]);
    let bundle = seconds(&sandbox, &["--bundle", "add-flows", "br0", file]);
    // One rule stays in each table, so that the others are taken out one by one.
    for table in [0, 1] {
        let stays = format!("table={table},cookie=0xffffffffffffffff,priority=65535,arp,actions=drop");
        sandbox.ofctl(&["add-flow", "br0", &stays]);
    }
    let each = seconds(&sandbox, &["del-flows", "br0", "cookie=0/0x8000000000000000"]);
    let rows = vec![
        ("add-flows, s", add),
        ("add-flows --bundle, s", bundle),
        ("dump-flows, s", dump),
        ("del-flows, s", del),
        ("del-flows cookie=..., s", each),
        ("memory per rule, bytes", (full - empty) / count),
    ];
    Figures { rows }
}

fn our_daemon() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().with_file_name("ovs-vswitchd");
    std::env::var_os("OVS_RS_VSWITCHD").map_or_else(beside, PathBuf::from)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let rules: u32 = args.next().map_or(200_000, |n| n.parse().expect("a number of rules"));
    let wanted: Vec<String> = args.collect();
    let directory = tempfile::tempdir().unwrap();
    println!("| {rules} rules | | Debian's | ours | ratio |\n|---|---|---:|---:|---:|");
    for (name, shape) in SHAPES.iter().filter(|(n, _)| wanted.is_empty() || wanted.iter().any(|w| w == n)) {
        let file = directory.path().join(name);
        let text = (0..rules).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "{}", shape(i));
            text
        });
        fs::write(&file, text).unwrap();
        let (stock, ours) = (measure(Path::new(STOCK), &file), measure(&our_daemon(), &file));
        for ((what, theirs), (_, ours)) in stock.rows.iter().zip(&ours.rows) {
            println!("| {name} | {what} | {theirs:.2} | {ours:.2} | {:.2} |", ours / theirs);
        }
    }
}
