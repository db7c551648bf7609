//! vhost-user ports with real front ends: `dpdk-testpmd` with virtio-user devices, as guests use them.
//!
//! Needs root and `dpdk-testpmd`. The front ends share ordinary memory, so that no hugepages are needed.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use tests::differential::STOCK;
use tests::net::{Lan, SWITCH};
use tests::{Sandbox, daemon_binary};

const TESTPMD: &str = "/usr/bin/dpdk-testpmd";

/// Polling threads take a core each; one test at a time has them.
static ALONE: Mutex<()> = Mutex::new(());

fn ready() -> Option<MutexGuard<'static, ()>> {
    let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let is_root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !is_root || !Path::new(TESTPMD).exists() {
        println!("skipped: needs root and {TESTPMD}");
        return None;
    }
    Some(alone)
}

/// A front end: testpmd on one virtio-user device.
struct Guest {
    child: Child,
}

impl Guest {
    /// `device` are the device's arguments beside the path; `mode` is what testpmd does with packets.
    fn start(sandbox: &Sandbox, name: &str, socket: &Path, device: &str, mode: &[&str]) -> Self {
        let log = fs::File::create(sandbox.path(&format!("{name}.log"))).unwrap();
        let vdev = format!("--vdev=net_virtio_user0,path={},{device}", socket.display());
        let prefix = format!("--file-prefix=ovsrs{}{name}", std::process::id());
        let child = Command::new(TESTPMD)
            .args(["-l", "0,1", "--no-pci", "--no-telemetry", "--no-huge", "-m", "256"])
            .args(["--single-file-segments", &prefix, &vdev, "--"])
            .args(["--total-num-mbufs=8192", "--no-mlockall", "--auto-start"])
            .args(mode)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Guest { child }
    }

