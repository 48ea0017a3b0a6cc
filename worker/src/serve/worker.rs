//! A worker without its transport.
//!
//! A [`Worker`] is an agent with the executor it drives. It has no thread of its own: whoever carries its messages
//! calls [`Worker::handle`] and then takes what leaves it from [`Worker::poll`]. What its executor finishes comes back
//! through the sink it was made with, and is handed to [`Worker::handle`] like everything else.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::data_root::DataRoot;
use crate::agent::{self, Action, Agent, Outward, Part, Start};
use crate::block::Block;
use crate::cpu::{CpuExecutor, CpuOptions};
use crate::executor::{self, EventSink, ExecuteError, Executor, Operand, Task};
use crate::gpu::{self, Adapter, GpuExecutor, GpuOptions};
use crate::ids::ArrayId;
use crate::kernel::{KernelSource, TypedKernel};
use crate::shape::Region;
use crate::stage::Stage;
use crate::wire::{DeviceClass, FETCH_BYTES_PER_SECOND, KernelBytes, Register, decode};

/// What a worker computes on. A GPU is a worker of its own.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU.
    Cpu(CpuOptions),
    /// One GPU of [`crate::gpu::adapters`].
    Gpu(Adapter, GpuOptions),
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] gpu::StartError);

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError(gpu::StartError::Thread(error))
    }
}

/// How a worker is made.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// What it computes on.
    pub device: Device,
    /// What all its blocks and work in flight may take.
    pub memory_bytes: u64,
    /// Which files it may open.
    pub data_root: DataRoot,
}

/// A worker: what it decides with and what it computes with.
pub struct Worker {
    agent: Agent<Block>,
    executor: Box<dyn Executor>,
    class: DeviceClass,
    is_software: bool,
    memory_bytes: u64,
    data_root: DataRoot,
    /// Stages that are not carried out, and why.
    refused: HashMap<ArrayId, ExecuteError>,
    /// What time it was told last.
    now: Duration,
}

impl Worker {
    /// Starts the executor's threads. Its events go to `sink`, to be brought back by [`executed`].
    pub fn start(options: WorkerOptions, sink: EventSink) -> Result<Worker, StartError> {
        let WorkerOptions { device, memory_bytes, data_root } = options;
        let is_software = matches!(&device, Device::Gpu(adapter, _) if adapter.info().is_software());
        let (executor, class): (Box<dyn Executor>, DeviceClass) = match device {
            Device::Cpu(options) => (Box::new(CpuExecutor::new(&options, sink)?), DeviceClass::Cpu),
            Device::Gpu(adapter, options) => {
                let class = DeviceClass::Gpu(adapter.info().class());
                (Box::new(GpuExecutor::new(&adapter, &options, sink)?), class)
            }
        };
        let (agent, refused) = (Agent::new(memory_bytes), HashMap::new());
        Ok(Worker { agent, executor, class, is_software, memory_bytes, data_root, refused, now: Duration::ZERO })
    }

    /// What it says of itself when it registers.
    pub fn register(&self) -> Register {
        Register {
            name: String::new(),
            slots: self.executor.slots() as u32,
            memory_bytes: self.memory_bytes,
            executor: self.executor.name().to_owned(),
            class: self.class.clone(),
            is_software: self.is_software,
            offers: self.executor.offers(),
            process: std::process::id(),
            address: String::new(),
            fetch_bytes_per_second: FETCH_BYTES_PER_SECOND,
        }
    }

    /// Whether its work can still end well.
    ///
    /// # Errors
    /// [`ExecuteError::DeviceLost`] once its device is lost.
    pub fn check(&self) -> Result<(), ExecuteError> {
        self.executor.check()
    }

    /// Whether to hear of a stage takes no time to speak of: there is nothing to compile, and no disk to look at.
    pub fn is_ready_for(&self, stage: &Stage) -> bool {
        !self.data_root.looks_for(stage) && self.executor.is_ready_for(stage)
    }

    /// Takes note of what happened at `now`.
    pub fn handle(&mut self, now: Duration, event: agent::Event<Block>) {
        self.now = now;
        self.agent.handle(now, event);
    }

