//! The table of built-in element operations: one row each, with its dtype rule and its WGSL.
//!
//! They are ordinary element kernels, and one more operation is one more row. The texts mean what NumPy means: integers
//! wrap, an integer divided by zero is 0, `//` and `%` follow the sign of the divisor, minimum and maximum propagate
//! NaN. NaN is found by its bits, never by `x != x`, which some GPU drivers fold away. Where NumPy would raise or use
//! an 8-bit integer, which we do not have: a negative power of integers is truncated to an integer, and bool is i32 in
//! `//`, `%` and `**`.

use std::sync::{Arc, OnceLock};

use gridloom_worker::dtype::DType;
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};

use super::ArrayError;

/// How an operation's dtypes follow from its arguments'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The promoted dtype goes in and comes out.
    Same,
    /// The same, but bool is computed as i32, the narrowest integer there is.
    Number,
    /// Integers and bool become f64.
    Float,
    /// The promoted dtype goes in, bool comes out.
    Test,
    /// A bool and two of the promoted dtype go in, which comes out.
    Select,
    /// An i64 and an u64 go in, bool comes out.
    Mixed,
}

/// One operation.
struct Row {
    /// NumPy's name.
    name: &'static str,
    rule: Rule,
    /// The text for each group of dtypes. A dtype in none of them has no such operation.
    texts: &'static [(&'static [DType], &'static str)],
    /// Why not.
    refusal: &'static str,
}

const ALL: &[DType] = &DType::ALL;
const NUMBERS: &[DType] = &[DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];
const FLOATS: &[DType] = &[DType::F32, DType::F64];
const SIGNED: &[DType] = &[DType::I32, DType::I64];
const UNSIGNED: &[DType] = &[DType::U32, DType::U64];
const INTEGERS: &[DType] = &[DType::I32, DType::U32, DType::I64, DType::U64];
const NO_FLOATS: &[DType] = &[DType::I32, DType::U32, DType::I64, DType::U64, DType::Bool];
const BOOL: &[DType] = &[DType::Bool];
const F32: &[DType] = &[DType::F32];
const F64: &[DType] = &[DType::F64];
const U64: &[DType] = &[DType::U64];

/// The power of integers by repeated squaring, behind what is said first for exponents that it is not meant for.
macro_rules! by_squaring {
    ($first:literal) => {
        concat!(
            "fn power(x: T, y: T) -> T {
            ",
            $first,
            "
            var base = x;
            var left = y;
            var product = T(1);
            while left != 0 {
                if (left & 1) == 1 { product *= base; }
                base *= base;
                left >>= 1u;
            }
            return product;
        }"
        )
    };
}

/// The text with a helper `nan` for floats of the width.
macro_rules! with_nan {
    (f32 $text:literal) => {
        concat!("fn nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; } ", $text)
    };
    (f64 $text:literal) => {
        concat!(
            "fn nan(x: f64) -> bool { return (bitcast<u64>(x) & 0x7ffffffffffffffflu) > 0x7ff0000000000000lu; } ",
            $text
        )
    };
}

/// Variant, NumPy's name, rule, `{ dtypes: text, ... }`, and why the other dtypes are refused.
macro_rules! operations {
    ($($op:ident $name:literal $rule:ident { $($dtypes:ident: $text:expr),* $(,)? } $($refusal:literal)?;)*) => {
        /// Every built-in element operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Op {
            $($op),*
        }

        impl Op {
            /// Every operation.
            pub(crate) const ALL: &[Op] = &[$(Op::$op),*];

            const fn row(self) -> Row {
                match self {
                    $(Op::$op => Row {
                        name: $name,
                        rule: Rule::$rule,
                        texts: &[$(($dtypes, $text)),*],
                        refusal: concat!($($refusal)?),
                    }),*
                }
            }
        }
    };
}

