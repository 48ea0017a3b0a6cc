//! Block kernels: a user's whole module, dispatched over exactly the workgroups that cover the output block.
//!
//! Inputs that lie on the device in one piece, or are brought in one, are read where they lie. Others (views, numbers
//! that the device makes itself, what element programs compute) are made by dispatches of their own before it, in the
//! same submission, and never leave the device.
//!
//! Devices keep a kernel within its blocks: naga and drivers check every index. What a bad one then yields is theirs to
//! say: zero, as on CPUs, or an element of the same buffer. None of them notices a barrier that not all invocations
//! reach: there the kernel's result is undefined, where CPUs name the barrier.

use std::sync::Arc;

use naga::Module;

use crate::block::{Block, Item};
use crate::dtype::DType;
use crate::executor::{ExecuteError, Task};
use crate::ids::KernelHash;
use crate::interpreter::StopFlag;
use crate::kernel::{BlockInfo, BlockSignature, Composed, Requirements, TypedKernel, portable};
use crate::shape::Shape;
use crate::slots::Compute;
use crate::stage::{BlockCall, Body, Stage, Value};

use super::dispatch::{Dispatch, Elements, leaf_inputs, program};
use super::foresee;
use super::job::{Engine, Groups, Job, Pass, Seen};
use super::leaf::LeafInput;
use super::pipeline::Code;

/// A block kernel, made ready.
pub(super) struct BlockStage {
    engine: Arc<Engine>,
    stage: Arc<Stage>,
    kernel: Arc<TypedKernel>,
    /// The kernel's own, as devices run it.
    module: Module,
    /// What makes the inputs, if any of them is more than a leaf.
    program: Option<Composed>,
}

impl BlockStage {
    /// Finds the kernel and checks that the device can run it.
    pub(super) fn new(
        engine: &Arc<Engine>,
        stage: &Arc<Stage>,
        call: &BlockCall,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<BlockStage, ExecuteError> {
        let gpu = &engine.gpu;
        let found = kernel(call.kernel).ok_or(ExecuteError::KernelMissing(call.kernel))?;
        let block = found.block().ok_or_else(|| gpu.unsupported(format!("{found} is no block kernel")))?;
        let (leaves, results) = (&call.inputs.leaves, &call.inputs.program.results);
        let is_computed = results.iter().any(|result| matches!(result, Value::Step { .. }));
        let program = if is_computed { program(gpu, &call.inputs, kernel)? } else { None };
        let given: Vec<DType> = match &program {
            Some(program) => program.results.clone(),
            None => results.iter().map(|result| leaves[leaf_of(result)].dtype).collect(),
        };
        if !block.signature.inputs.iter().map(|input| input.dtype).eq(given.iter().copied()) {
            return Err(gpu.unsupported(format!("{found} is given {given:?}")));
        }
        let leaves_need = leaves.iter().map(|leaf| Requirements::of_dtype(leaf.dtype));
        let needed = leaves_need.chain(program.iter().map(|program| program.requirements));
        gpu.check_needed(needed.fold(found.requirements(), |sum, more| sum | more))?;
        gpu.check_bindings(1 + if is_computed { leaves.len() + results.len() } else { 2 })?;
        let module = portable(found.module(), found.info());
        Ok(BlockStage { engine: Arc::clone(engine), stage: Arc::clone(stage), kernel: found, module, program })
    }

    /// Compiles what most of its blocks will run. What fails here fails there, and is told there.
    pub(super) fn warm(&self) {
        let call = self.call();
        foresee::tasks(&self.stage, &call.inputs)
            .for_each(|task| drop(self.job(&BlockInfo::of(call, task.block), &task)));
    }

    fn call(&self) -> &BlockCall {
        let Body::Block(call) = &self.stage.body else { unreachable!("a block stage is made of a block kernel") };
        call
    }

    fn signature(&self) -> &BlockSignature {
        &self.kernel.block().expect("checked when it was made ready").signature
    }
}

impl Compute for BlockStage {
    fn compute(&self, task: Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        self.engine.gpu.check()?;
        let info = BlockInfo::of(self.call(), task.block);
        let outputs = &self.signature().outputs;
        // All of it has elements: an axis without any has no blocks.
        let buffers = self.job(&info, &task)?.run(&self.engine, stop)?;
        let fields = outputs.iter().zip(buffers);
        Ok(fields.map(|(output, buffer)| Block::new(Item::Value(output.dtype), info.shape.clone(), buffer)).collect())
    }
}

impl BlockStage {
    fn job(&self, info: &BlockInfo, task: &Task) -> Result<Job, ExecuteError> {
        let Engine { gpu, pipelines, .. } = &*self.engine;
        let signature = self.signature();
        let mut job = Job::default();
        (job.may_stay, job.are_zeroed) = (true, true);
        let mut sees = self.inputs(&mut job, task)?;
        job.results = job.outputs();
        let elements = info.shape.elements();
        sees.extend(signature.outputs.iter().map(|output| job.add_output(elements * output.dtype.bytes())));
        if signature.uses_info {
            sees.push(job.add_params(&info.words()));
        }
        let written = signature.inputs.len()..signature.inputs.len() + signature.outputs.len();
        let is_read: Vec<bool> = (0..sees.len()).map(|at| !written.contains(&at)).collect();
        let entry = &self.module.entry_points[0].name;
        let code = Code::Block { module: &self.module, entry, hash: self.kernel.hash().0 };
        let groups = Groups::Box(self.workgroups(&info.shape)?);
        job.passes.push(Pass { pipeline: pipelines.pipeline(gpu, code, &is_read)?, sees, groups });
        Ok(job)
    }

