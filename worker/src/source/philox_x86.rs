//! Philox with AVX2 and AVX-512: the same bits as [`super::philox::Philox::group`].
//!
//! A counter word occupies the low half of a 64-bit lane. `vpmuludq` reads only low halves, so the low word of a
//! product is the product itself and its high word one shift away; what the upper halves hold is never looked at until
//! the end. Groups are laid out in the lanes so that unpacking within 128-bit parts yields elements in array order.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::philox::{MULTIPLIERS, Philox};

/// The widest form that this machine runs, found once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Avx512,
    Avx2,
    None,
}

fn width() -> Width {
    // `is_x86_feature_detected` caches what it finds.
    if is_x86_feature_detected!("avx512f") {
        Width::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Width::Avx2
    } else {
        Width::None
    }
}

macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident, $element:ty, $avx512:ident, $avx2:ident) => {
        $(#[$doc])*
        pub(super) fn $name(philox: &Philox, group: u64, out: &mut [$element]) -> Option<usize> {
            match width() {
                // SAFETY: AVX-512F was just detected.
                Width::Avx512 => Some(unsafe { $avx512(philox, group, out) }),
                // SAFETY: AVX2 was just detected.
                Width::Avx2 => Some(unsafe { $avx2(philox, group, out) }),
                Width::None => None,
            }
        }
    };
}

dispatch!(
    /// Words of whole groups; how many were written, a multiple of what one step makes. `None` without AVX2.
    fill_u32, u32, avx512_u32, avx2_u32
);
dispatch!(
    /// Uniform f32 of whole groups, as [`fill_u32`].
    fill_f32, f32, avx512_f32, avx2_f32
);
dispatch!(
    /// Uniform f64 of whole groups, as [`fill_u32`].
    fill_f64, f64, avx512_f64, avx2_f64
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

/// Groups that one AVX2 step makes: two vectors of four, so that one's latency hides the other's.
const AVX2_GROUPS: usize = 8;
/// Groups that one AVX-512 step makes: two vectors of eight.
const AVX512_GROUPS: usize = 16;

struct Avx2 {
    keys: [[__m256i; 2]; 10],
    multipliers: [__m256i; 2],
    stream: [__m256i; 2],
}

impl Avx2 {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(philox: &Philox) -> Avx2 {
        let every = |word: u32| _mm256_set1_epi64x(i64::from(word));
        Avx2 {
            keys: philox.keys.map(|key| key.map(every)),
            multipliers: MULTIPLIERS.map(every),
            stream: [every(philox.stream as u32), every((philox.stream >> 32) as u32)],
        }
    }

    /// The words of the eight groups from `group` on; lanes hold groups 0 2 1 3 and 4 6 5 7.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn words(&self, group: u64) -> [[__m256i; 4]; 2] {
        let first = _mm256_set1_epi64x(group as i64);
        let low = [_mm256_set_epi64x(3, 1, 2, 0), _mm256_set_epi64x(7, 5, 6, 4)];
        let mut counters = low.map(|lanes| {
            let group = _mm256_add_epi64(first, lanes);
            [group, _mm256_srli_epi64::<32>(group), self.stream[0], self.stream[1]]
        });
        for key in &self.keys {
            counters = counters.map(|[c0, c1, c2, c3]| {
                let product0 = _mm256_mul_epu32(c0, self.multipliers[0]);
                let product1 = _mm256_mul_epu32(c2, self.multipliers[1]);
                let high0 = _mm256_srli_epi64::<32>(product0);
                let high1 = _mm256_srli_epi64::<32>(product1);
                let next0 = _mm256_xor_si256(high1, _mm256_xor_si256(c1, key[0]));
                let next2 = _mm256_xor_si256(high0, _mm256_xor_si256(c3, key[1]));
                [next0, product1, next2, product0]
            });
        }
        counters
    }

    /// The same as consecutive words: eight per vector.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn consecutive(&self, group: u64) -> [__m256i; 4] {
        let pairs = |low, high| _mm256_blend_epi32::<0b1010_1010>(low, _mm256_slli_epi64::<32>(high));
        let [a, b] = self.words(group).map(|[w0, w1, w2, w3]| {
            let (first, second) = (pairs(w0, w1), pairs(w2, w3));
            [_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second)]
        });
        [a[0], a[1], b[0], b[1]]
    }
}

