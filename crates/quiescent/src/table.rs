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
        let slots = slots.next_power_of_two();
        let empty = |_| Slot { hash: AtomicU64::new(0), value: AtomicPtr::new(std::ptr::null_mut()) };
        Slots { slots: (0..slots).map(empty).collect() }
    }

    /// The slots to look at for `hash`, in order.
    #[inline]
    fn probe(&self, hash: u64) -> impl Iterator<Item = &Slot<T>> {
        let mask = self.slots.len() - 1;
        let start = hash as usize & mask;
        (0..self.slots.len()).map(move |i| &self.slots[(start + i) & mask])
    }

    fn values(&self) -> impl Iterator<Item = (u64, *mut T)> {
        let read = |s: &Slot<T>| (s.hash.load(Ordering::Relaxed), s.value.load(Ordering::Relaxed));
        self.slots.iter().map(read).filter(|(_, v)| !v.is_null() && *v != gone())
    }

    /// Writes to the first free slot. Only the writer may call this.
    fn put(&self, hash: u64, value: *mut T) -> Placed {
        for slot in self.probe(hash) {
            let old = slot.value.load(Ordering::Relaxed);
            if old.is_null() || old == gone() {
                // A reader between the two stores sees the new hash with the old (empty) value, or passes
                // by on the old hash: both as if it had come before.
                slot.hash.store(hash, Ordering::Relaxed);
                slot.value.store(value, Ordering::Release);
                return if old.is_null() { Placed::Fresh } else { Placed::Reused };
            }
        }
        Placed::Nowhere
    }
}

#[derive(PartialEq)]
enum Placed {
    Fresh,
    Reused,
    Nowhere,
}

/// What only the writer knows.
#[derive(Default)]
struct Writer {
    values: usize,
    /// Slots that are not null any more.
    used: usize,
}

/// A hash table of `Arc<T>`. Hashes are the caller's; several values may share one.
pub struct Table<T: Send + Sync + 'static> {
    domain: Arc<Domain>,
    slots: Snapshot<Slots<T>>,
    writer: Mutex<Writer>,
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

impl<T: Send + Sync + 'static> Table<T> {
    pub fn new(domain: &Arc<Domain>) -> Self {
        Table {
            domain: Arc::clone(domain),
            slots: Snapshot::new(domain, Slots::with_capacity(SMALLEST)),
            writer: Mutex::default(),
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
        // SAFETY: only `rebuild` publishes, under the writer's lock, and this reference is not used after.
        if (writer.used + 1) * 4 > unsafe { self.slots.load_as_writer() }.slots.len() * 3 {
            self.rebuild(&mut writer);
        }
        let value = Arc::into_raw(value).cast_mut();
        // SAFETY: as above; nothing publishes any more before the lock is released.
        match unsafe { self.slots.load_as_writer() }.put(hash, value) {
            Placed::Fresh => writer.used += 1,
            Placed::Reused => {}
            // SAFETY: never happens, as a quarter of the slots is free; if it did, the value is still ours.
            Placed::Nowhere => return drop(unsafe { Arc::from_raw(value) }),
        }
        writer.values += 1;
    }

    /// Takes out the first value with this hash for which `is_it` holds. Readers may hold it until their
    /// next quiescent state.
    pub fn remove(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let mut writer = self.writer.lock();
        // SAFETY: only `rebuild` publishes, under the writer's lock, which we hold.
        for slot in unsafe { self.slots.load_as_writer() }.probe(hash) {
            let value = slot.value.load(Ordering::Relaxed);
            if value.is_null() {
                return None;
            }
            let matches = |v: *mut T| {
                // SAFETY: under the writer's lock values in slots stay where they are.
                v != gone() && slot.hash.load(Ordering::Relaxed) == hash && is_it(unsafe { &*v })
            };
            if matches(value) {
                slot.value.store(gone(), Ordering::Release);
                writer.values -= 1;
                // SAFETY: from `Arc::into_raw` in `insert`, taken out of the only slot that held it.
                let value = unsafe { Arc::from_raw(value) };
                self.domain.retire(Arc::clone(&value));
                return Some(value);
            }
        }
        None
    }

    /// Moves all values to a new array with room for as many again.
    fn rebuild(&self, writer: &mut Writer) {
        // SAFETY: only we publish, as the holder of the writer's lock, after the last use of this.
        let old = unsafe { self.slots.load_as_writer() };
        let new = Slots::with_capacity((writer.values * 3).max(SMALLEST));
        for (hash, value) in old.values() {
            new.put(hash, value);
        }
        writer.used = writer.values;
        self.slots.publish(new);
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
}
