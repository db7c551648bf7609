//! Messages to one thread.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

struct Letter<T> {
    content: T,
    next: *mut Letter<T>,
}

/// A queue that any thread may post to and that is emptied as a whole; neither side ever waits.
pub struct Mailbox<T> {
    /// The newest letter; each points to the one before it.
    newest: AtomicPtr<Letter<T>>,
    _owns: std::marker::PhantomData<T>,
}

// SAFETY: letters are handed over whole, from the thread that posts to the one that takes.
unsafe impl<T: Send> Send for Mailbox<T> {}
// SAFETY: as above; no method gives shared access to a letter's content.
unsafe impl<T: Send> Sync for Mailbox<T> {}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox { newest: AtomicPtr::new(ptr::null_mut()), _owns: std::marker::PhantomData }
    }
}

impl<T> Mailbox<T> {
    pub fn post(&self, content: T) {
        let letter = Box::into_raw(Box::new(Letter { content, next: ptr::null_mut() }));
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: `letter` is ours until the exchange below succeeds.
            unsafe { (*letter).next = newest };
            match self.newest.compare_exchange_weak(newest, letter, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => newest = seen,
            }
        }
    }

    /// Whether there is nothing to take: one load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.newest.load(Ordering::Relaxed).is_null()
    }

    /// Takes all letters, oldest first.
    pub fn take(&self) -> Vec<T> {
        let mut at = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        let mut all = Vec::new();
        while !at.is_null() {
            // SAFETY: the swap made the whole chain ours; each letter came from `Box::into_raw` once.
            let letter = unsafe { Box::from_raw(at) };
            at = letter.next;
            all.push(letter.content);
        }
        all.reverse();
        all
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        self.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn letters_arrive_once_and_in_each_senders_order() {
        let mail = Arc::new(Mailbox::default());
        let per_sender = if cfg!(miri) { 50 } else { 20_000 };
        let senders: Vec<_> = (0..3u64)
            .map(|s| {
                let mail = Arc::clone(&mail);
                std::thread::spawn(move || (0..per_sender).for_each(|n| mail.post((s, Box::new(n)))))
            })
            .collect();
        let mut next = [0; 3];
        while next.iter().sum::<u64>() < 3 * per_sender {
            for (s, n) in mail.take() {
                assert_eq!(next[s as usize], *n);
                next[s as usize] += 1;
            }
        }
        senders.into_iter().for_each(|s| s.join().unwrap());
        mail.post((0, Box::new(1)));
        assert!(!mail.is_empty());
    }
}
