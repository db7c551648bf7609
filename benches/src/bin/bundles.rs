//! Bundles of flows and of groups, and meters, made, dumped and deleted: our daemon and Debian's in turn, in one run.
//!
//! `bundles [flows [groups [meters [rounds]]]]`: a bundle of 100,000 flows of mixed shapes, one of 10,000 groups, and
//! 1,000 meters in 3 rounds unless told otherwise. Needs what `flow-mods` needs. Medians of the rounds; ratios are ours
//! to Debian's: below 1 is better. Flows and groups come and go by `ovs-ofctl`, meters by messages sent at once, until
//! the barrier behind them is answered (Debian's daemon takes no meters in a bundle).

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::rules::mix;
use benches::{STOCK, exact_seconds, median, our_daemon};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::Sandbox;

/// OpenFlow 1.4.
const VERSION: u8 = 5;
const HELLO: u8 = 0;
const ERROR: u8 = 1;
const BARRIER_REQUEST: u8 = 20;
const BARRIER_REPLY: u8 = 21;
const MULTIPART_REQUEST: u8 = 18;
const METER_MOD: u8 = 29;
/// `OFPMP_METER_CONFIG`
const METER_CONFIG: u16 = 10;
/// `OFPM_ALL`
const ALL: u32 = u32::MAX;

/// What is measured: seconds, and processor seconds of the daemon.
type Row = (&'static str, [f64; 2]);

/// Runs `f`; the daemon may do some of the work after it.
fn timed(sandbox: &Sandbox, f: impl FnOnce()) -> [f64; 2] {
    let pid = sandbox.daemon_pid();
    let (start, before) = (Instant::now(), exact_seconds(pid, ""));
    f();
    let wall = start.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    [wall, exact_seconds(pid, "") - before]
}

fn ofctl(sandbox: &Sandbox, args: &[&str]) {
    let all = ["-O", "OpenFlow14"].iter().chain(args);
    let status = sandbox.command("ovs-ofctl").args(all).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "ovs-ofctl {args:?}");
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION, kind];
    out.extend(u16::try_from(8 + body.len()).unwrap().to_be_bytes());
    out.extend([0, 0, 0, 9]);
    out.extend(body);
    out
}

/// Adds or deletes a meter that drops above so many packets per second.
fn meter_mod(command: u16, id: u32) -> Vec<u8> {
    let mut body = Vec::new();
    let (flags, rate) = (0b110_u16, 1_000_u32);
    body.extend(command.to_be_bytes());
    body.extend(flags.to_be_bytes());
    body.extend(id.to_be_bytes());
    if command == 0 {
        body.extend([0, 1, 0, 16]);
        body.extend([rate, rate, 0].map(u32::to_be_bytes).concat());
    }
    message(METER_MOD, &body)
}

/// Sends messages and waits until they are worked off.
fn exchange(sandbox: &Sandbox, messages: &[u8]) {
    let mut link = UnixStream::connect(sandbox.path("br0.mgmt")).unwrap();
    link.write_all(&message(HELLO, &[])).unwrap();
    let mut sender = link.try_clone().unwrap();
    std::thread::scope(|s| {
        s.spawn(move || {
            sender.write_all(messages).unwrap();
            sender.write_all(&message(BARRIER_REQUEST, &[])).unwrap();
        });
        loop {
            let mut header = [0; 8];
            link.read_exact(&mut header).unwrap();
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
            link.read_exact(&mut body).unwrap();
            assert_ne!(header[1], ERROR, "{body:x?}");
            if header[1] == BARRIER_REPLY {
                break;
            }
        }
    });
}

/// Asks for the configuration of all meters.
fn meter_dump() -> Vec<u8> {
    let body = [&METER_CONFIG.to_be_bytes()[..], &[0; 6], &ALL.to_be_bytes(), &[0; 4]].concat();
    message(MULTIPART_REQUEST, &body)
}

fn measure(daemon: &Path, [flows, groups]: [&Path; 2], meters: u32) -> Vec<Row> {
    let sandbox = Sandbox::with_daemon(daemon, &["--enable-dummy=override", "--disable-system"]);
    let bridge = "add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure";
    sandbox.vsctl(&bridge.split(' ').collect::<Vec<_>>());
    let add: Vec<u8> = (1..=meters).flat_map(|id| meter_mod(0, id)).collect();
    let ofctl = |args: &[&str]| timed(&sandbox, || ofctl(&sandbox, args));
    let exchange = |messages: &[u8]| timed(&sandbox, || exchange(&sandbox, messages));
    let [flows, groups] = [flows, groups].map(|path| path.to_str().unwrap());
    vec![
        ("a bundle of flows", ofctl(&["--bundle", "add-flows", "br0", flows])),
        ("dump-flows", ofctl(&["dump-flows", "br0"])),
        ("del-flows", ofctl(&["del-flows", "br0"])),
        ("a bundle of groups", ofctl(&["bundle", "br0", groups])),
        ("dump-groups", ofctl(&["dump-groups", "br0"])),
        ("del-groups", ofctl(&["del-groups", "br0"])),
        ("meters added", exchange(&add)),
        ("meters dumped", exchange(&meter_dump())),
        ("meters deleted", exchange(&meter_mod(2, ALL))),
    ]
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<u32>().expect("a number"));
    let (flows, groups, meters, rounds) = (number(100_000), number(10_000), number(1_000), number(3));
    let directory = tempfile::tempdir().unwrap();
    let files = ["flows", "groups"].map(|name| directory.path().join(name));
    let group = |i: u32| {
        let bucket = format!("bucket=weight:{},output:1,bucket=weight:2,output:2", i % 7 + 1);
        format!("group add group_id={},type=select,{bucket},bucket=output:3", i + 1)
    };
    let write = |path: &Path, n: u32, line: &dyn Fn(u32) -> String| {
        let text: String = (0..n).map(|i| line(i) + "\n").collect();
        std::fs::write(path, text).unwrap();
    };
    write(&files[0], flows, &mix);
    write(&files[1], groups, &group);
    let files = files.each_ref().map(|path| path.as_path());
    let round = |_| [measure(Path::new(STOCK), files, meters), measure(&our_daemon(), files, meters)];
    let rounds: Vec<[Vec<Row>; 2]> = (0..rounds).map(round).collect();
    println!("| {flows} flows, {groups} groups, {meters} meters | Debian's | ours | ratio |");
    println!("|---|---:|---:|---:|");
    for (at, (what, _)) in rounds.first().into_iter().flat_map(|r| r[0].iter().enumerate()) {
        for (i, unit) in ["s", "CPU s"].iter().enumerate() {
            let [theirs, ours] =
                [0, 1].map(|d| median(&rounds.iter().map(|r| r[d][at].1[i]).collect::<Vec<_>>()));
            println!("| {what}, {unit} | {theirs:.3} | {ours:.3} | {:.2} |", ours / theirs);
        }
    }
}
