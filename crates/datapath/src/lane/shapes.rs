//! What a lane asks of a shape of packets: how its packets become words, and megaflows what is wanted of the words.

use crate::cpu::Alike;
use flow::{Flow, Mask, Tunnel};

/// A shape of packets, of which the key is `N` words.
pub(crate) trait Shape<const N: usize>: Sized {
    /// A frame's first bytes, as many as a [`Template`] needs.
    type Head: Copy;
    const NO_HEAD: Self::Head;
    /// Masks of frames, made of what counts.
    type Glance;
    type Template<'a>: Template<Head = Self::Head>
    where
        Self: 'a;
    /// Whether megaflows that do more than output are told apart by what they do.
    const HAS_WAYS: bool;

    /// The words of a frame of the shape; `None` for all others.
    fn words(frame: &[u8]) -> Option<[u64; N]>;
    /// TCP flags of a packet, from its words.
    fn flags(words: &[u64; N]) -> u16;
    /// Packets of different kinds have different slots, even if of one megaflow. What is wanted of a kind has it in its
    /// value, too.
    fn kind(words: &[u64; N]) -> u16;
    /// Puts some bits of a packet's hash, or of its mask, into words that have none.
    fn add_hash(words: &mut [u64; N], hash: u16);
    /// A hash of the bits that count.
    fn signature(seed: &[u64; 4], in_port: u32, words: &[u64; N], union: &[u64; N]) -> u64;
    fn glance(union: &[u64; N]) -> Self::Glance;
    /// Of a frame that has words.
    fn template<'a>(frame: &'a [u8], union: &'a Union<Self, N>) -> Self::Template<'a>;
    /// Of what an earlier template was made of.
    fn template_again<'a>(head: &'a Self::Head, union: &'a Union<Self, N>) -> Self::Template<'a>;
    /// `None` if no packet of the shape and this kind that came in by `key.in_port`, out of a tunnel that said so if there
    /// is one, matches. The outer source port does not count among what the tunnel said.
    fn wanted(key: &Flow, mask: &Mask, tunnel: Option<&Tunnel>, kind: u16) -> Option<Wanted<N>>;
}

/// The first packet of a run as its bytes: most of the others are told by a glance at theirs.
pub(crate) trait Template: Copy {
    type Head;
    /// Admits nothing.
    const NONE: Self;
    /// The bytes to make it of again.
    fn head(&self) -> Option<Self::Head>;
    /// The first of `frames` that are of the shape and agree with the template in all that counts, with their TCP flags.
    /// The frame behind them is to be looked at more closely.
    fn admits(&self, frames: &[&[u8]]) -> Alike;
}

/// What a megaflow asks of the words of a packet.
pub(crate) struct Wanted<const N: usize> {
    pub mask: [u64; N],
    pub value: [u64; N],
}

impl<const N: usize> Wanted<N> {
    /// Of a megaflow of packets that go round with `recirc_id` and a hash: `None` if it is for others, or looks at more of the hash
    /// than words have.
    pub fn of_branch<S: Shape<N>>(key: &Flow, mask: &Mask, recirc_id: u32, kind: u16) -> Option<Self> {
        if key.recirc_id & mask.recirc_id != recirc_id & mask.recirc_id {
            return None;
        }
        let hash_mask = u16::try_from(mask.dp_hash).ok()?;
        let (mut key, mut mask) = (key.clone(), mask.clone());
        let hash = key.dp_hash as u16 & hash_mask;
        (key.recirc_id, key.dp_hash, mask.recirc_id, mask.dp_hash) = (0, 0, 0, 0);
        let mut wanted = S::wanted(&key, &mask, None, kind)?;
        S::add_hash(&mut wanted.mask, hash_mask);
        S::add_hash(&mut wanted.value, hash);
        Some(wanted)
    }

    /// `fixed` are the bits of the mask that no word tells, of which all packets of the shape have those of `same`.
    pub fn of(
        key: &Flow,
        mask: &Mask,
        fixed: &Mask,
        same: &Flow,
        words: impl Fn(&Flow) -> [u64; N],
    ) -> Option<Self> {
        let fits =
            key.words().iter().zip(same.words()).zip(fixed.words()).all(|((k, s), m)| (k ^ s) & m == 0);
        let (mask, value) = (words(mask), words(key));
        fits.then(|| Wanted { mask, value: std::array::from_fn(|i| value[i] & mask[i]) })
    }
}

/// What counts of the packets of a port.
pub(crate) struct Union<S: Shape<N>, const N: usize> {
    pub words: [u64; N],
    pub glance: S::Glance,
}

impl<S: Shape<N>, const N: usize> Default for Union<S, N> {
    fn default() -> Self {
        Union::new([0; N])
    }
}

impl<S: Shape<N>, const N: usize> Union<S, N> {
    pub fn new(words: [u64; N]) -> Self {
        Union { words, glance: S::glance(&words) }
    }
}

/// Whether two packets are told apart by the bits of `mask`. (Comparing arrays would call the C library.)
#[inline(always)]
pub(crate) fn differ<const N: usize>(a: &[u64; N], b: &[u64; N], mask: &[u64; N]) -> bool {
    (0..N).fold(0, |d, i| d | ((a[i] ^ b[i]) & mask[i])) != 0
}

/// Both halves of a product.
#[inline(always)]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}
