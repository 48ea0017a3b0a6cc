//! Element operations by name: broadcasting, promotion, conversion.
//!
//! Operators (`+`, `<<`, ...) are in `operators`; what each operation does is in the table of `ops`.

use std::sync::Arc;

use gridloom_worker::dtype::DType;
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::Source;

use super::chunks::{Cut, broadcast_cut};
use super::lengths::check_rank;
use super::ops::{Op, Rule};
use super::views::{broadcast, constant_like};
use super::{Array, ArrayError, Call, Expression, Failure, Function, Number, Operand};

/// A method per operation of one argument.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident: $op:ident;)*) => {
        /// Element operations of one argument.
        impl Array {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self) -> Array {
                Array::or_failed(element_wise(Op::$op, vec![self.into()]))
            }
        )*}
    };
}

unary! {
    /// `|x|`; of the least integer, itself.
    abs: Absolute;
    /// The square root; integers become f64; NaN below 0.
    sqrt: Sqrt;
    /// e to the power x; integers become f64.
    exp: Exp;
    /// The natural logarithm; integers become f64; of 0 -inf, below it NaN.
    log: Log;
    /// The sine of radians; integers become f64.
    sin: Sin;
    /// The cosine of radians; integers become f64.
    cos: Cos;
    /// Whether the element is NaN: bool.
    isnan: IsNan;
}

/// A method per operation of two arguments.
macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident: $op:ident;)*) => {
        /// Element operations of two arguments, arrays or Rust numbers, which broadcast and promote as NumPy's.
        ///
        /// # Errors
        /// Shapes that do not broadcast; dtypes that have no such operation; an integer that the other's dtype cannot
        /// hold.
        impl Array {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, other: impl Into<Operand>) -> Array {
                Array::or_failed(element_wise(Op::$op, vec![self.into(), other.into()]))
            }
        )*}
    };
}

binary! {
    /// The greatest integer not above the quotient (Python's `//`). Integers divided by 0 are 0.
    floor_divide: FloorDivide;
    /// What `floor_divide` leaves, with the divisor's sign (Python's `%`, also the operator here).
    remainder: Remainder;
    /// `self` to the power `other`, in integers if both are (wrapping).
    pow: Power;
    /// The lesser of the two; NaN if one is.
    minimum: Minimum;
    /// The greater of the two; NaN if one is.
    maximum: Maximum;
    /// `==` as a bool array.
    equal: Equal;
    /// `!=` as a bool array.
    not_equal: NotEqual;
    /// `<` as a bool array.
    less: Less;
    /// `<=` as a bool array.
    less_equal: LessEqual;
    /// `>` as a bool array.
    greater: Greater;
    /// `>=` as a bool array.
    greater_equal: GreaterEqual;
}

impl Array {
    /// `a` where `condition` is true (or not 0), else `b`; all three broadcast.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    #[track_caller]
    pub fn where_(condition: &Array, a: impl Into<Operand>, b: impl Into<Operand>) -> Array {
        Array::or_failed(element_wise(Op::Where, vec![condition.into(), a.into(), b.into()]))
    }

    /// The elements converted to another dtype. Floats become integers towards zero, as in WGSL: what is too large becomes
    /// the largest number that the float's own dtype has, NaN becomes 0. Integers wrap; bool is whether an element is
    /// not 0.
    #[track_caller]
    pub fn astype(&self, dtype: DType) -> Array {
        Array::or_failed(self.sound().map(|array| converted(array, dtype)))
    }
}

pub(super) fn element_wise(op: Op, operands: Vec<Operand>) -> Result<Array, Failure> {
    for operand in &operands {
        if let Operand::Array(array) = operand {
            array.sound()?;
        }
    }
    let operands = with_dtypes_that_hold(op, operands);
    let (op, operands) = mixed(op, operands);
    // The condition of `where` takes no part in the promotion.
    let promoted = match op.rule() {
        Rule::Select => promoted(&operands[1..]),
        Rule::Mixed => DType::U64,
        Rule::Same | Rule::Number | Rule::Float | Rule::Test => promoted(&operands),
    };
    let (t, result) = op.dtypes(promoted)?;
    check_exponent(op, t, &operands)?;
    let arguments = operands.iter().enumerate().map(|(at, operand)| match operand {
        Operand::Array(array) => Ok(converted(array, op.argument(at, t))),
        Operand::Number(number) => Ok(Array::constant(number.scalar(op.argument(at, t))?, &Shape::default())),
    });
    let arguments = arguments.collect::<Result<Vec<Array>, ArrayError>>()?;
    call(Function::Op(op, t), &arguments, vec![result]).map(|fields| fields[0].clone())
}

