//! `NXT_TLV_TABLE_*`: which Geneve option is which `tun_metadata<n>`.

use flow::tlv::{TLV_FIELDS, TLV_LEN_MAX};

use crate::form::{Form, Incoming};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, Version};

/// A mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlvMap {
    /// The option's class.
    pub option_class: u16,
    /// The option's type.
    pub option_type: u8,
    /// Length of the option's body in bytes, a multiple of 4.
    pub option_len: u8,
    /// The `n` of `tun_metadata<n>`.
    pub index: u16,
}

/// What to do with the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum TlvTableCommand {
    /// Add mappings.
    Add = 0,
    /// Delete the mappings of the given fields.
    Delete = 1,
    /// Delete all mappings.
    Clear = 2,
}

/// `NXT_TLV_TABLE_MOD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvTableCommand,
    /// With which mappings.
    pub mappings: Vec<TlvMap>,
}

/// `NXT_TLV_TABLE_REPLY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvTableReply {
    /// Bytes that all options may have together.
    pub max_option_space: u32,
    /// Fields that there can be.
    pub max_fields: u16,
    /// The mappings.
    pub mappings: Vec<TlvMap>,
}

impl TlvMap {
    fn take_all(mut r: Reader<'_>, fields: usize) -> Result<Vec<Self>, OfError> {
        let mut mappings = Vec::with_capacity(r.len() / 8);
        while !r.is_empty() {
            mappings.push(Self::take(&mut r, fields)?);
        }
        Ok(mappings)
    }

    fn take(r: &mut Reader<'_>, fields: usize) -> Result<Self, OfError> {
        let map = Self { option_class: r.u16()?, option_type: r.u8()?, option_len: r.u8()?, index: r.u16()? };
        r.skip(2)?;
        if !map.option_len.is_multiple_of(4) || usize::from(map.option_len) > TLV_LEN_MAX {
            return Err(OfError::NxttmfcBadOptLen);
        }
        if usize::from(map.index) >= fields {
            return Err(OfError::NxttmfcBadFieldIdx);
        }
        Ok(map)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(self.option_class);
        out.put_u8(self.option_type);
        out.put_u8(self.option_len);
        out.put_u16(self.index);
        out.put_zeros(2);
    }
}

impl TlvTableMod {
    /// Decodes a modification.
    ///
    /// # Errors
    /// `NXTTMFC_BAD_COMMAND`, `_BAD_OPT_LEN`, `_BAD_FIELD_IDX`
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let command = match r.u16()? {
            0 => TlvTableCommand::Add,
            1 => TlvTableCommand::Delete,
            2 => TlvTableCommand::Clear,
            _ => return Err(OfError::NxttmfcBadCommand),
        };
        r.skip(6)?;
        Ok(Self { command, mappings: TlvMap::take_all(r, TLV_FIELDS)? })
    }

    /// Encodes a modification.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Form::NxtTlvTableMod.put(version, xid, &mut out, |out| {
            out.put_u16(self.command as u16);
            out.put_zeros(6);
            self.mappings.iter().for_each(|m| m.put(out));
        });
        out
    }
}

impl TlvTableReply {
    /// Decodes a reply.
    ///
    /// # Errors
    /// `NXTTMFC_BAD_OPT_LEN`, `NXTTMFC_BAD_FIELD_IDX`
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let max_option_space = r.u32()?;
        let max_fields = r.u16()?;
        r.skip(10)?;
        Ok(Self { max_option_space, max_fields, mappings: TlvMap::take_all(r, max_fields.into())? })
    }

    /// Encodes a reply.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Form::NxtTlvTableReply.put(version, xid, &mut out, |out| {
            out.put_u32(self.max_option_space);
            out.put_u16(self.max_fields);
            out.put_zeros(10);
            self.mappings.iter().for_each(|m| m.put(out));
        });
        out
    }
}
