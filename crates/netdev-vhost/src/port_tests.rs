//! Ports with a front end and a driver in this process: everything but the guest is real.

use super::*;
use crate::protocol::{HEADER_LEN, Header, Request, feature, protocol_feature};
use crate::ring::tests::{Driver, MEMORY, frame, memory, regions};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use packet::{Batch, Packet};
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

const BUFFER: u32 = 2048;

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A virtual machine: its monitor's end of the socket, its memory and the drivers of one queue pair.
struct Machine {
    socket: UnixStream,
    file: File,
    features: u64,
    /// Of the ring on which the guest receives, and of that on which it sends.
    drivers: [Driver; 2],
}

impl Machine {
    fn new(socket: UnixStream, is_packed: bool) -> Self {
        let (memory, file) = memory();
        let layout = if is_packed { feature::RING_PACKED } else { 0 };
        let features = feature::VERSION_1 | feature::MRG_RXBUF | feature::PROTOCOL_FEATURES | layout;
        let half = MEMORY / 2;
        let driver = |part| Driver::within(memory.clone(), part, 64, is_packed, features);
        Machine { socket, file, features, drivers: [driver(0..half), driver(half..MEMORY)] }
    }

    fn tell(&self, request: Request, payload: &[u8], files: &[&File]) {
        let bytes = Header::request(request, payload, false);
        let fds: Vec<_> = files.iter().map(|f| f.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let n =
            sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::empty(), None);
        assert_eq!(n, Ok(bytes.len()));
    }

    fn ask(&mut self, request: Request, payload: &[u8]) -> Vec<u8> {
        self.tell(request, payload, &[]);
        let mut head = [0; HEADER_LEN];
        self.socket.read_exact(&mut head).expect("reply");
        let header = Header::parse(&head).expect("header");
        assert_eq!((header.request, header.flags), (request.number(), 5));
        let mut payload = vec![0; header.size];
        self.socket.read_exact(&mut payload).expect("payload");
        payload
    }

    fn number(&mut self, request: Request) -> u64 {
        u64::from_ne_bytes(*self.ask(request, &[]).first_chunk().expect("number"))
    }

    /// What a virtual machine monitor says when the guest's driver is ready.
    fn start(&mut self) {
        assert_eq!(self.number(Request::GetFeatures) & self.features, self.features);
        let wanted = protocol_feature::MQ | protocol_feature::REPLY_ACK;
        assert_eq!(self.number(Request::GetProtocolFeatures) & wanted, wanted);
        self.tell(Request::SetProtocolFeatures, &wanted.to_ne_bytes(), &[]);
        assert!(self.number(Request::GetQueueNum) >= 8);
        self.tell(Request::SetOwner, &[], &[]);
        self.tell(Request::SetFeatures, &self.features.to_ne_bytes(), &[]);
        self.set_table();
        for i in 0..2_u32 {
            let base = if self.features & feature::RING_PACKED != 0 { 1 << 15 } else { 0 };
            self.start_ring(i, base);
            self.tell(Request::SetVringEnable, &state(i, 1), &[]);
        }
    }

    fn set_table(&self) {
        let mut table = words(&[2]);
        regions().iter().for_each(|r| table.extend(words(&[r.guest, r.size, r.user, r.offset])));
        self.tell(Request::SetMemTable, &table, &[&self.file, &self.file]);
    }

    fn start_ring(&self, i: u32, base: u32) {
        let at = self.drivers[i as usize].addresses();
        self.tell(Request::SetVringNum, &state(i, 64), &[]);
        self.tell(Request::SetVringBase, &state(i, base), &[]);
        let addresses = words(&[i.into(), at.descriptors, at.used, at.available, 0]);
        self.tell(Request::SetVringAddr, &addresses, &[]);
        self.tell(Request::SetVringKick, &words(&[u64::from(i) | 1 << 8]), &[]);
    }

