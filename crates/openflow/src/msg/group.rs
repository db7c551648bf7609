//! Groups and their buckets, as group-mods and descriptions have them.

use flow::{Field, Value, oxm};

use crate::action::Action;
use crate::context::{Context, Target};
use crate::property::{self, Property, PropertyType, put_property};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

/// Group ids that stand for something else than a group of the table.
pub mod id {
    /// The last id that a group of the table can have.
    pub const MAX: u32 = 0xffff_ff00;
    /// All groups.
    pub const ALL: u32 = 0xffff_fffc;
    /// Any group, or none.
    pub const ANY: u32 = 0xffff_ffff;
}

/// Bucket ids that stand for something else than a bucket of the group.
pub mod bucket_id {
    /// The last id that a bucket of a group can have.
    pub const MAX: u32 = 0xffff_ff00;
    /// The first bucket.
    pub const FIRST: u32 = 0xffff_fffd;
    /// The last bucket.
    pub const LAST: u32 = 0xffff_fffe;
    /// All buckets.
    pub const ALL: u32 = 0xffff_ffff;
}

/// What a group does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GroupType {
    /// All buckets get it.
    All = 0,
    /// One bucket gets it, by weight.
    Select = 1,
    /// The one bucket gets it.
    Indirect = 2,
    /// The first bucket that is alive gets it.
    FastFailover = 3,
}

impl GroupType {
    /// # Errors
    /// `OFPGMFC_BAD_TYPE`
    pub(crate) const fn from_wire(wire: u8) -> Result<Self, OfError> {
        Ok(match wire {
            0 => Self::All,
            1 => Self::Select,
            2 => Self::Indirect,
            3 => Self::FastFailover,
            _ => return Err(OfError::OfpgmfcBadType),
        })
    }
}

/// How a select group chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SelectionMethod {
    /// By a hash of fields.
    Hash,
    /// By the datapath's hash.
    DpHash,
}

/// What a select group's choice depends on (Netronome's extension).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// How it chooses.
    pub method: SelectionMethod,
    /// A parameter of the method.
    pub param: u64,
    /// The fields to hash and which bits of them, in the order of the field table; none for the method's
    /// default.
    pub fields: Vec<(Field, Value)>,
}

/// A bucket of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its id. Before OpenFlow 1.5 buckets are numbered from 0.
    pub bucket_id: u32,
    /// Its weight in a select group; 0 in others.
    pub weight: u16,
    /// The port that it lives and dies with, [`PortNo::NONE`] if none.
    pub watch_port: PortNo,
    /// The group that it lives and dies with, [`id::ANY`] if none.
    pub watch_group: u32,
    /// What it does with packets.
    pub actions: Vec<Action>,
}

/// Properties of a bucket.
mod prop {
    pub const WEIGHT: u16 = 0;
    pub const WATCH_PORT: u16 = 1;
    pub const WATCH_GROUP: u16 = 2;
}

const OF11_LEN: usize = 16;
const OF15_LEN: usize = 8;

/// Whether groups of `version` have bucket ids and properties: those of OpenFlow 1.5, and Nicira's in 1.0.
pub(crate) const fn is_of15_style(version: Version) -> bool {
    matches!(version, Version::Of10 | Version::Of15)
}

impl Bucket {
    /// Whether it lives and dies with a port or a group.
    #[must_use]
    pub fn has_liveness(&self) -> bool {
        self.watch_port != PortNo::NONE || self.watch_group != id::ANY
    }

    /// Takes the buckets of OpenFlow 1.1 to 1.4 that `r` consists of.
    pub(crate) fn take_all_of11(
        mut r: Reader<'_>,
        version: Version,
        context: &Context<'_>,
    ) -> Result<Vec<Self>, OfError> {
        let mut buckets = Vec::new();
        while !r.is_empty() {
            let bucket_id = buckets.len() as u32;
            buckets.push(Self::take_of11(&mut r, bucket_id, version, context)?);
        }
        Ok(buckets)
    }

    fn take_of11(
        r: &mut Reader<'_>,
        bucket_id: u32,
        version: Version,
        context: &Context<'_>,
    ) -> Result<Self, OfError> {
        let bad = |_| OfError::OfpgmfcBadBucket;
        let mut head = r.clone().sub(OF11_LEN).map_err(bad)?;
        let len = usize::from(head.u16()?);
        let weight = head.u16()?;
        let watch_port = PortNo::from_of11(head.u32()?);
        let watch_group = head.u32()?;
        let body = r.take(len).map_err(bad)?;
        let actions = body.get(OF11_LEN..).ok_or(OfError::OfpgmfcBadBucket)?;
        let actions = context.decoder(version).actions(actions)?;
        let watch_port = watch_port.map_err(|_| OfError::OfpgmfcBadWatch)?;
        Ok(Self { bucket_id, weight, watch_port, watch_group, actions })
    }

    /// Takes the buckets of OpenFlow 1.5, or of Nicira's messages, that `r` consists of.
    pub(crate) fn take_all_of15(
        mut r: Reader<'_>,
        group_type: u8,
        version: Version,
        context: &Context<'_>,
    ) -> Result<Vec<Self>, OfError> {
        let mut buckets: Vec<Self> = Vec::new();
        while !r.is_empty() {
            buckets.push(Self::take_of15(&mut r, group_type, version, context)?);
        }
        let mut ids: Vec<u32> = buckets.iter().map(|b| b.bucket_id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(OfError::OfpgmfcBadBucket);
        }
        Ok(buckets)
    }

