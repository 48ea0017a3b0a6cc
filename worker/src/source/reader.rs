//! One leaf of one block, read run by run.

use crate::dtype::Element;
use crate::executor::{ExecuteError, Operand};
use crate::shape::Region;
use crate::stage::{Leaf, Map};

/// Reads the values of one leaf over one block.
pub struct LeafReader(());

impl LeafReader {
    /// Makes ready to read `leaf` over `region` of the element space. `operands` are those of the leaf's
    /// [`crate::stage::Read`]s, in their order; leaves that read no arrays have none.
    pub fn new(_leaf: &Leaf, _region: &Region, _operands: &[Operand]) -> Result<LeafReader, ExecuteError> {
        Err(ExecuteError::Unsupported { executor: "native".to_owned(), what: "sources".to_owned() })
    }

    /// Writes the values of elements `start..start + out.len()` of the block, in its row-major order.
    ///
    /// # Panics
    /// If `T` is not how the leaf's dtype is stored, or the run leaves the block.
    pub fn read<T: Element>(&self, _start: u64, _out: &mut [T]) -> Result<(), ExecuteError> {
        Err(ExecuteError::Unsupported { executor: "native".to_owned(), what: "sources".to_owned() })
    }

    /// The same values where they already lie side by side in memory, else `None`.
    pub fn contiguous<T: Element>(&self, _start: u64, _len: usize) -> Option<&[T]> {
        None
    }
}

/// The readers of all leaves of block `block`. `operands` are the task's, one per read of the stage.
pub fn leaf_readers(map: &Map, block: u64, operands: &[Operand]) -> Result<Vec<LeafReader>, ExecuteError> {
    let region = map.region(block);
    map.leaves.iter().map(|leaf| LeafReader::new(leaf, &region, operands)).collect()
}
