//! From a naga module to a [`Program`]: where everything that cannot be run is refused.

use naga::proc::ResolveContext;
use naga::{AddressSpace, Arena, Handle, Module, Statement as Ir, SwitchValue, TypeInner};

use super::code::{Block, Case, Function, Place, Program, Span, Statement, Step};
use super::expression::{Expressions, Shared, check_words};
use super::types::{TypeWords, dtype_of};
use super::{InterpretError, NESTING_MAX};
use crate::dtype::DType;

/// Makes a function of a validated module ready to run.
pub(super) fn digest(module: &Module, entry: Handle<naga::Function>) -> Result<Program, InterpretError> {
    let function = module.functions.try_get(entry).map_err(|_| InterpretError::Invalid("no such function"))?;
    if function.arguments.iter().any(|argument| is_pointer(&module.types[argument.ty].inner)) {
        return Err(InterpretError::Type("pointer argument"));
    }
    let mut shared = share(module)?;
    let result_dtypes = match &function.result {
        Some(result) => dtypes_of(module, &module.types[result.ty].inner, shared.types.of_type(result.ty)?)?,
        None => Vec::new(),
    };

    let mut functions: Vec<Function> = Vec::new();
    // Per function of the module, if it is called: its index here, the words and the nesting of its deepest chain of calls.
    let mut known: Vec<Option<(usize, usize, usize)>> = vec![None; module.functions.len()];
    for handle in reachable(module, entry)? {
        let digested = Digest::function(&mut shared, &known, handle)?;
        known[handle.index()] = Some((functions.len(), digested.stack_words, digested.nesting));
        functions.push(digested.function);
    }
    let (entry, frames, _) = known[entry.index()].ok_or(InterpretError::Invalid("no such function"))?;
    let stack_words = shared.words.len() + frames;
    check_words(stack_words)?;
    let privates = shared.words[..shared.private_words].to_vec();
    Ok(Program { functions, entry, privates, shared: shared.words, stack_words, result_dtypes })
}

/// The module's constants and private variables.
fn share(module: &Module) -> Result<Shared<'_>, InterpretError> {
    let types = TypeWords::new(module);
    let mut shared =
        Shared { module, types, words: Vec::new(), private_words: 0, globals: Vec::new(), variables: Vec::new() };
    for (_, variable) in module.global_variables.iter() {
        let span = match variable.space {
            AddressSpace::Private => shared.types.of_type(variable.ty).and_then(|words| shared.room(words as usize)),
            AddressSpace::WorkGroup => Err(InterpretError::Operation("workgroup memory")),
            _ => Err(InterpretError::Operation("a buffer or other resource")),
        };
        shared.variables.push(span);
    }
    shared.private_words = shared.words.len();
    let none = Arena::new();
    let context = ResolveContext::with_locals(module, &none, &[]);
    let mut expressions = Expressions::new(&mut shared, &module.global_expressions, context, &[], &[], 0);
    let globals: Vec<_> = module.global_expressions.iter().map(|(handle, _)| expressions.place_next(handle)).collect();
    shared.globals = globals;
    for (handle, variable) in module.global_variables.iter() {
        if let (Some(init), Ok(to)) = (variable.init, shared.variables[handle.index()].clone()) {
            match &shared.globals[init.index()] {
                Ok(from) if from.place.in_frame => {
                    shared.variables[handle.index()] = Err(InterpretError::Operation("override"));
                }
                Ok(from) => shared.words.copy_within(from.range(0), to.range(0).start),
                Err(error) => shared.variables[handle.index()] = Err(error.clone()),
            }
        }
    }
    Ok(shared)
}

/// The dtypes of a value's words.
fn dtypes_of(module: &Module, inner: &TypeInner, words: u64) -> Result<Vec<DType>, InterpretError> {
    check_words(words as usize)?;
    let mut dtypes = Vec::new();
    let mut pending = vec![inner];
    while let Some(inner) = pending.pop() {
        match *inner {
            TypeInner::Scalar(scalar) => dtypes.push(dtype_of(scalar)?),
            TypeInner::Vector { size, scalar } => dtypes.extend(vec![dtype_of(scalar)?; size as usize]),
            TypeInner::Matrix { columns, rows, scalar } => {
                dtypes.extend(vec![dtype_of(scalar)?; columns as usize * rows as usize]);
            }
            TypeInner::Array { base, size: naga::ArraySize::Constant(length), .. } => {
                pending.extend((0..length.get()).map(|_| &module.types[base].inner));
            }
            TypeInner::Struct { ref members, .. } => {
                pending.extend(members.iter().rev().map(|member| &module.types[member.ty].inner));
            }
            _ => return Err(InterpretError::Type("opaque result")),
        }
    }
    Ok(dtypes)
}

