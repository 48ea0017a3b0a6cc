//! Philox with AVX2 and AVX-512: the same bits as [`super::philox::Philox::group`].
//!
//! A counter word occupies the low half of a 64-bit lane. `vpmuludq` reads only low halves, so the low word of a
//! product is the product itself and its high word one shift away; what the upper halves hold is never looked at until
//! the end. Groups are laid out in the lanes so that unpacking within 128-bit parts yields elements in array order.
//!
//! Written as macros, because a function or closure with vectors as arguments is ten times slower wherever the compiler
//! chooses not to inline it, and no attribute can make it.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::philox::{MULTIPLIERS, Philox};

macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident, $element:ty) => {
        $(#[$doc])*
        pub(super) fn $name(philox: &Philox, group: u64, out: &mut [$element]) -> Option<usize> {
            // Detection is cached.
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: AVX-512F was just detected.
                return Some(unsafe { avx512::$name(philox, group, out) });
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: AVX2 was just detected.
                return Some(unsafe { avx2::$name(philox, group, out) });
            }
            None
        }
    };
}

dispatch!(
    /// Words of whole groups; how many were written, a multiple of what one step makes. `None` without AVX2.
    fill_u32, u32
);
dispatch!(
    /// Uniform f32 of whole groups, as [`fill_u32`].
    fill_f32, f32
);
dispatch!(
    /// Uniform f64 of whole groups, as [`fill_u32`].
    fill_f64, f64
);

/// Exponents and masks that make a uniform f64 of two words without a conversion. With the high word's upper 27 bits
/// in the mantissa of 2^20 (one unit of the word is 2^-32) and the low word's upper 26 in that of 2^-7 (a unit is
/// 2^-59), `(high - (2^20 + 2^-7)) + low` is exact at every step and equals `((h >> 5) * 2^26 + (l >> 6)) * 2^-53`.
const HIGH_MASK: i64 = 0xFFFF_FFE0;
const HIGH_ONE: i64 = (1023 + 20) << 52;
const LOW_MASK: i64 = 0xFFFF_FFC0;
const LOW_ONE: i64 = (1023 - 7) << 52;
const OFFSET: f64 = (1 << 20) as f64 + 1.0 / (1 << 7) as f64;
const F32_UNIT: f32 = 1.0 / (1 << 24) as f32;

/// A form that fills whole steps of two vectors of counters, so that one's latency hides the other's. Expanded where
/// `every`, `both`, `lanes`, `add`, `multiply`, `high` and `xor` are macros for the width at hand.
macro_rules! form {
    ($feature:literal, $groups:literal, $name:ident, $element:ty, $per_group:literal, $convert:ident) => {
        #[target_feature(enable = $feature)]
        #[allow(clippy::missing_transmute_annotations, reason = "one text for six pairs of types")]
        pub(super) fn $name(philox: &Philox, group: u64, out: &mut [$element]) -> usize {
            let multipliers = [every!(i64::from(MULTIPLIERS[0])), every!(i64::from(MULTIPLIERS[1]))];
            let stream = [every!(philox.stream as u32 as i64), every!((philox.stream >> 32) as i64)];
            let (steps, _) = out.as_chunks_mut::<{ 2 * $groups * $per_group }>();
            let mut next = group;
            for step in steps.iter_mut() {
                let (one, two) = (add!(every!(next as i64), lanes!()), every!(next.wrapping_add($groups) as i64));
                let two = add!(two, lanes!());
                let mut one = [one, high!(one), stream[0], stream[1]];
                let mut two = [two, high!(two), stream[0], stream[1]];
                for key in &philox.keys {
                    // Broadcast from memory here: as vectors, the keys would take more registers than there are.
                    let key = [both!(key[0]), both!(key[1])];
                    round!(one, key, multipliers);
                    round!(two, key, multipliers);
                }
                let ([a, b], [c, d]) = ($convert!(one), $convert!(two));
                // SAFETY: plain bits on both sides, and the compiler holds their sizes equal.
                *step = unsafe { std::mem::transmute([a, b, c, d]) };
                next = next.wrapping_add(2 * $groups);
            }
            size_of_val(steps) / size_of::<$element>()
        }
    };
}

