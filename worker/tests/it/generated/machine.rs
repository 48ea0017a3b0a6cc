//! Kernels through a whole executor, one block at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::cpu::{CodeGenerator, CpuExecutor, CpuOptions};
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::{Event, EventSink, ExecuteError, Executor, Operand, Task, TaskToken};
use gridloom_worker::gpu::GpuExecutor;
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{
    BlockCall, Body, ChunkStep, Leaf, Map, Piece, Program, ReduceOp, Reduction, Source, Stage, Step, Value,
};
use gridloom_worker::view::View;

use crate::conformance::{adapter, gpu_options};

/// An executor that is asked one thing at a time.
pub(super) struct Machine {
    executor: Box<dyn Executor>,
    events: Receiver<Event>,
    stages: u64,
}

/// The kernel of a text.
pub(super) fn kernel(text: &str, t: Option<DType>) -> Arc<TypedKernel> {
    let source = KernelSource { kind: KernelKind::Element, text: text.to_owned(), entry: None, t };
    Arc::new(TypedKernel::compile(source).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// A block of one axis from stored words.
pub(super) fn block(dtype: DType, words: &[u64]) -> Block {
    let width = dtype.bytes() as usize;
    let mut buffer = BufferMut::zeroed(words.len() * width);
    for (bytes, word) in buffer.bytes_mut().chunks_exact_mut(width).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes()[..width]);
    }
    Block::new(Item::Value(dtype), Shape::new(&[words.len() as u64]).unwrap(), buffer.freeze())
}

impl Machine {
    pub(super) fn new(code_generator: CodeGenerator, block_timeout: Duration) -> Machine {
        let options = CpuOptions { slots: 1, block_timeout, code_generator };
        Machine::of(|sink| Box::new(CpuExecutor::new(&options, sink).unwrap()))
    }

    /// The GPU of this machine, if it has one.
    fn gpu() -> Option<Machine> {
        let adapter = adapter()?;
        Some(Machine::of(|sink| Box::new(GpuExecutor::new(&adapter, &gpu_options(), sink).unwrap())))
    }

    fn of(make: impl FnOnce(EventSink) -> Box<dyn Executor>) -> Machine {
        let (sender, events) = channel();
        Machine { executor: make(Box::new(move |event| drop(sender.send(event)))), events, stages: 0 }
    }

    pub(super) fn name(&self) -> &str {
        self.executor.name()
    }

    /// What the kernel makes of these leaves, all of one shape. The last `literals` of them travel with the stage.
    pub(super) fn run(
        &mut self,
        kernel: &Arc<TypedKernel>,
        leaves: &[Block],
        literals: usize,
    ) -> Result<Vec<Block>, ExecuteError> {
        let arguments = (0..leaves.len() as u32).map(Value::Leaf).collect();
        let fields = 0..kernel.results().len() as u32;
        let program = Program {
            steps: vec![Step { kernel: kernel.hash(), arguments }],
            results: fields.map(|field| Value::Step { step: 0, field }).collect(),
        };
        self.stage(kernel, leaves, literals, |map| Body::Map(Map { program, ..map }))
    }

    /// What the block kernel makes of these inputs, all of one shape, which is the outputs' as well.
    pub(super) fn run_block(
        &mut self,
        kernel: &Arc<TypedKernel>,
        inputs: &[Block],
    ) -> Result<Vec<Block>, ExecuteError> {
        let results = (0..inputs.len() as u32).map(Value::Leaf).collect();
        let program = Program { steps: Vec::new(), results };
        self.stage(kernel, inputs, 0, |map| {
            let output = map.grid.clone();
            Body::Block(BlockCall { inputs: Map { program, ..map }, kernel: kernel.hash(), output })
        })
    }

    /// What the reduction kernel makes of a leaf over `axes`.
    pub(super) fn reduce(
        &mut self,
        kernel: &Arc<TypedKernel>,
        leaf: &Block,
        axes: &[bool],
    ) -> Result<Vec<Block>, ExecuteError> {
        let inputs = kernel.parameters().iter().map(|parameter| parameter.dtype).collect();
        let reduction = Reduction { op: ReduceOp::User(kernel.hash()), inputs };
        let reduce = ChunkStep { reduction, axes: axes.to_vec(), finish: true };
        self.stage(kernel, std::slice::from_ref(leaf), 0, |map| Body::Map(Map { reduce: Some(reduce), ..map }))
    }

