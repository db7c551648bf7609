//! `dpdk` ports with DPDK's virtual devices, by the commands of Open vSwitch's documentation.
//!
//! Needs root and 300 MiB of free hugepages; is skipped with the reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::dpdk::{add, address, configured, ip, ready};
use tests::{PATIENCE, Sandbox, daemon_binary};

const STOCK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const FRAMES: u32 = 16;
/// Three of the slow periods of IEEE 802.1AX.
const LACP_LONG_TIMEOUT: Duration = Duration::from_secs(90);

fn start(daemon: &Path) -> Sandbox {
    configured(Sandbox::with_daemon(daemon, &["--disable-system"]), "--no-pci")
}

/// Two namespaces that are joined by wires, each with a daemon to come.
struct Wires {
    near: String,
    far: String,
}

impl Wires {
    /// Wires `w0`, `w1`, ... with the same name at both ends; `None` without namespaces.
    fn new(count: usize) -> Option<Self> {
        let name = |end: &str| format!("ovsrs-dpdk{}-{end}", std::process::id());
        let wires = Wires { near: name("near"), far: name("far") };
        if !ip(&format!("netns add {}", wires.near)) || !ip(&format!("netns add {}", wires.far)) {
            println!("skipped: no network namespaces");
            return None;
        }
        for end in [&wires.near, &wires.far] {
            // Nobody but the bridge answers for the bridge's address.
            assert!(ip(&format!("netns exec {end} sysctl -qw net.ipv4.conf.all.arp_ignore=1")));
        }
        for i in 0..count {
            let Wires { near, far } = &wires;
            assert!(ip(&format!("-n {near} link add w{i} type veth peer name w{i} netns {far}")));
            assert!(ip(&format!("-n {near} link set w{i} up")) && ip(&format!("-n {far} link set w{i} up")));
        }
        Some(wires)
    }

    /// Answers to three pings from the far end, as `ping` sums them up.
    fn ping(&self, size: &str, to: &str) -> String {
        let args = ["netns", "exec", &self.far, "ping", "-c", "3", "-i", "0.2", "-W", "1", "-s", size, to];
        String::from_utf8_lossy(&Command::new("ip").args(args).output().unwrap().stdout).into_owned()
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.near));
        ip(&format!("netns del {}", self.far));
    }
}

/// A capture file of so many UDP packets of 60 bytes.
fn capture(sandbox: &Sandbox, frames: u32) -> String {
    let path = sandbox.path(&format!("{frames}.pcap"));
    let mut file: Vec<u8> =
        [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].iter().flat_map(|w| w.to_le_bytes()).collect();
    for i in 0..frames {
        let mut frame =
            vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
        frame.extend([10, 0, 0, i as u8, 10, 1, 0, 1, 4, 0, 0, 53, 0, 26, 0, 0]);
        frame.resize(60, 0);
        file.extend([0, 0, 60, 60_u32].iter().flat_map(|w| w.to_le_bytes()));
        file.extend(frame);
    }
    fs::write(&path, file).unwrap();
    path.display().to_string()
}

/// The keys of a column of maps.
fn keys(sandbox: &Sandbox, interface: &str, column: &str) -> BTreeSet<String> {
    let text = sandbox.get("Interface", interface, column);
    let pairs = text.trim().trim_start_matches('{').trim_end_matches('}').split(", ");
    pairs.filter_map(|p| Some(p.split_once('=')?.0.to_owned())).collect()
}

fn forwards(sandbox: &Sandbox) {
    let pcap = capture(sandbox, FRAMES);
    assert_eq!(
        add(sandbox, "in", &format!("net_pcap0,rx_pcap={pcap},infinite_rx=1"), &["ofport_request=1"]),
        "[]"
    );
    assert_eq!(add(sandbox, "out", "net_null0,no-rx=1", &["ofport_request=2"]), "[]");
    sandbox.ofctl(&["add-flow", "br0", "in_port=1,actions=2"]);
    sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:stats-update-interval=5000"]);
    sandbox.until("packets arrive", || sandbox.statistic("out", "tx_packets") > 1000);
}

#[test]
fn a_capture_that_does_not_fit_costs_its_port_alone() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    // A port of such an MTU has 16,384 buffers.
    let device = format!("net_pcap1,rx_pcap={},infinite_rx=1", capture(&sandbox, 20_000));
    for why in ["Invalid argument", "Device or resource busy"] {
        let error = add(&sandbox, "big", &device, &["mtu_request=1400"]);
        assert!(error.contains(why), "{error}");
        sandbox.vsctl(&["del-port", "br0", "big"]);
    }
    forwards(&sandbox);
}

