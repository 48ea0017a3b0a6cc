//! Kernels from text to signature, error, contraction and composition. Golden texts are in `snapshots/`.

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
        "struct S { a: array<array<f32, 10000>, 10000> } fn g(s: S) { } fn f(x: f32) -> f32 { return x; }",
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

mod reductions {
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
            format!(
                "{rest} fn identity() -> f32 {{ return 0.0; }} fn finish(a: f32) -> vec2<f32> {{ return vec2(a); }}"
            ),
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
}

mod users {
    use super::*;

    const POLY: &str = "fn f(x: T) -> T { return 2*x*x + 3*x + 1; }";

    #[test]
    fn one_text_serves_all_number_types() {
        let poly = Kernel::element(POLY).unwrap();
        let numbers = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];
        assert_eq!(poly.valid_types(), numbers);
        assert!(poly.uses_t());
        let f64s = poly.instantiate(Some(DType::F64)).unwrap();
        assert_eq!(f64s.to_string(), "f(x: f64) -> f64");
        assert!(Arc::ptr_eq(&f64s, &poly.clone().instantiate(Some(DType::F64)).unwrap()));
        assert_eq!(*poly.instantiate(None).unwrap_err().problem(), Problem::TypeNeeded);
        let refused = poly.instantiate(Some(DType::Bool)).unwrap_err();
        assert_eq!((refused.t(), refused.location()), (Some(DType::Bool), Some(Location { line: 1, column: 26 })));
    }

    #[test]
    fn hashes_name_what_is_computed() {
        let hash = |text, t| Kernel::element(text).unwrap().instantiate(t).unwrap().hash();
        let closed = "fn f(x: f32) -> f32 { return x; }";
        assert_eq!(hash(closed, None), hash(closed, Some(DType::I32)));
        assert_ne!(hash(POLY, Some(DType::F32)), hash(POLY, Some(DType::F64)));
        let kernel = Kernel::element(POLY).unwrap().instantiate(Some(DType::U64)).unwrap();
        let bytes = postcard::to_stdvec(kernel.source()).unwrap();
        let received: KernelSource = postcard::from_bytes(&bytes).unwrap();
        let again = TypedKernel::compile(received).unwrap();
        assert_eq!(again.hash(), kernel.hash());
        let sha256 = "c4e7dc5f";
        assert_eq!(hash(closed, None).to_string(), sha256, "a hash that changes changes what is cached and sent");
    }

    #[test]
    fn errors_name_t_only_where_it_matters() {
        let message = |text| Kernel::element(text).unwrap_err().to_string();
        assert_eq!(message("fn f(x: T) -> T { return y; }"), "kernel:1:26: no definition in scope for identifier: `y`");
        insta::assert_snapshot!(message("fn f(x: T) -> vec2<T> { return x; }"));
        let error = Kernel::element_in("scale.wgsl", "fn f(x: T) -> f32 { return dot(x, x); }", None).unwrap_err();
        let bytes = postcard::to_stdvec(&error).unwrap();
        assert_eq!(postcard::from_bytes::<KernelError>(&bytes).unwrap(), error);
    }

    #[test]
    fn arguments_choose_t() {
        use DType::*;
        let chosen = |text, arguments: &[DType]| {
            Kernel::element(text).unwrap().for_arguments(arguments).map(|kernel| kernel.to_string())
        };
        assert_eq!(chosen(POLY, &[F32]).unwrap(), "f(x: f32) -> f32");
        let mixed = "fn f(x: T, n: i64, y: T) -> T { return x + y; }";
        assert_eq!(chosen(mixed, &[I32, U32, F32]).unwrap(), "f(x: f64, n: i64, y: f64) -> f64");
        assert_eq!(
            chosen(mixed, &[I32, U64, F32]).unwrap_err().to_string(),
            "kernel: `f` takes (f64, i64, f64), and was given (i32, u64, f32)"
        );
        assert_eq!(
            chosen(mixed, &[I32]).unwrap_err().to_string(),
            "kernel: `f` takes (f32, i64, f32), and was given (i32)"
        );
        assert_eq!(chosen(POLY, &[Bool]).unwrap_err().t(), Some(Bool));
        assert_eq!(chosen("fn f(x: f64) -> f64 { return x; }", &[I64]).unwrap(), "f(x: f64) -> f64");
        assert!(chosen("fn f(x: f32) -> f32 { return x; }", &[F64]).is_err());
        assert_eq!(*chosen("fn f() -> T { return T(1); }", &[]).unwrap_err().problem(), Problem::TypeNeeded);
        assert_eq!(
            chosen("fn f(x: T) -> u32 { return bitcast<u32>(x) + 1u * u32(firstLeadingBit(u32(x))); }", &[I32])
                .unwrap(),
            "f(x: i32) -> u32"
        );
    }

    #[test]
    fn reports_and_warnings() {
        let text =
            "fn f(x: T) -> T {\n    let k = 0.1;\n    let half = 0.5;\n    return x * T(k) + T(half) + T(0.1);\n}";
        let kernel = Kernel::element_in("scale.wgsl", text, None).unwrap();
        insta::assert_snapshot!(Report::new(&kernel));
        let sine = Kernel::element("fn f(x: f64, n: u64) -> f64 { return sin(x) + f64(countOneBits(n)); }").unwrap();
        insta::assert_snapshot!(Report::new(&sine));
    }
}

