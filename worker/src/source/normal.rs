//! Normal random numbers: Box and Muller's transform of neighbouring uniform ones.
//!
//! Of the uniform array's elements 2k and 2k + 1, u and v, elements 2k and 2k + 1 here are `r cos a` and `r sin a` with
//! `r = sqrt(-2 ln(1 - u))` and `a = 2 pi v`, all in the array's own dtype. Neighbours share a Philox group, so any
//! element is made from its own group alone.
//!
//! A rounded `2 pi v` would be an error of the angle that its sine near a root cannot afford. So whole quarter turns
//! are taken off `v`, which is exact, and only the rest, at most an eighth of a turn, is multiplied.

#![allow(unsafe_code)]

use super::philox::{Philox, Uniform};
use crate::math::{Real, cos, log, sin};

/// A type with a normal distribution.
pub(super) trait Normal: Uniform + Real {}

impl Normal for f32 {}
impl Normal for f64 {}

/// Elements `first`, `first + step`, ... of the normal array of these random numbers.
pub(super) fn fill<T: Normal>(philox: &Philox, first: u64, step: i64, out: &mut [T]) {
    match step {
        1 => fill_run(philox, first, out),
        0 => out.fill(element(philox, first)),
        _ => {
            for (index, value) in out.iter_mut().enumerate() {
                *value = element(philox, first.wrapping_add_signed(step * index as i64));
            }
        }
    }
}

/// Neighbours: whole pairs are made of uniform numbers in place, the halves of pairs at either end alone.
fn fill_run<T: Normal>(philox: &Philox, first: u64, out: &mut [T]) {
    let (head, rest) = out.split_at_mut(out.len().min((first % 2) as usize));
    let first_of_rest = first + head.len() as u64;
    let (pairs, tail) = rest.split_at_mut(rest.len() & !1);
    for (place, at) in [(head, first), (tail, first_of_rest + pairs.len() as u64)] {
        if let [value] = place {
            *value = element(philox, at);
        }
    }
    philox.fill(first_of_rest, pairs);
    transform(pairs);
}

/// Element `index`.
fn element<T: Normal>(philox: &Philox, index: u64) -> T {
    let per_group = T::PER_GROUP as u64;
    let words = philox.group(index / per_group);
    let even = (index % per_group) as usize & !1;
    pair(T::from_words(words, even), T::from_words(words, even + 1))[(index % 2) as usize]
}

/// Pairs of uniform numbers become pairs of normal ones, with the machine's own fma where it has one: the same bits.
#[cfg(target_arch = "x86_64")]
fn transform<T: Normal>(pairs: &mut [T]) {
    #[target_feature(enable = "avx2,fma")]
    fn with_fma<T: Normal>(pairs: &mut [T]) {
        transform_each(pairs);
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: AVX2 and FMA were just detected.
        return unsafe { with_fma(pairs) };
    }
    transform_each(pairs);
}

#[cfg(not(target_arch = "x86_64"))]
fn transform<T: Normal>(pairs: &mut [T]) {
    transform_each(pairs);
}

#[inline(always)]
fn transform_each<T: Normal>(pairs: &mut [T]) {
    for values in pairs.chunks_exact_mut(2) {
        values.copy_from_slice(&pair(values[0], values[1]));
    }
}

/// Two independent normal numbers of two independent uniform ones in [0, 1).
#[inline(always)]
fn pair<F: Real>(even: F, odd: F) -> [F; 2] {
    let constant = |value| even.constant(value);
    let radius = (log(constant(1.0) - even) * constant(-2.0)).sqrt();
    let quarters = odd * constant(4.0);
    let quarter = (quarters + constant(0.5)).floor();
    let angle = (quarters - quarter) * constant(std::f64::consts::FRAC_PI_2);
    let (sine, cosine) = (sin(angle), cos(angle));
    // A quarter turn more makes a cosine of a sine, and minus a sine of a cosine. Four quarters are none.
    let is = |number| quarter.is_equal(constant(number));
    let is_turned = is(1.0) | is(3.0);
    let (cosine, sine) = (F::select(is_turned, sine, cosine), F::select(is_turned, cosine, sine));
    let cosine = F::select(is(1.0) | is(2.0), -cosine, cosine);
    let sine = F::select(is(2.0) | is(3.0), -sine, sine);
    [radius * cosine, radius * sine]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transform as a textbook has it, in f64 by the C library; and how far that may be off.
    fn textbook(u: f64, v: f64) -> ([f64; 2], f64) {
        let (radius, angle) = ((-2.0 * (-u).ln_1p()).sqrt(), std::f64::consts::TAU * v);
        ([radius * angle.cos(), radius * angle.sin()], radius * angle * f64::EPSILON)
    }

    #[test]
    fn single_precision_is_within_four_ulp_everywhere() {
        let mut uniform = vec![0f32; 1 << 21];
        Philox::new(1, 2).fill(0, &mut uniform);
        // The ends of both intervals, and angles next to the quarters.
        let unit = f32::EPSILON / 2.0;
        let edges = [0.0, unit, 0.25 - unit, 0.25, 0.25 + unit, 0.5 - unit, 0.5, 0.75, 0.875, 1.0 - unit];
        uniform.extend(edges.iter().flat_map(|&u| edges.iter().flat_map(move |&v| [u, v])));
        let mut worst = 0f64;
        for uniform in uniform.chunks_exact(2) {
            let (exact, off) = textbook(uniform[0].into(), uniform[1].into());
            for (found, exact) in pair(uniform[0], uniform[1]).into_iter().zip(exact) {
                let size = exact.abs() as f32;
                let distance = (f64::from(found) - exact).abs() - off;
                worst = worst.max(distance / (f64::from(size.next_up()) - f64::from(size)));
            }
        }
        assert!(worst < 4.0, "{worst} ULP");
        println!("largest distance: {worst} ULP");
    }

    #[test]
    fn the_moments_are_those_of_the_normal_distribution() {
        fn check<T: Normal + Into<f64>>() {
            let mut values = vec![T::default(); 1 << 20];
            fill(&Philox::new(5, 6), 0, 1, &mut values);
            let moment =
                |power: i32| values.iter().map(|&value| value.into().powi(power)).sum::<f64>() / values.len() as f64;
            // Six standard errors each: sqrt(variance of x^n / count).
            for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
                let allowed = 6.0 * (variance / values.len() as f64).sqrt();
                assert!((moment(power) - expected).abs() < allowed, "{power}: {}", moment(power));
            }
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn any_run_with_any_step_is_the_definition() {
        fn check<T: Normal + PartialEq + std::fmt::Debug>() {
            let philox = Philox::new(0x0123_4567_89ab_cdef, 7);
            let definition = |index: u64| {
                let neighbours = [index & !1, index | 1].map(|index| philox.element::<T>(index));
                pair(neighbours[0], neighbours[1])[(index % 2) as usize]
            };
            for first in [200u64, 201, 202, 203, (1 << 34) - 3, 1 << 59] {
                for (length, step) in
                    [(0, 1), (1, 1), (2, 1), (3, 1), (64, 1), (131, 1), (9, 0), (40, -1), (40, 3), (40, -4)]
                {
                    let mut values = vec![T::default(); length];
                    fill(&philox, first, step, &mut values);
                    let at = |index: usize| first.wrapping_add_signed(step * index as i64);
                    let expected: Vec<T> = (0..length).map(|index| definition(at(index))).collect();
                    assert_eq!(values, expected, "{first} {length} {step}");
                }
            }
        }
        check::<f32>();
        check::<f64>();
    }
}
