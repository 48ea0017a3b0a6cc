//! The reductions against a slow reference of the documented tree, bit for bit, and against oracles that know no tree.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::grid::Grid;
use crate::kernel::{KernelKind, KernelSource};
use crate::with_element;

const OPS: [ReduceOp; 12] = [
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

fn shape(lengths: &[u64]) -> Shape {
    Shape::new(lengths).unwrap()
}

fn reduction(op: ReduceOp, input: DType) -> Reduction {
    Reduction { op, inputs: vec![input] }
}

fn reducer(op: ReduceOp, input: DType) -> Reducer {
    Reducer::new(&reduction(op, input), &|_| None).unwrap()
}

/// The partial of one block of an array, given the array's values.
fn partial<T: Element>(op: ReduceOp, array: &Shape, region: &Region, axes: &[bool], values: &[T]) -> Block {
    let block: Vec<T> = region.indices().map(|index| values[array.linear(&index) as usize]).collect();
    let mut reduce = reducer(op, T::DTYPE).block(array, region, axes, &StopFlag::new());
    for run in reduce.sweep() {
        reduce.feed(run.clone(), &block[run.start as usize..run.end as usize]);
    }
    reduce.partial().unwrap()
}

fn whole<T: Element>(op: ReduceOp, shape: &Shape, axes: &[bool], values: &[T]) -> Block {
    let partial = partial(op, shape, &Region::whole(shape), axes, values);
    assert_eq!(partial.item, accumulator(&reduction(op, T::DTYPE)));
    let result = reducer(op, T::DTYPE).finish(&partial, &StopFlag::new()).unwrap().remove(0);
    assert_eq!(result.item, Item::Value(result_dtypes(&reduction(op, T::DTYPE))[0]));
    result
}

/// What each result is made of, in row-major order of the reduced axes.
fn groups<T: Copy>(shape: &Shape, axes: &[bool], values: &[T]) -> Vec<Vec<T>> {
    let kept: Shape = shape.iter().zip(axes).map(|(&length, &reduced)| if reduced { 1 } else { length }).collect();
    let mut groups = vec![Vec::new(); kept.elements() as usize];
    for (index, &value) in Region::whole(shape).indices().zip(values) {
        let at: Shape = index.iter().zip(axes).map(|(&at, &reduced)| if reduced { 0 } else { at }).collect();
        groups[kept.linear(&at) as usize].push(value);
    }
    groups
}

/// The documented tree, written down as plainly as can be.
mod reference {
    /// `row` and `columns` of the module's documentation.
    pub(super) fn row_and_columns(shape: &[u64], axes: &[bool]) -> (usize, usize) {
        let mut rest: Vec<(u64, bool)> =
            shape.iter().copied().zip(axes.iter().copied()).filter(|&(length, _)| length > 1).collect();
        let mut innermost = |kind: bool| {
            let mut length = 1;
            while let Some((last, _)) = rest.pop_if(|&mut (_, reduced)| reduced == kind) {
                length *= last;
            }
            length as usize
        };
        (innermost(true), innermost(false))
    }

    pub(super) fn tree<V: Clone>(nodes: &[V], join: &dyn Fn(&V, &V) -> V) -> V {
        match nodes {
            [one] => one.clone(),
            many => {
                let (a, b) = many.split_at(many.len().next_power_of_two() / 2);
                join(&tree(a, join), &tree(b, join))
            }
        }
    }

    pub(super) fn by_lanes<V: Clone>(nodes: &[V], lanes: usize, join: &dyn Fn(&V, &V) -> V) -> V {
        let mut sums: Vec<V> = nodes[..lanes.min(nodes.len())].to_vec();
        for (at, node) in nodes.iter().enumerate().skip(lanes) {
            sums[at % lanes] = join(&sums[at % lanes], node);
        }
        let mut half = lanes / 2;
        while half > 0 {
            for lane in 0..half {
                if lane + half < sums.len() {
                    sums[lane] = join(&sums[lane], &sums[lane + half]);
                }
            }
            sums.truncate(half);
            half /= 2;
        }
        sums[0].clone()
    }

    /// One result of a group, given what a segment of a row comes to.
    pub(super) fn reduce<T, V: Clone>(
        group: &[T],
        (row, columns): (usize, usize),
        segment: &dyn Fn(&[T]) -> V,
        join: &dyn Fn(&V, &V) -> V,
    ) -> V {
        let rows = group.chunks(row).map(|row| {
            let segments: Vec<V> = row.chunks(2048).map(segment).collect();
            tree(&segments, join)
        });
        let rows: Vec<V> = rows.collect();
        let lanes = 256usize.div_ceil(columns).next_power_of_two();
        let segments: Vec<V> = rows.chunks(64 * lanes).map(|units| by_lanes(units, lanes, join)).collect();
        tree(&segments, join)
    }

    pub(super) fn sum(group: &[f64], cut: (usize, usize)) -> f64 {
        let add = |a: &f64, b: &f64| a + b;
        reduce(group, cut, &|values| by_lanes(values, 32, &add), &add)
    }

    pub(super) fn product(group: &[f64], cut: (usize, usize)) -> f64 {
        let multiply = |a: &f64, b: &f64| a * b;
        reduce(group, cut, &|values| by_lanes(values, 32, &multiply), &multiply)
    }

    /// (count, mean, m2)
    pub(super) fn moments(group: &[f64], cut: (usize, usize)) -> (f64, f64, f64) {
        let add = |a: &f64, b: &f64| a + b;
        let segment = |values: &[f64]| {
            let mean = by_lanes(values, 32, &add) / values.len() as f64;
            let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
            // A row of one element is lifted, not measured.
            let m2 = if values.len() == 1 { 0.0 } else { by_lanes(&squares, 32, &add) };
            (values.len() as f64, mean, m2)
        };
        let join = |a: &(f64, f64, f64), b: &(f64, f64, f64)| {
            let count = a.0 + b.0;
            let distance = b.1 - a.1;
            let m2 = a.2 + b.2 + distance * distance * (a.0 * b.0 / count);
            (count, a.1 + distance * (b.0 / count), m2)
        };
        reduce(group, cut, &segment, &join)
    }
}

/// Equal bits, with all NaN alike.
#[track_caller]
fn assert_bits(found: &[f64], expected: &[f64], what: &dyn Fn() -> String) {
    let bits = |values: &[f64]| -> Vec<u64> {
        values.iter().map(|value| if value.is_nan() { f64::NAN } else { *value }.to_bits()).collect()
    };
    assert!(bits(found) == bits(expected), "{}\n{found:?}\n{expected:?}", what());
    assert!(found.iter().all(|value| !value.is_nan() || value.to_bits() == f64::NAN.to_bits()), "{}", what());
}

/// The float reductions of f64 values, and of the same as f32, against the reference.
fn check_tree(shape: &Shape, axes: &[bool], values: &[f64]) {
    let cut = reference::row_and_columns(shape, axes);
    let groups = groups(shape, axes, values);
    let each = |result: &dyn Fn(&[f64]) -> f64| -> Vec<f64> { groups.iter().map(|group| result(group)).collect() };
    let variance = |group: &[f64], ddof: f64| {
        let (count, mean, m2) = reference::moments(group, cut);
        if mean.is_finite() { m2 / (count - ddof).max(0.0) } else { f64::NAN }
    };
    let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let is_narrow = narrow.iter().zip(values).all(|(&a, &b)| f64::from(a).to_bits() == b.to_bits());
    for op in &OPS[..5] {
        let expected = match *op {
            ReduceOp::Sum => each(&|group| reference::sum(group, cut)),
            ReduceOp::Prod => each(&|group| reference::product(group, cut)),
            ReduceOp::Mean => each(&|group| reference::sum(group, cut) / group.len() as f64),
            ReduceOp::Var { ddof } => each(&|group| variance(group, ddof)),
            ReduceOp::Std { ddof } => each(&|group| variance(group, ddof).sqrt()),
            _ => unreachable!("only the first five"),
        };
        let what = || format!("{op:?} of {shape} over {axes:?}");
        assert_bits(whole(*op, shape, axes, values).elements(), &expected, &what);
        if is_narrow {
            let found: Vec<f64> =
                whole(*op, shape, axes, &narrow).elements::<f32>().iter().map(|&value| f64::from(value)).collect();
            let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value as f32)).collect();
            assert_bits(&found, &expected, &what);
        }
    }
}

