//! From a signature to a slot: buckets of one cache line.

use crate::cpu::{equal, prefetch};

/// Signatures in a bucket.
const WAYS: usize = 8;
/// Buckets in use at first, and at most; they grow fourfold.
pub(super) const BUCKETS_MIN: usize = 512;
pub(super) const BUCKETS_MAX: usize = 1 << 17;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Tags in the first half, slots and one in the second; a tag of zero is free.
type Bucket = [u32; 2 * WAYS];

pub(super) struct Signatures {
    /// Of these, `used` (a power of two) are in use.
    buckets: Vec<Bucket>,
    pub(super) used: usize,
    /// Signatures that had to go for others of late.
    evicted: usize,
}

/// Never zero.
#[inline(always)]
fn tag(signature: u64) -> u32 {
    (signature >> 32) as u32 | 1
}

/// The ways with this tag, as bits.
#[inline(always)]
fn tagged(bucket: &Bucket, tag: u32) -> u32 {
    bucket.first_chunk::<WAYS>().map_or(0, |tags| equal(tags, tag))
}

#[inline(always)]
fn slot(bucket: &Bucket, way: u32) -> u32 {
    bucket[WAYS + way as usize % WAYS].wrapping_sub(1)
}

impl Signatures {
    pub fn new() -> Self {
        // Zeroed memory that nobody has touched takes none, so that there is room for growth without asking for it.
        Signatures { buckets: vec![[0; 2 * WAYS]; BUCKETS_MAX], used: BUCKETS_MIN, evicted: 0 }
    }

    #[inline(always)]
    fn bucket(&self, signature: u64) -> &Bucket {
        &self.buckets[signature as usize & (self.used - 1) & (BUCKETS_MAX - 1)]
    }

    #[inline(always)]
    pub fn prefetch(&self, signature: u64) {
        prefetch(self.bucket(signature));
    }

    /// The slot that a signature leads to first; [`NONE`] if to none.
    #[inline(always)]
    pub fn first(&self, signature: u64) -> u32 {
        let bucket = self.bucket(signature);
        match tagged(bucket, tag(signature)) {
            0 => NONE,
            ways => slot(bucket, ways.trailing_zeros()),
        }
    }

    /// All slots that a signature leads to.
    pub fn all(&self, signature: u64) -> impl Iterator<Item = u32> + use<> {
        let bucket = *self.bucket(signature);
        let ways = tagged(&bucket, tag(signature));
        (0..WAYS as u32).filter(move |way| ways & (1 << way) != 0).map(move |way| slot(&bucket, way))
    }

    /// Lets a signature lead to a slot.
    pub fn put(&mut self, signature: u64, at: u32) {
        if self.evicted > self.used * WAYS / 4 && self.used < BUCKETS_MAX {
            // What is not found where it is now is put in again soon enough.
            self.evicted = 0;
            self.used = (self.used * 4).min(BUCKETS_MAX);
        }
        let index = signature as usize & (self.used - 1);
        let Some(bucket) = self.buckets.get_mut(index) else { return };
        let tag = tag(signature);
        let way = (0..WAYS).find(|way| bucket[*way] == 0 || bucket[*way] == tag).unwrap_or_else(|| {
            self.evicted += 1;
            (signature >> 29) as usize % WAYS
        });
        (bucket[way], bucket[WAYS + way]) = (tag, at + 1);
    }

    /// Forgets evictions of long ago. Once a millisecond.
    pub fn age(&mut self) {
        self.evicted -= self.evicted.div_ceil(1024);
    }

    pub fn clear(&mut self) {
        self.buckets[..self.used].fill([0; 2 * WAYS]);
    }
}