mod contraction {
    use super::*;

    /// The body of the contracted kernel, by naga's writer.
    fn contracted(expression: &str) -> String {
        let text = format!(
            "fn f(a: f32, b: f32, c: f32, d: f32, v: vec2<f32>, m: mat2x2<f32>, n: i32, e: f64) -> f32 {{ {expression} }}
             fn g(x: f32) -> f32 {{ return f(x, x, x, x, vec2(x), mat2x2(x, x, x, x), 1, 1.0); }}"
        );
        let kernel = compiled(&text);
        let flags = naga::back::wgsl::WriterFlags::empty();
        let text = naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap();
        let body = text.split("e: f64) -> f32 {\n").nth(1).and_then(|rest| rest.split("\n}").next());
        body.unwrap_or(&text).replace("    ", " ")
    }

    #[test]
    fn the_rule() {
        let mut listed = String::new();
        for expression in [
            "return a * b + c;",
            "return c + a * b;",
            "return a * b - c;",
            "return c - a * b;",
            "return a * b + c * d;",
            "return a * b - c * d;",
            "return a * b + c + d;",
            "return a * b * c + d;",
            "return a + b * c + d;",
            "return (a + b) * (c + d);",
            "return -a * b + c;",
            "return -(a * b) + c;",
            "let p = a * b; return p + c;",
            "let p = a * b; return (p + c) * p;",
            "var p = a * b; return p + c;",
            "var s = 0.0; s += a * b; return s;",
            "var s = 0.0; for (var i = 0; i < n; i++) { s = s * a + b; } return s;",
            "var s = c; if (a > b) { s -= a * b; } return s;",
            "return (v * a + v).x;",
            "return (a * v - v).x;",
            "return (v - a * v).x;",
            "return (v * v + 1.0).x;",
            "return (m * v + v).x;",
            "return (m * a + m)[0].x;",
            "return f32(n * n + n);",
            "return f32(e * e + 1.0);",
            "return 2 * a * a + 3 * a + 1;",
            "return f32(e * e) + 1.0;",
        ] {
            writeln!(listed, "{expression}\n{}\n", contracted(expression)).unwrap();
        }
        insta::assert_snapshot!(listed);
    }

    #[test]
    fn calls_keep_functions_apart() {
        let text = "fn product(a: f32, b: f32) -> f32 { return a * b; } fn f(a: f32, b: f32) -> f32 { return product(a, b) + b; }";
        let kernel = compiled(text);
        let flags = naga::back::wgsl::WriterFlags::empty();
        let text = naga::back::wgsl::write_string(kernel.module(), kernel.info(), flags).unwrap();
        assert!(!text.contains("fma"), "{text}");
    }
}

mod composition {
    use super::*;

    fn composed(kernels: &[&Arc<TypedKernel>], program: &Program, leaves: &[DType]) -> Result<Composed, ComposeError> {
        compose(program, leaves, &|hash| kernels.iter().find(|kernel| kernel.hash() == hash).map(|&k| k.clone()))
    }

    fn step(kernel: &TypedKernel, arguments: &[Value]) -> Step {
        Step { kernel: kernel.hash(), arguments: arguments.to_vec() }
    }

    fn leaf(leaf: u32) -> Value {
        Value::Leaf(leaf)
    }

    fn result(step: u32, field: u32) -> Value {
        Value::Step { step, field }
    }