    /// The inputs, in the kernel's order: all made by one dispatch if any of them is computed.
    fn inputs(&self, job: &mut Job, task: &Task) -> Result<Vec<Seen>, ExecuteError> {
        let (gpu, map) = (&self.engine.gpu, &self.call().inputs);
        let region = map.region(task.block);
        let inputs = leaf_inputs(gpu, map, &region, task)?;
        let block = map.block_index(task.block);
        if let Some(program) = &self.program {
            let of = Elements { program: Some(program), user: None, region: &region, block };
            return Dispatch::store(&of, inputs).add_store_to(job, &self.engine);
        }
        let of = Elements { program: None, user: None, region: &region, block };
        let leaves = inputs.into_iter().map(|input| self.leaf(job, &of, input)).collect::<Result<Vec<_>, _>>()?;
        Ok(map.program.results.iter().map(|result| leaves[leaf_of(result)]).collect())
    }

    /// A leaf where it lies, if it lies in one piece, or copied into one.
    fn leaf(&self, job: &mut Job, of: &Elements<'_>, mut input: LeafInput) -> Result<Seen, ExecuteError> {
        let is_whole = input.is_whole(&of.region.shape());
        match input.fill.take_if(|_| is_whole) {
            Some(fill) => Ok(job.add_fill(fill)),
            None => Ok(Dispatch::store(of, vec![input]).add_store_to(job, &self.engine)?[0]),
        }
    }

    fn workgroups(&self, shape: &Shape) -> Result<[u32; 3], ExecuteError> {
        let gpu = &self.engine.gpu;
        let groups = self.signature().workgroups(shape);
        match groups.iter().all(|&count| count <= u64::from(gpu.info.limits.workgroups)) {
            true => Ok(groups.map(|count| count as u32)),
            false => Err(gpu.unsupported(format!("{groups:?} workgroups for a block of {shape}"))),
        }
    }
}

/// The leaf that a result is.
fn leaf_of(result: &Value) -> usize {
    match *result {
        Value::Leaf(leaf) => leaf as usize,
        Value::Step { .. } => unreachable!("what is computed has a program"),
    }
}
