//! Fields in actions: OXM headers, and headers with value and mask.

use super::form::{Decoder, Encoder};
use crate::OfError;
use flow::oxm::{self, OxmError};
use flow::{Field, Subfield, TlvTable, Value, ofp, oxm_class};

/// The error that stands for `e` in an action.
fn oxm_error(e: OxmError) -> OfError {
    match e {
        OxmError::BadType => OfError::OfpbmcBadType,
        OxmError::BadLen => OfError::OfpbmcBadLen,
        OxmError::BadField => OfError::OfpbmcBadField,
        OxmError::BadMask => OfError::OfpbmcBadMask,
        OxmError::BadValue => OfError::OfpbmcBadValue,
        OxmError::BadPrereq => OfError::OfpbmcBadPrereq,
        OxmError::DupField => OfError::OfpbmcDupField,
        OxmError::BadWildcards => OfError::OfpbmcBadWildcards,
        OxmError::PipelineFieldsOnly => OfError::OfpbrcPipelineFieldsOnly,
        OxmError::InvalidTlvField => OfError::NxfmfcInvalidTlvField,
        OxmError::BadSetType => OfError::OfpbacBadSetType,
        OxmError::BadSetLen => OfError::OfpbacBadSetLen,
    }
}

impl Decoder<'_> {
    /// Notes that `field` is used.
    fn note(&mut self, field: Field) -> Field {
        if let (Some(i), Some(_)) = (field.tlv_index(), self.tlv) {
            self.tlv_used |= 1 << i;
        }
        field
    }

    /// The field of a 4-byte header.
    pub(crate) fn field32(&mut self, header: u32) -> Result<Field, OfError> {
        let bytes = header.to_be_bytes();
        // Fields of the experimenter class have headers of 8 bytes, so none is found.
        match oxm::pull_header(&mut &bytes[..], self.tlv) {
            Ok((field, _)) => Ok(self.note(field)),
            Err(OxmError::InvalidTlvField) => Err(OfError::NxfmfcInvalidTlvField),
            Err(_) => Err(OfError::OfpbacBadSetType),
        }
    }

    /// The bits of the field of a 4-byte header whose place and width are packed in 16 bits.
    pub(crate) fn subfield32(&mut self, header: u32, ofs_nbits: u16) -> Result<Subfield, OfError> {
        let field = self.field32(header)?;
        Ok(Subfield { field, ofs: ofs_nbits >> 6, n_bits: (ofs_nbits & 0x3f) + 1 })
    }

    /// Takes a header without mask off the beginning of `b`.
    pub(crate) fn pull_field(&mut self, b: &mut &[u8]) -> Result<Field, OfError> {
        match oxm::pull_header(b, self.tlv).map_err(oxm_error)? {
            (_, true) => Err(OfError::OfpbmcBadMask),
            (field, false) => Ok(self.note(field)),
        }
    }

    /// Takes a header, a value and (if there is one) a mask off the beginning of `b`.
    pub(crate) fn pull_entry(&mut self, b: &mut &[u8]) -> Result<oxm::Entry, OfError> {
        let entry = oxm::pull_entry(b, self.tlv, true).map_err(oxm_error)?;
        self.note(entry.field);
        Ok(entry)
    }

    /// Whether `sf` can be read.
    pub(crate) fn check_src(&self, sf: Subfield) -> Result<Subfield, OfError> {
        let (ofs, n_bits) = (usize::from(sf.ofs), usize::from(sf.n_bits));
        let inside = n_bits > 0 && ofs + n_bits <= field_bits(sf.field, self.tlv);
        if inside { Ok(sf) } else { Err(OfError::OfpbacBadSetLen) }
    }

    /// Whether `sf` can be written.
    pub(crate) fn check_dst(&self, sf: Subfield) -> Result<Subfield, OfError> {
        self.check_src(sf)?;
        if sf.field.info().writable { Ok(sf) } else { Err(OfError::OfpbacBadSetArgument) }
    }
}

/// Bytes in `field`'s value, in a bridge with the tunnel options `tlv`.
pub(crate) fn field_bytes(field: Field, tlv: Option<&TlvTable>) -> usize {
    field.n_bytes_in(tlv.unwrap_or(&TlvTable::EMPTY))
}

/// Bits in `field`'s value, as [`field_bytes`].
pub(crate) fn field_bits(field: Field, tlv: Option<&TlvTable>) -> usize {
    if field.is_variable_len() { 8 * field_bytes(field, tlv) } else { field.n_bits() }
}

/// Whether the field has a 4-byte header.
pub(crate) fn has_header32(field: Field) -> bool {
    field.oxm_id(ofp::NXM).is_some_and(|id| id.class != oxm_class::EXPERIMENTER)
}

impl Encoder<'_> {
    /// A header without value, as OpenFlow `version` has it ([`ofp::NXM`]: preferably Nicira's).
    pub(crate) fn field(&mut self, field: Field, version: u8) {
        oxm::put_header(self.buf, field, version, false, self.tlv);
    }

    /// A 4-byte header, or zeros for a field that has none.
    pub(crate) fn field32(&mut self, field: Field) {
        self.u32(oxm::header32(field, self.tlv));
    }

    /// A part's place and width packed in 16 bits.
    pub(crate) fn ofs_nbits(&mut self, sf: Subfield) {
        self.u16(sf.ofs << 6 | (sf.n_bits.wrapping_sub(1) & 0x3f));
    }

    /// A header with its value, and with its mask unless that is all ones.
    pub(crate) fn entry(&mut self, field: Field, version: u8, value: &Value, mask: &Value) {
        oxm::put_entry(self.buf, field, version, value, Some(mask));
    }
}
