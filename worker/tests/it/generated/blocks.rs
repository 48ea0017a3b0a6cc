//! Block kernels drawn from a grammar through both, and those that failed once.

mod grammar;

use std::sync::Arc;

use gridloom_worker::block::Block;
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};

use super::grammar::Chance;
use super::machine::{Pair, block};
use super::values::special;
use grammar::draw;

const SEEDS: u64 = 100;

fn kernel(text: &str) -> Result<Arc<TypedKernel>, String> {
    let source = KernelSource { kind: KernelKind::Block, text: text.to_owned(), entry: None, t: None };
    TypedKernel::compile(source).map(Arc::new).map_err(|error| error.rendered())
}

/// An input of floats and one of integers, as many as there are outputs.
fn inputs(length: usize, seed: u64) -> [Block; 2] {
    let mut chance = Chance(!seed);
    let floats = special(DType::F32);
    let floats: Vec<u64> = (0..length).map(|_| floats[chance.below(floats.len())]).collect();
    let integers: Vec<u64> = (0..length).map(|_| chance.next() % 1000).collect();
    [block(DType::F32, &floats), block(DType::U32, &integers)]
}

/// What became of a seed's kernel.
#[derive(PartialEq)]
enum Outcome {
    /// naga folds constants, and refuses those that overflow.
    NoKernel,
    Same,
    /// A barrier is missed, the same in both.
    Missed,
}

/// How the two differ over the seed's kernel, if they do.
fn run(pair: &mut Pair, seed: u64) -> Result<Outcome, String> {
    let drawn = draw(seed);
    let length = 1 + Chance(seed ^ 77).below(150);
    let kernel = match kernel(&drawn) {
        Ok(kernel) => kernel,
        Err(error) => {
            if std::env::var_os("GRIDLOOM_SHOW").is_some() {
                eprintln!("{error}");
            }
            return Ok(Outcome::NoKernel);
        }
    };
    match pair.compare_blocks(&kernel, &inputs(length, seed)) {
        Ok(Ok(())) => Ok(Outcome::Same),
        Ok(Err(ExecuteError::Barrier { .. })) => Ok(Outcome::Missed),
        Ok(Err(error)) => Err(format!("{error}, {length} elements\n{drawn}")),
        Err(difference) => Err(format!("{difference}, {length} elements\n{drawn}")),
    }
}

fn seed_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// ```text
/// GRIDLOOM_SEED=17 cargo test -p gridloom-worker --test it generated::blocks
/// GRIDLOOM_SEEDS=100000 cargo test --release -p gridloom-worker --test it generated::blocks
/// ```
#[test]
fn drawn_block_kernels_give_the_interpreters_bits() {
    let mut pair = Pair::new();
    if let Some(seed) = seed_from_environment("GRIDLOOM_SEED") {
        let outcome = run(&mut pair, seed).unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
        return assert!(outcome != Outcome::NoKernel, "seed {seed} draws no kernel:\n{}", draw(seed));
    }
    let seeds = seed_from_environment("GRIDLOOM_SEEDS").unwrap_or(SEEDS);
    let (mut none, mut missed, mut failed) = (0, 0, Vec::new());
    for seed in 0..seeds {
        match run(&mut pair, seed) {
            Ok(outcome) => {
                none += u64::from(outcome == Outcome::NoKernel);
                missed += u64::from(outcome == Outcome::Missed);
            }
            Err(difference) => failed.push((seed, difference)),
        }
    }
    // The shortest says most.
    failed.sort_by_key(|(_, difference)| difference.len());
    let all: Vec<u64> = failed.iter().map(|failed| failed.0).collect();
    assert!(failed.is_empty(), "seeds {all:?} differ; {}: {}", failed[0].0, failed[0].1);
    assert!(none < seeds / 2 && missed > 0 && missed < seeds / 3, "{none} are none, {missed} miss a barrier");
}

/// Checks a kernel over both inputs, of several lengths.
#[track_caller]
fn check(text: &str) {
    let (mut pair, kernel) = (Pair::new(), kernel(text).unwrap());
    for length in [1, 7, 64, 100] {
        let compared = pair.compare_blocks(&kernel, &inputs(length, 5));
        compared.and_then(|ran| ran.map_err(|error| error.to_string())).unwrap_or_else(|what| panic!("{what}\n{text}"));
    }
}

/// A kernel of `size` invocations, whose local index is `i` and whose own element is `at`.
fn around(size: &str, declared: &str, body: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
{declared}
@compute @workgroup_size({size}) fn f(@builtin(local_invocation_index) i: u32,
    @builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {{
    let at = id.x;
{body}
}}"
    )
}

#[test]
fn neighbours_that_count_up_are_loaded_as_vectors_wherever_they_end() {
    for size in ["1", "4", "8", "12", "64"] {
        check(&around(size, "", "y[at] = k[at - 1] + 2 * k[at + 1] + 3 * k[at] + 5 * k[at + 7];"));
        check(&around(size, "", "if at % 3 == 0 { y[at + 2] = k[at]; } else if at < 9 { y[at + 2] = 4; }"));
        check(&around(size, "", "let to = &y[i32(at) - 3]; *to = k[at] + arrayLength(&y);"));
    }
    let planes = "y[id.y * 8 + id.x] = k[(id.y + 1) * 8 + id.x] + k[id.y * 8 + id.x + 1];";
    check(&around("8, 8", "", planes));
}

#[test]
fn the_last_word_that_an_index_can_name_is_outside() {
    check(&around("4", "", "y[~1u] = 1; y[0xfffffff0u] = 2; y[at] = k[~1u] + k[at];"));
}

#[test]
fn words_of_several_kinds_share_workgroup_memory() {
    let declared = "struct S { a: f32, b: vec3<u32>, c: array<bool, 3>, d: i32 } var<workgroup> s: array<S, 8>;
        var<workgroup> m: mat2x2<f32>;";
    let body = "s[i].b[i % 4] = k[at]; s[i].c[i & 3] = k[at] > 500; s[i].d = -i32(i); s[i].a = x[at];
        if i == 3 { m[1].y = 4; }
        workgroupBarrier();
        let other = s[(i + 3) % 8];
        y[at] = other.b.x + 2 * other.b.z + u32(other.c[2]) + u32(other.d) + bitcast<u32>(other.a) + u32(m[k[at]].y);";
    check(&around("8", declared, body));
}

#[test]
fn what_atomics_give_back_is_in_lane_order() {
    let declared = "var<workgroup> next: atomic<u32>; var<workgroup> best: atomic<i32>;";
    let body = "let place = atomicAdd(&next, 1u);
        atomicMax(&best, i32(k[at]) - 500);
        workgroupBarrier();
        y[at] = place * 1000 + atomicLoad(&next) + u32(atomicLoad(&best));";
    for size in ["1", "5", "16"] {
        check(&around(size, declared, body));
    }
}
