//! Reductions in a block and the strict combine above it.
//!
//! Every reduction is (identity, lift, combine, finish), one that comes with the engine or a user's kernel, and
//! [`Reducer`] is either. Its [`BlockReduce`] lifts and combines the elements of one block into a *partial*;
//! [`Reducer::fold`] combines neighbouring partials; [`Reducer::finish`] makes results of the last one.
//!
//! Within a block the tree is a function of the block's shape, the reduced axes and the dtype only. With *columns* the
//! length of the innermost kept axis (after neighbouring axes of one kind were merged) and *row* that of the innermost
//! reduced one if it is the innermost of all, else 1:
//!
//! - A row is cut into segments of [`TILE`] elements. In a segment, element `i` is added to lane `i % 32`; lanes are
//!   combined by halves (lane `i` with `i + 16`, then `i + 8`, ...), segments by the aligned binary tree.
//! - The rows that make one result are counted row-major over the outer reduced axes. With
//!   `lanes = next_power_of_two(ceil(256 / columns))`, they are cut into segments of `64 * lanes` rows, in which row `j`
//!   is combined into lane `j % lanes`, in order; then lanes by halves, and segments by the aligned binary tree.
//!
//! Vectors, tiles, threads and the order of blocks must never show. Floats are added in f64 whatever their dtype; NaN
//! is made canonical in every partial. A partial's layout is WGSL's: sum and prod `f64` or `u64`; mean `{n: u64, sum:
//! f64}`; var and std `{n: u64, mean: f64, m2: f64}`; min and max an order-preserving `i32` or `i64`; any, all and
//! count_nonzero `u64`; argmin and argmax `{key: i64, index: u64}`; a user's is what its kernel says.

mod arithmetic;
mod built_in;
mod engine;
mod extreme;
mod function;
mod geometry;
mod number;
mod operation;
mod tree;
mod user;
pub(crate) mod vector;

use std::ops::Range;
use std::sync::Arc;

use crate::block::{Block, BufferMut, Item, OutOfMemory};
use crate::dtype::{DType, Element, Scalar};
use crate::executor::ExecuteError;
use crate::ids::KernelHash;
pub use crate::interpreter::StopFlag;
use crate::kernel::TypedKernel;
use crate::shape::{Region, Shape};
use crate::stage::{ReduceOp, Reduction};
use engine::Site;
pub use function::{Function, MakeFunction};
use geometry::Sweep;
use tree::Tree;
use user::UserReduction;

/// The most elements of one run of [`BlockReduce::sweep`]: 16 KiB of f64, which stay in an L1 cache.
pub const TILE: usize = 2048;
/// Elements of a segment of a row. A run is never less than a segment, so that it can be looked at twice.
const SEGMENT: usize = TILE;
/// Rows of lanes in a segment of units.
const SEGMENT_ROWS: u64 = 64;

/// Why a reduction over no elements has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmptyError {
    /// The operation has no identity that is a value.
    #[error("{op} of no elements has no value")]
    NoValue {
        /// Its name.
        op: &'static str,
    },
    /// The results do not fit in memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// What the elements of a partial are.
///
/// # Panics
/// If the reduction is a user's: its kernel says so.
pub fn accumulator(reduction: &Reduction) -> Item {
    built_in::accumulator(reduction)
}

/// The dtypes of the results.
///
/// # Panics
/// If the reduction is a user's: its kernel says so.
pub fn result_dtypes(reduction: &Reduction) -> Vec<DType> {
    let input = reduction.inputs[0];
    let result = match reduction.op {
        ReduceOp::Sum | ReduceOp::Prod => match input {
            DType::F32 | DType::F64 => input,
            DType::I32 | DType::I64 | DType::Bool => DType::I64,
            DType::U32 | DType::U64 => DType::U64,
        },
        ReduceOp::Mean | ReduceOp::Var { .. } | ReduceOp::Std { .. } => match input {
            DType::F32 => DType::F32,
            DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 | DType::Bool => DType::F64,
        },
        ReduceOp::Min | ReduceOp::Max => input,
        ReduceOp::Any | ReduceOp::All => DType::Bool,
        ReduceOp::CountNonzero | ReduceOp::ArgMin | ReduceOp::ArgMax => DType::I64,
        ReduceOp::User(_) => panic!("a user's reduction is asked of its kernel"),
    };
    vec![result]
}

