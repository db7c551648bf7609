//! A `dpdk` port as the control plane sees it.

use crate::context::Dpdk;
use crate::ffi::port::{self, ENOTSUP, FlowControl, Link, Port};
use crate::ffi::text::strerror;
use crate::ffi::xstats;
use crate::mempools::{self, Need};
use crate::options::Options;
use crate::running::{Running, Shape, Soft, SoftCounters};
use crate::shaping::{self, Shaper};
use crate::status;
use flow::EthAddr;
use netdev::policer::Policer;
use netdev::qos::{QosReport, QosSettings};
use netdev::{DeviceStats, LinkState, Netdev, NetdevError, Policing, RxQueue, StringMap, TxQueue};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tracing::{debug, error, info, warn};

const MAC_KEY: &str = "class=eth,mac=";

pub struct DpdkDevice {
    name: String,
    dpdk: Arc<Dpdk>,
    state: Mutex<State>,
    seq: AtomicU64,
    wants_reset: AtomicBool,
    counters: Arc<SoftCounters>,
    policer: Arc<Policer>,
    steering: Arc<AtomicBool>,
    shaper: Arc<Shaper>,
}

struct State {
    devargs: Option<String>,
    port: Option<Port>,
    /// The device came by [`Dpdk::attach`] and goes with us.
    attached: bool,
    wanted: Shape,
    wanted_mac: Option<EthAddr>,
    running: Option<Arc<Running>>,
    mac: EthAddr,
    link: Link,
    link_resets: u64,
    up: bool,
    /// Numbers and names of the extended statistics that the database shows, and of all.
    custom: Vec<(u64, String)>,
    all: Vec<(u64, String)>,
}

