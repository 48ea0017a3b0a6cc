//! What cannot be run is refused by name, and nothing panics.

use super::*;

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    let error = interpreter(text).err().unwrap_or_else(|| panic!("not refused:\n{text}"));
    assert_eq!(error.to_string(), expected, "by\n{text}");
}

#[test]
fn what_no_element_function_can_use_is_named() {
    let none = "cannot be used here";
    check_refused("enable f16; fn f(x: f16) -> f16 { return x + 1.0h; }", &format!("f16 values {none}"));
    check_refused("enable f16; fn f(x: f32) -> f32 { return f32(f16(x)); }", &format!("f16 values {none}"));
    check_refused("var<workgroup> w: u32; fn f() -> u32 { return w; }", &format!("workgroup memory {none}"));
    check_refused(
        "@group(0) @binding(0) var<storage> b: array<f32>; fn f(i: u32) -> f32 { return b[i]; }",
        &format!("a buffer or other resource {none}"),
    );
    check_refused("override o: f32 = 1.0; fn f() -> f32 { return o; }", &format!("override {none}"));
    let private = "override o: f32 = 1.0; var<private> p: f32 = o * 2.0; fn f() -> f32 { return p; }";
    check_refused(private, &format!("override {none}"));
    check_refused("fn f() { workgroupBarrier(); }", &format!("a barrier {none}"));
    check_refused("fn f(x: f32) -> f32 { if x < 0.0 { discard; } return x; }", &format!("discard {none}"));
    check_refused("fn f(x: f32) -> f32 { return dpdx(x); }", &format!("derivative {none}"));
    check_refused("fn f(x: u32) -> u32 { return subgroupAdd(x); }", &format!("a subgroup operation {none}"));
    check_refused(
        "@group(0) @binding(0) var t: texture_2d<f32>; fn f() -> vec2<u32> { return textureDimensions(t); }",
        &format!("texture values {none}"),
    );
    check_refused("fn f(p: ptr<function, i32>) -> i32 { return *p; }", &format!("pointer argument values {none}"));
}

#[test]
fn what_is_not_called_does_not_matter() {
    let text = "
        enable f16;
        var<workgroup> w: u32;
        const H = 1.0h;
        fn other() -> u32 { workgroupBarrier(); return w + u32(H); }
        fn f(x: u32) -> u32 { return x + 1u; }";
    check(text, words![1u32], words![2u32]);
}

#[test]
fn variables_have_a_limit() {
    let array =
        |length: u64| format!("fn f(i: u32) -> f32 {{ var a: array<f32, {length}>; a[i] = 1.0; return a[3]; }}");
    check(&array(1_000_000), words![3u32], words![1f32]);
    let too_large = "the function's variables take more than 16777216 bytes";
    check_refused(&array(3_000_000), too_large);
    check_refused(&array(500_000_000), too_large);
    let chain = "
        fn g() -> f32 { var a: array<f32, 1500000>; return a[1]; }
        fn f() -> f32 { var a: array<f32, 1500000>; return a[1] + g(); }";
    check_refused(chain, too_large);
}

#[test]
fn nesting_has_a_limit() {
    let chain = |length: usize| {
        let mut text = "fn f0(x: i32) -> i32 { return x + 1; }\n".to_owned();
        for index in 1..length {
            text += &format!("fn f{index}(x: i32) -> i32 {{ return f{}(x) + 1; }}\n", index - 1);
        }
        text + &format!("fn f(x: i32) -> i32 {{ return f{}(x); }}", length - 1)
    };
    check(&chain(500), words![0], words![500]);
    check_refused(&chain(600), "statements and calls are nested deeper than 512");
    let branches = |count: usize| {
        let arms: String =
            (0..count).map(|index| format!("if x == {index} {{ return {}; }} else ", index * 2)).collect();
        format!("fn f(x: i32) -> i32 {{ {arms} {{ return -1; }} }}")
    };
    check(&branches(300), words![299], words![598]);
    check_refused(&branches(600), "statements and calls are nested deeper than 512");
}

#[test]
#[should_panic(expected = "length")]
fn a_wrong_number_of_words_is_the_callers_mistake() {
    let mut interpreter = interpreter("fn f(x: i32) -> i32 { return x; }").unwrap();
    let _ = interpreter.call(&[1, 2], &StopFlag::new(), &mut [0]);
}
