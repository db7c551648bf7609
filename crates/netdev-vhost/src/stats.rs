//! What is counted for each ring, and the port's counters by their names in `Interface.statistics`.

use crate::port::Shared;
use netdev::{DeviceStats, ONLY_PACKETS_AND_BYTES};
use packet::Packet;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Classes of frame sizes: below 64 bytes, 64, powers of two, beyond usual Ethernet.
pub const SIZES: usize = 8;
/// Names of the classes for one ring (those of DPDK's vhost library), and for the port (those of Open vSwitch, which
/// puts the first two together).
const RING_NAMES: [&str; SIZES] = [
    "undersize_packets",
    "size_64_packets",
    "size_65_127_packets",
    "size_128_255_packets",
    "size_256_511_packets",
    "size_512_1023_packets",
    "size_1024_1518_packets",
    "size_1519_max_packets",
];
const PORT_NAMES: [&str; SIZES] = [
    "1_to_64_packets",
    "1_to_64_packets",
    "65_to_127_packets",
    "128_to_255_packets",
    "256_to_511_packets",
    "512_to_1023_packets",
    "1024_to_1522_packets",
    "1523_to_max_packets",
];
/// What DPDK's vhost library counts for work that our rings do not have: an IOMMU, copies by other hardware.
const NOT_HERE: [&str; 4] = ["iotlb_hits", "iotlb_misses", "inflight_submitted", "inflight_completed"];

/// Of one ring. Changed by the holder of the ring alone.
#[derive(Default)]
pub struct RingStats {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    multicast: AtomicU64,
    broadcast: AtomicU64,
    /// Times that the guest was called.
    pub calls: AtomicU64,
    sizes: [AtomicU64; SIZES],
}

/// Adds to a counter that nobody else changes.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

#[inline]
fn size_class(len: usize) -> usize {
    match len {
        ..64 => 0,
        64 => 1,
        1519.. => 7,
        _ => (usize::BITS - len.leading_zeros()) as usize - 5,
    }
}

impl RingStats {
    /// Counts packets.
    #[inline]
    pub fn count(&self, packets: &[Packet]) {
        self.count_all(packets.iter().map(|p| (p.data(), p.len())));
    }

    /// Counts frames by their first bytes and their lengths.
    #[inline]
    pub fn count_all<'f>(&self, frames: impl Iterator<Item = (&'f [u8], usize)>) {
        let mut sizes = [0u64; SIZES];
        let (mut packets, mut bytes, mut multicast, mut broadcast) = (0, 0, 0, 0);
        for (head, len) in frames {
            packets += 1;
            bytes += len as u64;
            sizes[size_class(len) % SIZES] += 1;
            if let Some(destination) = head.first_chunk::<6>()
                && destination[0] & 1 != 0
            {
                let is_broadcast = *destination == [0xff; 6];
                broadcast += u64::from(is_broadcast);
                multicast += u64::from(!is_broadcast);
            }
        }
        add(&self.packets, packets);
        add(&self.bytes, bytes);
        let rest = [(&self.multicast, multicast), (&self.broadcast, broadcast)];
        for (all, n) in self.sizes.iter().zip(sizes).chain(rest).filter(|(_, n)| *n > 0) {
            add(all, n);
        }
    }

    /// Counts frames of one length that go to no group.
    #[inline]
    pub fn count_alike(&self, n: usize, len: u32) {
        add(&self.packets, n as u64);
        add(&self.bytes, n as u64 * u64::from(len));
        if let Some(size) = self.sizes.get(size_class(len as usize)) {
            add(size, n as u64);
        }
    }

    pub fn count_call(&self) {
        add(&self.calls, 1);
    }

    /// Its counters by the names of DPDK's vhost library, all but packets' sizes first.
    fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let plain = [
            ("good_packets", &self.packets),
            ("good_bytes", &self.bytes),
            ("multicast_packets", &self.multicast),
            ("broadcast_packets", &self.broadcast),
            ("guest_notifications", &self.calls),
        ];
        let sizes = RING_NAMES.into_iter().zip(&self.sizes);
        let here = plain.into_iter().chain(sizes).map(|(name, n)| (name, n.load(Relaxed)));
        here.chain(NOT_HERE.into_iter().map(|name| (name, 0)))
    }
}