/// The dtype of all operands together: numbers take it from the arrays.
fn promoted(operands: &[Operand]) -> DType {
    let arrays = operands.iter().filter_map(|operand| match operand {
        Operand::Array(array) => Some(array.dtype()),
        Operand::Number(_) => None,
    });
    let numbers = operands.iter().filter_map(|operand| match operand {
        Operand::Array(_) => None,
        Operand::Number(number) => Some(*number),
    });
    match arrays.reduce(DType::promote) {
        Some(dtype) => numbers.fold(dtype, |dtype, number| dtype.promote(number.beside(dtype))),
        None => numbers.map(Number::default_dtype).reduce(DType::promote).unwrap_or(DType::F64),
    }
}

/// In comparisons an integer that the array's dtype cannot hold is compared all the same: it gets a dtype of its own.
fn with_dtypes_that_hold(op: Op, operands: Vec<Operand>) -> Vec<Operand> {
    let promoted = promoted(&operands);
    let comparison = op.rule() == Rule::Test;
    let widened = operands.into_iter().map(|operand| match operand {
        Operand::Number(number) if comparison && number.scalar(promoted).is_err() => {
            match number.scalar(number.default_dtype()) {
                Ok(value) => Operand::Array(value.into()),
                Err(_) => operand,
            }
        }
        operand => operand,
    });
    widened.collect()
}

/// Comparisons of a signed array with a u64 one, which no dtype holds together.
fn mixed(op: Op, operands: Vec<Operand>) -> (Op, Vec<Operand>) {
    let dtype = |at: usize| match operands.get(at) {
        Some(Operand::Array(array)) => Some(array.dtype()),
        _ => None,
    };
    let signed = |at| dtype(at).is_some_and(DType::is_signed_integer);
    match op.mixed() {
        Some((mixed, _)) if signed(0) && dtype(1) == Some(DType::U64) => (mixed, operands),
        Some((_, exchanged)) if dtype(0) == Some(DType::U64) && signed(1) => {
            (exchanged, operands.into_iter().rev().collect())
        }
        _ => (op, operands),
    }
}

fn check_exponent(op: Op, t: DType, operands: &[Operand]) -> Result<(), ArrayError> {
    match operands.get(1) {
        Some(Operand::Number(Number::Integer(exponent))) if op == Op::Power && *exponent < 0 && t.is_integer() => {
            Err(ArrayError::NegativePower { exponent: *exponent })
        }
        _ => Ok(()),
    }
}

/// The array as another dtype: itself, a constant, or a cast of its own.
pub(super) fn converted(array: &Array, dtype: DType) -> Array {
    if array.dtype() == dtype {
        return array.clone();
    }
    if let Expression::Source(Source::Constant(value)) = array.expression() {
        return constant_like(value.cast(dtype), array.shape(), array.cut());
    }
    let call =
        Call { function: Function::Cast(array.dtype(), dtype), arguments: vec![array.clone()], results: vec![dtype] };
    let expression = Expression::Call { call: Arc::new(call), field: 0 };
    Array::node(array.shape().clone(), dtype, array.cut().clone(), expression)
}

/// An element function over arrays of its parameters' dtypes, which broadcast: one array per field.
pub(super) fn call(function: Function, arguments: &[Array], results: Vec<DType>) -> Result<Vec<Array>, Failure> {
    let shape = broadcast_shape(arguments)?;
    let bytes_most = results.iter().copied().max_by_key(|dtype| dtype.bytes()).unwrap_or(DType::F64);
    let cut = broadcast_cut(&arguments.iter().collect::<Vec<_>>(), &shape, bytes_most);
    let arguments = arguments.iter().map(|argument| aligned(argument, &shape, &cut));
    let call = Call { function, arguments: arguments.collect::<Result<_, _>>()?, results };
    Ok(fields(&shape, &cut, call))
}

/// The argument under the shape. It keeps its own cut where it has the shape already.
pub(super) fn aligned(argument: &Array, shape: &Shape, cut: &Cut) -> Result<Array, Failure> {
    if argument.shape() == shape { Ok(argument.clone()) } else { broadcast(argument, shape, cut.clone()) }
}

fn fields(shape: &Shape, cut: &Cut, call: Call) -> Vec<Array> {
    let call = Arc::new(call);
    let field = |(field, &dtype): (usize, &DType)| {
        let expression = Expression::Call { call: call.clone(), field: field as u32 };
        Array::node(shape.clone(), dtype, cut.clone(), expression)
    };
    call.results.iter().enumerate().map(field).collect()
}

