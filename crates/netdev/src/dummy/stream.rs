//! Dummy ports joined by byte streams: each frame preceded by its length, two bytes, most significant first.
//!
//! One thread per port with `options:stream` (it connects, again and again) or `options:pstream` (it listens)
//! does all the input and output; it ends when the [`StreamPort`] is dropped. It keeps real time: a stopped
//! test clock does not hold a connection back.

use super::port::DummyDevice;
use crate::device::StringMap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use packet::Packet;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Frames that wait for the other end at most; more are dropped.
const OUTBOX_MAX: usize = 100;
/// Connections to one listener at most; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
const ETHERNET_HEADER: usize = 14;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StreamConfig {
    passive: bool,
    /// As the option has it: `unix:FILE`, `tcp:HOST:PORT`, `punix:FILE`, `ptcp:PORT[:HOST]`.
    pub target: String,
}

impl StreamConfig {
    /// `None` without a stream, or with both kinds (which is said in the log).
    pub fn from_options(options: &StringMap) -> Option<Self> {
        match (options.get("pstream"), options.get("stream")) {
            (Some(p), Some(s)) => {
                tracing::warn!(target: "netdev_dummy", "Open failed: both {p} and {s} are configured");
                None
            }
            (Some(target), None) => Some(StreamConfig { passive: true, target: target.clone() }),
            (None, Some(target)) => Some(StreamConfig { passive: false, target: target.clone() }),
            (None, None) => None,
        }
    }

    /// The option's name.
    pub fn option(&self) -> &'static str {
        if self.passive { "pstream" } else { "stream" }
    }
}

struct Shared {
    outbox: Mutex<VecDeque<Vec<u8>>>,
    wake: EventFd,
    stop: AtomicBool,
    connected: AtomicBool,
}

/// The running thread's handle.
pub(super) struct StreamPort {
    shared: Arc<Shared>,
    passive: bool,
    thread: Option<JoinHandle<()>>,
}

impl StreamPort {
    /// Listens at once; connects in the background.
    pub fn start(config: &StreamConfig, device: Weak<DummyDevice>) -> io::Result<Self> {
        let listener = if config.passive { Some(Listener::open(&config.target)?) } else { None };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            outbox: Mutex::default(),
            wake: EventFd::from_flags(flags)?,
            stop: AtomicBool::new(false),
            connected: AtomicBool::new(false),
        });
        let worker = Worker {
            shared: shared.clone(),
            device,
            listener,
            target: config.target.clone(),
            connections: Vec::new(),
            retry: RETRY_MIN,
            retry_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("dummy-stream".into()).spawn(move || worker.run())?;
        Ok(StreamPort { shared, passive: config.passive, thread: Some(thread) })
    }

    /// Queues `frame` for every connection.
    pub fn send(&self, frame: &[u8]) {
        let Ok(len) = u16::try_from(frame.len()) else { return };
        let mut outbox = self.shared.outbox.lock();
        if outbox.len() < OUTBOX_MAX {
            outbox.push_back([&len.to_be_bytes(), frame].concat());
            let _ = self.shared.wake.write(1);
        }
    }

    /// `None` for listeners.
    pub fn is_connected(&self) -> Option<bool> {
        (!self.passive).then(|| self.shared.connected.load(Ordering::Acquire))
    }
}

