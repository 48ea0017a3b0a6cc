//! The built-in functions that look at a whole vector or matrix, and matrix products.
//!
//! Sums go from the first component to the last, each product and sum rounded. With `d` = dot(normal, incident):
//! `reflect` is `incident - 2 * d * normal`; `refract` is zero where `k = 1 - ratio * ratio * (1 - d * d)` is negative, else
//! `ratio * incident - (ratio * d + sqrt(k)) * normal`; `length` is `sqrt(dot(v, v))`, of a scalar its absolute value.

use naga::{MathFunction, RelationalFunction};

use super::number::{Float, Number, Word};
use crate::dtype::DType;

/// A function of whole values. Matrices are columns after each other; `rows` is the first argument's, 1 if it has none.
pub(crate) type Whole = fn(rows: usize, a: &[u64], b: &[u64], c: &[u64], out: &mut [u64]);

/// The function for a first argument of this dtype; `None` where it is not defined.
pub(crate) fn whole(function: MathFunction, dtype: DType) -> Option<Whole> {
    match dtype {
        DType::F32 => float::<f32>(function).or_else(|| pack(function)),
        DType::F64 => float::<f64>(function),
        DType::I32 => dot_of::<i32>(function).or_else(|| pack_integers(function)),
        DType::U32 => dot_of::<u32>(function).or_else(|| pack_integers(function)).or_else(|| unpack(function)),
        DType::I64 => dot_of::<i64>(function),
        DType::U64 => dot_of::<u64>(function),
        DType::Bool => None,
    }
}

/// `all` or `any`; the float tests are componentwise.
pub(super) fn relational(function: RelationalFunction) -> Option<Whole> {
    match function {
        RelationalFunction::All => Some(|_, a, _, _, out| out[0] = a.iter().all(|&word| word != 0).word()),
        RelationalFunction::Any => Some(|_, a, _, _, out| out[0] = a.iter().any(|&word| word != 0).word()),
        RelationalFunction::IsNan | RelationalFunction::IsInf => None,
    }
}

/// The product of matrices, or of a matrix and a vector on either side (a vector on the left has one row).
pub(super) fn product(dtype: DType) -> Option<Whole> {
    match dtype {
        DType::F32 => Some(product_of::<f32>),
        DType::F64 => Some(product_of::<f64>),
        DType::I32 | DType::U32 | DType::I64 | DType::U64 | DType::Bool => None,
    }
}

fn product_of<T: Number>(rows: usize, a: &[u64], b: &[u64], _: &[u64], out: &mut [u64]) {
    let inner = a.len() / rows;
    for (index, word) in out.iter_mut().enumerate() {
        let (column, row) = (index / rows, index % rows);
        let terms = (0..inner).map(|k| T::of(a[k * rows + row]).times(T::of(b[column * inner + k])));
        *word = terms.reduce(T::plus).map_or(0, T::word);
    }
}

fn dot_of<T: Number>(function: MathFunction) -> Option<Whole> {
    (function == MathFunction::Dot).then_some(|_, a, b, _, out| out[0] = dot::<T>(a, b).word())
}

