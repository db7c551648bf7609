//! The classifier and its changes.

use crate::conjunction::Conjunction;
use crate::lanes::Lanes;
use crate::prefix::{PREFIX_FIELDS_MAX, PrefixField};
use crate::subtable::{Slot, Subtable};
use crate::trie::Trie;
use flow::{Flow, Mask};
use hashbrown::HashMap;

/// A subtable with what the classifier's tries know about it.
#[derive(Debug)]
pub(crate) struct Ranked<R> {
    pub subtable: Subtable<R>,
    /// Prefix lengths in the order of the classifier's tries; 0 where the trie does not apply.
    pub prefix_lens: [u8; PREFIX_FIELDS_MAX],
}

#[derive(Debug)]
pub(crate) struct FieldTrie {
    pub field: PrefixField,
    /// The stage that looks at the field.
    pub stage: usize,
    pub trie: Trie,
}

/// Where a subtable stands in the order of the search.
#[derive(Clone, Copy, Debug)]
struct Rank {
    /// The highest priority in the subtable.
    priority: i32,
    id: u32,
}

/// A set of rules, each a match (key and mask) with a priority; unique in both.
///
/// `R` is what the caller knows a rule by, for example an `Arc`.
#[derive(Debug)]
pub struct Classifier<R> {
    /// At the place that [`Rank::id`] says; a removed subtable leaves `None` until its place is used again.
    subtables: Vec<Option<Ranked<R>>>,
    free: Vec<u32>,
    by_mask: HashMap<Lanes, u32>,
    /// Highest priority first.
    order: Vec<Rank>,
    pub(crate) tries: Vec<FieldTrie>,
    /// Rules with conjunctions; while there are none, lookups need not think of them.
    pub(crate) soft_rules: usize,
    rules: usize,
}

impl<R> Default for Classifier<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Classifier<R> {
    /// An empty classifier that tracks prefixes of [`PrefixField::DEFAULT`].
    pub fn new() -> Self {
        let mut new = Classifier {
            subtables: Vec::new(),
            free: Vec::new(),
            by_mask: HashMap::new(),
            order: Vec::new(),
            tries: Vec::new(),
            soft_rules: 0,
            rules: 0,
        };
        new.set_prefix_fields(&PrefixField::DEFAULT);
        new
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules
    }

    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// Number of different masks.
    pub fn masks(&self) -> usize {
        self.order.len()
    }

    pub fn prefix_fields(&self) -> impl Iterator<Item = PrefixField> {
        self.tries.iter().map(|t| t.field)
    }

    /// Chooses the fields to track prefixes of: the first [`PREFIX_FIELDS_MAX`] different ones. Returns
    /// whether that changed anything (flows cached from earlier lookups may then be narrower than needed).
    pub fn set_prefix_fields(&mut self, fields: &[PrefixField]) -> bool {
        let mut wanted = Vec::new();
        for f in fields {
            if !wanted.contains(f) && wanted.len() < PREFIX_FIELDS_MAX {
                wanted.push(*f);
            }
        }
        if wanted.iter().copied().eq(self.prefix_fields()) {
            return false;
        }
        let new = |field: PrefixField| FieldTrie { field, stage: field.stage(), trie: Trie::default() };
        self.tries = wanted.into_iter().map(new).collect();
        for ranked in self.subtables.iter_mut().flatten() {
            ranked.prefix_lens = prefix_lens(&self.tries, &ranked.subtable);
            for entry in ranked.subtable.entries() {
                let flow = ranked.subtable.lanes.flow(&entry.values);
                for (t, len) in self.tries.iter_mut().zip(ranked.prefix_lens).filter(|(_, len)| *len > 0) {
                    entry.slots.iter().for_each(|_| t.trie.insert(t.field.prefix(&flow, len)));
                }
            }
        }
        true
    }

    /// Puts in a rule and returns the one with the same match and priority that it replaced, if any.
    ///
    /// A rule with `conjunctions` never is the result of a lookup itself; it takes part in conjunctive
    /// matches, whose result is the rule that matches on the completed `conj_id`.
    pub fn insert(
        &mut self,
        key: &Flow,
        mask: &Mask,
        priority: i32,
        rule: R,
        conjunctions: &[Conjunction],
    ) -> Option<R> {
        let conjunctions = (!conjunctions.is_empty()).then(|| conjunctions.into());
        self.soft_rules += usize::from(conjunctions.is_some());
        let id = self.subtable_for(mask);
        let ranked = self.subtables.get_mut(id as usize).and_then(Option::as_mut)?;
        let old_priority = ranked.subtable.max_priority;
        if let Some(old) = ranked.subtable.insert(key, Slot { priority, rule, conjunctions }) {
            self.soft_rules -= usize::from(old.is_soft());
            return Some(old.rule);
        }
        let new_priority = ranked.subtable.max_priority;
        self.rules += 1;
        for (t, len) in self.tries.iter_mut().zip(ranked.prefix_lens).filter(|(_, len)| *len > 0) {
            t.trie.insert(t.field.prefix(key, len));
        }
        self.rerank(id, old_priority, new_priority);
        None
    }

