//! `exp`, `exp2` and what is made of them: `sinh`, `cosh`, `tanh`.
//!
//! e^x = 2^k e^r with k the nearest integer to x / ln 2 and |r| <= ln 2 / 2, where a polynomial serves. 2^k is put together
//! from bits, as two factors, so that results overflow and become subnormal with a single rounding.

use super::polynomial::{horner, with_sign_of};
use super::real::{Bits, Constants, Real};

/// e^x.
pub fn exp<F: Real>(x: F) -> F {
    exp_shifted(x, 0)
}

/// 2^x.
pub fn exp2<F: Real>(x: F) -> F {
    let x = clamp(x, F::CONSTANTS.exp2_range);
    let (k, exponent) = nearest_exponent(x);
    exp2_reduced(x - k, exponent)
}

/// 2^(k + r), for |r| <= 1/2 and the `exponent` of k.
pub(super) fn exp2_reduced<F: Real>(r: F, exponent: F) -> F {
    let power = r.fma(horner(r, F::CONSTANTS.exp2), r.constant(1.0));
    scale(power, exponent, 0)
}

/// Hyperbolic sine.
pub fn sinh<F: Real>(x: F) -> F {
    let size = x.abs();
    let z = x * x;
    let small = (size * z).fma(horner(z, F::CONSTANTS.sinh), size);
    let half = exp_shifted(size, -1);
    let large = half - x.constant(0.25) / half;
    with_sign_of(F::select(size.is_less(x.constant(1.0)), small, large), x)
}

/// Hyperbolic cosine.
pub fn cosh<F: Real>(x: F) -> F {
    let half = exp_shifted(x.abs(), -1);
    half + x.constant(0.25) / half
}

/// Hyperbolic tangent.
pub fn tanh<F: Real>(x: F) -> F {
    let size = x.abs();
    let z = x * x;
    let small = (size * z).fma(horner(z, F::CONSTANTS.tanh), size);
    let one = x.constant(1.0);
    let large = one - x.constant(2.0) / (exp(size + size) + one);
    with_sign_of(F::select(size.is_less(x.constant(0.55)), small, large), x)
}

/// 2^shift e^x, which overflows only where that does.
fn exp_shifted<F: Real>(x: F, shift: i64) -> F {
    let constants = F::CONSTANTS;
    let x = clamp(x, constants.exp_range);
    let (k, exponent) = nearest_exponent(x * x.constant(constants.log2_e[0]));
    let r = k.fma(x.constant(-constants.ln2[0]), x);
    let r = k.fma(x.constant(-constants.ln2[1]), r);
    let power = (r * r).fma(horner(r, constants.exp), r) + x.constant(1.0);
    scale(power, exponent, shift)
}

/// The nearest integer, and the same number moved so that the integer is in its low bits.
pub(super) fn nearest_integer<F: Real>(x: F) -> (F, F) {
    moved(x, 0)
}

/// The nearest integer k, and a number whose low bits are k + 2 (bias + 1): that is positive.
pub(super) fn nearest_exponent<F: Real>(x: F) -> (F, F) {
    moved(x, 2 * (F::CONSTANTS.bias + 1))
}

/// The nearest integer, and a number whose low bits are that plus an even `offset`.
fn moved<F: Real>(x: F, offset: u64) -> (F, F) {
    let rounder = x.constant(F::CONSTANTS.rounder() + offset as f64);
    let shifted = x + rounder;
    (shifted - rounder, shifted)
}

/// x within the range; NaN stays NaN.
fn clamp<F: Real>(x: F, [low, high]: [f64; 2]) -> F {
    x.or_greater(x.constant(low)).or_less(x.constant(high))
}

/// power * 2^(k + shift), for the `exponent` of k.
fn scale<F: Real>(power: F, exponent: F, shift: i64) -> F {
    let Constants { bias, mantissa_bits, .. } = F::CONSTANTS;
    let bits = exponent.bits();
    let doubled = bits & bits.constant(4 * (bias + 1) - 1);
    let half = doubled >> 1;
    let first = (half - bits.constant(1)) << mantissa_bits;
    let second = (doubled - half - bits.constant(1u64.wrapping_add_signed(-shift))) << mantissa_bits;
    power * first.real() * second.real()
}
