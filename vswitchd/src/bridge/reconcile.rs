//! Carrying out a plan.

use super::LOCAL;
use super::backend::Backend;
use super::identity::{bridge_mac, fake_bridge_mac};
use super::plan::{Actual, ActualBridge, ActualInterface, Step, plan};
use crate::config::{BridgeConfig, Desired, InterfaceConfig, PortConfig, Problem, Severity};
use flow::EthAddr;
use std::collections::{BTreeMap, BTreeSet};
use tracing::{error, info, warn};

/// Remembers what exists, and makes it what is asked for.
#[derive(Debug, Default)]
pub struct Reconciler {
    actual: Actual,
    /// Interfaces that could not be added, by bridge and name, and why.
    failed: BTreeMap<(String, String), String>,
    /// Problems that were logged already.
    told: BTreeSet<Problem>,
}

impl Reconciler {
    pub fn actual(&self) -> &Actual {
        &self.actual
    }

    /// Why an interface could not be added, if it could not.
    pub fn failure(&self, bridge: &str, interface: &str) -> Option<&str> {
        self.failed.get(&(bridge.to_owned(), interface.to_owned())).map(String::as_str)
    }

    /// Whether an interface of this name waits for its device.
    pub fn waits_for(&self, interface: &str) -> bool {
        self.failed.keys().any(|(_, name)| name == interface)
    }

    /// Makes what exists into what is desired, as far as possible. Interfaces that failed before are tried again.
    /// Returns the steps that were taken.
    pub fn apply(&mut self, desired: &Desired, backend: &mut impl Backend) -> Vec<Step> {
        self.tell(&desired.problems);
        let wanted = |bridge: &str, name: &str| {
            desired.bridges.get(bridge).is_some_and(|b| b.interfaces.contains_key(name))
        };
        self.failed.retain(|(bridge, name), _| wanted(bridge, name));
        let steps = plan(desired, &self.actual);
        for step in &steps {
            self.take(step, desired, backend);
        }
        backend.settle();
        steps
    }

    /// Looks at every bridge's address again, since a device has changed its own.
    pub fn identify_all(&mut self, desired: &Desired, backend: &mut impl Backend) {
        for bridge in desired.bridges.values() {
            self.identify(bridge, backend);
        }
    }

    /// Removes everything.
    pub fn clear(&mut self, backend: &mut impl Backend) {
        let nothing =
            Desired { global: self.actual.global.clone().unwrap_or_default(), ..Desired::default() };
        self.apply(&nothing, backend);
    }

    /// Logs what was not logged already.
    fn tell(&mut self, problems: &[Problem]) {
        let now: BTreeSet<Problem> = problems.iter().cloned().collect();
        for Problem { severity, text, .. } in now.difference(&self.told) {
            match severity {
                Severity::Error => error!(target: "bridge", "{text}"),
                Severity::Warning => warn!(target: "bridge", "{text}"),
            }
        }
        self.told = now;
    }

    fn take(&mut self, step: &Step, desired: &Desired, backend: &mut impl Backend) {
        let wanted = |name: &str| desired.bridges.get(name);
        match step {
            Step::SetGlobal => {
                backend.set_global(&desired.global);
                self.actual.global = Some(desired.global.clone());
            }
            Step::RemoveInterface { bridge, interface } => self.remove_interface(bridge, interface, backend),
            Step::RemovePort { bridge, port } => self.remove_port(bridge, port, backend),
            Step::RemoveBridge { bridge } => {
                backend.remove_bridge(bridge);
                self.actual.bridges.remove(bridge);
            }
            Step::AddBridge { bridge } => {
                if let Some(config) = wanted(bridge) {
                    self.add_bridge(config, backend);
                }
            }
            Step::Configure { bridge, interface } => {
                if let Some(config) = wanted(bridge).and_then(|b| b.interfaces.get(interface)) {
                    self.configure_interface(bridge, config, backend);
                }
            }
            Step::AddInterface { bridge, interface } => {
                if let Some(config) = wanted(bridge).and_then(|b| b.interfaces.get(interface)) {
                    self.add_interface(bridge, config, backend);
                }
            }
            Step::SetPort { bridge, port } => {
                if let Some(config) = wanted(bridge).and_then(|b| b.ports.get(port)) {
                    self.set_port(bridge, config, backend);
                }
            }
            Step::Identify { bridge } => {
                if let Some(config) = wanted(bridge) {
                    self.identify(config, backend);
                }
            }
            Step::SetSwitch { bridge } => {
                if let (Some(config), Some(is)) = (wanted(bridge), self.actual.bridges.get_mut(bridge)) {
                    backend.set_switch(bridge, &config.settings);
                    is.settings = Some(config.settings.clone());
                }
            }
            Step::SetRemotes { bridge } => {
                if let (Some(config), Some(is)) = (wanted(bridge), self.actual.bridges.get_mut(bridge)) {
                    backend.set_remotes(bridge, &config.remotes);
                    is.remotes = Some(config.remotes.clone());
                }
            }
        }
    }

    fn add_bridge(&mut self, config: &BridgeConfig, backend: &mut impl Backend) {
        if let Err(reason) = backend.add_bridge(config) {
            error!(target: "bridge", "failed to create bridge {}: {reason}", config.name);
            return;
        }
        let is = ActualBridge { datapath_type: config.datapath_type.clone(), ..ActualBridge::default() };
        self.actual.bridges.insert(config.name.clone(), is);
    }

