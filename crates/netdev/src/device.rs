//! The traits that every port type implements.

use crate::burst::{self, Burst};
use crate::qos::{QosReport, QosSettings};
use flow::EthAddr;
use packet::{Batch, Packet};
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Options of `Interface.options`, and keys of `Interface.status`.
pub type StringMap = BTreeMap<String, String>;

/// What the link looks like now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkState {
    pub admin_up: bool,
    pub carrier: bool,
    /// Times that the carrier changed.
    pub carrier_resets: u64,
    /// Bits per second, 0 if unknown.
    pub speed_bps: u64,
    pub full_duplex: Option<bool>,
    pub mtu: u32,
    pub mac: EthAddr,
    pub ifindex: Option<u32>,
    /// OpenFlow 1.1 `ofp_port_features` bits: current, advertised, supported, peer.
    pub features: [u32; 4],
}

#[derive(Debug, thiserror::Error)]
pub enum NetdevError {
    /// The text goes to `Interface.error`.
    #[error("{0}")]
    Config(String),
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    #[error("operation not supported")]
    Unsupported,
}

/// A network device under our control. Methods may be called from any control-plane thread and may block.
pub trait Netdev: Send + Sync {
    fn name(&self) -> &str;
    /// `Interface.type`, with `system` spelled out.
    fn kind(&self) -> &'static str;
    /// Applies `Interface.options`. An error leaves the former configuration in force.
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError>;
    fn options(&self) -> StringMap;
    fn link(&self) -> LinkState;
    fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError>;
    fn set_mtu(&self, mtu: u32) -> Result<(), NetdevError>;
    fn set_admin_up(&self, up: bool) -> Result<(), NetdevError>;
    /// Ingress policing: rate in kbps and burst in kb, 0 for none; the same in kpkts.
    fn set_policing(&self, _rate: Policing) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    /// Types of quality of service that [`Netdev::set_qos`] knows.
    fn qos_types(&self) -> &'static [&'static str] {
        &[]
    }
    /// Makes the queues what the database says, or with `None` what they are by default.
    fn set_qos(&self, _settings: Option<&QosSettings>) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    /// Quality of service as it is; `None` without any.
    fn qos(&self) -> Option<QosReport> {
        None
    }
    /// Counters by their names in `Interface.statistics`.
    fn stats(&self) -> Result<DeviceStats, NetdevError>;
    /// `Interface.status`.
    fn status(&self) -> StringMap {
        StringMap::new()
    }
    /// A number that changes whenever [`Netdev::link`] may say something new.
    fn change_seq(&self) -> u64;

    /// Whether the receive queues want a busy-polling thread (DPDK, vhost-user, `dummy-pmd`) rather than
    /// waiting on a descriptor.
    fn is_polled(&self) -> bool {
        false
    }
    /// Takes the receive queues out. Each has one owner; called once when the port is added, and again
    /// after the former queues were dropped.
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError>;
    /// A sender for one thread's own use. `thread` counts from 0; devices with several transmit queues
    /// spread threads over them.
    fn open_tx(&self, thread: usize) -> Result<Box<dyn TxQueue>, NetdevError>;

    /// The type under which the datapath lists the port (`internal` ports of the userspace datapath are taps).
    fn datapath_kind(&self) -> &'static str {
        self.kind()
    }
    /// Whether [`Netdev::configure`] changed something that takes effect only when the queues are dropped and
    /// opened again.
    fn needs_reopen(&self) -> bool {
        false
    }
    /// Whether the other side uses receive queue `queue` now.
    fn is_rx_enabled(&self, _queue: usize) -> bool {
        true
    }
    /// NUMA node of the device, for the choice of the polling thread.
    fn numa_id(&self) -> Option<u32> {
        None
    }
    /// Whether packets are spread over transmit queues by what they hold (`tx-steering=hash`) rather than by the
    /// thread that sends. Returns whether that is new; devices that cannot ignore it.
    fn set_tx_steering(&self, _by_hash: bool) -> bool {
        false
    }
    /// What the transmit queues take unfinished. A packet that asks for more is finished in software before
    /// [`TxQueue::send`]; a device that gets one all the same drops it as an error.
    fn tx_offloads(&self) -> TxOffloads {
        TxOffloads::default()
    }
    /// Frames that came in but never reached a batch, by cause.
    fn rx_drops(&self) -> RxDrops {
        RxDrops::default()
    }
    /// Whether a device that we made stays in the kernel when this object goes: on hand-over to another
    /// process, or at an exit that leaves internal ports behind.
    fn keep_on_drop(&self, _keep: bool) {}
    /// Copies of the descriptors that carry the port's packets, for [`crate::Env::adopt`] in another process.
    fn handover(&self) -> Vec<(String, OwnedFd)> {
        Vec::new()
    }
    /// The dummy port behind the trait, if it is one.
    fn as_dummy(&self) -> Option<&crate::dummy::DummyDevice> {
        None
    }
    /// The patch port behind the trait, if it is one.
    fn as_patch(&self) -> Option<&crate::vport::Patch> {
        None
    }
    /// The tunnel port behind the trait, if it is one.
    fn as_tunnel(&self) -> Option<&crate::tunnel::TunnelPort> {
        None
    }
}

