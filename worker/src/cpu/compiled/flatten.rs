//! From a validated naga module to a flat [`Program`]: statements, calls and variables. Values are `expression`'s.

mod block;
mod builtin;
mod expression;
mod reuse;

use std::collections::HashMap;
use std::rc::Rc;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{Expression, Handle, Module, Statement as Ir, SwitchValue, TypeInner};

use super::CompileError;
use super::divergence::{CHEAP_MAX, is_cheap};
use super::flat::{
    Base, Block, FrameId, Op, Place, Program, RegisterId, Statement, Value, ValueId, Variable, VariableId,
};
use crate::dtype::DType;
use crate::interpreter::{InterpretError, NESTING_MAX, TypeWords, dtype_of};
pub(super) use block::flatten_block;
use reuse::Reuse;

/// The most values and statements of a kernel once its calls are inlined: more would take seconds to compile.
const ITEMS_MAX: usize = 200_000;

/// What a naga expression stands for.
#[derive(Clone)]
enum Flat {
    /// Its words.
    Words(Rc<[ValueId]>),
    Pointer(Place),
}

/// Flattens a program.
pub(super) struct Flattener<'a> {
    module: &'a Module,
    info: &'a ModuleInfo,
    types: TypeWords,
    program: Program,
    constants: HashMap<(DType, u64), ValueId>,
    reuse: Reuse,
    items: usize,
    /// Statements and calls around.
    nesting: usize,
    /// What the module's variables are, by index; none but a block kernel's can be used.
    globals: Vec<Option<Base>>,
    /// Invocations of a workgroup along x, y and z.
    workgroup: [u32; 3],
}

/// One inlined call.
struct Frame<'a> {
    function: &'a naga::Function,
    info: &'a FunctionInfo,
    known: Vec<Option<Flat>>,
    arguments: Vec<Flat>,
    /// The variable of the first local.
    locals: u32,
    result: Option<VariableId>,
}

/// Flattens `function` of a validated module and all it calls. The first words of its parameters are leaves, as many as
/// `leaves`; what is left is `At`.
pub(super) fn flatten(
    module: &Module,
    info: &ModuleInfo,
    function: Handle<naga::Function>,
    leaves: usize,
) -> Result<Program, CompileError> {
    let mut flattener = Flattener::new(module, info);
    let (mut arguments, mut words_before) = (Vec::new(), 0);
    for argument in &module.functions[function].arguments {
        let mut words = Vec::new();
        for dtype in flattener.dtypes(&module.types[argument.ty].inner)? {
            let op = match words_before < leaves {
                true => Op::Leaf(words_before as u32),
                false => Op::At((words_before - leaves) as u32),
            };
            words.push(flattener.value(op, dtype, &[])?);
            words_before += 1;
        }
        arguments.push(Flat::Words(words.into()));
    }
    let mut body = Vec::new();
    let results = flattener.call(&module.functions[function], &info[function], arguments, &mut body)?;
    let mut program = flattener.program;
    (program.body, program.results) = (body, results.to_vec());
    program.find_inputs();
    Ok(program)
}

/// The dtypes of the words of a function's parameters.
pub(super) fn parameters(module: &Module, function: Handle<naga::Function>) -> Result<Vec<DType>, CompileError> {
    let mut words = Vec::new();
    for argument in &module.functions[function].arguments {
        words.append(&mut dtypes(module, &TypeWords::new(module), &module.types[argument.ty].inner)?);
    }
    Ok(words)
}

/// The dtypes of a value's words.
fn dtypes(module: &Module, words: &TypeWords, inner: &TypeInner) -> Result<Vec<DType>, CompileError> {
    let count = words.of(inner)?;
    if count > ITEMS_MAX as u64 {
        return Err(CompileError::TooLarge { max: ITEMS_MAX });
    }
    let count = count as usize;
    Ok(match *inner {
        TypeInner::Scalar(scalar)
        | TypeInner::Vector { scalar, .. }
        | TypeInner::Matrix { scalar, .. }
        | TypeInner::Atomic(scalar) => vec![dtype_of(scalar)?; count],
        TypeInner::Array { base, .. } => {
            let element = dtypes(module, words, &module.types[base].inner)?;
            element.iter().copied().cycle().take(count).collect()
        }
        TypeInner::Struct { ref members, .. } => {
            let members = members.iter().map(|member| dtypes(module, words, &module.types[member.ty].inner));
            members.collect::<Result<Vec<_>, _>>()?.concat()
        }
        _ => return Err(CompileError::Operation("an opaque type")),
    })
}

