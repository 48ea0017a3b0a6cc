//! The command line's array texts against `str(array)`.

use gridloom::cli::array_text::Corners;
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::shape::{Region, Shape};
use serde::Deserialize;

use super::fixture::{self, Array};

#[derive(Deserialize)]
struct Printing {
    cases: Vec<Case>,
    iotas: Vec<IotaCase>,
}

#[derive(Deserialize)]
struct Case {
    array: Array,
    text: String,
}

#[derive(Deserialize)]
struct IotaCase {
    iota: Iota,
    text: String,
}

#[derive(Deserialize)]
struct Iota {
    dtype: String,
    shape: Vec<u64>,
    start: String,
    step: String,
}

impl Iota {
    fn value(&self, index: u64) -> Scalar {
        let dtype: DType = self.dtype.parse().unwrap();
        let [start, step] = [&self.start, &self.step].map(|bits| fixture::scalar(dtype, bits));
        match (start, step) {
            (Scalar::F32(start), Scalar::F32(step)) => Scalar::F32(start + index as f32 * step),
            (Scalar::F64(start), Scalar::F64(step)) => Scalar::F64(start + index as f64 * step),
            (Scalar::I32(start), Scalar::I32(step)) => Scalar::I32(start + index as i32 * step),
            (Scalar::I64(start), Scalar::I64(step)) => Scalar::I64(start + index as i64 * step),
            (Scalar::U32(start), Scalar::U32(step)) => Scalar::U32(start + index as u32 * step),
            (Scalar::U64(start), Scalar::U64(step)) => Scalar::U64(start + index * step),
            _ => panic!("no iota of {dtype}"),
        }
    }
}

#[test]
fn small_arrays_are_printed_as_numpy_prints_them() {
    for Case { array, text } in fixture::read::<Printing>("printing.json").cases {
        let mut corners = Corners::new(array.dtype(), &array.shape());
        corners.place(&Region::whole(&array.shape()), &array.block());
        assert_eq!(corners.to_string(), text, "{array:?}");
    }
}

/// Block by block, since that is how results come.
#[test]
fn large_arrays_are_summarised_as_numpy_does() {
    for IotaCase { iota, text } in fixture::read::<Printing>("printing.json").iotas {
        let shape = Shape::new(&iota.shape).unwrap();
        let dtype = iota.dtype.parse().unwrap();
        let chunks: Vec<u64> = shape.iter().map(|length| length / 3 + 1).collect();
        let grid = Grid::regular(&shape, &chunks);
        let mut corners = Corners::new(dtype, &shape);
        for index in Region::whole(&grid.block_counts()).indices() {
            let region = grid.region(&index);
            let values: Vec<Scalar> = region.indices().map(|at| iota.value(shape.linear(&at))).collect();
            corners.place(&region, &fixture::block(dtype, &region.shape(), &values));
        }
        assert_eq!(corners.to_string(), text, "{:?}", iota.shape);
    }
}
