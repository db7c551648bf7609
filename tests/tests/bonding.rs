//! DPDK's `net_bonding` in mode 4 with Linux's bonding driver on the other side, in an emulated machine: the kernel
//! of the machine that runs the tests need not have it.
//!
//! Needs root, 300 MiB of free hugepages, QEMU, a cloud kernel, busybox and ethtool; is skipped with the reason
//! otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};
use tests::Sandbox;
use tests::dpdk::{add, address, configured, ip, ready};
use tests::guest::{BUSYBOX, Guest, Image, Machine, Network, PATIENCE};

const OURS: &str = "10.79.0.1";
const GUEST: &str = "10.79.0.11";
const MEMBERS: usize = 2;
/// Three of the slow periods of IEEE 802.1AX: `net_af_packet` does not see that its device is down, and DPDK has
/// partners send slowly, so what goes by a member that fails is lost for that long.
const LONG_TIMEOUT: Duration = Duration::from_secs(90);
/// What may be lost besides, when a member fails or comes back.
const CHANGE: Duration = Duration::from_secs(20);
/// To see which way they go: more than the pieces of LACP's conversation meanwhile.
const PINGS: u64 = 100;
/// Between two pings that are counted.
const PACE: Duration = Duration::from_millis(200);
/// A bond of Linux needs to know the speed of its members, and what `net_af_packet` receives has to have its checksum
/// and to be no longer than the MTU.
const DEVICE: &str = "speed=10000,duplex=full,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,\
                      guest_ufo=off,guest_ecn=off";

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

/// A switch with a bond, and a guest with one.
struct World {
    guest: Guest,
    sandbox: Sandbox,
    namespace: Namespace,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    fn new() -> Option<Self> {
        let alone = ready()?;
        let namespace = Namespace(format!("ovsrs-bond{}", std::process::id()));
        if !ip(&format!("netns add {}", namespace.0)) {
            println!("skipped: no network namespaces");
            return None;
        }
        for no in 0..MEMBERS {
            assert!(ip(&format!("-n {} tuntap add dev t{no} mode tap", namespace.0)));
            assert!(ip(&format!("-n {} link set t{no} up", namespace.0)));
        }
        let member = |no| format!("--vdev net_af_packet{no},iface=t{no}");
        let extra = format!("--no-pci {} {}", member(0), member(1));
        let sandbox = configured(Sandbox::in_namespace(&namespace.0, &["--disable-system"]), &extra);
        let image = match Image::build(sandbox.directory(), &["bonding"]) {
            Ok(image) => image,
            Err(why) => {
                println!("skipped: {why}");
                return None;
            }
        };
        // The guest needs the processors, too.
        sandbox.vsctl(&["set", "Open_vSwitch", ".", "other_config:pmd-maxsleep=200"]);
        sandbox.vsctl(&["del-fail-mode", "br0"]);
        let bond = "net_bonding0,mode=4,slave=net_af_packet0,slave=net_af_packet1";
        assert_eq!(add(&sandbox, "bond", bond, &[]), "[]", "{}", sandbox.log());
        address(&namespace.0, "br0", OURS);
        let names = (0..MEMBERS).map(|no| format!("t{no}")).collect();
        let machine = Machine {
            name: "guest".to_owned(),
            address: GUEST.to_owned(),
            network: Network::Taps { namespace: namespace.0.clone(), names },
            device: DEVICE.to_owned(),
            mtu: None,
            incoming: None,
        };
        let guest = Guest::start(&image, sandbox.directory(), &machine);
        Some(World { guest, sandbox, namespace, _alone: alone })
    }

    /// The guest makes a bond of its devices.
    fn bond(&mut self) {
        self.guest.booted();
        // Loading the module has made bond0.
        self.guest.run("ip addr flush dev eth0");
        for setting in ["802.3ad >mode", "100 >miimon", "fast >lacp_rate"] {
            self.guest.run(&format!("cd /sys/class/net/bond0/bonding && echo {setting}"));
        }
        for no in 0..MEMBERS {
            self.guest.run(&format!("ip link set eth{no} down && echo +eth{no} >slaves"));
        }
        self.guest.run(&format!("ip addr add {GUEST}/24 dev bond0 && ip link set bond0 up"));
    }

