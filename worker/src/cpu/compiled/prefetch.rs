//! Asking the processor for memory before it is needed.

#![allow(unsafe_code)]

/// What is asked for at once: a core can wait for about two dozen cache lines, and must not be kept by more.
pub(super) const BYTES: u64 = 1024;
/// How much further on that is.
pub(super) const AHEAD: u64 = 8192;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Begins to bring these bytes into the L1 cache, if there are any there; waits for nothing. Does nothing where there is
/// no way to ask.
pub(super) extern "C" fn prefetch(start: *const u8, bytes: u64) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes as usize).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch neither reads nor writes what a program sees, at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes, LINE);
}
