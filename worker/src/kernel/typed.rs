//! A kernel with all its types known: validated, contracted, hashed.

use std::fmt;

use naga::compact::{KeepUnused, compact};
use naga::valid::ModuleInfo;
use naga::{Function, GlobalVariable, Handle, Module};

use super::text::Text;
use super::{
    BlockSignature, Field, KernelError, KernelKind, KernelSource, Location, Parameter, ReductionSignature,
    Requirements, Signature, Warning, allowed, block, contract, extract, warn,
};
use crate::ids::KernelHash;

/// A validated kernel. Valid by construction: its module has passed naga's validator, and nothing but scalars goes in
/// or comes out (of a block kernel, arrays of them).
#[derive(Debug)]
pub struct TypedKernel {
    source: KernelSource,
    hash: KernelHash,
    module: Module,
    info: ModuleInfo,
    functions: Functions,
    requirements: Requirements,
    warnings: Vec<Warning>,
}

/// The functions that are called from outside.
#[derive(Clone, Debug)]
pub enum Functions {
    /// Of an element kernel.
    Element(ElementFunction),
    /// Of a reduction kernel.
    Reduction(ReductionFunctions),
    /// Of a block kernel.
    Block(BlockFunction),
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

/// The entry point of a block kernel.
#[derive(Clone, Debug)]
pub struct BlockFunction {
    /// In the kernel's module, which has no other.
    pub entry: usize,
    /// What it reads and writes.
    pub signature: BlockSignature,
    /// The storage buffers in binding order: inputs, outputs, and the block info where it is used.
    pub globals: Vec<Handle<GlobalVariable>>,
}

impl TypedKernel {
    /// Parses, validates, types and contracts a kernel: what a worker does with text off the wire.
    pub fn compile(source: KernelSource) -> Result<TypedKernel, KernelError> {
        TypedKernel::compile_in("kernel", source)
    }

    /// The same, with errors that call the text `path`.
    pub fn compile_in(path: &str, source: KernelSource) -> Result<TypedKernel, KernelError> {
        let text = Text::new(path, &source)?;
        let located = |(problem, span)| text.error(problem, span);
        let mut module = text.parse()?;
        allowed::check(&module, source.kind).map_err(located)?;
        let written = text.validate(&module)?;
        let warnings = warn::warnings(&text, &module);
        contract::contract(&mut module, &written);
        let mut unused = KeepUnused::Yes;
        if source.kind == KernelKind::Block {
            unused = block::keep_entry(&mut module, source.entry.as_deref()).map_err(located)?;
        }
        compact(&mut module, unused);
        let info = text.validate(&module)?;
        let functions = extract::functions(&module, &source, &text).map_err(located)?;
        let mut requirements = Requirements::of(&module, &info);
        if let Functions::Block(block) = &functions {
            requirements = requirements | Requirements::of_block(&block.signature);
        }
        Ok(TypedKernel { hash: source.hash(), source, module, info, functions, requirements, warnings })
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
            Functions::Reduction(_) | Functions::Block(_) => None,
        }
    }

    /// The functions of a reduction kernel.
    pub fn reduction(&self) -> Option<&ReductionFunctions> {
        match &self.functions {
            Functions::Reduction(reduction) => Some(reduction),
            Functions::Element(_) | Functions::Block(_) => None,
        }
    }

    /// The entry point of a block kernel.
    pub fn block(&self) -> Option<&BlockFunction> {
        match &self.functions {
            Functions::Block(block) => Some(block),
            Functions::Element(_) | Functions::Reduction(_) => None,
        }
    }

    /// Where byte `offset` of the user's text is, as a span in the module tells it.
    pub fn location(&self, offset: usize) -> Location {
        Location::of(&self.source.text, offset)
    }

    /// The element function's or entry point's name, or `lift`.
    pub fn name(&self) -> &str {
        match &self.functions {
            Functions::Element(element) => &element.signature.name,
            Functions::Reduction(_) => "lift",
            Functions::Block(block) => &block.signature.name,
        }
    }

    /// The data parameters of the element function or of `lift`, or the arrays that a block kernel reads.
    pub fn parameters(&self) -> &[Parameter] {
        match &self.functions {
            Functions::Element(element) => &element.signature.parameters,
            Functions::Reduction(reduction) => &reduction.signature.parameters,
            Functions::Block(block) => &block.signature.inputs,
        }
    }

    /// What the element function or `finish` returns, or the arrays that a block kernel writes.
    pub fn results(&self) -> &[Field] {
        match &self.functions {
            Functions::Element(element) => &element.signature.results,
            Functions::Reduction(reduction) => &reduction.signature.results,
            Functions::Block(block) => &block.signature.outputs,
        }
    }

    /// Legal things in its text that are probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
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
            Functions::Block(block) => write!(f, "{}", block.signature),
        }
    }
}
