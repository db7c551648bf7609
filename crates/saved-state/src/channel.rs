//! The hand-over channel: messages with bytes and file descriptors between two processes of one user.
//!
//! The socket is a SOCK_SEQPACKET pair or connection. A message is a head packet, then packets of descriptors, then
//! packets of bytes; the head says how many of each follow:
//!
//! ```text
//! head: "OVSH"  kind u32  descriptors u32  bytes u64     (little-endian)
//! ```
//!
//! Calls block, no longer than the [timeout](Channel::set_timeout) for each packet, so they belong on a thread of
//! their own. After an error the channel is of no more use.

use crate::container::{Container, FormatError, MAX_CONTAINER};
use crate::fds::{self, MAX_PER_PACKET, Packet};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout, SendTimeout, SockType as SockTypeOption};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sendmsg, setsockopt, socketpair,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::geteuid;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;
use thiserror::Error;

/// Descriptors of one message, at most.
pub const MAX_FDS: usize = 65_536;

const MAGIC: &[u8; 4] = b"OVSH";
const HEAD: usize = 20;
/// Bytes of one packet; the kernel's default send buffer has room for several.
const PACKET: usize = 32 << 10;

/// The hand-over cannot go on.
#[derive(Debug, Error)]
pub enum ChannelError {
    #[error("{}", .0.desc())]
    Io(#[from] Errno),
    #[error("the other process closed the channel")]
    Closed,
    #[error("the other process belongs to user {0}")]
    Peer(u32),
    #[error("not a sequenced-packet socket")]
    SocketType,
    /// The other side does not keep to the protocol.
    #[error("bad packet: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// One message. What `kind` means is for the two sides to agree on.
#[derive(Debug, Default)]
pub struct Message {
    pub kind: u32,
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// One end of a channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Two connected ends.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Channel { socket: a }, Channel { socket: b }))
    }

    /// A channel over a connected socket, if the other end belongs to this user or root.
    pub fn from_socket(socket: OwnedFd) -> Result<Channel, ChannelError> {
        if getsockopt(&socket, SockTypeOption)? != SockType::SeqPacket {
            return Err(ChannelError::SocketType);
        }
        let peer = getsockopt(&socket, PeerCredentials)?.uid();
        if peer != 0 && peer != geteuid().as_raw() {
            return Err(ChannelError::Peer(peer));
        }
        Ok(Channel { socket })
    }

    /// How long the other side may take for each packet; without a limit at first.
    pub fn set_timeout(&self, timeout: Duration) -> Result<(), ChannelError> {
        let value = TimeVal::milliseconds(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).max(1));
        setsockopt(&self.socket, ReceiveTimeout, &value)?;
        setsockopt(&self.socket, SendTimeout, &value)?;
        Ok(())
    }

    /// Sends a message. The descriptors stay open here too.
    pub fn send(&self, kind: u32, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if fds.len() > MAX_FDS || bytes.len() > MAX_CONTAINER {
            return Err(ChannelError::Protocol("message too large"));
        }
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&(fds.len() as u32).to_le_bytes());
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.send_packet(&head, &[])?;
        for some in fds.chunks(MAX_PER_PACKET) {
            let numbers: Vec<RawFd> = some.iter().map(AsRawFd::as_raw_fd).collect();
            // A packet without bytes would look like the end of the connection.
            self.send_packet(&[0], &numbers)?;
        }
        bytes.chunks(PACKET).try_for_each(|some| self.send_packet(some, &[]))
    }

    fn send_packet(&self, bytes: &[u8], fds: &[RawFd]) -> Result<(), ChannelError> {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        loop {
            let slices = [IoSlice::new(bytes)];
            match sendmsg::<()>(self.socket.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(e) => return Err(e.into()),
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(ChannelError::Protocol("packet sent in part")),
            }
        }
    }

    /// Receives a message of at most `limit` bytes. Descriptors of a message that is refused are closed.
    pub fn recv(&self, limit: usize) -> Result<Message, ChannelError> {
        let mut buffer = vec![0; PACKET];
        let head = self.recv_packet(&mut buffer)?;
        let (kind, fd_count, length) = parse_head(&head, &buffer)?;
        if length > limit.min(MAX_CONTAINER) as u64 || fd_count > MAX_FDS {
            return Err(ChannelError::Protocol("message too large"));
        }
        let mut message = Message { kind, ..Message::default() };
        while message.fds.len() < fd_count {
            let packet = self.recv_packet(&mut buffer)?;
            let missing = fd_count - message.fds.len();
            if packet.length != 1 || packet.fds.is_empty() || packet.fds.len() > missing {
                return Err(ChannelError::Protocol("descriptors expected"));
            }
            message.fds.extend(packet.fds);
        }
        while (message.bytes.len() as u64) < length {
            let packet = self.recv_packet(&mut buffer)?;
            let some = buffer.get(..packet.length).unwrap_or_default();
            if !packet.fds.is_empty() || (message.bytes.len() + some.len()) as u64 > length {
                return Err(ChannelError::Protocol("bytes expected"));
            }
            message.bytes.extend_from_slice(some);
        }
        Ok(message)
    }

    fn recv_packet(&self, buffer: &mut [u8]) -> Result<Packet, ChannelError> {
        loop {
            match fds::receive(self.socket.as_fd(), buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(e) => return Err(e.into()),
                Ok(packet) if packet.truncated => {
                    return Err(ChannelError::Protocol("packet or descriptors cut off"));
                }
                Ok(packet) if packet.length == 0 => return Err(ChannelError::Closed),
                Ok(packet) => return Ok(packet),
            }
        }
    }

    /// Sends state with the descriptors that belong to it.
    pub fn send_state(
        &self,
        kind: u32,
        state: &Container,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        self.send(kind, &state.to_bytes()?, fds)
    }

    /// Receives state with the descriptors that belong to it, and the message's kind.
    pub fn recv_state(&self) -> Result<(u32, Container, Vec<OwnedFd>), ChannelError> {
        let message = self.recv(MAX_CONTAINER)?;
        Ok((message.kind, Container::from_bytes(&message.bytes)?, message.fds))
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.socket
    }
}

fn parse_head(packet: &Packet, buffer: &[u8]) -> Result<(u32, usize, u64), ChannelError> {
    let head = buffer.get(..packet.length).unwrap_or_default();
    let bad = ChannelError::Protocol("message head expected");
    let parse = || {
        let (kind, rest) = head.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (fds, rest) = rest.split_first_chunk()?;
        let length: &[u8; 8] = rest.try_into().ok()?;
        Some((u32::from_le_bytes(*kind), u32::from_le_bytes(*fds) as usize, u64::from_le_bytes(*length)))
    };
    if packet.fds.is_empty() { parse().ok_or(bad) } else { Err(bad) }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