/// Takes away the returns that nothing comes after: naga ends both sides of an `if` at the end of a function with one,
/// and lanes would part there for nothing.
fn strip_returns(block: &mut Block) {
    if let Some(Statement::Return) = block.last() {
        block.pop();
    }
    match block.last_mut() {
        Some(Statement::If { accept, reject, .. }) => [accept, reject].into_iter().for_each(strip_returns),
        // The cases of a switch exclude each other.
        Some(Statement::Once { body, .. }) => {
            let cases = body.iter_mut().filter_map(|statement| match statement {
                Statement::If { accept, .. } => Some(accept),
                _ => None,
            });
            cases.for_each(strip_returns);
        }
        _ => {}
    }
}

impl<'a> Flattener<'a> {
    fn new(module: &'a Module, info: &'a ModuleInfo) -> Flattener<'a> {
        Flattener {
            module,
            info,
            types: TypeWords::new(module),
            program: Program::default(),
            constants: HashMap::new(),
            reuse: Reuse::default(),
            items: 0,
            nesting: 0,
            globals: Vec::new(),
            workgroup: [1; 3],
        }
    }

    fn count(&mut self, items: usize) -> Result<(), CompileError> {
        self.items = self.items.saturating_add(items);
        if self.items > ITEMS_MAX { Err(CompileError::TooLarge { max: ITEMS_MAX }) } else { Ok(()) }
    }

    /// A new value, not yet evaluated anywhere.
    fn value(&mut self, op: Op, dtype: DType, operands: &[ValueId]) -> Result<ValueId, CompileError> {
        self.count(1)?;
        self.program.values.push(Value { op, dtype, operands: operands.into() });
        Ok(ValueId(self.program.values.len() as u32 - 1))
    }

    fn constant(&mut self, dtype: DType, word: u64) -> Result<ValueId, CompileError> {
        if let Some(&value) = self.constants.get(&(dtype, word)) {
            return Ok(value);
        }
        let value = self.value(Op::Constant(word), dtype, &[])?;
        self.constants.insert((dtype, word), value);
        Ok(value)
    }

    /// A value, evaluated here if it is not there already.
    fn emit(&mut self, op: Op, dtype: DType, operands: &[ValueId], out: &mut Block) -> Result<ValueId, CompileError> {
        let computation = self.reuse.computation(op, dtype, operands);
        if let Some(value) = computation.as_ref().and_then(|computation| self.reuse.find(computation)) {
            return Ok(value);
        }
        let value = self.value(op, dtype, operands)?;
        self.reuse.insert(computation, value);
        out.push(Statement::Evaluate(value));
        Ok(value)
    }

    fn register(&mut self) -> RegisterId {
        self.program.registers += 1;
        RegisterId(self.program.registers - 1)
    }

    /// Makes sure that a word that is named has a number.
    fn name(&mut self, place: Place) {
        if let (Base::Variable(variable), None) = (place.base, place.index)
            && self.program.variable(variable).words[place.offset as usize].is_none()
        {
            let register = self.register();
            self.program.variables[variable.0 as usize].words[place.offset as usize] = Some(register);
        }
    }

    fn load(&mut self, place: Place, out: &mut Block) -> Result<ValueId, CompileError> {
        self.name(place);
        let dtype = match place.base {
            Base::Variable(variable) => self.program.variable(variable).dtypes[place.offset as usize],
            Base::Table(table) => self.program.tables[table as usize].0,
            Base::Buffer(buffer) => self.program.buffers[buffer as usize].dtype,
            Base::Workgroup(shared) => self.program.workgroup[shared as usize].dtypes[place.offset as usize],
        };
        self.emit(Op::Load(place), dtype, &[], out)
    }

    fn store(&mut self, place: Place, value: ValueId, out: &mut Block) -> Result<(), CompileError> {
        self.count(1)?;
        self.name(place);
        if let Base::Variable(variable) = place.base {
            self.reuse.wrote(variable);
        }
        out.push(Statement::Store { place, value });
        Ok(())
    }

    fn frame(&mut self) -> FrameId {
        self.program.frames += 1;
        FrameId(self.program.frames - 1)
    }

    fn variable(&mut self, dtypes: Vec<DType>, initial: Option<Box<[u64]>>) -> Result<VariableId, CompileError> {
        self.count(dtypes.len() / 16 + 1)?;
        let (words, whole) = (vec![None; dtypes.len()].into(), self.register());
        self.program.variables.push(Variable { dtypes: dtypes.into(), initial, is_indexed: false, whole, words });
        Ok(VariableId(self.program.variables.len() as u32 - 1))
    }

    fn dtypes(&self, inner: &TypeInner) -> Result<Vec<DType>, CompileError> {
        dtypes(self.module, &self.types, inner)
    }

    /// Inlines a call, and gives the words of its result.
    fn call(
        &mut self,
        function: &'a naga::Function,
        info: &'a FunctionInfo,
        arguments: Vec<Flat>,
        out: &mut Block,
    ) -> Result<Rc<[ValueId]>, CompileError> {
        let module = self.module;
        self.count(1 + function.expressions.len() / 16)?;
        let first = self.program.variables.len() as u32;
        for (_, local) in function.local_variables.iter() {
            let dtypes = self.dtypes(&module.types[local.ty].inner)?;
            self.variable(dtypes, None)?;
        }
        let result = match &function.result {
            Some(result) => {
                let dtypes = self.dtypes(&module.types[result.ty].inner)?;
                Some(self.variable(dtypes, None)?)
            }
            None => None,
        };
        let known = vec![None; function.expressions.len()];
        let mut frame = Frame { function, info, known, arguments, locals: first, result };
        for ((_, local), id) in function.local_variables.iter().zip(first..) {
            if let Some(init) = local.init {
                let words = self.words(&mut frame, init, &mut Vec::new())?;
                let initial = words.iter().map(|&word| self.constant_word(word)).collect::<Result<_, _>>()?;
                self.program.variables[id as usize].initial = Some(initial);
            }
        }
        let mut body = self.inner_block(&mut frame, &function.body)?;
        strip_returns(&mut body);
        let count = function.local_variables.len() + usize::from(result.is_some());
        let locals = first..first + count as u32;
        let call = Statement::Call { frame: self.frame(), locals, body };
        out.push(call);
        let Some(variable) = result else { return Ok(Rc::new([])) };
        let count = self.program.variable(variable).dtypes.len() as u32;
        let place = |offset| Place { base: Base::Variable(variable), offset, index: None };
        (0..count).map(|offset| self.load(place(offset), out)).collect()
    }

    fn constant_word(&self, value: ValueId) -> Result<u64, CompileError> {
        match self.program.value(value).op {
            Op::Constant(word) => Ok(word),
            _ => Err(CompileError::Operation("an initializer that is not constant")),
        }
    }

    fn block(&mut self, frame: &mut Frame<'a>, block: &naga::Block, out: &mut Block) -> Result<(), CompileError> {
        for (statement, span) in block.span_iter() {
            self.statement(frame, statement, *span, out)?;
        }
        Ok(())
    }

    fn inner_block(&mut self, frame: &mut Frame<'a>, block: &naga::Block) -> Result<Block, CompileError> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(InterpretError::TooDeep.into());
        }
        let (mut out, entered) = (Vec::new(), self.reuse.enter());
        self.block(frame, block, &mut out)?;
        self.reuse.leave(entered);
        self.nesting -= 1;
        Ok(out)
    }

    fn statement(
        &mut self,
        frame: &mut Frame<'a>,
        statement: &Ir,
        span: naga::Span,
        out: &mut Block,
    ) -> Result<(), CompileError> {
        self.count(1)?;
        match statement {
            Ir::Emit(range) => {
                for expression in range.clone() {
                    let flat = self.evaluate(frame, expression, out)?;
                    frame.known[expression.index()] = Some(flat);
                }
            }
            Ir::Block(block) => out.append(&mut self.inner_block(frame, block)?),
            Ir::If { condition, accept, reject } => {
                let condition = self.scalar(frame, *condition, out)?;
                let accept = self.inner_block(frame, accept)?;
                let reject = self.inner_block(frame, reject)?;
                self.if_else(condition, accept, reject, out)?;
            }
            Ir::Switch { selector, cases } => self.switch(frame, *selector, cases, out)?,
            Ir::Loop { body, continuing, break_if } => {
                self.reuse.begin_loop();
                let entered = self.reuse.enter();
                let body = self.inner_block(frame, body)?;
                let mut continuing = self.inner_block(frame, continuing)?;
                let break_if = break_if.map(|condition| self.scalar(frame, condition, &mut continuing)).transpose()?;
                self.reuse.leave(entered);
                out.push(Statement::Loop { frame: self.frame(), body, continuing, break_if });
            }
            Ir::Break => out.push(Statement::Break),
            Ir::Continue => out.push(Statement::Continue),
            Ir::Return { value } => {
                if let (Some(value), Some(result)) = (value, frame.result) {
                    let words = self.words(frame, *value, out)?;
                    self.store_words(Place { base: Base::Variable(result), offset: 0, index: None }, &words, out)?;
                }
                out.push(Statement::Return);
            }
            Ir::Store { pointer, value } => {
                let place = self.place(frame, *pointer, out)?;
                let words = self.words(frame, *value, out)?;
                self.store_words(place, &words, out)?;
            }
            Ir::Call { function, arguments, result } => {
                let arguments = arguments.iter().map(|&argument| self.flat(frame, argument, out));
                let arguments = arguments.collect::<Result<_, _>>()?;
                let (function, info) = (&self.module.functions[*function], &self.info[*function]);
                let words = self.call(function, info, arguments, out)?;
                if let Some(result) = result {
                    frame.known[result.index()] = Some(Flat::Words(words));
                }
            }
            Ir::ControlBarrier(barrier) => self.barrier(*barrier, span, out)?,
            Ir::WorkGroupUniformLoad { pointer, result } => self.uniform_load(frame, (*pointer, *result), span, out)?,
            Ir::Atomic { pointer, fun, value, result } => {
                let words = self.atomic(frame, *pointer, *fun, *value, out)?;
                if let Some(result) = result {
                    frame.known[result.index()] = Some(Flat::Words(words));
                }
            }
            _ => return Err(CompileError::Operation("this statement")),
        }
        Ok(())
    }

    /// An `If`; or, where both sides only choose what is stored, the choice: `&&` and `||` are such.
    fn if_else(
        &mut self,
        condition: ValueId,
        accept: Block,
        reject: Block,
        out: &mut Block,
    ) -> Result<(), CompileError> {
        if let (Some((place, accepted)), Some((other, rejected))) = (self.choice(&accept), self.choice(&reject))
            && place == other
        {
            for statement in accept.into_iter().chain(reject) {
                if let Statement::Evaluate(value) = statement {
                    let Value { op, dtype, ref operands } = *self.program.value(value);
                    self.reuse.insert(self.reuse.computation(op, dtype, operands), value);
                    out.push(statement);
                }
            }
            let dtype = self.program.dtype(accepted);
            let word = |value: ValueId| match self.program.value(value).op {
                Op::Constant(word) if dtype == DType::Bool => Some(word != 0),
                _ => None,
            };
            let chosen = match (word(accepted), word(rejected)) {
                (None, Some(false)) => self.binary(naga::BinaryOperator::LogicalAnd, condition, accepted, out)?,
                (None, Some(true)) => {
                    let not = self.negation(condition, out)?;
                    self.binary(naga::BinaryOperator::LogicalOr, not, accepted, out)?
                }
                _ => self.emit(Op::Select, dtype, &[condition, accepted, rejected], out)?,
            };
            return self.store(place, chosen, out);
        }
        out.push(Statement::If { frame: self.frame(), condition, accept, reject });
        Ok(())
    }

    /// Not `condition`: what it is the negation of, if it is one.
    fn negation(&mut self, condition: ValueId, out: &mut Block) -> Result<ValueId, CompileError> {
        let not = Op::Unary(naga::UnaryOperator::LogicalNot);
        let Value { op, operands, .. } = self.program.value(condition);
        if *op == not { Ok(operands[0]) } else { self.emit(not, DType::Bool, &[condition], out) }
    }

    /// The one word that a block stores, at its end, if all else in it is cheap to compute for nobody.
    fn choice(&self, block: &Block) -> Option<(Place, ValueId)> {
        let (last, rest) = block.split_last()?;
        let Statement::Store { place, value } = *last else { return None };
        let is_cheap = rest.len() <= CHEAP_MAX && rest.iter().all(|statement| is_cheap(&self.program, statement));
        (is_cheap && place.index.is_none()).then_some((place, value))
    }

    fn store_words(&mut self, place: Place, words: &[ValueId], out: &mut Block) -> Result<(), CompileError> {
        for (at, &word) in words.iter().enumerate() {
            self.store(Place { offset: place.offset + at as u32, ..place }, word, out)?;
        }
        Ok(())
    }

    /// As a `Once` with one `If` per case: their conditions exclude each other.
    fn switch(
        &mut self,
        frame: &mut Frame<'a>,
        selector: Handle<Expression>,
        cases: &[naga::SwitchCase],
        out: &mut Block,
    ) -> Result<(), CompileError> {
        let selector = self.scalar(frame, selector, out)?;
        let dtype = self.program.dtype(selector);
        let mut once = Vec::new();
        // The condition of each body; that of the default is that of no other.
        let mut conditions: Vec<Option<ValueId>> = Vec::new();
        let (mut condition, mut has_default) = (None, false);
        for case in cases {
            let word = match case.value {
                SwitchValue::I32(value) => Some(u64::from(value as u32)),
                SwitchValue::U32(value) => Some(u64::from(value)),
                SwitchValue::Default => None,
            };
            match word {
                Some(word) => {
                    let word = self.constant(dtype, word)?;
                    let is_it = self.binary(naga::BinaryOperator::Equal, selector, word, &mut once)?;
                    condition = Some(self.either(condition, is_it, &mut once)?);
                }
                None => has_default = true,
            }
            if case.fall_through {
                if !case.body.is_empty() {
                    return Err(CompileError::Operation("a case that falls through"));
                }
                continue;
            }
            conditions.push(if has_default { None } else { condition });
            (condition, has_default) = (None, false);
        }
        let mut any = None;
        for &condition in conditions.iter().flatten() {
            any = Some(self.either(any, condition, &mut once)?);
        }
        let none = match any {
            Some(any) => self.emit(Op::Unary(naga::UnaryOperator::LogicalNot), DType::Bool, &[any], &mut once)?,
            None => self.constant(DType::Bool, 1)?,
        };
        let bodies = cases.iter().filter(|case| !case.fall_through);
        for (case, condition) in bodies.zip(conditions) {
            let accept = self.inner_block(frame, &case.body)?;
            let condition = condition.unwrap_or(none);
            once.push(Statement::If { frame: self.frame(), condition, accept, reject: Vec::new() });
        }
        out.push(Statement::Once { frame: self.frame(), body: once });
        Ok(())
    }

    fn either(&mut self, condition: Option<ValueId>, other: ValueId, out: &mut Block) -> Result<ValueId, CompileError> {
        match condition {
            Some(condition) => {
                let or = Op::Binary(naga::BinaryOperator::LogicalOr);
                self.emit(or, DType::Bool, &[condition, other], out)
            }
            None => Ok(other),
        }
    }
}
