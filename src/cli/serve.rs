//! The commands that do not end by themselves: a scheduler, a worker, and a rank that is one of them.

use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gridloom_worker::net::identity::{Token, TokenError};
use gridloom_worker::serve::{DataRoot, Stop};

use super::args::{RankCommand, SchedulerCommand, WorkerArgs, WorkerCommand};
use super::error::CliError;
use super::rank::Rank;
use super::reach::{Announcement, Reach, SchedulerFile};
use super::{print, warn};
use crate::client::{ConnectError, find_token};
use crate::cluster::{ClusterError, RemoteWorkers, SchedulerServer};
use crate::host;
use crate::scheduler::Limits;

/// How long a worker that is at its end, or whose parent is gone, may take to end.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// `gridloom scheduler`.
pub(super) fn scheduler(args: &SchedulerCommand) -> Result<(), CliError> {
    let token_file = args.token_file.clone().or_else(Token::default_path).ok_or(ConnectError::NoToken)?;
    decide(args.listen, token_file, args.scheduler_file.as_deref(), None)
}

/// `gridloom worker`.
pub(super) fn worker(args: &WorkerCommand) -> Result<(), CliError> {
    let (reach, stop) = (args.keys.find(args.scheduler.clone())?, Stop::default());
    if args.with_parent {
        obey_parent(stop.clone())?;
    }
    let workers = RemoteWorkers { gpu: args.gpu.clone().zip(args.gpu_memory), ..workers(reach, &args.work) };
    let worked = work(&workers, &stop);
    if worked.is_err() && workers.gpu.is_some() {
        // As the process ends, a driver may wait for a device that hangs.
        spawn("gridloom-end", end_soon)?;
    }
    worked.map_err(|error| match workers.gpu {
        Some(_) => CliError::OnGpu { name: workers.name, error: Box::new(error) },
        None => error,
    })
}

/// `gridloom rank`.
pub(super) fn rank(args: &RankCommand) -> Result<(), CliError> {
    let Rank { number, job } = Rank::of_process().ok_or(CliError::NoRank)?;
    let path = &args.scheduler_file;
    if number == 0 {
        let mut token_file = path.clone().into_os_string();
        token_file.push(".token");
        return decide(args.listen, token_file.into(), Some(path), job);
    }
    let file = SchedulerFile::await_of(path, job.as_deref())?;
    let token = find_token(Some(&file.token_file))?;
    work(&workers(Reach { address: file.address, token }, &args.work), &Stop::default())
}

/// Opens a scheduler's door, and keeps it open until it is told to end.
fn decide(
    listen: SocketAddr,
    token_file: PathBuf,
    scheduler_file: Option<&Path>,
    job: Option<String>,
) -> Result<(), CliError> {
    let (stop, stopped) = mpsc::channel();
    on_signal(move || {
        // If nobody waits any more, it is ending already.
        let _ = stop.send(());
    })?;
    let token_file = absolute(token_file)?;
    let server = SchedulerServer::start(listen, Limits::default())?;
    if token_file.exists() {
        warn(&format!("{} is another scheduler's token, or was: it is replaced", token_file.display()));
    }
    let _token = TokenFile::write(server.token(), token_file.clone())?;
    let bound = server.address();
    // An address that stands for all of this machine's means nothing to others.
    let address = match bound.ip().is_unspecified() {
        true => format!("{}:{}", host::name(), bound.port()),
        false => bound.to_string(),
    };
    let file = SchedulerFile { address: address.clone(), token_file: token_file.clone(), job };
    let _file = scheduler_file.map(|path| Announcement::write(file, path)).transpose()?;
    print(&format!("scheduler  {address}\ntoken      {}", token_file.display()))?;
    // There is a sender as long as signals can be caught.
    let _ = stopped.recv();
    Ok(())
}

/// A token's file, there as long as its scheduler: with it goes all that the token was good for.
struct TokenFile<'a>(&'a Token, PathBuf);

impl TokenFile<'_> {
    fn write(token: &Token, path: PathBuf) -> Result<TokenFile<'_>, ConnectError> {
        token.write(&path)?;
        Ok(TokenFile(token, path))
    }
}

impl Drop for TokenFile<'_> {
    fn drop(&mut self) {
        // Another scheduler may have put its own there.
        if Token::read(&self.1).is_ok_and(|token| token.authority() == self.0.authority()) {
            // If it cannot be removed it is of no use to anybody.
            let _ = fs::remove_file(&self.1);
        }
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, ConnectError> {
    std::path::absolute(&path).map_err(|error| TokenError::File { path, error }.into())
}

fn workers(Reach { address, token }: Reach, args: &WorkerArgs) -> RemoteWorkers {
    let usual = RemoteWorkers::new(address, token);
    RemoteWorkers {
        name: args.name.clone().unwrap_or(usual.name),
        devices: args.device.devices(),
        threads: args.threads.and_then(|threads| NonZeroUsize::new(threads as usize)),
        memory_bytes: args.memory_limit,
        data_root: args.data_root.clone().map_or(DataRoot::None, DataRoot::Beneath),
        advertise: args.advertise.clone(),
        lifetime: args.lifetime,
        redial_for: args.redial,
        block_timeout: args.block_timeout,
        program: std::env::current_exe().ok(),
        warn,
        ..usual
    }
}

/// Serves a scheduler until it is told to end.
fn work(workers: &RemoteWorkers, stop: &Stop) -> Result<(), CliError> {
    let leaving = stop.clone();
    on_signal(move || leaving.leave())?;
    print(&format!("worker     {}\nscheduler  {}", workers.name, workers.scheduler))?;
    Ok(workers.run(stop)?)
}

/// Calls `first` at the first signal to end; the second ends the process at once.
fn on_signal(first: impl Fn() + Send + 'static) -> Result<(), CliError> {
    let was_told = AtomicBool::new(false);
    ctrlc::set_handler(move || match was_told.swap(true, Ordering::SeqCst) {
        false => first(),
        true => std::process::exit(i32::from(CliError::Interrupted.exit_code())),
    })?;
    Ok(())
}

/// Leaves when something is said on standard input, and ends the process with it: whoever started it holds the other
/// end, and has no more use for it. If it still lives it is told goodbye, for which it would else wait.
fn obey_parent(stop: Stop) -> Result<(), CliError> {
    let obey = move || {
        // An error ends it as well.
        io::stdin().lock().bytes().map_while(Result::ok).for_each(|_| stop.leave());
        stop.end();
        end_soon();
    };
    spawn("gridloom-parent", obey)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(ClusterError::Thread)?;
    Ok(())
}

/// Ends the process, should it still be there then: killed, it waits for nothing that a driver does at its end.
fn end_soon() {
    thread::sleep(GOODBYE_PATIENCE);
    #[cfg(unix)]
    // What cannot be killed exits.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::exit(0);
}
