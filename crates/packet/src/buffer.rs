//! A packet and the memory it lies in.

use crate::offload::{Checksum, Offload};

/// Bytes kept free in front of a received frame, for encapsulation.
pub const HEADROOM: usize = 128;

/// A driver's packet memory, outside of the heap. It is known by its address, so each is a `static`.
#[derive(Debug)]
pub struct Pool {
    pub name: &'static str,
    /// Takes back the whole buffer that was given to [`Packet::from_pool`]. Called on any thread.
    pub release: fn(&'static mut [u8]),
}

/// Memory of one packet: ours, or lent by a driver's pool that wants it back.
enum Memory {
    Heap(Box<[u8]>),
    Pooled(&'static mut [u8], &'static Pool),
}

/// A packet's memory on its way back to its driver: see [`Packet::into_pooled`].
#[derive(Debug)]
pub struct Pooled {
    /// The whole buffer.
    pub bytes: &'static mut [u8],
    /// Where the packet starts in it.
    pub start: usize,
    /// The packet's length.
    pub len: usize,
    pub offload: Offload,
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Heap(b) => b,
            Memory::Pooled(bytes, _) => bytes,
        }
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Heap(b) => b,
            Memory::Pooled(bytes, _) => bytes,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Memory::Pooled(bytes, pool) = self {
            // An empty slice stays: that of a packet taken apart already was never lent by a pool.
            let bytes = std::mem::take(bytes);
            if !bytes.is_empty() {
                (pool.release)(bytes);
            }
        }
    }
}

/// Offset that says "this packet has no such header".
pub const NO_OFFSET: u16 = u16::MAX;

/// A packet: a window of `len` bytes into its memory, where its headers start, and what the hardware or
/// the other end of a virtual link said about it.
pub struct Packet {
    memory: Memory,
    start: u32,
    len: u32,
    /// Offsets from the start of the data; [`NO_OFFSET`] if absent or not parsed yet.
    pub l2_5_ofs: u16,
    pub l3_ofs: u16,
    pub l4_ofs: u16,
    /// Bytes at the end that belong to the link layer only (Ethernet padding).
    pub l2_pad: u16,
    /// Receive-side hash, 0 if none was computed.
    pub rss_hash: u32,
    /// `flow::PT_ETH`, or the type of a packet without an Ethernet header.
    pub packet_type: u32,
    pub offload: Offload,
}

impl Packet {
    /// An empty packet with room for `tailroom` bytes behind `headroom` free ones.
    pub fn with_room(headroom: usize, tailroom: usize) -> Self {
        Self::over(Memory::Heap(vec![0; headroom + tailroom].into_boxed_slice()), headroom, 0)
    }

    /// A packet holding a copy of `frame`, with [`HEADROOM`] in front.
    pub fn from_slice(frame: &[u8]) -> Self {
        let mut p = Self::with_room(HEADROOM, frame.len());
        p.memory.bytes_mut()[HEADROOM..].copy_from_slice(frame);
        p.len = frame.len() as u32;
        p
    }

    /// A packet of `len` bytes at `start` in a buffer that goes back to `pool` with the packet.
    ///
    /// `start + len` beyond the buffer is cut to what is there.
    #[inline]
    pub fn from_pool(bytes: &'static mut [u8], start: usize, len: usize, pool: &'static Pool) -> Self {
        Self::over(Memory::Pooled(bytes, pool), start, len)
    }

    /// Takes the packet apart if its memory is of `pool`, for a driver that sends its own buffers without a
    /// copy; gives it back if it is not. Whoever takes the buffer releases it.
    #[inline]
    pub fn into_pooled(mut self, pool: &'static Pool) -> Result<Pooled, Packet> {
        match &mut self.memory {
            Memory::Pooled(bytes, own) if std::ptr::eq(*own, pool) => {
                let bytes = std::mem::take(bytes);
                Ok(Pooled {
                    bytes,
                    start: self.start as usize,
                    len: self.len as usize,
                    offload: self.offload,
                })
            }
            _ => Err(self),
        }
    }

    /// As [`Packet::into_pooled`], of a packet that nobody looks at any more; it is empty then.
    #[inline]
    pub fn surrender(&mut self, pool: &'static Pool) -> Option<&'static mut [u8]> {
        match &mut self.memory {
            Memory::Pooled(bytes, own) if std::ptr::eq(*own, pool) => {
                (self.start, self.len) = (0, 0);
                Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())
            }
            _ => None,
        }
    }

    #[inline]
    fn over(memory: Memory, start: usize, len: usize) -> Self {
        let total = memory.bytes().len();
        let start = start.min(total);
        Packet {
            memory,
            start: start as u32,
            len: len.min(total - start) as u32,
            l2_5_ofs: NO_OFFSET,
            l3_ofs: NO_OFFSET,
            l4_ofs: NO_OFFSET,
            l2_pad: 0,
            rss_hash: 0,
            packet_type: flow::PT_ETH,
            offload: Offload::default(),
        }
    }

    /// The pool that the packet's memory is of; `None` if it is the heap.
    pub fn pool(&self) -> Option<&'static Pool> {
        match &self.memory {
            Memory::Pooled(_, pool) => Some(pool),
            Memory::Heap(_) => None,
        }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    pub fn tailroom(&self) -> usize {
        self.memory.bytes().len() - self.start as usize - self.len as usize
    }

    /// The packet's bytes.
    pub fn data(&self) -> &[u8] {
        let s = self.start as usize;
        &self.memory.bytes()[s..s + self.len as usize]
    }