#[test]
fn packets_pass_and_are_counted() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    assert_eq!(sandbox.get("Open_vSwitch", ".", "dpdk_initialized").trim(), "true");
    assert!(sandbox.get("Open_vSwitch", ".", "dpdk_version").contains("DPDK 22.11"));
    assert!(sandbox.get("Open_vSwitch", ".", "iface_types").contains("dpdk"));
    forwards(&sandbox);
    assert!(sandbox.statistic("in", "rx_q0_packets") > 1000);
    assert_eq!(sandbox.statistic("out", "ovs_tx_failure_drops"), 0);
    assert!(sandbox.get("Interface", "in", "status").contains("driver_name=net_pcap"));
    let lost = sandbox.appctl(&["dpctl/show", "-s"]);
    assert!(lost.contains("(dpdk: "), "{lost}");
    // The commands.
    assert!(sandbox.appctl(&["netdev-dpdk/get-mempool-info", "in"]).contains("    count: avail ("));
    assert!(sandbox.appctl(&["netdev-dpdk/get-mempool-info"]).contains("mempool <ovs"));
    assert!(sandbox.appctl(&["dpdk/lcore-list"]).contains("lcore 0, socket 0"));
    assert!(sandbox.appctl(&["dpdk/get-malloc-stats"]).contains("Alloc_count"));
    assert!(sandbox.appctl(&["dpdk/log-list"]).contains("pmd.net"));
    sandbox.appctl(&["dpdk/log-set", "pmd.*:error"]);
    let refused = |args: &[&str]| String::from_utf8_lossy(&sandbox.appctl_output(args).stderr).into_owned();
    assert!(refused(&["dpdk/log-set", "loud"]).starts_with("invalid log level: 'loud'"));
    assert!(refused(&["netdev-dpdk/set-admin-state", "br0", "up"]).starts_with("Not a DPDK Interface"));
    assert_eq!(sandbox.appctl(&["netdev-dpdk/set-admin-state", "in", "down"]), "OK\n");
    sandbox.until("it is down", || sandbox.get("Interface", "in", "admin_state").trim() == "down");
    // A device in use stays; one that is not goes.
    let used = refused(&["netdev-dpdk/detach", "net_null0"]);
    assert!(
        used.starts_with("Device 'net_null0' is being used by the following interfaces: out. Remove them"),
        "{used}"
    );
    sandbox.vsctl(&["del-port", "br0", "out"]);
    assert!(sandbox.log().contains("Device 'net_null0,no-rx=1' has been removed and detached"));
    assert!(
        refused(&["netdev-dpdk/detach", "net_null0"]).starts_with("Device 'net_null0' not found in DPDK")
    );
    assert_eq!(add(&sandbox, "again", "net_null0,no-rx=1", &[]), "[]");
}