operations! {
    Add "add" Same {
        NUMBERS: "fn add(x: T, y: T) -> T { return x + y; }",
        BOOL: "fn add(x: T, y: T) -> T { return x | y; }",
    };
    Subtract "subtract" Same {
        NUMBERS: "fn subtract(x: T, y: T) -> T { return x - y; }",
    } "use ^ (exclusive or)";
    Multiply "multiply" Same {
        NUMBERS: "fn multiply(x: T, y: T) -> T { return x * y; }",
        BOOL: "fn multiply(x: T, y: T) -> T { return x & y; }",
    };
    Divide "divide" Float {
        FLOATS: "fn divide(x: T, y: T) -> T { return x / y; }",
    };
    FloorDivide "floor_divide" Number {
        FLOATS: "fn floor_divide(x: T, y: T) -> T {
            if y == 0 { return x / y; }
            let rest = x % y;
            var quotient = (x - rest) / y;
            if rest != 0 && (rest < 0) != (y < 0) { quotient -= 1; }
            if quotient == 0 { return x / y * 0; }
            let whole = floor(quotient);
            return select(whole, whole + 1, quotient - whole > 0.5);
        }",
        SIGNED: "fn floor_divide(x: T, y: T) -> T {
            if y == 0 { return 0; }
            if y == -1 { return -x; }
            return x / y - select(T(0), T(1), x % y != 0 && (x < 0) != (y < 0));
        }",
        UNSIGNED: "fn floor_divide(x: T, y: T) -> T {
            if y == 0 { return 0; }
            return x / y;
        }",
    };
    Remainder "remainder" Number {
        FLOATS: "fn remainder(x: T, y: T) -> T {
            let rest = x % y;
            if rest == 0 { return select(T(0), -T(0), y < 0); }
            return select(rest, rest + y, (rest < 0) != (y < 0));
        }",
        SIGNED: "fn remainder(x: T, y: T) -> T {
            if y == 0 || y == -1 { return 0; }
            let rest = x % y;
            return select(rest, rest + y, rest != 0 && (rest < 0) != (y < 0));
        }",
        UNSIGNED: "fn remainder(x: T, y: T) -> T {
            if y == 0 { return 0; }
            return x % y;
        }",
    };
    Power "power" Number {
        FLOATS: "fn power(x: T, y: T) -> T {
            if x == 1 || y == 0 { return 1; }
            let size = pow(abs(x), y);
            let odd = abs(y % 2) == 1;
            if x == 0 { return select(size, -size, odd && 1 / x < 0); }
            if x < 0 && x - x == 0 && floor(y) != y { return (x - x) / (x - x); }
            return select(size, -size, x < 0 && odd);
        }",
        SIGNED: by_squaring!("if y < 0 {
                if x == 1 || x == -1 { return select(x, T(1), (y & 1) == 0); }
                return 0;
            }"),
        UNSIGNED: by_squaring!(""),
    };
    Minimum "minimum" Same {
        F32: with_nan!(f32 "fn minimum(x: T, y: T) -> T { return select(y, x, x < y || nan(x)); }"),
        F64: with_nan!(f64 "fn minimum(x: T, y: T) -> T { return select(y, x, x < y || nan(x)); }"),
        INTEGERS: "fn minimum(x: T, y: T) -> T { return select(y, x, x < y); }",
        BOOL: "fn minimum(x: T, y: T) -> T { return x & y; }",
    };
    Maximum "maximum" Same {
        F32: with_nan!(f32 "fn maximum(x: T, y: T) -> T { return select(y, x, x > y || nan(x)); }"),
        F64: with_nan!(f64 "fn maximum(x: T, y: T) -> T { return select(y, x, x > y || nan(x)); }"),
        INTEGERS: "fn maximum(x: T, y: T) -> T { return select(y, x, x > y); }",
        BOOL: "fn maximum(x: T, y: T) -> T { return x | y; }",
    };
    Negative "negative" Same {
        FLOATS: "fn negative(x: T) -> T { return -x; }",
        SIGNED: "fn negative(x: T) -> T { return -x; }",
        UNSIGNED: "fn negative(x: T) -> T { return 0 - x; }",
    } "use ! (not)";
    Absolute "absolute" Same {
        FLOATS: "fn absolute(x: T) -> T { return abs(x); }",
        SIGNED: "fn absolute(x: T) -> T { return select(x, -x, x < 0); }",
        UNSIGNED: "fn absolute(x: T) -> T { return x; }",
        BOOL: "fn absolute(x: T) -> T { return x; }",
    };
    Sqrt "sqrt" Float {
        FLOATS: "fn square_root(x: T) -> T { return sqrt(x); }",
    };
    Exp "exp" Float {
        FLOATS: "fn exponential(x: T) -> T { return exp(x); }",
    };
    Log "log" Float {
        FLOATS: "fn logarithm(x: T) -> T { return log(x); }",
    };
    Sin "sin" Float {
        FLOATS: "fn sine(x: T) -> T { return sin(x); }",
    };
    Cos "cos" Float {
        FLOATS: "fn cosine(x: T) -> T { return cos(x); }",
    };
    Equal "equal" Test {
        ALL: "fn equal(x: T, y: T) -> bool { return x == y; }",
    };
    NotEqual "not_equal" Test {
        ALL: "fn not_equal(x: T, y: T) -> bool { return x != y; }",
    };
    Less "less" Test {
        NUMBERS: "fn less(x: T, y: T) -> bool { return x < y; }",
        BOOL: "fn less(x: T, y: T) -> bool { return !x & y; }",
    };
    LessEqual "less_equal" Test {
        NUMBERS: "fn less_equal(x: T, y: T) -> bool { return x <= y; }",
        BOOL: "fn less_equal(x: T, y: T) -> bool { return !x | y; }",
    };
    Greater "greater" Test {
        NUMBERS: "fn greater(x: T, y: T) -> bool { return x > y; }",
        BOOL: "fn greater(x: T, y: T) -> bool { return x & !y; }",
    };
    GreaterEqual "greater_equal" Test {
        NUMBERS: "fn greater_equal(x: T, y: T) -> bool { return x >= y; }",
        BOOL: "fn greater_equal(x: T, y: T) -> bool { return x | !y; }",
    };
    // No dtype holds both i64 and u64: they are compared exactly, as NumPy does.
    MixedEqual "equal" Mixed {
        U64: "fn mixed_equal(x: i64, y: u64) -> bool { return x >= 0 && u64(x) == y; }",
    };
    MixedNotEqual "not_equal" Mixed {
        U64: "fn mixed_not_equal(x: i64, y: u64) -> bool { return x < 0 || u64(x) != y; }",
    };
    MixedLess "less" Mixed {
        U64: "fn mixed_less(x: i64, y: u64) -> bool { return x < 0 || u64(x) < y; }",
    };
    MixedLessEqual "less_equal" Mixed {
        U64: "fn mixed_less_equal(x: i64, y: u64) -> bool { return x < 0 || u64(x) <= y; }",
    };
    MixedGreater "greater" Mixed {
        U64: "fn mixed_greater(x: i64, y: u64) -> bool { return x >= 0 && u64(x) > y; }",
    };
    MixedGreaterEqual "greater_equal" Mixed {
        U64: "fn mixed_greater_equal(x: i64, y: u64) -> bool { return x >= 0 && u64(x) >= y; }",
    };
    And "bitwise_and" Same {
        NO_FLOATS: "fn bitwise_and(x: T, y: T) -> T { return x & y; }",
    } "floats have no bits to combine";
    Or "bitwise_or" Same {
        NO_FLOATS: "fn bitwise_or(x: T, y: T) -> T { return x | y; }",
    } "floats have no bits to combine";
    Xor "bitwise_xor" Same {
        INTEGERS: "fn bitwise_xor(x: T, y: T) -> T { return x ^ y; }",
        BOOL: "fn bitwise_xor(x: T, y: T) -> T { return x != y; }",
    } "floats have no bits to combine";
    Not "invert" Same {
        INTEGERS: "fn invert(x: T) -> T { return ~x; }",
        BOOL: "fn invert(x: T) -> T { return !x; }",
    } "floats have no bits to invert";
    IsNan "isnan" Test {
        F32: with_nan!(f32 "fn is_nan(x: T) -> bool { return nan(x); }"),
        F64: with_nan!(f64 "fn is_nan(x: T) -> bool { return nan(x); }"),
        NO_FLOATS: "fn is_nan(x: T) -> bool { return false; }",
    };
    Where "where" Select {
        ALL: "fn choose(condition: bool, x: T, y: T) -> T { return select(y, x, condition); }",
    };
}

