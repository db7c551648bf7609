//! OpenFlow controllers that others wrote: applications of os-ken (`tests/controllers/*.py`), and `ovs-testcontroller`.
//! Skipped with the reason where os-ken or network namespaces are missing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::Sandbox;
use tests::net::{Lan, SWITCH};

/// Debian's package python3-os-ken.
const MANAGER: &str = "/usr/bin/osken-manager";

/// One of our applications; it ends with the test.
struct OsKen {
    child: Child,
    said: PathBuf,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("controllers")
}

fn has_os_ken() -> bool {
    let is_there = Path::new(MANAGER).exists();
    if !is_there {
        eprintln!("skipped: no {MANAGER} (Debian's package python3-os-ken)");
    }
    is_there
}

impl OsKen {
    /// Runs an application that listens at a port, by a command like `osken-manager`'s beginning.
    fn start(mut command: Command, sandbox: &Sandbox, application: &str, port: u16) -> Self {
        let said = sandbox.path("os-ken.out");
        command.args(["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", &port.to_string()]);
        command.arg(directory().join(application)).env("PYTHONPATH", directory());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("DATABASE", format!("unix:{}", sandbox.path("db.sock").display()));
        let (out, err) = (File::create(&said).unwrap(), File::create(sandbox.path("os-ken.err")).unwrap());
        let child = command.stdout(out).stderr(err).stdin(Stdio::null()).spawn().unwrap();
        OsKen { child, said }
    }

    /// In the switch's namespace.
    fn in_lan(lan: &Lan, application: &str) -> Self {
        let ken = Self::start(lan.command(SWITCH, MANAGER), &lan.sandbox, application, 6653);
        lan.sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
        connect(&lan.sandbox, 6653);
        ken
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// The numbers in the last line that begins so.
    fn last(&self, beginning: &str) -> Vec<u64> {
        let said = self.said();
        let line = said.lines().rev().find(|l| l.starts_with(beginning)).unwrap_or_default();
        line.split(' ').filter_map(|w| w.parse().ok()).collect()
    }
}

impl Drop for OsKen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(sandbox: &Sandbox, port: u16) {
    sandbox.vsctl(&["set", "bridge", "br0", "protocols=OpenFlow13"]);
    sandbox.vsctl(&["set-controller", "br0", &format!("tcp:127.0.0.1:{port}")]);
    sandbox.vsctl(&["set", "controller", "br0", "max_backoff=1000", "connection_mode=out-of-band"]);
}

fn is_connected(sandbox: &Sandbox) -> bool {
    sandbox.vsctl(&["--columns=is_connected", "--bare", "list", "controller"]).trim() == "true"
}

/// A LAN with an application of os-ken that has connected.
fn lan_with(hosts: usize, application: &str) -> Option<(Lan, OsKen)> {
    if !has_os_ken() {
        return None;
    }
    let lan = Lan::with_hosts(hosts)?;
    // Nobody speaks but the test.
    (1..=hosts).for_each(|n| _ = lan.run(&format!("h{n}"), "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"));
    let ken = OsKen::in_lan(&lan, application);
    lan.sandbox.until("the controller is connected", || is_connected(&lan.sandbox));
    Some((lan, ken))
}

/// Waits until packets go to the controller.
fn until_ruled(lan: &Lan) {
    let rules = || lan.sandbox.ofctl(&["-O", "OpenFlow13", "dump-flows", "br0"]);
    lan.sandbox.until("the rule is there", || rules().contains("CONTROLLER"));
}

/// Groups, meters, statistics of every kind, packet-ins at rate, roles, errors and more, each asked for, decoded and
/// judged by os-ken.
#[test]
fn os_ken_understands_all_that_it_asks_for() {
    if !has_os_ken() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut args = vec!["add-br", "br0", "--", "set", "bridge", "br0", "fail_mode=secure"];
    let ports: Vec<[String; 2]> = (1..=4).map(|n| [format!("p{n}"), format!("ofport_request={n}")]).collect();
    for [name, number] in &ports {
        args.extend(["--", "add-port", "br0", name, "--", "set", "interface", name, number]);
    }
    sandbox.vsctl(&args);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut ken = OsKen::start(sandbox.command(MANAGER), &sandbox, "suite.py", port);
    connect(&sandbox, port);
    let end = Instant::now() + Duration::from_secs(180);
    let status = loop {
        match ken.child.try_wait().unwrap() {
            Some(status) => break status.success(),
            None if Instant::now() > end => break false,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let said = ken.said();
    let checks = said.lines().filter(|l| l.starts_with("ok ")).count();
    let err = std::fs::read_to_string(sandbox.path("os-ken.err")).unwrap();
    assert!(status && checks > 20 && !said.contains("FAILED"), "{said}\n{err}\n{}", sandbox.log());
}

#[test]
fn hosts_meet_over_a_learning_switch() {
    let Some((lan, ken)) = lan_with(3, "learning.py") else { return };
    let hosts = ["h1", "h2", "h3"];
    let mut sent = 0;
    for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2)] {
        let to = format!("10.0.0.{}", to + 1);
        lan.sandbox.until("the first ping", || lan.reaches(hosts[from], &to));
        // Three more found the way.
        sent += lan.ping(hosts[from], &to, 50) + 3;
    }
    let said = ken.said();
    for n in 1..=3 {
        let learned = format!(" {n}");
        assert!(said.lines().any(|l| l.starts_with("learned ") && l.ends_with(&learned)), "{said}");
    }
    // Flows that are not used go, and are told with what they forwarded: all but each host's first packets, which
    // went by the controller.
    let forwarded = || -> u64 {
        let said = ken.said();
        let removed = said.lines().filter(|l| l.starts_with("removed"));
        removed.map(|l| l.split(' ').nth(2).unwrap().parse::<u64>().unwrap()).sum()
    };
    lan.sandbox.until("the pings are told", || forwarded() >= 400);
    // ARP comes on top, a packet or two of each host.
    assert!(forwarded() < 2 * sent + 16, "more than {sent} and their answers: {}", ken.said());
    lan.ip("h3", "link set eth0 down");
    lan.sandbox.until("the port is told", || ken.said().contains("port h3 reason 2 state 1"));
}

#[test]
fn every_packet_of_a_host_comes_to_the_controller() {
    let Some((lan, ken)) = lan_with(1, "counting.py") else { return };
    let send = directory().join("send.py");
    until_ruled(&lan);
    lan.run("h1", &format!("/usr/bin/python3 {} 5000 2500", send.display()));
    lan.sandbox.until("all are there", || ken.last("packet-ins").first() >= Some(&5000));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ken.last("packet-ins"), [5000, 5000], "packets, and different ones");
}

