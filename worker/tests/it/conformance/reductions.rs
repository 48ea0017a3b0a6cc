//! Reductions in a block: every operation, dtype and pattern of axes, and what CPUs make of the partials.

use std::sync::Arc;

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};
use gridloom_worker::reduce::{accumulator, result_dtypes};
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{Body, ChunkStep, Distribution, Fold, Leaf, Map, Program, ReduceOp, Reduction};

use super::executors::{check, check_lesser_gpus, defined};
use super::harness::{Array, Work, element, id, map, shape, work};
use super::maps::small;
use super::sources;
use super::tolerance::Tolerance;

const OPERATIONS: [ReduceOp; 12] = [
    ReduceOp::Sum,
    ReduceOp::Prod,
    ReduceOp::Mean,
    ReduceOp::Var { ddof: 0.0 },
    ReduceOp::Std { ddof: 1.0 },
    ReduceOp::Min,
    ReduceOp::Max,
    ReduceOp::Any,
    ReduceOp::All,
    ReduceOp::CountNonzero,
    ReduceOp::ArgMin,
    ReduceOp::ArgMax,
];

/// Whether both must give the same bits: whatever is not added in floats.
fn is_exact(op: ReduceOp, dtype: DType) -> bool {
    match op {
        ReduceOp::Sum | ReduceOp::Prod => !dtype.is_float(),
        ReduceOp::Mean | ReduceOp::Var { .. } | ReduceOp::Std { .. } => false,
        _ => true,
    }
}

fn reduced(grid: Grid, leaf: Leaf, reduction: Reduction, axes: &[bool], finish: bool, arrays: Vec<Array>) -> Work {
    let outputs = match finish {
        true => result_dtypes(&reduction).into_iter().map(Item::Value).collect(),
        false => vec![accumulator(&reduction)],
    };
    let reduce = Some(ChunkStep { reduction, axes: axes.to_vec(), finish });
    let body = Body::Map(Map { grid, leaves: vec![leaf], program: Program::identity(), reduce });
    work(body, outputs, Vec::new(), arrays)
}

/// One block, reduced and finished; and where it is exact, its partials too.
#[track_caller]
fn check_reduction(op: ReduceOp, dtype: DType, whole: &Shape, axes: &[bool], word: impl Fn(u64) -> u64) {
    let name = format!("{op:?} of {dtype} {whole} over {axes:?}");
    let reduction = Reduction { op, inputs: vec![dtype] };
    let grid = Grid::regular(whole, whole);
    let array = Array::new(1, dtype, grid.clone(), word);
    // Sums are made in f64 in another order: f32 results differ by their rounding at most, f64 ones by a few.
    let tolerance = match (is_exact(op, dtype), dtype) {
        (true, _) => Tolerance::Exact,
        (false, DType::F32) => Tolerance::Ulps(1),
        (false, _) => Tolerance::Ulps(64),
    };
    let make = |finish| reduced(grid.clone(), array.leaf(), reduction.clone(), axes, finish, vec![array.clone()]);
    check(&name, &make(true), tolerance);
    if is_exact(op, dtype) {
        check(&format!("{name}, partials"), &make(false), Tolerance::Exact);
    }
}

/// The largest of each of 30 rows of 70,000 random numbers, in blocks of 16 rows.
pub(crate) fn largest_of_rows() -> Work {
    let whole = shape(&[30, 70_000]);
    let reduction = Reduction { op: ReduceOp::Max, inputs: vec![DType::F32] };
    let leaf = sources::leaf(DType::F32, sources::random(Distribution::Uniform, DType::F32, &whole), &whole);
    reduced(Grid::regular(&whole, &[16, 70_000]), leaf, reduction, &[false, true], true, Vec::new())
}

/// Partial means of 70 times 40,000 random numbers.
pub(crate) fn mean_of_random(axes: &[bool; 2]) -> Work {
    let whole = shape(&[70, 40_000]);
    let reduction = Reduction { op: ReduceOp::Mean, inputs: vec![DType::F32] };
    let leaf = sources::leaf(DType::F32, sources::random(Distribution::Uniform, DType::F32, &whole), &whole);
    reduced(Grid::single(&whole), leaf, reduction, axes, false, Vec::new())
}