impl Op {
    pub(super) const fn rule(self) -> Rule {
        self.row().rule
    }

    /// The dtype that arguments of the promoted dtype are computed in, and the result's.
    pub(super) fn dtypes(self, promoted: DType) -> Result<(DType, DType), ArrayError> {
        let row = self.row();
        let t = match row.rule {
            Rule::Float if !promoted.is_float() => DType::F64,
            Rule::Number if promoted == DType::Bool => DType::I32,
            Rule::Float | Rule::Number | Rule::Same | Rule::Test | Rule::Select | Rule::Mixed => promoted,
        };
        if self.text(t).is_none() {
            return Err(ArrayError::DType { operation: row.name, dtype: promoted, why: row.refusal });
        }
        let result = if matches!(row.rule, Rule::Test | Rule::Mixed) { DType::Bool } else { t };
        Ok((t, result))
    }

    /// The dtype of argument `at` where the operation is computed in `t`.
    pub(super) fn argument(self, at: usize, t: DType) -> DType {
        match (self.rule(), at) {
            (Rule::Select, 0) => DType::Bool,
            (Rule::Mixed, 0) => DType::I64,
            (Rule::Same | Rule::Number | Rule::Float | Rule::Test | Rule::Select | Rule::Mixed, _) => t,
        }
    }

