//! How users write shapes, chunks and axes: Rust integers of any width, alone, in arrays, slices or vectors.
//!
//! Conversions here cannot fail: what is out of range stays in the `i128`s and is refused where it is used, with the
//! caller's line.

use std::ops::RangeFull;

use gridloom_worker::shape::{RANK_MAX, Shape, ShapeError};

use super::ArrayError;

/// A Rust integer.
pub trait Integer: Copy {
    /// Its value.
    fn wide(self) -> i128;
}

macro_rules! integer {
    ($($rust:ty),*) => {$(
        impl Integer for $rust {
            fn wide(self) -> i128 {
                self as i128
            }
        }

        impl IntoLengths for $rust {
            fn into_lengths(self) -> Vec<i128> {
                vec![self as i128]
            }
        }

        impl IntoAxes for $rust {
            fn into_axes(self) -> Axes {
                Axes { which: Which::These(vec![self as i128]), keepdims: false }
            }
        }
    )*};
}
integer!(i8, u8, i16, u16, i32, u32, i64, u64, isize, usize);

/// One entry per axis: `[1000, 1000]`, `vec![3u64]`, `&lengths[..]`, `()` for none; a lone integer is one axis.
pub trait IntoLengths {
    /// The entries, unchecked.
    fn into_lengths(self) -> Vec<i128>;
}

impl<I: Integer, const N: usize> IntoLengths for [I; N] {
    fn into_lengths(self) -> Vec<i128> {
        self.into_iter().map(Integer::wide).collect()
    }
}

impl<I: Integer, const N: usize> IntoLengths for &[I; N] {
    fn into_lengths(self) -> Vec<i128> {
        self.iter().copied().map(Integer::wide).collect()
    }
}

impl<I: Integer> IntoLengths for &[I] {
    fn into_lengths(self) -> Vec<i128> {
        self.iter().copied().map(Integer::wide).collect()
    }
}

impl<I: Integer> IntoLengths for Vec<I> {
    fn into_lengths(self) -> Vec<i128> {
        self.into_iter().map(Integer::wide).collect()
    }
}

impl IntoLengths for () {
    fn into_lengths(self) -> Vec<i128> {
        Vec::new()
    }
}

impl IntoLengths for &Shape {
    fn into_lengths(self) -> Vec<i128> {
        self.iter().copied().map(i128::from).collect()
    }
}

impl IntoLengths for Shape {
    fn into_lengths(self) -> Vec<i128> {
        (&self).into_lengths()
    }
}

/// The shape of these lengths.
pub(super) fn shape_of(lengths: &[i128]) -> Result<Shape, ArrayError> {
    let checked = lengths.iter().map(|&length| u64::try_from(length).map_err(|_| ArrayError::Length { length }));
    Ok(Shape::new(&checked.collect::<Result<Vec<u64>, ArrayError>>()?)?)
}

/// The axes that an operation works over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    which: Which,
    keepdims: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    All,
    These(Vec<i128>),
}

impl Axes {
    /// Every axis.
    pub const ALL: Axes = Axes { which: Which::All, keepdims: false };

    /// Whether reduced axes stay, with length 1.
    pub fn keepdims(&self) -> bool {
        self.keepdims
    }

    /// Per axis of an array of `rank` axes, whether it is meant.
    pub(super) fn flags(&self, rank: usize) -> Result<Vec<bool>, ArrayError> {
        let Which::These(axes) = &self.which else { return Ok(vec![true; rank]) };
        let mut flags = vec![false; rank];
        for &axis in axes {
            let axis = axis_of(axis, rank)?;
            if std::mem::replace(&mut flags[axis], true) {
                return Err(ArrayError::AxisTwice { axis });
            }
        }
        Ok(flags)
    }
}

/// Axes as users write them: `-1`, `[0, 2]`, `()` or `..` for all. Negative ones count from the end.
pub trait IntoAxes {
    /// The axes, unchecked.
    fn into_axes(self) -> Axes;
}

/// The same axes, and the reduced ones stay with length 1, as NumPy's `keepdims=True`.
///
/// ```
/// use gridloom::array::{Array, keepdims};
/// let x = Array::ones([2, 3]);
/// assert_eq!(&**x.sum(keepdims(-1)).shape(), &[2, 1]);
/// ```
pub fn keepdims(axes: impl IntoAxes) -> Axes {
    Axes { keepdims: true, ..axes.into_axes() }
}

impl IntoAxes for Axes {
    fn into_axes(self) -> Axes {
        self
    }
}

impl IntoAxes for () {
    fn into_axes(self) -> Axes {
        Axes::ALL
    }
}

impl IntoAxes for RangeFull {
    fn into_axes(self) -> Axes {
        Axes::ALL
    }
}

macro_rules! axes_of_lengths {
    ($([$($generics:tt)*] $given:ty),*) => {$(
        impl<$($generics)*> IntoAxes for $given {
            fn into_axes(self) -> Axes {
                Axes { which: Which::These(self.into_lengths()), keepdims: false }
            }
        }
    )*};
}
axes_of_lengths!([I: Integer, const N: usize] [I; N], [I: Integer, const N: usize] &[I; N], [I: Integer] &[I], [I: Integer] Vec<I>);

/// The axis that `axis` means, from the end if negative.
pub(super) fn axis_of(axis: i128, rank: usize) -> Result<usize, ArrayError> {
    let counted = if axis < 0 { axis.saturating_add(rank as i128) } else { axis };
    match usize::try_from(counted) {
        Ok(at) if at < rank => Ok(at),
        _ => Err(ArrayError::Axis { axis, rank }),
    }
}

/// Refuses one axis more than an array can have.
pub(super) fn check_rank(rank: usize) -> Result<(), ArrayError> {
    if rank > RANK_MAX { Err(ShapeError::Rank { rank }.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_count_from_both_ends() {
        assert_eq!((-1).into_axes().flags(3), Ok(vec![false, false, true]));
        assert_eq!([0, -1].into_axes().flags(3), Ok(vec![true, false, true]));
        assert_eq!((..).into_axes().flags(2), Ok(vec![true, true]));
        assert_eq!([0i32; 0].into_axes().flags(2), Ok(vec![false, false]));
        assert_eq!([1, -1].into_axes().flags(2), Err(ArrayError::AxisTwice { axis: 1 }));
        assert_eq!(2.into_axes().flags(2), Err(ArrayError::Axis { axis: 2, rank: 2 }));
        assert_eq!(i64::MIN.into_axes().flags(2), Err(ArrayError::Axis { axis: i128::from(i64::MIN), rank: 2 }));
        assert!(keepdims(-1).keepdims() && !().into_axes().keepdims());
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(shape_of(&[2, 0]).as_deref(), Ok(&[2u64, 0][..]));
        assert_eq!(shape_of(&[-1]), Err(ArrayError::Length { length: -1 }));
        assert!(matches!(shape_of(&[1 << 40, 1 << 40]), Err(ArrayError::Shape(ShapeError::Overflow { .. }))));
        assert!(matches!(shape_of(&[1; 9]), Err(ArrayError::Shape(ShapeError::Rank { rank: 9 }))));
    }
}
