//! The interpreter: what a kernel means.
//!
//! It runs one function of a validated [`naga::Module`], one invocation at a time, scalar and without masks: slow and
//! obvious. Every code generator for CPUs must give the same bits. It is never tuned at the price of being obvious, and it
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
//! What an element or reduction function cannot contain (textures, atomics, barriers, derivatives, ray queries, 16-bit
//! types, overrides, buffers) is an [`InterpretError`] when an [`Interpreter`] is made; afterwards nothing can fail but by
//! being stopped.

mod kind;
mod layout;
mod stop;

use std::sync::Arc;

use naga::{Function, Handle, Module};

pub use kind::Kind;
pub use layout::{ACCUMULATOR_BYTES_MAX, AccumulatorLayout, LayoutError, WordPlace, layout_of};
pub use stop::{StopFlag, Stopped};

/// Why a function cannot be interpreted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpretError {
    /// A type that no element or reduction function can use.
    #[error("{0} values cannot be used here")]
    Type(&'static str),
    /// An expression or statement that no element or reduction function can use.
    #[error("{0} cannot be used here")]
    Operation(&'static str),
    /// The variables and values of a chain of calls take more than [`STACK_BYTES_MAX`].
    #[error("the function's variables take more than {STACK_BYTES_MAX} bytes")]
    FrameTooLarge,
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

/// One function of a module, ready to run. Cloning is cheap; each thread has its own.
#[derive(Clone)]
pub struct Interpreter {
    module: Arc<Module>,
}

impl Interpreter {
    /// Makes ready to run `function` of a validated module.
    pub fn new(module: Arc<Module>, function: Handle<Function>) -> Result<Interpreter, InterpretError> {
        let interpreter = Interpreter { module };
        match interpreter.module.functions.try_get(function) {
            Ok(_) => Err(InterpretError::Operation("every statement (the interpreter is being written)")),
            Err(_) => Err(InterpretError::Invalid("no such function")),
        }
    }

    /// How many words the arguments take.
    pub fn argument_words(&self) -> usize {
        0
    }

    /// How many words the result takes.
    pub fn result_words(&self) -> usize {
        0
    }

    /// Runs one invocation. Arguments and results are words, one per scalar component, flattened in member order: bool
    /// as 0 or 1, 32-bit values in the low half with the high half zero.
    ///
    /// # Panics
    /// If the lengths are not [`Interpreter::argument_words`] and [`Interpreter::result_words`].
    pub fn call(&mut self, arguments: &[u64], stop: &StopFlag, results: &mut [u64]) -> Result<(), Stopped> {
        assert_eq!((arguments.len(), results.len()), (self.argument_words(), self.result_words()));
        if stop.is_raised() { Err(Stopped) } else { Ok(()) }
    }
}
