//! Every built-in function on every kind it takes.

use super::*;

/// `expression` over arguments `a`, `b`, `c`, `d` of the given types.
#[track_caller]
fn check_call(types: &[&str], result: &str, expression: &str, arguments: &[u64], expected: &[u64]) {
    let parameters: Vec<String> =
        ["a", "b", "c", "d"].iter().zip(types).map(|(name, ty)| format!("{name}: {ty}")).collect();
    let text = format!("fn f({}) -> {result} {{ return {expression}; }}", parameters.join(", "));
    check(&text, arguments, expected);
}

/// The same expression on one width: all arguments and the result of it.
macro_rules! check_floats {
    ($type:ident: $($expression:literal ($($argument:expr),*) = $expected:expr;)*) => {$({
        let arguments: &[$type] = &[$($argument as $type),*];
        let expected: $type = $expected as $type;
        let words: Vec<u64> = arguments.iter().map(|x| x.bits()).collect();
        let types = vec![stringify!($type); arguments.len()];
        check_call(&types, stringify!($type), $expression, &words, &[expected.bits()]);
        // By component of a vector too, the first one being another number.
        let wide: Vec<u64> = arguments.iter().flat_map(|x| [(0.25 as $type).bits(), x.bits()]).collect();
        let vectors = format!("vec2<{}>", stringify!($type));
        let types = vec![vectors.as_str(); arguments.len()];
        check_call(&types, stringify!($type), &format!("({}).y", $expression), &wide, &[expected.bits()]);
    })*};
}

macro_rules! both_widths {
    ($($rows:tt)*) => {
        check_floats!(f32: $($rows)*);
        check_floats!(f64: $($rows)*);
    };
}

#[test]
fn exact_functions_of_floats() {
    both_widths! {
        "abs(a)" (-2.5) = 2.5;
        "abs(a)" (-f64::INFINITY) = f64::INFINITY;
        "min(a, b)" (1.0, 2.0) = 1.0;
        "min(a, b)" (2.0, 1.0) = 1.0;
        "min(a, b)" (0.0, -0.0) = 0.0;
        "min(a, b)" (-0.0, 0.0) = -0.0;
        "min(a, b)" (1.0, f64::NAN) = 1.0;
        "min(a, b)" (f64::NAN, 1.0) = f64::NAN;
        "max(a, b)" (1.0, 2.0) = 2.0;
        "max(a, b)" (0.0, -0.0) = 0.0;
        "max(a, b)" (-0.0, 0.0) = -0.0;
        "max(a, b)" (1.0, f64::NAN) = 1.0;
        "max(a, b)" (f64::NAN, 1.0) = f64::NAN;
        "clamp(a, b, c)" (5.0, 1.0, 2.0) = 2.0;
        "clamp(a, b, c)" (-5.0, 1.0, 2.0) = 1.0;
        "clamp(a, b, c)" (1.5, 1.0, 2.0) = 1.5;
        "clamp(a, b, c)" (1.5, 3.0, 2.0) = 2.0;
        "clamp(a, b, c)" (f64::NAN, 1.0, 2.0) = f64::NAN;
        "saturate(a)" (1.5) = 1.0;
        "saturate(a)" (-1.5) = 0.0;
        "saturate(a)" (0.3) = 0.3;
        "sign(a)" (-3.0) = -1.0;
        "sign(a)" (7.0) = 1.0;
        "sign(a)" (-0.0) = 0.0;
        "sign(a)" (f64::NAN) = f64::NAN;
        "floor(a)" (-1.5) = -2.0;
        "ceil(a)" (-1.5) = -1.0;
        "ceil(a)" (-0.5) = -0.0;
        "trunc(a)" (-1.9) = -1.0;
        "round(a)" (2.5) = 2.0;
        "round(a)" (3.5) = 4.0;
        "round(a)" (-2.5) = -2.0;
        "round(a)" (1e30) = 1e30;
        "fract(a)" (-1.25) = 0.75;
        "fract(a)" (1.25) = 0.25;
        "sqrt(a)" (2.25) = 1.5;
        "sqrt(a)" (-1.0) = f64::NAN;
        "inverseSqrt(a)" (0.25) = 2.0;
        "inverseSqrt(a)" (0.0) = f64::INFINITY;
        "fma(a, b, c)" (2.0, 3.0, 4.0) = 10.0;
        "mix(a, b, c)" (10.0, 20.0, 0.25) = 12.5;
        "step(a, b)" (1.0, 1.0) = 1.0;
        "step(a, b)" (1.0, 0.5) = 0.0;
        "step(a, b)" (1.0, f64::NAN) = 0.0;
        "smoothstep(a, b, c)" (1.0, 3.0, 0.0) = 0.0;
        "smoothstep(a, b, c)" (1.0, 3.0, 2.0) = 0.5;
        "smoothstep(a, b, c)" (1.0, 3.0, 1.5) = 0.15625;
        "smoothstep(a, b, c)" (1.0, 3.0, 9.0) = 1.0;
        "degrees(a)" (0.0) = 0.0;
        "pow(a, b)" (-2.0, 3.0) = -8.0;
        "atan2(a, b)" (0.0, -0.0) = std::f64::consts::PI;
    }
    check_call(&["f32"], "f32", "radians(a)", words![180f32], words![180f32 * (std::f64::consts::PI / 180.0) as f32]);
    check_call(&["f64"], "f64", "degrees(a)", words![2f64], words![2.0 * (180.0 / std::f64::consts::PI)]);
    check_call(
        &["vec2<f32>", "vec2<f32>", "f32"],
        "vec2<f32>",
        "mix(a, b, c)",
        words![0f32, 1f32, 4f32, 5f32, 0.5f32],
        words![2f32, 3f32],
    );
}

