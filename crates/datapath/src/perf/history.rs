//! The last 1,000 of something, and where one stands in them.

/// How many are remembered.
pub(crate) const HISTORY: usize = 1000;

#[derive(Clone, Debug)]
pub(crate) struct History<T> {
    ring: Box<[T]>,
    /// How many came in all.
    count: u64,
}

impl<T: Copy + Default> History<T> {
    pub fn new() -> Self {
        History { ring: vec![T::default(); HISTORY].into_boxed_slice(), count: 0 }
    }

    pub fn push(&mut self, value: T) {
        let at = (self.count % HISTORY as u64) as usize;
        if let Some(place) = self.ring.get_mut(at) {
            *place = value;
        }
        self.count += 1;
    }

    /// How many came so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last `n` and, where fewer are remembered, blanks; the newest first.
    pub fn last(&self, n: usize) -> impl Iterator<Item = T> + '_ {
        (1..=n.min(HISTORY) as u64).map(|back| {
            let at = self.count.checked_sub(back).map(|i| (i % HISTORY as u64) as usize);
            at.and_then(|at| self.ring.get(at)).copied().unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let mut history = History::new();
        (1..=3).for_each(|n| history.push(n));
        assert_eq!(history.last(5).collect::<Vec<u32>>(), [3, 2, 1, 0, 0]);
        (4..=HISTORY as u32 + 5).for_each(|n| history.push(n));
        let all: Vec<u32> = history.last(HISTORY + 9).collect();
        assert_eq!((all.len(), all[0], all[HISTORY - 1]), (HISTORY, HISTORY as u32 + 5, 6));
    }
}
