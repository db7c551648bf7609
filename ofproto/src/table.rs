//! One flow table: rules, limits, eviction, and what happens on a miss.

use crate::discard;
use crate::rule::Rule;
use classifier::{Classifier, Conjunction, Found};
use flow::{Flow, Mask};
use hashbrown::HashSet;
use openflow::action::Action;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tables that controllers may use: 0 to 253. Table 254 is the switch's own.
pub const TABLES: usize = 255;
/// The table whose rules the switch makes for itself.
pub const TBL_INTERNAL: u8 = 254;
pub use openflow::msg::table_mod::{TABLE_ALL, TableMiss};

/// Lookups in a table, for its statistics.
#[derive(Debug, Default)]
pub struct TableCounters {
    matched: AtomicU64,
    missed: AtomicU64,
}

impl TableCounters {
    pub fn credit(&self, hit: bool, packets: u64) {
        let which = if hit { &self.matched } else { &self.missed };
        which.fetch_add(packets, Relaxed);
    }
    pub fn matched(&self) -> u64 {
        self.matched.load(Relaxed)
    }
    pub fn looked_up(&self) -> u64 {
        self.matched() + self.missed.load(Relaxed)
    }
}

/// A row of the Flow_Table table, and what table-mods set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSettings {
    pub name: Option<String>,
    pub flow_limit: u32,
    /// Evict rather than refuse at the limit.
    pub evict: bool,
    /// Subfields whose values make eviction groups.
    pub groups: Vec<flow::Subfield>,
    pub prefixes: Vec<classifier::PrefixField>,
}

impl Default for TableSettings {
    fn default() -> Self {
        TableSettings {
            name: None,
            flow_limit: u32::MAX,
            evict: false,
            groups: Vec::new(),
            prefixes: classifier::PrefixField::DEFAULT.to_vec(),
        }
    }
}

/// Vacancy events of a table (OpenFlow 1.4, 7.3.4.1), in percent of free entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vacancy {
    pub enabled: bool,
    pub down_pct: u8,
    pub up_pct: u8,
    /// Whether the next event to send is "vacancy up".
    pub below: bool,
}

#[derive(Debug, Default)]
pub struct Table {
    pub settings: TableSettings,
    pub miss: TableMiss,
    /// `OFPTC14_EVICTION` was set by a controller.
    pub evict_by_controller: bool,
    pub vacancy: Vacancy,
    /// A name that a controller gave; one from the database goes before it.
    pub controller_name: Option<String>,
    pub counters: Arc<TableCounters>,
    rules: Classifier<Arc<Rule>>,
    /// Rules that a timeout can end, by place; kept apart so that expiry need not walk the others.
    expirable: BTreeMap<u32, Arc<Rule>>,
    hidden: usize,
}

/// The `conjunction` actions of a list.
fn conjunctions(actions: &[Action]) -> Vec<Conjunction> {
    let conjunction = |a: &Action| match a {
        Action::Conjunction(c) => Some(Conjunction { id: c.id, clause: c.clause, n_clauses: c.n_clauses }),
        _ => None,
    };
    actions.iter().filter_map(conjunction).collect()
}

