//! Reductions that users write, over the same tree as the built-in ones: one accumulator is one value, as words.
//!
//! `lift`, `combine` and `finish` run in the interpreter, which is the definition. `identity` is what no element gives:
//! the tree never needs it, since every accumulator begins with an element.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::Sink;
use super::engine::{Engine, Site};
use super::geometry::Sweep;
use super::operation::{LANES, Operation};
use crate::block::{Block, BufferMut, Item, OutOfMemory};
use crate::dtype::{DType, Element};
use crate::executor::ExecuteError;
use crate::interpreter::{ACCUMULATOR_BYTES_MAX, AccumulatorLayout, Interpreter, StopFlag, layout_of};
use crate::kernel::TypedKernel;
use crate::with_element;

/// The most words of an accumulator.
const WORDS_MAX: usize = ACCUMULATOR_BYTES_MAX as usize / 4;

/// An accumulator's words; those beyond its number are zero.
type Words = [u64; WORDS_MAX];

/// A reduction kernel, ready to run.
pub(super) struct UserReduction {
    inputs: Vec<DType>,
    results: Vec<DType>,
    layout: Arc<AccumulatorLayout>,
    lift: Interpreter,
    combine: Interpreter,
    finish: Interpreter,
}

impl UserReduction {
    pub(super) fn new(kernel: &TypedKernel, inputs: &[DType]) -> Result<UserReduction, ExecuteError> {
        let unsupported = |what: String| ExecuteError::Unsupported { executor: "reduction".to_owned(), what };
        let functions = kernel.reduction().ok_or_else(|| unsupported(format!("{kernel} reduces nothing")))?;
        let parameters: Vec<DType> = functions.signature.parameters.iter().map(|parameter| parameter.dtype).collect();
        if parameters != inputs {
            return Err(unsupported(format!("{kernel} over inputs of {inputs:?}")));
        }
        let module = Arc::new(kernel.module().clone());
        let layout = layout_of(&module, functions.accumulator).map_err(|error| unsupported(error.to_string()))?;
        let interpreter =
            |function| Interpreter::new(Arc::clone(&module), function).map_err(|error| unsupported(error.to_string()));
        Ok(UserReduction {
            inputs: parameters,
            results: functions.signature.results.iter().map(|field| field.dtype).collect(),
            layout: Arc::new(layout),
            lift: interpreter(functions.lift)?,
            combine: interpreter(functions.combine)?,
            finish: interpreter(functions.finish)?,
        })
    }

    pub(super) fn accumulator(&self) -> Item {
        Item::Partial { bytes: self.layout.bytes }
    }

    pub(super) fn without_padding(&self, partial: &Block) -> Result<Block, OutOfMemory> {
        let (width, mut words) = (self.layout.bytes as usize, vec![0; self.layout.words.len()]);
        let mut buffer = BufferMut::try_new(partial.bytes().len())?;
        for (from, to) in partial.bytes().chunks_exact(width).zip(buffer.bytes_mut().chunks_exact_mut(width)) {
            self.layout.read(from, &mut words);
            self.layout.write(&words, to);
        }
        Ok(Block::new(partial.item, partial.shape.clone(), buffer.freeze()))
    }

    pub(super) fn results(&self) -> &[DType] {
        &self.results
    }

    pub(super) fn combiner(&self, stop: &StopFlag) -> Combiner {
        let count = self.layout.words.len();
        Combiner {
            layout: Arc::clone(&self.layout),
            arguments: vec![0; 2 * count],
            combine: self.combine.clone(),
            stop: stop.clone(),
            stopped: false,
        }
    }

    /// What reduces one block.
    pub(super) fn sink(&self, site: Site, stop: &StopFlag) -> Box<dyn Sink> {
        let operation = Combine { width: self.layout.bytes as usize, combiner: RefCell::new(self.combiner(stop)) };
        Box::new(UserSink {
            engine: Engine::new(operation, site),
            lift: self.lift.clone(),
            inputs: self.inputs.clone(),
            count: self.layout.words.len(),
            lifted: Vec::new(),
            stop: stop.clone(),
            stopped: false,
        })
    }

    /// The results of all elements, one block per field.
    pub(super) fn finish(&self, partial: &Block, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
        let elements = partial.shape.elements() as usize;
        let buffer = |dtype: &DType| BufferMut::try_new(elements * dtype.bytes() as usize);
        let mut buffers = self.results.iter().map(buffer).collect::<Result<Vec<_>, _>>()?;
        let mut finish = self.finish.clone();
        let (mut words, mut results) = (vec![0; self.layout.words.len()], vec![0; self.results.len()]);
        for (at, stored) in partial.bytes().chunks_exact(self.layout.bytes as usize).enumerate() {
            self.layout.read(stored, &mut words);
            finish.call(&words, stop, &mut results).map_err(|_| ExecuteError::Cancelled)?;
            for ((buffer, &word), &dtype) in buffers.iter_mut().zip(&results).zip(&self.results) {
                with_element!(dtype, T => buffer.elements_mut::<T>()[at] = T::from_word(word));
            }
        }
        let blocks = self.results.iter().zip(buffers);
        Ok(blocks
            .map(|(&dtype, buffer)| Block::new(Item::Value(dtype), partial.shape.clone(), buffer.freeze()))
            .collect())
    }
}

