//! `OFPST_TABLE`: counters of tables, until OpenFlow 1.2 with what the tables can do.

use flow::Field;

use crate::form::{Form, Incoming};
use crate::msg::action_types::ActionTypes;
use crate::msg::field_set::FieldSet;
use crate::msg::table_features::{InstructionTypes, TableFeatures};
use crate::msg::table_mod::TableMiss;
use crate::wire::{PutBytes, Reader};
use crate::{OfError, Version};

const NAME_LEN: usize = 32;

/// The counters of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableStats {
    /// The table.
    pub table_id: u8,
    /// Flows in it.
    pub active_count: u32,
    /// Packets looked up in it.
    pub lookup_count: u64,
    /// Packets that matched a flow in it.
    pub matched_count: u64,
}

/// Bits for fields in the statistics of OpenFlow 1.0.
const OF10_FIELDS: &[(u32, Field)] = &[
    (1 << 0, Field::InPort),
    (1 << 1, Field::VlanVid),
    (1 << 2, Field::EthSrc),
    (1 << 3, Field::EthDst),
    (1 << 4, Field::EthType),
    (1 << 5, Field::IpProto),
    (1 << 6, Field::TcpSrc),
    (1 << 7, Field::TcpDst),
    (0x3f << 8, Field::Ipv4Src),
    (0x3f << 14, Field::Ipv4Dst),
    (1 << 20, Field::VlanPcp),
    (1 << 21, Field::IpDscp),
];

/// Bits for fields in the statistics of OpenFlow 1.1.
const OF11_FIELDS: &[(u32, Field)] = &[
    (1 << 0, Field::InPort),
    (1 << 1, Field::VlanVid),
    (1 << 2, Field::VlanPcp),
    (1 << 3, Field::EthType),
    (1 << 4, Field::IpDscp),
    (1 << 5, Field::IpProto),
    (1 << 6, Field::TcpSrc),
    (1 << 7, Field::TcpDst),
    (1 << 8, Field::MplsLabel),
    (1 << 9, Field::MplsTc),
    (1 << 11, Field::EthSrc),
    (1 << 12, Field::EthDst),
    (1 << 13, Field::Ipv4Src),
    (1 << 14, Field::Ipv4Dst),
    (1 << 15, Field::Metadata),
];

fn fields_to_bits(fields: FieldSet, table: &[(u32, Field)]) -> u32 {
    table.iter().filter(|(_, field)| fields.contains(*field)).fold(0, |bits, (bit, _)| bits | bit)
}

fn fields_from_bits(bits: u32, table: &[(u32, Field)]) -> FieldSet {
    table.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, field)| *field).collect()
}

/// Decodes a reply. Of the features, only those are set that the version's statistics have.
///
/// # Errors
/// `OFPBRC_BAD_LEN`
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<(TableStats, TableFeatures)>, OfError> {
    let mut r = msg.body();
    let mut tables = Vec::new();
    while !r.is_empty() {
        let mut stats = TableStats { table_id: r.u8()?, ..TableStats::default() };
        let mut features = TableFeatures { table_id: stats.table_id, ..TableFeatures::default() };
        match msg.form {
            Form::Ofpst10TableReply => take_of10(&mut r, &mut features)?,
            Form::Ofpst11TableReply => take_of11(&mut r, &mut features)?,
            Form::Ofpst12TableReply => take_of12(&mut r, &mut features)?,
            _ => r.skip(3)?,
        }
        stats.active_count = r.u32()?;
        stats.lookup_count = r.u64()?;
        stats.matched_count = r.u64()?;
        tables.push((stats, features));
    }
    Ok(tables)
}

/// Encodes a reply about all of `tables`.
#[must_use]
pub fn encode_reply(tables: &[(TableStats, TableFeatures)], version: Version, xid: u32) -> Vec<u8> {
    let form = match version {
        Version::Of10 => Form::Ofpst10TableReply,
        Version::Of11 => Form::Ofpst11TableReply,
        Version::Of12 => Form::Ofpst12TableReply,
        _ => Form::Ofpst13TableReply,
    };
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| {
        for (stats, features) in tables {
            out.put_u8(stats.table_id);
            match form {
                Form::Ofpst10TableReply => put_of10(out, features),
                Form::Ofpst11TableReply => put_of11(out, features),
                Form::Ofpst12TableReply => put_of12(out, features),
                _ => out.put_zeros(3),
            }
            out.put_u32(stats.active_count);
            out.put_u64(stats.lookup_count);
            out.put_u64(stats.matched_count);
        }
    });
    out
}

fn take_of10(r: &mut Reader<'_>, features: &mut TableFeatures) -> Result<(), OfError> {
    r.skip(3)?;
    features.name = r.c_string(NAME_LEN)?.to_vec();
    features.wildcard = fields_from_bits(r.u32()?, OF10_FIELDS);
    features.matched = features.wildcard;
    features.max_entries = r.u32()?;
    Ok(())
}

