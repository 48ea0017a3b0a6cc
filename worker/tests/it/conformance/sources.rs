//! Values that a device makes itself, and those that it is brought.

use std::sync::Arc;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{Distribution, Leaf, Piece, Random, Source};
use gridloom_worker::view::{AxisRead, View};

use super::executors::check;
use super::harness::{Array, Work, map, shape};
use super::maps::small;
use super::tolerance::Tolerance;

/// A leaf of a source that is seen as it is.
pub(crate) fn leaf(dtype: DType, source: Source, shape: &Shape) -> Leaf {
    Leaf { dtype, pieces: vec![Piece { source, view: View::identity(shape) }] }
}

/// A leaf of a two-dimensional source of `from`, transposed, every third of its rows from the last on.
fn turned(dtype: DType, source: Source, from: &Shape) -> (Leaf, Shape) {
    let rows = from[0].div_ceil(3);
    let seen = shape(&[from[1], rows]);
    let axes = vec![
        AxisRead::Along { axis: 1, start: from[0] as i64 - 1, step: -3 },
        AxisRead::Along { axis: 0, start: 0, step: 1 },
    ];
    let view = View { domain: Region::whole(&seen), axes };
    (Leaf { dtype, pieces: vec![Piece { source, view }] }, seen)
}

pub(crate) fn random(distribution: Distribution, dtype: DType, shape: &Shape) -> Source {
    let (seed, stream) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    Source::Random(Random { distribution, dtype, shape: shape.clone(), seed, stream })
}

/// A source as it is, and transposed with a step.
#[track_caller]
fn check_source(name: &str, dtype: DType, make: impl Fn(&Shape) -> Source, tolerance: Tolerance) {
    let whole = shape(&[67, 41]);
    let grid = Grid::regular(&whole, &[20, 41]);
    check(name, &map(grid, vec![leaf(dtype, make(&whole), &whole)], None, Vec::new()), tolerance);
    let (leaf, seen) = turned(dtype, make(&whole), &whole);
    let grid = Grid::regular(&seen, &[7, 23]);
    check(&format!("{name}, turned"), &map(grid, vec![leaf], None, Vec::new()), tolerance);
}

#[test]
fn uniform_random_numbers_are_the_same_bits() {
    for dtype in [DType::U32, DType::F32, DType::F64] {
        let make = |shape: &Shape| random(Distribution::Uniform, dtype, shape);
        check_source(&format!("uniform {dtype}"), dtype, make, Tolerance::Exact);
    }
}

/// The definition is up to four ULP from the truth, and so may be what is held against it; near zero both err by the
/// radius' share of an angle.
#[test]
fn normal_random_numbers_are_near() {
    for dtype in [DType::F32, DType::F64] {
        let make = |shape: &Shape| random(Distribution::Normal, dtype, shape);
        check_source(&format!("normal {dtype}"), dtype, make, Tolerance::Ulps(8));
    }
}

/// Row-major indices beyond 2^32, whose carries an address of two words must see.
#[test]
fn addresses_beyond_32_bits_are_whole() {
    let whole = shape(&[1 << 20, 1 << 20]);
    let grid = Grid::regular(&shape(&[33, 5]), &[33, 5]);
    let axes = vec![
        AxisRead::Along { axis: 0, start: 4090, step: 1 },
        AxisRead::Along { axis: 1, start: (1 << 20) - 1, step: -1 },
    ];
    let view = View { domain: Region::whole(&grid.shape()), axes };
    for dtype in [DType::U32, DType::F32, DType::F64] {
        let source = random(Distribution::Uniform, dtype, &whole);
        let leaf = Leaf { dtype, pieces: vec![Piece { source, view: view.clone() }] };
        check(&format!("far {dtype}"), &map(grid.clone(), vec![leaf], None, Vec::new()), Tolerance::Exact);
    }
    for (start, step) in [(Scalar::I64(-5), Scalar::I64(3)), (Scalar::U64(1 << 63), Scalar::U64(7))] {
        let dtype = start.dtype();
        let leaf = Leaf {
            dtype,
            pieces: vec![Piece { source: Source::Iota { start, step, shape: whole.clone() }, view: view.clone() }],
        };
        check(&format!("far iota {dtype}"), &map(grid.clone(), vec![leaf], None, Vec::new()), Tolerance::Exact);
    }
}

