//! The port: what threads and the front end's thread share, and [`Netdev`] over it.

use crate::link::{Link, Mode};
use crate::queue::VhostRx;
use crate::saved;
use crate::sender::VhostTx;
use crate::session::{RINGS_MAX, Rings};
use crate::stats::{self, RingStats};
use crate::vring::Vring;
use flow::EthAddr;
use netdev::policer::Policer;
use netdev::{
    DeviceStats, LinkState, Netdev, NetdevError, Policing, Provider, RxDrops, RxQueue, StringMap, TxOffloads,
    TxQueue,
};
use parking_lot::Mutex;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::{Duration, Instant};

/// Tries to send what found no buffers, by default and at most (`options:tx-retries-max`).
const RETRIES_DEFAULT: u32 = 8;
const RETRIES_MAX: u32 = 32;
const MTU_DEFAULT: u32 = 1500;
const MTU_MAX: u32 = 9702;
const MTU_MIN: u32 = 68;
/// How long a ring that stops waits for frames that are under way.
const STOP_PATIENCE: Duration = Duration::from_millis(50);

/// One ring as the polling threads have it.
#[derive(Default)]
#[repr(align(64))]
pub struct Slot {
    pub ring: Mutex<Option<Box<Vring>>>,
    pub enabled: AtomicBool,
    /// Some of the ring's buffers are in a burst of [`crate::mem::frames`] that is not over.
    pub in_use: Arc<AtomicBool>,
    pub stats: RingStats,
}

impl Slot {
    /// Waits until no burst has the ring's buffers, for a while: a frame that is still somewhere then keeps its memory,
    /// and arrives with whatever the guest puts there. No new burst may begin: whoever calls this has the ring.
    fn wait_for_burst(&self) {
        let begin = Instant::now();
        while self.in_use.load(Acquire) && begin.elapsed() < STOP_PATIENCE {
            std::thread::yield_now();
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What is counted for the whole port.
        #[derive(Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64),* }
    };
}

counters! {
    rx_too_big,
    rx_malformed,
    /// Times that the guest broke the rules of a ring.
    violations,
    tx_retries,
    tx_failure_drops,
    tx_mtu_exceeded_drops,
    tx_offload_drops,
}

/// What all threads of a port share.
pub struct Shared {
    pub name: String,
    pub slots: Box<[Slot]>,
    pub counters: Counters,
    /// Rings that some front end ever started, at least 2.
    pub rings: AtomicUsize,
    /// Moves with every change of which rings run.
    pub generation: AtomicU64,
    /// A guest broke the rules: nothing moves until it starts anew.
    pub broken: AtomicBool,
    /// An address to announce, with the top bit set.
    pub announce: AtomicU64,
    /// The port is administratively up.
    pub admin_up: AtomicBool,
    pub policer: Policer,
    pub mtu: AtomicU32,
    pub retries_max: AtomicU32,
    /// Packets choose their transmit queue by their hash (`tx-steering=hash`), not by the thread that sends them.
    pub by_hash: AtomicBool,
    pub seq: AtomicU64,
    pub connected: AtomicBool,
    pub carrier_resets: AtomicU64,
    /// `Interface.status` beyond the mode, as the front end's thread writes it.
    pub status: Mutex<StringMap>,
    pub numa: Mutex<Option<u32>>,
}

/// Marks a value of [`Shared::announce`].
pub const ANNOUNCE: u64 = 1 << 63;

impl Shared {
    pub fn new(name: &str) -> Self {
        Shared {
            name: name.to_owned(),
            slots: (0..RINGS_MAX).map(|_| Slot::default()).collect(),
            counters: Counters::default(),
            rings: AtomicUsize::new(2),
            generation: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            announce: AtomicU64::new(0),
            admin_up: AtomicBool::new(true),
            policer: Policer::default(),
            mtu: AtomicU32::new(MTU_DEFAULT),
            retries_max: AtomicU32::new(RETRIES_DEFAULT),
            by_hash: AtomicBool::new(false),
            seq: AtomicU64::new(1),
            connected: AtomicBool::new(false),
            carrier_resets: AtomicU64::new(0),
            status: Mutex::default(),
            numa: Mutex::default(),
        }
    }

    /// Whether frames move at all.
    #[inline]
    pub fn is_usable(&self) -> bool {
        !self.broken.load(Relaxed) && self.admin_up.load(Relaxed)
    }

    pub fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
        self.seq.fetch_add(1, Relaxed);
    }

    /// Takes note that the guest broke the rules.
    pub fn violated(&self, ring: usize, violation: crate::ring::Violation) {
        self.counters.violations.fetch_add(1, Relaxed);
        if !self.broken.swap(true, Relaxed) {
            tracing::warn!(target: "netdev_vhost",
                "{}: the guest broke ring {ring} ({violation}); the port rests until it starts anew", self.name);
        }
    }

