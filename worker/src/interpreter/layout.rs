//! Where the words of a value lie in WGSL's storage layout, for values that leave an invocation as bytes.
//!
//! Accumulators of reductions are held, sent and stored as such bytes, little-endian, padding zeroed, so that equal
//! values are equal bytes on every machine.

use naga::proc::Layouter;
use naga::{ArraySize, Handle, Module, Scalar, Type, TypeInner};

use super::types::dtype_of;
use crate::dtype::DType;

/// The most bytes that an accumulator may take.
pub const ACCUMULATOR_BYTES_MAX: u32 = 64;

/// Where one word lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordPlace {
    /// Bytes from the value's start.
    pub offset: u32,
    /// What the word is; it takes this dtype's bytes.
    pub dtype: DType,
}

/// A host-shareable type as bytes and as words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccumulatorLayout {
    /// Bytes of one value, rounded up to its alignment: the stride of an array of them.
    pub bytes: u32,
    /// The place of each word, in member order.
    pub words: Vec<WordPlace>,
}

/// Why a type cannot be an accumulator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// It has no layout that host and device share.
    #[error("`{what}` is not host-shareable (use u32 for a bool)")]
    NotShareable {
        /// The offending part.
        what: &'static str,
    },
    /// It is larger than [`ACCUMULATOR_BYTES_MAX`].
    #[error("an accumulator takes at most {ACCUMULATOR_BYTES_MAX} bytes, this one {bytes}")]
    TooLarge {
        /// How large.
        bytes: u32,
    },
}

/// The layout of a type of at most [`ACCUMULATOR_BYTES_MAX`] bytes. The module must have been validated.
pub fn layout_of(module: &Module, ty: Handle<Type>) -> Result<AccumulatorLayout, LayoutError> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|_| LayoutError::NotShareable { what: "unsized type" })?;
    let bytes = layouter[ty].to_stride();
    if bytes > ACCUMULATOR_BYTES_MAX {
        return Err(LayoutError::TooLarge { bytes });
    }
    Ok(AccumulatorLayout { bytes, words: words_of(module, ty)? })
}

/// Where each word of a value lies, in member order.
pub(super) fn words_of(module: &Module, ty: Handle<Type>) -> Result<Vec<WordPlace>, LayoutError> {
    let mut words = Vec::new();
    place(module, ty, 0, NESTING_MAX, &mut words)?;
    Ok(words)
}

impl AccumulatorLayout {
    /// The words of a stored value.
    ///
    /// # Panics
    /// If `bytes` or `words` has not the layout's length.
    pub fn read(&self, bytes: &[u8], words: &mut [u64]) {
        assert_eq!((bytes.len(), words.len()), (self.bytes as usize, self.words.len()), "a value fits its layout");
        for (word, place) in words.iter_mut().zip(&self.words) {
            let stored = &bytes[place.range()];
            let mut wide = [0; 8];
            wide[..stored.len()].copy_from_slice(stored);
            *word = u64::from_le_bytes(wide);
        }
    }

    /// Stores a value; padding is zeroed.
    ///
    /// # Panics
    /// If `bytes` or `words` has not the layout's length.
    pub fn write(&self, words: &[u64], bytes: &mut [u8]) {
        assert_eq!((bytes.len(), words.len()), (self.bytes as usize, self.words.len()), "a value fits its layout");
        bytes.fill(0);
        for (word, place) in words.iter().zip(&self.words) {
            let stored = &mut bytes[place.range()];
            stored.copy_from_slice(&word.to_le_bytes()[..stored.len()]);
        }
    }
}

impl WordPlace {
    fn range(&self) -> std::ops::Range<usize> {
        let start = self.offset as usize;
        start..start + self.dtype.bytes() as usize
    }
}

/// Structs and arrays within each other, at most: `place` recurses.
const NESTING_MAX: usize = 64;

