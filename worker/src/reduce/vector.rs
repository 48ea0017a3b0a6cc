//! The same code, compiled for wider vectors where the machine has them.
//!
//! Rust never contracts or reassociates floats, so every version gives the same bits. Work is a value with one
//! `#[inline(always)]` method: it is compiled once per version, together with all that is inlined into it.

#![allow(unsafe_code)]

/// Something worth compiling for wider vectors.
pub(crate) trait Work {
    /// What it gives.
    type Output;
    /// Does it. Implementations are `#[inline(always)]`, and so is all hot code below them.
    fn run(self) -> Self::Output;
}

/// Runs `work` with the widest vectors of this machine.
#[cfg(target_arch = "x86_64")]
pub(crate) fn vectorised<W: Work>(work: W) -> W::Output {
    #[target_feature(enable = "avx2,fma")]
    fn avx2<W: Work>(work: W) -> W::Output {
        work.run()
    }
    // AVX-512 is not worth a third version: these loops wait for memory, or for a generator that has its own code.
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: AVX2 and FMA were just detected.
        return unsafe { avx2(work) };
    }
    work.run()
}

/// Runs `work`: every aarch64 has NEON, and others have what their target says.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn vectorised<W: Work>(work: W) -> W::Output {
    work.run()
}
