//! The traits that every port type implements.

use flow::EthAddr;
use packet::Batch;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

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
    /// Which of the common counters the device does not keep (they are left out of the database).
    pub absent: Vec<&'static str>,
}

/// One receive queue, owned by one thread.
pub trait RxQueue: Send {
    /// Appends waiting packets to `batch` until it is full, without waiting. Returns how many came.
    fn recv(&mut self, batch: &mut Batch) -> usize;
    /// Readable when packets wait; `None` for queues that can only be polled.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// One sender, owned by one thread.
pub trait TxQueue: Send {
    /// Sends all of `batch` and empties it. What could not be sent is dropped and reported by cause.
    fn send(&mut self, batch: &mut Batch) -> TxOutcome;
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxOutcome {
    pub sent: u32,
    pub dropped_too_big: u32,
    pub dropped_full: u32,
    pub dropped_down: u32,
    pub dropped_error: u32,
}