    /// Ends it as its user would; returns what it says of its packets.
    fn finish(mut self, sandbox: &Sandbox, name: &str) -> String {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        self.child.wait().unwrap();
        fs::read_to_string(sandbox.path(&format!("{name}.log"))).unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind `label` in testpmd's sums.
fn sum(text: &str, label: &str) -> u64 {
    let all = text.rsplit("Accumulated forward statistics for all ports").next().unwrap();
    let rest = all.split_once(label).map(|(_, rest)| rest.trim_start()).unwrap_or_default();
    rest.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn start() -> Sandbox {
    let sandbox = Sandbox::with_options(&["--disable-system"]);
    let config = ["other_config:pmd-cpu-mask=2", "other_config:stats-update-interval=5000"];
    sandbox.vsctl(&[&["set", "Open_vSwitch", "."], &config[..]].concat());
    sandbox.vsctl(&["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev"]);
    sandbox
}

fn add_client(sandbox: &Sandbox, name: &str) {
    let path = format!("options:vhost-server-path={}", sandbox.path(&format!("{name}.sock")).display());
    sandbox.vsctl(&[
        "add-port",
        "br0",
        name,
        "--",
        "set",
        "Interface",
        name,
        "type=dpdkvhostuserclient",
        &path,
    ]);
}

fn connected(sandbox: &Sandbox, name: &str) {
    sandbox
        .until(&format!("{name} is connected"), || !sandbox.key(name, "status", "num_of_vrings").is_empty());
}

/// Frames from guest `a` to guest `b`, through NORMAL, over rings of the given kind.
fn guest_to_guest(device: &str, rings: usize) {
    guest_to_guest_with(device, rings, &[]);
}

/// As [`guest_to_guest`]; `shape` says what `a` sends.
fn guest_to_guest_with(device: &str, rings: usize, shape: &[&str]) {
    let sandbox = start();
    ["a", "b"].iter().for_each(|name| add_client(&sandbox, name));
    let socket = |name: &str| sandbox.path(&format!("{name}.sock"));
    let queues = format!("--rxq={}", rings / 2);
    let tx_queues = format!("--txq={}", rings / 2);
    let mode = |m| [m, queues.as_str(), tx_queues.as_str()];
    let device = format!("server=1,queues={},{device}", rings / 2);
    let b = Guest::start(&sandbox, "b", &socket("b"), &device, &mode("--forward-mode=rxonly"));
    connected(&sandbox, "b");
    let mode_of_a = [&mode("--forward-mode=txonly")[..], shape].concat();
    let a = Guest::start(&sandbox, "a", &socket("a"), &device, &mode_of_a);
    sandbox.until("frames arrive", || sandbox.statistic("b", "tx_packets") > 10_000);
    assert!(sandbox.statistic("a", "rx_packets") > 10_000);
    assert_eq!(sandbox.key("a", "status", "mode"), "client");
    assert_eq!(sandbox.key("a", "status", "status"), "connected");
    assert_eq!(sandbox.key("a", "status", "socket"), socket("a").display().to_string());
    assert_eq!(sandbox.key("a", "status", "num_of_vrings"), rings.to_string());
    assert_eq!(sandbox.key("a", "status", "vring_0_size"), "256");
    let features = sandbox.key("a", "status", "features");
    let features = u64::from_str_radix(features.trim_start_matches("0x"), 16).unwrap();
    assert_eq!(features & (1 << 34) != 0, device.contains("packed_vq=1"));
    let show = sandbox.appctl(&["dpif-netdev/pmd-rxq-show"]);
    for queue in 0..rings / 2 {
        assert!(show.contains(&format!("port: a                 queue-id: {queue:2} (enabled)")), "{show}");
    }
    // The second front end dies and comes back.
    drop(b);
    sandbox.until("b is disconnected", || sandbox.key("b", "status", "status") == "disconnected");
    // It did not get to removing its socket, and does not listen where there is one.
    fs::remove_file(socket("b")).unwrap();
    let b = Guest::start(&sandbox, "b", &socket("b"), &device, &mode("--forward-mode=rxonly"));
    connected(&sandbox, "b");
    let before = sandbox.statistic("b", "tx_packets");
    sandbox.until("frames arrive again", || sandbox.statistic("b", "tx_packets") > before + 10_000);
    let (sent, received) = (a.finish(&sandbox, "a"), b.finish(&sandbox, "b"));
    assert!(sum(&sent, "TX-packets:") > 20_000, "{sent}");
    assert!(sum(&received, "RX-packets:") > 9_000, "{received}");
    assert!(!sandbox.log().contains("broke ring"), "{}", sandbox.log());
}

#[test]
fn split_rings() {
    let Some(_alone) = ready() else { return };
    guest_to_guest("mrg_rxbuf=1,in_order=0", 2);
}

#[test]
fn split_rings_without_mergeable_buffers() {
    let Some(_alone) = ready() else { return };
    guest_to_guest("mrg_rxbuf=0,in_order=1", 2);
}

#[test]
fn packed_rings() {
    let Some(_alone) = ready() else { return };
    guest_to_guest("packed_vq=1,mrg_rxbuf=1,in_order=0", 2);
}

/// Each in a table of its own, with a piece for the header.
#[test]
fn frames_in_pieces() {
    let Some(_alone) = ready() else { return };
    // `RTE_ETH_TX_OFFLOAD_MULTI_SEGS`
    let shape = ["--txpkts=200,500,700", "--tx-offloads=0x8000"];
    guest_to_guest_with("mrg_rxbuf=1,in_order=0", 2, &shape);
    guest_to_guest_with("packed_vq=1,mrg_rxbuf=1", 2, &shape);
}

#[test]
fn two_queue_pairs() {
    let Some(_alone) = ready() else { return };
    guest_to_guest("mrg_rxbuf=1", 4);
}

#[test]
fn a_port_that_listens() {
    let Some(_alone) = ready() else { return };
    let sandbox = start();
    fs::create_dir(sandbox.directory().join("guests")).unwrap();
    sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:vhost-sock-dir=guests"]);
    sandbox.vsctl(&["add-port", "br0", "s", "--", "set", "Interface", "s", "type=dpdkvhostuser"]);
    let types = sandbox.get("Open_vSwitch", ".", "iface_types");
    assert!(types.contains("dpdkvhostuser,") && types.contains("dpdkvhostuserclient"), "{types}");
    let socket = sandbox.directory().join("guests/s");
    sandbox.until("the socket is there", || socket.exists());
    let guest = Guest::start(&sandbox, "s", &socket, "queues=1", &["--forward-mode=txonly"]);
    sandbox.until("frames arrive", || sandbox.statistic("s", "rx_packets") > 10_000);
    assert_eq!(sandbox.key("s", "status", "mode"), "server");
    drop(guest);
    sandbox.until("it is disconnected", || sandbox.key("s", "status", "status") == "disconnected");
    sandbox.vsctl(&["del-port", "br0", "s"]);
    sandbox.until("the socket is gone", || !socket.exists());
}

/// With one polling thread, packets leave by one queue; with `tx-steering=hash`, by all of them.
#[test]
fn packets_spread_over_queues_by_their_hash() {
    let Some(_alone) = ready() else { return };
    let sandbox = start();
    ["a", "b"].iter().for_each(|name| add_client(&sandbox, name));
    let socket = |name: &str| sandbox.path(&format!("{name}.sock"));
    let queues = ["--rxq=2", "--txq=2"];
    let device = "server=1,queues=2";
    let _b = Guest::start(
        &sandbox,
        "b",
        &socket("b"),
        device,
        &[&["--forward-mode=rxonly"], &queues[..]].concat(),
    );
    connected(&sandbox, "b");
    let mode = ["--forward-mode=txonly", "--txonly-multi-flow"];
    let _a = Guest::start(&sandbox, "a", &socket("a"), device, &[&mode[..], &queues].concat());
    let sent = || [0, 1].map(|queue| sandbox.statistic("b", &format!("tx_q{queue}_good_packets")));
    // Both are enabled by the time that so many have come, and the thread has one of them.
    sandbox.until("frames arrive", || sent().iter().sum::<u64>() > 10_000);
    let grown = |before: [u64; 2]| {
        let now = sent();
        [0, 1].map(|queue| now[queue] - before[queue])
    };
    let before = sent();
    sandbox.until("frames go on", || grown(before).iter().sum::<u64>() > 10_000);
    assert!(grown(before).contains(&0), "{:?}", grown(before));
    sandbox.vsctl(&["set", "Interface", "b", "other_config:tx-steering=hash"]);
    assert!(sandbox.log().contains("b: Tx packet steering mode has been set to 'hash'."));
    let before = sent();
    sandbox.until("both queues are used", || grown(before).iter().all(|n| *n > 1000));
    sandbox.vsctl(&["remove", "Interface", "b", "other_config", "tx-steering"]);
    assert!(sandbox.log().contains("b: Tx packet steering mode has been set to 'thread'."));
}

/// What a guest sends leaves by a tunnel to Debian's daemon, if that is there: a burst grows, and arrives as it was sent.
#[test]
fn frames_leave_by_a_tunnel() {
    let Some(_alone) = ready() else { return };
    let other = Path::new(STOCK);
    let other = if other.exists() { other } else { daemon_binary() };
    let (Some(a), Some(mut b)) = (Lan::new(), Lan::on(other)) else { return };
    b.host(2);
    a.cable(&b, SWITCH, "wire0");
    for (lan, me, peer) in [(&a, 1, 2), (&b, 2, 1)] {
        lan.underlay("wire0", me);
        let remote = format!("options:remote_ip=172.31.1.{peer}");
        let tunnel = ["type=geneve", &remote, "options:key=42"];
        let add = ["add-port", "br0", "tun", "--", "set", "Interface", "tun"];
        lan.sandbox.vsctl(&[&add[..], &tunnel[..]].concat());
        lan.sandbox.ofctl(&["del-flows", "br0"]);
    }
    b.sandbox.vsctl(&["add-port", "br0", "h2"]);
    b.sandbox.ofctl(&["add-flow", "br0", "in_port=tun,actions=output:h2"]);
    a.sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:pmd-cpu-mask=2"]);
    add_client(&a.sandbox, "g");
    a.sandbox.ofctl(&["add-flow", "br0", "in_port=g,actions=output:tun"]);
    let mode = ["--forward-mode=txonly", "--txpkts=1000"];
    let guest = Guest::start(&a.sandbox, "g", &a.sandbox.path("g.sock"), "server=1,queues=1", &mode);
    let count = |name: &str| -> u64 {
        b.run("h2", &format!("cat /sys/class/net/eth0/statistics/{name}")).trim().parse().unwrap()
    };
    a.sandbox.until("frames arrive", || count("rx_packets") > 2000);
    let flows = a.sandbox.appctl(&["dpctl/dump-flows"]);
    assert!(flows.contains("tnl_push("), "{flows}");
    drop(guest);
    a.sandbox.until("no more come", || {
        let before = count("rx_packets");
        std::thread::sleep(std::time::Duration::from_millis(300));
        count("rx_packets") == before
    });
    let (packets, bytes) = (count("rx_packets"), count("rx_bytes"));
    // Some other packets of the host's may be among them.
    assert!(bytes > 990 * packets && bytes <= 1000 * packets, "{bytes} bytes of {packets} packets");
}
