//! Runs a plan element by element, all numbers f64, to see which elements it reads.
//!
//! A partial is the list of all elements that went into it, so that one counted twice or never shows. Random numbers
//! are stood in for by their stream and index.

use std::collections::HashMap;
use std::sync::Arc;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, KernelHash};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{
    BlockCall, Body, Fold, Leaf, Map, Program, Read, ReduceOp, Reduction, Relabel, Source, Stage, Value,
};
use ndarray::{ArrayD, IxDyn};

use super::weigh;
use crate::array::{Function, Op};
use crate::plan::{Output, Plan};

/// What a block has at one place: a value, or every (row-major index in the reduced space, value) of a partial.
#[derive(Clone, Debug)]
enum Cell {
    Value(f64),
    Partial(Vec<(u64, f64)>),
}

/// Blocks by array, index and field.
type Store = HashMap<(ArrayId, u64, u32), Vec<Cell>>;

/// The results of a plan's outputs. `resident` are arrays that are there already.
pub(super) fn evaluate(plan: &Plan, resident: &[(ArrayId, Grid, ArrayD<f64>)]) -> Vec<ArrayD<f64>> {
    let mut store = Store::new();
    for (array, grid, values) in resident {
        for block in 0..grid.blocks() {
            let region = grid.region(&grid.block_counts().index_at(block));
            let cells = region.indices().map(|index| Cell::Value(values[dynamic(&index)])).collect();
            store.insert((*array, block, 0), cells);
        }
    }
    for scatter in &plan.scatters {
        for block in 0..scatter.grid.blocks() {
            let bytes = scatter.block(block);
            let cells = bytes.bytes().chunks_exact(scatter.dtype.bytes() as usize);
            let cells = cells.map(|bytes| Cell::Value(float(Scalar::from_bytes(scatter.dtype, bytes).unwrap())));
            store.insert((scatter.array, block, 0), cells.collect());
        }
    }
    for stage in &plan.stages {
        for block in 0..stage.blocks() {
            let fields = run(stage, block, &store);
            assert_eq!(fields.len(), stage.outputs.len());
            (0..).zip(fields).for_each(|(field, cells)| {
                store.insert((stage.array, block, field), cells);
            });
        }
    }
    plan.outputs.iter().map(|output| gathered(output, &store)).collect()
}

fn run(stage: &Stage, block: u64, store: &Store) -> Vec<Vec<Cell>> {
    match &stage.body {
        Body::Map(map) => run_map(stage, map, block, store),
        Body::Relabel(Relabel { input, field, grid }) => {
            let cells = store[&(*input, block, *field)].clone();
            let shape = grid.region(&grid.block_counts().index_at(block)).shape();
            assert_eq!(cells.len() as u64, shape.elements(), "a relabelled block has as many elements");
            vec![cells]
        }
        Body::Fold(fold) => vec![run_fold(fold, block, store)],
        Body::Block(BlockCall { inputs, kernel, .. }) => {
            assert_eq!(Some(*kernel), weigh().instantiate(None).ok().map(|kernel| kernel.hash()));
            let cells = run_map(stage, inputs, block, store).swap_remove(0);
            let count = cells.len() as f64;
            let weighed = cells.into_iter().map(|cell| match cell {
                Cell::Value(value) => Cell::Value(value + count),
                Cell::Partial(_) => panic!("a block kernel reads values"),
            });
            vec![weighed.collect()]
        }
    }
}

fn run_fold(fold: &Fold, block: u64, store: &Store) -> Vec<Cell> {
    let partials: Vec<&Vec<Cell>> = fold.inputs(block).map(|index| &store[&(fold.input, index, 0)]).collect();
    combined(&partials, fold.finish.then_some(&fold.reduction))
}

/// Place by place, all that went into the partials; finished if a reduction is given.
fn combined(partials: &[&Vec<Cell>], finish: Option<&Reduction>) -> Vec<Cell> {
    let joined = (0..partials[0].len()).map(|place| {
        let all = partials.iter().flat_map(|cells| match &cells[place] {
            Cell::Partial(elements) => elements.clone(),
            Cell::Value(value) => panic!("a value {value} among partials"),
        });
        match finish {
            Some(reduction) => Cell::Value(finished(reduction, all.collect())),
            None => Cell::Partial(all.collect()),
        }
    });
    joined.collect()
}

