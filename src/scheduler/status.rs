//! What the scheduler tells of itself to whoever asks.

use gridloom_worker::ids::WorkerId;
use gridloom_worker::wire::Register;
use serde::{Deserialize, Serialize};

use super::Scheduler;

/// Everyone who is there, and how much there is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// By id.
    pub workers: Vec<WorkerStatus>,
    /// Clients that are connected, or gone for so short a time that their results are kept.
    pub clients: u64,
    /// Jobs that have not ended.
    pub jobs: u64,
    /// Arrays that are being computed or kept.
    pub arrays: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Who.
    pub worker: WorkerId,
    /// What it said of itself.
    pub register: Register,
    /// Whether it takes work, and is not about to end.
    pub is_working: bool,
    /// Blocks that it holds.
    pub blocks_held: u64,
    /// Blocks that it was handed and that are not computed yet.
    pub blocks_outstanding: u64,
}

impl Scheduler {
    /// How things stand.
    pub fn status(&self) -> Status {
        let workers = self.workers.iter().map(|(&worker, known)| WorkerStatus {
            worker,
            register: known.register.clone(),
            is_working: known.is_working(),
            blocks_held: self.blocks_held(worker),
            blocks_outstanding: known.outstanding_blocks(),
        });
        Status {
            workers: workers.collect(),
            clients: self.clients.len() as u64,
            jobs: self.jobs.values().filter(|job| !job.ended).count() as u64,
            arrays: self.arrays.len() as u64,
        }
    }

    fn blocks_held(&self, worker: WorkerId) -> u64 {
        self.arrays.values().filter_map(|array| Some(array.held().get(&worker)?.count())).sum()
    }
}
