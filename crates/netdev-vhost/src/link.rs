//! The front end's socket, and the thread that serves it: connects or listens, reads messages, comes back for ever.

use crate::port::Shared;
use crate::protocol::{HEADER_LEN, Header};
use crate::saved::{self, Adopted};
use crate::session::Session;
use netdev::StringMap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use parking_lot::Mutex;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

/// Milliseconds between attempts to connect.
const RETRY_MS: u16 = 1000;
/// Milliseconds that the rest of a message, or room for a reply, may take to come.
const PATIENCE_MS: u16 = 5000;

/// Who makes the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The front end (`dpdkvhostuserclient`).
    Client,
    /// We (`dpdkvhostuser`).
    Server,
}

/// The conversation of the moment.
type Current = Arc<Mutex<Option<(UnixStream, Session)>>>;

/// A port's connection. Ends with this object.
pub struct Link {
    /// Closed to stop the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    current: Current,
    shared: Arc<Shared>,
    /// A socket that we made, and its inode: another process may have put its own there since.
    made: Option<(PathBuf, u64)>,
}

struct Server {
    mode: Mode,
    path: PathBuf,
    listener: Option<UnixListener>,
    shared: Arc<Shared>,
    current: Current,
    stop: UnixStream,
}

/// Told to stop, or the peer is gone.
enum End {
    Stop,
    Gone(String),
}

impl From<io::Error> for End {
    fn from(e: io::Error) -> Self {
        End::Gone(e.to_string())
    }
}

impl Link {
    /// Starts to connect or to listen, or goes on with a conversation of another process.
    pub fn start(mode: Mode, path: &Path, shared: Arc<Shared>, adopted: Option<Adopted>) -> io::Result<Self> {
        let listener = (mode == Mode::Server).then(|| listen(path)).transpose()?;
        let made = listener.as_ref().and_then(|_| Some((path.to_owned(), inode(path)?)));
        let current: Current = Arc::default();
        let (stop, stopped) = UnixStream::pair()?;
        let server = Server {
            mode,
            path: path.to_owned(),
            listener,
            shared: shared.clone(),
            current: current.clone(),
            stop: stopped,
        };
        let name = format!("vhost-{}", shared.name);
        let thread = std::thread::Builder::new().name(name).stack_size(512 << 10);
        let thread = thread.spawn(move || server.run(adopted))?;
        Ok(Link { stop: Some(stop), thread: Some(thread), current, shared, made })
    }

