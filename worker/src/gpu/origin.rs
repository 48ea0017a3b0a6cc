//! Where a leaf's values come from, as WGSL: one function for each leaf, of the element's number.

use crate::dtype::DType;

use super::params::{AXES_AT, data_at, leaf_at};

/// Where a leaf's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A buffer.
    Buffer,
    /// A parameter.
    Constant,
    /// See [`crate::stage::Source::Iota`].
    Iota,
    /// See [`crate::stage::Source::Linspace`].
    Linspace,
    /// Philox.
    Uniform,
    /// Philox, and the transform of Box and Muller.
    Normal,
}

/// A leaf's structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeafShader {
    pub(super) dtype: DType,
    pub(super) origin: Origin,
    /// Whether its address is the element's number and a base.
    pub(super) is_linear: bool,
}

impl LeafShader {
    /// The function, and the buffer at `binding` if it has one.
    pub(super) fn text(&self, leaf: usize, binding: usize) -> String {
        let LeafShader { dtype, origin, is_linear } = *self;
        let (record, data) = (leaf_at(leaf), data_at(leaf));
        let index = match is_linear {
            true => format!("wide_sum(wide_param({record}u), Wide(e, 0u))"),
            false => format!("address(e, {AXES_AT}u, {record}u)"),
        };
        let position = match is_linear {
            true => format!("params[{record}] + e"),
            false => format!("position(e, {AXES_AT}u, {record}u)"),
        };
        let value = match origin {
            Origin::Buffer if dtype == DType::Bool => format!("leaf{leaf}_values[{position}] != 0u"),
            Origin::Buffer => format!("leaf{leaf}_values[{position}]"),
            Origin::Constant => param(dtype, data),
            Origin::Iota => iota(dtype, &index, data),
            Origin::Linspace => {
                let [start, stop, step, last] = [0, 2, 4, 6].map(|at| format!("wide_param({}u)", data + at));
                let between = format!("f64_of({start}) + f64(u64_of(index)) * f64_of({step})");
                let value = format!("select({between}, f64_of({stop}), all(index == {last}))");
                return format!(
                    "fn leaf{leaf}(e: u32) -> {dtype} {{ let index = {index}; return {dtype}({value}); }}\n"
                );
            }
            Origin::Uniform => match dtype {
                DType::F64 => format!("uniform_64({index}, {data}u)"),
                DType::F32 => format!("uniform_32({index}, {data}u)"),
                _ => format!("random_word({index}, {data}u)"),
            },
            Origin::Normal if dtype == DType::F64 => format!("normal_64({index}, {data}u)"),
            Origin::Normal => format!("normal_32({index}, {data}u)"),
        };
        let variable = match origin {
            Origin::Buffer => {
                let stored = stored(dtype);
                format!("@group(0) @binding({binding}) var<storage, read> leaf{leaf}_values: array<{stored}>;\n")
            }
            Origin::Constant | Origin::Iota | Origin::Linspace | Origin::Uniform | Origin::Normal => String::new(),
        };
        format!("{variable}fn leaf{leaf}(e: u32) -> {dtype} {{ return {value}; }}\n")
    }
}

/// The value of `dtype` in the two words at `at`.
fn param(dtype: DType, at: usize) -> String {
    match dtype {
        DType::U32 => format!("params[{at}]"),
        DType::Bool => format!("params[{at}] != 0u"),
        DType::F32 | DType::I32 => format!("bitcast<{dtype}>(params[{at}])"),
        DType::U64 => format!("u64_of(wide_param({at}u))"),
        DType::F64 | DType::I64 => format!("bitcast<{dtype}>(u64_of(wide_param({at}u)))"),
    }
}

/// `start + index * step`.
fn iota(dtype: DType, index: &str, data: usize) -> String {
    let (start, step) = (param(dtype, data), param(dtype, data + 2));
    match dtype {
        DType::Bool => start,
        DType::U32 => format!("{start} + ({index}).x * {step}"),
        DType::I32 => format!("{start} + bitcast<i32>(({index}).x) * {step}"),
        DType::U64 => format!("{start} + u64_of({index}) * {step}"),
        DType::I64 => format!("{start} + bitcast<i64>(u64_of({index})) * {step}"),
        DType::F32 | DType::F64 => format!("{start} + {dtype}(u64_of({index})) * {step}"),
    }
}

/// How a dtype lies in a buffer.
pub(super) fn stored(dtype: DType) -> &'static str {
    if dtype == DType::Bool { "u32" } else { dtype.name() }
}

/// Whether it takes two words.
pub(super) const fn is_wide(dtype: DType) -> bool {
    dtype.bytes() == 8
}
