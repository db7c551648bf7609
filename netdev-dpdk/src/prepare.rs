//! Attaching the devices that the database names while the rest of the daemon starts.
//!
//! Drivers take long to attach a device. A thread does that in the order in which they will be asked for; who opens a
//! port meanwhile makes its mempool and starts it while the next device is being attached. (Not several at a time: EAL's
//! lists of devices have no lock.) While there is no device yet, the mempool that the first port will ask for is made.

use crate::context::Dpdk;
use crate::ffi::eal;
use crate::ffi::port::{self, Port};
use crate::mempools::{self, Need};
use crate::options::QUEUE_SIZE;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tracing::{error, info};

/// A port that will be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub name: String,
    /// `options:dpdk-devargs`.
    pub devargs: String,
    /// `mtu_request`.
    pub mtu: Option<u32>,
}

/// Devices by their `dpdk-devargs`: not attached yet (`None`), or attached, or not to be had this way.
#[derive(Default)]
pub(crate) struct Prepared {
    devices: Mutex<HashMap<String, Option<Outcome>>>,
    changed: Condvar,
}

/// The port, if it was this thread that attached it.
type Outcome = Option<Port>;

impl Prepared {
    /// A device that was prepared, for its first and only owner; waits if it is on its way.
    pub fn take(&self, devargs: &str) -> Option<Port> {
        let mut devices = self.devices.lock();
        loop {
            match devices.get(devargs)? {
                None => self.changed.wait(&mut devices),
                Some(_) => return devices.remove(devargs).flatten().flatten(),
            }
        }
    }

    fn done(&self, devargs: &str, outcome: Outcome) {
        if let Some(device) = self.devices.lock().get_mut(devargs) {
            *device = Some(outcome);
        }
        self.changed.notify_all();
    }
}

impl Dpdk {
    /// Begins to attach the devices of ports that will be opened in this order. What does not work is tried again, and
    /// said, when the port is opened.
    pub fn prepare(self: &Arc<Self>, ports: Vec<Expected>) {
        let mut wanted: Vec<String> = Vec::new();
        for Expected { devargs, .. } in &ports {
            // A MAC names a device that is there.
            if !devargs.starts_with("class=") && !wanted.contains(devargs) {
                wanted.push(devargs.clone());
            }
        }
        let Some(first) = ports.into_iter().next().filter(|_| !wanted.is_empty()) else { return };
        self.prepared.devices.lock().extend(wanted.iter().map(|name| (name.clone(), None)));
        let (dpdk, names) = (self.clone(), wanted.clone());
        let attach = move || {
            std::thread::scope(|threads| {
                let pool = std::thread::Builder::new().name("dpdk_mempool".to_owned());
                let _ = pool.spawn_scoped(threads, || dpdk.prepare_mempool(&first));
                names.iter().for_each(|name| dpdk.prepared.done(name, dpdk.attach_new(name)));
            });
            if port::all().is_empty() {
                dpdk.mempools.tidy();
            }
        };
        if let Err(e) = std::thread::Builder::new().name("dpdk_attach".to_owned()).spawn(attach) {
            error!(target: "netdev_dpdk", "devices are attached one after the other: {e}");
            wanted.iter().for_each(|name| self.prepared.done(name, None));
        }
    }

    /// Makes the pool that a port will ask for, if it is clear which: where a device will be is known when it is there.
    fn prepare_mempool(&self, port: &Expected) {
        let Some(socket) = eal::only_node() else { return };
        let mtu = port.mtu.filter(|mtu| mempools::is_mtu(*mtu)).unwrap_or(mempools::MTU);
        // Queues and their sizes do not matter to pools that ports share.
        let need = Need { mtu, socket, n_rxq: 1, n_txq: 1, rxq_size: QUEUE_SIZE, txq_size: QUEUE_SIZE };
        self.mempools.prepare(&port.name, need);
    }

    /// Attaches a device unless it is there.
    fn attach_new(&self, devargs: &str) -> Option<Port> {
        let bus = self.bus.lock();
        // Devices without a node of their own are on that of whoever attaches them.
        eal::enrol();
        if port::find(devargs).is_some() { None } else { Self::attach(&bus, devargs) }
    }

    /// Attaches a device that is not there.
    pub(crate) fn attach(_bus: &MutexGuard<'_, ()>, devargs: &str) -> Option<Port> {
        let begin = Instant::now();
        port::attach(devargs).ok()?;
        let port = port::find(devargs)?;
        let us = begin.elapsed().as_micros();
        info!(target: "netdev_dpdk", "Device '{devargs}' attached to DPDK in {us} us");
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_early_waits() {
        let prepared = Arc::new(Prepared::default());
        assert_eq!(prepared.take("x"), None);
        prepared.devices.lock().insert("x".to_owned(), None);
        std::thread::scope(|s| {
            let asking = s.spawn(|| prepared.take("x"));
            prepared.done("x", None);
            assert_eq!(asking.join().ok(), Some(None));
        });
        assert!(prepared.devices.lock().is_empty());
        prepared.done("y", None);
        assert_eq!(prepared.take("y"), None);
    }
}
