//! Polling threads and socket threads: their loops.

use crate::attend::Desk;
use crate::cores::PMD_NAME;
use crate::counter::Counter;
use crate::flow_table::FlowTable;
use crate::perf::{Perf, Recorder, Upcalls};
use crate::port::LocalPort;
use crate::shared::Shared;
use crate::spare::Lanes;
use crate::tuning::BUSY_BATCH;
use crate::upcall::Pending;
use crate::usage::Usage;
use crate::watch::Watch;
use crate::worker::{Sink, View, Worker, WorkerStats};
use netdev::{Burst, Packets, RxQueue};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use packet::BATCH_LEN;
use parking_lot::Mutex;
use quiescent::{Mailbox, Reader};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches that a socket thread takes from one queue before it turns to the next.
const TURNS_PER_EVENT: usize = 4;
/// Batches that a polling thread takes from one queue before it turns to the next, as long as they are full: what it does
/// once a turn is shared by more packets then.
const BATCHES_PER_POLL: usize = 4;
/// Packets in a round over the queues from which on a socket thread lets more of them gather before the next.
const COMPANY: usize = 2;
/// For how long; the kernel makes it up to twice as long (prctl(2), `PR_SET_TIMERSLACK`).
const GATHER: Duration = Duration::from_micros(50);
/// Descriptors that one call of epoll reports at most.
const EVENTS: usize = 64;
/// Reports without a packet in a row after which a queue's descriptor is left alone for a while: that of a
/// device that is gone would keep the thread busy with nothing.
const FUTILE_MAX: u32 = 64;
/// For how long, in milliseconds.
const REST_MS: u16 = 500;
/// Slots of the connection table that a polling thread looks at in a turn, for those who ask for it: some hundreds of
/// nanoseconds where packets wait, and some microseconds where there are none.
const SLOTS_BUSY: u32 = 16;
const SLOTS_IDLE: u32 = 64;
/// How long a polling thread takes the time for what it was.
const TICK: Duration = Duration::from_millis(1);
/// The epoll token of the wake-up descriptor.
const WAKE: u64 = u64::MAX;

/// What a receive queue has done.
#[derive(Debug, Default)]
pub(crate) struct RxStats {
    pub packets: Counter,
    /// Time that its packets took.
    pub busy_ns: Counter,
}

/// A receive queue with its owner.
pub(crate) struct Rx {
    pub port: u32,
    pub id: usize,
    pub queue: Box<dyn RxQueue>,
    pub stats: Arc<RxStats>,
    /// Nothing is remembered of its packets.
    pub emc_off: Arc<AtomicBool>,
    /// Reports of its descriptor in a row that brought no packet.
    pub futile: u32,
}

/// What the control plane tells a thread. Those with a sender are confirmed when they are in force.
pub(crate) enum Mail {
    AddPort(u32, Box<LocalPort>, Sender<()>),
    DelPort(u32, Sender<()>),
    AddRx(Rx),
    /// Gives the queue back; its last packets are on their way by then.
    TakeRx(u32, usize, Sender<Option<Rx>>),
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Waits on descriptors.
    Socket,
    /// Polls, pinned to a core of a NUMA node.
    Pmd { core: u32, numa: u32 },
}

impl Kind {
    pub fn pmd(self) -> Option<u32> {
        match self {
            Kind::Socket => None,
            Kind::Pmd { core, .. } => Some(core),
        }
    }
}

/// The control plane's side of a thread.
pub(crate) struct Handle {
    pub kind: Kind,
    /// Which transmit queue it uses of ports that have several.
    pub tx: usize,
    pub stats: Arc<WorkerStats>,
    pub perf: Arc<Mutex<Perf>>,
    /// When it began to count, in milliseconds.
    pub since_ms: u64,
    /// Time in iterations that found packets, and in all.
    pub busy_usage: Usage,
    pub total_usage: Usage,
    /// Intervals in a row in which it was overloaded.
    pub overloaded: u32,
    /// Receive queues that it has.
    pub queues: usize,
    mail: Arc<Mailbox<Mail>>,
    wake: Option<Arc<EventFd>>,
    join: Option<JoinHandle<()>>,
}

impl Handle {
    pub fn end_interval(&mut self) {
        let busy = self.stats.busy_ns.get();
        self.busy_usage.roll(busy);
        self.total_usage.roll(busy + self.stats.idle_ns.get() + self.stats.nap_ns.get());
    }