/// A reduction, ready to be computed. Cheap to clone.
///
/// ```
/// use gridloom_worker::dtype::DType;
/// use gridloom_worker::reduce::{Reducer, StopFlag};
/// use gridloom_worker::shape::{Region, Shape};
/// use gridloom_worker::stage::{ReduceOp, Reduction};
///
/// let (shape, values) = (Shape::new(&[2, 3]).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let (sum, stop) = (Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] }, StopFlag::new());
/// let reducer = Reducer::new(&sum, &|_| None).unwrap();
/// let mut block = reducer.block(&shape, &Region::whole(&shape), &[false, true], &stop);
/// for run in block.sweep() {
///     block.feed::<f64>(run.clone(), &values[run.start as usize..run.end as usize]);
/// }
/// assert_eq!(reducer.finish(&block.partial().unwrap(), &stop).unwrap()[0].elements::<f64>(), [6.0, 15.0]);
/// ```
#[derive(Clone)]
pub struct Reducer {
    reduction: Reduction,
    /// The kernel of a user's reduction.
    user: Option<Arc<UserReduction>>,
}

impl Reducer {
    /// Makes ready; `kernel` finds a user's reduction kernel by its hash. Its functions are interpreted.
    ///
    /// # Errors
    /// A kernel that is not known, or is none that reduces these inputs.
    pub fn new(
        reduction: &Reduction,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<Reducer, ExecuteError> {
        Reducer::with_functions(reduction, kernel, &mut function::interpreted)
    }

    /// The same, where `function` makes a user's functions ready.
    ///
    /// # Errors
    /// Those of [`Reducer::new`], and of `function`.
    pub fn with_functions(
        reduction: &Reduction,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
        function: MakeFunction<'_>,
    ) -> Result<Reducer, ExecuteError> {
        let user = match reduction.op {
            ReduceOp::User(hash) => {
                let kernel = kernel(hash).ok_or(ExecuteError::KernelMissing(hash))?;
                Some(Arc::new(UserReduction::new(&kernel, &reduction.inputs, function)?))
            }
            _ => None,
        };
        Ok(Reducer { reduction: reduction.clone(), user })
    }

    /// What the elements of a partial are.
    pub fn accumulator(&self) -> Item {
        match &self.user {
            Some(user) => user.accumulator(),
            None => built_in::accumulator(&self.reduction),
        }
    }

    /// A partial that a device made, with its padding zeroed: devices leave that as it was.
    pub(crate) fn without_padding(&self, partial: Block) -> Result<Block, OutOfMemory> {
        match &self.user {
            // Built-in accumulators have none.
            None => Ok(partial),
            Some(user) => user.without_padding(&partial),
        }
    }

    /// The dtypes of the results, one per field.
    pub fn result_dtypes(&self) -> Vec<DType> {
        match &self.user {
            Some(user) => user.results().to_vec(),
            None => result_dtypes(&self.reduction),
        }
    }

    /// Makes ready to reduce the `region` of an array of `array` over the axes that `axes` marks. A user's kernel runs
    /// until `stop` is raised.
    ///
    /// # Panics
    /// If the region has 2^32 elements or more: no block is that large.
    pub fn block(&self, array: &Shape, region: &Region, axes: &[bool], stop: &StopFlag) -> BlockReduce {
        let site = Site::new(array, region, axes);
        let sink = match &self.user {
            Some(user) => user.sink(site, stop),
            None => built_in::sink(&self.reduction, site),
        };
        BlockReduce { inputs: self.reduction.inputs.clone(), sink }
    }

    /// Combines consecutive partials by the aligned binary tree, in index order. Folding aligned groups of a power of
    /// two, and then what they gave, is folding all, bit for bit.
    ///
    /// # Panics
    /// If there is no partial, or they are not of this reduction and one shape.
    pub fn fold(&self, partials: &[Block], stop: &StopFlag) -> Result<Block, ExecuteError> {
        let item = self.accumulator();
        assert!(partials.iter().all(|partial| partial.item == item), "partials of this reduction");
        assert!(partials.iter().all(|partial| partial.shape == partials[0].shape), "partials of one shape");
        let mut combiner = self.user.as_ref().map(|user| user.combiner(stop));
        let joined = fold_by(partials, |a, b| match &mut combiner {
            Some(combiner) => combiner.fold(a, b),
            None => built_in::fold(&self.reduction, a, b),
        })?;
        match combiner.is_some_and(|combiner| combiner.is_stopped()) {
            true => Err(ExecuteError::Cancelled),
            false => Ok(joined),
        }
    }

    /// The results of a partial that nothing more comes to: one block per result field, shaped like the partial.
    ///
    /// # Panics
    /// If the partial is not of this reduction.
    pub fn finish(&self, partial: &Block, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        assert_eq!(partial.item, self.accumulator(), "a partial of this reduction");
        match &self.user {
            Some(user) => user.finish(partial, stop),
            None => Ok(vec![built_in::finish(&self.reduction, partial)?]),
        }
    }
}

/// Reduces one block to its partial.
pub struct BlockReduce {
    inputs: Vec<DType>,
    sink: Box<dyn Sink>,
}

impl BlockReduce {
    /// The runs of the block's row-major elements, each at most [`TILE`] long, in the order to feed them in.
    pub fn sweep(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        self.sink.sweep().map(|run| run.elements)
    }