fn run_map(stage: &Stage, map: &Map, block: u64, store: &Store) -> Vec<Vec<Cell>> {
    let region = map.region(block);
    let reads = stage.reads(block);
    let yielded = region.indices().map(|index| {
        let leaves = map.leaves.iter().enumerate().map(|(at, leaf)| leaf_value(leaf, at as u32, &index, &reads, store));
        (index.clone(), program(&map.program, &leaves.collect::<Vec<f64>>()))
    });
    let yielded: Vec<(Shape, Vec<f64>)> = yielded.collect();
    let Some(reduce) = &map.reduce else {
        let field = |field| yielded.iter().map(|(_, values)| Cell::Value(values[field])).collect();
        return (0..map.program.results.len()).map(field).collect();
    };
    let kept = |shape: &Shape| -> Shape {
        reduce.axes.iter().zip(shape.iter()).filter(|(reduced, _)| !**reduced).map(|(_, &at)| at).collect()
    };
    let shape = kept(&region.shape());
    let mut cells: Vec<Vec<(u64, f64)>> = vec![Vec::new(); shape.elements() as usize];
    for (index, values) in &yielded {
        let place = kept(&Region { start: index.clone(), end: index.clone() }.relative_to(&region.start).start);
        cells[shape.linear(&place) as usize].push((place_in_reduced(map, &reduce.axes, index), values[0]));
    }
    let cells = cells.into_iter().map(|all| match reduce.finish {
        true => Cell::Value(finished(&reduce.reduction, all)),
        false => Cell::Partial(all),
    });
    vec![cells.collect()]
}

/// The row-major index among the reduced axes.
fn place_in_reduced(map: &Map, axes: &[bool], index: &Shape) -> u64 {
    let reduced = |shape: &Shape| -> Shape {
        axes.iter().zip(shape.iter()).filter(|(reduced, _)| **reduced).map(|(_, &at)| at).collect()
    };
    reduced(&map.grid.shape()).linear(&reduced(index))
}

fn finished(reduction: &Reduction, mut all: Vec<(u64, f64)>) -> f64 {
    all.sort_by_key(|(at, _)| *at);
    assert!(all.iter().zip(0..).all(|((at, _), expected)| *at == expected), "each element once: {all:?}");
    let values = || all.iter().map(|(_, value)| *value);
    let first_of = |best: f64| all.iter().position(|(_, value)| *value == best).unwrap() as f64;
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    match reduction.op {
        ReduceOp::Sum => values().sum(),
        ReduceOp::Prod => values().product(),
        ReduceOp::Mean => values().sum::<f64>() / all.len() as f64,
        ReduceOp::Min => least,
        ReduceOp::Max => most,
        ReduceOp::Any => f64::from(values().any(|value| value != 0.0)),
        ReduceOp::All => f64::from(values().all(|value| value != 0.0)),
        ReduceOp::CountNonzero => values().filter(|value| *value != 0.0).count() as f64,
        ReduceOp::ArgMin => first_of(least),
        ReduceOp::ArgMax => first_of(most),
        ReduceOp::Var { .. } | ReduceOp::Std { .. } | ReduceOp::User(_) => panic!("not evaluated here"),
    }
}

fn leaf_value(leaf: &Leaf, at: u32, index: &Shape, reads: &[Read], store: &Store) -> f64 {
    let inside = |region: &Region| {
        index.iter().enumerate().all(|(axis, at)| (region.start[axis]..region.end[axis]).contains(at))
    };
    let mut serving = leaf.pieces.iter().enumerate().filter(|(_, piece)| inside(&piece.view.domain));
    let (number, piece) = serving.next().expect("a piece serves each element");
    assert!(serving.next().is_none(), "one piece serves an element");
    let place = piece.view.read_at(index);
    let own = |shape: &Shape| {
        assert!(place.iter().zip(shape.iter()).all(|(at, length)| at < length), "{place} is in {shape}");
        shape.linear(&place) as f64
    };
    match &piece.source {
        Source::Constant(value) => float(*value),
        Source::Iota { start, step, shape } => float(*start) + float(*step) * own(shape),
        Source::Linspace { start, step, shape, .. } => start + step * own(shape),
        Source::Random(random) => random.stream as f64 + own(&random.shape) / 1024.0,
        Source::Literal { shape, bytes } => {
            let from = own(shape) as usize * leaf.dtype.bytes() as usize;
            float(Scalar::from_bytes(leaf.dtype, &bytes[from..from + leaf.dtype.bytes() as usize]).unwrap())
        }
        Source::Array { array, field, grid } => {
            let block: Shape = place.iter().zip(&grid.axes).map(|(&at, axis)| axis.block_of(at)).collect();
            let region = grid.region(&block);
            let within = Region { start: place.clone(), end: place.clone() }.relative_to(&region.start).start;
            let linear = grid.block_counts().linear(&block);
            let covers = |region: &Region| {
                within.iter().enumerate().all(|(axis, at)| (region.start[axis]..region.end[axis]).contains(at))
            };
            let listed = |read: &&Read| {
                (read.array, read.block, read.field) == (*array, linear, *field)
                    && (read.leaf, read.piece) == (at, number as u32)
                    && read.region.as_ref().is_some_and(covers)
            };
            assert_eq!(reads.iter().filter(listed).count(), 1, "one read brings each element");
            match &store[&(*array, linear, *field)][region.shape().linear(&within) as usize] {
                Cell::Value(value) => *value,
                Cell::Partial(_) => panic!("a stage reads values"),
            }
        }
        Source::Npy(_) => panic!("not evaluated here"),
    }
}

