//! Reductions over every kind of axes.

use std::collections::HashMap;

use gridloom::array::{Array, IntoAxes, keepdims};
use gridloom_worker::stage::ReduceOp;
use serde::Deserialize;

use super::compare::{Expected, Tolerance, Verdict};
use super::engine::{array, compute, cuts};
use super::fixture;

#[derive(Deserialize)]
struct Reductions {
    arrays: HashMap<String, fixture::Array>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    input: String,
    axes: Option<Vec<i64>>,
    #[serde(default)]
    keepdims: bool,
    #[serde(default)]
    ddof: u8,
    expect: Expected,
    #[serde(flatten)]
    near: Tolerance,
}

fn op(name: &str, ddof: u8) -> ReduceOp {
    let ddof = f64::from(ddof);
    match name {
        "sum" => ReduceOp::Sum,
        "prod" => ReduceOp::Prod,
        "mean" => ReduceOp::Mean,
        "var" => ReduceOp::Var { ddof },
        "std" => ReduceOp::Std { ddof },
        "min" => ReduceOp::Min,
        "max" => ReduceOp::Max,
        "any" => ReduceOp::Any,
        "all" => ReduceOp::All,
        "count_nonzero" => ReduceOp::CountNonzero,
        "argmin" => ReduceOp::ArgMin,
        "argmax" => ReduceOp::ArgMax,
        other => panic!("no reduction {other}"),
    }
}

fn reduced(input: &Array, case: &Case) -> Array {
    let axes = match &case.axes {
        Some(axes) => axes.clone().into_axes(),
        None => ().into_axes(),
    };
    input.reduce_op(op(&case.op, case.ddof), if case.keepdims { keepdims(axes) } else { axes })
}

#[test]
fn reductions_agree_with_numpy() {
    let Reductions { arrays, cases } = fixture::read("reductions.json");
    let inputs: HashMap<&str, [Array; 2]> =
        arrays.iter().map(|(name, fixture)| (name.as_str(), cuts(&array(fixture)))).collect();
    let mut verdict = Verdict::default();
    for case in &cases {
        for (cut, input) in inputs[case.input.as_str()].iter().enumerate() {
            let Case { op, input: name, axes, keepdims, ddof, .. } = case;
            let name = format!("{op} of {name} over {axes:?}, keepdims {keepdims}, ddof {ddof}, cut {cut}");
            verdict.check(&name, &case.expect, compute(&reduced(input, case)), &case.near);
        }
    }
    verdict.finish();
}
