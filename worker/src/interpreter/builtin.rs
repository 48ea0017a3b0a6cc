//! The built-in functions that work component by component.

use naga::MathFunction;

use crate::math;

use super::number::{Float, Integer, Number, Word};
use super::operator::{Map, map};
use crate::dtype::DType;

/// The function on components of a dtype (the first argument's); `None` where it is not defined or not componentwise.
pub(crate) fn componentwise(function: MathFunction, dtype: DType) -> Option<Map> {
    match dtype {
        DType::F32 => number::<f32>(function).or_else(|| float::<f32>(function)).or_else(|| half(function)),
        DType::F64 => number::<f64>(function).or_else(|| float::<f64>(function)),
        DType::I32 => number::<i32>(function).or_else(|| integer::<i32>(function)),
        DType::U32 => number::<u32>(function).or_else(|| integer::<u32>(function)).or_else(|| packed(function)),
        DType::I64 => number::<i64>(function).or_else(|| integer::<i64>(function)),
        DType::U64 => number::<u64>(function).or_else(|| integer::<u64>(function)),
        DType::Bool => None,
    }
}

fn number<T: Number>(function: MathFunction) -> Option<Map> {
    Some(match function {
        MathFunction::Abs => map!(|a: T| a.size()),
        MathFunction::Sign => map!(|a: T| a.sign()),
        MathFunction::Min => map!(|a: T, b: T| a.smaller(b)),
        MathFunction::Max => map!(|a: T, b: T| a.larger(b)),
        MathFunction::Clamp => map!(|a: T, low: T, high: T| a.between(low, high)),
        _ => return None,
    })
}

fn float<T: Float>(function: MathFunction) -> Option<Map> {
    Some(match function {
        MathFunction::Saturate => map!(|a: T| a.between(T::ZERO, T::ONE)),
        MathFunction::Sin => map!(|a: T| math::sin(a)),
        MathFunction::Cos => map!(|a: T| math::cos(a)),
        MathFunction::Tan => map!(|a: T| math::tan(a)),
        MathFunction::Asin => map!(|a: T| math::asin(a)),
        MathFunction::Acos => map!(|a: T| math::acos(a)),
        MathFunction::Atan => map!(|a: T| math::atan(a)),
        MathFunction::Atan2 => map!(|y: T, x: T| math::atan2(y, x)),
        MathFunction::Sinh => map!(|a: T| math::sinh(a)),
        MathFunction::Cosh => map!(|a: T| math::cosh(a)),
        MathFunction::Tanh => map!(|a: T| math::tanh(a)),
        MathFunction::Asinh => map!(|a: T| math::asinh(a)),
        MathFunction::Acosh => map!(|a: T| math::acosh(a)),
        MathFunction::Atanh => map!(|a: T| math::atanh(a)),
        MathFunction::Radians => map!(|a: T| a.times(T::from_f64(std::f64::consts::PI / 180.0))),
        MathFunction::Degrees => map!(|a: T| a.times(T::from_f64(180.0 / std::f64::consts::PI))),
        MathFunction::Exp => map!(|a: T| math::exp(a)),
        MathFunction::Exp2 => map!(|a: T| math::exp2(a)),
        MathFunction::Log => map!(|a: T| math::log(a)),
        MathFunction::Log2 => map!(|a: T| math::log2(a)),
        MathFunction::Pow => map!(|a: T, b: T| a.power(b)),
        MathFunction::Sqrt => map!(|a: T| a.sqrt()),
        MathFunction::InverseSqrt => map!(|a: T| math::inverse_sqrt(a)),
        MathFunction::Ceil => map!(|a: T| a.ceiling()),
        MathFunction::Floor => map!(|a: T| a.floor()),
        MathFunction::Round => map!(|a: T| a.rounded()),
        MathFunction::Fract => map!(|a: T| a.minus(a.floor())),
        MathFunction::Trunc => map!(|a: T| a.truncated()),
        MathFunction::Ldexp => map!(|a: T, exponent: i32| a.scaled(exponent)),
        MathFunction::Fma => map!(|a: T, b: T, c: T| a.fma(b, c)),
        MathFunction::Mix => map!(|a: T, b: T, t: T| a.times(T::ONE.minus(t)).plus(b.times(t))),
        MathFunction::Step => map!(|edge: T, x: T| if edge <= x { T::ONE } else { T::ZERO }),
        MathFunction::SmoothStep => map!(|low: T, high: T, x: T| smooth_step(low, high, x)),
        _ => return None,
    })
}

