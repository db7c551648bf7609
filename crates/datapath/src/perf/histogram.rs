//! How often a value was how large: 31 walls and what is above them (ovs-vswitchd(8), `pmd-perf-show`).

/// Bins, the last of which has no wall.
pub(crate) const BINS: usize = 32;

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// The largest value of each bin but the last.
    walls: [u32; BINS - 1],
    bins: [u64; BINS],
}

impl Histogram {
    /// Walls at equal distances from `min` to `max`.
    pub fn linear(min: u32, max: u32) -> Self {
        let last = BINS as u32 - 2;
        let walls = std::array::from_fn(|i| min + i as u32 * (max - min) / last);
        Histogram { walls, bins: [0; BINS] }
    }

    /// Walls at equal ratios from `min` to `max`, each above the one before it. A `min` of 0 has the first wall, and
    /// the others begin with 1.
    pub fn logarithmic(min: u32, max: u32) -> Self {
        let first = usize::from(min == 0);
        let (low, high) = (f64::from(min.max(1)).ln(), f64::from(max).ln());
        let steps = (BINS - 2 - first) as f64;
        let mut walls = [0; BINS - 1];
        let mut least = min.max(1);
        for (i, wall) in walls.iter_mut().skip(first).enumerate() {
            *wall = ((low + i as f64 * (high - low) / steps).exp() as u32).max(least);
            least = *wall + 1;
        }
        // What the logarithm rounded away.
        let top = &mut walls[BINS - 2];
        *top = max.max(*top);
        Histogram { walls, bins: [0; BINS] }
    }

    /// Counts `times` values.
    pub fn add(&mut self, value: u64, times: u64) {
        let at = self.walls.partition_point(|w| u64::from(*w) < value);
        self.bins[at] += times;
    }

    /// The wall of each bin, `None` for the last, and how many values it has.
    pub fn bin(&self, at: usize) -> (Option<u32>, u64) {
        (self.walls.get(at).copied(), self.bins.get(at).copied().unwrap_or(0))
    }

    #[cfg(test)]
    pub fn samples(&self) -> u64 {
        self.bins.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walls(h: &Histogram) -> Vec<u32> {
        (0..BINS).filter_map(|at| h.bin(at).0).collect()
    }

    #[test]
    fn walls_go_from_the_least_to_the_most() {
        let linear = walls(&Histogram::linear(100, 30_000));
        assert_eq!((linear[0], linear[1], linear[30]), (100, 1096, 30_000));
        let log = walls(&Histogram::logarithmic(500, 24_000_000));
        assert_eq!((log[0], log[1], log[30]), (500, 716, 24_000_000));
        let from_nothing = walls(&Histogram::logarithmic(0, 512));
        assert_eq!((&from_nothing[..4], from_nothing[30]), (&[0, 1, 2, 3][..], 512));
        for all in [linear, log, from_nothing] {
            assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
        }
    }

    #[test]
    fn a_value_is_in_the_first_bin_that_it_does_not_exceed() {
        let mut h = Histogram::linear(0, 30);
        h.add(0, 1);
        h.add(30, 2);
        h.add(31, 3);
        h.add(u64::MAX, 1);
        assert_eq!((h.bin(0).1, h.bin(30).1, h.bin(31)), (1, 2, (None, 4)));
        assert_eq!(h.samples(), 7);
    }
}
