//! The one leaf that talks to the processor directly: what has no safe spelling in the language.
//!
//! On other processors a prefetch does nothing and sixteen bytes are compared by arithmetic. Invariant: a
//! prefetch reads no memory as far as the language can see, so that any address is allowed.
#![expect(
    unsafe_code,
    reason = "the only unsafe module: see docs/ARCHITECTURE.md"
)]

/// Asks for the cache line of `line` ahead of its use.
#[inline(always)]
pub fn line<T>(line: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no architectural effect; it neither faults nor reads. The address is a
    // valid reference besides.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(std::ptr::from_ref(line).cast::<i8>(), _MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Which of sixteen bytes are `b`: a bit each, the first the lowest.
#[inline(always)]
pub fn equal(bytes: [u8; 16], b: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has SSE2, and the instructions touch registers alone.
    unsafe {
        use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi8};
        let line: __m128i = bytemuck::cast(bytes);
        _mm_movemask_epi8(_mm_cmpeq_epi8(line, _mm_set1_epi8(b as i8))) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    bytes
        .iter()
        .enumerate()
        .fold(0, |found, (i, is)| found | u32::from(*is == b) << i)
}
