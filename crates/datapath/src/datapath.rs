//! The datapath as the daemon sees it: ports and threads.

use crate::balance::{self, Balancer};
use crate::ct::Sweeper;
use crate::drops::{DropCause, PortCounters, PortDrops, PortTotals};
use crate::poll_config::PollConfig;
use crate::port::LocalPort;
use crate::shared::Shared;
use crate::show::Totals;
use crate::thread::{Handle, Rx};
use crate::threads::RxPlace;
use crate::upcall::PortQueue;
use crate::usage::Pace;
use crate::worker::WorkerStats;
use clock::Clock;
use conntrack::Conntrack;
use conntrack::ipf::Fragments;
use dpif::PortNo;
use netdev::{Netdev, NetdevError};
use packet::Packet;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The number, or the name, is taken.
    #[error("File exists")]
    Exists,
    #[error("No such device")]
    NotFound,
    /// No number below [`crate::PORTS_MAX`] is free, or the wanted one is not below it.
    #[error("File too large")]
    NoNumber,
    #[error(transparent)]
    Device(#[from] NetdevError),
}

/// A userspace datapath. Methods may be called from any control-plane thread.
pub struct Datapath {
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Mutex<State>,
    number_by_name: AtomicBool,
    _sweeper: Sweeper,
}

#[derive(Default)]
pub(crate) struct State {
    pub ports: BTreeMap<PortNo, Port>,
    /// The names of their devices.
    names: HashSet<String>,
    /// No number below is free.
    lowest_free: u32,
    pub threads: Vec<Handle>,
    pub config: PollConfig,
    /// Receive queues that no thread can take.
    pub parked: Vec<Rx>,
    /// Counters of polling threads that are gone.
    pub retired: Arc<WorkerStats>,
    /// What counters showed when they were last cleared, and when that was, in milliseconds.
    pub cleared: BTreeMap<Option<u32>, (Totals, u64)>,
    /// Numbers that are kept for ports of these names.
    pub reserved: HashMap<String, PortNo>,
    pace: Pace,
    pub balancer: Balancer,
    /// Cores of the polling threads that the process's other threads know of.
    pub pollers: Vec<u32>,
    handlers: Vec<Handler>,
}

pub(crate) struct Port {
    pub netdev: Arc<dyn Netdev>,
    /// By transmit index; a thread that takes over an index goes on counting.
    pub counters: BTreeMap<usize, Arc<PortCounters>>,
    pub rx: Vec<RxPlace>,
    /// Queues pinned to cores.
    pub affinity: BTreeMap<usize, u32>,
    /// `emc-enable=false`.
    pub emc_off: Arc<AtomicBool>,
    upcalls: Arc<PortQueue>,
}

struct Handler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Numbers that ports can be given.
const NUMBERS: std::ops::Range<u32> = 1..crate::PORTS_MAX as u32;

/// Index of the control context among the users of a port's transmit queues.
pub(crate) const CONTROL_TX: usize = 0;

impl Datapath {
    /// A datapath without ports, with one handler thread. `name` as in `netdev@ovs-netdev`.
    pub fn new(name: &str, clock: Clock) -> Arc<Self> {
        let shared = Shared::new(clock);
        let new = Arc::new(Datapath {
            name: name.to_owned(),
            _sweeper: Sweeper::start(&shared),
            shared,
            state: Mutex::default(),
            number_by_name: AtomicBool::new(false),
        });
        new.start_handlers(1);
        new
    }

    /// Whether a port whose name contains a number gets that number if it is free, and one that begins
    /// with `br` one from 100 on: what tests with dummy ports rely on (`--enable-dummy`).
    pub fn set_number_by_name(&self, on: bool) {
        self.number_by_name.store(on, Ordering::Relaxed);
    }

    /// VLAN tags that keys hold: 1 or 2 (`other_config:vlan-limit`, 0 standing for the maximum).
    pub fn set_vlan_limit(&self, tags: u8) {
        let max = flow::VLANS_MAX as u8;
        let tags = if tags == 0 { max } else { tags.min(max) };
        self.shared.vlan_limit.store(tags, Ordering::Relaxed);
    }

    /// Adds a port, under the number `wanted` if it is free, and starts to receive from it.
    pub fn port_add(&self, netdev: Arc<dyn Netdev>, wanted: Option<PortNo>) -> Result<PortNo, PortError> {
        let mut state = self.state.lock();
        if state.names.contains(netdev.name()) {
            return Err(PortError::Exists);
        }
        let no = match wanted {
            Some(no) if state.ports.contains_key(&no) => return Err(PortError::Exists),
            Some(no) => no,
            None => self.choose_number(&state, netdev.name()).ok_or(PortError::NoNumber)?,
        };
        if no.0 as usize >= crate::PORTS_MAX {
            return Err(PortError::NoNumber);
        }
        let upcalls = self.shared.queues.port();
        state.names.insert(netdev.name().to_owned());
        if no.0 == state.lowest_free.max(NUMBERS.start) {
            state.lowest_free = no.0 + 1;
        }
        let port = Port {
            netdev,
            counters: BTreeMap::new(),
            rx: Vec::new(),
            affinity: BTreeMap::new(),
            emc_off: Arc::default(),
            upcalls,
        };
        state.ports.insert(no, port);
        if let Err(error) = self.open(&mut state, no) {
            self.close(&mut state, no);
            return Err(error);
        }
        coverage::counter::dpif_port_add.inc();
        Ok(no)
    }

