//! Reductions over axes.
//!
//! Each takes its axes as [`IntoAxes`]: `-1`, `[0, 2]`, `..` or `()` for all, `keepdims(-1)` to keep the reduced axes
//! with length 1. (NumPy's empty tuple, which reduces nothing, is `[0i32; 0]` here.)

use std::sync::Arc;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::{AxisGrid, Grid};
use gridloom_worker::kernel::{Kernel, KernelKind, TypedKernel};
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::ReduceOp;

use super::chunks::{Cut, broadcast_cut};
use super::elementwise::{aligned, broadcast_shape, converted};
use super::kernels::single;
use super::views::{constant_like, with_ones};
use super::{Array, ArrayError, Axes, Expression, Failure, IntoAxes, ReduceCall};

/// A method per reduction.
macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident: $op:expr;)*) => {
        /// Reductions.
        ///
        /// # Errors
        /// An axis that is not there, or is named twice; no elements where there is no identity (`min`, `max`,
        /// `argmin`, `argmax`).
        impl Array {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, axes: impl IntoAxes) -> Array {
                Array::or_failed(built_in(self, $op, &axes.into_axes()))
            }
        )*}
    };
}

reductions! {
    /// The sum: signed integers and bool as i64, unsigned as u64, floats as they are; 0 of nothing.
    sum: ReduceOp::Sum;
    /// The product, in the dtypes of `sum`; 1 of nothing.
    prod: ReduceOp::Prod;
    /// The mean: f32 of f32, else f64; NaN of nothing.
    mean: ReduceOp::Mean;
    /// The variance around the mean, divided by the number of elements: f32 of f32, else f64.
    var: ReduceOp::Var { ddof: 0.0 };
    /// The square root of `var`.
    std: ReduceOp::Std { ddof: 0.0 };
    /// The least element; NaN if there is one.
    min: ReduceOp::Min;
    /// The greatest element; NaN if there is one.
    max: ReduceOp::Max;
    /// Whether any element is not 0: bool.
    any: ReduceOp::Any;
    /// Whether no element is 0: bool.
    all: ReduceOp::All;
    /// How many elements are not 0: i64.
    count_nonzero: ReduceOp::CountNonzero;
    /// The index of the least element, the first of several; of the first NaN, if there is one: i64. Along one axis,
    /// or over all axes in row-major order.
    argmin: ReduceOp::ArgMin;
    /// The index of the greatest element, as `argmin`.
    argmax: ReduceOp::ArgMax;
}

impl Array {
    /// The variance, divided by the number of elements less `ddof`.
    #[track_caller]
    pub fn var_ddof(&self, axes: impl IntoAxes, ddof: f64) -> Array {
        Array::or_failed(built_in(self, ReduceOp::Var { ddof }, &axes.into_axes()))
    }

    /// The square root of `var_ddof`.
    #[track_caller]
    pub fn std_ddof(&self, axes: impl IntoAxes, ddof: f64) -> Array {
        Array::or_failed(built_in(self, ReduceOp::Std { ddof }, &axes.into_axes()))
    }

    /// Any built-in reduction, by value.
    ///
    /// # Errors
    /// As the reductions by name; [`ReduceOp::User`] (use [`Array::reduce`]).
    #[track_caller]
    pub fn reduce_op(&self, op: ReduceOp, axes: impl IntoAxes) -> Array {
        Array::or_failed(built_in(self, op, &axes.into_axes()))
    }

    /// A user's reduction over this array. An open `T` is this array's dtype.
    ///
    /// # Errors
    /// An element kernel; an argument that does not cast safely; a struct as result (see [`Array::reduce_fields`]); no
    /// elements along the reduced axes.
    #[track_caller]
    pub fn reduce(&self, kernel: &Kernel, axes: impl IntoAxes) -> Array {
        Array::or_failed(single(user(kernel, &[self], &axes.into_axes())))
    }

    /// A user's reduction whose `lift` takes several arrays, which broadcast; one array per field of its result. Where
    /// it fails, one array that carries the error.
    #[track_caller]
    pub fn reduce_fields(kernel: &Kernel, arguments: &[&Array], axes: impl IntoAxes) -> Vec<Array> {
        match user(kernel, arguments, &axes.into_axes()) {
            Ok((fields, _)) => fields,
            Err(failure) => vec![Array::or_failed(Err(failure))],
        }
    }
}

/// NumPy's name.
pub(crate) const fn name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "sum",
        ReduceOp::Prod => "prod",
        ReduceOp::Mean => "mean",
        ReduceOp::Var { .. } => "var",
        ReduceOp::Std { .. } => "std",
        ReduceOp::Min => "min",
        ReduceOp::Max => "max",
        ReduceOp::Any => "any",
        ReduceOp::All => "all",
        ReduceOp::CountNonzero => "count_nonzero",
        ReduceOp::ArgMin => "argmin",
        ReduceOp::ArgMax => "argmax",
        ReduceOp::User(_) => "reduce",
    }
}

/// The dtype of a built-in reduction's result.
fn result_dtype(op: ReduceOp, input: DType) -> DType {
    match op {
        ReduceOp::Sum | ReduceOp::Prod => match input {
            DType::Bool | DType::I32 | DType::I64 => DType::I64,
            DType::U32 | DType::U64 => DType::U64,
            DType::F32 | DType::F64 => input,
        },
        ReduceOp::Mean | ReduceOp::Var { .. } | ReduceOp::Std { .. } if input.is_float() => input,
        ReduceOp::Mean | ReduceOp::Var { .. } | ReduceOp::Std { .. } => DType::F64,
        ReduceOp::Min | ReduceOp::Max | ReduceOp::User(_) => input,
        ReduceOp::Any | ReduceOp::All => DType::Bool,
        ReduceOp::CountNonzero | ReduceOp::ArgMin | ReduceOp::ArgMax => DType::I64,
    }
}

