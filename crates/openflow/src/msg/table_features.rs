//! `OFPMP_TABLE_FEATURES`: what tables can do (OpenFlow 1.3 and later).

use bitflags::bitflags;
use flow::oxm;

use crate::form::Incoming;
use crate::msg::action_types::ActionTypes;
use crate::msg::field_set::FieldSet;
use crate::msg::table_mod::{self, TABLE_ALL, TableMiss};
use crate::multipart::MultipartWriter;
use crate::property::{Property, PropertyType, put_property};
use crate::wire::{PutBytes, Reader, len16};
use crate::{MsgType, OfError, Version};

const NAME_LEN: usize = 32;
/// An entry without properties.
const FIXED_LEN: usize = 64;

/// Properties. Where a property for table misses exists, it has the next number.
mod prop {
    pub const INSTRUCTIONS: u16 = 0;
    pub const NEXT_TABLES: u16 = 2;
    pub const WRITE_ACTIONS: u16 = 4;
    pub const APPLY_ACTIONS: u16 = 6;
    pub const MATCH: u16 = 8;
    pub const WILDCARDS: u16 = 10;
    pub const WRITE_SETFIELD: u16 = 12;
    pub const APPLY_SETFIELD: u16 = 14;
    /// Those that have to be there.
    pub const REQUIRED: u32 = 1 << INSTRUCTIONS
        | 1 << NEXT_TABLES
        | 1 << WRITE_ACTIONS
        | 1 << APPLY_ACTIONS
        | 1 << MATCH
        | 1 << WILDCARDS
        | 1 << WRITE_SETFIELD
        | 1 << APPLY_SETFIELD;
    /// One more than the last.
    pub const END: u16 = 16;
}

bitflags! {
    /// Types of instructions: bit `n` for `OFPIT_*` number `n`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    #[allow(missing_docs)] // Named as the instructions.
    pub struct InstructionTypes: u32 {
        const GOTO_TABLE = 1 << 1;
        const WRITE_METADATA = 1 << 2;
        const WRITE_ACTIONS = 1 << 3;
        const APPLY_ACTIONS = 1 << 4;
        const CLEAR_ACTIONS = 1 << 5;
        const METER = 1 << 6;
    }
}

impl InstructionTypes {
    /// The types that messages of `version` name: OpenFlow 1.3 and 1.4 have a meter instruction.
    pub(crate) fn to_wire(self, version: Version) -> u32 {
        let has_meter = matches!(version, Version::Of13 | Version::Of14);
        (if has_meter { self } else { self - Self::METER }).bits()
    }

    pub(crate) fn from_wire(bits: u32, version: Version) -> Self {
        Self::from_bits_truncate(Self::from_bits_truncate(bits).to_wire(version))
    }
}

/// A set of table numbers, 0 to 254.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TableSet([u64; 4]);

impl TableSet {
    /// Puts a table in.
    pub const fn insert(&mut self, table_id: u8) {
        self.0[table_id as usize / 64] |= 1 << (table_id % 64);
    }

    /// Whether a table is in the set.
    #[must_use]
    pub const fn contains(&self, table_id: u8) -> bool {
        self.0[table_id as usize / 64] >> (table_id % 64) & 1 != 0
    }

    /// The tables in the set.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=254).filter(|table_id| self.contains(*table_id))
    }
}

impl FromIterator<u8> for TableSet {
    fn from_iter<I: IntoIterator<Item = u8>>(tables: I) -> Self {
        let mut set = Self::default();
        tables.into_iter().for_each(|table_id| set.insert(table_id));
        set
    }
}

/// Which actions an instruction may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionFeatures {
    /// Types of actions.
    pub actions: ActionTypes,
    /// Fields that `set_field` may set.
    pub set_fields: FieldSet,
}

/// What may be done with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstructionFeatures {
    /// Tables that `goto_table` may name.
    pub next: TableSet,
    /// Types of instructions.
    pub instructions: InstructionTypes,
    /// What `write_actions` may have.
    pub write: ActionFeatures,
    /// What `apply_actions` may have.
    pub apply: ActionFeatures,
}

