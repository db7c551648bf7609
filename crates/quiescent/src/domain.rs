//! Who is reading, and when what was taken out of sight may go.

use arrayvec::ArrayVec;
use crossbeam_utils::{Backoff, CachePadded};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A reader's state: [`OFFLINE`], or the newest epoch at which it held no references.
type State = CachePadded<AtomicU64>;

const OFFLINE: u64 = u64::MAX;

/// What waits for readers.
type Item = Box<dyn Any + Send>;

/// What one call of [`Domain::retire`] drops at most: no writer pays for all that others have taken out.
const DROPPED_AT_ONCE: usize = 64;

/// Takes out what readers that have reached this epoch hold no more.
fn due(waiting: &mut VecDeque<(u64, Item)>, reached: u64) -> impl Iterator<Item = Item> {
    // Two writers may have queued theirs out of order; the earlier then waits for the later.
    std::iter::from_fn(move || {
        let is_due = waiting.front().is_some_and(|(epoch, _)| *epoch <= reached);
        if is_due { waiting.pop_front().map(|(_, item)| item) } else { None }
    })
}

/// Readers and the garbage that waits for them. Dropping it frees all garbage: it outlives its readers.
pub struct Domain {
    epoch: CachePadded<AtomicU64>,
    readers: Mutex<Vec<Arc<State>>>,
    /// In order of the epoch that all readers must reach.
    garbage: Mutex<VecDeque<(u64, Item)>>,
}

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Domain(epoch {}, {} waiting)",
            self.epoch.load(Ordering::Relaxed),
            self.garbage.lock().len()
        )
    }
}

impl Domain {
    pub fn new() -> Arc<Self> {
        Arc::new(Domain {
            epoch: CachePadded::new(AtomicU64::new(1)),
            readers: Mutex::default(),
            garbage: Mutex::default(),
        })
    }

    /// A new reader, offline at first.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let state = Arc::new(CachePadded::new(AtomicU64::new(OFFLINE)));
        self.readers.lock().push(Arc::clone(&state));
        Reader { domain: Arc::clone(self), state }
    }

    /// Drops `garbage` when no reader can hold a reference into it any more. The caller has made it
    /// unreachable for new ones. It is dropped by some later call of a writer, never by a reader.
    pub fn retire(&self, garbage: impl Any + Send) {
        let item: (u64, Item) = (self.next_epoch(), Box::new(garbage));
        let reached = self.reached();
        let mut waiting = self.garbage.lock();
        waiting.push_back(item);
        let due: ArrayVec<Item, DROPPED_AT_ONCE> = due(&mut waiting, reached).take(DROPPED_AT_ONCE).collect();
        drop(waiting);
        drop(due);
    }

    /// Drops what may go by now. Does not wait.
    pub fn collect(&self) {
        let reached = self.reached();
        let due: Vec<Item> = due(&mut self.garbage.lock(), reached).collect();
        drop(due);
    }

    /// Waits until every reader that is online now has gone offline or announced a quiescent state. The
    /// caller must not be an online reader itself.
    pub fn synchronize(&self) {
        let due = self.next_epoch();
        let backoff = Backoff::new();
        while self.reached() < due {
            if backoff.is_completed() {
                std::thread::sleep(std::time::Duration::from_micros(20));
            } else {
                backoff.snooze();
            }
        }
        self.collect();
    }

    fn next_epoch(&self) -> u64 {
        // Pairs with the fence in `Reader::online`: either the reader sees what the writer did before
        // this, or the writer sees the reader online.
        fence(Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The epoch that every online reader has reached.
    fn reached(&self) -> u64 {
        fence(Ordering::SeqCst);
        let all = self.readers.lock();
        // `OFFLINE` is above every epoch. Acquire: what the readers did before is done.
        all.iter().map(|r| r.load(Ordering::Acquire)).min().unwrap_or(OFFLINE)
    }
}

/// One thread's membership in a [`Domain`].
pub struct Reader {
    domain: Arc<Domain>,
    state: Arc<State>,
}

impl Reader {
    /// A guard, under which references into the domain's data may be held. Brings the reader online.
    pub fn pin(&mut self) -> Guard<'_> {
        if self.state.load(Ordering::Relaxed) == OFFLINE {
            self.online();
        }
        Guard { domain: &self.domain }
    }

    /// Announces that this thread holds no references, and stays online: data that is freed later may be
    /// read again at once.
    pub fn quiesce(&mut self) {
        if self.state.load(Ordering::Relaxed) != OFFLINE {
            // Acquire: what was out of sight before that epoch is out of our sight. Release: our reads of
            // it are done.
            let epoch = self.domain.epoch.load(Ordering::Acquire);
            self.state.store(epoch, Ordering::Release);
        }
    }

    /// Announces that this thread holds no references and will not until it pins again: nobody waits for
    /// it. For a thread that is about to sleep.
    pub fn offline(&mut self) {
        self.state.store(OFFLINE, Ordering::Release);
    }

    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    fn online(&mut self) {
        let epoch = self.domain.epoch.load(Ordering::Acquire);
        // Release: a writer that sees this epoch must also see our earlier reads done.
        self.state.store(epoch, Ordering::Release);
        // Before any reference is taken, writers must be able to see us.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.offline();
        self.domain.readers.lock().retain(|r| !Arc::ptr_eq(r, &self.state));
    }
}

/// Proof that the thread's reader is online and will not announce a quiescent state while it lasts.
#[derive(Clone, Copy)]
pub struct Guard<'r> {
    domain: &'r Arc<Domain>,
}

impl Guard<'_> {
    /// # Panics
    /// If the guard is of another domain, which would protect nothing.
    #[inline(always)]
    pub(crate) fn check(&self, domain: &Arc<Domain>) {
        assert!(Arc::ptr_eq(self.domain, domain), "guard of another domain");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn garbage_waits_for_readers_that_are_online() {
        let domain = Domain::new();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = || dropped.load(Ordering::SeqCst);
        let (mut a, mut b) = (domain.reader(), domain.reader());
        a.pin();
        domain.retire(Counted(Arc::clone(&dropped)));
        assert_eq!(count(), 0);
        b.pin();
        a.quiesce();
        domain.collect();
        assert_eq!(count(), 1, "b came after the garbage was out of sight");
        domain.retire(Counted(Arc::clone(&dropped)));
        a.offline();
        domain.collect();
        assert_eq!(count(), 1);
        drop(b);
        domain.synchronize();
        assert_eq!(count(), 2);
    }
}
