//! What a device must have to run a kernel: a function of its module alone.

use std::fmt;
use std::ops::BitOr;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{Expression, Function, Handle, MathFunction, Module, Scalar, ScalarKind, TypeInner};

use crate::dtype::DType;

/// What a device must have. CPUs have all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Requirements {
    /// f64 values.
    pub f64: bool,
    /// i64 or u64 values.
    pub int64: bool,
    /// Functions of f64 beyond what SPIR-V has in 64 bits: sin, exp, pow ...
    pub f64_math: bool,
    /// Functions of i64 or u64 that shader writers lack: bit scans ...
    pub int64_math: bool,
}

impl Requirements {
    /// What a validated module needs.
    pub(super) fn of(module: &Module, info: &ModuleInfo) -> Requirements {
        let types = module.types.iter().map(|(_, ty)| of_type(&ty.inner));
        let constants = module.global_expressions.iter().map(|(at, _)| of_type(info[at].inner_with(&module.types)));
        let functions = module.functions.iter().map(|(handle, function)| of_function(module, function, &info[handle]));
        types.chain(constants).chain(functions).fold(Requirements::default(), Requirements::bitor)
    }

    /// What values of a dtype need.
    pub(super) fn of_dtype(dtype: DType) -> Requirements {
        let int64 = matches!(dtype, DType::I64 | DType::U64);
        Requirements { f64: dtype == DType::F64, int64, ..Requirements::default() }
    }

    /// Whether a device that has `self` can run what needs `needed`.
    pub fn meets(self, needed: Requirements) -> bool {
        self | needed == self
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let named =
            [(self.f64, "f64"), (self.int64, "i64"), (self.f64_math, "f64 math"), (self.int64_math, "i64 math")];
        named.into_iter().filter_map(|(needed, name)| needed.then_some(name)).collect()
    }
}

impl BitOr for Requirements {
    type Output = Requirements;

    fn bitor(self, other: Requirements) -> Requirements {
        Requirements {
            f64: self.f64 | other.f64,
            int64: self.int64 | other.int64,
            f64_math: self.f64_math | other.f64_math,
            int64_math: self.int64_math | other.int64_math,
        }
    }
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names().as_slice() {
            [] => write!(f, "nothing special"),
            names => write!(f, "{}", names.join(", ")),
        }
    }
}

fn of_function(module: &Module, function: &Function, info: &FunctionInfo) -> Requirements {
    let inner = |handle: Handle<Expression>| info[handle].ty.inner_with(&module.types);
    let expressions = function.expressions.iter().map(|(handle, expression)| {
        let of_math = match *expression {
            Expression::Math { fun, arg, .. } => of_math(fun, inner(arg)),
            _ => Requirements::default(),
        };
        of_math | of_type(inner(handle))
    });
    expressions.fold(Requirements::default(), Requirements::bitor)
}

fn of_type(inner: &TypeInner) -> Requirements {
    match inner.scalar() {
        Some(Scalar { kind: ScalarKind::Float, width: 8 }) => Requirements { f64: true, ..Requirements::default() },
        Some(Scalar { kind: ScalarKind::Sint | ScalarKind::Uint, width: 8 }) => {
            Requirements { int64: true, ..Requirements::default() }
        }
        _ => Requirements::default(),
    }
}

/// GLSL.std.450, which SPIR-V calls, has these functions in 32 bits only; naga writes them for 64 bits all the same,
/// or panics.
fn of_math(fun: MathFunction, argument: &TypeInner) -> Requirements {
    if argument.scalar_width() != Some(8) {
        return Requirements::default();
    }
    use MathFunction::*;
    let f64_math = matches!(
        fun,
        Cos | Cosh
            | Sin
            | Sinh
            | Tan
            | Tanh
            | Acos
            | Asin
            | Atan
            | Atan2
            | Asinh
            | Acosh
            | Atanh
            | Radians
            | Degrees
            | Exp
            | Exp2
            | Log
            | Log2
            | Pow
    );
    let int64_math = matches!(
        fun,
        CountTrailingZeros
            | CountLeadingZeros
            | CountOneBits
            | ReverseBits
            | ExtractBits
            | InsertBits
            | FirstTrailingBit
            | FirstLeadingBit
    );
    Requirements { f64_math, int64_math, ..Requirements::default() }
}
