//! Buffers for frames of usual size, reused without allocation; large frames go to the pool of `netdev`.
//!
//! A thread that receives and sends on keeps what it needs at hand, so that the memory is on its own NUMA node
//! (the kernel places pages where they are first touched) and warm in its cache.

use packet::{HEADROOM, Packet, Pool};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest frame that is received.
pub const FRAME_MAX: usize = netdev::sys::pool::FRAME_MAX;
/// Bytes of one buffer: an odd number of cache lines, so that buffers do not fall upon the same sets.
const BUFFER: usize = 37 * 64;
/// Most buffers ever made (about 150 MiB); then the heap serves.
pub const LIMIT: usize = 65_536;
const AT_HAND: usize = 256;

static POOL: Pool = Pool { name: "vhost", release };
static MADE: AtomicUsize = AtomicUsize::new(0);
static SHARED: Mutex<Vec<&'static mut [u8]>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: RefCell<Local> = const { RefCell::new(Local(Vec::new())) };
}

/// A thread's own buffers; given to the others when it ends.
struct Local(Vec<&'static mut [u8]>);

impl Drop for Local {
    fn drop(&mut self) {
        SHARED.lock().append(&mut self.0);
    }
}

/// An empty packet with room for `len` bytes behind the usual headroom.
#[inline]
pub fn packet(len: usize) -> Packet {
    if len > BUFFER - HEADROOM {
        return netdev::sys::pool::packet();
    }
    match take() {
        Some(buffer) => Packet::from_pool(buffer, HEADROOM, 0, &POOL),
        None => Packet::with_room(HEADROOM, len),
    }
}

#[inline]
fn take() -> Option<&'static mut [u8]> {
    let local = HERE.try_with(|l| {
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

fn make() -> Option<&'static mut [u8]> {
    MADE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < LIMIT).then_some(n + 1)).ok()?;
    Some(Box::leak(vec![0; BUFFER].into_boxed_slice()))
}

fn release(buffer: &'static mut [u8]) {
    let mut buffer = Some(buffer);
    let local = HERE.try_with(|l| {
        let list = &mut l.borrow_mut().0;
        list.extend(buffer.take());
        if list.len() > AT_HAND {
            SHARED.lock().extend(list.drain(..AT_HAND / 2));
        }
    });
    if local.is_err() {
        SHARED.lock().extend(buffer);
    }
}
