//! Pools of packet buffers.

use super::raw;
use super::text::c_string;
use std::ffi::c_int;
use std::ptr::NonNull;

/// Headroom of each buffer.
pub const HEADROOM: u32 = 128;
const ENOMEM: c_int = 12;

/// A pool of packet buffers, never freed while one of them is out.
#[derive(Debug)]
pub struct Mempool {
    pool: NonNull<raw::rte_mempool>,
    name: String,
}

// SAFETY: DPDK's mempools may be used from any thread; the ring behind them is multi-producer, multi-consumer.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// Why there is no pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MempoolError {
    NoMemory,
    Other(c_int),
}

impl Mempool {
    /// A pool of `count` buffers of `room` bytes, [`HEADROOM`] included, in the memory of NUMA node `socket`.
    pub fn create(name: &str, count: u32, room: u16, socket: i32) -> Result<Self, MempoolError> {
        let c_name = c_string(name);
        let cache = raw::RTE_MEMPOOL_CACHE_MAX_SIZE;
        // SAFETY: a string of ours, read during the call, and numbers that DPDK checks. The private area is
        // empty: `queue` finds a buffer's head by that.
        let pool = unsafe { raw::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, socket) };
        match NonNull::new(pool) {
            Some(pool) => Ok(Mempool { pool, name: name.to_owned() }),
            // SAFETY: reads a variable of this thread.
            None => Err(match unsafe { raw::shim_errno() } {
                ENOMEM => MempoolError::NoMemory,
                other => MempoolError::Other(other),
            }),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn as_ptr(&self) -> *mut raw::rte_mempool {
        self.pool.as_ptr()
    }

    /// Buffers in the pool and out of it.
    pub fn counts(&self) -> (u32, u32) {
        // SAFETY: the pool is live.
        unsafe { (raw::rte_mempool_avail_count(self.as_ptr()), raw::rte_mempool_in_use_count(self.as_ptr())) }
    }

    /// Whether no buffer is out.
    pub fn is_full(&self) -> bool {
        // SAFETY: the pool is live.
        unsafe { raw::shim_mempool_full(self.as_ptr()) != 0 }
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        if !self.is_full() {
            // Leaked rather than pulled from under a packet.
            tracing::warn!(target: "netdev_dpdk", "mempool \"{}\" is still in use and stays", self.name);
            return;
        }
        // SAFETY: all its buffers are back, and no queue of a started port refers to it: `Running` holds it.
        unsafe { raw::rte_mempool_free(self.as_ptr()) };
    }
}
