//! `pow`: x^y = 2^(y log2 |x|), with the sign and the special cases of IEEE 754.
//!
//! The exponent may be as large as 1024, so log2 |x| must be known to 64 bits or so: it is computed as the sum of two
//! floats. For f32, the plain functions in f64 know enough.

use super::exponential::{exp2, exp2_reduced, nearest_exponent};
use super::logarithm::{log2, split};
use super::polynomial::horner;
use super::real::{Bits, Double, Real, Single};

/// x^y, 32 bits.
pub fn pow_single<F: Single>(x: F, y: F) -> F {
    let exponent = y.widen() * log2(x.abs().widen());
    with_special_cases(x, y, exp2(exponent).narrow())
}

/// x^y, 64 bits.
pub fn pow_double<F: Double>(x: F, y: F) -> F {
    let (high, low) = log2_in_two_parts(x.abs());
    let product = y * high;
    let rest = y.fma(low, y.fma(high, -product));
    // Beyond, the result is 0 or infinite, and the rest may not be finite.
    let bound = x.constant(1200.0);
    let is_beyond = bound.is_less(product.abs());
    let product = product.or_less(bound).or_greater(-bound);
    let rest = F::select(is_beyond, x.constant(0.0), rest);

    let (k, exponent) = nearest_exponent(product);
    with_special_cases(x, y, exp2_reduced((product - k) + rest, exponent))
}

/// x^y from |x|^y.
fn with_special_cases<F: Real>(x: F, y: F, size: F) -> F {
    let (zero, one, infinity) = (x.constant(0.0), x.constant(1.0), x.constant(f64::INFINITY));
    let half = y * x.constant(0.5);
    let is_integer = y.floor().is_equal(y);
    // Infinity is even: half of it is an integer too.
    let is_odd = is_integer & !half.floor().is_equal(half);
    let x_bits = x.bits();
    let sign = x_bits & x_bits.constant(F::CONSTANTS.sign());
    let result = F::select(is_odd, (size.bits() ^ sign).real(), size);

    let is_nan = x.is_less(zero) & (-infinity).is_less(x) & !is_integer;
    let result = F::select(is_nan, x.constant(f64::NAN), result);
    let is_one = y.is_equal(zero) | x.is_equal(one) | (x.is_equal(-one) & y.abs().is_equal(infinity));
    F::select(is_one, one, result)
}

/// log2(x) for x >= 0 as a sum of two, the second much smaller.
fn log2_in_two_parts<F: Double>(x: F) -> (F, F) {
    let constants = F::CONSTANTS;
    let (k, f) = split(x);
    // s = f / (2 + f).
    let two = x.constant(2.0);
    let sum = two + f;
    let sum_low = f - (sum - two);
    let s = f / sum;
    let s_low = (-s).fma(sum_low, (-s).fma(sum, f)) / sum;
    let z = s * s;
    let z_low = (s + s).fma(s_low, s.fma(s, -z));
    // atanh(s) = s (1 + a), a = z / 3 + z z P(z).
    let [third, third_low] = constants.third;
    let (third, third_low) = (x.constant(third), x.constant(third_low));
    let a = z * third;
    let a_low = z.fma(third, -a) + z.fma(third_low, z_low.fma(third, z * z * horner(z, constants.power)));
    // log(1 + f) = 2 s + 2 s a.
    let twice = s + s;
    let more = twice * a;
    let more_low = twice.fma(a, -more) + twice.fma(a_low, (s_low + s_low).fma(a, s_low + s_low));
    let (log, log_low) = sum_in_two_parts(twice, more);
    let log_low = log_low + more_low;
    // log2(1 + f), then + k.
    let [scale, scale_low] = constants.log2_e;
    let (scale, scale_low) = (x.constant(scale), x.constant(scale_low));
    let product = log * scale;
    let product_low = log.fma(scale, -product) + log.fma(scale_low, log_low * scale);
    let (high, low) = sum_in_two_parts(k, product);
    let low = low + product_low;

    let (zero, infinity) = (x.constant(0.0), x.constant(f64::INFINITY));
    let high = F::select(x.is_equal(zero), -infinity, high);
    let high = F::select(x.is_equal(infinity), infinity, high);
    let high = F::select(x.is_equal(x), high, x);
    let is_ordinary = zero.is_less(x) & x.is_less(infinity);
    (high, F::select(is_ordinary, low, zero))
}

/// a + b exactly, as the rounded sum and what it lost, for |a| >= |b| or a = 0.
fn sum_in_two_parts<F: Real>(a: F, b: F) -> (F, F) {
    let sum = a + b;
    (sum, b - (sum - a))
}
