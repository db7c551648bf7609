//! AF_PACKET sockets (packet(7)): batches of frames with their virtio headers and VLAN tags.

use super::{check, set_option};
use crate::pool;
use crate::virtio::{self, HEADER_LEN, Header};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use packet::{BATCH_LEN, Packet};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Not in `libc` for Linux: packet(7), since 4.20.
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_VNET_HDR: i32 = 15;
/// Socket buffers: room for about 30 super-packets with the kernel's overhead.
const SOCKET_BUFFER: i32 = 4 << 20;
/// Room for `struct tpacket_auxdata` as a control message, with some to spare.
const CONTROL: usize = 64;

/// The VLAN tag that the kernel took out of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanTag {
    pub tpid: u16,
    pub tci: u16,
}

/// One received frame; its virtio header has not been looked at.
pub struct Frame {
    pub packet: Packet,
    pub header: Header,
    pub tag: Option<VlanTag>,
    /// The frame was larger than [`pool::FRAME_MAX`] and its end is lost.
    pub truncated: bool,
}

/// A raw packet socket.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket that receives nothing until [`PacketSocket::bind_receive`] and may send at once.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = PacketSocket(socket(AddressFamily::Packet, SockType::Raw, flags, None)?);
        let fd = socket.0.as_fd();
        set_option(fd, libc::SOL_PACKET, PACKET_VNET_HDR, 1_i32)?;
        // Beyond the administrator's limit if we may, else up to it.
        for (force, plain) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            set_option(fd, libc::SOL_SOCKET, force, SOCKET_BUFFER)
                .or_else(|_| set_option(fd, libc::SOL_SOCKET, plain, SOCKET_BUFFER))?;
        }
        Ok(socket)
    }

    /// A socket that another process prepared with [`PacketSocket::new`].
    pub fn adopt(fd: OwnedFd) -> Self {
        PacketSocket(fd)
    }

    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Receives from now on what comes in at `ifindex`, whatever its destination, and not what is sent there.
    /// May be called again when the device came back under another index.
    pub fn bind_receive(&self, ifindex: u32) -> io::Result<()> {
        let fd = self.0.as_fd();
        set_option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1_i32)?;
        set_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1_i32)?;
        let address = address(ifindex, libc::ETH_P_ALL as u16);
        // SAFETY: the pointer and length describe `address`, which the kernel only reads.
        let rc = unsafe {
            libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), ADDRESS_LEN as libc::socklen_t)
        };
        check(rc)?;
        let promiscuous = libc::packet_mreq {
            mr_ifindex: ifindex as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, promiscuous)
    }

    /// Frames that the kernel dropped because the socket's buffer was full, since the last call.
    pub fn take_overruns(&self) -> u64 {
        let mut stats = [0_u32; 2];
        let mut len = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, the size of `stats`, and both outlive the call.
        let rc = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if rc == 0 { u64::from(stats[1]) } else { 0 }
    }

    /// Takes up to `want` frames and hands each to `each`. An error means that none came.
    pub fn receive(&self, want: usize, each: impl FnMut(Frame)) -> io::Result<usize> {
        ARENA.with_borrow_mut(|arena| arena.receive(self.0.as_fd(), want.min(BATCH_LEN), each))
    }

    /// The kernel's `skb->priority` of packets to come (socket(7), `SO_PRIORITY`): of a device with queues the handle
    /// of a class.
    pub fn set_priority(&self, priority: u32) -> io::Result<()> {
        set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, priority)
    }

    /// Sends `packets` in order to `ifindex` until one is refused. Returns how many went out; an error
    /// concerns the first packet.
    pub fn send(&self, ifindex: u32, packets: &[Packet]) -> io::Result<usize> {
        let mut address = address(ifindex, 0);
        let packets = packets.get(..BATCH_LEN).unwrap_or(packets);
        let mut headers: [Header; BATCH_LEN] =
            std::array::from_fn(|i| packets.get(i).map_or([0; HEADER_LEN], virtio::encode));
        let mut iovecs: [[libc::iovec; 2]; BATCH_LEN] = std::array::from_fn(|i| {
            let data = packets.get(i).map_or(&[][..], Packet::data);
            [
                iovec(headers[i].as_mut_ptr(), HEADER_LEN),
                // The kernel does not write through the vectors of a send.
                iovec(data.as_ptr().cast_mut(), data.len()),
            ]
        });
        let mut messages: [libc::mmsghdr; BATCH_LEN] = std::array::from_fn(|i| {
            let mut m = empty_message();
            m.msg_hdr.msg_name = (&raw mut address).cast();
            m.msg_hdr.msg_namelen = ADDRESS_LEN as libc::socklen_t;
            m.msg_hdr.msg_iov = iovecs[i].as_mut_ptr();
            m.msg_hdr.msg_iovlen = 2;
            m
        });
        loop {
            // SAFETY: the first `packets.len()` messages point to `address`, `iovecs`, `headers` and packet
            // data, all of which outlive the call; the kernel reads them and writes only `msg_len`.
            let rc =
                unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), packets.len() as u32, 0) };
            match check(rc) {
                Ok(n) => return Ok(n as usize),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const ADDRESS_LEN: usize = size_of::<libc::sockaddr_ll>();

fn address(ifindex: u32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn iovec(base: *mut u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: base.cast(), iov_len: len }
}

fn empty_message() -> libc::mmsghdr {
    // SAFETY: all-zero is a valid value of this C structure of integers and pointers.
    unsafe { std::mem::zeroed() }
}

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::new(Arena::default());
}

