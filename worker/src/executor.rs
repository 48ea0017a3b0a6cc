//! The door to what computes: owned work in, events out, no borrowed buffers.
//!
//! Contract. `prepare` is called once per stage before its first task and may compile. Tasks are started in the order
//! given, at most [`Executor::slots`] at a time, and may end in any order. Every submitted task yields exactly one
//! event, also when it is stopped. An executor never waits for another task, never touches the network or the store,
//! and keeps nothing of a task after its event. The same stage, block and operands give the same bits, always.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::block::{Block, OutOfMemory};
use crate::ids::{ArrayId, KernelHash};
use crate::kernel::{Requirements, TypedKernel};
use crate::shape::Region;
use crate::stage::Stage;

/// Names one submitted task to whoever submitted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskToken(pub u64);

/// One part of an input block, for one [`crate::stage::Read`].
#[derive(Clone, Debug)]
pub struct Operand {
    /// A block, or what was cut from it.
    pub data: Block,
    /// The part of `data` that is read, in its own coordinates; all of it if `data` was cut by its holder.
    pub region: Region,
}

/// One block to compute.
#[derive(Clone, Debug)]
pub struct Task {
    /// Comes back with the event.
    pub token: TaskToken,
    /// The array whose stage was prepared.
    pub array: ArrayId,
    /// Which block, in output order.
    pub block: u64,
    /// One per read of [`Stage::reads`], in that order.
    pub operands: Vec<Operand>,
}

/// What became of a task.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which task.
    pub token: TaskToken,
    /// One block per field, or why not.
    pub result: Result<Vec<Block>, ExecuteError>,
    /// How long a slot was busy with it.
    pub busy: Duration,
}

/// Why a block could not be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The kernel ran longer than allowed.
    #[error("the kernel did not end within {limit_ms} ms on one block; the block timeout can be raised")]
    Deadline {
        /// The limit.
        limit_ms: u64,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Something asked of this executor that it cannot do.
    #[error("{executor} cannot run this stage: {what}")]
    Unsupported {
        /// Its name.
        executor: String,
        /// What it lacks.
        what: String,
    },
    /// A kernel that the stage names was never sent.
    #[error("kernel {0} is not known here")]
    KernelMissing(KernelHash),
    /// A source could not be read.
    #[error("{path}: {what}")]
    Source {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file that this worker may not open.
    #[error("{path}: the worker may open {}", .root.as_ref().map_or("no files: give it a --data-root".to_owned(), |root| format!("files beneath {root} alone")))]
    Forbidden {
        /// The file.
        path: String,
        /// Beneath what its files are; `None` if it opens none.
        root: Option<String>,
    },
    /// Memory for the block could not be had.
    #[error("{bytes} bytes of memory could not be had")]
    Memory {
        /// How much.
        bytes: u64,
    },
    /// The device is gone: it hung, was reset or unplugged. No work of this executor will end well.
    #[error("{device} was lost: {why}")]
    DeviceLost {
        /// Its name.
        device: String,
        /// What is known of it.
        why: String,
    },
    /// A block kernel's barrier in control flow that is not uniform.
    #[error(
        "{reached} of a workgroup's {invocations} invocations reach the {barrier} in line {line} of `{kernel}`: control flow around a barrier is uniform"
    )]
    Barrier {
        /// The kernel.
        kernel: String,
        /// What it called.
        barrier: String,
        /// Where, in its text.
        line: u32,
        /// How many reached it together.
        reached: u32,
        /// How many there are.
        invocations: u32,
    },
    /// The executor itself broke: a bug, contained.
    #[error("the executor failed: {what}")]
    Internal {
        /// Its panic's message.
        what: String,
    },
}

/// The longest text in an error that is told to others, in bytes: a path may come from anybody, and be of any length.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 << 10;

impl ExecuteError {
    /// The same with its texts cut, where they are longer than what is told to others.
    pub fn clipped(mut self) -> ExecuteError {
        match &mut self {
            ExecuteError::Unsupported { executor: one, what: other }
            | ExecuteError::Source { path: one, what: other }
            | ExecuteError::DeviceLost { device: one, why: other }
            | ExecuteError::Barrier { kernel: one, barrier: other, .. } => [one, other].into_iter().for_each(clip),
            ExecuteError::Forbidden { path, root } => [path].into_iter().chain(root).for_each(clip),
            ExecuteError::Internal { what } => clip(what),
            ExecuteError::Deadline { .. }
            | ExecuteError::Cancelled
            | ExecuteError::KernelMissing(_)
            | ExecuteError::Memory { .. } => {}
        }
        self
    }
}

fn clip(text: &mut String) {
    if text.len() > ERROR_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
        text.push_str(" ...");
    }
}

impl From<OutOfMemory> for ExecuteError {
    fn from(error: OutOfMemory) -> ExecuteError {
        ExecuteError::Memory { bytes: error.bytes }
    }
}

/// Where events go. Called on a thread of the executor's; it must not block.
pub type EventSink = Box<dyn Fn(Event) + Send + Sync>;

/// Something that computes blocks.
pub trait Executor: Send {
    /// Its name as results report it: `cpu cranelift`, `cpu interpreter`, `gpu vulkan ...`.
    fn name(&self) -> &str;

    /// What kernels may need and it has.
    fn offers(&self) -> Requirements;

    /// How many tasks run at once.
    fn slots(&self) -> usize;

    /// Whether work can still end well.
    ///
    /// # Errors
    /// [`ExecuteError::DeviceLost`] once the device is lost, and then for ever.
    fn check(&self) -> Result<(), ExecuteError> {
        Ok(())
    }

    /// Makes a kernel known to stages prepared from now on.
    fn add_kernel(&mut self, kernel: Arc<TypedKernel>);

    /// Whether nothing has to be compiled for a stage: then to prepare it takes no time to speak of.
    fn is_ready_for(&self, _stage: &Stage) -> bool {
        false
    }

    /// Makes ready for a stage whose kernels were all added. If it cannot be, its tasks say why.
    fn prepare(&mut self, stage: Arc<Stage>);

    /// Starts or queues one block. Its event comes to the sink that the executor was made with.
    fn submit(&mut self, task: Task);

    /// Stops what runs and drops what is queued of an array; their events say `Cancelled`. Forgets its stage.
    fn cancel(&mut self, array: ArrayId);
}
