//! Buffers of received frames: small ones for those of usual size, large ones for the others.

use arrayvec::ArrayVec;
use netdev::pool::{Buffer, SMALL, SMALL_LEN};
use packet::{BATCH_LEN, Batch, HEADROOM, Packet, Pool};

/// The largest frame that is received.
pub const FRAME_MAX: usize = netdev::pool::FRAME_MAX;
/// The largest frame in a small buffer.
pub const SMALL_FRAME_MAX: usize = SMALL_LEN - HEADROOM;

/// The pool that packets in small buffers name.
static OWN: Pool = Pool { name: "vhost", release: |bytes| SMALL.give(bytes) };

/// Small buffers for a batch.
type Buffers = ArrayVec<Buffer, BATCH_LEN>;

#[inline]
fn give(buffers: Buffers) {
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
        Some(buffer) => Packet::from_pool(buffer, HEADROOM, 0, &OWN),
        None => Packet::with_room(HEADROOM, len),
    }
}

/// Drops packets that were sent; ours all at once.
#[inline]
pub fn drop_all(batch: &mut Batch) {
    let mut buffers = Buffers::new();
    for packet in batch.iter_mut() {
        buffers.extend(packet.surrender(&OWN));
    }
    batch.clear();
    give(buffers);
}
