//! Ethernet ports of DPDK. Errors are errno values as DPDK returns them, made positive.

use super::raw;
use super::text::{c_string, copy};
use flow::EthAddr;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};

/// A port's number. DPDK checks it wherever it is used outside of receiving and sending; who looks at what belongs to
/// the device keeps it from going meanwhile ([`look`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port(pub(super) u16);

/// An errno.
pub type Errno = c_int;
pub const ENOTSUP: Errno = 95;
pub const EBUSY: Errno = 16;

const PORTS_MAX: usize = raw::RTE_MAX_ETHPORTS as usize;
/// Ports that are set up, or being closed: whoever does either has set the port's flag.
static IN_USE: [AtomicBool; PORTS_MAX] = [const { AtomicBool::new(false) }; PORTS_MAX];
/// Held where devices come and go, and where they are looked for.
static DEVICES: Mutex<()> = Mutex::new(());
/// Ports that are never closed.
static KEPT: [AtomicBool; PORTS_MAX] = [const { AtomicBool::new(false) }; PORTS_MAX];
/// Held by those who look at a device's memory, and by who takes a device away. One that comes disturbs nobody.
static MEMORY: RwLock<()> = RwLock::new(());

/// Keeps devices where they are, and what their drivers know of them: DPDK checks a port's number, but not that nobody
/// takes it away meanwhile. Not to be held twice by a thread.
pub(super) fn look() -> RwLockReadGuard<'static, ()> {
    MEMORY.read()
}

/// A port that nobody else sets up or closes.
#[derive(Debug)]
pub(super) struct Claim(Port);

impl Claim {
    pub fn new(port: Port) -> Result<Self, Errno> {
        let flag = IN_USE.get(usize::from(port.0)).ok_or(EBUSY)?;
        if flag.swap(true, Ordering::Acquire) { Err(EBUSY) } else { Ok(Claim(port)) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(flag) = IN_USE.get(usize::from(self.0.0)) {
            flag.store(false, Ordering::Release);
        }
    }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(result.saturating_neg()) } else { Ok(()) }
}

/// What a driver says of its port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub driver: String,
    pub bus: String,
    pub bus_info: Option<String>,
    pub min_rx_bufsize: u32,
    pub max_rx_queues: u16,
    pub max_tx_queues: u16,
    pub max_mac_addrs: u32,
    pub max_hash_mac_addrs: u32,
    pub max_vfs: u16,
    pub max_vmdq_pools: u16,
    /// All of IPv4, UDP and TCP checksums on receive.
    pub rx_checksum: bool,
    pub rx_scatter: bool,
    pub keep_crc: bool,
    pub is_representor: bool,
    rss: u64,
}

/// The link as the driver sees it now. Speed in Mbps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub speed_mbps: u32,
    pub is_up: bool,
    pub full_duplex: bool,
    pub autoneg: bool,
}

/// What a port is configured with before it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub lsc_interrupt: bool,
    pub scatter: bool,
    pub rx_checksum: bool,
    pub keep_crc: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub no_buffer: u64,
}

/// Flow control of a link: pause frames received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowControl {
    pub rx: bool,
    pub tx: bool,
    pub autoneg: bool,
}

/// All ports that no other part of the process owns.
pub fn all() -> Vec<Port> {
    let next = |from: u16| {
        // SAFETY: takes any number.
        let found = unsafe { raw::rte_eth_find_next_owned_by(from, 0) };
        u16::try_from(found).ok().filter(|p| *p < raw::SHIM_NO_PORT)
    };
    std::iter::successors(next(0), |p| next(p + 1)).map(Port).collect()
}

/// The first port that matches device arguments.
pub fn find(devargs: &str) -> Option<Port> {
    let _devices = DEVICES.lock();
    let devargs = c_string(devargs);
    // SAFETY: a plain C structure that all-zero bytes are valid for.
    let mut iterator: raw::rte_dev_iterator = unsafe { zeroed() };
    // SAFETY: `devargs` outlives the iterator, which is cleaned up unless it came to its end by itself.
    unsafe {
        if raw::rte_eth_iterator_init(&mut iterator, devargs.as_ptr()) != 0 {
            return None;
        }
        let port = raw::rte_eth_iterator_next(&mut iterator);
        if port == raw::SHIM_NO_PORT {
            return None;
        }
        raw::rte_eth_iterator_cleanup(&mut iterator);
        Some(Port(port)).filter(|p| p.is_valid())
    }
}