#[test]
fn every_operation_on_every_dtype() {
    for op in OPERATIONS {
        for dtype in DType::ALL {
            for (lengths, axes) in
                [(&[1000][..], &[true][..]), (&[40, 50], &[false, true]), (&[40, 50], &[true, false])]
            {
                check_reduction(op, dtype, &shape(lengths), axes, small(dtype));
            }
        }
    }
}

/// Kept and reduced axes in every order, some of length 1, and lengths around every limit of the tree.
#[test]
fn every_pattern_of_axes() {
    for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::ArgMin] {
        for axes in 0..16u32 {
            let marks: Vec<bool> = (0..4).map(|axis| axes >> axis & 1 == 1).collect();
            for lengths in [[5, 7, 3, 70], [70, 1, 40, 2]] {
                check_reduction(op, DType::I32, &shape(&lengths), &marks, small(DType::I32));
            }
        }
        for length in [1, 2, 63, 64, 65, 127, 255, 256, 257, 16_383, 16_384, 16_385, 70_000, 2_000_003] {
            check_reduction(op, DType::I64, &shape(&[length]), &[true], small(DType::I64));
            if length < 100_000 {
                check_reduction(op, DType::I64, &shape(&[length, 33]), &[true, false], small(DType::I64));
                check_reduction(op, DType::U32, &shape(&[2, length, 3]), &[false, true, false], small(DType::U32));
            }
        }
    }
}

/// NaN wins, -0.0 is below +0.0 to min and max and equal to it to the others; NaN is true.
#[test]
fn floats_at_the_edges() {
    let narrow = [0x7fc0_0000, 0x8000_0000, 0, 0x7f80_0000, 0xff80_0000, 1, 0x8000_0001, 0xffc0_0001];
    let wide = [0x7ff8 << 48, 1 << 63, 0, 0x7ff0 << 48, 0xfff0 << 48, 1, 1 << 63 | 1, 0xfff8 << 48 | 1];
    for op in OPERATIONS.into_iter().filter(|&op| is_exact(op, DType::F32)) {
        // Every subset of the patterns, one a row.
        let pick = |index: u64| {
            let (subset, at) = (index / 8, index % 8);
            let chosen: Vec<usize> = (0..8).filter(|bit| (subset + 1) >> bit & 1 == 1).collect();
            chosen[at as usize % chosen.len()]
        };
        check_reduction(op, DType::F32, &shape(&[255, 8]), &[false, true], |index| narrow[pick(index)]);
        check_reduction(op, DType::F64, &shape(&[255, 8]), &[false, true], |index| wide[pick(index)]);
    }
}

/// What f32 does not hold, and what f64 makes of it: sums beyond f32's range that come back, numbers that only f64 keeps
/// beside others, subnormal ones, infinities and NaN. Software Vulkan takes inf - inf for 0 in floats, but not in words.
#[test]
fn floats_at_the_edges_are_added_without_f64() {
    let rows: [&[f32]; 8] = [
        &[3e38, 3e38, 3e38, -3e38, -3e38, 1.0],
        &[1e9, 1.0, -1e9, 0.5],
        &[1e-45, -1e-38, 2e-45, 0.0],
        &[-0.0, -0.0],
        &[f32::INFINITY, 1.0, -3e38],
        &[f32::INFINITY, 2.0, f32::NEG_INFINITY],
        &[1.0, f32::NAN, f32::INFINITY],
        &[16_777_216.0, 1.0, 1.0, 1.0, -0.1],
    ];
    for op in OPERATIONS.into_iter().filter(|&op| !is_exact(op, DType::F32)) {
        // Products of many are infinite, or nothing, or neither: it depends on what comes first.
        for length in [1, 6, 300, 20_000].into_iter().filter(|&length| op != ReduceOp::Prod || length < 10) {
            let whole = shape(&[rows.len() as u64, length]);
            let grid = Grid::regular(&whole, &whole);
            let word = |index: u64| {
                let row = rows[(index / length) as usize];
                u64::from(row[(index % length) as usize % row.len()].to_bits())
            };
            let array = Array::new(1, DType::F32, grid.clone(), word);
            let reduction = Reduction { op, inputs: vec![DType::F32] };
            let work = reduced(grid, array.leaf(), reduction, &[false, true], true, vec![array]);
            let name = format!("{op:?} of {length} at the edges");
            check_lesser_gpus(&name, &work, &defined(&work), Tolerance::Ulps(1));
        }
    }
}

