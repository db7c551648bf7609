//! Looking at rules rather than packets: exact, loose and overlapping matches, and all of them.

use crate::lanes::{Lanes, Values};
use crate::subtable::{Slot, Subtable};
use crate::table::Classifier;
use flow::{Flow, Mask};

/// A rule with its place.
#[derive(Debug)]
pub struct Found<'a, R> {
    pub priority: i32,
    pub rule: &'a R,
    lanes: &'a Lanes,
    values: &'a [u64],
}

impl<R> Clone for Found<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Found<'_, R> {}

impl<R> Found<'_, R> {
    /// The values that the rule matches; zero where its mask is.
    pub fn key(&self) -> Flow {
        self.lanes.flow(self.values)
    }

    pub fn mask(&self) -> Mask {
        self.lanes.mask()
    }

    /// Whether both come from one classifier and have the same mask.
    pub fn shares_mask(&self, other: &Self) -> bool {
        std::ptr::eq(self.lanes, other.lanes)
    }
}

fn slots<R>(subtable: &Subtable<R>) -> impl Iterator<Item = Found<'_, R>> {
    subtable.entries().flat_map(|e| {
        e.slots.iter().map(|s: &Slot<R>| Found {
            priority: s.priority,
            rule: &s.rule,
            lanes: &subtable.lanes,
            values: &e.values,
        })
    })
}

impl<R> Classifier<R> {
    /// The rule with exactly this match and priority.
    pub fn find_exact(&self, key: &Flow, mask: &Mask, priority: i32) -> Option<&R> {
        let entry = self.subtable(&Lanes::new(mask))?.get(key)?;
        entry.slots.iter().find(|s| s.priority == priority).map(|s| &s.rule)
    }

    /// Every rule: subtables by their highest priority, within them in no order.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_, R>> {
        self.ranked().flat_map(|(_, r)| slots(&r.subtable))
    }

    /// The rules that a non-strict OpenFlow delete or modify, or a statistics request, with this match
    /// means: whose match is as narrow or narrower. Priorities do not count. In the order of [`Classifier::iter`].
    pub fn loose_matches(&self, key: &Flow, mask: &Mask) -> impl Iterator<Item = Found<'_, R>> {
        let wanted = Lanes::new(mask);
        let values = wanted.values(key);
        let mask = mask.clone();
        self.ranked().filter(move |(_, r)| mask.is_subset_of(&r.subtable.lanes.mask())).flat_map(
            move |(_, r)| {
                let exact = r.subtable.lanes == wanted;
                let one = if exact { r.subtable.get(&wanted.flow(&values)) } else { None };
                let filter = LooseFilter::new(&wanted, &values, &r.subtable.lanes);
                let direct = one.into_iter().flat_map(move |e| {
                    e.slots.iter().map(move |s| Found {
                        priority: s.priority,
                        rule: &s.rule,
                        lanes: &r.subtable.lanes,
                        values: &e.values,
                    })
                });
                let scanned = (!exact)
                    .then(|| slots(&r.subtable).filter(move |f| filter.agrees(f.values)))
                    .into_iter()
                    .flatten();
                direct.chain(scanned)
            },
        )
    }

    /// Whether some rule of this priority could match a packet that this match matches too.
    pub fn overlaps(&self, key: &Flow, mask: &Mask, priority: i32) -> bool {
        self.ranked().take_while(|(highest, _)| *highest >= priority).any(|(_, r)| {
            let lanes = &r.subtable.lanes;
            let both = Lanes::new(&Mask(lanes.mask().apply(mask)));
            let filter = LooseFilter::new(&both, &both.values(key), lanes);
            slots(&r.subtable).any(|f| f.priority == priority && filter.agrees(f.values))
        })
    }
}

/// Compares some bits of the values of one subtable.
struct LooseFilter {
    /// Index into the subtable's values, bits of it, and what they must be.
    terms: Vec<(usize, u64, u64)>,
}

impl LooseFilter {
    /// `wanted` must be bits that `lanes` has too.
    fn new(wanted: &Lanes, values: &Values, lanes: &Lanes) -> Self {
        let mut terms = Vec::with_capacity(values.len());
        for (w, v) in wanted.all().iter().zip(values) {
            // Lanes are cut at the same stages everywhere, so that one lane holds all the bits.
            let at = lanes.all().iter().position(|l| l.word == w.word && w.mask & !l.mask == 0);
            terms.extend(at.map(|at| (at, w.mask, *v)));
        }
        LooseFilter { terms }
    }

    fn agrees(&self, values: &[u64]) -> bool {
        self.terms.iter().all(|(at, mask, v)| values[*at] & mask == *v)
    }
}
