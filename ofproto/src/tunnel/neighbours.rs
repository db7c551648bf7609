//! Link-layer addresses of next hops, by bridge (ARP, RFC 826; Neighbor Discovery, RFC 4861).

use flow::EthAddr;
use hashbrown::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Longest aging time that may be configured, seconds.
pub const AGING_MAX_S: u32 = 3_600;
const AGING_DEFAULT_MS: u64 = 15 * 60 * 1000;
/// Entries of all bridges; beyond it, the one to expire first goes.
pub const NEIGHBOURS_MAX: usize = 65_536;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub mac: EthAddr,
    pub expires_ms: u64,
}

/// The cache.
#[derive(Clone, Debug)]
pub struct Neighbours {
    entries: HashMap<(Arc<str>, Ipv6Addr), Neighbour>,
    aging_ms: u64,
}

impl Default for Neighbours {
    fn default() -> Self {
        Neighbours { entries: HashMap::new(), aging_ms: AGING_DEFAULT_MS }
    }
}

impl Neighbours {
    pub fn lookup(&self, bridge: &Arc<str>, ip: Ipv6Addr, now_ms: u64) -> Option<EthAddr> {
        let entry = self.entries.get(&(bridge.clone(), ip))?;
        (entry.expires_ms > now_ms).then_some(entry.mac)
    }

    /// Somebody sent to the neighbour: it is still wanted.
    pub fn refresh(&mut self, bridge: &Arc<str>, ip: Ipv6Addr, now_ms: u64) {
        if let Some(entry) = self.entries.get_mut(&(bridge.clone(), ip))
            && entry.expires_ms > now_ms
        {
            entry.expires_ms = now_ms + self.aging_ms;
        }
    }

    /// Notes where a neighbour is; true if that is news.
    pub fn set(&mut self, bridge: &Arc<str>, ip: Ipv6Addr, mac: EthAddr, now_ms: u64) -> bool {
        if self.entries.len() >= NEIGHBOURS_MAX && !self.entries.contains_key(&(bridge.clone(), ip)) {
            let first = self.entries.iter().min_by_key(|(_, e)| e.expires_ms).map(|(k, _)| k.clone());
            first.map(|key| self.entries.remove(&key));
        }
        let new = Neighbour { mac, expires_ms: now_ms + self.aging_ms };
        let old = self.entries.insert((bridge.clone(), ip), new);
        old.is_none_or(|old| old.mac != mac || old.expires_ms <= now_ms)
    }

    /// Forgets those that nobody used for long; true if there were any.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, e| e.expires_ms > now_ms);
        self.entries.len() != before
    }

    /// Forgets all, or those of one bridge; true if there were any.
    pub fn flush(&mut self, bridge: Option<&str>) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(b, _), _| bridge.is_some_and(|name| **b != *name));
        self.entries.len() != before
    }

    pub fn aging_s(&self) -> u64 {
        self.aging_ms / 1000
    }

    /// Sets the aging time in seconds, 1 to [`AGING_MAX_S`]; entries that would live longer no longer do.
    pub fn set_aging(&mut self, seconds: u32, now_ms: u64) {
        self.aging_ms = u64::from(seconds.clamp(1, AGING_MAX_S)) * 1000;
        let latest = now_ms + self.aging_ms;
        self.entries.values_mut().for_each(|e| e.expires_ms = e.expires_ms.min(latest));
    }

    /// Bridge, address and entry of each.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Ipv6Addr, &Neighbour)> {
        self.entries.iter().map(|((bridge, ip), e)| (bridge, *ip, e))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_live_as_long_as_they_are_used() {
        let mut n = Neighbours::default();
        let (br0, br1): (Arc<str>, Arc<str>) = ("br0".into(), "br1".into());
        let (ip, mac) = (Ipv6Addr::LOCALHOST, EthAddr::from_u64(7));
        n.set_aging(5, 0);
        assert!(n.set(&br0, ip, mac, 0) && !n.set(&br0, ip, mac, 1));
        assert_eq!(n.lookup(&br0, ip, 5000), Some(mac));
        assert_eq!(n.lookup(&br1, ip, 0), None);
        n.refresh(&br0, ip, 4000);
        assert!(!n.expire(8999) && n.expire(9000) && n.is_empty());
        assert!(n.set(&br0, ip, mac, 9000) && n.set(&br0, ip, EthAddr::from_u64(8), 9001));
        assert!(!n.flush(Some("br1")) && n.flush(Some("br0")) && !n.flush(None));
        n.set(&br0, ip, mac, 9000);
        n.set_aging(1, 9000);
        assert_eq!(n.lookup(&br0, ip, 10_000), None);
    }
}
