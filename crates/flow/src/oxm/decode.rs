//! Entries to a match.

use super::entry::{Entry, Header, Payload};
use super::{OxmError, match_type, padding, take};
use crate::flow_match::Match;
use crate::tlv::TlvTable;

/// How to decode a match.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Pass over unknown fields and do not ask for prerequisites.
    pub loose: bool,
    /// Take a `NXM_NX_COOKIE` entry for what it is instead of rejecting it.
    pub allow_cookie: bool,
    /// Accept only fields that go with a packet from table to table (OpenFlow 1.5 packet-out).
    pub pipeline_fields_only: bool,
    /// The bridge's tunnel options. Unless `loose`, those that it does not map are rejected.
    pub tlv: Option<&'a TlvTable>,
}

/// A match, and the cookie that came with it in NXM flow-mods (mask 0 if none).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    pub matched: Match,
    pub cookie: u64,
    pub cookie_mask: u64,
}

const COOKIE_CLASS: u16 = crate::oxm_class::NXM_1;
pub(super) const COOKIE_NUM: u8 = 30;

fn is_cookie(h: &Header) -> bool {
    h.class == COOKIE_CLASS && h.num == COOKIE_NUM && h.value_len() == 8 && h.payload_len().is_multiple_of(8)
}

/// Decodes entries up to the end of `b`, which has no padding.
pub fn decode(mut b: &[u8], opts: Options<'_>) -> Result<Decoded, OxmError> {
    let mut d = Decoded::default();
    while !b.is_empty() {
        decode_one(&mut b, &opts, &mut d)?;
    }
    Ok(d)
}

/// As [`decode`] without a cookie.
pub fn decode_fields(b: &[u8], opts: Options<'_>) -> Result<Match, OxmError> {
    decode(b, opts).map(|d| d.matched)
}

fn decode_one(b: &mut &[u8], opts: &Options<'_>, d: &mut Decoded) -> Result<(), OxmError> {
    let h = Header::pull(b)?;
    let strict_tlv = if opts.loose { None } else { opts.tlv };
    let field = match h.field(strict_tlv, false) {
        Err(e) if e != OxmError::BadField => return Err(e),
        f => f,
    };
    let payload = Payload::pull(b, &h)?;
    match field {
        Ok(field) => add_entry(payload.entry(field, strict_tlv), opts, &mut d.matched),
        Err(_) if opts.allow_cookie && is_cookie(&h) => {
            if d.cookie_mask != 0 {
                return Err(OxmError::DupField);
            }
            (d.cookie, d.cookie_mask) = payload.to_u64();
            Ok(())
        }
        Err(_) if opts.loose => Ok(()),
        Err(e) => Err(e),
    }
}

fn add_entry(e: Entry, opts: &Options<'_>, m: &mut Match) -> Result<(), OxmError> {
    let field = e.field;
    if e.mask.is_some_and(|m| !field.is_mask_valid(&m)) {
        return Err(OxmError::BadMask);
    }
    if !field.is_value_valid(&e.value) {
        return Err(OxmError::BadValue);
    }
    if !opts.loose && !field.prereqs_ok(&m.flow, &m.mask) {
        return Err(OxmError::BadPrereq);
    }
    if !field.is_all_wild(&m.mask) {
        return Err(OxmError::DupField);
    }
    if opts.pipeline_fields_only && !field.is_pipeline() {
        return Err(OxmError::PipelineFieldsOnly);
    }
    m.set_field(field, &e.value, e.mask.as_ref(), opts.tlv).map_err(|_| OxmError::BadValue)?;
    m.add_ethernet_prereq(field);
    Ok(())
}

/// Takes a match of `match_len` bytes with its padding off the front of `b` (NXM messages).
pub fn pull_nxm_match(b: &mut &[u8], match_len: usize, opts: Options<'_>) -> Result<Decoded, OxmError> {
    let padded = take(b, match_len + padding(match_len)).ok_or(OxmError::BadLen)?;
    decode(&padded[..match_len], opts)
}

/// Takes a `struct ofp_match` of type OXM with its padding off the front of `b` (OpenFlow 1.2 and later).
pub fn pull_oxm_match(b: &mut &[u8], opts: Options<'_>) -> Result<Match, OxmError> {
    let &[t0, t1, l0, l1, ..] = *b else { return Err(OxmError::BadLen) };
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if len < 4 {
        return Err(OxmError::BadLen);
    }
    if u16::from_be_bytes([t0, t1]) != match_type::OXM {
        return Err(OxmError::BadType);
    }
    let padded = take(b, len + padding(len)).ok_or(OxmError::BadLen)?;
    decode_fields(&padded[4..len], opts)
}
