//! Properties: the type-length-value lists that end many messages of OpenFlow 1.3 and later and of the
//! extensions.

use crate::OfError;
use crate::wire::{PutBytes, Reader, Truncated, len16};

/// What a property is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyType {
    /// One of the standard's, or of the extension that the message belongs to.
    Standard(u16),
    /// An experimenter's.
    Experimenter {
        /// Experimenter id, never 0.
        vendor: u32,
        /// The experimenter's number for it.
        exp_type: u32,
    },
}

/// The type that says that an experimenter's id and type follow.
const EXPERIMENTER: u16 = 0xffff;

impl PropertyType {
    /// The error for a property that is not known where it stands.
    #[must_use]
    pub const fn unknown(self) -> OfError {
        match self {
            Self::Standard(_) => OfError::OfpbpcBadType,
            Self::Experimenter { .. } => OfError::OfpbpcBadExpType,
        }
    }
}

/// A property as received.
///
/// ```text
///  0               2               4               8              12
/// |     type      |    length     |                value ...               standard
/// | 0xffff        |    length     |    vendor     |   exp_type   | value    experimenter
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Property<'a> {
    /// What it is.
    pub kind: PropertyType,
    /// The type on the wire, which in lists with two experimenter types tells them apart.
    pub wire_type: u16,
    /// Header and value, without the padding.
    pub whole: &'a [u8],
    header_len: usize,
}

impl<'a> Property<'a> {
    /// Takes the next property off `list`; the properties of the list are padded to 8 bytes.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`, `OFPBPC_BAD_EXPERIMENTER`
    pub fn take(list: &mut Reader<'a>) -> Result<Self, OfError> {
        Self::take_with(list, 8, Some(EXPERIMENTER))
    }

    /// Takes the next property off a list that is padded to multiples of `alignment`, and in which types
    /// from `experimenter_min` on are experimenters' (`None`: no type is).
    ///
    /// # Errors
    /// As [`Property::take`].
    pub fn take_with(
        list: &mut Reader<'a>,
        alignment: usize,
        experimenter_min: Option<u16>,
    ) -> Result<Self, OfError> {
        let mut header = *list;
        let (wire_type, len) = header
            .u16()
            .and_then(|t| Ok((t, usize::from(header.u16()?))))
            .map_err(|Truncated| OfError::OfpbpcBadLen)?;
        let padded_len = len.next_multiple_of(alignment);
        if len < 4 || padded_len > list.len() {
            return Err(OfError::OfpbpcBadLen);
        }
        let (kind, header_len) = match experimenter_min {
            Some(min) if wire_type >= min => (Self::experimenter(header, len)?, 12),
            _ => (PropertyType::Standard(wire_type), 4),
        };
        let padded = list.take(padded_len)?;
        let whole = padded.get(..len).unwrap_or(padded);
        Ok(Self { kind, wire_type, whole, header_len })
    }

    fn experimenter(mut header: Reader<'a>, len: usize) -> Result<PropertyType, OfError> {
        if len < 12 {
            return Err(OfError::OfpbpcBadLen);
        }
        let vendor = header.u32()?;
        let exp_type = header.u32()?;
        if vendor == 0 {
            return Err(OfError::OfpbpcBadExperimenter);
        }
        Ok(PropertyType::Experimenter { vendor, exp_type })
    }

    /// The bytes after the header.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.whole.get(self.header_len..).unwrap_or_default()
    }

    /// The bytes after the header and what fills it up to 8 bytes: where 64-bit values and lists stand.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn aligned_value(&self) -> Result<Reader<'a>, OfError> {
        let at = self.header_len.next_multiple_of(8);
        self.whole.get(at..).map(Reader::new).ok_or(OfError::OfpbpcBadLen)
    }

    /// The value as a number of 8 bits, which others may follow.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn u8(&self) -> Result<u8, OfError> {
        Reader::new(self.value()).u8().map_err(|Truncated| OfError::OfpbpcBadLen)
    }

    /// The value as a number of 16 bits, which others may follow.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn u16(&self) -> Result<u16, OfError> {
        Reader::new(self.value()).u16().map_err(|Truncated| OfError::OfpbpcBadLen)
    }

    /// The value as a number of exactly 32 bits.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn u32(&self) -> Result<u32, OfError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The aligned value as a number of exactly 64 bits.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn u64(&self) -> Result<u64, OfError> {
        let value = self.aligned_value()?;
        value.rest().try_into().map(u64::from_be_bytes).map_err(|_| OfError::OfpbpcBadLen)
    }

    /// The value as exactly `N` bytes.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn array<const N: usize>(&self) -> Result<[u8; N], OfError> {
        self.value().try_into().map_err(|_| OfError::OfpbpcBadLen)
    }

    /// A cursor over the whole property, where it must be exactly `len` bytes long, past the header.
    ///
    /// # Errors
    /// `OFPBPC_BAD_LEN`
    pub fn fixed(&self, len: usize) -> Result<Reader<'a>, OfError> {
        if self.whole.len() == len { Ok(Reader::new(self.value())) } else { Err(OfError::OfpbpcBadLen) }
    }
}

