//! The interpreter: what a kernel means.
//!
//! It runs one function of a validated [`naga::Module`], one invocation at a time, scalar and without masks, or an entry
//! point over all workgroups of a block: slow and obvious. Every code generator for CPUs must give the same bits. It is never tuned at the price of being obvious, and it
//! knows nothing of blocks, arrays or devices.
//!
//! # What is defined here
//! - **Integers** wrap. `x / 0 = x`, `x % 0 = 0`, `MIN / -1 = MIN`, `MIN % -1 = 0`. Shift amounts are taken modulo the
//!   width. `abs(MIN) = MIN`.
//! - **Floats** are IEEE 754, rounded to nearest even, subnormals kept. `x % y` is the exact remainder with the sign of
//!   `x` (C's `fmod`), so any exact algorithm agrees. `a * b + c` is two roundings; `fma` is one.
//! - **`min(a, b)`** is `if b < a { b } else { a }`, **`max(a, b)`** is `if a < b { b } else { a }`, `clamp(x, low, high)` is
//!   `min(max(x, low), high)`: an unordered comparison yields the first argument.
//! - **NaN has no bits**: where a NaN could be told from another, when it leaves the kernel as a result and when it is
//!   bitcast to an integer or packed, it is the canonical quiet one (`0x7fc00000`, `0x7ff8000000000000`).
//! - **Conversions** of floats to integers clamp to the smallest and largest float that the integer type can represent
//!   (as naga's own constant evaluation and its GPU back ends do), then truncate; NaN becomes 0. Everything is nonzero to bool.
//! - **Indices out of bounds** are clamped (naga's `Restrict` policy): the index as an unsigned number, at most the last
//!   element. So a negative index reads or writes the last one.
//! - **Elementary functions** are [`crate::math`]'s. Sums of products (`dot`, matrix products) add from the first to
//!   the last component without fma.
//! - Local and private variables without initializer are zero at each call.
//!
//! # Block kernels
//! - **Workgroups** run one after the other, x fastest, then y, then z. Workgroup memory is zero at the start of each.
//!   Exactly enough of them cover the output block: x along its last axis, y along the one before, z over all the rest
//!   in row-major order; invocations beyond the block's edge run too. Output blocks start as zeros.
//! - **Phases.** Statements that hold no barrier, one after the other in a block, are run by one invocation to their end,
//!   then by the next, in local index order. What holds a barrier, itself or by a call, is walked for all invocations in
//!   step. `workgroupBarrier` and `storageBarrier` are the same here. So what a kernel leaves to chance (races, the
//!   order of atomics) has one outcome here; an executor that interleaves the invocations of a phase may have another.
//! - A **barrier** that not all invocations of the workgroup reach together is an error that names it. Those that have
//!   returned do not reach it.
//! - **`workgroupUniformLoad`** is a barrier, then one load per invocation.
//! - **Outside a storage buffer** loads are 0, stores are dropped, and atomics do nothing and yield 0. An index is an
//!   unsigned number: a negative one is outside. Arrays of fixed length clamp, wherever they are.
//! - **Atomics** are of u32 and i32 and wrap. `atomicCompareExchangeWeak` never fails spuriously.
//! - A float stored to a buffer leaves the kernel: a NaN is the canonical one.
//! - `arrayLength` counts the elements of the block.
//!
//! What a function cannot contain (textures, derivatives, ray queries, 16-bit types, overrides; element and reduction
//! functions also no atomics, barriers and buffers) is an [`InterpretError`] when an [`Interpreter`] or
//! [`BlockInterpreter`] is made; afterwards an element function cannot fail but by being stopped, and a block kernel by
//! that and its barriers.

mod block;
mod builtin;
mod code;
mod digest;
mod expression;
mod globals;
mod group;
mod layout;
mod memory;
mod number;
mod operator;
mod run;
mod stop;
mod types;
mod vector;

use std::sync::Arc;

use naga::{Function, Handle, Module};

use code::Program;
use memory::Outside;
use run::Machine;

