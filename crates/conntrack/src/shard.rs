//! A part of the table, under a lock of its own.
//!
//! Connections stand in chunks that never move, so that growth is bounded work; an open-addressed index of
//! hashes and slots, which grows without looking at a connection, finds them. An *alias* leads from the key of translated replies to the
//! connection, which is usually in another shard.

use crate::conn::{Conn, ConnRef};
use crate::key::Key;
use hashbrown::HashTable;

/// Connections of one chunk.
const CHUNK: usize = 32;

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

/// Where a connection with this hash is.
#[derive(Clone, Copy, Debug)]
struct Spot {
    hash: u32,
    slot: u32,
}

#[derive(Default)]
pub(crate) struct Shard {
    index: HashTable<Spot>,
    aliases: HashTable<Alias>,
    /// Each has room for [`CHUNK`] from the start, and is filled one by one: memory is touched when it is used.
    chunks: Vec<Vec<Option<Conn>>>,
    free: Vec<u32>,
    /// Slots that were ever used.
    used: u32,
    serial: u32,
}

/// A hash of 32 bits as the index wants it: the top bits matter to it as much as the low ones.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

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
    pub fn at_mut(&mut self, r: ConnRef) -> Option<&mut Conn> {
        self.get_mut(r.slot).filter(|c| c.serial == r.serial)
    }

    /// Both directions of a connection that is not translated; the original one of one that is; else aliases.
    #[inline]
    pub fn find(&self, hash: u32, key: &Key) -> Option<Found> {
        let mut is_reply = false;
        let spot = self.index.find(spread(hash), |spot| {
            let Some(conn) = self.get(spot.slot).filter(|_| spot.hash == hash) else { return false };
            is_reply = conn.key != *key;
            !is_reply || (conn.nat().is_none() && conn.key.reversed() == *key)
        });
        if let Some(spot) = spot {
            return Some(Found::Here { slot: spot.slot, is_reply });
        }
        if self.aliases.is_empty() {
            return None;
        }
        let alias = self.aliases.find(spread(hash), |a| a.key == *key)?;
        Some(Found::Alias { target: alias.target, generation: alias.generation })
    }

    /// Puts a connection in. The caller has seen that its key is not there.
    pub fn insert(&mut self, mut conn: Conn) -> (u32, u32) {
        self.serial = self.serial.wrapping_add(1);
        conn.serial = self.serial;
        let hash = conn.hash;
        let slot = match self.free.pop() {
            Some(slot) => {
                let (chunk, at) = place(slot);
                if let Some(place) = self.chunks.get_mut(chunk).and_then(|c| c.get_mut(at)) {
                    *place = Some(conn);
                }
                slot
            }
            None => self.append(conn),
        };
        self.index.insert_unique(spread(hash), Spot { hash, slot }, |spot| spread(spot.hash));
        (slot, self.serial)
    }

    /// Puts a connection behind all slots that were ever used.
    fn append(&mut self, conn: Conn) -> u32 {
        let slot = self.used;
        self.used += 1;
        if place(slot).0 >= self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(Some(conn));
        }
        slot
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slot: u32) -> Option<Conn> {
        let (chunk, at) = place(slot);
        let conn = self.chunks.get_mut(chunk)?.get_mut(at)?.take()?;
        if let Ok(entry) = self.index.find_entry(spread(conn.hash), |s| s.slot == slot) {
            entry.remove();
        }
        self.free.push(slot);
        if self.index.is_empty() {
            // The memory of a storm goes back when it is over.
            self.index = HashTable::new();
            (self.chunks, self.free, self.used) = (Vec::new(), Vec::new(), 0);
        }
        Some(conn)
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
