//! The megaflows of one polling thread: read by the thread without waiting, changed by the control plane.

use crate::edit::Edit;
use crate::fan::Fan;
use crate::key::{Lanes, Seed};
use crate::megaflow::{Megaflow, MegaflowStats, Push, SharedMask};
use dpif::{Actions, DpFlow, DpifError, FlowStats, PutMode, Ufid};
use flow::{Flow, Mask};
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use quiescent::{Domain, Guard, Reader, Shared, Snapshot, Table};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Megaflows of one input port with one mask.
pub(crate) struct Subtable {
    mask: Arc<SharedMask>,
    flows: Table<Megaflow>,
    /// Packets found here since the order was last decided.
    hits: AtomicU64,
}

/// Parts of the list of megaflows, each with a lock of its own: whoever walks the list keeps a writer from one of them.
const SHARDS: usize = 256;

/// Megaflows by identifier.
type Shard = HashMap<Ufid, Arc<Megaflow>>;

/// Subtables of one input port, the busiest first.
type PortFlows = Snapshot<Vec<Arc<Subtable>>>;

pub(crate) struct FlowTable {
    pub pmd: Option<u32>,
    domain: Arc<Domain>,
    seed: Seed,
    ports: Snapshot<HashMap<u32, Arc<PortFlows>>>,
    /// Taken first; a lock of `flows` may follow.
    registry: Mutex<Registry>,
    /// Changed under the registry's lock only.
    flows: Box<[Mutex<Shard>]>,
    /// Shared by all tables of the datapath.
    count: Arc<AtomicUsize>,
    /// Times that megaflows of this table died.
    deaths: AtomicU32,
}

/// What writers need.
struct Registry {
    ports: HashMap<u32, WriterPort>,
    reader: Reader,
}

struct WriterPort {
    shared: Arc<PortFlows>,
    subtables: Vec<Arc<Subtable>>,
}

/// A megaflow to put in.
pub(crate) struct NewMegaflow<'a> {
    pub ufid: Ufid,
    pub key: &'a Arc<Flow>,
    pub mask: &'a Mask,
    pub actions: Arc<Actions>,
    /// What it starts to count from.
    pub stats: FlowStats,
}

impl FlowTable {
    pub fn new(domain: &Arc<Domain>, pmd: Option<u32>, count: &Arc<AtomicUsize>) -> Arc<Self> {
        let registry = Registry { ports: HashMap::new(), reader: domain.reader() };
        Arc::new(FlowTable {
            pmd,
            domain: Arc::clone(domain),
            seed: Seed::get(),
            ports: Snapshot::new(domain, HashMap::new()),
            registry: Mutex::new(registry),
            flows: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: Arc::clone(count),
            deaths: AtomicU32::new(0),
        })
    }