/// The port's counters. Without a front end only those are there that Open vSwitch itself keeps.
pub fn of_port(shared: &Shared) -> DeviceStats {
    let c = &shared.counters;
    let of = |n: &AtomicU64| n.load(Relaxed);
    let mut custom: BTreeMap<String, u64> = [
        ("ovs_tx_retries", of(&c.tx_retries)),
        ("ovs_tx_failure_drops", of(&c.tx_failure_drops)),
        ("ovs_tx_mtu_exceeded_drops", of(&c.tx_mtu_exceeded_drops)),
        ("ovs_tx_qos_drops", 0),
        ("ovs_rx_qos_drops", shared.policer.dropped()),
        ("ovs_tx_invalid_hwol_drops", of(&c.tx_offload_drops)),
        ("vhost_ring_violations", of(&c.violations)),
    ]
    .map(|(name, n)| (name.to_owned(), n))
    .into();
    let mut absent = ONLY_PACKETS_AND_BYTES.to_vec();
    if !shared.connected.load(Relaxed) {
        absent.extend(["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"]);
        return DeviceStats { custom, absent, ..DeviceStats::default() };
    }
    absent.retain(|name| !["rx_dropped", "tx_dropped", "rx_multicast_packets"].contains(name));
    let mut common = dpif::PortStats {
        rx_dropped: of(&c.rx_too_big) + of(&c.rx_malformed) + shared.policer.dropped(),
        tx_dropped: of(&c.tx_failure_drops) + of(&c.tx_mtu_exceeded_drops) + of(&c.tx_offload_drops),
        ..dpif::PortStats::default()
    };
    let rings = shared.rings.load(Relaxed);
    for (i, slot) in shared.slots.iter().enumerate().take(rings) {
        let (side, ring) = (["tx", "rx"][i % 2], &slot.stats);
        let (packets, bytes) = if i % 2 == 0 {
            (&mut common.tx_packets, &mut common.tx_bytes)
        } else {
            common.multicast += of(&ring.multicast);
            (&mut common.rx_packets, &mut common.rx_bytes)
        };
        *packets += of(&ring.packets);
        *bytes += of(&ring.bytes);
        custom.extend(ring.named().map(|(name, n)| (format!("{side}_q{}_{name}", i / 2), n)));
        let sizes = PORT_NAMES.into_iter().zip(ring.sizes.iter().map(of));
        let others = [("broadcast_packets", of(&ring.broadcast)), ("multicast_packets", of(&ring.multicast))];
        // What is received by multicast is among the common counters.
        let others = others.into_iter().take(if side == "rx" { 1 } else { 2 });
        for (name, n) in sizes.chain(others) {
            *custom.entry(format!("{side}_{name}")).or_default() += n;
        }
    }
    DeviceStats { common, custom, absent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_sizes() {
        let bounds = [(1, 0), (63, 0), (64, 1), (65, 2), (127, 2), (128, 3), (255, 3), (256, 4), (511, 4)];
        let more = [(512, 5), (1023, 5), (1024, 6), (1518, 6), (1519, 7), (65_535, 7)];
        for (len, class) in bounds.into_iter().chain(more) {
            assert_eq!(size_class(len), class, "{len}");
        }
    }

    #[test]
    fn frames_that_are_alike_count_as_one_by_one() {
        for len in [60, 64, 1518, 9000] {
            let (one_by_one, alike) = (RingStats::default(), RingStats::default());
            one_by_one.count_all([(&[0x02; 60][..], len); 7].into_iter());
            alike.count_alike(7, len as u32);
            let all = |stats: &RingStats| stats.named().collect::<Vec<_>>();
            assert_eq!(all(&alike), all(&one_by_one));
            assert_eq!(all(&alike)[..2], [("good_packets", 7), ("good_bytes", 7 * len as u64)]);
        }
    }

    #[test]
    fn counters_have_the_names_of_open_vswitch() {
        let shared = Shared::new("v");
        let stats = of_port(&shared).statistics();
        assert!(stats.keys().all(|k| k.starts_with("ovs_") || k == "vhost_ring_violations"), "{stats:?}");
        shared.connected.store(true, Relaxed);
        let mut frame = [0; 60];
        frame[0] = 1;
        shared.slots[0].stats.count(&[Packet::from_slice(&frame), Packet::from_slice(&[0xff; 64])]);
        let stats = of_port(&shared).statistics();
        for (name, n) in [
            ("tx_packets", 2),
            ("tx_bytes", 124),
            ("tx_1_to_64_packets", 2),
            ("tx_multicast_packets", 1),
            ("tx_broadcast_packets", 1),
            ("tx_q0_good_packets", 2),
            ("tx_q0_undersize_packets", 1),
            ("tx_q0_size_64_packets", 1),
            ("rx_multicast_packets", 0),
            ("rx_1523_to_max_packets", 0),
            ("rx_q0_iotlb_hits", 0),
            ("rx_dropped", 0),
        ] {
            assert_eq!(stats.get(name), Some(&n), "{name}");
        }
        assert!(!stats.contains_key("rx_errors") && !stats.contains_key("tx_errors"));
        // 6 of Open vSwitch and one of ours, 6 common ones, 8 and 9 for the sides, 17 for each ring.
        assert_eq!(stats.len(), 7 + 7 + 8 + 9 + 2 * 17);
    }
}
