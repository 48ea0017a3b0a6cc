//! Entry points over workgroups: phases, shared memory, atomics, and what is outside. Compiled ones do the same.

use super::*;
use crate::cpu::{CompiledBlock, compile_block};
use bytemuck::{Pod, cast_slice, cast_slice_mut};

fn block(text: &str) -> Result<BlockInterpreter, InterpretError> {
    BlockInterpreter::new(&validated(text), 0)
}

fn compiled(text: &str) -> CompiledBlock {
    let (module, info) = validated_with_info(text);
    compile_block(&module, &info, 0).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Runs machine code with room of its own to scribble in, which holds whatever it may.
fn run_compiled(
    code: &CompiledBlock,
    groups: [u32; 3],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    info: &[u8],
    stop: &StopFlag,
) -> Result<(), BlockError> {
    let mut scratch = vec![0xa5; code.scratch_bytes() as usize];
    code.run(groups, inputs, outputs, info, &mut scratch, stop)
}

/// Runs the one entry point of a text in the interpreter and as machine code: both give the same bits, or the same error.
#[track_caller]
fn run_both(
    text: &str,
    groups: [u32; 3],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    info: &[u8],
) -> Result<(), BlockError> {
    let mut copies: Vec<Vec<u8>> = outputs.iter().map(|output| output.to_vec()).collect();
    let mut copied: Vec<&mut [u8]> = copies.iter_mut().map(|copy| &mut copy[..]).collect();
    let found = run_compiled(&compiled(text), groups, inputs, &mut copied, info, &StopFlag::new());
    let block = block(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let expected = block.run(groups, inputs, outputs, info, &StopFlag::new());
    assert_eq!(found, expected, "{text}");
    if expected.is_ok() {
        let same = copies.iter().zip(&*outputs).all(|(copy, output)| copy == output);
        assert!(same, "{copies:?} instead of {outputs:?} by\n{text}");
    }
    expected
}

/// Runs the one entry point of a text. The last output is what is looked at.
fn run_groups<T: Pod, R: Pod>(
    text: &str,
    groups: [u32; 3],
    inputs: &[&[T]],
    output: &mut [R],
) -> Result<(), BlockError> {
    let inputs: Vec<&[u8]> = inputs.iter().map(|input| cast_slice(input)).collect();
    run_both(text, groups, &inputs, &mut [cast_slice_mut(output)], &[])
}

/// The output of one row of workgroups, of `length` elements.
#[track_caller]
fn ran<T: Pod, R: Pod + Default>(text: &str, groups: u32, inputs: &[&[T]], length: usize) -> Vec<R> {
    let mut output = vec![R::default(); length];
    run_groups(text, [groups, 1, 1], inputs, &mut output).unwrap_or_else(|error| panic!("{error}\n{text}"));
    output
}

/// Declarations of an input `x` and an output `y`.
fn buffers(input: &str, output: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read> x: array<{input}>;
         @group(0) @binding(1) var<storage, read_write> y: array<{output}>;\n"
    )
}

/// A kernel of `size` invocations with input `x`, output `y`, and the local index as `i`.
fn kernel(input: &str, output: &str, size: u32, declared: &str, body: &str) -> String {
    let buffers = buffers(input, output);
    format!(
        "{buffers}{declared}
         @compute @workgroup_size({size}) fn f(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) group: vec3<u32>) {{ {body} }}"
    )
}

const NONE: &[&[u32]] = &[&[]];

#[test]
fn a_tree_in_workgroup_memory_adds_up() {
    let tree = kernel(
        "f32",
        "f32",
        64,
        "var<workgroup> shared_sum: array<f32, 64>;",
        "let at = group.x * 64 + i;
         shared_sum[i] = x[at];
         workgroupBarrier();
         for (var half = 32u; half > 0; half /= 2) {
             if i < half { shared_sum[i] += shared_sum[i + half]; }
             workgroupBarrier();
         }
         if i == 0 { y[group.x] = shared_sum[0]; }",
    );
    let x: Vec<f32> = (0..160).map(|at| 1.0 / (at as f32 + 1.0)).collect();
    let expected: Vec<f32> = (0..3)
        .map(|group| {
            let mut sums: Vec<f32> = (0..64).map(|at| x.get(group * 64 + at).copied().unwrap_or(0.0)).collect();
            for half in [32, 16, 8, 4, 2, 1] {
                (0..half).for_each(|at| sums[at] += sums[at + half]);
            }
            sums[0]
        })
        .collect();
    assert_eq!(ran::<f32, f32>(&tree, 3, &[&x], 3), expected);
}

