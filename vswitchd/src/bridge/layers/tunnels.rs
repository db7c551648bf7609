//! Tunnels: the datapath ports that they share, and the network under them.

use super::{Domain, Layers};
use dpif::PortNo;
use dpif::tunnel::TunnelConfig;
use netdev::routes::{RouteMonitor, SystemRoute, system_addresses, system_routes};
use netdev::tunnel::TunnelPort;
use netdev::{Env, Netdev};
use ofproto::port::Attachment;
use ofproto::tunnel::{Device, Devices, RouteEntry, RouteSource, Underlay};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use tracing::warn;

/// Share of the time that reading the kernel's routes may take: one part in this.
const READING_SHARE: u64 = 10;

/// The network under the tunnels, and how it is kept up to date.
pub struct UnderlayKeeper {
    pub underlay: Arc<Underlay>,
    /// `None`: the kernel's routes are not asked for.
    monitor: Option<RouteMonitor>,
    /// Routes have changed since they were read.
    is_stale: bool,
    /// When they may be read again, in milliseconds of the clock: a host with a full table of the Internet that
    /// changes all the time has other things to do.
    due_ms: u64,
}

impl UnderlayKeeper {
    /// With the kernel's routes, or without.
    pub fn new(with_system_routes: bool) -> Self {
        let monitor = with_system_routes.then(RouteMonitor::new).and_then(|monitor| {
            monitor.inspect_err(|e| warn!(target: "route_table", "no routes of the system: {e}")).ok()
        });
        UnderlayKeeper { underlay: Arc::default(), is_stale: monitor.is_some(), monitor, due_ms: 0 }
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(RouteMonitor::fd)
    }

    /// The routes, if they are to be read now.
    fn routes(&mut self, now_ms: u64) -> Option<Vec<RouteEntry>> {
        self.is_stale |= self.monitor.as_ref().is_some_and(RouteMonitor::drain);
        if !self.is_stale || now_ms < self.due_ms {
            return None;
        }
        let begin = std::time::Instant::now();
        self.is_stale = false;
        let routes = system_routes()
            .inspect_err(|e| warn!(target: "route_table", "reading routes failed: {e}"))
            .unwrap_or_default();
        let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.due_ms = now_ms + took_ms.saturating_mul(READING_SHARE);
        Some(routes.into_iter().map(entry).collect())
    }

    /// When routes are to be read, if they are.
    pub fn due_ms(&self) -> Option<u64> {
        self.is_stale.then_some(self.due_ms)
    }
}

fn entry(r: SystemRoute) -> RouteEntry {
    RouteEntry {
        dst: r.dst,
        prefix_len: r.prefix_len,
        mark: r.mark,
        device: r.device,
        gateway: r.gateway,
        src: Ipv6Addr::UNSPECIFIED,
        source: RouteSource::System { is_local: r.is_local },
    }
}

/// Addresses of all devices: the kernel's and the dummies.
fn devices(env: &Env) -> Devices {
    // Where system ports are dummies, the kernel's devices are not meant.
    let system =
        if env.is_dummy("system") { BTreeMap::new() } else { system_addresses().unwrap_or_default() };
    let mut all: Devices = system
        .into_iter()
        .map(|(name, d)| (name, Device { mac: d.mac, is_loopback: d.is_loopback, ips: d.ips }))
        .collect();
    for dummy in env.dummies().all() {
        let v4 =
            dummy.ip4().map(|(ip, mask)| (ip.to_ipv6_mapped(), 96 + u32::from(mask).leading_ones() as u8));
        let v6 = dummy.ip6();
        let device =
            Device { mac: dummy.link().mac, is_loopback: false, ips: v4.into_iter().chain(v6).collect() };
        all.insert(dummy.name().to_owned(), device);
    }
    all
}

/// A datapath port that tunnels share.
pub struct SharedPort {
    no: PortNo,
    users: usize,
    /// Keeps the name.
    _device: Arc<dyn Netdev>,
}

/// Shared ports by their names.
pub type SharedPorts = BTreeMap<String, SharedPort>;

impl Domain {
    /// The datapath port for tunnels like this one; made if it is the first.
    pub fn share_port(&mut self, env: &Env, tunnel: &TunnelPort) -> Result<PortNo, String> {
        let name = tunnel.device_name();
        if let Some(shared) = self.shared_ports.get_mut(&name) {
            shared.users += 1;
            return Ok(shared.no);
        }
        let device = env.open(tunnel.kind(), &name).map_err(|e| e.to_string())?;
        let no = self.datapath.port_add(device.clone(), None).map_err(|e| e.to_string())?;
        self.shared_ports.insert(name, SharedPort { no, users: 1, _device: device });
        Ok(no)
    }

