//! Flow tables filled, dumped and emptied with Debian's `ovs-ofctl`: our daemon and Debian's in turn, in one run.
//!
//! `flow-mods [rules [rounds [shape...]]]`: 200,000 rules of mixed shapes in 3 rounds unless told otherwise. Needs
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`) and Debian's packages. Medians of the rounds; ratios are ours
//! to Debian's: below 1 is better. Wall time contains the client's own work, CPU time is the daemon's alone and
//! suffers less from what else the machine does.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::{STOCK, cpu_seconds, median, our_daemon, resident};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::Sandbox;

/// Rule `i` of a shape, as `ovs-ofctl` reads it.
type Shape = fn(u32) -> String;

const SHAPES: &[(&str, Shape)] = &[
    ("mix", mix),
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

/// One of the other shapes after the other.
fn mix(i: u32) -> String {
    let (_, shape) = SHAPES[1 + i as usize % (SHAPES.len() - 1)];
    shape(i)
}

/// What is measured, and how its figure is called.
type Row = (&'static str, f64);

/// Runs `ovs-ofctl`: seconds until it has ended, and processor seconds of the daemon.
fn run(sandbox: &Sandbox, args: &[&str]) -> [f64; 2] {
    let pid = sandbox.daemon_pid();
    let (start, before) = (Instant::now(), cpu_seconds(pid));
    let status = sandbox.command("ovs-ofctl").args(args).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "ovs-ofctl {args:?}");
    let wall = start.elapsed().as_secs_f64();
    // Some of the work may come after the answer.
    std::thread::sleep(Duration::from_secs(1));
    [wall, cpu_seconds(pid) - before]
}

fn count(sandbox: &Sandbox) -> f64 {
    let aggregate = sandbox.ofctl(&["dump-aggregate", "br0"]);
    aggregate.split("flow_count=").nth(1).unwrap().trim().parse::<f64>().unwrap()
}

fn measure(daemon: &Path, flows: &Path) -> Vec<Row> {
    let start = || {
        let sandbox = Sandbox::with_daemon(daemon, &["--enable-dummy=override", "--disable-system"]);
        let bridge = "add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure";
        sandbox.vsctl(&bridge.split(' ').collect::<Vec<_>>());
        sandbox
    };
    let file = flows.to_str().unwrap();
    let sandbox = start();
    let empty = resident(sandbox.daemon_pid());
    let add = run(&sandbox, &["add-flows", "br0", file]);
    let full = resident(sandbox.daemon_pid());
    let each = (full - empty) / count(&sandbox);
    let dump = run(&sandbox, &["dump-flows", "br0"]);
    let del = run(&sandbox, &["del-flows", "br0"]);
    assert_eq!(count(&sandbox), 0.0);
    drop(sandbox);
    let sandbox = start();
    let bundle = run(&sandbox, &["--bundle", "add-flows", "br0", file]);
    let bundled = resident(sandbox.daemon_pid());
    let each_bundled = (bundled - empty) / count(&sandbox);
    let stays = "cookie=0xffffffffffffffff,priority=65535,arp,actions=drop";
    for table in [0, 1] {
        sandbox.ofctl(&["add-flow", "br0", &format!("table={table},{stays}")]);
    }
    let most = run(&sandbox, &["del-flows", "br0", "cookie=0/0x8000000000000000"]);
    assert_eq!(count(&sandbox), 2.0);
    vec![
        ("add-flows, s", add[0]),
        ("add-flows, CPU s", add[1]),
        ("add-flows --bundle, s", bundle[0]),
        ("add-flows --bundle, CPU s", bundle[1]),
        ("dump-flows, s", dump[0]),
        ("dump-flows, CPU s", dump[1]),
        ("del-flows, s", del[0]),
        ("del-flows, CPU s", del[1]),
        ("del-flows of all but 2, s", most[0]),
        ("del-flows of all but 2, CPU s", most[1]),
        ("memory per rule, bytes", each),
        ("memory per rule after --bundle, bytes", each_bundled),
        ("memory of the full daemon, MB", full / 1e6),
    ]
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<u32>().expect("a number"));
    let (rules, rounds) = (number(200_000), number(3));
    let mut wanted: Vec<String> = args.collect();
    if wanted.is_empty() {
        wanted.push("mix".to_owned());
    }
    let directory = tempfile::tempdir().unwrap();
    println!("| {rules} rules | | Debian's | ours | ratio |\n|---|---|---:|---:|---:|");
    for (name, shape) in SHAPES.iter().filter(|(n, _)| wanted.iter().any(|w| w == n)) {
        let file = directory.path().join(name);
        let text = (0..rules).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "{}", shape(i));
            text
        });
        fs::write(&file, text).unwrap();
        let round = |_| [measure(Path::new(STOCK), &file), measure(&our_daemon(), &file)];
        let rounds: Vec<[Vec<Row>; 2]> = (0..rounds).map(round).collect();
        for (at, (what, _)) in rounds.first().into_iter().flat_map(|r| r[0].iter().enumerate()) {
            let [theirs, ours] =
                [0, 1].map(|daemon| median(&rounds.iter().map(|r| r[daemon][at].1).collect::<Vec<_>>()));
            println!("| {name} | {what} | {theirs:.2} | {ours:.2} | {:.2} |", ours / theirs);
        }
    }
}
