//! The executor on GPUs, through wgpu: Vulkan, Metal and DX12.
//!
//! What happens per element happens on the device: leaves are read or made there, the element program runs, results
//! are stored or reduced within the block. What is above blocks (folds, the end of a reduction, relabelling) runs on
//! the host, by the code that CPUs have, so that it gives the same bits wherever it happens.
//!
//! ```text
//! Stage -> MapStage (composed kernels, requirements checked)         once per stage
//!   block -> LeafInput (where values come from, how addressed)       `leaf`, `space`
//!         -> Shader (structure as WGSL) -> Pipeline, bind group      `shader`, `origin`, `accumulate`; `pipeline` caches
//!         -> Job: upload, dispatches, download in one submission     `run`, `job`, over buffers of `pool`
//!   results stay on the device until somebody looks at them          `resident`
//! ```
//!
//! A slot's thread sees a block through, so that as many blocks are in flight as there are slots. What a
//! device lacks is refused by name, never computed wrongly. A device that hangs or is lost fails its work,
//! now and later; the process goes on.

mod accumulate;
mod adapter;
mod bandwidth;
mod device;
mod diagnose;
mod job;
mod leaf;
mod origin;
mod params;
mod pipeline;
mod pool;
mod resident;
mod run;
mod select;
mod shader;
mod space;
mod user;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use adapter::{Adapter, AdapterFeatures, AdapterInfo, AdapterKind, AdapterLimits, adapters};
pub use bandwidth::{BandwidthError, copy_bytes_per_second};
pub use device::OpenError;
pub use diagnose::{Missing, missing};
pub use select::{SelectError, Visibility};

use crate::cpu::{self, CodeGenerator, Programs};
use crate::dtype::DType;
use crate::executor::{EventSink, ExecuteError, Executor, Task};
use crate::ids::{ArrayId, KernelHash};
use crate::kernel::{Composed, Requirements, TypedKernel, compose, portable};
use crate::reduce::Reducer;
use crate::slots::{Compute, Slots};
use crate::stage::{self, Body, Map, ReduceOp, Stage};

use accumulate::Accumulator;
use device::Gpu;
use job::Engine;
use pipeline::Pipelines;
use pool::Pool;
use run::{MapStage, Reduction};
use user::UserReduction;

/// How a [`GpuExecutor`] is made.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Blocks in flight; at least 2, so that the device computes while the host copies.
    pub slots: usize,
    /// The longest that the device may work on one block. Beyond it the device is lost: it cannot be freed.
    pub block_timeout: Duration,
    /// What all buffers on the device may take, those that results are copied through included. Results that stay there
    /// take at most half; what is beyond goes to the host's memory at once.
    pub memory_bytes: u64,
}

/// A GPU executor could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The driver refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system gives no more threads.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Computes blocks on one GPU.
pub struct GpuExecutor {
    name: String,
    /// Before the engine, so that its threads have ended when the device is closed.
    slots: Slots,
    engine: Arc<Engine>,
    kernels: HashMap<KernelHash, Arc<TypedKernel>>,
    /// For what is above blocks.
    programs: Programs,
}

impl GpuExecutor {
    /// Opens the device and starts the slots' threads. Events of all tasks go to `sink`.
    pub fn new(adapter: &Adapter, options: &GpuOptions, sink: EventSink) -> Result<GpuExecutor, StartError> {
        let gpu = Arc::new(Gpu::open(adapter, options.block_timeout)?);
        let pool = Pool::new(Arc::clone(&gpu), options.memory_bytes);
        let name = gpu.executor();
        let engine = Arc::new(Engine { gpu, pool, pipelines: Pipelines::default() });
        // The device itself has the block's deadline; a slot's own covers what the host does before and after.
        let slots = Slots::new("gpu", options.slots.max(2), options.block_timeout, sink)?;
        let programs = Programs::new(CodeGenerator::default());
        Ok(GpuExecutor { name, slots, engine, kernels: HashMap::new(), programs })
    }

    /// The GPU that it computes on.
    pub fn info(&self) -> &AdapterInfo {
        &self.engine.gpu.info
    }

    /// Declares the device lost, as its driver would.
    pub fn lose(&self, why: &str) {
        self.engine.gpu.lose(why.to_owned());
    }
}

impl Executor for GpuExecutor {
    fn name(&self) -> &str {
        &self.name
    }

    fn offers(&self) -> Requirements {
        offers(&self.engine.gpu)
    }

    fn slots(&self) -> usize {
        self.slots.count()
    }

    fn add_kernel(&mut self, kernel: Arc<TypedKernel>) {
        self.kernels.insert(kernel.hash(), kernel);
    }

