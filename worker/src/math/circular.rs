//! `sin`, `cos`, `tan`.
//!
//! The angle less the nearest multiple of pi (or pi/2) is found with pi in three parts and fma: the first step is
//! exact. Angles beyond the width's `angle_max` are reduced with as many digits of 2/pi as it takes, in [`super::huge`].

use super::exponential::nearest_integer;
use super::huge::HugeAngle;
use super::polynomial::horner;
use super::real::{Bits, Real};

/// Sine.
pub fn sin<F: Real>(x: F) -> F {
    let (turns, shifted) = nearest_integer(x * x.constant(std::f64::consts::FRAC_1_PI));
    let sine = sine_within_half(less_multiple(x, turns, F::CONSTANTS.pi));
    // sin(-0) is -0, which no sum above keeps.
    let result = F::select(x.is_equal(x.constant(0.0)), x, flip_if_odd(sine, shifted));
    result.patched(is_huge(x), x, F::Scalar::sin_of_huge)
}

/// Cosine.
pub fn cos<F: Real>(x: F) -> F {
    let half = x.constant(0.5);
    let (turns, shifted) = nearest_integer(x.fma(x.constant(std::f64::consts::FRAC_1_PI), -half));
    let sine = sine_within_half(less_multiple(x, turns + half, F::CONSTANTS.pi));
    flip_if_odd(-sine, shifted).patched(is_huge(x), x, F::Scalar::cos_of_huge)
}

/// Tangent.
pub fn tan<F: Real>(x: F) -> F {
    let constants = F::CONSTANTS;
    let (quarters, shifted) = nearest_integer(x * x.constant(std::f64::consts::FRAC_2_PI));
    // The quotient of two rounded numbers cannot afford a rounded angle as well: what r lost is kept.
    let [first, second, third] = constants.half_pi.map(|part| x.constant(-part));
    let most = quarters.fma(first, x);
    let more = quarters * second;
    let r = most + more;
    let more_kept = r - most;
    let lost_in_sum = (most - (r - more_kept)) + (more - more_kept);
    let lost = quarters.fma(third, lost_in_sum + quarters.fma(second, -more));
    let z = r * r;
    let sine = r + (r * z).fma(horner(z, constants.tan_sin), lost);
    let cosine = x.constant(1.0) + (z * z).fma(horner(z, constants.tan_cos), z * x.constant(-0.5));
    // The low bit where an exponent's lowest is makes a float that is zero or not.
    let bits = shifted.bits();
    let lowest = constants.mantissa_bits;
    let is_even = ((bits << lowest) & bits.constant(1 << lowest)).real().is_equal(x.constant(0.0));
    let ordinary = F::select(is_even, sine, -cosine) / F::select(is_even, cosine, sine);
    let result = F::select(x.is_equal(x.constant(0.0)), x, ordinary);
    result.patched(is_huge(x), x, F::Scalar::tan_of_huge)
}

fn is_huge<F: Real>(x: F) -> F::Mask {
    x.constant(F::CONSTANTS.angle_max).is_less(x.abs())
}

/// x - count * whole.
fn less_multiple<F: Real>(x: F, count: F, whole: [f64; 3]) -> F {
    whole.into_iter().fold(x, |rest, part| count.fma(x.constant(-part), rest))
}

/// sin(r) for |r| <= pi/2.
fn sine_within_half<F: Real>(r: F) -> F {
    let z = r * r;
    (r * z).fma(horner(z, F::CONSTANTS.sin), r)
}

/// -x if the low bit of `shifted` is set.
fn flip_if_odd<F: Real>(x: F, shifted: F) -> F {
    let sign = F::CONSTANTS.sign().trailing_zeros() as usize;
    (x.bits() ^ (shifted.bits() << sign)).real()
}