impl Drop for StreamPort {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.shared.wake.write(1);
        // The device may be dropped by its own stream's thread, which cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

enum Listener {
    Unix(UnixListener, String),
    Tcp(TcpListener),
}

impl Listener {
    fn open(target: &str) -> io::Result<Self> {
        if let Some(path) = target.strip_prefix("punix:") {
            let _ = std::fs::remove_file(path);
            let l = UnixListener::bind(path)?;
            l.set_nonblocking(true)?;
            return Ok(Listener::Unix(l, path.to_owned()));
        }
        let Some(rest) = target.strip_prefix("ptcp:") else { return Err(unknown()) };
        let (port, host) = rest.split_once(':').unwrap_or((rest, "0.0.0.0"));
        let l = TcpListener::bind(format!("{host}:{port}"))?;
        l.set_nonblocking(true)?;
        Ok(Listener::Tcp(l))
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(l, _) => l.accept().map(|(s, _)| Stream::Unix(s)),
            Listener::Tcp(l) => l.accept().map(|(s, _)| Stream::Tcp(s)),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix(l, _) => l.as_fd(),
            Listener::Tcp(l) => l.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn unknown() -> io::Error {
    io::Error::from_raw_os_error(libc::EAFNOSUPPORT)
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn connect(target: &str) -> io::Result<Self> {
        if let Some(path) = target.strip_prefix("unix:") {
            return UnixStream::connect(path).map(Stream::Unix);
        }
        let address = target.strip_prefix("tcp:").ok_or_else(unknown)?;
        let address = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map(Stream::Tcp)
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Stream::Unix(s) => s.set_nonblocking(true),
            Stream::Tcp(s) => s.set_nonblocking(true),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(s) => s.as_fd(),
            Stream::Tcp(s) => s.as_fd(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.read(buffer),
            Stream::Tcp(s) => s.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.write(bytes),
            Stream::Tcp(s) => s.write(bytes),
        }
    }
}

struct Connection {
    stream: Stream,
    received: Vec<u8>,
    /// Framed packets; of the first, `sent` bytes are out.
    to_send: VecDeque<Vec<u8>>,
    sent: usize,
}

impl Connection {
    fn new(stream: Stream) -> io::Result<Self> {
        stream.set_nonblocking()?;
        Ok(Connection { stream, received: Vec::new(), to_send: VecDeque::new(), sent: 0 })
    }

    /// Writes what the other end takes now.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(frame) = self.to_send.front() {
            match self.stream.write(frame.get(self.sent..).unwrap_or_default()) {
                Ok(n) if self.sent + n < frame.len() => self.sent += n,
                Ok(_) => {
                    self.to_send.pop_front();
                    self.sent = 0;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads once and returns the frames that are complete.
    fn read(&mut self) -> io::Result<Vec<Packet>> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.received.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        let (frames, used) = split(&self.received).ok_or(io::ErrorKind::InvalidData)?;
        self.received.drain(..used);
        Ok(frames)
    }
}

/// The complete frames at the start of `bytes` and the length they take; `None` if one is too short.
fn split(bytes: &[u8]) -> Option<(Vec<Packet>, usize)> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*head));
        if len < ETHERNET_HEADER {
            return None;
        }
        let Some((frame, tail)) = tail.split_at_checked(len) else { break };
        frames.push(Packet::from_slice(frame));
        rest = tail;
    }
    Some((frames, bytes.len() - rest.len()))
}

struct Worker {
    shared: Arc<Shared>,
    device: Weak<DummyDevice>,
    listener: Option<Listener>,
    target: String,
    connections: Vec<Connection>,
    retry: Duration,
    retry_at: Instant,
}

impl Worker {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.connect();
            if self.wait().is_err() {
                return;
            }
            self.accept();
            let queued: Vec<Vec<u8>> = self.shared.outbox.lock().drain(..).collect();
            let _ = self.shared.wake.read();
            self.serve(&queued);
        }
    }

    fn connect(&mut self) {
        if self.listener.is_some() || !self.connections.is_empty() || Instant::now() < self.retry_at {
            return;
        }
        match Stream::connect(&self.target).and_then(Connection::new) {
            Ok(c) => {
                self.connections.push(c);
                self.retry = RETRY_MIN;
                self.shared.connected.store(true, Ordering::Release);
            }
            Err(_) => self.schedule_retry(),
        }
    }

    fn schedule_retry(&mut self) {
        self.retry_at = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn wait(&self) -> nix::Result<()> {
        let mut fds = vec![PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.listener.iter().map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.connections.iter().map(|c| {
            let out = if c.to_send.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            PollFd::new(c.stream.as_fd(), PollFlags::POLLIN | out)
        }));
        let idle = self.listener.is_none() && self.connections.is_empty();
        let timeout = if idle {
            let left = self.retry_at.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::ZERO)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok(stream) = listener.accept() {
            if self.connections.len() < CONNECTIONS_MAX {
                self.connections.extend(Connection::new(stream).ok());
            }
        }
    }

    /// Sends, receives, and forgets the connections that ended.
    fn serve(&mut self, queued: &[Vec<u8>]) {
        let device = self.device.upgrade();
        self.connections.retain_mut(|c| {
            let room = OUTBOX_MAX.saturating_sub(c.to_send.len());
            c.to_send.extend(queued.iter().take(room).cloned());
            let frames = c.flush().and_then(|()| c.read());
            let Ok(frames) = frames else { return false };
            for packet in frames {
                if let Some(device) = &device {
                    device.receive(0, packet);
                }
            }
            true
        });
        if self.connections.is_empty() && self.shared.connected.swap(false, Ordering::AcqRel) {
            self.schedule_retry();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_out_of_the_stream() {
        let mut bytes = vec![0, 14];
        bytes.extend([1; 14]);
        bytes.extend([0, 15]);
        bytes.extend([2; 15]);
        for cut in 0..=bytes.len() {
            let (frames, used) = split(&bytes[..cut]).expect("legal");
            let expected = [16, 33].iter().filter(|n| cut >= **n).count();
            assert_eq!((frames.len(), used), (expected, [0, 16, 33][expected]));
        }
        assert!(split(&[0, 13]).is_none(), "shorter than an Ethernet header");
    }
}
