//! What the database asks for, as types: [`read`] turns a snapshot into a [`Desired`] state.
//!
//! Pure and total: any snapshot has a reading. What a row says wrongly becomes a [`Problem`] (a line for the
//! log) or, where an interface cannot be, an entry in [`Desired::refused`] (a line for `Interface.error`);
//! everything else is read as if the bad row were not there.

mod bridge;
mod ct_zones;
mod flow_table;
mod global;
mod interface;
mod mirror;
mod port;
mod remotes;
mod smap;
#[cfg(test)]
pub mod tests;

pub use bridge::{BridgeConfig, IdentityConfig, SwitchSettings};
pub use ct_zones::CtZones;
pub use flow_table::TableConfig;
pub use global::GlobalConfig;
pub use interface::InterfaceConfig;
pub use port::{PortConfig, VlanConfig};
pub use remotes::{Band, ControllerConfig, ControllerKind, FailMode, RemotesConfig};

use ovsdb_shim::{Row, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use uuid::Uuid;

/// What the reading depends on besides the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Where `<bridge>.mgmt` and `<bridge>.snoop` lie.
    pub rundir: PathBuf,
    /// This process's own.
    pub pidfile: Option<PathBuf>,
    /// `Open_vSwitch.datapath_types`.
    pub datapath_types: Vec<String>,
    /// Without `--no-self-confinement`, controllers' sockets lie in `rundir` only.
    pub self_confinement: bool,
    /// `other_config:flow-restore-wait` was absent once, and counts no more.
    pub flows_restored: bool,
}

/// How serious a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// Something that a row says and that cannot be, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub row: Uuid,
    pub severity: Severity,
    /// The line for the log.
    pub text: String,
}

/// All that the database asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The row of the Open_vSwitch table, if there is one.
    pub root: Option<Uuid>,
    pub next_cfg: i64,
    pub global: GlobalConfig,
    pub bridges: BTreeMap<String, BridgeConfig>,
    /// Interfaces that cannot be, with the text for their `error` column.
    pub refused: BTreeMap<Uuid, String>,
    /// Rows of the Datapath table by datapath type.
    pub datapaths: BTreeMap<String, Uuid>,
    pub tls: Option<TlsFiles>,
    pub problems: Vec<Problem>,
}

impl Desired {
    /// The `dpdk` ports that ask for a device, in the order in which ports are opened.
    pub fn dpdk_ports(&self) -> Vec<DpdkPort> {
        let interfaces = self.bridges.values().flat_map(|bridge| bridge.interfaces.values());
        let ports = interfaces.filter(|interface| interface.kind == "dpdk");
        let port = |port: &InterfaceConfig| {
            let devargs = port.options.get("dpdk-devargs").cloned()?;
            Some(DpdkPort { name: port.name.clone(), devargs, mtu: port.mtu_request })
        };
        ports.filter_map(port).collect()
    }
}

/// What is known of a `dpdk` port before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkPort {
    pub name: String,
    pub devargs: String,
    /// `mtu_request`.
    pub mtu: Option<u32>,
}

/// The SSL table's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub private_key: PathBuf,
    pub certificate: PathBuf,
    pub ca_cert: PathBuf,
    pub bootstrap_ca_cert: bool,
}

/// What a reading collects beside its result.
pub(crate) struct Reader<'a> {
    pub snapshot: &'a Snapshot,
    pub around: &'a Surroundings,
    pub problems: Vec<Problem>,
    pub refused: BTreeMap<Uuid, String>,
}

impl Reader<'_> {
    pub fn warn(&mut self, row: Uuid, text: String) {
        self.problems.push(Problem { row, severity: Severity::Warning, text });
    }

    pub fn error(&mut self, row: Uuid, text: String) {
        self.problems.push(Problem { row, severity: Severity::Error, text });
    }
}

/// Reads a snapshot.
pub fn read(snapshot: &Snapshot, around: &Surroundings) -> Desired {
    let mut reader = Reader { snapshot, around, problems: Vec::new(), refused: BTreeMap::new() };
    let Some(root) = snapshot.only("Open_vSwitch") else { return Desired::default() };
    let mut bridges = read_bridges(&mut reader, root);
    let mut global = GlobalConfig::read(root);
    global.ct_zones = ct_zones::read_all(snapshot, root);
    global.flow_restore_wait &= !around.flows_restored;
    if global.flow_restore_wait {
        bridges.values_mut().for_each(|bridge| bridge.remotes.controllers.clear());
    }
    let ssl = snapshot.follow(root, "ssl", "SSL").next();
    Desired {
        root: Some(root.uuid),
        next_cfg: root.int("next_cfg"),
        global,
        bridges,
        refused: reader.refused,
        datapaths: root.string_uuid_map("datapaths").map(|(kind, row)| (kind.to_owned(), row)).collect(),
        tls: ssl.map(|row| TlsFiles::read(row)),
        problems: reader.problems,
    }
}

impl TlsFiles {
    fn read(row: &Row) -> Self {
        TlsFiles {
            private_key: row.str("private_key").into(),
            certificate: row.str("certificate").into(),
            ca_cert: row.str("ca_cert").into(),
            bootstrap_ca_cert: row.bool("bootstrap_ca_cert"),
        }
    }
}

fn read_bridges(reader: &mut Reader<'_>, root: &Row) -> BTreeMap<String, BridgeConfig> {
    let mut bridges = BTreeMap::new();
    let mut claimed = BTreeSet::new();
    let snapshot = reader.snapshot;
    for row in snapshot.follow(root, "bridges", "Bridge") {
        let name = row.str("name");
        if name.is_empty() || name.contains(['/', '\\']) {
            reader.warn(row.uuid, format!("ignoring bridge with invalid name \"{name}\""));
        } else if !claimed.insert(name) {
            reader.warn(row.uuid, format!("bridge {name} specified twice"));
        } else if let Some(bridge) = BridgeConfig::read(reader, row) {
            bridges.insert(name.to_owned(), bridge);
        }
    }
    bridges
}
