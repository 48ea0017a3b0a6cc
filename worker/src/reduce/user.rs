//! Reductions that users write, over the same tree as the built-in ones: one accumulator is one value, as words.
//!
//! `lift`, `combine` and `finish` are [`Function`]s, run over as many accumulators at once as the tree allows. `identity` is what no element gives:
//! the tree never needs it, since every accumulator begins with an element.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::Sink;
use super::engine::{Engine, Site};
use super::function::{Function, MakeFunction};
use super::geometry::Sweep;
use super::operation::{LANES, Operation};
use crate::block::{Block, BufferMut, Item, OutOfMemory};
use crate::dtype::{DType, Element};
use crate::executor::ExecuteError;
use crate::interpreter::{ACCUMULATOR_BYTES_MAX, AccumulatorLayout, StopFlag, layout_of};
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
    lift: Box<dyn Function>,
    combine: Box<dyn Function>,
    finish: Box<dyn Function>,
}

impl UserReduction {
    pub(super) fn new(
        kernel: &TypedKernel,
        inputs: &[DType],
        function: MakeFunction<'_>,
    ) -> Result<UserReduction, ExecuteError> {
        let unsupported = |what: String| ExecuteError::Unsupported { executor: "reduction".to_owned(), what };
        let functions = kernel.reduction().ok_or_else(|| unsupported(format!("{kernel} reduces nothing")))?;
        let parameters: Vec<DType> = functions.signature.parameters.iter().map(|parameter| parameter.dtype).collect();
        if parameters != inputs {
            return Err(unsupported(format!("{kernel} over inputs of {inputs:?}")));
        }
        let layout = layout_of(kernel.module(), functions.accumulator);
        let layout = layout.map_err(|error| unsupported(error.to_string()))?;
        Ok(UserReduction {
            inputs: parameters,
            results: functions.signature.results.iter().map(|field| field.dtype).collect(),
            layout: Arc::new(layout),
            lift: function(kernel, functions.lift)?,
            combine: function(kernel, functions.combine)?,
            finish: function(kernel, functions.finish)?,
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
            arguments: vec![Vec::new(); 2 * count],
            results: vec![Vec::new(); count],
            combine: self.combine.another(),
            stop: stop.clone(),
            stopped: false,
        }
    }

    /// What reduces one block.
    pub(super) fn sink(&self, site: Site, stop: &StopFlag) -> Box<dyn Sink> {
        let operation = Combine { width: self.layout.bytes as usize, combiner: RefCell::new(self.combiner(stop)) };
        Box::new(UserSink {
            engine: Engine::new(operation, site),
            lift: self.lift.another(),
            inputs: self.inputs.clone(),
            results: vec![Vec::new(); self.layout.words.len()],
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
        let mut arguments = vec![Vec::with_capacity(elements); self.layout.words.len()];
        let mut words = vec![0; self.layout.words.len()];
        for stored in partial.bytes().chunks_exact(self.layout.bytes as usize) {
            self.layout.read(stored, &mut words);
            arguments.iter_mut().zip(&words).for_each(|(argument, &word)| argument.push(word));
        }
        let mut results = vec![Vec::new(); self.results.len()];
        self.finish.another().call(&arguments, stop, &mut results).map_err(|_| ExecuteError::Cancelled)?;
        for ((buffer, words), &dtype) in buffers.iter_mut().zip(&results).zip(&self.results) {
            with_element!(dtype, T => {
                buffer.elements_mut::<T>().iter_mut().zip(words).for_each(|(to, &word)| *to = T::from_word(word));
            });
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
    combine: Box<dyn Function>,
    /// Per word of both arguments, and of the result, its values.
    arguments: Vec<Vec<u64>>,
    results: Vec<Vec<u64>>,
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
        let read = |bytes: &[u8]| -> Vec<Words> {
            let read = |stored: &[u8]| {
                let mut words = Words::default();
                layout.read(stored, &mut words[..count]);
                words
            };
            bytes.chunks_exact(width).map(read).collect()
        };
        let mut joined = read(earlier);
        self.join(&mut joined, &read(later));
        for (words, stored) in joined.iter().zip(earlier.chunks_exact_mut(width)) {
            layout.write(&words[..count], stored);
        }
    }

    /// Joins each later accumulator to the earlier one beside it.
    fn join(&mut self, earlier: &mut [Words], later: &[Words]) {
        let count = self.layout.words.len();
        for (word, argument) in self.arguments.iter_mut().enumerate() {
            let (from, word) = if word < count { (&*earlier, word) } else { (later, word - count) };
            argument.clear();
            argument.extend(from.iter().take(later.len()).map(|words| words[word]));
        }
        self.stopped |= self.stopped || self.combine.call(&self.arguments, &self.stop, &mut self.results).is_err();
        if !self.stopped {
            for (word, result) in self.results.iter().enumerate() {
                earlier.iter_mut().zip(result).for_each(|(earlier, &joined)| earlier[word] = joined);
            }
        }
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
        let mut joined = [a.0];
        self.combiner.borrow_mut().join(&mut joined, &[b.0]);
        (joined[0], ())
    }
    fn segment(&self, values: &[Words]) -> (Words, ()) {
        let mut combiner = self.combiner.borrow_mut();
        let (first, rest) = values.split_at(values.len().min(LANES));
        let mut lanes = first.to_vec();
        rest.chunks(LANES).for_each(|later| combiner.join(&mut lanes, later));
        let mut half = LANES / 2;
        while half > 0 {
            if lanes.len() > half {
                let (earlier, later) = lanes.split_at_mut(half);
                combiner.join(earlier, later);
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
    lift: Box<dyn Function>,
    inputs: Vec<DType>,
    /// Per word of an accumulator, its values.
    results: Vec<Vec<u64>>,
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
        self.stopped |= self.stopped || self.lift.call(words, &self.stop, &mut self.results).is_err();
        self.lifted.clear();
        self.lifted.resize(words[0].len(), Words::default());
        if !self.stopped {
            for (word, result) in self.results.iter().enumerate() {
                self.lifted.iter_mut().zip(result).for_each(|(lifted, &value)| lifted[word] = value);
            }
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