    fn program(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0]).args(line.split(' '));
        command
    }

    fn printed(&self, line: &str) -> String {
        String::from_utf8_lossy(&self.program(line).output().unwrap().stdout).into_owned()
    }

    /// Waits until the guest's driver has so many devices in the aggregator with us.
    fn aggregated(&mut self, count: usize) {
        let end = Instant::now() + LONG_TIMEOUT + PATIENCE;
        loop {
            let bond = Bond::parse(&self.guest.run("cat /proc/net/bonding/bond0"));
            if bond.partner != "00:00:00:00:00:00" && bond.ports == count && bond.agreed == count {
                // Our own address, as the database says.
                assert_eq!(bond.partner, self.sandbox.get("Interface", "bond", "mac_in_use"));
                return;
            }
            assert!(Instant::now() < end, "{bond:#?}\n{}", self.state());
            std::thread::sleep(PACE);
        }
    }

    fn passes(&self) -> bool {
        self.printed(&format!("ping -n -c 3 -i 0.2 -W 1 {GUEST}")).contains(" 0% packet loss")
    }

    /// Waits until pings are answered, and sends a file each way by TCP.
    fn traffic_goes_on(&mut self) {
        let end = Instant::now() + LONG_TIMEOUT + PATIENCE;
        while !self.passes() {
            assert!(Instant::now() < end, "{}", self.state());
        }
        let sent =
            self.program(&format!("nc -N -w 60 {GUEST} 7")).stdin(File::open(BUSYBOX).unwrap()).output();
        let sum = Command::new("md5sum").arg(BUSYBOX).output().unwrap().stdout;
        assert_eq!(sent.unwrap().stdout.get(..32), sum.get(..32), "{}", self.state());
        let fetched =
            self.program(&format!("nc -d -w 60 {GUEST} 8")).stdin(Stdio::null()).output().unwrap().stdout;
        assert!(fetched == fs::read(BUSYBOX).unwrap(), "{} bytes\n{}", fetched.len(), self.state());
    }

    /// The member by which what we send to the guest goes.
    fn carrier(&mut self) -> usize {
        let sent = || -> Vec<u64> {
            let file = |no| format!("cat /sys/class/net/t{no}/statistics/tx_packets");
            (0..MEMBERS).map(|no| self.printed(&file(no)).trim().parse().unwrap()).collect()
        };
        let before = sent();
        self.printed(&format!("ping -n -q -c {PINGS} -i 0.01 {GUEST}"));
        // Frames count when the guest has taken them, which may be later.
        let end = Instant::now() + PATIENCE;
        loop {
            let grown: Vec<u64> = sent().iter().zip(&before).map(|(after, before)| after - before).collect();
            if let Some(carrier) = grown.iter().position(|n| *n >= PINGS * 9 / 10) {
                return carrier;
            }
            assert!(Instant::now() < end, "{grown:?}\n{}", self.state());
            std::thread::sleep(PACE);
        }
    }

    /// Pings the guest while something is done; returns how long no ping was answered, and the others that were not
    /// answered as time.
    fn silence(&mut self, what: &str, action: impl FnOnce(&mut Self)) -> (Duration, Duration) {
        let path = self.sandbox.path("pings");
        let mut ping = self.program(&format!("ping -n -i {} {GUEST}", PACE.as_secs_f64()));
        let mut ping = ping.stdin(Stdio::null()).stdout(File::create(&path).unwrap()).spawn().unwrap();
        action(self);
        // It writes out what it has to say.
        kill(Pid::from_raw(ping.id() as i32), Signal::SIGINT).unwrap();
        ping.wait().unwrap();
        let (mut last, mut longest, mut lost) = (0, 0, 0);
        for no in answered(&fs::read_to_string(&path).unwrap()) {
            longest = longest.max(no - last - 1);
            lost += no - last - 1;
            last = no;
        }
        assert!(last > 0, "{what}: no answer at all\n{}", self.state());
        println!("{what}: no answer for {:?}, and to {} other pings", PACE * longest, lost - longest);
        (PACE * longest, PACE * (lost - longest))
    }

    /// A member goes down, the one that carries what we send to the guest, and comes up again.
    fn outlives(&mut self, what: &str, set: impl Fn(&mut Self, usize, &str)) {
        let failed = self.carrier();
        let (longest, others) = self.silence(&format!("{what} fails"), |world| {
            set(world, failed, "down");
            world.traffic_goes_on();
        });
        assert!(longest < LONG_TIMEOUT + CHANGE && others < CHANGE, "{}", self.state());
        assert_ne!(self.carrier(), failed, "{}", self.state());
        self.aggregated(MEMBERS - 1);
        let (longest, others) = self.silence(&format!("{what} is back"), |world| {
            set(world, failed, "up");
            world.aggregated(MEMBERS);
            world.traffic_goes_on();
        });
        assert!(longest + others < CHANGE, "{}", self.state());
    }

    /// What is to be known when something does not pass.
    fn state(&mut self) -> String {
        let guest = self.guest.output("cat /proc/net/bonding/bond0; ip addr; dmesg | tail -n 40").0;
        let rows = self.sandbox.vsctl(&["--columns=name,status,statistics", "list", "Interface"]);
        format!("{guest}{rows}{}{}", self.printed("ip -s link"), self.sandbox.log())
    }
}

