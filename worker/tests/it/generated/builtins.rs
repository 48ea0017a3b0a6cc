//! Each operator and built-in over special values, in every dtype that has it.

use gridloom_worker::dtype::DType;

use super::machine::{Pair, block};
use super::values::tuples;

/// More than one tile, and no whole number of gangs.
const ELEMENTS: usize = 9001;

/// Expressions of `a`, `b` and `c` of one type, for these dtypes.
fn cases() -> Vec<(&'static [DType], Vec<String>)> {
    use DType::*;
    const FLOATS: &[DType] = &[F32, F64];
    const INTEGERS: &[DType] = &[I32, U32, I64, U64];
    const SIGNED: &[DType] = &[F32, F64, I32, I64];
    const NUMBERS: &[DType] = &[F32, F64, I32, U32, I64, U64];
    const SINGLE: &[DType] = &[F32];
    let calls = |functions: &str, arguments: &str| -> Vec<String> {
        functions.split_whitespace().map(|function| format!("{function}({arguments})")).collect()
    };
    let operators = |operators: &str| -> Vec<String> {
        operators.split_whitespace().map(|operator| format!("a {operator} b")).collect()
    };
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let comparisons = || -> Vec<String> {
        let each = |operator: &str| format!("select(T(0), T(1), a {operator} b)");
        ["==", "!=", "<", "<=", ">", ">="].into_iter().map(each).collect()
    };
    vec![
        (NUMBERS, operators("+ - * / %")),
        (NUMBERS, comparisons()),
        (NUMBERS, calls("min max", "a, b")),
        (NUMBERS, strings(&["clamp(a, b, c)", "abs(a)", "select(a, b, a < c)"])),
        (SIGNED, strings(&["-a", "sign(a)"])),
        (INTEGERS, operators("& | ^")),
        (INTEGERS, strings(&["a << u32(b)", "a >> u32(b)", "a << 3u", "a >> 5u", "~a"])),
        (&[I32, U32], calls("countLeadingZeros countTrailingZeros countOneBits reverseBits", "a")),
        (&[I32, U32], calls("firstLeadingBit firstTrailingBit", "a")),
        (&[I32, U32], strings(&["extractBits(a, u32(b), u32(c))", "insertBits(a, b, u32(b), u32(c))"])),
        (FLOATS, calls("ceil floor round fract trunc saturate sqrt inverseSqrt degrees radians", "a")),
        (FLOATS, calls("sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh", "a")),
        (FLOATS, calls("exp exp2 log log2", "a")),
        (FLOATS, calls("atan2 pow step", "a, b")),
        (FLOATS, calls("fma mix smoothstep", "a, b, c")),
        (FLOATS, strings(&["ldexp(a, i32(b))", "modf(a).fract", "modf(a).whole", "frexp(a).fract", "T(frexp(a).exp)"])),
        (
            FLOATS,
            strings(&["dot(vec3(a, b, c), vec3(c, a, b))", "length(vec2(a, b))", "distance(vec2(a, b), vec2(c, a))"]),
        ),
        (FLOATS, strings(&["normalize(vec3(a, b, c)).y", "cross(vec3(a, b, c), vec3(b, c, a)).z"])),
        (FLOATS, strings(&["reflect(vec2(a, b), vec2(b, c)).x", "refract(vec2(a, b), vec2(b, c), a).y"])),
        (FLOATS, strings(&["faceForward(vec2(a, b), vec2(b, c), vec2(c, a)).x", "determinant(mat2x2(a, b, c, a))"])),
        (
            FLOATS,
            strings(&["determinant(mat3x3(a, b, c, c, a, b, b, a, c))", "transpose(mat2x3(a, b, c, c, a, b))[2].y"]),
        ),
        (FLOATS, strings(&["(mat2x2(a, b, c, a) * vec2(b, c)).y", "(vec2(a, b) * mat2x2(a, b, c, a)).x"])),
        (
            FLOATS,
            strings(&["(mat2x3(a, b, c, c, a, b) * mat3x2(a, b, c, c, a, b))[2].z", "(mat2x2(a, b, c, a) * c)[1].x"]),
        ),
        (SINGLE, strings(&["f32(pack4x8snorm(vec4(a, b, c, a)))", "f32(pack4x8unorm(vec4(a, b, c, a)))"])),
        (SINGLE, strings(&["f32(pack2x16snorm(vec2(a, b)))", "f32(pack2x16unorm(vec2(a, b)))"])),
        (&[U32], strings(&["u32(dot4I8Packed(a, b))", "dot4U8Packed(a, b)", "u32(unpack4x8snorm(a).y * 1000.0)"])),
        (&[U32], strings(&["bitcast<u32>(unpack4x8unorm(a).z)", "bitcast<u32>(unpack2x16snorm(a).y)"])),
        (&[U32], strings(&["bitcast<u32>(unpack2x16unorm(a).x)"])),
        (&[U32], strings(&["pack4xU8(vec4(a, b, c, a))", "pack4xU8Clamp(vec4(a, b, c, a))", "unpack4xU8(a).z"])),
        (
            &[I32],
            strings(&[
                "i32(pack4xI8(vec4(a, b, c, a)))",
                "i32(pack4xI8Clamp(vec4(a, b, c, a)))",
                "unpack4xI8(u32(a)).w",
            ]),
        ),
        (&[I32, U32], strings(&["dot(vec3(a, b, c), vec3(c, a, b))"])),
    ]
}

