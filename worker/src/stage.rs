//! What a worker is asked to do: stages, as plain data.
//!
//! A stage is one fused computation over a whole grid. It names its inputs and how it reads them, the element program,
//! and a reduction or none. Its size never depends on the number of its blocks. From it follows, by arithmetic alone,
//! which blocks an output block needs ([`Stage::inputs`]) and which need an input block ([`Stage::consumers`]): exact
//! inverses of each other.
//!
//! Blocks of a stage are numbered row-major in its *output order*: for a map the grid's own order; for a reduction the
//! kept axes first, then the reduced ones, so that the partials of one result are neighbours.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::block::Item;
use crate::dtype::{DType, Scalar};
use crate::grid::Grid;
use crate::ids::{ArrayId, KernelHash};
use crate::shape::{Region, Shape};
use crate::view::View;

/// How many neighbouring partials one fold block combines. A power of two, so that folding aligned groups is folding
/// the aligned binary tree, bit for bit.
pub const FOLD_FAN_IN: u64 = 64;

/// One fused computation over a whole grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The array it makes.
    pub array: ArrayId,
    /// What is computed.
    pub body: Body,
    /// One per field of a block; several where a kernel returns a struct.
    pub outputs: Vec<Item>,
    /// Bytes of the largest output block, all fields.
    pub bytes_output: u64,
    /// Host bytes a block in flight may take: operands, scratch and output.
    pub bytes_peak: u64,
}

/// What a stage computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Element program over leaves, then perhaps the chunk step of a reduction.
    Map(Map),
    /// One level of a reduction's tree above the blocks.
    Fold(Fold),
    /// The blocks of another array under another shape: same bytes, same order.
    Relabel(Relabel),
}

/// An element program over a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// The element space: what `At` tells a kernel, and what the views read from.
    pub grid: Grid,
    /// The inputs.
    pub leaves: Vec<Leaf>,
    /// From leaves to results.
    pub program: Program,
    /// The chunk step of a reduction over the results, or none.
    pub reduce: Option<ChunkStep>,
}

/// One input of an element program: a value per element of the space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaf {
    /// What the program sees.
    pub dtype: DType,
    /// One, or the members of a concatenation: their domains are disjoint and cover the space.
    pub pieces: Vec<Piece>,
}

/// A source and how the space reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Where values come from. Its dtype is the leaf's.
    pub source: Source,
    /// How the space reads the source's array.
    pub view: View,
}

/// Where a leaf's values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// Blocks that some worker holds.
    Array {
        /// Which array.
        array: ArrayId,
        /// Which field of its blocks.
        field: u32,
        /// How it is cut.
        grid: Grid,
    },
    /// One value everywhere (rank 0 or any rank).
    Constant(Scalar),
    /// `start + i * step` for row-major index `i`, in the dtype of both. Integers wrap.
    Iota {
        /// The first value.
        start: Scalar,
        /// The difference.
        step: Scalar,
        /// The array's own shape, before any view: what makes an index row-major.
        shape: Shape,
    },
    /// NumPy's `linspace`: `start + i * step` for row-major index `i`, but the element at `last` is `stop` exactly.
    Linspace {
        /// The first value.
        start: f64,
        /// The value at `last`.
        stop: f64,
        /// The difference.
        step: f64,
        /// The index that gets `stop`; `u64::MAX` where the end point is left out.
        last: u64,
        /// The array's own shape, before any view: what makes an index row-major.
        shape: Shape,
    },
    /// Counter-based random numbers, indexed in the array's own row-major order.
    Random(Random),
    /// Values that travel with the plan (small ones), C order.
    Literal {
        /// Their shape.
        shape: Shape,
        /// Little-endian, as stored.
        #[serde(with = "serde_bytes_arc")]
        bytes: std::sync::Arc<[u8]>,
    },
    /// A `.npy` file that the worker reads.
    Npy(NpyFile),
}

