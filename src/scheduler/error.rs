//! Why jobs and arrays fail. Typed from the block that failed to the future that waited for it.

use std::time::Duration;

use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use serde::{Deserialize, Serialize};

use super::story::Chapter;

/// Why a job, or an array, failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JobError {
    /// A block could not be computed.
    #[error("block {block} failed on {worker} (attempt {attempt}): {error}")]
    Execute {
        /// Which.
        block: BlockId,
        /// Counting from 1.
        attempt: u32,
        /// Where it was tried last.
        worker: WorkerId,
        /// Why.
        error: ExecuteError,
    },
    /// The last copy of data that cannot be made again is gone.
    #[error("block {block} is lost: the last worker that held it is gone and nothing can make it again")]
    BlockLost {
        /// Which.
        block: BlockId,
    },
    /// Workers die of a block.
    #[error("block {block} was alone on {deaths} workers when they died, so it is not tried again")]
    WorkerKilled {
        /// Which.
        block: BlockId,
        /// How many.
        deaths: u32,
        /// What happened to it.
        story: Vec<Chapter>,
    },
    /// Nobody there to do the work.
    #[error("no worker for {array}: waited {waited:?} for one {wanted}")]
    NoWorker {
        /// What was to be computed.
        array: ArrayId,
        /// How long.
        waited: Duration,
        /// For what.
        wanted: Wanted,
    },
    /// No worker has the memory.
    #[error(
        "a block of {array} needs {needs} bytes and no worker has more than {has}: use smaller chunks or give workers more memory"
    )]
    Memory {
        /// What was to be computed.
        array: ArrayId,
        /// For one block: operands, scratch and output.
        needs: u64,
        /// The most that any worker could give.
        has: u64,
    },
    /// The client gave it up.
    #[error("cancelled")]
    Cancelled,
    /// The job reads or its client asks for what is not there (released, failed, or never made).
    #[error("{array} is not there: it was released, or never made")]
    UnknownArray {
        /// What.
        array: ArrayId,
    },
    /// The plan is not sound.
    #[error("the plan is not sound: {0}")]
    Plan(#[from] PlanFault),
    /// The scheduler cannot be reached.
    #[error("the scheduler is gone")]
    SchedulerLost,
}

/// What a worker must be to serve a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Wanted {
    /// Any worker at all.
    #[error("of any kind: none is connected")]
    Any,
    /// One with a device that the job was given to.
    #[error("with a device of the class that the job was given to when it was submitted")]
    Class,
    /// One where it has not failed yet.
    #[error("that has not failed at it already")]
    Untried,
}

/// Why a plan is refused before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PlanFault {
    /// An array or job that is not named after the client that sends it, or that is named twice.
    #[error("{array} is not a new array of this client")]
    Name {
        /// Which.
        array: ArrayId,
    },
    /// The job's name was used before, or is another client's.
    #[error("the job's name is not new")]
    JobName,
    /// A stage whose own numbers do not fit each other.
    #[error("the stage of {array} does not fit together: {what}")]
    Stage {
        /// Which.
        array: ArrayId,
        /// What does not.
        what: StageFault,
    },
    /// A stage names a kernel that did not come with the plan.
    #[error("the stage of {array} names a kernel that did not come with the plan")]
    Kernel {
        /// Which.
        array: ArrayId,
    },
    /// More than one message carries.
    #[error("it has {bytes} bytes, and at most {bytes_max} are sent at once")]
    TooLong {
        /// Of the plan.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// More blocks than can be looked at one by one, in a stage whose blocks do not map to its inputs' in ranges.
    #[error("the stage of {array} relates {blocks} blocks one by one: at most {blocks_max} can be; use larger chunks")]
    TooManyBlocks {
        /// Which.
        array: ArrayId,
        /// Of the stage, or of an array that it reads.
        blocks: u64,
        /// The limit.
        blocks_max: u64,
    },
    /// An output that no stage makes.
    #[error("the output {array} is made by no stage")]
    Output {
        /// Which.
        array: ArrayId,
    },
}

/// What does not fit in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StageFault {
    /// A grid with too many axes or elements.
    #[error("its grid")]
    Grid,
    /// A view that reads outside its input.
    #[error("a view")]
    View,
    /// An input cut otherwise than the array that it names.
    #[error("the grid of an input")]
    Input,
    /// Empty or impossible numbers in a fold, a reduction or a program.
    #[error("its numbers")]
    Numbers,
}
