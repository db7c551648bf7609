//! The value of a field as OpenFlow carries it: big-endian bytes.

use std::fmt;

/// The longest value: a whole Geneve option body (124 bytes) fits.
pub const VALUE_MAX: usize = 128;

/// A field's value, or a mask for one: 0 to [`VALUE_MAX`] big-endian bytes.
///
/// Bit 0 is the least significant bit of the last byte, as OpenFlow numbers bits in `reg0[0..15]`.
#[derive(Clone, Copy)]
pub struct Value {
    len: u8,
    bytes: [u8; VALUE_MAX],
}

impl Value {
    pub const EMPTY: Value = Value { len: 0, bytes: [0; VALUE_MAX] };

    /// `len` bytes of zeros (at most [`VALUE_MAX`]).
    pub fn zero(len: usize) -> Value {
        Value { len: len.min(VALUE_MAX) as u8, ..Value::EMPTY }
    }

    /// `len` bytes of ones: the mask of an exact match.
    pub fn ones(len: usize) -> Value {
        let mut v = Value::zero(len);
        v.as_mut_bytes().fill(0xff);
        v
    }

    /// The low `len` bytes of `x`, most significant first, zero-extended when `len` is over 16.
    pub fn from_u128(len: usize, x: u128) -> Value {
        let mut v = Value::zero(len);
        let be = x.to_be_bytes();
        let out = v.as_mut_bytes();
        let n = out.len().min(16);
        let start = out.len() - n;
        out[start..].copy_from_slice(&be[16 - n..]);
        v
    }

    /// Copies `b`; bytes past the first [`VALUE_MAX`] are dropped.
    pub fn from_bytes(b: &[u8]) -> Value {
        let mut v = Value::zero(b.len());
        let n = usize::from(v.len);
        v.bytes[..n].copy_from_slice(&b[..n]);
        v
    }

    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        let n = self.len();
        &mut self.bytes[..n]
    }

    /// The low 128 bits.
    pub fn to_u128(&self) -> u128 {
        let b = self.as_bytes();
        b[b.len() - b.len().min(16)..].iter().fold(0, |x, b| (x << 8) | u128::from(*b))
    }

    /// The low 64 bits.
    pub fn to_u64(&self) -> u64 {
        self.to_u128() as u64
    }

    pub fn is_zero(&self) -> bool {
        self.as_bytes().iter().all(|b| *b == 0)
    }

    /// Whether every bit is set; an empty value counts.
    pub fn is_ones(&self) -> bool {
        self.as_bytes().iter().all(|b| *b == 0xff)
    }

    /// The same number in `len` bytes: zeros are added, or bytes cut off, on the left.
    pub fn resized(&self, len: usize) -> Value {
        let mut v = Value::zero(len);
        let src = self.as_bytes();
        let out = v.as_mut_bytes();
        let n = src.len().min(out.len());
        let start = out.len() - n;
        out[start..].copy_from_slice(&src[src.len() - n..]);
        v
    }

    /// Bytes left when leading zero bytes are dropped.
    pub fn significant_len(&self) -> usize {
        self.as_bytes().iter().position(|b| *b != 0).map_or(0, |i| self.len() - i)
    }

    pub fn bit(&self, i: usize) -> bool {
        let n = self.len();
        i < n * 8 && self.bytes[n - 1 - i / 8] >> (i % 8) & 1 != 0
    }

    pub fn set_bit(&mut self, i: usize, on: bool) {
        let n = self.len();
        if i < n * 8 {
            let b = &mut self.bytes[n - 1 - i / 8];
            *b = *b & !(1 << (i % 8)) | u8::from(on) << (i % 8);
        }
    }

    /// Sets `n_bits` bits from bit `ofs` up to one.
    pub fn set_ones(&mut self, ofs: usize, n_bits: usize) {
        self.copy_bits(ofs, &Value::ones(n_bits.div_ceil(8)), 0, n_bits);
    }

    /// Copies `n_bits` bits of `src` from its bit `src_ofs` up to bit `ofs` of `self`. Bits outside
    /// `src` read as zero; bits outside `self` are dropped.
    pub fn copy_bits(&mut self, ofs: usize, src: &Value, src_ofs: usize, n_bits: usize) {
        if self.len <= 16 && src.len <= 16 && n_bits <= 128 {
            let ones = ones128(n_bits) << ofs.min(127);
            let x = (src.to_u128() >> src_ofs.min(127)) << ofs.min(127);
            if ofs < 128 && src_ofs < 128 {
                *self = Value::from_u128(self.len(), self.to_u128() & !ones | x & ones);
                return;
            }
        }
        for i in 0..n_bits {
            self.set_bit(ofs + i, src.bit(src_ofs + i));
        }
    }

    /// Bits `ofs..ofs + n_bits` as a value of just enough bytes.
    pub fn bits(&self, ofs: usize, n_bits: usize) -> Value {
        let mut v = Value::zero(n_bits.div_ceil(8));
        v.copy_bits(0, self, ofs, n_bits);
        v
    }

    /// `self & mask`, byte by byte.
    pub fn and(&self, mask: &Value) -> Value {
        let mut v = *self;
        for (a, b) in v.as_mut_bytes().iter_mut().zip(mask.as_bytes()) {
            *a &= b;
        }
        v
    }

    /// `value` where `mask` is set, `self` elsewhere.
    pub fn merged(&self, value: &Value, mask: &Value) -> Value {
        let mut v = *self;
        for ((a, x), m) in v.as_mut_bytes().iter_mut().zip(value.as_bytes()).zip(mask.as_bytes()) {
            *a = *a & !m | x & m;
        }
        v
    }
}

