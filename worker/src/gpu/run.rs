//! One block of a map on a device: leaves in, one dispatch (and the levels of a reduction's tree), results out.
//!
//! All that is dispatched for a block goes in one submission. What changes from block to block is a parameter, so the
//! pipelines of the first block serve the others of the same structure.

use std::sync::Arc;

use crate::block::{Block, BufferMut, Item};
use crate::dtype::DType;
use crate::executor::{ExecuteError, Task};
use crate::interpreter::StopFlag;
use crate::kernel::Composed;
use crate::reduce::Reducer;
use crate::shape::{RANK_MAX, Region, Shape};
use crate::slots::Compute;
use crate::source::parts;
use crate::stage::{Body, Map, Reduce, Stage};

use super::accumulate::Accumulator;
use super::device::Gpu;
use super::leaf::{Fill, LeafInput};
use super::pipeline::{Bound, Code, Pipeline, Pipelines, internal};
use super::pool::{Lease, Pool, Use};
use super::shader::{
    AXES_AT, ELEMENT, GROUP, LeafShader, Place, SERIAL_CHUNK, Shader, Sink, TREE_CHUNK, at_at, data_at, fold_text,
    leaf_at, params_words, place_at,
};
use super::space::{AXES_WORDS, Address, Space};
use super::user::UserReduction;

