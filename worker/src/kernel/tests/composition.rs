//! Programs of several kernels as one function.

use super::*;

/// Composes; what is written of the result must be WGSL.
fn composed(kernels: &[&Arc<TypedKernel>], program: &Program, leaves: &[DType]) -> Result<Composed, ComposeError> {
    let find = |hash| kernels.iter().find(|kernel| kernel.hash() == hash).map(|&kernel| kernel.clone());
    let composed = compose(program, leaves, &find)?;
    naga::front::wgsl::parse_str(&composed.wgsl()).unwrap_or_else(|error| panic!("{error}\n{}", composed.wgsl()));
    Ok(composed)
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
fn the_languages_own_structs_stay_its_own() {
    let first = compiled("fn f(x: f32) -> f32 { return modf(x).fract * f32(frexp(x).exp); }");
    let second = compiled("fn g(x: f32) -> f32 { let parts = modf(vec2(x)); return parts.whole.y + modf(x).whole; }");
    let steps = vec![step(&first, &[leaf(0)]), step(&second, &[result(0, 0)])];
    let composed = composed(&[&first, &second], &Program { steps, results: vec![result(1, 0)] }, &[DType::F32]);
    let text = composed.unwrap().wgsl();
    assert!(!text.contains("struct"), "{text}");
}

#[test]
fn the_engines_names_may_be_the_users() {
    let kernel =
        compiled("struct Results { r0: f32, r1: f32 } fn element(x0: f32) -> Results { return Results(x0, x0); }");
    let steps = vec![step(&kernel, &[leaf(0)]), step(&kernel, &[result(0, 1)])];
    let program = Program { steps, results: vec![result(0, 0), result(1, 1)] };
    let composed = composed(&[&kernel], &program, &[DType::F32]).unwrap();
    assert_eq!(composed.wgsl().matches("fn element").count(), 2);
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
