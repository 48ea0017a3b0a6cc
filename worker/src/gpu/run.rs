//! One block of a map on a device: leaves in, one dispatch (and the levels of a reduction's tree), results out.
//!
//! All that is dispatched for a block goes in one submission. What changes from block to block is a parameter, so the
//! pipelines of the first block serve the others of the same structure.

use std::sync::Arc;

use crate::block::{Block, Buffer, BufferMut, Item};
use crate::dtype::DType;
use crate::executor::{ExecuteError, Task};
use crate::interpreter::StopFlag;
use crate::kernel::Composed;
use crate::reduce::Reducer;
use crate::shape::{RANK_MAX, Region, Shape};
use crate::slots::Compute;
use crate::source::parts;
use crate::stage::{Body, ChunkStep, Map, Stage};

use super::accumulate::Accumulator;
use super::job::{Engine, Job, Pass, Seen};
use super::leaf::{Fill, LeafInput};
use super::origin::LeafShader;
use super::params::{AXES_AT, at_at, data_at, leaf_at, params_words, place_at};
use super::pipeline::{Code, Pipeline};
use super::shader::{ELEMENT, GROUP, Place, SERIAL_CHUNK, Shader, Sink, TREE_CHUNK, fold_text};
use super::space::{AXES_WORDS, Address, Space};
use super::user::UserReduction;

/// A map, made ready.
pub(super) struct MapStage {
    pub(super) engine: Arc<Engine>,
    pub(super) stage: Arc<Stage>,
    /// `None` where leaf 0 is the result.
    pub(super) program: Option<Composed>,
    pub(super) reduction: Option<Reduction>,
}

/// A reduction, made ready.
pub(super) struct Reduction {
    /// What CPUs make of its partials.
    pub(super) reducer: Reducer,
    pub(super) accumulator: Accumulator,
    /// The kernel of a user's.
    pub(super) user: Option<UserReduction>,
}

impl Compute for MapStage {
    fn compute(&self, task: Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        self.engine.gpu.check()?;
        let Body::Map(map) = &self.stage.body else { unreachable!("a map stage is made of a map") };
        let region = map.region(task.block);
        match (&map.reduce, &self.reduction) {
            (Some(reduce), Some(Reduction { reducer, accumulator, .. })) => {
                let partial = match region.is_empty() {
                    true => reducer.block(&map.grid.shape(), &region, &reduce.axes, stop).partial()?,
                    false => reducer.without_padding(self.reduce(map, reduce, accumulator, &region, &task, stop)?)?,
                };
                if reduce.finish { reducer.finish(&partial, stop) } else { Ok(vec![partial]) }
            }
            _ if region.is_empty() => self.results(map).into_iter().map(|dtype| empty(dtype, &region)).collect(),
            _ => self.store(map, &region, &task, stop),
        }
    }
}

/// A field of a block without elements.
fn empty(dtype: DType, region: &Region) -> Result<Block, ExecuteError> {
    Ok(Block::new(Item::Value(dtype), region.shape(), BufferMut::try_new(0)?.freeze()))
}

/// A dispatch in the making.
struct Dispatch<'a> {
    shader: Shader<'a>,
    params: Vec<u32>,
    fills: Vec<Fill>,
}

impl MapStage {
    fn results(&self, map: &Map) -> Vec<DType> {
        self.program.as_ref().map_or_else(|| vec![map.leaves[0].dtype], |program| program.results.clone())
    }

    fn store(&self, map: &Map, region: &Region, task: &Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        let shape = region.shape();
        let order: Vec<usize> = (0..shape.rank()).collect();
        let mut dispatch = self.dispatch(map, region, task, &order, Sink::Store)?;
        let elements = shape.elements();
        dispatch.params[0] = elements as u32;
        let results = self.results(map);
        let outputs: Vec<u64> = results.iter().map(|dtype| elements * dtype.bytes()).collect();
        let mut job = self.job(dispatch, elements.div_ceil(GROUP), outputs)?;
        job.may_stay = true;
        let blocks = results.into_iter().zip(job.run(&self.engine, stop)?);
        Ok(blocks.map(|(dtype, buffer)| Block::new(Item::Value(dtype), shape.clone(), buffer)).collect())
    }