fn float<T: Float>(function: MathFunction) -> Option<Whole> {
    Some(match function {
        MathFunction::Dot => |_, a, b, _, out| out[0] = dot::<T>(a, b).word(),
        MathFunction::Cross => |_, a, b, _, out| cross::<T>(a, b, out),
        MathFunction::Length => |_, a, _, _, out| out[0] = length::<T>(a).word(),
        MathFunction::Distance => |_, a, b, _, out| {
            let mut difference = [0; 4];
            zip(a, b, &mut difference[..a.len()], T::minus);
            out[0] = length::<T>(&difference[..a.len()]).word();
        },
        MathFunction::Normalize => |_, a, _, _, out| {
            let length = length::<T>(a);
            map(a, out, |x: T| x.over(length));
        },
        MathFunction::FaceForward => |_, normal, incident, reference, out| {
            let is_facing = dot::<T>(incident, reference) < T::ZERO;
            map(normal, out, |x: T| if is_facing { x } else { x.negative() });
        },
        MathFunction::Reflect => |_, incident, normal, _, out| {
            let twice = T::from_f64(2.0).times(dot::<T>(normal, incident));
            zip(incident, normal, out, |x: T, n| x.minus(twice.times(n)));
        },
        MathFunction::Refract => |_, incident, normal, ratio, out| refract::<T>(incident, normal, T::of(ratio[0]), out),
        MathFunction::Modf => |_, a, _, _, out| {
            let (fractions, wholes) = out.split_at_mut(a.len());
            map(a, fractions, |x: T| x.minus(x.truncated()));
            map(a, wholes, |x: T| x.truncated());
        },
        MathFunction::Frexp => |_, a, _, _, out| {
            let (fractions, exponents) = out.split_at_mut(a.len());
            map(a, fractions, |x: T| x.split().0);
            a.iter().zip(exponents).for_each(|(&word, exponent)| *exponent = T::exponent_word(T::of(word).split().1));
        },
        MathFunction::Transpose => |rows, a, _, _, out| {
            let columns = a.len() / rows;
            out.iter_mut().enumerate().for_each(|(to, word)| *word = a[(to % columns) * rows + to / columns]);
        },
        MathFunction::Determinant => |rows, a, _, _, out| out[0] = determinant::<T>(rows, a).word(),
        _ => return None,
    })
}

fn map<T: Word>(a: &[u64], out: &mut [u64], f: impl Fn(T) -> T) {
    a.iter().zip(out).for_each(|(&word, out)| *out = f(T::of(word)).word());
}

fn zip<T: Word>(a: &[u64], b: &[u64], out: &mut [u64], f: impl Fn(T, T) -> T) {
    a.iter().zip(b).zip(out).for_each(|((&a, &b), out)| *out = f(T::of(a), T::of(b)).word());
}

fn dot<T: Number>(a: &[u64], b: &[u64]) -> T {
    let terms = a.iter().zip(b).map(|(&a, &b)| T::of(a).times(T::of(b)));
    terms.reduce(T::plus).unwrap_or(T::ZERO)
}

fn length<T: Float>(a: &[u64]) -> T {
    match a {
        &[scalar] => T::of(scalar).size(),
        _ => dot::<T>(a, a).sqrt(),
    }
}

fn cross<T: Number>(a: &[u64], b: &[u64], out: &mut [u64]) {
    for (index, word) in out.iter_mut().enumerate() {
        let (next, after) = ((index + 1) % 3, (index + 2) % 3);
        let (left, right) = (T::of(a[next]).times(T::of(b[after])), T::of(b[next]).times(T::of(a[after])));
        *word = left.minus(right).word();
    }
}

fn refract<T: Float>(incident: &[u64], normal: &[u64], ratio: T, out: &mut [u64]) {
    let d = dot::<T>(normal, incident);
    let k = T::ONE.minus(ratio.times(ratio).times(T::ONE.minus(d.times(d))));
    if k < T::ZERO {
        return out.fill(T::ZERO.word());
    }
    let along = ratio.times(d).plus(k.sqrt());
    zip(incident, normal, out, |x: T, n| ratio.times(x).minus(along.times(n)));
}

/// Expansion along the first column, minors likewise, signs + - + -, from the first row to the last.
fn determinant<T: Number>(rows: usize, a: &[u64]) -> T {
    if rows == 1 {
        return T::of(a[0]);
    }
    let mut sum = T::ZERO;
    for row in 0..rows {
        let mut minor = [0; 9];
        let kept = a[rows..].iter().enumerate().filter(|(index, _)| index % rows != row);
        minor.iter_mut().zip(kept).for_each(|(to, (_, &word))| *to = word);
        let term = T::of(a[row]).times(determinant::<T>(rows - 1, &minor[..(rows - 1) * (rows - 1)]));
        sum = match row {
            0 => term,
            _ if row % 2 == 1 => sum.minus(term),
            _ => sum.plus(term),
        };
    }
    sum
}

