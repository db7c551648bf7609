//! What identifies a connection: addresses, ports (or ICMP id and types), protocol and zone.

use flow::{U128, hash::mix};
use packet::CtTuple;
use packet::proto::ip_proto;
use serde::{Deserialize, Serialize};

/// Version of the Internet Protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Family {
    #[default]
    V4,
    V6,
}

/// One direction of a connection. IPv4 addresses stand in the low 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Key {
    pub src: U128,
    pub dst: U128,
    /// Source port; of ICMP the identifier.
    pub sport: u16,
    /// Destination port; of ICMP the message's type in the high byte and that of its answer in the low one.
    pub dport: u16,
    pub zone: u16,
    pub proto: u8,
    pub family: Family,
}

/// ICMP types with an identifier, each with its answer (RFC 792, RFC 4443).
const ECHOES: [(Family, u8, u8); 4] =
    [(Family::V4, 8, 0), (Family::V4, 13, 14), (Family::V4, 15, 16), (Family::V6, 128, 129)];

/// The type that answers `icmp_type`, or that it answers. `None` for messages without an identifier.
pub fn opposite_icmp_type(family: Family, icmp_type: u8) -> Option<u8> {
    ECHOES.iter().filter(|e| e.0 == family).find_map(|e| match icmp_type {
        t if t == e.1 => Some(e.2),
        t if t == e.2 => Some(e.1),
        _ => None,
    })
}

/// Whether a connection may begin with `icmp_type`.
pub fn is_icmp_request(family: Family, icmp_type: u8) -> bool {
    ECHOES.iter().any(|e| (e.0, e.1) == (family, icmp_type))
}

impl Key {
    /// Whether the key has ICMP's identifier and types in place of ports.
    #[inline]
    pub fn is_icmp(&self) -> bool {
        matches!((self.family, self.proto), (Family::V4, ip_proto::ICMP) | (Family::V6, ip_proto::ICMPV6))
    }

    /// The other direction.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Key {
        let (sport, dport) =
            if self.is_icmp() { (self.sport, self.dport.swap_bytes()) } else { (self.dport, self.sport) };
        Key { src: self.dst, dst: self.src, sport, dport, ..*self }
    }

    /// A hash that both directions have in common.
    #[inline]
    pub fn hash(&self, basis: u64) -> u64 {
        let (sport, dport) = if self.is_icmp() {
            let id = u64::from(self.sport) << 16;
            (id | u64::from(self.dport >> 8), id | u64::from(self.dport & 0xff))
        } else {
            (u64::from(self.sport), u64::from(self.dport))
        };
        let (mut a, mut b) = (mix(basis ^ sport, self.src.lo), mix(basis ^ dport, self.dst.lo));
        if self.family == Family::V6 {
            a = mix(a, self.src.hi);
            b = mix(b, self.dst.hi);
        }
        mix(a.wrapping_add(b), u64::from(self.zone) << 8 | u64::from(self.proto))
    }

    /// ICMP's type, for keys that have one.
    pub fn icmp_type(&self) -> u8 {
        (self.dport >> 8) as u8
    }

    /// As the flow key's `ct_*` fields have it: of ICMP, type and code stand for the ports.
    pub fn to_tuple(self) -> CtTuple {
        let (tp_src, tp_dst) =
            if self.is_icmp() { (u16::from(self.icmp_type()), 0) } else { (self.sport, self.dport) };
        let proto = self.proto;
        match self.family {
            Family::V4 => {
                CtTuple::V4 { src: self.src.lo as u32, dst: self.dst.lo as u32, proto, tp_src, tp_dst }
            }
            Family::V6 => CtTuple::V6 { src: self.src, dst: self.dst, proto, tp_src, tp_dst },
        }
    }

    /// A key from a tuple. Of ICMP, `id` is the identifier, which a tuple does not have. `None` if the tuple
    /// says nothing or has an ICMP type without identifier.
    pub fn from_tuple(tuple: &CtTuple, id: u16, zone: u16) -> Option<Key> {
        let v4 = |a: u32| U128 { hi: 0, lo: u64::from(a) };
        let (family, src, dst, proto, tp_src, tp_dst) = match *tuple {
            CtTuple::None => return None,
            CtTuple::V4 { src, dst, proto, tp_src, tp_dst } => {
                (Family::V4, v4(src), v4(dst), proto, tp_src, tp_dst)
            }
            CtTuple::V6 { src, dst, proto, tp_src, tp_dst } => (Family::V6, src, dst, proto, tp_src, tp_dst),
        };
        let mut key = Key { src, dst, sport: tp_src, dport: tp_dst, zone, proto, family };
        if key.is_icmp() {
            (key.sport, key.dport) = (id, icmp_types(family, tp_src as u8)?);
        }
        Some(key)
    }
}

/// The destination "port" of ICMP keys.
pub fn icmp_types(family: Family, icmp_type: u8) -> Option<u16> {
    let opposite = opposite_icmp_type(family, icmp_type)?;
    Some(u16::from(icmp_type) << 8 | u16::from(opposite))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn any_key() -> impl Strategy<Value = Key> {
        let ports = (0..4u16, 0..4u16, 0..3u16);
        (0..4u64, 0..4u64, ports, prop::sample::select(vec![1u8, 6, 17, 58]), any::<bool>()).prop_map(
            |(src, dst, (sport, dport, zone), proto, v6)| {
                let family = if v6 { Family::V6 } else { Family::V4 };
                let addr = |lo| U128 { hi: u64::from(v6), lo };
                let mut key = Key { src: addr(src), dst: addr(dst), sport, dport, zone, proto, family };
                if key.is_icmp() {
                    key.dport = icmp_types(family, if v6 { 128 } else { 8 }).unwrap();
                }
                key
            },
        )
    }

    proptest! {
        #[test]
        fn both_directions_have_one_hash(key in any_key(), basis in any::<u64>()) {
            prop_assert_eq!(key.hash(basis), key.reversed().hash(basis));
            prop_assert_eq!(key.reversed().reversed(), key);
        }

        #[test]
        fn tuples_come_back(key in any_key()) {
            prop_assert_eq!(Key::from_tuple(&key.to_tuple(), key.sport, key.zone), Some(key));
        }
    }

    #[test]
    fn a_key_is_40_bytes() {
        assert_eq!(size_of::<Key>(), 40);
    }
}
