//! A stage's program over typed kernels, as one validated module with one function.

use std::sync::Arc;

use naga::valid::ModuleInfo;
use naga::{Function, Handle, Module};

use super::{Requirements, TypedKernel};
use crate::dtype::DType;
use crate::ids::KernelHash;
use crate::stage::Program;

/// A program as one function: it takes the leaves in order, then `at: At` if any kernel uses it, and returns its one
/// result, or a struct with one member per result.
#[derive(Debug)]
pub struct Composed {
    /// Holds the function and all it calls.
    pub module: Module,
    /// The proof that it is valid.
    pub info: ModuleInfo,
    /// The program.
    pub function: Handle<Function>,
    /// What it takes. A bool is WGSL's `bool` here; who calls converts the stored `u32`.
    pub leaves: Vec<DType>,
    /// Whether it takes `at: At` after them.
    pub uses_at: bool,
    /// What it returns.
    pub results: Vec<DType>,
    /// What a device must have to run it.
    pub requirements: Requirements,
    hash: [u8; 32],
}

impl Composed {
    /// SHA-256 of the program, the leaves and the kernels: equal hashes, equal code.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

/// A program that does not fit its kernels. A plan never makes one; a worker checks all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// A kernel was never sent.
    #[error("kernel {0} is not known here")]
    KernelMissing(KernelHash),
    /// A step calls a reduction kernel.
    #[error("step {step} calls kernel {kernel}, which is no element kernel")]
    NotElement {
        /// Which step.
        step: u32,
        /// Its kernel.
        kernel: KernelHash,
    },
    /// A step's arguments are not its kernel's parameters.
    #[error("step {step} calls {signature} with ({})", names(.found))]
    Arguments {
        /// Which step.
        step: u32,
        /// What its kernel takes.
        signature: String,
        /// What it is given.
        found: Vec<DType>,
    },
    /// A value that does not exist, or does not exist yet.
    #[error("the program uses {0}, which does not exist there")]
    NoSuchValue(String),
    /// A program without results.
    #[error("the program has no result")]
    NoResult,
    /// The merged module is invalid: a bug of the engine.
    #[error("the composed kernel is invalid: {0}")]
    Invalid(String),
}

fn names(dtypes: &[DType]) -> String {
    dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
}

/// Makes one function of a program. `leaves` are the dtypes of its leaves; `kernel` finds a kernel by hash.
pub fn compose(
    _program: &Program,
    _leaves: &[DType],
    _kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
) -> Result<Composed, ComposeError> {
    Err(ComposeError::Invalid("composition is not there yet".to_owned()))
}
