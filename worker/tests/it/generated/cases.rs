//! Named kernels: what is hard about lanes that part, and what is hostile.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use gridloom_worker::block::Block;
use gridloom_worker::cpu::CodeGenerator;
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::kernel::Kernel;
use gridloom_worker::shape::Shape;

use super::machine::{Machine, Pair, block, kernel};

fn numbers(count: u64) -> Block {
    block(DType::U32, &(0..count).map(|at| at * 2_654_435_761 % 1000).collect::<Vec<_>>())
}

/// Checks a kernel of one `u32` over numbers below 1000.
#[track_caller]
fn check(text: &str) {
    Pair::new().check(text, None, &[numbers(1000)]);
}

#[test]
fn nested_loops_that_part_with_a_helper_and_a_gather_are_compiled() {
    let text = "
        fn collatz(start: u32, table: ptr<function, array<u32, 16>>) -> u32 {
            var n = start;
            var steps = 0u;
            loop {
                if n <= 1u { break; }
                for (var k = 0u; k < n % 5u; k++) {
                    if (n + k) % 7u == 3u { continue; }
                    if k == 3u { break; }
                    (*table)[(n + k) % 16u] += k + 1u;
                }
                if n % 2u == 0u { n = n / 2u; } else { n = 3u * n + 1u; }
                steps++;
                if steps > 200u { return 999u; }
            }
            return steps + (*table)[start % 16u];
        }
        fn f(x: u32) -> u32 {
            var table = array<u32, 16>();
            let steps = collatz(x, &table);
            return steps + table[steps];
        }";
    let mut machine = Machine::new(CodeGenerator::Cranelift, Duration::from_secs(60));
    assert_eq!(machine.name(), "cpu cranelift");
    let blocks = machine.run(&kernel(text, None), &[numbers(1000)], 0).unwrap();
    assert!(blocks[0].elements::<u32>().iter().any(|&steps| steps > 50));
    check(text);
}

#[test]
fn lanes_that_are_parked_keep_their_words() {
    // What the first arm writes, the second reads, and nobody later.
    check(
        "fn f(x: u32) -> u32 { var v = x; var r = 0u; if x % 2u == 0u { v = 7u; r = 1u; } else { r = v; } return r; }",
    );
    // A word that is only read again in the continuing part.
    check(
        "fn f(x: u32) -> u32 {
            var sum = 0u; var i = 0u; var step = 1u;
            loop {
                if i % 3u == x % 3u { step = 2u; continue; }
                step = 1u + x % 2u;
                sum += i;
                continuing { i += step; break if i > 20u; }
            }
            return sum;
        }",
    );
    // Lanes come back from a call that others left early.
    check(
        "fn g(x: u32) -> u32 { for (var i = 0u; i < 9u; i++) { if i == x % 11u { return i * 10u; } } return 5u; }
        fn f(x: u32) -> u32 { var r = 0u; for (var k = 0u; k < x % 4u; k++) { r += g(x + k); } return r + g(x); }",
    );
    // `break` leaves the switch, `continue` the turn.
    check(
        "fn f(x: u32) -> u32 {
            var r = 0u;
            for (var i = 0u; i < 10u; i++) {
                switch (x + i) % 5u {
                    case 0u: { continue; }
                    case 1u, 2u: { if x % 2u == 0u { break; } r += 100u; }
                    default: { r += i; }
                }
                r += 1000u;
            }
            return r;
        }",
    );
}

#[test]
fn a_loop_that_no_lane_is_left_for_is_not_entered() {
    // Without `return`, the loop would never end: its counter steps over the limit.
    check(
        "fn f(x: u32) -> u32 {
            if x < 2000u { return x; }
            var i = 1u;
            loop { if i == 0u { break; } i += 2u; }
            return i;
        }",
    );
}

#[test]
fn what_is_uniform_is_a_real_branch_and_gives_the_same_bits() {
    check(
        "const TABLE = array<f32, 7>(1.5, 2.5, -3.0, 4.0, 0.25, 8.0, 9.0);
        fn f(x: u32, at: At) -> f32 {
            var sum = 0.0;
            var local = array<f32, 8>();
            for (var i = 0u; i < 7u; i++) { local[i] = TABLE[i] * f32(i); }
            for (var i = 0u; i < at.shape[0] % 9u; i++) { sum = sum * f32(x) + local[i] + TABLE[(x + i) % 7u]; }
            if at.rank == 1u { sum += 0.5; } else { sum = -1.0; }
            return sum;
        }",
    );
}

