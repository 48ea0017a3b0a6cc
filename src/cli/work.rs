//! From arguments to the array that is asked for. Nothing is computed here, and of files only headers are read.

use std::fs;

use gridloom_worker::kernel::{Kernel, Problem};
use gridloom_worker::source::npy;
use gridloom_worker::stage::ReduceOp;

use super::args::{MapArgs, Op, ReduceArgs};
use super::error::CliError;
use super::input::{Chunks, Input, KernelPath};
use crate::array::{Array, IntoAxes, keepdims};

/// What is to be computed, and how much goes into it.
pub(super) struct Work {
    pub(super) array: Array,
    /// Of the inputs broadcast together.
    pub(super) elements: u64,
    /// Of all inputs, in compute dtypes.
    pub(super) bytes: u64,
}

pub(super) fn map(args: &MapArgs) -> Result<Work, CliError> {
    let kernel = map_kernel(&args.kernel)?;
    let inputs = args.inputs.iter().map(source).collect::<Result<Vec<Array>, CliError>>()?;
    let bytes = inputs.iter().map(Array::bytes).sum();
    let mapped = sound(Array::map_with(&kernel, &inputs.iter().collect::<Vec<_>>()))?;
    let elements = mapped.shape().elements();
    let array = match &args.run.chunks {
        None => mapped,
        Some(chunks) => {
            // Checks the entries against the broadcast shape.
            sound(mapped.chunks(&chunks.0[..]))?;
            let inputs: Vec<Array> = inputs.iter().map(|input| cut(input, chunks)).collect::<Result<_, _>>()?;
            sound(Array::map_with(&kernel, &inputs.iter().collect::<Vec<_>>()))?
        }
    };
    Ok(Work { array, elements, bytes })
}

pub(super) fn reduce(args: &ReduceArgs) -> Result<Work, CliError> {
    let mut input = source(&args.input)?;
    if let Some(chunks) = &args.run.chunks {
        input = sound(input.chunks(&chunks.0[..]))?;
    }
    let (elements, bytes) = (input.shape().elements(), input.bytes());
    if let Some(kernel) = &args.map {
        input = sound(input.map_blocks(&map_kernel(kernel)?))?;
    }
    let axes = if args.axis.is_empty() { ().into_axes() } else { (&args.axis[..]).into_axes() };
    let axes = if args.keepdims { keepdims(axes) } else { axes };
    let array = sound(input.reduce_op(reduce_op(args.op), axes))?;
    Ok(Work { array, elements, bytes })
}

/// An input in blocks whose lengths are the last entries of `chunks`: as broadcasting aligns axes.
fn cut(input: &Array, chunks: &Chunks) -> Result<Array, CliError> {
    let entries = &chunks.0[chunks.0.len() - input.rank()..];
    sound(input.chunks(entries))
}

/// An array's first error, as an error.
fn sound(array: Array) -> Result<Array, CliError> {
    match array.error() {
        Some(carried) => Err(carried.clone().into()),
        None => Ok(array),
    }
}

fn source(input: &Input) -> Result<Array, CliError> {
    sound(match input {
        Input::Npy(path) => Array::from_npy_file(npy::open(path)?),
        Input::Random { shape, dtype, seed } => Array::random(shape).with_dtype(*dtype).seed(*seed),
    })
}

pub(super) fn kernel_text(kernel: &KernelPath) -> Result<String, CliError> {
    fs::read_to_string(&kernel.path).map_err(|error| CliError::KernelFile { path: kernel.path.clone(), error })
}

/// A block kernel where the text has an entry point, else an element kernel.
pub(super) fn map_kernel(kernel: &KernelPath) -> Result<Kernel, CliError> {
    let text = kernel_text(kernel)?;
    let (path, entry) = (kernel.path.to_string_lossy(), kernel.entry.as_deref());
    match Kernel::element_in(&path, &text, entry) {
        Err(error) if matches!(error.problem(), Problem::BlockKernel { .. }) => {
            Ok(Kernel::block_in(&path, &text, entry)?)
        }
        element => Ok(element?),
    }
}

const fn reduce_op(op: Op) -> ReduceOp {
    match op {
        Op::Sum => ReduceOp::Sum,
        Op::Prod => ReduceOp::Prod,
        Op::Mean => ReduceOp::Mean,
        Op::Var => ReduceOp::Var { ddof: 0.0 },
        Op::Std => ReduceOp::Std { ddof: 0.0 },
        Op::Min => ReduceOp::Min,
        Op::Max => ReduceOp::Max,
        Op::Any => ReduceOp::Any,
        Op::All => ReduceOp::All,
        Op::CountNonzero => ReduceOp::CountNonzero,
        Op::ArgMin => ReduceOp::ArgMin,
        Op::ArgMax => ReduceOp::ArgMax,
    }
}
