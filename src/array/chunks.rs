//! How arrays are cut when nobody says, and how cuts follow views and broadcasts.
//!
//! All of it is a function of shapes, dtypes and the operands' own cuts; nothing here knows a cluster.

use gridloom_worker::dtype::DType;
use gridloom_worker::grid::{AxisGrid, Grid, Segment};
use gridloom_worker::shape::Shape;

use super::{Array, ArrayError};

/// The largest block that "auto" makes, in bytes.
pub const AUTO_BLOCK_BYTES_MAX: u64 = 128 << 20;
/// "auto" does not make more blocks than [`AUTO_BLOCKS_MIN`] by making them smaller than this, in bytes.
pub const AUTO_BLOCK_BYTES_MIN: u64 = 4 << 20;
/// How many blocks "auto" wants at least, so that there is work for many slots.
pub const AUTO_BLOCKS_MIN: u64 = 512;

/// The "auto" grid: a function of shape and dtype only.
///
/// A block may have `bytes / 512` of the array's bytes, but at least 4 MiB and at most 128 MiB. That room is filled
/// with whole axes from the last one on. The first axis that does not fit whole is cut into the fewest chunks that fit,
/// as equal as they can be (the last one may be shorter); every axis before it is cut into single elements.
///
/// ```
/// use gridloom::array::auto_grid;
/// use gridloom_worker::{dtype::DType, shape::Shape};
/// let shape = Shape::new(&[1000, 1000, 1000]).unwrap();
/// assert_eq!(auto_grid(&shape, DType::F64).to_string(), "[1x1000, 1000, 1000]");
/// ```
pub fn auto_grid(shape: &Shape, dtype: DType) -> Grid {
    let bytes = shape.elements().saturating_mul(dtype.bytes());
    let block_bytes = (bytes / AUTO_BLOCKS_MIN).clamp(AUTO_BLOCK_BYTES_MIN, AUTO_BLOCK_BYTES_MAX);
    let mut room = block_bytes / dtype.bytes();
    let mut axes = Vec::with_capacity(shape.rank());
    for &length in shape.iter().rev() {
        let chunks = length.div_ceil(room).max(1);
        let chunk = length.div_ceil(chunks).max(1);
        axes.push(AxisGrid::regular(length, chunk));
        // An axis that was cut leaves no room for the ones before it.
        room = if chunks > 1 { 1 } else { (room / chunk).max(1) };
    }
    axes.reverse();
    Grid { axes }
}

/// The grid of explicit chunks: one entry per axis, clipped to it; -1 is the whole axis.
pub(super) fn explicit_grid(shape: &Shape, chunks: &[i128]) -> Result<Grid, ArrayError> {
    if chunks.len() != shape.rank() {
        return Err(ArrayError::EntryCount { what: "chunks", given: chunks.len(), rank: shape.rank() });
    }
    let axes = shape.iter().zip(chunks).map(|(&length, &chunk)| match chunk {
        -1 => Ok(AxisGrid::regular(length, length)),
        1.. => Ok(AxisGrid::regular(length, u64::try_from(chunk).unwrap_or(u64::MAX))),
        _ => Err(ArrayError::Chunk { chunk }),
    });
    Ok(Grid { axes: axes.collect::<Result<_, _>>()? })
}

/// A grid, and whether "auto" rules made it (then it yields to one that somebody chose).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) grid: Grid,
    pub(crate) auto: bool,
}

impl Cut {
    /// [`auto_grid`].
    pub(super) fn auto(shape: &Shape, dtype: DType) -> Cut {
        Cut { grid: auto_grid(shape, dtype), auto: true }
    }
}

/// The cut of what `operands` broadcast to.
///
/// Each axis is cut as the leading operand that has it in full: chosen cuts lead automatic ones, then larger arrays
/// lead smaller ones, then the first leads. If blocks larger than 128 MiB and than any operand's would come of mixing,
/// the cut is "auto".
pub(super) fn broadcast_cut(operands: &[&Array], shape: &Shape, dtype: DType) -> Cut {
    let leaders = by_rank_of_cut(operands);
    let axes = shape.iter().enumerate().map(|(axis, &length)| {
        let full = leaders.iter().find_map(|operand| {
            let own = (axis + operand.rank()).checked_sub(shape.rank())?;
            (operand.shape()[own] == length).then(|| operand.grid().axes[own].clone())
        });
        full.unwrap_or_else(|| AxisGrid::regular(length, length))
    });
    let grid = Grid { axes: axes.collect() };
    let auto = leaders.first().is_none_or(|first| first.cut().auto);
    fitted(Cut { grid, auto }, operands, shape, dtype)
}

