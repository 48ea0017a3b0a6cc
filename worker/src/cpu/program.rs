//! The element program of a map (nothing to do, interpreted, or machine code) and the functions of reductions, made
//! once and kept.

use std::collections::HashMap;
use std::sync::Arc;

use naga::Handle;

use super::CodeGenerator;
use super::compiled::{self, Code};
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
    Compiled(Compiled),
}

/// A program as machine code.
pub(super) struct Compiled {
    pub code: Arc<Code>,
    pub uses_at: bool,
}

/// Makes element programs.
pub(super) struct Programs {
    generator: CodeGenerator,
    /// By the program's hash and which of its leaves are uniform.
    codes: HashMap<([u8; 32], Vec<bool>), Arc<Code>>,
    /// By the kernel's hash and the function's place in its module.
    functions: HashMap<(KernelHash, usize), Arc<Code>>,
}

impl Programs {
    pub(super) fn new(generator: CodeGenerator) -> Programs {
        Programs { generator, codes: HashMap::new(), functions: HashMap::new() }
    }

    /// Who runs the programs.
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
        let executor = self.generator.executor();
        let unsupported = |what: &dyn std::error::Error| {
            ExecuteError::Unsupported { executor: executor.to_owned(), what: what.to_string() } //
        };
        let leaves: Vec<DType> = map.leaves.iter().map(|leaf| leaf.dtype).collect();
        let composed = compose(&map.program, &leaves, kernel).map_err(|error| unsupported(&error))?;
        let uses_at = composed.uses_at;
        if self.generator == CodeGenerator::Interpreter {
            let interpreter = Interpreter::new(Arc::new(composed.module), composed.function);
            let interpreter = interpreter.map_err(|error| unsupported(&error))?;
            let results = composed.results;
            return Ok(ElementProgram::Interpreted(Box::new(Interpreted { interpreter, uses_at, results })));
        }
        let uniform: Vec<bool> = map.leaves.iter().map(is_uniform).collect();
        let key = (composed.hash(), uniform);
        if let Some(code) = self.codes.get(&key) {
            return Ok(ElementProgram::Compiled(Compiled { code: Arc::clone(code), uses_at }));
        }
        let leaves: Vec<(DType, bool)> = leaves.into_iter().zip(key.1.iter().copied()).collect();
        let code = compiled::compile(&composed.module, &composed.info, composed.function, &leaves);
        let code = Arc::new(code.map_err(|error| unsupported(&error))?);
        if self.codes.len() >= CODES_MAX {
            self.codes.retain(|_, code| Arc::strong_count(code) > 1);
        }
        self.codes.insert(key, Arc::clone(&code));
        Ok(ElementProgram::Compiled(Compiled { code, uses_at }))
    }

    /// What makes a reduction ready.
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
        let key = (kernel.hash(), function.index());
        let unsupported = |what: String| {
            ExecuteError::Unsupported { executor: self.generator.executor().to_owned(), what } //
        };
        let code = match self.functions.get(&key) {
            Some(code) => Arc::clone(code),
            None => {
                let parameters = compiled::parameters(kernel.module(), function);
                let code =
                    parameters.and_then(|words| compiled::compile(kernel.module(), kernel.info(), function, &words));
                let code = Arc::new(code.map_err(|error| unsupported(error.to_string()))?);
                if self.functions.len() >= CODES_MAX {
                    self.functions.retain(|_, code| Arc::strong_count(code) > 1);
                }
                self.functions.insert(key, Arc::clone(&code));
                code
            }
        };
        Ok(Box::new(CompiledFunction::new(code)))
    }
}
