//! Reduction kernels: which functions they must have, and how accumulators are stored.

use super::*;

const MOMENTS: &str = "
    struct Moments { n: u32, mean: T, shape: vec3<f32>, bins: array<u32, 3> }
    fn identity() -> Moments { return Moments(); }
    fn lift(x: T, weight: f32) -> Moments { return Moments(1u, x, vec3(weight), array<u32, 3>()); }
    fn combine(a: Moments, b: Moments) -> Moments { return Moments(a.n + b.n, a.mean + b.mean, a.shape, b.bins); }
    fn finish(a: Moments) -> T { return a.mean; }";

fn reduction(text: &str) -> Result<TypedKernel, KernelError> {
    TypedKernel::compile(source(KernelKind::Reduction, text, None))
}

#[test]
fn accumulators_have_wgsls_storage_layout() {
    let kernel = TypedKernel::compile(source(KernelKind::Reduction, MOMENTS, Some(DType::F64))).unwrap();
    assert_eq!(kernel.to_string(), "reduce(x: f64, weight: f32) -> f64, through Moments of 48 bytes");
    let layout = &kernel.reduction().unwrap().signature.accumulator;
    let slots: Vec<String> =
        layout.slots.iter().map(|slot| format!("{} {} {}", slot.offset, slot.path, slot.dtype)).collect();
    let expected = [
        "0 n u32",
        "8 mean f64",
        "16 shape.x f32",
        "20 shape.y f32",
        "24 shape.z f32",
        "28 bins[0] u32",
        "32 bins[1] u32",
        "36 bins[2] u32",
    ];
    assert_eq!(slots, expected);
}

#[test]
fn a_bare_number_accumulates() {
    let text = "fn identity() -> u64 { return 0; } fn lift(x: bool) -> u64 { return select(0lu, 1lu, x); }
        fn combine(a: u64, b: u64) -> u64 { return a + b; }
        struct R { count: u64, any: bool } fn finish(a: u64) -> R { return R(a, a > 0); }";
    let kernel = reduction(text).unwrap();
    assert_eq!(kernel.to_string(), "reduce(x: bool) -> (count: u64, any: bool), through u64 of 8 bytes");
    assert_eq!(kernel.requirements().names(), ["i64"]);
}

#[test]
fn matrices_are_stored_by_columns_on_their_own_alignment() {
    let text = "struct A { m: mat2x3<f32>, inner: array<B, 2> } struct B { low: f32, high: vec2<f32> }
        fn identity() -> A { return A(); } fn lift(x: f32) -> A { return A(); }
        fn combine(a: A, b: A) -> A { return a; } fn finish(a: A) -> f32 { return a.m[0].x; }";
    let error = reduction(text).map(|kernel| kernel.reduction().unwrap().signature.accumulator.clone());
    let layout = error.unwrap();
    let offsets: Vec<u32> = layout.slots.iter().map(|slot| slot.offset).collect();
    assert_eq!((layout.bytes, offsets), (64, vec![0, 4, 8, 16, 20, 24, 32, 40, 44, 48, 56, 60]));
    assert_eq!(layout.slots[10].path, "inner[1].high.x");
    assert_eq!(layout.slots[4].path, "m[1].y");
}

#[test]
fn what_does_not_fit() {
    let rest = "fn lift(x: f32) -> f32 { return x; } fn combine(a: f32, b: f32) -> f32 { return a + b; }";
    let texts = [
        "fn f(x: f32) -> f32 { return x; }".to_owned(),
        format!("{rest} fn identity() -> f32 {{ return 0.0; }}"),
        format!("{rest} fn identity() -> f64 {{ return 0.0; }} fn finish(a: f64) -> f64 {{ return a; }}"),
        format!("{rest} fn identity() {{ }} fn finish(a: f32) -> f32 {{ return a; }}"),
        format!("{rest} fn identity(x: f32) -> f32 {{ return x; }} fn finish(a: f32) -> f32 {{ return a; }}"),
        format!("{rest} fn identity() -> f32 {{ return 0.0; }} fn finish(a: f32, n: u32) -> f32 {{ return a; }}"),
        format!("{rest} fn identity() -> f32 {{ return 0.0; }} fn finish(a: f32) -> vec2<f32> {{ return vec2(a); }}"),
        accumulating("vec2<f32>"),
        accumulating("bool"),
        accumulating("array<f32, 4>"),
        format!("struct A {{ a: f32, b: bool }} {}", accumulating("A")),
        format!("struct A {{ a: array<f32, 17> }} {}", accumulating("A")),
        accumulating("f32").replace("lift(x: f32)", "lift(x: f32, at: At)"),
        accumulating("f32").replace("lift(x: f32)", "lift()"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    insta::assert_snapshot!(refusals(|text| reduction(text).err(), &texts));
}

fn accumulating(a: &str) -> String {
    format!(
        "fn identity() -> {a} {{ return {a}(); }} fn lift(x: f32) -> {a} {{ return {a}(); }} \
         fn combine(a: {a}, b: {a}) -> {a} {{ return a; }} fn finish(a: {a}) -> f32 {{ return 0.0; }}"
    )
}
