//! Maps: one dispatch over a block's elements, and the levels of a reduction's tree, in one submission.
//!
//! What changes from block to block is a parameter, so the pipelines of the first block serve the others of the same
//! structure.

use std::sync::Arc;

use crate::block::{Block, Buffer, BufferMut, Item};
use crate::dtype::DType;
use crate::executor::{ExecuteError, Task};
use crate::ids::KernelHash;
use crate::interpreter::StopFlag;
use crate::kernel::{Composed, Requirements, TypedKernel};
use crate::reduce::Reducer;
use crate::shape::{Region, Shape};
use crate::slots::Compute;
use crate::stage::{self, Body, ChunkStep, Map, ReduceOp, Stage};

use super::accumulate::Accumulator;
use super::device::Gpu;
use super::dispatch::{Dispatch, Elements, leaf_inputs, program};
use super::foresee;
use super::job::{Engine, Groups, Job, Pass, Seen};
use super::pace::Line;
use super::params::place_at;
use super::pipeline::Code;
use super::shader::{GROUP, Place, SERIAL_CHUNK, Sink, TREE_CHUNK, fold_text};
use super::space::{AXES_WORDS, Address, Space};
use super::user::UserReduction;

/// A map, made ready.
pub(super) struct MapStage {
    engine: Arc<Engine>,
    stage: Arc<Stage>,
    /// `None` where leaf 0 is the result.
    program: Option<Composed>,
    reduction: Option<Reduction>,
}

/// A reduction, made ready.
struct Reduction {
    /// What CPUs make of its partials.
    reducer: Reducer,
    accumulator: Accumulator,
    /// The kernel of a user's.
    user: Option<UserReduction>,
    /// What a user's kernel needs. What is built in computes with whatever the device has.
    needed: Requirements,
}

impl MapStage {
    /// Composes the map's kernels and checks that the device can run them.
    pub(super) fn new(
        engine: &Arc<Engine>,
        stage: &Arc<Stage>,
        map: &Map,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<MapStage, ExecuteError> {
        let gpu = &engine.gpu;
        let program = program(gpu, map, kernel)?;
        let reduction = map.reduce.as_ref().map(|reduce| Reduction::new(gpu, &reduce.reduction, kernel)).transpose()?;
        let outputs = if reduction.is_some() { 1 } else { stage.outputs.len() };
        let leaves_need = map.leaves.iter().map(|leaf| Requirements::of_dtype(leaf.dtype));
        let program_needs = program.iter().map(|program| program.requirements);
        let reduction_needs = reduction.iter().map(|reduction| reduction.needed);
        let needed = leaves_need.chain(program_needs).chain(reduction_needs);
        gpu.check_needed(needed.fold(Requirements::default(), |sum, more| sum | more))?;
        gpu.check_bindings(1 + map.leaves.len() + outputs)?;
        Ok(MapStage { engine: Arc::clone(engine), stage: Arc::clone(stage), program, reduction })
    }
}

impl Reduction {
    fn new(
        gpu: &Gpu,
        reduction: &stage::Reduction,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<Reduction, ExecuteError> {
        let reducer = Reducer::new(reduction, kernel)?;
        if let ReduceOp::User(hash) = reduction.op {
            let kernel = kernel(hash).ok_or(ExecuteError::KernelMissing(hash))?;
            let unsupported = || gpu.unsupported(format!("the accumulator of {kernel}"));
            let (user, accumulator) = UserReduction::new(&kernel).ok_or_else(unsupported)?;
            return Ok(Reduction { reducer, accumulator, user: Some(user), needed: kernel.requirements() });
        }
        let accumulator = Accumulator::built_in(reduction.op, reduction.inputs[0]);
        Ok(Reduction { reducer, accumulator, user: None, needed: Requirements::default() })
    }
}

impl Compute for MapStage {
    fn compute(&self, task: Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        self.engine.gpu.check()?;
        let map = self.map();
        let region = map.region(task.block);
        match (&map.reduce, &self.reduction) {
            (Some(reduce), Some(reduction)) => {
                let partial = self.partial(reduce, reduction, &region, &task, stop)?;
                if reduce.finish { reduction.reducer.finish(&partial, stop) } else { Ok(vec![partial]) }
            }
            _ => self.stored(&region, &task, stop),
        }
    }
}

/// The lengths of the axes that are kept.
fn kept(shape: &Shape, reduce: &ChunkStep) -> Shape {
    shape.iter().zip(&reduce.axes).filter(|&(_, &is_reduced)| !is_reduced).map(|(&length, _)| length).collect()
}

impl MapStage {
    fn map(&self) -> &Map {
        let Body::Map(map) = &self.stage.body else { unreachable!("a map stage is made of a map") };
        map
    }

