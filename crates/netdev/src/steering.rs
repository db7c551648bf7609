//! `tx-steering=hash`: packets spread over transmit queues by what they hold.

use packet::Packet;

/// Bytes at a packet's front that are looked at: what all devices show of their packets ([`crate::Burst::heads`]), so
/// that those of a flow go the same way in whatever form they come.
const SEEN: usize = 64;

/// The packet's own hash, or that of its bytes.
#[inline]
pub fn hash(packet: &Packet) -> u32 {
    if packet.rss_hash != 0 { packet.rss_hash } else { hash_of(packet.data()) }
}

/// A hash of addresses, protocol and ports of an IP packet, or of the Ethernet header of another; packets of one
/// flow have the same, so that they stay in order.
pub fn hash_of(frame: &[u8]) -> u32 {
    let seen = frame.get(..SEEN).unwrap_or(frame);
    let (ethertype, start) = match seen.get(12..14) {
        Some([0x81, 0x00] | [0x88, 0xa8]) => (seen.get(16..18), 18),
        plain => (plain, 14),
    };
    let h = match (ethertype, seen.get(start..)) {
        (Some([0x08, 0x00]), Some(l3)) => ipv4(l3),
        (Some([0x86, 0xdd]), Some(l3)) => ipv6(l3),
        _ => None,
    };
    let h = h.unwrap_or_else(|| fold(fold(0, word(seen, 0)), word(seen, 6)));
    (h ^ (h >> 32)) as u32
}

fn ipv4(l3: &[u8]) -> Option<u64> {
    let (head, proto) = (l3.first()?, *l3.get(9)?);
    let h = fold(proto.into(), u64::from_le_bytes(*l3.get(12..)?.first_chunk()?));
    // Fragments have no ports, but the first, which goes with the others.
    let is_whole = matches!(l3.get(6..8), Some([flags, 0]) if flags & 0x3f == 0);
    Some(ports(h, proto, l3, 4 * usize::from(head & 15), is_whole))
}

fn ipv6(l3: &[u8]) -> Option<u64> {
    let proto = *l3.get(6)?;
    let addresses: &[u8; 32] = l3.get(8..)?.first_chunk()?;
    let h = addresses.as_chunks().0.iter().fold(proto.into(), |h, w| fold(h, u64::from_le_bytes(*w)));
    Some(ports(h, proto, l3, 40, true))
}

/// With the ports at `at`, if there are any.
fn ports(h: u64, proto: u8, l3: &[u8], at: usize, is_whole: bool) -> u64 {
    match l3.get(at..).and_then(|l4| l4.first_chunk::<4>()) {
        Some(ports) if is_whole && matches!(proto, 6 | 17 | 132) => {
            fold(h, u32::from_le_bytes(*ports).into())
        }
        _ => h,
    }
}

/// Eight bytes from `at` on, zeros where there are none.
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(bytes.get(at..).unwrap_or_default()).for_each(|(to, b)| *to = *b);
    u64::from_le_bytes(word)
}

#[inline]
fn fold(h: u64, word: u64) -> u64 {
    let product = u128::from(h ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn udp(port: u8, payload: u8, more_fragments: bool) -> Packet {
        let mut p = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46];
        p.extend([0, 0, if more_fragments { 0x20 } else { 0 }, 0, 64, 17, 0, 0]);
        p.extend([10, 0, 0, 1, 10, 0, 0, 2, 4, port, 0, 53, 0, 26, 0, 0, payload]);
        p.resize(60, 0);
        Packet::from_slice(&p)
    }

    fn ipv6(port: u8, vlan: bool) -> Vec<u8> {
        let mut p = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        p.extend(if vlan { &[0x81, 0, 0, 5][..] } else { &[] });
        p.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        p.extend([&[0xfd; 16][..], &[0xfe; 16], &[4, port, 0, 80]].concat());
        p.resize(100, 0);
        p
    }

    #[test]
    fn flows_stay_together_and_spread() {
        assert_eq!(hash(&udp(1, 1, false)), hash(&udp(1, 2, false)));
        assert_eq!(hash(&udp(1, 1, true)), hash(&udp(2, 1, true)));
        let queues: HashSet<u32> = (0..64).map(|port| hash(&udp(port, 0, false)) % 4).collect();
        assert_eq!(queues.len(), 4);
        for vlan in [false, true] {
            let queues: HashSet<u32> = (0..64).map(|port| hash_of(&ipv6(port, vlan)) % 4).collect();
            assert_eq!(queues.len(), 4, "vlan: {vlan}");
        }
        assert_eq!(hash(&Packet::from_slice(&[1, 2, 3])), hash(&Packet::from_slice(&[1, 2, 3])));
        let mut known = udp(1, 1, false);
        known.rss_hash = 7;
        assert_eq!(hash(&known), 7);
    }

    #[test]
    fn bytes_that_not_all_see_do_not_count() {
        let mut frame = ipv6(1, false);
        let whole = hash_of(&frame);
        assert_eq!(hash_of(&frame[..64]), whole);
        frame[64..].fill(9);
        assert_eq!(hash_of(&frame), whole);
    }
}
