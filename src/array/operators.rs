//! The operators: `+ - * / % & | ^ ! -` between arrays, by value or reference, and Rust numbers on either side.
//!
//! Any number may stand on the right. On the left there are f64 and i64 only: with one type of each kind the compiler
//! knows at once what `2.5` is in `(2.5 * &x).sum(..)`, and with more it would ask.

use std::ops;

use super::elementwise::element_wise;
use super::ops::Op;
use super::{Array, Operand};

/// `array op anything` and `number op array`.
macro_rules! operator {
    ($($trait:ident $method:ident $op:ident),* $(,)?) => {$(
        impl<R: Into<Operand>> ops::$trait<R> for &Array {
            type Output = Array;
            #[track_caller]
            fn $method(self, other: R) -> Array {
                Array::or_failed(element_wise(Op::$op, vec![self.into(), other.into()]))
            }
        }

        impl<R: Into<Operand>> ops::$trait<R> for Array {
            type Output = Array;
            #[track_caller]
            fn $method(self, other: R) -> Array {
                (&self).$method(other)
            }
        }

        number_operator!($trait $method $op: f64 i64);
    )*};
}

macro_rules! number_operator {
    ($trait:ident $method:ident $op:ident: $($rust:ty)*) => {$(
        impl ops::$trait<&Array> for $rust {
            type Output = Array;
            #[track_caller]
            fn $method(self, other: &Array) -> Array {
                Array::or_failed(element_wise(Op::$op, vec![self.into(), other.into()]))
            }
        }

        impl ops::$trait<Array> for $rust {
            type Output = Array;
            #[track_caller]
            fn $method(self, other: Array) -> Array {
                self.$method(&other)
            }
        }
    )*};
}

operator!(
    Add add Add, Sub sub Subtract, Mul mul Multiply, Div div Divide, Rem rem Remainder,
    BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor,
);

macro_rules! prefix_operator {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl ops::$trait for &Array {
            type Output = Array;
            #[track_caller]
            fn $method(self) -> Array {
                Array::or_failed(element_wise(Op::$op, vec![self.into()]))
            }
        }

        impl ops::$trait for Array {
            type Output = Array;
            #[track_caller]
            fn $method(self) -> Array {
                (&self).$method()
            }
        }
    )*};
}

prefix_operator!(Neg neg Negative, Not not Not);
