//! The native pieces against their floors, in one run: random numbers against nothing, random + mean against bare
//! random, reductions against reading the same memory. Ratios are what counts; run it with
//! `cargo bench -p gridloom-worker --bench native`.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::Element;
use gridloom_worker::reduce::{Reducer, StopFlag, TILE};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::source::philox::{Philox, Uniform};
use gridloom_worker::stage::{ReduceOp, Reduction};

const ELEMENTS: u64 = 64 << 20;

fn main() {
    generator::<f64>("f64");
    generator::<f32>("f32");
    memory::<f64>("f64");
    memory::<f32>("f32");
}

fn reducer<T: Element>(op: ReduceOp) -> Reducer {
    Reducer::new(&Reduction { op, inputs: vec![T::DTYPE] }, &|_| None).unwrap()
}

/// The shortest of several runs.
fn seconds(mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..5).map(time).min().unwrap_or(Duration::MAX).as_secs_f64()
}

/// 64 rows of a million and a thousand rows of a thousand: a whole block each, in tiles.
fn generator<T: Element + Uniform + Default>(name: &str) {
    let philox = Philox::new(1, 2);
    let shape = Shape::new(&[64, 1000, 1000]).unwrap();
    let elements = shape.elements();
    let mut tile = vec![T::default(); TILE];
    let bare = seconds(|| {
        for first in (0..elements).step_by(2000) {
            philox.fill(first, &mut tile[..2000]);
            black_box(&tile);
        }
    });
    let giga = elements as f64 / 1e9;
    println!("uniform {name}: {:.2} G/s, {:.1} GB/s", giga / bare, giga * size_of::<T>() as f64 / bare);
    for axes in [[false, false, true], [true, false, false], [true, true, true]] {
        let reducer = reducer::<T>(ReduceOp::Mean);
        let fused = seconds(|| {
            let mut reduce = reducer.block(&shape, &Region::whole(&shape), &axes, &StopFlag::new());
            for run in reduce.sweep() {
                let values = &mut tile[..(run.end - run.start) as usize];
                philox.fill(run.start, values);
                reduce.feed::<T>(run, values);
            }
            black_box(reduce.partial().unwrap());
        });
        println!("  mean over {axes:?}: {:.2} G/s, {:.2} of bare", giga / fused, bare / fused);
    }
}

fn memory<T: Element + Uniform + Default>(name: &str) {
    let mut buffer = BufferMut::zeroed(ELEMENTS as usize * size_of::<T>());
    Philox::new(1, 2).fill(0, buffer.elements_mut::<T>());
    let block = Block::new(Item::Value(T::DTYPE), Shape::new(&[ELEMENTS]).unwrap(), buffer.freeze());
    let read = seconds(|| {
        let words: &[u64] = bytemuck::cast_slice(block.bytes());
        black_box(words.iter().fold(0u64, |sum, &word| sum.wrapping_add(word)));
    });
    let gigabytes = block.bytes().len() as f64 / 1e9;
    println!("read {name}: {:.1} GB/s", gigabytes / read);
    let patterns: [(&str, &[u64], &[bool]); 8] = [
        ("all", &[ELEMENTS], &[true]),
        ("last of 65536x1024", &[1 << 16, 1 << 10], &[false, true]),
        ("last of 64x1048576", &[64, 1 << 20], &[false, true]),
        ("last of 16Mx4", &[1 << 24, 4], &[false, true]),
        ("first of 8192x8192", &[8192, 8192], &[true, false]),
        ("first of 64x1048576", &[64, 1 << 20], &[true, false]),
        ("first of 16Mx4", &[1 << 24, 4], &[true, false]),
        ("middle of 512x256x512", &[512, 256, 512], &[false, true, false]),
    ];
    for op in
        [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Var { ddof: 0.0 }, ReduceOp::Min, ReduceOp::ArgMax, ReduceOp::Any]
    {
        for (pattern, lengths, axes) in patterns {
            let shape = Shape::new(lengths).unwrap();
            let values = block.elements::<T>();
            let reducer = reducer::<T>(op);
            let time = seconds(|| {
                let mut reduce = reducer.block(&shape, &Region::whole(&shape), axes, &StopFlag::new());
                for run in reduce.sweep() {
                    reduce.feed(run.clone(), &values[run.start as usize..run.end as usize]);
                }
                black_box(reduce.partial().unwrap());
            });
            println!("  {op:?} {name} {pattern}: {:.1} GB/s, {:.2} of read", gigabytes / time, read / time);
        }
    }
}
