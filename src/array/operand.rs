//! Rust numbers as NumPy's weak scalars: they have a kind, and take their dtype from the array beside them.

use gridloom_worker::dtype::{DType, Scalar};

use super::{Array, ArrayError};

/// A Rust number without a dtype of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `true` or `false`.
    Bool(bool),
    /// Any Rust integer.
    Integer(i128),
    /// `f32` or `f64`.
    Float(f64),
}

impl Number {
    /// The dtype of an array made of this alone: bool, i64 (u64 for what i64 cannot hold) or f64.
    pub fn default_dtype(self) -> DType {
        match self {
            Number::Bool(_) => DType::Bool,
            Number::Integer(value) if i64::try_from(value).is_err() && u64::try_from(value).is_ok() => DType::U64,
            Number::Integer(_) => DType::I64,
            Number::Float(_) => DType::F64,
        }
    }

    /// The dtype of an array of dtype `other` beside this.
    pub(super) fn beside(self, other: DType) -> DType {
        match self {
            Number::Bool(_) => other,
            Number::Integer(_) if other == DType::Bool => self.default_dtype(),
            Number::Integer(_) => other,
            Number::Float(_) if other.is_float() => other,
            Number::Float(_) => DType::F64,
        }
    }

    /// This value in a dtype. Integers must be within it; floats round.
    pub(super) fn scalar(self, dtype: DType) -> Result<Scalar, ArrayError> {
        let value = match self {
            Number::Bool(value) => return Ok(Scalar::Bool(value).cast(dtype)),
            Number::Float(value) => return Ok(Scalar::F64(value).cast(dtype)),
            Number::Integer(value) => value,
        };
        let held = match dtype {
            DType::F32 => Some(Scalar::F32(value as f32)),
            DType::F64 => Some(Scalar::F64(value as f64)),
            DType::I32 => i32::try_from(value).ok().map(Scalar::I32),
            DType::U32 => u32::try_from(value).ok().map(Scalar::U32),
            DType::I64 => i64::try_from(value).ok().map(Scalar::I64),
            DType::U64 => u64::try_from(value).ok().map(Scalar::U64),
            DType::Bool => Some(Scalar::Bool(value != 0)),
        };
        held.ok_or(ArrayError::NumberRange { value, dtype })
    }
}

/// What stands beside an array in an operation: another array, or a Rust number.
#[derive(Clone)]
pub enum Operand {
    /// An array.
    Array(Array),
    /// A number of no dtype of its own.
    Number(Number),
}

impl From<&Array> for Operand {
    fn from(array: &Array) -> Operand {
        Operand::Array(array.clone())
    }
}

impl From<Array> for Operand {
    fn from(array: Array) -> Operand {
        Operand::Array(array)
    }
}

impl From<Number> for Operand {
    fn from(number: Number) -> Operand {
        Operand::Number(number)
    }
}

macro_rules! number {
    ($($rust:ty => $kind:ident as $wide:ty),* $(,)?) => {$(
        impl From<$rust> for Number {
            fn from(value: $rust) -> Number {
                Number::$kind(value as $wide)
            }
        }

        impl From<$rust> for Operand {
            fn from(value: $rust) -> Operand {
                Operand::Number(value.into())
            }
        }
    )*};
}
number!(
    bool => Bool as bool, f32 => Float as f64, f64 => Float as f64,
    i8 => Integer as i128, u8 => Integer as i128, i16 => Integer as i128, u16 => Integer as i128,
    i32 => Integer as i128, u32 => Integer as i128, i64 => Integer as i128, u64 => Integer as i128,
    isize => Integer as i128, usize => Integer as i128,
);

/// A typed value as an array of no axes, which keeps its dtype beside others, unlike a Rust number.
impl From<Scalar> for Array {
    fn from(value: Scalar) -> Array {
        Array::constant(value, &Default::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_weak() {
        assert_eq!(Number::from(2).beside(DType::F32), DType::F32);
        assert_eq!(Number::from(2).beside(DType::Bool), DType::I64);
        assert_eq!(Number::from(2.5).beside(DType::F32), DType::F32);
        assert_eq!(Number::from(2.5).beside(DType::I32), DType::F64);
        assert_eq!(Number::from(true).beside(DType::I32), DType::I32);
        assert_eq!(Number::from(u64::MAX).default_dtype(), DType::U64);
    }

    #[test]
    fn integers_must_be_held() {
        assert_eq!(Number::from(-1).scalar(DType::U32), Err(ArrayError::NumberRange { value: -1, dtype: DType::U32 }));
        assert_eq!(Number::from(3).scalar(DType::F32), Ok(Scalar::F32(3.0)));
        assert_eq!(Number::from(u64::MAX).scalar(DType::U64), Ok(Scalar::U64(u64::MAX)));
    }
}
