//! What goes wrong on the command line, and the exit code that says who can mend it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gridloom_worker::executor::ExecuteError;
use gridloom_worker::kernel::KernelError;
use gridloom_worker::net::NetError;
use gridloom_worker::serve::RemoteError;
use gridloom_worker::source::npy::NpyError;

use super::output::OutputError;
use crate::array::{ArrayError, CarriedError};
use crate::client::{ClientError, ConnectError};
use crate::cluster::{ClusterError, DEVICE_LOST_CODE};
use crate::plan::PlanError;
use crate::scheduler::{JobError, PlanFault};

/// The command, or a file that it names, can be mended by who wrote it.
const MENDABLE: u8 = 2;
/// Something broke that should not.
const FAILED: u8 = 1;
/// The device of a GPU's process could not be opened: the next may have more luck.
const DEVICE_UNOPENED: u8 = 69;
/// What shells call a program that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Whatever ends a command early. `Display` is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum CliError {
    /// The arguments are not what the grammar says.
    #[error("{0}")]
    Arguments(String),
    /// A kernel's file cannot be read.
    #[error("{}: {error}", path.display())]
    KernelFile {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An input is no array that is read.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// The arrays and operations do not fit each other.
    #[error(transparent)]
    Array(Box<ArrayError>),
    /// A kernel with several results.
    #[error("`{kernel}` returns {fields} fields, and a .npy file holds one array: return one value")]
    Fields {
        /// Its function.
        kernel: String,
        /// How many.
        fields: usize,
    },
    /// The work cannot be planned.
    #[error(transparent)]
    Plan(PlanError),
    /// The result cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A scheduler's file cannot be used.
    #[error("{}: {error}", path.display())]
    SchedulerFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// Nobody has numbered this process.
    #[error("no rank: neither Slurm, Open MPI nor PMI has started this process")]
    NoRank,
    /// No scheduler.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A scheduler without workers.
    #[error("scheduler {address}: no worker came within {waited:?}")]
    NoWorker {
        /// Where it is.
        address: String,
        /// How long was waited.
        waited: Duration,
    },
    /// No cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A block could not be computed.
    #[error(transparent)]
    Execute(ExecuteError),
    /// The job failed otherwise.
    #[error(transparent)]
    Client(ClientError),
    /// The process of a GPU has ended, one of several that speak on the same standard error.
    #[error("{name}: {error}")]
    OnGpu {
        /// What the worker is called.
        name: String,
        /// Why.
        error: Box<CliError>,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The signal handler could not be set.
    #[error("Ctrl-C cannot be caught: {0}")]
    Signals(#[from] ctrlc::Error),
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[from] io::Error),
}

impl CliError {
    /// The exit code.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            CliError::Arguments(_)
            | CliError::KernelFile { .. }
            | CliError::Kernel(_)
            | CliError::Npy(_)
            | CliError::Array(_)
            | CliError::Fields { .. }
            | CliError::Plan(_)
            | CliError::Output(_)
            | CliError::SchedulerFile { .. }
            | CliError::NoRank
            | CliError::Connect(ConnectError::Token(_) | ConnectError::Variable(_) | ConnectError::NoToken)
            | CliError::Cluster(
                ClusterError::NoGpu { .. }
                | ClusterError::Select(_)
                | ClusterError::LittleMemory { .. }
                | ClusterError::DataRoot { .. }
                | ClusterError::LongName { .. },
            )
            | CliError::Client(ClientError::Device(_)) => MENDABLE,
            CliError::Execute(error) => execute_code(error),
            CliError::Client(ClientError::Job(JobError::Memory { .. }) | ClientError::Memory { .. }) => MENDABLE,
            // Larger chunks mend it.
            CliError::Client(ClientError::Job(JobError::Plan(PlanFault::TooManyBlocks { .. }))) => MENDABLE,
            CliError::Connect(ConnectError::Net { error, .. })
            | CliError::Cluster(ClusterError::Net(error) | ClusterError::Remote(RemoteError::Net { error, .. })) => {
                net_code(error)
            }
            CliError::Cluster(ClusterError::ProcessEnded { status, .. }) if status.code() == Some(MENDABLE.into()) => {
                MENDABLE
            }
            CliError::OnGpu { error, .. } => gpu_code(error),
            CliError::NoWorker { .. }
            | CliError::Client(_)
            | CliError::Cluster(_)
            | CliError::Signals(_)
            | CliError::Stdout(_) => FAILED,
            CliError::Interrupted => INTERRUPTED,
        }
    }

    /// What follows the one line: a kernel's own lines, underlined.
    pub(super) fn snippet(&self) -> Option<String> {
        let CliError::Kernel(error) = self else { return None };
        let rendered = error.rendered();
        // The first line is the message once more.
        let (_, snippet) = rendered.split_once('\n')?;
        let snippet = snippet.trim_end();
        (!snippet.is_empty()).then(|| snippet.to_owned())
    }
}

