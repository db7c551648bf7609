//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), pseudo headers, and SCTP's CRC32c.
//!
//! Sums are ones' complement sums of big-endian 16-bit words, not yet inverted, in a `u32` or `u64` with
//! room for carries. [`finish`] folds and inverts one into what goes on the wire.

use crate::proto::ip_proto;
use crate::{Checksum, Packet};
use flow::U128;

/// Ones' complement sum of `bytes`; an odd last byte counts as the high half of a word.
#[inline]
pub fn sum(bytes: &[u8]) -> u32 {
    // Ones' complement addition does not depend on byte order (RFC 1071, 2.B), so add words as they lie in
    // memory and swap once at the end.
    if bytes.len() > SHORT {
        return sum_long(bytes);
    }
    let (words, rest) = bytes.as_chunks::<8>();
    let all = words.iter().fold(0u128, |all, w| all + u128::from(u64::from_ne_bytes(*w)));
    let (low, carries) = (all as u64, (all >> 64) as u64);
    let (half, rest) = match rest.split_first_chunk::<4>() {
        Some((half, rest)) => (u32::from_ne_bytes(*half), rest),
        None => (0, rest),
    };
    let total = (low & 0xffff_ffff) + (low >> 32) + carries + u64::from(half) + tail(rest);
    u32::from(u16::from_be(fold64(total) as u16))
}

/// Bytes up to which additions with carry are faster than vectors.
const SHORT: usize = 192;

/// No carry between the steps lets the compiler use vector instructions; 64 bits hold the carries of any slice.
fn sum_long(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let total: u64 = words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum();
    u32::from(u16::from_be(fold64(total + tail(rest)) as u16))
}

/// Up to 4 bytes as a word.
#[inline(always)]
fn tail(bytes: &[u8]) -> u64 {
    let mut tail = [0; 4];
    for (t, b) in tail.iter_mut().zip(bytes) {
        *t = *b;
    }
    u64::from(u32::from_ne_bytes(tail))
}

/// Folds the carries of `s` in until 16 bits are left.
#[inline(always)]
fn fold64(s: u64) -> u64 {
    let s = (s & 0xffff_ffff) + (s >> 32);
    let s = (s & 0xffff_ffff) + (s >> 32);
    let s = (s & 0xffff) + (s >> 16);
    (s & 0xffff) + (s >> 16)
}

/// Folds a sum to 16 bits, without inverting it.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    fold64(u64::from(sum)) as u16
}

/// The checksum of a finished sum.
#[inline(always)]
pub fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u16 {
    finish(sum(bytes))
}

/// `checksum` after a covered word changed from `old` to `new` (RFC 1624, equation 3).
#[inline(always)]
pub fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

#[inline(always)]
pub fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    finish(u32::from(!checksum) + sum32(!old) + sum32(new))
}

#[inline(always)]
pub fn update128(checksum: u16, old: U128, new: U128) -> u16 {
    let old = U128 { hi: !old.hi, lo: !old.lo };
    finish(u32::from(!checksum) + sum128(old) + sum128(new))
}

/// `old` and `new` may have any even length, the same for both.
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    finish(u32::from(!checksum) + u32::from(!fold(sum(old))) + sum(new))
}

fn sum32(v: u32) -> u32 {
    (v >> 16) + (v & 0xffff)
}

fn sum64(v: u64) -> u32 {
    sum32((v >> 32) as u32) + sum32(v as u32)
}

fn sum128(v: U128) -> u32 {
    sum64(v.hi) + sum64(v.lo)
}

/// Sum of the pseudo header of IPv4 (RFC 793); `len` is that of the transport header and payload.
pub fn pseudo_v4(src: u32, dst: u32, proto: u8, len: u32) -> u32 {
    sum32(src) + sum32(dst) + u32::from(proto) + sum32(len)
}

/// Sum of the pseudo header of IPv6 (RFC 8200, 8.1).
pub fn pseudo_v6(src: U128, dst: U128, proto: u8, len: u32) -> u32 {
    sum128(src) + sum128(dst) + u32::from(proto) + sum32(len)
}

