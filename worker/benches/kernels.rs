//! Element kernels as machine code beside their floors: copying what they read and write, on as many threads, in the
//! same run and in turns. The ratios are what counts.
//! `cargo bench -p gridloom-worker --bench kernels [part of a name]`; `peers/kernels.py` runs it beside Numba.

#![allow(clippy::print_stdout)]

#[path = "kernels/blocks.rs"]
mod blocks;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::cpu::{CodeGenerator, CpuExecutor, CpuOptions};
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::{Event, Executor, Operand, Task, TaskToken};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::kernel::{Kernel, TypedKernel};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{
    Body, ChunkStep, Leaf, Map, Piece, Program, ReduceOp, Reduction, Source, Stage, Step, Value,
};
use gridloom_worker::view::View;

const TURNS: usize = 5;
/// How often a driver looks for an event before it sleeps.
const AWAKE_LOOKS: usize = 200;
/// Blocks of 16 MiB, and one that stays in an L2 cache with its result.
const LARGE: u64 = 4 << 20;
const SMALL: u64 = 32 << 10;

/// Name, text, parameters, elements in millions, whether the results are summed.
const KERNELS: [(&str, &str, usize, u64, bool); 4] = [
    ("2x2+3x+1", "fn f(x: f32) -> f32 { return 2*x*x + 3*x + 1; }", 1, 64, false),
    ("sin exp sqrt", "fn f(x: f32) -> f32 { return sin(x) * exp(-x*x) + sqrt(abs(x)); }", 1, 64, false),
    (
        "Mandelbrot 200",
        "fn f(a: f32, b: f32) -> f32 {
            var x = 0f; var y = 0f; var n = 0u;
            loop {
                if n == 200u || x*x + y*y > 4f { break; }
                let t = x*x - y*y + a; y = 2f*x*y + b; x = t; n++;
            }
            return f32(n);
        }",
        2,
        8,
        false,
    ),
    ("sum of a map", "fn f(x: f32) -> f32 { return 2*x*x + 3*x + 1; }", 1, 64, true),
];

/// An executor, and where its events come.
struct Engine {
    executor: CpuExecutor,
    events: Receiver<Event>,
    stages: u64,
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    for (name, text, parameters, ..) in KERNELS.into_iter().filter(|kernel| kernel.0.contains(&wanted)) {
        let [first, usual] = compile(text, parameters);
        println!("compiling {name}: {first:.2} ms at first, {usual:.2} ms after");
    }
    println!("kernel                size threads      ms   floor   floor/it  ns/element  interpreter ns");
    for (name, text, parameters, millions, is_summed) in KERNELS.into_iter().filter(|kernel| kernel.0.contains(&wanted))
    {
        let kernel = typed(text, parameters);
        let interpreted = interpreted_ns(&kernel, is_summed);
        for (size, block, elements) in [("large", LARGE, millions << 20), ("L2", SMALL, 32 << 20)] {
            for threads in [1, 2] {
                let blocks = if name.starts_with("Mandel") { elements.min(8 << 20) } else { elements } / block;
                let (milliseconds, floor) = measure(&kernel, is_summed, threads, block, blocks);
                let nanoseconds = milliseconds * 1e6 / (blocks * block) as f64;
                println!(
                    "{name:<18} {size:>8} {threads:>7} {milliseconds:>7.1} {floor:>7.1} {:>10.2} {nanoseconds:>11.3} \
                     {interpreted:>15.0}",
                    floor / milliseconds
                );
            }
        }
    }
    blocks::rows(&wanted);
}

