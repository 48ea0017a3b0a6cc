//! The commonest errors of naga's validator, in the user's words. naga itself speaks of them by handles.

use naga::front::Typifier;
use naga::proc::{ResolveContext, TypeResolution};
use naga::valid::{CallError, EntryPointError, ExpressionError, FunctionError, GlobalVariableError, ValidationError};
use naga::{Block, Expression, Function, GlobalVariable, Handle, Module, Span, Statement, TypeInner};

use super::allowed::inner_blocks;
use super::block;
use super::names::{inner_name, operator, type_name};

/// What is wrong and where; `None` where naga's own words must do.
pub(super) fn reason(module: &Module, error: &ValidationError) -> Option<(String, Span)> {
    let (function, own_span, name, source) = match error {
        ValidationError::Function { handle, name, source } => {
            (&module.functions[*handle], module.functions.get_span(*handle), name, source)
        }
        ValidationError::EntryPoint { name, source: EntryPointError::Function(source), .. } => {
            let entry = module.entry_points.iter().find(|entry| entry.name == *name)?;
            (&entry.function, block::span(&entry.function), name, source)
        }
        ValidationError::GlobalVariable { handle, name, source } => {
            return variable_reason(module, *handle, name, source);
        }
        _ => return None,
    };
    let spans = &function.expressions;
    let type_of = |handle: Handle<Expression>| expression_type(module, function, handle);
    match source {
        FunctionError::InvalidReturnType { expression, expected_ty } => {
            let expected = expected_ty.map_or("nothing".to_owned(), |ty| type_name(module, ty));
            let message = match expression {
                Some(expression) => {
                    format!("`{name}` returns {} here, but is declared to return {expected}", type_of(*expression)?)
                }
                None => format!("`{name}` can end without returning its {expected}"),
            };
            let span = return_span(&function.body, *expression).filter(Span::is_defined);
            Some((message, span.unwrap_or(own_span)))
        }
        FunctionError::Expression { handle, source } => {
            let ExpressionError::InvalidBinaryOperandTypes { op, lhs_type, rhs_type, .. } = source else { return None };
            let (left, right) = (inner_name(module, lhs_type), inner_name(module, rhs_type));
            Some((format!("`{}` cannot take {left} and {right}", operator(*op)), spans.get_span(*handle)))
        }
        FunctionError::InvalidStoreTypes { pointer, value } => {
            let place = match resolve(module, function, *pointer)?.inner_with(&module.types) {
                TypeInner::Pointer { base, .. } => type_name(module, *base),
                // A component of a vector.
                pointer => pointer.scalar().map(|scalar| inner_name(module, &TypeInner::Scalar(scalar)))?,
            };
            let found = type_of(*value)?;
            Some((format!("{found} cannot be stored in a variable of type {place}"), spans.get_span(*value)))
        }
        FunctionError::InvalidStorePointer(pointer) => {
            let message = "this can only be read: stores go to variables and to `read_write` buffers";
            Some((message.to_owned(), spans.get_span(*pointer)))
        }
        FunctionError::InvalidCall { function: callee_handle, error } => {
            let callee = module.functions[*callee_handle].name.as_deref().unwrap_or_default();
            match *error {
                CallError::ArgumentType { index, required, seen_expression } => {
                    let (expected, found) = (type_name(module, required), type_of(seen_expression)?);
                    let message =
                        format!("`{callee}` takes {expected} as argument {}, and is given {found}", index + 1);
                    Some((message, call_span(&function.body, *callee_handle).unwrap_or_default()))
                }
                CallError::ArgumentCount { required, seen } => {
                    let message = format!("`{callee}` is given {seen} arguments, and takes {required}");
                    Some((message, call_span(&function.body, *callee_handle).unwrap_or_default()))
                }
                _ => None,
            }
        }
        FunctionError::InvalidIfType(condition) => {
            let message = format!("a condition is a bool, and this is {}", type_of(*condition)?);
            let is_it =
                |found: &Statement| matches!(found, Statement::If { condition: found, .. } if found == condition);
            Some((message, find(&function.body, &is_it).unwrap_or_default()))
        }
        _ => None,
    }
}

fn variable_reason(
    module: &Module,
    handle: Handle<GlobalVariable>,
    name: &str,
    error: &GlobalVariableError,
) -> Option<(String, Span)> {
    let span = module.global_variables.get_span(handle);
    match error {
        GlobalVariableError::MissingTypeFlags { .. } | GlobalVariableError::InvalidType(_) => {
            let ty = type_name(module, module.global_variables[handle].ty);
            Some((format!("`{name}` cannot be {ty} in this kind of memory"), span))
        }
        _ => None,
    }
}

fn expression_type(module: &Module, function: &Function, handle: Handle<Expression>) -> Option<String> {
    resolve(module, function, handle).map(|resolution| match resolution {
        TypeResolution::Handle(ty) => type_name(module, ty),
        TypeResolution::Value(inner) => inner_name(module, &inner),
    })
}

fn resolve(module: &Module, function: &Function, handle: Handle<Expression>) -> Option<TypeResolution> {
    let context = ResolveContext::with_locals(module, &function.local_variables, &function.arguments);
    let mut types = Typifier::new();
    types.grow(handle, &function.expressions, &context).ok()?;
    Some(types[handle].clone())
}

/// The `return` statement that returns this.
fn return_span(block: &Block, returned: Option<Handle<Expression>>) -> Option<Span> {
    find(block, &|statement| matches!(statement, Statement::Return { value } if *value == returned))
}

/// The first call of a function.
fn call_span(block: &Block, callee: Handle<Function>) -> Option<Span> {
    find(block, &|statement| matches!(statement, Statement::Call { function, .. } if *function == callee))
}

/// Where the first statement stands of which `is_it` holds.
fn find(block: &Block, is_it: &dyn Fn(&Statement) -> bool) -> Option<Span> {
    block.span_iter().find_map(|(statement, span)| match is_it(statement) {
        true => Some(*span),
        false => inner_blocks(statement).into_iter().find_map(|block| find(block, is_it)),
    })
}
