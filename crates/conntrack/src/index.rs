//! Which slot a hash leads to: buckets of one cache line each, so that a look costs one line and that line can be asked
//! for ahead.
//!
//! An entry stands in the bucket that its hash names or, where that is full, in the next one with room. A bucket counts
//! the entries that had to pass it, so that a search knows where to end, and a removal leaves nothing behind.

/// Entries of a bucket; with the count of those that passed it, a cache line.
const WAYS: usize = 7;
/// Buckets of an index that has any, at least.
const BUCKETS_MIN: usize = 4;
/// How many times larger the next index is.
pub(crate) const GROWTH: usize = 2;
/// Of 16 places, how many are taken when somebody should see to a larger index, and when an insertion does.
const FULL: usize = 9;
const CRAMMED: usize = 13;

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub(crate) struct Bucket {
    /// Hash, and one more than the slot; 0 if it is free.
    spots: [u64; WAYS],
    /// Entries that came here and went further.
    passed: u64,
}

const _: () = assert!(size_of::<Bucket>() == 64);

#[derive(Default)]
#[repr(C)]
pub(crate) struct Index {
    /// None, or as many as a power of two.
    buckets: Vec<Bucket>,
    len: u32,
    /// Copies that were taken.
    copies: u32,
    /// While there is a copy: what has changed since it was taken.
    journal: Option<Box<Journal>>,
}

/// Changes since a copy was taken. Full if it may lack some.
pub(crate) struct Journal(Vec<Change>);

impl Journal {
    /// For less than so many changes. All memory is asked for here.
    pub fn for_less_than(n: usize) -> Box<Self> {
        Box::new(Journal(Vec::with_capacity(n)))
    }

    fn is_full(&self) -> bool {
        self.0.len() == self.0.capacity()
    }
}

/// An entry that came, or went.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    hash: u32,
    slot: u32,
    is_new: bool,
}

fn spot(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(slot.wrapping_add(1))
}

impl Bucket {
    /// The ways with this hash, as bits.
    #[inline(always)]
    fn ways(&self, hash: u32) -> u32 {
        let is = |s: u64| (s >> 32) as u32 == hash && s as u32 != 0;
        (0..WAYS).fold(0, |bits, way| bits | u32::from(is(self.spots[way])) << way)
    }
}

