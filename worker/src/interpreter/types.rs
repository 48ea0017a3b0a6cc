//! What words hold, and how many of them a value of a type takes.
//!
//! A value is its scalar components in member order, one `u64` word each: 32-bit numbers in the low half with the high
//! half zero, bool as 0 or 1. Vectors are their components, matrices their columns, arrays and structs their members.
//! Nothing here knows of padding: that is [`super::layout`].

use naga::{ArraySize, Handle, Module, Scalar, ScalarKind, Type, TypeInner};

use super::InterpretError;
use crate::dtype::DType;

/// The dtype of a naga scalar, or an error that names what has none.
pub(crate) fn dtype_of(scalar: Scalar) -> Result<DType, InterpretError> {
    match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => Ok(DType::F32),
        (ScalarKind::Float, 8) => Ok(DType::F64),
        (ScalarKind::Sint, 4) => Ok(DType::I32),
        (ScalarKind::Sint, 8) => Ok(DType::I64),
        (ScalarKind::Uint, 4) => Ok(DType::U32),
        (ScalarKind::Uint, 8) => Ok(DType::U64),
        (ScalarKind::Bool, _) => Ok(DType::Bool),
        (ScalarKind::Float, _) => Err(InterpretError::Type("f16")),
        (ScalarKind::Sint | ScalarKind::Uint, _) => Err(InterpretError::Type("16-bit integer")),
        (ScalarKind::AbstractInt | ScalarKind::AbstractFloat, _) => Err(InterpretError::Type("abstract number")),
    }
}

/// How many words a value of each type of a module takes.
pub(crate) struct TypeWords(Vec<Result<u64, InterpretError>>);

impl TypeWords {
    /// Types name only earlier types, so one pass knows them all. An unusable type is an error only where it is used.
    pub(crate) fn new(module: &Module) -> TypeWords {
        let mut all = TypeWords(Vec::with_capacity(module.types.len()));
        for (_, ty) in module.types.iter() {
            let words = all.of(&ty.inner);
            all.0.push(words);
        }
        all
    }

    /// The number of words in a value of a type of the module.
    pub(crate) fn of_type(&self, ty: Handle<Type>) -> Result<u64, InterpretError> {
        self.0[ty.index()].clone()
    }

    /// The number of words in a value; pointers are one word, the address.
    pub(crate) fn of(&self, inner: &TypeInner) -> Result<u64, InterpretError> {
        let named = |what| Err(InterpretError::Type(what));
        match *inner {
            TypeInner::Scalar(scalar) => dtype_of(scalar).map(|_| 1),
            TypeInner::Vector { size, scalar } => dtype_of(scalar).map(|_| size as u64),
            TypeInner::Matrix { columns, rows, scalar } => dtype_of(scalar).map(|_| columns as u64 * rows as u64),
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => Ok(1),
            TypeInner::Array { base, size: ArraySize::Constant(length), .. } => {
                self.of_type(base)?.checked_mul(u64::from(length.get())).ok_or(InterpretError::FrameTooLarge)
            }
            TypeInner::Array { size: ArraySize::Dynamic, .. } => named("runtime-sized array"),
            TypeInner::Array { size: ArraySize::Pending(_), .. } => named("override-sized array"),
            TypeInner::Struct { ref members, .. } => members.iter().try_fold(0u64, |sum, member| {
                sum.checked_add(self.of_type(member.ty)?).ok_or(InterpretError::FrameTooLarge)
            }),
            TypeInner::Atomic(scalar) => dtype_of(scalar).map(|_| 1),
            TypeInner::Image { .. } => named("texture"),
            TypeInner::Sampler { .. } => named("sampler"),
            TypeInner::BindingArray { .. } => named("binding array"),
            TypeInner::CooperativeMatrix { .. } => named("cooperative matrix"),
            TypeInner::AccelerationStructure { .. } => named("acceleration structure"),
            TypeInner::RayQuery { .. } => named("ray query"),
        }
    }
}
