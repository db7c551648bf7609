//! Meters: what exceeds a rate is dropped.
//!
//! Each band is a token bucket, kept as one number: the time at which it will be full again if nothing more
//! comes (the generic cell rate algorithm). Taking tokens moves that time on by one compare-and-swap for each
//! batch, so threads that share a meter do not wait for each other, and none can take what is not there.

use crate::drops::DropCause;
use crate::item::Items;
use crate::worker::{View, Worker};
use dpif::{DpifError, DropBand, MeterCount, MeterLimits, MeterSpec, MeterStats, RateUnit};
use netdev::burst::{all_places, places};
use packet::BATCH_LEN;
use parking_lot::Mutex;
use quiescent::{Domain, Guard, Shared, Table};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Meters of a datapath.
pub const METERS_MAX: u32 = 1 << 18;
/// Bands of a meter.
pub const BANDS_MAX: u8 = 8;

/// Parts of a millisecond that buckets are kept in: a 64-byte packet counts at 4 Tbit/s, too, and the number
/// lasts for centuries.
const TICKS_PER_MS: u64 = 1_000_000;

/// A token bucket that drops what finds too little in it.
#[derive(Debug)]
struct Band {
    rate: u32,
    /// The time that it takes to fill, in ticks.
    depth: u64,
    /// When it will be full, in ticks of the datapath's clock.
    full_at: AtomicU64,
    dropped: Count,
}

