//! Reshape: the same elements in the same row-major order under other lengths.
//!
//! Elements never move between blocks here. What a shape change means for blocks: axes of length 1 come and go by a
//! view; a source is simply made in the other shape; and where of a group of axes only the first is cut, the group's
//! blocks are runs of elements in order, so they can be given another shape as they are.

use gridloom_worker::grid::{AxisGrid, Grid, Segment};
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{Random, Source};

use super::chunks::Cut;
use super::lengths::shape_of;
use super::views::{constant_like, with_ones};
use super::{Array, ArrayError, Expression, Failure, IntoLengths};

impl Array {
    /// The same elements in the same row-major order under another shape. One length may be -1: whatever is left.
    ///
    /// Axes of length 1 come and go. Constants, sequences, random arrays and the client's own data take any shape.
    /// Elsewhere groups of axes split or join if of each group only the first axis is cut, in chunks that are a
    /// multiple of what follows on both sides; `rechunk` first to make it so.
    ///
    /// ```
    /// use gridloom::array::Array;
    /// let x = Array::ones([6, 4]).rechunk([2, -1]) * 2;
    /// assert_eq!(x.reshape([3, 2, 2, 2]).grid().to_string(), "[1x3, 2, 2, 2]");
    /// ```
    ///
    /// # Errors
    /// Another number of elements; blocks that do not stay whole.
    #[track_caller]
    pub fn reshape(&self, shape: impl IntoLengths) -> Array {
        let lengths = shape.into_lengths();
        Array::or_failed(self.sound().and_then(|_| reshape(self, &lengths)))
    }
}

fn reshape(array: &Array, lengths: &[i128]) -> Result<Array, Failure> {
    let to = completed(array, lengths)?;
    if to == *array.shape() {
        return Ok(array.clone());
    }
    let regrouped = regrouped(array.grid(), &to);
    if let Some(made) = reshaped_source(array, &to, regrouped.as_ref()) {
        return Ok(made);
    }
    let longer = |shape: &Shape| shape.iter().copied().filter(|&length| length != 1).collect::<Vec<u64>>();
    if longer(&to) == longer(array.shape()) {
        return Ok(with_ones(array, &to));
    }
    let grid = regrouped.ok_or_else(|| ArrayError::ReshapeBlocks {
        from: array.shape().to_string(),
        grid: array.grid().to_string(),
        to: to.to_string(),
    })?;
    let cut = Cut { grid, auto: array.cut().auto };
    Ok(Array::node(to, array.dtype(), cut, Expression::Relabel(array.clone())))
}

/// The shape asked for, with -1 worked out.
fn completed(array: &Array, lengths: &[i128]) -> Result<Shape, ArrayError> {
    let elements = array.shape().elements();
    let error = |to: &[i128]| ArrayError::ReshapeElements {
        from: array.shape().to_string(),
        to: format!("{to:?}").replace('[', "(").replace(']', ")"),
        elements,
    };
    let mut completed = lengths.to_vec();
    if let Some(open) = lengths.iter().position(|&length| length == -1) {
        completed[open] = 1;
        let others = shape_of(&completed)?.elements();
        if others == 0 || !elements.is_multiple_of(others) {
            return Err(error(lengths));
        }
        completed[open] = i128::from(elements / others);
    }
    let to = shape_of(&completed)?;
    if to.elements() == elements { Ok(to) } else { Err(error(lengths)) }
}

/// A source of row-major elements, made in another shape. An empty array is as good as any other empty one.
fn reshaped_source(array: &Array, to: &Shape, regrouped: Option<&Grid>) -> Option<Array> {
    let auto = Cut::auto(to, array.dtype());
    let cut = regrouped.map_or(auto, |grid| Cut { grid: grid.clone(), auto: array.cut().auto });
    let shape = to.clone();
    let expression = match array.expression() {
        _ if to.elements() == 0 => {
            let zero = gridloom_worker::dtype::Scalar::Bool(false).cast(array.dtype());
            return Some(constant_like(zero, to, &Cut::auto(to, array.dtype())));
        }
        Expression::Source(source) => Expression::Source(match source.clone() {
            Source::Constant(value) => Source::Constant(value),
            Source::Iota { start, step, .. } => Source::Iota { start, step, shape },
            Source::Linspace { start, stop, step, last, .. } => Source::Linspace { start, stop, step, last, shape },
            Source::Random(random) => Source::Random(Random { shape, ..random }),
            Source::Literal { bytes, .. } => Source::Literal { shape, bytes },
            Source::Npy(_) | Source::Array { .. } => return None,
        }),
        Expression::Scattered(bytes) => Expression::Scattered(bytes.clone()),
        _ => return None,
    };
    Some(Array::node(to.clone(), array.dtype(), cut, expression))
}

