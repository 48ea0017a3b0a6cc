//! `asin`, `acos`, `atan`, `atan2`.

use super::polynomial::{horner, with_sign_of};
use super::real::Real;

/// Inverse sine; NaN outside [-1, 1].
pub fn asin<F: Real>(x: F) -> F {
    let size = x.abs();
    let is_small = size.is_at_most(x.constant(0.5));
    let arc = arc_sine_of_half(size, is_small);
    let [high, low, _] = F::CONSTANTS.half_pi;
    let rest = x.constant(high) - (arc + arc - x.constant(low));
    with_sign_of(F::select(is_small, arc, rest), x)
}

/// Inverse cosine; NaN outside [-1, 1].
pub fn acos<F: Real>(x: F) -> F {
    let size = x.abs();
    let is_small = size.is_at_most(x.constant(0.5));
    let arc = arc_sine_of_half(size, is_small);
    let signed = with_sign_of(arc, x);
    let [half_high, half_low, _] = F::CONSTANTS.half_pi;
    let [high, low, _] = F::CONSTANTS.pi;
    let middle = x.constant(half_high) - (signed - x.constant(half_low));
    let twice = arc + arc;
    let left = x.constant(high) - (twice - x.constant(low));
    let outer = F::select(x.is_less(x.constant(0.0)), left, twice);
    F::select(is_small, middle, outer)
}

/// asin(size) where small, else asin(sqrt((1 - size) / 2)), of which asin and acos are made by asin's half-angle rule.
fn arc_sine_of_half<F: Real>(size: F, is_small: F::Mask) -> F {
    let half = size.constant(0.5);
    let z = F::select(is_small, size * size, half - half * size);
    let root = z.sqrt();
    let t = F::select(is_small, size, root);
    (t * z).fma(horner(z, F::CONSTANTS.asin), t)
}

/// Inverse tangent.
pub fn atan<F: Real>(x: F) -> F {
    let size = x.abs();
    let one = x.constant(1.0);
    let is_steep = one.is_less(size);
    let arc = arc_tangent_of_fraction(F::select(is_steep, one / size, size));
    with_sign_of(F::select(is_steep, complement(arc), arc), x)
}

/// The angle of the point (x, y), in [-pi, pi].
pub fn atan2<F: Real>(y: F, x: F) -> F {
    let (height, width) = (y.abs(), x.abs());
    let is_steep = width.is_less(height);
    let (low, high) = (F::select(is_steep, width, height), F::select(is_steep, height, width));
    // 0/0 is 0 here and infinity/infinity is 1.
    let ratio = F::select(low.is_equal(high), x.constant(1.0), low / high);
    let ratio = F::select(low.is_equal(x.constant(0.0)), low, ratio);
    let arc = arc_tangent_of_fraction(ratio);
    let arc = F::select(is_steep, complement(arc), arc);

    let sign = with_sign_of(x.constant(1.0), x);
    let [high_part, low_part, _] = F::CONSTANTS.pi;
    let behind = x.constant(high_part) - (arc - x.constant(low_part));
    let arc = F::select(sign.is_less(x.constant(0.0)), behind, arc);
    let is_nan = !(x.is_equal(x) & y.is_equal(y));
    F::select(is_nan, x + y, with_sign_of(arc, y))
}

/// atan(t) for 0 <= t <= 1.
fn arc_tangent_of_fraction<F: Real>(t: F) -> F {
    let z = t * t;
    (t * z).fma(horner(z, F::CONSTANTS.atan), t)
}

/// pi/2 - arc.
fn complement<F: Real>(arc: F) -> F {
    let [high, low, _] = F::CONSTANTS.half_pi;
    arc.constant(high) - (arc - arc.constant(low))
}
