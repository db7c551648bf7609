//! Single entries, as actions and match fields carry them.

use super::{OxmError, take};
use crate::field::{Field, OxmId, oxm_class};
use crate::tlv::TlvTable;
use crate::value::Value;

/// A decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub class: u16,
    pub num: u8,
    pub has_mask: bool,
    /// As on the wire: with the 4 bytes of the experimenter's identifier.
    pub len: u8,
    /// 0 unless `class` is 0xffff.
    pub experimenter: u32,
}

impl Header {
    /// Reads a header off the front of `b`.
    pub fn pull(b: &mut &[u8]) -> Result<Header, OxmError> {
        let h = take(b, 4).ok_or(OxmError::BadLen)?;
        let mut header = Header {
            class: u16::from_be_bytes([h[0], h[1]]),
            num: h[2] >> 1,
            has_mask: h[2] & 1 != 0,
            len: h[3],
            experimenter: 0,
        };
        if header.class == oxm_class::EXPERIMENTER {
            let x = take(b, 4).ok_or(OxmError::BadLen)?;
            header.experimenter = u32::from_be_bytes([x[0], x[1], x[2], x[3]]);
            if header.len < 4 {
                return Err(OxmError::BadLen);
            }
        }
        Ok(header)
    }

    /// Of field `id` with a value of `n_bytes`.
    fn new(id: &OxmId, n_bytes: usize, has_mask: bool) -> Header {
        let experimenter_len = if id.class == oxm_class::EXPERIMENTER { 4 } else { 0 };
        let len = experimenter_len + if has_mask { 2 * n_bytes } else { n_bytes };
        Header { class: id.class, num: id.num, has_mask, len: len as u8, experimenter: id.experimenter }
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.class.to_be_bytes());
        out.extend([self.num << 1 | u8::from(self.has_mask), self.len]);
        if self.class == oxm_class::EXPERIMENTER {
            out.extend(self.experimenter.to_be_bytes());
        }
    }

    /// Bytes of value and mask together.
    pub fn payload_len(&self) -> usize {
        usize::from(self.len).saturating_sub(if self.class == oxm_class::EXPERIMENTER { 4 } else { 0 })
    }

    /// Bytes of the value.
    pub fn value_len(&self) -> usize {
        if self.has_mask { self.payload_len() / 2 } else { self.payload_len() }
    }

    /// The field with this code point and length; `Err(true)` if only the length is wrong.
    ///
    /// OVS takes the length's highest bit for a part of the code point.
    fn lookup(&self) -> Result<Field, bool> {
        let experimenter_len = usize::from(self.len) - self.payload_len();
        if self.value_len() + experimenter_len >= 0x80 {
            return Err(false);
        }
        let f = Field::by_header(self.class, self.experimenter, self.num).ok_or(false)?;
        if self.value_len() == f.n_bytes() || f.is_variable_len() { Ok(f) } else { Err(self.value_len() > 0) }
    }

    /// The field, for a match or for an action. With `tlv`, a `tun_metadata<i>` must be mapped.
    pub fn field(&self, tlv: Option<&TlvTable>, is_action: bool) -> Result<Field, OxmError> {
        let f = self.lookup().map_err(|bad_len| match (is_action, bad_len) {
            (false, _) => OxmError::BadField,
            (true, false) => OxmError::BadSetType,
            (true, true) => OxmError::BadSetLen,
        })?;
        match (f.tlv_index(), tlv) {
            (Some(i), Some(t)) if t.get(i).is_none() => Err(OxmError::InvalidTlvField),
            _ => Ok(f),
        }
    }
}

/// A field with its value, and its mask if the entry had one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub field: Field,
    pub value: Value,
    pub mask: Option<Value>,
}

/// A header's payload as it stands: value and mask.
pub(super) struct Payload<'a> {
    value: &'a [u8],
    mask: Option<&'a [u8]>,
}

