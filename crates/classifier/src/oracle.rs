//! The same answers from a plain list: slow, short, and what the fast way is tested against.

use crate::Conjunction;
use flow::{Flow, Mask};

/// One rule of the list.
#[derive(Clone, Debug)]
pub struct Rule<R> {
    pub key: Flow,
    pub mask: Mask,
    pub priority: i32,
    pub rule: R,
    pub conjunctions: Vec<Conjunction>,
}

/// A table as a list of rules.
#[derive(Clone, Debug)]
pub struct Linear<R> {
    pub rules: Vec<Rule<R>>,
}

impl<R> Default for Linear<R> {
    fn default() -> Self {
        Linear { rules: Vec::new() }
    }
}

impl<R> Linear<R> {
    pub fn insert(&mut self, new: Rule<R>) -> Option<R> {
        let old = self.remove(&new.key, &new.mask, new.priority);
        self.rules.push(new);
        old
    }

    pub fn remove(&mut self, key: &Flow, mask: &Mask, priority: i32) -> Option<R> {
        let same =
            |r: &Rule<R>| r.priority == priority && r.mask == *mask && mask.apply(&r.key) == mask.apply(key);
        let at = self.rules.iter().position(same)?;
        Some(self.rules.remove(at).rule)
    }

    /// All rules that may be the answer for `flow`: those of the highest priority at which any rule
    /// matches, where a conjunction counts with the priority of its clauses.
    pub fn lookup(&self, flow: &Flow) -> Vec<&Rule<R>> {
        let matching = || self.rules.iter().filter(|r| r.mask.matches(&r.key, flow));
        let mut priorities: Vec<i32> = matching().map(|r| r.priority).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        priorities.dedup();
        for p in priorities {
            let here = || matching().filter(|r| r.priority == p);
            let hard: Vec<_> = here().filter(|r| r.conjunctions.is_empty()).collect();
            if !hard.is_empty() {
                return hard;
            }
            let met = |id: u32, clause: u8| {
                here().any(|r| r.conjunctions.iter().any(|c| c.id == id && c.clause == clause))
            };
            let complete = |c: &Conjunction| (0..c.n_clauses).all(|n| met(c.id, n));
            let ids: Vec<u32> =
                here().flat_map(|r| &r.conjunctions).filter(|c| complete(c)).map(|c| c.id).collect();
            let found: Vec<_> = ids.iter().flat_map(|id| self.lookup_hard(flow, *id)).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn lookup_hard(&self, flow: &Flow, conj_id: u32) -> Vec<&Rule<R>> {
        let flow = Flow { conj_id, ..flow.clone() };
        let matching =
            || self.rules.iter().filter(|r| r.conjunctions.is_empty() && r.mask.matches(&r.key, &flow));
        let top = matching().map(|r| r.priority).max();
        matching().filter(|r| Some(r.priority) == top).collect()
    }

    /// Whether `a` is as narrow as (`key`, `mask`) or narrower.
    pub fn is_loose_match(a: &Rule<R>, key: &Flow, mask: &Mask) -> bool {
        mask.is_subset_of(&a.mask) && mask.matches(&a.key, key)
    }

    pub fn overlaps(&self, key: &Flow, mask: &Mask, priority: i32) -> bool {
        self.rules.iter().any(|r| {
            let both = Mask(r.mask.apply(mask));
            r.priority == priority && both.matches(&r.key, key)
        })
    }
}