/// Control message space, aligned as `struct cmsghdr` wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// What a thread needs for a receive call: shared by all its queues, so that a thousand ports do not hold
/// a thousand sets of buffers.
#[derive(Default)]
struct Arena {
    /// Empty packets that wait to be filled; up to `BATCH_LEN`.
    spare: Vec<Packet>,
}

impl Arena {
    fn receive(&mut self, fd: BorrowedFd<'_>, want: usize, mut each: impl FnMut(Frame)) -> io::Result<usize> {
        while self.spare.len() < want {
            self.spare.push(pool::packet());
        }
        // Packets are taken from the end of the list, so that those used last are used first.
        let first = self.spare.len() - want;
        let mut headers = [[0_u8; HEADER_LEN]; BATCH_LEN];
        let mut controls = [Control([0; CONTROL]); BATCH_LEN];
        let mut iovecs = [[iovec(std::ptr::null_mut(), 0); 2]; BATCH_LEN];
        let mut messages: [libc::mmsghdr; BATCH_LEN] = std::array::from_fn(|_| empty_message());
        for (i, packet) in self.spare.iter_mut().skip(first).rev().enumerate() {
            let space = packet.space_mut();
            iovecs[i] = [iovec(headers[i].as_mut_ptr(), HEADER_LEN), iovec(space.as_mut_ptr(), space.len())];
            let m = &mut messages[i].msg_hdr;
            m.msg_iov = iovecs[i].as_mut_ptr();
            m.msg_iovlen = 2;
            m.msg_control = controls[i].0.as_mut_ptr().cast();
            m.msg_controllen = CONTROL as _;
        }
        let n = loop {
            // SAFETY: the first `want` messages point to `iovecs` and `controls`; the vectors to `headers` and to
            // the memory of distinct packets in `self.spare`, with their true lengths. None of these is moved,
            // freed or otherwise referenced before the call returns.
            let rc = unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    want as u32,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            match check(rc) {
                Ok(n) => break n as usize,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        };
        for i in 0..n {
            let Some(mut packet) = self.spare.pop() else { break };
            let message = &messages[i];
            packet.set_len((message.msg_len as usize).saturating_sub(HEADER_LEN));
            let used = (message.msg_hdr.msg_controllen as usize).min(CONTROL);
            each(Frame {
                packet,
                header: headers[i],
                tag: tag(&controls[i].0[..used]),
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(n)
    }
}

/// Finds the VLAN tag in control messages (`struct cmsghdr` then `struct tpacket_auxdata`, packet(7)).
fn tag(mut control: &[u8]) -> Option<VlanTag> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let word = |b: &[u8], at: usize| Some(u32::from_ne_bytes(*b.get(at..)?.first_chunk()?));
    let half = |b: &[u8], at: usize| Some(u16::from_ne_bytes(*b.get(at..)?.first_chunk()?));
    loop {
        let len = usize::from_ne_bytes(*control.first_chunk()?);
        let level = word(control, HEADER - 8)? as i32;
        let kind = word(control, HEADER - 4)? as i32;
        let body = control.get(HEADER..len)?;
        if (level, kind) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // tp_status, tp_len, tp_snaplen: 4 bytes each; tp_mac, tp_net, tp_vlan_tci, tp_vlan_tpid: 2 each.
            let status = word(body, 0)?;
            let tci = half(body, 16)?;
            if tci == 0 && status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if known { half(body, 18)? } else { libc::ETH_P_8021Q as u16 };
            return Some(VlanTag { tpid, tci });
        }
        control = control.get(len.next_multiple_of(size_of::<usize>())..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auxdata(status: u32, tci: u16, tpid: u16) -> Vec<u8> {
        let mut m = Vec::new();
        m.extend((size_of::<libc::cmsghdr>() + 20).to_ne_bytes());
        m.extend(libc::SOL_PACKET.to_ne_bytes());
        m.extend(libc::PACKET_AUXDATA.to_ne_bytes());
        m.extend(status.to_ne_bytes());
        m.extend([0; 12]);
        m.extend(tci.to_ne_bytes());
        m.extend(tpid.to_ne_bytes());
        m
    }

    #[test]
    fn tags_in_auxiliary_data() {
        assert_eq!(tag(&[]), None);
        assert_eq!(tag(&auxdata(0, 0, 0)), None);
        let valid = libc::TP_STATUS_VLAN_VALID;
        assert_eq!(tag(&auxdata(valid, 0, 0)), Some(VlanTag { tpid: 0x8100, tci: 0 }), "priority tag");
        let both = valid | libc::TP_STATUS_VLAN_TPID_VALID;
        assert_eq!(tag(&auxdata(both, 0x2007, 0x88a8)), Some(VlanTag { tpid: 0x88a8, tci: 0x2007 }));
        let m = auxdata(both, 7, 0x8100);
        for cut in 0..m.len() {
            assert_eq!(tag(&m[..cut]), None);
        }
        let mut zero = m;
        zero[..8].fill(0);
        assert_eq!(tag(&zero), None, "a length of zero ends the list");
    }
}
