//! Operators and conversions: from what naga calls them to functions on words.

use naga::{BinaryOperator, RelationalFunction, UnaryOperator};

use super::number::{Float, Integer, Number, Word};
use crate::dtype::DType;

/// A function on components.
#[derive(Clone, Copy)]
pub(crate) enum Map {
    One(fn(u64) -> u64),
    Two(fn(u64, u64) -> u64),
    Three(fn(u64, u64, u64) -> u64),
    Four(fn(u64, u64, u64, u64) -> u64),
}

/// A [`Map`] of an expression over typed components.
macro_rules! map {
    (|$a:ident: $ta:ty| $body:expr) => {
        Map::One(|a| {
            let $a = <$ta>::of(a);
            Word::word($body)
        })
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| $body:expr) => {
        Map::Two(|a, b| {
            let ($a, $b) = (<$ta>::of(a), <$tb>::of(b));
            Word::word($body)
        })
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| $body:expr) => {
        Map::Three(|a, b, c| {
            let ($a, $b, $c) = (<$ta>::of(a), <$tb>::of(b), <$tc>::of(c));
            Word::word($body)
        })
    };
}
pub(super) use map;

/// The function of a unary operator; `None` where it is not defined.
pub(super) fn unary(op: UnaryOperator, dtype: DType) -> Option<Map> {
    match dtype {
        DType::F32 => unary_number::<f32>(op),
        DType::F64 => unary_number::<f64>(op),
        DType::I32 => unary_number::<i32>(op).or_else(|| unary_integer::<i32>(op)),
        DType::I64 => unary_number::<i64>(op).or_else(|| unary_integer::<i64>(op)),
        DType::U32 => unary_integer::<u32>(op),
        DType::U64 => unary_integer::<u64>(op),
        DType::Bool => (op == UnaryOperator::LogicalNot).then_some(map!(|a: bool| !a)),
    }
}

fn unary_number<T: Number>(op: UnaryOperator) -> Option<Map> {
    (op == UnaryOperator::Negate).then_some(map!(|a: T| a.negative()))
}

fn unary_integer<T: Integer>(op: UnaryOperator) -> Option<Map> {
    (op == UnaryOperator::BitwiseNot).then_some(map!(|a: T| a.not()))
}

/// The function of a binary operator on components of a dtype (of the left one, for shifts); `None` where it is not
/// defined.
pub(crate) fn binary(op: BinaryOperator, dtype: DType) -> Option<Map> {
    match dtype {
        DType::F32 => binary_number::<f32>(op),
        DType::F64 => binary_number::<f64>(op),
        DType::I32 => binary_number::<i32>(op).or_else(|| binary_integer::<i32>(op)),
        DType::U32 => binary_number::<u32>(op).or_else(|| binary_integer::<u32>(op)),
        DType::I64 => binary_number::<i64>(op).or_else(|| binary_integer::<i64>(op)),
        DType::U64 => binary_number::<u64>(op).or_else(|| binary_integer::<u64>(op)),
        DType::Bool => binary_bool(op),
    }
}

fn binary_number<T: Number>(op: BinaryOperator) -> Option<Map> {
    Some(match op {
        BinaryOperator::Add => map!(|a: T, b: T| a.plus(b)),
        BinaryOperator::Subtract => map!(|a: T, b: T| a.minus(b)),
        BinaryOperator::Multiply => map!(|a: T, b: T| a.times(b)),
        BinaryOperator::Divide => map!(|a: T, b: T| a.over(b)),
        BinaryOperator::Modulo => map!(|a: T, b: T| a.remainder(b)),
        BinaryOperator::Equal => map!(|a: T, b: T| a == b),
        BinaryOperator::NotEqual => map!(|a: T, b: T| a != b),
        BinaryOperator::Less => map!(|a: T, b: T| a < b),
        BinaryOperator::LessEqual => map!(|a: T, b: T| a <= b),
        BinaryOperator::Greater => map!(|a: T, b: T| a > b),
        BinaryOperator::GreaterEqual => map!(|a: T, b: T| a >= b),
        BinaryOperator::And
        | BinaryOperator::ExclusiveOr
        | BinaryOperator::InclusiveOr
        | BinaryOperator::LogicalAnd
        | BinaryOperator::LogicalOr
        | BinaryOperator::ShiftLeft
        | BinaryOperator::ShiftRight => return None,
    })
}

fn binary_integer<T: Integer>(op: BinaryOperator) -> Option<Map> {
    Some(match op {
        BinaryOperator::And => map!(|a: T, b: T| a.and(b)),
        BinaryOperator::ExclusiveOr => map!(|a: T, b: T| a.xor(b)),
        BinaryOperator::InclusiveOr => map!(|a: T, b: T| a.or(b)),
        BinaryOperator::ShiftLeft => map!(|a: T, b: u32| a.shifted_left(b)),
        BinaryOperator::ShiftRight => map!(|a: T, b: u32| a.shifted_right(b)),
        _ => return None,
    })
}

fn binary_bool(op: BinaryOperator) -> Option<Map> {
    Some(match op {
        BinaryOperator::Equal => map!(|a: bool, b: bool| a == b),
        BinaryOperator::NotEqual | BinaryOperator::ExclusiveOr => map!(|a: bool, b: bool| a != b),
        BinaryOperator::And | BinaryOperator::LogicalAnd => map!(|a: bool, b: bool| a & b),
        BinaryOperator::InclusiveOr | BinaryOperator::LogicalOr => map!(|a: bool, b: bool| a | b),
        _ => return None,
    })
}

