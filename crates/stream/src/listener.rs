//! Waiting for peers.

use crate::io::{ShortPath, Stream, set_dscp};
use crate::target::{ANY, Target};
use crate::tls::Tls;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::{debug, warn};

const UNIX_BACKLOG: i32 = 64;
const TCP_BACKLOG: u32 = 10;
/// TLS handshakes under way at once; further peers wait in the backlog.
const HANDSHAKES_MAX: usize = 64;
/// The one time-out that is not the caller's: nobody else knows of a handshake under way.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A listening socket. Dropping it closes the socket and removes a unix socket's file.
#[derive(Debug)]
pub struct Listener {
    inner: Inner,
    target: Target,
    /// Peers on a unix socket have no address; they are numbered.
    accepted: u64,
}

#[derive(Debug)]
enum Inner {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
    Tls { listener: TcpListener, tls: Tls, handshakes: JoinSet<io::Result<Stream>> },
}

impl Listener {
    /// Listens on a passive target. A stale unix socket file is removed first; the new one has mode 0770.
    /// An active target is [`io::ErrorKind::InvalidInput`].
    pub fn bind(target: &Target, tls: &Tls) -> io::Result<Listener> {
        Listener::bind_with(target, tls, None)
    }

    /// [`Listener::bind`] with a DiffServ code point for TCP and TLS packets.
    pub fn bind_with(target: &Target, tls: &Tls, dscp: Option<u8>) -> io::Result<Listener> {
        let inner = match target {
            Target::Punix(path) => Inner::Unix(bind_unix(path)?, SocketFile::of(path)?),
            Target::Ptcp { port, host } => Inner::Tcp(bind_tcp(*host, *port, dscp)?),
            Target::Pssl { port, host } => {
                // A misconfiguration shows now and not only to the first peer.
                tls.server()?;
                let listener = bind_tcp(*host, *port, dscp)?;
                Inner::Tls { listener, tls: tls.clone(), handshakes: JoinSet::new() }
            }
            Target::Tcp(_) | Target::Ssl(_) | Target::Unix(_) => {
                let text = format!("{target}: cannot listen on an active target");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        Ok(Listener { inner, target: target.clone(), accepted: 0 })
    }

    /// What was given to [`Listener::bind`].
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The bound address, for TCP and TLS: tells the port when 0 was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.inner {
            Inner::Unix(..) => None,
            Inner::Tcp(l) | Inner::Tls { listener: l, .. } => l.local_addr().ok(),
        }
    }

    /// Leaves a unix socket's file in place when this is dropped: another process has taken it over.
    pub fn keep_file(&mut self) {
        if let Inner::Unix(_, file) = &mut self.inner {
            file.path.clear();
        }
    }

    /// The next peer, its TLS handshake done. A failed handshake is logged, not returned. Cancel safe.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        match &mut self.inner {
            Inner::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                self.accepted += 1;
                Ok(Stream::from_unix(stream, format!("unix#{}", self.accepted)))
            }
            Inner::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::from_tcp(stream, format!("tcp:{peer}")))
            }
            Inner::Tls { listener, tls, handshakes } => accept_tls(listener, tls, handshakes).await,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner {
            Inner::Unix(l, _) => l.as_fd(),
            Inner::Tcp(l) | Inner::Tls { listener: l, .. } => l.as_fd(),
        }
    }
}

/// The name of a unix socket. It goes with the listener, unless somebody else has taken the name since: a
/// successor may have been made before this one is dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts peers and finishes handshakes side by side, so that a silent peer holds up no other.
async fn accept_tls(
    listener: &TcpListener,
    tls: &Tls,
    handshakes: &mut JoinSet<io::Result<Stream>>,
) -> io::Result<Stream> {
    loop {
        tokio::select! {
            done = handshakes.join_next(), if !handshakes.is_empty() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(e))) => warn!(target: "stream_ssl", "SSL_accept: {e}"),
                Some(Err(e)) => debug!(target: "stream_ssl", "handshake task: {e}"),
                None => {}
            },
            accepted = listener.accept(), if handshakes.len() < HANDSHAKES_MAX => {
                let (tcp, peer) = accepted?;
                tcp.set_nodelay(true)?;
                let acceptor = TlsAcceptor::from(tls.server()?);
                handshakes.spawn(handshake(acceptor, tcp, peer));
            }
        }
    }
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await??;
    Ok(Stream::from_tls(TlsStream::Server(stream), format!("ssl:{peer}")))
}

/// The mode is set before the name appears, so that nobody can slip in between.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            warn!(target: "socket_util", "unlinking \"{}\": {e}", path.display());
        }
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&fd, Mode::S_IRWXU | Mode::S_IRWXG)?;
    let short = ShortPath::new(path)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&short.path)?)?;
    listen(&fd, Backlog::new(UNIX_BACKLOG)?)?;
    UnixListener::from_std(StdUnixListener::from(fd))
}

fn bind_tcp(host: Option<IpAddr>, port: u16, dscp: Option<u8>) -> io::Result<TcpListener> {
    let addr = SocketAddr::new(host.unwrap_or(ANY), port);
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    set_dscp(&socket, addr, dscp)?;
    socket.bind(addr)?;
    socket.listen(TCP_BACKLOG)
}

#[cfg(test)]
mod successor_tests {
    use super::*;
    use crate::TlsConfig;

    #[tokio::test]
    async fn a_listener_leaves_the_name_to_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Punix(dir.path().join("s"));
        let tls = Tls::new(TlsConfig::default());
        let first = Listener::bind(&target, &tls).unwrap();
        let second = Listener::bind(&target, &tls).unwrap();
        drop(first);
        assert!(dir.path().join("s").exists());
        drop(second);
        assert!(!dir.path().join("s").exists());
    }
}