#[derive(Debug, Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn get(&self) -> MeterCount {
        MeterCount { packets: self.packets.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

impl Band {
    fn new(band: &DropBand) -> Self {
        // A unit of the burst is 1,000 of what the rate brings in a millisecond.
        let depth = ticks(u64::from(band.burst) * 1_000, band.rate);
        Band { rate: band.rate, depth, full_at: AtomicU64::new(0), dropped: Count::default() }
    }

    /// Takes the tokens of all packets that find theirs; returns the others as bits.
    fn take(&self, costs: &[u64], now_ms: u64) -> u32 {
        let now = now_ms.saturating_mul(TICKS_PER_MS);
        let limit = now.saturating_add(self.depth);
        let alike = costs.first().filter(|first| costs.iter().all(|cost| cost == *first));
        let alike = alike.map(|cost| ticks(*cost, self.rate));
        let mut known = self.full_at.load(Relaxed);
        loop {
            let full_at = known.max(now);
            let (full_at, exceeding) = match alike {
                Some(time) => fill_alike(full_at, limit, time, costs.len()),
                None => fill(full_at, limit, costs.iter().map(|cost| ticks(*cost, self.rate))),
            };
            match self.full_at.compare_exchange_weak(known, full_at, Relaxed, Relaxed) {
                Ok(_) => return exceeding,
                Err(other) => known = other,
            }
        }
    }
}

/// Fills a bucket that is full at `full_at`, and may be at `limit`, with packets whose tokens take some time each to come. When
/// it will be full then, and the packets that found no room as bits.
fn fill(mut full_at: u64, limit: u64, times: impl Iterator<Item = u64>) -> (u64, u32) {
    let mut exceeding = 0;
    for (i, time) in times.enumerate() {
        match full_at.checked_add(time).filter(|after| *after <= limit) {
            Some(after) => full_at = after,
            None => exceeding |= 1 << i,
        }
    }
    (full_at, exceeding)
}

/// As [`fill`], with `n` packets that are alike: the first ones find room.
fn fill_alike(full_at: u64, limit: u64, time: u64, n: usize) -> (u64, u32) {
    let Some(room) = limit.checked_sub(full_at) else { return (full_at, all_places(n)) };
    let fitting = room.checked_div(time).map_or(n, |fitting| n.min(usize::try_from(fitting).unwrap_or(n)));
    (full_at + time * fitting as u64, all_places(n) & !all_places(fitting))
}

/// How long tokens take to come.
fn ticks(tokens: u64, rate: u32) -> u64 {
    let ticks = u128::from(tokens) * u128::from(TICKS_PER_MS) / u128::from(rate.max(1));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Meter {
    id: u32,
    unit: RateUnit,
    /// The greatest rate first: of several bands that a packet exceeds, that one drops it.
    bands: Vec<(usize, Band)>,
    seen: Count,
}

impl Meter {
    fn new(id: u32, spec: &MeterSpec) -> Self {
        let mut bands: Vec<_> = spec.bands.iter().map(Band::new).enumerate().collect();
        bands.sort_by_key(|(_, b)| std::cmp::Reverse(b.rate));
        Meter { id, unit: spec.unit, bands, seen: Count::default() }
    }

    /// The packets that are to be dropped, as bits.
    fn run(&self, lengths: &[u64], now_ms: u64) -> u32 {
        self.seen.add(lengths.len() as u64, lengths.iter().sum());
        let mut costs = [0; BATCH_LEN];
        let costs = &mut costs[..lengths.len().min(BATCH_LEN)];
        for (cost, len) in costs.iter_mut().zip(lengths) {
            *cost = match self.unit {
                RateUnit::Packets => 1_000,
                RateUnit::Kilobits => len * 8,
            };
        }
        let mut dropped = 0;
        for (_, band) in &self.bands {
            let exceeding = band.take(costs, now_ms);
            let by_this_one = exceeding & !dropped;
            if by_this_one != 0 {
                let bytes = lengths.iter().enumerate().filter(|(i, _)| by_this_one & (1 << i) != 0);
                band.dropped.add(by_this_one.count_ones().into(), bytes.map(|(_, len)| len).sum());
            }
            dropped |= exceeding;
        }
        dropped
    }

    fn stats(&self) -> MeterStats {
        let mut bands = vec![MeterCount::default(); self.bands.len()];
        for (i, band) in &self.bands {
            if let Some(slot) = bands.get_mut(*i) {
                *slot = band.dropped.get();
            }
        }
        MeterStats { seen: self.seen.get(), bands }
    }
}

/// The meters of a datapath.
pub(crate) struct Meters {
    table: Table<Meter>,
    /// All of them by id, for one change at a time. Ids are given from below, so there are few gaps.
    writer: Mutex<Vec<Option<Arc<Meter>>>>,
}

impl Meters {
    pub fn new(domain: &Arc<Domain>) -> Arc<Self> {
        Arc::new(Meters { table: Table::new(domain), writer: Mutex::default() })
    }

    pub const LIMITS: MeterLimits = MeterLimits { meters: METERS_MAX, bands: BANDS_MAX };

    /// Makes a meter, or a new one in the place of the old.
    pub fn set(&self, id: u32, spec: &MeterSpec) -> Result<(), DpifError> {
        if id >= METERS_MAX {
            return Err(DpifError::Full);
        }
        if spec.bands.len() > usize::from(BANDS_MAX) || spec.bands.iter().any(|b| b.rate == 0) {
            return Err(DpifError::Invalid);
        }
        let new = Arc::new(Meter::new(id, spec));
        let mut all = self.writer.lock();
        self.table.insert(hash(id), Arc::clone(&new));
        let at = id as usize;
        if all.len() <= at {
            all.resize(at + 1, None);
        }
        if let Some(old) = all.get_mut(at).and_then(|place| place.replace(new)) {
            self.table.remove(hash(id), |m| std::ptr::eq(m, &*old));
        }
        Ok(())
    }

    pub fn remove(&self, id: u32) -> Result<MeterStats, DpifError> {
        let mut all = self.writer.lock();
        let old = all.get_mut(id as usize).and_then(Option::take).ok_or(DpifError::NotFound)?;
        self.table.remove(hash(id), |m| std::ptr::eq(m, &*old));
        Ok(old.stats())
    }

    pub fn stats(&self, id: u32) -> Result<MeterStats, DpifError> {
        let all = self.writer.lock();
        all.get(id as usize).and_then(Option::as_ref).map(|m| m.stats()).ok_or(DpifError::NotFound)
    }

    fn find<'g>(&'g self, guard: &'g Guard<'_>, id: u32) -> Option<Shared<'g, Meter>> {
        self.table.find(guard, hash(id), move |m| m.id == id)
    }
}

fn hash(id: u32) -> u64 {
    flow::hash::int(id, 0).into()
}

impl Worker {
    /// Counts those packets of a burst as lost that exceed meter `id`; their places.
    pub(crate) fn exceeding(
        &self,
        view: View<'_>,
        id: u32,
        in_port: u32,
        bits: u32,
        lens: &[u32; BATCH_LEN],
    ) -> u32 {
        let Some(meter) = self.meters.find(view.guard, id) else { return 0 };
        let (mut lengths, mut n) = ([0; BATCH_LEN], 0);
        for (length, place) in lengths.iter_mut().zip(places(bits)) {
            *length = lens[place].into();
            n += 1;
        }
        let dropped = meter.run(&lengths[..n], self.now_ms);
        if dropped == 0 {
            return 0;
        }
        self.counters(in_port).lose(DropCause::Meter, dropped.count_ones() as usize);
        let is_dropped = |(n, _): &(usize, usize)| dropped & (1 << n) != 0;
        places(bits).enumerate().filter(is_dropped).fold(0, |all, (_, place)| all | 1 << place)
    }

