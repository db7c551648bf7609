//! Buffers of received frames: small ones for those of usual size, large ones for the others.

use crate::mem::loan;
use arrayvec::ArrayVec;
use netdev::pool::{Buffer, SMALL, SMALL_LEN};
use packet::{BATCH_LEN, Batch, HEADROOM, Packet};

/// The largest frame that is received.
pub const FRAME_MAX: usize = netdev::pool::FRAME_MAX;
/// The largest frame in a small buffer.
pub const SMALL_FRAME_MAX: usize = SMALL_LEN - HEADROOM;

/// Small buffers for a batch.
pub type Buffers = ArrayVec<Buffer, BATCH_LEN>;

/// Small buffers for `n` frames, of which a batch has room for as many.
#[inline]
pub fn take(n: usize, buffers: &mut Buffers) {
    SMALL.take_many(n, buffers);
    while buffers.len() < n.min(BATCH_LEN) {
        let Some(buffer) = SMALL.take() else { break };
        buffers.push(buffer);
    }
}

#[inline]
pub fn give(buffers: Buffers) {
    if !buffers.is_empty() {
        SMALL.give_many(buffers.into_iter());
    }
}

/// An empty packet with room for `len` bytes behind the usual headroom.
#[inline]
pub fn packet(len: usize) -> Packet {
    if len > SMALL_FRAME_MAX {
        return netdev::pool::packet();
    }
    match SMALL.take() {
        Some(buffer) => Packet::from_pool(buffer, HEADROOM, 0, &loan::WHOLE),
        None => Packet::with_room(HEADROOM, len),
    }
}

/// Drops packets that were sent; ours all at once.
#[inline]
pub fn drop_all(batch: &mut Batch) {
    let mut buffers = Buffers::new();
    for packet in batch.iter_mut() {
        if let Some(buffer) = loan::take_buffer(packet) {
            buffers.push(buffer);
        }
    }
    batch.clear();
    give(buffers);
}
