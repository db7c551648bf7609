//! Address and port translation: what a new connection gets, and what is written into packets.

use crate::conn::NatState;
use crate::extract::quoted_l4_offset;
use crate::key::{Family, Key};
use dpif::{Nat, NatAddr, NatDirection};
use flow::{U128, ct_state, hash::mix};
use packet::checksum::{finish, pseudo_v6, sum, update_bytes, update16};
use packet::edit::{set_ipv4, set_ipv6, set_tcp, set_udp};
use packet::header::{Ipv4Key, Ipv6Key, Masked, PortsKey};
use packet::proto::{header_len, ip_proto};
use packet::{Checksum, Packet};

/// What is done to one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NatAction {
    /// The packet's key when it is done.
    target: Key,
    /// Which address of the packet changes.
    direction: NatDirection,
}

fn opposite(direction: NatDirection) -> NatDirection {
    match direction {
        NatDirection::Src => NatDirection::Dst,
        NatDirection::Dst => NatDirection::Src,
    }
}

impl NatAction {
    pub fn new(key: &Key, nat: &NatState, is_reply: bool) -> Self {
        match is_reply {
            false => NatAction { target: nat.reply.reversed(), direction: nat.direction },
            true => NatAction { target: key.reversed(), direction: opposite(nat.direction) },
        }
    }

    /// The bit of `ct_state` that says what was done.
    pub fn state_bit(&self) -> u32 {
        match self.direction {
            NatDirection::Src => ct_state::SNAT,
            NatDirection::Dst => ct_state::DNAT,
        }
    }

    /// Translates a packet; of an ICMP error (`is_related`) also what it quotes.
    pub fn apply(&self, p: &mut Packet, is_related: bool) {
        set_address(p, &self.target, self.direction);
        if is_related {
            self.apply_to_quoted(p);
            return;
        }
        let ports = PortsKey { src: self.target.sport, dst: self.target.dport };
        let ports = Masked { key: ports, mask: PortsKey { src: u16::MAX, dst: u16::MAX } };
        match self.target.proto {
            ip_proto::TCP => set_tcp(p, &ports),
            ip_proto::UDP => set_udp(p, &ports),
            _ => {}
        }
    }

    /// The quoted packet went the other way, so its addresses change places.
    fn apply_to_quoted(&self, p: &mut Packet) {
        let end = p.len().saturating_sub(usize::from(p.l2_pad));
        let start = usize::from(p.l4_ofs);
        let Some(quoted_l4) =
            p.data().get(start..end).and_then(|l4| quoted_l4_offset(l4, self.target.family))
        else {
            return;
        };
        let Some(l4) = p.data_mut().get_mut(start..end) else { return };
        let Some((headers, transport)) = l4.split_at_mut_checked(quoted_l4) else { return };
        let Some(network) = headers.get_mut(header_len::ICMP..) else { return };
        let inner = self.target.reversed();
        let (old, new) = write_quoted_address(network, &inner, opposite(self.direction));
        write_quoted_ports(transport, &inner, &old, &new);
        let partial =
            matches!(p.offload.checksum, Checksum::Partial { start: s, .. } if usize::from(s) == start);
        if !partial {
            sum_icmp(p, start, end, self.target.family);
        }
    }
}

fn set_address(p: &mut Packet, to: &Key, direction: NatDirection) {
    let src = direction == NatDirection::Src;
    match to.family {
        Family::V4 => {
            let key = Ipv4Key { src: to.src.lo as u32, dst: to.dst.lo as u32, ..Ipv4Key::default() };
            let (s, d) = if src { (u32::MAX, 0) } else { (0, u32::MAX) };
            let mask = Ipv4Key { src: s, dst: d, ..Ipv4Key::default() };
            set_ipv4(p, &Masked { key, mask });
        }
        Family::V6 => {
            let key = Ipv6Key { src: to.src, dst: to.dst, ..Ipv6Key::default() };
            let (s, d) = if src { (U128::MAX, U128::ZERO) } else { (U128::ZERO, U128::MAX) };
            let mask = Ipv6Key { src: s, dst: d, ..Ipv6Key::default() };
            set_ipv6(p, &Masked { key, mask });
        }
    }
}

/// Writes one address of a quoted IP header, and gives its bytes before and after.
fn write_quoted_address(network: &mut [u8], to: &Key, direction: NatDirection) -> (Vec<u8>, Vec<u8>) {
    let src = direction == NatDirection::Src;
    let address = u128::from(if src { to.src } else { to.dst }).to_be_bytes();
    let (range, new) = match (to.family, src) {
        (Family::V4, true) => (12..16, &address[12..]),
        (Family::V4, false) => (16..20, &address[12..]),
        (Family::V6, true) => (8..24, &address[..]),
        (Family::V6, false) => (24..40, &address[..]),
    };
    let Some(field) = network.get_mut(range) else { return (Vec::new(), Vec::new()) };
    let old = field.to_vec();
    field.copy_from_slice(new);
    if to.family == Family::V4
        && let Some(field) = network.get_mut(10..12).and_then(|f| f.first_chunk_mut::<2>())
    {
        *field = update_bytes(u16::from_be_bytes(*field), &old, new).to_be_bytes();
    }
    (old, new.to_vec())
}

