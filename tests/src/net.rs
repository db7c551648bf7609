//! Hosts on a switch: network namespaces of their own for the daemon and for each host, joined by veth pairs.
//!
//! Needs root and `ip`; where that is not there, [`Lan::new`] says so and the test is skipped.

use crate::{PATIENCE, Sandbox};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// What iperf3's client says while the server is between two tests.
const NOT_READY: [&str; 3] =
    ["Connection refused", "Connection reset by peer", "server is busy running a test"];

/// Pings beyond those that count.
const MORE_PINGS: u32 = 10;

/// ping with so many seconds between two. Its answers are for [`unanswered`].
///
/// It does not wait for a last answer that is later than twice the latest one before, whatever `-W` says, so it gets
/// more to send than counts, and time to wait for all.
pub fn ping_line(count: u32, interval: &str) -> String {
    format!("ping -n -c {} -i {interval} -w 60", count + MORE_PINGS)
}

/// The first of `count` pings that what ping printed has no answer to.
pub fn unanswered(printed: &str, count: u32) -> Option<u32> {
    (1..=count).find(|n| !printed.contains(&format!("icmp_seq={n} ttl=")))
}

/// Network namespaces that are deleted at the end.
pub(crate) struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let no = NEXT.fetch_add(1, Ordering::Relaxed);
        Namespaces { prefix: format!("ovsrs-t{}-{no}", std::process::id()), names: Vec::new() }
    }

    /// The name that the system knows.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn add(&mut self, name: &str) -> Result<(), String> {
        let full = self.full(name);
        let made = Command::new("ip").args(["netns", "add", &full]).output().map_err(|e| e.to_string())?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).trim().to_owned());
        }
        self.names.push(full.clone());
        // Nothing speaks unless a test lets it: no router solicitations.
        // The switch's ports have no addresses of their own.
        let quiet = format!(
            "sysctl -qw net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.accept_dad=0 \
             net.ipv6.conf.default.disable_ipv6={}; ip link set lo up",
            u8::from(name == SWITCH)
        );
        let status = Command::new("ip").args(["netns", "exec", &full, "sh", "-c", &quiet]).status();
        status.map(|_| ()).map_err(|e| e.to_string())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A switch in a namespace, with hosts in theirs.
pub struct Lan {
    pub sandbox: Sandbox,
    children: Vec<Child>,
    namespaces: Namespaces,
}

/// The switch's own namespace.
pub const SWITCH: &str = "sw";

impl Lan {
    /// A daemon with bridge `br0`, not connected to anything. `None`, with the reason on standard error, where
    /// namespaces cannot be made.
    pub fn new() -> Option<Self> {
        Self::on(crate::daemon_binary())
    }

    /// As [`Lan::new`] with another daemon.
    pub fn on(daemon: &Path) -> Option<Self> {
        let mut namespaces = Namespaces::new();
        if let Err(why) = namespaces.add(SWITCH) {
            eprintln!("skipped: no network namespaces: {why}");
            return None;
        }
        let sandbox = Sandbox::start(daemon, &[], Some(namespaces.full(SWITCH)));
        sandbox.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"]);
        Some(Lan { sandbox, children: Vec::new(), namespaces })
    }

    /// As [`Lan::new`], with hosts `h1` to `hN` on ports of these names, with addresses 10.0.0.N and fd00::N.
    pub fn with_hosts(hosts: usize) -> Option<Self> {
        let mut lan = Self::new()?;
        lan.add_hosts(hosts);
        Some(lan)
    }

    /// Hosts `h1` to `hN` on ports of these names, with addresses 10.0.0.N and fd00::N.
    pub fn add_hosts(&mut self, hosts: usize) {
        for no in 1..=hosts {
            self.host(no);
            let name = format!("h{no}");
            let request = format!("ofport_request={no}");
            self.sandbox.vsctl(&["add-port", "br0", &name, "--", "set", "interface", &name, &request]);
        }
    }

    /// A namespace `hN` with a device `eth0`, whose other end is `hN` in the switch's namespace.
    pub fn host(&mut self, no: usize) {
        let name = format!("h{no}");
        self.namespaces.add(&name).unwrap();
        let (switch, host) = (self.namespaces.full(SWITCH), self.namespaces.full(&name));
        self.ip(
            SWITCH,
            &format!("link add name {name} netns {switch} type veth peer name eth0 netns {host}"),
        );
        self.ip(SWITCH, &format!("link set {name} up"));
        self.ip(&name, "link set eth0 up");
        self.ip(&name, &format!("addr add 10.0.0.{no}/24 dev eth0"));
        self.ip(&name, &format!("addr add fd00::{no}/64 dev eth0 nodad"));
    }

    /// Two devices in the switch's namespace whose ends are joined.
    pub fn wire(&self, one: &str, other: &str) {
        self.ip(SWITCH, &format!("link add name {one} type veth peer name {other}"));
        self.ip(SWITCH, &format!("link set {one} up"));
        self.ip(SWITCH, &format!("link set {other} up"));
    }

    /// A namespace of its own for something that is no host of the usual kind.
    pub fn namespace(&mut self, name: &str) {
        self.namespaces.add(name).unwrap();
    }

    /// Joins the switch's namespace with one of another LAN's: both ends are called `name`, and are up.
    pub fn cable(&self, other: &Lan, namespace: &str, name: &str) {
        let (here, there) = (self.namespaces.full(SWITCH), other.namespaces.full(namespace));
        self.ip(
            SWITCH,
            &format!("link add name {name} netns {here} type veth peer name {name} netns {there}"),
        );
        self.ip(SWITCH, &format!("link set {name} up"));
        other.ip(namespace, &format!("link set {name} up"));
    }

