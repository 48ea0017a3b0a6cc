//! Reductions in a block and the strict combine above it.
//!
//! Every reduction is (identity, lift, combine, finish). [`BlockReduce`] lifts and combines the elements of one block
//! into a *partial*; [`fold`] combines neighbouring partials; [`finish`] makes results of the last one.
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
//! count_nonzero `u64`; argmin and argmax `{key: i64, index: u64}`.

mod arithmetic;
mod engine;
mod extreme;
mod geometry;
mod number;
mod operation;
mod tree;
pub(crate) mod vector;

use std::marker::PhantomData;
use std::ops::Range;

use crate::block::{Block, BufferMut, Item, OutOfMemory};
use crate::dtype::{DType, Element, Scalar};
use crate::executor::ExecuteError;
use crate::shape::{Region, Shape};
use crate::stage::{ReduceOp, Reduction};
use crate::with_element;
use arithmetic::{All, Any, CountNonzero, Mean, Plain, Prod, Sum, Var};
use engine::{Engine, Places};
use extreme::{Arg, Extreme, Greatest, Least};
use geometry::{Geometry, Sweep};
use number::{Number, Ordered};
use operation::Operation;
use tree::Tree;

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
    struct Width;
    impl Visit for Width {
        type Output = u32;
        fn visit<O: Operation>(self, _operation: O) -> u32 {
            size_of::<O::Partial>() as u32
        }
    }
    Item::Partial { bytes: visit(reduction, Width).expect("a user's reduction is asked of its kernel") }
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

/// Reduces one block to its partial.
///
/// ```
/// use gridloom_worker::dtype::DType;
/// use gridloom_worker::reduce::{BlockReduce, finish};
/// use gridloom_worker::shape::{Region, Shape};
/// use gridloom_worker::stage::{ReduceOp, Reduction};
///
/// let (shape, values) = (Shape::new(&[2, 3]).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let sum = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] };
/// let mut block = BlockReduce::new(&sum, &shape, &Region::whole(&shape), &[false, true]);
/// for run in block.sweep() {
///     block.feed::<f64>(run.clone(), &values[run.start as usize..run.end as usize]);
/// }
/// assert_eq!(finish(&sum, &block.partial().unwrap()).unwrap()[0].elements::<f64>(), [6.0, 15.0]);
/// ```
pub struct BlockReduce {
    input: DType,
    sink: Box<dyn Sink>,
}

impl BlockReduce {
    /// Makes ready to reduce the `region` of an array of `array_shape` over the axes that `axes` marks.
    ///
    /// # Panics
    /// If the region has 2^32 elements or more: no block is that large.
    pub fn new(reduction: &Reduction, array_shape: &Shape, region: &Region, axes: &[bool]) -> BlockReduce {
        let block = region.shape();
        assert!(block.elements() < 1 << 32, "a block of {block}");
        let only = |lengths: &Shape, reduced: bool| -> Shape {
            lengths.iter().zip(axes).filter(|&(_, &axis)| axis == reduced).map(|(&length, _)| length).collect()
        };
        let make = MakeEngine {
            geometry: Geometry::new(&block, axes),
            shape: only(&block, false),
            places: Places {
                block: only(&block, true),
                start: only(&region.start, true),
                array: only(array_shape, true),
            },
        };
        let sink = visit(reduction, make).unwrap_or_else(|| Box::new(Unsupported));
        BlockReduce { input: reduction.inputs[0], sink }
    }

    /// The runs of the block's row-major elements, each at most [`TILE`] long, in the order to feed them in.
    pub fn sweep(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        self.sink.sweep().into_iter().flatten().map(|run| run.elements)
    }

    /// Takes in the values of the next run of the sweep.
    ///
    /// # Panics
    /// If it is not the next run, or `T` is not how the reduction's input is stored.
    pub fn feed<T: Element>(&mut self, run: Range<u64>, values: &[T]) {
        let is_stored_so = T::DTYPE == self.input || (self.input == DType::Bool && T::DTYPE == DType::U32);
        assert!(is_stored_so, "a reduction of {} was fed {}", self.input, T::DTYPE);
        self.sink.feed(run, bytemuck::cast_slice(values));
    }

    /// The partial: its shape is the kept axes' lengths, in order.
    ///
    /// # Panics
    /// If the sweep is not over.
    pub fn partial(self) -> Result<Block, ExecuteError> {
        self.sink.partial()
    }
}

/// Combines consecutive partials by the aligned binary tree, in index order. Folding aligned groups of a power of two,
/// and then what they gave, is folding all, bit for bit.
///
/// # Panics
/// If there is no partial, or they are not of this reduction and one shape.
pub fn fold(reduction: &Reduction, partials: &[Block]) -> Result<Block, ExecuteError> {
    assert!(partials.iter().all(|partial| partial.shape == partials[0].shape), "partials of one shape");
    visit(reduction, FoldBlocks(partials)).unwrap_or_else(|| Err(unsupported()))
}