    #[test]
    fn helpers_constants_and_structs_of_one_name_live_side_by_side() {
        let first = compiled(
            "const K = 2.0; struct Pair { a: f32, b: f32 }
             fn helper(x: f32) -> Pair { return Pair(x * K, x); } fn f(x: f32) -> f32 { return helper(x).a; }",
        );
        let second = compiled(
            "const K = 3u; struct Pair { a: u32, b: f32 }
             fn helper(x: f32) -> Pair { return Pair(K, x + f32(K)); } fn unused() -> f32 { return 1.0; }
             fn f(x: f32) -> f32 { return helper(x).b + 0.0 * unused(); }",
        );
        let program = Program {
            steps: vec![step(&first, &[leaf(0)]), step(&second, &[result(0, 0)]), step(&first, &[result(1, 0)])],
            results: vec![result(2, 0)],
        };
        let composed = composed(&[&first, &second], &program, &[DType::F32]).unwrap();
        assert_eq!((composed.leaves.as_slice(), composed.uses_at), (&[DType::F32][..], false));
        insta::assert_snapshot!(composed.wgsl());
    }

    #[test]
    fn fields_at_and_several_results() {
        let split = compiled(
            "struct Split { whole: i64, part: f64, odd: bool }
             fn split(x: f64) -> Split { let w = floor(x); return Split(i64(w), x - w, i64(w) % 2 == 1); }",
        );
        let here = compiled("fn here(x: i64, at: At) -> i64 { return x + i64(at.index[at.rank - 1u]); }");
        let flag = compiled("fn flag(a: bool, b: bool, at: At) -> bool { return a && b && at.block[0] == 0u; }");
        let program = Program {
            steps: vec![step(&split, &[leaf(1)]), step(&here, &[result(0, 0)]), step(&flag, &[leaf(0), result(0, 2)])],
            results: vec![result(1, 0), result(0, 1), result(2, 0), leaf(0)],
        };
        let composed = composed(&[&split, &here, &flag], &program, &[DType::Bool, DType::F64]).unwrap();
        assert!(composed.uses_at);
        assert_eq!(composed.results, [DType::I64, DType::F64, DType::Bool, DType::Bool]);
        assert_eq!(composed.requirements.to_string(), "f64, i64");
        insta::assert_snapshot!(composed.wgsl());
    }

    #[test]
    fn the_identity_hands_leaf_0_through() {
        let composed = composed(&[], &Program::identity(), &[DType::U64]).unwrap();
        insta::assert_snapshot!(composed.wgsl());
    }

    #[test]
    fn hashes_tell_programs_apart() {
        let kernel = compiled("fn f(x: f32) -> f32 { return x; }");
        let program = Program { steps: vec![step(&kernel, &[leaf(0)])], results: vec![result(0, 0)] };
        let hash = |program: &Program, leaves: &[DType]| composed(&[&kernel], program, leaves).unwrap().hash();
        assert_eq!(hash(&program, &[DType::F32]), hash(&program, &[DType::F32]));
        assert_ne!(hash(&program, &[DType::F32]), hash(&program, &[DType::F32, DType::F32]));
        assert_ne!(hash(&program, &[DType::F32]), hash(&Program::identity(), &[DType::F32]));
    }

    #[test]
    fn programs_that_do_not_fit() {
        let kernel = compiled("fn f(x: f32) -> f32 { return x; }");
        let check = |steps: Vec<Step>, results: Vec<Value>, message: &str| {
            let error = composed(&[&kernel], &Program { steps, results }, &[DType::F64]).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        let misfit = "step 0 calls f(x: f32) -> f32 with (f64)";
        check(vec![step(&kernel, &[leaf(0)])], vec![result(0, 0)], misfit);
        check(vec![step(&kernel, &[])], vec![result(0, 0)], "step 0 calls f(x: f32) -> f32 with ()");
        check(vec![], vec![], "the program has no result");
        check(vec![], vec![leaf(1)], "the program uses Leaf(1), which does not exist there");
        let later = "the program uses Step { step: 0, field: 0 }, which does not exist there";
        check(vec![step(&kernel, &[result(0, 0)])], vec![leaf(0)], later);
        let unknown = Step { kernel: KernelHash([7; 32]), arguments: vec![] };
        check(vec![unknown], vec![leaf(0)], "kernel 07070707 is not known here");
    }
}

mod hostile {
    use super::*;

    /// A quarter of the stack that Rust's threads have.
    const STACK_BYTES: usize = 512 << 10;

    fn on_a_small_stack(run: fn()) {
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
    }