/// The grid of the same blocks under another shape, if they stay whole.
fn regrouped(grid: &Grid, to: &Shape) -> Option<Grid> {
    let from: Vec<&AxisGrid> = grid.axes.iter().filter(|axis| axis.length() != 1).collect();
    let mut axes: Vec<AxisGrid> = to.iter().map(|_| AxisGrid::regular(1, 1)).collect();
    let targets: Vec<usize> = (0..to.rank()).filter(|&axis| to[axis] != 1).collect();
    if to.elements() == 0 {
        return None;
    }
    let (mut own, mut out) = (0, 0);
    while own < from.len() && out < targets.len() {
        let (own_first, out_first) = (own, out);
        let (mut own_product, mut out_product) = (from[own].length(), to[targets[out]]);
        while own_product != out_product {
            if own_product < out_product {
                own += 1;
                own_product *= from.get(own)?.length();
            } else {
                out += 1;
                out_product *= to[*targets.get(out)?];
            }
        }
        (own, out) = (own + 1, out + 1);
        let inner: u64 = targets[out_first + 1..out].iter().map(|&axis| to[axis]).product();
        axes[targets[out_first]] = regrouped_axis(&from[own_first..own], inner)?;
        targets[out_first + 1..out].iter().for_each(|&axis| axes[axis] = AxisGrid::regular(to[axis], to[axis]));
    }
    Some(Grid { axes })
}

/// The leading axis of a group that now has `inner` elements behind each of its own.
fn regrouped_axis(group: &[&AxisGrid], inner: u64) -> Option<AxisGrid> {
    let (first, rest) = group.split_first()?;
    if rest.iter().any(|axis| axis.blocks() > 1) {
        return None;
    }
    let behind = rest.iter().map(|axis| axis.length()).product::<u64>();
    let segments = first.segments().iter().map(|&Segment { chunk, count }| {
        let elements = chunk * behind;
        elements.is_multiple_of(inner).then_some(Segment { chunk: elements / inner, count })
    });
    Some(segments.collect::<Option<Vec<Segment>>>()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &[u64], chunks: &[u64], to: &[u64], expected: Option<&str>) {
        let grid = Grid::regular(&Shape::new(from).unwrap(), chunks);
        let found = regrouped(&grid, &Shape::new(to).unwrap());
        assert_eq!(found.map(|grid| grid.to_string()).as_deref(), expected);
    }

    #[test]
    fn groups_split_and_join_where_blocks_stay_whole() {
        check(&[6, 4], &[2, 4], &[24], Some("[8x3]"));
        check(&[6, 4], &[4, 4], &[24], Some("[16+8]"));
        check(&[24], &[8], &[6, 4], Some("[2x3, 4]"));
        check(&[24], &[6], &[6, 4], None);
        check(&[6, 4], &[2, 2], &[24], None);
        check(&[6, 4], &[2, 2], &[6, 2, 2], Some("[2x3, 1x2, 2]"));
        check(&[2, 6], &[2, 6], &[3, 4], Some("[3, 4]"));
        check(&[2, 6], &[1, 6], &[3, 4], None);
        check(&[1, 6, 1], &[1, 3, 1], &[6], Some("[3x2]"));
        check(&[6], &[3], &[1, 2, 1, 3], Some("[1, 1x2, 1, 3]"));
        check(&[5, 2, 3], &[1, 2, 3], &[5, 6], Some("[1x5, 6]"));
        check(&[1, 1], &[1, 1], &[], Some("[]"));
    }
}
