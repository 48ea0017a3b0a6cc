//! Element operations, promotion and casts.

use std::collections::HashMap;

use gridloom::array::Array;
use gridloom_worker::dtype::DType;
use serde::Deserialize;

use super::compare::{Expected, Tolerance, Verdict};
use super::engine::{array, compute, cuts};
use super::fixture;

#[derive(Deserialize)]
struct Elementwise {
    arrays: HashMap<String, fixture::Array>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    inputs: Vec<String>,
    expect: Expected,
    #[serde(flatten)]
    near: Tolerance,
}

fn apply(op: &str, inputs: &[Array]) -> Array {
    match (op, inputs) {
        ("add", [a, b]) => a + b,
        ("subtract", [a, b]) => a - b,
        ("multiply", [a, b]) => a * b,
        ("divide", [a, b]) => a / b,
        ("floor_divide", [a, b]) => a.floor_divide(b),
        ("remainder", [a, b]) => a.remainder(b),
        ("power", [a, b]) => a.pow(b),
        ("minimum", [a, b]) => a.minimum(b),
        ("maximum", [a, b]) => a.maximum(b),
        ("equal", [a, b]) => a.equal(b),
        ("not_equal", [a, b]) => a.not_equal(b),
        ("less", [a, b]) => a.less(b),
        ("less_equal", [a, b]) => a.less_equal(b),
        ("greater", [a, b]) => a.greater(b),
        ("greater_equal", [a, b]) => a.greater_equal(b),
        ("negative", [a]) => -a,
        ("absolute", [a]) => a.abs(),
        ("sqrt", [a]) => a.sqrt(),
        ("exp", [a]) => a.exp(),
        ("log", [a]) => a.log(),
        ("sin", [a]) => a.sin(),
        ("cos", [a]) => a.cos(),
        ("where", [condition, a, b]) => Array::where_(condition, a, b),
        _ => panic!("no operation {op} of {} arguments", inputs.len()),
    }
}

#[test]
fn element_operations_agree_with_numpy() {
    let Elementwise { arrays, cases } = fixture::read("elementwise.json");
    let mut verdict = Verdict::default();
    for Case { op, inputs, expect, near } in cases {
        let given: Vec<[Array; 2]> = inputs.iter().map(|name| cuts(&array(&arrays[name]))).collect();
        for cut in 0..2 {
            let given: Vec<Array> = given.iter().map(|cuts| cuts[cut].clone()).collect();
            let name = format!("{op}({}), cut {cut}", inputs.join(", "));
            verdict.check(&name, &expect, compute(&apply(&op, &given)), &near);
        }
    }
    verdict.finish();
}

#[derive(Deserialize)]
struct Casts {
    cases: Vec<Cast>,
}

#[derive(Deserialize)]
struct Cast {
    input: fixture::Array,
    expect: fixture::Array,
}

#[test]
fn casts_agree_with_numpy() {
    let mut verdict = Verdict::default();
    for Cast { input, expect } in fixture::read::<Casts>("casts.json").cases {
        let name = format!("{} to {}", input.dtype(), expect.dtype());
        let found = compute(&array(&input).astype(expect.dtype()));
        verdict.check(&name, &Expected::Array(expect), found, &Tolerance::default());
    }
    verdict.finish();
}

/// A constant is converted when it is planned, an array by a kernel.
#[test]
fn constants_are_cast_as_arrays_are() {
    const VALUES: [f64; 9] = [3e9, -3e9, 1e19, 2e19, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -1.5, 2.9];
    for (value, from, to) in VALUES.into_iter().flat_map(|value| {
        let pairs = |from| DType::ALL.map(|to| (value, from, to));
        [pairs(DType::F32), pairs(DType::F64)].concat()
    }) {
        let constant = Array::full([2], value).with_dtype(from);
        let held = match from {
            DType::F32 => Array::from_ndarray(&ndarray::arr1(&[value as f32; 2])),
            _ => Array::from_ndarray(&ndarray::arr1(&[value; 2])),
        };
        let [constant, held] = [constant, held].map(|array| compute(&array.astype(to)).unwrap());
        assert_eq!(constant.bytes(), held.bytes(), "{value} from {from} to {to}");
    }
}

#[derive(Deserialize)]
struct Promotion {
    pairs: Vec<[String; 3]>,
    weak: Vec<[String; 3]>,
    safe: Vec<(String, String, bool)>,
}

fn dtype(name: &str) -> DType {
    name.parse().unwrap()
}

#[test]
fn promotion_is_numpys() {
    let Promotion { pairs, weak, safe } = fixture::read("promotion.json");
    for [a, b, expected] in &pairs {
        assert_eq!(dtype(a).promote(dtype(b)), dtype(expected), "{a} {b}");
        assert_eq!((zeros(a) + zeros(b)).dtype(), dtype(expected), "{a} + {b}");
    }
    for [array, number, expected] in &weak {
        let sum = match number.as_str() {
            "bool" => zeros(array) + true,
            "int" => zeros(array) + 1,
            "float" => zeros(array) + 1.0,
            other => panic!("no number {other}"),
        };
        assert_eq!(sum.dtype(), dtype(expected), "{array} + a Rust {number}");
    }
    for (from, to, expected) in &safe {
        assert_eq!(dtype(from).casts_safely_to(dtype(to)), *expected, "{from} to {to}");
    }
    assert_eq!((pairs.len(), weak.len(), safe.len()), (49, 21, 49));
}

fn zeros(name: &str) -> Array {
    Array::zeros([1]).with_dtype(dtype(name))
}
