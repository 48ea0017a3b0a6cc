//! A worker in a process that is kept: started, watched, and started again when it dies.
//!
//! Those of a local cluster are, and every GPU's. Nothing takes a kernel that hangs off a GPU but the end of the process
//! that brought it there, and a driver that crashes takes its process along. So a worker that loses its device tells the
//! scheduler which block is to blame, if one is, and ends; the next one begins with the same device and nothing else. To
//! the scheduler the one is lost, and the other has come. Nothing here knows what a GPU is.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use gridloom_worker::net::identity::Token;
use gridloom_worker::serve::{Stop, Wish};

use super::ClusterError;
use super::child::Child;
use super::restarts::Restarts;
use crate::client::TOKEN_VARIABLE;

/// The exit code of a worker that has lost its device to what it was given to do.
pub const DEVICE_LOST_CODE: u8 = 75;

/// How long it may take to end when told to end now: less than whoever waits for us would wait.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// What is run, again and again.
pub(super) struct KeptProcess {
    /// What people call the worker.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// What lets it join.
    pub(super) token: Token,
    /// When it leaves by itself.
    pub(super) leaves: Option<Instant>,
    /// Called at once whenever one has ended.
    pub(super) ended: Arc<dyn Fn() + Send + Sync>,
    /// The system's number of the one that lives.
    pub(super) process: LivingId,
}

/// The number of a process, while there is one.
#[derive(Clone, Default)]
pub(super) struct LivingId(Arc<AtomicU32>);

impl LivingId {
    pub(super) fn get(&self) -> Option<u32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&id| id > 0)
    }

    fn set(&self, id: Option<u32>) {
        self.0.store(id.unwrap_or(0), Ordering::SeqCst);
    }
}

/// What is waited for.
enum Input {
    /// The child has ended.
    Ended,
    Wish(Wish),
}

/// What became of a child.
enum End {
    /// It, or we, were told to.
    Told,
    /// It has said why on standard error, and so would the next.
    Failed(ExitStatus),
    /// What it was given to do lost it its device.
    DeviceLost,
    /// Killed, crashed, or without a device.
    Died(ExitStatus),
}

impl KeptProcess {
    /// Runs until it is told to end, by the scheduler or by `stop`.
    ///
    /// # Errors
    /// If it cannot join, or dies too often.
    pub(super) fn run(&self, stop: &Stop) -> Result<(), ClusterError> {
        let (told, inbox) = mpsc::channel();
        let wished = told.clone();
        stop.tell(move |wish| wished.send(Input::Wish(wish)).is_ok());
        let mut restarts = Restarts::default();
        loop {
            let begun = Instant::now();
            let pause = match self.live(&told, &inbox)? {
                End::Told => return Ok(()),
                End::Failed(status) => return Err(ClusterError::ProcessEnded { name: self.name.clone(), status }),
                End::DeviceLost => {
                    restarts.forgive();
                    Duration::ZERO
                }
                End::Died(status) => {
                    let given_up = || ClusterError::GivenUp { name: self.name.clone(), status };
                    restarts.after(begun.elapsed()).ok_or_else(given_up)?
                }
            };
            tracing::warn!(name = self.name, ?pause, "a worker's process is gone, and another is started");
            // Between two of them nothing comes but wishes.
            if inbox.recv_timeout(pause).is_ok() {
                return Ok(());
            }
        }
    }

    /// One child, from its start to its end.
    fn live(&self, told: &Sender<Input>, inbox: &Receiver<Input>) -> Result<End, ClusterError> {
        let left = self.leaves.map(|at| at.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(End::Told);
        }
        let lifetime = left.map(|left| format!("--lifetime={}ms", left.as_millis().max(1)).into());
        let arguments: Vec<OsString> = self.arguments.iter().cloned().chain(lifetime).collect();
        let (told, process, tell) = (told.clone(), self.process.clone(), Arc::clone(&self.ended));
        let ended = move || {
            process.set(None);
            tell();
            drop(told.send(Input::Ended));
        };
        let token = self.token.reveal();
        let child = Child::start(&self.program, &arguments, (TOKEN_VARIABLE, &token), ended)?;
        self.process.set(Some(child.id()));
        if child.has_ended() {
            // It may have been noted before there was anything to take back.
            self.process.set(None);
        }
        let mut is_leaving = false;
        loop {
            match inbox.recv() {
                Ok(Input::Ended) if is_leaving => return Ok(End::Told),
                Ok(Input::Ended) => return Ok(child.status().map_or(End::Told, end)),
                Ok(Input::Wish(Wish::Leave)) => {
                    is_leaving = true;
                    child.ask_to_leave();
                }
                // There is a sender as long as we have one. What does not end in time is killed.
                Ok(Input::Wish(Wish::End)) | Err(_) => {
                    child.end();
                    child.wait(END_PATIENCE);
                    return Ok(End::Told);
                }
            }
        }
    }
}