    /// Text of any kind ends in a kernel or an error.
    #[track_caller]
    fn check_refused(text: String) {
        let error = element(&text).unwrap_err();
        assert!(error.to_string().len() < 2_000 && error.rendered().len() < 20_000, "{error}");
    }

    #[test]
    fn nesting_does_not_overflow_the_stack() {
        on_a_small_stack(compile_nested);
    }

    fn compile_nested() {
        let body = |body: String| format!("fn f(x: f32) -> f32 {{ {body} }}");
        let around = |open: &str, close: &str, n| body(format!("return {}x{};", open.repeat(n), close.repeat(n)));
        for n in [100, 120, 150, 250, 500, 10_000, 50_000] {
            let _ = element(&around("(", ")", n));
            let _ = element(&around("-", "", n));
            let _ = element(&around("- ", "", n));
            let _ = element(&around("1.0+", "", n));
            let _ = element(&around("abs(", ")", n));
            let _ = element(&around("vec2(", ").x", n));
            let _ = element(&body(format!("{}{} return x;", "{".repeat(n), "}".repeat(n))));
            let _ = element(&body(format!("{}{} return x;", "loop {".repeat(n), "break;}".repeat(n))));
            let _ = element(&body(format!("{} {{}} return x;", "if (x > 1.0) {} else ".repeat(n))));
            let _ = element(&format!(
                "alias A = {}f32{}; {}",
                "array<".repeat(n),
                ",2>".repeat(n),
                body("return x;".into())
            ));
            let _ = element(&body(format!("let a = {}1; return x;", "array<f32, ".repeat(n))));
            let _ = element(&body(format!("let a = {}1{}; return x;", "array<f32, ".repeat(n), ">".repeat(n))));
            let _ = element(&body(format!("var a: A; return a{};", "[0]".repeat(n))));
        }
        check_refused(around("(", ")", 10_000));
        check_refused(around("-", "", 100_000));
        check_refused(around("1.0+", "", 100_000));
        check_refused("/*".repeat(100_000));
        check_refused("<".repeat(100_000));
        check_refused("fn f(x: f32) -> f32 { return x; }\0".to_owned());
        check_refused(format!("fn f(x: {}f32{}) {{}}", "vec2<".repeat(50_000), ">".repeat(50_000)));
    }

    #[test]
    fn chains_of_declarations_do_not_overflow_the_stack() {
        on_a_small_stack(compile_chains);
    }

    fn compile_chains() {
        for n in [500, 1_020, 60_000] {
            let constants: String = (0..n).map(|i| format!("const a{i}=a{};", i + 1)).collect();
            let _ = element(&format!("{constants} const a{n}=1.0; fn f(x: f32) -> f32 {{ return a0; }}"));
            let types: String = (0..n).map(|i| format!("struct A{i} {{ a: A{} }}", i + 1)).collect();
            let _ = element(&format!("{types} struct A{n} {{ a: f32 }} fn f(x: f32) -> f32 {{ return x; }}"));
        }
        let functions: String =
            (0..100).map(|i| format!("fn g{i}(x: f32) -> f32 {{ return g{}(x); }}", i + 1)).collect();
        let text = format!("{functions} fn g100(x: f32) -> f32 {{ return x; }}");
        let error = element(&text).unwrap_err();
        assert!(error.to_string().contains("calls within calls"), "{error}");
    }

    #[test]
    fn long_kernels_are_fine() {
        let line = "    y = y * 1.5 + x; if (y > 3.0) { y = sqrt(abs(y - 1.0)); }\n";
        let text = format!("fn f(x: f32) -> f32 {{\n    var y = x;\n{}    return y;\n}}", line.repeat(10_000));
        check(&text, "f(x: f32) -> f32");
        check_refused(text.replace("return y", "return z"));
        check_refused(format!("fn f(x: f32) -> f32 {{ return {}; }}", "y".repeat(500_000)));
        check_refused("x".repeat(TEXT_BYTES_MAX + 1));
    }

    #[test]
    fn any_prefix_and_any_lost_byte_of_a_kernel_is_an_error_or_a_kernel() {
        let text = "struct R { a: T, b: bool }\nfn g(x: T) -> T { /* ä */ return x * x + 1; }\nfn f(x: T, at: At) -> R { return R(g(x), at.rank == 2u); }";
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            let _ = element(&text[..end]);
            let rest: String = text.char_indices().filter(|(at, _)| *at != end).map(|(_, c)| c).collect();
            let _ = element(&rest);
        }
    }
}
