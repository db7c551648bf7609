//! From exec to the first packet that a switch with four `dpdk` ports forwards, by phase: Debian's
//! `ovs-vswitchd-dpdk` and our daemon in turn, medians.
//!
//! `startup [rounds [MiB]]`: 7 rounds with 1024 MiB of hugepages taken at the start (`dpdk-socket-mem`; 0: as the
//! daemon needs them). The database says everything before the daemon starts. The ports are wires
//! (`net_af_packet`); a frame comes in by the first every millisecond, and the bridge floods it. Phases end with
//! lines of the daemon's log. Run it by `unshare -n`; needs root, the hugepages, Debian's
//! `openvswitch-switch-dpdk`, and `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`).

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::{Wire, configure, port_args, stock_in, udp};
use benches::{median, our_daemon};
use netdev::RxQueue;
use packet::Batch;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tests::Sandbox;

const PORTS: u32 = 4;
/// Between two frames.
const PACE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(30);
const DAY_MS: f64 = 86_400_000.0;

/// Phases, and the line of the log with which each ends (the last such line).
const PHASES: [(&str, &str); 4] = [
    ("process", "opened log file"),
    ("database", "DPDK Enabled - initializing"),
    ("EAL, hugepages", "DPDK Enabled - initialized"),
    ("mempools, ports", "bridge br0: added interface p"),
];

/// Kills the daemon in the end.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds of the day, of a line of the log.
fn time_of(line: &str) -> Option<f64> {
    let clock = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = clock.split(':').map(|p| p.parse::<f64>());
    let mut next = || parts.next()?.ok();
    Some(((next()? * 60.0 + next()?) * 60.0 + next()?) * 1000.0)
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0 % DAY_MS
}

/// When the first frame arrives at each of the other wires, in milliseconds from now.
fn first_arrivals(wires: &[Wire]) -> Vec<f64> {
    let begin = Instant::now();
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

/// Milliseconds of each phase, until the first packet, and until all ports forward.
fn measure(daemon: &Path, socket_mem: &str) -> Vec<f64> {
    let wires: Vec<Wire> = (0..PORTS).map(|no| Wire::new(&format!("start{no}"))).collect();
    let mut sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    sandbox.kill_daemon();
    let _ = fs::remove_file(sandbox.path("ovs-vswitchd.log"));
    configure(&sandbox, &["other_config:dpdk-extra=\"--no-pci\"", socket_mem], "standalone");
    for (no, wire) in (0..).zip(&wires) {
        let args = port_args(&format!("p{no}"), &wire.devargs(no), no + 1);
        sandbox.vsctl(&[vec!["--no-wait"], args.iter().map(String::as_str).collect()].concat());
    }
    let mut command = sandbox.command(daemon);
    command.args(["-vconsole:off", "-vsyslog:off", "--pidfile", "--log-file", "--disable-system"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let begin = now_ms();
    let child = Daemon(command.spawn().unwrap());
    let arrivals = first_arrivals(&wires);
    drop(child);
    let log = sandbox.log();
    if std::env::var_os("STARTUP_VERBOSE").is_some() {
        eprintln!("{log}");
    }
    let mut ends = Vec::new();
    for (name, mark) in PHASES {
        let line = log.lines().rfind(|l| l.contains(mark));
        let time = line.and_then(time_of).unwrap_or_else(|| panic!("no end of '{name}' in\n{log}"));
        ends.push((time - begin).rem_euclid(DAY_MS));
    }
    let before = [0.0].into_iter().chain(ends.clone());
    let mut phases: Vec<f64> = ends.iter().zip(before).map(|(end, begin)| end - begin).collect();
    phases.push(arrivals.iter().copied().fold(f64::MAX, f64::min));
    phases.push(arrivals.iter().copied().fold(0.0, f64::max));
    phases
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<u32>().expect("a number"));
    let (rounds, mib) = (number(7), number(1024));
    let socket_mem = match mib {
        0 => String::new(),
        mib => format!("other_config:dpdk-socket-mem=\"{mib}\""),
    };
    let socket_mem = if socket_mem.is_empty() { "other_config:dpdk-init=true" } else { &socket_mem };
    let directory = tempfile::tempdir().unwrap();
    let daemons = [stock_in(directory.path()), our_daemon()];
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (daemon, all) in daemons.iter().zip(&mut all) {
            all.push(measure(daemon, socket_mem));
        }
    }
    println!("| milliseconds | Debian's | ours | ratio |\n|---|---:|---:|---:|");
    let names = PHASES.iter().map(|(name, _)| *name).chain(["exec to first packet", "exec to all ports"]);
    for (at, name) in names.enumerate() {
        let [theirs, ours] =
            [0, 1].map(|who: usize| median(&all[who].iter().map(|p: &Vec<f64>| p[at]).collect::<Vec<_>>()));
        println!("| {name} | {theirs:.1} | {ours:.1} | {:.2} |", ours / theirs);
    }
}
