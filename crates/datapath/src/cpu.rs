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

/// Whether `a` and `b` differ in a bit of `mask`. `N` is a multiple of 16.
#[inline(always)]
pub(crate) fn differs<const N: usize>(a: &[u8; N], b: &[u8; N], mask: &[u8; N]) -> bool {
    const { assert!(N.is_multiple_of(16)) }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of the architecture has SSE2; each load is of 16 bytes within an array.
    unsafe {
        use std::arch::x86_64::*;
        let load = |bytes: &[u8; N], at: usize| _mm_loadu_si128(bytes.as_ptr().add(at).cast());
        let part = |at| _mm_and_si128(_mm_xor_si128(load(a, at), load(b, at)), load(mask, at));
        let all = (0..N / 16).fold(_mm_setzero_si128(), |all, i| _mm_or_si128(all, part(16 * i)));
        _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())) != 0xffff
    }
    #[cfg(not(target_arch = "x86_64"))]
    differs_plainly(a, b, mask)
}

/// The twin of [`differs`] for processors without its instructions, and for tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn differs_plainly<const N: usize>(a: &[u8; N], b: &[u8; N], mask: &[u8; N]) -> bool {
    a.iter().zip(b).zip(mask).any(|((a, b), m)| (a ^ b) & m != 0)
}

/// Which of eight numbers are `wanted`, as bits.
#[inline(always)]
pub(crate) fn equal(numbers: &[u32; 8], wanted: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of the architecture has SSE2; each load is of 16 bytes within the array.
    unsafe {
        use std::arch::x86_64::*;
        let wanted = _mm_set1_epi32(wanted.cast_signed());
        let part = |at| _mm_cmpeq_epi32(_mm_loadu_si128(numbers.as_ptr().add(at).cast()), wanted);
        let bytes = _mm_packs_epi16(_mm_packs_epi32(part(0), part(4)), _mm_setzero_si128());
        _mm_movemask_epi8(bytes).cast_unsigned()
    }
    #[cfg(not(target_arch = "x86_64"))]
    equal_plainly(numbers, wanted)
}

/// The twin of [`equal`] for processors without its instructions, and for tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_plainly(numbers: &[u32; 8], wanted: u32) -> u32 {
    (0..8).fold(0, |bits, i| bits | u32::from(numbers[i] == wanted) << i)
}

/// What the first bytes of frames are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Like<'a> {
    pub bytes: &'a [u8; WIDE],
    pub mask: &'a [u8; WIDE],
    /// The least total length of their IP packets.
    pub least: usize,
}

/// What [`alike`] found of the frames that it went past.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Alike {
    pub frames: usize,
    /// Of all of them.
    pub bytes: u32,
    /// Bytes 46 and 47 of all of them, or'ed.
    pub flags: u16,
}

/// Ethernet's header, behind which an IPv4 header is.
const ETHERNET: usize = 14;

impl Alike {
    /// The frame's first bytes, if its lengths fit.
    #[inline(always)]
    fn fitting<'f>(frame: &'f [u8], like: &Like<'_>) -> Option<&'f [u8; WIDE]> {
        let bytes = frame.first_chunk::<WIDE>()?;
        let total = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        (total >= like.least && total + ETHERNET <= frame.len()).then_some(bytes)
    }

    #[inline(always)]
    fn add(&mut self, frame: &[u8], bytes: &[u8; WIDE]) {
        self.bytes += frame.len() as u32;
        // As they come; put right in `end`.
        self.flags |= u16::from_ne_bytes([bytes[46], bytes[47]]);
    }

    #[inline(always)]
    fn end(self, frames: usize) -> Self {
        Alike { frames, flags: u16::from_be(self.flags), ..self }
    }
}

/// Goes past frames, up to the first that is told from `like` by a bit of its mask or does not hold the packet that it says.
#[inline(always)]
pub(crate) fn alike(frames: &[&[u8]], like: Like<'_>) -> Alike {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { alike_by_two(frames, like) };
    }
    alike_by_three(frames, like)
}

