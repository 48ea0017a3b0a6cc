//! What a worker is asked to do: stages, as plain data.
//!
//! A stage is one fused computation over a whole grid. It names its inputs and how it reads them, the element program,
//! and a reduction, a block kernel or nothing more. Its size never depends on the number of its blocks. From it follows,
//! by arithmetic alone, which blocks an output block needs ([`Stage::inputs`]) and which need an input block
//! ([`Stage::consumers`]): exact inverses of each other, written in `reads`.
//!
//! Blocks of a stage are numbered row-major in its *output order*: for a map the grid's own order; for a reduction the
//! kept axes first, then the reduced ones, so that the partials of one result are neighbours.

mod reads;

pub use reads::Read;

use serde::{Deserialize, Serialize};

use crate::block::Item;
use crate::dtype::{DType, Scalar};
use crate::grid::Grid;
use crate::ids::{ArrayId, KernelHash};
use crate::shape::Shape;
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
    /// A block kernel over whole blocks of what element programs make.
    Block(BlockCall),
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

/// A block kernel over a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockCall {
    /// What makes its inputs, in no reduction: one result per array that the kernel reads. Its grid has as many blocks
    /// per axis as `output`, and block `i` of all of them makes output block `i`.
    pub inputs: Map,
    /// A block kernel, which reads the dtypes of those results.
    pub kernel: KernelHash,
    /// How the output is cut. Each of the kernel's output blocks has a block's elements.
    pub output: Grid,
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
