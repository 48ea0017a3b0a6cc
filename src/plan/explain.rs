//! A plan as text: stable, for people and for golden tests.
//!
//! `i0`, `i1`, ... are the indices of the stage's element space; a leaf says which element of its source is read there.

use std::fmt::{self, Write};
use std::sync::Arc;

use gridloom_worker::block::Item;
use gridloom_worker::ids::KernelHash;
use gridloom_worker::kernel::TypedKernel;
use gridloom_worker::stage::{
    BlockCall, Body, ChunkStep, Distribution, Fold, Leaf, Map, Piece, Program, Relabel, Source, Stage, Step, Value,
};
use gridloom_worker::view::{AxisRead, View};

use super::{Output, Plan, Scatter};
use crate::array::reduction_name;

/// How many members of a join are listed.
const PIECES_SHOWN: usize = 16;

/// The plan as text, ended by a newline.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    write(&mut text, plan).expect("writing to a string cannot fail");
    text
}

fn write(text: &mut String, plan: &Plan) -> fmt::Result {
    for Scatter { array, grid, dtype, bytes } in &plan.scatters {
        writeln!(text, "scatter {array}: {dtype} in {grid}, {} blocks, {} bytes", grid.blocks(), bytes.len())?;
    }
    plan.stages.iter().try_for_each(|stage| write_stage(text, plan, stage))?;
    plan.outputs.iter().enumerate().try_for_each(|(at, output)| write_output(text, at, output))
}

fn write_stage(text: &mut String, plan: &Plan, stage: &Stage) -> fmt::Result {
    let items: Vec<String> = stage.outputs.iter().map(item).collect();
    let Stage { array, bytes_output, bytes_peak, .. } = stage;
    writeln!(text, "stage {array}: {}, {} blocks", items.join(", "), stage.blocks())?;
    match &stage.body {
        Body::Map(map) => write_map(text, plan, map)?,
        Body::Fold(fold) => write_fold(text, fold)?,
        Body::Relabel(Relabel { input, field, grid }) => {
            writeln!(text, "  relabel {} as {grid}", block_array(&input.to_string(), *field))?;
        }
        Body::Block(BlockCall { inputs, kernel, output }) => {
            write_map(text, plan, inputs)?;
            let name =
                found(plan, *kernel).map_or_else(|| format!("unknown kernel {kernel}"), |kernel| kernel.to_string());
            writeln!(text, "  block kernel {name}, into {} = {output}", output.shape())?;
        }
    }
    writeln!(text, "  bytes a block: {bytes_output} made, {bytes_peak} at the peak")
}

fn item(item: &Item) -> String {
    match item {
        Item::Value(dtype) => dtype.to_string(),
        Item::Partial { bytes } => format!("partials of {bytes} bytes"),
    }
}

fn write_map(text: &mut String, plan: &Plan, map: &Map) -> fmt::Result {
    writeln!(text, "  over {} = {}", map.grid.shape(), map.grid)?;
    for (at, Leaf { dtype, pieces }) in map.leaves.iter().enumerate() {
        match &pieces[..] {
            [one] => writeln!(text, "  leaf {at}: {dtype} {}", piece(one, map))?,
            many => {
                writeln!(text, "  leaf {at}: {dtype} joined of {}", many.len())?;
                many.iter().take(PIECES_SHOWN).try_for_each(|one| writeln!(text, "    {}", piece(one, map)))?;
                if many.len() > PIECES_SHOWN {
                    writeln!(text, "    and {} more", many.len() - PIECES_SHOWN)?;
                }
            }
        }
    }
    write_program(text, plan, &map.program)?;
    match &map.reduce {
        None => Ok(()),
        Some(ChunkStep { reduction, axes, finish }) => {
            let axes: Vec<usize> = (0..axes.len()).filter(|&axis| axes[axis]).collect();
            let end = if *finish { "finished" } else { "to partials" };
            writeln!(text, "  {} over axes {axes:?}, {end}", reduction_name(reduction.op))
        }
    }
}

fn write_program(text: &mut String, plan: &Plan, Program { steps, results }: &Program) -> fmt::Result {
    for (at, Step { kernel, arguments }) in steps.iter().enumerate() {
        let found = found(plan, *kernel).and_then(TypedKernel::element);
        let arguments: Vec<String> = arguments.iter().map(|argument| value(plan, steps, argument)).collect();
        let Some(element) = found else { return writeln!(text, "  step {at}: unknown kernel {kernel}") };
        let results: Vec<String> = element.signature.results.iter().map(|field| field.dtype.to_string()).collect();
        let name = &element.signature.name;
        writeln!(text, "  step {at}: {name}({}) -> {}", arguments.join(", "), results.join(", "))?;
    }
    let results: Vec<String> = results.iter().map(|result| value(plan, steps, result)).collect();
    writeln!(text, "  yields {}", results.join(", "))
}