impl<'a> Payload<'a> {
    pub(super) fn pull(b: &mut &'a [u8], h: &Header) -> Result<Payload<'a>, OxmError> {
        let payload = take(b, h.payload_len()).ok_or(OxmError::BadLen)?;
        let n = h.value_len();
        let (value, rest) = payload.split_at(n.min(payload.len()));
        let mask = h.has_mask.then(|| &rest[..n.min(rest.len())]);
        if mask.is_some_and(|m| value.iter().zip(m).any(|(v, m)| v & !m != 0)) {
            return Err(OxmError::BadWildcards);
        }
        Ok(Payload { value, mask })
    }

    pub(super) fn entry(&self, field: Field, tlv: Option<&TlvTable>) -> Entry {
        let n = field.n_bytes_in(tlv.unwrap_or(&TlvTable::EMPTY));
        let fit = |b: &[u8]| Value::from_bytes(&b[..b.len().min(n)]).resized(n);
        Entry { field, value: fit(self.value), mask: self.mask.map(fit) }
    }

    /// Value and mask as numbers of up to 64 bits.
    pub(super) fn to_u64(&self) -> (u64, u64) {
        let number = |b: &[u8]| Value::from_bytes(b).to_u64();
        (number(self.value), self.mask.map_or(u64::MAX, number))
    }
}

/// Reads a header off the front of `b`: the field and whether a mask is meant. For actions that name a
/// field without a value (move, load, push, ...).
pub fn pull_header(b: &mut &[u8], tlv: Option<&TlvTable>) -> Result<(Field, bool), OxmError> {
    let h = Header::pull(b)?;
    Ok((h.field(tlv, false)?, h.has_mask))
}

/// Reads an entry off the front of `b`, for an action. Without `allow_mask`, a mask is an error.
///
/// Errors of the kind that OVS gives: `OFPBAC_BAD_SET_TYPE` and `..._LEN` for the field, `OFPBMC_*` for
/// the rest.
pub fn pull_entry(b: &mut &[u8], tlv: Option<&TlvTable>, allow_mask: bool) -> Result<Entry, OxmError> {
    let h = Header::pull(b)?;
    let field = h.field(tlv, true)?;
    let payload = Payload::pull(b, &h)?;
    if h.has_mask && !allow_mask {
        return Err(OxmError::BadMask);
    }
    Ok(payload.entry(field, tlv))
}

/// Writes a header for `field` as OpenFlow `version` has it ([`crate::ofp::NXM`] for NXM). Nothing for a
/// field without a code point.
pub fn put_header(out: &mut Vec<u8>, field: Field, version: u8, masked: bool, tlv: Option<&TlvTable>) {
    if let Some(id) = field.oxm_id(version) {
        Header::new(id, field.n_bytes_in(tlv.unwrap_or(&TlvTable::EMPTY)), masked).put(out);
    }
}

/// The 32-bit NXM header of `field` for the Nicira actions that have room for no more; 0 if it has none.
pub fn header32(field: Field, tlv: Option<&TlvTable>) -> u32 {
    let mut b = Vec::with_capacity(8);
    put_header(&mut b, field, crate::ofp::NXM, false, tlv);
    b.try_into().map_or(0, u32::from_be_bytes)
}

/// Writes an entry; `tun_metadata<i>` without leading zero bytes that value and mask both have.
///
/// A mask of all ones is left out.
pub fn put_entry(out: &mut Vec<u8>, field: Field, version: u8, value: &Value, mask: Option<&Value>) {
    let mask = mask.filter(|m| !m.is_ones());
    let n = if field.is_variable_len() {
        value.significant_len().max(mask.map_or(0, Value::significant_len))
    } else {
        field.n_bytes()
    };
    put_raw(out, field, version, &value.resized(n), mask.map(|m| m.resized(n)).as_ref());
}

/// Writes an entry of just the bytes in `value`, and those in `mask`.
pub(super) fn put_raw(out: &mut Vec<u8>, field: Field, version: u8, value: &Value, mask: Option<&Value>) {
    let Some(id) = field.oxm_id(version) else { return };
    Header::new(id, value.len(), mask.is_some()).put(out);
    out.extend(value.as_bytes());
    if let Some(m) = mask {
        out.extend(m.as_bytes());
    }
}

/// Decodes entries whose values are masks, as the `fields` of an OpenFlow 1.5 selection method are.
pub fn pull_field_array(mut b: &[u8]) -> Result<Vec<(Field, Value)>, OxmError> {
    let mut out: Vec<(Field, Value)> = Vec::new();
    while !b.is_empty() {
        let h = Header::pull(&mut b)?;
        let field = h.field(None, false);
        let payload = Payload::pull(&mut b, &h)?;
        if h.has_mask {
            return Err(OxmError::BadMask);
        }
        let Entry { field, value, .. } = payload.entry(field?, None);
        if out.iter().any(|(f, _)| *f == field) {
            return Err(OxmError::DupField);
        }
        if !field.is_mask_valid(&value) {
            return Err(OxmError::BadMask);
        }
        out.push((field, value));
    }
    // The order of the fields is that of OVS's, whatever it was on the wire.
    out.sort_by_key(|(f, _)| *f);
    Ok(out)
}

/// The opposite of [`pull_field_array`].
pub fn put_field_array(out: &mut Vec<u8>, fields: &[(Field, Value)], version: u8) {
    for (f, v) in fields {
        put_entry(out, *f, version, v, None);
    }
}
