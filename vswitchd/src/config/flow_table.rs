//! The Flow_Table table.

use super::Reader;
use classifier::{PREFIX_FIELDS_MAX, PrefixField};
use flow::{Field, Subfield};
use ovsdb_shim::Row;

/// Settings of one OpenFlow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    pub name: Option<String>,
    /// `u32::MAX`: none.
    pub flow_limit: u32,
    /// Evict rather than refuse at the limit.
    pub evict: bool,
    pub groups: Vec<Subfield>,
    pub prefixes: Vec<PrefixField>,
}

impl Default for TableConfig {
    fn default() -> Self {
        TableConfig {
            name: None,
            flow_limit: u32::MAX,
            evict: false,
            groups: Vec::new(),
            prefixes: PrefixField::DEFAULT.to_vec(),
        }
    }
}

impl TableConfig {
    pub(super) fn read(reader: &mut Reader<'_>, row: &Row, bridge: &str, table: u8) -> Self {
        let limit = row.opt_int("flow_limit").and_then(|limit| u32::try_from(limit).ok());
        TableConfig {
            name: row.opt_str("name").map(str::to_owned),
            flow_limit: limit.unwrap_or(u32::MAX),
            evict: row.str("overflow_policy") == "evict",
            groups: groups(reader, row, bridge, table),
            prefixes: prefixes(reader, row, bridge),
        }
    }
}

fn groups(reader: &mut Reader<'_>, row: &Row, bridge: &str, table: u8) -> Vec<Subfield> {
    let mut groups = Vec::new();
    for text in row.strings("groups") {
        let problem = match Subfield::parse_prefix(text) {
            Ok((subfield, "")) => {
                groups.push(subfield);
                continue;
            }
            Ok(_) => format!("'groups' element '{text}' contains trailing garbage"),
            Err(reason) => format!("error parsing 'groups' ({reason})"),
        };
        reader.warn(row.uuid, format!("bridge {bridge} table {table}: {problem}"));
    }
    groups
}

fn prefixes(reader: &mut Reader<'_>, row: &Row, bridge: &str) -> Vec<PrefixField> {
    let mut fields = Vec::new();
    let mut given = false;
    for name in row.strings("prefixes") {
        if name == "none" {
            return Vec::new();
        }
        let problem = match PrefixField::from_name(name) {
            Some(field) if fields.len() < PREFIX_FIELDS_MAX => {
                given = true;
                fields.push(field);
                continue;
            }
            Some(_) => format!("too many fields, field not used: {name}"),
            None if Field::by_name(name).is_some() => format!("incompatible field: {name}"),
            None => format!("unknown field: {name}"),
        };
        reader.warn(row.uuid, format!("bridge {bridge}: 'prefixes' with {problem}"));
    }
    if given { fields } else { PrefixField::DEFAULT.to_vec() }
}