    /// When [`agent::Event::Tick`] is due, if ever.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.agent.next_timeout()
    }

    /// Does what the agent wants done here, until something is to leave.
    pub fn poll(&mut self) -> Option<Outward<Block>> {
        while let Some(action) = self.agent.poll() {
            match action {
                Action::Out(outward) => return Some(outward),
                Action::Kernel(kernel) => self.add_kernel(&kernel),
                Action::Prepare { stage } => match self.data_root.allows(&stage) {
                    Ok(()) => self.executor.prepare(stage),
                    Err(error) => drop(self.refused.insert(stage.array, error)),
                },
                Action::Start(start) => self.begin(start),
                Action::Cancel { array } => {
                    self.refused.remove(&array);
                    self.executor.cancel(array);
                }
            }
        }
        None
    }

    fn begin(&mut self, start: Start<Block>) {
        let Start { token, array, block, operands } = start;
        match self.refused.get(&array) {
            Some(error) => {
                let result = Err(error.clone());
                self.agent.handle(self.now, agent::Event::Finished { token, result, busy: Duration::ZERO });
            }
            None => {
                let operands = operands.into_iter().map(operand).collect();
                self.executor.submit(Task { token, array, block, operands });
            }
        }
    }

    /// A kernel that does not compile here is left out: stages that name it then fail, and say so.
    fn add_kernel(&mut self, kernel: &KernelBytes) {
        match compiled(kernel) {
            Ok(compiled) => self.executor.add_kernel(Arc::new(compiled)),
            Err(error) => tracing::warn!(kernel = %kernel.hash, %error, "a kernel does not compile here"),
        }
    }
}

/// What came as bytes, parsed and validated anew: nothing is taken on trust. A panic of the compiler is contained.
fn compiled(kernel: &KernelBytes) -> Result<TypedKernel, String> {
    let source: KernelSource = decode(&kernel.source).map_err(|error| error.to_string())?;
    match catch_unwind(AssertUnwindSafe(|| TypedKernel::compile(source))) {
        Ok(Ok(compiled)) if compiled.hash() == kernel.hash => Ok(compiled),
        Ok(Ok(_)) => Err("its text has another hash than its name".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the compiler panicked".to_owned()),
    }
}

/// An executor's event as the agent hears it.
pub fn executed(event: executor::Event) -> agent::Event<Block> {
    let executor::Event { token, result, busy } = event;
    agent::Event::Finished { token, result, busy }
}

fn operand(part: Part<Block>) -> Operand {
    let region = part.region.unwrap_or_else(|| Region::whole(&part.data.shape));
    Operand { data: part.data, region }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::dtype::DType;
    use crate::fuzz::try_decoder;
    use crate::ids::KernelHash;
    use crate::kernel::KernelKind;
    use crate::wire::encode;

    /// A kernel of every kind, as it travels.
    fn sources() -> Vec<Vec<u8>> {
        let kernel = |kind, text: &str, entry: Option<&str>, t| {
            let entry = entry.map(str::to_owned);
            encode(&KernelSource { kind, text: text.to_owned(), entry, t }).unwrap()
        };
        let sum = "fn identity() -> f64 { return 0lf; } fn lift(x: f64) -> f64 { return x; }
            fn combine(a: f64, b: f64) -> f64 { return a + b; } fn finish(a: f64) -> f64 { return a; }";
        let copy = "@group(0) @binding(0) var<storage, read> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x]; }";
        vec![
            kernel(KernelKind::Element, "fn f(x: T) -> T { return 2*x*x + 3*x + 1; }", None, Some(DType::I64)),
            kernel(
                KernelKind::Element,
                "fn f(x: f32) -> f32 { return x; } fn g() -> i32 { return 1; }",
                Some("g"),
                None,
            ),
            kernel(KernelKind::Reduction, sum, None, None),
            kernel(KernelKind::Block, copy, None, None),
        ]
    }

    #[test]
    fn whatever_is_sent_as_a_kernel_is_compiled_or_refused() {
        try_decoder("src/serve/corpus/kernel-source", sources(), |bytes| {
            let kernel = KernelBytes { hash: KernelHash(Sha256::digest(bytes).into()), source: bytes.into() };
            Some(encode(compiled(&kernel).ok()?.source()).unwrap().len())
        });
    }

    #[test]
    fn a_kernel_of_another_name_is_refused() {
        let kernel = KernelBytes { hash: KernelHash([0; 32]), source: sources()[0].as_slice().into() };
        assert_eq!(compiled(&kernel).err().as_deref(), Some("its text has another hash than its name"));
    }
}
