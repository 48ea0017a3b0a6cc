//! Fixtures as `tests/fixtures/make.py` writes them: JSON, with values as exact bits.

use std::fs;
use std::path::PathBuf;

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::shape::Shape;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An array: dtype, shape, and bits in hex, most significant digit first; a bool is one digit.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Array {
    dtype: String,
    shape: Vec<u64>,
    bits: String,
}

impl Array {
    pub(crate) fn dtype(&self) -> DType {
        self.dtype.parse().unwrap()
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape::new(&self.shape).unwrap()
    }

    pub(crate) fn values(&self) -> Vec<Scalar> {
        let width = if self.dtype() == DType::Bool { 1 } else { 2 * self.dtype().bytes() as usize };
        assert_eq!(self.bits.len() as u64, self.shape().elements() * width as u64, "{self:?}");
        (0..self.bits.len()).step_by(width).map(|at| scalar(self.dtype(), &self.bits[at..at + width])).collect()
    }

    /// The whole array as one block.
    pub(crate) fn block(&self) -> Block {
        block(self.dtype(), &self.shape(), &self.values())
    }
}

/// A value from its bits.
pub(crate) fn scalar(dtype: DType, hex: &str) -> Scalar {
    let bits = u64::from_str_radix(hex, 16).unwrap();
    Scalar::from_bytes(dtype, &bits.to_le_bytes()[..dtype.bytes() as usize]).unwrap()
}

/// Values as one block.
pub(crate) fn block(dtype: DType, shape: &Shape, values: &[Scalar]) -> Block {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bytes()).collect();
    let mut buffer = BufferMut::zeroed(bytes.len());
    buffer.bytes_mut().copy_from_slice(&bytes);
    Block::new(Item::Value(dtype), shape.clone(), buffer.freeze())
}

/// A file of `tests/fixtures`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A JSON fixture.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap()
}
