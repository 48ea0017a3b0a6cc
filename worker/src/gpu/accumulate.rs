//! What a reduction does to values, as WGSL: the same accumulators as [`crate::reduce`] has, in its partials' layout,
//! so that CPUs combine what a GPU began.
//!
//! Floats are added in f64. min, max and the arg-reductions compare order-preserving integer keys. Lanes never begin
//! with an identity but with an element, so none is needed.

use crate::dtype::DType;
use crate::stage::ReduceOp;

use super::origin::is_wide;

/// A reduction as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Accumulator {
    /// The type `Acc` and the functions below.
    pub(super) text: String,
    /// Of the program's results (each as [`Accumulator::argument`] has it) and, for arg-reductions, of the place.
    pub(super) lift: &'static str,
    /// Of two `Acc`.
    pub(super) combine: &'static str,
    /// What an `Acc` becomes before it is stored.
    pub(super) seal: &'static str,
    /// Bytes of a stored accumulator.
    pub(super) bytes: u64,
    /// Whether `Acc` has 64-bit numbers.
    pub(super) is_wide: bool,
    /// Whether it must know where elements stand.
    pub(super) uses_place: bool,
    /// Whether a bool comes as one. Built-in reductions see the u32 that it is stored as.
    pub(super) takes_bool: bool,
}

/// The type `Acc` and what is done to it, as WGSL: declarations, then the bodies of functions.
struct Steps {
    declared: String,
    /// Of a value `x` and, for arg-reductions, its `place`.
    lift: String,
    /// Of `a` and `b`.
    combine: String,
    /// Of `a`.
    seal: &'static str,
    bytes: u64,
}

impl Accumulator {
    /// The built-in reduction of values of `input`.
    ///
    /// # Panics
    /// If it is a user's: its kernel says what it is.
    pub(super) fn built_in(op: ReduceOp, input: DType) -> Accumulator {
        // A bool is seen as the u32 that it is stored as.
        let value = if input == DType::Bool { DType::U32 } else { input };
        let Steps { declared, lift, combine, seal, bytes } = match op {
            ReduceOp::Sum => totals(value, "return a + b;"),
            ReduceOp::Prod => totals(value, "return a * b;"),
            ReduceOp::Mean => means(),
            ReduceOp::Var { .. } | ReduceOp::Std { .. } => moments(),
            ReduceOp::Min => extremes(value, true),
            ReduceOp::Max => extremes(value, false),
            ReduceOp::Any | ReduceOp::CountNonzero => counts(value, "1lu", "0lu"),
            ReduceOp::All => counts(value, "0lu", "1lu"),
            ReduceOp::ArgMin => placed(value, true),
            ReduceOp::ArgMax => placed(value, false),
            ReduceOp::User(_) => panic!("a user's reduction is asked of its kernel"),
        };
        let place = if op.is_arg() { ", place: Wide" } else { "" };
        let text = format!(
            "{declared}\nfn lifted_value(x: {value}{place}) -> Acc {{ {lift} }}
fn combined(a: Acc, b: Acc) -> Acc {{ {combine} }}
fn sealed(a: Acc) -> Acc {{ {seal} }}\n"
        );
        Accumulator {
            text,
            lift: "lifted_value",
            combine: "combined",
            seal: "sealed",
            bytes,
            is_wide: bytes >= 8,
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
fn totals(value: DType, combine: &str) -> Steps {
    let (ty, lift, seal) = match value {
        DType::F32 | DType::F64 => ("f64", "return f64(x);", "return canonical(a);"),
        DType::I32 => ("u64", "return u64(i64(x));", "return a;"),
        DType::I64 => ("u64", "return bitcast<u64>(x);", "return a;"),
        DType::U32 | DType::U64 | DType::Bool => ("u64", "return u64(x);", "return a;"),
    };
    let declared = format!("alias Acc = {ty};");
    Steps { declared, lift: lift.to_owned(), combine: combine.to_owned(), seal, bytes: 8 }
}

fn means() -> Steps {
    Steps {
        declared: "struct Acc { count: u64, sum: f64 }".to_owned(),
        lift: "return Acc(1lu, f64(x));".to_owned(),
        combine: "return Acc(a.count + b.count, a.sum + b.sum);".to_owned(),
        seal: "return Acc(a.count, canonical(a.sum));",
        bytes: 16,
    }
}

fn moments() -> Steps {
    Steps {
        declared: "struct Acc { count: u64, mean: f64, m2: f64 }".to_owned(),
        lift: "return Acc(1lu, f64(x), 0.0lf);".to_owned(),
        combine: JOIN_MOMENTS.to_owned(),
        seal: "return Acc(a.count, canonical(a.mean), canonical(a.m2));",
        bytes: 24,
    }
}

/// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
const JOIN_MOMENTS: &str = "let count = f64(a.count) + f64(b.count);
    let share = f64(b.count) / count;
    let distance = b.mean - a.mean;
    let weight = f64(a.count) * share;
    return Acc(a.count + b.count, a.mean + distance * share, a.m2 + b.m2 + distance * distance * weight);";

/// min and max, by keys as wide as the value.
fn extremes(value: DType, is_min: bool) -> Steps {
    let ty = if is_wide(value) { "i64" } else { "i32" };
    let wins = if is_min { "b < a" } else { "b > a" };
    Steps {
        declared: format!("alias Acc = {ty};"),
        lift: key(value, is_min, false),
        combine: format!("return select(a, b, {wins});"),
        seal: "return a;",
        bytes: value.bytes(),
    }
}

/// argmin and argmax: of equal keys the lowest place wins.
fn placed(value: DType, is_min: bool) -> Steps {
    let ty = if is_wide(value) { "i64" } else { "i32" };
    let wins = if is_min { "b.key < a.key" } else { "b.key > a.key" };
    let key = key(value, is_min, true);
    Steps {
        declared: format!("struct Acc {{ key: i64, index: u64 }}\nfn key_of(x: {value}) -> {ty} {{ {key} }}"),
        lift: "return Acc(i64(key_of(x)), u64_of(place));".to_owned(),
        combine: format!("if {wins} || (b.key == a.key && b.index < a.index) {{ return b; }} return a;"),
        seal: "return a;",
        bytes: 16,
    }
}

/// How many are true, or how many are not.
fn counts(value: DType, of_true: &str, of_false: &str) -> Steps {
    let is_true = match value {
        DType::F32 => "is_true_32(x)".to_owned(),
        DType::F64 => "is_true_64(x)".to_owned(),
        _ => format!("x != {value}(0)"),
    };
    Steps {
        declared: "alias Acc = u64;".to_owned(),
        lift: format!("return select({of_false}, {of_true}, {is_true});"),
        combine: "return a + b;".to_owned(),
        seal: "return a;",
        bytes: 8,
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