/// Puts the rules of each mask in the order of their places.
fn in_order<'a>(found: impl Iterator<Item = Found<'a, Arc<Rule>>>, next: u32) -> Vec<Arc<Rule>> {
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    let (mut start, mut last): (usize, Option<Found<'_, _>>) = (0, None);
    let sort = |rules: &mut [Arc<Rule>]| {
        if rules.len() > 1 {
            rules.sort_by_cached_key(|r| r.place.wrapping_sub(next));
        }
    };
    for f in found {
        if last.is_some_and(|l| !l.shares_mask(&f)) {
            sort(rules.get_mut(start..).unwrap_or_default());
            start = rules.len();
        }
        rules.push(f.rule.clone());
        last = Some(f);
    }
    sort(rules.get_mut(start..).unwrap_or_default());
    rules
}

impl Table {
    /// Number of rules that controllers see.
    pub fn len(&self) -> usize {
        self.rules.len() - self.hidden
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn masks(&self) -> usize {
        self.rules.masks()
    }

    pub fn name(&self) -> Option<&str> {
        self.settings.name.as_deref().or(self.controller_name.as_deref())
    }

    pub fn may_evict(&self) -> bool {
        self.settings.evict || self.evict_by_controller
    }

    /// The best rule for `flow`; `wc` grows by the bits that were looked at.
    pub fn lookup(&self, flow: &Flow, wc: Option<&mut Mask>) -> Option<&Arc<Rule>> {
        self.rules.lookup(flow, wc)
    }

    /// The rule with exactly this match and priority.
    pub fn get(&self, key: &Flow, mask: &Mask, priority: u16) -> Option<&Arc<Rule>> {
        self.rules.find_exact(key, mask, i32::from(priority))
    }

    /// Every rule, in no useful order. [`Table::all`] has them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter().map(|f| f.rule)
    }

    /// Every rule: masks by their highest priority, rules with one mask as they were put in, before a rule
    /// that will be put in at `next`.
    pub fn all(&self, next: u32) -> Vec<Arc<Rule>> {
        in_order(self.rules.iter(), next)
    }

    /// Rules at least as specific as this match: what a loose flow-mod or a statistics request means. In the
    /// order of [`Table::all`].
    pub fn matching_loosely(&self, key: &Flow, mask: &Mask, next: u32) -> Vec<Arc<Rule>> {
        in_order(self.rules.loose_matches(key, mask), next)
    }

    /// Whether a rule of this priority matches some packet that `key`/`mask` matches too.
    pub fn overlaps(&self, key: &Flow, mask: &Mask, priority: u16) -> bool {
        self.rules.overlaps(key, mask, i32::from(priority))
    }

    /// Puts a rule in; returns the one it replaced.
    pub fn insert(&mut self, key: &Flow, mask: &Mask, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        self.hidden += usize::from(rule.is_hidden());
        if rule.has_timeout() {
            self.expirable.insert(rule.place, rule.clone());
        }
        let conjunctions = conjunctions(&rule.actions);
        let old = self.rules.insert(key, mask, i32::from(rule.priority), rule, &conjunctions)?;
        self.forget(&old);
        Some(old)
    }

    /// Takes a rule out by its match.
    pub fn remove(&mut self, rule: &Rule) -> Option<Arc<Rule>> {
        let m = rule.matching.expand();
        let old = self.rules.remove(&m.flow, &m.mask, i32::from(rule.priority))?;
        self.forget(&old);
        Some(old)
    }

    /// Takes out rules that are here. Where more go than stay, the table is filled anew with those that stay.
    pub fn remove_all(&mut self, gone: &[Arc<Rule>]) {
        if gone.len() <= self.rules.len() / 2 {
            for rule in gone {
                self.remove(rule);
            }
            return;
        }
        let mut stay = Vec::new();
        if gone.len() < self.rules.len() {
            let gone: HashSet<*const Rule> = gone.iter().map(Arc::as_ptr).collect();
            stay.extend(
                self.rules.iter().map(|f| f.rule).filter(|r| !gone.contains(&Arc::as_ptr(r))).cloned(),
            );
        }
        discard::later(self.rules.take(), gone.len());
        self.expirable.clear();
        self.hidden = 0;
        for rule in stay {
            let m = rule.matching.expand();
            self.insert(&m.flow, &m.mask, rule);
        }
    }

    fn forget(&mut self, old: &Arc<Rule>) {
        self.hidden -= usize::from(old.is_hidden());
        if self.expirable.get(&old.place).is_some_and(|r| Arc::ptr_eq(r, old)) {
            self.expirable.remove(&old.place);
        }
    }

    /// Rules with a timeout.
    pub fn expirable(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.expirable.values()
    }

    pub fn has_expirable(&self) -> bool {
        !self.expirable.is_empty()
    }

    /// Takes over a Flow_Table row; says whether megaflows may have become narrower than they could be.
    pub fn configure(&mut self, settings: TableSettings) -> bool {
        let changed = self.rules.set_prefix_fields(&settings.prefixes);
        self.settings = settings;
        changed
    }
}
