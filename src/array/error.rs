//! What can be wrong with an array, and where the user wrote it.

use std::panic::Location;

use gridloom_worker::dtype::DType;
use gridloom_worker::kernel::KernelError;
use gridloom_worker::shape::ShapeError;
use gridloom_worker::source::npy::NpyError;

/// The first error of an array and the caller's line that made it. Everything computed from the array carries it on;
/// [`super::Array::error`] and [`crate::plan::plan`] report it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{caller}: {error}")]
pub struct CarriedError {
    /// What is wrong.
    #[source]
    pub error: ArrayError,
    /// The file, line and column of the call.
    pub caller: &'static Location<'static>,
}

/// What can be wrong with an array expression. Shapes are printed as NumPy prints them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ArrayError {
    /// Too many axes, or too many elements.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A length that cannot be: negative, or beyond 64 bits.
    #[error("a length of {length}: lengths are counted from 0 to 2^60")]
    Length { length: i128 },
    /// Shapes that do not fit each other.
    #[error("shapes {} do not broadcast: lengths must be equal, or 1", .shapes.join(", "))]
    Broadcast { shapes: Vec<String> },
    /// An array that cannot take a larger shape.
    #[error("shape {from} does not broadcast to {to}")]
    BroadcastTo { from: String, to: String },
    /// An axis that is not there.
    #[error("axis {axis} of an array of {rank} axes: they are {}", axes(*.rank))]
    Axis { axis: i128, rank: usize },
    /// One axis named twice.
    #[error("axis {axis} is named twice")]
    AxisTwice { axis: usize },
    /// A list with not as many entries as there are axes.
    #[error("{what}: {given} entries for {rank} axes")]
    EntryCount { what: &'static str, given: usize, rank: usize },
    /// An index outside its axis.
    #[error("index {index} is outside axis {axis} of length {length}")]
    Index { index: i128, axis: usize, length: u64 },
    /// A slice that stands still.
    #[error("a slice with step 0 on axis {axis}")]
    StepZero { axis: usize },
    /// An axis that is not of length 1.
    #[error("axis {axis} has length {length}: only axes of length 1 can be squeezed")]
    Squeeze { axis: usize, length: u64 },
    /// Arrays that cannot be joined.
    #[error("shapes {} do not join on axis {axis}: all other lengths must be equal", .shapes.join(", "))]
    Join { shapes: Vec<String>, axis: usize },
    /// Nothing to be joined.
    #[error("nothing to join: at least one array is needed")]
    JoinNothing,
    /// A reshape to another number of elements.
    #[error("{elements} elements do not reshape from {from} to {to}")]
    ReshapeElements { from: String, to: String, elements: u64 },
    /// A reshape that would move elements between blocks.
    #[error(
        "{from} cut as {grid} does not reshape to {to}: only axes whose blocks stay whole split or join; rechunk first so that of each group of axes only the first is cut, by a multiple of what follows it"
    )]
    ReshapeBlocks { from: String, grid: String, to: String },
    /// Chunks of no length.
    #[error("chunks of length {chunk}: a chunk has at least one element (-1 is the whole axis)")]
    Chunk { chunk: i128 },
    /// An operation that a dtype does not have.
    #[error("{operation} of {dtype}: {why}")]
    DType { operation: &'static str, dtype: DType, why: &'static str },
    /// A number that a dtype cannot hold.
    #[error("{value} is no {dtype}")]
    NumberRange { value: i128, dtype: DType },
    /// A negative power of integers.
    #[error("integers to the power {exponent}: make one of them a float")]
    NegativePower { exponent: i128 },
    /// An option of a random array, given to another array.
    #[error("{option} is an option of random arrays, set before anything is done with them")]
    NotRandom { option: &'static str },
    /// A dtype chosen for what already has one.
    #[error("with_dtype chooses how a source is made, before anything is done with it: to convert, use astype")]
    NotSource,
    /// Bounds and a step that make no sequence.
    #[error("arange from {start} to {stop} in steps of {step}: the step must not be 0, and all must be finite")]
    Arange { start: String, stop: String, step: String },
    /// A reduction of nothing, which has no value.
    #[error("{operation} of no elements: shape {shape} is empty along the reduced axes")]
    ReduceNothing { operation: &'static str, shape: String },
    /// An arg-reduction over several, but not all axes.
    #[error("{operation} over {given} of {rank} axes: it works over one axis or over all")]
    ArgAxes { operation: &'static str, given: usize, rank: usize },
    /// A `.npy` file that cannot be used.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A kernel that does not fit its arguments, or is invalid for them.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A kernel of the other kind.
    #[error("{operation} needs {expected} kernel")]
    KernelKind { operation: &'static str, expected: &'static str },
    /// A kernel with several results where one is wanted.
    #[error("`{kernel}` returns {fields} fields: use {instead}")]
    Fields { kernel: String, fields: usize, instead: &'static str },
    /// An axis too long for the 32-bit words of `At` or `BlockInfo`.
    #[error(
        "`{kernel}` takes `{parameter}`, whose indices have 32 bits: axis {axis} of length {length} is too long for it"
    )]
    IndexBits { kernel: String, parameter: &'static str, axis: usize, length: u64 },
    /// Blocks that a device's workgroups cannot cover.
    #[error(
        "`{kernel}` would take {groups} workgroups along one axis to cover a block of shape {block}: at most {max} run; cut the arrays into smaller blocks, or make its workgroups larger"
    )]
    Workgroups { kernel: String, block: String, groups: u64, max: u64 },
    /// More arrays for one kernel than a device binds.
    #[error("{arrays} arrays go into and out of `{kernel}`: at most {max} storage buffers are bound at once")]
    Buffers { kernel: String, arrays: usize, max: usize },
}

fn axes(rank: usize) -> String {
    match rank {
        0 => "none".to_owned(),
        _ => format!("0 to {}, or -{rank} to -1 from the end", rank - 1),
    }
}
