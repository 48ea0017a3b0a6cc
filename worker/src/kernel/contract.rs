//! Contraction: `a * b + c` becomes `fma(a, b, c)`, once, on the IR, so that every executor rounds alike.
//!
//! The rule. Within one function, an addition or subtraction of floats (scalars or vectors) one of whose operands *is*
//! a product of floats is replaced:
//!
//! ```text
//! a * b + c  ->  fma(a, b, c)        a * b - c  ->  fma(a, b, -c)
//! c + a * b  ->  fma(a, b, c)        c - a * b  ->  fma(-a, b, c)
//! ```
//!
//! Where both operands are products the left one goes in. "Is" means the expression itself: a `let` is only a name for
//! one, while what a `var` holds, a call returns, a negation or a conversion hides is no product any more. A product
//! with other uses is computed for them as well. In a product of a vector and a scalar the scalar is splatted. Products
//! with a matrix stay as they are. Nothing is ever contracted across functions, and constant expressions were
//! evaluated, each operation rounded, before.

use naga::proc::TypeResolution;
use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    Arena, BinaryOperator, Expression, Function, Handle, MathFunction, Module, ScalarKind, Span, Type, TypeInner,
    UnaryOperator, UniqueArena, VectorSize,
};

use super::rebuild::{Rebuilt, rebuild};

/// Contracts every function of a validated module, whose [`ModuleInfo`] is stale afterwards.
pub(super) fn contract(module: &mut Module, info: &ModuleInfo) {
    let Module { types, functions, entry_points, .. } = module;
    for (handle, function) in functions.iter_mut() {
        contract_function(function, &Shapes { types, info: &info[handle] });
    }
    for (index, entry) in entry_points.iter_mut().enumerate() {
        contract_function(&mut entry.function, &Shapes { types, info: info.get_entry_point(index) });
    }
}

/// A sum that contains a product.
struct Contraction {
    a: Handle<Expression>,
    b: Handle<Expression>,
    c: Handle<Expression>,
    negated: Negated,
    size: Option<VectorSize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Negated {
    Neither,
    A,
    C,
}

/// What the expressions of a function are.
struct Shapes<'a> {
    types: &'a UniqueArena<Type>,
    info: &'a FunctionInfo,
}

/// A float scalar, or a float vector of a size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Scalar,
    Vector(VectorSize),
}

impl Shapes<'_> {
    fn of(&self, handle: Handle<Expression>) -> Option<Shape> {
        let resolution: &TypeResolution = &self.info[handle].ty;
        match *resolution.inner_with(self.types) {
            TypeInner::Scalar(scalar) if scalar.kind == ScalarKind::Float => Some(Shape::Scalar),
            TypeInner::Vector { size, scalar } if scalar.kind == ScalarKind::Float => Some(Shape::Vector(size)),
            _ => None,
        }
    }
}

/// The contraction that the rule asks for at `sum`, if any.
fn find(expressions: &Arena<Expression>, shapes: &Shapes<'_>, sum: Handle<Expression>) -> Option<Contraction> {
    let Expression::Binary { op, left, right } = expressions[sum] else { return None };
    let size = match shapes.of(sum)? {
        Shape::Scalar => None,
        Shape::Vector(size) => Some(size),
    };
    let product = |handle: Handle<Expression>| match expressions[handle] {
        Expression::Binary { op: BinaryOperator::Multiply, left: a, right: b } => {
            (shapes.of(a).is_some() && shapes.of(b).is_some()).then_some((a, b))
        }
        _ => None,
    };
    let (on_the_left, on_the_right) = match op {
        BinaryOperator::Add => (Negated::Neither, Negated::Neither),
        BinaryOperator::Subtract => (Negated::C, Negated::A),
        _ => return None,
    };
    if let Some((a, b)) = product(left) {
        return Some(Contraction { a, b, c: right, negated: on_the_left, size });
    }
    product(right).map(|(a, b)| Contraction { a, b, c: left, negated: on_the_right, size })
}

/// Rebuilds the function with negations and splats put right before the sums that need them.
fn contract_function(function: &mut Function, shapes: &Shapes<'_>) {
    let contractions: Vec<Option<Contraction>> =
        function.expressions.iter().map(|(handle, _)| find(&function.expressions, shapes, handle)).collect();
    rebuild(function, |rebuilt, handle, expression, span| match &contractions[handle.index()] {
        Some(contraction) => fuse(rebuilt, contraction, shapes, span),
        None => rebuilt.kept(expression),
    });
}

fn fuse(rebuilt: &mut Rebuilt, contraction: &Contraction, shapes: &Shapes<'_>, span: Span) -> Expression {
    let &Contraction { a, b, c, negated, size } = contraction;
    let mut operand = |old: Handle<Expression>, negate: bool| {
        let mut new = rebuilt.handle(old);
        if negate {
            new = rebuilt.expressions.append(Expression::Unary { op: UnaryOperator::Negate, expr: new }, span);
        }
        match (size, shapes.of(old)) {
            (Some(size), Some(Shape::Scalar)) => {
                rebuilt.expressions.append(Expression::Splat { size, value: new }, span)
            }
            _ => new,
        }
    };
    let a = operand(a, negated == Negated::A);
    let b = operand(b, false);
    let c = operand(c, negated == Negated::C);
    Expression::Math { fun: MathFunction::Fma, arg: a, arg1: Some(b), arg2: Some(c), arg3: None }
}
