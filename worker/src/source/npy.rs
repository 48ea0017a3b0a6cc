//! `.npy` files: what a plan must know of one, and what stands before the values in one that is written.
//!
//! A header is read with suspicion: whatever its bytes are, the answer is a file that can be read or a typed error, and
//! never more memory than [`HEADER_BYTES_MAX`].

mod header;
mod reader;

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::dtype::DType;
use crate::shape::{Shape, ShapeError};
use crate::stage::NpyFile;

use header::Header;
pub(super) use reader::NpyReader;

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
    /// A folder, a device or a pipe.
    #[error("it is no ordinary file")]
    NotAFile,
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
    /// It ends before its header does.
    #[error("it is truncated: it ends inside its header")]
    HeaderCut,
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

impl From<io::Error> for NpyProblem {
    fn from(error: io::Error) -> NpyProblem {
        NpyProblem::Io(error.to_string())
    }
}

/// The longest header that is read.
pub const HEADER_BYTES_MAX: u64 = 64 << 10;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// What a plan must know of a file. Nothing but the header is read.
///
/// # Errors
/// A file that cannot be read, is no `.npy` file, holds no plain numbers, or ends too early.
pub fn open(path: &Path) -> Result<NpyFile, NpyError> {
    describe(path).map(|(_, file)| file).map_err(|problem| NpyError { path: path.to_owned(), problem })
}

/// The open file and what it is.
fn describe(path: &Path) -> Result<(File, NpyFile), NpyProblem> {
    // Before it is opened: opening a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(NpyProblem::NotAFile);
    }
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let before_values = read_header(&mut file)?;
    let Header { stored, big_endian, fortran, shape } = Header::parse(&before_values[header_start(&before_values)..])?;
    let offset = before_values.len() as u64;
    // At most 2^60 elements of 8 bytes: no overflow.
    let (needed, bytes) = (offset + shape.elements() * stored.bytes(), metadata.len());
    if bytes < needed {
        return Err(NpyProblem::Truncated { shape, needed, bytes });
    }
    let (path, mtime_ns) = (std::path::absolute(path)?, mtime_ns(&metadata)?);
    let header = Sha256::digest(&before_values).into();
    Ok((file, NpyFile { path, bytes, mtime_ns, header, offset, stored, big_endian, shape, fortran }))
}

/// Everything before the values: magic, version, the header's length and the header.
fn read_header(file: &mut impl Read) -> Result<Vec<u8>, NpyProblem> {
    let mut bytes = Vec::new();
    file.take(MAGIC.len() as u64 + 2).read_to_end(&mut bytes)?;
    if !bytes.starts_with(MAGIC) {
        return Err(NpyProblem::Foreign);
    }
    match bytes[MAGIC.len()..] {
        [1..=3, 0] => {}
        [major, minor] => return Err(NpyProblem::Version(major, minor)),
        _ => return Err(NpyProblem::HeaderCut),
    }
    let length_bytes = header_start(&bytes) - bytes.len();
    append(file, &mut bytes, length_bytes as u64)?;
    let length =
        bytes[bytes.len() - length_bytes..].iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
    if length > HEADER_BYTES_MAX {
        return Err(NpyProblem::HeaderLength { bytes: length });
    }
    append(file, &mut bytes, length)?;
    Ok(bytes)
}

/// Reads `count` bytes more.
fn append(file: &mut impl Read, bytes: &mut Vec<u8>, count: u64) -> Result<(), NpyProblem> {
    let read = file.take(count).read_to_end(bytes)? as u64;
    if read < count { Err(NpyProblem::HeaderCut) } else { Ok(()) }
}

/// Where the dictionary begins: version 1 has a length of two bytes, later ones of four.
fn header_start(bytes: &[u8]) -> usize {
    MAGIC.len() + 2 + if bytes[MAGIC.len()] == 1 { 2 } else { 4 }
}

fn mtime_ns(metadata: &Metadata) -> io::Result<i128> {
    let modified = metadata.modified()?;
    Ok(match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    })
}

