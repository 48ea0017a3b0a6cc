//! One leaf of one block, read run by run.
//!
//! Whatever a leaf reads, along the axes of its block it advances by constant strides through something addressed by
//! one number: the bytes of a block, or the row-major index of a source. Axes that continue each other are merged, so
//! that a block of whole trailing axes is read as one long run. A leaf that several operands or pieces make up is
//! poured into memory first, once; so is a block of a file whose rows would take a read for every few elements: it is
//! walked along whichever axis the file is read fastest.

use crate::block::BufferMut;
use crate::dtype::{DType, Element};
use crate::executor::{ExecuteError, Operand};
use crate::shape::{Region, Shape};
use crate::stage::{Leaf, Map, Piece, Source};
use crate::view::{AxisRead, View};
use crate::with_element;

use super::values::Values;

/// Reads the values of one leaf over one block.
pub struct LeafReader {
    walk: Walk,
    values: Values,
}

/// How a block's elements, in its row-major order, lie in what is read.
struct Walk {
    /// Merged axes, outermost first, without those of length 1.
    axes: Vec<Axis<1>>,
    /// Where element 0 is.
    base: u64,
}

/// An axis and how far one step along it goes in each of `N` things.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis<const N: usize> {
    length: u64,
    steps: [i64; N],
}

/// A box of the block, relative to it, and what it is made of.
pub(crate) struct Part {
    /// Where it is in the block.
    pub(crate) inside: Region,
    /// Per axis of the block, what one step along it adds to an address.
    pub(crate) steps: Vec<i64>,
    /// The address of the box's first element.
    pub(crate) base: u64,
    /// What the addresses are in.
    pub(crate) values: Values,
}

/// The readers of all leaves of block `block`. `operands` are the task's, one per read of the stage.
///
/// # Errors
/// A file that is not what it was, or memory that cannot be had.
pub fn leaf_readers(map: &Map, block: u64, operands: &[Operand]) -> Result<Vec<LeafReader>, ExecuteError> {
    let region = map.region(block);
    let mut operands = operands.iter();
    map.leaves.iter().map(|leaf| LeafReader::new(leaf, &region, &mut operands)).collect()
}

impl LeafReader {
    /// Makes ready to read `leaf` over `region` of the element space. The next of `operands` are those of the leaf's
    /// [`crate::stage::Read`]s, in their order; leaves that read no arrays take none.
    ///
    /// # Errors
    /// As [`leaf_readers`].
    pub fn new<'a>(
        leaf: &Leaf,
        region: &Region,
        operands: &mut impl Iterator<Item = &'a Operand>,
    ) -> Result<LeafReader, ExecuteError> {
        LeafReader::of_parts(leaf.dtype, &region.shape(), parts(leaf, region, operands)?)
    }

    /// The reader of a block of `shape` that the parts make up.
    ///
    /// # Errors
    /// As [`leaf_readers`].
    pub(crate) fn of_parts(dtype: DType, shape: &Shape, mut parts: Vec<Part>) -> Result<LeafReader, ExecuteError> {
        match &parts[..] {
            [part] if part.inside == Region::whole(shape) && part.rows_are_cheap() => {}
            _ => return poured(dtype, shape, &parts),
        }
        let Part { steps, base, values, .. } = parts.remove(0);
        let axes = shape.iter().zip(steps).map(|(&length, step)| Axis { length, steps: [step] });
        Ok(LeafReader { walk: Walk { axes: merged(axes), base }, values })
    }

    /// Writes the values of elements `start..start + out.len()` of the block, in its row-major order.
    ///
    /// # Errors
    /// A file that cannot be read.
    ///
    /// # Panics
    /// If `T` is not how the leaf's dtype is stored, or the run leaves the block.
    pub fn read<T: Element>(&self, start: u64, out: &mut [T]) -> Result<(), ExecuteError> {
        self.walk
            .runs(start, out.len(), |at, step, done, length| self.values.fill(at, step, &mut out[done..done + length]))
    }

    /// The same values where they already lie side by side in memory, else `None`.
    pub fn contiguous<T: Element>(&self, start: u64, length: usize) -> Option<&[T]> {
        let Values::Memory(buffer) = &self.values else { return None };
        match self.walk.axes[..] {
            [] => {}
            [Axis { steps: [1], .. }] => {}
            _ => return None,
        }
        let width = size_of::<T>();
        let first = (self.walk.base + start) as usize * width;
        // Buffers are aligned; what a literal points to need not be.
        bytemuck::try_cast_slice(buffer.bytes().get(first..first + length * width)?).ok()
    }
}

