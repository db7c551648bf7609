use super::*;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::thread;

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

/// Descriptors of this process that are sockets or files named `name`.
fn open_count(name: &str) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter(|e| {
            std::fs::read_link(e.as_ref().unwrap().path()).is_ok_and(|l| l.to_string_lossy().contains(name))
        })
        .count()
}

#[test]
fn large_messages_with_many_descriptors() {
    let (a, b) = Channel::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"shared").unwrap();
    let sender = thread::spawn(move || {
        let fds = vec![file.as_fd(); 150];
        a.send(7, &bytes(1_000_000), &fds).unwrap();
        a.send(8, &[], &[]).unwrap();
    });
    let message = b.recv(1_000_000).unwrap();
    assert_eq!((message.kind, message.fds.len()), (7, 150));
    assert!(message.bytes == bytes(1_000_000));
    let mut text = String::new();
    let mut file = File::from(message.fds.into_iter().next_back().unwrap());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "shared");
    let message = b.recv(0).unwrap();
    assert_eq!((message.kind, message.bytes.len(), message.fds.len()), (8, 0, 0));
    sender.join().unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Closed)));
}

#[test]
fn state_crosses() {
    let (a, b) = Channel::pair().unwrap();
    let state = Container::from_bytes(&Container::new().to_bytes().unwrap()).unwrap();
    a.send_state(3, &state, &[]).unwrap();
    let (kind, received, fds) = b.recv_state().unwrap();
    assert_eq!((kind, received, fds.len()), (3, state, 0));
    a.send(3, b"rubbish", &[]).unwrap();
    assert!(matches!(b.recv_state(), Err(ChannelError::Format(FormatError::Magic))));
}

#[test]
fn refused_messages_leave_no_descriptors_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leak-witness");
    let file = File::create(&path).unwrap();
    let (a, b) = Channel::pair().unwrap();
    let head = |fds: u32, length: u64| {
        [&MAGIC[..], &1u32.to_le_bytes(), &fds.to_le_bytes(), &length.to_le_bytes()].concat()
    };
    let fd = [file.as_raw_fd()];
    // Descriptors where the head should be, more than announced, and where bytes should be.
    a.send_packet(&head(0, 0), &fd).unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Protocol("message head expected"))));
    a.send_packet(&head(1, 0), &[]).unwrap();
    a.send_packet(&[0], &[fd[0]; 253]).unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Protocol("descriptors expected"))));
    a.send_packet(&head(0, 5), &[]).unwrap();
    a.send_packet(b"hello", &fd).unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Protocol("bytes expected"))));
    assert_eq!(open_count("leak-witness"), 1);
    // Lengths that lie, and lengths beyond the limit.
    a.send_packet(&head(0, 3), &[]).unwrap();
    a.send_packet(b"hello", &[]).unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Protocol("bytes expected"))));
    for (fds, length) in [(0, 11), (0, u64::MAX), (u32::MAX, 0)] {
        a.send_packet(&head(fds, length), &[]).unwrap();
        assert!(matches!(b.recv(10), Err(ChannelError::Protocol("message too large"))));
    }
    a.send_packet(b"OVSH", &[]).unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Protocol("message head expected"))));
    drop(a);
    assert!(matches!(b.recv(10), Err(ChannelError::Closed)));
}

#[test]
fn sockets_are_checked() {
    let (a, _b) = Channel::pair().unwrap();
    assert!(Channel::from_socket(a.into()).is_ok(), "a peer of the same user");
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(Channel::from_socket(stream.into()), Err(ChannelError::SocketType)));
}

#[test]
fn a_silent_peer_times_out() {
    let (a, _b) = Channel::pair().unwrap();
    a.set_timeout(Duration::from_millis(20)).unwrap();
    assert!(matches!(a.recv(10), Err(ChannelError::Io(Errno::EAGAIN))));
}
