//! The engine's own elementary functions: the same bits on every CPU and in every code generator.
//!
//! Each function is one straight line of operations of the trait [`Real`]: `+ - * /`, square root, fma, floor, comparisons,
//! selects and integer arithmetic on the bits, all of which IEEE 754 and two's complement define to the last bit. Here
//! they are computed on `f32` and `f64`; a code generator implements [`Real`] for its own values and gets the same
//! function as SIMD code by calling it. No other operation may come in: no libm, no conversion between integers and
//! floats, no branch on a value but [`Real::patched`], which calls one scalar function for the few lanes that need it.
//!
//! Constants and polynomials are written by `coefficients.py` (Chebyshev fits in 60 digits). Special cases are IEEE 754's
//! (`pow` with all of its; NaN for any argument outside a function's domain). Subnormal numbers are numbers.
//!
//! # Accuracy
//! At most 4 ULP is promised. The largest distances seen, in ULP, by the tests in `accuracy.rs`: f32 against the C
//! library in 64 bits on every 61st float; f64 against mpmath on 200 points, and against the C library's rounded results
//! on 800,000 points, which counts its errors too. `pow` and `atan2`: 200 points against mpmath.
//!
//! | | f32 | f64 | f64 to C |
//! |---|---|---|---|
//! | `sin` | 1.94 | 0.94 | 2 |
//! | `cos` | 1.92 | 1.02 | 2 |
//! | `tan` | 2.70 | 1.95 | 3 |
//! | `asin` | 2.28 | 1.87 | 2 |
//! | `acos` | 1.04 | 0.92 | 1 |
//! | `atan` | 1.15 | 0.99 | 1 |
//! | `atan2` | 0.88 | 0.94 | |
//! | `sinh` | 1.58 | 0.93 | 2 |
//! | `cosh` | 1.47 | 1.03 | 1 |
//! | `tanh` | 1.47 | 1.07 | 2 |
//! | `asinh` | 1.80 | 1.27 | 2 |
//! | `acosh` | 1.89 | 1.06 | 2 |
//! | `atanh` | 2.18 | 1.00 | 2 |
//! | `exp` | 1.04 | 0.82 | 1 |
//! | `exp2` | 0.85 | 0.69 | 1 |
//! | `log` | 0.89 | 0.80 | 1 |
//! | `log2` | 1.55 | 1.02 | 1 |
//! | `pow` | 0.50 | 0.71 | |
//! | `inverse_sqrt` | 1.49 | 1.13 | 0 |

mod circular;
mod coefficients;
mod exponential;
mod huge;
mod inverse;
mod logarithm;
mod polynomial;
mod power;
mod real;

pub use circular::{cos, sin, tan};
pub use exponential::{cosh, exp, exp2, sinh, tanh};
pub use huge::HugeAngle;
pub use inverse::{acos, asin, atan, atan2};
pub use logarithm::{acosh, asinh, atanh, log, log2};
pub use power::{pow_double, pow_single};
pub use real::{Bits, Constants, Double, Mask, Real, Single};

/// 1 / sqrt(x).
pub fn inverse_sqrt<F: Real>(x: F) -> F {
    x.constant(1.0) / x.sqrt()
}

#[cfg(test)]
mod accuracy;
#[cfg(test)]
mod lanes;