/// Numbers without pattern; some are special.
fn noise(count: usize, seed: u64, special: bool) -> Vec<f64> {
    let mut values = vec![0.0; count];
    crate::source::philox::Philox::new(seed, 9).fill::<f64>(0, &mut values);
    for (at, value) in values.iter_mut().enumerate() {
        *value = f64::from((*value - 0.5) as f32) * [1.0, 1e3, -1e-3][at % 3];
        if special && at % 61 == (seed % 61) as usize {
            *value = [f64::NAN, f64::INFINITY, -0.0, 0.0, f64::NEG_INFINITY][at / 61 % 5];
        }
    }
    values
}

fn case() -> impl Strategy<Value = (Shape, Vec<bool>)> {
    let length = prop::sample::select(vec![1u64, 2, 3, 5, 8, 17, 31, 32, 33, 70, 130, 2049]);
    prop::collection::vec((length, any::<bool>()), 0..6).prop_filter_map("too large", |axes| {
        let (lengths, marks): (Vec<u64>, Vec<bool>) = axes.into_iter().unzip();
        (lengths.iter().product::<u64>() < 20_000).then(|| (shape(&lengths), marks))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn float_reductions_are_the_documented_tree((shape, axes) in case(), seed: u64) {
        let count = shape.elements() as usize;
        check_tree(&shape, &axes, &noise(count, seed, seed % 3 == 0));
    }

    #[test]
    fn exact_reductions_are_what_they_say((shape, axes) in case(), seed: u64) {
        let values = noise(shape.elements() as usize, seed, true);
        check_exact(&shape, &axes, &values);
        check_exact(&shape, &axes, &values.iter().map(|&value| value as f32).collect::<Vec<_>>());
        check_exact(&shape, &axes, &values.iter().map(|&value| (value * 100.0) as i32).collect::<Vec<_>>());
        check_exact(&shape, &axes, &values.iter().map(|&value| (value * 9.0) as i32 as u32).collect::<Vec<_>>());
        check_exact(&shape, &axes, &values.iter().map(|&value| (value * 1e17) as i64).collect::<Vec<_>>());
        check_exact(&shape, &axes, &values.iter().map(|&value| (value * 1e17) as i64 as u64).collect::<Vec<_>>());
    }

    #[test]
    fn blocks_fold_to_the_whole((shape, axes) in case(), chunks in prop::array::uniform5(1u64..40), seed: u64) {
        let values = noise(shape.elements() as usize, seed, false);
        let integers: Vec<i32> = values.iter().map(|&value| (value * 20.0) as i32).collect();
        let grid = Grid::regular(&shape, &chunks[..shape.rank()]);
        prop_assume!(grid.blocks() < 400);
        let near_one: Vec<f64> = values.iter().map(|&value| 1.0 + value * 1e-6).collect();
        for op in OPS {
            check_blocks(op, &grid, &axes, if op == ReduceOp::Prod { &near_one } else { &values });
            check_blocks(op, &grid, &axes, &integers);
        }
    }
}

/// Shapes that random ones miss: long rows, wide tiles, many segments.
#[test]
fn large_shapes_are_the_documented_tree() {
    let check = |lengths: &[u64], axes: &[bool]| {
        let shape = shape(lengths);
        check_tree(&shape, axes, &noise(shape.elements() as usize, 5, false));
    };
    check(&[70_001], &[true]);
    check(&[3, 20_000], &[false, true]);
    check(&[3, 9000], &[true, false]);
    check(&[200, 8200], &[true, false]);
    check(&[30_000, 3], &[true, false]);
    check(&[9000, 3, 2], &[true, false, true]);
    check(&[3, 2, 4100], &[true, false, true]);
    check(&[2, 3, 2, 5000], &[false, true, false, true]);
    check(&[3, 5, 2, 5000], &[true, false, true, false]);
    check(&[40_000, 1], &[false, false]);
}

/// A value as the exact reductions see it.
trait Plainly: Element {
    fn is_nan(self) -> bool;
    fn compare(&self, other: &Self) -> Ordering;
    /// An integer's value, in two's complement.
    fn integer(self) -> i64;
}

macro_rules! plainly {
    ($($rust:ty: $is_nan:expr, $compare:expr;)*) => {$(
        impl Plainly for $rust {
            fn is_nan(self) -> bool {
                $is_nan(self)
            }
            fn compare(&self, other: &Self) -> Ordering {
                $compare(self, other)
            }
            fn integer(self) -> i64 {
                self as i64
            }
        }
    )*};
}
plainly! {
    f64: f64::is_nan, f64::total_cmp;
    f32: f32::is_nan, f32::total_cmp;
    i32: |_| false, i32::cmp;
    u32: |_| false, u32::cmp;
    i64: |_| false, i64::cmp;
    u64: |_| false, u64::cmp;
}

#[track_caller]
fn check_exact<T: Plainly>(shape: &Shape, axes: &[bool], values: &[T]) {
    let groups = groups(shape, axes, values);
    let each = |result: &dyn Fn(&[T]) -> i64| -> Vec<i64> { groups.iter().map(|group| result(group)).collect() };
    let place = |group: &[T], greatest: bool| {
        let wins = |a: T, b: T| a.compare(&b) == if greatest { Ordering::Greater } else { Ordering::Less };
        let best = |best: usize, at: usize| if wins(group[at], group[best]) { at } else { best };
        let nan = group.iter().position(|value| value.is_nan());
        nan.unwrap_or_else(|| (0..group.len()).reduce(best).unwrap())
    };
    let first_equal = |group: &[T], greatest: bool| {
        let best = group[place(group, greatest)];
        group.iter().position(|&value| value == best || (value.is_nan() && best.is_nan())).unwrap() as i64
    };
    let is_true = |value: &&T| **value != T::default();
    let found = |op: ReduceOp| -> Block { whole(op, shape, axes, values) };
    let truths = |op: ReduceOp| -> Vec<i64> { found(op).elements::<u32>().iter().map(|&bit| bit.into()).collect() };
    assert_eq!(found(ReduceOp::ArgMin).elements::<i64>(), each(&|group| first_equal(group, false)));
    assert_eq!(found(ReduceOp::ArgMax).elements::<i64>(), each(&|group| first_equal(group, true)));
    let count = |group: &[T]| group.iter().filter(is_true).count();
    assert_eq!(found(ReduceOp::CountNonzero).elements::<i64>(), each(&|group| count(group) as i64));
    assert_eq!(truths(ReduceOp::Any), each(&|group| (count(group) > 0).into()));
    assert_eq!(truths(ReduceOp::All), each(&|group| (count(group) == group.len()).into()));
    for (op, greatest) in [(ReduceOp::Min, false), (ReduceOp::Max, true)] {
        let block = found(op);
        for (found, group) in block.elements::<T>().iter().zip(&groups) {
            let expected = group[place(group, greatest)];
            let same = found.compare(&expected) == Ordering::Equal || (found.is_nan() && expected.is_nan());
            assert!(same, "{op:?}: {found:?} {expected:?}");
        }
    }
    if T::DTYPE.is_integer() {
        let fold = |group: &[T], from: i64, with: fn(i64, i64) -> i64| {
            group.iter().fold(from, |all, value| with(all, value.integer()))
        };
        assert_eq!(found(ReduceOp::Sum).elements::<i64>(), each(&|group| fold(group, 0, i64::wrapping_add)));
        assert_eq!(found(ReduceOp::Prod).elements::<i64>(), each(&|group| fold(group, 1, i64::wrapping_mul)));
    }
}

/// Blocks reduced apart and folded are the array reduced whole: exactly, but for floats.
fn check_blocks<T: Element>(op: ReduceOp, grid: &Grid, axes: &[bool], values: &[T]) {
    let (array, reducer, stop) = (grid.shape(), reducer(op, T::DTYPE), StopFlag::new());
    let counts = grid.block_counts();
    let kept: Shape = counts.iter().zip(axes).map(|(&count, &axis)| if axis { 1 } else { count }).collect();
    let expected = whole(op, &array, axes, values);
    for at in Region::whole(&kept).indices() {
        let reduced = Region {
            start: at.clone(),
            end: at
                .iter()
                .zip(&counts[..])
                .zip(axes)
                .map(|((&at, &count), &axis)| if axis { count } else { at + 1 })
                .collect(),
        };
        let partials: Vec<Block> =
            reduced.indices().map(|index| partial(op, &array, &grid.region(&index), axes, values)).collect();
        let whole_fold = reducer.fold(&partials, &stop).unwrap();
        for fan_in in [2, 64] {
            let groups: Vec<Block> = partials.chunks(fan_in).map(|group| reducer.fold(group, &stop).unwrap()).collect();
            let found = reducer.fold(&groups, &stop).unwrap();
            assert_eq!(found.bytes(), whole_fold.bytes(), "{op:?} in groups of {fan_in}");
        }
        let found = reducer.finish(&whole_fold, &stop).unwrap().remove(0);
        let region = grid.region(&at);
        let only_kept = |lengths: &Shape| -> Shape {
            lengths.iter().zip(axes).filter(|&(_, &axis)| !axis).map(|(&length, _)| length).collect()
        };
        let part = Region { start: only_kept(&region.start), end: only_kept(&region.end) };
        for (place, index) in part.indices().enumerate() {
            compare(op, &found, place, &expected, expected.shape.linear(&index) as usize);
        }
    }
}

fn compare(op: ReduceOp, found: &Block, place: usize, expected: &Block, at: usize) {
    let Item::Value(dtype) = found.item else { panic!("a result is a value") };
    if dtype == DType::F64 {
        let (found, expected) = (found.elements::<f64>()[place], expected.elements::<f64>()[at]);
        let close =
            (found - expected).abs() <= 1e-12 * expected.abs().max(1e4) || found.to_bits() == expected.to_bits();
        assert!(close || (found.is_nan() && expected.is_nan()), "{op:?}: {found} {expected}");
    } else {
        with_element!(dtype, T => assert_eq!(found.elements::<T>()[place], expected.elements::<T>()[at], "{op:?}"));
    }
}

/// The exact sum by error-free additions: each partial sum is carried with what rounding took from it.
fn exact_sum(values: &[f64]) -> f64 {
    let mut parts: Vec<f64> = Vec::new();
    for &value in values {
        let mut carried = value;
        let mut kept = Vec::new();
        for part in parts {
            let sum = carried + part;
            let other = sum - carried;
            let lost = (carried - (sum - other)) + (part - other);
            if lost != 0.0 {
                kept.push(lost);
            }
            carried = sum;
        }
        kept.push(carried);
        parts = kept;
    }
    parts.iter().sum()
}

#[test]
fn sums_are_accurate() {
    let integers: Vec<f64> = (1..=300_000).map(f64::from).collect();
    let total = whole(ReduceOp::Sum, &shape(&[300_000]), &[true], &integers).elements::<f64>()[0];
    assert_eq!(total, 300_000.0 * 300_001.0 / 2.0);
    let mut random = vec![0f64; 300_000];
    crate::source::philox::Philox::new(1, 2).fill(0, &mut random);
    for axes in [[true, true, true], [false, true, true], [true, true, false]] {
        let shape = shape(&[3, 50_000, 2]);
        let sums = whole(ReduceOp::Sum, &shape, &axes, &random);
        for (found, group) in sums.elements::<f64>().iter().zip(groups(&shape, &axes, &random)) {
            let exact = exact_sum(&group);
            assert!((found - exact).abs() <= 4.0 * f64::EPSILON * exact, "{axes:?}: {found} {exact}");
        }
    }
    let narrow: Vec<f32> = random.iter().map(|&value| value as f32).collect();
    let exact = exact_sum(&narrow.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
    assert_eq!(whole(ReduceOp::Sum, &shape(&[300_000]), &[true], &narrow).elements::<f32>(), [exact as f32]);
}

#[test]
fn variance_does_not_cancel() {
    let values: Vec<f64> = (0..40_000).map(|at| 1e9 + f64::from(at % 4)).collect();
    for (lengths, axes) in [(&[40_000][..], &[true][..]), (&[4000, 10], &[true, false]), (&[20_000, 2], &[true, true])]
    {
        let found = whole(ReduceOp::Var { ddof: 0.0 }, &shape(lengths), axes, &values);
        let expected = if lengths.len() == 2 && !axes[1] { 1.0 } else { 1.25 };
        assert!((found.elements::<f64>()[0] - expected).abs() < 1e-9, "{lengths:?} {:?}", found.elements::<f64>());
    }
}

#[test]
fn too_few_for_the_degrees_of_freedom_is_nan() {
    let std = whole(ReduceOp::Std { ddof: 1.0 }, &shape(&[3, 1]), &[false, true], &[1.0, 2.0, 3.0]);
    assert!(std.elements::<f64>().iter().all(|value| value.is_nan()));
    assert_eq!(whole(ReduceOp::Var { ddof: 0.0 }, &shape(&[]), &[], &[7i32]).elements::<f64>(), [0.0]);
}

#[test]
fn infinities_and_zeros_are_numpys() {
    for (lengths, axes) in [(&[2][..], &[true][..]), (&[2, 1], &[true, false]), (&[1, 2], &[false, false])] {
        let var = whole(ReduceOp::Var { ddof: 0.0 }, &shape(lengths), axes, &[1.0, f64::INFINITY]);
        assert!(var.elements::<f64>().last().is_some_and(|value| value.is_nan()), "{lengths:?}");
    }
    assert_eq!(whole(ReduceOp::ArgMin, &shape(&[2]), &[true], &[0.0, -0.0]).elements::<i64>(), [0]);
    assert_eq!(whole(ReduceOp::ArgMax, &shape(&[2]), &[true], &[-0.0f32, 0.0]).elements::<i64>(), [0]);
    let nan = whole(ReduceOp::Sum, &shape(&[2]), &[true], &[f32::INFINITY, f32::NEG_INFINITY]);
    assert_eq!(nan.elements::<u32>(), [0x7fc0_0000]);
    let nan = whole(ReduceOp::Max, &shape(&[2]), &[true], &[1.0, -f64::NAN]);
    assert_eq!(nan.elements::<u64>(), [0x7ff8_0000_0000_0000]);
}

#[test]
fn nothing_has_an_identity_or_a_named_error() {
    let kept = shape(&[2]);
    let value = |op, dtype| empty(&reduction(op, dtype), &kept).map(|blocks| format!("{:?}", blocks[0].bytes()[0]));
    assert_eq!(empty_value(&reduction(ReduceOp::Sum, DType::I32)), Ok(Scalar::I64(0)));
    assert_eq!(empty_value(&reduction(ReduceOp::Prod, DType::F32)), Ok(Scalar::F32(1.0)));
    assert_eq!(empty_value(&reduction(ReduceOp::All, DType::F32)), Ok(Scalar::Bool(true)));
    assert_eq!(empty(&reduction(ReduceOp::All, DType::F32), &kept).unwrap()[0].elements::<u32>(), [1, 1]);
    assert!(matches!(empty_value(&reduction(ReduceOp::Mean, DType::U64)), Ok(Scalar::F64(nan)) if nan.is_nan()));
    assert_eq!(value(ReduceOp::Max, DType::F64).unwrap_err().to_string(), "max of no elements has no value");
}

/// A user's reduction over f64.
fn user(text: &str, inputs: &[DType]) -> Result<Reducer, ExecuteError> {
    let source = KernelSource { kind: KernelKind::Reduction, text: text.to_owned(), entry: None, t: None };
    let kernel = Arc::new(TypedKernel::compile(source).unwrap());
    let reduction = Reduction { op: ReduceOp::User(kernel.hash()), inputs: inputs.to_vec() };
    Reducer::new(&reduction, &|hash| (hash == kernel.hash()).then(|| Arc::clone(&kernel)))
}

const USER_SUM: &str = "
fn identity() -> f64 { return 0lf; }
fn lift(x: f64) -> f64 { return x; }
fn combine(a: f64, b: f64) -> f64 { return a + b; }
fn finish(a: f64) -> f64 { return a; }";

/// The range of x, and how often y was true.
const USER_RANGE: &str = "
struct A { low: f32, count: vec2<u32>, high: f32 }
struct R { range: f32, count: u32, any: bool }
fn identity() -> A { return A(3e38, vec2(0u, 0u), -3e38); }
fn lift(x: f32, y: bool) -> A { return A(x, vec2(1u, select(0u, 1u, y)), x); }
fn combine(a: A, b: A) -> A { return A(min(a.low, b.low), a.count + b.count, max(a.high, b.high)); }
fn finish(a: A) -> R { return R(a.high - a.low, a.count.y, a.count.y > 0u); }";

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A user's sum is the built-in one, bit for bit: it is the same tree.
    #[test]
    fn users_reductions_are_the_documented_tree((shape, axes) in case(), seed: u64) {
        let values = noise(shape.elements() as usize, seed, false);
        let expected = whole(ReduceOp::Sum, &shape, &axes, &values);
        let (reducer, stop) = (user(USER_SUM, &[DType::F64]).unwrap(), StopFlag::new());
        let mut block = reducer.block(&shape, &Region::whole(&shape), &axes, &stop);
        for run in block.sweep() {
            block.feed(run.clone(), &values[run.start as usize..run.end as usize]);
        }
        let partial = block.partial().unwrap();
        let found = reducer.finish(&partial, &stop).unwrap().remove(0);
        prop_assert_eq!(found.bytes(), expected.bytes());
    }
}

#[test]
fn users_reductions_take_several_inputs_and_return_several_fields() {
    let (reducer, stop) = (user(USER_RANGE, &[DType::F32, DType::Bool]).unwrap(), StopFlag::new());
    assert_eq!(reducer.accumulator(), Item::Partial { bytes: 24 });
    assert_eq!(reducer.result_dtypes(), [DType::F32, DType::U32, DType::Bool]);
    let (array, grid) = (shape(&[5, 90]), Grid::regular(&shape(&[5, 90]), &[5, 40]));
    let partials: Vec<Block> = (0..3)
        .map(|at| {
            let region = grid.region(&[0, at]);
            let mut block = reducer.block(&array, &region, &[false, true], &stop);
            let elements: Vec<Shape> = region.indices().collect();
            for run in block.sweep() {
                let part = &elements[run.start as usize..run.end as usize];
                let x = part.iter().map(|index| (index[1] as f32 * (index[0] + 1) as f32).to_word()).collect();
                let y = part.iter().map(|index| u64::from(index[1] % (index[0] + 2) == 1)).collect();
                block.feed_words(run, &[x, y]);
            }
            block.partial().unwrap()
        })
        .collect();
    let results = reducer.finish(&reducer.fold(&partials, &stop).unwrap(), &stop).unwrap();
    assert_eq!(results[0].elements::<f32>(), [89.0, 178.0, 267.0, 356.0, 445.0]);
    assert_eq!(results[1].elements::<u32>(), [45, 30, 23, 18, 15]);
    assert_eq!((results[2].item, results[2].elements::<u32>()), (Item::Value(DType::Bool), &[1, 1, 1, 1, 1][..]));
}

#[test]
fn users_reductions_are_stopped_and_refused_by_name() {
    let (reducer, stop) = (user(USER_SUM, &[DType::F64]).unwrap(), StopFlag::new());
    let whole = shape(&[40]);
    let mut block = reducer.block(&whole, &Region::whole(&whole), &[true], &stop);
    stop.raise();
    let endless =
        USER_SUM.replace("{ return a + b; }", "{ var c = a; loop { c += b; if c < 0 { break; } } return c; }");
    let run = block.sweep().next().unwrap();
    block.feed(run.clone(), &[1.0; 40]);
    // A call without a loop may end before it looks at the flag: then it has a result.
    let _ = block.partial();
    let reducer = user(&endless, &[DType::F64]).unwrap();
    let mut block = reducer.block(&whole, &Region::whole(&whole), &[true], &stop);
    block.feed(run, &[1.0; 40]);
    assert!(matches!(block.partial(), Err(ExecuteError::Cancelled)));
    assert!(matches!(user(USER_SUM, &[DType::F32]), Err(ExecuteError::Unsupported { .. })));
    let missing = Reduction { op: ReduceOp::User(KernelHash([1; 32])), inputs: vec![DType::F64] };
    assert!(matches!(Reducer::new(&missing, &|_| None), Err(ExecuteError::KernelMissing(_))));
}

#[test]
fn bools_are_counted_as_numbers() {
    let (sum, stop, whole) = (reducer(ReduceOp::Sum, DType::Bool), StopFlag::new(), shape(&[3]));
    for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::ArgMax] {
        let reducer = reducer(op, DType::Bool);
        let mut block = reducer.block(&whole, &Region::whole(&whole), &[true], &stop);
        block.feed(0..3, &[0u32, 1, 1]);
        let result = reducer.finish(&block.partial().unwrap(), &stop).unwrap().remove(0);
        match op {
            ReduceOp::Mean => assert_eq!(result.elements::<f64>(), [2.0 / 3.0]),
            ReduceOp::Max => assert_eq!((result.item, result.elements::<u32>()), (Item::Value(DType::Bool), &[1][..])),
            _ => assert_eq!(result.elements::<i64>(), [if op == ReduceOp::Sum { 2 } else { 1 }]),
        }
    }
    assert_eq!(sum.result_dtypes(), [DType::I64]);
}
