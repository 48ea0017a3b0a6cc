//! Kernels from text to signature, error, contraction and composition. Golden texts are in `snapshots/`.

mod blocks;
mod composition;
mod contraction;
mod hostile;
mod reductions;
mod users;

use std::fmt::Write;
use std::sync::Arc;

use super::*;
use crate::stage::{Program, Step, Value};

fn source(kind: KernelKind, text: &str, t: Option<DType>) -> KernelSource {
    KernelSource { kind, text: text.to_owned(), entry: None, t }
}

/// An element kernel with T = f32 where it is open.
fn element(text: &str) -> Result<TypedKernel, KernelError> {
    match TypedKernel::compile(source(KernelKind::Element, text, None)) {
        Err(error) if *error.problem() == Problem::TypeNeeded => {
            TypedKernel::compile(source(KernelKind::Element, text, Some(DType::F32)))
        }
        other => other,
    }
}

#[track_caller]
fn compiled(text: &str) -> Arc<TypedKernel> {
    Arc::new(element(text).unwrap_or_else(|error| panic!("{}", error.rendered())))
}

#[track_caller]
fn check(text: &str, signature: &str) {
    assert_eq!(compiled(text).to_string(), signature);
}

/// Every text with the error that it gives.
#[track_caller]
fn refusals(compile: fn(&str) -> Option<KernelError>, texts: &[&str]) -> String {
    let mut listed = String::new();
    for text in texts {
        let error = compile(text).unwrap_or_else(|| panic!("accepted: {text}"));
        writeln!(listed, "{text}\n    => {error}\n").unwrap();
    }
    listed
}

#[test]
fn signatures() {
    check("fn f(x: f32) -> f32 { return x; }", "f(x: f32) -> f32");
    check("fn f() -> bool { return true; }", "f() -> bool");
    check(
        "fn f(a: f64, b: i64, c: u64, d: u32, e: i32, f: bool) -> i64 { return b; }",
        "f(a: f64, b: i64, c: u64, d: u32, e: i32, f: bool) -> i64",
    );
    check("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }", "f(x: f32) -> f32");
    check("alias T = i32; fn f(x: T) -> T { return x; }", "f(x: i32) -> i32");
    check("fn g(x: f32) -> f32 { return h(x); } fn h(x: f32) -> f32 { return x; }", "g(x: f32) -> f32");
    check(
        "struct Pair { low: f32, high: u32 } fn f(x: f32) -> Pair { return Pair(x, 1u); }",
        "f(x: f32) -> (low: f32, high: u32)",
    );
    check("struct One { low: f32 } fn f(x: f32) -> One { return One(x); }", "f(x: f32) -> (low: f32)");
    check("fn f(x: u32, at: At) -> u32 { return x + at.index[0]; }", "f(x: u32, at: At) -> u32");
    check("fn f(place: At) -> u32 { return place.shape[place.rank - 1u]; }", "f(at: At) -> u32");
    check(
        "fn deep(at: At) -> u32 { return at.rank; } fn f(x: u32, at: At) -> u32 { return x * deep(at); }",
        "f(x: u32, at: At) -> u32",
    );
    check("@must_use fn f(x: f32) -> f32 { return x; }", "f(x: f32) -> f32");
}

