//! Maps: shapes around every limit, views, kernels of every dtype, several results, and where an element stands.

use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::shape::Region;
use gridloom_worker::view::{AxisRead, View};

use super::executors::check;
use super::harness::{Array, Work, element, map, shape};
use super::tolerance::Tolerance;

/// Bits of a small value of `dtype`, different for neighbours.
pub(crate) fn small(dtype: DType) -> impl Fn(u64) -> u64 {
    move |index| {
        let value = (index * 7919 % 251) as i64 - 125;
        match dtype {
            DType::F32 => u64::from((value as f32 / 8.0).to_bits()),
            DType::F64 => (value as f64 / 8.0).to_bits(),
            DType::I32 | DType::I64 => value as u64,
            DType::U32 | DType::U64 => (value + 125) as u64,
            DType::Bool => u64::from(value > 0),
        }
    }
}

const NUMBERS: [DType; 6] = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];

#[test]
fn copies_of_any_length_are_exact() {
    for length in [1, 2, 63, 64, 65, 255, 256, 257, 65_535, 65_536, 65_537, 256 * 65_535 + 1] {
        let grid = Grid::regular(&shape(&[length]), &[length]);
        let array = Array::new(1, DType::U32, grid.clone(), |index| index * 2_654_435_761 % (1 << 32));
        check(&format!("copy of {length}"), &map(grid, vec![array.leaf()], None, vec![array]), Tolerance::Exact);
    }
}

#[test]
fn copies_of_every_dtype_and_rank_are_exact() {
    let shapes: [&[u64]; 6] = [&[], &[1], &[5, 1, 3], &[2, 3, 2, 3], &[2, 1, 2, 3, 1, 2, 2], &[2, 1, 2, 3, 1, 2, 2, 2]];
    for dtype in DType::ALL {
        for lengths in shapes {
            let whole = shape(lengths);
            let grid = Grid::regular(&whole, &vec![2; lengths.len()]);
            let array = Array::new(1, dtype, grid.clone(), small(dtype));
            check(
                &format!("copy of {dtype} {whole}"),
                &map(grid, vec![array.leaf()], None, vec![array]),
                Tolerance::Exact,
            );
        }
    }
}

/// Every bit pattern of interest comes through a copy, NaNs and subnormals too.
#[test]
fn copies_keep_every_bit_of_floats() {
    let bits =
        [0, 1, 0x8000_0000, 0x007f_ffff, 0x7f80_0000, 0xff80_0000, 0x7fc0_0001, 0x7f80_0001, 0xffff_ffff, 0x3f80_0000];
    let grid = Grid::regular(&shape(&[10]), &[10]);
    let array = Array::new(1, DType::F32, grid.clone(), |index| bits[index as usize]);
    check("bits of f32", &map(grid, vec![array.leaf()], None, vec![array]), Tolerance::Exact);
}

#[test]
fn polynomials_of_every_dtype() {
    for dtype in NUMBERS {
        let grid = Grid::regular(&shape(&[37, 11]), &[16, 11]);
        let array = Array::new(1, dtype, grid.clone(), small(dtype));
        let kernel = element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }", dtype);
        let tolerance = if dtype.is_float() { Tolerance::Ulps(2) } else { Tolerance::Exact };
        check(&format!("polynomial of {dtype}"), &map(grid, vec![array.leaf()], Some(kernel), vec![array]), tolerance);
    }
}

/// A slice with a step, flipped and transposed, beside a broadcast row and a broadcast scalar.
pub(crate) fn views(dtype: DType) -> Work {
    let from = Grid::regular(&shape(&[50, 31]), &[9, 31]);
    let (row, one) = (Grid::regular(&shape(&[12]), &[12]), Grid::regular(&shape(&[]), &[]));
    let arrays = vec![
        Array::new(1, dtype, from, small(dtype)),
        Array::new(2, dtype, row, small(dtype)),
        Array::new(3, dtype, one, small(dtype)),
    ];
    let grid = Grid::regular(&shape(&[29, 12]), &[8, 5]);
    let domain = Region::whole(&grid.shape());
    let turned = vec![AxisRead::Along { axis: 1, start: 47, step: -4 }, AxisRead::Along { axis: 0, start: 1, step: 1 }];
    let along = vec![AxisRead::Along { axis: 1, start: 0, step: 1 }];
    let leaves = vec![
        arrays[0].seen(View { domain: domain.clone(), axes: turned }),
        arrays[1].seen(View { domain: domain.clone(), axes: along }),
        arrays[2].seen(View { domain, axes: Vec::new() }),
    ];
    let kernel = element("fn f(x: T, y: T, z: T) -> T { return select(x - y, z, x < y); }", dtype);
    map(grid, leaves, Some(kernel), arrays)
}

#[test]
fn views_meet_in_one_kernel() {
    for dtype in NUMBERS {
        check(&format!("views of {dtype}"), &views(dtype), Tolerance::Exact);
    }
}

