//! Every operator on every kind, against Rust's own operators, at the edges.

use super::*;

/// All pairs of `values` through `a op b`.
fn check_pairs<T: Bits + std::fmt::Debug, R: Bits>(
    dtype: &str,
    result: &str,
    op: &str,
    values: &[T],
    rust: fn(T, T) -> R,
) {
    let mut interpreter =
        interpreter(&format!("fn f(a: {dtype}, b: {dtype}) -> {result} {{ return a {op} b; }}")).unwrap();
    for &a in values {
        for &b in values {
            let mut results = [0];
            interpreter.call(&[a.bits(), b.bits()], &StopFlag::new(), &mut results).unwrap();
            assert_eq!(results, [rust(a, b).bits()], "{a:?} {op} {b:?} of {dtype}");
        }
    }
}

macro_rules! integers {
    ($($type:ident)*) => {$({
        let name = stringify!($type);
        let values: Vec<$type> = [0, 1, 2, 3, 7, 31, 100].into_iter()
            .flat_map(|x: $type| [x, $type::MIN.wrapping_add(x), $type::MAX.wrapping_sub(x), x.wrapping_neg()])
            .chain([0x5555_5555, 0x1234_5678]).collect();
        check_pairs(name, name, "+", &values, $type::wrapping_add);
        check_pairs(name, name, "-", &values, $type::wrapping_sub);
        check_pairs(name, name, "*", &values, $type::wrapping_mul);
        check_pairs(name, name, "/", &values, |a, b| a.checked_div(b).unwrap_or(a));
        check_pairs(name, name, "%", &values, |a, b| a.checked_rem(b).unwrap_or(0));
        check_pairs(name, name, "&", &values, |a, b| a & b);
        check_pairs(name, name, "|", &values, |a, b| a | b);
        check_pairs(name, name, "^", &values, |a, b| a ^ b);
        check_pairs(name, "bool", "==", &values, |a, b| a == b);
        check_pairs(name, "bool", "!=", &values, |a, b| a != b);
        check_pairs(name, "bool", "<", &values, |a, b| a < b);
        check_pairs(name, "bool", "<=", &values, |a, b| a <= b);
        check_pairs(name, "bool", ">", &values, |a, b| a > b);
        check_pairs(name, "bool", ">=", &values, |a, b| a >= b);
        for &a in &values {
            check(&format!("fn f(a: {name}) -> {name} {{ return ~a; }}"), words![a], words![!a]);
            for by in [0u32, 1, 5, 31, 32, 33, 63, 64, 255, u32::MAX] {
                let amount = by % $type::BITS;
                let shift = |op| format!("fn f(a: {name}, by: u32) -> {name} {{ return a {op} by; }}");
                check(&shift("<<"), words![a, by], words![a << amount]);
                check(&shift(">>"), words![a, by], words![a >> amount]);
            }
        }
    })*};
}

#[test]
fn integer_operators_wrap_and_never_fail() {
    integers!(i32 u32 i64 u64);
    check("fn f(a: i32) -> i32 { return -a; }", words![i32::MIN], words![i32::MIN]);
    check("fn f(a: i64) -> i64 { return -a; }", words![5i64], words![-5i64]);
    check("fn f(a: i32, b: i32) -> i32 { return a / b; }", words![i32::MIN, -1], words![i32::MIN]);
    check("fn f(a: i64, b: i64) -> i64 { return a % b; }", words![i64::MIN, -1i64], words![0i64]);
    check("fn f(a: i32, b: i32) -> i32 { return a % b; }", words![-7, 3], words![-1]);
}

macro_rules! floats {
    ($($type:ident)*) => {$({
        let name = stringify!($type);
        let values: Vec<$type> = [
            0.0, 1.0, 1.5, 0.1, 3.0, 7.25, 1e10, 1e-10, $type::MAX, $type::MIN_POSITIVE, $type::from_bits(1), $type::EPSILON,
            $type::INFINITY, $type::NAN,
        ].into_iter().flat_map(|x| [x, -x]).collect();
        // Any NaN leaves as the canonical one.
        fn nan(x: $type) -> $type { if x.is_nan() { $type::from_bits($type::INFINITY.to_bits() | $type::INFINITY.to_bits() >> 1) } else { x } }
        assert!(nan($type::NAN).is_nan());
        check_pairs(name, name, "+", &values, |a, b| nan(a + b));
        check_pairs(name, name, "-", &values, |a, b| nan(a - b));
        check_pairs(name, name, "*", &values, |a, b| nan(a * b));
        check_pairs(name, name, "/", &values, |a, b| nan(a / b));
        check_pairs(name, name, "%", &values, |a, b| nan(a % b));
        check_pairs(name, "bool", "==", &values, |a, b| a == b);
        check_pairs(name, "bool", "!=", &values, |a, b| a != b);
        check_pairs(name, "bool", "<", &values, |a, b| a < b);
        check_pairs(name, "bool", "<=", &values, |a, b| a <= b);
        check_pairs(name, "bool", ">", &values, |a, b| a > b);
        check_pairs(name, "bool", ">=", &values, |a, b| a >= b);
        for &a in &values {
            check(&format!("fn f(a: {name}) -> {name} {{ return -a; }}"), words![a], words![nan(-a)]);
        }
    })*};
}

