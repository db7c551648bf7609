//! The layers below, put together: devices of `netdev`, a `datapath` with its `ofproto` fabric for each datapath
//! type, and the switches in it.
//!
//! A datapath is made with the first bridge of its type and goes with the last.

mod ct_zones;
mod domain;
mod health;
mod mtu;
mod openflow;
mod polling;
mod ports;
mod switches;
mod tunnels;

pub use domain::Domain;
pub use openflow::DomainWake;
pub use ports::{LayerPort, LinkReport};
pub use tunnels::UnderlayKeeper;

use super::backend::Backend;
use crate::config::{BridgeConfig, GlobalConfig, InterfaceConfig, PortConfig, RemotesConfig, SwitchSettings};
use clock::Clock;
use datapath::Datapath;
use dpif::PortNo;
use flow::EthAddr;
use netdev::{DummyLevel, Env};
use ofproto::ids::{OfPort, SwitchId};
use ofproto::switch::Switch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stream::Tls;

/// All datapaths, switches and ports.
pub struct Layers {
    env: Env,
    clock: Clock,
    tls: Arc<Tls>,
    global: GlobalConfig,
    /// By datapath type.
    domains: BTreeMap<String, Domain>,
    /// Datapaths that no bridge uses (`dpctl/add-dp`).
    by_hand: Vec<Arc<Datapath>>,
    bridges: BTreeMap<String, LayerBridge>,
    keeper: UnderlayKeeper,
    /// Bridges whose ports changed, so that the MTU of internal ports may have to.
    unlevel: BTreeSet<String>,
}

/// A bridge and where it is.
struct LayerBridge {
    datapath_type: String,
    switch: SwitchId,
    ports: BTreeMap<String, LayerPort>,
}

impl Layers {
    /// `tls` is for OpenFlow connections.
    pub fn new(env: Env, clock: Clock, tls: Arc<Tls>, keeper: UnderlayKeeper) -> Self {
        let global = GlobalConfig::default();
        Layers {
            env,
            clock,
            tls,
            global,
            domains: BTreeMap::new(),
            by_hand: Vec::new(),
            bridges: BTreeMap::new(),
            keeper,
            unlevel: BTreeSet::new(),
        }
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// A configuration is complete: flows that it changes are changed at once.
    pub fn revise_flows(&self) {
        self.domains.values().for_each(|domain| domain.fabric.look_now());
        // The thread that does it is often on our core, since others have polling threads.
        std::thread::yield_now();
    }

    /// The datapaths that exist, by type.
    pub fn domains(&self) -> impl Iterator<Item = (&str, &Domain)> {
        self.domains.iter().map(|(kind, domain)| (kind.as_str(), domain))
    }

    /// All datapaths: those of bridges, and those made by hand.
    pub fn datapaths(&self) -> Vec<Arc<Datapath>> {
        self.domains.values().map(|d| &d.datapath).chain(&self.by_hand).cloned().collect()
    }

    /// Makes a datapath that no bridge uses, `TYPE@NAME`, with its own device. An error is the system's word.
    pub fn add_datapath(&mut self, full: &str) -> Result<(), String> {
        let (kind, name) = full.split_once('@').unwrap_or((full, full));
        let datapath = Datapath::new(full, self.clock.clone());
        datapath.set_number_by_name(self.env.dummy_level() != DummyLevel::Off);
        let local = domain::open_local(kind, name, &self.env, &datapath);
        local.ok_or_else(|| "No such device".to_owned())?;
        self.by_hand.push(datapath);
        Ok(())
    }

    /// Forgets a datapath that no bridge uses.
    pub fn del_datapath(&mut self, full: &str) {
        self.by_hand.retain(|d| dpif::Dpif::name(d.as_ref()) != full);
    }

    /// Gives a port of a datapath another number, and tells the switch that has it.
    pub fn renumber(
        &mut self,
        datapath: &Datapath,
        name: &str,
        old: PortNo,
        new: PortNo,
    ) -> Result<(), String> {
        datapath.port_renumber(name, new).map_err(|e| e.to_string())?;
        for bridge in self.bridges.values_mut() {
            let Some(domain) = self.domains.get(&bridge.datapath_type) else { continue };
            let is_it = |p: &&mut LayerPort| p.datapath_port == Some(old) && p.device.name() == name;
            if std::ptr::eq(domain.datapath.as_ref(), datapath)
                && let Some(port) = bridge.ports.values_mut().find(is_it)
            {
                port.datapath_port = Some(new);
                let moved = domain.fabric.write().move_port(bridge.switch, port.ofport, new);
                moved.map_err(|e| e.to_string())?;
                domain.fabric.changed();
            }
        }
        Ok(())
    }

    /// Names of the bridges, in order.
    pub fn bridges(&self) -> impl Iterator<Item = &str> {
        self.bridges.keys().map(String::as_str)
    }

    fn home(&self, bridge: &str) -> Option<(&LayerBridge, &Domain)> {
        let b = self.bridges.get(bridge)?;
        Some((b, self.domains.get(&b.datapath_type)?))
    }

    /// The datapath of a bridge, and the bridge's switch in it.
    pub fn find(&self, bridge: &str) -> Option<(&Domain, SwitchId)> {
        self.home(bridge).map(|(b, domain)| (domain, b.switch))
    }

    /// Looks at a bridge's switch.
    pub fn with_switch<T>(&self, bridge: &str, f: impl FnOnce(&Switch) -> T) -> Option<T> {
        let (b, domain) = self.home(bridge)?;
        domain.fabric.read().switch(b.switch).map(f)
    }

    pub fn port(&self, bridge: &str, interface: &str) -> Option<&LayerPort> {
        self.bridges.get(bridge)?.ports.get(interface)
    }

    /// The port of this name on any bridge.
    pub fn find_port(&self, interface: &str) -> Option<&LayerPort> {
        self.bridges.values().find_map(|b| b.ports.get(interface))
    }

    /// The MAC table of a bridge was changed by hand: what was forwarded by it is to be looked at again.
    pub fn macs_changed(&self, bridge: &str) {
        if let Some((_, domain)) = self.home(bridge) {
            domain.fabric.changed();
        }
    }

    /// Lets devices that we made live on in the kernel when their ports go: somebody else has them now.
    pub fn leave_devices(&self) {
        self.bridges.values().flat_map(|b| b.ports.values()).for_each(|p| p.device.keep_on_drop(true));
    }

    /// What `memory/show` counts here.
    pub fn memory_usage(&self, usage: &mut BTreeMap<String, u64>) {
        let mut add = |name: &str, n: usize| {
            if n != 0 {
                *usage.entry(name.to_owned()).or_default() += n as u64;
            }
        };
        for domain in self.domains.values() {
            let state = domain.fabric.read();
            add("handlers", domain.handlers as usize);
            add("revalidators", domain.revalidators as usize);
            add("udpif keys", domain.fabric.megaflows.len());
            for switch in state.switches.values() {
                add("ports", switch.ports.len());
                // All tables, those of the switch itself too.
                add("rules", switch.tables.iter().map(|t| t.iter().count()).sum());
            }
        }
    }
}

impl Backend for Layers {
    fn set_global(&mut self, global: &GlobalConfig) {
        self.global = global.clone();
        self.domains.values_mut().for_each(|domain| domain.configure(global));
    }

