//! The functions on several floats at once, as a code generator would have them: the same bits, lane by lane.

use std::array::from_fn;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Shl, Shr, Sub};

use super::real::{Bits, Constants, Double, Mask, Real, Single};
use super::*;

/// Four of something, which every operation treats one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Four<T>([T; 4]);

impl<T: Copy> Four<T> {
    fn map<U>(self, f: impl Fn(T) -> U) -> Four<U> {
        Four(self.0.map(f))
    }
    fn zip<U: Copy, V>(self, other: Four<U>, f: impl Fn(T, U) -> V) -> Four<V> {
        Four(from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl<T: Copy + $trait<Output = T>> $trait for Four<T> {
            type Output = Four<T>;
            fn $method(self, other: Four<T>) -> Four<T> {
                self.zip(other, $trait::$method)
            }
        }
    )*};
}
operators!(Add add, Sub sub, Mul mul, Div div, BitAnd bitand, BitOr bitor, BitXor bitxor);

macro_rules! operators_on_each {
    ($($trait:ident $method:ident ($($argument:ident: $type:ty)?)),*) => {$(
        impl<T: Copy + $trait$(<$type>)?> $trait$(<$type>)? for Four<T> {
            type Output = Four<T::Output>;
            fn $method(self $(, $argument: $type)?) -> Four<T::Output> {
                self.map(|lane| lane.$method($($argument)?))
            }
        }
    )*};
}
operators_on_each!(Neg neg (), Not not (), Shl shl (by: usize), Shr shr (by: usize));

impl Mask for Four<bool> {}

macro_rules! four {
    ($float:ident) => {
        impl Real for Four<$float> {
            type Scalar = $float;
            type Bits = Four<<$float as Real>::Bits>;
            type Mask = Four<bool>;
            const CONSTANTS: Constants = <$float as Real>::CONSTANTS;

            fn constant(self, value: f64) -> Self {
                self.map(|lane| lane.constant(value))
            }
            fn fma(self, factor: Self, addend: Self) -> Self {
                Four(from_fn(|lane| self.0[lane].fma(factor.0[lane], addend.0[lane])))
            }
            fn sqrt(self) -> Self {
                self.map(Real::sqrt)
            }
            fn floor(self) -> Self {
                self.map(Real::floor)
            }
            fn abs(self) -> Self {
                self.map(Real::abs)
            }
            fn bits(self) -> Self::Bits {
                self.map(Real::bits)
            }
            fn is_less(self, other: Self) -> Four<bool> {
                self.zip(other, Real::is_less)
            }
            fn is_at_most(self, other: Self) -> Four<bool> {
                self.zip(other, Real::is_at_most)
            }
            fn is_equal(self, other: Self) -> Four<bool> {
                self.zip(other, Real::is_equal)
            }
            fn select(mask: Four<bool>, accept: Self, reject: Self) -> Self {
                Four(from_fn(|lane| if mask.0[lane] { accept.0[lane] } else { reject.0[lane] }))
            }
            fn patched(self, mask: Four<bool>, argument: Self, slow: fn($float) -> $float) -> Self {
                Self::select(mask, argument.map(slow), self)
            }
        }

        impl Bits for Four<<$float as Real>::Bits> {
            type Real = Four<$float>;
            fn constant(self, value: u64) -> Self {
                self.map(|lane| lane.constant(value))
            }
            fn real(self) -> Four<$float> {
                self.map(Bits::real)
            }
        }
    };
}
four!(f32);
four!(f64);

impl Single for Four<f32> {
    type Wide = Four<f64>;
    fn widen(self) -> Four<f64> {
        self.map(Single::widen)
    }
}

impl Double for Four<f64> {
    type Narrow = Four<f32>;
    fn narrow(self) -> Four<f32> {
        self.map(Double::narrow)
    }
}

macro_rules! check_same_bits {
    ($float:ident, $pow:ident, $arguments:expr, $($name:ident)*) => {
        // Any NaN is as good as another.
        let bits = |x: $float| if x.is_nan() { $float::NAN.to_bits() } else { x.to_bits() };
        let same = |name: &str, lanes: Four<$float>, each: [$float; 4]| {
            assert_eq!(lanes.0.map(bits), each.map(bits), "{name} of {} {lanes:?} {each:?}", stringify!($float));
        };
        for x in $arguments {
            let y = Four([2.0, x[0], -3.0, x[2]]);
            $(same(stringify!($name), $name(Four(x)), x.map($name));)*
            same("pow", $pow(Four(x), y), from_fn(|lane| $pow(x[lane], y.0[lane])));
            same("atan2", atan2(Four(x), y), from_fn(|lane| atan2(x[lane], y.0[lane])));
        }
    };
}

macro_rules! check_both_widths {
    ($($name:ident)*) => {
        let arguments = [[0.3, -1e20, 5.5, 1e-40], [1.0, -0.0, 1e6, 80.0], [0.9, 0.5, f32::INFINITY, -2.0]];
        check_same_bits!(f32, pow_single, arguments, $($name)*);
        let arguments = [[0.3, -1e200, 5.5, 1e-310], [1.0, -0.0, 1e12, 700.0], [0.9, 0.5, f64::INFINITY, -2.0]];
        check_same_bits!(f64, pow_double, arguments, $($name)*);
    };
}

#[test]
fn lanes_are_computed_like_single_floats() {
    check_both_widths!(sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 log log2 inverse_sqrt);
}
