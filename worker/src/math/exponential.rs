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
    let (k, shifted) = nearest_integer(x);
    exp2_reduced(x - k, shifted)
}

/// 2^(k + r), for |r| <= 1/2 and k the integer in the low bits of `shifted`.
pub(super) fn exp2_reduced<F: Real>(r: F, shifted: F) -> F {
    let power = r.fma(horner(r, F::CONSTANTS.exp2), r.constant(1.0));
    scale(power, shifted, 0)
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
    let (k, shifted) = nearest_integer(x * x.constant(constants.log2_e[0]));
    let r = k.fma(x.constant(-constants.ln2[0]), x);
    let r = k.fma(x.constant(-constants.ln2[1]), r);
    let power = (r * r).fma(horner(r, constants.exp), r) + x.constant(1.0);
    scale(power, shifted, shift)
}

/// The nearest integer, and the same number moved so that the integer is in its low bits.
pub(super) fn nearest_integer<F: Real>(x: F) -> (F, F) {
    let rounder = x.constant(F::CONSTANTS.rounder());
    let shifted = x + rounder;
    (shifted - rounder, shifted)
}

/// x within the range; NaN stays NaN.
fn clamp<F: Real>(x: F, [low, high]: [f64; 2]) -> F {
    let (low, high) = (x.constant(low), x.constant(high));
    let x = F::select(x.is_less(low), low, x);
    F::select(high.is_less(x), high, x)
}

/// power * 2^(k + shift), k being the low bits of `shifted`.
fn scale<F: Real>(power: F, shifted: F, shift: i64) -> F {
    let Constants { bias, mantissa_bits, .. } = F::CONSTANTS;
    let bits = shifted.bits();
    // k + 2 (bias + 1) is positive, so half of it needs no signed shift.
    let offset = (2 * (bias + 1)).wrapping_add_signed(shift);
    let doubled = (bits + bits.constant(offset)) & bits.constant(4 * (bias + 1) - 1);
    let (one, half) = (bits.constant(1), doubled >> 1);
    let first = (half - one) << mantissa_bits;
    let second = (doubled - half - one) << mantissa_bits;
    power * first.real() * second.real()
}
