//! What goes into a kernel's functions and what comes out.

use std::fmt;

use crate::dtype::DType;
use crate::shape::Shape;

/// A parameter of a kernel's function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As the user wrote it.
    pub name: String,
    /// What it takes.
    pub dtype: DType,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The struct member's name; empty for a scalar result.
    pub name: String,
    /// What it is.
    pub dtype: DType,
}

/// The signature of an element kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The element function's name.
    pub name: String,
    /// The data parameters, without `At`.
    pub parameters: Vec<Parameter>,
    /// Whether the function takes `at: At` after them.
    pub uses_at: bool,
    /// One unnamed field, or one per member of the struct that is returned.
    pub results: Vec<Field>,
}

/// The signature of a reduction kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReductionSignature {
    /// What `lift` takes.
    pub parameters: Vec<Parameter>,
    /// How `A` is stored.
    pub accumulator: Layout,
    /// What `finish` returns.
    pub results: Vec<Field>,
}

/// The signature of a block kernel: whole blocks in, whole blocks out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSignature {
    /// The entry point's name.
    pub name: String,
    /// Invocations of one workgroup along x, y and z.
    pub workgroup: [u32; 3],
    /// The arrays that are read, in binding order from 0 on.
    pub inputs: Vec<Parameter>,
    /// The arrays that are written, bound after the inputs. They start as zeros.
    pub outputs: Vec<Field>,
    /// Whether a `BlockInfo` is bound after them.
    pub uses_info: bool,
    /// Bytes of workgroup memory, each variable rounded up to 16.
    pub workgroup_bytes: u32,
}

impl BlockSignature {
    /// Invocations of one workgroup.
    pub fn invocations(&self) -> u32 {
        self.workgroup.iter().product()
    }

    /// How many storage buffers are bound.
    pub fn buffers(&self) -> usize {
        self.inputs.len() + self.outputs.len() + usize::from(self.uses_info)
    }

    /// The workgroups that just cover an output block: x along its last axis, y along the one before, z over all the
    /// rest in row-major order. A device runs at most [`super::WORKGROUPS_MAX`] along each.
    pub fn workgroups(&self, shape: &Shape) -> [u64; 3] {
        let mut lengths = [1; 3];
        for (from_last, &length) in shape.iter().rev().enumerate() {
            lengths[from_last.min(2)] *= length;
        }
        let covered = |axis: usize| lengths[axis].div_ceil(u64::from(self.workgroup[axis]));
        [covered(0), covered(1), covered(2)]
    }
}

/// WGSL's storage layout of a type, flattened to its scalars. What no slot covers is padding, and zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type's name in WGSL.
    pub name: String,
    /// Bytes from one value to the next in an array of them.
    pub bytes: u32,
    /// The scalars, by rising offset.
    pub slots: Vec<Slot>,
}

/// One scalar in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How it is reached: `""` for a bare scalar, else like `mean`, `position.x`, `bins[3]`, `m[1].y`.
    pub path: String,
    /// From the start of the value.
    pub offset: u32,
    /// What it is.
    pub dtype: DType,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.uses_at.then(|| "at: At".to_owned());
        let parameters: Vec<String> = self.parameters.iter().map(Parameter::to_string).chain(at).collect();
        write!(f, "{}({}) -> {}", self.name, parameters.join(", "), Results(&self.results))
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.dtype)
    }
}

struct Results<'a>(&'a [Field]);

impl fmt::Display for Results<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [Field { name, dtype }] if name.is_empty() => write!(f, "{dtype}"),
            fields => {
                let fields: Vec<String> =
                    fields.iter().map(|field| format!("{}: {}", field.name, field.dtype)).collect();
                write!(f, "({})", fields.join(", "))
            }
        }
    }
}

impl fmt::Display for ReductionSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters: Vec<String> = self.parameters.iter().map(Parameter::to_string).collect();
        let Layout { name, bytes, .. } = &self.accumulator;
        write!(f, "reduce({}) -> {}, through {name} of {bytes} bytes", parameters.join(", "), Results(&self.results))
    }
}

impl fmt::Display for BlockSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.uses_info.then(|| "info: BlockInfo".to_owned());
        let inputs = self.inputs.iter().map(|input| format!("{}: array<{}>", input.name, input.dtype));
        let outputs = self.outputs.iter().map(|output| format!("{}: array<{}>", output.name, output.dtype));
        let (inputs, outputs) = (inputs.chain(info).collect::<Vec<_>>(), outputs.collect::<Vec<_>>());
        let [x, y, z] = self.workgroup;
        let (name, inputs, outputs) = (&self.name, inputs.join(", "), outputs.join(", "));
        write!(f, "{name}({inputs}) -> ({outputs}), by workgroups of {x}x{y}x{z}")
    }
}
