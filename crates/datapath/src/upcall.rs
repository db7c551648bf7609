//! Packets for the switch, on their way from polling threads to handlers.
//!
//! Each port has a queue of its own. A port may use as much of the common space as is still free, and no
//! more than its queue holds: one port that floods leaves at least half of the space to the others, two
//! leave a third, and so on. Handlers serve the ports in turn; polling threads with time to spare help
//! ([`crate::attend`]), and leave to handlers what only those can answer.

use crate::item::{Item, PacketMeta};
use arrayvec::ArrayVec;
use crossbeam_queue::SegQueue;
use dpif::Userdata;
use flow::Flow;
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::Thread;

/// Packets that wait for handlers, over all ports.
pub const UPCALLS_MAX: usize = 16_384;
/// Packets of one port that wait for handlers: room for what comes while a core is with somebody else for some tens
/// of milliseconds.
pub const UPCALLS_PER_PORT_MAX: usize = 8192;
/// Packets that a handler takes from one port before it turns to the next.
const QUANTUM: usize = 8;
/// Packets that a polling thread which answers itself wakes no handler for: it is through with them sooner.
const LEFT_TO_ONE: usize = 64;

pub(crate) enum PendingKind {
    Miss,
    Action(Userdata),
}

/// A packet that the switch has to decide about.
pub(crate) struct Pending {
    pub kind: PendingKind,
    pub item: Item,
    pub key: Arc<Flow>,
    /// Recirculations so far.
    pub depth: usize,
    /// Whose table the megaflow belongs to.
    pub pmd: Option<u32>,
}

/// Packets that wait, the first one first.
pub(crate) type Line = VecDeque<Box<Pending>>;

impl Pending {
    pub fn meta(&self) -> &PacketMeta {
        &self.item.meta
    }
}

/// The queue of one port. Filled by any thread, emptied by handlers.
pub(crate) struct PortQueue {
    /// Takes memory only while packets wait.
    waiting: SegQueue<Box<Pending>>,
    /// Whether the port is in the handlers' list of ports with work.
    is_listed: AtomicBool,
}

pub(crate) struct UpcallQueues {
    /// Packets waiting.
    total: AtomicUsize,
    /// Ports with work, each at most once.
    ready: SegQueue<Arc<PortQueue>>,
    /// What polling threads took and could not answer; part of `total`.
    heavy: SegQueue<Box<Pending>>,
    handlers: RwLock<Vec<Arc<Sleeper>>>,
    /// Upcalls that handlers have answered.
    pub by_handlers: AtomicU64,
}

/// A handler thread as those see it that have work for it.
pub(crate) struct Sleeper {
    thread: Thread,
    is_asleep: AtomicBool,
}

impl UpcallQueues {
    pub fn new() -> Self {
        UpcallQueues {
            total: AtomicUsize::new(0),
            ready: SegQueue::new(),
            heavy: SegQueue::new(),
            handlers: RwLock::default(),
            by_handlers: AtomicU64::new(0),
        }
    }

    pub fn port(&self) -> Arc<PortQueue> {
        Arc::new(PortQueue { waiting: SegQueue::new(), is_listed: AtomicBool::new(false) })
    }

    /// Puts a packet in line, or returns it if the port has had its share. Never waits, and wakes nobody: the
    /// caller does that ([`UpcallQueues::wake_one`]) when it is done. Threads that push at the same moment may exceed
    /// a limit by one packet each.
    pub fn push(&self, port: &Arc<PortQueue>, pending: Box<Pending>) -> Result<(), Box<Pending>> {
        let free = UPCALLS_MAX.saturating_sub(self.total.load(Ordering::Relaxed));
        if port.waiting.len() >= free.min(UPCALLS_PER_PORT_MAX) {
            return Err(pending);
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        port.waiting.push(pending);
        self.list(port);
        Ok(())
    }

    fn list(&self, port: &Arc<PortQueue>) {
        // Either `pop` sees the packet after it took the port off the list, or we see that it did.
        fence(Ordering::SeqCst);
        if !port.is_listed.swap(true, Ordering::AcqRel) {
            self.ready.push(Arc::clone(port));
        }
    }

    /// Whether nothing waits, at a glance.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.total.load(Ordering::Relaxed) == 0
    }

    /// Whether handlers have to help a thread that answers itself.
    pub fn is_too_much(&self) -> bool {
        !self.heavy.is_empty() || self.total.load(Ordering::Relaxed) > LEFT_TO_ONE
    }

