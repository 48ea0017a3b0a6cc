//! Scalar kinds, and how many words a value of a type takes.
//!
//! A value is its scalar components in member order, one `u64` word each: 32-bit kinds in the low half with the high
//! half zero, bool as 0 or 1. Vectors are their components, matrices their columns, arrays and structs their members.
//! Nothing here knows of padding: that is [`super::layout`].

use naga::{ArraySize, Handle, Module, ScalarKind, Type, TypeInner};

use super::InterpretError;

/// What one word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    F32,
    F64,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] = [Kind::F32, Kind::F64, Kind::I32, Kind::U32, Kind::I64, Kind::U64, Kind::Bool];

    /// The kind of a naga scalar, or an error that names it.
    pub fn of(scalar: naga::Scalar) -> Result<Kind, InterpretError> {
        match (scalar.kind, scalar.width) {
            (ScalarKind::Float, 4) => Ok(Kind::F32),
            (ScalarKind::Float, 8) => Ok(Kind::F64),
            (ScalarKind::Sint, 4) => Ok(Kind::I32),
            (ScalarKind::Sint, 8) => Ok(Kind::I64),
            (ScalarKind::Uint, 4) => Ok(Kind::U32),
            (ScalarKind::Uint, 8) => Ok(Kind::U64),
            (ScalarKind::Bool, _) => Ok(Kind::Bool),
            (ScalarKind::Float, 2) => Err(InterpretError::Type("f16")),
            (ScalarKind::Sint | ScalarKind::Uint | ScalarKind::Float, _) => Err(InterpretError::Type("16-bit integer")),
            (ScalarKind::AbstractInt | ScalarKind::AbstractFloat, _) => Err(InterpretError::Type("abstract number")),
        }
    }

    /// Bytes of one value in WGSL's storage layout; a bool has none.
    pub const fn bytes(self) -> Option<u32> {
        match self {
            Kind::F32 | Kind::I32 | Kind::U32 => Some(4),
            Kind::F64 | Kind::I64 | Kind::U64 => Some(8),
            Kind::Bool => None,
        }
    }
}

/// How many words a value of each type of a module takes.
pub(super) struct TypeWords(Vec<Result<u64, InterpretError>>);

impl TypeWords {
    /// Types name only earlier types, so one pass knows them all. An unusable type is an error only where it is used.
    pub(super) fn new(module: &Module) -> TypeWords {
        let mut all = TypeWords(Vec::with_capacity(module.types.len()));
        for (_, ty) in module.types.iter() {
            let words = all.of(&ty.inner);
            all.0.push(words);
        }
        all
    }

    /// The number of words in a value of a type of the module.
    pub(super) fn of_type(&self, ty: Handle<Type>) -> Result<u64, InterpretError> {
        self.0[ty.index()].clone()
    }

    /// The number of words in a value; pointers are one word, the address.
    pub(super) fn of(&self, inner: &TypeInner) -> Result<u64, InterpretError> {
        let named = |what| Err(InterpretError::Type(what));
        match *inner {
            TypeInner::Scalar(scalar) => Kind::of(scalar).map(|_| 1),
            TypeInner::Vector { size, scalar } => Kind::of(scalar).map(|_| size as u64),
            TypeInner::Matrix { columns, rows, scalar } => Kind::of(scalar).map(|_| columns as u64 * rows as u64),
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => Ok(1),
            TypeInner::Array { base, size: ArraySize::Constant(length), .. } => {
                self.of_type(base)?.checked_mul(u64::from(length.get())).ok_or(InterpretError::FrameTooLarge)
            }
            TypeInner::Array { size: ArraySize::Dynamic, .. } => named("runtime-sized array"),
            TypeInner::Array { size: ArraySize::Pending(_), .. } => named("override-sized array"),
            TypeInner::Struct { ref members, .. } => members.iter().try_fold(0u64, |sum, member| {
                sum.checked_add(self.of_type(member.ty)?).ok_or(InterpretError::FrameTooLarge)
            }),
            TypeInner::Atomic(_) => named("atomic"),
            TypeInner::Image { .. } => named("texture"),
            TypeInner::Sampler { .. } => named("sampler"),
            TypeInner::BindingArray { .. } => named("binding array"),
            TypeInner::CooperativeMatrix { .. } => named("cooperative matrix"),
            TypeInner::AccelerationStructure { .. } => named("acceleration structure"),
            TypeInner::RayQuery { .. } => named("ray query"),
        }
    }
}