    pub fn post(&self, mail: Mail) {
        self.mail.post(mail);
        if let Some(wake) = &self.wake {
            let _ = wake.write(1);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.post(Mail::Stop);
        if let Some(join) = self.join.take() {
            let _ = join.join();
        }
    }
}

/// Starts a thread that has neither ports nor queues yet.
pub(crate) fn start(
    shared: &Arc<Shared>,
    kind: Kind,
    tx: usize,
    table: Arc<FlowTable>,
) -> io::Result<Handle> {
    let mail = Arc::new(Mailbox::default());
    let sink = Sink::Queue(Arc::clone(&shared.queues));
    // A thread that polls has no time to make them later.
    let lanes = kind.pmd().map(|_| shared.spares.take().unwrap_or_else(Lanes::new));
    let worker = Worker::with_lanes(sink, kind.pmd(), &shared.tracking, &shared.meters, lanes);
    let stats = Arc::clone(&worker.stats);
    let since_ms = shared.clock.now_ms();
    let perf = Arc::new(Mutex::new(Perf::new(*shared.tuning.supervision.lock())));
    let poller = Poller {
        reader: shared.domain.reader(),
        shared: Arc::clone(shared),
        worker,
        table,
        mail: Arc::clone(&mail),
        rx: Vec::new(),
        packets: Packets::default(),
        is_stopping: false,
        is_polling: kind != Kind::Socket,
        watch: Watch::new(),
        now: Instant::now(),
        tick: Instant::now(),
        flush_at: None,
        nap_us: 0,
        recorder: Recorder::new(Arc::clone(&perf)),
        held: None,
    };
    let (wake, name) = match kind {
        Kind::Socket => {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            (Some(Arc::new(EventFd::from_flags(flags)?)), format!("socket{tx}"))
        }
        Kind::Pmd { core, .. } => (None, format!("{PMD_NAME}{core:02}/id:{tx}")),
    };
    let epoll = match &wake {
        Some(wake) => Some((epoll_with(wake)?, Arc::clone(wake))),
        None => None,
    };
    let thread = std::thread::Builder::new().name(name).stack_size(crate::STACK);
    let join = thread.spawn(move || match (epoll, kind) {
        (Some((epoll, wake)), _) => poller.run_waiting(&epoll, &wake),
        (None, Kind::Pmd { core, .. }) => poller.run_polling(core),
        (None, Kind::Socket) => {}
    })?;
    let usage = Usage::default();
    let (busy_usage, total_usage) = (usage.clone(), usage);
    Ok(Handle {
        kind,
        tx,
        stats,
        perf,
        since_ms,
        busy_usage,
        total_usage,
        overloaded: 0,
        queues: 0,
        mail,
        wake,
        join: Some(join),
    })
}

fn epoll_with(wake: &EventFd) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
    Ok(epoll)
}

struct Poller {
    shared: Arc<Shared>,
    reader: Reader,
    worker: Worker,
    table: Arc<FlowTable>,
    mail: Arc<Mailbox<Mail>>,
    /// Places stay what they are while the queue does: epoll's tokens are their indices.
    rx: Vec<Option<Rx>>,
    packets: Packets,
    is_stopping: bool,
    is_polling: bool,
    watch: Watch,
    /// When the last batch was done, or nothing was found.
    now: Instant,
    /// When [`Worker::now_ms`] is to be set again.
    tick: Instant,
    /// When packets that wait to be sent have waited enough.
    flush_at: Option<Instant>,
    /// How long the next nap is to be.
    nap_us: u32,
    recorder: Recorder,
    /// An upcall that the thread has taken and not answered yet.
    held: Option<Box<Pending>>,
}

