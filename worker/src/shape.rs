//! Shapes and boxes of at most eight axes.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// The most axes an array may have (`At` gives a kernel `array<u32, 8>`).
pub const RANK_MAX: usize = 8;

/// A shape that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ShapeError {
    /// More than [`RANK_MAX`] axes.
    #[error("{rank} axes: an array has at most {RANK_MAX}")]
    Rank {
        /// How many were asked for.
        rank: usize,
    },
    /// The number of bytes does not fit 63 bits.
    #[error("shape {shape} overflows: its elements cannot be counted in 60 bits")]
    Overflow {
        /// The shape, printed.
        shape: String,
    },
}

/// Lengths (or an index, or strides) per axis, outermost first. Rank <= 8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Shape(ArrayVec<u64, RANK_MAX>);

impl Shape {
    /// A shape from its lengths, refused if it has too many axes or if its elements overflow.
    pub fn new(lengths: &[u64]) -> Result<Shape, ShapeError> {
        if lengths.len() > RANK_MAX {
            return Err(ShapeError::Rank { rank: lengths.len() });
        }
        let shape: Shape = lengths.iter().copied().collect();
        // Zero-length axes must not hide an overflow: strides are made of the others.
        let counted = lengths.iter().try_fold(1u64, |product, &length| product.checked_mul(length.max(1)));
        match counted {
            Some(elements) if elements < 1 << 60 => Ok(shape),
            _ => Err(ShapeError::Overflow { shape: shape.to_string() }),
        }
    }

    /// `rank` zeros: the origin.
    pub fn zeros(rank: usize) -> Shape {
        std::iter::repeat_n(0, rank).collect()
    }

    /// `rank` ones.
    pub fn ones(rank: usize) -> Shape {
        std::iter::repeat_n(1, rank).collect()
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The product of the lengths; 1 for rank 0.
    pub fn elements(&self) -> u64 {
        self.iter().product()
    }

    /// C-order strides, in elements.
    pub fn strides(&self) -> Shape {
        let mut strides = Shape::ones(self.rank());
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self[axis];
        }
        strides
    }

    /// The row-major position of `index`.
    pub fn linear(&self, index: &[u64]) -> u64 {
        debug_assert_eq!(index.len(), self.rank());
        self.iter().zip(index).fold(0, |linear, (&length, &at)| linear * length + at)
    }

    /// The index at row-major position `linear`.
    pub fn index_at(&self, mut linear: u64) -> Shape {
        let mut index = Shape::zeros(self.rank());
        for axis in (0..self.rank()).rev() {
            index[axis] = linear % self[axis];
            linear /= self[axis];
        }
        index
    }

    /// The same with one axis more.
    ///
    /// # Panics
    /// If there are eight already.
    pub fn push(&mut self, length: u64) {
        self.0.push(length);
    }
}

impl Deref for Shape {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

impl FromIterator<u64> for Shape {
    fn from_iter<I: IntoIterator<Item = u64>>(lengths: I) -> Shape {
        Shape(lengths.into_iter().collect())
    }
}

/// NumPy's form: `(1000, 3)`, `(5,)`, `()`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [one] => write!(f, "({one},)"),
            many => {
                let words: Vec<String> = many.iter().map(u64::to_string).collect();
                write!(f, "({})", words.join(", "))
            }
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A box: per axis `start..end`. Empty when any axis is.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Region {
    /// First index on each axis.
    pub start: Shape,
    /// One past the last index on each axis.
    pub end: Shape,
}

impl Region {
    /// The whole of `shape`.
    pub fn whole(shape: &Shape) -> Region {
        Region { start: Shape::zeros(shape.rank()), end: shape.clone() }
    }

    /// How long each axis is.
    pub fn shape(&self) -> Shape {
        self.start.iter().zip(self.end.iter()).map(|(&start, &end)| end.saturating_sub(start)).collect()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.start.iter().zip(self.end.iter()).any(|(start, end)| start >= end)
    }

    /// Whether both have an element in common.
    pub fn touches(&self, other: &Region) -> bool {
        let (mine, others) = (self.start.iter().zip(self.end.iter()), other.start.iter().zip(other.end.iter()));
        mine.zip(others).all(|((a, b), (c, d))| a.max(c) < b.min(d))
    }

    /// What both have in common; empty if nothing.
    pub fn intersect(&self, other: &Region) -> Region {
        let start: Shape = self.start.iter().zip(other.start.iter()).map(|(&a, &b)| a.max(b)).collect();
        let end = self.end.iter().zip(other.end.iter()).zip(start.iter());
        let end = end.map(|((&a, &b), &start)| a.min(b).max(start)).collect();
        Region { start, end }
    }

