//! The executor on GPUs, through wgpu: Vulkan, Metal and DX12.
//!
//! What happens per element happens on the device: leaves are read or made there, the element program runs, results
//! are stored or reduced within the block. What is above blocks (folds, the end of a reduction, relabelling) runs on
//! the host, by the code that CPUs have, so that it gives the same bits wherever it happens.
//!
//! ```text
//! Stage -> MapStage, BlockStage (requirements checked, warmed)       once per stage: `map`, `block`, `foresee`
//!   block -> LeafInput (where values come from, how addressed)       `leaf`, `space`
//!         -> Shader (structure as WGSL) -> Pipeline, bind group      `shader`, `origin`, `accumulate`; `pipeline` caches
//!         -> Job: upload, dispatches in turns, download              `dispatch`, `job`, `turns` by `pace`, over `pool`
//!   results stay on the device until somebody looks at them          `resident`
//! ```
//!
//! A slot's thread sees a block through, so that as many blocks are in flight as there are slots. What a
//! device lacks is refused by name, never computed wrongly. A device that hangs or is lost fails its work,
//! now and later; the process goes on.

mod accumulate;
mod adapter;
mod bandwidth;
mod block;
mod bounded;
mod device;
mod diagnose;
mod dispatch;
mod foresee;
mod job;
mod leaf;
mod map;
mod memory;
mod numbers;
mod origin;
mod pace;
mod params;
mod pipeline;
mod pool;
mod resident;
mod select;
mod shader;
mod space;
mod turns;
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
use crate::executor::{EventSink, ExecuteError, Executor, Task};
use crate::ids::{ArrayId, KernelHash};
use crate::kernel::{Requirements, TypedKernel};
use crate::slots::{Compute, GiveUp, Slots};
use crate::stage::{Body, Stage};

use block::BlockStage;
use device::Gpu;
use job::Engine;
use map::MapStage;
use pace::Pace;
use pipeline::Pipelines;
use pool::Pool;

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
        let engine = Arc::new(Engine { gpu, pool, pipelines: Pipelines::default(), pace: Pace::default() });
        // The device's time counts against a block's deadline. A slot also waits for the others that use the device.
        let count = options.slots.max(2);
        // Where a kernel hangs, a driver may also hang in the next submission, which has no deadline of its own.
        let hung = Arc::clone(&engine.gpu);
        let give_up: GiveUp = Box::new(move || hung.give_up());
        let slots = Slots::new("gpu", count, options.block_timeout.saturating_mul(count as u32), sink, Some(give_up))?;
        let programs = Programs::new(CodeGenerator::default());
        Ok(GpuExecutor { name, slots, engine, kernels: HashMap::new(), programs })
    }

    /// The GPU that it computes on.
    pub fn info(&self) -> &AdapterInfo {
        &self.engine.gpu.info
    }

    /// How many pipelines it has. Nearly all stages need no more once they are prepared.
    pub fn pipelines(&self) -> usize {
        self.engine.pipelines.count()
    }

    /// Dispatches at most so many workgroups of the engine's own at once, whatever would fit a turn. Never a bit of a
    /// result depends on it.
    pub fn set_groups_max(&self, groups: u64) {
        self.engine.pace.set_groups_max(groups);
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
        self.engine.gpu.offers()
    }

    fn slots(&self) -> usize {
        self.slots.count()
    }

    fn check(&self) -> Result<(), ExecuteError> {
        self.engine.gpu.check()
    }

    fn add_kernel(&mut self, kernel: Arc<TypedKernel>) {
        self.kernels.insert(kernel.hash(), kernel);
    }

    fn prepare(&mut self, stage: Arc<Stage>) {
        let (kernels, programs) = (&self.kernels, &mut self.programs);
        let kernel = |hash| kernels.get(&hash).cloned();
        self.slots.prepare(stage.array, || match &stage.body {
            Body::Map(map) => {
                let made = MapStage::new(&self.engine, &stage, map, &kernel)?;
                made.warm();
                Ok(Arc::new(made) as Arc<dyn Compute>)
            }
            Body::Block(call) => {
                let made = BlockStage::new(&self.engine, &stage, call, &kernel)?;
                made.warm();
                Ok(Arc::new(made))
            }
            Body::Fold(_) | Body::Relabel(_) => cpu::prepare(stage, programs, &kernel),
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