fn put_of10(out: &mut Vec<u8>, features: &TableFeatures) {
    out.put_zeros(3);
    out.put_c_string(&features.name, NAME_LEN);
    out.put_u32(fields_to_bits(wild_or_unmatchable(features), OF10_FIELDS));
    out.put_u32(features.max_entries);
}

fn take_of11(r: &mut Reader<'_>, features: &mut TableFeatures) -> Result<(), OfError> {
    let version = Version::Of11;
    r.skip(7)?;
    features.name = r.c_string(NAME_LEN)?.to_vec();
    let wild_or_unmatchable = fields_from_bits(r.u32()?, OF11_FIELDS);
    features.matched = fields_from_bits(r.u32()?, OF11_FIELDS);
    features.wildcard = wild_or_unmatchable.intersection(features.matched);
    features.nonmiss.instructions = InstructionTypes::from_wire(r.u32()?, version);
    features.nonmiss.write.actions = ActionTypes::from_wire(r.u32()?, version);
    features.nonmiss.apply.actions = ActionTypes::from_wire(r.u32()?, version);
    features.miss = features.nonmiss;
    features.miss_config = match r.u32()? {
        0 => TableMiss::Default,
        1 => TableMiss::Controller,
        2 => TableMiss::Continue,
        _ => TableMiss::Drop,
    };
    features.max_entries = r.u32()?;
    Ok(())
}

/// The miss configuration stands in Open vSwitch's own numbers here instead of OpenFlow's.
fn put_of11(out: &mut Vec<u8>, features: &TableFeatures) {
    let version = Version::Of11;
    out.put_zeros(7);
    out.put_c_string(&features.name, NAME_LEN);
    out.put_u32(fields_to_bits(wild_or_unmatchable(features), OF11_FIELDS));
    out.put_u32(fields_to_bits(features.matched, OF11_FIELDS));
    out.put_u32(features.nonmiss.instructions.to_wire(version));
    out.put_u32(features.nonmiss.write.actions.to_wire(version));
    out.put_u32(features.nonmiss.apply.actions.to_wire(version));
    out.put_u32(match features.miss_config {
        TableMiss::Default => 0,
        TableMiss::Controller => 1,
        TableMiss::Continue => 2,
        TableMiss::Drop => 3,
    });
    out.put_u32(features.max_entries);
}

fn take_of12(r: &mut Reader<'_>, features: &mut TableFeatures) -> Result<(), OfError> {
    let version = Version::Of12;
    r.skip(7)?;
    features.name = r.c_string(NAME_LEN)?.to_vec();
    let matched = FieldSet::from_oxm_bits(r.u64()?, version);
    features.wildcard = FieldSet::from_oxm_bits(r.u64()?, version);
    features.matched = matched.union(features.wildcard);
    let nonmiss = &mut features.nonmiss;
    nonmiss.write.actions = ActionTypes::from_wire(r.u32()?, version);
    nonmiss.apply.actions = ActionTypes::from_wire(r.u32()?, version);
    nonmiss.write.set_fields = FieldSet::from_oxm_bits(r.u64()?, version);
    nonmiss.apply.set_fields = FieldSet::from_oxm_bits(r.u64()?, version);
    features.metadata_match = r.u64()?;
    features.metadata_write = r.u64()?;
    nonmiss.instructions = InstructionTypes::from_wire(r.u32()?, version);
    features.miss = features.nonmiss;
    features.miss_config = TableMiss::from_wire(r.u32()?, version);
    features.max_entries = r.u32()?;
    Ok(())
}

fn put_of12(out: &mut Vec<u8>, features: &TableFeatures) {
    let version = Version::Of12;
    let nonmiss = &features.nonmiss;
    out.put_zeros(7);
    out.put_c_string(&features.name, NAME_LEN);
    out.put_u64(features.matched.to_oxm_bits(version));
    out.put_u64(features.wildcard.to_oxm_bits(version));
    out.put_u32(nonmiss.write.actions.to_wire(version));
    out.put_u32(nonmiss.apply.actions.to_wire(version));
    out.put_u64(nonmiss.write.set_fields.to_oxm_bits(version));
    out.put_u64(nonmiss.apply.set_fields.to_oxm_bits(version));
    out.put_u64(features.metadata_match);
    out.put_u64(features.metadata_write);
    out.put_u32(nonmiss.instructions.to_wire(version));
    out.put_u32(features.miss_config.to_wire(version));
    out.put_u32(features.max_entries);
}

fn wild_or_unmatchable(features: &TableFeatures) -> FieldSet {
    features.matched.complement().union(features.wildcard)
}
