//! Ports over real kernel devices. Each test has a network namespace of its own (the test's thread enters it)
//! and says `skipped: ...` without the privilege to make one.

#![allow(clippy::expect_used)] // a test's helpers are tests too

use flow::EthAddr;
use netdev::*;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use packet::{Batch, Checksum, GsoKind, Packet};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Enters a new network namespace, or says why the test is not run.
fn namespace() -> bool {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => true,
        Err(e) => {
            println!("skipped: no new network namespace ({e})");
            false
        }
    }
}

fn run(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A veth pair: `a` is the switch's, `b` the other side's.
fn veth() {
    run("ip link add va type veth peer name vb; sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || true
         for d in va vb; do sysctl -qw net.ipv6.conf.$d.disable_ipv6=1 || true; ip link set $d up; done");
    wait_until_up();
}

/// The kernel takes notice of a carrier later, on a busy machine much later, and until then drops what is sent.
fn wait_until_up() {
    run("for i in $(seq 100); do [ $(ip -o link show type veth up | grep -c 'v[ab]@.* state UP') = 2 ] && exit 0
         sleep 0.05; done; ip link >&2; exit 1");
}

fn env() -> Env {
    Env::new(DummyLevel::Off).expect("env")
}

fn rx(device: &Arc<dyn Netdev>) -> Box<dyn RxQueue> {
    device.open_rx().expect("rx").pop().expect("one queue")
}

fn tx(device: &Arc<dyn Netdev>) -> Box<dyn TxQueue> {
    device.open_tx(0).expect("tx")
}

/// Receives until `n` packets satisfied `wanted`, or time is up.
fn receive_some(queue: &mut Box<dyn RxQueue>, n: usize, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut got = Vec::new();
    while got.len() < n && Instant::now() < deadline {
        let mut batch = Batch::new();
        queue.recv(&mut batch);
        got.extend(batch.into_iter().filter(|p| wanted(p)));
        let fd = queue.wait_fd().expect("descriptor");
        let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 20_u16);
    }
    got
}

/// Receives until a packet satisfies `wanted`.
fn receive(queue: &mut Box<dyn RxQueue>, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
    receive_some(queue, 1, wanted).into_iter().next()
}

/// A frame of an experimental Ethernet type, told apart by its last byte.
fn frame(len: usize, mark: u8) -> Packet {
    let mut bytes = vec![0; len];
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    bytes[len - 1] = mark;
    Packet::from_slice(&bytes)
}

fn is_marked(p: &Packet, mark: u8) -> bool {
    p.data().get(12..14) == Some(&[0x88, 0xb5]) && p.data().last() == Some(&mark)
}

fn send(queue: &mut Box<dyn TxQueue>, packet: Packet) -> TxOutcome {
    let mut batch = Batch::new();
    batch.push(packet);
    let outcome = queue.send(&mut batch);
    assert!(batch.is_empty());
    outcome
}

/// Ethernet, IPv4 and TCP with `payload` bytes, checksum and segmentation left to the device.
fn super_packet(payload: usize, tagged: bool) -> Packet {
    let total = (20 + 20 + payload) as u16;
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if tagged {
        f.extend([0x81, 0, 0, 7]);
    }
    f.extend([8, 0]);
    let l3 = f.len();
    f.extend([0x45, 0]);
    f.extend(total.to_be_bytes());
    f.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    let sum = packet::checksum::checksum(&f[l3..]);
    f[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    let l4 = f.len();
    f.extend([0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = packet::checksum::pseudo_v4(0x0a00_0002, 0x0a00_0001, 6, (20 + payload) as u32);
    f[l4 + 16..l4 + 18].copy_from_slice(&packet::checksum::fold(pseudo).to_be_bytes());
    f.resize(f.len() + payload, 0x5a);
    let mut p = Packet::from_slice(&f);
    p.offload.checksum = Checksum::Partial { start: l4 as u16, offset: 16 };
    p.offload.gso = Some(packet::Gso { kind: GsoKind::Tcp4, size: 1448, ecn: false });
    p
}

#[test]
fn frames_pass_both_ways_and_our_own_do_not_come_back() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let (a, b) = (env.open("system", "va").expect("va"), env.open("", "vb").expect("vb"));
    let (mut rx_a, mut rx_b) = (rx(&a), rx(&b));
    let (mut tx_a, mut tx_b) = (tx(&a), tx(&b));
    assert_eq!(send(&mut tx_a, frame(60, 1)).sent, 1);
    let got = receive(&mut rx_b, |p| is_marked(p, 1)).expect("a to b");
    assert_eq!(got.data(), frame(60, 1).data());
    assert_eq!(got.headroom(), packet::HEADROOM);
    assert_eq!(send(&mut tx_b, frame(1514, 2)).sent, 1);
    let marks =
        |packets: &[Packet]| packets.iter().map(|p| *p.data().last().expect("mark")).collect::<Vec<_>>();
    let ours = |p: &Packet| p.data().get(12..14) == Some(&[0x88, 0xb5]);
    let seen = receive_some(&mut rx_a, 1, ours);
    assert_eq!(marks(&seen), [2], "what a sent is not received at a");
    // A whole batch in one call, in order.
    let mut batch = Batch::new();
    (0..32).for_each(|i| batch.push(frame(100, i)));
    assert_eq!(tx_a.send(&mut batch).sent, 32);
    let seen = receive_some(&mut rx_b, 32, ours);
    assert_eq!(marks(&seen), (0..32).collect::<Vec<_>>());
}

#[test]
fn losses_have_causes() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let a = env.open("system", "va").expect("va");
    let mut tx_a = tx(&a);
    let mut batch = Batch::new();
    batch.extend([frame(60, 1), frame(2000, 2), frame(60, 3)]);
    let outcome = tx_a.send(&mut batch);
    assert_eq!(
        outcome,
        TxOutcome { sent: 2, dropped_too_big: 1, dropped_bytes: 2000, ..TxOutcome::default() }
    );
    run("ip link set va down");
    let outcome = send(&mut tx_a, frame(60, 4));
    assert_eq!(outcome, TxOutcome { dropped_down: 1, dropped_bytes: 60, ..TxOutcome::default() });
    let t = env.open("tap", "t0").expect("tap");
    let outcome = send(&mut tx(&t), frame(60, 5));
    assert_eq!(outcome, TxOutcome { dropped_down: 1, dropped_bytes: 60, ..TxOutcome::default() });
    assert_eq!(t.stats().expect("stats").common.tx_dropped, 1);
}

/// The kernel takes the outer tag out of every frame that it receives, whether or not it has VLAN devices.
#[test]
fn tags_are_restored() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let (a, b) = (env.open("system", "va").expect("a"), env.open("system", "vb").expect("b"));
    let (mut rx_a, mut tx_b) = (rx(&a), tx(&b));
    for tags in [
        &[0x81, 0, 0, 7][..],
        &[0x81, 0, 0xe0, 0],
        &[0x88, 0xa8, 0x2f, 0xff],
        &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 5],
        &[0x81, 0, 0, 9, 0x81, 0, 0, 5],
    ] {
        // Beyond the MTU there is room for one 802.1Q tag and no other.
        let fits = tags.len() == 4 && tags[0] == 0x81;
        for (len, sent) in [(1514, u32::from(fits)), (1000, 1)] {
            let plain = frame(len, 1);
            let tagged = [&plain.data()[..12], tags, &plain.data()[12..]].concat();
            assert_eq!(send(&mut tx_b, Packet::from_slice(&tagged)).sent, sent, "{tags:x?}");
            if sent == 1 {
                let got = receive(&mut rx_a, |p| p.data().get(12..12 + tags.len()) == Some(tags));
                assert_eq!(got.as_ref().map(Packet::data), Some(&tagged[..]), "{tags:x?}");
            }
        }
    }
}

#[test]
fn super_packets_pass_unharmed() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let (a, b) = (env.open("system", "va").expect("va"), env.open("system", "vb").expect("vb"));
    let (mut rx_b, mut tx_a) = (rx(&b), tx(&a));
    for tagged in [false, true] {
        let sent = super_packet(60_000, tagged);
        assert_eq!(send(&mut tx_a, sent.clone()).sent, 1, "tagged {tagged}");
        let got = receive(&mut rx_b, |p| p.len() > 50_000).expect("super-packet");
        assert_eq!(got.offload, sent.offload, "tagged {tagged}");
        assert_eq!(got.data(), sent.data());
    }
}

