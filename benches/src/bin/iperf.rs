//! What passes between two namespaces on veth ports through our daemon and through Debian's, in turn.
//!
//! `iperf [rounds [seconds [setting...]]]`: 3 rounds of 4 seconds and every setting unless told otherwise. Needs root, iperf3, ethtool and
//! `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`). The hosts' programs run on core 0, the daemon on core 1.
//! Debian's daemon cannot carry TCP of hosts that leave checksums to the device unless it is told
//! `userspace-tso-enable=true`; ours can without. So each setting is a line of its own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::{STOCK, cpu_seconds, median, our_daemon};
use std::path::Path;
use std::process::Command;
use tests::net::Lan;

/// A way to set up daemons and hosts.
struct Setting {
    name: &'static str,
    /// `userspace-tso-enable` for both daemons.
    tso: bool,
    /// The hosts leave checksums and segmentation to their devices, as they do by default.
    offloads: bool,
}

const SETTINGS: [Setting; 3] = [
    Setting { name: "defaults", tso: false, offloads: true },
    Setting { name: "userspace-tso", tso: true, offloads: true },
    Setting { name: "no-offloads", tso: false, offloads: false },
];

/// iperf3's options, and by what to divide bits per second.
const LOADS: [(&str, &str, f64); 3] = [
    ("TCP, Gbit/s", "-P 1", 1e9),
    ("TCP from server, Gbit/s", "-P 1 -R", 1e9),
    // 64 bytes of payload.
    ("UDP of 64 bytes, 1000 packets/s", "-u -b 0 -l 64", 64.0 * 8.0 * 1e3),
];

/// Rate, and the daemon's processor seconds for each unit that passed.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    cpu: f64,
}

fn measure(daemon: &Path, setting: &Setting, seconds: u32) -> Vec<Figure> {
    let mut lan = Lan::on(daemon).expect("namespaces");
    if setting.tso {
        lan.sandbox.vsctl(&["set", "open", ".", "other_config:userspace-tso-enable=true"]);
        lan.sandbox.stop_daemon(false);
        lan.sandbox.start_daemon();
    }
    lan.add_hosts(2);
    if !setting.offloads {
        for host in ["h1", "h2"] {
            lan.run(host, "ethtool -K eth0 tx off");
        }
    }
    let pid = lan.sandbox.daemon_pid();
    let pinned = Command::new("taskset").args(["-apc", "1", &pid.to_string()]).output().unwrap();
    assert!(pinned.status.success());
    lan.serve_iperf("h2");
    assert!(lan.reaches("h1", "10.0.0.2"));
    let one = |(_, options, unit): &(&str, &str, f64)| {
        let options = format!("{options} -t {seconds} -A 0,0 --connect-timeout 2000");
        let before = cpu_seconds(pid);
        let rate = lan.try_iperf("h1", "10.0.0.2", &options).unwrap_or(0.0) / unit;
        Figure { rate, cpu: (cpu_seconds(pid) - before) / (rate * f64::from(seconds)) }
    };
    LOADS.iter().map(one).collect()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse::<u32>().expect("a number"));
    let (rounds, seconds) = (number(3), number(4));
    let wanted: Vec<String> = args.collect();
    println!("| setting | what | Debian's | ours | ratio | CPU s of each unit: Debian's | ours | ratio |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let is_wanted = |s: &&Setting| wanted.is_empty() || wanted.iter().any(|w| w == s.name);
    for setting in SETTINGS.iter().filter(is_wanted) {
        let rounds: Vec<[Vec<Figure>; 2]> = (0..rounds)
            .map(|_| [Path::new(STOCK), &our_daemon()].map(|daemon| measure(daemon, setting, seconds)))
            .collect();
        for (at, (what, ..)) in LOADS.iter().enumerate() {
            let middle = |daemon: usize, of: fn(&Figure) -> f64| {
                median(&rounds.iter().map(|r| of(&r[daemon][at])).collect::<Vec<_>>())
            };
            let [rate, cpu] =
                [|f: &Figure| f.rate, |f: &Figure| f.cpu].map(|of| [middle(0, of), middle(1, of)]);
            println!(
                "| {} | {what} | {:.3} | {:.3} | {:.2} | {:.4} | {:.4} | {:.2} |",
                setting.name,
                rate[0],
                rate[1],
                rate[1] / rate[0],
                cpu[0],
                cpu[1],
                cpu[1] / cpu[0]
            );
        }
    }
}
