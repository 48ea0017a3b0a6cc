//! From a naga module to a [`Program`]: where everything that cannot be run is refused.

use naga::proc::ResolveContext;
use naga::{
    AtomicFunction, Barrier, BinaryOperator, Handle, MathFunction, Module, Statement as Ir, SwitchValue, TypeInner,
};

use super::code::{Block, Case, Change, Function, Place, Program, Span, Statement, Step};
use super::expression::{Expressions, Shared, check_words};
use super::globals::share;
use super::operator::{self, Map};
use super::types::dtype_of;
use super::{InterpretError, NESTING_MAX, builtin};
use crate::dtype::DType;

/// Makes a function of a validated module ready to run.
pub(super) fn digest(module: &Module, entry: Handle<naga::Function>) -> Result<Program, InterpretError> {
    let function = module.functions.try_get(entry).map_err(|_| InterpretError::Invalid("no such function"))?;
    if function.arguments.iter().any(|argument| is_pointer(&module.types[argument.ty].inner)) {
        return Err(InterpretError::Type("pointer argument"));
    }
    let shared = share(module, None)?;
    let result_dtypes = match &function.result {
        Some(result) => dtypes_of(module, &module.types[result.ty].inner, shared.types.of_type(result.ty)?)?,
        None => Vec::new(),
    };
    program(shared, entry.index(), function, result_dtypes)
}

/// What is known of a digested function.
#[derive(Clone, Copy)]
struct Known {
    /// In [`Program::functions`].
    index: usize,
    /// The words of its deepest chain of calls.
    stack_words: usize,
    /// The nesting of its deepest chain of calls.
    nesting: usize,
    holds_barrier: bool,
}

/// `entry` and what it calls of the first `before` functions, callees first.
pub(super) fn program<'a>(
    mut shared: Shared<'a>,
    before: usize,
    entry: &'a naga::Function,
    result_dtypes: Vec<DType>,
) -> Result<Program, InterpretError> {
    let module = shared.module;
    let mut functions: Vec<Function> = Vec::new();
    let mut known: Vec<Option<Known>> = vec![None; module.functions.len()];
    for handle in reachable(module, before, entry)? {
        let (index, digested) = (functions.len(), Digest::function(&mut shared, &known, &module.functions[handle])?);
        let Digested { stack_words, nesting, .. } = digested;
        let holds_barrier = any_barrier(&digested.function.body);
        known[handle.index()] = Some(Known { index, stack_words, nesting, holds_barrier });
        functions.push(digested.function);
    }
    let digested = Digest::function(&mut shared, &known, entry)?;
    let stack_words = shared.words.len() + digested.stack_words;
    check_words(stack_words)?;
    functions.push(digested.function);
    let privates = shared.words[..shared.private_words].to_vec();
    Ok(Program { entry: functions.len() - 1, functions, privates, shared: shared.words, stack_words, result_dtypes })
}

