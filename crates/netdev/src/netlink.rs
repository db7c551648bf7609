//! rtnetlink (rtnetlink(7)): link messages in and out. Pure but for [`Socket`].

use flow::EthAddr;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// `struct nlmsghdr`, `struct ifinfomsg`.
pub(crate) const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
/// Counters of `struct rtnl_link_stats64` that are read (23 since 2.6.35).
const COUNTERS: usize = 23;
/// Room for the answer about a device with many virtual functions.
const BUFFER: usize = 256 << 10;

/// A device as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkInfo {
    pub ifindex: u32,
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
    pub mtu: u32,
    pub mac: EthAddr,
    pub stats: Option<dpif::PortStats>,
}

impl LinkInfo {
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }
    pub fn is_running(&self) -> bool {
        self.flags & libc::IFF_RUNNING as u32 != 0
    }
}

/// One message from the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    NewLink(LinkInfo),
    DelLink(LinkInfo),
    /// The answer to a request: 0 or an error number.
    Answer(i32),
    Done,
    Other(u16),
}

/// The messages of one datagram. Stops at the first that is cut off.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let kind = u16_at(rest, 4)?;
        let body = rest.get(MESSAGE_HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(match kind {
            libc::RTM_NEWLINK => link(body).map_or(Message::Other(kind), Message::NewLink),
            libc::RTM_DELLINK => link(body).map_or(Message::Other(kind), Message::DelLink),
            ERROR => Message::Answer(u32_at(body, 0).map_or(libc::EPROTO, |e| -(e as i32))),
            DONE => Message::Done,
            _ => Message::Other(kind),
        })
    })
}

pub(crate) fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*b.get(at..)?.first_chunk()?))
}
pub(crate) fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*b.get(at..)?.first_chunk()?))
}
pub(crate) fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*b.get(at..)?.first_chunk()?))
}

/// Type and value of each attribute; stops at the first that is cut off.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn link(body: &[u8]) -> Option<LinkInfo> {
    let mut info = LinkInfo { ifindex: u32_at(body, 4)?, flags: u32_at(body, 8)?, ..LinkInfo::default() };
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                let name = value.split(|c| *c == 0).next().unwrap_or_default();
                info.name = String::from_utf8_lossy(name).into_owned();
            }
            libc::IFLA_MTU => info.mtu = u32_at(value, 0)?,
            libc::IFLA_ADDRESS => info.mac = EthAddr(value.try_into().unwrap_or_default()),
            libc::IFLA_STATS64 => info.stats = stats(value),
            _ => {}
        }
    }
    Some(info)
}

/// `struct rtnl_link_stats64`.
fn stats(b: &[u8]) -> Option<dpif::PortStats> {
    let mut c = [0; COUNTERS];
    for (i, c) in c.iter_mut().enumerate() {
        *c = u64_at(b, i * 8)?;
    }
    Some(dpif::PortStats {
        rx_packets: c[0],
        tx_packets: c[1],
        rx_bytes: c[2],
        tx_bytes: c[3],
        rx_errors: c[4],
        tx_errors: c[5],
        rx_dropped: c[6],
        tx_dropped: c[7],
        multicast: c[8],
        collisions: c[9],
        rx_length_errors: c[10],
        rx_over_errors: c[11],
        rx_crc_errors: c[12],
        rx_frame_errors: c[13],
        rx_fifo_errors: c[14],
        rx_missed_errors: c[15],
        tx_aborted_errors: c[16],
        tx_carrier_errors: c[17],
        tx_fifo_errors: c[18],
        tx_heartbeat_errors: c[19],
        tx_window_errors: c[20],
    })
}

/// A change to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkChange {
    Mtu(u32),
    Mac(EthAddr),
    Up(bool),
}

/// A request about the device `name`: to change it, or without a change to describe it.
pub fn request(sequence: u32, name: &str, change: Option<LinkChange>) -> Vec<u8> {
    let (kind, ack) = match change {
        None => (libc::RTM_GETLINK, 0),
        Some(_) => (libc::RTM_SETLINK, libc::NLM_F_ACK),
    };
    let up = libc::IFF_UP as u32;
    let (flags, flags_mask) = match change {
        Some(LinkChange::Up(true)) => (up, up),
        Some(LinkChange::Up(false)) => (0, up),
        _ => (0, 0),
    };
    let mut body = vec![0; 8]; // family, type, index: by name
    body.extend(flags.to_ne_bytes());
    body.extend(flags_mask.to_ne_bytes());
    let mut name = name.as_bytes().to_vec();
    name.push(0);
    attribute(&mut body, libc::IFLA_IFNAME, &name);
    match change {
        Some(LinkChange::Mtu(mtu)) => attribute(&mut body, libc::IFLA_MTU, &mtu.to_ne_bytes()),
        Some(LinkChange::Mac(mac)) => attribute(&mut body, libc::IFLA_ADDRESS, &mac.0),
        Some(LinkChange::Up(_)) | None => {}
    }
    message(kind, libc::NLM_F_REQUEST | ack, sequence, &body)
}