#[target_feature(enable = "avx2")]
fn avx2_u32(philox: &Philox, group: u64, out: &mut [u32]) -> usize {
    let simd = Avx2::new(philox);
    let chunks = out.as_chunks_mut::<{ AVX2_GROUPS * 4 }>().0;
    for (group, values) in (group..).step_by(AVX2_GROUPS).zip(chunks.iter_mut()) {
        *values = bytemuck::cast(simd.consecutive(group));
    }
    size_of_val(chunks) / size_of::<u32>()
}

#[target_feature(enable = "avx2")]
fn avx2_f32(philox: &Philox, group: u64, out: &mut [f32]) -> usize {
    let simd = Avx2::new(philox);
    let unit = _mm256_set1_ps(F32_UNIT);
    let chunks = out.as_chunks_mut::<{ AVX2_GROUPS * 4 }>().0;
    for (group, values) in (group..).step_by(AVX2_GROUPS).zip(chunks.iter_mut()) {
        let floats = simd.consecutive(group).map(|words| {
            // 24 bits: the signed conversion is exact.
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(words)), unit)
        });
        *values = bytemuck::cast(floats);
    }
    size_of_val(chunks) / size_of::<f32>()
}

#[target_feature(enable = "avx2")]
fn avx2_f64(philox: &Philox, group: u64, out: &mut [f64]) -> usize {
    let simd = Avx2::new(philox);
    let every = |word: i64| _mm256_set1_epi64x(word);
    let [high_mask, high_one, low_mask, low_one] = [HIGH_MASK, HIGH_ONE, LOW_MASK, LOW_ONE].map(every);
    let offset = _mm256_set1_pd(OFFSET);
    let uniform = |low, high| {
        let high = _mm256_or_si256(_mm256_and_si256(high, high_mask), high_one);
        let low = _mm256_or_si256(_mm256_and_si256(low, low_mask), low_one);
        _mm256_add_pd(_mm256_sub_pd(_mm256_castsi256_pd(high), offset), _mm256_castsi256_pd(low))
    };
    let chunks = out.as_chunks_mut::<{ AVX2_GROUPS * 2 }>().0;
    for (group, values) in (group..).step_by(AVX2_GROUPS).zip(chunks.iter_mut()) {
        let [a, b] = simd.words(group).map(|[w0, w1, w2, w3]| {
            let (even, odd) = (uniform(w0, w1), uniform(w2, w3));
            [_mm256_unpacklo_pd(even, odd), _mm256_unpackhi_pd(even, odd)]
        });
        *values = bytemuck::cast([a[0], a[1], b[0], b[1]]);
    }
    size_of_val(chunks) / size_of::<f64>()
}

struct Avx512 {
    keys: [[__m512i; 2]; 10],
    multipliers: [__m512i; 2],
    stream: [__m512i; 2],
}

impl Avx512 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(philox: &Philox) -> Avx512 {
        let every = |word: u32| _mm512_set1_epi64(i64::from(word));
        Avx512 {
            keys: philox.keys.map(|key| key.map(every)),
            multipliers: MULTIPLIERS.map(every),
            stream: [every(philox.stream as u32), every((philox.stream >> 32) as u32)],
        }
    }

    /// The words of the sixteen groups from `group` on; lanes hold groups 0 4 1 5 2 6 3 7, then 8 more alike.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn words(&self, group: u64) -> [[__m512i; 4]; 2] {
        const XOR3: i32 = 0b1001_0110;
        let first = _mm512_set1_epi64(group as i64);
        let low = [_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), _mm512_set_epi64(15, 11, 14, 10, 13, 9, 12, 8)];
        let mut counters = low.map(|lanes| {
            let group = _mm512_add_epi64(first, lanes);
            [group, _mm512_srli_epi64::<32>(group), self.stream[0], self.stream[1]]
        });
        for key in &self.keys {
            counters = counters.map(|[c0, c1, c2, c3]| {
                let product0 = _mm512_mul_epu32(c0, self.multipliers[0]);
                let product1 = _mm512_mul_epu32(c2, self.multipliers[1]);
                let high0 = _mm512_srli_epi64::<32>(product0);
                let high1 = _mm512_srli_epi64::<32>(product1);
                let next0 = _mm512_ternarylogic_epi64::<XOR3>(high1, c1, key[0]);
                let next2 = _mm512_ternarylogic_epi64::<XOR3>(high0, c3, key[1]);
                [next0, product1, next2, product0]
            });
        }
        counters
    }

    /// The same as consecutive words: sixteen per vector.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn consecutive(&self, group: u64) -> [__m512i; 4] {
        let pairs = |low, high| _mm512_mask_blend_epi32(0xAAAA, low, _mm512_slli_epi64::<32>(high));
        let [a, b] = self.words(group).map(|[w0, w1, w2, w3]| {
            let (first, second) = (pairs(w0, w1), pairs(w2, w3));
            [_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second)]
        });
        [a[0], a[1], b[0], b[1]]
    }
}

