//! Sending to syslog: RFC 3164 datagrams to a Unix or UDP socket.
//!
//! Nothing here blocks: a datagram that the socket has no room for is lost.

use crate::level::Level;
use chrono::Local;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where the C library's syslog(3) sends to.
const DEV_LOG: &str = "/dev/log";
/// The facility of messages for which `FACILITY` chose none: daemon.
const DEFAULT_FACILITY: u32 = 3 << 3;
/// UDP port of syslog (RFC 5426, section 3.3).
const PORT: u16 = 514;
/// A longer datagram is cut; RFC 5426 asks receivers for 2,048, sockets here take far more.
const MAX_DATAGRAM: usize = 32 << 10;

/// `--syslog-method` or `OVS_SYSLOG_METHOD` names no method.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unsupported syslog method '{0}'")]
pub struct MethodError(String);

/// How messages reach the syslog daemon.
#[derive(Debug)]
pub(crate) enum Method {
    Null,
    /// In the form of syslog(3), with date and program.
    Libc(Unix),
    Unix(Unix),
    /// `None` if the address was not understood.
    Udp(Option<UdpSocket>),
}

/// A Unix socket that is connected anew when the daemon behind it restarts.
#[derive(Debug)]
pub(crate) struct Unix {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Unix {
    fn new(path: impl AsRef<Path>) -> Self {
        Unix { path: path.as_ref().to_owned(), socket: None }
    }

    fn send(&mut self, bytes: &[u8]) {
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.path).ok();
            }
            let Some(socket) = &self.socket else { return };
            match socket.send(bytes) {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => self.socket = None,
                _ => return,
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// A UDP socket that sends to `address`, a numeric `IP:PORT`, `[IP]:PORT`, or, if there is a default port, `IP`.
pub(crate) fn udp(address: &str, default_port: Option<u16>) -> io::Result<UdpSocket> {
    let with_port = || Some(SocketAddr::new(address.trim_matches(['[', ']']).parse().ok()?, default_port?));
    let peer = address.parse().ok().or_else(with_port).ok_or(io::ErrorKind::InvalidInput)?;
    let local: SocketAddr = if peer.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    socket.connect(peer)?;
    Ok(socket)
}

impl Method {
    pub fn libc() -> Self {
        Method::Libc(Unix::new(DEV_LOG))
    }

    pub fn parse(text: &str) -> Result<Method, MethodError> {
        if text == "null" {
            Ok(Method::Null)
        } else if text == "libc" {
            Ok(Method::libc())
        } else if let Some(path) = text.strip_prefix("unix:") {
            Ok(Method::Unix(Unix::new(path)))
        } else if let Some(address) = text.strip_prefix("udp:") {
            Ok(Method::Udp(udp(address, Some(PORT)).ok()))
        } else {
            Err(MethodError(text.to_owned()))
        }
    }

    /// What stands before each message, as a pattern: `vlog/list-pattern` shows it.
    pub fn prefix(&self) -> &'static str {
        match self {
            Method::Null => "",
            Method::Libc(_) => "<%B> %D{%h %e %T} %E %A:",
            Method::Unix(_) | Method::Udp(_) => "<%B>",
        }
    }

    /// Sends one line. `facility` is zero where none was chosen.
    pub fn send(&mut self, program: &str, facility: u32, level: Level, line: &str) {
        let facility = if facility == 0 { DEFAULT_FACILITY } else { facility };
        let priority = facility | level.severity();
        match self {
            Method::Null => {}
            Method::Libc(socket) => {
                let date = Local::now().format("%h %e %T");
                socket.send(cut(format!("<{priority}>{date} {program}: {line}").as_bytes()));
            }
            Method::Unix(socket) => socket.send(cut(format!("<{priority}>{line}").as_bytes())),
            Method::Udp(Some(socket)) => send_udp(socket, &format!("<{priority}>{line}")),
            Method::Udp(None) => {}
        }
    }
}

pub(crate) fn send_udp(socket: &UdpSocket, text: &str) {
    // Nobody listening is no reason to stop: the log's other destinations have the message.
    let _ = socket.send(cut(text.as_bytes()));
}

fn cut(bytes: &[u8]) -> &[u8] {
    bytes.get(..MAX_DATAGRAM).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_method_survives_a_restart_of_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut method = Method::parse(&format!("unix:{}", path.display())).unwrap();
        method.send("p", 0, Level::Err, "nobody hears this");
        for round in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            method.send("p", 16 << 3, Level::Info, &format!("round {round}"));
            let mut buffer = [0; 100];
            let n = daemon.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], format!("<133>round {round}").as_bytes());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn udp_method() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut method = Method::parse(&format!("udp:{}", daemon.local_addr().unwrap())).unwrap();
        method.send("p", 0, Level::Warn, "x");
        let mut buffer = [0; 100];
        let n = daemon.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"<28>x");
    }

    #[test]
    fn methods_and_addresses() {
        assert_eq!(Method::parse("zz").unwrap_err().to_string(), "unsupported syslog method 'zz'");
        assert!(udp("127.0.0.1", Some(514)).is_ok());
        assert!(udp("[::1]", Some(514)).is_ok());
        assert!(udp("127.0.0.1", None).is_err());
        assert!(udp("localhost:1", None).is_err());
        assert_eq!(Method::libc().prefix(), "<%B> %D{%h %e %T} %E %A:");
    }
}
