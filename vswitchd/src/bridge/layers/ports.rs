//! Ports: a device, its datapath port, its OpenFlow port.

use super::health::Health;
use super::{Domain, Layers, polling};
use crate::config::InterfaceConfig;
use dpif::PortNo;
use netdev::qos::QosSettings;
use netdev::{LinkState, Netdev, Policing};
use ofproto::admin::NewPort;
use ofproto::conn::manager::describe;
use ofproto::ids::OfPort;
use ofproto::port::{Attachment, LinkFacts, PortConfig};
use ofproto::switch::Switch;
use openflow::msg::port::PortDesc;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tracing::warn;

/// A port that exists.
pub struct LayerPort {
    pub device: Arc<dyn Netdev>,
    /// `Interface.type`.
    pub kind: String,
    /// `None` for a port without a device of the datapath (`patch`).
    pub datapath_port: Option<PortNo>,
    pub ofport: OfPort,
    pub mtu_requested: bool,
    policing: Policing,
    qos: Option<QosSettings>,
    /// [`Netdev::change_seq`] when the switch was last told of the link.
    seen: u64,
    /// As `seen`, of the database; `None` if it was never told.
    reported: Option<u64>,
    pub(super) health: Health,
}

/// What the database is to know of a port's link.
#[derive(Clone, Debug)]
pub struct LinkReport {
    pub bridge: String,
    pub interface: String,
    pub link: LinkState,
    /// `Interface.status`.
    pub status: BTreeMap<String, String>,
    /// The port was never reported before.
    pub is_new: bool,
}

impl Layers {
    /// Opens a device and makes it a port.
    pub(super) fn open_port(&mut self, bridge: &str, config: &InterfaceConfig) -> Result<OfPort, String> {
        let name = &config.name;
        let refused = |why: &str| format!("could not add network device {name} to ofproto ({why})");
        // Opening shares a device that is open: a port of another bridge must not be configured from here.
        let is_taken = |p: &LayerPort| p.datapath_port.is_some() || config.kind != "patch";
        if self.find_port(name).is_some_and(is_taken) {
            return Err(refused("File exists"));
        }
        let device = self.env.open(self.device_kind(bridge, config), name).map_err(|e| e.to_string())?;
        if let Some((_, domain)) = self.home(bridge).filter(|_| device.is_polled()) {
            domain.datapath.expect_polled();
        }
        device.configure(&config.options).map_err(|e| e.to_string())?;
        let kind = self.bridges.get(bridge).map(|b| b.datapath_type.clone()).unwrap_or_default();
        let domain = self.domains.get_mut(&kind).ok_or_else(|| refused("No such device"))?;
        if config.kind == "system" && !self.env.is_dummy("system") && is_loopback(name) {
            tracing::debug!(target: "dpif_netdev", "{name}: cannot add a loopback device");
            return Err(refused("Invalid argument"));
        }
        let mut port = LayerPort {
            device,
            kind: config.kind.clone(),
            datapath_port: None,
            ofport: OfPort::NONE,
            mtu_requested: false,
            policing: Policing::default(),
            qos: None,
            seen: 0,
            reported: None,
            health: Health::default(),
        };
        // Before the queues open: a device that starts only then is started once.
        port.apply(config);
        // What changes from here on, while queues open, is looked at later.
        port.seen = port.device.change_seq();
        let attachment = match (port.device.as_patch(), port.device.as_tunnel()) {
            (Some(patch), _) => Attachment::Patch { peer: patch.peer().unwrap_or_default() },
            (_, Some(tunnel)) => {
                let no = domain.share_port(&self.env, tunnel).map_err(|e| refused(&e))?;
                port.datapath_port = Some(no);
                Attachment::Tunnel { port: no, config: tunnel.config() }
            }
            _ => {
                let added = domain.datapath.port_add(port.device.clone(), None);
                let no = added.map_err(|e| refused(&e.to_string()))?;
                port.datapath_port = Some(no);
                Attachment::Datapath(no)
            }
        };
        port.pin_queues(config, domain);
        let added = self.add_to_switch(bridge, &mut port, config, attachment);
        if let Err(why) = &added {
            self.withdraw(bridge, &port);
            return Err(refused(why));
        }
        if let Some((openflow, switch)) = self.openflow(bridge) {
            openflow.devices.insert(switch, port.ofport, port.device.clone());
        }
        self.announce(bridge, port.ofport, None);
        self.mark_queues(bridge, port.ofport, config);
        self.watch(bridge, &mut port, config);
        if let Some(b) = self.bridges.get_mut(bridge) {
            b.ports.insert(name.clone(), port);
        }
        self.listen();
        added
    }