/// A whole message: header (`struct nlmsghdr`) and body. `flags`: `NLM_F_*`.
pub(crate) fn message(kind: u16, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut m = ((MESSAGE_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    m.extend(kind.to_ne_bytes());
    m.extend((flags as u16).to_ne_bytes());
    m.extend(sequence.to_ne_bytes());
    m.extend([0; 4]); // from whom: the kernel knows
    m.extend(body);
    m
}

/// Appends an attribute.
pub(crate) fn attribute(m: &mut Vec<u8>, kind: u16, value: &[u8]) {
    m.extend((value.len() as u16 + 4).to_ne_bytes());
    m.extend(kind.to_ne_bytes());
    m.extend(value);
    m.resize(m.len().next_multiple_of(4), 0);
}

/// A NETLINK_ROUTE socket for requests. It speaks of the network namespace of the thread that made it.
pub struct Socket {
    inner: Mutex<Inner>,
}

struct Inner {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn new() -> io::Result<Self> {
        let fd = route_socket(SockFlag::SOCK_CLOEXEC, 0)?;
        Ok(Socket { inner: Mutex::new(Inner { fd, sequence: 0, buffer: vec![0; BUFFER] }) })
    }

    /// Describes the device `name`, or says why not (`ENODEV`).
    pub fn link(&self, name: &str) -> io::Result<LinkInfo> {
        self.transact(name, None)?.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
    }

    pub fn change(&self, name: &str, change: LinkChange) -> io::Result<()> {
        self.transact(name, Some(change)).map(|_| ())
    }

    fn transact(&self, name: &str, change: Option<LinkChange>) -> io::Result<Option<LinkInfo>> {
        if name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.sequence = inner.sequence.wrapping_add(1);
        send(inner.fd.as_raw_fd(), &request(inner.sequence, name, change), MsgFlags::empty())?;
        loop {
            let n = recv(inner.fd.as_raw_fd(), &mut inner.buffer, MsgFlags::empty())?;
            let datagram = inner.buffer.get(..n).unwrap_or_default();
            // An answer to an earlier request that was given up on is not ours.
            if u32_at(datagram, 8) != Some(inner.sequence) {
                continue;
            }
            match messages(datagram).next() {
                Some(Message::NewLink(info)) => return Ok(Some(info)),
                Some(Message::Answer(0)) => return Ok(None),
                Some(Message::Answer(e)) => return Err(io::Error::from_raw_os_error(e)),
                _ => return Err(io::Error::from_raw_os_error(libc::EPROTO)),
            }
        }
    }
}

/// Receives what the kernel announces to the multicast groups of a socket.
pub struct Listener {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Listener {
    /// `groups`: `RTMGRP_*` bits.
    pub fn new(groups: u32) -> io::Result<Self> {
        let fd = route_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, groups)?;
        Ok(Listener { fd, buffer: vec![0; BUFFER] })
    }

    /// The next messages; none if nothing waits. `ENOBUFS` says that some were lost.
    pub fn read(&mut self) -> io::Result<Option<Vec<Message>>> {
        match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Ok(n) => Ok(Some(messages(self.buffer.get(..n).unwrap_or_default()).collect())),
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) fn route_socket(flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_described() {
        let info = Socket::new().expect("netlink").link("lo").expect("lo");
        assert_eq!((info.name.as_str(), info.ifindex), ("lo", 1));
        assert!(info.stats.is_some() && info.mtu > 0);
        let none = Socket::new().expect("netlink").link("nosuch").expect_err("absent");
        assert_eq!(none.raw_os_error(), Some(libc::ENODEV));
    }

    /// A NEWLINK as the kernel writes it, from parts.
    fn new_link() -> Vec<u8> {
        let mut m = request(7, "eth7", Some(LinkChange::Mtu(1400)));
        m[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        attribute(&mut m, libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 7]);
        let counters: Vec<u8> = (0..COUNTERS as u64).flat_map(u64::to_ne_bytes).collect();
        attribute(&mut m, libc::IFLA_STATS64, &counters);
        let len = m.len() as u32;
        m[..4].copy_from_slice(&len.to_ne_bytes());
        m
    }

    #[test]
    fn link_messages_are_read_to_the_last_byte_and_never_beyond() {
        let m = new_link();
        let Some(Message::NewLink(info)) = messages(&m).next() else { panic!("no link") };
        assert_eq!((info.name.as_str(), info.mtu, info.mac.0[5]), ("eth7", 1400, 7));
        assert_eq!(info.stats.map(|s| s.tx_window_errors), Some(20));
        for cut in 0..m.len() {
            assert_eq!(messages(&m[..cut]).count(), 0);
        }
        for at in 0..m.len() {
            let mut bad = m.clone();
            bad[at] = 0xff;
            let _ = messages(&bad).count();
        }
        let twice = [m.clone(), m].concat();
        assert_eq!(messages(&twice).count(), 2);
    }
}
