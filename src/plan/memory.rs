//! How much memory a block takes, and what is refused for taking too much anywhere. What is too much for the workers
//! that there are, the scheduler refuses: a plan knows none.
//!
//! `bytes_output` is the largest output block, all fields. `bytes_peak` is what a block in flight may take on the host:
//! the parts of other blocks that it reads, once more where they are gathered from several blocks, the accumulators of
//! a reduction, and the output. Tiles of the fused program are the executor's own and as small as a cache.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gridloom_worker::block::{BLOCK_BYTES_MAX, Item};
use gridloom_worker::grid::{AxisGrid, Grid};
use gridloom_worker::ids::ArrayId;
use gridloom_worker::stage::{Body, Leaf, Map, Piece, Source, Stage};
use gridloom_worker::view::{AxisRead, View};

use super::PlanError;

/// The most blocks that one block gathers from.
pub const FAN_IN_MAX: u64 = 1024;
/// How many blocks of each segment are looked at to find the largest fan-in: neighbours repeat soon.
const BLOCKS_LOOKED_AT: usize = 64;

/// A stage with its bytes, unless a block of it is too large. `operands` is what it reads at most.
pub(super) fn stage(
    array: ArrayId,
    body: Body,
    output: &Grid,
    outputs: Vec<Item>,
    operands: u64,
) -> Result<Stage, PlanError> {
    let elements = output.block_elements_max();
    let field = |item: &Item| elements.saturating_mul(item.bytes());
    let largest = outputs.iter().map(field).max().unwrap_or(0);
    if largest > BLOCK_BYTES_MAX {
        return Err(PlanError::BlockTooLarge { array, grid: output.to_string(), bytes: largest, max: BLOCK_BYTES_MAX });
    }
    let bytes_output = outputs.iter().map(field).fold(0, u64::saturating_add);
    Ok(Stage { array, body, outputs, bytes_output, bytes_peak: bytes_output.saturating_add(operands) })
}

/// Refuses a space with blocks that could not be bound as what is read or made there.
pub(super) fn check_space(array: ArrayId, map: &Map, outputs: &[Item]) -> Result<(), PlanError> {
    let made = outputs.iter().filter_map(|item| match item {
        Item::Value(dtype) => Some(dtype.bytes()),
        Item::Partial { .. } => None,
    });
    let widest = map.leaves.iter().map(|leaf| leaf.dtype.bytes()).chain(made).max().unwrap_or(0);
    let bytes = map.grid.block_elements_max().saturating_mul(widest);
    match bytes > BLOCK_BYTES_MAX {
        true => Err(PlanError::BlockTooLarge { array, grid: map.grid.to_string(), bytes, max: BLOCK_BYTES_MAX }),
        false => Ok(()),
    }
}

/// The bytes that the largest block of a map reads, unless one of its leaves gathers too many blocks.
pub(super) fn operands(array: ArrayId, map: &Map) -> Result<u64, PlanError> {
    let mut bytes = 0u64;
    for leaf in &map.leaves {
        let blocks = fan_in(leaf, &map.grid);
        if blocks > FAN_IN_MAX {
            return Err(PlanError::FanIn { array, grid: map.grid.to_string(), blocks, max: FAN_IN_MAX });
        }
        let read = elements_read(leaf, &map.grid).saturating_mul(leaf.dtype.bytes());
        let gathered = if is_one_block(leaf, &map.grid) { read } else { read.saturating_mul(2) };
        bytes = bytes.saturating_add(gathered);
    }
    Ok(bytes)
}

fn arrays(leaf: &Leaf) -> impl Iterator<Item = (&Grid, &View)> {
    leaf.pieces.iter().filter_map(|Piece { source, view }| match source {
        Source::Array { grid, .. } => Some((grid, view)),
        _ => None,
    })
}

fn is_one_block(leaf: &Leaf, space: &Grid) -> bool {
    arrays(leaf).all(|(grid, view)| grid == space && view.is_identity())
}

