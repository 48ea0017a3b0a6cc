//! The compute dtypes, their promotion and their scalars.
//!
//! Promotion is NumPy's table. A bool is a `u32` of 0 or 1 wherever it is stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the elements of an array are. All are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed 32-bit integer, wrapping.
    I32,
    /// Unsigned 32-bit integer, wrapping.
    U32,
    /// Signed 64-bit integer, wrapping.
    I64,
    /// Unsigned 64-bit integer, wrapping.
    U64,
    /// Truth value, stored as a `u32` of 0 or 1.
    Bool,
}

impl DType {
    /// Every compute dtype.
    pub const ALL: [DType; 7] = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64, DType::Bool];

    /// The short name used in messages, on the command line and in WGSL.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::U64 => "u64",
            DType::Bool => "bool",
        }
    }

    /// Bytes of one stored element.
    pub const fn bytes(self) -> u64 {
        match self {
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }

    /// Whether this is `f32` or `f64`.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// Whether this is an integer of any width (bool is not).
    pub const fn is_integer(self) -> bool {
        matches!(self, DType::I32 | DType::U32 | DType::I64 | DType::U64)
    }

    /// Whether this is a signed integer.
    pub const fn is_signed_integer(self) -> bool {
        matches!(self, DType::I32 | DType::I64)
    }

    /// The dtype that holds both, by NumPy's promotion table.
    pub const fn promote(self, other: DType) -> DType {
        use DType::*;
        match (self, other) {
            (F32, F32) => F32,
            (I32, I32) => I32,
            (U32, U32) => U32,
            (U64, U64 | U32) | (U32, U64) => U64,
            (Bool, kind) | (kind, Bool) => kind,
            (F64, _) | (_, F64) => F64,
            (F32, _) | (_, F32) => F64,
            (U64, I32 | I64) | (I32 | I64, U64) => F64,
            (I64, I64 | I32 | U32) | (I32 | U32, I64) | (I32, U32) | (U32, I32) => I64,
        }
    }

    /// Whether every value of `self` is a value of `to`: NumPy's *safe* casting.
    pub fn casts_safely_to(self, to: DType) -> bool {
        use DType::*;
        match (self, to) {
            // NumPy calls 64-bit integers to f64 safe although large ones are rounded.
            (I64 | U64, F64) => true,
            _ => self.promote(to) == to,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs `$body` with `$T` as the Rust type that stores `$dtype` (a bool is stored as `u32`).
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::dtype::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::dtype::DType::U32 | $crate::dtype::DType::Bool => {
                type $T = u32;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::dtype::DType::U64 => {
                type $T = u64;
                $body
            }
        }
    };
}

/// A name that is no compute dtype.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{0}`: use f32, f64, i32, u32, i64, u64 or bool")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(name: &str) -> Result<DType, UnknownDType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| UnknownDType(name.to_owned()))
    }
}

/// One value of a compute dtype.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Scalar {
    F32(f32),
    F64(f64),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Bool(bool),
}

impl Scalar {
    /// The dtype of this value.
    pub const fn dtype(self) -> DType {
        match self {
            Scalar::F32(_) => DType::F32,
            Scalar::F64(_) => DType::F64,
            Scalar::I32(_) => DType::I32,
            Scalar::U32(_) => DType::U32,
            Scalar::I64(_) => DType::I64,
            Scalar::U64(_) => DType::U64,
            Scalar::Bool(_) => DType::Bool,
        }
    }

    /// This value in another dtype, as kernels convert: integers wrap; a float that is too large for an integer becomes
    /// the largest one that a float of its own width can be.
    pub fn cast(self, to: DType) -> Scalar {
        match self {
            Scalar::F32(value) => cast_float(f64::from(value), f32::MANTISSA_DIGITS, to),
            Scalar::F64(value) => cast_float(value, f64::MANTISSA_DIGITS, to),
            Scalar::I32(value) => cast_integer(i128::from(value), to),
            Scalar::U32(value) => cast_integer(i128::from(value), to),
            Scalar::I64(value) => cast_integer(i128::from(value), to),
            Scalar::U64(value) => cast_integer(i128::from(value), to),
            Scalar::Bool(value) => cast_integer(i128::from(value), to),
        }
    }

    /// The stored little-endian bytes: 4 or 8 of them, by dtype.
    pub fn to_bytes(self) -> arrayvec::ArrayVec<u8, 8> {
        fn copied(bytes: &[u8]) -> arrayvec::ArrayVec<u8, 8> {
            bytes.iter().copied().collect()
        }
        match self {
            Scalar::F32(value) => copied(&value.to_le_bytes()),
            Scalar::F64(value) => copied(&value.to_le_bytes()),
            Scalar::I32(value) => copied(&value.to_le_bytes()),
            Scalar::U32(value) => copied(&value.to_le_bytes()),
            Scalar::I64(value) => copied(&value.to_le_bytes()),
            Scalar::U64(value) => copied(&value.to_le_bytes()),
            Scalar::Bool(value) => copied(&u32::from(value).to_le_bytes()),
        }
    }

    /// The value whose stored bytes these are; `None` if their number is not the dtype's.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Option<Scalar> {
        Some(match dtype {
            DType::F32 => Scalar::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            DType::F64 => Scalar::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            DType::I32 => Scalar::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            DType::U32 => Scalar::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            DType::I64 => Scalar::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            DType::U64 => Scalar::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            DType::Bool => Scalar::Bool(u32::from_le_bytes(bytes.try_into().ok()?) != 0),
        })
    }
}