/// What a leaf is made of over `region` of the element space, piece after piece; see [`LeafReader::new`].
///
/// # Errors
/// A file that is not what it was.
pub(crate) fn parts<'a>(
    leaf: &Leaf,
    region: &Region,
    operands: &mut impl Iterator<Item = &'a Operand>,
) -> Result<Vec<Part>, ExecuteError> {
    let mut parts = Vec::new();
    for piece in &leaf.pieces {
        parts.append(&mut parts_of(piece, leaf.dtype, region, operands)?);
    }
    Ok(parts)
}

/// What `region` of the element space reads of a piece: one part per operand, or one for a source.
fn parts_of<'a>(
    piece: &Piece,
    dtype: DType,
    region: &Region,
    operands: &mut impl Iterator<Item = &'a Operand>,
) -> Result<Vec<Part>, ExecuteError> {
    let view = &piece.view;
    if let Source::Array { grid, .. } = &piece.source {
        let reads = view.inputs(region, grid);
        let mut operand = || operands.next().expect("a task brings one operand for each of its reads");
        return Ok(reads.map(|(_, part)| block_part(view, region, part, operand())).collect());
    }
    let part = region.intersect(&view.domain);
    if part.is_empty() {
        return Ok(Vec::new());
    }
    let first = view.read_at(&part.start);
    let strides = piece.source.strides();
    let base = strides.iter().zip(first.iter()).map(|(&stride, &at)| stride * at).sum();
    let values = Values::new(&piece.source, dtype)?;
    Ok(vec![Part { inside: part.relative_to(&region.start), steps: steps(view, &strides), base, values }])
}

/// What `part` of the element space reads of a block, or of what was cut from it.
fn block_part(view: &View, region: &Region, part: Region, operand: &Operand) -> Part {
    let Operand { data, region: held } = operand;
    let hull = view.reads(&part);
    let first = view.read_at(&part.start);
    let strides = data.shape.strides();
    // The held region begins where the hull does.
    let offsets = first.iter().zip(hull.start.iter()).zip(held.start.iter());
    let at = offsets.map(|((&first, &hull), &held)| held + first - hull);
    let base = at.zip(strides.iter()).map(|(at, &stride)| at * stride).sum();
    let values = Values::Memory(data.buffer.clone());
    Part { inside: part.relative_to(&region.start), steps: steps(view, &strides), base, values }
}

/// Per axis of the space, what one step along it adds to the address in what has `strides` per input axis.
fn steps(view: &View, strides: &[u64]) -> Vec<i64> {
    let mut steps = vec![0i64; view.domain.start.rank()];
    for (read, &stride) in view.axes.iter().zip(strides) {
        if let AxisRead::Along { axis, step, .. } = *read {
            steps[usize::from(axis)] = step * stride as i64;
        }
    }
    steps
}

