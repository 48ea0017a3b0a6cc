//! What the arithmetic operations mean, per dtype. Everything that is computed ends up here or in [`crate::math`].

use std::num::Wrapping;

use crate::math::{self, Real};

/// A scalar as one word.
pub(super) trait Word: Copy + PartialEq {
    fn of(word: u64) -> Self;
    fn word(self) -> u64;
}

/// What can be calculated with. See [`super`] for the rules.
pub(super) trait Number: Word + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn over(self, other: Self) -> Self;
    fn remainder(self, other: Self) -> Self;
    fn negative(self) -> Self;
    fn size(self) -> Self;

    fn smaller(self, other: Self) -> Self {
        if other < self { other } else { self }
    }
    fn larger(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
    fn between(self, low: Self, high: Self) -> Self {
        self.larger(low).smaller(high)
    }
    fn sign(self) -> Self {
        if self > Self::ZERO {
            Self::ONE
        } else if self < Self::ZERO {
            Self::ONE.negative()
        } else if self == Self::ZERO {
            Self::ZERO
        } else {
            self
        }
    }
}

/// `f32` or `f64`.
pub(super) trait Float: Number + Real {
    fn from_f64(value: f64) -> Self;
    fn ceiling(self) -> Self;
    fn truncated(self) -> Self;
    /// Ties to even.
    fn rounded(self) -> Self;
    fn power(self, exponent: Self) -> Self;
    /// self * 2^exponent, rounded once.
    fn scaled(self, exponent: i32) -> Self;
    /// A fraction in [1/2, 1) (or zero, infinite, NaN) and the exponent of 2 that makes self of it.
    fn split(self) -> (Self, i32);
    /// The word of an exponent that [`Float::split`] found: naga makes it a signed integer as wide as the float.
    fn exponent_word(exponent: i32) -> u64;
    /// The canonical NaN for any NaN.
    fn canonical(self) -> Self;
}

/// Integers of 32 or 64 bits.
pub(super) trait Integer: Number {
    const BITS: u32;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn not(self) -> Self;
    /// Shift amounts count modulo the width.
    fn shifted_left(self, by: u32) -> Self;
    /// Brings in copies of the sign bit, or zeros if unsigned.
    fn shifted_right(self, by: u32) -> Self;
    fn leading_zeros(self) -> u32;
    fn trailing_zeros(self) -> u32;
    fn ones(self) -> u32;
    fn reversed(self) -> Self;
    fn from_count(count: u32) -> Self;
    fn is_negative(self) -> bool;
}

impl Word for bool {
    fn of(word: u64) -> bool {
        word != 0
    }
    fn word(self) -> u64 {
        u64::from(self)
    }
}

