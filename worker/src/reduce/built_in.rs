//! The reductions that come with the engine: which operation a [`Reduction`] is, and what becomes of its partials.

use std::marker::PhantomData;
use std::ops::Range;

use super::arithmetic::{All, Any, CountNonzero, Mean, Plain, Prod, Sum, Var};
use super::engine::{Engine, Site};
use super::extreme::{Arg, Extreme, Greatest, Least};
use super::geometry::Sweep;
use super::number::{Number, Ordered};
use super::operation::BuiltIn;
use super::{Sink, TILE, result_dtypes};
use crate::block::{Block, BufferMut, Item, OutOfMemory};
use crate::dtype::Element;
use crate::executor::ExecuteError;
use crate::stage::{ReduceOp, Reduction};
use crate::with_element;

/// What the elements of a partial are.
pub(super) fn accumulator(reduction: &Reduction) -> Item {
    visit(reduction, Width)
}

/// What reduces one block.
pub(super) fn sink(reduction: &Reduction, site: Site) -> Box<dyn Sink> {
    visit(reduction, MakeEngine(site))
}

/// Folds later accumulators into earlier ones.
pub(super) fn fold(reduction: &Reduction, earlier: &mut [u8], later: &[u8]) {
    visit(reduction, Fold { earlier, later });
}

/// The results of all elements.
pub(super) fn finish(reduction: &Reduction, partial: &Block) -> Result<Block, OutOfMemory> {
    visit(reduction, Finish { reduction, partial })
}

/// Something to do with the operation of a reduction, whichever it is.
trait Visit {
    type Output;
    fn visit<O: BuiltIn>(self, operation: O) -> Self::Output;
}

/// # Panics
/// If the reduction is a user's: it has a kernel to be asked.
fn visit<V: Visit>(reduction: &Reduction, visitor: V) -> V::Output {
    with_element!(reduction.inputs[0], T => visit_dtype::<T, V>(reduction.op, visitor))
}

fn visit_dtype<T: Number + Ordered, V: Visit>(op: ReduceOp, visitor: V) -> V::Output {
    let input = PhantomData::<T>;
    match op {
        ReduceOp::Sum => visitor.visit(Plain(Sum(input))),
        ReduceOp::Prod => visitor.visit(Plain(Prod(input))),
        ReduceOp::Mean => visitor.visit(Plain(Mean(input))),
        ReduceOp::Var { ddof } => visitor.visit(Var { ddof, is_std: false, input }),
        ReduceOp::Std { ddof } => visitor.visit(Var { ddof, is_std: true, input }),
        ReduceOp::Min => visitor.visit(Plain(Extreme(input, Least))),
        ReduceOp::Max => visitor.visit(Plain(Extreme(input, Greatest))),
        ReduceOp::Any => visitor.visit(Plain(Any(input))),
        ReduceOp::All => visitor.visit(Plain(All(input))),
        ReduceOp::CountNonzero => visitor.visit(Plain(CountNonzero(input))),
        ReduceOp::ArgMin => visitor.visit(Arg(input, Least)),
        ReduceOp::ArgMax => visitor.visit(Arg(input, Greatest)),
        ReduceOp::User(_) => panic!("a user's reduction is asked of its kernel"),
    }
}

struct Width;

impl Visit for Width {
    type Output = Item;
    fn visit<O: BuiltIn>(self, operation: O) -> Item {
        Item::Partial { bytes: operation.partial_bytes() as u32 }
    }
}

struct MakeEngine(Site);

impl Visit for MakeEngine {
    type Output = Box<dyn Sink>;
    fn visit<O: BuiltIn>(self, operation: O) -> Box<dyn Sink> {
        Box::new(Engine::new(operation, self.0))
    }
}

impl<O: BuiltIn> Sink for Engine<O> {
    fn sweep(&self) -> Sweep {
        self.sweep()
    }
    fn feed(&mut self, run: Range<u64>, values: &[u8]) {
        self.feed(run, bytemuck::cast_slice(values));
    }
    fn feed_words(&mut self, run: Range<u64>, words: &[Vec<u64>]) {
        let mut tile = [O::In::default(); TILE];
        tile.iter_mut().zip(&words[0]).for_each(|(value, &word)| *value = O::In::from_word(word));
        self.feed(run, &tile[..words[0].len()]);
    }
    fn partial(self: Box<Self>) -> Result<Block, ExecuteError> {
        Ok((*self).partial()?.0)
    }
}

struct Fold<'a> {
    earlier: &'a mut [u8],
    later: &'a [u8],
}

impl Visit for Fold<'_> {
    type Output = ();
    fn visit<O: BuiltIn>(self, _operation: O) {
        let width = size_of::<O::Partial>();
        for (a, b) in self.earlier.chunks_exact_mut(width).zip(self.later.chunks_exact(width)) {
            let folded: O::Partial = O::fold(bytemuck::pod_read_unaligned(a), bytemuck::pod_read_unaligned(b));
            a.copy_from_slice(bytemuck::bytes_of(&folded));
        }
    }
}

struct Finish<'a> {
    reduction: &'a Reduction,
    partial: &'a Block,
}

impl Visit for Finish<'_> {
    type Output = Result<Block, OutOfMemory>;
    fn visit<O: BuiltIn>(self, operation: O) -> Result<Block, OutOfMemory> {
        let partials: &[O::Partial] = bytemuck::cast_slice(self.partial.bytes());
        let mut buffer = BufferMut::try_new(partials.len() * size_of::<O::Out>())?;
        let results = buffer.elements_mut::<O::Out>().iter_mut();
        results.zip(partials).for_each(|(result, &partial)| *result = operation.finish(partial));
        let item = Item::Value(result_dtypes(self.reduction)[0]);
        Ok(Block::new(item, self.partial.shape.clone(), buffer.freeze()))
    }
}