    fn reduce(
        &self,
        map: &Map,
        reduce: &ChunkStep,
        accumulator: &Accumulator,
        region: &Region,
        task: &Task,
        stop: &StopFlag,
    ) -> Result<Block, ExecuteError> {
        let shape = region.shape();
        let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..shape.rank()).partition(|&axis| reduce.axes[axis]);
        let lengths = |axes: &[usize]| axes.iter().map(|&axis| shape[axis]).collect::<Shape>();
        let (results, extent) = (lengths(&kept).elements(), lengths(&reduced).elements());
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
        let order = [kept.as_slice(), &reduced].concat();
        let mut dispatch = self.dispatch(map, region, task, &order, sink)?;
        let chunks = extent.div_ceil(chunk);
        dispatch.params[..3].copy_from_slice(&[results as u32, extent as u32, chunks as u32]);
        if let Some(place) = place {
            let record = place_at(map.leaves.len());
            dispatch.params[record..][..AXES_WORDS].copy_from_slice(&place.axes_words());
            let words = place.address_words(0);
            dispatch.params[record + AXES_WORDS..][..words.len()].copy_from_slice(&words);
        }
        let groups = if is_serial { (results * chunks).div_ceil(GROUP) } else { results * chunks };
        let bytes = |count: u64| count * results * accumulator.bytes;
        let mut job = self.job(dispatch, groups, vec![bytes(chunks)])?;
        let mut from = chunks;
        while from > 1 {
            let count = from.div_ceil(SERIAL_CHUNK);
            let params = job.add_params(&[results as u32, from as u32, count as u32]);
            let pipeline = self.pipeline(fold_text(accumulator), false, 2, 1)?;
            let sees = vec![Seen::Output(job.results), Seen::Output(job.results + 1)];
            job.passes.push(Pass { pipeline, params, sees, groups: (results * count).div_ceil(GROUP) });
            job.outputs.push(bytes(count));
            job.results += 1;
            from = count;
        }
        let [partial] = <[Buffer; 1]>::try_from(job.run(&self.engine, stop)?)
            .unwrap_or_else(|_| unreachable!("a tree has one root"));
        let item = Item::Partial { bytes: accumulator.bytes as u32 };
        Ok(Block::new(item, lengths(&kept), partial))
    }

    /// The first dispatch of a block: it sees what is brought, and writes `outputs`.
    fn job(&self, dispatch: Dispatch<'_>, groups: u64, outputs: Vec<u64>) -> Result<Job, ExecuteError> {
        let Dispatch { shader, params, fills } = dispatch;
        let pipeline = self.pipeline(shader.text(), true, 1 + fills.len(), outputs.len())?;
        let mut job = Job::default();
        let params = job.add_params(&params);
        let sees = (0..fills.len()).map(Seen::Fill).chain((0..outputs.len()).map(Seen::Output)).collect();
        job.passes.push(Pass { pipeline, params, sees, groups });
        (job.fills, job.outputs) = (fills, outputs);
        Ok(job)
    }

    /// The structure and the parameters that all dispatches over leaves have. The block's axes are taken in `order`.
    fn dispatch<'a>(
        &self,
        map: &Map,
        region: &Region,
        task: &Task,
        order: &[usize],
        sink: Sink<'a>,
    ) -> Result<Dispatch<'a>, ExecuteError> {
        let shape = region.shape();
        let mut operands = task.operands.iter();
        let mut inputs = Vec::with_capacity(map.leaves.len());
        for leaf in &map.leaves {
            let parts = parts(leaf, region, &mut operands)?;
            inputs.push(LeafInput::new(leaf.dtype, region, parts, &self.engine.gpu)?);
        }
        let addresses = inputs.iter().map(|input| input.address.clone()).collect();
        let space = Space::new(&shape, order, addresses);
        let mut params = vec![0; params_words(inputs.len())];
        let mut put = |at: usize, words: &[u32]| params[at..at + words.len()].copy_from_slice(words);
        put(AXES_AT, &space.axes_words());
        for (at, input) in inputs.iter().enumerate() {
            put(leaf_at(at), &space.address_words(at));
            put(data_at(at), &input.data);
        }
        let uses_at = self.program.as_ref().is_some_and(|program| program.uses_at);
        if uses_at {
            put(at_at(inputs.len()), &at_words(region, &map.block_index(task.block), order));
        }
        let leaf = |(at, input): (usize, &LeafInput)| LeafShader {
            dtype: input.dtype,
            origin: input.origin,
            is_linear: space.is_linear(at),
        };
        let shader = Shader {
            leaves: inputs.iter().enumerate().map(leaf).collect(),
            results: self.results(map),
            is_identity: self.program.is_none(),
            uses_at,
            sink,
        };
        Ok(Dispatch { shader, params, fills: inputs.into_iter().filter_map(|input| input.fill).collect() })
    }

    /// The pipeline of `text`, with whatever kernels it has stubs for.
    fn pipeline(
        &self,
        text: String,
        has_program: bool,
        inputs: usize,
        outputs: usize,
    ) -> Result<Pipeline, ExecuteError> {
        let program = self.program.as_ref().filter(|_| has_program);
        let user = self.reduction.as_ref().and_then(|reduction| reduction.user.as_ref());
        let element = program.map(|program| (ELEMENT, &program.module, program.function));
        let code = Code {
            text,
            kernels: program.map(Composed::hash).into_iter().chain(user.map(UserReduction::hash)).collect(),
            splices: element.into_iter().chain(user.into_iter().flat_map(UserReduction::splices)).collect(),
            inputs,
            outputs,
        };
        self.engine.pipelines.pipeline(&self.engine.gpu, code)
    }
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

/// What `At` is made of: the rank, and per axis the block's first index, its index, its length, and how many elements
/// in the order of computation come before the index goes up.
fn at_words(region: &Region, block: &Shape, order: &[usize]) -> [u32; 1 + 4 * RANK_MAX] {
    let shape = region.shape();
    let mut words = [0; 1 + 4 * RANK_MAX];
    words[0] = shape.rank() as u32;
    for axis in 0..shape.rank() {
        let later = order.iter().skip_while(|&&at| at != axis).skip(1);
        let divisor: u64 = later.map(|&axis| shape[axis]).product();
        let values = [region.start[axis], block[axis], shape[axis], divisor];
        values.iter().enumerate().for_each(|(at, &value)| words[1 + at * RANK_MAX + axis] = value as u32);
    }
    words
}
