//! Values addressed by one number: the bytes of a block, or a source's row-major index.

use std::sync::Arc;

use crate::block::Buffer;
use crate::dtype::{DType, Element, Scalar};
use crate::executor::ExecuteError;
use crate::shape::Shape;
use crate::stage::{Distribution, Random, Source};

use super::normal;
use super::npy::NpyReader;
use super::philox::Philox;

/// Something that has a value at every address.
pub(crate) enum Values {
    /// The elements of a block.
    Memory(Buffer),
    /// Values that came with the plan.
    Literal(Arc<[u8]>),
    /// One value everywhere.
    Constant(Scalar),
    /// See [`Source::Iota`].
    Iota {
        /// The first value.
        start: Scalar,
        /// The difference.
        step: Scalar,
    },
    /// See [`Source::Linspace`].
    Linspace {
        /// The first value.
        start: f64,
        /// The value at `last`.
        stop: f64,
        /// The difference.
        step: f64,
        /// The index that gets `stop`.
        last: u64,
    },
    /// Uniform random numbers.
    Uniform(Philox),
    /// Normal ones.
    Normal(Philox),
    /// A file.
    Npy(NpyReader),
}

impl Source {
    /// What one step along each axis of the source's array adds to an address.
    pub(super) fn strides(&self) -> Shape {
        match self {
            Source::Iota { shape, .. }
            | Source::Linspace { shape, .. }
            | Source::Random(Random { shape, .. })
            | Source::Literal { shape, .. } => shape.strides(),
            Source::Npy(file) if !file.fortran => file.shape.strides(),
            Source::Npy(file) => {
                let mut strides = Shape::ones(file.shape.rank());
                for axis in 1..file.shape.rank() {
                    strides[axis] = strides[axis - 1] * file.shape[axis - 1];
                }
                strides
            }
            // One value has no addresses; blocks are addressed by their own strides.
            Source::Constant(_) | Source::Array { .. } => Shape::default(),
        }
    }
}

impl Values {
    /// The values of a source that reads no blocks.
    pub(super) fn new(source: &Source, dtype: DType) -> Result<Values, ExecuteError> {
        Ok(match source {
            Source::Constant(value) => Values::Constant(*value),
            Source::Iota { start, step, .. } => Values::Iota { start: *start, step: *step },
            Source::Linspace { start, stop, step, last, .. } => {
                Values::Linspace { start: *start, stop: *stop, step: *step, last: *last }
            }
            Source::Literal { bytes, .. } => Values::Literal(Arc::clone(bytes)),
            Source::Random(random) => {
                let philox = Philox::new(random.seed, random.stream);
                match random.distribution {
                    Distribution::Uniform => Values::Uniform(philox),
                    Distribution::Normal => Values::Normal(philox),
                }
            }
            Source::Npy(file) => Values::Npy(NpyReader::open(file, dtype)?),
            Source::Array { .. } => return Err(missing(&format!("a block of {dtype} without an operand"))),
        })
    }

    /// What reading an element costs where runs of `length` elements, `step` apart, are read, beyond what it always
    /// costs: only files care.
    pub(super) fn cost(&self, step: i64, length: u64) -> u64 {
        match self {
            Values::Npy(file) => file.cost(step, length),
            Values::Memory(_)
            | Values::Literal(_)
            | Values::Constant(_)
            | Values::Iota { .. }
            | Values::Linspace { .. }
            | Values::Uniform(_)
            | Values::Normal(_) => 0,
        }
    }

