//! System calls: the only files of this crate with `unsafe`.
//!
//! Each function here is safe to call with any arguments; what the kernel is told to write goes to memory
//! that the function itself owns or borrows mutably.

#![allow(unsafe_code)] // raw system calls that no safe wrapper offers

pub mod ethtool;
pub mod packet_socket;
pub mod tun;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The C library's text for an error number, as Open vSwitch prints it.
pub fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// [`strerror`] of a bare number.
pub fn errno_text(errno: i32) -> String {
    strerror(&io::Error::from_raw_os_error(errno))
}

/// A device name as the kernel's `struct ifreq` holds it; `None` if it does not fit.
pub(crate) fn ifname(name: &str) -> Option<[libc::c_char; libc::IFNAMSIZ]> {
    let mut out = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= out.len() || name.contains(['\0', '/']) {
        return None;
    }
    for (to, from) in out.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Some(out)
}

/// `setsockopt` for an option whose value is one plain C structure or integer.
pub(crate) fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: i32, option: i32, value: T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns; the kernel only
    // reads from it.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(rc).map(|_| ())
}

/// Turns C's -1 into the error it stands for.
pub(crate) fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// A descriptor that never becomes readable, put in the place of `fd` (same number), so that those who wait
/// on `fd` fall asleep instead of spinning on its error state.
pub(crate) fn silence(fd: BorrowedFd<'_>) -> io::Result<()> {
    let quiet = nix::sys::eventfd::EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_CLOEXEC)?;
    // SAFETY: both descriptors are open; dup3 changes what the number `fd` refers to, and its owner closes
    // that number as before.
    let rc =
        unsafe { libc::dup3(std::os::fd::AsFd::as_fd(&quiet).as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
    check(rc).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_those_of_the_c_library() {
        assert_eq!(errno_text(libc::ENODEV), "No such device");
        assert_eq!(errno_text(libc::EAFNOSUPPORT), "Address family not supported by protocol");
        assert_eq!(strerror(&io::Error::other("own text")), "own text");
    }

    #[test]
    fn names_that_the_kernel_refuses() {
        assert!(ifname("").is_none() && ifname("a/b").is_none());
        assert!(ifname("sixteen-letters-").is_none());
        assert!(ifname("fifteen-letters").is_some());
    }
}
