//! What a reduction does to values, as WGSL: the same accumulators as [`crate::reduce`] has, in its partials' layout,
//! so that CPUs combine what a GPU began.
//!
//! Floats are added in f64, on devices that have it as on those that have not: `F64`, `U64`, `I64` and what is done to
//! them are the device's own, or made of words ([`super::numbers`] says which). min, max and the arg-reductions compare
//! order-preserving integer keys. Lanes never begin with an identity but with an element, so none is needed.

use crate::dtype::DType;
use crate::stage::ReduceOp;

use super::origin::is_wide;

/// A reduction as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Accumulator {
    /// The types `Acc` and `Run` and the functions below.
    pub(super) text: String,
    /// The `Run` of the program's results (each as [`Accumulator::argument`] has it) and, for arg-reductions, of the
    /// place. A run is what an invocation holds while it takes in one element after the other.
    pub(super) lift: &'static str,
    /// The `Run` of one and of the element that comes next.
    pub(super) gather: &'static str,
    /// The `Acc` of a `Run`.
    pub(super) end: &'static str,
    /// Of two `Acc`.
    pub(super) combine: &'static str,
    /// What an `Acc` becomes before it is stored.
    pub(super) seal: &'static str,
    /// Bytes of a stored accumulator.
    pub(super) bytes: u64,
    /// Whether floats of 64 bits are computed with.
    pub(super) uses_floats: bool,
    /// Whether it must know where elements stand.
    pub(super) uses_place: bool,
    /// Whether a bool comes as one. Built-in reductions see the u32 that it is stored as.
    pub(super) takes_bool: bool,
}

/// The type `Acc` and what is done to it, as WGSL: declarations, then the bodies of functions.
struct Steps {
    declared: String,
    /// Of a value `x` and, for arg-reductions, its `place`: a `Run`.
    lift: String,
    /// What a `Run` is; `None` where it is an `Acc`.
    run: Option<Run>,
    /// Of `a` and `b`.
    combine: String,
    /// Of `a`.
    seal: &'static str,
    bytes: u64,
    uses_floats: bool,
}

/// What elements are gathered in, where that is no accumulator: declarations, then the bodies of functions.
struct Run {
    declared: &'static str,
    /// Of `a` and the lifted element `b`.
    gather: &'static str,
    /// Of `a`: an `Acc`.
    end: &'static str,
}

impl Accumulator {
    /// The built-in reduction of values of `input`.
    ///
    /// # Panics
    /// If it is a user's: its kernel says what it is.
    pub(super) fn built_in(op: ReduceOp, input: DType) -> Accumulator {
        // A bool is seen as the u32 that it is stored as.
        let value = if input == DType::Bool { DType::U32 } else { input };
        let Steps { declared, lift, run, combine, seal, bytes, uses_floats } = match op {
            ReduceOp::Sum => totals(value, "sum"),
            ReduceOp::Prod => totals(value, "product"),
            ReduceOp::Mean => means(value),
            ReduceOp::Var { .. } | ReduceOp::Std { .. } => moments(value),
            ReduceOp::Min => extremes(value, true),
            ReduceOp::Max => extremes(value, false),
            ReduceOp::Any | ReduceOp::CountNonzero => counts(value, "0u, 1u"),
            ReduceOp::All => counts(value, "1u, 0u"),
            ReduceOp::ArgMin => placed(value, true),
            ReduceOp::ArgMax => placed(value, false),
            ReduceOp::User(_) => panic!("a user's reduction is asked of its kernel"),
        };
        let place = if op.is_arg() { ", place: Wide" } else { "" };
        let (run_declared, gather, end) = match run {
            None => ("alias Run = Acc;", combine.as_str(), "return a;"),
            Some(Run { declared, gather, end }) => (declared, gather, end),
        };
        let text = format!(
            "{declared}\n{run_declared}\nfn lifted_value(x: {value}{place}) -> Run {{ {lift} }}
fn gathered(a: Run, b: Run) -> Run {{ {gather} }}
fn ended(a: Run) -> Acc {{ {end} }}
fn combined(a: Acc, b: Acc) -> Acc {{ {combine} }}
fn sealed(a: Acc) -> Acc {{ {seal} }}\n"
        );
        Accumulator {
            text,
            lift: "lifted_value",
            gather: "gathered",
            end: "ended",
            combine: "combined",
            seal: "sealed",
            bytes,
            uses_floats,
            uses_place: op.is_arg(),
            takes_bool: false,
        }
    }

    /// A result of the program as `lift` takes it.
    pub(super) fn argument(&self, field: &str, dtype: DType) -> String {
        if dtype == DType::Bool && !self.takes_bool { format!("select(0u, 1u, {field})") } else { field.to_owned() }
    }
}

/// sum and prod: floats in f64, integers in u64, two's complement.
fn totals(value: DType, operation: &str) -> Steps {
    let (ty, seal) = if value.is_float() { ("f64", "return canonical(a);") } else { ("u64", "return a;") };
    Steps {
        declared: format!("alias Acc = {};", ty.to_uppercase()),
        lift: format!("return {ty}_of_{value}(x);"),
        run: None,
        combine: format!("return {ty}_{operation}(a, b);"),
        seal,
        bytes: 8,
        uses_floats: value.is_float(),
    }
}

fn means(value: DType) -> Steps {
    Steps {
        declared: "struct Acc { count: U64, sum: F64 }".to_owned(),
        lift: format!("return Acc(u64_of_u32(1u), f64_of_{value}(x));"),
        run: None,
        combine: "return Acc(u64_sum(a.count, b.count), f64_sum(a.sum, b.sum));".to_owned(),
        seal: "return Acc(a.count, canonical(a.sum));",
        bytes: 16,
        uses_floats: true,
    }
}

