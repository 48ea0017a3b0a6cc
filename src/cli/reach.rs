//! How a command reaches a scheduler: an address and a token, or a file that says both.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gridloom_worker::net::identity::Token;
use serde::{Deserialize, Serialize};

use super::error::CliError;
use super::warn;
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
    /// What `gridloom scheduler --scheduler-file` writes, its address and token file; waited for up to 60 s
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
        let file = self.scheduler_file.as_deref().map(SchedulerFile::await_any).transpose()?;
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
    /// The file of the scheduler of this job, which may be about to write it.
    pub(super) fn await_of(path: &Path, job: Option<&str>) -> Result<SchedulerFile, CliError> {
        SchedulerFile::awaited(path, FILE_PATIENCE, |file| file.job.as_deref() == job)
    }

    /// The file of whatever scheduler, which may be about to write it.
    fn await_any(path: &Path) -> Result<SchedulerFile, CliError> {
        if !path.exists() {
            warn(&format!("no {} yet: a scheduler has {FILE_PATIENCE:?} to write it", path.display()));
        }
        SchedulerFile::awaited(path, FILE_PATIENCE, |_| true)
    }

    /// The file, once there is one that is wanted.
    fn awaited(
        path: &Path,
        patience: Duration,
        is_wanted: impl Fn(&SchedulerFile) -> bool,
    ) -> Result<SchedulerFile, CliError> {
        let begun = Instant::now();
        loop {
            let error = match SchedulerFile::read(path) {
                Ok(Some(file)) if is_wanted(&file) => return Ok(file),
                Ok(Some(_)) => "it is of another job",
                Ok(None) => "no such file, and no scheduler wrote it",
                Err(error) => return Err(error),
            };
            if begun.elapsed() >= patience {
                return Err(failed(path)(error));
            }
            thread::sleep(FILE_PAUSE);
        }
    }

    /// `None` where there is none. One that is there is whole.
    fn read(path: &Path) -> Result<Option<SchedulerFile>, CliError> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(failed(path)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle) => Ok(None),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// It is there whole or not at all, also for who reads it meanwhile.
    fn write(&self, path: &Path) -> Result<(), CliError> {
        let written = || {
            let folder = std::path::absolute(path)?.parent().map_or_else(PathBuf::new, Path::to_owned);
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            writeln!(file)?;
            Ok(file.persist(path).map(drop)?)
        };
        written().map_err(|error: io::Error| failed(path)(error))
    }
}

fn failed<E: ToString>(path: &Path) -> impl Fn(E) -> CliError {
    move |error| CliError::SchedulerFile { path: path.to_owned(), error: error.to_string() }
}

/// A scheduler's file, there as long as the scheduler: who finds it finds somebody.
pub(super) struct Announcement {
    file: SchedulerFile,
    path: PathBuf,
}

impl Announcement {
    pub(super) fn write(file: SchedulerFile, path: &Path) -> Result<Announcement, CliError> {
        file.write(path)?;
        Ok(Announcement { file, path: path.to_owned() })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Another scheduler may have put its own there.
        if SchedulerFile::read(&self.path).is_ok_and(|file| file.as_ref() == Some(&self.file)) {
            // If it cannot be removed, whoever finds it finds nobody: as after a crash.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A text that is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host: write node7, 10.0.0.7:9000 or [fe80::7]:9000")]
pub(super) struct NoHost(String);

/// `node7`, `10.0.0.7:9000`, `fe80::7`, `[fe80::7]:9000`: whom others reach, with a port or without.
pub(super) fn parse_host(text: &str) -> Result<String, NoHost> {
    let is_name = |host: &str| {
        !host.is_empty() && host.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_'))
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = text.parse::<IpAddr>().is_ok()
        || text.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0)
        || match text.split_once(':') {
            Some((host, port)) => is_name(host) && is_port(port),
            None => is_name(text),
        };
    is_host.then(|| text.to_owned()).ok_or_else(|| NoHost(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in ["node7", "node7.lab.org:9000", "10.0.0.7", "10.0.0.7:9000", "fe80::7", "[fe80::7]:9000"] {
            assert_eq!(parse_host(host).as_deref(), Ok(host));
        }
        for text in ["", ":9000", "a b", "a b:c:d", "node7:", "node7:0", "node7:70000", "10.0.0.7:0", "http://node7"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scheduler_file_is_read_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler.json");
        let file = SchedulerFile { address: "node1:8786".to_owned(), token_file: "/shared/token".into(), job: None };
        file.write(&path).unwrap();
        assert_eq!(SchedulerFile::await_any(&path).unwrap(), file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "{}").unwrap();
        let error = SchedulerFile::await_any(&path).unwrap_err().to_string();
        assert!(error.contains("scheduler.json") && error.contains("address"), "{error}");
    }

    #[test]
    fn a_scheduler_file_is_there_as_long_as_its_scheduler() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler.json");
        let file = |port: u16, job: &str| SchedulerFile {
            address: format!("node1:{port}"),
            token_file: "/shared/token".into(),
            job: Some(job.to_owned()),
        };
        let error = |job: &'static str| {
            let wanted = move |file: &SchedulerFile| file.job.as_deref() == Some(job);
            SchedulerFile::awaited(&path, Duration::ZERO, wanted).unwrap_err().to_string()
        };
        assert!(error("7").contains("no such file"));
        let first = Announcement::write(file(1, "7"), &path).unwrap();
        assert!(error("8").contains("of another job"));
        let second = thread::scope(|scope| {
            let second = scope.spawn(|| SchedulerFile::await_of(&path, Some("8")).unwrap());
            thread::sleep(2 * FILE_PAUSE);
            let announced = Announcement::write(file(2, "8"), &path).unwrap();
            assert_eq!(second.join().unwrap().address, "node1:2");
            announced
        });
        drop(first);
        assert!(path.exists(), "it is the other's by now");
        drop(second);
        assert!(!path.exists());
    }
}