/// `controller_rate_limit` and `controller_burst_limit`: what comes faster waits, and what waits too long is dropped.
#[test]
fn packet_ins_come_as_fast_as_the_limit_lets_them() {
    const RATE: u64 = 200;
    const BURST: u64 = 50;
    let Some((lan, ken)) = lan_with(1, "counting.py") else { return };
    let (rate, burst) = (format!("controller_rate_limit={RATE}"), format!("controller_burst_limit={BURST}"));
    lan.sandbox.vsctl(&["set", "controller", "br0", &rate, &burst]);
    let send = directory().join("send.py");
    until_ruled(&lan);
    let start = Instant::now();
    lan.run("h1", &format!("/usr/bin/python3 {} 3000 1000", send.display()));
    let came = ken.last("packet-ins").first().copied().unwrap_or(0);
    let most = BURST + (start.elapsed().as_secs_f64() * RATE as f64) as u64 + 2;
    assert!(came >= 2 * RATE && came <= most, "{came} in {:?}", start.elapsed());
    // What waited comes after, at most as many as a burst; the others were dropped, the status says so.
    let number = |key: &str| {
        let column = format!("status:packet-in-miss-{key}");
        lan.sandbox.get("controller", "br0", &column).parse::<u64>().unwrap_or(0)
    };
    lan.sandbox.until("the status says where all are", || {
        number("bypassed") + number("queued") == 3000 && number("backlog") == 0
    });
    let passed = number("bypassed") + number("queued") - number("dropped");
    let came = || ken.last("packet-ins").first().copied().unwrap_or(0);
    lan.sandbox.until("all that were not dropped are there", || came() >= passed);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(came(), passed);
}

#[test]
fn a_meter_holds_a_hosts_rate() {
    let Some((mut lan, ken)) = lan_with(2, "metered.py") else { return };
    // So that Debian's daemon would pass too, which does not make the sums that a host leaves to its device.
    (1..=2).for_each(|n| _ = lan.run(&format!("h{n}"), "ethtool -K eth0 tx off"));
    lan.serve_iperf("h2");
    lan.sandbox.until("the rules are there", || lan.reaches("h1", "10.0.0.2"));
    // The meter counts frames (42 bytes of headers), iperf3 payload; 200 kbit may come at once. On a busy machine less
    // may come by, but never more.
    let metered = || lan.iperf("h1", "10.0.0.2", "-u -b 20M -l 1000 -t 4");
    let is_held = |rate: f64| {
        assert!(rate < 2.15e6, "{rate} bit/s");
        rate > 1.7e6
    };
    assert!((0..3).any(|_| is_held(metered())), "less than the meter lets pass, three times");
    let free = lan.iperf("h1", "10.0.0.2", "-u -b 20M -l 1000 -t 2 -R");
    assert!(free > 15e6, "the other direction is free: {free} bit/s");
    let [seen, dropped] = ken.last("meter")[..] else { panic!("{}", ken.said()) };
    assert!(seen > 9_000 && dropped > seen / 2 && dropped < seen, "{}", ken.said());
}

/// Debian's own controller sets no flows: it forwards each packet itself.
#[test]
fn a_controller_forwards_every_packet_itself() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
    lan.start(SWITCH, "ovs-testcontroller --unixctl=none --noflow -O OpenFlow13 ptcp:6653:127.0.0.1");
    connect(&lan.sandbox, 6653);
    lan.sandbox.until("the controller is connected", || is_connected(&lan.sandbox));
    lan.sandbox.until("it lets packets through", || lan.reaches("h1", "10.0.0.2"));
    lan.ping("h1", "10.0.0.2", 500);
    let flows = lan.sandbox.ofctl(&["-O", "OpenFlow13", "dump-flows", "br0"]);
    assert!(!flows.contains("dl_dst"), "{flows}");
}

/// As a hub, it floods what it is given.
#[test]
fn a_hub_floods_every_packet() {
    let Some(mut lan) = Lan::with_hosts(3) else { return };
    lan.sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
    lan.start(SWITCH, "ovs-testcontroller --unixctl=none --hub -O OpenFlow13 ptcp:6653:127.0.0.1");
    connect(&lan.sandbox, 6653);
    lan.sandbox.until("it lets packets through", || lan.reaches("h1", "10.0.0.2"));
    let received = || {
        let text = lan.run("h3", "cat /sys/class/net/eth0/statistics/rx_packets");
        text.trim().parse::<u64>().unwrap()
    };
    let before = received();
    lan.ping("h1", "10.0.0.2", 100);
    assert!(received() >= before + 200, "pings and answers come to the third host too");
}
