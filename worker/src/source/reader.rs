//! One leaf of one block, read run by run.
//!
//! Whatever a leaf reads, along the axes of its block it advances by constant strides through something addressed by
//! one number: the bytes of a block, or the row-major index of a source. Axes that continue each other are merged, so
//! that a block of whole trailing axes is read as one long run. A leaf that several operands or pieces make up is
//! poured into memory first, once.

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
    axes: Vec<Stride>,
    /// Where element 0 is.
    base: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stride {
    length: u64,
    step: i64,
}

/// A box of the block, relative to it, and what it is made of.
struct Part {
    inside: Region,
    walk: Walk,
    values: Values,
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
        let mut parts = Vec::new();
        for piece in &leaf.pieces {
            parts.append(&mut parts_of(piece, leaf.dtype, region, operands)?);
        }
        let shape = region.shape();
        match parts.len() {
            1 if parts[0].inside == Region::whole(&shape) => {
                let part = parts.remove(0);
                match part.values.rows_are_slow(&part.walk.axes.last().map_or(1, |axis| axis.step)) {
                    true => poured(leaf.dtype, &shape, vec![part]),
                    false => Ok(LeafReader { walk: part.walk, values: part.values }),
                }
            }
            _ => poured(leaf.dtype, &shape, parts),
        }
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
            [Stride { step: 1, .. }] => {}
            _ => return None,
        }
        let width = size_of::<T>();
        let first = (self.walk.base + start) as usize * width;
        // Buffers are aligned; what a literal points to need not be.
        bytemuck::try_cast_slice(buffer.bytes().get(first..first + length * width)?).ok()
    }
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
        return Ok(reads.zip(operands).map(|((_, part), operand)| block_part(view, region, part, operand)).collect());
    }
    let part = region.intersect(&view.domain);
    if part.is_empty() {
        return Ok(Vec::new());
    }
    let first = view.read_at(&part.start);
    let strides = piece.source.strides();
    let base = strides.iter().zip(first.iter()).map(|(&stride, &at)| stride * at).sum();
    let walk = Walk::new(view, &part.shape(), &strides, base);
    Ok(vec![Part { inside: part.relative_to(&region.start), walk, values: Values::new(&piece.source, dtype)? }])
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
    let walk = Walk::new(view, &part.shape(), &strides, base);
    Part { inside: part.relative_to(&region.start), walk, values: Values::Memory(data.buffer.clone()) }
}

impl Walk {
    /// The walk of a box of `shape` that reads by `view` what has `strides` per input axis, from `base` on.
    fn new(view: &View, shape: &Shape, strides: &[u64], base: u64) -> Walk {
        let mut steps = vec![0i64; shape.rank()];
        for (read, &stride) in view.axes.iter().zip(strides) {
            if let AxisRead::Along { axis, step, .. } = *read {
                steps[usize::from(axis)] = step * stride as i64;
            }
        }
        Walk { axes: merged(shape.iter().zip(steps).map(|(&length, step)| Stride { length, step })), base }
    }

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
        let (mut row, mut at) = (start / inner.length, start % inner.length);
        let mut done = 0;
        while done < count {
            let length = (count - done).min((inner.length - at) as usize);
            let address = self.base.wrapping_add_signed(offset(outer, row) + inner.step * at as i64);
            run(address, inner.step, done, length)?;
            done += length;
            (row, at) = (row + 1, 0);
        }
        Ok(())
    }
}

/// How far row `row` of the outer axes is from the first.
fn offset(outer: &[Stride], mut row: u64) -> i64 {
    let mut offset = 0;
    for axis in outer.iter().rev() {
        offset += axis.step * (row % axis.length) as i64;
        row /= axis.length;
    }
    offset
}

/// Axes without those of length 1, each merged with the next where it continues it.
fn merged(axes: impl Iterator<Item = Stride>) -> Vec<Stride> {
    let mut merged: Vec<Stride> = Vec::new();
    for axis in axes.filter(|axis| axis.length != 1) {
        match merged.last_mut() {
            Some(outer) if outer.step == axis.step * axis.length as i64 => {
                *outer = Stride { length: outer.length * axis.length, step: axis.step };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// A reader of a dense buffer that the parts were poured into.
fn poured(dtype: DType, shape: &Shape, parts: Vec<Part>) -> Result<LeafReader, ExecuteError> {
    let bytes = shape.elements() * dtype.bytes();
    let mut buffer = BufferMut::try_new(bytes as usize).map_err(|_| ExecuteError::Memory { bytes })?;
    with_element!(dtype, T => {
        let target = buffer.elements_mut::<T>();
        parts.iter().try_for_each(|part| pour(part, shape, target))?;
    });
    let dense = merged(std::iter::once(Stride { length: shape.elements(), step: 1 }));
    Ok(LeafReader { walk: Walk { axes: dense, base: 0 }, values: Values::Memory(buffer.freeze()) })
}

/// Writes a part where it belongs in a dense block of `shape`.
fn pour<T: Element>(part: &Part, shape: &Shape, target: &mut [T]) -> Result<(), ExecuteError> {
    let inside = part.inside.shape();
    if part.inside.is_empty() {
        return Ok(());
    }
    // The target of a row of the part, by row number.
    let places: Vec<Stride> = inside
        .iter()
        .zip(shape.strides().iter())
        .map(|(&length, &step)| Stride { length, step: step as i64 })
        .collect();
    let first = shape.linear(&part.inside.start) as i64;
    let run = places.last().map_or(1, |axis| axis.length) as usize;
    let outer = &places[..places.len().saturating_sub(1)];
    for row in 0..inside.elements() / run as u64 {
        let to = (first + offset(outer, row)) as usize;
        let out = &mut target[to..to + run];
        part.walk.runs(row * run as u64, run, |at, step, done, length| {
            part.values.fill(at, step, &mut out[done..done + length])
        })?;
    }
    Ok(())
}