    /// Gives the device a buffer to write to; its address.
    fn offer(&mut self) -> Option<u64> {
        let at = self.drivers[0].allocate(BUFFER);
        self.drivers[0].add(&[(at, BUFFER)], 2, false).map(|_| at)
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}
fn state(ring: u32, value: u32) -> Vec<u8> {
    [ring.to_ne_bytes(), value.to_ne_bytes()].concat()
}

/// One frame each way.
fn traffic(machine: &mut Machine, rx: &mut dyn RxQueue, tx: &mut dyn TxQueue, seed: u8) {
    let sent = frame(100 + usize::from(seed), seed);
    until("room to send", || machine.drivers[1].send([0; 12], &sent, &[20], false).then_some(()));
    let mut batch = Batch::new();
    until("a frame from the guest", || (rx.recv(&mut batch) > 0).then_some(()));
    assert_eq!(batch[0].data(), sent);
    machine.drivers[1].used();

    let at = machine.offer().expect("room");
    let frame = frame(60 + usize::from(seed), !seed);
    until("a frame to the guest", || {
        let mut batch: Batch = [Packet::from_slice(&frame)].into_iter().collect();
        (tx.send(&mut batch).sent == 1).then_some(())
    });
    let used = machine.drivers[0].used();
    assert_eq!(used.iter().map(|(_, len)| *len as usize).collect::<Vec<_>>(), [12 + frame.len()]);
    let mut bytes = vec![0; frame.len()];
    machine.drivers[0].memory.read(at + 12, &mut bytes).expect("read");
    assert_eq!(bytes, frame);
}

struct Client {
    dir: tempfile::TempDir,
    listener: UnixListener,
    port: Arc<dyn Netdev>,
}

fn path(dir: &tempfile::TempDir) -> String {
    dir.path().join("v0.sock").display().to_string()
}

fn client() -> Client {
    let dir = tempfile::tempdir().expect("directory");
    let listener = UnixListener::bind(path(&dir)).expect("listen");
    let port = VhostPorts::new(dir.path()).open(CLIENT, "v0", Vec::new()).expect("port");
    let options = [("vhost-server-path".to_owned(), path(&dir))].into();
    port.configure(&options).expect("options");
    Client { dir, listener, port }
}

fn queues(port: &dyn Netdev) -> (Box<dyn RxQueue>, Box<dyn TxQueue>) {
    (port.open_rx().expect("rx").remove(0), port.open_tx(0).expect("tx"))
}

#[test]
fn a_client_port_carries_frames_and_says_so() {
    for is_packed in [false, true] {
        let c = client();
        let mut machine = Machine::new(c.listener.accept().expect("connection").0, is_packed);
        machine.start();
        let (mut rx, mut tx) = queues(&*c.port);
        (0..9).for_each(|i| traffic(&mut machine, &mut *rx, &mut *tx, i));
        let (features, socket) = (format!("0x{:016x}", machine.features), path(&c.dir));
        let status = until("status", || Some(c.port.status()).filter(|s| s.contains_key("vring_1_size")));
        for (key, value) in [
            ("mode", "client"),
            ("status", "connected"),
            ("socket", &socket),
            ("features", &features),
            ("num_of_vrings", "2"),
            ("vring_0_size", "64"),
        ] {
            assert_eq!(status.get(key).map(String::as_str), Some(value), "{key}");
        }
        let stats = c.port.stats().expect("stats").statistics();
        assert_eq!((stats["rx_packets"], stats["tx_packets"]), (9, 9));
        assert_eq!((stats["rx_bytes"], stats["rx_65_to_127_packets"]), (936, 9));
        assert!(c.port.link().carrier && stats.contains_key("ovs_tx_retries"));
    }
}

#[test]
fn memory_and_rings_change_while_the_port_runs() {
    let c = client();
    let mut machine = Machine::new(c.listener.accept().expect("connection").0, false);
    machine.start();
    let (mut rx, mut tx) = queues(&*c.port);
    traffic(&mut machine, &mut *rx, &mut *tx, 1);
    machine.set_table();
    traffic(&mut machine, &mut *rx, &mut *tx, 2);
    // A ring that is stopped says where it is, and goes on from there.
    // The driver may have been said to be gone before that.
    machine.tell(Request::SetStatus, &0_u64.to_ne_bytes(), &[]);
    for (ring, position) in [(0_u32, 2_u32), (1, 2)] {
        assert_eq!(machine.ask(Request::GetVringBase, &state(ring, 0)), state(ring, position));
        machine.start_ring(ring, position);
    }
    traffic(&mut machine, &mut *rx, &mut *tx, 3);
    // A disabled ring rests.
    machine.tell(Request::SetVringEnable, &state(1, 0), &[]);
    machine.number(Request::GetFeatures);
    assert!(machine.drivers[1].send([0; 12], &frame(60, 0), &[], false));
    assert_eq!(rx.recv(&mut Batch::new()), 0);
    machine.tell(Request::SetVringEnable, &state(1, 1), &[]);
    until("enabled again", || (rx.recv(&mut Batch::new()) == 1).then_some(()));
}

#[test]
fn regions_may_be_named_more_than_once() {
    let c = client();
    let mut machine = Machine::new(c.listener.accept().expect("connection").0, false);
    machine.start();
    let (mut rx, mut tx) = queues(&*c.port);
    traffic(&mut machine, &mut *rx, &mut *tx, 1);
    for (i, request) in [Request::AddMemReg, Request::RemMemReg, Request::RemMemReg, Request::AddMemReg]
        .into_iter()
        .enumerate()
    {
        for r in regions() {
            let region = words(&[0, r.guest, r.size, r.user, r.offset]);
            let files = [&machine.file];
            machine.tell(request, &region, &files[usize::from(request == Request::RemMemReg)..]);
        }
        // What came first has been done when this is answered.
        machine.number(Request::GetFeatures);
        if matches!(i, 0 | 3) {
            traffic(&mut machine, &mut *rx, &mut *tx, 2 + i as u8);
        } else {
            let mut batch: Batch = [Packet::from_slice(&frame(60, 1))].into_iter().collect();
            assert_eq!(tx.send(&mut batch).sent, 0, "no memory, no ring");
        }
    }
}

#[test]
fn a_guest_that_breaks_its_ring_rests_until_it_comes_again() {
    let c = client();
    let mut machine = Machine::new(c.listener.accept().expect("connection").0, false);
    machine.start();
    let (mut rx, mut tx) = queues(&*c.port);
    traffic(&mut machine, &mut *rx, &mut *tx, 1);
    machine.drivers[1].add(&[(u64::MAX - 3, 100)], 0, false);
    assert_eq!(rx.recv(&mut Batch::new()), 0);
    assert_eq!(c.port.stats().expect("stats").statistics()["vhost_ring_violations"], 1);
    assert!(machine.drivers[1].send([0; 12], &frame(60, 0), &[], false));
    assert_eq!(rx.recv(&mut Batch::new()), 0, "the port is broken");
    let mut batch: Batch = [Packet::from_slice(&frame(60, 0))].into_iter().collect();
    machine.offer();
    assert_eq!(tx.send(&mut batch).dropped(), 1);
    drop(machine);
    until("disconnected", || (c.port.status()["status"] == "disconnected").then_some(()));
    assert!(!c.port.link().carrier);
    // The port connects again by itself.
    let mut machine = Machine::new(c.listener.accept().expect("connection").0, true);
    machine.start();
    traffic(&mut machine, &mut *rx, &mut *tx, 5);
}

#[test]
fn a_front_end_that_breaks_the_protocol_is_left_and_met_again() {
    let c = client();
    for bytes in [
        &[0; 12][..],
        &[1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
        &[99, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let (mut socket, _) = c.listener.accept().expect("connection");
        std::io::Write::write_all(&mut socket, bytes).expect("write");
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "closed");
    }
    let mut machine = Machine::new(c.listener.accept().expect("connection").0, false);
    machine.start();
    let (mut rx, mut tx) = queues(&*c.port);
    traffic(&mut machine, &mut *rx, &mut *tx, 5);
}

#[test]
fn a_server_port_listens_and_takes_one_front_end_after_the_other() {
    let dir = tempfile::tempdir().expect("directory");
    let ports = VhostPorts::new(dir.path());
    assert!(ports.open(SERVER, "a/b", Vec::new()).is_err());
    let port = ports.open(SERVER, "v1", Vec::new()).expect("port");
    let (mut rx, mut tx) = queues(&*port);
    for seed in 0..2 {
        let socket = UnixStream::connect(dir.path().join("v1")).expect("connect");
        let mut machine = Machine::new(socket, seed == 0);
        machine.start();
        traffic(&mut machine, &mut *rx, &mut *tx, seed);
        assert_eq!(port.status()["mode"], "server");
    }
    drop((port, rx, tx));
    assert!(!dir.path().join("v1").exists());
}

#[test]
fn another_process_goes_on_with_the_session() {
    for is_packed in [false, true] {
        let c = client();
        let mut machine = Machine::new(c.listener.accept().expect("connection").0, is_packed);
        machine.start();
        {
            let (mut rx, mut tx) = queues(&*c.port);
            (0..5).for_each(|i| traffic(&mut machine, &mut *rx, &mut *tx, i));
        }
        let fds = c.port.handover();
        assert!(fds.len() > 3);
        let port = VhostPorts::new(c.dir.path()).open(CLIENT, "v0", fds).expect("port");
        port.configure(&[("vhost-server-path".to_owned(), path(&c.dir))].into()).expect("options");
        until("adopted", || (port.status()["status"] == "connected").then_some(()));
        drop(c.port);
        let (mut rx, mut tx) = queues(&*port);
        (5..80).for_each(|i| traffic(&mut machine, &mut *rx, &mut *tx, i));
        assert!(machine.number(Request::GetFeatures) != 0, "the front end noticed nothing");
        drop(port);
    }
}

#[test]
fn refused_requests_are_answered_where_that_was_agreed() {
    let c = client();
    let mut machine = Machine::new(c.listener.accept().expect("connection").0, false);
    machine.start();
    let bytes = Header::request(Request::SetFeatures, &words(&[1 << 63]), true);
    std::io::Write::write_all(&mut machine.socket, &bytes).expect("write");
    let mut reply = [0; HEADER_LEN + 8];
    machine.socket.read_exact(&mut reply).expect("reply");
    assert_ne!(reply[HEADER_LEN], 0);
    let config =
        machine.ask(Request::GetConfig, &[&[0; 4][..], &12_u32.to_ne_bytes(), &[0; 4], &[0; 12]].concat());
    assert_eq!(config.len(), 24);
}

/// A front end that moves the guest learns of every page that we wrote: buffers, and what shows that they were used.
#[test]
fn what_is_written_while_a_guest_moves_is_logged() {
    for is_packed in [false, true] {
        let c = client();
        let mut machine = Machine::new(c.listener.accept().expect("connection").0, is_packed);
        machine.start();
        let (mut rx, mut tx) = queues(&*c.port);
        traffic(&mut machine, &mut *rx, &mut *tx, 1);
        let log = tempfile::tempfile().expect("file");
        log.set_len(4096).expect("length");
        machine.tell(Request::SetLogBase, &words(&[4096, 0]), &[&log]);
        let mut reply = [0; HEADER_LEN + 8];
        machine.socket.read_exact(&mut reply).expect("reply");
        let features = machine.features | feature::LOG_ALL;
        machine.tell(Request::SetFeatures, &features.to_ne_bytes(), &[]);
        let to_guest = |user: u64| user - regions()[0].user;
        for i in 0..2_u64 {
            let at = machine.drivers[i as usize].addresses();
            let addresses = words(&[i | 1 << 32, at.descriptors, at.used, at.available, to_guest(at.used)]);
            machine.tell(Request::SetVringAddr, &addresses, &[]);
        }
        machine.number(Request::GetFeatures);
        let at = machine.offer().expect("room");
        assert!(machine.drivers[1].send([0; 12], &frame(60, 0), &[], false));
        until("a frame from the guest", || (rx.recv(&mut Batch::new()) > 0).then_some(()));
        let mut batch: Batch = [Packet::from_slice(&frame(1400, 1))].into_iter().collect();
        assert_eq!(tx.send(&mut batch).sent, 1);
        let mut bits = [0; 4096];
        std::os::unix::fs::FileExt::read_exact_at(&log, &mut bits, 0).expect("log");
        let entries = machine.drivers.each_ref().map(|driver| {
            let at = driver.addresses();
            to_guest(if is_packed { at.descriptors } else { at.used })
        });
        for address in entries.into_iter().chain([at, at + 12 + 1399]) {
            let page = (address / 4096) as usize;
            assert!(bits[page / 8] & 1 << (page % 8) != 0, "page {page}, packed: {is_packed}");
        }
    }
}