    /// One tunnel less uses a datapath port; the last one closes it.
    pub fn unshare_port(&mut self, no: PortNo) {
        let Some((name, shared)) = self.shared_ports.iter_mut().find(|(_, s)| s.no == no) else { return };
        shared.users -= 1;
        if shared.users == 0 {
            let name = name.clone();
            self.shared_ports.remove(&name);
            let _ = self.datapath.port_del(no);
        }
    }

    /// Takes in which tunnels listen on which addresses.
    fn listen(&self) {
        let names: BTreeMap<PortNo, String> =
            self.shared_ports.iter().map(|(name, s)| (s.no, name.clone())).collect();
        let changed = self.fabric.write().listen(|no| names.get(&no).cloned());
        if changed {
            self.fabric.changed();
        }
    }
}

impl Layers {
    pub fn underlay(&self) -> &Arc<Underlay> {
        &self.keeper.underlay
    }

    /// Readable when routes or addresses of the kernel changed.
    pub fn route_fd(&self) -> Option<OwnedFd> {
        self.keeper.fd().and_then(|fd| fd.try_clone_to_owned().ok())
    }

    /// When the network under the tunnels is to be looked at again.
    pub fn underlay_due_ms(&self) -> Option<u64> {
        self.keeper.due_ms()
    }

    /// Takes in routes and addresses, as far as they changed.
    pub fn refresh_underlay(&mut self) {
        let routes = self.keeper.routes(self.clock.now_ms());
        if self.keeper.underlay.set_system(devices(&self.env), routes) {
            self.spread_addresses();
        }
        self.tell_egress();
    }

    /// To be called after a change of the routes that was not the kernel's.
    pub fn underlay_changed(&mut self) {
        self.spread_addresses();
        self.tell_egress();
    }

    /// Tells every switch the addresses of its ports' devices, and every datapath where outer packets end.
    fn spread_addresses(&self) {
        for domain in self.domains.values() {
            let mut state = domain.fabric.write();
            for port in state.switches.values_mut().flat_map(|s| s.ports.values_mut()) {
                if matches!(port.attachment, Attachment::Datapath(_)) {
                    port.link.addresses = self.keeper.underlay.addresses(&port.name);
                }
            }
        }
        self.listen();
    }

    /// After a change of tunnels, or of addresses.
    pub(super) fn listen(&self) {
        self.domains.values().for_each(Domain::listen);
    }

    /// Tells every tunnel to a fixed address by which device its packets leave.
    fn tell_egress(&self) {
        for port in self.bridges.values().flat_map(|b| b.ports.values()) {
            let Some(tunnel) = port.device.as_tunnel() else { continue };
            let c = tunnel.config();
            let route = (!c.remote.ip.is_unspecified())
                .then(|| self.keeper.underlay.route(c.egress_pkt_mark.unwrap_or(0), c.remote.ip, None))
                .flatten();
            let carrier = |device: &str| self.find_port(device).is_none_or(|p| p.device.link().carrier);
            tunnel.set_egress(route.as_ref().map(|r| (r.device.as_str(), carrier(&r.device))));
        }
    }

    /// Moves a tunnel to the datapath port that its options ask for now.
    pub(super) fn move_tunnel(&mut self, bridge: &str, name: &str) -> Result<(), String> {
        let Some(b) = self.bridges.get_mut(bridge) else { return Ok(()) };
        let (Some(port), Some(domain)) = (b.ports.get_mut(name), self.domains.get_mut(&b.datapath_type))
        else {
            return Ok(());
        };
        let Some(tunnel) = port.device.as_tunnel() else { return Ok(()) };
        let new = domain.share_port(&self.env, tunnel)?;
        // One more user of the same port, or the only one of another: either way the old one has one less.
        if let Some(old) = port.datapath_port.replace(new) {
            domain.unshare_port(old);
        }
        let config: Arc<TunnelConfig> = tunnel.config();
        let set = domain.fabric.write().set_tunnel(b.switch, port.ofport, new, config);
        domain.fabric.changed();
        self.listen();
        self.tell_egress();
        set.map(|_| ()).map_err(|e| e.to_string())
    }
}