fn place(
    module: &Module,
    ty: Handle<Type>,
    offset: u32,
    nesting: usize,
    words: &mut Vec<WordPlace>,
) -> Result<(), LayoutError> {
    let nesting = nesting.checked_sub(1).ok_or(LayoutError::NotShareable { what: "deeply nested type" })?;
    match module.types[ty].inner {
        TypeInner::Scalar(scalar) => place_vector(1, scalar, offset, words),
        TypeInner::Vector { size, scalar } => place_vector(size as u32, scalar, offset, words),
        TypeInner::Matrix { columns, rows, scalar } => (0..columns as u32).try_for_each(|column| {
            let stride = (rows as u32).next_power_of_two() * u32::from(scalar.width);
            place_vector(rows as u32, scalar, offset + column * stride, words)
        }),
        TypeInner::Array { base, size: ArraySize::Constant(length), stride } => {
            (0..length.get()).try_for_each(|index| place(module, base, offset + index * stride, nesting, words))
        }
        TypeInner::Struct { ref members, .. } => {
            members.iter().try_for_each(|member| place(module, member.ty, offset + member.offset, nesting, words))
        }
        _ => Err(LayoutError::NotShareable { what: "opaque type" }),
    }
}

fn place_vector(count: u32, scalar: Scalar, at: u32, words: &mut Vec<WordPlace>) -> Result<(), LayoutError> {
    let dtype = match dtype_of(scalar) {
        Ok(DType::Bool) => return Err(LayoutError::NotShareable { what: "bool" }),
        Ok(dtype) => dtype,
        Err(_) => return Err(LayoutError::NotShareable { what: "16-bit type" }),
    };
    let bytes = dtype.bytes() as u32;
    words.extend((0..count).map(|index| WordPlace { offset: at + index * bytes, dtype }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(declarations: &str) -> Result<AccumulatorLayout, LayoutError> {
        let module = naga::front::wgsl::parse_str(declarations).unwrap();
        let (ty, _) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("A")).unwrap();
        layout_of(&module, ty)
    }

    #[track_caller]
    fn check(declarations: &str, bytes: u32, offsets: &[u32]) {
        let layout = layout(declarations).unwrap();
        assert_eq!(layout.bytes, bytes);
        assert_eq!(layout.words.iter().map(|place| place.offset).collect::<Vec<_>>(), offsets);
    }

    /// The table of sizes and alignments in WGSL's section on memory layout.
    #[test]
    fn words_lie_where_wgsl_puts_them() {
        check("struct A { x: f32 }", 4, &[0]);
        check("struct A { x: f32, y: f64 }", 16, &[0, 8]);
        check("struct A { x: f32, y: vec3<f32>, z: f32 }", 32, &[0, 16, 20, 24, 28]);
        check("struct A { x: vec3<f32> }", 16, &[0, 4, 8]);
        check("struct A { x: u32, y: vec2<i64> }", 32, &[0, 16, 24]);
        check("struct A { x: mat2x3<f32> }", 32, &[0, 4, 8, 16, 20, 24]);
        check("struct A { x: mat3x2<f32> }", 24, &[0, 4, 8, 12, 16, 20]);
        check("struct A { x: array<vec3<u32>, 2>, y: u32 }", 48, &[0, 4, 8, 16, 20, 24, 32]);
        check("struct B { p: u32, q: vec2<u32> } struct A { x: u32, y: B, z: u32 }", 32, &[0, 8, 16, 20, 24]);
        check("struct A { @align(16) x: u32, @size(12) y: u32, z: u32 }", 32, &[0, 4, 16]);
    }

    #[test]
    fn what_cannot_be_shared_is_named() {
        assert_eq!(layout("struct A { x: bool }"), Err(LayoutError::NotShareable { what: "bool" }));
        assert_eq!(layout("enable f16; struct A { x: f16 }"), Err(LayoutError::NotShareable { what: "16-bit type" }));
        assert_eq!(layout("struct A { x: array<u32, 17> }"), Err(LayoutError::TooLarge { bytes: 68 }));
        let huge = "struct A { x: array<u32, 500000000> }";
        assert_eq!(layout(huge), Err(LayoutError::TooLarge { bytes: 2_000_000_000 }));
    }

    #[test]
    fn values_survive_their_bytes_and_padding_is_zero() {
        let layout = layout("struct A { x: f32, y: vec3<f64>, z: i32 }").unwrap();
        assert_eq!(layout.bytes, 64);
        let words = [0xffff_ffff, 1, u64::MAX, 3, 0x8000_0001];
        let mut bytes = [0xaa; 64];
        layout.write(&words, &mut bytes);
        assert_eq!(bytes[4..32], [0; 28]);
        let mut read = [7; 5];
        layout.read(&bytes, &mut read);
        assert_eq!(read, words);
    }
}