/// All that stands before the values in a `.npy` file in C order: magic, version and header, padded to 64 bytes.
/// A bool is one byte in a file.
pub fn header_bytes(dtype: DType, shape: &Shape) -> Vec<u8> {
    let descr = match dtype {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::I64 => "<i8",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(64) - before;
    header += &" ".repeat(padded - 1 - header.len());
    header.push('\n');
    // Eight lengths of twenty digits are far from 64 KiB.
    [MAGIC, &[1, 0][..], &(padded as u16).to_le_bytes(), header.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::Stored;

    fn shape(lengths: &[u64]) -> Shape {
        Shape::new(lengths).unwrap()
    }

    /// What is wrong with a file of these bytes.
    fn problem(bytes: &[u8]) -> NpyProblem {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        open(file.path()).unwrap_err().problem
    }

    /// NumPy's own files begin with the very bytes that we would write.
    #[test]
    fn headers_are_numpys() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/npy");
        let lengths: [(&str, DType, &[u64]); 9] = [
            ("f32", DType::F32, &[2, 3]),
            ("f64", DType::F64, &[2, 3]),
            ("i32", DType::I32, &[2, 3]),
            ("u32", DType::U32, &[2, 3]),
            ("i64", DType::I64, &[2, 3]),
            ("u64", DType::U64, &[2, 3]),
            ("bool", DType::Bool, &[2, 3]),
            ("scalar", DType::F64, &[]),
            ("empty", DType::F32, &[2, 0, 3]),
        ];
        for (name, dtype, lengths) in lengths {
            let written = fs::read(folder.join(name).with_extension("npy")).unwrap();
            assert!(written.starts_with(&header_bytes(dtype, &shape(lengths))), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for dtype in DType::ALL {
            for lengths in [&[][..], &[5], &[7, 0], &[1 << 59, 1], &[3; 8], &[(1 << 7) - 1; 8]] {
                let (shape, bytes) = (shape(lengths), header_bytes(dtype, &shape(lengths)));
                assert!(bytes.len().is_multiple_of(64) && bytes.ends_with(b"\n"));
                fs::write(file.path(), &bytes).unwrap();
                let width = if dtype == DType::Bool { 1 } else { dtype.bytes() };
                let needed = bytes.len() as u64 + shape.elements() * width;
                match open(file.path()) {
                    Ok(found) => {
                        assert_eq!((found.shape, found.stored.dtype(), found.offset), (shape, dtype, needed));
                        assert_eq!((found.bytes, found.fortran, found.big_endian), (needed, false, false));
                    }
                    Err(error) => {
                        let bytes = bytes.len() as u64;
                        assert_eq!(error.problem, NpyProblem::Truncated { shape, needed, bytes });
                    }
                }
            }
        }
    }

    #[test]
    fn versions_and_lengths_are_checked_before_anything_is_read() {
        let header = b"{'descr': '<i2', 'fortran_order': False, 'shape': (), }";
        let whole = |version: [u8; 2], length: &[u8]| [MAGIC.as_slice(), &version, length, header, b"ab"].concat();
        let length = header.len() as u32;
        let file = tempfile::NamedTempFile::new().unwrap();
        for version in [2, 3] {
            fs::write(file.path(), whole([version, 0], &length.to_le_bytes())).unwrap();
            let found = open(file.path()).unwrap();
            assert_eq!((found.stored, found.offset, found.bytes), (Stored::I16, 12 + header.len() as u64, 69));
        }
        for (major, minor) in [(0, 0), (1, 1), (4, 0), (255, 0)] {
            let expected = NpyProblem::Version(major, minor);
            assert_eq!(problem(&whole([major, minor], &length.to_le_bytes())), expected);
        }
        let endless = NpyProblem::HeaderLength { bytes: u32::MAX.into() };
        assert_eq!(problem(&whole([2, 0], &u32::MAX.to_le_bytes())), endless);
        assert_eq!(problem(&whole([1, 0], &u16::MAX.to_le_bytes())), NpyProblem::HeaderCut);
    }

    #[test]
    fn every_cut_of_a_file_is_named() {
        let whole = [header_bytes(DType::U32, &shape(&[3])), vec![0; 12]].concat();
        for length in 0..whole.len() {
            match (length, problem(&whole[..length])) {
                (0..6, NpyProblem::Foreign) => {}
                (6..128, NpyProblem::HeaderCut) => {}
                (128.., NpyProblem::Truncated { needed: 140, bytes, .. }) if bytes == length as u64 => {}
                (_, other) => panic!("{length}: {other}"),
            }
        }
        assert_eq!(problem(b"PK\x03\x04 a zip archive, as .npz is"), NpyProblem::Foreign);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(folder.path()).unwrap_err().problem, NpyProblem::NotAFile);
        let missing = folder.path().join("missing.npy");
        let error = open(&missing).unwrap_err();
        assert!(matches!(error.problem, NpyProblem::Io(_)));
        assert!(error.to_string().starts_with(&format!("{}: ", missing.display())), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(tail in prop::collection::vec(any::<u8>(), 0..40), with_magic in any::<bool>()) {
            let bytes = if with_magic { [MAGIC.as_slice(), &tail].concat() } else { tail };
            let read = read_header(&mut &bytes[..]);
            prop_assert!(read.is_err() || read.is_ok_and(|read| bytes.starts_with(&read)));
        }
    }
}
