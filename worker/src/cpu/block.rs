//! Block kernels: whole input blocks, a kernel over them, whole output blocks.
//!
//! An input that is nothing but a leaf is read where it lies, if it lies there in one piece, and else into a block of its
//! own; the others are computed by the pipeline first. The kernel is interpreted.

use std::sync::Arc;

use super::pipeline::{buffer, tiles, unsupported};
use crate::block::{Block, BufferMut, Item};
use crate::dtype::Element;
use crate::executor::{ExecuteError, Task};
use crate::ids::KernelHash;
use crate::interpreter::{BarrierMissed, BlockError, BlockInterpreter, StopFlag};
use crate::kernel::{BlockInfo, BlockSignature, TypedKernel, WORKGROUPS_MAX};
use crate::shape::Shape;
use crate::source::{LeafReader, leaf_readers};
use crate::stage::{BlockCall, Map, Value};
use crate::with_element;

/// A block kernel made ready.
pub(super) struct BlockKernel {
    kernel: Arc<TypedKernel>,
    interpreter: BlockInterpreter,
}

impl BlockKernel {
    /// `kernel` finds kernels by hash.
    pub(super) fn new(
        call: &BlockCall,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<BlockKernel, ExecuteError> {
        let kernel = kernel(call.kernel).ok_or(ExecuteError::KernelMissing(call.kernel))?;
        let block = kernel.block().ok_or_else(|| unsupported(&format!("{kernel} is no block kernel")))?;
        let results = call.inputs.program.results.len();
        if results != block.signature.inputs.len() {
            return Err(unsupported(&format!("{kernel} is given {results} inputs")));
        }
        let interpreter = BlockInterpreter::new(kernel.module(), block.entry).map_err(|error| unsupported(&error))?;
        Ok(BlockKernel { kernel, interpreter })
    }

    /// Computes one block, all fields. `computed` are the blocks of [`computed_inputs`], if there are any.
    pub(super) fn compute(
        &self,
        call: &BlockCall,
        task: &Task,
        computed: Vec<Block>,
        stop: &StopFlag,
    ) -> Result<Vec<Block>, ExecuteError> {
        let signature = &self.kernel.block().expect("checked when it was made ready").signature;
        let readers = leaf_readers(&call.inputs, task.block, &task.operands)?;
        let shape = call.inputs.region(task.block).shape();
        let inputs = inputs(&call.inputs, &readers, computed, &shape, stop)?;
        let bytes: Vec<&[u8]> = inputs.iter().map(Input::bytes).collect();
        let info = info(call, task.block, inputs.len());
        let mut outputs = zeroed(signature, &info.shape)?;
        let mut written: Vec<&mut [u8]> = outputs.iter_mut().map(BufferMut::bytes_mut).collect();
        let groups = workgroups(signature, &info.shape)?;
        let ran = self.interpreter.run(groups, &bytes, &mut written, &info.bytes(), stop);
        ran.map_err(|error| self.error(error))?;
        let block = |(buffer, output): (BufferMut, &crate::kernel::Field)| {
            Block::new(Item::Value(output.dtype), info.shape.clone(), buffer.freeze())
        };
        Ok(outputs.into_iter().zip(&signature.outputs).map(block).collect())
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

/// The part of a block kernel's inputs that must be computed: a map without the results that are leaves; `None` if
/// nothing is left of it.
pub(super) fn computed_inputs(call: &BlockCall) -> Option<Map> {
    let mut map = call.inputs.clone();
    map.program.results.retain(|result| matches!(result, Value::Step { .. }));
    (!map.program.results.is_empty()).then_some(map)
}

/// An input block: bytes of its own, or a leaf's that lie in one piece.
enum Input<'a> {
    Own(Block),
    InPlace(&'a [u8]),
}

impl Input<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Input::Own(block) => block.bytes(),
            Input::InPlace(bytes) => bytes,
        }
    }
}

/// The input blocks, in the kernel's order.
fn inputs<'a>(
    map: &Map,
    readers: &'a [LeafReader],
    computed: Vec<Block>,
    shape: &Shape,
    stop: &StopFlag,
) -> Result<Vec<Input<'a>>, ExecuteError> {
    let mut computed = computed.into_iter();
    let input = |result: &Value| match *result {
        Value::Step { .. } => Ok(Input::Own(computed.next().expect("one block per computed input"))),
        Value::Leaf(leaf) => {
            let dtype = map.leaves[leaf as usize].dtype;
            with_element!(dtype, T => leaf_input::<T>(&readers[leaf as usize], Item::Value(dtype), shape, stop))
        }
    };
    map.program.results.iter().map(input).collect()
}

fn leaf_input<'a, T: Element>(
    reader: &'a LeafReader,
    item: Item,
    shape: &Shape,
    stop: &StopFlag,
) -> Result<Input<'a>, ExecuteError> {
    let elements = shape.elements();
    if let Some(values) = reader.contiguous::<T>(0, elements as usize) {
        return Ok(Input::InPlace(bytemuck::cast_slice(values)));
    }
    let mut buffer = buffer(elements * item.bytes())?;
    let target = buffer.elements_mut::<T>();
    for tile in tiles(elements) {
        if stop.is_raised() {
            return Err(ExecuteError::Cancelled);
        }
        reader.read(tile.start, &mut target[tile.start as usize..tile.end as usize])?;
    }
    Ok(Input::Own(Block::new(item, shape.clone(), buffer.freeze())))
}

/// What the kernel may be told. All inputs are of one grid.
fn info(call: &BlockCall, block: u64, inputs: usize) -> BlockInfo {
    let index = call.output.block_counts().index_at(block);
    let region = call.output.region(&index);
    let input = call.inputs.grid.region(&index).shape();
    BlockInfo { shape: region.shape(), start: region.start, block: index, inputs: vec![input; inputs] }
}

fn zeroed(signature: &BlockSignature, shape: &Shape) -> Result<Vec<BufferMut>, ExecuteError> {
    let bytes = signature.outputs.iter().map(|output| shape.elements() * output.dtype.bytes());
    bytes.map(|bytes| Ok(BufferMut::try_zeroed(bytes as usize)?)).collect()
}

fn workgroups(signature: &BlockSignature, shape: &Shape) -> Result<[u32; 3], ExecuteError> {
    let groups = signature.workgroups(shape);
    match groups.iter().all(|&count| count <= WORKGROUPS_MAX) {
        true => Ok(groups.map(|count| count as u32)),
        false => Err(unsupported(&format!("{groups:?} workgroups for a block of {shape}"))),
    }
}
