//! The GPU executor beside the device's own copy bandwidth: map, sum, mean, variance, and random numbers with their mean,
//! in runs of blocks that stay on the device; and reductions again as GPUs without 64-bit numbers do them. `benches/gpu.sh` runs it and keeps what it prints.
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
    work: String,
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
    /// Of each of two buffers that are copied: more than any cache holds.
    copied_bytes: u64,
    memory_bytes: u64,
}

impl Size {
    fn of(adapter: &Adapter) -> Size {
        match adapter.info().is_software() {
            true => Size { blocks: 4, block_elements: 1 << 20, copied_bytes: 4 << 20, memory_bytes: 1 << 30 },
            // The largest blocks that "auto" makes.
            false => Size { blocks: 16, block_elements: 32 << 20, copied_bytes: 1 << 30, memory_bytes: 16 << 30 },
        }
    }
}

fn measure(adapter: &Adapter) -> Outcome<Vec<Row>> {
    let size = Size::of(adapter);
    let options = GpuOptions { slots: 4, block_timeout: Duration::from_secs(60), memory_bytes: size.memory_bytes };
    let floor = copy_bytes_per_second(adapter, &options, size.copied_bytes)?;
    let whole = Shape::new(&[size.blocks * size.block_elements / ROW, ROW])?;
    let grid = Grid::regular(&whole, &[size.block_elements / ROW, ROW]);
    let resident = leaf(Source::Array { array: id(1), field: 0, grid: grid.clone() }, &whole);
    let polynomial = "fn f(x: f32) -> f32 { return 2*x*x + 3*x + 1; }";
    let source = KernelSource { kind: KernelKind::Element, text: polynomial.to_owned(), entry: None, t: None };
    let kernel = Arc::new(TypedKernel::compile(source)?);

    let elements = size.blocks * size.block_elements;
    let [all, last, first] = [[true, true], [false, true], [true, false]].map(|axes| axes.to_vec());
    let variance = ReduceOp::Var { ddof: 0.0 };
    let of_resident = |reduce| stage(&grid, resident.clone(), None, Some(reduce));
    let reductions = [
        ("sum, f32, resident", of_resident((ReduceOp::Sum, all.clone())), 4 * elements),
        ("mean over the last axis, f32, resident", of_resident((ReduceOp::Mean, last.clone())), 4 * elements),
        ("mean over the first axis, f32, resident", of_resident((ReduceOp::Mean, first)), 4 * elements),
        ("variance, f32, resident", of_resident((variance, all.clone())), 4 * elements),
    ];
    let of_random = |dtype, reduce: Option<_>| stage(&grid, leaf(random(dtype, &whole), &whole), None, reduce);
    let mapped = |reduce: Option<_>| stage(&grid, resident.clone(), Some(&kernel), reduce);
    let others = [
        ("map 2x^2+3x+1, f32, resident", mapped(None), 8 * elements),
        ("sum of the map, f32, resident", mapped(Some((ReduceOp::Sum, all))), 4 * elements),
        ("random f32", of_random(DType::F32, None), 4 * elements),
        ("mean of random f32", of_random(DType::F32, Some((ReduceOp::Mean, last.clone()))), 0),
        ("mean of random f64", of_random(DType::F64, Some((ReduceOp::Mean, last))), 0),
    ];

    let numbers = of_random(DType::F32, None);
    let mut rows = Vec::new();
    let mut add = |bench: &mut Bench, work: String, stage: &Arc<Stage>, bytes: u64| -> Outcome<()> {
        let seconds = bench.shortest(stage)?.as_secs_f64();
        rows.push(Row { work, seconds, elements, bytes, copy_bytes_per_second: floor });
        Ok(())
    };
    let mut bench = Bench::new(adapter, &options, &kernel, &numbers)?;
    for (work, stage, bytes) in others.iter().chain(&reductions) {
        add(&mut bench, (*work).to_owned(), stage, *bytes)?;
    }
    // One after the other: each takes its memory.
    drop(bench);
    let mut bench = Bench::new(&adapter.clone().limited(false, false), &options, &kernel, &numbers)?;
    for (work, stage, bytes) in &reductions {
        add(&mut bench, format!("{work}, as without 64-bit numbers"), stage, *bytes)?;
    }
    Ok(rows)
}

struct Bench {
    executor: GpuExecutor,
    events: Receiver<Event>,
    /// What is resident.
    held: Vec<Block>,
}

impl Bench {
    /// On one GPU, which makes `numbers` and keeps them.
    fn new(adapter: &Adapter, options: &GpuOptions, kernel: &Arc<TypedKernel>, numbers: &Arc<Stage>) -> Outcome<Bench> {
        let (sender, events) = channel();
        let mut executor = GpuExecutor::new(adapter, options, Box::new(move |event| drop(sender.send(event))))?;
        executor.add_kernel(Arc::clone(kernel));
        let mut bench = Bench { executor, events, held: Vec::new() };
        bench.held = bench.run(numbers)?.1;
        Ok(bench)
    }

    fn shortest(&mut self, stage: &Arc<Stage>) -> Outcome<Duration> {
        let mut shortest = Duration::MAX;
        for _ in 0..TURNS {
            shortest = shortest.min(self.run(stage)?.0);
        }
        Ok(shortest)
    }

    /// All blocks of a stage, field 0, and how long they took. What it reads is held.
    fn run(&mut self, stage: &Arc<Stage>) -> Outcome<(Duration, Vec<Block>)> {
        self.executor.prepare(Arc::clone(stage));
        let begun = Instant::now();
        for block in 0..stage.blocks() {
            let operands = stage.reads(block).into_iter().map(|read| {
                let data = self.held[read.block as usize].clone();
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
