//! One block through the tile pipeline: leaves are read a tile at a time, the element program runs over the tile, and
//! the results are stored or reduced while they are still in cache. Nothing between source and sink touches memory.

use std::ops::Range;
use std::sync::Arc;

use super::block::{BlockKernel, are_inputs_computed};
use super::compiled::Few;
use super::interpreted::Lanes;
use super::program::{ElementProgram, Programs};
use super::tiles::Tiles;
use crate::block::{Block, BufferMut, Item};
use crate::dtype::{DType, Element};
use crate::executor::{ExecuteError, Operand, Task};
use crate::ids::KernelHash;
use crate::interpreter::StopFlag;
use crate::kernel::TypedKernel;
use crate::reduce::{self, Reducer};
use crate::shape::Shape;
use crate::slots::Compute;
use crate::source::leaf_readers;
use crate::stage::{Body, ChunkStep, Map, Relabel, Stage};
use crate::with_element;

/// Elements of a tile: small enough that a handful of f64 tiles stay in a 32 KiB L1 cache.
pub(super) const TILE: u64 = 1024;

/// A stage made ready: its program composed and digested once for all its blocks.
pub(super) struct Prepared {
    stage: Arc<Stage>,
    work: Work,
}

enum Work {
    Map(ElementProgram),
    MapReduce(ElementProgram, Reducer),
    Fold(Reducer),
    Relabel,
    /// A block kernel, and the program of its inputs if they are computed.
    Block(BlockKernel, Option<ElementProgram>),
}