    fn prepare(&mut self, stage: Arc<Stage>) {
        let (kernels, programs) = (&self.kernels, &mut self.programs);
        let kernel = |hash| kernels.get(&hash).cloned();
        self.slots.prepare(stage.array, || match &stage.body {
            Body::Map(map) => Ok(Arc::new(map_stage(&self.engine, &stage, map, &kernel)?) as Arc<dyn Compute>),
            Body::Fold(_) | Body::Relabel(_) => cpu::prepare(stage, programs, &kernel),
            Body::Block(_) => Err(self.engine.gpu.unsupported("block kernels are not there yet on GPUs".to_owned())),
        });
    }

    fn submit(&mut self, task: Task) {
        self.slots.submit(&self.name, task);
    }

    fn cancel(&mut self, array: ArrayId) {
        self.slots.cancel(array);
    }
}

impl Drop for GpuExecutor {
    fn drop(&mut self) {
        if self.engine.gpu.check().is_err() {
            // Closing a device waits for its work, and what hangs never ends. It is left to the process's end.
            std::mem::forget(Arc::clone(&self.engine));
        }
    }
}

/// Composes a map's kernels and checks that the device can run them.
fn map_stage(
    engine: &Arc<Engine>,
    stage: &Arc<Stage>,
    map: &Map,
    kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
) -> Result<MapStage, ExecuteError> {
    let gpu = &engine.gpu;
    let leaves: Vec<DType> = map.leaves.iter().map(|leaf| leaf.dtype).collect();
    let program = match map.program.is_identity() {
        true => None,
        false => Some(compose(&map.program, &leaves, kernel).map_err(|error| gpu.unsupported(error.to_string()))?),
    };
    let program = program.map(with_portable_module);
    let reduction = map.reduce.as_ref().map(|reduce| reduction(gpu, &reduce.reduction, kernel)).transpose()?;
    let outputs = if reduction.is_some() { 1 } else { stage.outputs.len() };
    let leaves_need = leaves.iter().map(|&leaf| Requirements::of_dtype(leaf));
    let program_needs = program.iter().map(|program| program.requirements);
    let reduction_needs = reduction.iter().map(|(_, needed)| *needed);
    let needed = leaves_need.chain(program_needs).chain(reduction_needs);
    check(gpu, needed.fold(Requirements::default(), |sum, more| sum | more), 1 + leaves.len() + outputs)?;
    let reduction = reduction.map(|(reduction, _)| reduction);
    Ok(MapStage { engine: Arc::clone(engine), stage: Arc::clone(stage), program, reduction })
}

/// The portable module is another than the one that was proved valid: wgpu validates it again.
fn with_portable_module(mut program: Composed) -> Composed {
    program.module = portable(&program.module, &program.info);
    program
}

/// A reduction, and what a device must have for it.
fn reduction(
    gpu: &Gpu,
    reduction: &stage::Reduction,
    kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
) -> Result<(Reduction, Requirements), ExecuteError> {
    let reducer = Reducer::new(reduction, kernel)?;
    if let ReduceOp::User(hash) = reduction.op {
        let kernel = kernel(hash).ok_or(ExecuteError::KernelMissing(hash))?;
        let unsupported = || gpu.unsupported(format!("the accumulator of {kernel}"));
        let (user, accumulator) = UserReduction::new(&kernel).ok_or_else(unsupported)?;
        return Ok((Reduction { reducer, accumulator, user: Some(user) }, kernel.requirements()));
    }
    let (op, input) = (reduction.op, reduction.inputs[0]);
    let accumulator = Accumulator::built_in(op, input);
    Ok((Reduction { reducer, accumulator, user: None }, Requirements::of_reduction(op, input)))
}

/// What kernels may need and the device has. Shader writers get functions of 64 bits wrong: none has those.
fn offers(gpu: &Gpu) -> Requirements {
    let features = gpu.info.features;
    // The engine moves f64 by its bits.
    Requirements { f64: features.f64 && features.i64, int64: features.i64, ..Requirements::default() }
}

/// Whether the device has what is needed, and sees so many buffers at once.
fn check(gpu: &Gpu, needed: Requirements, bindings: usize) -> Result<(), ExecuteError> {
    let has = offers(gpu);
    if !has.meets(needed) {
        return Err(gpu.unsupported(format!("the stage needs {needed}; the device has {has}")));
    }
    match gpu.info.limits.bindings {
        max if bindings as u64 > u64::from(max) => {
            Err(gpu.unsupported(format!("the stage needs {bindings} buffers at once; the device has {max}")))
        }
        _ => Ok(()),
    }
}