fn program(program: &Program, leaves: &[f64]) -> Vec<f64> {
    let mut steps: Vec<f64> = Vec::new();
    for step in &program.steps {
        let arguments: Vec<f64> = step.arguments.iter().map(|argument| value(argument, leaves, &steps)).collect();
        steps.push(applied(step.kernel, &arguments));
    }
    program.results.iter().map(|result| value(result, leaves, &steps)).collect()
}

fn value(value: &Value, leaves: &[f64], steps: &[f64]) -> f64 {
    match value {
        Value::Leaf(leaf) => leaves[*leaf as usize],
        Value::Step { step, .. } => steps[*step as usize],
    }
}

/// The built-in operations that the tests use, found by their kernels' hashes.
fn applied(kernel: KernelHash, arguments: &[f64]) -> f64 {
    let is = |function: Function| function.kernel().hash() == kernel;
    let is_op = |op| {
        DType::ALL
            .into_iter()
            .any(|t| matches!(op, Op::Add | Op::Multiply | Op::Where | Op::Less) && is(Function::Op(op, t)))
    };
    if is_op(Op::Add) {
        return arguments[0] + arguments[1];
    }
    if is_op(Op::Multiply) {
        return arguments[0] * arguments[1];
    }
    if is_op(Op::Less) {
        return f64::from(arguments[0] < arguments[1]);
    }
    if is_op(Op::Where) {
        return if arguments[0] != 0.0 { arguments[1] } else { arguments[2] };
    }
    let cast = |to| DType::ALL.into_iter().any(|from| is(Function::Cast(from, to)));
    match DType::ALL.into_iter().find(|&to| cast(to)) {
        Some(to) => float(Scalar::F64(arguments[0]).cast(to)),
        None => panic!("unknown kernel {kernel}"),
    }
}

fn gathered(output: &Output, store: &Store) -> ArrayD<f64> {
    let grid = &output.grid;
    let mut result = ArrayD::from_elem(dynamic(&grid.shape()), f64::NAN);
    for block in 0..grid.blocks() {
        let cells = match &output.root {
            None => store[&(output.array, block, output.field)].clone(),
            Some(root) => {
                let partials = (block * root.count..(block + 1) * root.count).map(|at| &store[&(output.array, at, 0)]);
                combined(&partials.collect::<Vec<_>>(), Some(&root.reduction))
            }
        };
        let region = grid.region(&grid.block_counts().index_at(block));
        assert_eq!(cells.len() as u64, region.shape().elements());
        for (index, cell) in region.indices().zip(cells) {
            match cell {
                Cell::Value(value) => result[dynamic(&index)] = value,
                Cell::Partial(_) => panic!("an output is values"),
            }
        }
    }
    result.into_shape_with_order(dynamic(&output.shape)).expect("shapes differ by ones")
}

pub(super) fn dynamic(shape: &Shape) -> IxDyn {
    IxDyn(&shape.iter().map(|&length| length as usize).collect::<Vec<usize>>())
}

fn float(value: Scalar) -> f64 {
    match value.cast(DType::F64) {
        Scalar::F64(value) => value,
        _ => unreachable!("cast to f64"),
    }
}

/// Every kernel that a stage names is in the plan, and every array that it reads is made before it.
pub(super) fn check_is_whole(plan: &Plan, resident: &[ArrayId]) {
    let mut made: Vec<ArrayId> = resident.to_vec();
    made.extend(plan.scatters.iter().map(|scatter| scatter.array));
    let known: Vec<KernelHash> = plan.kernels.iter().map(|kernel| kernel.hash()).collect();
    for stage in plan.stages.iter().map(Arc::as_ref) {
        assert!(stage.input_arrays().iter().all(|array| made.contains(array)));
        if let Body::Block(call) = &stage.body {
            assert!(known.contains(&call.kernel));
        }
        if let Body::Map(map) | Body::Block(BlockCall { inputs: map, .. }) = &stage.body {
            assert!(map.program.steps.iter().all(|step| known.contains(&step.kernel)));
        }
        made.push(stage.array);
    }
    assert!(plan.outputs.iter().all(|output| made.contains(&output.array)));
}
