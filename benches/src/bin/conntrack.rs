//! Connection tracking on one polling thread: new connections, established packets, memory, and flushes of an
//! empty zone, through Debian's `ovs-vswitchd-dpdk` and our daemon in one run.
//!
//! `conntrack [connections]`, 1,000,000 unless given. Needs what `p2p` needs. Packets come from `net_pcap` and
//! go to `net_null`; rates are per second of the polling thread's processor time, so that what else runs on the
//! machine counts little. New connections are made from a capture that is read once.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::dpdk::sent;
use benches::{median, our_daemon, resident};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::Sandbox;

const STOCK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const CONNECTIONS: u32 = 1_000_000;
/// Connections whose packets are counted once they are established.
const ESTABLISHED: u32 = 1_000;
const WARM: Duration = Duration::from_millis(1_500);
const MEASURE: Duration = Duration::from_secs(2);
const TICKS: f64 = 100.0;
const FLUSHES: usize = 21;
const QUIET: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// A 60-byte UDP frame of connection `i`, or its answer.
fn frame(i: u32, is_reply: bool) -> Vec<u8> {
    let (client, server) = (0x0a00_0000 | (i & 0xffff), 0x0a80_0001_u32);
    let (sport, dport) = ((1024 + (i >> 16)) as u16, 53_u16);
    let (src, dst, sp, dp) =
        if is_reply { (server, client, dport, sport) } else { (client, server, sport, dport) };
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend(src.to_be_bytes());
    header.extend(dst.to_be_bytes());
    let sum: u32 = header.chunks(2).map(|w| (u32::from(w[0]) << 8) | u32::from(w[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    f.extend(header);
    f.extend([sp.to_be_bytes(), dp.to_be_bytes(), [0, 26], [0, 0]].concat());
    f.resize(60, 0);
    f
}

fn write_pcap(path: &Path, frames: impl Iterator<Item = Vec<u8>>) {
    let mut out = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let words = |w: &[u32]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    out.write_all(&words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1])).unwrap();
    for frame in frames {
        out.write_all(&words(&[0, 0, frame.len() as u32, frame.len() as u32])).unwrap();
        out.write_all(&frame).unwrap();
    }
}

/// Processor time in seconds of the polling thread.
fn pmd_time(pid: u32) -> f64 {
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").starts_with("pmd-c") {
            let stat = read("stat");
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            return (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS;
        }
    }
    0.0
}

/// A switch with one bridge and a polling thread on core 1.
fn switch(daemon: &Path) -> Sandbox {
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    let config = ["other_config:dpdk-init=true", "other_config:pmd-cpu-mask=2"];
    sandbox.vsctl(&[&["set", "Open_vSwitch", "."], &config[..]].concat());
    let bridge = ["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev", "fail_mode=secure"];
    sandbox.vsctl(&bridge);
    add_port(&sandbox, "out", "net_null0,no-rx=1", 2);
    sandbox
}

fn add_port(sandbox: &Sandbox, name: &str, devargs: &str, number: u32) {
    let options = format!("options:dpdk-devargs=\"{devargs}\"");
    let number = format!("ofport_request={number}");
    sandbox.vsctl(&["add-port", "br0", name, "--", "set", "Interface", name, "type=dpdk", &options, &number]);
    let error = sandbox.get("Interface", name, "error");
    assert_eq!(error.trim(), "[]", "{name}");
}

fn rules(sandbox: &Sandbox, rules: &[&str]) {
    sandbox.ofctl(&["del-flows", "br0"]);
    for rule in rules {
        sandbox.ofctl(&["add-flow", "br0", rule]);
    }
}

/// Figures of one daemon.
struct Figures {
    established: f64,
    new: f64,
    bytes: f64,
    /// Seconds of a command that does little, and of a flush of an empty zone while all connections are there.
    command: f64,
    flush: f64,
}

/// A connection to a daemon's control socket, which spares a process for each command.
struct Control(UnixStream);

impl Control {
    fn of(sandbox: &Sandbox) -> Self {
        let socket = sandbox.path(&format!("ovs-vswitchd.{}.ctl", sandbox.daemon_pid()));
        Control(UnixStream::connect(socket).unwrap())
    }