/// What a request does to the tables (OpenFlow 1.5; before, always to replace).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum TableFeaturesCommand {
    /// These are all the tables.
    #[default]
    Replace = 0,
    /// Change these tables.
    Modify = 1,
    /// Switch these tables on.
    Enable = 2,
    /// Switch these tables off.
    Disable = 3,
}

/// What a table can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableFeatures {
    /// What a request does to the table.
    pub command: TableFeaturesCommand,
    /// The table.
    pub table_id: u8,
    /// Its name, at most 31 bytes.
    pub name: Vec<u8>,
    /// Bits of the metadata that flows can match.
    pub metadata_match: u64,
    /// Bits of the metadata that flows can write.
    pub metadata_write: u64,
    /// Flows that there can be.
    pub max_entries: u32,
    /// What happens to packets that match no flow; travels in the statistics of OpenFlow 1.1 and 1.2.
    pub miss_config: TableMiss,
    /// Whether it can evict flows; `None` before OpenFlow 1.4.
    pub supports_eviction: Option<bool>,
    /// Whether it can tell how full it is; `None` before OpenFlow 1.4.
    pub supports_vacancy_events: Option<bool>,
    /// Whether anything below is there.
    pub any_properties: bool,
    /// What flows can do.
    pub nonmiss: InstructionFeatures,
    /// What the table-miss flow can do.
    pub miss: InstructionFeatures,
    /// Fields that flows can match.
    pub matched: FieldSet,
    /// Those that flows can match with a mask.
    pub mask: FieldSet,
    /// Those that flows need not match.
    pub wildcard: FieldSet,
}

/// Decodes the tables in one message of a request or reply. What is not known is passed over in replies.
///
/// # Errors
/// `OFPTFFC_*`, and those of properties, instructions and matches.
pub fn decode(msg: &Incoming<'_>) -> Result<Vec<TableFeatures>, OfError> {
    let loose = msg.msg_type() == MsgType::TableFeaturesStatsReply;
    let mut r = msg.body();
    let mut tables = Vec::new();
    while !r.is_empty() {
        tables.push(TableFeatures::take(&mut r, msg.version, loose)?);
    }
    Ok(tables)
}

/// Adds a table to a reply, or to a request.
pub fn append(features: &TableFeatures, messages: &mut MultipartWriter) -> bool {
    let version = messages.version();
    messages.append(|out| features.put(out, version))
}

impl TableFeatures {
    fn take(r: &mut Reader<'_>, version: Version, loose: bool) -> Result<Self, OfError> {
        let bad_len = |_| OfError::OfpbpcBadLen;
        let len = usize::from({ *r }.u16().map_err(bad_len)?);
        if r.len() < FIXED_LEN || len < FIXED_LEN || !len.is_multiple_of(8) {
            return Err(OfError::OfpbpcBadLen);
        }
        let mut r = r.sub(len).map_err(bad_len)?;
        let mut this = Self::take_fixed(&mut r, version)?;
        this.any_properties = !r.is_empty();
        let seen = this.take_properties(r, version, loose)?;
        let is_complete = seen & prop::REQUIRED == prop::REQUIRED;
        if !is_complete && (this.any_properties || version < Version::Of15) {
            return Err(OfError::OfptffcBadFeatures);
        }
        this.complete_miss(seen);
        this.matched = this.matched.union(this.mask);
        this.wildcard = this.wildcard.union(this.mask).intersection(this.matched);
        Ok(this)
    }