/// A random array: Philox4x32-10, key = `seed`, counter = (group, `stream`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    /// Which numbers.
    pub distribution: Distribution,
    /// f32, f64, or u32 (the raw words).
    pub dtype: DType,
    /// The array's own shape, before any view.
    pub shape: Shape,
    /// The key.
    pub seed: u64,
    /// The high half of the counter.
    pub stream: u64,
}

/// Which random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// [0, 1) for floats, all values for u32.
    Uniform,
    /// Mean 0, variance 1; floats only.
    Normal,
}

/// A `.npy` file as the client saw it; a worker that opens it checks that it still is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NpyFile {
    /// Absolute path.
    pub path: std::path::PathBuf,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// SHA-256 of the header.
    pub header: [u8; 32],
    /// Where the values begin.
    pub offset: u64,
    /// How they are stored.
    pub stored: Stored,
    /// Whether their bytes are in big-endian order.
    pub big_endian: bool,
    /// The array's shape.
    pub shape: Shape,
    /// Whether the values are in Fortran order.
    pub fortran: bool,
}

/// Storage dtypes of files; they are converted on the way in and out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Stored {
    F16,
    F32,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    /// One byte, 0 or 1.
    Bool,
}

impl Stored {
    /// Bytes of one value in a file.
    pub const fn bytes(self) -> u64 {
        match self {
            Stored::I8 | Stored::U8 | Stored::Bool => 1,
            Stored::F16 | Stored::I16 | Stored::U16 => 2,
            Stored::F32 | Stored::I32 | Stored::U32 => 4,
            Stored::F64 | Stored::I64 | Stored::U64 => 8,
        }
    }

    /// The compute dtype that such values are read as: the narrowest that holds them all.
    pub const fn dtype(self) -> DType {
        match self {
            Stored::F16 | Stored::F32 => DType::F32,
            Stored::F64 => DType::F64,
            Stored::I8 | Stored::I16 | Stored::I32 => DType::I32,
            Stored::U8 | Stored::U16 | Stored::U32 => DType::U32,
            Stored::I64 => DType::I64,
            Stored::U64 => DType::U64,
            Stored::Bool => DType::Bool,
        }
    }
}

/// The element program: kernels applied in order. Empty steps with `results = [Leaf(0)]` is the identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Program {
    /// Kernel calls, each using leaves and earlier steps.
    pub steps: Vec<Step>,
    /// What the program yields per element.
    pub results: Vec<Value>,
}

impl Program {
    /// Hands leaf 0 through.
    pub fn identity() -> Program {
        Program { steps: Vec::new(), results: vec![Value::Leaf(0)] }
    }

    /// Whether nothing is computed.
    pub fn is_identity(&self) -> bool {
        *self == Program::identity()
    }
}

/// One kernel call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// An element kernel, whose parameters are exactly the arguments' dtypes (conversions are steps of their own).
    pub kernel: KernelHash,
    /// One per parameter, without `At`.
    pub arguments: Vec<Value>,
}

/// A value inside a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// What leaf `.0` holds here.
    Leaf(u32),
    /// Field `field` of what step `step` returned.
    Step {
        /// Index of an earlier step.
        step: u32,
        /// 0 unless the kernel returns a struct.
        field: u32,
    },
}

/// The chunk step: each block is reduced over `axes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkStep {
    /// What is computed.
    pub reduction: Reduction,
    /// Per axis of the space, whether it is reduced.
    pub axes: Vec<bool>,
    /// Whether the partials are finished at once: every reduced axis has a single block.
    pub finish: bool,
}

/// A reduction and what it reduces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reduction {
    /// The operation.
    pub op: ReduceOp,
    /// The dtypes of the program's results (one for built-in operations).
    pub inputs: Vec<DType>,
}

