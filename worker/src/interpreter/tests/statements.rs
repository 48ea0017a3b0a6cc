//! Every kind of statement, calls and pointers, and being stopped.

use super::*;

#[test]
fn branches_take_one_side() {
    let text = "fn f(x: i32) -> i32 {
        if x < 0 { return -1; } else if x == 0 { return 0; } else if x > 100 { }
        var y = 5;
        if x == 7 { y = 7; }
        return y;
    }";
    check_all(text, &[([(-3i32).bits()], [(-1i32).bits()]), ([0], [0]), ([7], [7]), ([101], [5])]);
}

#[test]
fn switches_choose_share_bodies_and_break() {
    let text = "fn f(x: i32) -> i32 {
        var y = 0;
        switch x {
            case 1, 2: { y = 12; }
            case -1: { y = 5; if y == 5 { break; } y = 6; }
            default: { y = 99; }
            case 3: { return 33; }
        }
        return y + 1000;
    }";
    let expect = |x: i32, y: i32| ([x.bits()], [y.bits()]);
    check_all(text, &[expect(1, 1012), expect(2, 1012), expect(-1, 1005), expect(3, 33), expect(4, 1099)]);
    check(
        "fn f(x: u32) -> u32 { switch x { case 4294967295u: { return 1u; } default: { return 2u; } } }",
        words![u32::MAX],
        words![1u32],
    );
}

#[test]
fn loops_run_their_continuing_part_and_leave_by_every_door() {
    let text = "fn f(n: u32) -> u32 {
        var sum = 0u;
        var i = 0u;
        loop {
            if i == n { break; }
            if i % 3u == 0u { continue; }
            if i == 50u { return 5000u; }
            sum += i;
            continuing { i += 1u; }
        }
        return sum;
    }";
    check_all(text, &[([0], [0]), ([10], [27]), ([100], [5000])]);
    check(
        "fn f(n: u32) -> u32 { var i = 0u; loop { i += 2u; continuing { i += 1u; break if i >= n; } } return i; }",
        words![10u32],
        words![12u32],
    );
    check(
        "fn f(n: i32) -> i32 { var s = 0; for (var i = 0; i < n; i++) { s += i; } return s; }",
        words![5],
        words![10],
    );
    check("fn f(n: i32) -> i32 { var s = n; while s > 3 { s /= 2; } return s; }", words![100], words![3]);
    check(
        "fn f(n: i32) -> i32 {
            var s = 0;
            for (var i = 0; i < n; i++) {
                for (var j = 0; j < n; j++) {
                    switch j { case 1: { continue; } case 3: { break; } default: { s += 1; } }
                    if j == 4 { break; }
                    s += 100;
                }
            }
            return s;
        }",
        words![6],
        words![6 * (3 + 300)],
    );
}

#[test]
fn what_a_loop_declares_is_new_in_each_turn() {
    check(
        "fn f(n: i32) -> i32 {
            var last = 0;
            for (var i = 0; i < n; i++) { var fresh: array<i32, 3>; fresh[1] += i + 1; last = fresh[1]; }
            return last;
        }",
        words![4],
        words![4],
    );
}

#[test]
fn calls_pass_values_and_pointers() {
    let text = "
        struct Pair { a: f32, b: vec2<i32> }
        fn swap(x: ptr<function, i32>, y: ptr<function, i32>) { let t = *x; *x = *y; *y = t; }
        fn third(v: ptr<function, array<i32, 4>>, i: u32) -> i32 { (*v)[i] += 1; let p = &(*v)[i]; *p *= 10; return *p; }
        fn move_on(p: ptr<function, Pair>) { (*p).a += 0.5; (*p).b.y = 9; fix(&(*p).b); }
        fn fix(v: ptr<function, vec2<i32>>) { (*v).x = 8; }
        fn f(x: i32, y: i32) -> array<i32, 8> {
            var a = x; var b = y;
            swap(&a, &b);
            var v = array<i32, 4>(1, 2, 3, 4);
            let t = third(&v, 2u);
            var p = Pair(1.0, vec2<i32>(1, 2));
            move_on(&p);
            return array<i32, 8>(a, b, v[2], t, v[3], i32(p.a * 2.0), p.b.x, p.b.y);
        }";
    check(text, words![3, 4], words![4, 3, 40, 40, 4, 3, 8, 9]);
}