    fn add_bridge(&mut self, bridge: &BridgeConfig) -> Result<(), String> {
        self.create_bridge(bridge)
    }

    fn remove_bridge(&mut self, bridge: &str) {
        self.destroy_bridge(bridge);
    }

    fn add_interface(&mut self, bridge: &str, interface: &InterfaceConfig) -> Result<u16, String> {
        self.unlevel.insert(bridge.to_owned());
        self.open_port(bridge, interface).map(|no| no.0)
    }

    fn remove_interface(&mut self, bridge: &str, interface: &str) {
        self.close_port(bridge, interface);
        self.unlevel.insert(bridge.to_owned());
    }

    fn configure_interface(&mut self, bridge: &str, interface: &InterfaceConfig) -> Result<(), String> {
        self.unlevel.insert(bridge.to_owned());
        self.reconfigure_port(bridge, interface)
    }

    fn set_port(&mut self, bridge: &str, port: &PortConfig, members: &[u16]) {
        let members = members.iter().map(|no| OfPort(*no)).collect();
        self.set_bundle(bridge, port, members);
    }

    fn remove_port(&mut self, bridge: &str, port: &str) {
        self.change_switch(bridge, |switch| switch.remove_bundle(port));
    }

    fn set_switch(&mut self, bridge: &str, settings: &SwitchSettings) {
        self.configure_switch(bridge, settings);
        self.describe(bridge, settings.dp_desc.as_deref(), settings.serial.as_deref());
    }

    fn set_remotes(&mut self, bridge: &str, remotes: &RemotesConfig) {
        self.configure_remotes(bridge, remotes);
    }

    fn settle(&mut self) {
        for bridge in std::mem::take(&mut self.unlevel) {
            self.level_mtu(&bridge);
        }
        self.revise_flows();
        self.domains.values().for_each(|domain| domain.datapath.expect_none());
        self.refresh_underlay();
    }

    fn mac(&self, bridge: &str, interface: &str) -> Option<EthAddr> {
        Some(self.port(bridge, interface)?.device.link().mac)
    }

    fn set_mac(&mut self, bridge: &str, interface: &str, mac: EthAddr) -> Result<(), String> {
        let port = self.port(bridge, interface).ok_or("No such device")?;
        port.device.set_mac(mac).map_err(|e| e.to_string())?;
        self.refresh_link(bridge, interface);
        Ok(())
    }

    fn set_datapath_id(&mut self, bridge: &str, datapath_id: u64) {
        self.change_switch(bridge, |switch| {
            switch.datapath_id = datapath_id;
            false
        });
    }
}
