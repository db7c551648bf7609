//! Receiving file descriptors: the one place where a number becomes an owned descriptor.
//!
//! This speaks to recvmsg(2) itself, since nix reports cut-off control data as an error without handing out the
//! descriptors that did arrive, which nobody could close then.
#![allow(unsafe_code)] // recvmsg(2), and descriptors that arrive as plain numbers

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors of one packet that this side sends, at most; the kernel's own limit is 253.
pub(crate) const MAX_PER_PACKET: usize = 64;
/// 64-bit words for control data: a header and as many descriptors as the kernel lets through.
const CONTROL_WORDS: usize = 2 + 253 / 2 + 2;

/// One packet as it was received.
pub struct Packet {
    /// Bytes of the packet that are in the buffer.
    pub length: usize,
    pub fds: Vec<OwnedFd>,
    /// The packet or its descriptors did not fit, or this process may not open more.
    pub truncated: bool,
}

/// Receives one packet into `buffer`. Descriptors are closed on exec, and closed if the packet is dropped.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet, Errno> {
    // Words, so that the headers in it are aligned.
    let mut control = [0u64; CONTROL_WORDS];
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: `message` describes `buffer` and `control`, which nothing else uses until after the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(Errno::result(length)?).unwrap_or(0);
    let truncated = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Packet { length, fds: take_fds(&message), truncated })
}

/// Takes over the descriptors that a successful recvmsg has put into `message`'s control data.
fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled in msg_control and msg_controllen.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header that lies wholly inside the control data.
    while let Some(control) = unsafe { header.as_ref() } {
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the header is valid, and its data starts this far behind it.
            let (data, prefix) = unsafe { (libc::CMSG_DATA(header), libc::CMSG_LEN(0) as usize) };
            let count = control.cmsg_len.saturating_sub(prefix) / size_of::<RawFd>();
            for i in 0..count {
                // SAFETY: the kernel wrote `count` descriptors here. It has just made them for this process, and
                // nothing else knows them, so that this may own them.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(i).read_unaligned()) });
            }
        }
        // SAFETY: `header` is a header of this message's control data.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}