/// The kernel of this hash, if the plan has it.
fn found(plan: &Plan, kernel: KernelHash) -> Option<&TypedKernel> {
    plan.kernels.iter().find(|known| known.hash() == kernel).map(Arc::as_ref)
}

fn value(plan: &Plan, steps: &[Step], value: &Value) -> String {
    match value {
        Value::Leaf(leaf) => format!("leaf {leaf}"),
        Value::Step { step, field } => {
            let found = found(plan, steps[*step as usize].kernel).and_then(TypedKernel::element);
            match found.and_then(|element| element.signature.results.get(*field as usize)) {
                Some(named) if !named.name.is_empty() => format!("step {step}.{}", named.name),
                _ => format!("step {step}"),
            }
        }
    }
}

fn write_fold(text: &mut String, fold: &Fold) -> fmt::Result {
    let Fold { input, reduction, kept, count, fan_in, finish } = fold;
    let end = if *finish { "finished" } else { "to partials" };
    let name = reduction_name(reduction.op);
    writeln!(text, "  fold {name} of {input}: {count} partials for each block of {kept}, by {fan_in}, {end}")
}

fn piece(Piece { source: from, view }: &Piece, map: &Map) -> String {
    let mut text = source(from);
    if !view.axes.is_empty() {
        let reads: Vec<String> = view.axes.iter().map(axis_read).collect();
        text += &format!(" [{}]", reads.join(", "));
    }
    if view.domain.end != map.grid.shape() || view.domain.start.iter().any(|&start| start > 0) {
        text += &format!(" for {:?}", view.domain);
    }
    if view_of_blocks(from, view, map) {
        text += ", block by block";
    }
    text
}

/// Whether block `i` of the space reads block `i` of the array and no other.
fn view_of_blocks(source: &Source, view: &View, map: &Map) -> bool {
    matches!(source, Source::Array { grid, .. } if *grid == map.grid && view.is_identity())
}

fn axis_read(read: &AxisRead) -> String {
    match *read {
        AxisRead::Fixed(at) => at.to_string(),
        AxisRead::Along { axis, start, step } => {
            let index = match step {
                1 => format!("i{axis}"),
                -1 => format!("-i{axis}"),
                _ => format!("{step}*i{axis}"),
            };
            match start {
                0 => index,
                _ if step < 0 => format!("{start}{index}"),
                _ => format!("{index}{start:+}"),
            }
        }
    }
}

fn source(source: &Source) -> String {
    match source {
        Source::Array { array, field, grid } => format!("{} in {grid}", block_array(&array.to_string(), *field)),
        Source::Constant(value) => format!("constant {}", scalar(value)),
        Source::Iota { start, step, shape } => {
            format!("arange {shape} from {} by {}", scalar(start), scalar(step))
        }
        Source::Linspace { start, stop, shape, .. } => format!("linspace {shape} from {start} to {stop}"),
        Source::Random(random) => {
            let distribution = match random.distribution {
                Distribution::Uniform => "uniform",
                Distribution::Normal => "normal",
            };
            format!("random {distribution} {} seed {} stream {}", random.shape, random.seed, random.stream)
        }
        Source::Literal { shape, bytes } => format!("literal {shape} of {} bytes", bytes.len()),
        Source::Npy(file) => format!("npy {} {:?} {}", file.path.display(), file.stored, file.shape),
    }
}

fn block_array(array: &str, field: u32) -> String {
    if field == 0 { array.to_owned() } else { format!("{array} field {field}") }
}

fn scalar(value: &gridloom_worker::dtype::Scalar) -> String {
    use gridloom_worker::dtype::Scalar;
    match value {
        Scalar::F32(value) => value.to_string(),
        Scalar::F64(value) => value.to_string(),
        Scalar::I32(value) => value.to_string(),
        Scalar::U32(value) => value.to_string(),
        Scalar::I64(value) => value.to_string(),
        Scalar::U64(value) => value.to_string(),
        Scalar::Bool(value) => value.to_string(),
    }
}

fn write_output(text: &mut String, at: usize, output: &Output) -> fmt::Result {
    let Output { array, field, grid, shape, dtype, root } = output;
    write!(text, "output {at}: {} {dtype} {shape} in {grid}", block_array(&array.to_string(), *field))?;
    match root {
        None => writeln!(text),
        Some(root) => {
            let name = reduction_name(root.reduction.op);
            writeln!(text, ", the client to finish {name} of {} partials of {} bytes", root.count, root.partial_bytes)
        }
    }
}
