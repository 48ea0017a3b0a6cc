//! Operators and conversions: from what naga calls them to functions on words.

use naga::{BinaryOperator, RelationalFunction, UnaryOperator};

use super::kind::Kind;
use super::number::{Float, Integer, Number, Word};

/// A function on components.
#[derive(Clone, Copy)]
pub(super) enum Map {
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
pub(super) fn unary(op: UnaryOperator, kind: Kind) -> Option<Map> {
    match kind {
        Kind::F32 => unary_number::<f32>(op),
        Kind::F64 => unary_number::<f64>(op),
        Kind::I32 => unary_number::<i32>(op).or_else(|| unary_integer::<i32>(op)),
        Kind::I64 => unary_number::<i64>(op).or_else(|| unary_integer::<i64>(op)),
        Kind::U32 => unary_integer::<u32>(op),
        Kind::U64 => unary_integer::<u64>(op),
        Kind::Bool => (op == UnaryOperator::LogicalNot).then_some(map!(|a: bool| !a)),
    }
}

fn unary_number<T: Number>(op: UnaryOperator) -> Option<Map> {
    (op == UnaryOperator::Negate).then_some(map!(|a: T| a.negative()))
}

fn unary_integer<T: Integer>(op: UnaryOperator) -> Option<Map> {
    (op == UnaryOperator::BitwiseNot).then_some(map!(|a: T| a.not()))
}

/// The function of a binary operator on components of a kind (of the left one, for shifts); `None` where it is not
/// defined.
pub(super) fn binary(op: BinaryOperator, kind: Kind) -> Option<Map> {
    match kind {
        Kind::F32 => binary_number::<f32>(op),
        Kind::F64 => binary_number::<f64>(op),
        Kind::I32 => binary_number::<i32>(op).or_else(|| binary_integer::<i32>(op)),
        Kind::U32 => binary_number::<u32>(op).or_else(|| binary_integer::<u32>(op)),
        Kind::I64 => binary_number::<i64>(op).or_else(|| binary_integer::<i64>(op)),
        Kind::U64 => binary_number::<u64>(op).or_else(|| binary_integer::<u64>(op)),
        Kind::Bool => binary_bool(op),
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
pub(super) fn float_test(test: RelationalFunction, kind: Kind) -> Option<Map> {
    match (test, kind) {
        (RelationalFunction::IsNan, Kind::F32) => Some(map!(|a: f32| a.is_nan())),
        (RelationalFunction::IsNan, Kind::F64) => Some(map!(|a: f64| a.is_nan())),
        (RelationalFunction::IsInf, Kind::F32) => Some(map!(|a: f32| a.is_infinite())),
        (RelationalFunction::IsInf, Kind::F64) => Some(map!(|a: f64| a.is_infinite())),
        _ => None,
    }
}

/// A value conversion.
pub(super) fn convert(from: Kind, to: Kind) -> Map {
    match from {
        Kind::F32 => convert_from::<f32>(to),
        Kind::F64 => convert_from::<f64>(to),
        Kind::I32 => convert_from::<i32>(to),
        Kind::U32 => convert_from::<u32>(to),
        Kind::I64 => convert_from::<i64>(to),
        Kind::U64 => convert_from::<u64>(to),
        Kind::Bool => convert_from::<bool>(to),
    }
}

/// The same bits as another kind; `None` between different widths. A NaN's bits are the canonical ones.
pub(super) fn bitcast(from: Kind, to: Kind) -> Option<Map> {
    match (from, to) {
        (Kind::F32, Kind::I32 | Kind::U32) => Some(map!(|a: f32| a.canonical())),
        (Kind::F64, Kind::I64 | Kind::U64) => Some(map!(|a: f64| a.canonical())),
        _ if from.bytes() == to.bytes() => Some(Map::One(|a| a)),
        _ => None,
    }
}

/// The canonical NaN for any NaN, in words of this kind.
pub(super) fn canonical(kind: Kind, word: u64) -> u64 {
    match kind {
        Kind::F32 => f32::of(word).canonical().word(),
        Kind::F64 => f64::of(word).canonical().word(),
        Kind::I32 | Kind::U32 | Kind::I64 | Kind::U64 | Kind::Bool => word,
    }
}

fn convert_from<T: Convert>(to: Kind) -> Map {
    match to {
        Kind::F32 => map!(|a: T| a.to_f32()),
        Kind::F64 => map!(|a: T| a.to_f64()),
        Kind::I32 => map!(|a: T| a.to_i32()),
        Kind::U32 => map!(|a: T| a.to_u32()),
        Kind::I64 => map!(|a: T| a.to_i64()),
        Kind::U64 => map!(|a: T| a.to_u64()),
        Kind::Bool => map!(|a: T| a.to_bool()),
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
