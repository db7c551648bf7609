//! Packets for the switch, on their way from polling threads to handlers.
//!
//! Each port has a queue of its own. A port may use as much of the common space as is still free, and no
//! more than its queue holds: one port that floods leaves at least half of the space to the others, two
//! leave a third, and so on. Handlers serve the ports in turn.

use crate::item::{Item, PacketMeta};
use crossbeam_queue::SegQueue;
use dpif::Userdata;
use flow::Flow;
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::Thread;

/// Packets that wait for handlers, over all ports.
pub const UPCALLS_MAX: usize = 4096;
/// Packets of one port that wait for handlers.
pub const UPCALLS_PER_PORT_MAX: usize = 1024;
/// Packets that a handler takes from one port before it turns to the next.
const QUANTUM: usize = 8;

pub(crate) enum PendingKind {
    Miss,
    Action(Userdata),
}

/// A packet that the switch has to decide about.
pub(crate) struct Pending {
    pub kind: PendingKind,
    pub item: Item,
    pub key: Box<Flow>,
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
    handlers: RwLock<Vec<Arc<Sleeper>>>,
}

/// A handler thread as those see it that have work for it.
pub(crate) struct Sleeper {
    thread: Thread,
    is_asleep: AtomicBool,
}

impl UpcallQueues {
    pub fn new() -> Self {
        UpcallQueues { total: AtomicUsize::new(0), ready: SegQueue::new(), handlers: RwLock::default() }
    }

    pub fn port(&self) -> Arc<PortQueue> {
        Arc::new(PortQueue { waiting: SegQueue::new(), is_listed: AtomicBool::new(false) })
    }

    /// Puts a packet in line, or returns it if the port has had its share. Never waits. Threads that push at
    /// the same moment may exceed a limit by one packet each.
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
            self.wake_one();
        }
    }

    /// Wakes a handler that sleeps. If the list of handlers is just being changed, whoever changes it looks
    /// for work afterwards.
    fn wake_one(&self) {
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

    /// The next few packets, all of one port; empty if none wait.
    pub fn pop(&self) -> Line {
        let Some(port) = self.ready.pop() else { return Line::new() };
        let taken: Line = std::iter::from_fn(|| port.waiting.pop()).take(QUANTUM).collect();
        self.total.fetch_sub(taken.len(), Ordering::Relaxed);
        port.is_listed.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
        if !port.waiting.is_empty() {
            self.list(&port);
        }
        taken
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
        if self.ready.is_empty() && !stop.load(Ordering::SeqCst) {
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
        Box::new(Pending { kind: PendingKind::Miss, item, key: Box::default(), depth: 0, pmd: None })
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
