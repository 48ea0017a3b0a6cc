//! What happened to a block: a bounded memory of the last events, for errors and for people.

use std::time::Duration;

use gridloom_worker::ids::{ArrayId, WorkerId};
use gridloom_worker::intervals::Interval;
use serde::{Deserialize, Serialize};

/// One thing that happened to some blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chapter {
    /// When, since the scheduler's epoch.
    pub at: Duration,
    /// Whose.
    pub array: ArrayId,
    /// Which.
    pub blocks: Interval,
    /// What.
    pub what: Happening,
}

/// What can happen to blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// Handed out.
    Dispensed {
        /// To whom.
        worker: WorkerId,
    },
    /// Handed out with nothing beside it.
    DispensedAlone {
        /// To whom.
        worker: WorkerId,
    },
    /// Computed.
    Done {
        /// Where.
        worker: WorkerId,
    },
    /// Failed there.
    Failed {
        /// Where.
        worker: WorkerId,
    },
    /// No memory there.
    Refused {
        /// Where.
        worker: WorkerId,
    },
    /// An input could not be fetched there.
    FetchFailed {
        /// Where.
        worker: WorkerId,
    },
    /// In flight when that worker died.
    Died {
        /// Who.
        worker: WorkerId,
    },
    /// The last copy went with that worker.
    Lost {
        /// Who.
        worker: WorkerId,
    },
    /// To be computed again, for what needs it.
    Derived,
    /// Needed no more.
    Freed,
}
