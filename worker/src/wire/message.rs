//! What the scheduler and a worker say to each other. Ids and sizes only: no block travels this way but for a job's
//! result of one [small](SmallBlock) one, which the scheduler passes on with the word that it is there and does not keep.
//!
//! Both directions are ordered: what was said first is heard first. That is all the protocol relies on; it does not
//! rely on any order between different workers.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::block::SmallBlock;
use crate::executor::ExecuteError;
use crate::ids::{ArrayId, BlockId, ClientId, WorkerId};
use crate::intervals::Interval;
use crate::kernel::Requirements;
use crate::stage::Stage;
use crate::wire::plan::KernelBytes;

/// What computes: devices of one class give the same bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeviceClass {
    /// Any CPU.
    Cpu,
    /// GPUs of one make, driver and features, which the text names.
    Gpu(String),
}

/// The first thing a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// What people call it; empty inside one process. Nothing hangs on it. It may be any text, and is shown escaped.
    pub name: String,
    /// Tasks it runs at once; at least 1.
    pub slots: u32,
    /// Its byte ledger's limit: what all blocks and work in flight may take.
    pub memory_bytes: u64,
    /// What computes there, as results name it.
    pub executor: String,
    /// What its bits depend on.
    pub class: DeviceClass,
    /// Whether it is a GPU that computes on a CPU: right, and slow.
    pub is_software: bool,
    /// What kernels may need and it has.
    pub offers: Requirements,
    /// The number of its process on its machine. Nothing hangs on it.
    pub process: u32,
    /// Where its peers reach it; empty inside one process.
    pub address: String,
    /// What it expects to fetch from a peer, in bytes per second. A hint for placement.
    pub fetch_bytes_per_second: u64,
}

/// The longest name of a worker, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// The longest of the other texts that a worker says of itself: of makes, drivers and hosts.
const REGISTER_TEXT_BYTES_MAX: usize = 1024;

impl Register {
    /// Whether its texts are short enough to be told to everyone, again and again.
    pub fn is_short(&self) -> bool {
        let class = match &self.class {
            DeviceClass::Cpu => "",
            DeviceClass::Gpu(class) => class,
        };
        let others = [&self.executor, &self.address, class];
        self.name.len() <= NAME_BYTES_MAX && others.iter().all(|text| text.len() <= REGISTER_TEXT_BYTES_MAX)
    }

    /// A worker on the CPU, in the process of its peers.
    pub fn of_cpu(executor: &str, slots: u32, memory_bytes: u64) -> Register {
        Register {
            name: String::new(),
            slots,
            memory_bytes,
            executor: executor.to_owned(),
            class: DeviceClass::Cpu,
            is_software: false,
            offers: Requirements::ALL,
            process: 0,
            address: String::new(),
            fetch_bytes_per_second: FETCH_BYTES_PER_SECOND,
        }
    }
}

/// What is expected of a fetch between workers of one process: a pointer changes hands. A hint for placement.
pub const FETCH_BYTES_PER_SECOND: u64 = 8 << 30;

/// All that a worker's connection carries to the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToScheduler {
    /// Comes first, and once.
    Register(Register),
    /// Everything after it.
    Worker(FromWorker),
    /// What its connections for blocks have seen so far; said at most once a second, while they see anything.
    Bulk(BulkTraffic),
}

/// What all connections for blocks of a process have seen together, those that have ended among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkTraffic {
    /// How many are open.
    pub connections: u32,
    /// The largest packet that is known to arrive whole on each of them; 0 if none is open.
    pub packet_bytes: u16,
    /// Bytes sent, headers and repetitions among them.
    pub bytes_sent: u64,
    /// Bytes received, likewise.
    pub bytes_received: u64,
    /// Of late.
    pub bytes_sent_per_second: u64,
    /// Of late.
    pub bytes_received_per_second: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that were sent and never acknowledged.
    pub packets_lost: u64,
}