macro_rules! round {
    ($counter:ident, $key:ident, $multipliers:ident) => {
        let product0 = multiply!($counter[0], $multipliers[0]);
        let product1 = multiply!($counter[2], $multipliers[1]);
        let next0 = xor!(high!(product1), $counter[1], $key[0]);
        let next2 = xor!(high!(product0), $counter[3], $key[1]);
        $counter = [next0, product1, next2, product0];
    };
}

mod avx2 {
    use super::*;

    macro_rules! every {
        ($word:expr) => {
            _mm256_set1_epi64x($word)
        };
    }
    /// A word in both halves of every lane.
    macro_rules! both {
        ($word:expr) => {
            _mm256_set1_epi32($word as i32)
        };
    }
    macro_rules! lanes {
        () => {
            _mm256_set_epi64x(3, 1, 2, 0)
        };
    }
    macro_rules! add {
        ($a:expr, $b:expr) => {
            _mm256_add_epi64($a, $b)
        };
    }
    macro_rules! multiply {
        ($a:expr, $b:expr) => {
            _mm256_mul_epu32($a, $b)
        };
    }
    macro_rules! high {
        ($a:expr) => {
            _mm256_srli_epi64::<32>($a)
        };
    }
    macro_rules! xor {
        ($a:expr, $b:expr, $c:expr) => {
            _mm256_xor_si256($a, _mm256_xor_si256($b, $c))
        };
    }
    /// Consecutive words.
    macro_rules! words {
        ($counter:expr) => {{
            let [w0, w1, w2, w3] = $counter;
            let first = _mm256_blend_epi32::<0b1010_1010>(w0, _mm256_slli_epi64::<32>(w1));
            let second = _mm256_blend_epi32::<0b1010_1010>(w2, _mm256_slli_epi64::<32>(w3));
            [_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second)]
        }};
    }
    macro_rules! singles {
        ($counter:expr) => {{
            let [a, b] = words!($counter);
            let unit = _mm256_set1_ps(F32_UNIT);
            // 24 bits: the signed conversion is exact.
            let a = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(a)), unit);
            [a, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(b)), unit)]
        }};
    }
    macro_rules! double {
        ($low:expr, $high:expr) => {{
            let high = _mm256_or_si256(_mm256_and_si256($high, every!(HIGH_MASK)), every!(HIGH_ONE));
            let low = _mm256_or_si256(_mm256_and_si256($low, every!(LOW_MASK)), every!(LOW_ONE));
            let high = _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(OFFSET));
            _mm256_add_pd(high, _mm256_castsi256_pd(low))
        }};
    }
    macro_rules! doubles {
        ($counter:expr) => {{
            let [w0, w1, w2, w3] = $counter;
            let (even, odd) = (double!(w0, w1), double!(w2, w3));
            [_mm256_unpacklo_pd(even, odd), _mm256_unpackhi_pd(even, odd)]
        }};
    }

    form!("avx2", 4, fill_u32, u32, 4, words);
    form!("avx2", 4, fill_f32, f32, 4, singles);
    form!("avx2", 4, fill_f64, f64, 2, doubles);
}

mod avx512 {
    use super::*;

    const XOR: i32 = 0b1001_0110;
    /// `a & b | c`
    const AND_OR: i32 = 0b1110_1010;

