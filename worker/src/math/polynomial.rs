//! Small pieces that all functions share.

use super::real::{Bits, Real};

/// The polynomial with these coefficients, smallest power first, by Horner's rule. They are never empty.
pub(super) fn horner<F: Real>(x: F, coefficients: &'static [f64]) -> F {
    let (last, rest) = coefficients.split_last().expect("no polynomial is empty");
    rest.iter().rev().fold(x.constant(*last), |sum, &coefficient| sum.fma(x, x.constant(coefficient)))
}

/// `size`, which is not negative, with the sign of `x`.
pub(super) fn with_sign_of<F: Real>(size: F, x: F) -> F {
    let bits = x.bits();
    (size.bits() | (bits & bits.constant(F::CONSTANTS.sign()))).real()
}