    fn results(&self) -> Vec<DType> {
        self.program.as_ref().map_or_else(|| vec![self.map().leaves[0].dtype], |program| program.results.clone())
    }

    fn elements<'a>(&'a self, region: &'a Region, block: u64) -> Elements<'a> {
        let user = self.reduction.as_ref().and_then(|reduction| reduction.user.as_ref());
        Elements { program: self.program.as_ref(), user, region, block: self.map().block_index(block) }
    }

    /// Compiles what most of its blocks will run. What fails here fails there, and is told there.
    pub(super) fn warm(&self) {
        for task in foresee::tasks(&self.stage, self.map()) {
            let region = self.map().region(task.block);
            let job = match (&self.map().reduce, &self.reduction) {
                _ if region.is_empty() => continue,
                (Some(reduce), Some(reduction)) => self.reduce(reduce, reduction, &region, &task),
                _ => self.store(&region, &task),
            };
            drop(job);
        }
    }

    fn stored(&self, region: &Region, task: &Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        let results = self.results();
        let buffers = match region.is_empty() {
            true => results.iter().map(|_| Ok(BufferMut::try_new(0)?.freeze())).collect(),
            false => self.store(region, task)?.run(&self.engine, stop),
        }?;
        let fields = results.into_iter().zip(buffers);
        Ok(fields.map(|(dtype, buffer)| Block::new(Item::Value(dtype), region.shape(), buffer)).collect())
    }

    fn partial(
        &self,
        reduce: &ChunkStep,
        reduction: &Reduction,
        region: &Region,
        task: &Task,
        stop: &StopFlag,
    ) -> Result<Block, ExecuteError> {
        let Reduction { reducer, accumulator, .. } = reduction;
        if region.is_empty() {
            return reducer.block(&self.map().grid.shape(), region, &reduce.axes, stop).partial();
        }
        let buffers = self.reduce(reduce, reduction, region, task)?.run(&self.engine, stop)?;
        let [partial] = <[Buffer; 1]>::try_from(buffers).unwrap_or_else(|_| unreachable!("a tree has one root"));
        let item = Item::Partial { bytes: accumulator.bytes as u32 };
        Ok(reducer.without_padding(Block::new(item, kept(&region.shape(), reduce), partial))?)
    }

    fn store(&self, region: &Region, task: &Task) -> Result<Job, ExecuteError> {
        let mut job = Job::default();
        job.may_stay = true;
        let inputs = leaf_inputs(&self.engine.gpu, self.map(), region, task)?;
        Dispatch::store(&self.elements(region, task.block), inputs).add_store_to(&mut job, &self.engine)?;
        Ok(job)
    }

