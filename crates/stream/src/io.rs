//! An open stream, and how to open one.

use crate::target::{Endpoint, Target};
use crate::tls::{Tls, save_bootstrap_ca};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio_rustls::{TlsConnector, TlsStream};

/// Longest path that fits a `sockaddr_un`, its terminating zero not counted.
const UNIX_PATH_MAX: usize = 107;

/// An open connection. It has a name for logs and status columns, such as `tcp:10.0.0.1:6653`.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    name: String,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub fn from_tcp(stream: TcpStream, name: impl Into<String>) -> Self {
        Stream { inner: Inner::Tcp(stream), name: name.into() }
    }

    pub fn from_unix(stream: UnixStream, name: impl Into<String>) -> Self {
        Stream { inner: Inner::Unix(stream), name: name.into() }
    }

    pub(crate) fn from_tls(stream: TlsStream<TcpStream>, name: String) -> Self {
        Stream { inner: Inner::Tls(Box::new(stream)), name }
    }

    /// The connection method with its address: the target of an outgoing connection, the peer of an
    /// accepted one.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match &self.inner {
            Inner::Tcp(s) => Some(s),
            Inner::Tls(s) => Some(s.get_ref().0),
            Inner::Unix(_) => None,
        }
    }

    /// Our address, for TCP and TLS.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    /// The peer's address, for TCP and TLS.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }

    /// Whether the bytes on the socket are encrypted, so that another process could not take it over.
    pub fn is_tls(&self) -> bool {
        matches!(self.inner, Inner::Tls(_))
    }

    /// Gives up the socket of a TCP or unix stream, for another process. A TLS stream is
    /// [`io::ErrorKind::Unsupported`]: its keys live here.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.inner {
            Inner::Tcp(s) => s.into_std().map(OwnedFd::from),
            Inner::Unix(s) => s.into_std().map(OwnedFd::from),
            Inner::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner {
            Inner::Tcp(s) => s.as_fd(),
            Inner::Unix(s) => s.as_fd(),
            Inner::Tls(s) => s.get_ref().0.as_fd(),
        }
    }
}

/// Runs `$body` on whichever stream is inside, pinned as `$s`.
macro_rules! delegate {
    ($self:ident, $s:ident => $body:expr) => {
        match &mut $self.get_mut().inner {
            Inner::Tcp(s) => {
                let $s = Pin::new(s);
                $body
            }
            Inner::Unix(s) => {
                let $s = Pin::new(s);
                $body
            }
            Inner::Tls(s) => {
                let $s = Pin::new(s.as_mut());
                $body
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, s => s.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_shutdown(cx))
    }
}

/// What a caller may ask of a new connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// DiffServ code point (0..=63) of TCP and TLS packets.
    pub dscp: Option<u8>,
}

/// Connects to an active target. Time-outs are the caller's ([`crate::Reconnect`]). A passive target is
/// [`io::ErrorKind::InvalidInput`]; a TLS misconfiguration too, with [`crate::TlsError`] inside.
pub async fn connect(target: &Target, tls: &Tls) -> io::Result<Stream> {
    connect_with(target, tls, &ConnectOptions::default()).await
}

/// [`connect`] with options.
pub async fn connect_with(target: &Target, tls: &Tls, options: &ConnectOptions) -> io::Result<Stream> {
    let name = target.to_string();
    match target {
        Target::Unix(path) => {
            let short = ShortPath::new(path)?;
            Ok(Stream::from_unix(UnixStream::connect(&short.path).await?, name))
        }
        Target::Tcp(endpoint) => Ok(Stream::from_tcp(connect_tcp(endpoint, options).await?, name)),
        Target::Ssl(endpoint) => connect_tls(endpoint, tls, options, name).await,
        Target::Ptcp { .. } | Target::Pssl { .. } | Target::Punix(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name}: cannot connect to a passive target"),
        )),
    }
}

/// Tries each address of the host in turn.
async fn connect_tcp(endpoint: &Endpoint, options: &ConnectOptions) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "host has no address");
    for addr in lookup_host((endpoint.host.as_str(), endpoint.port)).await? {
        match connect_addr(addr, options).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn connect_addr(addr: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    set_dscp(&socket, addr, options.dscp)?;
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Marks the packets of a socket that is not yet connected or listening.
pub(crate) fn set_dscp(socket: &TcpSocket, addr: SocketAddr, dscp: Option<u8>) -> io::Result<()> {
    let Some(dscp) = dscp else { return Ok(()) };
    if dscp > 63 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let tos = u32::from(dscp) << 2;
    if addr.is_ipv4() { socket.set_tos_v4(tos) } else { socket.set_tclass_v6(tos) }
}

async fn connect_tls(
    endpoint: &Endpoint,
    tls: &Tls,
    options: &ConnectOptions,
    name: String,
) -> io::Result<Stream> {
    let setup = tls.client()?;
    let tcp = connect_tcp(endpoint, options).await?;
    // The name is not checked and, being an address, is not sent either.
    let peer = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
    let stream = TlsConnector::from(setup.config).connect(peer, tcp).await?;
    if let Some(path) = setup.bootstrap {
        save_bootstrap_ca(&path, stream.get_ref().1.peer_certificates())?;
        return Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "killing successful connection to retry using CA cert",
        ));
    }
    Ok(Stream::from_tls(TlsStream::Client(stream), name))
}

/// A path short enough for a unix socket's address: a long one goes through its open directory.
pub(crate) struct ShortPath {
    pub path: PathBuf,
    _dir: Option<OwnedFd>,
}

impl ShortPath {
    pub fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= UNIX_PATH_MAX {
            return Ok(ShortPath { path: path.to_owned(), _dir: None });
        }
        let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let fd = open(dir, OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()).join(file);
        Ok(ShortPath { path, _dir: Some(fd) })
    }
}

/// The text of an error without Rust's "(os error N)": as `strerror` says it.
pub fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
