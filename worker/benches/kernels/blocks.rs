//! Block kernels beside their floors: copying, or for the histogram reading, what they read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::cpu::CodeGenerator;
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::{Executor, Operand};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::kernel::{Kernel, TypedKernel};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{BlockCall, Body, Leaf, Map, Piece, Program, Source, Stage, Value};
use gridloom_worker::view::View;

use super::{Engine, TURNS, copy};

/// Blocks of 16 MiB: rows and columns.
const SHAPE: [u64; 2] = [2048, 2048];
const BLOCKS: u64 = 16;

/// Name, text, the output's shape, whether the input is floats.
const KERNELS: [(&str, &str, [u64; 2], bool); 3] = [
    (
        "block 2x2+3x+1",
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @group(0) @binding(2) var<storage, read> info: BlockInfo;
        @compute @workgroup_size(64, 4) fn f(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = id.y * info.shape[1] + id.x;
            if at < arrayLength(&y) { y[at] = 2 * x[at] * x[at] + 3 * x[at] + 1; }
        }",
        SHAPE,
        true,
    ),
    (
        "5-point stencil",
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @group(0) @binding(2) var<storage, read> info: BlockInfo;
        @compute @workgroup_size(64, 4) fn f(@builtin(global_invocation_id) id: vec3<u32>) {
            let rows = info.shape[0];
            let columns = info.shape[1];
            if id.x > 0 && id.x < columns - 1 && id.y > 0 && id.y < rows - 1 {
                let at = id.y * columns + id.x;
                y[at] = x[at - 1] + x[at + 1] + x[at - columns] + x[at + columns] - 4 * x[at];
            }
        }",
        SHAPE,
        true,
    ),
    (
        "histogram",
        "@group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
        var<workgroup> own: array<atomic<u32>, 256>;
        @compute @workgroup_size(256) fn f(@builtin(local_invocation_index) id: u32) {
            for (var i = id; i < arrayLength(&x); i += 256) { atomicAdd(&own[x[i] & 255], 1u); }
            workgroupBarrier();
            atomicStore(&counts[id], atomicLoad(&own[id]));
        }",
        [1, 256],
        false,
    ),
];

pub(super) fn rows(wanted: &str) {
    for (name, text, output, is_float) in KERNELS.into_iter().filter(|kernel| kernel.0.contains(wanted)) {
        let dtype = if is_float { DType::F32 } else { DType::U32 };
        let kernel = Kernel::block(text).and_then(|kernel| kernel.for_arguments(&[dtype]));
        let kernel = kernel.expect("the kernels here are valid");
        let operands = operands(dtype, SHAPE);
        let small = [32, SHAPE[1]];
        let mut interpreter = Engine::new(CodeGenerator::Interpreter, 1);
        interpreter.prepare_block(&kernel, dtype, small, if is_float { small } else { output });
        let elements = (small[0] * small[1]) as f64;
        let interpreted = interpreter.run(&self::operands(dtype, small)[..1], 1).as_secs_f64() * 1e9 / elements;
        for threads in [1, 2] {
            let mut engine = Engine::new(CodeGenerator::Cranelift, threads);
            let begun = Instant::now();
            engine.prepare_block(&kernel, dtype, SHAPE, output);
            let compile = begun.elapsed().as_secs_f64() * 1e3;
            let (mut work, mut floor) = (Duration::MAX, Duration::MAX);
            for _ in 0..TURNS {
                work = work.min(engine.run(&operands, BLOCKS));
                floor = floor.min(copy(&operands, BLOCKS, threads, !is_float));
            }
            let [work, floor] = [work, floor].map(|duration| duration.as_secs_f64() * 1e3);
            let nanoseconds = work * 1e6 / (BLOCKS * SHAPE[0] * SHAPE[1]) as f64;
            println!(
                "{name:<18} {:>8} {threads:>7} {work:>7.1} {floor:>7.1} {:>10.2} {nanoseconds:>11.3} {compile:>11.2} \
                 {interpreted:>15.0}",
                "large",
                floor / work
            );
        }
    }
}

/// Numbers from -2 to 2, or bits that look drawn.
fn operands(dtype: DType, lengths: [u64; 2]) -> Vec<Vec<Operand>> {
    let shape = Shape::new(&lengths).expect("a shape");
    let operand = |block: u64| {
        let mut buffer = BufferMut::try_new(shape.elements() as usize * 4).expect("memory for a block");
        for (at, word) in buffer.elements_mut::<u32>().iter_mut().enumerate() {
            let at = at as u32 + (block * shape.elements()) as u32;
            *word = match dtype {
                DType::F32 => ((at % 4096) as f32 * (4.0 / 4096.0) - 2.0).to_bits(),
                _ => at.wrapping_mul(2_654_435_761) >> 7,
            };
        }
        let data = Block::new(Item::Value(dtype), shape.clone(), buffer.freeze());
        vec![Operand { data, region: Region::whole(&shape) }]
    };
    (0..BLOCKS).map(operand).collect()
}

impl Engine {
    /// Every task is block 0 of a stage whose block 0 is all there is.
    fn prepare_block(&mut self, kernel: &Arc<TypedKernel>, dtype: DType, input: [u64; 2], output: [u64; 2]) {
        self.stages += 1;
        let [input, output] = [input, output].map(|lengths| Shape::new(&lengths).expect("a shape"));
        let grid = Grid::single(&input);
        let array = ArrayId { client: ClientId(2), sequence: 0 };
        let source = Source::Array { array, field: 0, grid: grid.clone() };
        let leaf = Leaf { dtype, pieces: vec![Piece { source, view: View::identity(&input) }] };
        let program = Program { steps: Vec::new(), results: vec![Value::Leaf(0)] };
        let inputs = Map { grid, leaves: vec![leaf], program, reduce: None };
        let call = BlockCall { inputs, kernel: kernel.hash(), output: Grid::single(&output) };
        let (outputs, bytes_output) = (vec![Item::Value(dtype)], output.elements() * 4);
        let stage = Stage { array: self.array(), body: Body::Block(call), outputs, bytes_output, bytes_peak: 1 << 30 };
        self.executor.add_kernel(Arc::clone(kernel));
        self.executor.prepare(Arc::new(stage));
    }
}