#[test]
fn a_histogram_with_atomics_counts() {
    let histogram = kernel(
        "u32",
        "atomic<u32>",
        16,
        "var<workgroup> counts: array<atomic<u32>, 8>;",
        "if i < 8 { atomicStore(&counts[i], 0u); }
         workgroupBarrier();
         for (var at = group.x * 16 + i; at < arrayLength(&x); at += 48) { atomicAdd(&counts[x[at] % 8], 1u); }
         workgroupBarrier();
         if i < 8 { atomicAdd(&y[i], atomicLoad(&counts[i])); }",
    );
    let x: Vec<u32> = (0..1000u32).map(|at| at.wrapping_mul(2_654_435_761) >> 7).collect();
    let mut expected = vec![0u32; 8];
    x.iter().for_each(|value| expected[(value % 8) as usize] += 1);
    assert_eq!(ran::<u32, u32>(&histogram, 3, &[&x], 8), expected);
}

#[test]
fn matrices_are_multiplied_in_tiles() {
    let text = "
        @group(0) @binding(0) var<storage, read> a: array<f64>;
        @group(0) @binding(1) var<storage, read> b: array<f64>;
        @group(0) @binding(2) var<storage, read_write> c: array<f64>;
        var<workgroup> tiles: array<array<array<f64, 4>, 4>, 2>;
        const N = 12u;
        @compute @workgroup_size(4, 4)
        fn f(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) own: vec3<u32>) {
            var sum = 0lf;
            for (var tile = 0u; tile < N / 4; tile++) {
                tiles[0][own.y][own.x] = a[id.y * N + tile * 4 + own.x];
                tiles[1][own.y][own.x] = b[(tile * 4 + own.y) * N + id.x];
                workgroupBarrier();
                for (var k = 0u; k < 4; k++) { sum += tiles[0][own.y][k] * tiles[1][k][own.x]; }
                workgroupBarrier();
            }
            c[id.y * N + id.x] = sum;
        }";
    let matrix = |seed: u64| (0..144u64).map(|at| ((at * seed) % 17) as f64 - 8.0).collect::<Vec<f64>>();
    let (a, b, mut c) = (matrix(7), matrix(11), vec![0f64; 144]);
    run_groups(text, [3, 3, 1], &[&a, &b], &mut c).unwrap();
    for (at, found) in c.iter().enumerate() {
        let expected: f64 = (0..12).map(|k| a[at / 12 * 12 + k] * b[k * 12 + at % 12]).sum();
        assert_eq!(*found, expected);
    }
}

/// What each built-in value is, by arithmetic on the invocation's number.
#[test]
fn invocations_are_told_where_they_stand() {
    let text = "
        struct Told { @builtin(local_invocation_id) own: vec3<u32>, @builtin(local_invocation_index) index: u32 }
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(3, 2, 2)
        fn f(@builtin(global_invocation_id) id: vec3<u32>, told: Told, @builtin(workgroup_id) group: vec3<u32>,
             @builtin(num_workgroups) groups: vec3<u32>) {
            let words = array(id.x, id.y, id.z, told.own.x, told.own.y, told.own.z, told.index,
                              group.x, group.y, group.z, groups.x, groups.y, groups.z);
            let at = (id.x + 6 * (id.y + 6 * id.z)) * 13;
            for (var k = 0u; k < 13; k++) { y[at + k] = words[k]; }
        }";
    let mut y = vec![0u32; 6 * 6 * 4 * 13];
    run_groups::<u32, u32>(text, [2, 3, 2], &[], &mut y).unwrap();
    for (at, words) in (0..).zip(y.chunks_exact(13)) {
        let (id, size, groups) = ([at % 6, at / 6 % 6, at / 36], [3, 2, 2], [2, 3, 2]);
        let own = [0, 1, 2].map(|axis| id[axis] % size[axis]);
        let index = own[0] + 3 * (own[1] + 2 * own[2]);
        let group = [0, 1, 2].map(|axis| id[axis] / size[axis]);
        assert_eq!(words, [&id[..], &own, &[index], &group, &groups].concat());
    }
}