macro_rules! integer {
    ($type:ident, $unsigned:ident, |$value:ident| $size:expr) => {
        impl Word for $type {
            fn of(word: u64) -> $type {
                word as $type
            }
            fn word(self) -> u64 {
                u64::from(self as $unsigned)
            }
        }

        impl Number for $type {
            const ZERO: $type = 0;
            const ONE: $type = 1;
            fn plus(self, other: $type) -> $type {
                self.wrapping_add(other)
            }
            fn minus(self, other: $type) -> $type {
                self.wrapping_sub(other)
            }
            fn times(self, other: $type) -> $type {
                self.wrapping_mul(other)
            }
            fn over(self, other: $type) -> $type {
                if other == 0 { self } else { self.wrapping_div(other) }
            }
            fn remainder(self, other: $type) -> $type {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            fn negative(self) -> $type {
                self.wrapping_neg()
            }
            fn size(self) -> $type {
                let $value = self;
                $size
            }
        }

        impl Integer for $type {
            const BITS: u32 = $type::BITS;
            fn and(self, other: $type) -> $type {
                self & other
            }
            fn or(self, other: $type) -> $type {
                self | other
            }
            fn xor(self, other: $type) -> $type {
                self ^ other
            }
            fn not(self) -> $type {
                !self
            }
            fn shifted_left(self, by: u32) -> $type {
                self.wrapping_shl(by)
            }
            fn shifted_right(self, by: u32) -> $type {
                self.wrapping_shr(by)
            }
            fn leading_zeros(self) -> u32 {
                self.leading_zeros()
            }
            fn trailing_zeros(self) -> u32 {
                self.trailing_zeros()
            }
            fn ones(self) -> u32 {
                self.count_ones()
            }
            fn reversed(self) -> $type {
                self.reverse_bits()
            }
            fn from_count(count: u32) -> $type {
                count as $type
            }
            fn is_negative(self) -> bool {
                #[allow(unused_comparisons)]
                {
                    self < 0
                }
            }
        }
    };
}
integer!(i32, u32, |value| value.wrapping_abs());
integer!(u32, u32, |value| value);
integer!(i64, u64, |value| value.wrapping_abs());
integer!(u64, u64, |value| value);

macro_rules! float {
    ($type:ident, $bits:ident, $pow:ident, |$value:ident, $exponent:ident| $scaled:expr) => {
        impl Word for $type {
            fn of(word: u64) -> $type {
                $type::from_bits(word as $bits)
            }
            fn word(self) -> u64 {
                u64::from(self.to_bits())
            }
        }

        impl Number for $type {
            const ZERO: $type = 0.0;
            const ONE: $type = 1.0;
            fn plus(self, other: $type) -> $type {
                self + other
            }
            fn minus(self, other: $type) -> $type {
                self - other
            }
            fn times(self, other: $type) -> $type {
                self * other
            }
            fn over(self, other: $type) -> $type {
                self / other
            }
            fn remainder(self, other: $type) -> $type {
                self % other
            }
            fn negative(self) -> $type {
                -self
            }
            fn size(self) -> $type {
                self.abs()
            }
        }

        impl Float for $type {
            fn from_f64(value: f64) -> $type {
                value as $type
            }
            fn ceiling(self) -> $type {
                self.ceil()
            }
            fn truncated(self) -> $type {
                self.trunc()
            }
            fn rounded(self) -> $type {
                self.round_ties_even()
            }
            fn power(self, exponent: $type) -> $type {
                math::$pow(self, exponent)
            }
            fn scaled(self, exponent: i32) -> $type {
                let ($value, $exponent) = (self, exponent);
                $scaled
            }
            fn split(self) -> ($type, i32) {
                let (fraction, exponent) = split(f64::from(self));
                (fraction as $type, exponent)
            }
            fn exponent_word(exponent: i32) -> u64 {
                u64::from(exponent as $bits)
            }
            fn canonical(self) -> $type {
                if self.is_nan() { $type::NAN } else { self }
            }
        }
    };
}
// In 64 bits, neither the product nor the power can overflow or lose bits before the one rounding at the end.
float!(f32, u32, pow_single, |value, exponent| (f64::from(value) * power_of_two(exponent.clamp(-400, 400))) as f32);
float!(f64, u64, pow_double, |value, exponent| scaled(value, exponent));

/// value * 2^exponent with one rounding: factors that keep what comes before the last one exact.
fn scaled(mut value: f64, exponent: i32) -> f64 {
    let mut left = exponent.clamp(-2200, 2200);
    while left > 1023 {
        value *= power_of_two(1023);
        left -= 1023;
    }
    // A step of 2^-969 leaves 53 bits above the subnormal range wherever the result is not zero anyway.
    while left < -1022 {
        value *= power_of_two(-969);
        left += 969;
    }
    value * power_of_two(left)
}

/// 2^exponent, in the normal range.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((i64::from(exponent) + 1023) as u64) << 52)
}

fn split(value: f64) -> (f64, i32) {
    if value == 0.0 || !value.is_finite() {
        return (value, 0);
    }
    let is_subnormal = value.abs() < f64::MIN_POSITIVE;
    let normal = if is_subnormal { value * power_of_two(54) } else { value };
    let Wrapping(bits) = normal.bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022 - if is_subnormal { 54 } else { 0 };
    (f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52)), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_rounds_once() {
        for (value, exponent, expected) in [
            (1.0, -1074, f64::from_bits(1)),
            (1.0, -1075, 0.0),
            (1.5, -1074, f64::from_bits(2)),
            (1.5, -1075, f64::from_bits(1)),
            (f64::from_bits(0x3ff0_0000_0000_0001), -1023, f64::from_bits(1 << 51)),
            (f64::from_bits(1), 2097, 2f64.powi(1023)),
            (f64::from_bits(1), 2098, f64::INFINITY),
            (f64::MAX, -2097, f64::from_bits(2)),
            (f64::MAX, -2098, f64::from_bits(1)),
            (0.0, i32::MAX, 0.0),
            (f64::INFINITY, i32::MIN, f64::INFINITY),
        ] {
            assert_eq!(value.scaled(exponent), expected, "{value:e} {exponent}");
        }
        assert_eq!(f32::from_bits(1).scaled(276), 2f32.powi(127));
        assert_eq!(1.5f32.scaled(-150), f32::from_bits(1));
        assert_eq!(1f32.scaled(i32::MIN), 0.0);
    }

    #[test]
    fn splitting_is_undone_by_scaling() {
        for value in [1.0, -0.75, 3e300, 5e-324, -1e-310, f64::MAX] {
            let (fraction, exponent) = value.split();
            assert!((0.5..1.0).contains(&fraction.abs()));
            assert_eq!(fraction.scaled(exponent), value);
        }
        assert_eq!(8f32.split(), (0.5, 4));
        assert_eq!((-0.0f32).split().0.to_bits(), (-0.0f32).to_bits());
        assert_eq!(f32::INFINITY.split(), (f32::INFINITY, 0));
    }
}
