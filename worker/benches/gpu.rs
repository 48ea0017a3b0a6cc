//! The GPU executor beside the device's own copy bandwidth: map, sum, mean, and random numbers with their mean, in runs
//! of blocks that stay on the device. `benches/gpu.sh` runs it and keeps what it prints.
//! `cargo bench -p gridloom-worker --bench gpu [-- --json FILE] [--software]`

#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gridloom_worker::block::{Block, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::{Event, Executor, Operand, Task, TaskToken};
use gridloom_worker::gpu::{Adapter, GpuExecutor, GpuOptions, adapters, copy_bytes_per_second};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};
use gridloom_worker::reduce::{accumulator, result_dtypes};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{
    Body, ChunkStep, Distribution, Leaf, Map, Piece, Program, Random, ReduceOp, Reduction, Source, Stage, Step, Value,
};
use gridloom_worker::view::View;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Turns, of which the fastest counts; the first compiles.
const TURNS: usize = 6;
/// The last axis of every block.
const ROW: u64 = 1024;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let takes_software = arguments.iter().any(|argument| argument == "--software");
    let json = arguments.iter().position(|argument| argument == "--json").and_then(|at| arguments.get(at + 1));
    let found = adapters();
    let Some(adapter) = found.iter().find(|adapter| takes_software || !adapter.info().is_software()) else {
        println!("There is no GPU here to measure (software ones do not count; --software measures one all the same).");
        return Ok(());
    };
    let rows = measure(adapter)?;
    println!("{}: {}\n", adapter.info().name, adapter.info().class());
    println!("| work | measured | floor: the device's own copy | ratio |\n|---|---|---|---|");
    rows.iter().for_each(|row| println!("{}", row.markdown()));
    if let Some(path) = json {
        let rows: Vec<String> = rows.iter().map(Row::json).collect();
        let (name, class) = (&adapter.info().name, adapter.info().class());
        std::fs::write(
            path,
            format!("{{\"gpu\": {name:?}, \"class\": {class:?}, \"rows\": [{}]}}\n", rows.join(", ")),
        )?;
    }
    Ok(())
}

/// One line of the table.
struct Row {
    work: &'static str,
    seconds: f64,
    elements: u64,
    /// Bytes that the work must read and write.
    bytes: u64,
    copy_bytes_per_second: f64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.bytes as f64 / self.seconds / self.copy_bytes_per_second
    }

    fn markdown(&self) -> String {
        let Row { work, seconds, elements, bytes, copy_bytes_per_second } = self;
        let (rate, floor) = (*elements as f64 / seconds / 1e9, copy_bytes_per_second / 1e9);
        let moved = *bytes as f64 / seconds / 1e9;
        let ratio = if *bytes == 0 { String::new() } else { format!("{:.2}", self.ratio()) };
        format!(
            "| {work} | {:.2} ms, {rate:.1} G elements/s, {moved:.0} GB/s | {floor:.0} GB/s | {ratio} |",
            seconds * 1e3
        )
    }

    fn json(&self) -> String {
        let Row { work, seconds, elements, bytes, copy_bytes_per_second } = self;
        format!(
            "{{\"work\": {work:?}, \"seconds\": {seconds}, \"elements\": {elements}, \"bytes\": {bytes}, \
             \"copy_bytes_per_second\": {copy_bytes_per_second}, \"ratio\": {}}}",
            self.ratio()
        )
    }
}

/// How much is measured: little where a CPU plays the GPU.
struct Size {
    blocks: u64,
    block_elements: u64,
    memory_bytes: u64,
}

