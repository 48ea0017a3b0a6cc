//! A block as it will look, before it is there: what pipelines are compiled for while a stage is prepared.

use crate::block::{Block, Buffer, BufferMut, Item, Remote, RemoteError};
use crate::executor::{Operand, Task, TaskToken};
use crate::shape::Region;
use crate::stage::{Map, Read, Source, Stage};

/// The task of `block`, whose operands have their shapes and no bytes: enough for the structure of its dispatches.
/// `map` is what the stage reads by.
fn foreseen(stage: &Stage, map: &Map, block: u64) -> Task {
    let operand = |read: Read| {
        let leaf = &map.leaves[read.leaf as usize];
        let Source::Array { grid, .. } = &leaf.pieces[read.piece as usize].source else {
            unreachable!("only pieces of arrays read blocks")
        };
        let shape = grid.region(&grid.block_counts().index_at(read.block)).shape();
        let region = read.region.unwrap_or_else(|| Region::whole(&shape));
        let bytes = Buffer::remote(Unseen(shape.elements() * leaf.dtype.bytes()));
        Operand { data: Block::new(Item::Value(leaf.dtype), shape, bytes), region }
    };
    let operands = stage.reads(block).into_iter().map(operand).collect();
    Task { token: TaskToken(block), array: stage.array, block, operands }
}

/// The tasks whose structures most blocks have: the first block's, and the last one's, which may be smaller.
pub(super) fn tasks(stage: &Stage, map: &Map) -> impl Iterator<Item = Task> {
    let last = stage.blocks().checked_sub(1);
    let blocks = last.into_iter().flat_map(|last| std::iter::once(0).chain((last > 0).then_some(last)));
    blocks.map(|block| foreseen(stage, map, block))
}

/// So many bytes that are not there yet.
struct Unseen(u64);

impl Remote for Unseen {
    fn len(&self) -> usize {
        self.0 as usize
    }

    fn fetch(&self) -> Result<BufferMut, RemoteError> {
        Err(RemoteError { why: "it is not there yet".to_owned() })
    }
}
