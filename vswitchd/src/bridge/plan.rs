//! What to do, as data.

use super::LOCAL;
use crate::config::{
    BridgeConfig, Desired, GlobalConfig, IdentityConfig, InterfaceConfig, PortConfig, RemotesConfig,
    SwitchSettings,
};
use flow::EthAddr;
use std::collections::{BTreeMap, BTreeSet};

/// What exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actual {
    pub global: Option<GlobalConfig>,
    pub bridges: BTreeMap<String, ActualBridge>,
}

/// A bridge that exists, with the settings last given to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActualBridge {
    pub datapath_type: String,
    pub interfaces: BTreeMap<String, ActualInterface>,
    pub ports: BTreeMap<String, PortConfig>,
    pub settings: Option<SwitchSettings>,
    pub remotes: Option<RemotesConfig>,
    pub identity: Option<IdentityConfig>,
    pub mac: Option<EthAddr>,
    pub datapath_id: Option<u64>,
}

/// An interface that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct ActualInterface {
    pub config: InterfaceConfig,
    pub ofport: u16,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    SetGlobal,
    RemoveInterface {
        bridge: String,
        interface: String,
    },
    RemovePort {
        bridge: String,
        port: String,
    },
    RemoveBridge {
        bridge: String,
    },
    /// The interface stays; its options, MTU or policing are others.
    Configure {
        bridge: String,
        interface: String,
    },
    AddBridge {
        bridge: String,
    },
    AddInterface {
        bridge: String,
        interface: String,
    },
    SetPort {
        bridge: String,
        port: String,
    },
    /// The bridge's address and datapath ID may have changed.
    Identify {
        bridge: String,
    },
    SetSwitch {
        bridge: String,
    },
    SetRemotes {
        bridge: String,
    },
}

/// The steps that lead from `actual` to `desired`, in order.
pub fn plan(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let (mut leave, mut enter) = (Vec::new(), Vec::new());
    if actual.global.as_ref() != Some(&desired.global) {
        leave.push(Step::SetGlobal);
    }
    for (name, is) in &actual.bridges {
        match desired.bridges.get(name) {
            Some(wanted) if wanted.datapath_type == is.datapath_type => {
                change_bridge(wanted, is, &mut leave, &mut enter);
            }
            _ => remove_bridge(name, is, &mut leave),
        }
    }
    let kept =
        |b: &BridgeConfig| actual.bridges.get(&b.name).is_some_and(|is| is.datapath_type == b.datapath_type);
    for bridge in desired.bridges.values().filter(|b| !kept(b)) {
        add_bridge(bridge, &mut enter);
    }
    // Interfaces that ask for a number come before those that take what is left; of several that ask for the
    // same, the one that is to have it before the rest, who would take what others ask for.
    let first = first_askers(desired, actual);
    let order = |step: &Step| match step {
        Step::AddInterface { bridge, interface } => {
            let wanted = desired.bridges.get(bridge).and_then(|b| b.interfaces.get(interface));
            match wanted.map(|i| (i.ofport_request, i.ofport_before)) {
                Some((Some(no), _)) if first.get(&(bridge, no)) == Some(&interface.as_str()) => 0,
                Some((Some(_), _)) => 1,
                Some((None, Some(_))) => 2,
                _ => 3,
            }
        }
        _ => 0,
    };
    leave.sort_by_key(rank);
    enter.sort_by_key(|step| (rank(step), order(step)));
    leave.append(&mut enter);
    leave
}

