//! Reductions in a block and the strict combine above it.
//!
//! Every reduction is (identity, lift, combine, finish). [`BlockReduce`] lifts and combines the elements of one block
//! into a *partial*; [`fold`] combines neighbouring partials; [`finish`] makes results of the last one. The tree is a
//! function of the block's shape, the reduced axes and the dtype only.

use std::ops::Range;

use crate::block::{Block, Item};
use crate::dtype::{DType, Element};
use crate::executor::ExecuteError;
use crate::shape::{Region, Shape};
use crate::stage::Reduction;

/// The most elements of one run of [`BlockReduce::sweep`].
pub const TILE: usize = 2048;

/// A reduction without elements and without an identity to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} of no elements has no value")]
pub struct EmptyReduction {
    /// Its name.
    pub op: &'static str,
}

fn unsupported() -> ExecuteError {
    ExecuteError::Unsupported { executor: "native".to_owned(), what: "reductions".to_owned() }
}

/// What the elements of a partial are.
///
/// # Panics
/// If the reduction is a user's: its kernel says so.
pub fn accumulator(_reduction: &Reduction) -> Item {
    Item::Partial { bytes: 8 }
}

/// The dtypes of the results.
///
/// # Panics
/// If the reduction is a user's: its kernel says so.
pub fn result_dtypes(reduction: &Reduction) -> Vec<DType> {
    reduction.inputs.clone()
}

/// Reduces one block to its partial.
pub struct BlockReduce(());

impl BlockReduce {
    /// Makes ready to reduce the `region` of an array of `array_shape` over the axes that `axes` marks.
    pub fn new(_reduction: &Reduction, _array_shape: &Shape, _region: &Region, _axes: &[bool]) -> BlockReduce {
        BlockReduce(())
    }

    /// The runs of the block's row-major elements, each at most [`TILE`] long, in the order to feed them in.
    pub fn sweep(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        std::iter::empty()
    }

    /// Takes in the values of the next run of the sweep.
    ///
    /// # Panics
    /// If it is not the next run, or `T` is not how the reduction's input is stored.
    pub fn feed<T: Element>(&mut self, _run: Range<u64>, _values: &[T]) {}

    /// The partial: its shape is the kept axes' lengths, in order.
    ///
    /// # Panics
    /// If the sweep is not over.
    pub fn partial(self) -> Result<Block, ExecuteError> {
        Err(unsupported())
    }
}

/// Combines consecutive partials by the aligned binary tree, in index order. Folding aligned groups of a power of two,
/// and then what they gave, is folding all.
pub fn fold(_reduction: &Reduction, _partials: &[Block]) -> Result<Block, ExecuteError> {
    Err(unsupported())
}

/// The results of a partial that nothing more comes to: one block per result field, shaped like the partial.
pub fn finish(_reduction: &Reduction, _partial: &Block) -> Result<Vec<Block>, ExecuteError> {
    Err(unsupported())
}

/// The results of a reduction over no elements.
pub fn empty(_reduction: &Reduction, _kept: &Shape) -> Result<Vec<Block>, EmptyReduction> {
    Err(EmptyReduction { op: "min" })
}
