//! Words of bits to keep and to set, and what they do to checksums.

/// Bits that stay and bits that are set, of `N` times 8 bytes, as they come out of little-endian loads.
#[derive(Clone, Debug)]
pub(super) struct Bits<const N: usize> {
    pub keep: [u64; N],
    pub set: [u64; N],
}

impl<const N: usize> Bits<N> {
    pub const NONE: Self = Bits { keep: [u64::MAX; N], set: [0; N] };
    pub const BYTES: usize = 8 * N;

    /// Sets also what `mask` says of the bytes from `at` on.
    pub fn put(&mut self, at: usize, key: &[u8], mask: &[u8]) {
        for (at, (key, mask)) in (at..).zip(key.iter().zip(mask)) {
            let shift = 8 * (at % 8);
            let (key, mask) = (u64::from(key & mask) << shift, u64::from(*mask) << shift);
            if let (Some(keep), Some(set)) = (self.keep.get_mut(at / 8), self.set.get_mut(at / 8)) {
                *keep &= !mask;
                *set = *set & !mask | key;
            }
        }
    }

    #[inline(always)]
    pub fn load(bytes: &[u8]) -> Option<[u64; N]> {
        let words = bytes.as_chunks().0.first_chunk::<N>()?;
        Some(words.map(u64::from_le_bytes))
    }

    #[inline(always)]
    pub fn applied(&self, old: [u64; N]) -> [u64; N] {
        std::array::from_fn(|i| old[i] & self.keep[i] | self.set[i])
    }

    #[inline(always)]
    pub fn store(bytes: &mut [u8], words: [u64; N]) {
        if let Some(to) = bytes.as_chunks_mut().0.first_chunk_mut::<N>() {
            *to = words.map(u64::to_le_bytes);
        }
    }
}

/// Adds to the sum behind a transport checksum. None stays none in UDP, and is none itself.
#[inline(always)]
pub(super) fn change_sum(sum: &mut [u8; 2], is_udp: bool, by: u64) {
    let old = u16::from_le_bytes(*sum);
    if is_udp && old == 0 {
        return;
    }
    *sum = match updated(old, by) {
        0 if is_udp => [0xff, 0xff],
        new => new.to_le_bytes(),
    };
}

/// The second word of an IPv4 header with another checksum.
#[inline(always)]
pub(super) fn with_sum(second: u64, sum: u16) -> u64 {
    second & !0xffff_0000 | u64::from(sum) << 16
}

/// The lower and upper half of a word.
#[inline(always)]
pub(super) fn halves(word: u64) -> (u64, u64) {
    (word & 0xffff_ffff, word >> 32)
}

/// A sum in ones' complement.
#[inline(always)]
pub(super) fn plus(a: u64, b: u64) -> u64 {
    let (sum, carries) = a.overflowing_add(b);
    sum + u64::from(carries)
}

/// What the lower halves of words add to the sum behind a checksum (RFC 1624): `~m + m'`.
#[inline(always)]
pub(super) fn difference(old: u64, new: u64) -> u64 {
    halves(!old).0 + halves(new).0
}

/// A checksum with a sum of differences added, `HC' = ~(~HC + ~m + m')`. (The order of bytes does not matter to such sums,
/// RFC 1071, 2.)
#[inline(always)]
pub(super) fn updated(sum: u16, by: u64) -> u16 {
    let total = plus(by, (!sum).into());
    // The upper half of such a sum is the sum of both, in ones' complement.
    let total = (total.wrapping_add(total.rotate_left(32)) >> 32) as u32;
    let total = (total.wrapping_add(total.rotate_left(16)) >> 16) as u16;
    !total
}