    /// Whether frames can go to the guest.
    pub fn carrier(&self) -> bool {
        self.connected.load(Relaxed) && self.slots.iter().any(|s| s.enabled.load(Relaxed))
    }
}

/// The front end's thread changes rings through this.
impl Rings for &Shared {
    fn start(&mut self, index: usize, ring: Box<Vring>) {
        if let Some(slot) = self.slots.get(index) {
            *slot.ring.lock() = Some(ring);
            self.broken.store(false, Relaxed);
            self.rings.fetch_max((index + 1).next_multiple_of(2), Relaxed);
            self.changed();
        }
    }
    fn stop(&mut self, index: usize) -> Option<u32> {
        let slot = self.slots.get(index)?;
        let mut ring = slot.ring.lock().take()?;
        self.changed();
        slot.wait_for_burst();
        Some(ring.stop())
    }
    fn enable(&mut self, index: usize, enabled: bool) {
        if let Some(slot) = self.slots.get(index) {
            slot.enabled.store(enabled, Relaxed);
            self.changed();
        }
    }
    fn announce(&mut self, mac: [u8; 6]) {
        let [a, b, c, d, e, f] = mac;
        self.announce.store(ANNOUNCE | u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Relaxed);
    }
}

/// A vhost-user port.
pub struct VhostDevice {
    kind: &'static str,
    mode: Mode,
    shared: Arc<Shared>,
    link: Mutex<Option<Link>>,
    path: Mutex<Option<PathBuf>>,
    options: Mutex<StringMap>,
    mac: Mutex<EthAddr>,
    /// Receive queues when they were last opened.
    opened: AtomicUsize,
    /// A session from another process, until the path is known.
    adopted: Mutex<Option<saved::Adopted>>,
}

impl VhostDevice {
    fn new(
        kind: &'static str,
        mode: Mode,
        name: &str,
        path: Option<PathBuf>,
        adopted: Option<saved::Adopted>,
    ) -> io::Result<Self> {
        let device = VhostDevice {
            kind,
            mode,
            shared: Arc::new(Shared::new(name)),
            link: Mutex::default(),
            path: Mutex::default(),
            options: Mutex::default(),
            mac: Mutex::new(EthAddr::ZERO),
            opened: AtomicUsize::new(0),
            adopted: Mutex::new(adopted),
        };
        path.map_or(Ok(()), |path| device.set_path(path))?;
        Ok(device)
    }

    fn set_path(&self, path: PathBuf) -> io::Result<()> {
        let mut current = self.path.lock();
        if current.as_ref() == Some(&path) {
            return Ok(());
        }
        let mut link = self.link.lock();
        // The former one ends first: both would change the same rings.
        drop(link.take());
        *link = Some(Link::start(self.mode, &path, self.shared.clone(), self.adopted.lock().take())?);
        if self.mode == Mode::Client {
            tracing::info!(target: "netdev_dpdk",
                "vHost User device '{}' created in 'client' mode, using client socket '{}'",
                self.shared.name, path.display());
        }
        *current = Some(path);
        Ok(())
    }

    fn queues(&self) -> usize {
        self.shared.rings.load(Relaxed) / 2
    }
}

