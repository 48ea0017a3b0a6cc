//! Clusters: those that a program starts itself, and what `gridloom scheduler` and `gridloom worker` run.
//!
//! Reading order: [`LocalCluster`] and [`ClusterOptions`] -> `embedded` with `engine` (scheduler and workers in this
//! process) -> [`SchedulerServer`] (a scheduler that others reach over QUIC) -> `processes` with `roll` and `near` (a
//! local cluster whose workers are processes) -> [`RemoteWorkers`] (what such a process runs, and a process of its own for
//! each of its GPUs) -> `kept` with `child` and `restarts` (a process that is started again when it dies) -> `gpus` and `budget` (what workers share). The state machines are the
//! same everywhere; only what carries their messages differs.
//!
//! ```text
//! gridloom scheduler | LocalCluster of processes      decides
//!   ^ QUIC                | pipe
//!   |                     v
//!   +---- gridloom worker                             a worker on its CPU; knows its GPUs by name, and opens none
//!   |         | pipe
//!   |         v
//!   +---- gridloom worker --gpu                       a worker on one GPU; ends when it loses it, and is started again
//! ```
//!
//! Down the pipes goes no work. Something said there asks a child to leave; its end, also by the parent's death, ends
//! the child. Inside one process a GPU cannot be had again: there it stays lost, and the CPUs go on.
//!
//! A [`LocalCluster`] ends, with every thread and process that it started, when the last handle to it is dropped: the
//! cluster's own, those of its clients, and those of arrays that are kept on its workers.

mod budget;
mod child;
mod embedded;
mod engine;
mod gpus;
mod kept;
mod near;
mod options;
mod processes;
mod restarts;
mod roll;
mod server;
mod worker;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gridloom_worker::gpu::SelectError;
use gridloom_worker::net::NetError;
use gridloom_worker::serve::{RemoteError, StartError};
use gridloom_worker::wire::NAME_BYTES_MAX;

pub use kept::DEVICE_LOST_CODE;
pub use options::ClusterOptions;
pub use server::SchedulerServer;
pub use worker::RemoteWorkers;

use crate::client::Client;
use embedded::Embedded;
use processes::Processes;
use restarts::DEATHS_MAX;

/// How long a block may take unless said otherwise.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a worker that is scaled away may take to hand over what it holds.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(30);

/// How long a worker's process may take until it has registered.
const REGISTER_PATIENCE: Duration = Duration::from_secs(30);

/// A cluster could not be started or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The system gives no more threads.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] io::Error),
    /// A worker could not be started.
    #[error(transparent)]
    Worker(#[from] StartError),
    /// The network is not to be had.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A cluster without workers computes nothing.
    #[error("a cluster needs at least 1 worker")]
    NoWorkers,
    /// A GPU was asked for.
    #[error("no GPU that may be used is here{}", .missing.iter().map(|what| format!("; {what}")).collect::<String>())]
    NoGpu {
        /// What this machine lacks for one.
        missing: Vec<String>,
    },
    /// A worker's memory limit leaves nothing for blocks.
    #[error(
        "a worker of {bytes} bytes has no memory for blocks: the program itself may take {}",
        budget::PROGRAM_BYTES
    )]
    LittleMemory {
        /// The limit.
        bytes: u64,
    },
    /// A worker's data root is no folder.
    #[error("data root {}: {}", path.display(), .error.as_ref().map_or("no folder".to_owned(), io::Error::to_string))]
    DataRoot {
        /// Which.
        path: PathBuf,
        /// Why it cannot be looked at, if it is that.
        error: Option<io::Error>,
    },
    /// A worker's name is told to everyone.
    #[error("a worker's name of {bytes} bytes: at most {NAME_BYTES_MAX} are told, with the number of a GPU behind it")]
    LongName {
        /// With that number.
        bytes: usize,
    },
    /// A worker of this process ended by itself.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// There is no program to run workers with.
    #[error(
        "no `gridloom` to run workers with: GRIDLOOM_BIN names none, and there is none beside this program, in the folder above, or in PATH"
    )]
    NoProgram,
    /// A worker's process could not be started.
    #[error("{}: {error}", program.display())]
    Program {
        /// What was to be run.
        program: PathBuf,
        /// Why it was not.
        error: io::Error,
    },
    /// A worker's process runs, and the scheduler has not heard of it.
    #[error("{name} has not registered for {} s", REGISTER_PATIENCE.as_secs())]
    ChildSilent {
        /// Which.
        name: String,
    },
    /// A worker's process ended by itself; it has said why on standard error.
    #[error("{name} ended: {status}")]
    ProcessEnded {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
    },
    /// A worker's process dies again and again.
    #[error("{name} is given up: it died {DEATHS_MAX} times in a row, at last with {status}")]
    GivenUp {
        /// Which.
        name: String,
        /// How it died last.
        status: ExitStatus,
    },
    /// The environment names GPUs that cannot be used.
    #[error(transparent)]
    Select(#[from] SelectError),
}

/// Scheduler and workers of this program's own: inside it, or as processes beside it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use gridloom::{Array, LocalCluster};
/// let client = LocalCluster::start()?.client();
/// let mean: f64 = client.compute(&Array::random([1000, 1000]).mean(()))?.wait()?;
/// assert!((mean - 0.5).abs() < 0.01);
/// client.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalCluster(Arc<dyn Machines>);

/// What a local cluster consists of.
trait Machines: Send + Sync {
    fn client(self: Arc<Self>) -> Client;
    fn workers(&self) -> usize;
    fn process_ids(&self) -> Vec<u32> {
        Vec::new()
    }
    /// To at least one.
    fn scale(&self, workers: usize) -> Result<(), ClusterError>;
}

impl LocalCluster {
    /// One worker with a slot for every core, in this process.
    pub fn start() -> Result<LocalCluster, ClusterError> {
        LocalCluster::with(ClusterOptions::default())
    }

    /// How to start another.
    pub fn options() -> ClusterOptions {
        ClusterOptions::default()
    }

    fn with(options: ClusterOptions) -> Result<LocalCluster, ClusterError> {
        if options.workers == 0 {
            return Err(ClusterError::NoWorkers);
        }
        Ok(match options.processes {
            false => LocalCluster(Embedded::start(options)?),
            true => LocalCluster(Processes::start(options)?),
        })
    }

    /// Another client of this cluster. One of processes takes a connection; if none can be had, everything that is asked
    /// of the client fails with [`SchedulerLost`](crate::scheduler::JobError::SchedulerLost).
    pub fn client(&self) -> Client {
        Arc::clone(&self.0).client()
    }

    /// How many workers there are on CPUs; processes that have died are not counted.
    pub fn workers(&self) -> usize {
        self.0.workers()
    }

    /// The system's numbers of the processes that workers are, the oldest first; none if they are in this process. Those of
    /// GPUs are children of the first.
    pub fn process_ids(&self) -> Vec<u32> {
        self.0.process_ids()
    }

    /// Starts workers on CPUs, or lets the youngest hand over what they hold and end, until there are `workers`. Results
    /// are the same bits whatever their number.
    pub fn scale(&self, workers: usize) -> Result<(), ClusterError> {
        match workers {
            0 => Err(ClusterError::NoWorkers),
            _ => self.0.scale(workers),
        }
    }
}

/// A lock whose holders leave nothing half changed, so that a panic elsewhere does not spread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