fn any_barrier(block: &[Statement]) -> bool {
    block.iter().any(Statement::holds_barrier)
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

/// Those of the first `before` functions that a call of `entry` may run, callees first. A function calls only earlier
/// ones.
fn reachable(
    module: &Module,
    before: usize,
    entry: &naga::Function,
) -> Result<Vec<Handle<naga::Function>>, InterpretError> {
    let mut is_called = vec![false; module.functions.len()];
    mark_calls(&entry.body, before, &mut is_called)?;
    let mut called = Vec::new();
    for (handle, function) in module.functions.iter().take(before).rev() {
        if is_called[handle.index()] {
            mark_calls(&function.body, handle.index(), &mut is_called)?;
            called.push(handle);
        }
    }
    called.reverse();
    Ok(called)
}

/// Marks what a body calls, which must be of the first `before` functions.
fn mark_calls(body: &naga::Block, before: usize, is_called: &mut [bool]) -> Result<(), InterpretError> {
    let mut blocks = vec![body];
    while let Some(block) = blocks.pop() {
        for statement in block.iter() {
            match statement {
                Ir::Call { function, .. } if function.index() < before => is_called[function.index()] = true,
                Ir::Call { .. } => return Err(InterpretError::Invalid("a call of a later function")),
                Ir::Block(block) => blocks.push(block),
                Ir::If { accept, reject, .. } => blocks.extend([accept, reject]),
                Ir::Switch { cases, .. } => blocks.extend(cases.iter().map(|case| &case.body)),
                Ir::Loop { body, continuing, .. } => blocks.extend([body, continuing]),
                _ => {}
            }
        }
    }
    Ok(())
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
    known: &'s [Option<Known>],
    has_result: bool,
    is_block: bool,
    callee_words: usize,
    nesting: usize,
}

impl<'s, 'a> Digest<'s, 'a> {
    fn function(
        shared: &mut Shared<'a>,
        known: &[Option<Known>],
        function: &'a naga::Function,
    ) -> Result<Digested, InterpretError> {
        let module = shared.module;
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
        let (has_result, is_block) = (function.result.is_some(), expressions.is_block());
        let mut digest = Digest { expressions, known, has_result, is_block, callee_words: 0, nesting: 0 };
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
        for (statement, span) in block.span_iter() {
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
                Ir::If { condition, accept, reject } => {
                    let condition = self.place(*condition);
                    let (accept, reject) = (self.block(accept, nesting + 1)?, self.block(reject, nesting + 1)?);
                    let holds_barrier = any_barrier(&accept) || any_barrier(&reject);
                    Statement::If { condition, accept, reject, holds_barrier }
                }
                Ir::Switch { selector, cases } => self.switch(self.place(*selector), cases, nesting)?,
                Ir::Loop { body, continuing, break_if } => {
                    let (body, continuing) = (self.block(body, nesting + 1)?, self.block(continuing, nesting + 1)?);
                    let break_if = break_if.map(|condition| self.place(condition));
                    let holds_barrier = any_barrier(&body) || any_barrier(&continuing);
                    Statement::Loop { body, continuing, break_if, holds_barrier }
                }
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
                Ir::ControlBarrier(barrier) if self.is_block => {
                    Statement::Barrier { name: barrier_name(*barrier)?, offset: offset(*span) }
                }
                Ir::WorkGroupUniformLoad { pointer, result } if self.is_block => {
                    let (pointer, to) = (self.place(*pointer), self.expressions.span(*result));
                    Statement::UniformLoad { pointer, to, offset: offset(*span) }
                }
                Ir::Atomic { pointer, fun, value, result } if self.is_block => Statement::Atomic {
                    pointer: self.place(*pointer),
                    change: self.change(*fun, self.expressions.dtype(*value)?)?,
                    value: self.place(*value),
                    result: result.map(|result| self.place(result)),
                },
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
        let holds_barrier = digested.iter().any(|case| any_barrier(&case.body));
        Ok(Statement::Switch { selector, cases: digested.into(), default, holds_barrier })
    }

    fn call(
        &mut self,
        function: Handle<naga::Function>,
        arguments: &[Handle<naga::Expression>],
        result: Option<Handle<naga::Expression>>,
        nesting: usize,
    ) -> Result<Statement, InterpretError> {
        let callee = self.known[function.index()].ok_or(InterpretError::Invalid("a call of a later function"))?;
        self.callee_words = self.callee_words.max(callee.stack_words);
        self.note_nesting(nesting + callee.nesting)?;
        let arguments = arguments.iter().map(|&argument| self.expressions.span(argument)).collect();
        let result = result.map_or(Span::EMPTY, |result| self.expressions.span(result));
        let Known { index, holds_barrier, .. } = callee;
        Ok(Statement::Call { function: index, arguments, result, holds_barrier })
    }

    fn change(&self, function: AtomicFunction, dtype: DType) -> Result<Change, InterpretError> {
        let map = match function {
            AtomicFunction::Exchange { compare: None } => return Ok(Change::Exchange),
            AtomicFunction::Exchange { compare: Some(compare) } => {
                return Ok(Change::CompareExchange(self.place(compare)));
            }
            AtomicFunction::Add => operator::binary(BinaryOperator::Add, dtype),
            AtomicFunction::Subtract => operator::binary(BinaryOperator::Subtract, dtype),
            AtomicFunction::And => operator::binary(BinaryOperator::And, dtype),
            AtomicFunction::ExclusiveOr => operator::binary(BinaryOperator::ExclusiveOr, dtype),
            AtomicFunction::InclusiveOr => operator::binary(BinaryOperator::InclusiveOr, dtype),
            AtomicFunction::Min => builtin::componentwise(MathFunction::Min, dtype),
            AtomicFunction::Max => builtin::componentwise(MathFunction::Max, dtype),
        };
        match map {
            Some(Map::Two(function)) => Ok(Change::Apply(function)),
            _ => Err(InterpretError::Operation("this atomic operation")),
        }
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

fn barrier_name(barrier: Barrier) -> Result<&'static str, InterpretError> {
    match barrier {
        Barrier::WORK_GROUP => Ok("workgroupBarrier"),
        Barrier::STORAGE => Ok("storageBarrier"),
        _ => Err(InterpretError::Operation("this barrier")),
    }
}

/// Where a statement begins in the text.
fn offset(span: naga::Span) -> usize {
    span.to_range().map_or(0, |range| range.start)
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