    /// Takes in the values of the next run of the sweep.
    ///
    /// # Panics
    /// If it is not the next run, or `T` is not how the reduction's one input is stored.
    pub fn feed<T: Element>(&mut self, run: Range<u64>, values: &[T]) {
        let is_stored_so = |&dtype: &DType| T::DTYPE == dtype || (dtype == DType::Bool && T::DTYPE == DType::U32);
        assert!(self.inputs.iter().all(is_stored_so), "a reduction of {:?} was fed {}", self.inputs, T::DTYPE);
        self.sink.feed(run, bytemuck::cast_slice(values));
    }

    /// The same with a slice of words per input: the stored bits, zero-extended.
    ///
    /// # Panics
    /// If it is not the next run, or there is not one slice per input and one word per element.
    pub fn feed_words(&mut self, run: Range<u64>, words: &[Vec<u64>]) {
        assert_eq!(words.len(), self.inputs.len(), "words for every input");
        self.sink.feed_words(run, words);
    }

    /// The partial: its shape is the kept axes' lengths, in order.
    ///
    /// # Errors
    /// Memory that could not be had; a user's kernel that was stopped.
    ///
    /// # Panics
    /// If the sweep is not over.
    pub fn partial(self) -> Result<Block, ExecuteError> {
        self.sink.partial()
    }
}

/// The value of a reduction over no elements, in its result's dtype.
pub fn empty_value(reduction: &Reduction) -> Result<Scalar, EmptyError> {
    let value = match reduction.op {
        ReduceOp::Sum | ReduceOp::Any | ReduceOp::CountNonzero => Scalar::F64(0.0),
        ReduceOp::Prod | ReduceOp::All => Scalar::F64(1.0),
        ReduceOp::Mean | ReduceOp::Var { .. } | ReduceOp::Std { .. } => Scalar::F64(f64::NAN),
        ReduceOp::Min => return Err(EmptyError::NoValue { op: "min" }),
        ReduceOp::Max => return Err(EmptyError::NoValue { op: "max" }),
        ReduceOp::ArgMin => return Err(EmptyError::NoValue { op: "argmin" }),
        ReduceOp::ArgMax => return Err(EmptyError::NoValue { op: "argmax" }),
        ReduceOp::User(_) => return Err(EmptyError::NoValue { op: "a reduction kernel" }),
    };
    Ok(value.cast(result_dtypes(reduction)[0]))
}

/// The results of a reduction over no elements: [`empty_value`] everywhere.
pub fn empty(reduction: &Reduction, kept: &Shape) -> Result<Vec<Block>, EmptyError> {
    let value = empty_value(reduction)?;
    let bytes = value.to_bytes();
    let mut buffer = BufferMut::try_new(kept.elements() as usize * bytes.len())?;
    buffer.bytes_mut().chunks_exact_mut(bytes.len()).for_each(|element| element.copy_from_slice(&bytes));
    Ok(vec![Block::new(Item::Value(value.dtype()), kept.clone(), buffer.freeze())])
}

/// The engine of any operation.
trait Sink: Send {
    fn sweep(&self) -> Sweep;
    fn feed(&mut self, run: Range<u64>, values: &[u8]);
    fn feed_words(&mut self, run: Range<u64>, words: &[Vec<u64>]);
    fn partial(self: Box<Self>) -> Result<Block, ExecuteError>;
}

/// The aligned tree over whole blocks; `join` folds later accumulators into as many earlier ones.
fn fold_by(partials: &[Block], mut join: impl FnMut(&mut [u8], &[u8])) -> Result<Block, OutOfMemory> {
    let Block { item, shape, buffer } = &partials[0];
    let mut folded = BufferMut::try_new(buffer.bytes().len())?;
    let mut join = |mut earlier: Vec<u8>, later: Vec<u8>| {
        join(&mut earlier, &later);
        earlier
    };
    // A part at a time, so that a tree's levels stay in the cache.
    let part_bytes = item.bytes() as usize * FOLD_ELEMENTS;
    for (at, part) in folded.bytes_mut().chunks_mut(part_bytes).enumerate() {
        let range = at * part_bytes..at * part_bytes + part.len();
        let mut tree = Tree::new();
        partials.iter().for_each(|partial| tree.push(partial.bytes()[range.clone()].to_vec(), &mut join));
        part.copy_from_slice(&tree.finish(&mut join).expect("there is a partial"));
    }
    Ok(Block::new(*item, shape.clone(), folded.freeze()))
}

/// Accumulators of each partial that are folded together.
const FOLD_ELEMENTS: usize = 1024;

#[cfg(test)]
mod tests;
