//! Keeping threads, ports and receive queues together as the configuration wants them.

use crate::assign::{self, Queue};
use crate::cores;
use crate::datapath::{CONTROL_TX, Datapath, Port, PortError, State};
use crate::flow_table::FlowTable;
use crate::poll_config::PollConfig;
use crate::thread::{self, Handle, Kind, Mail, Rx, RxStats};
use crate::usage::Usage;
use dpif::PortNo;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

/// Where a receive queue is.
pub(crate) struct RxPlace {
    pub id: usize,
    pub stats: Arc<RxStats>,
    pub usage: Usage,
    /// The thread, by its transmit index; `None` while no thread can take the queue.
    pub thread: Option<usize>,
}

impl Datapath {
    /// Puts a configuration of threads in force. Queues move between threads without losing a packet.
    pub fn configure_polling(&self, config: PollConfig) {
        let mut state = self.state.lock();
        if state.config != config {
            self.shared.tuning.set(&config);
            let is_place = state.config.moves_queues(&config);
            state.config = config;
            if is_place {
                self.replan(&mut state);
            }
        }
    }

    pub fn polling_config(&self) -> PollConfig {
        self.state.lock().config.clone()
    }

    /// A port that is polled is about to come: what polling threads need is made meanwhile, if none is there yet.
    /// [`Datapath::expect_none`] when it has come, or has not.
    pub fn expect_polled(&self) {
        let state = self.state.lock();
        if state.pollers.is_empty() {
            crate::huge_pages::begin();
            self.shared.spares.expect(state.config.pmd_cores().len());
        }
    }

    /// Forgets what was made for polling threads that did not come.
    pub fn expect_none(&self) {
        self.shared.spares.forget();
    }

    /// Pins queues of a port to cores (`pmd-rxq-affinity`): queue to core.
    pub fn set_affinity(&self, no: PortNo, affinity: BTreeMap<usize, u32>) -> Result<(), PortError> {
        let mut state = self.state.lock();
        let port = state.ports.get_mut(&no).ok_or(PortError::NotFound)?;
        if port.affinity != affinity {
            port.affinity = affinity;
            self.replan(&mut state);
        }
        Ok(())
    }

    /// Whether what a port's packets find is remembered (`emc-enable`).
    pub fn set_emc(&self, no: PortNo, on: bool) -> Result<bool, PortError> {
        let mut state = self.state.lock();
        let port = state.ports.get_mut(&no).ok_or(PortError::NotFound)?;
        let differs = port.emc_off.swap(!on, Ordering::Relaxed) == on;
        if differs && !on {
            self.shared.tuning.forget();
        }
        Ok(differs)
    }

    /// Assigns all queues anew by their load of late (`dpif-netdev/pmd-rxq-rebalance`).
    pub fn rebalance(&self) {
        self.replan(&mut self.state.lock());
    }

    /// Drops a port's queues and opens them again, for a device whose configuration asks for it.
    pub fn port_reopen(&self, no: PortNo) -> Result<(), PortError> {
        let mut state = self.state.lock();
        let state = &mut *state;
        self.close_rx(state, no);
        let port = state.ports.get_mut(&no).ok_or(PortError::NotFound)?;
        let parked = self.open_rx(no, port)?;
        let threads: Vec<usize> = state.threads.iter().map(|t| t.tx).collect();
        for tx in threads.into_iter().chain([CONTROL_TX]) {
            self.give_port(state, no, tx)?;
        }
        state.parked.extend(parked);
        self.replan(state);
        Ok(())
    }

    /// Opens the receive queues of a port that are to be served by threads.
    pub(crate) fn open_rx(&self, no: PortNo, port: &mut Port) -> Result<Vec<Rx>, PortError> {
        if port.netdev.as_dummy().is_some() && !port.netdev.is_polled() {
            return Ok(Vec::new());
        }
        let mut opened = Vec::new();
        for (id, queue) in port.netdev.open_rx()?.into_iter().enumerate() {
            let stats: Arc<RxStats> = Arc::default();
            port.rx.push(RxPlace { id, stats: Arc::clone(&stats), usage: Usage::default(), thread: None });
            let emc_off = Arc::clone(&port.emc_off);
            opened.push(Rx { port: no.0, id, queue, stats, emc_off, futile: 0 });
        }
        Ok(opened)
    }

    /// Stops to receive from a port. Its packets of before are through when this returns.
    pub(crate) fn close_rx(&self, state: &mut State, no: PortNo) {
        let Some(port) = state.ports.get_mut(&no) else { return };
        for place in std::mem::take(&mut port.rx) {
            drop(take(&mut state.threads, &mut state.parked, no.0, &place));
        }
    }

