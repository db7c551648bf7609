//! The rules that look at the same bits.

use crate::conjunction::Conjunction;
use crate::lanes::{Lanes, STAGES, Values, hash_flow, hash_values};
use crate::trie::{Prefix, Trie};
use flow::{Flow, Mask};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// A rule at its place.
#[derive(Debug)]
pub(crate) struct Slot<R> {
    pub priority: i32,
    pub rule: R,
    /// Set if the rule only takes part in conjunctive matches.
    pub conjunctions: Option<Box<[Conjunction]>>,
}

impl<R> Slot<R> {
    pub fn is_soft(&self) -> bool {
        self.conjunctions.is_some()
    }
}

/// All rules with one match, highest priority first; never empty.
#[derive(Debug)]
pub(crate) struct Entry<R> {
    hash: u64,
    pub values: Box<[u64]>,
    pub slots: SmallVec<[Slot<R>; 1]>,
}

/// Counts how many entries have a given hash over the stages so far.
#[derive(Debug, Default)]
struct StageIndex {
    counts: HashTable<(u32, u32)>,
}

impl StageIndex {
    fn add(&mut self, hash: u64) {
        let key = hash as u32;
        let entry = self.counts.entry(spread(key), |c| c.0 == key, |c| spread(c.0));
        entry.or_insert((key, 0)).get_mut().1 += 1;
    }

    fn remove(&mut self, hash: u64) {
        let key = hash as u32;
        if let Ok(mut found) = self.counts.find_entry(spread(key), |c| c.0 == key) {
            found.get_mut().1 -= 1;
            if found.get().1 == 0 {
                found.remove();
            }
        }
    }

    fn contains(&self, hash: u64) -> bool {
        let key = hash as u32;
        self.counts.find(spread(key), |c| c.0 == key).is_some()
    }
}

/// The hash table takes its bucket from the low bits and its tag from the high ones.
fn spread(key: u32) -> u64 {
    u64::from(key) << 32 | u64::from(key)
}

#[derive(Debug)]
pub(crate) struct Subtable<R> {
    pub lanes: Lanes,
    pub max_priority: i32,
    entries: HashTable<Entry<R>>,
    /// Number of rules at each priority.
    priorities: BTreeMap<i32, u32>,
    rules: usize,
    /// The stages that have lanes, in order; the last has no index: it is the table itself.
    stages: SmallVec<[usize; STAGES]>,
    indices: SmallVec<[StageIndex; STAGES]>,
    /// Significant bits of source and destination port, and the rules' values of them.
    pub ports_mask: u32,
    ports: Trie,
}

impl<R> Subtable<R> {
    pub fn new(mask: &Mask) -> Self {
        let lanes = Lanes::new(mask);
        let stages: SmallVec<[usize; STAGES]> = (0..STAGES).filter(|s| !lanes.stage(*s).is_empty()).collect();
        let indices = (1..stages.len()).map(|_| StageIndex::default()).collect();
        Subtable {
            lanes,
            max_priority: i32::MIN,
            entries: HashTable::new(),
            priorities: BTreeMap::new(),
            rules: 0,
            stages,
            indices,
            ports_mask: ports_of(mask),
            ports: Trie::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    pub fn stages(&self) -> &[usize] {
        &self.stages
    }

    /// Whether some rule agrees with the packet on everything up to the `nth` of [`Subtable::stages`],
    /// given the hash of that. May say yes wrongly, never no.
    pub fn index_has(&self, nth: usize, hash: u64) -> bool {
        self.indices.get(nth).is_none_or(|i| i.contains(hash))
    }

    /// How many leading port bits tell `flow` from every rule here.
    pub fn port_bits(&self, flow: &Flow) -> u8 {
        let value = u128::from(ports_of(flow) & self.ports_mask) << 96;
        self.ports.walk(value, 32).bits_seen
    }

    pub fn ports_len(&self) -> u8 {
        32 - self.ports_mask.trailing_zeros() as u8
    }

    fn port_prefix(&self, flow: &Flow) -> Prefix {
        Prefix { bits: u128::from(ports_of(flow) & self.ports_mask) << 96, len: self.ports_len() }
    }

    pub fn find(&self, flow: &Flow, hash: u64) -> Option<&Entry<R>> {
        self.entries.find(hash, |e| self.lanes.matches(flow, &e.values))
    }

    /// The entry with exactly the values of `flow`.
    pub fn get(&self, flow: &Flow) -> Option<&Entry<R>> {
        self.find(flow, hash_flow(0, flow, self.lanes.all()))
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry<R>> {
        self.entries.iter()
    }

    /// Puts a rule in, and returns the one that had its place.
    pub fn insert(&mut self, flow: &Flow, slot: Slot<R>) -> Option<Slot<R>> {
        let priority = slot.priority;
        let values: Values = self.lanes.values(flow);
        let hash = hash_values(0, &values);
        let lanes = &self.lanes;
        if let Some(entry) = self.entries.find_mut(hash, |e| lanes.matches(flow, &e.values)) {
            match entry.slots.binary_search_by(|s| priority.cmp(&s.priority)) {
                Ok(at) => return Some(std::mem::replace(&mut entry.slots[at], slot)),
                Err(at) => entry.slots.insert(at, slot),
            }
        } else {
            let entry = Entry { hash, values: values.into_boxed_slice(), slots: SmallVec::from_buf([slot]) };
            self.index(flow, StageIndex::add);
            self.entries.insert_unique(hash, entry, |e| e.hash);
            if self.ports_mask != 0 {
                self.ports.insert(self.port_prefix(flow));
            }
        }
        *self.priorities.entry(priority).or_default() += 1;
        self.rules += 1;
        self.max_priority = self.max_priority.max(priority);
        None
    }

    pub fn remove(&mut self, flow: &Flow, priority: i32) -> Option<Slot<R>> {
        let hash = hash_flow(0, flow, self.lanes.all());
        let lanes = &self.lanes;
        let mut found = self.entries.find_entry(hash, |e| lanes.matches(flow, &e.values)).ok()?;
        let slots = &mut found.get_mut().slots;
        let at = slots.binary_search_by(|s| priority.cmp(&s.priority)).ok()?;
        let slot = slots.remove(at);
        if slots.is_empty() {
            found.remove();
            self.index(flow, StageIndex::remove);
            if self.ports_mask != 0 {
                self.ports.remove(self.port_prefix(flow));
            }
        }
        self.rules -= 1;
        if let Some(n) = self.priorities.get_mut(&priority) {
            *n -= 1;
            if *n == 0 {
                self.priorities.remove(&priority);
            }
        }
        self.max_priority = self.priorities.last_key_value().map_or(i32::MIN, |(p, _)| *p);
        Some(slot)
    }

    fn index(&mut self, flow: &Flow, change: fn(&mut StageIndex, u64)) {
        let mut hash = 0;
        for (index, stage) in self.indices.iter_mut().zip(&self.stages) {
            hash = hash_flow(hash, flow, &self.lanes.all()[self.lanes.stage(*stage)]);
            change(index, hash);
        }
    }
}

fn ports_of(flow: &Flow) -> u32 {
    u32::from(flow.tp_src) << 16 | u32::from(flow.tp_dst)
}