    fn choose_number(&self, state: &State, name: &str) -> Option<PortNo> {
        let is_free = |no: &u32| NUMBERS.contains(no) && !state.ports.contains_key(&PortNo(*no));
        let kept = state.reserved.get(name).map(|no| no.0);
        let named = || {
            let by_name = self.number_by_name.load(Ordering::Relaxed);
            if by_name { number_in_name(name) } else { None }
        };
        if let Some(no) = kept.or_else(named).filter(is_free) {
            return Some(PortNo(no));
        }
        let reserved: HashSet<u32> = state.reserved.values().map(|no| no.0).collect();
        let rest = state.lowest_free.max(NUMBERS.start)..NUMBERS.end;
        let unreserved = rest.clone().filter(|no| !reserved.contains(no)).find(is_free);
        unreserved.or_else(|| rest.clone().find(is_free)).map(PortNo)
    }

    /// Opens a port for every thread, and only then receives from it.
    fn open(&self, state: &mut State, no: PortNo) -> Result<(), PortError> {
        let threads: Vec<usize> = state.threads.iter().map(|t| t.tx).collect();
        for tx in threads.into_iter().chain([CONTROL_TX]) {
            self.give_port(state, no, tx)?;
        }
        let Some(port) = state.ports.get_mut(&no) else { return Ok(()) };
        let opened = self.open_rx(no, port)?;
        self.hear_dummy(no, port);
        let is_polled = port.netdev.is_polled();
        state.parked.extend(opened);
        if is_polled || !self.place_port(state, no) {
            self.replan(state);
        }
        Ok(())
    }

    fn hear_dummy(&self, no: PortNo, port: &Port) {
        if let Some(dummy) = port.netdev.as_dummy().filter(|_| !port.netdev.is_polled()) {
            let shared = Arc::downgrade(&self.shared);
            let sink = move |packet: Packet| {
                if let Some(shared) = shared.upgrade() {
                    shared.inject(no.0, [packet]);
                }
            };
            let _ = dummy.set_sink(Some(Arc::new(sink)));
            self.shared.dummies.write().push(Arc::clone(&port.netdev));
        }
    }

    /// Removes a port. Its megaflows stay until the switch removes them.
    pub fn port_del(&self, no: PortNo) -> Result<(), PortError> {
        let mut state = self.state.lock();
        if !state.ports.contains_key(&no) {
            return Err(PortError::NotFound);
        }
        self.close(&mut state, no);
        coverage::counter::dpif_port_del.inc();
        Ok(())
    }

    fn close(&self, state: &mut State, no: PortNo) {
        self.close_rx(state, no);
        self.withdraw_port(state, no);
        let Some(port) = state.ports.remove(&no) else { return };
        state.names.remove(port.netdev.name());
        state.lowest_free = state.lowest_free.min(no.0);
        if let Some(dummy) = port.netdev.as_dummy() {
            self.shared.dummies.write().retain(|d| !Arc::ptr_eq(d, &port.netdev));
            let _ = dummy.set_sink(None);
        }
        let is_polled = port.netdev.is_polled();
        drop(port);
        let is_idle = |t: &Handle| t.kind == crate::thread::Kind::Socket && t.queues == 0;
        if is_polled || state.threads.iter().any(is_idle) {
            self.replan(state);
        }
    }

    /// The device of a port.
    pub fn netdev(&self, no: PortNo) -> Option<Arc<dyn Netdev>> {
        self.state.lock().ports.get(&no).map(|p| Arc::clone(&p.netdev))
    }

    /// The connection tracker.
    pub fn conntrack(&self) -> &Arc<Conntrack> {
        &self.shared.tracking.conntrack
    }

    /// The time that the connection tracker goes by, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    /// Reassembly of fragments.
    pub fn fragments(&self) -> &dyn Fragments {
        &self.shared.tracking.ipf
    }

    /// Processes a packet as if it had just come in at `port`, with everything that follows from it,
    /// before it returns.
    pub fn inject(&self, port: PortNo, packet: Packet) {
        self.shared.inject(port.0, [packet]);
    }

    /// Work that is due about once a second: tables look first where most was found lately, and what
    /// [`Datapath::pmd_rxq_show`] says moves on.
    pub fn tune(&self) {
        let tables = self.shared.tables.read().clone();
        tables.iter().for_each(|t| t.sort_subtables());
        self.shared.domain.collect();
        let mut state = self.state.lock();
        if state.pace.is_due() {
            state.threads.iter_mut().for_each(Handle::end_interval);
            let queues = state.ports.values_mut().flat_map(|p| &mut p.rx);
            queues.for_each(|r| r.usage.roll(r.stats.busy_ns.get()));
            balance::note_load(&mut state);
        }
        let config = state.config.auto_balance;
        if state.balancer.is_due(&config, self.shared.clock.now_ms()) {
            self.auto_balance(&mut state);
        }
    }