#[test]
fn constants_and_ranges() {
    let pairs = [
        (Scalar::F32(0.1), Scalar::F32(0.3)),
        (Scalar::F64(0.1), Scalar::F64(-0.3)),
        (Scalar::I32(-7), Scalar::I32(i32::MAX)),
        (Scalar::U32(7), Scalar::U32(u32::MAX)),
        (Scalar::I64(i64::MIN), Scalar::I64(-3)),
        (Scalar::U64(u64::MAX), Scalar::U64(u64::MAX / 3)),
    ];
    for (start, step) in pairs {
        let dtype = start.dtype();
        check_source(&format!("constant {dtype}"), dtype, |_| Source::Constant(start), Tolerance::Exact);
        let iota = |shape: &Shape| Source::Iota { start, step, shape: shape.clone() };
        // A driver may contract the product and the sum of floats.
        let tolerance = if dtype.is_float() { Tolerance::Ulps(1) } else { Tolerance::Exact };
        check_source(&format!("iota {dtype}"), dtype, iota, tolerance);
    }
    check_source("constant bool", DType::Bool, |_| Source::Constant(Scalar::Bool(true)), Tolerance::Exact);
    for dtype in [DType::F32, DType::F64] {
        let make = |shape: &Shape| Source::Linspace {
            start: -1.0,
            stop: 0.7,
            step: 1.7 / (shape.elements() - 1) as f64,
            last: shape.elements() - 1,
            shape: shape.clone(),
        };
        check_source(&format!("linspace {dtype}"), dtype, make, Tolerance::Ulps(4));
    }
}

#[test]
fn literals() {
    for dtype in DType::ALL {
        let make = |shape: &Shape| {
            let bytes: Vec<u8> = (0..shape.elements())
                .flat_map(|index| small(dtype)(index).to_le_bytes().into_iter().take(dtype.bytes() as usize))
                .collect();
            Source::Literal { shape: shape.clone(), bytes: Arc::from(bytes) }
        };
        check_source(&format!("literal {dtype}"), dtype, make, Tolerance::Exact);
    }
}

/// An array, a constant and an array, a block each: the first and the last block look alike, and that between does not.
pub(crate) fn constant_between_arrays() -> Work {
    let grid = Grid::regular(&shape(&[100]), &[100]);
    let arrays: Vec<Array> = [1, 2].map(|id| Array::new(id, DType::I32, grid.clone(), small(DType::I32))).into();
    let of = |array: &Array| Source::Array { array: array.id, field: 0, grid: array.grid.clone() };
    let sources = [of(&arrays[0]), Source::Constant(Scalar::I32(7)), of(&arrays[1])];
    let piece = |(at, source): (i64, Source)| {
        let domain = Region { start: shape(&[100 * at as u64]), end: shape(&[100 * at as u64 + 100]) };
        let axes = vec![AxisRead::Along { axis: 0, start: -100 * at, step: 1 }];
        Piece { source, view: View { domain, axes } }
    };
    let leaf = Leaf { dtype: DType::I32, pieces: (0..).zip(sources).map(piece).collect() };
    map(Grid::regular(&shape(&[300]), &[100]), vec![leaf], None, arrays)
}

/// The members of a concatenation along an axis, cut so that blocks of the space straddle the seams.
#[test]
fn concatenations_and_blocks_of_several_pieces() {
    for dtype in [DType::F64, DType::I32, DType::Bool] {
        let (first, second) = (shape(&[10, 9]), shape(&[7, 9]));
        let a = Array::new(1, dtype, Grid::regular(&first, &[4, 5]), small(dtype));
        let b = Array::new(2, dtype, Grid::regular(&second, &[7, 2]), |index| small(dtype)(index + 3));
        let whole = shape(&[17, 9]);
        let member = |array: &Array, from: u64, to: u64| Piece {
            source: Source::Array { array: array.id, field: 0, grid: array.grid.clone() },
            view: View {
                domain: Region { start: shape(&[from, 0]), end: shape(&[to, 9]) },
                axes: vec![
                    AxisRead::Along { axis: 0, start: -(from as i64), step: 1 },
                    AxisRead::Along { axis: 1, start: 0, step: 1 },
                ],
            },
        };
        let leaf = Leaf { dtype, pieces: vec![member(&a, 0, 10), member(&b, 10, 17)] };
        let grid = Grid::regular(&whole, &[6, 9]);
        check(&format!("concatenation of {dtype}"), &map(grid, vec![leaf], None, vec![a, b]), Tolerance::Exact);
    }
}