/// Through [`crate::math`]: right to its promise, which its own tests hold more finely.
#[test]
fn elementary_functions() {
    type Exact = fn(f64) -> f64;
    let unary: [(&str, Exact); 16] = [
        ("sin", f64::sin),
        ("cos", f64::cos),
        ("tan", f64::tan),
        ("asin", f64::asin),
        ("acos", f64::acos),
        ("atan", f64::atan),
        ("sinh", f64::sinh),
        ("cosh", f64::cosh),
        ("tanh", f64::tanh),
        ("asinh", f64::asinh),
        ("acosh", f64::acosh),
        ("atanh", f64::atanh),
        ("exp", f64::exp),
        ("exp2", f64::exp2),
        ("log", f64::ln),
        ("log2", f64::log2),
    ];
    for (name, exact) in unary {
        let x: f64 = if name == "acosh" { 1.75 } else { 0.75 };
        let single = run(&format!("fn f(x: f32) -> f32 {{ return {name}(x); }}"), words![x as f32]);
        let double = run(&format!("fn f(x: vec2<f64>) -> f64 {{ return {name}(x).y; }}"), words![0f64, x]);
        assert!((f64::from(f32::from_bits(single[0] as u32)) / exact(x) - 1.0).abs() < 3e-7, "{name}");
        assert!((f64::from_bits(double[0]) / exact(x) - 1.0).abs() < 1e-15, "{name}");
    }
    let power = run("fn f(x: f64, y: f64) -> f64 { return pow(x, y) + atan2(x, y); }", words![2.5, 3.5]);
    assert!((f64::from_bits(power[0]) / (2.5f64.powf(3.5) + 2.5f64.atan2(3.5)) - 1.0).abs() < 1e-15);
}