impl Poller {
    fn run_polling(mut self, core: u32) {
        pin(core);
        // Naps are of microseconds; the kernel would make 50 more of each.
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut last = Instant::now();
        let _serving = self.worker.tracking.conntrack.serving();
        while !self.is_stopping {
            self.read_mail(None);
            self.keep_time();
            let (mut received, mut is_busy) = (0, false);
            for at in 0..self.rx.len() {
                let n = self.poll(at);
                received += n;
                is_busy |= n >= BUSY_BATCH;
            }
            let slots = if received > 0 { SLOTS_BUSY } else { SLOTS_IDLE };
            let served = self.worker.tracking.conntrack.serve(slots);
            if is_busy || served {
                self.nap_us = 0;
            }
            self.reader.quiesce();
            self.flush_if_due();
            if served {
                self.now = self.watch.now();
            }
            if received == 0 {
                self.now = self.watch.now();
                std::hint::spin_loop();
            }
            let helped = self.held.is_some() || !self.shared.queues.is_idle();
            if helped {
                self.help_handlers(is_busy);
            }
            self.account(&mut last, received > 0 || helped || served);
            self.record();
            self.nap(&mut last);
        }
        if let Some(held) = self.held.take() {
            self.shared.queues.give_back(held);
        }
        if !self.shared.queues.is_idle() {
            self.shared.queues.wake_one();
        }
    }

    /// Answers some of the upcalls that wait, if there is time, and wakes a handler for those that are left.
    #[inline(never)]
    fn help_handlers(&mut self, is_busy: bool) {
        let Poller { shared, reader, worker, table, held, rx, .. } = self;
        // It has all ports before it gets its first queue, and may lack some without.
        let may_help = !is_busy && rx.iter().any(Option::is_some);
        if may_help {
            let mut desk = Desk { shared, reader, worker, table, held };
            self.now = desk.attend(&self.watch, self.now);
        }
        let queues = &self.shared.queues;
        if let Some(held) = self.held.take_if(|_| !may_help) {
            queues.give_back(held);
        }
        if !may_help || queues.is_too_much() {
            queues.wake_one();
        }
    }

    /// Notes the turn of the loop that ends (`pmd-perf-metrics`).
    #[inline]
    fn record(&mut self) {
        let is_wanted = self.shared.tuning.perf_metrics();
        if is_wanted || self.recorder.is_on() {
            let stats = &self.worker.stats;
            let upcalls = Upcalls {
                missed: stats.missed.get(),
                answered: stats.answered.get(),
                answered_ns: stats.answered_ns.get(),
            };
            self.recorder.turn(self.worker.now_ms, upcalls, is_wanted);
        }
    }

    /// Sends what has waited long enough for company.
    fn flush_if_due(&mut self) {
        if self.flush_at.is_some_and(|due| self.now >= due) {
            self.flush_at = None;
            self.worker.flush();
        }
    }

    /// Sleeps as long as the configuration lets a thread that has little to do, each time a bit longer.
    fn nap(&mut self, last: &mut Instant) {
        let max = self.shared.tuning.max_sleep_us();
        if max == 0 {
            self.nap_us = 0;
            return;
        }
        if self.nap_us > 0 {
            self.flush_at = None;
            self.worker.flush();
            self.reader.offline();
            std::thread::sleep(Duration::from_micros(self.nap_us.into()));
            self.now = Instant::now();
            let stats = &self.worker.stats;
            stats.naps.add(1);
            stats.nap_ns.add(self.now.duration_since(*last).as_nanos() as u64);
            *last = self.now;
            self.recorder.slept();
        }
        self.nap_us = (self.nap_us + 1).min(max);
    }

