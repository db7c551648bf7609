//! Opening ports by type and name.

use crate::device::{Netdev, NetdevError};
use crate::dummy::DummyRegistry;
use crate::link::{Kernel, LinkMonitor, LinkWatcher};
use crate::linux::LinuxDevice;
use crate::sys::{errno_text, strerror};
use crate::system::SystemDevice;
use crate::tap::TapDevice;
use crate::tunnel::Tunnels;
use crate::vport::Patch;
use dpif::tunnel::TunnelKind;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// What `--enable-dummy` asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DummyLevel {
    /// No dummy types.
    #[default]
    Off,
    /// `--enable-dummy`: the dummy types exist beside the others.
    Types,
    /// `--enable-dummy=system`: `system` ports are dummies too.
    System,
    /// `--enable-dummy=override`: all types but `patch` are dummies.
    All,
}

/// Opens ports of types that another crate implements.
pub trait Provider: Send + Sync {
    /// Values of `Interface.type`.
    fn types(&self) -> &'static [&'static str];
    /// Opens a port, with the descriptors that [`Netdev::handover`] gave in another process. An error's text
    /// ends up in `Interface.error`.
    fn open(
        &self,
        kind: &'static str,
        name: &str,
        fds: Vec<(String, OwnedFd)>,
    ) -> io::Result<Arc<dyn Netdev>>;
}

/// What ports share: sockets to the kernel, the link monitor, the dummy devices, and the names in use.
///
/// All of it belongs to the network namespace of the thread that made it.
pub struct Env {
    kernel: Arc<Kernel>,
    monitor: Arc<LinkMonitor>,
    dummies: Arc<DummyRegistry>,
    tunnels: Arc<Tunnels>,
    level: DummyLevel,
    providers: Mutex<Vec<Arc<dyn Provider>>>,
    open: Mutex<HashMap<String, Weak<dyn Netdev>>>,
}

const REAL_TYPES: [&str; 11] =
    ["erspan", "geneve", "gre", "gtpu", "internal", "ip6erspan", "ip6gre", "patch", "system", "tap", "vxlan"];
const DUMMY_TYPES: [&str; 3] = ["dummy", "dummy-internal", "dummy-pmd"];

/// Device names that Linux gives another meaning in its `/proc` and `/sys` trees.
const FORBIDDEN_NAMES: [&str; 2] = ["default", "all"];

impl Env {
    pub fn new(level: DummyLevel) -> io::Result<Self> {
        let kernel = Arc::new(Kernel::new()?);
        let monitor = Arc::new(LinkMonitor::new(kernel.clone())?);
        Ok(Env {
            kernel,
            monitor,
            dummies: Arc::default(),
            tunnels: Arc::default(),
            level,
            providers: Mutex::default(),
            open: Mutex::default(),
        })
    }

    /// Tells of changes of kernel devices. Someone has to wait on it and drain it.
    pub fn link_monitor(&self) -> &Arc<LinkMonitor> {
        &self.monitor
    }

    /// The dummy devices, for [`crate::dummy::commands`].
    pub fn dummies(&self) -> &Arc<DummyRegistry> {
        &self.dummies
    }