#[test]
fn parts_of_floats() {
    let modf = "let r = modf(a); return vec2(r.fract, r.whole);";
    check(&format!("fn f(a: f32) -> vec2<f32> {{ {modf} }}"), words![-2.75f32], words![-0.75f32, -2f32]);
    check(&format!("fn f(a: f64) -> vec2<f64> {{ {modf} }}"), words![5.5], words![0.5, 5.0]);
    check(
        "fn f(a: vec2<f32>) -> vec4<f32> { let r = modf(a); return vec4(r.fract, r.whole); }",
        words![1.5f32, -0.25f32],
        words![0.5f32, -0.25f32, 1f32, -0.0f32],
    );
    check(
        "fn f(a: f32) -> vec2<f32> { let r = frexp(a); return vec2(r.fract, f32(r.exp)); }",
        words![6f32],
        words![0.75f32, 3f32],
    );
    check(
        "fn f(a: vec2<f64>) -> vec4<f64> { let r = frexp(a); return vec4(r.fract, vec2<f64>(r.exp)); }",
        words![5e-324, -1.0],
        words![0.5, -0.5, -1073.0, 1.0],
    );
    check("fn f(a: f32, e: i32) -> f32 { return ldexp(a, e); }", words![0.75f32, 3], words![6f32]);
    check(
        "fn f(a: vec2<f64>, e: vec2<i32>) -> vec2<f64> { return ldexp(a, e); }",
        words![1.0, 1.0, -1074, 4],
        words![5e-324, 16.0],
    );
    check("fn f(a: f32) -> f32 { return quantizeToF16(a); }", words![0.1f32], words![0.099975586f32]);
    check("fn f(a: f32) -> f32 { return quantizeToF16(a); }", words![1e6f32], words![f32::INFINITY]);
}

macro_rules! check_integers {
    ($($type:ident)*) => {$({
        let ty = stringify!($type);
        let bits = $type::BITS as $type;
        let values: [$type; 9] = [0, 1, 2, 6, 100, 0x40, $type::MAX, $type::MIN, $type::MAX - 5];
        for a in values {
            for (expression, expected) in [
                ("countTrailingZeros(a)", a.trailing_zeros() as $type),
                ("countLeadingZeros(a)", a.leading_zeros() as $type),
                ("countOneBits(a)", a.count_ones() as $type),
                ("reverseBits(a)", a.reverse_bits()),
                ("firstTrailingBit(a)", if a == 0 { !0 } else { a.trailing_zeros() as $type }),
            ] {
                check_call(&[ty], ty, expression, words![a], words![expected]);
            }
            for b in values {
                check_call(&[ty, ty], ty, "min(a, b)", words![a, b], words![a.min(b)]);
                check_call(&[ty, ty], ty, "max(a, b)", words![a, b], words![a.max(b)]);
                check_call(&[ty, ty], ty, "clamp(a, b, max(b, 50))", words![a, b], words![a.clamp(b, b.max(50))]);
            }
            for (offset, count) in [(0u32, 0u32), (0, 4), (3, 5), (1, 31), (0, 32), (30, 5), (32, 3), (70, 3), (60, 9), (0, 99), (5, 64)] {
                // Bit by bit.
                let (offset_kept, mut extracted, mut inserted) = (offset.min($type::BITS), 0 as $type, a);
                let kept = count.min($type::BITS - offset_kept);
                let bit = |x: $type, at: u32| x >> at & 1;
                for at in 0..$type::BITS {
                    let top = kept.checked_sub(1).map_or(0, |top| bit(a, offset_kept + top));
                    #[allow(unused_comparisons)]
                    let fill = if $type::MIN < 0 { top } else { 0 };
                    let from_a = if at < kept { bit(a, offset_kept + at) } else { fill };
                    extracted |= from_a << at;
                    if at < kept {
                        let place = offset_kept + at;
                        inserted = inserted & !((1 as $type) << place) | bit(0x2b, at) << place;
                    }
                }
                let arguments = words![a, offset, count];
                check_call(&[ty, "u32", "u32"], ty, "extractBits(a, b, c)", arguments, words![extracted]);
                let call = format!("insertBits(a, {ty}(0x2b), b, c)");
                check_call(&[ty, "u32", "u32"], ty, &call, arguments, words![inserted]);
            }
        }
        check_call(&[ty], ty, "firstLeadingBit(a)", words![0 as $type], words![!(0 as $type)]);
        check_call(&[ty], ty, "firstLeadingBit(a)", words![0x60 as $type], words![6 as $type]);
        let vector = format!("vec3<{ty}>");
        check_call(&[&vector, &vector], ty, "dot(a, b)", words![1 as $type, 2 as $type, $type::MAX, 3 as $type, 4 as $type, 2 as $type],
            words![(11 as $type).wrapping_add($type::MAX.wrapping_mul(2))]);
        check_call(&[&vector], &vector, "countLeadingZeros(a)", words![0 as $type, 1 as $type, !0 as $type], words![bits, bits - 1, 0 as $type]);
    })*};
}

