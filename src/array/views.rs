//! Arrays whose elements are another array's elements, elsewhere: slices, flips, transposes, broadcasts.
//!
//! All of them are affine, so they cost nothing: whatever reads the array reads through them. A view of a view is one
//! view.

use gridloom_worker::dtype::Scalar;
use gridloom_worker::grid::{AxisGrid, Grid};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::Source;
use gridloom_worker::view::{AxisRead, View};
use ndarray::SliceInfoElem;

use super::chunks::{Cut, explicit_grid, fitted, sliced_axis};
use super::lengths::{axis_of, check_rank, shape_of};
use super::{Array, ArrayError, Expression, Failure, Integer, IntoAxes, IntoLengths};

impl Array {
    /// A part of the array, written with ndarray's `s!`: `x.slice(s![1..5, ..;2, -1, NewAxis])`.
    ///
    /// Bounds are clipped to the axis, as NumPy does; an index removes its axis; axes not mentioned are taken whole. A
    /// negative step takes the range backwards, as ndarray does: `0..4;-1` is elements 3, 2, 1, 0.
    ///
    /// ```
    /// use gridloom::array::Array;
    /// use ndarray::s;
    /// let x = Array::arange(0, 20, 1).reshape([4, 5]);
    /// assert_eq!(&**x.slice(s![1.., ..;-2]).shape(), &[3, 3]);
    /// ```
    ///
    /// # Errors
    /// More entries than axes, an index outside its axis, a step of 0.
    #[track_caller]
    pub fn slice(&self, slices: impl AsRef<[SliceInfoElem]>) -> Array {
        Array::or_failed(self.sound().and_then(|_| slice(self, slices.as_ref())))
    }

    /// The elements along `axes` in reverse order.
    ///
    /// # Errors
    /// An axis that is not there, or is named twice.
    #[track_caller]
    pub fn flip(&self, axes: impl IntoAxes) -> Array {
        let axes = axes.into_axes();
        let flipped = || {
            let flags = axes.flags(self.sound()?.rank())?;
            let all = flags.iter().zip(self.shape().iter()).map(|(&flip, &length)| match flip && length > 0 {
                true => Taken { first: length - 1, step: -1, count: length },
                false => Taken { first: 0, step: 1, count: length },
            });
            Ok(taken(self, &all.map(Part::Axis).collect::<Vec<_>>()))
        };
        Array::or_failed(flipped())
    }

    /// The axes in reverse order.
    #[track_caller]
    pub fn transpose(&self) -> Array {
        let order: Vec<usize> = (0..self.rank()).rev().collect();
        self.permute_axes(order)
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of this.
    ///
    /// # Errors
    /// Not each axis named once.
    #[track_caller]
    pub fn permute_axes(&self, order: impl IntoLengths) -> Array {
        let order = order.into_lengths();
        let permuted = || {
            let rank = self.sound()?.rank();
            if order.len() != rank {
                return Err(ArrayError::EntryCount { what: "axes", given: order.len(), rank }.into());
            }
            let order = order.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<usize>, _>>()?;
            if let Some(axis) = (0..rank).find(|axis| order.iter().filter(|&other| other == axis).count() > 1) {
                return Err(ArrayError::AxisTwice { axis }.into());
            }
            Ok(permuted(self, &order))
        };
        Array::or_failed(permuted())
    }

    /// Two axes exchanged.
    ///
    /// # Errors
    /// An axis that is not there.
    #[track_caller]
    pub fn swapaxes(&self, a: impl Integer, b: impl Integer) -> Array {
        let swapped = || {
            let rank = self.sound()?.rank();
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(axis_of(a.wide(), rank)?, axis_of(b.wide(), rank)?);
            Ok(permuted(self, &order))
        };
        Array::or_failed(swapped())
    }

    /// The array repeated along axes of length 1 and along new leading axes, up to `shape`.
    ///
    /// # Errors
    /// A length that is neither 1 nor that of `shape`.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoLengths) -> Array {
        let lengths = shape.into_lengths();
        let widened = || {
            let array = self.sound()?;
            let shape = shape_of(&lengths)?;
            let axes = shape.iter().enumerate().map(|(axis, &length)| {
                let own = (axis + array.rank()).checked_sub(shape.rank()).filter(|&own| array.shape()[own] == length);
                own.map_or(AxisGrid::regular(length, length), |own| array.grid().axes[own].clone())
            });
            let cut = Cut { grid: Grid { axes: axes.collect() }, auto: array.cut().auto };
            broadcast(array, &shape, fitted(cut, &[array], &shape, array.dtype()))
        };
        Array::or_failed(widened())
    }

    /// A new axis of length 1 at `axis` of the result.
    ///
    /// # Errors
    /// An axis that the result has not, or a ninth one.
    #[track_caller]
    pub fn expand_dims(&self, axis: impl Integer) -> Array {
        Array::or_failed(self.sound().and_then(|_| expanded(self, axis.wide())))
    }