/// The frames of a capture file.
fn captured(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let mut rest = file.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some(head) = rest.first_chunk::<16>() {
        let len = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// Two ports get the same buffers, a third what was made of them after.
#[test]
fn metered_packets_are_sent_to_several_ports() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    let outs = [2, 3, 4].map(|n| sandbox.path(&format!("out{n}.pcap")));
    for (n, path) in (2..).zip(&outs) {
        let device = format!("net_pcap{n},tx_pcap={}", path.display());
        assert_eq!(add(&sandbox, &format!("out{n}"), &device, &[&format!("ofport_request={n}")]), "[]");
    }
    sandbox.ofctl(&[
        "-OOpenFlow13",
        "add-meter",
        "br0",
        "meter=1,pktps,burst,band=type=drop,rate=2000,burst_size=64",
    ]);
    let meters = ["meter:1,output:2,output:3", "meter:1,output:2,output:3,push_vlan:0x8100,output:4"];
    for (round, actions) in (1..).zip(meters) {
        sandbox.ofctl(&["-OOpenFlow13", "add-flow", "br0", &format!("in_port=1,actions={actions}")]);
        let device = format!("net_pcap{},rx_pcap={},infinite_rx=1", 10 + round, capture(&sandbox, FRAMES));
        assert_eq!(add(&sandbox, "in", &device, &["ofport_request=1"]), "[]");
        sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:stats-update-interval=5000"]);
        let before = sandbox.statistic("out3", "tx_packets");
        sandbox.until("packets leave", || sandbox.statistic("out3", "tx_packets") > before + 1000);
        sandbox.vsctl(&["del-port", "br0", "in"]);
    }
    for port in ["out2", "out3", "out4"] {
        sandbox.vsctl(&["del-port", "br0", port]);
    }
    // (Packets that the switch was asked about come to the ports in any order.)
    let [first, second, tagged] = outs.map(|path| {
        let mut frames = captured(&path);
        frames.sort_unstable();
        frames
    });
    assert!(first.len() > 2000 && !tagged.is_empty());
    assert!(first == second, "{} and {}", first.len(), second.len());
    let sent: BTreeSet<Vec<u8>> = captured(&sandbox.path(&format!("{FRAMES}.pcap"))).into_iter().collect();
    assert_eq!(first.into_iter().collect::<BTreeSet<_>>(), sent);
    let bare = |frame: &Vec<u8>| [&frame[..12], &frame[16..]].concat();
    assert!(tagged.iter().all(|frame| frame[12..14] == [0x81, 0] && sent.contains(&bare(frame))));
}

/// What becomes of a frame.
type Change<'a> = dyn Fn(&Vec<u8>) -> Vec<u8> + 'a;

/// Headers are changed in the buffers that packets came in.
#[test]
fn packets_leave_with_the_headers_that_rules_set() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:stats-update-interval=5000"]);
    let came: BTreeSet<Vec<u8>> = captured(Path::new(&capture(&sandbox, FRAMES))).into_iter().collect();
    let tag = [0x81, 0, 0, 10];
    let tagged = |f: &Vec<u8>| [&f[..12], &tag, &f[12..]].concat();
    // One hop less is 0x0100 more in a checksum.
    let routed =
        |f: &Vec<u8>| [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8], &f[12..22], &[63, 17, 1, 0], &f[26..]].concat();
    let route = "mod_dl_src:02:00:00:00:00:08,mod_dl_dst:02:00:00:00:00:09,dec_ttl";
    let cases: [(String, &Change<'_>); 3] = [
        ("push_vlan:0x8100,set_field:4106->vlan_vid".to_owned(), &tagged),
        (route.to_owned(), &routed),
        (format!("{route},push_vlan:0x8100,set_field:4106->vlan_vid"), &|f| tagged(&routed(f))),
    ];
    for (round, (actions, wanted)) in (1..).zip(cases) {
        let path = sandbox.path(&format!("changed{round}.pcap"));
        let device = format!("net_pcap{round},tx_pcap={}", path.display());
        assert_eq!(add(&sandbox, "out", &device, &["ofport_request=2"]), "[]");
        let rule = format!("ip,in_port=1,actions={actions},output:2");
        sandbox.ofctl(&["-OOpenFlow13", "add-flow", "br0", &rule]);
        let device = format!("net_pcap{},rx_pcap={},infinite_rx=1", 10 + round, capture(&sandbox, FRAMES));
        assert_eq!(add(&sandbox, "in", &device, &["ofport_request=1"]), "[]");
        sandbox.until("packets leave", || sandbox.statistic("out", "tx_packets") > 1000);
        sandbox.vsctl(&["del-port", "br0", "in", "--", "del-port", "br0", "out"]);
        let left: BTreeSet<Vec<u8>> = captured(&path).into_iter().collect();
        assert_eq!(left, came.iter().map(wanted).collect(), "{actions}");
    }
}

#[test]
fn queues_descriptors_and_mtu_are_what_is_asked_for() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    let more = ["options:n_rxq=2", "options:n_rxq_desc=1024", "options:n_txq_desc=512", "mtu_request=9000"];
    assert_eq!(add(&sandbox, "p0", "net_null0", &more), "[]");
    let show = sandbox.appctl(&["dpctl/show"]);
    for part in [
        "configured_rx_queues=2",
        "configured_rxq_descriptors=1024",
        "configured_txq_descriptors=512",
        "configured_tx_queues=2",
        "lsc_interrupt_mode=false",
        "mtu=9000",
        "requested_rx_queues=2",
        "rx_csum_offload=false",
        "tx_tso_offload=false",
    ] {
        assert!(show.contains(part), "{part} in {show}");
    }
    sandbox.vsctl(&["set", "Interface", "p0", "options:n_rxq=3", "mtu_request=2000"]);
    let show = sandbox.appctl(&["dpctl/show"]);
    assert!(show.contains("configured_rx_queues=3") && show.contains("mtu=2000"), "{show}");
    assert_eq!(sandbox.get("Interface", "p0", "mtu").trim(), "2000");
    assert!(sandbox.appctl(&["dpif-netdev/pmd-rxq-show"]).contains("port: p0                queue-id:  2"));
}

