//! Which blocks the blocks of a stage read, and which they are read by.
//!
//! Arithmetic on views and grids alone: nothing here looks at a program or knows what is computed.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{BlockCall, Body, Fold, Map, Piece, Source, Stage};
use crate::grid::Grid;
use crate::ids::ArrayId;
use crate::shape::{Region, Shape};
use crate::view::View;

/// A part of a block that a stage's block reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose block.
    pub array: ArrayId,
    /// Which block, in the array's block order.
    pub block: u64,
    /// Which field.
    pub field: u32,
    /// The part of the block, in its own coordinates; `None` for all of it (partials, relabelled blocks).
    pub region: Option<Region>,
    /// The leaf and piece that read; 0 and 0 for folds and relabels.
    pub leaf: u32,
    /// See `leaf`.
    pub piece: u32,
}

impl Stage {
    /// How many blocks it makes.
    pub fn blocks(&self) -> u64 {
        match &self.body {
            Body::Map(map) => map.grid.blocks(),
            Body::Fold(fold) => fold.kept.blocks() * fold.count.div_ceil(fold.fan_in),
            Body::Relabel(relabel) => relabel.grid.blocks(),
            Body::Block(BlockCall { output, .. }) => output.blocks(),
        }
    }

    /// The arrays it reads, each once, in order of first use.
    pub fn input_arrays(&self) -> Vec<ArrayId> {
        let (mut arrays, mut seen) = (Vec::new(), BTreeSet::new());
        let mut add = |array: ArrayId| arrays.extend(seen.insert(array).then_some(array));
        match &self.body {
            Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }) => {
                map.array_pieces().for_each(|(_, _, array, ..)| add(array))
            }
            Body::Fold(fold) => add(fold.input),
            Body::Relabel(relabel) => add(relabel.input),
        }
        arrays
    }

    /// What block `block` reads, in the order in which an executor expects its operands.
    pub fn reads(&self, block: u64) -> Vec<Read> {
        let whole = |array, block, field| Read { array, block, field, region: None, leaf: 0, piece: 0 };
        match &self.body {
            Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }) => map.reads(block),
            Body::Fold(fold) => fold.inputs(block).map(|index| whole(fold.input, index, 0)).collect(),
            Body::Relabel(relabel) => vec![whole(relabel.input, block, relabel.field)],
        }
    }

    /// Bytes of the part that a read of this stage is of; `None` where it is the whole block.
    pub fn bytes_read(&self, read: &Read) -> Option<u64> {
        match (&self.body, &read.region) {
            (Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }), Some(region)) => {
                Some(region.shape().elements() * map.leaves[read.leaf as usize].dtype.bytes())
            }
            (Body::Map(_) | Body::Block(_) | Body::Fold(_) | Body::Relabel(_), _) => None,
        }
    }

    /// The blocks that block `block` needs, as ranges of block indices per input array. A block may come twice.
    pub fn inputs(&self, block: u64) -> Vec<(ArrayId, Range<u64>)> {
        match &self.body {
            Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }) => map.inputs(block),
            Body::Fold(fold) => vec![(fold.input, fold.inputs(block))],
            Body::Relabel(relabel) => vec![(relabel.input, block..block + 1)],
        }
    }

    /// The blocks of this stage that need block `block` of `input`, as ranges. A block may come twice.
    pub fn consumers(&self, input: ArrayId, block: u64) -> Vec<Range<u64>> {
        match &self.body {
            Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }) => map.consumers(input, block),
            Body::Fold(fold) if fold.input == input => {
                let groups = fold.count.div_ceil(fold.fan_in);
                let at = block / fold.count * groups + block % fold.count / fold.fan_in;
                std::iter::once(at..at + 1).collect()
            }
            Body::Relabel(relabel) if relabel.input == input => std::iter::once(block..block + 1).collect(),
            Body::Fold(_) | Body::Relabel(_) => Vec::new(),
        }
    }

    /// Whether block `i` needs exactly block `i` of each input, for all `i`: then ranges map to themselves.
    pub fn is_blockwise(&self) -> bool {
        match &self.body {
            Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }) => map.is_blockwise(),
            Body::Fold(_) => false,
            Body::Relabel(_) => true,
        }
    }
}