    /// The type of device for an interface: in the `dummy` datapath, internal ports are dummies.
    fn device_kind<'c>(&self, bridge: &str, config: &'c InterfaceConfig) -> &'c str {
        let datapath_type = self.bridges.get(bridge).map(|b| b.datapath_type.as_str());
        match config.kind.as_str() {
            "internal" if datapath_type == Some("dummy") => "dummy-internal",
            kind => kind,
        }
    }

    fn add_to_switch(
        &self,
        bridge: &str,
        port: &mut LayerPort,
        config: &InterfaceConfig,
        attachment: Attachment,
    ) -> Result<OfPort, String> {
        let (b, domain) = self.home(bridge).ok_or("No such device")?;
        let new = NewPort {
            name: config.name.clone(),
            kind: port.device.kind().to_owned(),
            attachment,
            wanted: config.ofport_wanted().map(OfPort),
            is_local: config.name == bridge,
            link: self.link_facts(port),
        };
        let added = domain.fabric.write().add_port(b.switch, new, self.clock.now_ms());
        domain.fabric.changed();
        port.ofport = added.map_err(|e| e.to_string())?;
        Ok(port.ofport)
    }

    pub(super) fn close_port(&mut self, bridge: &str, name: &str) {
        let Some(port) = self.bridges.get_mut(bridge).and_then(|b| b.ports.remove(name)) else { return };
        let old = self.describe_port(bridge, port.ofport);
        if let Some((b, domain)) = self.home(bridge) {
            domain.fabric.set_bfd(b.switch, port.ofport, None);
            let _ = domain.fabric.write().remove_port(b.switch, port.ofport, self.clock.now_ms());
            domain.fabric.changed();
            domain.openflow.devices.remove(b.switch, port.ofport);
        }
        self.announce(bridge, port.ofport, old);
        self.withdraw(bridge, &port);
    }

    /// What OpenFlow says of a port; `None` if there is none of this number.
    fn describe_port(&self, bridge: &str, no: OfPort) -> Option<PortDesc> {
        self.with_switch(bridge, |switch| switch.port(no).map(describe)).flatten()
    }

    /// Tells controllers what became of a port that was `old` before.
    fn announce(&mut self, bridge: &str, no: OfPort, old: Option<PortDesc>) {
        let new = self.describe_port(bridge, no);
        if let Some((openflow, switch)) = self.openflow(bridge) {
            openflow.ofproto.port_changed(switch, old, new);
        }
    }

    /// Takes a port out of the datapath.
    fn withdraw(&mut self, bridge: &str, port: &LayerPort) {
        let kind = self.bridges.get(bridge).map(|b| b.datapath_type.clone()).unwrap_or_default();
        if let (Some(domain), Some(no)) = (self.domains.get_mut(&kind), port.datapath_port) {
            if port.device.as_tunnel().is_some() {
                domain.unshare_port(no);
                self.listen();
            } else {
                let _ = domain.datapath.port_del(no);
            }
        }
    }

    /// What a switch is told of a port's device.
    fn link_facts(&self, port: &LayerPort) -> LinkFacts {
        let is_tunnel = port.device.as_tunnel().is_some();
        let addresses = if is_tunnel { Vec::new() } else { self.underlay().addresses(port.device.name()) };
        LinkFacts { addresses, ..link_facts(&port.device.link()) }
    }

    pub(super) fn reconfigure_port(&mut self, bridge: &str, config: &InterfaceConfig) -> Result<(), String> {
        let name = &config.name;
        let port =
            self.bridges.get_mut(bridge).and_then(|b| b.ports.get_mut(name)).ok_or("No such device")?;
        port.device.configure(&config.options).map_err(|e| e.to_string())?;
        port.apply(config);
        let (ofport, needs_reopen) = (port.ofport, port.device.needs_reopen());
        let peer = port.device.as_patch().and_then(|patch| patch.peer());
        let is_tunnel = port.device.as_tunnel().is_some();
        let (datapath_port, device) = (port.datapath_port, port.device.clone());
        if let (Some((b, domain)), Some(peer)) = (self.home(bridge), peer)
            && domain.fabric.write().set_patch_peer(b.switch, ofport, &peer) == Ok(true)
        {
            domain.fabric.changed();
        }
        if is_tunnel {
            self.move_tunnel(bridge, name)?;
        }
        if let (true, Some(no), Some((_, domain))) = (needs_reopen, datapath_port, self.home(bridge)) {
            reopen(domain, no, device)?;
        }
        if let (Some(port), Some((_, domain))) = (self.port(bridge, name), self.home(bridge)) {
            port.pin_queues(config, domain);
        }
        self.mark_queues(bridge, ofport, config);
        self.rewatch(bridge, config);
        self.refresh_link(bridge, name);
        Ok(())
    }

    /// Tells the switch how packets for a port's queues are marked.
    fn mark_queues(&self, bridge: &str, ofport: OfPort, config: &InterfaceConfig) {
        self.change_switch(bridge, |switch| {
            let port = switch.ports.get_mut(&ofport).filter(|p| p.queue_dscp != config.queue_dscp);
            port.map(|p| p.queue_dscp.clone_from(&config.queue_dscp)).is_some()
        });
    }

    /// Tells the switch what the link of a port looks like now, and opens queues that came or went.
    pub(super) fn refresh_link(&mut self, bridge: &str, name: &str) {
        let Some(port) = self.bridges.get_mut(bridge).and_then(|b| b.ports.get_mut(name)) else { return };
        port.seen = port.device.change_seq();
        let ofport = port.ofport;
        let Some(facts) = self.port(bridge, name).map(|port| self.link_facts(port)) else { return };
        let old = self.describe_port(bridge, ofport);
        self.change_switch(bridge, |switch| {
            let Some(port) = switch.ports.get_mut(&ofport).filter(|p| p.link != facts) else { return false };
            port.config.set(PortConfig::DOWN, !facts.admin_up);
            port.link = facts;
            true
        });
        self.announce(bridge, ofport, old);
        self.refresh_queues(bridge, name);
    }

    /// Tells the switches of all links that changed; names the bridges that have such ports.
    pub fn refresh_links(&mut self) -> Vec<String> {
        let changed = |p: &LayerPort| p.device.change_seq() != p.seen;
        let mut bridges = Vec::new();
        let names: Vec<(String, Vec<String>)> = self
            .bridges
            .iter()
            .map(|(b, is)| {
                let ports = is.ports.iter().filter(|(_, p)| changed(p)).map(|(n, _)| n.clone());
                (b.clone(), ports.collect())
            })
            .collect();
        for (bridge, ports) in names.into_iter().filter(|(_, ports)| !ports.is_empty()) {
            for port in &ports {
                self.refresh_link(&bridge, port);
            }
            self.level_mtu(&bridge);
            bridges.push(bridge);
        }
        bridges
    }

    /// Opens the queues of a port anew if its other side has changed how many there are.
    fn refresh_queues(&self, bridge: &str, name: &str) {
        let Some(port) = self.port(bridge, name).filter(|p| p.device.needs_reopen()) else { return };
        if let (Some(no), Some((_, domain))) = (port.datapath_port, self.home(bridge))
            && let Err(e) = reopen(domain, no, port.device.clone())
        {
            warn!(target: "bridge", "interface {name}: queues cannot be opened again ({e})");
        }
    }

    /// Ports whose links have changed since they were last reported to the database, which is now.
    pub fn unreported(&mut self) -> Vec<LinkReport> {
        let mut all = Vec::new();
        for (bridge, is) in &mut self.bridges {
            for (name, port) in &mut is.ports {
                let seq = port.device.change_seq();
                if port.reported != Some(seq) {
                    all.push(LinkReport {
                        bridge: bridge.clone(),
                        interface: name.clone(),
                        link: port.device.link(),
                        status: port.device.status(),
                        is_new: port.reported.is_none(),
                    });
                    port.reported = Some(seq);
                }
            }
        }
        all
    }

    /// `Interface.statistics` of a port.
    pub fn statistics(&self, bridge: &str, interface: &str) -> Option<BTreeMap<String, u64>> {
        let port = self.port(bridge, interface)?;
        let mut counters = port.device.stats().map(|s| s.statistics()).unwrap_or_default();
        if port.device.as_patch().is_some() || port.device.as_tunnel().is_some() {
            let of = |switch: &Switch| switch.port(port.ofport).map(|p| p.virtual_stats.clone());
            if let Some(passed) = self.with_switch(bridge, of).flatten() {
                let values = [
                    ("rx_packets", &passed.rx_packets),
                    ("rx_bytes", &passed.rx_bytes),
                    ("tx_packets", &passed.tx_packets),
                    ("tx_bytes", &passed.tx_bytes),
                ];
                counters.extend(values.map(|(name, n)| (name.to_owned(), n.load(Relaxed))));
            }
        }
        Some(counters)
    }
}