    /// A bridge `br-phys` with the device `wire` and addresses 172.31.1.NO and fd01::NO on its own port.
    pub fn underlay(&self, wire: &str, no: usize) {
        // The kernel sees the wire's packets too, and must not answer for an address that is the bridge's.
        self.run(SWITCH, "sysctl -qw net.ipv4.conf.all.arp_ignore=1");
        self.sandbox.vsctl(&["add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev"]);
        self.sandbox.vsctl(&["add-port", "br-phys", wire]);
        self.ip(SWITCH, &format!("addr add 172.31.1.{no}/24 dev br-phys"));
        self.run(SWITCH, "sysctl -qw net.ipv6.conf.br-phys.disable_ipv6=0");
        self.ip(SWITCH, &format!("addr add fd01::{no}/64 dev br-phys nodad"));
        self.ip(SWITCH, "link set br-phys up");
    }

    /// Gives the switch's namespace an address on a bridge's internal port: 10.0.0.254, fd00::254.
    pub fn join(&self, bridge: &str) {
        self.ip(SWITCH, &format!("addr add 10.0.0.254/24 dev {bridge}"));
        self.run(SWITCH, &format!("sysctl -qw net.ipv6.conf.{bridge}.disable_ipv6=0"));
        self.ip(SWITCH, &format!("addr add fd00::254/64 dev {bridge} nodad"));
        self.ip(SWITCH, &format!("link set {bridge} up"));
    }

    /// Waits until the kernels have said what they say unasked (multicast reports).
    pub fn settle(&self) {
        let counters = || self.sandbox.ofctl(&["dump-ports", "br0"]);
        let mut last = String::new();
        while last != counters() {
            last = counters();
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
    }

    /// A command in a namespace.
    pub fn command(&self, namespace: &str, line: &str) -> Command {
        let mut command = self.sandbox.command("ip");
        command.args(["netns", "exec", &self.namespaces.full(namespace)]).args(line.split_whitespace());
        command
    }

    /// Runs a command in a namespace to its end.
    pub fn output(&self, namespace: &str, line: &str) -> Output {
        self.command(namespace, line).output().unwrap()
    }

    /// As [`Lan::output`]; the test fails if the command does.
    pub fn run(&self, namespace: &str, line: &str) -> String {
        let output = self.output(namespace, line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{namespace}: {line}:\n{out}{err}\n{}", self.sandbox.log());
        out
    }

    /// `ip` in a namespace.
    pub fn ip(&self, namespace: &str, line: &str) -> String {
        self.run(namespace, &format!("ip {line}"))
    }

    /// Starts a command in a namespace; it is killed at the end of the test.
    pub fn start(&mut self, namespace: &str, line: &str) -> usize {
        let child = self.command(namespace, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.children.push(child.unwrap());
        self.children.len() - 1
    }

    /// Kills what [`Lan::start`] started.
    pub fn kill(&mut self, started: usize) {
        let child = &mut self.children[started];
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Whether one of a few pings is answered, once megaflows follow the configuration as it is.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        self.sandbox.appctl(&["revalidator/wait"]);
        self.output(from, &format!("ping -n -c 3 -i 0.2 -W 1 {to}")).status.success()
    }

    /// Sends pings, a hundred a second; the test fails unless the first `count` are all answered. Gives how many were sent.
    pub fn ping(&self, from: &str, to: &str, count: u32) -> u64 {
        let out = self.output(from, &format!("{} {to}", ping_line(count, "0.01")));
        let out = String::from_utf8_lossy(&out.stdout);
        let drops = || self.sandbox.appctl(&["ovs-rs/drops"]);
        assert!(unanswered(&out, count).is_none(), "{from} to {to}: {out}\n{}", drops());
        let said = out.lines().find(|l| l.contains(" packets transmitted"));
        said.and_then(|l| l.split(' ').next()?.parse().ok()).expect("ping says how many it sent")
    }

    /// Starts iperf3 in a namespace and waits until it listens.
    pub fn serve_iperf(&mut self, namespace: &str) {
        self.start(namespace, "iperf3 -s");
        let end = Instant::now() + PATIENCE;
        while !self.run(namespace, "ss -Hltn").contains(":5201") {
            assert!(Instant::now() < end, "iperf3 does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Runs iperf3 against a server; bits per second that came through.
    pub fn iperf(&self, from: &str, to: &str, options: &str) -> f64 {
        self.try_iperf(from, to, options).unwrap_or_else(|out| panic!("{out}"))
    }

    /// As [`Lan::iperf`]; what iperf3 said if it did not get through.
    pub fn try_iperf(&self, from: &str, to: &str, options: &str) -> Result<f64, String> {
        iperf_rate(|line| self.output(from, line), to, options)
    }
}

/// Bits per second that came through to an iperf3 server from a client that `run` runs, or what the client said.
///
/// Between two tests iperf3's server cleans up and opens its socket anew; a client that comes then, or before the server
/// listens, is told so and tries again.
pub(crate) fn iperf_rate(run: impl Fn(&str) -> Output, to: &str, options: &str) -> Result<f64, String> {
    let end = Instant::now() + PATIENCE;
    let out = loop {
        let out = run(&format!("iperf3 -J -c {to} {options}"));
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        if !NOT_READY.iter().any(|error| out.contains(error)) || Instant::now() > end {
            break out;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let report: serde_json::Value = serde_json::from_str(&out).map_err(|_| out.clone())?;
    report["end"]["sum_received"]["bits_per_second"].as_f64().ok_or(out)
}

impl Drop for Lan {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|i| self.kill(i));
    }
}
