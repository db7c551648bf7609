//! A hash table that is read without waiting while it changes.

use crate::domain::{Domain, Guard};
use crate::snapshot::Snapshot;
use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// One place of the open-addressed array.
struct Slot<T> {
    hash: AtomicU64,
    /// Null: never used, a search ends here. [`gone`]: used once, a search goes on. Else from `Arc::into_raw`.
    value: AtomicPtr<T>,
}

/// Marks a slot whose value was removed. No value has this address: it is not aligned as an `Arc`'s content
/// (which follows two counters) is, and never read.
fn gone<T>() -> *mut T {
    std::ptr::without_provenance_mut(1)
}

struct Slots<T> {
    /// A power of two of them, never full.
    slots: Box<[Slot<T>]>,
}

impl<T> Slots<T> {
    fn with_capacity(slots: usize) -> Self {
        let slots = Box::new_zeroed_slice(slots.next_power_of_two());
        // SAFETY: all bytes zero are a hash of 0 and a null pointer; fresh memory is not even touched for that.
        Slots { slots: unsafe { slots.assume_init() } }
    }

    /// The slots to look at for `hash`, in order.
    #[inline]
    fn probe(&self, hash: u64) -> impl Iterator<Item = &Slot<T>> {
        self.places(hash).map(|at| &self.slots[at])
    }

    /// Indices of the slots to look at for `hash`, in order.
    #[inline]
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<T> {
        let mask = self.slots.len() - 1;
        let start = hash as usize & mask;
        (0..self.slots.len()).map(move |i| (start + i) & mask)
    }

    fn values(&self) -> impl Iterator<Item = (u64, *mut T)> {
        self.slots.iter().filter_map(Slot::read)
    }

    /// Writes to the first free slot; returns where that is. Only the writer may call this.
    fn put(&self, hash: u64, value: *mut T) -> Option<Placed> {
        for at in self.places(hash) {
            let slot = &self.slots[at];
            let old = slot.value.load(Ordering::Relaxed);
            if old.is_null() || old == gone() {
                // A reader between the two stores sees the new hash with the old (empty) value, or passes
                // by on the old hash: both as if it had come before.
                slot.hash.store(hash, Ordering::Relaxed);
                slot.value.store(value, Ordering::Release);
                return Some(Placed { at, is_fresh: old.is_null() });
            }
        }
        None
    }

    /// Where the first value with this hash is for which `is_it` holds. Only the writer may call this.
    fn place_of(&self, hash: u64, is_it: impl Fn(*mut T) -> bool) -> Option<usize> {
        for at in self.places(hash) {
            let slot = &self.slots[at];
            let value = slot.value.load(Ordering::Relaxed);
            if value.is_null() {
                return None;
            }
            if value != gone() && slot.hash.load(Ordering::Relaxed) == hash && is_it(value) {
                return Some(at);
            }
        }
        None
    }

    fn clear(&self, at: usize) {
        self.slots[at].value.store(gone(), Ordering::Release);
    }
}

impl<T> Slot<T> {
    /// The slot's hash and value, if it has one.
    fn read(&self) -> Option<(u64, *mut T)> {
        let value = self.value.load(Ordering::Relaxed);
        (!value.is_null() && value != gone()).then(|| (self.hash.load(Ordering::Relaxed), value))
    }
}

/// Where a value was put.
struct Placed {
    at: usize,
    /// Nothing was there before.
    is_fresh: bool,
}

/// What only the writer knows.
struct Writer<T> {
    values: usize,
    /// Slots that are not null any more.
    used: usize,
    /// The array that will take the place of the present one.
    next: Option<Next<T>>,
}

/// An array that is being filled, a few slots with each insertion, so that none takes long. Readers do not see it
/// before it is complete.
struct Next<T> {
    slots: Slots<T>,
    used: usize,
    /// Slots of the present array below this are in here too.
    done: usize,
}

impl<T> Next<T> {
    fn put(&mut self, hash: u64, value: *mut T) {
        let placed = self.slots.put(hash, value);
        self.used += usize::from(placed.is_some_and(|p| p.is_fresh));
    }
}