impl LayerPort {
    fn pin_queues(&self, config: &InterfaceConfig, domain: &Domain) {
        if let Some(no) = self.datapath_port {
            let device = self.device.as_ref();
            polling::configure_port(&domain.datapath, no, device, &config.name, &config.other_config);
        }
    }

    /// Applies what can fail without harm to the port: it is said in the log.
    fn apply(&mut self, config: &InterfaceConfig) {
        let name = &config.name;
        self.mtu_requested = config.mtu_request.is_some();
        if let Some(mtu) = config.mtu_request.filter(|mtu| *mtu != self.device.link().mtu)
            && let Err(e) = self.device.set_mtu(mtu)
        {
            warn!(target: "bridge", "interface {name}: setting MTU to {mtu} failed ({e})");
        }
        if config.qos != self.qos {
            self.qos.clone_from(&config.qos);
            if let Err(e) = self.device.set_qos(config.qos.as_ref()) {
                warn!(target: "bridge", "interface {name}: quality of service failed ({e})");
            }
        }
        if config.policing != self.policing {
            self.policing = config.policing;
            if let Err(e) = self.device.set_policing(config.policing) {
                warn!(target: "bridge", "interface {name}: ingress policing failed ({e})");
            }
        }
    }
}

/// Whether the kernel has a loopback device of this name.
fn is_loopback(name: &str) -> bool {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return false };
    let flags = all.filter(|a| a.interface_name == name).map(|a| a.flags);
    flags.into_iter().any(|flags| flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK))
}

