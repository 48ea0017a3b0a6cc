//! Puts a kernel's function where an engine's module has a stub for it.
//!
//! A code generator writes its own module as text, with a function of the right signature that does nothing, and calls
//! it from entry points only. The kernel's function comes from its validated module: user text is never printed.

use naga::{Block, Expression, Function, Handle, Module, Statement};

use super::merge::import;

/// Appends `function` of `source`, with all it needs, to `target`, and has `target`'s entry points call it wherever
/// they call the function named `stub`. The module is to be validated afterwards: only then is it known that both have
/// one signature.
///
/// # Panics
/// If there is no function named `stub`.
pub fn splice(target: &mut Module, stub: &str, source: &Module, function: Handle<Function>) {
    let is_stub = |(_, function): &(Handle<Function>, &Function)| function.name.as_deref() == Some(stub);
    let found = target.functions.iter().find(is_stub).map(|(handle, _)| handle);
    let old = found.expect("the engine's module has the stub that it names");
    let new = import(target, source, function).function(function);
    for entry in &mut target.entry_points {
        for (_, expression) in entry.function.expressions.iter_mut() {
            if let Expression::CallResult(called) = expression
                && *called == old
            {
                *called = new;
            }
        }
        replace_calls(&mut entry.function.body, old, new);
    }
}

fn replace_calls(block: &mut Block, old: Handle<Function>, new: Handle<Function>) {
    for statement in block.iter_mut() {
        match statement {
            Statement::Call { function, .. } if *function == old => *function = new,
            Statement::Block(block) => replace_calls(block, old, new),
            Statement::If { accept, reject, .. } => {
                [accept, reject].into_iter().for_each(|block| replace_calls(block, old, new));
            }
            Statement::Switch { cases, .. } => {
                cases.iter_mut().for_each(|case| replace_calls(&mut case.body, old, new))
            }
            Statement::Loop { body, continuing, .. } => {
                [body, continuing].into_iter().for_each(|block| replace_calls(block, old, new));
            }
            // No other statement holds blocks or calls.
            _ => {}
        }
    }
}
