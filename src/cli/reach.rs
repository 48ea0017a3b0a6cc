//! How a command reaches a scheduler: an address and a token, or a file that says both.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gridloom_worker::net::identity::Token;
use serde::{Deserialize, Serialize};

use super::error::CliError;
use crate::client::find_token;

/// How long a scheduler may take to write its file, and how often it is looked for.
const FILE_PATIENCE: Duration = Duration::from_secs(60);
const FILE_PAUSE: Duration = Duration::from_millis(100);

/// Where the scheduler is, for commands that can do without one.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ReachArgs {
    /// Compute on the cluster of this scheduler rather than in this process
    #[arg(long, value_name = "HOST:PORT", group = "reach")]
    pub(super) scheduler: Option<String>,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

/// What opens a scheduler's door.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct KeyArgs {
    /// What `gridloom scheduler --scheduler-file` wrote: the scheduler's address and token file
    #[arg(long, value_name = "FILE", group = "reach")]
    pub(super) scheduler_file: Option<PathBuf>,
    /// The token's file. Without it: GRIDLOOM_TOKEN, GRIDLOOM_TOKEN_FILE, ~/.config/gridloom/token
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// A scheduler's address, and what lets one in.
pub(super) struct Reach {
    pub(super) address: String,
    pub(super) token: Token,
}

impl ReachArgs {
    /// The scheduler that was named, if one was.
    pub(super) fn find(&self) -> Result<Option<Reach>, CliError> {
        match (&self.scheduler, &self.keys.scheduler_file) {
            (None, None) => Ok(None),
            (address, _) => self.keys.find(address.clone()).map(Some),
        }
    }
}

impl KeyArgs {
    /// The scheduler at `address`, or the one of the scheduler file.
    pub(super) fn find(&self, address: Option<String>) -> Result<Reach, CliError> {
        let file = self.scheduler_file.as_deref().map(SchedulerFile::read).transpose()?;
        let named = self.token_file.clone().or_else(|| file.as_ref().map(|file| file.token_file.clone()));
        let Some(address) = address.or_else(|| file.map(|file| file.address)) else {
            return Err(CliError::Arguments("name the scheduler: HOST:PORT, or --scheduler-file FILE".to_owned()));
        };
        Ok(Reach { address, token: find_token(named.as_deref())? })
    }
}

/// What lies on a disk that all machines of a cluster see.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SchedulerFile {
    pub(super) address: String,
    pub(super) token_file: PathBuf,
    /// The batch job that it belongs to: another one's may still lie there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<String>,
}

impl SchedulerFile {
    /// Waits for the file that the scheduler of the same job is about to write.
    pub(super) fn await_of(path: &Path, job: Option<&str>) -> Result<SchedulerFile, CliError> {
        let begun = Instant::now();
        loop {
            match SchedulerFile::read(path) {
                Ok(file) if file.job.as_deref() == job => return Ok(file),
                Err(error) if begun.elapsed() > FILE_PATIENCE => return Err(error),
                Ok(_) if begun.elapsed() > FILE_PATIENCE => {
                    let error = "it is of another job".to_owned();
                    return Err(CliError::SchedulerFile { path: path.to_owned(), error });
                }
                Ok(_) | Err(_) => thread::sleep(FILE_PAUSE),
            }
        }
    }

    fn read(path: &Path) -> Result<SchedulerFile, CliError> {
        let failed = |error: String| CliError::SchedulerFile { path: path.to_owned(), error };
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// It is there whole or not at all, also for who reads it meanwhile.
    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        let failed = |error: String| CliError::SchedulerFile { path: path.to_owned(), error };
        let written = || {
            let folder = std::path::absolute(path)?.parent().map_or_else(PathBuf::new, Path::to_owned);
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            writeln!(file)?;
            Ok(file.persist(path).map(drop)?)
        };
        written().map_err(|error: std::io::Error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_file_is_read_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler.json");
        let file = SchedulerFile { address: "node1:8786".to_owned(), token_file: "/shared/token".into(), job: None };
        file.write(&path).unwrap();
        assert_eq!(SchedulerFile::read(&path).unwrap(), file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "{}").unwrap();
        let error = SchedulerFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("scheduler.json") && error.contains("address"), "{error}");
    }
}
