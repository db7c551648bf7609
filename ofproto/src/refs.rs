//! Which rules use which groups and meters: they go when those go.

use crate::flow_mod::{RemovedReason, RuleEvent};
use crate::rule::Rule;
use crate::switch::Switch;
use hashbrown::HashMap;
use openflow::action::{self, Action};
use std::sync::Arc;

/// What a rule can depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Referent {
    Group(u32),
    /// The meter that all packets of the rule go through first.
    Meter(u32),
}

/// The rules that use each group and meter.
#[derive(Debug, Default)]
pub struct RuleRefs(HashMap<Referent, HashMap<usize, Use>>);

#[derive(Debug)]
struct Use {
    rule: Arc<Rule>,
    /// How often the rule's actions name the referent.
    times: u32,
}

/// What `rule` depends on, each time that it names it.
fn referents(rule: &Rule) -> impl Iterator<Item = Referent> {
    let meter = action::meter(&rule.actions);
    let group = |a: &Action| if let Action::Group(g) = a { Some(Referent::Group(g.group_id)) } else { None };
    (meter != 0)
        .then_some(Referent::Meter(meter))
        .into_iter()
        .chain(action::flattened(&rule.actions).filter_map(group))
}

fn address(rule: &Arc<Rule>) -> usize {
    Arc::as_ptr(rule) as usize
}

impl RuleRefs {
    /// Follows changes of rules.
    pub fn follow(&mut self, events: &[RuleEvent]) {
        for event in events {
            match event {
                RuleEvent::Added(rule) => self.add(rule),
                RuleEvent::Modified { old, new } => {
                    self.remove(old);
                    self.add(new);
                }
                RuleEvent::Removed { rule, .. } => self.remove(rule),
            }
        }
    }

    fn add(&mut self, rule: &Arc<Rule>) {
        for r in referents(rule) {
            let uses = self.0.entry(r).or_default();
            uses.entry(address(rule)).or_insert_with(|| Use { rule: rule.clone(), times: 0 }).times += 1;
        }
    }

    fn remove(&mut self, rule: &Arc<Rule>) {
        for r in referents(rule) {
            let Some(uses) = self.0.get_mut(&r) else { continue };
            uses.remove(&address(rule));
            if uses.is_empty() {
                self.0.remove(&r);
            }
        }
    }

    /// How often rules name `r`.
    pub fn count(&self, r: Referent) -> u32 {
        self.0.get(&r).map_or(0, |uses| uses.values().map(|u| u.times).sum())
    }

    /// The rules that use `r`, in the order in which they came.
    fn users(&self, r: Referent) -> Vec<Arc<Rule>> {
        let mut rules: Vec<_> = self.0.get(&r).into_iter().flat_map(|u| u.values()).collect();
        rules.sort_by_key(|u| u.rule.place);
        rules.into_iter().map(|u| u.rule.clone()).collect()
    }
}

impl Switch {
    /// Removes all rules that use `r`.
    pub fn remove_users(&mut self, r: Referent, reason: RemovedReason) -> Vec<RuleEvent> {
        let users = self.refs.users(r);
        let mut events = users.iter().filter_map(|rule| self.remove_rule(rule, reason)).collect();
        self.settle(&mut events);
        events
    }
}
