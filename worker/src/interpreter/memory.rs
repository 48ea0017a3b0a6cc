//! What lies outside an invocation's stack: workgroup memory and storage buffers, and the pointers that tell them apart.

use super::operator::canonical;
use crate::dtype::DType;

/// The bits of a pointer word that say where in its space it points.
const AT_BITS: u32 = 48;
const WORKGROUP: u64 = 1;
const BUFFERS: u64 = 2;

/// What a pointer word points at. The word of a pointer into the stack is the plain index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    /// A word of the invocation's own stack.
    Stack(usize),
    /// A word of workgroup memory.
    Workgroup(usize),
    /// An element of a storage buffer.
    Buffer(usize, u64),
}

impl Pointer {
    pub(super) fn of(word: u64) -> Pointer {
        let at = word & ((1 << AT_BITS) - 1);
        match word >> AT_BITS {
            0 => Pointer::Stack(at as usize),
            WORKGROUP => Pointer::Workgroup(at as usize),
            buffer => Pointer::Buffer((buffer - BUFFERS) as usize, at),
        }
    }

    pub(super) fn word(self) -> u64 {
        match self {
            Pointer::Stack(at) => at as u64,
            Pointer::Workgroup(at) => WORKGROUP << AT_BITS | at as u64,
            Pointer::Buffer(buffer, at) => (buffer as u64 + BUFFERS) << AT_BITS | at,
        }
    }

    /// The pointer to what lies this many words, or elements, further.
    pub(super) fn plus(self, words: usize) -> Pointer {
        match self {
            Pointer::Stack(at) => Pointer::Stack(at + words),
            Pointer::Workgroup(at) => Pointer::Workgroup(at + words),
            Pointer::Buffer(buffer, at) => Pointer::Buffer(buffer, at + words as u64),
        }
    }
}

/// The bytes of a storage buffer: elements of one dtype, little-endian.
pub(super) struct Buffer<'a> {
    pub dtype: DType,
    pub bytes: Bytes<'a>,
}

pub(super) enum Bytes<'a> {
    Read(&'a [u8]),
    Written(&'a mut [u8]),
}

impl Buffer<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Read(bytes) => bytes,
            Bytes::Written(bytes) => bytes,
        }
    }

    /// How many elements it has.
    fn length(&self) -> u64 {
        self.bytes().len() as u64 / self.dtype.bytes()
    }

    /// Where an element lies, if it is inside.
    fn range(&self, at: u64) -> Option<std::ops::Range<usize>> {
        let width = self.dtype.bytes();
        (at < self.length()).then(|| (at * width) as usize..((at + 1) * width) as usize)
    }

    fn load(&self, at: u64) -> Option<u64> {
        let stored = &self.bytes()[self.range(at)?];
        let mut wide = [0; 8];
        wide[..stored.len()].copy_from_slice(stored);
        Some(u64::from_le_bytes(wide))
    }

    fn store(&mut self, at: u64, word: u64) {
        let (range, word) = (self.range(at), canonical(self.dtype, word));
        if let (Some(range), Bytes::Written(bytes)) = (range, &mut self.bytes) {
            let stored = &mut bytes[range];
            stored.copy_from_slice(&word.to_le_bytes()[..stored.len()]);
        }
    }
}

/// All that the invocations of a workgroup share.
#[derive(Default)]
pub(super) struct Outside<'a> {
    pub workgroup: Vec<u64>,
    pub buffers: Vec<Buffer<'a>>,
}

impl Outside<'_> {
    /// The word there; `None` outside a storage buffer.
    pub(super) fn load(&self, pointer: Pointer) -> Option<u64> {
        match pointer {
            Pointer::Stack(_) => unreachable!("the stack is no shared memory"),
            Pointer::Workgroup(at) => Some(self.workgroup[at]),
            Pointer::Buffer(buffer, at) => self.buffers[buffer].load(at),
        }
    }

    /// Stores a word; outside a storage buffer nothing happens.
    pub(super) fn store(&mut self, pointer: Pointer, word: u64) {
        match pointer {
            Pointer::Stack(_) => unreachable!("the stack is no shared memory"),
            Pointer::Workgroup(at) => self.workgroup[at] = word,
            Pointer::Buffer(buffer, at) => self.buffers[buffer].store(at, word),
        }
    }

    /// How many elements a storage buffer has.
    pub(super) fn length(&self, pointer: Pointer) -> u64 {
        match pointer {
            Pointer::Buffer(buffer, _) => self.buffers[buffer].length(),
            Pointer::Stack(_) | Pointer::Workgroup(_) => {
                unreachable!("only storage buffers have no length of their own")
            }
        }
    }
}
