//! Block kernels: whole input blocks, a kernel over them, whole output blocks.
//!
//! Inputs that are nothing but leaves are read where they lie, if they lie there in one piece, and else into blocks of
//! their own; if any of them is computed, the pipeline makes them all. Who runs element kernels runs these: a kernel that
//! cannot be compiled is refused by name.

use std::sync::Arc;

use super::compiled::BlockCode;
use super::pipeline::{TILE, buffer, tiles};
use super::program::Programs;
use crate::block::{Block, BufferMut, Item};
use crate::dtype::{DType, Element};
use crate::executor::{ExecuteError, Task};
use crate::ids::KernelHash;
use crate::interpreter::{BarrierMissed, BlockError, BlockInterpreter, StopFlag};
use crate::kernel::{BlockInfo, BlockSignature, Field, TypedKernel, WORKGROUPS_MAX};
use crate::shape::Shape;
use crate::source::{LeafReader, leaf_readers};
use crate::stage::{BlockCall, Map, Value};
use crate::with_element;

/// A block kernel made ready.
pub(super) struct BlockKernel {
    kernel: Arc<TypedKernel>,
    runner: Runner,
    /// Who runs it, as results name it.
    executor: &'static str,
}

/// What runs a block kernel.
pub(super) enum Runner {
    Interpreted(BlockInterpreter),
    Compiled(Arc<BlockCode>),
}

impl Runner {
    /// Memory that a run scribbles in.
    fn scratch(&self) -> Result<BufferMut, ExecuteError> {
        match self {
            Runner::Interpreted(_) => buffer(0),
            Runner::Compiled(code) => buffer(code.scratch_bytes()),
        }
    }

    /// Runs `groups` workgroups along x, y and z. The buffers in binding order are the inputs, the outputs, and `info`
    /// where the kernel has one buffer more. When it is stopped or fails, the outputs are undefined.
    fn run(
        &self,
        groups: [u32; 3],
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        info: &[u8],
        scratch: &mut BufferMut,
        stop: &StopFlag,
    ) -> Result<(), BlockError> {
        match self {
            Runner::Interpreted(interpreter) => interpreter.run(groups, inputs, outputs, info, stop),
            Runner::Compiled(code) => code.run(groups, inputs, outputs, info, scratch.bytes_mut(), stop),
        }
    }
}

