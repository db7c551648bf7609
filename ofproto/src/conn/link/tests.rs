use super::*;
use crate::conn::Origin;
use openflow::Header;
use std::time::Duration;
use tokio::net::UnixStream;

struct Peer {
    socket: UnixStream,
    events: mpsc::Receiver<ConnEvent>,
    link: tokio::task::JoinHandle<String>,
    clock: Clock,
    keeper: Arc<Keeper>,
}

/// A link of a switch that speaks `versions`, and its peer's end.
fn start(versions: VersionSet) -> Peer {
    let (ours, socket) = UnixStream::pair().unwrap();
    let clock = Clock::new();
    let (tx, events) = mpsc::channel(16);
    let env = LinkEnv { switch: SwitchId(1), clock: clock.clone(), events: tx, versions, snoop: None };
    let now = clock.now_ms();
    let mut reconnect = Reconnect::new("test", now);
    reconnect.set_probe_interval(5_000);
    reconnect.enable(now);
    reconnect.connected(now);
    let keeper = Arc::new(Keeper::new(reconnect));
    let shared = keeper.clone();
    let link = tokio::spawn(async move {
        let stream = Stream::from_unix(ours, "unix#1");
        run(stream, "br0<->unix#1".into(), Origin::Management, &env, &shared).await.to_string()
    });
    Peer { socket, events, link, clock, keeper }
}

impl Peer {
    async fn receive(&mut self) -> Vec<u8> {
        let mut header = [0; HEADER_LEN];
        self.socket.read_exact(&mut header).await.unwrap();
        let len = usize::from(Header::parse(&header).unwrap().length);
        let mut message = header.to_vec();
        message.resize(len, 0);
        self.socket.read_exact(&mut message[HEADER_LEN..]).await.unwrap();
        message
    }

    async fn greet(&mut self, hello: &[u8]) -> UpEvent {
        self.receive().await;
        self.socket.write_all(hello).await.unwrap();
        match self.events.recv().await.unwrap() {
            ConnEvent::Up(up) => up,
            other => panic!("{other:?}"),
        }
    }

    async fn batch(&mut self) -> Vec<Bytes> {
        match self.events.recv().await.unwrap() {
            ConnEvent::Messages { batch, .. } => batch,
            other => panic!("{other:?}"),
        }
    }
}

fn of13(kind: u8, xid: u8) -> [u8; 8] {
    [4, kind, 0, 8, 0, 0, 0, xid]
}

#[tokio::test]
async fn agrees_on_the_newest_common_version() {
    let mut peer = start(VersionSet::ALL);
    let up = peer.greet(&[4, 0, 0, 8, 0, 0, 0, 1]).await;
    assert_eq!((up.version, up.switch), (Version::Of13, SwitchId(1)));
    assert_eq!(up.peer, "br0<->unix#1");
}

#[tokio::test]
async fn says_so_if_there_is_no_common_version() {
    let mut peer = start([Version::Of13].into_iter().collect());
    peer.receive().await;
    peer.socket.write_all(&[1, 0, 0, 8, 0, 0, 0, 1]).await.unwrap();
    let error = peer.receive().await;
    let text = "We support version 0x04, you support version 0x01, no common versions.";
    assert_eq!(&error[..2], [1, 1]);
    assert_eq!(error[8..12], [0, 0, 0, 0], "OFPET_HELLO_FAILED, OFPHFC_INCOMPATIBLE");
    assert_eq!(&error[12..], text.as_bytes());
    assert_eq!(peer.link.await.unwrap(), "Protocol error");
}

#[tokio::test]
async fn what_comes_before_a_hello_ends_the_connection() {
    let mut peer = start(VersionSet::ALL);
    peer.socket.write_all(&of13(5, 1)).await.unwrap();
    assert_eq!(peer.link.await.unwrap(), "Protocol error");
    assert!(peer.events.recv().await.is_none(), "nobody is told of it");
}

#[tokio::test]
async fn messages_come_whole_and_in_order() {
    let mut peer = start(VersionSet::ALL);
    peer.greet(&of13(0, 1)).await;
    let stream = [of13(5, 2), of13(20, 3), of13(5, 4)].concat();
    let (head, tail) = stream.split_at(19);
    peer.socket.write_all(head).await.unwrap();
    assert_eq!(peer.batch().await, [of13(5, 2).to_vec(), of13(20, 3).to_vec()]);
    peer.socket.write_all(tail).await.unwrap();
    assert_eq!(peer.batch().await, [of13(5, 4).to_vec()]);
}

#[tokio::test]
async fn another_version_is_an_error_but_not_the_end() {
    let mut peer = start(VersionSet::ALL);
    peer.greet(&of13(0, 1)).await;
    let wrong = [1, 5, 0, 8, 0, 0, 0, 9];
    peer.socket.write_all(&[wrong, of13(5, 2)].concat()).await.unwrap();
    assert_eq!(peer.batch().await, [of13(5, 2).to_vec()]);
    let error = peer.receive().await;
    assert_eq!(error, [&[1, 1, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0][..], &wrong].concat(), "OFPBRC_BAD_VERSION");
}

