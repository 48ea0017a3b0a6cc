//! What naga's shader writers get wrong, written so that they get it right.
//!
//! `a != b` of floats becomes `!(a == b)`: SPIR-V is given the comparison that is false for NaN. A conversion between
//! integers of another width and another signedness goes by the wider one of the old signedness: else an i32 becomes a
//! u64 without its sign.

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    BinaryOperator, Expression, Function, Handle, Module, Scalar, ScalarKind, Type, UnaryOperator, UniqueArena,
};

use super::rebuild::rebuild;

/// The same functions, for devices. `info` is the module's proof; the result is to be validated anew. Handles of
/// functions, types and variables stay.
pub fn portable(module: &Module, info: &ModuleInfo) -> Module {
    let mut portable = module.clone();
    let Module { types, functions, entry_points, .. } = &mut portable;
    functions.iter_mut().for_each(|(handle, function)| rewrite(function, types, &info[handle]));
    for (at, entry) in entry_points.iter_mut().enumerate() {
        rewrite(&mut entry.function, types, info.get_entry_point(at));
    }
    portable
}

fn rewrite(function: &mut Function, types: &UniqueArena<Type>, info: &FunctionInfo) {
    let scalar = |expression: Handle<Expression>| info[expression].ty.inner_with(types).scalar();
    rebuild(function, |rebuilt, _, expression, span| match *expression {
        Expression::Binary { op: BinaryOperator::NotEqual, left, right } if is_float(scalar(left)) => {
            let (left, right) = (rebuilt.handle(left), rebuilt.handle(right));
            let equal = Expression::Binary { op: BinaryOperator::Equal, left, right };
            let expr = rebuilt.expressions.append(equal, span);
            Expression::Unary { op: UnaryOperator::LogicalNot, expr }
        }
        Expression::As { expr, kind, convert: Some(width) } if widens_and_turns(scalar(expr), kind, width) => {
            let expr = rebuilt.handle(expr);
            let widened = Expression::As { expr, kind: turned(kind), convert: Some(width) };
            let expr = rebuilt.expressions.append(widened, span);
            Expression::As { expr, kind, convert: Some(width) }
        }
        ref other => rebuilt.kept(other),
    });
}

fn is_float(scalar: Option<Scalar>) -> bool {
    scalar.is_some_and(|scalar| scalar.kind == ScalarKind::Float)
}

/// From one kind of integer to a wider one of the other.
fn widens_and_turns(from: Option<Scalar>, to: ScalarKind, width: u8) -> bool {
    let is_integer = matches!(to, ScalarKind::Sint | ScalarKind::Uint);
    is_integer && from.is_some_and(|from| from.kind == turned(to) && from.width < width)
}

const fn turned(kind: ScalarKind) -> ScalarKind {
    match kind {
        ScalarKind::Sint => ScalarKind::Uint,
        ScalarKind::Uint => ScalarKind::Sint,
        other => other,
    }
}
