//! Ports for tests: `dummy`, `dummy-internal`, `dummy-pmd`, and other types under `--enable-dummy`.
//!
//! Packets come from the control socket (`netdev-dummy/receive`), from a stream (`options:stream`,
//! `options:pstream`) or from the ARP responder, and go to pcap files and streams. A `dummy-pmd` port is polled like
//! a DPDK port. Any other is either read through its [`RxQueue`], which has a descriptor to wait on, or has
//! a sink ([`DummyDevice::set_sink`]) that gets each packet before `receive` returns.

pub mod commands;
mod port;
mod queue;
mod stream;

pub use port::{DummyDevice, Sink};

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// All dummy devices of a process, for the commands that address them by name.
#[derive(Default)]
pub struct DummyRegistry {
    devices: Mutex<BTreeMap<String, Weak<DummyDevice>>>,
    made: AtomicU32,
}

impl DummyRegistry {
    pub(crate) fn open(&self, kind: &'static str, name: &str) -> Arc<DummyDevice> {
        let device = DummyDevice::new(kind, name, self.made.fetch_add(1, Ordering::Relaxed));
        let mut devices = self.devices.lock();
        devices.retain(|_, d| d.strong_count() > 0);
        devices.insert(name.to_owned(), Arc::downgrade(&device));
        device
    }

    pub fn get(&self, name: &str) -> Option<Arc<DummyDevice>> {
        self.devices.lock().get(name).and_then(Weak::upgrade)
    }

    /// Every device, by name.
    pub fn all(&self) -> Vec<Arc<DummyDevice>> {
        self.devices.lock().values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests;