/// What all blocks of a device share.
pub(super) struct Engine {
    pub(super) gpu: Arc<Gpu>,
    pub(super) pool: Arc<Pool>,
    pub(super) pipelines: Pipelines,
}

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
                    false => self.reduce(map, reduce, accumulator, &region, &task, stop)?,
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
        let downloaded = self.run(dispatch, elements.div_ceil(GROUP), &outputs, &[], stop)?;
        let blocks = results.into_iter().zip(downloaded);
        Ok(blocks.map(|(dtype, buffer)| Block::new(Item::Value(dtype), shape.clone(), buffer.freeze())).collect())
    }

    fn reduce(
        &self,
        map: &Map,
        reduce: &Reduce,
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
        let levels: Vec<u64> =
            std::iter::successors(Some(chunks), |&count| (count > 1).then(|| count.div_ceil(SERIAL_CHUNK))).collect();
        let sizes: Vec<u64> = levels.iter().map(|count| count * results * accumulator.bytes).collect();
        let folds: Vec<Level> = levels.windows(2).map(|pair| Level { results, from: pair[0], to: pair[1] }).collect();
        let [mut partial] = <[BufferMut; 1]>::try_from(self.run(dispatch, groups, &sizes, &folds, stop)?)
            .unwrap_or_else(|_| unreachable!("a tree has one root"));
        self.reduction.iter().for_each(|reduction| reduction.reducer.zero_padding(partial.bytes_mut()));
        let item = Item::Partial { bytes: accumulator.bytes as u32 };
        Ok(Block::new(item, lengths(&kept), partial.freeze()))
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
            inputs.push(LeafInput::new(leaf.dtype, region, parts, self.engine.gpu.info.features)?);
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

/// One level of the tree in a block: `from` partials of each result become `to`.
struct Level {
    results: u64,
    from: u64,
    to: u64,
}

/// Parameters of different dispatches begin at multiples of this: what every device wants at most.
const PARAMS_ALIGNMENT: u64 = 256;
/// Uploads begin at multiples of this.
const COPY_ALIGNMENT: u64 = 16;

impl MapStage {
    /// Runs a dispatch of `groups` workgroups. Without `levels` all `outputs` are downloaded; with them, output `i` is
    /// what level `i` reads, and the last is downloaded.
    fn run(
        &self,
        dispatch: Dispatch<'_>,
        groups: u64,
        outputs: &[u64],
        levels: &[Level],
        stop: &StopFlag,
    ) -> Result<Vec<BufferMut>, ExecuteError> {
        let Engine { gpu, pool, pipelines } = &*self.engine;
        let Dispatch { shader, mut params, fills } = dispatch;
        let kernel_outputs = if levels.is_empty() { outputs.len() } else { 1 };
        let pipeline = self.pipeline(shader.text(), true, 1 + fills.len(), kernel_outputs)?;
        let fold = match (levels, shader.sink) {
            ([], _) | (_, Sink::Store) => None,
            (_, Sink::Serial(accumulator, _) | Sink::Tree(accumulator, _)) => {
                Some(self.pipeline(fold_text(accumulator), false, 2, 1)?)
            }
        };
        let main_bytes = 4 * params.len() as u64;
        let level_words = PARAMS_ALIGNMENT as usize / 4;
        for level in levels {
            params.resize(params.len().next_multiple_of(level_words) + level_words, 0);
            let at = params.len() - level_words;
            params[at..at + 3].copy_from_slice(&[level.results as u32, level.from as u32, level.to as u32]);
        }
        let params_bytes = 4 * params.len() as u64;
        let fill_bytes: Vec<u64> = fills.iter().map(Fill::bytes).collect();
        let upload_bytes = fill_bytes.iter().fold(params_bytes.next_multiple_of(COPY_ALIGNMENT), |sum, bytes| {
            sum + bytes.next_multiple_of(COPY_ALIGNMENT)
        });
        let downloads = if levels.is_empty() { outputs } else { &outputs[outputs.len() - 1..] };
        let download_bytes = downloads.iter().sum();
        gpu.check_binding(fill_bytes.iter().chain(outputs).copied())?;

        let storage = [params_bytes].into_iter().chain(fill_bytes.iter().copied()).chain(outputs.iter().copied());
        let wanted: Vec<(Use, u64)> = [(Use::Upload, upload_bytes), (Use::Download, download_bytes)]
            .into_iter()
            .chain(storage.map(|bytes| (Use::Storage, bytes)))
            .collect();
        let mut leases = pool.lease(&wanted)?;
        if stop.is_raised() {
            return Err(ExecuteError::Cancelled);
        }
        let buffers = leases.split_off(2);
        let mut download = leases.remove(1);
        let mut upload = leases.remove(0);
        let copies = write(&upload, &params, &fills, &buffers)?;
        upload.unmap();

        let evictions = pool.evictions();
        let bound = |at: usize, bytes: u64| Bound { buffer: buffers[at].buffer.clone(), offset: 0, bytes };
        let first_output = 1 + fills.len();
        let main = [bound(0, main_bytes)]
            .into_iter()
            .chain(fill_bytes.iter().enumerate().map(|(at, &bytes)| bound(1 + at, bytes)))
            .chain(outputs[..kernel_outputs].iter().enumerate().map(|(at, &bytes)| bound(first_output + at, bytes)));
        let mut passes = vec![(pipeline.clone(), pipelines.group(gpu, evictions, &pipeline, main.collect())?, groups)];
        for (at, (level, fold)) in levels.iter().zip(fold.iter().cycle()).enumerate() {
            let offset = main_bytes.next_multiple_of(PARAMS_ALIGNMENT) + at as u64 * PARAMS_ALIGNMENT;
            let params = Bound { buffer: buffers[0].buffer.clone(), offset, bytes: 12 };
            let [lower, upper] = [at, at + 1].map(|at| bound(first_output + at, outputs[at]));
            let group = pipelines.group(gpu, evictions, fold, vec![params, lower, upper])?;
            passes.push((fold.clone(), group, (level.results * level.to).div_ceil(GROUP)));
        }

        let submission = gpu
            .guarded(|| {
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (at, &(offset, bytes)) in copies.iter().enumerate() {
                    encoder.copy_buffer_to_buffer(&upload.buffer, offset, &buffers[at].buffer, 0, bytes);
                }
                {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    for (pipeline, group, groups) in &passes {
                        let [x, y] = gpu.spread(*groups);
                        pass.set_pipeline(&pipeline.pipeline);
                        pass.set_bind_group(0, group, &[]);
                        pass.dispatch_workgroups(x, y, 1);
                    }
                }
                let mut at = 0;
                let first = buffers.len() - downloads.len();
                for (lease, &bytes) in buffers[first..].iter().zip(downloads) {
                    encoder.copy_buffer_to_buffer(&lease.buffer, 0, &download.buffer, at, bytes);
                    at += bytes;
                }
                let submission = gpu.queue.submit([encoder.finish()]);
                download.buffer.map_async(wgpu::MapMode::Read, ..download_bytes, |_| {});
                submission
            })
            .map_err(internal)?;
        gpu.wait(submission)?;
        download.set_mapped();
        read(&download, downloads)
    }
}

/// Fills the upload buffer. Where in it the contents of each buffer are, from the parameters on.
fn write(upload: &Lease, params: &[u32], fills: &[Fill], buffers: &[Lease]) -> Result<Vec<(u64, u64)>, ExecuteError> {
    debug_assert!(buffers.len() > fills.len());
    let mut view = upload
        .buffer
        .get_mapped_range_mut(..)
        .map_err(|error| ExecuteError::Internal { what: format!("an upload buffer is not mapped: {error}") })?;
    let params: &[u8] = bytemuck::cast_slice(params);
    view.slice(..params.len()).copy_from_slice(params);
    let mut copies = vec![(0, params.len() as u64)];
    let mut at = params.len().next_multiple_of(COPY_ALIGNMENT as usize);
    for fill in fills {
        let start = at;
        fill.write(|bytes| {
            view.slice(at..at + bytes.len()).copy_from_slice(bytes);
            at += bytes.len();
        })?;
        copies.push((start as u64, (at - start) as u64));
        at = at.next_multiple_of(COPY_ALIGNMENT as usize);
    }
    Ok(copies)
}

/// What was downloaded, one buffer for each of `sizes`.
fn read(download: &Lease, sizes: &[u64]) -> Result<Vec<BufferMut>, ExecuteError> {
    let total: u64 = sizes.iter().sum();
    let view = download
        .buffer
        .get_mapped_range(..total)
        .map_err(|error| ExecuteError::Internal { what: format!("a download buffer is not mapped: {error}") })?;
    let mut at = 0;
    let mut buffers = Vec::with_capacity(sizes.len());
    for &bytes in sizes {
        let mut buffer = BufferMut::try_new(bytes as usize)?;
        buffer.bytes_mut().copy_from_slice(&view[at..at + bytes as usize]);
        at += bytes as usize;
        buffers.push(buffer);
    }
    Ok(buffers)
}