    /// Leaves to handlers what [`UpcallQueues::pop_one`] gave.
    pub fn give_back(&self, pending: Box<Pending>) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.heavy.push(pending);
    }

    /// Wakes a handler that sleeps. If the list of handlers is just being changed, whoever changes it looks
    /// for work afterwards.
    pub fn wake_one(&self) {
        // Either a handler sees the work before it sleeps, or we see it asleep.
        fence(Ordering::SeqCst);
        let Some(handlers) = self.handlers.try_read() else { return };
        for h in handlers.iter() {
            if h.is_asleep.swap(false, Ordering::AcqRel) {
                h.thread.unpark();
                return;
            }
        }
    }

    /// The next few packets for a handler, all of one port; empty if none wait.
    pub fn pop(&self) -> Line {
        let heavy: Line = std::iter::from_fn(|| self.heavy.pop()).take(QUANTUM).collect();
        if heavy.is_empty() {
            let taken = self.take(QUANTUM).collect();
            if !self.ready.is_empty() {
                self.wake_one();
            }
            return taken;
        }
        self.total.fetch_sub(heavy.len(), Ordering::Relaxed);
        if !self.heavy.is_empty() {
            self.wake_one();
        }
        heavy
    }

    /// The next packet, for a thread that polls. Those that only handlers can answer are not among them.
    pub fn pop_one(&self) -> Option<Box<Pending>> {
        self.take(1).next()
    }

    fn take(&self, most: usize) -> impl Iterator<Item = Box<Pending>> + use<> {
        let mut taken: ArrayVec<Box<Pending>, QUANTUM> = ArrayVec::new();
        if let Some(port) = self.ready.pop() {
            taken.extend(std::iter::from_fn(|| port.waiting.pop()).take(most.min(QUANTUM)));
            self.total.fetch_sub(taken.len(), Ordering::Relaxed);
            port.is_listed.store(false, Ordering::Release);
            fence(Ordering::SeqCst);
            if !port.waiting.is_empty() {
                self.list(&port);
            }
        }
        taken.into_iter()
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Makes the calling thread a handler that [`UpcallQueues::sleep`] may put to sleep.
    pub fn enrol(&self) -> Arc<Sleeper> {
        let new = Arc::new(Sleeper { thread: std::thread::current(), is_asleep: AtomicBool::new(false) });
        self.handlers.write().push(Arc::clone(&new));
        new
    }

    pub fn leave(&self, handler: &Arc<Sleeper>) {
        self.handlers.write().retain(|h| !Arc::ptr_eq(h, handler));
        self.wake_one();
    }

    /// Sleeps until there is work, or `stop` is set and the thread woken.
    pub fn sleep(&self, handler: &Sleeper, stop: &AtomicBool) {
        handler.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.ready.is_empty() && self.heavy.is_empty() && !stop.load(Ordering::SeqCst) {
            std::thread::park_timeout(std::time::Duration::from_millis(500));
        }
        handler.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Wakes all handlers, to look at their stop flags.
    pub fn wake_all(&self) {
        self.handlers.read().iter().for_each(|h| h.thread.unpark());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::Packet;

    fn pending(in_port: u32) -> Box<Pending> {
        let item = Item { packet: Packet::from_slice(&[0; 60]), meta: PacketMeta::of_port(in_port) };
        Box::new(Pending { kind: PendingKind::Miss, item, key: Arc::default(), depth: 0, pmd: None })
    }

    #[test]
    fn a_flood_on_some_ports_leaves_room_and_turns_for_others() {
        const QUIET: u32 = 9;
        let queues = UpcallQueues::new();
        let floods: Vec<_> = (0..7).map(|_| queues.port()).collect();
        let quiet = queues.port();
        for _ in 0..UPCALLS_MAX {
            for flood in &floods {
                let _ = queues.push(flood, pending(1));
            }
        }
        assert!(queues.waiting() < UPCALLS_MAX);
        let share = UPCALLS_MAX / 16;
        assert!((0..share).all(|_| queues.push(&quiet, pending(QUIET)).is_ok()));
        // Served in turn: the quiet port's packets do not wait behind all of the floods'.
        let (mut served, mut rounds) = (0, 0);
        while served < share {
            served += queues.pop().iter().filter(|p| p.meta().in_port == QUIET).count();
            rounds += 1;
        }
        assert!(rounds <= (floods.len() + 1) * share.div_ceil(QUANTUM));
    }
}
