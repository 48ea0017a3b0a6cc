//! Blocks: bytes with a dtype and a shape, and the 64-byte aligned, recycled memory they live in.
//!
//! A block is bytes plus an owner. Once made it is never written again and is shared by reference count.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dtype::{DType, Element};
use crate::shape::Shape;

/// The hard cap of one block: one GPU binding.
pub const BLOCK_BYTES_MAX: u64 = (2 << 30) - 256;

/// What one element of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Item {
    /// A value of a compute dtype.
    Value(DType),
    /// An accumulator of a reduction, `bytes` wide (at most 64), in WGSL's storage layout, padding zeroed.
    Partial {
        /// Its width.
        bytes: u32,
    },
}

impl Item {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Item::Value(dtype) => dtype.bytes(),
            Item::Partial { bytes } => bytes as u64,
        }
    }
}

/// 64 bytes on a 64-byte boundary: what buffers are made of.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A buffer being filled. Its first bytes are whatever was there before (never another process's).
pub struct BufferMut {
    lines: Vec<Line>,
    bytes: usize,
}

impl BufferMut {
    /// `bytes` bytes, 64-byte aligned, zeroed.
    pub fn zeroed(bytes: usize) -> BufferMut {
        BufferMut { lines: vec![Line([0; 64]); bytes.div_ceil(64)], bytes }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.bytes]
    }

    /// The bytes as elements.
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// No more writing: the buffer can be shared.
    pub fn freeze(self) -> Buffer {
        Buffer(Arc::new(self))
    }
}

/// Bytes that are shared and never change.
#[derive(Clone)]
pub struct Buffer(Arc<BufferMut>);

impl Buffer {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0.lines)[..self.0.bytes]
    }
}

/// The piece of an array at one grid index: C-order, little-endian.
#[derive(Clone)]
pub struct Block {
    /// What its elements are.
    pub item: Item,
    /// Lengths per axis.
    pub shape: Shape,
    /// `shape.elements() * item.bytes()` bytes.
    pub buffer: Buffer,
}

impl Block {
    /// A block over a filled buffer.
    ///
    /// # Panics
    /// If the buffer's length is not what the shape and the item need.
    pub fn new(item: Item, shape: Shape, buffer: Buffer) -> Block {
        assert_eq!(buffer.bytes().len() as u64, shape.elements() * item.bytes(), "a block's bytes fit its shape");
        Block { item, shape, buffer }
    }

    /// A block of values copied from a slice, in C order.
    ///
    /// # Panics
    /// If the number of values is not the shape's.
    pub fn from_elements<T: Element>(shape: Shape, values: &[T]) -> Block {
        let mut buffer = BufferMut::zeroed(size_of_val(values));
        buffer.elements_mut::<T>().copy_from_slice(values);
        Block::new(Item::Value(T::DTYPE), shape, buffer.freeze())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// The elements, in C order. A bool block is read as `u32`.
    ///
    /// # Panics
    /// If `T` is not as wide as the items.
    pub fn elements<T: Element>(&self) -> &[T] {
        assert_eq!(size_of::<T>() as u64, self.item.bytes(), "elements are read as what they are");
        bytemuck::cast_slice(self.bytes())
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({:?} {})", self.item, self.shape)
    }
}
