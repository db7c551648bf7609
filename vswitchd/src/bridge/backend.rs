//! What reconciliation does things with.

use crate::config::{BridgeConfig, GlobalConfig, InterfaceConfig, PortConfig, RemotesConfig, SwitchSettings};
use flow::EthAddr;

/// The layers below: devices, datapaths, switches, OpenFlow connections. Bridges, ports and interfaces are known
/// by their names, OpenFlow ports by their numbers. Error texts are for the log and `Interface.error`.
pub trait Backend {
    /// Settings of all datapaths, present and to come.
    fn set_global(&mut self, global: &GlobalConfig);

    /// Makes a switch without ports, and its datapath if it is the first of its type.
    fn add_bridge(&mut self, bridge: &BridgeConfig) -> Result<(), String>;
    /// Removes a switch that has no ports any more, and its datapath if it was the last.
    fn remove_bridge(&mut self, bridge: &str);

    /// Opens and configures a device and makes it a port. Returns its OpenFlow port number: the wanted one
    /// ([`InterfaceConfig::ofport_wanted`]) if it is free. On an error, nothing of it is left.
    fn add_interface(&mut self, bridge: &str, interface: &InterfaceConfig) -> Result<u16, String>;
    fn remove_interface(&mut self, bridge: &str, interface: &str);
    /// Gives an existing port's device other options, MTU or policing. On an error the port is to be removed.
    fn configure_interface(&mut self, bridge: &str, interface: &InterfaceConfig) -> Result<(), String>;

    /// Makes these OpenFlow ports one port of the bridge, for NORMAL.
    fn set_port(&mut self, bridge: &str, port: &PortConfig, members: &[u16]);
    fn remove_port(&mut self, bridge: &str, port: &str);

    fn set_switch(&mut self, bridge: &str, settings: &SwitchSettings);
    fn set_remotes(&mut self, bridge: &str, remotes: &RemotesConfig);

    /// All steps are done: for what depends on several of them.
    fn settle(&mut self);

    /// The address of a device, if it has one.
    fn mac(&self, bridge: &str, interface: &str) -> Option<EthAddr>;
    fn set_mac(&mut self, bridge: &str, interface: &str, mac: EthAddr) -> Result<(), String>;
    fn set_datapath_id(&mut self, bridge: &str, datapath_id: u64);
}
