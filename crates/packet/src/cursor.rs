//! Reading a header at a time, never past the end.

use flow::{EthAddr, U128};

/// What is left of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `N` bytes, or `None` (and nothing taken) if there are fewer.
    #[inline(always)]
    pub fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(head)
    }

    /// Takes `n` bytes off; `None` (and nothing taken) if there are fewer.
    #[inline(always)]
    pub fn skip(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.get(n..)?;
        Some(())
    }

    /// The next `N` bytes without taking them.
    #[inline(always)]
    pub fn peek<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.0.first_chunk::<N>()
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Big-endian 16 bits at `at` of a header that is long enough (bounds are constant and fold away).
#[inline(always)]
pub(crate) fn be16<const N: usize>(h: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([h[at], h[at + 1]])
}

#[inline(always)]
pub(crate) fn be32<const N: usize>(h: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
}

#[inline(always)]
pub(crate) fn be64<const N: usize>(h: &[u8; N], at: usize) -> u64 {
    (u64::from(be32(h, at)) << 32) | u64::from(be32(h, at + 4))
}

#[inline(always)]
pub(crate) fn be128<const N: usize>(h: &[u8; N], at: usize) -> U128 {
    U128 { hi: be64(h, at), lo: be64(h, at + 8) }
}

#[inline(always)]
pub(crate) fn mac<const N: usize>(h: &[u8; N], at: usize) -> EthAddr {
    EthAddr([h[at], h[at + 1], h[at + 2], h[at + 3], h[at + 4], h[at + 5]])
}