    /// What all tunnel ports share.
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }

    pub fn dummy_level(&self) -> DummyLevel {
        self.level
    }

    /// Makes the types of `provider` known.
    pub fn add_provider(&self, provider: Arc<dyn Provider>) {
        self.providers.lock().push(provider);
    }

    /// The types that [`Env::open`] knows, sorted: `Open_vSwitch.iface_types` but for tunnels.
    pub fn iface_types(&self) -> Vec<&'static str> {
        let dummies = if self.level == DummyLevel::Off { &[][..] } else { &DUMMY_TYPES };
        let mut types = [&REAL_TYPES, dummies].concat();
        self.providers.lock().iter().for_each(|p| types.extend(p.types()));
        types.sort_unstable();
        types
    }

    /// Opens the port `name` of type `kind` (empty for `system`). A port that is open already is shared.
    ///
    /// The error's text is that of `Interface.error`.
    pub fn open(&self, kind: &str, name: &str) -> Result<Arc<dyn Netdev>, NetdevError> {
        self.adopt(kind, name, Vec::new())
    }

    /// As [`Env::open`], with the descriptors that [`Netdev::handover`] gave in another process.
    pub fn adopt(
        &self,
        kind: &str,
        name: &str,
        fds: Vec<(String, OwnedFd)>,
    ) -> Result<Arc<dyn Netdev>, NetdevError> {
        let kind = if kind.is_empty() { "system" } else { kind };
        let failed =
            |text: String| NetdevError::Config(format!("could not open network device {name} ({text})"));
        let Some(kind) = self.iface_types().into_iter().find(|t| *t == kind) else {
            tracing::warn!(target: "netdev", "could not create netdev {name} of unknown type {kind}");
            return Err(failed(errno_text(libc::EAFNOSUPPORT)));
        };
        let mut open = self.open.lock();
        if let Some(former) = open.get(name).and_then(Weak::upgrade) {
            let same = former.kind() == self.effective_kind(kind);
            return if same { Ok(former) } else { Err(failed(errno_text(libc::EEXIST))) };
        }
        let device = self.make(kind, name, fds).map_err(|e| failed(strerror(&e)))?;
        open.retain(|_, d| d.strong_count() > 0);
        open.insert(name.to_owned(), Arc::downgrade(&device));
        Ok(device)
    }

    /// Whether ports of type `kind` are dummies.
    pub fn is_dummy(&self, kind: &str) -> bool {
        match self.level {
            DummyLevel::Off => false,
            DummyLevel::Types => DUMMY_TYPES.contains(&kind),
            DummyLevel::System => kind == "system" || DUMMY_TYPES.contains(&kind),
            DummyLevel::All => kind != "patch",
        }
    }

    /// What [`Netdev::kind`] of a port of type `kind` says: under the override, a bridge's internal ports are
    /// `dummy-internal`.
    fn effective_kind(&self, kind: &'static str) -> &'static str {
        if kind == "internal" && self.is_dummy(kind) { "dummy-internal" } else { kind }
    }

    fn make(
        &self,
        kind: &'static str,
        name: &str,
        fds: Vec<(String, OwnedFd)>,
    ) -> io::Result<Arc<dyn Netdev>> {
        if name.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if self.is_dummy(kind) {
            return Ok(self.dummies.open(self.effective_kind(kind), name));
        }
        if kind == "patch" {
            return Ok(Arc::new(Patch::new(name)));
        }
        let provider = self.providers.lock().iter().find(|p| p.types().contains(&kind)).cloned();
        if let Some(provider) = provider {
            return provider.open(kind, name, fds);
        }
        if let Some(kind) = TunnelKind::from_name(kind) {
            return Ok(self.tunnels.open(kind, name));
        }
        if FORBIDDEN_NAMES.contains(&name) {
            tracing::warn!(target: "netdev_linux", "{name}: Linux forbids network device with this name");
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let device = LinuxDevice::new(name, self.kernel.clone());
        let watcher: Arc<dyn LinkWatcher> = device.clone();
        self.monitor.watch(name, Arc::downgrade(&watcher));
        if kind == "system" {
            device.refresh()?;
            return Ok(Arc::new(SystemDevice::new(device, fds)));
        }
        let tap = TapDevice::new(kind, device, fds).inspect_err(|error| {
            let text = strerror(error);
            tracing::warn!(target: "netdev_linux", "{name}: creating tap device failed: {text}");
        })?;
        Ok(Arc::new(tap))
    }
}

/// [`Env::open`].
pub fn open(kind: &str, name: &str, env: &Env) -> Result<Arc<dyn Netdev>, NetdevError> {
    env.open(kind, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(env: &Env, kind: &str, name: &str) -> String {
        env.open(kind, name).map(|_| ()).expect_err("error").to_string()
    }

    #[test]
    fn errors_are_those_of_the_database() {
        let env = Env::new(DummyLevel::Types).expect("env");
        assert_eq!(error(&env, "", "nosuch"), "could not open network device nosuch (No such device)");
        assert_eq!(
            error(&env, "wire", "x"),
            "could not open network device x (Address family not supported by protocol)"
        );
        assert_eq!(error(&env, "dummy", ""), "could not open network device  (Invalid argument)");
        assert_eq!(error(&env, "system", "all"), "could not open network device all (Invalid argument)");
        let first = env.open("dummy", "d").expect("dummy");
        assert_eq!(error(&env, "patch", "d"), "could not open network device d (File exists)");
        let again = env.open("dummy", "d").expect("again");
        assert!(Arc::ptr_eq(&first, &again));
        drop((first, again));
        assert_eq!(env.open("patch", "d").expect("free now").kind(), "patch");
    }

    #[test]
    fn levels_of_dummies() {
        for (level, system, internal, types) in [
            (DummyLevel::Off, "real", "real", 11),
            (DummyLevel::Types, "real", "real", 14),
            (DummyLevel::System, "system", "real", 14),
            (DummyLevel::All, "system", "dummy-internal", 14),
        ] {
            let env = Env::new(level).expect("env");
            assert_eq!(env.iface_types().len(), types);
            for (kind, expected) in [("system", system), ("internal", internal)] {
                assert_eq!(env.is_dummy(kind), expected != "real", "{level:?} {kind}");
                if expected != "real" {
                    assert_eq!(env.open(kind, "p").expect("dummy").kind(), expected);
                }
            }
        }
    }
}