    /// The conversation's descriptors and state; to be called while no thread uses the rings.
    pub fn save(&self) -> Vec<(String, OwnedFd)> {
        let current = self.current.lock();
        let Some((socket, session)) = current.as_ref() else { return Vec::new() };
        let base = |i: usize| Some(self.shared.slots.get(i)?.ring.lock().as_mut()?.stop());
        saved::save(session, socket, base).unwrap_or_else(|e| {
            tracing::warn!(target: "netdev_vhost", "{}: session cannot be saved: {e}", self.shared.name);
            Vec::new()
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some((path, own)) = &self.made
            && inode(path) == Some(*own)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The inode at `path`; `None` if there is nothing.
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|m| m.ino())
}

/// Listens at `path`, where a daemon before us may have left its socket.
fn listen(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

impl Server {
    fn run(self, mut adopted: Option<Adopted>) {
        let mut complained = false;
        loop {
            let end = match adopted.take() {
                Some(adopted) => adopted
                    .restore(&self.shared.name, &mut &*self.shared)
                    .map_err(End::from)
                    .and_then(|(socket, session)| self.serve(socket, session)),
                None => self.connect().and_then(|socket| {
                    complained = false;
                    self.serve(socket, Session::new(&self.shared.name))
                }),
            };
            let Err(end) = end else { continue };
            self.clear();
            match end {
                End::Stop => return,
                End::Gone(why) if !complained => {
                    tracing::info!(target: "netdev_vhost", "{}: {}: {why}", self.shared.name, self.path.display());
                    complained = true;
                }
                End::Gone(_) => {}
            }
            if self.mode == Mode::Client && self.wait(None, PollTimeout::from(RETRY_MS)).is_err() {
                return;
            }
        }
    }

    /// A connection to a front end.
    fn connect(&self) -> Result<UnixStream, End> {
        let socket = match &self.listener {
            None => UnixStream::connect(&self.path)?,
            Some(listener) => {
                while !self.wait(Some(listener.as_fd()), PollTimeout::NONE)? {}
                listener.accept()?.0
            }
        };
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Waits for `fd`; false if it did not become readable in time.
    fn wait(&self, fd: Option<BorrowedFd<'_>>, timeout: PollTimeout) -> Result<bool, End> {
        let mut fds = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        fds.extend(fd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(End::Gone(e.to_string())),
        }
        let is_ready = |i: usize| fds.get(i).and_then(|f| f.any()).unwrap_or(false);
        if is_ready(0) { Err(End::Stop) } else { Ok(is_ready(1)) }
    }

    /// Serves one front end until it goes.
    fn serve(&self, socket: UnixStream, session: Session) -> Result<(), End> {
        *self.current.lock() = Some((socket.try_clone()?, session));
        self.shared.connected.store(true, Relaxed);
        self.shared.carrier_resets.fetch_add(1, Relaxed);
        self.report();
        tracing::info!(target: "netdev_vhost", "{}: connected to {}", self.shared.name, self.path.display());
        loop {
            if !self.wait(Some(socket.as_fd()), PollTimeout::NONE)? {
                continue;
            }
            let (header, payload, fds) = self.read_message(&socket)?;
            let mut current = self.current.lock();
            let Some((_, session)) = current.as_mut() else { return Ok(()) };
            let answer = session
                .handle(header, &payload, fds, &mut &*self.shared)
                .map_err(|e| End::Gone(format!("the front end breaks the protocol: {e}")))?;
            let fd = session.reply_fd.take();
            drop(current);
            if let Some(answer) = answer {
                self.send(&socket, &answer, fd.as_ref())?;
            }
            self.report();
        }
    }

    fn read_message(&self, socket: &UnixStream) -> Result<(Header, Vec<u8>, Vec<OwnedFd>), End> {
        let mut bytes = [0; HEADER_LEN];
        let first = loop {
            match saved_state::fds::receive(socket.as_fd(), &mut bytes) {
                Ok(first) => break first,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    self.wait(Some(socket.as_fd()), PollTimeout::NONE)?;
                }
                Err(e) => return Err(End::Gone(e.to_string())),
            }
        };
        if first.length == 0 {
            return Err(End::Gone("the front end closed the connection".to_owned()));
        }
        if first.truncated {
            return Err(End::Gone("more descriptors than can be taken".to_owned()));
        }
        self.read_rest(socket, bytes.get_mut(first.length..).unwrap_or_default())?;
        let header = Header::parse(&bytes).map_err(|e| End::Gone(e.to_string()))?;
        let mut payload = vec![0; header.size];
        self.read_rest(socket, &mut payload)?;
        Ok((header, payload, first.fds))
    }

    fn read_rest(&self, mut socket: &UnixStream, mut rest: &mut [u8]) -> Result<(), End> {
        while !rest.is_empty() {
            match socket.read(rest) {
                Ok(0) => return Err(End::Gone("the front end closed the connection".to_owned())),
                Ok(n) => rest = rest.get_mut(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(Some(socket.as_fd()), PollTimeout::from(PATIENCE_MS))? {
                        return Err(End::Gone("the front end does not finish its message".to_owned()));
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Sends a reply. Replies are shorter than any socket's buffer; a front end that reads none loses us.
    fn send(&self, socket: &UnixStream, bytes: &[u8], fd: Option<&OwnedFd>) -> Result<(), End> {
        let raw: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights };
        let io = [IoSlice::new(bytes)];
        match sendmsg::<()>(socket.as_raw_fd(), &io, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(End::Gone("the front end does not read".to_owned())),
            Err(e) => Err(End::Gone(e.to_string())),
        }
    }

    /// Takes everything away from the threads: the front end is gone.
    fn clear(&self) {
        let mut rings = &*self.shared;
        if let Some((_, mut session)) = self.current.lock().take() {
            session.reset(&mut rings);
        }
        self.shared.status.lock().clear();
        if self.shared.connected.swap(false, Relaxed) {
            self.shared.carrier_resets.fetch_add(1, Relaxed);
            tracing::info!(target: "netdev_dpdk", "vHost Device '{}' has been removed", self.path.display());
        }
        self.shared.changed();
    }

    /// Writes what `Interface.status` says.
    fn report(&self) {
        let current = self.current.lock();
        let Some((_, session)) = current.as_ref() else { return };
        let mut status = StringMap::new();
        status.insert("socket".into(), self.path.display().to_string());
        status.insert("features".into(), format!("0x{:016x}", session.features));
        status.extend(session.mtu.map(|mtu| ("mtu".into(), mtu.to_string())));
        status.extend(session.numa.map(|numa| ("numa".into(), numa.to_string())));
        let running = session.rings.iter().filter(|r| r.size > 0).count();
        if running > 0 {
            status.insert("num_of_vrings".into(), running.to_string());
        }
        for (i, ring) in session.rings.iter().enumerate().filter(|(_, r)| r.size > 0) {
            status.insert(format!("vring_{i}_size"), ring.size.to_string());
        }
        *self.shared.numa.lock() = session.numa;
        let mut old = self.shared.status.lock();
        if *old != status {
            *old = status;
            drop(old);
            self.shared.seq.fetch_add(1, Relaxed);
        }
    }
}
