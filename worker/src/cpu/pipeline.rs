//! One block through the tile pipeline: leaves are read a tile at a time, the element program runs over the tile, and
//! the results are stored or reduced while they are still in cache. Nothing between source and sink touches memory.

use std::ops::Range;
use std::sync::Arc;

use crate::block::{Block, BufferMut, Item};
use crate::dtype::{DType, Element};
use crate::executor::{ExecuteError, Operand, Task};
use crate::ids::KernelHash;
use crate::interpreter::{Interpreter, StopFlag};
use crate::kernel::{TypedKernel, compose};
use crate::reduce::{self, Reducer};
use crate::shape::{RANK_MAX, Region, Shape};
use crate::source::{LeafReader, leaf_readers};
use crate::stage::{Body, ChunkStep, Map, Relabel, Stage};
use crate::with_element;

/// Elements of a tile: small enough that a handful of f64 tiles stay in a 32 KiB L1 cache.
const TILE: u64 = 1024;

/// Words that `At` takes as an argument: the rank, then three arrays of eight.
const AT_WORDS: usize = 1 + 3 * RANK_MAX;

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
}

/// The element program of a map.
enum ElementProgram {
    /// Leaf 0 is the result.
    Identity,
    Interpreted(Box<Interpreted>),
}

struct Interpreted {
    interpreter: Interpreter,
    uses_at: bool,
    results: Vec<DType>,
}

impl Prepared {
    /// Composes the stage's kernels; `kernel` finds them by hash.
    pub(super) fn new(
        stage: Arc<Stage>,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<Prepared, ExecuteError> {
        let work = match &stage.body {
            Body::Map(map) => {
                let program = ElementProgram::new(map, kernel)?;
                match &map.reduce {
                    None => Work::Map(program),
                    Some(reduce) => Work::MapReduce(program, Reducer::new(&reduce.reduction, kernel)?),
                }
            }
            Body::Fold(fold) => Work::Fold(Reducer::new(&fold.reduction, kernel)?),
            Body::Relabel(_) => Work::Relabel,
        };
        Ok(Prepared { stage, work })
    }

    /// Computes one block: one result per field.
    pub(super) fn compute(&self, task: Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        match (&self.stage.body, &self.work) {
            (Body::Map(map), Work::Map(program)) => store(map, program, &task, stop),
            (Body::Map(map), Work::MapReduce(program, reducer)) => reduce_block(map, reducer, program, &task, stop),
            (Body::Fold(fold), Work::Fold(reducer)) => {
                let partials: Vec<Block> = task.operands.into_iter().map(|operand| operand.data).collect();
                let folded = reducer.fold(&partials, stop)?;
                if fold.finish { reducer.finish(&folded, stop) } else { Ok(vec![folded]) }
            }
            (Body::Relabel(relabel), Work::Relabel) => Ok(relabelled(relabel, task)),
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
                for tile in tiles(elements) {
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
            for tile in tiles(elements) {
                lanes.run(&readers, tile.start, (tile.end - tile.start) as usize, stop)?;
                for ((buffer, words), dtype) in buffers.iter_mut().zip(&lanes.results).zip(&program.results) {
                    with_element!(*dtype, T => {
                        let target = &mut buffer.elements_mut::<T>()[tile.start as usize..tile.end as usize];
                        target.iter_mut().zip(words).for_each(|(to, &word)| *to = T::from_word(word));
                    });
                }
            }
            let blocks = program.results.iter().zip(buffers);
            Ok(blocks.map(|(&dtype, buffer)| Block::new(Item::Value(dtype), shape.clone(), buffer.freeze())).collect())
        }
    }
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
    }
    let partial = block.partial()?;
    if *finish { reducer.finish(&partial, stop) } else { Ok(vec![partial]) }
}

impl ElementProgram {
    fn new(map: &Map, kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>) -> Result<ElementProgram, ExecuteError> {
        if map.program.is_identity() {
            return Ok(ElementProgram::Identity);
        }
        let leaves: Vec<DType> = map.leaves.iter().map(|leaf| leaf.dtype).collect();
        let composed = compose(&map.program, &leaves, kernel).map_err(|error| unsupported(&error))?;
        let interpreter = Interpreter::new(Arc::new(composed.module), composed.function);
        Ok(ElementProgram::Interpreted(Box::new(Interpreted {
            interpreter: interpreter.map_err(|error| unsupported(&error))?,
            uses_at: composed.uses_at,
            results: composed.results,
        })))
    }
}

/// The element program over a tile, one invocation after the other. Values are words: the stored bits, zero-extended.
struct Lanes {
    interpreter: Interpreter,
    dtypes: Vec<DType>,
    /// Per leaf, the tile's words.
    arguments: Vec<Vec<u64>>,
    /// Per result, the tile's words.
    results: Vec<Vec<u64>>,
    at: Option<At>,
}

/// What the engine tells a kernel of where it is.
struct At {
    region: Region,
    shape: Shape,
    words: [u64; AT_WORDS],
}

impl Lanes {
    fn new(map: &Map, program: &Interpreted, region: &Region, block: u64) -> Lanes {
        Lanes {
            interpreter: program.interpreter.clone(),
            dtypes: map.leaves.iter().map(|leaf| leaf.dtype).collect(),
            arguments: vec![Vec::new(); map.leaves.len()],
            results: vec![Vec::new(); program.results.len()],
            at: program.uses_at.then(|| At::new(region, &map.block_index(block))),
        }
    }

