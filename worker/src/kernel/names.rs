//! Types by the names that users know.

use naga::{AddressSpace, ArraySize, BinaryOperator, Handle, Module, Scalar, ScalarKind, Type, TypeInner};

use crate::dtype::DType;

/// The dtype that a type is, if it is a scalar.
pub(super) fn dtype(module: &Module, ty: Handle<Type>) -> Option<DType> {
    match module.types[ty].inner {
        TypeInner::Scalar(scalar) => scalar_dtype(scalar),
        _ => None,
    }
}

/// The dtype of a scalar; `None` for f16 and what has no width.
pub(super) fn scalar_dtype(scalar: Scalar) -> Option<DType> {
    match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => Some(DType::F32),
        (ScalarKind::Float, 8) => Some(DType::F64),
        (ScalarKind::Sint, 4) => Some(DType::I32),
        (ScalarKind::Sint, 8) => Some(DType::I64),
        (ScalarKind::Uint, 4) => Some(DType::U32),
        (ScalarKind::Uint, 8) => Some(DType::U64),
        (ScalarKind::Bool, _) => Some(DType::Bool),
        _ => None,
    }
}

/// A type as its user would write it.
pub(super) fn type_name(module: &Module, ty: Handle<Type>) -> String {
    match &module.types[ty] {
        Type { name: Some(name), inner: TypeInner::Struct { .. } } => name.clone(),
        Type { inner, .. } => inner_name(module, inner),
    }
}

/// The same for a type that stands in no arena.
pub(super) fn inner_name(module: &Module, inner: &TypeInner) -> String {
    let scalar = |scalar: Scalar| match scalar.kind {
        ScalarKind::AbstractInt => "a number",
        ScalarKind::AbstractFloat => "a number with a point",
        _ => scalar_dtype(scalar).map_or("f16", DType::name),
    };
    match *inner {
        TypeInner::Scalar(found) => scalar(found).to_owned(),
        TypeInner::Vector { size, scalar: found } => format!("vec{}<{}>", size as u32, scalar(found)),
        TypeInner::Matrix { columns, rows, scalar: found } => {
            format!("mat{}x{}<{}>", columns as u32, rows as u32, scalar(found))
        }
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            format!("array<{}, {count}>", type_name(module, base))
        }
        TypeInner::Array { base, .. } => format!("array<{}>", type_name(module, base)),
        TypeInner::Pointer { base, space: AddressSpace::Function } => {
            format!("ptr<function, {}>", type_name(module, base))
        }
        TypeInner::Pointer { base, .. } => format!("a pointer to {}", type_name(module, base)),
        TypeInner::ValuePointer { scalar: found, .. } => format!("a pointer to {}", scalar(found)),
        TypeInner::Atomic(found) => format!("atomic<{}>", scalar(found)),
        TypeInner::Struct { .. } => "a struct".to_owned(),
        _ => "a type that kernels do not have".to_owned(),
    }
}

/// An operator as it is written.
pub(super) fn operator(op: BinaryOperator) -> &'static str {
    match op {
        BinaryOperator::Add => "+",
        BinaryOperator::Subtract => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::Equal => "==",
        BinaryOperator::NotEqual => "!=",
        BinaryOperator::Less => "<",
        BinaryOperator::LessEqual => "<=",
        BinaryOperator::Greater => ">",
        BinaryOperator::GreaterEqual => ">=",
        BinaryOperator::And => "&",
        BinaryOperator::ExclusiveOr => "^",
        BinaryOperator::InclusiveOr => "|",
        BinaryOperator::LogicalAnd => "&&",
        BinaryOperator::LogicalOr => "||",
        BinaryOperator::ShiftLeft => "<<",
        BinaryOperator::ShiftRight => ">>",
    }
}
