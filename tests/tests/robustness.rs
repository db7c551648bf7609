//! Peers that talk nonsense: each is answered or closed as the protocol says, and the switch goes on.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tests::Sandbox;

const CONNECTIONS: usize = 1000;
/// As many at a time; the rest waits for its turn.
const AT_ONCE: usize = 40;
const HELLO: [u8; 8] = [4, 0, 0, 8, 0, 0, 0, 1];
const FLOW: &str = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x1234)";

trait Peer: Read + Write {
    fn patience(&self);
    fn end(&self);
}

impl Peer for UnixStream {
    fn patience(&self) {
        self.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Peer for TcpStream {
    fn patience(&self) {
        self.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// What the nth peer says.
fn speech(n: usize) -> Vec<u8> {
    let hello = |rest: &[u8]| [&HELLO, rest].concat();
    let noise = |seed: usize| -> Vec<u8> {
        let step = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = std::iter::successors(Some(seed as u64 + 1), |x| Some(step(*x)));
        bytes.map(|x| (x >> 33) as u8).take(200).collect()
    };
    match n % 10 {
        0 => Vec::new(),
        1 => noise(n),
        2 => hello(&noise(n)),
        3 => HELLO[..5].to_vec(),
        // Half of a message of 64 bytes.
        4 => hello(&[4, 14, 0, 64, 0, 0, 0, 2, 0, 0]),
        // A length that is shorter than a header.
        5 => hello(&[4, 2, 0, 4, 0, 0, 0, 2]),
        // As long as can be, and never finished.
        6 => hello(&[4, 14, 0xff, 0xff, 0, 0, 0, 2, 1, 2, 3]),
        7 => hello(&[4, 99, 0, 8, 0, 0, 0, 7]),
        8 => hello(&[4, 14, 0, 16, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]),
        _ => [0x7f; 3000].to_vec(),
    }
}

/// Whether the speech ends with a whole message that is not known or not right.
fn is_to_be_answered(n: usize) -> bool {
    matches!(n % 10, 7 | 8)
}

/// Says what the nth peer says, and listens until the switch closes.
fn talk(peer: &mut dyn Peer, n: usize) -> Vec<u8> {
    peer.patience();
    let _ = peer.write_all(&speech(n));
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while is_to_be_answered(n) && !has_error(&answer) {
        match peer.read(&mut piece) {
            Ok(n) if n > 0 => answer.extend_from_slice(&piece[..n]),
            _ => break,
        }
    }
    peer.end();
    // A reset is an end, too; silence is not.
    if let Err(e) = peer.read_to_end(&mut answer) {
        assert!(e.kind() == std::io::ErrorKind::ConnectionReset, "peer {n}: {e}");
    }
    answer
}

/// Whether the answer holds a message of this type about our transaction 7.
fn has_error(answer: &[u8]) -> bool {
    let mut rest = answer;
    while let Some(&[_, kind, a, b, _, _, _, xid]) = rest.get(..8).and_then(|h| <&[u8; 8]>::try_from(h).ok())
    {
        if (kind, xid) == (1, 7) {
            return true;
        }
        rest = rest.get(usize::from(u16::from_be_bytes([a, b])).max(8)..).unwrap_or_default();
    }
    false
}

fn peer(s: &Sandbox, port: u16, n: usize) -> Box<dyn Peer> {
    let mgmt = s.path("br0.mgmt");
    let unix = |p: &Path| Box::new(UnixStream::connect(p).expect("br0.mgmt")) as Box<dyn Peer>;
    if n.is_multiple_of(2) {
        unix(&mgmt)
    } else {
        Box::new(TcpStream::connect(("127.0.0.1", port)).expect("ptcp"))
    }
}

#[test]
fn a_thousand_peers_talk_nonsense() {
    let s = Sandbox::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    s.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "fail_mode=secure"]);
    s.vsctl(&["add-port", "br0", "p1", "--", "add-port", "br0", "p2"]);
    s.vsctl(&["set-controller", "br0", &format!("ptcp:{port}:127.0.0.1")]);
    s.ofctl(&["add-flow", "br0", "in_port=1,actions=2"]);
    s.until("the controller's port is open", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    s.until("the revalidator runs", || s.resources().1 > 2);
    std::thread::sleep(Duration::from_millis(300));
    let (descriptors, threads) = s.resources();
    for first in (0..CONNECTIONS).step_by(AT_ONCE) {
        let numbers = first..(first + AT_ONCE).min(CONNECTIONS);
        std::thread::scope(|scope| {
            for n in numbers {
                let s = &s;
                scope.spawn(move || {
                    // Both kinds of socket hear every kind of nonsense.
                    let answer = talk(peer(s, port, n).as_mut(), n / 2);
                    if is_to_be_answered(n / 2) {
                        assert!(has_error(&answer), "peer {n} has no error: {answer:02x?}");
                    }
                });
            }
        });
        s.appctl(&["netdev-dummy/receive", "p1", FLOW]);
    }
    let sent = CONNECTIONS.div_ceil(AT_ONCE);
    s.until("every packet is forwarded", || {
        s.ofctl(&["dump-flows", "br0"]).contains(&format!("n_packets={sent},"))
    });
    s.until("descriptors and threads are given back", || {
        let (fds, tasks) = s.resources();
        fds <= descriptors && tasks <= threads
    });
    assert!(!s.log().contains("panick"), "{}", s.log());
}