    /// Opens a port for one thread, or for the control context, and waits until it may send there.
    pub(crate) fn give_port(&self, state: &mut State, no: PortNo, tx: usize) -> Result<(), PortError> {
        let Some(port) = state.ports.get_mut(&no) else { return Ok(()) };
        let local = port.open_for(tx)?;
        match state.threads.iter().find(|t| t.tx == tx) {
            None => self.shared.control.lock().worker.ports.insert(no.0, local),
            Some(thread) => {
                let (done, confirmed) = channel();
                thread.post(Mail::AddPort(no.0, local, done));
                let _ = confirmed.recv();
            }
        }
        Ok(())
    }

    /// Takes a port from every thread; what was on its way there has been sent.
    pub(crate) fn withdraw_port(&self, state: &State, no: PortNo) {
        let (done, confirmed) = channel();
        for thread in &state.threads {
            thread.post(Mail::DelPort(no.0, done.clone()));
        }
        drop(done);
        while confirmed.recv().is_ok() {}
        let local = self.shared.control.lock().worker.ports.remove(no.0);
        drop(local);
    }

    /// Gives the queues of a port that is waited for to the threads that there are, without a look at other ports;
    /// `false` if threads have to be started or stopped first.
    pub(crate) fn place_port(&self, state: &mut State, no: PortNo) -> bool {
        let queues: Vec<usize> = match state.ports.get(&no) {
            Some(port) => port.rx.iter().map(|place| place.id).collect(),
            None => return true,
        };
        let sockets = |t: &&Handle| t.kind == Kind::Socket;
        let is_settled = state.threads.iter().filter(sockets).count() == state.config.socket_threads.max(1);
        if queues.is_empty() || !is_settled {
            return queues.is_empty();
        }
        for id in queues {
            let idlest = state.threads.iter().filter(sockets).min_by_key(|t| t.queues).map(|t| t.tx);
            move_queue(state, no.0, id, idlest);
        }
        true
    }

    /// Makes threads and the places of queues what configuration and ports want.
    pub(crate) fn replan(&self, state: &mut State) {
        let is_polled = |p: &&Port| p.netdev.is_polled() && !p.rx.is_empty();
        let polled = state.ports.values().any(|p| is_polled(&p));
        let waited = state.ports.values().any(|p| !p.netdev.is_polled() && !p.rx.is_empty());
        let cores = if polled { state.config.pmd_cores() } else { Vec::new() };
        let sockets = if waited { state.config.socket_threads.max(1) } else { 0 };
        for core in &cores {
            let kind = Kind::Pmd { core: core.id, numa: core.numa };
            if state.threads.iter().all(|t| t.kind != kind) {
                self.start_thread(state, kind);
            }
        }
        let sockets_now = state.threads.iter().filter(|t| t.kind == Kind::Socket).count();
        for _ in sockets_now..sockets {
            self.start_thread(state, Kind::Socket);
        }
        let extra: Vec<usize> = {
            let is_wanted = |t: &&Handle| cores.iter().any(|c| Some(c.id) == t.kind.pmd());
            let pmds = state.threads.iter().filter(|t| t.kind != Kind::Socket && !is_wanted(t));
            let waiters = state.threads.iter().filter(|t| t.kind == Kind::Socket).skip(sockets);
            pmds.chain(waiters).map(|t| t.tx).collect()
        };
        self.place_polled(state, &cores);
        place_waited(state, &extra);
        self.stop_threads(state, &extra);
        let pollers: Vec<u32> = state.threads.iter().filter_map(|t| t.kind.pmd()).collect();
        if state.pollers != pollers {
            state.pollers = pollers;
            cores::leave_to_pollers();
        }
    }

    fn start_thread(&self, state: &mut State, kind: Kind) {
        let used = |tx: &usize| state.threads.iter().all(|t| t.tx != *tx);
        let Some(tx) = (CONTROL_TX + 1..).find(used) else { return };
        let table = match kind {
            Kind::Socket => self.shared.table(None),
            Kind::Pmd { .. } => {
                crate::huge_pages::begin();
                let new = FlowTable::new(&self.shared.domain, kind.pmd(), &self.shared.flow_count);
                self.shared.tables.write().push(Arc::clone(&new));
                Some(new)
            }
        };
        let Some(table) = table else { return };
        match thread::start(&self.shared, kind, tx, table) {
            Ok(handle) => state.threads.push(handle),
            Err(error) => {
                tracing::error!("cannot start a polling thread: {error}");
                return;
            }
        }
        for no in state.ports.keys().copied().collect::<Vec<_>>() {
            if let Err(error) = self.give_port(state, no, tx) {
                tracing::error!("port {no} cannot send from another thread: {error}");
            }
        }
    }