    /// Without axes of length 1: those named, or with `..` all of them.
    ///
    /// # Errors
    /// A named axis of another length.
    #[track_caller]
    pub fn squeeze(&self, axes: impl IntoAxes) -> Array {
        let axes = axes.into_axes();
        let squeezed = || {
            let shape = self.sound()?.shape();
            let mut flags = axes.flags(shape.rank())?;
            if axes == super::Axes::ALL {
                flags.iter_mut().zip(shape.iter()).for_each(|(flag, &length)| *flag = length == 1);
            }
            let wrong = shape.iter().enumerate().find(|&(axis, &length)| flags[axis] && length != 1);
            if let Some((axis, &length)) = wrong {
                return Err(ArrayError::Squeeze { axis, length }.into());
            }
            let kept = shape.iter().zip(&flags).filter(|(_, squeezed)| !**squeezed);
            Ok(with_ones(self, &kept.map(|(&length, _)| length).collect()))
        };
        Array::or_failed(squeezed())
    }

    /// The same elements, cut into chunks of these lengths: one entry per axis, clipped to it; -1 is the whole axis.
    ///
    /// # Errors
    /// Not one entry per axis, or one of 0.
    #[track_caller]
    pub fn rechunk(&self, chunks: impl IntoLengths) -> Array {
        let chunks = chunks.into_lengths();
        let cut = || Ok(recut(self, explicit_grid(self.sound()?.shape(), &chunks)?));
        Array::or_failed(cut())
    }

    /// [`Array::rechunk`], as one says it of a source.
    #[track_caller]
    pub fn chunks(&self, chunks: impl IntoLengths) -> Array {
        self.rechunk(chunks)
    }
}

/// Elements of one axis: `count` of them from `first` on, `step` apart.
#[derive(Clone, Copy)]
struct Taken {
    first: u64,
    step: i64,
    count: u64,
}

/// What becomes of an axis, or a new one.
enum Part {
    Axis(Taken),
    Index(u64),
    New,
}

fn slice(array: &Array, slices: &[SliceInfoElem]) -> Result<Array, Failure> {
    let rank = array.rank();
    let given = slices.iter().filter(|slice| !slice.is_new_axis()).count();
    if given > rank {
        return Err(ArrayError::EntryCount { what: "slices", given, rank }.into());
    }
    let mut lengths = array.shape().iter().copied().enumerate();
    let mut parts = Vec::new();
    let rest = std::iter::repeat_n(&SliceInfoElem::Slice { start: 0, end: None, step: 1 }, rank - given);
    for slice in slices.iter().chain(rest) {
        let part = match *slice {
            SliceInfoElem::NewAxis => Part::New,
            SliceInfoElem::Index(index) => {
                let (axis, length) = lengths.next().expect("as many axes as entries that take one");
                Part::Index(index_within(index as i128, axis, length)?)
            }
            SliceInfoElem::Slice { start, end, step } => {
                let (axis, length) = lengths.next().expect("as many axes as entries that take one");
                Part::Axis(range_within(start as i128, end.map(|end| end as i128), step as i64, axis, length)?)
            }
        };
        parts.push(part);
    }
    check_rank(parts.iter().filter(|part| !matches!(part, Part::Index(_))).count())?;
    Ok(taken(array, &parts))
}

fn index_within(index: i128, axis: usize, length: u64) -> Result<u64, ArrayError> {
    let counted = if index < 0 { index + i128::from(length) } else { index };
    match u64::try_from(counted) {
        Ok(at) if at < length => Ok(at),
        _ => Err(ArrayError::Index { index, axis, length }),
    }
}

fn range_within(start: i128, end: Option<i128>, step: i64, axis: usize, length: u64) -> Result<Taken, ArrayError> {
    if step == 0 {
        return Err(ArrayError::StepZero { axis });
    }
    let clip = |at: i128| (if at < 0 { at + i128::from(length) } else { at }).clamp(0, i128::from(length)) as u64;
    let (low, high) = (clip(start), end.map_or(length, clip));
    let count = high.saturating_sub(low).div_ceil(step.unsigned_abs());
    let first = if step < 0 && count > 0 { high - 1 } else { low };
    // One element needs no step, and a huge one must not overflow what is computed from it.
    Ok(Taken { first, step: if count > 1 { step } else { step.signum() }, count })
}