/// The low `n` bits set.
pub(crate) const fn ones128(n: usize) -> u128 {
    if n >= 128 { u128::MAX } else { (1 << n) - 1 }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Default for Value {
    fn default() -> Value {
        Value::EMPTY
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// `0x` and the digits without leading zeros, as OVS prints a subfield's value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.as_bytes()[self.len() - self.significant_len()..];
        match b.split_first() {
            None => f.write_str("0"),
            Some((first, rest)) => {
                write!(f, "0x{first:x}")?;
                rest.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    }
}

macro_rules! from_int {
    ($($t:ty),*) => { $(
        impl From<$t> for Value {
            fn from(x: $t) -> Value {
                Value::from_bytes(&x.to_be_bytes())
            }
        }
    )* };
}
from_int!(u8, u16, u32, u64, u128);

impl From<crate::EthAddr> for Value {
    fn from(a: crate::EthAddr) -> Value {
        Value::from_bytes(&a.0)
    }
}

impl From<crate::U128> for Value {
    fn from(a: crate::U128) -> Value {
        u128::from(a).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shape_and_text() {
        let v = Value::from_u128(4, 0x1234);
        assert_eq!(v.as_bytes(), [0, 0, 0x12, 0x34]);
        assert_eq!(v.to_string(), "0x1234");
        assert_eq!(Value::zero(2).to_string(), "0");
        assert_eq!(v.significant_len(), 2);
        assert_eq!(v.resized(1).as_bytes(), [0x34]);
        assert_eq!(v.resized(124).to_u64(), 0x1234);
        assert_eq!(Value::from_bytes(&[1; 200]).len(), VALUE_MAX);
    }

    proptest! {
        #[test]
        fn copy_bits_is_bit_by_bit(a: [u8; 24], b: [u8; 24], la in 1usize..24, lb in 1usize..24,
                                   ofs in 0usize..200, src_ofs in 0usize..200, n in 0usize..200) {
            let (dst, src) = (Value::from_bytes(&a[..la]), Value::from_bytes(&b[..lb]));
            let mut fast = dst;
            fast.copy_bits(ofs, &src, src_ofs, n);
            for i in 0..la * 8 {
                let want = if i >= ofs && i < ofs + n { src.bit(src_ofs + i - ofs) } else { dst.bit(i) };
                prop_assert_eq!(fast.bit(i), want, "bit {}", i);
            }
        }
    }
}