    /// For a comparison, the one of an i64 with an u64, and the one of an u64 with an i64, its arguments exchanged.
    pub(super) fn mixed(self) -> Option<(Op, Op)> {
        match self {
            Op::Equal => Some((Op::MixedEqual, Op::MixedEqual)),
            Op::NotEqual => Some((Op::MixedNotEqual, Op::MixedNotEqual)),
            Op::Less => Some((Op::MixedLess, Op::MixedGreater)),
            Op::LessEqual => Some((Op::MixedLessEqual, Op::MixedGreaterEqual)),
            Op::Greater => Some((Op::MixedGreater, Op::MixedLess)),
            Op::GreaterEqual => Some((Op::MixedGreaterEqual, Op::MixedLessEqual)),
            _ => None,
        }
    }

    fn text(self, t: DType) -> Option<&'static str> {
        self.row().texts.iter().find(|(dtypes, _)| dtypes.contains(&t)).map(|(_, text)| *text)
    }
}

/// An element function: built in, or a user's.
#[derive(Clone, Debug)]
pub(crate) enum Function {
    /// An operation on a dtype that it has.
    Op(Op, DType),
    /// A conversion, as WGSL's constructors convert.
    Cast(DType, DType),
    /// A user's element kernel.
    User(Arc<TypedKernel>),
}

type Cached = OnceLock<Arc<TypedKernel>>;
static OPS: [[Cached; DType::ALL.len()]; Op::ALL.len()] =
    [const { [const { OnceLock::new() }; DType::ALL.len()] }; Op::ALL.len()];
static CASTS: [[Cached; DType::ALL.len()]; DType::ALL.len()] =
    [const { [const { OnceLock::new() }; DType::ALL.len()] }; DType::ALL.len()];

impl Function {
    /// Its kernel. Built-in ones are compiled once in a process.
    pub(crate) fn kernel(&self) -> Arc<TypedKernel> {
        match self {
            Function::User(kernel) => kernel.clone(),
            Function::Op(op, t) => {
                let text = || op.text(*t).expect("a call is only made with a dtype that the operation has").to_owned();
                OPS[*op as usize][*t as usize].get_or_init(|| compiled(text(), Some(*t))).clone()
            }
            Function::Cast(from, to) => {
                let text = || format!("fn to_{to}(x: {from}) -> {to} {{ return {to}(x); }}");
                CASTS[*from as usize][*to as usize].get_or_init(|| compiled(text(), None)).clone()
            }
        }
    }

    /// Whether it asks where its element stands.
    pub(crate) fn uses_at(&self) -> bool {
        match self {
            Function::Op(..) | Function::Cast(..) => false,
            Function::User(kernel) => kernel.element().is_some_and(|function| function.signature.uses_at),
        }
    }
}

fn compiled(text: String, t: Option<DType>) -> Arc<TypedKernel> {
    let source = KernelSource { kind: KernelKind::Element, text, entry: None, t };
    Arc::new(TypedKernel::compile(source).expect("every row of the table compiles: the test below compiles them all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_compiles_for_its_dtypes_and_returns_what_its_rule_says() {
        for &op in Op::ALL {
            let mut known = 0;
            for promoted in DType::ALL {
                let Ok((t, result)) = op.dtypes(promoted) else { continue };
                let kernel = Function::Op(op, t).kernel();
                let signature = &kernel.element().unwrap().signature;
                assert_eq!(signature.results[0].dtype, result, "{op:?} {t}");
                let inputs: Vec<DType> = signature.parameters.iter().map(|parameter| parameter.dtype).collect();
                let expected: Vec<DType> = (0..inputs.len()).map(|at| op.argument(at, t)).collect();
                assert_eq!(inputs, expected, "{op:?} {t}");
                known += 1;
            }
            assert!(known >= if op.rule() == Rule::Mixed { 1 } else { 5 }, "{op:?}");
        }
    }

    #[test]
    fn every_cast_compiles() {
        for from in DType::ALL {
            for to in DType::ALL {
                let kernel = Function::Cast(from, to).kernel();
                assert_eq!(kernel.to_string(), format!("to_{to}(x: {from}) -> {to}"));
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let error = Op::Subtract.dtypes(DType::Bool).unwrap_err();
        assert_eq!(error.to_string(), "subtract of bool: use ^ (exclusive or)");
        assert!(Op::And.dtypes(DType::F32).is_err());
        assert_eq!(Op::FloorDivide.dtypes(DType::Bool), Ok((DType::I32, DType::I32)));
        assert_eq!(Op::Sqrt.dtypes(DType::I32), Ok((DType::F64, DType::F64)));
    }
}