fn taken(array: &Array, parts: &[Part]) -> Array {
    let mut own = array.grid().axes.iter();
    let (mut reads, mut axes) = (Vec::new(), Vec::new());
    for part in parts {
        let out = axes.len() as u8;
        match *part {
            Part::New => axes.push(AxisGrid::regular(1, 1)),
            Part::Index(at) => {
                own.next();
                reads.push(AxisRead::Fixed(at));
            }
            Part::Axis(Taken { first, step, count }) => {
                let grid = own.next().expect("one part per axis");
                axes.push(sliced_axis(grid, first, step, count));
                reads.push(AxisRead::Along { axis: out, start: first as i64, step });
            }
        }
    }
    let cut = Cut { grid: Grid { axes }, auto: array.cut().auto };
    viewed(array, reads, cut)
}

fn permuted(array: &Array, order: &[usize]) -> Array {
    let mut reads = vec![AxisRead::Fixed(0); order.len()];
    for (out, &own) in order.iter().enumerate() {
        reads[own] = AxisRead::Along { axis: out as u8, start: 0, step: 1 };
    }
    let axes = order.iter().map(|&own| array.grid().axes[own].clone()).collect();
    viewed(array, reads, Cut { grid: Grid { axes }, auto: array.cut().auto })
}

pub(super) fn expanded(array: &Array, axis: i128) -> Result<Array, Failure> {
    let rank = array.rank() + 1;
    let axis = axis_of(axis, rank)?;
    check_rank(rank)?;
    let mut shape = array.shape().to_vec();
    shape.insert(axis, 1);
    Ok(with_ones(array, &shape.into_iter().collect()))
}

/// The array under a shape that differs from its own by axes of length 1 only.
pub(super) fn with_ones(array: &Array, shape: &Shape) -> Array {
    let mut longer = (0..shape.rank()).filter(|&axis| shape[axis] != 1);
    let mut axes: Vec<AxisGrid> = shape.iter().map(|_| AxisGrid::regular(1, 1)).collect();
    let reads = array.shape().iter().zip(&array.grid().axes).map(|(&length, grid)| match length {
        1 => AxisRead::Fixed(0),
        _ => {
            let out = longer.next().expect("the lengths other than 1 are the same");
            axes[out] = grid.clone();
            AxisRead::Along { axis: out as u8, start: 0, step: 1 }
        }
    });
    let reads = reads.collect();
    viewed(array, reads, Cut { grid: Grid { axes }, auto: array.cut().auto })
}

/// The array broadcast to `shape`, cut as told.
pub(super) fn broadcast(array: &Array, shape: &Shape, cut: Cut) -> Result<Array, Failure> {
    let error = || ArrayError::BroadcastTo { from: array.shape().to_string(), to: shape.to_string() };
    let new = shape.rank().checked_sub(array.rank()).ok_or_else(error)?;
    let reads = array.shape().iter().enumerate().map(|(own, &length)| match (length, shape[new + own]) {
        (own_length, length) if own_length == length => {
            Ok(AxisRead::Along { axis: (new + own) as u8, start: 0, step: 1 })
        }
        (1, _) => Ok(AxisRead::Fixed(0)),
        _ => Err(error()),
    });
    let reads = reads.collect::<Result<Vec<_>, _>>()?;
    Ok(viewed(array, reads, cut))
}

/// The same array, cut otherwise. Sources are made anew, so nothing is ever cut twice.
pub(super) fn recut(array: &Array, grid: Grid) -> Array {
    let (shape, dtype) = (array.shape().clone(), array.dtype());
    let cut = Cut { grid, auto: false };
    match array.expression() {
        Expression::Source(source) => Array::node(shape, dtype, cut, Expression::Source(source.clone())),
        Expression::Scattered(bytes) => Array::node(shape, dtype, cut, Expression::Scattered(bytes.clone())),
        _ => viewed(array, View::identity(&shape).axes, cut),
    }
}

/// The array read through `reads`, cut as told: the one place where views are made.
fn viewed(array: &Array, reads: Vec<AxisRead>, cut: Cut) -> Array {
    let shape = cut.grid.shape();
    let view = View { domain: Region::whole(&shape), axes: reads };
    let (input, view) = match array.expression() {
        Expression::Source(Source::Constant(value)) => {
            return Array::node(shape, array.dtype(), cut, Expression::Source(Source::Constant(*value)));
        }
        Expression::View { input, view: inner } => (input, view.then(inner)),
        _ => (array, view),
    };
    if view.is_identity() && *input.shape() == shape && input.cut().grid == cut.grid {
        return input.clone();
    }
    Array::node(shape, input.dtype(), cut, Expression::View { input: input.clone(), view })
}

/// A constant of the array's shape and cut.
pub(super) fn constant_like(value: Scalar, shape: &Shape, cut: &Cut) -> Array {
    Array::node(shape.clone(), value.dtype(), cut.clone(), Expression::Source(Source::Constant(value)))
}

#[cfg(test)]
mod tests {
    use gridloom_worker::dtype::DType;
    use ndarray::{NewAxis, s};

    use super::super::tests::check_error;
    use super::*;

