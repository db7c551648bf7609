//! Frames of which only the head is copied when they are received: the rest stays in the guest's memory until it is
//! copied, once, to where it goes ([`packet::Loan`]).
//!
//! What is parsed, changed or matched is the copied head, which the guest cannot reach. It may change the rest while
//! that is copied: what arrives then is what it might have sent. The buffer goes back to the guest when the loan is
//! over, which the ring learns from a flag; the memory stays mapped until then, whatever the front end does.

use super::{GuestMemory, HEAD, Piece};
use netdev::pool::{SMALL, SMALL_LEN};
use packet::{HEADROOM, Loan, Packet, Pool};
use parking_lot::Mutex;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Frames that one ring lends at a time: two batches.
pub const LOANS_MAX: usize = 64;
/// Bytes in front of a packet in which its loan is noted: where its end is, and the flag to clear.
const NOTE: usize = 16;

/// Which of a ring's loans are out. Never freed, only used again, so that a packet may clear its flag at any time.
type Flags = [AtomicBool; LOANS_MAX];

/// Flags that no ring uses.
static FREE: Mutex<Vec<&'static Flags>> = Mutex::new(Vec::new());
/// Those of rings that are gone, with the memory that packets still refer to.
static OUTLIVED: Mutex<Vec<(&'static Flags, Arc<GuestMemory>)>> = Mutex::new(Vec::new());

/// Small buffers with packets that are here as a whole.
pub static WHOLE: Pool = Pool { name: "vhost", release: |bytes| SMALL.give(bytes), loan: None };
/// Small buffers with packets on loan. Private: what stands in front of such a packet is trusted.
static LENT: Pool = Pool {
    name: "vhost-loan",
    release: |bytes| {
        settle(bytes.get_mut(..HEADROOM).unwrap_or_default());
        SMALL.give(bytes);
    },
    loan: Some(Loan { copy, settle, whole: &WHOLE }),
};

/// What a packet on loan has to know: addresses of the absent bytes, and of its flag.
fn note(front: &[u8]) -> Option<(usize, usize)> {
    let note = front.last_chunk::<NOTE>()?;
    let (source, flag) = note.split_first_chunk::<8>()?;
    Some((usize::from_ne_bytes(*source), usize::from_ne_bytes(*flag.first_chunk()?)))
}

fn copy(front: &[u8], out: &mut [u8]) {
    if let Some((source, _)) = note(front) {
        // SAFETY: only `Lender::lend` makes packets of `LENT`, in whose front it noted the address of as many mapped
        // bytes as are absent, and whose memory is held until the flag is cleared, which is not before the packet
        // is whole or gone. The guest may write meanwhile: the bytes are valid whatever they are.
        unsafe {
            ptr::copy_nonoverlapping(ptr::with_exposed_provenance(source), out.as_mut_ptr(), out.len())
        };
    }
}

fn settle(front: &mut [u8]) {
    if let Some((_, flag)) = note(front) {
        // SAFETY: `Lender::lend` noted the address of a flag, which lives for ever.
        let flag = unsafe { &*ptr::with_exposed_provenance::<AtomicBool>(flag) };
        flag.store(false, Ordering::Release);
    }
}

/// Copies the absent end of a packet to a guest, as much as there is room for.
#[inline]
pub(super) fn copy_to(packet: &Packet, to: Piece<'_>) {
    let Some((front, absent)) = packet.loan(&LENT) else { return };
    if let Some((source, _)) = note(front) {
        let n = absent.min(to.len);
        // SAFETY: as in `copy`; `to` has `n` mapped bytes. Both may be the same guest's memory.
        unsafe { ptr::copy(ptr::with_exposed_provenance(source), to.base, n) };
    }
}

/// Takes a packet's buffer if it is one of ours, and ends its loan; for a sender that is done with it.
#[inline]
pub fn take_buffer(packet: &mut Packet) -> Option<&'static mut [u8]> {
    if let Some(bytes) = packet.surrender(&WHOLE) {
        return Some(bytes);
    }
    let bytes = packet.surrender(&LENT)?;
    settle(bytes.get_mut(..HEADROOM).unwrap_or_default());
    Some(bytes)
}

/// The number of a loan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u8);

/// Lends frames of one ring.
pub struct Lender {
    flags: &'static Flags,
    next: u8,
    memory: Arc<GuestMemory>,
}

impl Lender {
    pub fn new(memory: Arc<GuestMemory>) -> Self {
        sweep();
        let free = FREE.lock().pop();
        let flags =
            free.unwrap_or_else(|| Box::leak(Box::new([const { AtomicBool::new(false) }; LOANS_MAX])));
        Lender { flags, next: 0, memory }
    }

    /// A packet of `len` bytes whose head is in `buffer`, behind [`HEADROOM`], and whose rest is at guest address
    /// `rest`; gives the buffer back if that cannot be lent.
    #[inline]
    pub fn lend(
        &mut self,
        buffer: &'static mut [u8],
        len: usize,
        rest: u64,
        near: &mut usize,
    ) -> Result<(Packet, Ticket), &'static mut [u8]> {
        let absent = len.saturating_sub(HEAD);
        let piece = self.memory.rest(near, rest).ok().filter(|p| p.len >= absent);
        let flag = self.flags.get(usize::from(self.next)).filter(|f| !f.load(Ordering::Acquire));
        let (Some(piece), Some(flag), Ok(absent)) = (piece, flag, u16::try_from(absent)) else {
            return Err(buffer);
        };
        let note = buffer.get_mut(..HEADROOM).and_then(|front| front.last_chunk_mut::<NOTE>());
        let (Some(note), true) = (note, HEADROOM + len <= SMALL_LEN) else { return Err(buffer) };
        let (source, address) = note.split_at_mut(8);
        source.copy_from_slice(&piece.base.expose_provenance().to_ne_bytes());
        address.copy_from_slice(&ptr::from_ref(flag).expose_provenance().to_ne_bytes());
        flag.store(true, Ordering::Relaxed);
        let ticket = Ticket(self.next);
        self.next = (self.next + 1) % LOANS_MAX as u8;
        Ok((Packet::from_loan(buffer, HEADROOM, len, absent, &LENT), ticket))
    }

    /// Whether a loan is over.
    #[inline]
    pub fn is_settled(&self, ticket: Ticket) -> bool {
        self.flags.get(usize::from(ticket.0)).is_none_or(|f| !f.load(Ordering::Acquire))
    }
}

fn are_settled(flags: &Flags) -> bool {
    flags.iter().all(|f| !f.load(Ordering::Acquire))
}

/// Lets go of memory that no packet refers to any longer.
fn sweep() {
    let mut outlived = OUTLIVED.lock();
    let (over, left): (Vec<_>, Vec<_>) = outlived.drain(..).partition(|(flags, _)| are_settled(flags));
    *outlived = left;
    drop(outlived);
    FREE.lock().extend(over.into_iter().map(|(flags, _)| flags));
}

impl Drop for Lender {
    fn drop(&mut self) {
        OUTLIVED.lock().push((self.flags, self.memory.clone()));
        sweep();
    }
}