/// The cut of `parts` joined on `axis`: their segments one after the other; elsewhere as the leading part. No block
/// straddles a seam, also where that would make them too large and they are cut as "auto" does.
pub(super) fn joined_cut(parts: &[&Array], axis: usize, shape: &Shape, dtype: DType) -> Cut {
    let leader = by_rank_of_cut(parts)[0];
    let mut cut = Cut { grid: leader.grid().clone(), auto: leader.cut().auto };
    cut.grid.axes[axis] = appended(parts.iter().map(|part| part.grid().axes[axis].clone()));
    if !fits(&cut.grid, parts, dtype) {
        cut = Cut::auto(shape, dtype);
        let chunk = cut.grid.axes[axis].chunk_max();
        cut.grid.axes[axis] = appended(parts.iter().map(|part| AxisGrid::regular(part.shape()[axis], chunk)));
    }
    cut
}

fn appended(axes: impl Iterator<Item = AxisGrid>) -> AxisGrid {
    axes.flat_map(Vec::<Segment>::from).collect::<Vec<Segment>>().into()
}

fn by_rank_of_cut<'a>(operands: &[&'a Array]) -> Vec<&'a Array> {
    let mut leaders = operands.to_vec();
    leaders.sort_by_key(|operand| (operand.cut().auto, std::cmp::Reverse(operand.shape().elements())));
    leaders
}

/// "auto" instead of `cut` if mixing made its blocks too large.
pub(super) fn fitted(cut: Cut, operands: &[&Array], shape: &Shape, dtype: DType) -> Cut {
    if fits(&cut.grid, operands, dtype) { cut } else { Cut::auto(shape, dtype) }
}

/// Whether no block is larger than both what "auto" would make and the operands' own.
fn fits(grid: &Grid, operands: &[&Array], dtype: DType) -> bool {
    let elements = grid.block_elements_max();
    let known = operands.iter().map(|operand| operand.grid().block_elements_max()).max().unwrap_or(0);
    elements.saturating_mul(dtype.bytes()) <= AUTO_BLOCK_BYTES_MAX || elements <= known
}

/// How an axis is cut after `count` of its elements were taken from `first` on, `step` apart.
///
/// Chunk boundaries stay where they are, so that a block reads one block; where the step does not divide a segment's
/// chunks, they are cut afresh into chunks of about as many elements. The size is that of the segments, not of the
/// blocks.
pub(super) fn sliced_axis(axis: &AxisGrid, first: u64, step: i64, count: u64) -> AxisGrid {
    if count == 0 {
        return AxisGrid::regular(0, 1);
    }
    let stride = step.unsigned_abs();
    let low = if step > 0 { first } else { first - (count - 1) * stride };
    let mut segments = Vec::new();
    let mut start = 0;
    for segment in axis.segments() {
        let end = start + segment.chunk * segment.count;
        let taken = |until: u64| until.saturating_sub(low).div_ceil(stride).min(count);
        let (skipped, elements) = (taken(start), taken(end) - taken(start));
        if elements > 0 {
            let offset = low + skipped * stride - start;
            segments.extend(sliced_segment(segment.chunk, segment.count, offset, stride, elements));
        }
        start = end;
    }
    if step < 0 {
        segments.reverse();
    }
    segments.into()
}

