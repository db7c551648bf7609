//! The Mirror table.

use super::Reader;
use super::port::vlans;
use ofproto::mirror::{MIRRORS_MAX, MirrorOutput, MirrorSettings, Selection};
use ovsdb_shim::Row;
use std::collections::BTreeSet;

/// A copy as long as this is whole.
const SNAPLEN_ALL: i64 = 65_535;

/// The mirrors of a bridge that can be.
pub(super) fn read_all(reader: &mut Reader<'_>, bridge: &Row) -> Vec<MirrorSettings> {
    let snapshot = reader.snapshot;
    let rows = snapshot.follow(bridge, "mirrors", "Mirror");
    let mut mirrors: Vec<MirrorSettings> = Vec::new();
    for row in rows {
        let Some(mirror) = read(reader, bridge, row) else { continue };
        if mirrors.len() == MIRRORS_MAX {
            let name = row.str("name");
            let text = format!("maximum of {MIRRORS_MAX} port mirrors reached, cannot create {name}");
            reader.warn(row.uuid, text);
            break;
        }
        mirrors.push(mirror);
    }
    mirrors
}

fn read(reader: &mut Reader<'_>, bridge: &Row, row: &Row) -> Option<MirrorSettings> {
    let output = output(reader, bridge, row)?;
    let selection = if row.bool("select_all") {
        Selection::All
    } else {
        let sources = selected(reader, bridge, row, "select_src_port");
        Selection::Bundles { sources, destinations: selected(reader, bridge, row, "select_dst_port") }
    };
    Some(MirrorSettings {
        key: row.uuid.as_u128(),
        name: row.str("name").to_owned(),
        selection,
        vlans: vlans(row, "select_vlan"),
        output,
        snaplen: row.opt_int("snaplen").filter(|n| *n < SNAPLEN_ALL).and_then(|n| u32::try_from(n).ok()),
    })
}

fn output(reader: &mut Reader<'_>, bridge: &Row, row: &Row) -> Option<MirrorOutput> {
    let mut tell = |what: &str| {
        let text = format!("bridge {}: mirror {} {what}", bridge.str("name"), row.str("name"));
        reader.error(row.uuid, text);
    };
    let vlan = row.opt_int("output_vlan").and_then(|v| u16::try_from(v).ok());
    match (row.opt_uuid("output_port"), vlan) {
        (Some(port), _) if !bridge.uuids("ports").any(|p| p == port) => {
            tell("outputs to port not on bridge");
            None
        }
        (Some(port), vlan) => {
            if vlan.is_some() {
                tell("specifies both output port and output vlan; ignoring output vlan");
            }
            let name = reader.snapshot.row("Port", port)?.str("name");
            Some(MirrorOutput::Bundle(name.to_owned()))
        }
        (None, Some(vlan)) => Some(MirrorOutput::Vlan(vlan)),
        (None, None) => {
            tell("does not specify output; ignoring");
            None
        }
    }
}

/// The ports that a column names, by their names.
fn selected(reader: &mut Reader<'_>, bridge: &Row, row: &Row, column: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for port in reader.snapshot.follow(row, column, "Port") {
        let name = port.str("name");
        if bridge.uuids("ports").any(|p| p == port.uuid) {
            names.insert(name.to_owned());
        } else {
            let (bridge, mirror) = (bridge.str("name"), row.str("name"));
            let text = format!("bridge {bridge}: mirror {mirror} cannot match on nonexistent port {name}");
            reader.warn(row.uuid, text);
        }
    }
    names
}