/// UDP segments in one piece, as QUIC servers send them.
#[test]
fn udp_super_packets_pass_unharmed() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let (a, b) = (env.open("system", "va").expect("a"), env.open("system", "vb").expect("b"));
    let (mut rx_b, mut tx_a) = (rx(&b), tx(&a));
    let payload = 12_000;
    let mut f = super_packet(payload - 12, false).data().to_vec();
    f[23] = 17;
    f[24..26].fill(0);
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[38..40].copy_from_slice(&(8 + payload as u16).to_be_bytes());
    let pseudo = packet::checksum::pseudo_v4(0x0a00_0002, 0x0a00_0001, 17, 8 + payload as u32);
    f[40..42].copy_from_slice(&packet::checksum::fold(pseudo).to_be_bytes());
    let mut sent = Packet::from_slice(&f);
    sent.offload.checksum = Checksum::Partial { start: 34, offset: 6 };
    sent.offload.gso = Some(packet::Gso { kind: GsoKind::Udp, size: 1200, ecn: false });
    assert_eq!(send(&mut tx_a, sent.clone()).sent, 1);
    let got = receive(&mut rx_b, |p| p.data()[12..14] == [8, 0]).expect("super-packet");
    assert_eq!((got.data(), got.offload), (sent.data(), sent.offload));
}