/// What Linux's bonding driver says.
#[derive(Debug)]
struct Bond {
    /// Of the active aggregator: how many of its own ports, and the partner's address.
    ports: usize,
    partner: String,
    /// Devices that are collecting and distributing at both ends, in the active aggregator.
    agreed: usize,
}

impl Bond {
    fn parse(text: &str) -> Self {
        let field = |part: &str, name: &str| -> String {
            let found =
                part.lines().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
            found.unwrap_or_default()
        };
        let (head, members) = text.split_once("Slave Interface: ").unwrap_or((text, ""));
        let active = field(head, "Aggregator ID");
        // Activity, timeout, aggregation, synchronization, collecting, distributing: IEEE 802.1AX, 6.4.2.3.
        let is_agreed = |member: &&str| {
            let states: BTreeSet<bool> = member
                .lines()
                .filter_map(|l| l.trim().strip_prefix("port state: ")?.parse::<u8>().ok())
                .map(|state| state & 0b0011_1100 == 0b0011_1100)
                .collect();
            field(member, "Aggregator ID") == active && states == BTreeSet::from([true])
        };
        Bond {
            ports: field(head, "Number of ports").parse().unwrap_or(0),
            partner: field(head, "Partner Mac Address"),
            agreed: members.split("Slave Interface: ").filter(is_agreed).count(),
        }
    }
}

/// The pings that are answered, in order.
fn answered(printed: &str) -> BTreeSet<u32> {
    let no = |line: &str| line.split_once("icmp_seq=")?.1.split_once(" ttl=")?.0.parse().ok();
    printed.lines().filter_map(no).collect()
}

#[test]
fn a_bond_with_linux_aggregates_and_outlives_its_members() {
    let Some(mut world) = World::new() else { return };
    world.bond();
    world.aggregated(MEMBERS);
    world.traffic_goes_on();
    // The guest sees at once that its device is down; that ours is, it learns by hearing nothing for three seconds.
    world.outlives("a device of the guest", |world, no, state| {
        world.guest.run(&format!("ip link set eth{no} {state}"));
    });
    world.outlives("a device of ours", |world, no, state| {
        assert!(ip(&format!("-n {} link set t{no} {state}", world.namespace.0)));
    });
}