/// How many elements of stored arrays the largest block reads, with those between the steps of a view.
fn elements_read(leaf: &Leaf, space: &Grid) -> u64 {
    // The members of a join share the block, so that all together read no more than the block through the widest steps.
    let shared = arrays(leaf).map(|(_, view)| {
        let steps = view.axes.iter().map(|read| match read {
            AxisRead::Fixed(_) => 1,
            AxisRead::Along { step, .. } => step.unsigned_abs(),
        });
        steps.fold(space.block_elements_max(), u64::saturating_mul)
    });
    let hulls = arrays(leaf).map(|(grid, view)| hull(grid, view, space));
    hulls.fold(0, u64::saturating_add).min(shared.max().unwrap_or(0))
}

/// The elements between the first and the last that a block reads of one array.
fn hull(grid: &Grid, view: &View, space: &Grid) -> u64 {
    let axes = view.axes.iter().zip(&grid.axes).map(|(read, axis)| match read {
        AxisRead::Fixed(_) => 1,
        AxisRead::Along { axis: along, step, .. } => {
            let chunk = space.axes[usize::from(*along)].chunk_max();
            let span = chunk.saturating_sub(1).saturating_mul(step.unsigned_abs()).saturating_add(1);
            span.min(axis.length())
        }
    });
    axes.fold(1, u64::saturating_mul)
}

/// How many blocks a block reads at most.
fn fan_in(leaf: &Leaf, space: &Grid) -> u64 {
    // Per piece and axis of the space, how many blocks each of the space's blocks reads along it.
    let pieces = arrays(leaf).map(|(grid, view)| {
        let along = |axis: usize| blocks_read(&space.axes[axis], domain(view, axis), &inputs(grid, view, axis));
        (0..space.rank()).map(along).collect::<Vec<_>>()
    });
    let pieces: Vec<Vec<Vec<(u64, u64)>>> = pieces.collect();
    let most = |blocks: &Vec<(u64, u64)>| blocks.iter().map(|&(_, read)| read).max().unwrap_or(0);
    let most_but = |piece: &[Vec<(u64, u64)>], but: Option<usize>| {
        let others = piece.iter().enumerate().filter(|&(axis, _)| Some(axis) != but);
        others.map(|(_, blocks)| most(blocks)).fold(1, u64::saturating_mul)
    };
    // Pieces that a block touches lie apart on one of the axes, and are counted together where they meet on it.
    let together = (0..space.rank()).map(|axis| {
        let mut read_by: BTreeMap<u64, u64> = BTreeMap::new();
        for piece in &pieces {
            let others = most_but(piece, Some(axis));
            for &(block, read) in &piece[axis] {
                let sum = read_by.entry(block).or_default();
                *sum = sum.saturating_add(read.saturating_mul(others));
            }
        }
        read_by.into_values().max().unwrap_or(0)
    });
    let all = pieces.iter().map(|piece| most_but(piece, None)).fold(0, u64::saturating_add);
    together.fold(all, u64::min)
}

fn domain(view: &View, axis: usize) -> Range<u64> {
    view.domain.start[axis]..view.domain.end[axis]
}

/// The input axes that are read along an axis of the space, each with its start and step.
fn inputs<'a>(grid: &'a Grid, view: &View, axis: usize) -> Vec<(&'a AxisGrid, i64, i64)> {
    let reads = view.axes.iter().zip(&grid.axes).filter_map(|(read, input)| match *read {
        AxisRead::Along { axis: along, start, step } if usize::from(along) == axis => Some((input, start, step)),
        AxisRead::Along { .. } | AxisRead::Fixed(_) => None,
    });
    reads.collect()
}