impl Walk {
    /// Calls `run(address, step, done, length)` for the runs that elements `start..start + count` make.
    fn runs<E>(
        &self,
        start: u64,
        count: usize,
        mut run: impl FnMut(u64, i64, usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((inner, outer)) = self.axes.split_last() else {
            return run(self.base, 0, 0, count);
        };
        let [step] = inner.steps;
        let mut done = 0;
        while done < count {
            let (row, at) = ((start + done as u64) / inner.length, (start + done as u64) % inner.length);
            let length = (count - done).min((inner.length - at) as usize);
            let [row] = offset(outer, row);
            run(self.base.wrapping_add_signed(row + step * at as i64), step, done, length)?;
            done += length;
        }
        Ok(())
    }
}

/// How far row `row` of the outer axes is from the first.
fn offset<const N: usize>(outer: &[Axis<N>], mut row: u64) -> [i64; N] {
    let mut offset = [0; N];
    for axis in outer.iter().rev() {
        let at = (row % axis.length) as i64;
        offset.iter_mut().zip(axis.steps).for_each(|(offset, step)| *offset += step * at);
        row /= axis.length;
    }
    offset
}

/// Axes without those of length 1, each merged with the next where it continues it.
fn merged<const N: usize>(axes: impl Iterator<Item = Axis<N>>) -> Vec<Axis<N>> {
    let mut merged: Vec<Axis<N>> = Vec::new();
    for axis in axes.filter(|axis| axis.length != 1) {
        match merged.last_mut() {
            Some(outer) if outer.steps == axis.steps.map(|step| step * axis.length as i64) => {
                *outer = Axis { length: outer.length * axis.length, steps: axis.steps };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// A reader of a dense buffer that the parts were poured into.
fn poured(dtype: DType, shape: &Shape, parts: &[Part]) -> Result<LeafReader, ExecuteError> {
    let bytes = shape.elements() * dtype.bytes();
    let mut buffer = BufferMut::try_new(bytes as usize)?;
    with_element!(dtype, T => {
        let target = buffer.elements_mut::<T>();
        parts.iter().try_for_each(|part| part.pour(shape, target))?;
    });
    let axes = merged(std::iter::once(Axis { length: shape.elements(), steps: [1] }));
    Ok(LeafReader { walk: Walk { axes, base: 0 }, values: Values::Memory(buffer.freeze()) })
}

/// Elements of a run that are read before they are scattered.
const RUN: usize = 8 << 10;

impl Part {
    /// Whether reading row by row costs about as little as any other order: then it is not worth the memory.
    fn rows_are_cheap(&self) -> bool {
        let axes = self.axes(&self.inside.shape());
        match (axes.last(), self.best(&axes)) {
            (Some(last), Some(best)) => self.cost(last) <= 4 * self.cost(&axes[best]),
            _ => true,
        }
    }

    /// Writes all of it where it belongs in a dense block of `shape`.
    fn pour<T: Element>(&self, shape: &Shape, target: &mut [T]) -> Result<(), ExecuteError> {
        let mut outer = self.axes(shape);
        let best = self.best(&outer);
        let inner = best.map_or(Axis { length: 1, steps: [0, 1] }, |best| outer.remove(best));
        if best != Some(outer.len()) {
            // Not in the block's order anyway: then from one end of the file to the other.
            outer.sort_by_key(|axis| std::cmp::Reverse(axis.steps[0].unsigned_abs()));
        }
        let rows = outer.iter().map(|axis| axis.length).product();
        let first = shape.linear(&self.inside.start) as i64;
        let length = inner.length as usize;
        let mut run = vec![T::default(); if inner.steps[1] == 1 { 0 } else { RUN.min(length) }];
        for row in 0..rows {
            let [from, to] = offset(&outer, row);
            let (from, to) = (self.base.wrapping_add_signed(from), (first + to) as usize);
            let [step, gap] = inner.steps;
            if gap == 1 {
                self.values.fill(from, step, &mut target[to..to + length])?;
                continue;
            }
            for start in (0..length).step_by(RUN) {
                let values = &mut run[..RUN.min(length - start)];
                self.values.fill(from.wrapping_add_signed(step * start as i64), step, values)?;
                let places = target[to + gap as usize * start..].iter_mut().step_by(gap as usize);
                places.zip(values).for_each(|(place, value)| *place = *value);
            }
        }
        Ok(())
    }

    /// Its axes in the order of a dense block of `shape`, with their steps in what is read and in the block.
    fn axes(&self, shape: &Shape) -> Vec<Axis<2>> {
        let inside = self.inside.shape();
        let strides = shape.strides();
        let steps = self.steps.iter().zip(strides.iter()).map(|(&from, &to)| [from, to as i64]);
        merged(inside.iter().zip(steps).map(|(&length, steps)| Axis { length, steps }))
    }

    /// Which axis is best walked innermost; the last of those as good.
    fn best(&self, axes: &[Axis<2>]) -> Option<usize> {
        (0..axes.len()).rev().min_by_key(|&axis| self.cost(&axes[axis]))
    }

    fn cost(&self, axis: &Axis<2>) -> u64 {
        self.values.cost(axis.steps[0], axis.length)
    }
}
