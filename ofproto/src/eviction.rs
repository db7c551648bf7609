//! Which rule goes when a table is full (`Flow_Table.overflow_policy=evict`, ovs-vswitchd.conf.db(5)).
//!
//! Rules are grouped by the values of the table's eviction fields; the largest group loses the rule of
//! least importance that would expire first. Only rules with a timeout can be evicted.

use crate::rule::Rule;
use crate::table::Table;
use flow::{Subfield, TlvTable};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::sync::Arc;

/// The rule to evict; `None` if no rule may be.
pub fn choose(table: &Table, now_ms: u64) -> Option<Arc<Rule>> {
    let mut groups: HashMap<Vec<u8>, Vec<&Arc<Rule>>> = HashMap::new();
    for rule in table.expirable() {
        groups.entry(group_of(rule, &table.settings.groups)).or_default().push(rule);
    }
    let largest = groups.into_values().max_by_key(Vec::len)?;
    let victim = largest.into_iter().max_by_key(|r| {
        (Reverse(r.importance), Reverse(r.expires_ms().unwrap_or(u64::MAX).saturating_sub(now_ms)))
    })?;
    Some(victim.clone())
}

/// The values of the grouping fields in a rule's match.
fn group_of(rule: &Rule, fields: &[Subfield]) -> Vec<u8> {
    let m = rule.matching.expand();
    let tlv = TlvTable::default();
    fields.iter().flat_map(|f| f.read(&m.flow, &tlv).as_bytes().to_vec()).collect()
}