pub use block::{BarrierMissed, BlockError, BlockInterpreter, GROUP_BYTES_MAX};
pub use layout::{ACCUMULATOR_BYTES_MAX, AccumulatorLayout, LayoutError, WordPlace, layout_of};
pub use stop::{StopFlag, Stopped};

// What a code generator takes over: the words of types, and functions that it has no instructions for.
pub(crate) use builtin::componentwise;
pub(crate) use operator::{Map, binary as operator};
pub(crate) use types::{TypeWords, dtype_of};
pub(crate) use vector::{Whole, whole};

/// Why a function cannot be interpreted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpretError {
    /// A type that this function cannot use.
    #[error("{0} values cannot be used here")]
    Type(&'static str),
    /// An expression or statement that this function cannot use.
    #[error("{0} cannot be used here")]
    Operation(&'static str),
    /// The variables and values of a chain of calls take more than [`STACK_BYTES_MAX`].
    #[error("the function's variables take more than {STACK_BYTES_MAX} bytes")]
    FrameTooLarge,
    /// The invocations of a workgroup take more than [`GROUP_BYTES_MAX`] together.
    #[error("the variables of a workgroup's invocations take more than {GROUP_BYTES_MAX} bytes")]
    GroupTooLarge,
    /// Statements and calls are nested deeper than [`NESTING_MAX`].
    #[error("statements and calls are nested deeper than {NESTING_MAX}")]
    TooDeep,
    /// The module was not validated.
    #[error("the module is not valid: {0}")]
    Invalid(&'static str),
}

/// The most memory that the variables and values of one invocation may take: a kernel that needs more is a mistake.
pub const STACK_BYTES_MAX: u64 = 16 << 20;

/// The deepest nesting of statements over a chain of calls, so that a thread's own stack always suffices.
pub const NESTING_MAX: usize = 512;

/// One function of a module, ready to run. A clone shares the code and has a stack of its own: one for each thread.
#[derive(Clone)]
pub struct Interpreter {
    program: Arc<Program>,
    stack: Vec<u64>,
}

impl Interpreter {
    /// Makes ready to run `function` of a module, which must have been validated (with any capabilities): an invalid one
    /// may be refused, or panic, or compute nonsense.
    pub fn new(module: Arc<Module>, function: Handle<Function>) -> Result<Interpreter, InterpretError> {
        let program = digest::digest(&module, function)?;
        let mut stack = program.shared.clone();
        stack.resize(program.stack_words, 0);
        Ok(Interpreter { program: Arc::new(program), stack })
    }

    /// How many words the arguments take.
    pub fn argument_words(&self) -> usize {
        self.entry().argument_words
    }

    /// How many words the result takes.
    pub fn result_words(&self) -> usize {
        self.entry().result.words
    }

    /// Runs one invocation. Arguments and results are words, one per scalar component, flattened in member order: bool
    /// as 0 or 1, 32-bit values in the low half with the high half zero. When stopped, the results are left as they were.
    ///
    /// # Panics
    /// If the lengths are not [`Interpreter::argument_words`] and [`Interpreter::result_words`].
    pub fn call(&mut self, arguments: &[u64], stop: &StopFlag, results: &mut [u64]) -> Result<(), Stopped> {
        let program = &*self.program;
        let function = &program.functions[program.entry];
        let base = program.shared.len();
        self.stack[..program.privates.len()].copy_from_slice(&program.privates);
        self.stack[base..base + function.argument_words].copy_from_slice(arguments);
        let outside = &mut Outside::default();
        Machine { program, stack: &mut self.stack, outside, stop }.call(function, base)?;
        results.copy_from_slice(&self.stack[function.result.range(base)]);
        for (word, &dtype) in results.iter_mut().zip(&program.result_dtypes) {
            *word = operator::canonical(dtype, *word);
        }
        Ok(())
    }

    fn entry(&self) -> &code::Function {
        &self.program.functions[self.program.entry]
    }
}

#[cfg(test)]
mod tests;
