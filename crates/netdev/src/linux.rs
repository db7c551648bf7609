//! What all ports over a kernel device share: link state, changes, counters and policing.

use crate::device::{DeviceStats, LinkState, NetdevError, Policing, RxDrops, StringMap};
use crate::link::{Kernel, LinkWatcher};
use crate::netlink::{LinkChange, LinkInfo};
use crate::policer::Policer;
use crate::qos::{LinuxQos, QosReport, QosSettings, TYPES, Target};
use flow::EthAddr;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Counters of one port's receive path.
#[derive(Default)]
pub(crate) struct RxCounters {
    pub too_big: AtomicU64,
    pub malformed: AtomicU64,
    pub overrun: AtomicU64,
}

/// Called when the device comes up under a (new) index.
type OnIndex = Box<dyn Fn(u32) + Send + Sync>;

/// A kernel device that a port stands on. Survives the device's going and coming.
pub(crate) struct LinuxDevice {
    pub name: String,
    kernel: Arc<Kernel>,
    state: Mutex<State>,
    /// 0 while the device is absent.
    ifindex: AtomicU32,
    admin_up: AtomicBool,
    seq: AtomicU64,
    pub policer: Policer,
    qos: LinuxQos,
    pub rx: RxCounters,
    on_index: Mutex<Option<OnIndex>>,
}

#[derive(Default)]
struct State {
    info: LinkInfo,
    carrier_resets: u64,
}

impl LinuxDevice {
    pub fn new(name: &str, kernel: Arc<Kernel>) -> Arc<Self> {
        Arc::new(LinuxDevice {
            name: name.to_owned(),
            kernel,
            state: Mutex::default(),
            ifindex: AtomicU32::new(0),
            admin_up: AtomicBool::new(false),
            seq: AtomicU64::new(1),
            policer: Policer::default(),
            qos: LinuxQos::default(),
            rx: RxCounters::default(),
            on_index: Mutex::new(None),
        })
    }

    /// Asks the kernel for the device's state. The error of an absent device is `ENODEV`.
    pub fn refresh(&self) -> io::Result<LinkInfo> {
        let info = self.kernel.links.link(&self.name);
        match &info {
            Ok(info) => self.link_changed(Some(info)),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => self.link_changed(None),
            Err(_) => {}
        }
        info
    }

    pub fn set_on_index(&self, f: Option<OnIndex>) {
        *self.on_index.lock() = f;
    }

    pub fn ifindex(&self) -> Option<u32> {
        Some(self.ifindex.load(Ordering::Relaxed)).filter(|i| *i != 0)
    }

    pub fn is_up(&self) -> bool {
        self.admin_up.load(Ordering::Relaxed)
    }

    pub fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    pub fn link(&self) -> LinkState {
        let mut link = {
            let state = self.state.lock();
            LinkState {
                admin_up: state.info.is_up(),
                carrier: state.info.is_up() && state.info.is_running(),
                carrier_resets: state.carrier_resets,
                mtu: state.info.mtu,
                mac: state.info.mac,
                ifindex: self.ifindex(),
                ..LinkState::default()
            }
        };
        if link.ifindex.is_some() {
            self.kernel.fill_settings(&self.name, &mut link);
        }
        link
    }

    pub fn change(&self, what: &str, change: LinkChange) -> Result<(), NetdevError> {
        let result = self.kernel.links.change(&self.name, change);
        result.map_err(|source| NetdevError::Io { context: format!("{}: {what}", self.name), source })?;
        let _ = self.refresh();
        Ok(())
    }

    pub fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError> {
        if self.state.lock().info.mac == mac && self.ifindex().is_some() {
            return Ok(());
        }
        let first = self.change("setting Ethernet address failed", LinkChange::Mac(mac));
        if first.is_err() && self.is_up() {
            // Some drivers change their address only while down.
            self.change("down", LinkChange::Up(false))?;
            let second = self.change("setting Ethernet address failed", LinkChange::Mac(mac));
            self.change("up", LinkChange::Up(true))?;
            return second;
        }
        first
    }

    pub fn set_mtu(&self, mtu: u32) -> Result<(), NetdevError> {
        self.change("setting MTU failed", LinkChange::Mtu(mtu))
    }

    pub fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        self.change("changing flags failed", LinkChange::Up(up))
    }

    pub fn set_policing(&self, policing: Policing) {
        self.policer.set(policing);
    }

    /// The device's part in a change of its queues; `None` while it is absent.
    fn qos_target(&self) -> Option<Target> {
        let link = self.link();
        Some(Target { ifindex: link.ifindex?, mtu: link.mtu, speed_bps: link.speed_bps })
    }

    pub fn set_qos(&self, settings: Option<&QosSettings>) -> Result<(), NetdevError> {
        if settings.is_some_and(|s| !TYPES.contains(&s.kind.as_str())) {
            return Err(NetdevError::Unsupported);
        }
        match self.qos_target() {
            Some(target) => self.qos.set(&self.name, target, settings),
            None => Ok(()),
        }
    }

    pub fn qos(&self) -> Option<QosReport> {
        self.qos.report(self.qos_target())
    }

    pub fn rx_drops(&self) -> RxDrops {
        RxDrops {
            too_big: self.rx.too_big.load(Ordering::Relaxed),
            malformed: self.rx.malformed.load(Ordering::Relaxed),
            policed: self.policer.dropped(),
            overrun: self.rx.overrun.load(Ordering::Relaxed),
        }
    }

    /// Counters as the kernel has them.
    pub fn kernel_stats(&self) -> Result<DeviceStats, NetdevError> {
        let info = self.refresh().map_err(|source| NetdevError::Io { context: self.name.clone(), source })?;
        Ok(DeviceStats { common: info.stats.unwrap_or_default(), ..DeviceStats::default() })
    }

    pub fn status(&self) -> StringMap {
        let Ok(info) = self.kernel.driver_info(&self.name) else { return StringMap::new() };
        [("driver_name", info.driver), ("driver_version", info.version), ("firmware_version", info.firmware)]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .collect()
    }
}

impl LinkWatcher for LinuxDevice {
    fn link_changed(&self, info: Option<&LinkInfo>) {
        let mut state = self.state.lock();
        let former = self.ifindex.load(Ordering::Relaxed);
        let mut new = info.cloned().unwrap_or_default();
        new.stats = None; // counters change all the time and are asked for when wanted
        if info.is_none() {
            // The last that was known, but neither up nor running.
            new = LinkInfo { ifindex: 0, flags: 0, ..state.info.clone() };
        }
        if new == state.info && new.ifindex == former {
            return;
        }
        if new.is_running() != state.info.is_running() && former != 0 {
            state.carrier_resets += 1;
        }
        self.admin_up.store(new.is_up(), Ordering::Relaxed);
        self.ifindex.store(new.ifindex, Ordering::Relaxed);
        let index = new.ifindex;
        state.info = new;
        drop(state);
        self.seq.fetch_add(1, Ordering::Release);
        if index != 0
            && index != former
            && let Some(f) = self.on_index.lock().as_ref()
        {
            f(index);
        }
    }
}