#[test]
fn super_packets_are_finished_where_the_device_cannot() {
    if !namespace() {
        return;
    }
    veth();
    run("ethtool -K va tso off gso off tx off >/dev/null");
    let env = env();
    let (a, b) = (env.open("system", "va").expect("va"), env.open("system", "vb").expect("vb"));
    let (mut rx_b, mut tx_a) = (rx(&b), tx(&a));
    assert_eq!(send(&mut tx_a, super_packet(1448 * 3, false)).sent, 1);
    let segments = receive_some(&mut rx_b, 3, |p| p.data()[12..14] == [8, 0]);
    for (i, got) in segments.iter().enumerate() {
        assert_eq!(got.data()[38..42], (1 + 1448 * i as u32).to_be_bytes(), "sequence number");
        assert_eq!((got.len(), got.offload.gso), (54 + 1448, None));
        let pseudo = packet::checksum::pseudo_v4(0x0a00_0002, 0x0a00_0001, 6, 20 + 1448);
        assert_eq!(packet::checksum::finish(pseudo + packet::checksum::sum(&got.data()[34..])), 0);
    }
    assert_eq!(segments.len(), 3);
}

#[test]
fn devices_go_and_come_back() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let a = env.open("system", "va").expect("va");
    let (mut rx_a, mut tx_a) = (rx(&a), tx(&a));
    let first = a.link();
    assert!(first.admin_up && first.carrier && first.ifindex.is_some());
    assert_eq!((first.speed_bps, first.full_duplex), (10_000_000_000, Some(true)));
    let monitor = env.link_monitor();
    monitor.drain();

    run("ip link set va down");
    let seq = a.change_seq();
    assert!(!monitor.drain().is_empty());
    assert_ne!(a.change_seq(), seq);
    assert!(!a.link().admin_up && !a.link().carrier);
    assert_eq!(a.link().carrier_resets, 1);
    let mut batch = Batch::new();
    assert_eq!(rx_a.recv(&mut batch), 0);
    run("ip link set va up");
    wait_until_up();
    monitor.drain();
    let b = env.open("system", "vb").expect("vb");
    send(&mut tx(&b), frame(60, 1));
    assert!(receive(&mut rx_a, |p| is_marked(p, 1)).is_some(), "receives after down and up");

    run("ip link del va");
    let events = monitor.drain();
    assert!(events.iter().any(|e| e.name == "va" && e.kind == link::LinkEventKind::Gone), "{events:?}");
    assert_eq!((a.link().ifindex, a.link().carrier), (None, false));
    assert_eq!(rx_a.recv(&mut batch), 0);
    assert_eq!(send(&mut tx_a, frame(60, 2)).dropped_down, 1);
    assert!(a.stats().is_err());

    run("ip link add unrelated type veth peer name other");
    veth();
    monitor.drain();
    let again = a.link();
    assert!(again.carrier && again.ifindex.is_some() && again.ifindex != first.ifindex);
    let b = env.open("system", "vb").expect("vb");
    send(&mut tx(&b), frame(60, 3));
    assert!(receive(&mut rx_a, |p| is_marked(p, 3)).is_some(), "receives under the new index");
    assert_eq!(send(&mut tx_a, frame(60, 4)).sent, 1);

    run("ip link set va down; ip link set va name elsewhere");
    let events = monitor.drain();
    assert!(events.iter().any(|e| e.name == "va" && e.kind == link::LinkEventKind::Gone), "{events:?}");
    assert_eq!(a.link().ifindex, None);
}