impl DpdkDevice {
    pub fn new(name: &str, dpdk: Arc<Dpdk>) -> Self {
        let options = Options::read(&StringMap::new());
        let wanted = Shape {
            n_rxq: options.n_rxq,
            n_txq: dpdk.senders(),
            rxq_size: options.rxq_size,
            txq_size: options.txq_size,
            mtu: mempools::MTU,
            socket: 0,
            lsc_interrupt: false,
        };
        let state = State {
            devargs: None,
            port: None,
            attached: false,
            wanted,
            wanted_mac: None,
            running: None,
            mac: EthAddr::default(),
            link: Link::default(),
            link_resets: 0,
            up: true,
            custom: Vec::new(),
            all: Vec::new(),
        };
        DpdkDevice {
            name: name.to_owned(),
            dpdk,
            state: Mutex::new(state),
            seq: AtomicU64::new(1),
            wants_reset: AtomicBool::new(false),
            counters: Arc::default(),
            policer: Arc::default(),
            steering: Arc::default(),
            shaper: Arc::default(),
        }
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Release);
    }

    /// The number in DPDK, once there is a device.
    pub(crate) fn port(&self) -> Option<Port> {
        self.state.lock().port
    }

    pub(crate) fn running(&self) -> Option<Arc<Running>> {
        self.state.lock().running.clone()
    }

    /// Notices a change of the link, and that the device asks to be reset.
    pub(crate) fn look_at_link(&self) {
        let mut state = self.state.lock();
        let Some(port) = state.port.filter(|p| p.is_valid()) else { return };
        if port.take_reset() {
            info!(target: "netdev_dpdk", "{}: Device reset requested.", self.name);
            self.wants_reset.store(true, Ordering::Relaxed);
            self.changed();
        }
        let now = port.link();
        if now.is_up != state.link.is_up {
            state.link_resets += 1;
            self.changed();
            let how = if now.full_duplex { "full-duplex" } else { "half-duplex" };
            match now.is_up {
                true => {
                    debug!(target: "netdev_dpdk", "Port {} Link Up - speed {} Mbps - {how}", port.number(), now.speed_mbps)
                }
                false => debug!(target: "netdev_dpdk", "Port {} Link Down", port.number()),
            }
            state.link = now;
        }
    }

    /// Finds the device that `devargs` names, or attaches it. The flag tells which.
    fn find(&self, bus: &MutexGuard<'_, ()>, devargs: &str) -> Result<(Port, bool), NetdevError> {
        let failed = || {
            let text = format!("Error attaching device '{devargs}' to DPDK");
            warn!(target: "netdev_dpdk", "{text}");
            NetdevError::Config(text)
        };
        if let Some(mac) = devargs.strip_prefix(MAC_KEY) {
            let Ok(mac) = mac.parse::<EthAddr>() else {
                error!(target: "netdev_dpdk", "invalid mac: {mac}");
                return Err(failed());
            };
            let found = port::all().into_iter().find(|p| p.mac() == Some(mac));
            return found.map(|p| (p, false)).ok_or_else(failed);
        }
        if let Some(port) = port::find(devargs) {
            return Ok((port, false));
        }
        Dpdk::attach(bus, devargs).map(|p| (p, true)).ok_or_else(failed)
    }

    /// Takes the device that `devargs` names, unless it is ours already.
    fn take(&self, devargs: &str) -> Result<Port, NetdevError> {
        let mine = {
            let state = self.state.lock();
            state.port.filter(|p| state.devargs.as_deref() == Some(devargs) && p.is_valid())
        };
        if let Some(port) = mine {
            return Ok(port);
        }
        let bus;
        let (port, attached) = match self.dpdk.prepared.take(devargs) {
            Some(port) => (port, true),
            None => {
                bus = self.dpdk.bus.lock();
                self.find(&bus, devargs)?
            }
        };
        if let Some(other) = self.dpdk.user_of(port).filter(|d| !std::ptr::eq(&**d, self)) {
            let text = format!(
                "'{}' is trying to use device '{devargs}' which is already in use by '{}'",
                self.name, other.name
            );
            warn!(target: "netdev_dpdk", "{text}");
            return Err(NetdevError::Config(text));
        }
        let mut state = self.state.lock();
        state.attached |= attached;
        state.devargs = Some(devargs.to_owned());
        state.port = Some(port);
        state.wanted.socket = port.socket().unwrap_or(0);
        state.mac = port.mac().unwrap_or_default();
        Ok(port)
    }

    fn set_vf_mac(&self, port: Port, text: &str) {
        let name = &self.name;
        if !port.info().is_some_and(|i| i.is_representor) {
            warn!(
                target: "netdev_dpdk",
                "'{name}' is trying to set the VF MAC '{text}' but 'options:dpdk-vf-mac' is only supported for VF \
                 representors."
            );
            return;
        }
        match text.parse::<EthAddr>() {
            Err(()) => {
                warn!(target: "netdev_dpdk", "interface '{name}': cannot parse VF MAC '{text}'.");
            }
            Ok(mac) if mac.is_multicast() => {
                warn!(
                    target: "netdev_dpdk",
                    "interface '{name}': cannot set VF MAC to multicast address '{text}'."
                );
            }
            Ok(mac) => self.state.lock().wanted_mac = Some(mac),
        }
    }

    fn set_flow_control(&self, port: Port, wanted: FlowControl, is_asked: bool) -> Result<(), NetdevError> {
        match port.set_flow_control(wanted) {
            Ok(()) => Ok(()),
            Err(ENOTSUP) => {
                if is_asked {
                    warn!(target: "netdev_dpdk", "{}: Flow control is not supported.", self.name);
                }
                Ok(())
            }
            Err(e) => {
                let why = strerror(e);
                warn!(target: "netdev_dpdk", "{}: Cannot set flow control parameters: {why}", self.name);
                Err(NetdevError::Config(format!("{}: could not set configuration ({why})", self.name)))
            }
        }
    }

    /// The started port; started, or started anew, if it is not what was asked for and nobody uses it.
    fn started(&self) -> Result<Arc<Running>, NetdevError> {
        let mut state = self.state.lock();
        state.wanted.n_txq = self.dpdk.senders();
        let wanted = state.wanted;
        let needs_reset = self.wants_reset.load(Ordering::Relaxed);
        if let Some(running) = &state.running {
            let is_used = Arc::strong_count(running) > 1;
            if is_used || running.shape == wanted && !needs_reset && state.wanted_mac.is_none() {
                return Ok(running.clone());
            }
        }
        let failed = |why: String| NetdevError::Config(why);
        let port = state.port.ok_or_else(|| failed("No such device".to_owned()))?;
        // Stops the port.
        state.running = None;
        if needs_reset {
            self.wants_reset.store(false, Ordering::Relaxed);
            let _ = port.reset();
        }
        let need = Need {
            mtu: wanted.mtu,
            socket: wanted.socket,
            n_rxq: wanted.n_rxq,
            n_txq: wanted.n_txq,
            rxq_size: wanted.rxq_size,
            txq_size: wanted.txq_size,
        };
        let begin = std::time::Instant::now();
        let mempool = self.dpdk.mempools.get(&self.name, need).map_err(|why| {
            error!(
                target: "netdev_dpdk",
                "Failed to create memory pool for netdev {}, with MTU {} on socket {}: {why}",
                self.name, wanted.mtu, wanted.socket
            );
            failed(why)
        })?;
        let us = begin.elapsed().as_micros();
        info!(target: "netdev_dpdk", "{}: mempool \"{}\" is there after {us} us", self.name, mempool.name());
        if let Some(mac) = state.wanted_mac.take() {
            port.set_mac(mac).map_err(|e| failed(strerror(e)))?;
        }
        let soft = Soft {
            counters: self.counters.clone(),
            policer: self.policer.clone(),
            steering: self.steering.clone(),
            shaper: self.shaper.clone(),
        };
        let running =
            Running::start(&self.name, port, wanted, mempool, soft).map_err(|e| failed(strerror(e)))?;
        let running = Arc::new(running);
        state.mac = port.mac().unwrap_or_default();
        state.link = port.link();
        state.all = xstats::names(port).unwrap_or_default();
        state.custom = state.all.iter().filter(|(_, name)| status::is_custom(name)).cloned().collect();
        state.running = Some(running.clone());
        drop(state);
        self.changed();
        Ok(running)
    }
}