/// Gives a datapath port's device new queues.
fn reopen(domain: &Domain, no: PortNo, device: Arc<dyn Netdev>) -> Result<(), String> {
    domain.datapath.port_del(no).map_err(|e| e.to_string())?;
    domain.datapath.port_add(device, Some(no)).map(|_| ()).map_err(|e| e.to_string())
}

/// `ofp_port_features` bits from the slowest to the fastest, in kilobits per second.
const SPEEDS_KBPS: [(u32, u32); 7] = [
    (0b11, 10_000),
    (0b11 << 2, 100_000),
    (0b11 << 4, 1_000_000),
    (1 << 6, 10_000_000),
    (1 << 7, 40_000_000),
    (1 << 8, 100_000_000),
    (1 << 9, 1_000_000_000),
];

/// The link in OpenFlow's terms.
fn link_facts(link: &LinkState) -> LinkFacts {
    let fastest = |features: u32| {
        let speeds = SPEEDS_KBPS.iter().rev().find(|(bits, _)| features & bits != 0);
        speeds.map_or(0, |(_, kbps)| *kbps)
    };
    let [current, _, supported, _] = link.features;
    LinkFacts {
        mac: link.mac,
        mtu: link.mtu,
        admin_up: link.admin_up,
        carrier: link.carrier,
        features: link.features,
        curr_speed_kbps: fastest(current),
        max_speed_kbps: fastest(supported),
        addresses: Vec::new(),
    }
}
