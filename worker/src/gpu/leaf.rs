//! One leaf of one block: what the device makes itself, and what is brought to it.
//!
//! Blocks and literals are brought as they are and read by their strides; constants, ranges and random numbers are made
//! where they are used. What is left (files, leaves of several pieces, what a device lacks the numbers for) is read
//! into row-major order on the host first.

use std::sync::Arc;

use crate::block::Buffer;
use crate::dtype::{DType, Scalar};
use crate::executor::ExecuteError;
use crate::shape::{Region, Shape};
use crate::source::{LeafReader, Part, Values};
use crate::with_element;

use super::device::Gpu;
use super::origin::Origin;
use super::resident::DeviceBytes;
use super::space::{Address, Space, halves, hull};

/// A leaf of a block, ready to be computed with.
pub(super) struct LeafInput {
    pub(super) dtype: DType,
    pub(super) origin: Origin,
    /// Per axis of the block.
    pub(super) address: Address,
    /// Its parameters.
    pub(super) data: Vec<u32>,
    /// What its buffer is filled with, if it has one.
    pub(super) fill: Option<Fill>,
}

/// What a buffer is filled with.
pub(super) enum Fill {
    /// Nothing: the block is on the device already.
    Resident(wgpu::Buffer, u64),
    /// Bytes of a block.
    Block(Buffer, std::ops::Range<usize>),
    /// Bytes that came with the plan.
    Literal(Arc<[u8]>, std::ops::Range<usize>),
    /// What parts make up, on the host.
    Parts(DType, Shape, Vec<Part>),
    /// So many elements, read one after the other.
    Read(LeafReader, DType, u64),
}

impl LeafInput {
    /// The leaf over `region` of the element space, which is not empty, of which `parts` are the pieces. Looks at none
    /// of its values.
    pub(super) fn new(dtype: DType, region: &Region, mut parts: Vec<Part>, gpu: &Arc<Gpu>) -> LeafInput {
        let shape = region.shape();
        let is_whole = parts.len() == 1 && parts[0].inside == Region::whole(&shape);
        let Some(part) = parts.pop_if(|_| is_whole) else {
            return LeafInput::poured(dtype, shape, parts);
        };
        let address = Address { base: part.base, steps: part.steps.clone() };
        let made = |origin, data| LeafInput { dtype, origin, address: address.clone(), data, fill: None };
        let features = gpu.info.features;
        match &part.values {
            Values::Memory(buffer) => {
                if let Some(there) = buffer.held_by::<DeviceBytes>().and_then(|bytes| bytes.buffer_on(gpu)) {
                    let fill = Fill::Resident(there.clone(), buffer.len() as u64);
                    return LeafInput::brought(dtype, address, fill);
                }
                let (address, bytes) = touched(dtype, &shape, &address);
                LeafInput::brought(dtype, address, Fill::Block(buffer.clone(), bytes))
            }
            Values::Literal(bytes) => {
                let (address, range) = touched(dtype, &shape, &address);
                LeafInput::brought(dtype, address, Fill::Literal(bytes.clone(), range))
            }
            Values::Constant(value) => made(Origin::Constant, words(*value).to_vec()),
            Values::Iota { start, .. } if dtype == DType::Bool => made(Origin::Constant, words(*start).to_vec()),
            Values::Iota { start, step } if dtype != DType::F32 || features.i64 => {
                made(Origin::Iota, [words(*start), words(*step)].concat())
            }
            Values::Linspace { start, stop, step, last } if dtype.is_float() && features.has_f64() => {
                let numbers = [*start, *stop, *step].map(|number| halves(number.to_bits()));
                made(Origin::Linspace, [numbers.as_flattened(), &halves(*last)].concat())
            }
            Values::Uniform(philox) => made(Origin::Uniform, [philox.key(), halves(philox.stream())].concat()),
            Values::Normal(philox) if features.has_f64() => {
                made(Origin::Normal, [philox.key(), halves(philox.stream())].concat())
            }
            Values::Iota { .. } | Values::Linspace { .. } | Values::Normal(_) | Values::Npy(_) => {
                LeafInput::poured(dtype, shape, vec![part])
            }
        }
    }

