//! Groups (OpenFlow 1.5, 5.10): the table of a switch, and how a select group chooses.
//!
//! A [`Group`] never changes: a group-mod puts a new one in its place, so a translation or a megaflow that
//! still holds the old one credits what it used. [`Switch::apply_group`] yields what it did, so that a bundle
//! can take it back.

use crate::flow_mod::{RemovedReason, RuleEvent};
use crate::refs::Referent;
use crate::rule::{Count, Counters};
use crate::switch::Switch;
use dpif::HashAlg;
use openflow::OfError;
use openflow::msg::group::{Bucket, GroupType, Selection, SelectionMethod, bucket_id, id};
use openflow::msg::group_mod::{GroupMod, GroupModCommand};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Groups of each type that a switch can have.
pub const GROUPS_MAX: u32 = id::MAX;
/// Hash values that a group maps to buckets at most; one whose weights need more chooses in the slow path.
pub const HASH_VALUES_MAX: u64 = 256;
/// Hash values that are mapped at least, so that buckets of equal weight share well.
const HASH_VALUES_MIN: u64 = 16;

/// How a select group chooses its bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chooser {
    /// By the score of each bucket under a hash of addresses and ports.
    Default,
    /// By the score under a hash of the fields of [`Group::selection`].
    Fields,
    /// By the datapath's hash: its low bits stand for positions in `buckets`.
    DpHash { alg: HashAlg, basis: u32, buckets: Box<[u16]> },
}

/// A group.
#[derive(Debug)]
pub struct Group {
    pub id: u32,
    pub kind: GroupType,
    pub selection: Option<Selection>,
    pub buckets: Vec<Bucket>,
    pub created_ms: u64,
    pub chooser: Chooser,
    pub counters: Counters,
    /// One for each bucket.
    pub bucket_counters: Vec<Counters>,
}

impl Group {
    pub fn new(
        id: u32,
        kind: GroupType,
        selection: Option<Selection>,
        buckets: Vec<Bucket>,
        now_ms: u64,
    ) -> Self {
        let chooser = match kind {
            GroupType::Select => Chooser::new(selection.as_ref(), &buckets),
            _ => Chooser::Default,
        };
        let bucket_counters = buckets.iter().map(|_| Counters::new(now_ms)).collect();
        let counters = Counters::new(now_ms);
        Group { id, kind, selection, buckets, created_ms: now_ms, chooser, counters, bucket_counters }
    }

    /// Counts packets that went to one bucket, or to all.
    pub fn credit(&self, bucket: Option<usize>, count: Count, used_ms: u64) {
        self.counters.credit(count, used_ms);
        let buckets = match bucket {
            Some(at) => self.bucket_counters.get(at..=at),
            None => Some(&self.bucket_counters[..]),
        };
        buckets.unwrap_or_default().iter().for_each(|c| c.credit(count, used_ms));
    }

    fn of_mod(gm: &GroupMod, now_ms: u64) -> Result<Self, OfError> {
        if gm.group_id > id::MAX {
            return Err(OfError::OfpgmfcInvalidGroup);
        }
        Ok(Group::new(gm.group_id, gm.group_type, gm.selection.clone(), gm.buckets.clone(), now_ms))
    }

    /// The same group with other buckets.
    fn with_buckets(&self, buckets: Vec<Bucket>, now_ms: u64) -> Self {
        Group::new(self.id, self.kind, self.selection.clone(), buckets, now_ms)
    }

    fn has_bucket(&self, id: u32) -> bool {
        self.buckets.iter().any(|b| b.bucket_id == id)
    }

    /// The buckets with those of `gm` put in where it says.
    fn inserted(&self, gm: &GroupMod) -> Result<Vec<Bucket>, OfError> {
        let at = match gm.command_bucket_id {
            bucket_id::FIRST => 0,
            bucket_id::LAST => self.buckets.len(),
            id => {
                let known = self.buckets.iter().position(|b| b.bucket_id == id);
                known.ok_or(OfError::OfpgmfcUnknownBucket)? + 1
            }
        };
        if gm.buckets.iter().any(|b| self.has_bucket(b.bucket_id)) {
            return Err(OfError::OfpgmfcBucketExists);
        }
        let mut buckets = self.buckets.clone();
        buckets.splice(at..at, gm.buckets.iter().cloned());
        Ok(buckets)
    }

    /// The buckets without those that `gm` names.
    fn without(&self, gm: &GroupMod) -> Result<Vec<Bucket>, OfError> {
        let mut buckets = self.buckets.clone();
        match gm.command_bucket_id {
            bucket_id::ALL => buckets.clear(),
            bucket_id::FIRST => drop(buckets.drain(..1.min(buckets.len()))),
            bucket_id::LAST => drop(buckets.pop()),
            id if !self.has_bucket(id) => return Err(OfError::OfpgmfcUnknownBucket),
            id => buckets.retain(|b| b.bucket_id != id),
        }
        Ok(buckets)
    }
}

impl Chooser {
    fn new(selection: Option<&Selection>, buckets: &[Bucket]) -> Self {
        let (alg, basis) = match selection {
            // Nobody said how: both ends of a connection shall go the same way.
            None => (HashAlg::SymL4, 0),
            Some(Selection { method: SelectionMethod::DpHash, param, .. }) => {
                let alg = if param >> 32 == 1 { HashAlg::SymL4 } else { HashAlg::L4 };
                (alg, *param as u32)
            }
            Some(Selection { method: SelectionMethod::Hash, fields, .. }) if fields.is_empty() => {
                return Chooser::Default;
            }
            Some(_) => return Chooser::Fields,
        };
        match hash_map(buckets) {
            Some(buckets) => Chooser::DpHash { alg, basis, buckets },
            None => Chooser::Default,
        }
    }
}

