//! `tx-steering=hash`: which transmit queue a packet goes to.

use packet::Packet;

/// A hash of addresses, protocol and ports of an IP packet, or of the Ethernet addresses of another; packets of one
/// flow have the same, so that they stay in order.
pub fn hash(packet: &Packet) -> u32 {
    if packet.rss_hash != 0 {
        return packet.rss_hash;
    }
    let data = packet.data();
    let part = |from: usize, len: usize| data.get(from..from + len).unwrap_or_default();
    let (ethertype, start) = match part(12, 2) {
        [0x81, 0x00] | [0x88, 0xa8] => (part(16, 2), 18),
        plain => (plain, 14),
    };
    let mut h = 0x811c_9dc5;
    match ethertype {
        [0x08, 0x00] => {
            add(&mut h, part(start + 9, 1));
            add(&mut h, part(start + 12, 8));
            let length = 4 * usize::from(part(start, 1).first().map_or(5, |b| b & 15));
            // Fragments have no ports, but the first, which goes with the others.
            let is_whole = matches!(part(start + 6, 2), [flags, 0] if flags & 0x3f == 0);
            if is_whole && matches!(part(start + 9, 1), [6 | 17 | 132]) {
                add(&mut h, part(start + length, 4));
            }
        }
        [0x86, 0xdd] => {
            add(&mut h, part(start + 6, 1));
            add(&mut h, part(start + 8, 32));
            if matches!(part(start + 6, 1), [6 | 17 | 132]) {
                add(&mut h, part(start + 40, 4));
            }
        }
        _ => add(&mut h, part(0, 14)),
    }
    h ^ (h >> 15)
}

/// FNV-1a.
fn add(h: &mut u32, bytes: &[u8]) {
    for b in bytes {
        *h = (*h ^ u32::from(*b)).wrapping_mul(0x0100_0193);
    }
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

    #[test]
    fn flows_stay_together_and_spread() {
        assert_eq!(hash(&udp(1, 1, false)), hash(&udp(1, 2, false)));
        assert_eq!(hash(&udp(1, 1, true)), hash(&udp(2, 1, true)));
        let queues: HashSet<u32> = (0..64).map(|port| hash(&udp(port, 0, false)) % 4).collect();
        assert_eq!(queues.len(), 4);
        assert_eq!(hash(&Packet::from_slice(&[1, 2, 3])), hash(&Packet::from_slice(&[1, 2, 3])));
    }
}
