//! The first look: which megaflow did a packet with this signature hit last?
//!
//! An entry is a signature and a megaflow, 16 bytes; whether the megaflow matches is checked against its own
//! mask, so that an entry is never wrong, however few bits the signature has.

use crate::megaflow::Megaflow;
use flow::Flow;
use std::sync::Arc;

/// Entries of one thread's cache.
const ENTRIES: usize = 8192;
/// Entries that a signature may be in.
const WAYS: usize = 2;

#[derive(Clone, Default)]
struct Entry {
    signature: u64,
    flow: Option<Arc<Megaflow>>,
}

pub(crate) struct FlowCache {
    entries: Box<[Entry]>,
    /// Where the next call of [`FlowCache::sweep`] looks.
    hand: usize,
    /// One of so many calls of [`FlowCache::insert`] does it; 0: none.
    one_in: u32,
    /// State of the generator that chooses them (xorshift).
    dice: u32,
}

impl FlowCache {
    pub fn new() -> Self {
        FlowCache {
            entries: vec![Entry::default(); ENTRIES].into_boxed_slice(),
            hand: 0,
            one_in: 1,
            dice: 0x9e37_79b9,
        }
    }

    fn set(&mut self, signature: u64) -> &mut [Entry] {
        let at = (signature as usize % (ENTRIES / WAYS)) * WAYS;
        &mut self.entries[at..at + WAYS]
    }

    #[inline]
    pub fn get(&self, signature: u64, key: &Flow) -> Option<&Arc<Megaflow>> {
        let at = (signature as usize % (ENTRIES / WAYS)) * WAYS;
        self.entries[at..at + WAYS]
            .iter()
            .filter(|e| e.signature == signature)
            .filter_map(|e| e.flow.as_ref())
            .find(|f| !f.is_dead() && f.matches(key))
    }

    /// Lets one of `n` insertions happen; 0: none.
    #[inline]
    pub fn keep_one_in(&mut self, n: u32) {
        self.one_in = n;
    }

    pub fn clear(&mut self) {
        self.entries.fill(Entry::default());
    }

    /// Whether what is found now is to be remembered.
    pub fn is_chosen_now(&mut self) -> bool {
        self.one_in == 1 || (self.one_in != 0 && self.is_chosen())
    }

    fn is_chosen(&mut self) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 17;
        self.dice ^= self.dice << 5;
        self.dice.is_multiple_of(self.one_in)
    }

    /// Remembers, or does not (see [`FlowCache::keep_one_in`]). Borrows so that nothing is counted in vain.
    #[inline]
    pub fn offer(&mut self, signature: u64, flow: impl FnOnce() -> Arc<Megaflow>) {
        if self.is_chosen_now() {
            self.insert(signature, flow());
        }
    }

    fn insert(&mut self, signature: u64, flow: Arc<Megaflow>) {
        let set = self.set(signature);
        let is_free = |e: &Entry| e.signature == signature || e.flow.as_ref().is_none_or(|f| f.is_dead());
        // Of two entries in use, a bit that the set's index does not contain chooses.
        let at = set.iter().position(is_free).unwrap_or((signature >> 63) as usize);
        set[at] = Entry { signature, flow: Some(flow) };
    }

    /// Lets go of dead megaflows in a few entries. A whole round takes `ENTRIES / 16` calls.
    pub fn sweep(&mut self) {
        for _ in 0..16 {
            let entry = &mut self.entries[self.hand];
            if entry.flow.as_ref().is_some_and(|f| f.is_dead()) {
                entry.flow = None;
            }
            self.hand = (self.hand + 1) % ENTRIES;
        }
    }
}
