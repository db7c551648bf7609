//! A part of the table, under a lock of its own.
//!
//! Connections stand in small chunks that never move; an index of hashes and slots, which grows without looking at a
//! connection, finds them. An *alias* leads from the key of translated replies to the
//! connection, which is usually in another shard.

use crate::conn::{Conn, ConnRef};
use crate::index::Index;
use crate::key::Key;
use crate::stock::{CHUNK, Chunk, Stock};
use hashbrown::HashTable;

/// Where [`Shard::find`] found a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The slot of the connection, and whether the key is that of its replies.
    Here { slot: u32, is_reply: bool },
    /// The key is that of translated replies of a connection made under this generation of its zone.
    Alias { target: ConnRef, generation: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Alias {
    key: Key,
    hash: u32,
    generation: u32,
    target: ConnRef,
}

/// Memory that a part does not need any more.
pub(crate) struct Spare {
    _index: Index,
    _chunks: Vec<Chunk>,
    _free: Vec<u32>,
}

/// In the order in which packets want it.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Shard {
    chunks: Vec<Chunk>,
    pub index: Index,
    free: Vec<u32>,
    /// Slots that were ever used.
    used: u32,
    serial: u32,
    aliases: HashTable<Alias>,
}

/// A hash of 32 bits as the table of aliases wants it: the top bits matter to it as much as the low ones.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Free slots that there is room for, if for any.
const FREE_MIN: usize = 256;

fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

impl Shard {
    /// Number of slots that may hold a connection, for walking.
    pub fn slots(&self) -> u32 {
        self.used
    }

    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Conn> {
        let (chunk, at) = place(slot);
        self.chunks.get(chunk)?.get(at)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Conn> {
        let (chunk, at) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(at)?.as_mut()
    }

    /// The connection at `r`, if it is still that one.
    #[inline]
    pub fn at_mut(&mut self, r: ConnRef) -> Option<&mut Conn> {
        self.get_mut(r.slot).filter(|c| c.serial == r.serial)
    }

    /// Both directions of a connection that is not translated; the original one of one that is; else aliases.
    #[inline]
    pub fn find(&self, hash: u32, key: &Key) -> Option<Found> {
        let mut is_reply = false;
        let slot = self.index.find(hash, |slot| {
            let Some(conn) = self.get(slot) else { return false };
            is_reply = conn.key != *key;
            !is_reply || (conn.nat().is_none() && conn.key.reversed() == *key)
        });
        if let Some(slot) = slot {
            return Some(Found::Here { slot, is_reply });
        }
        if self.aliases.is_empty() {
            return None;
        }
        let alias = self.aliases.find(spread(hash), |a| a.key == *key)?;
        Some(Found::Alias { target: alias.target, generation: alias.generation })
    }

    /// Puts a connection in. The caller has seen that its key is not there.
    pub fn insert(&mut self, mut conn: Conn, stock: &Stock) -> (u32, u32) {
        self.serial = self.serial.wrapping_add(1);
        conn.serial = self.serial;
        let hash = conn.hash;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        // One more than is needed, so that its memory can be asked for before the next connection.
        while self.chunks.len() <= place(self.used).0 {
            self.chunks.push(stock.take());
        }
        let (chunk, at) = place(slot);
        if let Some(place) = self.chunks.get_mut(chunk).and_then(|c| c.get_mut(at)) {
            *place = Some(conn);
        }
        self.index.insert(hash, slot);
        (slot, self.serial)
    }

    /// The address where the next connection goes, if there is memory for it already: for prefetches.
    pub fn next_address(&self) -> usize {
        let (chunk, at) = place(self.free.last().copied().unwrap_or(self.used));
        let place = self.chunks.get(chunk).and_then(|c| c.get(at));
        place.map_or(0, |place| std::ptr::from_ref(place) as usize)
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slot: u32) -> Option<Conn> {
        let (chunk, at) = place(slot);
        let conn = self.chunks.get_mut(chunk)?.get_mut(at)?.take()?;
        self.index.remove(conn.hash, slot);
        self.free.push(slot);
        Some(conn)
    }

    /// The memory of a storm, when it is over: to be dropped without the lock.
    pub fn let_go(&mut self) -> Option<Spare> {
        if !self.index.is_empty() || self.used == 0 {
            return None;
        }
        self.used = 0;
        let (chunks, free) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.free));
        Some(Spare { _index: std::mem::take(&mut self.index), _chunks: chunks, _free: free })
    }

    /// Makes room for another free slot with what `lent` has, which gets the smaller list. How much is to be lent, if it has
    /// too little.
    pub fn room_for_free(&mut self, lent: &mut Vec<u32>) -> usize {
        if self.free.len() < self.free.capacity() {
            return 0;
        }
        if lent.capacity() <= self.free.len() {
            return (self.free.len() * 8).max(FREE_MIN).min(self.used as usize).max(self.free.len() + 1);
        }
        lent.clear();
        lent.extend_from_slice(&self.free);
        std::mem::swap(&mut self.free, lent);
        0
    }

    /// Has what a removal of these slots and hashes looks at come into the cache, all of it at once.
    pub fn look_ahead(&self, slots: &[(u32, u32)]) {
        let seen = slots.iter().fold(0, |seen, (_, hash)| seen ^ self.index.peek(*hash));
        std::hint::black_box(seen);
    }

    pub fn insert_alias(&mut self, hash: u32, key: Key, generation: u32, target: ConnRef) {
        let alias = Alias { key, hash, generation, target };
        self.aliases.insert_unique(spread(hash), alias, |a| spread(a.hash));
    }

    /// Lets an alias lead to `target`.
    pub fn aim_alias(&mut self, hash: u32, key: &Key, target: ConnRef) {
        if let Some(alias) = self.aliases.find_mut(spread(hash), |a| a.key == *key) {
            alias.target = target;
        }
    }

    /// Removes an alias if it leads to `target`.
    pub fn remove_alias(&mut self, hash: u32, key: &Key, target: ConnRef) {
        if let Ok(entry) = self.aliases.find_entry(spread(hash), |a| a.key == *key && a.target == target) {
            entry.remove();
        }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}
