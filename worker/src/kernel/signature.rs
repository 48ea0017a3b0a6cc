//! What goes into a kernel's functions and what comes out.

use std::fmt;

use crate::dtype::DType;

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