    fn brought(dtype: DType, address: Address, fill: Fill) -> LeafInput {
        LeafInput { dtype, origin: Origin::Buffer, address, data: Vec::new(), fill: Some(fill) }
    }

    /// Any leaf, read on the host.
    fn poured(dtype: DType, shape: Shape, parts: Vec<Part>) -> LeafInput {
        let steps = shape.strides().iter().map(|&stride| stride as i64).collect();
        LeafInput::brought(dtype, Address { base: 0, steps }, Fill::Parts(dtype, shape, parts))
    }

    /// Whether its buffer holds its values over a block of `shape`, in row-major order and nothing else.
    pub(super) fn is_whole(&self, shape: &Shape) -> bool {
        let Some(fill) = &self.fill else { return false };
        let order: Vec<usize> = (0..shape.rank()).collect();
        self.address.base == 0
            && fill.bytes() == shape.elements() * self.dtype.bytes()
            && Space::new(shape, &order, vec![self.address.clone()]).is_linear(0)
    }
}

impl Fill {
    /// How much it is.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Fill::Resident(_, bytes) => *bytes,
            Fill::Block(_, range) | Fill::Literal(_, range) => range.len() as u64,
            Fill::Parts(dtype, shape, _) => shape.elements() * dtype.bytes(),
            Fill::Read(_, dtype, elements) => elements * dtype.bytes(),
        }
    }

    /// Makes it ready to be written: what is elsewhere is fetched.
    ///
    /// # Errors
    /// A device that is lost, memory that cannot be had.
    pub(super) fn open(&mut self) -> Result<(), ExecuteError> {
        match self {
            Fill::Resident(..) | Fill::Literal(..) | Fill::Read(..) => {}
            Fill::Block(buffer, _) => drop(fetched(buffer)?),
            Fill::Parts(dtype, shape, parts) => {
                for part in parts.iter() {
                    if let Values::Memory(buffer) = &part.values {
                        fetched(buffer)?;
                    }
                }
                let reader = LeafReader::of_parts(*dtype, shape, std::mem::take(parts))?;
                *self = Fill::Read(reader, *dtype, shape.elements());
            }
        }
        Ok(())
    }

    /// Whether it has to come to the device.
    pub(super) fn is_brought(&self) -> bool {
        !matches!(self, Fill::Resident(..))
    }

    /// Hands all of it to `write`, in order, in pieces.
    pub(super) fn write(&self, mut write: impl FnMut(&[u8])) -> Result<(), ExecuteError> {
        match self {
            Fill::Resident(..) => {}
            Fill::Parts(..) => unreachable!("it was opened"),
            Fill::Block(buffer, range) => write(&fetched(buffer)?[range.clone()]),
            Fill::Literal(bytes, range) => write(&bytes[range.clone()]),
            Fill::Read(reader, dtype, elements) => with_element!(*dtype, T => {
                let mut tile = [T::default(); TILE];
                for start in (0..*elements).step_by(TILE) {
                    let values = &mut tile[..(elements - start).min(TILE as u64) as usize];
                    reader.read(start, values)?;
                    write(bytemuck::cast_slice(values));
                }
            }),
        }
        Ok(())
    }
}

/// The bytes of a block that may be on another device.
fn fetched(buffer: &Buffer) -> Result<&[u8], ExecuteError> {
    buffer.fetch().map_err(|error| ExecuteError::Internal { what: error.to_string() })
}

/// Elements that are read at once.
const TILE: usize = 4096;

/// The bytes that an address reaches over a block, and the address in what begins with the first of them.
fn touched(dtype: DType, shape: &Shape, address: &Address) -> (Address, std::ops::Range<usize>) {
    let (low, high) = hull(shape, address);
    let width = dtype.bytes() as usize;
    let moved = Address { base: address.base - low, steps: address.steps.clone() };
    (moved, low as usize * width..(high as usize + 1) * width)
}

/// A scalar's stored bits in two words.
fn words(value: Scalar) -> [u32; 2] {
    let mut bytes = [0; 8];
    let stored = value.to_bytes();
    bytes[..stored.len()].copy_from_slice(&stored);
    halves(u64::from_le_bytes(bytes))
}