    fn take_fixed(r: &mut Reader<'_>, version: Version) -> Result<Self, OfError> {
        r.skip(2)?;
        let table_id = r.u8()?;
        let command = match (version, r.u8()?) {
            (Version::Of15, 1) => TableFeaturesCommand::Modify,
            (Version::Of15, 2) => TableFeaturesCommand::Enable,
            (Version::Of15, 3) => TableFeaturesCommand::Disable,
            (Version::Of15, 4..) => return Err(OfError::OfptffcBadCommand),
            _ => TableFeaturesCommand::Replace,
        };
        if table_id == TABLE_ALL {
            return Err(OfError::OfptffcBadTable);
        }
        r.skip(4)?;
        let name = r.c_string(NAME_LEN)?.to_vec();
        let metadata_match = r.u64()?;
        let metadata_write = r.u64()?;
        let capabilities = r.u32()?;
        let max_entries = r.u32()?;
        let capability = |bit| (version >= Version::Of14).then_some(capabilities & bit != 0);
        Ok(Self {
            command,
            table_id,
            name,
            metadata_match,
            metadata_write,
            max_entries,
            supports_eviction: capability(table_mod::EVICTION),
            supports_vacancy_events: capability(table_mod::VACANCY_EVENTS),
            ..Self::default()
        })
    }

    /// Takes the properties and returns the numbers of those that were there.
    fn take_properties(&mut self, mut r: Reader<'_>, version: Version, loose: bool) -> Result<u32, OfError> {
        let mut seen = 0;
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            if let PropertyType::Standard(number @ 0..32) = property.kind {
                if seen & 1 << number != 0 {
                    return Err(OfError::OfptffcBadFeatures);
                }
                seen |= 1 << number;
            }
            match property.kind {
                PropertyType::Standard(number @ 0..prop::END) if number != 9 && number != 11 => {
                    self.take_property(number, property.value(), version, loose)?;
                }
                _ if loose => (),
                other => return Err(other.unknown()),
            }
        }
        Ok(seen)
    }

    fn take_property(
        &mut self,
        number: u16,
        value: &[u8],
        version: Version,
        loose: bool,
    ) -> Result<(), OfError> {
        let is_miss = number % 2 == 1;
        let side = if is_miss { &mut self.miss } else { &mut self.nonmiss };
        match number & !1 {
            prop::INSTRUCTIONS => side.instructions = take_instructions(value, loose)?,
            prop::NEXT_TABLES => side.next = take_tables(value)?,
            prop::WRITE_ACTIONS => side.write.actions = take_actions(value, version)?,
            prop::APPLY_ACTIONS => side.apply.actions = take_actions(value, version)?,
            prop::MATCH => (self.matched, self.mask) = take_fields(value, loose)?,
            prop::WILDCARDS => self.wildcard = take_unmasked_fields(value, loose)?,
            prop::WRITE_SETFIELD => side.write.set_fields = take_unmasked_fields(value, loose)?,
            _ => side.apply.set_fields = take_unmasked_fields(value, loose)?,
        }
        Ok(())
    }

    /// What is not said of table misses is as for flows.
    fn complete_miss(&mut self, seen: u32) {
        if !self.any_properties {
            return;
        }
        let is_missing = |number: u16| seen & 1 << (number + 1) == 0;
        let (from, to) = (&self.nonmiss, &mut self.miss);
        if is_missing(prop::INSTRUCTIONS) {
            to.instructions = from.instructions;
        }
        if is_missing(prop::NEXT_TABLES) {
            to.next = from.next;
        }
        if is_missing(prop::WRITE_ACTIONS) {
            to.write.actions = from.write.actions;
        }
        if is_missing(prop::APPLY_ACTIONS) {
            to.apply.actions = from.apply.actions;
        }
        if is_missing(prop::WRITE_SETFIELD) {
            to.write.set_fields = from.write.set_fields;
        }
        if is_missing(prop::APPLY_SETFIELD) {
            to.apply.set_fields = from.apply.set_fields;
        }
    }

    fn put(&self, out: &mut Vec<u8>, version: Version) {
        let start = out.len();
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_u8(if version == Version::Of15 { self.command as u8 } else { 0 });
        out.put_zeros(4);
        out.put_c_string(&self.name, NAME_LEN);
        out.put_u64(self.metadata_match);
        out.put_u64(self.metadata_write);
        out.put_u32(self.capabilities(version));
        out.put_u32(self.max_entries);
        if self.any_properties {
            self.nonmiss.put(out, 0, version);
            self.miss.put(out, 1, version);
            put_fields(out, prop::MATCH, self.matched, self.mask, version);
            put_fields(out, prop::WILDCARDS, self.wildcard, FieldSet::default(), version);
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }

    fn capabilities(&self, version: Version) -> u32 {
        if version < Version::Of14 {
            return 0;
        }
        // What is not known counts as there.
        let bit = |supports: Option<bool>, bit| if supports == Some(false) { 0 } else { bit };
        bit(self.supports_eviction, table_mod::EVICTION)
            | bit(self.supports_vacancy_events, table_mod::VACANCY_EVENTS)
    }
}

