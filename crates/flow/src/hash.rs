//! Hash functions whose values can be seen from outside.
//!
//! Which link `multipath` or `bundle` picks, which bucket a select group or which member a bond: all
//! depend on these, and must be the same as in a Debian `ovs-vswitchd` (MurmurHash3's 32-bit mix, and
//! Bob Jenkins's lookup3). For tables of our own there is [`mix`].

/// One round of MurmurHash3 (x86, 32 bits).
pub fn add(hash: u32, data: u32) -> u32 {
    let k = data.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Low half first.
pub fn add64(hash: u32, data: u64) -> u32 {
    add(add(hash, data as u32), (data >> 32) as u32)
}

/// MurmurHash3's final mix. `len` goes in as the original's length does.
pub fn finish(hash: u32, len: u32) -> u32 {
    let mut h = hash ^ len;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// Addresses, protocol and ports of an IPv4 packet that has ports: [`crate::Flow::hash_5tuple`]. Addresses and both ports
/// as little-endian loads from the packet.
#[inline]
pub fn ipv4_5tuple(src: u32, dst: u32, proto: u8, ports: u32, basis: u32) -> u32 {
    let words = [src, dst, proto.into(), ports];
    finish(words.into_iter().fold(basis, add), FIVE_TUPLE)
}

/// What [`finish`] takes for a length at the end of a hash of addresses, protocol and ports.
pub(crate) const FIVE_TUPLE: u32 = 42;

pub fn two_words(x: u32, y: u32) -> u32 {
    finish(add(add(x, 0), y), 8)
}

pub fn int(x: u32, basis: u32) -> u32 {
    two_words(x, basis)
}

pub fn uint64(x: u64, basis: u32) -> u32 {
    finish(add64(basis, x), 8)
}

pub fn boolean(x: bool, basis: u32) -> u32 {
    (if x { 0xc2b7_3583 } else { 0xe90f_1258 }) ^ basis.rotate_left(1)
}

/// Words are taken from `b` in little-endian order; a rest is padded with zeros.
pub fn bytes(b: &[u8], basis: u32) -> u32 {
    finish(b.chunks(4).fold(basis, |h, c| add(h, le_word(c))), b.len() as u32)
}

/// An Ethernet address and VLAN, as bonds hash them.
pub fn mac(addr: crate::EthAddr, vlan: u16, basis: u32) -> u32 {
    uint64(u64::from(vlan) << 48 | addr.to_u64(), basis)
}

fn le_word(c: &[u8]) -> u32 {
    c.iter().rev().fold(0, |x, b| (x << 8) | u32::from(*b))
}

/// Bob Jenkins's lookup3 over bytes.
pub fn jenkins(data: &[u8], basis: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(data.len() as u32).wrapping_add(basis);
    let mut s = [start; 3];
    let mut blocks = data.chunks_exact(12);
    for block in &mut blocks {
        jenkins_add(&mut s, block);
        jenkins_mix(&mut s);
    }
    if !blocks.remainder().is_empty() {
        jenkins_add(&mut s, blocks.remainder());
        jenkins_final(&mut s);
    }
    s[2]
}

fn jenkins_add(s: &mut [u32; 3], block: &[u8]) {
    for (x, c) in s.iter_mut().zip(block.chunks(4)) {
        *x = x.wrapping_add(le_word(c));
    }
}

fn jenkins_mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: &mut u32, z: u32, rot: u32| {
        // x is mixed with y, then y moves on by z.
        *x = x.wrapping_sub(*y) ^ y.rotate_left(rot);
        *y = y.wrapping_add(z);
    };
    step(a, c, *b, 4);
    step(b, a, *c, 6);
    step(c, b, *a, 8);
    step(a, c, *b, 16);
    step(b, a, *c, 19);
    step(c, b, *a, 4);
}

fn jenkins_final([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: u32, rot: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(rot));
    step(c, *b, 14);
    step(a, *c, 11);
    step(b, *a, 25);
    step(c, *b, 16);
    step(a, *c, 4);
    step(b, *a, 14);
    step(c, *b, 24);
}

/// One round of our own 64-bit hash: fast, for hash tables of which nobody sees the order. Start with a
/// random `hash` where an adversary chooses the data.
#[inline]
pub fn mix(hash: u64, word: u64) -> u64 {
    let m = u128::from(hash ^ word ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x8bb8_4b93_962e_acc9_u64);
    (m as u64 ^ (m >> 64) as u64).wrapping_add(hash.rotate_left(23))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' published vectors: MurmurHash3_x86_32 and lookup3's `hashlittle`.
    #[test]
    fn published_vectors() {
        assert_eq!(finish(0, 0), 0);
        assert_eq!(finish(1, 0), 0x514e_28b7);
        assert_eq!(bytes(&[0; 4], 0), 0x2362_f9de);
        assert_eq!(bytes(b"aaaa", 0x9747_b28c), 0x5a97_808a);
        assert_eq!(jenkins(b"", 0), 0xdead_beef);
        assert_eq!(jenkins(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(jenkins(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    #[test]
    fn mix_spreads_single_bits() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..64 {
            for j in 0..64 {
                assert!(seen.insert((mix(mix(1, 1 << i), 1 << j) >> 20) as u32), "{i} {j}");
            }
        }
    }
}