/// How many input blocks are read by the blocks of one axis that touch `domain`: not by all of them, but by those at
/// which it changes.
fn blocks_read(space: &AxisGrid, domain: Range<u64>, inputs: &[(&AxisGrid, i64, i64)]) -> Vec<(u64, u64)> {
    let read_by = |block: u64| {
        let range = space.range(block);
        let (low, high) = (range.start.max(domain.start), range.end.min(domain.end));
        let blocks = inputs.iter().map(|&(input, start, step)| {
            let at = |element: u64| (start + step * element as i64) as u64;
            let (a, b) = (at(low), at(high - 1));
            let blocks = input.blocks_of(a.min(b)..a.max(b) + 1);
            blocks.end - blocks.start
        });
        (block, blocks.fold(1, u64::saturating_mul))
    };
    looked_at(space, &domain, inputs).into_iter().map(read_by).collect()
}

/// The first and the last blocks of `domain` and of each segment in it, and those that read the ends and the middle of
/// an input's segments.
fn looked_at(space: &AxisGrid, domain: &Range<u64>, inputs: &[(&AxisGrid, i64, i64)]) -> BTreeSet<u64> {
    let (touched, mut looked_at) = (space.blocks_of(domain.clone()), BTreeSet::new());
    if touched.is_empty() {
        return looked_at;
    }
    let mut first = 0;
    for segment in space.segments() {
        let blocks = first.max(touched.start)..(first + segment.count).min(touched.end);
        looked_at.extend(blocks.clone().take(BLOCKS_LOOKED_AT));
        looked_at.extend(blocks.last());
        first += segment.count;
    }
    for &(input, start, step) in inputs {
        let mut first = 0;
        for segment in input.segments() {
            let length = segment.chunk * segment.count;
            for element in [first, first + length / 2, first + length - 1] {
                let Some(reader) = (element as i64 - start).checked_div(step) else { continue };
                let reader = (reader.max(0) as u64).clamp(domain.start, domain.end - 1);
                looked_at.insert(space.block_of(reader));
            }
            first += length;
        }
    }
    looked_at
}

#[cfg(test)]
mod tests {
    use gridloom_worker::dtype::DType;
    use gridloom_worker::grid::Segment;
    use gridloom_worker::ids::ClientId;
    use gridloom_worker::shape::Shape;

    use super::*;

    fn axis(segments: &[(u64, u64)]) -> AxisGrid {
        segments.iter().map(|&(chunk, count)| Segment { chunk, count }).collect::<Vec<_>>().into()
    }

    /// The fan-in of arrays that stand one after the other along the one axis of a space.
    #[track_caller]
    fn check(space: AxisGrid, members: &[AxisGrid], expected: u64) {
        let whole = Shape::new(&[space.length()]).unwrap();
        let mut start = 0;
        let pieces = members.iter().map(|member| {
            let array = ArrayId { client: ClientId(1), sequence: start };
            let mut view = View::identity(&whole);
            (view.domain.start, view.domain.end) =
                ([start].into_iter().collect(), [start + member.length()].into_iter().collect());
            view.axes = vec![AxisRead::Along { axis: 0, start: -(start as i64), step: 1 }];
            start += member.length();
            Piece { source: Source::Array { array, field: 0, grid: Grid { axes: vec![member.clone()] } }, view }
        });
        let leaf = Leaf { dtype: DType::F32, pieces: pieces.collect() };
        assert_eq!(fan_in(&leaf, &Grid { axes: vec![space] }), expected);
    }

    #[test]
    fn the_largest_fan_in_is_found_wherever_it_is() {
        check(AxisGrid::regular(1000, 10), &[AxisGrid::regular(1000, 10)], 1);
        check(AxisGrid::regular(1000, 10), &[AxisGrid::regular(1000, 4)], 3);
        check(AxisGrid::regular(1_000_000, 2000), &[axis(&[(2000, 250), (1, 2000), (2000, 249)])], 2000);
        check(AxisGrid::regular(1800, 1800), &vec![AxisGrid::regular(600, 1); 3], 1800);
        let first_is_whole = [vec![axis(&[(2000, 1)])], vec![axis(&[(1, 1)]); 2000]].concat();
        check(AxisGrid::regular(4000, 2000), &first_is_whole, 2000);
    }
}