impl Drop for DpdkDevice {
    fn drop(&mut self) {
        let _bus = self.dpdk.bus.lock();
        let state = self.state.get_mut();
        state.running = None;
        let Some(port) = state.port.filter(|p| state.attached && p.is_valid()) else { return };
        let devargs = state.devargs.clone().unwrap_or_default();
        let siblings = port.siblings().into_iter().filter(|p| *p != port);
        let is_shared = siblings.into_iter().any(|p| self.dpdk.user_of(p).is_some());
        match port.close(!is_shared) {
            Err(e) => {
                error!(target: "netdev_dpdk", "Device '{devargs}' can not be detached: {}.", strerror(e));
            }
            Ok(()) if is_shared => info!(target: "netdev_dpdk", "Device '{devargs}' has been removed"),
            Ok(()) => {
                info!(target: "netdev_dpdk", "Device '{devargs}' has been removed and detached");
            }
        }
    }
}

impl Netdev for DpdkDevice {
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> &'static str {
        "dpdk"
    }
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError> {
        let o = Options::read(options);
        let Some(devargs) = &o.devargs else {
            let text = format!(
                "'{}' is missing 'options:dpdk-devargs'. The old 'dpdk<port_id>' names are not supported",
                self.name
            );
            warn!(target: "netdev_dpdk", "{text}");
            return Err(NetdevError::Config(text));
        };
        if self.state.lock().devargs.as_ref().is_some_and(|former| former != devargs) {
            let text = format!("{}: could not set configuration ({})", self.name, strerror(11));
            return Err(NetdevError::Config(text));
        }
        let port = self.take(devargs)?;
        {
            let wanted = &mut self.state.lock().wanted;
            (wanted.n_rxq, wanted.rxq_size, wanted.txq_size) = (o.n_rxq, o.rxq_size, o.txq_size);
            wanted.lsc_interrupt = o.lsc_interrupt;
            wanted.n_txq = self.dpdk.senders();
        }
        if let Some(mac) = &o.vf_mac {
            self.set_vf_mac(port, mac);
        }
        self.set_flow_control(port, o.flow_control, o.wants_flow_control)?;
        self.changed();
        Ok(())
    }
    fn options(&self) -> StringMap {
        let state = self.state.lock();
        let is_representor = state.port.and_then(Port::info).is_some_and(|i| i.is_representor);
        let vf_mac = is_representor.then(|| state.wanted_mac.unwrap_or(state.mac));
        status::options(&state.wanted, state.running.as_deref(), vf_mac)
    }
    fn link(&self) -> LinkState {
        self.look_at_link();
        let state = self.state.lock();
        LinkState {
            admin_up: state.up,
            carrier: state.link.is_up,
            carrier_resets: state.link_resets,
            speed_bps: if state.link.is_up { status::speed_bps(state.link.speed_mbps) } else { 0 },
            full_duplex: Some(state.link.full_duplex),
            mtu: state.running.as_ref().map_or(state.wanted.mtu, |r| r.shape.mtu),
            mac: state.mac,
            ifindex: Some(status::ifindex(&self.name)),
            features: [status::features(state.link), 0, 0, 0],
        }
    }
    fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError> {
        let mut state = self.state.lock();
        let Some(port) = state.port.filter(|_| state.mac != mac) else { return Ok(()) };
        port.set_mac(mac).map_err(|e| NetdevError::Io {
            context: self.name.clone(),
            source: std::io::Error::from_raw_os_error(e),
        })?;
        state.mac = mac;
        drop(state);
        self.changed();
        Ok(())
    }
    /// Takes effect when the queues are opened again.
    fn set_mtu(&self, mtu: u32) -> Result<(), NetdevError> {
        if !mempools::is_mtu(mtu) {
            warn!(target: "netdev_dpdk", "{}: unsupported MTU {mtu}", self.name);
            return Err(NetdevError::Config(strerror(22)));
        }
        self.state.lock().wanted.mtu = mtu;
        Ok(())
    }
    fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        let mut state = self.state.lock();
        if state.up == up {
            return Ok(());
        }
        let Some(port) = state.port else { return Ok(()) };
        match port.set_link_up(up) {
            Ok(()) => {}
            Err(ENOTSUP) => info!(
                target: "netdev_dpdk",
                "Interface {} does not support link state configuration", self.name
            ),
            Err(e) => {
                error!(target: "netdev_dpdk", "Interface {} link change error: {}", self.name, strerror(e));
                return Err(NetdevError::Config(strerror(e)));
            }
        }
        state.up = up;
        drop(state);
        self.changed();
        Ok(())
    }
    fn set_policing(&self, rate: Policing) -> Result<(), NetdevError> {
        // Packets per second are not policed here, as in Open vSwitch.
        self.policer.set(Policing { rate_kpps: 0, burst_kp: 0, ..rate });
        Ok(())
    }
    fn qos_types(&self) -> &'static [&'static str] {
        &shaping::TYPES
    }
    fn set_qos(&self, settings: Option<&QosSettings>) -> Result<(), NetdevError> {
        let settings = settings.filter(|s| !s.kind.is_empty());
        if let Some(s) = settings.filter(|s| !shaping::TYPES.contains(&s.kind.as_str())) {
            return Err(NetdevError::Config(format!("{}: no such type of QoS", s.kind)));
        }
        match self.shaper.set(settings) {
            true => Ok(()),
            false => {
                error!(target: "netdev_dpdk", "Could not create rte meter for egress policer");
                Err(NetdevError::Config(strerror(22)))
            }
        }
    }
    fn qos(&self) -> Option<QosReport> {
        self.shaper.report()
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        let state = self.state.lock();
        let port = state.port.ok_or(NetdevError::Unsupported)?;
        let counters = port.counters().ok_or_else(|| {
            error!(target: "netdev_dpdk", "Can't get ETH statistics for port: {}", port.number());
            NetdevError::Config(strerror(71))
        })?;
        let mut stats = status::stats(counters, &self.counters);
        let ids: Vec<u64> = state.all.iter().map(|(id, _)| *id).collect();
        if let Some(values) = xstats::values(port, &ids) {
            let named = state.all.iter().map(|(_, name)| name.as_str()).zip(values);
            named.for_each(|(name, value)| status::add_extended(&mut stats, name, value));
        }
        Ok(stats)
    }
    fn status(&self) -> StringMap {
        let state = self.state.lock();
        let Some(port) = state.port.filter(|p| p.is_valid()) else { return StringMap::new() };
        let max_len = state.running.as_ref().map_or(0, |r| r.max_len());
        status::status(port, state.link, max_len, state.mac)
    }
    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }
    fn is_polled(&self) -> bool {
        true
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        Ok(self.started()?.rx_queues())
    }
    fn open_tx(&self, thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Ok(self.started()?.tx_queue(thread))
    }
    fn needs_reopen(&self) -> bool {
        let state = self.state.lock();
        let differs = |r: &Arc<Running>| r.shape != state.wanted;
        self.wants_reset.load(Ordering::Relaxed)
            || state.wanted_mac.is_some()
            || state.running.as_ref().is_some_and(differs)
    }
    fn set_tx_steering(&self, by_hash: bool) -> bool {
        self.steering.swap(by_hash, Ordering::Relaxed) != by_hash
    }
    fn numa_id(&self) -> Option<u32> {
        Some(self.state.lock().wanted.socket)
    }
}