/// A hash table of `Arc<T>`. Hashes are the caller's; several values may share one.
pub struct Table<T: Send + Sync + 'static> {
    domain: Arc<Domain>,
    slots: Snapshot<Slots<T>>,
    writer: Mutex<Writer<T>>,
}

/// A value in a [`Table`], borrowed for as long as the guard lasts.
pub struct Shared<'g, T> {
    /// From `Arc::into_raw`: the way to the counters as well as to the value.
    value: *const T,
    _lives: std::marker::PhantomData<&'g T>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<'_, T> {}

impl<T> Deref for Shared<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.get()
    }
}

impl<'g, T> Shared<'g, T> {
    #[inline]
    pub fn get(self) -> &'g T {
        // SAFETY: only `Table::find` makes a `Shared`; the table, or the domain on its behalf, holds a share
        // in the value as long as `'g`.
        unsafe { &*self.value }
    }

    /// A share in the value that outlives the guard.
    pub fn to_arc(self) -> Arc<T> {
        // SAFETY: as in `get`; the pointer is from `Arc::into_raw`.
        unsafe {
            Arc::increment_strong_count(self.value);
            Arc::from_raw(self.value)
        }
    }
}

const SMALLEST: usize = 16;
/// Slots that each insertion moves while the table grows. It begins at half of the slots in use, so that it is
/// through long before three quarters are.
const STEP: usize = 16;