/// Runs `combine`. Once stopped, it hands its first argument through, and says so.
pub(super) struct Combiner {
    layout: Arc<AccumulatorLayout>,
    combine: Interpreter,
    arguments: Vec<u64>,
    stop: StopFlag,
    stopped: bool,
}

impl Combiner {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Folds later stored accumulators into earlier ones.
    pub(super) fn fold(&mut self, earlier: &mut [u8], later: &[u8]) {
        let (layout, count) = (Arc::clone(&self.layout), self.layout.words.len());
        let width = layout.bytes as usize;
        for (a, b) in earlier.chunks_exact_mut(width).zip(later.chunks_exact(width)) {
            let (mut first, mut second) = (Words::default(), Words::default());
            layout.read(a, &mut first[..count]);
            layout.read(b, &mut second[..count]);
            layout.write(&self.joined(first, second)[..count], a);
        }
    }

    fn joined(&mut self, mut a: Words, b: Words) -> Words {
        let count = self.layout.words.len();
        self.arguments[..count].copy_from_slice(&a[..count]);
        self.arguments[count..].copy_from_slice(&b[..count]);
        self.stopped |= self.stopped || self.combine.call(&self.arguments, &self.stop, &mut a[..count]).is_err();
        a
    }
}

/// `combine` as an operation on lifted elements.
struct Combine {
    /// Bytes of a stored accumulator.
    width: usize,
    combiner: RefCell<Combiner>,
}

impl Operation for Combine {
    type In = Words;
    type A = Words;
    type B = ();

    fn lift(&self, value: Words) -> (Words, ()) {
        (value, ())
    }
    fn join(&self, a: (Words, ()), b: (Words, ()), _counts: [u64; 2]) -> (Words, ()) {
        (self.combiner.borrow_mut().joined(a.0, b.0), ())
    }
    fn segment(&self, values: &[Words]) -> (Words, ()) {
        let mut combiner = self.combiner.borrow_mut();
        let mut lanes: Vec<Words> = values[..values.len().min(LANES)].to_vec();
        for (at, &value) in values.iter().enumerate().skip(LANES) {
            lanes[at % LANES] = combiner.joined(lanes[at % LANES], value);
        }
        let mut half = LANES / 2;
        while half > 0 {
            for later in half..lanes.len() {
                lanes[later - half] = combiner.joined(lanes[later - half], lanes[later]);
            }
            lanes.truncate(half);
            half /= 2;
        }
        (lanes[0], ())
    }
    fn short_row(&self, window: &[Words; LANES], length: usize) -> (Words, ()) {
        self.segment(&window[..length])
    }
    fn partial_bytes(&self) -> usize {
        self.width
    }
    fn store(&self, unit: (Words, ()), _count: u64, _place: &dyn Fn(u64) -> u64, out: &mut [u8]) {
        let layout = &self.combiner.borrow().layout;
        layout.write(&unit.0[..layout.words.len()], out);
    }
}

/// Lifts elements and reduces them.
struct UserSink {
    engine: Engine<Combine>,
    lift: Interpreter,
    inputs: Vec<DType>,
    /// Words of an accumulator.
    count: usize,
    lifted: Vec<Words>,
    stop: StopFlag,
    stopped: bool,
}

impl Sink for UserSink {
    fn sweep(&self) -> Sweep {
        self.engine.sweep()
    }

    fn feed(&mut self, run: Range<u64>, values: &[u8]) {
        let words = with_element!(self.inputs[0], T => {
            bytemuck::cast_slice::<u8, T>(values).iter().map(|value| value.to_word()).collect()
        });
        self.feed_words(run, &[words]);
    }

    fn feed_words(&mut self, run: Range<u64>, words: &[Vec<u64>]) {
        let mut arguments = vec![0; words.len()];
        self.lifted.clear();
        for element in 0..words[0].len() {
            arguments.iter_mut().zip(words).for_each(|(argument, words)| *argument = words[element]);
            let mut lifted = Words::default();
            self.stopped |= self.stopped || self.lift.call(&arguments, &self.stop, &mut lifted[..self.count]).is_err();
            self.lifted.push(lifted);
        }
        self.engine.feed(run, &self.lifted);
    }

    fn partial(self: Box<Self>) -> Result<Block, ExecuteError> {
        let (partial, operation) = self.engine.partial()?;
        match self.stopped || operation.combiner.borrow().stopped {
            true => Err(ExecuteError::Cancelled),
            false => Ok(partial),
        }
    }
}