#[test]
fn what_varies_only_after_many_rounds_of_analysis_is_still_right() {
    // Each turn hands a number one variable on, so each round finds one more that varies.
    let mut text = "fn f(x: u32, k: bool) -> u32 {\n".to_owned();
    (0..40).for_each(|at| text.push_str(&format!("var v{at} = {at}u; ")));
    text.push_str("var n = 0u;\nloop { if n == 50u { break; } n++; if v0 > 100u { continue; }\n");
    (0..39).for_each(|at| text.push_str(&format!("v{at} = v{}; ", at + 1)));
    text.push_str("v39 = x + n; switch v7 { case 3u: { v9 += 1u; break; } default: { if k { v5 = 7u; } } } }\n");
    text.push_str("if v3 > 700u { return v3; } return v0 + v5 + n; }");
    let leaves = [numbers(1000), block(DType::Bool, &(0..1000).map(|at| at % 3 / 2).collect::<Vec<_>>())];
    Pair::new().check(&text, None, &leaves);
}

#[test]
fn an_endless_loop_is_stopped_at_its_deadline() {
    let mut machine = Machine::new(CodeGenerator::Cranelift, Duration::from_millis(50));
    for text in [
        "fn f(x: u32) -> u32 { var n = x; loop { n += 1u; if n == 5000u + x { n = x; } if n == 9999u { break; } } return n; }",
        "fn f(x: u32, at: At) -> u32 { loop { if at.rank == 7u { break; } } return x; }",
        "fn f(x: u32, at: At) -> u32 { var n = x; loop { if at.rank == 7u { continue; } n++; } return n; }",
        "fn g(x: u32) -> u32 { var n = x; while n < 2000u { n = n / 2u; } return n; } fn f(x: u32) -> u32 { return g(x); }",
    ] {
        let begun = Instant::now();
        let result = machine.run(&kernel(text, None), &[block(DType::U32, &[1; 100])], 0);
        assert_eq!(result.unwrap_err(), ExecuteError::Deadline { limit_ms: 50 });
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn huge_local_arrays_are_memory_not_registers() {
    check(
        "fn f(x: u32) -> u32 {
            var all: array<u32, 16000>;
            for (var i = 0u; i < 40u; i++) { all[(x * 37u + i * 411u) % 16000u] = x + i; }
            var sum = 0u;
            for (var i = 0u; i < 40u; i++) { sum += all[(x * 37u + i * 822u) % 17000u]; }
            return sum;
        }",
    );
    // Whole values are copied word by word.
    check(
        "fn g(all: array<u32, 500>, at: u32) -> u32 { var copy = all; copy[at] += 1u; return copy[at] + all[at + 1u]; }
        fn f(x: u32) -> u32 { var all: array<u32, 500>; all[x] = x; all[3] = 9u; return g(all, x) + g(all, 2u); }",
    );
}

#[test]
fn indices_out_of_bounds_touch_nothing_else() {
    check(
        "struct S { low: array<u32, 3>, middle: array<u32, 5>, high: array<u32, 3> }
        fn f(x: u32) -> u32 {
            var s: S;
            s.middle[x] = 7u;
            s.middle[i32(x) - 500] += 1u;
            s.low[x * 1000000u] += 2u;
            var sum = s.low[0] + 10u * s.low[1] + 100u * s.high[0] + 1000u * s.high[2];
            for (var i = 0u; i < 5u; i++) { sum = sum * 3u + s.middle[i]; }
            return sum + s.low[2];
        }",
    );
}

#[test]
fn ten_thousand_lines_compile_or_are_refused_by_name_soon() {
    let mut text = "fn f(x: u32) -> u32 { var a = x; var b = 1u;\n".to_owned();
    for line in 0..10_000 {
        let _ = match line % 5 {
            0 => writeln!(text, "if a % {}u == 0u {{ b += a; }}", line % 7 + 2),
            1 => writeln!(text, "a = a * {line}u + b;"),
            _ => writeln!(text, "b = (b ^ a) - {line}u;"),
        };
    }
    text.push_str("return a + b; }");
    let begun = Instant::now();
    Pair::new().check(&text, None, &[numbers(100)]);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn calls_that_grow_without_bound_are_refused_by_name_soon() {
    let mut text = "fn g0(x: u32) -> u32 { return x * 3u + 1u; }\n".to_owned();
    for at in 1..40 {
        let before = at - 1;
        let _ = writeln!(text, "fn g{at}(x: u32) -> u32 {{ return g{before}(x) + g{before}(x + 1u); }}");
    }
    text.push_str("fn f(x: u32) -> u32 { return g39(x); }");
    let mut machine = Machine::new(CodeGenerator::Cranelift, Duration::from_secs(60));
    let begun = Instant::now();
    let error = machine.run(&kernel(&text, None), &[numbers(8)], 0).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let ExecuteError::Unsupported { executor, what } = error else { panic!("{error}") };
    assert_eq!(executor, "cpu cranelift");
    assert!(what.contains("once its calls are inlined"), "{what}");
}

#[test]
fn deep_nesting_takes_little_stack() {
    let mut text = "fn f(x: u32) -> u32 { var r = x;\n".to_owned();
    for depth in 0..60 {
        let _ = write!(text, "if r % {}u != 1u {{ r += {depth}u; ", depth + 2);
        let _ = writeln!(text, "for (var i{depth} = 0u; i{depth} < 1u; i{depth}++) {{");
    }
    (0..60).for_each(|_| text.push_str("}}"));
    text.push_str("return r; }");
    check(&text);
}

#[test]
fn reductions_of_users_give_the_interpreters_bits() {
    let text = "
        struct A { sum: f32, high: f64, count: u32, odd: vec2<i32> }
        struct R { mean: f32, high: f64, odd: i32 }
        fn identity() -> A { return A(); }
        fn lift(x: u32) -> A {
            var steps = 0u;
            for (var n = x; n > 1u; n /= 2u) { steps++; }
            return A(sqrt(f32(x)), sin(f64(x)), 1u, vec2(i32(x % 2u), i32(steps)));
        }
        fn combine(a: A, b: A) -> A {
            var high = a.high;
            if b.high > high { high = b.high; }
            return A(a.sum + b.sum * 1.0001, high, a.count + b.count, a.odd + b.odd);
        }
        fn finish(a: A) -> R { return R(a.sum / f32(a.count), a.high, a.odd.x * 1000 + a.odd.y); }";
    let kernel = Kernel::reduction(text).unwrap().for_arguments(&[DType::U32]).unwrap();
    let mut pair = Pair::new();
    for lengths in [&[1u64][..], &[7], &[33], &[5000], &[40, 60], &[3, 2500], &[2500, 3], &[4, 5, 300]] {
        let shape = Shape::new(lengths).unwrap();
        let leaf = Block { shape: shape.clone(), ..numbers(shape.elements()) };
        for axes in 1..1u32 << lengths.len() {
            let axes: Vec<bool> = (0..lengths.len()).map(|axis| axes >> axis & 1 == 1).collect();
            let [expected, found] = pair.reduce(&kernel, &leaf, &axes);
            for (expected, found) in expected.iter().zip(&found) {
                assert_eq!(expected.bytes(), found.bytes(), "{lengths:?} over {axes:?}");
            }
        }
    }
}

#[test]
fn deep_calls_are_refused_like_the_interpreter_refuses_them() {
    for (calls, is_taken) in [(7, true), (60, false)] {
        let mut text = "fn g0(x: u32) -> u32 { return x + 1u; }\n".to_owned();
        for at in 1..=calls {
            let _ = writeln!(text, "fn g{at}(x: u32) -> u32 {{ var r = x;");
            (0..60).for_each(|depth| text.push_str(&format!("if r != {depth}u {{ ")));
            let _ = write!(text, "r = g{}(r);", at - 1);
            (0..60).for_each(|_| text.push('}'));
            text.push_str("return r; }\n");
        }
        let _ = write!(text, "fn f(x: u32) -> u32 {{ return g{calls}(x); }}");
        if is_taken {
            check(&text);
            continue;
        }
        for generator in [CodeGenerator::Interpreter, CodeGenerator::Cranelift] {
            let mut machine = Machine::new(generator, Duration::from_secs(60));
            let error = machine.run(&kernel(&text, None), &[numbers(8)], 0).unwrap_err();
            assert!(error.to_string().contains("nested deeper"), "{error}");
        }
    }
}

#[test]
fn every_length_of_a_block_is_computed_whole() {
    let mut pair = Pair::new();
    let texts = [
        "fn f(x: f64, y: u32, at: At) -> f64 { return x * f64(y) + f64(at.index[0]); }",
        "fn f(x: f32, y: bool) -> bool { return y || x > 1.0; }",
    ];
    for text in texts {
        let kernel = kernel(text, None);
        let dtypes: Vec<DType> = kernel.parameters().iter().map(|parameter| parameter.dtype).collect();
        for length in (1..40).chain([1023, 1024, 1025, 16_384, 16_385, 40_000]) {
            let leaves: Vec<Block> = super::values::tuples(&dtypes, length)
                .iter()
                .zip(&dtypes)
                .map(|(words, &dtype)| block(dtype, words))
                .collect();
            for literals in 0..3 {
                pair.compare(&kernel, &leaves, literals).unwrap_or_else(|error| panic!("{length}: {error}"));
            }
        }
    }
}
