//! Routes to tunnel endpoints: the longest prefix wins, routes given by hand before the system's.

use flow::EthAddr;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// Addresses of a device that packets can leave by. IPv4 addresses are mapped, prefix lengths out of 128.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    pub mac: EthAddr,
    pub is_loopback: bool,
    pub ips: Vec<(Ipv6Addr, u8)>,
}

pub type Devices = BTreeMap<String, Device>;

/// Who made a route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RouteSource {
    /// `ovs/route/add`.
    User,
    /// The kernel.
    System {
        /// To an address of this host.
        is_local: bool,
    },
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteEntry {
    pub dst: Ipv6Addr,
    pub prefix_len: u8,
    pub mark: u32,
    pub device: String,
    pub gateway: Ipv6Addr,
    /// The address to send from.
    pub src: Ipv6Addr,
    pub source: RouteSource,
}

impl RouteEntry {
    /// Greater goes first, before the prefix's length decides nothing more.
    fn priority(&self) -> u16 {
        let extra = match self.source {
            RouteSource::User => 32,
            RouteSource::System { is_local: true } => 64,
            RouteSource::System { is_local: false } => 0,
        };
        u16::from(self.prefix_len) + extra
    }

    fn covers(&self, ip: Ipv6Addr, mark: u32) -> bool {
        self.mark == mark && mask(ip, self.prefix_len) == self.dst
    }

    fn is_local(&self) -> bool {
        matches!(self.source, RouteSource::System { is_local: true })
    }
}

/// The way to an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub device: String,
    /// `::` if there is none.
    pub gateway: Ipv6Addr,
    pub src: Ipv6Addr,
}

fn mask(ip: Ipv6Addr, prefix_len: u8) -> Ipv6Addr {
    let bits = u32::from(prefix_len.min(128));
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Ipv6Addr::from(u128::from(ip) & mask)
}

/// Key of a route: mark, prefix length, destination, source.
type Key = (u32, u8, Ipv6Addr, RouteSource);

/// All routes.
#[derive(Clone, Debug, Default)]
pub struct Router {
    routes: BTreeMap<Key, RouteEntry>,
    /// Combinations of mark, prefix length and source in use, with the number of their routes: what a lookup tries.
    shapes: BTreeMap<(u32, u8, RouteSource), usize>,
}

impl Router {
    /// The address of `device` to reach `dst` from: the one whose network has it and is smallest.
    pub fn source_for(devices: &Devices, dst: Ipv6Addr, device: &str) -> Option<Ipv6Addr> {
        let is_v4 = dst.to_ipv4_mapped().is_some();
        let ips = devices.get(device)?.ips.iter();
        let near = ips.filter(|(ip, len)| {
            (!is_v4 || ip.to_ipv4_mapped().is_some()) && mask(*ip, *len) == mask(dst, *len)
        });
        // Of equal ones the first.
        near.rev().max_by_key(|(_, len)| *len).map(|(ip, _)| *ip)
    }

    /// Adds a route, in place of one of the same kind to the same network. False if its device has no address to
    /// send from.
    pub fn insert(&mut self, devices: &Devices, mut route: RouteEntry) -> bool {
        let by_dst = Self::source_for(devices, route.dst, &route.device);
        let src = by_dst.or_else(|| {
            let has_gateway = !route.gateway.is_unspecified();
            has_gateway.then(|| Self::source_for(devices, route.gateway, &route.device)).flatten()
        });
        let Some(src) = src else { return false };
        route.src = src;
        self.put(route);
        true
    }

    /// As [`Router::insert`], with the source address as it is.
    pub(super) fn put(&mut self, mut route: RouteEntry) {
        route.dst = mask(route.dst, route.prefix_len);
        let shape = (route.mark, route.prefix_len, route.source);
        let key = (route.mark, route.prefix_len, route.dst, route.source);
        if self.routes.insert(key, route).is_none() {
            *self.shapes.entry(shape).or_default() += 1;
        }
    }

    /// Removes a route that was given by hand.
    pub fn remove_user(&mut self, dst: Ipv6Addr, prefix_len: u8, mark: u32) -> bool {
        self.remove((mark, prefix_len, self::mask(dst, prefix_len), RouteSource::User))
    }

    fn remove(&mut self, key: Key) -> bool {
        let (mark, len, _, source) = key;
        if self.routes.remove(&key).is_none() {
            return false;
        }
        if let Some(n) = self.shapes.get_mut(&(mark, len, source)) {
            *n -= 1;
            if *n == 0 {
                self.shapes.remove(&(mark, len, source));
            }
        }
        true
    }

    /// Forgets what came from the system.
    pub fn flush_system(&mut self) {
        self.routes.retain(|_, r| r.source == RouteSource::User);
        self.shapes.retain(|(_, _, source), _| *source == RouteSource::User);
    }