/// The results of a partial that nothing more comes to: one block per result field, shaped like the partial.
///
/// # Panics
/// If the partial is not of this reduction.
pub fn finish(reduction: &Reduction, partial: &Block) -> Result<Vec<Block>, ExecuteError> {
    visit(reduction, FinishBlock { reduction, partial }).unwrap_or_else(|| Err(unsupported()))
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

/// An [`Engine`] of any operation.
trait Sink: Send {
    fn sweep(&self) -> Option<Sweep>;
    fn feed(&mut self, run: Range<u64>, values: &[u8]);
    fn partial(self: Box<Self>) -> Result<Block, ExecuteError>;
}

impl<O: Operation> Sink for Engine<O> {
    fn sweep(&self) -> Option<Sweep> {
        Some(self.sweep())
    }
    fn feed(&mut self, run: Range<u64>, values: &[u8]) {
        self.feed(run, bytemuck::cast_slice(values));
    }
    fn partial(self: Box<Self>) -> Result<Block, ExecuteError> {
        Ok((*self).partial()?)
    }
}

/// A reduction that is not built in.
struct Unsupported;

impl Sink for Unsupported {
    fn sweep(&self) -> Option<Sweep> {
        None
    }
    fn feed(&mut self, _run: Range<u64>, _values: &[u8]) {}
    fn partial(self: Box<Self>) -> Result<Block, ExecuteError> {
        Err(unsupported())
    }
}

fn unsupported() -> ExecuteError {
    ExecuteError::Unsupported { executor: "native reductions".to_owned(), what: "a reduction kernel".to_owned() }
}

/// Something to do with the operation of a reduction, whichever it is.
trait Visit {
    type Output;
    fn visit<O: Operation>(self, operation: O) -> Self::Output;
}

/// Calls the visitor with a built-in reduction's operation; `None` for a user's.
fn visit<V: Visit>(reduction: &Reduction, visitor: V) -> Option<V::Output> {
    with_element!(reduction.inputs[0], T => visit_dtype::<T, V>(reduction.op, visitor))
}

fn visit_dtype<T: Number + Ordered, V: Visit>(op: ReduceOp, visitor: V) -> Option<V::Output> {
    let input = PhantomData::<T>;
    Some(match op {
        ReduceOp::Sum => visitor.visit(Plain(Sum(input))),
        ReduceOp::Prod => visitor.visit(Plain(Prod(input))),
        ReduceOp::Mean => visitor.visit(Plain(Mean(input))),
        ReduceOp::Var { ddof } => visitor.visit(Var { ddof, is_std: false, input }),
        ReduceOp::Std { ddof } => visitor.visit(Var { ddof, is_std: true, input }),
        ReduceOp::Min => visitor.visit(Plain(Extreme(input, Least))),
        ReduceOp::Max => visitor.visit(Plain(Extreme(input, Greatest))),
        ReduceOp::Any => visitor.visit(Plain(Any(input))),
        ReduceOp::All => visitor.visit(Plain(All(input))),
        ReduceOp::CountNonzero => visitor.visit(Plain(CountNonzero(input))),
        ReduceOp::ArgMin => visitor.visit(Arg(input, Least)),
        ReduceOp::ArgMax => visitor.visit(Arg(input, Greatest)),
        ReduceOp::User(_) => return None,
    })
}

struct MakeEngine {
    geometry: Geometry,
    shape: Shape,
    places: Places,
}

impl Visit for MakeEngine {
    type Output = Box<dyn Sink>;
    fn visit<O: Operation>(self, _operation: O) -> Box<dyn Sink> {
        Box::new(Engine::<O>::new(self.geometry, self.shape, self.places))
    }
}

struct FoldBlocks<'a>(&'a [Block]);

impl Visit for FoldBlocks<'_> {
    type Output = Result<Block, ExecuteError>;
    fn visit<O: Operation>(self, _operation: O) -> Result<Block, ExecuteError> {
        let FoldBlocks(blocks) = self;
        let sources: Vec<&[O::Partial]> = blocks.iter().map(|block| bytemuck::cast_slice(block.bytes())).collect();
        let mut buffer = BufferMut::try_new(blocks[0].bytes().len())?;
        let join = |mut earlier: Vec<O::Partial>, later: Vec<O::Partial>| {
            earlier.iter_mut().zip(later).for_each(|(a, b)| *a = O::fold(*a, b));
            earlier
        };
        // A part at a time, so that a tree's levels stay in the cache.
        for (at, part) in bytemuck::cast_slice_mut::<u8, O::Partial>(buffer.bytes_mut()).chunks_mut(TILE).enumerate() {
            let range = at * TILE..at * TILE + part.len();
            let mut tree = Tree::new();
            sources.iter().for_each(|source| tree.push(source[range.clone()].to_vec(), join));
            part.copy_from_slice(&tree.finish(join).expect("there is a partial"));
        }
        Ok(Block::new(blocks[0].item, blocks[0].shape.clone(), buffer.freeze()))
    }
}

struct FinishBlock<'a> {
    reduction: &'a Reduction,
    partial: &'a Block,
}

impl Visit for FinishBlock<'_> {
    type Output = Result<Vec<Block>, ExecuteError>;
    fn visit<O: Operation>(self, operation: O) -> Result<Vec<Block>, ExecuteError> {
        let partials: &[O::Partial] = bytemuck::cast_slice(self.partial.bytes());
        let mut buffer = BufferMut::try_new(partials.len() * size_of::<O::Out>())?;
        let results = buffer.elements_mut::<O::Out>().iter_mut();
        results.zip(partials).for_each(|(result, &partial)| *result = operation.finish(partial));
        let item = Item::Value(result_dtypes(self.reduction)[0]);
        Ok(vec![Block::new(item, self.partial.shape.clone(), buffer.freeze())])
    }
}

#[cfg(test)]
mod tests;
