//! A worker as a child process: it is heard of at once when it ends, ends when this process does, and is never left.
//!
//! A thread waits for the child's end without reaping it: until [`Child`] is dropped its process id is its own, so that
//! no signal can reach a stranger.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{ClusterError, lock};

/// How often it is looked whether a child that was told to has ended.
const END_PAUSE: Duration = Duration::from_millis(2);

/// A worker's process. Dropped, it is killed if it still runs.
pub(super) struct Child {
    process: Arc<Mutex<process::Child>>,
    /// Its standard input. It ends when this is closed, also by our own death, and leaves when something is said there.
    lifeline: Mutex<Option<ChildStdin>>,
    has_ended: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

impl Child {
    /// Runs `program`. `ended` is called once, on a thread of its own, when it has ended.
    pub(super) fn start(
        program: &Path,
        arguments: &[OsString],
        secret: (&str, &str),
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Child, ClusterError> {
        let mut command = Command::new(program);
        command.args(arguments).env(secret.0, secret.1).stdin(Stdio::piped()).stdout(Stdio::null());
        apart(&mut command);
        let mut process =
            command.spawn().map_err(|error| ClusterError::Program { program: program.to_owned(), error })?;
        let lifeline = Mutex::new(process.stdin.take());
        let (process, has_ended) = (Arc::new(Mutex::new(process)), Arc::new(AtomicBool::new(false)));
        let (watched, noted) = (Arc::clone(&process), Arc::clone(&has_ended));
        let mut child = Child { process, lifeline, has_ended, watch: None };
        let watch = move || {
            wait_for_end(&watched);
            noted.store(true, Ordering::SeqCst);
            ended();
        };
        child.watch = Some(thread::Builder::new().name("gridloom-child".to_owned()).spawn(watch)?);
        Ok(child)
    }

    /// The system's number of it.
    pub(super) fn id(&self) -> u32 {
        lock(&self.process).id()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// How it ended, if it has.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.has_ended().then(|| lock(&self.process).try_wait().ok().flatten()).flatten()
    }

    /// It is to hand over what it holds and end. A signal would be its second where whoever ends a batch job has sent one
    /// to all of its processes, and end it at once.
    pub(super) fn ask_to_leave(&self) {
        if let Some(lifeline) = lock(&self.lifeline).as_mut() {
            // If it has ended it is asked in vain.
            let _ = lifeline.write_all(b"\n");
        }
    }

    /// It is to end now.
    pub(super) fn end(&self) {
        drop(lock(&self.lifeline).take());
    }

    /// Waits until it has ended, at most `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < patience {
            thread::sleep(END_PAUSE);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_ended() {
            // If it ends at this moment, so much the better.
            let _ = lock(&self.process).kill();
        }
        if let Some(watch) = self.watch.take() {
            // It only waits and tells; it has nothing to report.
            let _ = watch.join();
        }
        // What it said at last is known by whoever asked; here it is only taken off the system's list.
        let _ = lock(&self.process).wait();
    }
}

/// A signal that a terminal sends to this program is not meant for its children.
fn apart(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

#[cfg(unix)]
fn pid(process: &process::Child) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(process.id() as i32)
}

/// Returns when the child has ended, which stays to be reaped.
#[cfg(unix)]
fn wait_for_end(process: &Mutex<process::Child>) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let Some(id) = pid(&lock(process)) else { return };
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(id), ended).is_err_and(|error| error == rustix::io::Errno::INTR) {}
}

/// Elsewhere it is asked again and again.
#[cfg(not(unix))]
fn wait_for_end(process: &Mutex<process::Child>) {
    while lock(process).try_wait().is_ok_and(|status| status.is_none()) {
        thread::sleep(END_PAUSE);
    }
}

/// The program that workers are run with: named by `GRIDLOOM_BIN`, or else a `gridloom` beside this one, in the folder
/// above, or in `PATH`.
pub(super) fn program() -> Result<PathBuf, ClusterError> {
    if let Some(named) = std::env::var_os("GRIDLOOM_BIN") {
        return Ok(named.into());
    }
    let name = format!("gridloom{}", std::env::consts::EXE_SUFFIX);
    let own: io::Result<PathBuf> = std::env::current_exe();
    let beside = own.iter().flat_map(|own| own.ancestors().skip(1).take(2)).map(|folder| folder.join(&name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(&name));
    let found = beside.chain(in_path).find(|path| path.is_file());
    found.ok_or(ClusterError::NoProgram)
}
