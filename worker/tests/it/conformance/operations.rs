//! The element operations that arrays have, as the root crate writes them, on every dtype that they take.

use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;

use super::executors::check;
use super::harness::{Array, element, map, shape};
use super::maps::small;
use super::tolerance::Tolerance;

use DType::{F32, F64, I32, I64, U32, U64};

const NUMBERS: &[DType] = &[F32, F64, I32, U32, I64, U64];
const INTEGERS: &[DType] = &[I32, U32, I64, U64];
const SIGNED: &[DType] = &[I32, I64];
const UNSIGNED: &[DType] = &[U32, U64];
const FLOATS: &[DType] = &[F32, F64];
const SINGLE: &[DType] = &[F32];
const BOOL: &[DType] = &[DType::Bool];

/// WGSL asks for 2.5 ULP of a quotient.
const QUOTIENT: Tolerance = Tolerance::Ulps(3);

/// WGSL promises little of these: an absolute error of 2^-11 for sin and cos between -pi and pi, and for exp and log a
/// few ULP or 2^-21. What is found is better; it is held here so that it stays so.
const WAVE: Tolerance = Tolerance::Near { ulps: 4, absolute: 1.0 / (1 << 11) as f64 };
const EXPONENTIAL: Tolerance = Tolerance::Near { ulps: 256, absolute: 0.0 };
const LOGARITHM: Tolerance = Tolerance::Near { ulps: 64, absolute: 1.0 / (1 << 21) as f64 };

/// Name, dtypes, text, how near.
const OPERATIONS: &[(&str, &[DType], &str, Tolerance)] = &[
    ("add", NUMBERS, "fn f(x: T, y: T) -> T { return x + y; }", Tolerance::Exact),
    ("subtract", NUMBERS, "fn f(x: T, y: T) -> T { return x - y; }", Tolerance::Exact),
    ("multiply", NUMBERS, "fn f(x: T, y: T) -> T { return x * y; }", Tolerance::Exact),
    ("or", BOOL, "fn f(x: T, y: T) -> T { return x | y; }", Tolerance::Exact),
    ("xor", BOOL, "fn f(x: T, y: T) -> T { return x != y; }", Tolerance::Exact),
    ("divide", FLOATS, "fn f(x: T, y: T) -> T { return x / y; }", QUOTIENT),
    (
        "floor_divide",
        SIGNED,
        "fn f(x: T, y: T) -> T {
            if y == 0 { return 0; }
            if y == -1 { return -x; }
            return x / y - select(T(0), T(1), x % y != 0 && (x < 0) != (y < 0));
        }",
        Tolerance::Exact,
    ),
    ("floor_divide", UNSIGNED, "fn f(x: T, y: T) -> T { if y == 0 { return 0; } return x / y; }", Tolerance::Exact),
    (
        "remainder",
        SIGNED,
        "fn f(x: T, y: T) -> T {
            if y == 0 || y == -1 { return 0; }
            let rest = x % y;
            return select(rest, rest + y, rest != 0 && (rest < 0) != (y < 0));
        }",
        Tolerance::Exact,
    ),
    ("remainder", UNSIGNED, "fn f(x: T, y: T) -> T { if y == 0 { return 0; } return x % y; }", Tolerance::Exact),
    (
        "power",
        UNSIGNED,
        "fn f(x: T, y: T) -> T {
            var base = x;
            var left = y;
            var product = T(1);
            while left != 0 {
                if (left & 1) == 1 { product *= base; }
                base *= base;
                left >>= 1u;
            }
            return product;
        }",
        Tolerance::Exact,
    ),
    ("minimum", INTEGERS, "fn f(x: T, y: T) -> T { return select(y, x, x < y); }", Tolerance::Exact),
    ("negative", FLOATS, "fn f(x: T, y: T) -> T { return -x; }", Tolerance::Exact),
    ("negative", SIGNED, "fn f(x: T, y: T) -> T { return -x; }", Tolerance::Exact),
    ("absolute", FLOATS, "fn f(x: T, y: T) -> T { return abs(x); }", Tolerance::Exact),
    ("floor", FLOATS, "fn f(x: T, y: T) -> T { return floor(x); }", Tolerance::Exact),
    ("less", NUMBERS, "fn f(x: T, y: T) -> bool { return x < y; }", Tolerance::Exact),
    ("equal", NUMBERS, "fn f(x: T, y: T) -> bool { return x == y; }", Tolerance::Exact),
    ("not_equal", NUMBERS, "fn f(x: T, y: T) -> bool { return x != y; }", Tolerance::Exact),
    ("and", INTEGERS, "fn f(x: T, y: T) -> T { return (x & y) | (x ^ ~y); }", Tolerance::Exact),
    (
        "shift",
        INTEGERS,
        "fn f(x: T, y: T) -> T { return (x << (u32(y) & 31u)) ^ (x >> (u32(y) & 15u)); }",
        Tolerance::Exact,
    ),
    ("where", NUMBERS, "fn f(x: T, y: T) -> T { return select(y, x, x > y); }", Tolerance::Exact),
    ("sqrt", FLOATS, "fn f(x: T, y: T) -> T { return sqrt(abs(x)); }", Tolerance::Ulps(4)),
    ("exp", SINGLE, "fn f(x: T, y: T) -> T { return exp(x); }", EXPONENTIAL),
    ("log", SINGLE, "fn f(x: T, y: T) -> T { return log(abs(x) + 0.25); }", LOGARITHM),
    ("sin", SINGLE, "fn f(x: T, y: T) -> T { return sin(x); }", WAVE),
    ("cos", SINGLE, "fn f(x: T, y: T) -> T { return cos(x); }", WAVE),
];

#[test]
fn every_operation_of_arrays() {
    for &(name, dtypes, text, tolerance) in OPERATIONS {
        for &dtype in dtypes {
            let grid = Grid::regular(&shape(&[1003]), &[500]);
            let arrays = vec![
                Array::new(1, dtype, grid.clone(), small(dtype)),
                Array::new(2, dtype, grid.clone(), |index| small(dtype)(index * 13 + index / 251)),
            ];
            let leaves = arrays.iter().map(Array::leaf).collect();
            check(&format!("{name} of {dtype}"), &map(grid, leaves, Some(element(text, dtype)), arrays), tolerance);
        }
    }
}
