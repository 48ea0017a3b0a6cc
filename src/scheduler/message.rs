//! What goes into the [`Scheduler`](super::Scheduler) and what comes out, and what it and its clients say to each
//! other. Its words with workers are [`gridloom_worker::wire::message`].

use std::time::Duration;

use gridloom_worker::block::SmallBlock;
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId, WorkerId};
use gridloom_worker::intervals::Interval;
use gridloom_worker::wire::{DeviceClass, FetchError, FromWorker, Plan, Register, ToWorker};
use serde::{Deserialize, Serialize};

use super::error::JobError;

/// What the scheduler is told. Ids of workers and clients are made by the shell that owns their connections, each
/// larger than any before.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker has registered.
    WorkerJoined {
        /// Its new id.
        worker: WorkerId,
        /// What it said of itself.
        register: Register,
    },
    /// A worker speaks. Unknown (older) ids are ignored.
    Worker {
        /// Who.
        worker: WorkerId,
        /// What.
        message: FromWorker,
    },
    /// A worker is dead or its connection is. What it alone held is lost; what it ran is suspect, unless it had said
    /// that it leaves.
    WorkerGone {
        /// Who.
        worker: WorkerId,
    },
    /// A client has connected, or is back within [`super::Limits::client_grace`].
    ClientJoined {
        /// Who.
        client: ClientId,
    },
    /// A client speaks.
    Client {
        /// Who.
        client: ClientId,
        /// What.
        message: FromClient,
    },
    /// A client is silent or its connection is closed.
    ClientGone {
        /// Who.
        client: ClientId,
    },
    /// Time has passed: [`Scheduler::next_timeout`](super::Scheduler::next_timeout) is due.
    Tick,
}

/// What the shell is to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell a worker.
    ToWorker {
        /// Whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
    /// Tell a client.
    ToClient {
        /// Whom.
        client: ClientId,
        /// What.
        message: ToClient,
    },
}

/// From a client to the scheduler. Arrays and jobs are named by the client, never twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromClient {
    /// Compute this and keep the outputs until they are released, or their blocks taken.
    Submit {
        /// Its name.
        job: JobId,
        /// What.
        plan: Plan,
        /// The device classes that may compute it.
        classes: Vec<DeviceClass>,
    },
    /// Give up a job that has not ended. It ends with [`JobError::Cancelled`].
    Cancel {
        /// Which.
        job: JobId,
    },
    /// These are needed no more by this client (jobs that read them still may).
    Release {
        /// Which.
        arrays: Vec<ArrayId>,
    },
    /// The client has put these blocks on workers itself. They are kept until released and cannot be made again.
    Scattered {
        /// Their array.
        array: ArrayId,
        /// How many blocks it has.
        blocks: u64,
        /// Fields of each block.
        fields: u32,
        /// Bytes of the largest block, all fields.
        bytes: u64,
        /// Where every block was put.
        holders: Vec<Holding>,
    },
    /// Where are these? Answered by one [`ToClient::Located`] when all are there, or cannot be.
    Locate {
        /// Comes back with the answer.
        request: u64,
        /// Whose.
        array: ArrayId,
        /// Which.
        blocks: Interval,
    },
    /// Where are blocks that this was not answered with before? Answered by one [`ToClient::Located`] as soon as there
    /// are any: so the client fetches them while others are being computed. Only one reader of an array may ask so.
    Stream {
        /// Comes back with the answer.
        request: u64,
        /// Whose.
        array: ArrayId,
    },
    /// The client has these blocks of an output and wants them no more: they are freed once nothing else reads them,
    /// and not made again for the client. When all are taken, the array is still to be released.
    Taken {
        /// Whose.
        array: ArrayId,
        /// Which.
        blocks: Vec<Interval>,
    },
    /// A block was not to be had where it was said to be. Locate it again; a stream comes back to it by itself.
    FetchFailed {
        /// Which.
        block: BlockId,
        /// Where.
        holder: WorkerId,
        /// How.
        error: FetchError,
    },
    /// Goodbye: every job is cancelled and every array released, now.
    Close,
}

/// From the scheduler to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// A worker is there (also said of each one to a client that connects).
    WorkerJoined {
        /// Who.
        worker: WorkerId,
        /// What it said of itself.
        register: Register,
    },
    /// A worker is gone.
    WorkerLeft {
        /// Who.
        worker: WorkerId,
    },
    /// How far an array of a job is; coalesced.
    Progress {
        /// Which job.
        job: JobId,
        /// Which array.
        array: ArrayId,
        /// Blocks computed.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// An output is complete.
    ArrayDone {
        /// Which.
        array: ArrayId,
        /// Where it is; empty if that takes more than [`HOLDINGS_MAX`] entries, then ask [`FromClient::Locate`].
        holders: Vec<Holding>,
        /// The array itself, if it is one small block that came with the word that it is done.
        result: Option<SmallBlock>,
    },
    /// Every output of a job is complete.
    JobDone {
        /// Which.
        job: JobId,
    },
    /// A job has failed. Its arrays are gone.
    JobFailed {
        /// Which.
        job: JobId,
        /// Why.
        error: JobError,
    },
    /// An array that was complete, or scattered, is lost for good.
    ArrayLost {
        /// Which.
        array: ArrayId,
        /// Why.
        error: JobError,
    },
    /// The answer to [`FromClient::Locate`] or [`FromClient::Stream`].
    Located {
        /// Of the question.
        request: u64,
        /// Where the blocks are, in order: all that were asked for, or some of a stream's.
        result: Result<Vec<Holding>, JobError>,
    },
}

/// How many holdings [`ToClient::ArrayDone`] carries at most: what a small result needs, so that it takes no question.
/// Also how many one answer to [`FromClient::Stream`] carries.
pub const HOLDINGS_MAX: usize = 64;

/// Blocks of an array and a worker that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Which.
    pub blocks: Interval,
    /// Who.
    pub worker: WorkerId,
}

/// How long the scheduler waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A client gone longer than this loses its jobs and arrays.
    pub client_grace: Duration,
    /// A job that no worker can serve for this long fails.
    pub worker_wait: Duration,
    /// A job all of whose blocks are refused for this long, while no client takes any, fails.
    pub memory_wait: Duration,
    /// The same while a client is about to take blocks: it may be slow, but not stand still for ever.
    pub take_wait: Duration,
    /// Between two [`ToClient::Progress`] of one array.
    pub progress_interval: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            client_grace: Duration::from_secs(30),
            worker_wait: Duration::from_secs(30),
            memory_wait: Duration::from_secs(30),
            take_wait: Duration::from_secs(600),
            progress_interval: Duration::from_millis(20),
        }
    }
}