impl Netdev for VhostDevice {
    fn name(&self) -> &str {
        &self.shared.name
    }
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError> {
        let retries = options.get("tx-retries-max").and_then(|n| n.parse().ok());
        let retries = retries.filter(|n| *n <= RETRIES_MAX).unwrap_or(RETRIES_DEFAULT);
        if self.shared.retries_max.swap(retries, Relaxed) != retries {
            tracing::info!(target: "netdev_dpdk",
                "Max Tx retries for vhost device '{}' set to {retries}", self.shared.name);
        }
        if let (Mode::Client, Some(path)) = (self.mode, options.get("vhost-server-path")) {
            self.set_path(path.into()).map_err(|source| NetdevError::Io {
                context: format!("{}: {path}", self.shared.name),
                source,
            })?;
        }
        options.clone_into(&mut self.options.lock());
        Ok(())
    }
    fn options(&self) -> StringMap {
        self.options.lock().clone()
    }
    fn link(&self) -> LinkState {
        LinkState {
            admin_up: self.shared.admin_up.load(Relaxed),
            carrier: self.shared.carrier(),
            carrier_resets: self.shared.carrier_resets.load(Relaxed),
            mtu: self.shared.mtu.load(Relaxed),
            mac: *self.mac.lock(),
            ..LinkState::default()
        }
    }
    fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError> {
        *self.mac.lock() = mac;
        self.shared.seq.fetch_add(1, Relaxed);
        Ok(())
    }
    fn set_mtu(&self, mtu: u32) -> Result<(), NetdevError> {
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            return Err(NetdevError::Config(format!("an MTU of {mtu} is not possible")));
        }
        self.shared.mtu.store(mtu, Relaxed);
        self.shared.seq.fetch_add(1, Relaxed);
        Ok(())
    }
    fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        self.shared.admin_up.store(up, Relaxed);
        self.shared.seq.fetch_add(1, Relaxed);
        Ok(())
    }
    fn set_policing(&self, rate: Policing) -> Result<(), NetdevError> {
        // Open vSwitch polices these ports by bits only.
        self.shared.policer.set(Policing { rate_kpps: 0, burst_kp: 0, ..rate });
        Ok(())
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        Ok(stats::of_port(&self.shared))
    }
    fn status(&self) -> StringMap {
        let mut status = self.shared.status.lock().clone();
        let is_connected = self.shared.connected.load(Relaxed);
        let mode = if self.mode == Mode::Client { "client" } else { "server" };
        status.insert("mode".into(), mode.into());
        status.insert("status".into(), if is_connected { "connected" } else { "disconnected" }.into());
        status
    }
    fn change_seq(&self) -> u64 {
        self.shared.seq.load(Relaxed)
    }
    fn is_polled(&self) -> bool {
        true
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        let n = self.queues();
        self.opened.store(n, Relaxed);
        let queue = |i| Box::new(VhostRx::new(self.shared.clone(), i)) as Box<dyn RxQueue>;
        Ok((0..n).map(queue).collect())
    }
    fn open_tx(&self, thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Ok(Box::new(VhostTx::new(self.shared.clone(), thread)))
    }
    fn needs_reopen(&self) -> bool {
        let opened = self.opened.load(Relaxed);
        opened != 0 && opened != self.queues()
    }
    fn is_rx_enabled(&self, queue: usize) -> bool {
        self.shared.slots.get(2 * queue + 1).is_some_and(|s| s.enabled.load(Relaxed))
    }
    fn numa_id(&self) -> Option<u32> {
        *self.shared.numa.lock()
    }
    fn set_tx_steering(&self, by_hash: bool) -> bool {
        self.shared.by_hash.swap(by_hash, Relaxed) != by_hash
    }
    /// What the guest does not take is finished in software by the queue, which knows at each moment.
    fn tx_offloads(&self) -> TxOffloads {
        TxOffloads { checksum: true, tcp_segmentation: true, udp_segmentation: true }
    }
    fn rx_drops(&self) -> RxDrops {
        let c = &self.shared.counters;
        RxDrops {
            too_big: c.rx_too_big.load(Relaxed),
            malformed: c.rx_malformed.load(Relaxed),
            policed: self.shared.policer.dropped(),
            ..RxDrops::default()
        }
    }
    fn handover(&self) -> Vec<(String, OwnedFd)> {
        self.link.lock().as_ref().map(Link::save).unwrap_or_default()
    }
}

/// Opens ports of both types.
pub struct VhostPorts {
    socket_dir: Mutex<PathBuf>,
}

impl VhostPorts {
    /// `dir` is where `dpdkvhostuser` ports make their sockets.
    pub fn new(dir: &Path) -> Self {
        VhostPorts { socket_dir: Mutex::new(dir.to_owned()) }
    }

    /// Sets what `other_config:vhost-sock-dir` leads to, for ports that are opened from now on.
    pub fn set_socket_dir(&self, dir: &Path) {
        dir.clone_into(&mut self.socket_dir.lock());
    }
}

const CLIENT: &str = "dpdkvhostuserclient";
const SERVER: &str = "dpdkvhostuser";

impl Provider for VhostPorts {
    fn types(&self) -> &'static [&'static str] {
        &[SERVER, CLIENT]
    }
    fn open(
        &self,
        kind: &'static str,
        name: &str,
        fds: Vec<(String, OwnedFd)>,
    ) -> io::Result<Arc<dyn Netdev>> {
        let adopted = saved::Adopted::from_fds(fds)?;
        if kind == CLIENT {
            return Ok(Arc::new(VhostDevice::new(kind, Mode::Client, name, None, adopted)?));
        }
        if name.contains(['/', '\\']) {
            tracing::error!(target: "netdev_dpdk",
                "\"{name}\" is not a valid name for a vhost-user port. A valid name must not include '/' or '\\'");
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let path = self.socket_dir.lock().join(name);
        let device = VhostDevice::new(kind, Mode::Server, name, Some(path.clone()), adopted)?;
        tracing::info!(target: "netdev_dpdk", "Socket {} created for vhost-user port {name}", path.display());
        tracing::warn!(target: "netdev_dpdk",
            "dpdkvhostuser ports are considered deprecated;  please migrate to dpdkvhostuserclient ports.");
        Ok(Arc::new(device))
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
