//! The MAC learning table of one switch (`fdb/*` commands, NORMAL).
//!
//! Bounded: at the limit, an entry makes room in the bundle that holds the most, so that one port that
//! sprays source addresses only evicts its own. Time in milliseconds of the switch's clock.

use crate::ids::BundleId;
use flow::EthAddr;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// `other_config:mac-table-size` when unset.
pub const DEFAULT_MAX: usize = 8192;
/// `other_config:mac-aging-time` when unset.
pub const DEFAULT_IDLE_MS: u64 = 300_000;
/// After a gratuitous ARP moved an entry, reflections from a bond are ignored for so long.
pub const GRAT_ARP_LOCK_MS: u64 = 5_000;

/// What is known of one address in one VLAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub bundle: BundleId,
    /// `None` for an entry made by `fdb/add`, which neither ages nor moves.
    pub expires_ms: Option<u64>,
    /// When its packet that came last came.
    pub seen_ms: u64,
    pub grat_arp_until_ms: u64,
    /// Orders entries by last use, for eviction.
    stamp: u64,
}

/// What a call to [`MacTable::learn`] changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learned {
    Refreshed,
    New,
    Moved,
}

/// Totals for `fdb/stats-show`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub learned: u64,
    pub expired: u64,
    pub evicted: u64,
    pub moved: u64,
}

type Key = (u16, EthAddr);

#[derive(Debug)]
pub struct MacTable {
    entries: HashMap<Key, Entry>,
    /// Entries of each bundle by stamp, oldest first; static ones are not in here.
    by_bundle: HashMap<BundleId, BTreeMap<u64, Key>>,
    max: usize,
    idle_ms: u64,
    next_stamp: u64,
    /// VLANs in which NORMAL learns nothing (`Bridge.flood_vlans`).
    pub flood_vlans: Option<crate::port::VlanSet>,
    pub totals: Totals,
}

impl Default for MacTable {
    fn default() -> Self {
        MacTable {
            entries: HashMap::new(),
            by_bundle: HashMap::new(),
            max: DEFAULT_MAX,
            idle_ms: DEFAULT_IDLE_MS,
            next_stamp: 0,
            flood_vlans: None,
            totals: Totals::default(),
        }
    }
}

impl MacTable {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn static_len(&self) -> usize {
        self.entries.values().filter(|e| e.expires_ms.is_none()).count()
    }

    /// Sets the limits: entries (at least 10, at most a million) and idle time.
    pub fn configure(&mut self, max: usize, idle_ms: u64) {
        self.max = max.clamp(10, 1_000_000);
        self.idle_ms = idle_ms.max(1_000);
        while self.entries.len() > self.max {
            if !self.evict_one() {
                break;
            }
        }
    }

    /// Whether NORMAL learns in `vlan`.
    pub fn may_learn(&self, mac: EthAddr, vlan: u16) -> bool {
        !mac.is_multicast() && !self.flood_vlans.as_ref().is_some_and(|f| f.contains(vlan))
    }

    /// The bundle that leads to `mac`, if known.
    pub fn lookup(&self, mac: EthAddr, vlan: u16) -> Option<&Entry> {
        if self.flood_vlans.as_ref().is_some_and(|f| f.contains(vlan)) {
            return None;
        }
        self.entries.get(&(vlan, mac))
    }

    /// Notes that `mac` was seen as a source in `vlan` on `bundle` at `now_ms`. `grat_arp` marks a gratuitous ARP that
    /// came in on a bond: reflections of it are to be ignored for a while.
    pub fn learn(
        &mut self,
        mac: EthAddr,
        vlan: u16,
        bundle: BundleId,
        now_ms: u64,
        grat_arp: bool,
    ) -> Learned {
        let key = (vlan, mac);
        let expires_ms = Some(now_ms + self.idle_ms);
        let grat_arp_until_ms = if grat_arp { now_ms + GRAT_ARP_LOCK_MS } else { 0 };
        let stamp = self.stamp();
        let Some(e) = self.entries.get_mut(&key) else {
            if self.entries.len() >= self.max {
                self.evict_one();
            }
            let entry = Entry { bundle, expires_ms, seen_ms: now_ms, grat_arp_until_ms, stamp };
            self.entries.insert(key, entry);
            self.by_bundle.entry(bundle).or_default().insert(stamp, key);
            self.totals.learned += 1;
            return Learned::New;
        };
        // What a megaflow's packets taught is credited later: it does not undo what is newer.
        if e.expires_ms.is_none() || now_ms < e.seen_ms {
            return Learned::Refreshed;
        }
        let old = *e;
        *e = Entry { bundle, expires_ms, seen_ms: now_ms, stamp, ..old };
        e.grat_arp_until_ms = grat_arp_until_ms.max(old.grat_arp_until_ms);
        self.unlink(&old);
        self.by_bundle.entry(bundle).or_default().insert(stamp, key);
        if old.bundle == bundle {
            Learned::Refreshed
        } else {
            self.totals.moved += 1;
            Learned::Moved
        }
    }