/// `elements` elements, `stride` apart, from `offset` on, out of `count` chunks of `chunk`.
fn sliced_segment(chunk: u64, count: u64, offset: u64, stride: u64, elements: u64) -> Vec<Segment> {
    if count > 1 && !chunk.is_multiple_of(stride) {
        return AxisGrid::regular(elements, chunk.div_ceil(stride)).segments().to_vec();
    }
    let head = (chunk - offset % chunk).div_ceil(stride).min(elements);
    let whole = (chunk / stride).max(1);
    let (full, tail) = ((elements - head) / whole, (elements - head) % whole);
    let one = |chunk| Segment { chunk, count: 1 };
    vec![one(head), Segment { chunk: whole, count: full }, one(tail)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_auto(lengths: &[u64], dtype: DType, expected: &str) {
        assert_eq!(auto_grid(&Shape::new(lengths).unwrap(), dtype).to_string(), expected);
    }

    #[test]
    fn auto_is_whole_trailing_axes_first() {
        check_auto(&[], DType::F64, "[]");
        check_auto(&[0], DType::F64, "[]");
        check_auto(&[10, 10], DType::F64, "[10, 10]");
        // 4 MiB of f64 are 524,288 elements.
        check_auto(&[524_288], DType::F64, "[524288]");
        check_auto(&[524_289], DType::F64, "[262145+262144]");
        check_auto(&[10_000, 10_000], DType::F64, "[52x192+16, 10000]");
        check_auto(&[10_000, 1000, 1000], DType::F64, "[16x625, 1000, 1000]");
        check_auto(&[3, 1 << 30], DType::F32, "[1x3, 6279192x170+6279184]");
    }

    #[test]
    fn auto_keeps_its_bounds() {
        for lengths in [vec![1u64 << 36], vec![7, 1 << 33], vec![1 << 20, 1 << 16], vec![100, 100, 100, 1000]] {
            let shape = Shape::new(&lengths).unwrap();
            for dtype in DType::ALL {
                let grid = auto_grid(&shape, dtype);
                assert_eq!(grid.shape(), shape);
                let block = grid.block_elements_max() * dtype.bytes();
                assert!(block <= AUTO_BLOCK_BYTES_MAX);
                let bytes = shape.elements() * dtype.bytes();
                assert!(grid.blocks() >= AUTO_BLOCKS_MIN || bytes < AUTO_BLOCKS_MIN * AUTO_BLOCK_BYTES_MIN, "{grid}");
            }
        }
    }

    #[test]
    fn explicit_chunks_are_clipped_and_checked() {
        let shape = Shape::new(&[10, 7]).unwrap();
        assert_eq!(explicit_grid(&shape, &[4, 100]).unwrap().to_string(), "[4x2+2, 7]");
        assert_eq!(explicit_grid(&shape, &[-1, 2]).unwrap().to_string(), "[10, 2x3+1]");
        assert_eq!(explicit_grid(&shape, &[0, 1]), Err(ArrayError::Chunk { chunk: 0 }));
        assert!(matches!(explicit_grid(&shape, &[1]), Err(ArrayError::EntryCount { given: 1, rank: 2, .. })));
    }

    #[test]
    fn slices_keep_chunk_boundaries() {
        let axis = AxisGrid::regular(100, 10);
        assert_eq!(sliced_axis(&axis, 5, 1, 90).to_string(), "5+10x8+5");
        assert_eq!(sliced_axis(&axis, 94, -1, 90).to_string(), "5+10x8+5");
        assert_eq!(sliced_axis(&axis, 1, 2, 50).to_string(), "5x10");
        assert_eq!(sliced_axis(&axis, 0, 3, 34).to_string(), "4x8+2");
        assert_eq!(sliced_axis(&axis, 0, 50, 2).to_string(), "1x2");
        assert_eq!(sliced_axis(&axis, 7, 1, 0).to_string(), "");
    }

    proptest! {
        #[test]
        fn sliced_axes_have_their_elements_and_aligned_ones_read_one_chunk(
            chunk in 1u64..9, count in 1u64..9, rest in 0u64..8, at in any::<[u16; 2]>(),
            step in prop::sample::select(vec![-4i64, -2, -1, 1, 2, 3]),
        ) {
            let axis = AxisGrid::regular(chunk * count + rest.min(chunk - 1), chunk);
            let (length, stride) = (axis.length(), step.unsigned_abs());
            let low = u64::from(at[0]) % length;
            let taken = 1 + u64::from(at[1]) % ((length - low - 1) / stride + 1);
            let first = if step > 0 { low } else { low + (taken - 1) * stride };
            let sliced = sliced_axis(&axis, first, step, taken);
            prop_assert_eq!(sliced.length(), taken);
            prop_assert!(sliced.segments().len() <= 3 * axis.segments().len());
            if chunk % stride == 0 {
                for block in 0..sliced.blocks() {
                    let range = sliced.range(block);
                    let of = |element: u64| axis.block_of((first as i64 + step * element as i64) as u64);
                    prop_assert_eq!(of(range.start), of(range.end - 1));
                }
            }
        }
    }
}
