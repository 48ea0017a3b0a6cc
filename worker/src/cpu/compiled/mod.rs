//! Element programs, functions of reductions and block kernels as machine code.
//!
//! ```text
//! naga -> flatten (calls inlined, scalars) -> divergence (where lanes part) -> lower (all lanes at once) -> Builder
//!                 block kernels: phases (what barriers part) ------------------^
//! ```
//!
//! [`lower`] is the one SPMD lowering: a value is computed for a *gang* of elements at once, one lane each, and lanes that
//! do not take a path are parked by masks. It speaks to a code generator only through [`builder::Builder`]; the one that
//! is there is [`cranelift`]. The bits are the interpreter's: every operation is one that IEEE 754 and two's complement
//! define, elementary functions are [`crate::math`]'s own code over gangs, and what has no instruction calls the
//! interpreter's own function. Nothing here knows of blocks, tiles or stages, and no kernel's index leaves its variable.

mod block;
mod builder;
mod code;
mod cranelift;
mod divergence;
mod elementary;
mod flat;
mod flatten;
mod helper;
mod invocations;
mod lower;
mod phases;
mod prefetch;

use naga::valid::ModuleInfo;
use naga::{Function, Handle, Module};

pub(crate) use block::{BlockCode, compile_block};
pub(super) use code::{AT_WORDS, Call, Code, Few};
use divergence::Divergence;
use flat::Op;

use crate::dtype::DType;
use crate::interpreter::InterpretError;

/// Why a program cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CompileError {
    /// Something that no element or reduction function can contain.
    #[error(transparent)]
    Refused(#[from] InterpretError),
    /// Something that code is not made for.
    #[error("{0} cannot be compiled")]
    Operation(&'static str),
    /// It is too large.
    #[error("the kernel has more than {max} operations once its calls are inlined")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// Cranelift refuses what it was given: a bug of the lowering, or a machine that it does not know.
    #[error("no machine code could be made: {what}")]
    Cranelift {
        /// In its words.
        what: String,
    },
}

/// Scratch memory from which on gangs are made small: half of a common L2 cache.
const SCRATCH_BYTES_MAX: usize = 256 << 10;
/// The smallest gang: one vector of 32-bit lanes.
const LANES_MIN: usize = 4;

/// Words of `At` that say where in the array an element is: they differ from lane to lane.
const AT_INDEX: std::ops::RangeInclusive<u32> = 1..=8;

/// What becomes of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Results {
    /// They are kept: a NaN is the canonical one.
    Kept,
    /// A tile of them is reduced by what takes one NaN for another. Nobody reads memory while it does: the code asks for
    /// the next tile early.
    Reduced,
}

/// Compiles a function of a validated module. The words of its parameters are `leaves`, each of which may be uniform;
/// one more parameter is `At`.
pub(super) fn compile(
    module: &Module,
    info: &ModuleInfo,
    function: Handle<Function>,
    leaves: &[(DType, bool)],
    results: Results,
) -> Result<Code, CompileError> {
    let program = flatten::flatten(module, info, function, leaves.len())?;
    let varies = |op| match op {
        Op::Leaf(leaf) => !leaves[leaf as usize].1,
        Op::At(word) => AT_INDEX.contains(&word),
        _ => false,
    };
    let divergence = Divergence::new(&program, &varies, &|_| false, &|_| false);
    let is_wide = |dtype: DType| dtype.bytes() == 8;
    let wide_values = program.values.iter().filter(|value| is_wide(value.dtype)).count();
    // Four vectors at once keep a core busy; where masks are kept as well, two leave it enough registers.
    let vectors = if divergence.has_divergence() { 2 } else { 4 };
    let lanes = (vectors * if wide_values == 0 { 4 } else { 2 }).max(LANES_MIN);
    let mask_width = if 2 * wide_values > program.values.len() { 8 } else { 4 };
    let code = Code::new(&program, &divergence, leaves, results, (lanes, mask_width))?;
    match code.scratch_words() * 8 > SCRATCH_BYTES_MAX && lanes > LANES_MIN {
        true => Code::new(&program, &divergence, leaves, results, (LANES_MIN, mask_width)),
        false => Ok(code),
    }
}

/// The dtypes of the words of a function's parameters: all of them as leaves that vary.
pub(super) fn parameters(module: &Module, function: Handle<Function>) -> Result<Vec<(DType, bool)>, CompileError> {
    Ok(flatten::parameters(module, function)?.into_iter().map(|dtype| (dtype, false)).collect())
}