/// Writes quoted ports, and the checksum behind them if it is quoted as well.
fn write_quoted_ports(transport: &mut [u8], to: &Key, old: &[u8], new: &[u8]) {
    let sum_at = match to.proto {
        ip_proto::TCP => 16,
        ip_proto::UDP => 6,
        _ => return,
    };
    let Some(ports) = transport.first_chunk_mut::<4>() else { return };
    let before = *ports;
    ports[..2].copy_from_slice(&to.sport.to_be_bytes());
    ports[2..].copy_from_slice(&to.dport.to_be_bytes());
    let after = *ports;
    let Some(field) = transport.get_mut(sum_at..sum_at + 2).and_then(|f| f.first_chunk_mut::<2>()) else {
        return;
    };
    let had = u16::from_be_bytes(*field);
    if to.proto == ip_proto::UDP && had == 0 {
        return;
    }
    let mut s = update_bytes(had, old, new);
    for at in [0, 2] {
        s = update16(s, be16(&before, at), be16(&after, at));
    }
    *field = s.to_be_bytes();
}

fn be16(b: &[u8; 4], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// Computes the checksum of an ICMP message anew.
fn sum_icmp(p: &mut Packet, start: usize, end: usize, family: Family) {
    let l3 = usize::from(p.l3_ofs);
    let pseudo = match (family, p.data().get(l3..).and_then(|h| h.first_chunk::<{ header_len::IPV6 }>())) {
        (Family::V6, Some(h)) => {
            let address =
                |at: usize| h[at..].first_chunk().map_or(U128::ZERO, |b| u128::from_be_bytes(*b).into());
            pseudo_v6(address(8), address(24), ip_proto::ICMPV6, (end - start) as u32)
        }
        _ => 0,
    };
    let Some(icmp) = p.data_mut().get_mut(start..end) else { return };
    if icmp.len() < header_len::ICMP {
        return;
    }
    icmp[2..4].fill(0);
    let s = finish(pseudo + u32::from(packet::checksum::fold(sum(icmp))));
    icmp[2..4].copy_from_slice(&s.to_be_bytes());
}

/// Addresses in an IPv6 range that are used at most.
const V6_RANGE_MAX: u128 = 0xffff_ffff;
/// Ports tried in a row, and how few are tried at a random place before we give up.
const ATTEMPTS: u32 = 128;
const ATTEMPTS_MIN: u32 = 16;

/// Ports to try: from `first`, then upwards and around.
struct PortRange {
    first: u16,
    min: u16,
    max: u16,
}

/// Chooses the key of replies for a connection `key` that `nat` translates: the first for which `take` says
/// that it is free. `random` gives numbers for ports that are hard to find.
pub(crate) fn choose(
    key: &Key,
    nat: &Nat,
    direction: NatDirection,
    basis: u64,
    mut random: impl FnMut() -> u32,
    mut take: impl FnMut(&Key) -> bool,
) -> Option<Key> {
    let hash = if nat.random { random() } else { range_hash(key, nat, basis) };
    let mut reply = key.reversed();
    let address = address(key, nat, direction, if nat.persistent { persistent_hash(key) } else { hash });
    match direction {
        NatDirection::Src => reply.dst = address,
        NatDirection::Dst => reply.src = address,
    }
    if !matches!(key.proto, ip_proto::TCP | ip_proto::UDP) {
        return take(&reply).then_some(reply);
    }
    let explicit = nat.ports.map(|(min, max)| {
        let max = max.max(min);
        let first = min.saturating_add((hash % (u32::from(max - min) + 1)) as u16);
        PortRange { first, min, max }
    });
    let own = own_range(key.sport);
    match (direction, explicit) {
        (NatDirection::Src, range) => {
            let range = range.unwrap_or(own);
            search(&range, &mut random, |port| {
                reply.dport = port;
                take(&reply)
            })?;
        }
        (NatDirection::Dst, Some(range)) => {
            let found = search(&range, &mut random, |port| {
                reply.sport = port;
                take(&reply)
            });
            if found.is_none() {
                reply.sport = range.first;
                search(&own, &mut random, |port| {
                    reply.dport = port;
                    take(&reply)
                })?;
            }
        }
        (NatDirection::Dst, None) => {
            search(&own, &mut random, |port| {
                reply.dport = port;
                take(&reply)
            })?;
        }
    }
    Some(reply)
}

/// A source port of no matter which range stays in its class.
fn own_range(port: u16) -> PortRange {
    let (min, max) = match port {
        0..512 => (1, 511),
        512..1024 => (600, 1023),
        _ => (1024, u16::MAX),
    };
    PortRange { first: port, min, max }
}

fn search(
    range: &PortRange,
    mut random: impl FnMut() -> u32,
    mut take: impl FnMut(u16) -> bool,
) -> Option<()> {
    let size = u32::from(range.max - range.min) + 1;
    let mut attempts = size.min(ATTEMPTS);
    let mut port = range.first;
    loop {
        let inside = (range.min..=range.max).contains(&port);
        for _ in 0..attempts.min(size + u32::from(!inside)) {
            if take(port) {
                return Some(());
            }
            let is_last = port == range.max || !(range.min..=range.max).contains(&port);
            port = if is_last { range.min } else { port + 1 };
        }
        if attempts >= size || attempts < ATTEMPTS_MIN {
            return None;
        }
        attempts /= 2;
        port = range.min.saturating_add((random() % size) as u16);
    }
}

fn value(a: NatAddr) -> u128 {
    match a {
        NatAddr::V4(a) => u128::from(a),
        NatAddr::V6(a) => a.into(),
    }
}

/// The address that takes the place of the old one. Zero, or none, keeps it.
fn address(key: &Key, nat: &Nat, direction: NatDirection, hash: u32) -> U128 {
    let (min, max) = nat.addr.map_or((0, 0), |(a, b)| (value(a), value(b)));
    if min == 0 {
        return if direction == NatDirection::Src { key.src } else { key.dst };
    }
    let size = max.saturating_sub(min).min(V6_RANGE_MAX - 1) + 1;
    U128::from(min.wrapping_add(u128::from(hash) % size))
}

/// One connection gets the same translation as long as the daemon runs.
fn range_hash(key: &Key, nat: &Nat, basis: u64) -> u32 {
    let mut h = key.hash(basis);
    // Both directions have one hash; which one it is matters here.
    h = mix(mix(h, key.src.lo), u64::from(key.sport));
    for a in nat.addr.iter().flat_map(|(a, b)| [value(*a), value(*b)]) {
        h = mix(h, a as u64);
    }
    if let Some((min, max)) = nat.ports {
        h = mix(h, u64::from(min) << 16 | u64::from(max));
    }
    (h >> 32) as u32
}

/// One client gets the same address, after a restart as well.
fn persistent_hash(key: &Key) -> u32 {
    (mix(mix(0, key.src.hi), key.src.lo) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let addr = |lo| U128 { hi: 0, lo };
        Key { src: addr(1), dst: addr(2), sport: 5000, dport: 80, zone: 0, proto: 6, family: Family::V4 }
    }

    fn snat(ports: Option<(u16, u16)>) -> Nat {
        let addr = NatAddr::V4(9);
        let direction = Some(NatDirection::Src);
        Nat { direction, addr: Some((addr, addr)), ports, ..Nat::default() }
    }

    #[test]
    fn source_ports_are_kept_if_they_are_free() {
        let reply = choose(&key(), &snat(None), NatDirection::Src, 1, || 0, |_| true).unwrap();
        assert_eq!((reply.dst.lo, reply.dport, reply.src.lo, reply.sport), (9, 5000, 2, 80));
        let next = choose(&key(), &snat(None), NatDirection::Src, 1, || 0, |k| k.dport != 5000).unwrap();
        assert_eq!(next.dport, 5001);
    }

    #[test]
    fn all_of_a_range_is_tried_and_no_more() {
        let mut seen = std::collections::BTreeSet::new();
        let nat = snat(Some((100, 104)));
        let none = choose(&key(), &nat, NatDirection::Src, 1, || 0, |k| !seen.insert(k.dport));
        assert_eq!(none, None);
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [100, 101, 102, 103, 104]);
    }

    #[test]
    fn a_zero_address_is_kept() {
        let zero = NatAddr::V4(0);
        let nat = Nat { addr: Some((zero, zero)), ..snat(None) };
        let reply = choose(&key(), &nat, NatDirection::Src, 1, || 0, |_| true).unwrap();
        assert_eq!(reply, key().reversed());
    }

    #[test]
    fn addresses_stay_in_their_range() {
        let nat = Nat { addr: Some((NatAddr::V4(10), NatAddr::V4(12))), ..snat(None) };
        for sport in 1024..1200 {
            let k = Key { sport, ..key() };
            let reply = choose(&k, &nat, NatDirection::Src, 7, || 0, |_| true).unwrap();
            assert!((10..=12).contains(&reply.dst.lo));
        }
    }
}
