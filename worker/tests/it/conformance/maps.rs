//! Maps: shapes around every limit, views, kernels of every dtype.

use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;

use super::executors::check;
use super::harness::{Array, element, map, shape};
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

#[test]
fn copies_of_any_length_are_exact() {
    for length in [1, 2, 63, 64, 65, 255, 256, 257, 65_535, 65_536, 65_537, 256 * 65_535 + 1] {
        let grid = Grid::regular(&shape(&[length]), &[length.min(1 << 20)]);
        let array = Array::new(1, DType::U32, grid.clone(), |index| index * 2_654_435_761 % (1 << 32));
        check(&format!("copy of {length}"), &map(grid, vec![array.leaf()], None, vec![array]), Tolerance::Exact);
    }
}

#[test]
fn polynomials_of_every_dtype() {
    for dtype in [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64] {
        let grid = Grid::regular(&shape(&[37, 11]), &[16, 11]);
        let array = Array::new(1, dtype, grid.clone(), small(dtype));
        let kernel = element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }", dtype);
        let tolerance = if dtype.is_float() { Tolerance::Ulps(2) } else { Tolerance::Exact };
        check(&format!("polynomial of {dtype}"), &map(grid, vec![array.leaf()], Some(kernel), vec![array]), tolerance);
    }
}
