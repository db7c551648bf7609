//! Finding the rule for a packet, and the bits that the answer depends on.

use crate::conjunction::Met;
use crate::lanes::{fold, hash_flow};
use crate::prefix::PREFIX_FIELDS_MAX;
use crate::subtable::{Entry, Slot};
use crate::table::{Classifier, Ranked};
use crate::trie::{Walk, high_bits};
use flow::{Flow, Mask};
use smallvec::SmallVec;

/// Walks of the tries for one packet, each made when it is first needed.
type Walks = [Option<Walk>; PREFIX_FIELDS_MAX];

/// A rule that matches, and those with the same match and lower priority behind it.
type Candidate<'a, R> = (&'a Slot<R>, &'a [Slot<R>]);

impl<R> Classifier<R> {
    /// The rule of highest priority that matches `flow`.
    ///
    /// Adds to `wildcards` the bits of `flow` that were looked at: every packet that agrees with `flow` on
    /// them gets the same answer from the same set of rules. Of several rules of that priority any one may
    /// be found.
    pub fn lookup(&self, flow: &Flow, wildcards: Option<&mut Mask>) -> Option<&R> {
        self.lookup_slot(flow, wildcards).map(|slot| &slot.rule)
    }

    fn lookup_slot(&self, flow: &Flow, mut wildcards: Option<&mut Mask>) -> Option<&Slot<R>> {
        let mut soft = SmallVec::new();
        let wanted = (self.soft_rules > 0).then_some(&mut soft);
        let hard = self.search(flow, wildcards.as_deref_mut(), wanted);
        if soft.is_empty() { hard } else { self.resolve(flow, wildcards, hard, soft) }
    }

    /// The best rule without conjunctions; those with conjunctions go to `soft`, if it is wanted.
    fn search<'a>(
        &'a self,
        flow: &Flow,
        mut wildcards: Option<&mut Mask>,
        mut soft: Option<&mut SmallVec<[Candidate<'a, R>; 16]>>,
    ) -> Option<&'a Slot<R>> {
        let mut walks = Walks::default();
        let mut best: Option<&Slot<R>> = None;
        for (priority, ranked) in self.ranked() {
            if best.is_some_and(|b| b.priority >= priority) {
                break;
            }
            let found = match wildcards.as_deref_mut() {
                Some(wc) => self.find_tracking(ranked, flow, wc, &mut walks),
                None => ranked.subtable.get(flow),
            };
            let slots = found.map_or(&[][..], |e| &e.slots);
            let skip = if soft.is_some() { 0 } else { slots.iter().take_while(|s| s.is_soft()).count() };
            let Some((first, rest)) = slots[skip..].split_first() else { continue };
            if best.is_some_and(|b| b.priority >= first.priority) {
                continue;
            }
            match soft.as_deref_mut() {
                Some(soft) if first.is_soft() => soft.push((first, rest)),
                _ => best = Some(first),
            }
        }
        best
    }

    /// Looks in one subtable, stage by stage, and unwildcards what it took to know.
    fn find_tracking<'a>(
        &'a self,
        ranked: &'a Ranked<R>,
        flow: &Flow,
        wc: &mut Mask,
        walks: &mut Walks,
    ) -> Option<&'a Entry<R>> {
        let subtable = &ranked.subtable;
        let lanes = subtable.lanes.all();
        let mut hash = 0;
        let mut passed = 0;
        for (nth, stage) in subtable.stages().iter().enumerate() {
            if self.prefixes_exclude(ranked, *stage, flow, wc, walks) {
                fold(&lanes[..passed], wc);
                return None;
            }
            let range = subtable.lanes.stage(*stage);
            hash = hash_flow(hash, flow, &lanes[range.clone()]);
            let is_last = nth + 1 == subtable.stages().len();
            if is_last {
                return self.find_last(ranked, flow, hash, passed, wc);
            }
            passed = range.end;
            if !subtable.index_has(nth, hash) {
                fold(&lanes[..passed], wc);
                return None;
            }
        }
        // No stage at all: the subtable of the rules that match everything.
        subtable.find(flow, hash)
    }

    fn find_last<'a>(
        &self,
        ranked: &'a Ranked<R>,
        flow: &Flow,
        hash: u64,
        passed: usize,
        wc: &mut Mask,
    ) -> Option<&'a Entry<R>> {
        let subtable = &ranked.subtable;
        let lanes = subtable.lanes.all();
        let found = subtable.find(flow, hash);
        if found.is_none() && subtable.ports_mask != 0 {
            let bits = subtable.port_bits(flow);
            let decided_by_ports = bits < subtable.ports_len();
            let only_ports = lanes.len() == passed + 1;
            if decided_by_ports || only_ports {
                let mask = (high_bits(bits) >> 96) as u32 & subtable.ports_mask;
                wc.tp_src |= (mask >> 16) as u16;
                wc.tp_dst |= mask as u16;
                fold(&lanes[..passed], wc);
                return None;
            }
        }
        fold(lanes, wc);
        found
    }

    /// Whether a prefix trie tells that no rule of the subtable can match. If so, the bits that tell are
    /// significant afterwards.
    fn prefixes_exclude(
        &self,
        ranked: &Ranked<R>,
        stage: usize,
        flow: &Flow,
        wc: &mut Mask,
        walks: &mut Walks,
    ) -> bool {
        for ((t, len), walk) in self.tries.iter().zip(ranked.prefix_lens).zip(walks) {
            if len == 0 || t.stage != stage || !t.field.applies_to(flow) {
                continue;
            }
            let walk = walk.get_or_insert_with(|| t.trie.walk(t.field.get(flow), t.field.width()));
            if walk.has(len) {
                continue;
            }
            // The trie spans all subtables: what it saw may be more than this one alone would look at.
            if walk.bits_seen <= len {
                t.field.unwildcard(wc, walk.bits_seen);
                return true;
            }
            if t.field.is_unwildcarded(wc, walk.bits_seen) {
                return true;
            }
        }
        false
    }

    /// Decides between the best certain match and the candidates for conjunctive matches.
    fn resolve<'a>(
        &'a self,
        flow: &Flow,
        mut wildcards: Option<&mut Mask>,
        mut hard: Option<&'a Slot<R>>,
        mut soft: SmallVec<[Candidate<'a, R>; 16]>,
    ) -> Option<&'a Slot<R>> {
        loop {
            soft.retain(|s| hard.is_none_or(|h| s.0.priority > h.priority));
            let Some(top) = soft.iter().map(|s| s.0.priority).max() else { return hard };
            let at_top = soft.iter().filter(|s| s.0.priority == top).count();
            let mut met = Met::default();
            for (slot, _) in soft.iter().filter(|s| s.0.priority == top) {
                let conjunctions = slot.conjunctions.as_deref().unwrap_or_default();
                let done = met.add(conjunctions, at_top, |id| {
                    let with_id = Flow { conj_id: id, ..flow.clone() };
                    self.search(&with_id, wildcards.as_deref_mut(), None)
                });
                if done.is_some() {
                    return done;
                }
            }
            // None is complete: what has the same match at a lower priority gets its chance.
            let mut next = SmallVec::new();
            for (slot, rest) in soft {
                if slot.priority < top {
                    next.push((slot, rest));
                } else if let Some((first, rest)) = rest.split_first() {
                    if first.is_soft() {
                        next.push((first, rest));
                    } else if hard.is_none_or(|h| first.priority > h.priority) {
                        hard = Some(first);
                    }
                }
            }
            soft = next;
        }
    }
}
