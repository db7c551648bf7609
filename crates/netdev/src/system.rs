//! `system`: a device that exists in the kernel, used through packet sockets (packet(7)).
//!
//! We take a copy of what comes in, with checksums and super-packets as they are; the host's own protocol stack
//! gets its copy too, as with Open vSwitch, so a port should have no addresses. What we send does not come
//! back. Lifecycle: the device may go down, vanish, and come back under another index; the socket is bound
//! again when [`LinkMonitor`](crate::link::LinkMonitor) (or a question for the state) says so.

use crate::device::*;
use crate::linux::LinuxDevice;
use crate::qos::{QosReport, QosSettings};
use crate::sys::packet_socket::{Frame, PacketSocket, VlanTag};
use crate::{tc, virtio};
use flow::EthAddr;
use packet::{Batch, Packet};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Label of the receive socket among handed-over descriptors.
const RX: &str = "rx";
const ETHERNET_HEADER: usize = 14;

pub struct SystemDevice {
    device: Arc<LinuxDevice>,
    /// The receive socket while a queue is open.
    rx: Mutex<Weak<PacketSocket>>,
    /// A socket from another process, until the queue is opened.
    adopted: Mutex<Option<PacketSocket>>,
}

impl SystemDevice {
    /// `fds` come from [`Netdev::handover`] of another process and may be empty.
    pub(crate) fn new(device: Arc<LinuxDevice>, fds: Vec<(String, OwnedFd)>) -> Self {
        let adopted = fds.into_iter().find(|(label, _)| label == RX).map(|(_, fd)| PacketSocket::adopt(fd));
        SystemDevice { device, rx: Mutex::default(), adopted: Mutex::new(adopted) }
    }

    fn open_socket(&self) -> io::Result<Arc<PacketSocket>> {
        // An adopted socket keeps the frames that wait in it, and is bound again in case the device changed.
        let adopted = self.adopted.lock().take();
        let socket = Arc::new(adopted.map_or_else(PacketSocket::new, Ok)?);
        if let Some(index) = self.device.ifindex() {
            socket.bind_receive(index)?;
        }
        Ok(socket)
    }
}

impl Netdev for SystemDevice {
    fn name(&self) -> &str {
        &self.device.name
    }
    fn kind(&self) -> &'static str {
        "system"
    }
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError> {
        warn_unused(&self.device.name, options);
        Ok(())
    }
    fn options(&self) -> StringMap {
        StringMap::new()
    }
    fn link(&self) -> LinkState {
        self.device.link()
    }
    fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError> {
        self.device.set_mac(mac)
    }
    fn set_mtu(&self, mtu: u32) -> Result<(), NetdevError> {
        self.device.set_mtu(mtu)
    }
    fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        self.device.set_admin_up(up)
    }
    fn set_policing(&self, policing: Policing) -> Result<(), NetdevError> {
        self.device.set_policing(policing);
        Ok(())
    }
    fn qos_types(&self) -> &'static [&'static str] {
        &crate::qos::TYPES
    }
    fn set_qos(&self, settings: Option<&QosSettings>) -> Result<(), NetdevError> {
        self.device.set_qos(settings)
    }
    fn qos(&self) -> Option<QosReport> {
        self.device.qos()
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        self.device.kernel_stats()
    }
    fn status(&self) -> StringMap {
        self.device.status()
    }
    fn change_seq(&self) -> u64 {
        self.device.change_seq()
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        let socket = self.open_socket().map_err(|source| NetdevError::Io {
            context: format!("{}: packet socket", self.device.name),
            source,
        })?;
        let (weak, name) = (Arc::downgrade(&socket), self.device.name.clone());
        *self.rx.lock() = weak.clone();
        self.device.set_on_index(Some(Box::new(move |index| {
            let Some(socket) = weak.upgrade() else { return };
            if let Err(error) = socket.bind_receive(index) {
                let text = crate::sys::strerror(&error);
                tracing::warn!(target: "netdev_linux", "{name}: failed to bind raw socket ({text})");
            }
        })));
        Ok(vec![Box::new(SystemRx { device: self.device.clone(), socket })])
    }
    fn open_tx(&self, _thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        let socket = PacketSocket::new().map_err(|source| NetdevError::Io {
            context: format!("{}: packet socket", self.device.name),
            source,
        })?;
        Ok(Box::new(SystemTx { device: self.device.clone(), socket, queue: 0 }))
    }
    fn tx_offloads(&self) -> TxOffloads {
        ALL_OFFLOADS
    }
    fn rx_drops(&self) -> RxDrops {
        if let Some(rx) = self.rx.lock().upgrade() {
            self.device.rx.overrun.fetch_add(rx.take_overruns(), Ordering::Relaxed);
        }
        self.device.rx_drops()
    }
    fn handover(&self) -> Vec<(String, OwnedFd)> {
        let socket = self.rx.lock().upgrade();
        socket.and_then(|s| s.try_clone_fd().ok()).map(|fd| (RX.to_owned(), fd)).into_iter().collect()
    }
}