#[target_feature(enable = "avx512f")]
fn avx512_u32(philox: &Philox, group: u64, out: &mut [u32]) -> usize {
    let simd = Avx512::new(philox);
    let chunks = out.as_chunks_mut::<{ AVX512_GROUPS * 4 }>().0;
    for (group, values) in (group..).step_by(AVX512_GROUPS).zip(chunks.iter_mut()) {
        *values = bytemuck::cast(simd.consecutive(group));
    }
    size_of_val(chunks) / size_of::<u32>()
}

#[target_feature(enable = "avx512f")]
fn avx512_f32(philox: &Philox, group: u64, out: &mut [f32]) -> usize {
    let simd = Avx512::new(philox);
    let unit = _mm512_set1_ps(F32_UNIT);
    let chunks = out.as_chunks_mut::<{ AVX512_GROUPS * 4 }>().0;
    for (group, values) in (group..).step_by(AVX512_GROUPS).zip(chunks.iter_mut()) {
        let floats = simd.consecutive(group).map(|words| {
            // 24 bits: the signed conversion is exact.
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32::<8>(words)), unit)
        });
        *values = bytemuck::cast(floats);
    }
    size_of_val(chunks) / size_of::<f32>()
}

#[target_feature(enable = "avx512f")]
fn avx512_f64(philox: &Philox, group: u64, out: &mut [f64]) -> usize {
    /// `a & b | c`
    const AND_OR: i32 = 0b1110_1010;
    let simd = Avx512::new(philox);
    let every = |word: i64| _mm512_set1_epi64(word);
    let [high_mask, high_one, low_mask, low_one] = [HIGH_MASK, HIGH_ONE, LOW_MASK, LOW_ONE].map(every);
    let offset = _mm512_set1_pd(OFFSET);
    let uniform = |low, high| {
        let high = _mm512_ternarylogic_epi64::<AND_OR>(high, high_mask, high_one);
        let low = _mm512_ternarylogic_epi64::<AND_OR>(low, low_mask, low_one);
        _mm512_add_pd(_mm512_sub_pd(_mm512_castsi512_pd(high), offset), _mm512_castsi512_pd(low))
    };
    let chunks = out.as_chunks_mut::<{ AVX512_GROUPS * 2 }>().0;
    for (group, values) in (group..).step_by(AVX512_GROUPS).zip(chunks.iter_mut()) {
        let [a, b] = simd.words(group).map(|[w0, w1, w2, w3]| {
            let (even, odd) = (uniform(w0, w1), uniform(w2, w3));
            [_mm512_unpacklo_pd(even, odd), _mm512_unpackhi_pd(even, odd)]
        });
        *values = bytemuck::cast([a[0], a[1], b[0], b[1]]);
    }
    size_of_val(chunks) / size_of::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::philox::Uniform;

    type Form<T> = unsafe fn(&Philox, u64, &mut [T]) -> usize;

    /// A form writes whole steps, all that fit, and they are the definition.
    fn check<T: Uniform + PartialEq + std::fmt::Debug>(form: Form<T>, step: usize) {
        let philox = Philox::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
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
        check::<u32>(avx2_u32, AVX2_GROUPS * 4);
        check::<f32>(avx2_f32, AVX2_GROUPS * 4);
        check::<f64>(avx2_f64, AVX2_GROUPS * 2);
    }

    #[test]
    #[allow(clippy::print_stderr)]
    fn avx512_is_the_definition() {
        if !is_x86_feature_detected!("avx512f") {
            return eprintln!("skipped: this machine has no AVX-512");
        }
        check::<u32>(avx512_u32, AVX512_GROUPS * 4);
        check::<f32>(avx512_f32, AVX512_GROUPS * 4);
        check::<f64>(avx512_f64, AVX512_GROUPS * 2);
    }
}