#[tokio::test]
async fn too_short_a_length_ends_the_connection_after_what_came_before() {
    let mut peer = start(VersionSet::ALL);
    peer.greet(&of13(0, 1)).await;
    peer.socket.write_all(&[of13(5, 2), [4, 5, 0, 7, 0, 0, 0, 0]].concat()).await.unwrap();
    assert_eq!(peer.batch().await.len(), 1);
    assert!(matches!(peer.events.recv().await, Some(ConnEvent::Down { .. })));
    assert_eq!(peer.link.await.unwrap(), "Protocol error");
}

#[tokio::test]
async fn silence_is_probed_and_then_ended() {
    let mut peer = start(VersionSet::ALL);
    peer.clock.stop();
    peer.greet(&of13(0, 1)).await;
    peer.clock.warp(std::time::Duration::from_secs(5));
    assert_eq!(peer.receive().await, of13(2, 0), "echo request");
    peer.socket.write_all(&of13(3, 0)).await.unwrap();
    peer.socket.write_all(&of13(5, 1)).await.unwrap();
    assert_eq!(peer.batch().await, [of13(5, 1).to_vec()], "the echo reply is kept back");
    peer.clock.warp(std::time::Duration::from_secs(5));
    assert_eq!(peer.receive().await, of13(2, 0));
    peer.clock.warp(std::time::Duration::from_secs(5));
    assert_eq!(peer.link.await.unwrap(), "no reply to inactivity probe");
}

#[tokio::test]
async fn a_kick_wakes_the_link() {
    let mut peer = start(VersionSet::ALL);
    peer.greet(&of13(0, 1)).await;
    let now = peer.clock.now_ms();
    peer.keeper.with(|r| r.force_reconnect(now));
    assert_eq!(peer.link.await.unwrap(), "no reply to inactivity probe");
}

#[tokio::test]
async fn output_beyond_the_limit_holds_requests_back_until_it_has_drained() {
    let mut peer = start(VersionSet::ALL);
    let up = peer.greet(&of13(0, 1)).await;
    assert!(!up.link.hold());
    let big = [&[4, 3, 0xff, 0xf8, 0, 0, 0, 0][..], &[0; 0xfff0]].concat();
    let n = HOLD_BYTES / big.len() + 1;
    (0..n).for_each(|_| up.link.send(big.clone()));
    assert!(up.link.hold());
    for _ in 0..n {
        assert_eq!(peer.receive().await.len(), big.len());
    }
    assert!(matches!(peer.events.recv().await, Some(ConnEvent::Drained { .. })));
    assert!(!up.link.hold());
}

#[tokio::test]
async fn no_request_is_read_while_a_lower_limit_holds() {
    const LIMIT: usize = 1 << 20;
    let mut peer = start(VersionSet::ALL);
    let up = peer.greet(&of13(0, 1)).await;
    let big = [&[4, 3, 0xff, 0xf8, 0, 0, 0, 0][..], &[0; 0xfff0]].concat();
    let n = 2 * LIMIT / big.len();
    (0..n).for_each(|_| up.link.send(big.clone()));
    assert!(!up.link.hold() && up.link.hold_at(LIMIT));
    // What the kernel takes before anybody reads ends the hold, as all that is written does.
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(50), peer.events.recv()).await {
        assert!(matches!(event, Some(ConnEvent::Drained { .. })));
        assert!(up.link.hold_at(LIMIT));
    }
    // The link may have been about to read when it was held.
    peer.socket.write_all(&of13(5, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = peer.events.try_recv();
    peer.socket.write_all(&of13(5, 2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(peer.events.try_recv().is_err());
    for _ in 0..n {
        peer.receive().await;
    }
    assert!(matches!(peer.events.recv().await, Some(ConnEvent::Drained { .. })));
    assert_eq!(peer.batch().await.last().unwrap().to_vec(), of13(5, 2));
    assert!(!up.link.hold_at(LIMIT) && !up.link.holds());
}

#[tokio::test]
async fn packet_ins_are_stalled_by_a_peer_that_does_not_read_and_by_nothing_else() {
    let mut peer = start(VersionSet::ALL);
    let up = peer.greet(&of13(0, 1)).await;
    let big = Bytes::from([&[4, 10, 0xff, 0xf8, 0, 0, 0, 0][..], &[0; 0xfff0]].concat());
    // More than the socket takes, before the link had a turn.
    let n = 64;
    (0..n).for_each(|_| up.link.send_packet_in(big.clone()));
    assert_eq!(up.link.packet_ins_stalled(), 0);
    while up.link.packet_ins_stalled() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..n {
        assert_eq!(peer.receive().await.len(), big.len());
    }
    while up.link.packet_ins_stalled() != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let mut peer = start(VersionSet::ALL);
    let up = peer.greet(&of13(0, 1)).await;
    up.link.send(of13(19, 7).to_vec());
    up.link.close();
    up.link.send(of13(19, 8).to_vec());
    let mut rest = Vec::new();
    peer.socket.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, of13(19, 7));
    assert_eq!(peer.link.await.unwrap(), "closed on request");
}

#[tokio::test]
async fn snoops_get_copies() {
    let tap = SnoopTap::default();
    let (handle, mut copies) = LinkHandle::new();
    tap.add(ConnId(99), handle);
    tap.copy(&Bytes::from_static(b"x"));
    assert!(matches!(copies.recv().await, Some(Output::Bytes(b)) if b == "x"));
    tap.remove(ConnId(99));
    tap.copy(&Bytes::from_static(b"y"));
    assert!(copies.try_recv().is_err());
}
