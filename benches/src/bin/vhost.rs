//! From guest to guest: two virtio-user devices of one `dpdk-testpmd` that forwards between them, so that packets go
//! round and round through the switch, as fast as it and the guests can. Our daemon and Debian's `ovs-vswitchd-dpdk`
//! in turn.
//!
//! `vhost [sizes [layouts [rounds [load]]]]`: e.g. `vhost 64,1518 split 5 tags`. Loads: `udp`, which is what testpmd sends; `tags`,
//! the same, which get a tag or lose it each time that they pass the switch; `tracked`, the same, tracked; `tcp6`, TCP over IPv6. Frames of more than 1518 bytes, 9018 at most, are sent in
//! pieces, and the ports' MTU is 9000 then. Of each cell the best of all rounds counts, of
//! either daemon: what else runs on the machine only takes away. Needs root, about 1 GiB of free hugepages, Debian's packages
//! `openvswitch-switch-dpdk` and `dpdk-dev`, and `target/release/ovs-vswitchd` (or `OVS_RS_VSWITCHD`). Core 1 switches,
//! core 0 is both guests, both at real-time priority, so that what else
//! runs on the machine counts little. A packet counts when the switch has put it into the other guest's ring. Cycles are those
//! that the polling thread spent on packets, by its own account (`dpif-netdev/pmd-stats-show`), for each packet.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use benches::{our_daemon, tsc_hz};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::Sandbox;

const STOCK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SIZES: [u32; 3] = [64, 512, 1518];
/// Layouts of rings, and what virtio-user devices are told for them.
const LAYOUTS: [(&str, &str); 2] = [("split", "packed_vq=0"), ("packed", "packed_vq=1")];
const WARM: Duration = Duration::from_millis(700);
const MEASURE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(15);
const ROUNDS: u32 = 3;
const DESCRIPTORS: u32 = 1024;
/// Frames up to this many bytes are sent in one piece; longer ones in some of [`PIECE`] bytes.
const WHOLE: u32 = 1518;
const PIECE: u32 = 1800;
/// What goes round, and what is done with it: rules, and the frames of a size that are sent to the guests to begin with, if
/// testpmd has none such.
struct Load {
    name: &'static str,
    rules: &'static [&'static str],
    frame: Option<fn(u32) -> Vec<u8>>,
}

const PLAIN: &[&str] = &["in_port=1,actions=output:2", "in_port=2,actions=output:1"];
const LOADS: [Load; 4] = [
    Load { name: "udp", rules: PLAIN, frame: None },
    Load {
        name: "tags",
        rules: &[
            "in_port=1,vlan_tci=0,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2",
            "in_port=1,vlan_tci=0x1000/0x1000,actions=pop_vlan,output:2",
            "in_port=2,vlan_tci=0,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:1",
            "in_port=2,vlan_tci=0x1000/0x1000,actions=pop_vlan,output:1",
        ],
        frame: None,
    },
    Load {
        name: "tracked",
        rules: &["in_port=1,udp,actions=ct(commit),output:2", "in_port=2,udp,actions=ct(commit),output:1"],
        frame: None,
    },
    Load { name: "tcp6", rules: PLAIN, frame: Some(tcp6) },
];
/// Frames that are sent to each guest.
const FRAMES: u32 = 192;

