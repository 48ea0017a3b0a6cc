//! Lazy N-d arrays: what users write expressions with.
//!
//! An [`Array`] is a shape, a dtype, a grid (how it is cut into blocks) and the expression that makes it, behind one
//! reference count. Names and semantics are NumPy's: broadcasting, promotion with weak Rust numbers, negative axes,
//! `keepdims`. Nothing is computed here: [`crate::plan`] turns arrays into stages, and a client runs them.
//!
//! Methods and operators never panic and never return a `Result`. An array that cannot be carries its first
//! [`ArrayError`] with the caller's line, and so does everything made from it; it is reported by [`Array::error`] and
//! before a plan is made.
//!
//! Reading order: this file -> [`IntoLengths`], [`IntoAxes`] (shapes and axes as users write them) -> `sources` ->
//! `views`, `joins` and `reshape` -> `ops` (the table of element operations) -> `elementwise` -> `kernels` -> `blocks` (block kernels) ->
//! `reductions`;
//! `chunks` says how results are cut.
//!
//! This room knows nothing of plans, clusters or devices, and never touches data but to copy what users hand over.

mod blocks;
mod chunks;
mod elementwise;
mod error;
mod host;
mod joins;
mod kernels;
mod lengths;
mod operand;
mod operators;
mod ops;
mod reductions;
mod reshape;
mod sources;
mod views;

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::ArrayId;
use gridloom_worker::kernel::TypedKernel;
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{ReduceOp, Reduction, Source};
use gridloom_worker::view::View;

pub(crate) use chunks::Cut;
pub use chunks::{AUTO_BLOCK_BYTES_MAX, AUTO_BLOCK_BYTES_MIN, AUTO_BLOCKS_MIN, auto_grid};
pub use error::{ArrayError, CarriedError};
pub use host::{HostElement, LITERAL_BYTES_MAX};
pub use kernels::BUFFERS_MAX;
pub use lengths::{Axes, Integer, IntoAxes, IntoLengths, keepdims};
pub use operand::{Number, Operand};
pub(crate) use ops::Function;
#[cfg(test)]
pub(crate) use ops::Op;
pub(crate) use reductions::name as reduction_name;

/// A lazy N-d array of at most eight axes. Cheap to clone; two clones are the same array, computed once.
#[derive(Clone)]
pub struct Array(Arc<Node>);

struct Node {
    shape: Shape,
    dtype: DType,
    cut: Cut,
    expression: Expression,
}

/// How an array comes to be.
pub(crate) enum Expression {
    /// It cannot.
    Failed(CarriedError),
    /// A worker makes it from a description. Never [`Source::Array`]. The source's shape is the array's.
    Source(Source),
    /// The client's own data, C order, little-endian, to be put on workers.
    Scattered(Arc<Vec<u8>>),
    /// Blocks that workers hold, or are about to.
    Resident(Resident),
    /// The elements of another array, elsewhere. The view's domain is the whole shape.
    View { input: Array, view: View },
    /// Several arrays, each within its view's domain; the domains are disjoint and cover the shape.
    Concatenation {
        parts: Vec<Array>,
        /// One per part.
        views: Vec<View>,
    },
    /// The blocks of another array under another shape: same bytes, same order.
    Relabel(Array),
    /// A field of what an element function returns.
    Call { call: Arc<Call>, field: u32 },
    /// A field of a reduction.
    Reduced { reduce: Arc<ReduceCall>, field: u32 },
    /// An output of a block kernel.
    Blocks { call: Arc<BlocksCall>, field: u32 },
}

/// An element function and its arguments, all of the result's shape.
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) arguments: Vec<Array>,
    /// One per field.
    pub(crate) results: Vec<DType>,
}

/// A reduction and what it reduces, all of one shape.
pub(crate) struct ReduceCall {
    pub(crate) op: ReduceOp,
    /// The user's kernel, where `op` names one.
    pub(crate) kernel: Option<Arc<TypedKernel>>,
    pub(crate) inputs: Vec<Array>,
    /// How the chunk step cuts them.
    pub(crate) grid: Grid,
    /// Per axis of the inputs, whether it is reduced.
    pub(crate) axes: Vec<bool>,
    /// One per field of what is finished.
    pub(crate) results: Vec<DType>,
}

/// A block kernel and the arrays that it reads, all of one shape and cut alike.
pub(crate) struct BlocksCall {
    pub(crate) kernel: Arc<TypedKernel>,
    pub(crate) inputs: Vec<Array>,
    /// How the inputs are cut: block `i` of each makes block `i` of every output.
    pub(crate) grid: Grid,
}