    fn stage(
        &mut self,
        kernel: &Arc<TypedKernel>,
        leaves: &[Block],
        literals: usize,
        body: impl FnOnce(Map) -> Body,
    ) -> Result<Vec<Block>, ExecuteError> {
        let shape = leaves[0].shape.clone();
        let grid = Grid::single(&shape);
        self.stages += 1;
        let array = |sequence| ArrayId { client: ClientId(1), sequence };
        let blocks = leaves.len().saturating_sub(literals);
        let leaf = |(index, block): (usize, &Block)| {
            let Item::Value(dtype) = block.item else { panic!("leaves are values") };
            let source = match index < blocks {
                true => Source::Array { array: array(1 << 40 | index as u64), field: 0, grid: grid.clone() },
                false => Source::Literal { shape: shape.clone(), bytes: block.bytes().into() },
            };
            Leaf { dtype, pieces: vec![Piece { source, view: View::identity(&shape) }] }
        };
        let outputs: Vec<Item> = kernel.results().iter().map(|field| Item::Value(field.dtype)).collect();
        let leaves_of_map = leaves.iter().enumerate().map(leaf).collect();
        let map = Map { grid: grid.clone(), leaves: leaves_of_map, program: Program::identity(), reduce: None };
        let (bytes_output, bytes_peak) = (1 << 20, 1 << 24);
        let stage = Stage { array: array(self.stages), body: body(map), outputs, bytes_output, bytes_peak };
        self.executor.add_kernel(Arc::clone(kernel));
        self.executor.prepare(Arc::new(stage));
        let operand = |block: &Block| Operand { data: block.clone(), region: Region::whole(&shape) };
        let operands = leaves[..blocks].iter().map(operand).collect();
        self.executor.submit(Task { token: TaskToken(self.stages), array: array(self.stages), block: 0, operands });
        let event = self.events.recv().unwrap();
        self.executor.cancel(array(self.stages));
        event.result
    }
}

/// The interpreter and another executor beside each other.
pub(super) struct Pair {
    interpreter: Machine,
    other: Machine,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Pair {
    /// With Cranelift.
    pub(super) fn new() -> Pair {
        let cranelift = Machine::new(CodeGenerator::Cranelift, PATIENCE);
        assert_eq!(cranelift.name(), "cpu cranelift");
        Pair { interpreter: Machine::new(CodeGenerator::Interpreter, PATIENCE), other: cranelift }
    }

    /// With the GPU, if there is one.
    pub(super) fn with_gpu() -> Option<Pair> {
        let gpu = Machine::gpu()?;
        assert!(gpu.name().starts_with("gpu "), "{}", gpu.name());
        Some(Pair { interpreter: Machine::new(CodeGenerator::Interpreter, PATIENCE), other: gpu })
    }

    /// Both give the same bits, or this says where they do not.
    pub(super) fn compare(
        &mut self,
        kernel: &Arc<TypedKernel>,
        leaves: &[Block],
        literals: usize,
    ) -> Result<(), String> {
        let expected =
            self.interpreter.run(kernel, leaves, literals).map_err(|error| format!("interpreter: {error}"))?;
        let found = self.other.run(kernel, leaves, literals);
        let found = found.map_err(|error| format!("{}: {error}", self.other.name()))?;
        differs(&expected, &found, leaves)
    }

    /// Both make the same blocks of a block kernel's inputs, or the same error; or this says where they do not.
    pub(super) fn compare_blocks(
        &mut self,
        kernel: &Arc<TypedKernel>,
        inputs: &[Block],
    ) -> Result<Result<(), ExecuteError>, String> {
        let machines = [&mut self.interpreter, &mut self.other];
        match machines.map(|machine| machine.run_block(kernel, inputs)) {
            [Ok(expected), Ok(found)] => differs(&expected, &found, &[]).map(Ok),
            [Err(expected), Err(found)] if expected == found => Ok(Err(found)),
            [expected, found] => Err(format!("{found:?} instead of {expected:?}")),
        }
    }

    /// What both make of a reduction.
    pub(super) fn reduce(&mut self, kernel: &Arc<TypedKernel>, leaf: &Block, axes: &[bool]) -> [Vec<Block>; 2] {
        [&mut self.interpreter, &mut self.other].map(|machine| machine.reduce(kernel, leaf, axes).unwrap())
    }

    #[track_caller]
    pub(super) fn check(&mut self, text: &str, t: Option<DType>, leaves: &[Block]) {
        if let Err(difference) = self.compare(&kernel(text, t), leaves, 0) {
            panic!("{difference}, T = {t:?}\n{text}");
        }
    }
}

/// Says where blocks differ that were computed from elements of `leaves`, if these are told.
fn differs(expected: &[Block], found: &[Block], leaves: &[Block]) -> Result<(), String> {
    for (field, (expected, found)) in expected.iter().zip(found).enumerate() {
        let width = expected.item.bytes() as usize;
        let pairs = expected.bytes().chunks(width).zip(found.bytes().chunks(width));
        if let Some((at, (expected, found))) = pairs.enumerate().find(|(_, (expected, found))| expected != found) {
            let arguments: Vec<String> = leaves
                .iter()
                .map(|leaf| hex(&leaf.bytes()[at * leaf.item.bytes() as usize..][..leaf.item.bytes() as usize]))
                .collect();
            let (expected, found) = (hex(expected), hex(found));
            return Err(format!("element {at} of field {field}: {found} instead of {expected} from {arguments:?}"));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}