    /// Computes `length` elements from the block's row-major element `start` on, into `results`.
    fn run(&mut self, readers: &[LeafReader], start: u64, length: usize, stop: &StopFlag) -> Result<(), ExecuteError> {
        for ((reader, words), dtype) in readers.iter().zip(&mut self.arguments).zip(&self.dtypes) {
            with_element!(*dtype, T => {
                let mut tile = [T::default(); TILE as usize];
                words.clear();
                for first in (0..length).step_by(tile.len()) {
                    let part = &mut tile[..(length - first).min(TILE as usize)];
                    reader.read(start + first as u64, part)?;
                    words.extend(part.iter().map(|value| value.to_word()));
                }
            });
        }
        let mut arguments = vec![0; self.dtypes.len() + if self.at.is_some() { AT_WORDS } else { 0 }];
        let mut results = vec![0; self.results.len()];
        self.results.iter_mut().for_each(Vec::clear);
        for lane in 0..length {
            let (data, at_words) = arguments.split_at_mut(self.dtypes.len());
            data.iter_mut().zip(&self.arguments).for_each(|(argument, words)| *argument = words[lane]);
            if let Some(at) = &mut self.at {
                at_words.copy_from_slice(at.at(start + lane as u64));
            }
            self.interpreter.call(&arguments, stop, &mut results).map_err(|_| ExecuteError::Cancelled)?;
            self.results.iter_mut().zip(&results).for_each(|(words, &word)| words.push(word));
        }
        Ok(())
    }
}

impl At {
    fn new(region: &Region, block: &Shape) -> At {
        let shape = region.shape();
        let mut words = [0; AT_WORDS];
        words[0] = shape.rank() as u64;
        words[1 + RANK_MAX..][..block.rank()].copy_from_slice(block);
        words[1 + 2 * RANK_MAX..][..shape.rank()].copy_from_slice(&shape);
        At { region: region.clone(), shape, words }
    }

    /// The argument for the block's row-major element `element`.
    fn at(&mut self, element: u64) -> &[u64] {
        let index = self.shape.index_at(element);
        for (word, (&at, &start)) in self.words[1..].iter_mut().zip(index.iter().zip(self.region.start.iter())) {
            *word = start + at;
        }
        &self.words
    }
}

/// Consecutive tiles that cover `elements`.
fn tiles(elements: u64) -> impl Iterator<Item = Range<u64>> {
    (0..elements).step_by(TILE as usize).map(move |start| start..(start + TILE).min(elements))
}

fn check(stop: &StopFlag) -> Result<(), ExecuteError> {
    if stop.is_raised() { Err(ExecuteError::Cancelled) } else { Ok(()) }
}

fn buffer(bytes: u64) -> Result<BufferMut, ExecuteError> {
    BufferMut::try_new(bytes as usize).map_err(|_| ExecuteError::Memory { bytes })
}

fn unsupported(what: &dyn std::error::Error) -> ExecuteError {
    ExecuteError::Unsupported { executor: super::NAME.to_owned(), what: what.to_string() }
}