#[test]
fn what_the_kernel_knows_of_a_device() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let a = env.open("system", "va").expect("va");
    let mac = EthAddr([2, 0, 0, 0, 0, 0x77]);
    a.set_mac(mac).expect("mac");
    a.set_mtu(1400).expect("mtu");
    a.set_admin_up(false).expect("down");
    let link = a.link();
    assert_eq!((link.mac, link.mtu, link.admin_up), (mac, 1400, false));
    assert!(run("ip link show va").contains("02:00:00:00:00:77"));
    assert!(a.set_mtu(u32::MAX).is_err());
    assert_eq!(a.status()["driver_name"], "veth");
    assert_eq!(a.status().len(), 3);
    a.set_admin_up(true).expect("up");
    let b = env.open("system", "vb").expect("vb");
    send(&mut tx(&b), frame(60, 1));
    let s = a.stats().expect("stats").statistics();
    assert_eq!(s.len(), 14, "{s:?}");
    assert_eq!((s["rx_packets"], s["rx_bytes"], s["rx_over_err"]), (1, 60, 0));
}

#[test]
fn policing_drops_what_is_over() {
    if !namespace() {
        return;
    }
    veth();
    let env = env();
    let (a, b) = (env.open("system", "va").expect("va"), env.open("system", "vb").expect("vb"));
    let mut rx_a = rx(&a);
    a.set_policing(Policing { rate_kpps: 1, burst_kp: 0, ..Policing::default() }).expect("policing");
    a.set_policing(Policing { rate_kbps: 8, burst_kb: 8, ..Policing::default() }).expect("policing");
    let mut tx_b = tx(&b);
    for i in 0..4 {
        send(&mut tx_b, frame(1014, i));
    }
    // 8 kb are one frame; the second is refused, as are the others until a second has passed.
    assert!(receive(&mut rx_a, |p| is_marked(p, 0)).is_some());
    let mut batch = Batch::new();
    rx_a.recv(&mut batch);
    assert_eq!(batch.len(), 0);
    assert_eq!(a.rx_drops().policed, 3);
}

