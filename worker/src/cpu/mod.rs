//! The executor on CPUs: one slot per thread, a task runs on one thread.
//!
//! A block is computed by the tile pipeline of `pipeline`: native source -> element program -> native reduction or
//! store. What runs the element program is a choice ([`CodeGenerator`]) that the executor's name tells, and no other
//! ever takes over in silence.
//!
//! The pipeline and what it calls poll a task's stop flag, so that a deadline ends them.

mod at;
mod block;
mod compiled;
mod function;
mod interpreted;
mod pipeline;
mod program;
mod tiles;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::executor::{EventSink, ExecuteError, Executor, Task};
use crate::ids::{ArrayId, KernelHash};
use crate::kernel::{Requirements, TypedKernel};
use crate::slots::{Compute, Slots};
use crate::stage::Stage;

#[cfg(test)]
pub(crate) use compiled::{BlockCode as CompiledBlock, compile_block};
use pipeline::Prepared;
pub(crate) use program::Programs;

/// What runs kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodeGenerator {
    /// The definition: slow, and right.
    Interpreter,
    /// Machine code by Cranelift: the interpreter's bits.
    #[default]
    Cranelift,
}

impl CodeGenerator {
    /// What results name as their executor.
    pub const fn executor(self) -> &'static str {
        match self {
            CodeGenerator::Interpreter => "cpu interpreter",
            CodeGenerator::Cranelift => "cpu cranelift",
        }
    }
}

/// How a [`CpuExecutor`] is made.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// Slots, one thread each; at least 1.
    pub slots: usize,
    /// The longest that one block may take, from 1 ms to 136 years.
    pub block_timeout: Duration,
    /// What runs kernels. What it cannot take is refused by name: no other takes over.
    pub code_generator: CodeGenerator,
}

/// Computes blocks on threads of this process.
pub struct CpuExecutor {
    slots: Slots,
    kernels: HashMap<KernelHash, Arc<TypedKernel>>,
    programs: Programs,
}

impl CpuExecutor {
    /// Starts the slots' threads. Events of all tasks go to `sink`.
    pub fn new(options: &CpuOptions, sink: EventSink) -> std::io::Result<CpuExecutor> {
        let slots = Slots::new("cpu", options.slots, options.block_timeout, sink, None)?;
        Ok(CpuExecutor { slots, kernels: HashMap::new(), programs: Programs::new(options.code_generator) })
    }
}

/// Makes a stage ready for CPUs; `kernel` finds its kernels. Other executors have it do what is above blocks.
pub(crate) fn prepare(
    stage: Arc<Stage>,
    programs: &mut Programs,
    kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
) -> Result<Arc<dyn Compute>, ExecuteError> {
    Ok(Arc::new(Prepared::new(stage, programs, kernel)?))
}

impl Executor for CpuExecutor {
    fn name(&self) -> &str {
        self.programs.generator().executor()
    }

    fn offers(&self) -> Requirements {
        Requirements::ALL
    }

    fn slots(&self) -> usize {
        self.slots.count()
    }

    fn add_kernel(&mut self, kernel: Arc<TypedKernel>) {
        self.kernels.insert(kernel.hash(), kernel);
    }

    fn is_ready_for(&self, stage: &Stage) -> bool {
        self.programs.are_ready_for(stage)
    }

    fn prepare(&mut self, stage: Arc<Stage>) {
        let (kernels, programs) = (&self.kernels, &mut self.programs);
        self.slots.prepare(stage.array, || prepare(stage, programs, &|hash| kernels.get(&hash).cloned()));
    }

    fn submit(&mut self, task: Task) {
        self.slots.submit(self.name(), task);
    }

    fn cancel(&mut self, array: ArrayId) {
        self.slots.cancel(array);
    }
}