/// Gives each hash value a bucket, by weight: the values go one after the other to the bucket that is
/// furthest behind its share (Webster's method, as for seats of a parliament). The length is a power of two.
/// `None` if no bucket has weight, or too many values would be needed.
fn hash_map(buckets: &[Bucket]) -> Option<Box<[u16]>> {
    let total: u64 = buckets.iter().map(|b| u64::from(b.weight)).sum();
    let least = buckets.iter().map(|b| u64::from(b.weight)).filter(|w| *w > 0).min()?;
    let values = total.div_ceil(least).next_power_of_two().max(HASH_VALUES_MIN);
    if values > HASH_VALUES_MAX {
        return None;
    }
    let mut divisors = vec![1.0; buckets.len()];
    let mut claims: Vec<f64> = buckets.iter().map(|b| f64::from(b.weight)).collect();
    let seat = |_| {
        // Of equal claims the first one wins.
        let best = (1..claims.len()).fold(0, |best, i| if claims[i] > claims[best] { i } else { best });
        divisors[best] += 2.0;
        claims[best] = f64::from(buckets[best].weight) / divisors[best];
        best as u16
    };
    Some((0..values).map(seat).collect())
}

/// The groups of a switch, in order of their ids.
#[derive(Debug, Default)]
pub struct GroupTable {
    groups: BTreeMap<u32, Arc<Group>>,
    counts: [u32; 4],
}

impl GroupTable {
    pub fn get(&self, id: u32) -> Option<&Arc<Group>> {
        self.groups.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// The group `id`, or all for [`id::ALL`].
    pub fn select(&self, id: u32) -> Vec<Arc<Group>> {
        match id {
            id::ALL => self.groups.values().cloned().collect(),
            id => self.groups.get(&id).into_iter().cloned().collect(),
        }
    }

    fn is_full(&self, kind: GroupType) -> bool {
        self.counts[kind as usize] >= GROUPS_MAX
    }

    /// Puts `new` (or nothing) in the place of what has this id; returns that.
    pub fn put(&mut self, id: u32, new: Option<Arc<Group>>) -> Option<Arc<Group>> {
        if let Some(new) = &new {
            self.counts[new.kind as usize] += 1;
        }
        let old = match new {
            Some(new) => self.groups.insert(id, new),
            None => self.groups.remove(&id),
        };
        if let Some(old) = &old {
            self.counts[old.kind as usize] -= 1;
        }
        old
    }
}

/// What a group-mod did to one group: before and after.
#[derive(Clone, Debug)]
pub struct GroupChange {
    pub id: u32,
    pub old: Option<Arc<Group>>,
    pub new: Option<Arc<Group>>,
}

impl Switch {
    /// Carries out a group-mod; on error nothing has changed. Rules that send to a group that is deleted go
    /// with it. Follow with [`crate::fabric::Fabric::changed`].
    pub fn apply_group(
        &mut self,
        gm: &GroupMod,
        now_ms: u64,
    ) -> Result<(Vec<GroupChange>, Vec<RuleEvent>), OfError> {
        let old = self.groups.get(gm.group_id).cloned();
        let new = match (gm.command, old) {
            (GroupModCommand::Delete, _) => return Ok(self.delete_groups(gm.group_id)),
            (GroupModCommand::Add, Some(_)) => return Err(OfError::OfpgmfcGroupExists),
            (GroupModCommand::Add | GroupModCommand::AddOrModify, None) => {
                if self.groups.is_full(gm.group_type) {
                    return Err(OfError::OfpgmfcOutOfGroups);
                }
                Group::of_mod(gm, now_ms)?
            }
            (_, None) => return Err(OfError::OfpgmfcUnknownGroup),
            (command, Some(old)) => {
                let new = match command {
                    GroupModCommand::InsertBucket => old.with_buckets(old.inserted(gm)?, now_ms),
                    GroupModCommand::RemoveBucket => old.with_buckets(old.without(gm)?, now_ms),
                    _ => Group::of_mod(gm, now_ms)?,
                };
                if old.kind != new.kind && self.groups.is_full(new.kind) {
                    return Err(OfError::OfpgmfcOutOfGroups);
                }
                Group { created_ms: old.created_ms, ..new }
            }
        };
        let new = Arc::new(new);
        let old = self.groups.put(new.id, Some(new.clone()));
        Ok((vec![GroupChange { id: new.id, old, new: Some(new) }], Vec::new()))
    }

    fn delete_groups(&mut self, group_id: u32) -> (Vec<GroupChange>, Vec<RuleEvent>) {
        let mut changes = Vec::new();
        let mut events = Vec::new();
        for group in self.groups.select(group_id) {
            let old = self.groups.put(group.id, None);
            changes.push(GroupChange { id: group.id, old, new: None });
            events.extend(self.remove_users(Referent::Group(group.id), RemovedReason::GroupDelete));
        }
        (changes, events)
    }

    /// Takes back what was done to groups, latest first.
    pub fn undo_groups(&mut self, changes: Vec<GroupChange>) {
        for c in changes.into_iter().rev() {
            self.groups.put(c.id, c.old);
        }
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
