//! Reductions over axes.
//!
//! Each takes its axes as [`IntoAxes`]: `-1`, `[0, 2]`, `..` or `()` for all, `keepdims(-1)` to keep the reduced axes
//! with length 1. (NumPy's empty tuple, which reduces nothing, is `[0i32; 0]` here.)

use std::sync::Arc;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::{AxisGrid, Grid};
use gridloom_worker::kernel::{Kernel, KernelKind, TypedKernel};
use gridloom_worker::reduce;
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{ReduceOp, Reduction};

use super::chunks::{Cut, broadcast_cut};
use super::elementwise::{aligned, broadcast_shape, converted};
use super::kernels::single;
use super::views::with_ones;
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
        Array::or_failed(single(user(kernel, &[self], &axes.into_axes()), "reduce_fields"))
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
    let results = reduce::result_dtypes(&Reduction { op, inputs: vec![array.dtype()] });
    let (inputs, cut) = (vec![array.clone()], array.cut().clone());
    let space = Space { inputs, cut, axes: flags, keepdims: axes.keepdims() };
    Ok(reduced(space, op, None, results)?.swap_remove(0))
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
    let fields = match shape.elements() {
        0 => nothing(op, &inputs, &results, &kept.grid.shape())?,
        _ => fields(&kept, ReduceCall { op, kernel, inputs, grid: cut.grid, axes, results }),
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

/// The fields of the reduction of an array without elements: constants.
fn nothing(op: ReduceOp, inputs: &[Array], results: &[DType], kept: &Shape) -> Result<Vec<Array>, ArrayError> {
    if kept.elements() == 0 {
        let field = |&dtype: &DType| Array::constant(Scalar::Bool(false).cast(dtype), kept);
        return Ok(results.iter().map(field).collect());
    }
    let reduction = Reduction { op, inputs: inputs.iter().map(Array::dtype).collect() };
    let value = match op {
        // An identity is a kernel's own; there is no block to compute it in.
        ReduceOp::User(_) => None,
        _ => reduce::empty_value(&reduction).ok(),
    };
    match value {
        Some(value) => Ok(vec![Array::constant(value, kept)]),
        None => Err(ArrayError::ReduceNothing { operation: name(op), shape: inputs[0].shape().to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{keepdims, tests::check_error};
    use super::*;

    fn check(array: Array, dtype: DType, lengths: &[u64]) {
        assert_eq!((array.dtype(), &**array.shape()), (dtype, lengths), "{array:?}");
    }

    #[test]
    fn dtypes_and_shapes_are_numpys() {
        let of = |dtype| Array::ones([2, 3, 4]).with_dtype(dtype);
        check(of(DType::I32).sum(-1), DType::I64, &[2, 3]);
        check(of(DType::U32).prod([0, 2]), DType::U64, &[3]);
        check(of(DType::Bool).sum(..), DType::I64, &[]);
        check(of(DType::F32).sum(()), DType::F32, &[]);
        check(of(DType::I32).mean(keepdims(1)), DType::F64, &[2, 1, 4]);
        check(of(DType::F32).var_ddof(0, 1.0), DType::F32, &[3, 4]);
        check(of(DType::I64).std(keepdims(..)), DType::F64, &[1, 1, 1]);
        check(of(DType::U32).min([0i32; 0]), DType::U32, &[2, 3, 4]);
        check(of(DType::F64).any(0), DType::Bool, &[3, 4]);
        check(of(DType::F64).count_nonzero(0), DType::I64, &[3, 4]);
        check(of(DType::F32).argmax(1), DType::I64, &[2, 4]);
        check(of(DType::F32).argmin(..), DType::I64, &[]);
        check(of(DType::F32).argmin([0, 1, 2]), DType::I64, &[]);
        check(Array::full((), 2).max(..), DType::I64, &[]);
    }

    #[test]
    fn nothing_has_an_identity_or_is_an_error() {
        let constant = |array: Array| match array.expression() {
            Expression::Source(gridloom_worker::stage::Source::Constant(value)) => *value,
            _ => panic!("{array:?}"),
        };
        let empty = Array::zeros([0, 3]);
        assert_eq!(constant(empty.sum(0)), Scalar::F64(0.0));
        assert_eq!(constant(empty.prod(..)), Scalar::F64(1.0));
        assert_eq!(constant(empty.all(0)), Scalar::Bool(true));
        assert!(matches!(constant(empty.mean(0)), Scalar::F64(value) if value.is_nan()));
        check(empty.min(1), DType::F64, &[0]);
        check(empty.sum(keepdims(0)), DType::F64, &[1, 3]);
        check_error(&empty.min(0), "min of no elements: shape (0, 3) is empty along the reduced axes");
        check_error(&empty.argmax(..), "argmax of no elements: shape (0, 3) is empty along the reduced axes");
    }

    #[test]
    fn nothing_has_as_many_fields_as_something() {
        let two = "struct A { n: u32, s: f32 } fn identity() -> A { return A(0, 0); }
            fn lift(x: f32) -> A { return A(1, x); } fn combine(a: A, b: A) -> A { return A(a.n + b.n, a.s + b.s); }
            fn finish(a: A) -> A { return a; }";
        let kernel = Kernel::reduction(two).unwrap();
        let empty = Array::zeros([0, 3]).with_dtype(DType::F32);
        let fields = Array::reduce_fields(&kernel, &[&empty], 1);
        assert_eq!(fields.len(), 2);
        check(fields[0].clone(), DType::U32, &[0]);
        check(fields[1].clone(), DType::F32, &[0]);
        assert!(empty.reduce(&kernel, 1).error().is_some(), "a struct is no single result, of nothing either");
    }

    #[test]
    fn errors() {
        let x = Array::ones([2, 3, 4]);
        check_error(&x.sum(3), "axis 3 of an array of 3 axes: they are 0 to 2, or -3 to -1 from the end");
        check_error(&x.sum([0, -3]), "axis 0 is named twice");
        check_error(&x.argmin([0, 1]), "argmin over 2 of 3 axes: it works over one axis or over all");
        check_error(&Array::ones(()).mean(0), "axis 0 of an array of 0 axes: they are none");
        let element = Kernel::element("fn f(x: f32) -> f32 { return x; }").unwrap();
        check_error(&x.reduce(&element, 0), "a reduction needs a reduction kernel");
    }
}