/// An array that workers hold.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Its blocks' name.
    pub array: ArrayId,
    /// Which field of its blocks; of what the root yields, where there is one.
    pub field: u32,
    /// What is still to be done: the blocks are partials. `None` where they are values.
    pub root: Option<Root>,
    /// What keeps the blocks on the workers as long as an array reads them.
    pub keep: Keep,
}

/// Something that is only held. All are equal: what an array is does not depend on who keeps it.
#[derive(Clone, Default)]
pub struct Keep(Option<Arc<dyn Any + Send + Sync>>);

impl Keep {
    /// Holds `what` until the last clone is dropped.
    pub fn of(what: Arc<dyn Any + Send + Sync>) -> Keep {
        Keep(Some(what))
    }

    /// Whether nobody else holds it.
    fn is_last(&self) -> bool {
        self.0.as_ref().is_some_and(|what| Arc::strong_count(what) == 1)
    }
}

impl PartialEq for Keep {
    fn eq(&self, _: &Keep) -> bool {
        true
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "kept" } else { "not kept" })
    }
}

/// The end of a reduction that is still to be done: `count` partials of each kept block are combined in one aligned
/// binary tree, and finished.
#[derive(Clone, Debug)]
pub struct Root {
    /// What is combined.
    pub reduction: Reduction,
    /// The kernel of a user's reduction.
    pub kernel: Option<Arc<TypedKernel>>,
    /// The dtypes of what is finished, one per field.
    pub results: Vec<DType>,
    /// How the result is cut.
    pub kept: Grid,
    /// Partials per kept block: blocks `i * count .. (i + 1) * count` make kept block `i`. At most
    /// [`gridloom_worker::stage::FOLD_FAN_IN`].
    pub count: u64,
    /// Bytes of one accumulator.
    pub partial_bytes: u32,
}

impl Array {
    /// The lengths of its axes; `()` if the array has failed.
    pub fn shape(&self) -> &Shape {
        &self.0.shape
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.0.shape.rank()
    }

    /// What its elements are.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// How it is cut into blocks.
    pub fn grid(&self) -> &Grid {
        &self.0.cut.grid
    }

    /// Bytes of all its elements.
    pub fn bytes(&self) -> u64 {
        self.0.shape.elements() * self.0.dtype.bytes()
    }

    /// Whether it is one known value everywhere, which takes no buffer.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self.0.expression, Expression::Source(Source::Constant(_)))
    }

    /// Its first error, with the line that made it.
    pub fn error(&self) -> Option<&CarriedError> {
        match &self.0.expression {
            Expression::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Blocks that workers hold: what a client makes of a persisted array or of scattered data.
    ///
    /// `grid` is how the blocks are cut ([`Root::kept`] where there is a root), `dtype` that of the field.
    pub fn resident(resident: Resident, grid: Grid, dtype: DType) -> Array {
        let shape = grid.shape();
        Array::node(shape, dtype, Cut { grid, auto: false }, Expression::Resident(resident))
    }

    /// What keeps this array's blocks on the workers, if it is there; else the array itself.
    pub(crate) fn keep(&self) -> Keep {
        match &self.0.expression {
            Expression::Resident(resident) => resident.keep.clone(),
            Expression::View { input, .. } => input.keep(),
            _ => Keep::of(Arc::new(self.clone())),
        }
    }

    /// Whether this is the last handle to blocks that workers hold: when it is gone, nobody can read them.
    pub(crate) fn is_last(&self) -> bool {
        let is_last_input = || match &self.0.expression {
            Expression::Resident(resident) => resident.keep.is_last(),
            Expression::View { input, .. } => input.is_last(),
            _ => false,
        };
        Arc::strong_count(&self.0) == 1 && is_last_input()
    }

    pub(crate) fn expression(&self) -> &Expression {
        &self.0.expression
    }

    pub(crate) fn cut(&self) -> &Cut {
        &self.0.cut
    }

    /// What makes this array the same as another: clones and the fields of one call are one computation.
    pub(crate) fn identity(&self) -> Identity {
        match &self.0.expression {
            Expression::Call { call, .. } => Identity(Arc::as_ptr(call) as usize),
            Expression::Reduced { reduce, .. } => Identity(Arc::as_ptr(reduce) as usize),
            Expression::Blocks { call, .. } => Identity(Arc::as_ptr(call) as usize),
            _ => Identity(Arc::as_ptr(&self.0) as usize),
        }
    }

    /// Which field of its computation it is: 0 but for those of several.
    pub(crate) fn field(&self) -> u32 {
        match &self.0.expression {
            Expression::Call { field, .. } | Expression::Reduced { field, .. } | Expression::Blocks { field, .. } => {
                *field
            }
            _ => 0,
        }
    }

    fn node(shape: Shape, dtype: DType, cut: Cut, expression: Expression) -> Array {
        debug_assert_eq!(shape, cut.grid.shape());
        Array(Arc::new(Node { shape, dtype, cut, expression }))
    }

    /// The array, or one that carries its error with the caller's line.
    #[track_caller]
    fn or_failed(made: Result<Array, Failure>) -> Array {
        let caller = Location::caller();
        made.unwrap_or_else(|failure| {
            let error = match failure {
                Failure::New(error) => CarriedError { error: *error, caller },
                Failure::Carried(error) => *error,
            };
            let cut = Cut { grid: Grid { axes: Vec::new() }, auto: true };
            Array::node(Shape::default(), DType::F64, cut, Expression::Failed(error))
        })
    }

    /// The array itself, unless it has failed.
    fn sound(&self) -> Result<&Array, Failure> {
        match self.error() {
            Some(error) => Err(Failure::Carried(Box::new(error.clone()))),
            None => Ok(self),
        }
    }
}

/// Names a computation while the arrays that hold it live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity(usize);

/// Why an array could not be made: for a reason of its own, or because an operand had failed before.
enum Failure {
    New(Box<ArrayError>),
    Carried(Box<CarriedError>),
}

impl<E: Into<ArrayError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::New(Box::new(error.into()))
    }
}