    /// Looks anew for the addresses that routes given by hand are sent from; one that has none any more keeps it.
    pub fn refresh_user(&mut self, devices: &Devices) {
        let user: Vec<RouteEntry> =
            self.routes.values().filter(|r| r.source == RouteSource::User).cloned().collect();
        for route in user {
            self.insert(devices, route);
        }
    }

    fn find(&self, ip: Ipv6Addr, mark: u32) -> Option<&RouteEntry> {
        let shapes = self.shapes.keys().filter(|(m, ..)| *m == mark);
        let found = shapes.filter_map(|(_, len, source)| {
            self.routes.get(&(mark, *len, self::mask(ip, *len), *source)).filter(|r| r.covers(ip, mark))
        });
        found.max_by_key(|r| r.priority())
    }

    /// The way to `dst`. With a `src`, only if that is an address of this host, which then stays.
    pub fn lookup(&self, mark: u32, dst: Ipv6Addr, src: Option<Ipv6Addr>) -> Option<Route> {
        if let Some(src) = src {
            self.find(src, mark).filter(|r| r.is_local())?;
        }
        let r = self.find(dst, mark)?;
        Some(Route { device: r.device.clone(), gateway: r.gateway, src: src.unwrap_or(r.src) })
    }

    /// Routes, the first to be tried first.
    pub fn routes(&self) -> Vec<&RouteEntry> {
        let mut all: Vec<&RouteEntry> = self.routes.values().collect();
        all.sort_by_key(|r| std::cmp::Reverse(r.priority()));
        all
    }

    /// Devices that routes lead to.
    pub fn devices(&self) -> std::collections::BTreeSet<&str> {
        self.routes.values().map(|r| r.device.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpif::tunnel::mapped;

    fn devices() -> Devices {
        let br0 = Device {
            ips: vec![(mapped(0x0101_0258), 120), ("fd00::1".parse().unwrap(), 64)],
            ..Device::default()
        };
        BTreeMap::from([("br0".to_owned(), br0), ("br1".to_owned(), Device::default())])
    }

    fn route(dst: u32, len: u8, source: RouteSource) -> RouteEntry {
        RouteEntry {
            dst: mapped(dst),
            prefix_len: 96 + len,
            mark: 0,
            device: "br0".into(),
            gateway: Ipv6Addr::UNSPECIFIED,
            src: Ipv6Addr::UNSPECIFIED,
            source,
        }
    }

    #[test]
    fn longest_prefix_of_the_mark_wins() {
        let (mut r, d) = (Router::default(), devices());
        assert!(r.insert(&d, route(0x0101_0200, 24, RouteSource::User)));
        let far = RouteEntry { gateway: mapped(0x0101_0201), ..route(0, 0, RouteSource::User) };
        assert!(r.insert(&d, far.clone()));
        assert!(r.insert(&d, RouteEntry { mark: 7, ..far }));
        let found = r.lookup(0, mapped(0x0101_0299), None).unwrap();
        assert_eq!((found.gateway, found.src), (Ipv6Addr::UNSPECIFIED, mapped(0x0101_0258)));
        assert_eq!(r.lookup(0, mapped(0x0909_0909), None).unwrap().gateway, mapped(0x0101_0201));
        assert_eq!(r.lookup(7, mapped(0x0101_0299), None).unwrap().gateway, mapped(0x0101_0201));
        assert!(r.lookup(8, mapped(0x0101_0299), None).is_none());
        assert!(r.lookup(0, "fd00::2".parse().unwrap(), None).is_none());
        assert!(r.remove_user(mapped(0x0101_0277), 120, 0) && !r.remove_user(mapped(0x0101_0277), 120, 0));
        assert_eq!(r.lookup(0, mapped(0x0101_0299), None).unwrap().gateway, mapped(0x0101_0201));
    }

    #[test]
    fn a_given_source_must_be_local() {
        let (mut r, d) = (Router::default(), devices());
        assert!(r.insert(&d, route(0x0101_0200, 24, RouteSource::System { is_local: false })));
        let own = mapped(0x0101_0258);
        assert!(r.lookup(0, mapped(0x0101_0299), Some(own)).is_none());
        assert!(r.insert(&d, route(0x0101_0258, 32, RouteSource::System { is_local: true })));
        assert_eq!(r.lookup(0, mapped(0x0101_0299), Some(own)).unwrap().src, own);
        r.flush_system();
        assert!(r.routes().is_empty() && r.lookup(0, own, None).is_none());
    }

    #[test]
    fn a_route_needs_an_address_to_send_from() {
        let (mut r, d) = (Router::default(), devices());
        assert!(
            !r.insert(&d, RouteEntry { device: "br1".into(), ..route(0x0101_0200, 24, RouteSource::User) })
        );
        assert!(!r.insert(&d, route(0x0909_0900, 24, RouteSource::User)));
        let via = RouteEntry { gateway: mapped(0x0101_0201), ..route(0x0909_0900, 24, RouteSource::User) };
        assert!(r.insert(&d, via));
    }
}
