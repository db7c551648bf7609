//! Compact forms of masks and matches, for tables with many of them.
//!
//! Of a mask's 84 words only those are kept that are not zero. A rule on a TCP 5-tuple takes about 150
//! bytes instead of 1,352.

use crate::flow_match::{Match, TlvAlloc};
use crate::hash;
use crate::key::{FLOW_WORDS, Flow, Mask};
use std::ops::Range;

const _: () = assert!(FLOW_WORDS <= 128);

/// Positions of the set bits, lowest first.
fn indices(map: u128) -> impl Iterator<Item = usize> + Clone {
    let mut rest = map;
    std::iter::from_fn(move || {
        let i = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (i < 128).then_some(i)
    })
}

fn nonzero_words(flow: &Flow) -> u128 {
    flow.words().iter().enumerate().filter(|(_, w)| **w != 0).fold(0, |m, (i, _)| m | 1 << i)
}

/// The words `range` of a map.
fn only(map: u128, range: &Range<usize>) -> u128 {
    let below = |n: usize| if n >= 128 { u128::MAX } else { (1 << n) - 1 };
    map & below(range.end) & !below(range.start)
}

/// The nonzero words of a mask.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MiniMask {
    map: u128,
    words: Box<[u64]>,
}

impl From<&Mask> for MiniMask {
    fn from(mask: &Mask) -> MiniMask {
        let map = nonzero_words(mask);
        MiniMask { map, words: indices(map).map(|i| mask.words()[i]).collect() }
    }
}

impl MiniMask {
    /// Word indices (into [`Flow::words`]) and their masks, in order; no mask is zero.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> + Clone {
        indices(self.map).zip(self.words.iter().copied())
    }

    /// Bit `i` is set if word `i` has a mask.
    pub fn map(&self) -> u128 {
        self.map
    }

    pub fn expand(&self) -> Mask {
        let mut mask = Mask::NONE;
        self.add_to(&mut mask);
        mask
    }

    /// Makes the bits matter in `mask` too.
    pub fn add_to(&self, mask: &mut Mask) {
        for (i, m) in self.iter() {
            mask.words_mut()[i] |= m;
        }
    }

    /// As [`MiniMask::add_to`] for the words in `range`.
    pub fn add_range_to(&self, range: Range<usize>, mask: &mut Mask) {
        for (i, m) in self.iter().filter(|(i, _)| range.contains(i)) {
            mask.words_mut()[i] |= m;
        }
    }

    /// The hash of `flow`'s bits under the mask. Equal to [`MiniMatch::hash`] of a match with this mask
    /// and those bits, from the same `basis`.
    pub fn hash_flow(&self, flow: &Flow, basis: u64) -> u64 {
        self.iter().fold(basis, |h, (i, m)| hash::mix(h, flow.words()[i] & m))
    }

    /// As [`MiniMask::hash_flow`] for the words in `range` only: hashing ranges one after the other, each
    /// from the hash of the one before, comes to the hash of all.
    pub fn hash_flow_range(&self, flow: &Flow, range: Range<usize>, basis: u64) -> u64 {
        let skip = only(self.map, &(0..range.start)).count_ones() as usize;
        let words = self.words.get(skip..).unwrap_or_default();
        indices(only(self.map, &range)).zip(words).fold(basis, |h, (i, m)| hash::mix(h, flow.words()[i] & m))
    }

    /// Whether any word in `range` has a mask.
    pub fn has_words_in(&self, range: Range<usize>) -> bool {
        only(self.map, &range) != 0
    }
}

/// A match of which only the words are kept whose mask is not zero.
#[derive(Clone, Default)]
pub struct MiniMatch {
    map: u128,
    /// The values, then as many masks.
    words: Box<[u64]>,
    tlv: Option<Box<TlvAlloc>>,
}

impl From<&Match> for MiniMatch {
    fn from(m: &Match) -> MiniMatch {
        let map = nonzero_words(&m.mask);
        let mut words = Vec::with_capacity(2 * map.count_ones() as usize);
        words.extend(indices(map).map(|i| m.flow.words()[i] & m.mask.words()[i]));
        words.extend(indices(map).map(|i| m.mask.words()[i]));
        MiniMatch { map, words: words.into(), tlv: m.tlv.clone() }
    }
}

impl MiniMatch {
    fn halves(&self) -> (&[u64], &[u64]) {
        self.words.split_at(self.words.len() / 2)
    }