#[test]
fn taps_are_ours() {
    if !namespace() {
        return;
    }
    let env = env();
    let t = env.open("internal", "br0").expect("tap");
    assert_eq!((t.kind(), t.datapath_kind()), ("internal", "tap"));
    assert_eq!(t.status()["driver_name"], "tun");
    run(
        "sysctl -qw net.ipv6.conf.br0.disable_ipv6=1 || true; ip link set br0 up; ip addr add 10.0.0.1/24 dev br0",
    );
    let (mut rx_t, mut tx_t) = (rx(&t), tx(&t));
    // The host answers an ARP request that comes in through the tap.
    let ask = [
        &[0xff; 6][..],
        &[2, 0, 0, 0, 0, 5],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &[2, 0, 0, 0, 0, 5],
        &[10, 0, 0, 5],
        &[0; 6],
        &[10, 0, 0, 1],
    ]
    .concat();
    assert_eq!(send(&mut tx_t, Packet::from_slice(&ask)).sent, 1);
    let reply = receive(&mut rx_t, |p| p.data()[12..14] == [8, 6]).expect("reply");
    assert_eq!(reply.data()[20..22], [0, 2]);
    assert_eq!(reply.data()[6..12], t.link().mac.0);
    let s = t.stats().expect("stats").statistics();
    assert_eq!((s["rx_packets"], s["tx_packets"], s["tx_bytes"]), (1, 1, 42), "from the switch's side");
    assert_eq!(s.len(), 14);
    // A super-packet arrives at the host whole.
    send(&mut tx_t, super_packet(30_000, false));
    assert_eq!(t.stats().expect("stats").common.tx_bytes, 42 + 54 + 30_000);

    // And so does one from the host, here sent by a socket.
    let host = crate::env().open("system", "br0").expect("host's side");
    for tagged in [false, true] {
        let sent = super_packet(40_000, tagged);
        assert_eq!(send(&mut tx(&host), sent.clone()).sent, 1);
        let got = receive(&mut rx_t, |p| p.len() > 40_000).expect("super-packet");
        assert_eq!((got.data(), got.offload), (sent.data(), sent.offload));
    }

    // Deleted behind our back, it is made again.
    let mut batch = Batch::new();
    run("ip link del br0");
    assert_eq!(rx_t.recv(&mut batch), 0);
    assert!(t.link().ifindex.is_some());
    run("ip link set br0 up");
    assert_eq!(send(&mut tx_t, frame(60, 1)).sent, 1);

    drop((rx_t, tx_t, t));
    assert!(!run("ip link").contains("br0"), "gone with the port");
}

#[test]
fn taps_and_sockets_are_handed_over() {
    if !namespace() {
        return;
    }
    veth();
    let old = env();
    let (t, a) = (old.open("internal", "br0").expect("tap"), old.open("system", "va").expect("va"));
    run("ip link set br0 up");
    let index = t.link().ifindex;
    let rx_a = rx(&a);
    let b = old.open("system", "vb").expect("vb");
    // Waits in the old process's socket when the new one takes over.
    send(&mut tx(&b), frame(60, 1));
    let (fds_t, fds_a) = (t.handover(), a.handover());
    assert_eq!((fds_t[0].0.as_str(), fds_a[0].0.as_str()), ("tap", "rx"));
    t.keep_on_drop(true);
    drop((rx_a, t, a, b, old));

    let new = env();
    let a = new.adopt("system", "va", fds_a).expect("va");
    assert!(receive(&mut rx(&a), |p| is_marked(p, 1)).is_some(), "nothing was lost");
    let t = new.adopt("internal", "br0", fds_t).expect("tap");
    assert_eq!(t.link().ifindex, index);
    assert!(t.link().admin_up && t.link().carrier);
    // A daemon that died left its tap; the next one finds it.
    t.keep_on_drop(true);
    drop((t, new));
    let t = env().open("internal", "br0").expect("tap");
    assert_eq!(t.link().ifindex, index);
    // The descriptor of another device is refused.
    let wrong = env().adopt("tap", "br1", t.handover());
    assert_eq!(
        wrong.map(|_| ()).expect_err("wrong device").to_string(),
        "could not open network device br1 (Invalid argument)"
    );
}