#[test]
fn every_operation_gives_the_interpreters_bits() {
    let mut pair = Pair::new();
    let mut count = 0;
    for (dtypes, expressions) in cases() {
        for (&dtype, expression) in dtypes.iter().flat_map(|dtype| expressions.iter().map(move |text| (dtype, text))) {
            let text = format!("fn f(a: T, b: T, c: T) -> T {{ return {expression}; }}");
            let leaves: Vec<_> = tuples(&[dtype; 3], ELEMENTS).iter().map(|words| block(dtype, words)).collect();
            pair.check(&text, Some(dtype), &leaves);
            count += 1;
        }
    }
    assert!(count > 250, "{count} cases");
}

#[test]
fn every_conversion_gives_the_interpreters_bits() {
    let mut pair = Pair::new();
    for from in DType::ALL {
        let leaves: Vec<_> = tuples(&[from], 1000).iter().map(|words| block(from, words)).collect();
        for to in DType::ALL {
            pair.check(&format!("fn f(a: {from}) -> {to} {{ return {to}(a); }}"), None, &leaves);
        }
        let bits = match from {
            DType::F32 | DType::I32 => DType::U32,
            DType::U32 => DType::F32,
            DType::F64 | DType::I64 => DType::U64,
            DType::U64 => DType::F64,
            DType::Bool => continue,
        };
        pair.check(&format!("fn f(a: {from}) -> {bits} {{ return bitcast<{bits}>(a); }}"), None, &leaves);
    }
}

#[test]
fn what_is_the_same_for_all_lanes_gives_the_same_bits() {
    let mut pair = Pair::new();
    for (dtypes, expressions) in cases() {
        for (&dtype, expression) in dtypes.iter().flat_map(|dtype| expressions.iter().map(move |text| (dtype, text))) {
            // `at.block_shape` is uniform, so all of the expression is.
            let text = format!(
                "fn g(a: T, b: T, c: T) -> T {{ return {expression}; }}
                fn f(x: T, at: At) -> T {{ return g(T(at.shape[0]), T(at.rank), T(3)) + T(0) * x; }}"
            );
            let leaves: Vec<_> = tuples(&[dtype], 50).iter().map(|words| block(dtype, words)).collect();
            pair.check(&text, Some(dtype), &leaves);
        }
    }
}