/// The functions that a call of `entry` may run, callees first. A function calls only earlier ones.
fn reachable(module: &Module, entry: Handle<naga::Function>) -> Result<Vec<Handle<naga::Function>>, InterpretError> {
    let mut is_called = vec![false; module.functions.len()];
    is_called[entry.index()] = true;
    let handles: Vec<_> = module.functions.iter().map(|(handle, _)| handle).take(entry.index() + 1).collect();
    let mut called = Vec::new();
    for &handle in handles.iter().rev() {
        if !is_called[handle.index()] {
            continue;
        }
        called.push(handle);
        let mut blocks = vec![&module.functions[handle].body];
        while let Some(block) = blocks.pop() {
            for statement in block.iter() {
                match statement {
                    Ir::Call { function, .. } if *function < handle => is_called[function.index()] = true,
                    Ir::Call { .. } => return Err(InterpretError::Invalid("a call of a later function")),
                    Ir::Block(block) => blocks.push(block),
                    Ir::If { accept, reject, .. } => blocks.extend([accept, reject]),
                    Ir::Switch { cases, .. } => blocks.extend(cases.iter().map(|case| &case.body)),
                    Ir::Loop { body, continuing, .. } => blocks.extend([body, continuing]),
                    _ => {}
                }
            }
        }
    }
    called.reverse();
    Ok(called)
}

/// A function, and what a call of it needs with all that it calls.
struct Digested {
    function: Function,
    stack_words: usize,
    nesting: usize,
}

/// One function being digested.
struct Digest<'s, 'a> {
    expressions: Expressions<'s, 'a>,
    known: &'s [Option<(usize, usize, usize)>],
    has_result: bool,
    callee_words: usize,
    nesting: usize,
}

impl<'s, 'a> Digest<'s, 'a> {
    fn function(
        shared: &mut Shared<'a>,
        known: &[Option<(usize, usize, usize)>],
        handle: Handle<naga::Function>,
    ) -> Result<Digested, InterpretError> {
        let module = shared.module;
        let function = &module.functions[handle];
        let mut frame = Frame::default();
        let mut arguments = Vec::new();
        for argument in &function.arguments {
            arguments.push(frame.room(shared.types.of_type(argument.ty)?)?);
        }
        let argument_words = frame.words;
        let result = match &function.result {
            Some(result) => frame.room(shared.types.of_type(result.ty)?)?,
            None => frame.room(0)?,
        };
        let locals_start = frame.words;
        let mut locals = Vec::new();
        for (_, variable) in function.local_variables.iter() {
            locals.push(frame.room(shared.types.of_type(variable.ty)?)?);
        }
        let local_words = frame.words - locals_start;

        let context = ResolveContext::with_locals(module, &function.local_variables, &function.arguments);
        let expressions = Expressions::new(shared, &function.expressions, context, &arguments, &locals, frame.words);
        let has_result = function.result.is_some();
        let mut digest = Digest { expressions, known, has_result, callee_words: 0, nesting: 0 };
        for (expression, _) in function.expressions.iter() {
            digest.expressions.place_next(expression)?;
        }
        let body = digest.block(&function.body, 1)?;
        let (nesting, callee_words) = (digest.nesting, digest.callee_words);
        let frame_words = digest.expressions.frame_words();
        let pointers = std::mem::take(&mut digest.expressions.pointers).into();
        let mut initial = vec![0; local_words];
        for ((_, variable), to) in function.local_variables.iter().zip(&locals) {
            if let Some(init) = variable.init {
                let from = digest.expressions.span(init);
                let start = to.place.at - locals_start;
                initial[start..start + to.words].copy_from_slice(digest.expressions.constant_words(from)?);
            }
        }
        let function = Function { argument_words, result, locals: initial.into(), pointers, frame_words, body };
        let stack_words = frame_words + callee_words;
        check_words(stack_words)?;
        Ok(Digested { function, stack_words, nesting })
    }

    fn block(&mut self, block: &naga::Block, nesting: usize) -> Result<Block, InterpretError> {
        self.note_nesting(nesting)?;
        let mut statements = Statements::default();
        self.statements(block, nesting, &mut statements)?;
        Ok(statements.finish())
    }

    fn note_nesting(&mut self, nesting: usize) -> Result<(), InterpretError> {
        self.nesting = self.nesting.max(nesting);
        if nesting > NESTING_MAX { Err(InterpretError::TooDeep) } else { Ok(()) }
    }

