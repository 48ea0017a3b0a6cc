//! Legal things that are probably not meant.

use naga::{Expression, Function, Handle, Literal, Module, ScalarKind};

use super::Warning;
use super::allowed::all_functions;
use super::text::Text;

/// The most warnings that are told of one text; telling where each shows reads the text again.
const WARNINGS_MAX: usize = 64;

/// Warns of `let k = 0.1; ... f64(k)`: WGSL makes such a `k` an f32, and the bits that 0.1 loses are lost.
pub(super) fn warnings(text: &Text<'_>, module: &Module) -> Vec<Warning> {
    all_functions(module).flat_map(|function| widened(text, function)).take(WARNINGS_MAX).collect()
}

fn widened<'a>(text: &'a Text<'_>, function: &'a Function) -> impl Iterator<Item = Warning> + 'a {
    function.expressions.iter().filter_map(|(_, expression)| match *expression {
        Expression::As { expr, kind: ScalarKind::Float, convert: Some(8) } => {
            let value = rounded_literal(function, expr)?;
            let location = text.location(function.expressions.get_span(expr));
            let message = format!(
                "this {value} is an f32 before it is converted to f64, and has lost bits: declare it as f64, or write {value}lf"
            );
            Some(Warning { location, message })
        }
        _ => None,
    })
}

/// The value of an f32 literal whose decimal digits mean another number in f64.
fn rounded_literal(function: &Function, handle: Handle<Expression>) -> Option<f32> {
    let Expression::Literal(Literal::F32(value)) = function.expressions[handle] else { return None };
    let meant: f64 = value.to_string().parse().ok()?;
    (value.is_finite() && meant != f64::from(value)).then_some(value)
}