/// Canaries around the output stay what they are.
#[test]
fn what_is_outside_reads_as_zero_and_takes_no_store() {
    let text = kernel(
        "f32",
        "f32",
        1,
        "",
        "let beyond = arrayLength(&y);
         for (var k = 0u; k < 64; k++) { y[beyond + k] = 7.0; y[0xffffffffu - k] = 8.0; y[0x40000000u + k] = 9.0; }
         for (var k = 1; k < 9; k++) { y[-k] = 6.0; }
         y[0] = x[arrayLength(&x)] + x[0xffffffffu - i] + x[i32(i) - 1] + 3.0;
         y[1] = x[3];",
    );
    let mut bytes = vec![0x5a5a_5a5au32; 96];
    bytes[40..44].fill(0);
    let x = [1.0f32, 2.0, 4.0, 8.0];
    let stop = StopFlag::new();
    for is_compiled in [false, true] {
        let (inputs, outputs): (&[&[u8]], &mut [&mut [u8]]) =
            (&[cast_slice(&x)], &mut [cast_slice_mut(&mut bytes[40..44])]);
        match is_compiled {
            false => block(&text).unwrap().run([1; 3], inputs, outputs, &[], &stop).unwrap(),
            true => run_compiled(&compiled(&text), [1; 3], inputs, outputs, &[], &stop).unwrap(),
        }
        assert_eq!(cast_slice::<u32, f32>(&bytes[40..44]), [3.0, 8.0, 0.0, 0.0]);
        assert!(bytes[..40].iter().chain(&bytes[44..]).all(|&word| word == 0x5a5a_5a5a));
        bytes[40..44].fill(0);
    }

    let atomics = "
        @group(0) @binding(0) var<storage, read_write> a: array<atomic<u32>>;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(1) fn f() {
            let far = arrayLength(&a) * 1000000000;
            y[0] = atomicAdd(&a[9], 5u) + atomicMax(&a[far], 5u) + atomicExchange(&a[4], 5u) + atomicLoad(&a[4]);
            let swapped = atomicCompareExchangeWeak(&a[4], 0u, 5u);
            y[1] = swapped.old_value + u32(swapped.exchanged);
            atomicStore(&a[4], 1u);
        }";
    let (mut a, mut y) = ([3u32; 4], [9u32; 2]);
    let mut outputs = [cast_slice_mut(&mut a), cast_slice_mut(&mut y)];
    run_both(atomics, [1; 3], &[], &mut outputs, &[]).unwrap();
    assert_eq!((a, y), ([3; 4], [0; 2]));
}

/// Vectors stop where a buffer does, whatever its length and wherever the vectors begin.
#[test]
fn what_is_around_an_output_stays_what_it_is() {
    for (size, offset) in [(64, "i - 3"), (64, "i + 5"), (12, "i - 1"), (5, "i + 1"), (16, "63 - i")] {
        let body = format!("let at = group.x * {size} + {offset}; y[at] = x[at] + x[at + 1] * 10 + x[at - 9];");
        let (text, x) = (kernel("u32", "u32", size, "", &body), [1u32; 40]);
        let code = compiled(&text);
        for length in 0..40 {
            let mut words = vec![0x5a5a_5a5au32; 120];
            let (inputs, outputs): (&[&[u8]], &mut [&mut [u8]]) =
                (&[cast_slice(&x[..length])], &mut [cast_slice_mut(&mut words[40..40 + length])]);
            run_compiled(&code, [8, 1, 1], inputs, outputs, &[], &StopFlag::new()).unwrap();
            let around = words[..40].iter().chain(&words[40 + length..]);
            assert!(around.copied().all(|word| word == 0x5a5a_5a5a), "{length} {body}");
        }
        run_groups(&text, [8, 1, 1], &[&x], &mut [0u32; 40]).unwrap();
    }
}

/// Fixed-length arrays clamp in workgroup and private memory as they do in functions.
#[test]
fn fixed_arrays_clamp_wherever_they_are() {
    let declared = "var<workgroup> w: array<u32, 4>; var<private> p: array<u32, 3>;";
    let text =
        kernel("u32", "u32", 1, declared, "w[x[0]] = 5; p[x[0] + 1] = 6; y[0] = w[3] * 100 + p[2] * 10 + w[x[1]];");
    assert_eq!(ran::<u32, u32>(&text, 1, &[&[77, 0xffff_ffff]], 1), [565]);
}

