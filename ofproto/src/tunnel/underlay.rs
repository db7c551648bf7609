//! The network under the tunnels, one for all switches of the process.

use super::neighbours::Neighbours;
use super::router::{Device, Devices, Route, RouteEntry, Router};
use flow::EthAddr;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Routes, neighbours and addresses. Its locks are small ones: taken for a moment, with nothing taken behind them.
#[derive(Debug, Default)]
pub struct Underlay {
    router: RwLock<Router>,
    devices: RwLock<Devices>,
    neighbours: Mutex<Neighbours>,
    generation: AtomicU64,
}

impl Underlay {
    /// Counts changes that translations depend on.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The way to `dst`; see [`Router::lookup`].
    pub fn route(&self, mark: u32, dst: Ipv6Addr, src: Option<Ipv6Addr>) -> Option<Route> {
        self.router.read().lookup(mark, dst, src)
    }

    /// The address of `device` to reach `dst` from.
    pub fn source_for(&self, dst: Ipv6Addr, device: &str) -> Option<Ipv6Addr> {
        Router::source_for(&self.devices.read(), dst, device)
    }

    pub fn add_route(&self, route: RouteEntry) -> bool {
        let added = self.router.write().insert(&self.devices.read(), route);
        if added {
            self.changed();
        }
        added
    }

    pub fn remove_route(&self, dst: Ipv6Addr, prefix_len: u8, mark: u32) -> bool {
        let removed = self.router.write().remove_user(dst, prefix_len, mark);
        if removed {
            self.changed();
        }
        removed
    }

    pub fn routes(&self) -> Vec<RouteEntry> {
        self.router.read().routes().into_iter().cloned().collect()
    }

    pub(super) fn restore_route(&self, route: RouteEntry) {
        self.router.write().put(route);
        self.changed();
    }

    /// Takes the system's routes and the addresses of all devices in place of those before; true if anything
    /// changed.
    pub fn set_system(&self, devices: Devices, routes: Option<Vec<RouteEntry>>) -> bool {
        let same_devices = *self.devices.read() == devices;
        if same_devices && routes.is_none() {
            return false;
        }
        let mut router = self.router.write();
        let before = router.routes().into_iter().cloned().collect::<Vec<_>>();
        if let Some(routes) = routes {
            router.flush_system();
            for route in routes {
                router.insert(&devices, route);
            }
        }
        if !same_devices {
            router.refresh_user(&devices);
        }
        let same_routes = router.routes().into_iter().eq(before.iter());
        drop(router);
        *self.devices.write() = devices;
        let changed = !same_devices || !same_routes;
        if changed {
            self.changed();
        }
        changed
    }

    /// Devices that routes lead to and that have addresses: where tunnels can end.
    pub fn listening_devices(&self) -> BTreeMap<String, Device> {
        let (router, devices) = (self.router.read(), self.devices.read());
        let named = router
            .devices()
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), devices.get(name)?.clone())));
        named.filter(|(_, d)| !d.is_loopback).collect()
    }

    /// Addresses of a device, of which it may have none.
    pub fn addresses(&self, device: &str) -> Vec<Ipv6Addr> {
        let devices = self.devices.read();
        devices.get(device).map(|d| d.ips.iter().map(|(ip, _)| *ip).collect()).unwrap_or_default()
    }

    pub fn neighbour(&self, bridge: &Arc<str>, ip: Ipv6Addr, now_ms: u64) -> Option<EthAddr> {
        self.neighbours.lock().lookup(bridge, ip, now_ms)
    }

    /// Notes where a neighbour is.
    pub fn set_neighbour(&self, bridge: &Arc<str>, ip: Ipv6Addr, mac: EthAddr, now_ms: u64) {
        if self.neighbours.lock().set(bridge, ip, mac, now_ms) {
            self.changed();
        }
    }

    pub fn refresh_neighbour(&self, bridge: &Arc<str>, ip: Ipv6Addr, now_ms: u64) {
        self.neighbours.lock().refresh(bridge, ip, now_ms);
    }

    /// Forgets neighbours that nobody used for long.
    pub fn expire(&self, now_ms: u64) {
        if self.neighbours.lock().expire(now_ms) {
            self.changed();
        }
    }

    /// Forgets all neighbours, or those on one bridge.
    pub fn flush_neighbours(&self, bridge: Option<&str>) {
        if self.neighbours.lock().flush(bridge) {
            self.changed();
        }
    }

    /// Looks at, or changes, the cache without a change of any entry's address.
    pub fn with_neighbours<T>(&self, f: impl FnOnce(&mut Neighbours) -> T) -> T {
        f(&mut self.neighbours.lock())
    }
}