    macro_rules! every {
        ($word:expr) => {
            _mm512_set1_epi64($word)
        };
    }
    /// A word in both halves of every lane.
    macro_rules! both {
        ($word:expr) => {
            _mm512_set1_epi32($word as i32)
        };
    }
    macro_rules! lanes {
        () => {
            _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0)
        };
    }
    macro_rules! add {
        ($a:expr, $b:expr) => {
            _mm512_add_epi64($a, $b)
        };
    }
    macro_rules! multiply {
        ($a:expr, $b:expr) => {
            _mm512_mul_epu32($a, $b)
        };
    }
    macro_rules! high {
        ($a:expr) => {
            _mm512_srli_epi64::<32>($a)
        };
    }
    macro_rules! xor {
        ($a:expr, $b:expr, $c:expr) => {
            _mm512_ternarylogic_epi64::<XOR>($a, $b, $c)
        };
    }
    /// Consecutive words.
    macro_rules! words {
        ($counter:expr) => {{
            let [w0, w1, w2, w3] = $counter;
            let first = _mm512_mask_blend_epi32(0xAAAA, w0, _mm512_slli_epi64::<32>(w1));
            let second = _mm512_mask_blend_epi32(0xAAAA, w2, _mm512_slli_epi64::<32>(w3));
            [_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second)]
        }};
    }
    macro_rules! singles {
        ($counter:expr) => {{
            let [a, b] = words!($counter);
            let unit = _mm512_set1_ps(F32_UNIT);
            // 24 bits: the signed conversion is exact.
            let a = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32::<8>(a)), unit);
            [a, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32::<8>(b)), unit)]
        }};
    }
    macro_rules! double {
        ($low:expr, $high:expr) => {{
            let high = _mm512_ternarylogic_epi64::<AND_OR>($high, every!(HIGH_MASK), every!(HIGH_ONE));
            let low = _mm512_ternarylogic_epi64::<AND_OR>($low, every!(LOW_MASK), every!(LOW_ONE));
            let high = _mm512_sub_pd(_mm512_castsi512_pd(high), _mm512_set1_pd(OFFSET));
            _mm512_add_pd(high, _mm512_castsi512_pd(low))
        }};
    }
    macro_rules! doubles {
        ($counter:expr) => {{
            let [w0, w1, w2, w3] = $counter;
            let (even, odd) = (double!(w0, w1), double!(w2, w3));
            [_mm512_unpacklo_pd(even, odd), _mm512_unpackhi_pd(even, odd)]
        }};
    }

    form!("avx512f", 8, fill_u32, u32, 4, words);
    form!("avx512f", 8, fill_f32, f32, 4, singles);
    form!("avx512f", 8, fill_f64, f64, 2, doubles);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::philox::Uniform;

    type Form<T> = unsafe fn(&Philox, u64, &mut [T]) -> usize;

    /// A form writes whole steps, all that fit, and they are the definition.
    fn check<T: Uniform + PartialEq + std::fmt::Debug>(form: Form<T>, groups: usize) {
        let (philox, step) = (Philox::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210), groups * T::PER_GROUP);
        for group in [0, 1, 2, (1 << 32) - 9, (1 << 32) - 3, (1 << 57) + 1] {
            let mut values = vec![T::default(); 5 * step + 3];
            // SAFETY: callers detect the features of the form.
            let done = unsafe { form(&philox, group, &mut values) };
            assert_eq!(done, 5 * step);
            let first = group * T::PER_GROUP as u64;
            let expected: Vec<T> = (first..).take(done).map(|index| philox.element(index)).collect();
            assert_eq!(values[..done], expected, "{group}");
        }
    }

    #[test]
    #[allow(clippy::print_stderr)]
    fn avx2_is_the_definition() {
        if !is_x86_feature_detected!("avx2") {
            return eprintln!("skipped: this machine has no AVX2");
        }
        check::<u32>(avx2::fill_u32, 8);
        check::<f32>(avx2::fill_f32, 8);
        check::<f64>(avx2::fill_f64, 8);
    }

    #[test]
    #[allow(clippy::print_stderr)]
    fn avx512_is_the_definition() {
        if !is_x86_feature_detected!("avx512f") {
            return eprintln!("skipped: this machine has no AVX-512");
        }
        check::<u32>(avx512::fill_u32, 16);
        check::<f32>(avx512::fill_f32, 16);
        check::<f64>(avx512::fill_f64, 16);
    }
}
