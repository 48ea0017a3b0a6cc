//! The native pieces beside their floors: random + mean beside bare random numbers, reductions beside reading the same
//! memory. Each pair is measured in turns, so that what else the machine does slows both; the ratios are what counts.
//! `cargo bench -p gridloom-worker --bench native [part of a name]`

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::Element;
use gridloom_worker::reduce::{Reducer, StopFlag, TILE};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::source::philox::{Philox, Uniform};
use gridloom_worker::stage::{ReduceOp, Reduction};

const ELEMENTS: u64 = 64 << 20;
const TURNS: usize = 7;

/// Name, lengths, axes: 64M elements each.
const PATTERNS: [(&str, &[u64], &[bool]); 8] = [
    ("all", &[ELEMENTS], &[true]),
    ("last of 65536x1024", &[1 << 16, 1 << 10], &[false, true]),
    ("last of 64x1048576", &[64, 1 << 20], &[false, true]),
    ("last of 16777216x4", &[1 << 24, 4], &[false, true]),
    ("first of 8192x8192", &[1 << 13, 1 << 13], &[true, false]),
    ("first of 64x1048576", &[64, 1 << 20], &[true, false]),
    ("first of 16777216x4", &[1 << 24, 4], &[true, false]),
    ("middle of 512x256x512", &[512, 256, 512], &[false, true, false]),
];

const OPS: [ReduceOp; 5] =
    [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Var { ddof: 0.0 }, ReduceOp::Min, ReduceOp::ArgMax];

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    generator::<f64>("f64", &wanted);
    generator::<f32>("f32", &wanted);
    memory::<f64>("f64", &wanted);
    memory::<f32>("f32", &wanted);
}

/// The shortest seconds of each, in turns.
fn in_turns(mut floor: impl FnMut(), mut work: impl FnMut()) -> [f64; 2] {
    let mut shortest = [f64::INFINITY; 2];
    for _ in 0..TURNS {
        let begun = Instant::now();
        floor();
        let between = Instant::now();
        work();
        shortest[0] = shortest[0].min((between - begun).as_secs_f64());
        shortest[1] = shortest[1].min(between.elapsed().as_secs_f64());
    }
    shortest
}

fn reducer<T: Element>(op: ReduceOp) -> Reducer {
    Reducer::new(&Reduction { op, inputs: vec![T::DTYPE] }, &|_| None).expect("a built-in reduction needs no kernel")
}

/// Reduces a whole array whose values `values` gives run by run.
fn reduce<'a, T: Element>(
    reducer: &Reducer,
    shape: &Shape,
    axes: &[bool],
    mut values: impl FnMut(u64, usize) -> &'a [T],
) {
    let mut block = reducer.block(shape, &Region::whole(shape), axes, &StopFlag::new());
    for run in block.sweep() {
        let values = values(run.start, (run.end - run.start) as usize);
        block.feed(run, values);
    }
    black_box(block.partial().expect("memory for the partial"));
}

/// The Dask lesson's block: random numbers and their mean, in one thread.
fn generator<T: Element + Uniform>(name: &str, wanted: &str) {
    let (philox, reducer) = (Philox::new(1, 2), reducer::<T>(ReduceOp::Mean));
    let shape: Shape = [64, 1000, 1000].into_iter().collect();
    let giga = shape.elements() as f64 / 1e9;
    for axes in [[false, false, true], [true, false, false], [true, true, true]] {
        let label = format!("random + mean {name} over {axes:?}");
        if !label.contains(wanted) {
            continue;
        }
        let mut tile = [T::default(); TILE];
        let bare = || {
            for first in (0..shape.elements()).step_by(TILE) {
                philox.fill(first, &mut tile);
                black_box(&tile);
            }
        };
        let mut fused_tile = [T::default(); TILE];
        let fused = || {
            let mut block = reducer.block(&shape, &Region::whole(&shape), &axes, &StopFlag::new());
            for run in block.sweep() {
                let values = &mut fused_tile[..(run.end - run.start) as usize];
                philox.fill(run.start, values);
                block.feed::<T>(run, values);
            }
            black_box(block.partial().expect("memory for the partial"));
        };
        let [bare, fused] = in_turns(bare, fused);
        let bytes = size_of::<T>() as f64;
        println!(
            "{label}: {:.2} of bare ({:.2} of {:.2} G/s, {:.1} GB/s)",
            bare / fused,
            giga / fused,
            giga / bare,
            giga * bytes / bare
        );
    }
}

/// Reductions of 64M elements in memory, in one thread.
fn memory<T: Element + Uniform>(name: &str, wanted: &str) {
    let mut buffer = BufferMut::zeroed(ELEMENTS as usize * size_of::<T>());
    Philox::new(1, 2).fill(0, buffer.elements_mut::<T>());
    let block = Block::new(Item::Value(T::DTYPE), [ELEMENTS].into_iter().collect(), buffer.freeze());
    let words: &[u64] = bytemuck::cast_slice(block.bytes());
    let gigabytes = block.bytes().len() as f64 / 1e9;
    for op in OPS {
        for (pattern, lengths, axes) in PATTERNS {
            let label = format!("{op:?} {name} {pattern}");
            if !label.contains(wanted) {
                continue;
            }
            let (reducer, shape) = (reducer::<T>(op), lengths.iter().copied().collect::<Shape>());
            let values = block.elements::<T>();
            let [read, time] = in_turns(
                || _ = black_box(words.iter().fold(0u64, |sum, &word| sum.wrapping_add(word))),
                || reduce(&reducer, &shape, axes, |start, len| &values[start as usize..start as usize + len]),
            );
            println!("{label}: {:.2} of read ({:.1} of {:.1} GB/s)", read / time, gigabytes / time, gigabytes / read);
        }
    }
}
