//! Memory that is there before it is needed. The first touch of a page costs microseconds, that of a huge one
//! milliseconds; a thread that makes connections is to wait for neither. Another one ([`Conntrack::restock`]) touches
//! memory ahead and has indices grow.

use crate::conn::Conn;
use crate::track::{Conntrack, SHARDS};
use crossbeam_queue::ArrayQueue;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Connections of one chunk.
pub(crate) const CHUNK: usize = 4;
/// Chunks in stock, at most: 32 MiB for threads that poll, which make millions of connections a second; else 2 MiB.
const CHUNKS_MAX: usize = 65_536;
const CHUNKS_FEW: usize = 4_096;

/// Indices that are made before any of them is handed over.
const GROW_AT_ONCE: usize = 64;

pub(crate) type Chunk = Box<[Option<Conn>; CHUNK]>;

fn new_chunk() -> Chunk {
    Box::new([const { None }; CHUNK])
}

pub(crate) struct Stock {
    /// None before there was a connection.
    chunks: OnceLock<ArrayQueue<Chunk>>,
    /// Parts of the table whose index is rather full, and how many buckets they should have.
    full: ArrayQueue<(u32, usize)>,
    /// Somebody was asked to see to it, or is to be.
    is_asked: AtomicBool,
    wants: AtomicBool,
    /// How many chunks there should be.
    target: AtomicUsize,
}

impl Stock {
    pub fn new() -> Self {
        Stock {
            chunks: OnceLock::new(),
            full: ArrayQueue::new(SHARDS),
            is_asked: AtomicBool::new(false),
            wants: AtomicBool::new(false),
            target: AtomicUsize::new(CHUNKS_FEW),
        }
    }

    pub fn take(&self) -> Chunk {
        // Somebody should see to it when an eighth of it is gone.
        if self.len() * 8 < self.target.load(Relaxed) * 7 {
            self.ask();
        }
        // Not the last one: who puts it there may have lost its core half-way.
        let chunks = self.chunks.get().filter(|chunks| chunks.len() > 1);
        chunks.and_then(ArrayQueue::pop).unwrap_or_else(new_chunk)
    }

    /// Chunks in stock.
    fn len(&self) -> usize {
        self.chunks.get().map_or(0, ArrayQueue::len)
    }

    /// The index of a part has become rather full.
    pub fn note_full(&self, shard: u32, wanted: usize) {
        // What finds no room here grows by itself later.
        let _ = self.full.push((shard, wanted));
        self.ask();
    }

    fn ask(&self) {
        if !self.is_asked.load(Relaxed) {
            self.is_asked.store(true, Relaxed);
            self.wants.store(true, Relaxed);
        }
    }
}

/// What can be known of a part of the table without its lock, to ask for memory ahead: addresses that may be old.
#[derive(Default)]
pub(crate) struct Hint {
    buckets: AtomicUsize,
    last_bucket: AtomicUsize,
    /// Where the next connection goes.
    next: AtomicUsize,
    /// Slots that may hold a connection.
    slots: AtomicU32,
}

impl Hint {
    pub fn set_index(&self, (buckets, last): (usize, usize)) {
        self.buckets.store(buckets, Relaxed);
        self.last_bucket.store(last, Relaxed);
    }

    pub fn set_next(&self, next: usize) {
        self.next.store(next, Relaxed);
    }

    pub fn set_slots(&self, slots: u32) {
        self.slots.store(slots, Relaxed);
    }

    /// Whether the part holds nothing, not even what is dead.
    pub fn is_unused(&self) -> bool {
        self.slots.load(Relaxed) == 0
    }

    pub fn bucket(&self, hash: u32) -> usize {
        let at = hash as usize & self.last_bucket.load(Relaxed);
        self.buckets.load(Relaxed).wrapping_add(at * 64)
    }

    pub fn next(&self) -> usize {
        self.next.load(Relaxed)
    }
}

impl Conntrack {
    /// Whether somebody should call [`Conntrack::restock`] soon; says so once.
    #[inline]
    pub fn wants_restock(&self) -> bool {
        self.stock.wants.load(Relaxed) && self.stock.wants.swap(false, Relaxed)
    }

    /// Threads that poll track packets: more memory is set aside from now on.
    #[inline]
    pub fn expect_many(&self) {
        if self.stock.target.load(Relaxed) != CHUNKS_MAX {
            self.stock.target.store(CHUNKS_MAX, Relaxed);
        }
    }

    /// Fills up the stock of memory, once there was a connection, and has indices grow. By one thread, which is not one
    /// that tracks packets.
    pub fn restock(&self) {
        let stock = &self.stock;
        if !stock.is_asked.swap(false, Relaxed) {
            return;
        }
        let chunks = stock.chunks.get_or_init(|| ArrayQueue::new(CHUNKS_MAX));
        // Growing waits for polling threads, which go on to make connections: first they get their chunks.
        loop {
            while chunks.len() < stock.target.load(Relaxed) && chunks.push(new_chunk()).is_ok() {}
            if !self.grow_some() {
                return;
            }
        }
    }

    /// Gives larger indices to some parts. Says whether there may be more that want one.
    fn grow_some(&self) -> bool {
        let mut wanted = Vec::with_capacity(GROW_AT_ONCE);
        while let Some(part) = (wanted.len() < GROW_AT_ONCE).then(|| self.stock.full.pop()).flatten() {
            wanted.push(part);
        }
        self.grow_all(&wanted);
        wanted.len() == GROW_AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{A, B, udp};
    use crate::{Family, PacketCt, Request};

    #[test]
    fn memory_and_indices_are_there_before_they_are_needed() {
        let ct = Conntrack::new(5);
        ct.restock();
        assert!(ct.stock.chunks.get().is_none() && !ct.wants_restock(), "nobody has tracked anything");
        let request = Request { commit: true, ..Request::default() };
        let connect = |i: u32| {
            let mut p = udp((A + i / 60_000, 1 + (i % 60_000) as u16), (B, 53));
            ct.process(&mut p, Family::V4, &mut PacketCt::default(), &request, 5);
        };
        connect(0);
        assert!(ct.wants_restock() && !ct.wants_restock(), "once");
        ct.restock();
        assert_eq!(ct.stock.len(), CHUNKS_FEW);
        ct.expect_many();
        for i in 1..60_000 {
            connect(i);
            if ct.wants_restock() {
                ct.restock();
            }
        }
        assert!(ct.stock.len() >= CHUNKS_MAX / 8 * 7 - 1 && ct.stock.full.is_empty());
        assert_eq!((ct.len(), ct.stored()), (60_000, 60_000));
        // Indices grew while they had room, and no connection was lost on the way.
        let waiting = (0..SHARDS as u32).filter(|s| ct.part(*s).lock().index.wanted().is_some()).count();
        assert_eq!(waiting, 0);
        (0..60_000).for_each(connect);
        assert_eq!(ct.len(), 60_000);
    }
}