/// The reductions. All are (identity, lift, combine, finish).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ReduceOp {
    Sum,
    Prod,
    Mean,
    /// Variance with `ddof` delta degrees of freedom.
    Var {
        ddof: f64,
    },
    /// Its square root.
    Std {
        ddof: f64,
    },
    Min,
    Max,
    Any,
    All,
    CountNonzero,
    ArgMin,
    ArgMax,
    /// A reduction kernel.
    User(KernelHash),
}

/// One level of a reduction's tree: groups of `fan_in` neighbouring partials are combined, aligned, in index order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// The partials.
    pub input: ArrayId,
    /// What is combined.
    pub reduction: Reduction,
    /// How the kept axes are cut.
    pub kept: Grid,
    /// Partials per kept block.
    pub count: u64,
    /// How many make one: a power of two.
    pub fan_in: u64,
    /// Whether this is the root: one group, finished.
    pub finish: bool,
}

/// The same blocks under another grid of as many blocks, each with as many elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabel {
    /// The array.
    pub input: ArrayId,
    /// Which field of its blocks.
    pub field: u32,
    /// How it is cut now.
    pub grid: Grid,
}

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
        }
    }

    /// The arrays it reads, each once, in order of first use.
    pub fn input_arrays(&self) -> Vec<ArrayId> {
        let mut arrays = Vec::new();
        let mut add = |array: ArrayId| {
            if !arrays.contains(&array) {
                arrays.push(array);
            }
        };
        match &self.body {
            Body::Map(map) => map.array_pieces().for_each(|(_, _, array, ..)| add(array)),
            Body::Fold(fold) => add(fold.input),
            Body::Relabel(relabel) => add(relabel.input),
        }
        arrays
    }

    /// What block `block` reads, in the order in which an executor expects its operands.
    pub fn reads(&self, block: u64) -> Vec<Read> {
        let whole = |array, block, field| Read { array, block, field, region: None, leaf: 0, piece: 0 };
        match &self.body {
            Body::Map(map) => map.reads(block),
            Body::Fold(fold) => fold.inputs(block).map(|index| whole(fold.input, index, 0)).collect(),
            Body::Relabel(relabel) => vec![whole(relabel.input, block, relabel.field)],
        }
    }

    /// Bytes of the part that a read of this stage is of; `None` where it is the whole block.
    pub fn bytes_read(&self, read: &Read) -> Option<u64> {
        match (&self.body, &read.region) {
            (Body::Map(map), Some(region)) => {
                Some(region.shape().elements() * map.leaves[read.leaf as usize].dtype.bytes())
            }
            (Body::Map(_) | Body::Fold(_) | Body::Relabel(_), _) => None,
        }
    }

    /// The blocks that block `block` needs, as ranges of block indices per input array. A block may come twice.
    pub fn inputs(&self, block: u64) -> Vec<(ArrayId, Range<u64>)> {
        match &self.body {
            Body::Map(map) => map.inputs(block),
            Body::Fold(fold) => vec![(fold.input, fold.inputs(block))],
            Body::Relabel(relabel) => vec![(relabel.input, block..block + 1)],
        }
    }

    /// The blocks of this stage that need block `block` of `input`, as ranges. A block may come twice.
    pub fn consumers(&self, input: ArrayId, block: u64) -> Vec<Range<u64>> {
        match &self.body {
            Body::Map(map) => map.consumers(input, block),
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
            Body::Map(map) => map.is_blockwise(),
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
            for index in permuted.indices() {
                let at = ordered.linear(&index);
                match consumers.last_mut() {
                    Some(range) if range.end == at => range.end += 1,
                    _ => consumers.push(at..at + 1),
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

impl ReduceOp {
    /// Whether it must know where each element stands (arg-reductions).
    pub const fn is_arg(self) -> bool {
        matches!(self, ReduceOp::ArgMin | ReduceOp::ArgMax)
    }
}

mod serde_bytes_arc {
    //! Raw bytes behind an `Arc`, as one length-prefixed run.

    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Arc::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClientId;

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
}
