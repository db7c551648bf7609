//! Where the kernel sends packets for an address first (rtnetlink(7): `RTM_GETROUTE`, `RTM_GETNEIGH`).

use crate::netlink::{MESSAGE_HEADER, attribute, attributes, message, route_socket, u16_at, u32_at};
use crate::routes::ROUTE_HEADER;
use flow::EthAddr;
use nix::sys::socket::{MsgFlags, SockFlag, recv, send};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// `struct ndmsg`.
const NEIGHBOUR_HEADER: usize = 12;
/// `NDA_DST` and `NDA_LLADDR`.
const NEIGHBOUR_IP: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;
/// Room for one route or one neighbour.
const BUFFER: usize = 4 << 10;

/// The MAC of the host that packets to `dst` go to first: of a gateway, or of `dst` itself on the same link. `None`
/// while the kernel does not know it, and for the host's own addresses. Speaks of the network namespace of the calling
/// thread; the error of a destination without a route is `ENETUNREACH`.
pub fn next_hop_mac(dst: Ipv4Addr) -> io::Result<Option<EthAddr>> {
    let Some((ifindex, ip)) = next_hop(dst, &ask(&route_request(dst))?) else { return Ok(None) };
    match ask(&neighbour_request(ifindex, ip)) {
        Ok(body) => Ok(neighbour_mac(&body)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sends one request and returns the body of the answer.
fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let fd = route_socket(SockFlag::SOCK_CLOEXEC, 0)?;
    send(fd.as_raw_fd(), request, MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    answer(buffer.get(..n).unwrap_or_default())
}

fn answer(datagram: &[u8]) -> io::Result<Vec<u8>> {
    let malformed = || io::Error::from_raw_os_error(libc::EPROTO);
    let (len, kind) = u32_at(datagram, 0).zip(u16_at(datagram, 4)).ok_or_else(malformed)?;
    let body = datagram.get(MESSAGE_HEADER..len as usize).ok_or_else(malformed)?;
    if kind == libc::NLMSG_ERROR as u16 {
        let errno = u32_at(body, 0).map_or(libc::EPROTO, |e| (e as i32).wrapping_neg());
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok(body.to_vec())
}

fn route_request(dst: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0; ROUTE_HEADER];
    body[0] = libc::AF_INET as u8;
    body[1] = 32;
    attribute(&mut body, libc::RTA_DST, &dst.octets());
    message(libc::RTM_GETROUTE, libc::NLM_F_REQUEST, 1, &body)
}

/// Device and address of the next hop to `dst`, if it is another host.
fn next_hop(dst: Ipv4Addr, route: &[u8]) -> Option<(u32, Ipv4Addr)> {
    let header = route.first_chunk::<ROUTE_HEADER>()?;
    if header[7] != libc::RTN_UNICAST {
        return None;
    }
    let (mut ifindex, mut ip) = (None, dst);
    for (kind, value) in attributes(route.get(ROUTE_HEADER..)?) {
        match kind {
            libc::RTA_OIF => ifindex = u32_at(value, 0),
            libc::RTA_GATEWAY => ip = Ipv4Addr::from(*value.first_chunk::<4>()?),
            _ => {}
        }
    }
    Some((ifindex?, ip))
}

fn neighbour_request(ifindex: u32, ip: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0; NEIGHBOUR_HEADER];
    body[0] = libc::AF_INET as u8;
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    attribute(&mut body, NEIGHBOUR_IP, &ip.octets());
    message(libc::RTM_GETNEIGH, libc::NLM_F_REQUEST, 1, &body)
}

fn neighbour_mac(body: &[u8]) -> Option<EthAddr> {
    let mut all = attributes(body.get(NEIGHBOUR_HEADER..)?);
    let (_, mac) = all.find(|(kind, _)| *kind == NEIGHBOUR_MAC)?;
    mac.try_into().ok().map(EthAddr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_have_no_next_hop() {
        match next_hop_mac(Ipv4Addr::LOCALHOST) {
            Ok(mac) => assert_eq!(mac, None),
            // A namespace whose loopback device is down.
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::ENETUNREACH)),
        }
    }

    #[test]
    fn answers_are_read_and_never_beyond_their_end() {
        let dst = Ipv4Addr::new(10, 0, 0, 9);
        let gateway = Ipv4Addr::new(10, 0, 1, 1);
        let mut body = vec![0; ROUTE_HEADER];
        body[7] = libc::RTN_UNICAST;
        attribute(&mut body, libc::RTA_OIF, &7u32.to_ne_bytes());
        assert_eq!(next_hop(dst, &body), Some((7, dst)));
        attribute(&mut body, libc::RTA_GATEWAY, &gateway.octets());
        assert_eq!(next_hop(dst, &body), Some((7, gateway)));
        let whole = message(libc::RTM_NEWROUTE, 0, 1, &body);
        assert_eq!(answer(&whole).expect("a route"), body);
        for cut in 0..whole.len() {
            assert!(answer(&whole[..cut]).is_err());
        }
        let error = message(libc::NLMSG_ERROR as u16, 0, 1, &(-libc::ENETUNREACH).to_ne_bytes());
        assert_eq!(answer(&error).expect_err("none").raw_os_error(), Some(libc::ENETUNREACH));
        let mut neighbour = vec![0; NEIGHBOUR_HEADER];
        attribute(&mut neighbour, NEIGHBOUR_IP, &dst.octets());
        assert_eq!(neighbour_mac(&neighbour), None, "being looked for");
        attribute(&mut neighbour, NEIGHBOUR_MAC, &[2, 0, 0, 0, 0, 9]);
        assert_eq!(neighbour_mac(&neighbour), Some(EthAddr([2, 0, 0, 0, 0, 9])));
    }
}