    fn statements(&mut self, block: &naga::Block, nesting: usize, out: &mut Statements) -> Result<(), InterpretError> {
        for statement in block.iter() {
            let statement = match statement {
                Ir::Emit(range) => {
                    for expression in range.clone() {
                        out.steps.extend(self.expressions.emitted(expression)?);
                    }
                    continue;
                }
                Ir::Block(inner) => {
                    self.note_nesting(nesting + 1)?;
                    self.statements(inner, nesting + 1, out)?;
                    continue;
                }
                Ir::If { condition, accept, reject } => Statement::If {
                    condition: self.place(*condition),
                    accept: self.block(accept, nesting + 1)?,
                    reject: self.block(reject, nesting + 1)?,
                },
                Ir::Switch { selector, cases } => self.switch(self.place(*selector), cases, nesting)?,
                Ir::Loop { body, continuing, break_if } => Statement::Loop {
                    body: self.block(body, nesting + 1)?,
                    continuing: self.block(continuing, nesting + 1)?,
                    break_if: break_if.map(|condition| self.place(condition)),
                },
                Ir::Break => Statement::Break,
                Ir::Continue => Statement::Continue,
                Ir::Return { value } => {
                    let value = value.filter(|_| self.has_result).map(|value| self.place(value));
                    Statement::Return { value }
                }
                Ir::Store { pointer, value } => {
                    Statement::Store { pointer: self.place(*pointer), value: self.expressions.span(*value) }
                }
                Ir::Call { function, arguments, result } => self.call(*function, arguments, *result, nesting)?,
                other => return Err(InterpretError::Operation(name_of(other))),
            };
            out.push(statement);
        }
        Ok(())
    }

    fn switch(
        &mut self,
        selector: Place,
        cases: &[naga::SwitchCase],
        nesting: usize,
    ) -> Result<Statement, InterpretError> {
        let mut digested = Vec::new();
        for case in cases {
            let value = match case.value {
                SwitchValue::I32(value) => Some(u64::from(value as u32)),
                SwitchValue::U32(value) => Some(u64::from(value)),
                SwitchValue::Default => None,
            };
            let body = self.block(&case.body, nesting + 1)?;
            digested.push(Case { value, body, falls_through: case.fall_through });
        }
        let default = digested.iter().position(|case| case.value.is_none());
        let default = default.ok_or(InterpretError::Invalid("a switch without default"))?;
        Ok(Statement::Switch { selector, cases: digested.into(), default })
    }

    fn call(
        &mut self,
        function: Handle<naga::Function>,
        arguments: &[Handle<naga::Expression>],
        result: Option<Handle<naga::Expression>>,
        nesting: usize,
    ) -> Result<Statement, InterpretError> {
        let (callee, words, callee_nesting) =
            self.known[function.index()].ok_or(InterpretError::Invalid("a call of a later function"))?;
        self.callee_words = self.callee_words.max(words);
        self.note_nesting(nesting + callee_nesting)?;
        let arguments = arguments.iter().map(|&argument| self.expressions.span(argument)).collect();
        let result = result.map_or(Span::EMPTY, |result| self.expressions.span(result));
        Ok(Statement::Call { function: callee, arguments, result })
    }

    fn place(&self, handle: Handle<naga::Expression>) -> Place {
        self.expressions.span(handle).place
    }
}

/// Words given out one after the other.
#[derive(Default)]
struct Frame {
    words: usize,
}

impl Frame {
    fn room(&mut self, words: u64) -> Result<Span, InterpretError> {
        check_words((words as usize).saturating_add(self.words))?;
        let span = Span { place: Place { at: self.words, in_frame: true }, words: words as usize };
        self.words += span.words;
        Ok(span)
    }
}

/// A block being made: the steps since the last statement become one.
#[derive(Default)]
struct Statements {
    done: Vec<Statement>,
    steps: Vec<Step>,
}

impl Statements {
    fn push(&mut self, statement: Statement) {
        self.flush();
        self.done.push(statement);
    }

    fn flush(&mut self) {
        if !self.steps.is_empty() {
            self.done.push(Statement::Evaluate(std::mem::take(&mut self.steps).into()));
        }
    }

    fn finish(mut self) -> Block {
        self.flush();
        self.done.into()
    }
}

fn is_pointer(inner: &TypeInner) -> bool {
    matches!(inner, TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. })
}

/// What a statement that cannot be run is called in WGSL.
fn name_of(statement: &Ir) -> &'static str {
    match statement {
        Ir::Kill => "discard",
        Ir::ControlBarrier(_) | Ir::MemoryBarrier(_) => "a barrier",
        Ir::ImageStore { .. } => "textureStore",
        Ir::Atomic { .. } | Ir::ImageAtomic { .. } => "an atomic operation",
        Ir::WorkGroupUniformLoad { .. } => "workgroupUniformLoad",
        Ir::RayQuery { .. } | Ir::RayPipelineFunction(_) => "a ray query",
        Ir::SubgroupBallot { .. } | Ir::SubgroupGather { .. } | Ir::SubgroupCollectiveOperation { .. } => {
            "a subgroup operation"
        }
        Ir::CooperativeStore { .. } => "a cooperative matrix",
        _ => "this statement",
    }
}