    pub fn data_mut(&mut self) -> &mut [u8] {
        let s = self.start as usize;
        let e = s + self.len as usize;
        &mut self.memory.bytes_mut()[s..e]
    }

    /// The whole free space behind the start, for a driver to receive into; then [`Packet::set_len`].
    pub fn space_mut(&mut self) -> &mut [u8] {
        let s = self.start as usize;
        &mut self.memory.bytes_mut()[s..]
    }

    /// Sets the length, cut to what the memory holds.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.memory.bytes().len() - self.start as usize) as u32;
    }

    /// Makes room for `n` bytes in front of the data (their content is unspecified) and returns the new
    /// data. Header and checksum offsets are moved along. Reallocates when the headroom does not suffice.
    pub fn push_front(&mut self, n: usize) -> &mut [u8] {
        if self.headroom() < n {
            self.reallocate(n + HEADROOM, self.tailroom());
        }
        self.start -= n as u32;
        self.len += n as u32;
        self.shift_offsets(n as i32);
        self.data_mut()
    }

    /// Removes up to `n` bytes from the front. Header offsets are moved along; a header cut away has none.
    pub fn pull_front(&mut self, n: usize) {
        let n = n.min(self.len());
        self.start += n as u32;
        self.len -= n as u32;
        self.shift_offsets(-(n as i32));
    }

    /// Appends `n` zero bytes and returns them. Reallocates when the tailroom does not suffice.
    pub fn push_back(&mut self, n: usize) -> &mut [u8] {
        if self.tailroom() < n {
            self.reallocate(self.headroom(), n);
        }
        let old = self.len();
        self.len += n as u32;
        let new = &mut self.data_mut()[old..];
        new.fill(0);
        new
    }

    fn reallocate(&mut self, headroom: usize, tailroom: usize) {
        let len = self.len();
        let mut bytes = vec![0; headroom + len + tailroom].into_boxed_slice();
        bytes[headroom..headroom + len].copy_from_slice(self.data());
        self.memory = Memory::Heap(bytes);
        self.start = headroom as u32;
    }

    fn shift_offsets(&mut self, by: i32) {
        for ofs in [&mut self.l2_5_ofs, &mut self.l3_ofs, &mut self.l4_ofs] {
            if *ofs != NO_OFFSET {
                *ofs = u16::try_from(i32::from(*ofs) + by).unwrap_or(NO_OFFSET);
            }
        }
        if let Checksum::Partial { start, .. } = &mut self.offload.checksum {
            match u16::try_from(i32::from(*start) + by) {
                Ok(s) => *start = s,
                // What was to be summed is gone, at least in part.
                Err(_) => self.offload.checksum = Checksum::Unknown,
            }
        }
    }
}

impl Clone for Packet {
    /// A deep copy into memory of our own.
    fn clone(&self) -> Self {
        let mut p = Self::from_slice(self.data());
        p.l2_5_ofs = self.l2_5_ofs;
        p.l3_ofs = self.l3_ofs;
        p.l4_ofs = self.l4_ofs;
        p.l2_pad = self.l2_pad;
        p.rss_hash = self.rss_hash;
        p.packet_type = self.packet_type;
        p.offload = self.offload;
        p
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packet({} bytes, {:?})", self.len, self.offload)
    }
}

// A packet moves through several batches on its way; one cache line is what that may cost.
const _: () = assert!(size_of::<Packet>() <= 64);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static BACK: AtomicUsize = AtomicUsize::new(0);
    static LEAKY: Pool = Pool {
        name: "leaky",
        release: |bytes| {
            BACK.fetch_add(bytes.len(), Ordering::Relaxed);
        },
    };
    static OTHER: Pool = Pool { name: "other", release: |_| () };

    #[test]
    fn pooled_memory_goes_back_once() {
        let lent = || Packet::from_pool(Box::leak(vec![7; 100].into_boxed_slice()), 60, 30, &LEAKY);
        drop(lent());
        assert_eq!(BACK.load(Ordering::Relaxed), 100);
        let p = lent().into_pooled(&OTHER).expect_err("not of that pool");
        assert_eq!(
            (p.pool().map(|p| p.name), p.headroom(), p.len(), p.tailroom()),
            (Some("leaky"), 60, 30, 10)
        );
        let parts = p.into_pooled(&LEAKY).expect("of that pool");
        assert_eq!((parts.bytes.len(), parts.start, parts.len), (100, 60, 30));
        assert_eq!(BACK.load(Ordering::Relaxed), 100, "who takes the buffer releases it");
        // Memory that no longer suffices goes back at once.
        let mut p = lent();
        p.push_back(11);
        assert_eq!((BACK.load(Ordering::Relaxed), p.pool().is_none(), p.len()), (200, true, 41));
    }

    #[test]
    fn push_and_pull_keep_data_and_offsets() {
        let mut p = Packet::from_slice(&[1, 2, 3, 4]);
        p.l3_ofs = 2;
        p.offload.checksum = Checksum::Partial { start: 2, offset: 0 };
        p.push_front(HEADROOM + 4)[0] = 9;
        assert_eq!((p.len(), p.l3_ofs), (HEADROOM + 8, HEADROOM as u16 + 6));
        p.pull_front(HEADROOM + 4);
        assert_eq!((p.data(), p.l3_ofs), (&[1, 2, 3, 4][..], 2));
        assert_eq!(p.offload.checksum, Checksum::Partial { start: 2, offset: 0 });
        p.pull_front(3);
        assert_eq!(p.offload.checksum, Checksum::Unknown);
        assert_eq!((p.data(), p.l3_ofs), (&[4][..], NO_OFFSET));
        assert_eq!(p.push_back(2), &[0, 0]);
    }
}
