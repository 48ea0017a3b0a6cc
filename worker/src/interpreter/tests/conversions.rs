//! Conversions between all kinds, and bitcasts.

use super::*;

fn convert(from: &str, to: &str) -> Interpreter {
    interpreter(&format!("fn f(x: {from}) -> {to} {{ return {to}(x); }}")).unwrap()
}

#[track_caller]
fn check_conversion<A: Bits + std::fmt::Debug, B: Bits>(from: &str, to: &str, values: &[A], rust: impl Fn(A) -> B) {
    let mut interpreter = convert(from, to);
    for &value in values {
        let mut results = [0];
        interpreter.call(&[value.bits()], &StopFlag::new(), &mut results).unwrap();
        assert_eq!(results, [rust(value).bits()], "{value:?} of {from} to {to}");
    }
}

macro_rules! from_integer {
    ($($from:ident)*) => {$(
        let values = [0, 1, 5, 255, 0x0100_0001, $from::MAX, $from::MIN, $from::MAX / 3, ($from::MAX / 2) + 2];
        let name = stringify!($from);
        check_conversion(name, "i32", &values, |x| x as i32);
        check_conversion(name, "u32", &values, |x| x as u32);
        check_conversion(name, "i64", &values, |x| x as i64);
        check_conversion(name, "u64", &values, |x| x as u64);
        check_conversion(name, "f32", &values, |x| x as f32);
        check_conversion(name, "f64", &values, |x| x as f64);
        check_conversion(name, "bool", &values, |x| x != 0);
    )*};
}

#[test]
fn integers_wrap_round_and_test() {
    from_integer!(i32 u32 i64 u64);
    for kind in ["i32", "u32", "i64", "u64"] {
        check_conversion("bool", kind, &[false, true], u64::from);
    }
    check_conversion("bool", "f32", &[false, true], |x| if x { 1f32 } else { 0.0 });
    check_conversion("bool", "f64", &[false, true], |x| if x { 1f64 } else { 0.0 });
}

/// Saturating as naga's constant evaluation saturates: at floats.
#[test]
fn floats_truncate_and_stop_at_the_last_float() {
    let ordinary = [0.0, -0.0, 0.9, -0.9, 1.5, -7.99, 1e6, -1e6];
    let single = ordinary.map(|x| x as f32);
    check_conversion("f32", "i32", &single, |x| x as i32);
    check_conversion("f32", "u32", &single, |x| x as u32);
    check_conversion("f32", "i64", &single, |x| x as i64);
    check_conversion("f32", "u64", &single, |x| x as u64);
    check_conversion("f64", "i32", &ordinary, |x| x as i32);
    check_conversion("f64", "u32", &ordinary, |x| x as u32);
    check_conversion("f64", "i64", &ordinary, |x| x as i64);
    check_conversion("f64", "u64", &ordinary, |x| x as u64);

    let above = [3e38f32, f32::INFINITY];
    check_conversion("f32", "i32", &above, |_| 0x7fff_ff80);
    check_conversion("f32", "u32", &above, |_| 0xffff_ff00u32);
    check_conversion("f32", "i64", &above, |_| 0x7fff_ff80_0000_0000i64);
    check_conversion("f32", "u64", &above, |_| 0xffff_ff00_0000_0000u64);
    let above = [1e300, f64::INFINITY];
    check_conversion("f64", "i32", &above, |_| i32::MAX);
    check_conversion("f64", "u32", &above, |_| u32::MAX);
    check_conversion("f64", "i64", &above, |_| 0x7fff_ffff_ffff_fc00i64);
    check_conversion("f64", "u64", &above, |_| 0xffff_ffff_ffff_f800u64);

    let below = [-3e38f32, -f32::INFINITY];
    check_conversion("f32", "i32", &below, |_| i32::MIN);
    check_conversion("f32", "u32", &below, |_| 0u32);
    check_conversion("f32", "i64", &below, |_| i64::MIN);
    check_conversion("f64", "i64", &[-1e300], |_| i64::MIN);
    check_conversion("f64", "u64", &[-1e300], |_| 0u64);
    for kind in ["i32", "u32", "i64", "u64"] {
        check_conversion("f32", kind, &[f32::NAN, -f32::NAN], |_| 0u64);
        check_conversion("f64", kind, &[f64::NAN], |_| 0u64);
    }
}

/// A constant and a value that is computed mean the same.
#[test]
fn constants_saturate_alike() {
    let text = "const C = i32(3e9f); fn f(x: f32) -> vec2<i32> { return vec2(C, i32(x)); }";
    check(text, words![3e9f32], words![0x7fff_ff80, 0x7fff_ff80]);
}

#[test]
fn floats_to_floats_and_bools() {
    let values = [0.0, -0.0, 0.1, 1e300, -1e300, 5e-324, 1e-40, f64::INFINITY, 16777217.0];
    check_conversion("f64", "f32", &values, |x| x as f32);
    check_conversion("f32", "f64", &values.map(|x| x as f32), f64::from);
    check_conversion("f64", "bool", &values, |x| x != 0.0);
    check_conversion("f32", "bool", &[f32::NAN, 0.0, -0.0, 1e-45], |x| x != 0.0);
    check("fn f(x: f64) -> f32 { return f32(x); }", words![-f64::NAN], words![0x7fc0_0000u32]);
}

#[test]
fn vectors_and_matrices_convert_by_component() {
    check("fn f(v: vec3<f32>) -> vec3<i32> { return vec3<i32>(v); }", words![1.7f32, -1.7f32, 3f32], words![1, -1, 3]);
    check(
        "fn f(m: mat2x2<f32>) -> mat2x2<f64> { return mat2x2<f64>(m); }",
        words![1f32, 2f32, 3f32, 0.1f32],
        words![1f64, 2f64, 3f64, f64::from(0.1f32)],
    );
}

#[test]
fn bitcasts_keep_all_bits_but_a_nans() {
    let bits = "fn f(x: f32) -> u32 { return bitcast<u32>(x); }";
    check(bits, words![1.5f32], words![0x3fc0_0000u32]);
    check(bits, words![0xff81_2345u32], words![0x7fc0_0000u32]);
    check("fn f(x: u32) -> f32 { return bitcast<f32>(x); }", words![0x3fc0_0000u32], words![1.5f32]);
    check("fn f(x: i32) -> u32 { return bitcast<u32>(x); }", words![-1], words![u32::MAX]);
    check("fn f(x: f64) -> i64 { return bitcast<i64>(x); }", words![-0.0f64], words![i64::MIN]);
    check("fn f(x: u64) -> f64 { return bitcast<f64>(x); }", words![1u64], words![5e-324f64]);
    check(
        "fn f(v: vec2<f32>) -> vec2<i32> { return bitcast<vec2<i32>>(v); }",
        words![-0.0f32, 1f32],
        words![i32::MIN, 0x3f80_0000],
    );
}
