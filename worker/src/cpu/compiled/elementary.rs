//! [`crate::math`]'s functions on gangs: its traits, whose every method emits an instruction.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Shl, Shr, Sub};

use super::builder::{Binary, Builder, Unary};
use super::helper::{Function, Helper};
use crate::dtype::DType;
use crate::math::{Bits, Constants, Double, Mask, Real, Single};

/// A gang, and where code for it is emitted; `T` is the scalar that its lanes are.
pub(super) struct Lanes<'b, B: Builder, T> {
    builder: &'b RefCell<B>,
    pub gang: B::Gang,
    scalar: PhantomData<T>,
}

impl<B: Builder, T> Clone for Lanes<'_, B, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Builder, T> Copy for Lanes<'_, B, T> {}

/// The bits of a `T`.
#[derive(Clone, Copy)]
pub(super) struct BitsOf<T>(PhantomData<T>);

impl<'b, B: Builder, T> Lanes<'b, B, T> {
    pub(super) fn new(builder: &'b RefCell<B>, gang: B::Gang) -> Self {
        Lanes { builder, gang, scalar: PhantomData }
    }

    fn of<U>(self, gang: B::Gang) -> Lanes<'b, B, U> {
        Lanes::new(self.builder, gang)
    }

    fn unary<U>(self, op: Unary) -> Lanes<'b, B, U> {
        self.of(self.builder.borrow_mut().unary(op, self.gang))
    }

    fn binary<U, V>(self, op: Binary, other: Lanes<'b, B, V>) -> Lanes<'b, B, U> {
        self.of(self.builder.borrow_mut().binary(op, self.gang, other.gang))
    }

    fn shifted(self, op: Binary, by: usize) -> Self {
        let mut builder = self.builder.borrow_mut();
        let by = builder.constant(DType::U32, by as u64);
        self.of(builder.binary(op, self.gang, by))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl<B: Builder, T> $trait for Lanes<'_, B, T> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.binary(Binary::$op, other)
            }
        }
    )*};
}
operators!(Add add Add, Sub sub Subtract, Mul mul Multiply, Div div Divide);
operators!(BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor);

impl<B: Builder, T> Neg for Lanes<'_, B, T> {
    type Output = Self;
    fn neg(self) -> Self {
        self.unary(Unary::Negate)
    }
}
impl<B: Builder> Not for Lanes<'_, B, bool> {
    type Output = Self;
    fn not(self) -> Self {
        self.unary(Unary::Not)
    }
}
impl<B: Builder, T> Shl<usize> for Lanes<'_, B, T> {
    type Output = Self;
    fn shl(self, by: usize) -> Self {
        self.shifted(Binary::ShiftLeft, by)
    }
}
impl<B: Builder, T> Shr<usize> for Lanes<'_, B, T> {
    type Output = Self;
    fn shr(self, by: usize) -> Self {
        self.shifted(Binary::ShiftRight, by)
    }
}

impl<B: Builder> Mask for Lanes<'_, B, bool> {}

macro_rules! real {
    ($float:ident, $dtype:ident, $bits:ident, $bits_dtype:ident, $function:ident) => {
        impl<'b, B: Builder> Real for Lanes<'b, B, $float> {
            type Scalar = $float;
            type Bits = Lanes<'b, B, BitsOf<$float>>;
            type Mask = Lanes<'b, B, bool>;
            const CONSTANTS: Constants = <$float as Real>::CONSTANTS;

            fn constant(self, value: f64) -> Self {
                let word = (value as $float).to_bits();
                self.of(self.builder.borrow_mut().constant(DType::$dtype, word.into()))
            }
            fn fma(self, factor: Self, addend: Self) -> Self {
                self.of(self.builder.borrow_mut().fma(self.gang, factor.gang, addend.gang))
            }
            fn sqrt(self) -> Self {
                self.unary(Unary::Sqrt)
            }
            fn floor(self) -> Self {
                self.unary(Unary::Floor)
            }
            fn abs(self) -> Self {
                self.unary(Unary::Abs)
            }
            fn bits(self) -> Self::Bits {
                self.of(self.builder.borrow_mut().reinterpret(self.gang, DType::$bits_dtype))
            }
            fn is_less(self, other: Self) -> Self::Mask {
                self.binary(Binary::Less, other)
            }
            fn is_at_most(self, other: Self) -> Self::Mask {
                self.binary(Binary::LessEqual, other)
            }
            fn is_equal(self, other: Self) -> Self::Mask {
                self.binary(Binary::Equal, other)
            }
            fn select(mask: Self::Mask, accept: Self, reject: Self) -> Self {
                accept.of(accept.builder.borrow_mut().select(mask.gang, accept.gang, reject.gang))
            }
            fn or_less(self, other: Self) -> Self {
                self.binary(Binary::OrLess, other)
            }
            fn or_greater(self, other: Self) -> Self {
                self.binary(Binary::OrGreater, other)
            }
            fn patched(self, mask: Self::Mask, argument: Self, slow: fn($float) -> $float) -> Self {
                let helper = Helper {
                    function: Function::$function(slow),
                    operands: [DType::$dtype, DType::Bool, DType::$dtype].into(),
                    results: [DType::$dtype].into(),
                };
                self.of(patch(&mut *self.builder.borrow_mut(), helper, [self.gang, mask.gang, argument.gang]))
            }
        }

        impl<'b, B: Builder> Bits for Lanes<'b, B, BitsOf<$float>> {
            type Real = Lanes<'b, B, $float>;
            fn constant(self, value: u64) -> Self {
                self.of(self.builder.borrow_mut().constant(DType::$bits_dtype, u64::from(value as $bits)))
            }
            fn real(self) -> Self::Real {
                self.of(self.builder.borrow_mut().reinterpret(self.gang, DType::$dtype))
            }
        }
    };
}
real!(f32, F32, u32, U32, Single);
real!(f64, F64, u64, U64, Double);

/// The result, but the helper's where the mask is set; a branch round it where it is not.
fn patch<B: Builder>(builder: &mut B, helper: Helper, [result, mask, argument]: [B::Gang; 3]) -> B::Gang {
    let varies = builder.varies(result) || builder.varies(argument);
    let patched = builder.register(helper.results[0], varies);
    builder.set(patched, result);
    let (slow, done) = (builder.block(), builder.block());
    builder.is_rare(slow);
    let any = builder.any(mask);
    builder.branch(any, slow, done);
    builder.enter(slow);
    let results = builder.call(helper, &[result, mask, argument]);
    builder.set(patched, results[0]);
    builder.jump(done);
    builder.enter(done);
    builder.get(patched)
}

impl<'b, B: Builder> Single for Lanes<'b, B, f32> {
    type Wide = Lanes<'b, B, f64>;
    fn widen(self) -> Self::Wide {
        self.of(self.builder.borrow_mut().convert(self.gang, DType::F64))
    }
}

impl<'b, B: Builder> Double for Lanes<'b, B, f64> {
    type Narrow = Lanes<'b, B, f32>;
    fn narrow(self) -> Self::Narrow {
        self.of(self.builder.borrow_mut().convert(self.gang, DType::F32))
    }
}
