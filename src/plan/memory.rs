//! How much memory a block takes, and what is refused for taking too much anywhere. What is too much for the workers
//! that there are, the scheduler refuses: a plan knows none.
//!
//! `bytes_output` is the largest output block, all fields. `bytes_peak` is what a block in flight may take on the host:
//! the parts of other blocks that it reads, once more where they are gathered from several blocks, the accumulators of
//! a reduction, and the output. Tiles of the fused program are the executor's own and as small as a cache.

use gridloom_worker::block::{BLOCK_BYTES_MAX, Item};
use gridloom_worker::grid::{AxisGrid, Grid};
use gridloom_worker::ids::ArrayId;
use gridloom_worker::stage::{Body, Leaf, Map, Piece, Source, Stage};
use gridloom_worker::view::{AxisRead, View};

use super::PlanError;

/// The most blocks that one block gathers from.
pub const FAN_IN_MAX: u64 = 1024;
/// How many blocks of each segment are looked at to find the largest fan-in: neighbours repeat soon.
const BLOCKS_LOOKED_AT: u64 = 64;

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
    let of_piece = |(grid, view): (&Grid, &View)| {
        let axes = view.axes.iter().zip(&grid.axes).map(|(read, axis)| match *read {
            AxisRead::Fixed(_) => 1,
            AxisRead::Along { axis: along, start, step } => {
                let along = usize::from(along);
                let domain = view.domain.start[along]..view.domain.end[along];
                axis_fan_in(&space.axes[along], domain, axis, start, step)
            }
        });
        axes.fold(1, u64::saturating_mul)
    };
    let widest = arrays(leaf).map(of_piece).max().unwrap_or(0);
    // A block may lie over several members: the first one tells how many.
    let first = match space.blocks() {
        0 => return 0,
        _ => space.region(&gridloom_worker::shape::Shape::zeros(space.rank())),
    };
    let touched = arrays(leaf).filter(|(_, view)| !first.intersect(&view.domain).is_empty());
    widest.max(touched.count() as u64)
}

fn axis_fan_in(space: &AxisGrid, domain: std::ops::Range<u64>, input: &AxisGrid, start: i64, step: i64) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for segment in space.segments() {
        let looked_at = (first..first + segment.count.min(BLOCKS_LOOKED_AT)).chain([first + segment.count - 1]);
        for block in looked_at {
            let range = space.range(block);
            let (low, high) = (range.start.max(domain.start), range.end.min(domain.end));
            if low < high {
                let at = |element: u64| (start + step * element as i64) as u64;
                let (a, b) = (at(low), at(high - 1));
                let blocks = input.blocks_of(a.min(b)..a.max(b) + 1);
                most = most.max(blocks.end - blocks.start);
            }
        }
        first += segment.count;
    }
    most
}