    /// The result of a command with a short one.
    fn ask(&mut self, method: &str, parameters: &[&str]) -> String {
        let request = serde_json::json!({ "id": 0, "method": method, "params": parameters });
        self.0.write_all(request.to_string().as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let n = self.0.read(&mut answer).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer[..n]).unwrap();
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].as_str().unwrap().trim().to_owned()
    }

    fn seconds(&mut self, method: &str, parameters: &[&str]) -> f64 {
        let mut all = Vec::new();
        for _ in 0..FLUSHES {
            let start = Instant::now();
            self.ask(method, parameters);
            all.push(start.elapsed().as_secs_f64());
        }
        median(&all)
    }
}

fn measure(daemon: &Path, n: u32, dir: &Path) -> Figures {
    let sandbox = switch(daemon);
    let pid = sandbox.daemon_pid();
    let stateful = [
        "table=0,ip,ct_state=-trk,actions=ct(table=1,zone=1)",
        "table=1,ip,ct_state=+trk+new,actions=ct(commit,zone=1),2",
        "table=1,ip,ct_state=+trk+est,actions=2",
    ];
    rules(&sandbox, &stateful);
    let both = dir.join("established.pcap");
    add_port(&sandbox, "both", &format!("net_pcap0,rx_pcap={},infinite_rx=1", both.display()), 1);
    sleep(WARM);
    let (packets, time) = (sent(&sandbox, "br0", "2"), pmd_time(pid));
    sleep(MEASURE);
    let established = (sent(&sandbox, "br0", "2") - packets) / (pmd_time(pid) - time);
    sandbox.vsctl(&["del-port", "br0", "both"]);
    sandbox.appctl(&["dpctl/flush-conntrack"]);
    rules(&sandbox, &["ip,actions=ct(commit,zone=1),2"]);
    let mut control = Control::of(&sandbox);
    let memory = resident(pid);
    let new = dir.join("new.pcap");
    add_port(&sandbox, "new", &format!("net_pcap1,rx_pcap={}", new.display()), 3);
    let start = Instant::now();
    // From the first connections that are seen, for the thread was idle before, to the end of the capture, where nothing
    // has changed for a while. A few of the first packets may be lost while the switch decides about them.
    let (mut first, mut last, mut changed) = (None, (0, 0.0), Instant::now());
    while changed.elapsed() < QUIET || last.0 == 0 {
        assert!(start.elapsed() < PATIENCE, "{} connections of {n}", last.0);
        let now = control.ask("dpctl/ct-get-nconns", &[]).parse::<u32>().unwrap();
        if now != last.0 {
            (last, changed) = ((now, pmd_time(pid)), Instant::now());
            first = first.or(Some(last));
        }
        sleep(Duration::from_millis(1));
    }
    let first = first.unwrap_or_default();
    let rate = f64::from(last.0 - first.0) / (last.1 - first.1);
    let bytes = (resident(pid) - memory) / f64::from(last.0);
    let command = control.seconds("dpctl/ct-get-nconns", &[]);
    let flush = control.seconds("dpctl/flush-conntrack", &["zone=9"]);
    Figures { established, new: rate, bytes, command, flush }
}

fn main() {
    let n = std::env::args().nth(1).map_or(CONNECTIONS, |n| n.parse().expect("a number"));
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let both = (0..ESTABLISHED).flat_map(|i| [frame(i, false), frame(i, true)]);
    write_pcap(&dir.join("established.pcap"), both);
    write_pcap(&dir.join("new.pcap"), (0..n).map(|i| frame(i, false)));
    // Files in the run directory are named for the program.
    let stock = dir.join("ovs-vswitchd");
    symlink(STOCK, &stock).unwrap();
    let theirs = measure(&stock, n, dir);
    let ours = measure(&our_daemon(), n, dir);
    println!("{n} UDP connections, one polling thread\n");
    println!("| what | Debian's | ours | ratio |\n|---|---:|---:|---:|");
    let line = |what: &str, a: f64, b: f64, ratio: f64| println!("| {what} | {a:.2} | {b:.2} | {ratio:.2} |");
    let mega = |x: f64| x / 1e6;
    line(
        "established, Mpps",
        mega(theirs.established),
        mega(ours.established),
        ours.established / theirs.established,
    );
    line("new connections, M/s", mega(theirs.new), mega(ours.new), ours.new / theirs.new);
    line("bytes per connection", theirs.bytes, ours.bytes, ours.bytes / theirs.bytes);
    line("a command, ms", theirs.command * 1e3, ours.command * 1e3, ours.command / theirs.command);
    line("flush of an empty zone, ms", theirs.flush * 1e3, ours.flush * 1e3, theirs.flush / ours.flush);
}
