//! Blocks: bytes with a dtype and a shape, and the 64-byte aligned, recycled memory they live in.
//!
//! A block is bytes plus an owner. Once made it is never written again and is shared by reference count. Its bytes may
//! lie on a device ([`Remote`]) until somebody looks at them.

mod memory;
mod small;

use std::any::Any;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::dtype::{DType, Element};
use crate::shape::Shape;
use memory::Memory;
pub use small::{SMALL_BYTES_MAX, SmallBlock};

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

/// Memory that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of memory could not be had")]
pub struct OutOfMemory {
    /// How much was asked for.
    pub bytes: u64,
}

/// Bytes that wait in this process for the next buffer.
pub fn pool_bytes() -> u64 {
    memory::pool_bytes() as u64
}

/// Lets at most `bytes` bytes wait for the next buffer (1 GiB unless told otherwise).
pub fn set_pool_bytes_max(bytes: u64) {
    memory::set_pool_bytes_max(usize::try_from(bytes).unwrap_or(usize::MAX));
}

/// Lets the buffers of this process take at most `bytes` bytes, with those that wait for the next one: these go first,
/// and then a buffer cannot be had. There is no limit unless one is set.
pub fn set_bytes_max(bytes: u64) {
    memory::set_bytes_max(usize::try_from(bytes).unwrap_or(usize::MAX));
}

/// Gives all memory that waits for the next buffer back to the system.
pub fn trim() {
    memory::trim();
}

/// A buffer being filled: 64-byte aligned, recycled. Its bytes are whatever was there before (never another process's).
pub struct BufferMut {
    memory: Memory,
    bytes: usize,
}

impl BufferMut {
    /// `bytes` bytes with unspecified contents: for who writes all of them.
    pub fn try_new(bytes: usize) -> Result<BufferMut, OutOfMemory> {
        let (memory, _) = Memory::new(bytes)?;
        Ok(BufferMut { memory, bytes })
    }

    /// `bytes` zeros.
    pub fn try_zeroed(bytes: usize) -> Result<BufferMut, OutOfMemory> {
        let (memory, is_zero) = Memory::new(bytes)?;
        let mut buffer = BufferMut { memory, bytes };
        if !is_zero {
            buffer.bytes_mut().fill(0);
        }
        Ok(buffer)
    }

    /// `bytes` zeros.
    ///
    /// # Panics
    /// If the memory cannot be had; see [`BufferMut::try_zeroed`].
    pub fn zeroed(bytes: usize) -> BufferMut {
        match BufferMut::try_zeroed(bytes) {
            Ok(buffer) => buffer,
            Err(error) => panic!("{error}"),
        }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[..self.bytes]
    }

    /// The bytes as elements.
    ///
    /// # Panics
    /// If they are no whole number of elements.
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// No more writing: the buffer can be shared.
    pub fn freeze(self) -> Buffer {
        Buffer(Arc::new(Held { bytes: self.bytes, here: OnceLock::from(self), away: None }))
    }
}

/// Bytes that a device holds. Dropped, it frees them there.
pub trait Remote: Any + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings them here: blocks while they are copied.
    fn fetch(&self) -> Result<BufferMut, RemoteError>;
}

/// Bytes that a device held and that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block on a device cannot be fetched: {why}")]
pub struct RemoteError {
    /// What the device says.
    pub why: String,
}

/// Bytes that are shared and never change. Their memory is recycled when the last owner lets go.
#[derive(Clone)]
pub struct Buffer(Arc<Held>);

struct Held {
    bytes: usize,
    /// Filled when they are first looked at, if they were made elsewhere.
    here: OnceLock<BufferMut>,
    away: Option<Box<dyn Remote>>,
}

impl Buffer {
    /// Bytes that a device holds: they come here when they are first looked at.
    pub fn remote(remote: impl Remote) -> Buffer {
        Buffer(Arc::new(Held { bytes: remote.len(), here: OnceLock::new(), away: Some(Box::new(remote)) }))
    }

    /// How many there are, wherever they are.
    pub fn len(&self) -> usize {
        self.0.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes. Those of a device are fetched first: who may not fail there calls [`Buffer::fetch`] before.
    ///
    /// # Panics
    /// If they are on a device that is lost.
    pub fn bytes(&self) -> &[u8] {
        match self.fetch() {
            Ok(bytes) => bytes,
            Err(error) => panic!("{error}"),
        }
    }

    /// The bytes, fetched if they are not here.
    pub fn fetch(&self) -> Result<&[u8], RemoteError> {
        let Held { bytes, here, away } = &*self.0;
        if let (None, Some(remote)) = (here.get(), away) {
            let fetched = remote.fetch()?;
            // Who fetched the same meanwhile was first, and has the same bytes.
            here.get_or_init(|| fetched);
        }
        let here = here.get().expect("bytes that are not away are here");
        Ok(&here.memory.bytes()[..*bytes])
    }

    /// Whether the bytes are in this process's memory: then nobody waits for them.
    pub fn is_here(&self) -> bool {
        self.0.away.is_none() || self.0.here.get().is_some()
    }

    /// What holds the bytes, if it is a device of this kind.
    pub fn held_by<R: Remote>(&self) -> Option<&R> {
        let remote: &dyn Any = &**self.0.away.as_ref()?;
        remote.downcast_ref()
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
        assert_eq!(buffer.len() as u64, shape.elements() * item.bytes(), "a block's bytes fit its shape");
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the pool is the process's: nothing else in these tests holds this much.
    #[test]
    fn memory_is_aligned_zeroed_and_recycled() {
        let bytes = (37 << 20) + 3;
        let mut first = BufferMut::try_new(bytes).unwrap();
        assert!(first.bytes_mut().as_ptr().addr().is_multiple_of(2 << 20));
        assert!(first.bytes_mut().iter().all(|&byte| byte == 0), "fresh memory is zero");
        first.bytes_mut().fill(7);
        let shared = first.freeze();
        let (address, other) = (shared.bytes().as_ptr().addr(), shared.clone());
        drop(shared);
        assert_eq!(other.bytes()[bytes - 1], 7);
        drop(other);
        assert!(pool_bytes() >= bytes as u64);
        let mut again = BufferMut::zeroed(bytes);
        assert_eq!(again.bytes_mut().as_ptr().addr(), address, "the same memory");
        assert!(again.bytes_mut().iter().all(|&byte| byte == 0), "zeroed again");
        drop(again);
        trim();
        assert!(pool_bytes() < bytes as u64);
    }

    #[test]
    fn small_and_empty_buffers_work_and_absurd_ones_are_refused() {
        assert!(BufferMut::zeroed(0).freeze().bytes().is_empty());
        let mut small = BufferMut::zeroed(24);
        assert!(small.elements_mut::<f64>().as_ptr().addr().is_multiple_of(64));
        assert_eq!(BufferMut::try_new(1 << 62).err(), Some(OutOfMemory { bytes: 1 << 62 }));
    }
}
