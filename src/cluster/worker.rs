//! What `gridloom worker` runs: a worker on the CPU and one on each GPU, as asked for, until they are told to end.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::gpu::GpuOptions;
use gridloom_worker::net::NetError;
use gridloom_worker::net::identity::Token;
use gridloom_worker::serve::{DataRoot, Device, RemoteError, RemoteOptions, RemoteWorker, Stop, WorkerOptions};

use super::budget::{BlockMemory, Budget};
use super::gpus::{GPU_SLOTS, usable_gpus};
use super::{BLOCK_TIMEOUT, ClusterError};
use crate::client::Devices;
use crate::host;

/// How the workers of a process are made.
#[derive(Clone, Debug)]
pub struct RemoteWorkers {
    /// Where the scheduler is.
    pub scheduler: String,
    /// What lets them join.
    pub token: Token,
    /// What people call them.
    pub name: String,
    /// On what they compute: [`Devices::Auto`] and [`Devices::All`] are the CPU and every real GPU.
    pub devices: Devices,
    /// Slots of the one on the CPU; a core each unless said otherwise.
    pub threads: Option<NonZeroUsize>,
    /// What each may take, the program itself included; all share the memory of this process unless said otherwise.
    pub memory_bytes: Option<u64>,
    /// Which files they may open.
    pub data_root: DataRoot,
    /// Where peers reach them, if not where they reach the scheduler from.
    pub advertise: Option<String>,
    /// When they leave by themselves.
    pub lifetime: Option<Duration>,
    /// The longest that a kernel may run on one block.
    pub block_timeout: Duration,
}

impl RemoteWorkers {
    /// As usual: on every device, opening no files.
    pub fn new(scheduler: String, token: Token) -> RemoteWorkers {
        RemoteWorkers {
            scheduler,
            token,
            name: format!("{}-{}", host::name(), std::process::id()),
            devices: Devices::Auto,
            threads: None,
            memory_bytes: None,
            data_root: DataRoot::None,
            advertise: None,
            lifetime: None,
            block_timeout: BLOCK_TIMEOUT,
        }
    }

    /// Serves until `stop`, or the scheduler, ends all of them.
    ///
    /// # Errors
    /// The first for which one ended by itself; then the others end too.
    pub fn run(&self, stop: &Stop) -> Result<(), ClusterError> {
        let workers = self.options()?.into_iter().map(|options| RemoteWorker::new(self.remote(options), stop.clone()));
        let workers = workers.collect::<Result<Vec<RemoteWorker>, NetError>>()?;
        let serve = |worker: RemoteWorker| {
            let served = worker.run();
            if served.is_err() {
                stop.end();
            }
            served
        };
        thread::scope(|scope| {
            let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(|| serve(worker))).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok(ended.collect::<Result<(), RemoteError>>()?)
        })
    }

    fn remote(&self, worker: WorkerOptions) -> RemoteOptions {
        RemoteOptions {
            scheduler: self.scheduler.clone(),
            token: self.token.clone(),
            name: self.name.clone(),
            advertise: self.advertise.clone(),
            lifetime: self.lifetime,
            worker,
        }
    }

    /// One for each device.
    fn options(&self) -> Result<Vec<WorkerOptions>, ClusterError> {
        let gpus = if self.devices == Devices::Cpu { Vec::new() } else { usable_gpus(self.devices)? };
        let has_cpu = self.devices != Devices::Gpu;
        let count = gpus.len() + usize::from(has_cpu);
        let limit = self.memory_bytes.unwrap_or_else(|| Budget::of_this_process().share(count));
        let memory = BlockMemory::of(limit).ok_or(ClusterError::LittleMemory { bytes: limit })?;
        gridloom_worker::block::set_bytes_max(memory.buffer_bytes.saturating_mul(count as u64));
        let memory_bytes = memory.ledger_bytes;
        let (block_timeout, code_generator) = (self.block_timeout, CodeGenerator::default());
        let slots = self.threads.map_or_else(host::cores, NonZeroUsize::get);
        let cpu = has_cpu.then(|| Device::Cpu(CpuOptions { slots, block_timeout, code_generator }));
        let gpu = GpuOptions { slots: GPU_SLOTS, block_timeout, memory_bytes };
        let devices = cpu.into_iter().chain(gpus.into_iter().map(|adapter| Device::Gpu(adapter, gpu.clone())));
        let options = devices.map(|device| WorkerOptions { device, memory_bytes, data_root: self.data_root.clone() });
        Ok(options.collect())
    }
}
