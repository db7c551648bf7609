//! A mask in the order in which a lookup looks: by stage, then by word.

use flow::{Flow, Mask, word};
use smallvec::SmallVec;

/// Stages of a lookup: metadata, link, network, transport.
pub(crate) const STAGES: usize = 4;

static STAGE_MASKS: [Mask; STAGES] = stage_masks();

/// Which bits belong to which stage. The layout of [`Flow`] says most of it; a few fields share a word
/// with others of another stage.
const fn stage_masks() -> [Mask; STAGES] {
    let mut meta = Flow::ZERO;
    let mut link = Flow::ZERO;
    let mut network = Flow::ZERO;
    let mut transport = Flow::ZERO;
    // Whole ranges first.
    let mut stage = [[0u64; flow::FLOW_WORDS]; STAGES];
    let mut i = 0;
    while i < flow::FLOW_WORDS {
        let s = if i < word::L2 || i >= word::TUNNEL {
            0
        } else if i < word::L3 {
            1
        } else if i < word::L4 {
            2
        } else {
            3
        };
        stage[s][i] = u64::MAX;
        i += 1;
    }
    overlay(&mut meta, &stage[0]);
    overlay(&mut link, &stage[1]);
    overlay(&mut network, &stage[2]);
    overlay(&mut transport, &stage[3]);
    // The original tuple of a connection counts with the headers it describes.
    meta.ct_tp_src = 0;
    meta.ct_tp_dst = 0;
    meta.ct_nw_src = 0;
    meta.ct_nw_dst = 0;
    meta.ct_ipv6_src = flow::U128::ZERO;
    meta.ct_ipv6_dst = flow::U128::ZERO;
    network.ct_nw_src = u32::MAX;
    network.ct_nw_dst = u32::MAX;
    network.ct_ipv6_src = flow::U128::MAX;
    network.ct_ipv6_dst = flow::U128::MAX;
    transport.ct_tp_src = u16::MAX;
    transport.ct_tp_dst = u16::MAX;
    // TCP flags (and what ICMPv6 keeps in their place) are looked at before the ports.
    transport.tcp_flags = 0;
    transport.nd_options_type = 0;
    network.tcp_flags = u16::MAX;
    network.nd_options_type = u8::MAX;
    network.nd_reserved = 0;
    transport.nd_reserved = u32::MAX;
    [Mask(meta), Mask(link), Mask(network), Mask(transport)]
}

const fn overlay(flow: &mut Flow, words: &[u64; flow::FLOW_WORDS]) {
    *flow = zerocopy::transmute!(*words);
}

/// Some bits of one word of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lane {
    pub word: u8,
    pub mask: u64,
}

/// The significant bits of a mask, one lane per word and stage, and where each stage ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lanes {
    lanes: SmallVec<[Lane; 8]>,
    /// `ends[s]`: number of lanes up to and including stage `s`.
    ends: [u8; STAGES],
}

/// The bits of one key under some [`Lanes`].
pub(crate) type Values = SmallVec<[u64; 16]>;

impl Lanes {
    pub fn new(mask: &Mask) -> Self {
        // Most words are zero; the others are few enough to look at once per stage.
        let words: SmallVec<[(u8, u64); 16]> =
            mask.words().iter().zip(0u8..).filter(|(m, _)| **m != 0).map(|(m, i)| (i, *m)).collect();
        let mut lanes = SmallVec::new();
        let mut ends = [0; STAGES];
        for (stage, end) in STAGE_MASKS.iter().zip(&mut ends) {
            for (word, m) in &words {
                let mask = m & stage.words()[usize::from(*word)];
                if mask != 0 {
                    lanes.push(Lane { word: *word, mask });
                }
            }
            *end = lanes.len() as u8;
        }
        Lanes { lanes, ends }
    }

    pub fn all(&self) -> &[Lane] {
        &self.lanes
    }

    /// The lanes of `stage`, as a range into [`Lanes::all`].
    pub fn stage(&self, stage: usize) -> std::ops::Range<usize> {
        let start = if stage == 0 { 0 } else { self.ends[stage - 1] };
        usize::from(start)..usize::from(self.ends[stage])
    }

    pub fn mask(&self) -> Mask {
        let mut mask = Mask::NONE;
        fold(&self.lanes, &mut mask);
        mask
    }

    pub fn values(&self, flow: &Flow) -> Values {
        self.lanes.iter().map(|l| flow.words()[usize::from(l.word)] & l.mask).collect()
    }

    /// Whether `flow` has `values` under these lanes.
    pub fn matches(&self, flow: &Flow, values: &[u64]) -> bool {
        let words = flow.words();
        self.lanes.iter().zip(values).all(|(l, v)| words[usize::from(l.word)] & l.mask == *v)
    }

    pub fn flow(&self, values: &[u64]) -> Flow {
        let mut flow = Flow::ZERO;
        for (l, v) in self.lanes.iter().zip(values) {
            flow.words_mut()[usize::from(l.word)] |= v;
        }
        flow
    }
}

/// Adds the bits of `lanes` to `mask`.
pub(crate) fn fold(lanes: &[Lane], mask: &mut Mask) {
    let words = mask.words_mut();
    for l in lanes {
        words[usize::from(l.word)] |= l.mask;
    }
}

/// The stage that the lookup examines `mask`'s first bit in.
pub(crate) fn stage_of(mask: &Mask) -> usize {
    let hit = |s: &Mask| s.words().iter().zip(mask.words()).any(|(a, b)| a & b != 0);
    STAGE_MASKS.iter().position(hit).unwrap_or(STAGES - 1)
}

/// Mixes one value into a running hash. Stages continue one another's hash.
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    let h = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 29)
}

pub(crate) fn hash_values(basis: u64, values: &[u64]) -> u64 {
    values.iter().fold(basis, |h, v| mix(h, *v))
}

pub(crate) fn hash_flow(basis: u64, flow: &Flow, lanes: &[Lane]) -> u64 {
    let words = flow.words();
    lanes.iter().fold(basis, |h, l| mix(h, words[usize::from(l.word)] & l.mask))
}
