//! The element program of a map (nothing to do, interpreted, or machine code) and the functions of reductions, made
//! once and kept.

use std::collections::HashMap;
use std::sync::Arc;

use naga::Handle;

use super::CodeGenerator;
use super::compiled::{self, Code, CompileError};
use super::function::CompiledFunction;
use super::interpreted::Interpreted;
use super::tiles::is_uniform;
use crate::dtype::DType;
use crate::executor::ExecuteError;
use crate::ids::KernelHash;
use crate::interpreter::Interpreter;
use crate::kernel::{TypedKernel, compose};
use crate::reduce::{Function, Reducer};
use crate::stage::{Map, Reduction};

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
    /// A program by its hash, and which of its leaves are uniform.
    Program([u8; 32], Vec<bool>),
    /// A function by its kernel's hash and its place in the kernel's module.
    Function(KernelHash, usize),
}

/// Makes element programs and the functions of reductions.
pub(crate) struct Programs {
    generator: CodeGenerator,
    codes: HashMap<Key, Arc<Code>>,
}

impl Programs {
    pub(crate) fn new(generator: CodeGenerator) -> Programs {
        Programs { generator, codes: HashMap::new() }
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
        let leaves: Vec<DType> = map.leaves.iter().map(|leaf| leaf.dtype).collect();
        let composed = compose(&map.program, &leaves, kernel).map_err(|error| self.unsupported(&error))?;
        if self.generator == CodeGenerator::Interpreter {
            let (uses_at, results) = (composed.uses_at, composed.results);
            let interpreter = Interpreter::new(Arc::new(composed.module), composed.function);
            let interpreter = interpreter.map_err(|error| self.unsupported(&error))?;
            return Ok(ElementProgram::Interpreted(Box::new(Interpreted { interpreter, uses_at, results })));
        }
        let uniform: Vec<bool> = map.leaves.iter().map(is_uniform).collect();
        let leaves: Vec<(DType, bool)> = leaves.into_iter().zip(uniform.iter().copied()).collect();
        let code = self.code(Key::Program(composed.hash(), uniform), || {
            compiled::compile(&composed.module, &composed.info, composed.function, &leaves)
        });
        code.map(ElementProgram::Compiled)
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
        let code = self.code(Key::Function(kernel.hash(), function.index()), || {
            compiled::compile(module, info, function, &compiled::parameters(module, function)?)
        });
        Ok(Box::new(CompiledFunction::new(code?)))
    }

    /// The code of `key`, compiled if it is not there.
    fn code(
        &mut self,
        key: Key,
        compile: impl FnOnce() -> Result<Code, CompileError>,
    ) -> Result<Arc<Code>, ExecuteError> {
        if let Some(code) = self.codes.get(&key) {
            return Ok(Arc::clone(code));
        }
        let code = Arc::new(compile().map_err(|error| self.unsupported(&error))?);
        if self.codes.len() >= CODES_MAX {
            self.codes.retain(|_, code| Arc::strong_count(code) > 1);
        }
        self.codes.insert(key, Arc::clone(&code));
        Ok(code)
    }

    fn unsupported(&self, what: &dyn std::error::Error) -> ExecuteError {
        ExecuteError::Unsupported { executor: self.generator.executor().to_owned(), what: what.to_string() }
    }
}
