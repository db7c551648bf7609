//! Receive buffers large enough for any frame of a virtual link, reused without allocation.
//!
//! A super-packet (TSO) is up to 64 KiB, and nobody knows before the system call which frame will be one. So
//! every receive goes into a full-size buffer; the buffer travels with the packet and comes back when the
//! packet is dropped, on whichever thread that is. Each thread keeps a few at hand, the rest wait in one list.
//! At [`LIMIT`] buffers the pool gives no more and packets come from the heap (counted).

use packet::{HEADROOM, Packet, Pool};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The largest frame that a kernel device hands over: 64 KiB of IP behind Ethernet and two tags.
pub const FRAME_MAX: usize = 65_536 + 14 + 8;
/// Bytes of one buffer.
const BUFFER: usize = (HEADROOM + FRAME_MAX).next_multiple_of(4096);
/// Most buffers ever made (about 136 MiB when all were filled to the brim).
pub const LIMIT: usize = 2048;
/// Buffers that a thread keeps for itself.
const AT_HAND: usize = 96;

/// The pool that packets name.
static POOL: Pool =
    Pool { name: "frames", release: |bytes| give_back(bytes.as_mut_ptr().expose_provenance()) };
static MADE: AtomicUsize = AtomicUsize::new(0);
static FROM_HEAP: AtomicU64 = AtomicU64::new(0);
static SHARED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

thread_local! {
    static AT_HAND_HERE: RefCell<Local> = const { RefCell::new(Local(Vec::new())) };
}

/// A thread's own buffers; given to the others when the thread ends.
struct Local(Vec<usize>);

impl Drop for Local {
    fn drop(&mut self) {
        SHARED.lock().append(&mut self.0);
    }
}

/// An empty packet with [`HEADROOM`] in front and room for [`FRAME_MAX`] bytes.
pub fn packet() -> Packet {
    match take() {
        Some(handle) => {
            // SAFETY: `handle` is the address of a leaked buffer of BUFFER initialised bytes. It was on a free
            // list, so no packet refers to it, and it is on none now, so no other reference is made until
            // `give_back`, which the packet calls when it stops using the bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(handle as *mut u8, BUFFER) };
            Packet::from_pool(bytes, HEADROOM, 0, &POOL)
        }
        None => {
            FROM_HEAP.fetch_add(1, Ordering::Relaxed);
            Packet::with_room(HEADROOM, FRAME_MAX)
        }
    }
}

/// How often the pool was empty and the heap had to serve.
pub fn heap_fallbacks() -> u64 {
    FROM_HEAP.load(Ordering::Relaxed)
}

fn take() -> Option<usize> {
    let local = AT_HAND_HERE.try_with(|l| {
        let list = &mut l.borrow_mut().0;
        if list.is_empty() {
            let mut shared = SHARED.lock();
            let keep = shared.len().saturating_sub(AT_HAND / 2);
            list.extend(shared.drain(keep..));
        }
        list.pop()
    });
    local.ok().flatten().or_else(make)
}

fn make() -> Option<usize> {
    MADE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < LIMIT).then_some(n + 1)).ok()?;
    let bytes: &'static mut [u8] = Box::leak(vec![0; BUFFER].into_boxed_slice());
    Some(bytes.as_mut_ptr().expose_provenance())
}

fn give_back(handle: usize) {
    let local = AT_HAND_HERE.try_with(|l| {
        let list = &mut l.borrow_mut().0;
        list.push(handle);
        if list.len() > AT_HAND {
            SHARED.lock().extend(list.drain(..AT_HAND / 2));
        }
    });
    if local.is_err() {
        SHARED.lock().push(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_are_exclusive() {
        let mut a = packet();
        let mut b = packet();
        a.space_mut().fill(1);
        b.space_mut().fill(2);
        a.set_len(FRAME_MAX);
        b.set_len(FRAME_MAX);
        assert!(a.data().iter().all(|x| *x == 1) && b.data().iter().all(|x| *x == 2));
        let at = b.pool().map(|_| b.data().as_ptr()).expect("pool");
        std::thread::spawn(move || drop(b)).join().expect("thread");
        drop(a);
        // The other thread's end moved the buffer to the shared list.
        let held: Vec<_> = (0..LIMIT + 3).map(|_| packet()).collect();
        assert!(held.iter().any(|p| p.data().as_ptr() == at));
        assert!(heap_fallbacks() >= 3, "beyond the limit packets come from the heap");
    }
}