impl<T: Send + Sync + 'static> Table<T> {
    pub fn new(domain: &Arc<Domain>) -> Self {
        Table {
            domain: Arc::clone(domain),
            slots: Snapshot::new(domain, Slots::with_capacity(SMALLEST)),
            writer: Mutex::new(Writer { values: 0, used: 0, next: None }),
        }
    }

    /// The first value with this hash for which `is_it` holds.
    #[inline]
    pub fn find<'g>(
        &'g self,
        guard: &'g Guard<'_>,
        hash: u64,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<Shared<'g, T>> {
        for slot in self.slots.load(guard).probe(hash) {
            if slot.hash.load(Ordering::Relaxed) == hash {
                let value = slot.value.load(Ordering::Acquire);
                if value.is_null() {
                    return None;
                }
                if value != gone() {
                    // SAFETY: a value is in a slot from `Arc::into_raw` until it is taken out and
                    // retired; the domain then keeps it for as long as the guard lasts.
                    if is_it(unsafe { &*value }) {
                        return Some(Shared { value, _lives: std::marker::PhantomData });
                    }
                }
            } else if slot.value.load(Ordering::Relaxed).is_null() {
                return None;
            }
        }
        None
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.writer.lock().values
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a value. Does not look for an equal one.
    pub fn insert(&self, hash: u64, value: Arc<T>) {
        let mut writer = self.writer.lock();
        let value = Arc::into_raw(value).cast_mut();
        // SAFETY: only `grow` publishes, under the writer's lock, and this reference is not used after.
        let now = unsafe { self.slots.load_as_writer() };
        if writer.next.is_none() && (writer.used + 1) * 2 > now.slots.len() {
            let room = (writer.values + 1 + now.slots.len() / STEP) * 2;
            let slots = Slots::with_capacity(room.max(SMALLEST));
            writer.next = Some(Next { slots, used: 0, done: 0 });
        }
        let Some(placed) = now.put(hash, value) else {
            // SAFETY: never happens, as a quarter of the slots is free; if it did, the value is still ours.
            return drop(unsafe { Arc::from_raw(value) });
        };
        writer.used += usize::from(placed.is_fresh);
        writer.values += 1;
        if let Some(next) = &mut writer.next {
            if placed.at < next.done {
                next.put(hash, value);
            }
            self.grow(&mut writer);
        }
    }

    /// Takes out the first value with this hash for which `is_it` holds. Readers may hold it until their
    /// next quiescent state.
    pub fn remove(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let mut writer = self.writer.lock();
        // SAFETY: only `grow` publishes, under the writer's lock, which we hold.
        let now = unsafe { self.slots.load_as_writer() };
        // SAFETY: under the writer's lock values in slots stay where they are.
        let at = now.place_of(hash, |v| is_it(unsafe { &*v }))?;
        let value = now.slots[at].value.load(Ordering::Relaxed);
        now.clear(at);
        if let Some(next) = writer.next.as_mut().filter(|next| at < next.done)
            && let Some(at) = next.slots.place_of(hash, |v| v == value)
        {
            next.slots.clear(at);
        }
        writer.values -= 1;
        // SAFETY: from `Arc::into_raw` in `insert`, taken out of the only array that readers look at, and of the
        // one that they will.
        let value = unsafe { Arc::from_raw(value) };
        drop(writer);
        self.domain.retire(Arc::clone(&value));
        Some(value)
    }

    /// Moves some values to the next array, and puts it in force when all are there.
    fn grow(&self, writer: &mut Writer<T>) {
        let Some(next) = &mut writer.next else { return };
        // SAFETY: only we publish, as the holder of the writer's lock, after the last use of this.
        let now = unsafe { self.slots.load_as_writer() };
        let end = (next.done + STEP).min(now.slots.len());
        for (hash, value) in now.slots[next.done..end].iter().filter_map(Slot::read) {
            next.put(hash, value);
        }
        next.done = end;
        if end == now.slots.len()
            && let Some(next) = writer.next.take()
        {
            writer.used = next.used;
            self.slots.publish(next.slots);
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: `self` is borrowed by us alone.
        for (_, value) in unsafe { self.slots.load_as_writer() }.values() {
            // SAFETY: from `Arc::into_raw` in `insert`; references from `find` borrow `self`, so there are
            // none, and nobody looks into the slots again.
            drop(unsafe { Arc::from_raw(value) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_and_not_what_was_removed() {
        let domain = Domain::new();
        let table = Table::new(&domain);
        // Few hashes, so that values collide.
        let hash = |n: u32| u64::from(n % 7);
        for n in 0..200u32 {
            table.insert(hash(n), Arc::new(n));
        }
        for n in (0..200).step_by(3) {
            assert_eq!(table.remove(hash(n), |v| *v == n).as_deref(), Some(&n));
            assert!(table.remove(hash(n), |v| *v == n).is_none());
        }
        let mut reader = domain.reader();
        let guard = reader.pin();
        for n in 0..200 {
            let found = table.find(&guard, hash(n), |v| *v == n);
            assert_eq!(found.map(|v| *v.to_arc()), (n % 3 != 0).then_some(n));
        }
        assert_eq!(table.len(), 133);
    }

    #[test]
    fn removed_slots_are_reused_or_swept() {
        let domain = Domain::new();
        let table = Table::new(&domain);
        for n in 0..if cfg!(miri) { 300 } else { 10_000u64 } {
            table.insert(n, Arc::new(n));
            table.remove(n, |v| *v == n);
        }
        let mut reader = domain.reader();
        let guard = reader.pin();
        assert!(table.slots.load(&guard).slots.len() <= 2 * SMALLEST);
    }

    /// Values that come and go while an array is being filled, against a list.
    #[test]
    fn growth_in_steps_loses_nothing_and_brings_nothing_back() {
        let domain = Domain::new();
        let table = Table::new(&domain);
        let mut reader = domain.reader();
        let mut present = std::collections::BTreeSet::new();
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let mut state = 1u64;
        let mut growing = 0;
        for round in 0..if cfg!(miri) { 400 } else { 20_000u64 } {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (state >> 33) % 8_000;
            if present.remove(&n) {
                assert!(table.remove(hash(n), |v| *v == n).is_some());
            } else {
                table.insert(hash(n), Arc::new(n));
                present.insert(n);
            }
            growing += usize::from(table.writer.lock().next.is_some());
            {
                let guard = reader.pin();
                for n in [n, round % 8_000] {
                    assert_eq!(table.find(&guard, hash(n), |v| *v == n).is_some(), present.contains(&n));
                }
            }
            reader.quiesce();
        }
        assert!(growing > 10, "arrays are filled over many steps: {growing}");
        assert_eq!(table.len(), present.len());
        present.iter().for_each(|n| assert!(table.remove(hash(*n), |v| v == n).is_some()));
        assert!(table.is_empty());
    }
}