/// Appends a property whose value `value` appends, and pads it to 8 bytes.
pub fn put_property(out: &mut Vec<u8>, kind: PropertyType, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    match kind {
        PropertyType::Standard(number) => {
            out.put_u16(number);
            out.put_u16(0);
        }
        PropertyType::Experimenter { vendor, exp_type } => {
            out.put_u16(EXPERIMENTER);
            out.put_u16(0);
            out.put_u32(vendor);
            out.put_u32(exp_type);
        }
    }
    value(out);
    let len = len16(out.len() - start);
    out.set_u16(start + 2, len);
    out.pad_to_8(start);
}

/// As [`put_property`], with the value moved up to the next 8 bytes: for 64-bit values and lists.
pub fn put_aligned_property(out: &mut Vec<u8>, kind: PropertyType, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_property(out, kind, |out| {
        out.pad_to_8(start);
        value(out);
    });
}

/// Appends a standard property of 8 bits.
pub fn put_u8(out: &mut Vec<u8>, number: u16, value: u8) {
    put_property(out, PropertyType::Standard(number), |out| out.put_u8(value));
}

/// Appends a standard property of 16 bits, whose length counts two bytes of padding.
pub fn put_u16(out: &mut Vec<u8>, number: u16, value: u16) {
    put_property(out, PropertyType::Standard(number), |out| {
        out.put_u16(value);
        out.put_u16(0);
    });
}

/// Appends a standard property of 32 bits.
pub fn put_u32(out: &mut Vec<u8>, number: u16, value: u32) {
    put_property(out, PropertyType::Standard(number), |out| out.put_u32(value));
}

/// Appends a standard property of 64 bits.
pub fn put_u64(out: &mut Vec<u8>, number: u16, value: u64) {
    put_aligned_property(out, PropertyType::Standard(number), |out| out.put_u64(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut out = Vec::new();
        put_u8(&mut out, 1, 0xab);
        put_u16(&mut out, 2, 0xabcd);
        put_u32(&mut out, 3, 0x0102_0304);
        put_u64(&mut out, 4, 5);
        let kind = PropertyType::Experimenter { vendor: 6, exp_type: 7 };
        put_aligned_property(&mut out, kind, |out| out.put_u64(8));
        assert_eq!(out.len(), 8 + 8 + 8 + 16 + 24);
        let mut list = Reader::new(&out);
        assert_eq!(Property::take(&mut list).unwrap().u8(), Ok(0xab));
        assert_eq!(Property::take(&mut list).unwrap().u16(), Ok(0xabcd));
        assert_eq!(Property::take(&mut list).unwrap().u32(), Ok(0x0102_0304));
        assert_eq!(Property::take(&mut list).unwrap().u64(), Ok(5));
        let last = Property::take(&mut list).unwrap();
        assert_eq!((last.kind, last.u64()), (kind, Ok(8)));
        assert!(list.is_empty());
    }

    #[test]
    fn bad_headers() {
        let take = |bytes: &[u8]| Property::take(&mut Reader::new(bytes)).map(|p| p.kind);
        assert_eq!(take(&[0, 1, 0]), Err(OfError::OfpbpcBadLen));
        assert_eq!(take(&[0, 1, 0, 3, 0, 0, 0, 0]), Err(OfError::OfpbpcBadLen));
        assert_eq!(take(&[0, 1, 0, 9, 0, 0, 0, 0]), Err(OfError::OfpbpcBadLen));
        assert_eq!(take(&[0, 1, 0, 5, 0]), Err(OfError::OfpbpcBadLen), "padding is missing");
        assert_eq!(take(&[0xff, 0xff, 0, 8, 0, 0, 0, 1]), Err(OfError::OfpbpcBadLen));
        let no_vendor = [0xff, 0xff, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(take(&no_vendor), Err(OfError::OfpbpcBadExperimenter));
    }
}
