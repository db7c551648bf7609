//! Rules of the switch itself that come before all those of controllers in table 0.
//!
//! In-band control ([`crate::conn::in_band`]) and forwarding without controllers ([`crate::conn::fail_open`]) put
//! them there. Their priorities are beyond the 16 bits that OpenFlow has, so nothing that a controller says can
//! reach them, and they lie in a classifier of their own, so that no message lists, changes or deletes them. They
//! count as other rules do, and `bridge/dump-flows` and `ofproto/trace` show them.

use crate::rule::{Counters, Rule};
use classifier::Classifier;
use flow::{Flow, Mask, Match};
use openflow::action::Action;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Who a rule is made by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Keeps controllers reachable through the switch that they control.
    InBand,
    /// Forwards while no controller answers.
    FailOpen,
}

/// One rule as its owner wants it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub matching: Match,
    /// Above 65,535.
    pub priority: u32,
    pub actions: Vec<Action>,
}

/// One rule in force.
#[derive(Clone, Debug)]
pub struct Override {
    pub owner: Owner,
    /// What [`Rule::priority`] has no room for.
    pub priority: u32,
    pub rule: Arc<Rule>,
}

/// All of them, of one switch.
#[derive(Debug, Default)]
pub struct Overrides {
    rules: Classifier<Override>,
    next_place: u32,
}

fn rank(priority: u32) -> i32 {
    i32::try_from(priority).unwrap_or(i32::MAX)
}

impl Overrides {
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether this owner has any rule.
    pub fn has(&self, owner: Owner) -> bool {
        self.rules.iter().any(|f| f.rule.owner == owner)
    }

    /// The rule for `flow`, a key in the switch's terms; `wc` grows by the bits that were looked at.
    pub fn lookup(&self, flow: &Flow, wc: &mut Mask) -> Option<&Override> {
        if self.rules.is_empty() { None } else { self.rules.lookup(flow, Some(wc)) }
    }

    /// Every rule, highest priority first, those of one priority as they came.
    pub fn all(&self) -> Vec<&Override> {
        let mut all: Vec<_> = self.rules.iter().map(|f| f.rule).collect();
        all.sort_by_key(|o| (Reverse(o.priority), o.rule.place));
        all
    }

    /// Makes the rules of `owner` those of `wanted`; says whether anything changed. A rule that stays keeps its
    /// counters and its age, one whose actions change keeps them too, as a modified flow does. Of two with the
    /// same match and priority the last holds.
    pub fn set(&mut self, owner: Owner, wanted: Vec<Wanted>, now_ms: u64) -> bool {
        let mut changed = false;
        for old in self.all().into_iter().filter(|o| o.owner == owner).cloned().collect::<Vec<_>>() {
            let m = old.rule.matching.expand();
            let is_wanted = |w: &Wanted| {
                w.priority == old.priority && w.matching.flow == m.flow && w.matching.mask == m.mask
            };
            if !wanted.iter().any(is_wanted) {
                self.rules.remove(&m.flow, &m.mask, rank(old.priority));
                changed = true;
            }
        }
        for w in wanted {
            changed |= self.put(owner, w, now_ms);
        }
        changed
    }

    fn put(&mut self, owner: Owner, w: Wanted, now_ms: u64) -> bool {
        let (key, mask, rank) = (&w.matching.flow, &w.matching.mask, rank(w.priority));
        let old = self.rules.find_exact(key, mask, rank).map(|o| o.rule.clone());
        if old.as_ref().is_some_and(|old| *old.actions == w.actions[..]) {
            return false;
        }
        let (created_ms, place, counters) = match old {
            Some(old) => (old.created_ms, old.place, old.counters.clone()),
            None => {
                self.next_place += 1;
                (now_ms, self.next_place, Arc::new(Counters::new(now_ms)))
            }
        };
        let modified_ms = AtomicU64::new(now_ms);
        let rule = Rule::internal(0, &w.matching, u16::MAX, w.actions);
        let rule = Arc::new(Rule { created_ms, modified_ms, place, counters, ..rule });
        self.rules.insert(key, mask, rank, Override { owner, priority: w.priority, rule }, &[]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::OfPort;
    use crate::rule::Count;
    use flow::Field;
    use openflow::action::Output;

    fn normal() -> Vec<Action> {
        vec![Action::Output(Output { port: OfPort::NORMAL, max_len: 0 })]
    }

    fn on_port(port: u16, priority: u32) -> Wanted {
        Wanted { matching: Match::catchall().with(Field::InPort, port), priority, actions: normal() }
    }

    fn priorities(o: &Overrides) -> Vec<u32> {
        o.all().iter().map(|o| o.priority).collect()
    }

    #[test]
    fn each_owner_changes_only_its_own() {
        let mut o = Overrides::default();
        let all = Wanted { matching: Match::catchall(), priority: 900_000, actions: normal() };
        assert!(o.set(Owner::FailOpen, vec![all], 5));
        assert!(o.set(Owner::InBand, vec![on_port(1, 100_000), on_port(2, 100_001)], 5));
        assert_eq!(priorities(&o), [900_000, 100_001, 100_000]);
        assert!(!o.set(Owner::InBand, vec![on_port(1, 100_000), on_port(2, 100_001)], 9), "as before");
        assert!(o.set(Owner::InBand, vec![on_port(2, 100_001)], 9));
        assert_eq!(priorities(&o), [900_000, 100_001]);
        assert!(o.set(Owner::FailOpen, Vec::new(), 9) && !o.has(Owner::FailOpen) && o.has(Owner::InBand));
        assert!(o.set(Owner::InBand, Vec::new(), 9) && o.is_empty());
    }

    #[test]
    fn the_highest_is_found_and_what_was_looked_at_is_said() {
        let mut o = Overrides::default();
        let mut wc = Mask::default();
        assert!(o.lookup(&Flow { in_port: 1, ..Flow::default() }, &mut wc).is_none());
        assert_eq!(wc, Mask::default(), "nothing to look at");
        o.set(Owner::InBand, vec![on_port(1, 100_000)], 0);
        assert!(o.lookup(&Flow { in_port: 2, ..Flow::default() }, &mut wc).is_none());
        assert_eq!(wc.in_port, u32::MAX);
        assert!(o.lookup(&Flow { in_port: 1, ..Flow::default() }, &mut wc).is_some());
    }

    #[test]
    fn other_actions_keep_count_and_age() {
        let mut o = Overrides::default();
        o.set(Owner::InBand, vec![on_port(1, 100_000)], 5);
        o.all()[0].rule.counters.credit(Count { packets: 3, bytes: 300 }, 6);
        assert!(o.set(Owner::InBand, vec![Wanted { actions: Vec::new(), ..on_port(1, 100_000) }], 9));
        let rule = o.all()[0].rule.clone();
        assert!(rule.actions.is_empty());
        assert_eq!((rule.counters.count().packets, rule.created_ms, rule.modified_ms()), (3, 5, 9));
    }
}