    /// Drops the packets that exceed meter `id`. One that does not exist lets everything pass.
    pub(crate) fn meter(&self, view: View<'_>, id: u32, items: &mut Items) {
        let meters = Arc::clone(&self.meters);
        let Some(meter) = meters.find(view.guard, id) else { return };
        let mut lengths = [0; BATCH_LEN];
        for (len, item) in lengths.iter_mut().zip(items.iter()) {
            *len = item.packet.len() as u64;
        }
        let dropped = meter.run(&lengths[..items.len()], self.now_ms);
        if dropped == 0 {
            return;
        }
        let mut i = 0;
        items.retain(|item| {
            let keep = dropped & (1 << i) == 0;
            if !keep {
                self.counters(item.meta.in_port).lose(DropCause::Meter, 1);
            }
            i += 1;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meter(unit: RateUnit, bands: &[(u32, u32)]) -> Meter {
        let bands = bands.iter().map(|(rate, burst)| DropBand { rate: *rate, burst: *burst }).collect();
        Meter::new(0, &MeterSpec { unit, bands })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let m = meter(RateUnit::Packets, &[(10, 3)]);
        let mut passed = Vec::new();
        for now_ms in (5_000..6_000).step_by(50) {
            passed.push(1 - m.run(&[100], now_ms).count_ones());
        }
        // Three at once, then every 100 ms one.
        assert_eq!(passed[..8], [1, 1, 1, 1, 1, 0, 1, 0]);
        assert_eq!(m.stats().seen, MeterCount { packets: 20, bytes: 2_000 });
        assert_eq!(m.stats().bands[0].packets, u64::from(20 - passed.iter().sum::<u32>()));
    }

    #[test]
    fn kilobits_count_bits_and_small_packets_still_fit() {
        let m = meter(RateUnit::Kilobits, &[(1, 1)]);
        // 1,000 bits: 100 bytes leave 200 bits, in which 20 bytes fit and 100 do not.
        assert_eq!(m.run(&[100, 100, 20, 20], 9), 0b1010);
        assert_eq!(m.run(&[1], 49), 0);
    }

    #[test]
    fn of_two_bands_the_higher_one_drops() {
        let m = meter(RateUnit::Packets, &[(1, 1), (5, 2)]);
        assert_eq!(m.run(&[10; 4], 0), 0b1110);
        let s = m.stats();
        assert_eq!((s.bands[0].packets, s.bands[1].packets), (1, 2));
    }

    /// A bucket of tokens, filled each millisecond, as the slow oracle.
    fn oracle(rate: u64, burst: u64, arrivals: &[(u64, u64)]) -> Vec<bool> {
        let (mut tokens, mut last) = (burst * 1_000, 0);
        let pass = |(at, cost): &(u64, u64)| {
            tokens = (tokens + (at - last) * rate).min(burst * 1_000);
            last = *at;
            let ok = tokens >= *cost;
            tokens -= if ok { *cost } else { 0 };
            ok
        };
        arrivals.iter().map(pass).collect()
    }

    proptest! {
        /// Rates that divide ticks, so that both sides are exact.
        #[test]
        fn like_a_bucket_of_tokens(
            rate in prop::sample::select(vec![1u32, 2, 8, 100, 1_000, 4_000]),
            burst in 1u32..50,
            gaps in prop::collection::vec((0u64..300, 1u64..1_500), 1..60),
        ) {
            let m = meter(RateUnit::Kilobits, &[(rate, burst)]);
            let mut at = 0;
            let arrivals: Vec<(u64, u64)> = gaps.iter().map(|(gap, len)| { at += gap; (at, *len) }).collect();
            let costs: Vec<_> = arrivals.iter().map(|(at, len)| (*at, len * 8)).collect();
            let ours: Vec<bool> = arrivals.iter().map(|(at, len)| m.run(&[*len], *at) == 0).collect();
            prop_assert_eq!(ours, oracle(rate.into(), burst.into(), &costs));
        }
    }

    proptest! {
        #[test]
        fn packets_that_are_alike_fill_as_others(
            full_at in 0u64..100, limit in 0u64..2_000, time in 0u64..100, n in 0usize..=BATCH_LEN, far in any::<bool>(),
        ) {
            let (full_at, limit) = if far { (u64::MAX - full_at, u64::MAX - limit / 20) } else { (full_at, limit) };
            prop_assert_eq!(
                fill_alike(full_at, limit, time, n),
                fill(full_at, limit, std::iter::repeat_n(time, n))
            );
        }
    }

    #[test]
    fn threads_together_get_no_more_than_the_burst() {
        let m = meter(RateUnit::Packets, &[(1, 1_000)]);
        let passed: u32 = std::thread::scope(|s| {
            let one = || s.spawn(|| (0..100).map(|_| 32 - m.run(&[64; 32], 7).count_ones()).sum::<u32>());
            let threads = [one(), one(), one()];
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }
}