/// Rates that hardly anything passes: what is over them is dropped and counted.
#[test]
fn packets_over_the_rates_of_a_port_are_dropped() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    forwards(&sandbox);
    let types = sandbox.appctl(&["qos/show-types", "out"]);
    assert_eq!(types, "QoS type: egress-policer\nQoS type: trtcm-policer\n");
    let qos = |kind: &str, rates: &[&str]| {
        let kind = format!("type={kind}");
        let make = ["set", "port", "out", "qos=@q", "--", "--id=@q", "create", "qos", &kind];
        sandbox.vsctl(&[&make[..], rates].concat());
    };
    qos("egress-policer", &["other-config:cir=4600", "other-config:cbs=460"]);
    assert_eq!(sandbox.appctl(&["qos/show", "out"]), "QoS: out egress-policer\ncbs: 460\ncir: 4600\n");
    sandbox.until("drops", || sandbox.statistic("out", "ovs_tx_qos_drops") > 1000);
    let rates = ["cir=4600", "cbs=460", "eir=0", "ebs=0"].map(|r| format!("other-config:{r}"));
    qos("trtcm-policer", &rates.each_ref().map(String::as_str));
    let shown = sandbox.appctl(&["qos/show", "out"]);
    assert!(
        shown.starts_with("QoS: out trtcm-policer\ncbs: 460\ncir: 4600\nebs: 0\neir: 0\n\nDefault:\n"),
        "{shown}"
    );
    assert!(shown.contains("  tx_errors: "), "{shown}");
    sandbox.vsctl(&["clear", "port", "out", "qos"]);
    assert_eq!(sandbox.appctl(&["qos/show", "out"]), "QoS not configured on out\n");
    sandbox.vsctl(&["set", "Interface", "out", "other_config:tx-steering=hash"]);
    let before = sandbox.statistic("out", "tx_packets");
    sandbox.until("packets pass", || sandbox.statistic("out", "tx_packets") > before + 1000);
    assert!(sandbox.log().contains("out: Tx packet steering mode has been set to 'hash'."));
}

#[test]
fn what_cannot_be_is_said() {
    let Some(_alone) = ready() else { return };
    let sandbox = start(daemon_binary());
    assert_eq!(
        add(&sandbox, "none", "", &[]),
        "'none' is missing 'options:dpdk-devargs'. The old 'dpdk<port_id>' names are not supported"
    );
    assert_eq!(add(&sandbox, "bad", "0000:ff:1f.7", &[]), "Error attaching device '0000:ff:1f.7' to DPDK");
    assert_eq!(
        add(&sandbox, "mac", "class=eth,mac=02:02:02:02:02:02", &[]),
        "Error attaching device 'class=eth,mac=02:02:02:02:02:02' to DPDK"
    );
    assert_eq!(add(&sandbox, "one", "net_null0", &[]), "[]");
    assert_eq!(
        add(&sandbox, "two", "net_null0", &[]),
        "'two' is trying to use device 'net_null0' which is already in use by 'one'"
    );
    assert_eq!(add(&sandbox, "three", "net_null1", &[]), "[]");
}

#[test]
fn without_dpdk_the_others_go_on() {
    let Some(_alone) = ready() else { return };
    let sandbox = Sandbox::with_options(&["--disable-system"]);
    assert_eq!(sandbox.get("Open_vSwitch", ".", "dpdk_initialized").trim(), "false");
    sandbox.vsctl(&[
        "set",
        "Open_vSwitch",
        ".",
        "other_config:dpdk-extra=--nonsense",
        "other_config:dpdk-init=true",
    ]);
    sandbox.vsctl(&["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev"]);
    assert_eq!(sandbox.get("Open_vSwitch", ".", "dpdk_initialized").trim(), "false");
    let log = sandbox.log();
    assert_eq!(log.matches("Unable to initialize DPDK: Invalid argument").count(), 1, "{log}");
    assert_eq!(
        add(&sandbox, "p0", "net_null0", &[]),
        "could not open network device p0 (Address family not supported by protocol)"
    );
    sandbox.vsctl(&["add-port", "br0", "i0", "--", "set", "Interface", "i0", "type=internal"]);
    assert_eq!(sandbox.get("Interface", "i0", "error").trim(), "[]");
}