#[test]
fn private_variables_are_each_invocations_own_and_workgroup_memory_begins_as_zeros() {
    let declared = "var<private> own: u32 = 7; var<private> other: vec2<u32>; var<workgroup> w: array<vec2<u32>, 2>;
        fn bump() { own += 1; workgroupBarrier(); other.y += own; }";
    let body = "for (var k = 0u; k <= i; k++) { own += 10; }
        bump();
        bump();
        y[(group.x * 4 + i) * 2] = own * 1000 + other.y;
        y[(group.x * 4 + i) * 2 + 1] = w[1].x;
        workgroupBarrier();
        w[1] = vec2(9u);";
    let expected: Vec<u32> = (0..8)
        .flat_map(|at: u32| {
            let own = 7 + 10 * (at % 4 + 1);
            [(own + 2) * 1000 + own + 1 + own + 2, 0]
        })
        .collect();
    assert_eq!(ran::<u32, u32>(&kernel("u32", "u32", 4, declared, body), 2, NONE, 16), expected);
}

/// The places that invocations take in a queue tell in which order they run. Machine code may have another order.
#[test]
fn phases_are_run_by_one_invocation_after_the_other() {
    fn ran(text: &str, groups: u32, inputs: &[&[u32]], length: usize) -> Vec<u32> {
        let (mut output, inputs) = (vec![0u32; length], inputs.iter().map(|input| cast_slice(input)));
        let (inputs, outputs) = (inputs.collect::<Vec<&[u8]>>(), &mut [cast_slice_mut(&mut output)]);
        block(text).unwrap().run([groups, 1, 1], &inputs, outputs, &[], &StopFlag::new()).unwrap();
        output
    }
    let declared = "var<workgroup> next: atomic<u32>;
        fn note(i: u32, what: u32) { y[atomicAdd(&next, 1u)] = 10 * what + i; }";
    let straight = "note(i, 1u); note(i, 2u); if i < 2 { note(i, 3u); }";
    let noted = ran(&kernel("u32", "u32", 3, declared, straight), 1, NONE, 9);
    assert_eq!(noted, [10, 20, 30, 11, 21, 31, 12, 22, 0]);
    let parted = "note(i, 1u); note(i, 2u); workgroupBarrier(); note(i, 3u);";
    let noted = ran(&kernel("u32", "u32", 3, declared, parted), 1, NONE, 9);
    assert_eq!(noted, [10, 20, 11, 21, 12, 22, 30, 31, 32]);
    // A loop that holds a barrier is in step, one that does not is not.
    let looped =
        "for (var k = 1u; k < 3; k++) { note(i, k); storageBarrier(); } for (var k = 3u; k < 5; k++) { note(i, k); }";
    let noted = ran(&kernel("u32", "u32", 2, declared, looped), 1, NONE, 9);
    assert_eq!(noted, [10, 11, 20, 21, 30, 40, 31, 41, 0]);
}

#[test]
fn what_holds_barriers_is_left_by_every_door() {
    let declared = "var<workgroup> w: array<u32, 4>;
        fn turned(i: u32, by: u32) -> u32 {
            w[i] = i + by;
            workgroupBarrier();
            let other = w[(i + 1) % 4];
            workgroupBarrier();
            if by == 30 { return other; }
            return other + 1000;
        }";
    let body = "var sum = 0u;
        for (var k = 0u; k < 10; k++) {
            if k == 1 { continue; }
            switch k {
                case 0: { sum += turned(i, 10u); }
                case 2, 3: { if k == 3 { break; } sum += turned(i, 20u); }
                default: { if i < 9 { sum += turned(i, 30u); } break; }
            }
            if k == 4 { break; }
        }
        loop {
            sum += 10000;
            continuing { workgroupBarrier(); break if sum > 20000; }
        }
        y[i] = sum;";
    let expected: Vec<u32> = (0..4).map(|i: u32| 3 * ((i + 1) % 4) + 10 + 20 + 30 + 2000 + 20_000).collect();
    assert_eq!(ran::<u32, u32>(&kernel("u32", "u32", 4, declared, body), 1, NONE, 4), expected);
}