#[test]
fn a_struct_is_several_results() {
    let text = "struct Both { less: bool, sum: T, wide: f64, count: u32 }
        fn f(x: T, y: T) -> Both { return Both(x < y, x + y, 0.5lf, 7u); }";
    for dtype in NUMBERS {
        let grid = Grid::regular(&shape(&[300]), &[128]);
        let arrays = vec![
            Array::new(1, dtype, grid.clone(), small(dtype)),
            Array::new(2, dtype, grid.clone(), |index| small(dtype)(index + 1)),
        ];
        let leaves = arrays.iter().map(Array::leaf).collect();
        check(
            &format!("struct with {dtype}"),
            &map(grid, leaves, Some(element(text, dtype)), arrays),
            Tolerance::Exact,
        );
    }
}

#[test]
fn kernels_know_where_they_are() {
    let text = "fn f(x: u32, at: At) -> u32 {
        return ((((at.rank * 31u + at.index[0]) * 31u + at.index[2]) * 31u + at.block[1]) * 31u + at.shape[2]) * 31u
            + at.index[7] + at.shape[3] + x;
    }";
    let grid = Grid::regular(&shape(&[5, 6, 7]), &[2, 4, 3]);
    let array = Array::new(1, DType::U32, grid.clone(), small(DType::U32));
    let kernel = element(text, DType::U32);
    check("at", &map(grid, vec![array.leaf()], Some(kernel), vec![array]), Tolerance::Exact);
}

/// Helpers, divergent loops with break and continue, `switch`, local arrays.
#[test]
fn control_flow() {
    let text = "
        fn steps(start: u32) -> u32 {
            var x = start; var count = 0u;
            loop { if x <= 1u { break; } if (x & 1u) == 0u { x /= 2u; } else { x = 3u * x + 1u; } count += 1u; }
            return count;
        }
        fn f(x: u32) -> u32 {
            var seen: array<u32, 4>;
            for (var i = 0u; i < 16u; i += 1u) {
                if (i + x) % 3u == 0u { continue; }
                switch (x + i) % 4u { case 0u: { seen[1] += i; } case 1u, 2u: { seen[i % 4u] += 2u; } default: { seen[3] ^= i; } }
            }
            return steps(x + 1u) * 1000u + seen[0] + seen[1] * 7u + seen[2] * 11u + seen[x % 4u];
        }";
    let grid = Grid::regular(&shape(&[1000]), &[300]);
    let array = Array::new(1, DType::U32, grid.clone(), |index| index);
    check(
        "control flow",
        &map(grid, vec![array.leaf()], Some(element(text, DType::U32)), vec![array]),
        Tolerance::Exact,
    );
}

/// Numbers that both dtypes hold are converted exactly, others as WGSL says.
#[test]
fn conversions_between_all_dtypes() {
    for from in DType::ALL {
        for to in DType::ALL {
            let grid = Grid::regular(&shape(&[251]), &[100]);
            // Negative floats become unsigned numbers in as many ways as there are devices.
            let value =
                move |index| if from.is_float() { small(from)(index) & (u64::MAX >> 1) } else { small(from)(index) };
            let value = move |index| if from == DType::F32 { value(index) & 0x7fff_ffff } else { value(index) };
            let array = Array::new(1, from, grid.clone(), value);
            let kernel = element(&format!("fn f(x: {from}) -> {to} {{ return {to}(x); }}"), from);
            check(
                &format!("{from} to {to}"),
                &map(grid, vec![array.leaf()], Some(kernel), vec![array]),
                Tolerance::Exact,
            );
        }
    }
}

/// NaN differs from everything, itself too, and no comparison with it is true.
#[test]
fn comparisons_of_nan_and_zeros() {
    let bits = [0x7fc0_0000u64, 0, 0x8000_0000, 0x3f80_0000, 0x7f80_0000, 0xffc0_0000];
    for (dtype, widen) in [(DType::F32, false), (DType::F64, true)] {
        let word = |at: u64| {
            let narrow = f32::from_bits(bits[at as usize % 6] as u32);
            if widen { f64::from(narrow).to_bits() } else { u64::from(narrow.to_bits()) }
        };
        let grid = Grid::regular(&shape(&[36]), &[36]);
        let arrays = vec![
            Array::new(1, dtype, grid.clone(), |index| word(index % 6)),
            Array::new(2, dtype, grid.clone(), |index| word(index / 6)),
        ];
        for operator in ["==", "!=", "<", "<=", ">", ">="] {
            let kernel = element(&format!("fn f(x: T, y: T) -> bool {{ return x {operator} y; }}"), dtype);
            let leaves = arrays.iter().map(Array::leaf).collect();
            check(
                &format!("{operator} of {dtype}"),
                &map(grid.clone(), leaves, Some(kernel), arrays.clone()),
                Tolerance::Exact,
            );
        }
    }
}
