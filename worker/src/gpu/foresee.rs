//! A block as it will look, before it is there: what pipelines are compiled for while a stage is prepared.

use crate::block::{Block, Buffer, BufferMut, Item, Remote, RemoteError};
use crate::executor::{Operand, Task, TaskToken};
use crate::shape::{Region, Shape};
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

/// Blocks that are foreseen: three along each of two axes.
const FORESEEN_MAX: u64 = 9;

/// The tasks whose structures nearly all blocks have: along each axis the first block's, which has no neighbour before
/// it, one's in the middle, and the last one's, which may be smaller. Where many axes make too many of them, some are
/// left out between the first and the last.
pub(super) fn tasks(stage: &Stage, map: &Map) -> impl Iterator<Item = Task> {
    let counts = map.grid.block_counts();
    let counts: Shape = map.output_order().iter().map(|&axis| counts[axis]).collect();
    let places: Vec<Vec<u64>> = counts.iter().map(|&count| places(count)).collect();
    let lengths: Shape = places.iter().map(|places| places.len() as u64).collect();
    let all = lengths.elements();
    let number = all.min(FORESEEN_MAX);
    (0..number).map(move |at| {
        let chosen = lengths.index_at(at * (all - 1) / (number - 1).max(1));
        let index: Shape = chosen.iter().zip(&places).map(|(&at, places)| places[at as usize]).collect();
        foreseen(stage, map, counts.linear(&index))
    })
}

/// The first, a middle and the last of so many.
fn places(count: u64) -> Vec<u64> {
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let mut places = vec![0, count / 2, last];
    places.dedup();
    places
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
