//! The megaflows of one polling thread: read by the thread without waiting, changed by the control plane.

use crate::key::{Lanes, Seed};
use crate::megaflow::{Megaflow, MegaflowStats, Push, SharedMask};
use dpif::{Actions, DpFlow, DpifError, FlowStats, PutMode, Ufid};
use flow::{Flow, Mask};
use hashbrown::HashMap;
use parking_lot::Mutex;
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

/// Subtables of one input port, the busiest first.
type PortFlows = Snapshot<Vec<Arc<Subtable>>>;

pub(crate) struct FlowTable {
    pub pmd: Option<u32>,
    domain: Arc<Domain>,
    seed: Seed,
    ports: Snapshot<HashMap<u32, Arc<PortFlows>>>,
    registry: Mutex<Registry>,
    /// Shared by all tables of the datapath.
    count: Arc<AtomicUsize>,
    /// Times that megaflows of this table died.
    deaths: AtomicU32,
}

/// What writers need.
struct Registry {
    flows: HashMap<Ufid, Arc<Megaflow>>,
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
    pub key: &'a Flow,
    pub mask: &'a Mask,
    pub actions: Arc<Actions>,
    /// What it starts to count from.
    pub stats: FlowStats,
}

impl FlowTable {
    pub fn new(domain: &Arc<Domain>, pmd: Option<u32>, count: &Arc<AtomicUsize>) -> Arc<Self> {
        let registry = Registry { flows: HashMap::new(), ports: HashMap::new(), reader: domain.reader() };
        Arc::new(FlowTable {
            pmd,
            domain: Arc::clone(domain),
            seed: Seed::get(),
            ports: Snapshot::new(domain, HashMap::new()),
            registry: Mutex::new(registry),
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

    /// Puts in or changes a megaflow; returns the counters of the one that was there.
    pub fn put(&self, mode: PutMode, new: &NewMegaflow<'_>) -> Result<Option<FlowStats>, DpifError> {
        let mut registry = self.registry.lock();
        let old = match registry.flows.get(&new.ufid) {
            Some(old) => Some(Arc::clone(old)),
            None => self.overlapping(&mut registry, new.key),
        };
        let Some(old) = old else {
            if mode == PutMode::Modify {
                return Err(DpifError::NotFound);
            }
            self.add(&mut registry, new, Arc::new(new.key.clone()), Arc::new(new.stats.into()));
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
        self.add(&mut registry, &same_ufid, Arc::clone(&old.key), Arc::clone(&old.stats));
        self.take_out(&mut registry, &old);
        Ok(Some(before))
    }

    /// Some megaflow that matches `key`.
    fn overlapping(&self, registry: &mut Registry, key: &Flow) -> Option<Arc<Megaflow>> {
        let guard = registry.reader.pin();
        let found = self.lookup(&guard, key).0.map(Shared::to_arc);
        registry.reader.offline();
        found
    }

    fn add(&self, registry: &mut Registry, new: &NewMegaflow<'_>, key: Arc<Flow>, stats: Arc<MegaflowStats>) {
        let subtable = self.subtable(registry, key.in_port, new.mask);
        let hash = subtable.mask.lanes.hash(self.seed, &key);
        let flow = Arc::new(Megaflow {
            ufid: new.ufid,
            key,
            mask: Arc::clone(&subtable.mask),
            actions: Arc::clone(&new.actions),
            stats,
            push: Push::of(&new.actions),
            dead: Default::default(),
        });
        registry.flows.insert(new.ufid, Arc::clone(&flow));
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

    /// Removes a megaflow. Its counters are final: no thread adds to them any more.
    pub fn remove(&self, ufid: Ufid) -> Option<FlowStats> {
        let flow = {
            let mut registry = self.registry.lock();
            let flow = registry.flows.remove(&ufid)?;
            self.take_out(&mut registry, &flow);
            self.count.fetch_sub(1, Ordering::Relaxed);
            flow
        };
        self.domain.synchronize();
        Some(flow.stats.get())
    }

    pub fn flush(&self) {
        let mut registry = self.registry.lock();
        let flows = std::mem::take(&mut registry.flows);
        self.count.fetch_sub(flows.len(), Ordering::Relaxed);
        flows.values().for_each(|f| f.dead.store(true, Ordering::Relaxed));
        self.deaths.fetch_add(1, Ordering::Release);
        registry.ports.clear();
        self.publish_ports(&registry);
    }

    pub fn get(&self, ufid: Ufid) -> Option<DpFlow> {
        Some(self.registry.lock().flows.get(&ufid)?.describe(self.pmd))
    }

    pub fn dump(&self) -> Vec<DpFlow> {
        let flows: Vec<_> = self.registry.lock().flows.values().map(Arc::clone).collect();
        flows.iter().map(|f| f.describe(self.pmd)).collect()
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