/// Milliseconds from a kernel's text to its code: the first time, and the shortest of many.
fn compile(text: &str, parameters: usize) -> [f64; 2] {
    let times: Vec<f64> = (0..4 * TURNS)
        .map(|_| {
            let mut engine = Engine::new(CodeGenerator::Cranelift, 1);
            let begun = Instant::now();
            engine.prepare(&typed(text, parameters), false, LARGE);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    [times[0], times.iter().copied().fold(f64::INFINITY, f64::min)]
}

fn typed(text: &str, parameters: usize) -> Arc<TypedKernel> {
    let kernel = Kernel::element(text).and_then(|kernel| kernel.for_arguments(&vec![DType::F32; parameters]));
    kernel.expect("the kernels here are valid")
}

/// The shortest milliseconds of the kernel over all blocks and of copying them, in turns.
fn measure(kernel: &Arc<TypedKernel>, is_summed: bool, threads: usize, block: u64, blocks: u64) -> (f64, f64) {
    let operands = operands(kernel, block, if block == SMALL { 1 } else { blocks });
    let mut engine = Engine::new(CodeGenerator::Cranelift, threads);
    engine.prepare(kernel, is_summed, block);
    let (mut work, mut floor) = (Duration::MAX, Duration::MAX);
    for _ in 0..TURNS {
        work = work.min(engine.run(&operands, blocks));
        floor = floor.min(copy(&operands, blocks, threads, is_summed));
    }
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    (milliseconds(work), milliseconds(floor))
}

fn interpreted_ns(kernel: &Arc<TypedKernel>, is_summed: bool) -> f64 {
    let elements = 16 << 10;
    let mut engine = Engine::new(CodeGenerator::Interpreter, 1);
    engine.prepare(kernel, is_summed, elements);
    let operands = operands(kernel, elements, 1);
    engine.run(&operands, 1).as_secs_f64() * 1e9 / elements as f64
}

/// Per block, one operand per parameter: numbers from -2 to 2, of neighbours along a row, of rows over the image.
fn operands(kernel: &TypedKernel, elements: u64, blocks: u64) -> Vec<Vec<Operand>> {
    let shape = Shape::new(&[elements]).expect("a shape");
    let operand = |block: u64, parameter: usize| {
        let mut buffer = BufferMut::try_new(elements as usize * 4).expect("memory for a block");
        for (at, value) in buffer.elements_mut::<f32>().iter_mut().enumerate() {
            // Neighbours are near each other, as the pixels of an image are.
            let periods = if elements == SMALL { [256, SMALL] } else { [4096, LARGE] };
            let (at, period) = (at as u64 + block * elements, periods[parameter]);
            *value = (at % period) as f32 * (4.0 / period as f32) - 2.0;
        }
        Operand {
            data: Block::new(Item::Value(DType::F32), shape.clone(), buffer.freeze()),
            region: Region::whole(&shape),
        }
    };
    let parameters = kernel.parameters().len();
    (0..blocks).map(|block| (0..parameters).map(|parameter| operand(block, parameter)).collect()).collect()
}

/// Copies all operands, on threads of their own; if they are only summed, reads them.
fn copy(operands: &[Vec<Operand>], blocks: u64, threads: usize, is_summed: bool) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads as u64 {
            scope.spawn(move || {
                for block in (thread..blocks).step_by(threads) {
                    let source = operands[block as usize % operands.len()][0].data.elements::<f32>();
                    if is_summed {
                        // As integers, so that the compiler may use vectors.
                        let words: &[u32] = bytemuck::cast_slice(source);
                        black_box(words.iter().fold(0u32, |sum, &word| sum.wrapping_add(word)));
                    } else {
                        let mut target = BufferMut::try_new(source.len() * 4).expect("memory for a block");
                        target.elements_mut::<f32>().copy_from_slice(source);
                        black_box(target.bytes_mut());
                    }
                }
            });
        }
    });
    begun.elapsed()
}

impl Engine {
    fn new(code_generator: CodeGenerator, slots: usize) -> Engine {
        let (sender, events) = channel();
        let options = CpuOptions { slots, block_timeout: Duration::from_secs(600), code_generator };
        let sink = Box::new(move |event| drop(sender.send(event)));
        let executor = CpuExecutor::new(&options, sink).expect("threads can be started");
        Engine { executor, events, stages: 0 }
    }

    fn array(&self) -> ArrayId {
        ArrayId { client: ClientId(1), sequence: self.stages }
    }

    /// Every task is block 0 of a stage whose block 0 is all there is.
    fn prepare(&mut self, kernel: &Arc<TypedKernel>, is_summed: bool, elements: u64) {
        self.stages += 1;
        let shape = Shape::new(&[elements]).expect("a shape");
        let grid = Grid::single(&shape);
        let leaf = |sequence| {
            let array = ArrayId { client: ClientId(2), sequence };
            let source = Source::Array { array, field: 0, grid: grid.clone() };
            Leaf { dtype: DType::F32, pieces: vec![Piece { source, view: View::identity(&shape) }] }
        };
        let parameters = kernel.parameters().len() as u32;
        let step = Step { kernel: kernel.hash(), arguments: (0..parameters).map(Value::Leaf).collect() };
        let program = Program { steps: vec![step], results: vec![Value::Step { step: 0, field: 0 }] };
        let reduction = || Reduction { op: ReduceOp::Sum, inputs: vec![DType::F32] };
        let reduce = is_summed.then(|| ChunkStep { reduction: reduction(), axes: vec![true], finish: true });
        let map = Map { grid: grid.clone(), leaves: (0..u64::from(parameters)).map(leaf).collect(), program, reduce };
        let outputs = vec![Item::Value(DType::F32)];
        let bytes_output = elements * 4;
        let stage = Stage { array: self.array(), body: Body::Map(map), outputs, bytes_output, bytes_peak: 1 << 30 };
        self.executor.add_kernel(Arc::clone(kernel));
        self.executor.prepare(Arc::new(stage));
    }

    /// The next event. It is looked for again and again before this thread sleeps: waking it would take the time of a slot,
    /// and nobody is woken so in a cluster, where the slot itself says what comes next.
    fn event(&self) -> Event {
        for _ in 0..AWAKE_LOOKS {
            if let Ok(event) = self.events.try_recv() {
                return event;
            }
            std::thread::yield_now();
        }
        self.events.recv().expect("every task has its event")
    }

    /// With a few tasks at a time, as a scheduler has them: the memory of results is used again.
    fn run(&mut self, operands: &[Vec<Operand>], blocks: u64) -> Duration {
        let begun = Instant::now();
        let ahead = 4 * self.executor.slots() as u64;
        for block in 0..blocks + ahead {
            if block < blocks {
                let operands = operands[block as usize % operands.len()].clone();
                self.executor.submit(Task { token: TaskToken(block), array: self.array(), block: 0, operands });
            }
            if block >= ahead {
                let event = self.event();
                black_box(event.result.expect("the kernels here run"));
            }
        }
        begun.elapsed()
    }
}
