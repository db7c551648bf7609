//! Link state of kernel devices, and the one descriptor that tells when it changes.

use crate::device::LinkState;
use crate::netlink::{LinkInfo, Listener, Message, Socket};
use crate::sys::ethtool::{self, DriverInfo};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Sockets for questions to the kernel. They speak of the network namespace of the thread that made them.
pub struct Kernel {
    pub links: Socket,
    ioctl: OwnedFd,
}

impl Kernel {
    pub fn new() -> io::Result<Self> {
        let ioctl = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Kernel { links: Socket::new()?, ioctl })
    }

    /// Speed, duplex and link modes into `link`; zeros where the driver does not say.
    pub fn fill_settings(&self, name: &str, link: &mut LinkState) {
        let Ok(settings) = ethtool::link_settings(self.ioctl.as_fd(), name) else { return };
        link.speed_bps = settings.speed_mbps().map_or(0, |m| u64::from(m) * 1_000_000);
        link.full_duplex = match settings.duplex {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        link.features = crate::features::of_settings(&settings);
    }

    pub fn driver_info(&self, name: &str) -> io::Result<DriverInfo> {
        ethtool::driver_info(self.ioctl.as_fd(), name)
    }
}

/// What the kernel announced about a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkEvent {
    pub name: String,
    pub ifindex: u32,
    pub kind: LinkEventKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEventKind {
    /// It is there, new or changed.
    Present,
    /// It went away, or no longer has this name.
    Gone,
    /// Announcements were lost; every device was looked at afresh. `name` is empty.
    Resync,
}

/// A device that wants to hear of its own changes.
pub(crate) trait LinkWatcher: Send + Sync {
    /// `None`: there is no device of this name.
    fn link_changed(&self, info: Option<&LinkInfo>);
}

/// Listens for changes of links and passes them on to the open devices.
///
/// The owner waits until [`LinkMonitor::fd`] is readable and calls [`LinkMonitor::drain`].
pub struct LinkMonitor {
    listener: Mutex<Listener>,
    /// The listener's descriptor again, to be lent out without the lock.
    fd: OwnedFd,
    kernel: Arc<Kernel>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    devices: HashMap<String, Weak<dyn LinkWatcher>>,
    /// The name under which an index was last seen, to notice that it was renamed.
    names: HashMap<u32, String>,
}

impl LinkMonitor {
    pub fn new(kernel: Arc<Kernel>) -> io::Result<Self> {
        let listener = Listener::new(libc::RTMGRP_LINK as u32)?;
        let fd = listener.fd().try_clone_to_owned()?;
        Ok(LinkMonitor { listener: Mutex::new(listener), fd, kernel, watched: Mutex::default() })
    }

    /// Readable when [`LinkMonitor::drain`] has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn watch(&self, name: &str, device: Weak<dyn LinkWatcher>) {
        let mut watched = self.watched.lock();
        watched.devices.retain(|_, d| d.strong_count() > 0);
        watched.devices.insert(name.to_owned(), device);
    }

    /// Takes in all announcements and tells the devices concerned.
    pub fn drain(&self) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        loop {
            let batch = self.listener.lock().read();
            match batch {
                Ok(Some(messages)) => messages.iter().for_each(|m| self.announce(m, &mut events)),
                Ok(None) => return events,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => self.resync(&mut events),
                Err(error) => {
                    tracing::warn!(target: "netlink_notifier", "netlink receive error ({})", crate::sys::strerror(&error));
                    return events;
                }
            }
        }
    }

    fn announce(&self, message: &Message, events: &mut Vec<LinkEvent>) {
        let (info, kind) = match message {
            Message::NewLink(info) => (info, LinkEventKind::Present),
            Message::DelLink(info) => (info, LinkEventKind::Gone),
            _ => return,
        };
        let present = kind == LinkEventKind::Present;
        let former = {
            let names = &mut self.watched.lock().names;
            if present { names.insert(info.ifindex, info.name.clone()) } else { names.remove(&info.ifindex) }
        };
        if let Some(former) = former.filter(|f| *f != info.name) {
            self.tell(&former, None);
            events.push(LinkEvent { name: former, ifindex: info.ifindex, kind: LinkEventKind::Gone });
        }
        self.tell(&info.name, present.then_some(info));
        events.push(LinkEvent { name: info.name.clone(), ifindex: info.ifindex, kind });
    }

    fn tell(&self, name: &str, info: Option<&LinkInfo>) {
        let device = self.watched.lock().devices.get(name).and_then(Weak::upgrade);
        if let Some(device) = device {
            device.link_changed(info);
        }
    }

    fn resync(&self, events: &mut Vec<LinkEvent>) {
        let names: Vec<String> = {
            let mut watched = self.watched.lock();
            watched.names.clear();
            watched.devices.keys().cloned().collect()
        };
        for name in names {
            self.tell(&name, self.kernel.links.link(&name).ok().as_ref());
        }
        events.push(LinkEvent { name: String::new(), ifindex: 0, kind: LinkEventKind::Resync });
    }
}
