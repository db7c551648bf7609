//! Packet buffers, reused without allocation: large ones for any frame of a virtual link, small ones for frames of
//! usual size.
//!
//! A super-packet (TSO) is up to 64 KiB, and nobody knows before a system call which frame will be one. So such a
//! receive goes into a full-size buffer; the buffer travels with the packet and comes back when the packet is
//! dropped, on whichever thread that is. Each thread keeps some at hand, which are warm in its cache and on its NUMA
//! node (the kernel places pages where they are first touched); the rest wait in one list. At a limit there are
//! no more, and packets come from the heap (counted).

use packet::{HEADROOM, Packet, Pool};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The largest frame that a device hands over: 64 KiB of IP behind Ethernet and two tags.
pub const FRAME_MAX: usize = 65_536 + 14 + 8;
/// Large buffers: about 136 MiB when all were filled to the brim.
pub static LARGE: Buffers = Buffers::new(0, (HEADROOM + FRAME_MAX).next_multiple_of(4096), 2048, 96);
/// Bytes of a small buffer: an odd number of cache lines, so that they do not fall upon the same sets.
pub const SMALL_LEN: usize = 37 * 64;
/// Small buffers: about 150 MiB when all were used.
pub static SMALL: Buffers = Buffers::new(1, SMALL_LEN, 65_536, 256);
const KINDS: usize = 2;

/// Memory of one packet.
pub type Buffer = &'static mut [u8];

/// All buffers of one size.
pub struct Buffers {
    kind: usize,
    len: usize,
    limit: usize,
    /// How many a thread keeps.
    at_hand: usize,
    made: AtomicUsize,
    shared: Mutex<Vec<Buffer>>,
}

thread_local! {
    static HERE: RefCell<Local> = const { RefCell::new(Local([const { Vec::new() }; KINDS])) };
}

/// A thread's own buffers; given to the others when it ends.
struct Local([Vec<Buffer>; KINDS]);

impl Drop for Local {
    fn drop(&mut self) {
        for (own, all) in self.0.iter_mut().zip([&LARGE, &SMALL]) {
            all.shared.lock().append(own);
        }
    }
}

impl Buffers {
    const fn new(kind: usize, len: usize, limit: usize, at_hand: usize) -> Self {
        let made = AtomicUsize::new(0);
        Buffers { kind, len, limit, at_hand, made, shared: Mutex::new(Vec::new()) }
    }

    /// The calling thread's own list; `None` when the thread is about to end.
    #[inline]
    fn here<T>(&self, work: impl FnOnce(&mut Vec<Buffer>) -> T) -> Option<T> {
        HERE.try_with(|here| here.borrow_mut().0.get_mut(self.kind).map(work)).ok().flatten()
    }

    #[cold]
    fn refill(&self, list: &mut Vec<Buffer>) {
        let mut shared = self.shared.lock();
        let keep = shared.len().saturating_sub(self.at_hand / 2);
        list.extend(shared.drain(keep..));
    }

    /// A buffer with whatever was in it; `None` at the limit.
    #[inline]
    pub fn take(&self) -> Option<Buffer> {
        let local = self.here(|list| {
            if list.is_empty() {
                self.refill(list);
            }
            list.pop()
        });
        local.flatten().or_else(|| self.make())
    }

    /// Takes up to `n` buffers, those that are at hand, to `out`, which has room for them.
    #[inline]
    pub fn take_many<const N: usize>(&self, n: usize, out: &mut arrayvec::ArrayVec<Buffer, N>) {
        self.here(|list| {
            if list.len() < n {
                self.refill(list);
            }
            let keep = list.len().saturating_sub(n.min(out.remaining_capacity()));
            out.extend(list.drain(keep..));
        });
    }

    #[cold]
    fn make(&self) -> Option<Buffer> {
        let more = |n| (n < self.limit).then_some(n + 1);
        self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Box::leak(vec![0; self.len].into_boxed_slice()))
    }

    #[cold]
    fn spill(&self, list: &mut Vec<Buffer>) {
        let n = list.len() - self.at_hand / 2;
        self.shared.lock().extend(list.drain(..n));
    }

    /// Takes back what [`Buffers::take`] gave.
    #[inline]
    pub fn give(&self, buffer: Buffer) {
        self.give_many(std::iter::once(buffer));
    }

    /// As [`Buffers::give`], of many.
    #[inline]
    pub fn give_many(&self, buffers: impl Iterator<Item = Buffer>) {
        let mut buffers = Some(buffers);
        self.here(|list| {
            list.extend(buffers.take().into_iter().flatten());
            if list.len() > self.at_hand {
                self.spill(list);
            }
        });
        if let Some(buffers) = buffers {
            self.shared.lock().extend(buffers);
        }
    }
}

/// The pool that packets in large buffers name.
static POOL: Pool = Pool { name: "frames", release: |bytes| LARGE.give(bytes) };
static FROM_HEAP: AtomicU64 = AtomicU64::new(0);

/// An empty packet with [`HEADROOM`] in front and room for [`FRAME_MAX`] bytes.
pub fn packet() -> Packet {
    match LARGE.take() {
        Some(buffer) => Packet::from_pool(buffer, HEADROOM, 0, &POOL),
        None => {
            FROM_HEAP.fetch_add(1, Ordering::Relaxed);
            Packet::with_room(HEADROOM, FRAME_MAX)
        }
    }
}

/// How often there was no large buffer and the heap had to serve.
pub fn heap_fallbacks() -> u64 {
    FROM_HEAP.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_are_exclusive() {
        let mut a = packet();
        let mut b = packet();
        a.space_mut().fill(1);
        b.space_mut().fill(2);
        a.set_len(FRAME_MAX);
        b.set_len(FRAME_MAX);
        assert!(a.data().iter().all(|x| *x == 1) && b.data().iter().all(|x| *x == 2));
        let at = b.pool().map(|_| b.data().as_ptr()).expect("pool");
        std::thread::spawn(move || drop(b)).join().expect("thread");
        drop(a);
        // The other thread's end moved the buffer to the shared list.
        let held: Vec<_> = (0..LARGE.limit + 3).map(|_| packet()).collect();
        assert!(held.iter().any(|p| p.data().as_ptr() == at));
        assert!(heap_fallbacks() >= 3, "beyond the limit packets come from the heap");
    }

    #[test]
    fn many_come_and_go_at_once() {
        let mut some = arrayvec::ArrayVec::<Buffer, 32>::new();
        SMALL.take_many(32, &mut some);
        let had = some.len();
        SMALL.give_many((had..600).filter_map(|_| SMALL.make()).chain(some.drain(..)));
        assert!(SMALL.here(|list| list.len()).is_some_and(|n| n <= SMALL.at_hand));
        SMALL.take_many(32, &mut some);
        let mut places: Vec<_> = some.iter().map(|b| b.as_ptr()).collect();
        places.sort();
        places.dedup();
        assert_eq!((some.len(), places.len()), (32, 32));
    }
}
