//! Debian's OVN on one hypervisor, with Debian's daemon and ours in turn, in one run: how long `ovn-nbctl --wait=hv
//! sync` takes, and how long many logical switches of many ports take from their configuration until all are there.
//!
//! `ovn [switches [ports [rounds]]]`: 50 switches of 20 ports in 3 rounds unless told otherwise. Needs root,
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`) and Debian's packages. Medians of the rounds; ratios are ours to
//! Debian's: below 1 is better. CPU time is the daemon's alone.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::{STOCK, cpu_seconds, median, our_daemon, resident};
use std::path::Path;
use std::time::Instant;
use tests::ovn::Ovn;

/// How often `sync` is called, after a change and without one.
const SYNCS: u32 = 20;

/// What is measured, and how its figure is called.
type Row = (&'static str, f64);

/// Words of one `ovn-nbctl` or `ovs-vsctl`, of many commands; `~` stands for a space within a word.
fn words(commands: impl Iterator<Item = String>) -> Vec<String> {
    let line = commands.collect::<Vec<_>>().join(" -- ");
    line.split_whitespace().map(|word| word.replace('~', " ")).collect()
}

/// Switches of ports on one router, and an interface for each port.
struct Shape {
    switches: usize,
    ports: usize,
}

impl Shape {
    fn all(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.switches).flat_map(|s| (0..self.ports).map(move |p| (s, p)))
    }

    fn logical(&self, ovn: &Ovn) {
        let switches = (0..self.switches).map(|s| {
            format!(
                "ls-add s{s} -- lrp-add lr0 lr0-s{s} 00:00:00:00:ff:{s:02x} 10.{s}.0.1/16 -- lsp-add s{s} s{s}-lr0 \
                 -- lsp-set-type s{s}-lr0 router -- lsp-set-addresses s{s}-lr0 router \
                 -- lsp-set-options s{s}-lr0 router-port=lr0-s{s}"
            )
        });
        let ports = self.all().map(|(s, p)| {
            let name = format!("p{s}-{p}");
            format!(
                "lsp-add s{s} {name} -- lsp-set-addresses {name} 50:54:00:00:{s:02x}:{p:02x}~10.{s}.1.{p}"
            )
        });
        let words = words(["lr-add lr0".to_owned()].into_iter().chain(switches).chain(ports));
        ovn.nbctl_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn interfaces(&self, ovn: &Ovn) {
        let add = self.all().map(|(s, p)| {
            let name = format!("p{s}-{p}");
            format!(
                "add-port br-int {name} -- set interface {name} type=internal external_ids:iface-id={name}"
            )
        });
        let words = words(add);
        ovn.sandbox(1).vsctl(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Waits until OVN says that every port works.
    fn realised(&self, ovn: &Ovn) {
        let wanted = self.switches * self.ports;
        ovn.until("all ports are up", || {
            ovn.sync();
            let up = ovn.nbctl_words(&["--bare", "--columns=name", "find", "Logical_Switch_Port", "up=true"]);
            up.lines().filter(|l| l.starts_with('p')).count() == wanted
        });
    }
}

/// Seconds that something takes, and processor seconds of the daemon.
fn timed(ovn: &Ovn, what: impl FnOnce()) -> [f64; 2] {
    let pid = ovn.sandbox(1).daemon_pid();
    let (start, before) = (Instant::now(), cpu_seconds(pid));
    what();
    [start.elapsed().as_secs_f64(), cpu_seconds(pid) - before]
}

/// Milliseconds of one `sync`, without and with something to do: the median of some. And the daemon's processor time for
/// one, on average.
fn syncs(ovn: &Ovn, switch: &str) -> [f64; 3] {
    let pid = ovn.sandbox(1).daemon_pid();
    let before = cpu_seconds(pid);
    let each =
        |what: &dyn Fn(u32)| median(&(0..SYNCS).map(|i| timed(ovn, || what(i))[0] * 1e3).collect::<Vec<_>>());
    let idle = each(&|_| ovn.sync());
    let change = |i: u32| {
        let (priority, what) = ((1000 + i).to_string(), format!("ip4.dst == 10.9.9.{i}"));
        ovn.nbctl_words(&["--wait=hv", "acl-add", switch, "to-lport", &priority, &what, "drop"]);
    };
    let changes = each(&change);
    [idle, changes, (cpu_seconds(pid) - before) * 1e3 / f64::from(2 * SYNCS)]
}

fn measure(daemon: &Path, shape: &Shape) -> Vec<Row> {
    let ovn = Ovn::with_daemon(daemon, 1, "geneve").expect("namespaces and OVN");
    shape.logical(&ovn);
    ovn.sync();
    let small = syncs(&ovn, "s0");
    let [wall, cpu] = timed(&ovn, || {
        shape.interfaces(&ovn);
        shape.realised(&ovn);
    });
    let large = syncs(&ovn, "s1");
    let mut rows = vec![
        ("sync, no port here, ms", small[0]),
        ("sync after a change, no port here, ms", small[1]),
        ("CPU of either, ms", small[2]),
        ("all ports realised, s", wall),
        ("all ports realised, CPU s", cpu),
        ("sync, all ports here, ms", large[0]),
        ("sync after a change, all ports here, ms", large[1]),
        ("CPU of either, all ports here, ms", large[2]),
    ];
    rows.push(("memory, MB", resident(ovn.sandbox(1).daemon_pid()) / 1e6));
    rows
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<usize>().expect("a number"));
    let shape = Shape { switches: number(50), ports: number(20) };
    let rounds = number(3);
    let round = |no: usize| {
        // Each goes first in turn.
        let first =
            if no.is_multiple_of(2) { [STOCK.into(), our_daemon()] } else { [our_daemon(), STOCK.into()] };
        let mut rows = first.map(|daemon| measure(&daemon, &shape));
        rows.rotate_left(no % 2);
        rows
    };
    let rounds: Vec<[Vec<Row>; 2]> = (0..rounds).map(round).collect();
    println!("| {} switches of {} ports | Debian's | ours | ratio |", shape.switches, shape.ports);
    println!("|---|---:|---:|---:|");
    for (at, (what, _)) in rounds.first().into_iter().flat_map(|r| r[0].iter().enumerate()) {
        let [theirs, ours] =
            [0, 1].map(|daemon| median(&rounds.iter().map(|r| r[daemon][at].1).collect::<Vec<_>>()));
        println!("| {what} | {theirs:.2} | {ours:.2} | {:.2} |", ours / theirs);
    }
}
