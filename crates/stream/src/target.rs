//! Connection methods: the strings that name a stream.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

/// The IANA port of OVSDB.
pub const OVSDB_PORT: u16 = 6640;
/// The IANA port of OpenFlow.
pub const OPENFLOW_PORT: u16 = 6653;

/// A remote host and port. `host` is an IP address without brackets, or a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// A connection method of ovsdb(7). The first three are active, the rest passive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `tcp:HOST[:PORT]`
    Tcp(Endpoint),
    /// `ssl:HOST[:PORT]`
    Ssl(Endpoint),
    /// `unix:FILE`
    Unix(PathBuf),
    /// `ptcp:[PORT][:HOST]`; port 0 lets the kernel choose, no host means all addresses.
    Ptcp { port: u16, host: Option<IpAddr> },
    /// `pssl:[PORT][:HOST]`
    Pssl { port: u16, host: Option<IpAddr> },
    /// `punix:FILE`
    Punix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("{0}: unknown connection method")]
    UnknownMethod(String),
    #[error("{0}: bad peer name format")]
    BadHost(String),
    #[error("{0}: bad port number")]
    BadPort(String),
    #[error("{0}: missing file name")]
    NoFile(String),
}

impl Target {
    /// Parses `text`; a missing port becomes `default_port` ([`OVSDB_PORT`] or [`OPENFLOW_PORT`]).
    pub fn parse(text: &str, default_port: u16) -> Result<Target, TargetError> {
        let text = text.trim();
        let (method, rest) =
            text.split_once(':').ok_or_else(|| TargetError::UnknownMethod(text.to_owned()))?;
        let endpoint = || active(text, rest, default_port);
        let file = || match rest {
            "" => Err(TargetError::NoFile(text.to_owned())),
            path => Ok(PathBuf::from(path)),
        };
        match method {
            "tcp" => Ok(Target::Tcp(endpoint()?)),
            "ssl" => Ok(Target::Ssl(endpoint()?)),
            "unix" => Ok(Target::Unix(file()?)),
            "ptcp" => passive(text, rest, default_port).map(|(port, host)| Target::Ptcp { port, host }),
            "pssl" => passive(text, rest, default_port).map(|(port, host)| Target::Pssl { port, host }),
            "punix" => Ok(Target::Punix(file()?)),
            _ => Err(TargetError::UnknownMethod(text.to_owned())),
        }
    }

    /// Parses a comma-separated list, in order; empty items are ignored.
    pub fn parse_list(text: &str, default_port: u16) -> Result<Vec<Target>, TargetError> {
        text.split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(|s| Target::parse(s, default_port))
            .collect()
    }

    /// Whether this waits for peers instead of calling one.
    pub fn is_passive(&self) -> bool {
        matches!(self, Target::Ptcp { .. } | Target::Pssl { .. } | Target::Punix(_))
    }

    /// Whether the peer may vanish without the kernel noticing, so that inactivity probes make sense.
    pub fn needs_probes(&self) -> bool {
        !matches!(self, Target::Unix(_) | Target::Punix(_))
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Target::Ssl(_) | Target::Pssl { .. })
    }

    /// Takes a relative socket file as one in `rundir`, as Open vSwitch does.
    #[must_use]
    pub fn in_rundir(self, rundir: &Path) -> Target {
        match self {
            Target::Unix(path) => Target::Unix(rundir.join(path)),
            Target::Punix(path) => Target::Punix(rundir.join(path)),
            other => other,
        }
    }

    /// The remote host's address, when it is given as one.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        match self {
            Target::Tcp(e) | Target::Ssl(e) => e.host.split('%').next()?.parse().ok(),
            _ => None,
        }
    }

    /// The remote host's IPv4 address and port, when they are given so.
    pub fn ipv4(&self) -> Option<SocketAddrV4> {
        match self {
            Target::Tcp(e) | Target::Ssl(e) => Some(SocketAddrV4::new(e.host.parse().ok()?, e.port)),
            _ => None,
        }
    }
}

