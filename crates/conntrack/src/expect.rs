//! Connections that a helper expects.

use crate::conn::NatState;
use crate::key::{Family, Key};
use dpif::NatDirection;
use flow::U128;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Expectations at a time.
pub const EXPECTATIONS_MAX: usize = 65_536;

/// What the data connection inherits from its control connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    pub parent: Key,
    pub parent_generation: u32,
    pub mark: u32,
    pub label: U128,
    /// If the data connection is to be translated: which address, and what it becomes in the replies' key.
    pub nat: (NatDirection, U128),
}

/// A control connection, as much of it as helpers need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    pub key: Key,
    pub reply: Key,
    pub nat: Option<NatState>,
    pub generation: u32,
    pub mark: u32,
    pub label: U128,
    pub seq_skew: i32,
    pub skew_in_reply: bool,
}

#[derive(Default)]
pub(crate) struct Expectations {
    count: AtomicUsize,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    /// By key with source port 0.
    by_key: HashMap<[u64; 5], Expectation>,
    /// Keys in `by_key` of what a control connection has announced.
    by_parent: HashMap<[u64; 6], Vec<[u64; 5]>>,
}

fn words(k: &Key) -> [u64; 5] {
    let ports = u64::from(k.dport) << 32 | u64::from(k.zone) << 16 | u64::from(k.proto);
    [k.src.hi, k.src.lo, k.dst.hi, k.dst.lo, ports]
}

fn parent_words(k: &Key) -> [u64; 6] {
    let [a, b, c, d, e] = words(k);
    [a, b, c, d, e, u64::from(k.sport) | u64::from(k.family == Family::V6) << 16]
}

impl Expectations {
    /// Whether nothing is expected.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// The expectation that the first packet of `key` fulfils. `is_current` says whether the parent lives.
    pub fn find(&self, key: &Key, is_current: impl Fn(u16, u32) -> bool) -> Option<Expectation> {
        if self.count.load(Relaxed) == 0 || key.is_icmp() {
            return None;
        }
        let found = self.all.lock().by_key.get(&words(key)).copied()?;
        is_current(found.parent.zone, found.parent_generation).then_some(found)
    }

    /// Expects a connection to `port`. In the direction opposite to the control connection's packet if
    /// that is a reply (`in_reply`). Says whether there was room.
    pub fn add(&self, parent: &Parent, port: u16, in_reply: bool) -> bool {
        let is_dnat = parent.nat.is_some_and(|n| n.direction == NatDirection::Dst);
        let (src, dst, nat) = if in_reply {
            let nat = match is_dnat {
                true => (NatDirection::Dst, parent.reply.src),
                false => (NatDirection::Src, parent.reply.dst),
            };
            (parent.key.src, parent.key.dst, nat)
        } else {
            let nat = match is_dnat {
                true => (NatDirection::Src, parent.key.dst),
                false => (NatDirection::Dst, parent.key.src),
            };
            (parent.reply.src, parent.reply.dst, nat)
        };
        let key = Key { src, dst, sport: 0, dport: port, ..parent.key };
        let mut all = self.all.lock();
        if all.by_key.len() >= EXPECTATIONS_MAX {
            return false;
        }
        let All { by_key, by_parent } = &mut *all;
        by_key.entry(words(&key)).or_insert_with(|| {
            by_parent.entry(parent_words(&parent.key)).or_default().push(words(&key));
            Expectation {
                parent: parent.key,
                parent_generation: parent.generation,
                mark: parent.mark,
                label: parent.label,
                nat,
            }
        });
        self.count.store(by_key.len(), Relaxed);
        true
    }

    /// Forgets what a control connection that is gone has announced.
    pub fn forget(&self, parent: &Key) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut all = self.all.lock();
        for key in all.by_parent.remove(&parent_words(parent)).unwrap_or_default() {
            all.by_key.remove(&key);
        }
        self.count.store(all.by_key.len(), Relaxed);
    }
}