    /// Word indices with values and masks, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64, u64)> + Clone {
        let (values, masks) = self.halves();
        indices(self.map).zip(values.iter().zip(masks)).map(|(i, (v, m))| (i, *v, *m))
    }

    pub fn expand(&self) -> Match {
        let mut out = Match::catchall();
        for (i, v, m) in self.iter() {
            out.flow.words_mut()[i] = v;
            out.mask.words_mut()[i] = m;
        }
        out.tlv.clone_from(&self.tlv);
        out
    }

    pub fn mask(&self) -> MiniMask {
        MiniMask { map: self.map, words: self.halves().1.into() }
    }

    pub fn is_catchall(&self) -> bool {
        self.map == 0
    }

    pub fn matches(&self, flow: &Flow) -> bool {
        self.iter().all(|(i, v, m)| (flow.words()[i] & m) == v)
    }

    /// The hash of the values; the masks do not go in.
    pub fn hash(&self, basis: u64) -> u64 {
        self.halves().0.iter().fold(basis, |h, v| hash::mix(h, *v))
    }

    /// As [`MiniMask::hash_flow_range`] of the values.
    pub fn hash_range(&self, range: Range<usize>, basis: u64) -> u64 {
        self.iter().filter(|(i, ..)| range.contains(i)).fold(basis, |h, (_, v, _)| hash::mix(h, v))
    }

    /// The value of word `i` (0 if it has no mask).
    pub fn value_word(&self, i: usize) -> u64 {
        self.word(i, self.halves().0)
    }

    /// The mask of word `i`.
    pub fn mask_word(&self, i: usize) -> u64 {
        self.word(i, self.halves().1)
    }

    fn word(&self, i: usize, half: &[u64]) -> u64 {
        if i >= 128 || self.map >> i & 1 == 0 {
            return 0;
        }
        half.get(only(self.map, &(0..i)).count_ones() as usize).copied().unwrap_or(0)
    }

    /// Bytes of memory that it takes, itself included.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.words) + self.tlv.as_ref().map_or(0, |_| size_of::<TlvAlloc>())
    }
}

impl PartialEq for MiniMatch {
    fn eq(&self, other: &MiniMatch) -> bool {
        self.map == other.map && self.words == other.words
    }
}

impl Eq for MiniMatch {}

impl std::hash::Hash for MiniMatch {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.map.hash(state);
        self.words.hash(state);
    }
}

impl std::fmt::Debug for MiniMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.expand().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;
    use crate::oxm::tests::any_match;
    use proptest::prelude::*;

    #[test]
    fn a_5_tuple_is_small() {
        let mut m = Match::catchall().with(Field::InPort, 1u16).with(Field::EthType, 0x800u16);
        m.set_default_packet_type();
        m.set(Field::IpProto, 6u8);
        m.set(Field::Ipv4Src, 1u32);
        m.set(Field::Ipv4Dst, 2u32);
        m.set(Field::TcpSrc, 1u16);
        m.set(Field::TcpDst, 2u16);
        m.set(Field::Metadata, 2u64);
        let mini = MiniMatch::from(&m);
        assert!(mini.memory() < 200, "{}", mini.memory());
    }

    proptest! {
        #[test]
        fn same_as_the_whole(m in any_match(), noise: u64, cut in 0..FLOW_WORDS, basis: u64) {
            let mini = MiniMatch::from(&m);
            let mask = mini.mask();
            prop_assert!(mini.expand() == m);
            prop_assert_eq!(&mask, &MiniMask::from(&m.mask));
            prop_assert!(mask.expand() == m.mask);
            prop_assert_eq!(mini.is_catchall(), m.is_catchall());

            // A flow that matches, whatever its other bits are.
            let mut flow = m.flow.clone();
            for (w, x) in flow.words_mut().iter_mut().zip(m.mask.words()) {
                *w |= noise & !x;
            }
            prop_assert!(mini.matches(&flow) && m.matches(&flow));
            prop_assert_eq!(mask.hash_flow(&flow, basis), mini.hash(basis));
            let first = mask.hash_flow_range(&flow, 0..cut, basis);
            prop_assert_eq!(mini.hash_range(0..cut, basis), first);
            prop_assert_eq!(mask.hash_flow_range(&flow, cut..FLOW_WORDS, first), mini.hash(basis));
            prop_assert_eq!(mask.has_words_in(cut..FLOW_WORDS), m.mask.words()[cut..].iter().any(|w| *w != 0));
            for i in 0..FLOW_WORDS {
                prop_assert_eq!(mini.value_word(i), m.flow.words()[i]);
                prop_assert_eq!(mini.mask_word(i), m.mask.words()[i]);
            }
            let mut part = Mask::NONE;
            mask.add_range_to(0..cut, &mut part);
            prop_assert_eq!(&part.words()[..cut], &m.mask.words()[..cut]);
            prop_assert!(part.words()[cut..].iter().all(|w| *w == 0));

            // And one that does not.
            if let Some((i, _, mask)) = mini.iter().last() {
                flow.words_mut()[i] ^= mask & mask.wrapping_neg();
                prop_assert!(!mini.matches(&flow) && !m.matches(&flow));
            }
        }
    }
}