/// A frame of TCP over IPv6.
fn tcp6(size: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend((size as u16 - 54).to_be_bytes());
    frame.extend([6, 64]);
    frame.extend([[0xfd; 16], [0xfc; 16]].concat());
    frame.extend([4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(size as usize, 0x5a);
    frame
}

/// Bursts of 32 packets that go round, from each side.
const BURSTS: u32 = 16;
const PORTS: [&str; 2] = ["a", "b"];

struct Guests(Child);

impl Guests {
    fn start(sandbox: &Sandbox, layout: &str, size: u32, load: &Load) -> Self {
        let log = fs::File::create(sandbox.path("testpmd.log")).unwrap();
        let mut command = Command::new("dpdk-testpmd");
        command.args(["--in-memory", "--single-file-segments", "--no-pci", "--main-lcore=0"]);
        // The first lcore waits for commands; a second one, on the same processor, forwards.
        command.args(["--lcores=0@0,1@0", "-m", "512"]);
        for (i, name) in PORTS.iter().enumerate() {
            let socket = sandbox.path(&format!("{name}.sock"));
            let queue = format!("server=1,queue_size={DESCRIPTORS},{layout}");
            command.arg(format!("--vdev=net_virtio_user{i},path={},{queue}", socket.display()));
        }
        let n = DESCRIPTORS;
        command.args(["--", "-i", "--forward-mode=io", &format!("--rxd={n}"), &format!("--txd={n}")]);
        command.args(["--total-num-mbufs=16384", "--no-mlockall"]);
        if size > WHOLE {
            // `RTE_ETH_TX_OFFLOAD_MULTI_SEGS`
            command.args(["--max-pkt-len=9018", "--enable-scatter", "--tx-offloads=0x8000"]);
        }
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut guests = Guests(command.spawn().unwrap());
        if load.frame.is_some() {
            guests.say("start\n");
        } else {
            guests.say(&format!("set txpkts {}\nstart tx_first {BURSTS}\n", pieces(size)));
        }
        guests
    }

    /// Sends frames to both guests, once they are there.
    fn inject(sandbox: &Sandbox, frame: &[u8]) {
        let is_up = |port: &&str| sandbox.vsctl(&["get", "Interface", port, "link_state"]).trim() == "up";
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !PORTS.iter().all(is_up) {
            sleep(Duration::from_millis(50));
        }
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        for port in (0..FRAMES).flat_map(|_| [1, 2]) {
            let out = format!("in_port=controller,packet={hex},actions=output:{port}");
            sandbox.ofctl(&["packet-out", "br0", &out]);
        }
    }

    fn say(&mut self, text: &str) {
        self.0.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

/// A frame's pieces, as testpmd is told.
fn pieces(size: u32) -> String {
    if size <= WHOLE {
        return size.to_string();
    }
    let lens = (0..size).step_by(PIECE as usize).map(|at| (size - at).min(PIECE).to_string());
    lens.collect::<Vec<_>>().join(",")
}

impl Drop for Guests {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A switch with two ports, each of which leads to the other, and a polling thread on core 1.
fn switch(daemon: &Path, sizes: &[u32], load: &Load) -> Sandbox {
    let sandbox = Sandbox::with_daemon(daemon, &["--disable-system"]);
    let config = ["other_config:dpdk-init=true", "other_config:pmd-cpu-mask=2"];
    sandbox.vsctl(&[&["set", "Open_vSwitch", "."], &config[..]].concat());
    let bridge = ["datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow10,OpenFlow13"];
    sandbox.vsctl(&[&["add-br", "br0", "--", "set", "Bridge", "br0"], &bridge[..]].concat());
    for (i, name) in PORTS.iter().enumerate() {
        let socket = format!("options:vhost-server-path={}", sandbox.path(&format!("{name}.sock")).display());
        let number = format!("ofport_request={}", i + 1);
        let set = ["--", "set", "Interface", name, "type=dpdkvhostuserclient", &socket, &number];
        sandbox.vsctl(&[&["add-port", "br0", name], &set[..]].concat());
    }
    if sizes.iter().any(|size| *size > WHOLE) {
        PORTS.iter().for_each(|name| _ = sandbox.vsctl(&["set", "Interface", name, "mtu_request=9000"]));
    }
    for rule in load.rules {
        sandbox.ofctl(&["-O", "OpenFlow13", "add-flow", "br0", rule]);
    }
    sandbox
}

/// Packets that the guests got, and drops on the way to them; `None` while one is not connected.
fn arrived(sandbox: &Sandbox) -> Option<(f64, f64)> {
    let (mut packets, mut drops) = (0.0, 0.0);
    for port in ["1", "2"] {
        let text = sandbox.ofctl(&["dump-ports", "br0", port]);
        let line = text.split("tx pkts=").nth(1)?.lines().next()?;
        let number = |text: &str| text.split(',').next()?.trim().parse::<f64>().ok();
        packets += number(line)?;
        drops += number(line.split_once("drop=")?.1)?;
    }
    Some((packets, drops))
}

/// The share of its time that the polling thread spent on packets, since the counts were cleared.
fn busy(sandbox: &Sandbox) -> f64 {
    let text = sandbox.appctl(&["dpif-netdev/pmd-stats-show"]);
    let line = text.lines().find(|l| l.contains("processing cycles:")).unwrap();
    let percent = line.split_once('(').unwrap().1.split_once('%').unwrap().0;
    percent.parse::<f64>().unwrap() / 100.0
}

/// What one cell came to.
struct Figure {
    pps: f64,
    cycles: f64,
    dropped: f64,
}

/// Puts what is measured before all else that runs on the machine while this lives: the two threads that poll, and
/// above them those that answer questions about them.
struct Favour(u32);

impl Favour {
    fn new(daemon: u32, guests: u32) -> Self {
        let own = std::process::id();
        for (priority, id) in [(2, own), (2, daemon)] {
            chrt(&["-a", "-f", "-p", &priority.to_string(), &id.to_string()]);
        }
        for (process, name) in [(daemon, "pmd-c"), (guests, "rte-worker")] {
            chrt(&["-f", "-p", "1", &thread(process, name).to_string()]);
        }
        Favour(daemon)
    }
}

impl Drop for Favour {
    fn drop(&mut self) {
        for id in [std::process::id(), self.0] {
            chrt(&["-a", "-o", "-p", "0", &id.to_string()]);
        }
    }
}

fn chrt(args: &[&str]) {
    assert!(Command::new("chrt").args(args).status().unwrap().success(), "chrt {args:?}");
}

/// The thread of a process whose name starts so.
fn thread(process: u32, name: &str) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let is_it =
        |t: &fs::DirEntry| fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm.starts_with(name));
    let task = tasks.into_iter().find(is_it).unwrap();
    task.file_name().into_string().unwrap().parse().unwrap()
}

fn cell(sandbox: &Sandbox, layout: &str, size: u32, load: &Load, hz: f64) -> Result<Figure, String> {
    let end = Instant::now() + PATIENCE;
    let guests = Guests::start(sandbox, layout, size, load);
    load.frame.into_iter().for_each(|frame| Guests::inject(sandbox, &frame(size)));
    let mut begin = None;
    while !arrived(sandbox).is_some_and(|(n, _)| n > *begin.get_or_insert(n) + 100_000.0) {
        if Instant::now() > end {
            return Err(fs::read_to_string(sandbox.path("testpmd.log")).unwrap_or_default());
        }
        sleep(Duration::from_millis(50));
    }
    let _favour = Favour::new(sandbox.daemon_pid(), guests.0.id());
    sleep(WARM);
    sandbox.appctl(&["dpif-netdev/pmd-stats-clear"]);
    let (start, before) = (Instant::now(), arrived(sandbox).ok_or("a guest went")?);
    sleep(MEASURE);
    let (busy, after) = (busy(sandbox), arrived(sandbox).ok_or("a guest went")?);
    let seconds = start.elapsed().as_secs_f64();
    let pps = (after.0 - before.0) / seconds;
    Ok(Figure { pps, cycles: busy * hz / pps, dropped: after.1 - before.1 })
}

type Cell = (&'static str, u32, Result<Figure, String>);

/// Keeps the better of each two.
fn keep_best(best: &mut Vec<Cell>, round: Vec<Cell>) {
    if best.is_empty() {
        *best = round;
        return;
    }
    for ((_, _, old), (_, _, new)) in best.iter_mut().zip(round) {
        let pps = |figure: &Result<Figure, String>| figure.as_ref().map_or(0.0, |f| f.pps);
        if pps(&new) > pps(old) {
            *old = new;
        }
    }
}

fn measure(daemon: &Path, sizes: &[u32], layouts: &[&str], load: &Load, hz: f64) -> Vec<Cell> {
    let sandbox = switch(daemon, sizes, load);
    let mut all = Vec::new();
    for (layout, device) in LAYOUTS.iter().filter(|(name, _)| layouts.contains(name)) {
        for size in sizes {
            all.push((*layout, *size, cell(&sandbox, device, *size, load, hz)));
            for name in PORTS {
                let _ = fs::remove_file(sandbox.path(&format!("{name}.sock")));
            }
        }
    }
    all
}

fn show(figure: &Result<Figure, String>) -> String {
    match figure {
        Ok(f) if f.dropped > 0.0 => format!("{:.2} ({:.0}), {} lost", f.pps / 1e6, f.cycles, f.dropped),
        Ok(f) => format!("{:.2} ({:.0})", f.pps / 1e6, f.cycles),
        Err(_) => "n/a".to_owned(),
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let sizes: Vec<u32> = args
        .next()
        .map_or(SIZES.to_vec(), |list| list.split(',').map(|n| n.parse().expect("sizes")).collect());
    let named = args.next().unwrap_or_else(|| LAYOUTS.map(|(name, _)| name).join(","));
    let layouts: Vec<&str> = named.split(',').collect();
    let directory = tempfile::tempdir().unwrap();
    // Files in the run directory are named for the program.
    let stock = directory.path().join("ovs-vswitchd");
    symlink(STOCK, &stock).unwrap();
    let hz = tsc_hz();
    let rounds = args.next().map_or(ROUNDS, |n| n.parse().expect("rounds"));
    let name = args.next().unwrap_or_else(|| LOADS[0].name.to_owned());
    let load = LOADS.iter().find(|load| load.name == name).expect("a load");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        keep_best(&mut theirs, measure(&stock, &sizes, &layouts, load, hz));
        keep_best(&mut ours, measure(&our_daemon(), &sizes, &layouts, load, hz));
    }
    println!("Mpps (cycles per packet) on one core, best of {rounds} rounds\n");
    println!("| bytes | rings | Debian's | ours | ratio | cycles ratio |\n|---:|---|---:|---:|---:|---:|");
    for ((layout, size, theirs), (_, _, ours)) in theirs.iter().zip(&ours) {
        let ratios = match (theirs, ours) {
            (Ok(t), Ok(o)) => format!("{:.2} | {:.2}", o.pps / t.pps, t.cycles / o.cycles),
            _ => "n/a | n/a".to_owned(),
        };
        println!("| {size} | {layout} | {} | {} | {ratios} |", show(theirs), show(ours));
    }
    for (who, all) in [("Debian's", &theirs), ("ours", &ours)] {
        for (layout, size, figure) in all {
            if let Err(why) = figure {
                let last: Vec<&str> = why.lines().rev().take(3).collect();
                println!("\n{size} {layout}, {who}: {last:?}");
            }
        }
    }
}