impl Map {
    /// The axes in output order: kept ones first where there is a reduction.
    pub fn output_order(&self) -> Vec<usize> {
        let reduced = |axis: &usize| self.reduce.as_ref().is_some_and(|reduce| reduce.axes[*axis]);
        let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..self.grid.rank()).partition(reduced);
        [kept, reduced].concat()
    }

    /// The block index per axis of the space at `block` in output order.
    pub fn block_index(&self, block: u64) -> Shape {
        let order = self.output_order();
        let counts = self.grid.block_counts();
        let ordered = order.iter().map(|&axis| counts[axis]).collect::<Shape>().index_at(block);
        let mut index = Shape::zeros(order.len());
        order.iter().zip(ordered.iter()).for_each(|(&axis, &at)| index[axis] = at);
        index
    }

    /// The elements of the space that block `block` computes.
    pub fn region(&self, block: u64) -> Region {
        self.grid.region(&self.block_index(block))
    }

    /// (leaf, piece, array, field, grid, view) of every piece that reads blocks.
    fn array_pieces(&self) -> impl Iterator<Item = (u32, u32, ArrayId, u32, &Grid, &View)> {
        self.leaves.iter().enumerate().flat_map(|(leaf, value)| {
            value.pieces.iter().enumerate().filter_map(move |(piece, Piece { source, view })| match source {
                Source::Array { array, field, grid } => Some((leaf as u32, piece as u32, *array, *field, grid, view)),
                Source::Constant(_)
                | Source::Iota { .. }
                | Source::Linspace { .. }
                | Source::Random(_)
                | Source::Literal { .. }
                | Source::Npy(_) => None,
            })
        })
    }

    fn reads(&self, block: u64) -> Vec<Read> {
        let output = self.region(block);
        let mut reads = Vec::new();
        for (leaf, piece, array, field, grid, view) in self.array_pieces() {
            // A join may have thousands of members, of which a block reads few.
            if !view.domain.touches(&output) {
                continue;
            }
            let counts = grid.block_counts();
            for (index, part) in view.inputs(&output, grid) {
                let region = view.reads(&part).relative_to(&grid.region(&index).start);
                let block = counts.linear(&index);
                reads.push(Read { array, block, field, region: Some(region), leaf, piece });
            }
        }
        reads
    }

    fn inputs(&self, block: u64) -> Vec<(ArrayId, Range<u64>)> {
        let output = self.region(block);
        let mut inputs: Vec<(ArrayId, Range<u64>)> = Vec::new();
        for (_, _, array, _, grid, view) in self.array_pieces() {
            if !view.domain.touches(&output) {
                continue;
            }
            let counts = grid.block_counts();
            for (index, _) in view.inputs(&output, grid) {
                let at = counts.linear(&index);
                match inputs.last_mut() {
                    Some((last, range)) if *last == array && range.end == at => range.end += 1,
                    _ => inputs.push((array, at..at + 1)),
                }
            }
        }
        inputs
    }

    fn consumers(&self, input: ArrayId, block: u64) -> Vec<Range<u64>> {
        let order = self.output_order();
        let counts = self.grid.block_counts();
        let ordered: Shape = order.iter().map(|&axis| counts[axis]).collect();
        let mut consumers: Vec<Range<u64>> = Vec::new();
        for (_, _, array, _, grid, view) in self.array_pieces() {
            if array != input {
                continue;
            }
            let index = grid.block_counts().index_at(block);
            let blocks = view.consumers(&index, grid, &self.grid);
            let permuted = Region {
                start: order.iter().map(|&axis| blocks.start[axis]).collect(),
                end: order.iter().map(|&axis| blocks.end[axis]).collect(),
            };
            for run in permuted.runs(&ordered) {
                match consumers.last_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => consumers.push(run),
                }
            }
        }
        consumers
    }

    fn is_blockwise(&self) -> bool {
        let order = self.output_order();
        order.is_sorted()
            && self.array_pieces().all(|(.., grid, view)| {
                *grid == self.grid && view.is_identity() && view.domain.end == self.grid.shape()
            })
    }
}

