//! `.npy` files: the header, read with suspicion and written.

use std::path::{Path, PathBuf};

use crate::dtype::DType;
use crate::shape::{Shape, ShapeError};
use crate::stage::NpyFile;

/// A file that is no array we can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct NpyError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: NpyProblem,
}

/// What is wrong with a `.npy` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyProblem {
    /// It cannot be opened or read; the system's words.
    #[error("{0}")]
    Io(String),
    /// It does not begin as `.npy` files do.
    #[error("this is no .npy file")]
    Foreign,
    /// A format version other than 1, 2 and 3.
    #[error("its .npy format version {0}.{1} is not known")]
    Version(u8, u8),
    /// A header longer than any array of numbers needs.
    #[error("its header is {bytes} bytes long, and at most {} are read", HEADER_BYTES_MAX)]
    HeaderLength {
        /// How long it says it is.
        bytes: u64,
    },
    /// A header that is not the Python dictionary it should be.
    #[error("its header is malformed: {0}")]
    Header(&'static str),
    /// Values that are no plain numbers.
    #[error("its dtype {0} is not supported: use f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 or b1")]
    DType(String),
    /// A shape that cannot be.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Shorter than its shape needs.
    #[error("it is truncated: its shape {shape} needs {needed} bytes and it has {bytes}")]
    Truncated {
        /// The shape.
        shape: Shape,
        /// Bytes of a whole file.
        needed: u64,
        /// Bytes there are.
        bytes: u64,
    },
}

/// The longest header that is read.
pub const HEADER_BYTES_MAX: u64 = 64 << 10;

/// What a plan must know of a file. Nothing but the header is read.
pub fn open(path: &Path) -> Result<NpyFile, NpyError> {
    Err(NpyError { path: path.to_owned(), problem: NpyProblem::Foreign })
}

/// All that stands before the values in a `.npy` file in C order: magic, version and header, padded to 64 bytes.
/// A bool is one byte in a file.
pub fn header_bytes(_dtype: DType, _shape: &Shape) -> Vec<u8> {
    Vec::new()
}