/// `accept` where the condition holds.
pub(super) fn select() -> Map {
    Map::Three(|condition, accept, reject| if condition != 0 { accept } else { reject })
}

/// `isNan` and `isInf` of components; `all` and `any` are not componentwise.
pub(super) fn float_test(test: RelationalFunction, dtype: DType) -> Option<Map> {
    match (test, dtype) {
        (RelationalFunction::IsNan, DType::F32) => Some(map!(|a: f32| a.is_nan())),
        (RelationalFunction::IsNan, DType::F64) => Some(map!(|a: f64| a.is_nan())),
        (RelationalFunction::IsInf, DType::F32) => Some(map!(|a: f32| a.is_infinite())),
        (RelationalFunction::IsInf, DType::F64) => Some(map!(|a: f64| a.is_infinite())),
        _ => None,
    }
}

/// A value conversion.
pub(super) fn convert(from: DType, to: DType) -> Map {
    match from {
        DType::F32 => convert_from::<f32>(to),
        DType::F64 => convert_from::<f64>(to),
        DType::I32 => convert_from::<i32>(to),
        DType::U32 => convert_from::<u32>(to),
        DType::I64 => convert_from::<i64>(to),
        DType::U64 => convert_from::<u64>(to),
        DType::Bool => convert_from::<bool>(to),
    }
}

/// The same bits as another dtype; `None` between different widths. A NaN's bits are the canonical ones.
pub(super) fn bitcast(from: DType, to: DType) -> Option<Map> {
    match (from, to) {
        (DType::F32, DType::I32 | DType::U32) => Some(map!(|a: f32| a.canonical())),
        (DType::F64, DType::I64 | DType::U64) => Some(map!(|a: f64| a.canonical())),
        (DType::Bool, _) | (_, DType::Bool) => (from == to).then_some(Map::One(|a| a)),
        _ if from.bytes() == to.bytes() => Some(Map::One(|a| a)),
        _ => None,
    }
}

/// The canonical NaN for any NaN, in words of this dtype.
pub(super) fn canonical(dtype: DType, word: u64) -> u64 {
    match dtype {
        DType::F32 => f32::of(word).canonical().word(),
        DType::F64 => f64::of(word).canonical().word(),
        DType::I32 | DType::U32 | DType::I64 | DType::U64 | DType::Bool => word,
    }
}

fn convert_from<T: Convert>(to: DType) -> Map {
    match to {
        DType::F32 => map!(|a: T| a.to_f32()),
        DType::F64 => map!(|a: T| a.to_f64()),
        DType::I32 => map!(|a: T| a.to_i32()),
        DType::U32 => map!(|a: T| a.to_u32()),
        DType::I64 => map!(|a: T| a.to_i64()),
        DType::U64 => map!(|a: T| a.to_u64()),
        DType::Bool => map!(|a: T| a.to_bool()),
    }
}

/// To floats: the nearest, ties to even. To narrower integers: the low bits.
trait Convert: Word {
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
    fn to_i32(self) -> i32;
    fn to_u32(self) -> u32;
    fn to_i64(self) -> i64;
    fn to_u64(self) -> u64;
    fn to_bool(self) -> bool;
}

macro_rules! conversions {
    ($type:ident, $($method:ident $to:ident $value:ident $converted:expr),*) => {
        impl Convert for $type {
            $(fn $method(self) -> $to {
                let $value = self;
                $converted
            })*
            fn to_bool(self) -> bool {
                self != $type::ZERO
            }
        }
    };
}

macro_rules! integer_conversions {
    ($($type:ident),*) => {$(
        conversions!($type,
            to_f32 f32 x x as f32, to_f64 f64 x x as f64,
            to_i32 i32 x x as i32, to_u32 u32 x x as u32, to_i64 i64 x x as i64, to_u64 u64 x x as u64);
    )*};
}
integer_conversions!(i32, u32, i64, u64);

// The largest floats that are not above the integer type's largest number; NaN passes. The smallest numbers are floats
// themselves: `as` stops there, and makes 0 of NaN.
conversions!(f32,
    to_f32 f32 x x, to_f64 f64 x f64::from(x),
    to_i32 i32 x at_most(x, 2_147_483_520.0) as i32,
    to_u32 u32 x at_most(x, 4_294_967_040.0) as u32,
    to_i64 i64 x at_most(x, 9_223_371_487_098_961_920.0) as i64,
    to_u64 u64 x at_most(x, 18_446_742_974_197_923_840.0) as u64);
conversions!(f64,
    to_f32 f32 x x as f32, to_f64 f64 x x,
    to_i32 i32 x at_most(x, 2_147_483_647.0) as i32,
    to_u32 u32 x at_most(x, 4_294_967_295.0) as u32,
    to_i64 i64 x at_most(x, 9_223_372_036_854_774_784.0) as i64,
    to_u64 u64 x at_most(x, 18_446_744_073_709_549_568.0) as u64);

fn at_most<T: PartialOrd>(value: T, limit: T) -> T {
    if value > limit { limit } else { value }
}

impl Convert for bool {
    fn to_f32(self) -> f32 {
        f32::from(u8::from(self))
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn to_i32(self) -> i32 {
        i32::from(self)
    }
    fn to_u32(self) -> u32 {
        u32::from(self)
    }
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
    fn to_bool(self) -> bool {
        self
    }
}