    /// `fdb/add`: an entry that stays until it is deleted. Replaces what was there.
    pub fn add_static(&mut self, mac: EthAddr, vlan: u16, bundle: BundleId, now_ms: u64) {
        self.remove(mac, vlan);
        let stamp = self.stamp();
        let entry = Entry { bundle, expires_ms: None, seen_ms: now_ms, grat_arp_until_ms: 0, stamp };
        self.entries.insert((vlan, mac), entry);
    }

    /// Forgets one entry and says whether it was there.
    pub fn remove(&mut self, mac: EthAddr, vlan: u16) -> bool {
        match self.entries.remove(&(vlan, mac)) {
            Some(e) => {
                self.unlink(&e);
                true
            }
            None => false,
        }
    }

    /// Forgets everything, static entries too.
    pub fn flush(&mut self) {
        self.entries.clear();
        self.by_bundle.clear();
    }

    /// Forgets all that leads to `bundle`; says whether there was anything.
    pub fn flush_bundle(&mut self, bundle: BundleId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, e| e.bundle != bundle);
        self.by_bundle.remove(&bundle);
        before != self.entries.len()
    }

    /// Drops what has not been seen for the idle time; says whether there was anything.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, e)| e.expires_ms.is_some_and(|t| t <= now_ms))
            .map(|(k, _)| *k)
            .collect();
        for (vlan, mac) in &gone {
            self.remove(*mac, *vlan);
        }
        self.totals.expired += gone.len() as u64;
        !gone.is_empty()
    }

    /// Seconds since the entry was last refreshed.
    pub fn age_s(&self, e: &Entry, now_ms: u64) -> u64 {
        now_ms.saturating_sub(e.seen_ms) / 1000
    }

    /// All entries, least recently used first: VLAN, address, entry.
    pub fn iter(&self) -> Vec<(u16, EthAddr, Entry)> {
        let mut all: Vec<_> = self.entries.iter().map(|((v, m), e)| (*v, *m, *e)).collect();
        all.sort_by_key(|(_, _, e)| e.stamp);
        all
    }

    fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    fn unlink(&mut self, e: &Entry) {
        if let Some(list) = self.by_bundle.get_mut(&e.bundle) {
            list.remove(&e.stamp);
            if list.is_empty() {
                self.by_bundle.remove(&e.bundle);
            }
        }
    }

    /// Evicts the least recently used entry of the bundle with the most.
    fn evict_one(&mut self) -> bool {
        let fullest = self.by_bundle.values().max_by_key(|l| l.len());
        let Some((_, (vlan, mac))) = fullest.and_then(|l| l.iter().next()).map(|(s, k)| (*s, *k)) else {
            return false;
        };
        self.totals.evicted += 1;
        self.remove(mac, vlan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> EthAddr {
        EthAddr::from_u64(n << 8)
    }

    #[test]
    fn learns_moves_and_expires() {
        let mut t = MacTable::default();
        let (a, b) = (BundleId(1), BundleId(2));
        assert_eq!(t.learn(mac(1), 5, a, 0, false), Learned::New);
        assert_eq!(t.learn(mac(1), 5, a, 10, false), Learned::Refreshed);
        assert_eq!(t.learn(mac(1), 5, b, 20, false), Learned::Moved);
        assert_eq!(t.learn(mac(1), 5, a, 19, false), Learned::Refreshed, "older than the move");
        assert_eq!(t.lookup(mac(1), 5).map(|e| e.bundle), Some(b));
        assert!(t.lookup(mac(1), 6).is_none());
        assert!(!t.expire(20 + DEFAULT_IDLE_MS - 1));
        assert!(t.expire(20 + DEFAULT_IDLE_MS));
        assert!(t.is_empty() && t.by_bundle.is_empty());
    }

    #[test]
    fn a_spraying_port_evicts_only_its_own() {
        let mut t = MacTable::default();
        t.configure(10, 1_000);
        for i in 0..3 {
            t.learn(mac(i), 0, BundleId(1), 0, false);
        }
        for i in 100..1_000 {
            t.learn(mac(i), 0, BundleId(2), 1, false);
        }
        assert_eq!(t.len(), 10);
        assert!((0..3).all(|i| t.lookup(mac(i), 0).is_some()));
    }

    #[test]
    fn static_entries_stay() {
        let mut t = MacTable::default();
        t.add_static(mac(1), 0, BundleId(1), 0);
        assert_eq!(t.learn(mac(1), 0, BundleId(2), 5, false), Learned::Refreshed);
        assert_eq!(t.lookup(mac(1), 0).map(|e| e.bundle), Some(BundleId(1)));
        assert!(!t.expire(u64::MAX));
    }
}
