//! Slices, transposes, broadcasts, reshapes, joins and sequences.

use gridloom::array::Array;
use gridloom_worker::dtype::DType;
use ndarray::SliceInfoElem;
use serde::Deserialize;
use serde_json::Value as Json;

use super::compare::{Expected, Tolerance, Verdict};
use super::engine::{compute, cuts, iota, iota_from};
use super::fixture;

#[derive(Deserialize)]
struct Views {
    views: Vec<View>,
    joins: Vec<Join>,
    linspace: Vec<Linspace>,
    arange: Vec<Arange>,
}

#[derive(Deserialize)]
struct View {
    op: String,
    shape: Vec<u64>,
    args: Json,
    expect: Expected,
}

#[derive(Deserialize)]
struct Join {
    op: String,
    shapes: Vec<Vec<u64>>,
    axis: i64,
    expect: Expected,
}

#[derive(Deserialize)]
struct Linspace {
    start: String,
    stop: String,
    count: u64,
    endpoint: bool,
    expect: Expected,
}

#[derive(Deserialize)]
struct Arange {
    args: [String; 3],
    expect: fixture::Array,
}

/// NumPy's `start:stop:step` as ndarray has it: of a negative step the bounds are those of the elements taken.
fn numpy_slice([start, stop, step]: [Option<i64>; 3], length: i64) -> SliceInfoElem {
    let step = step.unwrap_or(1);
    let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let within = |bound: i64| if bound < 0 { bound + length } else { bound }.clamp(least, most);
    let (first, last) = if step > 0 { (least, most) } else { (most, least) };
    let (start, stop) = (start.map_or(first, within), stop.map_or(last, within));
    let (low, high) = if step > 0 { (start, stop) } else { (stop + 1, start + 1) };
    SliceInfoElem::Slice { start: low as isize, end: Some(high.max(low) as isize), step: step as isize }
}

fn viewed(array: &Array, op: &str, args: &Json) -> Array {
    let lengths = || serde_json::from_value::<Vec<i64>>(args.clone()).unwrap();
    match op {
        "slice" => {
            let slices: Vec<[Option<i64>; 3]> = serde_json::from_value(args.clone()).unwrap();
            let slices = slices.into_iter().zip(array.shape().iter());
            array.slice(slices.map(|(slice, &length)| numpy_slice(slice, length as i64)).collect::<Vec<_>>())
        }
        "transpose" => array.permute_axes(lengths()),
        "broadcast_to" => array.broadcast_to(lengths()),
        "reshape" => array.reshape(lengths()),
        "flip" => array.flip(args.as_i64().unwrap()),
        other => panic!("no view {other}"),
    }
}

#[test]
fn views_agree_with_numpy() {
    let mut verdict = Verdict::default();
    for View { op, shape, args, expect } in fixture::read::<Views>("views.json").views {
        for (cut, array) in cuts(&iota(&shape)).iter().enumerate() {
            // A reshape of what is cut may be refused; that is tested with the arrays.
            if op == "reshape" && cut > 0 {
                continue;
            }
            let name = format!("{op} {args} of {shape:?}, cut {cut}");
            verdict.check(&name, &expect, compute(&viewed(array, &op, &args)), &Tolerance::default());
        }
    }
    verdict.finish();
}

#[test]
fn joins_agree_with_numpy() {
    let mut verdict = Verdict::default();
    for Join { op, shapes, axis, expect } in fixture::read::<Views>("views.json").joins {
        let starts = shapes.iter().scan(0, |next, shape| {
            let start = *next;
            *next += shape.iter().product::<u64>() as i32;
            Some(start)
        });
        let parts: Vec<[Array; 2]> = starts.zip(&shapes).map(|(start, shape)| cuts(&iota_from(start, shape))).collect();
        for cut in 0..2 {
            let parts = parts.iter().map(|cuts| cuts[cut].clone());
            let joined = match op.as_str() {
                "concatenate" => Array::concatenate(parts, axis),
                "stack" => Array::stack(parts, axis),
                other => panic!("no join {other}"),
            };
            let name = format!("{op} of {shapes:?} on {axis}, cut {cut}");
            verdict.check(&name, &expect, compute(&joined), &Tolerance::default());
        }
    }
    verdict.finish();
}

fn double(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).unwrap())
}

#[test]
fn linspace_agrees_with_numpy() {
    let mut verdict = Verdict::default();
    for Linspace { start, stop, count, endpoint, expect } in fixture::read::<Views>("views.json").linspace {
        let (start, stop) = (double(&start), double(&stop));
        let array = if endpoint { Array::linspace } else { Array::linspace_open }(start, stop, count);
        let name = format!("linspace({start}, {stop}, {count}, endpoint={endpoint})");
        verdict.check(&name, &expect, compute(&array), &Tolerance::default());
    }
    verdict.finish();
}

#[test]
fn arange_agrees_with_numpy() {
    let mut verdict = Verdict::default();
    for Arange { args, expect } in fixture::read::<Views>("views.json").arange {
        let integer = |bits: &str| match expect.dtype() {
            DType::I32 => i64::from(u32::from_str_radix(bits, 16).unwrap() as i32),
            _ => u64::from_str_radix(bits, 16).unwrap() as i64,
        };
        let [start, stop, step] = &args;
        let array = match expect.dtype() {
            DType::F64 => Array::arange(double(start), double(stop), double(step)),
            dtype => Array::arange(integer(start), integer(stop), integer(step)).with_dtype(dtype),
        };
        let name = format!("arange{args:?}");
        verdict.check(&name, &Expected::Array(expect), compute(&array), &Tolerance::default());
    }
    verdict.finish();
}