    fn reduce(
        &self,
        reduce: &ChunkStep,
        reduction: &Reduction,
        region: &Region,
        task: &Task,
    ) -> Result<Job, ExecuteError> {
        let (map, accumulator) = (self.map(), &reduction.accumulator);
        let shape = region.shape();
        let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..shape.rank()).partition(|&axis| reduce.axes[axis]);
        let count = |axes: &[usize]| axes.iter().map(|&axis| shape[axis]).product::<u64>();
        let (results, extent) = (count(&kept), count(&reduced));
        let place = accumulator.uses_place.then(|| places(&map.grid.shape(), region, &reduced));
        let how = match &place {
            None => Place::Unused,
            Some(place) if place.is_linear(0) => Place::Linear,
            Some(_) => Place::Strided,
        };
        let is_serial = extent <= SERIAL_CHUNK || row_kept(&shape, &reduce.axes) >= KEPT_MIN;
        let (sink, chunk) = match is_serial {
            true => (Sink::Serial(accumulator, how), SERIAL_CHUNK),
            false => (Sink::Tree(accumulator, how), TREE_CHUNK),
        };
        let inputs = leaf_inputs(&self.engine.gpu, map, region, task)?;
        let elements = self.elements(region, task.block);
        let mut dispatch = Dispatch::new(&elements, inputs, &[kept.as_slice(), &reduced].concat(), sink);
        let chunks = extent.div_ceil(chunk);
        dispatch.params[..3].copy_from_slice(&[results as u32, extent as u32, chunks as u32]);
        if let Some(place) = place {
            let record = place_at(map.leaves.len());
            dispatch.params[record..][..AXES_WORDS].copy_from_slice(&place.axes_words());
            let words = place.address_words(0);
            dispatch.params[record + AXES_WORDS..][..words.len()].copy_from_slice(&words);
        }
        let line = match is_serial {
            true => serial_line(results * chunks),
            false => Line { groups: results * chunks, group_elements: TREE_CHUNK },
        };
        let mut job = Job::default();
        let mut lower = dispatch.add_to(&mut job, &self.engine, line, &[chunks * results * accumulator.bytes])?[0];
        let mut from = chunks;
        while from > 1 {
            lower = self.fold(&mut job, reduction, results, from, lower)?;
            from = from.div_ceil(SERIAL_CHUNK);
        }
        Ok(job)
    }

    /// The level of the tree above `from` partials of each result, which are `lower`: the only result of the job.
    fn fold(
        &self,
        job: &mut Job,
        reduction: &Reduction,
        results: u64,
        from: u64,
        lower: Seen,
    ) -> Result<Seen, ExecuteError> {
        let Reduction { accumulator, user, .. } = reduction;
        let count = from.div_ceil(SERIAL_CHUNK);
        let code = Code::Engine {
            text: fold_text(accumulator, self.engine.gpu.info.features),
            kernels: user.iter().map(UserReduction::hash).collect(),
            splices: user.iter().flat_map(UserReduction::splices).collect(),
        };
        let pipeline = self.engine.pipelines.pipeline(&self.engine.gpu, code, &[true, true, false])?;
        let params = job.add_params(&[results as u32, from as u32, count as u32, 0]);
        let upper = job.add_output(count * results * accumulator.bytes);
        let groups = Groups::Line(serial_line(results * count));
        job.passes.push(Pass { pipeline, sees: vec![params, lower, upper], groups });
        job.results += 1;
        Ok(upper)
    }
}

/// The workgroups of so many invocations that reduce alone.
fn serial_line(invocations: u64) -> Line {
    Line { groups: invocations.div_ceil(GROUP), group_elements: GROUP * SERIAL_CHUNK }
}

/// A run of neighbours that belong to as many results is worth an invocation for each.
const KEPT_MIN: u64 = 32;

/// How many neighbouring elements of a block belong to different results.
fn row_kept(shape: &Shape, reduced: &[bool]) -> u64 {
    let inner = shape.iter().zip(reduced).rev().skip_while(|&(&length, _)| length == 1);
    inner.take_while(|&(&length, &reduced)| !reduced || length == 1).map(|(&length, _)| length).product()
}

/// The reduced axes of a block, addressed in those of the array.
fn places(array: &Shape, region: &Region, reduced: &[usize]) -> Space {
    let only = |lengths: &Shape| reduced.iter().map(|&axis| lengths[axis]).collect::<Shape>();
    let array = only(array);
    let steps = array.strides().iter().map(|&stride| stride as i64).collect();
    let address = Address { base: array.linear(&only(&region.start)), steps };
    let order: Vec<usize> = (0..reduced.len()).collect();
    Space::new(&only(&region.shape()), &order, vec![address])
}