/// Splits `HOST[:PORT]`, where an IPv6 host stands in brackets (or bare, when no port follows).
fn active(text: &str, rest: &str, default_port: u16) -> Result<Endpoint, TargetError> {
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, tail) = bracketed.split_once(']').ok_or_else(|| TargetError::BadHost(text.to_owned()))?;
        match tail.strip_prefix(':') {
            Some(port) => (host, port),
            None if tail.is_empty() => (host, ""),
            None => return Err(TargetError::BadHost(text.to_owned())),
        }
    } else if rest.parse::<Ipv6Addr>().is_ok() {
        (rest, "")
    } else {
        rest.rsplit_once(':').unwrap_or((rest, ""))
    };
    if host.is_empty() || host.contains([' ', '[', ']', ',']) {
        return Err(TargetError::BadHost(text.to_owned()));
    }
    Ok(Endpoint { host: host.to_owned(), port: port_number(text, port, default_port)? })
}

/// Splits `[PORT][:HOST]`.
fn passive(text: &str, rest: &str, default_port: u16) -> Result<(u16, Option<IpAddr>), TargetError> {
    let (port, host) = rest.split_once(':').unwrap_or((rest, ""));
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host = match bare {
        "" => None,
        ip => Some(ip.parse().map_err(|_| TargetError::BadHost(text.to_owned()))?),
    };
    Ok((port_number(text, port, default_port)?, host))
}

fn port_number(text: &str, port: &str, default_port: u16) -> Result<u16, TargetError> {
    match port {
        "" => Ok(default_port),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| TargetError::BadPort(text.to_owned()))
        }
        _ => Err(TargetError::BadPort(text.to_owned())),
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// [`Target::parse`] with the OVSDB port as default.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Target::parse(text, OVSDB_PORT)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Writes `:HOST` of a passive method, nothing for "all addresses".
fn fmt_host(f: &mut fmt::Formatter<'_>, host: Option<IpAddr>) -> fmt::Result {
    match host {
        None => Ok(()),
        Some(IpAddr::V4(ip)) => write!(f, ":{ip}"),
        Some(IpAddr::V6(ip)) => write!(f, ":[{ip}]"),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(e) => write!(f, "tcp:{e}"),
            Target::Ssl(e) => write!(f, "ssl:{e}"),
            Target::Unix(p) => write!(f, "unix:{}", p.display()),
            Target::Punix(p) => write!(f, "punix:{}", p.display()),
            Target::Ptcp { port, host } => {
                write!(f, "ptcp:{port}")?;
                fmt_host(f, *host)
            }
            Target::Pssl { port, host } => {
                write!(f, "pssl:{port}")?;
                fmt_host(f, *host)
            }
        }
    }
}

/// The address a passive method without a host listens on.
pub(crate) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        for (text, shown) in [
            ("tcp:1.2.3.4:6640", "tcp:1.2.3.4:6640"),
            ("tcp:1.2.3.4", "tcp:1.2.3.4:6653"),
            ("tcp:[::1]:6640", "tcp:[::1]:6640"),
            ("tcp:[fe80::1%eth0]:1", "tcp:[fe80::1%eth0]:1"),
            ("tcp:[::1]", "tcp:[::1]:6653"),
            ("tcp:::1", "tcp:[::1]:6653"),
            ("ssl:host.example:1", "ssl:host.example:1"),
            ("unix:/run/db.sock", "unix:/run/db.sock"),
            ("ptcp:", "ptcp:6653"),
            ("ptcp:0", "ptcp:0"),
            ("ptcp:1:127.0.0.1", "ptcp:1:127.0.0.1"),
            ("pssl::[::1]", "pssl:6653:[::1]"),
            ("punix:x", "punix:x"),
        ] {
            assert_eq!(Target::parse(text, OPENFLOW_PORT).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn bad_forms() {
        for text in ["", "tcp", "tcp:", "tcp:a:b", "tcp:[::1", "tcp:[::1]x", "tcp:a:70000", "x:y", "unix:"] {
            assert!(Target::parse(text, 1).is_err(), "{text}");
        }
        assert_eq!(Target::parse_list("unix:a, tcp:b ,", 7).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn total_and_stable(text in "(tcp|ssl|unix|ptcp|pssl|punix)?:?[\\[\\]:a-f0-9.%]{0,20}") {
            if let Ok(t) = Target::parse(&text, 6640) {
                prop_assert_eq!(Target::parse(&t.to_string(), 1), Ok(t));
            }
        }
    }
}
