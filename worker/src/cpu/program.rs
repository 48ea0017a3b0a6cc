//! The element program of a map (nothing to do, interpreted, or machine code), the functions of reductions and block
//! kernels, made once and kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use naga::Handle;

use super::CodeGenerator;
use super::block::Runner;
use super::compiled::{self, BlockCode, Code, Results};
use super::function::CompiledFunction;
use super::interpreted::Interpreted;
use super::tiles::is_uniform;
use crate::dtype::DType;
use crate::executor::ExecuteError;
use crate::ids::KernelHash;
use crate::interpreter::{BlockInterpreter, Interpreter};
use crate::kernel::{Composed, TypedKernel, compose};
use crate::reduce::{Function, Reducer};
use crate::stage::{Body, ChunkStep, Map, Program, ReduceOp, Reduction, Stage};

/// Programs whose code is kept for later stages; beyond, all that no stage uses is let go.
const CODES_MAX: usize = 256;

/// The element program of a map.
pub(super) enum ElementProgram {
    /// Leaf 0 is the result.
    Identity,
    Interpreted(Box<Interpreted>),
    Compiled(Arc<Code>),
}

/// What code is the code of.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// A program, what its leaves are and which of them are uniform, and what becomes of its results.
    Program(Program, Vec<(DType, bool)>, Results),
    /// A function by its kernel's hash and its place in the kernel's module.
    Function(KernelHash, usize),
}

/// Makes element programs, the functions of reductions and block kernels.
pub(crate) struct Programs {
    generator: CodeGenerator,
    codes: Codes<Key, Code>,
    blocks: Codes<KernelHash, BlockCode>,
}

/// Code that is kept.
struct Codes<K, C>(HashMap<K, Arc<C>>);

impl<K: Eq + Hash, C> Codes<K, C> {
    /// The code of `key`, compiled if it is not there.
    fn code<E>(&mut self, key: K, compile: impl FnOnce() -> Result<C, E>) -> Result<Arc<C>, E> {
        if let Some(code) = self.0.get(&key) {
            return Ok(Arc::clone(code));
        }
        let code = Arc::new(compile()?);
        if self.0.len() >= CODES_MAX {
            self.0.retain(|_, code| Arc::strong_count(code) > 1);
        }
        self.0.insert(key, Arc::clone(&code));
        Ok(code)
    }
}

impl Programs {
    pub(crate) fn new(generator: CodeGenerator) -> Programs {
        Programs { generator, codes: Codes(HashMap::new()), blocks: Codes(HashMap::new()) }
    }

    /// Who runs what is made here.
    pub(super) fn generator(&self) -> CodeGenerator {
        self.generator
    }

    /// The program of a map; `kernel` finds its kernels by hash.
    pub(super) fn program(
        &mut self,
        map: &Map,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<ElementProgram, ExecuteError> {
        if map.program.is_identity() {
            return Ok(ElementProgram::Identity);
        }
        let generator = self.generator;
        let composed = || {
            let leaves: Vec<DType> = map.leaves.iter().map(|leaf| leaf.dtype).collect();
            compose(&map.program, &leaves, kernel).map_err(|error| generator.unsupported(&error))
        };
        if generator == CodeGenerator::Interpreter {
            let Composed { module, function, uses_at, results, .. } = composed()?;
            let interpreter = Interpreter::new(Arc::new(module), function);
            let interpreter = interpreter.map_err(|error| generator.unsupported(&error))?;
            return Ok(ElementProgram::Interpreted(Box::new(Interpreted { interpreter, uses_at, results })));
        }
        let (leaves, results) = compiled_as(map);
        let code = self.codes.code(Key::Program(map.program.clone(), leaves.clone(), results), || {
            let Composed { module, info, function, .. } = composed()?;
            compiled::compile(&module, &info, function, &leaves, results).map_err(|error| generator.unsupported(&error))
        });
        code.map(ElementProgram::Compiled)
    }

    /// Whether all that a stage needs is compiled. Of block kernels that is not known.
    pub(super) fn are_ready_for(&self, stage: &Stage) -> bool {
        let is_built_in = |reduction: &Reduction| !matches!(reduction.op, ReduceOp::User(_));
        match &stage.body {
            Body::Map(map) => {
                self.has_program(map) && map.reduce.as_ref().is_none_or(|step| is_built_in(&step.reduction))
            }
            Body::Fold(fold) => is_built_in(&fold.reduction),
            Body::Relabel(_) => true,
            Body::Block(_) => false,
        }
    }

    fn has_program(&self, map: &Map) -> bool {
        let is_compiled = || {
            let (leaves, results) = compiled_as(map);
            self.codes.0.contains_key(&Key::Program(map.program.clone(), leaves, results))
        };
        map.program.is_identity() || is_compiled()
    }

    /// Makes a reduction ready.
    pub(super) fn reducer(
        &mut self,
        reduction: &Reduction,
        kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<Reducer, ExecuteError> {
        match self.generator {
            CodeGenerator::Interpreter => Reducer::new(reduction, kernel),
            CodeGenerator::Cranelift => {
                Reducer::with_functions(reduction, kernel, &mut |kernel, function| self.function(kernel, function))
            }
        }
    }

    /// A function of a reduction kernel as machine code.
    fn function(
        &mut self,
        kernel: &TypedKernel,
        function: Handle<naga::Function>,
    ) -> Result<Box<dyn Function>, ExecuteError> {
        let (module, info) = (kernel.module(), kernel.info());
        let code = self.codes.code(Key::Function(kernel.hash(), function.index()), || {
            compiled::compile(module, info, function, &compiled::parameters(module, function)?, Results::Kept)
        });
        Ok(Box::new(CompiledFunction::new(code.map_err(|error| self.generator.unsupported(&error))?)))
    }

    /// A block kernel, ready to run.
    pub(super) fn block(&mut self, kernel: &TypedKernel, entry: usize) -> Result<Runner, ExecuteError> {
        let (module, info) = (kernel.module(), kernel.info());
        match self.generator {
            CodeGenerator::Interpreter => {
                let interpreter =
                    BlockInterpreter::new(module, entry).map_err(|error| self.generator.unsupported(&error))?;
                Ok(Runner::Interpreted(interpreter))
            }
            CodeGenerator::Cranelift => {
                let code = self.blocks.code(kernel.hash(), || compiled::compile_block(module, info, entry));
                Ok(Runner::Compiled(code.map_err(|error| self.generator.unsupported(&error))?))
            }
        }
    }
}

impl CodeGenerator {
    fn unsupported(self, what: &dyn std::error::Error) -> ExecuteError {
        ExecuteError::Unsupported { executor: self.executor().to_owned(), what: what.to_string() }
    }
}

/// What the leaves of a map's program are, which of them are uniform, and what becomes of its results.
fn compiled_as(map: &Map) -> (Vec<(DType, bool)>, Results) {
    let leaves = map.leaves.iter().map(|leaf| (leaf.dtype, is_uniform(leaf))).collect();
    let results = match &map.reduce {
        Some(ChunkStep { reduction, .. }) if !matches!(reduction.op, ReduceOp::User(_)) => Results::Reduced,
        _ => Results::Kept,
    };
    (leaves, results)
}
