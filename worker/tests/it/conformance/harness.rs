//! Stages in, blocks out: an executor with a channel at its end, and the arrays that its stages read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gridloom_worker::block::{Block, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::executor::{Event, EventSink, ExecuteError, Executor, Operand, Task, TaskToken};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::kernel::{KernelKind, KernelSource, TypedKernel};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{Body, Leaf, Map, Piece, Program, Source, Stage, Step, Value};
use gridloom_worker::view::View;

/// The longest that a test waits for one block.
const PATIENCE: Duration = Duration::from_secs(120);

/// An executor that a test asks and waits for.
pub(crate) struct Machine {
    pub(crate) executor: Box<dyn Executor>,
    events: Receiver<Event>,
}

impl Machine {
    pub(crate) fn new(make: impl FnOnce(EventSink) -> Box<dyn Executor>) -> Machine {
        let (sender, events) = channel();
        // A test that has failed does not listen any more.
        let sink = move |event| drop(sender.send(event));
        Machine { executor: make(Box::new(sink)), events }
    }

    /// All blocks of a stage, in order, or the first error.
    pub(crate) fn run(&mut self, work: &Work) -> Result<Vec<Vec<Block>>, ExecuteError> {
        work.kernels.iter().for_each(|kernel| self.executor.add_kernel(Arc::clone(kernel)));
        self.executor.prepare(Arc::clone(&work.stage));
        let count = work.stage.blocks();
        (0..count).for_each(|block| self.executor.submit(work.task(block)));
        let mut results: BTreeMap<u64, Result<Vec<Block>, ExecuteError>> = BTreeMap::new();
        for _ in 0..count {
            let event = self.events.recv_timeout(PATIENCE).expect("every task yields an event");
            let twice = results.insert(event.token.0, event.result);
            assert!(twice.is_none(), "every task yields one event");
        }
        assert!(self.events.try_recv().is_err(), "every task yields one event");
        self.executor.cancel(work.stage.array);
        results.into_values().collect()
    }
}

/// A stage, its kernels and the arrays that it reads.
pub(crate) struct Work {
    pub(crate) stage: Arc<Stage>,
    pub(crate) kernels: Vec<Arc<TypedKernel>>,
    pub(crate) arrays: Vec<Array>,
}

/// An array that is held: its blocks, by field.
#[derive(Clone)]
pub(crate) struct Array {
    pub(crate) id: ArrayId,
    pub(crate) grid: Grid,
    pub(crate) dtype: DType,
    pub(crate) blocks: Vec<Block>,
}

impl Work {
    pub(crate) fn task(&self, block: u64) -> Task {
        let operand = |read: gridloom_worker::stage::Read| {
            let array =
                self.arrays.iter().find(|array| array.id == read.array).expect("the arrays of a stage are given");
            let data = array.blocks[read.block as usize].clone();
            let region = read.region.unwrap_or_else(|| Region::whole(&data.shape));
            Operand { data, region }
        };
        let operands = self.stage.reads(block).into_iter().map(operand).collect();
        Task { token: TaskToken(block), array: self.stage.array, block, operands }
    }
}

pub(crate) fn id(sequence: u64) -> ArrayId {
    ArrayId { client: ClientId(1), sequence }
}

pub(crate) fn shape(lengths: &[u64]) -> Shape {
    Shape::new(lengths).unwrap()
}

impl Array {
    /// An array whose element at row-major index `i` has the bits `word(i)`.
    pub(crate) fn new(sequence: u64, dtype: DType, grid: Grid, word: impl Fn(u64) -> u64) -> Array {
        let whole = grid.shape();
        let counts = grid.block_counts();
        let block = |at: u64| {
            let region = grid.region(&counts.index_at(at));
            let words = region.indices().map(|index| word(whole.linear(&index)));
            let bytes: Vec<u8> =
                words.flat_map(|word| word.to_le_bytes().into_iter().take(dtype.bytes() as usize)).collect();
            let mut buffer = gridloom_worker::block::BufferMut::zeroed(bytes.len());
            buffer.bytes_mut().copy_from_slice(&bytes);
            Block::new(Item::Value(dtype), region.shape(), buffer.freeze())
        };
        let blocks = (0..grid.blocks()).map(block).collect();
        Array { id: id(sequence), dtype, blocks, grid }
    }

    /// All of it, as a leaf of a space of its own shape.
    pub(crate) fn leaf(&self) -> Leaf {
        self.seen(View::identity(&self.grid.shape()))
    }

    /// The same through a view.
    pub(crate) fn seen(&self, view: View) -> Leaf {
        let source = Source::Array { array: self.id, field: 0, grid: self.grid.clone() };
        Leaf { dtype: self.dtype, pieces: vec![Piece { source, view }] }
    }
}

/// An element kernel of this text.
pub(crate) fn element(text: &str, t: DType) -> Arc<TypedKernel> {
    let source = KernelSource { kind: KernelKind::Element, text: text.to_owned(), entry: None, t: Some(t) };
    Arc::new(TypedKernel::compile(source).unwrap_or_else(|error| panic!("{}", error.rendered())))
}

/// A map of one kernel over leaves, all results of it.
pub(crate) fn map(grid: Grid, leaves: Vec<Leaf>, kernel: Option<Arc<TypedKernel>>, arrays: Vec<Array>) -> Work {
    let (program, outputs) = match &kernel {
        None => (Program::identity(), vec![Item::Value(leaves[0].dtype)]),
        Some(kernel) => {
            let arguments = (0..leaves.len() as u32).map(Value::Leaf).collect();
            let results = (0..kernel.results().len() as u32).map(|field| Value::Step { step: 0, field }).collect();
            let program = Program { steps: vec![Step { kernel: kernel.hash(), arguments }], results };
            (program, kernel.results().iter().map(|field| Item::Value(field.dtype)).collect())
        }
    };
    let body = Body::Map(Map { grid, leaves, program, reduce: None });
    work(body, outputs, kernel.into_iter().collect(), arrays)
}

pub(crate) fn work(body: Body, outputs: Vec<Item>, kernels: Vec<Arc<TypedKernel>>, arrays: Vec<Array>) -> Work {
    let stage = Stage { array: id(u64::MAX), body, outputs, bytes_output: 0, bytes_peak: 0 };
    Work { stage: Arc::new(stage), kernels, arrays }
}