    fn take_of15(
        r: &mut Reader<'_>,
        group_type: u8,
        version: Version,
        context: &Context<'_>,
    ) -> Result<Self, OfError> {
        let bad = |_| OfError::OfpgmfcBadBucket;
        let mut head = r.clone().sub(OF15_LEN).map_err(bad)?;
        let len = usize::from(head.u16()?);
        let actions_len = usize::from(head.u16()?);
        let bucket_id = head.u32()?;
        let mut body = r.sub(len).map_err(bad)?;
        body.skip(OF15_LEN).map_err(bad)?;
        let actions = body.take(actions_len).map_err(bad)?;
        let actions = context.decoder(version).actions(actions)?;
        let mut weight = u16::from(group_type == GroupType::Select as u8);
        let mut watch_port = PortNo::NONE.to_of11();
        let mut watch_group = id::ANY;
        while !body.is_empty() {
            let property = Property::take(&mut body)?;
            match property.kind {
                PropertyType::Standard(prop::WEIGHT) => weight = property.u16()?,
                PropertyType::Standard(prop::WATCH_PORT) => watch_port = property.u32()?,
                PropertyType::Standard(prop::WATCH_GROUP) => watch_group = property.u32()?,
                other => return Err(other.unknown()),
            }
        }
        let watch_port = PortNo::from_of11(watch_port).map_err(|_| OfError::OfpgmfcBadWatch)?;
        if bucket_id > bucket_id::MAX {
            return Err(OfError::OfpgmfcBadBucket);
        }
        Ok(Self { bucket_id, weight, watch_port, watch_group, actions })
    }

    /// Appends the bucket as OpenFlow 1.1 to 1.4 have it.
    pub(crate) fn put_of11(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let start = out.len();
        out.put_zeros(2);
        out.put_u16(self.weight);
        out.put_u32(self.watch_port.to_of11());
        out.put_u32(self.watch_group);
        out.put_zeros(4);
        target.encoder(out).actions(&self.actions);
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }

    /// Appends the bucket as OpenFlow 1.5 and Nicira's messages have it.
    pub(crate) fn put_of15(&self, out: &mut Vec<u8>, group_type: GroupType, target: &Target<'_>) {
        let start = out.len();
        out.put_zeros(4);
        out.put_u32(self.bucket_id);
        target.encoder(out).actions(&self.actions);
        let actions_len = len16(out.len() - start - OF15_LEN);
        out.set_u16(start + 2, actions_len);
        if group_type == GroupType::Select || self.weight != 0 {
            property::put_u16(out, prop::WEIGHT, self.weight);
        }
        if self.watch_port != PortNo::NONE {
            property::put_u32(out, prop::WATCH_PORT, self.watch_port.to_of11());
        }
        if self.watch_group != id::ANY {
            property::put_u32(out, prop::WATCH_GROUP, self.watch_group);
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }
}

/// Netronome's experimenter id.
const NETRONOME: u32 = 0x0000_154d;
/// The id that Open vSwitch 2.4 had by mistake.
const NETRONOME_COMPAT: u32 = 0x0000_1540;
/// `NTRT_SELECTION_METHOD`
const SELECTION_METHOD: u32 = 1;
const METHOD_LEN: usize = 16;
/// The property up to the fields.
const SELECTION_LEN: usize = 40;

impl SelectionMethod {
    /// As it stands in messages and in text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::DpHash => "dp_hash",
        }
    }
}

impl Selection {
    /// Takes the properties of a group that `r` consists of. `may_select` tells whether the command that
    /// they stand in may say how to select.
    pub(crate) fn take_properties(
        mut r: Reader<'_>,
        group_type: u8,
        may_select: Result<(), OfError>,
    ) -> Result<Option<Self>, OfError> {
        let mut selection = None;
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            match property.kind {
                PropertyType::Experimenter {
                    vendor: NETRONOME | NETRONOME_COMPAT,
                    exp_type: SELECTION_METHOD,
                } => {
                    if GroupType::from_wire(group_type)? != GroupType::Select {
                        return Err(OfError::OfpbpcBadValue);
                    }
                    may_select?;
                    selection = Some(Self::take(&property)?);
                }
                other => return Err(other.unknown()),
            }
        }
        Ok(selection)
    }

    fn take(property: &Property<'_>) -> Result<Self, OfError> {
        if property.whole.len() < SELECTION_LEN {
            return Err(OfError::OfpbpcBadLen);
        }
        let mut r = Reader::new(property.value());
        r.skip(4)?;
        let name = r.take(METHOD_LEN)?;
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let method = match name {
            b"hash" => SelectionMethod::Hash,
            b"dp_hash" => SelectionMethod::DpHash,
            _ => return Err(OfError::OfpbpcBadValue),
        };
        let param = r.u64()?;
        if !r.is_empty() && method != SelectionMethod::Hash {
            return Err(OfError::OfpbpcBadValue);
        }
        Ok(Self { method, param, fields: oxm::pull_field_array(r.rest())? })
    }

    /// Appends the property.
    pub(crate) fn put(&self, out: &mut Vec<u8>, version: Version) {
        let kind = PropertyType::Experimenter { vendor: NETRONOME, exp_type: SELECTION_METHOD };
        put_property(out, kind, |out| {
            out.put_zeros(4);
            out.put_c_string(self.method.name().as_bytes(), METHOD_LEN);
            out.put_u64(self.param);
            oxm::put_field_array(out, &self.fields, version.wire());
        });
    }
}
