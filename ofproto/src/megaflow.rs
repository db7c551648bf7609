//! The switch's side of each megaflow: why it is there, and what its packets are owed.

use crate::effects::{Effect, Passed};
use crate::recirc::RecircNode;
use crate::rule::Count;
use dpif::{FlowStats, Ufid};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Which megaflow: its identifier, and the polling thread whose table holds it.
pub type MegaflowId = (Ufid, Option<u32>);

/// A megaflow that we asked the datapath to keep.
#[derive(Debug)]
pub struct Megaflow {
    pub effects: Arc<[Effect]>,
    /// Keeps the frozen states that the actions name.
    pub recircs: Vec<Arc<RecircNode>>,
    /// Counters that have been credited already.
    pub credited: FlowStats,
    pub created_ms: u64,
    /// The fabric's generation that the translation saw.
    pub generation: u64,
    /// The revalidation round in which the datapath last had it.
    pub seen_round: u64,
    /// The datapath has confirmed it, or shown it in a round.
    pub installed: bool,
}

/// Rounds after which a megaflow that the datapath has not shown was never put in.
const ROUNDS_UNSEEN: u64 = 4;

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

    /// Whether the datapath does not have it any more, or never got it, as far as `round` has shown.
    pub fn is_gone(&self, round: u64) -> bool {
        self.seen_round < round && (self.installed || self.seen_round + ROUNDS_UNSEEN < round)
    }

    /// When a packet last passed, or the megaflow was made.
    pub fn used_ms(&self, stats: &FlowStats) -> u64 {
        stats.used_ms.unwrap_or(self.created_ms).max(self.created_ms)
    }
}

const SHARDS: usize = 256;

/// What moves when a part grows is small.
type Shard = HashMap<MegaflowId, Box<Megaflow>>;

/// All megaflows of a fabric. Sharded, because handlers and polling threads add while the revalidator walks.
#[derive(Debug)]
pub struct Megaflows {
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
}

impl Default for Megaflows {
    fn default() -> Self {
        Megaflows { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), len: AtomicUsize::new(0) }
    }
}

/// What became of a megaflow that was to be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    Yes,
    /// There is one with this id already: another packet was faster.
    Known,
    /// Somebody has the lock.
    Busy,
}

impl Megaflows {
    fn shard(&self, id: &MegaflowId) -> &Mutex<Shard> {
        &self.shards[id.0.0 as usize % SHARDS]
    }

    /// Adds a megaflow; `false` if there is one with this id already.
    pub fn add(&self, id: MegaflowId, megaflow: Megaflow) -> bool {
        self.put(&mut self.shard(&id).lock(), id, megaflow)
    }

    /// As [`Megaflows::add`], without waiting for a lock.
    pub fn try_add(&self, id: MegaflowId, megaflow: Megaflow) -> Added {
        let Some(mut shard) = self.shard(&id).try_lock() else { return Added::Busy };
        if self.put(&mut shard, id, megaflow) { Added::Yes } else { Added::Known }
    }

    fn put(&self, shard: &mut Shard, id: MegaflowId, megaflow: Megaflow) -> bool {
        let Entry::Vacant(place) = shard.entry(id) else { return false };
        place.insert(Box::new(megaflow));
        self.len.fetch_add(1, Relaxed);
        true
    }

    pub fn remove(&self, id: &MegaflowId) -> Option<Megaflow> {
        let gone = self.shard(id).lock().remove(id)?;
        self.len.fetch_sub(1, Relaxed);
        Some(*gone)
    }

    pub fn contains(&self, id: &MegaflowId) -> bool {
        self.shard(id).lock().contains_key(id)
    }

    /// Runs `f` on a megaflow, if it is there.
    pub fn with<T>(&self, id: &MegaflowId, f: impl FnOnce(&mut Megaflow) -> T) -> Option<T> {
        self.shard(id).lock().get_mut(id).map(|m| f(m))
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
        self.len.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