/// The shape that all broadcast to.
pub(super) fn broadcast_shape(arrays: &[Array]) -> Result<Shape, ArrayError> {
    let error = || ArrayError::Broadcast { shapes: arrays.iter().map(|array| array.shape().to_string()).collect() };
    let rank = arrays.iter().map(Array::rank).max().unwrap_or(0);
    check_rank(rank)?;
    let mut lengths = vec![1; rank];
    for array in arrays {
        for (length, &own) in lengths[rank - array.rank()..].iter_mut().zip(array.shape().iter()) {
            match (*length, own) {
                (1, own) => *length = own,
                (length, own) if own == 1 || own == length => {}
                _ => return Err(error()),
            }
        }
    }
    Ok(Shape::new(&lengths)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_error;
    use super::*;

    fn of(dtype: DType) -> Array {
        Array::ones([2]).with_dtype(dtype)
    }

    #[test]
    fn dtypes_are_numpys() {
        use DType::*;
        assert_eq!((of(I32) + of(F32)).dtype(), F64);
        assert_eq!((of(I32) / of(I32)).dtype(), F64);
        assert_eq!((of(F32) / 2).dtype(), F32);
        assert_eq!((of(F32) * 2.5).dtype(), F32);
        assert_eq!((2.5 * of(I32)).dtype(), F64);
        assert_eq!((2 - of(U32)).dtype(), U32);
        assert_eq!((of(Bool) + 1).dtype(), I64);
        assert_eq!((of(Bool) + true).dtype(), Bool);
        assert_eq!((of(Bool) % of(Bool)).dtype(), I32);
        assert_eq!(of(I32).pow(2).dtype(), I32);
        assert_eq!(of(I32).pow(0.5).dtype(), F64);
        assert_eq!(of(U64).floor_divide(of(I64)).dtype(), F64);
        assert_eq!(of(I64).sqrt().dtype(), F64);
        assert_eq!(of(F32).sqrt().dtype(), F32);
        assert_eq!(of(F32).less(1).dtype(), Bool);
        assert_eq!((of(I32) & of(U32)).dtype(), I64);
        assert_eq!((!of(Bool)).dtype(), Bool);
        assert_eq!(Array::where_(&of(Bool), of(I32), 2.5).dtype(), F64);
        assert_eq!(Array::where_(&of(Bool), 1, 2).dtype(), I64);
        assert_eq!(Array::where_(&of(F64), of(I32), of(I32)).dtype(), I32);
        // An array of no axes is no Rust number: it keeps its dtype.
        assert_eq!((of(F32) * Array::full((), 2.0)).dtype(), F64);
    }

    #[test]
    fn shapes_broadcast_and_cuts_lead() {
        let x = Array::ones([4, 1, 6]).chunks([2, 1, 3]) + 0;
        let y = Array::random([5, 6]);
        let both = x + y;
        assert_eq!((&**both.shape(), both.grid().to_string().as_str()), (&[4, 5, 6][..], "[2x2, 5, 3x2]"));
        assert_eq!((&**(Array::ones(()) + Array::ones([0, 1])).shape()), [0, 1]);
    }

    #[test]
    fn numbers_beyond_a_dtype_compare_all_the_same() {
        let op = |array: &Array| match array.expression() {
            Expression::Call { call, .. } => (call.function.kernel().to_string(), array.dtype()),
            _ => panic!("{array:?}"),
        };
        assert_eq!(op(&of(DType::I32).less(1i64 << 40)).0, "less(x: i64, y: i64) -> bool");
        assert_eq!(op(&of(DType::U64).less(-1)).0, "mixed_greater(x: i64, y: u64) -> bool");
        assert_eq!(op(&of(DType::I64).less_equal(of(DType::U64))).0, "mixed_less_equal(x: i64, y: u64) -> bool");
    }

    #[test]
    fn errors() {
        let shapes = "shapes (2,), (3,) do not broadcast: lengths must be equal, or 1";
        check_error(&(of(DType::F64) + Array::ones([3])), shapes);
        check_error(&(of(DType::U32) + -1), "-1 is no u32");
        check_error(&(of(DType::I32) * (1i64 << 31)), "2147483648 is no i32");
        check_error(&(of(DType::Bool) - of(DType::Bool)), "subtract of bool: use ^ (exclusive or)");
        check_error(&(-of(DType::Bool)), "negative of bool: use ! (not)");
        check_error(&(of(DType::F32) & 1), "bitwise_and of f32: floats have no bits to combine");
        check_error(&of(DType::I32).pow(-1), "integers to the power -1: make one of them a float");
        let shape =
            "shape (1152921504606846975, 1152921504606846975) overflows: its elements cannot be counted in 60 bits";
        let long = Array::ones([(1i64 << 60) - 1]);
        check_error(&(long.expand_dims(1) + &long), shape);
    }
}
