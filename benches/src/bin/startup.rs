//! From exec to the first packet that a switch with four `dpdk` ports forwards, by phase: Debian's
//! `ovs-vswitchd-dpdk`, our daemon, and a third in turn; medians and quartiles.
//!
//! `startup [rounds [MiB [DAEMON]]]`: 15 rounds with 1024 MiB of hugepages taken at the start (`dpdk-socket-mem`; 0: as
//! the daemon needs them). The third daemon is Debian's once more, which shows what of a ratio is chance, or `DAEMON`.
//! Who is first changes from round to round. The database says everything before the daemon starts. The ports are
//! wires (`net_af_packet`); four frames come in by the first every millisecond, and the bridge floods them. Phases end with
//! lines of the daemon's log, when they arrive: the daemon writes its log to a pipe (`-vconsole`), where they are read at
//! once. Run it by `unshare -n`; needs root, the hugepages, Debian's `openvswitch-switch-dpdk`, and
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`).

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::{Wire, configure, port_args, stock_in, udp};
use benches::{median, our_daemon};
use netdev::RxQueue;
use packet::Batch;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::Sandbox;

const PORTS: u32 = 4;
/// Between two frames.
const PACE: Duration = Duration::from_micros(250);
const PATIENCE: Duration = Duration::from_secs(30);

/// Phases, and the line of the log with which each ends (the last such line). What follows is the way of the first packet.
const PHASES: [(&str, &str); 4] = [
    ("process", "opened log file"),
    ("database", "DPDK Enabled - initializing"),
    ("EAL, hugepages", "DPDK Enabled - initialized"),
    ("mempools, ports", "bridge br0: added interface p"),
];
/// What is measured beside them.
const REST: [&str; 3] = ["first packet", "exec to first packet", "exec to all ports"];

/// Kills the daemon in the end.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of a log, each with the milliseconds since `begin` when it came.
fn timed_lines(log: impl Read, begin: Instant) -> Vec<(f64, String)> {
    let lines = BufReader::new(log).lines().map_while(Result::ok);
    lines.map(|line| (begin.elapsed().as_secs_f64() * 1000.0, line)).collect()
}

/// When the first frame arrives at each of the other wires, in milliseconds since `begin`.
fn first_arrivals(wires: &[Wire], begin: Instant) -> Vec<f64> {
    let mut sender = wires[0].sender();
    let mut queues: Vec<Vec<Box<dyn RxQueue>>> = wires[1..].iter().map(Wire::receivers).collect();
    let mut arrived = vec![None; queues.len()];
    let mut n = 0;
    while arrived.iter().any(Option::is_none) {
        assert!(begin.elapsed() < PATIENCE, "no packet comes out: {arrived:?}");
        sender.send(n, n + 1, |_| udp(0, [10, 1, 0, 1]));
        n += 1;
        sleep(PACE);
        for (queue, arrived) in queues.iter_mut().zip(&mut arrived).filter(|(_, a)| a.is_none()) {
            let mut batch = Batch::new();
            let is_ours = |b: &Batch| b.iter().any(|p| p.data().get(26..30) == Some(&[10, 0, 0, 0]));
            if queue.iter_mut().any(|q| q.recv(&mut batch) > 0 && is_ours(&batch)) {
                *arrived = Some(begin.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    arrived.into_iter().flatten().collect()
}

/// Milliseconds of each phase, and of the [`REST`].
fn measure(daemon: &Path, socket_mem: &str) -> Vec<f64> {
    let wires: Vec<Wire> = (0..PORTS).map(|no| Wire::new(&format!("start{no}"))).collect();
    let mut sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    sandbox.kill_daemon();
    // As after a clean end; to replace a file costs a disk's journal more than all else that is done with the database.
    for left in ["ovs-vswitchd.log", "ovs-vswitchd.pid"] {
        let _ = fs::remove_file(sandbox.path(left));
    }
    configure(&sandbox, &["other_config:dpdk-extra=\"--no-pci\"", socket_mem], "standalone");
    for (no, wire) in (0..).zip(&wires) {
        let args = port_args(&format!("p{no}"), &wire.devargs(no), no + 1);
        sandbox.vsctl(&[vec!["--no-wait"], args.iter().map(String::as_str).collect()].concat());
    }
    let mut command = sandbox.command(daemon);
    command.args(["-vconsole:info", "-vsyslog:off", "--pidfile", "--log-file", "--disable-system"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = Daemon(command.spawn().unwrap());
    let log = child.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || timed_lines(log, begin));
    let arrivals = first_arrivals(&wires, begin);
    drop(child);
    let log = log.join().unwrap();
    if std::env::var_os("STARTUP_VERBOSE").is_some() {
        eprintln!("{}", daemon.display());
        log.iter().for_each(|(at, line)| eprintln!("{at:9.3} {line}"));
    }
    let end_of = |mark: &str| log.iter().rfind(|(_, line)| line.contains(mark)).map(|(at, _)| *at);
    let mut ends = vec![0.0];
    ends.extend(
        PHASES.map(|(name, mark)| end_of(mark).unwrap_or_else(|| panic!("no end of '{name}': {log:?}"))),
    );
    ends.push(arrivals.iter().copied().fold(f64::MAX, f64::min));
    let total = ends[ends.len() - 1];
    let mut phases: Vec<f64> = ends.windows(2).map(|ends| ends[1] - ends[0]).collect();
    phases.extend([total, arrivals.iter().copied().fold(0.0, f64::max)]);
    phases
}

/// The daemon under the name by which its files in the run directory are found.
fn named(daemon: &str, directory: &Path) -> PathBuf {
    let link = directory.join("ovs-vswitchd");
    symlink(fs::canonicalize(daemon).unwrap(), &link).unwrap();
    link
}

/// The median, and between which values half of all are.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quartile = |n: usize| sorted[(sorted.len() - 1) * n / 4];
    (median(values), quartile(1), quartile(3))
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<usize>().expect("a number"));
    let (rounds, mib) = (number(15), number(1024));
    let socket_mem = match mib {
        0 => "other_config:dpdk-init=true".to_owned(),
        mib => format!("other_config:dpdk-socket-mem=\"{mib}\""),
    };
    let [directory, other_directory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let other = args.next();
    let third = match &other {
        Some(daemon) => named(daemon, other_directory.path()),
        None => stock_in(other_directory.path()),
    };
    let daemons = [stock_in(directory.path()), our_daemon(), third];
    let mut all = [const { Vec::<Vec<f64>>::new() }; 3];
    for round in 0..rounds {
        for turn in 0..daemons.len() {
            let who = (round + turn) % daemons.len();
            all[who].push(measure(&daemons[who], &socket_mem));
        }
    }
    let third = other.map_or("Debian's again", |_| "the other");
    println!("{rounds} rounds: medians (quartiles), ratios of medians to Debian's\n");
    println!("| milliseconds | Debian's | ours | ratio | {third} | ratio |\n|---|---:|---:|---:|---:|---:|");
    for (at, name) in PHASES.iter().map(|(name, _)| *name).chain(REST).enumerate() {
        let of = |who: usize| spread(&all[who].iter().map(|phases| phases[at]).collect::<Vec<_>>());
        let [theirs, ours, third] = [0, 1, 2].map(of);
        let show = |(median, low, high): (f64, f64, f64)| format!("{median:.2} ({low:.2}-{high:.2})");
        println!(
            "| {name} | {} | {} | {:.2} | {} | {:.2} |",
            show(theirs),
            show(ours),
            ours.0 / theirs.0,
            show(third),
            third.0 / theirs.0
        );
    }
}