fn moments(value: DType) -> Steps {
    // The squares of f64 distances may be more than f64 holds, and nothing is left to take from infinity.
    let may_overflow = value == DType::F64;
    let lift = match may_overflow {
        true => "return Acc(u64_of_u32(1u), x, F64());".to_owned(),
        false => format!("return Run(1u, f64_of_{value}(x), F64(), F64());"),
    };
    Steps {
        declared: "struct Acc { count: U64, mean: F64, m2: F64 }".to_owned(),
        lift,
        run: (!may_overflow).then_some(DISTANCES),
        combine: JOIN_MOMENTS.to_owned(),
        seal: "return Acc(a.count, canonical(a.mean), canonical(a.m2));",
        bytes: 24,
        uses_floats: true,
    }
}

/// Sums of the distances from a run's first element and of their squares, so that no element costs a division. What is
/// taken off the squares in the end is at most as many times what remains as a run has elements, since the first is one
/// of them: 64 elements cost 6 of f64's 53 bits.
const DISTANCES: Run = Run {
    declared: "struct Run { count: u32, first: F64, sum: F64, squares: F64 }",
    gather: "let distance = f64_difference(b.first, a.first);
    let squares = f64_sum(a.squares, f64_product(distance, distance));
    return Run(a.count + 1u, a.first, f64_sum(a.sum, distance), squares);",
    end: "let shift = f64_quotient(a.sum, f64_of_u32(a.count));
    let m2 = f64_difference(a.squares, f64_product(a.sum, shift));
    return Acc(u64_of_u32(a.count), f64_sum(a.first, shift), m2);",
};

/// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
const JOIN_MOMENTS: &str = "let count = u64_sum(a.count, b.count);
    let share = f64_quotient(f64_of_u64(b.count), f64_of_u64(count));
    let distance = f64_difference(b.mean, a.mean);
    let weight = f64_product(f64_of_u64(a.count), share);
    let mean = f64_sum(a.mean, f64_product(distance, share));
    let between = f64_product(f64_product(distance, distance), weight);
    return Acc(count, mean, f64_sum(f64_sum(a.m2, b.m2), between));";

/// min and max, by keys as wide as the value.
fn extremes(value: DType, is_min: bool) -> Steps {
    let ty = if is_wide(value) { "i64" } else { "i32" };
    let wins = if is_min { "b < a" } else { "b > a" };
    Steps {
        declared: format!("alias Acc = {ty};"),
        lift: key(value, is_min, false),
        run: None,
        combine: format!("return select(a, b, {wins});"),
        seal: "return a;",
        bytes: value.bytes(),
        uses_floats: value == DType::F64,
    }
}

/// argmin and argmax: of equal keys the lowest place wins.
fn placed(value: DType, is_min: bool) -> Steps {
    let ty = if is_wide(value) { "i64" } else { "i32" };
    let (first, second) = if is_min { ("a", "b") } else { ("b", "a") };
    let key = key(value, is_min, true);
    Steps {
        declared: format!("struct Acc {{ key: I64, index: U64 }}\nfn key_of(x: {value}) -> {ty} {{ {key} }}"),
        lift: format!("return Acc(i64_of_{ty}(key_of(x)), u64_of(place));"),
        run: None,
        combine: format!(
            "if i64_is_less({first}.key, {second}.key) {{ return a; }}
    if i64_is_less({second}.key, {first}.key) || u64_is_less(b.index, a.index) {{ return b; }}
    return a;"
        ),
        seal: "return a;",
        bytes: 16,
        uses_floats: value == DType::F64,
    }
}

/// How many are true, or how many are not: what one that is not counts for, and one that is.
fn counts(value: DType, weights: &str) -> Steps {
    let is_true = match value {
        DType::F32 => "is_true_32(x)".to_owned(),
        DType::F64 => "is_true_64(x)".to_owned(),
        _ => format!("x != {value}(0)"),
    };
    Steps {
        declared: "alias Acc = U64;".to_owned(),
        lift: format!("return u64_of_u32(select({weights}, {is_true}));"),
        run: None,
        combine: "return u64_sum(a, b);".to_owned(),
        seal: "return a;",
        bytes: 8,
        uses_floats: value == DType::F64,
    }
}

/// The statements that return the key of `x`: NaN wins, and to the arg-reductions -0.0 and +0.0 are equal.
fn key(value: DType, is_min: bool, zeros_are_equal: bool) -> String {
    let least = "-2147483647i - 1i";
    let least64 = "-9223372036854775807li - 1li";
    let nan = match (is_wide(value), is_min) {
        (false, true) => least,
        (false, false) => "2147483647i",
        (true, true) => least64,
        (true, false) => "9223372036854775807li",
    };
    match value {
        DType::F32 => {
            let zero = if zeros_are_equal { "if !is_true_32(x) { return 0i; }" } else { "" };
            format!(
                "if is_nan_32(x) {{ return {nan}; }} {zero} let bits = bitcast<i32>(x);
    return bits ^ ((bits >> 31u) & 0x7fffffffi);"
            )
        }
        DType::F64 => {
            let zero = if zeros_are_equal { "if !is_true_64(x) { return 0li; }" } else { "" };
            format!(
                "if is_nan_64(x) {{ return {nan}; }} {zero} let bits = bitcast<i64>(x);
    return bits ^ ((bits >> 63u) & 9223372036854775807li);"
            )
        }
        DType::I32 | DType::I64 => "return x;".to_owned(),
        DType::U32 | DType::Bool => "return bitcast<i32>(x ^ 0x80000000u);".to_owned(),
        DType::U64 => "return bitcast<i64>(x ^ 0x8000000000000000lu);".to_owned(),
    }
}