    /// Gives the port called `name` another number, for tests (`dpif-dummy/change-port-number`).
    pub fn port_renumber(&self, name: &str, new: PortNo) -> Result<(), PortError> {
        let ports =
            self.state.lock().ports.iter().map(|(n, p)| (*n, Arc::clone(&p.netdev))).collect::<Vec<_>>();
        let (no, netdev) = ports.into_iter().find(|(_, d)| d.name() == name).ok_or(PortError::NotFound)?;
        if self.state.lock().ports.contains_key(&new) {
            return Err(PortError::Exists);
        }
        self.port_del(no)?;
        self.port_add(netdev, Some(new)).map(|_| ())
    }

    /// All losses so far, by port and cause; those of packets that the switch made at [`PortNo::NONE`].
    pub fn drops(&self) -> Vec<PortDrops> {
        let nowhere = Arc::clone(&self.shared.control.lock().worker.nowhere);
        let state = self.state.lock();
        let ports = state.ports.iter().map(|(no, p)| (*no, p.counters.values().collect::<Vec<_>>()));
        let mut all = Vec::new();
        for (port, counters) in ports.chain([(PortNo::NONE, vec![&nowhere])]) {
            for cause in DropCause::ALL {
                let packets: u64 = counters.iter().map(|c| c.dropped(*cause)).sum();
                if packets > 0 {
                    all.push(PortDrops { port, cause: *cause, cookie: None, packets });
                }
            }
        }
        all
    }

    /// What came to a port and where it went, over all threads.
    pub fn port_totals(&self, no: PortNo) -> Option<PortTotals> {
        let state = self.state.lock();
        let mut totals = PortTotals::default();
        state.ports.get(&no)?.counters.values().for_each(|c| totals.add(c));
        Some(totals)
    }

    /// Counters of every thread there is or was, and of the control context.
    pub(crate) fn worker_stats(&self) -> Vec<Arc<WorkerStats>> {
        let control = Arc::clone(&self.shared.control.lock().worker.stats);
        let state = self.state.lock();
        let threads = state.threads.iter().map(|t| Arc::clone(&t.stats));
        threads.chain([Arc::clone(&state.retired), control]).collect()
    }

    pub(crate) fn start_handlers(&self, wanted: usize) {
        let mut state = self.state.lock();
        while state.handlers.len() > wanted {
            if let Some(handler) = state.handlers.pop() {
                self.stop_handler(handler);
            }
        }
        while state.handlers.len() < wanted {
            let stop = Arc::new(AtomicBool::new(false));
            let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
            let name = format!("handler{}", state.handlers.len() + 1);
            let thread = std::thread::Builder::new().name(name).stack_size(crate::STACK);
            let thread = thread.spawn(move || serve(&shared, &stopped));
            if let Err(error) = &thread {
                tracing::error!("cannot start an upcall handler: {error}");
                return;
            }
            state.handlers.push(Handler { stop, thread: thread.ok() });
        }
    }

    fn stop_handler(&self, mut handler: Handler) {
        handler.stop.store(true, Ordering::SeqCst);
        self.shared.queues.wake_all();
        // A handler that is itself the last owner of the datapath cannot wait for itself.
        if let Some(thread) = handler.thread.take().filter(|t| t.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.start_handlers(0);
        let mut state = self.state.lock();
        let ports: Vec<PortNo> = state.ports.keys().copied().collect();
        for no in ports {
            self.close_rx(&mut state, no);
        }
        state.threads.clear();
        crate::cores::leave_to_pollers();
    }
}

impl Port {
    /// A worker's view of the port.
    pub(crate) fn open_for(&mut self, tx: usize) -> Result<Box<LocalPort>, NetdevError> {
        Ok(Box::new(LocalPort {
            tx: self.netdev.open_tx(tx)?,
            offloads: self.netdev.tx_offloads(),
            tunnel: self.netdev.as_tunnel().is_some().then(|| Arc::clone(&self.netdev)),
            pending: Default::default(),
            queue: 0,
            counters: Arc::clone(self.counters.entry(tx).or_default()),
            upcalls: Arc::clone(&self.upcalls),
        }))
    }
}

/// The number that a port's name contains, from 100 on for one that begins with `br`.
fn number_in_name(name: &str) -> Option<u32> {
    let base = if name.starts_with("br") { 100 } else { 0 };
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok().and_then(|n: u32| n.checked_add(base))
}

/// What a handler thread does.
fn serve(shared: &Shared, stop: &AtomicBool) {
    let me = shared.queues.enrol();
    while !stop.load(Ordering::SeqCst) {
        let pending = shared.queues.pop();
        if pending.is_empty() {
            shared.queues.sleep(&me, stop);
        } else {
            shared.queues.by_handlers.fetch_add(pending.len() as u64, Ordering::Relaxed);
            shared.settle(pending);
        }
    }
    shared.queues.leave(&me);
}
