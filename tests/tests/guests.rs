//! Virtual machines with Linux's virtio-net driver on `dpdkvhostuserclient` ports, beside a host in a namespace.
//!
//! Needs root, QEMU, a cloud kernel, busybox and ethtool; is skipped with the reason otherwise. The machines are
//! emulated: no KVM, and no hugepages.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;
use tests::Sandbox;
use tests::guest::{BUSYBOX, Guest, Image, Machine, Network, PATIENCE};
use tests::net::Lan;

/// Emulated machines take what processors there are; one test at a time has them.
static ALONE: Mutex<()> = Mutex::new(());

/// The host in a namespace.
const HOST: &str = "10.0.0.1";
const MTU: u32 = 9000;
/// Bytes of a ping that fills a packet of [`MTU`] bytes.
const LARGE: usize = MTU as usize - 28;
const QUEUES: usize = 2;

/// A switch with a host, and what guests are made of.
struct World {
    lan: Lan,
    image: Image,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    fn new() -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let lan = Lan::with_hosts(1)?;
        let image = match Image::build(lan.sandbox.directory(), &[]) {
            Ok(image) => image,
            Err(why) => {
                println!("skipped: {why}");
                return None;
            }
        };
        share_cores(&lan.sandbox);
        lan.ip("sw", &format!("link set h1 mtu {MTU}"));
        lan.ip("h1", &format!("link set eth0 mtu {MTU}"));
        Some(World { lan, image, _alone: alone })
    }

    /// A machine with the address 10.0.0.NO on the port `gNO`.
    fn machine(&self, no: u8, device: &str) -> Machine {
        machine(&self.lan.sandbox, no, device)
    }

    fn start(&self, machine: &Machine) -> Guest {
        Guest::start(&self.image, self.lan.sandbox.directory(), machine)
    }

    /// Guests 11 and up, with devices of these properties.
    fn guests<const N: usize>(&self, devices: [&str; N]) -> [Guest; N] {
        let mut no = 10;
        let mut guests = devices.map(|device| {
            no += 1;
            self.start(&self.machine(no, device))
        });
        guests.iter_mut().for_each(Guest::booted);
        guests
    }

    /// Sends a file from the host to a guest, which must say the sum of what comes, and fetches one.
    fn host_sends(&self, guest: &Guest) {
        let sum = self.send(guest, BUSYBOX).wait_with_output().unwrap();
        assert_eq!(first_word(&sum.stdout), file_sum(), "from the host\n{}", self.lan.sandbox.log());
        let fetched = self.lan.output("h1", &format!("nc -d -w 60 {} 8", guest.address())).stdout;
        let is_whole = fetched == std::fs::read(BUSYBOX).unwrap();
        assert!(is_whole, "{} bytes came to the host\n{}", fetched.len(), self.lan.sandbox.log());
    }

    /// Sends a file from the host to a guest; the sum that the guest says is the child's output.
    fn send(&self, guest: &Guest, file: &str) -> Child {
        let mut nc = self.lan.command("h1", &format!("nc -N {} 7", guest.address()));
        nc.stdin(File::open(file).unwrap()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// All reach all, and files come through as they are.
    fn all_is_well(&self, guests: &mut [Guest]) {
        let all: Vec<String> =
            guests.iter().map(|g| g.address().to_owned()).chain([HOST.to_owned()]).collect();
        for guest in guests.iter_mut() {
            for to in &all {
                assert!(guest.reaches(to, 56), "{} does not reach {to}\n{}", guest.address(), self.state());
            }
            guest_sends(guest, &all);
            self.host_sends(guest);
        }
    }

    /// What is to be known when a guest does not answer.
    fn state(&self) -> String {
        let sandbox = &self.lan.sandbox;
        let show = sandbox.appctl(&["dpif-netdev/pmd-rxq-show"]);
        show + &sandbox.vsctl(&["--columns=name,status,statistics", "list", "Interface"]) + &sandbox.log()
    }
}

/// Polling threads sleep when there is nothing to do.
fn share_cores(sandbox: &Sandbox) {
    sandbox.vsctl(&[
        "set",
        "Open_vSwitch",
        ".",
        "other_config:pmd-cpu-mask=2",
        "other_config:pmd-maxsleep=200",
    ]);
}

/// Makes a port; returns the machine that belongs to it.
fn machine(sandbox: &Sandbox, no: u8, device: &str) -> Machine {
    let name = format!("g{no}");
    let socket = sandbox.path(&format!("{name}.sock"));
    let path = format!("options:vhost-server-path={}", socket.display());
    let mtu = format!("mtu_request={MTU}");
    let port = ["type=dpdkvhostuserclient", &path, &mtu];
    sandbox.vsctl(&[&["add-port", "br0", &name, "--", "set", "Interface", &name], &port[..]].concat());
    let address = format!("10.0.0.{no}");
    let device = device.to_owned();
    let network = Network::VhostUser { socket, queues: QUEUES };
    Machine { name, address, network, device, mtu: Some(MTU), incoming: None }
}

fn first_word(output: &[u8]) -> String {
    String::from_utf8_lossy(output).split_whitespace().next().unwrap_or_default().to_owned()
}

/// The MD5 sum of the file that is sent around.
fn file_sum() -> String {
    md5sum(BUSYBOX)
}

fn md5sum(file: &str) -> String {
    first_word(&Command::new("md5sum").arg(file).output().unwrap().stdout)
}

/// Sends the file from a guest to all others, whose sums must be right.
fn guest_sends(guest: &mut Guest, all: &[String]) {
    for to in all.iter().filter(|to| *to != HOST && *to != guest.address()).cloned().collect::<Vec<_>>() {
        let sum = guest.run(&format!("nc {to} 7 <{BUSYBOX}"));
        assert_eq!(first_word(sum.as_bytes()), file_sum(), "{} to {to}", guest.address());
    }
}

/// Waits for something about a guest.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Whether the guest's driver sees a link.
fn carrier(guest: &mut Guest) -> bool {
    guest.run("cat /sys/class/net/eth0/carrier").trim() == "1"
}

#[test]
fn guests_and_a_host_reach_each_other() {
    let Some(world) = World::new() else { return };
    let mut guests = world.guests(["packed=off,mrg_rxbuf=on,host_mtu=9000", "packed=on,mrg_rxbuf=on"]);
    world.all_is_well(&mut guests);
    let sandbox = &world.lan.sandbox;
    // Large packets, whole.
    let [one, other] = &mut guests;
    assert!(one.reaches(HOST, LARGE) && one.reaches(other.address(), LARGE), "{}", world.state());
    assert!(other.reaches(HOST, LARGE), "{}", world.state());
    world.lan.run("h1", &format!("ping -n -q -c 1 -M do -s {LARGE} -W 60 {}", one.address()));
    assert_eq!(sandbox.key("g11", "status", "mtu"), MTU.to_string(), "{}", world.state());
    for guest in &mut guests {
        guest.run("ethtool -K eth0 tx off sg off tso off gso off gro off");
    }
    world.all_is_well(&mut guests);
    queues_come_and_go(&world, &mut guests);
}

/// The driver takes queue pairs away and brings them back.
fn queues_come_and_go(world: &World, guests: &mut [Guest]) {
    let sandbox = &world.lan.sandbox;
    for guest in guests.iter_mut() {
        let name = guest.machine.name.clone();
        let line = |state: &str| format!("port: {name}               queue-id:  1 ({state})");
        let shows = |state: &str| sandbox.appctl(&["dpif-netdev/pmd-rxq-show"]).contains(&line(state));
        assert!(shows("enabled"), "{}", world.state());
        // A process on the second processor uses the second queue.
        let before = sandbox.statistic(&name, "rx_q1_good_packets");
        guest.run(&format!("taskset 2 ping -q -c 3 -i 0.1 {HOST}"));
        sandbox.until("packets come over the second queue", || {
            sandbox.statistic(&name, "rx_q1_good_packets") > before
        });
        guest.run("ethtool -L eth0 combined 1");
        sandbox.until("the second queue is disabled", || shows("disabled"));
        assert!(guest.reaches(HOST, 56), "{}", world.state());
        guest.run("ethtool -L eth0 combined 2");
        sandbox.until("the second queue is enabled", || shows("enabled"));
        assert!(guest.reaches(HOST, 56), "{}", world.state());
    }
}

/// A transfer of many copies of the file from the first guest to the second.
const COPIES: usize = 20;

/// Starts to send in the background, and waits until packets come.
fn begin_transfer(world: &World, guests: &mut [Guest; 2]) {
    let [one, other] = guests;
    let before = world.lan.sandbox.statistic(&one.machine.name, "rx_packets");
    let to = other.address();
    let copies = format!("for i in $(seq {COPIES}); do cat {BUSYBOX}; done");
    one.run(&format!("(({copies}) | nc {to} 7 >/tmp/sum; echo done >>/tmp/sum) & :"));
    until("packets of the transfer", || {
        world.lan.sandbox.statistic(&one.machine.name, "rx_packets") > before + 100
    });
}

/// Waits until all has come; it must be what was sent.
fn end_transfer(world: &World, guests: &mut [Guest; 2]) {
    let sent = format!("for i in $(seq {COPIES}); do cat {BUSYBOX}; done | md5sum");
    let sent = Command::new("sh").args(["-c", &sent]).output().unwrap();
    let mut said = String::new();
    until("the end of the transfer", || {
        said = guests[0].run("cat /tmp/sum");
        said.ends_with("done\n")
    });
    assert_eq!(first_word(said.as_bytes()), first_word(&sent.stdout), "{}", world.state());
}

/// Nothing passes a port that is switched off.
fn port_goes_down(world: &World, guest: &mut Guest) {
    let sandbox = &world.lan.sandbox;
    let name = guest.machine.name.clone();
    let ping = format!("ping -q -c 1 -W 1 {HOST}");
    sandbox.ofctl(&["mod-port", "br0", &name, "down"]);
    sandbox.until("the port is down", || sandbox.get("Interface", &name, "admin_state") == "down");
    assert_ne!(guest.output(&ping).1, 0, "{}", world.state());
    sandbox.ofctl(&["mod-port", "br0", &name, "up"]);
    assert!(guest.reaches(HOST, 56), "{}", world.state());
}

#[test]
fn traffic_comes_back_after_every_outage() {
    let Some(mut world) = World::new() else { return };
    let plain = "packed=off,mrg_rxbuf=off,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ufo=off";
    let mut guests = world.guests([plain, "packed=on,mrg_rxbuf=on"]);
    world.all_is_well(&mut guests);
    port_goes_down(&world, &mut guests[0]);
    guests[1].reboot();
    world.all_is_well(&mut guests);
    // A machine dies and is started again.
    guests[0].kill();
    let sandbox = &world.lan.sandbox;
    sandbox.until("it is gone", || sandbox.key("g11", "status", "status") == "disconnected");
    guests[0] = world.start(&guests[0].machine);
    guests[0].booted();
    world.all_is_well(&mut guests);
    // The daemon dies in the middle of a transfer; what comes after it finds guests that wait.
    begin_transfer(&world, &mut guests);
    world.lan.sandbox.kill_daemon();
    until("the guests see that nobody is there", || !guests.iter_mut().any(carrier));
    world.lan.sandbox.start_daemon();
    until("the guests see the switch", || guests.iter_mut().all(carrier));
    end_transfer(&world, &mut guests);
    world.all_is_well(&mut guests);
    // It is stopped in good order.
    begin_transfer(&world, &mut guests);
    world.lan.sandbox.stop_daemon(false);
    world.lan.sandbox.start_daemon();
    end_transfer(&world, &mut guests);
    world.all_is_well(&mut guests);
}

/// Moves a guest to a machine with another port, whose socket is of a switch of its own or the same; the guest goes on.
fn migrate(world: &World, guest: &mut Guest, to: &Machine) {
    let incoming = Some(world.lan.sandbox.path(&format!("{}.incoming", to.name)));
    let machine = Machine { address: guest.address().to_owned(), incoming, ..to.clone() };
    let mut new = world.start(&machine);
    guest.migrate(&mut new);
    *guest = new;
}

/// The port on which a guest's address was learned.
fn learned(sandbox: &Sandbox, guest: &Guest) -> String {
    let last: u8 = guest.address().rsplit('.').next().unwrap().parse().unwrap();
    let table = sandbox.appctl(&["fdb/show", "br0"]);
    let line = table.lines().find(|l| l.contains(&format!("52:54:00:00:00:{last:02x}"))).unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn guests_move_while_they_talk() {
    let Some(world) = World::new() else { return };
    let devices = ["packed=off,mrg_rxbuf=on", "packed=on,mrg_rxbuf=on"];
    let mut guests = world.guests(devices);
    world.all_is_well(&mut guests);
    begin_transfer(&world, &mut guests);
    let sandbox = &world.lan.sandbox;
    for (i, device) in devices.into_iter().enumerate() {
        let machine = world.machine(21 + i as u8, device);
        migrate(&world, &mut guests[i], &machine);
        let port = sandbox.get("Interface", &machine.name, "ofport");
        sandbox.until("the guest says where it is now", || learned(sandbox, &guests[i]) == port);
    }
    end_transfer(&world, &mut guests);
    world.all_is_well(&mut guests);
}
