//! What the processor does beside the language: prefetches, wide comparisons, the time stamp counter.

#![allow(unsafe_code)] // reason: instructions without a safe form; DESIGN gives the datapath this one file

/// Bytes that [`differs`] compares.
pub(crate) const WIDE: usize = 48;

/// Asks for the cache line that `value` starts in, without waiting for it.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of an address that a reference vouches for; it changes nothing and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks for the cache line at an address, which need not be one of anything, for this core alone: it will be written, and
/// other cores need not be told of that then.
#[inline(always)]
pub(crate) fn prefetch_to_write(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and never faults, whatever the address; a processor that lacks this one (3DNow! or
    // PRFCHW) takes it for a `nop`.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Whether `a` and `b` differ in a bit of `mask`.
#[inline(always)]
pub(crate) fn differs(a: &[u8; WIDE], b: &[u8; WIDE], mask: &[u8; WIDE]) -> bool {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of the architecture has SSE2; each load is of 16 bytes within an array.
    unsafe {
        use std::arch::x86_64::*;
        let load = |bytes: &[u8; WIDE], at: usize| _mm_loadu_si128(bytes.as_ptr().add(at).cast());
        let part = |at| _mm_and_si128(_mm_xor_si128(load(a, at), load(b, at)), load(mask, at));
        let all = _mm_or_si128(_mm_or_si128(part(0), part(16)), part(32));
        _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())) != 0xffff
    }
    #[cfg(not(target_arch = "x86_64"))]
    differs_plainly(a, b, mask)
}

/// The twin of [`differs`] for processors without its instructions, and for tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn differs_plainly(a: &[u8; WIDE], b: &[u8; WIDE], mask: &[u8; WIDE]) -> bool {
    a.iter().zip(b).zip(mask).any(|((a, b), m)| (a ^ b) & m != 0)
}

/// The processor's own count of time, at some steady rate; [`crate::watch`] knows it.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter that every processor of the architecture has.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wide_differences_are_plain_ones(
            a in any::<[[u8; 16]; 3]>(), at in 0..WIDE, bits: u8, mask in any::<[[u8; 16]; 3]>(),
        ) {
            let whole = |parts: [[u8; 16]; 3]| *parts.concat().first_chunk::<WIDE>().unwrap();
            let (a, mut mask) = (whole(a), whole(mask));
            let mut b = a;
            b[at] ^= bits;
            prop_assert_eq!(differs(&a, &b, &mask), differs_plainly(&a, &b, &mask));
            mask[at] = bits;
            prop_assert_eq!(differs(&a, &b, &mask), bits != 0);
        }
    }

    #[test]
    fn ticks_go_on() {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(ticks() > before);
    }
}
