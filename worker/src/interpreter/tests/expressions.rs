//! Values: literals, constants, composition, access in and out of bounds, selection.

use super::*;

#[test]
fn literals_and_constants_of_every_kind() {
    let text = "
        struct All { a: f32, b: f64, c: i32, d: u32, e: i64, f: u64, g: bool }
        fn f() -> All { return All(0.1f, 0.1lf, -2147483647 - 1, 4294967295u, -5li, 18446744073709551615lu, true); }";
    check(text, &[], words![0.1f32, 0.1f64, i32::MIN, u32::MAX, -5i64, u64::MAX, true]);
    let text = "
        const TABLE = array<f32, 3>(1.5, 2.5, 3.5);
        const NESTED = array<vec2<i32>, 2>(vec2<i32>(1, 2), vec2(3));
        const PICKED = TABLE[1] + 1.0;
        fn f(i: i32) -> vec4<f32> { return vec4(TABLE[i], PICKED, f32(NESTED[i].x), f32(NESTED[1].y)); }";
    check(text, words![0], words![1.5f32, 3.5f32, 1f32, 3f32]);
    check(text, words![1], words![2.5f32, 3.5f32, 3f32, 3f32]);
    check("fn f() -> mat2x2<f32> { return mat2x2<f32>(); }", &[], &[0; 4]);
}

#[test]
fn arguments_and_results_are_flattened_in_member_order() {
    let text = "
        struct Inner { x: vec3<f32>, y: array<u32, 2> }
        struct Outer { a: i64, inner: array<Inner, 2>, m: mat2x3<f32>, b: bool }
        fn f(o: Outer) -> Outer { var p = o; p.a += 1; p.inner[1].y[0] = 77u; p.m[1].z = 5.0; p.b = !p.b; return p; }";
    let mut words: Vec<u64> = (1..=18).collect();
    words[17] = 1;
    let mut expected = words.clone();
    (expected[0], expected[9], expected[16], expected[17]) = (2, 77, 5f32.bits(), 0);
    check(text, &words, &expected);
}

#[test]
fn vectors_are_composed_splat_swizzled_and_picked() {
    let text = "fn f(v: vec4<i32>, i: i32) -> array<i32, 9> {
        let a = vec4<i32>(v.wz, v.x, 7);
        let b = vec3<i32>(i) + v.xxy;
        var c = v; c.y = 50; c[i] = 60;
        return array<i32, 9>(a.x, a.y, a.z, a.w, b.x, b.z, v[i], c.y, c.w);
    }";
    check(text, words![1, 2, 3, 4, 3], words![4, 3, 1, 7, 4, 5, 4, 50, 60]);
}

#[test]
fn an_index_out_of_bounds_is_the_last_element() {
    let bounds: &[(i32, usize)] = &[(0, 0), (2, 2), (3, 2), (1000, 2), (-1, 2), (i32::MIN, 2)];
    for &(index, element) in bounds {
        let expected = [10 + element as u64];
        let by = [10, 11, 12, index.bits()];
        check("fn f(a: array<u32, 3>, i: i32) -> u32 { var b = a; return b[i]; }", &by, &expected);
        check("fn f(a: array<u32, 3>, i: u32) -> u32 { return a[i]; }", &by, &expected);
        check("fn f(a: vec3<u32>, i: i32) -> u32 { return a[i]; }", &by, &expected);
        check("fn f(a: vec3<u32>, i: u32) -> u32 { var b = a; return b[i]; }", &by, &expected);
        let mut stored = [0; 3];
        stored[element] = 5;
        check("fn f(i: i32) -> array<u32, 3> { var a: array<u32, 3>; a[i] = 5u; return a; }", words![index], &stored);
        check("fn f(i: i32) -> vec3<u32> { var a: vec3<u32>; a[i] = 5u; return a; }", words![index], &stored);
    }
    let matrix = "fn f(i: i32, j: i32) -> f32 {
        var m = mat2x3<f32>(1.0, 2.0, 3.0, 4.0, 5.0, 6.0); m[i][j] += 10.0; return m[i][j] + m[i].x * 100.0; }";
    check(matrix, words![0, 1], words![112f32]);
    check(matrix, words![7, 7], words![416f32]);
    check("fn f(i: i64) -> i32 { var a = array<i32, 2>(1, 2); return a[i]; }", words![1i64 << 32], words![2]);
}

#[test]
fn nested_places_are_reached() {
    let text = "
        struct S { p: array<vec3<f32>, 2>, q: u32 }
        fn f(i: u32, j: u32) -> array<f32, 14> {
            var a: array<S, 2>;
            a[i].p[j] = vec3(1.0, 2.0, 3.0);
            a[i].p[1 - j][i + 1] = 4.0;
            a[1 - i].q = 9u;
            let copy = a;
            a = array<S, 2>();
            return array<f32, 14>(copy[0].p[0].x, copy[0].p[0].y, copy[0].p[0].z, copy[0].p[1].x, copy[0].p[1].y,
                copy[0].p[1].z, f32(copy[0].q), copy[1].p[0].x, copy[1].p[0].y, copy[1].p[0].z, copy[1].p[1].x,
                copy[1].p[1].y, copy[1].p[1].z, f32(copy[1].q));
        }";
    let expected = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 1.0, 2.0, 3.0, 0.0, 0.0, 4.0, 0.0f32];
    check(text, words![1u32, 0u32], &expected.map(Bits::bits));
}

#[test]
fn select_all_and_any() {
    let text = "fn f(v: vec3<bool>) -> vec4<i32> {
        let chosen = select(vec3(1, 2, 3), vec3(10, 20, 30), v);
        return vec4(chosen.x + chosen.y + chosen.z, select(5, 6, v.x), select(0, 1, all(v)), select(0, 1, any(v)));
    }";
    check_all(
        text,
        &[
            ([0, 0, 0], [6, 5, 0, 0]),
            ([1, 0, 0], [15, 6, 0, 1]),
            ([0, 1, 1], [51, 5, 0, 1]),
            ([1, 1, 1], [60, 6, 1, 1]), //
        ],
    );
    check(
        "fn f(b: bool, v: vec2<f32>) -> vec2<f32> { return select(v, -v, b); }",
        words![true, 1f32, 2f32],
        words![-1f32, -2f32],
    );
}

#[test]
fn logical_operators_do_not_evaluate_too_much() {
    let text = "
        var<private> calls: i32;
        fn yes() -> bool { calls += 1; return true; }
        fn f(a: bool) -> i32 { let x = a && yes(); let y = a || yes(); return calls * 10 + select(0, 1, x) + select(0, 2, y); }";
    check_all(text, &[([0], [12]), ([1], [13])]);
    check(
        "fn f(a: vec2<bool>, b: vec2<bool>) -> vec4<bool> { return vec4((a & b), (a | b)) == vec4(!a, !b); }",
        words![true, false, true, true],
        words![false, false, false, false],
    );
}
