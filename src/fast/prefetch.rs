//! The one leaf that talks to the processor directly: a prefetch has no safe spelling in the language.
//!
//! Does nothing else, and nothing on other processors. Invariant: a prefetch reads no memory as far as the
//! language can see, so that any address is allowed.
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