    /// The same box with `origin` taken as zero.
    pub fn relative_to(&self, origin: &[u64]) -> Region {
        let shift = |shape: &Shape| shape.iter().zip(origin).map(|(&at, &origin)| at - origin).collect();
        Region { start: shift(&self.start), end: shift(&self.end) }
    }

    /// Every index of the box in row-major order.
    pub fn indices(&self) -> impl Iterator<Item = Shape> + '_ {
        let shape = self.shape();
        let count = if self.is_empty() { 0 } else { shape.elements() };
        (0..count).map(move |linear| {
            shape.index_at(linear).iter().zip(self.start.iter()).map(|(&at, &start)| at + start).collect()
        })
    }

    /// Where the box's elements lie in a C-order array of `shape`, as few contiguous ranges as can be, in order.
    pub fn runs(&self, shape: &Shape) -> impl DoubleEndedIterator<Item = Range<u64>> + use<> {
        let lengths = self.shape();
        // Trailing axes that the box spans whole make one run together with the axis before them.
        let whole = (0..shape.rank()).rev().take_while(|&axis| lengths[axis] == shape[axis]).count();
        let split = (shape.rank() - whole).saturating_sub(1);
        let length: u64 = lengths[split..].iter().product();
        let outer: Shape = lengths[..split].iter().copied().collect();
        let strides = shape.strides();
        let first: u64 = self.start.iter().zip(strides.iter()).map(|(&start, &stride)| start * stride).sum();
        let count = if length == 0 || self.is_empty() { 0 } else { outer.elements() };
        (0..count).map(move |at| {
            let steps = outer.index_at(at);
            let start = first + steps.iter().zip(strides.iter()).map(|(&step, &stride)| step * stride).sum::<u64>();
            start..start + length
        })
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.start.iter().zip(self.end.iter()).map(|(start, end)| format!("{start}..{end}"));
        write!(f, "[{}]", ranges.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_and_index_are_inverses() {
        let shape = Shape::new(&[3, 4, 5]).unwrap();
        assert_eq!(&*shape.strides(), &[20, 5, 1]);
        for linear in 0..60 {
            assert_eq!(shape.linear(&shape.index_at(linear)), linear);
        }
        assert_eq!(Shape::new(&[]).unwrap().elements(), 1);
    }

    #[test]
    fn overflow_and_rank_are_refused() {
        assert!(matches!(Shape::new(&[1; 9]), Err(ShapeError::Rank { rank: 9 })));
        assert!(matches!(Shape::new(&[1 << 32, 1 << 32]), Err(ShapeError::Overflow { .. })));
        assert!(matches!(Shape::new(&[0, u64::MAX]), Err(ShapeError::Overflow { .. })));
    }

    #[test]
    fn runs_are_the_indices_in_few_pieces() {
        let check = |shape: &[u64], start: &[u64], end: &[u64], count: usize| {
            let (shape, of) = (Shape::new(shape).unwrap(), |bounds: &[u64]| bounds.iter().copied().collect());
            let region = Region { start: of(start), end: of(end) };
            let one_by_one: Vec<u64> = region.indices().map(|index| shape.linear(&index)).collect();
            assert_eq!(region.runs(&shape).flatten().collect::<Vec<_>>(), one_by_one);
            assert_eq!(region.runs(&shape).count(), count);
        };
        check(&[], &[], &[], 1);
        check(&[7], &[2], &[5], 1);
        check(&[3, 4, 5], &[1, 0, 0], &[3, 4, 5], 1);
        check(&[3, 4, 5], &[0, 1, 0], &[2, 3, 5], 2);
        check(&[3, 4, 5], &[0, 1, 2], &[2, 3, 3], 4);
        check(&[3, 4, 5], &[1, 2, 0], &[2, 2, 5], 0);
        check(&[0, 5], &[0, 0], &[0, 5], 0);
    }

    #[test]
    fn regions_intersect() {
        let a = Region { start: [0, 2].into_iter().collect(), end: [5, 6].into_iter().collect() };
        let b = Region { start: [3, 0].into_iter().collect(), end: [9, 3].into_iter().collect() };
        assert_eq!(format!("{:?}", a.intersect(&b)), "[3..5, 2..3]");
        assert!(a.intersect(&Region { start: b.end.clone(), end: b.end.clone() }).is_empty());
        assert_eq!(a.intersect(&b).indices().count(), 2);
    }
}
