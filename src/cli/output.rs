//! Result files: streamed into a temporary file beside the target, which appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gridloom_worker::block::{Block, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::source::npy::header_bytes;
use tempfile::NamedTempFile;

/// An output that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {problem}", path.display())]
pub struct OutputError {
    /// The file that was asked for.
    pub path: PathBuf,
    /// Why not.
    pub problem: OutputProblem,
}

/// Why an output cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputProblem {
    /// The system's words.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a device, a pipe: renaming onto it would destroy it.
    #[error("it is there and is no ordinary file")]
    NotAFile,
}

/// Where an output goes: found to be writable before anything is computed. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    /// As it was asked for.
    path: PathBuf,
    /// What is renamed onto: `path` with symbolic links followed.
    target: PathBuf,
    temporary: NamedTempFile,
}

impl Output {
    /// Opens the temporary file.
    pub fn create(path: &Path) -> Result<Output, OutputError> {
        open_beside(path).map_err(|problem| OutputError { path: path.to_owned(), problem })
    }

    /// The target as it was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is written until then.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Begins a `.npy` file in C order.
    pub fn into_npy(mut self, dtype: DType, shape: &Shape) -> Result<NpyOutput, OutputError> {
        let header = header_bytes(dtype, shape);
        if let Err(error) = self.temporary.as_file_mut().write_all(&header) {
            return Err(self.error(error));
        }
        Ok(NpyOutput { output: self, dtype, shape: shape.clone(), header_bytes: header.len() as u64 })
    }

    fn error(&self, error: io::Error) -> OutputError {
        OutputError { path: self.path.clone(), problem: error.into() }
    }
}

fn open_beside(path: &Path) -> Result<Output, OutputProblem> {
    let target = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(OutputProblem::NotAFile),
        Ok(_) => fs::canonicalize(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && names_a_file(path) => path.to_owned(),
        Err(error) => return Err(error.into()),
    };
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".gridloom-").suffix(".part");
    // A result is no secret: it gets what the umask leaves, as any new file does.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Not `tempfile_in`'s own words: they name a file that nobody asked for.
    let temporary = builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))?;
    Ok(Output { path: path.to_owned(), target, temporary })
}

/// Not nothing, and not `folder/`.
fn names_a_file(path: &Path) -> bool {
    path.file_name().is_some() && !path.to_string_lossy().ends_with(std::path::is_separator)
}

/// A `.npy` file being written, block by block in any order.
#[derive(Debug)]
pub struct NpyOutput {
    output: Output,
    dtype: DType,
    shape: Shape,
    header_bytes: u64,
}

impl NpyOutput {
    /// Writes the block that stands at `region`.
    pub fn place(&self, region: &Region, block: &Block) -> Result<(), OutputError> {
        debug_assert_eq!(block.item, Item::Value(self.dtype));
        let narrowed: Vec<u8>;
        let (mut rest, width) = match self.dtype {
            // One byte each in a file.
            DType::Bool => {
                narrowed = block.elements::<u32>().iter().map(|&element| u8::from(element != 0)).collect();
                (&narrowed[..], 1)
            }
            dtype => (block.bytes(), dtype.bytes()),
        };
        let file = self.output.temporary.as_file();
        for run in region.runs(&self.shape) {
            let (at, bytes) = (run.start * width, (run.end - run.start) * width);
            let from = rest.split_off(..bytes as usize).expect("a block has its region's elements");
            write_at(file, from, self.header_bytes + at).map_err(|error| self.output.error(error))?;
        }
        Ok(())
    }

    /// The file takes its name, in place of one that was there.
    pub fn persist(self) -> Result<(), OutputError> {
        let Output { path, target, temporary } = self.output;
        temporary.persist(&target).map(drop).map_err(|error| OutputError { path, problem: error.error.into() })
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use gridloom_worker::grid::Grid;

    use super::*;

    fn shape(lengths: &[u64]) -> Shape {
        Shape::new(lengths).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn blocks_become_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        fs::write(&path, "old").unwrap();
        let shape = shape(&[3, 4]);
        let grid = Grid::regular(&shape, &[2, 3]);
        let file = Output::create(&path).unwrap().into_npy(DType::I32, &shape).unwrap();
        let header = file.header_bytes as usize;
        // Backwards: any order will do.
        for index in Region::whole(&grid.block_counts()).indices().collect::<Vec<_>>().into_iter().rev() {
            let region = grid.region(&index);
            let values: Vec<i32> = region.indices().map(|at| shape.linear(&at) as i32).collect();
            file.place(&region, &Block::from_elements(region.shape(), &values)).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.persist().unwrap();
        let bytes = fs::read(&path).unwrap();
        let expected: Vec<u8> = (0..12i32).flat_map(i32::to_le_bytes).collect();
        assert_eq!(&bytes[header..], expected);
        assert_eq!(names(folder.path()), ["a.npy"]);
        #[cfg(unix)]
        assert_ne!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o444, 0);
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let file = Output::create(&path).unwrap().into_npy(DType::Bool, &shape(&[2])).unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn impossible_targets_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| Output::create(path).unwrap_err();
        assert!(matches!(error(folder.path()).problem, OutputProblem::NotAFile));
        let missing = folder.path().join("no/such/a.npy");
        let message = error(&missing).to_string();
        assert!(message.starts_with(&format!("cannot write {}: ", missing.display())), "{message}");
        assert!(!message.contains(".part") && !message.contains('\n'), "{message}");
        for nameless in ["", "no_such_folder/"] {
            assert!(matches!(error(Path::new(nameless)).problem, OutputProblem::Io(_)), "{nameless}");
        }
    }
}