/// Invocations may part around a barrier that none of them reaches.
#[test]
fn a_barrier_that_nobody_reaches_does_no_harm() {
    let body = "var sum = i;
        if i % 2 == 0 { sum += 10; if x[0] == 5 { workgroupBarrier(); } sum += 100; } else { sum += 1000; }
        for (var k = 0u; k < i; k++) { if x[0] == 5 { workgroupBarrier(); } if k == 2 { break; } sum += 1; }
        switch i { case 1: { sum += 7; if x[0] == 5 { workgroupBarrier(); } } default: { if i == 2 { return; } } }
        y[i] = sum;";
    assert_eq!(ran::<u32, u32>(&kernel("u32", "u32", 5, "", body), 1, &[&[1]], 5), [110, 1009, 0, 1005, 116]);
}

#[test]
fn a_uniform_load_is_a_barrier_and_a_load() {
    let declared = "var<workgroup> flag: vec2<u32>;";
    let body = "if i == 2 { flag = vec2(i, 40 + i); }
        let seen = workgroupUniformLoad(&flag);
        if i == 1 { flag.y = 99; }
        y[i] = seen.x + seen.y;";
    assert_eq!(ran::<u32, u32>(&kernel("u32", "u32", 3, declared, body), 1, NONE, 3), [44; 3]);
}

#[track_caller]
fn check_missed(body: &str, name: &str, reached: usize) {
    let text = kernel("u32", "u32", 4, "var<workgroup> w: u32; fn g() { workgroupBarrier(); }", body);
    let error = run_groups::<u32, u32>(&text, [1; 3], &[&[3]], &mut [0; 4]).unwrap_err();
    let BlockError::Barrier(missed) = &error else { panic!("{error}") };
    assert_eq!((missed.name, missed.reached, missed.invocations), (name, reached, 4), "{body}");
    assert!(text[missed.offset..].starts_with(name), "{}", &text[missed.offset..]);
}

#[test]
fn a_barrier_that_not_all_reach_is_named() {
    check_missed("if i < x[0] { workgroupBarrier(); }", "workgroupBarrier", 3);
    check_missed("if i == 0 { return; } storageBarrier();", "storageBarrier", 3);
    check_missed("if i == 0 { g(); } else { g(); }", "workgroupBarrier", 1);
    check_missed("for (var k = 0u; k < i + 2; k++) { workgroupBarrier(); }", "workgroupBarrier", 3);
    check_missed("loop { if i == 1 { break; } workgroupBarrier(); break; }", "workgroupBarrier", 3);
    check_missed("switch i { case 3: { } default: { workgroupBarrier(); } }", "workgroupBarrier", 3);
    check_missed("if i < 2 { y[i] = workgroupUniformLoad(&w); }", "workgroupUniformLoad", 2);
    let error = run_groups::<u32, u32>(
        &kernel("u32", "u32", 4, "", "if i > 0 { workgroupBarrier(); }"),
        [1; 3],
        NONE,
        &mut [0; 4],
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "3 of a workgroup's 4 invocations reach a workgroupBarrier: control flow around a barrier is uniform"
    );
}

#[test]
fn atomics_do_what_their_names_say() {
    let body = "let old = array(
            atomicAdd(&a[0], -5i), atomicSub(&a[1], 7i), atomicMin(&a[2], -1i), atomicMax(&a[3], -1i), atomicAnd(&a[4], 12i),
            atomicOr(&a[5], 12i), atomicXor(&a[6], 12i), atomicExchange(&a[7], 12i), atomicCompareExchangeWeak(&a[8], 10i, 1i).old_value,
            atomicCompareExchangeWeak(&a[9], 11i, 1i).old_value);
        for (var k = 0u; k < 10; k++) { y[k] = old[k]; }
        y[10] = select(0i, 1i, atomicCompareExchangeWeak(&a[10], 10i, 3i).exchanged);
        y[11] = select(0i, 1i, atomicCompareExchangeWeak(&a[10], 10i, 3i).exchanged);";
    let text = format!(
        "@group(0) @binding(0) var<storage, read_write> a: array<atomic<i32>>;
         @group(0) @binding(1) var<storage, read_write> y: array<i32>;
         @compute @workgroup_size(1) fn f() {{ {body} }}"
    );
    let (mut a, mut y) = ([10i32; 11], [0i32; 12]);
    (a[0], a[1]) = (i32::MIN, i32::MIN);
    let mut outputs = [cast_slice_mut(&mut a), cast_slice_mut(&mut y)];
    run_both(&text, [1; 3], &[], &mut outputs, &[]).unwrap();
    let wrapped = [i32::MIN.wrapping_sub(5), i32::MIN.wrapping_sub(7)];
    assert_eq!(a, [wrapped[0], wrapped[1], -1, 10, 8, 14, 6, 12, 1, 10, 3]);
    assert_eq!(y, [i32::MIN, i32::MIN, 10, 10, 10, 10, 10, 10, 10, 10, 1, 0]);
}