/// Attaches the device that `devargs` names.
pub fn attach(devargs: &str) -> Result<(), Errno> {
    let _devices = DEVICES.lock();
    let devargs = c_string(devargs);
    // SAFETY: a string that DPDK copies.
    check(unsafe { raw::rte_dev_probe(devargs.as_ptr()) })
}

impl Port {
    /// The number, as the database shows it.
    pub fn number(self) -> u16 {
        self.0
    }

    pub fn is_valid(self) -> bool {
        // SAFETY: takes any number.
        unsafe { raw::rte_eth_dev_is_valid_port(self.0) != 0 }
    }

    fn raw_info(self) -> Option<raw::rte_eth_dev_info> {
        // SAFETY: a plain C structure that all-zero bytes are valid for.
        let mut info: raw::rte_eth_dev_info = unsafe { zeroed() };
        // SAFETY: fills in the structure.
        let result = unsafe { raw::rte_eth_dev_info_get(self.0, &mut info) };
        (result == 0).then_some(info)
    }

    pub fn info(self) -> Option<Info> {
        let _memory = look();
        let info = self.raw_info()?;
        // SAFETY: DPDK fills in static strings, a pointer to the device's flags, and the device, all of which
        // live while the port is not closed, for which the lock is held.
        let (driver, bus, bus_info, flags) = unsafe {
            let has_device = !info.device.is_null();
            let bus = if has_device {
                copy(raw::rte_bus_name(raw::rte_dev_bus(info.device)))
            } else {
                String::new()
            };
            let details = if has_device { raw::rte_dev_bus_info(info.device) } else { null() };
            let flags = if info.dev_flags.is_null() { 0 } else { *info.dev_flags };
            (copy(info.driver_name), bus, (!details.is_null()).then(|| copy(details)), flags)
        };
        Some(Info {
            driver,
            bus,
            bus_info,
            min_rx_bufsize: info.min_rx_bufsize,
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            max_mac_addrs: info.max_mac_addrs,
            max_hash_mac_addrs: info.max_hash_mac_addrs,
            max_vfs: info.max_vfs,
            max_vmdq_pools: info.max_vmdq_pools,
            rx_checksum: info.rx_offload_capa & raw::SHIM_RX_CHECKSUM == raw::SHIM_RX_CHECKSUM,
            rx_scatter: info.rx_offload_capa & raw::SHIM_RX_SCATTER != 0,
            keep_crc: info.rx_offload_capa & raw::SHIM_RX_KEEP_CRC != 0,
            is_representor: flags & raw::SHIM_DEV_REPRESENTOR != 0,
            rss: info.flow_type_rss_offloads & raw::SHIM_RSS_IP_UDP_TCP,
        })
    }

    /// NUMA node; `None` if the kernel does not know it.
    pub fn socket(self) -> Option<u32> {
        // SAFETY: takes any number.
        u32::try_from(unsafe { raw::rte_eth_dev_socket_id(self.0) }).ok()
    }

    /// As [`Port::socket`], with -1 for what is not known.
    pub fn socket_number(self) -> i32 {
        // SAFETY: takes any number.
        unsafe { raw::rte_eth_dev_socket_id(self.0) }
    }

    pub fn mac(self) -> Option<EthAddr> {
        let _memory = look();
        let mut mac = raw::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: fills in the address of a device that stays.
        (unsafe { raw::rte_eth_macaddr_get(self.0, &mut mac) } == 0).then_some(EthAddr(mac.addr_bytes))
    }

    pub fn set_mac(self, mac: EthAddr) -> Result<(), Errno> {
        let _memory = look();
        let mut mac = raw::rte_ether_addr { addr_bytes: mac.0 };
        // SAFETY: reads the address; the device stays.
        check(unsafe { raw::rte_eth_dev_default_mac_addr_set(self.0, &mut mac) })
    }