/// Work that a device does on transmit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxOffloads {
    /// Fills in `Checksum::Partial`.
    pub checksum: bool,
    /// Splits `GsoKind::Tcp4` and `Tcp6`.
    pub tcp_segmentation: bool,
    /// Splits `GsoKind::Udp`.
    pub udp_segmentation: bool,
}

/// Causes of loss before the datapath saw the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxDrops {
    /// Larger than a receive buffer.
    pub too_big: u64,
    /// Shorter than an Ethernet header, or with offload information that contradicts the frame.
    pub malformed: u64,
    /// Over the ingress policing rate.
    pub policed: u64,
    /// The socket's or the device's queue was full.
    pub overrun: u64,
}

/// Ingress policing parameters; zero means "no limit".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policing {
    pub rate_kbps: u32,
    pub burst_kb: u32,
    pub rate_kpps: u32,
    pub burst_kp: u32,
}

/// Device counters; `custom` holds those that have no field (`ovs_tx_retries`, `rx_q0_packets`, ...).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceStats {
    pub common: dpif::PortStats,
    /// Packet size histogram counters and others that only some devices keep.
    pub custom: BTreeMap<String, u64>,
    /// Which of the common counters the device does not keep, by their names in `Interface.statistics` (they
    /// are left out of the database).
    pub absent: Vec<&'static str>,
}

/// Names in `Interface.statistics` and the counters they show, in the order of Open vSwitch.
type CounterName = (&'static str, fn(&dpif::PortStats) -> u64);
const COUNTERS: [CounterName; 14] = [
    ("rx_packets", |s| s.rx_packets),
    ("tx_packets", |s| s.tx_packets),
    ("rx_bytes", |s| s.rx_bytes),
    ("tx_bytes", |s| s.tx_bytes),
    ("rx_dropped", |s| s.rx_dropped),
    ("tx_dropped", |s| s.tx_dropped),
    ("rx_errors", |s| s.rx_errors),
    ("tx_errors", |s| s.tx_errors),
    ("rx_frame_err", |s| s.rx_frame_errors),
    ("rx_over_err", |s| s.rx_over_errors),
    ("rx_crc_err", |s| s.rx_crc_errors),
    ("rx_missed_errors", |s| s.rx_missed_errors),
    ("collisions", |s| s.collisions),
    ("rx_multicast_packets", |s| s.multicast),
];

/// `absent` of a device that counts only packets and bytes.
pub const ONLY_PACKETS_AND_BYTES: [&str; 10] = [
    "rx_dropped",
    "tx_dropped",
    "rx_errors",
    "tx_errors",
    "rx_frame_err",
    "rx_over_err",
    "rx_crc_err",
    "rx_missed_errors",
    "collisions",
    "rx_multicast_packets",
];

impl DeviceStats {
    /// What the device counts, by the names in `Interface.statistics`.
    pub fn statistics(&self) -> BTreeMap<String, u64> {
        let common = COUNTERS.iter().filter(|(name, _)| !self.absent.contains(name));
        let common = common.map(|(name, get)| ((*name).to_owned(), get(&self.common)));
        common.chain(self.custom.clone()).collect()
    }

    /// The common counters, with [`dpif::UNKNOWN`] for those that the device does not keep.
    pub fn with_unknown(&self) -> dpif::PortStats {
        let mut s = self.common;
        for name in &self.absent {
            match *name {
                "rx_packets" => s.rx_packets = dpif::UNKNOWN,
                "tx_packets" => s.tx_packets = dpif::UNKNOWN,
                "rx_bytes" => s.rx_bytes = dpif::UNKNOWN,
                "tx_bytes" => s.tx_bytes = dpif::UNKNOWN,
                "rx_dropped" => s.rx_dropped = dpif::UNKNOWN,
                "tx_dropped" => s.tx_dropped = dpif::UNKNOWN,
                "rx_errors" => s.rx_errors = dpif::UNKNOWN,
                "tx_errors" => s.tx_errors = dpif::UNKNOWN,
                "rx_frame_err" => s.rx_frame_errors = dpif::UNKNOWN,
                "rx_over_err" => s.rx_over_errors = dpif::UNKNOWN,
                "rx_crc_err" => s.rx_crc_errors = dpif::UNKNOWN,
                "rx_missed_errors" => s.rx_missed_errors = dpif::UNKNOWN,
                // Who keeps no collisions keeps no other transmit errors either.
                "collisions" => {
                    s.collisions = dpif::UNKNOWN;
                    s.tx_aborted_errors = dpif::UNKNOWN;
                    s.tx_carrier_errors = dpif::UNKNOWN;
                }
                "rx_multicast_packets" => s.multicast = dpif::UNKNOWN,
                _ => {}
            }
        }
        s
    }

    /// One of the common counters by its name in `Interface.statistics`; `None` if the device does not keep it.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let (name, get) = COUNTERS.iter().find(|(n, _)| *n == name)?;
        (!self.absent.contains(name)).then(|| get(&self.common))
    }
}

