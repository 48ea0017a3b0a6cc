//! Texts that nobody means well with.

use proptest::prelude::*;

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
        let _ =
            element(&format!("alias A = {}f32{}; {}", "array<".repeat(n), ",2>".repeat(n), body("return x;".into())));
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
    let functions: String = (0..100).map(|i| format!("fn g{i}(x: f32) -> f32 {{ return g{}(x); }}", i + 1)).collect();
    let text = format!("{functions} fn g100(x: f32) -> f32 {{ return x; }}");
    let error = element(&text).unwrap_err();
    assert!(error.to_string().contains("calls within calls"), "{error}");
}

#[test]
fn long_kernels_are_fine() {
    let line = "    y = sqrt(y + x);\n";
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

#[test]
fn long_lines_and_long_lists_take_linear_time() {
    let begun = std::time::Instant::now();
    let widened = "y+=f64(k);".repeat(50_000);
    let kernel = element(&format!("fn f(x: f64) -> f64 {{ let k=0.1; var y=x; {widened} return y; }}")).unwrap();
    assert_eq!(kernel.warnings().len(), 64);
    let parameters: String = (0..50_000).map(|at| format!("x{at}:f32,")).collect();
    let _ = element(&format!("fn f({parameters}) -> f32 {{ return x0; }}"));
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[test]
fn what_constants_come_to_is_bounded() {
    let table = format!("const t = array({});", "0,".repeat(16_000));
    check_refused(format!("{table} fn f(x: f32) -> f32 {{ var y = x; {} return y; }}", "y += t[0];".repeat(60_000)));
    check_refused(
        "const b = array<bool, 0u - 1u>() == array<bool, 0u - 1u>(); fn f() -> bool { return b; }".to_owned(),
    );
}

/// Bits of valid and almost valid functions.
const STATEMENTS: [&str; 24] = [
    "var y = x;",
    "y += T(2) * x;",
    "let z = vec3(x, y, 1);",
    "a[i] = x;",
    "var a: array<T, 4>;",
    "for (var i = 0; i < 4; i++) {",
    "while (y < x) {",
    "loop {",
    "if (x == y) {",
    "} else {",
    "}",
    "continuing { break if y > x; }",
    "break;",
    "continue;",
    "switch i {",
    "case 1, 2: {",
    "default: {",
    "return x;",
    "p = &y; *p = x;",
    "y = select(x, y, any(z.xy == vec2(x)));",
    "let m = mat2x2(x, y, x, y) * vec2(1, x);",
    "const K = 1 << 3; y = a[K];",
    "y = f(x, at); y = g(y) - y * y;",
    "y = frexp(x).fract + at.index[at.rank];",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_heap_of_statements_is_an_error_or_a_kernel(
        picks in prop::collection::vec(0..STATEMENTS.len(), 0..24),
        t in prop::sample::select(DType::ALL.to_vec()),
    ) {
        let body: Vec<&str> = picks.iter().map(|&pick| STATEMENTS[pick]).collect();
        let text = format!("fn g(x: T) -> T {{ return x; }} fn f(x: T, at: At) -> T {{ {} return x; }}", body.join(" "));
        let _ = TypedKernel::compile(source(KernelKind::Element, &text, Some(t)));
    }
}
