//! Several arrays as one: concatenation and stacking.
//!
//! The members are views of one array, each with a domain of its own, so a join costs nothing either.

use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::view::{AxisRead, View};

use super::chunks::joined_cut;
use super::elementwise::converted;
use super::lengths::axis_of;
use super::views::expanded;
use super::{Array, ArrayError, Expression, Failure, Integer};

impl Array {
    /// Arrays one after the other along `axis`. They are promoted to one dtype; blocks never straddle a seam.
    ///
    /// ```
    /// use gridloom::array::Array;
    /// let parts = (0..10).map(|k| Array::random([1000, 1000, 1000]).stream(k));
    /// assert_eq!(&**Array::concatenate(parts, 0).shape(), &[10_000, 1000, 1000]);
    /// ```
    ///
    /// # Errors
    /// No arrays; lengths that differ on other axes; an axis that is not there.
    #[track_caller]
    pub fn concatenate(parts: impl IntoIterator<Item = Array>, axis: impl Integer) -> Array {
        Array::or_failed(concatenate(parts.into_iter().collect(), axis.wide()))
    }

    /// Arrays of one shape side by side, along a new axis at `axis` of the result.
    ///
    /// # Errors
    /// As [`Array::concatenate`] and [`Array::expand_dims`].
    #[track_caller]
    pub fn stack(parts: impl IntoIterator<Item = Array>, axis: impl Integer) -> Array {
        let parts: Vec<Array> = parts.into_iter().collect();
        let stacked = || {
            for part in &parts {
                if part.sound()?.shape() != parts[0].shape() {
                    let shapes = parts.iter().map(|part| part.shape().to_string()).collect();
                    return Err(ArrayError::Broadcast { shapes }.into());
                }
            }
            let rank = parts.first().map_or(1, |part| part.rank() + 1);
            let at = axis_of(axis.wide(), rank)?;
            let parts = parts.iter().map(|part| expanded(part, at as i128));
            concatenate(parts.collect::<Result<_, _>>()?, at as i128)
        };
        Array::or_failed(stacked())
    }
}

fn concatenate(parts: Vec<Array>, axis: i128) -> Result<Array, Failure> {
    for part in &parts {
        part.sound()?;
    }
    let first = parts.first().ok_or(ArrayError::JoinNothing)?;
    let axis = axis_of(axis, first.rank())?;
    let joins = |part: &Array| {
        part.rank() == first.rank() && (0..part.rank()).all(|at| at == axis || part.shape()[at] == first.shape()[at])
    };
    if !parts.iter().all(joins) {
        let shapes = parts.iter().map(|part| part.shape().to_string()).collect();
        return Err(ArrayError::Join { shapes, axis }.into());
    }
    let dtype = parts.iter().map(Array::dtype).fold(first.dtype(), |all, dtype| all.promote(dtype));
    let parts: Vec<Array> = parts.iter().map(|part| converted(part, dtype)).collect();
    match parts.iter().filter(|part| part.shape()[axis] > 0).count() {
        0 => Ok(parts[0].clone()),
        1 => Ok(parts.into_iter().find(|part| part.shape()[axis] > 0).expect("there is one")),
        _ => joined(parts.into_iter().filter(|part| part.shape()[axis] > 0).collect(), axis),
    }
}

fn joined(parts: Vec<Array>, axis: usize) -> Result<Array, Failure> {
    let dtype = parts[0].dtype();
    let mut lengths: Vec<u64> = parts[0].shape().to_vec();
    lengths[axis] = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.shape()[axis]));
    let shape = Shape::new(&lengths)?;
    let cut = joined_cut(&parts.iter().collect::<Vec<_>>(), axis, &shape, dtype);
    let mut start = 0;
    let views = parts.iter().map(|part| {
        let mut view = View { domain: Region::whole(&shape), axes: View::identity(part.shape()).axes };
        view.domain.start[axis] = start;
        view.domain.end[axis] = start + part.shape()[axis];
        view.axes[axis] = AxisRead::Along { axis: axis as u8, start: -(start as i64), step: 1 };
        start = view.domain.end[axis];
        view
    });
    let views = views.collect();
    Ok(Array::node(shape, dtype, cut, Expression::Concatenation { parts, views }))
}

#[cfg(test)]
mod tests {
    use gridloom_worker::dtype::DType;
    use ndarray::s;

    use super::super::tests::check_error;
    use super::*;

    #[track_caller]
    fn check(array: Array, lengths: &[u64], grid: &str) {
        assert!(array.error().is_none(), "{array:?}");
        assert_eq!((&**array.shape(), array.grid().to_string().as_str()), (lengths, grid));
    }

    #[test]
    fn cuts_are_kept_on_both_sides_of_a_seam() {
        let x = Array::random([10, 6]).chunks([4, 3]) + 1.0;
        check(Array::concatenate([x.clone(), x.slice(s![..3, ..])], 0), &[13, 6], "[4x2+2+3, 3x2]");
        check(Array::stack([x.clone(), x.clone(), x], -1), &[10, 6, 3], "[4x2+2, 3x2, 1x3]");
    }

    /// Columns of one part by rows of another would make blocks of 3 GiB.
    #[test]
    fn no_block_straddles_a_seam_where_cuts_do_not_fit_each_other() {
        let columns = Array::random([4096, 8192]).chunks([-1, 1]);
        let rows = Array::random([4096, 100_000]).chunks([10, -1]);
        let joined = Array::concatenate([columns, rows], 1);
        let seams = joined.grid().axes[1].clone();
        assert_ne!(seams.block_of(8191), seams.block_of(8192), "{}", joined.grid());
        assert!(joined.grid().block_elements_max() * 8 <= 128 << 20);
    }

    #[test]
    fn joins_promote_and_drop_empty_parts() {
        let (a, b) = (Array::arange(0, 3, 1), Array::random([4]).with_dtype(DType::F32));
        assert_eq!(Array::concatenate([a.clone(), b], 0).dtype(), DType::F64);
        assert_eq!(Array::concatenate([Array::arange(0, 0, 1), a.clone()], 0).identity(), a.identity());
    }

    #[test]
    fn errors() {
        let x = Array::random([3, 4]);
        let shapes = "shapes (3, 4), (4, 3) do not join on axis 0: all other lengths must be equal";
        check_error(&Array::concatenate([x.clone(), x.transpose()], 0), shapes);
        check_error(&Array::concatenate([], 0), "nothing to join: at least one array is needed");
        check_error(&Array::concatenate([Array::ones(())], 0), "axis 0 of an array of 0 axes: they are none");
        let deep = Array::random([1; 8]);
        check_error(&Array::stack([deep], 0), "9 axes: an array has at most 8");
        let shapes = "shapes (3, 4), (4, 3) do not broadcast: lengths must be equal, or 1";
        check_error(&Array::stack([x.clone(), x.transpose()], 0), shapes);
    }
}