#[test]
fn functions_of_integers() {
    check_integers!(i32 u32 i64 u64);
    for (a, bit) in [(-1, -1), (-2, 0), (i32::MIN, 30), (i32::MAX, 30), (1, 0)] {
        check_call(&["i32"], "i32", "firstLeadingBit(a)", words![a], words![bit]);
        check_call(&["i32"], "i32", "abs(a)", words![a], words![a.wrapping_abs()]);
        check_call(&["i32"], "i32", "sign(a)", words![a], words![a.signum()]);
    }
    check_call(&["i64"], "i64", "firstLeadingBit(a)", words![i64::MIN], words![62i64]);
    check_call(&["u64"], "u64", "firstLeadingBit(a)", words![u64::MAX], words![63u64]);
    check_call(&["i64"], "i64", "abs(a)", words![i64::MIN], words![i64::MIN]);
    check_call(&["i64"], "i64", "sign(a)", words![-5i64], words![-1i64]);
    check_call(&["u64"], "u64", "abs(a)", words![u64::MAX], words![u64::MAX]);
}

#[test]
fn geometry() {
    let v3 = "vec3<f32>";
    let (a, b) = ([1f32, 2., 3.].map(Bits::bits), [4f32, -5., 6.].map(Bits::bits));
    let both = [a, b].concat();
    check_call(&[v3, v3], "f32", "dot(a, b)", &both, words![12f32]);
    check_call(&[v3, v3], v3, "cross(a, b)", &both, words![27f32, 6f32, -13f32]);
    check_call(&["vec2<f64>"], "f64", "length(a)", words![3.0, -4.0], words![5.0]);
    check_call(&["f32"], "f32", "length(a)", words![-1e30f32], words![1e30f32]);
    check_call(&["vec2<f32>", "vec2<f32>"], "f32", "distance(a, b)", words![1f32, 1f32, 4f32, 5f32], words![5f32]);
    check_call(&["f64", "f64"], "f64", "distance(a, b)", words![1.0, 4.0], words![3.0]);
    check_call(&["vec2<f32>"], "vec2<f32>", "normalize(a)", words![3f32, 4f32], words![0.6f32, 0.8f32]);
    let v2 = "vec2<f64>";
    check_call(&[v2, v2], v2, "reflect(a, b)", words![1.0, -2.0, 0.0, 1.0], words![1.0, 2.0]);
    check_call(&[v2, v2, v2], v2, "faceForward(a, b, c)", words![1.0, 2.0, 3.0, 4.0, 5.0, -6.0], words![1.0, 2.0]);
    check_call(&[v2, v2, v2], v2, "faceForward(a, b, c)", words![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], words![-1.0, -2.0]);
    check_call(&[v2, v2, "f64"], v2, "refract(a, b, c)", words![0.0, -1.0, 0.0, 1.0, 0.5], words![0.0, -1.0]);
    check_call(&[v2, v2, "f64"], v2, "refract(a, b, c)", words![0.8, -0.6, 0.0, 1.0, 2.0], words![0.0, 0.0]);
    // Snell's law, with numbers that are exact: 0.6 / 0.8 = ratio 0.75.
    let refracted = run(
        "fn f(a: vec2<f64>, n: vec2<f64>, r: f64) -> vec2<f64> { return refract(a, n, r); }",
        words![0.8, -0.6, 0.0, 1.0, 0.75],
    );
    assert!((f64::from_bits(refracted[0]) - 0.6).abs() < 1e-15 && (f64::from_bits(refracted[1]) + 0.8).abs() < 1e-15);
}