    /// Configures a stopped port; DPDK refuses one that is started.
    pub fn configure(self, n_rxq: u16, n_txq: u16, info: &Info, setup: Setup) -> Result<(), Errno> {
        // SAFETY: a plain C structure for which all-zero bytes are valid and mean the defaults.
        let mut conf: raw::rte_eth_conf = unsafe { zeroed() };
        let offload = |wanted: bool, bit: u64| if wanted { bit } else { 0 };
        conf.rxmode.offloads = offload(setup.scatter, raw::SHIM_RX_SCATTER)
            | offload(setup.rx_checksum, raw::SHIM_RX_CHECKSUM)
            | offload(setup.keep_crc, raw::SHIM_RX_KEEP_CRC);
        conf.intr_conf.set_lsc(setup.lsc_interrupt.into());
        conf.rx_adv_conf.rss_conf.rss_hf = info.rss;
        conf.rxmode.mq_mode = if info.rss == 0 { raw::RTE_ETH_MQ_RX_NONE } else { raw::RTE_ETH_MQ_RX_RSS };
        // SAFETY: reads the structure.
        check(unsafe { raw::rte_eth_dev_configure(self.0, n_rxq, n_txq, &conf) })
    }

    /// Brings a device that asked for it back to its first state; it must not be started.
    pub fn reset(self) -> Result<(), Errno> {
        let _claim = Claim::new(self)?;
        // SAFETY: nobody uses the port's queues while it is claimed here.
        check(unsafe { raw::rte_eth_dev_reset(self.0) })
    }

    /// Has the port stay for ever, of no use to anybody: its driver would not survive its end.
    pub fn keep(self) {
        if let Some(kept) = KEPT.get(usize::from(self.0)) {
            kept.store(true, Ordering::Release);
        }
    }

    pub fn is_kept(self) -> bool {
        KEPT.get(usize::from(self.0)).is_some_and(|k| k.load(Ordering::Acquire))
    }

    /// Closes the port, and with `remove` takes its device out of DPDK, with the other ports of it. None of
    /// them may be started.
    pub fn close(self, remove: bool) -> Result<(), Errno> {
        let ports = if remove { self.siblings() } else { vec![self] };
        if ports.iter().any(|p| p.is_kept()) {
            return Err(EBUSY);
        }
        let _claims = ports.into_iter().map(Claim::new).collect::<Result<Vec<_>, _>>()?;
        let _devices = DEVICES.lock();
        let _memory = MEMORY.write();
        let device = self.raw_info().map(|i| i.device).filter(|d| !d.is_null());
        // SAFETY: nobody uses the port's queues, or those of its siblings, while they are claimed here, nor
        // looks at the device's memory. The device outlives its ports.
        unsafe {
            raw::rte_eth_dev_close(self.0);
            match device.filter(|_| remove) {
                Some(device) => check(raw::rte_dev_remove(device)),
                None => Ok(()),
            }
        }
    }

    /// All ports of the device that this one belongs to, itself included.
    pub fn siblings(self) -> Vec<Port> {
        let next = |from: u16| {
            // SAFETY: takes any numbers.
            Some(unsafe { raw::rte_eth_find_next_sibling(from, self.0) }).filter(|p| *p < raw::SHIM_NO_PORT)
        };
        std::iter::successors(next(0), |p| next(p + 1)).map(Port).collect()
    }

    pub fn set_mtu(self, mtu: u16) -> Result<(), Errno> {
        let _memory = look();
        // SAFETY: takes any numbers; the device stays.
        check(unsafe { raw::rte_eth_dev_set_mtu(self.0, mtu) })
    }

    pub fn mtu(self) -> u16 {
        let _memory = look();
        let mut mtu = 0;
        // SAFETY: fills in the number, of a device that stays.
        unsafe { raw::rte_eth_dev_get_mtu(self.0, &mut mtu) };
        mtu
    }

    /// Receives frames for any address.
    pub fn listen_to_all(self) {
        let _memory = look();
        // SAFETY: takes any number; the device stays. Drivers that cannot do either receive everything anyway.
        unsafe {
            raw::rte_eth_promiscuous_enable(self.0);
            raw::rte_eth_allmulticast_enable(self.0);
        }
    }

    /// Whether the device has asked to be reset since this was last asked.
    pub fn take_reset(self) -> bool {
        RESETS.get(usize::from(self.0)).is_some_and(|asked| asked.swap(false, Ordering::Relaxed))
    }

