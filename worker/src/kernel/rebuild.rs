//! Rewriting a function's expressions, with new ones put in right before those that need them.

use naga::{Arena, Expression, Function, Handle, Range, Span};

use super::remap::Remap;

/// The new expressions, and per old one the first new expression that stands for it and the one that has its value.
pub(super) struct Rebuilt {
    pub(super) expressions: Arena<Expression>,
    firsts: Vec<Handle<Expression>>,
    handles: Vec<Handle<Expression>>,
}

impl Rebuilt {
    /// What an old expression has become.
    pub(super) fn handle(&self, old: Handle<Expression>) -> Handle<Expression> {
        self.handles[old.index()]
    }

    /// The same expression among the new ones.
    pub(super) fn kept(&self, expression: &Expression) -> Expression {
        self.remap(|remap| remap.expression(expression))
    }

    fn remap<R>(&self, run: impl FnOnce(&Remap<'_>) -> R) -> R {
        run(&Remap {
            ty: &|ty| ty,
            constant: &|constant| constant,
            function: &|function| function,
            expression: &|handle| self.handle(handle),
            range: &|first, last| Range::new_from_bounds(self.firsts[first.index()], self.handle(last)),
        })
    }
}

/// Rebuilds a function's expressions in order, each as `rewrite` has it: from the old handle, expression and span, it
/// makes the one that takes its place, and may append others before.
pub(super) fn rebuild(
    function: &mut Function,
    mut rewrite: impl FnMut(&mut Rebuilt, Handle<Expression>, &Expression, Span) -> Expression,
) {
    let mut rebuilt = Rebuilt { expressions: Arena::new(), firsts: Vec::new(), handles: Vec::new() };
    for (handle, expression) in function.expressions.iter() {
        let span = function.expressions.get_span(handle);
        let before = rebuilt.expressions.len();
        let expression = rewrite(&mut rebuilt, handle, expression, span);
        let new = rebuilt.expressions.append(expression, span);
        let first = rebuilt.expressions.range_from(before).first_and_last().map_or(new, |(first, _)| first);
        rebuilt.firsts.push(first);
        rebuilt.handles.push(new);
    }
    let named = function.named_expressions.iter().map(|(handle, name)| (rebuilt.handle(*handle), name.clone()));
    function.named_expressions = named.collect();
    function.body = rebuilt.remap(|remap| remap.block(&function.body));
    function.local_variables = rebuilt.remap(|remap| remap.locals(&function.local_variables));
    function.expressions = rebuilt.expressions;
}
