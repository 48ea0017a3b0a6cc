//! What a value is for all lanes: a constant, one number, or vectors.

use cranelift_codegen::ir::{self, Type, types};

use crate::dtype::DType;

/// The most vectors of a gang: 16 lanes of 8 bytes.
pub(super) const PARTS_MAX: usize = 8;

/// A gang.
#[derive(Clone, Copy)]
pub(in super::super) struct Gang {
    pub dtype: DType,
    pub form: Form,
}

/// How it is there.
#[derive(Clone, Copy)]
pub(in super::super) enum Form {
    /// A word for all lanes, made where it is used.
    Constant(u64),
    /// One number for all lanes; a bool is an `i8` of 0 or 1.
    Uniform(ir::Value),
    /// A number for each; a bool is all bits set or none.
    Varying(Parts),
}

/// Vectors, the first lanes first.
#[derive(Clone, Copy)]
pub(in super::super) struct Parts {
    values: [ir::Value; PARTS_MAX],
    count: usize,
    /// Bytes of a lane. A mask's are 4 or 8, whatever it was made of.
    pub width: usize,
}

impl Parts {
    pub(super) fn new(values: &[ir::Value], width: usize) -> Parts {
        let mut all = [ir::Value::from_u32(0); PARTS_MAX];
        all[..values.len()].copy_from_slice(values);
        Parts { values: all, count: values.len(), width }
    }

    pub(super) fn values(&self) -> &[ir::Value] {
        &self.values[..self.count]
    }
}

impl Gang {
    pub(super) fn varies(&self) -> bool {
        matches!(self.form, Form::Varying(_))
    }
}

/// The type of one number.
pub(super) fn lane_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        DType::I32 | DType::U32 => types::I32,
        DType::I64 | DType::U64 => types::I64,
        DType::Bool => types::I8,
    }
}

/// The type of a vector; a mask's lanes have this width.
pub(super) fn vector_type(dtype: DType, width: usize) -> Type {
    match dtype {
        DType::F32 => types::F32X4,
        DType::F64 => types::F64X2,
        DType::I32 | DType::U32 => types::I32X4,
        DType::I64 | DType::U64 => types::I64X2,
        DType::Bool if width == 8 => types::I64X2,
        DType::Bool => types::I32X4,
    }
}