    /// Stops threads that have no queues any more, and forgets their megaflows.
    fn stop_threads(&self, state: &mut State, extra: &[usize]) {
        let (gone, stay) =
            std::mem::take(&mut state.threads).into_iter().partition(|t| extra.contains(&t.tx));
        state.threads = stay;
        for handle in gone {
            let handle: Handle = handle;
            let (pmd, stats) = (handle.kind.pmd(), Arc::clone(&handle.stats));
            drop(handle);
            if pmd.is_none() {
                // The main thread's counters are those of its threads; the control context goes on with them.
                self.shared.control.lock().worker.stats.absorb(&stats);
            } else {
                state.retired.absorb(&stats);
                state.cleared.remove(&pmd);
                let mut tables = self.shared.tables.write();
                tables.iter().filter(|t| t.pmd == pmd).for_each(|t| t.flush());
                tables.retain(|t| t.pmd != pmd);
            }
        }
    }

    /// Spreads the queues of polled ports over `cores`.
    fn place_polled(&self, state: &mut State, cores: &[assign::Core]) {
        let queues = polled_queues(state);
        let places = assign::assign(&queues, cores, state.config.assign, state.config.isolate);
        for (queue, core) in queues.iter().zip(places) {
            let thread = state.threads.iter().find(|t| core.is_some() && t.kind.pmd() == core);
            if core.is_none() {
                tracing::warn!(
                    "no polling thread can take queue {} of port {}; it is not polled",
                    queue.id,
                    queue.port
                );
            }
            let to = thread.map(|t| t.tx);
            move_queue(state, queue.port, queue.id, to);
        }
    }
}

/// The queues of polled ports, with their load of late.
pub(crate) fn polled_queues(state: &State) -> Vec<Queue> {
    let mut queues = Vec::new();
    for (no, port) in state.ports.iter().filter(|(_, p)| p.netdev.is_polled()) {
        queues.extend(port.rx.iter().map(|rx| Queue {
            port: no.0,
            id: rx.id,
            numa: port.netdev.numa_id(),
            pinned: port.affinity.get(&rx.id).copied(),
            load: rx.usage.all(),
        }));
    }
    queues
}

/// Spreads the queues of other ports over the socket threads that stay: each to the one with the fewest.
fn place_waited(state: &mut State, extra: &[usize]) {
    let stays = |t: &&Handle| t.kind == Kind::Socket && !extra.contains(&t.tx);
    let staying: Vec<usize> = state.threads.iter().filter(stays).map(|t| t.tx).collect();
    let is_homeless = |place: &&RxPlace| place.thread.is_none_or(|t| !staying.contains(&t));
    let mut homeless = Vec::new();
    for (no, port) in state.ports.iter().filter(|(_, p)| !p.netdev.is_polled()) {
        homeless.extend(port.rx.iter().filter(is_homeless).map(|place| (no.0, place.id)));
    }
    for (port, id) in homeless {
        let idlest = state.threads.iter().filter(stays).min_by_key(|t| t.queues).map(|t| t.tx);
        let Some(to) = idlest else { return };
        move_queue(state, port, id, Some(to));
    }
}

/// Moves a queue to another thread, or to none.
fn move_queue(state: &mut State, port: u32, id: usize, to: Option<usize>) {
    let Some(p) = state.ports.get_mut(&PortNo(port)) else { return };
    let Some(place) = p.rx.iter_mut().find(|r| r.id == id) else { return };
    if place.thread == to && to.is_some() {
        return;
    }
    let Some(rx) = take(&mut state.threads, &mut state.parked, port, place) else { return };
    place.thread = to;
    match state.threads.iter_mut().find(|t| Some(t.tx) == to) {
        Some(thread) => {
            thread.queues += 1;
            thread.post(Mail::AddRx(rx));
        }
        None => state.parked.push(rx),
    }
}

/// Takes a queue from where it is.
fn take(threads: &mut [Handle], parked: &mut Vec<Rx>, port: u32, place: &RxPlace) -> Option<Rx> {
    let Some(thread) = threads.iter_mut().find(|t| Some(t.tx) == place.thread) else {
        let at = parked.iter().position(|r| r.port == port && r.id == place.id)?;
        return Some(parked.swap_remove(at));
    };
    let (reply, taken) = channel();
    thread.queues = thread.queues.saturating_sub(1);
    thread.post(Mail::TakeRx(port, place.id, reply));
    taken.recv().ok().flatten()
}