    pub fn set_link_up(self, up: bool) -> Result<(), Errno> {
        let _memory = look();
        // SAFETY: takes any number; the device stays.
        check(unsafe {
            if up { raw::rte_eth_dev_set_link_up(self.0) } else { raw::rte_eth_dev_set_link_down(self.0) }
        })
    }

    /// Does not wait for the link to settle.
    pub fn link(self) -> Link {
        let _memory = look();
        // SAFETY: a plain C structure that all-zero bytes are valid for, and that the call fills in; the device stays.
        let mut link: raw::rte_eth_link = unsafe { zeroed() };
        // SAFETY: as above.
        unsafe { raw::rte_eth_link_get_nowait(self.0, &mut link) };
        Link {
            speed_mbps: link.link_speed,
            is_up: link.link_status() != 0,
            full_duplex: link.link_duplex() != 0,
            autoneg: link.link_autoneg() != 0,
        }
    }

    pub fn counters(self) -> Option<Counters> {
        let _memory = look();
        // SAFETY: a plain C structure that all-zero bytes are valid for.
        let mut s: raw::rte_eth_stats = unsafe { zeroed() };
        // SAFETY: fills in the structure, from a device that stays.
        (unsafe { raw::rte_eth_stats_get(self.0, &mut s) } == 0).then_some(Counters {
            rx_packets: s.ipackets,
            tx_packets: s.opackets,
            rx_bytes: s.ibytes,
            tx_bytes: s.obytes,
            missed: s.imissed,
            rx_errors: s.ierrors,
            tx_errors: s.oerrors,
            no_buffer: s.rx_nombuf,
        })
    }

    /// Puts flow control in force if it is another now.
    pub fn set_flow_control(self, wanted: FlowControl) -> Result<(), Errno> {
        let _memory = look();
        // SAFETY: a plain C structure that all-zero bytes are valid for, and that the call fills in; the device
        // stays.
        let mut conf: raw::rte_eth_fc_conf = unsafe { zeroed() };
        // SAFETY: as above.
        check(unsafe { raw::rte_eth_dev_flow_ctrl_get(self.0, &mut conf) })?;
        let mode = match (wanted.rx, wanted.tx) {
            (false, false) => raw::RTE_ETH_FC_NONE,
            (true, false) => raw::RTE_ETH_FC_RX_PAUSE,
            (false, true) => raw::RTE_ETH_FC_TX_PAUSE,
            (true, true) => raw::RTE_ETH_FC_FULL,
        };
        if (conf.mode, conf.autoneg) == (mode, wanted.autoneg.into()) {
            return Ok(());
        }
        conf.mode = mode;
        conf.autoneg = wanted.autoneg.into();
        // SAFETY: reads the structure.
        check(unsafe { raw::rte_eth_dev_flow_ctrl_set(self.0, &mut conf) })
    }
}

/// Ports whose devices ask to be reset, by number: a driver says so on a thread of its own.
static RESETS: [AtomicBool; PORTS_MAX] = [const { AtomicBool::new(false) }; PORTS_MAX];

extern "C" fn on_reset(port: u16, _: raw::rte_eth_event_type, _: *mut c_void, _: *mut c_void) -> c_int {
    if let Some(asked) = RESETS.get(usize::from(port)) {
        asked.store(true, Ordering::Relaxed);
    }
    0
}

/// Notes from now on when devices ask to be reset ([`Port::take_reset`]).
pub fn hear_resets() {
    // SAFETY: `on_reset` has the callback's type, lives for ever, and only sets a flag. It is called for ports that
    // come later, too.
    let result = unsafe {
        raw::rte_eth_dev_callback_register(
            raw::RTE_ETH_ALL as u16,
            raw::RTE_ETH_EVENT_INTR_RESET,
            Some(on_reset),
            std::ptr::null_mut(),
        )
    };
    if result != 0 {
        tracing::error!(target: "netdev_dpdk", "Ethernet device callback register error: {}", super::text::strerror(-result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_asked_for_once() {
        let port = Port(3);
        assert!(!port.take_reset());
        assert_eq!(on_reset(3, raw::RTE_ETH_EVENT_INTR_RESET, std::ptr::null_mut(), std::ptr::null_mut()), 0);
        assert!(!Port(4).take_reset() && port.take_reset() && !port.take_reset());
        assert_eq!(on_reset(u16::MAX, 0, std::ptr::null_mut(), std::ptr::null_mut()), 0);
    }
}