/// [`alike`] with registers of 32 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn alike_by_two(frames: &[&[u8]], like: Like<'_>) -> Alike {
    use std::arch::x86_64::*;
    // SAFETY: each load is of 32 or 16 bytes within an array of `WIDE`.
    let load = |bytes: &[u8; WIDE]| unsafe {
        let start = bytes.as_ptr();
        (_mm256_loadu_si256(start.cast()), _mm_loadu_si128(start.add(32).cast()))
    };
    let ((first, rest), (first_mask, rest_mask)) = (load(like.bytes), load(like.mask));
    let mut all = Alike::default();
    for (at, frame) in frames.iter().enumerate() {
        let Some(bytes) = Alike::fitting(frame, &like) else { return all.end(at) };
        let (a, b) = load(bytes);
        let differs = _mm256_and_si256(_mm256_xor_si256(a, first), first_mask);
        let more = _mm_and_si128(_mm_xor_si128(b, rest), rest_mask);
        let all_differs = _mm256_or_si256(differs, _mm256_zextsi128_si256(more));
        if _mm256_testz_si256(all_differs, all_differs) == 0 {
            return all.end(at);
        }
        all.add(frame, bytes);
    }
    all.end(frames.len())
}

/// The twin of [`alike_by_two`] for other processors, and for tests.
fn alike_by_three(frames: &[&[u8]], like: Like<'_>) -> Alike {
    let mut all = Alike::default();
    for (at, frame) in frames.iter().enumerate() {
        match Alike::fitting(frame, &like) {
            Some(bytes) if !differs(bytes, like.bytes, like.mask) => all.add(frame, bytes),
            _ => return all.end(at),
        }
    }
    all.end(frames.len())
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

    proptest! {
        #[test]
        fn equal_numbers_are_equal_ones_by_one(numbers: [u32; 8], same in any::<[bool; 8]>(), wanted: u32) {
            let numbers: [u32; 8] = std::array::from_fn(|i| if same[i] { wanted } else { numbers[i] });
            prop_assert_eq!(equal(&numbers, wanted), equal_plainly(&numbers, wanted));
        }

        #[test]
        fn frames_are_alike_in_any_registers(
            first in proptest::collection::vec(any::<u8>(), WIDE), mask in proptest::collection::vec(0u8..3, WIDE),
            frames in proptest::collection::vec((0..WIDE, prop_oneof![6 => Just(0u8), 1 => any::<u8>()], 30usize..80, 30u16..60), 0..33),
            least in 20usize..40,
        ) {
            let whole = |bytes: &[u8]| *bytes.first_chunk::<WIDE>().unwrap();
            let (first, mut mask) = (whole(&first), whole(&mask));
            mask[16..18].fill(0);
            let frames: Vec<Vec<u8>> = frames.into_iter().map(|(at, bits, len, total)| {
                let mut frame = first.to_vec();
                frame[at] ^= bits;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
                frame.resize(len, 0);
                frame
            }).collect();
            let views: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let like = Like { bytes: &first, mask: &mask, least };
            let is_like = |f: &&Vec<u8>| {
                let total = usize::from(u16::from_be_bytes([f[16], f[17]]));
                f.len() >= WIDE && total >= least && total + 14 <= f.len() && !differs_plainly(&whole(f), &first, &mask)
            };
            let passed: Vec<&Vec<u8>> = frames.iter().take_while(is_like).collect();
            let slow = Alike {
                frames: passed.len(),
                bytes: passed.iter().map(|f| f.len() as u32).sum(),
                flags: passed.iter().fold(0, |all, f| all | u16::from_be_bytes([f[46], f[47]])),
            };
            prop_assert_eq!(alike(&views, like), slow);
            prop_assert_eq!(alike_by_three(&views, like), slow);
        }
    }

    #[test]
    fn ticks_go_on() {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(ticks() > before);
    }
}
