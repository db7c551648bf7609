//! The kernel's routes and the addresses of its devices, and a descriptor that tells when they change.

use crate::netlink::{Listener, MESSAGE_HEADER, attributes, message, route_socket, u16_at, u32_at};
use flow::EthAddr;
use nix::sys::socket::{MsgFlags, SockFlag, recv, send};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `struct rtmsg`.
pub(crate) const ROUTE_HEADER: usize = 12;
const BUFFER: usize = 64 << 10;
/// Routes that are read; a full table of the Internet has about a million.
pub const ROUTES_MAX: usize = 4 << 20;

/// One route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemRoute {
    /// IPv4 addresses are mapped.
    pub dst: Ipv6Addr,
    /// Out of 128.
    pub prefix_len: u8,
    /// To an address of this host.
    pub is_local: bool,
    pub device: String,
    /// `::` if the destination is on the link.
    pub gateway: Ipv6Addr,
    pub mark: u32,
}

/// Addresses of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceAddresses {
    pub mac: EthAddr,
    pub is_loopback: bool,
    /// Each with its prefix length out of 128; IPv4 addresses are mapped.
    pub ips: Vec<(Ipv6Addr, u8)>,
}

/// Listens for changes of routes, addresses and links. It speaks of the network namespace of the thread that made
/// it.
pub struct RouteMonitor {
    listener: Mutex<Listener>,
    fd: OwnedFd,
}

impl RouteMonitor {
    pub fn new() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE;
        let listener = Listener::new(groups as u32)?;
        let fd = listener.fd().try_clone_to_owned()?;
        Ok(RouteMonitor { listener: Mutex::new(listener), fd })
    }

    /// Readable when [`RouteMonitor::drain`] has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes in all announcements; whether there were any.
    pub fn drain(&self) -> bool {
        let mut changed = false;
        let mut listener = self.listener.lock();
        loop {
            match listener.read() {
                Ok(Some(_)) => changed = true,
                Ok(None) => return changed,
                // Some were lost: there were changes, and there may be more to read.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(_) => return changed,
            }
        }
    }
}

