//! `NXT_TLV_TABLE_*`: which Geneve option each `tun_metadata<i>` is.

use super::Cx;
use flow::{TlvError, TlvTable};
use openflow::msg::tlv_table::{TlvMap, TlvTableCommand, TlvTableMod, TlvTableReply};
use openflow::{Incoming, OfError};
use std::sync::Arc;

/// Bytes that all options may have together.
const OPTION_SPACE: u32 = 256;
const FIELDS: u16 = 64;

pub fn change(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    cx.conn.check_may_write()?;
    let request = TlvTableMod::decode(msg)?;
    let mut table = (*cx.tlv).clone();
    match request.command {
        TlvTableCommand::Add => {
            for m in &request.mappings {
                table.add(m.index.into(), m.option_class, m.option_type, m.option_len).map_err(error)?;
            }
        }
        TlvTableCommand::Delete => {
            check_unused(cx, request.mappings.iter().map(|m| usize::from(m.index)))?;
            request.mappings.iter().for_each(|m| table.remove(m.index.into()));
        }
        TlvTableCommand::Clear => {
            check_unused(cx, 0..usize::from(FIELDS))?;
            table = TlvTable::EMPTY;
        }
    }
    let table = Arc::new(table);
    cx.tlv = table.clone();
    cx.write(|switch| switch.tlv = table)
}

fn error(e: TlvError) -> OfError {
    match e {
        TlvError::BadFieldIndex => OfError::NxttmfcBadFieldIdx,
        TlvError::BadOptionLen => OfError::NxttmfcBadOptLen,
        TlvError::AlreadyMapped => OfError::NxttmfcAlreadyMapped,
        TlvError::DupEntry => OfError::NxttmfcDupEntry,
        TlvError::TableFull => OfError::NxttmfcTableFull,
    }
}

/// A mapping must stay while a rule matches its field.
fn check_unused(cx: &Cx<'_>, indexes: impl Iterator<Item = usize>) -> Result<(), OfError> {
    let doomed = indexes.fold(0u64, |bits, i| bits | 1u64.checked_shl(i as u32).unwrap_or(0));
    let mapped = cx.tlv.iter().fold(0u64, |bits, (i, _)| bits | 1 << i);
    if doomed & mapped == 0 {
        return Ok(());
    }
    let is_used = cx.read(|switch| {
        switch.tables.iter().flat_map(|t| t.iter()).any(|r| matched_fields(&r.matching) & doomed != 0)
    })?;
    if is_used { Err(OfError::NxttmfcInvalidTlvDel) } else { Ok(()) }
}

/// The `tun_metadata` fields that a match looks at, one bit each.
fn matched_fields(m: &flow::MiniMatch) -> u64 {
    m.expand().flow.tunnel.metadata_present
}

pub fn show(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    let mapping = |(i, slot): (usize, &flow::TlvSlot)| TlvMap {
        option_class: slot.class,
        option_type: slot.kind,
        option_len: slot.len,
        index: i as u16,
    };
    let reply = TlvTableReply {
        max_option_space: OPTION_SPACE,
        max_fields: FIELDS,
        mappings: cx.tlv.iter().map(mapping).collect(),
    };
    cx.conn.reply(reply.encode(msg.version, msg.header.xid));
    Ok(())
}