/// What its status says.
fn end(status: ExitStatus) -> End {
    match status.code() {
        Some(0) => End::Told,
        // What the command line means by them: it failed, or is to be mended.
        Some(1 | 2) => End::Failed(status),
        Some(code) if code == i32::from(DEVICE_LOST_CODE) => End::DeviceLost,
        _ => End::Died(status),
    }
}

#[cfg(unix)]
#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::super::restarts::DEATHS_MAX;
    use super::*;

    /// A shell in the place of a GPU's process. Each begins by adding a line to `lives`.
    pub(crate) fn shell(script: &str, lives: &Path) -> KeptProcess {
        let script = format!("echo >> \"$0\"; {script}");
        let token = format!("gl1.{}.{}", "0".repeat(64), "1".repeat(32)).parse().unwrap();
        let arguments = ["-c".into(), script.into(), lives.into()].into();
        let (name, program, process) = ("w-gpu0".to_owned(), "/bin/sh".into(), LivingId::default());
        KeptProcess { name, program, arguments, token, leaves: None, ended: Arc::new(|| {}), process }
    }

    /// What comes of a script, and how often it was run.
    fn run(script: &str, stop: &Stop) -> (Result<(), ClusterError>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let lives = folder.path().join("lives");
        let done = shell(script, &lives).run(stop);
        (done, std::fs::read_to_string(&lives).unwrap_or_default().lines().count())
    }

    #[test]
    fn it_ends_when_told_to_and_has_the_token_in_its_environment_alone() {
        let (done, lives) = run(
            "[ -n \"$GRIDLOOM_TOKEN\" ] && ! grep -q \"$GRIDLOOM_TOKEN\" /proc/$$/cmdline || exit 2",
            &Stop::default(),
        );
        assert!(done.is_ok() && lives == 1, "{done:?}");
        let mut over = shell("exit 2", Path::new("/dev/null"));
        over.leaves = Some(Instant::now());
        assert!(over.run(&Stop::default()).is_ok(), "its lifetime is over before it begins");
    }

    #[test]
    fn what_has_said_why_it_failed_is_not_started_again() {
        let (done, lives) = run("exit 2", &Stop::default());
        assert!(matches!(done, Err(ClusterError::ProcessEnded { status, .. }) if status.code() == Some(2)));
        assert_eq!(lives, 1);
    }

    #[test]
    fn a_lost_device_counts_against_nobody() {
        let (done, lives) = run("[ $(wc -l < \"$0\") -gt 8 ] || exit 75", &Stop::default());
        assert!(done.is_ok() && lives == 9 && lives > DEATHS_MAX as usize, "{done:?} after {lives}");
    }

    #[test]
    fn what_dies_again_and_again_is_given_up() {
        let begun = Instant::now();
        let (done, lives) = run("kill -9 $$", &Stop::default());
        let error = done.unwrap_err().to_string();
        assert_eq!(error, "w-gpu0 is given up: it died 6 times in a row, at last with signal: 9 (SIGKILL)");
        assert_eq!(lives, DEATHS_MAX as usize);
        assert!(begun.elapsed() > Duration::from_secs(3), "pauses grow");
    }

    #[test]
    fn it_is_asked_to_leave_and_made_to_end() {
        let stop = Stop::default();
        stop.leave();
        let (done, lives) = run("read line || exit 2; exit 9", &stop);
        assert!(done.is_ok() && lives == 1, "asked, and not started again however it ended: {done:?}");
        let (stop, begun) = (Stop::default(), Instant::now());
        stop.end();
        let (done, _) = run("exec sleep 60", &stop);
        assert!(done.is_ok() && begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