impl Prepared {
    /// Composes the stage's kernels; `kernel` finds them by hash.
    pub(super) fn new(
        stage: Arc<Stage>,
        programs: &mut Programs,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<Prepared, ExecuteError> {
        let work = match &stage.body {
            Body::Map(map) => {
                let program = programs.program(map, kernel)?;
                match &map.reduce {
                    None => Work::Map(program),
                    Some(reduce) => Work::MapReduce(program, programs.reducer(&reduce.reduction, kernel)?),
                }
            }
            Body::Fold(fold) => Work::Fold(programs.reducer(&fold.reduction, kernel)?),
            Body::Relabel(_) => Work::Relabel,
            Body::Block(call) => {
                let program = are_inputs_computed(call).then(|| programs.program(&call.inputs, kernel));
                Work::Block(BlockKernel::new(call, programs, kernel)?, program.transpose()?)
            }
        };
        Ok(Prepared { stage, work })
    }
}

impl Compute for Prepared {
    fn compute(&self, task: Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        match (&self.stage.body, &self.work) {
            (Body::Map(map), Work::Map(program)) => store(map, program, &task, stop),
            (Body::Map(map), Work::MapReduce(program, reducer)) => reduce_block(map, reducer, program, &task, stop),
            (Body::Fold(fold), Work::Fold(reducer)) => {
                let partials: Vec<Block> = task.operands.into_iter().map(|operand| operand.data).collect();
                let folded = reducer.fold(&partials, stop)?;
                if fold.finish { reducer.finish(&folded, stop) } else { Ok(vec![folded]) }
            }
            (Body::Relabel(relabel), Work::Relabel) => Ok(relabelled(relabel, task)),
            (Body::Block(call), Work::Block(kernel, program)) => {
                let computed = program.as_ref().map(|program| store(&call.inputs, program, &task, stop));
                kernel.compute(call, &task, computed.transpose()?, stop)
            }
            _ => unreachable!("work is made from the body in Prepared::new"),
        }
    }
}

/// The same bytes under the block's new shape.
fn relabelled(relabel: &Relabel, task: Task) -> Vec<Block> {
    let index = relabel.grid.block_counts().index_at(task.block);
    let shape = relabel.grid.region(&index).shape();
    task.operands.into_iter().map(|Operand { data, .. }| Block::new(data.item, shape.clone(), data.buffer)).collect()
}

/// A map without a reduction: results are stored, one block per field.
fn store(map: &Map, program: &ElementProgram, task: &Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
    let region = map.region(task.block);
    let shape = region.shape();
    let elements = shape.elements();
    let readers = leaf_readers(map, task.block, &task.operands)?;
    match program {
        ElementProgram::Identity => {
            let dtype = map.leaves[0].dtype;
            let mut buffer = buffer(elements * dtype.bytes())?;
            with_element!(dtype, T => {
                let target = buffer.elements_mut::<T>();
                for tile in tiles(elements, TILE) {
                    check(stop)?;
                    readers[0].read(tile.start, &mut target[tile.start as usize..tile.end as usize])?;
                }
            });
            Ok(vec![Block::new(Item::Value(dtype), shape, buffer.freeze())])
        }
        ElementProgram::Interpreted(program) => {
            let mut lanes = Lanes::new(map, program, &region, task.block);
            let widths = program.results.iter().map(|dtype| dtype.bytes());
            let mut buffers = widths.map(|width| buffer(elements * width)).collect::<Result<Vec<_>, _>>()?;
            for tile in tiles(elements, TILE) {
                lanes.run(&readers, tile.start, (tile.end - tile.start) as usize, stop)?;
                for ((buffer, words), dtype) in buffers.iter_mut().zip(&lanes.results).zip(&program.results) {
                    with_element!(*dtype, T => {
                        let target = &mut buffer.elements_mut::<T>()[tile.start as usize..tile.end as usize];
                        target.iter_mut().zip(words).for_each(|(to, &word)| *to = T::from_word(word));
                    });
                }
            }
            Ok(blocks(&program.results, &shape, buffers))
        }
        ElementProgram::Compiled(code) => {
            let mut lanes = Tiles::new(map, code, &readers, task.block);
            let widths = code.results().iter().map(|dtype| dtype.bytes());
            let mut buffers = widths.clone().map(|width| buffer(elements * width)).collect::<Result<Vec<_>, _>>()?;
            for tile in tiles(elements, lanes.tile()) {
                check(stop)?;
                let targets = buffers.iter_mut().zip(widths.clone());
                let bytes = |width: u64| (tile.start * width) as usize..(tile.end * width) as usize;
                let mut targets: Few<&mut [u8]> =
                    targets.map(|(buffer, width)| &mut buffer.bytes_mut()[bytes(width)]).collect();
                lanes.run(tile.start, (tile.end - tile.start) as usize, stop, &mut targets)?;
            }
            Ok(blocks(code.results(), &shape, buffers))
        }
    }
}

fn blocks(dtypes: &[DType], shape: &Shape, buffers: Vec<BufferMut>) -> Vec<Block> {
    let blocks = dtypes.iter().zip(buffers);
    blocks.map(|(&dtype, buffer)| Block::new(Item::Value(dtype), shape.clone(), buffer.freeze())).collect()
}

/// A map with the chunk step of a reduction: a partial, or finished values.
fn reduce_block(
    map: &Map,
    reducer: &Reducer,
    program: &ElementProgram,
    task: &Task,
    stop: &StopFlag,
) -> Result<Vec<Block>, ExecuteError> {
    let Some(ChunkStep { axes, finish, .. }) = &map.reduce else { unreachable!("a reducer is made from a reduction") };
    let region = map.region(task.block);
    let readers = leaf_readers(map, task.block, &task.operands)?;
    let mut block = reducer.block(&map.grid.shape(), &region, axes, stop);
    match program {
        ElementProgram::Identity => with_element!(map.leaves[0].dtype, T => {
            let mut tile = [T::default(); reduce::TILE];
            for run in block.sweep() {
                check(stop)?;
                let length = (run.end - run.start) as usize;
                match readers[0].contiguous::<T>(run.start, length) {
                    Some(values) => block.feed(run, values),
                    None => {
                        readers[0].read(run.start, &mut tile[..length])?;
                        block.feed(run, &tile[..length]);
                    }
                }
            }
        }),
        ElementProgram::Interpreted(program) => {
            let mut lanes = Lanes::new(map, program, &region, task.block);
            for run in block.sweep() {
                lanes.run(&readers, run.start, (run.end - run.start) as usize, stop)?;
                block.feed_words(run, &lanes.results);
            }
        }
        ElementProgram::Compiled(code) => {
            let mut lanes = Tiles::new(map, code, &readers, task.block);
            let mut tiles: Vec<Vec<u64>> = code.results().iter().map(|_| vec![0; 2 * reduce::TILE]).collect();
            let mut sweep = block.sweep().peekable();
            while let Some(first) = sweep.next() {
                check(stop)?;
                // Two runs at once, if they are neighbours: a call has its price.
                let start = first.start;
                let second = sweep.next_if(|run| run.start == first.end);
                let length = (second.as_ref().unwrap_or(&first).end - start) as usize;
                let targets = tiles.iter_mut().map(|tile| bytemuck::cast_slice_mut(&mut tile[..]));
                lanes.run(start, length, stop, &mut targets.collect::<Few<&mut [u8]>>())?;
                for run in [Some(first), second].into_iter().flatten() {
                    let part = (run.start - start) as usize..(run.end - start) as usize;
                    match code.results() {
                        &[dtype] => with_element!(dtype, T => {
                            block.feed::<T>(run, &bytemuck::cast_slice(&tiles[0])[part]);
                        }),
                        dtypes => {
                            let results = dtypes.iter().zip(&tiles);
                            let words: Vec<Vec<u64>> =
                                results.map(|(&dtype, tile)| words(dtype, tile, part.clone())).collect();
                            block.feed_words(run, &words);
                        }
                    }
                }
            }
        }
    }
    let partial = block.partial()?;
    if *finish { reducer.finish(&partial, stop) } else { Ok(vec![partial]) }
}

/// Stored elements as words.
fn words(dtype: DType, tile: &[u64], part: Range<usize>) -> Vec<u64> {
    with_element!(dtype, T => {
        bytemuck::cast_slice::<u64, T>(tile)[part].iter().map(|value| value.to_word()).collect()
    })
}

/// Consecutive tiles that cover `elements`.
pub(super) fn tiles(elements: u64, tile: u64) -> impl Iterator<Item = Range<u64>> {
    (0..elements).step_by(tile as usize).map(move |start| start..(start + tile).min(elements))
}

fn check(stop: &StopFlag) -> Result<(), ExecuteError> {
    if stop.is_raised() { Err(ExecuteError::Cancelled) } else { Ok(()) }
}

pub(super) fn buffer(bytes: u64) -> Result<BufferMut, ExecuteError> {
    BufferMut::try_new(bytes as usize).map_err(|_| ExecuteError::Memory { bytes })
}
