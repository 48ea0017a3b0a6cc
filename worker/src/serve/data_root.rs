//! Which files a worker may open: whoever may submit names paths, and its process may read far more than is meant.

use std::fs;
use std::path::{Path, PathBuf};

use crate::executor::ExecuteError;
use crate::stage::{Body, Source, Stage};

/// Where the files are that a worker may open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DataRoot {
    /// Nowhere.
    #[default]
    None,
    /// Beneath this folder, which links do not lead out of.
    Beneath(PathBuf),
    /// Anywhere that the process may.
    Anywhere,
}

impl DataRoot {
    /// Whether a stage may open all the files that it names.
    ///
    /// # Errors
    /// [`ExecuteError::Forbidden`] for the first that it may not.
    pub fn allows(&self, stage: &Stage) -> Result<(), ExecuteError> {
        let refused = |path: &Path| ExecuteError::Forbidden {
            path: path.display().to_string(),
            root: match self {
                DataRoot::Beneath(root) => Some(root.display().to_string()),
                DataRoot::None | DataRoot::Anywhere => None,
            },
        };
        match files(stage).find(|path| !self.contains(path)) {
            Some(path) => Err(refused(path)),
            None => Ok(()),
        }
    }

    /// Whether it takes a look at the disk to say so.
    pub fn looks_for(&self, stage: &Stage) -> bool {
        matches!(self, DataRoot::Beneath(_)) && files(stage).next().is_some()
    }

    fn contains(&self, path: &Path) -> bool {
        match self {
            DataRoot::None => false,
            DataRoot::Anywhere => true,
            // A file that is not there is nowhere: that it may not be opened says no more than that.
            DataRoot::Beneath(root) => {
                fs::canonicalize(root).is_ok_and(|root| fs::canonicalize(path).is_ok_and(|path| path.starts_with(root)))
            }
        }
    }
}

/// The files that a stage reads.
fn files(stage: &Stage) -> impl Iterator<Item = &Path> {
    let map = match &stage.body {
        Body::Map(map) => Some(map),
        Body::Block(call) => Some(&call.inputs),
        Body::Fold(_) | Body::Relabel(_) => None,
    };
    let pieces = map.into_iter().flat_map(|map| &map.leaves).flat_map(|leaf| &leaf.pieces);
    pieces.filter_map(|piece| match &piece.source {
        Source::Npy(file) => Some(file.path.as_path()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn neither_dots_nor_links_lead_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside.npy"));
        fs::create_dir_all(root.join("deep")).unwrap();
        fs::write(&outside, "").unwrap();
        fs::write(root.join("deep/inside.npy"), "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link.npy")).unwrap();
        std::os::unix::fs::symlink(root.join("deep/inside.npy"), folder.path().join("in.npy")).unwrap();
        let beneath = DataRoot::Beneath(root.clone());
        for (path, is_inside) in [
            (root.join("deep/inside.npy"), true),
            (root.join("deep/../deep/inside.npy"), true),
            (folder.path().join("in.npy"), true),
            (root.join("../outside.npy"), false),
            (root.join("link.npy"), false),
            (root.join("none.npy"), false),
            (outside, false),
            (folder.path().join("root-too"), false),
        ] {
            assert_eq!(beneath.contains(&path), is_inside, "{}", path.display());
            assert!(!DataRoot::None.contains(&path) && DataRoot::Anywhere.contains(&path));
        }
    }
}