/// From the scheduler to one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The answer to [`Register`]: who it is from now on.
    Welcome {
        /// Its id.
        worker: WorkerId,
    },
    /// Where a peer is reached. Comes before the first run that names it.
    Peer {
        /// The peer.
        worker: WorkerId,
        /// Its [`Register::address`].
        address: String,
    },
    /// A peer is gone: what is asked of it ends now.
    PeerGone {
        /// Who.
        worker: WorkerId,
    },
    /// A kernel. Comes once, before the first stage that names it.
    Kernel(KernelBytes),
    /// A stage. Comes once, before its first run.
    Stage {
        /// What to compute.
        stage: Arc<Stage>,
        /// How far from the sources it is: of what is queued, the deepest goes first.
        depth: u32,
        /// Whether its one block is a job's result: then, if it is small, it comes with the word that it is done.
        is_result: bool,
    },
    /// Blocks to compute.
    Run(Run),
    /// Blocks to fetch from a peer and keep, as a worker that leaves hands on what it alone holds.
    Keep {
        /// Whose.
        array: ArrayId,
        /// Which.
        blocks: Interval,
        /// Fields of each block.
        fields: u32,
        /// Bytes of the largest of them.
        bytes: u64,
        /// Who has them.
        holder: WorkerId,
    },
    /// Blocks that are needed no more.
    Free {
        /// Whose.
        array: ArrayId,
        /// Which. Those not held are passed over in silence.
        blocks: Vec<Interval>,
    },
    /// The array is gone: its stage, its blocks, its work.
    Forget {
        /// Which.
        array: ArrayId,
    },
    /// The client is gone: so are all its arrays, also those it put here itself.
    ForgetClient {
        /// Who.
        client: ClientId,
    },
    /// There is nothing more to do: drop everything and end.
    Close,
}

/// Blocks of one stage to compute, in order of index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The array whose stage came before.
    pub array: ArrayId,
    /// Which blocks.
    pub blocks: Interval,
    /// One more than the times that blocks of this array were given back or lost so far; for errors and stories.
    pub attempt: u32,
    /// What is to be free beside each block, so that the stages that read and then free these blocks have room too:
    /// else they could fill a worker with what nobody can read.
    pub bytes_spare: u64,
    /// Where the inputs are that this worker does not hold.
    pub inputs: Vec<Whereabouts>,
}

/// Blocks and who holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Whose.
    pub array: ArrayId,
    /// Which.
    pub blocks: Interval,
    /// Any of these will do; tried in this order.
    pub holders: Vec<WorkerId>,
}

/// From a worker to the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Blocks are computed (or kept) and held here.
    Done {
        /// Whose.
        array: ArrayId,
        /// Which; many completions in one message.
        blocks: Vec<Interval>,
        /// What they take in all.
        bytes: u64,
        /// How long slots were busy with them in all.
        busy: Duration,
        /// The one block itself, where that is a small result.
        result: Option<SmallBlock>,
    },
    /// A block could not be computed.
    Failed {
        /// Whose.
        array: ArrayId,
        /// Which.
        block: u64,
        /// Of which run.
        attempt: u32,
        /// Why.
        error: ExecuteError,
    },
    /// There is no memory for these; they are given back.
    Refused {
        /// Whose.
        array: ArrayId,
        /// Which.
        blocks: Vec<Interval>,
        /// What one of them needs, with what is to be free beside it.
        needs: u64,
        /// What could be had: the limit less what is held.
        has: u64,
    },
    /// An input could not be had; the block that needs it is given back.
    FetchFailed {
        /// What was to be computed.
        block: BlockId,
        /// What it needs.
        input: BlockId,
        /// The last holder that was tried; `None` if none was named and it is not held here.
        holder: Option<WorkerId>,
        /// What went wrong there.
        error: FetchError,
    },
    /// It is to end: no new work, please, and say [`ToWorker::Close`] when what it holds is safe.
    Leaving,
}

/// Why a block could not be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FetchError {
    /// The holder says that it has no such block.
    #[error("it is not held there")]
    Missing,
    /// The holder did not answer.
    #[error("the holder cannot be reached")]
    Unreachable,
}
