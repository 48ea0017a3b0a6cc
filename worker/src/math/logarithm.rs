//! `log`, `log2` and what is made of them: `asinh`, `acosh`, `atanh`.
//!
//! x = 2^k m with m between sqrt(1/2) and sqrt(2); f = m - 1 is exact; with s = f / (2 + f),
//! log(1 + f) = 2 atanh(s) = f - s (f - R(s s)), where f carries no error and the rest is small.

use super::polynomial::{horner, with_sign_of};
use super::real::{Bits, Constants, Real};

/// Natural logarithm.
pub fn log<F: Real>(x: F) -> F {
    let (k, f) = split(x);
    at_the_ends(x, add_ln2(k, log_of_one_plus(f)))
}

/// Logarithm to base 2.
pub fn log2<F: Real>(x: F) -> F {
    let (k, f) = split(x);
    let y = log_of_one_plus(f);
    let [high, low] = F::CONSTANTS.log2_e;
    at_the_ends(x, y.fma(x.constant(high), y * x.constant(low)) + k)
}

/// Inverse hyperbolic sine.
pub fn asinh<F: Real>(x: F) -> F {
    let size = x.abs();
    let (one, z) = (x.constant(1.0), x * x);
    let near = log1p(size + z / (one + (one + z).sqrt()));
    let is_far = x.constant(F::CONSTANTS.wide_min).is_less(size);
    with_sign_of(F::select(is_far, log_of_double(size), near), x)
}

/// Inverse hyperbolic cosine; NaN below 1.
pub fn acosh<F: Real>(x: F) -> F {
    let t = x - x.constant(1.0);
    let near = log1p(t + t.fma(t, t + t).sqrt());
    let is_far = x.constant(F::CONSTANTS.wide_min).is_less(x);
    let result = F::select(is_far, log_of_double(x), near);
    F::select(x.constant(1.0).is_at_most(x), result, x.constant(f64::NAN))
}

/// Inverse hyperbolic tangent; NaN outside [-1, 1].
pub fn atanh<F: Real>(x: F) -> F {
    let size = x.abs();
    let ratio = (size + size) / (x.constant(1.0) - size);
    with_sign_of(x.constant(0.5) * log1p(ratio), x)
}

/// log(1 + x).
fn log1p<F: Real>(x: F) -> F {
    let one = x.constant(1.0);
    let sum = one + x;
    let x_kept = sum - one;
    let lost = (one - (sum - x_kept)) + (x - x_kept);
    let (k, f) = split(sum);
    // The lost part, scaled like the rest: 2^-k from bits.
    let Constants { bias, mantissa_bits, .. } = F::CONSTANTS;
    let (_, shifted) = super::exponential::nearest_integer(k);
    let bits = shifted.bits();
    let factor = (((bits.constant(bias) - bits) << mantissa_bits) & bits.constant(!F::CONSTANTS.sign())).real();
    let f = f + lost * factor;
    at_the_ends(sum, add_ln2(k, log_of_one_plus(f)))
}

/// log(2 x), for large x.
fn log_of_double<F: Real>(x: F) -> F {
    let (k, f) = split(x);
    at_the_ends(x, add_ln2(k + x.constant(1.0), log_of_one_plus(f)))
}

/// (k, m - 1) where x = 2^k m, for positive x, subnormal too.
pub(super) fn split<F: Real>(x: F) -> (F, F) {
    let constants = F::CONSTANTS;
    let Constants { bias, mantissa_bits, .. } = constants;
    let is_subnormal = x.is_less(x.constant(Constants::power_of_two(1 - bias as i64)));
    let lift = mantissa_bits as i64 + 2;
    let lifted = F::select(is_subnormal, x * x.constant(Constants::power_of_two(lift)), x);
    let unlift = F::select(is_subnormal, x.constant(-(lift as f64)), x.constant(0.0));

    let bits = lifted.bits();
    let root_half = x.constant(std::f64::consts::FRAC_1_SQRT_2).bits();
    let moved = bits + (bits.constant(bias << mantissa_bits) - root_half);
    let mantissa = (moved & bits.constant(constants.mantissa())) + root_half;
    // The biased k in the low mantissa bits of 2^mantissa_bits is that number, plus k.
    let base = Constants::power_of_two(mantissa_bits as i64);
    let k = ((moved >> mantissa_bits) | x.constant(base).bits()).real();
    (k - x.constant(base + bias as f64) + unlift, mantissa.real() - x.constant(1.0))
}

/// log(1 + f), for f between sqrt(1/2) - 1 and sqrt(2) - 1.
fn log_of_one_plus<F: Real>(f: F) -> F {
    let s = f / (f.constant(2.0) + f);
    let z = s * s;
    f - s * (f - z * horner(z, F::CONSTANTS.log))
}

/// k ln 2 + y.
fn add_ln2<F: Real>(k: F, y: F) -> F {
    let [high, low] = F::CONSTANTS.ln2;
    k.fma(y.constant(high), k.fma(y.constant(low), y))
}

/// The logarithm of x where it is an ordinary number, and what it must be at the ends and beyond.
fn at_the_ends<F: Real>(x: F, ordinary: F) -> F {
    let (zero, infinity) = (x.constant(0.0), x.constant(f64::INFINITY));
    let result = F::select(x.is_equal(zero), -infinity, ordinary);
    let result = F::select(x.is_equal(infinity), infinity, result);
    F::select(zero.is_at_most(x), result, x.constant(f64::NAN))
}