impl InstructionFeatures {
    fn put(&self, out: &mut Vec<u8>, miss: u16, version: Version) {
        put_ids(out, prop::INSTRUCTIONS + miss, self.instructions.to_wire(version));
        put_property(out, PropertyType::Standard(prop::NEXT_TABLES + miss), |out| {
            self.next.iter().for_each(|table_id| out.put_u8(table_id));
        });
        let none = FieldSet::default();
        put_ids(out, prop::WRITE_ACTIONS + miss, self.write.actions.to_wire(version));
        put_fields(out, prop::WRITE_SETFIELD + miss, self.write.set_fields, none, version);
        put_ids(out, prop::APPLY_ACTIONS + miss, self.apply.actions.to_wire(version));
        put_fields(out, prop::APPLY_SETFIELD + miss, self.apply.set_fields, none, version);
    }
}

/// Instruction and action ids are headers without anything behind them, one after the other.
fn take_id(r: &mut Reader<'_>) -> Result<u16, OfError> {
    Ok(Property::take_with(r, 1, None)?.wire_type)
}

fn put_ids(out: &mut Vec<u8>, number: u16, bits: u32) {
    put_property(out, PropertyType::Standard(number), |out| {
        for id in (0..32).filter(|id| bits >> id & 1 != 0) {
            out.put_u16(id);
            out.put_u16(4);
        }
    });
}

fn take_instructions(value: &[u8], loose: bool) -> Result<InstructionTypes, OfError> {
    let mut r = Reader::new(value);
    let mut instructions = InstructionTypes::empty();
    while !r.is_empty() {
        let id = take_id(&mut r)?;
        match 1u32.checked_shl(id.into()).and_then(InstructionTypes::from_bits) {
            Some(instruction) => instructions |= instruction,
            None if loose => (),
            None => return Err(OfError::OfpbicUnknownInst),
        }
    }
    Ok(instructions)
}

fn take_actions(value: &[u8], version: Version) -> Result<ActionTypes, OfError> {
    let mut r = Reader::new(value);
    let mut bits = 0;
    while !r.is_empty() {
        bits |= 1u32.checked_shl(take_id(&mut r)?.into()).unwrap_or(0);
    }
    Ok(ActionTypes::from_wire(bits, version))
}

fn take_tables(value: &[u8]) -> Result<TableSet, OfError> {
    if value.contains(&TABLE_ALL) {
        return Err(OfError::OfpbpcBadValue);
    }
    Ok(value.iter().copied().collect())
}

/// OXM headers without anything behind them: the fields without and with a mask.
fn take_fields(mut value: &[u8], loose: bool) -> Result<(FieldSet, FieldSet), OfError> {
    let mut exact = FieldSet::default();
    let mut masked = FieldSet::default();
    while !value.is_empty() {
        match oxm::pull_header(&mut value, None) {
            Ok((field, true)) => masked.insert(field),
            Ok((field, false)) => exact.insert(field),
            Err(oxm::OxmError::BadField) if loose => (),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((exact, masked))
}

fn take_unmasked_fields(value: &[u8], loose: bool) -> Result<FieldSet, OfError> {
    let (exact, masked) = take_fields(value, loose)?;
    if masked.is_empty() { Ok(exact) } else { Err(OfError::OfpbmcBadMask) }
}

fn put_fields(out: &mut Vec<u8>, number: u16, fields: FieldSet, masks: FieldSet, version: Version) {
    put_property(out, PropertyType::Standard(number), |out| {
        for field in fields.iter() {
            oxm::put_header(out, field, version.wire(), masks.contains(field), None);
        }
    });
}
