//! The Controller table, and what else a bridge's OpenFlow connections need.

use super::{Reader, smap};
use openflow::Version;
use openflow::msg::hello::VersionSet;
use ovsdb_shim::{Row, Snapshot};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stream::{OPENFLOW_PORT, OVSDB_PORT, Target};
use uuid::Uuid;

/// `controller-queue-size` when it is unset or out of range.
const QUEUE_DEFAULT: i32 = 100;
const QUEUE_MAX: i32 = 512;
const DSCP_DEFAULT: u8 = 48;
/// Seconds between attempts to connect, at most, when `max_backoff` is unset.
const MAX_BACKOFF_S: u64 = 8;
/// Seconds of silence before a probe, when `inactivity_probe` is unset.
const PROBE_INTERVAL_S: u64 = 5;

/// `Controller.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerKind {
    Primary,
    Service,
}

/// `Controller.connection_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    InBand,
    OutOfBand,
}

impl Band {
    /// Of a row of the Controller or the Manager table.
    fn of(row: &Row) -> Self {
        match row.opt_str("connection_mode") {
            None | Some("in-band") => Band::InBand,
            Some(_) => Band::OutOfBand,
        }
    }
}

/// `Bridge.fail_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FailMode {
    #[default]
    Standalone,
    Secure,
}

/// One row of the Controller table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    pub row: Uuid,
    /// As the operator wrote it: the key under which tools know it.
    pub name: String,
    pub target: Target,
    pub kind: ControllerKind,
    pub band: Band,
    /// Seconds.
    pub max_backoff_s: u64,
    /// Seconds; 0 for none.
    pub probe_interval_s: u64,
    /// Send asynchronous messages (packet-in, port-status, ...) without being asked.
    pub enable_async: bool,
    /// Packet-ins that may wait.
    pub queue_size: u32,
    /// Packet-ins a second; 0 for no limit.
    pub rate_limit: u32,
    pub burst_limit: u32,
    pub dscp: u8,
}

/// A bridge's OpenFlow connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotesConfig {
    pub controllers: Vec<ControllerConfig>,
    pub versions: VersionSet,
    pub fail_mode: FailMode,
    /// `<rundir>/<bridge>.mgmt`.
    pub mgmt: PathBuf,
    /// `<rundir>/<bridge>.snoop`.
    pub snoop: PathBuf,
    /// Packet-ins that may wait for a management connection.
    pub queue_size: u32,
    /// The database server's managers that are to be reached through the bridge.
    pub in_band_managers: Vec<SocketAddrV4>,
    /// OpenFlow queue for in-band traffic.
    pub in_band_queue: Option<u32>,
}

impl RemotesConfig {
    pub(super) fn read(reader: &mut Reader<'_>, bridge: &Row) -> Self {
        let name = bridge.str("name");
        let queue_size = match smap::int(bridge, "other_config", "controller-queue-size", QUEUE_DEFAULT) {
            size @ 1..=QUEUE_MAX => size,
            _ => QUEUE_DEFAULT,
        };
        let disable_in_band = smap::bool(bridge, "other_config", "disable-in-band", false);
        let mut config = RemotesConfig {
            controllers: Vec::new(),
            versions: versions(bridge),
            fail_mode: match bridge.opt_str("fail_mode") {
                None | Some("standalone") => FailMode::Standalone,
                Some(_) => FailMode::Secure,
            },
            mgmt: reader.around.rundir.join(format!("{name}.mgmt")),
            snoop: reader.around.rundir.join(format!("{name}.snoop")),
            queue_size: queue_size.unsigned_abs(),
            in_band_managers: if disable_in_band { Vec::new() } else { in_band_managers(reader.snapshot) },
            in_band_queue: u32::try_from(smap::int(bridge, "other_config", "in-band-queue", -1)).ok(),
        };
        config.controllers = rows(reader, bridge)
            .iter()
            .filter_map(|row| ControllerConfig::read(reader, row, bridge, &config))
            .map(|c| if disable_in_band { ControllerConfig { band: Band::OutOfBand, ..c } } else { c })
            .collect();
        config
    }
}

/// The controllers of a bridge. A single one with the target `none` means that there is none.
fn rows(reader: &Reader<'_>, bridge: &Row) -> Vec<Arc<Row>> {
    let rows: Vec<_> = reader.snapshot.follow(bridge, "controller", "Controller").cloned().collect();
    match rows.as_slice() {
        [only] if only.str("target") == "none" => Vec::new(),
        _ => rows,
    }
}