/// f32 without f64: the very bits of f64 that are added on the host in the same order.
#[test]
fn sums_without_f64_are_sums_of_f64() {
    for length in [1, 63, 64, 65, 255, 257, 16_384, 16_385, 70_000] {
        // Of all sizes, so that every addition rounds.
        let value = |index: u64| {
            let size = (index * 2_654_435_761 % 41) as i32 - 20;
            (index as f32 * 0.7).sin() * 2f32.powi(size)
        };
        let whole = shape(&[length]);
        let grid = Grid::regular(&whole, &whole);
        let array = Array::new(1, DType::F32, grid.clone(), |index| u64::from(value(index).to_bits()));
        let reduction = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F32] };
        let work = reduced(grid, array.leaf(), reduction, &[true], false, vec![array]);
        let values: Vec<f64> = (0..length).map(|index| f64::from(value(index))).collect();
        let mut buffer = BufferMut::zeroed(8);
        buffer.bytes_mut().copy_from_slice(&sum_by_lanes(&values).to_le_bytes());
        let expected = vec![vec![Block::new(Item::Partial { bytes: 8 }, shape(&[]), buffer.freeze())]];
        check_lesser_gpus(&format!("sum of {length} in order"), &work, &expected, Tolerance::Exact);
    }
}

/// The tree of a GPU: chunks of 256 lanes that are halved, and what chunks give in runs of 64; few elements in a row.
fn sum_by_lanes(values: &[f64]) -> f64 {
    let in_order = |values: &[f64]| values.iter().copied().reduce(|a, b| a + b).unwrap();
    if values.len() <= 64 {
        return in_order(values);
    }
    let chunk = |chunk: &[f64]| {
        let lane = |lane: usize| chunk[lane..].iter().copied().step_by(256).reduce(|a, b| a + b).unwrap();
        let mut lanes: Vec<f64> = (0..chunk.len().min(256)).map(lane).collect();
        for half in (0..8).rev().map(|bit| 1 << bit) {
            for upper in half..lanes.len().min(2 * half) {
                lanes[upper - half] += lanes[upper];
            }
        }
        lanes[0]
    };
    let mut sums: Vec<f64> = values.chunks(64 * 256).map(chunk).collect();
    while sums.len() > 1 {
        sums = sums.chunks(64).map(in_order).collect();
    }
    sums[0]
}

/// Places of arg-reductions are those of the array, whatever the block; and folds on the host join what blocks gave.
#[test]
fn partials_of_blocks_fold() {
    for op in OPERATIONS {
        for dtype in [DType::F32, DType::I32, DType::U64] {
            let whole = shape(&[60, 90]);
            let grid = Grid::regular(&whole, &[32, 40]);
            let reduction = Reduction { op, inputs: vec![dtype] };
            let array = Array::new(1, dtype, grid.clone(), small(dtype));
            let chunks = reduced(grid, array.leaf(), reduction.clone(), &[true, true], false, vec![array]);
            let tolerance = if is_exact(op, dtype) { Tolerance::Exact } else { Tolerance::Ulps(64) };
            if tolerance == Tolerance::Exact {
                check(&format!("blocks of {op:?} of {dtype}"), &chunks, Tolerance::Exact);
            }
            let blocks = defined(&chunks).into_iter().map(|fields| fields[0].clone()).collect();
            let kept = Grid::regular(&shape(&[]), &[]);
            let fold = Fold {
                input: id(2),
                reduction: reduction.clone(),
                kept: kept.clone(),
                count: 6,
                fan_in: 8,
                finish: true,
            };
            let outputs = result_dtypes(&reduction).into_iter().map(Item::Value).collect();
            let partials = Array { id: id(2), grid: kept, dtype, blocks };
            check(
                &format!("fold of {op:?} of {dtype}"),
                &work(Body::Fold(fold), outputs, Vec::new(), vec![partials]),
                Tolerance::Exact,
            );
        }
    }
}