/// Where a transport protocol keeps its Internet checksum, from the start of its header.
pub fn offset_in_l4(proto: u8) -> Option<usize> {
    match proto {
        ip_proto::TCP => Some(16),
        ip_proto::UDP => Some(6),
        ip_proto::ICMP | ip_proto::IGMP | ip_proto::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Fills in a checksum that the sender left to the device ([`Checksum::Partial`]), and says so in the
/// packet. True if there was none to fill in or it is filled in; false if the request points outside
/// the packet (the packet is then unchanged but for the request being dropped).
pub fn fill_partial(packet: &mut Packet) -> bool {
    let Checksum::Partial { start, offset } = packet.offload.checksum else { return true };
    packet.offload.checksum = Checksum::Unknown;
    let start = usize::from(start);
    // Link-layer padding is not covered, but may be there (a short frame padded by a guest).
    let end = packet.len().saturating_sub(usize::from(packet.l2_pad));
    let field = start + usize::from(offset);
    let Some(covered) = packet.data().get(start..end) else { return false };
    if field + 2 > end {
        return false;
    }
    // Zero means "none" to UDP, and is the same number as 0xffff to every other user of this sum.
    let filled = match finish(sum(covered)) {
        0 => 0xffff,
        c => c,
    };
    packet.data_mut()[field..field + 2].copy_from_slice(&filled.to_be_bytes());
    packet.offload.checksum = Checksum::Good;
    true
}

/// Table `i` advances the CRC of a byte by `i` more zero bytes ("slicing by 8").
const CRC32C: [[u32; 256]; 8] = crc32c_tables();

const fn crc32c_tables() -> [[u32; 256]; 8] {
    let mut t = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            // Castagnoli's polynomial, reflected.
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        t[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            t[k][i] = (t[k - 1][i] >> 8) ^ t[0][(t[k - 1][i] & 0xff) as usize];
            i += 1;
        }
        k += 1;
    }
    t
}

/// Running CRC32c register, for data that is not in one piece. Start with [`Crc32c::new`].
#[derive(Clone, Copy)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32c {
    pub fn new() -> Self {
        Crc32c(u32::MAX)
    }

    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        let mut crc = self.0;
        let mut chunks = bytes.chunks_exact(8);
        for c in &mut chunks {
            let lo = u32::from_le_bytes([c[0], c[1], c[2], c[3]]) ^ crc;
            let [b0, b1, b2, b3] = lo.to_le_bytes();
            let index = [b0, b1, b2, b3, c[4], c[5], c[6], c[7]];
            crc = (0..8).fold(0, |acc, i| acc ^ CRC32C[7 - i][usize::from(index[i])]);
        }
        for b in chunks.remainder() {
            crc = (crc >> 8) ^ CRC32C[0][usize::from(crc as u8 ^ *b)];
        }
        Crc32c(crc)
    }

    pub fn value(self) -> u32 {
        !self.0
    }
}

/// SCTP's checksum (RFC 9260, appendix A) of `bytes`, the checksum field in them zero. On the wire it
/// stands in little-endian order.
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc32c::new().update(bytes).value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow_sum(bytes: &[u8]) -> u16 {
        let mut s = 0u64;
        for c in bytes.chunks(2) {
            s += u64::from(c[0]) << 8 | c.get(1).copied().map_or(0, u64::from);
        }
        while s >> 16 != 0 {
            s = (s & 0xffff) + (s >> 16);
        }
        s as u16
    }

    #[test]
    fn rfc1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn crc32c_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn partial_is_filled_and_bounded() {
        let mut p = Packet::from_slice(&[0xff, 0, 1, 0, 0, 0, 7]);
        p.offload.checksum = Checksum::Partial { start: 1, offset: 2 };
        assert!(fill_partial(&mut p));
        assert_eq!(p.offload.checksum, Checksum::Good);
        assert_eq!(sum(&p.data()[1..]), 0xffff);
        p.offload.checksum = Checksum::Partial { start: 6, offset: 0 };
        assert!(!fill_partial(&mut p));
        p.offload.checksum = Checksum::Partial { start: 600, offset: 0 };
        assert!(!fill_partial(&mut p));
    }

    proptest! {
        #[test]
        fn sum_is_slow_sum(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(sum(&bytes), u32::from(slow_sum(&bytes)));
        }

        #[test]
        fn updates_equal_recomputing(mut bytes in proptest::collection::vec(any::<u8>(), 40), new in any::<u128>()) {
            // A field that is not all zero keeps clear of the two zeros of ones' complement.
            bytes[39] |= 1;
            let before = checksum(&bytes);
            let old = u128::from_be_bytes(bytes[..16].try_into().unwrap());
            let mut after = bytes.clone();
            after[..16].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update128(before, old.into(), new.into()), checksum(&after));
            prop_assert_eq!(update_bytes(before, &bytes[..16], &after[..16]), checksum(&after));
            let mut after = bytes.clone();
            after[..4].copy_from_slice(&(new as u32).to_be_bytes());
            prop_assert_eq!(update32(before, (old >> 96) as u32, new as u32), checksum(&after));
            after = bytes.clone();
            after[..2].copy_from_slice(&(new as u16).to_be_bytes());
            prop_assert_eq!(update16(before, (old >> 112) as u16, new as u16), checksum(&after));
        }

        #[test]
        fn crc_in_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0usize..100) {
            let at = at.min(bytes.len());
            let pieces = Crc32c::new().update(&bytes[..at]).update(&bytes[at..]).value();
            prop_assert_eq!(pieces, crc32c(&bytes));
        }
    }
}
