//! `OFPMP_TABLE_DESC` and `OFPT_TABLE_STATUS`: how tables are configured, and that one is running full
//! (OpenFlow 1.4 and later).

use crate::form::{Form, Incoming};
use crate::msg::table_mod::TableDesc;
use crate::multipart::MultipartWriter;
use crate::wire::PutBytes;
use crate::{OfError, Version};

/// Decodes the tables in one message of an `OFPMP_TABLE_DESC` reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN` and those of properties.
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<TableDesc>, OfError> {
    let mut r = msg.body();
    let mut tables = Vec::new();
    while !r.is_empty() {
        tables.push(TableDesc::take(&mut r)?);
    }
    Ok(tables)
}

/// Adds a table to an `OFPMP_TABLE_DESC` reply.
pub fn append(table: &TableDesc, replies: &mut MultipartWriter) -> bool {
    let version = replies.version();
    replies.append(|out| table.put(out, version))
}

/// Why a table status is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TableReason {
    /// There is less free space than the lower threshold.
    VacancyDown = 3,
    /// There is more free space than the upper threshold.
    VacancyUp = 4,
}

/// A table status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStatus {
    /// Why it is sent.
    pub reason: TableReason,
    /// The table.
    pub desc: TableDesc,
}

impl TableStatus {
    /// Decodes a table status.
    ///
    /// # Errors
    /// `OFPBPC_BAD_VALUE` for an unknown reason, and those of descriptions.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let reason = match r.u8()? {
            3 => TableReason::VacancyDown,
            4 => TableReason::VacancyUp,
            _ => return Err(OfError::OfpbpcBadValue),
        };
        r.skip(7)?;
        Ok(Self { reason, desc: TableDesc::take(&mut r)? })
    }

    /// Encodes a table status; `None` before OpenFlow 1.4.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        if version < Version::Of14 {
            return None;
        }
        let mut out = Vec::new();
        Form::Ofpt14TableStatus.put(version, xid, &mut out, |out| {
            out.put_u8(self.reason as u8);
            out.put_zeros(7);
            self.desc.put(out, version);
        });
        Some(out)
    }
}
