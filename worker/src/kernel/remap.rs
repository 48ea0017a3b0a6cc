//! The same expressions and statements with other handles: what rewriting and merging modules consist of.
//!
//! Covers what [`super::allowed`] lets through.

use naga::{
    Arena, AtomicFunction, Block, Constant, Expression, Function, Handle, LocalVariable, Range, Statement, SwitchCase,
    Type,
};

/// What each handle becomes. Handles of local variables never change, nor do those of module variables: only block
/// kernels have any, and those are never merged.
pub(super) struct Remap<'a> {
    pub(super) ty: &'a dyn Fn(Handle<Type>) -> Handle<Type>,
    pub(super) constant: &'a dyn Fn(Handle<Constant>) -> Handle<Constant>,
    pub(super) function: &'a dyn Fn(Handle<Function>) -> Handle<Function>,
    pub(super) expression: &'a dyn Fn(Handle<Expression>) -> Handle<Expression>,
    /// First and last of an emitted range. They differ from `expression` where expressions were put in between.
    pub(super) range: &'a dyn Fn(Handle<Expression>, Handle<Expression>) -> Range<Expression>,
}

impl Remap<'_> {
    pub(super) fn expression(&self, expression: &Expression) -> Expression {
        let at = |handle: Handle<Expression>| (self.expression)(handle);
        match *expression {
            Expression::Literal(literal) => Expression::Literal(literal),
            Expression::Constant(constant) => Expression::Constant((self.constant)(constant)),
            Expression::ZeroValue(ty) => Expression::ZeroValue((self.ty)(ty)),
            Expression::Compose { ty, ref components } => {
                Expression::Compose { ty: (self.ty)(ty), components: components.iter().map(|&part| at(part)).collect() }
            }
            Expression::Access { base, index } => Expression::Access { base: at(base), index: at(index) },
            Expression::AccessIndex { base, index } => Expression::AccessIndex { base: at(base), index },
            Expression::Splat { size, value } => Expression::Splat { size, value: at(value) },
            Expression::Swizzle { size, vector, pattern } => Expression::Swizzle { size, vector: at(vector), pattern },
            Expression::FunctionArgument(index) => Expression::FunctionArgument(index),
            Expression::LocalVariable(local) => Expression::LocalVariable(local),
            Expression::Load { pointer } => Expression::Load { pointer: at(pointer) },
            Expression::Unary { op, expr } => Expression::Unary { op, expr: at(expr) },
            Expression::Binary { op, left, right } => Expression::Binary { op, left: at(left), right: at(right) },
            Expression::Select { condition, accept, reject } => {
                Expression::Select { condition: at(condition), accept: at(accept), reject: at(reject) }
            }
            Expression::Relational { fun, argument } => Expression::Relational { fun, argument: at(argument) },
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                Expression::Math { fun, arg: at(arg), arg1: arg1.map(at), arg2: arg2.map(at), arg3: arg3.map(at) }
            }
            Expression::As { expr, kind, convert } => Expression::As { expr: at(expr), kind, convert },
            Expression::CallResult(function) => Expression::CallResult((self.function)(function)),
            Expression::GlobalVariable(variable) => Expression::GlobalVariable(variable),
            Expression::ArrayLength(array) => Expression::ArrayLength(at(array)),
            Expression::AtomicResult { ty, comparison } => Expression::AtomicResult { ty: (self.ty)(ty), comparison },
            Expression::WorkGroupUniformLoadResult { ty } => {
                Expression::WorkGroupUniformLoadResult { ty: (self.ty)(ty) }
            }
            ref other => unreachable!("no kernel has {other:?}: `allowed` refused it"),
        }
    }

    pub(super) fn block(&self, block: &Block) -> Block {
        let mut mapped = Block::with_capacity(block.len());
        for (statement, span) in block.span_iter() {
            mapped.push(self.statement(statement), *span);
        }
        mapped
    }

    fn statement(&self, statement: &Statement) -> Statement {
        let at = |handle: Handle<Expression>| (self.expression)(handle);
        match *statement {
            Statement::Emit(ref range) => Statement::Emit(match range.first_and_last() {
                Some((first, last)) => (self.range)(first, last),
                None => range.clone(),
            }),
            Statement::Block(ref block) => Statement::Block(self.block(block)),
            Statement::If { condition, ref accept, ref reject } => {
                Statement::If { condition: at(condition), accept: self.block(accept), reject: self.block(reject) }
            }
            Statement::Switch { selector, ref cases } => {
                Statement::Switch { selector: at(selector), cases: cases.iter().map(|case| self.case(case)).collect() }
            }
            Statement::Loop { ref body, ref continuing, break_if } => Statement::Loop {
                body: self.block(body),
                continuing: self.block(continuing),
                break_if: break_if.map(at),
            },
            Statement::Break => Statement::Break,
            Statement::Continue => Statement::Continue,
            Statement::Return { value } => Statement::Return { value: value.map(at) },
            Statement::Store { pointer, value } => Statement::Store { pointer: at(pointer), value: at(value) },
            Statement::Call { function, ref arguments, result } => Statement::Call {
                function: (self.function)(function),
                arguments: arguments.iter().map(|&argument| at(argument)).collect(),
                result: result.map(at),
            },
            Statement::ControlBarrier(barrier) => Statement::ControlBarrier(barrier),
            Statement::WorkGroupUniformLoad { pointer, result } => {
                Statement::WorkGroupUniformLoad { pointer: at(pointer), result: at(result) }
            }
            Statement::Atomic { pointer, fun, value, result } => Statement::Atomic {
                pointer: at(pointer),
                fun: match fun {
                    AtomicFunction::Exchange { compare } => AtomicFunction::Exchange { compare: compare.map(at) },
                    other => other,
                },
                value: at(value),
                result: result.map(at),
            },
            ref other => unreachable!("no kernel has {other:?}: `allowed` refused it"),
        }
    }

    fn case(&self, case: &SwitchCase) -> SwitchCase {
        SwitchCase { value: case.value, body: self.block(&case.body), fall_through: case.fall_through }
    }

    pub(super) fn locals(&self, locals: &Arena<LocalVariable>) -> Arena<LocalVariable> {
        let mut mapped = Arena::new();
        for (handle, local) in locals.iter() {
            let LocalVariable { ref name, ty, init } = *local;
            let local = LocalVariable { name: name.clone(), ty: (self.ty)(ty), init: init.map(self.expression) };
            mapped.append(local, locals.get_span(handle));
        }
        mapped
    }
}
