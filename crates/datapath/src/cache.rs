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
}

impl FlowCache {
    pub fn new() -> Self {
        FlowCache { entries: vec![Entry::default(); ENTRIES].into_boxed_slice(), hand: 0 }
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

    pub fn insert(&mut self, signature: u64, flow: Arc<Megaflow>) {
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
