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
use flow::EthAddr;
use netdev::Env;
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
            bridges: BTreeMap::new(),
            keeper,
            unlevel: BTreeSet::new(),
        }
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The datapaths that exist, by type.
    pub fn domains(&self) -> impl Iterator<Item = (&str, &Domain)> {
        self.domains.iter().map(|(kind, domain)| (kind.as_str(), domain))
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
