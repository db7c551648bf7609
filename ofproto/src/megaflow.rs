//! The switch's side of each megaflow: why it is there, and what its packets are owed.

use crate::effects::{Effect, Passed};
use crate::recirc::RecircNode;
use crate::rule::Count;
use dpif::{Actions, FlowStats, Ufid};
use flow::{Flow, Mask};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;

/// Which megaflow: its identifier, and the polling thread whose table holds it.
pub type MegaflowId = (Ufid, Option<u32>);

/// A megaflow that we asked the datapath to keep.
#[derive(Debug)]
pub struct Megaflow {
    pub key: Arc<Flow>,
    pub mask: Arc<Mask>,
    pub actions: Arc<Actions>,
    pub effects: Vec<Effect>,
    /// Keeps the frozen states that the actions name.
    pub recircs: Vec<Arc<RecircNode>>,
    /// Counters that have been credited already.
    pub credited: FlowStats,
    pub created_ms: u64,
    /// The fabric's generation that the translation saw.
    pub generation: u64,
    /// The revalidation round in which the datapath last had it.
    pub seen_round: u64,
    /// The datapath has confirmed it.
    pub installed: bool,
}

impl Megaflow {
    /// What passed since the last call, given the datapath's totals.
    pub fn take_delta(&mut self, stats: &FlowStats) -> Passed {
        let passed = Passed {
            count: Count {
                packets: stats.packets.saturating_sub(self.credited.packets),
                bytes: stats.bytes.saturating_sub(self.credited.bytes),
            },
            used_ms: stats.used_ms.unwrap_or(0),
            tcp_flags: stats.tcp_flags,
        };
        self.credited = *stats;
        passed
    }

    /// When a packet last passed, or the megaflow was made.
    pub fn used_ms(&self, stats: &FlowStats) -> u64 {
        stats.used_ms.unwrap_or(self.created_ms).max(self.created_ms)
    }
}

const SHARDS: usize = 16;

/// All megaflows of a fabric. Sharded, because handlers add while the revalidator walks.
#[derive(Debug)]
pub struct Megaflows {
    shards: [Mutex<HashMap<MegaflowId, Megaflow>>; SHARDS],
}

impl Default for Megaflows {
    fn default() -> Self {
        Megaflows { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Megaflows {
    fn shard(&self, id: &MegaflowId) -> &Mutex<HashMap<MegaflowId, Megaflow>> {
        &self.shards[id.0.0 as usize % SHARDS]
    }

    /// Adds a megaflow; `false` if there is one with this id already (another packet was faster).
    pub fn add(&self, id: MegaflowId, megaflow: Megaflow) -> bool {
        let mut shard = self.shard(&id).lock();
        if shard.contains_key(&id) {
            return false;
        }
        shard.insert(id, megaflow);
        true
    }

    pub fn remove(&self, id: &MegaflowId) -> Option<Megaflow> {
        self.shard(id).lock().remove(id)
    }

    pub fn contains(&self, id: &MegaflowId) -> bool {
        self.shard(id).lock().contains_key(id)
    }

    /// Runs `f` on a megaflow, if it is there.
    pub fn with<T>(&self, id: &MegaflowId, f: impl FnOnce(&mut Megaflow) -> T) -> Option<T> {
        self.shard(id).lock().get_mut(id).map(f)
    }

    /// Ids of all megaflows for which `pick` holds.
    pub fn select(&self, mut pick: impl FnMut(&Megaflow) -> bool) -> Vec<MegaflowId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            ids.extend(shard.lock().iter().filter(|(_, m)| pick(m)).map(|(id, _)| *id));
        }
        ids
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