impl Fold {
    /// The partials that block `block` combines.
    pub fn inputs(&self, block: u64) -> Range<u64> {
        let groups = self.count.div_ceil(self.fan_in);
        let (kept, group) = (block / groups, block % groups);
        let first = group * self.fan_in;
        kept * self.count + first..kept * self.count + (first + self.fan_in).min(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Item;
    use crate::dtype::DType;
    use crate::ids::{ClientId, KernelHash};
    use crate::stage::{ChunkStep, Leaf, Program, ReduceOp, Reduction};
    use crate::view::AxisRead;

    fn array(sequence: u64) -> ArrayId {
        ArrayId { client: ClientId(1), sequence }
    }

    /// `consumers` holds (input block, output block) exactly if `inputs` does.
    #[track_caller]
    fn check_inverse(stage: &Stage, input: ArrayId, input_blocks: u64) {
        let mut needed = Vec::new();
        for block in 0..stage.blocks() {
            for (_, range) in stage.inputs(block).into_iter().filter(|(array, _)| *array == input) {
                needed.extend(range.map(|index| (index, block)));
            }
        }
        let mut consumed: Vec<(u64, u64)> = Vec::new();
        for index in 0..input_blocks {
            consumed.extend(stage.consumers(input, index).into_iter().flatten().map(|block| (index, block)));
        }
        needed.sort();
        consumed.sort();
        assert_eq!(needed, consumed);
        assert!(!needed.is_empty());
    }

    fn stage(body: Body) -> Stage {
        Stage { array: array(0), body, outputs: vec![Item::Value(DType::F64)], bytes_output: 8, bytes_peak: 8 }
    }

    #[test]
    fn folds_group_aligned_neighbours() {
        let reduction = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] };
        let kept = Grid::regular(&Shape::new(&[4]).unwrap(), &[2]);
        let fold = Fold { input: array(1), reduction, kept, count: 10, fan_in: 4, finish: false };
        assert_eq!((fold.inputs(0), fold.inputs(2), fold.inputs(3)), (0..4, 8..10, 10..14));
        let stage = stage(Body::Fold(fold));
        assert_eq!(stage.blocks(), 6);
        check_inverse(&stage, array(1), 20);
    }

    #[test]
    fn reductions_read_their_space_in_output_order() {
        let grid = Grid::regular(&Shape::new(&[4, 6]).unwrap(), &[2, 2]);
        let source = Source::Array { array: array(1), field: 0, grid: grid.clone() };
        let view = View::identity(&grid.shape());
        let reduction = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] };
        let map = |axes: [bool; 2]| Map {
            grid: grid.clone(),
            leaves: vec![Leaf {
                dtype: DType::F64,
                pieces: vec![Piece { source: source.clone(), view: view.clone() }],
            }],
            program: Program::identity(),
            reduce: Some(ChunkStep { reduction: reduction.clone(), axes: axes.to_vec(), finish: false }),
        };
        let first = stage(Body::Map(map([true, false])));
        assert_eq!(first.inputs(1), vec![(array(1), 3..4)]);
        assert!(!first.is_blockwise());
        check_inverse(&first, array(1), 6);
        let last = stage(Body::Map(map([false, true])));
        assert!(last.is_blockwise());
        check_inverse(&last, array(1), 6);
    }

    #[test]
    fn the_readers_of_what_is_broadcast_are_few_ranges() {
        let (grid, row) = (Grid::regular(&Shape::new(&[4, 6]).unwrap(), &[1, 2]), Shape::new(&[6]).unwrap());
        let source = Source::Array { array: array(1), field: 0, grid: Grid::single(&row) };
        let axes = vec![AxisRead::Along { axis: 1, start: 0, step: 1 }];
        let view = View { domain: Region::whole(&grid.shape()), axes };
        let leaves = vec![Leaf { dtype: DType::F64, pieces: vec![Piece { source, view }] }];
        let stage = stage(Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None }));
        assert_eq!(stage.consumers(array(1), 0), vec![0..12]);
        check_inverse(&stage, array(1), 1);
    }

    #[test]
    fn a_block_kernel_reads_what_its_inputs_do() {
        let grid = Grid::regular(&Shape::new(&[4, 6]).unwrap(), &[2, 2]);
        let source = Source::Array { array: array(1), field: 0, grid: grid.clone() };
        let piece = Piece { source, view: View::identity(&grid.shape()) };
        let leaves = vec![Leaf { dtype: DType::F64, pieces: vec![piece] }];
        let inputs = Map { grid, leaves, program: Program::identity(), reduce: None };
        let output = Grid::regular(&Shape::new(&[2, 15]).unwrap(), &[1, 5]);
        let stage = stage(Body::Block(BlockCall { inputs, kernel: KernelHash([0; 32]), output }));
        assert_eq!((stage.blocks(), stage.is_blockwise(), stage.input_arrays()), (6, true, vec![array(1)]));
        assert_eq!(stage.reads(4).len(), 1);
        check_inverse(&stage, array(1), 6);
    }
}