    fn run_waiting(mut self, epoll: &Epoll, wake: &EventFd) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut rest_until: Option<Instant> = None;
        while !self.is_stopping {
            self.reader.offline();
            let timeout = if rest_until.is_some() { EpollTimeout::from(REST_MS) } else { EpollTimeout::NONE };
            let ready = match epoll.wait(&mut events, timeout) {
                Ok(n) => n,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!("epoll_wait failed: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                    0
                }
            };
            self.now = Instant::now();
            self.tick = self.now;
            self.keep_time();
            let mut last = self.now;
            let events = events.get(..ready).unwrap_or_default();
            if events.iter().any(|e| e.data() == WAKE) {
                let _ = wake.read();
            }
            self.read_mail(Some(epoll));
            if rest_until.is_some_and(|until| last >= until) {
                self.end_rest(epoll);
                rest_until = None;
            }
            let (mut received, mut is_behind) = (0, false);
            for event in events.iter().filter(|e| e.data() != WAKE) {
                let at = event.data() as usize;
                let n = self.turns(at);
                received += n;
                is_behind |= n >= TURNS_PER_EVENT * BATCH_LEN;
                if self.rest_if_futile(at, n, epoll) {
                    rest_until.get_or_insert(last + Duration::from_millis(REST_MS.into()));
                }
                self.reader.quiesce();
            }
            self.now = Instant::now();
            self.account(&mut last, received > 0);
            if !self.shared.queues.is_idle() {
                self.shared.queues.wake_one();
            }
            self.let_gather(received, is_behind);
        }
    }

    /// Gives those who send time to send more after a round that found packets: fewer, fuller batches. One that waited
    /// for the next packet would have the sender wake it for each, and the receiver be woken for each that it sends.
    fn let_gather(&mut self, received: usize, is_behind: bool) {
        if may_gather(received, is_behind) {
            self.reader.offline();
            std::thread::sleep(GATHER);
        } else if received > 0 {
            // Whoever shares the core may send more.
            std::thread::yield_now();
        }
    }

    /// Takes some batches from a queue. Returns the number of packets.
    fn turns(&mut self, at: usize) -> usize {
        let mut received = 0;
        for _ in 0..TURNS_PER_EVENT {
            let n = self.poll(at);
            received += n;
            // No full batch: nothing is left, or its descriptor says so again.
            if n < BATCH_LEN {
                break;
            }
        }
        received
    }

    /// Stops to wait for a queue whose descriptor has reported too often in vain.
    fn rest_if_futile(&mut self, at: usize, received: usize, epoll: &Epoll) -> bool {
        let Some(Some(rx)) = self.rx.get_mut(at) else { return false };
        rx.futile = if received == 0 { rx.futile + 1 } else { 0 };
        if rx.futile < FUTILE_MAX {
            return false;
        }
        rx.queue.wait_fd().is_some_and(|fd| epoll.delete(fd).is_ok())
    }

    fn end_rest(&mut self, epoll: &Epoll) {
        for (at, rx) in self.rx.iter_mut().enumerate() {
            let Some(rx) = rx.as_mut().filter(|rx| rx.futile >= FUTILE_MAX) else { continue };
            rx.futile = 0;
            wait_for(rx, at, epoll);
        }
    }

    /// Takes over the switch's time, which is asked for once a millisecond.
    fn keep_time(&mut self) {
        if self.now >= self.tick {
            self.now = self.watch.set();
            self.tick = self.now + TICK;
            self.worker.now_ms = self.shared.clock.now_ms();
            self.worker.lane.sweep();
            if let Some(wide) = &mut self.worker.wide {
                wide.sweep();
            }
            self.worker.cache.sweep();
            self.worker.trails.sweep();
            if let Some(outers) = &mut self.worker.outers {
                outers.lane.sweep();
            }
            if let Some(branches) = &mut self.worker.branches {
                branches.sweep();
            }
        }
    }

    fn account(&self, last: &mut Instant, is_busy: bool) {
        let now = self.now;
        let ns = now.duration_since(*last).as_nanos() as u64;
        *last = now;
        let stats = &self.worker.stats;
        stats.iterations.add(1);
        if is_busy {
            stats.busy_iterations.add(1);
            stats.busy_ns.add(ns);
        } else {
            stats.idle_ns.add(ns);
        }
    }

    /// Takes batches from a queue, as long as they are full and it is a polling thread's turn still, and sees them through.
    /// Returns the number of packets.
    fn poll(&mut self, at: usize) -> usize {
        let (start, found) = (self.now, self.worker.stats.cache_hits.get());
        let mut received = 0;
        for _ in 0..if self.is_polling { BATCHES_PER_POLL } else { 1 } {
            let n = self.poll_once(at);
            received += n;
            if n < BATCH_LEN {
                break;
            }
        }
        let Some(Some(rx)) = self.rx.get(at).filter(|_| received > 0) else { return 0 };
        let tuning = &self.shared.tuning;
        if tuning.remember(!rx.emc_off.load(Ordering::Relaxed)).as_signatures {
            let stats = &self.worker.stats;
            stats.signature_hits.add(stats.cache_hits.get() - found);
        }
        self.now = self.watch.now();
        if !self.worker.dirty.is_empty() {
            let due = self.now + Duration::from_micros(tuning.tx_flush_us().into());
            self.flush_at.get_or_insert(due);
        }
        let spent = self.now.duration_since(start).as_nanos() as u64;
        rx.stats.packets.add(received as u64);
        rx.stats.busy_ns.add(spent);
        received
    }

    /// Takes one batch from a queue and sees it through. Returns its size.
    #[inline(always)]
    fn poll_once(&mut self, at: usize) -> usize {
        let Some(Some(rx)) = self.rx.get_mut(at) else { return 0 };
        let waiting = if self.recorder.is_on() { rx.queue.waiting() } else { None };
        let burst: &mut dyn Burst = match rx.queue.burst() {
            Some(burst) => burst,
            None => {
                rx.queue.recv(&mut self.packets.0);
                &mut self.packets
            }
        };
        let received = burst.len();
        if received == 0 {
            return 0;
        }
        if self.recorder.is_on() {
            self.recorder.batch(received, waiting);
        }
        self.worker.vlan_limit = self.shared.vlan_limit.load(Ordering::Relaxed);
        let tuning = &self.shared.tuning;
        let remember = tuning.remember(!rx.emc_off.load(Ordering::Relaxed));
        self.worker.keep(remember, tuning.epoch());
        let wait_us = if self.is_polling { tuning.tx_flush_us() } else { 0 };
        self.worker.collects = wait_us > 0;
        let guard = self.reader.pin();
        let view = View { guard: &guard, table: &self.table };
        self.worker.receive_burst(view, rx.port, burst);
        burst.clear();
        if wait_us == 0 {
            self.worker.flush();
        }
        received
    }

    fn read_mail(&mut self, epoll: Option<&Epoll>) {
        if self.mail.is_empty() {
            return;
        }
        // A port may go.
        self.worker.flush();
        for mail in self.mail.take() {
            match mail {
                Mail::AddPort(port, local, done) => {
                    self.worker.ports.insert(port, local);
                    let _ = done.send(());
                }
                Mail::DelPort(port, done) => {
                    drop(self.worker.ports.remove(port));
                    let _ = done.send(());
                }
                Mail::AddRx(rx) => self.add_rx(rx, epoll),
                Mail::TakeRx(port, id, reply) => {
                    let _ = reply.send(self.take_rx(port, id, epoll));
                }
                Mail::Stop => self.is_stopping = true,
            }
        }
    }

    fn add_rx(&mut self, rx: Rx, epoll: Option<&Epoll>) {
        let free = self.rx.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.rx.push(None);
            self.rx.len() - 1
        });
        if let Some(epoll) = epoll {
            wait_for(&rx, at, epoll);
        }
        self.rx[at] = Some(rx);
    }

    fn take_rx(&mut self, port: u32, id: usize, epoll: Option<&Epoll>) -> Option<Rx> {
        let wanted = |rx: &&mut Option<Rx>| rx.as_ref().is_some_and(|r| r.port == port && r.id == id);
        let mut rx = self.rx.iter_mut().find(wanted)?.take()?;
        rx.futile = 0;
        if let (Some(epoll), Some(fd)) = (epoll, rx.queue.wait_fd()) {
            let _ = epoll.delete(fd);
        }
        Some(rx)
    }
}

/// Whether packets come so often that the next ones may wait, which a single one (a ping, a handshake) never does. A
/// queue that is not empty after its turns has enough.
fn may_gather(received: usize, is_behind: bool) -> bool {
    received >= COMPANY && !is_behind
}

fn wait_for(rx: &Rx, at: usize, epoll: &Epoll) {
    match rx.queue.wait_fd() {
        Some(fd) => {
            if let Err(error) = epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, at as u64)) {
                tracing::error!("cannot wait for packets of port {}: {error}", rx.port);
            }
        }
        None => tracing::warn!("port {} has nothing to wait for packets on", rx.port),
    }
}

/// Keeps the calling thread on `core`, if the machine has it.
fn pin(core: u32) {
    let mut set = nix::sched::CpuSet::new();
    let pinned = set
        .set(core as usize)
        .and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::debug!("cannot pin a polling thread to core {core}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_never_waits_nor_does_a_full_queue() {
        let rounds = [(0, false), (1, false), (2, false), (127, false), (128, true), (200, true)];
        let gathers = rounds.map(|(received, is_behind)| may_gather(received, is_behind));
        assert_eq!(gathers, [false, false, true, true, false, false]);
    }
}
