//! Conjunctive matches: rules that are each one alternative of one clause of a larger match.

/// One `conjunction(id, clause/n_clauses)` action of a rule (ovs-actions(7)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conjunction {
    pub id: u32,
    /// Counts from 0.
    pub clause: u8,
    /// 2 to 64.
    pub n_clauses: u8,
}

/// Which clauses of each conjunction have been met so far.
#[derive(Default)]
pub(crate) struct Met {
    ids: smallvec::SmallVec<[(u32, u64); 16]>,
}

impl Met {
    /// Notes that a rule with `conjunctions` matched, and hands every id that this completed to `done`
    /// until it returns a value. `rules` is the number of rules that could meet a clause: a conjunction
    /// with more clauses cannot be complete.
    pub fn add<T>(
        &mut self,
        conjunctions: &[Conjunction],
        rules: usize,
        mut done: impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        for c in conjunctions {
            if usize::from(c.n_clauses) > rules || c.clause >= 64 {
                continue;
            }
            let at = match self.ids.iter().position(|(id, _)| *id == c.id) {
                Some(at) => at,
                None => {
                    // Clauses that the conjunction does not have count as met.
                    self.ids.push((c.id, u64::MAX.checked_shl(u32::from(c.n_clauses)).unwrap_or(0)));
                    self.ids.len() - 1
                }
            };
            let clauses = &mut self.ids[at].1;
            *clauses |= 1 << c.clause;
            if *clauses == u64::MAX
                && let Some(result) = done(c.id)
            {
                return Some(result);
            }
        }
        None
    }
}
