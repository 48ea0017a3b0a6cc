//! What a device must have to run a kernel: a function of its module alone.

use std::fmt;
use std::ops::BitOr;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{Expression, Function, Handle, MathFunction, Module, Scalar, ScalarKind, TypeInner};

use super::BlockSignature;
use crate::dtype::DType;
use crate::ids::KernelHash;
use crate::stage::{Body, ChunkStep, ReduceOp, Stage};

/// What a device must have. CPUs have all of it, so far as a kernel may ask for it.
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
    /// Invocations of one workgroup along x, y and z.
    pub workgroup_size: [u32; 3],
    /// Invocations of one workgroup in all.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Storage buffers bound at once.
    pub storage_buffers: u32,
}

impl Requirements {
    /// All that a kernel may ask for.
    pub const ALL: Requirements = Requirements {
        f64: true,
        int64: true,
        f64_math: true,
        int64_math: true,
        workgroup_size: [u32::MAX; 3],
        workgroup_invocations: u32::MAX,
        workgroup_bytes: u32::MAX,
        storage_buffers: u32::MAX,
    };

    /// What WebGPU guarantees on every GPU.
    pub const GUARANTEED: Requirements = Requirements {
        f64: false,
        int64: false,
        f64_math: false,
        int64_math: false,
        workgroup_size: [256, 256, 64],
        workgroup_invocations: 256,
        workgroup_bytes: 16 << 10,
        storage_buffers: 8,
    };

    /// What a validated module needs.
    pub(super) fn of(module: &Module, info: &ModuleInfo) -> Requirements {
        let types = module.types.iter().map(|(_, ty)| of_type(&ty.inner));
        let constants = module.global_expressions.iter().map(|(at, _)| of_type(info[at].inner_with(&module.types)));
        let functions = module.functions.iter().map(|(handle, function)| of_function(module, function, &info[handle]));
        let entries = module.entry_points.iter().enumerate();
        let entries = entries.map(|(at, entry)| of_function(module, &entry.function, info.get_entry_point(at)));
        types.chain(constants).chain(functions).chain(entries).fold(Requirements::default(), Requirements::bitor)
    }

    /// What the workgroups and buffers of a block kernel need.
    pub(super) fn of_block(signature: &BlockSignature) -> Requirements {
        Requirements {
            workgroup_size: signature.workgroup,
            workgroup_invocations: signature.invocations(),
            workgroup_bytes: signature.workgroup_bytes,
            storage_buffers: signature.buffers() as u32,
            ..Requirements::default()
        }
    }

    /// What the blocks of a stage need: the values that go into them, their kernels, their reduction. What is above
    /// blocks runs on the host. `kernel` knows what a kernel needs.
    pub fn of_stage(stage: &Stage, kernel: &dyn Fn(KernelHash) -> Requirements) -> Requirements {
        let (map, block) = match &stage.body {
            Body::Map(map) => (map, Requirements::default()),
            Body::Block(call) => (&call.inputs, kernel(call.kernel)),
            Body::Fold(_) | Body::Relabel(_) => return Requirements::default(),
        };
        let leaves = map.leaves.iter().map(|leaf| Requirements::of_dtype(leaf.dtype));
        let steps = map.program.steps.iter().map(|step| kernel(step.kernel));
        let reduction = map.reduce.iter().map(|ChunkStep { reduction, .. }| match reduction.op {
            ReduceOp::User(hash) => kernel(hash),
            // What is built in needs nothing beyond the values: devices without f64 add in words.
            _ => Requirements::default(),
        });
        leaves.chain(steps).chain(reduction).fold(block, Requirements::bitor)
    }

    /// What values of a dtype need.
    pub(crate) fn of_dtype(dtype: DType) -> Requirements {
        let int64 = matches!(dtype, DType::I64 | DType::U64);
        Requirements { f64: dtype == DType::F64, int64, ..Requirements::default() }
    }

    /// Whether a device that has `self` can run what needs `needed`.
    pub fn meets(self, needed: Requirements) -> bool {
        self | needed == self
    }

    /// The names of those that are not [`Requirements::GUARANTEED`].
    pub fn names(self) -> Vec<String> {
        let common = Requirements::GUARANTEED;
        let [x, y, z] = self.workgroup_size;
        let is_large = self.workgroup_invocations > common.workgroup_invocations
            || self.workgroup_size.iter().zip(common.workgroup_size).any(|(&needed, common)| needed > common);
        let named = [
            (self.f64, "f64".to_owned()),
            (self.int64, "i64".to_owned()),
            (self.f64_math, "f64 math".to_owned()),
            (self.int64_math, "i64 math".to_owned()),
            (is_large, format!("workgroups of {x}x{y}x{z}")),
            (
                self.workgroup_bytes > common.workgroup_bytes,
                format!("{} bytes of workgroup memory", self.workgroup_bytes),
            ),
            (self.storage_buffers > common.storage_buffers, format!("{} storage buffers", self.storage_buffers)),
        ];
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
            workgroup_size: std::array::from_fn(|axis| self.workgroup_size[axis].max(other.workgroup_size[axis])),
            workgroup_invocations: self.workgroup_invocations.max(other.workgroup_invocations),
            workgroup_bytes: self.workgroup_bytes.max(other.workgroup_bytes),
            storage_buffers: self.storage_buffers.max(other.storage_buffers),
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