    /// Takes out the rule with exactly this match and priority.
    pub fn remove(&mut self, key: &Flow, mask: &Mask, priority: i32) -> Option<R> {
        let lanes = Lanes::new(mask);
        let id = *self.by_mask.get(&lanes)?;
        let ranked = self.subtables.get_mut(id as usize)?.as_mut()?;
        let old_priority = ranked.subtable.max_priority;
        let slot = ranked.subtable.remove(key, priority)?;
        self.rules -= 1;
        self.soft_rules -= usize::from(slot.is_soft());
        for (t, len) in self.tries.iter_mut().zip(ranked.prefix_lens).filter(|(_, len)| *len > 0) {
            t.trie.remove(t.field.prefix(key, len));
        }
        let new_priority = ranked.subtable.max_priority;
        if ranked.subtable.is_empty() {
            self.subtables[id as usize] = None;
            self.free.push(id);
            self.by_mask.remove(&lanes);
            if let Some(at) = self.unrank(id, old_priority) {
                self.close_gap(at);
            }
        } else {
            self.rerank(id, old_priority, new_priority);
        }
        Some(slot.rule)
    }

    /// Takes out every rule at once, in a classifier that the caller may drop when there is time.
    pub fn take(&mut self) -> Self {
        let fields: Vec<_> = self.prefix_fields().collect();
        let mut empty = Classifier::new();
        empty.set_prefix_fields(&fields);
        std::mem::replace(self, empty)
    }

    /// Subtables in the order of the search, with the highest priority in each.
    pub(crate) fn ranked(&self) -> impl Iterator<Item = (i32, &Ranked<R>)> {
        self.order.iter().filter_map(|r| Some((r.priority, self.subtables.get(r.id as usize)?.as_ref()?)))
    }

    pub(crate) fn subtable(&self, lanes: &Lanes) -> Option<&Subtable<R>> {
        let id = *self.by_mask.get(lanes)?;
        Some(&self.subtables.get(id as usize)?.as_ref()?.subtable)
    }

    /// The subtable for `mask`, which may be new and empty.
    fn subtable_for(&mut self, mask: &Mask) -> u32 {
        let lanes = Lanes::new(mask);
        if let Some(id) = self.by_mask.get(&lanes) {
            return *id;
        }
        let subtable = Subtable::new(mask);
        let ranked = Ranked { prefix_lens: prefix_lens(&self.tries, &subtable), subtable };
        let priority = ranked.subtable.max_priority;
        let id = self.free.pop().unwrap_or_else(|| {
            self.subtables.push(None);
            self.subtables.len() as u32 - 1
        });
        self.subtables[id as usize] = Some(ranked);
        self.by_mask.insert(lanes, id);
        self.order.push(Rank { priority, id });
        id
    }

    /// Takes a subtable out of the order; returns where it was.
    fn unrank(&mut self, id: u32, priority: i32) -> Option<usize> {
        let from = self.order.partition_point(|r| r.priority > priority);
        let at = from + self.order[from..].iter().position(|r| r.id == id)?;
        self.order.remove(at);
        Some(at)
    }

    /// The last subtable moves towards a gap as far as priorities let it: dumps show that order, and Open
    /// vSwitch has it.
    fn close_gap(&mut self, at: usize) {
        if at < self.order.len()
            && let Some(last) = self.order.pop()
        {
            let to = self.order.partition_point(|r| r.priority > last.priority).max(at);
            self.order.insert(to, last);
        }
    }

    /// Moves a subtable to where its new priority belongs: past as few others as possible.
    fn rerank(&mut self, id: u32, old: i32, new: i32) {
        if new == old {
            return;
        }
        self.unrank(id, old);
        let at = self.order.partition_point(|r| if new > old { r.priority >= new } else { r.priority > new });
        self.order.insert(at, Rank { priority: new, id });
    }
}

fn prefix_lens<R>(tries: &[FieldTrie], subtable: &Subtable<R>) -> [u8; PREFIX_FIELDS_MAX] {
    let mut lens = [0; PREFIX_FIELDS_MAX];
    let mask = subtable.lanes.mask();
    for (len, t) in lens.iter_mut().zip(tries) {
        *len = t.field.prefix_len(&mask);
    }
    lens
}