/// Credentials that are refused, and addresses that are none, can be mended; a network that fails cannot.
fn net_code(error: &NetError) -> u8 {
    match error {
        NetError::WrongToken
        | NetError::Refused(_)
        | NetError::Version { .. }
        | NetError::Address { .. }
        | NetError::Listen { .. } => MENDABLE,
        _ => FAILED,
    }
}

/// What the process of a GPU tells the one that started it.
fn gpu_code(error: &CliError) -> u8 {
    match error {
        CliError::Cluster(ClusterError::Remote(RemoteError::DeviceLost(_))) => DEVICE_LOST_CODE,
        CliError::Cluster(
            ClusterError::Remote(RemoteError::Start(_)) | ClusterError::NoGpu { .. } | ClusterError::Select(_),
        ) => DEVICE_UNOPENED,
        error => error.exit_code(),
    }
}

fn execute_code(error: &ExecuteError) -> u8 {
    match error {
        ExecuteError::Deadline { .. }
        | ExecuteError::Barrier { .. }
        | ExecuteError::Source { .. }
        | ExecuteError::Forbidden { .. }
        | ExecuteError::Memory { .. }
        | ExecuteError::Unsupported { .. } => MENDABLE,
        _ => FAILED,
    }
}

impl From<ArrayError> for CliError {
    fn from(error: ArrayError) -> CliError {
        match error {
            ArrayError::Kernel(error) => CliError::Kernel(error),
            ArrayError::Fields { kernel, fields, .. } => CliError::Fields { kernel, fields },
            error => CliError::Array(Box::new(error)),
        }
    }
}

/// Our own line, where the array was made, is of no use to whoever typed a command.
impl From<CarriedError> for CliError {
    fn from(carried: CarriedError) -> CliError {
        carried.error.into()
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> CliError {
        match error {
            PlanError::Array(carried) => (*carried).into(),
            error => CliError::Plan(error),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        match error {
            ClientError::Plan(error) => error.into(),
            ClientError::Job(JobError::Execute { error, .. }) => CliError::Execute(error),
            error => CliError::Client(error),
        }
    }
}

/// clap's message as one line: what is wrong, without the usage that follows.
impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> CliError {
        let text = error.to_string();
        let paragraph = text.split("\n\n").next().unwrap_or(&text);
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        let line = words.join(" ");
        CliError::Arguments(line.strip_prefix("error: ").unwrap_or(&line).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use gridloom_worker::ids::{ArrayId, ClientId};

    use super::*;

    #[test]
    fn what_larger_chunks_mend_the_user_can_mend() {
        let array = ArrayId { client: ClientId(1), sequence: 1 };
        let code = |fault: PlanFault| CliError::from(ClientError::Job(fault.into())).exit_code();
        assert_eq!(code(PlanFault::TooManyBlocks { array, blocks: 2, blocks_max: 1 }), MENDABLE);
        assert_eq!(code(PlanFault::Output { array }), FAILED);
    }
}