/// Of the interfaces of a bridge that ask for the same number, the one that has it, else the first by name.
fn first_askers<'a>(desired: &'a Desired, actual: &Actual) -> BTreeMap<(&'a String, u16), &'a str> {
    let mut first = BTreeMap::new();
    for (bridge, config) in &desired.bridges {
        let is = actual.bridges.get(bridge);
        for (name, interface) in &config.interfaces {
            let Some(no) = interface.ofport_request else { continue };
            if is.and_then(|is| is.interfaces.get(name)).is_some_and(|i| i.ofport == no) {
                first.insert((bridge, no), name.as_str());
            } else {
                first.entry((bridge, no)).or_insert(name.as_str());
            }
        }
    }
    first
}

/// Where a kind of step stands among the others.
fn rank(step: &Step) -> u8 {
    match step {
        Step::SetGlobal => 0,
        Step::RemoveInterface { .. } => 1,
        Step::RemovePort { .. } => 2,
        Step::RemoveBridge { .. } => 3,
        Step::Configure { .. } => 4,
        Step::AddBridge { .. } => 5,
        Step::AddInterface { .. } => 6,
        Step::SetPort { .. } => 7,
        Step::Identify { .. } => 8,
        Step::SetSwitch { .. } => 9,
        Step::SetRemotes { .. } => 10,
    }
}

fn remove_bridge(name: &str, is: &ActualBridge, steps: &mut Vec<Step>) {
    let bridge = || name.to_owned();
    steps.extend(
        is.interfaces.keys().map(|i| Step::RemoveInterface { bridge: bridge(), interface: i.clone() }),
    );
    steps.extend(is.ports.keys().map(|p| Step::RemovePort { bridge: bridge(), port: p.clone() }));
    steps.push(Step::RemoveBridge { bridge: bridge() });
}

fn add_bridge(wanted: &BridgeConfig, steps: &mut Vec<Step>) {
    let bridge = || wanted.name.clone();
    steps.push(Step::AddBridge { bridge: bridge() });
    steps.extend(
        wanted.interfaces.keys().map(|i| Step::AddInterface { bridge: bridge(), interface: i.clone() }),
    );
    steps.extend(wanted.ports.keys().map(|p| Step::SetPort { bridge: bridge(), port: p.clone() }));
    steps.push(Step::Identify { bridge: bridge() });
    steps.push(Step::SetSwitch { bridge: bridge() });
    steps.push(Step::SetRemotes { bridge: bridge() });
}

fn change_bridge(wanted: &BridgeConfig, is: &ActualBridge, leave: &mut Vec<Step>, enter: &mut Vec<Step>) {
    let bridge = || wanted.name.clone();
    let misplaced = misplaced(wanted, is);
    let stays = |name: &str| {
        let (old, new) = (is.interfaces.get(name), wanted.interfaces.get(name));
        matches!((old, new), (Some(old), Some(new)) if old.config.kind == new.kind)
            && !misplaced.contains(name)
    };
    for (interface, old) in &is.interfaces {
        let step = (bridge(), interface.clone());
        if !stays(interface) {
            leave.push(Step::RemoveInterface { bridge: step.0, interface: step.1 });
        } else if wanted.interfaces.get(interface).is_some_and(|new| !new.is_same(&old.config)) {
            enter.push(Step::Configure { bridge: step.0, interface: step.1 });
        }
    }
    for interface in wanted.interfaces.keys().filter(|i| !stays(i)) {
        enter.push(Step::AddInterface { bridge: bridge(), interface: interface.clone() });
    }
    for port in is.ports.keys().filter(|p| !wanted.ports.contains_key(*p)) {
        leave.push(Step::RemovePort { bridge: bridge(), port: port.clone() });
    }
    for (name, port) in &wanted.ports {
        if is.ports.get(name) != Some(port) || !port.interfaces.iter().all(|i| stays(i)) {
            enter.push(Step::SetPort { bridge: bridge(), port: name.clone() });
        }
    }
    let interfaces_change =
        is.interfaces.keys().any(|i| !stays(i)) || wanted.interfaces.keys().any(|i| !stays(i));
    let ports_change = is.ports != wanted.ports;
    if interfaces_change || ports_change || macs_change(wanted, is) {
        enter.push(Step::Identify { bridge: bridge() });
    }
    if is.settings.as_ref() != Some(&wanted.settings) {
        enter.push(Step::SetSwitch { bridge: bridge() });
    }
    if is.remotes.as_ref() != Some(&wanted.remotes) {
        enter.push(Step::SetRemotes { bridge: bridge() });
    }
}

/// Whether the columns that decide on addresses and datapath ID have changed.
fn macs_change(wanted: &BridgeConfig, is: &ActualBridge) -> bool {
    let differs = |(name, new): (&String, &InterfaceConfig)| {
        is.interfaces.get(name).is_some_and(|old| old.config.mac != new.mac)
    };
    is.identity.as_ref() != Some(&wanted.identity) || wanted.interfaces.iter().any(differs)
}

/// Interfaces that have another number than they ask for, and those that hold it without having asked.
fn misplaced(wanted: &BridgeConfig, is: &ActualBridge) -> BTreeSet<String> {
    let holder: BTreeMap<u16, &String> = is.interfaces.iter().map(|(name, i)| (i.ofport, name)).collect();
    let request = |name: &str| wanted.interfaces.get(name).and_then(|i| i.ofport_request);
    let mut misplaced = BTreeSet::new();
    for (name, interface) in &is.interfaces {
        let Some(no) = request(name).filter(|no| *no != interface.ofport && interface.ofport != LOCAL) else {
            continue;
        };
        match holder.get(&no) {
            Some(victim) if request(victim) == Some(no) => continue,
            Some(victim) => misplaced.insert((*victim).clone()),
            None => true,
        };
        misplaced.insert(name.clone());
    }
    misplaced
}
