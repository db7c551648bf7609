//! Taking big-endian numbers off a buffer and putting them on one.

use crate::OfError;

/// A read past the end of the buffer. As an OpenFlow error it is `OFPBRC_BAD_LEN`, which is right wherever
/// the length belongs to a message; actions, matches and properties have an error of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated;

impl From<Truncated> for OfError {
    fn from(_: Truncated) -> Self {
        Self::OfpbrcBadLen
    }
}

/// A cursor over received bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that are left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes the next `n` bytes.
    pub const fn take(&mut self, n: usize) -> Result<&'a [u8], Truncated> {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(Truncated),
        }
    }

    /// Takes everything that is left.
    pub const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Takes the next `n` bytes as a cursor of their own.
    pub const fn sub(&mut self, n: usize) -> Result<Self, Truncated> {
        match self.take(n) {
            Ok(bytes) => Ok(Self { rest: bytes }),
            Err(e) => Err(e),
        }
    }

    /// Drops the next `n` bytes.
    pub const fn skip(&mut self, n: usize) -> Result<(), Truncated> {
        match self.take(n) {
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Takes the next `N` bytes.
    pub const fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(Truncated),
        }
    }

    /// Takes a byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(|[b]| b)
    }

    /// Takes a 16-bit number.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a fixed-length field that holds a string ended by a NUL, or by the field's last byte (which
    /// Open vSwitch never counts as part of the string).
    pub fn c_string(&mut self, field_len: usize) -> Result<&'a [u8], Truncated> {
        let field = self.take(field_len)?;
        let text = field.split_last().map_or(field, |(_, head)| head);
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        Ok(text.get(..end).unwrap_or(text))
    }
}

/// Appending big-endian numbers.
pub trait PutBytes {
    /// Appends a byte.
    fn put_u8(&mut self, value: u8);
    /// Appends a 16-bit number.
    fn put_u16(&mut self, value: u16);
    /// Appends a 32-bit number.
    fn put_u32(&mut self, value: u32);
    /// Appends a 64-bit number.
    fn put_u64(&mut self, value: u64);
    /// Appends `bytes`.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// Appends `n` zeros.
    fn put_zeros(&mut self, n: usize);
    /// Appends `text` as a field of `field_len` bytes, cut so that at least one NUL ends it.
    fn put_c_string(&mut self, text: &[u8], field_len: usize);
    /// Appends zeros until the part from `start` on is a multiple of 8 bytes long.
    fn pad_to_8(&mut self, start: usize);
    /// Overwrites the 16 bits at offset `at`; no effect where there are none.
    fn set_u16(&mut self, at: usize, value: u16);
}

impl PutBytes for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }

    fn put_c_string(&mut self, text: &[u8], field_len: usize) {
        let kept = text.len().min(field_len.saturating_sub(1));
        self.extend_from_slice(text.get(..kept).unwrap_or(text));
        self.put_zeros(field_len - kept);
    }

    fn pad_to_8(&mut self, start: usize) {
        let len = self.len().saturating_sub(start);
        self.put_zeros(len.next_multiple_of(8) - len);
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        if let Some(field) = self.get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// `len` as a 16-bit length field. The lengths of what this crate encodes are bounded by the 64 KiB of a
/// message; one that is not would be cut, as it is by Open vSwitch.
#[must_use]
pub const fn len16(len: usize) -> u16 {
    len as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut r = Reader::new(&[1, 0, 2, 0, 0, 0, 3]);
        assert_eq!((r.u8(), r.u16(), r.u32()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(r.u8(), Err(Truncated));
        let mut r = Reader::new(&[1]);
        assert_eq!(r.u16(), Err(Truncated));
        assert_eq!(r.rest(), &[1], "a failed read takes nothing");
    }

    #[test]
    fn strings_end_at_nul_or_before_the_last_byte() {
        let read = |bytes: &'static [u8]| Reader::new(bytes).c_string(4).unwrap();
        assert_eq!(read(b"ab\0d"), b"ab");
        assert_eq!(read(b"abcd"), b"abc");
        let mut out = Vec::new();
        out.put_c_string(b"abcdef", 4);
        out.put_c_string(b"a", 4);
        assert_eq!(out, b"abc\0a\0\0\0");
    }

    #[test]
    fn padding_counts_from_the_start_of_the_part() {
        let mut out = vec![0; 3];
        out.put_u8(1);
        out.pad_to_8(3);
        assert_eq!(out.len(), 11);
        out.pad_to_8(3);
        assert_eq!(out.len(), 11);
        out.set_u16(9, 0x0102);
        out.set_u16(10, 0xffff);
        assert_eq!(out.get(9..), Some(&[1, 2][..]));
    }
}