#[test]
fn matrices() {
    let floats = |values: &[f32]| values.iter().map(|value| value.bits()).collect::<Vec<_>>();
    let numbers = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let transposed = floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    check_call(&["mat2x3<f32>"], "mat3x2<f32>", "transpose(a)", &numbers, &transposed);
    check_call(&["mat2x2<f32>"], "f32", "determinant(a)", &floats(&[1.0, 2.0, 3.0, 4.0]), words![-2f32]);
    let three = floats(&[2.0, 0.0, 1.0, 3.0, 0.0, 0.0, 5.0, 1.0, 1.0]);
    check_call(&["mat3x3<f32>"], "f32", "determinant(a)", &three, words![3f32]);
    let four = [1.0, 0.0, 2.0, -1.0, 3.0, 0.0, 0.0, 5.0, 2.0, 1.0, 4.0, -3.0, 1.0, 0.0, 5.0, 0.0];
    check_call(&["mat4x4<f64>"], "f64", "determinant(a)", &four.map(Bits::bits), words![30.0]);
}

#[test]
fn packing() {
    let cases: &[(&str, &str, &[u64], u32)] = &[
        ("pack4x8snorm", "vec4<f32>", words![1f32, -1f32, 0.5f32, -3f32], 0x8140_817f),
        ("pack4x8unorm", "vec4<f32>", words![1f32, 0f32, 0.5f32, 9f32], 0xff80_00ff),
        ("pack4x8unorm", "vec4<f32>", words![f32::NAN, 0f32, 0f32, 0f32], 0),
        ("pack2x16snorm", "vec2<f32>", words![-1f32, 0.5f32], 0x4000_8001),
        ("pack2x16unorm", "vec2<f32>", words![1f32, 0.5f32], 0x8000_ffff),
        ("pack2x16float", "vec2<f32>", words![1f32, -f32::NAN], 0x7e00_3c00),
        ("pack4xI8", "vec4<i32>", words![1, -1, 130, -130], 0x7e82_ff01),
        ("pack4xU8", "vec4<u32>", words![1u32, 255u32, 256u32, 258u32], 0x0200_ff01),
        ("pack4xI8Clamp", "vec4<i32>", words![1, -1, 130, -130], 0x807f_ff01),
        ("pack4xU8Clamp", "vec4<u32>", words![1u32, 255u32, 256u32, u32::MAX], 0xffff_ff01),
    ];
    for &(name, ty, arguments, expected) in cases {
        check_call(&[ty], "u32", &format!("{name}(a)"), arguments, words![expected]);
    }
    let word = words![0x8180_7f01u32];
    let float = |n: f32, d: f32| (n / d).bits();
    let snorm = &[float(1.0, 127.0), float(127.0, 127.0), float(-127.0, 127.0), float(-127.0, 127.0)];
    check_call(&["u32"], "vec4<f32>", "unpack4x8snorm(a)", word, snorm);
    let unorm = &[float(1.0, 255.0), float(127.0, 255.0), float(128.0, 255.0), float(129.0, 255.0)];
    check_call(&["u32"], "vec4<f32>", "unpack4x8unorm(a)", word, unorm);
    let snorm = &[float(32513.0, 32767.0), float(-32384.0, 32767.0)];
    check_call(&["u32"], "vec2<f32>", "unpack2x16snorm(a)", word, snorm);
    check_call(&["u32"], "vec2<f32>", "unpack2x16unorm(a)", word, &[float(32513.0, 65535.0), float(33152.0, 65535.0)]);
    check_call(&["u32"], "vec2<f32>", "unpack2x16float(a)", words![0xc000_3c00u32], words![1f32, -2f32]);
    check_call(&["u32"], "vec4<i32>", "unpack4xI8(a)", word, words![1, 127, -128, -127]);
    check_call(&["u32"], "vec4<u32>", "unpack4xU8(a)", word, words![1u32, 127u32, 128u32, 129u32]);
    let pair = words![0x8180_7f01u32, 0x027f_0201u32];
    check_call(&["u32", "u32"], "i32", "dot4I8Packed(a, b)", pair, words![1 + 254 - 128 * 127 - 254]);
    check_call(&["u32", "u32"], "u32", "dot4U8Packed(a, b)", pair, words![1 + 254 + 128 * 127 + 258]);
}