#[test]
fn columns_are_those_of_debians_daemon() {
    let Some(_alone) = ready() else { return };
    if !Path::new(STOCK).exists() {
        println!("skipped: no {STOCK}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Files in the run directory are named for the program.
    let stock = directory.path().join("ovs-vswitchd");
    symlink(STOCK, &stock).unwrap();
    let [theirs, ours] = [stock.as_path(), daemon_binary()].map(|daemon| {
        let sandbox = start(daemon);
        forwards(&sandbox);
        let columns = ["statistics", "status"];
        let all = ["in", "out"].map(|i| columns.map(|c| keys(&sandbox, i, c)));
        let status = ["in", "out"].map(|i| sandbox.get("Interface", i, "status"));
        let show = sandbox.appctl(&["dpctl/show"]);
        let port = show.lines().find(|l| l.contains(": in (dpdk")).map(str::to_owned);
        (all, status, port)
    });
    assert_eq!(ours, theirs);
}

#[test]
fn packets_come_and_go_by_other_ports() {
    let Some(_alone) = ready() else { return };
    let Some(wires) = Wires::new(1) else { return };
    address(&wires.far, "w0", "10.77.0.2");
    let sandbox = configured(Sandbox::in_namespace(&wires.near, &["--disable-system"]), "--no-pci");
    sandbox.vsctl(&["del-fail-mode", "br0"]);
    assert_eq!(add(&sandbox, "wire", "net_af_packet0,iface=w0", &[]), "[]");
    address(&wires.near, "br0", "10.77.0.1");
    for size in ["20", "1400"] {
        let text = wires.ping(size, "10.77.0.1");
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
}

/// Devices of a configuration are attached before their ports ask for them.
#[test]
fn ports_of_a_daemon_that_starts_have_their_own_devices() {
    let Some(_alone) = ready() else { return };
    let Some(wires) = Wires::new(4) else { return };
    let mut sandbox = configured(Sandbox::in_namespace(&wires.near, &["--disable-system"]), "--no-pci");
    let device = |i: usize| format!("net_af_packet{i},iface=w{i}");
    for i in 0..4 {
        assert_eq!(add(&sandbox, &format!("p{i}"), &device(i), &[]), "[]");
    }
    assert_eq!(add(&sandbox, "null", "net_null0", &["mtu_request=2000"]), "[]");
    let error = add(&sandbox, "absent", "net_af_packet4,iface=nowhere", &[]);
    assert!(error.contains("Error attaching device"), "{error}");
    sandbox.kill_daemon();
    sandbox.start_daemon();
    let show = |i| {
        let args = ["-n", &wires.near, "-br", "link", "show", &format!("w{i}")];
        String::from_utf8_lossy(&Command::new("ip").args(args).output().unwrap().stdout).into_owned()
    };
    for i in 0..4 {
        sandbox.until("the port has its device's address", || {
            let mac = sandbox.get("Interface", &format!("p{i}"), "mac_in_use");
            mac.len() > 10 && show(i).contains(mac.trim().trim_matches('"'))
        });
    }
    assert_eq!(sandbox.get("Interface", "null", "mtu").trim(), "2000");
    assert_eq!(sandbox.get("Interface", "absent", "error").trim(), error);
    let error = add(&sandbox, "twice", &device(3), &[]);
    assert!(error.contains("already in use by 'p3'"), "{error}");
    sandbox.vsctl(&["del-port", "p3", "--", "del-port", "twice"]);
    let refused = sandbox.appctl_output(&["netdev-dpdk/detach", "net_af_packet2"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("is being used by the following interfaces: p2")
    );
}

/// 802.3ad on both ends: nothing passes a bond of mode 4 before its members are aggregated.
#[test]
fn a_bond_aggregates_and_outlives_a_member() {
    let Some(_alone) = ready() else { return };
    let Some(wires) = Wires::new(2) else { return };
    let member = |i| format!("--vdev net_af_packet{i},iface=w{i},qpairs=2");
    let bond = "--vdev net_bonding0,mode=4,slave=net_af_packet0,slave=net_af_packet1";
    let extra = format!("--no-pci {} {} {bond}", member(0), member(1));
    let daemons = [(&wires.near, "10.78.0.1"), (&wires.far, "10.78.0.2")].map(|(namespace, own)| {
        let sandbox = configured(Sandbox::in_namespace(namespace, &["--disable-system"]), &extra);
        sandbox.vsctl(&["del-fail-mode", "br0"]);
        // With two transmit queues net_af_packet spreads what it receives over two queues as well.
        assert_eq!(add(&sandbox, "bond", "net_bonding0", &["options:n_rxq=2"]), "[]");
        assert!(sandbox.get("Interface", "bond", "status").contains("driver_name=net_bonding"));
        address(namespace, "br0", own);
        sandbox
    });
    let passes = || wires.ping("100", "10.78.0.1").contains(" 0% packet loss");
    daemons[0].until("the links are aggregated", passes);
    // net_af_packet does not see that its device is down: LACP has to find out, which takes its long timeout.
    assert!(ip(&format!("-n {} link set w0 down", wires.near)));
    let failed = Instant::now();
    while !passes() {
        assert!(failed.elapsed() < LACP_LONG_TIMEOUT + PATIENCE, "the other member does not carry all");
    }
}
