//! ethtool's ioctl (linux/ethtool.h): speed, link modes and driver names.

use super::{check, ifname};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GSET: u32 = 1;
const GDRVINFO: u32 = 3;

/// `struct ethtool_cmd`: what the legacy call tells of a link.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct LinkSettings {
    cmd: u32,
    pub supported: u32,
    pub advertising: u32,
    speed_low: u16,
    pub duplex: u8,
    pub port: u8,
    phy_address: u8,
    transceiver: u8,
    pub autoneg: u8,
    mdio_support: u8,
    maxtxpkt: u32,
    maxrxpkt: u32,
    speed_high: u16,
    eth_tp_mdix: u8,
    eth_tp_mdix_ctrl: u8,
    pub lp_advertising: u32,
    reserved: [u32; 2],
}

impl LinkSettings {
    /// Megabits per second; `None` when the driver does not know.
    pub fn speed_mbps(&self) -> Option<u32> {
        let speed = u32::from(self.speed_high) << 16 | u32::from(self.speed_low);
        (speed != u32::MAX && speed != u32::from(u16::MAX)).then_some(speed)
    }
}

/// `struct ethtool_drvinfo`.
#[derive(Clone, Copy)]
#[repr(C)]
struct DriverInfoRaw {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rest: [u8; 64],
}

/// Names for `Interface.status`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DriverInfo {
    pub driver: String,
    pub version: String,
    pub firmware: String,
}

#[repr(C)]
struct IfReq<T> {
    name: [libc::c_char; libc::IFNAMSIZ],
    data: *mut T,
    rest: [u8; 16],
}

/// Runs one command. `T` is the C structure that the command number in its first word calls for.
fn run<T: Copy>(socket: BorrowedFd<'_>, name: &str, value: &mut T) -> io::Result<()> {
    let name = ifname(name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let mut request = IfReq { name, data: std::ptr::from_mut(value), rest: [0; 16] };
    // SAFETY: the request points to `value`, borrowed mutably; the two callers pass the structure that the
    // kernel reads and writes for their command, in its C layout and full size.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) }).map(|_| ())
}

/// Speed, duplex and link modes. `socket` is any socket of the device's network namespace.
pub fn link_settings(socket: BorrowedFd<'_>, name: &str) -> io::Result<LinkSettings> {
    let mut settings = LinkSettings { cmd: GSET, ..LinkSettings::default() };
    run(socket, name, &mut settings)?;
    Ok(settings)
}

/// Driver, version and firmware.
pub fn driver_info(socket: BorrowedFd<'_>, name: &str) -> io::Result<DriverInfo> {
    let mut raw = DriverInfoRaw {
        cmd: GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        bus: [0; 32],
        rest: [0; 64],
    };
    run(socket, name, &mut raw)?;
    let text =
        |b: &[u8; 32]| String::from_utf8_lossy(b.split(|c| *c == 0).next().unwrap_or_default()).into_owned();
    Ok(DriverInfo { driver: text(&raw.driver), version: text(&raw.version), firmware: text(&raw.firmware) })
}