fn smooth_step<T: Float>(low: T, high: T, x: T) -> T {
    let t = x.minus(low).over(high.minus(low)).between(T::ZERO, T::ONE);
    t.times(t).times(T::from_f64(3.0).minus(T::from_f64(2.0).times(t)))
}

fn half(function: MathFunction) -> Option<Map> {
    let quantized = map!(|a: f32| half::f16::from_f32(a.canonical()).to_f32());
    (function == MathFunction::QuantizeToF16).then_some(quantized)
}

fn integer<T: Integer>(function: MathFunction) -> Option<Map> {
    Some(match function {
        MathFunction::CountTrailingZeros => map!(|a: T| T::from_count(a.trailing_zeros())),
        MathFunction::CountLeadingZeros => map!(|a: T| T::from_count(a.leading_zeros())),
        MathFunction::CountOneBits => map!(|a: T| T::from_count(a.ones())),
        MathFunction::ReverseBits => map!(|a: T| a.reversed()),
        MathFunction::FirstTrailingBit => map!(|a: T| first_trailing_bit(a)),
        MathFunction::FirstLeadingBit => map!(|a: T| first_leading_bit(a)),
        MathFunction::ExtractBits => map!(|a: T, offset: u32, count: u32| extract_bits(a, offset, count)),
        MathFunction::InsertBits => Map::Four(|a, bits, offset, count| {
            insert_bits(T::of(a), T::of(bits), offset as u32, count as u32).word() //
        }),
        _ => return None,
    })
}

/// -1 (all bits) if there is none.
fn first_trailing_bit<T: Integer>(a: T) -> T {
    if a == T::ZERO { T::ZERO.not() } else { T::from_count(a.trailing_zeros()) }
}

/// The highest bit that differs from the sign bit; -1 (all bits) if there is none.
fn first_leading_bit<T: Integer>(a: T) -> T {
    let a = if a.is_negative() { a.not() } else { a };
    if a == T::ZERO { T::ZERO.not() } else { T::from_count(T::BITS - 1 - a.leading_zeros()) }
}

/// The `count` bits from `offset` on, as a number of that many bits. What lies beyond the width is cut off.
fn extract_bits<T: Integer>(a: T, offset: u32, count: u32) -> T {
    let offset = offset.min(T::BITS);
    let count = count.min(T::BITS - offset);
    if count == 0 {
        return T::ZERO;
    }
    a.shifted_left(T::BITS - count - offset).shifted_right(T::BITS - count)
}

/// `a` with the `count` bits from `offset` on replaced by the lowest of `bits`.
fn insert_bits<T: Integer>(a: T, bits: T, offset: u32, count: u32) -> T {
    let offset = offset.min(T::BITS);
    let count = count.min(T::BITS - offset);
    if count == 0 {
        return a;
    }
    let ones = T::ZERO.not();
    let above = if count == T::BITS { T::ZERO } else { ones.shifted_left(count) };
    let mask = above.not().shifted_left(offset);
    a.and(mask.not()).or(bits.shifted_left(offset).and(mask))
}

fn packed(function: MathFunction) -> Option<Map> {
    fn bytes<T>(word: u32, of: fn(u8) -> T) -> [T; 4] {
        word.to_le_bytes().map(of)
    }
    fn dot(a: [i32; 4], b: [i32; 4]) -> i32 {
        a.into_iter().zip(b).map(|(a, b)| a * b).sum()
    }
    Some(match function {
        MathFunction::Dot4I8Packed => {
            map!(|a: u32, b: u32| dot(bytes(a, |a| i32::from(a as i8)), bytes(b, |b| i32::from(b as i8))))
        }
        MathFunction::Dot4U8Packed => map!(|a: u32, b: u32| dot(bytes(a, i32::from), bytes(b, i32::from))),
        _ => return None,
    })
}
