//! Values of a `.npy` file, by positioned reads.
//!
//! A file on disk is not mapped: another process may shorten it at any time, and a map would then kill this one.

use std::cell::RefCell;
use std::fs::File;
use std::io;

use bytemuck::Pod;
use half::f16;

use super::describe;
use crate::dtype::{DType, Element};
use crate::executor::ExecuteError;
use crate::stage::{NpyFile, Stored};

/// How many bytes can be copied in the time that a read takes to be asked for: values nearer to each other than this
/// are read together with what lies between them.
const READ_BYTES: u64 = 2 << 10;

/// The most that is read at once and then picked from or converted.
const SCRATCH_BYTES: u64 = 64 << 10;

/// An open file that is still the one that the plan was made for.
pub(crate) struct NpyReader {
    file: File,
    path: String,
    offset: u64,
    stored: Stored,
    big_endian: bool,
    scratch: RefCell<Vec<u8>>,
}

impl NpyReader {
    /// Opens the file and checks that nothing about it has changed.
    pub(in crate::source) fn open(planned: &NpyFile, dtype: DType) -> Result<NpyReader, ExecuteError> {
        let path = planned.path.display().to_string();
        let error = |what| ExecuteError::Source { path: path.clone(), what };
        let (file, found) = describe(&planned.path).map_err(|problem| error(problem.to_string()))?;
        if let Some(change) = change(planned, &found) {
            return Err(error(change));
        }
        if found.stored.dtype() != dtype {
            return Err(error(format!("its values are {} and are asked for as {dtype}", found.stored.dtype())));
        }
        let NpyFile { offset, stored, big_endian, .. } = found;
        Ok(NpyReader { file, path, offset, stored, big_endian, scratch: RefCell::default() })
    }

    /// What reading an element costs where runs of `length` elements, `step` apart, are read: in bytes copied.
    pub(in crate::source) fn cost(&self, step: i64, length: u64) -> u64 {
        self.pitch(step).min(READ_BYTES) + READ_BYTES / length.max(1)
    }

    /// The values at `at`, `at + step`, ...
    ///
    /// # Panics
    /// If `T` is not how the dtype is stored that the file was opened for.
    pub(in crate::source) fn fill<T: Element>(&self, at: u64, step: i64, out: &mut [T]) -> Result<(), ExecuteError> {
        match step {
            _ if out.is_empty() => Ok(()),
            0 => {
                self.pick(at, 1, &mut out[..1])?;
                out.fill(out[0]);
                Ok(())
            }
            1 if self.is_as_in_memory() => self.read_at(at, bytemuck::cast_slice_mut(out)),
            _ => self.pick(at, step, out),
        }
    }

    /// Reads what covers as many values as may be, and converts those among them that are wanted.
    fn pick<T: Element>(&self, at: u64, step: i64, out: &mut [T]) -> Result<(), ExecuteError> {
        let (pitch, width) = (self.pitch(step), self.stored.bytes());
        let at_once = if pitch <= READ_BYTES { SCRATCH_BYTES / pitch } else { 1 } as usize;
        let mut scratch = self.scratch.borrow_mut();
        for (chunk, values) in out.chunks_mut(at_once).enumerate() {
            let address = |index: usize| at.wrapping_add_signed(step * index as i64);
            let first = address(chunk * at_once);
            let last = address(chunk * at_once + values.len() - 1);
            let bytes = ((values.len() as u64 - 1) * pitch + width) as usize;
            if scratch.len() < bytes {
                scratch.resize(bytes, 0);
            }
            self.read_at(first.min(last), &mut scratch[..bytes])?;
            self.convert(&scratch[..bytes], step, values);
        }
        Ok(())
    }

    /// The values in `bytes`, which begin with the first or, for a negative step, end with it.
    fn convert<T: Element>(&self, bytes: &[u8], step: i64, out: &mut [T]) {
        match self.stored {
            Stored::F16 => self.decode(bytes, step, out, |raw| f16::from_le_bytes(raw).to_f32()),
            Stored::F32 => self.decode(bytes, step, out, f32::from_le_bytes),
            Stored::F64 => self.decode(bytes, step, out, f64::from_le_bytes),
            Stored::I8 => self.decode(bytes, step, out, |raw| i32::from(i8::from_le_bytes(raw))),
            Stored::U8 => self.decode(bytes, step, out, |raw| u32::from(u8::from_le_bytes(raw))),
            Stored::I16 => self.decode(bytes, step, out, |raw| i32::from(i16::from_le_bytes(raw))),
            Stored::U16 => self.decode(bytes, step, out, |raw| u32::from(u16::from_le_bytes(raw))),
            Stored::I32 => self.decode(bytes, step, out, i32::from_le_bytes),
            Stored::U32 => self.decode(bytes, step, out, u32::from_le_bytes),
            Stored::I64 => self.decode(bytes, step, out, i64::from_le_bytes),
            Stored::U64 => self.decode(bytes, step, out, u64::from_le_bytes),
            Stored::Bool => self.decode(bytes, step, out, |raw: [u8; 1]| u32::from(raw != [0])),
        }
    }

    /// `value` makes a value of its little-endian bytes; it is stored as `T` is.
    fn decode<T: Element, V: Pod, const WIDTH: usize>(
        &self,
        bytes: &[u8],
        step: i64,
        out: &mut [T],
        value: impl Fn([u8; WIDTH]) -> V,
    ) {
        let pitch = self.pitch(step) as usize;
        let last = out.len() - 1;
        for (index, out) in out.iter_mut().enumerate() {
            let first = pitch * if step < 0 { last - index } else { index };
            let mut raw = [0; WIDTH];
            raw.copy_from_slice(&bytes[first..first + WIDTH]);
            if self.big_endian {
                raw.reverse();
            }
            *out = bytemuck::cast(value(raw));
        }
    }

    /// Bytes from one value to the next.
    fn pitch(&self, step: i64) -> u64 {
        step.unsigned_abs() * self.stored.bytes()
    }

    /// Whether a value in the file is what a block holds.
    fn is_as_in_memory(&self) -> bool {
        let dtype = self.stored.dtype();
        self.stored.bytes() == dtype.bytes() && !self.big_endian && cfg!(target_endian = "little")
    }

    /// Fills `bytes` from value `at` on.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), ExecuteError> {
        read_exact_at(&self.file, bytes, self.offset + at * self.stored.bytes()).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::UnexpectedEof => "it became shorter while it was read".to_owned(),
                _ => error.to_string(),
            };
            ExecuteError::Source { path: self.path.clone(), what }
        })
    }
}

/// What is not as it was when the array was made.
fn change(planned: &NpyFile, found: &NpyFile) -> Option<String> {
    if planned.bytes != found.bytes {
        return Some(format!("it had {} bytes when the array was made and has {} now", planned.bytes, found.bytes));
    }
    if planned.mtime_ns != found.mtime_ns {
        return Some("it was modified after the array was made".to_owned());
    }
    // The rest but the path follows from the header.
    let is_same = NpyFile { path: found.path.clone(), ..planned.clone() } == *found;
    (!is_same).then(|| "its header is not what it was when the array was made".to_owned())
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => (bytes, at) = (&mut bytes[read..], at + read as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
