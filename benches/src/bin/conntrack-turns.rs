//! The longest turns of a polling thread while millions of connections are dumped, flushed and expire, through
//! Debian's `ovs-vswitchd-dpdk` and our daemon, as both report them (`pmd-perf-show`, whose bins are a factor of 1.4
//! wide).
//!
//! `conntrack-turns [connections]`, 3,000,000 unless given. Needs what `p2p` needs. Packets of established connections
//! come from `net_pcap` all the time and go to `net_null`. What the machine adds is in the lines where nothing else goes on.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::{add_port, configure, stock_in, udp};
use benches::{our_daemon, tsc_hz, write_pcap};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::Sandbox;

const CONNECTIONS: u32 = 3_000_000;
/// Connections whose packets come all the time.
const ESTABLISHED: u64 = 1_000;
/// Seconds that a connection lives which is to expire.
const LIFE: u64 = 12;
const WATCH: Duration = Duration::from_secs(2);
const SETTLED: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Frames of so many connections from the given number on.
fn frames(from: u64, n: u64) -> impl Iterator<Item = Vec<u8>> {
    (from..from + n).map(|i| udp(i, [10, 128, 0, 1]).to_vec())
}

/// Longest turn in milliseconds, as a bound, and how many took longer than about one.
fn turns(sandbox: &Sandbox, hz: f64) -> (String, u64) {
    let text = sandbox.appctl(&["dpif-netdev/pmd-perf-show"]);
    let rows = text.lines().skip_while(|l| !l.contains("cycles/it")).skip(1);
    let rows = rows.take_while(|l| !l.contains("---")).filter_map(|l| {
        let mut words = l.split_whitespace();
        let wall = words.next()?;
        let count: u64 = words.next()?.parse().ok()?;
        Some((wall.parse::<f64>().ok().map(|cycles| cycles / hz * 1e3), count))
    });
    let rows: Vec<_> = rows.filter(|(_, count)| *count > 0).collect();
    let longest = match rows.last() {
        Some((Some(ms), _)) => format!("{ms:.2}"),
        _ => ">".to_owned(),
    };
    let long = rows.iter().filter(|(ms, _)| ms.is_none_or(|ms| ms > 1.45)).map(|(_, n)| n).sum();
    (longest, long)
}

fn count(sandbox: &Sandbox) -> u32 {
    sandbox.appctl(&["dpctl/ct-get-nconns"]).trim().parse().unwrap()
}

/// Waits until there are as many connections as wanted.
fn wait_for(sandbox: &Sandbox, wanted: impl Fn(u32) -> bool) {
    let start = Instant::now();
    while !wanted(count(sandbox)) {
        assert!(start.elapsed() < PATIENCE, "{} connections", count(sandbox));
        sleep(Duration::from_millis(100));
    }
}

/// Waits until all connections are made: a few of the first packets may be lost while the switch decides about them.
fn settle(sandbox: &Sandbox, n: u32) {
    let (mut last, mut changed) = (0, Instant::now());
    while last < n / 2 || changed.elapsed() < SETTLED {
        let now = count(sandbox);
        if now != last {
            (last, changed) = (now, Instant::now());
        }
        sleep(Duration::from_millis(50));
    }
}

struct Watch<'a> {
    sandbox: &'a Sandbox,
    hz: f64,
}

impl Watch<'_> {
    /// Clears the counters, does it, and says what the turns were.
    fn over(&self, f: impl FnOnce()) -> String {
        self.sandbox.appctl(&["dpif-netdev/pmd-stats-clear"]);
        sleep(Duration::from_millis(10));
        let start = Instant::now();
        f();
        let took = start.elapsed().as_secs_f64();
        let (longest, long) = turns(self.sandbox, self.hz);
        format!("{took:.2} | {longest} | {long}")
    }
}

const WORK: [&str; 4] = ["nothing else", "a dump of all", "a flush of all", "all expire"];

/// What the turns were in each kind of work.
fn measure(daemon: &Path, n: u32, dir: &Path) -> Vec<String> {
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    configure(&sandbox, &["other_config:pmd-perf-metrics=true"], "secure");
    sandbox.vsctl(&[
        "--",
        "--id=@d",
        "create",
        "Datapath",
        "datapath_version=0",
        "--",
        "set",
        "Open_vSwitch",
        ".",
        "datapaths:netdev=@d",
    ]);
    let life = format!("udp_single={LIFE}");
    sandbox.vsctl(&["add-zone-tp", "netdev", "zone=3", &life]);
    add_port(&sandbox, "out", "net_null0,no-rx=1", 2);
    for (port, zone) in [(1, 2), (3, 1), (4, 3)] {
        sandbox.ofctl(&["add-flow", "br0", &format!("in_port={port},ip,actions=ct(commit,zone={zone}),2")]);
    }
    let file = |name: &str| dir.join(name).display().to_string();
    add_port(&sandbox, "known", &format!("net_pcap0,rx_pcap={},infinite_rx=1", file("known.pcap")), 1);
    let watch = Watch { sandbox: &sandbox, hz: tsc_hz() };
    add_port(&sandbox, "new", &format!("net_pcap1,rx_pcap={}", file("new.pcap")), 3);
    settle(&sandbox, n);
    let mut lines = vec![watch.over(|| sleep(WATCH))];
    lines.push(watch.over(|| _ = sandbox.appctl(&["dpctl/dump-conntrack", "zone=1"])));
    lines.push(watch.over(|| {
        sandbox.appctl(&["dpctl/flush-conntrack", "zone=1"]);
        wait_for(&sandbox, |now| now < n / 10);
        sleep(WATCH);
    }));
    sandbox.vsctl(&["del-port", "br0", "new"]);
    add_port(&sandbox, "mortal", &format!("net_pcap2,rx_pcap={}", file("new.pcap")), 4);
    settle(&sandbox, n);
    lines.push(watch.over(|| {
        wait_for(&sandbox, |now| now < n / 10);
        sleep(WATCH);
    }));
    lines
}

fn main() {
    let n = std::env::args().nth(1).map_or(CONNECTIONS, |n| n.parse().expect("a number"));
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    write_pcap(&dir.join("known.pcap"), frames(0, ESTABLISHED));
    write_pcap(&dir.join("new.pcap"), frames(ESTABLISHED, (n - ESTABLISHED as u32 - 10).into()));
    let theirs = measure(&stock_in(dir), n, dir);
    let ours = measure(&our_daemon(), n, dir);
    println!("{n} UDP connections, one polling thread\n");
    println!(
        "| meanwhile | Debian's: seconds | longest turn, ms | over 1 ms | ours: seconds | longest turn, ms | over 1 ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (what, (theirs, ours)) in WORK.iter().zip(theirs.iter().zip(&ours)) {
        println!("| {what} | {theirs} | {ours} |");
    }
}