    /// A number that changes when a megaflow dies, so that who remembers some need not ask each.
    #[inline]
    pub fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::Acquire)
    }

    /// The megaflow for a packet, and the number of subtables asked.
    #[inline]
    pub fn lookup<'g>(&'g self, guard: &'g Guard<'_>, key: &Flow) -> (Option<Shared<'g, Megaflow>>, usize) {
        let Some(port) = self.ports.load(guard).get(&key.in_port) else { return (None, 0) };
        let subtables = port.load(guard);
        for (n, subtable) in subtables.iter().enumerate() {
            let hash = subtable.mask.lanes.hash(self.seed, key);
            if let Some(flow) = subtable.flows.find(guard, hash, |f| f.matches(key)) {
                subtable.hits.fetch_add(1, Ordering::Relaxed);
                return (Some(flow), n + 1);
            }
        }
        (None, subtables.len())
    }

    fn shard(&self, ufid: Ufid) -> &Mutex<Shard> {
        &self.flows[ufid.0 as usize % SHARDS]
    }

    /// Puts in or changes a megaflow; returns the counters of the one that was there.
    pub fn put(&self, mode: PutMode, new: &NewMegaflow<'_>) -> Result<Option<FlowStats>, DpifError> {
        let mut registry = self.registry.lock();
        self.put_locked(&mut registry, self.shard(new.ufid).lock(), mode, new)
    }

    /// Puts in a megaflow without waiting: [`DpifError::Full`] if somebody has a lock that this needs.
    pub fn try_create(&self, new: &NewMegaflow<'_>) -> Result<(), DpifError> {
        let mut registry = self.registry.try_lock().ok_or(DpifError::Full)?;
        let shard = self.shard(new.ufid).try_lock().ok_or(DpifError::Full)?;
        self.put_locked(&mut registry, shard, PutMode::Create, new).map(|_| ())
    }

    fn put_locked(
        &self,
        registry: &mut Registry,
        mut shard: MutexGuard<'_, Shard>,
        mode: PutMode,
        new: &NewMegaflow<'_>,
    ) -> Result<Option<FlowStats>, DpifError> {
        let old = match shard.get(&new.ufid) {
            Some(old) => Some(Arc::clone(old)),
            None => self.overlapping(registry, new.key),
        };
        let Some(old) = old else {
            if mode == PutMode::Modify {
                return Err(DpifError::NotFound);
            }
            self.add(registry, &mut shard, new, Arc::clone(new.key), Arc::new(new.stats.into()));
            self.count.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        if mode == PutMode::Create {
            return Err(DpifError::Exists);
        }
        if *old.mask.mask != *new.mask || !old.matches(new.key) {
            // Another megaflow than the one meant covers this key.
            return Err(DpifError::Invalid);
        }
        let before = old.stats.get();
        // The new one is there before the old one goes, so that no packet misses.
        let same_ufid =
            NewMegaflow { ufid: old.ufid, ..NewMegaflow { actions: Arc::clone(&new.actions), ..*new } };
        drop(shard);
        let mut shard = self.shard(old.ufid).lock();
        self.add(registry, &mut shard, &same_ufid, Arc::clone(&old.key), Arc::clone(&old.stats));
        drop(shard);
        self.take_out(registry, &old);
        Ok(Some(before))
    }

    /// Some megaflow that matches `key`.
    fn overlapping(&self, registry: &mut Registry, key: &Flow) -> Option<Arc<Megaflow>> {
        let guard = registry.reader.pin();
        let found = self.lookup(&guard, key).0.map(Shared::to_arc);
        registry.reader.offline();
        found
    }

    fn add(
        &self,
        registry: &mut Registry,
        shard: &mut Shard,
        new: &NewMegaflow<'_>,
        key: Arc<Flow>,
        stats: Arc<MegaflowStats>,
    ) {
        let subtable = self.subtable(registry, key.in_port, new.mask);
        let hash = subtable.mask.lanes.hash(self.seed, &key);
        let flow = Arc::new(Megaflow {
            ufid: new.ufid,
            key,
            mask: Arc::clone(&subtable.mask),
            actions: Arc::clone(&new.actions),
            stats,
            push: Push::of(&new.actions),
            edit: Edit::of(&new.actions),
            fan: Fan::of(&new.actions),
            dead: Default::default(),
        });
        shard.insert(new.ufid, Arc::clone(&flow));
        subtable.flows.insert(hash, flow);
    }

    fn subtable(&self, registry: &mut Registry, in_port: u32, mask: &Mask) -> Arc<Subtable> {
        let is_new = !registry.ports.contains_key(&in_port);
        let port = registry.ports.entry(in_port).or_insert_with(|| WriterPort {
            shared: Arc::new(Snapshot::new(&self.domain, Vec::new())),
            subtables: Vec::new(),
        });
        if let Some(s) = port.subtables.iter().find(|s| *s.mask.mask == *mask) {
            return Arc::clone(s);
        }
        let mask = Arc::new(SharedMask { mask: Arc::new(mask.clone()), lanes: Lanes::new(mask) });
        let new = Arc::new(Subtable { mask, flows: Table::new(&self.domain), hits: AtomicU64::new(0) });
        port.subtables.push(Arc::clone(&new));
        port.shared.publish(port.subtables.clone());
        if is_new {
            self.publish_ports(registry);
        }
        new
    }

    fn publish_ports(&self, registry: &Registry) {
        self.ports.publish(registry.ports.iter().map(|(n, p)| (*n, Arc::clone(&p.shared))).collect());
    }

    /// Takes `flow` out of its subtable; the registry may know another by its ufid by now.
    fn take_out(&self, registry: &mut Registry, flow: &Arc<Megaflow>) {
        flow.dead.store(true, Ordering::Relaxed);
        self.deaths.fetch_add(1, Ordering::Release);
        let in_port = flow.key.in_port;
        let Some(port) = registry.ports.get_mut(&in_port) else { return };
        let Some(at) = port.subtables.iter().position(|s| Arc::ptr_eq(&s.mask, &flow.mask)) else { return };
        let subtable = &port.subtables[at];
        let hash = flow.mask.lanes.hash(self.seed, &flow.key);
        subtable.flows.remove(hash, |f| std::ptr::eq(f, &**flow));
        if subtable.flows.is_empty() {
            port.subtables.remove(at);
            port.shared.publish(port.subtables.clone());
            if port.subtables.is_empty() {
                registry.ports.remove(&in_port);
                self.publish_ports(registry);
            }
        }
    }

    /// Removes megaflows. Their counters are final: no thread adds to them any more. `None` where there is none.
    pub fn remove(&self, ufids: &[Ufid]) -> Vec<Option<FlowStats>> {
        let take = |ufid: &Ufid| {
            let mut registry = self.registry.lock();
            let flow = self.shard(*ufid).lock().remove(ufid)?;
            self.take_out(&mut registry, &flow);
            self.count.fetch_sub(1, Ordering::Relaxed);
            Some(flow)
        };
        let gone: Vec<_> = ufids.iter().map(take).collect();
        if gone.iter().any(Option::is_some) {
            self.domain.synchronize();
        }
        gone.into_iter().map(|flow| Some(flow?.stats.get())).collect()
    }

    pub fn flush(&self) {
        let mut registry = self.registry.lock();
        for shard in &self.flows {
            let flows = std::mem::take(&mut *shard.lock());
            self.count.fetch_sub(flows.len(), Ordering::Relaxed);
            flows.values().for_each(|f| f.dead.store(true, Ordering::Relaxed));
        }
        self.deaths.fetch_add(1, Ordering::Release);
        registry.ports.clear();
        self.publish_ports(&registry);
    }

    pub fn get(&self, ufid: Ufid) -> Option<DpFlow> {
        Some(self.shard(ufid).lock().get(&ufid)?.describe(self.pmd))
    }

    pub fn dump(&self) -> Vec<DpFlow> {
        let mut all = Vec::new();
        for shard in &self.flows {
            let flows: Vec<_> = shard.lock().values().map(Arc::clone).collect();
            all.extend(flows.iter().map(|f| f.describe(self.pmd)));
        }
        all
    }

    /// Number of different masks, counted per input port.
    pub fn subtables(&self) -> usize {
        self.registry.lock().ports.values().map(|p| p.subtables.len()).sum()
    }

    /// Puts the subtables that found most packets lately in front.
    pub fn sort_subtables(&self) {
        let mut registry = self.registry.lock();
        for port in registry.ports.values_mut().filter(|p| p.subtables.len() > 1) {
            let order = |s: &Arc<Subtable>| std::cmp::Reverse(s.hits.load(Ordering::Relaxed));
            if !port.subtables.is_sorted_by_key(order) {
                port.subtables.sort_by_cached_key(order);
                port.shared.publish(port.subtables.clone());
            }
            port.subtables.iter().for_each(|s| s.hits.store(0, Ordering::Relaxed));
        }
    }
}