/// Packing of floats: clamped to [-1, 1] or [0, 1], scaled, and rounded half up.
fn pack(function: MathFunction) -> Option<Whole> {
    fn pack(a: &[u64], low: f32, scale: f32, bits: u32) -> u64 {
        let mask = (1u64 << bits) - 1;
        let field = |&word: &u64| (0.5 + scale * f32::of(word).between(low, 1.0)).floor() as i32 as u64 & mask;
        a.iter().rev().fold(0, |packed, word| packed << bits | field(word))
    }
    Some(match function {
        MathFunction::Pack4x8snorm => |_, a, _, _, out| out[0] = pack(a, -1.0, 127.0, 8),
        MathFunction::Pack4x8unorm => |_, a, _, _, out| out[0] = pack(a, 0.0, 255.0, 8),
        MathFunction::Pack2x16snorm => |_, a, _, _, out| out[0] = pack(a, -1.0, 32767.0, 16),
        MathFunction::Pack2x16unorm => |_, a, _, _, out| out[0] = pack(a, 0.0, 65535.0, 16),
        MathFunction::Pack2x16float => |_, a, _, _, out| {
            let field = |word| u64::from(half::f16::from_f32(f32::of(word).canonical()).to_bits());
            out[0] = field(a[0]) | field(a[1]) << 16;
        },
        _ => return None,
    })
}

fn pack_integers(function: MathFunction) -> Option<Whole> {
    fn pack(a: &[u64], field: fn(u64) -> u8) -> u64 {
        a.iter().rev().fold(0, |packed, &word| packed << 8 | u64::from(field(word)))
    }
    Some(match function {
        MathFunction::Pack4xI8 | MathFunction::Pack4xU8 => |_, a, _, _, out| out[0] = pack(a, |word| word as u8),
        MathFunction::Pack4xI8Clamp => {
            |_, a, _, _, out| out[0] = pack(a, |word| i32::of(word).between(-128, 127) as u8) //
        }
        MathFunction::Pack4xU8Clamp => |_, a, _, _, out| out[0] = pack(a, |word| u32::of(word).smaller(255) as u8),
        _ => return None,
    })
}

fn unpack(function: MathFunction) -> Option<Whole> {
    fn fields(a: &[u64], out: &mut [u64], bits: u32, field: fn(u32) -> u64) {
        let word = a[0] as u32;
        out.iter_mut().enumerate().for_each(|(index, out)| *out = field(word >> (index as u32 * bits)));
    }
    Some(match function {
        MathFunction::Unpack4x8snorm => {
            |_, a, _, _, out| fields(a, out, 8, |field| (f32::from(field as i8) / 127.0).larger(-1.0).word())
        }
        MathFunction::Unpack4x8unorm => {
            |_, a, _, _, out| fields(a, out, 8, |field| (f32::from(field as u8) / 255.0).word()) //
        }
        MathFunction::Unpack2x16snorm => {
            |_, a, _, _, out| fields(a, out, 16, |field| (f32::from(field as i16) / 32767.0).larger(-1.0).word())
        }
        MathFunction::Unpack2x16unorm => {
            |_, a, _, _, out| fields(a, out, 16, |field| (f32::from(field as u16) / 65535.0).word())
        }
        MathFunction::Unpack2x16float => {
            |_, a, _, _, out| fields(a, out, 16, |field| half::f16::from_bits(field as u16).to_f32().word())
        }
        MathFunction::Unpack4xI8 => |_, a, _, _, out| fields(a, out, 8, |field| i32::from(field as i8).word()),
        MathFunction::Unpack4xU8 => |_, a, _, _, out| fields(a, out, 8, |field| u64::from(field as u8)),
        _ => return None,
    })
}
