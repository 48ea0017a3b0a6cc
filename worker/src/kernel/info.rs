//! What a block kernel may be told of the block it computes: `BlockInfo`, as bytes.

use crate::shape::{RANK_MAX, Shape};
use crate::stage::BlockCall;

/// The block that a kernel computes, for its `info: BlockInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// The output block's first element in the output array.
    pub start: Shape,
    /// The block's index per axis.
    pub block: Shape,
    /// The output block's shape.
    pub shape: Shape,
    /// The block shape of each input.
    pub inputs: Vec<Shape>,
}

impl BlockInfo {
    /// What the kernel of `call` may be told of block `block`. All inputs are of one grid.
    pub fn of(call: &BlockCall, block: u64) -> BlockInfo {
        let index = call.output.block_counts().index_at(block);
        let region = call.output.region(&index);
        let input = call.inputs.grid.region(&index).shape();
        let inputs = vec![input; call.inputs.program.results.len()];
        BlockInfo { shape: region.shape(), start: region.start, block: index, inputs }
    }

    /// Bytes of the struct: the rank, and eleven rows of eight.
    pub const BYTES: usize = 4 * (1 + (3 + RANK_MAX) * RANK_MAX);

    /// [`BlockInfo::words`], as they lie in memory.
    pub fn bytes(&self) -> Vec<u8> {
        self.words().into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// The struct as it is bound: all of it `u32`, zero beyond the rank and beyond the inputs.
    ///
    /// # Panics
    /// If there are more inputs than a kernel can have.
    pub fn words(&self) -> Vec<u32> {
        let rows = [&self.start, &self.block, &self.shape].into_iter().chain(&self.inputs);
        let mut words = vec![0u32; BlockInfo::BYTES / 4];
        words[0] = self.shape.rank() as u32;
        for (row, values) in words[1..].chunks_exact_mut(RANK_MAX).zip(rows) {
            // A kernel that is told of its block is only mapped over arrays whose indices have 32 bits.
            row.iter_mut().zip(values.iter()).for_each(|(word, &value)| *word = value as u32);
        }
        assert!(self.inputs.len() <= RANK_MAX, "a kernel has at most eight inputs");
        words
    }
}
