//! New flows on one port while a known flow runs on another: what does the known one lose?
//!
//! `churn [new flows per second [known packets per second [seconds]]]`: 100000 100000 5 unless told otherwise. Two
//! wires (`net_af_packet`) lead into Debian's `ovs-vswitchd-dpdk`, then into our daemon; each packet leaves by a
//! `net_null`. On wire A every packet is the first of its flow, on wire B all are of one flow. Run it by
//! `unshare -n`; needs root, about 700 MiB of free hugepages, Debian's `openvswitch-switch-dpdk`, and
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`). The polling thread has the first claim on core 1, the sender on
//! core 0; a kernel that gives others 50 ms of each second all the same makes 5,000 packets wait, which fit the ring.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::{Sender, Wire, add_port, configure, stock_in, udp};
use benches::our_daemon;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::Sandbox;

/// The sender sends what is due this often.
const TICK: Duration = Duration::from_micros(200);
/// For the datapath to get through what waits.
const SETTLE: Duration = Duration::from_secs(1);
/// The known flow alone, to see that the rig itself loses nothing.
const ALONE: Duration = Duration::from_secs(2);
/// Room for all flows of a run: by the database, since Debian's daemon forgets what `upcall/set-flow-limit` says beyond
/// that, and by the command, since the limit begins lower.
const FLOW_LIMIT: &str = "2000000";
/// Makes the switch look at both addresses and both ports, so that every flow is a megaflow of its own.
const RULES: &str = "in_port=1,udp,actions=multipath(symmetric_l3l4+udp,50,modulo_n,2,0,NXM_NX_REG0[]),output:3\n\
                     in_port=2,actions=output:4\n";

struct Load {
    new_flows: u64,
    known: u64,
    time: Duration,
}

/// Counters of the switch.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Packets of the known flow that came in, and that left.
    known_in: u64,
    known_out: u64,
    new_out: u64,
    /// Upcalls that were answered, and those that found no room.
    upcalls: u64,
    refused: u64,
    megaflows: u64,
    /// Memory of the daemon.
    kib: u64,
}

/// Milliseconds that the polling thread wanted its core and somebody else had it.
fn kept_waiting(pid: u32) -> f64 {
    let stats =
        pmd_tasks(pid).into_iter().map(|t| std::fs::read_to_string(t.join("schedstat")).unwrap_or_default());
    stats.filter_map(|s| s.split(' ').nth(1)?.parse::<f64>().ok()).sum::<f64>() / 1e6
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    waited_ms: f64,
    known_sent: u64,
    new_sent: u64,
    seen: Seen,
}

/// The number behind a word.
fn number(text: &str, after: &str) -> u64 {
    let rest = text.split(after).nth(1).unwrap_or_default().trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0)
}

fn look(sandbox: &Sandbox) -> Seen {
    let port = |no: &str, what: &str| number(&sandbox.ofctl(&["dump-ports", "br0", no]), what);
    let stats = sandbox.appctl(&["dpif-netdev/pmd-stats-show", "-pmd", "1"]);
    Seen {
        known_in: port("2", "rx pkts="),
        known_out: port("4", "tx pkts="),
        new_out: port("3", "tx pkts="),
        upcalls: number(&stats, "miss with success upcall:"),
        refused: number(&stats, "miss with failed upcall:"),
        megaflows: number(&sandbox.appctl(&["upcall/show"]), "(current"),
        kib: number(
            &std::fs::read_to_string(format!("/proc/{}/status", sandbox.daemon_pid())).unwrap(),
            "VmRSS:",
        ),
    }
}

impl Seen {
    fn since(self, before: Seen) -> Seen {
        Seen {
            known_in: self.known_in - before.known_in,
            known_out: self.known_out - before.known_out,
            new_out: self.new_out - before.new_out,
            upcalls: self.upcalls - before.upcalls,
            refused: self.refused - before.refused,
            megaflows: self.megaflows.saturating_sub(before.megaflows),
            kib: self.kib.saturating_sub(before.kib),
        }
    }
}

/// Sends both loads evenly. `first` is the number of the first new flow.
fn drive(a: &mut Sender, b: &mut Sender, load: &Load, first: u64) {
    let known = udp(0, [10, 2, 0, 1]);
    let begin = Instant::now();
    let (mut new_done, mut known_done) = (0, 0);
    while begin.elapsed() < load.time {
        let due = |rate: u64| (begin.elapsed().as_secs_f64() * rate as f64) as u64;
        let (new_due, known_due) = (due(load.new_flows), due(load.known));
        b.send(known_done, known_due, |_| known);
        a.send(first + new_done, first + new_due, |i| udp(i, [10, 1, 0, 1]));
        (new_done, known_done) = (new_due, known_due);
        sleep(TICK);
    }
}

fn run(sandbox: &Sandbox, wires: &[Wire; 2], load: &Load, first: u64) -> Outcome {
    let [mut a, mut b] = [wires[0].sender(), wires[1].sender()];
    let before = look(sandbox);
    let waited = kept_waiting(sandbox.daemon_pid());
    let send = || {
        claim_core();
        drive(&mut a, &mut b, load, first);
    };
    std::thread::scope(|s| s.spawn(send).join().expect("a sender"));
    sleep(SETTLE);
    let waited_ms = kept_waiting(sandbox.daemon_pid()) - waited;
    Outcome { waited_ms, known_sent: b.sent, new_sent: a.sent, seen: look(sandbox).since(before) }
}

/// What happens to the known flow alone, and beside new ones.
fn measure(daemon: &Path, load: &Load) -> [Outcome; 2] {
    let wires = [Wire::new("churn-a"), Wire::new("churn-b")];
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    let limit = format!("other_config:flow-limit={FLOW_LIMIT}");
    configure(&sandbox, &["other_config:max-idle=60000", &limit], "secure");
    for (wire, (name, no)) in wires.iter().zip([("a", 1), ("b", 2)]) {
        add_port(&sandbox, name, &wire.devargs(no), no);
    }
    add_port(&sandbox, "out-a", "net_null1,no-rx=1", 3);
    add_port(&sandbox, "out-b", "net_null2,no-rx=1", 4);
    std::fs::write(sandbox.path("rules"), RULES).unwrap();
    sandbox.ofctl(&["add-flows", "br0", "rules"]);
    sandbox.appctl(&["upcall/set-flow-limit", FLOW_LIMIT]);
    set_apart(sandbox.daemon_pid());
    let alone = Load { new_flows: 0, known: load.known, time: ALONE };
    // The flow becomes known.
    run(&sandbox, &wires, &Load { time: Duration::from_millis(100), ..alone }, 0);
    let first = run(&sandbox, &wires, &alone, 0);
    let second = run(&sandbox, &wires, load, 1);
    if std::env::var_os("CHURN_VERBOSE").is_some() {
        eprintln!("{}", sandbox.appctl(&["dpif-netdev/pmd-stats-show", "-pmd", "1"]));
        eprintln!("{}", sandbox.appctl(&["upcall/show"]));
        eprintln!("{}", sandbox.appctl(&["dpif-netdev/pmd-rxq-show"]));
    }
    [first, second]
}

/// The calling thread goes first on core 0.
fn claim_core() {
    let me = nix::unistd::gettid().to_string();
    let pinned = Command::new("taskset").args(["-pc", "0", &me]).output();
    assert!(pinned.is_ok_and(|o| o.status.success()), "taskset");
    go_first(&me);
}

/// Polling threads go first on their cores, as if those were set apart for them (`isolcpus`).
fn set_apart(pid: u32) {
    pmd_tasks(pid).iter().filter_map(|task| task.file_name()?.to_str()).for_each(go_first);
}

fn go_first(thread: &str) {
    let first = Command::new("chrt").args(["-f", "-p", "1", thread]).output();
    assert!(first.is_ok_and(|o| o.status.success()), "chrt");
}

/// Directories of a process's polling threads in `/proc`.
fn pmd_tasks(pid: u32) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|t| t.path());
    let name = |t: &PathBuf| std::fs::read_to_string(t.join("comm")).unwrap_or_default();
    tasks.filter(|t| name(t).starts_with("pmd-c")).collect()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<u64>().expect("a number"));
    let (new_flows, known, seconds) = (number(100_000), number(100_000), number(5));
    let load = Load { new_flows, known, time: Duration::from_secs(seconds) };
    let directory = tempfile::tempdir().unwrap();
    let daemons = [stock_in(directory.path()), our_daemon()];
    let results = daemons.map(|daemon| measure(&daemon, &load));
    let per_second = move |n: u64| format!("{:.0}", n as f64 / seconds as f64);
    type Row = (&'static str, Box<dyn Fn(&[Outcome; 2]) -> String>);
    let lost = |o: &Outcome| {
        let n = o.known_sent.saturating_sub(o.seen.known_out);
        format!("{n} ({:.3} %)", 100.0 * n as f64 / o.known_sent.max(1) as f64)
    };
    let each = |o: &Outcome| (o.seen.kib * 1024 / o.seen.megaflows.max(1)).to_string();
    let rows: [Row; 10] = [
        ("known flow alone: packets sent", Box::new(|r| r[0].known_sent.to_string())),
        ("of them lost", Box::new(move |r| lost(&r[0]))),
        ("known flow beside new ones: packets sent", Box::new(|r| r[1].known_sent.to_string())),
        ("of them lost", Box::new(move |r| lost(&r[1]))),
        ("new flows offered, per second", Box::new(move |r| per_second(r[1].new_sent))),
        ("first packets that arrived, per second", Box::new(move |r| per_second(r[1].seen.new_out))),
        ("megaflows installed, per second", Box::new(move |r| per_second(r[1].seen.megaflows))),
        ("memory for each of them, bytes", Box::new(move |r| each(&r[1]))),
        ("upcalls refused, per second", Box::new(move |r| per_second(r[1].seen.refused))),
        ("ms that the core was with others", Box::new(|r| format!("{:.0}", r[0].waited_ms + r[1].waited_ms))),
    ];
    println!("| | Debian's | ours |\n|---|---:|---:|");
    for (what, show) in rows {
        println!("| {what} | {} | {} |", show(&results[0]), show(&results[1]));
    }
}