/// Asks the kernel for all its routes, of all tables.
pub fn system_routes() -> io::Result<Vec<SystemRoute>> {
    let names: BTreeMap<u32, String> = nix::net::if_::if_nameindex()?
        .iter()
        .map(|i| (i.index(), i.name().to_string_lossy().into_owned()))
        .collect();
    let fd = route_socket(SockFlag::SOCK_CLOEXEC, 0)?;
    let request = message(libc::RTM_GETROUTE, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, 1, &[0; ROUTE_HEADER]);
    send(fd.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    let mut routes = Vec::new();
    loop {
        let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let datagram = buffer.get(..n).unwrap_or_default();
        if datagram.is_empty() || read_dump(datagram, &names, &mut routes)? || routes.len() >= ROUTES_MAX {
            return Ok(routes);
        }
    }
}

/// Appends the routes of one datagram; true when it was the last.
fn read_dump(
    datagram: &[u8],
    names: &BTreeMap<u32, String>,
    routes: &mut Vec<SystemRoute>,
) -> io::Result<bool> {
    let mut rest = datagram;
    while let (Some(len), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
        let Some(body) = rest.get(MESSAGE_HEADER..len as usize) else { break };
        match kind {
            libc::RTM_NEWROUTE => routes.extend(route(body, names)),
            k if k == libc::NLMSG_DONE as u16 => return Ok(true),
            k if k == libc::NLMSG_ERROR as u16 => {
                let errno = u32_at(body, 0).map_or(libc::EPROTO, |e| (e as i32).wrapping_neg());
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => {}
        }
        rest = rest.get((len as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// A route that leads somewhere: unicast or local, with one device.
fn route(body: &[u8], names: &BTreeMap<u32, String>) -> Option<SystemRoute> {
    let header = body.first_chunk::<ROUTE_HEADER>()?;
    let (family, dst_len, scope, kind) = (i32::from(header[0]), header[1], header[6], header[7]);
    let is_v4 = family == libc::AF_INET;
    if !is_v4 && family != libc::AF_INET6 || scope == libc::RT_SCOPE_NOWHERE {
        return None;
    }
    if !matches!(kind, libc::RTN_UNICAST | libc::RTN_LOCAL) {
        return None;
    }
    let none = if is_v4 { Ipv4Addr::UNSPECIFIED.to_ipv6_mapped() } else { Ipv6Addr::UNSPECIFIED };
    let mut new = SystemRoute {
        dst: none,
        prefix_len: dst_len.saturating_add(if is_v4 { 96 } else { 0 }).min(128),
        is_local: kind == libc::RTN_LOCAL,
        device: String::new(),
        gateway: Ipv6Addr::UNSPECIFIED,
        mark: 0,
    };
    for (kind, value) in attributes(body.get(ROUTE_HEADER..)?) {
        match kind {
            libc::RTA_DST => new.dst = address(value)?,
            libc::RTA_GATEWAY => new.gateway = address(value)?,
            libc::RTA_OIF => new.device = names.get(&u32_at(value, 0)?)?.clone(),
            libc::RTA_MARK => new.mark = u32_at(value, 0)?,
            _ => {}
        }
    }
    (!new.device.is_empty()).then_some(new)
}

fn address(value: &[u8]) -> Option<Ipv6Addr> {
    match (value.first_chunk::<16>(), value.first_chunk::<4>()) {
        (Some(v6), _) => Some(Ipv6Addr::from(*v6)),
        (None, Some(v4)) => Some(Ipv4Addr::from(*v4).to_ipv6_mapped()),
        _ => None,
    }
}

/// Addresses of the kernel's devices, by name.
pub fn system_addresses() -> io::Result<BTreeMap<String, DeviceAddresses>> {
    let mut all: BTreeMap<String, DeviceAddresses> = BTreeMap::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let device = all.entry(entry.interface_name.clone()).or_default();
        device.is_loopback |= entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK);
        let (Some(address), mask) = (entry.address, entry.netmask) else { continue };
        if let Some(link) = address.as_link_addr() {
            device.mac = EthAddr(link.addr().unwrap_or_default());
        } else if let Some(v4) = address.as_sockaddr_in() {
            let mask = mask.as_ref().and_then(|m| m.as_sockaddr_in().map(|m| m.ip()));
            let bits = mask.map_or(32, |m| u32::from(m).leading_ones());
            device.ips.push((v4.ip().to_ipv6_mapped(), 96 + bits as u8));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            let mask = mask.as_ref().and_then(|m| m.as_sockaddr_in6().map(|m| m.ip()));
            let bits = mask.map_or(128, |m| u128::from(m).leading_ones());
            device.ips.push((v6.ip(), bits as u8));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_addresses_and_routes() {
        let all = system_addresses().expect("addresses");
        let lo = all.get("lo").expect("lo");
        assert!(lo.is_loopback);
        if lo.ips.iter().any(|(ip, _)| *ip == Ipv4Addr::LOCALHOST.to_ipv6_mapped()) {
            let routes = system_routes().expect("routes");
            let own = routes.iter().find(|r| r.is_local && r.device == "lo");
            assert!(own.is_some(), "{routes:?}");
        }
    }

    #[test]
    fn messages_are_read_and_never_beyond_their_end() {
        let names = BTreeMap::from([(7, "eth7".to_owned())]);
        let mut body = vec![libc::AF_INET as u8, 24, 0, 0, 254, 4, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        for (kind, value) in [
            (libc::RTA_DST, [10, 0, 0, 0]),
            (libc::RTA_OIF, 7u32.to_ne_bytes()),
            (libc::RTA_GATEWAY, [10, 0, 0, 1]),
        ] {
            body.extend(8u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        let r = route(&body, &names).expect("a route");
        assert_eq!((r.device.as_str(), r.prefix_len), ("eth7", 120));
        assert_eq!(r.gateway, Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        for cut in 0..body.len() {
            let _ = route(&body[..cut], &names);
        }
        assert!(route(&body, &BTreeMap::new()).is_none(), "a device that is gone");
    }
}