    /// The values at `at`, `at + step`, ...
    pub(super) fn fill<T: Element>(&self, at: u64, step: i64, out: &mut [T]) -> Result<(), ExecuteError> {
        let address = |index: usize| at.wrapping_add_signed(step * index as i64);
        match self {
            Values::Memory(buffer) => copy(buffer.bytes(), at, step, out),
            Values::Literal(bytes) => copy(bytes, at, step, out),
            Values::Constant(value) => out.fill(stored(*value)),
            Values::Iota { start, step: difference } => {
                let each = out.iter_mut().enumerate();
                each.for_each(|(index, value)| *value = stored(iota(*start, *difference, address(index))));
            }
            Values::Linspace { start, stop, step: difference, last } => {
                for (index, value) in out.iter_mut().enumerate() {
                    let address = address(index);
                    let exact = if address == *last { *stop } else { start + address as f64 * difference };
                    *value = stored(Scalar::F64(exact).cast(T::DTYPE));
                }
            }
            Values::Uniform(philox) => uniform(philox, at, step, out),
            Values::Normal(philox) => normal(philox, at, step, out),
            Values::Npy(file) => file.fill(at, step, out)?,
        }
        Ok(())
    }
}

fn missing(what: &str) -> ExecuteError {
    ExecuteError::Unsupported { executor: "native sources".to_owned(), what: what.to_owned() }
}

/// A scalar as it is stored.
fn stored<T: Element>(value: Scalar) -> T {
    bytemuck::pod_read_unaligned(&value.to_bytes())
}

fn copy<T: Element>(bytes: &[u8], at: u64, step: i64, out: &mut [T]) {
    let width = size_of::<T>();
    let element = |index: usize| {
        let first = at.wrapping_add_signed(step * index as i64) as usize * width;
        bytemuck::pod_read_unaligned(&bytes[first..first + width])
    };
    match step {
        1 => {
            let first = at as usize * width;
            let count = size_of_val(out);
            bytemuck::cast_slice_mut(out).copy_from_slice(&bytes[first..first + count]);
        }
        0 => out.fill(element(0)),
        _ => out.iter_mut().enumerate().for_each(|(index, value)| *value = element(index)),
    }
}

/// `start + index * step` in the dtype of both; integers wrap.
fn iota(start: Scalar, step: Scalar, index: u64) -> Scalar {
    match (start, step) {
        (Scalar::F64(start), Scalar::F64(step)) => Scalar::F64(start + index as f64 * step),
        (Scalar::F32(start), Scalar::F32(step)) => Scalar::F32(start + index as f32 * step),
        (Scalar::I64(start), Scalar::I64(step)) => Scalar::I64(start.wrapping_add((index as i64).wrapping_mul(step))),
        (Scalar::U64(start), Scalar::U64(step)) => Scalar::U64(start.wrapping_add(index.wrapping_mul(step))),
        (Scalar::I32(start), Scalar::I32(step)) => Scalar::I32(start.wrapping_add((index as i32).wrapping_mul(step))),
        (Scalar::U32(start), Scalar::U32(step)) => Scalar::U32(start.wrapping_add((index as u32).wrapping_mul(step))),
        // A plan gives both the array's dtype, and no bool counts.
        (start, _) => start,
    }
}

fn uniform<T: Element>(philox: &Philox, at: u64, step: i64, out: &mut [T]) {
    match T::DTYPE {
        DType::F64 => uniform_of::<f64>(philox, at, step, bytemuck::cast_slice_mut(out)),
        DType::F32 => uniform_of::<f32>(philox, at, step, bytemuck::cast_slice_mut(out)),
        // The raw words; a plan makes random arrays of no other dtype.
        _ => uniform_of::<u32>(philox, at, step, bytemuck::cast_slice_mut(out)),
    }
}

fn normal<T: Element>(philox: &Philox, at: u64, step: i64, out: &mut [T]) {
    match T::DTYPE {
        DType::F64 => normal::fill::<f64>(philox, at, step, bytemuck::cast_slice_mut(out)),
        // A plan makes normal arrays of no other dtype.
        _ => normal::fill::<f32>(philox, at, step, bytemuck::cast_slice_mut(out)),
    }
}

fn uniform_of<T: super::philox::Uniform>(philox: &Philox, at: u64, step: i64, out: &mut [T]) {
    match step {
        1 => philox.fill(at, out),
        0 => out.fill(philox.element(at)),
        _ => philox.fill_strided(at, step, out),
    }
}