#[test]
fn elements_of_every_width_and_nan_without_bits() {
    let copy = |dtype: &str| kernel(dtype, dtype, 1, "", "for (var k = 0u; k < arrayLength(&x); k++) { y[k] = x[k]; }");
    let integers = [u64::MAX, 1 << 63, 5];
    assert_eq!(ran::<u64, u64>(&copy("u64"), 1, &[&integers], 3), integers);
    assert_eq!(ran::<i64, i64>(&copy("i64"), 1, &[&[i64::MIN, -1]], 2), [i64::MIN, -1]);
    assert_eq!(ran::<i32, i32>(&copy("i32"), 1, &[&[i32::MIN, -1]], 2), [i32::MIN, -1]);
    let doubles = [f64::from_bits(0xfff0_0000_0000_0001), -0.0, f64::MIN_POSITIVE / 2.0];
    let found = ran::<f64, u64>(&copy("f64"), 1, &[&doubles], 3);
    assert_eq!(found, [0x7ff8_0000_0000_0000, (-0.0f64).to_bits(), doubles[2].to_bits()]);
    assert_eq!(ran::<f32, u32>(&copy("f32"), 1, &[&[f32::from_bits(0xffff_ffff)]], 1), [0x7fc0_0000]);
}

#[test]
fn the_block_info_is_bound_last() {
    let text = "struct Info { rank: u32, rows: array<array<u32, 2>, 2> }
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @group(0) @binding(1) var<storage, read> info: Info;
        @compute @workgroup_size(1) fn f() { let all = info; y[0] = all.rank; y[1] = info.rows[1][0]; y[2] = all.rows[1][1]; }";
    let mut y = [0u32; 3];
    let outputs = &mut [cast_slice_mut(&mut y)];
    run_both(text, [1; 3], &[], outputs, cast_slice(&[7u32, 1, 2, 3, 4])).unwrap();
    assert_eq!(y, [7, 3, 4]);
}

#[test]
fn endless_kernels_are_stopped() {
    let bodies = [
        "while x[0] < 9 { y[0] += 1; }",
        "while x[0] < 9 { workgroupBarrier(); }",
        "loop { if x[0] > 9 { break; } g(); }",
    ];
    for body in bodies {
        let text = kernel("u32", "u32", 4, "fn g() { workgroupBarrier(); }", body);
        for is_compiled in [false, true] {
            let (block, code, stop) = (block(&text).unwrap(), compiled(&text), StopFlag::new());
            let other = stop.clone();
            let thread = std::thread::spawn(move || {
                let mut y = [0u32];
                let (inputs, outputs): (&[&[u8]], &mut [&mut [u8]]) =
                    (&[cast_slice(&[1u32])], &mut [cast_slice_mut(&mut y)]);
                match is_compiled {
                    false => block.run([1; 3], inputs, outputs, &[], &other),
                    true => run_compiled(&code, [1; 3], inputs, outputs, &[], &other),
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!thread.is_finished(), "{body}");
            stop.raise();
            assert_eq!(thread.join().unwrap(), Err(BlockError::Stopped), "{body}");
        }
    }
}

#[test]
fn what_cannot_be_run_is_named() {
    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(block(text).err().map(|error| error.to_string()).as_deref(), Some(expected), "{text}");
    }
    let gap = "@group(0) @binding(1) var<storage, read_write> y: array<u32>; @compute @workgroup_size(1) fn f() { y[0] = 1; }";
    check_refused(gap, "a gap between bindings cannot be used here");
    let vectors = "@group(0) @binding(0) var<storage, read_write> y: array<vec2<u32>>; @compute @workgroup_size(1) fn f() { y[0].x = 1; }";
    check_refused(vectors, "buffer of structured values cannot be used here");
    let uniform = "@group(0) @binding(0) var<uniform> u: u32; @compute @workgroup_size(1) fn f() { var a = u; }";
    check_refused(uniform, "a buffer or other resource cannot be used here");
    let large = kernel("u32", "u32", 1024, "", "var a: array<u32, 100000>; a[i] = 1; y[0] = a[x[0]];");
    check_refused(&large, "the variables of a workgroup's invocations take more than 268435456 bytes");
}