/// `digits` is how many bits the float's own width holds.
fn cast_float(value: f64, digits: u32, to: DType) -> Scalar {
    // The largest float below 2^bits. NaN passes, and `as` makes 0 of it.
    let at_most = |bits: u32| {
        let largest = (u128::MAX >> (128 - bits.min(digits)) << bits.saturating_sub(digits)) as f64;
        if value > largest { largest } else { value }
    };
    match to {
        DType::F32 => Scalar::F32(value as f32),
        DType::F64 => Scalar::F64(value),
        DType::I32 => Scalar::I32(at_most(31) as i32),
        DType::U32 => Scalar::U32(at_most(32) as u32),
        DType::I64 => Scalar::I64(at_most(63) as i64),
        DType::U64 => Scalar::U64(at_most(64) as u64),
        DType::Bool => Scalar::Bool(value != 0.0),
    }
}

fn cast_integer(value: i128, to: DType) -> Scalar {
    match to {
        DType::F32 => Scalar::F32(value as f32),
        DType::F64 => Scalar::F64(value as f64),
        DType::I32 => Scalar::I32(value as i32),
        DType::U32 => Scalar::U32(value as u32),
        DType::I64 => Scalar::I64(value as i64),
        DType::U64 => Scalar::U64(value as u64),
        DType::Bool => Scalar::Bool(value != 0),
    }
}

/// A Rust type whose values are elements of an array.
pub trait Element: bytemuck::Pod + Default + PartialEq + fmt::Debug + Send + Sync {
    /// The dtype of such elements. `u32` is [`DType::U32`]; a bool array is read as `u32` too.
    const DTYPE: DType;
    /// This value as a [`Scalar`].
    fn scalar(self) -> Scalar;
    /// The stored bits, zero-extended: how interpreters pass values.
    fn to_word(self) -> u64;
    /// The value with these stored bits; the upper half of the word is not looked at where it is not stored.
    fn from_word(word: u64) -> Self;
}

macro_rules! element {
    ($($rust:ty => $variant:ident, $bits:ty);*) => {$(
        impl Element for $rust {
            const DTYPE: DType = DType::$variant;
            fn scalar(self) -> Scalar {
                Scalar::$variant(self)
            }
            fn to_word(self) -> u64 {
                u64::from(bytemuck::cast::<$rust, $bits>(self))
            }
            fn from_word(word: u64) -> $rust {
                bytemuck::cast(word as $bits)
            }
        }
    )*};
}
element!(f32 => F32, u32; f64 => F64, u64; i32 => I32, u32; u32 => U32, u32; i64 => I64, u64; u64 => U64, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_is_symmetric_and_absorbs_bool() {
        for a in DType::ALL {
            assert_eq!(a.promote(a), a);
            assert_eq!(a.promote(DType::Bool), a);
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a), "{a} {b}");
            }
        }
        assert_eq!(DType::I32.promote(DType::F32), DType::F64);
        assert_eq!(DType::I64.promote(DType::U64), DType::F64);
        assert_eq!(DType::I32.promote(DType::U32), DType::I64);
    }

    #[test]
    fn safe_casts_are_numpys() {
        assert!(DType::I32.casts_safely_to(DType::F64));
        assert!(!DType::I32.casts_safely_to(DType::F32));
        assert!(DType::I64.casts_safely_to(DType::F64));
        assert!(!DType::F64.casts_safely_to(DType::F32));
        assert!(!DType::I64.casts_safely_to(DType::Bool));
        assert!(DType::Bool.casts_safely_to(DType::U32));
    }

    /// The limits that the interpreter writes out.
    #[test]
    fn floats_become_integers_as_in_kernels() {
        let large = [Scalar::F32(f32::INFINITY), Scalar::F64(1e30)];
        for (value, [i32, u32, i64, u64]) in large.into_iter().zip([
            [2_147_483_520, 4_294_967_040, 9_223_371_487_098_961_920, 18_446_742_974_197_923_840u64],
            [2_147_483_647, 4_294_967_295, 9_223_372_036_854_774_784, 18_446_744_073_709_549_568],
        ]) {
            assert_eq!(value.cast(DType::I32), Scalar::I32(i32 as i32));
            assert_eq!(value.cast(DType::U32), Scalar::U32(u32 as u32));
            assert_eq!(value.cast(DType::I64), Scalar::I64(i64 as i64));
            assert_eq!(value.cast(DType::U64), Scalar::U64(u64));
        }
        assert_eq!(Scalar::F64(f64::NAN).cast(DType::I32), Scalar::I32(0));
        assert_eq!(Scalar::F32(f32::NEG_INFINITY).cast(DType::I64), Scalar::I64(i64::MIN));
        assert_eq!(Scalar::F64(-2.9).cast(DType::I32), Scalar::I32(-2));
    }

    #[test]
    fn scalars_survive_their_bytes() {
        for dtype in DType::ALL {
            let one = Scalar::I64(1).cast(dtype);
            assert_eq!(one.to_bytes().len() as u64, dtype.bytes());
            assert_eq!(Scalar::from_bytes(dtype, &one.to_bytes()), Some(one));
            assert_eq!(Scalar::from_bytes(dtype, &[0; 3]), None);
        }
    }
}