/// What the interpreter and the code generators must know.
#[test]
fn all_of_the_language_that_makes_sense_in_a_function() {
    let text = "
        const N = 4u;
        const WEIGHTS = array<f32, 4>(0.1, 0.2, 0.3, 0.4);
        struct Point { position: vec3<f32>, rotation: mat2x2<f32> }
        fn bump(p: ptr<function, f32>) { *p += 1.0; }
        fn f(x: f32, n: i32) -> f32 {
            var kept: array<f32, N>;
            var point = Point(vec3(x), mat2x2(1.0, 0.0, 0.0, 1.0));
            for (var i = 0u; i < N; i++) {
                kept[i] = WEIGHTS[i] * x;
                if (kept[i] > 2.0) { continue; }
                bump(&kept[i]);
            }
            var k = 0;
            while (k < n) { k++; }
            loop { k--; if (k == 3) { break; } continuing { break if k < 0; } }
            switch k {
                case 1, 2: { point.position.x = modf(x).fract; }
                case 3: { return frexp(x).fract; }
                default: {}
            }
            let turned = point.rotation * point.position.xy;
            return select(turned.x, dot(turned, vec2(kept[0], kept[k & 3])), any(vec2(x) < turned));
        }";
    let kernel = compiled(text);
    assert_eq!(kernel.to_string(), "f(x: f32, n: i32) -> f32");
    assert_eq!(kernel.requirements(), Requirements::default());
    let step = Step { kernel: kernel.hash(), arguments: vec![Value::Leaf(0), Value::Leaf(1)] };
    let program = Program { steps: vec![step], results: vec![Value::Step { step: 0, field: 0 }] };
    let composed = compose(&program, &[DType::F32, DType::I32], &|_| Some(kernel.clone())).unwrap();
    insta::assert_snapshot!(composed.wgsl());
}

#[test]
fn errors_show_the_users_own_place() {
    let texts = [
        "fn f(x: f32) -> f32 {\n    return y;\n}",
        "fn f(x: f32) -> f32 {\n  return x",
        "fn f(x: T, at: At) -> T {\n  return x;\n",
        "fn f(x: f32) -> i32 {\n  return x; }",
        "fn f(x: f32) -> f32 {\n  let größe = x; return größe + 1i; }",
        "fn f(x: f32) -> f32 { return f(x); }",
        "fn g(x: f32) -> f32 { return h(x); } fn h(x: f32) -> f32 { return g(x); }",
        "fn f(x: T) -> T { return x; } /* open",
        "fn f(x: f32) -> f32 { return 1.0 / 0.0; }",
        "fn f(x: f32) -> f32 { if (x > 0.0) { return x; } }",
        "fn f(x: f32) -> f32 { return 1e39f; }",
        "fn f(x: f32) -> i32 {\n  if (x > 1.0) { return 3; }\n  return x;\n}",
        "fn f(x: f32) { return x; }",
        "fn f(x: f32) -> f32 { return g(x, x); } fn g(x: f32, n: i32) -> f32 { return x; }",
        "fn f(x: f32) -> f32 { return g(x, x); } fn g(x: f32) -> f32 { return x; }",
        "fn f(x: f32) -> f32 { var n = 3u; n = x; return x; }",
        "fn f(x: f32) -> f32 { var v = vec2(3u); v.x = x; return x; }",
        "fn f(x: f32) -> f32 { return x & 1u; }",
        "fn f(x: bool) -> bool { return x + x; }",
        "fn f(x: f32) -> f32 { if (x) { return x; } return x; }",
        "fn f(x: f32) -> f32 { let y = 1; y = 2; return x; }",
        "fn f(x: f32) -> f32 { return frob(x); }",
        "fn f(x: f32) -> f32 { return max(x); }",
        "fn f(x: f32) -> f32 { return max(x, 1i); }",
        "fn f(x: f64) -> f64 { let k = 0.1; return k * x; }",
        "fn f(x: f32) -> f32 { return x; } fn f(x: f32) -> f32 { return x; }",
        "",
        "const A = 1;",
        "// nothing but T",
        "🦀",
    ];
    insta::assert_snapshot!(refusals(|text| element(text).err(), &texts));
}

#[test]
fn errors_are_rendered_with_the_users_lines() {
    let texts = [
        "fn f(x: f32) -> f32 {\n    return y;\n}",
        "fn f(x: f32) -> i32 {\n    return x;\n}",
        "var<private> a: f32;\nfn f(x: f32) -> f32 { return a; }",
        "fn f(x: f32, y: vec2<f32>) -> f32 { return x; }",
        "fn f(x: T) -> T {\n    return x\n",
    ];
    let rendered = texts.map(|text| element(text).unwrap_err().rendered());
    insta::assert_snapshot!(rendered.join("\n"));
}