/// The in-band managers, but for one on this host.
fn in_band_managers(snapshot: &Snapshot) -> Vec<SocketAddrV4> {
    let Some(root) = snapshot.only("Open_vSwitch") else { return Vec::new() };
    let in_band =
        snapshot.follow(root, "manager_options", "Manager").filter(|row| Band::of(row) == Band::InBand);
    let address = |row: &Arc<Row>| Target::parse(row.str("target"), OVSDB_PORT).ok()?.ipv4();
    in_band.filter_map(address).filter(|address| *address.ip() != Ipv4Addr::LOCALHOST).collect()
}

/// Whether a bridge has controllers, for its local port.
pub(super) fn has_controllers(reader: &Reader<'_>, bridge: &Row) -> bool {
    !rows(reader, bridge).is_empty()
}

/// `Bridge.protocols`; all versions if it is empty.
fn versions(bridge: &Row) -> VersionSet {
    if bridge.strings("protocols").next().is_none() {
        return VersionSet::ALL;
    }
    bridge.strings("protocols").filter_map(Version::from_protocols_name).collect()
}

impl ControllerConfig {
    fn read(reader: &mut Reader<'_>, row: &Row, bridge: &Row, remotes: &RemotesConfig) -> Option<Self> {
        let name = row.str("target");
        let target = match Target::parse(name, OPENFLOW_PORT) {
            Ok(target) => target,
            Err(problem) => {
                reader.warn(row.uuid, format!("bridge {}: {problem}", bridge.str("name")));
                return None;
            }
        };
        if reader.around.self_confinement
            && let Some(text) = confinement(name, bridge.str("name"), &reader.around.rundir)
        {
            reader.error(row.uuid, text);
            return None;
        }
        let passive = target.is_passive();
        let limit = |column| u32::try_from(row.int(column).max(0)).unwrap_or(u32::MAX);
        let queue = row.opt_int("controller_queue_size").and_then(|size| u32::try_from(size).ok());
        Some(ControllerConfig {
            row: row.uuid,
            name: name.to_owned(),
            target: target.in_rundir(&reader.around.rundir),
            kind: match row.opt_str("type") {
                Some("primary") => ControllerKind::Primary,
                Some(_) => ControllerKind::Service,
                None if passive => ControllerKind::Service,
                None => ControllerKind::Primary,
            },
            band: Band::of(row),
            max_backoff_s: row.opt_int("max_backoff").map_or(MAX_BACKOFF_S, |ms| seconds(ms) / 1000),
            probe_interval_s: match row.opt_int("inactivity_probe") {
                None => PROBE_INTERVAL_S,
                Some(0) => 0,
                Some(ms) => (seconds(ms) / 1000).max(1),
            },
            enable_async: row.opt_bool("enable_async_messages").unwrap_or(true),
            queue_size: queue.unwrap_or(remotes.queue_size),
            rate_limit: limit("controller_rate_limit"),
            burst_limit: limit("controller_burst_limit"),
            dscp: u8::try_from(smap::int(row, "other_config", "dscp", DSCP_DEFAULT.into()))
                .ok()
                .filter(|dscp| *dscp < 64)
                .unwrap_or(DSCP_DEFAULT),
        })
    }
}

fn seconds(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

/// Collapses runs of slashes.
fn squeezed(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// Why a socket in the file system may not be a controller: someone who can write the database only must
/// not reach files elsewhere.
fn confinement(target: &str, bridge: &str, rundir: &Path) -> Option<String> {
    let rundir = rundir.display();
    let squeezed_target = squeezed(target);
    if target.starts_with("unix:") {
        let allowed = format!("unix:{rundir}/");
        if !target.contains('/') || squeezed_target.starts_with(&squeezed(&allowed)) {
            return None;
        }
        Some(format!(
            "bridge {bridge}: Not connecting to socket controller \"{target}\" due to possibility for remote exploit.  \
             Instead, specify socket in permitted directory \"{allowed}\" or connect to \"unix:{rundir}/{bridge}.mgmt\" \
             (which is always available without special configuration)."
        ))
    } else if target.starts_with("punix:") {
        let allowed = format!("punix:{rundir}/{bridge}.");
        let inside = squeezed_target.strip_prefix(&squeezed(&allowed));
        if inside.is_some_and(|rest| !rest.contains('/')) {
            return None;
        }
        Some(format!(
            "bridge {bridge}: Not adding Unix domain socket controller \"{target}\" due to possibility of overwriting \
             local files. Instead, specify path in permitted format \"{allowed}*\" or connect to \
             \"unix:{rundir}/{bridge}.mgmt\" (which is always available without special configuration)."
        ))
    } else {
        None
    }
}