    fn add_interface(&mut self, bridge: &str, config: &InterfaceConfig, backend: &mut impl Backend) {
        let Some(is) = self.actual.bridges.get_mut(bridge) else { return };
        let (name, key) = (&config.name, (bridge.to_owned(), config.name.clone()));
        match backend.add_interface(bridge, config) {
            Ok(ofport) => {
                info!(target: "bridge", "bridge {bridge}: added interface {name} on port {ofport}");
                is.interfaces.insert(name.clone(), ActualInterface { config: config.clone(), ofport });
                self.failed.remove(&key);
            }
            Err(reason) => {
                if self.failed.get(&key) != Some(&reason) {
                    warn!(target: "bridge", "{reason}");
                }
                self.failed.insert(key, reason);
            }
        }
    }

    fn remove_interface(&mut self, bridge: &str, name: &str, backend: &mut impl Backend) {
        let Some(is) = self.actual.bridges.get_mut(bridge) else { return };
        if let Some(old) = is.interfaces.remove(name) {
            info!(target: "bridge", "bridge {bridge}: deleted interface {name} on port {}", old.ofport);
            backend.remove_interface(bridge, name);
        }
    }

    fn configure_interface(&mut self, bridge: &str, config: &InterfaceConfig, backend: &mut impl Backend) {
        let Some(is) = self.actual.bridges.get_mut(bridge) else { return };
        let Some(old) = is.interfaces.get_mut(&config.name) else { return };
        if backend.configure_interface(bridge, config).is_ok() {
            old.config = config.clone();
            return;
        }
        // As if it were new: this says what is wrong with it.
        self.remove_interface(bridge, &config.name, backend);
        self.add_interface(bridge, config, backend);
        let ports = self.actual.bridges.get(bridge).map(|is| is.ports.clone()).unwrap_or_default();
        for port in ports.values().filter(|p| p.interfaces.contains(&config.name)) {
            self.set_port(bridge, port, backend);
        }
    }

    /// A port has the interfaces that could be added. It is not there if there are none.
    fn set_port(&mut self, bridge: &str, config: &PortConfig, backend: &mut impl Backend) {
        let Some(is) = self.actual.bridges.get_mut(bridge) else { return };
        let ofport = |name: &String| is.interfaces.get(name).map(|i| i.ofport);
        let members: Vec<u16> = config.interfaces.iter().filter_map(ofport).collect();
        if members.is_empty() {
            return self.remove_port(bridge, &config.name, backend);
        }
        backend.set_port(bridge, config, &members);
        is.ports.insert(config.name.clone(), config.clone());
    }

    fn remove_port(&mut self, bridge: &str, port: &str, backend: &mut impl Backend) {
        let Some(is) = self.actual.bridges.get_mut(bridge) else { return };
        if is.ports.remove(port).is_some() {
            backend.remove_port(bridge, port);
        }
    }

    /// Settles a bridge's addresses and datapath ID.
    fn identify(&mut self, config: &BridgeConfig, backend: &mut impl Backend) {
        let name = &config.name;
        let Some(is) = self.actual.bridges.get_mut(name) else { return };
        let macs: BTreeMap<&str, EthAddr> =
            is.interfaces.keys().filter_map(|i| Some((i.as_str(), backend.mac(name, i)?))).collect();
        let mac_of = |interface: &str| macs.get(interface).copied();
        let mac = bridge_mac(config, mac_of);
        if is.interfaces.get(name).is_some_and(|i| i.ofport == LOCAL)
            && mac_of(name) != Some(mac)
            && let Err(reason) = backend.set_mac(name, name, mac)
        {
            error!(target: "bridge", "bridge {name}: failed to set bridge Ethernet address: {reason}");
        }
        is.mac = Some(mac);
        is.identity = Some(config.identity.clone());
        let datapath_id = config.identity.datapath_id.unwrap_or(mac.to_u64());
        if is.datapath_id != Some(datapath_id) {
            info!(target: "bridge", "bridge {name}: using datapath ID {datapath_id:016x}");
            backend.set_datapath_id(name, datapath_id);
            is.datapath_id = Some(datapath_id);
        }
        for port in config.ports.values() {
            let fake_mac = port.fake_bridge.then(|| fake_bridge_mac(config, port, mac_of));
            for interface in port.interfaces.iter().filter_map(|i| config.interfaces.get(i)) {
                set_interface_mac(name, interface, fake_mac, mac_of(&interface.name), backend);
            }
        }
    }
}

/// Gives an internal interface the address that its row, or its fake bridge, asks for.
fn set_interface_mac(
    bridge: &str,
    interface: &InterfaceConfig,
    fake_mac: Option<EthAddr>,
    is: Option<EthAddr>,
    backend: &mut impl Backend,
) {
    let name = &interface.name;
    let Some(mac) = interface
        .mac
        .or(fake_mac)
        .filter(|mac| interface.kind == "internal" && is.is_some_and(|is| is != *mac))
    else {
        return;
    };
    if name == bridge {
        let hint = "(use Bridge record to set local port's mac)";
        error!(target: "bridge", "interface {name}: ignoring mac in Interface record {hint}");
    } else if mac.is_multicast() {
        error!(target: "bridge", "interface {name}: cannot set MAC to multicast address");
    } else if mac.is_zero() {
        error!(target: "bridge", "interface {name}: cannot set MAC to all zero address");
    } else if let Err(reason) = backend.set_mac(bridge, name, mac) {
        error!(target: "bridge", "interface {name}: setting MAC failed ({reason})");
    }
}