/// Reduction kernels: accumulators with vectors, nested structs, arrays and padding, over integers, for which any tree
/// gives the same bits.
#[test]
fn users_reductions() {
    let plain = "fn identity() -> T { return 0; } fn lift(x: T) -> T { return x * x; }
        fn combine(a: T, b: T) -> T { return a ^ b; } fn finish(a: T) -> T { return a + 1; }";
    let rich = "
        struct Inner { least: T, @size(12) greatest: T }
        struct Acc { n: u32, inner: Inner, sums: vec3<u32>, bins: array<u32, 2> }
        struct R { least: T, n: u32, odd: bool }
        fn identity() -> Acc { return Acc(); }
        fn at(x: T) -> Inner { return Inner(x, x); }
        fn lift(x: T) -> Acc { return Acc(1u, at(x), vec3(u32(x), u32(x) * 3u, 7u), array<u32, 2>(u32(x) & 1u, 1u)); }
        fn combine(a: Acc, b: Acc) -> Acc {
            let least = select(a.inner.least, b.inner.least, b.inner.least < a.inner.least);
            let greatest = select(a.inner.greatest, b.inner.greatest, b.inner.greatest > a.inner.greatest);
            let bins = array<u32, 2>(a.bins[0] + b.bins[0], a.bins[1] + b.bins[1]);
            return Acc(a.n + b.n, Inner(least, greatest), a.sums + b.sums, bins);
        }
        fn finish(a: Acc) -> R { return R(a.inner.greatest - a.inner.least, a.n + a.sums.y, a.bins[0] % 2u == 1u); }";
    for (text, dtype) in [(plain, DType::U32), (plain, DType::I64), (rich, DType::I32), (rich, DType::U32)] {
        for (lengths, axes) in [(&[3000][..], &[true][..]), (&[20, 300], &[false, true]), (&[300, 40], &[true, false])]
        {
            let kernel = reduction_kernel(text, dtype);
            let grid = Grid::regular(&shape(lengths), lengths);
            let array = Array::new(1, dtype, grid.clone(), small(dtype));
            let bytes = kernel.reduction().unwrap().signature.accumulator.bytes;
            let reduction = Reduction { op: ReduceOp::User(kernel.hash()), inputs: vec![dtype] };
            for finish in [false, true] {
                let reduce = Some(ChunkStep { reduction: reduction.clone(), axes: axes.to_vec(), finish });
                let leaves = vec![array.leaf()];
                let body = Body::Map(Map { grid: grid.clone(), leaves, program: Program::identity(), reduce });
                let outputs = match finish {
                    true => kernel.results().iter().map(|field| Item::Value(field.dtype)).collect(),
                    false => vec![Item::Partial { bytes }],
                };
                let made = work(body, outputs, vec![kernel.clone()], vec![array.clone()]);
                check(&format!("user reduction of {dtype} {lengths:?}, finished: {finish}"), &made, Tolerance::Exact);
            }
        }
    }
}

fn reduction_kernel(text: &str, t: DType) -> Arc<TypedKernel> {
    let source = KernelSource { kind: KernelKind::Reduction, text: text.to_owned(), entry: None, t: Some(t) };
    Arc::new(TypedKernel::compile(source).unwrap_or_else(|error| panic!("{}", error.rendered())))
}

/// A kernel before the reduction, whose result goes straight in.
#[test]
fn maps_are_reduced_in_one_stage() {
    for (op, tolerance) in [
        (ReduceOp::Max, Tolerance::Exact),
        (ReduceOp::CountNonzero, Tolerance::Exact),
        (ReduceOp::Mean, Tolerance::Ulps(4)),
    ] {
        let grid = Grid::regular(&shape(&[70, 90]), &[70, 32]);
        let array = Array::new(1, DType::I32, grid.clone(), small(DType::I32));
        let kernel =
            element("fn f(x: i32, at: At) -> i32 { return x * i32(at.index[1]) + i32(at.index[0]); }", DType::I32);
        let map = map(grid, vec![array.leaf()], Some(kernel.clone()), vec![array.clone()]);
        let Body::Map(map) = &map.stage.body else { unreachable!("it is a map") };
        let reduction = Reduction { op, inputs: vec![DType::I32] };
        let outputs = result_dtypes(&reduction).into_iter().map(Item::Value).collect();
        let reduce = Some(ChunkStep { reduction, axes: vec![true, false], finish: true });
        let body = Body::Map(Map { reduce, ..map.clone() });
        check(&format!("map and {op:?}"), &work(body, outputs, vec![kernel], vec![array]), tolerance);
    }
}
