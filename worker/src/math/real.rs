//! The few operations that elementary functions are made of.
//!
//! A [`Real`] is one float for the interpreter, and a vector of them in code being generated: then each method emits an
//! instruction. All of them are exactly defined by IEEE 754 or by two's complement, so whoever implements them gets the
//! same bits.

use std::num::Wrapping;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Shl, Shr, Sub};

use super::coefficients::{DOUBLE, SINGLE};
use super::huge::HugeAngle;

/// Floats of one width, one or a vector of them. NaN operands give NaN; comparisons with NaN are false.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// One float.
    type Scalar: HugeAngle;
    /// The bits of these floats.
    type Bits: Bits<Real = Self>;
    /// One truth value for each.
    type Mask: Mask;
    /// What functions of this width compute with.
    const CONSTANTS: Constants;

    /// A constant, everywhere, beside `self` (which only says where code is emitted). Rounded to the width.
    fn constant(self, value: f64) -> Self;
    /// `self * factor + addend`, rounded once.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// The sign bit cleared.
    fn abs(self) -> Self;
    /// The same bits, as integers.
    fn bits(self) -> Self::Bits;
    /// `self < other`.
    fn is_less(self, other: Self) -> Self::Mask;
    /// `self <= other`.
    fn is_at_most(self, other: Self) -> Self::Mask;
    /// `self == other`.
    fn is_equal(self, other: Self) -> Self::Mask;
    /// `accept` where the mask is set, else `reject`.
    fn select(mask: Self::Mask, accept: Self, reject: Self) -> Self;
    /// `other` where that is less, else `self`: also where either is NaN.
    fn or_less(self, other: Self) -> Self {
        Self::select(other.is_less(self), other, self)
    }
    /// `other` where that is greater, else `self`: also where either is NaN.
    fn or_greater(self, other: Self) -> Self {
        Self::select(self.is_less(other), other, self)
    }
    /// `self`, but `slow(argument)` where the mask is set: rarely, so each of these may be a call.
    fn patched(self, mask: Self::Mask, argument: Self, slow: fn(Self::Scalar) -> Self::Scalar) -> Self;
}

/// Unsigned integers as wide as a [`Real`]; sums and differences wrap, right shifts bring in zeros.
pub trait Bits:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Shl<usize, Output = Self>
    + Shr<usize, Output = Self>
{
    /// What these are the bits of.
    type Real;
    /// A constant, everywhere, beside `self`.
    fn constant(self, value: u64) -> Self;
    /// The same bits, as floats.
    fn real(self) -> Self::Real;
}

/// Truth values.
pub trait Mask: Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self> {}

/// Floats of 32 bits, which some functions widen.
pub trait Single: Real<Scalar = f32> {
    /// The same number of 64-bit floats.
    type Wide: Double<Narrow = Self>;
    /// The same values.
    fn widen(self) -> Self::Wide;
}

/// Floats of 64 bits.
pub trait Double: Real<Scalar = f64> {
    /// The same number of 32-bit floats.
    type Narrow;
    /// The nearest values, ties to even.
    fn narrow(self) -> Self::Narrow;
}

/// A width's format, and its constants and polynomials, smallest power first (see `coefficients.py` for their meaning).
/// A constant in several parts is their sum, largest first.
pub struct Constants {
    /// Bits of the stored mantissa.
    pub(super) mantissa_bits: usize,
    /// The exponent's bias.
    pub(super) bias: u64,
    /// Beyond these, e^x is 0 or infinite.
    pub(super) exp_range: [f64; 2],
    /// Beyond these, 2^x is 0 or infinite.
    pub(super) exp2_range: [f64; 2],
    /// Larger angles are reduced the slow way.
    pub(super) angle_max: f64,
    /// From here on, `x * x + 1` is `x * x` (and may overflow).
    pub(super) wide_min: f64,
    pub(super) ln2: [f64; 2],
    pub(super) log2_e: [f64; 2],
    pub(super) third: [f64; 2],
    pub(super) pi: [f64; 3],
    pub(super) half_pi: [f64; 3],
    pub(super) exp: &'static [f64],
    pub(super) exp2: &'static [f64],
    pub(super) log: &'static [f64],
    pub(super) power: &'static [f64],
    pub(super) sin: &'static [f64],
    pub(super) tan_sin: &'static [f64],
    pub(super) tan_cos: &'static [f64],
    pub(super) atan: &'static [f64],
    pub(super) asin: &'static [f64],
    pub(super) sinh: &'static [f64],
    pub(super) tanh: &'static [f64],
}

impl Constants {
    /// The sign bit.
    pub(super) const fn sign(&self) -> u64 {
        (2 * self.bias + 2) << self.mantissa_bits
    }

    /// The stored mantissa's bits.
    pub(super) const fn mantissa(&self) -> u64 {
        (1 << self.mantissa_bits) - 1
    }

    /// 2^exponent, for an exponent in the normal range.
    pub(super) const fn power_of_two(exponent: i64) -> f64 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    }

    /// Adding it rounds a small number to an integer, whose two's complement is then in the low bits.
    pub(super) const fn rounder(&self) -> f64 {
        1.5 * Constants::power_of_two(self.mantissa_bits as i64)
    }
}

impl Mask for bool {}

macro_rules! scalar {
    ($float:ident, $bits:ident, $constants:ident) => {
        impl Real for $float {
            type Scalar = $float;
            type Bits = Wrapping<$bits>;
            type Mask = bool;
            const CONSTANTS: Constants = $constants;

            #[inline(always)]
            fn constant(self, value: f64) -> $float {
                value as $float
            }
            #[inline(always)]
            fn fma(self, factor: $float, addend: $float) -> $float {
                self.mul_add(factor, addend)
            }
            #[inline(always)]
            fn sqrt(self) -> $float {
                self.sqrt()
            }
            #[inline(always)]
            fn floor(self) -> $float {
                self.floor()
            }
            #[inline(always)]
            fn abs(self) -> $float {
                self.abs()
            }
            #[inline(always)]
            fn bits(self) -> Wrapping<$bits> {
                Wrapping(self.to_bits())
            }
            #[inline(always)]
            fn is_less(self, other: $float) -> bool {
                self < other
            }
            #[inline(always)]
            fn is_at_most(self, other: $float) -> bool {
                self <= other
            }
            #[inline(always)]
            fn is_equal(self, other: $float) -> bool {
                self == other
            }
            #[inline(always)]
            fn select(mask: bool, accept: $float, reject: $float) -> $float {
                if mask { accept } else { reject }
            }
            #[inline(always)]
            fn patched(self, mask: bool, argument: $float, slow: fn($float) -> $float) -> $float {
                if mask { slow(argument) } else { self }
            }
        }

        impl Bits for Wrapping<$bits> {
            type Real = $float;
            #[inline(always)]
            fn constant(self, value: u64) -> Wrapping<$bits> {
                Wrapping(value as $bits)
            }
            #[inline(always)]
            fn real(self) -> $float {
                $float::from_bits(self.0)
            }
        }
    };
}
scalar!(f32, u32, SINGLE);
scalar!(f64, u64, DOUBLE);

impl Single for f32 {
    type Wide = f64;
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Double for f64 {
    type Narrow = f32;
    #[inline(always)]
    fn narrow(self) -> f32 {
        self as f32
    }
}