/// What a reduction of nothing is; `None` where that is an error.
fn of_nothing(op: ReduceOp, result: DType) -> Option<Scalar> {
    match op {
        ReduceOp::Sum | ReduceOp::Any | ReduceOp::CountNonzero => Some(Scalar::I64(0).cast(result)),
        ReduceOp::Prod | ReduceOp::All => Some(Scalar::I64(1).cast(result)),
        ReduceOp::Mean | ReduceOp::Var { .. } | ReduceOp::Std { .. } => Some(Scalar::F64(f64::NAN).cast(result)),
        ReduceOp::Min | ReduceOp::Max | ReduceOp::ArgMin | ReduceOp::ArgMax | ReduceOp::User(_) => None,
    }
}

fn built_in(array: &Array, op: ReduceOp, axes: &Axes) -> Result<Array, Failure> {
    array.sound()?;
    if let ReduceOp::User(_) = op {
        return Err(ArrayError::KernelKind { operation: "reduce_op", expected: "no" }.into());
    }
    let flags = axes.flags(array.rank())?;
    let given = flags.iter().filter(|&&flag| flag).count();
    if op.is_arg() && given != 1 && given != array.rank() {
        return Err(ArrayError::ArgAxes { operation: name(op), given, rank: array.rank() }.into());
    }
    let result = result_dtype(op, array.dtype());
    let (inputs, cut) = (vec![array.clone()], array.cut().clone());
    let space = Space { inputs, cut, axes: flags, keepdims: axes.keepdims() };
    Ok(reduced(space, op, None, vec![result])?.swap_remove(0))
}

fn user(kernel: &Kernel, arguments: &[&Array], axes: &Axes) -> Result<(Vec<Array>, String), Failure> {
    let arguments = arguments.iter().map(|argument| argument.sound().cloned()).collect::<Result<Vec<_>, _>>()?;
    if kernel.kind() != KernelKind::Reduction {
        return Err(ArrayError::KernelKind { operation: "a reduction", expected: "a reduction" }.into());
    }
    let typed = kernel.for_arguments(&arguments.iter().map(Array::dtype).collect::<Vec<_>>())?;
    let signature = &typed.reduction().expect("a reduction kernel has a reduction's functions").signature;
    let results: Vec<DType> = signature.results.iter().map(|field| field.dtype).collect();
    let shape = broadcast_shape(&arguments)?;
    let inputs = arguments.iter().zip(&signature.parameters);
    let inputs: Vec<Array> = inputs.map(|(argument, parameter)| converted(argument, parameter.dtype)).collect();
    let cut = broadcast_cut(&inputs.iter().collect::<Vec<_>>(), &shape, widest(&inputs));
    let inputs = inputs.iter().map(|input| aligned(input, &shape, &cut)).collect::<Result<Vec<Array>, Failure>>()?;
    let space = Space { inputs, cut, axes: axes.flags(shape.rank())?, keepdims: axes.keepdims() };
    let op = ReduceOp::User(typed.hash());
    Ok((reduced(space, op, Some(typed), results)?, "finish".to_owned()))
}

fn widest(arrays: &[Array]) -> DType {
    arrays.iter().map(Array::dtype).max_by_key(|dtype| dtype.bytes()).unwrap_or(DType::F64)
}

/// What is reduced, over which axes.
struct Space {
    inputs: Vec<Array>,
    cut: Cut,
    axes: Vec<bool>,
    keepdims: bool,
}

fn reduced(
    Space { inputs, cut, axes, keepdims }: Space,
    op: ReduceOp,
    kernel: Option<Arc<TypedKernel>>,
    results: Vec<DType>,
) -> Result<Vec<Array>, Failure> {
    let shape = cut.grid.shape();
    let kept_axes: Vec<AxisGrid> =
        axes.iter().zip(&cut.grid.axes).filter(|(reduced, _)| !**reduced).map(|(_, axis)| axis.clone()).collect();
    let kept = Cut { grid: Grid { axes: kept_axes }, auto: cut.auto };
    let with_ones_for: Shape = axes.iter().zip(shape.iter()).map(|(&flag, &at)| if flag { 1 } else { at }).collect();
    let fields = if shape.elements() == 0 {
        let nothing = |&result: &DType| nothing(op, result, &kept.grid.shape(), &shape);
        results.iter().map(nothing).collect::<Result<Vec<_>, _>>()?
    } else {
        fields(&kept, ReduceCall { op, kernel, inputs, grid: cut.grid, axes, results })
    };
    let shaped = |field: &Array| if keepdims { with_ones(field, &with_ones_for) } else { field.clone() };
    Ok(fields.iter().map(shaped).collect())
}

fn fields(kept: &Cut, reduce: ReduceCall) -> Vec<Array> {
    let (reduce, shape) = (Arc::new(reduce), kept.grid.shape());
    let field = |(field, &dtype): (usize, &DType)| {
        let expression = Expression::Reduced { reduce: reduce.clone(), field: field as u32 };
        Array::node(shape.clone(), dtype, kept.clone(), expression)
    };
    reduce.results.iter().enumerate().map(field).collect()
}

/// The reduction of an array without elements: a constant.
fn nothing(op: ReduceOp, result: DType, kept: &Shape, from: &Shape) -> Result<Array, ArrayError> {
    let cut = Cut::auto(kept, result);
    match of_nothing(op, result) {
        Some(value) => Ok(constant_like(value, kept, &cut)),
        None if kept.elements() == 0 => Ok(constant_like(Scalar::I64(0).cast(result), kept, &cut)),
        None => Err(ArrayError::ReduceNothing { operation: name(op), shape: from.to_string() }),
    }
}
