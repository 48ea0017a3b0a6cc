//! A kernel with all its types known: validated, contracted, hashed.

use std::fmt;

use naga::valid::ModuleInfo;
use naga::{Function, Handle, Module};

use super::{KernelError, KernelSource, Problem, ReductionSignature, Requirements, Signature};
use crate::ids::KernelHash;

/// A validated kernel. Valid by construction: its module has passed naga's validator, and nothing but scalars goes in
/// or comes out.
#[derive(Debug)]
pub struct TypedKernel {
    source: KernelSource,
    hash: KernelHash,
    module: Module,
    info: ModuleInfo,
    functions: Functions,
    requirements: Requirements,
}

/// The functions that are called from outside.
#[derive(Clone, Debug)]
pub enum Functions {
    /// Of an element kernel.
    Element(ElementFunction),
    /// Of a reduction kernel.
    Reduction(ReductionFunctions),
}

/// The function of an element kernel.
#[derive(Clone, Debug)]
pub struct ElementFunction {
    /// In the kernel's module.
    pub function: Handle<Function>,
    /// What it takes and returns.
    pub signature: Signature,
}

/// The functions of a reduction kernel, in its module.
#[derive(Clone, Debug)]
pub struct ReductionFunctions {
    /// `() -> A`.
    pub identity: Handle<Function>,
    /// `(x: T, ...) -> A`.
    pub lift: Handle<Function>,
    /// `(A, A) -> A`, associative and commutative.
    pub combine: Handle<Function>,
    /// `(A) -> R`.
    pub finish: Handle<Function>,
    /// The type `A`.
    pub accumulator: Handle<naga::Type>,
    /// What goes in and comes out.
    pub signature: ReductionSignature,
}

impl TypedKernel {
    /// Parses, validates, types and contracts a kernel: what a worker does with text off the wire.
    pub fn compile(source: KernelSource) -> Result<TypedKernel, KernelError> {
        TypedKernel::compile_in("kernel", source)
    }

    /// The same, with errors that call the text `path`.
    pub fn compile_in(path: &str, source: KernelSource) -> Result<TypedKernel, KernelError> {
        let problem = Problem::Invalid("compiling kernels is not there yet".to_owned());
        Err(KernelError { path: path.to_owned(), location: None, problem, t: source.t, snippet: None })
    }

    /// Where it came from.
    pub fn source(&self) -> &KernelSource {
        &self.source
    }

    /// Its name everywhere.
    pub fn hash(&self) -> KernelHash {
        self.hash
    }

    /// naga's module: the kernel's functions, contracted, and what they use.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The proof that the module is valid, with the type of every expression.
    pub fn info(&self) -> &ModuleInfo {
        &self.info
    }

    /// What can be called.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The function of an element kernel.
    pub fn element(&self) -> Option<&ElementFunction> {
        match &self.functions {
            Functions::Element(element) => Some(element),
            Functions::Reduction(_) => None,
        }
    }

    /// The functions of a reduction kernel.
    pub fn reduction(&self) -> Option<&ReductionFunctions> {
        match &self.functions {
            Functions::Element(_) => None,
            Functions::Reduction(reduction) => Some(reduction),
        }
    }

    /// What a device must have to run it.
    pub fn requirements(&self) -> Requirements {
        self.requirements
    }
}

impl fmt::Display for TypedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.functions {
            Functions::Element(element) => write!(f, "{}", element.signature),
            Functions::Reduction(reduction) => write!(f, "{}", reduction.signature),
        }
    }
}