fn measure(adapter: &Adapter) -> Outcome<Vec<Row>> {
    let size = match adapter.info().is_software() {
        true => Size { blocks: 4, block_elements: 1 << 20, memory_bytes: 1 << 30 },
        false => Size { blocks: 32, block_elements: 16 << 20, memory_bytes: 16 << 30 },
    };
    let options = GpuOptions { slots: 4, block_timeout: Duration::from_secs(60), memory_bytes: size.memory_bytes };
    let floor = copy_bytes_per_second(adapter, &options, 4 * size.block_elements)?;
    let (sender, events) = channel();
    let executor = GpuExecutor::new(adapter, &options, Box::new(move |event| drop(sender.send(event))))?;
    let mut bench = Bench { executor, events };
    let whole = Shape::new(&[size.blocks * size.block_elements / ROW, ROW])?;
    let grid = Grid::regular(&whole, &[size.block_elements / ROW, ROW]);
    let numbers = leaf(random(DType::F32, &whole), &whole);
    let held = bench.run(&stage(&grid, numbers, None, None), &[])?.1;
    let resident = leaf(Source::Array { array: id(1), field: 0, grid: grid.clone() }, &whole);
    let polynomial = "fn f(x: f32) -> f32 { return 2*x*x + 3*x + 1; }";
    let source = KernelSource { kind: KernelKind::Element, text: polynomial.to_owned(), entry: None, t: None };
    let kernel = Arc::new(TypedKernel::compile(source)?);
    bench.executor.add_kernel(kernel.clone());

    let elements = size.blocks * size.block_elements;
    let mean = |axes: [bool; 2]| Some((ReduceOp::Mean, axes.to_vec()));
    let sum = Some((ReduceOp::Sum, vec![true, true]));
    let works = [
        ("map 2x^2+3x+1, f32, resident", stage(&grid, resident.clone(), Some(&kernel), None), 8 * elements),
        ("sum, f32, resident", stage(&grid, resident.clone(), None, sum.clone()), 4 * elements),
        ("sum of the map, f32, resident", stage(&grid, resident.clone(), Some(&kernel), sum), 4 * elements),
        (
            "mean over the last axis, f32, resident",
            stage(&grid, resident.clone(), None, mean([false, true])),
            4 * elements,
        ),
        ("mean over the first axis, f32, resident", stage(&grid, resident, None, mean([true, false])), 4 * elements),
        ("random f32", stage(&grid, leaf(random(DType::F32, &whole), &whole), None, None), 4 * elements),
        ("mean of random f32", stage(&grid, leaf(random(DType::F32, &whole), &whole), None, mean([false, true])), 0),
        ("mean of random f64", stage(&grid, leaf(random(DType::F64, &whole), &whole), None, mean([false, true])), 0),
    ];
    let mut rows = Vec::new();
    for (work, stage, bytes) in works {
        let mut shortest = Duration::MAX;
        for _ in 0..TURNS {
            shortest = shortest.min(bench.run(&stage, &held)?.0);
        }
        rows.push(Row { work, seconds: shortest.as_secs_f64(), elements, bytes, copy_bytes_per_second: floor });
    }
    Ok(rows)
}

struct Bench {
    executor: GpuExecutor,
    events: Receiver<Event>,
}

impl Bench {
    /// All blocks of a stage, field 0, and how long they took. `held` are those of the array that it reads.
    fn run(&mut self, stage: &Arc<Stage>, held: &[Block]) -> Outcome<(Duration, Vec<Block>)> {
        self.executor.prepare(Arc::clone(stage));
        let begun = Instant::now();
        for block in 0..stage.blocks() {
            let operands = stage.reads(block).into_iter().map(|read| {
                let data = held[read.block as usize].clone();
                let region = read.region.unwrap_or_else(|| Region::whole(&data.shape));
                Operand { data, region }
            });
            let operands = operands.collect();
            self.executor.submit(Task { token: TaskToken(block), array: stage.array, block, operands });
        }
        let mut blocks = BTreeMap::new();
        for _ in 0..stage.blocks() {
            let event = self.events.recv()?;
            blocks.insert(event.token, event.result?.remove(0));
        }
        Ok((begun.elapsed(), blocks.into_values().collect()))
    }
}

fn id(sequence: u64) -> ArrayId {
    ArrayId { client: ClientId(1), sequence }
}

fn random(dtype: DType, shape: &Shape) -> Source {
    Source::Random(Random { distribution: Distribution::Uniform, dtype, shape: shape.clone(), seed: 1, stream: 2 })
}

fn leaf(source: Source, shape: &Shape) -> Leaf {
    let dtype = match &source {
        Source::Random(random) => random.dtype,
        _ => DType::F32,
    };
    Leaf { dtype, pieces: vec![Piece { source, view: View::identity(shape) }] }
}

fn stage(
    grid: &Grid,
    leaf: Leaf,
    kernel: Option<&Arc<TypedKernel>>,
    reduce: Option<(ReduceOp, Vec<bool>)>,
) -> Arc<Stage> {
    let dtype = leaf.dtype;
    let program = kernel.map_or_else(Program::identity, |kernel| Program {
        steps: vec![Step { kernel: kernel.hash(), arguments: vec![Value::Leaf(0)] }],
        results: vec![Value::Step { step: 0, field: 0 }],
    });
    // What is reduced along the first axis has further blocks to come.
    let reduce = reduce.map(|(op, axes)| {
        let finish = !axes[0];
        ChunkStep { reduction: Reduction { op, inputs: vec![dtype] }, axes, finish }
    });
    let output = reduce.as_ref().map_or(Item::Value(dtype), |reduce| match reduce.finish {
        true => Item::Value(result_dtypes(&reduce.reduction)[0]),
        false => accumulator(&reduce.reduction),
    });
    let body = Body::Map(Map { grid: grid.clone(), leaves: vec![leaf], program, reduce });
    Arc::new(Stage { array: id(9), body, outputs: vec![output], bytes_output: 0, bytes_peak: 0 })
}