    #[track_caller]
    fn check(array: Array, lengths: &[u64], grid: &str) {
        assert!(array.error().is_none(), "{array:?}");
        assert_eq!((&**array.shape(), array.grid().to_string().as_str()), (lengths, grid));
    }

    fn computed(lengths: &[u64], chunks: &[u64]) -> Array {
        Array::random(lengths).chunks(chunks) + 1.0
    }

    #[test]
    fn views_have_numpys_shapes_and_keep_cuts() {
        let x = computed(&[10, 6], &[4, 3]);
        check(x.slice(s![1..9, ..]), &[8, 6], "[3+4+1, 3x2]");
        check(x.slice(s![-3.., 5]), &[3], "[1+2]");
        check(x.slice(s![..;-2, NewAxis]), &[5, 1, 6], "[1+2x2, 1, 3x2]");
        check(x.slice(s![100..]), &[0, 6], "[, 3x2]");
        check(x.slice(s![..;1000]), &[1, 6], "[1, 3x2]");
        check(x.slice(s![3..;isize::MAX]), &[1, 6], "[1, 3x2]");
        check(x.flip(..), &[10, 6], "[2+4x2, 3x2]");
        check(x.transpose(), &[6, 10], "[3x2, 4x2+2]");
        check(x.swapaxes(0, -1), &[6, 10], "[3x2, 4x2+2]");
        check(x.broadcast_to([2, 10, 6]), &[2, 10, 6], "[2, 4x2+2, 3x2]");
        check(x.expand_dims(-1).squeeze(-1), &[10, 6], "[4x2+2, 3x2]");
        check(x.rechunk([-1, 100]), &[10, 6], "[10, 6]");
    }

    #[test]
    fn a_view_of_a_view_is_one_view_and_a_view_undone_is_none() {
        let x = computed(&[10, 6], &[4, 3]);
        assert_eq!(x.transpose().transpose().identity(), x.identity());
        assert_eq!(x.expand_dims(0).squeeze(0).identity(), x.identity());
        assert_eq!(x.rechunk([4, 3]).identity(), x.identity());
        let both = x.flip(0).slice(s![.., 2]).broadcast_to([5, 10]);
        assert!(matches!(both.expression(), Expression::View { input, .. } if input.identity() == x.identity()));
        // A constant is the same wherever it is read.
        assert!(Array::ones([5, 3]).slice(s![2, ..;-1]).broadcast_to([7, 3]).is_constant());
    }

    #[test]
    fn a_wide_broadcast_is_cut_again() {
        let x = Array::arange(0, 1_000_000, 1);
        let outer = &x.expand_dims(1) * &x;
        assert_eq!(*outer.grid(), super::super::auto_grid(outer.shape(), DType::I64));
        let chosen = x.chunks([1000]);
        assert_eq!((&chosen.expand_dims(1) * &chosen).grid().to_string(), "[1000x1000, 1000x1000]");
    }

    #[test]
    fn eight_axes_and_no_more() {
        let x = Array::random([1; 8]);
        check(x.transpose(), &[1; 8], "[1, 1, 1, 1, 1, 1, 1, 1]");
        check_error(&x.expand_dims(0), "9 axes: an array has at most 8");
        check_error(&x.slice(s![NewAxis]), "9 axes: an array has at most 8");
    }

    #[test]
    fn the_first_error_is_the_one_that_is_told() {
        let failed = Array::zeros([-1]);
        assert_eq!(failed.broadcast_to([-2]).error(), failed.error());
    }

    #[test]
    fn errors() {
        let x = computed(&[3, 4], &[3, 4]);
        check_error(&x.slice(s![3]), "index 3 is outside axis 0 of length 3");
        check_error(&x.slice(s![.., -5]), "index -5 is outside axis 1 of length 4");
        check_error(&x.slice(s![0, 0, 0]), "slices: 3 entries for 2 axes");
        check_error(&x.flip(2), "axis 2 of an array of 2 axes: they are 0 to 1, or -2 to -1 from the end");
        check_error(&x.permute_axes([0, 0]), "axis 0 is named twice");
        check_error(&x.permute_axes([0]), "axes: 1 entries for 2 axes");
        check_error(&x.broadcast_to([3]), "shape (3, 4) does not broadcast to (3,)");
        check_error(&x.broadcast_to([3, 5]), "shape (3, 4) does not broadcast to (3, 5)");
        check_error(&x.squeeze(0), "axis 0 has length 3: only axes of length 1 can be squeezed");
        check_error(&x.rechunk([3, 0]), "chunks of length 0: a chunk has at least one element (-1 is the whole axis)");
        check_error(&x.rechunk([3]), "chunks: 1 entries for 2 axes");
        let zero = [SliceInfoElem::Slice { start: 0, end: None, step: 0 }];
        check_error(&x.slice(zero), "a slice with step 0 on axis 0");
    }
}