#[test]
fn calls_nest_and_keep_their_frames_apart() {
    let text = "
        fn inner(x: f32) -> f32 { var y = x; y *= 2.0; return y + 1.0; }
        fn middle(x: f32) -> f32 { let a = inner(x); let b = inner(a); return a * 100.0 + b; }
        fn f(x: f32) -> f32 { return middle(x) + middle(x + 1.0) * 10000.0; }";
    check(text, words![1.0f32], words![307.0 + 511.0 * 10000.0f32]);
}

#[test]
fn private_variables_are_new_in_each_invocation() {
    let text = "
        const START = 40;
        var<private> count: i32 = START;
        var<private> more: vec2<f32>;
        fn step() { count += 1; more.y += 0.5; }
        fn f() -> vec2<f32> { step(); step(); return vec2<f32>(f32(count), more.y); }";
    check_all(text, &[([], [42f32.bits(), 1f32.bits()]), ([], [42f32.bits(), 1f32.bits()])]);
}

#[test]
fn an_invocation_sees_nothing_of_the_one_before() {
    let text = "fn f(x: u32) -> u32 { var a: array<u32, 4>; if x > 0u { a[x] = x; } return a[1] + a[2] + a[3]; }";
    check_all(text, &[([2], [2]), ([0], [0]), ([3], [3]), ([1], [1])]);
}

#[test]
fn a_function_may_return_nothing() {
    assert_eq!(run("fn f(x: u32) { var y = x; y += 1u; }", words![1u32]), []);
}

#[test]
fn an_endless_loop_is_stopped_from_another_thread() {
    for text in [
        "fn f() -> i32 { var i = 0; loop { i += 1; } return i; }",
        "fn g(x: i32) -> i32 { return x + 1; } fn f() -> i32 { var i = 0; while true { i = g(i); } return i; }",
        "fn f() -> i32 { for (;;) { switch 1 { case 1: { continue; } default: { } } } return 1; }",
    ] {
        let mut interpreter = interpreter(text).unwrap();
        let stop = StopFlag::new();
        let raised = stop.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            raised.raise();
        });
        let mut results = [77];
        assert_eq!(interpreter.call(&[], &stop, &mut results), Err(Stopped));
        assert_eq!(results, [77]);
        thread.join().unwrap();
    }
}

#[test]
fn a_stopped_interpreter_can_run_again() {
    let mut interpreter = interpreter("fn f(x: i32) -> i32 { return x; }").unwrap();
    let stop = StopFlag::new();
    stop.raise();
    assert_eq!(interpreter.call(&[3], &stop, &mut [0]), Err(Stopped));
    stop.lower();
    let mut results = [0];
    assert_eq!(interpreter.clone().call(&[3], &stop, &mut results), Ok(()));
    assert_eq!(results, [3]);
}

#[test]
fn the_block_info_is_25_more_words() {
    let text = "
        struct At { rank: u32, index: array<u32, 8>, block: array<u32, 8>, shape: array<u32, 8> }
        fn f(x: f32, at: At) -> u32 { return at.rank + 10u * at.index[1] + at.block[7] * 1000u + at.shape[at.rank]; }";
    let mut arguments = vec![0; 26];
    (arguments[1], arguments[3], arguments[17], arguments[20]) = (2, 3, 4, 5);
    check(text, &arguments, words![4037u32]);
}

/// WGSL has no fall-through of a case that does something, but naga's IR has.
#[test]
fn a_case_may_fall_through() {
    let text = "fn f(x: i32) -> i32 {
        var y = 0;
        switch x { case 1: { y += 1; } case 2: { y += 10; } default: { y += 100; } }
        return y;
    }";
    let mut module = (*validated(text)).clone();
    let (function, _) = module.functions.iter().next().unwrap();
    for statement in module.functions.get_mut(function).body.iter_mut() {
        if let naga::Statement::Switch { cases, .. } = statement {
            cases[0].fall_through = true;
            cases[1].fall_through = true;
        }
    }
    let mut interpreter = Interpreter::new(Arc::new(module), function).unwrap();
    for (x, expected) in [(1, 111), (2, 110), (3, 100)] {
        let mut results = [0];
        interpreter.call(&[x], &StopFlag::new(), &mut results).unwrap();
        assert_eq!(results, [expected]);
    }
}