impl Index {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bucket where a search for `hash` begins.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }

    /// Where the buckets are, and the last one's number: for prefetches.
    pub fn place(&self) -> (usize, usize) {
        (self.buckets.as_ptr() as usize, self.buckets.len().saturating_sub(1))
    }

    /// Something of the bucket where a search for `hash` begins.
    pub fn peek(&self, hash: u32) -> u64 {
        self.buckets.get(self.home(hash)).map_or(0, |b| b.passed)
    }

    /// The first slot of this hash that `is_it`.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(at)?;
            let mut ways = bucket.ways(hash);
            while ways != 0 {
                let slot = (bucket.spots[ways.trailing_zeros() as usize % WAYS] as u32).wrapping_sub(1);
                if is_it(slot) {
                    return Some(slot);
                }
                ways &= ways - 1;
            }
            if bucket.passed == 0 {
                return None;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
        None
    }

    /// Buckets that a larger index should have, if this one is rather full.
    pub fn wanted(&self) -> Option<usize> {
        let buckets = self.buckets.len();
        (self.len() * 16 >= buckets * WAYS * FULL).then(|| (buckets * GROWTH).max(BUCKETS_MIN))
    }

    /// Whether this insertion made the index rather full.
    pub fn is_full_now(&self) -> bool {
        self.len() == (self.buckets.len() * WAYS * FULL).div_ceil(16)
    }

    /// Empty buckets for [`Index::grow`].
    pub fn buckets(n: usize) -> Vec<Bucket> {
        vec![Bucket::default(); n.next_power_of_two()]
    }

    /// Copies the buckets into `copy`, and notes in `journal` what changes from now on. Gives the number of the copy; none if
    /// the room for it is of another size.
    pub fn copy(&mut self, copy: &mut [Bucket], journal: Box<Journal>) -> Option<u32> {
        if copy.len() != self.buckets.len() {
            return None;
        }
        copy.copy_from_slice(&self.buckets);
        self.journal = Some(journal);
        self.copies = self.copies.wrapping_add(1);
        Some(self.copies)
    }

    /// An index of so many buckets with the entries of a copy.
    pub fn of_copy(copy: &[Bucket], buckets: usize) -> Index {
        let mut index = Index { buckets: Index::buckets(buckets), ..Index::default() };
        index.put_all(copy);
        index
    }

    /// Lets an index take the place of `self` that was made of this copy, and leaves the old one in `larger`. If too much has
    /// changed since, the index has grown by itself, or a later copy was taken, nothing takes its place.
    pub fn replace_by(&mut self, larger: &mut Index, copy: u32) {
        if copy != self.copies {
            return;
        }
        let Some(journal) = self.journal.take() else { return };
        if journal.is_full() {
            // To be let go of there.
            larger.journal = Some(journal);
            return;
        }
        for Change { hash, slot, is_new } in &journal.0 {
            match is_new {
                true => larger.insert(*hash, *slot),
                false => larger.remove(*hash, *slot),
            }
        }
        larger.copies = self.copies;
        std::mem::swap(self, larger);
        larger.journal = Some(journal);
    }

    fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal
            && !journal.is_full()
        {
            journal.0.push(change);
        }
    }

    fn put_all(&mut self, buckets: &[Bucket]) {
        for spot in buckets.iter().flat_map(|b| b.spots).filter(|spot| *spot != 0) {
            self.put((spot >> 32) as u32, spot);
        }
    }

    /// Moves to new buckets, if they are more than it has. What is not needed any more is handed back.
    pub fn grow(&mut self, buckets: Vec<Bucket>) -> Vec<Bucket> {
        if buckets.len() <= self.buckets.len() {
            return buckets;
        }
        let old = std::mem::replace(&mut self.buckets, buckets);
        self.len = 0;
        self.journal = None;
        self.put_all(&old);
        old
    }

    pub fn insert(&mut self, hash: u32, slot: u32) {
        if (self.len() + 1) * 16 > self.buckets.len() * WAYS * CRAMMED {
            self.grow(Index::buckets((self.buckets.len() * GROWTH).max(BUCKETS_MIN)));
        }
        self.put(hash, spot(hash, slot));
        self.note(Change { hash, slot, is_new: true });
    }

    /// There is room: an index is never full.
    #[inline]
    fn put(&mut self, hash: u32, spot: u64) {
        let (mut at, last) = (self.home(hash), self.buckets.len().saturating_sub(1));
        while let Some(bucket) = self.buckets.get_mut(at) {
            if let Some(free) = bucket.spots.iter_mut().find(|s| **s == 0) {
                *free = spot;
                self.len += 1;
                return;
            }
            bucket.passed += 1;
            at = (at + 1) & last;
        }
    }

    /// Removes the entry of a slot, if it is there.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let (wanted, last) = (spot(hash, slot), self.buckets.len().saturating_sub(1));
        let mut at = self.home(hash);
        let mut way = None;
        let mut passed = 0;
        while let Some(bucket) = self.buckets.get(at).filter(|_| passed <= last) {
            way = bucket.spots.iter().position(|s| *s == wanted);
            if way.is_some() || bucket.passed == 0 {
                break;
            }
            passed += 1;
            at = (at + 1) & last;
        }
        let (Some(way), Some(bucket)) = (way, self.buckets.get_mut(at)) else { return };
        bucket.spots[way] = 0;
        self.len -= 1;
        self.note(Change { hash, slot, is_new: false });
        let home = self.home(hash);
        for n in 0..passed {
            if let Some(bucket) = self.buckets.get_mut((home + n) & last) {
                bucket.passed -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(
            steps in prop::collection::vec((any::<bool>(), 0..40u32, 0..6u32, 0..4u8), 1..400),
            spread in any::<bool>(),
            room in 1..40usize,
        ) {
            let mut index = Index::default();
            let mut set = BTreeSet::new();
            let mut larger: Vec<(Index, u32)> = Vec::new();
            for (is_new, slot, hash, grows) in steps {
                // Hashes of 0, equal ones, and such that begin at the last bucket.
                let hash = if spread { hash.wrapping_mul(0x9e37_79b9) ^ slot } else { [0, 1, 3, 7, 15, u32::MAX][hash as usize] };
                if is_new && set.insert((hash, slot)) {
                    index.insert(hash, slot);
                }
                if !is_new && set.remove(&(hash, slot)) {
                    index.remove(hash, slot);
                }
                if let (1, Some(n)) = (grows, index.wanted()) {
                    index.grow(Index::buckets(n));
                }
                // By copies, while the index goes on changing.
                if grows == 2 && index.buckets.len() < 256 {
                    let mut copy = Index::buckets(index.place().1 + 1);
                    if let Some(n) = index.copy(&mut copy, Journal::for_less_than(room)) {
                        larger.push((Index::of_copy(&copy, 2 * copy.len()), n));
                    }
                }
                if grows == 3 && !larger.is_empty() {
                    let (mut larger, n) = larger.remove(slot as usize % larger.len());
                    index.replace_by(&mut larger, n);
                }
                prop_assert_eq!(index.len(), set.len());
                let mut found = BTreeSet::new();
                for h in set.iter().map(|(h, _)| *h).chain([hash]) {
                    index.find(h, |slot| { found.insert((h, slot)); false });
                }
                prop_assert_eq!(&found, &set);
                let passed: u64 = index.buckets.iter().map(|b| b.passed).sum();
                prop_assert!(!set.is_empty() || passed == 0, "nothing is left behind");
            }
        }
    }

    #[test]
    fn it_asks_for_room_before_it_has_none() {
        let mut index = Index::default();
        let mut asked = 0;
        for slot in 0..1000u32 {
            index.insert(slot.wrapping_mul(0x9e37_79b9), slot);
            asked += u32::from(index.is_full_now());
            assert!(index.len() * 16 <= index.buckets.len() * WAYS * CRAMMED);
        }
        assert!((5..9).contains(&asked), "{asked}");
        assert_eq!(index.find(5u32.wrapping_mul(0x9e37_79b9), |slot| slot == 5), Some(5));
    }
}