impl BlockKernel {
    /// `kernel` finds kernels by hash.
    pub(super) fn new(
        call: &BlockCall,
        programs: &mut Programs,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<BlockKernel, ExecuteError> {
        let executor = programs.generator().executor();
        let kernel = kernel(call.kernel).ok_or(ExecuteError::KernelMissing(call.kernel))?;
        let block = kernel.block().ok_or_else(|| unsupported(executor, format!("{kernel} is no block kernel")))?;
        let results = call.inputs.program.results.len();
        if results != block.signature.inputs.len() {
            return Err(unsupported(executor, format!("{kernel} is given {results} inputs")));
        }
        let runner = programs.block(&kernel, block.entry)?;
        Ok(BlockKernel { kernel, runner, executor })
    }

    /// Computes one block, all fields. `computed` are the input blocks, if [`are_inputs_computed`].
    pub(super) fn compute(
        &self,
        call: &BlockCall,
        task: &Task,
        computed: Option<Vec<Block>>,
        stop: &StopFlag,
    ) -> Result<Vec<Block>, ExecuteError> {
        let signature = &self.kernel.block().expect("checked when it was made ready").signature;
        let readers = match computed {
            Some(_) => Vec::new(),
            None => leaf_readers(&call.inputs, task.block, &task.operands)?,
        };
        let inputs = match computed {
            Some(blocks) => blocks.into_iter().map(Input::Own).collect(),
            None => read(&call.inputs, &readers, &call.inputs.region(task.block).shape(), stop)?,
        };
        if inputs.iter().zip(&signature.inputs).any(|(input, expected)| input.dtype() != Some(expected.dtype)) {
            return Err(unsupported(self.executor, format!("{} is given inputs of other dtypes", self.kernel)));
        }
        let bytes: Vec<&[u8]> = inputs.iter().map(Input::bytes).collect();
        let info = BlockInfo::of(call, task.block);
        let mut outputs = zeroed(signature, &info.shape)?;
        let mut written: Vec<&mut [u8]> = outputs.iter_mut().map(BufferMut::bytes_mut).collect();
        let groups = self.workgroups(signature, &info.shape)?;
        let mut scratch = self.runner.scratch()?;
        let ran = self.runner.run(groups, &bytes, &mut written, &info.bytes(), &mut scratch, stop);
        ran.map_err(|error| self.error(error))?;
        let block = |(buffer, output): (BufferMut, &Field)| {
            Block::new(Item::Value(output.dtype), info.shape.clone(), buffer.freeze())
        };
        Ok(outputs.into_iter().zip(&signature.outputs).map(block).collect())
    }

    fn workgroups(&self, signature: &BlockSignature, shape: &Shape) -> Result<[u32; 3], ExecuteError> {
        let groups = signature.workgroups(shape);
        match groups.iter().all(|&count| count <= WORKGROUPS_MAX) {
            true => Ok(groups.map(|count| count as u32)),
            false => Err(unsupported(self.executor, format!("{groups:?} workgroups for a block of {shape}"))),
        }
    }

    fn error(&self, error: BlockError) -> ExecuteError {
        match error {
            BlockError::Stopped => ExecuteError::Cancelled,
            BlockError::Barrier(BarrierMissed { name, offset, reached, invocations }) => ExecuteError::Barrier {
                kernel: self.kernel.name().to_owned(),
                barrier: name.to_owned(),
                line: self.kernel.location(offset).line,
                reached: reached as u32,
                invocations: invocations as u32,
            },
        }
    }
}

/// Whether any input is more than a leaf.
pub(super) fn are_inputs_computed(call: &BlockCall) -> bool {
    call.inputs.program.results.iter().any(|result| matches!(result, Value::Step { .. }))
}

/// An input block: bytes of its own, or a leaf's that lie in one piece.
enum Input<'a> {
    Own(Block),
    InPlace(DType, &'a [u8]),
}

impl Input<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Input::Own(block) => block.bytes(),
            Input::InPlace(_, bytes) => bytes,
        }
    }

    fn dtype(&self) -> Option<DType> {
        match self {
            Input::Own(Block { item: Item::Value(dtype), .. }) | Input::InPlace(dtype, _) => Some(*dtype),
            Input::Own(Block { item: Item::Partial { .. }, .. }) => None,
        }
    }
}

/// The input blocks, all of them leaves, in the kernel's order.
fn read<'a>(
    map: &Map,
    readers: &'a [LeafReader],
    shape: &Shape,
    stop: &StopFlag,
) -> Result<Vec<Input<'a>>, ExecuteError> {
    let input = |result: &Value| {
        let Value::Leaf(leaf) = *result else { unreachable!("a step is computed") };
        let dtype = map.leaves[leaf as usize].dtype;
        with_element!(dtype, T => read_leaf::<T>(&readers[leaf as usize], dtype, shape, stop))
    };
    map.program.results.iter().map(input).collect()
}

fn read_leaf<'a, T: Element>(
    reader: &'a LeafReader,
    dtype: DType,
    shape: &Shape,
    stop: &StopFlag,
) -> Result<Input<'a>, ExecuteError> {
    let elements = shape.elements();
    if let Some(values) = reader.contiguous::<T>(0, elements as usize) {
        return Ok(Input::InPlace(dtype, bytemuck::cast_slice(values)));
    }
    let mut buffer = buffer(elements * dtype.bytes())?;
    let target = buffer.elements_mut::<T>();
    for tile in tiles(elements, TILE) {
        if stop.is_raised() {
            return Err(ExecuteError::Cancelled);
        }
        reader.read(tile.start, &mut target[tile.start as usize..tile.end as usize])?;
    }
    Ok(Input::Own(Block::new(Item::Value(dtype), shape.clone(), buffer.freeze())))
}

fn zeroed(signature: &BlockSignature, shape: &Shape) -> Result<Vec<BufferMut>, ExecuteError> {
    let bytes = signature.outputs.iter().map(|output| shape.elements() * output.dtype.bytes());
    bytes.map(|bytes| Ok(BufferMut::try_zeroed(bytes as usize)?)).collect()
}

fn unsupported(executor: &str, what: String) -> ExecuteError {
    ExecuteError::Unsupported { executor: executor.to_owned(), what }
}