/// One receive queue, owned by one thread.
pub trait RxQueue: Send {
    /// Appends waiting packets to `batch` until it is full, without waiting. Returns how many came.
    fn recv(&mut self, batch: &mut Batch) -> usize;
    /// Receives without making packets, for a driver that lends its buffers; `None` if [`RxQueue::recv`] is
    /// to be called instead this time. What is left of the burst is dropped by the next call.
    fn burst(&mut self) -> Option<&mut dyn Burst> {
        None
    }
    /// Readable when packets wait; `None` for queues that can only be polled.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;
    /// Packets that a guest has in the queue; `None` of any other queue, and where that cannot be told just now.
    fn waiting(&self) -> Option<usize> {
        None
    }
}

/// One sender, owned by one thread.
pub trait TxQueue: Send {
    /// Sends all of `batch` and empties it. What could not be sent is dropped and reported by cause.
    fn send(&mut self, batch: &mut Batch) -> TxOutcome;

    /// Sends the packets at those places of `burst` whose bits are set, and empties the places.
    fn send_burst(&mut self, burst: &mut dyn Burst, places: u32) -> TxOutcome {
        burst::send_as_batch(self, burst, places)
    }

    /// Sends packets as those at these places, which stay in `burst`: it [`Burst::can_copy`].
    fn send_copies(&mut self, burst: &mut dyn Burst, places: u32) -> TxOutcome {
        burst::send_copies_as_batch(self, burst, places)
    }

    /// The queue (`set_queue`, number of a row of the QoS table's `queues`) that the batches to come go to; 0, the
    /// default queue, at first. A device without queues takes no notice.
    fn set_queue(&mut self, _queue: u32) {}
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxOutcome {
    pub sent: u32,
    pub dropped_too_big: u32,
    pub dropped_full: u32,
    pub dropped_down: u32,
    pub dropped_error: u32,
    /// Of all that was not sent.
    pub dropped_bytes: u64,
}

impl std::ops::AddAssign for TxOutcome {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.dropped_too_big += other.dropped_too_big;
        self.dropped_full += other.dropped_full;
        self.dropped_down += other.dropped_down;
        self.dropped_error += other.dropped_error;
        self.dropped_bytes += other.dropped_bytes;
    }
}

impl TxOutcome {
    /// All that was not sent.
    pub fn dropped(&self) -> u32 {
        self.dropped_too_big + self.dropped_full + self.dropped_down + self.dropped_error
    }

    /// Counts packets that the kernel refused with `error`.
    pub(crate) fn refuse(&mut self, error: &std::io::Error, packets: &[Packet]) {
        let cause = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => &mut self.dropped_too_big,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => &mut self.dropped_full,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EIO | libc::EBADFD) => {
                &mut self.dropped_down
            }
            _ => &mut self.dropped_error,
        };
        *cause += packets.len() as u32;
        self.dropped_bytes += packets.iter().map(|p| p.len() as u64).sum::<u64>();
    }
}
