//! `tap` and `internal`: a kernel device that we make and whose other side the host sees.
//!
//! The device is persistent while the daemon runs (so a killed daemon leaves it, with its addresses, to its
//! successor) and is removed when the port is, unless [`Netdev::keep_on_drop`] said otherwise.

use crate::device::*;
use crate::linux::LinuxDevice;
use crate::pool;
use crate::qos::{QosReport, QosSettings};
use crate::sys::{silence, tun};
use crate::system::{ALL_OFFLOADS, warn_unused};
use crate::virtio::{self, HEADER_LEN};
use flow::EthAddr;
use packet::Batch;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Label of the device's descriptor among handed-over ones.
const TAP: &str = "tap";
const ETHERNET_HEADER: usize = 14;

pub struct TapDevice {
    kind: &'static str,
    device: Arc<LinuxDevice>,
    file: Arc<File>,
    keep: AtomicBool,
}

impl TapDevice {
    /// Makes the device, or takes it over from `fds` or from a daemon that left it behind.
    pub(crate) fn new(
        kind: &'static str,
        device: Arc<LinuxDevice>,
        fds: Vec<(String, OwnedFd)>,
    ) -> io::Result<Self> {
        let adopted = fds.into_iter().find(|(label, _)| label == TAP);
        let file = match adopted.map(|(_, fd)| tun::device_of(fd)).transpose()? {
            Some((file, name)) if name == device.name => file,
            Some(_) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            None => tun::open(&device.name)?,
        };
        tun::set_persistent(&file, true)?;
        device.refresh()?;
        Ok(TapDevice { kind, device, file: Arc::new(file), keep: AtomicBool::new(false) })
    }
}

impl Drop for TapDevice {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            let _ = tun::set_persistent(&self.file, false);
        }
    }
}

impl Netdev for TapDevice {
    fn name(&self) -> &str {
        &self.device.name
    }
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn datapath_kind(&self) -> &'static str {
        "tap"
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
    /// The kernel counts from the host's side; the switch's side is the mirror image.
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
        let stats = self.device.kernel_stats()?;
        let k = stats.common;
        let drops = self.device.rx_drops();
        let common = dpif::PortStats {
            rx_packets: k.tx_packets,
            tx_packets: k.rx_packets,
            rx_bytes: k.tx_bytes,
            tx_bytes: k.rx_bytes,
            rx_errors: k.tx_errors,
            tx_errors: k.rx_errors,
            rx_dropped: k.tx_dropped + drops.too_big + drops.malformed + drops.policed,
            tx_dropped: k.rx_dropped,
            multicast: k.multicast,
            collisions: k.collisions,
            ..dpif::PortStats::default()
        };
        Ok(DeviceStats { common, ..stats })
    }
    fn status(&self) -> StringMap {
        self.device.status()
    }
    fn change_seq(&self) -> u64 {
        self.device.change_seq()
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        Ok(vec![Box::new(TapRx { device: self.device.clone(), file: self.file.clone(), lost: false })])
    }
    fn open_tx(&self, _thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Ok(Box::new(TapTx { file: self.file.clone() }))
    }
    fn tx_offloads(&self) -> TxOffloads {
        ALL_OFFLOADS
    }
    fn rx_drops(&self) -> RxDrops {
        self.device.rx_drops()
    }
    fn keep_on_drop(&self, keep: bool) {
        self.keep.store(keep, Ordering::Relaxed);
    }
    fn handover(&self) -> Vec<(String, OwnedFd)> {
        let fd = self.file.as_fd().try_clone_to_owned();
        fd.ok().map(|fd| (TAP.to_owned(), fd)).into_iter().collect()
    }
}

struct TapRx {
    device: Arc<LinuxDevice>,
    file: Arc<File>,
    /// The device was deleted and could not be made again.
    lost: bool,
}

impl RxQueue for TapRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        let mut budget = batch.remaining_capacity();
        while budget > 0 && !self.lost {
            budget -= 1;
            let mut packet = pool::packet();
            let mut header = [0; HEADER_LEN];
            let vectors = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(packet.space_mut())];
            match (&*self.file).read_vectored(vectors) {
                Ok(n) => {
                    packet.set_len(n.saturating_sub(HEADER_LEN));
                    if packet.len() < ETHERNET_HEADER || virtio::decode(&header, &mut packet).is_err() {
                        self.device.rx.malformed.fetch_add(1, Ordering::Relaxed);
                    } else if self.device.policer.admit(&packet) {
                        batch.push(packet);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::EBADFD) => self.recreate(),
                Err(_) => break,
            }
        }
        batch.len() - before
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

impl TapRx {
    /// Someone deleted the device; the port is still wanted, so it is made again on the same descriptor.
    fn recreate(&mut self) {
        let name = &self.device.name;
        let again = tun::attach(&self.file, name).and_then(|()| tun::set_persistent(&self.file, true));
        match again {
            Ok(()) => tracing::warn!(target: "netdev_linux", "{name}: tap device was deleted, made it again"),
            Err(error) => {
                let text = crate::sys::strerror(&error);
                tracing::warn!(target: "netdev_linux", "{name}: creating tap device failed: {text}");
                self.lost = true;
                let _ = silence(self.file.as_fd());
            }
        }
        let _ = self.device.refresh();
    }
}

struct TapTx {
    file: Arc<File>,
}

impl TxQueue for TapTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let mut outcome = TxOutcome::default();
        for (n, packet) in batch.iter().enumerate() {
            let header = virtio::encode(packet);
            let vectors = &[IoSlice::new(&header), IoSlice::new(packet.data())];
            // A device that is down refuses with EIO; our own idea of its state could be out of date.
            match (&*self.file).write_vectored(vectors) {
                Ok(n) if n == HEADER_LEN + packet.len() => outcome.sent += 1,
                Ok(_) => {
                    outcome.dropped_too_big += 1;
                    outcome.dropped_bytes += packet.len() as u64;
                }
                Err(e) if e.raw_os_error() == Some(libc::EIO) => {
                    // The others need not ask.
                    outcome.refuse(&e, batch.get(n..).unwrap_or_default());
                    break;
                }
                Err(e) => outcome.refuse(&e, std::slice::from_ref(packet)),
            }
        }
        batch.clear();
        outcome
    }
}