impl Expression {
    /// The arrays that it is made of, each as often as it is used.
    pub(crate) fn inputs(&self) -> &[Array] {
        match self {
            Expression::Failed(_) | Expression::Source(_) | Expression::Scattered(_) | Expression::Resident(_) => &[],
            Expression::View { input, .. } | Expression::Relabel(input) => std::slice::from_ref(input),
            Expression::Concatenation { parts, .. } => parts,
            Expression::Call { call, .. } => &call.arguments,
            Expression::Reduced { reduce, .. } => &reduce.inputs,
            Expression::Blocks { call, .. } => &call.inputs,
        }
    }
}

/// Long chains of arrays are let go one by one: dropped recursively, they would overflow the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut pending = take_inputs(&mut self.expression);
        while let Some(Array(node)) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                pending.append(&mut take_inputs(&mut node.expression));
            }
        }
    }
}

/// The inputs that nobody else holds through this expression, which is of no use afterwards.
fn take_inputs(expression: &mut Expression) -> Vec<Array> {
    match std::mem::replace(expression, Expression::Source(Source::Constant(Scalar::Bool(false)))) {
        Expression::Failed(_) | Expression::Source(_) | Expression::Scattered(_) | Expression::Resident(_) => vec![],
        Expression::View { input, .. } | Expression::Relabel(input) => vec![input],
        Expression::Concatenation { parts, .. } => parts,
        Expression::Call { call, .. } => Arc::into_inner(call).map_or_else(Vec::new, |call| call.arguments),
        Expression::Reduced { reduce, .. } => Arc::into_inner(reduce).map_or_else(Vec::new, |reduce| reduce.inputs),
        Expression::Blocks { call, .. } => Arc::into_inner(call).map_or_else(Vec::new, |call| call.inputs),
    }
}

/// `Array f64 (10000, 10000) in [1000x10, 1000x10]`, or the error that it carries.
impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error() {
            Some(error) => write!(f, "Array failed: {error}"),
            None => write!(f, "Array {} {} in {}", self.0.dtype, self.0.shape, self.0.cut.grid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The array has failed, on the caller's line and with this message.
    #[track_caller]
    pub(super) fn check_error(array: &Array, expected: &str) {
        let caller = Location::caller();
        let error = array.error().unwrap_or_else(|| panic!("{array:?} has not failed"));
        assert_eq!(error.error.to_string(), expected);
        assert_eq!(error.caller.file(), caller.file());
        // A call broken over lines begins a line before its first argument.
        assert!(error.caller.line() - caller.line() <= 1, "{}", error.caller);
        assert_eq!(array.rank(), 0);
    }

    #[test]
    fn the_first_error_is_carried_through_everything() {
        let failed = Array::zeros([-1]);
        let line = line!() - 1;
        let far = Array::concatenate([Array::where_(&failed, 1, 2).sum(0).astype(DType::I32), Array::ones([3])], 0) + 1;
        let far = -far.slice([ndarray::SliceInfoElem::Index(7)]).reshape([9]).chunks([0]).seed(1);
        let error = far.error().unwrap();
        assert_eq!((error.caller.file(), error.caller.line()), (file!(), line));
        assert_eq!(error.error, ArrayError::Length { length: -1 });
        assert!(error.to_string().starts_with("src/array/mod.rs:"));
    }

    #[test]
    fn clones_are_one_computation_and_equal_expressions_are_two() {
        let x = Array::zeros([3]);
        assert_eq!(x.identity(), x.clone().identity());
        assert_ne!(x.identity(), Array::zeros([3]).identity());
    }
}