#[test]
fn float_operators_are_ieee() {
    floats!(f32 f64);
    check("fn f(a: f32, b: f32) -> f32 { return a % b; }", words![-5.5f32, 2f32], words![-1.5f32]);
    // Exact however far apart.
    check("fn f(a: f64, b: f64) -> f64 { return a % b; }", words![1e300, 7.0], words![1.0]);
}

#[test]
fn a_nan_leaves_as_the_canonical_one() {
    check("fn f(a: f32) -> f32 { return a; }", words![0xffa1_2345u32], words![0x7fc0_0000u32]);
    check("fn f(a: vec2<f64>) -> vec2<f64> { return a; }", &[0xfff0_0000_0000_0001, 1], &[0x7ff8 << 48, 1]);
    let text = "struct S { a: u32, b: array<f32, 2>, c: f64 } fn f(s: S) -> S { return s; }";
    check(text, &[0xffff_ffff, 0xffff_ffff, 5, u64::MAX], &[0xffff_ffff, 0x7fc0_0000, 5, 0x7ff8 << 48]);
}

#[test]
fn products_and_sums_are_rounded_apart() {
    let x = 1.0 + f32::EPSILON;
    let square = x * x;
    check("fn f(a: f32, c: f32) -> f32 { return a * a + c; }", words![x, -square], words![0f32]);
    let exact = f32::EPSILON * f32::EPSILON;
    check("fn f(a: f32, c: f32) -> f32 { return fma(a, a, c); }", words![x, -square], words![exact]);
}

#[test]
fn vectors_mix_with_scalars() {
    let text = "fn f(v: vec3<f32>, s: f32) -> array<vec3<f32>, 5> {
        return array<vec3<f32>, 5>(v + s, s - v, v * s, s * v, v / s);
    }";
    let expected = [3., 4., 5., 1., 0., -1., 2., 4., 6., 2., 4., 6., 0.5, 1., 1.5f32];
    check(text, words![1f32, 2f32, 3f32, 2f32], &expected.map(Bits::bits));
    check(
        "fn f(v: vec2<i32>, w: vec2<i32>, by: vec2<u32>) -> vec2<i32> { return (v % w) << by; }",
        words![7, -7, 4, 4, 1, 33],
        words![6, -6],
    );
    check(
        "fn f(v: vec2<f32>, w: vec2<f32>) -> vec2<bool> { return v <= w; }",
        words![1f32, 2f32, 1f32, 1f32],
        words![true, false],
    );
}

#[test]
fn matrices_add_scale_and_multiply() {
    let a = "mat2x3<f32>(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)";
    let floats = |values: &[f32]| values.iter().map(|value| value.bits()).collect::<Vec<_>>();
    check(
        &format!("fn f() -> mat2x3<f32> {{ var m = {a}; return m + m - m * 0.5; }}"),
        &[],
        &floats(&[1.5, 3.0, 4.5, 6.0, 7.5, 9.0]),
    );
    check(
        &format!("fn f(v: vec2<f32>) -> vec3<f32> {{ return {a} * v; }}"),
        words![1f32, 10f32],
        &floats(&[41.0, 52.0, 63.0]),
    );
    check(
        &format!("fn f(v: vec3<f32>) -> vec2<f32> {{ return v * {a}; }}"),
        words![1f32, 10f32, 100f32],
        &floats(&[321.0, 654.0]),
    );
    check(
        &format!(
            "fn f(s: f32) -> mat4x3<f32> {{ return {a} * (s * mat4x2<f32>(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)); }}"
        ),
        words![1f32],
        &floats(&[9.0, 12.0, 15.0, 19.0, 26.0, 33.0, 29.0, 40.0, 51.0, 39.0, 54.0, 69.0]),
    );
}