/// The kernel finishes what a device cannot.
pub(crate) const ALL_OFFLOADS: TxOffloads =
    TxOffloads { checksum: true, tcp_segmentation: true, udp_segmentation: true };

/// Says what Open vSwitch says about options of a type that has none.
pub(crate) fn warn_unused(name: &str, options: &StringMap) {
    if !options.is_empty() {
        tracing::warn!(target: "netdev", "{name}: arguments provided to device that is not configurable");
    }
}

struct SystemRx {
    device: Arc<LinuxDevice>,
    socket: Arc<PacketSocket>,
}

/// How many frames that the kernel could not describe to us (`EINVAL`) one call skips.
const SKIP_MAX: usize = 8;

impl RxQueue for SystemRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        for _ in 0..SKIP_MAX {
            let room = batch.remaining_capacity();
            let result = self.socket.receive(room, |frame| {
                if let Some(packet) = accept(&self.device, frame) {
                    batch.push(packet);
                }
            });
            match result.map_err(|e| e.raw_os_error()) {
                // A frame whose offloads the virtio header cannot express is lost; the next may be fine.
                Err(Some(libc::EINVAL)) => {
                    self.device.rx.malformed.fetch_add(1, Ordering::Relaxed);
                }
                // Down or gone (said once), or nothing there.
                _ => break,
            }
        }
        batch.len() - before
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// Checks and completes a received frame.
fn accept(device: &LinuxDevice, frame: Frame) -> Option<Packet> {
    let Frame { mut packet, header, tag, truncated } = frame;
    if truncated {
        device.rx.too_big.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    if packet.len() < ETHERNET_HEADER || virtio::decode(&header, &mut packet).is_err() {
        device.rx.malformed.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    if let Some(tag) = tag {
        restore_tag(&mut packet, tag);
    }
    device.policer.admit(&packet).then_some(packet)
}

/// Puts the tag that the kernel took out back behind the Ethernet addresses.
fn restore_tag(packet: &mut Packet, tag: VlanTag) {
    let data = packet.push_front(4);
    data.copy_within(4..16, 0);
    data[12..14].copy_from_slice(&tag.tpid.to_be_bytes());
    data[14..16].copy_from_slice(&tag.tci.to_be_bytes());
}

struct SystemTx {
    device: Arc<LinuxDevice>,
    socket: PacketSocket,
    /// What the socket's priority stands for.
    queue: u32,
}

impl TxQueue for SystemTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let mut outcome = TxOutcome::default();
        let Some(index) = self.device.ifindex() else {
            outcome.dropped_down = batch.len() as u32;
            outcome.dropped_bytes = batch.iter().map(|p| p.len() as u64).sum();
            batch.clear();
            return outcome;
        };
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let done = match self.socket.send(index, rest) {
                Ok(n) => {
                    outcome.sent += n as u32;
                    n.max(1)
                }
                // The socket's own memory is used up: the rest would fare no better.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    outcome.refuse(&e, rest);
                    rest.len()
                }
                Err(e) => {
                    outcome.refuse(&e, rest.get(..1).unwrap_or_default());
                    1
                }
            };
            rest = rest.get(done..).unwrap_or_default();
        }
        batch.clear();
        outcome
    }

    fn set_queue(&mut self, queue: u32) {
        if queue != self.queue && self.socket.set_priority(tc::priority_of(queue)).is_ok() {
            self.queue = queue;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::Checksum;

    #[test]
    fn tag_goes_behind_the_addresses_and_moves_the_checksum() {
        let mut p = Packet::from_slice(&(0..60).collect::<Vec<u8>>());
        p.offload.checksum = Checksum::Partial { start: 34, offset: 16 };
        restore_tag(&mut p, VlanTag { tpid: 0x88a8, tci: 0x6005 });
        assert_eq!(p.data()[..18], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x88, 0xa8, 0x60, 5, 12, 13]);
        assert_eq!(p.offload.checksum, Checksum::Partial { start: 38, offset: 16 });
    }
}
