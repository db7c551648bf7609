//! Tap devices (Documentation/networking/tuntap.rst): `/dev/net/tun` and its ioctls.

use super::{check, ifname};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Left out of `libc`: linux/if_tun.h.
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;

/// What we can take from the kernel unfinished, best set first; old kernels refuse the first.
const OFFLOADS: [libc::c_ulong; 2] = {
    let tcp = (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6) as libc::c_ulong | TUN_F_TSO_ECN;
    [tcp | (libc::TUN_F_USO4 | libc::TUN_F_USO6) as libc::c_ulong, tcp]
};

#[repr(C)]
struct IfReq {
    name: [libc::c_char; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Opens the tap device `name`, made if there is none, in frame mode with virtio headers.
pub fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    attach(&file, name)?;
    Ok(file)
}

/// Makes `file`, whose device is gone or never was, the tap `name`.
pub fn attach(file: &File, name: &str) -> io::Result<()> {
    let name = ifname(name).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let mut request = IfReq { name, flags, rest: [0; 22] };
    // SAFETY: the request takes a pointer to a `struct ifreq`; `IfReq` has its size (40 bytes) and the fields
    // that TUNSETIFF reads and writes, and outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    for offloads in OFFLOADS {
        // SAFETY: the argument of TUNSETOFFLOAD is a number, no pointer.
        if check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, offloads) }).is_ok() {
            break;
        }
    }
    Ok(())
}

/// Whether the device outlives its last descriptor.
pub fn set_persistent(file: &File, on: bool) -> io::Result<()> {
    // SAFETY: the argument of TUNSETPERSIST is a number, no pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST as _, libc::c_ulong::from(on)) })
        .map(|_| ())
}

/// The device that `fd` is attached to.
pub fn device_of(fd: OwnedFd) -> io::Result<(File, String)> {
    let file = File::from(fd);
    let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    // SAFETY: as in `attach`; TUNGETIFF writes a `struct ifreq`.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })?;
    let name = request.name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    let name = String::from_utf8(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((file, name))
}
