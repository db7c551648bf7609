//! Frozen translations: what must be remembered to go on with a packet that recirculates, or that a
//! controller holds (`controller(pause)`).
//!
//! States are interned: the same state always has the same id, so that the megaflow of a revalidated
//! translation compares equal to the old one. An id lives as long as a megaflow (or a continuation) refers
//! to it, and [`GRACE_MS`] longer for packets that are under way in the datapath.

use crate::ids::{OfPort, SwitchId};
use flow::{Flow, Tunnel};
use hashbrown::HashMap;
use openflow::action::Action;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

/// How long an id outlives its last reference.
pub const GRACE_MS: u64 = 1_000;
/// Ids in use at a time; beyond it freezing fails and the packet is dropped with a reason.
pub const IDS_MAX: usize = 1 << 20;

/// The fields that the datapath does not carry for us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrozenMetadata {
    pub in_port: u32,
    pub tunnel: Tunnel,
    pub metadata: u64,
    pub regs: [u32; flow::REGS],
}

impl FrozenMetadata {
    pub fn of(flow: &Flow) -> Self {
        FrozenMetadata {
            in_port: flow.in_port,
            tunnel: flow.tunnel.clone(),
            metadata: flow.metadata,
            regs: flow.regs,
        }
    }

    pub fn restore(&self, flow: &mut Flow) {
        flow.in_port = self.in_port;
        flow.tunnel = self.tunnel.clone();
        flow.metadata = self.metadata;
        flow.regs = self.regs;
    }
}

/// Everything that a translation needs to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frozen {
    pub switch: SwitchId,
    /// Where to look up first; ignored if `actions` comes with `resume_table` unset.
    pub table: u8,
    /// The packet's real input port, for the datapath key of what is sent on.
    pub in_port: OfPort,
    pub metadata: FrozenMetadata,
    pub stack: Vec<Vec<u8>>,
    /// Mirrors that have had the packet already, one bit each.
    pub mirrors: u32,
    pub conntracked: bool,
    pub was_mpls: bool,
    /// Actions that remain; when empty, `table` is looked up.
    pub actions: Vec<Action>,
    pub action_set: Vec<Action>,
    /// Cookie and table of the rule whose actions were running.
    pub rule_cookie: u64,
    pub rule_table: u8,
    /// Bytes for the controller (`controller(userdata=...)`).
    pub userdata: Vec<u8>,
}

impl Frozen {
    fn content_hash(&self) -> u64 {
        let mut h = std::hash::DefaultHasher::new();
        (self.switch, self.table, self.in_port, self.metadata.metadata, self.metadata.regs).hash(&mut h);
        (self.rule_cookie, &self.stack, self.actions.len(), self.action_set.len()).hash(&mut h);
        h.finish()
    }
}

/// A frozen state with its id.
#[derive(Debug)]
pub struct RecircNode {
    pub id: u32,
    pub frozen: Frozen,
    hash: u64,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<u32, Weak<RecircNode>>,
    by_content: HashMap<u64, Vec<Weak<RecircNode>>>,
    retired: VecDeque<(u64, Arc<RecircNode>)>,
    last_id: u32,
}

/// All frozen states of a fabric.
#[derive(Debug, Default)]
pub struct RecircTable(Mutex<Inner>);

impl RecircTable {
    /// The state of `id`, if it is in use.
    pub fn get(&self, id: u32) -> Option<Arc<RecircNode>> {
        self.0.lock().by_id.get(&id)?.upgrade()
    }

    /// The node for `frozen`, new or existing. `None` at [`IDS_MAX`].
    pub fn intern(&self, frozen: Frozen) -> Option<Arc<RecircNode>> {
        let mut inner = self.0.lock();
        let hash = frozen.content_hash();
        let known = inner.by_content.get(&hash).into_iter().flatten().filter_map(Weak::upgrade);
        if let Some(node) = known.into_iter().find(|n| n.frozen == frozen) {
            return Some(node);
        }
        if inner.by_id.len() >= IDS_MAX {
            return None;
        }
        let id = inner.free_id();
        let node = Arc::new(RecircNode { id, frozen, hash });
        inner.by_id.insert(id, Arc::downgrade(&node));
        inner.by_content.entry(hash).or_default().push(Arc::downgrade(&node));
        Some(node)
    }

    /// Gives up references; the ids stay valid for [`GRACE_MS`].
    pub fn retire(&self, nodes: Vec<Arc<RecircNode>>, now_ms: u64) {
        if !nodes.is_empty() {
            self.0.lock().retired.extend(nodes.into_iter().map(|n| (now_ms + GRACE_MS, n)));
        }
    }

    /// Frees the ids whose time has come.
    pub fn run(&self, now_ms: u64) {
        let mut inner = self.0.lock();
        while inner.retired.front().is_some_and(|(due, _)| *due <= now_ms) {
            let Some((_, node)) = inner.retired.pop_front() else { break };
            if let Some(last) = Arc::into_inner(node) {
                inner.free(&last);
            }
        }
    }

    /// Ids in use.
    pub fn len(&self) -> usize {
        self.0.lock().by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    /// Ids count up, so that one that was just freed is not used again soon. 0 means "no recirculation".
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.by_id.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn free(&mut self, node: &RecircNode) {
        self.by_id.remove(&node.id);
        if let Some(same) = self.by_content.get_mut(&node.hash) {
            same.retain(|w| w.strong_count() > 0);
            if same.is_empty() {
                self.by_content.remove(&node.hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(table: u8) -> Frozen {
        Frozen {
            switch: SwitchId(1),
            table,
            in_port: OfPort(1),
            metadata: FrozenMetadata::default(),
            stack: vec![],
            mirrors: 0,
            conntracked: false,
            was_mpls: false,
            actions: vec![],
            action_set: vec![],
            rule_cookie: 0,
            rule_table: 0,
            userdata: vec![],
        }
    }

    #[test]
    fn equal_states_share_an_id_until_the_grace_period_ends() {
        let t = RecircTable::default();
        let a = t.intern(frozen(1)).unwrap();
        assert_eq!(t.intern(frozen(1)).unwrap().id, a.id);
        assert_ne!(t.intern(frozen(2)).unwrap().id, a.id);
        let id = a.id;
        t.retire(vec![a], 10);
        t.run(10 + GRACE_MS - 1);
        assert!(t.get(id).is_some());
        t.run(10 + GRACE_MS);
        assert!(t.get(id).is_none());
    }
}
