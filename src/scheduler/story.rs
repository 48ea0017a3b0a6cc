//! What happened to a block: a bounded memory of the last events, for errors and for people.

use std::collections::VecDeque;
use std::time::Duration;

use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
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
    /// Its client has it.
    Taken,
    /// Needed no more.
    Freed,
}

/// The state that a block is in (the diagram is in `array`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Wanted; an input is missing.
    Waiting,
    /// Wanted; every input is held by somebody.
    Ready,
    /// Handed to a worker.
    Dispensed,
    /// Computed, and held.
    Held,
    /// Not needed: not yet, or not any more.
    Spent,
}

/// How much is remembered in all: what a person may want to read, in less than a megabyte.
const CHAPTERS_MAX: usize = 8192;

/// The last things that happened.
#[derive(Debug, Default)]
pub(super) struct Story {
    chapters: VecDeque<Chapter>,
}

impl Story {
    pub(super) fn note(&mut self, chapter: Chapter) {
        if self.chapters.len() == CHAPTERS_MAX {
            self.chapters.pop_front();
        }
        self.chapters.push_back(chapter);
    }

    pub(super) fn of(&self, block: BlockId) -> Vec<Chapter> {
        let about = |chapter: &&Chapter| chapter.array == block.array && chapter.blocks.contains(block.index);
        self.chapters.iter().filter(about).cloned().collect()
    }
}
