//! One value, replaced as a whole.

use crate::domain::{Domain, Guard};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value that readers see as it was published last.
pub struct Snapshot<T: Send + Sync + 'static> {
    domain: Arc<Domain>,
    value: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> Snapshot<T> {
    pub fn new(domain: &Arc<Domain>, value: T) -> Self {
        Snapshot { domain: Arc::clone(domain), value: AtomicPtr::new(Box::into_raw(Box::new(value))) }
    }

    #[inline]
    pub fn load<'g>(&'g self, guard: &'g Guard<'_>) -> &'g T {
        guard.check(&self.domain);
        // SAFETY: the pointer came from `Box::into_raw`. `publish` hands it to the domain only after
        // taking it out of `value`, and the domain keeps it until the guard's reader announces a
        // quiescent state, which it cannot while the guard is borrowed. `drop` needs `self` unborrowed.
        unsafe { &*self.value.load(Ordering::Acquire) }
    }

    /// The value, for whoever is the only one to publish.
    ///
    /// # Safety
    /// [`Snapshot::publish`] must not be called while the reference lives, except by its holder as its
    /// last use of it.
    pub(crate) unsafe fn load_as_writer(&self) -> &T {
        // SAFETY: the pointer came from `Box::into_raw` and stays ours while nobody publishes.
        unsafe { &*self.value.load(Ordering::Relaxed) }
    }

    /// Replaces the value. Readers that hold the old one keep it until their next quiescent state.
    pub fn publish(&self, value: T) {
        let old = self.value.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        self.domain.retire(Retired(old));
    }
}

/// A former value. Not a `Box`, which would claim to be the only way to it while readers still hold theirs.
struct Retired<T>(*mut T);

// SAFETY: owns the value like a `Box` of it would.
unsafe impl<T: Send> Send for Retired<T> {}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw` and was swapped out of the snapshot once; the domain
        // drops it when no reader holds a reference any more.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<T: Send + Sync + 'static> Drop for Snapshot<T> {
    fn drop(&mut self) {
        // SAFETY: as in `publish`; references from `load` borrow `self`, so there are none.
        drop(unsafe { Box::from_raw(*self.value.get_mut()) });
    }
}