#[test]
fn what_no_kernel_may_have() {
    let texts = [
        "@compute @workgroup_size(64) fn main() { return; }",
        "@fragment fn main() { return; }",
        "@group(0) @binding(0) var<storage, read> a: array<f32>; fn f(x: u32) -> f32 { return a[x]; }",
        "@group(0) @binding(0) var<uniform> a: f32; fn f(x: f32) -> f32 { return a; }",
        "var<private> a: f32; fn f(x: f32) -> f32 { return a; }",
        "var<workgroup> a: f32; fn f(x: f32) -> f32 { return a; }",
        "var<workgroup> a: atomic<u32>; fn f(x: u32) -> u32 { return atomicAdd(&a, x); }",
        "override a: f32; fn f(x: f32) -> f32 { return a; }",
        "enable f16; fn f(x: f16) -> f16 { return x; }",
        "fn f(x: f32) -> f32 { workgroupBarrier(); return x; }",
        "fn f(x: f32) -> f32 { return dpdx(x); }",
        "fn f(x: f32) -> f32 { if (x > 1.0) { discard; } return x; }",
        "fn g(t: texture_2d<f32>) -> u32 { return 1u; } fn f(x: u32) -> u32 { return x; }",
        "fn f(x: u32) -> u32 { return subgroupAdd(x); }",
        "fn g(a: ptr<workgroup, atomic<u32>>) {} fn f(x: u32) -> u32 { return x; }",
        "fn f(x: f32) -> f32 { var a: array<f32, 100000>; return a[u32(x)]; }",
        "const N = 1 << 6; fn f(x: f32) -> f32 { var a: array<f32, N>; return a[u32(x)]; }",
        "fn f(x: f32) -> f32 { var a: array<f32, 10000>; var b: array<f32, 10000>; return a[0] + b[0]; }",
        "struct S { a: array<array<f32, 300>, 300> } fn g(s: S) { } fn f(x: f32) -> f32 { return x; }",
        "fn f(x: f32) -> f32 { return select(x, 1.0, array<bool, 2000000000>() == array<bool, 2000000000>()); }",
    ];
    insta::assert_snapshot!(refusals(|text| element(text).err(), &texts));
}

#[test]
fn signatures_that_do_not_fit() {
    let texts = [
        "fn f(x: vec2<f32>) -> f32 { return x.x; }",
        "fn f(x: array<f32, 4>) -> f32 { return x[0]; }",
        "fn f(x: ptr<function, f32>) -> f32 { return *x; }",
        "fn f(x: f32) { }",
        "fn f(x: f32) -> vec2<f32> { return vec2(x); }",
        "struct R { a: f32, b: vec2<f32> } fn f(x: f32) -> R { return R(x, vec2(x)); }",
        "fn f(at: At, x: f32) -> f32 { return x; }",
        "fn f(x: f32) -> At { var at: At; return at; }",
        "struct At { index: u32 } fn f(x: f32, at: At) -> f32 { return x; }",
        "fn f(x: f32) -> f32 { return x; }\nfn g(x: f32) -> f32 { return x; }",
    ];
    insta::assert_snapshot!(refusals(|text| element(text).err(), &texts));
}

#[test]
fn one_of_several_functions_is_named() {
    let text = "fn double(x: T) -> T { return x + x; } fn inc(x: T) -> T { return x + 1; }";
    let named = |name| Kernel::element_in("math.wgsl", text, Some(name));
    let inc = named("inc").unwrap().instantiate(Some(DType::I64)).unwrap();
    assert_eq!(inc.to_string(), "inc(x: i64) -> i64");
    assert_eq!(named("dec").unwrap_err().to_string(), "math.wgsl: there is no function `dec`: there is double, inc");
    assert_eq!(
        Kernel::element(text).unwrap_err().to_string(),
        "kernel:1:40: several functions are called by no other (double, inc): name one, as in `file.wgsl#double`"
    );
}
