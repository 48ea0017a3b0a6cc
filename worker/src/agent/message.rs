//! What goes into an [`Agent`](super::Agent) and what comes out: closed enums of plain data.
//!
//! `B` is one field of a block, or a part cut from one: a [`Block`](crate::block::Block) in a worker, a set of ids in
//! the simulation. The agent moves it and counts its bytes, nothing else.

use std::sync::Arc;
use std::time::Duration;

use crate::executor::{ExecuteError, TaskToken};
use crate::ids::{ArrayId, WorkerId};
use crate::shape::Region;
use crate::stage::Stage;
use crate::store::Part;
use crate::wire::{FetchError, FromWorker, KernelBytes, Parcel, ToWorker};

/// Names one request of a peer or client to the shell that must answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyTo(pub u64);

/// Names one of the agent's own fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// What an agent is told.
#[derive(Clone, Debug)]
pub enum Event<B> {
    /// The scheduler speaks.
    Scheduler(ToWorker),
    /// Somebody wants blocks. Answered by exactly one [`Outward::Reply`].
    Fetch {
        /// Who.
        from: ReplyTo,
        /// Which blocks.
        parcel: Parcel,
        /// Which field.
        field: u32,
        /// Which part of each; `None` for all.
        region: Option<Region>,
    },
    /// A client brings blocks. Answered by exactly one [`Outward::Reply`].
    Put {
        /// Who.
        from: ReplyTo,
        /// Which blocks.
        parcel: Parcel,
        /// Of each block, one per field.
        blocks: Vec<Vec<B>>,
    },
    /// A reply that carried data has left (or failed to): the shell is done with it.
    Replied {
        /// Which.
        to: ReplyTo,
    },
    /// A fetch has ended. Exactly one for every [`Outward::Fetch`].
    Fetched {
        /// Which.
        fetch: FetchId,
        /// Of each block the part asked for, or `None` where it is not held; or why nobody has answered.
        result: Result<Vec<Option<Part<B>>>, FetchError>,
    },
    /// A task has ended. Exactly one for every [`Action::Start`], also after [`Action::Cancel`].
    Finished {
        /// Which.
        token: TaskToken,
        /// One per field, or why not.
        result: Result<Vec<B>, ExecuteError>,
        /// How long a slot was busy with it.
        busy: Duration,
    },
    /// The process is asked to end (SIGTERM): hand over what is held, then close.
    Leave,
    /// The scheduler cannot be reached: drop everything. A new registration starts a new agent.
    SchedulerGone,
    /// Time has passed: [`Agent::next_timeout`](super::Agent::next_timeout) is due.
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Action<B> {
    /// Carry something out of the worker.
    Out(Outward<B>),
    /// Give a kernel to the executor.
    Kernel(KernelBytes),
    /// Make the executor ready for a stage; its kernels came before.
    Prepare {
        /// Which.
        stage: Arc<Stage>,
    },
    /// Compute a block.
    Start(Start<B>),
    /// Stop and forget an array's tasks; their [`Event::Finished`] still come.
    Cancel {
        /// Whose.
        array: ArrayId,
    },
}

/// What leaves a worker.
#[derive(Clone, Debug)]
pub enum Outward<B> {
    /// Tell the scheduler.
    Send(FromWorker),
    /// Remember where a peer is.
    Peer {
        /// Who.
        worker: WorkerId,
        /// Where.
        address: String,
    },
    /// A peer is gone: end what is asked of it.
    PeerGone {
        /// Who.
        worker: WorkerId,
    },
    /// Ask a peer for blocks. The shell sees to it that every fetch ends: a connection lost or too long silent is
    /// [`FetchError::Unreachable`].
    Fetch {
        /// Comes back with the result.
        fetch: FetchId,
        /// Whom.
        holder: WorkerId,
        /// For what.
        parcel: Parcel,
        /// Which field.
        field: u32,
        /// Which part of each; `None` for all.
        region: Option<Region>,
    },
    /// Answer a request.
    Reply {
        /// Whose.
        to: ReplyTo,
        /// What.
        answer: Answer<B>,
    },
    /// All is dropped; end.
    Close,
}

/// One block to compute, with all it needs.
#[derive(Clone, Debug)]
pub struct Start<B> {
    /// Comes back with [`Event::Finished`].
    pub token: TaskToken,
    /// The array whose stage was prepared.
    pub array: ArrayId,
    /// Which block, in output order.
    pub block: u64,
    /// One per read of [`Stage::reads`], in that order.
    pub operands: Vec<Part<B>>,
}

/// How a request ends.
#[derive(Clone, Debug)]
pub enum Answer<B> {
    /// Of each block the field and the part asked for, or `None` where it is not held. The shell cuts it if it must
    /// travel, and says [`Event::Replied`].
    Data(Vec<Option<Part<B>>>),
    /// The blocks are kept.
    Stored,
    /// There is no memory for the blocks: none is kept.
    Refused {
        /// What they take.
        needs: u64,
        /// What could be had.
        has: u64,
    },
}
