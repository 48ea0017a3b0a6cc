//! Drawn kernels through both, and those that failed once.

use std::sync::Arc;

use gridloom_worker::block::Block;
use gridloom_worker::dtype::DType;
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};

use super::grammar::{Chance, Numbers, draw};
use super::machine::{Pair, block};
use super::values::special;

const SEEDS: u64 = 300;
/// On a GPU, whose driver takes its time to compile.
const SEEDS_ON_GPU: u64 = 60;
/// Several gangs and a rest.
const ELEMENTS: usize = 70;

/// Elements of these dtypes: special ones, in an order of the seed's.
fn leaves(dtypes: &[DType], seed: u64) -> Vec<Block> {
    let mut chance = Chance(!seed);
    let mut leaf = |&dtype: &DType| {
        let special = special(dtype);
        let words: Vec<u64> = (0..ELEMENTS).map(|_| special[chance.below(special.len())]).collect();
        block(dtype, &words)
    };
    dtypes.iter().map(&mut leaf).collect()
}

/// Whether the seed's kernel is one, and how the two differ over it if they do.
fn run(pair: &mut Pair, numbers: Numbers, seed: u64) -> (bool, Result<(), String>) {
    let drawn = draw(seed, numbers);
    let source = KernelSource { kind: KernelKind::Element, text: drawn.text, entry: Some("f".to_owned()), t: None };
    match TypedKernel::compile(source.clone()) {
        Err(error) => {
            if std::env::var_os("GRIDLOOM_SHOW").is_some() {
                eprintln!("{error}");
            }
            (false, Ok(()))
        }
        Ok(kernel) => {
            let compared = pair.compare(&Arc::new(kernel), &leaves(&drawn.parameters, seed), (seed % 2) as usize);
            (true, compared.map_err(|difference| format!("{difference}\n{}", source.text)))
        }
    }
}

fn seed_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// As many kernels as `GRIDLOOM_SEEDS` says, else `wanted`; or the one of `GRIDLOOM_SEED`.
fn check(mut pair: Pair, numbers: Numbers, wanted: u64) {
    if let Some(seed) = seed_from_environment("GRIDLOOM_SEED") {
        let (is_kernel, compared) = run(&mut pair, numbers, seed);
        assert!(is_kernel, "seed {seed} draws no kernel:\n{}", draw(seed, numbers).text);
        return compared.unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
    }
    let wanted = seed_from_environment("GRIDLOOM_SEEDS").unwrap_or(wanted);
    let (mut kernels, mut failed) = (0, Vec::new());
    let mut seed = 0;
    while kernels < wanted && failed.len() < 10 {
        let (is_kernel, compared) = run(&mut pair, numbers, seed);
        kernels += u64::from(is_kernel);
        if let Err(difference) = compared {
            failed.push((seed, difference));
        }
        seed += 1;
        assert!(seed < 100 || kernels * 4 > seed, "the grammar draws {kernels} kernels of {seed} texts");
    }
    // The shortest says most.
    failed.sort_by_key(|(_, difference)| difference.len());
    let seeds: Vec<u64> = failed.iter().map(|failed| failed.0).collect();
    assert!(failed.is_empty(), "seeds {seeds:?} differ; {}: {}", failed[0].0, failed[0].1);
}

/// ```text
/// GRIDLOOM_SEED=17 cargo test -p gridloom-worker --test it give_the_interpreters_bits
/// GRIDLOOM_SEEDS=100000 cargo test --release -p gridloom-worker --test it give_the_interpreters_bits
/// ```
#[test]
fn drawn_kernels_give_the_interpreters_bits() {
    check(Pair::new(), Numbers::All, SEEDS);
}

/// ```text
/// GRIDLOOM_SEED=17 cargo test -p gridloom-worker --test it give_the_same_on_a_gpu
/// GRIDLOOM_SEEDS=10000 cargo test --release -p gridloom-worker --test it give_the_same_on_a_gpu
/// ```
#[test]
fn drawn_kernels_give_the_same_on_a_gpu() {
    if let Some(pair) = Pair::with_gpu() {
        check(pair, Numbers::Exact, SEEDS_ON_GPU);
    }
}
