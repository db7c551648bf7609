//! Flow tables filled, dumped and emptied with Debian's `ovs-ofctl`: our daemon and Debian's in turn, in one run.
//!
//! `flow-mods [rules [rounds [shape...]]]`: 200,000 rules of mixed shapes in 3 rounds unless told otherwise. Needs
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`) and Debian's packages. Medians of the rounds; ratios are ours
//! to Debian's: below 1 is better. Wall time contains the client's own work, CPU time is the daemon's alone and
//! suffers less from what else the machine does.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::rules::SHAPES;
use benches::{STOCK, cpu_seconds, median, our_daemon, resident};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::Sandbox;

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
